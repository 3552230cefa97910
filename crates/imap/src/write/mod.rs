//! Responses: what the session says, in the protocol's spelling.
//!
//! A [`Writer`] appends to the machine's output and does nothing else: no state, no decision. What runs once a message
//! (FETCH, SEARCH, sets) neither allocates nor goes through `format!`.

mod data;
mod fetch;
mod status;

pub use data::{Capabilities, Esearch, ListAttribute, ListEntry, StatusValue};
pub use fetch::FetchWriter;
pub use status::{Code, Status};

use crate::name::{MailboxName, utf7_encode};
use base::Timestamp;

/// The longest text sent as a quoted string; longer ones go as a literal, which needs no look at each octet.
const MAX_QUOTED: usize = 1024;

/// Writes responses. Made by [`Server::writer`](crate::Server::writer), which knows what the client understands.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// The client enabled UTF-8: quoted strings and mailbox names may hold it.
    utf8: bool,
}

impl<'a> Writer<'a> {
    /// Writes to the end of `out`; in UTF-8 when the client enabled `UTF8=ACCEPT` or `IMAP4rev2`.
    pub fn new(out: &'a mut Vec<u8>, utf8: bool) -> Self {
        Writer { out, utf8 }
    }

    /// Octets as they are.
    pub fn raw(&mut self, octets: impl AsRef<[u8]>) -> &mut Self {
        self.out.extend_from_slice(octets.as_ref());
        self
    }

    /// A number.
    pub fn number(&mut self, n: impl Into<u64>) -> &mut Self {
        decimal(self.out, n.into());
        self
    }

    /// A string (RFC 9051 §9 `string`): quoted where that is possible, else a literal.
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        if !self.can_be_quoted(text) {
            return self.literal_header(text.len() as u64).raw(text);
        }
        self.raw(b"\"");
        for piece in text.split_inclusive(|b| matches!(b, b'"' | b'\\')) {
            match piece.split_last() {
                Some((special @ (b'"' | b'\\'), plain)) => self.raw(plain).raw([b'\\', *special]),
                _ => self.raw(piece),
            };
        }
        self.raw(b"\"")
    }

    /// A string, or NIL.
    pub fn nstring(&mut self, text: Option<&[u8]>) -> &mut Self {
        match text {
            Some(text) => self.string(text),
            None => self.raw(b"NIL"),
        }
    }

    /// An astring (RFC 9051 §9): bare where that is possible.
    pub fn astring(&mut self, text: impl AsRef<[u8]>) -> &mut Self {
        let text = text.as_ref();
        let bare = !text.is_empty() && text.iter().all(|b| crate::parse::is_astring_char(*b));
        if bare && !text.eq_ignore_ascii_case(b"NIL") { self.raw(text) } else { self.string(text) }
    }

    /// A mailbox's name, in modified UTF-7 unless the client enabled UTF-8.
    pub fn mailbox(&mut self, name: &MailboxName) -> &mut Self {
        if self.utf8 || name.as_str().bytes().all(|b| matches!(b, b' '..=b'~') && b != b'&') {
            return self.astring(name.as_str());
        }
        let mut wire = Vec::new();
        utf7_encode(name.as_str(), &mut wire);
        self.astring(wire)
    }

    /// `{size}` and the line end: `size` octets must follow.
    fn literal_header(&mut self, size: u64) -> &mut Self {
        self.raw(b"{").number(size).raw(b"}\r\n")
    }

    /// RFC 9051 §9 `quoted`.
    fn can_be_quoted(&self, text: &[u8]) -> bool {
        text.len() <= MAX_QUOTED
            && !text.iter().any(|b| matches!(b, 0 | b'\r' | b'\n'))
            && (text.is_ascii() || self.utf8 && std::str::from_utf8(text).is_ok())
    }

    /// Flags in parentheses; each as [`Flag::as_str`](crate::Flag::as_str) has it.
    fn flag_list<'f>(&mut self, flags: impl IntoIterator<Item = &'f str>) -> &mut Self {
        self.raw(b"(");
        for (i, flag) in flags.into_iter().enumerate() {
            if i > 0 {
                self.raw(b" ");
            }
            self.raw(flag);
        }
        self.raw(b")")
    }

    /// ` 7-Feb-1994 21:52:25 +0000` in quotes (RFC 9051 §9 `date-time`).
    fn date_time(&mut self, at: Timestamp) -> &mut Self {
        let civil = at.civil();
        let two = |n: u8| [b'0' + n / 10 % 10, b'0' + n % 10];
        let day = two(civil.day);
        let month = crate::date::MONTHS[usize::from(civil.month.clamp(1, 12) - 1)];
        let year = civil.year.clamp(0, 9999) as u16;
        self.raw(b"\"").raw(if day[0] == b'0' { [b' ', day[1]] } else { day }).raw(b"-").raw(month).raw(b"-");
        self.raw(two((year / 100) as u8)).raw(two((year % 100) as u8)).raw(b" ");
        self.raw(two(civil.hour)).raw(b":").raw(two(civil.minute)).raw(b":").raw(two(civil.second)).raw(b" +0000\"")
    }

    fn end_line(&mut self) {
        self.raw(b"\r\n");
    }
}

