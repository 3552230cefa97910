//! The outbox: what its parts share, and how all of it begins and comes to a clean end.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use base::{Clock, Stream, Timestamp};
use directory::{Directory, Random};
use net::{ClientTls, Dialer, Https, Identity, Resolver, Roots, TlsError};
use queue::source::SourceId;
use queue::{Bodies, Delivery, Event, Group, Message, Outcome, Queue, QueueId, Release, Remains, Said, Settled};
use queue::{log, receipt, suppression};
use store::{Lane, Store, Tx};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use trust::{Keys, Verp};

use crate::bodies::Makers;
use crate::dane::Proof;
use crate::finder::{Finder, Looked};
use crate::hops::{Hops, Kept, Pause, Permit, SiteState, Traffic, Work, hour_of};
use crate::journal::Journal;
use crate::lease::{self, Lease, Peers};
use crate::pauses::Ended;
use crate::recorder::{self, Done};
use crate::route::Routes;
use crate::shape::{Course, Policies};
use crate::sts::{self, Guards};
use crate::tally::{self, Tally};
use crate::timetable::{Timetable, Why};
use crate::unchunked::Unchunked;
use crate::used::{self, Written};
use crate::waits::{Waited, Waits};
use crate::{dane, dispatch, pauses, reporter, schedule, tls_reports};

/// How long to wait after the store failed.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// How long connections get to end what they are at, when the server stops.
const DRAIN: Duration = Duration::from_secs(15);
/// How often packs are looked for that nothing refers to any more, and receipts that are old or may be merged.
const SWEEP: Duration = Duration::from_secs(600);
/// Old receipts that one job removes, and segments, which are larger.
const FORGOTTEN: u32 = 200;
const SEGMENTS: u32 = 20;

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
    /// The DNS, as it is where nothing can be proven.
    pub resolver: Resolver,
    /// The DNS, validated: asked for the way of all mail as soon as it proves anything (RFC 7672, RFC 8689).
    pub validating: Resolver,
    /// The way to other hosts.
    pub dialer: Dialer,
    /// Whose certificates are good, where a password or a policy is at stake.
    pub roots: Roots,
    /// What hosts are shown that ask for a certificate of ours.
    pub identity: Option<Identity>,
    /// Randomness.
    pub random: Random,
    /// Our name, for EHLO and in reports.
    pub hostname: String,
    /// What the administrator says about the way out.
    pub routes: Routes,
    /// Who makes the mails that are not stored; without one they wait.
    pub bodies: Option<Arc<dyn Bodies>>,
    /// How long receipts are kept.
    pub keep: Keep,
    /// A file in which attempts are noted ([`remains`]); without one, whatever is claimed when the process dies is uncertain.
    pub journal: Option<PathBuf>,
    /// Other processes that send what is in the queue.
    pub peers: Option<Peers>,
}

/// How long receipts are kept, each kind of record by itself.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Who, when, how it ended, and what was heard since.
    pub receipts: Duration,
    /// What was said.
    pub dialogues: Duration,
}

