//! Mails read for a search, by a reader thread of the store: no more of each than its answer takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{AccountId, MailboxId, Timestamp};
use mailbox::Entry;
use mailbox::verbs;
use mime::charset::TextDecoder;
use mime::header::{fields, find};
use mime::{Kind, PartView, date, words};
use store::{Error, Result, Store, Tx};

use super::question::{Cost, Program, Question};
use super::text::{Scan, fold};
use super::truth::Truth;
use crate::imap::source::Source;

/// A reader thread is given back after this time: others wait for it.
const TURN: Duration = Duration::from_millis(40);
/// A part's header is read up to here.
const HEADER: u64 = 64 * 1024;

pub(super) struct Reader {
    pub store: Store,
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub program: Arc<Program>,
}

/// What one turn came to.
pub(super) struct Read {
    /// Numbers of those that match.
    pub found: Vec<u32>,
    /// So many were looked at.
    pub done: usize,
}

/// One mail, as far as it was read.
struct Mail<'a> {
    entry: &'a Entry,
    received: Option<Timestamp>,
    source: Option<Source>,
}

impl Reader {
    /// Looks at messages until the turn is over; at one at least.
    pub fn read(&self, tx: &mut Tx<'_>, open: &[(u32, Entry)]) -> Result<Read> {
        let (began, mut read, mut known) = (Instant::now(), Read { found: Vec::new(), done: 0 }, Vec::new());
        for (seq, entry) in open {
            self.program.begin(*seq, entry, &mut known);
            match self.matches(tx, entry, &mut known) {
                Ok(true) => read.found.push(*seq),
                Ok(false) => {}
                // One mail that cannot be read does not hide the others.
                Err(Error::Corrupt(error)) => {
                    tracing::error!(account = %self.account, email = %entry.email, %error, "a mail cannot be read");
                }
                Err(error) => return Err(error),
            }
            read.done += 1;
            if began.elapsed() >= TURN {
                break;
            }
        }
        Ok(read)
    }

    /// Asks what costs little first, and only what is still needed.
    fn matches(&self, tx: &mut Tx<'_>, entry: &Entry, known: &mut [Truth]) -> Result<bool> {
        let mut mail = Mail { entry, received: None, source: None };
        for cost in [Cost::Row, Cost::Header, Cost::Body] {
            if !self.program.questions.iter().any(|question| question.cost() == cost) {
                continue;
            }
            if !self.open(tx, &mut mail, cost)? {
                return Ok(false);
            }
            match cost {
                Cost::Index | Cost::Row => self.ask_rows(tx, &mail, known)?,
                Cost::Header => self.ask_header(&mail, known)?,
                Cost::Body => self.ask_body(tx, &mail, known)?,
            }
            match self.program.decide(known) {
                Truth::Yes => return Ok(true),
                Truth::No => return Ok(false),
                Truth::Unknown => {}
            }
        }
        Ok(false)
    }

    /// Reads the mail's row, and opens it where its octets are asked for. False: it is gone.
    fn open(&self, tx: &mut Tx<'_>, mail: &mut Mail<'_>, cost: Cost) -> Result<bool> {
        if mail.source.is_some() || (cost == Cost::Row && mail.received.is_some()) {
            return Ok(true);
        }
        let Some(row) = verbs::email(tx, self.account, mail.entry.email)? else { return Ok(false) };
        mail.received = Some(row.received);
        if cost > Cost::Row {
            mail.source = Some(Source::open(&self.store, row)?);
        }
        Ok(true)
    }

    fn ask_rows(&self, tx: &mut Tx<'_>, mail: &Mail<'_>, known: &mut [Truth]) -> Result<()> {
        let received = mail.received.unwrap_or_default();
        let mut saved = None;
        for (question, known) in self.program.questions.iter().zip(known) {
            *known = match question {
                Question::Received(when) => when.holds(received, 0).into(),
                Question::Older(than) => (received <= *than).into(),
                Question::Younger(than) => (received > *than).into(),
                Question::Saved(when) => {
                    if saved.is_none() {
                        saved = verbs::saved(tx, self.account, self.mailbox, mail.entry.uid)?;
                    }
                    saved.is_some_and(|saved| when.holds(saved, 0)).into()
                }
                _ => continue,
            };
        }
        Ok(())
    }

