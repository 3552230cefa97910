//! MTA-STS (RFC 8461): a domain says which hosts take its mail, and that they do so under verified TLS. What is read, what
//! is remembered, what follows for a host; whoever sends asks the DNS and fetches the policy.
//!
//! All of it goes by the domain of the recipient's address: never by where an alias of it leads, nor by the hosts it shares
//! with other domains (trap 15).
//!
//! ```
//! use base::Timestamp;
//! use trust::mta_sts::{Announced, Demand, Entry, Next, Policy, announced};
//!
//! let (mut entry, now) = (Entry::default(), Timestamp::from_secs(0));
//! assert_eq!(entry.next(now), Next::Ask);
//! let txt = announced(&[b"v=STSv1; id=1;".to_vec()]);
//! assert_eq!(entry.asked(txt, now), Next::Fetch("1".to_owned()));
//! let policy = Policy::parse(b"version: STSv1\nmode: enforce\nmx: *.x.test\nmax_age: 86400\n");
//! entry.fetched("1".to_owned(), policy.ok(), now);
//! assert_eq!(entry.next(now), Next::Apply);
//! assert_eq!(entry.demand("mx.x.test", now), Demand::Verified);
//! assert_eq!(entry.demand("mx.evil.test", now), Demand::Refused);
//! ```

use std::fmt;
use std::time::Duration;

use base::Timestamp;
use store::{Tx, params};

use crate::judge::{of_version, tags, value};

pub(crate) const TABLE: &str = "
CREATE TABLE mta_sts_policy (domain {text} NOT NULL PRIMARY KEY, id {text} NOT NULL, mode {int} NOT NULL,
    hosts {text} NOT NULL, max_age {int} NOT NULL, fetched {int} NOT NULL, expires {int} NOT NULL) {clustered};
CREATE INDEX mta_sts_policy_age ON mta_sts_policy (fetched);
CREATE INDEX mta_sts_policy_end ON mta_sts_policy (expires);
";

store::statements! { include_str!("../sql/mta_sts.sql");
    POLICY = "policy",
    POLICY_KEEP = "policy_keep",
    POLICIES_EXPIRED = "policies_expired",
    POLICIES_SURPLUS = "policies_surplus",
}

/// Policies that are kept on disk.
const KEPT: i64 = 100_000;
/// Policies that are forgotten in one job.
const TIDIED: i64 = 200;
/// Names of hosts in a policy. Those of the largest sites have a dozen.
const HOSTS: usize = 200;

/// Octets of a policy that are read (§3.3 names as much).
pub const LARGEST: usize = 64 * 1024;
/// The longest life of a policy (§3.2): a year. One that says more has this.
const LONGEST: u64 = 31_557_600;
/// How long what the DNS said is not asked for again.
const ASKED: Duration = Duration::from_secs(3600);
/// How long after a failure nothing is tried (§3.3 names five minutes), nor a policy asked for again that was in the way.
const PAUSE: Duration = Duration::from_secs(300);
/// A policy is fetched again when it is as old (§3.3: "once per day"), so that it does not end while somebody keeps us from
/// the domain.
const RENEWED: Duration = Duration::from_secs(24 * 3600);

/// Where a domain (A-labels) announces its policy. None: an address literal has none.
pub fn record_name(domain: &str) -> Option<String> {
    (!domain.starts_with('[')).then(|| format!("_mta-sts.{domain}"))
}

/// Where the policy is (§3.3). Whoever fetches it follows no redirect, takes `text/plain` only, verifies the host's
/// certificate, and reads [`LARGEST`] octets within a minute.
pub fn policy_url(domain: &str) -> String {
    format!("https://mta-sts.{domain}/.well-known/mta-sts.txt")
}

/// What the DNS says at [`record_name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announced {
    /// There is a policy, of this id.
    Id(String),
    /// There is none.
    Nothing,
    /// The DNS does not answer.
    Unknown,
}

/// What the TXT records of that name say (§3.1).
pub fn announced(texts: &[Vec<u8>]) -> Announced {
    match of_version(texts, "v=STSv1")[..] {
        [one] => id(one).map_or(Announced::Nothing, Announced::Id),
        _ => Announced::Nothing,
    }
}

