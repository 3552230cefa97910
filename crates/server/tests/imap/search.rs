//! SEARCH.

use crate::world::{Client, World};

fn mail(subject: &str, body: &str) -> String {
    format!(
        "From: Stranger <stranger@elsewhere.test>\r\nTo: u0@x.test\r\nSubject: {subject}\r\n\
         Date: Thu, 01 Jan 2026 10:00:00 +0000\r\nMessage-ID: <1@elsewhere.test>\r\n{body}"
    )
}

/// RFC 9051 §6.4.4 disregards the time and the zone: it is the day that is written there, wherever that was.
#[tokio::test]
async fn the_day_a_mail_was_sent_is_the_one_that_is_written_in_it() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    // In UTC these are 31 December, 2 January, and 1 January.
    for date in ["1 Jan 2026 01:00 +1300", "Thu, 01 Jan 2026 23:30:00 -1200", "2 Jan 2026 00:30:00 +0100"] {
        c.append("\"15-Jun-2026 00:00:00 +0000\" ", &format!("Date: {date}\r\n\r\n")).await;
    }
    for (keys, expected) in [
        ("SENTON 1-Jan-2026", "1 2"),
        ("SENTON 2-Jan-2026", "3"),
        ("SENTBEFORE 1-Jan-2026", ""),
        ("SENTBEFORE 2-Jan-2026", "1 2"),
        ("SENTSINCE 2-Jan-2026", "3"),
        ("SENTSINCE 1-Jan-2026", "1 2 3"),
    ] {
        assert_eq!(found(&mut c, keys).await, expected, "{keys}");
    }
}

/// What INTERNALDATE shows, which is always UTC.
#[tokio::test]
async fn the_day_a_mail_came_is_that_of_utc() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("\"01-Jan-2026 00:30:00 +0100\" ", "Subject: x\r\n\r\n").await;
    assert!(c.ask("FETCH 1 INTERNALDATE").await[0].contains("\"31-Dec-2025 23:30:00 +0000\""));
    for (keys, expected) in [("ON 31-Dec-2025", "1"), ("BEFORE 1-Jan-2026", "1"), ("SINCE 1-Jan-2026", "")] {
        assert_eq!(found(&mut c, keys).await, expected, "{keys}");
    }
}

async fn found(c: &mut Client, keys: &str) -> String {
    c.ask(&format!("SEARCH {keys}")).await[0].strip_prefix("* SEARCH").unwrap().trim().to_owned()
}

