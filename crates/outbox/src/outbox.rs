//! The scheduler: claims what is due, hands it to workers, and brings everything to a clean end.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Clock, Reply, Timestamp};
use directory::{Directory, Random};
use net::{ClientTls, Dialer, Resolver, Roots, TlsError};
use queue::{Claimed, Delivery, Due, Event, Held, Message, Outcome, Queue, QueueId, Release, Said, Settled};
use store::{Store, Tx};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::connection::ours;
use crate::finder::{self, Finder};
use crate::hops::{Added, Hops, Later, Work};
use crate::recorder::{self, Done};
use crate::route::{Hop, Routes};
use crate::shape::{Course, Policies};
use crate::{reporter, schedule, worker};

/// Deliveries that one job claims: a few milliseconds of work.
const BATCH: usize = 256;
/// The longest time without a look at what is due: the clock may have been set.
const LOOK: Duration = Duration::from_secs(60);
/// How long to wait after the store failed.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How long connections get to end what they are at, when the server stops.
const DRAIN: Duration = Duration::from_secs(15);
/// How often packs are looked for that nothing refers to any more.
const SWEEP: Duration = Duration::from_secs(600);

/// What the outbox stands on.
pub struct Parts {
    /// The store.
    pub store: Store,
    /// The right to claim.
    pub queue: Queue,
    /// Who is who: reports reach senders of ours directly.
    pub directory: Directory,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The DNS.
    pub resolver: Resolver,
    /// The DNS, validated: for mail that must not be led astray (RFC 8689).
    pub validating: Resolver,
    /// The way to other hosts.
    pub dialer: Dialer,
    /// Whose certificates are good, where a password is at stake.
    pub roots: Roots,
    /// Randomness.
    pub random: Random,
    /// Our name, for EHLO and in reports.
    pub hostname: String,
    /// What the administrator says about the way out.
    pub routes: Routes,
}

/// Why there is no [`Outbox`].
#[derive(Debug)]
pub enum OutboxError {
    /// TLS as a client cannot be set up.
    Tls(TlsError),
    /// What is known of sites cannot be read.
    Policies(String),
}

impl From<TlsError> for OutboxError {
    fn from(error: TlsError) -> Self {
        OutboxError::Tls(error)
    }
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutboxError::Tls(error) => error.fmt(f),
            OutboxError::Policies(why) => write!(f, "the policies for sites: {why}"),
        }
    }
}

impl std::error::Error for OutboxError {}

/// Sends what is in the queue. One for the whole server.
pub struct Outbox {
    inner: Arc<Inner>,
    done: mpsc::UnboundedReceiver<Done>,
    owing: (mpsc::UnboundedSender<QueueId>, mpsc::UnboundedReceiver<QueueId>),
    stop: watch::Sender<bool>,
    due: Arc<Notify>,
}

/// What the tasks share.
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) directory: Directory,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) resolver: Resolver,
    pub(crate) validating: Resolver,
    pub(crate) dialer: Dialer,
    pub(crate) opportunistic: ClientTls,
    pub(crate) verified: ClientTls,
    pub(crate) hostname: String,
    pub(crate) routes: Routes,
    pub(crate) hops: Hops,
    pub(crate) finder: Finder,
    /// A worker ended, or who asks for a way.
    pub(crate) left: Notify,
    /// There is room for claims again.
    pub(crate) room: Notify,
    /// True while outcomes cannot be written.
    pub(crate) held: watch::Sender<bool>,
    /// By outcome: delivered, deferred, bounced, expired.
    pub(crate) outcomes: [AtomicU64; 4],
    random: Random,
    /// To the recorder; never more in it than deliveries are in hand.
    done: mpsc::UnboundedSender<Done>,
    stopping: watch::Receiver<bool>,
}

