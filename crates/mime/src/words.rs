//! Encoded words (RFC 2047) to UTF-8, as search and display want a header.
//!
//! Called on unfolded or raw values alike. It decodes encoded words wherever they stand, inside quoted strings too, which
//! RFC 2047 §5 forbids and mail does. The result may hold any character, line ends included: it is for comparing and
//! showing, never to be put back into a header.

use memchr::memmem;

use crate::charset::to_utf8;
use crate::content::Encoding;
use crate::header::unfold;
use crate::lexer::{is_wsp, work};
use crate::transfer::{Decoder, hex_value};

/// Longer charset names than this are none.
const MAX_CHARSET: usize = 64;

/// A field's value as text: unfolded, its encoded words decoded, those that stand side by side joined.
///
/// ```
/// use mime::words::decode;
/// assert_eq!(decode(b" =?utf-8?Q?caf=C3?=\r\n =?UTF-8?b?qQ==?= crema"), "café crema");
/// ```
pub fn decode(value: &[u8]) -> String {
    let value = unfold(value);
    // No word ends behind the last `?=`: looking for one there, from each `=?` anew, would be quadratic.
    let words_end = memmem::rfind(&value, b"?=").map_or(0, |at| at + 2);
    let (mut rest, tail) = value.split_at(words_end);
    let mut out = String::with_capacity(value.len());
    let mut run = Run::default();
    while let Some(start) = memmem::find(rest, b"=?") {
        let (before, from) = rest.split_at(start);
        work::count(start + 2);
        // RFC 2047 §6.2: white space between two words is not shown.
        if !before.iter().all(|b| is_wsp(*b)) || run.charset.is_empty() {
            run.flush(&mut out);
            text(before, &mut out);
        }
        if let Some((word, after)) = EncodedWord::read(from) {
            run.word(&word, &mut out);
            rest = after;
        } else {
            run.flush(&mut out);
            out.push_str("=?");
            rest = &from[2..];
        }
    }
    run.flush(&mut out);
    text(rest, &mut out);
    text(tail, &mut out);
    out
}

/// What is not encoded: ASCII, or 8-bit bytes that name no charset.
fn text(bytes: &[u8], out: &mut String) {
    out.push_str(&to_utf8(b"", bytes));
}

/// `=?charset*language?encoding?text?=`.
struct EncodedWord<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
}

impl<'a> EncodedWord<'a> {
    /// At `=?`. Returns what is behind the word, too. White space in the text is against RFC 2047 §2 and occurs.
    fn read(from: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let rest = &from[2..];
        let name = rest[..rest.len().min(MAX_CHARSET)].iter().position(|b| *b == b'?' || is_wsp(*b))?;
        let base64 = match &rest[name..] {
            [b'?', b'b' | b'B', b'?', ..] => true,
            [b'?', b'q' | b'Q', b'?', ..] => false,
            _ => return None,
        };
        // RFC 2231 §5: a language may follow the charset.
        let charset = rest[..name].split(|b| *b == b'*').next().filter(|c| !c.is_empty())?;
        let rest = &rest[name + 3..];
        let end = memmem::find(rest, b"?=");
        work::count(end.unwrap_or(rest.len()));
        let end = end?;
        Some((EncodedWord { charset, base64, text: &rest[..end] }, &rest[end + 2..]))
    }

    fn decode(&self, out: &mut Vec<u8>) {
        if !self.base64 {
            decode_q(self.text, out);
        } else if let Some(mut decoder) = Decoder::new(Encoding::Base64) {
            decoder.push(self.text, out);
            decoder.finish(out);
        }
    }
}

/// RFC 2047 §4.2; what is no code stands for itself.
fn decode_q(mut text: &[u8], out: &mut Vec<u8>) {
    while let [byte, rest @ ..] = text {
        text = rest;
        match (byte, rest) {
            (b'_', _) => out.push(b' '),
            (b'=', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_value(*high) << 4 | hex_value(*low));
                text = after;
            }
            _ => out.push(*byte),
        }
    }
}

/// Neighbouring words of one charset, decoded as one: a character may begin in one and end in the next.
#[derive(Default)]
struct Run<'a> {
    /// Empty when no word came before.
    charset: &'a [u8],
    bytes: Vec<u8>,
}

impl<'a> Run<'a> {
    fn word(&mut self, word: &EncodedWord<'a>, out: &mut String) {
        if !self.charset.eq_ignore_ascii_case(word.charset) {
            self.flush(out);
        }
        self.charset = word.charset;
        word.decode(&mut self.bytes);
    }

    fn flush(&mut self, out: &mut String) {
        out.push_str(&to_utf8(self.charset, &self.bytes));
        (self.charset, self.bytes) = (&[], Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2047_section_8() {
        // The table of examples at the end of §8, and the names of the examples before it.
        for (encoded, shown) in [
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=\r\n    =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
            ("=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>", "Keith Moore <moore@cs.utk.edu>"),
            ("=?ISO-8859-1?Q?Andr=E9?= Pirard", "André Pirard"),
            (
                "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
                "If you can read this you understand the example.",
            ),
            // RFC 2231 §5.
            ("=?US-ASCII*EN?Q?Keith_Moore?=", "Keith Moore"),
        ] {
            assert_eq!(decode(encoded.as_bytes()), shown, "{encoded}");
        }
    }

    #[test]
    fn what_real_mail_makes_of_it() {
        for (encoded, shown) in [
            ("", ""),
            ("a =? b ?= c", "a =? b ?= c"),
            ("=?utf-8?q?", "=?utf-8?q?"),
            ("=?utf-8?q?=", "=?utf-8?q?="),
            ("=?utf-8?q??=", ""),
            ("=?utf-8?x?a?= =?utf-8?q?b?=", "=?utf-8?x?a?= b"),
            ("=?utf-8?q?=E4=BD?= =?UTF-8?q?=A0?=", "你"),
            ("=?utf-8?b?5L0=?==?utf-8?b?oA==?=", "你"),
            ("\"=?utf-8?q?=C3=A9?=\" é", "\"é\" é"),
            ("=?utf-8?q?a b?=", "a b"),
            ("=?no-such?q?=E9=4?=", "é=4"),
            ("=??q?a?=", "=??q?a?="),
        ] {
            assert_eq!(decode(encoded.as_bytes()), shown, "{encoded}");
        }
        assert_eq!(decode(b"caf\xe9"), "café");
    }

    #[test]
    fn trap_06_what_only_looks_like_words_is_read_once() {
        for unit in ["=?", "=?a?q?", "=?a?q", "?=", "=?=", "=?a?x?", "=?a?q?b?=", " =?", "=?a?q? "] {
            for end in ["", "?="] {
                let text = unit.repeat(20_000) + end;
                work::taken();
                decode(text.as_bytes());
                assert!(work::taken() <= 2 * text.len(), "{unit} {end}");
            }
        }
    }
}
