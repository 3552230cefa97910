//! The log: what happened to recipients, in the order of commits, on both engines.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use base::{Address, OrganisationId, Reply, Stream, Timestamp};
use bounce::Stage;
use queue::log::{self, Cursor, Filter, Line, Page, What};
use queue::receipt::{self, Event, Kind};
use queue::{Claimed, Fate, NewDelivery, NewMessage, Outcome, Queue, QueueId, Said, Settled};
use store::Lane;
use testkit::Bed;

use crate::world::{DELIVERED, NOW, US, World, block_on, later, worlds};

impl World {
    fn mail_to(&self, to: &[String]) -> QueueId {
        self.news("1@ours.test", to)
    }

    /// Everything that waits for b.test, of one message.
    fn claim_one(&self, now: Timestamp) -> Claimed {
        self.claim_all(now).swap_remove(0)
    }

    /// Everything that waits for b.test.
    fn claim_all(&self, now: Timestamp) -> Vec<Claimed> {
        self.claim(US, Stream::Marketing, "b.test", now).claimed
    }

    fn read(&self, from: Cursor, most: usize) -> Page {
        self.read_some(from, &[], most)
    }

    fn read_some(&self, from: Cursor, whats: &[What], most: usize) -> Page {
        let filter = Filter { whats: whats.to_vec(), ..Filter::default() };
        self.store.read_blocking(move |tx| log::read(tx, from, &filter, most)).unwrap()
    }

    fn cancel(&self, id: QueueId, now: Timestamp) {
        self.store.write_blocking(move |tx| queue::cancel(tx, id, 0, now)).unwrap();
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

/// On PostgreSQL jobs run at the same time: all that lock the same rows do so in one order, in whatever order they work.
#[test]
fn jobs_that_tell_and_append_in_opposite_orders_wait_for_each_other_once() {
    let w = World::on(Bed::postgres());
    let id = w.mail_to(&recipients(2));
    let c = w.claim_one(NOW);
    w.record((0..2).map(|n| settled(&c, n, DELIVERED)).collect(), later(1));
    let runs = Arc::new(AtomicU32::new(0));
    let met = Arc::new(Barrier::new(2));
    let job = |number: u32| {
        let (runs, met, first) = (runs.clone(), met.clone(), AtomicBool::new(true));
        w.store.write_with(Lane::Interactive, vec![], move |tx, _| {
            runs.fetch_add(1, Ordering::Relaxed);
            let event = Event { at: NOW, kind: Kind::Complained, class: String::new(), detail: String::new() };
            let meet = || {
                if first.swap(false, Ordering::Relaxed) {
                    met.wait();
                }
            };
            let tell = |tx: &mut store::Tx<'_>| {
                queue::source::add_pool(tx, &format!("p{number}"), &[("default".into(), 1)], &[])
            };
            if number == 0 {
                receipt::attach(tx, id, 0, &event)?;
                meet();
                tell(tx)
            } else {
                tell(tx)?;
                meet();
                receipt::attach(tx, id, 1, &event).map(drop)
            }
        })
    };
    let (one, two) = (job(0), job(1));
    block_on(one).unwrap();
    block_on(two).unwrap();
    assert_eq!(runs.load(Ordering::Relaxed), 2, "one of them was run again");
    let lines = w.read(Cursor::START, 9).lines;
    assert_eq!(lines.iter().filter(|line| line.what == What::Complained).count(), 2);
}

#[test]
fn what_happens_is_read_in_its_order_from_any_place() {
    for w in worlds() {
        assert_eq!(w.read(Cursor::START, 9), Page { lines: vec![], next: Cursor::before(1), more: false, lost: 0 });
        let id = w.mail_to(&recipients(4));
        let c = w.claim_one(NOW);
        let all = [DELIVERED, Outcome::Deferred(later(9)), Outcome::Failed, Outcome::Expired];
        w.record(all.into_iter().enumerate().map(|(n, outcome)| settled(&c, n, outcome)).collect(), later(1));
        let again = w.claim_one(later(10));
        w.record(vec![settled(&again, 0, DELIVERED)], later(11));
        let event = Event { at: later(12), kind: Kind::Complained, class: "complaint".into(), detail: "abuse".into() };
        w.store.write_blocking(move |tx| receipt::attach(tx, id, 0, &event)).unwrap();
        let page = w.read(Cursor::START, 100);
        let all = [
            ("u0", "delivery.queued"),
            ("u1", "delivery.queued"),
            ("u2", "delivery.queued"),
            ("u3", "delivery.queued"),
            ("u0", "delivery.delivered"),
            ("u1", "delivery.deferred"),
            ("u2", "delivery.bounced"),
            ("u3", "delivery.expired"),
            ("u1", "delivery.delivered"),
            ("u0", "complaint.received"),
        ];
        assert_eq!((told(&page.lines), page.more, page.lost), (all.to_vec(), false, 0));
        // What is said of each: the second attempt of u1.
        let line = &page.lines[8];
        assert_eq!((line.time, line.attempts, line.uncertain, line.host.as_str()), (later(11), 2, 0, "mx.b.test"));
        assert_eq!((line.head.message, line.head.stream, line.head.organisation.0), (id, Stream::Marketing, 1));
        assert_eq!(
            (&*line.head.from, &*line.head.message_id, line.head.created),
            ("joe@ours.test", "1@ours.test", NOW)
        );
        assert_eq!((page.lines[6].class.as_str(), page.lines[6].reply.as_ref().unwrap().code), ("no-such-user", 550));
        assert_eq!((page.lines[9].detail.as_str(), page.lines[9].class.as_str()), ("abuse", "complaint"));
        // From behind each of them; and each by its place, with the same id.
        for (n, line) in page.lines.iter().enumerate() {
            let from: Cursor = line.cursor().to_string().parse().unwrap();
            assert_eq!(w.read(from, 100).lines, page.lines[n + 1..], "{from}");
        }
        let mut places: Vec<_> = page.lines.iter().map(|line| line.at).collect();
        places.push((places[9].0, 9));
        let found = w.store.read_blocking(move |tx| log::lines(tx, &places)).unwrap();
        assert_eq!(found, page.lines.iter().cloned().map(Some).chain([None]).collect::<Vec<_>>());
        let mut ids: Vec<String> = page.lines.iter().map(Line::id).collect();
        assert_eq!(ids, w.read(Cursor::START, 100).lines.iter().map(Line::id).collect::<Vec<_>>());
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 10, "no two events have one id");
        // Page by page, and nothing behind the last.
        let (mut from, mut pages) = (Cursor::START, Vec::new());
        loop {
            let page = w.read(from, 1);
            (from, _) = (page.next, pages.push(page.lines.len()));
            if !page.more {
                break;
            }
        }
        assert_eq!(pages, [4, 4, 1, 1]);
        assert_eq!(w.read(from, 1), Page { lines: vec![], next: from, more: false, lost: 0 });
    }
}

