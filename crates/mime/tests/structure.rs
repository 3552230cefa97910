//! Messages and what IMAP says of them: ENVELOPE, BODYSTRUCTURE, sections. Expected values are from RFCs or by hand.

#![allow(clippy::unwrap_used)]

mod common;

use common::{cached, crlf, index, record};
use mime::{Cached, Indexer, Kind, Limits};

fn structure(message: &str) -> String {
    let mut out = Vec::new();
    index(message.as_bytes()).write_structure(true, &mut out);
    String::from_utf8(out).unwrap()
}

fn envelope(message: &str) -> String {
    String::from_utf8(index(message.as_bytes()).envelope().to_vec()).unwrap()
}

/// RFC 9051 §8, "Sample IMAP4rev2 Connection", and the message of RFC 3501 §8.
#[test]
fn the_sample_connection_of_the_rfcs() {
    let header = crlf(
        "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)
From: Terry Gray <gray@cac.washington.edu>
Subject: IMAP4rev2 WG mtg summary and minutes
To: imap@cac.washington.edu
cc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>
Message-Id: <B27397-0100000@cac.washington.edu>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

",
    );
    assert_eq!(
        envelope(&header),
        "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \
         \"IMAP4rev2 WG mtg summary and minutes\" \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\")) \
         ((NIL NIL \"imap\" \"cac.washington.edu\")) \
         ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")\
         (\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) NIL NIL \
         \"<B27397-0100000@cac.washington.edu>\")"
    );
    // 92 lines of 3028 octets, as in the sample.
    let body = format!("{}{}\r\n", "x\r\n".repeat(91), "y".repeat(3028 - 91 * 3 - 2));
    let mut out = Vec::new();
    index(format!("{header}{body}").as_bytes()).write_structure(false, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap().to_uppercase(),
        r#"("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 3028 92)"#
    );
}

