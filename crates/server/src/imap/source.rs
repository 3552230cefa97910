//! The octets of a stored mail: our prefix, then the blob. FETCH and SEARCH read it in pieces; only small mails are ever
//! whole in memory.

use std::ops::Range;

use mailbox::verbs::EmailRow;
use memchr::memmem;
use mime::transfer::Decoder;
use mime::{Cached, Encoding, Indexer, Limits};
use store::{BlobReader, Error, Result, Store};

/// What is read at once.
pub(super) const PIECE: u64 = 64 * 1024;
/// A header is looked at up to here; fields further down are not found.
pub(super) const HEADER: u64 = 256 * 1024;
/// Work on more than this is not done by the store's readers, of which there are few, but by the session, a piece at a
/// time.
pub(super) const LARGE: u64 = 1 << 20;

/// An open mail.
#[derive(Debug)]
pub(super) struct Source {
    prefix: Vec<u8>,
    blob: BlobReader,
}

impl Source {
    /// # Errors
    /// [`Error::Corrupt`] when this mail cannot be read; others may be.
    pub fn open(store: &Store, row: EmailRow) -> Result<Self> {
        Ok(Source { blob: store.blob(row.blob).map_err(of_this_mail)?, prefix: row.prefix })
    }

    /// Octets.
    pub fn len(&self) -> u64 {
        self.prefix_len() + self.blob.len()
    }

    /// Octets of our header fields, which stand before what the index knows.
    pub fn prefix_len(&self) -> u64 {
        self.prefix.len() as u64
    }

    /// Appends the octets of a span, cut at the end.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when this mail cannot be read; others may be.
    pub fn read(&self, span: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        let split = self.prefix_len();
        if span.start < split {
            let of_prefix = span.start as usize..span.end.min(split) as usize;
            out.extend_from_slice(self.prefix.get(of_prefix).unwrap_or_default());
        }
        if span.end > split {
            self.blob.read(span.start.saturating_sub(split), span.end - split, out).map_err(of_this_mail)?;
        }
        Ok(())
    }

    /// Hands over a span in pieces until there is no more, or `take` wants no more.
    pub fn pieces(&self, span: Range<u64>, mut take: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let (mut at, end) = (span.start, span.end.min(self.len()));
        let mut piece = Vec::new();
        while at < end {
            let to = end.min(at + PIECE);
            piece.clear();
            self.read(at..to, &mut piece)?;
            if !take(&piece) {
                return Ok(());
            }
            at = to;
        }
        Ok(())
    }

    /// The header and, as it happens, some of what follows: whoever takes the fields apart stops at the blank line.
    pub fn head(&self) -> Result<Vec<u8>> {
        let (mut head, mut to) = (Vec::new(), self.prefix_len() + 4096);
        loop {
            let from = head.len() as u64;
            self.read(from..to, &mut head)?;
            let seen = &head[from.saturating_sub(3) as usize..];
            let ends = [&b"\r\n\r\n"[..], b"\n\n"].iter().any(|blank| memmem::find(seen, blank).is_some());
            if ends || to >= self.len().min(HEADER) {
                return Ok(head);
            }
            to = (to * 4).min(HEADER);
        }
    }

    /// The index of a mail, made anew where the kept one cannot be read.
    pub fn index_anew(&self) -> Result<Vec<u8>> {
        let mut indexer = Indexer::new(Limits::default());
        self.pieces(self.prefix_len()..self.len(), |piece| {
            indexer.push(piece);
            true
        })?;
        let mut record = Vec::new();
        indexer.finish().encode(&mut record);
        Ok(record)
    }

    /// Opens a kept index, or makes it anew into `again`.
    pub fn index<'a>(&self, kept: &'a [u8], again: &'a mut Vec<u8>) -> Result<Cached<'a>> {
        if let Some(cached) = Cached::new(kept) {
            return Ok(cached);
        }
        *again = self.index_anew()?;
        Cached::new(again).ok_or_else(|| Error::Corrupt("a mail's index cannot be made".into()))
    }
}

/// A bad sector or a pack that was cut off is the trouble of one mail, not of the store.
fn of_this_mail(error: Error) -> Error {
    match error {
        Error::Io(error) => Error::Corrupt(error),
        other => other,
    }
}

/// A span of a mail, decoded a piece at a time.
#[derive(Debug)]
pub(super) struct Decoding {
    left: Range<u64>,
    /// None at the end.
    decoder: Option<Decoder>,
    encoded: Vec<u8>,
}

impl Decoding {
    /// None when nobody knows the encoding.
    pub fn new(span: Range<u64>, encoding: Encoding) -> Option<Self> {
        Some(Decoding { left: span, decoder: Some(Decoder::new(encoding)?), encoded: Vec::new() })
    }

    /// Appends what the next piece decodes to; false when there was none.
    pub fn next(&mut self, source: &Source, out: &mut Vec<u8>) -> Result<bool> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        if self.left.is_empty() {
            self.decoder.take().into_iter().for_each(|decoder| decoder.finish(out));
            return Ok(true);
        }
        let to = self.left.end.min(self.left.start + PIECE);
        self.encoded.clear();
        source.read(self.left.start..to, &mut self.encoded)?;
        self.left.start = to;
        decoder.push(&self.encoded, out);
        Ok(true)
    }
}
