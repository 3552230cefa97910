//! The message index of any bytes. The first octet chooses the limits, the second the size of the chunks.
//!
//! No panic; chunked is whole; parts lie in each other and in the message; what IMAP sends of them is one well-formed
//! list, of bounded size; the cache record opens and says the same; and any bytes can be tried as a cache record.
#![no_main]

use mime::{Cached, Index, Indexer, Limits, Part};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let &[choice, size, ref mail @ ..] = data else { return };
    // Small, so that short inputs reach them.
    let narrow = Limits { parts: 5, depth: 3, header: 100, headers: 200, params: 2, addresses: 2 };
    let limits = if choice & 1 == 1 { narrow } else { Limits::default() };
    let whole = index(limits, mail, usize::MAX);
    assert_eq!(whole, index(limits, mail, usize::from(size).max(1)));
    assert_eq!(whole, index(limits, mail, 1));

    assert!(whole.parts().len() <= limits.parts);
    for (number, part) in whole.parts().iter().enumerate() {
        check_part(number, part, &whole, mail);
    }
    let mut record = Vec::new();
    whole.encode(&mut record);
    // A part of five octets has a row and its structure, twice: some 300. An address of two octets in From is in the
    // ENVELOPE three times: some 60, and twice again where the message is inside another.
    assert!(record.len() <= 200 * mail.len() + 4096, "a record of {} octets", record.len());
    check_record(&record, &whole, mail.len() as u64);
    if let Some(cached) = Cached::new(mail) {
        find_sections(&cached);
    }
});

fn index(limits: Limits, mail: &[u8], size: usize) -> Index {
    let mut indexer = Indexer::new(limits);
    mail.chunks(size).for_each(|chunk| indexer.push(chunk));
    indexer.finish()
}

fn check_part(number: usize, part: &Part, index: &Index, mail: &[u8]) {
    assert!(part.header <= part.body && part.body <= part.end && part.end <= mail.len() as u64, "{part:?}");
    assert!(number < part.next && part.next <= index.parts().len(), "{part:?}");
    let body = &mail[part.body as usize..part.end as usize];
    assert_eq!(part.lines, body.iter().filter(|b| **b == b'\n').count() as u64, "{part:?}");
    for inner in &index.parts()[number + 1..part.next] {
        assert!(part.body <= inner.header && inner.end <= part.end, "{inner:?} in {part:?}");
    }
    if let Some(next) = index.parts().get(part.next) {
        assert!(part.end <= next.header, "{next:?} behind {part:?}");
    }
    part.envelope.iter().for_each(|envelope| must_be_a_list(envelope));
}

fn check_record(record: &[u8], index: &Index, octets: u64) {
    let cached = Cached::new(record).expect("our own record opens");
    assert_eq!(cached.envelope(), index.envelope());
    for list in [cached.envelope(), cached.body_structure(), cached.body()] {
        must_be_a_list(list);
    }
    assert_eq!(cached.parts().count(), index.parts().len());
    for (view, part) in cached.parts().zip(index.parts()) {
        assert_eq!((view.header, view.body), (part.header..part.body, part.body..part.end));
        assert_eq!((view.kind, view.encoding), (part.kind, part.content.encoding));
    }
    assert_eq!(cached.section(&[], 100).map(|section| section.body), Some(0..octets + 100));
    // RFC 9051 §6.4.5.1: every message has at least one part number.
    assert!(cached.section(&[1], 100).is_some());
    find_sections(&cached);
}

fn find_sections(cached: &Cached) {
    for path in [&[][..], &[1], &[2], &[0], &[1, 1], &[1, 2, 1], &[u32::MAX]] {
        let _ = cached.section(path, 100);
    }
    let _ = cached.parts().count();
}

/// RFC 9051 §9: one parenthesised list of atoms, strings and lists, and nothing before or behind it. What a mail says
/// must not be able to end it and speak for the server.
fn must_be_a_list(text: &[u8]) {
    let (mut depth, mut rest) = (0, text);
    loop {
        rest = match rest {
            [b'(', rest @ ..] => {
                depth += 1;
                rest
            }
            [b')', rest @ ..] if depth > 0 => {
                depth -= 1;
                rest
            }
            [b'"', quoted @ ..] => behind_quoted(quoted).unwrap_or_else(|| panic!("{}", text.escape_ascii())),
            [b'{', literal @ ..] => behind_literal(literal).unwrap_or_else(|| panic!("{}", text.escape_ascii())),
            [atom, rest @ ..] if atom.is_ascii_alphanumeric() || *atom == b' ' => rest,
            _ => panic!("{}", text.escape_ascii()),
        };
        if depth == 0 {
            return assert!(rest.is_empty(), "{}", text.escape_ascii());
        }
    }
}

fn behind_quoted(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\\' | b'"', rest @ ..] => rest,
            [b'\\' | b'\r' | b'\n' | 0, ..] | [] => return None,
            [_, rest @ ..] => rest,
        }
    }
}

fn behind_literal(rest: &[u8]) -> Option<&[u8]> {
    let digits = rest.iter().position(|b| !b.is_ascii_digit())?;
    let size: usize = str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    rest[digits..].strip_prefix(b"}\r\n")?.get(size..)
}
