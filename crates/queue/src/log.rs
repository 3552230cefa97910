//! The log: all that happens to recipients, in the order in which it was committed.
//!
//! What happened stands in the queue and in the receipts: what was accepted in the rows of its deliveries, attempts in segments,
//! what is heard later in rows of their own. The log has one narrow row for each commit that wrote any, with a rising position; so
//! it costs little where nobody reads it, and whoever does goes on behind a [`Cursor`]. The position comes from a row that stays locked until the commit: the order of positions is the
//! order of commits, none is missing, and who has read one will not find an earlier one later.
//!
//! A position whose records were kept as long as they are to be is gone; a reader hears how many it has missed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base::{OrganisationId, Reply, Stream, Timestamp};
use store::{Error, Result, Row, Tx, params};

use crate::accepted::Accepted;
use crate::receipt::{self, Attempt, Event, Halves, Head, Kind, Reader, Talk, Tried, Writer};
use crate::{QueueId, admin, schema};

/// Positions that one page looks at, at most.
const POSITIONS: u32 = 64;
/// In place of the number of what was heard: it tells what was accepted.
const ACCEPTED: i64 = -1;

/// A place in the log: behind so many lines of a position, and all of the positions before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// From 1 on; 0 is before all of them, whatever is kept.
    pub position: i64,
    /// Lines of it that were read.
    pub lines: u32,
}

impl Cursor {
    /// Before all that is kept.
    pub const START: Cursor = Cursor { position: 0, lines: 0 };

    /// Before all of a position.
    pub fn before(position: i64) -> Cursor {
        Cursor { position, lines: 0 }
    }
}

/// `12.3`
impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.position, self.lines)
    }
}

/// The text is no place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCursor;

impl fmt::Display for BadCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cursor is a place in the log like 12.3")
    }
}

impl std::error::Error for BadCursor {}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> std::result::Result<Self, BadCursor> {
        let (position, lines) = text.split_once('.').ok_or(BadCursor)?;
        if ![position, lines].iter().all(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())) {
            return Err(BadCursor);
        }
        let (position, lines) = (position.parse().map_err(|_| BadCursor)?, lines.parse().map_err(|_| BadCursor)?);
        Ok(Cursor { position, lines })
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// It was accepted, and is to be sent.
    Queued,
    /// The next hop has taken responsibility.
    Delivered,
    /// Not now.
    Deferred,
    /// Given up: what was said was final.
    Bounced,
    /// Given up: its time was over.
    Expired,
    /// Taken back.
    Cancelled,
    /// An attempt was begun, and nobody knows what came of it: the server died meanwhile. There will be another.
    Uncertain,
    /// A report: it failed after all.
    ReportBounced,
    /// A report: it takes long there.
    ReportDelayed,
    /// A report: it reached the mailbox.
    ReportConfirmed,
    /// The reader called it spam.
    Complained,
    /// A machine answered.
    Answered,
    /// Somebody answered.
    Replied,
}

impl What {
    /// All of them.
    pub const ALL: [What; 13] = [
        What::Queued,
        What::Delivered,
        What::Deferred,
        What::Bounced,
        What::Expired,
        What::Cancelled,
        What::Uncertain,
        What::ReportBounced,
        What::ReportDelayed,
        What::ReportConfirmed,
        What::Complained,
        What::Answered,
        What::Replied,
    ];

    /// Its name among all that programs are told of; never changes.
    pub fn name(self) -> &'static str {
        match self {
            What::Queued => "delivery.queued",
            What::Delivered => "delivery.delivered",
            What::Deferred => "delivery.deferred",
            What::Bounced => "delivery.bounced",
            What::Expired => "delivery.expired",
            What::Cancelled => "delivery.cancelled",
            What::Uncertain => "delivery.uncertain",
            What::ReportBounced => "report.bounced",
            What::ReportDelayed => "report.delayed",
            What::ReportConfirmed => "report.confirmed",
            What::Complained => "complaint.received",
            What::Answered => "reply.automatic",
            What::Replied => "reply.received",
        }
    }

    /// Those that a name means: one, or all that begin so (`delivery`). Empty for a name of none.
    pub fn named(name: &str) -> Vec<What> {
        let means =
            |what: &What| what.name() == name || what.name().split_once('.').is_some_and(|(kind, _)| kind == name);
        What::ALL.into_iter().filter(means).collect()
    }

    fn tried(tried: Tried) -> What {
        match tried {
            Tried::Delivered => What::Delivered,
            Tried::Deferred => What::Deferred,
            Tried::Failed => What::Bounced,
            Tried::Expired => What::Expired,
            Tried::Cancelled => What::Cancelled,
            Tried::Uncertain => What::Uncertain,
        }
    }

    fn heard(kind: Kind) -> What {
        match kind {
            Kind::Bounced => What::ReportBounced,
            Kind::Delayed => What::ReportDelayed,
            Kind::Confirmed => What::ReportConfirmed,
            Kind::Complained => What::Complained,
            Kind::Answered => What::Answered,
            Kind::Replied => What::Replied,
        }
    }
}

