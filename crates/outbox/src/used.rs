//! What is used up of the long rates of sites, and pauses that last: written down every minute and at the end, so that a restart, or
//! another node, does not begin anew. What is written in between is what will be used at most before it is written again: so a
//! server that is killed has counted what it sent in its last minute, but to sites of which nothing was used up before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{BlobId, Timestamp};
use queue::source::{self, Setup, UsedOf};
use store::{Lane, Tx};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::hops::Then;
use crate::outbox::Inner;
use crate::schedule;
use crate::shape::Used;

/// How often it is looked at what is used.
const WRITTEN: Duration = Duration::from_secs(60);
/// Rows that are written at once, and those of one job.
const MOST: usize = 20_000;
const ROWS: usize = 256;

/// What was written.
#[derive(Default)]
pub(crate) struct Written {
    state: Mutex<State>,
    /// Something is over before its time.
    bell: Notify,
}

#[derive(Default)]
struct State {
    /// Of each that is not over: what stood, and what it may have become.
    known: HashMap<UsedOf, [Instant; 2]>,
    /// What is over before its time, and is to be written so.
    over: Vec<UsedOf>,
}

/// Reads what sources used that are not here yet, and will be with `setup`.
pub(crate) async fn read(inner: &Inner, setup: &Setup) -> store::Result<Vec<Then>> {
    let (sources, queue) = (inner.hops.not_here(setup), inner.queue.clone());
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let (now, instant) = (inner.clock.now(), Instant::now());
    let used = inner.store.read(move |tx| source::used(tx, &queue, &sources, now)).await?;
    Ok(used.iter().filter_map(|used| then(used, now, instant)).collect())
}

/// As it was noted; none that says nothing to this server.
pub(crate) fn then(source::Used { of, name, until }: &source::Used, now: Timestamp, instant: Instant) -> Option<Then> {
    let left = Duration::from_millis(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0));
    // Whoever sees to it bounds it.
    let until = instant.checked_add(left)?;
    Some(Then { at: (of.source, of.site, of.organisation), name: name.clone(), what: of.what.parse().ok()?, until })
}

/// These pauses are over before their time: that is written at once.
pub(crate) fn over(inner: &Inner, pauses: &[Then]) {
    let of = |then: &Then| {
        let (source, site, organisation) = then.at;
        UsedOf { source, site, organisation, what: then.what.to_string().into() }
    };
    inner.used.lock().over.extend(pauses.iter().map(of));
    inner.used.bell.notify_one();
}

/// Writes every minute, and what is over before its time at once, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = sleep(WRITTEN) => write(&inner, Some(WRITTEN)).await,
            () = inner.used.bell.notified() => write(&inner, Some(WRITTEN)).await,
            () = inner.stopped() => return,
        }
    }
}

/// Writes down what is used by now, or may be until it is written `again`; with none, nothing will be.
pub(crate) async fn write(inner: &Inner, again: Option<Duration>) {
    let now = inner.clock.now();
    let rows = unwritten(inner, again, now);
    for some in rows.chunks(ROWS) {
        let (some, queue): (Arc<[_]>, _) = (some.into(), inner.queue.clone());
        let written = some.clone();
        let job = move |tx: &mut Tx<'_>, _: &[BlobId]| source::note_used(tx, &queue, &some);
        if let Err(error) = inner.store.write_with(Lane::Bulk, Vec::new(), job).await {
            tracing::warn!(%error, "what is used up of sites' rates cannot be written down; a restart would not know of it");
            // Next time.
            let mut state = inner.used.lock();
            for used in written.iter() {
                state.known.remove(&used.of);
                state.over.extend(Some(used.of.clone()).filter(|_| used.until <= now));
            }
        }
    }
    if !rows.is_empty() {
        let queue = inner.queue.clone();
        let job = move |tx: &mut Tx<'_>, _: &[BlobId]| source::forget_used(tx, &queue, now);
        if let Err(error) = inner.store.write_with(Lane::Bulk, Vec::new(), job).await {
            tracing::debug!(%error, "what is not used up any more cannot be forgotten");
        }
    }
}

/// What changed since it was written last: from now on it counts as written.
fn unwritten(inner: &Inner, again: Option<Duration>, now: Timestamp) -> Vec<source::Used> {
    let (mut rows, mut all, mut state) = (Vec::new(), HashMap::new(), inner.used.lock());
    let State { known, over } = &mut *state;
    let instant = Instant::now();
    over.iter().for_each(|of| _ = known.remove(of));
    let used = inner.hops.used(instant + again.unwrap_or_default());
    for ((source, site, organisation), name, Used { what, until, soon }) in used {
        let of = UsedOf { source, site, organisation, what: what.to_string().into() };
        let before = known.remove(&of);
        let is_written = before.is_some_and(|[then, written]| match again {
            Some(_) => until == then && soon <= written,
            None => until == written,
        });
        if !is_written && rows.len() == MOST {
            continue;
        }
        let written = before.filter(|_| is_written).unwrap_or([until, if again.is_some() { soon } else { until }]);
        if !is_written {
            let left = schedule::millis(written[1].saturating_duration_since(instant));
            rows.push(source::Used { of: of.clone(), name, until: Timestamp(now.0.saturating_add(left)) });
        }
        all.insert(of, written);
    }
    let none = |of| source::Used { of, name: Arc::default(), until: now };
    if again.is_none() {
        // Of these nothing is used up any more, and what was written says that something may be.
        let gone = known.drain().filter(|(_, [_, written])| *written > instant);
        rows.extend(gone.take(MOST).map(|(of, _)| none(of)));
    }
    // Unless the site asked for another pause meanwhile.
    rows.extend(over.drain(..).filter(|of| !all.contains_key(of)).map(none));
    *known = all;
    rows
}

impl Written {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
