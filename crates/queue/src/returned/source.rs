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
/// Mails that a report returns; more are not looked at.
const MAX_RETURNED: usize = 3;
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
        Ok(self.returned()?.iter().find_map(|header| header.message_id("Message-ID")))
    }

    /// The headers of the mails that are returned: of the first [`MAX_RETURNED`].
    pub fn returned(&mut self) -> Result<Vec<Header>> {
        let mut headers = Vec::new();
        for part in self.parts() {
            if part.kind == Kind::Message {
                // The message inside is the next part.
                let inside = self.index.parts().iter().find(|inner| inner.header == part.body);
                headers.extend(inside.map(|inner| self.header(inner)).transpose()?);
            } else if HEADERS.iter().any(|(main, sub)| part.content.is(main, sub)) {
                headers.push(Header(self.content(part)?));
            }
            if headers.len() == MAX_RETURNED {
                break;
            }
        }
        Ok(headers)
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

    /// The mails that it answers: the one that it says, or where it says none the last and the first of the thread.
    pub fn thread(&self) -> Vec<String> {
        if let Some(id) = self.message_id("In-Reply-To") {
            return vec![id];
        }
        let value = header::find(&self.0, b"References").map_or(&b""[..], |field| field.value);
        let last = header::message_ids(value).last().and_then(known);
        let mut all: Vec<String> = last.into_iter().chain(self.message_id("References")).collect();
        all.dedup();
        all
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
    known(header::message_ids(header::find(block, name.as_bytes())?.value).next()?)
}

fn known(id: &[u8]) -> Option<String> {
    (id.len() < 998).then(|| String::from_utf8_lossy(id).into_owned())
}

/// Whatever has the form of an address in some octets, and is `wanted`.
pub(super) fn addresses_in(octets: &[u8], wanted: impl Fn(&Address) -> bool) -> impl Iterator<Item = Address> {
    let words = octets.split(|b| !b.is_ascii_alphanumeric() && !b"+.-@".contains(b));
    let words = words.filter(|word| word.contains(&b'@') && word.len() <= 320);
    let addresses = words.filter_map(|word| Address::parse(std::str::from_utf8(word).ok()?.trim_end_matches('.')).ok());
    addresses.filter(move |address| wanted(address))
}

/// The mailboxes of a field of addresses, at most so many.
pub(super) fn mailboxes(block: &[u8], name: &str, most: usize) -> Vec<Address> {
    let value = header::find(block, name.as_bytes()).map_or(&b""[..], |field| field.value);
    addresses(value).take(most).filter_map(mailbox).collect()
}

fn mailbox(entry: Entry<'_>) -> Option<Address> {
    match entry {
        Entry::Mailbox(mailbox) => {
            Address::new(&String::from_utf8_lossy(&mailbox.local), &String::from_utf8_lossy(&mailbox.domain)).ok()
        }
        _ => None,
    }
}

/// The first address in a field's value.
pub(super) fn address(value: &str) -> Option<Address> {
    addresses(value.as_bytes()).take(5).find_map(mailbox)
}

/// `rfc822; jo@x.test`, or without its type.
pub(super) fn typed(value: &str) -> &str {
    match value.split_once(';') {
        Some((kind, rest)) if !kind.contains(char::is_whitespace) => rest.trim(),
        _ => value,
    }
}
