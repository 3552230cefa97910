//! What sites bear, and what their replies change about it.

use base::{Clock, SystemClock};
use net::{CertFiles, Tls, self_signed};
use queue::State;
use testkit::Dir;

use crate::peer::{Act, Character};
use crate::world::{MINUTE, Net, rules};

/// A provider that the data knows, and that may be sent to in the clear. Two of its domains, each with hosts of its own.
fn provider(character: Character) -> (Net, [crate::peer::Peer; 2]) {
    let (net, one) = Net::default().mx("one.test", 10, "mx1.prodigy.net", 1, character.clone());
    let (net, two) = net.mx("two.test", 10, "mx2.prodigy.net", 2, character);
    (net, [one, two])
}

/// It offers TLS, by a certificate of its own making.
fn encrypting(dir: &Dir, name: &str) -> Character {
    let files = CertFiles { chain: dir.path().join("chain.pem"), key: dir.path().join("key.pem") };
    self_signed(&files, &[name.to_owned()], SystemClock.now()).unwrap();
    Character { offers: vec!["STARTTLS"], tls: Some(Tls::load(vec![files]).unwrap()), ..Character::default() }
}

#[tokio::test(start_paused = true)]
async fn domains_with_the_same_mail_hosts_share_a_connection() {
    let (net, peer) = Net::default().mx("one.test", 10, "mx.host.test", 1, Character::default());
    let w = net.dns(|zone| zone.mx("two.test", 10, "mx.host.test")).world().await;
    for to in ["a@one.test", "b@two.test"] {
        let id = w.send(&[to]).await;
        w.until_gone(id).await;
    }
    assert_eq!(peer.said().len(), 1);
    w.pass(1).await;
    let id = w.send(&["a@one.test", "b@two.test"]).await;
    w.until_gone(id).await;
    // And no transaction has more than one domain.
    let mut to: Vec<Vec<String>> = peer.taken()[2..].iter().map(|t| t.to.clone()).collect();
    to.sort();
    assert_eq!(to, [["a@one.test"], ["b@two.test"]]);
}

#[tokio::test(start_paused = true)]
async fn a_site_that_asks_for_a_pause_is_left_alone_by_all_its_domains_and_the_others_are_not() {
    let (net, [one, two]) =
        provider(rules(&[("MAIL", Act::Say("421 4.7.1 DNS lookup failed, try again in 600 seconds"))]));
    let (net, other) = net.host("other.test", 3, Character::default());
    let w = net.world().await;
    let first = w.send(&["a@one.test"]).await;
    let d = w.until_deferred(first, 1).await;
    // The time that the text names, and up to a tenth more.
    assert!((600..=660).contains(&((d.due.0 - w.clock.now().0) / 1000)), "{d:?}");
    let (second, good) = (w.send(&["b@two.test"]).await, w.send(&["c@other.test"]).await);
    w.until_gone(good).await;
    assert_eq!(other.taken().len(), 1);
    w.until("it waits", async || w.show(second).await[0].state == State::Waiting).await;
    assert!(two.said().is_empty(), "{:?}", two.said());
    assert_eq!(w.show(second).await[0].delivery.attempts, 0, "no attempt was made");
    [one, two].iter().for_each(|peer| peer.becomes(Character::default()));
    w.pass(11 * MINUTE).await;
    w.until_gone(first).await;
    w.until_gone(second).await;
    w.check().await;
}

