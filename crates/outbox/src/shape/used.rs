//! What is to be known of a site when this server is another: what its long rates have used up, how long it wants nothing, and what
//! figures it asked for. Of short ones a restart forgets nothing that matters.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

use super::rate::{Pace, Rate};

/// Rates over a span as long as this, and longer ones.
const LONG: Duration = Duration::from_secs(3600);
/// What ends sooner is not worth a row.
const LEAST: Duration = Duration::from_secs(5 * 60);
/// No pause was meant to last longer: a clock that was set says so.
const LONGEST: Duration = Duration::from_secs(4 * 24 * 3600);

/// What is used up, or paused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A rate of mails.
    Mails(Rate),
    /// A rate of connections.
    Connections(Rate),
    /// The site wants no mail.
    Pause,
    /// It wants none of a sender's domain.
    Sender(Box<str>),
    /// Figures hold for a while.
    Slow(Slow),
}

/// Figures that a hint sets for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slow {
    pub(crate) connections: Option<usize>,
    pub(crate) messages: Option<u32>,
    /// Of mails, and of connections.
    pub(crate) sends: Vec<Rate>,
    pub(crate) connects: Vec<Rate>,
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connections.iter().try_for_each(|n| write!(f, " connections={n}"))?;
        self.messages.iter().try_for_each(|n| write!(f, " messages={n}"))?;
        self.sends.iter().try_for_each(|rate| write!(f, " rate={rate}"))?;
        self.connects.iter().try_for_each(|rate| write!(f, " connection_rate={rate}"))
    }
}

impl FromStr for Slow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut slow, bad) = (Slow::default(), || format!("{text:?} are no figures"));
        for figure in text.split_whitespace() {
            match figure.split_once('=').ok_or_else(bad)? {
                ("connections", n) => slow.connections = Some(n.parse().map_err(|_| bad())?),
                ("messages", n) => slow.messages = Some(n.parse().map_err(|_| bad())?),
                ("rate", rate) => slow.sends.push(rate.parse()?),
                ("connection_rate", rate) => slow.connects.push(rate.parse()?),
                _ => return Err(bad()),
            }
        }
        Ok(slow)
    }
}

/// And until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) what: What,
    /// As it stands.
    pub(crate) until: Instant,
    /// As it will stand at most when it is looked at next.
    pub(crate) soon: Instant,
}

impl What {
    /// It is what a site asked for, and nothing that is used up.
    pub(crate) fn is_pause(&self) -> bool {
        matches!(self, What::Pause | What::Sender(_))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Mails(rate) => write!(f, "mails {rate}"),
            What::Connections(rate) => write!(f, "connections {rate}"),
            What::Pause => f.write_str("pause"),
            What::Sender(domain) => write!(f, "pause {domain}"),
            What::Slow(figures) => write!(f, "slow{figures}"),
        }
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            Some(("mails", rate)) => rate.parse().map(What::Mails),
            Some(("connections", rate)) => rate.parse().map(What::Connections),
            Some(("pause", domain)) => Ok(What::Sender(domain.into())),
            Some(("slow", figures)) => figures.parse().map(What::Slow),
            None if text == "pause" => Ok(What::Pause),
            _ => Err(format!("{text:?} is nothing that can be used up")),
        }
    }
}

/// What is used up of the long ones among these, of which a `share` is in force.
pub(crate) fn of_paces(
    paces: &[Pace],
    what: fn(Rate) -> What,
    share: f64,
    [now, next]: [Instant; 2],
) -> impl Iterator<Item = Used> {
    paces.iter().filter(|pace| pace.rate().per >= LONG).filter_map(move |pace| {
        let until = pace.even().filter(|even| *even > now)?;
        Some(Used { what: what(pace.rate()), until, soon: pace.at_most(share, next)? })
    })
}

/// A pause of a sender's domain, in words.
pub(crate) fn nothing_from(sender: &str, left: Duration) -> String {
    format!("nothing from {sender} for {} s", left.as_secs())
}

/// A pause, or figures for a while, if it is a long one.
pub(crate) fn of_while(what: What, until: Instant, now: Instant) -> Option<Used> {
    (until.saturating_duration_since(now) >= LEAST).then_some(Used { what, until, soon: until })
}

/// So much of one of these was used up already.
pub(crate) fn resume(paces: &mut [Pace], rate: Rate, until: Instant, now: Instant) {
    paces.iter_mut().filter(|pace| pace.rate() == rate).for_each(|pace| pace.used(until, now));
}

/// When a pause ends, or figures for a while, that was to last until then; none that no site has asked for.
pub(crate) fn paused(until: Instant, now: Instant) -> Option<Instant> {
    (until <= now + LONGEST).then_some(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_no_site_asks_for_is_none() {
        let now = Instant::now();
        assert_eq!(paused(now + LONGEST, now), Some(now + LONGEST));
        // The clock was ahead by a year when it was written down.
        assert_eq!(paused(now + 365 * 24 * LONG, now), None);
    }

    #[test]
    fn what_is_used_is_written_and_read() {
        let slow = ["slow connections=1", "slow messages=2 rate=10/m rate=100/h connection_rate=5/m"];
        for text in ["mails 3600/h", "connections 1000/h", "mails 86400/d", "pause", "pause example.org"]
            .into_iter()
            .chain(slow)
        {
            assert_eq!(text.parse::<What>().unwrap().to_string(), text);
        }
        for text in ["", "mails", "mails 3", "pauses", "rate 1/h", "slow x=1", "slow rate=x"] {
            assert!(text.parse::<What>().is_err(), "{text:?}");
        }
    }
}
