//! An internet on loopback, for tests of the whole server: an authoritative DNS with signed zones, mail hosts with
//! characters, and web servers with policies, all of them on 127.29.N.* (hosts that a seed makes: from 127.30.N.*), at
//! ports that are nobody's privilege. A server whose configuration has this as its `[laboratory]` finds them behind the
//! public addresses that the DNS names.
//!
//!     postroom-internet DIRECTORY N [--seed N --sites N …]
//!     postroom-internet --seed N --sites N …
//!
//! The cases are always there; `--seed` makes sites beside them, those that the internet in memory has of that seed
//! ([`seeded::Asked`] has all words). The second form says what these would be, on a line of JSON each.
//!
//! The first writes what is needed to trust it into DIRECTORY, says on one line of JSON where it is and what a seed made,
//! and then answers for each domain that it reads what the domain's hosts have seen. It ends with its input. Where hosts are
//! that it leaves to the test, it says too.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod certificates;
mod dns;
mod seeded;

use std::collections::HashMap;
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{CertFiles, Deadline, ListenAddr, ListenOptions, Listener, Stream, Tls};
use serde_json::{Value, json};
use simnet::{Internet, Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::cases::{CASES, Case, Policy, Shown};
use crate::certificates::Authority;
use crate::seeded::Asked;

/// What the server adds to a port in a laboratory.
const MIRRORED: u16 = 20_000;

/// Hosts in a network of the seed's.
const IN_A_NETWORK: usize = 250;

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first.starts_with("--")) {
        let internet = Asked::read(arguments).internet();
        seeded::sites(&internet).into_iter().chain(seeded::mails(&internet)).for_each(|told| println!("{told}"));
        return;
    }
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let net: u8 = arguments.next().and_then(|n| n.parse().ok()).expect("a number below 256");
    let internet = Asked::read(arguments).internet();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sites = runtime.block_on(open(&directory, net, &internet));
    for line in std::io::stdin().lock().lines() {
        let Ok(domain) = line else { break };
        println!("{}", json!(sites.get(&domain).map(|site| seen(site))));
    }
}

fn seen(site: &Site) -> Value {
    let seen = site.ledger();
    let refused: HashMap<String, u64> = seen.refused.iter().map(|(why, n)| (format!("{why:?}"), *n)).collect();
    json!({ "taken": seen.taken.len() as u64 + seen.twice, "numbers": seen.taken, "connections": seen.connected,
        "mails": seen.attempts, "refused": refused })
}

/// Where the host of the nth case is: as the DNS says, and in truth.
fn public(net: u8, n: usize) -> IpAddr {
    [20, 29, net, n as u8 + 1].into()
}

fn local(net: u8, n: usize, port: u16) -> ListenAddr {
    ListenAddr::Tcp(SocketAddr::new([127, 29, net, n as u8 + 1].into(), port + MIRRORED))
}

/// The same of the nth host that a seed made.
fn of_seed(net: u8, n: usize) -> (IpAddr, ListenAddr) {
    let (network, host) = (u8::try_from(30 + n / IN_A_NETWORK).expect("fewer sites"), (n % IN_A_NETWORK) as u8 + 1);
    let at = SocketAddr::new([127, network, net, host].into(), 25 + MIRRORED);
    ([20, network, net, host].into(), ListenAddr::Tcp(at))
}

async fn open(directory: &Path, net: u8, internet: &Internet) -> HashMap<String, Arc<Site>> {
    let (authority, start) = (Authority::new(), Instant::now());
    let (mut sites, mut left, mut records) = (HashMap::new(), HashMap::new(), Vec::new());
    for (n, case) in CASES.iter().enumerate() {
        let site = Arc::new(Site::new(n as u64, Vec::new(), Vec::new(), case.character(), n as u64));
        let shown = authority.issue(case.shows, &case.mail_host());
        let tls = shown.as_ref().map(|shown| load(shown.save(directory, case.domain)));
        records.extend(dns::records(case, public(net, n), shown.as_ref()));
        let at = local(net, n, 25);
        if case.is_left() {
            left.insert(case.domain, at.to_string());
        } else {
            serve(site.clone(), tls, start, &at);
        }
        if let Some(policy) = &case.policy {
            publish(case, policy, &authority, directory, &local(net, n, 443));
        }
        sites.insert(case.domain.to_owned(), site);
    }
    let wrong = authority.issue(Shown::OwnWord, "another.test").expect("it shows one");
    let (wrong, mut hosts) = (load(wrong.save(directory, "another.test")), 0..);
    for site in &internet.sites {
        let (ips, local): (Vec<_>, Vec<_>) = hosts.by_ref().take(site.hosts.len()).map(|n| of_seed(net, n)).unzip();
        records.extend(dns::records_of_site(site, &ips));
        let tls = (site.character.tls == simnet::Tls::Wrong).then_some(&wrong);
        local.iter().for_each(|at| serve(site.clone(), tls.cloned(), start, at));
        sites.extend(site.domains.iter().map(|domain| (domain.clone(), site.clone())));
    }
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, authority.root()).unwrap();
    let (dns, key) = dns::serve(records, SocketAddr::new([127, 29, net, 254].into(), 0)).await;
    let anchor = directory.join("anchor");
    std::fs::write(&anchor, format!(". 60 IN DNSKEY {key}\n")).unwrap();
    println!(
        "{}",
        json!({ "dns": dns.to_string(), "anchor": anchor, "roots": roots,
        "domains": CASES.iter().filter(|case| !case.is_left()).map(|case| case.domain).collect::<Vec<_>>(), "left": left,
        "sites": seeded::sites(internet), "mails": seeded::mails(internet) })
    );
    sites
}

/// A mail host.
fn serve(site: Arc<Site>, tls: Option<Tls>, start: Instant, at: &ListenAddr) {
    let listener = Listener::bind(at, ListenOptions::default()).expect("a free address");
    tokio::spawn(simnet::serve(site, tls, start, listener));
}

fn load(files: CertFiles) -> Tls {
    Tls::load(vec![files]).expect("a certificate")
}

/// The web server of a domain that has a policy (RFC 8461 §3.3).
fn publish(case: &Case, policy: &Policy, authority: &Authority, directory: &Path, at: &ListenAddr) {
    let name = format!("mta-sts.{}", case.domain);
    let shown = authority.issue(policy.shows, &name).expect("a policy's host has a certificate");
    let tls = load(shown.save(directory, &name));
    let listener = Listener::bind(at, ListenOptions::default()).expect("a free address");
    let answer = match policy.text(case) {
        Some(text) => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        ),
        None => "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
    };
    let serve = move |stream: Stream| {
        let (tls, answer) = (tls.clone(), answer.clone());
        async move {
            let soon = Deadline::after(std::time::Duration::from_secs(60));
            let Ok(mut stream) = stream.upgrade(&tls, b"", soon).await else { return };
            let (mut asked, mut part) = (Vec::new(), [0; 4096]);
            while !asked.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part).await {
                    Ok(n) if n > 0 && asked.len() < part.len() => asked.extend_from_slice(&part[..n]),
                    _ => return,
                }
            }
            let asked_well = asked.starts_with(b"GET /.well-known/mta-sts.txt HTTP/1.1\r\n");
            if asked_well && stream.write_all(answer.as_bytes()).await.is_ok() {
                let _ = stream.shutdown().await;
            }
        }
    };
    tokio::spawn(listener.serve(std::future::pending(), serve));
}
