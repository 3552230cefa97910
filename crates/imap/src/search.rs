//! SEARCH as a flat program (RFC 9051 §6.4.4, RFC 4731, RFC 5032, RFC 5182, RFC 7162, RFC 8474, RFC 8514).
//!
//! A client can nest keys as it likes; a tree of boxes would make us recurse on its input, to build, to run and to drop
//! it. So the keys stand in one array in prefix order, and each operator knows where its operands end.

use crate::date::Day;
use crate::flag::Flag;
use crate::sequence::SequenceSet;
use base::ModSeq;

/// The arguments of SEARCH. Texts are UTF-8: another CHARSET is refused before it gets here.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// `RETURN (…)`; none: the plain form was used.
    pub returns: Option<SearchReturn>,
    /// Which messages match.
    pub program: SearchProgram,
}

/// What `RETURN (…)` asks for; `RETURN ()` is ALL (RFC 4731 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    /// The lowest match.
    pub min: bool,
    /// The highest match.
    pub max: bool,
    /// All matches, as a set.
    pub all: bool,
    /// How many.
    pub count: bool,
    /// Keep the result as `$` (RFC 5182).
    pub save: bool,
}

/// One thing a message can be asked. `UNSEEN` and its kin are [`SearchOp::Not`] of a [`SearchKey::Flag`]; `NEW` is
/// spelt out too.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchKey {
    /// `ALL`
    All,
    /// `ANSWERED`, `DELETED`, `DRAFT`, `FLAGGED`, `RECENT`, `SEEN`, `KEYWORD word`
    Flag(Flag),
    /// A set of message numbers.
    Sequence(SequenceSet),
    /// `UID set`
    Uid(SequenceSet),
    /// `FROM`, `TO`, `CC`, `BCC`, `SUBJECT` and `HEADER name text`: the text is in such a field; an empty text: there is
    /// such a field.
    Header {
        /// The field's name as the client wrote it, or `From`, `To`, `Cc`, `Bcc`, `Subject`.
        name: Box<str>,
        /// What to find in it.
        text: Box<str>,
    },
    /// `BODY text`
    Body(Box<str>),
    /// `TEXT text`: in header or body.
    Text(Box<str>),
    /// `BEFORE day`: the internal date is earlier.
    Before(Day),
    /// `ON day`
    On(Day),
    /// `SINCE day`: that day or later.
    Since(Day),
    /// `SENTBEFORE day`: as above, of the Date field.
    SentBefore(Day),
    /// `SENTON day`
    SentOn(Day),
    /// `SENTSINCE day`
    SentSince(Day),
    /// `SAVEDBEFORE day`: as above, of the save date (RFC 8514 §4.3).
    SavedBefore(Day),
    /// `SAVEDON day`
    SavedOn(Day),
    /// `SAVEDSINCE day`
    SavedSince(Day),
    /// `SAVEDATESUPPORTED`: true when the mailbox keeps save dates.
    SaveDateSupported,
    /// `LARGER octets`
    Larger(u64),
    /// `SMALLER octets`
    Smaller(u64),
    /// `OLDER seconds`: internal date at least so long ago (RFC 5032).
    Older(u32),
    /// `YOUNGER seconds`: internal date within that time.
    Younger(u32),
    /// `MODSEQ n`: changed at or after it (RFC 7162 §3.1.5). The answer then carries the highest MODSEQ found. The entry
    /// name and type a client may add are passed over: there is one MODSEQ a message.
    ModSeq(ModSeq),
    /// `EMAILID id` (RFC 8474 §5.3)
    EmailId(Box<str>),
    /// `THREADID id`
    ThreadId(Box<str>),
}

/// One step of a [`SearchProgram`]. `end` is the index after the operator's last operand.
#[derive(Clone, Debug, PartialEq)]
pub enum SearchOp {
    /// A question.
    Key(SearchKey),
    /// All operands hold; at least one.
    And {
        /// Index after the last operand.
        end: u16,
    },
    /// One of two operands holds.
    Or {
        /// Index after the second operand.
        end: u16,
    },
    /// The operand does not hold.
    Not {
        /// Index after the operand.
        end: u16,
    },
}

/// Search keys in prefix order; the first op is the AND over all.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchProgram(pub(crate) Vec<SearchOp>);

impl SearchProgram {
    /// The most ops in a program.
    pub const MAX_OPS: usize = 2048;
    /// The deepest that operators stand in each other.
    pub const MAX_DEPTH: usize = 256;

    /// The ops in prefix order.
    pub fn ops(&self) -> &[SearchOp] {
        &self.0
    }

    /// The keys, wherever they stand: to see what a search needs (bodies, MODSEQ) before it runs.
    pub fn keys(&self) -> impl Iterator<Item = &SearchKey> {
        self.0.iter().filter_map(|op| match op {
            SearchOp::Key(key) => Some(key),
            _ => None,
        })
    }

    /// Does a message match, when `holds` answers the keys? Asks from left to right and no more than it must.
    ///
    /// # Errors
    /// What `holds` fails with, at once.
    pub fn matches<E>(&self, mut holds: impl FnMut(&SearchKey) -> Result<bool, E>) -> Result<bool, E> {
        let mut open = [0u16; Self::MAX_DEPTH];
        let (mut depth, mut at) = (0, 0usize);
        while let Some(op) = self.0.get(at) {
            let SearchOp::Key(key) = op else {
                open[depth] = at as u16;
                (depth, at) = (depth + 1, at + 1);
                continue;
            };
            let mut value = holds(key)?;
            at += 1;
            // The value decides its operator, or the operator wants its next operand.
            loop {
                if depth == 0 {
                    return Ok(value);
                }
                let decided = match self.0[usize::from(open[depth - 1])] {
                    SearchOp::Not { end } => {
                        value = !value;
                        Some(end)
                    }
                    SearchOp::And { end } => (!value || at == usize::from(end)).then_some(end),
                    SearchOp::Or { end } => (value || at == usize::from(end)).then_some(end),
                    SearchOp::Key(_) => None,
                };
                let Some(end) = decided else { break };
                (depth, at) = (depth - 1, usize::from(end));
            }
        }
        Ok(false)
    }
}
