//! The index of a mailbox: every place in UID order, in copy-on-write chunks, so that a session's older view and the
//! newest one share what did not change.

use std::sync::Arc;

use base::{EmailId, ModSeq, Uid, UidValidity};

use crate::{FlagOp, Flags, Keywords, UidSet};

/// Places in a chunk, at most: what a change copies.
const CHUNK: usize = 256;

/// One place: a mail standing in this mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number here.
    pub uid: Uid,
    /// RFC822.SIZE: our prefix and the mail.
    pub octets: u32,
    /// Which mail.
    pub email: EmailId,
    /// Its flags.
    pub flags: Flags,
    /// When it last changed.
    pub modseq: ModSeq,
}

type Chunk = Vec<Entry>;

/// All places of a mailbox at one moment. Sequence numbers count from 1, as IMAP does.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// RFC 9051 §2.3.1.1
    pub uid_validity: UidValidity,
    /// The next mail gets at least this UID.
    pub uid_next: u32,
    /// HIGHESTMODSEQ (RFC 7162 §3.1.2.1); also what a job compares with the mailbox's row.
    pub modseq: ModSeq,
    /// The mailbox's keywords.
    pub keywords: Keywords,
    chunks: Vec<Arc<Chunk>>,
    /// For each chunk, how many places stand before it.
    before: Vec<u32>,
    len: u32,
}

impl Index {
    /// How many places.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// No places.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place with this sequence number.
    pub fn get(&self, seq: u32) -> Option<&Entry> {
        let i = seq.checked_sub(1)?;
        let c = self.before.partition_point(|b| *b <= i).checked_sub(1)?;
        self.chunks[c].get((i - self.before[c]) as usize)
    }

    /// The place with this UID, and its sequence number.
    pub fn find(&self, uid: Uid) -> Option<(u32, &Entry)> {
        let seq = self.seq_from(uid);
        self.get(seq).filter(|e| e.uid == uid).map(|e| (seq, e))
    }

    /// The sequence number of the first place with a UID of at least `uid`; one past the last when there is none.
    pub fn seq_from(&self, uid: Uid) -> u32 {
        let c = self.chunks.partition_point(|c| c.last().is_none_or(|e| e.uid < uid));
        match self.chunks.get(c) {
            None => self.len + 1,
            Some(chunk) => self.before[c] + chunk.partition_point(|e| e.uid < uid) as u32 + 1,
        }
    }

    /// Places with their sequence numbers, from `seq` on.
    pub fn iter_from(&self, seq: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let i = seq.max(1) - 1;
        let c = self.before.partition_point(|b| *b <= i).saturating_sub(1);
        let skip = (i - self.before.get(c).copied().unwrap_or(0)) as usize;
        let entries = self.chunks.get(c..).unwrap_or_default().iter().flat_map(|c| c.iter());
        entries.skip(skip).zip(i + 1..).map(|(e, seq)| (seq, e))
    }

