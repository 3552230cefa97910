//! Receipts: what stays of a delivery, on both engines.

use std::sync::Arc;

use base::{OrganisationId, Reply, Stream, Timestamp};
use bounce::Stage;
use queue::receipt::{self, Attached, Event, Filter, Key, Kind, Peer, Segment, Step, Talk, When};
use queue::{Claimed, Outcome, Party, QueueId, Said, Settled};
use smtp::client::Answered;

use crate::world::{DELIVERED, Mail, NOW, US, World, later, worlds};

impl World {
    fn claim_to(&self, domain: &str, now: Timestamp) -> Vec<Claimed> {
        self.claim(US, Stream::Marketing, domain, now).claimed
    }

    fn look_up(&self, key: Key) -> Vec<(QueueId, u32, String)> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let key = key.clone();
            // Two segments at a time, so that going on is tested too.
            let found =
                self.store.read_blocking(move |tx| receipt::look_up(tx, &key, When::default(), after, 2, 9)).unwrap();
            all.extend(found.all.into_iter().map(|head| (head.message, head.number, head.to)));
            after = found.next;
            if after.is_none() {
                return all;
            }
        }
    }

    fn receipt(&self, id: QueueId, number: u32) -> Option<receipt::Receipt> {
        self.store.read_blocking(move |tx| receipt::receipt(tx, id, number)).unwrap()
    }
}

/// A dialogue with two recipients, as the hosts of the world speak.
pub fn talk(carried: u32, accepted: bool) -> Arc<Talk> {
    let peer = Peer {
        source: "a".into(),
        host: "mx.b.test".into(),
        address: "192.0.2.1:25".into(),
        tls: "TLSv1.3 TLS_AES_256_GCM_SHA384, certificate verified".into(),
        site: "b".into(),
        counted: "mx.b.test".into(),
    };
    let step = |after, to, reply| Step { after, to, reply };
    let mut steps = vec![
        step(31, Answered::Mail, Reply::new(250, 1, 0, "Ok")),
        step(32, Answered::Rcpt(0), Reply::new(250, 1, 5, "Ok")),
        step(33, Answered::Rcpt(1), Reply::new(550, 1, 1, "No such user")),
        step(34, Answered::Data, Reply::plain(354, "End data with <CR><LF>.<CR><LF>")),
    ];
    if accepted {
        steps.push(step(250, Answered::End, Reply::new(250, 0, 0, "Ok: queued as 4F1A2")));
    }
    if carried == 0 {
        steps.insert(0, step(20, Answered::Ehlo, Reply::plain(250, "mx.b.test\nPIPELINING")));
        steps.insert(0, step(9, Answered::Connection, Reply::plain(220, "mx.b.test ESMTP")));
    }
    Arc::new(Talk { began: NOW, carried, peer: Arc::new(peer), steps })
}

pub fn settled(c: &Claimed, n: usize, outcome: Outcome, said: Said, class: &str) -> Settled {
    let (message, delivery) = (c.message.clone(), c.deliveries[n].clone());
    Settled { message, delivery, outcome, said, class: class.into(), rule: None }
}

pub fn yes(talk: Arc<Talk>, place: usize) -> Said {
    let reply = talk.steps.last().unwrap().reply.clone();
    Said { talk: Some(talk), place, ..Said::by("mx.b.test", Stage::Dot, reply) }
}

