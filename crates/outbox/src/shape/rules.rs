//! The operator's own figures: they go before those that are shipped, the particular before the general.

use std::time::Duration;

use queue::source::{Rule, SourceId};

use super::policy::{Family, Figures, Limits, Policies, Text, TlsLevel};
use super::rate::Rate;

/// The keys that there are.
const KEYS: [&str; 9] =
    ["connections", "start_connections", "connection_rate", "messages", "recipients", "rate", "idle", "tls", "family"];
/// What a figure may be, at most: nothing that is ours is larger.
const MOST: usize = 1_000_000;
/// Seconds that a connection may wait for more.
const IDLE: u64 = 3600;

/// Whether a value can be set for a key.
///
/// # Errors
/// Why not, in words.
pub fn check_figure(key: &str, value: &str) -> Result<(), String> {
    figures(key, value).map(|_| ())
}

/// The figures for a site of that name, or for one of which nothing is known, as an operator writes them.
///
/// # Errors
/// What is wrong with the policies that are shipped.
pub fn figures_of(site: &str, rules: &[Rule]) -> Result<Vec<(&'static str, String)>, String> {
    let policies = Policies::shipped()?;
    let base = &policies.by_id(site).limits;
    Ok(Rules::new(rules).limits(base, SourceId::DEFAULT, false, |name| name == site).words())
}

fn figures(key: &str, value: &str) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let number = || {
        let n = value.parse().ok().filter(|n| (1..=MOST).contains(n));
        n.ok_or_else(|| format!("{key}: {value:?} is no number from 1 to {MOST}"))
    };
    let rates = || match value {
        "none" => Ok(Vec::new()),
        _ => value.split(',').map(|rate| rate.trim().parse::<Rate>().map(Text)).collect::<Result<Vec<_>, _>>(),
    };
    match key {
        "connections" => figures.connections = Some(number()?),
        "start_connections" => figures.start_connections = Some(number()?),
        "connection_rate" => figures.connection_rate = Some(rates()?),
        "messages" => figures.messages = Some(number()? as u32),
        "recipients" => figures.recipients = Some(number()?),
        "rate" => figures.rate = Some(rates()?),
        "idle" => {
            let seconds = value.parse().ok().filter(|n| *n <= IDLE);
            figures.idle = Some(seconds.ok_or_else(|| format!("idle: {value:?} are no seconds up to {IDLE}"))?);
        }
        "tls" => {
            figures.tls = Some(match value {
                "opportunistic" => TlsLevel::Opportunistic,
                "encrypt" => TlsLevel::Encrypt,
                "verify" => TlsLevel::Verify,
                _ => return Err(format!("tls: {value:?} is none of opportunistic, encrypt, verify")),
            });
        }
        "family" => {
            figures.family = Some(match value {
                "any" => Family::Any,
                "v4-first" => Family::V4First,
                "v4-only" => Family::V4Only,
                _ => return Err(format!("family: {value:?} is none of any, v4-first, v4-only")),
            });
        }
        _ => return Err(format!("{key:?} is no figure of a policy; there are: {}", KEYS.join(", "))),
    }
    Ok(figures)
}

/// All of them, the general first.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<(Rule, Figures)>);

impl Rules {
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let read = |rule: &Rule| match figures(&rule.key, &rule.value) {
            Ok(figures) => Some((rule.clone(), figures)),
            // By another release, that knows more.
            Err(why) => {
                tracing::warn!(why, "a figure of a policy is left out");
                None
            }
        };
        let mut all: Vec<_> = rules.iter().filter_map(read).collect();
        all.sort_by_key(|(rule, _)| (rule.source.is_some(), rule.site.is_some()));
        Rules(all)
    }

    /// The figures for a site that is sent to by a source. A host that the administrator names has its `own`: what is said
    /// of all sites is not said of it.
    pub(crate) fn limits(&self, base: &Limits, source: SourceId, own: bool, fits: impl Fn(&str) -> bool) -> Limits {
        let of = |rule: &Rule| {
            let site = rule.site.as_deref().map_or(!own, &fits);
            site && rule.source.is_none_or(|s| s == source)
        };
        self.0.iter().filter(|(rule, _)| of(rule)).fold(base.clone(), |limits, (_, figures)| limits.with(figures))
    }
}

impl Limits {
    /// As an operator writes them.
    pub(crate) fn words(&self) -> Vec<(&'static str, String)> {
        let rates = |rates: &[Rate]| match rates {
            [] => "none".to_owned(),
            rates => rates.iter().map(Rate::to_string).collect::<Vec<_>>().join(","),
        };
        let seconds = |time: Duration| time.as_secs().to_string();
        vec![
            ("connections", self.connections.to_string()),
            ("start_connections", self.start_connections.to_string()),
            ("connection_rate", rates(&self.connection_rate)),
            ("messages", self.messages.to_string()),
            ("recipients", self.recipients.to_string()),
            ("rate", rates(&self.rate)),
            ("idle", seconds(self.idle)),
            ("tls", self.tls.word().to_owned()),
            ("family", self.family.word().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policies;
    use super::*;

    fn rule(source: Option<i64>, site: Option<&str>, key: &str, value: &str) -> Rule {
        let source = source.map(SourceId::read);
        Rule { source, site: site.map(Into::into), key: key.into(), value: value.into() }
    }

    #[test]
    fn the_particular_goes_before_the_general() {
        let rules = Rules::new(&[
            rule(Some(1), Some("google"), "connections", "4"),
            rule(Some(1), None, "connections", "3"),
            rule(None, Some("google"), "connections", "2"),
            rule(None, None, "connections", "1"),
            rule(None, None, "no such key", "1"),
        ]);
        let policies = Policies::shipped().unwrap();
        let base = &policies.of_host("aspmx.l.google.com").limits;
        let of =
            |source, own, site: &str| rules.limits(base, SourceId::read(source), own, |name| name == site).connections;
        assert_eq!(
            [of(1, false, "google"), of(1, false, "x"), of(2, false, "google"), of(2, false, "x")],
            [4, 3, 2, 1]
        );
        // A host of the administrator's is none of "all".
        assert_eq!((of(2, true, "x"), of(2, true, "google")), (base.connections, 2));
        assert_eq!(rules.limits(base, SourceId::read(1), false, |_| true).rate, base.rate);
    }

    #[test]
    fn what_is_no_figure_is_refused_in_words() {
        for key in KEYS {
            assert!(check_figure(key, "x").unwrap_err().contains("\"x\""), "{key}");
        }
        for (key, value) in [
            ("connections", "7"),
            ("rate", "5/s, 100/m"),
            ("connection_rate", "none"),
            ("idle", "0"),
            ("tls", "verify"),
            ("family", "v4-first"),
        ] {
            check_figure(key, value).unwrap();
        }
        assert!(check_figure("connections", "0").is_err());
        assert!(check_figure("conections", "1").unwrap_err().contains("there are: connections, "));
    }

    #[test]
    fn what_is_shown_can_be_set() {
        let limits = &Policies::shipped().unwrap().of_host("aspmx.l.google.com").limits.clone();
        for (key, value) in limits.words() {
            check_figure(key, &value).unwrap();
        }
    }
}
