//! New sources: what they may deliver a day, day by day.

use outbox::Why;
use queue::source::{self, Share, SourceId};
use queue::{QueueId, State};

use crate::peer::{Act, Character, Peer};
use crate::world::{Net, World, rules};

const NEW: &str = "127.0.0.2";

fn by(peer: &Peer, ip: &str) -> usize {
    peer.taken().iter().filter(|taken| taken.by == Some(ip.parse().unwrap())).count()
}

async fn plan(w: &World, source: SourceId, caps: &[(Share, &[u32])]) {
    let (caps, now): (Vec<_>, _) =
        (caps.iter().map(|(s, days)| (s.clone(), days.to_vec())).collect(), base::Clock::now(&*w.clock));
    w.store.write(move |tx| source::set_caps(tx, source, &caps, now)).await.unwrap();
}

async fn send(w: &World, n: usize, domain: &str) -> Vec<QueueId> {
    let mut ids = Vec::new();
    for n in 0..n {
        ids.push(w.send(&[&format!("u{n}@{domain}")]).await);
    }
    ids
}

async fn until_all_gone(w: &World, ids: &[QueueId]) {
    for id in ids {
        w.until_gone(*id).await;
    }
}

/// How many of them wait and were not tried.
async fn waiting(w: &World, ids: &[QueueId]) -> usize {
    let mut n = 0;
    for id in ids {
        n += w.show(*id).await.iter().filter(|d| d.state == State::Waiting && d.delivery.attempts == 0).count();
    }
    n
}

/// A day later, and a little.
async fn to_the_next_day(w: &World) {
    let now = base::Clock::now(&*w.clock).secs();
    w.pass((86_400 - now.rem_euclid(86_400)) as u64 + 60).await;
}

/// The new one would get nearly all of it.
#[tokio::test(start_paused = true)]
async fn caps_hold_exactly_over_days_and_restarts_and_the_surplus_goes_elsewhere() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    let new = w.source("new", &[NEW]).await;
    w.source("old", &["127.0.0.3"]).await;
    w.pool("all", &[("new", 1000), ("old", 1)]).await;
    plan(&w, new, &[(Share::Each, &[3, 5, 9])]).await;
    let mut sent = Vec::new();
    for day in 0..4 {
        let before = by(&peer, NEW);
        until_all_gone(&w, &send(&w, 4, "b.test").await).await;
        if day % 2 == 1 {
            w.kill_and_start().await;
        }
        until_all_gone(&w, &send(&w, 8, "b.test").await).await;
        sent.push(by(&peer, NEW) - before);
        // A day on which nothing is sent is none.
        to_the_next_day(&w).await;
        to_the_next_day(&w).await;
    }
    assert_eq!(sent[..3], [3, 5, 9]);
    assert!(sent[3] >= 10, "the plan is over: {sent:?}");
    assert_eq!(peer.taken().len(), 48);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_source_may_send_today_waits_for_tomorrow() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[3, 100])]).await;
    let ids = send(&w, 10, "b.test").await;
    w.until("three are there", async || peer.taken().len() == 3 && w.metered().1 == 0).await;
    w.settle().await;
    assert_eq!((peer.taken().len(), waiting(&w, &ids).await, w.why("b.test")), (3, 7, Some(Why::Spent)));
    w.kill_and_start().await;
    w.pass(3600).await;
    w.settle().await;
    assert_eq!((peer.taken().len(), waiting(&w, &ids).await), (3, 7));
    to_the_next_day(&w).await;
    until_all_gone(&w, &ids).await;
    assert_eq!(peer.taken().len(), 10);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_to_more_than_may_be_sent_is_sent_in_parts() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[4, 4, 4])]).await;
    let to: Vec<String> = (0..10).map(|n| format!("u{n}@b.test")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut delivered = Vec::new();
    for _ in 0..3 {
        w.until("its share is sent", async || w.metered().1 == 0 && peer.taken().len() == delivered.len() + 1).await;
        w.settle().await;
        delivered.push(peer.taken().last().unwrap().to.len());
        to_the_next_day(&w).await;
    }
    assert_eq!(delivered, [4, 4, 2]);
    w.until_gone(id).await;
    w.check().await;
}

/// What is refused was not delivered, and does not count; what may still be delivered does.
#[tokio::test(start_paused = true)]
async fn what_is_refused_makes_room_for_another() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT TO:<u0@", Act::Say("450 4.2.0 Later"))]));
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[2])]).await;
    let first = w.send(&["u0@b.test"]).await;
    w.until_deferred(first, 1).await;
    let ids = send(&w, 4, "b.test").await;
    w.pass(30).await;
    w.until("two are there", async || peer.taken().len() == 2).await;
    for _ in 0..3 {
        w.pass(660).await;
        w.settle().await;
    }
    w.until("one was refused, two are there", async || waiting(&w, &ids).await == 1).await;
    assert_eq!(peer.taken().len(), 2);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_has_a_cap_for_all_sites_and_sites_have_their_own() {
    let (net, b) = Net::default().host("b.test", 1, Character::default());
    let (net, c) = net.host("c.test", 2, Character::default());
    let (net, d) = net.host("d.test", 3, Character::default());
    let w = net.world().await;
    let share = |name: &str| Share::Site(name.into());
    plan(&w, SourceId::DEFAULT, &[(share("b.test"), &[4]), (Share::Each, &[1]), (Share::All, &[6])]).await;
    for domain in ["b.test", "c.test", "b.test", "c.test"] {
        for n in 0..3 {
            w.send(&[&format!("u{n}@{domain}")]).await;
            w.pass(1).await;
            w.settle().await;
        }
    }
    w.until("four and one", async || (b.taken().len(), c.taken().len()) == (4, 1)).await;
    for n in 0..3 {
        w.send(&[&format!("u{n}@d.test")]).await;
    }
    w.until("and one", async || d.taken().len() == 1 && w.metered().1 == 0).await;
    w.settle().await;
    assert_eq!((b.taken().len(), c.taken().len(), d.taken().len()), (4, 1, 1));
}
