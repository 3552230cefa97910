//! `BINARY[part]` and `BINARY.SIZE[part]` (RFC 3516): the transfer encoding is taken off.

use std::ops::Range;
use std::sync::Arc;

use imap::Partial;
use mime::Encoding;
use store::{Error, Result};

use super::batch::{Mail, Trouble};
use super::output::{Output, Piece};
use super::section::cut;
use crate::imap::source::Source;

/// What decodes to no more than this is kept while it is counted.
const KEPT: usize = 64 * 1024;

/// A part, decoded once to see how large it is.
struct Decoded {
    source: Arc<Source>,
    span: Range<u64>,
    encoding: Encoding,
    octets: u64,
    /// There is a NUL in it: it has to go as a literal8.
    has_nul: bool,
    /// All of it, if it is small.
    whole: Vec<u8>,
}

/// What is found at a part's number.
enum Found {
    Part(Decoded),
    None,
    Unknown,
}

fn find(part: &[u32], mail: &Mail<'_>) -> Result<Found> {
    let Some(source) = &mail.source else { return Err(Error::Corrupt("a mail was not opened".into())) };
    let (span, encoding) = match (part, &mail.cached) {
        ([], _) => (0..source.len(), Encoding::Binary),
        (_, None) => return Err(Error::Corrupt("a mail has no index".into())),
        (_, Some(cached)) => match cached.section(part, source.prefix_len()) {
            Some(section) => (section.body, section.encoding),
            None => return Ok(Found::None),
        },
    };
    let (mut octets, mut has_nul, mut whole) = (0, false, Vec::new());
    let decoded = source.decoded(span.clone(), encoding, |text| {
        octets += text.len() as u64;
        has_nul |= memchr::memchr(0, text).is_some();
        if octets <= KEPT as u64 {
            whole.extend_from_slice(text);
        }
        true
    })?;
    Ok(match decoded {
        Some(()) => Found::Part(Decoded { source: source.clone(), span, encoding, octets, has_nul, whole }),
        None => Found::Unknown,
    })
}

/// Writes `BINARY[part]<partial>`.
pub(super) fn write(
    part: &[u32],
    partial: Option<Partial>,
    mail: &Mail<'_>,
    out: &mut Output,
) -> Result<Option<Trouble>> {
    let origin = partial.map(|partial| partial.offset);
    let found = match find(part, mail)? {
        Found::Part(found) => found,
        Found::None => {
            out.item(|fetch| fetch.no_binary(part, origin));
            return Ok(None);
        }
        // RFC 3516 §4.3
        Found::Unknown => return Ok(Some(Trouble::UnknownCte)),
    };
    let wanted = cut(0..found.octets, partial);
    let length = wanted.end - wanted.start;
    out.item(|fetch| fetch.binary(part, origin, length, found.has_nul));
    if found.octets <= KEPT as u64 {
        out.literal(&found.whole[wanted.start as usize..wanted.end as usize]);
    } else {
        let Decoded { source, span, encoding, .. } = found;
        out.named(Piece::Decoded { source, span, encoding, part: wanted }, length);
    }
    Ok(None)
}

/// Writes `BINARY.SIZE[part]`; of a part that is not there, 0.
pub(super) fn write_size(part: &[u32], mail: &Mail<'_>, out: &mut Output) -> Result<Option<Trouble>> {
    let octets = match find(part, mail)? {
        Found::Part(found) => found.octets,
        Found::None => 0,
        Found::Unknown => return Ok(Some(Trouble::UnknownCte)),
    };
    out.item(|fetch| fetch.binary_size(part, octets));
    Ok(None)
}
