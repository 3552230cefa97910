//! The words of the IMAP grammar (RFC 9051 §9), read from one complete command.
//!
//! The machine calls [`Cursor::tag`] and [`Cursor::command`] on bytes that hold every literal of the command. Nothing
//! here recurses on its input, and what is read costs memory in proportion to what was sent.

mod command;
mod fetch;
mod list;
mod search;

use crate::command::Tag;
use crate::flag::Flag;
use crate::name::{MailboxName, decode_name};
use crate::sequence::SequenceSet;
use crate::write::Code;
use base::ModSeq;
use std::borrow::Cow;

/// Why a command is not carried out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Not a command of ours: BAD with this text.
    Bad(&'static str),
    /// Well formed, but not to be had: NO with this response code and text.
    No(Code<'static>, &'static str),
    /// The bytes end with the announcement of a literal that is wanted here.
    NeedsLiteral,
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// The most flags one command may name.
const MAX_FLAGS: usize = 256;

/// RFC 9051 §9 `ATOM-CHAR`.
pub(crate) fn is_atom_char(b: u8) -> bool {
    b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b)
}

/// RFC 9051 §9 `ASTRING-CHAR`.
pub(crate) fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

/// RFC 9051 §9 `list-char`.
fn is_list_char(b: u8) -> bool {
    is_astring_char(b) || b == b'%' || b == b'*'
}

/// A keyword of the protocol in capitals; one that is longer than any we know reads as empty.
struct Word {
    text: [u8; 24],
    len: usize,
}

impl Word {
    fn new(text: &[u8]) -> Self {
        let mut word = Word { text: [0; 24], len: 0 };
        if let Some(room) = word.text.get_mut(..text.len()) {
            room.copy_from_slice(text);
            room.make_ascii_uppercase();
            word.len = text.len();
        }
        word
    }
}

impl std::ops::Deref for Word {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

/// What the parser must know of the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    /// Mailbox names are UTF-8, not modified UTF-7.
    pub utf8: bool,
    /// Commands that need a login are read.
    pub authenticated: bool,
}

/// Reads a command from front to back.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    mode: Mode,
}

impl<'a> Cursor<'a> {
    /// `bytes` is a command without its last line end.
    pub fn new(bytes: &'a [u8], mode: Mode) -> Self {
        Cursor { bytes, at: 0, mode }
    }

    fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8, or: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(Fault::Bad(or)) }
    }

    pub fn space(&mut self) -> Result<()> {
        self.expect(b' ', "A space is missing")
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn end(&self) -> Result<()> {
        if self.is_at_end() { Ok(()) } else { Err(Fault::Bad("The command should end sooner")) }
    }

    fn take_while(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        let len = rest.iter().position(|b| !belongs(*b)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// RFC 9051 §9 `tag`.
    pub fn tag(&mut self) -> Result<Tag> {
        let tag = self.take_while(|b| is_astring_char(b) && b != b'+');
        let tag = if tag.is_empty() || self.peek() != Some(b' ') { None } else { std::str::from_utf8(tag).ok() };
        tag.map(|t| Tag(t.into())).ok_or(Fault::Bad("A command begins with a tag and a space"))
    }

    fn atom(&mut self) -> Result<&'a [u8]> {
        let atom = self.take_while(is_atom_char);
        if atom.is_empty() { Err(Fault::Bad("A word is missing")) } else { Ok(atom) }
    }

    fn word(&mut self) -> Result<Word> {
        self.atom().map(Word::new)
    }

    /// RFC 9051 §9 `number64`, below 2^63.
    fn number(&mut self) -> Result<u64> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        let value = digits.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')));
        let value = value.filter(|n| !digits.is_empty() && *n <= i64::MAX as u64);
        value.ok_or(Fault::Bad("A number is missing or too large"))
    }

    fn number32(&mut self) -> Result<u32> {
        u32::try_from(self.number()?).map_err(|_| Fault::Bad("A number is too large"))
    }

    fn nonzero32(&mut self) -> Result<u32> {
        self.number32().and_then(|n| if n == 0 { Err(Fault::Bad("Zero is not allowed here")) } else { Ok(n) })
    }

    /// RFC 7162 §7 `mod-sequence-valzer`.
    fn mod_seq(&mut self) -> Result<ModSeq> {
        self.number().map(ModSeq)
    }

    fn sequence_set(&mut self) -> Result<SequenceSet> {
        let text = self.take_while(|b| b.is_ascii_digit() || b",:*$".contains(&b));
        SequenceSet::parse(text).ok_or(Fault::Bad("Not a set of message numbers"))
    }

    /// A set of numbers that are all known: no `*`, no `$`.
    fn known_set(&mut self) -> Result<SequenceSet> {
        let set = self.sequence_set()?;
        if set.has_star() || set.has_saved() { Err(Fault::Bad("'*' and '$' are not allowed here")) } else { Ok(set) }
    }

    /// RFC 9051 §9 `string`: quoted or literal.
    fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            _ => Err(Fault::Bad("A string is missing")),
        }
    }

    /// RFC 9051 §9 `astring`.
    fn astring(&mut self) -> Result<Cow<'a, [u8]>> {
        match self.take_while(is_astring_char) {
            b"" => self.string(),
            atom => Ok(Cow::Borrowed(atom)),
        }
    }

    /// RFC 9051 §9 `quoted`; 8-bit is let through here and judged as UTF-8 by the caller.
    fn quoted(&mut self) -> Result<Cow<'a, [u8]>> {
        let unclosed = Fault::Bad("A quoted string does not end");
        self.expect(b'"', "A quoted string is missing")?;
        let plain = self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0));
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            match self.peek().ok_or(unclosed)? {
                b'"' => break,
                b'\r' | b'\n' | 0 => return Err(unclosed),
                b'\\' => {
                    self.at += 1;
                    let escaped = self.peek().filter(|b| matches!(b, b'"' | b'\\'));
                    text.push(escaped.ok_or(Fault::Bad("Only a quote or a backslash may be escaped"))?);
                }
                byte => text.push(byte),
            }
            self.at += 1;
        }
        self.at += 1;
        Ok(Cow::Owned(text))
    }

    /// RFC 9051 §9 `literal`, whose bytes the machine has collected.
    fn literal(&mut self) -> Result<&'a [u8]> {
        let wrong = Fault::Bad("Not a literal");
        self.expect(b'{', "A literal is missing")?;
        let len = usize::try_from(self.number()?).map_err(|_| wrong)?;
        self.eat(b'+');
        self.expect(b'}', "Not a literal")?;
        self.eat(b'\r');
        if self.is_at_end() {
            return Err(Fault::NeedsLiteral);
        }
        self.expect(b'\n', "Not a literal")?;
        let bytes = self.rest().get(..len).ok_or(Fault::NeedsLiteral)?;
        self.at += len;
        // RFC 9051 §9 CHAR8: NUL only in a literal8.
        if bytes.contains(&0) { Err(Fault::Bad("A literal may not hold NUL")) } else { Ok(bytes) }
    }

    /// A string or astring that must be UTF-8.
    fn text(bytes: Cow<'a, [u8]>) -> Result<Box<str>> {
        String::from_utf8(bytes.into_owned()).map(Into::into).map_err(|_| Fault::Bad("A string is not UTF-8"))
    }

    fn mailbox(&mut self) -> Result<MailboxName> {
        let wire = self.astring()?;
        MailboxName::from_wire(&wire, self.mode.utf8).ok_or(Fault::Bad("Not a mailbox name"))
    }

    /// RFC 9051 §9 `list-mailbox`.
    fn pattern(&mut self) -> Result<Box<str>> {
        let wire = match self.take_while(is_list_char) {
            b"" => self.string()?,
            pattern => Cow::Borrowed(pattern),
        };
        let pattern = decode_name(&wire, self.mode.utf8).filter(|p| !p.contains(char::is_control));
        pattern.map(Into::into).ok_or(Fault::Bad("Not a mailbox pattern"))
    }

    /// RFC 9051 §9 `flag`, as far as a client may set it.
    fn flag(&mut self) -> Result<Flag> {
        let start = self.at;
        self.eat(b'\\');
        self.take_while(is_atom_char);
        Flag::settable(&self.bytes[start..self.at]).ok_or(Fault::Bad("Not a flag that can be set"))
    }

    /// A list of flags in parentheses, each kept once.
    pub fn flag_list(&mut self) -> Result<Vec<Flag>> {
        let mut flags = Vec::new();
        self.list(MAX_FLAGS, |c| {
            let flag = c.flag()?;
            // Quadratic, of MAX_FLAGS: less than a hash would cost.
            if !flags.contains(&flag) {
                flags.push(flag);
            }
            Ok(())
        })?;
        Ok(flags)
    }

    /// RFC 8474 §7 `objectid`.
    fn object_id(&mut self) -> Result<Box<str>> {
        let id = self.astring()?;
        let valid = (1..=255).contains(&id.len()) && id.iter().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(b));
        if valid { Self::text(id) } else { Err(Fault::Bad("Not an object id")) }
    }

    /// `(item item …)`, perhaps empty, of at most `max` items.
    fn list<T>(&mut self, max: usize, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(b'(', "A list in parentheses is missing")?;
        let mut items = Vec::new();
        if self.eat(b')') {
            return Ok(items);
        }
        loop {
            if items.len() == max {
                return Err(Fault::Bad("A list is too long"));
            }
            items.push(item(self)?);
            if self.eat(b')') {
                return Ok(items);
            }
            self.expect(b' ', "A list does not end")?;
        }
    }

    /// As [`Cursor::list`], but not empty.
    fn full_list<T>(&mut self, max: usize, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let items = self.list(max, item)?;
        if items.is_empty() { Err(Fault::Bad("A list may not be empty here")) } else { Ok(items) }
    }
}
