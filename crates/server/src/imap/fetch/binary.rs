//! `BINARY[part]` and `BINARY.SIZE[part]` (RFC 3516): the transfer encoding is taken off. How large that makes a part is
//! only known when it was decoded; a large one is measured and sent by the session, piece by piece.

use std::ops::Range;
use std::sync::Arc;

use imap::{FetchWriter, Partial};
use mime::Encoding;
use store::{Error, Result};

use super::batch::{Mail, Trouble};
use super::output::Output;
use super::section::cut;
use crate::imap::source::{Decoding, Source};

/// An encoded part up to this size is decoded at once.
const AT_ONCE: u64 = 256 * 1024;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Content(Option<Partial>),
    Size,
}

/// A part to be decoded.
#[derive(Debug)]
pub(super) struct Binary {
    pub source: Arc<Source>,
    part: Box<[u32]>,
    form: Form,
    span: Range<u64>,
    encoding: Encoding,
}

/// What a part decodes to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measure {
    octets: u64,
    /// It has to go as a literal8.
    has_nul: bool,
}

impl Measure {
    pub fn add(&mut self, text: &[u8]) {
        self.octets += text.len() as u64;
        self.has_nul |= memchr::memchr(0, text).is_some();
    }
}

impl Binary {
    pub fn encoded_len(&self) -> u64 {
        self.span.end - self.span.start
    }

    pub fn decoding(&self) -> Result<Decoding> {
        Decoding::new(self.span.clone(), self.encoding)
            .ok_or_else(|| Error::Corrupt("an encoding that was known is not".into()))
    }

    /// Writes the item, up to the octets that follow it.
    pub fn write<'a>(&self, fetch: FetchWriter<'a>, measure: &Measure) -> FetchWriter<'a> {
        match self.form {
            Form::Size => fetch.binary_size(&self.part, measure.octets),
            Form::Content(partial) => {
                let follows = self.follows(measure);
                let origin = partial.map(|partial| partial.offset);
                fetch.binary(&self.part, origin, follows.end - follows.start, measure.has_nul)
            }
        }
    }

    /// Which of the decoded octets follow.
    pub fn follows(&self, measure: &Measure) -> Range<u64> {
        match self.form {
            Form::Size => 0..0,
            Form::Content(partial) => cut(0..measure.octets, partial),
        }
    }
}

/// Writes `BINARY[part]<partial>` or `BINARY.SIZE[part]`.
pub(super) fn write(part: &[u32], form: Form, mail: &Mail<'_>, out: &mut Output) -> Result<Option<Trouble>> {
    let Some(source) = &mail.source else { return Err(Error::Corrupt("a mail was not opened".into())) };
    let found = match (part, &mail.cached) {
        ([], _) => Some((0..source.len(), Encoding::Binary)),
        (_, None) => return Err(Error::Corrupt("a mail has no index".into())),
        (_, Some(cached)) => cached.section(part, source.prefix_len()).map(|section| (section.body, section.encoding)),
    };
    let Some((span, encoding)) = found else {
        match form {
            Form::Content(partial) => {
                out.item(|fetch| fetch.no_binary(part, partial.map(|partial| partial.offset)));
            }
            Form::Size => out.item(|fetch| fetch.binary_size(part, 0)),
        }
        return Ok(None);
    };
    let span = span.start..span.end.min(source.len());
    let binary = Binary { source: source.clone(), part: part.into(), form, span, encoding };
    // RFC 3516 §4.3
    let Ok(mut decoding) = binary.decoding() else { return Ok(Some(Trouble::UnknownCte)) };
    if binary.encoded_len() > AT_ONCE {
        out.later(binary);
        return Ok(None);
    }
    let mut text = Vec::new();
    while decoding.next(source, &mut text)? {}
    let mut measure = Measure::default();
    measure.add(&text);
    out.item(|fetch| binary.write(fetch, &measure));
    let follows = binary.follows(&measure);
    out.literal(&text[follows.start as usize..follows.end as usize]);
    Ok(None)
}