/// The id of a record: 1 to 32 letters and digits.
pub(crate) fn id(record: &str) -> Option<String> {
    let tags = tags(record)?;
    let id = value(&tags, "id")?;
    let good = (1..=32).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    good.then(|| id.to_owned())
}

/// What a policy asks of senders (§5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// What does not fit is not sent.
    Enforce,
    /// What does not fit is sent, and reported.
    Testing,
    /// There was a policy, and there is none any more.
    None,
}

impl Mode {
    /// As a policy has it.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Testing => "testing",
            Mode::None => "none",
        }
    }

    pub(crate) fn stored(self) -> i64 {
        match self {
            Mode::Enforce => 1,
            Mode::Testing => 2,
            Mode::None => 3,
        }
    }

    pub(crate) fn read(value: i64) -> store::Result<Self> {
        match value {
            1 => Ok(Mode::Enforce),
            2 => Ok(Mode::Testing),
            3 => Ok(Mode::None),
            n => Err(store::Error::Corrupt(format!("trust: mode of a policy {n}").into())),
        }
    }

    /// Reads [`Mode::word`].
    pub fn of_word(word: &str) -> Option<Self> {
        [Mode::Enforce, Mode::Testing, Mode::None].into_iter().find(|mode| mode.word() == word)
    }
}

/// A policy (§3.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What it asks.
    pub mode: Mode,
    /// How long it is good, from when it was fetched: at most a year.
    pub max_age: Duration,
    /// Names of hosts in lower case; `*.` stands for one label.
    pub hosts: Vec<String>,
}

/// Why a text is no policy. It counts as one that could not be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPolicy {
    /// More than [`LARGEST`] octets, or 200 hosts.
    TooLarge,
    /// Not ASCII, or a line without a colon.
    Syntax,
    /// This key is missing, or its value is none.
    Key(&'static str),
}

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadPolicy::TooLarge => f.write_str("the policy is larger than 64 KB, or names more than 200 hosts"),
            BadPolicy::Syntax => f.write_str("the policy is not lines of a key, a colon and a value"),
            BadPolicy::Key(key) => write!(f, "the policy has no good {key}"),
        }
    }
}

impl std::error::Error for BadPolicy {}

impl Policy {
    /// Reads a policy. Keys that we do not know are passed over; of those that may stand there once the first counts.
    ///
    /// # Errors
    /// [`BadPolicy`].
    pub fn parse(text: &[u8]) -> Result<Self, BadPolicy> {
        if text.len() > LARGEST {
            return Err(BadPolicy::TooLarge);
        }
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii()).ok_or(BadPolicy::Syntax)?;
        let (mut version, mut mode, mut max_age, mut hosts) = (None, None, None, Vec::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (key, value) = line.split_once(':').ok_or(BadPolicy::Syntax)?;
            let value = value.trim();
            match key {
                "version" => drop(version.get_or_insert(value)),
                "mode" => drop(mode.get_or_insert(value)),
                "max_age" => drop(max_age.get_or_insert(value)),
                "mx" => hosts.push(host(value).ok_or(BadPolicy::Key("mx"))?),
                _ => {}
            }
        }
        if version != Some("STSv1") {
            return Err(BadPolicy::Key("version"));
        }
        let mode = mode.and_then(Mode::of_word).ok_or(BadPolicy::Key("mode"))?;
        let digits = max_age.filter(|age| (1..=10).contains(&age.len()) && age.bytes().all(|b| b.is_ascii_digit()));
        let max_age: u64 = digits.and_then(|age| age.parse().ok()).ok_or(BadPolicy::Key("max_age"))?;
        if hosts.len() > HOSTS {
            return Err(BadPolicy::TooLarge);
        }
        if hosts.is_empty() && mode != Mode::None {
            return Err(BadPolicy::Key("mx"));
        }
        Ok(Policy { mode, max_age: Duration::from_secs(max_age.min(LONGEST)), hosts })
    }

    /// Whether it names this host (§4.1): itself, or by `*.` in place of its first label.
    pub fn names(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let above = host.split_once('.').map(|(_, above)| above);
        self.hosts.iter().any(|named| match named.strip_prefix("*.") {
            Some(parent) => above == Some(parent),
            None => *named == host,
        })
    }
}

