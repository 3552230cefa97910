//! What the machine tells its caller, and how the caller answers.
//!
//! An event that needs an answer brings a question: a value that can be made by the machine only, used once, and answered
//! only in ways that make sense there. Until then the machine does not move.

use base::Reply;

use super::{Asked, Server, State};
use crate::envelope::{Mail, Rcpt};

/// What one call of [`Server::step`] did.
#[derive(Debug)]
pub struct Step<'a> {
    /// How many octets of the input are used up.
    pub consumed: usize,
    /// What happened. None: the machine wants more input, or an answer, or is closed.
    pub event: Option<Event<'a>>,
}

/// Something the caller has to know, decide or keep.
#[derive(Debug)]
pub enum Event<'a> {
    /// EHLO, HELO or LHLO. Accepting it voids any transaction (RFC 5321 §4.1.4).
    Hello(Ask, Hello),
    /// STARTTLS. After accepting, send the output, throw away all input that is left, shake hands, then call
    /// [`Server::tls_started`]. Whatever came in the same flight as STARTTLS is gone already.
    StartTls(Ask),
    /// AUTH, with a mechanism of [`Config::auth`](super::Config::auth).
    Auth(AskAuth, Auth),
    /// The client's answer to a challenge, decoded.
    AuthResponse(AskAuth, Vec<u8>),
    /// The client gave up, or wrote nonsense: the exchange is over, and the client was told.
    AuthAborted,
    /// MAIL: a transaction begins, if accepted.
    Mail(Ask, Mail),
    /// RCPT: one recipient more, if accepted.
    Rcpt(Ask, Rcpt),
    /// DATA or a transaction's first BDAT: the body comes now, if accepted. Refusing ends the transaction.
    Data(Ask),
    /// Part of the body, dots taken off. Parts are as long as the input allows.
    Body(&'a [u8]),
    /// The body is complete. The answer ends the transaction.
    BodyEnd(AskBody),
    /// The transaction is void: forget its sender, recipients and body. The client was told.
    Abort(Abort),
    /// VRFY.
    Vrfy(AskVrfy, Vrfy),
    /// Send the output, then close the connection. Any transaction is void.
    Close(Close),
}

/// How a client introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// False for HELO: no extensions.
    pub extended: bool,
    /// The name it gave: up to 255 octets without spaces or control characters, otherwise unchecked.
    pub name: String,
}

/// How a client wants to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The mechanism's name as it stands in the configuration.
    pub mechanism: &'static str,
    /// The initial response, decoded; `Some(vec![])` when the client wrote `=`.
    pub initial: Option<Vec<u8>>,
}

/// Whom a client asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vrfy {
    /// A user's name or an address, as written.
    pub query: String,
    /// SMTPUTF8 was given (RFC 6531 §3.7.4.2): the reply may be UTF-8.
    pub smtputf8: bool,
}

/// Why a transaction is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// RSET.
    Reset,
    /// The body holds a CR or LF that stands alone: 554 5.6.0.
    BareLineEnd,
    /// The body is larger than [`Config::max_size`](super::Config::max_size): 552 5.3.4.
    TooBig,
}

/// Why the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// QUIT.
    Quit,
    /// The caller answered 421.
    Refused,
    /// [`Config::max_errors`](super::Config::max_errors) was reached.
    TooManyErrors,
    /// [`Config::max_idle_commands`](super::Config::max_idle_commands) or
    /// [`Config::max_messages`](super::Config::max_messages) was reached.
    TooManyCommands,
    /// A line without end, or a body longer than [`Config::max_drain`](super::Config::max_drain) allows.
    Flood,
    /// A BDAT whose length cannot be read: no way to tell where the next command begins.
    BadChunk,
    /// The client talks HTTP.
    Http,
}

/// Yes or no? "No" carries the reply; the machine has the words for "yes".
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct Ask(pub(super) ());

impl Ask {
    /// Yes.
    pub fn accept(self, server: &mut Server) {
        server.accept(None);
    }

    /// Yes to MAIL, but with another priority than was asked for (RFC 6710 §4.1).
    pub fn accept_less_urgent(self, server: &mut Server) {
        server.accept(Some(Reply::new(250, 3, 6, "Sender OK, without the priority")));
    }

    /// No, and why. A `reply` that is not 4xx or 5xx is sent as 451; 421 closes the connection.
    pub fn refuse(self, server: &mut Server, reply: &Reply) {
        server.refuse(reply);
    }
}

/// May this client sign in?
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct AskAuth(pub(super) ());

impl AskAuth {
    /// Not known yet: sends `challenge` (at most 9 KiB); [`Event::AuthResponse`] or [`Event::AuthAborted`] follows. A
    /// mechanism's last word on success goes here too, since 235 carries none (RFC 4954 §4).
    pub fn challenge(self, server: &mut Server, challenge: &[u8]) {
        server.challenge(challenge);
    }

    /// Yes.
    pub fn accept(self, server: &mut Server) {
        server.accept(None);
    }

    /// No, and why: 535 5.7.8, 454 4.7.0, …
    pub fn refuse(self, server: &mut Server, reply: &Reply) {
        server.refuse(reply);
    }
}

/// What became of the mail?
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub enum AskBody {
    /// SMTP: one reply for all recipients.
    One(AskOne),
    /// LMTP: one reply for each accepted recipient (RFC 2033 §4.2).
    Each(AskEach),
}

impl AskBody {
    /// The same answer for all recipients.
    pub fn reply(self, server: &mut Server, reply: &Reply) {
        match self {
            AskBody::One(ask) => ask.reply(server, reply),
            AskBody::Each(ask) => ask.reply(server, |_| reply.clone()),
        }
    }
}

/// What became of the mail, for all recipients together?
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct AskOne(pub(super) ());

impl AskOne {
    /// 2xx makes us responsible for the mail. A code that is not 2xx, 4xx or 5xx is sent as 451.
    pub fn reply(self, server: &mut Server, reply: &Reply) {
        server.body_replies(1, |_| reply.clone());
    }
}

/// What became of the mail, for each recipient?
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct AskEach(pub(super) u32);

impl AskEach {
    /// How many recipients were accepted.
    pub fn recipients(&self) -> u32 {
        self.0
    }

    /// Asks `reply` for each accepted recipient, counted from 0 in the order of their RCPT.
    pub fn reply(self, server: &mut Server, reply: impl FnMut(usize) -> Reply) {
        server.body_replies(self.0, reply);
    }
}

/// Who is that?
#[derive(Debug)]
#[must_use = "the client waits for the answer"]
pub struct AskVrfy(pub(super) ());

impl AskVrfy {
    /// 250 with an address, 252 to say nothing (RFC 5321 §3.5.3), 550 …
    pub fn reply(self, server: &mut Server, reply: &Reply) {
        if let State::Asked(Asked::Vrfy { .. }) = server.state {
            server.settle(final_reply(reply));
        }
    }
}

/// A reply that ends a command; what is none is our own mistake, and the client shall come back.
pub(super) fn final_reply(reply: &Reply) -> Reply {
    if (200..300).contains(&reply.code) { reply.clone() } else { negative_reply(reply) }
}

/// A reply that refuses.
pub(super) fn negative_reply(reply: &Reply) -> Reply {
    if (400..600).contains(&reply.code) {
        return reply.clone();
    }
    Reply::new(451, 3, 0, "Temporary local problem, please try again later")
}
