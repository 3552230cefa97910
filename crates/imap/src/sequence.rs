//! Sets of message numbers and UIDs (RFC 9051 §9 `sequence-set`): read, resolved, written.
//!
//! The parser makes a [`SequenceSet`]; the session resolves it against what `*` means at that moment and walks the
//! [`Ranges`]. Nothing here ever expands a range: `1:4294967295` costs eight bytes.

use std::fmt;
use std::ops::RangeInclusive;

/// What stands for `*` inside: zero is no message number and no UID.
const STAR: u32 = 0;

/// A set as the client wrote it; `*` and `$` are not known yet.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SequenceSet {
    ranges: Box<[(u32, u32)]>,
    saved: bool,
}

impl SequenceSet {
    /// Reads `1:5,7,9:*` or `$`; none when it is not of that form.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (mut ranges, mut saved) = (Vec::new(), false);
        for part in text.split(|b| *b == b',') {
            if part == b"$" {
                saved = true;
                continue;
            }
            let range = match memchr::memchr(b':', part) {
                Some(colon) => (number(&part[..colon])?, number(&part[colon + 1..])?),
                None => number(part).map(|n| (n, n))?,
            };
            ranges.push(range);
        }
        Some(SequenceSet { ranges: ranges.into(), saved })
    }

    /// From numbers that are known; zeros are left out.
    pub fn from_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u32>>) -> Self {
        let known = ranges.into_iter().map(|r| (*r.start(), *r.end())).filter(|r| r.0 != STAR && r.1 != STAR);
        SequenceSet { ranges: known.collect(), saved: false }
    }

    /// True when `$`, the result of the last `SEARCH RETURN (SAVE)`, is part of the set (RFC 5182 §2.1).
    pub fn has_saved(&self) -> bool {
        self.saved
    }

    /// True when `*` occurs.
    pub fn has_star(&self) -> bool {
        self.ranges.iter().any(|r| r.0 == STAR || r.1 == STAR)
    }

    /// The numbers meant, sorted and merged, when `max` is the highest number in use (0: the mailbox is empty).
    ///
    /// `$` adds nothing here: the caller unites its saved result. Numbers above `max` stay in, except that a range with
    /// `*` reaches from its other end to `max` whichever is larger (RFC 9051 §9, `seq-range`), and in an empty mailbox
    /// means nothing.
    ///
    /// ```
    /// use imap::SequenceSet;
    /// let set = SequenceSet::parse(b"559:*,3:1").unwrap();
    /// assert_eq!(set.resolve(500).as_slice(), [1..=3, 500..=559]);
    /// ```
    pub fn resolve(&self, max: u32) -> Ranges {
        let end = |n| if n == STAR { max } else { n };
        let known = self.ranges.iter().map(|r| (end(r.0), end(r.1))).filter(|r| r.0 != 0 && r.1 != 0);
        known.map(|(a, b)| a.min(b)..=a.max(b)).collect()
    }

    /// Writes the set as the client could have.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let end =
            |out: &mut Vec<u8>, n: u32| if n == STAR { out.push(b'*') } else { crate::write::decimal(out, n.into()) };
        for &(first, last) in &self.ranges {
            if out.len() > start {
                out.push(b',');
            }
            end(out, first);
            if first != last {
                out.push(b':');
                end(out, last);
            }
        }
        if self.saved {
            out.extend_from_slice(if out.len() > start { b",$" } else { b"$" });
        }
    }
}

impl fmt::Display for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

impl fmt::Debug for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `*`, or a number from 1 to 2^32-1 without leading zero (RFC 9051 §9 `nz-number`).
fn number(digits: &[u8]) -> Option<u32> {
    match digits {
        b"*" => Some(STAR),
        [b'1'..=b'9', ..] => digits.iter().try_fold(0u32, |n, d| {
            let d = d.is_ascii_digit().then(|| u32::from(d - b'0'))?;
            n.checked_mul(10)?.checked_add(d)
        }),
        _ => None,
    }
}

/// Numbers as sorted ranges that neither touch nor overlap.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ranges(Vec<RangeInclusive<u32>>);

impl Ranges {
    /// The ranges, rising.
    pub fn as_slice(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    /// True when `n` is in one of them; logarithmic in their number.
    pub fn contains(&self, n: u32) -> bool {
        let after = self.0.partition_point(|r| *r.start() <= n);
        after > 0 && self.0[after - 1].contains(&n)
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number, if any: above the mailbox's EXISTS, a set of message numbers is BAD (RFC 9051 §6.4.5).
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|r| *r.end())
    }
}

impl FromIterator<RangeInclusive<u32>> for Ranges {
    /// From ranges in any order, which may overlap: sorts and merges them.
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u32>>>(ranges: I) -> Self {
        let mut sorted: Vec<RangeInclusive<u32>> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        sorted.sort_unstable_by_key(|r| *r.start());
        let mut merged: Vec<RangeInclusive<u32>> = Vec::with_capacity(sorted.len());
        for next in sorted {
            match merged.last_mut() {
                Some(open) if *next.start() <= open.end().saturating_add(1) => {
                    *open = *open.start()..=*next.end().max(open.end());
                }
                _ => merged.push(next),
            }
        }
        Ranges(merged)
    }
}

