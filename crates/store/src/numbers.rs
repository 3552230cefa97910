//! The numbers of packs: none is ever used twice. A blob's id begins with its pack's number, so a number that came back
//! after its file was lost or deleted would lead old ids into other people's bytes.
//!
//! A mark stands in the tables: every number below it may have been used. It is on disk before a number below it is, and
//! goes up in steps, so that a mail costs nothing; whoever raises it has the numbers of that step to itself. It stands
//! beside the rows that refer to blobs: whatever happens to the files, and whichever backup the tables come from, no row
//! refers to a number above its own mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::{Job, Lane, Queue};
use crate::pack::Placed;
use crate::{Error, Result, Sql, Tx, params};

/// Numbers reserved at once. Each start leaves at most twice so many unused, of two thousand million.
const STEP: u32 = 1024;

/// An id is the number, 32 bits of offset, and positive.
const LAST: u32 = i32::MAX as u32;

pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS pack_numbers (id {int} PRIMARY KEY, below {int} NOT NULL) {table}";
const RESERVE: Sql = Sql {
    name: "reserve pack numbers",
    text: "INSERT INTO pack_numbers (id, below) VALUES (1, CAST(?1 AS BIGINT) + ?2)
           ON CONFLICT (id) DO UPDATE SET below = ?2 +
               CASE WHEN pack_numbers.below < CAST(?1 AS BIGINT) THEN CAST(?1 AS BIGINT) ELSE pack_numbers.below END
           RETURNING below",
};

/// Gives numbers to new packs.
pub(crate) struct Numbers {
    state: Mutex<State>,
    queue: Arc<Queue>,
}

struct State {
    /// Greater than all that files have.
    least: u32,
    /// These are ours.
    now: Step,
    /// And then these.
    then: Option<Step>,
    /// More is asked for.
    asked: bool,
}

type Step = std::ops::Range<u32>;

/// Takes a step of numbers, none of them less than `least`.
fn reserve(tx: &mut Tx<'_>, least: u32) -> Result<Step> {
    let below = tx.one(&RESERVE, params![least, STEP], |r| r.int(0))?;
    let number = |n: i64| u32::try_from(n).unwrap_or(LAST).min(LAST);
    Ok(number(below - i64::from(STEP))..number(below))
}

impl Numbers {
    /// Numbers behind `after`, the greatest among the files; none is reserved yet.
    pub(crate) fn new(after: u32, queue: Arc<Queue>) -> Arc<Self> {
        let state = State { least: after.saturating_add(1), now: 0..0, then: None, asked: false };
        Arc::new(Numbers { state: Mutex::new(state), queue })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first step of a life; the numbers count when `tx` is committed.
    pub(crate) fn open(&self, tx: &mut Tx<'_>) -> Result<()> {
        let mut state = self.state();
        state.now = reserve(tx, state.least)?;
        Ok(())
    }

    /// A number that no pack ever had.
    ///
    /// # Errors
    /// [`Error::Busy`] when the tables are so slow that the next step is not there yet.
    pub(crate) fn take(self: &Arc<Self>) -> Result<u32> {
        let mut state = self.state();
        if state.now.is_empty()
            && let Some(then) = state.then.take()
        {
            state.now = then;
        }
        if state.now.start >= LAST {
            return Err(Error::io("making a pack", "all numbers were used"));
        }
        let number = state.now.next();
        let low = state.now.len() < STEP as usize / 2 && state.then.is_none();
        if low && !std::mem::replace(&mut state.asked, true) {
            let least = state.least;
            drop(state);
            self.queue.push(Lane::Interactive, Box::new(Reserve { numbers: self.clone(), least, step: 0..0 }));
        }
        number.ok_or(Error::Busy)
    }
}

/// The job of the next step.
struct Reserve {
    numbers: Arc<Numbers>,
    least: u32,
    step: Step,
}

impl Job for Reserve {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.step = reserve(tx, self.least)?;
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let mut state = self.numbers.state();
        // After a failure the next pack asks again.
        state.asked = false;
        match outcome {
            Ok(()) => state.then = Some(self.step),
            Err(error) => tracing::warn!(%error, "numbers for packs could not be reserved"),
        }
    }

    fn placed(&mut self, _: Placed) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables.
    struct Tables(rusqlite::Connection);

    impl Tables {
        fn new() -> Self {
            let tables = Tables(rusqlite::Connection::open_in_memory().unwrap());
            tables
                .0
                .execute_batch("CREATE TABLE pack_numbers (id INTEGER PRIMARY KEY, below INTEGER NOT NULL)")
                .unwrap();
            tables
        }

        fn open(&self, after: u32) -> (Arc<Numbers>, Arc<Queue>) {
            let queue = Arc::new(Queue::new(true));
            let numbers = Numbers::new(after, queue.clone());
            assert!(matches!(numbers.take(), Err(Error::Busy)), "nothing is reserved");
            // Asked for in vain.
            queue.more().unwrap().finish(Err(Error::Busy));
            numbers.open(&mut Tx::sqlite(&self.0)).unwrap();
            (numbers, queue)
        }

        fn answer(&self, mut job: Box<dyn Job>) {
            job.run(&mut Tx::sqlite(&self.0)).unwrap();
            job.finish(Ok(()));
        }
    }

    /// Takes `n` numbers from `from` on.
    fn take(numbers: &Arc<Numbers>, from: u32, n: u32) {
        for expected in from..from + n {
            assert_eq!(numbers.take().unwrap(), expected);
        }
    }

    #[test]
    fn a_number_is_given_only_when_it_is_reserved() {
        let tables = Tables::new();
        let (numbers, queue) = tables.open(7);
        take(&numbers, 8, STEP / 2);
        assert!(queue.more().is_none(), "half of them are left");
        take(&numbers, 8 + STEP / 2, STEP / 2);
        assert!(matches!(numbers.take(), Err(Error::Busy)), "the tables did not answer");
        let asked = queue.more().unwrap();
        assert!(queue.more().is_none(), "it is asked for once");
        tables.answer(asked);
        take(&numbers, 8 + STEP, STEP / 2);
        assert!(queue.more().is_none());
        take(&numbers, 8 + STEP + STEP / 2, 1);
        assert!(queue.more().is_some());
    }

    #[test]
    fn two_that_share_the_tables_have_no_number_in_common() {
        let tables = Tables::new();
        let ((a, waiting_a), (b, waiting_b)) = (tables.open(0), tables.open(3));
        take(&a, 1, STEP);
        take(&b, 1 + STEP, STEP);
        tables.answer(waiting_b.more().unwrap());
        tables.answer(waiting_a.more().unwrap());
        take(&b, 1 + 2 * STEP, STEP);
        take(&a, 1 + 3 * STEP, STEP);
        // A start sees files of both.
        let (c, _) = tables.open(4 * STEP + 100);
        take(&c, 4 * STEP + 101, 1);
    }

    #[test]
    fn the_last_number_is_the_last() {
        let tables = Tables::new();
        let (numbers, _) = tables.open(LAST - 1);
        assert!(matches!(numbers.take(), Err(Error::Io(_))));
    }
}