#[test]
fn a_batch_costs_one_row() {
    for w in worlds() {
        w.mail_to(&recipients(256));
        let c = w.claim_one(NOW);
        w.record((0..256).map(|n| settled(&c, n, DELIVERED)).collect(), NOW);
        assert_eq!((w.rows(), w.read(Cursor::before(2), 1).lines.len()), (2, 256));
    }
}

#[test]
fn what_came_of_nothing_is_not_told() {
    for w in worlds() {
        let id = w.mail_to(&recipients(3));
        let c = w.claim_one(NOW);
        let first = vec![settled(&c, 0, DELIVERED)];
        w.record(first.clone(), NOW);
        // A commit whose answer was lost is made once more, with the next: only the next is news.
        w.record(first.clone(), NOW);
        assert_eq!(w.rows(), 2);
        w.record(vec![first[0].clone(), settled(&c, 1, DELIVERED)], NOW);
        // The last one is taken back while it is tried.
        w.cancel(id, NOW);
        w.record(vec![settled(&c, 2, Outcome::Deferred(later(9)))], NOW);
        let lines = w.read(Cursor::before(2), 100).lines;
        let all = [("u0", "delivery.delivered"), ("u1", "delivery.delivered"), ("u2", "delivery.cancelled")];
        assert_eq!(told(&lines), all);
        assert_eq!(lines.iter().map(|line| line.at).collect::<Vec<_>>(), [(2, 0), (3, 0), (4, 0)]);
    }
}

