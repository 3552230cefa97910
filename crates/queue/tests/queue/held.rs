//! How long jobs hold the writer, each by itself: without the sync that all of a group share. None is to take longer than 20 ms.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::OrganisationId;
use queue::receipt::Segment;
use queue::suppression::{self, Suppression};
use queue::{Claimed, Fate, NewDelivery, Node, Outcome, Queue, QueueId, Release, Remains, record};
use store::{Result, Tx};

use crate::world::{DELIVERED, NOW, World, at, block_on, claim_any, delivery, later, no, settled, worlds, yes};

/// What a job may take. These are not optimised, and the machine may have other work.
const MOST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 20 });
/// Recipients of one mail, at most; and what one job claims and settles.
const RECIPIENTS: usize = 1000;
const BATCH: usize = 256;

/// Figures by what was done: of several times the shortest, as that is the job's own.
#[derive(Default)]
struct Held(Vec<(&'static str, Duration)>);

impl Held {
    fn add(&mut self, what: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(name, _)| *name == what) {
            Some((_, least)) => *least = took.min(*least),
            None => self.0.push((what, took)),
        }
    }

    fn job<T: Send + 'static>(
        &mut self,
        w: &World,
        what: &'static str,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> T {
        let took = Arc::<Mutex<Duration>>::default();
        let note = took.clone();
        let timed = move |tx: &mut Tx<'_>| {
            let began = Instant::now();
            let done = work(tx);
            *note.lock().unwrap() = began.elapsed();
            done
        };
        let done = w.store.write_blocking(timed).unwrap();
        self.add(what, *took.lock().unwrap());
        done
    }

    fn enqueue(&mut self, w: &World, what: &'static str, to: usize) -> QueueId {
        let all: Vec<NewDelivery> = (0..to).map(|n| delivery(&format!("u{n}@b.test"), None, Fate::Open)).collect();
        let took = Arc::<Mutex<Duration>>::default();
        let id = w.enqueue_in("me@a.test", all, took.clone());
        self.add(what, *took.lock().unwrap());
        id
    }

    fn claim(&mut self, w: &World) -> Vec<Claimed> {
        let queue = w.queue.clone();
        self.job(w, "claim", move |tx| claim_any(tx, &queue, BATCH as u32, NOW)).claimed
    }

    fn record(&mut self, w: &World, what: &'static str, claimed: &[Claimed], outcome: Outcome) {
        let reply = if outcome == DELIVERED { yes() } else { no() };
        let (queue, all) = (w.queue.clone(), settled(claimed, outcome, reply));
        let segment = Segment::of(&queue, &all, NOW).unwrap();
        self.job(w, what, move |tx| record(tx, &queue, &all, &segment, NOW));
    }
}

#[test]
fn no_job_holds_the_writer_long() {
    for mut w in worlds() {
        let mut held = Held::default();
        for _ in 0..3 {
            let many = held.enqueue(&w, "enqueue, one to 1,000", RECIPIENTS);
            let claimed = held.claim(&w);
            let queue = w.queue.clone();
            let back = |d: &queue::Delivery| Release { message: many, number: d.number, until: NOW, expires: None };
            let back: Vec<Release> = claimed[0].deliveries.iter().map(back).collect();
            held.job(&w, "release", move |tx| queue::release(tx, &queue, &back, NOW));
            let claimed = held.claim(&w);
            held.record(&w, "outcomes, one to many deferred", &claimed, Outcome::Deferred(NOW));
            let claimed = held.claim(&w);
            held.record(&w, "outcomes, one to many delivered", &claimed, DELIVERED);
            held.job(&w, "retry, some of a thousand", move |tx| queue::retry(tx, many, 0, NOW));
            held.job(&w, "cancel, some of a thousand", move |tx| queue::cancel(tx, many, BATCH as u32, NOW));
            w.cancel(many);
            (0..BATCH).for_each(|_| _ = held.enqueue(&w, "enqueue, one to one", 1));
            let claimed = held.claim(&w);
            assert_eq!(claimed.len(), BATCH);
            held.record(&w, "outcomes, of as many mails", &claimed, Outcome::Failed);
            recover(&mut w, &mut held);
            let new = Suppression {
                organisation: OrganisationId(1),
                address: String::new(),
                stream: None,
                reason: "unknown".into(),
                note: String::new(),
                evidence: None,
                since: NOW,
                expires: Some(NOW),
            };
            held.job(&w, "suppress", move |tx| suppression::add(tx, &at("u1@b.test"), &new));
            let end = later(1);
            held.job(&w, "forget receipts", move |tx| queue::receipt::forget_receipts(tx, end, 200));
            held.job(&w, "forget segments", move |tx| queue::receipt::forget_segments(tx, end, 20));
            held.job(&w, "forget dialogues", move |tx| queue::receipt::forget_dialogues(tx, end, 20));
        }
        held.0.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
        for (what, took) in &held.0 {
            println!("{:>10} {:8.2} ms  {what}", w.name, took.as_secs_f64() * 1e3);
        }
        let long: Vec<_> = held.0.iter().filter(|(_, took)| *took > MOST).collect();
        assert!(long.is_empty(), "{}: {long:?}", w.name);
    }
}

/// What a life left is given back in jobs, each with a commit of its own: by the time of all of them.
fn recover(w: &mut World, held: &mut Held) {
    /// As many as one of them sees to.
    const BATCH: usize = 64;
    for (what, is_known) in [("recover, with a commit", false), ("recover with a journal, with a commit", true)] {
        let ids: Vec<QueueId> = (0..2 * BATCH).map(|_| held.enqueue(w, "enqueue, one to one", 1)).collect();
        assert_eq!(w.claim(ids.len() as u32, NOW).len(), ids.len());
        let said = queue::Said::by("mx.b.test", bounce::Stage::Dot, yes());
        let taken = |id: &QueueId| queue::Delivered { message: *id, number: 0, reports: true, said: said.clone() };
        let delivered = ids.iter().filter(|_| is_known).map(taken).collect();
        let remains = Remains { epoch: w.queue.epoch(), begun: Vec::new(), delivered };
        let began = Instant::now();
        w.queue = block_on(Queue::recover(&w.store, &Node::alone(), NOW, Some(remains).filter(|_| is_known))).unwrap();
        held.add(what, began.elapsed() / 2);
        ids.into_iter().for_each(|id| w.cancel(id));
    }
}
