//! What is ready to be sent, in a line for each next hop, and how many connections serve it. A line begins with two
//! connections and gains one with each success, up to twenty, so that a host that is slow or strict is not overrun. All of
//! it is in memory: the truth is in the queue's tables.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use queue::{Delivery, Message, QueueId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::route::Hop;

/// Deliveries in hand: claimed, and not yet settled on disk.
pub(crate) const IN_HAND: usize = 4000;
/// Of these one hop may have half in line, so that mail to a host that is slow does not keep back all other; once half of
/// all is in lines, only a tenth.
const OF_ONE_HOP: usize = IN_HAND / 2;
const OF_ONE_HOP_OF_MANY: usize = IN_HAND / 10;
/// Connections in all.
const CONNECTIONS: usize = 200;
/// Connections to one hop: at first, and at most.
const FIRST: usize = 2;
const MOST: usize = 20;
/// Connections to one network (a /24, or a /48 of IPv6), whatever the names of its hosts: who holds one does not hold all.
const OF_ONE_NETWORK: usize = CONNECTIONS / 4;
/// How long work waits for which its line has no place: as long as the line takes to empty, between these two.
const WAIT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];
/// And before the pace of a line is known, which is measured over as long.
const PACE: Duration = Duration::from_secs(10);
const UNKNOWN: Duration = Duration::from_secs(30);

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
    networks: HashMap<IpAddr, usize>,
    in_hand: usize,
    /// Deliveries in lines.
    in_line: usize,
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
    /// Deliveries that were taken from it, and what that was when its pace was measured last.
    taken: usize,
    measured: (Instant, usize),
    /// So long waits what it has no place for.
    wait: Duration,
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
            taken: 0,
            measured: (Instant::now(), 0),
            wait: UNKNOWN,
            starved: false,
            bell,
        }
    }

    /// Measures how long it will take to empty.
    fn pace(&mut self) -> Duration {
        let (since, before) = self.measured;
        let (elapsed, taken) = (since.elapsed(), self.taken - before);
        if elapsed >= PACE {
            self.wait = match taken {
                0 => self.wait * 2,
                n => elapsed.mul_f64(self.deliveries as f64 / n as f64),
            };
            self.wait = self.wait.clamp(WAIT[0], WAIT[1]);
            self.measured = (Instant::now(), self.taken);
        }
        self.wait
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
    /// The line is too long: not before this time has passed.
    Full(Work, Duration),
}

impl Hops {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The counters are whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many deliveries more may be claimed.
    pub(crate) fn room(&self) -> usize {
        IN_HAND.saturating_sub(self.in_hand())
    }

    /// How many deliveries are claimed.
    pub(crate) fn in_hand(&self) -> usize {
        self.lock().in_hand
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
        let share = if state.in_line >= IN_HAND / 2 { OF_ONE_HOP_OF_MANY } else { OF_ONE_HOP };
        let line = state.lines.entry(hop.clone()).or_insert_with(Line::new);
        if line.deliveries >= share {
            let wait = line.pace();
            return Added::Full(work, wait);
        }
        let n = work.deliveries.len();
        line.deliveries += n;
        line.ready.push_back(work);
        if line.idle > 0 {
            line.bell.notify_one();
        }
        state.in_line += n;
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
        if work.deliveries.len() > recipients {
            let rest = work.deliveries.split_off(recipients);
            line.ready.push_front(Work { deliveries: rest, ..work.clone() });
        }
        let n = work.deliveries.len();
        line.deliveries -= n;
        line.taken += n;
        state.in_line -= n;
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
        let (mut state, n) = (self.lock(), work.deliveries.len());
        state.in_line += n;
        let line = state.lines.entry(hop.clone()).or_insert_with(Line::new);
        line.deliveries += n;
        line.ready.push_front(Work { again: true, ..work });
    }

