//! The queue's verbs on both engines: claims, outcomes, debts, and what is left when all is done.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use base::{Address, BlobId, OrganisationId, Reply, Stream, Timestamp};
use queue::log::{Cursor, Filter, What};
use queue::receipt::{End, Segment};
use queue::{
    Claimed, Content, Delivered, Event, Fate, MAX_REFERENCE, MIGRATIONS, Mark, NewDelivery, NewMessage, Node, Outcome,
    Owed, Queue, QueueId, Recipe, Release, Remains, Report, Said, Settled, State, Want, claim_due, record, reported,
    show,
};
use smtp::{BodyType, Notify, OriginalRecipient, Ret};
use store::{Class, Lane, Options, Sql, Store, Value, params};
use testkit::{Bed, Dir, engines};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
const BODY: &[u8] = b"Subject: hi\r\n\r\nhello\r\n";
const PREFIX: &[u8] = b"Received: here\r\n";

fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

struct World {
    store: Store,
    queue: Queue,
    name: &'static str,
    // Last: it takes its directory away.
    bed: Bed,
}

/// A world on each engine. A test ends with the tables in order.
fn worlds() -> impl Iterator<Item = World> {
    engines().map(World::on)
}

impl World {
    fn on(bed: Bed) -> Self {
        let store = bed.open(&[MIGRATIONS]);
        let queue = block_on(Queue::open(&store, 1, NOW)).unwrap();
        World { store, queue, name: bed.name(), bed }
    }

    fn enqueue(&self, from: &str, to: &[&str]) -> QueueId {
        self.enqueue_each(from, to.iter().map(|to| delivery(to, None, Fate::Open)).collect())
    }

    fn enqueue_each(&self, from: &str, deliveries: Vec<NewDelivery>) -> QueueId {
        let (id, from) = (self.queue.next_id(), Address::parse(from).ok());
        let mut stager = self.store.stager(Class::Transit);
        stager.push(BODY).unwrap();
        let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
            let octets = (PREFIX.len() + BODY.len()) as u64;
            let new = NewMessage {
                id,
                from: from.as_ref(),
                prefix: PREFIX,
                content: queue::Content::Stored(blobs[0]),
                octets,
                envelope_id: Some("id+1"),
                ret: Some(Ret::Headers),
                body: BodyType::EightBitMime,
                smtputf8: true,
                require_tls: false,
                tls_optional: false,
                account: None,
                organisation: OrganisationId(1),
                stream: Stream::Mail,
                created: NOW,
                priority: 0,
                release: None,
                deliver_by: None,
                expires: None,
                message_id: Some("7@joe.test"),
            };
            queue::enqueue(tx, &new, &deliveries)
        };
        block_on(self.store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap();
        id
    }

    fn claim(&self, n: u32, now: Timestamp) -> Vec<Claimed> {
        let queue = self.queue.clone();
        self.store.write_blocking(move |tx| claim_any(tx, &queue, n, now)).unwrap().claimed
    }

    fn record(&self, settled: Vec<Settled>, now: Timestamp) -> Vec<QueueId> {
        let queue = self.queue.clone();
        let segment = Segment::of(&queue, &settled, now).unwrap();
        self.store.write_blocking(move |tx| record(tx, &queue, &settled, &segment, now)).unwrap()
    }

    fn show(&self, id: QueueId) -> Vec<(String, State, u32)> {
        let shown = self.store.read_blocking(move |tx| show(tx, id)).unwrap();
        let deliveries = shown.map_or(Vec::new(), |(_, d)| d);
        deliveries.iter().map(|d| (d.delivery.to.to_string(), d.state, d.delivery.attempts)).collect()
    }

    fn is_empty(&self) -> bool {
        self.store.read_blocking(|tx| queue::page(tx, QueueId::FIRST, 1)).unwrap().is_empty()
    }

    /// Stops without a word, and starts again.
    fn killed(self) -> World {
        let World { store, bed, .. } = self;
        drop(store);
        World::on(bed)
    }

