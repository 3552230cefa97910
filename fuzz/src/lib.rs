//! What the fuzz targets share: feeding a machine the same octets in pieces of several sizes.
//!
//! A wire machine must not care where a read happened to end: the whole input at once, octet by octet, or in small
//! pieces must raise the same events and the same output. Each target runs its machine once for each of
//! [`PIECES`] and compares.

/// Sizes of the reads a target tries: all at once, octet by octet, and a size that cuts CRLF and keywords anywhere.
pub const PIECES: [usize; 3] = [usize::MAX, 1, 7];

/// Feeds `data` in reads of `piece` octets. `step` is given all that is unread and says how much it consumed, or None
/// when it waits for more.
///
/// # Panics
/// When `step` waits although `room` octets are unread: a caller's read buffer of that size would be stuck.
pub fn feed(data: &[u8], piece: usize, room: usize, mut step: impl FnMut(&[u8]) -> Option<usize>) {
    let (mut start, mut end) = (0, 0);
    while end < data.len() {
        end = end.saturating_add(piece).min(data.len());
        while let Some(consumed) = step(&data[start..end]) {
            start += consumed;
            assert!(start <= end, "the machine consumed more than there was");
        }
        assert!(end - start < room, "the machine waits with {} octets unread", end - start);
    }
}

/// What came of one way of feeding; all ways must be equal.
#[derive(Debug, Default, PartialEq)]
pub struct Trace {
    /// The events, as text; each body stands before the event that ended it.
    pub events: Vec<String>,
    /// A body under way: how it was cut into events is of no account.
    pub body: Vec<u8>,
    /// All output, in order.
    pub output: Vec<u8>,
}

impl Trace {
    /// Adds an event that is not a part of a body; gives the body that came before it.
    pub fn event(&mut self, event: String) -> Vec<u8> {
        let body = std::mem::take(&mut self.body);
        if !body.is_empty() {
            self.events.push(format!("body: {}", body.escape_ascii()));
        }
        self.events.push(event);
        body
    }

    /// Fails, showing both, when the two ways differ.
    ///
    /// # Panics
    /// When they differ.
    pub fn must_equal(&self, other: &Trace, piece: usize) {
        assert!(
            self == other,
            "reads of {piece} octets make a difference\nwhole: {:#?}\n{}\npieces: {:#?}\n{}",
            self.events,
            self.output.escape_ascii(),
            other.events,
            other.output.escape_ascii(),
        );
    }
}
