//! What a sender does: claim what is due, and write what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Enhanced, Reply, Stream, Timestamp};
use bounce::{Known, Stage};
use smtp::Notify;
use store::{Error, Result, Row, Tx, Value, params};

use crate::entry::{read_delivery, read_message};
use crate::group::next_due;
use crate::log::{self, Marks};
use crate::receipt::{self, ByMessage, End, MAX_RECORDS, Segment, Talk};
use crate::settle::{Ended, settle};
use crate::suppression::{self, Rule, Suppression};
use crate::{Delivery, Event, Group, Message, Owed, Queue, QueueId, State, WARNING, schema};

/// Deliveries of one message that were claimed together.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The message.
    pub message: Arc<Message>,
    /// Its deliveries; at least one.
    pub deliveries: Vec<Delivery>,
}

/// A delivery that cannot be read, and so neither sent nor reported: it is set aside, so that it stops no other.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its message.
    pub message: QueueId,
    /// Its number there.
    pub number: u32,
    /// What is wrong with it.
    pub why: Error,
}

/// What was due.
#[derive(Clone, Debug, Default)]
pub struct Due {
    /// The caller's from the commit on.
    pub claimed: Vec<Claimed>,
    /// Held from the commit on, until [`crate::retry`] or [`crate::cancel`].
    pub held: Vec<Held>,
    /// So many were not claimed but ended, as their recipient is not sent to ([`suppression`]).
    pub suppressed: u32,
    /// For each group that was asked for, when the first of what still waits is due.
    pub next: Vec<(Group, Option<Timestamp>)>,
}

/// So many of a group are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The group.
    pub group: Group,
    /// At most.
    pub most: u32,
}

/// Claims deliveries whose time has come, of each group those that are due longest. Those to an address that is suppressed
/// end here: it is the last gate before MAIL for every kind of sending (trap 35).
///
/// # Errors
/// The store's.
pub fn claim_due(tx: &mut Tx<'_>, queue: &Queue, wants: &[Want], now: Timestamp) -> Result<Due> {
    let mut known: Option<Arc<Message>> = None;
    let mut read = |r: &Row<'_>, id: QueueId| {
        // Deliveries of one message are mostly due together: it is read once.
        let message = match &known {
            Some(message) if message.id == id => message.clone(),
            _ => Arc::new(read_message(r, 10)?),
        };
        known = Some(message.clone());
        Ok::<_, Error>((message, read_delivery(r, 0)?))
    };
    let (mut claimed, mut due) = (BTreeMap::<QueueId, Claimed>::new(), Due::default());
    // Trap 23: who was taken over claims nothing that nobody would give back.
    if !queue.stands(tx)? {
        return Err(Error::Refused(Arc::new(base::Error::new(Reply::new(451, 3, 0, "Another node has taken over")))));
    }
    let (any, mut suppressed) = (suppression::any(tx)?, Vec::new());
    for Want { group, most } in wants {
        let [stream, organisation, domain, priority] = group.stored();
        let rows = tx.list(&schema::DUE, params![stream, organisation, domain, priority, now, *most], |r| {
            let (id, number) = (QueueId::stored(r.int(10)?), r.int(0)? as u32);
            Ok((id, number, read(r, id)))
        })?;
        let all = rows.len() < *most as usize;
        let mut readable = Vec::with_capacity(rows.len());
        for (message, number, read) in rows {
            match read {
                Ok(one) => readable.push(one),
                Err(why) => {
                    tx.send(&schema::HOLD, params![message, number, why.to_string().as_bytes(), Value::Bytes(b"")])?;
                    due.held.push(Held { message, number, why });
                }
            }
        }
        let mut unwanted = if any { suppression::find_all(tx, &readable, now)? } else { BTreeMap::new() };
        tx.each(
            &schema::CLAIM,
            readable,
            |(message, delivery)| [message.id.into(), delivery.number.into(), queue.epoch().into()],
            |(message, delivery), answer| {
                if answer.changed != 1 {
                    return;
                }
                if let Some(found) = unwanted.remove(&(message.id, delivery.number)) {
                    suppressed.push(unsent(message, delivery, &found));
                } else {
                    let entry = claimed.entry(message.id);
                    entry.or_insert_with(|| Claimed { message, deliveries: Vec::new() }).deliveries.push(delivery);
                }
            },
        )?;
        // What is due and was not among them, another is just claiming.
        let next = next_due(tx, *group)?.map(|next| if all && next <= now { Timestamp(now.0 + SOON) } else { next });
        due.next.push((*group, next));
    }
    due.suppressed = suppressed.len() as u32;
    for all in suppressed.chunks(MAX_RECORDS) {
        for id in record(tx, queue, all, &Segment::of(queue, all, now)?, now)? {
            tx.publish(Arc::new(Event::Owing(id)));
        }
    }
    due.claimed = claimed.into_values().collect();
    due.claimed.iter_mut().for_each(|c| c.deliveries.sort_by_key(|d| d.number));
    Ok(due)
}

