//! SPF (RFC 7208): may a host of this address send mail of that domain? Asked of our own domains and addresses so far, by who looks
//! whether the DNS says what it should.
//!
//! [`check`] is given what answers questions ([`Dns`]), and bounds them: ten terms that ask, two answers without records, ten hosts of an MX
//! (§4.6.4, trap 13). It has no clock: who answers has a deadline.

mod macros;
mod record;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use macros::Macros;
use record::{Directive, Mechanism, Record};

/// Terms of all records together that may ask the DNS (§4.6.4).
const LOOKUPS: u32 = 10;
/// Of them those that may find nothing.
const VOIDS: u32 = 2;
/// Hosts of an MX record set, and names of an address, that are looked at.
const HOSTS: usize = 10;

/// Nothing is known: no answer in time, or a server's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// Records of a name; none where there is no such name, or no such record.
pub type Found<T> = Result<Vec<T>, Unanswered>;

/// What answers. Names are as they stand in records.
pub trait Dns: Sync {
    /// The TXT records, the strings of each joined (§3.3).
    fn texts(&self, name: &str) -> impl Future<Output = Found<Vec<u8>>> + Send;
    /// The addresses of one family: A, or AAAA with `v6`.
    fn addresses(&self, name: &str, v6: bool) -> impl Future<Output = Found<IpAddr>> + Send;
    /// The hosts of the MX records, and of nothing else (§5.4).
    fn hosts(&self, name: &str) -> impl Future<Output = Found<String>> + Send;
    /// The names of an address.
    fn names(&self, ip: IpAddr) -> impl Future<Output = Found<String>> + Send;
}

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Where the mail comes from.
    pub ip: IpAddr,
    /// The domain of its sender.
    pub domain: &'a str,
    /// The sender's local part; `postmaster` where there is none (§4.3).
    pub local: &'a str,
    /// What the host calls itself.
    pub helo: &'a str,
}

/// What a domain says of a host (§2.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The domain has no record.
    None,
    /// It says nothing.
    Neutral,
    /// The host may send.
    Pass,
    /// It may not.
    Fail,
    /// It probably may not.
    SoftFail,
    /// The DNS did not answer.
    TempError,
    /// The records cannot be read as they are; why, in words for the administrator.
    PermError(String),
}

/// What [`check`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What comes of it.
    pub outcome: Outcome,
    /// So many terms asked the DNS; eleven when there were more than ten.
    pub lookups: u32,
}

/// `check_host()` of §4.
///
/// ```
/// use std::net::IpAddr;
/// use trust::spf::{self, Asked, Dns, Found, Outcome};
///
/// /// A DNS of one record.
/// struct One;
/// impl Dns for One {
///     async fn texts(&self, name: &str) -> Found<Vec<u8>> {
///         Ok(if name == "x.test" { vec![b"v=spf1 ip4:192.0.2.0/24 -all".to_vec()] } else { vec![] })
///     }
///     async fn addresses(&self, _: &str, _: bool) -> Found<IpAddr> {
///         Ok(vec![])
///     }
///     async fn hosts(&self, _: &str) -> Found<String> {
///         Ok(vec![])
///     }
///     async fn names(&self, _: IpAddr) -> Found<String> {
///         Ok(vec![])
///     }
/// }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let asked = Asked { ip: "192.0.2.25".parse().unwrap(), domain: "x.test", local: "joe", helo: "mx.x.test" };
/// assert_eq!(spf::check(&One, asked).await.outcome, Outcome::Pass);
/// # });
/// ```
pub async fn check<D: Dns>(dns: &D, asked: Asked<'_>) -> Checked {
    // §7.3, %{i}: an IPv4 address is one, however the socket had it.
    let asked = Asked { ip: asked.ip.to_canonical(), ..asked };
    let mut check = Check { dns, asked, lookups: 0, voids: 0 };
    let outcome = match check.domain(asked.domain.to_owned()).await {
        Ok(outcome) => outcome,
        Err(Stop::Temp) => Outcome::TempError,
        Err(Stop::Perm(why)) => Outcome::PermError(why),
    };
    Checked { outcome, lookups: check.lookups }
}

/// The end of all of it.
enum Stop {
    Temp,
    Perm(String),
}

