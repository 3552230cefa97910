//! Where a record is found: whatever points to it names the segment that it was written in, and its place there. Small segments are
//! merged later (see `merge`); then the merged one knows which parts it has, and all that points to them stays true.

use store::{Result, Sql, Tx, params};

use super::segment::Unpacked;
use super::wire::{Reader, Writer};
use crate::entry::corrupt;
use crate::schema;

/// Segments that are kept unpacked while others are read.
const SEGMENTS: usize = 16;

/// A segment as it was written, within the one that it stands in by now: mostly all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) segment: i64,
    /// Where its records begin.
    pub(super) first: usize,
    /// How many it has.
    pub(super) records: usize,
}

/// What a segment is made of, by ascending numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// A segment that is as it was written.
    pub(super) fn one(segment: i64, records: usize) -> Parts {
        Parts(vec![Part { segment, first: 0, records }])
    }

    /// Of a higher number than all that are there.
    pub(super) fn add(&mut self, segment: i64, records: usize) {
        let first = self.records();
        self.0.push(Part { segment, first, records });
    }

    pub(super) fn records(&self) -> usize {
        self.0.last().map_or(0, |part| part.first + part.records)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of the last one.
    pub(super) fn last(&self) -> Option<i64> {
        self.0.last().map(|part| part.segment)
    }

    pub(super) fn of(&self, segment: i64) -> Option<Part> {
        self.0.binary_search_by_key(&segment, |part| part.segment).ok().map(|n| self.0[n])
    }

    /// Each by its distance to the one before, and how many records it has: mostly an octet each.
    pub(super) fn packed(&self) -> Vec<u8> {
        let (mut out, mut before) = (Writer::default(), 0i64);
        for part in &self.0 {
            out.int(part.segment.wrapping_sub(before) as u64);
            out.int(part.records as u64);
            before = part.segment;
        }
        out.0
    }

    /// As it stands beside a segment of so many records: nothing, where that is as it was written. None when it is no such thing.
    pub(super) fn read(segment: i64, packed: Option<&[u8]>, records: usize) -> Option<Parts> {
        let Some(packed) = packed else { return Some(Parts::one(segment, records)) };
        let (mut r, mut all, mut before) = (Reader(packed), Parts::default(), 0i64);
        while !r.0.is_empty() {
            let (number, records) = (before.wrapping_add(r.int()? as i64), r.number::<u32>()?);
            if all.last().is_some_and(|last| last >= number) {
                return None;
            }
            all.add(number, records as usize);
            before = number;
        }
        let is_whole = all.records() == records && all.0.first().is_some_and(|part| part.segment == segment);
        is_whole.then_some(all)
    }

    /// What stands there for each record, two octets, by the parts that they are of: the youngest first.
    pub(super) fn split<'a>(&self, traces: &'a [u8]) -> impl Iterator<Item = (i64, &'a [u8])> {
        let of = |part: &Part| Some((part.segment, traces.get(2 * part.first..2 * (part.first + part.records))?));
        self.0.iter().rev().filter_map(of)
    }
}

/// The traces in a row, by the segments that they were written in, the youngest first; nothing of a row that cannot be read.
pub(super) fn by_part<'a>(segment: i64, parts: Option<&[u8]>, traces: &'a [u8]) -> Vec<(i64, &'a [u8])> {
    Parts::read(segment, parts, traces.len() / 2).map_or(Vec::new(), |parts| parts.split(traces).collect())
}

/// Which half of the records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    /// Whose mail it was.
    Heads,
    /// What was said.
    Dialogues,
}

impl Half {
    /// By its own number, and by the number of a part.
    fn statements(self) -> [&'static Sql; 2] {
        match self {
            Half::Heads => [&schema::HEADS, &schema::MERGED_HEADS],
            Half::Dialogues => [&schema::DIALOGUES, &schema::MERGED_DIALOGUES],
        }
    }
}

/// Halves of segments that were read already, the last few.
pub(crate) struct Segments {
    half: Half,
    read: Vec<(Parts, Option<Unpacked>)>,
}

impl Segments {
    pub(crate) fn new(half: Half) -> Self {
        Segments { half, read: Vec::new() }
    }

