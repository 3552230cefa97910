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

    /// Those that are in `other` too.
    #[must_use]
    pub fn intersection(&self, other: &UidSet) -> UidSet {
        let (mut out, mut theirs) = (UidSet::new(), &other.ranges[..]);
        for (from, to) in &self.ranges {
            theirs = &theirs[theirs.partition_point(|r| r.1 < *from)..];
            let meeting = theirs.iter().take_while(|r| r.0 <= *to);
            out.ranges.extend(meeting.map(|(a, b)| (*a.max(from), *b.min(to))));
        }
        out
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &UidSet) -> UidSet {
        let mut gaps = Vec::with_capacity(other.ranges.len() + 1);
        let mut next = Some(0);
        for (from, to) in &other.ranges {
            gaps.extend(next.filter(|next| next < from).map(|next| (next, from - 1)));
            next = to.checked_add(1);
        }
        gaps.extend(next.map(|next| (next, u32::MAX)));
        self.intersection(&UidSet { ranges: gaps })
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
    fn sets_meet_and_part() {
        let set = |ranges: &[(u32, u32)]| UidSet::from_ranges(ranges.iter().copied());
        let (a, b) = (set(&[(0, 4), (8, 8), (10, 20)]), set(&[(3, 10), (12, 13), (19, u32::MAX)]));
        assert_eq!(a.intersection(&b), set(&[(3, 4), (8, 8), (10, 10), (12, 13), (19, 20)]));
        assert_eq!(a.intersection(&b), b.intersection(&a));
        assert_eq!(a.difference(&b), set(&[(0, 2), (11, 11), (14, 18)]));
        assert_eq!((a.difference(&a), a.difference(&UidSet::new())), (UidSet::new(), a.clone()));
    }

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
