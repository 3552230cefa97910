//! What a reply says about the traffic to a site, and not about the mail it answers.

use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{Address, Enhanced, Reply};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::policy::{Figures, Text};

/// So much of a reply's text is looked at.
const LOOKED_AT: usize = 2000;
/// A wait that a text names is believed within these.
const BELIEVED: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(24 * 3600);

/// A reply that asks for another traffic, and what is to be done.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hint {
    /// The first digits of the code; all codes when there are none.
    #[serde(default)]
    code: String,
    /// One of these enhanced codes.
    status: Option<Text<Statuses>>,
    #[serde(rename = "match")]
    pattern: Option<Pattern>,
    #[serde(rename = "do")]
    pub(crate) action: Action,
    pub(crate) minutes: Option<u32>,
    /// Nothing is done before it was said so often in an hour.
    #[serde(default)]
    pub(crate) after: Option<Text<Often>>,
    /// The figures that hold meanwhile.
    #[serde(default)]
    pub(crate) set: Figures,
    /// No machine can repair this: the operator is told.
    #[serde(default)]
    pub(crate) alert: bool,
    /// A 5xx that means "later".
    #[serde(default)]
    pub(crate) keep: bool,
    /// In words.
    pub(crate) about: String,
    #[serde(rename = "from")]
    _from: Option<String>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Nothing more goes to the site for a while.
    PauseSite,
    /// Nothing more of this sender's domain.
    PauseSender,
    /// The figures of the hint hold, or half of what is.
    Slow,
    /// This recipient's mail waits.
    DeferRecipient,
    /// This mail waits.
    DeferMessage,
    /// This mail is given up.
    StopMessage,
    /// The connection has carried what it may.
    NewConnection,
    /// Fewer recipients in one transaction.
    Split,
    /// Again, under TLS.
    UseTls,
    /// Again, over IPv4.
    UseV4,
}

/// "3/h"
#[derive(Clone, Copy, Debug)]
pub(crate) struct Often(pub(crate) usize);

impl std::str::FromStr for Often {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = text.strip_suffix("/h").and_then(|n| n.parse().ok()).filter(|n| (1..=100).contains(n));
        count.map(Often).ok_or_else(|| format!("{text:?} is no number of replies an hour (like 3/h)"))
    }
}

/// "4.7.28", "5.7.509,5.7.23", "4.7.500-699"
#[derive(Clone, Debug)]
pub(crate) struct Statuses(Vec<(u8, u16, RangeInclusive<u16>)>);

impl Statuses {
    fn hold(&self, Enhanced(class, subject, detail): Enhanced) -> bool {
        self.0.iter().any(|(c, s, d)| (*c, *s) == (class, subject) && d.contains(&detail))
    }
}

impl std::str::FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let mut digits = part.trim().splitn(3, '.');
            let (class, subject) = (digits.next()?.parse().ok()?, digits.next()?.parse().ok()?);
            let (from, to) = digits.next().map(|d| d.split_once('-').unwrap_or((d, d)))?;
            Some((class, subject, from.parse().ok()?..=to.parse().ok()?))
        };
        let all: Option<Vec<_>> = text.split(',').map(one).collect();
        all.map(Statuses).ok_or_else(|| format!("{text:?} is no list of enhanced codes"))
    }
}

/// A regular expression that is made when it is first needed: most sites are never sent to.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
struct Pattern {
    text: String,
    made: Arc<OnceLock<Option<Regex>>>,
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Pattern { text, made: Arc::default() }
    }
}

impl Pattern {
    fn make(text: &str) -> Result<Regex, String> {
        // Linear in what it looks at, and bounded in size.
        RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build().map_err(|e| e.to_string())
    }

    fn is_in(&self, text: &str) -> bool {
        self.made.get_or_init(|| Self::make(&self.text).ok()).as_ref().is_some_and(|r| r.is_match(text))
    }
}

