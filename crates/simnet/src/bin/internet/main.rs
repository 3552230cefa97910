//! An internet on loopback, for tests of the whole server: an authoritative DNS with signed zones, mail hosts with
//! characters, and web servers with policies, all of them on 127.29.N.*, at ports that are nobody's privilege. A server
//! whose configuration has this as its `[laboratory]` finds them behind the public addresses that the DNS names.
//!
//!     postroom-internet DIRECTORY N
//!
//! Writes what is needed to trust it into DIRECTORY, says on one line of JSON where it is, and then answers for each domain
//! that it reads what the domain's host has seen. It ends with its input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod certificates;
mod dns;

use std::collections::HashMap;
use std::io::BufRead;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use net::{CertFiles, Deadline, ListenAddr, ListenOptions, Listener, Stream, Tls};
use serde_json::json;
use simnet::Site;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::cases::{CASES, Case, Policy};
use crate::certificates::Authority;

/// What the server adds to a port in a laboratory.
const MIRRORED: u16 = 20_000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().expect("a directory"));
    let net: u8 = arguments.next().and_then(|n| n.parse().ok()).expect("a number below 256");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sites = runtime.block_on(open(&directory, net));
    for line in std::io::stdin().lock().lines() {
        let Ok(domain) = line else { break };
        let seen = sites.get(&domain).map(|site| site.ledger());
        let seen = seen.map(|seen| {
            let refused: HashMap<String, u64> = seen.refused.iter().map(|(why, n)| (format!("{why:?}"), *n)).collect();
            json!({ "taken": seen.taken.len() as u64 + seen.twice, "connections": seen.connected, "mails": seen.attempts,
                "refused": refused })
        });
        println!("{}", json!(seen));
    }
}

/// Where the host of the nth case is: as the DNS says, and in truth.
fn public(net: u8, n: usize) -> IpAddr {
    [20, 29, net, n as u8 + 1].into()
}

fn local(net: u8, n: usize, port: u16) -> ListenAddr {
    ListenAddr::Tcp(SocketAddr::new([127, 29, net, n as u8 + 1].into(), port + MIRRORED))
}

async fn open(directory: &Path, net: u8) -> HashMap<String, Arc<Site>> {
    let (authority, start) = (Authority::new(), Instant::now());
    let (mut sites, mut records) = (HashMap::new(), Vec::new());
    for (n, case) in CASES.iter().enumerate() {
        let site = Arc::new(Site::new(n as u64, Vec::new(), Vec::new(), case.character(), n as u64));
        let shown = authority.issue(case.shows, &case.mail_host());
        let tls = shown.as_ref().map(|shown| load(shown.save(directory, case.domain)));
        records.extend(dns::records(case, public(net, n), shown.as_ref()));
        let listener = Listener::bind(&local(net, n, 25), ListenOptions::default()).expect("a free address");
        tokio::spawn(simnet::serve(site.clone(), tls, start, listener));
        if let Some(policy) = &case.policy {
            publish(case, policy, &authority, directory, &local(net, n, 443));
        }
        sites.insert(case.domain.to_owned(), site);
    }
    let roots = directory.join("roots.pem");
    std::fs::write(&roots, authority.root()).unwrap();
    let (dns, key) = dns::serve(records, SocketAddr::new([127, 29, net, 254].into(), 0)).await;
    let anchor = directory.join("anchor");
    std::fs::write(&anchor, format!(". 60 IN DNSKEY {key}\n")).unwrap();
    println!(
        "{}",
        json!({ "dns": dns.to_string(), "anchor": anchor, "roots": roots,
        "domains": CASES.iter().map(|case| case.domain).collect::<Vec<_>>() })
    );
    sites
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
