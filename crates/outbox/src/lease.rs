//! Where several nodes share a queue: says every so often that this one lives, hears what the others did, and takes over what
//! one had claimed that is silent. Who was taken over itself begins nothing and ends nothing any more.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use base::Timestamp;
use queue::source::{Setup, Source, SourceId};
use queue::{Life, Mark};
use store::Tx;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

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
/// How the file of a node's journal begins, before its number.
const JOURNAL: &str = "attempts-";
/// And how the name ends of one that is about to be removed.
const ASIDE: &str = ".gone";
/// A journal that was written to since may be of a node that has just begun.
const OLD: Duration = Duration::from_secs(3600);
/// What an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Other nodes that share the queue.
#[derive(Clone, Debug)]
pub struct Peers {
    /// Where each has its journal; see [`journal_of`].
    pub journals: PathBuf,
    /// This one keeps what they share: it sends the reports that mail owes, merges small segments of receipts, and forgets what is old.
    pub keeps: bool,
    /// Whether this machine can send from the addresses of a source.
    pub can_use: fn(&Source) -> bool,
}

/// The journal of a node, by its number.
pub fn journal_of(journals: &Path, node: i64) -> PathBuf {
    journals.join(format!("{JOURNAL}{node:x}"))
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
        self.end().is_none_or(|end| Instant::now() < end)
    }

    /// When it ends; never, where there is nobody else.
    pub(crate) fn end(&self) -> Option<Instant> {
        match *self.0.borrow() {
            State::Endless => None,
            State::Until(end) => Some(end),
            State::Over => Some(Instant::now()),
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

/// Keeps the lease, until the server stops. What it takes to look after the others keeps nobody from saying that this one
/// lives.
pub(crate) async fn run(inner: Arc<Inner>) {
    let Some(peers) = &inner.peers else { return };
    // From here on what others change is heard; what they did before is read.
    let Some(mark) = first_mark(&inner).await else { return };
    let heard = watch::Sender::new(Heard::default());
    tokio::select! {
        () = inner.stopped() => {}
        () = say(&inner, &heard) => {}
        () = look_after(&inner, peers, heard.subscribe()) => {}
        () = hear(&inner, mark, heard.subscribe()) => {}
    }
}

/// What was last heard of all that live or are not known to be dead.
#[derive(Default)]
struct Heard {
    lives: Vec<Life>,
    /// Since when each has said nothing new, as far as this node could see: it has to have asked all the time.
    silent: HashMap<i64, (Timestamp, Instant)>,
    asked: Option<Instant>,
}

impl Heard {
    fn learn(&mut self, lives: Vec<Life>) {
        let now = Instant::now();
        if self.asked.replace(now).is_none_or(|asked| now - asked > 2 * RENEW) {
            self.silent.clear();
        }
        let silent = lives.iter().map(|life| {
            let since = self.silent.get(&life.epoch).filter(|(until, _)| *until == life.until);
            (life.epoch, since.copied().unwrap_or((life.until, now)))
        });
        (self.silent, self.lives) = (silent.collect(), lives);
    }

    /// Those whose lease is over, and who said nothing in a time in which they would have: when the database was away, all
    /// leases are over, and everybody lives.
    fn dead(&self) -> Vec<Life> {
        let is_silent = |life: &&Life| {
            let since = self.silent.get(&life.epoch).map(|(_, since)| *since);
            life.lapsed.is_some_and(|late| late > MARGIN) && since.is_some_and(|since| since.elapsed() > RENEW + MARGIN)
        };
        self.lives.iter().filter(is_silent).cloned().collect()
    }
}

/// Ends when this node is over.
async fn say(inner: &Inner, heard: &watch::Sender<Heard>) {
    let mut renew = interval(RENEW);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        renew.tick().await;
        match speak(inner).await {
            Spoken::Over => return,
            Spoken::Unheard => {}
            Spoken::Heard(lives) => heard.send_modify(|heard| heard.learn(lives)),
        }
    }
}

async fn look_after(inner: &Arc<Inner>, peers: &Peers, mut heard: watch::Receiver<Heard>) {
    while heard.changed().await.is_ok() {
        let dead = heard.borrow_and_update().dead();
        for life in &dead {
            take_over(inner, peers, life).await;
        }
    }
}

/// Often where there are others, and else each time it was asked who there is: one may have come and gone meanwhile.
async fn hear(inner: &Arc<Inner>, mut mark: Mark, mut heard: watch::Receiver<Heard>) {
    let mut news = interval(NEWS);
    news.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        news.tick().await;
        let asked = heard.has_changed().unwrap_or(false);
        if heard.borrow_and_update().lives.len() > 1 || asked {
            mark = listen(inner, mark).await;
        }
    }
}