#[tokio::test]
async fn every_key() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("(\\Seen) ", &mail("Quarterly Report", "\r\nneedle in here\r\n")).await;
    let polish = "Content-Type: text/plain; charset=iso-8859-2\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                  Za=BF=F3=B3=E6 g=EA=B6l=B1 ja=BC=F1 so=\r\nft\r\n";
    c.append("", &mail("lunch", polish)).await;
    c.append(
        "(\\Flagged $Work) \"01-Feb-2020 12:00:00 +0000\" ",
        &mail("=?utf-8?q?caf=C3=A9?=", &format!("\r\n{}\r\n", "x".repeat(3000))),
    )
    .await;
    c.append(
        "(\\Draft) ",
        "Subject: attached\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\
         Content-Type: application/pdf; name=invoice.pdf\r\n\r\nhidden\r\n--b\r\nContent-Type: text/html\r\n\
         Content-Transfer-Encoding: base64\r\n\r\nPHA+5Y+w5YyX5biCPC9wPg==\r\n--b--\r\n",
    )
    .await;
    for (keys, expected) in [
        ("ALL", "1 2 3 4"),
        ("SEEN", "1"),
        ("UNSEEN", "2 3 4"),
        ("FLAGGED", "3"),
        ("KEYWORD $work", "3"),
        ("UNKEYWORD $Work", "1 2 4"),
        ("KEYWORD never-seen", ""),
        ("NEW", ""),
        ("OLD", "1 2 3 4"),
        ("SUBJECT report", "1"),
        ("SUBJECT \"\"", "1 2 3 4"),
        ("SUBJECT caf", "3"),
        ("BODY needle", "1"),
        ("BODY quarterly", ""),
        ("TEXT QUARTERLY", "1"),
        ("TEXT soft", "2"),
        ("BODY hidden", ""),
        ("BODY invoice.PDF", "4"),
        ("LARGER 2000", "3"),
        ("SMALLER 2000", "1 2 4"),
        ("NOT SEEN", "2 3 4"),
        ("OR SEEN FLAGGED", "1 3"),
        ("OR BODY needle FLAGGED", "1 3"),
        ("NOT BODY needle", "2 3 4"),
        ("NOT (BODY needle SEEN)", "2 3 4"),
        ("(SEEN SUBJECT report) 1:2", "1"),
        ("2:*", "2 3 4"),
        ("UID 3:1", "1 2 3"),
        ("4:99", "4"),
        ("99", ""),
        ("FROM stranger", "1 2 3"),
        ("TO x.test FROM ELSEWHERE", "1 2 3"),
        ("HEADER Message-ID elsewhere", "1 2 3"),
        ("HEADER Content-Type \"\"", "2 4"),
        ("SENTON 1-Jan-2026", "1 2 3"),
        ("SENTBEFORE 1-Jan-2026", ""),
        ("SENTSINCE 31-Dec-2025", "1 2 3"),
        ("SINCE 1-Feb-2020 BEFORE 2-Feb-2020", "3"),
        ("ON 1-Feb-2020", "3"),
        ("YOUNGER 3600", "1 2 4"),
        ("OLDER 3600", "3"),
        ("SAVEDSINCE 1-Jan-2024", "1 2 3 4"),
        ("SAVEDBEFORE 1-Jan-2024", ""),
        ("SAVEDATESUPPORTED", "1 2 3 4"),
        ("EMAILID M2", "2"),
        ("EMAILID M99", ""),
        ("THREADID T1", ""),
        ("DELETED", ""),
        ("UNDELETED UNANSWERED UNDRAFT", "1 2 3"),
        ("SUBJECT report BODY needle TEXT stranger YOUNGER 3600 SEEN", "1"),
    ] {
        assert_eq!(found(&mut c, keys).await, expected, "{keys}");
    }
    for (words, expected) in [("gęślą", "2"), ("GĘŚLĄ JAŹŃ", "2"), ("Café", "3"), ("北市", "4"), ("北京", "")]
    {
        c.send(format!("u SEARCH CHARSET UTF-8 TEXT {{{}+}}\r\n{words}\r\n", words.len()).as_bytes()).await;
        assert_eq!(c.until("u").await[0].strip_prefix("* SEARCH").unwrap().trim(), expected, "{words}");
    }
    c.play("C: v SEARCH CHARSET X-NONE TEXT x\nS: v NO [BADCHARSET …").await;
}

