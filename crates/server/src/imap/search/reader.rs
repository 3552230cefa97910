//! Mails read for a search, by a reader thread of the store: no more of each than its answer takes.

use std::sync::Arc;
use std::time::Instant;

use base::{AccountId, MailboxId, Timestamp};
use mailbox::Entry;
use mailbox::verbs;
use mime::date;
use mime::header::find;
use store::{Error, Result, Store, Tx};

use super::body::{BodyScan, header_text};
use super::question::{Cost, Program, Question};
use super::text::Scan;
use super::truth::Truth;
use crate::imap::TURN;
use crate::imap::source::{LARGE, Source};

/// Octets of a mail times texts that are looked for in it: more than this is not done by a reader thread either.
const MUCH: u64 = 16 * LARGE;

pub(super) struct Reader {
    pub store: Store,
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub program: Arc<Program>,
}

/// What one turn came to.
#[derive(Default)]
pub(super) struct Read {
    /// Numbers of those that match.
    pub found: Vec<u32>,
    /// So many were looked at.
    pub done: usize,
    /// The last of them is large.
    pub large: Option<Box<Large>>,
}

/// A large mail of which only the body is left to be looked at.
pub(super) struct Large {
    pub seq: u32,
    known: Vec<Truth>,
    source: Source,
    body: BodyScan,
}

impl Large {
    /// Goes on by a piece; false at the end.
    pub fn step(&mut self, program: &Program) -> Result<bool> {
        self.body.step(&self.source, program)
    }

    /// Does it match, now that its body was looked at?
    pub fn matches(mut self, program: &Program) -> bool {
        self.body.scan.found.iter().for_each(|number| self.known[*number] = Truth::Yes);
        program.decide(&self.known) == Truth::Yes
    }
}

/// One mail, as far as it was read.
struct Mail<'a> {
    seq: u32,
    entry: &'a Entry,
    received: Option<Timestamp>,
    source: Option<Source>,
}

/// Does a message match?
enum Answer {
    No,
    Yes,
    Large(Box<Large>),
}

impl Answer {
    fn of(truth: Truth) -> Option<Self> {
        match truth {
            Truth::Yes => Some(Answer::Yes),
            Truth::No => Some(Answer::No),
            Truth::Unknown => None,
        }
    }
}

impl Reader {
    /// Looks at messages until the turn is over; at one at least.
    pub fn read(&self, tx: &mut Tx<'_>, open: &[(u32, Entry)]) -> Result<Read> {
        let (began, mut read) = (Instant::now(), Read::default());
        for (seq, entry) in open {
            match self.ask(tx, *seq, entry) {
                Ok(Answer::Yes) => read.found.push(*seq),
                Ok(Answer::No) => {}
                Ok(Answer::Large(large)) => read.large = Some(large),
                // One mail that cannot be read does not hide the others.
                Err(Error::Corrupt(error)) => {
                    tracing::error!(account = %self.account, email = %entry.email, %error, "a mail cannot be read");
                }
                Err(error) => return Err(error),
            }
            read.done += 1;
            if read.large.is_some() || began.elapsed() >= TURN {
                break;
            }
        }
        Ok(read)
    }

    /// Asks what costs little first, and only what is still needed.
    fn ask(&self, tx: &mut Tx<'_>, seq: u32, entry: &Entry) -> Result<Answer> {
        let mut mail = Mail { seq, entry, received: None, source: None };
        let mut known = self.program.begin(seq, entry);
        for cost in [Cost::Row, Cost::Header, Cost::Body] {
            if !self.program.questions.iter().any(|question| question.cost() == cost) {
                continue;
            }
            if !self.open(tx, &mut mail, cost)? {
                return Ok(Answer::No);
            }
            match cost {
                Cost::Index | Cost::Row => self.ask_rows(tx, &mail, &mut known)?,
                Cost::Header => self.ask_header(&mail, &mut known)?,
                Cost::Body => return self.ask_body(tx, mail, known),
            }
            if let Some(answer) = Answer::of(self.program.decide(&known)) {
                return Ok(answer);
            }
        }
        Ok(Answer::No)
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
        for (question, known) in self.program.questions.iter().zip(&mut *known) {
            *known = match question {
                Question::Sent(when) => sent(&head).is_some_and(|(at, offset)| when.holds(at, offset)).into(),
                _ => continue,
            };
        }
        self.program.names.ask(&head, &self.program.questions, known);
        Ok(())
    }

    /// Looks for the texts that are asked for, all in one pass. The body of a large mail is left to the session.
    fn ask_body(&self, tx: &mut Tx<'_>, mut mail: Mail<'_>, mut known: Vec<Truth>) -> Result<Answer> {
        let Some(source) = mail.source.take() else { return Ok(Answer::No) };
        let (mut in_body, mut in_text) = (Vec::new(), Vec::new());
        for (number, question) in self.program.questions.iter().enumerate() {
            match question {
                Question::Body(_) => in_body.push(number),
                Question::Text(_) => in_text.push(number),
                _ => {}
            }
        }
        if !in_text.is_empty() {
            let mut header = Scan::new(&self.program, in_text);
            header.push(&self.program, &header_text(&source.head()?));
            header.found.iter().for_each(|number| known[*number] = Truth::Yes);
            in_body.extend(header.left());
        }
        if let Some(answer) = Answer::of(self.program.decide(&known)) {
            return Ok(answer);
        }
        let kept = verbs::cached(tx, self.account, mail.entry.email, |record| Ok(record.to_vec()))?.unwrap_or_default();
        let (wanted, mut again) = (Scan::new(&self.program, in_body.clone()), Vec::new());
        let body = BodyScan::new(&source.index(&kept, &mut again)?, &source, wanted);
        in_body.iter().for_each(|number| known[*number] = Truth::No);
        let mut large = Large { seq: mail.seq, known, source, body };
        if large.source.len() > LARGE || large.source.len() * in_body.len() as u64 > MUCH {
            return Ok(Answer::Large(Box::new(large)));
        }
        while large.body.step(&large.source, &self.program)? {}
        Ok(if large.matches(&self.program) { Answer::Yes } else { Answer::No })
    }
}

/// The `Date` field.
fn sent(head: &[u8]) -> Option<(Timestamp, i32)> {
    date::parse_date(find(head, b"Date")?.value)
}