    fn check(&self) {
        let blobs = self.store.clone();
        let wrong = self.store.read_blocking(move |tx| queue::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).unwrap();
        assert_eq!(wrong, Vec::<String>::new(), "{}", self.name);
    }
}

/// At most `n`, of whatever group.
fn claim_any(tx: &mut store::Tx<'_>, queue: &Queue, n: u32, now: Timestamp) -> store::Result<queue::Due> {
    let mut all = queue::Due::default();
    for (group, _) in queue::scheduled(tx, None)? {
        let taken = all.claimed.iter().map(|c| c.deliveries.len()).sum::<usize>() as u32;
        let due = claim_due(tx, queue, &[Want { group, most: n - taken }], now)?;
        all.held.extend(due.held);
        for claimed in due.claimed {
            match all.claimed.iter_mut().find(|c| c.message.id == claimed.message.id) {
                Some(known) => known.deliveries.extend(claimed.deliveries),
                None => all.claimed.push(claimed),
            }
        }
    }
    all.claimed.sort_by_key(|c| c.message.id);
    all.claimed.iter_mut().for_each(|c| c.deliveries.sort_by_key(|d| d.number));
    Ok(all)
}

/// When the first of all is due.
fn first_due(tx: &mut store::Tx<'_>) -> store::Result<Option<Timestamp>> {
    Ok(queue::scheduled(tx, None)?.into_iter().map(|(_, due)| due).min())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn delivery(to: &str, notify: Option<Notify>, fate: Fate) -> NewDelivery {
    NewDelivery { to: at(to), notify, original: None, fate }
}

fn on(success: bool, failure: bool, delay: bool) -> Option<Notify> {
    Some(Notify::On { success, failure, delay })
}

/// The same outcome for all of it.
fn settled(claimed: &[Claimed], outcome: Outcome, reply: Reply) -> Vec<Settled> {
    let said = Said::by("mx.example.test", bounce::Stage::Rcpt, reply);
    let one = |c: &Claimed, d: &queue::Delivery| Settled {
        message: c.message.clone(),
        delivery: d.clone(),
        outcome,
        said: said.clone(),
        class: String::new(),
        rule: None,
    };
    claimed.iter().flat_map(|c| c.deliveries.iter().map(move |d| one(c, d))).collect()
}

fn yes() -> Reply {
    Reply::new(250, 0, 0, "Queued")
}

fn no() -> Reply {
    Reply::new(550, 1, 1, "No such user")
}

fn later_please() -> Reply {
    Reply::plain(451, "busy")
}

const DELIVERED: Outcome = Outcome::Delivered { reports: false };

#[test]
fn every_statement_is_understood() {
    for w in worlds() {
        w.store.read_blocking(|tx| queue::ALL.iter().try_for_each(|sql| tx.prepare(sql))).unwrap();
    }
}

#[test]
fn what_was_enqueued_is_claimed_once_with_all_it_carries() {
    for w in worlds() {
        let original = OriginalRecipient { kind: "rfc822".into(), address: "a;b@x.test".into() };
        let rich = NewDelivery {
            original: Some(original.clone()),
            notify: on(true, false, true),
            ..delivery("\"odd name\"@b.test", None, Fate::Open)
        };
        let id =
            w.enqueue_each("me@example.test", vec![rich, delivery("用户@c.test", Some(Notify::Never), Fate::Open)]);
        w.check();
        let claimed = w.claim(10, NOW);
        assert_eq!(claimed.len(), 1);
        let (m, d) = (&claimed[0].message, &claimed[0].deliveries);
        assert_eq!((m.id, &m.from, &m.prefix[..]), (id, &Some(at("me@example.test")), PREFIX));
        assert_eq!(
            (m.envelope_id.as_deref(), m.ret, m.body),
            (Some("id+1"), Some(Ret::Headers), BodyType::EightBitMime)
        );
        assert_eq!((m.smtputf8, m.require_tls, m.created, m.total), (true, false, NOW, 2));
        assert_eq!(
            (&d[0].to, d[0].notify, d[0].original.clone()),
            (&at("\"odd name\"@b.test"), on(true, false, true), Some(original))
        );
        assert_eq!((&d[1].to, d[1].notify, d[1].attempts), (&at("用户@c.test"), Some(Notify::Never), 0));
        assert_eq!(d[1].expires, later(5 * DAY));
        assert!(w.claim(10, NOW).is_empty(), "claimed already");
        w.check();
    }
}

#[test]
fn what_is_made_when_it_leaves_is_claimed_with_what_it_is_made_of_and_owes_nothing() {
    for w in worlds() {
        let (id, from) = (w.queue.next_id(), at("shop@x.test"));
        let enqueue = |octets: usize, fates: &[Fate]| {
            let to = |fate: &Fate| delivery("jane@b.test", on(true, true, true), fate.clone());
            let (to, from) = (fates.iter().map(to).collect::<Vec<_>>(), from.clone());
            w.store.write_blocking(move |tx| {
                let recipe = Recipe { kind: 3, reference: vec![0xff; octets].into() };
                let made = NewMessage { from: Some(&from), ..NewMessage::made(id, recipe, NOW) };
                queue::enqueue(tx, &made, &to)
            })
        };
        assert!(enqueue(MAX_REFERENCE + 1, &[Fate::Open]).is_err() && w.is_empty());
        enqueue(MAX_REFERENCE, &[Fate::Open, Fate::Delivered, Fate::Open]).unwrap();
        w.check();
        let claimed = w.claim(9, NOW);
        let expected = Content::Made(Recipe { kind: 3, reference: [0xff; MAX_REFERENCE].into() });
        assert_eq!((&claimed[0].message.content, claimed[0].deliveries.len()), (&expected, 2));
        assert_eq!(w.store.read_blocking(move |tx| queue::blob(tx, id)).unwrap(), None);
        let mut all = settled(&claimed, Outcome::Failed, no());
        all[1].outcome = Outcome::Cancelled;
        assert_eq!(w.record(all, later(HOUR)), []);
        assert!(w.is_empty(), "{}", w.name);
        let ends = w.store.read_blocking(move |tx| queue::receipt::of_message(tx, id)).unwrap();
        let ends: Vec<_> = ends.into_iter().map(|r| (r.end, r.attempts)).collect();
        assert_eq!(ends, [(End::Bounced, 1), (End::Cancelled, 0)], "{}", w.name);
    }
}

#[test]
fn each_stream_is_given_up_in_its_own_time() {
    for w in worlds() {
        for (stream, hours) in [(Stream::Mail, 120), (Stream::Transactional, 48), (Stream::Marketing, 72)] {
            let (id, release) = (w.queue.next_id(), later(HOUR));
            let enqueue = move |tx: &mut store::Tx<'_>| {
                let made = NewMessage::made(id, Recipe { kind: 0, reference: [].into() }, NOW);
                let new = NewMessage { stream, release: Some(release), ..made };
                queue::enqueue(tx, &new, &[delivery("a@b.test", None, Fate::Open)])
            };
            w.store.write_blocking(enqueue).unwrap();
            let (_, all) = w.store.read_blocking(move |tx| show(tx, id)).unwrap().unwrap();
            assert_eq!(all[0].delivery.expires, Timestamp(release.0 + hours * HOUR), "{stream} on {}", w.name);
        }
    }
}

