//! The part table: every entity of a message, in the order of its beginning.
//!
//! Made by [`crate::Indexer`]; read to render BODYSTRUCTURE and to write the cache record.

use crate::content::Content;
use crate::render;

/// What a part is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes; also what was too deep or too much to look into, or encoded where that is not allowed.
    Leaf,
    /// `multipart/*`: one part after the other. Never empty: without a single boundary it is a leaf of text.
    Multipart,
    /// `message/rfc822` or `message/global`: one part, the message inside.
    Message,
}

/// One entity. All offsets count from the first byte that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is made of.
    pub kind: Kind,
    /// Where its header begins: the MIME header, or the message's for part 0 and for the part inside a `Message`.
    pub header: u64,
    /// Where its body begins, behind the blank line.
    pub body: u64,
    /// Where its body ends; the line end before a boundary belongs to the boundary (RFC 2046 §5.1.1).
    pub end: u64,
    /// LFs in the body: IMAP's size in lines.
    pub lines: u64,
    /// The number of the first part that is not inside this one.
    pub next: usize,
    /// What the part says of itself.
    pub content: Content,
    /// The rendered ENVELOPE, for part 0 and for the part inside a `Message`.
    pub envelope: Option<Vec<u8>>,
}

impl Part {
    /// Octets in the body.
    pub fn octets(&self) -> u64 {
        self.end - self.body
    }
}

/// What [`crate::Indexer`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// In pre-order, part 0 is the message; never empty.
    pub(crate) parts: Vec<Part>,
}

impl Index {
    /// Every part before the parts inside it; the first is the message itself.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The message's ENVELOPE (RFC 9051 §7.5.2), as FETCH sends it.
    pub fn envelope(&self) -> &[u8] {
        self.parts[0].envelope.as_deref().unwrap_or_default()
    }

    /// Appends BODYSTRUCTURE (RFC 9051 §7.5.2), or BODY, which lacks the extension data, if not `extended`.
    pub fn write_structure(&self, extended: bool, out: &mut Vec<u8>) {
        render::structure(&self.parts, extended, out);
    }
}