#[test]
fn a_late_commit_is_not_passed_by() {
    const JOBS: usize = 60;
    for w in worlds() {
        let id = w.mail_to(&recipients(JOBS));
        let c = w.claim_one(NOW);
        w.record((0..JOBS).map(|n| settled(&c, n, DELIVERED)).collect(), NOW);
        let (heard, done) = (|n: usize| (id, n as u32), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let (mut from, mut seen) = (Cursor::before(3), Vec::new());
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
        let forget = |before: i64, n| w.store.write_blocking(move |tx| log::forget(tx, later(before), n)).unwrap();
        let ids: Vec<_> = (0..5).map(|_| w.mail_to(&recipients(2))).collect();
        assert_eq!(forget(1, 9), 5);
        for (n, id) in (0..).zip(ids) {
            w.cancel(id, later(n * 1000));
        }
        let since = |then: i64| w.store.read_blocking(move |tx| log::since(tx, later(then))).unwrap();
        let at = |then: i64| since(then).position;
        assert_eq!([at(-1), at(0), at(1), at(3000), at(4000), at(4001)], [6, 6, 7, 9, 10, 11]);
        assert_eq!((forget(2000, 1), forget(2000, 9), forget(2000, 9)), (1, 1, 0));
        assert_eq!((at(0), at(3000)), (8, 9));
        let page = w.read(Cursor { position: 6, lines: 1 }, 1);
        assert_eq!((page.lost, page.lines[0].at, page.more), (2, (8, 0), true));
        assert_eq!(w.read(Cursor::START, 1).lost, 0, "who asks for all that is kept gets it");
        // The records of the fourth are gone; those of the others are not touched.
        let gone = move |tx: &mut store::Tx<'_>| receipt::forget_dialogues(tx, later(3001), 9);
        assert_eq!(w.store.write_blocking(gone).unwrap(), 4);
        let page = w.read(Cursor::before(8), 100);
        assert_eq!((page.lost, page.lines.len(), page.next.position), (2, 2, 11));
        assert_eq!(forget(9000, 9), 3);
        assert_eq!(
            w.read(Cursor::before(9), 9),
            Page { lines: vec![], next: Cursor::before(11), more: false, lost: 2 }
        );
        assert_eq!(w.read(Cursor::before(11), 9).lost, 0);
        // Of a log that was longer, and is of an earlier time now.
        assert_eq!(
            w.read(Cursor::before(99), 9),
            Page { lines: vec![], next: Cursor::before(11), more: false, lost: 1 }
        );
    }
}

#[test]
fn what_was_accepted_is_told_the_same_wherever_it_is_by_now() {
    for w in worlds() {
        let id = w.mail_to(&recipients(4));
        let told = |page: Page| page.lines.iter().map(|line| (line.at, line.id(), line.clone())).collect::<Vec<_>>();
        let first = told(w.read_some(Cursor::START, &[What::Queued], 9));
        let places: Vec<_> = first.iter().map(|(at, _, line)| (*at, line.head.number, line.time)).collect();
        assert_eq!(places, [((1, 0), 0, NOW), ((1, 1), 1, NOW), ((1, 2), 2, NOW), ((1, 3), 3, NOW)]);
        let line = &first[1].2;
        assert_eq!((line.head.to.as_str(), &*line.head.from, line.head.message), ("u1@b.test", "joe@ours.test", id));
        assert_eq!((line.attempts, &line.reply, line.talk.is_none()), (0, &None, true));
        // One is claimed, two have ended, then all have, and the message is gone.
        let c = w.claim_one(later(1));
        w.record(vec![settled(&c, 0, DELIVERED), settled(&c, 1, Outcome::Failed)], later(2));
        assert_eq!(told(w.read_some(Cursor::START, &[What::Queued], 9)), first);
        w.record(vec![settled(&c, 2, DELIVERED)], later(3));
        w.cancel(id, later(3));
        w.record(vec![settled(&c, 3, Outcome::Deferred(later(9)))], later(4));
        assert!(!w.store.read_blocking(move |tx| queue::exists(tx, id)).unwrap());
        assert_eq!(told(w.read_some(Cursor::START, &[What::Queued], 9)), first);
        let at = [first[2].0];
        assert_eq!(w.store.read_blocking(move |tx| log::lines(tx, &at)).unwrap(), [Some(first[2].2.clone())]);
        // Who does not want it does not hear it, nor that it is missing when nothing of it is kept.
        let kinds = [What::Delivered, What::Bounced, What::Cancelled];
        assert_eq!(w.read_some(Cursor::START, &kinds, 99).lines.len(), 4);
        let forget = move |tx: &mut store::Tx<'_>| receipt::forget_receipts(tx, later(9), 9);
        w.store.write_blocking(forget).unwrap();
        assert_eq!(w.read_some(Cursor::START, &kinds, 99).lost, 0);
        assert_eq!(w.read_some(Cursor::START, &[What::Queued], 99).lost, 1);
    }
}

#[test]
fn many_messages_cost_one_row_and_what_is_not_to_be_sent_is_not_told() {
    for w in worlds() {
        let ids: Vec<_> = (0..300).map(|_| w.queue.next_id()).collect();
        let from = Address::parse("joe@ours.test").unwrap();
        let body = w.mail_to(&recipients(1));
        let (blob, told) = w
            .store
            .read_blocking(move |tx| Ok((queue::show(tx, body)?.unwrap().0.content.blob(), log::last(tx)?)))
            .unwrap();
        assert_eq!(told, 1);
        let (sent, sender) = (ids.clone(), from.clone());
        let work = move |tx: &mut store::Tx<'_>| {
            let one = |to: &str, fate: &Fate| NewDelivery {
                to: Address::parse(to).unwrap(),
                notify: Some(smtp::Notify::On { success: true, failure: true, delay: false }),
                original: None,
                fate: fate.clone(),
            };
            let all: Vec<_> = sent
                .iter()
                .map(|id| {
                    let new = NewMessage {
                        from: Some(&sender),
                        stream: Stream::Marketing,
                        organisation: OrganisationId(1),
                        ..NewMessage::new(*id, blob.unwrap(), 9, NOW)
                    };
                    let failed = Fate::Failed(Reply::new(550, 1, 1, "No"));
                    let to = [
                        one("in@ours.test", &Fate::Delivered),
                        one("u@b.test", &Fate::Open),
                        one("no@b.test", &failed),
                    ];
                    (new, to.to_vec())
                })
                .collect();
            queue::enqueue_all(tx, &all)
        };
        w.store.write_blocking(work).unwrap();
        assert_eq!(w.rows(), 2);
        let page = w.read(Cursor::before(2), 1);
        assert_eq!(page.lines.iter().map(|line| line.head.message).collect::<Vec<_>>(), ids);
        assert!(page.lines.iter().all(|line| line.head.to == "u@b.test"));
        // From a place within it.
        let from = page.lines[99].cursor();
        assert_eq!(w.read(from, 1).lines, page.lines[100..]);
        // Wherever they are by now: in segments, of which the first to end stand in the last, and in the queue.
        let claims = w.claim_all(NOW);
        let ends: Vec<_> =
            claims.iter().filter(|c| ids.contains(&c.message.id)).map(|c| settled(c, 0, DELIVERED)).collect();
        for some in [&ends[200..], &ends[..90]] {
            w.record(some.to_vec(), NOW);
            // Nor do they owe a report.
            some.iter().for_each(|s| w.cancel(s.message.id, NOW));
        }
        assert!(!w.store.read_blocking(move |tx| queue::exists(tx, ids[0])).unwrap());
        assert_eq!(w.read(Cursor::before(2), 1).lines, page.lines);
    }
}

