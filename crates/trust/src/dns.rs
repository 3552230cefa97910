//! The DNS records that a domain needs, in words an administrator can paste.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use base::Timestamp;

use crate::{PublicKey, State};

/// The longest string of a TXT record (RFC 1035 §3.3); a longer text is several, which readers join.
const STRING: usize = 255;

/// Octets of an SPF record, that it fits into an answer over UDP with what else stands at the name (RFC 7208 §3.4).
const SPF: usize = 450;

/// A record to be put into the DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// The whole name, without a final dot.
    pub name: String,
    /// `MX`, `TXT` or `CNAME`.
    pub kind: &'static str,
    /// MX: preference and host. TXT: the text, in one piece. CNAME: a host.
    pub value: String,
    /// What it is for.
    pub why: Cow<'static, str>,
}

/// As a line of a zone file (RFC 1035 §5.1).
impl fmt::Display for DnsRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. IN {}", self.name, self.kind)?;
        match self.kind {
            "TXT" => {
                let strings = (0..self.value.len()).step_by(STRING);
                strings
                    .map(|at| &self.value[at..self.value.len().min(at + STRING)])
                    .try_for_each(|s| write!(f, " \"{s}\""))
            }
            _ => write!(f, " {}.", self.value),
        }
    }
}

impl DnsRecord {
    fn txt(name: String, value: String, why: impl Into<Cow<'static, str>>) -> Self {
        DnsRecord { name, kind: "TXT", value, why: why.into() }
    }

    /// Mail for the domain comes to `hostname`.
    pub fn mx(domain: &str, hostname: &str) -> Self {
        let (name, value) = (domain.to_owned(), format!("10 {hostname}"));
        DnsRecord { name, kind: "MX", value, why: "mail for the domain comes to this server".into() }
    }

    /// Who sends mail of the domain (RFC 7208): this server, from its own address and from `sources`, or a smart host (a name or an
    /// IP address). The first is the domain's; where that would be too long for an answer of the DNS (§3.4), others that it includes
    /// name the sources.
    pub fn spf(domain: &str, smarthost: Option<&str>, sources: &[IpAddr]) -> Vec<Self> {
        let Some(host) = smarthost else { return spf_of(domain, sources) };
        let mechanism = match host.parse::<IpAddr>() {
            Ok(ip) => mechanism(ip),
            Err(_) => format!("a:{host}"),
        };
        // Nobody but its provider knows from where a smart host sends on: until that is written in, others are not asked to refuse
        // what comes from elsewhere (§8.5, "softfail").
        let why = "SPF: the smart host sends mail of the domain, perhaps from other addresses: put the include:... that its \
                   provider names in place of its name, then -all in place of ~all";
        vec![Self::txt(domain.to_owned(), format!("v=spf1 {mechanism} ~all"), why)]
    }

    /// RFC 6376 §3.6.1.
    pub fn dkim(domain: &str, key: &PublicKey) -> Self {
        let kind = key.algorithm.key_type();
        let why = match (key.state, key.published_until()) {
            (State::Waiting, _) => "DKIM: a new key, which signs once this is in the DNS".into(),
            (_, Some(end)) => format!("DKIM: the key before; to be removed after {}", day(end)).into(),
            (State::Active | State::Retired, None) => Cow::Borrowed("DKIM: the key that signs mail of the domain"),
        };
        let name = format!("{}._domainkey.{domain}", key.selector);
        Self::txt(name, format!("v=DKIM1; k={kind}; p={}", key.key), why)
    }

    /// RFC 7489 §6.3; "none" asks others only to report, until the administrator has read the reports.
    pub fn dmarc(domain: &str) -> Self {
        let policy = format!("v=DMARC1; p=none; rua=mailto:postmaster@{domain}");
        Self::txt(format!("_dmarc.{domain}"), policy, "DMARC: reports first; later p=quarantine or p=reject")
    }
}

impl DnsRecord {
    /// RFC 8460 §3: others tell us when TLS with our hosts fails.
    pub fn tls_rpt(domain: &str) -> Self {
        let value = format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}");
        Self::txt(format!("_smtp._tls.{domain}"), value, "TLS-RPT: others report when TLS with this server fails")
    }

    /// RFC 8461 §3.1: the domain has the policy of this id.
    pub fn mta_sts(domain: &str, id: &str) -> Self {
        let why = "MTA-STS: the policy of the domain; the record changes with it";
        Self::txt(format!("_mta-sts.{domain}"), format!("v=STSv1; id={id};"), why)
    }

    /// Where that policy is.
    pub fn mta_sts_host(domain: &str, hostname: &str) -> Self {
        let (name, value) = (format!("mta-sts.{domain}"), hostname.to_owned());
        DnsRecord { name, kind: "CNAME", value, why: "MTA-STS: this server has the policy of the domain".into() }
    }
}

/// `2025-11-21`, UTC.
pub fn day(at: Timestamp) -> String {
    let day = at.civil();
    format!("{:04}-{:02}-{:02}", day.year, day.month, day.day)
}

