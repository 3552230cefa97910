//! Small segments become larger ones. Whoever sends single mails writes segments of one record, which have nothing before them to be
//! compressed against: some minutes later those that follow each other are packed together, up to 256 records, and the new segment
//! takes their place. Each is merged once. What points to their records stays as it is (see `part`).
//!
//! Large ones are not touched, and are no entry of the index by which small ones are found.

use std::time::Duration;

use base::Timestamp;
use store::{Error, Result, Row, Tx, params};

use super::part::Parts;
use super::segment::{Builder, Segment, Unpacked};
use super::wire::Writer;
use crate::{Queue, QueueId, schema};

/// Records of a merged segment, at most; as many as the outbox writes in one.
const RECORDS: usize = 256;
/// It takes the place of so many, at least.
const LEAST: usize = 4;
/// Younger ones are left alone: their records are about to be read, by who tells of them.
const AGE: Duration = Duration::from_secs(5 * 60);
/// From the first to the last of those that are merged: they are forgotten together.
const SPAN: Duration = Duration::from_secs(3600);

/// Small segments that follow each other, and the one that is to be in their place.
#[derive(Clone, Debug)]
pub struct Merge {
    first: i64,
    last: i64,
    /// None when there are too few of them, or their dialogues are gone: then they stay as they are, for good.
    into: Option<Segment>,
    segments: u64,
}

/// A small one.
#[derive(Clone, Copy)]
struct Small {
    id: i64,
    at: i64,
    records: usize,
}

/// Finds the first segments behind this number (0 at first) that are to be merged, and packs them: at most 256 records. To be done
/// outside of a job. None when there are no more by now.
///
/// # Errors
/// The store's.
pub fn to_merge(tx: &mut Tx<'_>, queue: &Queue, behind: i64, now: Timestamp) -> Result<Option<Merge>> {
    let mut behind = behind;
    loop {
        let read = |r: &Row<'_>| Ok(Small { id: r.int(0)?, at: r.int(1)?, records: r.int(2)? as usize / 2 });
        let small = tx.list(&schema::SMALL_SEGMENTS, params![behind, RECORDS as u32 + 1], read)?;
        let Some(first) = small.first().map(|small| small.id) else { return Ok(None) };
        // Between the parts of one that was merged before: written much later than its number was drawn.
        let overlaps = tx.row(&schema::MERGED_BEHIND, params![first], |r| r.int(0))?.is_some_and(|row| row < first);
        if overlaps {
            return Ok(Some(Merge { first, last: first, into: None, segments: 1 }));
        }
        if let Some(run) = run(tx, &small, now)? {
            let last = run.last().map_or(first, |small| small.id);
            let into = if run.len() < LEAST { None } else { pack(tx, queue, run)? };
            return Ok(Some(Merge { first, last, into, segments: run.len() as u64 }));
        }
        // This life of a node may have more to come.
        behind = QueueId::stored(first).last_of_epoch();
    }
}

/// Those from the first on that may be merged; none as long as more may follow, or they are too young.
fn run<'a>(tx: &mut Tx<'_>, small: &'a [Small], now: Timestamp) -> Result<Option<&'a [Small]>> {
    let Some(first) = small.first() else { return Ok(None) };
    let (age, span) = (AGE.as_millis() as i64, SPAN.as_millis() as i64);
    let (end, mut records) = (QueueId::stored(first.id).last_of_epoch(), 0);
    // One from the future was written by a clock that was set since.
    let is_old = |at: i64, age: i64| at + age <= now.0 || at > now.0;
    let of_epoch = &small[..small.partition_point(|small| small.id <= end)];
    let fits = |small: &&Small| {
        records += small.records;
        records <= RECORDS && (small.at - first.at).abs() < span
    };
    let mut n = of_epoch.iter().take_while(fits).count();
    let mut is_over = records >= RECORDS || n < of_epoch.len() || is_old(first.at, span + age);
    // So they are all there is between the first and the last of them, and a search meets none out of its turn.
    if let Some(last) = of_epoch.get(n.saturating_sub(1))
        && let Some(other) = tx.row(&schema::NOT_SMALL_BETWEEN, params![first.id, last.id], |r| r.int(0))?
    {
        (n, is_over) = (of_epoch.partition_point(|small| small.id < other), true);
    }
    let run = &of_epoch[..n];
    Ok((is_over && run.iter().all(|small| is_old(small.at, age))).then_some(run))
}

