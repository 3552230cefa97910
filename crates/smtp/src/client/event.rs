//! What the machine tells its caller, and the words for it.

use std::fmt;
use std::time::Duration;

use base::Reply;

/// What one call of [`Client::step`](super::Client::step) did.
#[derive(Debug)]
pub struct Step {
    /// How many octets of the input are used up.
    pub consumed: usize,
    /// What happened. None: the machine wants more input, or to be told what to do.
    pub event: Option<Event>,
}

/// Something the caller has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer knows us, and [`Client::peer`](super::Client::peer) what it can. Say what to do: start TLS, sign in, send,
    /// quit.
    Ready,
    /// The peer is ready for TLS: shake hands, then call [`Client::tls_started`](super::Client::tls_started).
    StartTls,
    /// The peer wants no TLS now, and may be used without, if the caller's policy allows it.
    TlsRefused(Reply),
    /// Signed in.
    Authenticated,
    /// Not signed in.
    AuthRefused(Reply),
    /// The peer waits for the body: call [`Client::body`](super::Client::body) until it is whole, then
    /// [`Client::body_end`](super::Client::body_end).
    SendBody,
    /// The transaction is over: a verdict for each recipient, in the order they were given. What of the body is not sent
    /// yet must not be.
    Done(Vec<Verdict>),
    /// The connection is of no more use: send the output, then close it.
    Closed(End),
}

/// A reply of the peer, for a record of the dialogue: see [`Client::heard`](super::Client::heard).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it answered.
    pub to: Answered,
    /// The peer's words, lines separated by `\n`.
    pub reply: Reply,
}

/// What a reply answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The connection: it is the greeting.
    Connection,
    /// EHLO or LHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    StartTls,
    /// AUTH, or a response to a challenge.
    Auth,
    /// RSET.
    Rset,
    /// MAIL.
    Mail,
    /// RCPT of the recipient of this number, counted from 0.
    Rcpt(usize),
    /// DATA.
    Data,
    /// BDAT, but the last.
    Chunk,
    /// The final dot, or BDAT LAST.
    End,
    /// The same for one recipient (LMTP).
    EndFor(usize),
    /// QUIT.
    Quit,
    /// Nothing that was said.
    Nothing,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the reply answered.
    pub stage: Stage,
    /// The peer's words, lines separated by `\n`; or ours, when it had none (connection lost, nonsense).
    pub reply: Reply,
    /// The words are the peer's.
    pub by_peer: bool,
}

impl Verdict {
    /// The peer has taken responsibility for the mail.
    pub fn is_delivered(&self) -> bool {
        self.stage == Stage::DataEnd && self.reply.is_positive()
    }

    /// Trying again later may help. RFC 5321 §4.5.3.1.10: 552 to RCPT means "too many recipients" and is transient.
    pub fn is_transient(&self) -> bool {
        self.reply.is_transient() || self.stage == Stage::Rcpt && self.reply.code == 552
    }
}

/// Why the connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// We said QUIT.
    Quit,
    /// The peer does not want us: at the greeting or EHLO, or 421 at any time; or it has refused a chunk, and what it says next may
    /// answer anything.
    Refused(Stage, Reply),
    /// The caller gave up: time-out, connection lost.
    Abandoned(Stage, Reply),
    /// The peer does not speak SMTP as we know it, and what it said is not to be trusted.
    Nonsense(Stage, &'static str),
}

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The greeting.
    Greeting,
    /// The answer to EHLO, LHLO or HELO.
    Hello,
    /// The answer to STARTTLS, then the handshake.
    StartTls,
    /// The answer to AUTH or a response.
    Auth,
    /// The caller.
    Ready,
    /// The answer to MAIL (and RSET before it).
    Mail,
    /// The answer to RCPT.
    Rcpt,
    /// The answer to DATA.
    Data,
    /// The body is on its way: the caller, or the peer's reading.
    Body,
    /// The answer to the final dot or BDAT LAST.
    DataEnd,
    /// The answer to QUIT.
    Quit,
    /// Nothing.
    Closed,
}

