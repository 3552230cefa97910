//! Reading receipts: one, those of a message, a page of all, and those of an address or a Message-ID.

use std::collections::HashSet;

use base::{AccountId, OrganisationId, Stream, Timestamp};
use store::{Error, Result, Row, Tx, params};

use super::part::{Half, Halves, Segments, by_part};
use super::segment::trace;
use super::{Attempt, End, Head, Pointer, Receipt};
use crate::{Party, QueueId, schema};

/// Rows that one page looks at, at most, whatever the filter leaves of them.
const LOOKED_AT: i64 = 20_000;
/// And of which it reads the records: each may stand in a segment of its own, of some 100 KB to unpack.
const LOOKED_INTO: i64 = 1000;
/// Attempts that are followed back.
const MAX_ATTEMPTS: usize = 1000;

fn read(r: &Row<'_>) -> Result<Receipt> {
    Ok(Receipt {
        message: QueueId::stored(r.int(0)?),
        number: r.int(1)? as u32,
        end: End::read(r.int(2)?)?,
        class: r.text(3)?.to_owned(),
        stream: Stream::read(r.int(4)?).unwrap_or_default(),
        account: r.opt_int(5)?.map(AccountId),
        at: Timestamp(r.int(6)?),
        attempts: r.int(7)? as u32,
        uncertain: r.int(8)? as u32,
        trail: Pointer::read(r, 9)?,
    })
}

/// The receipt of a finished delivery.
///
/// # Errors
/// The store's.
pub fn receipt(tx: &mut Tx<'_>, message: QueueId, number: u32) -> Result<Option<Receipt>> {
    tx.row(&schema::RECEIPT, params![message, number], read)
}

/// The receipts of a message's finished deliveries.
///
/// # Errors
/// The store's.
pub fn of_message(tx: &mut Tx<'_>, message: QueueId) -> Result<Vec<Receipt>> {
    some_of_message(tx, message, None, u32::MAX)
}

/// At most `n` of them, of higher numbers than `behind`.
///
/// # Errors
/// The store's.
pub fn some_of_message(tx: &mut Tx<'_>, message: QueueId, behind: Option<u32>, n: u32) -> Result<Vec<Receipt>> {
    tx.list(&schema::RECEIPTS_OF_MESSAGE, params![message, behind.map_or(-1, i64::from), n], read)
}

/// A message all of whose deliveries have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// When the last did.
    pub at: Timestamp,
    /// Which one that was: of those that ended together, that of the highest number.
    pub last: u32,
    /// So many had receipts.
    pub deliveries: u32,
    /// So many of them were delivered, as far as it is known by now.
    pub delivered: u32,
    /// So many of them bounced or expired.
    pub failed: u32,
}

/// How a message ended; none while one of its deliveries is open, or when nothing is known of it.
///
/// # Errors
/// The store's.
pub fn ended(tx: &mut Tx<'_>, message: QueueId) -> Result<Option<Ended>> {
    if tx.row(&schema::ANY_OPEN, params![message], |_| Ok(()))?.is_some() {
        return Ok(None);
    }
    let all = of_message(tx, message)?;
    let of = |ends: &[End]| all.iter().filter(|receipt| ends.contains(&receipt.end)).count() as u32;
    Ok(all.iter().map(|receipt| (receipt.at, receipt.number)).max().map(|(at, last)| Ended {
        at,
        last,
        deliveries: all.len() as u32,
        delivered: of(&[End::Delivered]),
        failed: of(&[End::Bounced, End::Expired]),
    }))
}

/// Which receipts a page has; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// How it ended.
    pub end: Option<End>,
    /// The class of the last refusal.
    pub class: Option<String>,
    /// What kind of sending it was.
    pub stream: Option<Stream>,
    /// Who submitted it.
    pub account: Option<AccountId>,
    /// It ended then or later.
    pub since: Option<Timestamp>,
    /// It ended before.
    pub until: Option<Timestamp>,
    /// Whose sending it was.
    pub organisation: Option<OrganisationId>,
    /// The sender of the envelope.
    pub from: Option<Party>,
    /// The source of the last attempt, by its name.
    pub source: Option<String>,
    /// The site of the last attempt: its name in the policies, a mail host, or what mail hosts end in.
    pub site: Option<String>,
}

impl Filter {
    /// As far as the row tells.
    fn has_row(&self, r: &Receipt) -> bool {
        self.end.is_none_or(|end| end == r.end)
            && self.class.as_ref().is_none_or(|class| *class == r.class)
            && self.stream.is_none_or(|stream| stream == r.stream)
            && self.account.is_none_or(|account| Some(account) == r.account)
            && self.since.is_none_or(|since| since <= r.at)
            && self.until.is_none_or(|until| r.at < until)
    }