/// None when the server stops.
async fn first_mark(inner: &Inner) -> Option<Mark> {
    loop {
        let (queue, now) = (inner.queue.clone(), inner.clock.now());
        match inner.store.read(move |tx| queue::news(tx, &queue, &Mark::default(), now)).await {
            Ok((_, mark)) => return Some(mark),
            Err(error) => tracing::error!(%error, "it cannot be read what other nodes do; trying again"),
        }
        tokio::select! {
            () = inner.stopped() => return None,
            () = sleep(RENEW) => {}
        }
    }
}

/// Keeps the lease while what was begun comes to its end; then others need not wait for it.
pub(crate) async fn leave(inner: &Inner, ended: impl Future<Output = ()>) {
    let spoken = async {
        while inner.peers.is_some() && !matches!(speak(inner).await, Spoken::Over) {
            sleep(RENEW).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ended => {}
        () = spoken => {}
    }
    if inner.peers.is_some()
        && let Err(error) = inner.queue.leave(&inner.store, inner.clock.now()).await
    {
        tracing::warn!(%error, "the other nodes could not be told that this one stops");
    }
}

enum Spoken {
    /// All that live or are not known to be dead.
    Heard(Vec<Life>),
    /// The database did not answer.
    Unheard,
    /// Another node has taken over.
    Over,
}

/// Says that this node lives.
async fn speak(inner: &Inner) -> Spoken {
    let (queue, asked) = (inner.queue.clone(), Instant::now());
    let job = move |tx: &mut Tx<'_>| queue::renew(tx, &queue, LEASE);
    match timeout(ANSWER, inner.store.write(job)).await {
        Ok(Ok(Some(lives))) => {
            // From before it was asked: the database may have counted from then.
            inner.lease.set(State::Until(asked + LEASE - MARGIN));
            Spoken::Heard(lives)
        }
        Ok(Ok(None)) => {
            tracing::error!("another node took over what this one had claimed: it was silent for too long");
            inner.lease.set(State::Over);
            Spoken::Over
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "the other nodes cannot be told that this one lives; sending is held when they take over");
            Spoken::Unheard
        }
        Err(_) => {
            tracing::error!("the database does not answer; sending is held before other nodes take over");
            Spoken::Unheard
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

/// Takes away the journals of nodes that are gone: each had its life ended, and what it had claimed was taken over with it.
pub(crate) async fn forget_journals(inner: &Inner) {
    let Some(Peers { journals, keeps: true, .. }) = &inner.peers else { return };
    let lives = match inner.store.read(queue::lives).await {
        Ok(lives) => lives,
        Err(error) => return tracing::debug!(%error, "it cannot be read which nodes there are"),
    };
    let (journals, known) = (journals.clone(), lives.iter().map(|life| journal_of(journals, life.node)).collect());
    match tokio::task::spawn_blocking(move || remove_journals(&journals, &known)).await {
        Ok(Ok(0)) | Err(_) => {}
        Ok(Ok(removed)) => tracing::info!(removed, "removed the journals of nodes that are gone"),
        Ok(Err(error)) => tracing::warn!(%error, "the journals of nodes that are gone could not be removed"),
    }
}

/// All but those that are `known`, and those written to not long ago: a node may have begun since the others were read. Each by itself:
/// one that cannot be removed, or put back, is told of and keeps no other.
fn remove_journals(journals: &Path, known: &HashSet<PathBuf>) -> io::Result<usize> {
    // One that was set aside when this server died: it may be a living node's.
    for aside in fs::read_dir(journals)? {
        let aside = aside?.path();
        let name = aside.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(JOURNAL) && name.ends_with(ASIDE) {
            succeeded(&aside, "put back", put_back(&aside, &aside.with_extension("")).map(|()| true));
        }
    }
    let mut removed = 0;
    for file in fs::read_dir(journals)? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let node = name.strip_prefix(JOURNAL).and_then(|node| i64::from_str_radix(node, 16).ok());
        if node.is_none_or(|node| journal_of(journals, node) != path) || known.contains(&path) {
            continue;
        }
        let is_gone = is_old(&path).and_then(|is_old| Ok(is_old && remove_journal(&path)?));
        removed += usize::from(succeeded(&path, "removed", is_gone));
    }
    Ok(removed)
}

/// What was done with a journal; nothing, when it failed to be `what`.
fn succeeded(path: &Path, what: &str, done: io::Result<bool>) -> bool {
    done.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the journal of a node could not be {what}");
        false
    })
}

fn is_old(journal: &Path) -> io::Result<bool> {
    Ok(fs::metadata(journal)?.modified()?.elapsed().is_ok_and(|since| since > OLD))
}

/// Looks again at what it takes away, under another name: a node may have put a new one in its place meanwhile. That goes back, unless
/// there is a newer one by now.
fn remove_journal(path: &Path) -> io::Result<bool> {
    let aside = path.with_extension(&ASIDE[1..]);
    fs::rename(path, &aside)?;
    if is_old(&aside)? {
        fs::remove_file(&aside).map(|()| true)
    } else {
        Ok(succeeded(path, "put back", put_back(&aside, path).map(|()| false)))
    }
}

