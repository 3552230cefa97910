//! MTA-STS: what a domain demands is fetched, kept, and holds; and nothing else does.

use std::sync::Arc;

use base::Timestamp;
use net::{CertFiles, Tls, self_signed};
use store::{Sql, Tx, params};
use testkit::Dir;
use trust::mta_sts;

use crate::peer::Peer;
use crate::tls::{certificate, offering};
use crate::web::Web;
use crate::world::{HOUR, MINUTE, Net, World};

const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: mx.b.test\nmax_age: 604800\n";
const DAY: u64 = 24 * HOUR;

/// `b.test` with a mail host that shows the certificate of `host`, and a policy host.
struct Scene {
    dir: Arc<Dir>,
    net: Net,
    peer: Peer,
    web: Web,
}

fn tls(files: &CertFiles) -> Tls {
    Tls::load(vec![files.clone()]).unwrap()
}

fn scene(host: &str) -> Scene {
    let dir = Arc::new(Dir::new("outbox-sts"));
    let (mx, web) = (certificate(&dir, host), certificate(&dir, "mta-sts.b.test"));
    let (net, peer) = Net::default().host("b.test", 1, offering(&mx));
    let net = net.dns(|zone| zone.txt("_mta-sts.b.test", "v=STSv1; id=1;"));
    let (net, web_) = net.web("mta-sts.b.test", 9, tls(&web));
    let net = net.trusting(mx.chain).trusting(web.chain).keeping(&dir);
    Scene { dir, net, peer, web: web_ }
}