impl Default for Keep {
    /// 90 days, and 30.
    fn default() -> Self {
        let days = |n: u64| Duration::from_secs(n * 24 * 3600);
        Keep { receipts: days(90), dialogues: days(30) }
    }
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
    https: Https,
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
    /// For those who do not take the certificate that the others show.
    pub(crate) nameless: Option<ClientTls>,
    pub(crate) verified: ClientTls,
    pub(crate) hostname: String,
    pub(crate) routes: Routes,
    keep: Keep,
    pub(crate) hops: Hops,
    pub(crate) finder: Finder,
    pub(crate) guards: Guards,
    pub(crate) unchunked: Arc<Unchunked>,
    pub(crate) proof: Proof,
    pub(crate) tally: Tally,
    pub(crate) used: Written,
    pub(crate) ended: Ended,
    pub(crate) makers: Makers,
    /// For mail of our own that is to be signed.
    pub(crate) keys: Keys,
    /// Return addresses for single deliveries.
    pub(crate) verp: Verp,
    pub(crate) timetable: Timetable,
    pub(crate) journal: Journal,
    pub(crate) peers: Option<Peers>,
    pub(crate) lease: Lease,
    /// What mail leaves by was set up otherwise.
    pub(crate) changed: AtomicBool,
    /// All that waits is to be looked at.
    pub(crate) look: Notify,
    /// A worker ended, or who asks for a way.
    pub(crate) left: Notify,
    /// Messages that are just being delivered here.
    pub(crate) local: AtomicUsize,
    /// There is room for claims again.
    pub(crate) room: Notify,
    /// True while outcomes cannot be written.
    pub(crate) held: watch::Sender<bool>,
    /// How often an address was suppressed.
    pub(crate) suppressed: AtomicU64,
    /// By stream, and by outcome: delivered, deferred, bounced, expired.
    pub(crate) outcomes: [[AtomicU64; 4]; 3],
    pub(crate) waits: Waits,
    random: Random,
    /// To the recorder; never more in it than deliveries are in hand.
    done: mpsc::UnboundedSender<Done>,
    stopping: watch::Receiver<bool>,
}

/// What an attempt may come to, in words, by [`counted`].
pub const OUTCOMES: [&str; 4] = ["delivered", "deferred", "bounced", "expired"];

impl Outbox {
    /// Begins to listen to the store; nothing is sent before [`Outbox::run`].
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn new(parts: Parts) -> Result<Self, OutboxError> {
        Outbox::by(Policies::shipped().map_err(OutboxError::Policies)?, parts)
    }

