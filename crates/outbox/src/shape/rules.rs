//! The operator's own figures: they go before those that are shipped, the particular before the general. Those of an
//! organisation bound its own mail, beside what the site bears.

use std::collections::HashMap;
use std::time::Duration;

use base::OrganisationId;
use queue::source::{Rule, SourceId};

use super::policy::{Family, Figures, Limits, MAILBOX_RATES, Policies, Text, TlsLevel};
use super::rate::Rate;

/// The keys that there are.
const KEYS: [&str; 10] = [
    "connections",
    "start_connections",
    "connection_rate",
    "messages",
    "recipients",
    "rate",
    "mailbox_rate",
    "idle",
    "tls",
    "family",
];
/// And those that an organisation may have.
const OF_ORGANISATIONS: [&str; 2] = ["connections", "rate"];
/// What a figure may be, at most: nothing that is ours is larger.
const MOST: usize = 1_000_000;
/// Seconds that a connection may wait for more.
const IDLE: u64 = 3600;

/// Whether a value can be set for a key, for an organisation or for all who send to a site.
///
/// # Errors
/// Why not, in words.
pub fn check_figure(key: &str, value: &str, of_organisation: bool) -> Result<(), String> {
    figures(key, value)?;
    if of_organisation && !OF_ORGANISATIONS.contains(&key) {
        let all = OF_ORGANISATIONS.join(", ");
        return Err(format!("{key} is a site's, and no organisation has its own; an organisation may have: {all}"));
    }
    Ok(())
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
        "mailbox_rate" => {
            let some = Some(rates()?).filter(|rates| rates.len() <= MAILBOX_RATES);
            figures.mailbox_rate = Some(some.ok_or_else(|| format!("mailbox_rate: at most {MAILBOX_RATES} rates"))?);
        }
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
pub(crate) struct Rules {
    of_sites: Vec<(Rule, Figures)>,
    of_organisations: HashMap<OrganisationId, Vec<(Rule, Figures)>>,
}

/// What an organisation may send to a site by a source; never nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bound {
    /// Connections that carry its mail at once.
    pub(crate) connections: Option<usize>,
    /// Messages.
    pub(crate) rate: Vec<Rate>,
}

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
        all.sort_by_key(|(rule, _)| (rule.scope.source.is_some(), rule.scope.site.is_some()));
        let mut sorted = Rules::default();
        for (rule, figures) in all {
            match rule.scope.organisation {
                None => sorted.of_sites.push((rule, figures)),
                Some(organisation) => sorted.of_organisations.entry(organisation).or_default().push((rule, figures)),
            }
        }
        sorted
    }

    /// The figures for a site that is sent to by a source. A host that the administrator names has its `own`: what is said
    /// of all sites is not said of it.
    pub(crate) fn limits(&self, base: &Limits, source: SourceId, own: bool, fits: impl Fn(&str) -> bool) -> Limits {
        let of = |rule: &Rule| meant(rule, source, own, &fits);
        self.of_sites
            .iter()
            .filter(|(rule, _)| of(rule))
            .fold(base.clone(), |limits, (_, figures)| limits.with(figures))
    }

    /// Whether an organisation has any figures.
    pub(crate) fn bind(&self, organisation: OrganisationId) -> bool {
        self.of_organisations.contains_key(&organisation)
    }

    /// What an organisation may send there; none when it may send what the site bears.
    pub(crate) fn bound(
        &self,
        organisation: OrganisationId,
        source: SourceId,
        own: bool,
        fits: impl Fn(&str) -> bool,
    ) -> Option<Bound> {
        let all = self.of_organisations.get(&organisation)?.iter();
        let bound = all.filter(|(rule, _)| meant(rule, source, own, &fits)).fold(Bound::default(), Bound::with);
        Some(bound).filter(|bound| *bound != Bound::default())
    }
}

fn meant(rule: &Rule, source: SourceId, own: bool, fits: impl Fn(&str) -> bool) -> bool {
    let site = rule.scope.site.as_deref().map_or(!own, fits);
    site && rule.scope.source.is_none_or(|s| s == source)
}

impl Bound {
    fn with(self, (_, figures): &(Rule, Figures)) -> Bound {
        let rate = figures.rate.as_ref().map(|rates| rates.iter().map(|rate| rate.0).collect());
        Bound { connections: figures.connections.or(self.connections), rate: rate.unwrap_or(self.rate) }
    }

