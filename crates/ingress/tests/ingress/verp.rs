//! What comes back to the return address of a single delivery, or has it in it.

use base::{Address, Reply};
use bounce::Stage;
use queue::{Outcome, Queue, QueueId, Said, Settled, Want, receipt};
use store::Tx;
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

    /// All that waits is in hand.
    async fn claim_all(&self) {
        let queue = Queue::open(&self.store, 1, NOW).await.unwrap();
        let claim = move |tx: &mut Tx<'_>| {
            let waiting = queue::scheduled(tx, None)?;
            let want: Vec<_> = waiting.into_iter().map(|(group, _)| Want { group, most: 9 }).collect();
            queue::claim_due(tx, &queue, &want, NOW).map(drop)
        };
        self.store.write(claim).await.unwrap();
    }

    async fn heard(&self, id: QueueId) -> Vec<&'static str> {
        let events = self.store.read(move |tx| receipt::events(tx, id, 0)).await.unwrap();
        events.iter().map(|event| event.kind.word()).collect()
    }
}

fn complaint(return_path: &str) -> String {
    format!(
        "From: fbl@provider.test\r\nTo: me@example.test\r\nSubject: complaint\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n\
         --b\r\n\r\nSomebody pressed the button.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
         --b\r\nContent-Type: text/rfc822-headers\r\n\r\nReturn-Path: <{return_path}>\r\nSubject: hi\r\n\r\n--b--\r\n"
    )
}

#[tokio::test]
async fn a_report_at_another_address_is_kept_there_and_told_where_it_has_the_return_address() {
    let w = World::new().await;
    let (id, address) = w.sent().await;
    let forged = address.to_string().replace("@example.test", "@other.test");
    for (n, (quoted, heard)) in
        [(forged.as_str(), 0), ("jane@b.test", 0), (&address.to_string(), 1)].into_iter().enumerate()
    {
        let (_, done) =
            w.send(w.stranger(), from("fbl@provider.test"), &[to("me@example.test")], &complaint(quoted)).await;
        assert_eq!((done, w.messages(w.me).await), (vec!["OK".to_owned()], n as u32 + 1));
        assert_eq!(w.heard(id).await.len(), heard, "{quoted}");
    }
    assert_eq!(w.heard(id).await, ["complained"]);
    w.check().await;
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

/// What a person answers is the person's and goes to whom it is addressed; that there was an answer is told besides.
#[tokio::test]
async fn an_answer_is_told_and_kept() {
    let w = World::new().await;
    let (id, _) = w.sent().await;
    let queue = Queue::open(&w.store, 1, NOW).await.unwrap();
    let claim = move |tx: &mut Tx<'_>| {
        let waiting = queue::scheduled(tx, None)?;
        let want: Vec<_> = waiting.into_iter().map(|(group, _)| Want { group, most: 9 }).collect();
        Ok((queue::claim_due(tx, &queue, &want, NOW)?.claimed.remove(0), queue.clone()))
    };
    let (claimed, queue) = w.store.write(claim).await.unwrap();
    let answer = |fields: &str| format!("From: jane@b.test\r\nTo: me@example.test\r\n{fields}\r\n\r\nYes.\r\n");
    let told = "In-Reply-To: <1@x>";
    let automatic = format!("Auto-Submitted: auto-replied\r\n{told}");
    w.send(w.stranger(), from(""), &[to("me@example.test")], &answer(&automatic)).await;
    assert_eq!((w.heard(id).await, w.messages(w.me).await), (vec!["auto-replied"], 1));
    let outcome = Outcome::Delivered { reports: false };
    let said = Said::by("mx.b.test", Stage::Dot, Reply::new(250, 0, 0, "Ok"));
    let (message, delivery) = (claimed.message, claimed.deliveries[0].clone());
    let settled = vec![Settled { message, delivery, outcome, said, class: String::new(), rule: None }];
    let segment = receipt::Segment::of(&queue, &settled, NOW).unwrap();
    w.store.write(move |tx| queue::record(tx, &queue, &settled, &segment, NOW)).await.unwrap();
    for (n, (sender, fields)) in
        [("jane@b.test", "Subject: x"), ("jim@b.test", told), ("jane@b.test", told)].iter().enumerate()
    {
        assert_eq!(w.heard(id).await.len(), 1);
        let answer = answer(fields).replace("jane", &sender[..sender.len() - 7]);
        w.send(w.stranger(), from(sender), &[to("me@example.test")], &answer).await;
        assert_eq!(w.messages(w.me).await, n as u32 + 2);
    }
    assert_eq!(w.heard(id).await, ["auto-replied", "replied"]);
    w.check().await;
}

/// Somebody sends on what came, in the words of a mail, and that comes back as some hosts return a mail: with all of it in the words.
#[tokio::test]
async fn a_return_address_in_the_words_of_a_mail_that_was_sent_on_proves_nothing() {
    let w = World::new().await;
    let (id, address) = w.sent().await;
    let quoted = format!("> Return-Path: <{address}>\r\n> From: me@example.test\r\n> Subject: hi\r\n");
    let returned = |named: &str| {
        format!(
            "From: MAILER-DAEMON@c.test\r\nSubject: failure notice\r\n\r\n\
             Hi. This is the qmail-send program at c.test.\r\n\
             I'm afraid I wasn't able to deliver your message to the following addresses.\r\n\
             This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n\
             {named}Sorry, no mailbox here by that name. (#5.1.1)\r\n\r\n\
             --- Below this line is a copy of the message.\r\n\r\n\
             From: me@example.test\r\nSubject: Fwd: hi\r\n\r\n{quoted}"
        )
    };
    for named in ["<old@c.test>:\r\n", ""] {
        w.send(w.stranger(), from(""), &[to("me@example.test")], &returned(named)).await;
        assert_eq!(w.heard(id).await, [""; 0], "{named}");
    }
    // At the address itself it is known which mail came back.
    w.send(w.stranger(), from(""), &[to(&address.to_string())], &returned("<old@c.test>:\r\n")).await;
    assert_eq!(w.heard(id).await, ["bounced"]);
}

#[tokio::test]
async fn a_report_at_an_address_that_only_forwards_is_heard_and_goes_on() {
    let w = World::new().await;
    let (id, address) = w.sent().await;
    let mail = complaint(&address.to_string());
    let (_, done) = w.send(w.stranger(), from("fbl@provider.test"), &[to("away@example.test")], &mail).await;
    assert_eq!((done, w.heard(id).await), (vec!["OK".to_owned()], vec!["complained"]));
    assert_eq!(w.queue().await.len(), 2);
    // So is an answer, by the Message-ID that it names.
    let answer = "From: jane@b.test\r\nIn-Reply-To: <1@x>\r\nAuto-Submitted: auto-replied\r\n\r\nAway.\r\n";
    w.claim_all().await;
    w.send(w.stranger(), from(""), &[to("away@example.test")], answer).await;
    assert_eq!(w.heard(id).await, ["complained", "auto-replied"]);
    w.check().await;
}