    /// Something is asked that only the record of the last attempt tells.
    pub fn asks_records(&self) -> bool {
        self.organisation.is_some() || self.from.is_some() || self.asks_attempts()
    }

    fn asks_attempts(&self) -> bool {
        self.source.is_some() || self.site.is_some()
    }

    /// As far as the record of the last attempt tells; what is asked of a record that is not kept any more does not hold.
    pub fn has_record(&self, head: &Head, last: Option<&Attempt>) -> bool {
        self.organisation.is_none_or(|organisation| organisation == head.organisation)
            && self.from.as_ref().is_none_or(|from| from.is(head.from.as_bytes()))
            && self.source.as_ref().is_none_or(|source| last.is_some_and(|last| last.source() == source))
            && self.site.as_ref().is_none_or(|site| last.is_some_and(|last| last.went_to(site)))
    }
}

/// A page of what was found.
#[derive(Clone, Debug)]
pub struct Found<T, C> {
    /// In the order of the search.
    pub all: Vec<T>,
    /// Where to go on; none when that was all.
    pub next: Option<C>,
}

/// A receipt with what the record of its last attempt tells.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The receipt.
    pub receipt: Receipt,
    /// Whose mail it was; none when the record is gone.
    pub head: Option<Head>,
    /// The last attempt; none when its dialogue is gone or cannot be read.
    pub last: Option<Attempt>,
}

/// At most `n` receipts, those of the youngest messages first, from behind `after` on, with their records, of which each segment is read
/// once. A page may be empty and not the last: it looks at 20,000 rows, and at 1,000 where records are asked.
///
/// # Errors
/// The store's; [`Error::Corrupt`] where none is asked for what its record tells and that cannot be read.
pub fn page(
    tx: &mut Tx<'_>,
    after: Option<(QueueId, u32)>,
    filter: &Filter,
    n: usize,
) -> Result<Found<Recorded, (QueueId, u32)>> {
    let (message, number) = after.map_or((i64::MAX, 0), |(message, number)| (message.raw(), number));
    let limit = if filter.asks_records() { LOOKED_INTO } else { LOOKED_AT.min(n as i64 * 100) };
    let rows = tx.list(&schema::RECEIPTS_BEFORE, params![message, number, limit], read)?;
    let (mut all, mut last, more) = (Vec::new(), None, rows.len() as i64 == limit);
    let mut records = Halves::new();
    for r in rows {
        last = Some((r.message, r.number));
        if !filter.has_row(&r) {
            continue;
        }
        all.extend(records.fitting(tx, filter, r)?);
        if all.len() >= n {
            return Ok(Found { all, next: last });
        }
    }
    Ok(Found { all, next: last.filter(|_| more) })
}

impl Halves {
    /// A receipt with its record, if that fits. Where something is asked of it, one that is not kept any more does not.
    fn fitting(&mut self, tx: &mut Tx<'_>, filter: &Filter, receipt: Receipt) -> Result<Option<Recorded>> {
        let asks = filter.asks_records();
        let Some(Pointer { segment, place }) = receipt.trail else {
            return Ok((!asks).then_some(Recorded { receipt, head: None, last: None }));
        };
        let half = self.heads.of(tx, segment);
        let head = if asks { kept(half)? } else { half? }.and_then(|half| half.head(place));
        let is_so = |head: &Head, last: Option<&Attempt>| !asks || filter.has_record(head, last);
        // What the head tells need not be looked for in the dialogue, which is larger.
        if asks && head.as_ref().is_none_or(|head| !filter.asks_attempts() && !is_so(head, None)) {
            return Ok(None);
        }
        let last = kept(self.dialogues.of(tx, segment))?.and_then(|half| half.attempt(place));
        let fits = head.as_ref().is_none_or(|head| is_so(head, last.as_ref()));
        Ok(fits.then_some(Recorded { receipt, head, last }))
    }
}

/// Whose mail each record is of; none where the record is gone.
///
/// # Errors
/// The store's.
pub fn head(tx: &mut Tx<'_>, trails: &[Option<Pointer>]) -> Result<Vec<Option<Head>>> {
    let mut heads = Segments::new(Half::Heads);
    let one = |trail: &Option<Pointer>| {
        let Some(Pointer { segment, place }) = *trail else { return Ok(None) };
        Ok(heads.of(tx, segment)?.and_then(|records| records.head(place)))
    };
    trails.iter().map(one).collect()
}

/// What cannot be read is as good as gone to whoever looks at many.
fn kept<T>(read: Result<Option<T>>) -> Result<Option<T>> {
    match read {
        Err(Error::Corrupt(_)) => Ok(None),
        read => read,
    }
}

