//! What the administrator holds or drains.

use base::{OrganisationId, Stream};
use queue::source::What;
use queue::{QueueId, State};

use crate::peer::{Act, Character, Peer};
use crate::world::{HOUR, Net, World, rules};

fn by(peer: &Peer, ip: &str) -> usize {
    peer.taken().iter().filter(|taken| taken.by == Some(ip.parse().unwrap())).count()
}

/// It waits, was not tried, and nobody has it in hand.
async fn waits(w: &World, id: QueueId) -> bool {
    let d = w.show(id).await;
    d[0].state == State::Waiting && d[0].delivery.attempts == 0 && w.metered().1 == 0
}

#[tokio::test(start_paused = true)]
async fn a_held_domain_waits_over_a_restart_and_the_others_do_not() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let (net, other) = net.host("c.test", 2, Character::default());
    let mut w = net.world().await;
    w.hold(What::Domain("b.test".into()), false).await;
    let (held, goes) = (w.send(&["x@b.test"]).await, w.send(&["x@c.test"]).await);
    w.until_gone(goes).await;
    w.kill_and_start().await;
    let goes = w.send(&["y@c.test"]).await;
    w.until_gone(goes).await;
    // Whoever retries a mail does not resume its domain.
    w.store.write(move |tx| queue::retry(tx, held, 0, base::Timestamp(0))).await.unwrap();
    w.settle().await;
    assert!(waits(&w, held).await && peer.said().is_empty());
    assert_eq!(other.taken().len(), 2);
    // Its time does not run out while it is held: it is tried once more.
    w.pass(6 * 24 * HOUR).await;
    w.settle().await;
    assert!(waits(&w, held).await);
    w.resume(What::Domain("b.test".into())).await;
    w.until_gone(held).await;
    assert_eq!(peer.taken().len(), 1);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_held_stream_keeps_back_no_other() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    w.hold(What::Stream(Stream::Marketing), false).await;
    let held = w.send_in(Stream::Marketing, &["m@b.test"]).await;
    let goes = w.send(&["x@b.test"]).await;
    w.until_gone(goes).await;
    w.settle().await;
    assert!(waits(&w, held).await && peer.taken().len() == 1);
    w.resume(What::Stream(Stream::Marketing)).await;
    w.until_gone(held).await;
    w.check().await;
}

/// More than a line has places for.
#[tokio::test(start_paused = true)]
async fn what_waited_longer_than_its_time_finds_its_place_when_it_goes_on() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Slow(5))]));
    let w = net.world().await;
    w.policy(None, &[("connections", "1")]).await;
    w.hold(What::Domain("b.test".into()), false).await;
    let to: Vec<String> = (0..1200).map(|n| format!("u{n}@b.test")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    w.pass(6 * 24 * HOUR).await;
    w.resume(What::Domain("b.test".into())).await;
    w.until("all have arrived", async || {
        w.pass(1).await;
        w.metered().0[0] == 1200 || w.metered().0[3] > 0
    })
    .await;
    w.until_gone(id).await;
    assert_eq!(w.metered().0, [1200, 0, 0, 0]);
    assert_eq!(peer.taken().iter().map(|taken| taken.to.len()).sum::<usize>(), 1200);
    w.check().await;
}

/// Three in line behind one that is being sent, and one that comes later.
async fn in_line(w: &World, peer: &Peer, what: What, drains: bool) -> Vec<QueueId> {
    w.policy(None, &[("connections", "1")]).await;
    let mut ids = vec![w.send(&["first@b.test"]).await];
    w.until("the first is being sent", async || peer.all_said().iter().any(|line| line.starts_with("MAIL"))).await;
    for n in 0..3 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    w.until("all are in hand", async || w.metered().1 == 4).await;
    w.hold(what, drains).await;
    ids.push(w.send(&["late@b.test"]).await);
    w.settle().await;
    peer.becomes(Character::default());
    for _ in 0..20 {
        w.pass(1).await;
        w.settle().await;
    }
    ids
}

#[tokio::test(start_paused = true)]
async fn what_is_held_begins_nothing_new_and_what_is_drained_ends_what_is_in_line() {
    let of = |name: &str| match name {
        "site" => What::Site("b.test".into()),
        "domain" => What::Domain("b.test".into()),
        "stream" => What::Stream(Stream::Mail),
        "organisation" => What::Organisation(OrganisationId::HOUSE, None),
        "stream of an organisation" => What::Organisation(OrganisationId::HOUSE, Some(Stream::Mail)),
        _ => What::Source(queue::source::SourceId::DEFAULT),
    };
    for what in ["site", "source", "domain", "stream", "organisation", "stream of an organisation"] {
        for drains in [false, true] {
            let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Slow(5))]));
            let w = net.world().await;
            let ids = in_line(&w, &peer, of(what), drains).await;
            let sent: Vec<String> = peer.taken().iter().map(|taken| taken.to[0].clone()).collect();
            assert_eq!(sent.len(), if drains { 4 } else { 1 }, "{what} {drains}: {sent:?}");
            assert!(!sent.contains(&"late@b.test".to_owned()) && w.metered().1 == 0);
            w.resume(of(what)).await;
            for id in ids {
                w.pass(1).await;
                w.until_gone(id).await;
            }
            assert_eq!(peer.taken().len(), 5, "{what} {drains}");
            w.check().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn others_take_over_for_a_held_source() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let a = w.source("a", &["127.0.0.2"]).await;
    let b = w.source("b", &["127.0.0.3"]).await;
    w.pool("all", &[("a", 1), ("b", 1)]).await;
    w.hold(What::Source(a), true).await;
    for n in 0..12 {
        let id = w.send(&[&format!("u{n}@b.test")]).await;
        w.until_gone(id).await;
    }
    assert_eq!((by(&peer, "127.0.0.2"), by(&peer, "127.0.0.3")), (0, 12), "{:?}", peer.visitors());
    w.hold(What::Source(b), false).await;
    let id = w.send(&["x@b.test"]).await;
    w.settle().await;
    assert!(waits(&w, id).await);
    w.resume(What::Source(a)).await;
    w.until_gone(id).await;
    assert_eq!(by(&peer, "127.0.0.2"), 1);
    w.check().await;
}

/// The host closes the connection just when the second mail is to begin, and that is when the hold comes.
#[tokio::test(start_paused = true)]
async fn what_was_not_begun_does_not_slip_past_a_hold() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let first = w.send(&["a@b.test"]).await;
    w.until_gone(first).await;
    peer.becomes(rules(&[("MAIL", Act::Stall)]));
    let second = w.send(&["b@b.test"]).await;
    w.until("the second begins", async || peer.all_said().iter().filter(|l| l.starts_with("MAIL")).count() == 2).await;
    w.hold(What::Site("b.test".into()), false).await;
    w.settle().await;
    peer.hang_up();
    w.until("it waits", async || waits(&w, second).await).await;
    w.settle().await;
    assert_eq!((peer.taken().len(), peer.said().len()), (1, 1));
    w.check().await;
}
