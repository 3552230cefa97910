//! The sites that lines belong to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::OrganisationId;
use queue::source::{SourceId, is_within};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::dead::Failing;
use super::ready::InLine;
use super::tenants::Tenants;
use super::traffic::Counts;
use super::used::{Before, Then};
use crate::route::{Hop, To};
use crate::shape::{Bound, Family, Limits, Policies, Policy, Rules, Site, TlsLevel};
use crate::worker::TURN;

/// Sites that are remembered: beyond, those without a line are forgotten, unless they are providers' that the data names.
const REMEMBERED: usize = 10_000;

/// What an operator calls the smart host.
const SMARTHOST: &str = "smarthost";
/// How long a source is not tried for a site that has no address of its family.
const OUT_OF_REACH: Duration = Duration::from_secs(3600);

/// A site as one source knows it: what it bears of one, it does not bear of another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct SiteKey {
    pub(super) source: SourceId,
    pub(super) name: SiteName,
}

/// What tells sites apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SiteName {
    /// One that the data names: all hosts of one provider.
    Known(Arc<str>),
    /// One set of mail hosts, or a host that the administrator names.
    Hosts(To),
}

/// A site and who waits for it.
pub(super) struct Place {
    pub(super) shape: Site,
    /// Hops with work and no connection, as the site has as many as it bears.
    pub(super) starved: VecDeque<Hop>,
    /// Hops with work only of organisations that have as many connections as they may.
    pub(super) bound: VecDeque<Hop>,
    pub(super) tenants: Tenants,
    pub(super) failing: Failing,
    /// Rung when one more of them waits: who rests on a connection makes way.
    pub(super) bell: Arc<Notify>,
    /// And that is urgent: who waits for the site makes way, too.
    pub(super) urgent: Arc<Notify>,
    pub(super) in_line: InLine,
    lines: usize,
    /// Recipients it was sent, and where they are counted if it has a name there.
    pub(super) recipients: u64,
    pub(super) traffic: Option<Arc<Counts>>,
    /// What the site last said about the traffic.
    pub(super) last: Option<(Instant, Arc<str>)>,
    /// The source has no address to reach it from.
    out_of_reach: Option<Instant>,
}

/// What a site is known to have, and wants, of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) tls: TlsLevel,
    pub(crate) family: Family,
    /// How long a connection waits for more.
    pub(crate) idle: Duration,
}

impl Place {
    /// How long it wants nothing, or is not to be had by this way; none when it may be tried.
    pub(super) fn wait(&self, to: &To, policies: &Policies, now: Instant) -> Option<Duration> {
        self.shape.pause(now).max(self.failing.wait(to, policies.dead, now))
    }

    fn new(policy: Arc<Policy>, limits: Limits) -> Self {
        Place {
            shape: Site::new(policy, limits),
            starved: VecDeque::new(),
            bound: VecDeque::new(),
            tenants: Tenants::default(),
            failing: Failing::default(),
            bell: Arc::default(),
            urgent: Arc::default(),
            in_line: Arc::default(),
            lines: 0,
            recipients: 0,
            traffic: None,
            last: None,
            out_of_reach: None,
        }
    }

    pub(super) fn out_of_reach(&mut self, now: Instant) {
        self.out_of_reach = Some(now + OUT_OF_REACH);
    }

    pub(super) fn is_out_of_reach(&self, now: Instant) -> bool {
        self.out_of_reach.is_some_and(|until| until > now)
    }

    /// What was used before there was anything here.
    fn resume(&mut self, before: Vec<Then>, now: Instant) {
        for then in before.into_iter().filter(|then| then.until > now) {
            match then.at.2 {
                None => self.shape.resume(&then.what, then.until, now),
                Some(_) => self.tenants.resume(then, now),
            }
        }
    }

    fn is_at_rest(&mut self, now: Instant) -> bool {
        self.lines == 0
            && !self.is_out_of_reach(now)
            && self.shape.is_at_rest(now)
            && self.tenants.rest(now)
            && self.failing.is_at_rest(now)
    }

    /// A connection that has carried `sent` mails, and would carry one of an organisation that counts its connections, leaves
    /// them to another line.
    pub(super) fn gives_way(&self, organisation: OrganisationId, sent: u32) -> bool {
        sent >= TURN && !self.bound.is_empty() && self.tenants.counts_connections(organisation)
    }

    pub(super) fn ways(&self) -> Ways {
        Ways { tls: self.shape.tls(), family: self.shape.family(), idle: self.shape.idle() }
    }
}

#[derive(Default)]
pub(super) struct Sites {
    places: HashMap<SiteKey, Place>,
    /// What the operator says of them.
    rules: Rules,
    pub(super) before: Before,
}

impl Sites {
    /// The site of a hop that gets a line.
    pub(super) fn enter(&mut self, hop: &Hop, policies: &Policies) -> (SiteKey, InLine) {
        let name = SiteKey { source: hop.source, name: name(hop, policies) };
        let place = self.of(&name, policies);
        place.lines += 1;
        let in_line = place.in_line.clone();
        (name, in_line)
    }

