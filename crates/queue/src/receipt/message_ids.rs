//! Which mail that left has a Message-ID: asked for each mail that comes in and answers another, as most of people's do.
//!
//! The traces of the records (see `segment`) are kept in memory: of the youngest 20,000 segments, and of five million deliveries at
//! most, two octets each. A server that is not busy writes segments of one record, and its 20,000 are that many attempts: here they count
//! as they were written, also when they were merged since. They are read when the first mail asks, in pages, and from then on only what the
//! log has more; anew, when the log has forgotten some of that. So an answer to a mail that did not leave
//! here costs one read at the log's end, and a look through some memory. The store is never read while that memory is locked: whoever
//! asks while another reads looks through what there is.
//!
//! What has the trace need not have the Message-ID: the hash is short and has no key, as it stands on disk for good. Whoever can send
//! here may pile up mails with the trace of one that he wants to hide, or with one Message-ID. So no look-up reads more than a number
//! of segments and of records, and it says where it gave up.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use store::{Result, Tx, params};

use super::Head;
use super::part::{Half, Segments, by_part};
use super::segment::trace;
use crate::{log, schema};

/// Segments that are known, the youngest.
const SEGMENTS: usize = 20_000;
/// Their records.
const RECORDS: usize = 5 << 20;
/// Segments that are read at once into memory.
const PAGE: usize = 500;
/// Segments that one look-up unpacks. Of five million deliveries some 80 have a given trace.
const READ_SEGMENTS: usize = 200;
/// Records that one look-up reads in them.
const READ_RECORDS: usize = 1_000;

/// The Message-IDs of what left.
#[derive(Default)]
pub(crate) struct MessageIds {
    known: RwLock<Known>,
    /// Held by the one that fills it.
    filling: Mutex<()>,
}

impl fmt::Debug for MessageIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageIds")
    }
}

/// What left with a Message-ID.
#[derive(Debug)]
pub(crate) struct Left {
    /// The youngest first.
    pub heads: Vec<Head>,
    /// There is no more, as far as it is kept in memory. Else the look-up gave up, or what is to be known is just read.
    pub is_all: bool,
}

/// The number of a segment and its traces.
type Traces = (i64, Box<[u16]>);

#[derive(Default)]
struct Known {
    /// All behind here in the log is to be read; none before the first time.
    position: Option<i64>,
    /// What is older than this (a time and a segment) is to be read.
    older: Option<(i64, i64)>,
    /// The oldest first.
    segments: VecDeque<Traces>,
    /// Records of all of them.
    records: usize,
}

impl MessageIds {
    /// Deliveries of mails with one of these Message-IDs, those of which there is the record of an attempt among the youngest 20,000
    /// segments and five million deliveries. At most 200 segments are unpacked for it and 1,000 records looked at, the youngest: what
    /// lies behind is not found.
    pub(crate) fn find(&self, tx: &mut Tx<'_>, ids: &[String]) -> Result<Left> {
        // Mails without one are no mails of one.
        let wanted: Vec<u16> = ids.iter().filter(|id| !id.is_empty()).map(|id| number(trace(id))).collect();
        if wanted.is_empty() {
            return Ok(Left { heads: Vec::new(), is_all: true });
        }
        self.follow(tx)?;
        self.fill(tx)?;
        let (hits, is_all) = self.known().hits(&wanted);
        let (mut segments, mut seen, mut heads) = (Segments::new(Half::Heads), HashSet::new(), Vec::new());
        for (segment, place) in hits {
            let Some(head) = segments.of(tx, segment)?.and_then(|records| records.head(place)) else { continue };
            let fits = !head.message_id.is_empty() && ids.iter().any(|id| id.eq_ignore_ascii_case(&head.message_id));
            if fits && seen.insert((head.message, head.number)) {
                heads.push(head);
            }
        }
        Ok(Left { heads, is_all })
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what there is more since the last time. Several may do so at once.
    fn follow(&self, tx: &mut Tx<'_>) -> Result<()> {
        let known = self.known().position;
        let Some(mut from) = known else { return Ok(()) };
        let last = log::last(tx)?;
        // What the log has forgotten since then is among the segments all the same.
        if last - from > SEGMENTS as i64 || last > from && !log::has(tx, from + 1)? {
            let mut stale = self.change();
            if stale.position == known {
                *stale = Known::default();
            }
            return Ok(());
        }
        while from < last {
            let (mut new, mut rows, mut behind) = (Vec::new(), 0, last);
            tx.rows(&schema::TRACES_BEHIND, params![from, PAGE as u32], |r| {
                let (position, written) = (r.int(3)?, r.int(4)?);
                let part = by_part(r.int(0)?, r.opt_bytes(1)?, r.bytes(2)?).into_iter().find(|(of, _)| *of == written);
                new.extend(part.map(|(of, traces)| (position, (of, numbers(traces)))));
                (rows, behind) = (rows + 1, position);
                Ok(())
            })?;
            from = if rows == PAGE { behind } else { last };
            self.change().append(new, from);
        }
        Ok(())
    }

    /// Reads what was there before the first time, unless another does.
    fn fill(&self, tx: &mut Tx<'_>) -> Result<()> {
        if self.known().is_filled() {
            return Ok(());
        }
        let _filling = match self.filling.try_lock() {
            Ok(filling) => filling,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(()),
        };
        let is_new = self.known().position.is_none();
        if is_new {
            let last = log::last(tx)?;
            *self.change() = Known { position: Some(last), older: Some((i64::MAX, i64::MAX)), ..Known::default() };
        }
        loop {
            let older = self.known().older;
            let Some((at, id)) = older else { return Ok(()) };
            let (mut page, mut rows, mut behind) = (Vec::new(), 0, None);
            tx.rows(&schema::TRACES_LATELY, params![at, id, PAGE as u32], |r| {
                let (segment, at) = (r.int(0)?, r.int(3)?);
                let parts = by_part(segment, r.opt_bytes(1)?, r.bytes(2)?).into_iter();
                page.extend(parts.map(|(of, traces)| (of, numbers(traces))));
                (rows, behind) = (rows + 1, Some((at, segment)));
                Ok(())
            })?;
            self.change().prepend(page, behind.filter(|_| rows == PAGE));
        }
    }
}

impl Known {
    fn is_filled(&self) -> bool {
        self.position.is_some() && self.older.is_none()
    }

