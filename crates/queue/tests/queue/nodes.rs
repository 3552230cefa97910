//! Lives that end without a word, and several nodes on one queue.

use base::{OrganisationId, Stream};
use queue::log::{Cursor, Filter, What};
use queue::{
    Delivered, Event, MIGRATIONS, Mark, Node, Outcome, Queue, QueueId, Release, Remains, Said, State, Want, claim_due,
    show,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};
use store::{Lane, Options, Store};
use testkit::{Bed, Dir};

use crate::world::{DAY, DELIVERED, NOW, World, at, block_on, claim_any, later, no, settled, worlds, yes};

#[test]
fn trap_23_what_a_dead_server_had_claimed_is_due_again_and_marked() {
    for w in worlds() {
        let (sent, waits) = (w.enqueue("me@a.test", &["x@b.test"]), w.enqueue("me@a.test", &["y@b.test"]));
        let claimed = w.claim(1, NOW);
        let lost = claimed[0].message.id;
        let other = if lost == sent { waits } else { sent };
        let w = w.killed();
        assert_eq!((w.queue.uncertain(), w.show(other)[0].1), (1, State::Waiting));
        let shown = w.store.read_blocking(move |tx| show(tx, lost)).unwrap().unwrap().1;
        assert_eq!((shown[0].state, shown[0].delivery.uncertain, shown[0].delivery.attempts), (State::Waiting, 1, 1));
        assert_eq!(w.claim(9, NOW).len(), 2);
        // Ids of this life are none of the last.
        assert!(w.enqueue("me@a.test", &["z@b.test"]) > lost.max(other));
        w.check();
    }
}

#[test]
fn trap_23_an_outcome_counts_only_for_who_holds_the_claim() {
    for mut w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        let taken = w.claim(1, NOW);
        // Another life of the node takes over; this one speaks up late.
        let new = block_on(Queue::open(&w.store, 1, NOW)).unwrap();
        let old = std::mem::replace(&mut w.queue, new);
        let again = w.claim(1, NOW);
        assert_eq!(again[0].message.id, id);
        let new = std::mem::replace(&mut w.queue, old);
        let released = Release { message: id, number: 0, until: NOW, expires: None };
        let queue = w.queue.clone();
        w.store.write_blocking(move |tx| queue::release(tx, &queue, &[released], NOW)).unwrap();
        for outcome in [DELIVERED, Outcome::Failed, Outcome::Deferred(NOW)] {
            assert!(w.record(settled(&taken, outcome, no()), NOW).is_empty());
            assert_eq!(w.show(id), [("x@b.test".into(), State::Claimed, 1)]);
        }
        w.queue = new;
        w.record(settled(&again, DELIVERED, yes()), NOW);
        assert!(w.is_empty());
        w.check();
    }
}

fn taken_by() -> Said {
    Said::by("mx.b.test", bounce::Stage::Dot, yes())
}

#[test]
fn with_a_journal_only_what_was_begun_is_uncertain() {
    for w in worlds() {
        let ids: Vec<QueueId> = ["a", "b", "c", "d"].map(|n| w.enqueue("me@a.test", &[&format!("{n}@b.test")])).into();
        assert_eq!(w.claim(9, NOW).len(), 4);
        let [taken, begun, in_line, wanted] = ids[..] else { panic!("four") };
        let delivered = Delivered { message: taken, number: 0, reports: true, said: taken_by() };
        // Of another time, and of one that is finished: they change nothing.
        let old = Delivered { message: "99-1".parse().unwrap(), number: 0, reports: true, said: taken_by() };
        let remains =
            Remains { epoch: w.queue.epoch(), begun: vec![(begun, 0), (begun, 7)], delivered: vec![delivered, old] };
        let queue = block_on(Queue::recover(&w.store, &Node::alone(), NOW, Some(remains))).unwrap();
        assert_eq!(queue.uncertain(), 1);
        assert!(w.show(taken).is_empty());
        assert_eq!(w.show(begun), [("b@b.test".into(), State::Waiting, 1)]);
        for id in [in_line, wanted] {
            assert_eq!(w.show(id)[0].1, State::Waiting);
            let shown = w.store.read_blocking(move |tx| show(tx, id)).unwrap().unwrap().1;
            assert_eq!((shown[0].delivery.uncertain, shown[0].delivery.attempts), (0, 0));
        }
        w.check();
    }
}