/// A line of the log: something that happened to a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The position that it stands at, and its place there, from 0.
    pub at: (i64, u32),
    /// What happened.
    pub what: What,
    /// When.
    pub time: Timestamp,
    /// Whose mail it is about.
    pub head: Head,
    /// Attempts with an outcome until then.
    pub attempts: u32,
    /// Attempts until then whose outcome nobody knows: so often it may have arrived unseen.
    pub uncertain: u32,
    /// The class of a refusal (`bounce::Class`); empty when there is none.
    pub class: String,
    /// The host that answered; empty when it was none, or is not known.
    pub host: String,
    /// What it said; none when there was no attempt.
    pub reply: Option<Reply>,
    /// The dialogue; none when there was no connection.
    pub talk: Option<Arc<Talk>>,
    /// What was heard later: untrusted. Empty when nothing was.
    pub detail: String,
}

impl Line {
    /// Behind it.
    pub fn cursor(&self) -> Cursor {
        Cursor { position: self.at.0, lines: self.at.1 + 1 }
    }

    /// A text that no other line has, in this store or in one that was restored from an older copy of it; the same whenever it
    /// is read.
    pub fn id(&self) -> String {
        let Line { head, what, time, attempts, uncertain, detail, .. } = self;
        let mut hash = blake3::Hasher::new();
        for n in
            [head.message.raw(), head.number.into(), head.created.0, time.0, (*attempts).into(), (*uncertain).into()]
        {
            hash.update(&n.to_be_bytes());
        }
        for text in [what.name(), &head.to, detail] {
            hash.update(&(text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
        format!("evt_{}", &hash.finalize().to_hex()[..32])
    }

    fn tried(at: (i64, u32), cancelled: bool, head: Head, attempt: Attempt) -> Line {
        let Attempt { at: time, tried, attempts, uncertain, class, host, reply, talk, .. } = attempt;
        Line {
            at,
            what: if cancelled { What::Cancelled } else { What::tried(tried) },
            time,
            head,
            attempts,
            uncertain,
            class,
            host,
            reply: (reply.code > 0).then_some(reply),
            talk: talk.map(Arc::new),
            detail: String::new(),
        }
    }
}

/// Which lines somebody wants; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whose sending.
    pub organisation: Option<OrganisationId>,
    /// What kind of sending.
    pub stream: Option<Stream>,
    /// What happened; empty for everything.
    pub whats: Vec<What>,
}

impl Filter {
    /// It is wanted.
    pub fn fits(&self, line: &Line) -> bool {
        self.organisation.is_none_or(|organisation| organisation == line.head.organisation)
            && self.stream.is_none_or(|stream| stream == line.head.stream)
            && (self.whats.is_empty() || self.whats.contains(&line.what))
    }
}

/// Outcomes of a batch that came to something else than their records say; few have any.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    all: Vec<u8>,
    void: usize,
}

/// The claim was not the caller's (any more): nothing came of it.
const VOID: u8 = 1;
/// It was taken back meanwhile.
const CANCELLED: u8 = 2;

impl Marks {
    pub(crate) fn void(&mut self, place: usize) {
        self.set(place, VOID);
        self.void += 1;
    }

    pub(crate) fn cancelled(&mut self, place: usize) {
        self.set(place, CANCELLED);
    }

    fn set(&mut self, place: usize, mark: u8) {
        if self.all.len() <= place {
            self.all.resize(place + 1, 0);
        }
        self.all[place] = mark;
    }

    /// Nothing came of any of so many.
    pub(crate) fn are_void(&self, n: usize) -> bool {
        self.void >= n
    }

