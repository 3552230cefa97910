//! Where mail for a domain goes: to a fixed route, else to the smart host, else to the mail hosts that the DNS names. Domains
//! with the same mail hosts are one hop, and share connections; but one with a policy of its own (MTA-STS) shares them with
//! nobody, as others' connections were checked less, or by other rules (traps 15, 26).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base::Reply;
use net::{Answer, Deadline, DnsError, MailHost, MailHosts, Resolver, is_special};
use queue::source::SourceId;
use trust::mta_sts::Demand;

use crate::dane;
use crate::guard::Guard;
use crate::shape::Family;
use crate::sts::{self, Sts};

/// How long the DNS may take for the addresses of one host.
const DNS: Duration = Duration::from_secs(30);
/// And for all names of a hop.
const DNS_IN_ALL: Duration = Duration::from_secs(60);
/// So many addresses of a hop are tried for one connection, and so many of one host: the next host is to have its turn.
const ADDRESSES: usize = 20;
const OF_ONE_HOST: usize = 5;
/// RFC 5321 §4.5.4.2
const SMTP: u16 = 25;

/// A host and a port: `mx.example.org:25`, `192.0.2.1:25`, `[2001:db8::1]:25`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A text that is no [`HostPort`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadHostPort(String);

impl fmt::Display for BadHostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no host with a port (like mx.example.org:25, 192.0.2.1:25 or [2001:db8::1]:25)", self.0)
    }
}

impl std::error::Error for BadHostPort {}

impl FromStr for HostPort {
    type Err = BadHostPort;

    fn from_str(text: &str) -> Result<Self, BadHostPort> {
        let bad = || BadHostPort(text.chars().take(300).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().ok().filter(|p| *p > 0).ok_or_else(bad)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?.to_string(),
            None => host.to_ascii_lowercase(),
        };
        let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if host.is_empty() || !is_name && host.parse::<IpAddr>().is_err() {
            return Err(bad());
        }
        Ok(HostPort { host, port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// A host that takes all our mail for elsewhere.
#[derive(Clone)]
pub struct Smarthost {
    /// Where it is. On port 465 TLS comes first (RFC 8314 §3.3).
    pub address: HostPort,
    /// User and password. With them TLS is a must, and the host's certificate must be good.
    pub login: Option<(String, String)>,
}

/// The password stays out of logs.
impl fmt::Debug for Smarthost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smarthost").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What the administrator says about the way out.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By domain, as [`base::domain`] has it.
    pub fixed: BTreeMap<String, HostPort>,
    /// For every other domain.
    pub smarthost: Option<Smarthost>,
}

/// The next hop of a mail. Mails for one hop share connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hop {
    pub(crate) to: To,
    /// What it is sent to by.
    pub(crate) source: SourceId,
    /// The mail may pass only under TLS, to a host that is who it says (RFC 8689).
    pub(crate) require_tls: bool,
    /// What the domain of the recipients asks of the way.
    pub(crate) sts: Option<Arc<Sts>>,
    /// DNSSEC proves that these are its mail hosts: what the DNS says of their certificates counts (RFC 7672 §2.2.1).
    pub(crate) dane: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum To {
    Fixed(Arc<HostPort>),
    Smarthost,
    Hosts(Arc<Hosts>),
}

/// The mail hosts of a domain, the preferred first; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Hosts(Vec<(u16, String)>);

impl Hosts {
    fn new(hosts: Vec<MailHost>) -> Self {
        let mut hosts: Vec<_> = hosts.into_iter().map(|mx| (mx.preference, mx.host)).collect();
        hosts.sort();
        Hosts(hosts)
    }

    /// These, the first most preferred.
    #[cfg(test)]
    pub(crate) fn of(hosts: &[&str]) -> Self {
        Hosts((0..).zip(hosts).map(|(n, host)| (n, (*host).to_owned())).collect())
    }

    /// All of them, each with its preference.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u16, &str)> {
        self.0.iter().map(|(preference, host)| (*preference, host.as_str()))
    }

    /// Their names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|(_, host)| host)
    }

    /// A preferred one.
    pub(crate) fn first(&self) -> &str {
        self.0.first().map_or("", |(_, host)| host)
    }

    /// RFC 5321 §5.1: by preference, at random among equals.
    fn in_turn(&self, mut random: impl FnMut() -> u64) -> Vec<&str> {
        let mut hosts: Vec<_> = self.0.iter().collect();
        hosts.sort_by_cached_key(|(preference, _)| (*preference, random()));
        hosts.into_iter().map(|(_, host)| host.as_str()).collect()
    }
}

impl Hop {
    /// By the source that is always there, until another is chosen.
    pub(crate) fn new(to: To, require_tls: bool) -> Self {
        Hop { to, source: SourceId::DEFAULT, require_tls, sts: None, dane: false }
    }

