//! Flags as bits: five of the system's, and up to 56 keywords that each mailbox names for itself.

use std::sync::Arc;

/// The flags of one place. Bits 0-4 are the system's (RFC 9051 §2.3.2); bit 8 and above are the mailbox's keywords.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u64);

impl Flags {
    /// `\Seen`
    pub const SEEN: Flags = Flags(1);
    /// `\Answered`
    pub const ANSWERED: Flags = Flags(2);
    /// `\Flagged`
    pub const FLAGGED: Flags = Flags(4);
    /// `\Deleted`
    pub const DELETED: Flags = Flags(8);
    /// `\Draft`
    pub const DRAFT: Flags = Flags(16);
    /// The system's flags, by their names.
    pub const SYSTEM: [(Flags, &'static str); 5] = [
        (Flags::ANSWERED, "\\Answered"),
        (Flags::FLAGGED, "\\Flagged"),
        (Flags::DELETED, "\\Deleted"),
        (Flags::SEEN, "\\Seen"),
        (Flags::DRAFT, "\\Draft"),
    ];

    /// Are all of `other`'s flags set?
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }
}

/// What STORE does with its flags (RFC 9051 §6.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagOp {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

impl FlagOp {
    /// The outcome of this operation with `given` on `old`.
    pub const fn apply(self, old: Flags, given: Flags) -> Flags {
        match self {
            FlagOp::Add => old.with(given),
            FlagOp::Remove => old.without(given),
            FlagOp::Replace => given,
        }
    }
}

/// The keywords of one mailbox, in the order of their bits. Shared; compared without regard to ASCII case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keywords(Arc<Vec<Box<str>>>);

impl Keywords {
    /// How many a mailbox may have.
    pub const MOST: usize = 56;
    const FIRST_BIT: u32 = 8;

    /// The bit of a keyword, if the mailbox knows it.
    pub fn get(&self, name: &str) -> Option<Flags> {
        let i = self.0.iter().position(|k| k.eq_ignore_ascii_case(name))?;
        Some(Flags(1 << (Self::FIRST_BIT + i as u32)))
    }

    /// Adds a keyword; `None` when the mailbox has its fill.
    pub fn add(&mut self, name: &str) -> Option<Flags> {
        if let Some(known) = self.get(name) {
            return Some(known);
        }
        if self.0.len() >= Self::MOST {
            return None;
        }
        Arc::make_mut(&mut self.0).push(name.into());
        self.get(name)
    }

    /// All names, in the order of their bits.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|k| &**k)
    }

    /// The names of the keywords among `flags`.
    pub fn of(&self, flags: Flags) -> impl Iterator<Item = &str> {
        let bits = flags.0 >> Self::FIRST_BIT;
        self.0.iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, k)| &**k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_have_their_bits_and_their_limit() {
        let mut k = Keywords::default();
        let junk = k.add("$Junk").unwrap();
        assert_eq!(k.get("$junk"), Some(junk));
        for i in 1..Keywords::MOST {
            assert!(k.add(&format!("k{i}")).is_some());
        }
        assert_eq!((k.add("one-too-many"), k.names().len()), (None, 56));
        let last = k.get("k55").unwrap();
        assert_eq!(k.of(junk.with(last).with(Flags::SEEN)).collect::<Vec<_>>(), ["$Junk", "k55"]);
    }
}
