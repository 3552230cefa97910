//! The body on its way: DATA, BDAT, what becomes of one that fails, and the replies at its end.

use base::Reply;

use super::event::final_reply;
use super::{
    Abort, Ask, AskBody, AskEach, AskOne, Asked, Chunking, Close, Event, Progress, Protocol, Server, State,
    Transaction, command,
};
use crate::body::{Piece, Scanner};
use crate::envelope::{self, BodyType};

impl Transaction {
    /// What of `part` the caller gets: nothing once something is wrong, and nothing beyond `max` octets.
    fn admit<'a>(&mut self, part: &'a [u8], max: u64) -> &'a [u8] {
        if self.fault.is_some() {
            return b"";
        }
        let room = usize::try_from(max - self.size).unwrap_or(usize::MAX);
        let part = if part.len() > room {
            self.fault = Some(Abort::TooBig);
            &part[..room]
        } else {
            part
        };
        self.size += part.len() as u64;
        part
    }

    /// The scanner's word on some input, and what of it the caller gets.
    fn take<'a>(&mut self, piece: Piece<'a>, max: u64) -> &'a [u8] {
        match piece {
            Piece::Text(text) => self.admit(text, max),
            Piece::Bare => {
                self.fault.get_or_insert(Abort::BareLineEnd);
                b""
            }
            Piece::End => b"",
        }
    }
}

