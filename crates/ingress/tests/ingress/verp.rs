//! What comes back to the return address of a single delivery. That its receipt is told: `tests/test_receipts.py`.

use base::Address;
use queue::{QueueId, receipt};
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

impl World {
    /// A mail of ours to jane@b.test, and the return address that may have been made for it.
    async fn sent(&self) -> (QueueId, Address) {
        self.send(self.signed_in(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
        let id = self.queue().await.pop().unwrap().0.id;
        let address = Verp::new(self.store.clone()).address(id.bits(), 0, "example.test", NOW).await;
        (id, address.unwrap().unwrap())
    }

    async fn heard(&self, id: QueueId) -> Vec<&'static str> {
        let events = self.store.read(move |tx| receipt::events(tx, id, 0)).await.unwrap();
        events.iter().map(|event| event.kind.word()).collect()
    }
}

/// A report that returns a large mail whole is kept nowhere else.
#[tokio::test]
async fn a_large_report_is_read_too() {
    let w = World::new().await;
    let (id, address) = w.sent().await;
    let report = format!(
        "From: MAILER-DAEMON@b.test\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; b.test\r\n\r\n\
         Final-Recipient: rfc822; jane@b.test\r\nAction: failed\r\nStatus: 5.2.2\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n{BODY}{}--b--\r\n",
        "All of it.\r\n".repeat(40_000)
    );
    w.send(w.stranger(), from(""), &[to(&address.to_string())], &report).await;
    assert_eq!(w.heard(id).await, ["bounced"]);
}