    /// As an operator writes them.
    pub(crate) fn words(&self) -> Vec<(&'static str, String)> {
        let connections = self.connections.map(|n| ("connections", n.to_string()));
        connections.into_iter().chain((!self.rate.is_empty()).then(|| ("rate", rates(&self.rate)))).collect()
    }
}

fn rates(rates: &[Rate]) -> String {
    match rates {
        [] => "none".to_owned(),
        rates => rates.iter().map(Rate::to_string).collect::<Vec<_>>().join(","),
    }
}

impl Limits {
    /// As an operator writes them.
    pub(crate) fn words(&self) -> Vec<(&'static str, String)> {
        let seconds = |time: Duration| time.as_secs().to_string();
        vec![
            ("connections", self.connections.to_string()),
            ("start_connections", self.start_connections.to_string()),
            ("connection_rate", rates(&self.connection_rate)),
            ("messages", self.messages.to_string()),
            ("recipients", self.recipients.to_string()),
            ("rate", rates(&self.rate)),
            ("mailbox_rate", rates(self.mailbox_rate.as_deref().unwrap_or_default())),
            ("idle", seconds(self.idle)),
            ("tls", self.tls.word().to_owned()),
            ("family", self.family.word().to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use queue::source::Scope;

    use super::super::Policies;
    use super::*;

    fn rule(source: Option<i64>, site: Option<&str>, key: &str, value: &str) -> Rule {
        rule_of(None, source, site, key, value)
    }

    fn rule_of(by: Option<i64>, source: Option<i64>, site: Option<&str>, key: &str, value: &str) -> Rule {
        let (source, organisation) = (source.map(SourceId::read), by.map(OrganisationId));
        let scope = Scope { source, site: site.map(Into::into), organisation };
        Rule { scope, key: key.into(), value: value.into() }
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
    fn the_figures_of_an_organisation_are_apart_from_those_of_the_site() {
        let rules = Rules::new(&[
            rule_of(Some(7), Some(1), Some("google"), "rate", "none"),
            rule_of(Some(7), Some(1), None, "rate", "3/s"),
            rule_of(Some(7), None, Some("google"), "rate", "2/s"),
            rule_of(Some(7), None, None, "rate", "1/s"),
            rule_of(Some(8), None, Some("google"), "connections", "2"),
        ]);
        let of = |by, source, own, site: &str| {
            let bound = rules.bound(OrganisationId(by), SourceId::read(source), own, |name| name == site);
            bound
                .map(|bound| bound.words().into_iter().map(|(key, value)| format!("{key}={value}")).collect::<String>())
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!([of(7, 1, false, "google"), of(7, 1, false, "x")], [None, said("rate=3/s")]);
        assert_eq!([of(7, 2, false, "google"), of(7, 2, false, "x")], [said("rate=2/s"), said("rate=1/s")]);
        assert_eq!([of(8, 2, false, "google"), of(8, 2, false, "x")], [said("connections=2"), None]);
        assert_eq!([of(9, 2, false, "google"), of(7, 2, true, "x")], [None, None]);
        // The site bears what it did.
        let base = &Policies::shipped().unwrap().of_host("aspmx.l.google.com").limits.clone();
        assert_eq!(rules.limits(base, SourceId::read(1), false, |name| name == "google"), *base);
    }

    #[test]
    fn what_is_no_figure_is_refused_in_words() {
        for key in KEYS {
            assert!(check_figure(key, "x", false).unwrap_err().contains("\"x\""), "{key}");
        }
        for (key, value) in [
            ("connections", "7"),
            ("rate", "5/s, 100/m"),
            ("connection_rate", "none"),
            ("idle", "0"),
            ("tls", "verify"),
            ("family", "v4-first"),
        ] {
            check_figure(key, value, false).unwrap();
        }
        assert!(check_figure("rate", "5/s", true).is_ok());
        assert!(check_figure("idle", "5", true).unwrap_err().contains("may have: connections, rate"));
        assert!(check_figure("connections", "0", false).is_err());
        assert!(check_figure("conections", "1", true).unwrap_err().contains("there are: connections, "));
    }

    #[test]
    fn what_is_shown_can_be_set() {
        let limits = &Policies::shipped().unwrap().of_host("aspmx.l.google.com").limits.clone();
        for (key, value) in limits.words() {
            check_figure(key, &value, false).unwrap();
        }
    }
}
