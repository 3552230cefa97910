//! The log: what happened to recipients, in the order of commits, on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::{Address, BlobId, OrganisationId, Reply, Stream, Timestamp};
use bounce::Stage;
use queue::log::{self, Cursor, Line, Page, What};
use queue::receipt::{self, Event, Kind, Segment};
use queue::{Claimed, Fate, Group, MIGRATIONS, NewDelivery, NewMessage, Outcome, Queue, QueueId, Said, Settled, Want};
use store::{Class, Lane, Store};
use testkit::{Bed, engines};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const BODY: &[u8] = b"Subject: x\r\n\r\nx\r\n";
const DELIVERED: Outcome = Outcome::Delivered { reports: false };

fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

struct World {
    store: Store,
    queue: Queue,
    _bed: Bed,
}

fn worlds() -> impl Iterator<Item = World> {
    engines().map(|bed| {
        let store = bed.open(&[MIGRATIONS]);
        let queue = block_on(Queue::open(&store, 1, NOW)).unwrap();
        World { store, queue, _bed: bed }
    })
}

impl World {
    fn enqueue(&self, to: &[String]) -> QueueId {
        let (id, from) = (self.queue.next_id(), Address::parse("joe@ours.test").unwrap());
        let to: Vec<_> = to.iter().map(|to| Address::parse(to).unwrap()).collect();
        let mut stager = self.store.stager(Class::Transit);
        stager.push(BODY).unwrap();
        let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
            let new = NewMessage {
                from: Some(&from),
                organisation: OrganisationId(1),
                stream: Stream::Marketing,
                message_id: Some("1@ours.test"),
                ..NewMessage::new(id, blobs[0], BODY.len() as u64, NOW)
            };
            let one = |to: &Address| NewDelivery {
                to: to.clone(),
                notify: Some(smtp::Notify::Never),
                original: None,
                fate: Fate::Open,
            };
            queue::enqueue(tx, &new, &to.iter().map(one).collect::<Vec<_>>())
        };
        block_on(self.store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap();
        id
    }

    /// Everything that waits for b.test, of one message.
    fn claim(&self, now: Timestamp) -> Claimed {
        let queue = self.queue.clone();
        let want = Want { group: Group::of(Stream::Marketing, OrganisationId(1), "b.test", 0), most: 1000 };
        let due = self.store.write_blocking(move |tx| queue::claim_due(tx, &queue, &[want], now)).unwrap();
        due.claimed.into_iter().next().unwrap()
    }

    fn record(&self, settled: Vec<Settled>, now: Timestamp) {
        let queue = self.queue.clone();
        let segment = Segment::of(&queue, &settled, now).unwrap();
        self.store.write_blocking(move |tx| queue::record(tx, &queue, &settled, &segment, now)).unwrap();
    }

    fn read(&self, from: Cursor, most: usize) -> Page {
        self.store.read_blocking(move |tx| log::read(tx, from, most)).unwrap()
    }

    fn cancel(&self, id: QueueId, now: Timestamp) {
        self.store.write_blocking(move |tx| queue::cancel(tx, id, now)).unwrap();
    }

    fn rows(&self) -> i64 {
        self.store.read_blocking(log::last).unwrap()
    }
}

fn settled(c: &Claimed, n: usize, outcome: Outcome) -> Settled {
    let reply = match outcome {
        Outcome::Delivered { .. } => Reply::new(250, 0, 0, "Ok"),
        Outcome::Deferred(_) => Reply::new(451, 7, 1, "later"),
        _ => Reply::new(550, 1, 1, "No such user"),
    };
    let class = if outcome == DELIVERED { "" } else { "no-such-user" };
    let (message, delivery) = (c.message.clone(), c.deliveries[n].clone());
    let said = Said::by("mx.b.test", Stage::Dot, reply);
    Settled { message, delivery, outcome, said, class: class.into(), rule: None }
}

fn recipients(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("u{n}@b.test")).collect()
}

fn told(lines: &[Line]) -> Vec<(&str, &'static str)> {
    lines.iter().map(|line| (line.head.to.split('@').next().unwrap(), line.what.name())).collect()
}

