//! What a search asks of each message, made ready once: sets resolved, flags as bits, texts folded.

use base::{EmailId, ModSeq, Timestamp};
use imap::{Day, Flag, SearchKey, SearchOp, SearchProgram};
use mailbox::{Entry, Flags, UidSet};

use super::header::Names;
use super::text::Needle;
use super::truth::{Op, Truth, decide};
use crate::imap::select::Selected;

/// What must be read to answer a question, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cost {
    /// Nothing: the mailbox's index knows.
    Index,
    /// A row.
    Row,
    /// The mail's header.
    Header,
    /// The mail.
    Body,
}

/// One key.
#[derive(Debug)]
pub(super) enum Question {
    /// The same for every message.
    Always(bool),
    /// Its number is one of these.
    Numbers(UidSet),
    /// It has this flag.
    Flag(Flags),
    Larger(u64),
    Smaller(u64),
    /// It changed at or after this.
    ChangedSince(ModSeq),
    Email(EmailId),
    /// INTERNALDATE.
    Received(When),
    /// INTERNALDATE is at or before this moment.
    Older(Timestamp),
    /// It is after it.
    Younger(Timestamp),
    /// SAVEDATE.
    Saved(When),
    /// The `Date` field.
    Sent(When),
    /// A field of this name has this text; an empty text: there is such a field.
    Field(Box<str>, Needle),
    Body(Needle),
    /// In header or body.
    Text(Needle),
}

/// A day compared with.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Before(Day),
    On(Day),
    Since(Day),
}

impl When {
    /// Compares the day of a moment, as a clock `offset` minutes east of UTC shows it: RFC 9051 §6.4.4 disregards the time
    /// and the zone.
    pub fn holds(self, moment: Timestamp, offset: i32) -> bool {
        let day = (moment.secs() + i64::from(offset) * 60).div_euclid(86_400);
        match self {
            When::Before(than) => day < than.0,
            When::On(that) => day == that.0,
            When::Since(that) => day >= that.0,
        }
    }
}

impl Question {
    fn new(key: &SearchKey, selected: &Selected, now: Timestamp) -> Self {
        let ago = |seconds: u32| Timestamp(now.0.saturating_sub(i64::from(seconds) * 1000));
        match key {
            SearchKey::All | SearchKey::SaveDateSupported => Question::Always(true),
            SearchKey::Sequence(set) => Question::Numbers(selected.numbers_there(false, set)),
            SearchKey::Uid(set) => Question::Numbers(selected.numbers_there(true, set)),
            SearchKey::Flag(flag) => Self::flag(flag, selected),
            SearchKey::Larger(octets) => Question::Larger(*octets),
            SearchKey::Smaller(octets) => Question::Smaller(*octets),
            SearchKey::ModSeq(mod_seq) => Question::ChangedSince(*mod_seq),
            SearchKey::EmailId(id) => match id.strip_prefix('M').and_then(|number| number.parse().ok()) {
                Some(number) => Question::Email(EmailId(number)),
                None => Question::Always(false),
            },
            // No threads are kept (RFC 8474 §5.2).
            SearchKey::ThreadId(_) => Question::Always(false),
            SearchKey::Before(day) => Question::Received(When::Before(*day)),
            SearchKey::On(day) => Question::Received(When::On(*day)),
            SearchKey::Since(day) => Question::Received(When::Since(*day)),
            SearchKey::Older(seconds) => Question::Older(ago(*seconds)),
            SearchKey::Younger(seconds) => Question::Younger(ago(*seconds)),
            SearchKey::SavedBefore(day) => Question::Saved(When::Before(*day)),
            SearchKey::SavedOn(day) => Question::Saved(When::On(*day)),
            SearchKey::SavedSince(day) => Question::Saved(When::Since(*day)),
            SearchKey::SentBefore(day) => Question::Sent(When::Before(*day)),
            SearchKey::SentOn(day) => Question::Sent(When::On(*day)),
            SearchKey::SentSince(day) => Question::Sent(When::Since(*day)),
            SearchKey::Header { name, text } => Question::Field(name.clone(), Needle::new(text)),
            // Every text holds the empty one.
            SearchKey::Body(text) | SearchKey::Text(text) if text.is_empty() => Question::Always(true),
            SearchKey::Body(text) => Question::Body(Needle::new(text)),
            SearchKey::Text(text) => Question::Text(Needle::new(text)),
        }
    }

