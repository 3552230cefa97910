//! The operator's own figures, set while mail flows.

use base::Stream;
use queue::source::{self, Scope};

use crate::peer::{Act, Character};
use crate::world::{Net, rules};

#[tokio::test(start_paused = true)]
async fn what_the_operator_says_of_a_site_counts_at_once_and_until_it_is_taken_back() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let (net, other) = net.host("c.test", 2, Character::default());
    let w = net.world().await;
    let send = async |n: usize, domain: &str| {
        for n in 0..n {
            let id = w.send(&[&format!("u{n}@{domain}")]).await;
            w.until_gone(id).await;
            w.pass(1).await;
        }
    };
    send(3, "b.test").await;
    assert_eq!(peer.said().len(), 1);
    // By the mail host, and by what it ends in.
    w.policy(Some("b.test"), &[("messages", "2")]).await;
    send(4, "b.test").await;
    send(4, "c.test").await;
    // The first connection has carried three already.
    assert_eq!((peer.said().len(), other.said().len()), (3, 1));
    let limits = &w.site("b.test")[0].limits;
    assert!(limits.contains(&("messages", "2".into())), "{limits:?}");
    w.store
        .write(|tx| source::unset_rules(tx, &Scope { site: Some("b.test".into()), ..Scope::default() }, &[]))
        .await
        .unwrap();
    send(4, "b.test").await;
    assert_eq!(peer.said().len(), 3, "the last one goes on");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_the_operator_sets_is_kept() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    w.policy(None, &[("rate", "2/m"), ("connections", "1")]).await;
    for n in 0..6 {
        w.send_in(Stream::Marketing, &[&format!("m{n}@b.test")]).await;
    }
    w.until("the first is there", async || !peer.taken().is_empty()).await;
    let mut taken = Vec::new();
    for _ in 0..3 {
        for _ in 0..60 {
            w.pass(1).await;
        }
        w.until("it is settled", async || peer.taken().len() == w.metered().0[0] as usize).await;
        taken.push(peer.taken().len());
    }
    assert!(taken.windows(2).all(|two| two[1] - two[0] <= 2) && taken[2] >= 4, "{taken:?}");
}

/// What a site teaches lowers also what the operator says, and can be seen with its last word.
#[tokio::test(start_paused = true)]
async fn a_site_can_be_looked_at() {
    let says = "421 4.7.1 DNS lookup failed, try again in 600 seconds";
    let net = Net::default().mx("b.test", 10, "mx1.prodigy.net", 1, rules(&[("MAIL", Act::Say(says))])).0;
    let w = net.world().await;
    w.policy(Some("att"), &[("connections", "7")]).await;
    let id = w.send(&["x@b.test"]).await;
    w.until_deferred(id, 1).await;
    let [site] = &w.site("att")[..] else { panic!("one site") };
    assert_eq!((&*site.source, &*site.site), ("default", "att"));
    assert!(site.paused.is_some_and(|wait| (590..=600).contains(&wait.as_secs())), "{:?}", site.paused);
    assert!(site.limits.contains(&("connections", "7".into())));
    assert_eq!(&*site.last.as_ref().unwrap().1, says);
    assert!(w.site("b.test").is_empty(), "its hosts are not below that");
}