    /// Takes the work of one message out of all lines.
    pub(crate) fn take_out(&self, id: QueueId) -> Vec<Work> {
        let (mut state, mut all) = (self.lock(), Vec::new());
        for line in state.lines.values_mut() {
            let (out, rest): (Vec<_>, Vec<_>) = line.ready.drain(..).partition(|w| w.message.id == id);
            line.ready = rest.into();
            line.deliveries -= out.iter().map(|w| w.deliveries.len()).sum::<usize>();
            all.extend(out);
        }
        state.in_line -= all.iter().map(|w| w.deliveries.len()).sum::<usize>();
        all
    }

    /// A connection to an address is about to be made; false when its network has its share.
    pub(crate) fn enter(&self, ip: IpAddr) -> bool {
        let mut state = self.lock();
        let n = state.networks.entry(network(ip)).or_default();
        let enters = *n < OF_ONE_NETWORK;
        *n += usize::from(enters);
        enters
    }

    /// It has ended.
    pub(crate) fn exit(&self, ip: IpAddr) {
        let mut state = self.lock();
        if let Entry::Occupied(mut n) = state.networks.entry(network(ip)) {
            *n.get_mut() -= 1;
            if *n.get() == 0 {
                n.remove();
            }
        }
    }

    /// Somebody waits for a connection who has none.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.lock().starved.is_empty()
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

    /// A worker found no connection. While others have one, or still try, it was one too many for the host; else nobody is
    /// to be had there, and all that is in line is given up for now.
    pub(crate) fn unreachable(&self, hop: &Hop) -> Vec<Work> {
        let mut state = self.lock();
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        if line.connected > 0 || line.workers > 1 {
            line.limit = line.connected.max(line.workers - 1).max(1);
            return Vec::new();
        }
        line.limit = FIRST;
        let (all, n) = (line.ready.drain(..).collect(), std::mem::take(&mut line.deliveries));
        state.in_line -= n;
        all
    }