impl Stage {
    /// How long to wait in this stage: RFC 5321 §4.5.3.2 where it says; the same as for MAIL where it does not.
    pub const fn timeout(self) -> Duration {
        match self {
            Stage::Data => timeout::DATA_INITIATION,
            Stage::Body => timeout::DATA_BLOCK,
            Stage::DataEnd => timeout::DATA_TERMINATION,
            Stage::Rcpt => timeout::RCPT,
            Stage::Greeting => timeout::GREETING,
            Stage::Hello | Stage::StartTls | Stage::Auth | Stage::Ready | Stage::Mail => timeout::MAIL,
            // The mail is safe; nobody needs to wait for manners.
            Stage::Quit | Stage::Closed => timeout::QUIT,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Greeting => "the greeting",
            Stage::Hello => "EHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Auth => "AUTH",
            Stage::Ready => "nothing",
            Stage::Mail => "MAIL FROM",
            Stage::Rcpt => "RCPT TO",
            Stage::Data => "DATA",
            Stage::Body => "the body",
            Stage::DataEnd => "the end of the body",
            Stage::Quit => "QUIT",
            Stage::Closed => "nothing",
        })
    }
}

/// How long a client waits (RFC 5321 §4.5.3.2).
pub mod timeout {
    use std::time::Duration;

    /// §4.5.3.2.1
    pub const GREETING: Duration = Duration::from_secs(5 * 60);
    /// §4.5.3.2.2
    pub const MAIL: Duration = Duration::from_secs(5 * 60);
    /// §4.5.3.2.3
    pub const RCPT: Duration = Duration::from_secs(5 * 60);
    /// §4.5.3.2.4
    pub const DATA_INITIATION: Duration = Duration::from_secs(2 * 60);
    /// §4.5.3.2.5: for one block of the body.
    pub const DATA_BLOCK: Duration = Duration::from_secs(3 * 60);
    /// §4.5.3.2.6: the peer may be storing the mail; giving up early duplicates it.
    pub const DATA_TERMINATION: Duration = Duration::from_secs(10 * 60);
    /// Our choice.
    pub const QUIT: Duration = Duration::from_secs(5);
}

/// Why something cannot be asked of this peer, or not now. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unable {
    /// The machine is not ready: see [`Client::stage`](super::Client::stage).
    NotReady,
    /// A mail without recipients.
    NoRecipients,
    /// It does not offer STARTTLS.
    StartTls,
    /// It offers neither AUTH PLAIN nor LOGIN.
    Auth,
    /// It offers AUTH, but TLS is not on.
    AuthInClear,
    /// The envelope or header is UTF-8, and it does not offer SMTPUTF8.
    SmtpUtf8,
    /// The body has 8-bit octets, and it does not offer 8BITMIME.
    EightBitMime,
    /// The body is binary, and it does not offer BINARYMIME, CHUNKING and PIPELINING.
    BinaryMime,
    /// The mail must travel by TLS only, and it does not offer REQUIRETLS within TLS.
    RequireTls,
    /// The mail is to be returned when it is late, and it does not offer DELIVERBY, or not within the time that is left.
    DeliverBy,
    /// The mail is larger than its SIZE, in octets.
    Size(u64),
}

impl Unable {
    /// What the sender may be told, with the enhanced code that a delivery report carries.
    pub fn reply(self) -> Reply {
        let text = self.to_string();
        match self {
            Unable::NotReady | Unable::NoRecipients => Reply::new(451, 3, 0, text),
            Unable::StartTls | Unable::AuthInClear => Reply::new(550, 7, 10, text),
            Unable::Auth => Reply::new(550, 7, 4, text),
            Unable::SmtpUtf8 => Reply::new(550, 6, 7, text),
            Unable::EightBitMime | Unable::BinaryMime => Reply::new(550, 6, 3, text),
            // RFC 8689 §5.
            Unable::RequireTls => Reply::new(550, 7, 30, text),
            // RFC 3463 §3.4: not capable of selected features.
            Unable::DeliverBy => Reply::new(550, 3, 3, text),
            Unable::Size(_) => Reply::new(552, 3, 4, text),
        }
    }
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unable::NotReady => "the connection is busy or closed",
            Unable::NoRecipients => "the mail has no recipients",
            Unable::StartTls => "the receiving host does not offer STARTTLS",
            Unable::Auth => "the receiving host offers neither AUTH PLAIN nor AUTH LOGIN",
            Unable::AuthInClear => "signing in needs TLS",
            Unable::SmtpUtf8 => "the receiving host does not offer SMTPUTF8, which this mail needs",
            Unable::EightBitMime => "the receiving host does not offer 8BITMIME, which this mail needs",
            Unable::BinaryMime => "the receiving host does not offer BINARYMIME, which this mail needs",
            Unable::RequireTls => "the receiving host does not offer REQUIRETLS, which this mail demands",
            Unable::DeliverBy => {
                "the receiving host does not promise delivery within the time this mail has (DELIVERBY)"
            }
            Unable::Size(max) => return write!(f, "the receiving host takes mails of up to {max} octets only"),
        })
    }
}

impl std::error::Error for Unable {}