/// Gives a journal its name again, unless there is a newer one.
fn put_back(aside: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(aside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            // A directory that knows no links: one that is made just now is lost to who looks for it, and what its node had claimed is
            // uncertain then.
            if path.try_exists()? { fs::remove_file(aside) } else { fs::rename(aside, path) }
        }
        _ => fs::remove_file(aside),
    }
}

/// What others did is as good as done here.
async fn listen(inner: &Arc<Inner>, mark: Mark) -> Mark {
    let (queue, now, known) = (inner.queue.clone(), inner.clock.now(), mark.clone());
    match timeout(ANSWER, inner.store.read(move |tx| queue::news(tx, &queue, &known, now))).await {
        Ok(Ok((events, mark))) => {
            events.iter().for_each(|event| heard(inner, event));
            mark
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "it cannot be read what other nodes did");
            mark
        }
        Err(_) => mark,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn life(epoch: i64, until: i64, lapsed: Option<u64>) -> Life {
        let lapsed = lapsed.map(Duration::from_secs);
        Life { epoch, node: epoch, name: String::new(), began: Timestamp(0), until: Timestamp(until), lapsed }
    }

    fn dead(heard: &Heard) -> Vec<i64> {
        heard.dead().iter().map(|life| life.epoch).collect()
    }

    #[test]
    fn journals_of_nodes_that_are_gone_are_removed_and_no_others() {
        let dir = testkit::Dir::new("journals");
        let old = std::time::SystemTime::now() - 2 * OLD;
        let file = |name: &str, written: Option<std::time::SystemTime>| {
            let file = fs::File::create(dir.path().join(name)).unwrap();
            written.iter().for_each(|written| file.set_modified(*written).unwrap());
        };
        // The first is gone; one lives, one has just begun, and the rest is none of ours.
        for name in ["attempts-1f", "attempts-2", "attempts-0f", "attempts-x", "keeper"] {
            file(name, Some(old));
        }
        file("attempts-3", None);
        let known = HashSet::from([journal_of(dir.path(), 2)]);
        assert_eq!(remove_journals(dir.path(), &known).unwrap(), 1);
        assert!(!journal_of(dir.path(), 0x1f).exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
        assert_eq!(remove_journals(dir.path(), &known).unwrap(), 0);
        // A node came back just before the old one was to go.
        assert!(!remove_journal(&journal_of(dir.path(), 3)).unwrap());
        assert!(journal_of(dir.path(), 3).exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
        // This server died while it had two aside, of which one has come again meanwhile.
        let aside = |node| dir.path().join(format!("attempts-{node:x}.gone"));
        fs::write(aside(3), "before").unwrap();
        fs::rename(journal_of(dir.path(), 2), aside(2)).unwrap();
        assert_eq!(remove_journals(dir.path(), &known).unwrap(), 0);
        assert!(journal_of(dir.path(), 2).exists() && fs::read(journal_of(dir.path(), 3)).unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 5);
    }

    #[test]
    fn a_journal_that_cannot_be_removed_or_put_back_keeps_no_other() {
        let dir = testkit::Dir::new("journals");
        let old = std::time::SystemTime::now() - 2 * OLD;
        let (journal, aside) = (|n| journal_of(dir.path(), n), |n| dir.path().join(format!("attempts-{n:x}.gone")));
        for n in [0, 1, 2, 3, 4, 5, 6, 8] {
            fs::File::create(journal(n)).unwrap().set_modified(old).unwrap();
        }
        // These are no files, so that they cannot be removed: one is aside, and a newer journal in its place.
        fs::create_dir(aside(8)).unwrap();
        fs::create_dir(journal(7)).unwrap();
        fs::File::open(journal(7)).unwrap().set_modified(old).unwrap();
        assert_eq!(remove_journals(dir.path(), &HashSet::from([journal(8)])).unwrap(), 7);
        assert!(journal(8).exists() && (0..7).all(|n| !journal(n).exists()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_while_this_node_asks_is_dead() {
        let mut heard = Heard::default();
        for n in 0..10 {
            // The second has stopped.
            let late = (n > 4).then(|| 3 * (n - 4));
            heard.learn(vec![life(1, n as i64, None), life(2, 0, late)]);
            assert_eq!(dead(&heard), if n > 4 { vec![2] } else { vec![] }, "{n}");
            tokio::time::advance(RENEW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_outage_of_the_database_everybody_gets_time_to_speak() {
        let mut heard = Heard::default();
        heard.learn(vec![life(1, 0, None), life(2, 0, None)]);
        tokio::time::advance(Duration::from_secs(60)).await;
        for n in 1..4 {
            // All leases are over; the first speaks again soon, the second never.
            heard.learn(vec![life(1, n, (n == 1).then_some(48)), life(2, 0, Some(48))]);
            assert_eq!(dead(&heard), if n == 3 { vec![2] } else { vec![] }, "{n}");
            tokio::time::advance(RENEW).await;
        }
    }
}
