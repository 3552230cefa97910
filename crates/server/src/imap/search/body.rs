//! The body of a mail as a search sees it: texts decoded, and what the headers of its parts say.
//!
//! It is gone through a piece at a time: by a reader of the store if the mail is small, else by the session, which gives
//! others their turn in between.

use std::ops::Range;

use mime::charset::TextDecoder;
use mime::header::fields;
use mime::{Cached, Encoding, Kind, words};
use store::Result;

use super::question::Program;
use super::text::Scan;
use crate::imap::source::{Decoding, Source};

/// A part's header is read up to here.
const HEADER: u64 = 64 * 1024;

/// A mail's body that is being searched.
pub(super) struct BodyScan {
    /// What is left of it, the next last.
    left: Vec<Text>,
    /// The text at hand.
    open: Option<(Decoding, TextDecoder)>,
    pub scan: Scan,
    octets: Vec<u8>,
    text: String,
}

/// What there is to be looked at.
enum Text {
    /// The header of a part: names of attachments, and the header of a mail within.
    Header(Range<u64>),
    Body {
        span: Range<u64>,
        encoding: Encoding,
        charset: Box<[u8]>,
    },
}

impl BodyScan {
    pub fn new(index: &Cached<'_>, source: &Source, scan: Scan) -> Self {
        let shift = |span: &Range<u64>| span.start + source.prefix_len()..span.end + source.prefix_len();
        let mut left = Vec::new();
        for (number, part) in index.parts().enumerate() {
            // The first header is the mail's own, which is no part of the body.
            if number > 0 {
                left.push(Text::Header(shift(&part.header)));
            }
            if part.kind == Kind::Leaf && part.media_type.starts_with(b"text/") {
                let (span, encoding, charset) = (shift(&part.body), part.encoding, part.charset.into());
                left.push(Text::Body { span, encoding, charset });
            }
        }
        left.reverse();
        BodyScan { left, open: None, scan, octets: Vec::new(), text: String::new() }
    }

    /// Goes on by a piece; false when there is nothing left to be looked at or for.
    pub fn step(&mut self, source: &Source, program: &Program) -> Result<bool> {
        self.octets.clear();
        self.text.clear();
        if let Some((decoding, decoder)) = &mut self.open {
            let more = decoding.next(source, &mut self.octets)?;
            decoder.push(&self.octets, &mut self.text);
            if !more && let Some((_, decoder)) = self.open.take() {
                decoder.finish(&mut self.text);
            }
            return Ok(self.scan.push(program, &self.text));
        }
        self.scan.cut();
        match self.left.pop() {
            None => return Ok(false),
            Some(Text::Header(span)) => {
                source.read(span.start..span.end.min(span.start + HEADER), &mut self.octets)?;
                self.text = header_text(&self.octets);
            }
            Some(Text::Body { span, encoding, charset }) => {
                // What nobody can decode has no text to be found.
                self.open = Decoding::new(span, encoding).map(|decoding| (decoding, TextDecoder::new(&charset)));
            }
        }
        Ok(self.scan.push(program, &self.text))
    }
}

/// A header as text: its fields, decoded, a line each.
pub(super) fn header_text(head: &[u8]) -> String {
    let mut text = String::new();
    for field in fields(head) {
        text.push_str(&String::from_utf8_lossy(field.name));
        text.push_str(": ");
        text.push_str(&words::decode(field.value));
        text.push('\n');
    }
    text
}
