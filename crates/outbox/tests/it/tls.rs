//! STARTTLS: used where it is offered, done without where it fails, demanded where a password is at stake.

use base::{Clock, SystemClock};
use net::{CertFiles, Tls, self_signed};
use outbox::Smarthost;
use queue::QueueId;
use smtp::{Mail, Ret};
use testkit::Dir;

use crate::peer::{Act, Character};
use crate::world::{BODY, Net, World, mail};

pub fn certificate(dir: &Dir, name: &str) -> CertFiles {
    let files =
        CertFiles { chain: dir.path().join(format!("{name}.pem")), key: dir.path().join(format!("{name}.key")) };
    self_signed(&files, &[name.to_owned()], SystemClock.now()).unwrap();
    files
}

pub fn offering(files: &CertFiles) -> Character {
    let tls = Some(Tls::load(vec![files.clone()]).unwrap());
    Character { offers: vec!["STARTTLS", "AUTH LOGIN PLAIN"], tls, ..Character::default() }
}

#[tokio::test(start_paused = true)]
async fn tls_is_used_where_it_is_offered_whatever_the_certificate() {
    let dir = Dir::new("outbox-tls");
    let (net, peer) = Net::default().host("b.test", 1, offering(&certificate(&dir, "other.test")));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert!(peer.taken()[0].tls);
    // Introduced again inside (RFC 3207 §4.2).
    assert_eq!(&peer.said()[0][..3], ["EHLO mx.example.test", "STARTTLS", "EHLO mx.example.test"]);
}

#[tokio::test(start_paused = true)]
async fn without_a_handshake_a_new_connection_does_without() {
    let dir = Dir::new("outbox-tls");
    let broken = Character { broken_tls: true, ..offering(&certificate(&dir, "mx.b.test")) };
    let (net, peer) = Net::default().host("b.test", 1, broken);
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert_eq!((peer.said().len(), peer.taken()[0].tls), (2, false));
}

#[tokio::test(start_paused = true)]
async fn a_refused_starttls_is_done_without() {
    let dir = Dir::new("outbox-tls");
    let rules = vec![("STARTTLS", Act::Say("454 4.7.0 Not now"))];
    let (net, peer) =
        Net::default().host("b.test", 1, Character { rules, ..offering(&certificate(&dir, "mx.b.test")) });
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert_eq!((peer.said().len(), peer.taken()[0].tls), (1, false));
}

fn smarthost(net: Net) -> Net {
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let address = "relay.test:587".parse().unwrap();
    let net = net.dns(|zone| zone.ip("relay.test", [192, 0, 2, 5].into()));
    net.routes(|r| r.smarthost = Some(Smarthost { address, login }))
}

#[tokio::test(start_paused = true)]
async fn a_password_goes_only_to_a_smart_host_with_a_good_certificate() {
    let dir = Dir::new("outbox-tls");
    let (good, bad) = (certificate(&dir, "relay.test"), certificate(&dir, "evil.test"));
    for (files, taken) in [(&good, true), (&bad, false)] {
        let (net, host) = Net::default().listen("192.0.2.5:587".parse().unwrap(), offering(files));
        let w = smarthost(net).trusting(good.chain.clone()).world().await;
        let id = w.send(&["jane@b.test"]).await;
        if taken {
            w.until_gone(id).await;
            assert!(host.taken()[0].tls);
        } else {
            assert_eq!(w.until_deferred(id, 1).await.status, "4.7.5");
        }
        assert_eq!(host.all_said().iter().any(|l| l.starts_with("AUTH")), taken);
    }
}

#[tokio::test(start_paused = true)]
async fn no_password_in_the_clear_and_no_bounce_for_our_own_setting() {
    let (net, host) = Net::default()
        .listen("192.0.2.5:587".parse().unwrap(), Character { offers: vec!["AUTH PLAIN"], ..Character::default() });
    let w = smarthost(net).world().await;
    let id = w.send(&["jane@b.test"]).await;
    let d = w.until_deferred(id, 1).await;
    assert_eq!(d.reply, "451 4.7.0 the receiving host does not offer STARTTLS");
    assert!(host.all_said().iter().all(|l| !l.starts_with("AUTH")));
    let dir = Dir::new("outbox-tls");
    let files = certificate(&dir, "relay.test");
    let rules = vec![("AUTH", Act::Say("535 5.7.8 Wrong password"))];
    host.becomes(Character { rules, ..offering(&files) });
    w.check().await;
}