#[test]
fn a_claim_takes_what_is_due_longest_and_no_more_than_asked_for() {
    for w in worlds() {
        let ids: Vec<QueueId> = (0..5).map(|n| w.enqueue("me@a.test", &[&format!("u{n}@b.test")])).collect();
        let first = w.claim(5, NOW);
        w.record(settled(&first[..2], Outcome::Deferred(later(HOUR)), later_please()), NOW);
        w.record(settled(&first[2..3], Outcome::Deferred(later(2 * HOUR)), later_please()), NOW);
        assert!(w.claim(9, later(HOUR - 1)).is_empty());
        let due = w.store.read_blocking(first_due).unwrap();
        assert_eq!(due, Some(later(HOUR)));
        let again = w.claim(1, later(3 * HOUR));
        assert!(again[0].message.id == ids[0] || again[0].message.id == ids[1]);
        assert_eq!((again[0].deliveries[0].attempts, w.claim(9, later(3 * HOUR)).len()), (1, 2));
        w.check();
    }
}

#[test]
fn what_waits_is_counted_up_to_a_bound() {
    for w in worlds() {
        let count = |most| w.store.read_blocking(move |tx| queue::waiting(tx, most)).unwrap();
        assert_eq!(count(10), 0, "{}", w.name);
        w.enqueue("me@here.test", &["a@there.test", "b@there.test", "c@there.test"]);
        assert_eq!((count(10), count(3), count(2)), (3, 3, 2), "{}", w.name);
        w.claim(2, NOW);
        assert_eq!(count(10), 1, "{}", w.name);
    }
}

