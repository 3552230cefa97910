//! What mail leaves by, as the lines need it: the sources, and which of them a stream's mail is spread over.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::{OrganisationId, Stream};
use queue::source::{Delivered, Member, Setup, Source, SourceId};
use queue::{Content, Message};
use tokio::time::Instant;

use super::sites::{self, SiteKey};
use super::stops::Stops;
use super::warmup::{Permit, Room, Warmups};
use super::{Hops, State, Work};
use crate::route::Hop;
use crate::shape::{Family, Policies, Rules};

/// All sources, by stream and organisation. It is made anew when something is set up otherwise.
pub(super) struct Fleet {
    sources: HashMap<SourceId, Arc<Source>>,
    streams: [Arc<[Member]>; 3],
    /// Of organisations that have pools of their own.
    own: HashMap<(Stream, OrganisationId), Arc<[Member]>>,
    pub(super) stops: Stops,
    warmups: Warmups,
    /// As it was read.
    setup: Setup,
}

/// Why no source sends something now; of several reasons the last of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum No {
    /// None has an address of a family that the host has.
    OutOfReach,
    /// The administrator stopped it, or another server has the sources.
    Stopped,
    /// All have delivered what they may.
    Spent {
        /// Some of it may still not arrive.
        pending: bool,
        /// One of them may deliver more in the next hour; else on the next day.
        is_for_an_hour: bool,
    },
}

/// Why work does not get a line.
pub(super) enum Denied {
    No(No),
    /// There is room for so many of its recipients.
    Part(usize),
}

impl Default for Fleet {
    fn default() -> Self {
        Fleet::new(&Setup::default(), Warmups::default())
    }
}

impl Fleet {
    fn new(setup: &Setup, warmups: Warmups) -> Self {
        let all = setup.sources.iter().cloned().chain([Source::default_one()]);
        let own = setup.pools.iter().filter_map(|pool| Some((pool, pool.organisation?)));
        let own = own.flat_map(|(pool, organisation)| {
            pool.streams.iter().map(move |stream| ((*stream, organisation), pool.members.as_slice().into()))
        });
        Fleet {
            sources: all.map(|s| (s.id, Arc::new(s))).collect(),
            streams: Stream::ALL.map(|stream| setup.members(stream, OrganisationId::HOUSE).into()),
            own: own.collect(),
            stops: Stops::new(setup),
            warmups,
            setup: setup.clone(),
        }
    }

    pub(super) fn members(&self, stream: Stream, organisation: OrganisationId) -> &Arc<[Member]> {
        let own = if self.own.is_empty() { None } else { self.own.get(&(stream, organisation)) };
        own.unwrap_or(&self.streams[stream as usize])
    }

    pub(super) fn knows(&self, source: SourceId) -> bool {
        self.sources.contains_key(&source)
    }

    /// What the administrator calls it.
    pub(super) fn name(&self, source: SourceId) -> Arc<str> {
        self.get(source).map_or_else(|| "gone".into(), |s| s.name.clone())
    }

    /// Each recipient of a stream has a return address of its own.
    pub(super) fn verp(&self, stream: Stream) -> bool {
        self.setup.verp.contains(&stream)
    }

    fn get(&self, source: SourceId) -> Option<&Arc<Source>> {
        self.sources.get(&source)
    }
}

/// Of those that are `usable` the one for this message, by the bits of its number: as often as its weight says, and for a message always the same (so
/// that a host that asks it to come again sees the same source), whichever others come and go.
pub(crate) fn choose(members: &[Member], id: u64, mut usable: impl FnMut(SourceId) -> bool) -> Option<SourceId> {
    if let [only] = members {
        return Some(only.source).filter(|source| usable(*source));
    }
    // Each draws a number that is smaller the greater its weight, and the smallest wins.
    let draw = |m: &Member| {
        let part = (mixed(id ^ mixed(m.source.stored() as u64)) >> 11) as f64 / (1u64 << 53) as f64;
        -(part.max(f64::MIN_POSITIVE)).ln() / f64::from(m.weight)
    };
    let usable = members.iter().filter(|m| usable(m.source));
    usable.min_by(|a, b| draw(a).total_cmp(&draw(b))).map(|m| m.source)
}

