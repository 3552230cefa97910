//! Mail leaves by sources: addresses of ours, each with a name of its own, and a standing of its own.

use std::collections::BTreeSet;

use base::OrganisationId;
use queue::source::{self, Scope};

use crate::peer::{Act, Character, Peer};
use crate::world::{MINUTE, Net, World, rules};

/// Sends one mail after another, all the way.
async fn send(w: &World, n: usize, domain: &str) {
    for n in 0..n {
        let id = w.send(&[&format!("u{n}@{domain}")]).await;
        w.until_gone(id).await;
        w.pass(1).await;
    }
}

/// How many mails came from an address.
fn by(peer: &Peer, ip: &str) -> usize {
    peer.taken().iter().filter(|taken| taken.by == Some(ip.parse().unwrap())).count()
}

#[tokio::test(start_paused = true)]
async fn each_source_has_its_address_its_name_and_its_share() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    send(&w, 1, "b.test").await;
    assert_eq!(peer.visitors(), [("127.0.0.1".into(), "mx.example.test".into())], "the system's choice");
    w.source("a", &["127.0.0.2"]).await;
    w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1), ("b", 3)]).await;
    send(&w, 40, "b.test").await;
    let visitors: BTreeSet<_> = peer.visitors().into_iter().skip(1).collect();
    let expected = [("127.0.0.2", "a.example.test"), ("127.0.0.3", "b.example.test")];
    assert_eq!(visitors, expected.map(|(ip, name)| (ip.to_owned(), name.to_owned())).into());
    let (a, b) = (by(&peer, "127.0.0.2"), by(&peer, "127.0.0.3"));
    assert!(a + b == 40 && (3..=18).contains(&a), "{a} and {b}");
    // Recipients of one mail go together.
    let to: Vec<String> = (0..30).map(|n| format!("x{n}@b.test")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().last().unwrap().to.len(), 30);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_set_up_otherwise_counts_for_the_next_mail() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    w.source("a", &["127.0.0.2"]).await;
    w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1)]).await;
    send(&w, 3, "b.test").await;
    let b = || vec![("b".to_owned(), 1)];
    w.store.write(move |tx| source::change_pool(tx, "all", Some(&b()), None)).await.unwrap();
    send(&w, 3, "b.test").await;
    w.store.write(|tx| source::remove(tx, "a")).await.unwrap();
    w.store.write(|tx| source::remove_pool(tx, "all")).await.unwrap();
    send(&w, 3, "b.test").await;
    let from: Vec<_> = peer.taken().iter().map(|taken| taken.by.unwrap().to_string()).collect();
    assert_eq!(from, ["127.0.0.2", "127.0.0.3", "127.0.0.1"].map(|ip| [ip; 3]).concat());
}

/// What was to be sent by a source that is taken away is sent by another.
#[tokio::test(start_paused = true)]
async fn what_stands_in_line_for_a_source_that_is_gone_goes_on() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("greeting", Act::Stall)]));
    let w = net.world().await;
    w.source("a", &["127.0.0.2"]).await;
    w.pool("all", &[("a", 1)]).await;
    let id = w.send(&["x@b.test"]).await;
    w.until("it connects", async || !peer.visitors().is_empty()).await;
    peer.becomes(Character::default());
    w.store.write(|tx| source::remove_pool(tx, "all")).await.unwrap();
    w.store.write(|tx| source::remove(tx, "a")).await.unwrap();
    w.until_gone(id).await;
    assert_eq!(by(&peer, "127.0.0.1"), 1);
    w.check().await;
}

/// A site that is angry with one source is not with the other, and a mail does not change its source to get around that.
#[tokio::test(start_paused = true)]
async fn what_a_site_says_is_said_to_one_source() {
    let pause = "421 4.7.1 DNS lookup failed, try again in 600 seconds";
    let (net, peer) = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, rules(&[("EHLO a.", Act::Say(pause))]));
    let w = net.world().await;
    w.source("a", &["127.0.0.2"]).await;
    w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1), ("b", 1)]).await;
    // All stand in line before anything is said.
    let domain = || source::What::Domain("b.test".into());
    w.hold(domain(), false).await;
    let mut ids = Vec::new();
    for n in 0..12 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    w.resume(domain()).await;
    w.until("b sends its own", async || {
        w.pass(1).await;
        let mut open = 0;
        for id in &ids {
            open += usize::from(!w.show(*id).await.is_empty());
        }
        open + peer.taken().len() == 12 && (1..12).contains(&open) && w.metered().1 == 0
    })
    .await;
    assert_eq!(by(&peer, "127.0.0.2"), 0);
    let said = peer.visitors().iter().filter(|(from, _)| from == "127.0.0.2").count();
    peer.becomes(Character::default());
    w.pass(11 * MINUTE).await;
    for id in ids {
        w.pass(1).await;
        w.until_gone(id).await;
    }
    assert!(by(&peer, "127.0.0.2") > 0 && said <= 2, "{said} connections into the pause");
    w.check().await;
}

