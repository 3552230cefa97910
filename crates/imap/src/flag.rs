//! Message flags and keywords (RFC 9051 §2.3.2).

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher, RandomState};
use std::sync::Arc;

/// A flag a client may read, and but for [`Flag::Recent`] and [`Flag::Any`], set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Flag {
    /// `\Answered`
    Answered,
    /// `\Flagged`
    Flagged,
    /// `\Deleted`
    Deleted,
    /// `\Seen`
    Seen,
    /// `\Draft`
    Draft,
    /// `\Recent` (RFC 3501 §2.3.2): the server's alone, gone from IMAP4rev2.
    Recent,
    /// A word of the client's choice, such as `$Forwarded`.
    Keyword(Keyword),
    /// `\*`, in PERMANENTFLAGS only: the client may make new keywords (RFC 9051 §7.1).
    Any,
}

impl Flag {
    /// A flag a client may set: system flags but `\Recent`, and keywords.
    pub fn settable(text: &[u8]) -> Option<Self> {
        let Some(name) = text.strip_prefix(b"\\") else { return Keyword::new(text).map(Flag::Keyword) };
        [Flag::Answered, Flag::Flagged, Flag::Deleted, Flag::Seen, Flag::Draft]
            .into_iter()
            .find(|flag| flag.as_str().as_bytes()[1..].eq_ignore_ascii_case(name))
    }

    /// The flag as it stands in a response.
    pub fn as_str(&self) -> &str {
        match self {
            Flag::Answered => "\\Answered",
            Flag::Flagged => "\\Flagged",
            Flag::Deleted => "\\Deleted",
            Flag::Seen => "\\Seen",
            Flag::Draft => "\\Draft",
            Flag::Recent => "\\Recent",
            Flag::Keyword(keyword) => keyword.as_str(),
            Flag::Any => "\\*",
        }
    }
}

/// A keyword: an atom of at most [`Keyword::MAX`] octets. Equal in any case (RFC 5788 §2), shown in the first writer's
/// case. Cloning shares the text.
#[derive(Clone)]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// The longest keyword taken, in octets.
    pub const MAX: usize = 100;

    /// None when `text` is no atom (RFC 9051 §9), or longer than [`Keyword::MAX`].
    pub fn new(text: &[u8]) -> Option<Self> {
        let valid = !text.is_empty() && text.len() <= Self::MAX && text.iter().all(|b| crate::parse::is_atom_char(*b));
        let text = valid.then(|| std::str::from_utf8(text).ok())??;
        Some(Keyword(text.into()))
    }

    /// The keyword in the case it was written in.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl Hash for Keyword {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl fmt::Debug for Keyword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A table by keyword. Clients choose keywords, so the hash is keyed and random: std's SipHash and nothing faster
/// (hash flooding, Cyrus CVE-2021-33582).
pub type KeywordMap<V> = HashMap<Keyword, V, RandomState>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn flags_have_no_case() {
        assert_eq!(Flag::settable(b"\\sEEN"), Some(Flag::Seen));
        assert_eq!(Flag::settable(b"$Junk"), Flag::settable(b"$JUNK"));
        assert_eq!(Flag::settable(b"$Junk").unwrap().as_str(), "$Junk");
        for text in [&b"\\Recent"[..], b"\\*", b"\\Other", b"", b"a b", b"a)", b"a\"", b"\xc3\xa9", &[b'k'; 101]] {
            assert_eq!(Flag::settable(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn trap_29_keywords_are_hashed_with_a_random_key() {
        let keyword = Keyword::new(b"$Forwarded").unwrap();
        let (one, other) = (KeywordMap::<()>::default(), KeywordMap::<()>::default());
        assert_ne!(one.hasher().hash_one(&keyword), other.hasher().hash_one(&keyword), "a hash an attacker can know");
        let again = Keyword::new(b"$FORWARDED").unwrap();
        assert_eq!(one.hasher().hash_one(&keyword), one.hasher().hash_one(&again));
    }
}
