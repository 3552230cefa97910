//! Jobs and the queue they wait in. A job is a synchronous function of a transaction; the queue has two lanes and a bound.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// The same, but it waits for mails that are just being written or come one after the other, to be committed together with them:
    /// a sync less. Where none are it waits for nothing else.
    Patient,
    /// Chunked background work: runs when no interactive job waits, and at least once in eight groups.
    Bulk,
}

/// A bulk job gets its turn at the latest after this many groups of others.
const BULK_TURN: u32 = 8;
/// And a patient one after so many that left it behind.
const PATIENT_TURN: u32 = 2;

/// It waits so long for mails that are being written, and no longer: a disk that takes more for a sync is not to keep back what has
/// nothing to do with it.
const PATIENCE: Duration = Duration::from_millis(30);

/// Where groups follow one another within this time the next is waited for as long: a third of all commits would else be of claims and
/// outcomes alone.
const STREAM: Duration = Duration::from_millis(3);

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
    /// A group has ended.
    progress: Condvar,
    /// See [`Queue::is_grouped`].
    grouped: bool,
}

/// See [`Queue::turn`].
pub(crate) struct Coming<'a>(&'a Queue);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        let mut lanes = self.0.lock();
        lanes.coming = None;
        self.0.call(lanes);
    }
}

#[derive(Default)]
struct Lanes {
    interactive: VecDeque<Box<dyn Job>>,
    patient: VecDeque<Box<dyn Job>>,
    bulk: VecDeque<Box<dyn Job>>,
    /// Interactive jobs ever added, and those of them that are done with.
    added: u64,
    ended: u64,
    /// More are about to come, and are waited for until then.
    coming: Option<Instant>,
    /// When a group with interactive jobs was last committed.
    committed: Option<Instant>,
    /// Who sleeps on [`Queue::progress`] is called when so many are done with.
    awaited: Option<u64>,
    /// Writers that sleep, and those of them that were called: each call is one of the system, and wakes a thread.
    asleep: usize,
    called: usize,
    /// Of those that sleep, the ones that wake up when what is coming is late.
    timed: usize,
    groups_since_bulk: u32,
    /// Groups since a patient one waits.
    left_patient: u32,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(grouped: bool) -> Self {
        Queue { lanes: Mutex::new(Lanes::default()), wake: Condvar::new(), progress: Condvar::new(), grouped }
    }

    /// Jobs are committed in groups.
    pub(crate) fn is_grouped(&self) -> bool {
        self.grouped
    }

    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job, or finishes it at once with [`Error::Busy`] or [`Error::Closed`].
    pub(crate) fn push(&self, lane: Lane, job: Box<dyn Job>) {
        self.push_all([(lane, job)]);
    }

    /// Adds jobs that came together: a writer that slept finds all of them for its group.
    ///
    /// Gives how many interactive jobs there ever were.
    pub(crate) fn push_all(&self, jobs: impl IntoIterator<Item = (Lane, Box<dyn Job>)>) -> u64 {
        let mut lanes = self.lock();
        let refused: Vec<_> = jobs.into_iter().filter_map(|(lane, job)| lanes.add(lane, job).err()).collect();
        let added = lanes.added;
        self.call(lanes);
        refused.into_iter().for_each(|(job, error)| job.finish(Err(error)));
        added
    }

    /// Wakes writers for what can be taken.
    fn call(&self, mut lanes: MutexGuard<'_, Lanes>) {
        let calls = lanes.ready().min(lanes.asleep).saturating_sub(lanes.called);
        lanes.called += calls;
        drop(lanes);
        (0..calls).for_each(|_| self.wake.notify_one());
    }

    /// Waits for the first job of a group; `None` once closed and empty.
    pub(crate) fn first(&self) -> Option<Box<dyn Job>> {
        let mut lanes = self.lock();
        loop {
            lanes.groups_since_bulk += 1;
            lanes.left_patient += u32::from(!lanes.patient.is_empty());
            if let Some(job) = lanes.next(true) {
                return Some(job);
            }
            if lanes.closed {
                return None;
            }
            lanes.asleep += 1;
            lanes = match lanes.patience() {
                None => self.wake.wait(lanes).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    lanes.timed += 1;
                    let (mut lanes, _) = self.wake.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner);
                    lanes.timed -= 1;
                    lanes
                }
            };
            lanes.asleep -= 1;
            lanes.called = lanes.called.saturating_sub(1);
        }
    }

    /// The next job of the same group, if one waits.
    pub(crate) fn more(&self) -> Option<Box<dyn Job>> {
        self.lock().next(false)
    }

    /// All that writers have taken is done with: a group was committed, or where there are no groups, a job begun.
    pub(crate) fn ended(&self) {
        let mut lanes = self.lock();
        let more = lanes.taken() > lanes.ended;
        lanes.ended = lanes.taken();
        if more && self.grouped {
            lanes.follow(Instant::now());
        }
        if lanes.awaited.is_some_and(|n| lanes.ended >= n) {
            lanes.awaited = None;
            if self.grouped {
                lanes.expect();
            }
            self.progress.notify_all();
        }
    }

    /// Waits until the first `n` interactive jobs ever added are done with. More of them are about to come then, and where jobs are
    /// committed in groups the patient ones wait for them: as long as what this gives lives, but no longer than [`PATIENCE`].
    pub(crate) fn turn(&self, n: u64) -> Option<Coming<'_>> {
        let mut lanes = self.lock();
        while lanes.ended < n && !lanes.closed {
            lanes.awaited = Some(n);
            lanes = self.progress.wait(lanes).unwrap_or_else(PoisonError::into_inner);
        }
        if !self.grouped {
            return None;
        }
        lanes.expect();
        Some(Coming(self))
    }

    /// No new jobs; those that wait are still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
        self.progress.notify_all();
    }
}

