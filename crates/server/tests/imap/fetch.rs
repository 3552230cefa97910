//! FETCH: sections, partial ones, decoded ones; `\Seen`; large bodies; what is gone.

use store::Lane;

use crate::world::World;

const PARTS: &str = "From: \"Smith, Ann\" <ann@elsewhere.test>\r\nTo: u0@x.test\r\nSubject: two parts\r\n\
    Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n\
    preamble\r\n--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\none\r\ntwo\r\n\
    --cut\r\nContent-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n\
    --cut\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nX: y\r\n\r\ninside\r\n--cut--\r\n";

#[tokio::test]
async fn sections_are_where_the_rfc_says() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", PARTS).await;
    assert_eq!(c.ask("FETCH 1 RFC822.SIZE").await[0], format!("* 1 FETCH (RFC822.SIZE {})", PARTS.len()));
    c.play(
        r#"
        C: a FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT X-None)]
        S: * 1 FETCH (BODY[HEADER.FIELDS (SUBJECT X-None)] {22}␍Subject: two parts␍␍)
        S: a OK FETCH completed
        C: b FETCH 1 BODY.PEEK[HEADER.FIELDS.NOT (From To Subject Date Content-Type)]
        S: * 1 FETCH (BODY[HEADER.FIELDS.NOT (From To Subject Date Content-Type)] {21}␍MIME-Version: 1.0␍␍)
        S: b OK FETCH completed
        C: c FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.MIME])
        S: * 1 FETCH (BODY[1] {8}␍one␍two BODY[1.MIME] {43}␍Content-Type: text/plain; charset=utf-8␍␍)
        S: c OK FETCH completed
        C: d FETCH 1 (BODY.PEEK[2] BODY.PEEK[2]<1.2> BODY.PEEK[2]<9.9>)
        S: * 1 FETCH (BODY[2] {4}␍QUJD BODY[2]<1> {2}␍UJ BODY[2]<9> {0}␍)
        S: d OK FETCH completed
        C: e FETCH 1 (BINARY.PEEK[2] BINARY.SIZE[2] BINARY.PEEK[2]<1.9>)
        S: * 1 FETCH (BINARY[2] {3}␍ABC BINARY.SIZE[2] 3 BINARY[2]<1> {2}␍BC)
        S: e OK FETCH completed
        C: f FETCH 1 (BODY.PEEK[3.HEADER] BODY.PEEK[3.TEXT] BODY.PEEK[3.1])
        S: * 1 FETCH (BODY[3.HEADER] {24}␍Subject: inner␍X: y␍␍ BODY[3.TEXT] {6}␍inside BODY[3.1] {6}␍inside)
        S: f OK FETCH completed
        C: g FETCH 1 (BODY.PEEK[4] BODY.PEEK[1.HEADER] BINARY.PEEK[9])
        S: * 1 FETCH (BODY[4] NIL BODY[1.HEADER] NIL BINARY[9] NIL)
        S: g OK FETCH completed
        C: h FETCH 1 BODY.PEEK[3.HEADER.FIELDS (x)]
        S: * 1 FETCH (BODY[3.HEADER.FIELDS (x)] {8}␍X: y␍␍)
        S: h OK FETCH completed
        C: i UID FETCH 1 ENVELOPE
        S: * 1 FETCH (UID 1 ENVELOPE ("Thu, 01 Jan 2026 10:00:00 +0000" "two parts" (("Smith, Ann" NIL "ann" "elsewhere.test")) … ((NIL NIL "u0" "x.test")) NIL NIL NIL NIL))
        S: i OK FETCH completed
        C: j FETCH 1 (FLAGS THREADID SAVEDATE)
        S: * 1 FETCH (FLAGS () THREADID NIL SAVEDATE "…")
        S: j OK FETCH completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn our_header_fields_are_part_of_the_message() {
    let world = World::new().await;
    world.deliver("Return-Path: <>\r\nDelivered-To: u0@x.test\r\n", b"Subject: hi\r\n\r\nbody\r\n").await;
    let mut c = world.inbox().await;
    c.play(
        r#"
        C: a FETCH 1 (RFC822.SIZE BODY.PEEK[])
        S: * 1 FETCH (RFC822.SIZE 63 BODY[] {63}␍Return-Path: <>␍Delivered-To: u0@x.test␍Subject: hi␍␍body␍)
        S: a OK FETCH completed
        C: b FETCH 1 (RFC822.HEADER BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[]<14.14>)
        S: * 1 FETCH (RFC822.HEADER {57}␍Return-Path: <>␍Delivered-To: u0@x.test␍Subject: hi␍␍ BODY[TEXT] {6}␍body␍ BODY[1] {6}␍body␍ BODY[]<14> {14}␍>␍Delivered-T)
        S: b OK FETCH completed
        C: c SEARCH HEADER Delivered-To u0 SUBJECT hi BODY body NOT BODY Delivered
        S: * SEARCH 1
        S: c OK SEARCH completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn reading_a_body_marks_it_seen_and_says_so() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    for _ in 0..3 {
        c.append("", "Subject: x\r\n\r\nbody\r\n").await;
    }
    c.play(
        r#"
        C: a FETCH 1 BODY.PEEK[TEXT]
        S: * 1 FETCH (BODY[TEXT] {6}␍body␍)
        S: a OK FETCH completed
        C: b FETCH 1 BODY[TEXT]
        S: * 1 FETCH (FLAGS (\Seen) BODY[TEXT] {6}␍body␍)
        S: b OK FETCH completed
        C: c FETCH 1:2 (BODY[TEXT] FLAGS)
        S: * 1 FETCH (BODY[TEXT] {6}␍body␍ FLAGS (\Seen))
        S: * 2 FETCH (BODY[TEXT] {6}␍body␍ FLAGS (\Seen))
        S: c OK FETCH completed
        C: d EXAMINE INBOX
        …
        S: d OK …
        C: e FETCH 3 (RFC822.TEXT FLAGS)
        S: * 3 FETCH (RFC822.TEXT {6}␍body␍ FLAGS ())
        S: e OK FETCH completed
        C: f SELECT INBOX (CONDSTORE)
        …
        S: f OK …
        C: g UID FETCH 3 RFC822
        S: * 3 FETCH (FLAGS (\Seen) UID 3 RFC822 {20}␍Subject: x␍␍body␍)
        S: * 3 FETCH (UID 3 FLAGS (\Seen) MODSEQ (…))
        S: g OK FETCH completed
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn what_is_large_comes_whole() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    let lines: String = (0..40_000).map(|n| format!("line {n:06}\r\n")).collect();
    let mail = format!("Subject: large\r\n\r\n{lines}");
    c.append("", &mail).await;
    let coded = "QUJDREVGR0hJ".repeat(6) + "\r\n";
    let binary = format!("Content-Transfer-Encoding: base64\r\n\r\n{}", coded.repeat(5000));
    c.append("", &binary).await;
    c.append("", "Subject: small\r\n\r\nx").await;
    c.send(b"a FETCH 1:3 BODY.PEEK[]\r\n").await;
    for (n, mail) in [&mail, &binary, "Subject: small\r\n\r\nx"].iter().enumerate() {
        let expected = format!("* {} FETCH (BODY[] {{{}}}\r\n{mail})", n + 1, mail.len());
        assert!(c.octets().await.unwrap() == expected.as_bytes(), "message {}", n + 1);
    }
    c.until("a").await;
    c.send(b"b FETCH 2 (BINARY.SIZE[1] BINARY.PEEK[1]<9.180000> BINARY.PEEK[1]<269999.10>)\r\n").await;
    let decoded = "ABCDEFGHI".repeat(30_000);
    let expected = format!(
        "* 2 FETCH (BINARY.SIZE[1] 270000 BINARY[1]<9> {{180000}}\r\n{} BINARY[1]<269999> {{1}}\r\nI)",
        &decoded[9..180_009]
    );
    assert!(c.octets().await.unwrap() == expected.as_bytes(), "{}", c.log);
    c.until("b").await;
}

#[tokio::test]
async fn a_literal_with_nul_and_an_unknown_encoding() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", "Content-Transfer-Encoding: base64\r\n\r\nQQBC\r\n").await;
    c.append("", "Content-Transfer-Encoding: x-what\r\n\r\nQQBC\r\n").await;
    c.play(
        "C: a FETCH 1:2 (BINARY.PEEK[1])\nS: * 1 FETCH (BINARY[1] ~{3}␍A\0B)\nS: a NO [UNKNOWN-CTE] …\n\
         C: b FETCH 2 (BODY.PEEK[1])\nS: * 2 FETCH (BODY[1] {6}␍QQBC␍)\nS: b OK …",
    )
    .await;
}

#[tokio::test]
async fn no_literal_holds_a_nul_and_binary_does() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    // By literal8 (RFC 3516 §4.4), or as SMTP may bring it.
    let mail = "Subject: a\0b\r\nTo: x@y.test\r\n\r\n\0c\0\0\r\n";
    c.append("", mail).await;
    // As a literal comes out of the client, which is no UTF-8 any more.
    let (head, body) = ("Subject: a\u{fffd}b␍", "\u{fffd}c\u{fffd}\u{fffd}␍");
    c.play(&format!(
        "C: a FETCH 1 (RFC822.SIZE BODY.PEEK[])\nS: * 1 FETCH (RFC822.SIZE 36 BODY[] {{36}}␍{head}To: x@y.test␍␍{body})\nS: a OK …\n\
         C: b FETCH 1 (BODY.PEEK[TEXT])\nS: * 1 FETCH (BODY[TEXT] {{6}}␍{body})\nS: b OK …\n\
         C: c FETCH 1 (BODY.PEEK[1]<1.2>)\nS: * 1 FETCH (BODY[1]<1> {{2}}␍c\u{fffd})\nS: c OK …\n\
         C: d FETCH 1 (BODY.PEEK[HEADER.FIELDS (Subject)])\nS: * 1 FETCH (BODY[HEADER.FIELDS (Subject)] {{16}}␍{head}␍)\nS: d OK …\n\
         C: e FETCH 1 (BINARY.PEEK[1])\nS: * 1 FETCH (BINARY[1] ~{{6}}␍\0c\0\0␍)\nS: e OK …",
    ))
    .await;
    // One that is sent in pieces.
    let long = format!("Subject: x\r\n\r\n{}\0\r\n", "y\r\n".repeat(100_000));
    c.append("", &long).await;
    let lines = c.ask("FETCH 2 (BODY.PEEK[])").await.join("");
    assert!(!lines.contains('\0') && lines.contains("y␍\u{fffd}␍"), "{}", &lines[lines.len() - 40..]);
}

