//! Transfer encodings taken off, chunk by chunk (RFC 2045 §6.7, §6.8).
//!
//! Called by BINARY (RFC 3516), by search and by whoever shows a part. It keeps a few bytes between chunks, and never
//! fails: what is no code is passed over (base64) or stands for itself (quoted-printable).

use crate::content::Encoding;

/// White space at the end of a quoted-printable line that is held back at most; RFC 2045 §6.7 allows lines of 76 bytes.
const MAX_SPACES: usize = 1000;

/// Decodes one body.
///
/// ```
/// use mime::{Encoding, transfer::Decoder};
/// let mut text = Vec::new();
/// let mut decoder = Decoder::new(Encoding::QuotedPrintable).unwrap();
/// decoder.push(b"caf=C3", &mut text);
/// decoder.push(b"=A9 =\r\ncrema", &mut text);
/// decoder.finish(&mut text);
/// assert_eq!(text, "café crema".as_bytes());
/// ```
#[derive(Clone, Debug)]
pub struct Decoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Identity,
    Base64(Base64),
    QuotedPrintable(QuotedPrintable),
}

impl Decoder {
    /// None for [`Encoding::Unknown`]: BINARY answers UNKNOWN-CTE (RFC 3516 §4.3).
    pub fn new(encoding: Encoding) -> Option<Self> {
        Some(Decoder(match encoding {
            Encoding::SevenBit | Encoding::EightBit | Encoding::Binary => Kind::Identity,
            Encoding::Base64 => Kind::Base64(Base64::default()),
            Encoding::QuotedPrintable => Kind::QuotedPrintable(QuotedPrintable::default()),
            Encoding::Unknown => return None,
        }))
    }

    /// Appends what `chunk` decodes to: at most its length and about a kilobyte that was held back.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        match &mut self.0 {
            Kind::Identity => out.extend_from_slice(chunk),
            Kind::Base64(decoder) => decoder.push(chunk, out),
            Kind::QuotedPrintable(decoder) => decoder.push(chunk, out),
        }
    }

    /// Appends what the end of the body leaves.
    pub fn finish(self, out: &mut Vec<u8>) {
        match self.0 {
            Kind::Identity => {}
            Kind::Base64(mut decoder) => decoder.flush(out),
            Kind::QuotedPrintable(mut decoder) => decoder.end_pending(out),
        }
    }
}

/// What is no digit.
const NONE: u8 = 0xff;

/// RFC 4648 §4, and the `-` and `_` of §5, which some programs write.
const DIGITS: [u8; 256] = {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut table = [NONE; 256];
    let mut i = 0;
    while i < alphabet.len() {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table
};

/// Up to three digits wait for their fourth.
#[derive(Clone, Debug, Default)]
struct Base64 {
    bits: u32,
    digits: u8,
}

impl Base64 {
    fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        out.reserve(chunk.len() / 4 * 3 + 3);
        while let [byte, rest @ ..] = chunk {
            if self.digits == 0 {
                let quads = chunk.as_chunks::<4>().0;
                let plain = quads.iter().map_while(quad).map(|three| out.extend_from_slice(&three)).count();
                if plain > 0 {
                    chunk = &chunk[plain * 4..];
                    continue;
                }
            }
            chunk = rest;
            match DIGITS[usize::from(*byte)] {
                // RFC 2045 §6.8: padding ends the data; what follows is another piece, as in joined attachments.
                NONE if *byte == b'=' => self.flush(out),
                // RFC 2045 §6.8: all else, line ends above all, is to be ignored.
                NONE => {}
                digit => {
                    self.bits = self.bits << 6 | u32::from(digit);
                    self.digits += 1;
                    if self.digits == 4 {
                        out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                        (self.bits, self.digits) = (0, 0);
                    }
                }
            }
        }
    }

    /// Two digits are one byte, three are two; one alone is nothing.
    fn flush(&mut self, out: &mut Vec<u8>) {
        let bytes = (self.bits << (6 * (4 - u32::from(self.digits)))).to_be_bytes();
        out.extend_from_slice(&bytes[1..1 + usize::from(self.digits.saturating_sub(1))]);
        (self.bits, self.digits) = (0, 0);
    }
}

/// The three bytes of four digits, None if one is no digit.
fn quad(quad: &[u8; 4]) -> Option<[u8; 3]> {
    let [a, b, c, d] = quad.map(|b| DIGITS[usize::from(b)]);
    if (a | b | c | d) & 0xc0 != 0 {
        return None;
    }
    Some([a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d])
}

/// What stands undecided: at a line's end white space vanishes (RFC 2045 §6.7 rule 3), and so does `=` (rule 5).
#[derive(Clone, Debug, Default)]
struct QuotedPrintable {
    state: State,
    /// White space that is text only if the line goes on.
    spaces: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Text,
    /// Behind CR.
    Cr,
    /// Behind `=`, and perhaps `spaces`.
    Equals,
    /// Behind `=` and a hexadecimal digit.
    Digit(u8),
    /// Behind `=` and CR.
    SoftCr,
}