#[test]
fn a_message_goes_with_its_last_delivery() {
    for w in worlds() {
        let (one, three) =
            (w.enqueue("me@a.test", &["x@b.test"]), w.enqueue("", &["x@b.test", "y@b.test", "z@c.test"]));
        let claimed = w.claim(9, NOW);
        let all = settled(&claimed, DELIVERED, yes());
        assert!(w.record(all[..2].to_vec(), NOW).is_empty());
        assert!(w.show(one).is_empty());
        let states: Vec<State> = w.show(three).iter().map(|d| d.1).collect();
        assert_eq!(states, [State::Delivered, State::Claimed, State::Claimed]);
        w.check();
        // Nobody is told that a mail from `<>` failed.
        assert!(w.record(settled(&claimed[1..], Outcome::Failed, no())[1..].to_vec(), NOW).is_empty());
        assert!(w.is_empty(), "{}", w.name);
        w.check();
    }
}

#[test]
fn trap_19_what_a_sender_is_told() {
    // Who from, NOTIFY, what happened, how long after; what is owed (failure, delay, success).
    let hop = |reports| Outcome::Delivered { reports };
    let wait = Outcome::Deferred(later(DAY));
    for (from, notify, outcome, after, owed) in [
        ("a@x.test", None, Outcome::Failed, 0, (true, false, false)),
        ("a@x.test", None, hop(false), 0, (false, false, false)),
        ("a@x.test", None, wait, 3 * HOUR, (false, false, false)),
        ("a@x.test", None, wait, 4 * HOUR, (false, true, false)),
        ("a@x.test", Some(Notify::Never), Outcome::Failed, 0, (false, false, false)),
        ("a@x.test", Some(Notify::Never), wait, 4 * HOUR, (false, false, false)),
        ("a@x.test", on(true, false, false), Outcome::Failed, 0, (false, false, false)),
        ("a@x.test", on(true, false, false), hop(false), 0, (false, false, true)),
        ("a@x.test", on(true, false, false), hop(true), 0, (false, false, false)),
        ("a@x.test", on(false, true, false), wait, 4 * HOUR, (false, false, false)),
        ("", None, Outcome::Failed, 0, (false, false, false)),
        ("", on(true, true, true), Outcome::Failed, 0, (false, false, false)),
        ("", on(true, true, true), hop(false), 0, (false, false, false)),
        ("", None, wait, 4 * HOUR, (false, false, false)),
    ] {
        let w = World::on(Bed::sqlite());
        let id = w.enqueue_each(from, vec![delivery("x@b.test", notify, Fate::Open)]);
        let owing = w.record(settled(&w.claim(1, NOW), outcome, no()), later(after));
        let (failure, delay, success) = owed;
        let owed = Owed { failure, delay, success };
        let shown = w.store.read_blocking(move |tx| show(tx, id)).unwrap();
        let got = shown.map_or(Owed::NOTHING, |(_, d)| d[0].owed);
        assert_eq!((got, owing.is_empty()), (owed, owed.is_nothing()), "{from:?} {notify:?} {outcome:?} after {after}");
        w.check();
    }
}

