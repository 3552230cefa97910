//! What a mail brings about besides the copies in our mailboxes: deliveries to other hosts, signatures, debts.

use std::sync::Arc;

use base::{OrganisationId, Stream, Timestamp};
use directory::{Directory, Route, system_random};
use ingress::{Ingress, Origin, Protocol};
use mailbox::Mailboxes;
use queue::{Queue, State};
use smtp::{BodyType, Mail, Notify, OriginalRecipient, Rcpt, Recipient};
use store::{Class, Tx};
use trust::Keys;

use crate::world::{BODY, NOW, Still, World, at, from, recipients, to};

#[tokio::test]
async fn one_commit_has_the_copy_here_and_the_delivery_elsewhere() {
    let w = World::new().await;
    let mail = Mail { envelope_id: Some("e1".into()), ret: Some(smtp::Ret::Full), ..from("me@example.test") };
    let (named, done) =
        w.send(w.signed_in(), mail, &[to("boss@other.test"), to("jane@b.test"), to("jim@c.test")], BODY).await;
    assert_eq!((named, done), (vec!["OK".to_owned(); 3], vec!["OK".to_owned(); 3]));
    let queue = w.queue().await;
    let (m, d) = &queue[0];
    assert_eq!(recipients(d), [("jane@b.test".into(), State::Waiting), ("jim@c.test".into(), State::Waiting)]);
    assert_eq!(
        (m.from.clone(), m.envelope_id.as_deref(), m.ret),
        (Some(at("me@example.test")), Some("e1"), Some(smtp::Ret::Full))
    );
    assert_eq!((m.account, m.body, m.created), (Some(w.me), BodyType::SevenBit, NOW));
    let prefix = std::str::from_utf8(&m.prefix).unwrap();
    let (signatures, received) = prefix.split_once("Received: from authenticated\r\n\t").unwrap();
    assert_eq!(signatures.matches("DKIM-Signature: v=1;").count(), 2);
    assert!(received.contains("by mx.example.test (Postroom) with ESMTPA") && !received.contains("for <"));
    w.check().await;
}

#[tokio::test]
async fn what_only_passes_through_lies_where_it_is_soon_gone() {
    let w = World::new().await;
    let trusted = Origin { trusted: true, ..w.stranger() };
    w.send(trusted.clone(), from("a@b.test"), &[to("jane@c.test")], BODY).await;
    w.send(trusted, from("a@b.test"), &[to("jane@c.test"), to("me@example.test")], BODY).await;
    let packs = w.store.scan_packs(|_, _, _| {}).unwrap();
    let count = |class| packs.iter().filter(|p| p.class == class).map(|p| p.records).sum::<u64>();
    assert_eq!((count(Class::Transit), count(Class::Lasting)), (1, 1));
    let shared = w.queue().await[1].0.content.blob().unwrap();
    assert_eq!(w.store.blob(shared).unwrap().len(), BODY.len() as u64);
    w.check().await;
}

#[tokio::test]
async fn trap_19_strangers_do_not_relay_but_forwards_of_ours_go_out() {
    let w = World::new().await;
    let (named, _) = w.send(w.stranger(), from("a@b.test"), &[to("jane@c.test"), to("both@example.test")], BODY).await;
    assert_eq!(named, ["550 5.7.1 Relaying denied: sign in to send to other hosts", "OK"]);
    let (named, done) = w.send(w.stranger(), from("a@b.test"), &[to("away@example.test")], BODY).await;
    assert_eq!((named, done), (vec!["OK".to_owned()], vec!["OK".to_owned()]));
    let queue = w.queue().await;
    assert_eq!(recipients(&queue[0].1), [("friend@elsewhere.test".into(), State::Waiting)]);
    assert_eq!(recipients(&queue[1].1), [("me@elsewhere.test".into(), State::Waiting)]);
    // The sender knows the address it wrote to (RFC 3461 §5.2.7), and nobody vouches for a stranger.
    let original = OriginalRecipient { kind: "rfc822".into(), address: "away@example.test".into() };
    assert_eq!(queue[1].1[0].delivery.original, Some(original));
    assert!(queue[1].0.prefix.starts_with(b"Delivered-To: away@example.test\r\nReceived: "));
    assert_eq!(w.messages(w.me).await, 1);
    w.check().await;
}