/// Polls so often that a job's end was waited for `jobs` times, or to the end; gives the outcome if there is one, and how many jobs that
/// were.
fn after_jobs<T>(jobs: usize, work: impl Future<Output = T>) -> (Option<T>, usize) {
    struct Bell(mpsc::Sender<()>);
    impl std::task::Wake for Bell {
        fn wake(self: std::sync::Arc<Self>) {
            let _ = self.0.send(());
        }
    }
    let (bell, rung) = mpsc::channel();
    let (bell, mut work) = (std::sync::Arc::new(Bell(bell)).into(), std::pin::pin!(work));
    for n in 0..jobs {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut std::task::Context::from_waker(&bell)) {
            return (Some(done), n);
        }
        rung.recv_timeout(Duration::from_secs(60)).unwrap();
    }
    (None, jobs)
}

/// Messages with so many recipients in all, claimed.
fn claimed_many(w: &World) -> (Vec<QueueId>, usize) {
    let to: Vec<String> = (0..1000).map(|n| format!("u{n}@b.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let ids: Vec<QueueId> = [1000, 700, 800].iter().map(|n| w.enqueue("me@a.test", &to[..*n])).collect();
    let n = w.claim(3000, NOW).iter().map(|c| c.deliveries.len()).sum();
    assert_eq!(n, 2500, "{}", w.name);
    (ids, n)
}

/// How often the log says what of each delivery.
fn told(w: &World, what: What) -> BTreeMap<(QueueId, u32), usize> {
    let (mut told, mut from) = (BTreeMap::new(), Cursor::START);
    loop {
        let page = w.store.read_blocking(move |tx| queue::log::read(tx, from, &Filter::default(), 1000)).unwrap();
        for line in page.lines.iter().filter(|line| line.what == what) {
            *told.entry((line.head.message, line.head.number)).or_default() += 1;
        }
        from = page.next;
        if !page.more {
            return told;
        }
    }
}

#[test]
fn many_claims_of_the_dead_are_given_back_in_many_jobs_and_a_stop_between_two_loses_and_doubles_nothing() {
    for w in worlds() {
        let (ids, n) = claimed_many(&w);
        let cancelled = ids[1];
        w.cancel(cancelled);
        // It stops after some, and so does the next.
        for jobs in [3, 4] {
            assert!(after_jobs(jobs, Queue::open(&w.store, 1, NOW)).0.is_none());
            w.check();
        }
        let claimed = || ids.iter().flat_map(|id| w.show(*id)).filter(|d| d.1 != State::Waiting).count();
        let left = claimed();
        assert!((1..n - 64).contains(&left), "{}: {left}", w.name);
        let (queue, jobs) = after_jobs(100, Queue::open(&w.store, 1, NOW));
        // At most 64 at once, and none left out.
        assert!(queue.is_some() && jobs > left / 64 + 1, "{}: {jobs}", w.name);
        for (id, n) in [(ids[0], 1000), (ids[2], 800)] {
            let shown = w.store.read_blocking(move |tx| show(tx, id)).unwrap().unwrap().1;
            let once = |s: &queue::Standing| {
                (s.state, s.delivery.attempts, s.delivery.uncertain) == (State::Waiting, 1, 1)
                    && s.delivery.trail.is_some()
            };
            assert!(shown.len() == n && shown.iter().all(once), "{}", w.name);
        }
        let (uncertain, taken_back) = (told(&w, What::Uncertain), told(&w, What::Cancelled));
        assert!(uncertain.len() == 1800 && uncertain.values().all(|n| *n == 1), "{}", w.name);
        assert!(taken_back.len() == 700 && taken_back.values().all(|n| *n == 1), "{}", w.name);
        assert!(w.show(cancelled).is_empty(), "{}", w.name);
        w.check();
    }
}

#[test]
fn what_a_journal_tells_is_gone_on_from_where_the_one_before_stopped() {
    for w in worlds() {
        let (ids, _) = claimed_many(&w);
        let epoch = w.queue.epoch();
        let remains = || {
            let delivered = |number| Delivered { message: ids[0], number, reports: true, said: taken_by() };
            let begun = (0..800).map(|number| (ids[2], number)).collect();
            Some(Remains { epoch, begun, delivered: (0..1000).map(delivered).collect() })
        };
        for jobs in [3, 5, 6] {
            assert!(after_jobs(jobs, Queue::recover(&w.store, &Node::alone(), NOW, remains())).0.is_none());
        }
        block_on(Queue::recover(&w.store, &Node::alone(), NOW, remains())).unwrap();
        assert!(w.show(ids[0]).is_empty(), "{}", w.name);
        let all = |id, attempts| w.show(id).into_iter().all(|d| (d.1, d.2) == (State::Waiting, attempts));
        assert!(all(ids[1], 0) && all(ids[2], 1), "{}", w.name);
        let (delivered, uncertain) = (told(&w, What::Delivered), told(&w, What::Uncertain));
        assert!(delivered.len() == 1000 && delivered.values().all(|n| *n == 1), "{}", w.name);
        assert!(uncertain.len() == 800 && uncertain.values().all(|n| *n == 1), "{}", w.name);
        w.check();
    }
}

#[test]
fn trap_23_who_is_half_taken_over_is_over_and_whoever_lives_goes_on() {
    let lease = Duration::from_millis(600);
    let (w, other) = two_nodes(lease);
    let (ids, _) = claimed_many(&w);
    let (dead, renew) = (w.queue.epoch(), |queue: &Queue| {
        let queue = queue.clone();
        w.store.write_blocking(move |tx| queue::renew(tx, &queue, lease)).unwrap()
    });
    std::thread::sleep(lease * 2);
    renew(&other);
    assert!(after_jobs(4, other.take_over(&w.store, dead, None, NOW)).0.is_none());
    // It wakes up, and has nothing to say.
    assert_eq!(renew(&w.queue), None);
    let old = w.queue.clone();
    assert!(w.store.write_blocking(move |tx| claim_any(tx, &old, 9, NOW)).is_err());
    let third = Node { number: 13, name: "three".into(), lease: Some(lease) };
    let third = block_on(Queue::recover(&w.store, &third, NOW, None)).unwrap();
    // As long as its heir lives, nobody else comes between.
    renew(&other);
    assert_eq!(block_on(third.take_over(&w.store, dead, None, NOW)).unwrap(), None);
    std::thread::sleep(lease * 2);
    renew(&third);
    let left = block_on(third.take_over(&w.store, dead, None, NOW)).unwrap().unwrap();
    assert!((1..2500).contains(&left), "{left}");
    assert!(ids.iter().all(|id| w.show(*id).iter().all(|d| (d.1, d.2) == (State::Waiting, 1))));
    let uncertain = told(&w, What::Uncertain);
    assert!(uncertain.len() == 2500 && uncertain.values().all(|n| *n == 1));
    w.check();
}

#[test]
fn trap_23_another_nodes_claims_are_its_own() {
    for mut w in worlds() {
        let begin = |number| {
            let node = Node { number, name: String::new(), lease: Some(Duration::from_secs(600)) };
            block_on(Queue::recover(&w.store, &node, NOW, None)).unwrap()
        };
        let (one, other) = (begin(11), begin(12));
        w.queue = other;
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        assert_eq!(w.claim(1, NOW).len(), 1);
        let again = begin(11);
        assert!(again.epoch() > one.epoch());
        w.queue = again;
        assert_eq!((w.queue.uncertain(), w.show(id)[0].1), (0, State::Claimed));
        assert!(w.claim(1, later(DAY)).is_empty());
        w.check();
    }
}

/// A world on PostgreSQL whose node has to say that it lives, and another node beside it.
fn two_nodes(lease: Duration) -> (World, Queue) {
    two_nodes_on(Bed::postgres(), lease)
}

fn two_nodes_on(bed: Bed, lease: Duration) -> (World, Queue) {
    let mut w = World::on(bed);
    let begin = |number, name: &str| {
        let node = Node { number, name: name.into(), lease: Some(lease) };
        block_on(Queue::recover(&w.store, &node, NOW, None)).unwrap()
    };
    let (one, two) = (begin(11, "one"), begin(12, "two"));
    w.queue = one;
    (w, two)
}

#[test]
fn trap_23_who_is_silent_is_taken_over_and_has_nothing_more_to_say() {
    let lease = Duration::from_millis(600);
    let (w, other) = two_nodes(lease);
    let renew = |queue: &Queue| {
        let queue = queue.clone();
        w.store.write_blocking(move |tx| queue::renew(tx, &queue, lease)).unwrap()
    };
    let take_over = |by: &Queue, of: i64| block_on(by.take_over(&w.store, of, None, NOW)).unwrap();
    let ids = ["a", "b", "c"].map(|n| w.enqueue("me@a.test", &[&format!("{n}@b.test")]));
    let mine = w.claim(2, NOW);
    let cancelled = mine[1].message.id;
    w.cancel(cancelled);
    // As long as it speaks, nothing is taken from it, and its claims are its own.
    for _ in 0..4 {
        std::thread::sleep(lease / 2);
        let lives = renew(&w.queue).unwrap();
        assert!(lives.iter().any(|life| life.epoch == w.queue.epoch() && life.name == "one" && life.lapsed.is_none()));
        assert_eq!(take_over(&other, w.queue.epoch()), None);
        assert_eq!(w.show(mine[0].message.id)[0].1, State::Claimed);
    }
    assert!(renew(&other).is_some(), "it was late, and nobody had noticed");
    std::thread::sleep(lease * 2);
    assert!(renew(&other).unwrap().iter().any(|life| life.epoch == w.queue.epoch() && life.lapsed.is_some()));
    assert_eq!(take_over(&other, w.queue.epoch()), Some(1));
    assert_eq!(take_over(&other, w.queue.epoch()), None, "once");
    assert_eq!(w.show(mine[0].message.id), [("a@b.test".into(), State::Waiting, 1)]);
    assert!(w.show(cancelled).is_empty());
    // It wakes up: it hears that it is over, can claim nothing, and what came of its attempts does not count.
    assert_eq!(renew(&w.queue), None);
    let (old, third, first) = (w.queue.clone(), ids[2], ids[0]);
    let claimed = move |tx: &mut store::Tx<'_>| queue::is_claimed(tx, &old, first, 0);
    assert!(!w.store.write_blocking(claimed).unwrap());
    let old = w.queue.clone();
    assert!(w.store.write_blocking(move |tx| claim_any(tx, &old, 9, NOW)).is_err());
    assert_eq!(w.show(third)[0].1, State::Waiting);
    w.record(settled(&mine[..1], DELIVERED, yes()), NOW);
    assert_eq!(w.show(mine[0].message.id)[0].1, State::Waiting);
    // Nobody has had its number, or will.
    let next = block_on(Queue::open(&w.store, 13, NOW)).unwrap();
    assert!(next.epoch() > other.epoch() && other.epoch() > w.queue.epoch());
    w.check();
}

#[test]
fn trap_23_what_is_known_of_another_life_says_nothing_of_the_one_that_is_taken_over() {
    let lease = Duration::from_millis(300);
    let (w, other) = two_nodes(lease);
    let id = w.enqueue("me@a.test", &["x@b.test"]);
    assert_eq!(w.claim(1, NOW).len(), 1);
    std::thread::sleep(lease * 2);
    let remains = Remains { epoch: w.queue.epoch() - 1, begun: Vec::new(), delivered: Vec::new() };
    assert_eq!(block_on(other.take_over(&w.store, w.queue.epoch(), Some(remains), NOW)).unwrap(), Some(1));
    assert_eq!(w.show(id), [("x@b.test".into(), State::Waiting, 1)]);
    w.check();
}

#[test]
fn who_leaves_leaves_nothing() {
    let (w, other) = two_nodes(Duration::from_secs(600));
    let id = w.enqueue("me@a.test", &["x@b.test"]);
    assert_eq!(w.claim(1, NOW).len(), 1);
    assert_eq!(block_on(other.take_over(&w.store, w.queue.epoch(), None, NOW)).unwrap(), None);
    block_on(w.queue.leave(&w.store, NOW)).unwrap();
    assert_eq!(w.show(id), [("x@b.test".into(), State::Waiting, 1)]);
    let lives = w.store.read_blocking(queue::lives).unwrap();
    assert_eq!(lives.iter().map(|life| life.name.as_str()).collect::<Vec<_>>(), ["two"]);
    w.check();
}

/// A server that was alone becomes one of several, and is alone again.
#[test]
fn what_was_claimed_alone_is_given_back_by_several_and_the_other_way_round() {
    for mut w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        assert_eq!(w.claim(1, NOW).len(), 1);
        let node = Node { number: 77, name: "one".into(), lease: Some(Duration::from_secs(600)) };
        w.queue = block_on(Queue::recover(&w.store, &node, NOW, None)).unwrap();
        assert_eq!((w.queue.uncertain(), w.show(id)[0].1), (1, State::Waiting));
        assert_eq!(w.claim(1, NOW).len(), 1);
        let w = w.killed();
        assert_eq!((w.queue.uncertain(), w.show(id)[0].1), (1, State::Waiting));
        w.check();
    }
}

#[test]
fn a_source_is_one_nodes_at_a_time() {
    let (w, other) = two_nodes(Duration::from_secs(600));
    let ids = [1, 2, 3].map(queue::source::SourceId::read);
    let hold = |queue: &Queue, can: &[queue::source::SourceId]| {
        let (queue, can) = (queue.clone(), can.to_vec());
        w.store.write_blocking(move |tx| queue::hold_sources(tx, &queue, &can)).unwrap()
    };
    assert_eq!(hold(&w.queue, &ids[..2]), ids[..2]);
    assert_eq!(hold(&other, &ids[1..]), ids[2..]);
    // One that is no longer its own to have is free.
    assert_eq!(hold(&w.queue, &ids[..1]), ids[..1]);
    assert_eq!(hold(&other, &ids[1..]), ids[1..]);
    block_on(w.queue.leave(&w.store, NOW)).unwrap();
    assert_eq!(hold(&other, &ids), ids);
    assert_eq!(hold(&w.queue, &ids), [], "it is over");
}

/// What a node hears: of others beside it, and in a process of its own.
fn news(store: &Store, queue: &Queue, mark: &Mark) -> (Vec<Event>, Mark) {
    let (queue, mark) = (queue.clone(), mark.clone());
    store.read_blocking(move |tx| queue::news(tx, &queue, &mark, NOW)).unwrap()
}

#[test]
fn nodes_hear_of_one_anothers_mail_and_changes() {
    let packs = Dir::new("queue-packs");
    let (w, other) =
        two_nodes_on(Bed::postgres().with(|o| o.shared = Some(packs.path().into())), Duration::from_secs(600));
    let elsewhere = Dir::new("queue-elsewhere");
    let options = Options { dir: elsewhere.path().into(), keeps: false, ..w.bed.options().clone() };
    let there = Store::open(&options, &[MIGRATIONS]).unwrap();
    let early = w.enqueue("me@a.test", &["x@early.test"]);
    let own = news(&w.store, &w.queue, &Mark::default()).1;
    let news = |mark: &Mark| news(&there, &other, mark);
    let (heard, mark) = news(&Mark::default());
    assert_eq!(heard, [], "what is there already is looked for otherwise");
    let group = |domain| queue::Group::of(Stream::Mail, OrganisationId(1), domain, 0);
    w.enqueue("me@a.test", &["x@b.test", "y@c.test"]);
    w.enqueue("me@a.test", &["x@b.test"]);
    let mut groups = vec![group("b.test"), group("c.test")];
    groups.sort();
    let (heard, mark) = news(&mark);
    assert_eq!(heard, [Event::Due(groups, NOW)]);
    assert_eq!(news(&mark).0, []);
    let (address, id) = (at("x@b.test"), early);
    assert_eq!(w.claim(9, NOW).len(), 3);
    let suppressed = address.clone();
    let new = queue::suppression::Suppression {
        organisation: OrganisationId(1),
        address: String::new(),
        stream: None,
        reason: "asked".into(),
        note: String::new(),
        evidence: None,
        since: NOW,
        expires: None,
    };
    let change = move |tx: &mut store::Tx<'_>| {
        queue::source::add_pool(tx, "bulk", &[("default".into(), 1)], &[])?;
        queue::suppression::add(tx, &suppressed, &new)?;
        queue::source::end_pauses(tx, "google", Some(queue::source::SourceId::read(3)), NOW)?;
        queue::source::end_pauses(tx, "mx.b.test", None, NOW)?;
        queue::cancel(tx, id, 0, NOW).map(drop)
    };
    w.store.write_blocking(change).unwrap();
    let (heard, mark) = news(&mark);
    let ended = |site: &str, source: Option<i64>| Event::PausesEnded {
        site: site.into(),
        source: source.map(queue::source::SourceId::read),
        noted: Default::default(),
    };
    let [one, two] = [ended("google", Some(3)), ended("mx.b.test", None)];
    assert_eq!(heard, [Event::Changed, Event::Suppressed(address), one, two, Event::Cancelling(id)]);
    assert_eq!(news(&mark).0, []);
    // Who said it heard it when it did.
    assert_eq!(self::news(&w.store, &w.queue, &own).0, []);
}

