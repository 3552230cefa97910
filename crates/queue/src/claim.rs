//! What a sender does: claim what is due, and write what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Enhanced, Reply, Timestamp};
use store::{Result, Tx, params};

use crate::entry::{read_delivery, read_message};
use crate::{Delivery, Message, Owed, Queue, QueueId, State, WARNING, schema};

/// Deliveries of one message that were claimed together.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The message.
    pub message: Arc<Message>,
    /// Its deliveries; at least one.
    pub deliveries: Vec<Delivery>,
}

/// Claims at most `n` deliveries whose time has come, the longest due first. They are the caller's from the commit on.
///
/// # Errors
/// The store's.
pub fn claim_due(tx: &mut Tx<'_>, queue: &Queue, n: u32, now: Timestamp) -> Result<Vec<Claimed>> {
    let mut known: Option<Arc<Message>> = None;
    let due = tx.list(&schema::DUE, params![now, n], |r| {
        // Deliveries of one message are mostly due together: it is read once.
        let id = QueueId::stored(r.int(7)?);
        let message = match &known {
            Some(message) if message.id == id => message.clone(),
            _ => Arc::new(read_message(r, 7)?),
        };
        known = Some(message.clone());
        Ok((message, read_delivery(r, 0)?))
    })?;
    let mut claimed: BTreeMap<QueueId, Claimed> = BTreeMap::new();
    for (message, delivery) in due {
        if tx.execute(&schema::CLAIM, params![message.id, delivery.number, queue.epoch()])? == 1 {
            let entry = claimed.entry(message.id).or_insert_with(|| Claimed { message, deliveries: Vec::new() });
            entry.deliveries.push(delivery);
        }
    }
    Ok(claimed.into_values().collect())
}

/// When the next delivery that waits is due.
///
/// # Errors
/// The store's.
pub fn next_due(tx: &mut Tx<'_>) -> Result<Option<Timestamp>> {
    tx.one(&schema::NEXT_DUE, params![], |r| Ok(r.opt_int(0)?.map(Timestamp)))
}

/// What the last attempt was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The reply; ours, when there was none.
    pub reply: Reply,
    /// The host that gave it; empty when it is ours.
    pub host: String,
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
    /// Not now; the next attempt is due then.
    Deferred(Timestamp),
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
}

impl Settled {
    fn owes(&self, now: Timestamp) -> Owed {
        let wanted = match self.outcome {
            Outcome::Delivered { reports } => Owed { success: !reports, ..Owed::NOTHING },
            Outcome::Failed => Owed { failure: true, ..Owed::NOTHING },
            Outcome::Deferred(_) => {
                let long = now.0 - self.message.created.0 >= WARNING.as_millis() as i64;
                Owed { delay: long && !self.delivery.warned, ..Owed::NOTHING }
            }
        };
        Owed::of(self.message.from.as_ref(), self.delivery.notify, wanted)
    }
}

/// Writes what came of attempts; gives the messages that now owe their sender a report. An outcome for a claim that is not
/// the caller's (any more) changes nothing (trap 23).
///
/// # Errors
/// The store's: then nothing is written, and the caller must not send on until it is.
pub fn record(tx: &mut Tx<'_>, queue: &Queue, settled: &[Settled], now: Timestamp) -> Result<Vec<QueueId>> {
    let (mut closed, mut owing) = (BTreeMap::new(), Vec::new());
    for s in settled {
        let (id, owed) = (s.message.id, s.owes(now));
        let finished = owed.is_nothing() && !matches!(s.outcome, Outcome::Deferred(_));
        let changed = if finished && s.message.total == 1 {
            tx.execute(&schema::REMOVE_CLAIMED, params![id, s.delivery.number, queue.epoch()])?
        } else {
            settle(tx, queue, s, owed, now)?
        };
        if changed == 0 {
            continue;
        }
        if finished {
            *closed.entry(id).or_insert(0u32) += 1;
        }
        if !owed.is_nothing() && !owing.contains(&id) {
            owing.push(id);
        }
    }
    for (id, n) in closed {
        close(tx, id, n)?;
    }
    Ok(owing)
}

fn settle(tx: &mut Tx<'_>, queue: &Queue, s: &Settled, owed: Owed, now: Timestamp) -> Result<u64> {
    let d = &s.delivery;
    let (state, due) = match s.outcome {
        Outcome::Delivered { .. } => (State::Delivered, now),
        Outcome::Failed => (State::Failed, now),
        Outcome::Deferred(until) => (State::Waiting, until),
    };
    tx.execute(
        &schema::SETTLE,
        params![
            s.message.id,
            d.number,
            queue.epoch(),
            state.stored(),
            due.min(d.expires),
            d.warned || owed.delay,
            owed.stored(),
            status(&s.said.reply).to_string().as_str(),
            s.said.reply.to_string().as_bytes(),
            s.said.host.as_bytes()
        ],
    )
}

/// `n` deliveries fewer are open; with the last the message goes.
pub(crate) fn close(tx: &mut Tx<'_>, id: QueueId, n: u32) -> Result<()> {
    let open = tx.row(&schema::CLOSE, params![id, n], |r| r.int(0))?;
    if open.is_some_and(|open| open <= 0) {
        tx.execute(&schema::REMOVE_DELIVERIES, params![id])?;
        tx.execute(&schema::REMOVE_MESSAGE, params![id])?;
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
}

/// Gives claims back of which no attempt was made.
///
/// # Errors
/// The store's.
pub fn release(tx: &mut Tx<'_>, queue: &Queue, all: &[Release]) -> Result<()> {
    for r in all {
        tx.execute(&schema::RELEASE, params![r.message, r.number, queue.epoch(), r.until])?;
    }
    Ok(())
}

/// The enhanced code of a reply; the vaguest of its class when it has none (RFC 3463 §3.1 "other undefined").
pub(crate) fn status(reply: &Reply) -> Enhanced {
    reply.enhanced.unwrap_or(Enhanced((reply.code / 100) as u8, 0, 0))
}
