//! The tokens that structured header fields share: white space, comments, quoted strings, words (RFC 5322 §3.2).
//!
//! Called by the address, content, date and encoded-word readers. It takes raw field values: folding is white space to
//! it. Calls move forward, or look at the next token and the comments behind it; what is built on it is linear.

use std::borrow::Cow;

/// SP, TAB, CR, LF.
const WSP: u8 = 1;
/// What cannot stand in a word of an address (RFC 5322 §3.2.3 `specials`). `.`, `[`, `]`, `)` and `\` are left out:
/// unquoted display names are full of them, and a domain literal is read before its characters are asked about.
const ADDRESS_SPECIAL: u8 = 2;
/// What cannot stand in a MIME token (RFC 2045 §5.1 `tspecials`).
const TOKEN_SPECIAL: u8 = 4;

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let sets: [(&[u8], u8); 3] =
        [(b" \t\r\n", WSP), (b"(<>:;@,\"", ADDRESS_SPECIAL), (b"()<>@,;:\\\"/[]?=", TOKEN_SPECIAL)];
    let mut s = 0;
    while s < sets.len() {
        let mut i = 0;
        while i < sets[s].0.len() {
            table[sets[s].0[i] as usize] |= sets[s].1;
            i += 1;
        }
        s += 1;
    }
    table
};

/// SP, TAB, CR or LF.
pub(crate) fn is_wsp(b: u8) -> bool {
    CLASS[usize::from(b)] & WSP != 0
}

/// Without white space (folding included) at either end.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_wsp(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_wsp(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A place in a field's value.
#[derive(Clone, Debug)]
pub(crate) struct Lexer<'a> {
    rest: &'a [u8],
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Lexer { rest: value }
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Moves on by `n` bytes and returns them; all that is left if that is less.
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at(n.min(self.rest.len()));
        work::count(head.len());
        self.rest = tail;
        head
    }

    /// Eats `b` if it comes next.
    pub(crate) fn eat(&mut self, b: u8) -> bool {
        let found = self.peek() == Some(b);
        if found {
            self.take(1);
        }
        found
    }

    fn run(&mut self, stop: u8) -> &'a [u8] {
        let n = self.rest.iter().position(|b| CLASS[usize::from(*b)] & stop != 0);
        self.take(n.unwrap_or(self.rest.len()))
    }

    /// The longest word an address field can hold here; dots and 8-bit bytes belong to words. Possibly empty.
    ///
    /// `\(`, without quotes around, is against RFC 5322 and occurs: what is escaped belongs to the word too, as an
    /// address would be lost in the comment that begins there.
    pub(crate) fn word(&mut self) -> Cow<'a, [u8]> {
        let mut word = Cow::Borrowed(self.run(ADDRESS_SPECIAL | WSP));
        while word.last() == Some(&b'\\') && self.peek().is_some_and(|b| !is_wsp(b)) {
            word.to_mut().pop();
            word.to_mut().extend_from_slice(self.take(1));
            word.to_mut().extend_from_slice(self.run(ADDRESS_SPECIAL | WSP));
        }
        word
    }

    /// The longest MIME token here. Possibly empty.
    pub(crate) fn token(&mut self) -> &'a [u8] {
        self.run(TOKEN_SPECIAL | WSP)
    }

    /// Whether a token comes next and `b` behind it; nothing is read.
    pub(crate) fn token_before(&self, b: u8) -> bool {
        let mut ahead = self.clone();
        let token = ahead.token();
        ahead.skip_cfws();
        !token.is_empty() && ahead.peek() == Some(b)
    }

    /// Everything up to, not including, the first byte that `stop` names.
    pub(crate) fn until(&mut self, mut stop: impl FnMut(u8) -> bool) -> &'a [u8] {
        let n = self.rest.iter().position(|b| stop(*b));
        self.take(n.unwrap_or(self.rest.len()))
    }

    /// Skips white space and comments (RFC 5322 §3.2.2 CFWS) and returns the last comment's inside, raw.
    pub(crate) fn skip_cfws(&mut self) -> Option<&'a [u8]> {
        let mut comment = None;
        loop {
            match self.peek() {
                Some(b) if is_wsp(b) => {
                    self.take(1);
                }
                Some(b'(') => comment = Some(self.comment()),
                _ => return comment,
            }
        }
    }

    /// At `(`: reads to its partner, or to the end if there is none. Depth is a counter, not a call: trap 5.
    fn comment(&mut self) -> &'a [u8] {
        let (mut depth, mut at) = (0u64, 0);
        while let Some(b) = self.rest.get(at) {
            match b {
                b'\\' => at += 1,
                b'(' => depth += 1,
                b')' if depth == 1 => {
                    let inside = &self.rest[1..at];
                    self.take(at + 1);
                    return inside;
                }
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        let rest = self.take(self.rest.len());
        &rest[1..]
    }

    /// At `"`: the string's content, unquoted and unfolded (RFC 5322 §3.2.4). Without a closing quote it is all the rest.
    pub(crate) fn quoted(&mut self) -> Cow<'a, [u8]> {
        self.take(1);
        let mut at = 0;
        while let Some(n) = memchr::memchr2(b'"', b'\\', &self.rest[at.min(self.rest.len())..]) {
            at += n;
            if self.rest[at] == b'"' {
                let inside = self.take(at);
                self.take(1);
                return unescape(inside);
            }
            at += 2;
        }
        unescape(self.take(self.rest.len()))
    }
}

/// Takes quoted-pairs and line ends out of the inside of a quoted string or comment.
pub(crate) fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr3(b'\\', b'\r', b'\n', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => out.extend(bytes.next()),
            b'\r' | b'\n' => {}
            b => out.push(*b),
        }
    }
    Cow::Owned(out)
}

/// Counted work: a test of linear time counts bytes read, not seconds. Nothing outside of tests.
pub(crate) mod work {
    #[cfg(test)]
    std::thread_local! { static READ: std::cell::Cell<usize> = const { std::cell::Cell::new(0) } }

    #[inline(always)]
    pub(crate) fn count(_bytes: usize) {
        #[cfg(test)]
        READ.with(|r| r.set(r.get() + _bytes));
    }

    /// Bytes read since the last call, by this thread.
    #[cfg(test)]
    pub(crate) fn taken() -> usize {
        READ.with(|r| r.replace(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_05_comments_nest_without_recursion() {
        // Deep enough to overflow any stack, were each level a call.
        let deep = [vec![b'('; 1_000_000], vec![b')'; 1_000_000], b"x".to_vec()].concat();
        let mut lexer = Lexer::new(&deep);
        assert_eq!(lexer.skip_cfws().map(<[u8]>::len), Some(1_999_998));
        assert_eq!(*lexer.word(), *b"x");
        assert_eq!(Lexer::new(b"(a (b\\)) c").skip_cfws(), Some(&b"a (b\\)) c"[..]));
    }

    #[test]
    fn quoted_strings() {
        for (raw, inside, rest) in [
            (r#""a b" c"#, "a b", " c"),
            (r#""a\"b\\" c"#, r#"a"b\"#, " c"),
            ("\"a\r\n b\"", "a b", ""),
            (r#""open"#, "open", ""),
            (r#""open\"#, "open", ""),
            (r#""""#, "", ""),
        ] {
            let mut lexer = Lexer::new(raw.as_bytes());
            assert_eq!(lexer.quoted(), inside.as_bytes());
            assert_eq!(lexer.rest(), rest.as_bytes(), "{raw}");
        }
    }
}
