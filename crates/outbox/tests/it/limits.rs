//! What is used up of sites' rates, and pauses that last, over the ends of servers.

use queue::source::SourceId;
use smtp::{Hold, Mail};

use crate::peer::{Act, Character, Peer};
use crate::world::{HOUR, MINUTE, Net, World, mail, rules};

/// Ten may come at once, and then one each 40 s.
const RATE: [(&str, &str); 1] = [("rate", "100/h")];

async fn send(w: &World, n: usize, to: &str) {
    for n in 0..n {
        w.send_of(7, &[&format!("{to}{n}@b.test")]).await;
    }
    w.settle().await;
}

/// How many are taken in so many minutes.
async fn in_minutes(w: &World, peer: &Peer, n: u64) -> usize {
    let before = peer.taken().len();
    // Those before are answered.
    for _ in 0..n * MINUTE / 5 {
        w.pass(5).await;
    }
    peer.taken().len() - before
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_is_used_up_is_so_after_a_restart() {
    for of in [None, Some(7)] {
        let (net, peer) = Net::default().host("b.test", 1, Character::default());
        let mut w = net.world().await;
        w.policy_of(of, Some("b.test"), &RATE).await;
        w.settle().await;
        send(&w, 80, "u").await;
        in_minutes(&w, &peer, 10).await;
        let first = peer.taken().len();
        w.stop().await.unwrap();
        w.start_again().await;
        let second = in_minutes(&w, &peer, 10).await;
        assert!((22..=26).contains(&first) && (13..=18).contains(&second), "{of:?}: {first}, {second}");
        w.check().await;
    }
}

/// What was written last may be a minute old.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_killed_has_counted_what_it_may_have_sent_since() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    w.policy(Some("b.test"), &RATE).await;
    w.settle().await;
    send(&w, 3, "first").await;
    in_minutes(&w, &peer, 1).await;
    // These are not written down any more.
    send(&w, 6, "second").await;
    w.pass(10).await;
    assert_eq!(peer.taken().len(), 9);
    w.kill_and_start().await;
    send(&w, 80, "u").await;
    in_minutes(&w, &peer, 10).await;
    let after = peer.taken().len() - 9;
    assert!((10..=16).contains(&after), "{after}");
    w.check().await;
}

/// What was written when it was sent to last says nothing of what may go later.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_killed_has_counted_its_last_minute_after_a_rest_too() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    // A hundred may come at once, and then one each 86 s.
    w.policy(Some("b.test"), &[("rate", "1000/d")]).await;
    w.settle().await;
    send(&w, 50, "first").await;
    in_minutes(&w, &peer, 1).await;
    assert_eq!(peer.taken().len(), 50);
    for _ in 0..50 {
        w.pass(MINUTE).await;
    }
    send(&w, 80, "second").await;
    w.pass(10).await;
    assert_eq!(peer.taken().len(), 130);
    w.kill_and_start().await;
    send(&w, 50, "u").await;
    in_minutes(&w, &peer, 1).await;
    let after = peer.taken().len() - 130;
    assert!(after <= 6, "{after}");
    w.check().await;
}

/// Nothing is guessed of the minute after a stop.
#[tokio::test(start_paused = true)]
async fn a_server_that_stops_leaves_no_more_than_what_was_used() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    w.policy(Some("b.test"), &RATE).await;
    w.settle().await;
    w.pass(MINUTE / 2).await;
    send(&w, 1, "first").await;
    in_minutes(&w, &peer, 1).await;
    assert_eq!(peer.taken().len(), 1);
    w.pass(5).await;
    w.stop().await.unwrap();
    w.start_again().await;
    send(&w, 10, "u").await;
    w.pass(10).await;
    assert_eq!(peer.taken().len(), 11);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_of_hours_lasts_over_a_restart() {
    let says = "421 4.7.1 DNS lookup failed, try again in 3 hours";
    let (net, peer) = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, rules(&[("MAIL", Act::Say(says))]));
    let mut w = net.world().await;
    let first = w.send(&["x@b.test"]).await;
    w.until_deferred(first, 1).await;
    let said = peer.said().len();
    w.pass(MINUTE + 1).await;
    w.kill_and_start().await;
    peer.becomes(Character::default());
    let second = w.send(&["y@b.test"]).await;
    for _ in 0..4 {
        w.pass(HOUR / 2).await;
    }
    assert_eq!((peer.said().len(), w.show(second).await.len()), (said, 1));
    let [site] = &w.site("att")[..] else { panic!("one site") };
    assert!(site.paused.is_some_and(|wait| (3000..=3600).contains(&wait.as_secs())), "{:?}", site.paused);
    w.pass(HOUR + MINUTE).await;
    w.until_gone(second).await;
    w.check().await;
}

