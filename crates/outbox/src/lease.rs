//! Where several nodes share a queue: says every so often that this one lives, hears what the others did, and takes over what
//! one had claimed that is silent. Who was taken over itself begins nothing and ends nothing any more.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use queue::source::{Setup, Source, SourceId};
use queue::{Life, Mark};
use store::Tx;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::journal::Journal;
use crate::outbox::{Inner, heard};

/// How long a node's claims are its own after it said that it lives. It is taken over a little later, and in all within 30 s
/// of its last word.
pub const LEASE: Duration = Duration::from_secs(12);
/// How often it says so.
const RENEW: Duration = Duration::from_secs(3);
/// It stops this much earlier than others may begin, and they begin as much later than they may: no clock is that wrong over
/// so short a time, and what is on its way to a host arrives.
const MARGIN: Duration = Duration::from_secs(2);
/// How often it is asked what others did.
const NEWS: Duration = Duration::from_millis(500);
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Other nodes that share the queue.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Where each has its journal; see [`journal_of`].
    pub journals: PathBuf,
    /// This one keeps what they share: it sends the reports that mail owes, and forgets what is old.
    pub keeps: bool,
    /// Whether this machine can send from the addresses of a source.
    pub can_use: fn(&Source) -> bool,
}

/// The journal of a node, by its number.
pub fn journal_of(journals: &Path, node: i64) -> PathBuf {
    journals.join(format!("attempts-{node:x}"))
}

/// Until when what this node has claimed is its own.
pub(crate) struct Lease(watch::Sender<State>);

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// There is nobody else.
    Endless,
    Until(Instant),
    /// Another has taken over.
    Over,
}

impl Lease {
    /// With peers one that has yet to begin.
    pub(crate) fn new(shared: bool) -> Self {
        let state = if shared { State::Until(Instant::now()) } else { State::Endless };
        Lease(watch::Sender::new(state))
    }

    /// Asked before an attempt is begun, and before a mail's last octet (trap 23).
    pub(crate) fn holds(&self) -> bool {
        match *self.0.borrow() {
            State::Endless => true,
            State::Until(end) => Instant::now() < end,
            State::Over => false,
        }
    }

    /// Waits until it holds; for ever when it is over.
    pub(crate) async fn held(&self) {
        let mut state = self.0.subscribe();
        while !self.holds() {
            if state.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Another node has taken over; never, where there is none.
    pub(crate) async fn over(&self) {
        let _ = self.0.subscribe().wait_for(|state| *state == State::Over).await;
    }

    fn set(&self, state: State) {
        self.0.send_replace(state);
    }
}

/// Keeps the lease, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let Some(peers) = &inner.peers else { return };
    let (mut renew, mut news) = (interval(RENEW), interval(NEWS));
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    news.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut mark, mut alone) = (Mark::default(), true);
    loop {
        tokio::select! {
            () = inner.stopped() => return,
            _ = renew.tick() => {
                let Some(lives) = speak(&inner).await else { return };
                alone = lives.len() < 2;
                for life in lives.iter().filter(|life| life.lapsed.is_some_and(|late| late > MARGIN)) {
                    take_over(&inner, peers, life).await;
                }
            }
            _ = news.tick(), if !alone => mark = listen(&inner, mark).await,
        }
    }
}

/// Keeps the lease while what was begun comes to its end; then others need not wait for it.
pub(crate) async fn leave(inner: &Inner, ended: impl Future<Output = ()>) {
    let spoken = async {
        while inner.peers.is_some() && speak(inner).await.is_some() {
            sleep(RENEW).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ended => {}
        () = spoken => {}
    }
    if inner.peers.is_some()
        && let Err(error) = inner.queue.leave(&inner.store).await
    {
        tracing::warn!(%error, "the other nodes could not be told that this one stops");
    }
}

/// Says that this node lives. Gives all that live or are not known to be dead; none when this one is over.
async fn speak(inner: &Inner) -> Option<Vec<Life>> {
    let (queue, asked) = (inner.queue.clone(), Instant::now());
    let job = move |tx: &mut Tx<'_>| queue::renew(tx, &queue, LEASE);
    match tokio::time::timeout(ANSWER, inner.store.write(job)).await {
        Ok(Ok(Some(lives))) => {
            // From before it was asked: the database may have counted from then.
            inner.lease.set(State::Until(asked + LEASE - MARGIN));
            Some(lives)
        }
        Ok(Ok(None)) => {
            tracing::error!("another node took over what this one had claimed: it was silent for too long");
            inner.lease.set(State::Over);
            None
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the other nodes cannot be told that this one lives; sending is held when they take over");
            Some(Vec::new())
        }
        Err(_) => {
            tracing::error!("the database does not answer; sending is held before other nodes take over");
            Some(Vec::new())
        }
    }
}

async fn take_over(inner: &Arc<Inner>, peers: &Peers, life: &Life) {
    let path = journal_of(&peers.journals, life.node);
    let remains = tokio::task::spawn_blocking(move || Journal::remains(&path)).await.ok().flatten();
    let known = remains.as_ref().is_some_and(|remains| remains.epoch == life.epoch);
    match inner.queue.take_over(&inner.store, life.epoch, remains, inner.clock.now()).await {
        Ok(Some(deliveries)) => {
            let (node, silent) = (&life.name, life.lapsed.map(|late| (late + LEASE).as_secs()));
            tracing::warn!(
                node,
                silent,
                deliveries,
                known,
                "took over from a node: these deliveries are sent again, perhaps twice"
            );
            heard(inner, &queue::Event::Changed);
        }
        // It has spoken, or another was faster.
        Ok(None) => {}
        Err(error) => tracing::error!(node = life.name, %error, "a silent node could not be taken over"),
    }
}

/// What others did is as good as done here.
async fn listen(inner: &Arc<Inner>, mark: Mark) -> Mark {
    let (queue, now, known) = (inner.queue.clone(), inner.clock.now(), mark.clone());
    match inner.store.read(move |tx| queue::news(tx, &queue, &known, now)).await {
        Ok((events, mark)) => {
            events.iter().for_each(|event| heard(inner, event));
            mark
        }
        Err(error) => {
            tracing::debug!(%error, "it cannot be read what other nodes did");
            mark
        }
    }
}

/// Leaves of what is set up what this node sends by: sources of its own, which no other has at the same time.
pub(crate) async fn share(inner: &Inner, setup: &mut Setup) -> store::Result<()> {
    let Some(peers) = &inner.peers else { return Ok(()) };
    let can: Vec<SourceId> = setup.sources.iter().filter(|s| (peers.can_use)(s)).map(|s| s.id).collect();
    let queue = inner.queue.clone();
    let held = inner.store.write(move |tx| queue::hold_sources(tx, &queue, &can)).await?;
    setup.restrict(&held);
    Ok(())
}