impl From<Unanswered> for Stop {
    fn from(_: Unanswered) -> Self {
        Stop::Temp
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

struct Check<'a, D> {
    dns: &'a D,
    asked: Asked<'a>,
    lookups: u32,
    voids: u32,
}

impl<D: Dns> Check<'_, D> {
    /// What a domain's record says. It goes as deep as there may be lookups.
    fn domain(&mut self, domain: String) -> Boxed<'_, Result<Outcome, Stop>> {
        Box::pin(async move {
            let Some(text) = self.record(&domain).await? else { return Ok(Outcome::None) };
            let record = Record::parse(&text).map_err(|why| Stop::Perm(format!("the record of {domain}: {why}")))?;
            for Directive { outcome, mechanism } in &record.directives {
                if self.matches(mechanism, &domain).await? {
                    return Ok(outcome.clone());
                }
            }
            let Some(target) = record.redirect else { return Ok(Outcome::Neutral) };
            self.asks()?;
            let target = self.expand(&target, &domain).await;
            match self.domain(target.clone()).await? {
                // §6.1
                Outcome::None => Err(Stop::Perm(format!("redirect={target} leads to no record"))),
                outcome => Ok(outcome),
            }
        })
    }

    /// §4.5: the one that begins so, whatever other texts there are.
    async fn record(&self, domain: &str) -> Result<Option<String>, Stop> {
        let texts = self.dns.texts(domain).await?;
        let is_spf = |text: &&Vec<u8>| {
            text.get(..6).is_some_and(|version| version.eq_ignore_ascii_case(b"v=spf1"))
                && text.get(6).is_none_or(|next| *next == b' ')
        };
        match texts.iter().filter(is_spf).collect::<Vec<_>>()[..] {
            [] => Ok(None),
            [one] => match str::from_utf8(one) {
                Ok(text) if text.is_ascii() => Ok(Some(text.to_owned())),
                _ => Err(Stop::Perm(format!("the record of {domain} is not ASCII"))),
            },
            ref more => Err(Stop::Perm(format!("{domain} has {} records; make one of them", more.len()))),
        }
    }

    /// §4.6.4: a term asks.
    fn asks(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > LOOKUPS {
            return Err(Stop::Perm(format!("more than {LOOKUPS} terms ask the DNS")));
        }
        Ok(())
    }

    /// What a term found: too often nothing ends it.
    fn found<T>(&mut self, found: Vec<T>) -> Result<Vec<T>, Stop> {
        self.voids += u32::from(found.is_empty());
        if self.voids > VOIDS {
            return Err(Stop::Perm(format!("more than {VOIDS} terms ask the DNS for what is not there")));
        }
        Ok(found)
    }

    async fn expand(&self, target: &Macros, domain: &str) -> String {
        let validated = if target.asks_for_names() { self.validated(domain).await } else { Vec::new() };
        target.expand(&self.asked, domain, validated.first().map(String::as_str))
    }

    /// The domain that a term names, or the one that it stands at.
    async fn target(&self, named: Option<&Macros>, domain: &str) -> String {
        match named {
            Some(named) => self.expand(named, domain).await,
            None => domain.to_owned(),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism, domain: &str) -> Result<bool, Stop> {
        let (ip, v6) = (self.asked.ip, self.asked.ip.is_ipv6());
        if mechanism.asks() {
            self.asks()?;
        }
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip(network, bits) => Ok(is_in(ip, *network, *bits)),
            Mechanism::Include(target) => {
                let target = self.expand(target, domain).await;
                match self.domain(target.clone()).await? {
                    Outcome::Pass => Ok(true),
                    // §5.2
                    Outcome::None => Err(Stop::Perm(format!("include:{target} leads to no record"))),
                    _ => Ok(false),
                }
            }
            Mechanism::A(named, bits) => {
                let target = self.target(named.as_ref(), domain).await;
                let found = self.dns.addresses(&target, v6).await?;
                Ok(self.found(found)?.iter().any(|one| is_in(ip, *one, bits.of(v6))))
            }
            Mechanism::Mx(named, bits) => {
                let target = self.target(named.as_ref(), domain).await;
                let hosts = self.dns.hosts(&target).await?;
                let hosts = self.found(hosts)?;
                if hosts.len() > HOSTS {
                    return Err(Stop::Perm(format!("{target} has more than {HOSTS} MX records")));
                }
                for host in &hosts {
                    if self.dns.addresses(host, v6).await?.iter().any(|one| is_in(ip, *one, bits.of(v6))) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Mechanism::Ptr(named) => {
                let target = self.target(named.as_ref(), domain).await.to_ascii_lowercase();
                let is_below = |name: &String| {
                    let name = name.to_ascii_lowercase();
                    name.strip_suffix(&target).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                };
                Ok(self.validated(domain).await.iter().any(is_below))
            }
            // §5.7: of A, whatever family the host is of. What is not there matches nothing.
            Mechanism::Exists(target) => {
                let target = self.expand(target, domain).await;
                let found = self.dns.addresses(&target, false).await?;
                Ok(!self.found(found)?.is_empty())
            }
        }
    }

    /// The names of the address that lead back to it (§5.5); those of the domain first. What fails is none.
    async fn validated(&self, domain: &str) -> Vec<String> {
        let (ip, mut names) = (self.asked.ip, Vec::new());
        for name in self.dns.names(ip).await.unwrap_or_default().into_iter().take(HOSTS) {
            if self.dns.addresses(&name, ip.is_ipv6()).await.is_ok_and(|found| found.contains(&ip)) {
                names.push(name);
            }
        }
        // §7.3, %{p}
        names.sort_by_key(|name| (!name.eq_ignore_ascii_case(domain), !name.ends_with(&format!(".{domain}"))));
        names
    }
}

/// Whether the first `bits` of the two are the same.
fn is_in(ip: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let differs = ip.to_bits() ^ network.to_bits();
            differs.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let differs = ip.to_bits() ^ network.to_bits();
            differs.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