/// The text of a reply as patterns see it: its lines joined by one space, without the addresses of the mail. Who writes to
/// `dnsbl-lookup@example.org` has it come back in the reply, and does not mean the site.
pub(crate) fn on_one_line(reply: &Reply, addresses: &[&Address]) -> String {
    let mut text = reply.text.replace(['\r', '\n'], " ");
    let mut end = text.len().min(LOOKED_AT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    for address in addresses {
        for part in [address.to_string(), address.local().to_owned()] {
            text = without(&text, &part);
        }
    }
    let words = text.split_inclusive([' ', '<', '>', ';', ',']);
    words.map(|word| if word.contains('@') { " " } else { word }).collect()
}

/// `text` without a part of it, in whatever case it stands there.
fn without(text: &str, part: &str) -> String {
    let (lower, part) = (text.to_ascii_lowercase(), part.to_ascii_lowercase());
    let (mut rest, mut at) = (String::with_capacity(text.len()), 0);
    if !part.is_empty() {
        while let Some(found) = lower[at..].find(&part) {
            rest.push_str(&text[at..at + found]);
            at += found + part.len();
        }
    }
    rest.push_str(&text[at..]);
    rest
}

impl Hint {
    /// `text` is the reply's, [`on_one_line`].
    pub(crate) fn fits(&self, reply: &Reply, text: &str) -> bool {
        let code = reply.code.to_string();
        // RFC 3463 §3.2: what is wrong with an address says nothing of the traffic, unless the data means that very code.
        let of_address = reply.enhanced.is_some_and(|Enhanced(_, subject, _)| subject == 1) && self.status.is_none();
        !of_address
            && code.starts_with(&self.code)
            && self.status.as_ref().is_none_or(|s| reply.enhanced.is_some_and(|e| s.0.hold(e)))
            && self.pattern.as_ref().is_none_or(|p| p.is_in(text))
    }

    /// For how long.
    pub(crate) fn time(&self) -> Option<Duration> {
        self.minutes.map(|m| Duration::from_secs(u64::from(m) * 60))
    }

    /// It says that there were too many mails, or mails too fast; what wants the operator's hand says more than that.
    pub(crate) fn is_about_rate(&self) -> bool {
        let connections = self.set.connections.is_some() && self.set.rate.is_none();
        let reads = self.pattern.is_some() || self.status.is_some();
        matches!(self.action, Action::Slow | Action::PauseSite) && reads && !self.alert && !connections
    }

    /// How long the site is left alone, if that is what is to be done.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.time().filter(|_| self.action == Action::PauseSite)
    }

    /// The pattern can be made, and the hint says something.
    #[cfg(test)]
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(pattern) = &self.pattern {
            Pattern::make(&pattern.text)?;
        }
        let tests = !self.code.is_empty() || self.status.is_some() || self.pattern.is_some();
        let needs_time = matches!(self.action, Action::PauseSite | Action::PauseSender | Action::DeferRecipient);
        match () {
            () if !tests => Err(format!("fits every reply: {}", self.about)),
            () if needs_time && self.minutes.is_none() => Err(format!("for how long? {}", self.about)),
            () => Ok(()),
        }
    }
}

/// Finds the wait that a text names: "try again in 300 seconds".
#[derive(Debug, Default)]
pub(crate) struct Delays(Vec<Regex>);

impl Delays {
    pub(crate) fn new(patterns: &[String]) -> Result<Self, String> {
        patterns.iter().map(|p| Pattern::make(p)).collect::<Result<_, _>>().map(Delays)
    }

