//! Mailbox names: UTF-8 inside, modified UTF-7 on the wire until the client enabled UTF-8.
//!
//! Called by the parser and the [`Writer`](crate::Writer). It knows nothing of hierarchy: the delimiter is the store's.

use crate::base64::{self, Form};
use std::fmt;

/// The name of a mailbox: UTF-8 without control characters, `INBOX` in capitals.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(Box<str>);

impl MailboxName {
    /// From UTF-8. None when it holds a control character (RFC 5198 §2 forbids them, and no client shows them).
    /// The name `inbox` is special in any case (RFC 9051 §5.1).
    pub fn new(name: &str) -> Option<Self> {
        if name.contains(char::is_control) {
            return None;
        }
        let name = if name.eq_ignore_ascii_case("INBOX") { "INBOX" } else { name };
        Some(MailboxName(name.into()))
    }

    /// From what a client sent: UTF-8 when `utf8`, else modified UTF-7.
    pub(crate) fn from_wire(wire: &[u8], utf8: bool) -> Option<Self> {
        Self::new(&decode_name(wire, utf8)?)
    }

    /// The name in UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for the mailbox where mail arrives.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }
}

impl fmt::Debug for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name or a LIST pattern off the wire (`*` and `%` are no base64 digits, so a pattern decodes like a name).
pub(crate) fn decode_name(wire: &[u8], utf8: bool) -> Option<String> {
    if utf8 { std::str::from_utf8(wire).ok().map(str::to_owned) } else { utf7_decode(wire) }
}

/// Decodes modified UTF-7 (RFC 3501 §5.1.3).
///
/// None when the text is not what [`utf7_encode`] writes for some name: two spellings of one name would let a client
/// slip past a comparison made on the wire form.
///
/// ```
/// assert_eq!(imap::utf7_decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-").unwrap(), "~peter/mail/台北/日本語");
/// assert_eq!(imap::utf7_decode(b"&AGE-"), None); // an `a` in disguise
/// ```
pub fn utf7_decode(wire: &[u8]) -> Option<String> {
    let mut name = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'&' => {
                let end = memchr::memchr(b'-', rest)?;
                let (shifted, after) = (&rest[..end], &rest[end + 1..]);
                rest = after;
                if shifted.is_empty() {
                    name.push('&');
                    continue;
                }
                let octets = base64::decode(Form::MailboxName, shifted)?;
                if !octets.len().is_multiple_of(2) {
                    return None;
                }
                let units = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                for c in char::decode_utf16(units) {
                    name.push(c.ok()?);
                }
            }
            0x20..=0x7e => name.push(char::from(byte)),
            _ => return None,
        }
    }
    let mut again = Vec::with_capacity(wire.len());
    utf7_encode(&name, &mut again);
    (again == wire).then_some(name)
}

/// Writes `name` in modified UTF-7 (RFC 3501 §5.1.3).
pub fn utf7_encode(name: &str, out: &mut Vec<u8>) {
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match c {
            '&' => {
                out.extend_from_slice(b"&-");
                rest = &rest[1..];
            }
            ' '..='~' => {
                out.push(c as u8);
                rest = &rest[1..];
            }
            _ => {
                let end = rest.find(|c: char| matches!(c, ' '..='~')).unwrap_or(rest.len());
                let (shifted, after) = rest.split_at(end);
                let octets: Vec<u8> = shifted.encode_utf16().flat_map(u16::to_be_bytes).collect();
                out.push(b'&');
                base64::encode(Form::MailboxName, &octets, out);
                out.push(b'-');
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modified_utf7_both_ways() {
        // RFC 3501 §5.1.3 gives the first two; the rest by hand: U+00E9 is 00 E9 is AOk, U+1F600 is D83D DE00.
        for (name, wire) in [
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("☺!", "&Jjo-!"),
            ("Jack & Jill", "Jack &- Jill"),
            ("é", "&AOk-"),
            ("😀", "&2D3eAA-"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            utf7_encode(name, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), wire);
            assert_eq!(utf7_decode(wire.as_bytes()).as_deref(), Some(name));
        }
    }

    #[test]
    fn only_one_spelling_of_a_name_is_taken() {
        // RFC 3501 §5.1.3's own bad example is the first; then a lone surrogate, no end, 8-bit, stray bits.
        for wire in [&b"&Jjo!"[..], b"&U,BTFw-&ZeVnLIqe-", b"&2D0-", b"&AOk", b"\xc3\xa9", b"&AOl-", b"&A-", b"a\x07"] {
            assert_eq!(utf7_decode(wire), None, "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn inbox_has_no_case_and_no_name_has_controls() {
        assert!(MailboxName::new("iNbOx").unwrap().is_inbox());
        assert!(!MailboxName::new("inboxes").unwrap().is_inbox());
        assert_eq!(MailboxName::new("a\r\n* OK"), None);
    }
}