impl Outbox {
    /// Begins to listen to the store; nothing is sent before [`Outbox::run`].
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn new(parts: Parts) -> Result<Self, OutboxError> {
        let ((done, recorder), owing) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let ((stop, stopping), due) = (watch::channel(false), Arc::new(Notify::new()));
        let (bell, debts) = (due.clone(), owing.0.clone());
        let inner = Inner {
            opportunistic: ClientTls::opportunistic(&parts.roots)?,
            verified: ClientTls::verified(&parts.roots)?,
            store: parts.store.clone(),
            queue: parts.queue,
            directory: parts.directory,
            clock: parts.clock,
            resolver: parts.resolver,
            validating: parts.validating,
            dialer: parts.dialer,
            hostname: parts.hostname,
            routes: parts.routes,
            random: parts.random,
            hops: Hops::new(Policies::shipped().map_err(OutboxError::Policies)?),
            finder: Finder::default(),
            left: Notify::new(),
            room: Notify::new(),
            held: watch::Sender::new(false),
            outcomes: Default::default(),
            done,
            stopping,
        };
        let (inner, store) = (Arc::new(inner), parts.store);
        let lines = Arc::downgrade(&inner);
        store.subscribe(Box::new(move |event| match event.downcast_ref() {
            Some(Event::Due) => bell.notify_one(),
            Some(Event::Owing(id)) => drop(debts.send(*id)),
            Some(Event::Cancelling(id)) => drop(lines.upgrade().map(|inner| cancelled(&inner, *id))),
            None => {}
        }));
        Ok(Outbox { inner, done: recorder, owing, stop, due })
    }

    /// What it is at.
    pub fn meter(&self) -> Meter {
        Meter(self.inner.clone())
    }

    /// Sends until `stop` is done. Then connections end what they are at, what was not begun is given back, and the last
    /// outcomes are written: a clean stop leaves no claim behind (trap 22).
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Outbox { inner, done, owing: (debts, owing), stop: stopped, due } = self;
        if inner.queue.uncertain() > 0 {
            let deliveries = inner.queue.uncertain();
            tracing::warn!(deliveries, "the server ended while it sent these: they are sent again, perhaps twice");
        }
        let recorder = tokio::spawn(recorder::run(inner.clone(), done, debts));
        let reporter = tokio::spawn(reporter::run(inner.clone(), owing));
        let sweeper = tokio::spawn(sweep(inner.clone()));
        let told = async {
            stop.await;
            let _ = stopped.send(true);
        };
        tokio::join!(dispatch(&inner, &due), told);
        give_back(&inner);
        let left = async {
            while inner.hops.workers() + inner.finder.asking() > 0 {
                inner.left.notified().await;
            }
        };
        if timeout(DRAIN, left).await.is_err() {
            tracing::warn!(connections = inner.hops.workers(), "some connections did not end in time");
        }
        // Work that a connection gave back meanwhile.
        give_back(&inner);
        let _ = inner.done.send(Done::Stop);
        let _ = tokio::join!(recorder, reporter, sweeper);
    }
}

/// What an outbox is at, for those who watch it.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

impl Meter {
    /// Deliveries that are claimed now.
    pub fn claimed(&self) -> usize {
        self.0.hops.in_hand()
    }