    /// For mail that goes whatever the domain of its recipients demands of TLS.
    pub(crate) fn whatever_is_demanded(self) -> Self {
        Hop { sts: None, dane: false, ..self }
    }

    /// The same, by another source.
    pub(crate) fn by(&self, source: SourceId) -> Self {
        Hop { source, ..self.clone() }
    }
}

impl To {
    /// What it is called among sites.
    pub(crate) fn label(&self) -> &str {
        match self {
            To::Fixed(to) => &to.host,
            To::Smarthost => "smarthost",
            To::Hosts(hosts) => hosts.first(),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            To::Fixed(to) => to.fmt(f),
            To::Smarthost => f.write_str("the smart host"),
            To::Hosts(hosts) => f.write_str(hosts.first()),
        }
    }
}

impl Routes {
    /// The hop that the administrator has chosen for a domain, if he has.
    pub(crate) fn chosen(&self, domain: &str, require_tls: bool) -> Option<Hop> {
        let to = match (self.fixed.get(domain), &self.smarthost) {
            (Some(to), _) => To::Fixed(Arc::new(to.clone())),
            (None, Some(_)) => To::Smarthost,
            (None, None) => return None,
        };
        // Whom the administrator names is his to trust: what the recipient's domain asks is for its own hosts.
        Some(Hop::new(to, require_tls))
    }
}

/// An address to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The host's name, or its address.
    pub(crate) host: String,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    /// What it has to prove.
    pub(crate) guard: Guard,
}

impl Target {
    /// The name that the host is asked for in the TLS handshake.
    pub(crate) fn asked_for(&self) -> &str {
        match &self.guard {
            Guard::Dane(dane) => &dane.base,
            _ => &self.host,
        }
    }
}

/// Where the mail of a domain goes, as the DNS says.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) hosts: Hosts,
    /// Nobody can have forged it: DNSSEC proves it, or there is nothing but the domain's own name.
    pub(crate) proven: bool,
}

/// The mail hosts of a domain, or of an address literal in brackets.
///
/// # Errors
/// The reply for all mail to that domain: 4xx when asking again may help.
pub(crate) async fn hosts(domain: &str, resolver: &Resolver, deadline: Deadline, ours: &str) -> Result<Named, Reply> {
    // RFC 5321 §4.1.3: an address literal is its own host.
    if let Some(literal) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        let host = literal.trim_start_matches("IPv6:").trim_start_matches("ipv6:").to_owned();
        return Ok(Named { hosts: Hosts(vec![(0, host)]), proven: true });
    }
    let hosts = resolver.mail_hosts(domain, || 0, deadline).await.map_err(|e| unknown(domain, &e))?;
    match hosts {
        MailHosts::Mx(answer) => named(answer.records, answer.secure, ours),
        // RFC 5321 §5.1: the implicit MX. Its certificate must name the domain itself, so nothing can be forged.
        MailHosts::Implicit => named(vec![MailHost { preference: 0, host: domain.to_owned() }], true, ours),
        // RFC 7505 §4.2
        MailHosts::Null => Err(Reply::new(556, 1, 10, format!("{domain} takes no mail (null MX)"))),
    }
}

