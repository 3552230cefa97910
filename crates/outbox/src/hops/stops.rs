//! What the administrator stopped.

use queue::Delivery;
use queue::source::{Setup, SourceId, Stop, What};

use super::Work;
use super::sites::SiteKey;
use crate::shape::Policy;

/// All of it; most often nothing.
#[derive(Default)]
pub(super) struct Stops(Vec<Stop>);

impl Stops {
    pub(super) fn new(setup: &Setup) -> Self {
        Stops(setup.stops.clone())
    }

    /// All of it.
    pub(super) fn all(&self) -> impl Iterator<Item = &Stop> {
        self.0.iter()
    }

    fn any(&self, of: impl Fn(&Stop) -> bool) -> bool {
        self.0.iter().any(of)
    }

    /// Nothing new is put in line there.
    pub(super) fn source(&self, site: &SiteKey) -> bool {
        self.has(site.source)
    }

    /// The source is stopped, wherever it would send to.
    pub(super) fn has(&self, source: SourceId) -> bool {
        self.any(|stop| stop.what == What::Source(source))
    }

    pub(super) fn site(&self, site: &SiteKey, policy: impl Fn() -> std::sync::Arc<Policy>) -> bool {
        self.any(|stop| matches!(&stop.what, What::Site(name) if site.name.is(&policy(), name)))
    }

    pub(super) fn work(&self, work: &Work) -> bool {
        self.any(|stop| of_work(stop, work))
    }

    /// Takes out what goes to domains that are stopped, where other mail of it does not: a hop may carry several.
    pub(super) fn apart(&self, work: &mut Work) -> Option<Work> {
        let is = |d: &Delivery| self.any(|stop| matches!(&stop.what, What::Domain(name) if **name == *d.to.domain()));
        if self.0.is_empty() || work.deliveries.iter().all(is) {
            return None;
        }
        let stopped: Vec<Delivery> = work.deliveries.extract_if(.., |d| is(d)).collect();
        (!stopped.is_empty()).then(|| Work { deliveries: stopped, ..work.clone() })
    }

    /// Nothing more of it is begun: it does not stay in line either.
    pub(super) fn holds(&self, site: &SiteKey, policy: &Policy, work: &Work) -> bool {
        self.any(|stop| {
            let here = match &stop.what {
                What::Source(id) => *id == site.source,
                What::Site(name) => site.name.is(policy, name),
                What::Stream(_) | What::Domain(_) | What::Organisation(..) => of_work(stop, work),
            };
            here && !stop.drains
        })
    }
}

fn of_work(stop: &Stop, work: &Work) -> bool {
    let m = &work.message;
    work.deliveries.iter().any(|d| stop.what.is_of(m.stream, m.organisation, d.to.domain()) == Some(true))
}