impl Policy {
    /// What it demands of a host (of an MX record, or the domain itself where it has none).
    pub fn demand(&self, host: &str) -> Demand {
        match (self.mode, self.names(host)) {
            (Mode::None, _) => Demand::Nothing,
            (Mode::Testing, named) => Demand::Reported { named },
            (Mode::Enforce, true) => Demand::Verified,
            (Mode::Enforce, false) => Demand::Refused,
        }
    }
}

/// The name of a host, or of all below one.
fn host(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.').to_ascii_lowercase();
    let name = text.strip_prefix("*.").unwrap_or(&text);
    base::domain(name).ok().filter(|_| !name.starts_with('['))?;
    Some(text)
}

/// What is to be done before mail for a domain is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the DNS for the TXT records of [`record_name`], and say so to [`Entry::asked`].
    Ask,
    /// Fetch [`policy_url`], and say so to [`Entry::fetched`], with this id.
    Fetch(String),
    /// Nothing: [`Entry::demand`] knows.
    Apply,
}

/// What a domain's policy demands of a host, before mail is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Nothing,
    /// TLS with a certificate that verifies for the host's own name (§4.2); without, nothing is sent.
    Verified,
    /// The same, but what is missing is only reported.
    Reported {
        /// The policy names the host.
        named: bool,
    },
    /// The policy does not name the host: nothing is sent there.
    Refused,
}

/// A policy as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// What it says.
    pub policy: Policy,
    /// Under which id it was announced.
    pub id: String,
    /// When.
    pub fetched: Timestamp,
}

impl Known {
    fn is_good(&self, now: Timestamp) -> bool {
        since(self.fetched, now) < self.policy.max_age
    }
}

/// What is remembered of one recipient domain. A known policy is to be kept on disk, so that nobody gains by a restart.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The last policy.
    pub known: Option<Known>,
    /// When the DNS was asked.
    asked: Option<Timestamp>,
    /// When the DNS did not answer, or no policy could be fetched.
    failed: Option<Timestamp>,
}

impl Entry {
    /// What is to be done first.
    pub fn next(&self, now: Timestamp) -> Next {
        if self.has_just_failed(now) || self.asked.is_some_and(|asked| since(asked, now) < ASKED) {
            return Next::Apply;
        }
        Next::Ask
    }

    /// The DNS was asked. What it says, and whether it speaks at all, takes no policy away: only a policy does (§3.3, §8.3).
    pub fn asked(&mut self, said: Announced, now: Timestamp) -> Next {
        let id = match said {
            Announced::Unknown => {
                self.failed = Some(now);
                return Next::Apply;
            }
            Announced::Nothing => {
                self.asked = Some(now);
                return Next::Apply;
            }
            Announced::Id(id) => id,
        };
        self.asked = Some(now);
        let recent = |known: &Known| since(known.fetched, now) < RENEWED.min(known.policy.max_age / 2);
        match &self.known {
            Some(known) if known.id == id && recent(known) => Next::Apply,
            _ if self.has_just_failed(now) => Next::Apply,
            _ => Next::Fetch(id),
        }
    }

    /// The policy of that id was fetched, or could not be: then the one before stays, for as long as it said.
    pub fn fetched(&mut self, id: String, policy: Option<Policy>, now: Timestamp) {
        match policy {
            Some(policy) => (self.known, self.failed) = (Some(Known { policy, id, fetched: now }), None),
            // The DNS is asked again, too: what it says may have been half of a change.
            None => (self.asked, self.failed) = (None, Some(now)),
        }
    }

    /// Mail was not sent because of the policy: before that is final, the sender looks for a newer one (§5.1).
    pub fn was_in_the_way(&mut self, now: Timestamp) {
        self.asked = self.asked.filter(|asked| since(*asked, now) < PAUSE);
    }

    /// What the policy demands of a host (of an MX record, or the domain itself where it has none).
    pub fn demand(&self, host: &str, now: Timestamp) -> Demand {
        self.policy(now).map_or(Demand::Nothing, |policy| policy.demand(host))
    }

    /// The policy that is in force.
    pub fn policy(&self, now: Timestamp) -> Option<&Policy> {
        self.known.as_ref().filter(|known| known.is_good(now)).map(|known| &known.policy)
    }

    fn has_just_failed(&self, now: Timestamp) -> bool {
        self.failed.is_some_and(|failed| since(failed, now) < PAUSE)
    }
}

