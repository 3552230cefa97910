//! Delivery status notifications on their way: to whom, how often, and never about one of their kind.

use base::Clock;
use queue::State;
use smtp::{Mail, Notify, Ret};

use store::{Sql, Value, params};

use crate::peer::{Act, Character};
use crate::world::{BODY, HOUR, NOW, Net, mail, rules};

const NO: (&str, Act) = ("RCPT", Act::Say("550 5.1.1 No such user"));

#[tokio::test(start_paused = true)]
async fn trap_18_a_report_says_who_made_it() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    let report = w.mail(1).await;
    w.until_gone(id).await;
    let (ours, _) = report.split_once("From: ").unwrap();
    assert_eq!(
        ours,
        "Return-Path: <>\r\nDelivered-To: me@example.test\r\n\
         Received: by mx.example.test (Postroom); Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    );
    assert!(report.contains("\r\nAuto-Submitted: auto-replied\r\n"));
    assert!(report.contains("\r\nIn-Reply-To: <1@client.test>\r\n"));
    assert!(report.contains("mx.b.test answered: 550 5.1.1 No such user\r\n"));
    // The header of the mail, and not its body.
    assert!(report.contains("Subject: hi\r\nMessage-ID: <1@client.test>\r\n\r\n--") && !report.contains("hello"));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn trap_19_nobody_is_told_about_a_mail_from_nobody() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[NO]));
    let w = net.world().await;
    let id = w.enqueue("", &["jane@b.test"], None, BODY).await;
    w.until_gone(id).await;
    assert!(peer.said()[0].contains(&"MAIL FROM:<>".to_owned()));
    let told = Some(Notify::On { success: true, failure: true, delay: true });
    let id = w.enqueue("", &["jane@b.test"], told, BODY).await;
    w.until_gone(id).await;
    assert!(w.inbox().await.is_empty());
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_sender_elsewhere_gets_the_report_from_nobody() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let (net, home) = net.host("c.test", 2, Character::default());
    let w = net.world().await;
    let id = w.enqueue("joe@c.test", &["jane@b.test"], None, BODY).await;
    w.until_gone(id).await;
    w.until("the report is there", async || home.taken().len() == 1).await;
    let report = &home.taken()[0];
    assert_eq!((report.from.as_str(), &report.to[..]), ("", &["joe@c.test".to_owned()][..]));
    assert!(report.body.starts_with("Received: by mx.example.test (Postroom); "), "{}", report.body);
    assert!(report.body.contains("From: Mail Delivery System <postmaster@mx.example.test>\r\n"));
}