#[test]
fn a_delay_is_told_once_and_a_failure_after_it() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        let wait = |ms| Outcome::Deferred(later(ms));
        assert_eq!(w.record(settled(&w.claim(1, NOW), wait(5 * HOUR), later_please()), later(4 * HOUR)), [id]);
        assert_eq!(w.store.read_blocking(queue::owing).unwrap(), [id]);
        let delay = Report { number: 0, owed: Owed { delay: true, ..Owed::NOTHING }, state: State::Waiting };
        w.store.write_blocking(move |tx| reported(tx, id, &[delay])).unwrap();
        w.check();
        let claimed = w.claim(1, later(5 * HOUR));
        assert!(claimed[0].deliveries[0].warned);
        assert!(w.record(settled(&claimed, wait(6 * HOUR), later_please()), later(5 * HOUR)).is_empty());
        assert_eq!(w.record(settled(&w.claim(1, later(6 * HOUR)), Outcome::Failed, no()), later(6 * HOUR)), [id]);
        w.check();
        let failure = Report { number: 0, owed: Owed { failure: true, ..Owed::NOTHING }, state: State::Failed };
        w.store.write_blocking(move |tx| reported(tx, id, &[failure])).unwrap();
        assert!(w.is_empty());
    }
}

#[test]
fn an_end_makes_the_warning_pointless_that_was_not_sent_yet() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test", "y@b.test"]);
        let claimed = w.claim(2, NOW);
        w.record(settled(&claimed, Outcome::Deferred(later(5 * HOUR)), later_please()), later(4 * HOUR));
        w.check();
        let claimed = w.claim(2, later(5 * HOUR));
        assert!(w.record(settled(&claimed, DELIVERED, yes()), later(5 * HOUR)).is_empty());
        assert!(w.show(id).is_empty() && w.is_empty());
    }
}

#[test]
fn what_happened_at_home_is_only_reported() {
    for w in worlds() {
        let told = on(true, true, false);
        let fates = vec![
            delivery("a@x.test", told, Fate::Delivered),
            delivery("b@x.test", None, Fate::Failed(Reply::new(452, 2, 2, "full"))),
            delivery("c@x.test", None, Fate::Delivered),
        ];
        let id = w.enqueue_each("me@a.test", fates);
        assert!(w.claim(9, later(DAY)).is_empty());
        assert_eq!(w.store.read_blocking(queue::owing).unwrap(), [id]);
        let states: Vec<State> = w.show(id).iter().map(|d| d.1).collect();
        assert_eq!(states, [State::Delivered, State::Failed], "nobody asked about the third");
        w.check();
        let nobody = w.enqueue_each("", vec![delivery("b@x.test", None, Fate::Failed(no()))]);
        assert!(w.show(nobody).is_empty());
        w.check();
    }
}

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
        w.store.write_blocking(move |tx| queue::cancel(tx, cancelled, NOW)).unwrap();
        // It stops after some, and so does the next.
        for jobs in [3, 4] {
            assert!(after_jobs(jobs, Queue::open(&w.store, 1, NOW)).0.is_none());
            w.check();
        }
        let claimed = || ids.iter().flat_map(|id| w.show(*id)).filter(|d| d.1 != State::Waiting).count();
        let left = claimed();
        assert!((1..n - 256).contains(&left), "{}: {left}", w.name);
        let (queue, jobs) = after_jobs(100, Queue::open(&w.store, 1, NOW));
        // At most 256 at once, and none left out.
        assert!(queue.is_some() && jobs > left / 256 + 1, "{}: {jobs}", w.name);
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
    w.store.write_blocking(move |tx| queue::cancel(tx, cancelled, NOW)).unwrap();
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
        queue::cancel(tx, id, NOW).map(drop)
    };
    w.store.write_blocking(change).unwrap();
    let (heard, mark) = news(&mark);
    assert_eq!(heard, [Event::Changed, Event::Suppressed(address), Event::Cancelling(id)]);
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

