//! A header block taken apart: fields with their spans, finding, selecting for `HEADER.FIELDS`, unfolding, message ids.
//!
//! Called on stored bytes when a client asks for header fields, and by the index on the fields it kept. Values are raw
//! (folding inside) until [`unfold`] is asked; nothing here decodes encoded words (that is [`crate::words`]).

use std::borrow::Cow;
use std::ops::Range;

use crate::lexer::{is_wsp, trim};

/// One field of a header block (RFC 5322 §2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As written, without the white space that obsolete syntax allows before the colon (RFC 5322 §4.5). Empty when the
    /// line has no colon: such a line is no field, but its bytes are part of the header.
    pub name: &'a [u8],
    /// What follows the colon, folding inside, without the last line end. The whole line when there is no colon.
    pub value: &'a [u8],
    /// Where the field is in the block: name, value and last line end.
    pub span: Range<usize>,
}

impl Field<'_> {
    /// Field names do not know case (RFC 5322 §1.2.2).
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// The fields of a header block, up to its blank line or its end.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    block: &'a [u8],
    at: usize,
}

/// The fields of `block`, in order.
///
/// ```
/// let mut fields = mime::header::fields(b"To: a@x.test,\r\n b@x.test\r\nSubject: Hi\r\n\r\nbody");
/// let to = fields.next().unwrap();
/// assert_eq!((to.name, to.value, to.span), (&b"To"[..], &b" a@x.test,\r\n b@x.test"[..], 0..26));
/// assert!(fields.next().unwrap().is(b"SUBJECT"));
/// assert!(fields.next().is_none());
/// ```
pub fn fields(block: &[u8]) -> Fields<'_> {
    Fields { block, at: 0 }
}

impl<'a> Fields<'a> {
    /// The blank line that ends the block; empty when the block ends without one.
    fn blank(&self) -> &'a [u8] {
        match &self.block[self.at..] {
            [b'\r', b'\n', ..] => &self.block[self.at..self.at + 2],
            [b'\n', ..] => &self.block[self.at..self.at + 1],
            _ => &[],
        }
    }

    /// The end of the line that holds `from`, its line end included.
    fn line_end(&self, from: usize) -> usize {
        memchr::memchr(b'\n', &self.block[from..]).map_or(self.block.len(), |n| from + n + 1)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.at == self.block.len() || !self.blank().is_empty() {
            return None;
        }
        let start = self.at;
        let mut end = self.line_end(start);
        // RFC 5322 §2.2.3: a line that begins with white space goes on with the field before it.
        while matches!(self.block.get(end), Some(b' ' | b'\t')) {
            end = self.line_end(end);
        }
        self.at = end;
        let raw = strip_line_end(&self.block[start..end]);
        let (name, value) = match colon(raw) {
            Some(colon) => (trim(&raw[..colon]), &raw[colon + 1..]),
            None => (&raw[..0], raw),
        };
        Some(Field { name, value, span: start..end })
    }
}

/// Where the name of a field ends: at the first colon of its first line, unless that is the line's first byte.
fn colon(raw: &[u8]) -> Option<usize> {
    let colon = raw.iter().position(|b| *b == b':' || *b == b'\n')?;
    (raw[colon] == b':' && colon > 0).then_some(colon)
}

fn strip_line_end(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    raw.strip_suffix(b"\r").unwrap_or(raw)
}

/// The name that the first bytes of a header line give, for who sees a line before all of it is there.
pub(crate) fn name_of_line(line: &[u8]) -> &[u8] {
    colon(line).map_or(&[], |colon| trim(&line[..colon]))
}

/// The first field of this name.
pub fn find<'a>(block: &'a [u8], name: &[u8]) -> Option<Field<'a>> {
    fields(block).find(|f| f.is(name))
}

/// Which fields [`select`] takes (RFC 9051 §6.4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// `HEADER.FIELDS`: those that are named.
    Named,
    /// `HEADER.FIELDS.NOT`: all others.
    NotNamed,
}

