//! The parts of a mail, read a little of each.

use std::ops::Range;

use base::Address;
use mime::address::{Entry, addresses};
use mime::charset::to_utf8;
use mime::transfer::Decoder;
use mime::{Index, Kind, Part, header, words};
use store::Result;

use super::About;

/// Octets read of a header or a body.
const MAX_PART: u64 = 64 << 10;
/// Octets kept of a field.
const MAX_FIELD: usize = 2000;

/// A mail that came back.
pub(super) struct Source<'a, F> {
    index: &'a Index,
    fetch: F,
}

impl<'a, F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>> Source<'a, F> {
    pub fn new(index: &'a Index, fetch: F) -> Self {
        Source { index, fetch }
    }

    /// The parts that the writer of the mail wrote: not those inside a message that is returned in it.
    pub fn parts(&self) -> impl Iterator<Item = &'a Part> + use<'a, F> {
        let parts = self.index.parts();
        let mut at = 0;
        std::iter::from_fn(move || {
            let part = parts.get(at)?;
            at = if part.kind == Kind::Message { part.next } else { at + 1 };
            Some(part)
        })
    }

    /// The first part with one of the types.
    pub fn find(&self, types: &[(&str, &str)]) -> Option<&'a Part> {
        self.parts().find(|part| types.iter().any(|(main, sub)| part.content.is(main, sub)))
    }

    /// The mail itself.
    pub fn top(&self) -> &'a Part {
        &self.index.parts()[0]
    }

    /// The header of a part.
    pub fn header(&mut self, part: &Part) -> Result<Header> {
        Ok(Header(self.octets(part.header..part.body)?))
    }

    /// The content of a part, decoded; of what nobody can decode nothing.
    pub fn content(&mut self, part: &Part) -> Result<Vec<u8>> {
        let encoded = self.octets(part.body..part.end)?;
        let mut content = Vec::new();
        if let Some(mut decoder) = Decoder::new(part.content.encoding) {
            decoder.push(&encoded, &mut content);
            decoder.finish(&mut content);
        }
        Ok(content)
    }

    /// The content of a part as text.
    pub fn text(&mut self, part: &Part) -> Result<String> {
        Ok(to_utf8(part.content.param("charset").unwrap_or_default(), &self.content(part)?))
    }

    /// The Message-ID of the mail that is returned, whole or its header.
    pub fn message_id(&mut self) -> Result<Option<String>> {
        for part in self.parts() {
            let header = if part.kind == Kind::Message {
                // The message inside is the next part.
                let inside = self.index.parts().iter().find(|inner| inner.header == part.body);
                inside.map_or(Ok(Header(Vec::new())), |inner| self.header(inner))?
            } else if HEADERS.iter().any(|(main, sub)| part.content.is(main, sub)) {
                Header(self.content(part)?)
            } else {
                continue;
            };
            if let Some(id) = header.message_id("Message-ID") {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    fn octets(&mut self, span: Range<u64>) -> Result<Vec<u8>> {
        let mut octets = Vec::new();
        (self.fetch)(span.start..span.end.min(span.start + MAX_PART), &mut octets)?;
        Ok(octets)
    }
}

/// RFC 6522 §4, RFC 6533 §3.
const HEADERS: [(&str, &str); 2] = [("text", "rfc822-headers"), ("message", "global-headers")];

/// Header fields, or those of a report.
pub(super) struct Header(pub Vec<u8>);

impl Header {
    /// A field as text, encoded words decoded; at most [`MAX_FIELD`] octets. None also when it is empty.
    pub fn field(&self, name: &str) -> Option<String> {
        field(&self.0, name)
    }

    /// The first Message-ID in a field.
    pub fn message_id(&self, name: &str) -> Option<String> {
        message_id(&self.0, name)
    }

    /// What the mail answers.
    pub fn answers(&self) -> About {
        About { message_id: self.message_id("In-Reply-To").or(self.message_id("References")), envelope_id: None }
    }
}

/// As [`Header::field`].
pub(super) fn field(block: &[u8], name: &str) -> Option<String> {
    let value = header::find(block, name.as_bytes())?.value;
    let mut text = words::decode(&value[..value.len().min(MAX_FIELD)]);
    text.truncate(text.floor_char_boundary(MAX_FIELD));
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

/// As [`Header::message_id`].
pub(super) fn message_id(block: &[u8], name: &str) -> Option<String> {
    let id = header::message_ids(header::find(block, name.as_bytes())?.value).next()?;
    (id.len() < 998).then(|| String::from_utf8_lossy(id).into_owned())
}

/// The first address in a field's value.
pub(super) fn address(value: &str) -> Option<Address> {
    addresses(value.as_bytes()).take(5).find_map(|entry| match entry {
        Entry::Mailbox(mailbox) => {
            Address::new(&String::from_utf8_lossy(&mailbox.local), &String::from_utf8_lossy(&mailbox.domain)).ok()
        }
        _ => None,
    })
}

/// `rfc822; jo@x.test`, or without its type.
pub(super) fn typed(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.contains(char::is_whitespace) => rest.trim(),
        _ => value,
    }
}