#[test]
fn a_claim_can_be_given_back_without_an_attempt() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        w.claim(1, NOW);
        let (queue, far) = (w.queue.clone(), later(9 * DAY));
        let release = Release { message: id, number: 0, until: far, expires: None };
        w.store.write_blocking(move |tx| queue::release(tx, &queue, &[release], NOW)).unwrap();
        assert_eq!(w.show(id), [("x@b.test".into(), State::Waiting, 0)]);
        // Trap 20: nothing rests beyond its time.
        assert_eq!(w.store.read_blocking(first_due).unwrap(), Some(later(5 * DAY)));
        // Unless that is moved, and it is never moved back.
        for (days, lives) in [(6, 6), (5, 6)] {
            w.claim(1, later(6 * DAY));
            let release = Release { expires: Some(later(days * DAY)), ..release };
            let queue = w.queue.clone();
            w.store.write_blocking(move |tx| queue::release(tx, &queue, &[release], NOW)).unwrap();
            assert_eq!(w.store.read_blocking(first_due).unwrap(), Some(later(lives * DAY)));
        }
        w.check();
    }
}

#[test]
fn retry_and_cancel() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test", "y@b.test", "z@b.test"]);
        let claimed = w.claim(2, NOW);
        w.record(settled(&claimed, Outcome::Deferred(later(DAY)), later_please())[..1].to_vec(), NOW);
        let retried = w.store.write_blocking(move |tx| queue::retry(tx, id, later(1))).unwrap();
        assert_eq!((retried, w.claim(1, later(1)).len()), (2, 1));
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, cancelled.under_way, cancelled.reports), (1, 2, 0));
        assert_eq!(w.show(id).iter().filter(|d| d.1 == State::Cancelled).count(), 1);
        w.check();
        let other = w.enqueue("me@a.test", &["x@b.test"]);
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, other, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, w.show(other).len()), (1, 0));
        w.check();
    }
}

#[test]
fn what_is_cancelled_while_it_is_claimed_is_not_tried_again() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["w@b.test", "x@b.test", "y@b.test", "z@b.test"]);
        let claimed = w.claim(9, NOW);
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, cancelled.under_way), (0, 4));
        w.check();
        // One arrives all the same, one fails, one would have to wait: nobody is told of either; one was not begun.
        w.record(settled(&claimed, DELIVERED, yes())[..1].to_vec(), NOW);
        assert!(w.record(settled(&claimed, Outcome::Failed, no())[1..2].to_vec(), NOW).is_empty());
        let late = settled(&claimed, Outcome::Deferred(later(DAY)), later_please())[2..3].to_vec();
        assert!(w.record(late, later(DAY)).is_empty());
        let states: Vec<State> = w.show(id).iter().map(|d| d.1).collect();
        assert_eq!(states, [State::Delivered, State::Cancelled, State::Cancelled, State::Cancelling]);
        w.check();
        let (queue, release) = (w.queue.clone(), Release { message: id, number: 3, until: NOW, expires: None });
        w.store.write_blocking(move |tx| queue::release(tx, &queue, &[release], NOW)).unwrap();
        assert!(w.is_empty());
        // Nor after a crash.
        let id = w.enqueue("me@a.test", &["x@b.test", "y@b.test"]);
        w.claim(1, NOW);
        w.store.write_blocking(move |tx| queue::cancel(tx, id, NOW)).unwrap();
        let w = w.killed();
        assert!(w.is_empty());
        w.check();
    }
}

