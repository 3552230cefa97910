//! Looking at the queue, changing its course, and paying its debts.

use std::ops::Range;
use std::sync::Arc;

use base::{OrganisationId, Timestamp};
use store::{Error, Result, Tx, params};

use crate::entry::{read_delivery, read_message};
use crate::node::{Told, tell};
use crate::receipt::ByMessage;
use crate::{Delivery, Message, Owed, QueueId, State, claim, receipt, schema};

/// A delivery as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The delivery.
    pub delivery: Delivery,
    /// Its state.
    pub state: State,
    /// When it is due, if it waits.
    pub due: Timestamp,
    /// Reports that are still to be sent.
    pub owed: Owed,
    /// The enhanced code of the last reply (RFC 3463); empty before the first attempt.
    pub status: String,
    /// The last reply.
    pub reply: String,
    /// The host that gave it; empty when it is ours.
    pub host: String,
    /// The class of the last refusal (`bounce::Class`); empty when there is none.
    pub class: String,
}

/// At most `n` messages behind `after`, the oldest first.
///
/// # Errors
/// The store's.
pub fn page(tx: &mut Tx<'_>, after: QueueId, n: u32) -> Result<Vec<QueueId>> {
    tx.list(&schema::PAGE, params![after, n], |r| Ok(QueueId::stored(r.int(0)?)))
}

/// Whether mail of an organisation waits, is being sent, or owes its sender a report.
///
/// # Errors
/// The store's.
pub fn has_mail(tx: &mut Tx<'_>, organisation: OrganisationId) -> Result<bool> {
    Ok(tx.row(&schema::HAS_MAIL, params![organisation], |_| Ok(()))?.is_some())
}

/// Whether a message is in the queue.
///
/// # Errors
/// The store's.
pub fn exists(tx: &mut Tx<'_>, id: QueueId) -> Result<bool> {
    Ok(tx.row(&schema::EXISTS, params![id], |_| Ok(()))?.is_some())
}

/// A message and all its deliveries; none when it is finished.
///
/// # Errors
/// The store's; [`store::Error::Corrupt`] when a row of the message cannot be read.
pub fn show(tx: &mut Tx<'_>, id: QueueId) -> Result<Option<(Message, Vec<Standing>)>> {
    show_some(tx, id, None, u32::MAX)
}

/// A message and at most `n` of its deliveries, of higher numbers than `behind`; none when it is finished.
///
/// # Errors
/// As [`show`], of the rows that are read.
pub fn show_some(
    tx: &mut Tx<'_>,
    id: QueueId,
    behind: Option<u32>,
    n: u32,
) -> Result<Option<(Message, Vec<Standing>)>> {
    let Some(message) = tx.row(&schema::MESSAGE, params![id], |r| read_message(r, 0))? else { return Ok(None) };
    let deliveries = tx.list(&schema::DELIVERIES, params![id, behind.map_or(-1, i64::from), n], |r| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Standing {
            delivery: read_delivery(r, 0)?,
            state: State::read(r.int(10)?)?,
            due: Timestamp(r.int(11)?),
            owed: Owed::read(r.int(12)?),
            status: r.text(13)?.to_owned(),
            reply: text(r.bytes(14)?),
            host: text(r.bytes(15)?),
            class: r.text(16)?.to_owned(),
        })
    })?;
    Ok(Some((message, deliveries)))
}

/// One delivery, with its message; none when it is finished.
///
/// # Errors
/// As [`show`], of the rows that are read.
pub fn show_one(tx: &mut Tx<'_>, id: QueueId, number: u32) -> Result<Option<(Message, Standing)>> {
    let found = show_some(tx, id, number.checked_sub(1), 1)?;
    Ok(found.and_then(|(message, mut first)| Some((message, first.pop().filter(|d| d.delivery.number == number)?))))
}

