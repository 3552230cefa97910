//! A batch of FETCH responses, made by a reader thread of the store: rows, index and small literals become octets; where
//! a literal is large, the batch only says which octets follow.

use std::sync::Arc;
use std::time::Instant;

use base::{AccountId, MailboxId, Timestamp};
use imap::{Code, FetchAttr, Section, SectionText};
use mailbox::verbs;
use mailbox::{Entry, Keywords};
use mime::Cached;
use store::{Error, Result, Store, Tx};

use super::binary;
use super::output::{Output, Piece};
use super::plan::{Plan, write_index_item};
use super::section::{self, Form};
use crate::imap::no::No;
use crate::imap::source::Source;
use crate::imap::{PIECE, TURN};

/// A message to be fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub seq: u32,
    /// With the flags as they are now.
    pub entry: Entry,
    /// This FETCH made it `\Seen`, and says so.
    pub marked: bool,
}

/// Responses ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub pieces: Vec<Piece>,
    /// So many items of the chunk are done.
    pub done: usize,
    pub trouble: Option<Trouble>,
}

/// Why some messages were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// They are gone, which could not be told yet.
    Gone,
    /// They cannot be read.
    Corrupt,
    /// A transfer encoding nobody knows (RFC 3516 §4.3).
    UnknownCte,
}

impl From<Trouble> for No {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Gone => No::refused(Code::ExpungeIssued, "Some of the messages are gone"),
            Trouble::Corrupt => No::refused(Code::Corruption, "Some of the messages cannot be read"),
            Trouble::UnknownCte => No::refused(Code::UnknownCte, "Some part has an unknown transfer encoding"),
        }
    }
}

/// What a reader thread needs to make batches.
pub(super) struct Reader {
    pub store: Store,
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub keywords: Keywords,
    pub plan: Arc<Plan>,
}

/// What was read of one mail: what the plan needs.
pub(super) struct Mail<'a> {
    pub received: Option<Timestamp>,
    pub saved: Option<Timestamp>,
    pub source: Option<Arc<Source>>,
    pub cached: Option<Cached<'a>>,
}

impl Reader {
    /// Makes responses until there are octets enough, or the turn is over; one at least.
    pub fn read(&self, tx: &mut Tx<'_>, items: &[Item]) -> Result<Batch> {
        let mut out = Output::new(self.plan.utf8);
        let (began, mut batch) = (Instant::now(), Batch::default());
        for item in items {
            if out.weight() >= PIECE as u64 || (batch.done > 0 && began.elapsed() >= TURN) {
                break;
            }
            let before = out.mark();
            let trouble = match self.message(tx, item, &mut out) {
                Ok(trouble) => trouble,
                Err(Error::Corrupt(error)) => {
                    let email = item.entry.email;
                    tracing::error!(account = %self.account, %email, %error, "a mail cannot be read");
                    Some(Trouble::Corrupt)
                }
                Err(error) => return Err(error),
            };
            if trouble.is_some() {
                out.back_to(before);
                batch.trouble = batch.trouble.or(trouble);
            }
            batch.done += 1;
        }
        batch.pieces = out.finish();
        Ok(batch)
    }

    /// Reads what the plan needs of one mail, and writes its response.
    fn message(&self, tx: &mut Tx<'_>, item: &Item, out: &mut Output) -> Result<Option<Trouble>> {
        let (plan, entry) = (&self.plan, &item.entry);
        let mut mail = Mail { received: None, saved: None, source: None, cached: None };
        if plan.needs_row {
            let Some(row) = verbs::email(tx, self.account, entry.email)? else { return Ok(Some(Trouble::Gone)) };
            mail.received = Some(row.received);
            if plan.needs_octets {
                mail.source = Some(Arc::new(Source::open(&self.store, row)?));
            }
        }
        if plan.needs_saved {
            mail.saved = verbs::saved(tx, self.account, self.mailbox, entry.uid)?;
        }
        if !plan.needs_index {
            return self.write(item, &mail, out);
        }
        // The record is read where it lies.
        let mut readable = true;
        let outcome = verbs::cached(tx, self.account, entry.email, |record| match Cached::new(record) {
            Some(cached) => self.write(item, &Mail { cached: Some(cached), source: mail.source.clone(), ..mail }, out),
            None => {
                readable = false;
                Ok(None)
            }
        })?;
        match outcome {
            None => Ok(Some(Trouble::Gone)),
            Some(trouble) if readable => Ok(trouble),
            Some(_) => self.index_anew(tx, item, mail, out),
        }
    }

