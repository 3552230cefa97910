//! Whether the SPF records of our domains let our sources send, found out as receivers do: by evaluating them.

use std::net::IpAddr;
use std::sync::Arc;

use base::OrganisationId;
use net::{Deadline, DnsError, MailHosts, Resolver, is_special};
use queue::source::{Setup, Source};
use trust::spf::{self, Asked, Dns, Found, Outcome, Unanswered};

use crate::findings::Finding;

/// An address that mail leaves by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The source's name.
    pub source: Arc<str>,
    /// What is said there for EHLO.
    pub ehlo: String,
    pub ip: IpAddr,
}

/// The public addresses of the sources that mail of an organisation may leave by, now or once they are in a pool: all but those in
/// pools of others. The source that is always there is not among them, as its address is the system's choice.
pub fn senders(setup: &Setup, of: OrganisationId, hostname: &str) -> Vec<Sender> {
    let others = |source: &&Source| {
        let pools = || setup.pools.iter().filter(|pool| pool.members.iter().any(|m| m.source == source.id));
        pools().next().is_some() && pools().all(|pool| pool.organisation.is_some_and(|whose| whose != of))
    };
    setup.sources.iter().filter(|source| !others(source)).flat_map(|source| public(source, hostname)).collect()
}

/// The public addresses of a source: which one others see of another, is not known here.
pub fn public(source: &Source, hostname: &str) -> Vec<Sender> {
    let ips = source.v4.map(IpAddr::V4).into_iter().chain(source.v6.map(IpAddr::V6));
    let ehlo = source.ehlo.as_deref().unwrap_or(hostname);
    let one = |ip| Sender { source: source.name.clone(), ehlo: ehlo.to_owned(), ip };
    ips.filter(|ip| !is_special(*ip)).map(one).collect()
}

/// Whether a domain's record lets a source send. None: the domain has no record.
pub async fn look(resolver: &Resolver, deadline: Deadline, domain: &str, sender: &Sender) -> Option<Finding> {
    let Sender { source, ehlo, ip } = sender;
    let asked = Asked { ip: *ip, domain, local: "postmaster", helo: ehlo };
    let word = match spf::check(&Resolving { resolver, deadline }, asked).await.outcome {
        Outcome::Pass => {
            return Some(Finding::Good(format!("SPF: the record of {domain} lets {source} send from {ip}")));
        }
        Outcome::None => return None,
        Outcome::TempError => {
            return Some(Finding::Bad(format!("SPF: the DNS does not answer what the record of {domain} asks for")));
        }
        Outcome::PermError(why) => {
            return Some(Finding::Bad(format!("SPF: receivers take this for an error: {why}")));
        }
        Outcome::Fail => "fail",
        Outcome::SoftFail => "softfail",
        Outcome::Neutral => "neutral",
    };
    let mechanism = if ip.is_ipv4() { "ip4" } else { "ip6" };
    Some(Finding::Bad(format!(
        "SPF: the record of {domain} does not let {source} send from {ip} ({word}); add {mechanism}:{ip} to it"
    )))
}

/// Our resolver, as SPF asks it.
struct Resolving<'a> {
    resolver: &'a Resolver,
    deadline: Deadline,
}

/// What is not there is no failure.
fn found<T>(answer: Result<Vec<T>, DnsError>) -> Found<T> {
    match answer {
        Ok(records) => Ok(records),
        Err(DnsError::Transient(_)) => Err(Unanswered),
        Err(DnsError::NoSuchName | DnsError::NoData | DnsError::BadName) => Ok(Vec::new()),
    }
}

impl Dns for Resolving<'_> {
    async fn texts(&self, name: &str) -> Found<Vec<u8>> {
        found(self.resolver.txt(name, self.deadline).await.map(|answer| answer.records))
    }

    async fn addresses(&self, name: &str, v6: bool) -> Found<IpAddr> {
        let all = found(self.resolver.addresses(name, self.deadline).await.map(|answer| answer.records))?;
        Ok(all.into_iter().filter(|ip| ip.is_ipv6() == v6).collect())
    }

    async fn hosts(&self, name: &str) -> Found<String> {
        let hosts = self.resolver.mail_hosts(name, || 0, self.deadline).await;
        found(hosts.map(|hosts| match hosts {
            MailHosts::Mx(answer) => answer.records.into_iter().map(|host| host.host).collect(),
            MailHosts::Null | MailHosts::Implicit => Vec::new(),
        }))
    }

    async fn names(&self, ip: IpAddr) -> Found<String> {
        found(self.resolver.ptr(ip, self.deadline).await.map(|answer| answer.records))
    }
}