impl Lanes {
    /// Interactive jobs ever taken.
    fn taken(&self) -> u64 {
        self.added - self.interactive.len() as u64
    }

    fn add(&mut self, lane: Lane, job: Box<dyn Job>) -> std::result::Result<(), (Box<dyn Job>, Error)> {
        if self.closed {
            return Err((job, Error::Closed));
        }
        if self.interactive.len() + self.patient.len() + self.bulk.len() >= WAITING {
            return Err((job, Error::Busy));
        }
        match lane {
            Lane::Interactive => {
                self.added += 1;
                self.interactive.push_back(job);
            }
            Lane::Patient => self.patient.push_back(job),
            Lane::Bulk => self.bulk.push_back(job),
        }
        Ok(())
    }

    /// More are about to come, in a moment.
    fn expect(&mut self) {
        self.coming = Some(Instant::now() + PATIENCE);
    }

    /// A group with interactive jobs is committed.
    fn follow(&mut self, now: Instant) {
        let last = self.committed.replace(now);
        if self.coming.is_none_or(|until| until <= now) && last.is_some_and(|last| now - last < STREAM) {
            self.coming = Some(now + STREAM);
        }
    }

    fn patient_one(&mut self) -> Option<Box<dyn Job>> {
        let job = self.patient.pop_front()?;
        self.left_patient = 0;
        Some(job)
    }

    /// Jobs for which a writer is to be awake, or to wake up in time.
    fn ready(&self) -> usize {
        let patient = match self.is_to_wait() {
            true => usize::from(self.timed == 0),
            false => self.patient.len(),
        };
        self.interactive.len() + patient + self.bulk.len()
    }

