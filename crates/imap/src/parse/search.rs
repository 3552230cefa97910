//! SEARCH (RFC 9051 §9 `search`), with an explicit stack in place of recursion.

use super::{Cursor, Fault, Result};
use crate::date::Day;
use crate::flag::{Flag, Keyword};
use crate::search::{Search, SearchKey, SearchOp, SearchProgram, SearchReturn};
use crate::write::Code;

/// An operator whose operands are still being read.
struct Open {
    /// Its index in the program.
    op: usize,
    /// How many operands it still wants; none: as many as come before the `)`, or the end.
    wants: Option<u8>,
}

/// The program as it grows, and what stands open in it.
struct Builder {
    ops: Vec<SearchOp>,
    open: Vec<Open>,
}

impl Builder {
    /// Room is kept for the NOT of `UNSEEN`, which is not opened.
    const MAX_OPEN: usize = SearchProgram::MAX_DEPTH - 1;

    fn push(&mut self, op: SearchOp) -> Result<()> {
        if self.ops.len() == SearchProgram::MAX_OPS {
            return Err(Fault::Bad("Too many search keys"));
        }
        self.ops.push(op);
        Ok(())
    }

    fn begin(&mut self, op: SearchOp, wants: Option<u8>) -> Result<()> {
        if self.open.len() == Self::MAX_OPEN {
            return Err(Fault::Bad("Search keys are nested too deep"));
        }
        self.open.push(Open { op: self.ops.len(), wants });
        self.push(op)
    }

    /// The innermost operator has all its operands.
    fn finish(&mut self) {
        let after = self.ops.len() as u16;
        if let Some(op) = self.open.pop().and_then(|open| self.ops.get_mut(open.op)) {
            match op {
                SearchOp::And { end } | SearchOp::Or { end } | SearchOp::Not { end } => *end = after,
                SearchOp::Key(_) => {}
            }
        }
    }

    fn not(&mut self, key: SearchKey) -> Result<()> {
        self.push(SearchOp::Not { end: self.ops.len() as u16 + 2 })?;
        self.push(SearchOp::Key(key))
    }
}

