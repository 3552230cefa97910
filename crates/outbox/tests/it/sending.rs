//! Mail that arrives: what is said, on how many connections, and which way.

use std::net::SocketAddr;

use outbox::Smarthost;
use smtp::{BodyType, Mail};

use crate::peer::{Act, Character};
use crate::world::{BODY, MINUTE, Net, PREFIX, mail, rules};

#[tokio::test(start_paused = true)]
async fn a_mail_is_sent_as_soon_as_it_is_on_disk() {
    let (net, peer) =
        Net::default().host("b.test", 1, Character { offers: vec!["SIZE 1000000"], ..Character::default() });
    let w = net.world().await;
    let id = w.send(&["jane@b.test", "jim@b.test"]).await;
    w.until_gone(id).await;
    // One transaction for both, in one flight.
    let size = PREFIX.len() + BODY.len();
    assert_eq!(
        peer.said()[0],
        [
            "EHLO mx.example.test",
            &format!("MAIL FROM:<me@example.test> SIZE={size}"),
            "RCPT TO:<jane@b.test>",
            "RCPT TO:<jim@b.test>",
            "DATA",
            "."
        ]
    );
    assert_eq!(peer.taken()[0].body, format!("{PREFIX}{BODY}"));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_the_next_mail_and_then_closed() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    for n in 1..=3 {
        let id = w.send(&["jane@b.test"]).await;
        w.until_gone(id).await;
        assert_eq!((peer.said().len(), peer.taken().len()), (1, n));
        w.pass(1).await;
    }
    w.pass(31).await;
    w.until("QUIT", async || peer.all_said().contains(&"QUIT".to_owned())).await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert_eq!(peer.said().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_mails_share_a_few_connections() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    for n in 0..200 {
        w.send(&[&format!("u{n}@b.test")]).await;
    }
    let mut seconds = 0;
    let there = async || {
        w.pass(1).await;
        seconds += 1;
        peer.taken().len() == 200
    };
    w.until("all are there", there).await;
    // Ten at once, and others in the place of those that have carried a hundred.
    assert!(peer.said().len() <= 12, "{} connections", peer.said().len());
    // Nothing is known of the host: twenty a second.
    assert!(seconds >= 10, "{seconds}");
    let mut to: Vec<String> = peer.taken().into_iter().flat_map(|t| t.to).collect();
    to.sort();
    to.dedup();
    assert_eq!(to.len(), 200, "each once");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_mail_host_is_tried_when_one_is_away_or_not_in_the_mood() {
    for trouble in [Act::Say("421 4.3.2 Not now"), Act::Say("554 5.3.2 No"), Act::Drop] {
        let (net, first) = Net::default().mx("b.test", 10, "a.b.test", 1, rules(&[("greeting", trouble.clone())]));
        let (net, second) = net.mx("b.test", 20, "b.b.test", 2, Character::default());
        let w =
            net.dns(|zone| zone.mx("b.test", 5, "gone.b.test").ip("gone.b.test", [192, 0, 2, 9].into())).world().await;
        let id = w.send(&["jane@b.test"]).await;
        w.until_gone(id).await;
        assert_eq!((first.said().len(), first.taken().len(), second.taken().len()), (1, 0, 1), "{trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_goes_before_the_dns_even_to_this_machine() {
    let here: SocketAddr = "127.0.0.1:2500".parse().unwrap();
    let (net, wrong) = Net::default().host("b.test", 1, Character::default());
    let (net, right) = net.listen(here, Character { name: "mx.example.test", ..Character::default() });
    let route = |domain: &'static str| {
        move |r: &mut outbox::Routes| drop(r.fixed.insert(domain.into(), "127.0.0.1:2500".parse().unwrap()))
    };
    let w = net.routes(route("b.test")).routes(route("c.test")).world().await;
    let id = w.send(&["jane@b.test", "jim@c.test"]).await;
    w.until_gone(id).await;
    assert!(wrong.said().is_empty());
    // The same way for both domains: one transaction.
    assert_eq!(right.taken()[0].to, ["jane@b.test", "jim@c.test"]);
}

#[tokio::test(start_paused = true)]
async fn everything_else_goes_to_the_smart_host() {
    let (net, host) = Net::default()
        .listen("127.0.0.1:25".parse().unwrap(), Character { offers: vec!["AUTH PLAIN"], ..Character::default() });
    let login = Some(("me".to_owned(), "secret".to_owned()));
    let address = "127.0.0.1:25".parse().unwrap();
    let w = net.routes(|r| r.smarthost = Some(Smarthost { address, login })).world().await;
    let id = w.send(&["jane@b.test", "jim@c.test"]).await;
    w.until_gone(id).await;
    // base64 of "\0me\0secret".
    assert!(host.all_said().contains(&"AUTH PLAIN AG1lAHNlY3JldA==".to_owned()), "{:?}", host.said());
    assert_eq!(host.taken()[0].to, ["jane@b.test", "jim@c.test"]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_not_the_mails_fault() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    // The host closes what waited, at the very moment that the next mail comes.
    peer.becomes(rules(&[("MAIL", Act::Say("421 4.4.2 Too long without mail"))]));
    let second = w.send(&["jim@b.test"]).await;
    w.pass(1).await;
    w.until("the mail was tried", async || peer.all_said().iter().filter(|l| l.starts_with("MAIL")).count() >= 3).await;
    // On the new connection it is a true answer.
    assert_eq!(w.until_deferred(second, 1).await.reply, "421 4.4.2 Too long without mail");
    assert_eq!(peer.said().len(), 2);
    peer.becomes(Character::default());
    w.pass(6 * MINUTE).await;
    w.until_gone(second).await;
}

#[tokio::test(start_paused = true)]
async fn trap_02_stray_line_ends_do_not_go_out() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let body = "Subject: a\r\n\r\nb\n.\nMAIL FROM:<evil@x.test>\r.\rc\r\n";
    let id = w.enqueue("me@example.test", &["jane@b.test"], None, body).await;
    w.until_gone(id).await;
    let expected = format!("{PREFIX}Subject: a\r\n\r\nb\r\n.\r\nMAIL FROM:<evil@x.test>\r\n.\r\nc\r\n");
    assert_eq!(peer.taken()[0].body, expected);
    assert_eq!(peer.said()[0].iter().filter(|l| l.starts_with("MAIL")).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_large_mail_goes_out_in_pieces() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let body = format!("Subject: big\r\n\r\n{}", "0123456789abcdef\r\n".repeat(100_000));
    let id = w.enqueue("me@example.test", &["jane@b.test"], None, &body).await;
    w.until_gone(id).await;
    assert!(peer.taken()[0].body == format!("{PREFIX}{body}"));
}

#[tokio::test(start_paused = true)]
async fn no_more_recipients_than_the_host_takes() {
    let (net, peer) =
        Net::default().host("b.test", 1, Character { offers: vec!["LIMITS RCPTMAX=2"], ..Character::default() });
    let w = net.world().await;
    let id = w.send(&["a@b.test", "b@b.test", "c@b.test", "d@b.test", "e@b.test"]).await;
    w.until("two are sent", async || peer.taken().len() == 2).await;
    w.pass(1).await;
    w.until_gone(id).await;
    let mut sizes: Vec<usize> = peer.taken().iter().map(|t| t.to.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn trap_30_eight_bits_go_only_where_they_are_taken() {
    let (net, peer) = Net::default().host("b.test", 1, Character { offers: vec!["8BITMIME"], ..Character::default() });
    let (net, plain) = net.host("c.test", 2, Character::default());
    let w = net.world().await;
    let id = w.enqueue("me@example.test", &["a@b.test"], None, "Subject: x\r\n\r\nü\r\n").await;
    w.until_gone(id).await;
    assert!(peer.said()[0].contains(&"MAIL FROM:<me@example.test> BODY=8BITMIME".to_owned()));
    let id = w.enqueue("me@example.test", &["a@c.test"], None, "Subject: x\r\n\r\nü\r\n").await;
    w.until_gone(id).await;
    assert!(plain.taken().is_empty());
    let report = w.mail(1).await;
    assert!(report.contains("Status: 5.6.3\r\n"), "{report}");
    let id =
        w.enqueue_as(Mail { body: BodyType::BinaryMime, ..mail("me@example.test") }, &["a@b.test"], None, BODY).await;
    w.until_gone(id).await;
    assert!(w.mail(2).await.contains("Status: 5.6.3\r\n"));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_mail_whose_bytes_are_moved_while_it_stands_in_line_is_sent() {
    let (net, slow) = Net::default().mx("b.test", 10, "a.b.test", 1, rules(&[("greeting", Act::Stall)]));
    let (net, host) = net.mx("b.test", 20, "b.b.test", 2, Character::default());
    let w = net.world().await;
    let body = format!("{BODY}{}", "moved\r\n".repeat(50_000));
    let id = w.enqueue("me@example.test", &["jane@b.test"], None, &body).await;
    w.until("it stands in line", async || !slow.said().is_empty()).await;
    w.moved(id, &body).await;
    w.pass(6 * MINUTE).await;
    w.until_gone(id).await;
    assert!(host.taken()[0].body == format!("{PREFIX}{body}"));
    w.check().await;
}