/// Writes a number.
pub(crate) fn decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(utf8: bool, write: impl for<'w, 'o> Fn(&'w mut Writer<'o>) -> &'w mut Writer<'o>) -> String {
        let mut out = Vec::new();
        write(&mut Writer::new(&mut out, utf8));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_quoted_where_they_can() {
        assert_eq!(written(false, |w| w.string("a \"b\" \\c\\")), r#""a \"b\" \\c\\""#);
        assert_eq!(written(false, |w| w.string("")), "\"\"");
        assert_eq!(written(false, |w| w.string("a\r\nb")), "{4}\r\na\r\nb");
        assert_eq!(written(false, |w| w.string("é")), "{2}\r\né");
        assert_eq!(written(true, |w| w.string("é")), "\"é\"");
        assert_eq!(written(true, |w| w.string("x".repeat(1025))), format!("{{1025}}\r\n{}", "x".repeat(1025)));
        assert_eq!(written(true, |w| w.nstring(None)), "NIL");
        assert_eq!(
            written(true, |w| w.astring("a]b").raw(" ").astring("nil").raw(" ").astring("a b")),
            "a]b \"nil\" \"a b\""
        );
    }

    #[test]
    fn mailbox_names_by_mode() {
        let name = |text| MailboxName::new(text).unwrap();
        for (text, rev1, rev2) in [
            ("inbox", "INBOX", "INBOX"),
            ("Sent Mail", "\"Sent Mail\"", "\"Sent Mail\""),
            ("a&b", "a&-b", "a&b"),
            ("台北", "&U,BTFw-", "\"台北\""),
            ("100%", "\"100%\"", "\"100%\""),
        ] {
            assert_eq!(written(false, |w| w.mailbox(&name(text))), rev1);
            assert_eq!(written(true, |w| w.mailbox(&name(text))), rev2);
        }
    }

    #[test]
    fn dates() {
        // As `date -u` has them; the second is RFC 9051 §6.3.12's, which is written there for another zone.
        for (seconds, expected) in [
            (0, "\" 1-Jan-1970 00:00:00 +0000\""),
            (760_686_745, "\" 8-Feb-1994 05:52:25 +0000\""),
            (951_868_800, "\" 1-Mar-2000 00:00:00 +0000\""),
            (1_700_000_000, "\"14-Nov-2023 22:13:20 +0000\""),
            (4_102_444_800, "\" 1-Jan-2100 00:00:00 +0000\""),
        ] {
            assert_eq!(written(false, |w| w.date_time(Timestamp::from_secs(seconds))), expected);
        }
    }

    #[test]
    fn numbers() {
        for n in [0u64, 9, 10, 4_294_967_295, u64::MAX] {
            assert_eq!(written(false, |w| w.number(n)), n.to_string());
        }
    }
}
