//! Claims, outcomes, debts, and what is left when all is done.

use base::{Reply, Stream, Timestamp};
use queue::receipt::{End, When};
use queue::{
    Content, Fate, MAX_REFERENCE, NewDelivery, NewMessage, Outcome, Owed, QueueId, Recipe, Release, Report, State,
    reported, show,
};
use smtp::{BodyType, Notify, OriginalRecipient, Ret};
use store::{Lane, Sql, Tx, Value, params};
use testkit::Bed;

use crate::world::{
    BODY, DAY, DELIVERED, HOUR, NOW, PREFIX, World, at, block_on, claim_any, delivery, first_due, later, later_please,
    no, on, settled, worlds, yes,
};

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
fn an_address_is_found_in_whatever_case_it_was_written_and_is_asked_for() {
    for w in worlds() {
        let other = |n: usize| delivery(&format!("m{n}@b.test"), None, Fate::Open);
        let mut all: Vec<NewDelivery> = (0..5000).map(other).collect();
        all[3] = delivery("Ann@b.test", None, Fate::Open);
        all[4] = delivery("ann@c.test", None, Fate::Open);
        all[4998] = delivery("aNN@b.test", None, Fate::Open);
        let first = w.enqueue_each("me@example.test", all);
        let second = w.enqueue("me@example.test", &["ann@b.test"]);
        let look = |n| {
            let look = move |tx: &mut Tx<'_>| queue::by_recipient(tx, &at("anN@B.test"), When::default(), None, n);
            w.store.read_blocking(look).unwrap().all
        };
        assert_eq!(look(10), [(second, 0), (first, 4998), (first, 3)], "{}", w.name);
        assert_eq!(look(2), [(second, 0), (first, 4998)], "{}", w.name);
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
        let retried = w.store.write_blocking(move |tx| queue::retry(tx, id, 0, later(1))).unwrap().due;
        assert_eq!((retried, w.claim(1, later(1)).len()), (2, 1));
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, cancelled.under_way, cancelled.reports), (1, 2, 0));
        assert_eq!(w.show(id).iter().filter(|d| d.1 == State::Cancelled).count(), 1);
        w.check();
        let other = w.enqueue("me@a.test", &["x@b.test"]);
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, other, 0, NOW)).unwrap();
        assert_eq!((cancelled.cancelled, w.show(other).len()), (1, 0));
        w.check();
    }
}

#[test]
fn a_mail_to_many_is_made_due_some_at_a_time() {
    for w in worlds() {
        let id = w
            .enqueue_each("me@a.test", (0..600).map(|n| delivery(&format!("u{n}@b.test"), None, Fate::Open)).collect());
        let claimed = w.claim(600, NOW);
        w.record(settled(&claimed, Outcome::Deferred(later(DAY)), later_please()), NOW);
        let (mut from, mut done) = (Some(0), Vec::new());
        while let Some(next) = from {
            let some = w.store.write_blocking(move |tx| queue::retry(tx, id, next, later(1))).unwrap();
            done.push(some.due);
            from = some.next;
        }
        assert_eq!(done, [256, 256, 88], "{}", w.name);
        assert_eq!(w.claim(600, later(1))[0].deliveries.len(), 600);
    }
}

#[test]
fn a_mail_to_many_is_cancelled_some_at_a_time() {
    for w in worlds() {
        let id = w
            .enqueue_each("me@a.test", (0..600).map(|n| delivery(&format!("u{n}@b.test"), None, Fate::Open)).collect());
        let queue = w.queue.clone();
        w.store.write_blocking(move |tx| claim_any(tx, &queue, 300, NOW)).unwrap();
        let (mut from, mut done) = (Some(0), Vec::new());
        while let Some(next) = from {
            let some = w.store.write_blocking(move |tx| queue::cancel(tx, id, next, NOW)).unwrap();
            assert!(some.cancelled + some.under_way <= 256);
            done.push((some.cancelled, some.under_way));
            from = some.next;
        }
        let all = done.iter().fold((0, 0), |all, some| (all.0 + some.0, all.1 + some.1));
        assert_eq!((done.len(), all), (3, (300, 300)));
        assert!(w.show(id).iter().all(|d| [State::Cancelled, State::Cancelling].contains(&d.1)));
        w.check();
    }
}

#[test]
fn what_is_cancelled_while_it_is_claimed_is_not_tried_again() {
    for w in worlds() {
        let id = w.enqueue("me@a.test", &["w@b.test", "x@b.test", "y@b.test", "z@b.test"]);
        let claimed = w.claim(9, NOW);
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, NOW)).unwrap();
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
        w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, NOW)).unwrap();
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
            assert_eq!(w.store.write_blocking(move |tx| queue::retry(tx, id, 0, NOW)).unwrap().due, 1);
            assert!(w.claim(9, NOW).is_empty());
            assert_eq!(w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, NOW)).unwrap().cancelled, 1);
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
        let cancelled = w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, NOW)).unwrap();
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