/// Sends a mail and says what came of it: taken under TLS, in the clear, or how it was deferred.
pub async fn outcome(w: &World, peer: &Peer) -> String {
    let (before, id) = (peer.taken().len(), w.send(&["jane@b.test"]).await);
    let done = async || {
        // Connections do not follow each other as fast as they can.
        w.pass(1).await;
        let show = w.show(id).await;
        show.is_empty() || show[0].delivery.attempts > 0 && show[0].state == queue::State::Waiting
    };
    w.until("an outcome", done).await;
    match w.show(id).await.first() {
        Some(standing) => standing.reply.clone(),
        None if peer.taken()[before].tls => "sent by TLS".into(),
        None => "sent in the clear".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn an_enforced_policy_lets_mail_pass_to_the_host_that_it_names() {
    let Scene { net, peer, web, .. } = scene("mx.b.test");
    web.says("200 OK", "text/plain; charset=utf-8", ENFORCE);
    let w = net.world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    assert_eq!(web.asked().len(), 1);
    assert!(web.asked()[0].starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{:?}", web.asked());
    assert!(web.asked()[0].contains("host: mta-sts.b.test\r\n"), "{:?}", web.asked());
    // The policy is known, and not asked for again soon.
    w.pass(30 * MINUTE).await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    assert_eq!(web.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn trap_15_enforced_means_that_nothing_else_is_sent_and_says_whom_to_blame() {
    let plain = || crate::world::rules(&[]);
    for (host, policy, broken, words) in [
        (
            "mx.evil.test",
            ENFORCE,
            false,
            &["MTA-STS policy of b.test demands", "not valid for name", "administrator of mx.b.test"][..],
        ),
        ("mx.b.test", ENFORCE, true, &["MTA-STS policy of b.test demands", "does not offer STARTTLS"]),
        (
            "mx.b.test",
            "version: STSv1\nmode: enforce\nmx: *.other.test\nmax_age: 604800\n",
            false,
            &["MTA-STS policy of b.test does not name its mail host mx.b.test", "its administrator"],
        ),
    ] {
        let Scene { net, peer, web, .. } = scene(host);
        web.says("200 OK", "text/plain", policy);
        if broken {
            peer.becomes(plain());
        }
        let w = net.world().await;
        let said = outcome(&w, &peer).await;
        assert!(said.starts_with("451 4.7.5 ") && words.iter().all(|words| said.contains(words)), "{said}");
        assert_eq!(peer.taken(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn trap_15_testing_and_none_enforce_nothing() {
    for mode in ["testing", "none"] {
        let Scene { net, peer, web, .. } = scene("mx.evil.test");
        web.says("200 OK", "text/plain", &ENFORCE.replace("enforce", mode).replace("mx.b", "mx.other"));
        let w = net.world().await;
        assert_eq!((outcome(&w, &peer).await.as_str(), web.asked().len()), ("sent by TLS", 1), "{mode}");
        // On another connection.
        w.pass(10 * MINUTE).await;
        peer.becomes(crate::world::rules(&[]));
        assert_eq!(outcome(&w, &peer).await, "sent in the clear", "{mode}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_policy_demands_nothing_and_is_asked_for_again_after_five_minutes() {
    let large = format!("{ENFORCE}{}", "x: y\n".repeat(14_000));
    for (status, media, body) in [
        ("404 Not Found", "text/plain", ENFORCE),
        // RFC 8461 §3.3: redirects are not followed.
        ("301 Moved Permanently", "text/plain", ENFORCE),
        ("200 OK", "text/html", ENFORCE),
        ("200 OK", "text/plain", "<html>"),
        ("200 OK", "text/plain", &large),
    ] {
        let Scene { net, peer, web, .. } = scene("mx.evil.test");
        web.says(status, media, body);
        let w = net.world().await;
        assert_eq!(outcome(&w, &peer).await, "sent by TLS", "{status} {media}");
        w.pass(61).await;
        assert_eq!(outcome(&w, &peer).await, "sent by TLS");
        assert_eq!(web.asked().len(), 1);
        web.says("200 OK", "text/plain", ENFORCE);
        w.pass(5 * MINUTE).await;
        assert!(outcome(&w, &peer).await.starts_with("451 4.7.5"), "{status} {media}");
        assert_eq!(web.asked().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_host_has_to_prove_who_it_is() {
    let old = |dir: &Dir| {
        let files = CertFiles { chain: dir.path().join("old.pem"), key: dir.path().join("old.key") };
        // It ended in 2010.
        self_signed(&files, &["mta-sts.b.test".to_owned()], Timestamp::from_secs(946_684_800)).unwrap();
        files
    };
    let other = |dir: &Dir| certificate(dir, "b.test");
    for make in [&old as &dyn Fn(&Dir) -> CertFiles, &other] {
        let Scene { net, peer, web, dir } = scene("mx.evil.test");
        let files = make(&dir);
        web.shows(tls(&files));
        web.says("200 OK", "text/plain", ENFORCE);
        let w = net.trusting(files.chain).world().await;
        assert_eq!((outcome(&w, &peer).await.as_str(), web.asked().len()), ("sent by TLS", 0));
    }
}

#[tokio::test(start_paused = true)]
async fn trap_18_a_policy_host_in_our_own_network_is_not_asked() {
    let Scene { net, peer, web, dir } = scene("mx.evil.test");
    let inner = certificate(&dir, "mta-sts.c.test");
    web.says("200 OK", "text/plain", ENFORCE);
    web.shows(tls(&inner));
    // The same host, under a name that leads to a private address.
    let (net, _) = net.mx("c.test", 10, "mx.b.test", 1, offering(&inner));
    let net = net.dns(|zone| zone.txt("_mta-sts.c.test", "v=STSv1; id=1;").ip("mta-sts.c.test", [10, 0, 0, 9].into()));
    let w = net.also_at("10.0.0.9:443", &web).trusting(inner.chain).world().await;
    let id = w.send(&["joe@c.test"]).await;
    w.until_gone(id).await;
    assert!(web.asked().is_empty() && peer.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_changed_id_brings_the_changed_policy() {
    let Scene { net, peer, web, .. } = scene("mx.evil.test");
    web.says("200 OK", "text/plain", &ENFORCE.replace("enforce", "none"));
    let w = net.world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    web.says("200 OK", "text/plain", ENFORCE);
    // Of the same id, it is not fetched again for a day.
    w.pass(2 * HOUR).await;
    outcome(&w, &peer).await;
    assert_eq!(web.asked().len(), 1);
    w.announce("_mta-sts.b.test", "v=STSv1; id=2;");
    w.pass(2 * HOUR).await;
    outcome(&w, &peer).await;
    w.until("the policy is fetched, while mail goes by what is known", async || web.asked().len() == 2).await;
    w.until("it is in force", async || {
        w.pass(61).await;
        outcome(&w, &peer).await.starts_with("451 4.7.5")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn trap_15_neither_an_outage_nor_a_restart_takes_a_policy_away() {
    let Scene { net, peer, web, .. } = scene("mx.b.test");
    web.says("200 OK", "text/plain", &ENFORCE.replace("604800", "172800"));
    let mut w = net.world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    let kept = w.store.read(|tx| mta_sts::recall(tx, "b.test")).await.unwrap().unwrap();
    assert_eq!((kept.id.as_str(), kept.policy.hosts.as_slice()), ("1", &["mx.b.test".to_owned()][..]));
    // The host of the policy is gone, its record too, and who is in our way takes STARTTLS out.
    web.says("404 Not Found", "text/plain", "");
    w.withdraw("_mta-sts.b.test");
    peer.becomes(crate::world::rules(&[]));
    w.stop().await.unwrap();
    w.start_again().await;
    for _ in 0..2 {
        assert!(outcome(&w, &peer).await.starts_with("451 4.7.5"));
        w.pass(DAY).await;
    }
    // Two days after it was fetched it ends, as it says itself.
    assert_eq!(outcome(&w, &peer).await, "sent in the clear");
}

/// Whoever breaks TLS and forges the DNS must not profit from a store that is busy, or broken.
#[tokio::test(start_paused = true)]
async fn trap_15_while_the_store_does_not_say_what_a_domain_demands_its_mail_waits() {
    let breaks = |mode: i64| move |tx: &mut Tx<'_>| tx.execute(&BREAK, params![mode]).map(drop);
    const BREAK: Sql = Sql::named("-- name: break\nUPDATE mta_sts_policy SET mode = ?1;\n", "break");
    let Scene { net, peer, web, .. } = scene("mx.b.test");
    web.says("200 OK", "text/plain", ENFORCE);
    let mut w = net.world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    w.withdraw("_mta-sts.b.test");
    peer.becomes(crate::world::rules(&[]));
    w.stop().await.unwrap();
    w.store.write(breaks(7)).await.unwrap();
    w.start_again().await;
    for _ in 0..2 {
        let said = outcome(&w, &peer).await;
        assert!(said.starts_with("451 4.3.0 ") && said.contains("demands"), "{said}");
        w.pass(HOUR).await;
    }
    // What failed is read again.
    w.store.write(breaks(1)).await.unwrap();
    w.pass(HOUR).await;
    let said = outcome(&w, &peer).await;
    assert!(said.starts_with("451 4.7.5 "), "{said}");
    assert_eq!(peer.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn trap_26_domains_at_one_host_share_no_connection_when_one_of_them_demands_more() {
    let Scene { net, peer, web, .. } = scene("mx.b.test");
    web.says("200 OK", "text/plain", ENFORCE);
    let w = net.dns(|zone| zone.mx("c.test", 10, "mx.b.test").mx("d.test", 10, "mx.b.test")).world().await;
    for to in ["x@c.test", "x@d.test", "x@b.test", "x@b.test"] {
        let id = w.send(&[to]).await;
        w.until("it is sent", async || {
            w.pass(1).await;
            w.show(id).await.is_empty()
        })
        .await;
    }
    let mut by_connection: Vec<Vec<String>> = peer
        .said()
        .into_iter()
        .map(|said| said.into_iter().filter(|line| line.starts_with("RCPT")).collect())
        .collect();
    by_connection.sort();
    let rcpt = |domain: &str| format!("RCPT TO:<x@{domain}.test>");
    assert_eq!(by_connection, [vec![rcpt("b"), rcpt("b")], vec![rcpt("c"), rcpt("d")]]);
}

#[tokio::test(start_paused = true)]
async fn trap_15_an_aliased_domain_goes_by_its_own_policy_not_by_that_of_its_target() {
    let Scene { net, peer, web, .. } = scene("mx.evil.test");
    web.says("200 OK", "text/plain", ENFORCE);
    let w = net.dns(|zone| zone.cname("alias.test", "b.test")).world().await;
    let id = w.send(&["joe@alias.test"]).await;
    w.until_gone(id).await;
    assert!(peer.taken()[0].tls && web.asked().is_empty());
    assert!(outcome(&w, &peer).await.starts_with("451 4.7.5"));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_the_policy_names_is_found_behind_one_that_it_does_not_name() {
    let Scene { net, peer, web, dir } = scene("mx.b.test");
    web.says("200 OK", "text/plain", ENFORCE);
    let evil = certificate(&dir, "mx.evil.test");
    let (net, other) = net.mx("b.test", 5, "mx.evil.test", 2, offering(&evil));
    let w = net.trusting(evil.chain).world().await;
    assert_eq!(outcome(&w, &peer).await, "sent by TLS");
    assert!(other.said().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_the_administrator_names_the_way_no_policy_is_asked_for() {
    let Scene { net, peer, web, .. } = scene("mx.evil.test");
    web.says("200 OK", "text/plain", ENFORCE);
    let route = "192.0.2.1:25".parse().unwrap();
    let w = net.routes(|routes| drop(routes.fixed.insert("b.test".into(), route))).world().await;
    assert_eq!((outcome(&w, &peer).await.as_str(), web.asked().len()), ("sent by TLS", 0));
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_policy_host_that_says_nothing_keeps_mail_for_seconds() {
    let Scene { net, peer, web, .. } = scene("mx.b.test");
    web.says_nothing();
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until("it is asked", async || web.asked().len() == 1).await;
    w.pass(20).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}
