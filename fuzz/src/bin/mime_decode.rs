//! Bodies decoded: base64, quoted-printable, charsets. The first octet chooses the encoding, the second the size of the
//! chunks, the third the charset.
//!
//! No panic; chunked is whole; the output is bounded by the input.
#![no_main]

use mime::Encoding;
use mime::charset::{TextDecoder, to_utf8};
use mime::transfer::Decoder;

const ENCODINGS: [Encoding; 3] = [Encoding::Base64, Encoding::QuotedPrintable, Encoding::EightBit];
const CHARSETS: [&[u8]; 7] =
    [b"utf-8", b"iso-8859-1", b"gb18030", b"iso-2022-jp", b"utf-16", b"us-ascii", b"x-unknown"];
/// So many of them, from the first, are taken at their word. The others are guessed, from what is there at first.
const SURE: usize = 5;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let &[encoding, size, charset, ref body @ ..] = data else { return };
    let encoding = ENCODINGS[usize::from(encoding) % ENCODINGS.len()];
    let number = usize::from(charset) % CHARSETS.len();
    let charset = CHARSETS[number];
    let size = usize::from(size).max(1);

    let decoded = decode(encoding, body, usize::MAX);
    assert_eq!(decoded, decode(encoding, body, size));
    assert_eq!(decoded, decode(encoding, body, 1));
    assert!(decoded.len() <= body.len());

    let text = to_utf8(charset, body);
    for size in [usize::MAX, size, 1] {
        let pieces = text_of(charset, body, size);
        assert!(number >= SURE || text == pieces, "{text:?}\n{pieces:?}");
    }
    // An octet is at most one character, of four octets.
    assert!(text.len() <= 4 * body.len() + 4);
});

fn decode(encoding: Encoding, body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(mut decoder) = Decoder::new(encoding) else { return out };
    body.chunks(size).for_each(|chunk| decoder.push(chunk, &mut out));
    decoder.finish(&mut out);
    out
}

fn text_of(charset: &[u8], body: &[u8], size: usize) -> String {
    let (mut decoder, mut out) = (TextDecoder::new(charset), String::new());
    body.chunks(size).for_each(|chunk| decoder.push(chunk, &mut out));
    decoder.finish(&mut out);
    out
}
