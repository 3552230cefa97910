//! Suppressions: addresses that an organisation sends nothing to, by stream, with the reason and its evidence.
//!
//! They are applied at the last gate, when a delivery is claimed, so that no way of sending gets round them (trap 35): a
//! campaign, an application, a person's mail and a forward are all claimed. One that is added while deliveries stand in
//! line takes them out again ([`Event::Suppressed`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Address, OrganisationId, Stream, Timestamp};
use store::{Result, Row, Tx, params};

use crate::entry::{corrupt, opt_text};
use crate::node::{Told, tell};
use crate::{Delivery, Message, QueueId, schema};

/// Octets of what is noted beside a suppression.
const MAX_NOTE: usize = 500;
const DAY: i64 = 24 * 3600 * 1000;

/// For all streams, as it is kept.
const ALL: i64 = -1;
/// Rows that an address may have beside its first.
const STREAMS: u32 = 3;

/// An address that is not sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// Who does not send to it.
    pub organisation: OrganisationId,
    /// The address, as [`Address::folded`] has it: two that differ in case are one person's.
    pub address: String,
    /// For this kind of sending; none for all.
    pub stream: Option<Stream>,
    /// The class (`bounce::Class`) of what was said, or `manual`.
    pub reason: String,
    /// In words: the refusal, or what the administrator noted.
    pub note: String,
    /// The receipt that has the evidence.
    pub evidence: Option<(QueueId, u32)>,
    /// Since when.
    pub since: Timestamp,
    /// Until then; none for good.
    pub expires: Option<Timestamp>,
}

/// What follows from a refusal, by its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Only after so many messages, on as many days, within so many days; none: at once.
    pub after: Option<(u32, u32)>,
    /// For this kind of sending; none for transactional and marketing. People's mail is only held back by what names it.
    pub stream: Option<Stream>,
    /// Days until it is tried again; none for never.
    pub days: Option<u32>,
}

impl Rule {
    /// What a class says, of mail of a stream.
    pub fn of(suppression: &bounce::Suppression, stream: Stream) -> Rule {
        let after = match suppression.after {
            bounce::Threshold::First => None,
            bounce::Threshold::Repeated { messages, days } => Some((messages, days)),
        };
        let same = suppression.streams.contains(&bounce::Stream::Same).then_some(stream);
        let marketing = suppression.streams.contains(&bounce::Stream::Marketing).then_some(Stream::Marketing);
        Rule { after, stream: same.or(marketing), days: suppression.expires }
    }
}

fn stored(stream: Option<Stream>) -> i64 {
    stream.map_or(ALL, Stream::stored)
}

fn read(r: &Row<'_>) -> Result<Suppression> {
    let stream = r.int(2)?;
    let evidence = r.opt_int(5)?.map(QueueId::stored).zip(r.opt_int(6)?.map(|n| n as u32));
    Ok(Suppression {
        organisation: OrganisationId(r.int(0)?),
        address: opt_text(Some(r.bytes(1)?))?.unwrap_or_default(),
        stream: match stream {
            ALL => None,
            stream => Some(Stream::read(stream).ok_or_else(|| corrupt("stream", stream))?),
        },
        reason: r.text(3)?.to_owned(),
        note: opt_text(Some(r.bytes(4)?))?.unwrap_or_default(),
        evidence,
        since: Timestamp(r.int(7)?),
        expires: r.opt_int(8)?.map(Timestamp),
    })
}

/// Suppresses an address; where it is already, the new reason stands. What is in line for it comes back to the gate.
///
/// # Errors
/// The store's.
pub fn add(tx: &mut Tx<'_>, address: &Address, new: &Suppression) -> Result<()> {
    let note = &new.note[..new.note.floor_char_boundary(MAX_NOTE)];
    let (message, number) = new.evidence.unzip();
    tx.send(
        &schema::SUPPRESS,
        params![
            new.organisation,
            address.folded().as_bytes(),
            stored(new.stream),
            new.reason.as_str(),
            note.as_bytes(),
            message,
            number,
            new.since,
            new.expires
        ],
    )?;
    tell(tx, &Told::Suppressed(address.clone()))
}

