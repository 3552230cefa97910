//! Responses as they are put together: octets, and what is read only when it is sent.

use std::ops::Range;
use std::sync::Arc;

use imap::{FetchWriter, Writer};
use store::Result;

use super::binary::Binary;
use crate::imap::source::Source;

/// A literal up to this size is copied into the batch.
const INLINE: u64 = 64 * 1024;

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Piece {
    Octets(Vec<u8>),
    /// A span of a mail: the octets of a literal.
    Span {
        source: Arc<Source>,
        span: Range<u64>,
    },
    /// A whole item, whose size is not known yet.
    Binary(Box<Later>),
}

/// An item that is measured and written when it is sent.
#[derive(Debug)]
pub(super) struct Later {
    pub binary: Binary,
    pub utf8: bool,
    /// The message's number, for the first item of its response.
    pub first: Option<u32>,
}

/// Writes an item: `first` is the message's number where the item begins a response.
pub(super) fn write_item(
    octets: &mut Vec<u8>,
    utf8: bool,
    first: Option<u32>,
    write: impl FnOnce(FetchWriter<'_>) -> FetchWriter<'_>,
) {
    let mut writer = Writer::new(octets, utf8);
    let fetch = match first {
        Some(seq) => writer.fetch(seq),
        None => writer.fetch_again(),
    };
    write(fetch).leave_open();
}

/// What a literal cannot hold is NUL (RFC 9051 §9, `CHAR8`): 0x80 takes its place, so that the length stays. BINARY sends
/// what is really there.
pub(super) fn mask_nul(octets: &mut [u8]) {
    let mut at = 0;
    while let Some(nul) = memchr::memchr(0, &octets[at..]) {
        octets[at + nul] = 0x80;
        at += nul + 1;
    }
}

/// Takes responses.
pub(super) struct Output {
    pieces: Vec<Piece>,
    /// What comes after the pieces.
    octets: Vec<u8>,
    /// Octets in the pieces, read or not.
    before: u64,
    utf8: bool,
    /// The number of a message whose response has no item yet.
    first: Option<u32>,
}

/// A place to go back to.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pieces: usize,
    octets: usize,
    before: u64,
}

impl Output {
    pub fn new(utf8: bool) -> Self {
        Output { pieces: Vec::new(), octets: Vec::new(), before: 0, utf8, first: None }
    }

    /// Octets so far, those that are not read yet included.
    pub fn weight(&self) -> u64 {
        self.before + self.octets.len() as u64
    }

    pub fn mark(&self) -> Mark {
        Mark { pieces: self.pieces.len(), octets: self.octets.len(), before: self.before }
    }

    /// Takes back what came since.
    pub fn back_to(&mut self, mark: Mark) {
        if let Some(Piece::Octets(octets)) = self.pieces.get_mut(mark.pieces) {
            self.octets = std::mem::take(octets);
        }
        self.pieces.truncate(mark.pieces);
        self.octets.truncate(mark.octets);
        self.before = mark.before;
    }

    /// A response begins.
    pub fn begin(&mut self, seq: u32) {
        self.first = Some(seq);
    }

    /// One item of it.
    pub fn item(&mut self, write: impl FnOnce(FetchWriter<'_>) -> FetchWriter<'_>) {
        write_item(&mut self.octets, self.utf8, self.first.take(), write);
    }

    /// The response ends.
    pub fn end(&mut self) {
        Writer::new(&mut self.octets, self.utf8).fetch_again().end();
    }

    /// The octets of a literal that was begun, as they are: none is NUL, or it is a literal8.
    pub fn literal(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// The same, out of a mail.
    pub fn span(&mut self, source: &Arc<Source>, span: Range<u64>) -> Result<()> {
        let length = span.end - span.start;
        if length > INLINE {
            self.push(Piece::Span { source: source.clone(), span }, length);
            return Ok(());
        }
        let from = self.octets.len();
        source.read(span, &mut self.octets)?;
        mask_nul(&mut self.octets[from..]);
        if (self.octets.len() - from) as u64 == length {
            return Ok(());
        }
        Err(store::Error::Corrupt("a mail is shorter than its index says".into()))
    }

    /// An item that is written later.
    pub fn later(&mut self, binary: Binary) {
        let (length, first) = (binary.encoded_len(), self.first.take());
        self.push(Piece::Binary(Box::new(Later { binary, utf8: self.utf8, first })), length);
    }

    fn push(&mut self, piece: Piece, length: u64) {
        self.before += self.octets.len() as u64 + length;
        self.pieces.push(Piece::Octets(std::mem::take(&mut self.octets)));
        self.pieces.push(piece);
    }

    pub fn finish(mut self) -> Vec<Piece> {
        self.pieces.push(Piece::Octets(self.octets));
        self.pieces
    }
}
