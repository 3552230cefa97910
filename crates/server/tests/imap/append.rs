//! APPEND and MULTIAPPEND: refusals, literals that come all the same, many under way.

use crate::world::World;

const MAIL: &str = "Subject: x\r\n\r\nbody\r\n";

#[tokio::test]
async fn append_with_flags_and_date() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.play(r#"C: a APPEND INBOX (\Seen $Label) "01-Jan-2020 12:00:00 +0100" {20}"#).await;
    c.play("S: + OK").await;
    c.send(format!("{MAIL}\r\n").as_bytes()).await;
    c.play(
        r#"
        S: * 1 EXISTS
        S: * FLAGS (… $Label)
        S: a OK [APPENDUID … 1] APPEND completed
        C: b FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)
        S: * 1 FETCH (FLAGS (\Seen $Label) INTERNALDATE " 1-Jan-2020 11:00:00 +0000" RFC822.SIZE 20)
        S: b OK FETCH completed
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn multiappend_is_all_or_nothing() {
    let world = World::with(100, true).await;
    let mut c = world.inbox().await;
    c.send(b"a APPEND INBOX {20+}\r\n").await;
    c.send(format!("{MAIL} (\\Seen) {{20+}}\r\n{MAIL}\r\n").as_bytes()).await;
    c.play("S: * 2 EXISTS\nS: a OK [APPENDUID … 1:2] APPEND completed").await;
    // Four more have no room, so none of them comes.
    c.send(b"b APPEND INBOX {20+}\r\n").await;
    c.send(format!("{MAIL} {{20+}}\r\n{MAIL} {{20+}}\r\n{MAIL} {{20+}}\r\n{MAIL}\r\n").as_bytes()).await;
    c.play("S: b NO [OVERQUOTA] The mailbox is full").await;
    // A message of no octets gives up (RFC 3502 §6.3.11).
    c.send(format!("c APPEND INBOX {{20+}}\r\n{MAIL} {{0+}}\r\n\r\n").as_bytes()).await;
    c.play("S: c NO …\nC: d STATUS INBOX (MESSAGES)\nS: * STATUS INBOX (MESSAGES 2)\nS: d OK …").await;
    world.verify().await;
}

#[tokio::test]
async fn trap_12_literals_of_a_refused_append_are_passed_over() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.send(b"a APPEND nowhere {10+}\r\nx LOGOUT\r\n {10+}\r\ny LOGOUT\r\n\r\nb NOOP\r\n").await;
    c.play("S: a NO [TRYCREATE] No such mailbox\nS: b OK Done").await;
    // A literal that is waited for is not asked for.
    c.play("C: c APPEND nowhere {10}\nS: c NO [TRYCREATE] No such mailbox\nC: d NOOP\nS: d OK Done").await;
}

#[tokio::test]
async fn trap_04_what_is_too_big_is_refused_and_drained() {
    let world = World::new().await;
    let mut c = world.client().await;
    let size = (8 << 20) + 1;
    c.play(&format!("C: a APPEND INBOX {{{size}}}\nS: a NO [TOOBIG] …")).await;
    c.send(format!("b APPEND INBOX {{{size}+}}\r\n").as_bytes()).await;
    for _ in 0..256 {
        c.send(&[b'x'; 32 * 1024]).await;
    }
    c.send(b"x\r\nc NOOP\r\n").await;
    c.play("S: b NO [TOOBIG] …\nS: c OK Done").await;
    // Before it is asked for: no room.
    let world = World::with(100, true).await;
    let mut c = world.client().await;
    c.play("C: a APPEND INBOX {101}\nS: a NO [OVERQUOTA] The mailbox is full\nC: b NOOP\nS: b OK Done").await;
}

#[tokio::test]
async fn too_many_messages_together_are_refused() {
    let world = World::new().await;
    let mut c = world.client().await;
    let mut command = "a APPEND INBOX".to_owned();
    (0..101).for_each(|_| command.push_str(&format!(" {{20+}}\r\n{MAIL}")));
    c.send(format!("{command}\r\nb STATUS INBOX (MESSAGES)\r\n").as_bytes()).await;
    c.play("S: a NO [LIMIT] …\nS: * STATUS INBOX (MESSAGES 0)\nS: b OK …").await;
}

#[tokio::test]
async fn many_are_under_way_and_answered_in_order() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    let mut all = String::new();
    for n in 0..200 {
        let mailbox = if n == 100 { "nowhere" } else { "INBOX" };
        all.push_str(&format!("a{n} APPEND {mailbox} {{20+}}\r\n{MAIL}\r\n"));
    }
    c.send(format!("{all}z FETCH 199 UID\r\n").as_bytes()).await;
    let mut next = 0;
    for line in c.until("z").await {
        if let Some(rest) = line.strip_prefix(&format!("a{next} ")) {
            let expected = if next == 100 { "NO [TRYCREATE] " } else { "OK [APPENDUID " };
            assert!(rest.starts_with(expected), "{line}");
            next += 1;
        }
    }
    assert_eq!(next, 200, "{}", c.log);
    world.verify().await;
}

#[tokio::test]
async fn what_a_client_appended_before_it_left_is_there() {
    let world = World::new().await;
    let mut c = world.client().await;
    let all: String = (0..40).map(|n| format!("a{n} APPEND INBOX {{20+}}\r\n{MAIL}\r\n")).collect();
    c.send(format!("{all}b APPEND INBOX {{20+}}\r\nhalf").as_bytes()).await;
    for n in 0..40 {
        c.play(&format!("S: a{n} OK …")).await;
    }
    drop(c);
    let mut c = world.inbox().await;
    c.play("C: a STATUS INBOX (MESSAGES)\nS: * STATUS INBOX (MESSAGES 40)\nS: a OK …").await;
}

/// A small message may have a large record, which waits with it.
#[tokio::test]
async fn trap_06_what_waits_is_counted_with_its_record() {
    let world = World::new().await;
    let bomb = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\n\n".repeat(1000));
    let mut appending = world.services.ingress.append();
    appending.push(bomb.as_bytes()).unwrap();
    let appended = appending.finish(base::Timestamp(0), mailbox::Flags::default(), Vec::new()).unwrap();
    assert!(appended.weight() > 20 * bomb.len() as u64);
}

#[tokio::test]
async fn who_half_closes_hears_that_its_message_came() {
    let world = World::new().await;
    for _ in 0..10 {
        let mut c = world.client().await;
        c.send(format!("a APPEND INBOX {{20+}}\r\n{MAIL}\r\n").as_bytes()).await;
        c.half_close().await;
        c.play("S: a OK [APPENDUID …] APPEND completed").await;
    }
}
