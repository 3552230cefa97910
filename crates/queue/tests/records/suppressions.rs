//! Suppressions: who is not sent to, why, and how that ends; on both engines.

use base::{OrganisationId, Reply, Stream, Timestamp};
use bounce::Stage;
use queue::receipt::{self, End};
use queue::suppression::{self, Rule, Suppression};
use queue::{Due, Outcome, QueueId, Said, Settled, State};

use crate::world::{Mail, NOW, US, World, at, block_on, worlds};

const DAY: i64 = 24 * 3600 * 1000;
const OTHERS: OrganisationId = OrganisationId(2);

fn day(n: i64) -> Timestamp {
    Timestamp(NOW.0 + n * DAY)
}

fn suppression(stream: Option<Stream>, expires: Option<Timestamp>) -> Suppression {
    Suppression {
        organisation: US,
        address: String::new(),
        stream,
        reason: "manual".into(),
        note: "asked by telephone".into(),
        evidence: None,
        since: NOW,
        expires,
    }
}

impl World {
    fn mail_of(&self, by: OrganisationId, stream: Stream, to: &str) -> QueueId {
        self.send(Mail { by, stream, message_id: None, notify: None, expires: Some(day(100)) }, &[to])
    }

    fn claim_of(&self, by: OrganisationId, stream: Stream, now: Timestamp) -> Due {
        self.claim(by, stream, "b.test", now)
    }

    fn add(&self, address: &str, new: Suppression) {
        let address = at(address);
        self.store.write_blocking(move |tx| suppression::add(tx, &address, &new)).unwrap();
    }

    fn find(&self, by: OrganisationId, address: &str, stream: Stream, now: Timestamp) -> Option<Suppression> {
        let address = at(address);
        self.store.read_blocking(move |tx| suppression::find(tx, by, &address, stream, now)).unwrap()
    }

    /// Sends a mail that comes to this.
    fn comes_to(&self, stream: Stream, outcome: Outcome, rule: Option<Rule>, now: Timestamp) {
        self.mail_of(US, stream, "jane@b.test");
        let due = self.claim_of(US, stream, now);
        let claimed = &due.claimed[0];
        let said = Said::by("mx.b.test", Stage::Rcpt, Reply::new(552, 2, 2, "full"));
        let (message, delivery) = (claimed.message.clone(), claimed.deliveries[0].clone());
        let settled = Settled { message, delivery, outcome, said, class: "mailbox-full".into(), rule };
        self.record(vec![settled], now);
    }
}

#[test]
fn trap_35_whoever_is_suppressed_is_sent_nothing_by_any_way() {
    for w in worlds() {
        w.add("Jane@B.test", suppression(None, None));
        for stream in Stream::ALL {
            let id = w.mail_of(US, stream, "jane@b.test");
            let due = w.claim_of(US, stream, NOW);
            assert_eq!((due.claimed.len(), due.suppressed), (0, 1), "{stream:?}");
            let receipt = w.store.read_blocking(move |tx| receipt::receipt(tx, id, 0)).unwrap().unwrap();
            assert_eq!((receipt.end, receipt.class.as_str()), (End::Bounced, "suppressed"));
            // The sender is told.
            let (_, shown) = w.store.read_blocking(move |tx| queue::show(tx, id)).unwrap().unwrap();
            assert!(shown[0].state == State::Failed && shown[0].owed.failure);
            assert!(shown[0].reply.contains("suppression list"), "{}", shown[0].reply);
        }
        // Another's list is another's.
        w.mail_of(OTHERS, Stream::Marketing, "jane@b.test");
        assert_eq!(w.claim_of(OTHERS, Stream::Marketing, NOW).claimed.len(), 1);
    }
}

#[test]
fn one_is_for_its_stream_and_its_time() {
    for w in worlds() {
        w.add("jane@b.test", suppression(Some(Stream::Marketing), Some(day(3))));
        assert_eq!(w.find(US, "jane@b.test", Stream::Transactional, NOW), None);
        assert_eq!(w.find(US, "jane@b.test", Stream::Marketing, day(2)).unwrap().note, "asked by telephone");
        assert_eq!(w.find(US, "jane@b.test", Stream::Marketing, day(3)), None);
        w.mail_of(US, Stream::Mail, "jane@b.test");
        assert_eq!(w.claim_of(US, Stream::Mail, NOW).claimed.len(), 1);
        assert_eq!(w.store.write_blocking(move |tx| suppression::forget(tx, day(2), 9)).unwrap(), 0);
        assert_eq!(w.store.write_blocking(move |tx| suppression::forget(tx, day(3), 9)).unwrap(), 1);
    }
}

