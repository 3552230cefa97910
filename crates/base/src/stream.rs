//! Kinds of sending.

use std::fmt;
use std::str::FromStr;

/// What kind of sending a mail belongs to. Each waits and is sent apart from the others, so that much of one never delays
/// another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// People write to people.
    #[default]
    Mail,
    /// A program tells somebody what he waits for: a code, a receipt.
    Transactional,
    /// One mail to many who asked for it.
    Marketing,
}

/// No [`Stream`] has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadStream(String);

impl Stream {
    /// All of them.
    pub const ALL: [Stream; 3] = [Stream::Mail, Stream::Transactional, Stream::Marketing];

    /// As it is kept; never changes.
    pub fn stored(self) -> i64 {
        self as i64
    }

    /// What [`Stream::stored`] gave.
    pub fn read(value: i64) -> Option<Self> {
        usize::try_from(value).ok().and_then(|n| Self::ALL.get(n)).copied()
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Stream::Mail => "mail",
            Stream::Transactional => "transactional",
            Stream::Marketing => "marketing",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Stream {
    type Err = BadStream;

    fn from_str(text: &str) -> Result<Self, BadStream> {
        Self::ALL.into_iter().find(|s| s.word() == text).ok_or_else(|| BadStream(text.chars().take(100).collect()))
    }
}

impl fmt::Display for BadStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no stream: there are mail, transactional and marketing", self.0)
    }
}

impl std::error::Error for BadStream {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_read_back() {
        for stream in Stream::ALL {
            assert_eq!(Stream::read(stream.stored()), Some(stream));
            assert_eq!(stream.word().parse(), Ok(stream));
        }
        assert_eq!((Stream::read(-1), Stream::read(3)), (None, None));
        assert!("Mail ".parse::<Stream>().is_err());
    }
}
