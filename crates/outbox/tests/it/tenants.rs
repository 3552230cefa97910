//! An organisation with figures of its own, among others, as the workers send its mail.

use crate::peer::{Act, Character, Peer};
use crate::world::{Net, World, rules};

/// How many mails were taken of which the recipient begins so.
fn taken(peer: &Peer, to: &str) -> usize {
    peer.taken().iter().filter(|taken| taken.to[0].starts_with(to)).count()
}

/// Mails of an organisation's to recipients of that name; waits for none of them.
async fn send(w: &World, organisation: i64, n: usize, to: &str) {
    for n in 0..n {
        w.send_of(organisation, &[&format!("{to}{n}@b.test")]).await;
    }
    w.settle().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_at_its_rate_is_sent_one_by_one_and_others_mail_at_once() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    // One each ten seconds, and others may use one connection: a worker that waits for one's turn hears of the other.
    w.policy_of(Some(7), Some("b.test"), &[("rate", "6/m")]).await;
    w.policy(Some("b.test"), &[("connections", "1")]).await;
    w.settle().await;
    send(&w, 7, 5, "bound").await;
    assert_eq!(taken(&peer, "bound"), 1);
    let mut at = Vec::new();
    for second in 1..=60 {
        let before = taken(&peer, "bound");
        send(&w, 8, 1, &format!("free{second}-")).await;
        assert_eq!(taken(&peer, "free"), second, "it waits for the other");
        w.pass(1).await;
        at.extend((before..taken(&peer, "bound")).map(|_| second));
    }
    assert_eq!(at.len(), 4, "{at:?}");
    assert!(at.iter().zip([10, 20, 30, 40]).all(|(at, due)| (due..=due + 4).contains(at)), "{at:?}");
    assert!(at.windows(2).all(|two| two[1] - two[0] >= 9), "{at:?}");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_its_connections_waits_for_them_and_others_do_not() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT TO:<slow", Act::Stall)]));
    let w = net.world().await;
    w.policy_of(Some(7), Some("b.test"), &[("connections", "1")]).await;
    w.settle().await;
    send(&w, 7, 1, "slow").await;
    w.until("the first is under way", async || peer.all_said().iter().any(|line| line.contains("<slow"))).await;
    send(&w, 7, 4, "bound").await;
    send(&w, 8, 4, "free").await;
    for _ in 0..10 {
        w.pass(1).await;
    }
    assert_eq!((taken(&peer, "bound"), taken(&peer, "free")), (0, 4));
    // Its end is the next one's beginning, and so on: never two at once, though there are connections.
    peer.becomes(rules(&[("RCPT TO:<bound", Act::Slow(3))]));
    peer.hang_up();
    let mut at = Vec::new();
    for second in 1..=30 {
        let before = taken(&peer, "bound");
        w.pass(1).await;
        at.extend((before..taken(&peer, "bound")).map(|_| second));
    }
    assert!(at.len() == 4 && at.windows(2).all(|two| (3..=6).contains(&(two[1] - two[0]))), "{at:?}");
    w.check().await;
}
