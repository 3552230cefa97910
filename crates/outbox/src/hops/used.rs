//! What is used up of what sites bear, to be noted on disk, and what was used before this server had a source.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use base::OrganisationId;
use queue::Group;
use queue::source::{Setup, SourceId};
use tokio::time::Instant;

use super::Hops;
use super::sites::{SiteKey, SiteName};
use crate::route::To;
use crate::shape::{Used, What};

/// What [`Used`] is of: a source, a site (a digest of what tells it apart), and an organisation if it is of its own figures.
pub(crate) type At = (SourceId, i64, Option<OrganisationId>);

/// What was used before, of sites that have had no mail since; and the sources that are here.
#[derive(Default)]
pub(super) struct Before {
    sources: BTreeSet<SourceId>,
    sites: HashMap<(SourceId, i64), Vec<Then>>,
}

/// What was used before.
#[derive(Clone, Debug)]
pub(crate) struct Then {
    pub(crate) at: At,
    /// What the site is called, if this is a pause.
    pub(crate) name: Arc<str>,
    pub(crate) what: What,
    pub(crate) until: Instant,
}

impl Before {
    /// Of a site that gets its first mail.
    pub(super) fn take(&mut self, site: &SiteKey) -> Vec<Then> {
        if self.sites.is_empty() {
            return Vec::new();
        }
        self.sites.remove(&(site.source, site.name.digest())).unwrap_or_default()
    }

    /// Of a source that is here.
    pub(super) fn is_here(&self, source: SourceId) -> bool {
        self.sources.contains(&source)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.sites.is_empty()
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.sites.retain(|_, all| all.iter().any(|then| then.until > now));
    }

    /// Pauses that sites asked for.
    pub(super) fn pauses(&self, now: Instant) -> impl Iterator<Item = &Then> {
        let here = self.sites.values().flatten().filter(|then| self.is_here(then.at.0));
        here.filter(move |then| then.what.is_pause() && then.until > now)
    }

    /// These are over.
    pub(super) fn end(&mut self, pauses: &[Then]) {
        for Then { at, .. } in pauses {
            if let Some(all) = self.sites.get_mut(&(at.0, at.1)) {
                all.retain(|then| !then.what.is_pause());
            }
        }
    }
}

impl SiteName {
    /// What stands for it on disk.
    pub(super) fn digest(&self) -> i64 {
        Group::digest(&match self {
            SiteName::Known(id) => format!("site {id}"),
            SiteName::Hosts(To::Hosts(hosts)) => {
                hosts.all().fold(String::from("hosts"), |all, (preference, host)| format!("{all} {preference} {host}"))
            }
            SiteName::Hosts(To::Fixed(to)) => format!("host {to}"),
            SiteName::Hosts(To::Smarthost) => "smarthost".to_owned(),
        })
    }
}

impl Hops {
    /// Sources of which it is to be read what they used: they were not here until now.
    pub(crate) fn not_here(&self, setup: &Setup) -> BTreeSet<SourceId> {
        let mut sources = setup.in_use();
        let state = self.lock();
        sources.retain(|source| !state.sites.before.is_here(*source));
        sources
    }

    /// From now on these sources are here, and no others. `before` is what those used that were not.
    pub(crate) fn resume(&self, setup: &Setup, before: Vec<Then>) {
        let (mut state, now) = (self.lock(), Instant::now());
        let sites = &mut state.sites;
        sites.before.sources = setup.in_use();
        // What was known of sources that are gone may be over, where they are: should they come back, it is read anew.
        let Before { sources, sites: known } = &mut sites.before;
        known.retain(|(source, _), _| sources.contains(source));
        for then in before {
            sites.before.sites.entry((then.at.0, then.at.1)).or_default().push(then);
        }
        sites.resume(now);
    }

    /// What is used up now, with the names of sites that asked for a pause. It is asked for again at `next`, or earlier.
    pub(crate) fn used(&self, next: Instant) -> Vec<(At, Arc<str>, Used)> {
        let (mut state, now) = (self.lock(), Instant::now());
        let (places, before) = state.sites.with_before();
        let mut all = Vec::new();
        for (key, place) in places.filter(|(key, _)| before.is_here(key.source)) {
            let of_site = place.shape.used(now, next).into_iter().map(|used| (None, used));
            let of_tenants = place.tenants.used(now, next).map(|(organisation, used)| (Some(organisation), used));
            let mut some = of_site.chain(of_tenants).peekable();
            if some.peek().is_some() {
                let site = key.name.digest();
                let name = |what: &What| if what.is_pause() { key.name.label().into() } else { Arc::default() };
                all.extend(some.map(|(organisation, used)| ((key.source, site, organisation), name(&used.what), used)));
            }
        }
        all
    }
}