    /// A line ends.
    pub(super) fn leave(&mut self, name: &SiteKey) {
        if let Some(place) = self.places.get_mut(name) {
            place.lines -= 1;
            if place.is_at_rest(Instant::now()) {
                self.places.remove(name);
            }
        }
    }

    pub(super) fn of(&mut self, name: &SiteKey, policies: &Policies) -> &mut Place {
        if self.places.len() >= REMEMBERED && !self.places.contains_key(name) {
            // What is known of a provider is worth more than of a set of hosts, of which anybody can name any number.
            self.places.retain(|name, place| place.lines > 0 || matches!(name.name, SiteName::Known(_)));
        }
        let Sites { places, rules, before } = self;
        places.entry(name.clone()).or_insert_with(|| {
            let policy = policy(&name.name, policies);
            let limits = limits(rules, name, &policy);
            let mut place = Place::new(policy, limits);
            place.resume(before.take(name), Instant::now());
            place
        })
    }

    /// What was used before counts where there is mail already.
    pub(super) fn resume(&mut self, now: Instant) {
        self.places.iter_mut().for_each(|(name, place)| place.resume(self.before.take(name), now));
    }

    /// All of them, and what was used of others before.
    pub(super) fn with_before(&mut self) -> (impl Iterator<Item = (&SiteKey, &mut Place)>, &Before) {
        (self.places.iter_mut(), &self.before)
    }

    /// From now on these rules count.
    pub(super) fn govern(&mut self, rules: Rules) {
        self.rules = rules;
        for (name, place) in &mut self.places {
            let limits = limits(&self.rules, name, place.shape.policy());
            place.shape.govern(limits);
            for organisation in place.tenants.all() {
                place.tenants.learn(organisation, bound(&self.rules, organisation, name, place.shape.policy()));
            }
        }
    }

    /// An organisation has mail for a site: its figures hold, if it has any.
    pub(super) fn bind(&mut self, name: &SiteKey, organisation: OrganisationId) {
        if !self.rules.bind(organisation) {
            return;
        }
        if let Some(place) = self.places.get_mut(name).filter(|place| !place.tenants.knows(organisation)) {
            place.tenants.learn(organisation, bound(&self.rules, organisation, name, place.shape.policy()));
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&SiteKey, &mut Place)> {
        self.places.iter_mut()
    }

    pub(super) fn get(&self, name: &SiteKey) -> Option<&Place> {
        self.places.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &SiteKey) -> Option<&mut Place> {
        self.places.get_mut(name)
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.places.retain(|_, place| !place.is_at_rest(now));
        self.before.forget(now);
    }

    /// Nobody waits any more.
    pub(super) fn feed(&mut self) {
        for place in self.places.values_mut() {
            place.starved.clear();
            place.bound.clear();
        }
    }
}

fn limits(rules: &Rules, site: &SiteKey, policy: &Policy) -> Limits {
    rules.limits(&policy.limits, site.source, site.name.is_own(), |name| site.name.is(policy, name))
}

fn bound(rules: &Rules, organisation: OrganisationId, site: &SiteKey, policy: &Policy) -> Option<Bound> {
    rules.bound(organisation, site.source, site.name.is_own(), |name| site.name.is(policy, name))
}

impl SiteName {
    /// A host that the administrator names.
    fn is_own(&self) -> bool {
        matches!(self, SiteName::Hosts(To::Fixed(_) | To::Smarthost))
    }

    /// Whether an operator means it by a name: that of its policy, or one that is its mail hosts', or above all of them.
    pub(super) fn is(&self, policy: &Policy, name: &str) -> bool {
        if policy.id.as_deref() == Some(name) {
            return true;
        }
        let within = |host: &str| is_within(host, name);
        match self {
            SiteName::Known(_) => false,
            SiteName::Hosts(To::Hosts(hosts)) => hosts.names().all(within),
            SiteName::Hosts(To::Fixed(to)) => within(&to.host),
            SiteName::Hosts(To::Smarthost) => name == SMARTHOST,
        }
    }

    /// Whether who looks at sites means it by a name: also by the one that it is shown with.
    pub(super) fn is_called(&self, policy: &Policy, name: &str) -> bool {
        self.label() == name || self.is(policy, name)
    }
}

pub(super) fn name(hop: &Hop, policies: &Policies) -> SiteName {
    if let To::Hosts(hosts) = &hop.to {
        let policy = policies.of_hosts(hosts.names());
        if let Some(id) = policy.id.as_ref().filter(|_| !policy.by_mx_set) {
            return SiteName::Known(id.clone());
        }
    }
    SiteName::Hosts(hop.to.clone())
}

pub(super) fn policy(name: &SiteName, policies: &Policies) -> Arc<Policy> {
    match name {
        SiteName::Known(id) => policies.by_id(id),
        SiteName::Hosts(To::Hosts(hosts)) => policies.of_hosts(hosts.names()),
        SiteName::Hosts(To::Fixed(_) | To::Smarthost) => policies.own(),
    }
    .clone()
}
