//! What is read out of header fields: addresses, encoded words, message ids, and the fields themselves.
//!
//! No panic; bounded by the input; groups are opened and closed in turn; fields and their selections cover the header.
#![no_main]

use mime::address::{Entry, addresses};
use mime::header::{Select, fields, find, message_ids, select, unfold};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check_addresses(data);
    check_header(data);
    // A decoded octet is at most one character of four octets.
    assert!(mime::words::decode(data).len() <= 4 * data.len());
    let _ = mime::date::parse_date(data);
    assert!(unfold(data).len() <= data.len());
    assert!(message_ids(data).map(<[u8]>::len).sum::<usize>() <= data.len());
});

fn check_addresses(value: &[u8]) {
    let (mut in_group, mut octets, mut entries) = (false, 0, 0);
    for entry in addresses(value) {
        entries += 1;
        match entry {
            Entry::Mailbox(mailbox) => {
                octets += mailbox.local.len() + mailbox.domain.len();
                octets += [mailbox.name, mailbox.route].into_iter().flatten().map(|text| text.len()).sum::<usize>();
            }
            Entry::GroupStart(name) => {
                assert!(!in_group, "groups do not nest");
                in_group = true;
                octets += name.len();
            }
            Entry::GroupEnd => {
                assert!(in_group);
                in_group = false;
            }
        }
    }
    assert!(!in_group, "every group is ended");
    assert!(entries <= value.len() + 1 && octets <= 2 * value.len(), "{entries} entries of {octets} octets");
}

fn check_header(block: &[u8]) {
    let mut end = 0;
    for field in fields(block) {
        assert_eq!(field.span.start, end, "fields follow each other");
        assert!(field.span.end > end);
        end = field.span.end;
    }
    if let Some(field) = find(block, b"To") {
        assert!(field.is(b"tO"));
    }
    // RFC 9051 §6.4.5.1: what is not among the named fields is among the others; both have the blank line.
    let names: [&[u8]; 2] = [b"To", b"Subject"];
    let (mut named, mut others) = (Vec::new(), Vec::new());
    select(block, Select::Named, &names, &mut named);
    select(block, Select::NotNamed, &names, &mut others);
    let blank = match &block[end..] {
        [b'\r', b'\n', ..] => 2,
        [b'\n', ..] => 1,
        rest => rest.len(),
    };
    assert_eq!(named.len() + others.len(), end + 2 * blank);
}
