//! What is forwarded leaves with a return address of ours, by which reports find the sender, and nobody else finds anybody.

use base::{Address, Timestamp};
use directory::Route;
use ingress::{Origin, Protocol};
use queue::State;
use smtp::{Mail, Recipient};
use store::Tx;
use trust::Srs;

use crate::world::{BODY, NOW, World, at, from, recipients, to};

/// The envelope senders in the queue.
async fn senders(w: &World) -> Vec<String> {
    w.queue().await.iter().map(|(m, _)| m.from.as_ref().map_or_else(String::new, Address::to_string)).collect()
}

/// The return address of a mail of `sender` that was forwarded so many days ago.
async fn return_address(w: &World, sender: &str, days: i64) -> Address {
    let then = Timestamp(NOW.0 - days * 86_400_000);
    Srs::new(w.store.clone()).rewritten(&at(sender), "example.test", then).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_report_about_a_forwarded_mail_finds_the_sender() {
    let w = World::new().await;
    w.send(w.stranger(), from("Jane.Doe@b.test"), &[to("away@example.test")], BODY).await;
    let sender = senders(&w).await.remove(0);
    assert!(sender.starts_with("SRS0=") && sender.ends_with("=b.test=Jane.Doe@example.test"), "{sender}");
    // From a host that writes local parts its own way.
    let report = format!("From: <>\r\n{BODY}");
    let (named, done) = w.send(w.stranger(), from(""), &[to(&sender.to_lowercase())], &report).await;
    assert_eq!((named, done), (vec!["OK".to_owned()], vec!["OK".to_owned()]));
    let (message, deliveries) = w.queue().await.pop().unwrap();
    assert_eq!(recipients(&deliveries), [("jane.doe@b.test".into(), State::Waiting)]);
    assert_eq!(message.from, None);
    let prefix = String::from_utf8(message.prefix.to_vec()).unwrap();
    assert!(prefix.starts_with("Delivered-To: srs0=") && !prefix.contains("DKIM"), "{prefix}");
    // Trap 18: and it does not go round.
    let (_, done) = w.send(w.stranger(), from(""), &[to(&sender)], &format!("{prefix}{report}")).await;
    assert!(done[0].starts_with("554 5.4.6 "), "{done:?}");
    w.check().await;
}

#[tokio::test]
async fn what_is_forwarded_is_as_urgent_as_any_other() {
    let w = World::new().await;
    let mail = Mail { priority: Some(9), ..from("me@example.test") };
    w.send(w.signed_in(), mail, &[to("away@example.test"), to("x@b.test")], BODY).await;
    let mut priorities: Vec<i8> = w.queue().await.iter().map(|(m, _)| m.priority).collect();
    priorities.sort();
    assert_eq!(priorities, [0, 9]);
}

#[tokio::test]
async fn each_forward_has_the_domain_of_its_address() {
    let w = World::new().await;
    let define = |tx: &mut Tx<'_>| {
        let elsewhere = || Route::Forward(vec![at("x@c.test")]);
        directory::create_address(tx, &at("away@other.test"), &elsewhere(), NOW)?;
        directory::create_address(tx, &at("postmaster@example.test"), &Route::Forward(vec![at("y@c.test")]), NOW)
    };
    w.store.write(define).await.unwrap();
    let all = ["away@other.test", "both@example.test", "postmaster@mx.example.test"].map(to);
    w.send(w.stranger(), from("a@b.test"), &all, BODY).await;
    let domains: Vec<String> = senders(&w).await.iter().map(|s| s.split_once("=b.test=a@").unwrap().1.into()).collect();
    assert_eq!(domains, ["other.test", "example.test", "example.test"]);
}

#[tokio::test]
async fn what_needs_no_return_address_keeps_its_sender() {
    let w = World::new().await;
    let trusted = Origin { trusted: true, ..w.stranger() };
    // One of our domains, which this server may send for; nobody; and a host that relays, whose own business it is.
    w.send(w.signed_in(), from("me@example.test"), &[to("away@example.test")], BODY).await;
    w.send(trusted.clone(), from("boss@other.test"), &[to("away@example.test")], BODY).await;
    w.send(w.stranger(), from(""), &[to("away@example.test")], BODY).await;
    w.send(trusted, from("a@b.test"), &[to("x@c.test")], BODY).await;
    assert_eq!(senders(&w).await, ["me@example.test", "boss@other.test", "", "a@b.test"]);
    // One too long for it: better from elsewhere than not at all.
    let long = format!("{}@{1}.{1}.{1}.test", "a".repeat(60), "b".repeat(60));
    w.send(w.stranger(), from(&long), &[to("away@example.test")], BODY).await;
    assert_eq!(senders(&w).await.pop(), Some(long));
}

