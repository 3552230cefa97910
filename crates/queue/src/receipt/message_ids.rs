//! Which mail that left has a Message-ID: asked for each mail that comes in and answers another, as most of people's do.
//!
//! The traces of the records (see `segment`) are kept in memory: of the youngest five million deliveries, two octets each. They are
//! read when the first mail asks, and from then on only what the log has more. So an answer to a mail that did not leave here costs
//! one read at the log's end, and a look through some memory.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use store::{Result, Tx, params};

use super::Head;
use super::look::Segments;
use super::segment::trace;
use crate::{log, schema};

/// Segments that are known, the youngest.
const SEGMENTS: u32 = 20_000;
/// Their records.
const RECORDS: usize = 5 << 20;

/// The Message-IDs of what left.
#[derive(Default)]
pub(crate) struct MessageIds(Mutex<Known>);

impl fmt::Debug for MessageIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageIds")
    }
}

#[derive(Default)]
struct Known {
    /// All up to here in the log was read; none before the first time.
    position: Option<i64>,
    /// The number of a segment and its traces, the oldest first.
    segments: VecDeque<(i64, Box<[u16]>)>,
    /// Records of all of them.
    records: usize,
}

impl MessageIds {
    /// Deliveries of mails with one of these Message-IDs, the youngest first: those of which there is the record of an attempt, among
    /// the youngest five million.
    pub(crate) fn find(&self, tx: &mut Tx<'_>, ids: &[String]) -> Result<Vec<Head>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let hits = {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.read(tx)?;
            known.hits(ids)
        };
        let (mut heads, mut seen, mut all) = (Segments::new(&schema::HEADS), HashSet::new(), Vec::new());
        for (segment, place) in hits {
            let Some(head) = heads.of(tx, segment)?.and_then(|unpacked| unpacked.head(place)) else { continue };
            let fits = ids.iter().any(|id| id.eq_ignore_ascii_case(&head.message_id));
            if fits && seen.insert((head.message, head.number)) {
                all.push(head);
            }
        }
        Ok(all)
    }
}

impl Known {
    /// What there is more since the last time.
    fn read(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        let last = log::last(tx)?;
        // Another thread may have read a later state.
        if self.position.is_some_and(|position| last <= position) {
            return Ok(());
        }
        let mut new = Vec::new();
        let read = |r: &store::Row<'_>| {
            new.push((r.int(0)?, r.bytes(1)?.chunks_exact(2).map(|of| number([of[0], of[1]])).collect()));
            Ok(())
        };
        match self.position.filter(|position| last - position <= i64::from(SEGMENTS)) {
            Some(position) => tx.rows(&schema::TRACES_BEHIND, params![position], read)?,
            None => {
                tx.rows(&schema::TRACES_LATELY, params![SEGMENTS], read)?;
                new.reverse();
                *self = Known::default();
            }
        }
        self.records += new.iter().map(|(_, traces): &(i64, Box<[u16]>)| traces.len()).sum::<usize>();
        self.segments.extend(new);
        self.position = Some(last);
        while self.segments.len() > SEGMENTS as usize || self.records > RECORDS {
            self.records -= self.segments.pop_front().map_or(self.records, |(_, traces)| traces.len());
        }
        Ok(())
    }

    fn hits(&self, ids: &[String]) -> Vec<(i64, u32)> {
        let mut hits = Vec::new();
        let wanted: Vec<u16> = ids.iter().map(|id| number(trace(id))).collect();
        for (segment, traces) in self.segments.iter().rev() {
            for wanted in &wanted {
                // Most have none: without a branch for each this is 1.8 ms for five million.
                if traces.iter().fold(false, |any, trace| any | (trace == wanted)) {
                    let places = (0..).zip(traces).filter(|(_, trace)| *trace == wanted);
                    hits.extend(places.map(|(place, _)| (*segment, place)));
                }
            }
        }
        hits
    }
}

fn number(trace: [u8; 2]) -> u16 {
    u16::from_be_bytes(trace)
}