const THREE_HOURS: &str = "421 4.7.1 DNS lookup failed, try again in 3 hours";

/// What was put back because of it goes out at once, and a life later it is not paused again.
#[tokio::test(start_paused = true)]
async fn a_pause_that_an_administrator_ends_is_over_at_once_and_stays_so() {
    let half_an_hour = rules(&[("MAIL", Act::Say("421 4.7.1 DNS lookup failed, try again in 30 minutes"))]);
    let (net, peer) = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, half_an_hour);
    let greylists = rules(&[("RCPT", Act::Say("451 4.7.1 Greylisting in action, please come back in 3600 seconds"))]);
    let (net, other) = net.host("other.test", 2, greylists);
    let mut w = net.dns(|zone| zone.mx("c.test", 10, "mx1.prodigy.net")).world().await;
    let tried = w.send(&["x@b.test"]).await;
    w.until_deferred(tried, 1).await;
    // These are put back without an attempt, one of them for good as nobody asks for its group.
    let (waits, alike) = (w.send(&["y@b.test"]).await, w.send(&["y@c.test"]).await);
    let elsewhere = w.send(&["x@other.test"]).await;
    let hour = w.until_deferred(elsewhere, 1).await.due;
    // Its own sender wants it to leave then.
    let held = Mail { hold: Some(Hold::For(4 * HOUR as u32)), ..mail("me@example.test") };
    let later = w.enqueue_as(held, &["z@b.test"], None, "Subject: x\r\n\r\nx\r\n").await;
    w.pass(2 * MINUTE).await;
    peer.becomes(Character::default());
    let said = other.said().len();
    // Another source, and another site.
    w.end_pauses("att", Some(SourceId::read(7))).await;
    w.end_pauses("prodigy.test", None).await;
    assert!(w.site("att")[0].paused.is_some() && peer.taken().is_empty());
    w.end_pauses("att", Some(SourceId::DEFAULT)).await;
    for id in [tried, waits, alike] {
        w.until_gone(id).await;
    }
    assert_eq!((w.show(later).await[0].delivery.attempts, other.said().len()), (0, said));
    assert_eq!(w.show(elsewhere).await[0].due, hour);
    w.kill_and_start().await;
    assert!(w.site("att").is_empty(), "it is not written down any more");
    let next = w.send(&["y@b.test"]).await;
    w.until_gone(next).await;
    w.check().await;
}

/// Which mail waits for the site, the new server has to find out.
#[tokio::test(start_paused = true)]
async fn a_pause_of_a_life_before_is_shown_and_can_be_ended_before_anybody_sends_there() {
    let says = rules(&[("MAIL", Act::Say(THREE_HOURS))]);
    let (net, peer) = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, says);
    let mut w = net.world().await;
    let first = w.send(&["x@b.test"]).await;
    w.until_deferred(first, 1).await;
    let second = w.send(&["y@b.test"]).await;
    w.pass(MINUTE + 1).await;
    w.stop().await.unwrap();
    w.start_again().await;
    w.settle().await;
    peer.becomes(Character::default());
    let [site] = &w.site("att")[..] else { panic!("one site") };
    assert!(site.paused.is_some_and(|wait| (10_000..=10_800).contains(&wait.as_secs())), "{site:?}");
    w.end_pauses("att", None).await;
    w.until_gone(first).await;
    w.until_gone(second).await;
    assert!(w.site("att").iter().all(|site| site.paused.is_none()));
    w.stop().await.unwrap();
    w.start_again().await;
    w.settle().await;
    assert!(w.site("att").is_empty(), "it is not written down any more");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn figures_that_a_site_asked_for_last_over_a_restart() {
    let (net, peer) = Net::default().host(
        "b.test",
        1,
        rules(&[("MAIL", Act::Say("421 4.7.0 Error: too many connections from you"))]),
    );
    let mut w = net.world().await;
    let first = w.send(&["x@b.test"]).await;
    w.until_deferred(first, 1).await;
    let slowed =
        |w: &World| w.site("mx.b.test").iter().any(|site| site.learned.concat().contains("1 connections at once"));
    assert!(slowed(&w));
    peer.becomes(Character::default());
    w.pass(MINUTE + 1).await;
    w.kill_and_start().await;
    let second = w.send(&["y@b.test"]).await;
    w.until_gone(second).await;
    assert!(slowed(&w), "{:?}", w.site("mx.b.test"));
    w.pass(HOUR / 2).await;
    assert!(!slowed(&w));
    w.check().await;
}