#[tokio::test]
async fn trap_18_what_was_forwarded_and_comes_back_ends() {
    let w = World::new().await;
    w.send(w.stranger(), from("a@b.test"), &[to("Both@example.test")], BODY).await;
    let sent = w.queue().await.pop().unwrap().0;
    let back = format!("Received: x\r\n{}{BODY}", std::str::from_utf8(&sent.prefix).unwrap());
    let (named, done) = w.send(w.stranger(), from("a@b.test"), &[to("both@example.test")], &back).await;
    assert_eq!(
        (named[0].as_str(), done[0].as_str()),
        ("OK", "554 5.4.6 The message was forwarded from this address before")
    );
    assert_eq!((w.queue().await.len(), w.messages(w.me).await), (1, 1));
    // Another address, or one that leads to nobody elsewhere, has nothing to do with it. Who gets it by another name too gets
    // it by that.
    let all = ["both@example.test", "me@example.test", "away@example.test", "boss@other.test"].map(to);
    let (_, done) = w.send(w.stranger(), from("a@b.test"), &all, &back).await;
    assert_eq!(done.iter().map(|d| &d[..2]).collect::<Vec<_>>(), ["55", "OK", "OK", "OK"]);
    assert_eq!(w.messages(w.me).await, 2);
    let told: Vec<_> = w.queue().await[1..].iter().flat_map(|(_, d)| recipients(d)).collect();
    assert_eq!(told, [("both@example.test".into(), State::Failed), ("me@elsewhere.test".into(), State::Waiting)]);
    let resent = format!("Delivered-To: me@example.test\r\n{BODY}");
    let (_, done) = w.send(w.stranger(), from("a@b.test"), &[to("me@example.test")], &resent).await;
    assert_eq!(done, ["OK"]);
    w.check().await;
}

#[tokio::test]
async fn a_forward_that_is_ascii_stays_so() {
    let w = World::new().await;
    let define = |tx: &mut Tx<'_>| {
        let forward = Route::Forward(vec![at("ann@elsewhere.test")]);
        directory::create_address(tx, &at("b\u{fc}ro@example.test"), &forward, NOW)
    };
    w.store.write(define).await.unwrap();
    let utf8 = Mail { smtputf8: true, ..from("a@b.test") };
    for (subject, ascii) in [("hi", true), ("\u{fc}", false)] {
        let body = format!("Subject: {subject}\r\n\r\n");
        w.send(w.stranger(), utf8.clone(), &[to("b\u{fc}ro@example.test")], &body).await;
        let (m, _) = w.queue().await.pop().unwrap();
        assert_eq!((m.prefix.is_ascii(), m.smtputf8), (ascii, !ascii));
    }
    let (m, _) = w.queue().await.remove(0);
    let back = format!("{}{BODY}", std::str::from_utf8(&m.prefix).unwrap());
    let (_, done) = w.send(w.stranger(), utf8, &[to("b\u{fc}ro@example.test")], &back).await;
    assert!(done[0].starts_with("554 5.4.6 "), "{done:?}");
}

#[tokio::test]
async fn nobody_learns_from_a_forward_who_else_was_written_to() {
    let w = World::new().await;
    w.send(w.stranger(), from("a@b.test"), &["both@example.test", "away@example.test"].map(to), BODY).await;
    let queue = w.queue().await;
    assert_eq!(queue.len(), 2);
    for ((m, _), other) in queue.iter().zip(["away@", "both@"]) {
        assert!(!std::str::from_utf8(&m.prefix).unwrap().contains(other));
    }
}

#[tokio::test]
async fn few_recipients_cannot_reach_everybody() {
    let w = World::new().await;
    let many = |tx: &mut Tx<'_>| {
        let targets = (0..1000).map(|n| at(&format!("u{n}@elsewhere.test"))).collect();
        directory::create_address(tx, &at("many@example.test"), &Route::Forward(targets), NOW)
    };
    w.store.write(many).await.unwrap();
    let mut incoming = w.ingress.start(Arc::new(w.stranger()), from("a@b.test")).await.unwrap();
    for _ in 0..10 {
        incoming.recipient(&to("many@example.test")).await.unwrap();
    }
    let refused = incoming.recipient(&to("me@example.test")).await.unwrap_err();
    assert!(refused.reply().to_string().starts_with("452 4.5.3 "));
}

