//! DANE: what the DNS says of a host's certificate holds, and nothing less will do; where it says nothing, nothing changes.

use std::sync::Arc;

use net::{CertFacts, CertFiles, Tlsa, Zone};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use testkit::Dir;

use crate::peer::{Character, Peer};
use crate::sts::outcome;
use crate::tls::{certificate, offering};
use crate::world::{Net, rules};

/// A record that holds the whole certificate.
fn tlsa(files: &CertFiles) -> Tlsa {
    let data = CertificateDer::from_pem_file(&files.chain).unwrap().to_vec();
    assert!(CertFacts::read(&files.chain).is_ok());
    Tlsa { usage: 3, selector: 0, matching: 0, data }
}

/// `b.test`, whose only mail host shows a certificate that nobody vouches for.
struct Scene {
    dir: Arc<Dir>,
    net: Net,
    peer: Peer,
    shown: CertFiles,
}

fn scene() -> Scene {
    let dir = Arc::new(Dir::new("outbox-dane"));
    let shown = certificate(&dir, "elsewhere.test");
    let (net, peer) = Net::default().host("b.test", 1, offering(&shown));
    Scene { net: net.keeping(&dir), dir, peer, shown }
}

fn signed(zone: Zone) -> Zone {
    zone.signed("b.test").signed("mx.b.test").signed("_25._tcp.mx.b.test")
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_the_dns_names_is_good_and_no_other() {
    for fits in [true, false] {
        let Scene { net, peer, shown, dir } = scene();
        let record = if fits { tlsa(&shown) } else { tlsa(&certificate(&dir, "mx.b.test")) };
        let w = net.dns(|zone| signed(zone).tlsa("mx.b.test", record)).world().await;
        let said = outcome(&w, &peer).await;
        if fits {
            assert_eq!(said, "sent by TLS");
            continue;
        }
        for words in
            ["451 4.7.5 The DNS names the certificate of the mail host mx.b.test (DANE", "administrator of mx.b.test"]
        {
            assert!(said.contains(words), "{said}");
        }
        assert_eq!(peer.taken(), []);
        // Without TLS neither, nor without a handshake.
        for worse in [rules(&[]), Character { broken_tls: true, ..offering(&shown) }] {
            peer.becomes(worse);
            assert!(outcome(&w, &peer).await.starts_with("451 4.7.5"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_proven_counts() {
    let wrong = |files: &CertFiles| Tlsa { data: vec![1; 9], ..tlsa(files) };
    for forget in ["b.test", "mx.b.test", "_25._tcp.mx.b.test"] {
        let Scene { net, peer, shown, .. } = scene();
        let names = ["b.test", "mx.b.test", "_25._tcp.mx.b.test"].into_iter().filter(|name| *name != forget);
        let zone = |zone: Zone| names.fold(zone.tlsa("mx.b.test", wrong(&shown)), Zone::signed);
        let w = net.dns(zone).world().await;
        assert_eq!(outcome(&w, &peer).await, "sent by TLS", "{forget} is not signed");
    }
}

#[tokio::test(start_paused = true)]
async fn records_that_prove_nothing_demand_tls_all_the_same() {
    let Scene { net, peer, shown, .. } = scene();
    let record = Tlsa { usage: 1, ..tlsa(&shown) };
    let w = net.dns(|zone| signed(zone).tlsa("mx.b.test", record)).world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    w.pass(600).await;
    peer.becomes(rules(&[]));
    let said = outcome(&w, &peer).await;
    assert!(said.starts_with("451 4.7.5 The DNS demands TLS of the mail host mx.b.test (DANE)"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn trap_16_a_dns_that_fails_is_no_downgrade_and_the_next_host_is_tried() {
    for backup in [false, true] {
        let Scene { net, peer, shown, .. } = scene();
        let net = net.dns(|zone| signed(zone).fails("_25._tcp.mx.b.test"));
        let (net, other) = if backup {
            net.mx("b.test", 20, "mx2.b.test", 2, offering(&shown))
        } else {
            (net, Peer::new(Character::default()))
        };
        let w = net.world().await;
        if backup {
            assert_eq!(outcome(&w, &other).await, "sent by TLS");
        } else {
            let said = outcome(&w, &peer).await;
            assert!(said.starts_with("451 4.7.5 The DNS does not say what the certificate of mx.b.test"), "{said}");
        }
        assert!(peer.said().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn trap_16_a_resolver_that_proves_nothing_fails_soft() {
    let Scene { net, peer, shown, .. } = scene();
    let record = Tlsa { data: vec![1; 9], ..tlsa(&shown) };
    let net = net.dns(|zone| zone.tlsa("mx.b.test", record).without_dnssec());
    let w = net.world().await;
    assert!(!w.validates());
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    drop(w);
    let w = scene().net.world().await;
    w.until("it is known that it proves", async || w.validates()).await;
}

/// RFC 7672 §2.2.2: the name to which an aliased host leads, then its own; which one is asked for by SNI, too.
#[tokio::test(start_paused = true)]
async fn trap_16_records_of_a_mail_host_that_is_an_alias() {
    let names = ["c.test", "mx.c.test", "mx.b.test", "_25._tcp.mx.b.test", "_25._tcp.mx.c.test"];
    for (at, unsigned, counts) in [
        ("mx.b.test", "", true),
        ("mx.c.test", "", true),
        // The alias leads out of what is proven: only its own name has records that count.
        ("mx.c.test", "mx.b.test", true),
        ("mx.b.test", "mx.b.test", false),
        ("mx.c.test", "mx.c.test", false),
    ] {
        let Scene { net, peer, shown, .. } = scene();
        let record = Tlsa { data: vec![1; 9], ..tlsa(&shown) };
        let zone = |zone: Zone| {
            let zone = zone.mx("c.test", 10, "mx.c.test").cname("mx.c.test", "mx.b.test").tlsa(at, record);
            names.into_iter().filter(|name| *name != unsigned).fold(zone, Zone::signed)
        };
        let w = net.dns(zone).world().await;
        let id = w.send(&["joe@c.test"]).await;
        if counts {
            assert_eq!(w.until_deferred(id, 1).await.status, "4.7.5", "{at} {unsigned}");
        } else {
            w.until_gone(id).await;
        }
        assert_eq!(peer.taken().len(), usize::from(!counts), "{at} {unsigned}");
    }
}

#[tokio::test(start_paused = true)]
async fn dane_beats_a_policy_and_its_domain_shares_no_connection_with_one_that_proves_less() {
    let Scene { net, peer, shown, dir } = scene();
    let web = certificate(&dir, "mta-sts.b.test");
    let (net, host) = net.web("mta-sts.b.test", 9, net::Tls::load(vec![web.clone()]).unwrap());
    // The policy would let nothing pass: another host, and a certificate that nobody knows.
    host.says("200 OK", "text/plain", "version: STSv1\nmode: enforce\nmx: mx.other.test\nmax_age: 604800\n");
    let record = tlsa(&shown);
    let net = net.dns(|zone| {
        let zone = zone.txt("_mta-sts.b.test", "v=STSv1; id=1;").mx("open.test", 10, "mx.b.test");
        signed(zone).tlsa("mx.b.test", record)
    });
    let w = net.trusting(web.chain).world().await;
    assert_eq!((outcome(&w, &peer).await.as_str(), host.asked().len()), ("sent by TLS", 1));
    let id = w.send(&["joe@open.test"]).await;
    w.until("it is sent", async || {
        w.pass(1).await;
        w.show(id).await.is_empty()
    })
    .await;
    assert_eq!(peer.said().len(), 2);
}