#[tokio::test]
async fn many_messages_come_in_order_and_once() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    for _ in 0..3 {
        c.append("", PARTS).await;
    }
    for _ in 0..9 {
        c.ask("COPY 1:* INBOX").await;
    }
    let count = 3 << 9;
    for items in ["(UID FLAGS)", "(ENVELOPE BODYSTRUCTURE)", "(BODY.PEEK[HEADER.FIELDS (Subject)])", "(BODY[])"] {
        let lines = c.ask(&format!("FETCH 1:* {items}")).await;
        assert_eq!(lines.len(), count + 1, "{items}");
        for (n, line) in lines[..count].iter().enumerate() {
            assert!(line.starts_with(&format!("* {} FETCH (", n + 1)), "{items}: {line}");
        }
    }
    assert_eq!(c.ask("SEARCH UNSEEN").await[0], "* SEARCH");
    // What a command says before goes before, however much follows.
    c.ask("ENABLE QRESYNC").await;
    c.ask("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    c.ask("EXPUNGE").await;
    c.send(b"n NOOP\r\n").await;
    let lines = c.ask("UID FETCH 1:* (ENVELOPE) (CHANGEDSINCE 1 VANISHED)").await;
    assert_eq!((lines.len(), lines[0].as_str(), lines[1].as_str()), (count + 2, "n OK Done", "* VANISHED (EARLIER) 1"));
    world.verify().await;
}