    /// What the log has more, each with its position, and up to which that is all.
    fn append(&mut self, new: Vec<(i64, Traces)>, to: i64) {
        // It may have been thrown away, or another have read the same.
        let Some(position) = self.position else { return };
        for (_, traces) in new.into_iter().filter(|(at, _)| *at > position) {
            self.records += traces.1.len();
            self.segments.push_back(traces);
        }
        self.position = Some(position.max(to));
        while self.segments.len() > SEGMENTS || self.records > RECORDS {
            self.records -= self.segments.pop_front().map_or(self.records, |(_, traces)| traces.len());
        }
    }

    /// A page of older ones, the youngest first, and where to go on.
    fn prepend(&mut self, page: Vec<Traces>, more: Option<(i64, i64)>) {
        for traces in page {
            if self.segments.len() == SEGMENTS || self.records + traces.1.len() > RECORDS {
                self.older = None;
                return;
            }
            self.records += traces.1.len();
            self.segments.push_front(traces);
        }
        self.older = more;
    }

    /// Where these traces are, the youngest first, and whether that is all.
    fn hits(&self, wanted: &[u16]) -> (Vec<(i64, u32)>, bool) {
        let (mut hits, mut segments) = (Vec::new(), 0);
        for (segment, traces) in self.segments.iter().rev() {
            // Most have none: without a branch for each this is 1.8 ms for five million.
            if !wanted.iter().any(|wanted| traces.iter().fold(false, |any, trace| any | (trace == wanted))) {
                continue;
            }
            if segments == READ_SEGMENTS {
                return (hits, false);
            }
            segments += 1;
            for (place, _) in (0..).zip(traces).filter(|(_, trace)| wanted.contains(trace)) {
                if hits.len() == READ_RECORDS {
                    return (hits, false);
                }
                hits.push((*segment, place));
            }
        }
        (hits, self.is_filled())
    }
}

fn number(trace: [u8; 2]) -> u16 {
    u16::from_be_bytes(trace)
}

fn numbers(traces: &[u8]) -> Box<[u16]> {
    traces.chunks_exact(2).map(|of| number([of[0], of[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::{Known, READ_RECORDS, READ_SEGMENTS, SEGMENTS, Traces};

    /// Segments of so many records of one trace, read from the log.
    fn known(segments: usize, records: usize) -> Known {
        let mut known = Known { position: Some(0), ..Known::default() };
        let one = |n: usize| -> (i64, Traces) { (n as i64, (n as i64, vec![7; records].into())) };
        known.append((1..=segments).map(one).collect(), segments as i64);
        known
    }

    #[test]
    fn a_trace_that_many_records_have_makes_nobody_read_them_all() {
        for (segments, records, found, youngest) in
            [(3, 2, 6, 3), (READ_SEGMENTS + 50, 2, READ_SEGMENTS * 2, 250), (9, 500, READ_RECORDS, 9)]
        {
            let (hits, is_all) = known(segments, records).hits(&[7, 9]);
            assert_eq!((hits.len(), hits[0], is_all), (found, (youngest, 0), segments == 3));
        }
        assert_eq!(known(9, 9).hits(&[8]), (vec![], true));
    }

    #[test]
    fn what_two_have_read_at_once_is_there_once_and_what_is_older_is_read_behind_it() {
        let mut known = known(5, 1);
        known.append(vec![(5, (5, [7].into())), (6, (6, [7].into()))], 6);
        assert_eq!((known.position, known.segments.len()), (Some(6), 6));
        known.append(vec![(6, (6, [7].into()))], 6);
        assert_eq!((known.position, known.records), (Some(6), 6));
        known.older = Some((i64::MAX, i64::MAX));
        assert!(!known.hits(&[7]).1, "some is still to be read");
        known.prepend(vec![(0, [7].into()), (-1, [7].into())], None);
        let (hits, is_all) = known.hits(&[7]);
        assert_eq!((hits.first(), hits.last(), hits.len(), is_all), (Some(&(6, 0)), Some(&(-1, 0)), 8, true));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let known = known(SEGMENTS + 9, 1);
        assert_eq!((known.segments.len(), known.records, known.segments[0].0), (SEGMENTS, SEGMENTS, 10));
    }
}