    /// How many attempts ended so, since the server began.
    pub fn outcomes(&self) -> [(&'static str, u64); 4] {
        let n = |i: usize| self.0.outcomes[i].load(Ordering::Relaxed);
        [("delivered", n(0)), ("deferred", n(1)), ("bounced", n(2)), ("expired", n(3))]
    }
}

impl Inner {
    /// What came of an attempt is on disk.
    pub(crate) fn count(&self, outcome: Outcome) {
        let i = match outcome {
            Outcome::Delivered { .. } => 0,
            Outcome::Deferred(_) => 1,
            Outcome::Failed => 2,
            Outcome::Expired => 3,
        };
        self.outcomes[i].fetch_add(1, Ordering::Relaxed);
    }
}

/// Claims and hands out, until the server stops. Never dropped half-way: a claim that is made must be handed out.
async fn dispatch(inner: &Arc<Inner>, due: &Notify) {
    let mut doubtful = Vec::new();
    loop {
        inner.until_not_held().await;
        if inner.is_stopping() {
            return;
        }
        let room = inner.hops.room().min(BATCH);
        let wait = if room == 0 { None } else { Some(claim(inner, room, &mut doubtful).await) };
        tokio::select! {
            () = inner.stopped() => return,
            () = inner.room.notified(), if wait.is_none() => {}
            () = due.notified(), if wait.is_some() => {}
            () = sleep(wait.unwrap_or(LOOK)) => {}
        }
    }
}

/// Claims as much as there is room for and hands it out; gives how long nothing more is due. `doubtful` are claims of
/// which it is not known whether they were made.
async fn claim(inner: &Arc<Inner>, room: usize, doubtful: &mut Vec<Release>) -> Duration {
    let found = match take_back(inner, doubtful).await {
        Ok(()) => claim_due(inner, room, doubtful).await,
        Err(error) => Err(error),
    };
    let (Due { claimed, held }, next) = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "nothing can be claimed from the queue; trying again");
            return PAUSE;
        }
    };
    for Held { message, number, why } in held {
        tracing::error!(queue = %message, number, error = %why, "a delivery cannot be read and is held");
    }
    let n = count(&claimed);
    inner.hops.claimed(n);
    for c in claimed {
        hand_out(inner, c);
    }
    match next {
        _ if n == room => Duration::ZERO,
        Some(next) => until(next, inner.clock.now()),
        None => LOOK,
    }
}

async fn claim_due(inner: &Inner, room: usize, doubtful: &mut Vec<Release>) -> store::Result<(Due, Option<Timestamp>)> {
    let (queue, now) = (inner.queue.clone(), inner.clock.now());
    // An error may mean that the commit was not answered. What the job wanted is known then all the same.
    let wanted = Arc::new(Mutex::new(Vec::new()));
    let note = wanted.clone();
    let job = move |tx: &mut Tx<'_>| {
        let due = queue::claim_due(tx, &queue, room as u32, now)?;
        let mut wanted = note.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.clear();
        for c in &due.claimed {
            let one = |d: &Delivery| Release { message: c.message.id, number: d.number, until: now };
            wanted.extend(c.deliveries.iter().map(one));
        }
        Ok((due, queue::next_due(tx)?))
    };
    let found = inner.store.write(job).await;
    if found.is_err() {
        doubtful.append(&mut wanted.lock().unwrap_or_else(PoisonError::into_inner));
    }
    found
}

async fn take_back(inner: &Inner, doubtful: &mut Vec<Release>) -> store::Result<()> {
    if doubtful.is_empty() {
        return Ok(());
    }
    let (queue, all) = (inner.queue.clone(), doubtful.clone());
    inner.store.write(move |tx| queue::take_back(tx, &queue, &all)).await?;
    doubtful.clear();
    Ok(())
}

fn count(claimed: &[Claimed]) -> usize {
    claimed.iter().map(|c| c.deliveries.len()).sum()
}

/// From `now` to `next`, rounded up: not a millisecond too early.
fn until(next: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis((next.0 - now.0).clamp(0, LOOK.as_millis() as i64) as u64)
}

/// A message's deliveries: to a hop of the administrator's all that are his, else to each domain its own.
fn hand_out(inner: &Arc<Inner>, claimed: Claimed) {
    let Claimed { message, deliveries } = claimed;
    let (mut by_hop, mut by_domain) = (HashMap::<Hop, Vec<Delivery>>::new(), HashMap::<String, Vec<Delivery>>::new());
    for delivery in deliveries {
        match inner.routes.chosen(delivery.to.domain(), message.require_tls) {
            Some(hop) => by_hop.entry(hop).or_default().push(delivery),
            None => by_domain.entry(delivery.to.domain().to_owned()).or_default().push(delivery),
        }
    }
    let work = |deliveries| Work { message: message.clone(), deliveries, again: false };
    for (hop, deliveries) in by_hop {
        line_up(inner, &hop, work(deliveries));
    }
    for (domain, deliveries) in by_domain {
        finder::find(inner, &domain, message.require_tls, work(deliveries));
    }
}

