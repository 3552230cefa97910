//! Pauses that sites asked for, and their end before it is time.

use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use queue::source::{DEFAULT, Setup, SourceId, Used, is_within};
use tokio::time::Instant;

use super::Hops;
use super::sites::Sites;
use super::used::Then;
use crate::route::Hop;
use crate::shape::What;

/// A site wants nothing now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// What the site is called: its name in the policies, else its first mail host.
    pub site: String,
    /// Of which source it wants nothing.
    pub source: Arc<str>,
    /// And of which senders' domain; none is all mail.
    pub sender: Option<Box<str>>,
    /// For so long.
    pub left: Duration,
}

impl Pause {
    /// As it was noted, perhaps by another node; none that is over, is no pause, or is of a source that is no more.
    pub fn noted(used: &Used, setup: &Setup, now: Timestamp) -> Option<Self> {
        let left = u64::try_from(used.until.0.saturating_sub(now.0)).ok().filter(|left| *left > 0)?;
        let sender = match used.of.what.parse().ok()? {
            What::Pause => None,
            What::Sender(domain) => Some(domain),
            _ => return None,
        };
        let named = |id| setup.sources.iter().find(|source| source.id == id).map(|source| source.name.clone());
        let source = if used.of.source == SourceId::DEFAULT { DEFAULT.into() } else { named(used.of.source)? };
        Some(Pause { site: used.name.to_string(), source, sender, left: Duration::from_millis(left) })
    }
}

impl Hops {
    /// Those of the sites that are called so, of a source or of all; also of sites that nobody has sent to since this server began.
    pub(crate) fn pauses(&self, site: &str, source: Option<SourceId>) -> Vec<Pause> {
        let (mut state, now) = (self.lock(), Instant::now());
        let all = state.sites.pauses(site, source, now);
        let shown = |then: Then| Pause {
            site: then.name.to_string(),
            source: state.fleet.name(then.at.0),
            sender: match then.what {
                What::Sender(domain) => Some(domain),
                _ => None,
            },
            left: then.until.saturating_duration_since(now),
        };
        all.into_iter().map(shown).collect()
    }

    /// The same, which are over with this.
    pub(crate) fn end_pauses(&self, site: &str, source: Option<SourceId>) -> Vec<Then> {
        let (mut state, now) = (self.lock(), Instant::now());
        let all = state.sites.pauses(site, source, now);
        state.sites.before.end(&all);
        for (key, place) in state.sites.iter_mut().filter(|(_, place)| !place.shape.pauses(now).is_empty()) {
            let digest = key.name.digest();
            if all.iter().any(|then| (then.at.0, then.at.1) == (key.source, digest)) {
                place.shape.end_pauses();
            }
        }
        all
    }

    /// What stands for the site of a hop, whatever it is sent to by.
    pub(crate) fn digest_of(&self, hop: &Hop) -> i64 {
        self.lock().site_of(hop, &self.policies).digest()
    }
}

impl Sites {
    fn pauses(&mut self, name: &str, source: Option<SourceId>, now: Instant) -> Vec<Then> {
        let is_by = |by: SourceId| source.is_none_or(|source| source == by);
        let before = self.before.pauses(now).filter(|then| is_by(then.at.0) && is_within(&then.name, name));
        let mut all: Vec<Then> = before.cloned().collect();
        for (key, place) in self.iter_mut().filter(|(key, _)| is_by(key.source)) {
            let pauses = place.shape.pauses(now);
            if pauses.is_empty() || !key.name.is_called(place.shape.policy(), name) {
                continue;
            }
            let at = (key.source, key.name.digest(), None);
            all.extend(pauses.into_iter().map(|(what, until)| Then { at, name: key.name.label().into(), what, until }));
        }
        all
    }
}