#[tokio::test]
async fn the_hosts_own_postmaster_and_abuse_exist() {
    let w = World::new().await;
    let list = Route::Alias(vec![at("me@example.test"), at("friend@elsewhere.test")]);
    let define = move |tx: &mut Tx<'_>| directory::create_address(tx, &at("postmaster@example.test"), &list, NOW);
    w.store.write(define).await.unwrap();
    let bare = Rcpt { to: Recipient::Postmaster, notify: None, original: None };
    for rcpt in [bare, to("PostMaster@MX.example.test")] {
        for origin in [w.stranger(), w.signed_in()] {
            assert_eq!(w.send(origin, from(""), std::slice::from_ref(&rcpt), "X: y\r\n\r\n").await.1, ["OK"]);
        }
    }
    let queue = w.queue().await;
    assert_eq!((w.messages(w.me).await, queue.len()), (4, 4));
    assert!(queue.iter().all(|(_, d)| recipients(d) == [("friend@elsewhere.test".into(), State::Waiting)]));
    let (named, _) = w.send(w.stranger(), from(""), &[to("joe@mx.example.test"), to("abuse@mx.other.test")], "").await;
    assert!(named.iter().all(|reply| reply.starts_with("550 5.7.1 ")), "{named:?}");
}

#[tokio::test]
async fn nobody_gets_a_mail_twice_by_two_names() {
    let w = World::new().await;
    let all = [to("both@example.test"), to("me@example.test"), to("friend@elsewhere.test")];
    let (_, done) = w.send(w.signed_in(), from("me@example.test"), &all, BODY).await;
    assert_eq!(done, ["OK", "OK", "OK"]);
    assert_eq!((w.messages(w.me).await, w.queue().await[0].1.len()), (1, 1));
}

#[tokio::test]
async fn who_has_it_not_though_we_said_yes_is_reported() {
    let w = World::new().await;
    // It has room at RCPT, and none when the mail is there.
    let big = format!("{BODY}{}\r\n", "x".repeat(600));
    let all = [to("me@example.test"), to("full@example.test")];
    let (named, done) = w.send(w.stranger(), from("a@b.test"), &all, &big).await;
    assert_eq!((named, done[0].as_str()), (vec!["OK".to_owned(); 2], "OK"));
    assert!(done[1].starts_with("452 4.2.2 "), "{done:?}");
    let queue = w.queue().await;
    assert_eq!(recipients(&queue[0].1), [("full@example.test".into(), State::Failed)]);
    assert!(queue[0].1[0].owed.failure);
    // The refused copy left no trace in the account's counters.
    w.check().await;
    // From nobody: nobody to tell, so it shall come again.
    let (_, done) = w.send(w.stranger(), from(""), &all, &big).await;
    assert_eq!((done.len(), &done[0][..10], w.messages(w.me).await), (1, "452 4.2.2 ", 1));
    // LMTP has told already.
    let lmtp = Origin { protocol: Protocol::Lmtp, ..w.stranger() };
    w.send(lmtp, from("a@b.test"), &all, &big).await;
    // Refused by all: that is the answer.
    let (_, done) = w.send(w.stranger(), from("a@b.test"), &all[1..], &big).await;
    assert!(done[0].starts_with("452 4.2.2 "), "{done:?}");
    assert_eq!(w.queue().await.len(), 1);
    assert_eq!(w.messages(w.full).await, 0);
    w.check().await;
}

#[tokio::test]
async fn a_full_member_misses_a_mail_and_the_sender_knows() {
    let w = World::new().await;
    let big = format!("{BODY}{}\r\n", "x".repeat(600));
    for (to, other) in [(to("all@example.test"), None), (to("keep@example.test"), Some("friend@elsewhere.test"))] {
        let (named, done) = w.send(w.stranger(), from("a@b.test"), std::slice::from_ref(&to), &big).await;
        assert_eq!((named, done), (vec!["OK".to_owned()], vec!["OK".to_owned()]));
        let (_, deliveries) = w.queue().await.pop().unwrap();
        let missed = deliveries.last().unwrap();
        assert_eq!((missed.delivery.to.to_string(), missed.state), ("full@example.test".into(), State::Failed));
        assert!(missed.owed.failure);
        assert_eq!(deliveries.len() - 1, other.iter().len());
    }
    // LMTP says yes for a group too.
    let lmtp = Origin { protocol: Protocol::Lmtp, ..w.stranger() };
    w.send(lmtp, from("a@b.test"), &[to("all@example.test"), to("full@example.test")], &big).await;
    assert_eq!(recipients(&w.queue().await[2].1), [("full@example.test".into(), State::Failed)]);
    assert_eq!((w.messages(w.me).await, w.messages(w.full).await), (2, 0));
    w.check().await;
}

