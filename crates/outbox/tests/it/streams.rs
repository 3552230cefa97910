//! Streams: what waits of one keeps back no other.

use std::time::Duration;

use base::Stream;
use tokio::time::Instant;

use crate::peer::{Act, Character, Peer};
use crate::world::{Net, World, rules};

/// The first attempt of what is urgent is this long after its acceptance at most.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Hears of mail to this address.
fn hears_of(peer: &Peer, to: &str) -> bool {
    peer.all_said().contains(&format!("RCPT TO:<{to}>"))
}

/// How long it takes until a host hears of mail of a stream to this address.
async fn attempted(w: &World, stream: Stream, to: &str, peer: &Peer) -> Duration {
    let began = Instant::now();
    w.send_in(stream, &[to]).await;
    w.until("it is tried", async || hears_of(peer, to)).await;
    began.elapsed()
}

/// The same host, that is sent twenty mails a second.
#[tokio::test(start_paused = true)]
async fn a_host_that_is_busy_with_marketing_gets_what_is_urgent_next() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    for n in 0..300 {
        w.send_in(Stream::Marketing, &[&format!("m{n}@b.test")]).await;
    }
    w.until("the first are there", async || peer.taken().len() >= 2).await;
    w.send_in(Stream::Transactional, &["code@b.test"]).await;
    let there = || peer.taken().iter().any(|t| t.to == ["code@b.test"]);
    let mut before = 0;
    w.until("it is there", async || {
        if !there() {
            before = peer.taken().len();
            w.pass(1).await;
        }
        there()
    })
    .await;
    assert!(before < 60, "{before} of 300 went before");
}

/// Of a stranger little is known, so mail waits until that before it is answered: but no mail for what is less urgent.
#[tokio::test(start_paused = true)]
async fn marketing_that_a_stranger_takes_its_time_for_keeps_back_nothing_that_is_urgent() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT TO:<m", Act::Slow(4))]));
    let w = net.world().await;
    for to in ["m1@b.test", "m2@b.test"] {
        w.send_in(Stream::Marketing, &[to]).await;
    }
    w.until("one is under way", async || hears_of(&peer, "m1@b.test")).await;
    // For the second of marketing somebody waits who could connect; and then, who is connected.
    for (stream, to) in [(Stream::Mail, "jane@b.test"), (Stream::Transactional, "code@b.test")] {
        let waited = attempted(&w, stream, to, &peer).await;
        assert!(waited <= AT_ONCE, "{to}: {waited:?}");
    }
    assert_eq!(peer.said().len(), 2, "it bears two connections");
    assert!(!hears_of(&peer, "m2@b.test"), "marketing waits for marketing");
    w.pass(5).await;
    w.until("all is there", async || peer.taken().len() == 3 && hears_of(&peer, "m2@b.test")).await;
}

/// A provider has a line for each of its customers: who waits in one of them makes way.
#[tokio::test(start_paused = true)]
async fn who_waits_with_marketing_for_a_stranger_makes_way_for_what_is_urgent() {
    let slow = rules(&[("RCPT TO:<m", Act::Slow(4))]);
    let (net, _) = Net::default().mx("one.test", 10, "mx1.prodigy.net", 1, slow.clone());
    let (net, peer) = net.mx("two.test", 10, "mx2.prodigy.net", 2, slow);
    let w = net.world().await;
    for n in 0..5 {
        w.send_in(Stream::Marketing, &[&format!("m{n}@one.test")]).await;
    }
    w.pass(1).await;
    let waited = attempted(&w, Stream::Transactional, "code@two.test", &peer).await;
    assert!(waited <= AT_ONCE, "{waited:?}");
}

/// So much waits for a host that says nothing that marketing's own places would not hold it.
#[tokio::test(start_paused = true)]
async fn a_full_stream_holds_up_no_other() {
    let (net, _) = Net::default().host("slow.test", 1, rules(&[("greeting", Act::Stall)]));
    let (net, other) = net.host("b.test", 2, Character::default());
    let w = net.world().await;
    for n in 0..5 {
        let to: Vec<String> = (0..800).map(|m| format!("m{n}-{m}@slow.test")).collect();
        w.send_in(Stream::Marketing, &to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    w.until("its places are taken", async || w.metered().1 >= 100).await;
    for stream in [Stream::Transactional, Stream::Mail] {
        let id = w.send_in(stream, &["jane@b.test"]).await;
        w.until_gone(id).await;
    }
    assert_eq!(other.taken().len(), 2);
    // Nor one domain another of its own stream.
    let id = w.send_in(Stream::Marketing, &["jane@b.test"]).await;
    w.pass(1).await;
    w.until_gone(id).await;
}