/// None when something of them is gone, or cannot be read.
fn pack(tx: &mut Tx<'_>, queue: &Queue, run: &[Small]) -> Result<Option<Segment>> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(None) };
    let (mut all, mut parts, mut youngest, mut is_whole) = (Builder::default(), Parts::default(), 0, true);
    tx.rows(&schema::SMALL_RECORDS, params![first.id, last.id], |r| {
        let id = r.int(0)?;
        let halves = Unpacked::of(id, r.bytes(4)?).ok().zip(Unpacked::of(id, r.bytes(5)?).ok());
        let (recipients, message_ids) = (r.bytes(2)?, r.bytes(3)?);
        let fits = |(heads, dialogues): &(Unpacked, Unpacked)| {
            let n = heads.len();
            dialogues.len() == n && recipients.len() == 2 * n && message_ids.len() == 2 * n
        };
        let Some((heads, dialogues)) = halves.filter(fits) else {
            is_whole = false;
            return Ok(());
        };
        parts.add(id, heads.len());
        youngest = youngest.max(r.int(1)?);
        all.recipients.extend_from_slice(recipients);
        all.message_ids.extend_from_slice(message_ids);
        all.heads.extend(heads.each().map(|record| Writer(record.to_vec())));
        all.dialogues.extend(dialogues.each().map(|record| Writer(record.to_vec())));
        Ok(())
    })?;
    if !is_whole || parts.len() != run.len() || parts.records() > RECORDS {
        return Ok(None);
    }
    // It is forgotten with the youngest.
    Ok(Some(all.finish(queue.packer(), first.id, Timestamp(youngest))?.merged(parts)))
}

impl Merge {
    /// The number of the last of them: where to go on.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// How many segments it is that the new one takes the place of; 0 when these stay as they are.
    pub fn segments(&self) -> u64 {
        self.into.as_ref().map_or(0, |_| self.segments)
    }

    /// Puts the new one in their place, in one job.
    ///
    /// # Errors
    /// [`Error::Busy`] when they are not what they were: nothing is changed then. The store's.
    pub fn write(&self, tx: &mut Tx<'_>) -> Result<()> {
        let between = params![self.first, self.last];
        let Some(into) = &self.into else { return tx.send(&schema::LEAVE_SMALL, between) };
        let dialogues = tx.execute(&schema::REMOVE_SMALL_DIALOGUES, between)?;
        let segments = tx.execute(&schema::REMOVE_SMALL_SEGMENTS, between)?;
        let other = tx.row(&schema::NOT_SMALL_BETWEEN, between, |r| r.int(0))?;
        // Another has merged them, some were forgotten, or what was long in its commit stands between them.
        if (dialogues, segments) != (self.segments, self.segments) || other.is_some() {
            return Err(Error::Busy);
        }
        into.insert(tx)
    }
}

/// What is wrong with merged segments, in words.
pub(crate) fn verify(tx: &mut Tx<'_>, wrong: &mut Vec<String>) -> Result<()> {
    let mut before = 0;
    tx.rows(&schema::VERIFY_MERGED, params![], |r| {
        let (id, last) = (r.int(0)?, r.opt_int(1)?.unwrap_or(0));
        let records = Unpacked::of(id, r.bytes(5)?).map_or(0, |heads| heads.len());
        let parts = Parts::read(id, r.opt_bytes(2)?, records).filter(|parts| parts.last() == Some(last));
        let traces = 2 * records as i64;
        let dialogues = r.opt_bytes(6)?.map(|packed| Unpacked::of(id, packed).map_or(0, |dialogues| dialogues.len()));
        let is_whole =
            parts.is_some() && (r.int(3)?, r.int(4)?) == (traces, traces) && dialogues.is_none_or(|n| n == records);
        if !is_whole {
            wrong.push(format!("queue: segment {id}: what was merged into it is not all there"));
        }
        if id <= before {
            wrong.push(format!("queue: segment {id} overlaps the one before"));
        }
        before = last;
        Ok(())
    })
}