    /// As [`Outbox::new`], but a sender that treats all sites alike, with so many connections and mails a second for each,
    /// and does not hear what they say about it: what others are to be measured by.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn flat(parts: Parts, connections: usize, per_second: u32) -> Result<Self, OutboxError> {
        Outbox::by(Policies::flat(connections, per_second), parts)
    }

    fn by(policies: Policies, parts: Parts) -> Result<Self, OutboxError> {
        let ((done, recorder), owing) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
        let ((stop, stopping), debts) = (watch::channel(false), owing.0.clone());
        let https = Https::new(parts.dialer.clone(), parts.resolver.clone(), &parts.roots)?.public();
        let guards = Guards::new(https.clone());
        let journal = Journal::begin(parts.journal.as_deref(), parts.queue.epoch());
        let opportunistic = ClientTls::opportunistic(&parts.roots)?;
        let showing = |tls: ClientTls| match &parts.identity {
            Some(identity) => tls.showing(identity),
            None => tls,
        };
        let inner = Inner {
            opportunistic: showing(opportunistic.clone()),
            verified: showing(ClientTls::verified(&parts.roots)?),
            nameless: parts.identity.is_some().then_some(opportunistic),
            store: parts.store.clone(),
            queue: parts.queue,
            directory: parts.directory,
            clock: parts.clock,
            resolver: parts.resolver,
            validating: parts.validating,
            dialer: parts.dialer,
            hostname: parts.hostname,
            routes: parts.routes,
            keep: parts.keep,
            random: parts.random,
            hops: Hops::new(policies),
            finder: Finder::default(),
            guards,
            unchunked: Arc::default(),
            proof: Proof::default(),
            tally: Tally::default(),
            used: Written::default(),
            ended: Ended::default(),
            makers: Makers::new(parts.bodies),
            keys: Keys::new(parts.store.clone()),
            verp: Verp::new(parts.store.clone()),
            timetable: Timetable::default(),
            journal,
            lease: Lease::new(parts.peers.is_some()),
            peers: parts.peers,
            changed: AtomicBool::new(true),
            look: Notify::new(),
            left: Notify::new(),
            local: AtomicUsize::new(0),
            room: Notify::new(),
            held: watch::Sender::new(false),
            suppressed: AtomicU64::new(0),
            outcomes: Default::default(),
            waits: Waits::default(),
            done,
            stopping,
        };
        let (inner, store) = (Arc::new(inner), parts.store);
        let lines = Arc::downgrade(&inner);
        store.subscribe(Box::new(move |event| match event.downcast_ref() {
            Some(Event::Owing(id)) => drop(debts.send(*id)),
            Some(event) => drop(lines.upgrade().map(|inner| heard(&inner, event))),
            None if event.is::<store::Gap>() => drop(lines.upgrade().map(|inner| missed(&inner))),
            None => {}
        }));
        Ok(Outbox { inner, done: recorder, owing, stop, https })
    }

    /// What it is at.
    pub fn meter(&self) -> Meter {
        Meter(self.inner.clone())
    }

    /// Sends until `stop` is done. Then connections end what they are at, what was not begun is given back, and the last
    /// outcomes are written: a clean stop leaves no claim behind (trap 22).
    ///
    /// Where the future is dropped before, connections begin no other mail, and no outcome is
    /// written any more.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Outbox { inner, done, owing: (debts, owing), stop: stopped, https } = self;
        if inner.queue.uncertain() > 0 {
            let deliveries = inner.queue.uncertain();
            tracing::warn!(deliveries, "the server ended while it sent these: they are sent again, perhaps twice");
        }
        let keeps = inner.keeps();
        let (mut tasks, mut lease) = (JoinSet::new(), JoinSet::new());
        tasks.spawn(recorder::run(inner.clone(), done, debts));
        tasks.spawn(only_if(keeps, reporter::run(inner.clone(), owing)));
        tasks.spawn(sweep(inner.clone()));
        tasks.spawn(sts::run(inner.clone()));
        tasks.spawn(only_if(keeps, tls_reports::run(inner.clone(), https)));
        tasks.spawn(dane::run(inner.clone()));
        tasks.spawn(tally::run(inner.clone()));
        tasks.spawn(used::run(inner.clone()));
        tasks.spawn(pauses::run(inner.clone()));
        lease.spawn(lease::run(inner.clone()));
        let told = async {
            stop.await;
            let _ = stopped.send(true);
        };
        tokio::join!(dispatch::run(&inner), dispatch::look(&inner), told);
        while lease.join_next().await.is_some() {}
        give_back(&inner);
        let ended = async {
            let left = async {
                while inner.hops.workers() + inner.finder.asking() + inner.local.load(Ordering::Relaxed) > 0 {
                    inner.left.notified().await;
                }
            };
            if timeout(DRAIN, left).await.is_err() {
                tracing::warn!(connections = inner.hops.workers(), "some connections did not end in time");
            }
            // Work that a connection gave back meanwhile.
            give_back(&inner);
            let _ = inner.done.send(Done::Stop);
            while tasks.join_next().await.is_some() {}
            // Of the connections that have ended, too.
            tally::write(&inner).await;
            used::write(&inner, None).await;
        };
        lease::leave(&inner, ended).await;
    }
}

/// What is known of the attempts of a server that was killed, from the file that was its [`Parts::journal`]; for
/// [`Queue::recover`].
pub fn remains(journal: &Path) -> Option<Remains> {
    Journal::remains(journal)
}

/// What an outbox is at, for those who watch it.
#[derive(Clone)]
pub struct Meter(Arc<Inner>);

impl Meter {
    /// Deliveries that are claimed now.
    pub fn claimed(&self) -> usize {
        self.0.hops.in_hand()
    }

    /// When the delivery that is due longest was or is due; none when nothing waits.
    pub fn first_due(&self) -> Option<Timestamp> {
        self.0.timetable.first_due()
    }

    /// Until when nothing of a group is claimed, and why; in the past when it is.
    pub fn held(&self, group: Group) -> Option<(Timestamp, Why)> {
        self.0.timetable.held(group)
    }