/// Lets an address be sent to again, by `stream`, or where there is none by whatever it was suppressed for; gives how many
/// suppressions that were.
///
/// # Errors
/// The store's.
pub fn remove(tx: &mut Tx<'_>, by: OrganisationId, address: &Address, stream: Option<Stream>) -> Result<u64> {
    let key = address.folded();
    tx.execute(&schema::FORGET_STRIKES, params![by, key.as_bytes(), i64::MAX])?;
    tx.execute(&schema::UNSUPPRESS, params![by, key.as_bytes(), stored(stream)])
}

/// The suppression that keeps a mail from an address, if there is one.
///
/// # Errors
/// The store's.
pub fn find(
    tx: &mut Tx<'_>,
    by: OrganisationId,
    address: &Address,
    stream: Stream,
    now: Timestamp,
) -> Result<Option<Suppression>> {
    tx.row(&schema::SUPPRESSED, params![by, address.folded().as_bytes(), stream.stored(), now], read)
}

/// What keeps mail from those of these deliveries that are suppressed.
pub(crate) fn find_all(
    tx: &mut Tx<'_>,
    all: &[(Arc<Message>, Delivery)],
    now: Timestamp,
) -> Result<BTreeMap<(QueueId, u32), Suppression>> {
    let mut some = Vec::new();
    tx.each(
        &schema::IS_SUPPRESSED,
        all.iter().map(|(m, d)| (m, d, d.to.folded())),
        |(m, _, key)| [m.organisation.into(), key.as_bytes().into(), m.stream.stored().into(), now.into()],
        |(m, d, _), answer| some.extend(answer.returned.map(|_| (m, d))),
    )?;
    let mut found = BTreeMap::new();
    for (m, d) in some {
        let suppression = find(tx, m.organisation, &d.to, m.stream, now)?;
        found.extend(suppression.map(|suppression| ((m.id, d.number), suppression)));
    }
    Ok(found)
}

/// True when there is any: a sender with none need not look for each recipient.
pub(crate) fn any(tx: &mut Tx<'_>) -> Result<bool> {
    Ok(tx.row(&schema::ANY_SUPPRESSED, params![], |_| Ok(()))?.is_some())
}

/// Those of an organisation, by address, behind the address `after`: `n`, or up to three more, as those of one address are
/// not parted. Those that are over are among them, until they are forgotten.
///
/// # Errors
/// The store's.
pub fn page(tx: &mut Tx<'_>, by: OrganisationId, after: &str, n: u32) -> Result<Vec<Suppression>> {
    let mut all = tx.list(&schema::SUPPRESSIONS, params![by, after.as_bytes(), n + STREAMS], read)?;
    let last = all.get((n as usize).saturating_sub(1)).map(|last| last.address.clone());
    if let Some(last) = last {
        all.truncate(all.iter().rposition(|one| one.address <= last).map_or(0, |at| at + 1));
    }
    Ok(all)
}

/// Days for which it counts that a report told of a failure, although a host takes mail for the address: those that report what they have
/// taken take it each time. No rule asks for more.
const REPORTED: i64 = 60;

/// A delivery was refused for good.
pub(crate) fn refused(tx: &mut Tx<'_>, address: &Address, rule: Rule, new: &Suppression) -> Result<()> {
    strike(tx, address, rule, new, false)
}

/// A report says that a delivery, which a host had taken, failed for good.
pub(crate) fn failed(tx: &mut Tx<'_>, address: &Address, rule: Rule, new: &Suppression) -> Result<()> {
    strike(tx, address, rule, new, true)
}