impl FromIterator<u32> for Ranges {
    /// From rising numbers.
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        for n in numbers {
            match ranges.last_mut() {
                Some(open) if Some(n) == open.end().checked_add(1) => *open = *open.start()..=n,
                _ => ranges.push(n..=n),
            }
        }
        Ranges(ranges)
    }
}

/// Writes rising numbers as `1:5,7`: the form of COPYUID, APPENDUID, VANISHED and ESEARCH ALL. Writes nothing for none.
///
/// ```
/// let mut out = Vec::new();
/// imap::write_set(&mut out, [1, 2, 3, 4, 5, 7]);
/// assert_eq!(out, b"1:5,7");
/// ```
pub fn write_set(out: &mut Vec<u8>, numbers: impl IntoIterator<Item = u32>) {
    let mut numbers = numbers.into_iter();
    let Some(mut first) = numbers.next() else { return };
    let mut last = first;
    for n in numbers {
        if Some(n) == last.checked_add(1) {
            last = n;
            continue;
        }
        write_range(out, first, last);
        out.push(b',');
        (first, last) = (n, n);
    }
    write_range(out, first, last);
}

/// Writes ranges as `1:5,7`. Writes nothing for none.
pub fn write_ranges(out: &mut Vec<u8>, ranges: impl IntoIterator<Item = RangeInclusive<u32>>) {
    for (i, range) in ranges.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_range(out, *range.start(), *range.end());
    }
}

fn write_range(out: &mut Vec<u8>, first: u32, last: u32) {
    crate::write::decimal(out, first.into());
    if first != last {
        out.push(b':');
        crate::write::decimal(out, last.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, max: u32) -> Vec<RangeInclusive<u32>> {
        SequenceSet::parse(text.as_bytes()).unwrap().resolve(max).0
    }

    #[test]
    fn ranges_are_sorted_and_merged() {
        // RFC 9051 §9's own examples: "2,4:7,9,12:*" is 2,4,5,6,7,9,12,13,14,15 with 15 messages, "*:4,5:7" is 4..10.
        assert_eq!(resolved("2,4:7,9,12:*", 15), [2..=2, 4..=7, 9..=9, 12..=15]);
        assert_eq!(resolved("*:4,5:7", 10), vec![4..=10]);
        assert_eq!(resolved("5,4,3,1:2,2", 10), vec![1..=5]);
        assert_eq!(resolved("4294967295,1:4294967295", 10), vec![1..=u32::MAX]);
    }

    #[test]
    fn trap_10_star_before_a_number_and_alone() {
        assert_eq!(resolved("*:123", 7), vec![7..=123]);
        assert_eq!(resolved("*:123", 500), vec![123..=500]);
        assert_eq!(resolved("*", 7), vec![7..=7]);
        assert_eq!(resolved("*:*", 7), vec![7..=7]);
        assert_eq!(resolved("*", 0), vec![]);
        assert_eq!(resolved("1:*", 0), vec![]);
    }

    #[test]
    fn what_is_no_set() {
        for text in ["", ",", "1,", ",1", "0", "01", "1:", ":1", "1:2:3", "a", "-1", "4294967296", "1 ", "**", "$:1"] {
            assert_eq!(SequenceSet::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn written_as_read() {
        for text in ["1", "*", "$", "1:5,7,*:9", "3:1,$"] {
            assert_eq!(SequenceSet::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        assert!(SequenceSet::parse(b"1,$").unwrap().has_saved());
        assert!(SequenceSet::parse(b"1:*").unwrap().has_star());
    }

    #[test]
    fn numbers_are_compressed() {
        let set = |numbers: &[u32]| {
            let mut out = Vec::new();
            write_set(&mut out, numbers.iter().copied());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(set(&[]), "");
        assert_eq!(set(&[9]), "9");
        assert_eq!(set(&[1, 2, 4, 6, 7, 8]), "1:2,4,6:8");
        assert_eq!(set(&[u32::MAX - 1, u32::MAX]), "4294967294:4294967295");
    }

    #[test]
    fn membership() {
        let ranges = SequenceSet::parse(b"2:4,8").unwrap().resolve(0);
        let members: Vec<u32> = (0..10).filter(|n| ranges.contains(*n)).collect();
        assert_eq!((members, ranges.last()), (vec![2, 3, 4, 8], Some(8)));
        let numbers: Ranges = [2, 3, 4, 8].into_iter().collect();
        let overlapping: Ranges = [8..=8, 3..=4, 2..=3, RangeInclusive::new(9, 7)].into_iter().collect();
        assert_eq!((&numbers, &overlapping), (&ranges, &ranges));
    }
}
