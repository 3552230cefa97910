//! ENVELOPE, BODY and BODYSTRUCTURE as they go over the wire (RFC 9051 §7.5.2, RFC 3501 §7.4.2).
//!
//! Called by the index. One form serves every client: a string is quoted when it is clean 7-bit, else it is a literal,
//! which IMAP4rev1 clients and those that enabled UTF-8 both read.

use crate::address::{Entry, addresses};
use crate::content::{Content, Param};
use crate::header::{Field, unfold};
use crate::part::{Kind, Part};

/// The address fields, in the order of an ENVELOPE.
const ADDRESS_FIELDS: [&[u8]; 6] = [b"From", b"Sender", b"Reply-To", b"To", b"Cc", b"Bcc"];

/// Fields of an ENVELOPE that are long by right.
pub(crate) const RECIPIENTS: [&[u8]; 3] = [b"To", b"Cc", b"Bcc"];

/// Its other fields.
pub(crate) const ENVELOPE_FIELDS: [&[u8]; 7] =
    [b"From", b"Sender", b"Reply-To", b"Date", b"Subject", b"In-Reply-To", b"Message-ID"];

/// Appends an ENVELOPE; no address list in it has more than `max` entries.
pub(crate) fn envelope(fields: &[Field<'_>], max: usize, out: &mut Vec<u8>) {
    let text = |name: &[u8], out: &mut Vec<u8>| {
        // Of a field that occurs twice (RFC 5322 §3.6 forbids it) the first counts.
        match fields.iter().find(|f| f.is(name)) {
            Some(field) => string(&unfold(field.value), out),
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
    };
    out.push(b'(');
    text(b"Date", out);
    text(b"Subject", out);
    let mut from = 0..0;
    for name in ADDRESS_FIELDS {
        let start = out.len();
        address_list(fields, name, max, out);
        if name == b"From" {
            from = start..out.len();
        } else if out.len() == start && (name == b"Sender" || name == b"Reply-To") {
            // RFC 9051 §7.5.2: absent or empty, they are the same as From.
            out.extend_from_within(from.clone());
        }
        if out.len() == start {
            out.extend_from_slice(b"NIL");
        }
        out.push(b' ');
    }
    text(b"In-Reply-To", out);
    text(b"Message-ID", out);
    out.pop();
    out.push(b')');
}

/// Appends the addresses of all fields with this name as one list (RFC 5322 §4.5.3), or nothing if there are none.
fn address_list(fields: &[Field<'_>], name: &[u8], max: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut in_group = false;
    for entry in fields.iter().filter(|f| f.is(name)).flat_map(|f| addresses(f.value)).take(max) {
        if out.len() == start {
            out.push(b'(');
        }
        in_group = address(&entry, in_group, out);
    }
    if in_group {
        out.extend_from_slice(b"(NIL NIL NIL NIL)");
    }
    if out.len() > start {
        out.push(b')');
    }
}

/// Appends `(name route mailbox host)`; returns whether a group is open behind it. RFC 9051 §7.5.2: host NIL is the
/// beginning of a group, and all NIL its end, so that what an address lacks is an empty string.
fn address(entry: &Entry<'_>, in_group: bool, out: &mut Vec<u8>) -> bool {
    match entry {
        Entry::Mailbox(mailbox) => {
            out.push(b'(');
            nstring(mailbox.name.as_deref(), out);
            out.push(b' ');
            nstring(mailbox.route.as_deref(), out);
            out.push(b' ');
            string(&mailbox.local, out);
            out.push(b' ');
            string(&mailbox.domain, out);
            out.push(b')');
            in_group
        }
        Entry::GroupStart(name) => {
            out.extend_from_slice(b"(NIL NIL ");
            string(name, out);
            out.extend_from_slice(b" NIL)");
            true
        }
        Entry::GroupEnd => {
            out.extend_from_slice(b"(NIL NIL NIL NIL)");
            false
        }
    }
}

/// Appends BODYSTRUCTURE, or BODY when not `extended`.
pub(crate) fn structure(parts: &[Part], extended: bool, out: &mut Vec<u8>) {
    let mut open: Vec<usize> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        while let Some(around) = open.pop_if(|around| parts[*around].next <= number) {
            end(&parts[around], extended, out);
        }
        out.push(b'(');
        match part.kind {
            Kind::Multipart => open.push(number),
            Kind::Message => {
                basic_fields(part, out);
                out.push(b' ');
                // A message's part always follows it, and has an envelope.
                let envelope = parts.get(number + 1).and_then(|inner| inner.envelope.as_deref());
                out.extend_from_slice(envelope.unwrap_or(b"NIL"));
                out.push(b' ');
                open.push(number);
            }
            Kind::Leaf => {
                basic_fields(part, out);
                end(part, extended, out);
            }
        }
    }
    for around in open.into_iter().rev() {
        end(&parts[around], extended, out);
    }
}

/// What stands behind a part's parts: size in lines or subtype, extension data, `)`.
fn end(part: &Part, extended: bool, out: &mut Vec<u8>) {
    let content = &part.content;
    if part.kind == Kind::Multipart {
        out.push(b' ');
        string(&content.sub, out);
        if extended {
            out.push(b' ');
            params(&content.params, out);
        }
    } else {
        if part.kind == Kind::Message || content.main == b"text" {
            out.push(b' ');
            number(part.lines, out);
        }
        if extended {
            out.push(b' ');
            nstring(content.md5.as_deref(), out);
        }
    }
    if extended {
        common_extension(content, out);
    }
    out.push(b')');
}

/// `body-fields` with the media type before them: what every part but a multipart begins with.
fn basic_fields(part: &Part, out: &mut Vec<u8>) {
    let content = &part.content;
    string(&content.main, out);
    out.push(b' ');
    string(&content.sub, out);
    out.push(b' ');
    params(&content.params, out);
    out.push(b' ');
    nstring(content.id.as_deref(), out);
    out.push(b' ');
    nstring(content.description.as_deref(), out);
    out.push(b' ');
    string(content.encoding.name().map_or(&content.encoding_name, str::as_bytes), out);
    out.push(b' ');
    number(part.octets(), out);
}

/// ` disposition language location`.
fn common_extension(content: &Content, out: &mut Vec<u8>) {
    match &content.disposition {
        Some(disposition) => {
            out.extend_from_slice(b" (");
            string(&disposition.kind, out);
            out.push(b' ');
            params(&disposition.params, out);
            out.push(b')');
        }
        None => out.extend_from_slice(b" NIL"),
    }
    out.push(b' ');
    list(content.language.iter(), |tag, out| string(tag, out), out);
    out.push(b' ');
    nstring(content.location.as_deref(), out);
}

fn params(params: &[Param], out: &mut Vec<u8>) {
    list(
        params.iter(),
        |param, out| {
            string(&param.name, out);
            out.push(b' ');
            string(&param.value, out);
        },
        out,
    );
}

/// `(a b c)`, or NIL for none.
fn list<T>(items: impl Iterator<Item = T>, write: impl Fn(T, &mut Vec<u8>), out: &mut Vec<u8>) {
    let start = out.len();
    for item in items {
        out.push(if out.len() == start { b'(' } else { b' ' });
        write(item, out);
    }
    out.extend_from_slice(if out.len() == start { b"NIL" } else { b")" });
}

fn number(n: u64, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing into a Vec cannot fail.
    let _ = write!(out, "{n}");
}

fn nstring(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => string(text, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// RFC 9051 §9 `string`: quoted when it is 7-bit without CR and LF, else a literal. NUL fits neither; it becomes `?`.
fn string(text: &[u8], out: &mut Vec<u8>) {
    if text.iter().any(|b| !b.is_ascii() || matches!(b, b'\r' | b'\n')) {
        out.push(b'{');
        number(text.len() as u64, out);
        out.extend_from_slice(b"}\r\n");
        out.extend(text.iter().map(|b| if *b == 0 { b'?' } else { *b }));
        return;
    }
    out.push(b'"');
    if !text.iter().any(|b| matches!(b, 0 | b'"' | b'\\')) {
        out.extend_from_slice(text);
    } else {
        for b in text {
            match b {
                0 => out.push(b'?'),
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', *b]),
                b => out.push(*b),
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_quoted_when_clean() {
        for (text, expected) in [
            (&b""[..], &b"\"\""[..]),
            (b"a b\tc", b"\"a b\tc\""),
            (b"a\"b\\c", b"\"a\\\"b\\\\c\""),
            ("é".as_bytes(), b"{2}\r\n\xc3\xa9"),
            (b"a\rb", b"{3}\r\na\rb"),
            (b"a\0b", b"\"a?b\""),
            (b"\xff\0", b"{2}\r\n\xff?"),
        ] {
            let mut out = Vec::new();
            string(text, &mut out);
            assert_eq!(out, expected);
        }
    }
}