/// Nor does it keep back what comes while that one source is to wait, and is another's.
#[tokio::test(start_paused = true)]
async fn new_mail_of_another_source_does_not_wait_for_the_one_that_is_paused() {
    let pause = "421 4.7.1 DNS lookup failed, try again in 600 seconds";
    let (net, peer) = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, rules(&[("EHLO a.", Act::Say(pause))]));
    let w = net.world().await;
    w.source("a", &["127.0.0.2"]).await;
    w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1)]).await;
    let first = w.send(&["first@b.test"]).await;
    w.until_deferred(first, 1).await;
    let both = || vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    w.store.write(move |tx| source::change_pool(tx, "all", Some(&both()), None)).await.unwrap();
    let mut ids = vec![first];
    for n in 0..12 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
        w.pass(1).await;
    }
    w.settle().await;
    let mut open = 0;
    for id in &ids {
        open += usize::from(!w.show(*id).await.is_empty());
    }
    // What is a's waits, and b's does not.
    assert_eq!((open + by(&peer, "127.0.0.3"), by(&peer, "127.0.0.2")), (13, 0));
    assert!((2..=11).contains(&open), "{open}");
    // When neither takes any, nothing is claimed.
    peer.becomes(rules(&[("EHLO", Act::Say(pause)), ("MAIL", Act::Say(pause))]));
    w.until("b is to wait, too", async || {
        ids.push(w.send(&[&format!("v{}@b.test", ids.len())]).await);
        w.pass(1).await;
        w.settle().await;
        w.held("b.test")
    })
    .await;
    peer.becomes(Character::default());
    w.pass(12 * MINUTE).await;
    for id in ids {
        w.pass(1).await;
        w.until_gone(id).await;
    }
    assert!(by(&peer, "127.0.0.2") > 0);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_without_an_address_of_the_family_leaves_it_to_another() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    w.source("six", &["2001:db8::1"]).await;
    w.pool("all", &[("six", 1)]).await;
    let id = w.send(&["x@b.test"]).await;
    let d = w.until_deferred(id, 1).await;
    assert_eq!(d.reply, "451 4.4.4 mx.b.test has no address of a family that our sources for this mail have");
    w.source("four", &["127.0.0.2"]).await;
    let both = || vec![("six".to_owned(), 1000), ("four".to_owned(), 1)];
    w.store.write(move |tx| source::change_pool(tx, "all", Some(&both()), None)).await.unwrap();
    send(&w, 3, "b.test").await;
    assert_eq!(by(&peer, "127.0.0.2"), 3);
    w.pass(2 * MINUTE).await;
    w.until_gone(id).await;
    w.check().await;
}

/// Trap 18: a host that is this server, by whatever name we come.
#[tokio::test(start_paused = true)]
async fn trap_18_a_source_does_not_take_this_server_for_another() {
    for name in ["mx.example.test", "a.example.test"] {
        let (net, peer) = Net::default().host("b.test", 1, Character { name, ..Character::default() });
        let w = net.world().await;
        w.source("a", &["127.0.0.2"]).await;
        w.pool("all", &[("a", 1)]).await;
        let id = w.send(&["x@b.test"]).await;
        w.until_gone(id).await;
        assert!(peer.taken().is_empty());
        assert!(w.mail(1).await.contains("Action: failed\r\nStatus: 5.4.6\r\n"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_organisation_that_is_bound_by_one_source_goes_on_by_the_other() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let a = w.source("a", &["127.0.0.2"]).await;
    w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1), ("b", 1)]).await;
    let scope = Scope { source: Some(a), organisation: Some(OrganisationId(7)), ..Scope::default() };
    w.rules(scope, &[("rate", "6/h")]).await;
    for n in 0..60 {
        w.send_of(7, &[&format!("u{n}@b.test")]).await;
    }
    for _ in 0..30 {
        w.pass(1).await;
    }
    let (a, b) = (by(&peer, "127.0.0.2"), by(&peer, "127.0.0.3"));
    assert!(a == 1 && b >= 20, "{a} and {b}");
    w.check().await;
}
