//! The validating resolver against an authoritative server of signed zones on loopback: a root of our own, below it a zone
//! that is not signed, and one whose signatures are wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::DNSKEY;
use hickory_resolver::proto::dnssec::{DnssecSigner, SigningKey};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::tlsa::{CertUsage, Matching, Selector};
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, NS, SOA, SRV, TLSA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use net::{Deadline, DnsError, MailHosts, Resolver, Tlsa};
use tokio::net::UdpSocket;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

fn zone(origin: &str, records: &[Record]) -> InMemoryZoneHandler<TokioRuntimeProvider> {
    let mut zone =
        InMemoryZoneHandler::empty(name(origin), ZoneType::Primary, AxfrPolicy::Deny, Some(NxProofKind::Nsec));
    let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 3600, 600, 86_400, 60);
    zone.upsert_mut(record(origin, RData::SOA(soa)), 1);
    zone.upsert_mut(record(origin, RData::NS(NS(name("ns.test.")))), 1);
    for record in records {
        zone.upsert_mut(record.clone(), 1);
    }
    zone
}

/// Signs a zone; gives the key as the zone has it.
fn sign(zone: &mut InMemoryZoneHandler<TokioRuntimeProvider>, origin: &str) -> DNSKEY {
    let pkcs8 = Ed25519SigningKey::generate_pkcs8().unwrap();
    let key = Ed25519SigningKey::from_pkcs8(&pkcs8).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let signer = DnssecSigner::new(dnskey.clone(), Box::new(key), name(origin), Duration::from_secs(86_400));
    zone.add_zone_signing_key_mut(signer).unwrap();
    zone.secure_zone_mut().unwrap();
    dnskey
}

async fn serve(zones: Vec<(&str, Arc<InMemoryZoneHandler<TokioRuntimeProvider>>)>) -> SocketAddr {
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

/// What a recursive server does: DS records are the parent's (RFC 4035 §3.1.4.1), all others are asked of who has them.
async fn in_front_of(parent: SocketAddr, all: SocketAddr) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((len, peer)) = front.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..len]).unwrap();
            let to = if question.queries[0].query_type() == RecordType::DS { parent } else { all };
            let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            back.send_to(&packet[..len], to).await.unwrap();
            let len = back.recv(&mut packet).await.unwrap();
            front.send_to(&packet[..len], peer).await.unwrap();
        }
    });
    addr
}

/// The sections of an answer: answers, authority, additional.
type Sections = [Vec<Record>; 3];

/// Answers some questions itself, as one does who can forge packets; of others the answers are those of `honest`.
async fn liar(
    honest: SocketAddr,
    lie: impl Fn(&str, RecordType) -> Option<(ResponseCode, Sections)> + Send + 'static,
) -> SocketAddr {
    let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((len, peer)) = front.recv_from(&mut packet).await {
            let question = Message::from_vec(&packet[..len]).unwrap();
            let query = question.queries[0].clone();
            if let Some((code, [answers, authority, additional])) = lie(&query.name().to_ascii(), query.query_type()) {
                let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
                reply.metadata.response_code = code;
                reply.add_query(query);
                reply.add_answers(answers);
                reply.add_authorities(authority);
                reply.add_additionals(additional);
                front.send_to(&reply.to_vec().unwrap(), peer).await.unwrap();
                continue;
            }
            let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            back.send_to(&packet[..len], honest).await.unwrap();
            let len = back.recv(&mut packet).await.unwrap();
            front.send_to(&packet[..len], peer).await.unwrap();
        }
    });
    addr
}

/// A server, and a file with the key of its root.
async fn server() -> (SocketAddr, PathBuf) {
    let mx = |owner, host: &str| record(owner, RData::MX(MX::new(10, name(host))));
    let a = |owner| record(owner, RData::A(A::new(192, 0, 2, 1)));
    let tlsa =
        |owner| record(owner, RData::TLSA(TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![7; 32])));
    let mut root = zone(
        ".",
        &[
            a("ns.test."),
            mx("b.test.", "mx.b.test."),
            a("mx.b.test."),
            tlsa("_25._tcp.mx.b.test."),
            mx("plain.test.", "mx.plain.test."),
            a("mx.plain.test."),
            record("alias.test.", RData::CNAME(CNAME(name("mx.b.test.")))),
            record("leaves.test.", RData::CNAME(CNAME(name("mx.open.")))),
            record("nowhere.test.", RData::CNAME(CNAME(name("gone.open.")))),
            record("open.", RData::NS(NS(name("ns.test.")))),
        ],
    );
    let key = sign(&mut root, ".");
    let open = zone("open.", &[mx("b.open.", "mx.open."), a("mx.open."), tlsa("_25._tcp.mx.open.")]);
    let root = Arc::new(root);
    let parent = serve(vec![(".", root.clone())]).await;
    let all = serve(vec![(".", root), ("open.", Arc::new(open))]).await;
    let addr = in_front_of(parent, all).await;
    let file = std::env::temp_dir().join(format!("postroom-dnssec-{}-{}", std::process::id(), addr.port()));
    std::fs::write(&file, format!(". 60 IN DNSKEY {key}\n")).unwrap();
    (addr, file)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