/// RFC 7504: only 521 and 556 say that the host takes no mail.
#[tokio::test(start_paused = true)]
async fn a_refusal_before_mail_costs_no_mail_unless_it_says_so() {
    for stage in ["greeting", "EHLO"] {
        let no = || Act::Say("554 5.7.1 Your address is listed");
        let (net, peer) = Net::default().host("b.test", 1, rules(&[(stage, no()), ("HELO", no())]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        let d = w.until_deferred(id, 1).await;
        assert_eq!(d.reply, "554 5.7.1 Your address is listed", "{stage}");
        peer.becomes(Character::default());
        w.pass(2 * MINUTE).await;
        w.until_gone(id).await;
        assert_eq!(peer.taken().len(), 1);
        w.check().await;
    }
    let (net, _) =
        Net::default().host("b.test", 1, rules(&[("greeting", Act::Say("521 5.3.2 This host takes no mail"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert!(w.mail(1).await.contains("Action: failed\r\nStatus: 5.3.2\r\n"));
}

/// The data says of these providers that they have TLS: its absence is an attack or a fault.
#[tokio::test(start_paused = true)]
async fn a_site_known_to_have_tls_gets_nothing_in_the_clear() {
    let dir = Dir::new("outbox-shaping");
    for (host, character, sent) in [
        // Verified, and encrypted without a look at the certificate.
        ("mx.l.google.com", Character::default(), false),
        ("mx.l.google.com", encrypting(&dir, "mx.l.google.com"), false),
        ("mx.am0.yahoodns.net", Character::default(), false),
        ("mx.am0.yahoodns.net", encrypting(&dir, "other.test"), true),
        ("mx.host.test", Character::default(), true),
    ] {
        let (net, peer) = Net::default().mx("b.test", 10, host, 1, character);
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        if sent {
            w.until_gone(id).await;
        } else {
            assert!(w.until_deferred(id, 1).await.status.starts_with("4.7."), "{host}");
        }
        assert_eq!(peer.taken().len(), usize::from(sent), "{host}");
        assert!(!peer.all_said().iter().any(|line| line.starts_with("MAIL") && !sent), "{host}");
    }
}

/// "5xx" that means "later", as the provider's own pages say.
#[tokio::test(start_paused = true)]
async fn a_mailbox_that_gets_too_much_is_waited_for_although_it_says_5xx() {
    let dir = Dir::new("outbox-shaping");
    let host = "x.mail.protection.outlook.com";
    let rules = vec![("RCPT", Act::Say("550 5.2.121 RESOLVER.ADR.RecipRateLimited"))];
    let busy = Character { rules, ..encrypting(&dir, host) };
    let (net, peer) = Net::default().mx("b.test", 10, host, 1, busy.clone());
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    let d = w.until_deferred(id, 1).await;
    assert!((60..=66).contains(&((d.due.0 - w.clock.now().0) / 60_000)), "{d:?}");
    peer.becomes(Character { rules: Vec::new(), ..busy });
    w.pass(67 * MINUTE).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}

/// A claim is not held while its site has no place for it: it is given back for its turn.
#[tokio::test(start_paused = true)]
async fn what_a_slowed_site_does_not_bear_has_its_turn() {
    let dir = Dir::new("outbox-shaping");
    let slow = || Act::Say("421 4.7.0 [TS02] Messages temporarily deferred due to unusual traffic");
    let (net, peer) = Net::default().mx(
        "b.test",
        10,
        "mx.am0.yahoodns.net",
        1,
        Character { rules: vec![("MAIL", slow())], ..encrypting(&dir, "mx.am0.yahoodns.net") },
    );
    let w = net.world().await;
    let mut first = Vec::new();
    for n in 0..3 {
        first.push(w.send(&[&format!("x{n}@b.test")]).await);
        w.until_deferred(first[n], 1).await;
        w.pass(1).await;
    }
    peer.becomes(encrypting(&dir, "mx.am0.yahoodns.net"));
    // The data says: after the third such word, one a minute for half an hour.
    let (mut attempts, mut taken) = (Vec::new(), Vec::new());
    for minute in 0..10 {
        for _ in 0..60 {
            w.pass(1).await;
        }
        taken.push(peer.taken().len());
        let mails = peer.all_said().iter().filter(|line| line.starts_with("MAIL")).count();
        attempts.push(mails - 3 - taken[minute]);
    }
    println!("{taken:?} {attempts:?}");
    assert!(taken.windows(2).all(|two| two[1] - two[0] <= 1), "{taken:?}");
    assert_eq!((taken.last(), attempts.last()), (Some(&3), Some(&0)), "{taken:?}");
    w.check().await;
}

/// A name below a provider's, and a host of the sender's own beside it.
#[tokio::test(start_paused = true)]
async fn nobody_speaks_for_a_provider_whose_name_is_among_his_hosts() {
    let says = "421 4.7.0 [TSS04] Messages temporarily deferred; retry in 24 hours";
    let (net, _) = Net::default().mx("evil.test", 10, "mx.evil.test", 1, rules(&[("greeting", Act::Say(says))]));
    let dir = Dir::new("outbox-shaping");
    let (net, good) = net.mx("good.test", 10, "mx2.am0.yahoodns.net", 2, encrypting(&dir, "mx2.am0.yahoodns.net"));
    let w = net.dns(|zone| zone.mx("evil.test", 0, "nope.am0.yahoodns.net")).world().await;
    for n in 0..3 {
        let id = w.send(&[&format!("x{n}@evil.test")]).await;
        w.until_deferred(id, 1).await;
        w.pass(1).await;
    }
    let id = w.send(&["jane@good.test"]).await;
    w.until_gone(id).await;
    assert_eq!(good.taken().len(), 1);
}

/// The provider's pause is the answer that the mail had: it counts as an attempt, and stands in the queue.
#[tokio::test(start_paused = true)]
async fn a_refusal_before_mail_that_pauses_the_site_is_an_attempt() {
    let says = "421 4.7.1 DNS lookup failed, try again in 600 seconds";
    let (net, _) = provider(rules(&[("greeting", Act::Say(says))]));
    let w = net.world().await;
    let id = w.send(&["a@one.test"]).await;
    let d = w.until_deferred(id, 1).await;
    assert_eq!(d.reply, says);
}

/// One mail to many, each refused in words of its own.
#[tokio::test(start_paused = true)]
async fn what_is_said_to_each_recipient_is_said_once() {
    let refuse: Vec<(&'static str, Act)> = vec![
        ("RCPT TO:<a@", Act::Say("452 4.5.3 <a@b.test>: too many recipients")),
        ("RCPT TO:<b@", Act::Say("452 4.5.3 <b@b.test>: too many recipients")),
        ("RCPT TO:<c@", Act::Say("452 4.5.3 <c@b.test>: too many recipients")),
    ];
    let (net, peer) = Net::default().host("b.test", 1, rules(&refuse));
    let w = net.world().await;
    let id = w.send(&["a@b.test", "b@b.test", "c@b.test", "d@b.test"]).await;
    w.until_deferred(id, 1).await;
    peer.becomes(Character::default());
    // Halved once, 25 go in one transaction; thrice, six would.
    let to: Vec<String> = (0..25).map(|n| format!("u{n}@b.test")).collect();
    w.pass(1).await;
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    w.until_gone(id).await;
    assert!(peer.taken().iter().any(|taken| taken.to.len() == 25));
}

/// The administrator knows better: what he wants tried is, whatever holds its domain up in memory.
#[tokio::test(start_paused = true)]
async fn what_is_retried_by_hand_does_not_wait_for_its_domain() {
    // A line holds a thousand; what is beyond is put off, and its domain held.
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("greeting", Act::Stall)]));
    let w = net.world().await;
    let to: Vec<String> = (0..800).map(|n| format!("u{n}@b.test")).collect();
    for _ in 0..2 {
        w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let last = w.send(&["last@b.test"]).await;
    w.until("it is put off", async || w.held("b.test")).await;
    let kept = w.kept("b.test").unwrap();
    assert_eq!((&*kept.site, &*kept.source, kept.left_alone, kept.stops.len()), ("mx.b.test", "default", None, 0));
    assert!(kept.state.is_some());
    peer.becomes(Character::default());
    w.store.write(move |tx| queue::retry(tx, last, 0, base::Timestamp(i64::MAX / 2))).await.unwrap();
    w.until("it is let go", async || !w.held("b.test")).await;
}