#[tokio::test]
async fn esearch_and_saved_results() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    for _ in 0..5 {
        c.append("", &mail("x", "\r\ny\r\n")).await;
    }
    c.ask("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    c.ask("EXPUNGE").await;
    c.play(
        r#"
        C: a SEARCH RETURN (MIN MAX COUNT ALL) 2:4
        S: * ESEARCH (TAG "a") MIN 2 MAX 4 COUNT 3 ALL 2:4
        S: a OK SEARCH completed
        C: b UID SEARCH RETURN () 1:2
        S: * ESEARCH (TAG "b") UID ALL 2:3
        S: b OK SEARCH completed
        C: c SEARCH RETURN (SAVE) 2:3
        S: c OK SEARCH completed
        C: d FETCH $ (UID)
        S: * 2 FETCH (UID 3)
        S: * 3 FETCH (UID 4)
        S: d OK FETCH completed
        C: e UID STORE $ +FLAGS (\Flagged)
        S: * 2 FETCH (UID 3 FLAGS (\Flagged))
        S: * 3 FETCH (UID 4 FLAGS (\Flagged))
        S: e OK STORE completed
        C: f SEARCH RETURN (COUNT) NOT $
        S: * ESEARCH (TAG "f") COUNT 2
        S: f OK SEARCH completed
        C: g SEARCH RETURN (SAVE MIN) FLAGGED
        S: * ESEARCH (TAG "g") MIN 2
        S: g OK SEARCH completed
        C: h UID SEARCH RETURN (ALL) $
        S: * ESEARCH (TAG "h") UID ALL 3
        S: h OK SEARCH completed
        C: i SEARCH RETURN (MIN COUNT) DRAFT
        S: * ESEARCH (TAG "i") COUNT 0
        S: i OK SEARCH completed
        C: j SEARCH RETURN (SAVE) CHARSET X-NONE TEXT y
        S: j NO [BADCHARSET …
        C: k SELECT INBOX
        …
        S: k OK …
        C: l FETCH $ UID
        S: l OK FETCH completed
        C: m ENABLE IMAP4rev2
        …
        S: m OK …
        C: n UID SEARCH ALL
        S: * ESEARCH (TAG "n") UID ALL 2:5
        S: n OK SEARCH completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_large_mail_is_searched_to_its_end() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    let body: String = (0..150_000).map(|n| format!("line {n}\r\n")).collect();
    c.append("", &mail("large", &format!("\r\n{body}the end\r\n"))).await;
    assert_eq!(found(&mut c, "BODY \"line 149999\" BODY \"THE END\"").await, "1");
    assert_eq!(found(&mut c, "BODY \"line 150000\"").await, "");
    assert_eq!(found(&mut c, "NOT BODY \"line 150000\" OR TEXT \"the end\" SEEN").await, "1");
}

#[tokio::test]
async fn many_messages_are_searched_in_turns() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", &mail("one", "\r\nneedle\r\n")).await;
    c.append("", &mail("two", "\r\nhay\r\n")).await;
    for _ in 0..11 {
        c.ask("COPY 1:* INBOX").await;
    }
    let lines = c.ask("SEARCH RETURN (COUNT MIN MAX) BODY needle UNSEEN").await;
    assert_eq!(lines[0], "* ESEARCH (TAG \"t\") MIN 1 MAX 4095 COUNT 2048");
}

/// RFC 9051 §6.4.4: the ENVELOPE's field is meant, and comments are no part of an address there.
#[tokio::test]
async fn an_address_is_found_through_its_comments() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", "From: <user-from (comment)@ (comment) domain.org>\r\nTo: \"a b\" <\"u.to\"@x.test>\r\n\r\n").await;
    for (keys, expected) in [
        ("FROM user-from@domain.org", "1"),
        ("FROM USER-FROM@", "1"),
        ("FROM comment", "1"),
        ("TO u.to@x.test", "1"),
        ("TO \"a b\"", "1"),
        ("HEADER From @domain.org", "1"),
        ("FROM u.to@x.test", ""),
        ("TO domain.org", ""),
        ("SUBJECT user", ""),
    ] {
        assert_eq!(found(&mut c, keys).await, expected, "{keys}");
    }
}

/// Work is counted by fields and keys together; a field is decoded once.
#[tokio::test]
async fn trap_06_thousands_of_fields_and_of_keys() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", &format!("{}\r\n", "Subject: =?utf-8?q?a=C3=A9?=\r\n".repeat(8000))).await;
    let keys: Vec<String> = (0..1900).map(|n| format!("SUBJECT b{n}")).collect();
    assert_eq!(found(&mut c, &format!("NOT OR {} SUBJECT x", keys[0])).await, "1");
    assert_eq!(found(&mut c, &keys.join(" ")).await, "");
    assert_eq!(found(&mut c, "SUBJECT a").await, "1");
    // As many names in FETCH.
    let names: Vec<String> = (0..255u32).map(|n| format!("{n:x}")).collect();
    let items: Vec<String> = (0..60).map(|n| format!("BODY.PEEK[HEADER.FIELDS ({} y{n})]", names.join(" "))).collect();
    c.ask(&format!("FETCH 1 ({})", items.join(" "))).await;
    // What is asked for twice is told once.
    assert_eq!(c.ask("FETCH 1 (UID UID BINARY.SIZE[1] BINARY.SIZE[1])").await[0], "* 1 FETCH (UID 1 BINARY.SIZE[1] 0)");
}