#[tokio::test]
async fn a_full_mailbox_is_known_at_rcpt_and_does_not_stop_a_group() {
    let w = World::new().await;
    let big = |from_| Mail { size: Some(700), ..from(from_) };
    let all = ["full@example.test", "second@example.test", "all@example.test", "keep@example.test"].map(to);
    let fits = Mail { size: Some(600), ..from("a@b.test") };
    w.ingress.start(Arc::new(w.stranger()), fits).await.unwrap().recipient(&all[0]).await.unwrap();
    let (named, _) = w.send(w.stranger(), big("a@b.test"), &all, BODY).await;
    assert_eq!(named, ["452 4.2.2 The mailbox is full", "452 4.2.2 The mailbox is full", "OK", "OK"]);
}

#[tokio::test]
async fn a_second_name_has_the_fate_of_the_first() {
    let w = World::new().await;
    let big = format!("{BODY}{}\r\n", "x".repeat(600));
    let both = ["full@example.test", "second@example.test"].map(to);
    for protocol in [Protocol::Smtp, Protocol::Lmtp] {
        let origin = Origin { protocol, ..w.stranger() };
        let (_, done) = w.send(origin, from(""), &both, &big).await;
        assert!(done.len() == 2 && done.iter().all(|d| d.starts_with("452 4.2.2 ")), "{done:?}");
    }
    assert!(w.queue().await.is_empty());
}

#[tokio::test]
async fn a_delivery_here_is_confirmed_when_that_was_asked_for() {
    let w = World::new().await;
    let told = Some(Notify::On { success: true, failure: false, delay: false });
    let all = [Rcpt { notify: told, ..to("me@example.test") }, to("boss@other.test")];
    w.send(w.stranger(), from("a@b.test"), &all, BODY).await;
    let queue = w.queue().await;
    assert_eq!(recipients(&queue[0].1), [("me@example.test".into(), State::Delivered)]);
    assert!(queue[0].1[0].owed.success);
    w.check().await;
}

