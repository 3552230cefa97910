//! What hostile mail may cost: parts, depth and bytes are counted, never seconds. See also the trap tests beside the
//! readers of single fields.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Rng, index};
use mime::{Cached, Indexer, Kind, Limits};

/// A record of `message` under these limits.
fn record(message: &[u8], limits: Limits) -> Vec<u8> {
    let (mut indexer, mut out) = (Indexer::new(limits), Vec::new());
    message.chunks(64 << 10).for_each(|chunk| indexer.push(chunk));
    indexer.finish().encode(&mut out);
    out
}

#[test]
fn trap_05_nested_multiparts_end_at_the_depth_limit() {
    let nested: String =
        (0..100_000).map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}x\r\n\r\n--b{n}x\r\n")).collect();
    let index = index(nested.as_bytes());
    assert_eq!(index.parts().len(), Limits::default().depth);
    let last = index.parts().last().unwrap();
    assert!(last.kind == Kind::Leaf && last.content.is("application", "octet-stream"));
    assert_eq!(last.end, nested.len() as u64, "the rest is one leaf");
}

#[test]
fn trap_05_nested_messages_end_at_the_depth_limit() {
    let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
    let index = index(nested.as_bytes());
    assert_eq!(index.parts().len(), Limits::default().depth);
    let mut structure = Vec::new();
    index.write_structure(true, &mut structure);
    assert!(structure.len() < 200 * Limits::default().depth);
}

#[test]
fn trap_06_a_million_parts_are_a_thousand() {
    let mut bomb = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    bomb.extend(b"--b\r\n\r\n".repeat(1_000_000));
    let index = index(&bomb);
    assert_eq!(index.parts().len(), Limits::default().parts);
    let last = index.parts().last().unwrap();
    assert_eq!((last.end, last.content.is("application", "octet-stream")), (bomb.len() as u64, true));
    assert!(record(&bomb, Limits::default()).len() < 200 * Limits::default().parts);
}