    /// All places with their sequence numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Entry)> {
        self.iter_from(1)
    }

    /// The places whose UIDs are in `set`, in order: costs what is there, not what the set spans.
    pub fn within<'a>(&'a self, set: &'a UidSet) -> impl Iterator<Item = (u32, &'a Entry)> {
        set.ranges().iter().flat_map(move |(from, to)| {
            self.iter_from(self.seq_from(Uid(*from))).take_while(move |(_, e)| e.uid.0 <= *to)
        })
    }

    /// The UIDs of the places with sequence numbers in `set`.
    pub fn uids_of(&self, seqs: &UidSet) -> UidSet {
        let places =
            seqs.ranges().iter().flat_map(|(from, to)| self.iter_from(*from).take_while(move |(seq, _)| seq <= to));
        places.map(|(_, e)| e.uid.0).collect()
    }

    /// The highest UID; 0 for an empty mailbox.
    pub fn max_uid(&self) -> u32 {
        self.chunks.last().and_then(|c| c.last()).map_or(0, |e| e.uid.0)
    }

    /// The first place without `\Seen` (RFC 3501 §7.1 UNSEEN).
    pub fn first_unseen(&self) -> Option<u32> {
        self.iter().find(|(_, e)| !e.flags.has(Flags::SEEN)).map(|(seq, _)| seq)
    }

    /// Adds a place above all others.
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(entry.uid.0 > self.max_uid());
        match self.chunks.last_mut() {
            Some(last) if last.len() < CHUNK => Arc::make_mut(last).push(entry),
            _ => {
                self.chunks.push(Arc::new(vec![entry]));
                self.before.push(self.len);
            }
        }
        self.len += 1;
        self.uid_next = self.uid_next.max(entry.uid.0.saturating_add(1));
    }

    /// Changes flags, and the MODSEQ with them.
    pub(crate) fn set_flags(&mut self, uids: &UidSet, op: FlagOp, flags: Flags, modseq: ModSeq) {
        self.each_chunk(uids, |chunk, hit| {
            for e in Arc::make_mut(chunk).iter_mut().filter(|e| hit(e.uid.0)) {
                e.flags = op.apply(e.flags, flags);
                e.modseq = modseq;
            }
        });
    }

    /// Overwrites one place's flags and MODSEQ (from a folded chunk).
    pub(crate) fn overwrite(&mut self, uid: u32, flags: Flags, modseq: ModSeq) {
        self.each_chunk(&UidSet::from_ranges([(uid, uid)]), |chunk, hit| {
            for e in Arc::make_mut(chunk).iter_mut().filter(|e| hit(e.uid.0)) {
                (e.flags, e.modseq) = (flags, modseq);
            }
        });
    }

    /// Takes places away.
    pub(crate) fn remove(&mut self, uids: &UidSet) {
        self.each_chunk(uids, |chunk, hit| {
            if chunk.iter().any(|e| hit(e.uid.0)) {
                Arc::make_mut(chunk).retain(|e| !hit(e.uid.0));
            }
        });
        self.chunks.retain(|c| !c.is_empty());
        self.before.clear();
        self.len = 0;
        for c in &self.chunks {
            self.before.push(self.len);
            self.len += c.len() as u32;
        }
    }

    /// Calls `each` for the chunks that may hold UIDs of the set.
    fn each_chunk(&mut self, uids: &UidSet, mut each: impl FnMut(&mut Arc<Chunk>, &dyn Fn(u32) -> bool)) {
        let mut from = 0;
        for (a, b) in uids.ranges() {
            from = from.max(self.chunks.partition_point(|c| c.last().is_none_or(|e| e.uid.0 < *a)));
            let mut i = from;
            while let Some(chunk) = self.chunks.get_mut(i) {
                if chunk.first().is_none_or(|e| e.uid.0 > *b) {
                    break;
                }
                each(chunk, &|uid| (*a..=*b).contains(&uid));
                i += 1;
            }
        }
    }

    /// What happened between `self` and `newer`: for telling a session, which sees `self`. Chunks they share are passed
    /// over, so this costs what changed.
    pub fn difference(&self, newer: &Index) -> Difference {
        let mut out = Difference::default();
        let (mut old, mut new) = (Cursor::new(self), Cursor::new(newer));
        loop {
            if old.skip_shared(&mut new) {
                continue;
            }
            match (old.entry(), new.entry()) {
                (Some(a), Some(b)) if a.uid == b.uid => {
                    if a.flags != b.flags || a.modseq != b.modseq {
                        out.changed.push(new.seq);
                    }
                    old.step();
                    new.step();
                }
                (Some(a), b) if b.is_none_or(|b| a.uid < b.uid) => {
                    out.expunged.push(old.seq);
                    out.expunged_uids.push(a.uid.0);
                    old.step();
                }
                (_, Some(_)) => {
                    out.arrived += 1;
                    new.step();
                }
                (_, None) => return out,
            }
        }
    }
}

/// What a session has not been told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Sequence numbers in the older view, rising.
    pub expunged: Vec<u32>,
    /// The UIDs of these.
    pub expunged_uids: UidSet,
    /// Sequence numbers in the newer view of places whose flags or MODSEQ changed.
    pub changed: Vec<u32>,
    /// How many are new at the end.
    pub arrived: u32,
}

impl Difference {
    /// Nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.expunged.is_empty() && self.changed.is_empty() && self.arrived == 0
    }
}

struct Cursor<'a> {
    index: &'a Index,
    chunk: usize,
    at: usize,
    seq: u32,
}

impl<'a> Cursor<'a> {
    fn new(index: &'a Index) -> Self {
        Cursor { index, chunk: 0, at: 0, seq: 1 }
    }