/// Whose mail an open delivery is; none when it is not, or cannot be read.
pub(crate) fn open_head(tx: &mut Tx<'_>, id: QueueId, number: u32) -> Result<Option<receipt::Head>> {
    match show_one(tx, id, number) {
        Ok(found) => Ok(found.filter(|(_, d)| d.state.is_open()).map(|(m, d)| receipt::Head::of(&m, &d.delivery))),
        Err(Error::Corrupt(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Some deliveries of a message, with it; without those that cannot be read, and none where the message cannot be.
pub(crate) fn readable(tx: &mut Tx<'_>, id: QueueId, numbers: &[u32]) -> Result<Vec<(Arc<Message>, Delivery)>> {
    fn known<T>(read: Result<Option<T>>) -> Result<Option<T>> {
        match read {
            Err(Error::Corrupt(_)) => Ok(None),
            read => read,
        }
    }
    let message = known(tx.row(&schema::MESSAGE, params![id], |r| read_message(r, 0)))?;
    let Some(message) = message.map(Arc::new) else { return Ok(Vec::new()) };
    let mut all = Vec::with_capacity(numbers.len());
    // Mostly they follow each other.
    for run in numbers.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (first, last) = (run.first().copied(), run.last().copied());
        let read =
            tx.list(&schema::DELIVERIES_BETWEEN, params![id, first, last], |r| known(read_delivery(r, 0).map(Some)))?;
        all.extend(read.into_iter().flatten().map(|delivery| (message.clone(), delivery)));
    }
    Ok(all)
}

/// What was made due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retried {
    /// So many deliveries.
    pub due: u64,
    /// What has this number, and those behind it, are not looked at yet.
    pub next: Option<u32>,
}

/// Makes due at once what waits of a message or is held, of some of its deliveries, from that number on: a message may have any number of
/// them.
///
/// # Errors
/// The store's.
pub fn retry(tx: &mut Tx<'_>, id: QueueId, from: u32, now: Timestamp) -> Result<Retried> {
    let end = from.saturating_add(PIECE);
    Ok(Retried { due: retry_between(tx, id, from..end, now)?, next: next_piece(tx, id, end)? })
}

/// The same of those with these numbers, of which there are few; gives how many were made due.
///
/// # Errors
/// The store's.
pub fn retry_between(tx: &mut Tx<'_>, id: QueueId, numbers: Range<u32>, now: Timestamp) -> Result<u64> {
    let due = tx.execute(&schema::RETRY, params![id, now, numbers.start, numbers.end])?;
    if due > 0 {
        tell(tx, &Told::Retried(id, numbers, now))?;
    }
    Ok(due)
}

/// Where the deliveries of a message go on behind a piece of them.
fn next_piece(tx: &mut Tx<'_>, id: QueueId, end: u32) -> Result<Option<u32>> {
    let total = tx.row(&schema::TOTAL, params![id], |r| Ok(r.int(0)? as u32))?;
    Ok(total.filter(|total| *total > end).map(|_| end))
}

/// What was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// So many deliveries will not be attempted any more.
    pub cancelled: u64,
    /// So many are claimed, and cancelled unless they are delivered first.
    pub under_way: u64,
    /// So many reports will not be sent.
    pub reports: u64,
    /// What has this number, and those behind it, are not cancelled yet.
    pub next: Option<u32>,
}

/// Deliveries that one job cancels or makes due: a few milliseconds of work.
const PIECE: u32 = 256;

/// Takes back some deliveries of a message, from that number on, without a report: a message may have any number of them. Its rows need not
/// be readable.
///
/// # Errors
/// The store's.
pub fn cancel(tx: &mut Tx<'_>, id: QueueId, from: u32, now: Timestamp) -> Result<Cancelled> {
    let end = from.saturating_add(PIECE);
    // Its row may go with what is cancelled.
    let next = next_piece(tx, id, end)?;
    Ok(Cancelled { next, ..cancel_between(tx, id, from..end, now)? })
}

/// The same of those with these numbers, of which there are few.
///
/// # Errors
/// The store's.
pub fn cancel_between(tx: &mut Tx<'_>, id: QueueId, numbers: Range<u32>, now: Timestamp) -> Result<Cancelled> {
    let Range { start: from, end } = numbers;
    let numbers = tx.list(&schema::CANCEL, params![id, from, end], |r| Ok(r.int(0)? as u32))?;
    let cancelled = numbers.len() as u64;
    receipt::cancelled(tx, &ByMessage::from([(id, numbers)]), now)?;
    let under_way = tx.execute(&schema::CANCEL_CLAIMED, params![id, from, end])?;
    let reports = tx.execute(&schema::CANCEL_REPORTS, params![id, from, end])?;
    if under_way > 0 {
        tell(tx, &Told::Cancelling(id))?;
    }
    if cancelled + reports > 0 {
        claim::close(tx, [(id, (cancelled + reports) as u32)])?;
    }
    Ok(Cancelled { cancelled, under_way, reports, next: None })
}

/// A report that was sent.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The delivery's number.
    pub number: u32,
    /// What it owed.
    pub owed: Owed,
    /// Where it stood.
    pub state: State,
}

/// Strikes out debts; in the commit that sends the report. A debt that grew meanwhile stays.
///
/// # Errors
/// The store's.
pub fn reported(tx: &mut Tx<'_>, id: QueueId, reports: &[Report]) -> Result<()> {
    let mut closed = 0;
    tx.each(
        &schema::REPORTED,
        reports,
        |r| [id.into(), r.number.into(), r.owed.stored().into()],
        // What still waits was open before its debt, and is after.
        |r, answer| closed += u32::from(answer.changed == 1 && !r.state.is_open()),
    )?;
    if closed > 0 { claim::close(tx, [(id, closed)]) } else { Ok(()) }
}

/// The messages that owe their sender a report; asked at start, as a crash may have come between debt and report.
///
/// # Errors
/// The store's.
pub fn owing(tx: &mut Tx<'_>) -> Result<Vec<QueueId>> {
    tx.list(&schema::OWING, params![], |r| Ok(QueueId::stored(r.int(0)?)))
}
