//! Entries of a mailbox's log, as they are kept: varints, UID ranges by their differences.

use crate::{FlagOp, Flags, UidSet};

/// One change of places that exist. Arrivals are rows of their own and need no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogEntry {
    /// The flags of these places became `op(old, flags)`.
    Flags { uids: UidSet, op: FlagOp, flags: Flags },
    /// These places are gone.
    Expunged { uids: UidSet },
}

impl LogEntry {
    /// The `kind` column: expunges are looked for by it (QRESYNC).
    pub(crate) const EXPUNGED: i64 = 2;

    pub(crate) fn kind(&self) -> i64 {
        match self {
            LogEntry::Flags { .. } => 1,
            LogEntry::Expunged { .. } => Self::EXPUNGED,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            LogEntry::Flags { uids, op, flags } => {
                out.push(match op {
                    FlagOp::Add => 1,
                    FlagOp::Remove => 2,
                    FlagOp::Replace => 3,
                });
                put(&mut out, flags.0);
                put_set(&mut out, uids);
            }
            LogEntry::Expunged { uids } => {
                out.push(9);
                put_set(&mut out, uids);
            }
        }
        out
    }

    pub(crate) fn decode(mut b: &[u8]) -> Option<Self> {
        let (kind, rest) = b.split_first()?;
        b = rest;
        let op = match kind {
            1 => FlagOp::Add,
            2 => FlagOp::Remove,
            3 => FlagOp::Replace,
            9 => return Some(LogEntry::Expunged { uids: take_set(&mut b)? }),
            _ => return None,
        };
        let flags = Flags(take(&mut b)?);
        Some(LogEntry::Flags { uids: take_set(&mut b)?, op, flags })
    }
}

/// LEB128.
pub(crate) fn put(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

pub(crate) fn take(b: &mut &[u8]) -> Option<u64> {
    let mut v = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = b.split_first()?;
        *b = rest;
        v |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(v);
        }
    }
    None
}

fn put_set(out: &mut Vec<u8>, set: &UidSet) {
    put(out, set.ranges().len() as u64);
    let mut last = 0;
    for (a, b) in set.ranges() {
        put(out, u64::from(a - last));
        put(out, u64::from(b - a));
        last = *b;
    }
}

fn take_set(b: &mut &[u8]) -> Option<UidSet> {
    let (n, mut last, mut ranges) = (take(b)?, 0u32, Vec::new());
    for _ in 0..n {
        let from = last.checked_add(u32::try_from(take(b)?).ok()?)?;
        last = from.checked_add(u32::try_from(take(b)?).ok()?)?;
        ranges.push((from, last));
    }
    Some(UidSet::from_ranges(ranges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_went() {
        let uids = UidSet::from_ranges([(1, 10_000), (10_002, 10_002), (4_000_000_000, u32::MAX)]);
        for e in [
            LogEntry::Flags { uids: uids.clone(), op: FlagOp::Replace, flags: Flags(u64::MAX) },
            LogEntry::Flags { uids: UidSet::new(), op: FlagOp::Add, flags: Flags::SEEN },
            LogEntry::Expunged { uids },
        ] {
            let bytes = e.encode();
            assert_eq!(LogEntry::decode(&bytes), Some(e));
            for cut in 0..bytes.len() {
                assert_eq!(LogEntry::decode(&bytes[..cut]), None);
            }
        }
        // Flagging 10,000 mails is one small row.
        let all = LogEntry::Flags { uids: UidSet::from_ranges([(1, 10_000)]), op: FlagOp::Add, flags: Flags::SEEN };
        assert!(all.encode().len() < 10);
    }
}
