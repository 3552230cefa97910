//! What a site bears. The defaults are data with the source of every figure; what is unknown of a site falls through to
//! the entry for all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::Reply;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::hint::{Delays, Hint};
use super::rate::Rate;
use super::warm::Care;

/// The file in the repository; its head says what every key means.
pub(super) const DATA: &str = include_str!("../../data/site-policies.toml");

/// Labels below which a provider's customers have their machines: who is there does not speak for the provider.
const CUSTOMERS: [&str; 14] = [
    "abo",
    "adsl",
    "broadband",
    "cable",
    "customer",
    "dial",
    "dsl",
    "dyn",
    "dynamic",
    "fbx",
    "hsd1",
    "ip",
    "pool",
    "static",
];

/// All that is known of sites.
#[derive(Debug)]
pub(crate) struct Policies {
    /// By a suffix of the mail host's name, that begins with a dot, or by the whole name.
    by_host: HashMap<String, Arc<Policy>>,
    by_id: HashMap<Arc<str>, Arc<Policy>>,
    default: Arc<Policy>,
    own: Arc<Policy>,
    /// Waits that a reply's text names.
    pub(crate) delays: Delays,
    /// When hosts are left alone to which no connection comes about.
    pub(crate) dead: Option<Dead>,
    /// Minutes to the second attempt, the third, and so on; the last for all that follow.
    pub(crate) retry: Vec<u32>,
    /// How a new source is watched over.
    pub(crate) warmup: Care,
}

/// After so many failures in a row hosts are left alone for so long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dead {
    pub(crate) after: u32,
    pub(crate) time: Duration,
}

/// How one site is treated.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Its name in the data; none for a site of which nothing is known.
    pub(crate) id: Option<Arc<str>>,
    pub(crate) limits: Limits,
    /// The limits are of each set of mail hosts, not of all that bear the name together.
    pub(crate) by_mx_set: bool,
    /// The first that matches a reply is acted upon.
    pub(crate) hints: Vec<Hint>,
}

/// Rates that hold for one mailbox, at most: they are kept for each.
pub(crate) const MAILBOX_RATES: usize = 4;

/// The figures.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limits {
    /// Connections at once: at first, and at most.
    pub(crate) start_connections: usize,
    pub(crate) connections: usize,
    /// New connections.
    pub(crate) connection_rate: Vec<Rate>,
    /// Messages on one connection.
    pub(crate) messages: u32,
    /// Recipients of one transaction.
    pub(crate) recipients: usize,
    /// Messages.
    pub(crate) rate: Vec<Rate>,
    /// Messages to one mailbox, from all sources; at most [`MAILBOX_RATES`] of them.
    pub(crate) mailbox_rate: Option<Arc<[Rate]>>,
    /// How long a connection waits for more.
    pub(crate) idle: Duration,
    pub(crate) tls: TlsLevel,
    pub(crate) family: Family,
}

/// What TLS a site is known to have, so that its absence is an attack or a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsLevel {
    /// If offered (RFC 7435).
    Opportunistic,
    /// Never in the clear; the certificate is not judged.
    Encrypt,
    /// Never in the clear, and the certificate must be the host's.
    Verify,
}

/// Which addresses of a host are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    Any,
    V4First,
    V4Only,
}

impl TlsLevel {
    /// As it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            TlsLevel::Opportunistic => "opportunistic",
            TlsLevel::Encrypt => "encrypt",
            TlsLevel::Verify => "verify",
        }
    }
}

impl Family {
    /// As it is written.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Family::Any => "any",
            Family::V4First => "v4-first",
            Family::V4Only => "v4-only",
        }
    }
}

/// Figures as they stand in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Figures {
    pub(crate) connections: Option<usize>,
    pub(super) start_connections: Option<usize>,
    pub(crate) connection_rate: Option<Vec<Text<Rate>>>,
    pub(crate) messages: Option<u32>,
    pub(super) recipients: Option<usize>,
    /// Every transaction of ours has one domain.
    #[serde(rename = "one_domain")]
    _one_domain: Option<IgnoredAny>,
    pub(crate) rate: Option<Vec<Text<Rate>>>,
    pub(super) mailbox_rate: Option<Vec<Text<Rate>>>,
    pub(super) idle: Option<u64>,
    pub(super) tls: Option<TlsLevel>,
    pub(super) family: Option<Family>,
}