    fn entry(&self) -> Option<&'a Entry> {
        self.index.chunks.get(self.chunk)?.get(self.at)
    }

    fn step(&mut self) {
        self.at += 1;
        self.seq += 1;
        if self.index.chunks.get(self.chunk).is_some_and(|c| self.at >= c.len()) {
            self.chunk += 1;
            self.at = 0;
        }
    }

    /// When both stand at the start of one and the same chunk, passes over it.
    fn skip_shared(&mut self, other: &mut Self) -> bool {
        if self.at != 0 || other.at != 0 {
            return false;
        }
        match (self.index.chunks.get(self.chunk), other.index.chunks.get(other.chunk)) {
            (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {
                for c in [self, other] {
                    c.chunk += 1;
                    c.seq += a.len() as u32;
                }
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uid: u32) -> Entry {
        Entry { uid: Uid(uid), octets: 10, email: EmailId(i64::from(uid)), flags: Flags(0), modseq: ModSeq(1) }
    }

    /// A small generator; the seed is in the failure message.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }

        fn set(&mut self, max: u32) -> UidSet {
            let max = u64::from(max) + 2;
            UidSet::from_ranges((0..1 + self.below(3)).map(|_| {
                let from = self.below(max) as u32;
                (from, from + self.below(300) as u32)
            }))
        }
    }

    #[test]
    fn the_index_is_what_a_plain_list_would_be() {
        for seed in 0..12 {
            let mut r = Random(seed);
            let (mut index, mut model) = (Index::default(), Vec::<Entry>::new());
            let mut views = vec![(index.clone(), model.clone())];
            let mut uid = 0;
            for step in 2..80 {
                let modseq = ModSeq(step);
                match r.below(4) {
                    0 | 1 => {
                        for _ in 0..r.below(400) {
                            uid += 1 + r.below(3) as u32;
                            index.push(entry(uid));
                            model.push(entry(uid));
                        }
                    }
                    2 => {
                        let set = r.set(uid);
                        let (op, f) = (FlagOp::Add, Flags(1 << r.below(5)));
                        index.set_flags(&set, op, f, modseq);
                        for e in model.iter_mut().filter(|e| set.contains(e.uid.0)) {
                            (e.flags, e.modseq) = (op.apply(e.flags, f), modseq);
                        }
                    }
                    _ => {
                        let set = r.set(uid);
                        index.remove(&set);
                        model.retain(|e| !set.contains(e.uid.0));
                    }
                }
                check(&index, &model, uid, seed);
                let (old, old_model) = &views[r.below(views.len() as u64) as usize];
                check_difference(old, old_model, &index, &model, seed);
                views.push((index.clone(), model.clone()));
            }
            // What was seen before is still what it was.
            for (index, model) in &views {
                check(index, model, uid, seed);
            }
        }
    }

    fn check(index: &Index, model: &[Entry], uid: u32, seed: u64) {
        assert!(index.iter().map(|(_, e)| e).eq(model), "seed {seed}");
        assert_eq!(index.len() as usize, model.len(), "seed {seed}");
        for (i, e) in model.iter().enumerate().step_by(17) {
            let seq = i as u32 + 1;
            assert_eq!((index.get(seq), index.find(e.uid)), (Some(e), Some((seq, e))), "seed {seed}");
            assert_eq!(index.iter_from(seq).next(), Some((seq, e)), "seed {seed}");
        }
        assert_eq!((index.get(0), index.get(index.len() + 1)), (None, None));
        for probe in [0, 1, uid / 2, uid, uid + 1] {
            let seq = model.partition_point(|e| e.uid.0 < probe) as u32 + 1;
            assert_eq!(index.seq_from(Uid(probe)), seq, "seed {seed}");
        }
    }

    fn check_difference(old: &Index, old_model: &[Entry], new: &Index, new_model: &[Entry], seed: u64) {
        let has = |m: &[Entry], uid| m.binary_search_by_key(&uid, |e: &Entry| e.uid).ok();
        let want = Difference {
            expunged: (1..).zip(old_model).filter(|(_, e)| has(new_model, e.uid).is_none()).map(|(s, _)| s).collect(),
            expunged_uids: old_model.iter().filter(|e| has(new_model, e.uid).is_none()).map(|e| e.uid.0).collect(),
            changed: (1..)
                .zip(new_model)
                .filter(|(_, e)| has(old_model, e.uid).is_some_and(|i| old_model[i] != **e))
                .map(|(s, _)| s)
                .collect(),
            arrived: new_model.iter().filter(|e| has(old_model, e.uid).is_none()).count() as u32,
        };
        assert_eq!(old.difference(new), want, "seed {seed}");
    }
}
