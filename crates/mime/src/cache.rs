//! The cache record: an [`Index`] as bytes that FETCH answers from without parsing them.
//!
//! Written once when a mail arrives, read by every FETCH of its structure or parts. [`Cached`] checks the record's shape
//! when it opens it, so that bytes from a damaged store give None; it does not check that the texts in it are true.
//!
//! All numbers are little-endian. Layout: version (1 byte), the lengths of ENVELOPE, BODYSTRUCTURE and BODY and the count of
//! parts (4 bytes each), the rows of the parts ([`ROW`] bytes each), the three texts, the media types and charsets that
//! the rows point to.

use std::ops::Range;

use crate::content::Encoding;
use crate::part::{Index, Kind, Part};

/// Changes with the layout and with the meaning of what is in it; a record of another version is no record.
const VERSION: u8 = 2;
const HEAD: usize = 17;
/// header, body, end: u64; next, names' place, media type's length, charset's length: u32; kind, encoding: u8.
const ROW: usize = 42;

const KINDS: [Kind; 3] = [Kind::Leaf, Kind::Multipart, Kind::Message];
const ENCODINGS: [Encoding; 6] = [
    Encoding::SevenBit,
    Encoding::EightBit,
    Encoding::Binary,
    Encoding::Base64,
    Encoding::QuotedPrintable,
    Encoding::Unknown,
];

impl Index {
    /// Appends the cache record, which [`Cached::new`] opens.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + HEAD + ROW * self.parts.len(), 0);
        let texts = out.len();
        out.extend_from_slice(self.envelope());
        let envelope = out.len();
        self.write_structure(true, out);
        let structure = out.len();
        self.write_structure(false, out);
        let names = out.len();
        for (number, part) in self.parts.iter().enumerate() {
            let place = out.len() - names;
            let row = encode_row(part, place, out);
            let at = start + HEAD + ROW * number;
            out[at..at + ROW].copy_from_slice(&row);
        }
        let numbers = [envelope - texts, structure - envelope, names - structure, self.parts.len()];
        out[start] = VERSION;
        for (at, number) in (start + 1..).step_by(4).zip(numbers) {
            out[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
        }
    }
}

/// The row of a part, whose names are appended to `out`, `place` bytes behind the first.
fn encode_row(part: &Part, place: usize, out: &mut Vec<u8>) -> [u8; ROW] {
    let content = &part.content;
    let charset = content.param("charset").unwrap_or_default();
    let media = content.main.len() + 1 + content.sub.len();
    for piece in [&content.main[..], b"/", &content.sub, charset] {
        out.extend_from_slice(piece);
    }
    let mut row = [0; ROW];
    for (at, number) in (0..).step_by(8).zip([part.header, part.body, part.end]) {
        row[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    for (at, number) in (24..).step_by(4).zip([part.next, place, media, charset.len()]) {
        row[at..at + 4].copy_from_slice(&(number as u32).to_le_bytes());
    }
    row[40] = KINDS.iter().position(|k| *k == part.kind).unwrap_or_default() as u8;
    row[41] = ENCODINGS.iter().position(|e| *e == content.encoding).unwrap_or_default() as u8;
    row
}

/// A cache record, opened where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    envelope: &'a [u8],
    structure: &'a [u8],
    body: &'a [u8],
    rows: &'a [[u8; ROW]],
    names: &'a [u8],
}

/// A part, as a search or BINARY needs it. Offsets count from the message's first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartView<'a> {
    /// What it is made of.
    pub kind: Kind,
    /// How its body is encoded.
    pub encoding: Encoding,
    /// `text/plain`, in lower case.
    pub media_type: &'a [u8],
    /// The charset parameter, empty when there is none.
    pub charset: &'a [u8],
    /// The header, its blank line included.
    pub header: Range<u64>,
    /// The body.
    pub body: Range<u64>,
}

/// Where a section of RFC 9051 §6.4.5.1 is in the stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// `BODY[1.MIME]`: the part's own header, its blank line included.
    pub mime: Range<u64>,
    /// `BODY[1]`: the part's content, still encoded. For the empty path `BODY[]`: the whole message.
    pub body: Range<u64>,
    /// How `body` is encoded, for BINARY (RFC 3516). Identity for multiparts and messages.
    pub encoding: Encoding,
    /// Of the empty path, or a part that is a message: its header and text.
    pub message: Option<MessageSpans>,
}

/// `BODY[HEADER]` and `BODY[TEXT]`, or `BODY[1.HEADER]` and `BODY[1.TEXT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSpans {
    /// The header, its blank line included.
    pub header: Range<u64>,
    /// What is behind it.
    pub text: Range<u64>,
}

/// A row, read.
#[derive(Clone, Copy)]
struct Row {
    kind: Kind,
    encoding: Encoding,
    header: u64,
    body: u64,
    end: u64,
    next: usize,
    place: usize,
    media: usize,
    charset: usize,
}

impl Row {
    fn read(bytes: &[u8; ROW]) -> Option<Row> {
        Some(Row {
            header: long(bytes, 0)?,
            body: long(bytes, 8)?,
            end: long(bytes, 16)?,
            next: short(bytes, 24)?,
            place: short(bytes, 28)?,
            media: short(bytes, 32)?,
            charset: short(bytes, 36)?,
            kind: *KINDS.get(usize::from(bytes[40]))?,
            encoding: *ENCODINGS.get(usize::from(bytes[41]))?,
        })
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn short(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)).ok()
}