/// The last attempt of each delivery; none where there was none, or its record is gone or cannot be read.
///
/// # Errors
/// The store's.
pub fn last(tx: &mut Tx<'_>, trails: &[Option<Pointer>]) -> Result<Vec<Option<Attempt>>> {
    let mut dialogues = Segments::new(Half::Dialogues);
    let one = |trail: &Option<Pointer>| {
        let Some(Pointer { segment, place }) = *trail else { return Ok(None) };
        Ok(kept(dialogues.of(tx, segment))?.and_then(|records| records.attempt(place)))
    };
    trails.iter().map(one).collect()
}

/// The attempts of deliveries, the oldest first, as far as their records are kept.
///
/// # Errors
/// The store's; [`Error::Corrupt`] for a record that is none.
pub fn attempts(tx: &mut Tx<'_>, trails: &[Option<Pointer>]) -> Result<Vec<Vec<Attempt>>> {
    // Those of one message mostly stand in the same segments, of which each is some 100 KB to unpack.
    let mut dialogues = Segments::new(Half::Dialogues);
    trails.iter().map(|trail| attempts_of_one(tx, &mut dialogues, *trail)).collect()
}

fn attempts_of_one(tx: &mut Tx<'_>, dialogues: &mut Segments, trail: Option<Pointer>) -> Result<Vec<Attempt>> {
    let (mut all, mut next) = (Vec::new(), trail);
    while let Some(Pointer { segment, place }) = next
        && all.len() < MAX_ATTEMPTS
    {
        // It was kept as long as it was to be.
        let Some(records) = dialogues.of(tx, segment)? else { break };
        let bad = || Error::Corrupt(format!("queue: segment {segment}, record {place}").into());
        let attempt = records.attempt(place).ok_or_else(bad)?;
        next = attempt.before;
        all.push(attempt);
    }
    all.reverse();
    Ok(all)
}

/// What receipts are looked for by.
#[derive(Clone, Debug)]
pub enum Key {
    /// The recipient.
    Recipient(String),
    /// The Message-ID, without brackets.
    MessageId(String),
}

/// When a mail was accepted.
#[derive(Clone, Copy, Debug, Default)]
pub struct When {
    /// Then or later.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl When {
    /// Whether it was then.
    pub fn has(&self, accepted: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= accepted) && self.until.is_none_or(|until| accepted < until)
    }
}

/// Deliveries of which a record bears the key, each once, those with the youngest record first; reads the traces of at most `segments` segments, from behind
/// `after` on, and the last of them when `n` deliveries are found: there may be some more in that one.
///
/// # Errors
/// The store's.
pub fn look_up(
    tx: &mut Tx<'_>,
    key: &Key,
    when: When,
    after: Option<i64>,
    segments: u32,
    n: usize,
) -> Result<Found<Head, i64>> {
    let (sql, text) = match key {
        Key::Recipient(text) => (&schema::TRACES_OF_RECIPIENTS, text),
        Key::MessageId(text) => (&schema::TRACES_OF_MESSAGE_IDS, text),
    };
    let (wanted, mut hits, mut last, mut looked_at) = (trace(text), Vec::new(), None, 0);
    tx.rows(sql, params![after.unwrap_or(i64::MAX), segments], |r| {
        let segment = r.int(0)?;
        (last, looked_at) = (Some(segment), looked_at + 1);
        // A merged one may be begun on one page and go on on the next.
        let parts = by_part(segment, r.opt_bytes(1)?, r.bytes(2)?).into_iter();
        for (segment, traces) in parts.filter(|(segment, _)| after.is_none_or(|after| *segment < after)) {
            let places = traces.chunks_exact(2).enumerate().filter(|(_, trace)| **trace == wanted);
            hits.extend(places.map(|(place, _)| (segment, place as u32)));
        }
        Ok(())
    })?;
    let (mut heads, mut seen, mut all) = (Segments::new(Half::Heads), HashSet::new(), Vec::new());
    let (mut next, mut of) = (last.filter(|_| looked_at == segments), None);
    for (segment, place) in hits {
        if all.len() >= n && of.is_some_and(|of| of != segment) {
            next = of;
            break;
        }
        of = Some(segment);
        let Some(head) = heads.of(tx, segment)?.and_then(|records| records.head(place)) else { continue };
        let fits = match key {
            Key::Recipient(to) => head.to.eq_ignore_ascii_case(to),
            Key::MessageId(id) => head.message_id.eq_ignore_ascii_case(id),
        };
        if fits && when.has(head.created) && seen.insert((head.message, head.number)) {
            all.push(head);
        }
    }
    Ok(Found { all, next })
}
