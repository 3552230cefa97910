//! `postroom doctor`: looks at everything an administrator can get wrong, and says what to do about it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use base::{Clock, SystemClock, Timestamp};
use net::{CertFacts, Deadline, MailHosts};
use serde_json::Value;

use crate::admin::{Answer, Request};
use crate::cli::CliError;
use crate::config::Config;
use crate::findings::{Finding, report};
use crate::outside::Outside;
use crate::{acme, certificates, cli, control, descriptors};

/// How long a look-up may take.
const DNS: Duration = Duration::from_secs(5);
/// A day, in milliseconds.
const DAY: i64 = 86_400_000;
/// Days before its end, in which a certificate should have been renewed.
const SOON: i64 = 14;

/// Looks at configuration, data, server and DNS.
///
/// # Errors
/// When the runtime cannot be started.
pub fn run(config: &Config, offline: bool) -> Result<Answer, CliError> {
    let mut findings = vec![data_directory(config), server(config), open_files()];
    findings.extend(config.tls.0.iter().chain(&config.client_certificate).map(|tls| key_file(&tls.key)));
    findings.extend(certificates(config));
    if !offline {
        findings.extend(cli::runtime()?.block_on(dns(config)));
    }
    Ok(report(&findings))
}

fn data_directory(config: &Config) -> Finding {
    let dir = config.data.display();
    match std::fs::metadata(&config.data) {
        Err(e) => Finding::Bad(format!("data directory {dir}: {e}; `postroom init` makes it")),
        Ok(m) if m.permissions().mode() & 0o077 != 0 => {
            Finding::Doubt(format!("data directory {dir} can be read by others: chmod 700 {dir}"))
        }
        Ok(_) => Finding::Good(format!("data directory {dir} is private")),
    }
}

/// A server that is started as we were may have as many.
fn open_files() -> Finding {
    let descriptors = descriptors::raise();
    match descriptors::few(descriptors) {
        Some(few) => Finding::Doubt(few),
        None => Finding::Good(format!("{descriptors} open files make room for the connections")),
    }
}

fn key_file(key: &Path) -> Finding {
    match std::fs::metadata(key) {
        Err(e) => Finding::Bad(format!("[tls] key {}: {e}", key.display())),
        Ok(m) if m.permissions().mode() & 0o007 != 0 => {
            Finding::Bad(format!("[tls] key {} can be read by everybody: chmod 640 it", key.display()))
        }
        Ok(_) => Finding::Good(format!("[tls] key {} is private", key.display())),
    }
}

/// For whom the certificates are, and for how long. The server renews its authority's long before this worries.
fn certificates(config: &Config) -> Vec<Finding> {
    let files = certificates::files(config);
    let mut findings = Vec::new();
    if config.acme.is_some() && acme::issued(config).is_none() {
        findings.push(Finding::Doubt("[acme] has no certificate yet: if the server runs, its log says why".into()));
    } else if config.tls.0.is_empty() && config.acme.is_none() {
        findings.push(Finding::Doubt("the certificate is self-signed: name a real one in [tls], or use [acme]".into()));
    }
    // One that is not configured is made by the first start.
    let there = files.iter().filter(|files| !config.tls.0.is_empty() || files.chain.exists());
    let facts: Vec<_> = there.map(|files| (files, CertFacts::read(&files.chain))).collect();
    if !facts.is_empty()
        && facts.iter().all(|(_, facts)| facts.as_ref().is_ok_and(|facts| !facts.is_for(&config.hostname)))
    {
        findings.push(Finding::Bad(format!("no certificate is for our name {}", config.hostname)));
    }
    findings.extend(facts.into_iter().map(|(files, facts)| match facts {
        Ok(facts) => lasts(&files.chain, &facts, SystemClock.now()),
        Err(e) => Finding::Bad(e.to_string()),
    }));
    findings
}

fn lasts(file: &Path, facts: &CertFacts, now: Timestamp) -> Finding {
    let what = format!("certificate {} for {}", file.display(), facts.names.join(", "));
    match (facts.until.0 - now.0).div_euclid(DAY) {
        ..0 => Finding::Bad(format!("{what}: it ended {}", facts.until.rfc3339())),
        _ if now < facts.from => Finding::Bad(format!("{what}: it begins {}", facts.from.rfc3339())),
        days @ 0..SOON => Finding::Doubt(format!("{what}: {days} days left, renew it")),
        days => Finding::Good(format!("{what}: {days} days left")),
    }
}