fn named(hosts: Vec<MailHost>, proven: bool, ours: &str) -> Result<Named, Reply> {
    not_ours(hosts, ours).map(|hosts| Named { hosts: Hosts::new(hosts), proven })
}

/// RFC 8689 §4.2.1: whether mail that demands TLS may go to these hosts. A forged answer would lead to a host whose
/// certificate is good for its own name, so DNSSEC or an enforced policy must vouch for the names.
///
/// # Errors
/// The reply for all such mail.
pub(crate) fn vouched_for(domain: &str, named: &Named, sts: Option<&Arc<Sts>>, validates: bool) -> Result<(), Reply> {
    if named.proven || sts.is_some_and(|sts| sts.enforces()) {
        return Ok(());
    }
    let text = format!(
        "The mail demands TLS (REQUIRETLS), and neither DNSSEC nor an MTA-STS policy vouches for the mail hosts of {domain}"
    );
    Err(if validates { Reply::new(550, 7, 30, text) } else { Reply::new(451, 7, 5, ours_is_no_proof(&text)) })
}

/// That DNSSEC proves nothing may be the fault of our resolver.
fn ours_is_no_proof(text: &str) -> String {
    format!("{text}; but this server's DNS resolver does not validate, which its own administrator can mend")
}

/// The addresses of a hop, in the order in which they are to be tried; at least one.
///
/// # Errors
/// The reply for all mail to that hop: 4xx when asking again may help.
pub(crate) async fn targets(
    routes: &Routes,
    hop: &Hop,
    family: Family,
    resolver: &Resolver,
    random: impl FnMut() -> u64,
) -> Result<Vec<Target>, Reply> {
    let to = match (&hop.to, &routes.smarthost) {
        (To::Fixed(to), _) => to,
        (To::Smarthost, Some(smarthost)) => &smarthost.address,
        (To::Smarthost, None) => return Err(Reply::new(451, 3, 5, "There is no smart host any more")),
        (To::Hosts(hosts), _) => return of_hosts(hosts, hop, family, resolver, random).await,
    };
    let addresses = addresses(&to.host, resolver, Deadline::after(DNS)).await?;
    let addresses = in_turn(addresses.records).into_iter().take(OF_ONE_HOST);
    Ok(addresses.map(|ip| Target { host: to.host.clone(), ip, port: to.port, guard: Guard::Open }).collect())
}

async fn of_hosts(
    hosts: &Hosts,
    hop: &Hop,
    family: Family,
    resolver: &Resolver,
    random: impl FnMut() -> u64,
) -> Result<Vec<Target>, Reply> {
    let in_all = Deadline::after(DNS_IN_ALL);
    let soon = || Deadline::after(DNS).min(in_all);
    let (mut targets, mut special, mut failure) = (Vec::new(), false, None);
    for host in hosts.in_turn(random) {
        match guarded(hop, host, resolver, soon()).await {
            Ok((addresses, guard)) => {
                // Trap 18: a stranger's DNS must not lead us into our own network, nor to ourselves.
                special |= addresses.iter().any(|ip| is_special(*ip));
                let public = in_order(addresses, family).filter(|ip| !is_special(*ip)).take(OF_ONE_HOST);
                let target = |ip| Target { host: host.to_owned(), ip, port: SMTP, guard: guard.clone() };
                targets.extend(public.map(target));
            }
            // Of several reasons one that may pass counts.
            Err(reply) if failure.as_ref().is_none_or(|f: &Reply| !f.is_transient()) => failure = Some(reply),
            Err(_) => {}
        }
        if targets.len() >= ADDRESSES {
            break;
        }
    }
    targets.truncate(ADDRESSES);
    match (targets.is_empty(), failure) {
        (false, _) => Ok(targets),
        (true, Some(reply)) if reply.is_transient() || !special => Err(reply),
        (true, _) if !special => {
            Err(Reply::new(451, 4, 4, format!("{} has no addresses that its site is to be reached by", hosts.first())))
        }
        _ => Err(Reply::new(550, 4, 6, format!("{} has no public addresses", hosts.first()))),
    }
}

