//! DNS as mail needs it: MX, addresses, TXT and PTR, each with a deadline and a bound, and each failure told apart by
//! what it means for the mail: try again later, or never.
//!
//! The answers come from real servers (`dns.rs`) or from a table in memory (`zone.rs`); following aliases, ordering and
//! bounds are done here, once, for both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::dns::{self, Servers};
use crate::{Deadline, Tlsa, Zone};

/// The most MX hosts, and the most addresses of one host, that are returned: a hostile zone may list hundreds, and each
/// would be tried.
const MAX_HOSTS: usize = 20;
/// The most TXT records. Large domains have dozens for verification beside the one that is looked for.
const MAX_TXT: usize = 100;
/// The most TLSA records of one host.
const MAX_TLSA: usize = 50;
/// The most names of one address. RFC 7208 §5.5 looks at ten.
const MAX_PTR: usize = 10;
/// The longest chain of aliases followed.
pub(crate) const MAX_ALIASES: usize = 10;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsError {
    /// NXDOMAIN: there is no such name, of any type. Permanent.
    NoSuchName,
    /// The name is there, but has no records of this type. Permanent.
    NoData,
    /// The text is no DNS name. Permanent.
    BadName,
    /// No answer in time, a server's failure, a signature that does not verify: nothing is known, ask again later. The
    /// text is for logs.
    Transient(String),
}

impl DnsError {
    /// True when asking again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, DnsError::Transient(_))
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DnsError::NoSuchName => f.write_str("there is no such name in the DNS"),
            DnsError::NoData => f.write_str("the name has no such record in the DNS"),
            DnsError::BadName => f.write_str("this is no DNS name"),
            DnsError::Transient(why) => write!(f, "the DNS did not answer: {why}"),
        }
    }
}

impl std::error::Error for DnsError {}

/// The records of one name; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// In the order of the server, except where said otherwise.
    pub records: Vec<T>,
    /// The name that has them: the one asked for, or where its aliases (CNAME) lead. Lower case, without the last dot.
    pub name: String,
    /// True when DNSSEC proves all of it, aliases included (RFC 4035 §4.3 "secure"). False when that was not asked for.
    pub secure: bool,
    /// For a name that is an alias (CNAME): whether DNSSEC proves that, wherever it leads.
    pub alias: Option<bool>,
}

/// A host that takes mail for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailHost {
    /// Lower is tried first (RFC 5321 §5.1).
    pub preference: u16,
    /// Lower case, without the last dot.
    pub host: String,
}

/// Where the mail of a domain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailHosts {
    /// To these hosts, in this order: by preference, at random among equals (RFC 5321 §5.1).
    Mx(Answer<MailHost>),
    /// The domain has no MX records: to its own address, if it has one (RFC 5321 §5.1 "implicit MX").
    Implicit,
    /// Nowhere: the domain takes no mail, and says so (RFC 7505). Permanent.
    Null,
}

/// Asks the DNS. Clones share one cache.
#[derive(Clone, Debug)]
pub struct Resolver(Source);

#[derive(Clone, Debug)]
enum Source {
    Servers(Arc<Servers>),
    Memory(Arc<Mutex<Zone>>),
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mx,
    V4,
    V6,
    Txt,
    Ptr,
    Tlsa,
}

/// One record of an answer; `owner` and the names in it are in lower case, without the last dot.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) owner: String,
    pub(crate) data: Data,
    pub(crate) secure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    Cname(String),
    Mx(u16, String),
    Ip(IpAddr),
    Txt(Vec<u8>),
    Ptr(String),
    Tlsa(Tlsa),
}

impl Data {
    fn is(&self, kind: Kind) -> bool {
        match self {
            Data::Cname(_) => false,
            Data::Mx(..) => kind == Kind::Mx,
            Data::Ip(ip) => kind == if ip.is_ipv4() { Kind::V4 } else { Kind::V6 },
            Data::Txt(_) => kind == Kind::Txt,
            Data::Ptr(_) => kind == Kind::Ptr,
            Data::Tlsa(_) => kind == Kind::Tlsa,
        }
    }
}

