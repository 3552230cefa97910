//! What the administrator stopped, what is quiet, and how much longer it lives.

use std::collections::{HashMap, HashSet};

use base::{OrganisationId, Stream, Timestamp};
use queue::source::{Ended, Quiet};
use queue::{Delivery, Message};

/// Streams and domains, by their digests, that the administrator stopped.
#[derive(Default)]
pub(crate) struct Stopped {
    pub(crate) streams: [bool; 3],
    /// Whether those of organisations with pools of their own are.
    pub(crate) own: HashMap<(Stream, OrganisationId), bool>,
    pub(crate) domains: HashSet<i64>,
    /// When which organisation's streams are quiet.
    pub(crate) quiet: HashMap<(Stream, OrganisationId), Quiet>,
    /// What was stopped not long ago.
    pub(crate) ended: Vec<Ended>,
}

impl Stopped {
    /// Nothing of an organisation's stream is claimed here.
    pub(super) fn stops(&self, stream: Stream, organisation: OrganisationId) -> bool {
        self.own.get(&(stream, organisation)).copied().unwrap_or(self.streams[stream as usize])
    }

    /// Until when a stream of an organisation is quiet, if it is now.
    pub(super) fn quiet(&self, stream: Stream, organisation: OrganisationId, now: Timestamp) -> Option<Timestamp> {
        self.quiet.get(&(stream, organisation))?.until(now)
    }

    /// Until when a delivery lives that was kept back when its time ended: once for each stop or night.
    pub(super) fn longer(&self, message: &Message, d: &Delivery, now: Timestamp) -> Option<Timestamp> {
        // RFC 2852 §4.1.2: this is to be returned then.
        if message.is_late(now) {
            return None;
        }
        let had_time = |since: Timestamp| since < d.expires;
        let (stream, by) = (message.stream, message.organisation);
        let ended = self.ended.iter().filter(|e| had_time(e.since) && e.kept_back(stream, by, d.to.domain()));
        let quiet = self.quiet.get(&(stream, by)).map(|q| (q.around(now), q.grace()));
        let quiet = quiet.filter(|((since, _), _)| had_time(*since)).map(|((_, end), grace)| Timestamp(end.0 + grace));
        let longer = ended.map(|e| Timestamp(2 * e.until.0 - e.since.0)).chain(quiet).max();
        longer.filter(|longer| *longer > now)
    }
}
