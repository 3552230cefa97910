//! When mail leaves, until when it is good, and how urgent it is: RFC 4865, RFC 2852, RFC 6710.

use base::{Clock, OrganisationId, Stream};
use queue::State;
use queue::source::Quiet;
use smtp::{DeliverBy, Hold, Mail};

use crate::peer::{Act, Character};
use crate::world::{BODY, HOUR, Net, World, mail, rules};

const BUSY: (&str, Act) = ("RCPT", Act::Say("451 4.2.1 Not now"));

async fn by(w: &World, seconds: i32, returned: bool, trace: bool) -> queue::QueueId {
    let deliver_by = Some(DeliverBy { seconds, returned, trace });
    w.enqueue_as(Mail { deliver_by, ..mail("me@example.test") }, &["jane@b.test"], None, BODY).await
}

#[tokio::test(start_paused = true)]
async fn what_is_held_leaves_when_it_is_to_and_reaches_us_too() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let held = Mail { hold: Some(Hold::For(3600)), ..mail("me@example.test") };
    let id = w.enqueue_as(held, &["jane@b.test", "me@example.test", "nobody@example.test"], None, BODY).await;
    w.pass(HOUR - 60).await;
    assert!(w.show(id).await.iter().all(|d| d.state == State::Waiting && d.delivery.attempts == 0));
    assert!(peer.taken().is_empty() && w.inbox().await.is_empty());
    w.pass(61).await;
    let copy = w.mail(1).await;
    assert!(copy.starts_with("Return-Path: <me@example.test>\r\nDelivered-To: me@example.test\r\n"), "{copy}");
    assert!(copy.ends_with(BODY), "{copy}");
    w.until("the other host has it", async || peer.taken().len() == 1).await;
    assert_eq!(peer.taken()[0].to, ["jane@b.test"]);
    // Who is not there any more is reported.
    w.until("the report", async || {
        w.pass(10).await;
        w.inbox().await.len() == 2
    })
    .await;
    let report = w.mail(2).await;
    assert!(report.contains("rfc822;nobody@example.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"), "{report}");
    w.until_gone(id).await;
    // The queue's pack is swept, and the mailbox has bytes of its own.
    w.fill_pack().await;
    w.store.sweep_transit(queue::refers_between).await.unwrap();
    assert!(w.mail(1).await.ends_with(BODY));
}