    /// Where mail of a group goes that there was no place for; none when that is not known, or nothing was held.
    pub fn kept(&self, group: Group) -> Option<Kept> {
        let hop = self.0.timetable.hop(group)?;
        Some(self.0.hops.kept(&hop, group.stream, group.organisation))
    }

    /// How many groups, of a stream and a domain, are held: there is no place for their mail, or its site wants none now.
    pub fn held_groups(&self) -> usize {
        self.0.timetable.held_groups(self.0.clock.now())
    }

    /// What is known of sites now, of that name if one is given: those with most mail in line first, at most `most`.
    pub fn sites(&self, named: Option<&str>, most: usize) -> Vec<SiteState> {
        self.0.hops.sites(named, most)
    }

    /// What sites of a name asked for, by one source or all.
    pub fn pauses(&self, site: &str, source: Option<SourceId>) -> Vec<Pause> {
        self.0.hops.pauses(site, source)
    }

    /// The site for which a delivery stands in line, if it does.
    pub fn waits_for(&self, message: QueueId, number: u32) -> Option<SiteState> {
        self.0.hops.waits_for(message, number)
    }

    /// What is being looked for before a delivery can stand in a line, if that is so.
    pub fn looks_for(&self, message: QueueId, number: u32) -> Option<Looked> {
        self.0.finder.looks_for(message, number)
    }

    /// Whether the DNS is proven (DNSSEC), and DANE protects mail.
    pub fn validates(&self) -> bool {
        self.0.proof.is_to_be_had()
    }

    /// Recipients by source, site and stream, since the server began, and what their attempts came to. There is a bounded number of sites;
    /// the rest is "other".
    pub fn traffic(&self) -> Vec<Traffic> {
        self.0.hops.traffic()
    }

    /// How long mail of a stream waited for its first attempt, since the server began: from when it was accepted, or was to leave.
    pub fn waited(&self, stream: Stream) -> Waited {
        self.0.waits.of(stream)
    }

    /// How many sites, each as a source knows it, want nothing now.
    pub fn paused_sites(&self) -> usize {
        self.0.hops.paused()
    }

    /// Done when another node has taken over what this one had claimed: it must not go on.
    pub async fn over(&self) {
        self.0.lease.over().await;
    }