    fn flag(flag: &Flag, selected: &Selected) -> Self {
        match flag {
            Flag::Recent | Flag::Any => Question::Always(false),
            Flag::Keyword(keyword) => match selected.keywords().get(keyword.as_str()) {
                Some(bit) => Question::Flag(bit),
                None => Question::Always(false),
            },
            system => Question::Flag(crate::imap::change::split(std::slice::from_ref(system)).0),
        }
    }

    pub fn cost(&self) -> Cost {
        match self {
            Question::Always(_)
            | Question::Numbers(_)
            | Question::Flag(_)
            | Question::Larger(_)
            | Question::Smaller(_)
            | Question::ChangedSince(_)
            | Question::Email(_) => Cost::Index,
            Question::Received(_) | Question::Older(_) | Question::Younger(_) | Question::Saved(_) => Cost::Row,
            Question::Sent(_) | Question::Field(..) => Cost::Header,
            Question::Body(_) | Question::Text(_) => Cost::Body,
        }
    }

    /// The answer, where the mailbox's index knows it.
    fn ask_index(&self, seq: u32, entry: &Entry) -> Truth {
        match self {
            Question::Always(value) => (*value).into(),
            Question::Numbers(set) => set.contains(seq).into(),
            Question::Flag(flag) => entry.flags.has(*flag).into(),
            Question::Larger(octets) => (u64::from(entry.octets) > *octets).into(),
            Question::Smaller(octets) => (u64::from(entry.octets) < *octets).into(),
            Question::ChangedSince(mod_seq) => (entry.modseq >= *mod_seq).into(),
            Question::Email(id) => (entry.email == *id).into(),
            _ => Truth::Unknown,
        }
    }
}

/// A search, ready to be asked.
#[derive(Debug)]
pub(super) struct Program {
    pub questions: Vec<Question>,
    /// The header fields they are about.
    pub names: Names,
    ops: Vec<Op>,
}

impl Program {
    pub fn new(program: &SearchProgram, selected: &Selected, now: Timestamp) -> Self {
        let mut questions = Vec::new();
        let mut ops = Vec::with_capacity(program.ops().len());
        for op in program.ops() {
            ops.push(match op {
                SearchOp::Key(key) => {
                    questions.push(Question::new(key, selected, now));
                    Op::Key(questions.len() as u16 - 1)
                }
                SearchOp::And { end } => Op::And(*end),
                SearchOp::Or { end } => Op::Or(*end),
                SearchOp::Not { end } => Op::Not(*end),
            });
        }
        Program { names: Names::new(&questions), questions, ops }
    }

    /// The text a question looks for.
    pub fn needle(&self, number: usize) -> Option<&Needle> {
        match self.questions.get(number)? {
            Question::Field(_, needle) | Question::Body(needle) | Question::Text(needle) => Some(needle),
            _ => None,
        }
    }

    /// For tests of what looks for texts.
    #[cfg(test)]
    pub fn of_texts(texts: &[&str]) -> Self {
        let questions = texts.iter().map(|text| Question::Body(Needle::new(text))).collect();
        Program { questions, names: Names::default(), ops: Vec::new() }
    }

    /// Does the message match, as far as the mailbox's index knows?
    pub fn ask_index(&self, seq: u32, entry: &Entry) -> Truth {
        let ask = |key: u16| self.questions[usize::from(key)].ask_index(seq, entry);
        decide(&self.ops, &mut Vec::with_capacity(8), ask)
    }

    /// What the index knows of each question.
    pub fn begin(&self, seq: u32, entry: &Entry) -> Vec<Truth> {
        self.questions.iter().map(|question| question.ask_index(seq, entry)).collect()
    }

    /// Does a message match, of which so much is known?
    pub fn decide(&self, known: &[Truth]) -> Truth {
        decide(&self.ops, &mut Vec::with_capacity(8), |key| known[usize::from(key)])
    }
}