#[tokio::test(start_paused = true)]
async fn the_administrator_releases_what_is_held() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let held = Mail { hold: Some(Hold::For(3600)), ..mail("me@example.test") };
    let id = w.enqueue_as(held, &["jane@b.test", "me@example.test"], None, BODY).await;
    let now = w.clock.now();
    w.store.write(move |tx| queue::retry(tx, id, 0, now)).await.unwrap();
    w.until_gone(id).await;
    assert_eq!((peer.taken().len(), w.inbox().await.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_late_is_returned_when_that_was_asked_for() {
    let (net, _) = Net::default().host("b.test", 1, Character { offers: vec!["DELIVERBY"], ..rules(&[BUSY]) });
    let w = net.world().await;
    let id = by(&w, 600, true, false).await;
    w.until_deferred(id, 1).await;
    w.pass(590).await;
    assert!(w.inbox().await.is_empty());
    w.pass(11).await;
    let report = w.mail(1).await;
    assert!(report.contains("Action: failed\r\nStatus: 5.4.7\r\n"), "{report}");
    assert!(report.contains("\r\nDeliver-By-Date: Tue, 14 Nov 2023 22:23:20 +0000\r\n"), "{report}");
    w.until_gone(id).await;
}

/// Its last attempt is in time, and not when its time is over.
#[tokio::test(start_paused = true)]
async fn what_is_to_be_returned_has_a_last_chance_before() {
    let offers = || vec!["DELIVERBY"];
    let (net, peer) = Net::default().host("b.test", 1, Character { offers: offers(), ..rules(&[BUSY]) });
    let w = net.world().await;
    let id = by(&w, 600, true, false).await;
    w.until_deferred(id, 1).await;
    // Its next attempt is due after five minutes, and the one behind after its time.
    w.pass(330).await;
    w.until_deferred(id, 2).await;
    w.pass(245).await;
    peer.becomes(Character { offers: offers(), ..Character::default() });
    w.pass(10).await;
    w.until_gone(id).await;
    assert_eq!((peer.taken().len(), w.inbox().await.len()), (1, 0));
}

/// The server was down at its time.
#[tokio::test(start_paused = true)]
async fn what_was_held_for_us_beyond_its_time_is_returned() {
    let mut w = Net::default().world().await;
    let deliver_by = Some(DeliverBy { seconds: 600, returned: true, trace: false });
    let held = Mail { hold: Some(Hold::For(300)), deliver_by, ..mail("me@example.test") };
    let id = w.enqueue_as(held, &["me@example.test"], None, BODY).await;
    w.stop().await.unwrap();
    w.pass(HOUR).await;
    w.start_again().await;
    w.until_gone(id).await;
    let report = w.mail(1).await;
    assert!(report.contains("Action: failed\r\nStatus: 5.4.7\r\n"), "{report}");
    assert_eq!(w.inbox().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_late_goes_on_and_its_sender_is_told_when_that_was_asked_for() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[BUSY]));
    let w = net.world().await;
    let id = by(&w, 700, false, false).await;
    w.until_deferred(id, 1).await;
    // Its next attempts are due after one and five minutes; and one more at the time it is to be there.
    w.pass(690).await;
    let due = w.until_deferred(id, 2).await.due;
    assert_eq!(due.rfc3339(), "2023-11-14T22:25:00Z");
    w.pass(8).await;
    assert!(w.inbox().await.is_empty());
    w.pass(3).await;
    let report = w.mail(1).await;
    assert!(report.contains("Action: delayed\r\n"), "{report}");
    peer.becomes(Character::default());
    w.pass(HOUR).await;
    w.until_gone(id).await;
    assert_eq!((peer.taken().len(), w.inbox().await.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn time_and_priority_are_passed_on_with_what_is_left() {
    let offers = vec!["DELIVERBY 10", "MT-PRIORITY", "DSN"];
    let (net, peer) = Net::default().host("b.test", 1, Character { offers, ..rules(&[BUSY]) });
    let w = net.world().await;
    let deliver_by = Some(DeliverBy { seconds: 1000, returned: true, trace: true });
    let urgent = Mail { deliver_by, priority: Some(5), ..mail("me@example.test") };
    let id = w.enqueue_as(urgent, &["jane@b.test"], None, BODY).await;
    w.until_deferred(id, 1).await;
    let said = || peer.said().into_iter().flatten().filter(|l| l.starts_with("MAIL")).collect::<Vec<_>>();
    // Whole seconds, of which the first may have begun.
    let first = ["1000", "999"].map(|by| vec![format!("MAIL FROM:<me@example.test> BY={by};RT MT-PRIORITY=5")]);
    assert!(first.contains(&said()), "{:?}", said());
    peer.becomes(Character { offers: vec!["DELIVERBY 10", "MT-PRIORITY", "DSN"], ..Character::default() });
    w.pass(100).await;
    w.until_gone(id).await;
    let second = said().remove(1);
    let left: u32 = second.split(['=', ';']).nth(1).unwrap().parse().unwrap();
    assert!((895..940).contains(&left), "{second}");
    // Its way is traced, though the other host reports.
    assert!(w.mail(1).await.contains("Action: relayed\r\n"));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_returned_goes_to_nobody_who_does_not_do_that() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    by(&w, 600, true, false).await;
    let report = w.mail(1).await;
    assert!(report.contains("Action: failed\r\nStatus: 5.3.3\r\n"), "{report}");
    assert!(peer.taken().is_empty());
    let id = by(&w, 600, false, false).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}

/// The world begins at 22:13 in Greenwich.
#[tokio::test(start_paused = true)]
async fn marketing_waits_for_the_end_of_quiet_hours_in_line_too() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Slow(1))]));
    let w = net.world().await;
    w.policy(None, &[("connections", "1")]).await;
    let (first, second) =
        (w.send_in(Stream::Marketing, &["a@b.test"]).await, w.send_in(Stream::Marketing, &["b@b.test"]).await);
    w.until("both are in hand", async || w.metered().1 == 2 && !peer.all_said().is_empty()).await;
    let quiet =
        Quiet { stream: Stream::Marketing, organisation: OrganisationId::HOUSE, from: 21 * 60, to: 8 * 60, zone: 0 };
    w.store.write(move |tx| queue::source::set_quiet(tx, &quiet)).await.unwrap();
    let late = w.send_in(Stream::Marketing, &["c@b.test"]).await;
    let people = w.send(&["d@b.test"]).await;
    peer.becomes(Character::default());
    w.until("people's mail has left", async || {
        w.pass(1).await;
        w.show(people).await.is_empty()
    })
    .await;
    w.pass(9 * HOUR).await;
    w.until("nothing is in hand", async || w.metered().1 == 0).await;
    // The one that was being sent, if it was; none of the others.
    assert!(peer.taken().iter().filter(|taken| taken.to[0] != "d@b.test").count() <= 1);
    w.pass(HOUR).await;
    for id in [first, second, late] {
        w.until_gone(id).await;
    }
    assert_eq!(peer.taken().len(), 4);
    w.check().await;
}