/// A value that is written as text.
#[derive(Clone, Debug)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: std::str::FromStr<Err = String>> Deserialize<'de> for Text<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Text).map_err(serde::de::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(rename = "compiled")]
    _compiled: IgnoredAny,
    #[serde(rename = "source")]
    _source: IgnoredAny,
    default: Defaults,
    site: Vec<Entry>,
    #[serde(rename = "bulk")]
    _bulk: IgnoredAny,
    warmup: Care,
}

#[derive(Deserialize)]
struct Defaults {
    limits: Figures,
    retry: Retry,
    adapt: Adapt,
    delay_patterns: Vec<String>,
    hint: Vec<Hint>,
}

#[derive(Deserialize)]
struct Adapt {
    dead_after_failures: u32,
    dead_minutes: u64,
}

impl Adapt {
    fn dead(&self) -> Dead {
        Dead { after: self.dead_after_failures.max(1), time: Duration::from_secs(60 * self.dead_minutes) }
    }
}

#[derive(Deserialize)]
struct Retry {
    minutes: Vec<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    mx: Vec<String>,
    limits: Figures,
    #[serde(default)]
    by_mx_set: bool,
    #[serde(default)]
    hint: Vec<Hint>,
    /// For readers.
    #[serde(rename = "name")]
    _name: IgnoredAny,
    #[serde(rename = "domains")]
    _domains: Option<IgnoredAny>,
    #[serde(rename = "from")]
    _from: Option<IgnoredAny>,
    #[serde(rename = "source")]
    _source: IgnoredAny,
    #[serde(rename = "confidence")]
    _confidence: IgnoredAny,
    #[serde(rename = "ceiling")]
    _ceiling: Option<IgnoredAny>,
}

impl Limits {
    /// For hosts that the administrator names: they are asked for what they say themselves.
    const OWN: Limits = Limits {
        start_connections: 2,
        connections: 20,
        connection_rate: Vec::new(),
        messages: u32::MAX,
        recipients: 100,
        rate: Vec::new(),
        mailbox_rate: None,
        idle: Duration::from_secs(5),
        tls: TlsLevel::Opportunistic,
        family: Family::Any,
    };

    /// `figures`, and where they are silent, these.
    pub(super) fn with(&self, figures: &Figures) -> Limits {
        let rates = |given: &Option<Vec<Text<Rate>>>, or: &[Rate]| {
            given.as_ref().map_or(or.to_vec(), |r| r.iter().map(|r| r.0).collect())
        };
        let mailbox_rate = figures.mailbox_rate.as_ref().map(|rates| rates.iter().map(|rate| rate.0).collect());
        let connections = figures.connections.unwrap_or(self.connections).max(1);
        Limits {
            start_connections: figures.start_connections.unwrap_or(self.start_connections).clamp(1, connections),
            connections,
            connection_rate: rates(&figures.connection_rate, &self.connection_rate),
            messages: figures.messages.unwrap_or(self.messages).max(1),
            recipients: figures.recipients.unwrap_or(self.recipients).max(1),
            rate: rates(&figures.rate, &self.rate),
            mailbox_rate: mailbox_rate.or_else(|| self.mailbox_rate.clone()).filter(|rates| !rates.is_empty()),
            idle: figures.idle.map_or(self.idle, Duration::from_secs),
            tls: figures.tls.unwrap_or(self.tls),
            family: figures.family.unwrap_or(self.family),
        }
    }
}

impl Policy {
    /// The place of the first hint that fits a reply, whose text is [`on_one_line`](super::hint::on_one_line).
    pub(crate) fn hint(&self, reply: &Reply, text: &str) -> Option<usize> {
        self.hints.iter().position(|hint| hint.fits(reply, text))
    }
}

impl Policies {
    /// Those we come with.
    ///
    /// # Errors
    /// What is wrong with a file, in words.
    pub(crate) fn shipped() -> Result<Self, String> {
        Self::read(DATA)
    }

    /// The same for all sites, without a hint.
    pub(crate) fn flat(connections: usize, per_second: u32) -> Self {
        let rate = Rate { count: per_second, per: Duration::from_secs(1) };
        let limits =
            Limits { start_connections: connections, connections, rate: vec![rate], messages: 100, ..Limits::OWN };
        let policy = Arc::new(Policy { id: None, limits, by_mx_set: true, hints: Vec::new() });
        Policies {
            by_host: HashMap::new(),
            by_id: HashMap::new(),
            default: policy.clone(),
            own: policy,
            delays: Delays::default(),
            dead: None,
            retry: vec![1, 5, 15, 30, 60, 120, 240, 360],
            warmup: Care::none(),
        }
    }

