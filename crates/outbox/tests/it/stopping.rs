//! Stops and starts: what is given back, what is uncertain, what is never lost.

use queue::State;

use crate::peer::{Act, Character};
use crate::world::{BODY, MINUTE, Net, rules};

#[tokio::test(start_paused = true)]
async fn trap_22_a_stop_ends_what_is_under_way_and_gives_the_rest_back() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("DATA", Act::Stall)]));
    let (net, idle) = net.host("c.test", 2, Character::default());
    let mut w = net.world().await;
    let done = w.send(&["a@c.test"]).await;
    w.until_gone(done).await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    let at_data = async || peer.all_said().iter().filter(|l| **l == "DATA").count();
    w.until("one is on its way", async || at_data().await == 1).await;
    // It takes too long to keep back the next.
    w.pass(6).await;
    w.until("two are on their way", async || at_data().await == 2).await;
    let stopped = w.stop();
    w.until("the others are given back", async || {
        let mut claimed = 0;
        for id in &ids {
            claimed += usize::from(w.show(*id).await[0].state == State::Claimed);
        }
        claimed == 2
    })
    .await;
    // Those two do not answer: they have their time, and no more.
    w.pass(16).await;
    stopped.await.unwrap();
    w.until("goodbye", async || idle.all_said().last().is_some_and(|l| l == "QUIT")).await;
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn trap_22_a_stop_without_trouble_leaves_no_claim() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    let mut ids = Vec::new();
    for n in 0..100 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    w.stop().await.unwrap();
    for id in &ids {
        assert!(w.show(*id).await.iter().all(|d| d.state == State::Waiting && d.delivery.uncertain == 0));
    }
    let sent = peer.taken().len();
    let left = async || w.store.read(|tx| queue::page(tx, queue::QueueId::FIRST, 200)).await.unwrap().len();
    assert_eq!(left().await + sent, 100);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_at_a_crash_is_sent_again_and_marked() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[(".", Act::Stall)]));
    let mut w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until("all was said", async || peer.all_said().contains(&".".to_owned())).await;
    peer.becomes(rules(&[("MAIL", Act::Say("450 4.3.0 Later"))]));
    w.kill_and_start().await;
    let d = w.until_deferred(id, 2).await;
    assert_eq!(d.delivery.uncertain, 1);
    peer.becomes(Character::default());
    w.pass(11 * MINUTE).await;
    w.until_gone(id).await;
    // The same mail, by its Message-ID: who has it twice can tell.
    assert!(peer.taken().len() == 2 && peer.taken().iter().all(|t| t.body.ends_with(BODY)));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_line_at_a_crash_is_not_begun_by_the_dead() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("DATA", Act::Stall)]));
    let mut w = net.world().await;
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    w.until("one is on its way", async || peer.all_said().contains(&"DATA".to_owned())).await;
    peer.becomes(Character::default());
    w.kill_and_start().await;
    w.pass(11 * MINUTE).await;
    for id in ids {
        w.until_gone(id).await;
    }
    assert_eq!(peer.taken().len(), 10, "each once");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_owed_at_a_crash_is_sent() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[("RCPT", Act::Say("550 5.1.1 No such user"))]));
    let mut w = net.world().await;
    w.stop().await.unwrap();
    let id = w.send(&["jane@b.test"]).await;
    let queue = w.queue.clone();
    let now = crate::world::NOW;
    let fail = move |tx: &mut store::Tx<'_>| {
        let group = queue::Group::of(base::Stream::Mail, base::OrganisationId::HOUSE, "b.test", 0);
        let claimed = queue::claim_due(tx, &queue, &[queue::Want { group, most: 1 }], now)?.claimed;
        let said = queue::Said::by("mx.b.test", bounce::Stage::Rcpt, base::Reply::new(550, 1, 1, "no"));
        let settled = queue::Settled {
            message: claimed[0].message.clone(),
            delivery: claimed[0].deliveries[0].clone(),
            outcome: queue::Outcome::Failed,
            said,
            class: "no-such-user".into(),
            rule: None,
        };
        let segment = queue::receipt::Segment::of(&queue, std::slice::from_ref(&settled), now)?;
        queue::record(tx, &queue, &[settled], &segment, now)
    };
    w.store.write(fail).await.unwrap();
    assert_eq!(w.show(id).await.len(), 1);
    w.start_again().await;
    w.until_gone(id).await;
    assert!(w.mail(1).await.contains("Action: failed\r\n"));
    w.check().await;
}
