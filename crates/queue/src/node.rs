//! Several processes that work on one queue: each is a node, and says every so often that it lives. What one has claimed that
//! is silent for too long, another takes over; whoever was taken over ends, as its claims are not its own any more.
//!
//! Time is the database's: the nodes' clocks need not agree. Only PostgreSQL has several.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base::{Address, Timestamp};
use store::{Result, Store, Tx, params};

use crate::entry::opt_text;
use crate::recover::{Heir, Remains, inherit};
use crate::source::{SourceId, Used};
use crate::{Event, Group, Queue, QueueId, schema};

/// So much of what was told to other nodes is kept.
const TOLD: i64 = 100_000;
/// As it is told when all sources are meant.
const ALL: i64 = -1;
/// What one look learns at most.
const MOST: u32 = 1000;

/// Who works on the queue.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number, the same in all its lives; no two processes have it at once.
    pub number: i64,
    /// What people call it.
    pub name: String,
    /// For so long its claims are its own after each [`renew`]; none: for ever, as there is nobody else.
    pub lease: Option<Duration>,
}

impl Node {
    /// The only one.
    pub fn alone() -> Self {
        Node { number: 1, name: String::new(), lease: None }
    }
}

/// One life of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// What its claims are made with.
    pub epoch: i64,
    /// The node's number.
    pub node: i64,
    /// Its name.
    pub name: String,
    /// Since when, by its own clock.
    pub began: Timestamp,
    /// The end of its lease, by the database's clock.
    pub until: Timestamp,
    /// How long it has been silent beyond its lease, by the database's clock; none while it lives.
    pub lapsed: Option<Duration>,
}

/// Says that this node lives; gives all lives there are. None when its own is over: another node took over what it had
/// claimed, and it must not send any more.
///
/// # Errors
/// The store's.
pub fn renew(tx: &mut Tx<'_>, queue: &Queue, lease: Duration) -> Result<Option<Vec<Life>>> {
    let now = tx.shared_time()?;
    if tx.execute(&schema::RENEW, params![queue.epoch(), until(now, lease)])? != 1 {
        return Ok(None);
    }
    lives(tx).map(Some)
}

/// All lives there are, the oldest first.
///
/// # Errors
/// The store's.
pub fn lives(tx: &mut Tx<'_>) -> Result<Vec<Life>> {
    let now = tx.shared_time()?;
    tx.list(&schema::LIVES, params![], |r| {
        let until = Timestamp(r.int(4)?);
        let late = now.0.saturating_sub(until.0);
        Ok(Life {
            epoch: r.int(0)?,
            node: r.int(1)?,
            name: r.text(2)?.to_owned(),
            began: Timestamp(r.int(3)?),
            until,
            lapsed: (late > 0).then(|| Duration::from_millis(late as u64)),
        })
    })
}

pub(crate) fn until(now: Timestamp, lease: Duration) -> Timestamp {
    Timestamp(now.0.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)))
}

impl Queue {
    /// Takes over what a node had claimed that is silent for longer than its lease; gives how many deliveries are uncertain.
    /// None when it has spoken meanwhile, or another was faster. `remains` is what is known of its attempts. What is due and
    /// owed now, the caller looks for.
    ///
    /// # Errors
    /// The store's.
    pub async fn take_over(
        &self,
        store: &Store,
        epoch: i64,
        remains: Option<Remains>,
        now: Timestamp,
    ) -> Result<Option<u64>> {
        let heir = self.epoch();
        // It cannot renew its lease any more, and claims nothing.
        let lapsed = move |tx: &mut Tx<'_>| {
            let time = tx.shared_time()?;
            Ok(tx.execute(&schema::INHERIT_LAPSED, params![epoch, heir, time])? == 1)
        };
        if !store.write(lapsed).await? {
            return Ok(None);
        }
        let heir = Heir { store, queue: self, of: epoch, lease: None, now };
        heir.end(remains).await.map(Some)
    }

    /// This node stops, and has given back what it had claimed: its life is over, and others need not wait for its lease to
    /// end. What it could not give back is uncertain.
    ///
    /// # Errors
    /// The store's.
    pub async fn leave(&self, store: &Store, now: Timestamp) -> Result<()> {
        let queue = self.clone();
        let over = move |tx: &mut Tx<'_>| {
            if queue.stands(tx)? { inherit(tx, queue.epoch(), queue.epoch()) } else { Ok(()) }
        };
        store.write(over).await?;
        let heir = Heir { store, queue: self, of: self.epoch(), lease: None, now };
        heir.end(None).await.map(drop)
    }
}

/// Claims, for this node alone, those of `can` that no other has, and lets go of all others; gives those it has now. Limits
/// of a source are kept by who sends from it.
///
/// # Errors
/// The store's.
pub fn hold_sources(tx: &mut Tx<'_>, queue: &Queue, can: &[SourceId]) -> Result<Vec<SourceId>> {
    let held =
        |tx: &mut Tx<'_>| tx.list(&schema::HELD_SOURCES, params![queue.epoch()], |r| Ok(SourceId::read(r.int(0)?)));
    if !queue.stands(tx)? {
        return Ok(Vec::new());
    }
    let before = held(tx)?;
    for gone in before.iter().filter(|source| !can.contains(source)) {
        tx.execute(&schema::LET_SOURCE_GO, params![queue.epoch(), gone.stored()])?;
    }
    for source in can.iter().filter(|source| !before.contains(source)) {
        tx.execute(&schema::HOLD_SOURCE, params![queue.epoch(), source.stored()])?;
    }
    held(tx)
}