/// What `domain` needs in the DNS, where `hostname` takes its mail, and sends it, also from `sources`, unless a smart host (a name or
/// an IP address) does.
pub fn dns_records(
    domain: &str,
    hostname: &str,
    (smarthost, sources): (Option<&str>, &[IpAddr]),
    keys: &[PublicKey],
    now: Timestamp,
) -> Vec<DnsRecord> {
    let mut records = vec![DnsRecord::mx(domain, hostname)];
    records.extend(DnsRecord::spf(domain, smarthost, sources));
    records.extend(keys.iter().filter(|key| key.is_published(now)).map(|key| DnsRecord::dkim(domain, key)));
    records.extend([DnsRecord::dmarc(domain), DnsRecord::tls_rpt(domain)]);
    records
}

fn mechanism(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("ip4:{ip}"),
        IpAddr::V6(ip) => format!("ip6:{ip}"),
    }
}

/// §5.4: who takes our mail may send it, too, and then come the sources.
fn spf_of(domain: &str, sources: &[IpAddr]) -> Vec<DnsRecord> {
    const WHY: &str = "SPF: only this server sends mail of the domain";
    let record = |what: &str| format!("v=spf1 {what} -all");
    let all: Vec<String> = sources.iter().map(|ip| mechanism(*ip)).collect();
    let whole = record(&[&["mx".to_owned()][..], &all].concat().join(" "));
    if whole.len() <= SPF {
        return vec![DnsRecord::txt(domain.to_owned(), whole, WHY)];
    }
    let mut parts: Vec<String> = Vec::new();
    for one in all {
        match parts.last_mut() {
            Some(part) if record(part).len() + 1 + one.len() <= SPF => *part += &format!(" {one}"),
            _ => parts.push(one),
        }
    }
    let name = |n: usize| format!("_spf{}.{domain}", n + 1);
    let includes: Vec<String> = (0..parts.len()).map(|n| format!("include:{}", name(n))).collect();
    let first = DnsRecord::txt(domain.to_owned(), record(&format!("mx {}", includes.join(" "))), WHY);
    let named = |(n, part): (usize, &String)| {
        DnsRecord::txt(name(n), record(part), "SPF: addresses that this server sends from")
    };
    std::iter::once(first).chain(parts.iter().enumerate().map(named)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Algorithm;

    #[test]
    fn with_a_smart_host_it_is_not_we_who_send() {
        for (host, expected) in [
            ("smtp.provider.test", "v=spf1 a:smtp.provider.test ~all"),
            ("192.0.2.1", "v=spf1 ip4:192.0.2.1 ~all"),
            ("2001:db8::1", "v=spf1 ip6:2001:db8::1 ~all"),
        ] {
            let records = dns_records("x.test", "mx.x.test", (Some(host), &[]), &[], Timestamp(0));
            assert_eq!((records[0].kind, records[0].value.as_str()), ("MX", "10 mx.x.test"));
            assert_eq!(records[1].value, expected);
            assert!(records[1].why.contains("include:"), "{}", records[1].why);
        }
    }

    #[test]
    fn trap_13_the_sources_stand_in_the_record_or_in_short_ones_that_it_includes() {
        let ips = |n: u8| -> Vec<IpAddr> {
            let both = |n| [IpAddr::from([192, 0, 2, n]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)])];
            (0..n).flat_map(both).collect()
        };
        let few = DnsRecord::spf("x.test", None, &ips(2));
        let text = "v=spf1 mx ip4:192.0.2.0 ip6:2001:db8:: ip4:192.0.2.1 ip6:2001:db8::1 -all";
        assert_eq!((few.len(), few[0].value.as_str()), (1, text));
        let many = DnsRecord::spf("x.test", None, &ips(60));
        assert_eq!((many[0].name.as_str(), many[1].name.as_str()), ("x.test", "_spf1.x.test"));
        assert!(many.len() < 10 && many.iter().all(|record| record.value.len() <= SPF), "{many:?}");
        let includes: Vec<String> = many[1..].iter().map(|record| format!("include:{}", record.name)).collect();
        assert_eq!(many[0].value, format!("v=spf1 mx {} -all", includes.join(" ")));
        let named: Vec<&str> =
            many.iter().flat_map(|r| r.value.split(' ')).filter(|term| term.starts_with("ip")).collect();
        assert_eq!(named, ips(60).into_iter().map(mechanism).collect::<Vec<_>>());
    }

    #[test]
    fn records_as_a_zone_file_has_them() {
        let key = "A".repeat(392);
        let key_ = |selector: &str, state| {
            let (selector, since) = (selector.to_owned(), Timestamp::from_secs(0));
            PublicKey { selector, algorithm: Algorithm::Rsa, key: key.clone(), state, since }
        };
        let keys = [key_("r1", State::Active), key_("r0", State::Retired)];
        let now = Timestamp::from_secs(30 * 24 * 3600);
        let lines: Vec<String> =
            dns_records("x.test", "mx.x.test", (None, &[]), &keys, now).iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "x.test. IN MX 10 mx.x.test.");
        assert_eq!(lines[1], "x.test. IN TXT \"v=spf1 mx -all\"");
        assert_eq!(lines[3], "_dmarc.x.test. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@x.test\"");
        let strings: Vec<&str> = lines[2].split('"').collect();
        assert_eq!((strings[0], strings[1].len()), ("r1._domainkey.x.test. IN TXT ", 255));
        assert_eq!([strings[1], strings[3]].concat(), format!("v=DKIM1; k=rsa; p={key}"));
    }
}
