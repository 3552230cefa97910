//! Small segments become larger ones, and nobody can tell but by the octets: on both engines.

use std::collections::HashSet;

use base::{Reply, Stream};
use bounce::Stage;
use queue::log::{self, Cursor, Filter};
use queue::receipt::{self, Event, Key, Kind, When};
use queue::{Claimed, Outcome, QueueId, Said, Settled};
use store::{Error, Sql};
use testkit::Bed;

use crate::receipts::{settled, talk, yes};
use crate::world::{DELIVERED, NOW, US, World, later, worlds};

const MINUTE: i64 = 60_000;
/// So late that nothing more is waited for.
const LATE: i64 = 66 * MINUTE;

const OCTETS: Sql = Sql {
    name: "octets",
    text:
        "SELECT CAST(sum(pgsize) AS BIGINT) FROM dbstat WHERE name LIKE '%queue_receipt%' OR name LIKE '%queue_segment%'
        OR name LIKE '%queue_dialogue%' OR name LIKE '%queue_log%'",
};
const SEGMENTS: Sql = Sql { name: "segments", text: "SELECT count(*) FROM queue_segment" };
const OPENED: Sql = Sql { name: "opened", text: "SELECT count(*) FROM queue_segment WHERE merged = 0" };

impl World {
    fn count(&self, sql: Sql) -> i64 {
        self.store.read_blocking(move |tx| tx.one(&sql, &[], |r| r.int(0))).unwrap()
    }

    /// Of each run how many became one; 0 when it was left as it is.
    fn merge(&self, now: i64) -> Vec<u64> {
        let (mut all, mut behind) = (Vec::new(), 0);
        loop {
            let queue = self.queue.clone();
            let found = move |tx: &mut store::Tx<'_>| receipt::to_merge(tx, &queue, behind, later(now));
            let Some(merge) = self.store.read_blocking(found).unwrap() else { return all };
            behind = merge.last();
            all.push(merge.segments());
            self.store.write_blocking(move |tx| merge.write(tx)).unwrap();
        }
    }

    fn claimed(&self, now: i64) -> Vec<Claimed> {
        self.claim(US, Stream::Marketing, "b.test", later(now)).claimed
    }

    /// A mail to each, all claimed, and each outcome in a commit of its own.
    fn singles(&self, n: usize, now: i64) -> Vec<QueueId> {
        let ids = (0..n).map(|n| self.news(&format!("{now}.{n}@ours.test"), &[format!("u{}@b.test", n % 7)])).collect();
        for (place, c) in (0..).zip(self.claimed(now)) {
            self.record(vec![settled(&c, 0, DELIVERED, yes(talk(place, true), 0), "")], later(now + i64::from(place)));
        }
        ids
    }

