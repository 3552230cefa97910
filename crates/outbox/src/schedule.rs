//! When a delivery is tried again.

use base::Timestamp;
use queue::{Delivery, Outcome, Said};

/// Minutes to the second attempt, the third, and so on; the last for all that follow (RFC 5321 §4.5.4.1: at least half
/// an hour, more often at first, and later two or three hours).
const INTERVALS: [i64; 7] = [5, 10, 20, 40, 60, 120, 240];
const MINUTE: i64 = 60_000;

/// Time to the next attempt after `attempts` before the one that just failed. `random` spreads what failed together by a
/// tenth to either side.
pub(crate) fn interval(attempts: u32, random: u64) -> i64 {
    let at = (attempts as usize).min(INTERVALS.len() - 1);
    let whole = INTERVALS[at] * MINUTE;
    whole * 9 / 10 + (random % (whole as u64 / 5)) as i64
}

/// What a reply means for a delivery: done, again later, or the end of it.
pub(crate) fn judge(d: &Delivery, said: Said, transient: bool, now: Timestamp, random: u64) -> (Outcome, Said) {
    match transient {
        false => (Outcome::Failed, said),
        true if now >= d.expires => (Outcome::Expired, said),
        true => (Outcome::Deferred(Timestamp(now.0 + interval(d.attempts, random))), said),
    }
}

#[cfg(test)]
mod tests {
    use base::{Address, Reply};

    use super::*;

    #[test]
    fn intervals_grow_and_are_spread() {
        let minutes = |attempts| (interval(attempts, 0) / MINUTE, interval(attempts, u64::MAX - 7) / MINUTE);
        assert_eq!(interval(0, 0), 270_000);
        assert!((0..1000).all(|r| (270_000..330_000).contains(&interval(0, r * 7919))));
        assert_eq!((minutes(3).0, minutes(4).0, minutes(5).0), (36, 54, 108));
        assert_eq!((minutes(6).0, minutes(60).0), (216, 216));
    }

    #[test]
    fn trap_20_what_has_had_its_time_is_given_up() {
        let d = |expires| Delivery {
            number: 0,
            to: Address::parse("x@y.test").unwrap(),
            notify: None,
            original: None,
            expires: Timestamp(expires),
            attempts: 0,
            warned: false,
        };
        let said = || Said { reply: Reply::plain(421, "busy"), host: "mx".into() };
        let now = Timestamp(1_000_000);
        let (outcome, _) = judge(&d(1_000_001), said(), true, now, 0);
        assert_eq!(outcome, Outcome::Deferred(Timestamp(1_270_000)));
        let (outcome, why) = judge(&d(1_000_000), said(), true, now, 0);
        assert_eq!((outcome, why), (Outcome::Expired, said()));
        assert_eq!(judge(&d(9_000_000), said(), false, now, 0).0, Outcome::Failed);
    }
}