impl Resolver {
    /// Asks the servers of `/etc/resolv.conf`; where it names none, the one on this host (resolv.conf(5)).
    ///
    /// With `dnssec`, answers are validated: forged ones fail, and [`Answer::secure`] means something. It needs servers
    /// that pass signatures on.
    ///
    /// # Errors
    /// [`DnsError::Transient`] when the resolver cannot be set up.
    pub fn system(dnssec: bool) -> Result<Self, DnsError> {
        Servers::system(dnssec).map(|servers| Resolver(Source::Servers(Arc::new(servers))))
    }

    /// Asks these servers, over UDP and TCP; `dnssec` as for [`Resolver::system`].
    ///
    /// # Errors
    /// [`DnsError::Transient`] when the resolver cannot be set up.
    pub fn servers(addrs: &[SocketAddr], dnssec: bool) -> Result<Self, DnsError> {
        Servers::given(addrs, dnssec).map(|servers| Resolver(Source::Servers(Arc::new(servers))))
    }

    /// The same, with validation from these keys on (a file of DNSKEY records) in place of the root's: for a DNS of one's own.
    ///
    /// # Errors
    /// [`DnsError::Transient`] when the resolver cannot be set up; its text names a file that cannot be read.
    pub fn anchored(addrs: &[SocketAddr], keys: &Path) -> Result<Self, DnsError> {
        Servers::anchored(addrs, keys).map(|servers| Resolver(Source::Servers(Arc::new(servers))))
    }

    /// Asks a table.
    pub fn memory(zone: Zone) -> Self {
        Resolver::changing(zone).0
    }

    /// Asks a table that can be changed while it is asked.
    pub fn changing(zone: Zone) -> (Self, Arc<Mutex<Zone>>) {
        let zone = Arc::new(Mutex::new(zone));
        (Resolver(Source::Memory(zone.clone())), zone)
    }

    /// Where the mail of `domain` goes; at most 20 hosts. `random` decides the order among equals.
    ///
    /// # Errors
    /// [`DnsError`], but `NoData`: that is [`MailHosts::Implicit`].
    pub async fn mail_hosts(
        &self,
        domain: &str,
        mut random: impl FnMut() -> u64,
        deadline: Deadline,
    ) -> Result<MailHosts, DnsError> {
        let take = |data| match data {
            Data::Mx(preference, host) => Some(MailHost { preference, host }),
            _ => None,
        };
        let mut answer = match self.ask(domain, Kind::Mx, take, deadline).await {
            Err(DnsError::NoData) => return Ok(MailHosts::Implicit),
            answer => answer?,
        };
        // RFC 7505 §3: the root as the only host means that there is none. Beside others it means nothing.
        answer.records.retain(|mx| !mx.host.is_empty());
        if answer.records.is_empty() {
            return Ok(MailHosts::Null);
        }
        answer.records.sort_by_cached_key(|mx| (mx.preference, random()));
        answer.records.truncate(MAX_HOSTS);
        Ok(MailHosts::Mx(answer))
    }

    /// The addresses of `host`, IPv6 before IPv4; at most 20, of each family half where there are many.
    ///
    /// # Errors
    /// [`DnsError`]; when one family is known and the other fails, the known one is the answer.
    pub async fn addresses(&self, host: &str, deadline: Deadline) -> Result<Answer<IpAddr>, DnsError> {
        let take = |data| match data {
            Data::Ip(ip) => Some(ip),
            _ => None,
        };
        let (v6, v4) = tokio::join!(self.ask(host, Kind::V6, take, deadline), self.ask(host, Kind::V4, take, deadline));
        match (v6, v4) {
            (Ok(mut v6), Ok(v4)) => {
                v6.records.truncate(MAX_HOSTS - v4.records.len().min(MAX_HOSTS / 2));
                v6.records.extend(v4.records);
                v6.records.truncate(MAX_HOSTS);
                v6.secure &= v4.secure;
                v6.alias = v6.alias.into_iter().chain(v4.alias).reduce(|a, b| a && b);
                Ok(v6)
            }
            (Ok(mut one), Err(_)) | (Err(_), Ok(mut one)) => {
                one.records.truncate(MAX_HOSTS);
                Ok(one)
            }
            (Err(v6), Err(v4)) => Err(if v6.is_transient() { v6 } else { v4 }),
        }
    }

