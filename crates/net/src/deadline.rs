//! The moment after which waiting for a peer is given up. Every await on a peer, a resolver or a handshake runs under
//! one, so that a dead peer frees its slot.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::time::Instant;

/// A moment on tokio's monotonic clock, which a test may pause and move.
///
/// A deadline is fixed when work begins: several awaits under one deadline share its time, so a peer that trickles
/// cannot stretch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// `span` from now.
    pub fn after(span: Duration) -> Self {
        // The clamp keeps Instant's addition from overflowing; a century is for ever.
        Deadline(Instant::now() + span.min(Duration::from_secs(100 * 365 * 86_400)))
    }

    /// At `moment`.
    pub fn at(moment: Instant) -> Self {
        Deadline(moment)
    }

    /// The moment itself, for `tokio::time::timeout_at`.
    pub fn instant(self) -> Instant {
        self.0
    }

    /// What is left; zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Runs `work` until `deadline`, then drops it.
///
/// # Errors
/// Those of `work`, and [`io::ErrorKind::TimedOut`].
pub async fn with_deadline<T>(deadline: Deadline, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout_at(deadline.0, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn awaits_under_one_deadline_share_its_time() {
        let deadline = Deadline::after(Duration::from_secs(10));
        let nap = || async {
            tokio::time::sleep(Duration::from_secs(6)).await;
            Ok(())
        };
        assert!(with_deadline(deadline, nap()).await.is_ok());
        assert_eq!(with_deadline(deadline, nap()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(deadline.left(), Duration::ZERO);
        assert!(Deadline::after(Duration::MAX).left() > Duration::from_secs(1));
    }
}
