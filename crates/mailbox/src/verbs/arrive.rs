//! Mails come into a mailbox: delivered, appended, copied, moved.

use std::sync::Arc;

use base::{AccountId, BlobId, EmailId, MailboxId, ModSeq, Timestamp, Uid, UidValidity};
use store::{Result, Tx, params};

use super::{NoRoom, email_key, keyword_bits, next_modseq};
use crate::load;
use crate::log::LogEntry;
use crate::verbs::modify;
use crate::{Change, Entry, Flags, Index, Keywords, Refusal, UidSet, What, schema};

/// A mail to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewEmail<'a> {
    /// Its bytes as received.
    pub blob: BlobId,
    /// Their number, together with the prefix's.
    pub octets: u32,
    /// INTERNALDATE
    pub received: Timestamp,
    /// Header fields of ours that stand before it: Return-Path, Delivered-To, Received.
    pub prefix: &'a [u8],
    /// The message index, as `mime` keeps it.
    pub index: &'a [u8],
    /// Flags of the system.
    pub flags: Flags,
    /// Further flags.
    pub keywords: &'a [String],
}

/// Where a mail arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// For APPENDUID (RFC 4315).
    pub uid_validity: UidValidity,
    /// Its number in the mailbox.
    pub uid: Uid,
    /// Its number in the account.
    pub email: EmailId,
}

/// What counters change by when a place with these flags comes (+1) or goes (-1).
pub(super) fn tally(flags: Flags) -> (i64, i64) {
    (i64::from(!flags.has(Flags::SEEN)), i64::from(flags.has(Flags::DELETED)))
}

/// Stores a mail and places it in a mailbox.
///
/// # Errors
/// Refused: 452 4.2.2 over quota; 550 5.1.1 no such account or mailbox.
pub fn deliver(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    new: &NewEmail<'_>,
    now: Timestamp,
) -> Result<Arrival> {
    let octets = i64::from(new.octets);
    let (modseq, email, used, quota) = tx
        .row(&schema::NEXT_EMAIL, params![account, 1, octets], |r| {
            Ok((ModSeq(r.int(0)? as u64), EmailId(r.int(1)?), r.int(2)?, r.int(3)?))
        })?
        .ok_or(Refusal::NoAccount)?;
    if quota > 0 && used > quota {
        return Err(Refusal::OverQuota.into());
    }
    let (bits, keywords) = keyword_bits(tx, account, mailbox, new.keywords, NoRoom::Drop)?;
    let flags = new.flags.with(bits);
    let (unseen, deleted) = tally(flags);
    let arrived = arrive(tx, account, mailbox, modseq, 1, (unseen, deleted, octets))?;
    let (before, uid, uid_validity) = arrived.ok_or(Refusal::NoMailbox)?;
    let row = params![email_key(account, email), new.blob, octets, new.received, new.prefix, new.index];
    tx.execute(&schema::INSERT_EMAIL, row)?;
    let entry = Entry { uid, octets: new.octets, email, flags, modseq };
    place(tx, account, mailbox, &entry, now)?;
    let what = What::Arrived(vec![entry]);
    tx.publish(Arc::new(Change { account, mailbox, before, after: modseq, keywords, what }));
    Ok(Arrival { uid_validity, uid, email })
}

/// Counts `n` arrivals in: gives the MODSEQ before, the first UID, and the UIDVALIDITY; `None` when there is no such
/// mailbox.
fn arrive(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    modseq: ModSeq,
    n: i64,
    (unseen, deleted, octets): (i64, i64, i64),
) -> Result<Option<(ModSeq, Uid, UidValidity)>> {
    let found = tx.row(&schema::ARRIVE, params![account, mailbox, modseq, n, unseen, deleted, octets], |r| {
        let uid = u32::try_from(r.int(1)?).ok().filter(|uid| u64::from(*uid) + n as u64 <= u64::from(u32::MAX));
        Ok((ModSeq(r.int(0)? as u64), uid, UidValidity(r.int(2)? as u32)))
    })?;
    let Some((before, uid, validity)) = found else { return Ok(None) };
    Ok(Some((before, Uid(uid.ok_or(Refusal::NoUidsLeft)?), validity)))
}

fn place(tx: &mut Tx<'_>, account: AccountId, mailbox: MailboxId, e: &Entry, now: Timestamp) -> Result<()> {
    let (flags, octets) = (e.flags.0 as i64, i64::from(e.octets));
    tx.execute(&schema::INSERT_PLACE, params![account, mailbox, e.uid, e.email, e.modseq, flags, octets, now]).map(drop)
}

/// What COPYUID tells (RFC 4315): the pairs in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the destination.
    pub uid_validity: UidValidity,
    /// UIDs in the source, rising: those that were still there.
    pub from: Vec<u32>,
    /// UIDs in the destination, one for each.
    pub to: Vec<u32>,
}