/// Publishes an event to this node and, where there may be others, to these; in the order of commits.
pub(crate) fn tell(tx: &mut Tx<'_>, told: &Told) -> Result<()> {
    if let Some(event) = told.event(tx)? {
        tx.publish(Arc::new(event));
    }
    if !tx.is_shared() {
        return Ok(());
    }
    let (kind, id, address) = match told {
        Told::Changed => (0, 0, String::new()),
        Told::Cancelling(id) => (1, id.raw(), String::new()),
        Told::Suppressed(address) => (2, 0, address.to_string()),
        Told::Retried(id, ..) => (3, id.raw(), String::new()),
        Told::PausesEnded(site, source, _) => (4, source.map_or(ALL, SourceId::stored), site.to_string()),
    };
    let n = tx.one(&schema::NEXT_TOLD, params![], |r| r.int(0))?;
    tx.send(&schema::FORGET_TOLD, params![n - TOLD])?;
    tx.send(&schema::TELL, params![n, tx.process(), kind, id, address.as_bytes()])
}

/// What nodes tell one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Changed,
    Cancelling(QueueId),
    Suppressed(Address),
    /// These of its deliveries, with the time from which they are due.
    Retried(QueueId, Range<u32>, Timestamp),
    /// At a site, of a source or of all. What was noted of them, no other node is told.
    PausesEnded(Arc<str>, Option<SourceId>, Arc<[Used]>),
}

impl Told {
    fn event(&self, tx: &mut Tx<'_>) -> Result<Option<Event>> {
        Ok(Some(match self {
            Told::Changed => Event::Changed,
            Told::Cancelling(id) => Event::Cancelling(*id),
            Told::Suppressed(address) => Event::Suppressed(address.clone()),
            Told::Retried(id, of, now) => {
                let which = params![*id, of.start, of.end];
                let groups = tx.list(&schema::GROUPS_OF_MESSAGE, which, |r| Group::read(r, 0))?;
                Event::Retried(groups, *now)
            }
            Told::PausesEnded(site, source, noted) => {
                Event::PausesEnded { site: site.clone(), source: *source, noted: noted.clone() }
            }
        }))
    }
}

/// How much a node knows of what others did.
#[derive(Clone, Debug, Default)]
pub struct Mark {
    /// Of what is told, the last.
    told: Option<i64>,
    /// Of each other life, its last message.
    last: Vec<(i64, QueueId)>,
}

/// What others did since `mark`, as it is told to this node: [`Event::Due`] for mail that they took in, and what they changed.
/// A message that was long in its commit may be missed: whoever looks at [`crate::scheduled`] now and then finds it.
///
/// # Errors
/// The store's.
pub fn news(tx: &mut Tx<'_>, queue: &Queue, mark: &Mark, now: Timestamp) -> Result<(Vec<Event>, Mark)> {
    let (mut events, mut new) = (Vec::new(), Mark::default());
    let told = match mark.told {
        None => tx.one(&schema::LAST_TOLD, params![], |r| r.int(0))?,
        Some(last) => {
            let rows = tx.list(&schema::TOLD, params![last, MOST], |r| {
                let address = opt_text(Some(r.bytes(4)?))?.unwrap_or_default();
                Ok((r.int(0)?, r.int(1)?, r.int(2)?, r.int(3)?, address))
            })?;
            let last = rows.last().map_or(last, |row| row.0);
            // This process heard its own words when it said them.
            let own = tx.process();
            for (_, _, kind, id, address) in rows.into_iter().filter(|(_, process, ..)| *process != own) {
                let told = match kind {
                    0 => Some(Told::Changed),
                    1 => Some(Told::Cancelling(QueueId::stored(id))),
                    2 => Address::parse(&address).ok().map(Told::Suppressed),
                    4 => {
                        let source = Some(id).filter(|id| *id != ALL).map(SourceId::read);
                        Some(Told::PausesEnded(address.into(), source, Arc::default()))
                    }
                    // Which of them, is not told.
                    _ => Some(Told::Retried(QueueId::stored(id), 0..u32::MAX, now)),
                };
                events.extend(told.map(|told| told.event(tx)).transpose()?.flatten());
            }
            last
        }
    };
    new.told = Some(told);
    for life in lives(tx)?.into_iter().filter(|life| life.epoch != queue.epoch()) {
        let [first, end] = [QueueId::new(life.epoch, 0), QueueId::new(life.epoch + 1, 0)];
        let known = mark.last.iter().find(|(epoch, _)| *epoch == life.epoch).map(|(_, last)| *last);
        let after = match known {
            Some(last) => last,
            // What waits already is known from the look at all.
            None => {
                tx.one(&schema::LAST_MESSAGE, params![first, end], |r| r.opt_int(0))?.map_or(first, QueueId::stored)
            }
        };
        let last = tx.one(&schema::MESSAGE_AFTER, params![after, end, MOST], |r| r.opt_int(0))?;
        let last = last.map_or(after, QueueId::stored);
        if last > after {
            let groups = tx.list(&schema::GROUPS_BETWEEN, params![after, last], |r| Group::read(r, 0))?;
            if !groups.is_empty() {
                events.push(Event::Due(groups, now));
            }
        }
        new.last.push((life.epoch, last));
    }
    Ok((events, new))
}