/// The addresses of a mail host, and what it has to prove.
///
/// # Errors
/// Why there is no way to it, or none that may be gone.
async fn guarded(
    hop: &Hop,
    host: &str,
    resolver: &Resolver,
    deadline: Deadline,
) -> Result<(Vec<IpAddr>, Guard), Reply> {
    let addresses = addresses(host, resolver, deadline).await?;
    if hop.dane
        && let Some(guard) = dane::guard(host, SMTP, &addresses, resolver, deadline).await?
    {
        return Ok((addresses.records, guard));
    }
    let guard = match (sts::demand(hop.sts.as_ref(), host), &hop.sts) {
        (Demand::Refused, Some(sts)) => return Err(Reply::new(451, 7, 5, sts.refusal(host))),
        (Demand::Verified, Some(sts)) => Guard::Sts(sts.clone()),
        _ => Guard::Open,
    };
    Ok((addresses.records, guard))
}

/// As the site bears it.
fn in_order(addresses: Vec<IpAddr>, family: Family) -> impl Iterator<Item = IpAddr> {
    let mut all = in_turn(addresses);
    match family {
        Family::Any => {}
        Family::V4First => all.sort_by_key(IpAddr::is_ipv6),
        Family::V4Only => all.retain(IpAddr::is_ipv4),
    }
    all.into_iter()
}

/// RFC 5321 §5.1: we are one of the mail hosts, so only those that are preferred to us may get it.
fn not_ours(hosts: Vec<MailHost>, ours: &str) -> Result<Vec<MailHost>, Reply> {
    let our_own = hosts.iter().find(|mx| mx.host.eq_ignore_ascii_case(ours)).map(|mx| mx.preference);
    let before = |mx: &MailHost| our_own.is_none_or(|ours| mx.preference < ours);
    let hosts: Vec<MailHost> = hosts.into_iter().filter(before).collect();
    if hosts.is_empty() { Err(to_ourselves()) } else { Ok(hosts) }
}

/// Trap 18.
pub(crate) fn to_ourselves() -> Reply {
    Reply::new(550, 4, 6, "Mail for this domain would come back to this server, which does not know the domain")
}