    /// For a mail whose index cannot be read: an older release wrote it.
    fn index_anew(&self, tx: &mut Tx<'_>, item: &Item, mail: Mail<'_>, out: &mut Output) -> Result<Option<Trouble>> {
        let source = match mail.source {
            Some(source) => source,
            None => match verbs::email(tx, self.account, item.entry.email)? {
                Some(row) => Arc::new(Source::open(&self.store, row)?),
                None => return Ok(Some(Trouble::Gone)),
            },
        };
        let record = source.index_anew()?;
        self.write(item, &Mail { cached: Cached::new(&record), source: Some(source), ..mail }, out)
    }

    /// Writes one response.
    fn write(&self, item: &Item, mail: &Mail<'_>, out: &mut Output) -> Result<Option<Trouble>> {
        out.begin(item.seq);
        if item.marked && !self.plan.has_flags {
            out.item(|fetch| write_index_item(fetch, &FetchAttr::Flags, &item.entry, &self.keywords));
        }
        for wanted in &self.plan.items {
            match self.write_item(wanted, item, mail, out) {
                Ok(None) => {}
                other => return other,
            }
        }
        out.end();
        Ok(None)
    }

    fn write_item(
        &self,
        wanted: &FetchAttr,
        item: &Item,
        mail: &Mail<'_>,
        out: &mut Output,
    ) -> Result<Option<Trouble>> {
        let all = |text| Section { part: [].into(), text };
        match (wanted, &mail.cached) {
            (FetchAttr::InternalDate, _) => {
                out.item(|fetch| fetch.internal_date(mail.received.unwrap_or_default()));
            }
            (FetchAttr::SaveDate, _) => out.item(|fetch| fetch.save_date(mail.saved)),
            (FetchAttr::Envelope, Some(cached)) => out.item(|fetch| fetch.envelope(cached.envelope())),
            (FetchAttr::Body, Some(cached)) => out.item(|fetch| fetch.body(cached.body())),
            (FetchAttr::BodyStructure, Some(cached)) => out.item(|fetch| fetch.body_structure(cached.body_structure())),
            (FetchAttr::Envelope | FetchAttr::Body | FetchAttr::BodyStructure, None) => {
                return Ok(Some(Trouble::Corrupt));
            }
            (FetchAttr::Rfc822, _) => section::write(&all(SectionText::All), None, Form::Rfc822, mail, out)?,
            (FetchAttr::Rfc822Header, _) => {
                section::write(&all(SectionText::Header), None, Form::Rfc822Header, mail, out)?;
            }
            (FetchAttr::Rfc822Text, _) => section::write(&all(SectionText::Text), None, Form::Rfc822Text, mail, out)?,
            (FetchAttr::Section { section, partial, .. }, _) => {
                section::write(section, *partial, Form::Body, mail, out)?;
            }
            (FetchAttr::Binary { part, partial, .. }, _) => {
                return binary::write(part, binary::Form::Content(*partial), mail, out);
            }
            (FetchAttr::BinarySize { part }, _) => return binary::write(part, binary::Form::Size, mail, out),
            (
                FetchAttr::Flags
                | FetchAttr::Rfc822Size
                | FetchAttr::Uid
                | FetchAttr::ModSeq
                | FetchAttr::EmailId
                | FetchAttr::ThreadId,
                _,
            ) => out.item(|fetch| write_index_item(fetch, wanted, &item.entry, &self.keywords)),
        }
        Ok(None)
    }
}