async fn send_requiring_tls(w: &World) -> QueueId {
    let mail = Mail { require_tls: true, ret: Some(Ret::Full), ..mail("me@example.test") };
    w.enqueue_as(mail, &["jane@b.test"], None, BODY).await
}

#[tokio::test(start_paused = true)]
async fn requiretls_is_passed_on_to_a_host_that_is_known_for_sure() {
    let dir = Dir::new("outbox-tls");
    let files = certificate(&dir, "mx.b.test");
    let able = Character { offers: vec!["STARTTLS", "REQUIRETLS"], ..offering(&files) };
    let (net, peer) = Net::default().host("b.test", 1, able);
    let w = net.dns(|zone| zone.signed("b.test")).trusting(files.chain.clone()).world().await;
    let (id, plain) = (send_requiring_tls(&w).await, w.send(&["joe@b.test"]).await);
    w.until_gone(id).await;
    w.until_gone(plain).await;
    let said = peer.all_said();
    assert!(said.contains(&"MAIL FROM:<me@example.test> REQUIRETLS".to_owned()), "{said:?}");
    // One that demands nothing has a connection of its own.
    assert_eq!(peer.said().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn requiretls_goes_nowhere_else_and_its_report_has_no_body() {
    let dir = Dir::new("outbox-tls");
    let (good, bad) = (certificate(&dir, "mx.b.test"), certificate(&dir, "mx.evil.test"));
    let able = |files| Character { offers: vec!["STARTTLS", "REQUIRETLS"], ..offering(files) };
    for (character, signed, status) in [
        (able(&good), false, "5.7.30"),
        (offering(&good), true, "5.7.30"),
        (Character { offers: vec!["REQUIRETLS"], ..Character::default() }, true, "5.7.30"),
        // A certificate may be put right: these wait.
        (able(&bad), true, "4.7.5"),
        (Character { broken_tls: true, ..able(&good) }, true, "4."),
    ] {
        let (net, peer) = Net::default().host("b.test", 1, character);
        let net = net.dns(|zone| if signed { zone.signed("b.test") } else { zone });
        let w = net.trusting(good.chain.clone()).world().await;
        let id = send_requiring_tls(&w).await;
        if status.starts_with('5') {
            let report = w.mail(1).await;
            assert!(report.contains(&format!("Status: {status}")), "{report}");
            assert!(report.contains("Subject: hi") && !report.contains("hello"), "{report}");
        } else {
            let said = w.until_deferred(id, 1).await;
            assert!(said.status.starts_with(status), "{}", said.reply);
        }
        assert!(!peer.all_said().iter().any(|l| l.starts_with("MAIL")));
        w.check().await;
    }
}

/// An enforced policy vouches for the names of mail hosts as DNSSEC does (RFC 8689 §4.2.1); one that is only tested does not.
#[tokio::test(start_paused = true)]
async fn requiretls_goes_where_an_enforced_policy_leads() {
    for (mode, delivered) in [("enforce", true), ("testing", false)] {
        let dir = Dir::new("outbox-tls");
        let (mx, web) = (certificate(&dir, "mx.b.test"), certificate(&dir, "mta-sts.b.test"));
        let able = Character { offers: vec!["STARTTLS", "REQUIRETLS"], ..offering(&mx) };
        let (net, peer) = Net::default().host("b.test", 1, able);
        let (net, host) = net.web("mta-sts.b.test", 9, Tls::load(vec![web.clone()]).unwrap());
        let policy = format!("version: STSv1\nmode: {mode}\nmx: mx.b.test\nmax_age: 604800\n");
        host.says("200 OK", "text/plain", &policy);
        let net = net.dns(|zone| zone.txt("_mta-sts.b.test", "v=STSv1; id=1;"));
        let w = net.trusting(mx.chain).trusting(web.chain).world().await;
        let id = send_requiring_tls(&w).await;
        if delivered {
            w.until_gone(id).await;
        } else {
            assert!(w.mail(1).await.contains("Status: 5.7.30"));
        }
        assert_eq!(peer.taken().len(), usize::from(delivered));
    }
}
