//! BDAT (RFC 3030): where it is offered, and what becomes of mail where it is offered and not done.

use queue::State;

use crate::peer::{Act, Character};
use crate::world::{BODY, MINUTE, Net, PREFIX};

/// A host that offers CHUNKING, with rules.
fn chunking(rules: &[(&'static str, Act)]) -> Character {
    Character { offers: vec!["CHUNKING", "8BITMIME"], rules: rules.to_vec(), ..Character::default() }
}

/// The chunks of the mails that stand in a queue here: the first line, and all else.
fn chunks() -> [String; 2] {
    let lead = PREFIX.find('\n').unwrap() + 1;
    [format!("BDAT {lead}"), format!("BDAT {} LAST", PREFIX.len() + BODY.len() - lead)]
}

#[tokio::test(start_paused = true)]
async fn where_chunking_is_offered_a_mail_goes_by_bdat_in_as_many_flights_as_by_data() {
    let (net, peer) = Net::default().host("b.test", 1, chunking(&[("RCPT TO:<no@", Act::Say("550 5.1.1 Nobody"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test", "no@b.test"]).await;
    w.until("it is reported", async || !w.inbox().await.is_empty()).await;
    w.until_gone(id).await;
    let [lead, rest] = chunks();
    let (jane, no) = ("RCPT TO:<jane@b.test>", "RCPT TO:<no@b.test>");
    let said = ["EHLO mx.example.test", "MAIL FROM:<me@example.test>", jane, no, &lead, &rest];
    assert_eq!(peer.said()[0], said);
    let taken = &peer.taken()[0];
    assert_eq!(
        (taken.body.as_str(), &taken.to[..]),
        (format!("{PREFIX}{BODY}").as_str(), &["jane@b.test".to_owned()][..])
    );
    // The dialogue says which reply answered what.
    let receipts = w.receipts(id).await;
    let steps = &receipts[0].1[0].talk.as_ref().unwrap().steps;
    let told: Vec<_> = steps.iter().map(|step| queue::receipt::command(step.to)).collect();
    assert_eq!(told[2..], ["MAIL FROM", "RCPT TO", "BDAT", "(end of the mail)"]);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_who_gets_it_is_sent_no_more_than_its_first_line() {
    let (net, peer) = Net::default().host("b.test", 1, chunking(&[("RCPT", Act::Say("450 4.2.1 Later"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_deferred(id, 1).await;
    let [lead, _] = chunks();
    assert_eq!(peer.all_said().last(), Some(&lead));
    peer.becomes(chunking(&[]));
    w.pass(2 * MINUTE).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}

/// It costs no mail, no time, and nothing of the mail's own is taken for a command.
#[tokio::test(start_paused = true)]
async fn a_host_that_offers_chunking_and_does_not_know_bdat_gets_its_mail_by_data_at_once() {
    for refusal in ["500 5.5.1 What?", "502 5.5.1 Not here", "503 5.5.1 Not now", "504 5.5.4 Not so"] {
        let unknown = [("BDAT", Act::Say(refusal)), ("Received", Act::Say("500 5.5.1 What?"))];
        let (net, peer) = Net::default().host("b.test", 1, chunking(&unknown));
        let w = net.world().await;
        let id = w.send(&["jane@b.test", "jim@b.test"]).await;
        w.until_gone(id).await;
        assert_eq!(peer.taken()[0].body, format!("{PREFIX}{BODY}"));
        let said = peer.said();
        let line = PREFIX.lines().next().unwrap();
        assert!(said[0].len() <= 6 && said[0][5..].iter().all(|command| command == line), "{said:?}");
        assert_eq!(said[1][4..], ["DATA", "."]);
        // Not tried again, on whatever connection.
        w.pass(40 * MINUTE).await;
        let id = w.send(&["jane@b.test"]).await;
        w.until_gone(id).await;
        let tried = peer.all_said().iter().filter(|line| line.starts_with("BDAT")).count();
        assert_eq!((peer.taken().len(), tried), (2, 1), "{refusal}");
        assert!(w.inbox().await.is_empty());
        w.check().await;
    }
}

/// Its answer to the octets was taken for that to RSET, and so on: a body was read as commands, a good mail bounced, or one that was
/// refused was held for delivered.
#[tokio::test(start_paused = true)]
async fn after_a_lead_that_is_refused_the_next_mail_comes_on_another_connection() {
    let lead = PREFIX.trim_end();
    for (bdat, octets) in [
        ("500 5.5.1 What?", Act::Say("500 5.5.1 What?")),
        // The answer to the octets comes when the next mail is on its way.
        ("500 5.5.1 What?", Act::Slow(5)),
        ("503 5.5.1 No valid recipients", Act::Say("500 5.5.1 What?")),
        ("503 5.5.1 No valid recipients", Act::Slow(5)),
    ] {
        let unknown = "550 5.1.1 Nobody";
        let bad = [("BDAT", Act::Say(bdat)), ("Received", octets), ("RCPT TO:<no@", Act::Say(unknown))];
        let slow = [&bad[..], &[("MAIL", Act::Slow(2))]].concat();
        let (net, peer) = Net::default().host("b.test", 1, chunking(&slow));
        let w = net.world().await;
        w.policy(None, &[("connections", "1")]).await;
        let no = w.send(&["no@b.test"]).await;
        w.until("it has begun", async || peer.all_said().iter().any(|line| line.starts_with("MAIL"))).await;
        let jane = w.send(&["jane@b.test"]).await;
        for _ in 0..20 {
            w.pass(1).await;
        }
        w.until_gone(no).await;
        w.until_gone(jane).await;
        let told = w.mail(1).await;
        assert!(told.contains(unknown) && told.contains("no@b.test") && !told.contains("jane"), "{told}");
        assert_eq!(w.inbox().await.len(), 1, "{bdat}");
        let taken: Vec<_> = peer.taken().into_iter().map(|mail| (mail.to, mail.body)).collect();
        assert_eq!(taken, [(vec!["jane@b.test".to_owned()], format!("{PREFIX}{BODY}"))], "{bdat}");
        // Neither is asked for again, and what was read for commands is that line, once on a connection.
        let said = peer.said();
        assert!(said.iter().all(|lines| lines.iter().filter(|line| *line == lead).count() <= 1), "{said:?}");
        let known = ["EHLO", "MAIL", "RCPT", "BDAT", "DATA", ".", "QUIT", lead];
        assert!(said.concat().iter().all(|line| known.iter().any(|word| line.starts_with(word))), "{said:?}");
        let refused = said.concat().iter().filter(|line| line.starts_with("RCPT TO:<no@")).count();
        assert_eq!(refused, 1, "{said:?}");
        w.check().await;
    }
}

/// It was tried once more, as one whose connection was closed before it began.
#[tokio::test(start_paused = true)]
async fn a_sender_who_is_put_off_is_not_asked_for_again_at_once_because_the_lead_was_refused() {
    let (net, peer) = Net::default().host("b.test", 1, chunking(&[]));
    let w = net.world().await;
    let first = w.send(&["jane@b.test"]).await;
    w.until_gone(first).await;
    peer.becomes(chunking(&[("MAIL", Act::Say("450 4.7.1 Later"))]));
    let id = w.send(&["jim@b.test"]).await;
    w.until_deferred(id, 1).await;
    let said = peer.said();
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].iter().filter(|line| line.starts_with("MAIL")).count(), 2, "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_a_host_without_bdat_sent_back_goes_by_data_whichever_host_it_comes_to() {
    let unknown = [("BDAT", Act::Say("500 5.5.1 What?")), ("Received", Act::Say("500 5.5.1 What?"))];
    let slow = [&unknown[..], &[("RCPT", Act::Slow(2))]].concat();
    let (net, first) = Net::default().mx("b.test", 10, "a.b.test", 1, chunking(&slow));
    let (net, second) = net.mx("b.test", 20, "c.b.test", 2, chunking(&unknown));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until("it has begun", async || first.all_said().iter().any(|line| line.starts_with("RCPT"))).await;
    // Another of its kind takes the mail.
    first.becomes(chunking(&[&unknown[..], &[("greeting", Act::Say("421 4.3.2 Off"))]].concat()));
    w.pass(3).await;
    w.until_gone(id).await;
    assert!(second.all_said().iter().all(|line| !line.starts_with("BDAT")), "{:?}", second.said());
    assert_eq!((first.taken().len(), second.taken().len()), (0, 1));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_chokes_on_a_chunk_gets_its_mail_by_data_the_next_time() {
    // RFC 5321 §4.5.3.2.5: for a block of data a host has three minutes.
    for (choke, seconds) in [(Act::Drop, 0), (Act::Stall, 3 * MINUTE + 1)] {
        let (net, peer) = Net::default().host("b.test", 1, chunking(&[("chunk", choke)]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        w.until("it has the first chunk", async || peer.all_said().len() > 3).await;
        w.pass(seconds).await;
        let waits = w.until_deferred(id, 1).await;
        assert!(waits.reply.contains("answer the body"), "{}", waits.reply);
        w.pass(2 * MINUTE).await;
        w.until_gone(id).await;
        assert_eq!(peer.taken().len(), 1);
        assert!(peer.all_said().contains(&"DATA".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_mail_is_one_however_it_went() {
    for (at, reply) in [("chunk", "554 5.7.1 Not from you"), (".", "554 5.7.1 Spam"), (".", "500 5.7.1 Spam")] {
        let (net, peer) = Net::default().host("b.test", 1, chunking(&[(at, Act::Say(reply))]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        assert!(w.mail(1).await.contains(reply), "{reply}");
        w.until_gone(id).await;
        assert!(peer.all_said().iter().all(|line| line != "DATA"));
    }
}

/// As with the dot.
#[tokio::test(start_paused = true)]
async fn a_mail_whose_last_chunk_nobody_answered_is_tried_nowhere_else_at_once() {
    let (net, first) = Net::default().mx("b.test", 10, "a.b.test", 1, chunking(&[(".", Act::Drop)]));
    let (net, second) = net.mx("b.test", 20, "c.b.test", 2, chunking(&[]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    let waits = w.until_deferred(id, 1).await;
    assert_eq!((waits.state, second.said().len(), first.taken().len()), (State::Waiting, 0, 0));
    assert!(waits.reply.contains("while it was to answer the end of the body"), "{}", waits.reply);
}

#[tokio::test(start_paused = true)]
async fn a_large_mail_goes_in_chunks_of_a_bounded_size() {
    let (net, peer) = Net::default().host("b.test", 1, chunking(&[]));
    let w = net.world().await;
    let body = "x".repeat(70).to_owned() + "\r\n";
    let body = body.repeat(5000);
    let id = w.enqueue("me@example.test", &["jane@b.test"], None, &body).await;
    w.until_gone(id).await;
    assert!(peer.taken()[0].body.ends_with(&body));
    let said = peer.all_said();
    let sizes: Vec<usize> =
        said.iter().filter_map(|line| line.strip_prefix("BDAT ")?.split(' ').next()?.parse().ok()).collect();
    assert!(sizes.len() > 4 && sizes.iter().all(|size| *size <= 128 * 1024), "{sizes:?}");
}
