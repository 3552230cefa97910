//! When a delivery is tried again.

use std::time::Duration;

use base::Timestamp;
use queue::{Delivery, Message, Outcome, Said};

const MINUTE: i64 = 60_000;
/// Milliseconds that an attempt may take to be in time.
const LAST_CHANCE: i64 = 20_000;

/// Milliseconds to the next attempt after `attempts` before the one that just failed, by the `minutes` of the policies.
pub(crate) fn interval(minutes: &[u32], attempts: u32) -> i64 {
    let at = (attempts as usize).min(minutes.len().saturating_sub(1));
    minutes.get(at).map_or(MINUTE, |m| i64::from(*m) * MINUTE)
}

/// Milliseconds.
pub(crate) fn millis(wait: Duration) -> i64 {
    i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
}

/// What a reply means for a delivery: again after `wait` milliseconds, or the end of it when there is none. `random` spreads
/// what failed together by a tenth, and never before its time.
pub(crate) fn judge(d: &Delivery, said: Said, wait: Option<i64>, now: Timestamp, random: u64) -> (Outcome, Said) {
    match wait {
        None => (Outcome::Failed, said),
        Some(_) if now >= d.expires => (Outcome::Expired, said),
        Some(wait) => {
            let spread = (random % (wait as u64 / 10).max(1)) as i64;
            (Outcome::Deferred(Timestamp(now.0 + wait + spread)), said)
        }
    }
}

/// What is to be delivered by some time is looked at then too: the moment when its sender is told that it was not (RFC 2852
/// §4.1.2). Where it is to be returned then, nothing is tried any more; so it has its last chance a little before.
pub(crate) fn not_beyond(outcome: Outcome, message: &Message, now: Timestamp) -> Outcome {
    match (outcome, message.deliver_by) {
        (Outcome::Deferred(next), Some(by)) if now < by.until => {
            let last = Timestamp(by.until.0 - LAST_CHANCE);
            Outcome::Deferred(next.min(if by.returned && now < last { last } else { by.until }))
        }
        (outcome, _) => outcome,
    }
}

#[cfg(test)]
mod tests {
    use base::{Address, Reply};

    use super::*;

    fn d(expires: i64) -> Delivery {
        Delivery {
            number: 0,
            to: Address::parse("x@y.test").unwrap(),
            notify: None,
            original: None,
            expires: Timestamp(expires),
            attempts: 0,
            warned: false,
            uncertain: 0,
            trail: None,
        }
    }

    fn said() -> Said {
        Said::by("mx", bounce::Stage::Rcpt, Reply::plain(421, "busy"))
    }

    #[test]
    fn intervals_grow_and_the_last_is_kept() {
        let minutes = |attempts| interval(&[1, 5, 15], attempts) / MINUTE;
        assert_eq!([minutes(0), minutes(1), minutes(2), minutes(3), minutes(99)], [1, 5, 15, 15, 15]);
    }

    #[test]
    fn the_spread_is_a_tenth_and_never_too_early() {
        for random in (0..1000).map(|r: u64| r * 7919).chain([u64::MAX]) {
            let (outcome, _) = judge(&d(i64::MAX), said(), Some(600_000), Timestamp(0), random);
            assert!(matches!(outcome, Outcome::Deferred(t) if (600_000..660_000).contains(&t.0)), "{outcome:?}");
        }
    }

    #[test]
    fn trap_20_what_has_had_its_time_is_given_up() {
        let now = Timestamp(1_000_000);
        let (outcome, _) = judge(&d(1_000_001), said(), Some(270_000), now, 0);
        assert_eq!(outcome, Outcome::Deferred(Timestamp(1_270_000)));
        let (outcome, why) = judge(&d(1_000_000), said(), Some(270_000), now, 0);
        assert_eq!((outcome, why), (Outcome::Expired, said()));
        assert_eq!(judge(&d(9_000_000), said(), None, now, 0).0, Outcome::Failed);
    }
}
