//! Streams: what waits of one keeps back no other.

use base::Stream;

use crate::peer::{Act, Character};
use crate::world::{Net, rules};

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