/// RFC 9051 §7.5.2's second example: text and an attachment.
#[test]
fn a_text_and_an_attachment() {
    let first = format!("{}{}", "x\r\n".repeat(23), "y".repeat(1152 - 23 * 3));
    let second = format!("{}{}", "x\r\n".repeat(73), "y".repeat(4554 - 73 * 3));
    let message = format!(
        "Content-Type: MULTIPART/MIXED; BOUNDARY=b\r\n\r\npreamble\r\n--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\r\n\r\n\
         {first}\r\n--b\r\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII; NAME=cc.diff\r\n\
         Content-ID: <960723163407.20117h@cac.washington.edu>\r\nContent-Description: Compiler diff\r\n\
         Content-Transfer-Encoding: BASE64\r\n\r\n{second}\r\n--b--\r\nepilogue"
    );
    let mut body = Vec::new();
    index(message.as_bytes()).write_structure(false, &mut body);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "((\"text\" \"plain\" (\"charset\" \"US-ASCII\") NIL NIL \"7bit\" 1152 23)\
         (\"text\" \"plain\" (\"charset\" \"US-ASCII\" \"name\" \"cc.diff\") \
         \"<960723163407.20117h@cac.washington.edu>\" \"Compiler diff\" \"base64\" 4554 73) \"mixed\")"
    );
    assert!(structure(&message).ends_with(r#" "mixed" ("boundary" "b") NIL NIL NIL)"#));
}

#[test]
fn an_envelope_with_everything_odd() {
    let message = crlf(
        "Subject: one
\ttwo
Subject: three
From: a@b
From: c@d
Sender:
To: list: a@b;, \"q\\\"\" <@r1,@r2:u@h>
To: \u{e9} <x@y>
In-Reply-To: <1@x>
 <2@x>
Bcc: ,

",
    );
    let from = r#"((NIL NIL "a" "b")(NIL NIL "c" "d"))"#;
    assert_eq!(
        envelope(&message),
        format!(
            "(NIL \"one\ttwo\" {from} {from} {from} ((NIL NIL \"list\" NIL)(NIL NIL \"a\" \"b\")(NIL NIL NIL NIL)\
             (\"q\\\"\" \"@r1,@r2\" \"u\" \"h\")({{2}}\r\n\u{e9} NIL \"x\" \"y\")) NIL NIL \"<1@x> <2@x>\" NIL)"
        )
    );
    // RFC 9051 §7.5.2: absent is NIL, empty is empty.
    assert_eq!(envelope("Subject:\r\n\r\n"), r#"(NIL "" NIL NIL NIL NIL NIL NIL NIL NIL)"#);
    assert_eq!(envelope(""), "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
}

#[test]
fn every_extension_field() {
    let message = crlf(
        "Content-Type: text/html (c); charset=utf-8 (c); name*0*=utf-8''a%20; name*1=\"b c\"; x=my file.txt
Content-Disposition: ATTACHMENT; filename*0=\"long\"; filename*1=\"name\"
Content-Language: en, de
Content-Location: http://x.test/
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Transfer-Encoding: X-Odd

",
    );
    assert_eq!(
        structure(&message),
        "(\"text\" \"html\" (\"charset\" \"utf-8\" \"x\" \"my file.txt\" \"name*\" \"utf-8''a%20b%20c\") NIL NIL \"X-Odd\" 0 0 \
         \"Q2hlY2sgSW50ZWdyaXR5IQ==\" (\"attachment\" (\"filename\" \"longname\")) (\"en\" \"de\") \"http://x.test/\")"
    );
}

#[test]
fn what_cannot_be_taken_apart_is_a_leaf() {
    let text = r#"("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 7 1 NIL NIL NIL NIL)"#;
    let opaque = r#"("application" "octet-stream" NIL NIL NIL "base64" 7 NIL NIL NIL NIL)"#;
    for (header, expected) in [
        ("Content-Type: multipart/mixed", text),
        ("Content-Type: multipart/mixed; boundary=\"\"", text),
        ("Content-Type: multipart/mixed; boundary=never", text),
        ("Content-Type: nonsense here", text),
        ("Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64", opaque),
        ("No-Type: at all", text),
    ] {
        assert_eq!(structure(&format!("{header}\r\n\r\nhello\r\n")), expected, "{header}");
    }
}

/// RFC 2046 §5.1.1: what a boundary is, and what only looks like one.
#[test]
fn boundaries() {
    let bodies = |message: &str| -> Vec<String> {
        let index = index(message.as_bytes());
        let leaves = index.parts().iter().filter(|p| p.kind == Kind::Leaf);
        leaves.map(|p| message[p.body as usize..p.end as usize].to_string()).collect()
    };
    let head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n";
    for (body, expected) in [
        ("--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", &["one", "two"][..]),
        // Bare LF ends a line too; white space may follow a boundary; the last may be missing.
        ("--b\n\none\n--b \t\n\ntwo\n", &["one", "two\n"]),
        ("--b\r\n\r\none\r\n -- b\r\n--a\r\n-\r\n--\r\n---b\r\n--b--", &["one\r\n -- b\r\n--a\r\n-\r\n--\r\n---b"]),
        // Behind the closing one nothing counts.
        ("--b\r\n\r\none\r\n--b--\r\n--b\r\n\r\ntwo", &["one"]),
        // Nothing between header and boundary, or not even a blank line.
        ("--b\r\n\r\n--b\r\n--b\r\nX: y\r\n--b--", &["", "", ""]),
        // A boundary without line end begins no part.
        ("--b\r\n\r\none\r\n--b", &["one"]),
        // The boundary needs only to stand at the beginning (RFC 2046 §5.1.1).
        ("--b\r\n\r\none\r\n--bee\r\n\r\ntwo\r\n--b--", &["one", "two"]),
        // A nested boundary that begins with the outer one.
        (
            "--b\r\nContent-Type: multipart/mixed; boundary=bc\r\n\r\n--bc\r\n\r\none\r\n--bc--\r\n--b\r\n\r\ntwo\r\n--b--",
            &["one", "two"],
        ),
        // The outer boundary ends the inner parts that forgot theirs.
        (
            "--b\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--",
            &["one", "two"],
        ),
        (
            "--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n--b\r\n\r\ntwo\r\n--b--",
            &["", "two"],
        ),
    ] {
        assert_eq!(bodies(&format!("{head}{body}")), expected, "{body:?}");
    }
}

/// RFC 9051 §6.4.5.1's example of part numbers, as a message.
fn numbered() -> String {
    let multipart = |boundary: &str, kind: &str, parts: &[String]| {
        let parts: String = parts.iter().map(|p| format!("--{boundary}\r\n{p}\r\n")).collect();
        format!("Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\n{parts}--{boundary}--")
    };
    let leaf = |kind: &str, text: &str| format!("Content-Type: {kind}\r\n\r\n{text}");
    let inner = multipart("i3", "mixed", &[leaf("text/plain", "3.1"), leaf("application/octet-stream", "3.2")]);
    let gif_and_message = multipart(
        "i4",
        "mixed",
        &[
            leaf("image/gif", "4.1"),
            leaf("message/rfc822", &{
                let alternative = multipart(
                    "i422",
                    "alternative",
                    &[leaf("text/plain", "4.2.2.1"), leaf("text/richtext", "4.2.2.2")],
                );
                format!("Subject: s42\r\n{}", multipart("i42", "mixed", &[leaf("text/plain", "4.2.1"), alternative]))
            }),
        ],
    );
    format!(
        "Subject: top\r\n{}",
        multipart(
            "i",
            "mixed",
            &[
                leaf("text/plain", "1"),
                leaf("application/octet-stream", "2"),
                leaf("message/rfc822", &format!("Subject: s3\r\n{inner}")),
                gif_and_message,
            ]
        )
    )
}

#[test]
fn part_numbers_of_rfc_9051() {
    let message = numbered();
    let record = record(message.as_bytes());
    let cached = Cached::new(&record).unwrap();
    let at = |span: std::ops::Range<u64>| &message[span.start as usize..span.end as usize];
    for leaf in ["1", "2", "3.1", "3.2", "4.1", "4.2.1", "4.2.2.1", "4.2.2.2"] {
        let path: Vec<u32> = leaf.split('.').map(|n| n.parse().unwrap()).collect();
        let section = cached.section(&path, 0).unwrap();
        assert_eq!(at(section.body), leaf);
        assert!(at(section.mime.clone()).starts_with("Content-Type: ") && at(section.mime).ends_with("\r\n\r\n"));
        assert_eq!(section.message, None);
        assert_eq!(cached.section(&[&path[..], &[1]].concat(), 0), None, "{leaf}.1");
    }
    for (path, subject) in [(&[3][..], "s3"), (&[4, 2], "s42")] {
        let section = cached.section(path, 0).unwrap();
        let inner = section.message.unwrap();
        assert!(at(section.mime).starts_with("Content-Type: message/rfc822\r\n"));
        assert!(at(inner.header.clone()).starts_with(&format!("Subject: {subject}\r\nContent-Type: multipart/")));
        assert!(at(inner.text.clone()).starts_with("--i"));
        assert_eq!(section.body, inner.header.start..inner.text.end);
    }
    assert!(at(cached.section(&[4], 0).unwrap().body).starts_with("--i4\r\n"));
    assert!(at(cached.section(&[4, 2, 2], 0).unwrap().mime).starts_with("Content-Type: multipart/alternative"));
    for nowhere in [&[0][..], &[5], &[3, 3], &[3, 0], &[4, 2, 3], &[4, 2, 2, 3], &[u32::MAX], &[4, u32::MAX]] {
        assert_eq!(cached.section(nowhere, 0), None, "{nowhere:?}");
    }
    let whole = cached.section(&[], 0).unwrap();
    assert_eq!(at(whole.body), message);
    assert!(at(whole.message.unwrap().header).starts_with("Subject: top\r\n"));
}

#[test]
fn part_numbers_of_messages_that_are_no_multipart() {
    let plain = "Subject: x\r\nContent-Type: text/plain\r\n\r\nhello";
    cached(plain.as_bytes(), |c| {
        let part = c.section(&[1], 0).unwrap();
        assert_eq!((part.body.clone(), part.mime), (40..45, 0..40));
        assert_eq!((c.section(&[2], 0), c.section(&[1, 1], 0)), (None, None));
        assert_eq!(c.section(&[], 0).unwrap().message.unwrap().text, part.body);
    });
    let outer = "Content-Type: message/rfc822\r\n\r\n";
    cached(format!("{outer}{plain}").as_bytes(), |c| {
        let start = outer.len() as u64;
        let part = c.section(&[1], 0).unwrap();
        assert_eq!((part.body, part.mime), (start..start + 45, 0..start));
        assert_eq!(part.message.unwrap().text, start + 40..start + 45);
        assert_eq!(c.section(&[1, 1], 0).unwrap().body, start + 40..start + 45);
        assert_eq!(c.section(&[1, 1, 1], 0), None);
    });
}

#[test]
fn a_prefix_shifts_all_but_the_beginning() {
    let message = numbered();
    cached(message.as_bytes(), |c| {
        let (plain, shifted) = (c.section(&[4, 2], 0).unwrap(), c.section(&[4, 2], 1000).unwrap());
        assert_eq!(shifted.mime.start, plain.mime.start + 1000);
        assert_eq!(shifted.message.unwrap().text.end, plain.message.unwrap().text.end + 1000);
        let (plain, shifted) = (c.section(&[], 0).unwrap(), c.section(&[], 1000).unwrap());
        assert_eq!(shifted.body, 0..message.len() as u64 + 1000);
        assert_eq!(shifted.message.unwrap().header, 0..plain.mime.end + 1000);
    });
}

#[test]
fn search_finds_the_texts_and_their_charsets() {
    let message = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: TEXT/HTML; charset=\"ISO-8859-1\"\r\n\
                   Content-Transfer-Encoding: Base64\r\n\r\n6Q==\r\n--b--";
    cached(message.as_bytes(), |c| {
        let parts: Vec<_> = c.parts().collect();
        assert_eq!((parts[0].kind, parts[0].media_type), (Kind::Multipart, &b"multipart/mixed"[..]));
        assert_eq!((parts[1].media_type, parts[1].charset), (&b"text/html"[..], &b"ISO-8859-1"[..]));
        let body = &message.as_bytes()[parts[1].body.start as usize..parts[1].body.end as usize];
        let (mut decoder, mut bytes) = (mime::transfer::Decoder::new(parts[1].encoding).unwrap(), Vec::new());
        decoder.push(body, &mut bytes);
        decoder.finish(&mut bytes);
        assert_eq!(mime::charset::to_utf8(parts[1].charset, &bytes), "é");
    });
}

#[test]
fn a_damaged_record_is_no_record() {
    let record = record(numbered().as_bytes());
    for len in 0..record.len() {
        assert!(Cached::new(&record[..len]).is_none(), "cut to {len}");
    }
    assert!(Cached::new(&[&record[..], b"x"].concat()).is_none());
    for at in 0..record.len() {
        for bit in 0..8 {
            let mut damaged = record.clone();
            damaged[at] ^= 1 << bit;
            // Either refused, or harmless: nothing here panics or runs on.
            if let Some(cached) = Cached::new(&damaged) {
                cached.parts().count();
                for path in [&[][..], &[1], &[3, 1], &[4, 2, 2, 2], &[u32::MAX]] {
                    cached.section(path, 1);
                }
            }
        }
    }
}

#[test]
fn how_a_message_is_cut_makes_no_difference() {
    let odd = format!("{}\r\n--b\r\n--", numbered().replace("--i", "\n--i").replace("\r\n\r\n", "\n\n"));
    for message in [numbered(), odd] {
        let whole = record(message.as_bytes());
        for size in 1..64 {
            let mut indexer = Indexer::new(Limits::default());
            message.as_bytes().chunks(size).for_each(|chunk| indexer.push(chunk));
            let mut cut = Vec::new();
            indexer.finish().encode(&mut cut);
            assert_eq!(cut, whole, "chunks of {size}");
        }
    }
}