/// Each of them waits for nobody, and what the other is just claiming is looked at again soon.
#[test]
fn two_nodes_that_claim_of_one_group_do_not_wait_for_each_other() {
    let (w, other) = two_nodes(Duration::from_secs(600));
    for n in 0..6 {
        w.enqueue("me@a.test", &[&format!("u{n}@b.test")]);
    }
    let want = Want { group: queue::Group::of(Stream::Mail, OrganisationId(1), "b.test", 0), most: 4 };
    let (claimed, goes_on) = (mpsc::channel(), mpsc::channel::<()>());
    let (told, wait, first) = (claimed.0, Mutex::new(goes_on.1), w.queue.clone());
    let slow = w.store.write_with(Lane::Interactive, vec![], move |tx, _| {
        let due = claim_due(tx, &first, &[want], NOW)?;
        told.send(due.next.clone()).unwrap();
        let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(5));
        Ok(due)
    });
    assert_eq!(claimed.1.recv().unwrap(), [(want.group, Some(NOW))], "two are left");
    let began = Instant::now();
    let queue = other.clone();
    let second = w.store.write_blocking(move |tx| claim_due(tx, &queue, &[want], NOW)).unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for the first");
    assert_eq!(second.next, [(want.group, Some(later(200)))]);
    drop(goes_on.0);
    let first = block_on(slow).unwrap();
    let mut all: Vec<_> = first.claimed.iter().chain(&second.claimed).map(|c| c.message.id).collect();
    assert_eq!((first.claimed.len(), second.claimed.len()), (4, 2));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
    w.check();
}

#[test]
fn trap_23_two_who_claim_at_once_share_and_do_not_double() {
    for w in worlds() {
        for n in 0..60 {
            w.enqueue("me@a.test", &[&format!("u{n}@b.test")]);
        }
        let claims = (0..8).map(|_| {
            let queue = w.queue.clone();
            w.store.write_with(Lane::Interactive, Vec::new(), move |tx, _| claim_any(tx, &queue, 20, NOW))
        });
        let claims: Vec<_> = claims.collect();
        let mut got: Vec<QueueId> =
            claims.into_iter().flat_map(|c| block_on(c).unwrap().claimed).map(|c| c.message.id).collect();
        got.extend(w.claim(60, NOW).iter().map(|c| c.message.id));
        let n = got.len();
        got.sort();
        got.dedup();
        assert_eq!((n, got.len()), (60, 60), "{}", w.name);
        w.check();
    }
}