#[test]
fn what_happens_is_read_in_its_order_from_any_place() {
    for w in worlds() {
        assert_eq!(w.read(Cursor::START, 9), Page { lines: vec![], next: Cursor::before(1), more: false, lost: 0 });
        let id = w.enqueue(&recipients(4));
        let c = w.claim(NOW);
        let all = [DELIVERED, Outcome::Deferred(later(9)), Outcome::Failed, Outcome::Expired];
        w.record(all.into_iter().enumerate().map(|(n, outcome)| settled(&c, n, outcome)).collect(), later(1));
        let again = w.claim(later(10));
        w.record(vec![settled(&again, 0, DELIVERED)], later(11));
        let event = Event { at: later(12), kind: Kind::Complained, class: "complaint".into(), detail: "abuse".into() };
        w.store.write_blocking(move |tx| receipt::attach(tx, id, 0, &event)).unwrap();
        let page = w.read(Cursor::START, 100);
        let all = [
            ("u0", "delivery.delivered"),
            ("u1", "delivery.deferred"),
            ("u2", "delivery.bounced"),
            ("u3", "delivery.expired"),
            ("u1", "delivery.delivered"),
            ("u0", "complaint.received"),
        ];
        assert_eq!((told(&page.lines), page.more, page.lost), (all.to_vec(), false, 0));
        // What is said of each: the second attempt of u1.
        let line = &page.lines[4];
        assert_eq!((line.time, line.attempts, line.uncertain, line.host.as_str()), (later(11), 2, 0, "mx.b.test"));
        assert_eq!((line.head.message, line.head.stream, line.head.organisation.0), (id, Stream::Marketing, 1));
        assert_eq!(
            (&*line.head.from, &*line.head.message_id, line.head.created),
            ("joe@ours.test", "1@ours.test", NOW)
        );
        assert_eq!((page.lines[2].class.as_str(), page.lines[2].reply.as_ref().unwrap().code), ("no-such-user", 550));
        assert_eq!((page.lines[5].detail.as_str(), page.lines[5].class.as_str()), ("abuse", "complaint"));
        // From behind each of them; and each by its place, with the same id.
        for (n, line) in page.lines.iter().enumerate() {
            let from: Cursor = line.cursor().to_string().parse().unwrap();
            assert_eq!(w.read(from, 100).lines, page.lines[n + 1..], "{from}");
            let at = line.at;
            assert_eq!(w.store.read_blocking(move |tx| log::line(tx, at)).unwrap().as_ref(), Some(line));
        }
        let mut ids: Vec<String> = page.lines.iter().map(Line::id).collect();
        assert_eq!(ids, w.read(Cursor::START, 100).lines.iter().map(Line::id).collect::<Vec<_>>());
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6, "no two events have one id");
        // Page by page, and nothing behind the last.
        let (mut from, mut pages) = (Cursor::START, Vec::new());
        loop {
            let page = w.read(from, 1);
            (from, _) = (page.next, pages.push(page.lines.len()));
            if !page.more {
                break;
            }
        }
        assert_eq!(pages, [4, 1, 1]);
        assert_eq!(w.read(from, 1), Page { lines: vec![], next: from, more: false, lost: 0 });
    }
}

#[test]
fn a_batch_costs_one_row() {
    for w in worlds() {
        w.enqueue(&recipients(256));
        let c = w.claim(NOW);
        w.record((0..256).map(|n| settled(&c, n, DELIVERED)).collect(), NOW);
        assert_eq!((w.rows(), w.read(Cursor::START, 1).lines.len()), (1, 256));
    }
}

#[test]
fn what_came_of_nothing_is_not_told() {
    for w in worlds() {
        let id = w.enqueue(&recipients(3));
        let c = w.claim(NOW);
        let first = vec![settled(&c, 0, DELIVERED)];
        w.record(first.clone(), NOW);
        // A commit whose answer was lost is made once more, with the next: only the next is news.
        w.record(first.clone(), NOW);
        assert_eq!(w.rows(), 1);
        w.record(vec![first[0].clone(), settled(&c, 1, DELIVERED)], NOW);
        // The last one is taken back while it is tried.
        w.cancel(id, NOW);
        w.record(vec![settled(&c, 2, Outcome::Deferred(later(9)))], NOW);
        let lines = w.read(Cursor::START, 100).lines;
        let all = [("u0", "delivery.delivered"), ("u1", "delivery.delivered"), ("u2", "delivery.cancelled")];
        assert_eq!(told(&lines), all);
        assert_eq!(lines.iter().map(|line| line.at).collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 0)]);
    }
}