    /// The TXT records of `name`, the strings of each joined (RFC 7208 §3.3, RFC 6376 §3.6.2.2); at most 100.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn txt(&self, name: &str, deadline: Deadline) -> Result<Answer<Vec<u8>>, DnsError> {
        let take = |data| match data {
            Data::Txt(text) => Some(text),
            _ => None,
        };
        let mut answer = self.ask(name, Kind::Txt, take, deadline).await?;
        answer.records.truncate(MAX_TXT);
        Ok(answer)
    }

    /// What the DNS says of the certificate that a host shows on a port (RFC 6698 §3), for TCP; at most 50 records. They are
    /// worth nothing unless the answer is secure.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn tlsa(&self, host: &str, port: u16, deadline: Deadline) -> Result<Answer<Tlsa>, DnsError> {
        let take = |data| match data {
            Data::Tlsa(record) => Some(record),
            _ => None,
        };
        let mut answer = self.ask(&format!("_{port}._tcp.{host}"), Kind::Tlsa, take, deadline).await?;
        answer.records.truncate(MAX_TLSA);
        Ok(answer)
    }

    /// Whether answers can be proven at all: the servers that are asked pass on what DNSSEC needs, from the root on.
    ///
    /// # Errors
    /// [`DnsError::Transient`] when nobody answers: then nothing is known.
    pub async fn validates(&self, deadline: Deadline) -> Result<bool, DnsError> {
        let ask = async {
            match &self.0 {
                Source::Servers(servers) => servers.validates().await,
                Source::Memory(zone) => Ok(zone.lock().unwrap_or_else(PoisonError::into_inner).validates()),
            }
        };
        tokio::time::timeout_at(deadline.instant(), ask)
            .await
            .map_err(|_| DnsError::Transient("no answer in time".into()))?
    }

    /// The names of `ip`, as its owner gives them; at most ten. They prove nothing until they lead back to `ip`.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn ptr(&self, ip: IpAddr, deadline: Deadline) -> Result<Answer<String>, DnsError> {
        let take = |data| match data {
            Data::Ptr(name) => Some(name),
            _ => None,
        };
        let mut answer = self.ask(&dns::reverse(ip), Kind::Ptr, take, deadline).await?;
        answer.records.truncate(MAX_PTR);
        Ok(answer)
    }

    /// All records of `kind` at the end of `name`'s aliases.
    async fn ask<T>(
        &self,
        name: &str,
        kind: Kind,
        take: impl Fn(Data) -> Option<T>,
        deadline: Deadline,
    ) -> Result<Answer<T>, DnsError> {
        let name = dns::normal(name)?;
        let ask = async {
            match &self.0 {
                Source::Servers(servers) => servers.ask(&name, kind).await,
                Source::Memory(zone) => {
                    let found = zone.lock().unwrap_or_else(PoisonError::into_inner).ask(&name);
                    match found {
                        Some(answer) => answer,
                        None => std::future::pending().await,
                    }
                }
            }
        };
        let records = tokio::time::timeout_at(deadline.instant(), ask)
            .await
            .map_err(|_| DnsError::Transient("no answer in time".into()))??;
        let answer = match (follow(name, kind, records), &self.0) {
            // Servers that have nothing say so; records of other names are no proof of it.
            (Err(DnsError::NoData), Source::Servers(_)) => {
                return Err(DnsError::Transient("the answer is to another question".into()));
            }
            (answer, _) => answer?,
        };
        Ok(Answer {
            records: answer.records.into_iter().filter_map(take).collect(),
            name: answer.name,
            secure: answer.secure,
            alias: answer.alias,
        })
    }
}