    fn read(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        if file.schema != 1 {
            return Err(format!("schema {} is not known", file.schema));
        }
        let limits = Limits::OWN.with(&file.default.limits);
        let policy = |id, limits, by_mx_set, hints| Arc::new(Policy { id, limits, by_mx_set, hints });
        let (mut by_host, mut by_id) = (HashMap::new(), HashMap::new());
        for entry in file.site {
            if entry.limits.mailbox_rate.as_ref().is_some_and(|rates| rates.len() > MAILBOX_RATES) {
                return Err(format!("{}: one mailbox has {MAILBOX_RATES} rates at most", entry.id));
            }
            let hints = entry.hint.into_iter().chain(file.default.hint.clone()).collect();
            let id: Arc<str> = entry.id.into();
            let site = policy(Some(id.clone()), limits.with(&entry.limits), entry.by_mx_set, hints);
            if by_id.insert(id.clone(), site.clone()).is_some() {
                return Err(format!("{id} stands there twice"));
            }
            for host in entry.mx {
                if let Some(other) = by_host.insert(host.clone(), site.clone()) {
                    return Err(format!("{host} is of two sites: {:?} and {:?}", other.id, site.id));
                }
            }
        }
        let retry = file.default.retry.minutes;
        if retry.is_empty() {
            return Err("there are no intervals to retry at".into());
        }
        Ok(Policies {
            by_host,
            by_id,
            default: policy(None, limits, true, file.default.hint),
            own: policy(None, Limits::OWN, true, Vec::new()),
            delays: Delays::new(&file.default.delay_patterns)?,
            dead: Some(file.default.adapt.dead()),
            retry,
            warmup: file.warmup,
        })
    }