/// The policy of a domain that was kept, whether it is still good or not.
///
/// # Errors
/// The store's.
pub fn recall(tx: &mut Tx<'_>, domain: &str) -> store::Result<Option<Known>> {
    tx.row(&POLICY, params![domain], |r| {
        let mode = Mode::read(r.int(1)?)?;
        let hosts = r.text(2)?.split_ascii_whitespace().map(str::to_owned).collect();
        let policy = Policy { mode, hosts, max_age: Duration::from_secs(r.int(3)?.max(0) as u64) };
        Ok(Known { policy, id: r.text(0)?.to_owned(), fetched: Timestamp(r.int(4)?) })
    })
}

/// Keeps the policy of a domain, in place of the one before.
///
/// # Errors
/// The store's.
pub fn keep(tx: &mut Tx<'_>, domain: &str, known: &Known) -> store::Result<()> {
    let Known { policy, id, fetched } = known;
    let mode = policy.mode.stored();
    let (hosts, max_age) = (policy.hosts.join(" "), policy.max_age.as_secs() as i64);
    let expires = Timestamp(fetched.0 + max_age * 1000);
    let row = params![domain, id.as_str(), mode, hosts.as_str(), max_age, *fetched, expires];
    tx.execute(&POLICY_KEEP, row).map(drop)
}

/// Forgets policies whose time is over, and the oldest where there are more than 100,000: some of them, a job is short. True
/// when there may be more.
///
/// # Errors
/// The store's.
pub fn tidy_up(tx: &mut Tx<'_>, now: Timestamp) -> store::Result<bool> {
    let expired = tx.execute(&POLICIES_EXPIRED, params![now, TIDIED])?;
    let surplus = tx.execute(&POLICIES_SURPLUS, params![KEPT, TIDIED])?;
    Ok(expired.max(surplus) >= TIDIED as u64)
}