/// Writes the chosen fields of `block` as they stand, in their order, and the blank line if the block has one: RFC 9051
/// §6.4.5.1, a subset of the fields always includes it, except where the message has none.
///
/// Costs fields × log names; the caller bounds the names it takes from a command.
pub fn select(block: &[u8], which: Select, names: &[&[u8]], out: &mut Vec<u8>) {
    let lower = |name: &[u8]| name.iter().map(u8::to_ascii_lowercase).collect::<Vec<_>>();
    let mut sorted: Vec<_> = names.iter().map(|name| lower(name)).collect();
    sorted.sort_unstable();
    let compare = |wanted: &Vec<u8>, name: &[u8]| wanted.iter().copied().cmp(name.iter().map(u8::to_ascii_lowercase));
    let mut all = fields(block);
    for field in all.by_ref() {
        let named = sorted.binary_search_by(|wanted| compare(wanted, field.name)).is_ok();
        if named == (which == Select::Named) {
            out.extend_from_slice(&block[field.span]);
        }
    }
    out.extend_from_slice(all.blank());
}

/// A value on one line: line ends inside are taken out, the white space after them stays (RFC 5322 §2.2.3), white space
/// at both ends goes.
pub fn unfold(value: &[u8]) -> Cow<'_, [u8]> {
    let value = trim(value);
    if memchr::memchr(b'\n', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    for line in value.split_inclusive(|b| *b == b'\n') {
        out.extend_from_slice(strip_line_end(line));
    }
    Cow::Owned(out)
}

/// The message ids in a `Message-ID`, `In-Reply-To` or `References` value (RFC 5322 §3.6.4), without angle brackets.
///
/// What contains white space or nothing at all is passed over; so is text outside of brackets.
///
/// ```
/// let ids: Vec<_> = mime::header::message_ids(b" <1@x.test>\r\n\t(re) <2@x.test> junk <> <a b>").collect();
/// assert_eq!(ids, [&b"1@x.test"[..], b"2@x.test"]);
/// ```
pub fn message_ids(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Every piece ends in `>`, but for the last; an id begins behind the last `<` of its piece.
    value.split_inclusive(|b| *b == b'>').filter_map(|piece| {
        let piece = piece.strip_suffix(b">")?;
        let id = &piece[memchr::memrchr(b'<', piece)? + 1..];
        (!id.is_empty() && !id.iter().any(|b| is_wsp(*b))).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &[u8] =
        b"From someone Mon Jan  1\r\nSubject : one\r\n two\r\nX: 1\nsubject: three\r\nno colon here\r\n\r\nS: body";

    #[test]
    fn odd_lines_keep_their_bytes() {
        let all: Vec<_> = fields(BLOCK).map(|f| (f.name, f.value)).collect();
        assert_eq!(
            all,
            [
                (&b""[..], &b"From someone Mon Jan  1"[..]),
                (b"Subject", b" one\r\n two"),
                (b"X", b" 1"),
                (b"subject", b" three"),
                (b"", b"no colon here"),
            ]
        );
        let spans: Vec<_> = fields(BLOCK).map(|f| f.span).collect();
        assert!(spans.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(find(BLOCK, b"SUBJECT").map(|f| unfold(f.value).into_owned()), Some(b"one two".to_vec()));
    }

    #[test]
    fn header_fields_and_header_fields_not() {
        let select = |block, which, names: &[&[u8]]| {
            let mut out = Vec::new();
            select(block, which, names, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            select(BLOCK, Select::Named, &[b"SUBJECT", b"To"]),
            "Subject : one\r\n two\r\nsubject: three\r\n\r\n"
        );
        assert_eq!(
            select(BLOCK, Select::NotNamed, &[b"SUBJECT"]),
            "From someone Mon Jan  1\r\nX: 1\nno colon here\r\n\r\n"
        );
        // RFC 9051 §6.4.5.1: a message without body and blank line gets none.
        assert_eq!(select(b"A: 1\r\nB: 2\r\n", Select::Named, &[b"b"]), "B: 2\r\n");
    }

    #[test]
    fn unfolding_takes_only_line_ends() {
        // RFC 5322 §2.2.3's example.
        assert_eq!(*unfold(b" This\r\n is a test\r\n"), *b"This is a test");
        assert_eq!(*unfold(b"a\n\tb\r\n  c"), *b"a\tb  c");
        assert_eq!(*unfold(b" \r\n "), *b"");
    }
}
