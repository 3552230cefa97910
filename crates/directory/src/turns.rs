//! Whose turn it is to have a password hashed: the one thing of sign-in that is dear (a core for tens of milliseconds,
//! and 19 MiB), and that anybody may ask for.
//!
//! A crowd must not keep the owner of an account out. So a friend (somebody at a network from which the account signed in
//! lately) waits behind friends and one stranger at most; and of strangers each site has one at the door, so that a site
//! with 65,536 networks waits no less long than a telephone on its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::AuthFailure;
use crate::backoff::Network;

/// How long somebody may wait for a turn.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many strangers of one site may wait: about as many as one site can have served in that time.
const LINE: usize = 256;

/// Who asks for a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asker {
    /// The administrator, or a network that is known to be the account's.
    Friend,
    /// Anybody else, by site.
    Stranger(Network),
}

/// A few turns at once, and those who wait for one.
pub(crate) struct Turns {
    turns: Arc<Semaphore>,
    /// Of strangers one at a time waits for a turn itself.
    door: Semaphore,
    /// Of each site one at a time waits at the door.
    lines: Mutex<HashMap<Network, Line>>,
}

struct Line {
    head: Arc<Semaphore>,
    length: usize,
}

impl Turns {
    /// So many at once.
    pub(crate) fn new(turns: usize) -> Self {
        Turns { turns: Arc::new(Semaphore::new(turns)), door: Semaphore::new(1), lines: Mutex::default() }
    }

    /// A turn, which ends when it is dropped, or word that there is too much to do.
    pub(crate) async fn turn(&self, asker: Asker) -> Result<OwnedSemaphorePermit, AuthFailure> {
        let work = async {
            let turns = self.turns.clone();
            let Asker::Stranger(site) = asker else { return turns.acquire_owned().await.ok() };
            let place = self.line_up(site)?;
            let _head = place.head.acquire().await.ok()?;
            let _door = self.door.acquire().await.ok()?;
            turns.acquire_owned().await.ok()
        };
        let turn = tokio::time::timeout(PATIENCE, work).await.ok().flatten();
        turn.ok_or(AuthFailure::TryLater { seconds: PATIENCE.as_secs() as u32 })
    }

    /// A place in the line of a site; None when that is too long.
    fn line_up(&self, site: Network) -> Option<Place<'_>> {
        let mut lines = self.lines();
        let line = lines.entry(site).or_insert_with(|| Line { head: Arc::new(Semaphore::new(1)), length: 0 });
        if line.length >= LINE {
            return None;
        }
        line.length += 1;
        Some(Place { turns: self, site, head: line.head.clone() })
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Network, Line>> {
        // The lines are whole at every point where a holder could panic.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's place in a line, given up when dropped.
struct Place<'a> {
    turns: &'a Turns,
    site: Network,
    head: Arc<Semaphore>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(line) = lines.get_mut(&self.site) {
            line.length -= 1;
            if line.length == 0 {
                lines.remove(&self.site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(ip: &str) -> Asker {
        Asker::Stranger(Network::of(ip.parse().unwrap()).site())
    }

    /// Lets one after the other have the only turn, in the order in which they get it.
    async fn served(askers: Vec<(usize, Asker)>) -> Vec<usize> {
        let turns = Arc::new(Turns::new(1));
        let taken = turns.turn(Asker::Friend).await.unwrap();
        let (order, all) = (Arc::new(Mutex::new(Vec::new())), askers.len());
        let mut waiting = Vec::new();
        for (name, asker) in askers {
            let (turns, order) = (turns.clone(), order.clone());
            waiting.push(tokio::spawn(async move {
                let _turn = turns.turn(asker).await.unwrap();
                order.lock().unwrap().push(name);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }));
            tokio::task::yield_now().await;
        }
        drop(taken);
        for waiting in waiting {
            waiting.await.unwrap();
        }
        assert!(turns.lines().is_empty());
        let order = order.lock().unwrap().clone();
        assert_eq!(order.len(), all);
        order
    }

    #[tokio::test(start_paused = true)]
    async fn trap_28_a_crowd_of_strangers_keeps_no_friend_waiting() {
        let mut askers: Vec<_> = (0..500).map(|n| (n, stranger(&format!("10.{}.{}.7", n / 250, n % 250)))).collect();
        askers.push((1000, Asker::Friend));
        askers.push((1001, Asker::Friend));
        let order = served(askers).await;
        let last = order.iter().rposition(|name| *name >= 1000).unwrap();
        assert!(last <= 2, "behind one stranger at most: {:?}", &order[..5]);
    }

    #[tokio::test(start_paused = true)]
    async fn trap_28_a_site_with_many_networks_waits_in_one_line() {
        let mut askers: Vec<_> = (0..LINE).map(|n| (n, stranger(&format!("2001:db8:1:{n:x}::1")))).collect();
        askers.push((1000, stranger("2001:db8:2::1")));
        askers.push((1001, stranger("192.0.2.1")));
        let order = served(askers).await;
        let last = order.iter().rposition(|name| *name >= 1000).unwrap();
        assert!(last <= 4, "{:?}", &order[..8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_has_an_end_and_waiting_too() {
        let turns = Arc::new(Turns::new(1));
        let _taken = turns.turn(Asker::Friend).await.unwrap();
        let start = tokio::time::Instant::now();
        let ask = |ip: String| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.turn(stranger(&ip)).await.map(drop) })
        };
        let waiting: Vec<_> = (0..LINE).map(|n| ask(format!("2001:db8:1:{n:x}::1"))).collect();
        tokio::task::yield_now().await;
        let later = Err(AuthFailure::TryLater { seconds: 20 });
        assert_eq!(ask("2001:db8:1:ffff::1".into()).await.unwrap(), later);
        assert!(start.elapsed() < Duration::from_secs(1), "it is turned away at once");
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap(), later);
        }
        assert!(start.elapsed() >= PATIENCE && turns.lines().is_empty());
    }
}