#[test]
fn each_recipient_has_its_own_dialogue() {
    for w in worlds() {
        let id = w.news("1@ours.test", &["jane@b.test", "jim@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        let talk = talk(0, true);
        let no = Reply::new(550, 1, 1, "No such user");
        let no = Said { talk: Some(talk.clone()), place: 1, ..Said::by("mx.b.test", Stage::Rcpt, no) };
        let both = vec![
            settled(&claimed[0], 0, DELIVERED, yes(talk, 0), ""),
            settled(&claimed[0], 1, Outcome::Failed, no, "no-such-user"),
        ];
        w.record(both, later(300));
        let (jane, jim) = (w.receipt(id, 0).unwrap(), w.receipt(id, 1).unwrap());
        assert_eq!((jane.end, jane.class.as_str(), jane.attempts), (receipt::End::Delivered, "", 1));
        assert_eq!((jim.end, jim.class.as_str(), jim.at), (receipt::End::Bounced, "no-such-user", later(300)));
        let said = |trail| {
            let attempts = w.store.read_blocking(move |tx| receipt::attempts(tx, &[trail])).unwrap().remove(0);
            assert_eq!(attempts.len(), 1);
            let talk = attempts[0].talk.clone().unwrap();
            assert_eq!((&*talk.peer.host, &*talk.peer.source, talk.began), ("mx.b.test", "a", NOW));
            let steps =
                talk.steps.iter().map(|s| (s.after, receipt::command(s.to), s.reply.to_string())).collect::<Vec<_>>();
            (attempts[0].reply.to_string(), steps)
        };
        let (reply, steps) = said(jane.trail);
        assert_eq!(reply, "250 2.0.0 Ok: queued as 4F1A2");
        let commands: Vec<_> = steps.iter().map(|(_, command, _)| *command).collect();
        assert_eq!(commands, ["(connected)", "EHLO", "MAIL FROM", "RCPT TO", "DATA", "(end of the mail)"]);
        assert_eq!(steps[3], (32, "RCPT TO", "250 2.1.5 Ok".into()));
        let (reply, steps) = said(jim.trail);
        assert_eq!((reply.as_str(), &steps[3]), ("550 5.1.1 No such user", &(33, "RCPT TO", reply.clone())));
    }
}

#[test]
fn attempts_follow_each_other() {
    for w in worlds() {
        let id = w.news("2@ours.test", &["jane@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        let busy = Said::by("mx.b.test", Stage::Connect, Reply::new(421, 7, 0, "busy"));
        w.record(vec![settled(&claimed[0], 0, Outcome::Deferred(later(10)), busy, "rate-limited")], later(1));
        assert_eq!(w.receipt(id, 0), None);
        let claimed = w.claim_to("b.test", later(10));
        assert_eq!(claimed[0].deliveries[0].attempts, 1);
        w.record(vec![settled(&claimed[0], 0, DELIVERED, yes(talk(3, true), 0), "")], later(20));
        let done = w.receipt(id, 0).unwrap();
        assert_eq!((done.attempts, done.stream), (2, Stream::Marketing));
        let attempts = w.store.read_blocking(move |tx| receipt::attempts(tx, &[done.trail])).unwrap().remove(0);
        let told: Vec<_> = attempts.iter().map(|a| (a.at, a.tried.word(), a.class.as_str(), a.reply.code)).collect();
        assert_eq!(told, [(later(1), "deferred", "rate-limited", 421), (later(20), "delivered", "", 250)]);
        assert_eq!((attempts[0].talk.as_ref(), attempts[1].talk.as_ref().unwrap().carried), (None, 3));
    }
}

#[test]
fn they_are_found_by_recipient_and_by_message_id() {
    for w in worlds() {
        let mut ids = Vec::new();
        for n in 0..5 {
            ids.push(w.news(&format!("{n}@ours.test"), &["jane@b.test", "Jim@b.test"]));
            for c in w.claim_to("b.test", NOW) {
                let all = (0..2).map(|place| settled(&c, place, DELIVERED, yes(talk(0, true), place), "")).collect();
                w.record(all, later(n));
            }
        }
        let found = w.look_up(Key::Recipient("JANE@b.test".into()));
        assert_eq!(
            found.iter().map(|(id, number, _)| (*id, *number)).collect::<Vec<_>>(),
            ids.iter().rev().map(|id| (*id, 0)).collect::<Vec<_>>()
        );
        let found = w.look_up(Key::MessageId("3@ours.test".into()));
        assert_eq!(found, [(ids[3], 0, "jane@b.test".into()), (ids[3], 1, "Jim@b.test".into())]);
        assert_eq!(w.look_up(Key::Recipient("joe@b.test".into())), []);
        // Pages, the youngest first.
        let page =
            |after, filter: Filter, n| w.store.read_blocking(move |tx| receipt::page(tx, after, &filter, n)).unwrap();
        let first = page(None, Filter::default(), 3);
        let places =
            |all: &[receipt::Recorded]| all.iter().map(|r| (r.receipt.message, r.receipt.number)).collect::<Vec<_>>();
        assert_eq!(places(&first.all), [(ids[4], 1), (ids[4], 0), (ids[3], 1)]);
        let second = page(first.next, Filter { until: Some(later(2)), ..Filter::default() }, 100);
        assert_eq!(places(&second.all), [(ids[1], 1), (ids[1], 0), (ids[0], 1), (ids[0], 0)]);
        assert!(second.next.is_none());
        assert!(page(None, Filter { end: Some(receipt::End::Bounced), ..Filter::default() }, 9).all.is_empty());
    }
}

#[test]
fn a_page_has_what_the_records_say_of_sender_organisation_source_and_site() {
    for w in worlds() {
        let ours = w.news("1@ours.test", &["jane@b.test", "jim@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        let refused = Said::by("mx.c.test", Stage::Connect, Reply::new(554, 7, 1, "Go away"));
        let both = vec![
            settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), ""),
            settled(&claimed[0], 1, Outcome::Failed, refused, "blocked"),
        ];
        w.record(both, later(1));
        let of =
            Mail { by: OrganisationId(2), stream: Stream::Marketing, message_id: None, notify: None, expires: None };
        let theirs = w.send(of, &["jane@b.test"]);
        let claimed = w.claim(OrganisationId(2), Stream::Marketing, "b.test", NOW).claimed;
        w.record(vec![settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), "")], later(2));
        let page = |filter: Filter| {
            let found = w.store.read_blocking(move |tx| receipt::page(tx, None, &filter, 9)).unwrap();
            assert!(found.next.is_none());
            found.all.iter().map(|r| (r.receipt.message, r.receipt.number)).collect::<Vec<_>>()
        };
        let any = Filter::default;
        let (a, b, c) = ((ours, 0), (ours, 1), (theirs, 0));
        let text = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (any(), vec![c, b, a]),
            (Filter { organisation: Some(US), ..any() }, vec![b, a]),
            (Filter { from: Some(Party::Address("Joe@OURS.test".into())), ..any() }, vec![c, b, a]),
            (Filter { from: Some(Party::Domain("elsewhere.test".into())), ..any() }, vec![]),
            (Filter { source: text("a"), ..any() }, vec![c, a]),
            (Filter { source: text("b"), ..any() }, vec![]),
            (Filter { site: text("B"), ..any() }, vec![c, a]),
            (Filter { site: text("mx.c.test"), ..any() }, vec![b]),
            (Filter { site: text("b.TEST"), ..any() }, vec![c, a]),
            (Filter { site: text("x.b.test"), ..any() }, vec![]),
            (Filter { site: text(".test"), ..any() }, vec![]),
            (
                Filter { source: text("a"), organisation: Some(US), end: Some(receipt::End::Delivered), ..any() },
                vec![a],
            ),
        ] {
            assert_eq!(page(filter.clone()), expected, "{filter:?}");
        }
        let trails = [a, b].map(|(id, number)| w.receipt(id, number).unwrap().trail);
        let last = w.store.read_blocking(move |tx| receipt::last(tx, &trails)).unwrap();
        let told: Vec<_> = last.iter().flatten().map(|last| (last.source(), last.host(), last.site())).collect();
        assert_eq!(told, [("a", "mx.b.test", "b"), ("", "mx.c.test", "")]);
    }
}

#[test]
fn a_page_looks_into_some_records_at_a_time() {
    for w in worlds() {
        let to: Vec<String> = (0..1100).map(|n| format!("u{n}@b.test")).collect();
        let id = w.news("1@ours.test", &to);
        for n in [1000, 100] {
            let claimed = w.claim_to("b.test", NOW);
            let of = |c: &Claimed| c.deliveries.len();
            assert_eq!(claimed.iter().map(of).sum::<usize>(), n);
            let all = claimed
                .iter()
                .flat_map(|c| (0..of(c)).map(|place| settled(c, place, DELIVERED, yes(talk(0, true), 0), "")));
            w.record(all.collect(), later(1));
        }
        let page = |after, source: &str| {
            let filter = Filter { source: Some(source.into()), ..Filter::default() };
            let found = w.store.read_blocking(move |tx| receipt::page(tx, after, &filter, 9)).unwrap();
            (found.all.len(), found.next)
        };
        assert_eq!(page(None, "b"), (0, Some((id, 100))));
        assert_eq!(page(Some((id, 100)), "b"), (0, None));
        assert_eq!(page(None, "a"), (9, Some((id, 1091))));
    }
}

#[test]
fn what_is_cancelled_has_a_receipt_too() {
    for w in worlds() {
        let id = w.news("9@ours.test", &["jane@b.test", "jim@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        let busy = Said::by("mx.b.test", Stage::Rcpt, Reply::new(451, 7, 1, "later"));
        w.record(vec![settled(&claimed[0], 0, Outcome::Deferred(later(9)), busy, "greylisted")], later(1));
        // One waits, one is claimed.
        w.store.write_blocking(move |tx| queue::cancel(tx, id, 0, later(2))).unwrap();
        let jane = w.receipt(id, 0).unwrap();
        assert_eq!((jane.end, jane.attempts, w.receipt(id, 1)), (receipt::End::Cancelled, 1, None));
        let attempts = w.store.read_blocking(move |tx| receipt::attempts(tx, &[jane.trail])).unwrap().remove(0);
        assert_eq!(attempts.iter().map(|a| a.tried.word()).collect::<Vec<_>>(), ["deferred", "cancelled"]);
        let queue = w.queue.clone();
        let back = queue::Release { message: id, number: 1, until: later(3), expires: None };
        w.store.write_blocking(move |tx| queue::release(tx, &queue, &[back], later(3))).unwrap();
        assert_eq!(w.receipt(id, 1).unwrap().end, receipt::End::Cancelled);
        assert_eq!(w.look_up(Key::Recipient("jim@b.test".into())), [(id, 1, "jim@b.test".into())]);
    }
}

#[test]
fn a_search_ends_when_enough_is_found_and_goes_on_there() {
    for w in worlds() {
        let ids: Vec<QueueId> = (0..5).map(|_| w.news("all@ours.test", &["jane@b.test", "jim@b.test"])).collect();
        for c in w.claim_to("b.test", NOW) {
            let all = (0..2).map(|place| settled(&c, place, DELIVERED, yes(talk(0, true), place), "")).collect();
            w.record(all, NOW);
        }
        let (key, mut after) = (Key::MessageId("all@ours.test".into()), None);
        let mut page = |n| {
            let key = key.clone();
            let found =
                w.store.read_blocking(move |tx| receipt::look_up(tx, &key, When::default(), after, 100, n)).unwrap();
            after = found.next;
            found.all.into_iter().map(|head| (head.message, head.number)).collect::<Vec<_>>()
        };
        let both = |n: usize| [(ids[n], 0), (ids[n], 1)];
        assert_eq!(page(3), [both(4), both(3)].concat());
        assert_eq!(page(2), both(2));
        assert_eq!(page(99), [both(1), both(0)].concat());
        assert_eq!(after, None);
        // One of a message's, and none that is not.
        let id = w.news("new@ours.test", &["ann@b.test", "bob@b.test", "cid@b.test"]);
        let one = |number| w.store.read_blocking(move |tx| queue::show_one(tx, id, number)).unwrap();
        let to = |number| one(number).map(|(_, d)| d.delivery.to.to_string());
        assert_eq!((to(0), to(1), to(3)), (Some("ann@b.test".into()), Some("bob@b.test".into()), None));
    }
}

#[test]
fn a_commit_that_is_made_twice_counts_once() {
    for w in worlds() {
        let id = w.news("9@ours.test", &["jane@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        let all = vec![settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), "")];
        let (queue, segment) = (w.queue.clone(), Segment::of(&w.queue, &all, NOW).unwrap());
        for _ in 0..2 {
            let (queue, segment, all) = (queue.clone(), segment.clone(), all.clone());
            w.store.write_blocking(move |tx| queue::record(tx, &queue, &all, &segment, NOW)).unwrap();
        }
        assert_eq!(w.receipt(id, 0).unwrap().attempts, 1);
    }
}

#[test]
fn what_is_heard_later_is_attached() {
    for w in worlds() {
        let id = w.news("9@ours.test", &["jane@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        w.record(vec![settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), "")], NOW);
        let event = |kind, class: &str| Event { at: later(5), kind, class: class.into(), detail: "é".repeat(600) };
        let attach = |event: Event| w.store.write_blocking(move |tx| receipt::attach(tx, id, 0, &event)).unwrap();
        let ended = |event: Event| match attach(event) {
            Some(Attached::Ended(receipt)) => receipt,
            other => panic!("{other:?}"),
        };
        assert_eq!(ended(event(Kind::Confirmed, "")).end, receipt::End::Delivered);
        let then = ended(event(Kind::Bounced, "mailbox-full"));
        assert_eq!((then.end, then.class.as_str()), (receipt::End::Bounced, "mailbox-full"));
        assert_eq!(w.receipt(id, 0), Some(then));
        let events = w.store.read_blocking(move |tx| receipt::events(tx, id, 0)).unwrap();
        assert_eq!(
            events.iter().map(|e| (e.kind.word(), e.detail.len())).collect::<Vec<_>>(),
            [("confirmed", 1000), ("bounced", 1000)]
        );
        for _ in 0..98 {
            assert!(attach(event(Kind::Answered, "")).is_some());
        }
        assert!(attach(event(Kind::Answered, "")).is_none(), "bounded");
        let nobody = event(Kind::Replied, "");
        assert!(w.store.write_blocking(move |tx| receipt::attach(tx, id, 7, &nobody)).unwrap().is_none());
    }
}

#[test]
fn old_ones_go_dialogues_first() {
    for w in worlds() {
        let id = w.news("9@ours.test", &["jane@b.test"]);
        let claimed = w.claim_to("b.test", NOW);
        w.record(vec![settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), "")], NOW);
        let gone = w.news("10@ours.test", &["jane@b.test"]);
        w.store.write_blocking(move |tx| queue::cancel(tx, gone, 0, later(50))).unwrap();
        let dialogues = |before| w.store.write_blocking(move |tx| receipt::forget_dialogues(tx, before, 10)).unwrap();
        let receipts = |before| {
            let both = move |tx: &mut store::Tx<'_>| {
                Ok(receipt::forget_receipts(tx, before, 10)? + receipt::forget_segments(tx, before, 10)?)
            };
            w.store.write_blocking(both).unwrap()
        };
        assert_eq!((dialogues(NOW), receipts(NOW)), (0, 0));
        assert_eq!(dialogues(later(1)), 1);
        let trail = w.receipt(id, 0).unwrap().trail;
        assert!(w.store.read_blocking(move |tx| receipt::attempts(tx, &[trail])).unwrap().remove(0).is_empty());
        assert_eq!(w.look_up(Key::Recipient("jane@b.test".into())).len(), 2);
        // The row and its segment.
        assert_eq!(receipts(later(1)), 2);
        assert_eq!(w.receipt(id, 0), None);
        assert_eq!((receipts(later(51)), dialogues(later(51))), (2, 1));
        assert_eq!(w.look_up(Key::Recipient("jane@b.test".into())), []);
    }
}

#[test]
fn a_delivered_recipient_takes_less_than_300_octets() {
    let w = worlds().next().unwrap();
    let to: Vec<String> = (0..1000).map(|n| format!("subscriber.{:x}@b.test", n * 7919 % 65_537)).collect();
    let ids: Vec<_> =
        to.iter().map(|to| w.news(&format!("{:016x}.campaign@ours.test", to.len() * 31), &[to])).collect();
    assert_eq!(ids.len(), 1000);
    let (mut octets, mut n) = (0, 0);
    let claimed = w.claim_to("b.test", NOW);
    // As the outbox writes them.
    for batch in claimed.chunks(256) {
        let one = |c: &Claimed| settled(c, 0, DELIVERED, yes(talk(n, true), 0), "");
        octets += w.record(batch.iter().map(one).collect(), later(n.into()));
        n += 1;
    }
    // A row of the table of receipts has eleven small columns: 60 octets on SQLite.
    assert!(octets / 1000 < 120, "{} octets a recipient in segments", octets / 1000);
    // And one alone.
    w.news("1@ours.test", &["jane@b.test"]);
    let claimed = w.claim_to("b.test", NOW);
    let alone = w.record(vec![settled(&claimed[0], 0, DELIVERED, yes(talk(0, true), 0), "")], NOW);
    assert!(alone < 240, "{alone}");
}