/// Copies places into another mailbox (or the same one) with their flags. `known` is the caller's index of the source.
///
/// # Errors
/// Refused: no such mailbox, no such destination, over quota.
pub fn copy(
    tx: &mut Tx<'_>,
    account: AccountId,
    from: (MailboxId, &Arc<Index>),
    to: MailboxId,
    uids: &UidSet,
    now: Timestamp,
) -> Result<Copied> {
    let copied = copy_places(tx, account, from, to, uids, now)?;
    let (used, quota) = super::room(tx, account)?;
    if quota > 0 && used > quota && !copied.from.is_empty() {
        return Err(Refusal::OverQuota.into());
    }
    Ok(copied)
}

/// MOVE (RFC 6851): copies, and takes the originals away. No quota is in its way, as nothing grows: it is how people make
/// room.
///
/// # Errors
/// Refused: no such mailbox, no such destination.
pub fn move_places(
    tx: &mut Tx<'_>,
    account: AccountId,
    (from, known): (MailboxId, &Arc<Index>),
    to: MailboxId,
    uids: &UidSet,
    now: Timestamp,
) -> Result<Copied> {
    let copied = copy_places(tx, account, (from, known), to, uids, now)?;
    let modseq = next_modseq(tx, account)?;
    let (row, index) = load::current(tx, account, from, known)?.ok_or(Refusal::NoMailbox)?;
    let gone = copied.from.iter().copied().collect();
    modify::remove(tx, account, from, &row, &index, modseq, gone)?;
    Ok(copied)
}

fn copy_places(
    tx: &mut Tx<'_>,
    account: AccountId,
    (from, known): (MailboxId, &Arc<Index>),
    to: MailboxId,
    uids: &UidSet,
    now: Timestamp,
) -> Result<Copied> {
    let modseq = next_modseq(tx, account)?;
    let (_, source) = load::current(tx, account, from, known)?.ok_or(Refusal::NoMailbox)?;
    let originals: Vec<Entry> = source.within(uids).map(|(_, e)| *e).collect();
    if originals.is_empty() {
        let row = load::MailboxRow::read(tx, account, to)?.ok_or(Refusal::NoDestination)?;
        return Ok(Copied { uid_validity: row.uid_validity, ..Copied::default() });
    }
    let octets = originals.iter().map(|e| i64::from(e.octets)).sum();
    tx.execute(&schema::CHANGE_USE, params![account, octets])?;
    let (translate, keywords) = translation(tx, account, (from, &source), to, &originals)?;
    let mut entries: Vec<Entry> = originals.iter().map(|e| Entry { flags: translate(e.flags), modseq, ..*e }).collect();
    let (unseen, deleted) = entries.iter().map(|e| tally(e.flags)).fold((0, 0), |(u, d), (eu, ed)| (u + eu, d + ed));
    let n = entries.len() as i64;
    let arrived = arrive(tx, account, to, modseq, n, (unseen, deleted, octets))?;
    let (before, first, uid_validity) = arrived.ok_or(Refusal::NoDestination)?;
    for (e, uid) in entries.iter_mut().zip(first.0..) {
        e.uid = Uid(uid);
        place(tx, account, to, e, now)?;
        tx.execute(&schema::ADD_COPY, params![email_key(account, e.email)])?;
    }
    let copied = Copied {
        uid_validity,
        from: originals.iter().map(|e| e.uid.0).collect(),
        to: entries.iter().map(|e| e.uid.0).collect(),
    };
    let what = What::Arrived(entries);
    tx.publish(Arc::new(Change { account, mailbox: to, before, after: modseq, keywords, what }));
    Ok(copied)
}

/// How flags of one mailbox are written in another: keywords have their own bits in each.
fn translation(
    tx: &mut Tx<'_>,
    account: AccountId,
    (from, source): (MailboxId, &Index),
    to: MailboxId,
    entries: &[Entry],
) -> Result<(impl Fn(Flags) -> Flags + use<>, Option<Keywords>)> {
    let used = entries.iter().fold(Flags::default(), |all, e| all.with(e.flags));
    let names: Vec<String> = source.keywords.of(used).map(str::to_owned).collect();
    let (mut pairs, mut grown) = (Vec::new(), None);
    if from != to {
        grown = keyword_bits(tx, account, to, &names, NoRoom::Drop)?.1;
        let there = match &grown {
            Some(k) => k.clone(),
            None => load::keywords(tx, account, to)?,
        };
        for name in &names {
            pairs.extend(source.keywords.get(name).zip(there.get(name)));
        }
    }
    let same = from == to;
    let translate = move |flags: Flags| {
        if same {
            return flags;
        }
        let system = Flags(flags.0 & 0xff);
        pairs.iter().filter(|(here, _)| flags.has(*here)).fold(system, |all, (_, there)| all.with(*there))
    };
    Ok((translate, grown))
}

/// Writes a log entry.
pub(super) fn log(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    modseq: ModSeq,
    entry: &LogEntry,
) -> Result<()> {
    tx.execute(&schema::INSERT_LOG, params![account, mailbox, modseq, entry.kind(), &entry.encode()[..]]).map(drop)
}