    pub(crate) fn stored(self) -> Option<Vec<u8>> {
        Some(self.all).filter(|all| !all.is_empty())
    }
}

/// Where it stands what happened.
#[derive(Debug)]
pub(crate) enum Source {
    /// A segment, with marks.
    Segment(i64, Option<Vec<u8>>),
    /// An event of a delivery; of an open one with its attempts so far, as it may have more until the line is read.
    Heard(QueueId, u32, i64, Option<(u32, u32)>),
    /// Messages in the queue, [packed](Accepted::packed).
    Accepted(Vec<u8>),
}

/// Appends what a job wrote, at its end: all who append wait for its commit, and what they hold meanwhile it does not need
/// any more.
pub(crate) fn append(tx: &mut Tx<'_>, source: Source, now: Timestamp) {
    tx.at_end(move |tx| {
        tx.send(&schema::NEXT_POSITION, params![])?;
        let mut so_far = Writer::default();
        let (segment, message, number, n, marks) = match &source {
            Source::Segment(segment, marks) => (*segment, 0, 0, 0, marks.as_deref()),
            Source::Heard(message, number, n, None) => (0, message.raw(), *number, *n, None),
            Source::Heard(message, number, n, Some((attempts, uncertain))) => {
                [*attempts, *uncertain].into_iter().for_each(|n| so_far.int(n.into()));
                (0, message.raw(), *number, *n, Some(&so_far.0[..]))
            }
            Source::Accepted(packed) => (0, 0, 0, ACCEPTED, Some(&packed[..])),
        };
        tx.send(&schema::APPEND, params![now, segment, message, number, n, marks])
    });
}

/// What stands at a position.
struct Entry {
    position: i64,
    segment: i64,
    heard: (QueueId, u32, i64),
    marks: Vec<u8>,
}

fn entry(r: &Row<'_>) -> Result<Entry> {
    Ok(Entry {
        position: r.int(0)?,
        segment: r.int(2)?,
        heard: (QueueId::stored(r.int(3)?), r.int(4)? as u32, r.int(5)?),
        marks: r.opt_bytes(6)?.unwrap_or_default().to_vec(),
    })
}

impl Entry {
    /// Whether a line of it may be wanted.
    fn may_fit(&self, filter: &Filter) -> bool {
        let accepted = self.heard.2 == ACCEPTED;
        let may_be = |what: &What| (*what == What::Queued) == accepted;
        filter.whats.is_empty() || filter.whats.iter().any(may_be)
    }

    /// Its lines, each at its place, though some may be missing; none when they were kept as long as they are to be, or cannot be
    /// read.
    fn lines(&self, tx: &mut Tx<'_>, halves: &mut Halves) -> Result<Option<Vec<Line>>> {
        let lines = match self.heard.2 {
            _ if self.segment != 0 => self.lines_tried(tx, halves),
            ACCEPTED => self.lines_accepted(tx),
            _ => self.line_heard(tx),
        };
        match lines {
            Err(Error::Corrupt(_)) => Ok(None),
            lines => lines,
        }
    }

    fn lines_accepted(&self, tx: &mut Tx<'_>) -> Result<Option<Vec<Line>>> {
        let heads = Accepted::unpacked(self.position, &self.marks)?.heads(tx)?;
        let line = |(place, head): (u32, Head)| Line {
            at: (self.position, place),
            what: What::Queued,
            time: head.created,
            head,
            attempts: 0,
            uncertain: 0,
            class: String::new(),
            host: String::new(),
            reply: None,
            talk: None,
            detail: String::new(),
        };
        Ok((!heads.is_empty()).then(|| heads.into_iter().map(line).collect()))
    }

    fn line_heard(&self, tx: &mut Tx<'_>) -> Result<Option<Vec<Line>>> {
        let (message, number, n) = self.heard;
        let Some(Event { at, kind, class, detail }) = receipt::one(tx, message, number, n)? else { return Ok(None) };
        let (head, attempts, uncertain) = match receipt::receipt(tx, message, number)? {
            Some(told) => {
                let head = receipt::head(tx, &[told.trail])?.into_iter().flatten().next();
                (head, told.attempts, told.uncertain)
            }
            None => (admin::open_head(tx, message, number)?, 0, 0),
        };
        let Some(head) = head else { return Ok(None) };
        // As it was when it was heard, whatever happened since: a line is the same whenever it is read.
        let mut so_far = Reader(&self.marks);
        let (attempts, uncertain) = so_far.number().zip(so_far.number()).unwrap_or((attempts, uncertain));
        Ok(Some(vec![Line {
            at: (self.position, 0),
            what: What::heard(kind),
            time: at,
            head,
            attempts,
            uncertain,
            class,
            host: String::new(),
            reply: None,
            talk: None,
            detail,
        }]))
    }

    fn lines_tried(&self, tx: &mut Tx<'_>, halves: &mut Halves) -> Result<Option<Vec<Line>>> {
        let Some(heads) = halves.heads.of(tx, self.segment)? else { return Ok(None) };
        let Some(dialogues) = halves.dialogues.of(tx, self.segment)? else { return Ok(None) };
        let (mut lines, mut place) = (Vec::with_capacity(heads.len()), 0);
        for record in 0..heads.len() {
            let mark = self.marks.get(record).copied().unwrap_or(0);
            let Some((head, attempt)) = heads.head(record as u32).zip(dialogues.attempt(record as u32)) else {
                return Ok(None);
            };
            if mark != VOID {
                lines.push(Line::tried((self.position, place), mark == CANCELLED, head, attempt));
                place += 1;
            }
        }
        Ok(Some(lines))
    }
}

/// What was found in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Those that are wanted, in order.
    pub lines: Vec<Line>,
    /// Where to go on.
    pub next: Cursor,
    /// That was not all there is.
    pub more: bool,
    /// Positions that are not there any more: each was a batch of up to 256 outcomes, or something heard.
    pub lost: u64,
}