#[tokio::test]
async fn what_is_signed_is_proven_and_nothing_else_is() {
    let (addr, file) = server().await;
    let dns = Resolver::anchored(&[addr], &file).unwrap();
    assert_eq!(dns.validates(soon()).await, Ok(true));
    let MailHosts::Mx(hosts) = dns.mail_hosts("b.test", || 0, soon()).await.unwrap() else { panic!() };
    assert_eq!((hosts.records[0].host.as_str(), hosts.secure), ("mx.b.test", true));
    let found = dns.addresses("mx.b.test", soon()).await.unwrap();
    assert_eq!((found.secure, found.alias), (true, None));
    let found = dns.tlsa("mx.b.test", 25, soon()).await.unwrap();
    let expected = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
    assert_eq!((found.records, found.secure), (vec![expected], true));
    // That there is none is proven, too.
    assert_eq!(dns.tlsa("mx.plain.test", 25, soon()).await, Err(DnsError::NoSuchName));
    let found = dns.addresses("alias.test", soon()).await.unwrap();
    assert_eq!((found.name.as_str(), found.secure, found.alias), ("mx.b.test", true, Some(true)));
    std::fs::remove_file(file).unwrap();
}

#[tokio::test]
async fn below_a_zone_that_is_not_signed_nothing_is_proven() {
    let (addr, file) = server().await;
    let dns = Resolver::anchored(&[addr], &file).unwrap();
    let MailHosts::Mx(hosts) = dns.mail_hosts("b.open", || 0, soon()).await.unwrap() else { panic!() };
    assert_eq!((hosts.records[0].host.as_str(), hosts.secure), ("mx.open", false));
    assert!(!dns.tlsa("mx.open", 25, soon()).await.unwrap().secure);
    let found = dns.addresses("leaves.test", soon()).await.unwrap();
    assert_eq!((found.secure, found.alias), (false, Some(true)));
    std::fs::remove_file(file).unwrap();
}

/// A resolver that trusts another key takes nothing this server says.
#[tokio::test]
async fn trap_16_what_is_signed_by_others_is_an_error_not_an_answer() {
    let (addr, mine) = server().await;
    let (_, other) = server().await;
    let dns = Resolver::anchored(&[addr], &other).unwrap();
    assert_eq!(dns.validates(soon()).await, Ok(false));
    assert!(dns.mail_hosts("b.test", || 0, soon()).await.unwrap_err().is_transient());
    assert!(dns.tlsa("mx.b.test", 25, soon()).await.unwrap_err().is_transient());
    assert!(dns.tlsa("mx.plain.test", 25, soon()).await.unwrap_err().is_transient());
    // Without validation it is an answer that proves nothing.
    let dns = Resolver::servers(&[addr], false).unwrap();
    assert!(!dns.tlsa("mx.b.test", 25, soon()).await.unwrap().secure);
    assert_eq!(dns.validates(soon()).await, Ok(false));
    std::fs::remove_file(mine).unwrap();
    std::fs::remove_file(other).unwrap();
}

/// In a zone that is not signed the word of its server is enough; and some names need no server.
#[tokio::test]
async fn what_cannot_be_proven_may_be_denied() {
    let (addr, file) = server().await;
    let dns = Resolver::anchored(&[addr], &file).unwrap();
    assert_eq!(dns.tlsa("gone.open", 25, soon()).await, Err(DnsError::NoSuchName));
    assert_eq!(dns.txt("mx.open", soon()).await, Err(DnsError::NoData));
    assert_eq!(dns.mail_hosts("mx.open", || 0, soon()).await, Ok(MailHosts::Implicit));
    assert_eq!(dns.mail_hosts("mx.b.test", || 0, soon()).await, Ok(MailHosts::Implicit));
    // At the end of an alias, too.
    assert_eq!(dns.txt("nowhere.test", soon()).await, Err(DnsError::NoSuchName));
    assert_eq!(dns.txt("leaves.test", soon()).await, Err(DnsError::NoData));
    assert_eq!(dns.txt("alias.test", soon()).await, Err(DnsError::NoData));
    assert_eq!(dns.tlsa("localhost", 25, soon()).await, Err(DnsError::NoData));
    assert_eq!(dns.mail_hosts("nobody.invalid", || 0, soon()).await, Err(DnsError::NoSuchName));
    std::fs::remove_file(file).unwrap();
}

