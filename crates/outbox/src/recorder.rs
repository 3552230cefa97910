//! Writes what came of attempts, many in one job. As long as it cannot, nothing more is sent (trap 21): a mail that was
//! accepted elsewhere and is not known to be would be sent again.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use base::{BlobId, Timestamp};
use queue::receipt::Segment;
use queue::source::{self, Count, Fared};
use queue::{Group, Message, Outcome, QueueId, Release, Settled};
use store::{Lane, Tx};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::outbox::{Inner, PAUSE};
use crate::{dialogue, journal};

/// Claims that one job ends.
const BATCH: usize = 256;
/// When the server stops, a store that does not write is waited for so often; what is not written then is uncertain.
const LAST_TRIES: u32 = 5;

/// A claim that comes to its end.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are the large one")]
pub(crate) enum Done {
    /// By an attempt; by a source that is new, if it counts for one.
    Settled(Settled, Option<Box<Count>>),
    /// Without one.
    Release(Release, Group),
    /// Nothing comes after this.
    Stop,
}

/// Ends with [`Done::Stop`].
pub(crate) async fn run(
    inner: Arc<Inner>,
    mut done: mpsc::UnboundedReceiver<Done>,
    debts: mpsc::UnboundedSender<QueueId>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        batch.clear();
        if done.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (mut settled, mut released, mut groups, mut stop) = (Vec::new(), Vec::new(), Vec::new(), false);
        let mut new = Vec::new();
        for one in batch.drain(..) {
            match one {
                Done::Settled(s, count) => {
                    new.extend(count.map(|count| (settled.len(), *count)));
                    settled.push(s);
                }
                Done::Release(r, group) => {
                    released.push(r);
                    groups.push(group);
                }
                Done::Stop => stop = true,
            }
        }
        let (settled, released) = (Arc::new(classified(settled).await), Arc::new(released));
        let counts = counts(new, &settled);
        let owing = write(&inner, settled.clone(), released.clone(), counts).await;
        for s in &*settled {
            inner.hops.settled(s.message.stream, s.message.organisation);
            if let Outcome::Deferred(until) = s.outcome {
                inner.timetable.ring(s.message.group(&s.delivery), until.min(s.delivery.expires));
            }
        }
        for (release, group) in released.iter().zip(groups) {
            inner.hops.settled(group.stream, group.organisation);
            inner.timetable.ring(group, release.until);
        }
        inner.room.notify_one();
        for id in owing {
            let _ = debts.send(id);
        }
        if stop {
            return;
        }
    }
}

/// What came of those by sources that are new, whose places are given.
fn counts(new: Vec<(usize, Count)>, settled: &[Settled]) -> Arc<[(Count, Fared)]> {
    let mut counts = BTreeMap::<_, Fared>::new();
    for (at, count) in new {
        counts.entry(count).or_default().add(settled.get(at).map(dialogue::fared).unwrap_or_default());
    }
    counts.into_iter().filter(|(_, fared)| *fared != Fared::default()).collect()
}

/// With the class of each refusal, read on a thread that may take its time.
async fn classified(mut settled: Vec<Settled>) -> Vec<Settled> {
    let refusals = settled.iter().enumerate().filter(|(_, s)| dialogue::has_class(&s.said, s.outcome));
    let refusals: Vec<_> = refusals.map(|(at, s)| (at, s.message.clone(), s.said.clone(), s.outcome)).collect();
    if refusals.is_empty() {
        return settled;
    }
    let class = |(at, message, said, outcome): &(_, Arc<Message>, _, _)| {
        // One that makes it panic has no class, and the others theirs.
        let class = catch_unwind(AssertUnwindSafe(|| dialogue::class(message, said, *outcome)));
        (*at, class.unwrap_or_default())
    };
    let read = move || refusals.iter().map(class).collect::<Vec<_>>();
    match spawn_blocking(read).await {
        Ok(classes) => classes.into_iter().for_each(|(at, (class, rule))| {
            if let Some(s) = settled.get_mut(at) {
                (s.class, s.rule) = (class, rule);
            }
        }),
        Err(error) => tracing::error!(%error, deliveries = settled.len(), "what was answered cannot be read"),
    }
    settled
}

/// Writes until it is written. Gives the messages that owe their sender a report.
async fn write(
    inner: &Inner,
    settled: Arc<Vec<Settled>>,
    released: Arc<Vec<Release>>,
    counts: Arc<[(Count, Fared)]>,
) -> Vec<QueueId> {
    let (mut tries, mut doubtful) = (0, Vec::new());
    loop {
        let (queue, now) = (inner.queue.clone(), inner.clock.now());
        let (s, r, counts) = (settled.clone(), released.clone(), counts.clone());
        let written = async {
            // Packed here, not in the job: the writer has better to do.
            let segment = Segment::of(&queue, &s, now)?;
            let job = move |tx: &mut Tx<'_>, _: &[BlobId]| {
                queue::release(tx, &queue, &r, now)?;
                source::count(tx, &counts)?;
                queue::record(tx, &queue, &s, &segment, now)
            };
            inner.store.write_with(Lane::Patient, Vec::new(), job).await
        };
        match written.await {
            Ok(owing) => {
                inner.held.send_if_modified(|held| std::mem::replace(held, false));
                inner.journal.over(journal::keys(&settled));
                settled.iter().for_each(|s| {
                    inner.count(s.message.stream, s.outcome);
                    inner.waits.add(s, now);
                    log(s, now);
                });
                // A commit whose answer was lost is not made twice, and says nothing the second time.
                return owing.into_iter().chain(doubtful).collect();
            }
            Err(error) => {
                tracing::error!(%error, deliveries = settled.len(), "outcomes cannot be written; sending is held");
                inner.held.send_replace(true);
                let failed = settled.iter().filter(|s| !matches!(s.outcome, Outcome::Delivered { .. }));
                doubtful = failed.map(|s| s.message.id).collect();
            }
        }
        tries += 1;
        if inner.is_stopping() && tries >= LAST_TRIES {
            return Vec::new();
        }
        sleep(PAUSE).await;
    }
}

fn log(s: &Settled, now: Timestamp) {
    let (queue, to, host, reply) = (s.message.id, &s.delivery.to, &s.said.host, &s.said.reply);
    let seconds = (now.0 - s.message.created.0) / 1000;
    match s.outcome {
        Outcome::Delivered { .. } => tracing::info!(%queue, %to, host, %reply, seconds, "sent"),
        Outcome::Failed => tracing::info!(%queue, %to, host, %reply, seconds, "failed"),
        Outcome::Expired => tracing::info!(%queue, %to, host, %reply, seconds, "given up"),
        Outcome::Cancelled => tracing::info!(%queue, %to, %reply, seconds, "cancelled"),
        Outcome::Deferred(until) => {
            tracing::info!(%queue, %to, host, %reply, seconds, until = until.rfc3339(), "deferred");
        }
    }
}