#[tokio::test]
async fn what_is_gone_cannot_be_read() {
    let world = World::new().await;
    let (mut c, mut other) = (world.inbox().await, world.inbox().await);
    for _ in 0..3 {
        c.append("", "Subject: x\r\n\r\nbody\r\n").await;
    }
    other.ask("NOOP").await;
    other.ask("STORE 2 +FLAGS.SILENT (\\Deleted)").await;
    other.ask("EXPUNGE").await;
    // The row is taken away beside what the sessions do.
    while other.ask("STATUS INBOX (MESSAGES)").await[0] != "* STATUS INBOX (MESSAGES 2)" || world.has_email(2).await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    c.play(
        r#"
        C: a FETCH 1:3 BODY.PEEK[TEXT]
        S: * 1 FETCH (BODY[TEXT] {6}␍body␍)
        S: * 3 FETCH (BODY[TEXT] {6}␍body␍)
        S: a NO [EXPUNGEISSUED] Some of the messages are gone
        C: b NOOP
        S: * 2 EXPUNGE
        S: b OK Done
        "#,
    )
    .await;
}

/// RFC 9051 §6.4.5: `\Seen` is what reading leads to, not what it needs.
#[tokio::test]
async fn a_mail_is_read_though_it_cannot_be_marked_as_seen() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", "Subject: x\r\n\r\nbody\r\n").await;
    let store = world.services.mailboxes.store();
    // The writer has too much to do.
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let busy = store.write_with(Lane::Interactive, Vec::new(), move |_, _| {
        wait.lock().unwrap().recv().ok();
        Ok(())
    });
    let waiting: Vec<_> = (0..20_001).map(|_| store.write_with(Lane::Interactive, Vec::new(), |_, _| Ok(()))).collect();
    c.play(
        r#"
        C: a FETCH 1 (FLAGS BODY[TEXT])
        S: * 1 FETCH (FLAGS () BODY[TEXT] {6}␍body␍)
        S: a OK FETCH completed
        "#,
    )
    .await;
    drop((go_on, waiting));
    busy.await.unwrap();
    let lines = c.ask("FETCH 1 (FLAGS BODY[TEXT])").await;
    assert_eq!(lines[0], "* 1 FETCH (FLAGS (\\Seen) BODY[TEXT] {6}␍body␍)");
}

/// A disk with a bad sector, or a pack that was cut off: the others can be read.
#[tokio::test]
async fn a_mail_that_cannot_be_read_does_not_hide_the_others() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", "Subject: first\r\n\r\nneedle\r\n").await;
    let large = format!("Subject: second\r\n\r\n{}", "needle and hay\r\n".repeat(150_000));
    c.append("", &large).await;
    c.append("", "Subject: third\r\n\r\nneedle\r\n").await;
    world.cut_packs(large.len() as u64 / 2);
    c.play(
        r#"
        C: a FETCH 1:3 BODY.PEEK[HEADER]
        S: * 1 FETCH (BODY[HEADER] {18}␍Subject: first␍␍)
        S: * 2 FETCH (BODY[HEADER] {19}␍Subject: second␍␍)
        S: a NO [CORRUPTION] Some of the messages cannot be read
        C: b SEARCH BODY needle
        S: * SEARCH 1 2
        S: b OK SEARCH completed
        C: c SEARCH BODY nothing
        S: * SEARCH
        S: c OK SEARCH completed
        "#,
    )
    .await;
}
