//! Whom there is mail for: a domain each, and what is peculiar about it.

use std::time::Duration;

use simnet::{Block, Character, Faults, Tls, Wording};

/// A domain, its mail host, and what both are like.
pub struct Case {
    pub domain: &'static str,
    pub peculiar: Peculiar,
    pub shows: Shown,
    pub mx: Mx,
    pub dane: Dane,
    pub policy: Option<Policy>,
}

/// What a host does.
#[derive(Clone, Copy)]
pub enum Peculiar {
    Nothing,
    /// It wants to see a sender again, after so many seconds.
    Greylists(u64),
    /// It bears no connection.
    Full,
    /// It takes one mail an hour.
    Counts,
    /// It takes one in so many seconds, and says to who sends another that it was enough for this hour.
    Tires(u64),
    /// It cuts the connection: at the greeting, MAIL, RCPT, DATA, within the body, at its end.
    Drops(usize),
    /// It knows nobody.
    Unknown,
    /// All mailboxes are full.
    MailboxFull,
    /// It refuses what it has read.
    Refuses,
    /// Its answers take seconds, and so does its reading.
    Slow,
    /// Whatever the test wants, which serves there itself.
    Left,
}

/// What certificate a host shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It has no TLS.
    None,
    Good,
    OfAnother,
    Expired,
    /// By nobody whom anybody knows.
    OwnWord,
}

/// Where the mail of a domain goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mx {
    Host,
    /// Nowhere (RFC 7505).
    Null,
    /// To whoever asks.
    Loopback,
    /// To a name that is not there.
    Nobody,
}

/// What the DNS says of the host's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dane {
    None,
    Right,
    Wrong,
    /// In a way that nobody can use (RFC 7671 §5.2: usage 0).
    Unusable,
}

/// What a domain's policy says (RFC 8461).
pub struct Policy {
    /// `enforce`, `testing`; none is not to be found.
    pub mode: Option<&'static str>,
    /// It names the domain's mail host.
    pub names_host: bool,
    /// By its web server.
    pub shows: Shown,
}

impl Policy {
    const ENFORCED: Policy = Policy { mode: Some("enforce"), names_host: true, shows: Shown::Good };

    /// As it is published.
    pub fn text(&self, case: &Case) -> Option<String> {
        let host = if self.names_host { case.mail_host() } else { "mx.elsewhere.test".into() };
        Some(format!("version: STSv1\r\nmode: {}\r\nmx: {host}\r\nmax_age: 86400\r\n", self.mode?))
    }
}

impl Case {
    const fn of(domain: &'static str) -> Self {
        Case { domain, peculiar: Peculiar::Nothing, shows: Shown::None, mx: Mx::Host, dane: Dane::None, policy: None }
    }

    const fn with(domain: &'static str, peculiar: Peculiar) -> Self {
        Case { peculiar, ..Case::of(domain) }
    }

    const fn showing(domain: &'static str, shows: Shown) -> Self {
        Case { shows, ..Case::of(domain) }
    }

    const fn named(domain: &'static str, shows: Shown, dane: Dane) -> Self {
        Case { shows, dane, ..Case::of(domain) }
    }

    const fn under(domain: &'static str, shows: Shown, policy: Policy) -> Self {
        Case { shows, policy: Some(policy), ..Case::of(domain) }
    }

    pub fn is_left(&self) -> bool {
        matches!(self.peculiar, Peculiar::Left)
    }

    pub fn mail_host(&self) -> String {
        format!("mx.{}", self.domain)
    }

