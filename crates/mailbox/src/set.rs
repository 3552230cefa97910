//! Sets of UIDs, as sorted ranges.

/// Sorted, disjoint, non-adjacent inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(u32, u32)>,
}

impl UidSet {
    /// The empty set.
    pub const fn new() -> Self {
        UidSet { ranges: Vec::new() }
    }

    /// From ranges in any order, which may overlap; one written backwards is turned round (RFC 9051 §9 `seq-range`).
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all: Vec<(u32, u32)> = ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        all.sort_unstable();
        let mut set = UidSet::new();
        for (a, b) in all {
            match set.ranges.last_mut() {
                Some(last) if a <= last.1.saturating_add(1) => last.1 = last.1.max(b),
                _ => set.ranges.push((a, b)),
            }
        }
        set
    }

    /// Adds a UID that is above all in the set.
    pub fn push(&mut self, uid: u32) {
        match self.ranges.last_mut() {
            Some(last) if last.1.checked_add(1) == Some(uid) => last.1 = uid,
            last => {
                debug_assert!(last.is_none_or(|l| l.1 < uid));
                self.ranges.push((uid, uid));
            }
        }
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many UIDs the ranges span.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|(a, b)| u64::from(b - a) + 1).sum()
    }

    /// Is `uid` in it? Logarithmic.
    pub fn contains(&self, uid: u32) -> bool {
        let i = self.ranges.partition_point(|r| r.1 < uid);
        self.ranges.get(i).is_some_and(|r| r.0 <= uid)
    }

    /// Every UID, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges.iter().flat_map(|(a, b)| *a..=*b)
    }

    /// Joins another set to this one.
    pub fn union(&mut self, other: &UidSet) {
        if !other.is_empty() {
            *self = UidSet::from_ranges(self.ranges.iter().chain(&other.ranges).copied());
        }
    }
}

/// From UIDs in rising order.
impl FromIterator<u32> for UidSet {
    fn from_iter<I: IntoIterator<Item = u32>>(uids: I) -> Self {
        let mut set = UidSet::new();
        uids.into_iter().for_each(|uid| set.push(uid));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_sorted() {
        let s = UidSet::from_ranges([(7, 5), (1, 1), (2, 3), (9, u32::MAX), (20, 30)]);
        assert_eq!(s.ranges(), [(1, 3), (5, 7), (9, u32::MAX)]);
        assert!(s.contains(3) && !s.contains(4) && s.contains(u32::MAX) && !s.contains(8));
        let mut t: UidSet = [1, 2, 4].into_iter().collect();
        assert_eq!((t.ranges(), t.len()), (&[(1, 2), (4, 4)][..], 3));
        t.union(&UidSet::from_ranges([(3, 3)]));
        assert_eq!(t.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