    /// All that was kept of all mail, as it is told.
    fn everything(&self) -> Vec<String> {
        let all = |tx: &mut store::Tx<'_>| {
            let mut told = Vec::new();
            for receipt::Recorded { receipt, .. } in receipt::page(tx, None, &receipt::Filter::default(), 10_000)?.all {
                let trail = [receipt.trail];
                let (head, attempts) = (receipt::head(tx, &trail)?, receipt::attempts(tx, &trail)?);
                assert!(head[0].is_some() && !attempts[0].is_empty(), "{receipt:?}");
                told.push(format!("{receipt:?} {head:?} {attempts:?}"));
            }
            let (mut from, mut places) = (Cursor::START, Vec::new());
            loop {
                let page = log::read(tx, from, &Filter::default(), 7)?;
                assert_eq!(page.lost, 0);
                places.extend(page.lines.iter().map(|line| line.at));
                told.extend(page.lines.iter().map(|line| format!("{line:?} {}", line.id())));
                from = page.next;
                if !page.more {
                    break;
                }
            }
            told.extend(log::lines(tx, &places)?.iter().map(|line| format!("{line:?}")));
            let recipients = (0..9).map(|n| Key::Recipient(format!("U{n}@b.test")));
            let message_ids = (0..40).map(|n| Key::MessageId(format!("0.{n}@ours.test")));
            for key in recipients.chain(message_ids) {
                let found = receipt::look_up(tx, &key, When::default(), None, 10_000, 10_000)?;
                told.push(format!("{key:?} {found:?}"));
                let (mut after, mut seen) = (None, HashSet::new());
                loop {
                    // In pages, of which one may tell again of what another told.
                    let page = receipt::look_up(tx, &key, When::default(), after, 3, 2)?;
                    let new = page.all.into_iter().filter(|head| seen.insert((head.message, head.number)));
                    told.extend(new.map(|head| format!("{head:?}")));
                    after = page.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
            Ok(told)
        };
        self.store.read_blocking(all).unwrap()
    }

    fn wrong(&self) -> Vec<String> {
        let blobs = self.store.clone();
        self.store.read_blocking(move |tx| queue::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).unwrap()
    }

    fn check(&self) {
        assert_eq!(self.wrong(), Vec::<String>::new());
    }
}

fn busy(c: &Claimed, until: i64) -> Settled {
    let said = Said::by("mx.b.test", Stage::Connect, Reply::new(421, 7, 0, "busy"));
    settled(c, 0, Outcome::Deferred(later(until)), said, "rate-limited")
}

#[test]
fn a_single_mail_takes_less_than_300_octets_once_it_is_merged() {
    let (w, n) = (World::on(Bed::sqlite()), 600);
    for n in 0..n {
        w.news(&format!("{:016x}.order@ours.test", n * 7919), &[format!("customer.{:x}@b.test", n * 7919 % 65_537)]);
    }
    for (place, c) in (0..).zip(w.claimed(NOW.0)) {
        w.record(vec![settled(&c, 0, DELIVERED, yes(talk(place, true), 0), "")], later(i64::from(place) * 100));
    }
    let each = || w.count(OCTETS) / i64::from(n);
    let before = each();
    assert_eq!(w.merge(LATE), [256, 256, 88]);
    println!("{before} octets a recipient before, {} after", each());
    assert!(before > 300 && each() < 250, "{before} octets a recipient before, {} after", each());
    w.check();
}

#[test]
fn all_that_is_told_is_the_same_before_and_after() {
    for w in worlds() {
        let ids = w.singles(40, 0);
        // Outcomes that did not count, or came to something else; two in a segment; some that are put off; one that stays open.
        let all = ["u1@b.test", "u8@b.test"];
        let (both, taken, put_off, open) = (
            w.news("0.3@ours.test", &all),
            w.news("x@ours.test", &all[..1]),
            w.news("y@ours.test", &all),
            w.news("0.4@ours.test", &all[1..]),
        );
        let claims = w.claimed(100);
        let of = |id: QueueId| claims.iter().find(|c| c.message.id == id).unwrap();
        let two = |id| (0..2).map(|n| settled(of(id), n, DELIVERED, yes(talk(0, true), n), "")).collect::<Vec<_>>();
        w.store.write_blocking(move |tx| queue::cancel(tx, taken, 0, later(100))).unwrap();
        w.record([two(both), vec![busy(of(taken), 500)]].concat(), later(101));
        w.record([two(both), vec![busy(of(open), 90 * MINUTE)]].concat(), later(102));
        w.record(
            two(put_off).into_iter().map(|one| Settled { outcome: Outcome::Deferred(later(200)), ..one }).collect(),
            later(103),
        );
        let again = w.claimed(200);
        w.record((0..2).map(|n| settled(&again[0], n, DELIVERED, yes(talk(1, true), n), "")).collect(), later(201));
        // One that is large, single ones again, and one that ends without an attempt.
        let many: Vec<_> = (0..40).map(|n| format!("u{n}@b.test")).collect();
        w.news("0.5@ours.test", &many);
        let c = w.claimed(300).swap_remove(0);
        w.record((0..40).map(|n| settled(&c, n, DELIVERED, yes(talk(2, true), n), "")).collect(), later(301));
        w.singles(20, 400);
        let gone = w.news("0.6@ours.test", &["u2@b.test"]);
        w.store.write_blocking(move |tx| queue::cancel(tx, gone, 0, later(500))).unwrap();
        let event = Event { at: later(501), kind: Kind::Complained, class: String::new(), detail: "spam".into() };
        let complained = ids[7];
        w.store.write_blocking(move |tx| receipt::attach(tx, complained, 0, &event)).unwrap();
        let (before, rows) = (w.everything(), w.count(SEGMENTS));
        // A search that goes on when the segments are others.
        let key = Key::Recipient("u1@b.test".into());
        let page = |after| {
            let key = key.clone();
            w.store.read_blocking(move |tx| receipt::look_up(tx, &key, When::default(), after, 15, 3)).unwrap()
        };
        let first = page(None);
        let rest = |mut after: Option<i64>| {
            let mut all = Vec::new();
            while let Some(from) = after {
                let found = page(Some(from));
                all.extend(found.all);
                after = found.next;
            }
            all
        };
        let expected = rest(first.next);
        assert_eq!(w.merge(LATE), [44, 20]);
        assert_eq!(w.count(SEGMENTS), rows - 62);
        for (after, before) in w.everything().iter().zip(&before) {
            assert_eq!(after, before);
        }
        assert_eq!(w.everything().len(), before.len());
        assert_eq!(rest(first.next), expected);
        // Each is merged once.
        assert_eq!((w.merge(LATE), w.count(OPENED)), (vec![], 0));
        // What was put off before ends now.
        let c = w.claimed(90 * MINUTE).into_iter().find(|c| c.message.id == open).unwrap();
        w.record(vec![settled(&c, 0, DELIVERED, yes(talk(0, true), 0), "")], later(90 * MINUTE + 1));
        let attempts = move |tx: &mut store::Tx<'_>| {
            let trail = receipt::receipt(tx, open, 0)?.unwrap().trail;
            receipt::attempts(tx, &[trail]).map(|mut all| all.remove(0))
        };
        let tried: Vec<_> = w.store.read_blocking(attempts).unwrap().iter().map(|a| a.tried.word()).collect();
        assert_eq!(tried, ["deferred", "delivered"]);
        w.check();
    }
}

