//! Whether there is a place for work: with the source that is to send it, and with the others that could send mail like it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::line::UNKNOWN;
use super::room::LOW;
use super::sites::{self, SiteKey, SiteName};
use super::tenants::NoSeat;
use super::{Added, CROWD, Hops, No, State, Work};
use crate::route::Hop;
use crate::shape::Policies;

/// Why there is no place for work, and for how long.
pub(super) enum NoPlace {
    /// The site wants nothing.
    Paused(Duration),
    /// Its organisation has its turn then.
    Turn(Duration),
    /// Its organisation has as much in line as it may.
    Crowd(Duration),
    /// The line is too long.
    Line(Duration),
    /// The lines of the site are, all together.
    Site(Duration),
}

impl NoPlace {
    fn wait(&self) -> Duration {
        match self {
            NoPlace::Paused(wait) | NoPlace::Turn(wait) | NoPlace::Crowd(wait) => *wait,
            NoPlace::Line(wait) | NoPlace::Site(wait) => *wait,
        }
    }
}

/// Within it a source that has delivered what it may in an hour may deliver more.
const AN_HOUR: Duration = Duration::from_secs(3600);

impl Hops {
    /// The source of a hop sends this not before `wait`. How long nobody sends anything like it: none when another of its sources
    /// has a place now. Of a message it is always the same source, and others of its group may have drawn another.
    pub(crate) fn nobody_takes(&self, hop: &Hop, work: &Work, wait: Duration) -> Option<Duration> {
        let (state, now) = (self.lock(), Instant::now());
        let members = state.fleet.members(work.message.stream, work.message.organisation);
        if members.len() < 2 {
            return Some(wait);
        }
        let (hour, name) = (self.hour(), state.site_of(hop, &self.policies));
        let others = members.iter().map(|member| member.source).filter(|source| *source != hop.source);
        others
            .filter_map(|source| {
                let site = SiteKey { source, name: name.clone() };
                match state.can_send(&site, &self.policies, hour) {
                    Ok(_) => {
                        Some(state.no_place(&hop.by(source), &site, work, &self.policies, now).map(|no| no.wait()))
                    }
                    Err(No::Spent { is_for_an_hour: true, .. }) => Some(Some(AN_HOUR)),
                    // One that cannot send there at all is none to wait for.
                    Err(_) => None,
                }
            })
            .try_fold(wait, |least, wait| wait.map(|wait| least.min(wait)))
    }
}

impl State {
    /// The name of a hop's site. Names of hosts are looked through once, for the line's first mail.
    pub(super) fn site_of(&self, hop: &Hop, policies: &Policies) -> SiteName {
        self.lines.get(hop).map_or_else(|| sites::name(hop, policies), |line| line.site.name.clone())
    }

    /// Why a site has no place for what goes to a hop; none when it has. Only looks.
    pub(super) fn no_place(
        &self,
        hop: &Hop,
        site: &SiteKey,
        work: &Work,
        policies: &Policies,
        now: Instant,
    ) -> Option<NoPlace> {
        let (stream, organisation) = (work.message.stream, work.message.organisation);
        let (place, line) = (self.sites.get(site)?, self.lines.get(hop));
        if let Some(wait) = place.wait(&hop.to, policies, now) {
            return Some(NoPlace::Paused(wait));
        }
        let (share, of_site) = self.shares(stream, organisation);
        let pace = || line.map_or(UNKNOWN, |line| line.pace(stream));
        // Half of it is the others'.
        match place.tenants.no_seat(organisation, (stream, share.min(of_site) / 2), now) {
            Some(NoSeat::Turn(wait)) => return Some(NoPlace::Turn(wait)),
            Some(NoSeat::Crowd) => return Some(NoPlace::Crowd((pace() / 2).clamp(CROWD[0], CROWD[1]))),
            None => {}
        }
        // Only of what the line itself is too long for: of a full site one line that is served says nothing of the others.
        if line.is_some_and(|line| line.ready.deliveries(stream) >= share) {
            return Some(NoPlace::Line(pace()));
        }
        let is_full = place.in_line[stream as usize].load(Ordering::Relaxed) >= of_site;
        is_full.then(|| NoPlace::Site(pace()))
    }

    /// There is no place for work; its line measures its pace, where that is why.
    pub(super) fn turn_away(&mut self, hop: &Hop, work: Work, no: NoPlace) -> Added {
        let stream = work.message.stream;
        let (share, _) = self.shares(stream, work.message.organisation);
        let line = self.lines.get_mut(hop).filter(|_| !matches!(no, NoPlace::Paused(_) | NoPlace::Turn(_)));
        if let Some(line) = line {
            line.measure(stream);
            if matches!(no, NoPlace::Line(_)) {
                line.low = LOW.min(share / 2);
            }
        }
        match no {
            NoPlace::Paused(wait) | NoPlace::Site(wait) => Added::Later(work, wait, hop.clone()),
            NoPlace::Turn(wait) | NoPlace::Crowd(wait) => Added::Bound(work, wait, hop.clone()),
            NoPlace::Line(wait) => Added::Full(work, wait, hop.clone()),
        }
    }
}