    /// How long what is coming is waited for.
    fn patience(&self) -> Option<Duration> {
        self.coming?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// What is patient waits for others.
    fn is_to_wait(&self) -> bool {
        !self.patient.is_empty() && self.interactive.is_empty() && !self.closed && self.patience().is_some()
    }

    fn next(&mut self, first: bool) -> Option<Box<dyn Job>> {
        let late = first && self.left_patient > PATIENT_TURN;
        if late && let Some(job) = self.patient_one() {
            return Some(job);
        }
        let starved = first && self.groups_since_bulk > BULK_TURN && !self.bulk.is_empty();
        if !starved && let Some(job) = self.interactive.pop_front() {
            return Some(job);
        }
        let stays = starved || first && self.is_to_wait();
        if !stays && let Some(job) = self.patient_one() {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    fn job() -> Box<dyn Job> {
        WriteJob::boxed(Arc::<Tally>::default().ask(), |_: &mut Tx<'_>, _: &[BlobId]| Ok(())).0
    }

    /// Mails are being written, and are waited for as long as that takes.
    fn expect(queue: &Queue) -> Coming<'_> {
        let coming = queue.turn(0).unwrap();
        queue.lock().coming = Some(Instant::now() + Duration::from_secs(3600));
        coming
    }

    /// Until so many writers sleep.
    fn asleep(queue: &Queue, n: usize) {
        while queue.lock().asleep < n {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_came_together_is_found_together() {
        for _ in 0..200 {
            let queue = Arc::new(Queue::new(true));
            let writer = {
                let queue = queue.clone();
                thread::spawn(move || {
                    queue.first().unwrap();
                    (1..).take_while(|_| queue.more().is_some()).count()
                })
            };
            asleep(&queue, 1);
            queue.push_all((0..5).map(|_| (Lane::Interactive, job())));
            assert_eq!(writer.join().unwrap(), 4);
        }
    }

    #[test]
    fn who_is_patient_goes_with_the_next_mails_and_waits_for_nothing_else() {
        let queue = Queue::new(true);
        let take = |first| queue.lock().next(first).is_some();
        queue.push(Lane::Patient, job());
        assert!(take(true), "none are being written");
        let coming = expect(&queue);
        queue.push(Lane::Patient, job());
        assert!(!take(true));
        queue.push_all([(Lane::Interactive, job())]);
        assert!(take(true) && take(false) && !take(false), "in one group");
        queue.push(Lane::Patient, job());
        assert!(!take(true));
        drop(coming);
        assert!(take(true), "they came, or they will not");
        let _coming = expect(&queue);
        queue.push(Lane::Patient, job());
        queue.close();
        assert!(take(true), "nothing comes any more");
    }

    #[test]
    fn who_is_patient_waits_for_the_next_of_a_stream_and_not_behind_a_single_one() {
        let (queue, began) = (Queue::new(true), Instant::now());
        let commit = |after: Duration| {
            let mut lanes = queue.lock();
            lanes.follow(began + after);
            lanes.coming.map(|until| until - began)
        };
        assert_eq!(commit(Duration::ZERO), None);
        assert_eq!(commit(STREAM), None, "they come too seldom");
        assert_eq!(commit(STREAM + STREAM / 2), Some(2 * STREAM + STREAM / 2));
        assert_eq!(commit(2 * STREAM), Some(2 * STREAM + STREAM / 2), "it is being waited already");
        // One that was waited for in vain, or came, keeps nobody from waiting for the next.
        assert_eq!(commit(3 * STREAM - STREAM / 4), Some(4 * STREAM - STREAM / 4));
        // And it is commits that are counted.
        let queue = Queue::new(true);
        let follows = (0..1000).any(|_| {
            queue.push(Lane::Interactive, job());
            queue.first().unwrap();
            queue.ended();
            queue.lock().coming.is_some()
        });
        assert!(follows, "a thousand commits took 3 s");
        // Nor does it where nothing was asked for by anybody who waits, or each job is a commit of its own.
        for (grouped, lane) in [(true, Lane::Patient), (true, Lane::Bulk), (false, Lane::Interactive)] {
            let queue = Queue::new(grouped);
            for _ in 0..1000 {
                queue.push(lane, job());
                queue.first().unwrap();
                queue.ended();
                assert_eq!(queue.lock().coming, None);
            }
        }
    }

    #[test]
    fn who_is_patient_has_a_turn_however_much_others_ask_for() {
        let queue = Queue::new(true);
        for _ in 0..3 {
            queue.push(Lane::Patient, job());
            let groups = (1..).find(|_| {
                queue.push_all([(Lane::Interactive, job()), (Lane::Interactive, job())]);
                queue.first().unwrap();
                queue.lock().patient.is_empty()
            });
            assert_eq!(groups, Some(PATIENT_TURN + 1));
        }
    }

    #[test]
    fn a_writer_that_sleeps_is_woken_for_what_waited() {
        let queue = Arc::new(Queue::new(true));
        let coming = expect(&queue);
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.first().is_some())
        };
        asleep(&queue, 1);
        queue.push(Lane::Patient, job());
        assert_eq!(queue.lock().called, 0, "for nothing it could take");
        drop(coming);
        assert!(writer.join().unwrap());
    }

    #[test]
    fn who_is_patient_does_not_wait_for_ever() {
        // A writer that sleeps when the mails begin to be written, and one that looks for work later.
        for sleeps in [true, false] {
            let queue = Arc::new(Queue::new(true));
            let start = || {
                let queue = queue.clone();
                thread::spawn(move || queue.first().map(|_| Instant::now()))
            };
            let early = sleeps.then(start);
            asleep(&queue, usize::from(sleeps));
            let (began, coming) = (Instant::now(), queue.turn(0));
            queue.push(Lane::Patient, job());
            let writer = early.unwrap_or_else(start);
            let taken = writer.join().unwrap().unwrap();
            drop(coming);
            assert!((PATIENCE..100 * PATIENCE).contains(&(taken - began)), "{:?}", taken - began);
        }
    }

    #[test]
    fn no_job_is_left_however_many_writers_sleep() {
        let (queue, done) = (Arc::new(Queue::new(true)), Arc::new(AtomicUsize::new(0)));
        let all_done = |queue: &Queue| {
            let until = Instant::now() + Duration::from_secs(30);
            let state = || {
                let lanes = queue.lock();
                (lanes.ready(), lanes.called, lanes.asleep)
            };
            while state() != (0, 0, 4) {
                assert!(Instant::now() < until, "{:?}", state());
                thread::sleep(Duration::from_millis(1));
            }
        };
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let (queue, done) = (queue.clone(), done.clone());
                thread::spawn(move || {
                    while queue.first().is_some() {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for n in 0..5000 {
            let lane = if n % 3 == 0 { Lane::Patient } else { Lane::Interactive };
            queue.push_all((0..n % 4).map(|_| (lane, job())));
            if n % 50 == 0 {
                all_done(&queue);
            }
        }
        all_done(&queue);
        queue.close();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(done.load(Ordering::Relaxed), 7500);
    }

    #[test]
    fn who_waits_for_the_writer_is_called_when_it_has_done_enough() {
        let queue = Arc::new(Queue::new(false));
        queue.push_all((0..3).map(|_| (Lane::Interactive, job())));
        let waits = {
            let queue = queue.clone();
            thread::spawn(move || drop(queue.turn(2)))
        };
        while queue.lock().awaited.is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        queue.ended();
        assert_eq!(queue.lock().awaited, Some(2));
        queue.first().unwrap();
        queue.more().unwrap();
        assert_eq!(queue.lock().awaited, Some(2), "taken, and not committed");
        queue.ended();
        waits.join().unwrap();
        assert!(queue.turn(2).is_none());
    }
}