/// Follows the aliases within an answer, which may hold records nobody asked for.
fn follow(asked: String, kind: Kind, records: Vec<Record>) -> Result<Answer<Data>, DnsError> {
    let (mut name, mut secure, mut first) = (asked, true, None);
    for _ in 0..=MAX_ALIASES {
        let mut here = records.iter().filter(|r| r.owner == name);
        if here.clone().any(|r| r.data.is(kind)) {
            let found: Vec<&Record> = here.filter(|r| r.data.is(kind)).collect();
            secure &= found.iter().all(|r| r.secure);
            return Ok(Answer {
                records: found.into_iter().map(|r| r.data.clone()).collect(),
                name,
                secure,
                alias: first,
            });
        }
        let alias = here.find_map(|r| match &r.data {
            Data::Cname(target) => Some((target.clone(), r.secure)),
            _ => None,
        });
        match alias {
            Some((target, proven)) => {
                first = first.or(Some(proven));
                (name, secure) = (target, secure && proven);
            }
            None => return Err(DnsError::NoData),
        }
    }
    Err(DnsError::Transient("the aliases have no end".into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(5))
    }

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    async fn hosts(dns: &Resolver, domain: &str) -> Vec<String> {
        match dns.mail_hosts(domain, || 0, soon()).await.unwrap() {
            MailHosts::Mx(answer) => answer.records.into_iter().map(|mx| mx.host).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn mx_by_preference_and_at_random_among_equals() {
        let zone = Zone::default()
            .mx("example.test", 20, "backup.example.test")
            .mx("example.test", 10, "A.example.test.")
            .mx("example.test", 10, "b.example.test")
            .mx("example.test", 10, "c.example.test");
        let dns = Resolver::memory(zone);
        assert_eq!(
            hosts(&dns, "Example.TEST.").await,
            ["a.example.test", "b.example.test", "c.example.test", "backup.example.test"]
        );
        // The numbers drawn, in the order of the records: 4, 3, 2, 1.
        let mut draw = 5;
        let random = || {
            draw -= 1;
            draw
        };
        let MailHosts::Mx(answer) = dns.mail_hosts("example.test", random, soon()).await.unwrap() else { panic!() };
        let drawn: Vec<&str> = answer.records.iter().map(|mx| &mx.host[..1]).collect();
        assert_eq!(drawn, ["c", "b", "a", "b"]);
    }

    #[tokio::test]
    async fn no_mx_null_mx_and_no_name_are_three_things() {
        let zone = Zone::default()
            .ip("plain.test", ip("192.0.2.1"))
            .mx("silent.test", 0, ".")
            .mx("both.test", 0, ".")
            .mx("both.test", 10, "mx.both.test")
            .fails("broken.test");
        let dns = Resolver::memory(zone);
        let ask = async |domain| dns.mail_hosts(domain, || 0, soon()).await;
        assert_eq!(ask("plain.test").await, Ok(MailHosts::Implicit));
        assert_eq!(ask("silent.test").await, Ok(MailHosts::Null));
        assert_eq!(hosts(&dns, "both.test").await, ["mx.both.test"]);
        assert_eq!(ask("missing.test").await, Err(DnsError::NoSuchName));
        assert!(ask("broken.test").await.unwrap_err().is_transient());
        for name in ["", ".", "a..b", &"x".repeat(64)] {
            assert_eq!(ask(name).await, Err(DnsError::BadName), "{name:?}");
        }
    }

    #[tokio::test]
    async fn aliases_are_followed_and_have_an_end() {
        let mut zone = Zone::default()
            .cname("www.test", "host.test")
            .ip("host.test", ip("192.0.2.1"))
            .ip("host.test", ip("2001:db8::1"))
            .cname("mail.test", "real.test")
            .mx("real.test", 10, "mx.real.test")
            .cname("dangling.test", "nowhere.test")
            .cname("a.test", "b.test")
            .cname("b.test", "a.test");
        for n in 0..12 {
            zone = zone.cname(&format!("c{n}.test"), &format!("c{}.test", n + 1));
        }
        let dns = Resolver::memory(zone.ip("c12.test", ip("192.0.2.12")));
        let found = dns.addresses("www.test", soon()).await.unwrap();
        assert_eq!((found.name.as_str(), found.records), ("host.test", vec![ip("2001:db8::1"), ip("192.0.2.1")]));
        assert_eq!(hosts(&dns, "mail.test").await, ["mx.real.test"]);
        assert_eq!(dns.addresses("dangling.test", soon()).await, Err(DnsError::NoSuchName));
        assert_eq!(dns.addresses("mail.test", soon()).await, Err(DnsError::NoData));
        assert!(dns.addresses("a.test", soon()).await.unwrap_err().is_transient());
        assert!(dns.addresses("c0.test", soon()).await.unwrap_err().is_transient());
        assert_eq!(dns.addresses("c2.test", soon()).await.unwrap().name, "c12.test");
    }

    #[tokio::test]
    async fn answers_are_bounded() {
        let mut zone = Zone::default();
        for n in 0..200u16 {
            zone = zone
                .mx("example.test", 200 - n, &format!("mx{n}.example.test"))
                .ip("many.test", ip(&format!("192.0.2.{n}")))
                .ip("many.test", ip(&format!("2001:db8::{n}")))
                .ip("six.test", ip(&format!("2001:db8::{n}")))
                .ptr(ip("192.0.2.1"), &format!("n{n}.test"))
                .txt("example.test", "x");
        }
        let dns = Resolver::memory(zone);
        let found = hosts(&dns, "example.test").await;
        assert_eq!((found.len(), found[0].as_str()), (20, "mx199.example.test"), "the best are kept");
        let both = dns.addresses("many.test", soon()).await.unwrap().records;
        assert_eq!((both.len(), both.iter().filter(|ip| ip.is_ipv6()).count()), (20, 10));
        assert_eq!(dns.addresses("six.test", soon()).await.unwrap().records.len(), 20);
        assert_eq!(dns.ptr(ip("192.0.2.1"), soon()).await.unwrap().records.len(), 10);
        assert_eq!(dns.txt("example.test", soon()).await.unwrap().records.len(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_a_dns_that_never_answers_is_given_up() {
        let dns = Resolver::memory(Zone::default().silent("slow.test"));
        let start = tokio::time::Instant::now();
        assert!(dns.mail_hosts("slow.test", || 0, soon()).await.unwrap_err().is_transient());
        assert!(dns.addresses("slow.test", soon()).await.unwrap_err().is_transient());
        // On the paused clock: five seconds each, and not the sum of two address families.
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn names_of_addresses_and_international_names() {
        let zone = Zone::default()
            .ptr(ip("192.0.2.1"), "mx.example.test")
            .ptr(ip("2001:db8::1"), "mx6.example.test")
            .txt("xn--fsqu00a.test", "v=spf1 -all")
            .txt("my_shop.test", "odd");
        let dns = Resolver::memory(zone);
        assert_eq!(dns.ptr(ip("::ffff:192.0.2.1"), soon()).await.unwrap().records, ["mx.example.test"]);
        assert_eq!(dns.ptr(ip("2001:db8::1"), soon()).await.unwrap().records, ["mx6.example.test"]);
        // The A-label as Python's idna codec gives it.
        assert_eq!(dns.txt("例子.test", soon()).await.unwrap().records, [b"v=spf1 -all"]);
        // No host name by RFC 952, and still in use.
        assert_eq!(dns.txt("my_shop.test", soon()).await.unwrap().records, [b"odd"]);
    }
}