fn server(config: &Config) -> Finding {
    match control::ask(&config.data, &Request::DomainList) {
        Ok(Some(Ok(answer))) => {
            let domains = answer.data.as_array().map_or(0, Vec::len);
            match domains {
                0 => Finding::Bad("the server runs, but has no domain: postroom domain add NAME".into()),
                1 => Finding::Good("the server runs and answers; it has one domain".into()),
                n => Finding::Good(format!("the server runs and answers; it has {n} domains")),
            }
        }
        Ok(Some(Err(e))) => Finding::Bad(format!("the server runs, but its store does not answer: {e}")),
        Ok(None) => Finding::Doubt("the server does not run: postroom serve".into()),
        Err(e) => Finding::Bad(format!("the server does not answer on its socket: {e}")),
    }
}

/// Whether the world finds us: our name has an address, and our domains' mail is sent to our name.
async fn dns(config: &Config) -> Vec<Finding> {
    let resolver = match Outside::of(config).resolver() {
        Ok(resolver) => resolver,
        Err(e) => return vec![Finding::Bad(format!("DNS: {e}"))],
    };
    let name = &config.hostname;
    let mut findings = vec![
        dnssec(config).await,
        match resolver.addresses(name, Deadline::after(DNS)).await {
            Ok(found) => Finding::Good(format!("{name} has {} addresses", found.records.len())),
            Err(e) => Finding::Bad(format!("our name {name} has no address: {e}; add an A or AAAA record")),
        },
    ];
    let Ok(Some(Ok(domains))) = control::ask(&config.data, &Request::DomainList) else { return findings };
    for domain in domains.data.as_array().into_iter().flatten().filter_map(Value::as_str) {
        let hosts = resolver.mail_hosts(domain, || 0, Deadline::after(DNS)).await;
        findings.push(match hosts {
            Ok(MailHosts::Mx(hosts)) if hosts.records.iter().any(|h| h.host.eq_ignore_ascii_case(name)) => {
                Finding::Good(format!("mail for {domain} comes here"))
            }
            Ok(MailHosts::Mx(_)) => Finding::Bad(format!("mail for {domain} goes elsewhere: its MX is not {name}")),
            Ok(MailHosts::Null) => Finding::Bad(format!("{domain} says that it takes no mail (null MX)")),
            Ok(MailHosts::Implicit) => {
                Finding::Doubt(format!("{domain} has no MX record: add `{domain}. MX 10 {name}.`"))
            }
            Err(e) => Finding::Bad(format!("{domain}: {e}")),
        });
    }
    findings
}

/// Whether the resolver proves what it says, as DANE needs it for mail that we send ourselves.
async fn dnssec(config: &Config) -> Finding {
    let validates = match Outside::of(config).validating() {
        Ok(resolver) => resolver.validates(Deadline::after(DNS)).await,
        Err(e) => Err(e),
    };
    match validates {
        Ok(true) => Finding::Good("the DNS resolver passes on what DNSSEC needs: DANE protects mail to others".into()),
        _ if config.smarthost.is_some() => {
            Finding::Hint("the DNS resolver does not do DNSSEC; it matters to the smart host only".into())
        }
        _ => Finding::Doubt(
            "the DNS resolver of /etc/resolv.conf does not do DNSSEC: DANE protects no mail to others; use one that does, \
             such as unbound on this machine"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_begins_and_ends() {
        let at = std::env::temp_dir().join(format!("postroom-doctor-{}", std::process::id()));
        let files = net::CertFiles { chain: at.with_extension("pem"), key: at.with_extension("key") };
        let day = |n: i64| Timestamp(n * DAY);
        net::self_signed(&files, &["mx.example.test".into()], day(1)).unwrap();
        let mut facts = CertFacts::read(&files.chain).unwrap();
        (facts.from, facts.until) = (day(10), day(100));
        std::fs::remove_file(&files.chain).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        let state = |now: Timestamp| match lasts(Path::new("a.pem"), &facts, now) {
            Finding::Good(words) => format!("good: {words}"),
            Finding::Doubt(words) => format!("look: {words}"),
            Finding::Bad(words) => format!("bad: {words}"),
            Finding::Hint(words) => format!("hint: {words}"),
        };
        let what = "certificate a.pem for mx.example.test";
        assert_eq!(state(day(9)), format!("bad: {what}: it begins 1970-01-11T00:00:00Z"));
        assert_eq!(state(day(10)), format!("good: {what}: 90 days left"));
        assert_eq!(state(day(86)), format!("good: {what}: 14 days left"));
        assert_eq!(state(day(87)), format!("look: {what}: 13 days left, renew it"));
        assert_eq!(state(Timestamp(day(100).0 - 1)), format!("look: {what}: 0 days left, renew it"));
        assert_eq!(state(Timestamp(day(100).0 + 1)), format!("bad: {what}: it ended 1970-04-11T00:00:00Z"));
    }
}
