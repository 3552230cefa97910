//! Its DNS: a signed root that has `test` and the rest of the world in it, an unsigned zone `open`, and a zone `bogus` that its parent says is signed by
//! another key.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_resolver::proto::dnssec::{Algorithm, DigestType, DnssecSigner, SigningKey};
use hickory_resolver::proto::op::Message;
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, MX, NS, SOA, TLSA, TXT};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use simnet::Site;
use tokio::net::UdpSocket;

use crate::cases::{Case, Dane, Mx};
use crate::certificates::Certificate;

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

fn address(owner: &str, ip: IpAddr) -> Record {
    let IpAddr::V4(ip) = ip else { panic!("{ip}") };
    record(owner, RData::A(A(ip)))
}

/// What the DNS says of a case whose host is at `ip` and shows this.
pub fn records(case: &Case, ip: IpAddr, shown: Option<&Certificate>) -> Vec<Record> {
    let (domain, host) = (format!("{}.", case.domain), format!("{}.", case.mail_host()));
    let (preference, target) = if case.mx == Mx::Null { (0, ".") } else { (10, host.as_str()) };
    let mut all = vec![record(&domain, RData::MX(MX::new(preference, name(target))))];
    match case.mx {
        Mx::Host => all.push(address(&host, ip)),
        Mx::Loopback => all.push(address(&host, [127, 0, 0, 1].into())),
        Mx::Null | Mx::Nobody => {}
    }
    let right = || shown.map_or_else(Vec::new, Certificate::public_key);
    let tlsa = match case.dane {
        Dane::None => None,
        Dane::Right => Some((CertUsage::DaneEe, digest(&SHA256, &right()).as_ref().to_vec())),
        Dane::Wrong => Some((CertUsage::DaneEe, vec![7; 32])),
        Dane::Unusable => Some((CertUsage::PkixTa, vec![7; 32])),
    };
    if let Some((usage, data)) = tlsa {
        let data = TLSA::new(usage, Selector::Spki, Matching::Sha256, data);
        all.push(record(&format!("_25._tcp.{host}"), RData::TLSA(data)));
    }
    if case.policy.is_some() {
        let text = TXT::new(vec!["v=STSv1; id=1".to_owned()]);
        all.push(record(&format!("_mta-sts.{domain}"), RData::TXT(text)));
        all.push(address(&format!("mta-sts.{domain}"), ip));
    }
    all
}

/// What the DNS says of a site that a seed made, whose nth host is at the nth of `ips`.
pub fn records_of_site(site: &Site, ips: &[IpAddr]) -> Vec<Record> {
    let rooted = |name: &String| format!("{name}.");
    let hosts: Vec<String> = site.hosts.iter().map(rooted).collect();
    let mut all: Vec<Record> = hosts.iter().zip(ips).map(|(host, ip)| address(host, *ip)).collect();
    for domain in site.domains.iter().map(rooted) {
        // As in memory: the first is preferred.
        let exchange = |(n, host): (usize, &String)| RData::MX(MX::new(10 * (n as u16 + 1), name(host)));
        all.extend(hosts.iter().enumerate().map(exchange).map(|data| record(&domain, data)));
    }
    all
}

fn zone(origin: &str, records: &[Record]) -> Zone {
    let mut zone = Zone::empty(name(origin), ZoneType::Primary, AxfrPolicy::Deny, Some(NxProofKind::Nsec));
    let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 3600, 600, 86_400, 60);
    zone.upsert_mut(record(origin, RData::SOA(soa)), 1);
    zone.upsert_mut(record(origin, RData::NS(NS(name("ns.test.")))), 1);
    for record in records {
        zone.upsert_mut(record.clone(), 1);
    }
    zone
}

/// Signs a zone; gives the key as the zone has it.
fn sign(zone: &mut Zone, origin: &str) -> DNSKEY {
    let pkcs8 = Ed25519SigningKey::generate_pkcs8().unwrap();
    let key = Ed25519SigningKey::from_pkcs8(&pkcs8).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let signer = DnssecSigner::new(dnskey.clone(), Box::new(key), name(origin), Duration::from_secs(7 * 86_400));
    zone.add_zone_signing_key_mut(signer).unwrap();
    zone.secure_zone_mut().unwrap();
    dnskey
}

async fn answer(zones: Vec<(&str, Arc<Zone>)>) -> SocketAddr {
    let mut catalog = Catalog::new();
    for (origin, zone) in zones {
        catalog.upsert(name(origin).into(), vec![zone]);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let mut server = Server::new(catalog);
    server.register_socket(socket);
    tokio::spawn(async move { server.block_until_done().await });
    addr
}

/// Answers at `at`; gives where that is, and the key of the root.
pub async fn serve(records: Vec<Record>, at: SocketAddr) -> (SocketAddr, DNSKEY) {
    let below =
        |zone: &str| -> Vec<Record> { records.iter().filter(|r| name(zone).zone_of(&r.name)).cloned().collect() };
    let other = DS::new(7, Algorithm::ED25519, DigestType::SHA256, vec![7; 32]);
    let delegated = [
        address("ns.test.", [20, 29, 0, 1].into()),
        record("open.", RData::NS(NS(name("ns.test.")))),
        record("bogus.", RData::NS(NS(name("ns.test.")))),
        record("bogus.", RData::DNSSEC(DNSSECRData::DS(other))),
    ];
    let is_delegated = |r: &&Record| ["open.", "bogus."].iter().any(|zone| name(zone).zone_of(&r.name));
    let in_root: Vec<Record> =
        delegated.into_iter().chain(records.iter().filter(|r| !is_delegated(r)).cloned()).collect();
    let (mut root, open) = (zone(".", &in_root), zone("open.", &below("open.")));
    let mut bogus = zone("bogus.", &below("bogus."));
    let key = sign(&mut root, ".");
    sign(&mut bogus, "bogus.");
    let (root, open, bogus) = (Arc::new(root), Arc::new(open), Arc::new(bogus));
    let parent = answer(vec![(".", root.clone())]).await;
    let all = answer(vec![(".", root), ("open.", open), ("bogus.", bogus)]).await;
    let front = UdpSocket::bind(at).await.unwrap();
    let at = front.local_addr().unwrap();
    tokio::spawn(recurse(Arc::new(front), parent, all));
    (at, key)
}

/// What a recursive server does: DS records are the parent's (RFC 4035 §3.1.4.1), all others are asked of who has them.
async fn recurse(front: Arc<UdpSocket>, parent: SocketAddr, all: SocketAddr) {
    let mut packet = [0; 4096];
    loop {
        let Ok((len, peer)) = front.recv_from(&mut packet).await else { continue };
        let Ok(question) = Message::from_vec(&packet[..len]) else { continue };
        let is_ds = question.queries.first().is_some_and(|query| query.query_type() == RecordType::DS);
        let (to, asked, front) = (if is_ds { parent } else { all }, packet[..len].to_vec(), front.clone());
        tokio::spawn(async move {
            let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut packet = [0; 4096];
            back.send_to(&asked, to).await.unwrap();
            if let Ok(len) = back.recv(&mut packet).await {
                let _ = front.send_to(&packet[..len], peer).await;
            }
        });
    }
}
