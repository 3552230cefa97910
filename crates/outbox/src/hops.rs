//! What is ready to be sent, in a line for each next hop, and how many connections serve it. A line begins with two
//! connections and gains one with each success, up to twenty, so that a host that is slow or strict is not overrun. All of
//! it is in memory: the truth is in the queue's tables.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use queue::{Delivery, Message};
use tokio::sync::Notify;

use crate::route::Hop;

/// Deliveries in hand: claimed, and not yet settled on disk.
pub(crate) const IN_HAND: usize = 4000;
/// Of these one hop may have half, so that mail to a host that is slow does not keep back all other.
const OF_ONE_HOP: usize = IN_HAND / 2;
/// Connections in all.
const CONNECTIONS: usize = 200;
/// Connections to one hop: at first, and at most.
const FIRST: usize = 2;
const MOST: usize = 20;

/// Deliveries of one message to one hop: a transaction to be.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) message: Arc<Message>,
    pub(crate) deliveries: Vec<Delivery>,
    /// A connection had it already, and turned out to be closed.
    pub(crate) again: bool,
}

/// The lines.
#[derive(Default)]
pub(crate) struct Hops {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: HashMap<Hop, Line>,
    connections: usize,
    in_hand: usize,
    /// Hops with work and no connection, as there were too many in all.
    starved: VecDeque<Hop>,
}

struct Line {
    ready: VecDeque<Work>,
    /// Deliveries in `ready`.
    deliveries: usize,
    /// Workers, connected or about to be.
    workers: usize,
    /// Those that are connected.
    connected: usize,
    /// Those that wait for work.
    idle: usize,
    limit: usize,
    /// It stands among the starved.
    starved: bool,
    bell: Arc<Notify>,
}

impl Line {
    fn new() -> Self {
        let bell = Arc::new(Notify::new());
        Line {
            ready: VecDeque::new(),
            deliveries: 0,
            workers: 0,
            connected: 0,
            idle: 0,
            limit: FIRST,
            starved: false,
            bell,
        }
    }

    fn push_front(&mut self, work: Work) {
        self.deliveries += work.deliveries.len();
        self.ready.push_front(work);
    }

    /// A worker more would find something to do.
    fn wants_more(&self) -> bool {
        self.ready.len() > self.idle && self.workers < self.limit
    }
}

/// What became of work that was brought.
#[derive(Debug)]
pub(crate) enum Added {
    /// It is in line.
    InLine,
    /// It is in line, and a worker for this hop is to be started.
    Start,
    /// The line is too long.
    Full(Work),
}

impl Hops {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The counters are whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many deliveries more may be claimed.
    pub(crate) fn room(&self) -> usize {
        IN_HAND.saturating_sub(self.lock().in_hand)
    }

    /// So many deliveries were claimed.
    pub(crate) fn claimed(&self, n: usize) {
        self.lock().in_hand += n;
    }

    /// So many deliveries are settled.
    pub(crate) fn settled(&self, n: usize) {
        let mut state = self.lock();
        state.in_hand = state.in_hand.saturating_sub(n);
    }

    /// Puts work in line.
    pub(crate) fn add(&self, hop: &Hop, work: Work) -> Added {
        let mut state = self.lock();
        let line = state.lines.entry(hop.clone()).or_insert_with(Line::new);
        if line.deliveries >= OF_ONE_HOP {
            return Added::Full(work);
        }
        line.deliveries += work.deliveries.len();
        line.ready.push_back(work);
        if line.idle > 0 {
            line.bell.notify_one();
        }
        if state.start(hop) { Added::Start } else { Added::InLine }
    }

