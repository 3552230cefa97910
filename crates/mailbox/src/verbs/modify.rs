//! Flags change, mails go: one log entry each, however many places it concerns.

use std::sync::Arc;

use base::{AccountId, MailboxId, ModSeq};
use store::{Result, Tx, params};

use super::arrive::{log, tally};
use super::{NoRoom, keyword_bits, next_modseq};
use crate::load::{self, MailboxRow};
use crate::log::LogEntry;
use crate::{Change, Entry, FlagOp, Flags, Index, Refusal, UidSet, What, schema};

/// A STORE (RFC 9051 §6.4.6).
#[derive(Clone, Debug)]
pub struct StoreRequest {
    /// Which places; those that are gone are passed over.
    pub uids: UidSet,
    /// Add, remove or replace.
    pub op: FlagOp,
    /// Flags of the system.
    pub flags: Flags,
    /// Further flags, valid keywords.
    pub keywords: Vec<String>,
    /// UNCHANGEDSINCE (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
}

impl StoreRequest {
    /// False where UNCHANGEDSINCE leaves the place alone.
    fn concerns(&self, entry: &Entry) -> bool {
        self.unchanged_since.is_none_or(|since| entry.modseq <= since)
    }
}

/// What a STORE did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Places whose flags are now different, with the MODSEQ of this change.
    pub changed: UidSet,
    /// Places passed over because they changed since (MODIFIED).
    pub modified: UidSet,
}

/// Changes flags. `known` is the caller's index of the mailbox; it need not be current.
///
/// # Errors
/// Refused: no such mailbox, too many keywords.
pub fn store_flags(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    known: &Arc<Index>,
    request: &StoreRequest,
) -> Result<Stored> {
    let modseq = next_modseq(tx, account)?;
    let (row, index) = load::current(tx, account, mailbox, known)?.ok_or(Refusal::NoMailbox)?;
    let (bits, keywords) = match request.op {
        // Taking away a keyword nobody has does not make it known.
        FlagOp::Remove => {
            let known = request.keywords.iter().filter_map(|k| index.keywords.get(k));
            (known.fold(Flags::default(), Flags::with), None)
        }
        // Nor does giving one to nobody.
        FlagOp::Add | FlagOp::Replace if !index.within(&request.uids).any(|(_, e)| request.concerns(e)) => {
            (Flags::default(), None)
        }
        FlagOp::Add | FlagOp::Replace => keyword_bits(tx, account, mailbox, &request.keywords, NoRoom::Refuse)?,
    };
    let (flags, op) = (request.flags.with(bits), request.op);
    let (mut out, mut unseen, mut deleted) = (Stored::default(), 0, 0);
    for (_, e) in index.within(&request.uids) {
        if !request.concerns(e) {
            out.modified.push(e.uid.0);
            continue;
        }
        let now = op.apply(e.flags, flags);
        if now != e.flags {
            let (was, is) = (tally(e.flags), tally(now));
            unseen += is.0 - was.0;
            deleted += is.1 - was.1;
            out.changed.push(e.uid.0);
        }
    }
    if out.changed.is_empty() && keywords.is_none() {
        return Ok(out);
    }
    tx.execute(&schema::COUNT, params![account, mailbox, modseq, 0, unseen, deleted, 0])?;
    let entry = LogEntry::Flags { uids: out.changed.clone(), op, flags };
    log(tx, account, mailbox, modseq, &entry)?;
    let what = What::Flags { uids: out.changed.clone(), op, flags };
    tx.publish(Arc::new(Change { account, mailbox, before: row.modseq, after: modseq, keywords, what }));
    Ok(out)
}

/// Takes away the places with `\Deleted` (RFC 9051 §6.4.3), of `only` where given (UID EXPUNGE); with `all`, flag or not
/// (POP3's QUIT). Gives what went.
///
/// # Errors
/// Refused: no such mailbox.
pub fn expunge(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    known: &Arc<Index>,
    only: Option<&UidSet>,
    all: bool,
) -> Result<UidSet> {
    let modseq = next_modseq(tx, account)?;
    let (row, index) = load::current(tx, account, mailbox, known)?.ok_or(Refusal::NoMailbox)?;
    let everything = UidSet::from_ranges([(1, u32::MAX)]);
    let places = index.within(only.unwrap_or(&everything));
    let uids: UidSet = places.filter(|(_, e)| all || e.flags.has(Flags::DELETED)).map(|(_, e)| e.uid.0).collect();
    remove(tx, account, mailbox, &row, &index, modseq, uids.clone())?;
    Ok(uids)
}

/// Takes `uids` (which are there) away.
pub(super) fn remove(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    row: &MailboxRow,
    index: &Index,
    modseq: ModSeq,
    uids: UidSet,
) -> Result<()> {
    if uids.is_empty() {
        return Ok(());
    }
    let (mut messages, mut unseen, mut deleted, mut octets) = (0, 0, 0, 0);
    for (_, e) in index.within(&uids) {
        let (u, d) = tally(e.flags);
        messages += 1;
        unseen += u;
        deleted += d;
        octets += i64::from(e.octets);
    }
    tx.execute(&schema::COUNT, params![account, mailbox, modseq, -messages, -unseen, -deleted, -octets])?;
    tx.execute(&schema::CHANGE_USE, params![account, -octets])?;
    log(tx, account, mailbox, modseq, &LogEntry::Expunged { uids: uids.clone() })?;
    let (before, what) = (row.modseq, What::Expunged(uids));
    tx.publish(Arc::new(Change { account, mailbox, before, after: modseq, keywords: None, what }));
    Ok(())
}
