//! How long mail waits for its first attempt, by stream, for monitoring: as a histogram, so that one mail that waited for a day does not
//! hide that all others left at once.

use std::sync::atomic::{AtomicU64, Ordering};

use base::{Stream, Timestamp};
use queue::{Outcome, Settled};

/// Up to so many seconds, each: from a server that is idle to quiet hours and a day of holding.
const BOUNDS: [f64; 11] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// What was counted since the server began.
#[derive(Default)]
pub(crate) struct Waits([Counts; 3]);

/// One more than there are bounds: what took longer.
#[derive(Default)]
struct Counts {
    up_to: [AtomicU64; BOUNDS.len() + 1],
    milliseconds: AtomicU64,
}

/// How long mail of a stream waited for its first attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Waited {
    /// Seconds, and so many recipients waited no longer than that; each has those before it, too.
    pub up_to: Vec<(f64, u64)>,
    /// Recipients in all.
    pub count: u64,
    /// Seconds that they waited in all.
    pub sum: f64,
}

impl Waits {
    /// An outcome was written at `now`. Mail that was to leave later waits from then on.
    pub(crate) fn add(&self, s: &Settled, now: Timestamp) {
        let talk = s.said.talk.as_ref();
        // What nobody knows the end of was an attempt; what ended without one was none.
        let first = s.delivery.attempts == 0 && s.delivery.uncertain == 0;
        let tried = match s.outcome {
            Outcome::Delivered { .. } | Outcome::Deferred(_) | Outcome::Failed => true,
            Outcome::Expired => talk.is_some(),
            Outcome::Cancelled => false,
        };
        if !first || !tried {
            return;
        }
        let since = s.message.release.map_or(s.message.created, |release| release.max(s.message.created));
        let ms = talk.map_or(now, |talk| talk.began).0.saturating_sub(since.0).max(0) as u64;
        let counts = &self.0[s.message.stream as usize];
        let place = BOUNDS.partition_point(|bound| *bound * 1000.0 < ms as f64);
        counts.up_to[place].fetch_add(1, Ordering::Relaxed);
        counts.milliseconds.fetch_add(ms, Ordering::Relaxed);
    }

    /// As it stands, of a stream.
    pub(crate) fn of(&self, stream: Stream) -> Waited {
        let Counts { up_to, milliseconds } = &self.0[stream as usize];
        let mut count = 0;
        let mut all = Vec::new();
        for (n, counted) in up_to.iter().enumerate() {
            count += counted.load(Ordering::Relaxed);
            all.extend(BOUNDS.get(n).map(|bound| (*bound, count)));
        }
        Waited { up_to: all, count, sum: milliseconds.load(Ordering::Relaxed) as f64 / 1000.0 }
    }
}
