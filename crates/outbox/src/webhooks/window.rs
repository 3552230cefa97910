//! What of the log is on its way to one webhook, and in which order: no clock, no network, no store.
//!
//! Events of one recipient stand in a *lane*, and only the first of a lane is sent. One that is not taken waits for its next try
//! and keeps its lane waiting, no other. When a webhook does not answer at all, nothing is begun but one try after another, at
//! growing intervals. The window is bounded: when it is full of what waits, the log is read no further.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use queue::log::{Cursor, Line};
use queue::webhook::{AllWaiting, Record, Waiting};

use crate::events;
use crate::schedule::millis;

/// A place in the log.
pub(super) type At = (i64, u32);

/// Requests at a time.
const FLYING: usize = 8;
/// Events that are begun or wait; with so many, no further batch is read.
const MOST: usize = 512;
/// When an event is tried again, after each try: the schedule of Standard Webhooks ("Deliverability and reliability").
const SCHEDULE: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(5 * 3600),
    Duration::from_secs(10 * 3600),
    Duration::from_secs(14 * 3600),
    Duration::from_secs(20 * 3600),
    Duration::from_secs(24 * 3600),
];
/// So many new events in a row that found nobody: it is down.
const DOWN: u32 = 5;
/// How long it is left alone then, at first and at most.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5 * 60));
/// A wish for a pause is granted up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody answered, or who did cannot now; perhaps it said for how long.
    Down(Option<Duration>),
    /// It was answered otherwise than with success.
    Refused,
}

/// What becomes of an event that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is tried again.
    Again,
    /// It was tried for days, while others were taken: it is told no more.
    GivenUp,
    /// It was tried for days, and nothing was taken: the webhook is to be disabled; it waits.
    Hopeless,
}

/// An event on its way.
#[derive(Debug)]
struct Entry {
    lane: Arc<str>,
    id: Arc<str>,
    body: Arc<str>,
    waiting: Waiting,
}

/// See the top.
#[derive(Debug)]
pub(super) struct Window {
    entries: BTreeMap<At, Entry>,
    lanes: HashMap<Arc<str>, VecDeque<At>>,
    /// Firsts of their lanes that were not tried yet.
    fresh: BTreeSet<At>,
    /// Firsts of their lanes that wait.
    due: BTreeSet<(Timestamp, At)>,
    flying: usize,
    /// Where the log is read on.
    next: Cursor,
    /// New events in a row that found nobody.
    down: u32,
    /// Nothing is sent before.
    paused: Timestamp,
    /// How it has gone, with what is new since it was written.
    record: Record,
}

impl Window {
    /// Of a webhook that stands there.
    pub(super) fn new(record: &Record) -> Self {
        let record = Record { taken: 0, given_up: 0, lost: 0, ..record.clone() };
        Window {
            entries: BTreeMap::new(),
            lanes: HashMap::new(),
            fresh: BTreeSet::new(),
            due: BTreeSet::new(),
            flying: 0,
            next: Cursor::before(record.position + 1),
            down: 0,
            paused: Timestamp(0),
            record,
        }
    }

    /// Where the log is to be read on; none while there is no room.
    pub(super) fn wants(&self) -> Option<Cursor> {
        (self.entries.len() < MOST).then_some(self.next)
    }

    /// The log was read on: these lines are to be told, and so many positions were gone.
    pub(super) fn read(&mut self, lines: &[Line], next: Cursor, lost: u64) {
        lines.iter().for_each(|line| self.add(line, Waiting { tries: 0, due: Timestamp(0), since: Timestamp(0) }));
        self.next = next;
        self.record.lost += lost;
    }

    /// A line that waited before; in the order of the log, and before any other is read.
    pub(super) fn restore(&mut self, line: &Line, waiting: Waiting) {
        self.add(line, waiting);
    }

    /// One that waited is gone.
    pub(super) fn is_gone(&mut self) {
        self.record.lost += 1;
    }

    fn add(&mut self, line: &Line, waiting: Waiting) {
        let lane: Arc<str> = line.head.to.to_lowercase().into();
        let (id, body) = (line.id().into(), events::payload(line).into());
        self.entries.insert(line.at, Entry { lane: lane.clone(), id, body, waiting });
        let stand = self.lanes.entry(lane).or_default();
        stand.push_back(line.at);
        if stand.len() == 1 {
            self.offer(line.at);
        }
    }

    /// This one is the first of its lane.
    fn offer(&mut self, at: At) {
        match self.entries.get(&at) {
            Some(entry) if entry.waiting.tries == 0 => drop(self.fresh.insert(at)),
            Some(entry) => drop(self.due.insert((entry.waiting.due, at))),
            None => {}
        }
    }