/// Lines from a cursor on, in order, that `filter` wants: so many positions as have `most` lines together, whether they are wanted or
/// not, but at least one.
///
/// # Errors
/// The store's.
pub fn read(tx: &mut Tx<'_>, from: Cursor, filter: &Filter, most: usize) -> Result<Page> {
    let entries = tx.list(&schema::LOG, params![from.position, POSITIONS], entry)?;
    let mut page = Page { lines: Vec::new(), next: from, more: false, lost: 0 };
    let end = last(tx)? + 1;
    let (n, mut looked_at, mut halves) = (entries.len(), 0, Halves::new());
    for (i, entry) in entries.into_iter().enumerate() {
        if from.position > 0 || i > 0 {
            page.lost += (entry.position - page.next.position).unsigned_abs();
        }
        let behind = if entry.position == from.position { from.lines } else { 0 };
        page.next = Cursor::before(entry.position + 1);
        if !entry.may_fit(filter) {
            continue;
        }
        match entry.lines(tx, &mut halves)? {
            Some(lines) => {
                looked_at += lines.len();
                page.lines.extend(lines.into_iter().filter(|line| line.at.1 >= behind && filter.fits(line)));
            }
            None => page.lost += 1,
        }
        if looked_at >= most {
            break;
        }
    }
    // All from there on was forgotten.
    if n == 0 && from.position > 0 && from.position < end {
        page.lost += (end - from.position).unsigned_abs();
    }
    if n == 0 && from.position < end {
        page.next = Cursor::before(end);
    }
    // The log is of an earlier time: what came between is not in it, and what comes now begins here.
    if from.position > end {
        (page.lost, page.next) = (1, Cursor::before(end));
    }
    page.more = page.next.position < end;
    Ok(page)
}

/// The lines at some places; none for one that is not there any more. Each position is read once, where those of one follow each other.
///
/// # Errors
/// The store's.
pub fn lines(tx: &mut Tx<'_>, places: &[(i64, u32)]) -> Result<Vec<Option<Line>>> {
    let (mut all, mut halves) = (Vec::with_capacity(places.len()), Halves::new());
    for of_one in places.chunk_by(|a, b| a.0 == b.0) {
        let position = of_one[0].0;
        let found = tx.row(&schema::LOG, params![position, 1], entry)?.filter(|entry| entry.position == position);
        let lines = found.map(|entry| entry.lines(tx, &mut halves)).transpose()?.flatten().unwrap_or_default();
        let at = |place: &(i64, u32)| lines.binary_search_by_key(place, |line| line.at).ok();
        all.extend(of_one.iter().map(|place| at(place).map(|n| lines[n].clone())));
    }
    Ok(all)
}

/// The last position that was given; 0 when there is none.
///
/// # Errors
/// The store's.
pub fn last(tx: &mut Tx<'_>) -> Result<i64> {
    tx.one(&schema::LAST_POSITION, params![], |r| r.int(0))
}

/// When the first position behind this one was written, as far as it is kept; none when there is none.
///
/// # Errors
/// The store's.
pub fn behind(tx: &mut Tx<'_>, position: i64) -> Result<Option<Timestamp>> {
    tx.row(&schema::LOG, params![position + 1, 1], |r| Ok(Timestamp(r.int(1)?)))
}

/// Whether a position is kept. None is missing behind the first that is.
///
/// # Errors
/// The store's.
pub(crate) fn has(tx: &mut Tx<'_>, position: i64) -> Result<bool> {
    Ok(tx.row(&schema::LOG, params![position, 1], |r| r.int(0))? == Some(position))
}

/// Before the first position that was written then or later, as far as they are kept.
///
/// # Errors
/// The store's.
pub fn since(tx: &mut Tx<'_>, then: Timestamp) -> Result<Cursor> {
    let (mut low, mut high) = (1, last(tx)? + 1);
    // Times rise with positions, but for the clocks of several nodes.
    while low < high {
        let middle = low + (high - low) / 2;
        let found = tx.row(&schema::LOG, params![middle, 1], |r| Ok((r.int(0)?, r.int(1)?)))?;
        match found {
            Some((position, at)) if at < then.0 => low = position + 1,
            _ => high = middle,
        }
    }
    // What is gone was not asked for: from the first one that is kept.
    let first = tx.row(&schema::LOG, params![low, 1], |r| r.int(0))?;
    Ok(Cursor::before(first.unwrap_or(low)))
}

/// Forgets at most `n` positions that were written before; gives how many.
///
/// # Errors
/// The store's.
pub fn forget(tx: &mut Tx<'_>, before: Timestamp, n: u32) -> Result<u64> {
    tx.execute(&schema::FORGET_LOG, params![before, n])
}
