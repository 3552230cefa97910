//! From rows to an index: all of it, or what an older index lacks.

use std::sync::Arc;

use base::{AccountId, EmailId, MailboxId, ModSeq, Uid, UidValidity};
use store::{Error, Result, Row, Tx, params};

use crate::log::{LogEntry, take};
use crate::{Entry, Flags, Index, Keywords, schema};

/// A mailbox's row.
#[derive(Clone, Debug)]
pub(crate) struct MailboxRow {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: u32,
    pub(crate) modseq: ModSeq,
    /// Flag entries up to here are in the chunks.
    pub(crate) folded: ModSeq,
    /// Places expunged up to here are deleted rows.
    pub(crate) reaped: ModSeq,
    /// Expunges up to here are forgotten.
    pub(crate) floor: ModSeq,
    pub(crate) messages: i64,
    pub(crate) unseen: i64,
    pub(crate) deleted: i64,
    pub(crate) octets: i64,
    pub(crate) name: String,
    pub(crate) special_use: Option<String>,
}

impl MailboxRow {
    pub(crate) fn from(r: &Row<'_>) -> Result<Self> {
        let modseq = |i| Ok::<_, Error>(ModSeq(r.int(i)? as u64));
        Ok(MailboxRow {
            uid_validity: UidValidity(r.int(0)? as u32),
            uid_next: r.int(1)? as u32,
            modseq: modseq(2)?,
            folded: modseq(3)?,
            reaped: modseq(4)?,
            floor: modseq(5)?,
            messages: r.int(6)?,
            unseen: r.int(7)?,
            deleted: r.int(8)?,
            octets: r.int(9)?,
            name: r.text(10)?.to_owned(),
            special_use: Some(r.text(11)?).filter(|s| !s.is_empty()).map(str::to_owned),
        })
    }

    pub(crate) fn read(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId) -> Result<Option<Self>> {
        tx.row(&schema::MAILBOX_ROW, params![account, mailbox], Self::from)
    }
}

pub(crate) fn keywords(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId) -> Result<Keywords> {
    let mut all = Keywords::default();
    tx.rows(&schema::KEYWORDS, params![account, mailbox], |r| {
        all.add(r.text(0)?);
        Ok(())
    })?;
    Ok(all)
}

/// The index as this transaction sees the mailbox: `known`, where that is current, else brought up to date or read anew.
/// `None` when there is no such mailbox.
pub(crate) fn current(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    known: &Arc<Index>,
) -> Result<Option<(MailboxRow, Arc<Index>)>> {
    let Some(row) = MailboxRow::read(tx, account, mailbox)? else { return Ok(None) };
    if known.uid_validity == row.uid_validity && known.modseq == row.modseq {
        return Ok(Some((row, known.clone())));
    }
    // What was folded away cannot be replayed; a higher MODSEQ than the row's means a restored store.
    let usable = known.uid_validity == row.uid_validity
        && known.modseq >= row.folded.max(row.floor)
        && known.modseq < row.modseq;
    let mut index = if usable { Index::clone(known) } else { Index::default() };
    // From the UIDs that were given since: below them are rows of expunged places, whose log entries are behind `known`.
    let (from_uid, after) = if usable { (index.uid_next, index.modseq) } else { (0, row.reaped.min(row.folded)) };
    places(tx, account, mailbox, from_uid, &mut index)?;
    if !usable {
        chunks(tx, account, mailbox, &mut index)?;
    }
    tx.rows(&schema::LOG_AFTER, params![account, mailbox, after], |r| {
        let modseq = ModSeq(r.int(0)? as u64);
        match LogEntry::decode(r.bytes(1)?).ok_or_else(|| corrupt(account, mailbox, "a log entry"))? {
            LogEntry::Expunged { uids } => index.remove(&uids),
            LogEntry::Flags { uids, op, flags } if usable || modseq > row.folded => {
                index.set_flags(&uids, op, flags, modseq);
            }
            LogEntry::Flags { .. } => {}
        }
        Ok(())
    })?;
    index.keywords = keywords(tx, account, mailbox)?;
    index.uid_validity = row.uid_validity;
    index.uid_next = row.uid_next;
    index.modseq = row.modseq;
    Ok(Some((row, Arc::new(index))))
}

fn places(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, from: u32, index: &mut Index) -> Result<()> {
    tx.rows(&schema::PLACES_FROM, params![account, mailbox, from], |r| {
        index.push(Entry {
            uid: Uid(r.int(0)? as u32),
            email: EmailId(r.int(1)?),
            modseq: ModSeq(r.int(2)? as u64),
            flags: Flags(r.int(3)? as u64),
            octets: r.int(4)? as u32,
        });
        Ok(())
    })
}

fn chunks(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, index: &mut Index) -> Result<()> {
    tx.rows(&schema::CHUNKS, params![account, mailbox], |r| {
        let (mut data, mut uid) = (r.bytes(0)?, 0u64);
        while !data.is_empty() {
            let (Some(step), Some(flags), Some(modseq)) = (take(&mut data), take(&mut data), take(&mut data)) else {
                return Err(corrupt(account, mailbox, "a chunk"));
            };
            uid += step;
            index.overwrite(uid as u32, Flags(flags), ModSeq(modseq));
        }
        Ok(())
    })
}

fn corrupt(account: AccountId, mailbox: MailboxId, what: &str) -> Error {
    Error::Corrupt(format!("{what} of mailbox {mailbox} of account {account} cannot be read").into())
}