    /// The next work of a line, with at most `recipients`; or the bell to wait for, the worker being counted as idle from
    /// then on ([`Hops::wake`]).
    pub(crate) fn take_or_rest(&self, hop: &Hop, recipients: usize) -> Result<Work, Arc<Notify>> {
        let mut state = self.lock();
        let line = state.lines.entry(hop.clone()).or_insert_with(Line::new);
        let Some(mut work) = line.ready.pop_front() else {
            line.idle += 1;
            return Err(line.bell.clone());
        };
        line.deliveries -= work.deliveries.len();
        if work.deliveries.len() > recipients {
            let rest = work.deliveries.split_off(recipients);
            line.push_front(Work { deliveries: rest, ..work.clone() });
        }
        Ok(work)
    }

    /// A worker that rested no longer does.
    pub(crate) fn wake(&self, hop: &Hop) {
        if let Some(line) = self.lock().lines.get_mut(hop) {
            line.idle = line.idle.saturating_sub(1);
        }
    }

    /// Work that was not begun.
    pub(crate) fn give_back(&self, hop: &Hop, work: Work) {
        self.lock().lines.entry(hop.clone()).or_insert_with(Line::new).push_front(Work { again: true, ..work });
    }

    /// A worker is connected.
    pub(crate) fn connected(&self, hop: &Hop) {
        if let Some(line) = self.lock().lines.get_mut(hop) {
            line.connected += 1;
        }
    }

    /// A mail was delivered: the hop may have a connection more. True when a worker is to be started.
    pub(crate) fn succeeded(&self, hop: &Hop) -> bool {
        let mut state = self.lock();
        if let Some(line) = state.lines.get_mut(hop) {
            line.limit = (line.limit + 1).min(MOST);
        }
        state.start(hop)
    }

    /// A worker found no connection. While others have one, it was one too many for the host; else nobody is to be had
    /// there, and all that is in line is given up for now.
    pub(crate) fn unreachable(&self, hop: &Hop) -> Vec<Work> {
        let mut state = self.lock();
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        if line.connected > 0 {
            line.limit = line.connected;
            return Vec::new();
        }
        line.limit = FIRST;
        line.deliveries = 0;
        line.ready.drain(..).collect()
    }

    /// A worker ends. Gives the hops for which one is to be started in its place.
    pub(crate) fn leave(&self, hop: &Hop, was_connected: bool) -> Vec<Hop> {
        let mut state = self.lock();
        state.connections -= 1;
        let mut start = Vec::new();
        if let Some(line) = state.lines.get_mut(hop) {
            line.workers -= 1;
            line.connected -= usize::from(was_connected);
            if line.ready.is_empty() && line.workers == 0 {
                state.lines.remove(hop);
            } else if state.start(hop) {
                start.push(hop.clone());
            }
        }
        while state.connections < CONNECTIONS
            && let Some(starved) = state.starved.pop_front()
        {
            if let Some(line) = state.lines.get_mut(&starved) {
                line.starved = false;
            }
            if state.start(&starved) {
                start.push(starved);
            }
        }
        start
    }

    /// Workers that have not ended.
    pub(crate) fn workers(&self) -> usize {
        self.lock().connections
    }

    /// Takes everything out of all lines.
    pub(crate) fn drain(&self) -> Vec<Work> {
        let mut state = self.lock();
        state.starved.clear();
        let mut all = Vec::new();
        for line in state.lines.values_mut() {
            (line.deliveries, line.starved) = (0, false);
            all.extend(line.ready.drain(..));
        }
        all
    }
}

