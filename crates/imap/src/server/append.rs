//! APPEND and MULTIAPPEND (RFC 9051 §6.3.12, RFC 3502): the messages go by in slices of the input.

use super::lines::{Announcement, Discard, TooLong};
use super::{AppendMessage, Event, Server, State, Turn, announcement};
use crate::command::Tag;
use crate::name::MailboxName;
use crate::parse::{Cursor, Fault};

/// An APPEND under way.
#[derive(Debug)]
pub(super) struct Append {
    tag: Tag,
    phase: Phase,
}

/// Where in it we are. The flag `utf8` means that a `)` follows the message.
#[derive(Debug)]
enum Phase {
    /// The caller knows the mailbox, not yet the message.
    Announced { offer: Offer, literal: Announcement },
    /// The caller knows the message and may still refuse.
    Offered { utf8: bool, literal: Announcement },
    /// The message comes: so much is left.
    Data { utf8: bool, left: u64 },
    /// The message is complete: what else is on the line?
    Tail { utf8: bool },
}

/// A message as announced, or what is wrong with the announcement.
type Offer = Result<AppendMessage, Fault>;

/// Reads what stands before a message.
pub(super) fn offer(cursor: &mut Cursor<'_>, literal: Announcement) -> Offer {
    let options = cursor.append_options()?;
    let (size, binary) = (literal.size, literal.binary);
    Ok(AppendMessage { flags: options.flags, date: options.date, size, binary, utf8: options.utf8 })
}

impl Server {
    /// Refuses the APPEND under way, at any time from [`Event::AppendStart`] until [`Event::AppendEnd`] has been given.
    /// The caller writes the tagged NO itself; no more events come of this APPEND.
    ///
    /// A message the client holds back is not asked for; one that comes anyhow is passed over, and so are those after
    /// it (RFC 7888 §4, RFC 3502 §6.3.11).
    pub fn refuse_append(&mut self) {
        let State::Append(append) = &self.state else { return };
        self.state = match &append.phase {
            Phase::Announced { literal, .. } | Phase::Offered { literal, .. } if literal.sync => State::Text,
            Phase::Announced { literal, .. } | Phase::Offered { literal, .. } => {
                State::Discard(Discard::literal(literal.size))
            }
            Phase::Data { left, .. } => State::Discard(Discard::literal(*left)),
            Phase::Tail { .. } => State::Discard(Discard::text(&std::mem::take(&mut self.line).bytes)),
        };
    }

    pub(super) fn begin_append<'a>(
        &mut self,
        tag: Tag,
        mailbox: MailboxName,
        offer: Offer,
        literal: Announcement,
    ) -> Turn<'a> {
        if let Err(fault) = offer {
            return self.reject(Some(tag), fault, Some(literal));
        }
        let phase = Phase::Announced { offer, literal };
        self.state = State::Append(Box::new(Append { tag: tag.clone(), phase }));
        Turn::Tell(Event::AppendStart { tag, mailbox })
    }

    pub(super) fn append<'a>(&mut self, input: &'a [u8]) -> (usize, Turn<'a>) {
        let State::Append(append) = &mut self.state else { return (0, Turn::Again) };
        match &mut append.phase {
            Phase::Announced { offer: Err(fault), literal } => {
                let (fault, literal) = (*fault, *literal);
                (0, self.abort_append(fault, Some(literal)))
            }
            Phase::Announced { offer: Ok(message), literal } => {
                let message = message.clone();
                append.phase = Phase::Offered { utf8: message.utf8, literal: *literal };
                (0, Turn::Tell(Event::AppendMessage(message)))
            }
            Phase::Offered { utf8, literal } => {
                if literal.sync {
                    self.out.extend_from_slice(b"+ OK\r\n");
                }
                append.phase = Phase::Data { utf8: *utf8, left: literal.size };
                (0, Turn::Again)
            }
            Phase::Data { utf8, left: 0 } => {
                append.phase = Phase::Tail { utf8: *utf8 };
                (0, Turn::Tell(Event::AppendMessageEnd))
            }
            Phase::Data { .. } if input.is_empty() => (0, Turn::Wait),
            Phase::Data { left, .. } => {
                let used = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                (used, Turn::Tell(Event::AppendData(&input[..used])))
            }
            Phase::Tail { utf8 } => {
                let utf8 = *utf8;
                self.append_tail(input, utf8)
            }
        }
    }

    /// After a message: the end of the line, or another message.
    fn append_tail<'a>(&mut self, input: &'a [u8], utf8: bool) -> (usize, Turn<'a>) {
        let (used, complete) = match self.line.take(input, self.limits().text) {
            Ok(taken) => taken,
            Err(TooLong(used)) => return (used, self.append_too_long()),
        };
        if !complete {
            return (used, Turn::Wait);
        }
        let kept = std::mem::take(&mut self.line);
        let whole: &[u8] = if kept.bytes.is_empty() { &input[..used] } else { &kept.bytes };
        let literal = announcement(whole);
        let mut cursor = Cursor::new(super::without_line_end(whole), self.mode);
        if utf8 && !cursor.eat(b')') {
            return (used, self.abort_append(Fault::Bad("The parenthesis of UTF8 does not end"), literal));
        }
        let Some(literal) = literal else {
            if let Err(fault) = cursor.end() {
                return (used, self.abort_append(fault, None));
            }
            self.state = State::Text;
            return (used, Turn::Tell(Event::AppendEnd));
        };
        let offer = cursor.space().and_then(|()| offer(&mut cursor, literal));
        if let State::Append(append) = &mut self.state {
            append.phase = Phase::Announced { offer, literal };
        }
        (used, Turn::Again)
    }

    fn append_too_long<'a>(&mut self) -> Turn<'a> {
        let kept = std::mem::take(&mut self.line);
        let turn = self.abort_append(Fault::Bad("The command is too long"), None);
        self.state = State::Discard(Discard::text(&kept.bytes));
        turn
    }

    /// Tells the client what is wrong and the caller that it is over.
    fn abort_append<'a>(&mut self, fault: Fault, literal: Option<Announcement>) -> Turn<'a> {
        if let State::Append(append) = std::mem::replace(&mut self.state, State::Text) {
            self.reject(Some(append.tag), fault, literal);
        }
        Turn::Tell(Event::AppendAbort)
    }
}
