//! The number of a message in the queue.

use std::fmt;
use std::str::FromStr;

use store::Value;

/// A message in the queue. It is made without asking the store: the epoch in which the message came, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(i64);

/// Numbers in an epoch; the epochs that remain are good for a start every minute for fifteen years.
const BITS: u32 = 40;

impl QueueId {
    /// Before all others.
    pub const FIRST: QueueId = QueueId(0);

    pub(crate) fn new(epoch: i64, number: u64) -> Self {
        QueueId((epoch << BITS) | (number & ((1 << BITS) - 1)) as i64)
    }

    pub(crate) fn stored(value: i64) -> Self {
        QueueId(value)
    }

    /// The one of [`QueueId::bits`].
    pub fn of_bits(bits: u64) -> Self {
        QueueId(bits as i64)
    }

    /// All of it, as a number that no other message has.
    pub fn bits(self) -> u64 {
        self.0 as u64
    }

    pub(crate) fn raw(self) -> i64 {
        self.0
    }

    /// The highest number of the same epoch.
    pub(crate) fn last_of_epoch(self) -> i64 {
        self.0 | ((1 << BITS) - 1)
    }
}

impl From<QueueId> for Value<'_> {
    fn from(id: QueueId) -> Self {
        Value::Int(id.0)
    }
}

/// `3-1f`: epoch and number, in hexadecimal.
impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.0 >> BITS, self.0 & ((1 << BITS) - 1))
    }
}

/// The text is no number of a message in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadQueueId;

impl fmt::Display for BadQueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message in the queue has a number like 3-1f")
    }
}

impl std::error::Error for BadQueueId {}

impl FromStr for QueueId {
    type Err = BadQueueId;

    fn from_str(text: &str) -> Result<Self, BadQueueId> {
        let number = |s: &str, bits: u32| {
            let well_formed = !s.is_empty() && s.bytes().all(|b| b.is_ascii_hexdigit());
            u64::from_str_radix(s, 16).ok().filter(|n| well_formed && *n < 1 << bits)
        };
        let (epoch, n) = text.split_once('-').ok_or(BadQueueId)?;
        let (epoch, n) = (number(epoch, 63 - BITS).ok_or(BadQueueId)?, number(n, BITS).ok_or(BadQueueId)?);
        Ok(QueueId::new(epoch as i64, n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read() {
        for (epoch, n, text) in [(1, 1, "1-1"), (31, 255, "1f-ff"), ((1 << 23) - 1, (1 << 40) - 1, "7fffff-ffffffffff")]
        {
            let id = QueueId::new(epoch, n);
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert!(id > QueueId::FIRST);
        }
        for text in ["", "1", "-", "1-", "-1", "1--1", "+1-1", "1-g", "800000-0", "0-10000000000", "1-1-1"] {
            assert_eq!(text.parse::<QueueId>(), Err(BadQueueId), "{text:?}");
        }
    }
}