impl<'a> Cached<'a> {
    /// Opens a record. None if it is of another version or not whole: then the message must be indexed anew.
    pub fn new(record: &'a [u8]) -> Option<Self> {
        if *record.first()? != VERSION {
            return None;
        }
        let [envelope, structure, body, parts] =
            [short(record, 1)?, short(record, 5)?, short(record, 9)?, short(record, 13)?];
        let (rows, rest) = record.get(HEAD..)?.split_at_checked(parts.checked_mul(ROW)?)?;
        let (envelope, rest) = rest.split_at_checked(envelope)?;
        let (structure, rest) = rest.split_at_checked(structure)?;
        let (body, names) = rest.split_at_checked(body)?;
        let cached = Cached { envelope, structure, body, rows: rows.as_chunks().0, names };
        cached.is_sound().then_some(cached)
    }

    /// Spans rise, a part's parts follow it and end where it ends, names are in the record. What this establishes the
    /// methods below rely on.
    fn is_sound(&self) -> bool {
        let mut names_end = 0;
        let sound = (0..self.rows.len()).all(|number| {
            let Some(row) = self.row(number) else { return false };
            let in_place = row.place == names_end;
            names_end = row.place.saturating_add(row.media).saturating_add(row.charset);
            let inside = if number == 0 { row.next == self.rows.len() } else { row.next <= self.rows.len() };
            let parts = row.next.checked_sub(number + 1);
            let shape = match row.kind {
                Kind::Leaf => parts == Some(0),
                Kind::Multipart | Kind::Message => parts.is_some_and(|n| n > 0),
            };
            in_place && inside && shape && row.header <= row.body && row.body <= row.end
        });
        sound && !self.rows.is_empty() && names_end == self.names.len()
    }

    /// ENVELOPE, as FETCH sends it.
    pub fn envelope(&self) -> &'a [u8] {
        self.envelope
    }

    /// BODYSTRUCTURE, as FETCH sends it.
    pub fn body_structure(&self) -> &'a [u8] {
        self.structure
    }

    /// BODY, which is BODYSTRUCTURE without extension data, as FETCH sends it.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// All parts, each before those inside it.
    pub fn parts(&self) -> impl Iterator<Item = PartView<'a>> {
        let names = self.names;
        self.rows.iter().filter_map(move |bytes| {
            let row = Row::read(bytes)?;
            let (media_type, rest) = names.get(row.place..)?.split_at_checked(row.media)?;
            Some(PartView {
                kind: row.kind,
                encoding: row.encoding,
                media_type,
                charset: rest.get(..row.charset)?,
                header: row.header..row.body,
                body: row.body..row.end,
            })
        })
    }

    /// Finds a section by its part numbers, which count from 1; no numbers mean the message itself.
    ///
    /// `prefix` is the length of the header fields that were stored before the indexed bytes (`Return-Path`,
    /// `Received`, …): spans count from the prefix's first byte, and the message's header includes it.
    ///
    /// None where no such part is. RFC 9051 §6.4.5.1: "every message has at least one part number": a message that is no
    /// multipart has its body as part 1, one inside a `message/rfc822` part too; a multipart directly inside such a part
    /// has no number of its own.
    pub fn section(&self, path: &[u32], prefix: u64) -> Option<Section> {
        let Some((first, rest)) = path.split_first() else {
            let message = self.message_spans(0, prefix)?;
            let whole = message.header.start..message.text.end;
            return Some(Section {
                mime: message.header.clone(),
                body: whole,
                encoding: Encoding::SevenBit,
                message: Some(message),
            });
        };
        let mut number = self.part_of_entity(0, *first)?;
        for wanted in rest {
            number = match self.row(number)?.kind {
                Kind::Leaf => return None,
                Kind::Multipart => self.child(number, *wanted)?,
                Kind::Message => self.part_of_entity(number + 1, *wanted)?,
            };
        }
        let row = self.row(number)?;
        let message = match row.kind {
            Kind::Message => Some(self.message_spans(number + 1, prefix)?),
            Kind::Leaf | Kind::Multipart => None,
        };
        let encoding = if row.kind == Kind::Leaf { row.encoding } else { Encoding::SevenBit };
        Some(Section {
            mime: self.header_span(number, prefix)?,
            body: shift(row.body..row.end, prefix),
            encoding,
            message,
        })
    }

    fn row(&self, number: usize) -> Option<Row> {
        Row::read(self.rows.get(number)?)
    }

    /// Part `wanted` of a message, whose outermost part is `entity`.
    fn part_of_entity(&self, entity: usize, wanted: u32) -> Option<usize> {
        match self.row(entity)?.kind {
            Kind::Multipart => self.child(entity, wanted),
            Kind::Leaf | Kind::Message => (wanted == 1).then_some(entity),
        }
    }

    /// Part `wanted` of a multipart.
    fn child(&self, multipart: usize, wanted: u32) -> Option<usize> {
        let end = self.row(multipart)?.next;
        let mut child = multipart + 1;
        for _ in 1..wanted {
            // `next` is always above its own part's number, so that this ends.
            child = self.row(child)?.next;
            if child >= end {
                return None;
            }
        }
        (wanted > 0 && child < end).then_some(child)
    }

    /// The header of part 0 begins with the prefix.
    fn header_span(&self, number: usize, prefix: u64) -> Option<Range<u64>> {
        let row = self.row(number)?;
        let span = shift(row.header..row.body, prefix);
        Some(if number == 0 { 0..span.end } else { span })
    }

    fn message_spans(&self, entity: usize, prefix: u64) -> Option<MessageSpans> {
        let row = self.row(entity)?;
        Some(MessageSpans { header: self.header_span(entity, prefix)?, text: shift(row.body..row.end, prefix) })
    }
}

fn shift(span: Range<u64>, prefix: u64) -> Range<u64> {
    span.start.saturating_add(prefix)..span.end.saturating_add(prefix)
}