/// A delivery that ends before its attempt.
fn unsent(message: Arc<Message>, delivery: Delivery, found: &Suppression) -> Settled {
    let since = found.since.rfc3339();
    let text = format!("Not sent: this address is on our suppression list since {since} ({})", found.reason);
    let said = Said::known(Known::Suppressed, Reply::new(550, 7, 1, text));
    Settled { message, delivery, outcome: Outcome::Failed, said, class: SUPPRESSED.into(), rule: None }
}

/// What another node is just claiming is looked at again after so many milliseconds: should that come to nothing, it is due.
const SOON: i64 = 200;

/// The class of what is not sent (`bounce::Class`).
const SUPPRESSED: &str = "suppressed";

/// How many deliveries wait, due or not; `most` when there are more.
///
/// # Errors
/// The store's.
pub fn waiting(tx: &mut Tx<'_>, most: u32) -> Result<u64> {
    tx.one(&schema::WAITING, params![most], |r| Ok(r.int(0)? as u64))
}

/// What the last attempt was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The reply; ours, when there was none.
    pub reply: Reply,
    /// The host that gave it; empty when it is ours.
    pub host: String,
    /// What it is about.
    pub cause: Cause,
    /// The dialogue in which it was said; none when there was no connection.
    pub talk: Option<Arc<Talk>>,
    /// The place of the recipient in the transaction.
    pub place: usize,
}

/// What an answer is about: its class follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is a host's, in this stage.
    Host(Stage),
    /// We know it ourselves.
    Known(Known),
    /// It is ours, about ourselves.
    Ours,
}

impl Said {
    /// Words of ours.
    pub fn ours(reply: Reply) -> Said {
        Said { reply, host: String::new(), cause: Cause::Ours, talk: None, place: 0 }
    }

    /// Words of ours about something known.
    pub fn known(known: Known, reply: Reply) -> Said {
        Said { cause: Cause::Known(known), ..Said::ours(reply) }
    }

    /// What a host said.
    pub fn by(host: impl Into<String>, stage: Stage, reply: Reply) -> Said {
        Said { host: host.into(), cause: Cause::Host(stage), ..Said::ours(reply) }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The next hop has taken responsibility.
    Delivered {
        /// It knows what the sender wants to be told, and will tell (RFC 3461 §5.2.2).
        reports: bool,
    },
    /// For good.
    Failed,
    /// Its time is over; what was said is the last answer.
    Expired,
    /// Not now; the next attempt is due then.
    Deferred(Timestamp),
    /// Nothing was tried: it is not wanted any more.
    Cancelled,
}

/// A delivery and what came of its attempt.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Its message.
    pub message: Arc<Message>,
    /// As it was claimed.
    pub delivery: Delivery,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub said: Said,
    /// The class of a refusal (`bounce::Class`); empty for none.
    pub class: String,
    /// What follows from it for the address.
    pub rule: Option<Rule>,
}

impl Settled {
    pub(crate) fn owes(&self, now: Timestamp) -> Owed {
        let wanted = match self.outcome {
            Outcome::Delivered { reports } => Owed { success: !reports, ..Owed::NOTHING },
            Outcome::Cancelled => Owed::NOTHING,
            Outcome::Failed | Outcome::Expired => Owed { failure: true, ..Owed::NOTHING },
            Outcome::Deferred(_) => {
                let begun = self.message.release.unwrap_or(self.message.created);
                // RFC 2852 §4.1.2: with by-mode N its sender is told, and it goes on.
                let late = self.message.deliver_by.is_some_and(|by| !by.returned && by.until <= now);
                let long = late || now.0 - begun.0 >= WARNING.as_millis() as i64;
                Owed { delay: long && !self.delivery.warned, ..Owed::NOTHING }
            }
        };
        // RFC 2852 §4.1.4: who asks for a trace is told that it was passed on, whoever reports its arrival.
        let traced = matches!(self.outcome, Outcome::Delivered { .. })
            && self.message.deliver_by.is_some_and(|by| by.trace)
            && self.message.reports_to().is_some()
            && self.delivery.notify != Some(Notify::Never);
        let owed = Owed::of(self.message.reports_to(), self.delivery.notify, wanted);
        Owed { success: owed.success || traced, ..owed }
    }
}

/// Writes what came of attempts, and `segment`, which is made of them; gives the messages that now owe their sender a report.
/// An outcome for a claim that is not the caller's (any more) changes nothing (trap 23).
///
/// # Errors
/// The store's: then nothing is written, and the caller must not send on until it is.
pub fn record(
    tx: &mut Tx<'_>,
    queue: &Queue,
    settled: &[Settled],
    segment: &Segment,
    now: Timestamp,
) -> Result<Vec<QueueId>> {
    let (mut closed, mut owing, mut marks) = (BTreeMap::new(), Vec::new(), Marks::default());
    for (place, (s, ended)) in settled.iter().zip(settle(tx, queue, settled, segment, now)?).enumerate() {
        let (id, trail, Ended { owed, finished, state }) = (s.message.id, segment.pointer(place), ended);
        let Some(state) = state else {
            marks.void(place);
            continue;
        };
        if let Some(end) = receipt::end_of(s.outcome, state) {
            let tried = s.outcome != Outcome::Cancelled;
            receipt::write(tx, &s.message, &s.delivery, (end, &s.class, tried), trail, now)?;
            learn(tx, s, end, now)?;
        }
        let cancelled = state == State::Cancelled;
        if cancelled {
            marks.cancelled(place);
        }
        if finished && s.message.total == 1 {
            tx.send(&schema::REMOVE_MESSAGE, params![id])?;
        } else if finished || cancelled {
            *closed.entry(id).or_insert(0u32) += 1;
        } else if !owed.is_nothing() && !owing.contains(&id) {
            owing.push(id);
        }
    }
    close(tx, closed)?;
    if !marks.are_void(settled.len()) {
        segment.insert(tx)?;
        log::append(tx, log::Source::Segment(segment.id(), marks.stored()), now);
    }
    Ok(owing)
}