/// One family after the other in turn, beginning with IPv6: where one of them leads nowhere, as in many an office, the
/// other is not left out.
fn in_turn(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

async fn addresses(host: &str, resolver: &Resolver, deadline: Deadline) -> Result<Answer<IpAddr>, Reply> {
    if let Ok(ip) = host.parse() {
        return Ok(Answer { records: vec![ip], name: host.to_owned(), secure: false, alias: None });
    }
    resolver.addresses(host, deadline).await.map_err(|error| unknown(host, &error))
}

fn unknown(name: &str, error: &DnsError) -> Reply {
    match error {
        DnsError::Transient(_) => Reply::new(451, 4, 3, format!("{name}: {error}")),
        DnsError::NoData => Reply::new(550, 4, 4, format!("{name} has neither a mail host nor an address")),
        DnsError::NoSuchName | DnsError::BadName => Reply::new(550, 1, 2, format!("{name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use net::Zone;

    use super::*;

    fn zone() -> Zone {
        let ip = |s: &str| s.parse().unwrap();
        Zone::default()
            .mx("two.test", 20, "b.two.test")
            .mx("two.test", 10, "a.two.test")
            .ip("a.two.test", ip("192.0.2.1"))
            .ip("a.two.test", ip("2001:db8::1"))
            .ip("b.two.test", ip("192.0.2.2"))
            .ip("plain.test", ip("192.0.2.3"))
            .txt("empty.test", "nothing else")
            .mx("null.test", 0, ".")
            .mx("inside.test", 10, "inner.inside.test")
            .ip("inner.inside.test", ip("10.0.0.1"))
            .ip("inner.inside.test", ip("127.0.0.1"))
            .mx("backup.test", 10, "mx.backup.test")
            .mx("backup.test", 20, "mx.ours.test")
            .mx("backup.test", 30, "far.backup.test")
            .ip("mx.backup.test", ip("192.0.2.4"))
            .mx("ours.test", 10, "mx.ours.test")
            .ip("mx.ours.test", ip("192.0.2.5"))
            .signed("two.test")
            .mx("half.test", 10, "gone.half.test")
            .mx("half.test", 20, "b.two.test")
            .mx("lost.test", 10, "gone.lost.test")
            .mx("slow.test", 10, "mx.slow.test")
            .fails("mx.slow.test")
            .fails("broken.test")
    }

    async fn find(
        routes: &Routes,
        domain: &str,
        require_tls: bool,
        family: Family,
        dns: &Resolver,
    ) -> Result<Vec<Target>, Reply> {
        let hop = match routes.chosen(domain, require_tls) {
            Some(hop) => hop,
            None => {
                let named = hosts(domain, dns, Deadline::after(DNS), "mx.ours.test").await?;
                if require_tls {
                    vouched_for(domain, &named, None, true)?;
                }
                Hop::new(To::Hosts(Arc::new(named.hosts)), require_tls)
            }
        };
        targets(routes, &hop, family, dns, || 0).await
    }

    async fn way(domain: &str) -> Result<Vec<String>, String> {
        way_for(domain, false).await
    }

    async fn way_for(domain: &str, require_tls: bool) -> Result<Vec<String>, String> {
        let routes = Routes {
            fixed: BTreeMap::from([("fixed.test".into(), "127.0.0.1:2500".parse().unwrap())]),
            smarthost: None,
        };
        let found = find(&routes, domain, require_tls, Family::Any, &Resolver::memory(zone())).await;
        let shown = |t: Target| format!("{} {}:{}", t.host, t.ip, t.port);
        found.map(|all| all.into_iter().map(shown).collect()).map_err(|r| r.to_string()[..9].into())
    }

    #[tokio::test]
    async fn a_hop_is_found_as_rfc_5321_says() {
        assert_eq!(
            way("two.test").await.unwrap(),
            ["a.two.test 2001:db8::1:25", "a.two.test 192.0.2.1:25", "b.two.test 192.0.2.2:25"]
        );
        assert_eq!(way("plain.test").await.unwrap(), ["plain.test 192.0.2.3:25"]);
        assert_eq!(way("[192.0.2.9]").await.unwrap(), ["192.0.2.9 192.0.2.9:25"]);
        assert_eq!(way("[IPv6:2001:db8::9]").await.unwrap(), ["2001:db8::9 2001:db8::9:25"]);
        assert_eq!(way("half.test").await.unwrap(), ["b.two.test 192.0.2.2:25"]);
        assert_eq!(way("fixed.test").await.unwrap(), ["127.0.0.1 127.0.0.1:2500"]);
        for (domain, reply) in [
            ("null.test", "556 5.1.10"),
            ("missing.test", "550 5.1.2"),
            ("empty.test", "550 5.4.4"),
            ("lost.test", "550 5.1.2"),
            ("broken.test", "451 4.4.3"),
            ("slow.test", "451 4.4.3"),
        ] {
            assert_eq!(way(domain).await, Err(reply[..9].into()), "{domain}");
        }
    }

    #[tokio::test]
    async fn no_host_and_no_family_of_addresses_has_all_the_turns() {
        let ip = |s: String| s.parse().unwrap();
        let mut zone = Zone::default().mx("big.test", 10, "a.big.test").mx("big.test", 20, "b.big.test");
        for n in 1..=10 {
            zone = zone.ip("a.big.test", ip(format!("2001:db8::{n}"))).ip("a.big.test", ip(format!("192.0.2.{n}")));
        }
        let dns = Resolver::memory(zone.ip("b.big.test", ip("192.0.2.99".into())));
        let routes = Routes::default();
        let found = find(&routes, "big.test", false, Family::Any, &dns).await.unwrap();
        let v6 = found.iter().filter(|t| t.ip.is_ipv6()).count();
        assert_eq!((found.len(), v6, found[0].ip.is_ipv6(), found[1].ip.is_ipv4()), (6, 3, true, true), "{found:?}");
        assert_eq!(found[5].host, "b.big.test");
        let found = find(&routes, "big.test", false, Family::V4First, &dns).await.unwrap();
        assert!(found[0].ip.is_ipv4(), "{found:?}");
        let found = find(&routes, "big.test", false, Family::V4Only, &dns).await.unwrap();
        assert!(found.iter().all(|t| t.ip.is_ipv4()), "{found:?}");
    }

    #[tokio::test]
    async fn domains_with_the_same_hosts_are_one_hop_in_whatever_order_the_dns_gives_them() {
        let zone = Zone::default()
            .mx("one.test", 10, "a.mx.test")
            .mx("one.test", 10, "b.mx.test")
            .mx("two.test", 10, "b.mx.test")
            .mx("two.test", 10, "a.mx.test")
            .mx("three.test", 10, "a.mx.test")
            .mx("three.test", 20, "b.mx.test");
        let dns = Resolver::memory(zone);
        let of = async |domain| hosts(domain, &dns, Deadline::after(DNS), "mx.ours.test").await.unwrap().hosts;
        assert_eq!(of("one.test").await, of("two.test").await);
        assert_ne!(of("one.test").await, of("three.test").await);
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_silent_names_do_not_take_all_day() {
        let mut zone = Zone::default().mx("slow.test", 1, "good.slow.test").ip("good.slow.test", [192, 0, 2, 1].into());
        let names: Vec<String> = (0..15).map(|n| format!("h{n}.slow.test")).collect();
        for name in &names {
            zone = zone.mx("slow.test", 10, name).silent(name);
        }
        let (dns, routes, start) = (Resolver::memory(zone), Routes::default(), tokio::time::Instant::now());
        let found = find(&routes, "slow.test", false, Family::Any, &dns).await.unwrap();
        assert_eq!((found.len(), start.elapsed()), (1, DNS_IN_ALL));
    }

    #[tokio::test]
    async fn trap_18_no_way_leads_to_ourselves_or_inside() {
        for domain in ["ours.test", "mx.ours.test", "inside.test", "[127.0.0.1]", "[IPv6:::1]", "[10.1.1.1]"] {
            assert_eq!(way(domain).await, Err("550 5.4.6".into()), "{domain}");
        }
        // We are its backup: only what is preferred to us remains.
        assert_eq!(way("backup.test").await.unwrap(), ["mx.backup.test 192.0.2.4:25"]);
    }

    #[tokio::test]
    async fn with_requiretls_the_mail_host_must_be_known_for_sure() {
        assert_eq!(way_for("two.test", true).await.unwrap().len(), 3);
        // Its certificate has to name the domain itself.
        assert_eq!(way_for("plain.test", true).await.unwrap(), ["plain.test 192.0.2.3:25"]);
        assert_eq!(way_for("half.test", true).await, Err("550 5.7.3".into()));
        assert_eq!(way_for("fixed.test", true).await.unwrap().len(), 1);
    }

    #[test]
    fn hosts_with_ports() {
        for text in ["mx.example.org:25", "192.0.2.1:2525", "[2001:db8::1]:25"] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        for text in ["", "mx.example.org", ":25", "mx:0", "mx:65536", "2001:db8::1", "[mx]:25", "a b:25", "mx/:25"] {
            assert!(text.parse::<HostPort>().is_err(), "{text:?}");
        }
    }
}
