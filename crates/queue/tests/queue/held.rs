//! What jobs do to the writer, each by itself: how often they wait, and for how many rows, is bounded by what they were to see to. How long
//! they hold it, without the sync that all of a group share, is printed: none is to take longer than 20 ms.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use base::{OrganisationId, Stream};
use queue::receipt::Segment;
use queue::suppression::{self, Suppression};
use queue::{Claimed, Fate, NewDelivery, Node, Outcome, Queue, QueueId, Release, Remains, record};
use store::{Done, Result, Tx};

use crate::world::{
    DELIVERED, NOW, Took, World, at, block_on, claim_any, delivery, later, no, settled, timed, worlds, yes,
};

/// Recipients of one mail, at most; and what one job claims and settles.
const RECIPIENTS: usize = 1000;
const BATCH: usize = 256;
/// Answers that a job waits for, at most, however much it sees to: a round trip each, on PostgreSQL.
const WAITS: u64 = 16;
/// Statements that it runs for each delivery that it sees to, and rows that these change or answer with; and some for all.
const EACH: u64 = 5;
const MORE: u64 = 32;

/// Figures by what was done: of several times the shortest, as that is the job's own, and the most that was done.
#[derive(Default)]
struct Held(Vec<(&'static str, usize, Took)>);

impl Held {
    /// What saw to so many deliveries.
    fn add(&mut self, what: &'static str, load: usize, (took, done): Took) {
        match self.0.iter_mut().find(|(name, ..)| *name == what) {
            Some((_, _, (least, most))) => {
                *least = took.min(*least);
                *most = Done {
                    waits: done.waits.max(most.waits),
                    statements: done.statements.max(most.statements),
                    rows: done.rows.max(most.rows),
                };
            }
            None => self.0.push((what, load, (took, done))),
        }
    }

    /// One that sees to at most so many deliveries.
    fn job<T: Send + 'static>(
        &mut self,
        w: &World,
        what: &'static str,
        load: usize,
        work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> T {
        let took = Arc::<Mutex<Took>>::default();
        let note = took.clone();
        let done = w.store.write_blocking(move |tx| timed(tx, &note, &work)).unwrap();
        self.add(what, load, *took.lock().unwrap());
        done
    }

    fn enqueue(&mut self, w: &World, what: &'static str, to: usize) -> QueueId {
        let all: Vec<NewDelivery> = (0..to).map(|n| delivery(&format!("u{n}@b.test"), None, Fate::Open)).collect();
        let took = Arc::<Mutex<Took>>::default();
        let id = w.enqueue_in("me@a.test", all, took.clone());
        self.add(what, to, *took.lock().unwrap());
        id
    }

    fn claim(&mut self, w: &World) -> Vec<Claimed> {
        let queue = w.queue.clone();
        self.job(w, "claim", BATCH, move |tx| claim_any(tx, &queue, BATCH as u32, NOW)).claimed
    }

    fn record(&mut self, w: &World, what: &'static str, claimed: &[Claimed], outcome: Outcome) {
        let reply = if outcome == DELIVERED { yes() } else { no() };
        let (queue, all) = (w.queue.clone(), settled(claimed, outcome, reply));
        let segment = Segment::of(&queue, &all, NOW).unwrap();
        self.job(w, what, claimed.iter().map(|c| c.deliveries.len()).sum(), move |tx| {
            record(tx, &queue, &all, &segment, NOW)
        });
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
            held.job(&w, "release", BATCH, move |tx| queue::release(tx, &queue, &back, NOW));
            let claimed = held.claim(&w);
            held.record(&w, "outcomes, one to many deferred", &claimed, Outcome::Deferred(NOW));
            held.job(&w, "retry, some of a thousand", BATCH, move |tx| queue::retry(tx, many, 0, NOW));
            let claimed = held.claim(&w);
            held.record(&w, "outcomes, one to many delivered", &claimed, DELIVERED);
            held.job(&w, "cancel, some of a thousand", BATCH, move |tx| queue::cancel(tx, many, BATCH as u32, NOW));
            w.cancel(many);
            (0..BATCH).for_each(|_| _ = held.enqueue(&w, "enqueue, one to one", 1));
            let claimed = held.claim(&w);
            assert_eq!(claimed.len(), BATCH);
            held.record(&w, "outcomes, of as many mails", &claimed, Outcome::Failed);
            w.stream = Stream::Marketing;
            (0..BATCH / 2).for_each(|_| _ = held.enqueue(&w, "enqueue, one to two", 2));
            let claimed = held.claim(&w);
            held.record(&w, "outcomes, two of each mail", &claimed, DELIVERED);
            w.stream = Stream::Mail;
            merge(&w, &mut held);
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
            held.job(&w, "suppress", 1, move |tx| suppression::add(tx, &at("u1@b.test"), &new));
            let end = later(1);
            held.job(&w, "forget receipts", 200, move |tx| queue::receipt::forget_receipts(tx, end, 200));
            held.job(&w, "forget segments", 20, move |tx| queue::receipt::forget_segments(tx, end, 20));
            held.job(&w, "forget dialogues", 20, move |tx| queue::receipt::forget_dialogues(tx, end, 20));
        }
        held.0.sort_by_key(|(.., (took, _))| std::cmp::Reverse(*took));
        for (what, load, (took, Done { waits, statements, rows })) in &held.0 {
            let ms = took.as_secs_f64() * 1e3;
            println!(
                "{:>10} {ms:8.2} ms, {waits:3} waits, {statements:4} statements, {rows:4} rows  {what} ({load})",
                w.name
            );
        }
        let is_much = |(_, load, (_, done)): &&(&str, usize, Took)| {
            let most = EACH * *load as u64 + MORE;
            done.waits > WAITS || done.statements > most || done.rows > most
        };
        let much: Vec<_> = held.0.iter().filter(is_much).collect();
        assert!(much.is_empty(), "{}: {much:#?}", w.name);
    }
}

/// As many segments of one record as are merged at once.
fn merge(w: &World, held: &mut Held) {
    let ids: Vec<QueueId> = (0..BATCH).map(|_| held.enqueue(w, "enqueue, one to one", 1)).collect();
    let claimed = w.claim(BATCH as u32, NOW);
    assert_eq!(claimed.len(), BATCH);
    settled(&claimed, DELIVERED, yes()).into_iter().for_each(|one| _ = w.record(vec![one], NOW));
    let (queue, end) = (w.queue.clone(), later(2 * 3_600_000));
    let merge = w.store.read_blocking(move |tx| queue::receipt::to_merge(tx, &queue, 0, end)).unwrap().unwrap();
    assert_eq!(merge.segments(), ids.len() as u64);
    held.job(w, "merge, segments of one record", BATCH, move |tx| merge.write(tx));
}

/// What a life left is given back in jobs, each with a commit of its own: by the time of all of them. What one does is counted where it is
/// written.
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
        held.add(what, BATCH, (began.elapsed() / 2, Done::default()));
        ids.into_iter().for_each(|id| w.cancel(id));
    }
}