#[test]
fn they_are_merged_when_no_more_follow_and_forgotten_with_the_youngest() {
    for w in worlds() {
        w.singles(10, 0);
        // More may follow; and what is full is left alone for some minutes.
        assert_eq!(w.merge(64 * MINUTE), []);
        w.singles(246, 30 * MINUTE);
        assert_eq!(w.merge(34 * MINUTE), []);
        assert_eq!(w.merge(36 * MINUTE), [256]);
        // Behind the hour of the first others begin; three are too few, and are not asked for again.
        w.singles(4, 31 * MINUTE);
        w.singles(3, 95 * MINUTE);
        assert_eq!(w.merge(96 * MINUTE), [4]);
        assert_eq!((w.merge(159 * MINUTE), w.count(OPENED)), (vec![], 3));
        assert_eq!((w.merge(161 * MINUTE), w.count(OPENED)), (vec![0], 0));
        // The youngest of the first was written at 30:00.245, that of the second after it.
        let forget = |before: i64| {
            let both = move |tx: &mut store::Tx<'_>| {
                Ok((receipt::forget_dialogues(tx, later(before), 9)?, receipt::forget_segments(tx, later(before), 9)?))
            };
            w.store.write_blocking(both).unwrap()
        };
        assert_eq!(forget(30 * MINUTE + 245), (0, 0));
        assert_eq!(forget(30 * MINUTE + 246), (1, 1));
        assert_eq!(w.count(SEGMENTS), 4);
        w.check();
    }
}

#[test]
fn what_is_not_as_it_was_is_not_merged() {
    for w in worlds() {
        w.singles(10, 0);
        let queue = w.queue.clone();
        let found = move |tx: &mut store::Tx<'_>| receipt::to_merge(tx, &queue, 0, later(LATE));
        let merge = w.store.read_blocking(found).unwrap().unwrap();
        w.store.write_blocking(move |tx| receipt::forget_dialogues(tx, later(1), 9)).unwrap();
        let failed = w.store.write_blocking(move |tx| merge.write(tx));
        assert!(matches!(failed, Err(Error::Busy)), "{failed:?}");
        assert_eq!(w.count(SEGMENTS), 10);
        // They are forgotten soon, one by one.
        assert_eq!((w.merge(LATE), w.count(OPENED), w.count(SEGMENTS)), (vec![0], 0, 10));
    }
}