/// RFC 7672 §2.1.1: whoever forges "there is none" for a signed name, with records of a zone that is honestly not signed,
/// takes no protection away.
#[tokio::test]
async fn trap_16_a_forged_denial_is_no_answer() {
    let (addr, file) = server().await;
    let soa = || record("open.", RData::SOA(SOA::new(name("ns.test."), name("admin.test."), 1, 3600, 600, 86_400, 60)));
    let foreign = || record("mx.open.", RData::A(A::new(192, 0, 2, 1)));
    let service = |target| record("x.open.", RData::SRV(SRV::new(0, 0, 25, name(target))));
    let alias = || record("y.open.", RData::CNAME(CNAME(name("z.open."))));
    let forged = || {
        let data = TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![6; 32]);
        record("_25._tcp.mx.b.test.", RData::TLSA(data))
    };
    let (denied, fine) = (ResponseCode::NXDomain, ResponseCode::NoError);
    let lies: [(&str, ResponseCode, Sections); 7] = [
        ("no such name", denied, [vec![], vec![soa()], vec![]]),
        ("no data", fine, [vec![], vec![soa()], vec![]]),
        ("nothing at all", denied, [vec![], vec![], vec![]]),
        ("another's record", fine, [vec![foreign()], vec![soa()], vec![]]),
        ("another's record, and no such name", denied, [vec![foreign()], vec![soa()], vec![]]),
        ("the way to a name that is not there", fine, [vec![service("gone.open.")], vec![soa()], vec![]]),
        ("a record beside the answer", fine, [vec![foreign(), alias()], vec![soa()], vec![forged()]]),
    ];
    for (what, code, sections) in lies {
        let lie = move |asked: &str, kind| {
            let is_asked = (asked == "_25._tcp.mx.b.test." && kind == RecordType::TLSA)
                || (matches!(asked, "b.test." | "_mta-sts.b.test.")
                    && matches!(kind, RecordType::MX | RecordType::TXT));
            is_asked.then(|| (code, sections.clone()))
        };
        let front = liar(addr, lie).await;
        let dns = Resolver::anchored(&[front], &file).unwrap();
        let found = dns.tlsa("mx.b.test", 25, soon()).await;
        assert!(found.as_ref().is_err_and(DnsError::is_transient), "{what}: {found:?}");
        let found = dns.mail_hosts("b.test", || 0, soon()).await;
        assert!(found.as_ref().is_err_and(DnsError::is_transient), "{what}: {found:?}");
        let found = dns.txt("_mta-sts.b.test", soon()).await;
        assert!(found.as_ref().is_err_and(DnsError::is_transient), "{what}: {found:?}");
    }
    std::fs::remove_file(file).unwrap();
}

/// A record that does not verify comes back among the answers where hickory follows what leads nowhere.
#[tokio::test]
async fn trap_16_what_does_not_verify_is_no_unsigned_answer() {
    let (addr, file) = server().await;
    let soa = || record("open.", RData::SOA(SOA::new(name("ns.test."), name("admin.test."), 1, 3600, 600, 86_400, 60)));
    let again = AtomicBool::new(false);
    let lie = move |asked: &str, kind| {
        let forged = || {
            let data = TLSA::new(CertUsage::DaneEe, Selector::Spki, Matching::Sha256, vec![6; 32]);
            record("_25._tcp.mx.b.test.", RData::TLSA(data))
        };
        if (asked, kind) != ("_25._tcp.mx.b.test.", RecordType::TLSA) {
            return None;
        }
        let sections = if again.swap(true, Relaxed) {
            [vec![record("mx.open.", RData::A(A::new(192, 0, 2, 1)))], vec![soa()], vec![forged()]]
        } else {
            let alias = record("y.open.", RData::CNAME(CNAME(name("z.open."))));
            let back = record("x.open.", RData::SRV(SRV::new(0, 0, 25, name(asked))));
            [vec![alias, back], vec![soa()], vec![]]
        };
        Some((ResponseCode::NoError, sections))
    };
    let dns = Resolver::anchored(&[liar(addr, lie).await], &file).unwrap();
    let found = dns.tlsa("mx.b.test", 25, soon()).await;
    assert!(found.as_ref().is_err_and(DnsError::is_transient), "{found:?}");
    std::fs::remove_file(file).unwrap();
}
