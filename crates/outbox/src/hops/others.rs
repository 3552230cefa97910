//! What other sources do with mail like that which one has no place for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::line::UNKNOWN;
use super::sites::{self, SiteKey};
use super::{Hops, State, Work};
use crate::route::Hop;
use crate::shape::Policies;

impl Hops {
    /// The source of a hop sends this not before `wait`. How long nobody sends anything like it: none when another of its sources
    /// has a place now. Of a message it is always the same source, and others of its group may have drawn another.
    pub(crate) fn nobody_takes(&self, hop: &Hop, work: &Work, wait: Duration) -> Option<Duration> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let members = state.fleet.members(work.message.stream, work.message.organisation).clone();
        if members.len() < 2 {
            return Some(wait);
        }
        let (today, name) = (self.today.load(Ordering::Relaxed), sites::name(hop, &self.policies));
        let others = members.iter().map(|member| member.source).filter(|source| *source != hop.source);
        others
            .filter_map(|source| {
                let site = SiteKey { source, name: name.clone() };
                // One that cannot send there at all is none to wait for.
                state.can_send(&site, &self.policies, today).ok()?;
                Some(state.wait_of(hop, &site, work, &self.policies))
            })
            .try_fold(wait, |least, wait| wait.map(|wait| least.min(wait)))
    }
}

impl State {
    /// How long the source of a site has no place for what goes to a hop; none when it has.
    fn wait_of(&mut self, hop: &Hop, site: &SiteKey, work: &Work, policies: &Policies) -> Option<Duration> {
        let (now, stream) = (Instant::now(), work.message.stream);
        let (share, of_site) = self.shares(stream, work.message.organisation);
        let place = self.sites.get(site)?;
        let pause = place.wait(&hop.to, policies, now);
        let is_full = place.in_line[stream as usize].load(Ordering::Relaxed) >= of_site;
        let full = match self.lines.get_mut(&hop.by(site.source)) {
            Some(line) if is_full || line.ready.deliveries(stream) >= share => Some(line.pace(stream)),
            None if is_full => Some(UNKNOWN),
            _ => None,
        };
        pause.or(full)
    }
}