async fn signed_by(w: &World, origin: Origin, envelope: &str, author: &str) -> Option<String> {
    let body = format!("From: {author}\r\nSubject: hi\r\n\r\nhello\r\n");
    w.send(origin, from(envelope), &[to("jane@b.test")], &body).await;
    let queue = w.queue().await;
    let prefix = String::from_utf8(queue.last().unwrap().0.prefix.to_vec()).unwrap();
    prefix.split_once(" d=").map(|(_, rest)| rest.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn a_user_cannot_have_a_mail_signed_by_somebody_elses_domain() {
    let w = World::new().await;
    let by = async |origin, envelope, author| signed_by(&w, origin, envelope, author).await;
    assert_eq!(by(w.signed_in(), "me@example.test", "Me <me@example.test>").await.as_deref(), Some("example.test"));
    assert_eq!(by(w.signed_in(), "me@example.test", "jane@b.test").await.as_deref(), Some("example.test"));
    assert_eq!(by(w.signed_in(), "", "jane@b.test").await, None);
    assert_eq!(
        by(w.signed_in(), "me@example.test", "jane@b.test, me@example.test").await.as_deref(),
        Some("example.test")
    );
    let trusted = || Origin { trusted: true, ..w.stranger() };
    assert_eq!(by(trusted(), "x@b.test", "boss@other.test").await.as_deref(), Some("other.test"));
    assert_eq!(by(trusted(), "boss@other.test", "x@b.test").await, None);
}

#[tokio::test]
async fn nobody_writes_in_another_users_name() {
    let w = World::new().await;
    let try_ = async |origin: Origin, envelope: &str, fields: &str, rcpt: &str| {
        let body = format!("{fields}\r\nSubject: hi\r\n\r\nhello\r\n");
        w.send(origin, from(envelope), &[to(rcpt)], &body).await.1.remove(0)
    };
    let me = "me@example.test";
    for fields in [
        "From: boss@other.test",
        "From: me@example.test, Boss <boss@other.test>",
        "From: nobody@example.test",
        "From: full+x@example.test",
        "From: all@example.test",
        "From: me@example.test\r\nFrom: me@example.test",
        "From: me@example.test\r\nSender: boss@other.test",
        "From: boss@other.test\r\nResent-From: me@example.test",
        "From: second@example.test",
        &format!("From: {}x@b.test", "x@b.test, ".repeat(20)),
    ] {
        for rcpt in ["jane@b.test", me] {
            for envelope in [me, ""] {
                let refused = try_(w.signed_in(), envelope, fields, rcpt).await;
                assert!(refused.starts_with("550 5.7.1 "), "{fields}: {refused}");
            }
        }
    }
    assert_eq!((w.queue().await.len(), w.messages(w.me).await), (0, 0));
    for fields in [
        "From: Me <me+news@Example.test>",
        "From: both@example.test",
        "From: jane@b.test\r\nSender: me@example.test",
        "From: jane@b.test\r\nResent-From: boss@other.test\r\nResent-From: me@example.test",
        "From: Cron",
        "X: no author",
    ] {
        assert_eq!(try_(w.signed_in(), me, fields, "jane@b.test").await, "OK", "{fields}");
    }
    // A trusted host speaks for whom it likes, and of strangers we expect no better.
    let trusted = Origin { trusted: true, ..w.stranger() };
    assert_eq!(try_(trusted, me, "From: boss@other.test", "jane@b.test").await, "OK");
    assert_eq!(try_(w.stranger(), me, "From: boss@other.test", me).await, "OK");
}

#[tokio::test]
async fn what_the_bytes_are_is_seen_not_believed() {
    let w = World::new().await;
    let octets = "From: me@example.test\r\nSubject: hi\r\n\r\n\u{fc}\r\n";
    w.send(w.signed_in(), Mail { smtputf8: true, ..from("me@example.test") }, &[to("j@b.test")], octets).await;
    let header = "From: me@example.test\r\nSubject: \u{fc}\r\n\r\nu\r\n";
    w.send(w.signed_in(), Mail { smtputf8: true, ..from("me@example.test") }, &[to("j@b.test")], header).await;
    let binary = Mail { body: BodyType::BinaryMime, ..from("me@example.test") };
    w.send(w.signed_in(), binary, &[to("j@b.test")], BODY).await;
    assert!(!w.queue().await[2].0.prefix.starts_with(b"DKIM-Signature:"));
    let seen: Vec<_> = w.queue().await.iter().map(|(m, _)| (m.body, m.smtputf8)).collect();
    assert_eq!(seen, [(BodyType::EightBitMime, false), (BodyType::EightBitMime, true), (BodyType::BinaryMime, false)]);
}

#[tokio::test]
async fn a_days_fill_of_recipients_elsewhere() {
    let w = World::new().await;
    let others = |n| (0..n).map(|n| to(&format!("u{n}@b.test"))).collect::<Vec<_>>();
    // What was not accepted does not count.
    for _ in 0..3 {
        let mut gone = w.ingress.start(Arc::new(w.signed_in()), from("me@example.test")).await.unwrap();
        for rcpt in others(1000) {
            gone.recipient(&rcpt).await.unwrap();
        }
    }
    // Two sessions at once: each may name them, and only one mail is accepted.
    let mut racing = w.ingress.start(Arc::new(w.signed_in()), from("me@example.test")).await.unwrap();
    racing.recipient(&to("late@b.test")).await.unwrap();
    w.send(w.signed_in(), from("me@example.test"), &others(1000), BODY).await;
    w.send(w.signed_in(), from("me@example.test"), &others(1000), BODY).await;
    let refused = racing.commit().await.unwrap_err();
    assert!(refused.reply().to_string().starts_with("451 4.7.1 This account has written to 2000"));
    assert_eq!(w.queue().await.len(), 2);
    // Who comes after knows at RCPT, also after a restart; mail at home goes on.
    let again = Directory::open(w.store.clone(), Arc::new(Still), system_random).await.unwrap();
    let mailboxes = Mailboxes::new(w.store.clone(), Arc::new(Still));
    let queue = Queue::open(&w.store, 1, NOW).await.unwrap();
    let ingress = Ingress::new(again, mailboxes, queue, Keys::new(w.store.clone()), "mx.example.test");
    let mut incoming = ingress.start(Arc::new(w.signed_in()), from("me@example.test")).await.unwrap();
    let refused = incoming.recipient(&to("one@b.test")).await.unwrap_err();
    assert!(refused.reply().to_string().starts_with("451 4.7.1 This account has written to 2000"));
    incoming.recipient(&to("boss@other.test")).await.unwrap();
    // Tomorrow is another day, and so is a day that has not come yet.
    let (me, day) = (w.me, 24 * 3600 * 1000);
    for later in [NOW.0 + day, NOW.0 - 1] {
        let spend = move |tx: &mut Tx<'_>| {
            assert_eq!(directory::allowance(tx, me, Timestamp(later))?, directory::DAILY);
            directory::spend(tx, me, 5, Timestamp(later))?;
            directory::allowance(tx, me, Timestamp(later + day - 1))
        };
        assert_eq!(w.store.write(spend).await.unwrap(), directory::DAILY - 5);
    }
}

#[tokio::test]
async fn strangers_of_one_network_name_so_many_an_hour() {
    let w = World::new().await;
    let named = async |origin: Origin| {
        let mut incoming = w.ingress.start(Arc::new(origin), from("a@b.test")).await.unwrap();
        incoming.recipient(&to("nobody@example.test")).await.unwrap_err().reply().to_string()
    };
    for _ in 0..10_000 {
        assert!(named(w.stranger()).await.starts_with("550 5.1.1 "));
    }
    assert!(named(w.stranger()).await.starts_with("451 4.7.1 Your network "));
    let ip = Some([127, 0, 0, 1].into());
    let lmtp = Protocol::Lmtp;
    for other in [
        Origin { trusted: true, ..w.stranger() },
        Origin { protocol: lmtp, ..w.stranger() },
        Origin { ip, ..w.stranger() },
    ] {
        assert!(named(other).await.starts_with("550 5.1.1 "));
    }
}

#[tokio::test]
async fn a_users_mail_is_of_his_stream_and_what_is_forwarded_is_peoples() {
    let w = World::new().await;
    let marketing = w.signed_in_for(Stream::Marketing);
    w.send(marketing, from("me@example.test"), &[to("jane@b.test"), to("away@example.test")], BODY).await;
    w.send(w.stranger(), from("a@b.test"), &[to("away@example.test")], BODY).await;
    let trusted = Origin { trusted: true, ..w.stranger() };
    w.send(trusted.clone(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
    w.send(trusted, from("a@c.test"), &[to("jane@b.test")], BODY).await;
    let (ours, house) = (OrganisationId(1), OrganisationId::HOUSE);
    let of: Vec<_> = w.queue().await.iter().map(|(m, _)| (m.stream, m.organisation)).collect();
    let mail = Stream::Mail;
    assert_eq!(of, [(Stream::Marketing, ours), (mail, ours), (mail, ours), (mail, ours), (mail, house)]);
    w.check().await;
}

#[tokio::test]
async fn what_is_held_waits_in_the_queue_for_whomever_it_is() {
    let w = World::new().await;
    let day = smtp::Hold::For(86_400);
    let by = smtp::DeliverBy { seconds: 60, returned: true, trace: false };
    let mail = Mail { hold: Some(day), deliver_by: Some(by), priority: Some(3), ..from("me@example.test") };
    let all = [to("jane@b.test"), to("boss@other.test"), to("away@example.test")];
    let (named, done) = w.send(w.signed_in(), mail, &all, BODY).await;
    assert_eq!((named, done), (vec!["OK".to_owned(); 3], vec!["OK".to_owned(); 3]));
    let queue = w.queue().await;
    let of: Vec<_> = queue.iter().flat_map(|(_, d)| d).map(|d| d.delivery.to.to_string()).collect();
    assert_eq!(of, ["jane@b.test", "boss@other.test", "me@elsewhere.test"]);
    let release = Timestamp(NOW.0 + 86_400_000);
    for (m, deliveries) in &queue {
        assert_eq!(
            (m.release, m.priority),
            (Some(release), if deliveries[0].delivery.to == at("me@elsewhere.test") { 0 } else { 3 })
        );
        // Its time begins when it may leave.
        let until = Timestamp(release.0 + 60_000);
        assert_eq!(m.deliver_by, Some(queue::DeliverBy { until, returned: true, trace: false }));
        assert!(deliveries.iter().all(|d| d.due == release && d.delivery.expires == until));
    }
    let past = smtp::Hold::Until(NOW);
    let mail = Mail { hold: Some(past), ..from("me@example.test") };
    let refused = w.ingress.start(Arc::new(w.signed_in()), mail).await.err().unwrap();
    assert_eq!(refused.reply().to_string(), "501 5.5.4 HOLDUNTIL is in the past");
    w.check().await;
}
