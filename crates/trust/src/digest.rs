//! What a signature needs of a mail, gathered as it streams by: the header as it is, and a hash of the body.

use crate::canon::{BodyHash, LineEnds};
use crate::dkim2;

/// A header up to this size is kept to be signed; a mail with a larger one goes unsigned.
const MOST: usize = 256 * 1024;

/// Reads a mail once, in chunks of any size, and keeps its header.
pub struct Digest {
    ends: LineEnds,
    at: At,
    /// The body as DKIM2 hashes it, if it is to.
    dkim2: Option<dkim2::BodyHash>,
}

enum At {
    Header(Vec<u8>),
    Body(Vec<u8>, BodyHash),
    /// The header is too large.
    Lost,
}

/// A mail, as far as it is signed.
pub(crate) struct Digested {
    /// With CRLF line ends, without the empty line.
    pub(crate) header: Vec<u8>,
    pub(crate) body: [u8; 32],
}

impl Digest {
    /// Before the first octet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Digest { ends: LineEnds::default(), at: At::Header(Vec::new()), dkim2: None }
    }

    /// Before the first octet of a mail that is to have a `Message-Instance`.
    pub fn with_instance() -> Self {
        Digest { dkim2: Some(dkim2::BodyHash::new()), ..Digest::new() }
    }

    /// The `Message-Instance` of the mail, which is at its end: a whole field, to be put before all others. None where it was not
    /// asked for, or the mail is not to have one.
    pub fn instance(&self) -> Option<String> {
        let header = match &self.at {
            At::Header(header) | At::Body(header, _) => header,
            At::Lost => return None,
        };
        dkim2::instance(header, self.dkim2.clone()?)
    }

    /// The next octets of the mail, as they will go out.
    pub fn push(&mut self, bytes: &[u8]) {
        let Digest { ends, at, dkim2 } = self;
        ends.push(bytes, |piece| {
            if let (At::Body(..), Some(hash)) = (&*at, &mut *dkim2) {
                hash.push(piece);
            }
            at.take(piece);
        });
    }

    /// The mail is at its end.
    pub(crate) fn finish(self) -> Option<Digested> {
        match self.at {
            At::Header(header) => Some(Digested { header, body: BodyHash::new().finish() }),
            At::Body(header, hash) => Some(Digested { header, body: hash.finish() }),
            At::Lost => None,
        }
    }
}

impl At {
    /// A piece of a line, or its whole end.
    fn take(&mut self, piece: &[u8]) {
        match self {
            At::Header(header) if piece == b"\r\n" && (header.is_empty() || header.ends_with(b"\r\n")) => {
                *self = At::Body(std::mem::take(header), BodyHash::new());
            }
            At::Header(header) if header.len() + piece.len() > MOST => *self = At::Lost,
            At::Header(header) => header.extend_from_slice(piece),
            At::Body(_, hash) => hash.push(piece),
            At::Lost => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_body_part_at_the_first_empty_line() {
        for (mail, header) in [
            (&b"A: b\r\nC: d\r\n\r\nE: f\r\n"[..], &b"A: b\r\nC: d\r\n"[..]),
            (b"\r\nbody", b""),
            (b"A: b\r\n", b"A: b\r\n"),
            (b"A: b\n\nbody", b"A: b\r\n"),
            (b"A: b\r\rbody", b"A: b\r\n"),
        ] {
            for cut in 1..=mail.len() {
                let mut digest = Digest::new();
                mail.chunks(cut).for_each(|part| digest.push(part));
                assert_eq!(digest.finish().unwrap().header, header, "{}", mail.escape_ascii());
            }
        }
        let mut digest = Digest::new();
        (0..MOST / 4).for_each(|_| digest.push(b"A:b\r\n"));
        assert!(digest.finish().is_none());
    }
}
