//! Hosts to which no connection comes about, time after time: they are left alone for a while. It is kept for a set of mail hosts and
//! not for its whole site: anybody could name a machine of a provider that takes no mail, and speak for the provider.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Hops;
use crate::route::{Hop, To};
use crate::shape::Dead;

/// Sets of hosts of one site, at most; beyond them others are tried whenever there is mail.
const KNOWN: usize = 100;
/// Failures further apart are no longer in a row.
const IN_A_ROW: Duration = Duration::from_secs(3600);

/// Those of a site that failed lately.
#[derive(Default)]
pub(super) struct Failing(HashMap<To, Failed>);

#[derive(Clone, Copy)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Failing {
    fn failed(&mut self, to: &To, now: Instant) {
        self.0.retain(|_, failed| now - failed.last < IN_A_ROW);
        let times = self.0.get(to).map_or(0, |known| known.times);
        if times > 0 || self.0.len() < KNOWN {
            self.0.insert(to.clone(), Failed { times: times.saturating_add(1), last: now });
        }
    }

    /// How long they are still left alone.
    pub(super) fn wait(&self, to: &To, dead: Option<Dead>, now: Instant) -> Option<Duration> {
        let (dead, failed) = (dead?, self.0.get(to)?);
        let wait = (failed.last + dead.time).saturating_duration_since(now);
        Some(wait).filter(|wait| failed.times >= dead.after && !wait.is_zero())
    }

    /// Nothing would be lost if it were forgotten.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        self.0.values().all(|failed| now - failed.last >= IN_A_ROW)
    }
}

impl Hops {
    /// No connection to any of a hop's hosts came about. Those that the administrator names are asked all the same.
    pub(crate) fn failed(&self, hop: &Hop) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get(hop).filter(|_| matches!(hop.to, To::Hosts(_))) else { return };
        // While others have one, or still try, it was one too many.
        if line.connected.max(line.workers.saturating_sub(1)) == 0
            && let Some(site) = state.sites.get_mut(&line.site)
        {
            site.failing.failed(&hop.to, Instant::now());
        }
    }

    /// A worker is connected.
    pub(crate) fn connected(&self, hop: &Hop) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get_mut(hop) else { return };
        line.connected += 1;
        state.sites.get_mut(&line.site).into_iter().for_each(|site| _ = site.failing.0.remove(&hop.to));
        state.keep_promise(hop);
    }
}