#[test]
fn a_late_commit_is_not_passed_by() {
    const JOBS: usize = 60;
    for w in worlds() {
        let id = w.enqueue(&recipients(JOBS));
        let c = w.claim(NOW);
        w.record((0..JOBS).map(|n| settled(&c, n, DELIVERED)).collect(), NOW);
        let (heard, done) = (|n: usize| (id, n as u32), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut from, mut seen) = (Cursor::before(2), Vec::new());
                loop {
                    let over = done.load(Ordering::SeqCst);
                    let page = w.read(from, 1);
                    assert_eq!(page.lost, 0);
                    seen.extend(page.lines.iter().map(|line| (line.head.message, line.head.number)));
                    from = page.next;
                    if over && !page.more {
                        return seen;
                    }
                }
            });
            std::thread::scope(|writers| {
                for n in 0..JOBS {
                    let store = &w.store;
                    writers.spawn(move || {
                        // Some commit long after they drew their number.
                        let work = move |tx: &mut store::Tx<'_>| {
                            let event =
                                Event { at: NOW, kind: Kind::Replied, class: String::new(), detail: String::new() };
                            receipt::attach(tx, id, n as u32, &event)?;
                            std::thread::sleep(Duration::from_millis(if n % 7 == 0 { 15 } else { 0 }));
                            Ok(())
                        };
                        store.write_blocking(work).unwrap();
                    });
                }
            });
            done.store(true, Ordering::SeqCst);
            reader.join().unwrap()
        });
        let mut seen = seen;
        seen.sort();
        assert_eq!(seen, (0..JOBS).map(heard).collect::<Vec<_>>());
    }
}

#[test]
fn who_comes_too_late_hears_how_much_is_gone() {
    for w in worlds() {
        for n in 0..5 {
            let id = w.enqueue(&recipients(2));
            w.cancel(id, later(n * 1000));
        }
        let since = |then: i64| w.store.read_blocking(move |tx| log::since(tx, later(then))).unwrap();
        let at = |then: i64| since(then).position;
        assert_eq!([at(-1), at(0), at(1), at(3000), at(4000), at(4001)], [1, 1, 2, 4, 5, 6]);
        let forget = |before: i64, n| w.store.write_blocking(move |tx| log::forget(tx, later(before), n)).unwrap();
        assert_eq!((forget(2000, 1), forget(2000, 9), forget(2000, 9)), (1, 1, 0));
        assert_eq!((at(0), at(3000)), (3, 4));
        let page = w.read(Cursor { position: 1, lines: 1 }, 1);
        assert_eq!((page.lost, page.lines[0].at, page.more), (2, (3, 0), true));
        assert_eq!(w.read(Cursor::START, 1).lost, 0, "who asks for all that is kept gets it");
        // The records of the fourth are gone; those of the others are not touched.
        let gone = move |tx: &mut store::Tx<'_>| receipt::forget_dialogues(tx, later(3001), 9);
        assert_eq!(w.store.write_blocking(gone).unwrap(), 4);
        let page = w.read(Cursor::before(3), 100);
        assert_eq!((page.lost, page.lines.len(), page.next.position), (2, 2, 6));
        assert_eq!(forget(9000, 9), 3);
        assert_eq!(w.read(Cursor::before(4), 9), Page { lines: vec![], next: Cursor::before(6), more: false, lost: 2 });
        assert_eq!(w.read(Cursor::before(6), 9).lost, 0);
        // Of a log that was longer, and is of an earlier time now.
        assert_eq!(
            w.read(Cursor::before(99), 9),
            Page { lines: vec![], next: Cursor::before(6), more: false, lost: 1 }
        );
    }
}

#[test]
fn names_and_cursors_are_read_as_they_are_written() {
    for what in What::ALL {
        assert_eq!(What::named(what.name()), [what]);
    }
    assert_eq!(What::named("report").len(), 3);
    assert!(What::named("").is_empty() && What::named("delivery.").is_empty());
    for bad in ["", "1", "1.", ".1", "-1.0", "1.-1", "1.2.3", "a.b", "99999999999999999999.0", "1.4294967296"] {
        assert!(bad.parse::<Cursor>().is_err(), "{bad}");
    }
    assert_eq!("12.3".parse(), Ok(Cursor { position: 12, lines: 3 }));
}