    /// Within bounds: nobody makes us wait for a year, or not at all.
    pub(crate) fn named(&self, text: &str) -> Option<Duration> {
        let found = self.0.iter().find_map(|p| p.captures(text))?;
        let (n, unit) = (found.name("n")?.as_str().parse::<u64>().ok()?, found.name("unit")?.as_str().to_lowercase());
        let seconds = match unit.chars().next()? {
            's' | '秒' => 1,
            'm' | '分' => 60,
            _ => 3600,
        };
        Some(Duration::from_secs(n.saturating_mul(seconds)).clamp(*BELIEVED.start(), *BELIEVED.end()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Policies;
    use super::*;

    /// The action of the first hint that fits, and the wait that the text names.
    fn heard(host: &str, code: u16, status: (u16, u16), text: &'static str) -> (Option<Action>, Option<u64>) {
        let policies = Policies::shipped().unwrap();
        let reply = match status {
            (0, 0) => Reply::plain(code, text),
            (subject, detail) => Reply::new(code, subject, detail, text),
        };
        let line = on_one_line(&reply, &[]);
        let hint = policies.of_host(host).hints.iter().find(|h| h.fits(&reply, &line));
        (hint.map(|h| h.action), policies.delays.named(&line).map(|d| d.as_secs()))
    }

    // The replies are as the providers document them, or as their software writes them.
    #[test]
    fn replies_of_the_world() {
        use Action::*;
        for (host, code, status, text, action, wait) in [
            // Postfix's postscreen and postgrey.
            (
                "mx.example.org",
                450,
                (2, 0),
                "<a@example.org>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/example.org.html",
                Some(DeferMessage),
                None,
            ),
            (
                "mx.example.org",
                451,
                (7, 1),
                "Greylisting in action, please come back in 300 seconds",
                Some(DeferMessage),
                Some(300),
            ),
            (
                "mx.example.org",
                421,
                (7, 0),
                "mx.example.org Error: too many connections from 192.0.2.1",
                Some(Slow),
                None,
            ),
            // RFC 5321 §4.5.3.1.10
            ("mx.example.org", 452, (5, 3), "Too many recipients", Some(Split), None),
            // Google, answer 3726730.
            (
                "aspmx.l.google.com",
                421,
                (7, 28),
                "Gmail has detected an unusual rate of unsolicited mail originating\nfrom your IP address.",
                Some(Slow),
                None,
            ),
            (
                "aspmx.l.google.com",
                450,
                (2, 1),
                "The user you are trying to contact is receiving mail too quickly.\nPlease resend your message at a later time.",
                Some(DeferRecipient),
                None,
            ),
            (
                "aspmx.l.google.com",
                550,
                (1, 1),
                "The email account that you tried to reach does not exist.",
                None,
                None,
            ),
            // Yahoo, SLN3433.
            (
                "mta5.am0.yahoodns.net",
                421,
                (7, 0),
                "[TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
                Some(PauseSite),
                None,
            ),
            ("mx.example.org", 250, (0, 0), "ok", None, None),
        ] {
            assert_eq!(heard(host, code, status, text), (action, wait), "{host}: {code} {text}");
        }
    }

    #[test]
    fn an_address_that_comes_back_in_a_reply_says_nothing_of_the_site() {
        let policies = Policies::shipped().unwrap();
        let to = |text| Address::parse(text).unwrap();
        for (host, address, reply) in [
            ("mx01.mail.icloud.com", "dnsbl-lookup@icloud.com", "<dnsbl-lookup@icloud.com>: no"),
            ("mx01.mail.icloud.com", "dnsbl-lookup@icloud.com", "No mail for DNSBL-Lookup here"),
            ("mx01.mail.icloud.com", "\"dnsbl-lookup x\"@icloud.com", "<\"dnsbl-lookup x\"@icloud.com>: no"),
            ("mta5.am0.yahoodns.net", "[bl01]@yahoo.com", "x [BL01]@yahoo.com y"),
        ] {
            let Ok(address) = Address::parse(address).or_else(|_| Address::parse("x@y.test")) else { panic!() };
            let refused = Reply::plain(550, reply);
            let line = on_one_line(&refused, &[&address]);
            assert_eq!(policies.of_host(host).hint(&refused, &line), None, "{line}");
        }
        // Nor does anything that is wrong with an address.
        let refused = Reply::new(550, 1, 1, "unknown user, dnsbl-lookup");
        let line = on_one_line(&refused, &[&to("x@icloud.com")]);
        assert_eq!(policies.of_host("mx01.mail.icloud.com").hint(&refused, &line), None);
        let refused = Reply::new(550, 7, 1, "Your address failed a DNSBL-lookup");
        let line = on_one_line(&refused, &[&to("x@icloud.com")]);
        assert!(policies.of_host("mx01.mail.icloud.com").hint(&refused, &line).is_some());
    }

    #[test]
    fn a_wait_is_believed_within_bounds() {
        let policies = Policies::shipped().unwrap();
        let named = |text| policies.delays.named(text).map(|d| d.as_secs());
        assert_eq!(named("Please try again in 5 minutes"), Some(300));
        assert_eq!(named("retry after 2 hours"), Some(7200));
        assert_eq!(named("try again in 1 second"), Some(10));
        assert_eq!(named("try again in 99999 hours"), Some(24 * 3600));
        assert_eq!(named("请在10分钟后重试"), Some(600));
        assert_eq!(named("no such user"), None);
    }

    #[test]
    fn codes_are_exact_or_ranges() {
        let statuses: Statuses = "4.7.500-699,5.7.23".parse().unwrap();
        assert!(
            statuses.hold(Enhanced(4, 7, 500))
                && statuses.hold(Enhanced(4, 7, 699))
                && statuses.hold(Enhanced(5, 7, 23))
        );
        assert!(
            !statuses.hold(Enhanced(4, 7, 700))
                && !statuses.hold(Enhanced(5, 7, 500))
                && !statuses.hold(Enhanced(5, 7, 2))
        );
        for text in ["", "4.7", "4.7.x", "4.7.1-", "a,b"] {
            assert!(text.parse::<Statuses>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn trap_06_a_reply_of_any_length_is_looked_at_in_part() {
        let reply = Reply::plain(450, "é".repeat(1_000_000));
        assert!(on_one_line(&reply, &[]).len() <= LOOKED_AT);
    }
}