/// Bits of which each depends on all of `n` (the finalizer of SplitMix64).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

impl Hops {
    /// As what a new source counts what it sends to the hop, where that is not `usual`.
    pub(crate) fn counted(&self, hop: &Hop, usual: &str) -> Option<Arc<str>> {
        let state = self.lock();
        let site = &state.lines.get(hop)?.site;
        let label = site.name.label();
        (label != usual && state.fleet.warmups.has(site.source)).then(|| label.into())
    }

    /// What mail leaves by is set up so. None when it was already; else what may not stay in line.
    /// `delivered` is what new sources delivered before this server ran.
    pub(crate) fn set_up(&self, setup: &Setup, delivered: &[(SourceId, Delivered)]) -> Option<Vec<(Hop, Work)>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.fleet.setup == *setup {
            return None;
        }
        let (hour, hourly) = (self.hour(), self.policies.warmup.hourly);
        state.fleet = Fleet::new(setup, Warmups::new(setup, delivered, (hour, hourly), &state.fleet.warmups));
        state.sites.govern(Rules::new(&setup.rules));
        for line in state.lines.values() {
            line.ready.organisations().for_each(|(organisation, _)| state.sites.bind(&line.site, organisation));
        }
        let (lines, sites, fleet, mut moved) = (&mut state.lines, &state.sites, &state.fleet, Vec::new());
        for (hop, line) in lines {
            let gone = !fleet.knows(hop.source) || fleet.warmups.is_stopped(hop.source, line.site.name.label());
            let Some(policy) = sites.get(&line.site).map(|place| place.shape.policy()) else { continue };
            let site = &line.site;
            let works = line.ready.take_all(|work| gone || fleet.stops.holds(site, policy, work));
            moved.extend(works.into_iter().map(|work| (hop.clone(), work)));
        }
        state.remove_empty();
        // What waited for a figure that is no more goes on.
        let names: Vec<SiteKey> = state.sites.iter_mut().map(|(name, _)| name.clone()).collect();
        let start: Vec<Hop> = names.iter().flat_map(|name| state.start_bound(name)).collect();
        state.to_start.extend(start);
        state.lines.values().for_each(|line| line.bell.notify_one());
        self.has_called.store(!state.called.is_empty() || !state.to_start.is_empty(), Ordering::Relaxed);
        Some(moved)
    }

    /// A message's recipients have return addresses of their own: where the administrator wants it, and where they share no
    /// transaction anyway. People's mail keeps its sender.
    pub(crate) fn wants_verp(&self, message: &Message) -> bool {
        let made = matches!(message.content, Content::Made(_));
        message.stream != Stream::Mail && (made || self.lock().fleet.verp(message.stream))
    }

    /// What a hop is sent to from; the source that is always there, when it is gone.
    pub(crate) fn source(&self, hop: &Hop) -> Arc<Source> {
        let state = self.lock();
        state.fleet.get(hop.source).cloned().unwrap_or_else(|| Arc::new(Source::default_one()))
    }

    /// A hop has addresses, and none of a family that its source has. Gives what is in line, for others.
    pub(crate) fn out_of_reach(&self, hop: &Hop) -> Vec<Work> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(line) = state.lines.get_mut(hop) else { return Vec::new() };
        if let Some(site) = state.sites.get_mut(&line.site) {
            site.out_of_reach(Instant::now());
        }
        line.ready.drain()
    }
}