impl State {
    /// Counts a worker more for this hop, if it needs and may have one.
    fn start(&mut self, hop: &Hop) -> bool {
        let Some(line) = self.lines.get_mut(hop).filter(|line| line.wants_more()) else { return false };
        if self.connections >= CONNECTIONS {
            if line.workers == 0 && !std::mem::replace(&mut line.starved, true) {
                self.starved.push_back(hop.clone());
            }
            return false;
        }
        line.workers += 1;
        self.connections += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use base::{Address, BlobId, Timestamp};
    use smtp::BodyType;

    use super::*;
    use crate::route::To;

    fn hop(name: &str) -> Hop {
        Hop { to: To::Domain(name.into()), require_tls: false }
    }

    fn work(n: u32) -> Work {
        let message = Message {
            id: "1-1".parse().unwrap(),
            from: None,
            prefix: Arc::from(&b""[..]),
            blob: BlobId(1),
            octets: 0,
            envelope_id: None,
            ret: None,
            body: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            account: None,
            created: Timestamp(0),
            total: n,
        };
        let delivery = |number| Delivery {
            number,
            to: Address::parse("x@y.test").unwrap(),
            notify: None,
            original: None,
            expires: Timestamp(0),
            attempts: 0,
            warned: false,
        };
        Work { message: Arc::new(message), deliveries: (0..n).map(delivery).collect(), again: false }
    }

    fn starts(hops: &Hops, hop: &Hop, n: usize) -> usize {
        (0..n).filter(|_| matches!(hops.add(hop, work(1)), Added::Start)).count()
    }

    #[test]
    fn a_hop_gets_two_connections_and_one_more_with_each_success() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 100), 2);
        for n in 3..=20 {
            assert!(hops.succeeded(&a), "{n}");
        }
        assert!(!hops.succeeded(&a), "twenty are enough");
        // One ends: another takes its place, as long as there is work.
        assert_eq!(hops.leave(&a, false), [a]);
    }

    #[test]
    fn who_rests_is_woken_before_another_is_started() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 1), 1);
        assert!(hops.take_or_rest(&a, 9).is_ok());
        assert!(hops.take_or_rest(&a, 9).is_err());
        assert_eq!(starts(&hops, &a, 1), 0);
        assert_eq!(starts(&hops, &a, 1), 1, "one rests, two have work");
    }

    #[test]
    fn too_many_recipients_are_two_transactions() {
        let (hops, a) = (Hops::default(), hop("a"));
        hops.add(&a, work(25));
        let numbers = |w: Work| w.deliveries.iter().map(|d| d.number).collect::<Vec<_>>();
        assert_eq!(numbers(hops.take_or_rest(&a, 20).unwrap()), (0..20).collect::<Vec<_>>());
        assert_eq!(numbers(hops.take_or_rest(&a, 20).unwrap()), (20..25).collect::<Vec<_>>());
    }

    #[test]
    fn one_hop_does_not_keep_back_all_others() {
        let (hops, a, b) = (Hops::default(), hop("a"), hop("b"));
        (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
        assert!(matches!(hops.add(&a, work(1)), Added::Full(_)));
        assert!(matches!(hops.add(&b, work(1)), Added::Start));
    }

    #[test]
    fn a_host_that_is_away_gives_all_back_unless_it_is_only_full() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 5), 2);
        hops.connected(&a);
        assert!(hops.unreachable(&a).is_empty());
        assert!(hops.leave(&a, false).is_empty(), "no more connections than the host takes");
        assert_eq!(hops.leave(&a, true), std::slice::from_ref(&a));
        assert_eq!(hops.unreachable(&a).len(), 5);
        assert!(hops.leave(&a, false).is_empty());
        assert_eq!((hops.workers(), hops.lock().lines.len()), (0, 0));
    }

    #[test]
    fn connections_have_a_limit_in_all_and_nobody_is_forgotten() {
        let hops = Hops::default();
        let all: Vec<Hop> = (0..150).map(|n| hop(&n.to_string())).collect();
        let started: usize = all.iter().map(|h| starts(&hops, h, 2)).sum();
        assert_eq!(started, CONNECTIONS);
        // Fifty have none. As others end, each gets its own.
        let mut got = Vec::new();
        for h in &all[..100] {
            while hops.take_or_rest(h, 1).is_ok() {}
            hops.wake(h);
            got.extend(hops.leave(h, false));
        }
        assert_eq!(got.len(), 50);
        assert!(all[100..].iter().all(|h| got.contains(h)));
    }
}