    /// A worker ends. Gives the hops for which one is to be started in its place: none when we are `stopping`, as each is
    /// counted and waited for.
    pub(crate) fn leave(&self, hop: &Hop, was_connected: bool, stopping: bool) -> Vec<Hop> {
        let mut state = self.lock();
        state.connections -= 1;
        let mut start = Vec::new();
        let mut goes_on = false;
        if let Some(line) = state.lines.get_mut(hop) {
            line.workers -= 1;
            line.connected -= usize::from(was_connected);
            goes_on = !line.ready.is_empty() || line.workers > 0;
        }
        if !goes_on {
            state.lines.remove(hop);
        }
        if stopping {
            return start;
        }
        // Who has none first.
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
        if goes_on && state.start(hop) {
            start.push(hop.clone());
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
        state.in_line = 0;
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

/// RFC 6177 §2: a site has a /48 at most.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
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
        assert_eq!(hops.leave(&a, false, false), [a]);
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
        assert!(matches!(hops.add(&a, work(1)), Added::Full(_, UNKNOWN)));
        assert!(matches!(hops.add(&b, work(1)), Added::Start));
    }

    #[test]
    fn a_host_that_is_away_gives_all_back_unless_it_is_only_full() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 5), 2);
        hops.connected(&a);
        assert!(hops.unreachable(&a).is_empty());
        assert!(hops.leave(&a, false, false).is_empty(), "no more connections than the host takes");
        assert_eq!(hops.leave(&a, true, false), std::slice::from_ref(&a));
        assert_eq!(hops.unreachable(&a).len(), 5);
        assert!(hops.leave(&a, false, false).is_empty());
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
            got.extend(hops.leave(h, false, false));
        }
        assert_eq!(got.len(), 50);
        assert!(all[100..].iter().all(|h| got.contains(h)));
    }

    #[test]
    fn who_is_turned_away_while_another_still_tries_gives_nothing_up() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 5), 2);
        // The host takes one at a time, and the one has not said EHLO yet.
        assert!(hops.unreachable(&a).is_empty());
        assert!(hops.leave(&a, false, false).is_empty(), "one is enough");
        assert_eq!(hops.unreachable(&a).len(), 5);
    }

    #[test]
    fn two_slow_hops_do_not_keep_back_all_others() {
        let hops = Hops::default();
        for name in ["a", "b"] {
            for _ in 0..IN_HAND {
                if matches!(hops.add(&hop(name), work(1)), Added::Full(..)) {
                    break;
                }
            }
        }
        let in_line = hops.lock().in_line;
        assert_eq!(in_line, OF_ONE_HOP + OF_ONE_HOP_OF_MANY);
        assert!(in_line < IN_HAND * 2 / 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_place_waits_as_long_as_the_line_takes() {
        let (hops, a) = (Hops::default(), hop("a"));
        let wait = || match hops.add(&a, work(1)) {
            Added::Full(_, wait) => wait.as_secs(),
            _ => 0,
        };
        (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
        assert_eq!(wait(), 30);
        // Nothing moves: longer and longer, to ten minutes.
        let mut waits = Vec::new();
        for _ in 0..6 {
            tokio::time::advance(PACE).await;
            waits.push(wait());
        }
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        // Ten in ten seconds, of two thousand; then a thousand.
        for (taken, expected) in [(10, 600), (1000, 10)] {
            for _ in 0..taken {
                let work = hops.take_or_rest(&a, 1).unwrap();
                hops.give_back(&a, work);
            }
            tokio::time::advance(PACE).await;
            assert_eq!(wait() / 10 * 10, expected / 10 * 10 * if taken == 10 { 1 } else { 2 });
        }
    }

    #[test]
    fn one_network_does_not_get_all_connections() {
        let hops = Hops::default();
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        for n in 0..OF_ONE_NETWORK {
            assert!(hops.enter(ip(&format!("192.0.2.{n}"))) && hops.enter(ip(&format!("2001:db8:0:{n}::1"))));
        }
        assert!(!hops.enter(ip("192.0.2.250")) && !hops.enter(ip("2001:db8:0:ffff::1")));
        assert!(!hops.enter(ip("::ffff:192.0.2.250")));
        assert!(hops.enter(ip("192.0.3.1")) && hops.enter(ip("2001:db8:1::1")));
        hops.exit(ip("192.0.2.3"));
        assert!(hops.enter(ip("192.0.2.250")));
    }

    #[test]
    fn who_has_no_connection_comes_before_who_had_one() {
        let hops = Hops::default();
        let all: Vec<Hop> = (0..=CONNECTIONS).map(|n| hop(&n.to_string())).collect();
        all.iter().for_each(|h| drop(hops.add(h, work(1))));
        assert!(hops.is_crowded());
        assert_eq!(hops.leave(&all[0], false, false), [all[CONNECTIONS].clone()]);
        // Now that one waits.
        assert_eq!(hops.leave(&all[1], false, false), [all[0].clone()]);
    }

    #[test]
    fn a_message_is_taken_out_of_all_lines() {
        let (hops, a, b) = (Hops::default(), hop("a"), hop("b"));
        let other = Message { id: "1-2".parse().unwrap(), ..(*work(1).message).clone() };
        hops.add(&a, work(2));
        hops.add(&a, Work { message: Arc::new(other), ..work(1) });
        hops.add(&b, work(1));
        assert_eq!(hops.take_out("1-1".parse().unwrap()).len(), 2);
        let in_line = hops.lock().in_line;
        assert_eq!((in_line, hops.take_or_rest(&a, 9).unwrap().message.id.to_string()), (1, "1-2".into()));
    }

    #[test]
    fn at_a_stop_nobody_is_counted_who_is_not_started() {
        let (hops, a) = (Hops::default(), hop("a"));
        assert_eq!(starts(&hops, &a, 5), 2);
        for left in [1, 0] {
            assert!(hops.leave(&a, false, true).is_empty());
            assert_eq!(hops.workers(), left);
        }
        assert_eq!(hops.drain().len(), 5);
    }
}
