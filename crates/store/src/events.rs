//! Telling what was committed. One engine has one writer and tells as it goes; the other commits on several connections
//! at once, and the tickets here put its events back into the order of commits.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Something that happened, told to the [subscribers](Subscriber) once it is on disk. What it is, only the crate that
/// publishes it knows; [`Gap`] is the store's own.
pub type Event = Arc<dyn Any + Send + Sync>;

/// Is told of every [`Event`] once its job is on disk and visible to new reads, and before that job is answered. Runs on
/// a thread that commits: short, and never waiting for anything, the store least of all.
///
/// What is guaranteed, on both engines:
/// - Events of one job are told together, in the order they were published.
/// - Events of two jobs that changed a common row are told in the order of their commits. A job that takes a MODSEQ
///   changes its account's row, so the events of an account (all its mailboxes) are told in the order of MODSEQ.
/// - Events of jobs with no changed row in common are told in any order (on SQLite: in that of commits).
/// - One event at a time, never two at once.
/// - A subscriber that panics misses that event; everybody else is told.
///
/// What is not:
/// - That every commit is told of. When a connection is lost while PostgreSQL commits, nobody knows the outcome: instead
///   of the job's events a [`Gap`] is told. What another process commits is not told either.
/// - That a read sees nothing newer than what was told: a commit is visible a moment before its event.
///
/// So an event that carries its MODSEQ may be applied as it comes when it is the next one; behind a gap, re-read.
pub type Subscriber = Box<dyn Fn(&Event) + Send + Sync>;

/// The [`Event`] told in place of those of a job whose commit has an unknown outcome: whoever shows what is in the store
/// reads it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap;

/// Those who listen, and whose turn it is to be told.
#[derive(Default)]
pub(crate) struct Subscribers {
    all: RwLock<Vec<Subscriber>>,
    turns: Mutex<Turns>,
}

/// What is done when all earlier tickets are settled.
type Then = Box<dyn FnOnce() + Send>;

/// The tickets that are out, oldest first: `None` until settled.
#[derive(Default)]
struct Turns {
    first: u64,
    slots: VecDeque<Option<Then>>,
    /// Somebody is at it, and will also do what is settled in the meantime.
    telling: bool,
}

impl Subscribers {
    pub(crate) fn add(&self, subscriber: Subscriber) {
        self.all.write().unwrap_or_else(PoisonError::into_inner).push(subscriber);
    }

    pub(crate) fn tell(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        for (event, subscriber) in events.iter().flat_map(|e| all.iter().map(move |s| (e, s))) {
            contained(|| subscriber(event));
        }
    }

    /// A place in the order of telling. Taken after a job's last statement and before its COMMIT: while it holds its
    /// row locks. Who needs one of these rows gets it after that COMMIT, and so takes a later ticket: the order of
    /// tickets is the order of commits wherever two jobs changed the same row.
    pub(crate) fn ticket(self: &Arc<Self>) -> Ticket {
        let mut turns = self.turns();
        turns.slots.push_back(None);
        Ticket { of: self.clone(), number: Some(turns.first + turns.slots.len() as u64 - 1) }
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is to be done at `number`'s turn, and does all whose turn has come. Waits for nobody: what is not yet
    /// due is done by the one who settles the ticket before it.
    fn settle(&self, number: u64, then: Then) {
        let mut turns = self.turns();
        let at = (number - turns.first) as usize;
        if let Some(slot) = turns.slots.get_mut(at) {
            *slot = Some(then);
        }
        if std::mem::replace(&mut turns.telling, true) {
            return;
        }
        while let Some(then) = turns.next() {
            // Not under the lock: what is dropped in there may be the last handle of the store, which joins threads.
            drop(turns);
            contained(then);
            turns = self.turns();
        }
        turns.telling = false;
    }
}

impl Turns {
    fn next(&mut self) -> Option<Then> {
        let then = self.slots.front_mut()?.take()?;
        self.slots.pop_front();
        self.first += 1;
        Some(then)
    }
}

/// Dropped without [`Ticket::settle`], it gives its turn away.
pub(crate) struct Ticket {
    of: Arc<Subscribers>,
    number: Option<u64>,
}

impl Ticket {
    pub(crate) fn settle(mut self, then: impl FnOnce() + Send + 'static) {
        if let Some(number) = self.number.take() {
            self.of.settle(number, Box::new(then));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            self.of.settle(number, Box::new(|| {}));
        }
    }
}

/// A subscriber's panic is its own mistake: the thread that tells goes on committing.
fn contained(work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("a subscriber panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_early_waits_for_its_turn() {
        let subscribers = Arc::new(Subscribers::default());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let say = |n| {
            let heard = heard.clone();
            move || heard.lock().unwrap().push(n)
        };
        let [a, b, c, d] = std::array::from_fn(|_| subscribers.ticket());
        c.settle(say('c'));
        b.settle(|| panic!("contained"));
        assert!(heard.lock().unwrap().is_empty());
        a.settle(say('a'));
        assert_eq!(*heard.lock().unwrap(), ['a', 'c']);
        // Given up: the next one waits no longer.
        let e = subscribers.ticket();
        e.settle(say('e'));
        drop(d);
        assert_eq!(*heard.lock().unwrap(), ['a', 'c', 'e']);
        assert!(subscribers.turns().slots.is_empty());
    }
}