    fn ask_header(&self, mail: &Mail<'_>, known: &mut [Truth]) -> Result<()> {
        let Some(source) = &mail.source else { return Ok(()) };
        let head = source.head()?;
        for (question, known) in self.program.questions.iter().zip(known) {
            *known = match question {
                Question::Sent(when) => sent(&head).is_some_and(|(at, offset)| when.holds(at, offset)).into(),
                Question::Field(name, needle) => {
                    let mut named = fields(&head).filter(|field| field.is(name.as_bytes()));
                    named.any(|field| needle.is_in(&folded_value(field.value))).into()
                }
                _ => continue,
            };
        }
        Ok(())
    }

    /// All texts that are asked for are looked for in one pass.
    fn ask_body(&self, tx: &mut Tx<'_>, mail: &Mail<'_>, known: &mut [Truth]) -> Result<()> {
        let Some(source) = &mail.source else { return Ok(()) };
        let (mut in_body, mut in_text) = (Vec::new(), Vec::new());
        for (number, question) in self.program.questions.iter().enumerate() {
            match question {
                Question::Body(needle) => in_body.push((number, needle)),
                Question::Text(needle) => in_text.push((number, needle)),
                _ => {}
            }
        }
        if !in_text.is_empty() {
            let mut header = Scan::new(in_text);
            header.push(&header_text(&source.head()?));
            header.found.iter().for_each(|number| known[*number] = Truth::Yes);
            in_body.extend(header.left());
            if self.program.decide(known) != Truth::Unknown {
                return Ok(());
            }
        }
        in_body.iter().for_each(|(number, _)| known[*number] = Truth::No);
        let mut body = Scan::new(in_body);
        self.scan_parts(tx, mail.entry, source, &mut body)?;
        body.found.iter().for_each(|number| known[*number] = Truth::Yes);
        Ok(())
    }

    /// Goes through the text of a mail as long as there is something to be found.
    fn scan_parts(&self, tx: &mut Tx<'_>, entry: &Entry, source: &Source, scan: &mut Scan<'_>) -> Result<()> {
        let kept = verbs::cached(tx, self.account, entry.email, |record| Ok(record.to_vec()))?.unwrap_or_default();
        let mut again = Vec::new();
        for (number, part) in source.index(&kept, &mut again)?.parts().enumerate() {
            // The first header is the mail's own, which is no part of the body.
            if number > 0 && !scan_header(source, &part, scan)? {
                break;
            }
            let is_text = part.kind == Kind::Leaf && part.media_type.starts_with(b"text/");
            if is_text && !scan_text(source, &part, scan)? {
                break;
            }
        }
        Ok(())
    }
}

/// The header of a part: names of attachments, and the header of a mail within.
fn scan_header(source: &Source, part: &PartView<'_>, scan: &mut Scan<'_>) -> Result<bool> {
    let (from, to) = (part.header.start + source.prefix_len(), part.header.end + source.prefix_len());
    let mut header = Vec::new();
    source.read(from..to.min(from + HEADER), &mut header)?;
    scan.cut();
    Ok(scan.push(&header_text(&header)))
}

/// The text of a part, decoded.
fn scan_text(source: &Source, part: &PartView<'_>, scan: &mut Scan<'_>) -> Result<bool> {
    let span = part.body.start + source.prefix_len()..part.body.end + source.prefix_len();
    let (mut decoder, mut text, mut wanted) = (TextDecoder::new(part.charset), String::new(), true);
    scan.cut();
    source.decoded(span, part.encoding, |octets| {
        text.clear();
        decoder.push(octets, &mut text);
        wanted = scan.push(&text);
        wanted
    })?;
    if wanted {
        text.clear();
        decoder.finish(&mut text);
        wanted = scan.push(&text);
    }
    Ok(wanted)
}

/// The `Date` field.
fn sent(head: &[u8]) -> Option<(Timestamp, i32)> {
    date::parse_date(find(head, b"Date")?.value)
}

fn folded_value(value: &[u8]) -> Vec<u8> {
    let mut folded = Vec::new();
    fold(&words::decode(value), &mut folded);
    folded
}

/// A header as text: its fields, decoded, a line each.
fn header_text(head: &[u8]) -> String {
    let mut text = String::new();
    for field in fields(head) {
        text.push_str(&String::from_utf8_lossy(field.name));
        text.push_str(": ");
        text.push_str(&words::decode(field.value));
        text.push('\n');
    }
    text
}