#[tokio::test(start_paused = true)]
async fn trap_17_a_report_that_cannot_be_delivered_is_the_last_word() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let (net, home) = net.host("c.test", 2, rules(&[NO]));
    let w = net.world().await;
    let id = w.enqueue("joe@c.test", &["jane@b.test"], None, BODY).await;
    w.until_gone(id).await;
    w.until("the report was refused", async || home.all_said().contains(&"MAIL FROM:<>".to_owned())).await;
    let all = async || w.store.read(|tx| queue::page(tx, queue::QueueId::FIRST, 10)).await.unwrap();
    w.until("the queue is empty", async || all().await.is_empty()).await;
    // A sender of ours that is no more.
    let id = w.enqueue("gone@example.test", &["jane@b.test"], None, BODY).await;
    w.until_gone(id).await;
    assert!(all().await.is_empty() && w.inbox().await.is_empty());
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_told_once_after_four_hours() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Say("450 4.3.0 Later"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_deferred(id, 1).await;
    let mut attempt = 1;
    while w.clock.now().0 - NOW.0 < 4 * HOUR as i64 * 1000 {
        assert!(w.inbox().await.is_empty(), "{attempt}");
        let due = w.show(id).await[0].due;
        w.pass((due.0 - w.clock.now().0) as u64 / 1000 + 1).await;
        attempt += 1;
        w.until_deferred(id, attempt).await;
    }
    let report = w.mail(1).await;
    assert!(report.contains("Action: delayed\r\nStatus: 4.3.0\r\n"), "{report}");
    assert!(report.contains("Subject: Your mail has not been delivered yet\r\n"));
    peer.becomes(Character::default());
    w.pass(7 * HOUR).await;
    w.until_gone(id).await;
    assert_eq!(w.inbox().await.len(), 1);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn success_is_told_by_who_comes_last() {
    let (net, _) = Net::default().host("b.test", 1, Character::default());
    let (net, knows) = net.host("c.test", 2, Character { offers: vec!["DSN"], ..Character::default() });
    let w = net.world().await;
    let told = Some(Notify::On { success: true, failure: true, delay: false });
    let id = w.enqueue("me@example.test", &["jane@b.test"], told, BODY).await;
    w.until_gone(id).await;
    let report = w.mail(1).await;
    assert!(report.contains("Action: relayed\r\nStatus: 2.6.0\r\nRemote-MTA: dns; mx.b.test\r\n"), "{report}");
    let id =
        w.enqueue_as(Mail { ret: Some(Ret::Headers), ..mail("me@example.test") }, &["jane@c.test"], told, BODY).await;
    w.until_gone(id).await;
    assert!(knows.said()[0].contains(&"MAIL FROM:<me@example.test> RET=HDRS".to_owned()));
    assert!(knows.said()[0].contains(&"RCPT TO:<jane@c.test> NOTIFY=SUCCESS,FAILURE".to_owned()));
    assert_eq!(w.inbox().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_of_the_mail_comes_back_when_that_was_asked_for() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let w = net.world().await;
    let id = w.enqueue_as(Mail { ret: Some(Ret::Full), ..mail("me@example.test") }, &["j@b.test"], None, BODY).await;
    w.until_gone(id).await;
    let report = w.mail(1).await;
    assert!(report.contains(&format!("Content-Type: message/rfc822\r\n\r\n{BODY}\r\n--")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn recipients_that_fail_together_are_one_report() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let w = net.world().await;
    let id = w.send(&["a@b.test", "b@b.test", "c@b.test"]).await;
    w.until_gone(id).await;
    let report = w.mail(1).await;
    assert_eq!((report.matches("Action: failed").count(), w.inbox().await.len()), (3, 1));
}

/// What is wrong with one message must not keep back the reports of all others.
#[tokio::test(start_paused = true)]
async fn a_debt_that_cannot_be_paid_blocks_no_other() {
    const SPOIL: Sql = Sql { name: "spoil", text: "UPDATE queue_message SET sender = ?2 WHERE id = ?1" };
    const LOSE: Sql = Sql { name: "lose", text: "UPDATE queue_message SET blob = ?2 WHERE id = ?1" };
    let (net, _) = Net::default().host("b.test", 1, rules(&[("RCPT", Act::Stall)]));
    let w = net.world().await;
    let (bad, lost) = (w.send(&["bad@b.test"]).await, w.send(&["lost@b.test"]).await);
    let claimed = async |id| w.show(id).await[0].state == State::Claimed;
    w.until("both are claimed", async || claimed(bad).await && claimed(lost).await).await;
    // The first takes too long to keep back the other.
    w.pass(6).await;
    w.store.write(move |tx| tx.execute(&SPOIL, params![bad, Value::Bytes(b"no address")])).await.unwrap();
    w.store.write(move |tx| tx.execute(&LOSE, params![lost, 1i64 << 60])).await.unwrap();
    let gone = w.enqueue("nobody@example.test", &["x@null.test"], None, BODY).await;
    w.pass(6 * 24 * HOUR).await;
    w.until("the first is over", async || w.show(lost).await.iter().all(|d| d.state == State::Failed)).await;
    let good = w.send(&["x@missing.test"]).await;
    w.until_gone(good).await;
    assert!(w.mail(1).await.contains("Final-Recipient: rfc822;x@missing.test\r\n"));
    w.until_gone(gone).await;
    // The bytes may come back; after a minute the report goes without them.
    w.until("the report that lacks the mail", async || {
        w.pass(10).await;
        w.show(lost).await.is_empty()
    })
    .await;
    let report = w.mail(2).await;
    assert!(report.contains("Final-Recipient: rfc822;lost@b.test\r\nAction: failed\r\nStatus: 4.4.7\r\n"), "{report}");
    assert!(!report.contains("Content-Description: The mail"));
    let cancelled = w.store.write(move |tx| queue::cancel(tx, bad, 0, crate::world::NOW)).await.unwrap();
    assert_eq!(cancelled.reports, 1);
}

/// RFC 3461 §4.3: who only learns that all is well needs no copy.
#[tokio::test(start_paused = true)]
async fn the_whole_mail_comes_back_only_when_it_failed() {
    let (net, _) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let told = Some(Notify::On { success: true, failure: true, delay: false });
    let id = w.enqueue_as(Mail { ret: Some(Ret::Full), ..mail("me@example.test") }, &["j@b.test"], told, BODY).await;
    w.until_gone(id).await;
    let report = w.mail(1).await;
    assert!(report.contains("Content-Type: text/rfc822-headers\r\n") && !report.contains("hello"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn recipients_that_fail_at_several_hosts_are_one_report() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[NO]));
    let (net, slow) = net.host("c.test", 2, rules(&[("RCPT", Act::Stall)]));
    let (net, _) = net.host("d.test", 3, rules(&[NO]));
    let w = net.world().await;
    let id = w.send(&["a@b.test", "b@c.test", "c@d.test"]).await;
    let states = async || w.show(id).await.iter().map(|d| d.state).collect::<Vec<_>>();
    w.until("two failed", async || states().await == [State::Failed, State::Claimed, State::Failed]).await;
    // The third may take its time, but not for ever.
    w.settle().await;
    assert!(!slow.said().is_empty() && w.inbox().await.is_empty());
    w.until("the report", async || {
        w.pass(5).await;
        !w.inbox().await.is_empty()
    })
    .await;
    assert_eq!(w.mail(1).await.matches("Action: failed").count(), 2);
}