    /// What to send now: place, id and body. Its end is to be told to [`Window::taken`] or [`Window::failed`].
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<(At, Arc<str>, Arc<str>)> {
        if now < self.paused || self.is_full() {
            return None;
        }
        let due = self.due.first().copied().filter(|(due, _)| *due <= now);
        let at = match (self.fresh.first().copied(), due) {
            // Whether it is up again, one that never failed tells best.
            (Some(at), None) => at,
            (Some(at), Some(_)) if self.down >= DOWN => at,
            (_, Some((_, at))) => at,
            (None, None) => return None,
        };
        self.fresh.remove(&at);
        let entry = self.entries.get(&at)?;
        self.due.remove(&(entry.waiting.due, at));
        self.flying += 1;
        Some((at, entry.id.clone(), entry.body.clone()))
    }

    /// As many are on their way as may be.
    fn is_full(&self) -> bool {
        self.flying >= if self.down >= DOWN { 1 } else { FLYING }
    }

    /// It was taken.
    pub(super) fn taken(&mut self, at: At, now: Timestamp) {
        self.flying -= 1;
        (self.down, self.record.last_taken, self.record.failing) = (0, Some(now), None);
        self.record.why.clear();
        self.record.taken += 1;
        self.end(at);
    }

    /// It was not, as `why` says. `chance` is any number: tries of many at once are spread by it.
    pub(super) fn failed(&mut self, at: At, failure: Failure, why: String, now: Timestamp, chance: u64) -> Fate {
        self.flying -= 1;
        self.record.why = why;
        self.record.failing.get_or_insert(now);
        let Some(entry) = self.entries.get_mut(&at) else { return Fate::GivenUp };
        let waiting = &mut entry.waiting;
        if waiting.tries == 0 {
            waiting.since = now;
        }
        waiting.tries += 1;
        let wished = if let Failure::Down(wished) = failure { wished } else { None };
        if let Failure::Down(_) = failure
            && waiting.tries == 1
        {
            self.down += 1;
        }
        let alone = self.down.checked_sub(DOWN).map(|n| LEFT_ALONE.0.saturating_mul(1 << n.min(10)).min(LEFT_ALONE.1));
        if let Some(pause) = wished.map(|wished| wished.min(LONGEST_PAUSE)).max(alone) {
            self.paused = self.paused.max(Timestamp(now.0 + millis(pause)));
        }
        let Some(wait) = SCHEDULE.get(waiting.tries as usize - 1) else {
            if self.record.last_taken.is_some_and(|taken| taken >= waiting.since) {
                self.record.given_up += 1;
                self.end(at);
                return Fate::GivenUp;
            }
            waiting.due = now;
            self.due.insert((now, at));
            return Fate::Hopeless;
        };
        // Up to a tenth more.
        let wait = millis(*wait).max(wished.map_or(0, |wished| millis(wished.min(SCHEDULE[8]))));
        waiting.due = Timestamp(now.0 + wait + (chance % (wait as u64 / 10 + 1)) as i64);
        self.due.insert((waiting.due, at));
        Fate::Again
    }

    /// It is told no more, one way or the other.
    fn end(&mut self, at: At) {
        let Some(entry) = self.entries.remove(&at) else { return };
        let Some(stand) = self.lanes.get_mut(&entry.lane) else { return };
        stand.pop_front();
        match stand.front().copied() {
            Some(next) => self.offer(next),
            None => drop(self.lanes.remove(&entry.lane)),
        }
    }

    /// When something may be begun; none when that is not a matter of time.
    pub(super) fn wakes(&self) -> Option<Timestamp> {
        if self.is_full() {
            return None;
        }
        let fresh = (!self.fresh.is_empty()).then_some(Timestamp(0));
        let first = fresh.or(self.due.first().map(|(due, _)| *due));
        first.map(|first| first.max(self.paused))
    }

    /// How it stands, to be written down: the record, with what is new in its numbers, and all that waits at its position or
    /// before. What was not tried yet is read again.
    pub(super) fn stands(&self) -> (Record, AllWaiting) {
        let untried = |entry: &Entry| {
            let first = self.lanes.get(&entry.lane).and_then(|stand| self.entries.get(stand.front()?));
            first.is_none_or(|first| first.waiting.tries == 0)
        };
        let begun = self.entries.iter().find(|(_, entry)| untried(entry)).map(|(at, _)| at.0 - 1);
        let position = begun.unwrap_or(self.next.position - 1);
        let all = self.entries.range(..(position + 1, 0)).map(|(at, entry)| (*at, entry.waiting)).collect();
        (Record { position, ..self.record.clone() }, all)
    }

    /// How it stood was written down.
    pub(super) fn written(&mut self, record: &Record) {
        self.record.taken -= record.taken;
        self.record.given_up -= record.given_up;
        self.record.lost -= record.lost;
    }
}

#[cfg(test)]
mod tests;
