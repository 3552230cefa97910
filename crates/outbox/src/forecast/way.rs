//! What one source knows of one site, and what keeps the mail for it.

use std::collections::VecDeque;
use std::time::Duration;

use peers::Site as Host;

use crate::shape::Site;

/// What keeps mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing: it goes as fast as the connections carry it.
    Connections,
    /// Our own figure for the rate of mails, or of connections.
    OurRate,
    /// The site takes so many in a time, and said so.
    ItsQuota,
    /// The site asked to be left alone.
    Asked,
    /// All connections of this server are in use.
    AllConnections,
    /// Some mails are to be tried again later.
    Retries,
    /// A plan for a new source.
    Plan,
}

impl Reason {
    pub(super) const ALL: [Reason; 7] = [
        Reason::Connections,
        Reason::OurRate,
        Reason::ItsQuota,
        Reason::Asked,
        Reason::AllConnections,
        Reason::Retries,
        Reason::Plan,
    ];
}

/// One source, one site.
pub(super) struct Way {
    pub(super) shape: Site,
    /// The site, as it sees this source.
    pub(super) host: Host,
    pub(super) ready: VecDeque<u32>,
    pub(super) workers: usize,
    pub(super) connected: usize,
    /// Workers without work.
    pub(super) idle: Vec<usize>,
    /// Nothing is begun before.
    pub(super) sleeps: Duration,
    /// It stands among those that have no connection as there are too many in all.
    pub(super) starved: bool,
    /// What keeps its mail, if it has any, and since when.
    mood: (Option<Reason>, Duration),
    kept: [Duration; Reason::ALL.len()],
}

impl Way {
    pub(super) fn new(shape: Site, host: Host) -> Self {
        Way {
            shape,
            host,
            ready: VecDeque::new(),
            workers: 0,
            connected: 0,
            idle: Vec::new(),
            sleeps: Duration::ZERO,
            starved: false,
            mood: (None, Duration::ZERO),
            kept: Default::default(),
        }
    }

    /// From now on this keeps its mail; none where it has no mail.
    pub(super) fn feels(&mut self, reason: impl Into<Option<Reason>>, now: Duration) {
        let (before, since) = std::mem::replace(&mut self.mood, (reason.into(), now));
        if let Some(before) = before {
            self.kept[before as usize] += now.saturating_sub(since);
        }
    }

    /// What kept its mail longest until now.
    pub(super) fn kept(&mut self, now: Duration) -> (Reason, Duration) {
        self.feels(self.mood.0, now);
        let each = Reason::ALL.into_iter().zip(self.kept);
        each.max_by_key(|(_, time)| *time).unwrap_or((Reason::Connections, Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Policies;

    #[test]
    fn what_kept_it_longest_is_known() {
        let policy = Policies::shipped().unwrap().default().clone();
        let host = Host::new(0, Vec::new(), Vec::new(), super::super::tests::lenient(), 1);
        let mut way = Way::new(Site::new(policy.clone(), policy.limits.clone()), host);
        let at = Duration::from_secs;
        way.feels(Reason::Asked, at(2));
        way.feels(Reason::Connections, at(7));
        assert_eq!(way.kept(at(8)), (Reason::Asked, at(5)));
        assert_eq!(way.kept(at(13)), (Reason::Connections, at(6)));
        // Nothing is kept where nothing is.
        way.feels(None, at(13));
        way.feels(Reason::Asked, at(1000));
        assert_eq!(way.kept(at(1000)), (Reason::Connections, at(6)));
    }
}