/// How long ago something was; none at all where the clock was set back.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(now.0.saturating_sub(then.0).max(0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn later(secs: i64) -> Timestamp {
        Timestamp(NOW.0 + secs * 1000)
    }

    fn text(mode: &str, mx: &str, max_age: i64) -> String {
        format!("version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: {max_age}\r\n")
    }

    fn policy(mode: &str, mx: &str, max_age: i64) -> Option<Policy> {
        Some(Policy::parse(text(mode, mx, max_age).as_bytes()).unwrap())
    }

    fn id(text: &str) -> Announced {
        Announced::Id(text.to_owned())
    }

    /// RFC 8461 §3.1's example, and its rules.
    #[test]
    fn what_the_dns_announces() {
        for (records, expected) in [
            (&["v=STSv1; id=20160831085700Z;"][..], Some("20160831085700Z")),
            (&["v=STSv1 ;id=1", "v=spf1 -all"], Some("1")),
            (&["v=STSv1; id=1; new=x"], Some("1")),
            (&[], None),
            (&["v=STSv1; id=1;", "v=STSv1; id=1;"], None),
            (&["v=STSv10; id=1;"], None),
            (&["v=stsv1; id=1;"], None),
            (&[" v=STSv1; id=1;"], None),
            (&["v=STSv1;"], None),
            (&["v=STSv1; id=;"], None),
            (&["v=STSv1; id=a b;"], None),
            (&["v=STSv1; id=012345678901234567890123456789012;"], None),
        ] {
            let texts: Vec<Vec<u8>> = records.iter().map(|text| text.as_bytes().to_vec()).collect();
            assert_eq!(announced(&texts), expected.map_or(Announced::Nothing, id), "{records:?}");
        }
    }

    #[test]
    fn policies() {
        // RFC 8461 Appendix A.
        let text = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n";
        let hosts = ["mail.example.com", "*.example.net", "backupmx.example.com"].map(str::to_owned).to_vec();
        let expected = Policy { mode: Mode::Enforce, max_age: Duration::from_secs(604_800), hosts };
        assert_eq!(Policy::parse(text.as_bytes()), Ok(expected.clone()));
        assert_eq!(Policy::parse(text.replace('\n', "\r\n").as_bytes()), Ok(expected.clone()));
        let extra = format!("new: x\n\n{text}mode: none\nmax_age: x\nversion: STSv2");
        assert_eq!(Policy::parse(extra.as_bytes()), Ok(expected));
        let none = Policy::parse(b"max_age:86400\nmode:none\nversion:STSv1").unwrap();
        assert_eq!((none.mode, none.hosts.len()), (Mode::None, 0));
        for (max_age, secs) in [("0", 0), ("31557600", LONGEST), ("31557601", LONGEST), ("9999999999", LONGEST)] {
            let text = text.replace("604800", max_age);
            assert_eq!(Policy::parse(text.as_bytes()).unwrap().max_age, Duration::from_secs(secs));
        }
        for (from, to, why) in [
            ("version: STSv1", "version: STSv2", BadPolicy::Key("version")),
            ("version: STSv1", "Version: STSv1", BadPolicy::Key("version")),
            ("enforce", "Enforce", BadPolicy::Key("mode")),
            ("mode: enforce\n", "", BadPolicy::Key("mode")),
            ("604800", "-1", BadPolicy::Key("max_age")),
            ("604800", "+1", BadPolicy::Key("max_age")),
            ("604800", "", BadPolicy::Key("max_age")),
            ("604800", "12345678901", BadPolicy::Key("max_age")),
            ("*.example.net", "*.*.net", BadPolicy::Key("mx")),
            ("*.example.net", "*", BadPolicy::Key("mx")),
            ("*.example.net", "m*.example.net", BadPolicy::Key("mx")),
            ("*.example.net", "[192.0.2.1]", BadPolicy::Key("mx")),
            ("*.example.net", "a..b", BadPolicy::Key("mx")),
            ("*.example.net", "", BadPolicy::Key("mx")),
            ("mode: enforce", "<html>", BadPolicy::Syntax),
            ("mode: enforce", "mode: enforce\u{fc}", BadPolicy::Syntax),
        ] {
            assert_eq!(Policy::parse(text.replace(from, to).as_bytes()), Err(why), "{to}");
        }
        assert_eq!(Policy::parse(b"version: STSv1\nmode: enforce\nmax_age: 1"), Err(BadPolicy::Key("mx")));
        let long = format!("{text}{}", "x:\n".repeat(LARGEST / 3));
        assert_eq!(Policy::parse(long.as_bytes()), Err(BadPolicy::TooLarge));
    }

    #[test]
    fn a_policy_that_names_hundreds_of_hosts_is_too_large() {
        let text = |n| format!("version: STSv1\nmode: enforce\nmax_age: 1\n{}", "mx: a.test\n".repeat(n));
        assert!(Policy::parse(text(200).as_bytes()).is_ok());
        assert_eq!(Policy::parse(text(201).as_bytes()), Err(BadPolicy::TooLarge));
    }

    #[test]
    fn hosts_that_a_policy_names() {
        let policy =
            Policy::parse(b"version: STSv1\nmode: enforce\nmx: Mail.x.test.\nmx: *.y.test\nmax_age: 1").unwrap();
        for (host, named) in [
            ("mail.x.test", true),
            ("MAIL.X.TEST.", true),
            ("a.mail.x.test", false),
            ("ail.x.test", false),
            ("x.test", false),
            ("mx.y.test", true),
            ("a.mx.y.test", false),
            ("y.test", false),
            ("mx.yy.test", false),
            ("mxy.test", false),
            ("*.y.test", true),
            ("", false),
        ] {
            assert_eq!(policy.names(host), named, "{host}");
        }
    }

    #[test]
    fn trap_15_testing_does_not_enforce() {
        for (mode, named, other) in [
            ("enforce", Demand::Verified, Demand::Refused),
            ("testing", Demand::Reported { named: true }, Demand::Reported { named: false }),
            ("none", Demand::Nothing, Demand::Nothing),
        ] {
            let mut entry = Entry::default();
            entry.fetched("1".into(), policy(mode, "mx.x.test", DAY), NOW);
            assert_eq!((entry.demand("mx.x.test", NOW), entry.demand("mx.y.test", NOW)), (named, other), "{mode}");
        }
    }

    #[test]
    fn trap_15_the_domain_of_the_address_decides() {
        assert_eq!(record_name("x.test").as_deref(), Some("_mta-sts.x.test"));
        assert_eq!(policy_url("x.test"), "https://mta-sts.x.test/.well-known/mta-sts.txt");
        assert_eq!(record_name("[192.0.2.1]"), None);
        // Two domains at one host: what one demands of it is nothing to the other.
        let (mut x, y) = (Entry::default(), Entry::default());
        x.fetched("1".into(), policy("enforce", "mx.x.test", DAY), NOW);
        assert_eq!((x.demand("mx.host.test", NOW), y.demand("mx.host.test", NOW)), (Demand::Refused, Demand::Nothing));
    }

    #[test]
    fn a_policy_lasts_as_long_as_it_says_whatever_the_dns_says() {
        let mut entry = Entry::default();
        assert_eq!(entry.asked(id("1"), NOW), Next::Fetch("1".into()));
        entry.fetched("1".into(), policy("enforce", "mx.x.test", 2 * DAY), NOW);
        for (secs, said) in [(HOUR, Announced::Nothing), (2 * HOUR, Announced::Unknown), (30 * HOUR, id("2"))] {
            let next = entry.asked(said, later(secs));
            if let Next::Fetch(id) = next {
                entry.fetched(id, None, later(secs));
            }
            assert_eq!(entry.demand("mx.x.test", later(secs)), Demand::Verified, "{secs}");
        }
        assert_eq!(entry.demand("mx.y.test", later(2 * DAY - 1)), Demand::Refused);
        assert_eq!(entry.demand("mx.y.test", later(2 * DAY)), Demand::Nothing);
        // Set back, the clock makes it no older.
        assert_eq!(entry.demand("mx.y.test", later(-DAY)), Demand::Refused);
        // Only a policy takes a policy away.
        entry.fetched("3".into(), policy("none", "mx.x.test", DAY), later(DAY));
        assert_eq!(entry.demand("mx.y.test", later(DAY)), Demand::Nothing);
    }

    #[test]
    fn what_is_asked_and_fetched_and_when() {
        let mut entry = Entry::default();
        assert_eq!(entry.next(NOW), Next::Ask);
        assert_eq!(entry.asked(Announced::Nothing, NOW), Next::Apply);
        assert_eq!((entry.next(later(HOUR - 1)), entry.next(later(HOUR))), (Next::Apply, Next::Ask));
        // A fetch that fails rests for five minutes.
        assert_eq!(entry.asked(id("1"), later(HOUR)), Next::Fetch("1".into()));
        entry.fetched("1".into(), None, later(HOUR));
        assert_eq!((entry.next(later(HOUR + 299)), entry.next(later(HOUR + 300))), (Next::Apply, Next::Ask));
        // So does a DNS that does not answer.
        assert_eq!(entry.asked(Announced::Unknown, later(2 * HOUR)), Next::Apply);
        assert_eq!((entry.next(later(2 * HOUR + 299)), entry.next(later(2 * HOUR + 300))), (Next::Apply, Next::Ask));
        // The same id is fetched again after a day, or half of the policy's life; another at once.
        let mut entry = Entry::default();
        entry.fetched("1".into(), policy("enforce", "mx.x.test", 10 * DAY), NOW);
        assert_eq!(entry.asked(id("1"), later(DAY - 1)), Next::Apply);
        assert_eq!(entry.asked(id("1"), later(DAY)), Next::Fetch("1".into()));
        assert_eq!(entry.asked(id("2"), later(1)), Next::Fetch("2".into()));
        entry.fetched("2".into(), policy("enforce", "mx.x.test", DAY), later(1));
        assert_eq!(entry.asked(id("2"), later(DAY / 2)), Next::Apply);
        assert_eq!(entry.asked(id("2"), later(DAY / 2 + 1)), Next::Fetch("2".into()));
    }

    #[test]
    fn before_a_policy_stops_a_mail_for_good_a_newer_one_is_looked_for() {
        let mut entry = Entry::default();
        entry.asked(id("1"), NOW);
        entry.fetched("1".into(), policy("enforce", "mx.x.test", DAY), NOW);
        entry.was_in_the_way(later(299));
        assert_eq!(entry.next(later(299)), Next::Apply, "it was just looked for");
        entry.was_in_the_way(later(300));
        assert_eq!(entry.next(later(300)), Next::Ask);
        assert_eq!(entry.asked(id("1"), later(300)), Next::Apply);
        assert_eq!(entry.demand("mx.y.test", later(300)), Demand::Refused);
    }
}