impl State {
    /// The hop by the source that is to send this, with the name of its site; or why none can.
    pub(super) fn by<'h>(
        &self,
        hop: &'h Hop,
        work: &Work,
        policies: &Policies,
        hour: i64,
    ) -> Result<(Cow<'h, Hop>, SiteKey), Denied> {
        let (stream, organisation) = (work.message.stream, work.message.organisation);
        let (members, stops) = (self.fleet.members(stream, organisation), &self.fleet.stops);
        let mut site = SiteKey { source: SourceId::DEFAULT, name: self.site_of(hop, policies) };
        if stops.work(work) || stops.site(&site, || sites::policy(&site.name, policies)) {
            return Err(Denied::No(No::Stopped));
        }
        // All its sources may be another server's.
        let none = if members.is_empty() { No::Stopped } else { No::OutOfReach };
        let (mut why, mut part) = (none, 0);
        let source = choose(members, work.message.id.bits(), |source| {
            site.source = source;
            let room = self.can_send(&site, policies, hour);
            part = room.map_or(part, |room| part.max(room));
            room.map_err(|no| why = why.max(no)).is_ok_and(|room| room >= work.deliveries.len())
        });
        match source {
            Some(source) => site.source = source,
            None if part > 0 => return Err(Denied::Part(part)),
            None => return Err(Denied::No(why)),
        }
        let hop = if hop.source == site.source { Cow::Borrowed(hop) } else { Cow::Owned(hop.by(site.source)) };
        Ok((hop, site))
    }

    /// To how many recipients a source can send to a site now.
    pub(super) fn can_send(&self, site: &SiteKey, policies: &Policies, hour: i64) -> Result<usize, No> {
        if self.fleet.stops.source(site) {
            return Err(No::Stopped);
        }
        let source = self.fleet.get(site.source).ok_or(No::OutOfReach)?;
        if let Some(place) = self.sites.get(site) {
            let v4_only = place.shape.family() == Family::V4Only;
            if v4_only && !source.reaches(true) || place.is_out_of_reach(Instant::now()) {
                return Err(No::OutOfReach);
            }
        }
        let is = |name: &str| site.name.is(&sites::policy(&site.name, policies), name);
        match self.fleet.warmups.room(site.source, site.name.label(), hour, is) {
            None => Ok(usize::MAX),
            Some(Room { left: 0, pending, today }) => Err(No::Spent { pending, is_for_an_hour: today > 0 }),
            Some(Room { left, .. }) => Ok(left as usize),
        }
    }

    /// The right to deliver this, if the source of the site needs one.
    pub(super) fn permit(&self, site: &SiteKey, work: &Work) -> Option<Arc<Permit>> {
        self.fleet.warmups.permit(site.source, site.name.label(), work.deliveries.len() as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(weights: &[u32]) -> Vec<Member> {
        (1..).zip(weights).map(|(n, weight)| Member { source: SourceId::read(n), weight: *weight }).collect()
    }

    fn id(n: u64) -> u64 {
        format!("1-{n:x}").parse::<queue::QueueId>().unwrap().bits()
    }

    #[test]
    fn each_source_has_its_share_by_weight() {
        let members = members(&[1, 3, 6]);
        let mut sent = [0; 4];
        for n in 0..10_000 {
            sent[choose(&members, id(n), |_| true).unwrap().stored() as usize] += 1;
        }
        for (n, share) in [(1, 1000), (2, 3000), (3, 6000)] {
            // Five standard deviations of the widest.
            assert!((share - 250..share + 250).contains(&sent[n]), "{sent:?}");
        }
    }

    #[test]
    fn a_message_keeps_its_source_when_another_falls_out() {
        let members = members(&[1, 1, 1, 1]);
        for n in 0..1000 {
            let first = choose(&members, id(n), |_| true).unwrap();
            let gone = SourceId::read(first.stored() % 4 + 1);
            assert_eq!(choose(&members, id(n), |s| s != gone), Some(first));
            let second = choose(&members, id(n), |s| s != first).unwrap();
            assert_ne!(second, first);
        }
        assert_eq!(choose(&members, id(1), |_| false), None);
    }
}
