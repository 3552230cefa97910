//! So many in a time. Of several rates all hold.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// At most `count` in every span of `per`, wherever the span begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) per: Duration,
}

impl FromStr for Rate {
    type Err = String;

    /// `20/s`, `100/m`, `3600/h`, `86400/d`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no rate (like 20/s, 100/m, 3600/h or 86400/d)");
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let count = count.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(bad()),
        };
        Ok(Rate { count, per: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            3600 => "h",
            _ => "d",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

/// Keeps a rate by pacing: a tenth of it may come at once, the rest follows evenly, so that no span holds more than the
/// whole. (A bucket that fills again would let twice as many into its first span.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: Rate,
    /// When the next would come if all came evenly.
    even: Option<Instant>,
}

impl Pace {
    pub(crate) fn new(rate: Rate) -> Self {
        Pace { rate, even: None }
    }

    /// One of which that is known.
    pub(crate) fn since(rate: Rate, even: Option<Instant>) -> Self {
        Pace { rate, even }
    }

    /// When the next would come if all came evenly.
    pub(crate) fn even(&self) -> Option<Instant> {
        self.even
    }

    fn burst(&self) -> u32 {
        (self.rate.count / 10).max(1)
    }

    /// Between two that come evenly, at a `share` of the rate.
    pub(crate) fn interval(&self, share: f64) -> Duration {
        let even = self.rate.count - self.burst() + 1;
        let nanos = self.rate.per.as_nanos() as f64 / (f64::from(even) * share.clamp(1e-6, 1.0));
        // Rounded up: a nanosecond too little lets one too many into a span.
        Duration::from_nanos(nanos.ceil() as u64)
    }

    /// How long the next must wait.
    pub(crate) fn wait(&self, share: f64, now: Instant) -> Duration {
        let ahead = self.interval(share) * (self.burst() - 1);
        self.even.map_or(Duration::ZERO, |even| even.saturating_duration_since(now).saturating_sub(ahead))
    }

    /// One comes now.
    pub(crate) fn take(&mut self, share: f64, now: Instant) {
        self.even = Some(self.even.map_or(now, |even| even.max(now)) + self.interval(share));
    }

    /// The last did not come.
    pub(crate) fn give_back(&mut self, share: f64) {
        self.even = self.even.and_then(|even| even.checked_sub(self.interval(share)));
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// As if what came to another of the same rate had come to this.
    pub(crate) fn catch_up(&mut self, other: &Pace) {
        self.even = self.even.max(other.even);
    }

    /// What [`Pace::even`] will be at most at that time, if all come that may until then.
    pub(crate) fn at_most(&self, share: f64, then: Instant) -> Option<Instant> {
        let (even, interval) = (self.even?, self.interval(share));
        // Once more, if another may come.
        let full = then + interval * (self.burst() - 1);
        Some(if even > full { even } else { full + interval })
    }

    /// So much was used up before: all of what may come at once at most, whatever the clocks say, so that the next never waits for longer
    /// than from one to the next.
    pub(crate) fn used(&mut self, even: Instant, now: Instant) {
        let all = now + self.interval(1.0) * self.burst();
        self.even = self.even.max(Some(even.min(all)));
    }

    /// As if none had ever come.
    pub(crate) fn is_at_rest(&self, now: Instant) -> bool {
        self.even.is_none_or(|even| even <= now)
    }
}

/// A pace for each rate: of those that there were, as they stand.
pub(crate) fn kept(rates: &[Rate], before: &[Pace]) -> Vec<Pace> {
    let known = |rate: &Rate| before.iter().find(|pace| pace.rate == *rate).copied();
    rates.iter().map(|rate| known(rate).unwrap_or_else(|| Pace::new(*rate))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    /// When as many come as may, for `spans` spans.
    fn times(rate: Rate, spans: u32) -> Vec<Duration> {
        let (start, mut pace, mut now) = (Instant::now(), Pace::new(rate), Duration::ZERO);
        let mut all = Vec::new();
        while now < rate.per * spans {
            let wait = pace.wait(1.0, start + now);
            if wait.is_zero() {
                pace.take(1.0, start + now);
                all.push(now);
            } else {
                now += wait;
            }
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn no_span_holds_more_than_the_rate() {
        for text in ["1/m", "2/s", "5/s", "20/s", "100/m", "3600/h"] {
            let rate = rate(text);
            let all = times(rate, 4);
            for from in &all {
                let within = all.iter().filter(|t| *t >= from && **t < *from + rate.per).count();
                assert!(within <= rate.count as usize, "{text}: {within} in a span");
            }
            // And hardly less: nine tenths at least.
            assert!(all.len() * 10 >= rate.count as usize * 4 * 9, "{text}: {}", all.len());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenth_comes_at_once() {
        let all = times(rate("100/m"), 1);
        assert_eq!(all.iter().filter(|t| t.is_zero()).count(), 10);
    }

    /// At any moment: as it stood, or as it may have stood a while after it was last looked at.
    #[tokio::test(start_paused = true)]
    async fn no_span_over_a_restart_holds_more_than_the_rate() {
        const SECOND: Duration = Duration::from_secs(1);
        for (text, at, killed) in
            [("100/h", 400, false), ("100/h", 70, true), ("3600/h", 2000, true), ("20/d", 400, true)]
        {
            let (rate, start) = (rate(text), Instant::now());
            let (mut pace, mut sent, mut noted) = (Pace::new(rate), 0, None);
            for second in 0..rate.per.as_secs() as u32 {
                let now = start + SECOND * second;
                if second == at - 60 {
                    noted = pace.at_most(1.0, now + SECOND * 60);
                }
                if second == at {
                    let even = if killed { noted } else { pace.even() };
                    pace = Pace::new(rate);
                    pace.used(even.unwrap(), now);
                    assert!(pace.wait(1.0, now) <= pace.interval(1.0), "{text}");
                }
                while pace.wait(1.0, now).is_zero() {
                    pace.take(1.0, now);
                    sent += 1;
                }
            }
            assert!(sent <= rate.count && sent * 10 >= rate.count * 8, "{text}: {sent}");
        }
    }

    /// A clock that was set stops nothing.
    #[tokio::test(start_paused = true)]
    async fn what_was_used_in_a_future_is_all_that_comes_at_once() {
        let (mut pace, now) = (Pace::new(rate("100/h")), Instant::now());
        pace.used(now + Duration::from_secs(1_000_000), now);
        assert_eq!(pace.wait(1.0, now), pace.interval(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_of_the_rate_is_slower_by_as_much() {
        let pace = Pace::new(rate("1/s"));
        assert_eq!(pace.interval(0.25), Duration::from_secs(4));
    }

    #[test]
    fn rates_are_read_and_shown() {
        for text in ["20/s", "100/m", "3600/h", "86400/d"] {
            assert_eq!(rate(text).to_string(), text);
        }
        for text in ["", "20", "0/s", "-1/s", "20/w", "x/s", "20/s/s", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }
}
