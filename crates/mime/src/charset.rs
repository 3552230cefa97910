//! Charsets to UTF-8.
//!
//! Called for text parts and encoded words, by search and by whoever shows a mail. Never fails: what a charset does not
//! have becomes U+FFFD, and text of no or an unknown charset is UTF-8 if it can be, else windows-1252.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// Decodes a text in chunks.
pub struct TextDecoder {
    /// None as long as the charset is to be guessed and all was ASCII.
    decoder: Option<encoding_rs::Decoder>,
}

impl TextDecoder {
    /// `charset` as a mail names it; empty when it names none.
    pub fn new(charset: &[u8]) -> Self {
        TextDecoder { decoder: encoding(charset).map(Encoding::new_decoder_with_bom_removal) }
    }

    /// Appends what `chunk` decodes to; a character that it cuts waits for the next.
    pub fn push(&mut self, chunk: &[u8], out: &mut String) {
        self.decode(chunk, false, out);
    }

    /// The text ends here.
    pub fn finish(mut self, out: &mut String) {
        self.decode(&[], true, out);
    }

    fn decode(&mut self, chunk: &[u8], last: bool, out: &mut String) {
        let decoder = match &mut self.decoder {
            Some(decoder) => decoder,
            None if chunk.is_ascii() => {
                out.extend(chunk.iter().map(|b| char::from(*b)));
                return;
            }
            None => self.decoder.insert(guess(chunk).new_decoder_without_bom_handling()),
        };
        let mut rest = chunk;
        loop {
            // A bound that always lets some input through; None cannot be, with chunks that fit memory.
            out.reserve(decoder.max_utf8_buffer_length(rest.len()).unwrap_or(rest.len() + 16));
            let (result, read, _) = decoder.decode_to_string(rest, out, last);
            rest = &rest[read..];
            if result == encoding_rs::CoderResult::InputEmpty {
                return;
            }
        }
    }
}

/// The encoding of that name, None if it has to be guessed. `us-ascii` with 8-bit bytes in it is not what it says.
fn encoding(charset: &[u8]) -> Option<&'static Encoding> {
    let ascii = [&b"us-ascii"[..], b"ascii"].iter().any(|name| name.eq_ignore_ascii_case(charset.trim_ascii()));
    if ascii { None } else { Encoding::for_label_no_replacement(charset) }
}

/// What text with these bytes is in; a character cut at the end is no mistake.
fn guess(chunk: &[u8]) -> &'static Encoding {
    match std::str::from_utf8(chunk) {
        Err(e) if e.error_len().is_some() => WINDOWS_1252,
        _ => UTF_8,
    }
}

/// Decodes a whole text.
///
/// ```
/// use mime::charset::to_utf8;
/// assert_eq!(to_utf8(b"iso-8859-1", b"caf\xe9"), "café");
/// assert_eq!(to_utf8(b"us-ascii", "café".as_bytes()), "café");
/// assert_eq!(to_utf8(b"x-what", b"caf\xe9"), "café");
/// ```
pub fn to_utf8(charset: &[u8], text: &[u8]) -> String {
    let guessed = || if std::str::from_utf8(text).is_ok() { UTF_8 } else { WINDOWS_1252 };
    let encoding = encoding(charset).unwrap_or_else(guessed);
    encoding.decode_with_bom_removal(text).0.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_may_cut_characters() {
        // "日本" in four encodings (JIS X 0208 4467 435C), and a lone byte of one.
        for (charset, bytes) in [
            (&b"utf-8"[..], &b"\xe6\x97\xa5\xe6\x9c\xac"[..]),
            (b"Shift_JIS", b"\x93\xfa\x96\x7b"),
            (b"euc-jp", b"\xc6\xfc\xcb\xdc"),
            (b"ISO-2022-JP", b"\x1b$BF|K\\\x1b(B"),
            (b"", b"\xe6\x97\xa5\xe6\x9c\xac"),
        ] {
            for size in 1..=bytes.len() {
                let (mut decoder, mut out) = (TextDecoder::new(charset), String::new());
                bytes.chunks(size).for_each(|chunk| decoder.push(chunk, &mut out));
                decoder.finish(&mut out);
                assert_eq!(out, "日本", "{} in chunks of {size}", String::from_utf8_lossy(charset));
            }
        }
        assert_eq!(to_utf8(b"utf-8", b"a\xe6\x97"), "a\u{fffd}");
        assert_eq!(to_utf8(b"utf-8", b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
