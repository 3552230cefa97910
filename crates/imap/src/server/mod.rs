//! The server's side of the wire: cuts what a client sends into commands and messages, and says what the protocol
//! wants said in between (continuations, BAD).
//!
//! Called by the IMAP session, which owns the socket, the clock and the store. The machine never decides what a
//! command means, and never holds more of a message than the slice it was given.

mod append;
mod lines;

use crate::base64::{self, Form};
use crate::command::{Command, Tag};
use crate::flag::Flag;
use crate::name::MailboxName;
use crate::parse::{Cursor, Fault, Mode};
use crate::write::{Status, Writer};
use append::Append;
use base::Timestamp;
use lines::{Discard, Line, TooLong, announcement};

/// What a client may make us keep, for one command. All are capped before anything is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of a command outside its literals; also of one line of a SASL exchange.
    pub text: usize,
    /// Octets of one literal. The message of an APPEND is not kept and not counted.
    pub literal: u64,
    /// Octets of all literals.
    pub literal_sum: u64,
    /// How many literals.
    pub literals: u32,
}

/// How much the machine takes from strangers, and from those who logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Until [`Server::set_authenticated`].
    pub before_login: Limits,
    /// From then on.
    pub after_login: Limits,
}

impl Default for Config {
    /// 8 KB of text and 4 KB of literals to log in with; then 64 KB and 64 KB (RFC 7162 §4 wants lines of 8 KB at
    /// least).
    fn default() -> Self {
        Config {
            before_login: Limits { text: 8 << 10, literal: 1 << 10, literal_sum: 4 << 10, literals: 8 },
            after_login: Limits { text: 64 << 10, literal: 32 << 10, literal_sum: 64 << 10, literals: 256 },
        }
    }
}

/// What came in. Replies the machine gives by itself are in [`Server::output`] already.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<'a> {
    /// A command to be carried out and answered.
    Command {
        /// To answer with.
        tag: Tag,
        /// What to do.
        command: Command,
    },
    /// An APPEND begins. Its messages follow, one or more (RFC 3502), each as [`Event::AppendMessage`],
    /// [`Event::AppendData`]…, [`Event::AppendMessageEnd`]; then [`Event::AppendEnd`].
    ///
    /// From here to the end the caller may call [`Server::refuse_append`].
    AppendStart {
        /// To answer with.
        tag: Tag,
        /// Where to.
        mailbox: MailboxName,
    },
    /// A message is offered: the next step accepts it, [`Server::refuse_append`] does not. A message of no octets is to
    /// be refused: this is how a client gives up a MULTIAPPEND (RFC 3502 §6.3.11).
    AppendMessage(AppendMessage),
    /// A piece of the message.
    AppendData(&'a [u8]),
    /// The message is complete.
    AppendMessageEnd,
    /// The APPEND is complete and wants its answer.
    AppendEnd,
    /// The APPEND broke off for a fault of the client's, which was told: forget its messages.
    AppendAbort,
    /// DONE: the IDLE wants its answer (RFC 9051 §6.3.13).
    IdleDone,
    /// The client's part of a SASL exchange, decoded; perhaps empty. Go on with [`Server::challenge`], or answer the
    /// AUTHENTICATE.
    AuthResponse(Vec<u8>),
    /// The client was told that its command is wrong; what is left of the command will be passed over. An IDLE or
    /// AUTHENTICATE under way has ended. Worth counting: a client that does nothing else is no client.
    Bad {
        /// None: it had no tag.
        tag: Option<Tag>,
        /// What it was told.
        text: &'static str,
    },
}

/// What is known of a message before it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendMessage {
    /// Each once.
    pub flags: Vec<Flag>,
    /// The internal date it shall have.
    pub date: Option<Timestamp>,
    /// Octets, exactly.
    pub size: u64,
    /// Sent as a literal8: it may hold NUL (RFC 3516 §4.4).
    pub binary: bool,
    /// Sent as `UTF8 (…)` (RFC 6855 §4).
    pub utf8: bool,
}

/// What a [`Server::step`] did.
#[derive(Clone, Debug, PartialEq)]
pub struct Step<'a> {
    /// Octets of the input that are done with; the rest is to be given again.
    pub consumed: usize,
    /// What came of them; none: all was consumed, and more is needed.
    pub event: Option<Event<'a>>,
}

/// What the next octets are.
#[derive(Debug)]
enum State {
    /// The text of a command, or the rest of it after a literal.
    Text,
    /// A literal of a command, kept in `line.bytes`: so much is still to come.
    Literal(u64),
    /// What is left of a command that was refused.
    Discard(Discard),
    /// An APPEND from its mailbox on.
    Append(Box<Append>),
    /// A line of a SASL exchange.
    Auth(Tag),
    /// A DONE.
    Idle(Tag),
}

