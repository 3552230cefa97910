//! A line: what is ready to be sent to a hop, and who serves it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{OrganisationId, Stream};
use queue::Group;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ready::{InLine, Ready};
use super::room::LOW;
use super::sites::SiteKey;

/// How long work waits for which its line has no place: as long as the line takes to empty, between these two.
const WAIT: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];
/// How long that is before the pace of a line is known, which is measured over as long.
pub(super) const PACE: Duration = Duration::from_secs(10);
pub(super) const UNKNOWN: Duration = Duration::from_secs(30);

/// The works for a hop, and those who carry them.
pub(super) struct Line {
    pub(super) ready: Ready,
    /// Workers, connected or about to be.
    pub(super) workers: usize,
    /// Those that are connected.
    pub(super) connected: usize,
    /// Those that wait for work.
    pub(super) idle: usize,
    /// Those that wait for a place where mail is made.
    pub(super) making: usize,
    pub(super) site: SiteKey,
    /// Deliveries that were taken from it, and what that was when its pace was measured last.
    pub(super) taken: usize,
    measured: (Instant, usize),
    /// So long waits what it has no place for.
    wait: Duration,
    /// It stands among the starved, of all or of its site.
    pub(super) starved: bool,
    /// It stands among those whose organisations have as many connections as they may.
    pub(super) bound: bool,
    /// Whose mail those are to carry who are about to be connected, of organisations that count their connections.
    pub(super) promised: Vec<OrganisationId>,
    /// Groups whose mail had no place in it.
    pub(super) refused: BTreeSet<Group>,
    /// With so few left in it there is a place for those.
    pub(super) low: usize,
    pub(super) bell: Arc<Notify>,
    /// Rung when there is mail that may not have to wait for its site as long as other mail does.
    pub(super) urgent: Arc<Notify>,
}

impl Line {
    pub(super) fn new(site: SiteKey, in_line: InLine) -> Self {
        Line {
            ready: Ready::new(in_line),
            workers: 0,
            connected: 0,
            idle: 0,
            making: 0,
            site,
            taken: 0,
            measured: (Instant::now(), 0),
            wait: UNKNOWN,
            starved: false,
            bound: false,
            promised: Vec::new(),
            refused: BTreeSet::new(),
            low: LOW,
            bell: Arc::default(),
            urgent: Arc::default(),
        }
    }

    /// How long it will take to empty of a stream, as far as it is known.
    pub(super) fn pace(&self, stream: Stream) -> Duration {
        let (since, before) = self.measured;
        let (elapsed, taken) = (since.elapsed(), self.taken - before);
        let wait = match taken {
            _ if elapsed < PACE => return self.wait,
            0 => self.wait * 2,
            n => elapsed.mul_f64(self.ready.deliveries(stream) as f64 / n as f64),
        };
        wait.clamp(WAIT[0], WAIT[1])
    }

    /// The same is known from now on, and measured anew when it is old.
    pub(super) fn measure(&mut self, stream: Stream) {
        self.wait = self.pace(stream);
        if self.measured.0.elapsed() >= PACE {
            self.measured = (Instant::now(), self.taken);
        }
    }

    /// A worker more would find something to do. Where some wait until mail is made, connections are not what is scarce, but for
    /// what need not be made.
    pub(super) fn wants_more(&self) -> bool {
        match self.making {
            0 => self.ready.len() > self.idle,
            making => self.ready.len() - self.ready.to_be_made() > self.idle + making,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.ready.is_empty() && self.workers == 0
    }

    /// Nothing else is in it.
    pub(super) fn is_only_marketing(&self) -> bool {
        !self.ready.has(Stream::Mail) && !self.is_urgent()
    }

    /// Somebody waits for what is in it.
    pub(super) fn is_urgent(&self) -> bool {
        self.ready.has(Stream::Transactional)
    }
}
