//! What a FETCH asks for, looked at once and not for every message.

use imap::{Fetch, FetchAttr, FetchWriter, SectionText, Writer};
use mailbox::{Entry, Keywords};

use crate::imap::tell::names;

/// What is written for each message, and what has to be read for it.
pub(super) struct Plan {
    /// In the client's order; with UID and MODSEQ where the command implies them.
    pub items: Vec<FetchAttr>,
    /// FLAGS is among the items.
    pub has_flags: bool,
    /// Fetching it marks messages `\Seen`.
    pub marks_seen: bool,
    /// The client asked for MODSEQs, and so turns CONDSTORE on.
    pub uses_mod_seqs: bool,
    /// Strings may be UTF-8.
    pub utf8: bool,
    /// The mail's row: its dates, where its octets are.
    pub needs_row: bool,
    /// The octets themselves.
    pub needs_octets: bool,
    /// The MIME index.
    pub needs_index: bool,
    /// When it came into this mailbox.
    pub needs_saved: bool,
}

impl Plan {
    pub fn new(fetch: &Fetch, uid: bool, utf8: bool) -> Self {
        let mut items: Vec<FetchAttr> = Vec::with_capacity(fetch.attrs.len());
        for item in &fetch.attrs {
            // What is asked for twice is told once.
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        let uses_mod_seqs = fetch.changed_since.is_some() || items.contains(&FetchAttr::ModSeq);
        // RFC 9051 §6.4.9: every response of a UID command has the UID.
        if uid && !items.contains(&FetchAttr::Uid) {
            items.insert(0, FetchAttr::Uid);
        }
        // RFC 7162 §3.1.4.1
        if fetch.changed_since.is_some() && !items.contains(&FetchAttr::ModSeq) {
            items.push(FetchAttr::ModSeq);
        }
        let needs_octets = items.iter().any(needs_octets);
        Plan {
            has_flags: items.contains(&FetchAttr::Flags),
            marks_seen: items.iter().any(FetchAttr::marks_seen),
            uses_mod_seqs,
            utf8,
            needs_row: needs_octets || items.contains(&FetchAttr::InternalDate),
            needs_octets,
            needs_index: items.iter().any(needs_index),
            needs_saved: items.contains(&FetchAttr::SaveDate),
            items,
        }
    }

    /// More is asked for than the mailbox's index knows.
    pub fn reads_store(&self) -> bool {
        self.needs_row || self.needs_index || self.needs_saved
    }

    /// A whole response out of the mailbox's index.
    pub fn write_index_items(&self, out: &mut Vec<u8>, seq: u32, entry: &Entry, keywords: &Keywords) {
        let mut writer = Writer::new(out, self.utf8);
        let mut fetch = writer.fetch(seq);
        for item in &self.items {
            fetch = write_index_item(fetch, item, entry, keywords);
        }
        fetch.end();
    }
}

/// Writes an item that the mailbox's index knows; another one not at all.
pub(super) fn write_index_item<'a>(
    fetch: FetchWriter<'a>,
    item: &FetchAttr,
    entry: &Entry,
    keywords: &Keywords,
) -> FetchWriter<'a> {
    match item {
        FetchAttr::Flags => fetch.flags(names(entry.flags, keywords)),
        FetchAttr::Uid => fetch.uid(entry.uid),
        FetchAttr::Rfc822Size => fetch.size(entry.octets.into()),
        FetchAttr::ModSeq => fetch.mod_seq(entry.modseq),
        FetchAttr::EmailId => fetch.email_id(format!("M{}", entry.email)),
        // RFC 8474 §5.2: NIL where no threads are kept.
        FetchAttr::ThreadId => fetch.thread_id(None),
        _ => fetch,
    }
}

fn needs_octets(item: &FetchAttr) -> bool {
    matches!(
        item,
        FetchAttr::Rfc822
            | FetchAttr::Rfc822Header
            | FetchAttr::Rfc822Text
            | FetchAttr::Section { .. }
            | FetchAttr::Binary { .. }
            | FetchAttr::BinarySize { .. }
    )
}

/// All of a message, and fields of its header, are found without the MIME index.
fn needs_index(item: &FetchAttr) -> bool {
    match item {
        FetchAttr::Section { section, .. } if section.part.is_empty() => {
            matches!(section.text, SectionText::Header | SectionText::Text | SectionText::Mime)
        }
        FetchAttr::Binary { part, .. } | FetchAttr::BinarySize { part } => !part.is_empty(),
        FetchAttr::Section { .. }
        | FetchAttr::Rfc822Header
        | FetchAttr::Rfc822Text
        | FetchAttr::Envelope
        | FetchAttr::Body
        | FetchAttr::BodyStructure => true,
        _ => false,
    }
}