#[test]
fn a_refusal_suppresses_by_its_rule() {
    let at_once = Some(Rule { after: None, stream: None, days: Some(10) });
    for w in worlds() {
        // A person's mail suppresses nobody.
        w.comes_to(Stream::Mail, Outcome::Failed, at_once, NOW);
        assert_eq!(w.find(US, "jane@b.test", Stream::Marketing, NOW), None);
        w.comes_to(Stream::Marketing, Outcome::Failed, at_once, NOW);
        for (stream, yes) in [(Stream::Mail, false), (Stream::Transactional, true), (Stream::Marketing, true)] {
            let found = w.find(US, "jane@b.test", stream, day(9));
            assert_eq!(found.is_some(), yes, "{stream:?}");
            if let Some(found) = found {
                assert_eq!((found.reason.as_str(), found.note.as_str()), ("mailbox-full", "552 5.2.2 full"));
                assert!(found.evidence.is_some() && found.expires == Some(day(10)));
            }
        }
        assert_eq!(w.find(US, "jane@b.test", Stream::Marketing, day(10)), None);
    }
}

#[test]
fn some_take_several_days_in_a_row() {
    let rule = Some(Rule { after: Some((3, 30)), stream: Some(Stream::Marketing), days: None });
    let suppressed = |w: &World, n| w.find(US, "jane@b.test", Stream::Marketing, day(n)).is_some();
    for w in worlds() {
        // Three on one day are one.
        for _ in 0..3 {
            w.comes_to(Stream::Marketing, Outcome::Failed, rule, NOW);
        }
        w.comes_to(Stream::Marketing, Outcome::Failed, rule, day(1));
        assert!(!suppressed(&w, 1));
        // One that arrives between them, and it begins anew.
        w.comes_to(Stream::Marketing, Outcome::Delivered { reports: true }, None, day(2));
        w.comes_to(Stream::Marketing, Outcome::Failed, rule, day(3));
        w.comes_to(Stream::Marketing, Outcome::Failed, rule, day(4));
        assert!(!suppressed(&w, 4));
        // The first is too old by then.
        w.comes_to(Stream::Marketing, Outcome::Failed, rule, day(33));
        assert!(!suppressed(&w, 33));
        w.comes_to(Stream::Marketing, Outcome::Expired, rule, day(33));
        w.comes_to(Stream::Marketing, Outcome::Expired, rule, day(34));
        assert!(!suppressed(&w, 34));
        w.comes_to(Stream::Marketing, Outcome::Expired, rule, day(35));
        assert!(suppressed(&w, 35));
        let by_hand = at("jane@b.test");
        assert_eq!(w.store.write_blocking(move |tx| suppression::remove(tx, US, &by_hand, None)).unwrap(), 1);
        assert!(!suppressed(&w, 35));
    }
}

#[test]
fn pages_part_no_address() {
    for w in worlds() {
        for address in ["a@b.test", "b@b.test", "c@b.test"] {
            w.add(address, suppression(Some(Stream::Marketing), None));
            w.add(address, suppression(Some(Stream::Transactional), None));
        }
        let page = |after: &'static str, n| {
            let all = w.store.read_blocking(move |tx| suppression::page(tx, US, after, n)).unwrap();
            all.into_iter().map(|one| one.address).collect::<Vec<_>>()
        };
        assert_eq!(page("", 1), ["a@b.test", "a@b.test"]);
        assert_eq!(page("a@b.test", 3), ["b@b.test", "b@b.test", "c@b.test", "c@b.test"]);
        assert_eq!(page("c@b.test", 3), [""; 0]);
    }
}

#[test]
fn an_organisation_that_is_gone_leaves_none() {
    for w in worlds() {
        let add = |by: OrganisationId, n: usize| {
            block_on(w.store.write(move |tx| {
                (0..n).try_for_each(|n| {
                    let new = Suppression { organisation: by, ..suppression(None, None) };
                    suppression::add(tx, &at(&format!("x{n}@out.test")), &new)
                })
            }))
            .unwrap();
        };
        add(US, 5);
        add(OTHERS, 2);
        let forget = || block_on(w.store.write(|tx| suppression::forget_all(tx, US, 3))).unwrap();
        assert_eq!([forget(), forget(), forget()], [3, 2, 0]);
        let left = |by| block_on(w.store.read(move |tx| suppression::page(tx, by, "", 10))).unwrap().len();
        assert_eq!([left(US), left(OTHERS)], [0, 2]);
    }
}

#[test]
fn mail_of_an_organisation_is_found_while_it_waits_and_is_sent() {
    for w in worlds() {
        let has = |by| block_on(w.store.read(move |tx| queue::has_mail(tx, by))).unwrap();
        w.mail_of(OTHERS, Stream::Marketing, "x@b.test");
        assert!(!has(US) && has(OTHERS));
        assert_eq!(w.claim_of(OTHERS, Stream::Marketing, NOW).claimed.len(), 1);
        assert!(!has(US) && has(OTHERS), "it is claimed");
    }
}
