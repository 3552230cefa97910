//! Jobs and the queue they wait in. A job is a synchronous function of a transaction; the queue has two lanes and a bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use base::BlobId;
use tokio::sync::oneshot;

use crate::pack::Placed;
use crate::{Error, Result, Tx};

/// How many jobs may wait before new ones are turned away with [`Error::Busy`].
const WAITING: usize = 20_000;

/// Who goes first when jobs wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for the answer.
    Interactive,
    /// Chunked background work: runs when no interactive job waits, and at least once in eight groups.
    Bulk,
}

/// A bulk job gets its turn at the latest after this many groups of interactive ones.
const BULK_TURN: u32 = 8;

/// Jobs and reads of a store since it was opened. Two looks that are the same, with all of it answered, show that nothing was
/// under way in between: tests on virtual time wait for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// So many were asked for.
    pub asked: u64,
    /// So many of them have their answer: whoever waits was woken.
    pub answered: u64,
}

impl Work {
    /// Nothing is under way.
    pub fn is_done(&self) -> bool {
        self.asked == self.answered
    }
}

/// Counts [`Work`].
#[derive(Default)]
pub(crate) struct Tally {
    asked: AtomicU64,
    answered: AtomicU64,
}

impl Tally {
    /// One more is asked for; what this gives is dropped when it is answered.
    pub(crate) fn ask(self: &Arc<Self>) -> Pending {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Pending(self.clone())
    }

    pub(crate) fn work(&self) -> Work {
        // In this order: what is asked for in between is not taken for answered.
        let answered = self.answered.load(Ordering::SeqCst);
        Work { asked: self.asked.load(Ordering::SeqCst), answered }
    }
}

/// Something that is not answered yet.
pub(crate) struct Pending(Arc<Tally>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// A job whose result type is forgotten.
pub(crate) trait Job: Send {
    /// May be called again after a conflict: leaves no effect outside `tx`.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// Hands the outcome to whoever waits.
    fn finish(self: Box<Self>, outcome: Result<()>);
    /// Tells the job where its staged bytes went; before the first `run`.
    fn placed(&mut self, placed: Placed);
}

pub(crate) struct WriteJob<F, T> {
    work: F,
    placed: Placed,
    result: Option<T>,
    done: oneshot::Sender<Result<T>>,
    pending: Pending,
}

impl<F, T> WriteJob<F, T>
where
    F: Fn(&mut Tx<'_>, &[BlobId]) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    pub(crate) fn boxed(pending: Pending, work: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>) {
        let (done, wait) = oneshot::channel();
        (Box::new(WriteJob { work, placed: Placed::default(), result: None, done, pending }), wait)
    }
}

impl<F, T> Job for WriteJob<F, T>
where
    F: Fn(&mut Tx<'_>, &[BlobId]) -> Result<T> + Send + 'static,
    T: Send + 'static,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.result = Some((self.work)(tx, &self.placed.blobs)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let WriteJob { result, done, placed, pending, .. } = *self;
        match &outcome {
            // Nobody knows whether rows refer to the blobs now, or will after a crash: their packs stay.
            Err(Error::Io(_)) => placed.pins.into_iter().for_each(std::mem::forget),
            // Who hears of the commit may sweep at once.
            _ => drop(placed),
        }
        // Nobody waits any more when the session was dropped: the work is done all the same.
        let _ = done.send(outcome.and_then(|()| result.ok_or(Error::Closed)));
        drop(pending);
    }

    fn placed(&mut self, placed: Placed) {
        self.placed = placed;
    }
}

/// Where jobs wait for the writer.
pub(crate) struct Queue {
    lanes: Mutex<Lanes>,
    wake: Condvar,
    /// A job was taken.
    progress: Condvar,
}

#[derive(Default)]
struct Lanes {
    interactive: VecDeque<Box<dyn Job>>,
    bulk: VecDeque<Box<dyn Job>>,
    /// Interactive jobs ever added.
    added: u64,
    groups_since_bulk: u32,
    closed: bool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Queue { lanes: Mutex::new(Lanes::default()), wake: Condvar::new(), progress: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, or finishes it at once with [`Error::Busy`] or [`Error::Closed`].
    pub(crate) fn push(&self, lane: Lane, job: Box<dyn Job>) {
        let mut lanes = self.lock();
        let refusal = if lanes.closed {
            Error::Closed
        } else if lanes.interactive.len() + lanes.bulk.len() >= WAITING {
            Error::Busy
        } else {
            match lane {
                Lane::Interactive => {
                    lanes.added += 1;
                    lanes.interactive.push_back(job);
                }
                Lane::Bulk => lanes.bulk.push_back(job),
            }
            drop(lanes);
            self.wake.notify_one();
            return;
        };
        drop(lanes);
        job.finish(Err(refusal));
    }

    /// Waits for the first job of a group; `None` once closed and empty.
    pub(crate) fn first(&self) -> Option<Box<dyn Job>> {
        let mut lanes = self.lock();
        loop {
            lanes.groups_since_bulk += 1;
            if let Some(job) = self.next(&mut lanes, true) {
                return Some(job);
            }
            if lanes.closed {
                return None;
            }
            lanes = self.wake.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next job of the same group, if one waits.
    pub(crate) fn more(&self) -> Option<Box<dyn Job>> {
        self.next(&mut self.lock(), false)
    }

    fn next(&self, lanes: &mut Lanes, first: bool) -> Option<Box<dyn Job>> {
        let job = lanes.next(first);
        self.progress.notify_all();
        job
    }

    /// How many interactive jobs were ever added.
    pub(crate) fn added(&self) -> u64 {
        self.lock().added
    }

    /// Waits until the first `n` interactive jobs ever added have been taken by the writer.
    pub(crate) fn taken(&self, n: u64) {
        let waiting = |lanes: &mut Lanes| lanes.added - (lanes.interactive.len() as u64) < n && !lanes.closed;
        drop(self.progress.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner));
    }

    /// No new jobs; those that wait are still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
        self.progress.notify_all();
    }
}

impl Lanes {
    fn next(&mut self, first: bool) -> Option<Box<dyn Job>> {
        let starved = first && self.groups_since_bulk > BULK_TURN && !self.bulk.is_empty();
        if !starved && let Some(job) = self.interactive.pop_front() {
            return Some(job);
        }
        // A group holds one bulk job at most, as its first: the interactive ones behind it wait for no second.
        if first && let Some(job) = self.bulk.pop_front() {
            self.groups_since_bulk = 0;
            return Some(job);
        }
        None
    }
}