#[tokio::test]
async fn the_return_address_of_another_forwarder_leads_to_it() {
    let w = World::new().await;
    let theirs = "SRS0=bQ9s=G3=a.test=jane@b.test";
    w.send(w.stranger(), from(theirs), &[to("away@example.test")], BODY).await;
    let sender = senders(&w).await.remove(0);
    assert!(sender.starts_with("SRS1=") && sender.ends_with("=b.test==bQ9s=G3=a.test=jane@example.test"), "{sender}");
    let (named, _) = w.send(w.stranger(), from(""), &[to(&sender)], BODY).await;
    assert_eq!(named, ["OK"]);
    assert_eq!(recipients(&w.queue().await[1].1), [(theirs.to_owned(), State::Waiting)]);
}

#[tokio::test]
async fn trap_19_a_return_address_is_no_way_to_send_mail() {
    let w = World::new().await;
    let sent = return_address(&w, "jane@b.test", 0).await;
    let (hash, rest) = (&sent.local()[5..13], &sent.local()[13..]);
    let names = |text: String| Address::new(&text, "example.test").unwrap();
    let other = return_address(&w, "mallory@b.test", 0).await;
    let forged = [
        names(format!("SRS0={}{rest}", &other.local()[5..13])),
        names(format!("SRS0=AAAAAAAA{rest}")),
        names(format!("SRS0={}", &rest[1..])),
        names(format!("SRS0={hash}=G3=victim.test=jane")),
        names(format!("SRS0={}x", &sent.local()[5..])),
        names(format!("SRS1={hash}=b.test={rest}")),
        names("SRS0".to_owned() + &"=".repeat(20)),
        return_address(&w, "jane@b.test", 22).await,
        return_address(&w, "jane@b.test", -2).await,
        // A sender that is not ours does not become a mailbox of ours, nor one of ours that is gone.
        return_address(&w, "nobody@example.test", 0).await,
    ];
    let catch_all = |tx: &mut Tx<'_>| {
        let id = directory::domain_by_name(tx, "other.test")?.unwrap().id;
        let change = directory::DomainChange { separator: None, catch_all: Some(Some(at("boss@other.test"))) };
        directory::change_domain(tx, id, &change)
    };
    w.store.write(catch_all).await.unwrap();
    for address in &forged {
        for origin in [w.stranger(), w.signed_in(), Origin { protocol: Protocol::Lmtp, ..w.stranger() }] {
            let (named, _) = w.send(origin, from(""), &[to(&address.to_string())], BODY).await;
            assert!(named[0].starts_with("550 5.1.1 "), "{address}: {named:?}");
        }
        // Nor do they end in a catch-all.
        let there = Address::new(address.local(), "other.test").unwrap();
        let (named, _) = w.send(w.stranger(), from(""), &[to(&there.to_string())], BODY).await;
        assert!(named[0].starts_with("550 5.1.1 "), "{address}: {named:?}");
    }
    // Who has seen one in a forwarded mail does not write to the sender by it.
    let good = sent.to_string();
    for (origin, sender) in [(w.stranger(), "a@c.test"), (w.signed_in(), "me@example.test")] {
        let (named, _) = w.send(origin, from(sender), &[to(&good)], BODY).await;
        assert!(named[0].starts_with("550 5.7.1 "), "{named:?}");
    }
    // In a domain that is not ours it is any address: for who may relay.
    let (named, _) = w.send(w.stranger(), from(""), &[to(&format!("{}@c.test", sent.local()))], BODY).await;
    assert!(named[0].starts_with("550 5.7.1 Relaying denied"), "{named:?}");
    assert!(w.queue().await.is_empty());
    let nothing = Mail::default();
    let good = smtp::Rcpt { to: Recipient::Mailbox(sent), notify: None, original: None };
    assert_eq!(w.send(w.stranger(), nothing, &[good], BODY).await.0, ["OK"]);
}

#[tokio::test]
async fn a_report_to_who_has_become_ours_arrives_here() {
    let w = World::new().await;
    let sent = return_address(&w, "boss@other.test", 3).await;
    let (named, done) = w.send(w.stranger(), from(""), &[to(&sent.to_string())], BODY).await;
    assert_eq!((named, done), (vec!["OK".to_owned()], vec!["OK".to_owned()]));
    assert!(w.queue().await.is_empty());
}