/// Puts work in line for its hop.
pub(crate) fn line_up(inner: &Arc<Inner>, hop: &Hop, work: Work) {
    match inner.hops.add(hop, work) {
        Added::InLine => {}
        Added::Start => worker::start(inner, hop.clone()),
        Added::Later(work, wait) => too_many(inner, work, wait),
    }
}

/// All of it later.
pub(crate) fn put_off(inner: &Inner, all: Vec<Later>) {
    all.into_iter().for_each(|(work, wait)| too_many(inner, work, wait));
}

/// More than the hop's or the network's share: it comes again later, unless its time is over (trap 20).
pub(crate) fn too_many(inner: &Inner, work: Work, wait: Duration) {
    let now = inner.clock.now();
    for d in work.deliveries {
        if now >= d.expires {
            let said = ours(Reply::new(451, 4, 5, "No attempt was made: there is too much mail for that host"));
            inner.settle(&work.message, d, Outcome::Expired, said);
        } else {
            inner.release(work.message.id, d.number, Timestamp(now.0 + wait.as_millis() as i64));
        }
    }
}

/// The administrator wants a message back: what is in line is not begun any more.
fn cancelled(inner: &Inner, id: QueueId) {
    let now = inner.clock.now();
    for work in inner.hops.take_out(id).into_iter().chain(inner.finder.take_out(id)) {
        work.deliveries.iter().for_each(|d| inner.release(id, d.number, now));
    }
}

/// All that is in line goes back to the queue.
fn give_back(inner: &Inner) {
    let now = inner.clock.now();
    for work in inner.hops.drain().into_iter().chain(inner.finder.drain()) {
        for d in &work.deliveries {
            inner.release(work.message.id, d.number, now);
        }
    }
}

async fn sweep(inner: Arc<Inner>) {
    loop {
        match inner.store.sweep_transit(queue::refers_between).await {
            Ok(0) => {}
            Ok(packs) => tracing::debug!(packs, "removed what finished mails left"),
            Err(error) => tracing::warn!(%error, "what finished mails left could not be removed"),
        }
        inner.hops.forget();
        tokio::select! {
            () = sleep(SWEEP) => {}
            () = inner.stopped() => return,
        }
    }
}

impl Inner {
    /// A number that nobody foresees; zero when the machine has no randomness to give, which is as good here.
    pub(crate) fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        match (self.random)(&mut bytes) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => 0,
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }

    /// Waits while outcomes cannot be written, or until the server stops.
    pub(crate) async fn until_not_held(&self) {
        if *self.held.borrow() {
            let mut held = self.held.subscribe();
            tokio::select! {
                _ = held.wait_for(|held| !*held) => {}
                () = self.stopped() => {}
            }
        }
    }

    /// A delivery's attempt came to this.
    pub(crate) fn settle(&self, message: &Arc<Message>, delivery: Delivery, outcome: Outcome, said: Said) {
        let settled = Settled { message: message.clone(), delivery, outcome, said };
        let _ = self.done.send(Done::Settled(settled));
    }

    /// A delivery was not taken: again later, or the end of it.
    pub(crate) fn settle_failure(
        &self,
        message: &Arc<Message>,
        delivery: Delivery,
        said: Said,
        transient: bool,
        course: Course,
    ) {
        let transient = (transient || course.keep) && !course.stop;
        let wait = transient.then(|| {
            let retry = &self.hops.policies().retry;
            course.wait.map_or_else(|| schedule::interval(retry, delivery.attempts), schedule::millis)
        });
        let (outcome, said) = schedule::judge(&delivery, said, wait, self.clock.now(), self.random());
        self.settle(message, delivery, outcome, said);
    }

    /// The same answer for all.
    pub(crate) fn settle_all(&self, work: Work, said: &Said) {
        for delivery in work.deliveries {
            let transient = said.reply.is_transient();
            self.settle_failure(&work.message, delivery, said.clone(), transient, Course::default());
        }
    }

    fn release(&self, message: QueueId, number: u32, until: Timestamp) {
        let _ = self.done.send(Done::Release(Release { message, number, until }));
    }
}
