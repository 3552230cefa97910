//! What comes back to the return address of a single delivery. That its receipt is told: `tests/test_receipts.py`.

use base::Address;
use trust::Verp;

use crate::world::{BODY, NOW, World, from, to};

async fn address(w: &World, domain: &str) -> Address {
    Verp::new(w.store.clone()).address(7, 0, domain, NOW).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_return_address_of_a_delivery_takes_reports_and_keeps_none() {
    let w = World::new().await;
    let ours = address(&w, "example.test").await.to_string().to_uppercase();
    for sender in ["", "fbl@provider.test"] {
        let (named, done) = w.send(w.stranger(), from(sender), &[to(&ours)], BODY).await;
        assert_eq!((named, done), (vec!["OK".to_owned()], vec!["OK".to_owned()]));
    }
    assert!(w.queue().await.is_empty());
    w.check().await;
}

#[tokio::test]
async fn trap_19_a_forged_return_address_of_a_delivery_is_refused() {
    let w = World::new().await;
    let ours = address(&w, "example.test").await;
    let other = if ours.local().ends_with('a') { 'i' } else { 'a' };
    let forged = format!("{}{other}", &ours.local()[..ours.local().len() - 1]);
    for forged in [format!("{forged}@example.test"), format!("{}@other.test", ours.local())] {
        let (named, _) = w.send(w.stranger(), from(""), &[to(&forged)], BODY).await;
        assert_eq!(named, ["550 5.1.1 This return address is not valid, or not any more"], "{forged}");
    }
    // In a domain that is not ours it means nothing to us.
    let elsewhere = address(&w, "b.test").await.to_string();
    let (named, _) = w.send(w.stranger(), from(""), &[to(&elsewhere)], BODY).await;
    assert!(named[0].starts_with("550 5.7.1 Relaying denied"), "{named:?}");
}