fn strike(tx: &mut Tx<'_>, address: &Address, rule: Rule, new: &Suppression, reported: bool) -> Result<()> {
    if let Some((messages, days)) = rule.after {
        let (by, key, day) = (new.organisation, address.folded(), new.since.0 / DAY);
        tx.send(&schema::STRIKE, params![by, key.as_bytes(), day, reported])?;
        let first = day - i64::from(days);
        let strikes = tx.one(&schema::STRIKES, params![by, key.as_bytes(), first], |r| r.int(0))?;
        if strikes < i64::from(messages) {
            return Ok(());
        }
        tx.send(&schema::FORGET_STRIKES, params![by, key.as_bytes(), i64::MAX])?;
    }
    let streams: &[Stream] = match &rule.stream {
        Some(stream) => std::slice::from_ref(stream),
        None => &[Stream::Transactional, Stream::Marketing],
    };
    let expires = rule.days.map(|days| Timestamp(new.since.0 + i64::from(days) * DAY));
    for stream in streams {
        add(tx, address, &Suppression { stream: Some(*stream), expires, ..new.clone() })?;
    }
    Ok(())
}

/// A host has taken a delivery: what was refused before was not for good.
pub(crate) fn delivered(tx: &mut Tx<'_>, by: OrganisationId, address: &Address, now: Timestamp) -> Result<()> {
    tx.send(&schema::FORGET_STRIKES, params![by, address.folded().as_bytes(), now.0 / DAY - REPORTED])
}

/// Forgets at most `n` suppressions of an organisation that is gone, and as many of the failures that were counted for it; gives
/// how many there were.
///
/// # Errors
/// The store's.
pub fn forget_all(tx: &mut Tx<'_>, of: OrganisationId, n: u32) -> Result<u64> {
    let strikes = tx.execute(&schema::FORGET_STRIKES_OF, params![of, n])?;
    Ok(strikes + tx.execute(&schema::FORGET_SUPPRESSIONS_OF, params![of, n])?)
}

/// Forgets at most `n` suppressions that are over.
///
/// # Errors
/// The store's.
pub fn forget(tx: &mut Tx<'_>, now: Timestamp, n: u32) -> Result<u64> {
    tx.execute(&schema::FORGET_SUPPRESSIONS, params![now, n])
}

#[cfg(test)]
mod tests {
    use testkit::engines;

    use super::*;
    use crate::MIGRATIONS;

    /// A host takes a mail for the address on each of these days; what it refuses, or reports later, is of the same day. Gives whether
    /// that suppresses it at the third in thirty days.
    fn suppressed(days: &[i64], reported: bool) -> Vec<bool> {
        let (us, jane) = (OrganisationId(1), Address::parse("Jane@b.test").unwrap());
        let rule = Rule { after: Some((3, 30)), stream: None, days: None };
        let all = engines().map(|bed| {
            let store = bed.open(&[MIGRATIONS]);
            for day in days {
                let (now, jane) = (Timestamp(day * DAY), jane.clone());
                let new = Suppression {
                    organisation: us,
                    address: String::new(),
                    stream: None,
                    reason: "mailbox-full".into(),
                    note: String::new(),
                    evidence: None,
                    since: now,
                    expires: None,
                };
                let work = move |tx: &mut Tx<'_>| {
                    delivered(tx, us, &jane, now)?;
                    strike(tx, &jane, rule, &new, reported)
                };
                store.write_blocking(work).unwrap();
            }
            let jane = jane.clone();
            let found = store.read_blocking(move |tx| find(tx, us, &jane, Stream::Marketing, Timestamp(200 * DAY)));
            found.unwrap().is_some()
        });
        all.collect()
    }

    #[test]
    fn what_a_host_takes_and_reports_later_counts_and_what_it_takes_after_a_refusal_does_not() {
        for (days, reported, expected) in [
            (&[100, 101, 102][..], true, true),
            (&[100, 101, 102], false, false),
            (&[100, 101], true, false),
            // The first is too old.
            (&[100, 101, 131], true, false),
        ] {
            assert!(suppressed(days, reported).iter().all(|found| *found == expected), "{days:?} {reported}");
        }
    }
}
