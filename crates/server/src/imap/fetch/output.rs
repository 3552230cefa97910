//! Responses as they are put together: octets, and literals that are named but not yet read.

use std::ops::Range;
use std::sync::Arc;

use imap::{FetchWriter, Writer};
use mime::Encoding;
use store::Result;

use crate::imap::source::Source;

/// A literal up to this size is copied into the batch.
const INLINE: u64 = 64 * 1024;

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Piece {
    Octets(Vec<u8>),
    /// A span of a mail.
    Span {
        source: Arc<Source>,
        span: Range<u64>,
    },
    /// `part` of what a span decodes to.
    Decoded {
        source: Arc<Source>,
        span: Range<u64>,
        encoding: Encoding,
        part: Range<u64>,
    },
}

/// Takes responses.
pub(super) struct Output {
    pieces: Vec<Piece>,
    /// What comes after the pieces.
    octets: Vec<u8>,
    /// Octets in the pieces, read or named.
    before: u64,
    utf8: bool,
    seq: u32,
    first: bool,
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
        Output { pieces: Vec::new(), octets: Vec::new(), before: 0, utf8, seq: 0, first: true }
    }

    /// Octets so far, those that are only named included.
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
        (self.seq, self.first) = (seq, true);
    }

    /// One item of it.
    pub fn item(&mut self, write: impl FnOnce(FetchWriter<'_>) -> FetchWriter<'_>) {
        let mut writer = Writer::new(&mut self.octets, self.utf8);
        let fetch = if self.first { writer.fetch(self.seq) } else { writer.fetch_again() };
        self.first = false;
        write(fetch).leave_open();
    }

    /// The response ends.
    pub fn end(&mut self) {
        Writer::new(&mut self.octets, self.utf8).fetch_again().end();
    }

    /// The octets of a literal that was begun.
    pub fn literal(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// The same, out of a mail.
    pub fn span(&mut self, source: &Arc<Source>, span: Range<u64>) -> Result<()> {
        let length = span.end - span.start;
        if length > INLINE {
            self.named(Piece::Span { source: source.clone(), span }, length);
            return Ok(());
        }
        let from = self.octets.len();
        source.read(span, &mut self.octets)?;
        if (self.octets.len() - from) as u64 == length {
            return Ok(());
        }
        Err(store::Error::Corrupt("a mail is shorter than its index says".into()))
    }

    /// A literal of `length` octets that is read when it is sent.
    pub fn named(&mut self, piece: Piece, length: u64) {
        self.before += self.octets.len() as u64 + length;
        self.pieces.push(Piece::Octets(std::mem::take(&mut self.octets)));
        self.pieces.push(piece);
    }

    pub fn finish(mut self) -> Vec<Piece> {
        self.pieces.push(Piece::Octets(self.octets));
        self.pieces
    }
}
