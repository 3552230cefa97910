//! The numbers of packs: none is ever used twice. A blob's id begins with its pack's number, so a number that came back
//! after its file was lost or deleted would lead old ids into other people's bytes.
//!
//! A mark stands in the tables: every number below it may have been used. It is on disk before a number below it is, and
//! goes up in steps, so that a mail costs nothing. It stands beside the rows that refer to blobs: whatever happens to the
//! files, and whichever backup the tables come from, no row refers to a number above its own mark.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::job::{Job, Lane, Queue};
use crate::pack::Placed;
use crate::{Error, Result, Sql, Tx, params};

/// Numbers reserved at once. Each start leaves at most so many unused, of two thousand million.
const STEP: u32 = 1024;

/// An id is the number, 32 bits of offset, and positive.
const LAST: u32 = i32::MAX as u32;

pub(crate) const TABLE: &str =
    "CREATE TABLE IF NOT EXISTS pack_numbers (id {int} PRIMARY KEY, below {int} NOT NULL) {table}";
const BELOW: Sql = Sql { name: "pack numbers", text: "SELECT below FROM pack_numbers WHERE id = 1" };
const RESERVE: Sql = Sql {
    name: "reserve pack numbers",
    text: "INSERT INTO pack_numbers (id, below) VALUES (1, ?1)
           ON CONFLICT (id) DO UPDATE SET below = excluded.below WHERE excluded.below > pack_numbers.below",
};

/// Gives numbers to new packs.
pub(crate) struct Numbers {
    state: Mutex<State>,
    queue: Arc<Queue>,
}

struct State {
    next: u32,
    /// All below is reserved.
    below: u32,
    /// More is asked for.
    asked: bool,
}

impl Numbers {
    /// Numbers behind `after`, the greatest among the files; none is reserved yet.
    pub(crate) fn new(after: u32, queue: Arc<Queue>) -> Arc<Self> {
        let next = after.saturating_add(1);
        Arc::new(Numbers { state: Mutex::new(State { next, below: next, asked: false }), queue })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first step of a life; the numbers count when `tx` is committed.
    pub(crate) fn open(&self, tx: &mut Tx<'_>) -> Result<()> {
        let mark = tx.row(&BELOW, params![], |r| r.int(0))?.unwrap_or(0);
        let mut state = self.state();
        state.next = state.next.max(u32::try_from(mark).unwrap_or(LAST));
        state.below = state.next.saturating_add(STEP).min(LAST);
        tx.execute(&RESERVE, params![state.below]).map(drop)
    }

    /// A number that no pack ever had.
    ///
    /// # Errors
    /// [`Error::Busy`] when the tables are so slow that the next step is not there yet.
    pub(crate) fn take(self: &Arc<Self>) -> Result<u32> {
        let mut state = self.state();
        if state.next >= LAST {
            return Err(Error::io("making a pack", "all numbers were used"));
        }
        let number = (state.next < state.below).then_some(state.next);
        if number.is_some() {
            state.next += 1;
        }
        let low = state.below - state.next < STEP / 2 && state.below < LAST;
        if low && !std::mem::replace(&mut state.asked, true) {
            let below = state.below.saturating_add(STEP).min(LAST);
            drop(state);
            self.queue.push(Lane::Interactive, Box::new(Reserve { numbers: self.clone(), below }));
        }
        number.ok_or(Error::Busy)
    }
}

/// The job of the next step.
struct Reserve {
    numbers: Arc<Numbers>,
    below: u32,
}

impl Job for Reserve {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        tx.execute(&RESERVE, params![self.below]).map(drop)
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let mut state = self.numbers.state();
        // After a failure the next pack asks again.
        state.asked = false;
        match outcome {
            Ok(()) => state.below = self.below,
            Err(error) => tracing::warn!(%error, "numbers for packs could not be reserved"),
        }
    }

    fn placed(&mut self, _: Placed) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `n` numbers from `from` on.
    fn take(numbers: &Arc<Numbers>, from: u32, n: u32) {
        for expected in from..from + n {
            assert_eq!(numbers.take().unwrap(), expected);
        }
    }

    #[test]
    fn a_number_is_given_only_when_it_is_reserved() {
        let queue = Arc::new(Queue::new());
        let numbers = Numbers::new(7, queue.clone());
        assert!(matches!(numbers.take(), Err(Error::Busy)), "nothing is reserved");
        queue.more().unwrap().finish(Err(Error::Busy));
        assert!(matches!(numbers.take(), Err(Error::Busy)));
        queue.more().unwrap().finish(Ok(()));
        take(&numbers, 8, STEP / 2);
        assert!(queue.more().is_none(), "half of them are left");
        take(&numbers, 8 + STEP / 2, STEP / 2);
        assert!(matches!(numbers.take(), Err(Error::Busy)), "the tables did not answer");
        let asked = queue.more().unwrap();
        assert!(queue.more().is_none(), "it is asked for once");
        asked.finish(Ok(()));
        take(&numbers, 8 + STEP, 10);
    }

    #[test]
    fn the_last_number_is_the_last() {
        let numbers = Numbers::new(LAST - 1, Arc::new(Queue::new()));
        assert!(matches!(numbers.take(), Err(Error::Io(_))));
    }
}
