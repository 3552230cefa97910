//! What is known of sites now, for those who look.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{OrganisationId, Stream};
use queue::QueueId;
use queue::source::{Stop, What, is_within};
use tokio::time::Instant;

use super::sites::{self, Place, SiteKey, SiteName};
use super::{Hops, TenantState, Then, Work};
use crate::route::Hop;
use crate::shape;

/// A site as one source knows it now.
#[derive(Clone, Debug)]
pub struct SiteState {
    /// The source.
    pub source: Arc<str>,
    /// The site: its name in the policies, else its first mail host.
    pub site: String,
    /// Deliveries that stand in line for it.
    pub in_line: usize,
    /// Connections that are open or being made, and as many as may be now.
    pub open: usize,
    /// See `open`.
    pub may_open: usize,
    /// The limits in force, as an operator writes them; what the site itself taught is in `learned`.
    pub limits: Vec<(&'static str, String)>,
    /// Organisations with figures of their own that have mail for it.
    pub tenants: Vec<TenantState>,
    /// Nothing goes there for so long.
    pub paused: Option<Duration>,
    /// What was learned, or lowered for a while: in words.
    pub learned: Vec<String>,
    /// What the site last said about the traffic, and how long ago.
    pub last: Option<(Duration, Arc<str>)>,
}

/// What came of mail of a stream that went to a site by a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The source.
    pub source: Arc<str>,
    /// The site, or "other".
    pub site: Arc<str>,
    /// The stream.
    pub stream: Stream,
    /// Recipients, by what an attempt for them came to, in the order of [`crate::OUTCOMES`].
    pub recipients: [u64; 4],
}

/// Where mail goes that waits, and what is known there now.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The site: its name in the policies, else its first mail host.
    pub site: String,
    /// The source that was to send it.
    pub source: Arc<str>,
    /// How the site stands; none when it was not sent to lately.
    pub state: Option<SiteState>,
    /// No connection to these hosts came about, time after time: they are left alone for so long.
    pub left_alone: Option<Duration>,
    /// What the administrator stopped of the way there: the site, and where all sources are that this mail may leave by, those.
    pub stops: Vec<Stop>,
}

impl Hops {
    /// What is known of the way to a hop, for mail of an organisation's stream.
    pub(crate) fn kept(&self, hop: &Hop, stream: Stream, organisation: OrganisationId) -> Kept {
        let (mut guard, now) = (self.lock(), Instant::now());
        let state = &mut *guard;
        let key = SiteKey { source: hop.source, name: state.site_of(hop, &self.policies) };
        let (policy, members) = (sites::policy(&key.name, &self.policies), state.fleet.members(stream, organisation));
        let none_goes = members.iter().all(|member| state.fleet.stops.has(member.source));
        let stops = state.fleet.stops.all().filter(|stop| match &stop.what {
            What::Source(id) => none_goes && members.iter().any(|member| member.source == *id),
            What::Site(name) => key.name.is(&policy, name),
            What::Stream(_) | What::Domain(_) | What::Organisation(..) => false,
        });
        let (stops, source) = (stops.cloned().collect(), state.fleet.name(hop.source));
        let place = state.sites.get_mut(&key);
        let left_alone = place.as_ref().and_then(|place| place.failing.wait(&hop.to, self.policies.dead, now));
        let known = place.map(|place| shown(source.clone(), &key, place, now));
        Kept { site: key.name.label().to_owned(), source, state: known, left_alone, stops }
    }

    /// Sites that are remembered, of that name if one is given: those with most mail in line first, at most `most`.
    pub(crate) fn sites(&self, named: Option<&str>, most: usize) -> Vec<SiteState> {
        let (mut guard, now) = (self.lock(), Instant::now());
        let state = &mut *guard;
        let mut all = Vec::new();
        for (key, place) in state.sites.iter_mut() {
            if !named.is_none_or(|name| key.name.is_called(place.shape.policy(), name)) {
                continue;
            }
            all.push(shown(state.fleet.name(key.source), key, place, now));
        }
        let not_sent_to =
            state.sites.before.pauses(now).filter(|then| named.is_none_or(|name| is_within(&then.name, name)));
        all.extend(not_sent_to.map(|then| paused(state.fleet.name(then.at.0), then, now)));
        all.sort_by(|a, b| (b.in_line, &a.site, &a.source).cmp(&(a.in_line, &b.site, &b.source)));
        all.truncate(most);
        all
    }

    /// The site for which a delivery stands in line, as its source knows it. Looks at all lines.
    pub(crate) fn waits_for(&self, message: QueueId, number: u32) -> Option<SiteState> {
        let (mut guard, now) = (self.lock(), Instant::now());
        let state = &mut *guard;
        let is_it = |work: &Work| work.message.id == message && work.deliveries.iter().any(|d| d.number == number);
        let key = state.lines.values().find(|line| line.ready.iter().any(is_it))?.site.clone();
        let place = state.sites.get_mut(&key)?;
        Some(shown(state.fleet.name(key.source), &key, place, now))
    }
}

fn shown(source: Arc<str>, key: &SiteKey, place: &mut Place, now: Instant) -> SiteState {
    SiteState {
        source,
        site: key.name.label().to_owned(),
        in_line: place.in_line.iter().map(|n| n.load(Ordering::Relaxed)).sum(),
        open: place.shape.open(),
        may_open: place.shape.may_open(now),
        limits: place.shape.limits().words(),
        tenants: place.tenants.shown(),
        paused: place.shape.pause(now),
        learned: place.shape.learned(now),
        last: place.last.as_ref().map(|(at, said)| (now.saturating_duration_since(*at), said.clone())),
    }
}

/// A site that nobody has sent to since this server began, which wants nothing, or nothing of a sender, since before.
fn paused(source: Arc<str>, then: &Then, now: Instant) -> SiteState {
    let left = then.until.saturating_duration_since(now);
    let learned = match &then.what {
        shape::What::Sender(domain) => vec![shape::nothing_from(domain, left)],
        _ => Vec::new(),
    };
    SiteState {
        source,
        site: then.name.to_string(),
        in_line: 0,
        open: 0,
        may_open: 0,
        limits: Vec::new(),
        tenants: Vec::new(),
        paused: Some(left).filter(|_| learned.is_empty()),
        learned,
        last: None,
    }
}

impl Hops {
    /// Recipients by source, site and stream.
    pub(crate) fn traffic(&self) -> Vec<Traffic> {
        let state = self.lock();
        let lines = state.traffic.lines().into_iter();
        let named =
            |(source, site, stream, recipients)| Traffic { source: state.fleet.name(source), site, stream, recipients };
        lines.map(named).collect()
    }

    /// Sites, each as a source knows it, that want nothing now.
    pub(crate) fn paused(&self) -> usize {
        let (mut state, now) = (self.lock(), Instant::now());
        let before = state.sites.before.pauses(now).filter(|then| then.what == shape::What::Pause).count();
        before + state.sites.iter_mut().filter(|(_, place)| place.shape.pause(now).is_some()).count()
    }
}

impl SiteName {
    /// For people: the name in the data, or the preferred host.
    pub(super) fn label(&self) -> &str {
        match self {
            SiteName::Known(id) => id,
            SiteName::Hosts(to) => to.label(),
        }
    }
}