    /// The policy for the mail hosts of a domain, in lower case: a provider's only if all of them are the provider's. Else
    /// anybody could name one of his beside a host of their own, and speak for him.
    pub(crate) fn of_hosts<'a>(&self, mut hosts: impl Iterator<Item = &'a str>) -> &Arc<Policy> {
        let first = hosts.next().map_or(&self.default, |host| self.of_host(host));
        if hosts.all(|host| Arc::ptr_eq(self.of_host(host), first)) { first } else { &self.default }
    }

    /// The policy for a mail host, in lower case: of several that fit, the longest.
    pub(crate) fn of_host(&self, host: &str) -> &Arc<Policy> {
        if host.split('.').any(|label| CUSTOMERS.contains(&label)) {
            return &self.default;
        }
        let below = host.match_indices('.').map(|(at, _)| &host[at..]);
        std::iter::once(host).chain(below).find_map(|name| self.by_host.get(name)).unwrap_or(&self.default)
    }

    /// The policy of that name.
    pub(crate) fn by_id(&self, id: &str) -> &Arc<Policy> {
        self.by_id.get(id).unwrap_or(&self.default)
    }

    /// The policy for a site of which nothing is known.
    pub(crate) fn default(&self) -> &Arc<Policy> {
        &self.default
    }

    /// For a host that the administrator names.
    pub(crate) fn own(&self) -> &Arc<Policy> {
        &self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_whole_and_every_figure_has_its_source() {
        let policies = Policies::shipped().unwrap();
        for policy in policies.by_host.values().chain([&policies.default]) {
            for hint in &policy.hints {
                hint.check().unwrap_or_else(|e| panic!("{:?}: {e}", policy.id));
            }
        }
        let table: toml::Table = DATA.parse().unwrap();
        let sources = table["source"].as_table().unwrap();
        let sites = table["site"].as_array().unwrap();
        for entry in sites.iter().map(|s| s.as_table().unwrap()).chain([table["default"].as_table().unwrap()]) {
            let from = entry.get("from").and_then(toml::Value::as_table);
            for source in from.into_iter().flat_map(|t| t.values()) {
                assert!(sources.contains_key(source.as_str().unwrap()), "{source}");
            }
            assert!(entry["source"].as_str().is_some_and(|s| !s.is_empty()));
        }
    }

    #[test]
    fn what_is_given_up_when_is_as_the_data_has_it() {
        let table: toml::Table = DATA.parse().unwrap();
        let hours = &table["default"]["retry"]["live_hours"];
        for stream in base::Stream::ALL {
            let hours = hours[stream.word()].as_integer().unwrap() as u64;
            assert_eq!(queue::lifetime(stream).as_secs(), hours * 3600, "{stream}");
        }
    }

    #[test]
    fn a_site_is_found_by_its_mail_hosts_the_longest_name_first() {
        let policies = Policies::shipped().unwrap();
        let id = |host| policies.of_host(host).id.as_deref();
        // The names are those of the providers' own published MX records.
        assert_eq!(id("gmail-smtp-in.l.google.com"), Some("google"));
        assert_eq!(id("aspmx.l.google.com"), Some("google"));
        assert_eq!(id("outlook-com.olc.protection.outlook.com"), Some("outlook"));
        assert_eq!(id("contoso-com.mail.protection.outlook.com"), Some("microsoft365"));
        assert_eq!(id("mta5.am0.yahoodns.net"), Some("yahoo"));
        // Below the name, and not beside it.
        assert_eq!((id("google.com"), id("evilgoogle.com"), id("mx.example.org")), (None, None, None));
    }

    #[test]
    fn nobody_speaks_for_a_provider_by_naming_one_of_its_hosts() {
        let policies = Policies::shipped().unwrap();
        let id = |hosts: &[&str]| policies.of_hosts(hosts.iter().copied()).id.clone();
        assert_eq!(id(&["aspmx.l.google.com", "alt1.aspmx.l.google.com"]).as_deref(), Some("google"));
        assert_eq!(id(&["nope.google.com", "mx.evil.test"]), None);
        assert_eq!(id(&["mx.evil.test", "nope.google.com"]), None);
        assert_eq!(id(&["aspmx.l.google.com", "mta5.am0.yahoodns.net"]), None);
        // Machines of customers.
        assert_eq!(id(&["c-198-51-100-7.hsd1.ca.comcast.net"]), None);
        assert_eq!(id(&["lns-bzn-1.abo.wanadoo.fr"]), None);
    }

    #[test]
    fn what_is_not_said_of_a_site_falls_through() {
        let policies = Policies::shipped().unwrap();
        let (default, google) = (&policies.default.limits, &policies.of_host("aspmx.l.google.com").limits);
        assert_eq!((google.connections, google.tls), (5, TlsLevel::Verify));
        let of = |limits: &Limits| {
            limits.mailbox_rate.iter().flat_map(|r| r.iter()).map(Rate::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(google), ["60/m", "3600/h", "86400/d"]);
        assert_eq!(default.mailbox_rate, None);
        assert_eq!((default.connections, default.tls), (10, TlsLevel::Opportunistic));
        assert_eq!(google.rate, default.rate);
    }

    /// The file says how long we wait for those who read it: nothing else does as it says there.
    #[test]
    fn the_file_says_how_long_a_connection_waits() {
        use smtp::client::Stage;

        use crate::connection::{CONNECT, HANDSHAKE};
        #[derive(Deserialize)]
        struct File {
            default: Waits,
        }
        #[derive(Deserialize)]
        struct Waits {
            timeouts: HashMap<String, u64>,
        }
        let stages = [
            ("greeting", Stage::Greeting),
            ("ehlo", Stage::Hello),
            ("starttls", Stage::StartTls),
            ("mail", Stage::Mail),
            ("rcpt", Stage::Rcpt),
            ("data", Stage::Data),
            ("block", Stage::Body),
            ("final", Stage::DataEnd),
            ("quit", Stage::Quit),
        ];
        let ours = stages.map(|(name, stage)| (name, stage.timeout())).into_iter();
        let ours = ours.chain([("connect", CONNECT), ("handshake", HANDSHAKE)]);
        let file: File = toml::from_str(DATA).unwrap();
        assert_eq!(file.default.timeouts, ours.map(|(name, time)| (name.to_owned(), time.as_secs())).collect());
    }

    #[test]
    fn a_broken_file_is_refused_with_the_reason() {
        let twice = DATA.replacen("\".googlemail.com\"", "\".google.com\"", 1);
        assert!(Policies::read(&twice).unwrap_err().contains("two sites"));
        for (from, to) in [
            ("schema = 1", "schema = 9"),
            ("connections = 10,", "conections = 10,"),
            ("\"20/s\"", "\"20/x\""),
            ("do = \"slow\"", "do = \"fly\""),
            ("when = \"hard_bounces\"", "when = \"soft_bounces\""),
            ("do = \"step-back\"", "do = \"step-aside\""),
            ("by_mx_set = true", "by_mx_sets = true"),
        ] {
            assert!(DATA.contains(from), "{from}");
            assert!(Policies::read(&DATA.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
}