#[test]
fn trap_06_a_header_of_ten_megabytes_keeps_its_span_and_little_else() {
    // Fields of no interest cost nothing, and hide nothing that comes after them.
    let mut message = b"X: y\r\n".repeat(1_700_000);
    message.extend_from_slice(b"Subject: still seen\r\n\r\nbody");
    let (len, index) = (message.len() as u64, index(&message));
    assert_eq!((index.parts()[0].body, index.parts()[0].end), (len - 4, len));
    assert!(index.envelope().starts_with(br#"(NIL "still seen" NIL"#));
    // Those of interest are cut where the limit is.
    let message = [b"Subject: ".to_vec(), vec![b'x'; 10_000_000], b"\r\n\r\nbody".to_vec()].concat();
    let cut = record(&message, Limits::default());
    assert!(cut.len() < Limits::default().header + 1000);
    assert_eq!(Cached::new(&cut).unwrap().section(&[1], 0).unwrap().body.start, message.len() as u64 - 4);
}

#[test]
fn trap_06_all_headers_together_are_limited() {
    let part = format!("--b\r\nContent-Description: {}\r\n\r\n", "x".repeat(60_000));
    let message = format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", part.repeat(500));
    let record = record(message.as_bytes(), Limits::default());
    // BODY and BODYSTRUCTURE each show what was kept.
    assert!(record.len() < 2 * Limits::default().headers + 500 * 400, "{}", record.len());
    assert_eq!(Cached::new(&record).unwrap().parts().count(), 501);
}

#[test]
fn trap_06_thousands_of_addresses_and_address_fields() {
    for (message, entries) in [
        (format!("To: {}\r\n\r\n", "a@b,".repeat(100_000)), 1000),
        ("To: a@b\r\n".repeat(100_000), 1000),
        (format!("To: {}\r\n\r\n", "g:a@b;".repeat(100_000)), 1001),
    ] {
        let index = index(message.as_bytes());
        let entry = br#" NIL ""#; // what begins an entry's mailbox, or a group's name
        assert!(memchr::memmem::find_iter(index.envelope(), entry).count() <= entries);
        assert!(index.envelope().len() < 40 * entries);
    }
    // An open group is closed where the list is cut.
    let index = index(format!("To: g:{}", "a@b,".repeat(5000)).as_bytes());
    assert!(index.envelope().ends_with(br#"(NIL NIL "a" "b")(NIL NIL NIL NIL)) NIL NIL NIL NIL)"#));
}

/// A mail to a whole company, as Exchange writes it: the recipients stand before all that shows the mail.
#[test]
fn trap_06_a_long_field_hides_no_other() {
    let many =
        |name: &str| format!("{name}: {}x@y.test\r\n", "\"Doe, Jane\" <jane.doe@example.test>,\r\n ".repeat(3000));
    let long = format!("References: {0}\r\nIn-Reply-To: {0}\r\n", "<1@x.test> ".repeat(10_000));
    let rest = "Subject: all hands\r\nDate: Mon, 1 Jan 2024 10:00:00 +0000\r\nMessage-ID: <1@x.test>\r\n\
                Content-Description: described\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
                --b\r\n\r\none\r\n--b\r\nContent-Type: image/png\r\n\r\ntwo\r\n--b--\r\n";
    let message = format!("From: a@b.test\r\n{}{}{long}{rest}", many("To"), many("Cc"));
    let index = index(message.as_bytes());
    let envelope = String::from_utf8_lossy(index.envelope()).into_owned();
    assert!(envelope.starts_with(r#"("Mon, 1 Jan 2024 10:00:00 +0000" "all hands" ((NIL NIL "a" "b.test")) "#));
    assert!(envelope.ends_with(r#" "<1@x.test>")"#) && envelope.contains(r#"("Doe, Jane" NIL "jane.doe""#));
    assert_eq!(index.parts().len(), 3);
    assert!(index.parts()[2].content.is("image", "png"));
    // Of what is long there is a bounded part.
    assert!(record(message.as_bytes(), Limits::default()).len() < 3 * Limits::default().header);
}

#[test]
fn trap_06_thousands_of_parameters() {
    let params: String = (0..10_000).map(|n| format!(";a{n}=x")).collect();
    let index = index(format!("Content-Type: text/plain{params}").as_bytes());
    assert!(index.parts()[0].content.params.len() <= Limits::default().params);
    let limits = Limits { params: 100_000, header: 1 << 20, ..Limits::default() };
    let params: String = (0..5_000).rev().map(|n| format!(";a*{n}=x")).collect();
    let mut indexer = Indexer::new(limits);
    indexer.push(format!("Content-Type: text/plain{params}").as_bytes());
    assert_eq!(indexer.finish().parts()[0].content.param("a").map(<[u8]>::len), Some(5_000));
}

/// Random messages out of the pieces that matter, cut at random: the same record each time, spans inside each other, and
/// a body that IMAP can show.
#[test]
fn random_messages_in_random_chunks() {
    const PIECES: [&[u8]; 28] = [
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/digest; boundary=\"ab\"\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; charset=x",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Subject: s\r\n",
        b"From: a@b, ",
        b"To: g: x y <q@r>;",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"--",
        b"--a",
        b"--ab",
        b"--a--",
        b"--a\r\n",
        b"\r\n--a\r\n",
        b"\n--ab\n",
        b"\r\n--ab--\r\n",
        b"-",
        b"\n-",
        b"text ",
        b"\0",
        b"\xff",
        b":",
        b"(",
    ];
    let limits = Limits { parts: 12, depth: 5, header: 200, headers: 600, params: 5, addresses: 5 };
    let mut rng = Rng(20_240_617);
    for round in 0..20_000 {
        let mut message = Vec::new();
        for _ in 0..rng.below(60) {
            message.extend_from_slice(PIECES[rng.below(PIECES.len())]);
        }
        if round % 50 == 0 {
            message.extend(vec![b'x'; rng.below(600)]);
        }
        let mut indexer = Indexer::new(limits);
        indexer.push(&message);
        let whole = indexer.finish();
        let mut indexer = Indexer::new(limits);
        let mut rest = &message[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(1 + rng.below(rest.len().min(9)));
            indexer.push(chunk);
            rest = after;
        }
        let shown = String::from_utf8_lossy(&message).into_owned();
        assert_eq!(indexer.finish(), whole, "round {round}: {shown:?}");
        check_shape(&whole, &message, limits, &shown);
        let mut record = Vec::new();
        whole.encode(&mut record);
        assert!(Cached::new(&record).is_some(), "round {round}: {shown:?}");
    }
}

/// Parts lie inside the parts around them, one behind the other, and within the limits.
fn check_shape(index: &mime::Index, message: &[u8], limits: Limits, shown: &str) {
    let parts = index.parts();
    assert!((1..=limits.parts).contains(&parts.len()), "{shown:?}");
    assert_eq!((parts[0].header, parts[0].end, parts[0].next), (0, message.len() as u64, parts.len()), "{shown:?}");
    for (number, part) in parts.iter().enumerate() {
        assert!(part.header <= part.body && part.body <= part.end, "{shown:?}");
        let body = &message[part.body as usize..part.end as usize];
        assert_eq!(part.lines, body.iter().filter(|b| **b == b'\n').count() as u64, "{shown:?}");
        let (mut child, mut at) = (number + 1, part.body);
        while child < part.next {
            assert!(parts[child].header >= at && parts[child].end <= part.end, "{shown:?}");
            at = parts[child].end;
            child = parts[child].next;
        }
        assert_eq!(child, part.next, "{shown:?}");
        assert_eq!(part.kind == Kind::Leaf, part.next == number + 1, "{shown:?}");
    }
}
