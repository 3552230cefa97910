//! Outcomes are written to the rows of their deliveries.

use base::{Enhanced, Timestamp};
use store::{Result, Tx, Value};

use crate::claim::{Outcome, Settled, status};
use crate::receipt::{Pointer, Segment};
use crate::{Owed, Queue, State, schema};

/// RFC 3463 §3.5: delivery time expired.
const EXPIRED: Enhanced = Enhanced(4, 4, 7);
/// RFC 2852 §4.1.2: it was to be delivered by then, or returned.
const TOO_LATE: Enhanced = Enhanced(5, 4, 7);

/// How an outcome leaves its delivery.
pub(crate) struct Ended {
    pub(crate) owed: Owed,
    /// Nothing is left to do for it.
    pub(crate) finished: bool,
    /// The state that it has then; none when the claim was not the caller's.
    pub(crate) state: Option<State>,
}

/// In the order of `all`. What finishes the only delivery of its message removes it; else its row says what came of it.
pub(crate) fn settle(
    tx: &mut Tx<'_>,
    queue: &Queue,
    all: &[Settled],
    segment: &Segment,
    now: Timestamp,
) -> Result<Vec<Ended>> {
    let ended = |s: &Settled| {
        let owed = s.owes(now);
        Ended { owed, finished: owed.is_nothing() && !matches!(s.outcome, Outcome::Deferred(_)), state: None }
    };
    let goes = |s: &Settled, ended: &Ended| ended.finished && s.message.total == 1;
    let mut ends: Vec<Ended> = all.iter().map(ended).collect();
    tx.each(
        &schema::REMOVE_CLAIMED,
        all.iter().zip(&mut ends).filter(|(s, ended)| goes(s, ended)),
        |(s, _)| [s.message.id.into(), s.delivery.number.into(), queue.epoch().into()],
        |(s, ended), answer| {
            let state = if s.outcome == Outcome::Cancelled { State::Cancelled } else { State::Delivered };
            ended.state = (answer.changed == 1).then_some(state);
        },
    )?;
    let stays = all.iter().zip(&mut ends).enumerate().filter(|(_, (s, ended))| !goes(s, ended));
    let mut read = Ok(());
    tx.each(
        &schema::SETTLE,
        stays.map(|(place, (s, ended))| (Change::of(s, ended.owed, segment.pointer(place), now), ended)),
        |(change, _)| change.values(queue),
        |(_, ended), answer| match answer.returned.map(State::read).transpose() {
            Ok(state) => ended.state = state,
            Err(e) => read = Err(e),
        },
    )?;
    read.map(|()| ends)
}

/// What an outcome makes of a row.
struct Change<'a> {
    of: &'a Settled,
    state: State,
    due: Timestamp,
    owed: Owed,
    status: String,
    reply: String,
    trail: Option<Pointer>,
}

impl<'a> Change<'a> {
    fn of(s: &'a Settled, owed: Owed, trail: Option<Pointer>, now: Timestamp) -> Self {
        let (state, due) = match s.outcome {
            Outcome::Delivered { .. } => (State::Delivered, now),
            Outcome::Failed | Outcome::Expired => (State::Failed, now),
            Outcome::Deferred(until) => (State::Waiting, until),
            Outcome::Cancelled => (State::Cancelled, now),
        };
        let status = match s.outcome {
            Outcome::Expired if s.message.is_late(now) => TOO_LATE,
            Outcome::Expired => EXPIRED,
            _ => status(&s.said.reply),
        };
        Change { of: s, state, due, owed, status: status.to_string(), reply: s.said.reply.to_string(), trail }
    }

    /// The parameters of the statement.
    fn values(&self, queue: &Queue) -> [Value<'_>; 13] {
        let (d, (segment, place)) = (&self.of.delivery, self.trail.map_or((0, 0), |p| (p.segment, p.place)));
        [
            self.of.message.id.into(),
            d.number.into(),
            queue.epoch().into(),
            self.state.stored().into(),
            self.due.min(d.expires).into(),
            (d.warned || self.owed.delay).into(),
            self.owed.stored().into(),
            self.status.as_str().into(),
            self.reply.as_bytes().into(),
            self.of.said.host.as_bytes().into(),
            self.of.class.as_str().into(),
            segment.into(),
            place.into(),
        ]
    }
}