/// What nobody can read stops nobody.
#[test]
fn a_row_that_cannot_be_read_is_set_aside() {
    const SPOIL: Sql =
        Sql { name: "spoil", text: "UPDATE queue_delivery SET recipient = ?2 WHERE message = ?1 AND number = 0" };
    const SENDER: Sql = Sql { name: "sender", text: "UPDATE queue_message SET sender = ?2 WHERE id = ?1" };
    for w in worlds() {
        let (bad, worse, good) = (
            w.enqueue("me@a.test", &["x@b.test", "y@b.test"]),
            w.enqueue("me@a.test", &["x@b.test"]),
            w.enqueue("me@a.test", &["x@b.test"]),
        );
        w.store.write_blocking(move |tx| tx.execute(&SPOIL, params![bad, Value::Bytes(b"no address")])).unwrap();
        w.store.write_blocking(move |tx| tx.execute(&SENDER, params![worse, Value::Bytes(b"\xff@x.test")])).unwrap();
        let queue = w.queue.clone();
        let due = w.store.write_blocking(move |tx| claim_any(tx, &queue, 9, NOW)).unwrap();
        let claimed: Vec<_> =
            due.claimed.iter().flat_map(|c| c.deliveries.iter().map(|d| (c.message.id, d.number))).collect();
        assert_eq!((claimed, due.held.len()), (vec![(bad, 1), (good, 0)], 2), "{}", w.name);
        assert!(w.claim(9, later(DAY)).is_empty());
        let wrong = w.store.read_blocking(|tx| queue::verify(tx, &|_| Ok((BODY.len()) as u64))).unwrap();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        w.record(settled(&due.claimed, DELIVERED, yes()), NOW);
        for id in [bad, worse] {
            assert!(w.store.read_blocking(move |tx| show(tx, id)).is_err());
            assert_eq!(w.store.write_blocking(move |tx| queue::retry(tx, id, NOW)).unwrap(), 1);
            assert!(w.claim(9, NOW).is_empty());
            assert_eq!(w.store.write_blocking(move |tx| queue::cancel(tx, id, NOW)).unwrap().cancelled, 1);
        }
        assert!(w.is_empty());
        w.check();
    }
}

#[test]
fn a_message_that_owes_a_report_can_be_cancelled() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test", "y@b.test"]);
        w.record(settled(&w.claim(1, NOW), Outcome::Failed, no()), NOW);
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, cancelled.reports), (1, 1));
        assert!(w.is_empty());
        w.check();
    }
}

#[test]
fn what_has_had_its_time_says_so_and_keeps_the_last_answer() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["x@b.test"]);
        assert_eq!(w.record(settled(&w.claim(1, NOW), Outcome::Expired, later_please()), NOW), [id]);
        let shown = w.store.read_blocking(move |tx| show(tx, id)).unwrap().unwrap().1;
        assert_eq!(
            (shown[0].state, shown[0].status.as_str(), shown[0].reply.as_str()),
            (State::Failed, "4.4.7", "451 busy")
        );
        w.check();
    }
}

/// The answer to the commit of a claim is lost, and the commit itself comes late.
#[test]
fn a_claim_without_an_answer_is_taken_back() {
    for w in worlds() {
        let ids = [w.enqueue("me@a.test", &["x@b.test"]), w.enqueue("me@a.test", &["x@b.test"])];
        let (queue, (began, begun)) = (w.queue.clone(), std::sync::mpsc::channel());
        let claim = w.store.write_with(Lane::Interactive, Vec::new(), move |tx, _| {
            let due = claim_any(tx, &queue, 1, NOW)?;
            let _ = began.send(());
            std::thread::sleep(std::time::Duration::from_millis(300));
            Ok(due)
        });
        begun.recv().unwrap();
        let doubtful = ids.map(|message| Release { message, number: 0, until: NOW, expires: None });
        let queue = w.queue.clone();
        w.store.write_blocking(move |tx| queue::take_back(tx, &queue, &doubtful, NOW)).unwrap();
        assert_eq!(block_on(claim).unwrap().claimed.len(), 1);
        assert!(ids.iter().all(|id| w.show(*id)[0].1 == State::Waiting), "{}", w.name);
        assert_eq!(w.claim(9, NOW).len(), 2);
        w.check();
    }
}
