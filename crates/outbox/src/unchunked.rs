//! Hosts that offer CHUNKING and do not do it: for a while their mail goes by DATA. Kept in memory; who is forgotten costs one
//! connection more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For so long.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// So many are known at once, at most. Beyond them the oldest is forgotten: whoever has many such hosts keeps nobody else's out.
const MOST: usize = 1000;

/// See the module.
#[derive(Default)]
pub(crate) struct Unchunked(Mutex<HashMap<Box<str>, Instant>>);

impl Unchunked {
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mail for the host goes by DATA.
    pub(crate) fn has(&self, host: &str) -> bool {
        self.lock().get(host).is_some_and(|since| since.elapsed() < AGE)
    }

    /// A mail did not get through by BDAT.
    pub(crate) fn note(&self, host: &str) {
        let mut known = self.lock();
        known.insert(host.into(), Instant::now());
        if known.len() > MOST {
            known.retain(|_, since| since.elapsed() < AGE);
        }
        if known.len() > MOST {
            let oldest = known.iter().min_by_key(|(_, since)| **since).map(|(host, _)| host.clone());
            oldest.and_then(|host| known.remove(&host));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_beyond_the_most_that_are_known_takes_the_place_of_the_oldest() {
        let known = Unchunked::default();
        for n in 0..=MOST {
            known.note(&format!("mx{n}.test"));
            tokio::time::advance(Duration::from_secs(1)).await;
            // Who shows it again is not old.
            if n == 2 {
                known.note("mx0.test");
            }
        }
        assert_eq!(known.lock().len(), MOST);
        let here = ["mx0.test", "mx1.test", "mx2.test", &format!("mx{MOST}.test")].map(|host| known.has(host));
        assert_eq!(here, [true, false, true, true]);
        tokio::time::advance(AGE).await;
        assert!(!known.has(&format!("mx{MOST}.test")));
    }
}
