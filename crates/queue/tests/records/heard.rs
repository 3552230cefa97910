//! What is heard of mail that left, from reports to replies: on both engines.

use base::{Reply, Timestamp};
use bounce::Stage;
use queue::log::{self, Cursor, Filter, What};
use queue::receipt::{self, Attached, End, Event, Kind, Receipt};
use queue::{Claimed, Outcome, Queue, QueueId, Said, Settled};

use crate::world::{DELIVERED, NOW, US, World, block_on, later, worlds};
use base::Stream;

impl World {
    fn claim_news(&self, now: Timestamp) -> Claimed {
        self.claim(US, Stream::Marketing, "b.test", now).claimed.swap_remove(0)
    }

    /// What a claimed delivery comes to.
    fn comes(&self, claimed: &Claimed, outcome: Outcome, now: Timestamp) {
        let (message, delivery) = (claimed.message.clone(), claimed.deliveries[0].clone());
        let said = Said::by("mx.b.test", Stage::Dot, Reply::new(250, 0, 0, "Ok"));
        self.record(vec![Settled { message, delivery, outcome, said, class: String::new(), rule: None }], now);
    }

    fn told(&self, id: QueueId) -> Receipt {
        self.store.read_blocking(move |tx| receipt::receipt(tx, id, 0)).unwrap().unwrap()
    }

    fn events_of(&self, id: QueueId) -> Vec<&'static str> {
        let events = self.store.read_blocking(move |tx| receipt::events(tx, id, 0)).unwrap();
        events.iter().map(|event| event.kind.word()).collect()
    }

    fn attach(&self, id: QueueId, kind: Kind, class: &str) -> Option<Attached> {
        let event = Event { at: later(5), kind, class: class.into(), detail: String::new() };
        self.store.write_blocking(move |tx| receipt::attach(tx, id, 0, &event)).unwrap()
    }

    /// Of all that was heard: what, with how many attempts until then, and how it is known again.
    fn lines(&self) -> Vec<(What, u32, String)> {
        let all = move |tx: &mut store::Tx<'_>| log::read(tx, Cursor::START, &Filter::default(), 100);
        let lines = self.store.read_blocking(all).unwrap().lines;
        let heard = lines.iter().filter(|line| !line.what.name().starts_with("delivery."));
        heard.map(|line| (line.what, line.attempts, line.id())).collect()
    }
}

#[test]
fn what_is_heard_of_an_open_delivery_is_told_at_once_and_stays_with_its_receipt() {
    for mut w in worlds() {
        let id = w.news("1@ours.test", &["jane@b.test"]);
        let claimed = w.claim_news(NOW);
        w.comes(&claimed, Outcome::Deferred(later(10)), later(1));
        assert_eq!(w.attach(id, Kind::Delayed, ""), Some(Attached::Open));
        // It dies in the middle of an attempt: the mail may have arrived.
        w.claim_news(later(10));
        w.queue = block_on(Queue::open(&w.store, 1, later(11))).unwrap();
        assert_eq!(w.attach(id, Kind::Answered, ""), Some(Attached::Open));
        let lines = w.lines();
        let short: Vec<_> = lines.iter().map(|(what, attempts, _)| (*what, *attempts)).collect();
        assert_eq!(short, [(What::ReportDelayed, 1), (What::Answered, 2)]);
        w.comes(&w.claim_news(later(11)), DELIVERED, later(20));
        assert_eq!((w.told(id).end, w.events_of(id)), (End::Delivered, vec!["delayed", "auto-replied"]));
        assert_eq!(w.lines(), lines, "whoever reads them again knows them again");
        let gone = w.news("2@ours.test", &["jim@b.test"]);
        w.store.write_blocking(move |tx| queue::cancel(tx, gone, 0, later(30))).unwrap();
        let none = QueueId::of_bits(gone.bits() + 1);
        assert_eq!((w.attach(none, Kind::Answered, ""), w.events_of(none)), (None, vec![]));
    }
}

#[test]
fn a_failure_that_is_reported_faster_than_it_is_noted_that_it_was_delivered_counts() {
    for w in worlds() {
        let id = w.news("1@ours.test", &["jane@b.test"]);
        let claimed = w.claim_news(NOW);
        assert_eq!(w.attach(id, Kind::Bounced, "no-such-user"), Some(Attached::Open));
        w.comes(&claimed, DELIVERED, later(20));
        let told = w.told(id);
        assert_eq!((told.end, told.class.as_str(), w.events_of(id)), (End::Bounced, "no-such-user", vec!["bounced"]));
    }
}