impl Cursor<'_> {
    /// What follows `SEARCH `.
    pub(super) fn search(&mut self) -> Result<Search> {
        let mut returns = None;
        if self.eat_word(b"RETURN") {
            self.space()?;
            returns = Some(self.search_return()?);
            self.space()?;
        }
        if self.eat_word(b"CHARSET") {
            self.space()?;
            let charset = self.astring()?;
            if !charset.eq_ignore_ascii_case(b"UTF-8") && !charset.eq_ignore_ascii_case(b"US-ASCII") {
                return Err(Fault::No(Code::BadCharset, "Search in UTF-8, please"));
            }
            self.space()?;
        }
        Ok(Search { returns, program: self.search_program()? })
    }

    /// Takes the word if it is the next, up to its space.
    fn eat_word(&mut self, word: &[u8]) -> bool {
        let rest = self.rest();
        let found =
            rest.len() > word.len() && rest[..word.len()].eq_ignore_ascii_case(word) && rest[word.len()] == b' ';
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn search_return(&mut self) -> Result<SearchReturn> {
        let mut returns = SearchReturn::default();
        self.list(16, |c| {
            match &*c.word()? {
                b"MIN" => returns.min = true,
                b"MAX" => returns.max = true,
                b"ALL" => returns.all = true,
                b"COUNT" => returns.count = true,
                b"SAVE" => returns.save = true,
                _ => return Err(Fault::Bad("Unknown SEARCH return option")),
            }
            Ok(())
        })?;
        // RFC 9051 §6.4.4: no option at all is ALL.
        returns.all |= returns == SearchReturn::default();
        Ok(returns)
    }

    fn search_program(&mut self) -> Result<SearchProgram> {
        let mut program = Builder { ops: Vec::new(), open: Vec::new() };
        program.begin(SearchOp::And { end: 0 }, None)?;
        loop {
            if self.eat(b'(') {
                program.begin(SearchOp::And { end: 0 }, None)?;
            } else if self.eat_word(b"NOT") {
                self.space()?;
                program.begin(SearchOp::Not { end: 0 }, Some(1))?;
            } else if self.eat_word(b"OR") {
                self.space()?;
                program.begin(SearchOp::Or { end: 0 }, Some(2))?;
            } else {
                self.search_key(&mut program)?;
                if self.close_what_is_complete(&mut program)? {
                    program.ops.shrink_to_fit();
                    return Ok(SearchProgram(program.ops));
                }
                self.expect(b' ', "A space is missing between search keys")?;
            }
        }
    }

    /// A key was read; it may complete operators and parentheses around it. True at the end of the program.
    fn close_what_is_complete(&mut self, program: &mut Builder) -> Result<bool> {
        loop {
            let outermost = program.open.len() == 1;
            let Some(open) = program.open.last_mut() else { return Ok(true) };
            let complete = match &mut open.wants {
                Some(wants) => {
                    *wants -= 1;
                    *wants == 0
                }
                None if outermost => self.is_at_end(),
                None => self.eat(b')'),
            };
            if !complete {
                return Ok(false);
            }
            program.finish();
        }
    }

    /// One key that holds no other.
    fn search_key(&mut self, program: &mut Builder) -> Result<()> {
        if self.peek().is_some_and(|b| b.is_ascii_digit() || b == b'*' || b == b'$') {
            let set = self.sequence_set()?;
            return program.push(SearchOp::Key(SearchKey::Sequence(set)));
        }
        let key = match &*self.word()? {
            b"UNANSWERED" => return program.not(SearchKey::Flag(Flag::Answered)),
            b"UNDELETED" => return program.not(SearchKey::Flag(Flag::Deleted)),
            b"UNDRAFT" => return program.not(SearchKey::Flag(Flag::Draft)),
            b"UNFLAGGED" => return program.not(SearchKey::Flag(Flag::Flagged)),
            b"UNSEEN" => return program.not(SearchKey::Flag(Flag::Seen)),
            b"UNKEYWORD" => {
                let flag = self.keyword_argument()?;
                return program.not(SearchKey::Flag(flag));
            }
            // RFC 3501 §6.4.4: OLD is NOT RECENT, NEW is (RECENT UNSEEN).
            b"OLD" => return program.not(SearchKey::Flag(Flag::Recent)),
            b"NEW" => {
                program.begin(SearchOp::And { end: 0 }, None)?;
                program.push(SearchOp::Key(SearchKey::Flag(Flag::Recent)))?;
                program.not(SearchKey::Flag(Flag::Seen))?;
                program.finish();
                return Ok(());
            }
            name => self.plain_key(name)?,
        };
        program.push(SearchOp::Key(key))
    }

    fn plain_key(&mut self, name: &[u8]) -> Result<SearchKey> {
        Ok(match name {
            b"ALL" => SearchKey::All,
            b"ANSWERED" => SearchKey::Flag(Flag::Answered),
            b"DELETED" => SearchKey::Flag(Flag::Deleted),
            b"DRAFT" => SearchKey::Flag(Flag::Draft),
            b"FLAGGED" => SearchKey::Flag(Flag::Flagged),
            b"RECENT" => SearchKey::Flag(Flag::Recent),
            b"SEEN" => SearchKey::Flag(Flag::Seen),
            b"KEYWORD" => SearchKey::Flag(self.keyword_argument()?),
            b"SAVEDATESUPPORTED" => SearchKey::SaveDateSupported,
            b"FROM" => self.address_key("From")?,
            b"TO" => self.address_key("To")?,
            b"CC" => self.address_key("Cc")?,
            b"BCC" => self.address_key("Bcc")?,
            b"SUBJECT" => self.address_key("Subject")?,
            name => {
                self.space().map_err(|_| Fault::Bad("Unknown search key, or one without its argument"))?;
                self.key_with_argument(name)?
            }
        })
    }

    fn key_with_argument(&mut self, name: &[u8]) -> Result<SearchKey> {
        Ok(match name {
            b"HEADER" => {
                let name = self.field_name()?;
                self.space()?;
                SearchKey::Header { name, text: self.search_text()? }
            }
            b"UID" => SearchKey::Uid(self.sequence_set()?),
            b"BODY" => SearchKey::Body(self.search_text()?),
            b"TEXT" => SearchKey::Text(self.search_text()?),
            b"BEFORE" => SearchKey::Before(self.day()?),
            b"ON" => SearchKey::On(self.day()?),
            b"SINCE" => SearchKey::Since(self.day()?),
            b"SENTBEFORE" => SearchKey::SentBefore(self.day()?),
            b"SENTON" => SearchKey::SentOn(self.day()?),
            b"SENTSINCE" => SearchKey::SentSince(self.day()?),
            b"SAVEDBEFORE" => SearchKey::SavedBefore(self.day()?),
            b"SAVEDON" => SearchKey::SavedOn(self.day()?),
            b"SAVEDSINCE" => SearchKey::SavedSince(self.day()?),
            b"LARGER" => SearchKey::Larger(self.number()?),
            b"SMALLER" => SearchKey::Smaller(self.number()?),
            b"OLDER" => SearchKey::Older(self.nonzero32()?),
            b"YOUNGER" => SearchKey::Younger(self.nonzero32()?),
            b"MODSEQ" => self.mod_seq_key()?,
            b"EMAILID" => SearchKey::EmailId(self.object_id()?),
            b"THREADID" => SearchKey::ThreadId(self.object_id()?),
            _ => return Err(Fault::Bad("Unknown search key")),
        })
    }

    fn address_key(&mut self, name: &str) -> Result<SearchKey> {
        self.space()?;
        Ok(SearchKey::Header { name: name.into(), text: self.search_text()? })
    }

    fn search_text(&mut self) -> Result<Box<str>> {
        self.astring().and_then(Self::text)
    }

    fn keyword_argument(&mut self) -> Result<Flag> {
        self.space()?;
        Keyword::new(self.atom()?).map(Flag::Keyword).ok_or(Fault::Bad("Not a keyword"))
    }

    /// RFC 9051 §9 `date`: bare or quoted.
    fn day(&mut self) -> Result<Day> {
        let text = self.astring()?;
        crate::date::day(&text).ok_or(Fault::Bad("Not a date"))
    }

    /// RFC 7162 §3.1.5: `MODSEQ [entry-name SP entry-type SP] number`.
    fn mod_seq_key(&mut self) -> Result<SearchKey> {
        if self.peek() == Some(b'"') {
            self.quoted()?;
            self.space()?;
            if !matches!(&*self.word()?, b"ALL" | b"PRIV" | b"SHARED") {
                return Err(Fault::Bad("Unknown entry type"));
            }
            self.space()?;
        }
        self.mod_seq().map(SearchKey::ModSeq)
    }
}
