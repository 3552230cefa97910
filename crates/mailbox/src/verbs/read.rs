//! Reading what never changes, and what went.

use base::{AccountId, BlobId, EmailId, MailboxId, ModSeq, Timestamp, Uid};
use store::{Error, Result, Tx, params};

use super::email_key;
use crate::load::MailboxRow;
use crate::log::LogEntry;
use crate::{Index, Refusal, UidSet, schema};

/// A stored mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailRow {
    /// Its bytes as received.
    pub blob: BlobId,
    /// Prefix and blob together.
    pub octets: u32,
    /// INTERNALDATE
    pub received: Timestamp,
    /// Our header fields before it.
    pub prefix: Vec<u8>,
}

/// The mail; `None` when it was expunged everywhere and reaped.
///
/// # Errors
/// As any statement.
pub fn email(tx: &mut Tx<'_>, account: AccountId, id: EmailId) -> Result<Option<EmailRow>> {
    tx.row(&schema::EMAIL_ROW, params![email_key(account, id)], |r| {
        Ok(EmailRow {
            blob: BlobId(r.int(0)?),
            octets: r.int(1)? as u32,
            received: Timestamp(r.int(2)?),
            prefix: r.bytes(3)?.to_vec(),
        })
    })
}

/// Hands the mail's index, as `mime` keeps it, to `take`; `None` when the mail is gone.
///
/// # Errors
/// As any statement.
pub fn cached<T>(
    tx: &mut Tx<'_>,
    account: AccountId,
    id: EmailId,
    take: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<Option<T>> {
    tx.row(&schema::CACHE_ROW, params![email_key(account, id)], |r| take(r.bytes(0)?))
}

/// When a mail came into this mailbox (RFC 8514 SAVEDATE).
///
/// # Errors
/// As any statement.
pub fn saved(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, uid: Uid) -> Result<Option<Timestamp>> {
    tx.row(&schema::PLACE_SAVED, params![account, mailbox, uid], |r| Ok(Timestamp(r.int(0)?)))
}

/// UIDs expunged after `since`, for VANISHED (EARLIER) (RFC 7162 §3.2.10). Below the floor of what is remembered: all
/// UIDs that are not there (§3.2.5.1), which covers those above the highest visible too (trap 9).
///
/// # Errors
/// Refused: no such mailbox.
pub fn vanished(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    index: &Index,
    since: ModSeq,
) -> Result<UidSet> {
    let row = MailboxRow::read(tx, account, mailbox)?.ok_or(Refusal::NoMailbox)?;
    if since < row.floor {
        let (mut gaps, mut next) = (Vec::new(), 1);
        for (_, e) in index.iter() {
            if e.uid.0 > next {
                gaps.push((next, e.uid.0 - 1));
            }
            next = e.uid.0 + 1;
        }
        if index.uid_next > next {
            gaps.push((next, index.uid_next - 1));
        }
        return Ok(UidSet::from_ranges(gaps));
    }
    let mut ranges = Vec::new();
    tx.rows(&schema::EXPUNGED_AFTER, params![account, mailbox, since], |r| {
        match LogEntry::decode(r.bytes(0)?) {
            Some(LogEntry::Expunged { uids }) => ranges.extend_from_slice(uids.ranges()),
            _ => return Err(Error::Corrupt(format!("an expunge of mailbox {mailbox} of account {account}").into())),
        }
        Ok(())
    })?;
    Ok(UidSet::from_ranges(ranges))
}