#[test]
fn that_nobody_knows_what_came_of_an_attempt_is_told() {
    for w in worlds() {
        let id = w.mail_to(&recipients(3));
        let c = w.claim_one(NOW);
        w.record(vec![settled(&c, 0, DELIVERED), settled(&c, 1, Outcome::Deferred(later(5)))], later(1));
        w.claim_one(later(5));
        // It dies: two were in its hands.
        let mut w = w;
        w.queue = block_on(Queue::open(&w.store, 1, later(7))).unwrap();
        assert_eq!(w.queue.uncertain(), 2);
        let page = w.read_some(Cursor::START, &[What::Uncertain], 9);
        let said: Vec<_> = page.lines.iter().map(|l| (&*l.head.to, l.time, l.attempts, l.uncertain)).collect();
        assert_eq!(said, [("u1@b.test", later(7), 2, 1), ("u2@b.test", later(7), 1, 1)]);
        assert!(page.lines.iter().all(|line| line.reply.is_none() && line.class.is_empty() && line.host.is_empty()));
        // It stands in the receipt, between what was before and what comes then.
        let c = w.claim_one(later(8));
        w.record(c.deliveries.iter().enumerate().map(|(n, _)| settled(&c, n, DELIVERED)).collect(), later(9));
        let attempts = move |tx: &mut store::Tx<'_>| {
            let trail = receipt::receipt(tx, id, 1)?.unwrap().trail;
            receipt::attempts(tx, &[trail]).map(|mut all| all.remove(0))
        };
        let tried: Vec<_> =
            w.store.read_blocking(attempts).unwrap().iter().map(|a| (a.tried.word(), a.attempts)).collect();
        assert_eq!(tried, [("deferred", 1), ("uncertain", 2), ("delivered", 3)]);
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