#[test]
fn what_is_committed_late_between_them_keeps_them_apart() {
    const ASIDE: [&str; 2] = [
        "UPDATE queue_segment SET id = -id WHERE id = (SELECT id FROM queue_segment WHERE id > 0 ORDER BY id LIMIT 1 OFFSET 4)",
        "UPDATE queue_dialogue SET segment = -segment WHERE segment = (SELECT -id FROM queue_segment WHERE id < 0)",
    ];
    const COMMITTED: [&str; 2] = [
        "UPDATE queue_segment SET id = -id, merged = NULL WHERE id < 0",
        "UPDATE queue_dialogue SET segment = -segment WHERE segment < 0",
    ];
    for w in worlds() {
        w.singles(10, 0);
        let change = |all: [&'static str; 2]| {
            for text in all {
                let done = w.store.write_blocking(move |tx| tx.execute(&Sql { name: "change", text }, &[])).unwrap();
                assert_eq!(done, 1);
            }
        };
        change(ASIDE);
        let queue = w.queue.clone();
        let found = move |tx: &mut store::Tx<'_>| receipt::to_merge(tx, &queue, 0, later(LATE));
        let merge = w.store.read_blocking(found).unwrap().unwrap();
        assert_eq!(merge.segments(), 9);
        change(COMMITTED);
        let failed = w.store.write_blocking(move |tx| merge.write(tx));
        assert!(matches!(failed, Err(Error::Busy)), "{failed:?}");
        assert_eq!(w.merge(LATE), [4, 5]);
        w.check();
    }
}

#[test]
fn a_clock_that_was_ahead_keeps_nothing_from_being_merged() {
    for w in worlds() {
        w.singles(5, 0);
        assert_eq!(w.merge(-24 * 60 * MINUTE), [5]);
        w.check();
    }
}

#[test]
fn who_looks_at_many_passes_over_a_dialogue_that_cannot_be_read() {
    const SPOILT: Sql = Sql {
        name: "spoilt",
        text: "UPDATE queue_dialogue SET records = (SELECT recipients FROM queue_segment ORDER BY id LIMIT 1)",
    };
    for w in worlds() {
        w.singles(2, 0);
        w.store.write_blocking(|tx| tx.execute(&SPOILT, &[])).unwrap();
        let read = |tx: &mut store::Tx<'_>| {
            let trails: Vec<_> =
                receipt::page(tx, None, &receipt::Filter::default(), 9)?.all.iter().map(|r| r.receipt.trail).collect();
            assert!(matches!(receipt::attempts(tx, &trails), Err(Error::Corrupt(_))));
            assert_eq!(receipt::last(tx, &trails)?, [None, None]);
            let filter = receipt::Filter { source: Some("default".into()), ..receipt::Filter::default() };
            Ok(receipt::page(tx, None, &filter, 9)?.all.len())
        };
        assert_eq!(w.store.read_blocking(read).unwrap(), 0);
    }
}

#[test]
fn verify_finds_what_is_missing_in_a_merged_segment() {
    const SPOILT: [&str; 3] = [
        "UPDATE queue_segment SET merged = merged + 1",
        "UPDATE queue_segment SET parts = message_ids",
        "UPDATE queue_dialogue SET records = (SELECT heads FROM queue_segment WHERE merged = 0)",
    ];
    for spoilt in SPOILT {
        for w in worlds() {
            w.singles(10, 0);
            assert_eq!(w.merge(LATE), [10]);
            w.singles(1, LATE);
            w.check();
            let sql = Sql { name: "spoilt", text: spoilt };
            w.store.write_blocking(move |tx| tx.execute(&sql, &[])).unwrap();
            let wrong = w.wrong();
            assert!(!wrong.is_empty() && wrong[0].contains("merged into it"), "{spoilt}: {wrong:?}");
        }
    }
}