impl Server {
    pub(super) fn data<'a>(&mut self, rest: &'a [u8]) -> Progress<'a> {
        let Some(transaction) = &mut self.transaction else { return Progress::Blocked };
        let left = self.config.max_size.saturating_add(self.config.max_drain) - transaction.received;
        if left == 0 {
            transaction.fault.get_or_insert(Abort::TooBig);
            let _ = self.end_of_body(true);
            self.state = State::Closing(Close::Flood);
            return Progress::Used(0);
        }
        if rest.is_empty() {
            return Progress::Blocked;
        }
        let (used, piece) = transaction.scanner.next(window(rest, left));
        transaction.received += used as u64;
        if piece == Piece::End {
            return Progress::Event(used, self.end_of_body(true));
        }
        match transaction.take(piece, self.config.max_size) {
            b"" => Progress::Used(used),
            part => Progress::Event(used, Event::Body(part)),
        }
    }

    /// The question what became of the body; or the reply, when that is known already. `last` is false for a chunk that
    /// is not the last (one reply then, in LMTP too).
    fn end_of_body(&mut self, last: bool) -> Event<'static> {
        let Some(fault) = self.transaction.as_ref().and_then(|t| t.fault) else {
            self.state = State::Asked(Asked::Body);
            return Event::BodyEnd(match self.config.protocol {
                Protocol::Smtp => AskBody::One(AskOne(())),
                Protocol::Lmtp => AskBody::Each(AskEach(self.copies())),
            });
        };
        let reply = match fault {
            Abort::TooBig => envelope::too_big(self.config.max_size),
            _ => {
                Reply::new(554, 6, 0, "The message has a CR or LF that is not part of a CRLF (RFC 5321 section 2.3.8)")
            }
        };
        let copies = if last { self.copies() } else { 1 };
        for _ in 0..copies {
            self.reply(&reply);
        }
        self.transaction = None;
        self.state = State::Command;
        Event::Abort(fault)
    }

    /// How often the end of the body is answered: in LMTP once for each recipient (RFC 2033 §4.2).
    pub(super) fn copies(&self) -> u32 {
        match (self.config.protocol, &self.transaction) {
            (Protocol::Lmtp, Some(transaction)) => transaction.recipients,
            _ => 1,
        }
    }

    /// The caller's replies at the end of the body.
    pub(super) fn body_replies(&mut self, count: u32, mut reply: impl FnMut(usize) -> Reply) {
        let State::Asked(Asked::Body) = self.state else { return };
        self.state = State::Command;
        for recipient in 0..count {
            let reply = final_reply(&reply(recipient as usize));
            self.reply(&reply);
            if reply.is_positive() {
                (self.errors, self.idle) = (0, 0);
            }
            if reply.code == 421 {
                self.state = State::Closing(Close::Refused);
            }
        }
        self.transaction = None;
    }

    // ---- BDAT (RFC 3030 §2) ----

    pub(super) fn bdat(&mut self, args: &str) -> Option<Event<'static>> {
        let Some((left, last)) = command::parse_bdat(args) else {
            // The octets that follow would be read as commands.
            self.reply(&Reply::new(501, 5, 4, "Syntax: BDAT length [LAST]"));
            self.state = State::Closing(Close::BadChunk);
            return None;
        };
        if left > self.config.max_drain {
            self.reply(&envelope::too_big(self.config.max_size));
            self.state = State::Closing(Close::Flood);
            return None;
        }
        if left == 0 && !last {
            self.idle = self.idle.saturating_add(1);
        }
        let refusal = match self.config.chunking {
            Chunking::Off => Some(Reply::new(502, 5, 1, "Chunking is not available")),
            _ => self.not_ready_for_body(),
        };
        let (None, Some(transaction)) = (&refusal, &mut self.transaction) else {
            // The octets are on their way all the same. Not an error to be counted: whoever sends a large body in chunks
            // has many of them on the way when he hears that the first was refused.
            let reply = refusal.unwrap_or(Reply::new(503, 5, 1, "MAIL first"));
            self.idle = self.idle.saturating_add(1);
            self.state = State::Skip { left, reply: Box::new(reply), copies: 1 };
            return None;
        };
        let first = !std::mem::replace(&mut transaction.chunked, true);
        if first {
            transaction.scanner = Scanner::new(false, self.config.bare_line_ends);
        }
        if left > self.config.max_size - transaction.size {
            transaction.fault = Some(Abort::TooBig);
        } else if first {
            self.state = State::Asked(Asked::Bdat { left, last });
            return Some(Event::Data(Ask(())));
        }
        self.state = State::Chunk { left, last };
        None
    }

    pub(super) fn chunk<'a>(&mut self, rest: &'a [u8], left: u64, last: bool) -> Progress<'a> {
        let max = self.config.max_size;
        let Some(transaction) = &mut self.transaction else { return Progress::Blocked };
        let binary = transaction.body == BodyType::BinaryMime;
        if left == 0 {
            if last && !binary {
                let piece = transaction.scanner.finish();
                let part = transaction.take(piece, max);
                if !part.is_empty() {
                    return Progress::Event(0, Event::Body(part));
                }
            }
            if last || transaction.fault.is_some() {
                return Progress::Event(0, self.end_of_body(last));
            }
            self.settle(Reply::new(250, 0, 0, "Chunk received"));
            return Progress::Used(0);
        }
        let window = window(rest, left);
        if window.is_empty() {
            return Progress::Blocked;
        }
        let (used, piece) = if binary { (window.len(), Piece::Text(window)) } else { transaction.scanner.next(window) };
        self.state = State::Chunk { left: left - used as u64, last };
        match transaction.take(piece, max) {
            b"" => Progress::Used(used),
            part => Progress::Event(used, Event::Body(part)),
        }
    }

    /// RFC 3030 §2: the octets of a refused chunk are read before it is answered.
    pub(super) fn skip<'a>(&mut self, rest: &'a [u8]) -> Progress<'a> {
        let State::Skip { left, reply, copies } = &mut self.state else { return Progress::Blocked };
        if *left == 0 {
            let (reply, copies) = (Reply::clone(reply), *copies);
            (0..copies).for_each(|_| self.say(&reply));
            self.state = if reply.code == 421 { State::Closing(Close::Refused) } else { State::Command };
            return Progress::Used(0);
        }
        let used = window(rest, *left).len();
        *left -= used as u64;
        if used == 0 { Progress::Blocked } else { Progress::Used(used) }
    }
}

/// At most `limit` octets of `input`.
fn window(input: &[u8], limit: u64) -> &[u8] {
    &input[..usize::try_from(limit).unwrap_or(usize::MAX).min(input.len())]
}
