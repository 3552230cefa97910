//! Hosts that offer CHUNKING and do not do it: for a while their mail goes by DATA. Kept in memory; who is forgotten costs one
//! attempt more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// For so long.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// So many are known at once, at most; beyond them hosts are tried anew.
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
        if known.len() >= MOST {
            known.retain(|_, since| since.elapsed() < AGE);
        }
        if known.len() < MOST {
            known.insert(host.into(), Instant::now());
        }
    }
}