/// What the end of a delivery says of its address. People's mail says nothing: who writes to a friend whose mailbox is full
/// will write again.
fn learn(tx: &mut Tx<'_>, s: &Settled, end: End, now: Timestamp) -> Result<()> {
    let (by, to) = (s.message.organisation, &s.delivery.to);
    match (s.message.stream, end, s.rule) {
        (Stream::Mail, ..) | (_, End::Cancelled, _) => Ok(()),
        (_, End::Delivered, _) => suppression::delivered(tx, by, to, now),
        (_, _, None) => Ok(()),
        (_, _, Some(rule)) => {
            let new = Suppression {
                organisation: by,
                address: String::new(),
                stream: None,
                reason: s.class.clone(),
                note: s.said.reply.to_string(),
                evidence: Some((s.message.id, s.delivery.number)),
                since: now,
                expires: None,
            };
            suppression::refused(tx, to, rule, &new)
        }
    }
}

/// So many deliveries fewer of these messages are open; with its last a message goes.
pub(crate) fn close(tx: &mut Tx<'_>, all: impl IntoIterator<Item = (QueueId, u32)>) -> Result<()> {
    let mut over = Vec::new();
    tx.each(
        &schema::CLOSE,
        all,
        |(id, n)| [(*id).into(), (*n).into()],
        |(id, _), answer| over.extend(answer.returned.filter(|open| *open <= 0).map(|_| id)),
    )?;
    for id in over {
        tx.send(&schema::REMOVE_DELIVERIES, params![id])?;
        tx.send(&schema::REMOVE_MESSAGE, params![id])?;
    }
    Ok(())
}

/// A claim to be given back.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// Its message.
    pub message: QueueId,
    /// Its number there.
    pub number: u32,
    /// When it is due again, or when it expires, if that comes first.
    pub until: Timestamp,
    /// It expires then, if that is later than it was to.
    pub expires: Option<Timestamp>,
}

/// Gives claims back of which no attempt was made.
///
/// # Errors
/// The store's.
pub fn release(tx: &mut Tx<'_>, queue: &Queue, all: &[Release], now: Timestamp) -> Result<()> {
    let mut cancelled = ByMessage::new();
    for r in all {
        if let Some(expires) = r.expires {
            tx.send(&schema::PROLONG, params![r.message, r.number, queue.epoch(), expires])?;
        }
    }
    tx.each(
        &schema::RELEASE,
        all,
        |r| [r.message.into(), r.number.into(), queue.epoch().into(), r.until.into()],
        |r, answer| {
            if answer.returned == Some(State::Cancelled.stored()) {
                cancelled.entry(r.message).or_default().push(r.number);
            }
        },
    )?;
    end_cancelled(tx, cancelled, now)
}

/// These are cancelled, by message.
pub(crate) fn end_cancelled(tx: &mut Tx<'_>, all: ByMessage, now: Timestamp) -> Result<()> {
    receipt::cancelled(tx, &all, now)?;
    close(tx, all.into_iter().map(|(id, numbers)| (id, numbers.len() as u32)))
}

/// Whether a delivery is the caller's, and stays so until the end of the transaction: for who does more with it than to
/// write its outcome (trap 23).
///
/// # Errors
/// The store's.
pub fn is_claimed(tx: &mut Tx<'_>, queue: &Queue, message: QueueId, number: u32) -> Result<bool> {
    Ok(tx.execute(&schema::IS_CLAIMED, params![message, number, queue.epoch()])? == 1)
}

/// Takes back claims that were perhaps made: the answer to their commit never came. To be done before anything else is
/// claimed; a claim that was not made is left as it is.
///
/// # Errors
/// The store's: then it is to be done again.
pub fn take_back(tx: &mut Tx<'_>, queue: &Queue, all: &[Release], now: Timestamp) -> Result<()> {
    for r in all {
        // The commit may still be under way: after this it is over.
        tx.send(&schema::TOUCH, params![r.message, r.number])?;
    }
    release(tx, queue, all, now)
}

/// The enhanced code of a reply; the vaguest of its class when it has none (RFC 3463 §3.1 "other undefined").
pub(crate) fn status(reply: &Reply) -> Enhanced {
    reply.enhanced.unwrap_or(Enhanced((reply.code / 100) as u8, 0, 0))
}