/// What a state makes of its input.
enum Turn<'a> {
    /// It wants more.
    Wait,
    /// The state changed: go on with the rest.
    Again,
    /// The caller is to hear of it.
    Tell(Event<'a>),
}

/// The machine. When nothing is under way it owns no memory but its own few hundred octets.
#[derive(Debug)]
pub struct Server {
    config: Config,
    mode: Mode,
    state: State,
    line: Line,
    out: Vec<u8>,
}

impl Server {
    /// A machine for a connection that begins. The greeting is the caller's.
    pub fn new(config: Config) -> Self {
        let mode = Mode { utf8: false, authenticated: false };
        Server { config, mode, state: State::Text, line: Line::default(), out: Vec::new() }
    }

    /// After a login: wider limits, and all commands are read.
    pub fn set_authenticated(&mut self) {
        self.mode.authenticated = true;
    }

    /// After ENABLE of `UTF8=ACCEPT` or `IMAP4rev2`: mailbox names are UTF-8 (RFC 6855 §3, RFC 9051 §5.1).
    pub fn set_utf8(&mut self) {
        self.mode.utf8 = true;
    }

    /// What is to be sent. The caller writes its responses here too, so that the order holds, and takes out what the
    /// socket took.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes to [`Server::output`], in the mailbox names the client understands.
    pub fn writer(&mut self) -> Writer<'_> {
        Writer::new(&mut self.out, self.mode.utf8)
    }

    /// Consumes input up to the next event. To be called again, with the rest of the input, until there is no event;
    /// then again when there is more.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        let mut consumed = 0;
        loop {
            let (used, turn) = self.advance(&input[consumed..]);
            consumed += used;
            match turn {
                Turn::Wait => return Step { consumed, event: None },
                Turn::Again => {}
                Turn::Tell(event) => return Step { consumed, event: Some(event) },
            }
        }
    }

    /// Asks for the next line of a SASL exchange (RFC 9051 §6.2.2), after AUTHENTICATE or [`Event::AuthResponse`].
    pub fn challenge(&mut self, tag: Tag, challenge: &[u8]) {
        self.out.extend_from_slice(b"+ ");
        base64::encode(Form::Padded, challenge, &mut self.out);
        self.out.extend_from_slice(b"\r\n");
        self.state = State::Auth(tag);
    }

    /// Lets the client idle (RFC 9051 §6.3.13), after [`Command::Idle`]. Ends with [`Event::IdleDone`] or
    /// [`Event::Bad`].
    pub fn start_idle(&mut self, tag: Tag) {
        self.out.extend_from_slice(b"+ idling\r\n");
        self.state = State::Idle(tag);
    }

    fn limits(&self) -> Limits {
        if self.mode.authenticated { self.config.after_login } else { self.config.before_login }
    }

    fn advance<'a>(&mut self, input: &'a [u8]) -> (usize, Turn<'a>) {
        match &mut self.state {
            State::Text => self.text(input),
            State::Literal(left) => {
                let used = input.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                self.line.bytes.extend_from_slice(&input[..used]);
                *left -= used as u64;
                if *left > 0 {
                    return (used, Turn::Wait);
                }
                self.line.start_of_text();
                self.state = State::Text;
                (used, Turn::Again)
            }
            State::Discard(discard) => {
                let (used, done) = discard.feed(input);
                if !done {
                    return (used, Turn::Wait);
                }
                self.state = State::Text;
                (used, Turn::Again)
            }
            State::Append(_) => self.append(input),
            State::Auth(_) | State::Idle(_) => self.lone_line(input),
        }
    }

    /// The text of a command.
    fn text<'a>(&mut self, input: &'a [u8]) -> (usize, Turn<'a>) {
        let (used, complete) = match self.line.take(input, self.limits().text) {
            Ok(taken) => taken,
            Err(TooLong(used)) => return (used, self.too_long()),
        };
        if !complete {
            return (used, Turn::Wait);
        }
        // A command that came in one piece is read where it lies.
        let mut kept = std::mem::take(&mut self.line);
        let whole: &[u8] = if kept.bytes.is_empty() { &input[..used] } else { &kept.bytes };
        let mut cursor = Cursor::new(without_line_end(whole), self.mode);
        let tag = match cursor.tag() {
            Ok(tag) => tag,
            Err(fault) => return (used, self.reject(None, fault, announcement(&whole[kept.text_at..]))),
        };
        let Some(literal) = announcement(&whole[kept.text_at..]) else {
            return match cursor.command() {
                Ok(command) => (used, Turn::Tell(Event::Command { tag, command })),
                Err(fault) => (used, self.reject(Some(tag), fault, None)),
            };
        };
        if cursor.is_append() {
            match cursor.append_mailbox() {
                Ok(mailbox) => {
                    let offer = append::offer(&mut cursor, literal);
                    return (used, self.begin_append(tag, mailbox, offer, literal));
                }
                // The literal is the mailbox's name.
                Err(Fault::NeedsLiteral) => {}
                Err(fault) => return (used, self.reject(Some(tag), fault, Some(literal))),
            }
        } else if kept.literals == 0
            && let Err(fault @ (Fault::Bad(_) | Fault::No(..))) = cursor.command()
        {
            // What is wrong before its first literal needs no more octets. (Looking at each would be quadratic.)
            return (used, self.reject(Some(tag), fault, Some(literal)));
        }
        let limits = self.limits();
        kept.literals += 1;
        // The sum saturates: an announced size is the client's word.
        kept.literal_sum = kept.literal_sum.saturating_add(literal.size);
        if literal.size > limits.literal || kept.literal_sum > limits.literal_sum || kept.literals > limits.literals {
            return (used, self.reject(Some(tag), Fault::Bad("The literals are too many or too large"), Some(literal)));
        }
        if kept.bytes.is_empty() {
            kept.bytes.extend_from_slice(&input[..used]);
        }
        if literal.sync {
            self.out.extend_from_slice(b"+ OK\r\n");
        }
        self.line = kept;
        self.state = State::Literal(literal.size);
        (used, Turn::Again)
    }

    /// Answers a wrong command, and sees to what is left of it.
    fn reject<'a>(&mut self, tag: Option<Tag>, fault: Fault, literal: Option<lines::Announcement>) -> Turn<'a> {
        self.state = match literal {
            // The client sends it unasked: it has to be drained (trap 4).
            Some(literal) if !literal.sync => State::Discard(Discard::literal(literal.size)),
            // The client takes the answer for a refusal (RFC 9051 §4.3) and sends nothing more of the command.
            _ => State::Text,
        };
        let text = self.say(tag.as_ref(), fault);
        Turn::Tell(Event::Bad { tag, text })
    }

    fn too_long<'a>(&mut self) -> Turn<'a> {
        let kept = std::mem::take(&mut self.line);
        let tag = Cursor::new(&kept.bytes, self.mode).tag().ok();
        let text = self.say(tag.as_ref(), Fault::Bad("The command is too long"));
        self.state = State::Discard(Discard::text(&kept.bytes[kept.text_at..]));
        Turn::Tell(Event::Bad { tag, text })
    }

    /// Writes the answer to a wrong command; gives its text.
    fn say(&mut self, tag: Option<&Tag>, fault: Fault) -> &'static str {
        let (status, code, text) = match fault {
            Fault::Bad(text) => (Status::Bad, None, text),
            Fault::No(code, text) => (Status::No, Some(code), text),
            Fault::NeedsLiteral => (Status::Bad, None, "Not a literal"),
        };
        match tag {
            Some(tag) => self.writer().tagged(tag, status, code, text),
            None => self.writer().untagged(status, code, text),
        }
        text
    }

    /// A line that is not a command: DONE, or a SASL response.
    fn lone_line<'a>(&mut self, input: &'a [u8]) -> (usize, Turn<'a>) {
        let (used, complete) = match self.line.take(input, self.limits().text) {
            Ok(taken) => taken,
            Err(TooLong(used)) => {
                let kept = std::mem::take(&mut self.line);
                let discard = State::Discard(Discard::text(&kept.bytes));
                return (used, self.end_lone_line(discard, "The line is too long"));
            }
        };
        if !complete {
            return (used, Turn::Wait);
        }
        let kept = std::mem::take(&mut self.line);
        let whole: &[u8] = if kept.bytes.is_empty() { &input[..used] } else { &kept.bytes };
        let line = without_line_end(whole);
        let event = match (&self.state, line) {
            (State::Idle(_), line) if line.eq_ignore_ascii_case(b"DONE") => Some(Event::IdleDone),
            (State::Auth(_), line) if line != b"*" => base64::decode(Form::Padded, line).map(Event::AuthResponse),
            _ => None,
        };
        let Some(event) = event else {
            // RFC 9051 §6.2.2: `*` cancels, and the answer to that is BAD.
            let text = match self.state {
                State::Idle(_) => "Expected DONE",
                _ if line == b"*" => "Cancelled",
                _ => "Not base64",
            };
            let turn = self.end_lone_line(State::Text, text);
            return (used, turn);
        };
        self.state = State::Text;
        (used, Turn::Tell(event))
    }

    fn end_lone_line<'a>(&mut self, next: State, text: &'static str) -> Turn<'a> {
        let tag = match std::mem::replace(&mut self.state, next) {
            State::Idle(tag) | State::Auth(tag) => Some(tag),
            _ => None,
        };
        let text = self.say(tag.as_ref(), Fault::Bad(text));
        Turn::Tell(Event::Bad { tag, text })
    }
}

/// Without `\r\n` or, since people type at servers too, `\n`.
fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