    /// The records that were written in this segment; none when they are gone.
    pub(crate) fn of(&mut self, tx: &mut Tx<'_>, segment: i64) -> Result<Option<Records<'_>>> {
        let known = self.read.iter().position(|(parts, _)| parts.of(segment).is_some());
        let at = match known {
            Some(at) => at,
            None => {
                // Whoever looks goes through segments in their order, or through the same few; none comes again much later.
                if self.read.len() >= SEGMENTS {
                    self.read.clear();
                }
                self.read.push(self.find(tx, segment)?);
                self.read.len() - 1
            }
        };
        let (parts, unpacked) = &self.read[at];
        Ok(unpacked.as_ref().zip(parts.of(segment)).map(|(of, part)| Records { of, part }))
    }

    fn find(&self, tx: &mut Tx<'_>, segment: i64) -> Result<(Parts, Option<Unpacked>)> {
        for sql in self.half.statements() {
            let found = tx.row(sql, params![segment], |r| {
                // It may be another that was merged, and of the right one the dialogues may be gone.
                let (row, parts) = (r.int(0)?, r.opt_bytes(1)?);
                let Some(packed) = r.opt_bytes(2)?.filter(|_| row <= segment) else { return Ok(None) };
                let unpacked = Unpacked::of(row, packed)?;
                let parts = Parts::read(row, parts, unpacked.len()).ok_or_else(|| corrupt("parts of segment", row))?;
                Ok(parts.of(segment).is_some().then_some((parts, unpacked)))
            })?;
            if let Some((parts, unpacked)) = found.flatten() {
                return Ok((parts, Some(unpacked)));
            }
            // What ended without an attempt is never merged.
            if segment < 0 {
                break;
            }
        }
        Ok((Parts::one(segment, 0), None))
    }
}

/// Both halves of segments that were read: many that are asked for one after the other may stand in the same merged one.
pub(crate) struct Halves {
    pub(crate) heads: Segments,
    pub(crate) dialogues: Segments,
}

impl Halves {
    pub(crate) fn new() -> Halves {
        Halves { heads: Segments::new(Half::Heads), dialogues: Segments::new(Half::Dialogues) }
    }
}

/// What was written in one segment.
pub(crate) struct Records<'a> {
    of: &'a Unpacked,
    part: Part,
}

impl Records<'_> {
    pub(crate) fn len(&self) -> usize {
        self.part.records
    }

    pub(crate) fn head(&self, place: u32) -> Option<super::Head> {
        self.of.head(self.within(place)?)
    }

    pub(crate) fn attempt(&self, place: u32) -> Option<super::Attempt> {
        self.of.attempt(self.within(place)?)
    }

    fn within(&self, place: u32) -> Option<u32> {
        let is_its = (place as usize) < self.part.records;
        is_its.then_some(self.part.first as u32 + place)
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Parts};

    #[test]
    fn parts_are_written_and_read_and_found() {
        let mut parts = Parts::default();
        [(5, 1), (6, 3), ((3 << 40) + 9, 2)].into_iter().for_each(|(segment, records)| parts.add(segment, records));
        let read = Parts::read(5, Some(&parts.packed()), 6).unwrap();
        assert_eq!(read.0, parts.0);
        assert_eq!(read.of(6), Some(Part { segment: 6, first: 1, records: 3 }));
        assert_eq!((read.of(7), read.last(), read.records()), (None, Some((3 << 40) + 9), 6));
        let traces: Vec<u8> = (0..12).collect();
        let split: Vec<_> = read.split(&traces).map(|(segment, traces)| (segment, traces[0], traces.len())).collect();
        assert_eq!(split, [((3 << 40) + 9, 8, 4), (6, 2, 6), (5, 0, 2)]);
        // Of another segment, of fewer records, cut off, twice the same, and none at all.
        let packed = parts.packed();
        let bad = [(6, &packed[..], 6), (5, &packed[..], 5), (5, &packed[..3], 6), (5, &[5, 1, 0, 1], 2), (5, &[], 0)];
        assert!(
            bad.into_iter().all(|(segment, packed, records)| Parts::read(segment, Some(packed), records).is_none())
        );
        assert_eq!(Parts::read(-4, None, 2).unwrap().of(-4), Some(Part { segment: -4, first: 0, records: 2 }));
    }
}
