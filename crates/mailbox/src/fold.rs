//! Housekeeping of the log: flag entries are folded into chunks, rows of expunged places and deleted mailboxes are taken
//! away. Bulk work, in pieces; nothing here changes what a client sees.

use std::sync::Arc;

use base::{AccountId, EmailId, MailboxId, ModSeq, Uid};
use store::{Result, Tx, params};

use crate::load::{self, MailboxRow};
use crate::log::{LogEntry, put};
use crate::verbs::email_key;
use crate::{Index, UidSet, schema};

/// UIDs a chunk spans.
const SPAN: u32 = 1024;
/// Rows taken away in one job.
const PIECE: i64 = 1000;
/// Expunge entries remembered for QRESYNC; when there are more, the older half is forgotten.
const TOMBSTONES: i64 = 2000;

/// Folds the flag entries of the log into chunks, where dirty.
pub(crate) fn fold(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, known: &Arc<Index>) -> Result<()> {
    tx.execute(&schema::LOCK_ACCOUNT, params![account])?;
    let Some((row, index)) = load::current(tx, account, mailbox, known)? else { return Ok(()) };
    let mut dirty = UidSet::new();
    tx.rows(&schema::LOG_AFTER, params![account, mailbox, row.folded], |r| {
        if let Some(LogEntry::Flags { uids, .. }) = LogEntry::decode(r.bytes(1)?) {
            dirty.union(&UidSet::from_ranges(uids.ranges().iter().map(|(a, b)| (a / SPAN, b / SPAN))));
        }
        Ok(())
    })?;
    for block in dirty.iter() {
        let first = block * SPAN;
        let (mut data, mut last) = (Vec::new(), 0);
        let span = UidSet::from_ranges([(first, first.saturating_add(SPAN - 1))]);
        for (_, e) in index.within(&span) {
            put(&mut data, u64::from(e.uid.0 - last));
            put(&mut data, e.flags.0);
            put(&mut data, e.modseq.0);
            last = e.uid.0;
        }
        tx.execute(&schema::PUT_CHUNK, params![account, mailbox, first, &data[..]])?;
    }
    if !dirty.is_empty() {
        tx.execute(&schema::SET_FOLDED, params![account, mailbox, row.modseq])?;
        tx.execute(&schema::DROP_FOLDED_LOG, params![account, mailbox, row.modseq])?;
    }
    forget(tx, account, mailbox, &row)
}

/// Forgets the older half of the tombstones when there are many; QRESYNC below the floor hears of all that is absent.
fn forget(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, row: &MailboxRow) -> Result<()> {
    let n = tx.one(&schema::COUNT_TOMBSTONES, params![account, mailbox], |r| r.int(0))?;
    if n <= TOMBSTONES {
        return Ok(());
    }
    let half = tx.row(&schema::NTH_TOMBSTONE, params![account, mailbox, n / 2], |r| Ok(ModSeq(r.int(0)? as u64)))?;
    // What is not reaped is still needed to read the mailbox, and so is what is not folded.
    let floor = half.unwrap_or_default().min(row.reaped).min(row.folded);
    if floor > row.floor {
        tx.execute(&schema::DROP_TOMBSTONES, params![account, mailbox, floor])?;
        tx.execute(&schema::SET_FLOOR, params![account, mailbox, floor])?;
    }
    Ok(())
}

/// Deletes rows of expunged places, and mails that stand nowhere any more. True: there is more to do.
pub(crate) fn reap(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId) -> Result<bool> {
    tx.execute(&schema::LOCK_ACCOUNT, params![account])?;
    let Some(row) = MailboxRow::read(tx, account, mailbox)? else { return Ok(false) };
    let entries = tx.list(&schema::LOG_AFTER, params![account, mailbox, row.reaped], |r| {
        Ok((ModSeq(r.int(0)? as u64), LogEntry::decode(r.bytes(1)?)))
    })?;
    let mut left = PIECE;
    for (modseq, entry) in entries {
        if let Some(LogEntry::Expunged { uids }) = entry {
            for (from, to) in uids.ranges() {
                left -= delete_places(tx, account, mailbox, (*from, *to), left)?;
                if left <= 0 {
                    return Ok(true);
                }
            }
            tx.execute(&schema::SET_REAPED, params![account, mailbox, modseq])?;
        }
    }
    Ok(false)
}

/// The next mailbox behind `after` with expunged places whose rows are still there.
pub(crate) fn next_unreaped(tx: &mut Tx<'_>, after: (AccountId, MailboxId)) -> Result<Option<(AccountId, MailboxId)>> {
    tx.row(&schema::NEXT_UNREAPED, params![after.0, after.1], |r| Ok((AccountId(r.int(0)?), MailboxId(r.int(1)?))))
}

/// Deletes up to `most` places of a range of UIDs; gives how many.
fn delete_places(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    (from, to): (u32, u32),
    most: i64,
) -> Result<i64> {
    let rows = tx.list(&schema::PLACE_EMAILS, params![account, mailbox, from, to, most], |r| {
        Ok((Uid(r.int(0)? as u32), EmailId(r.int(1)?)))
    })?;
    for (uid, email) in &rows {
        tx.execute(&schema::DELETE_PLACE, params![account, mailbox, *uid])?;
        let key = email_key(account, *email);
        match tx.row(&schema::COPY_GONE, params![key], |r| r.int(0))? {
            // It stood nowhere else.
            None => tx.execute(&schema::DELETE_EMAIL, params![key])?,
            Some(0) => tx.execute(&schema::NO_COPIES, params![key])?,
            Some(_) => 1,
        };
    }
    Ok(rows.len() as i64)
}

/// Takes away a piece of what a deleted mailbox left. True: there is more to do.
pub(crate) fn purge(tx: &mut Tx<'_>) -> Result<bool> {
    let next = tx.row(&schema::NEXT_ORPHAN, params![], |r| Ok((AccountId(r.int(0)?), MailboxId(r.int(1)?))))?;
    let Some((account, mailbox)) = next else { return Ok(false) };
    tx.execute(&schema::LOCK_ACCOUNT, params![account])?;
    if tx.execute(&schema::LOCK_ORPHAN, params![account, mailbox])? == 0 {
        return Ok(true);
    }
    if delete_places(tx, account, mailbox, (0, u32::MAX), PIECE)? < PIECE {
        for sql in [&schema::DROP_LOG, &schema::DROP_CHUNKS, &schema::DROP_KEYWORDS, &schema::ORPHAN_DONE] {
            tx.execute(sql, params![account, mailbox])?;
        }
    }
    Ok(true)
}