    pub fn character(&self) -> Character {
        let usual = Character {
            connections: 20,
            messages: 100,
            quotas: Vec::new(),
            wording: Wording::TooMuch,
            patience: 100.0,
            block: Block::Defers,
            blocks_for: Duration::from_secs(3600),
            reply: Duration::ZERO,
            tarpit: Duration::ZERO,
            reads_for: Duration::ZERO,
            greylist: None,
            tls: Tls::None,
            faults: Faults::default(),
        };
        let faulty = |faults| Character { faults, ..usual.clone() };
        match self.peculiar {
            Peculiar::Nothing | Peculiar::Left => usual,
            Peculiar::Greylists(seconds) => Character { greylist: Some(Duration::from_secs(seconds)), ..usual },
            Peculiar::Full => Character { connections: 0, ..usual },
            Peculiar::Counts => {
                let hour = simnet::Quota { count: 1, span: Duration::from_secs(3600) };
                Character { quotas: vec![hour], ..usual }
            }
            Peculiar::Tires(seconds) => {
                let short = simnet::Quota { count: 1, span: Duration::from_secs(seconds) };
                Character { quotas: vec![short], wording: Wording::Hourly, ..usual }
            }
            Peculiar::Drops(at) => {
                let mut drops = [0.0; 6];
                drops[at] = 1.0;
                faulty(Faults { drops, ..Faults::default() })
            }
            Peculiar::Unknown => faulty(Faults { unknown: 1.0, ..Faults::default() }),
            Peculiar::MailboxFull => faulty(Faults { full: 1.0, ..Faults::default() }),
            Peculiar::Refuses => faulty(Faults { refused: 1.0, ..Faults::default() }),
            Peculiar::Slow => {
                let second = Duration::from_secs(1);
                Character { reply: second / 2, tarpit: 2 * second, reads_for: 2 * second, ..usual }
            }
        }
    }
}

/// Domains below `test` are signed, those below `open` are not, and what is below `bogus` is not what its parent says.
pub const CASES: &[Case] = &[
    Case::of("plain.test"),
    Case::with("grey.test", Peculiar::Greylists(2)),
    Case::with("crowded.test", Peculiar::Full),
    Case::with("counts.test", Peculiar::Counts),
    Case::with("tires.test", Peculiar::Tires(10)),
    Case::with("drops-greeting.test", Peculiar::Drops(0)),
    Case::with("drops-mail.test", Peculiar::Drops(1)),
    Case::with("drops-rcpt.test", Peculiar::Drops(2)),
    Case::with("drops-data.test", Peculiar::Drops(3)),
    Case::with("drops-body.test", Peculiar::Drops(4)),
    Case::with("drops-end.test", Peculiar::Drops(5)),
    Case::with("unknown.test", Peculiar::Unknown),
    Case::with("full.test", Peculiar::MailboxFull),
    Case::with("refuses.test", Peculiar::Refuses),
    Case::with("slow.test", Peculiar::Slow),
    Case::with("out.test", Peculiar::Left),
    Case { mx: Mx::Null, ..Case::of("null.test") },
    Case { mx: Mx::Loopback, ..Case::of("loopback.test") },
    Case { mx: Mx::Nobody, ..Case::of("nobody.test") },
    Case::showing("tls.test", Shown::Good),
    Case::showing("tls-another.test", Shown::OfAnother),
    Case::showing("tls-expired.test", Shown::Expired),
    Case::named("dane.test", Shown::OwnWord, Dane::Right),
    Case::named("dane-wrong.test", Shown::Good, Dane::Wrong),
    Case::named("dane-clear.test", Shown::None, Dane::Wrong),
    Case::named("dane-unusable.test", Shown::OwnWord, Dane::Unusable),
    Case::named("dane.open", Shown::OwnWord, Dane::Wrong),
    Case::named("dane.bogus", Shown::OwnWord, Dane::Right),
    Case::under("sts.test", Shown::Good, Policy::ENFORCED),
    Case::under("sts-clear.test", Shown::None, Policy::ENFORCED),
    Case::under("sts-another.test", Shown::OfAnother, Policy::ENFORCED),
    Case::under("sts-expired.test", Shown::Expired, Policy::ENFORCED),
    Case::under("sts-unnamed.test", Shown::Good, Policy { names_host: false, ..Policy::ENFORCED }),
    Case::under("sts-testing.test", Shown::OwnWord, Policy { mode: Some("testing"), ..Policy::ENFORCED }),
    Case::under("sts-gone.test", Shown::OwnWord, Policy { mode: None, ..Policy::ENFORCED }),
    Case::under("sts-untrusted.test", Shown::OwnWord, Policy { shows: Shown::OwnWord, ..Policy::ENFORCED }),
    // DANE goes before a policy (RFC 8461 §2).
    Case { dane: Dane::Right, ..Case::under("both.test", Shown::OwnWord, Policy::ENFORCED) },
];