impl QuotedPrintable {
    fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while at < chunk.len() {
            if matches!(self.state, State::Text) {
                // The bytes that stand for themselves, in one go.
                let plain = chunk[at..].iter().position(|b| matches!(b, b'=' | b' ' | b'\t' | b'\r' | b'\n'));
                let plain = plain.unwrap_or(chunk.len() - at);
                if plain > 0 {
                    out.append(&mut self.spaces);
                    out.extend_from_slice(&chunk[at..at + plain]);
                    at += plain;
                    continue;
                }
            }
            at += usize::from(self.step(chunk[at], out));
        }
    }

    /// Returns false when `byte` must be looked at again, in the state that follows.
    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        self.state = match (self.state, byte) {
            (State::Text, b'=') => {
                out.append(&mut self.spaces);
                State::Equals
            }
            (State::Text, b'\r') => State::Cr,
            (State::Text, b'\n') => {
                self.spaces.clear();
                out.push(b'\n');
                State::Text
            }
            (state @ (State::Text | State::Equals), b' ' | b'\t') if self.spaces.len() < MAX_SPACES => {
                self.spaces.push(byte);
                state
            }
            (State::Text, byte) => {
                out.append(&mut self.spaces);
                out.push(byte);
                State::Text
            }
            (State::Cr, b'\n') => {
                self.spaces.clear();
                out.extend_from_slice(b"\r\n");
                State::Text
            }
            (State::Equals, b'\r') => State::SoftCr,
            (State::Equals | State::SoftCr, b'\n') => {
                self.spaces.clear();
                State::Text
            }
            (State::Equals, digit) if digit.is_ascii_hexdigit() && self.spaces.is_empty() => State::Digit(digit),
            (State::Digit(high), low) if low.is_ascii_hexdigit() => {
                out.push(hex_value(high) << 4 | hex_value(low));
                State::Text
            }
            // RFC 2045 §6.7: what is no code is shown as it stands.
            (State::Cr | State::Equals | State::Digit(_) | State::SoftCr, _) => {
                self.give_up(out);
                return false;
            }
        };
        true
    }

    /// What stood undecided was text.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.state) {
            State::Text => out.append(&mut self.spaces),
            State::Cr => {
                out.append(&mut self.spaces);
                out.push(b'\r');
            }
            State::Equals => {
                out.push(b'=');
                out.append(&mut self.spaces);
            }
            State::Digit(digit) => out.extend_from_slice(&[b'=', digit]),
            State::SoftCr => {
                out.push(b'=');
                out.append(&mut self.spaces);
                out.push(b'\r');
            }
        }
    }

    /// The end of the body is a line's end too.
    fn end_pending(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.state, State::Text | State::Equals) {
            self.give_up(out);
        }
    }
}

/// Of a hexadecimal digit.
pub(crate) fn hex_value(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |v| v as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in one go and byte by byte; both must agree.
    fn decode(encoding: Encoding, text: &[u8]) -> Vec<u8> {
        let run = |size: usize| {
            let (mut decoder, mut out) = (Decoder::new(encoding).unwrap(), Vec::new());
            text.chunks(size).for_each(|chunk| decoder.push(chunk, &mut out));
            decoder.finish(&mut out);
            out
        };
        let whole = run(text.len().max(1));
        for size in 1..8 {
            assert_eq!(run(size), whole, "chunks of {size}");
        }
        whole
    }

    #[test]
    fn base64() {
        // RFC 4648 §10's vectors, then what mail does to them.
        for (text, expected) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9v\r\nYm\r\nFy\r\n", "foobar"),
            ("Zm9vYg", "foob"),
            ("Zm9vYmE", "fooba"),
            ("Zg==Zg==", "ff"),
            ("Z", ""),
            ("Zm9v!Ym*Fy", "foobar"),
        ] {
            assert_eq!(decode(Encoding::Base64, text.as_bytes()), expected.as_bytes(), "{text}");
        }
        assert_eq!(decode(Encoding::Base64, b"-_8="), [0xfb, 0xff]);
    }

    #[test]
    fn quoted_printable() {
        for (text, expected) in [
            // RFC 2045 §6.7's example.
            (
                "Now's the time =\r\nfor all folk to come=\r\n to the aid of their country.",
                "Now's the time for all folk to come to the aid of their country.",
            ),
            ("=41=4a=4A", "AJJ"),
            ("a  \t\r\nb \nc", "a\r\nb\nc"),
            ("soft=  \r\nbreak=\n!", "softbreak!"),
            ("1=2, =ZZ =4 =", "1=2, =ZZ =4 "),
            ("= x=\ry\rz", "= x=\ry\rz"),
            ("end=\r\n", "end"),
            ("=", ""),
            ("=4", "=4"),
            ("=3D=", "="),
        ] {
            assert_eq!(decode(Encoding::QuotedPrintable, text.as_bytes()), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn trap_06_white_space_is_not_hoarded() {
        let mut decoder = QuotedPrintable::default();
        let mut out = Vec::new();
        decoder.push(&[b' '; 1_000_000], &mut out);
        assert!(decoder.spaces.len() <= MAX_SPACES && out.len() + decoder.spaces.len() == 1_000_000);
    }

    #[test]
    fn unknown_encodings_are_not_guessed() {
        assert!(Decoder::new(Encoding::from_name(b"x-uuencode")).is_none());
        assert_eq!(decode(Encoding::from_name(b"8BIT"), b"as is =41"), b"as is =41");
    }
}