    /// How many attempts ended so, since the server began.
    pub fn outcomes(&self) -> [(&'static str, u64); 4] {
        let all = Stream::ALL.map(|stream| self.outcomes_of(stream));
        let [first, ..] = all;
        std::array::from_fn(|i| (first[i].0, all.iter().map(|of| of[i].1).sum()))
    }

    /// How many attempts with mail of a stream ended so, since the server began.
    pub fn outcomes_of(&self, stream: Stream) -> [(&'static str, u64); 4] {
        let n = |i: usize| self.0.outcomes[stream.stored() as usize][i].load(Ordering::Relaxed);
        std::array::from_fn(|i| (OUTCOMES[i], n(i)))
    }
}

async fn only_if(yes: bool, work: impl Future<Output = ()>) {
    if yes {
        work.await;
    }
}

/// Something changed, here or by another node.
pub(crate) fn heard(inner: &Inner, event: &Event) {
    match event {
        Event::Due(groups, at) => inner.timetable.ring_all(groups, *at),
        Event::Retried(groups, at) => {
            inner.timetable.let_go(groups);
            inner.timetable.ring_all(groups, *at);
        }
        Event::Changed => {
            inner.changed.store(true, Ordering::Relaxed);
            inner.timetable.bell.notify_one();
        }
        Event::Cancelling(id) => take_out(inner, |work| work.message.id == *id),
        Event::Suppressed(to) => {
            inner.suppressed.fetch_add(1, Ordering::Relaxed);
            take_out(inner, |work| work.deliveries.iter().any(|d| d.to.is_alike(to)));
        }
        Event::PausesEnded { site, source, noted } => pauses::heard(inner, site, *source, noted),
        Event::Owing(_) => {}
    }
}

impl Inner {
    /// What came of an attempt is on disk.
    pub(crate) fn count(&self, stream: Stream, outcome: Outcome) {
        if let Some(i) = counted(outcome) {
            self.outcomes[stream.stored() as usize][i].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Its place among delivered, deferred, bounced and expired.
pub(crate) fn counted(outcome: Outcome) -> Option<usize> {
    match outcome {
        Outcome::Delivered { .. } => Some(0),
        Outcome::Deferred(_) => Some(1),
        Outcome::Failed => Some(2),
        Outcome::Expired => Some(3),
        // Nothing was attempted.
        Outcome::Cancelled => None,
    }
}

/// Something may have changed, and nobody knows what: all that is in line passes the gate again.
fn missed(inner: &Inner) {
    heard(inner, &Event::Changed);
    inner.suppressed.fetch_add(1, Ordering::Relaxed);
    take_out(inner, |_| true);
}

/// What is in line of these is not begun, but goes back to the queue: to be cancelled there, or claimed anew.
fn take_out(inner: &Inner, which: impl Fn(&Work) -> bool) {
    let now = inner.clock.now();
    for work in inner.hops.take_out(&which).into_iter().chain(inner.finder.take_out(&which)) {
        work.deliveries.iter().for_each(|d| inner.release(&work.message, d, now));
    }
}

/// All that is in line goes back to the queue.
fn give_back(inner: &Inner) {
    let now = inner.clock.now();
    for work in inner.hops.drain().into_iter().chain(inner.finder.drain()) {
        for d in &work.deliveries {
            inner.release(&work.message, d, now);
        }
    }
}

/// Old receipts, a few at a time.
async fn forget(inner: &Inner) -> store::Result<()> {
    let now = inner.clock.now();
    let before = |age: Duration| Timestamp(now.0 - schedule::millis(age));
    let (receipts, dialogues) = (before(inner.keep.receipts), before(inner.keep.dialogues));
    let gone = move |tx: &mut Tx<'_>| {
        Ok(receipt::forget_receipts(tx, receipts, FORGOTTEN)?
            + receipt::forget_segments(tx, receipts, SEGMENTS)?
            + receipt::forget_dialogues(tx, dialogues, SEGMENTS)?
            + log::forget(tx, dialogues, FORGOTTEN)?
            + suppression::forget(tx, now, FORGOTTEN)?)
    };
    while !inner.is_stopping() && inner.store.write_with(Lane::Bulk, Vec::new(), move |tx, _| gone(tx)).await? > 0 {}
    Ok(())
}

/// Small segments of receipts become large ones, one in each job.
async fn merge(inner: &Inner) -> store::Result<()> {
    let mut behind = 0;
    while !inner.is_stopping() {
        let (queue, now) = (inner.queue.clone(), inner.clock.now());
        let found = inner.store.read(move |tx| receipt::to_merge(tx, &queue, behind, now)).await?;
        let Some(merge) = found else { return Ok(()) };
        behind = merge.last();
        inner.store.write_with(Lane::Bulk, Vec::new(), move |tx, _| merge.write(tx)).await?;
    }
    Ok(())
}

async fn sweep(inner: Arc<Inner>) {
    loop {
        match inner.store.sweep_transit(queue::refers_between).await {
            Ok(0) => {}
            Ok(packs) => tracing::debug!(packs, "removed what finished mails left"),
            Err(error) => tracing::warn!(%error, "what finished mails left could not be removed"),
        }
        inner.hops.forget();
        if inner.keeps()
            && let Err(error) = forget(&inner).await
        {
            tracing::warn!(%error, "old receipts could not be removed");
        }
        if inner.keeps()
            && let Err(error) = merge(&inner).await
        {
            tracing::warn!(%error, "small segments of receipts could not be merged");
        }
        lease::forget_journals(&inner).await;
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

    /// Whom to ask for ways.
    pub(crate) fn dns(&self) -> &Resolver {
        if self.proof.is_to_be_had() { &self.validating } else { &self.resolver }
    }

    /// As [`Inner::stopped`]: it is to stop, or nobody runs it any more.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.stopping.has_changed().is_err()
    }

    pub(crate) async fn stopped(&self) {
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }

    /// Whether it looks after what all nodes share.
    pub(crate) fn keeps(&self) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.keeps)
    }

    /// Waits while outcomes cannot be written or what is claimed is perhaps another node's, or until the server stops.
    pub(crate) async fn until_not_held(&self) {
        while *self.held.borrow() || !self.lease.holds() {
            let mut held = self.held.subscribe();
            let both = async {
                let _ = held.wait_for(|held| !*held).await;
                self.lease.held().await;
            };
            tokio::select! {
                () = both => {}
                () = self.stopped() => return,
            }
        }
    }

    /// A delivery's attempt came to this.
    pub(crate) fn settle(&self, message: &Arc<Message>, delivery: Delivery, outcome: Outcome, said: Said) {
        self.settle_by(None, message, delivery, outcome, said);
    }

    /// The same, where it counts for a source that is new.
    pub(crate) fn settle_by(
        &self,
        permit: Option<&Permit>,
        message: &Arc<Message>,
        delivery: Delivery,
        outcome: Outcome,
        said: Said,
    ) {
        let count = permit.map(|permit| match outcome {
            // Of a day that was not judged yet, none counts.
            Outcome::Delivered { .. } => permit.delivered(hour_of(self.clock.now()).min(self.hops.today() * 24 + 23)),
            _ => permit.count(self.hops.today()),
        });
        match outcome {
            Outcome::Delivered { reports } => self.journal.delivered(message.id, delivery.number, reports, &said),
            _ => self.journal.over(std::iter::once((message.id, delivery.number))),
        }
        // The recorder reads what was said.
        let (class, rule) = (String::new(), None);
        let settled = Settled { message: message.clone(), delivery, outcome, said, class, rule };
        let _ = self.done.send(Done::Settled(settled, count.map(Box::new)));
    }

    /// A delivery was not taken: again later, or the end of it, as it says.
    pub(crate) fn settle_failure(
        &self,
        permit: Option<&Permit>,
        message: &Arc<Message>,
        delivery: Delivery,
        said: Said,
        transient: bool,
        course: Course,
    ) -> Outcome {
        let transient = (transient || course.keep) && !course.stop;
        let wait = transient.then(|| {
            let retry = &self.hops.policies().retry;
            course.wait.map_or_else(|| schedule::interval(retry, delivery.attempts), schedule::millis)
        });
        let now = self.clock.now();
        let (outcome, said) = schedule::judge(&delivery, said, wait, now, self.random());
        let outcome = schedule::not_beyond(outcome, message, now);
        self.settle_by(permit, message, delivery, outcome, said);
        outcome
    }

    /// The same answer for all.
    pub(crate) fn settle_all(&self, work: Work, said: &Said) {
        for delivery in work.deliveries {
            let transient = said.reply.is_transient();
            self.settle_failure(None, &work.message, delivery, said.clone(), transient, Course::default());
        }
    }

    /// A claim is given back without an attempt, until then or the end of its time.
    pub(crate) fn release(&self, message: &Message, delivery: &Delivery, until: Timestamp) {
        self.give_back(message, delivery, until.min(delivery.expires), None);
    }

    /// The same, and it lives longer than it was to.
    pub(crate) fn prolong(&self, message: &Message, delivery: &Delivery, until: Timestamp, expires: Timestamp) {
        self.give_back(message, delivery, until.min(expires), Some(expires));
    }

    fn give_back(&self, message: &Message, delivery: &Delivery, until: Timestamp, expires: Option<Timestamp>) {
        let release = Release { message: message.id, number: delivery.number, until, expires };
        let _ = self.done.send(Done::Release(release, message.group(delivery)));
    }
}
