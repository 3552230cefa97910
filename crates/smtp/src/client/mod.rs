//! The client machine: it introduces itself, and sends mails one after another.
//!
//! Called by whatever delivers mail to other hosts, and by tests. It never does I/O and never waits: the caller bounds each
//! [`Stage`] by [`Stage::timeout`] and calls [`Client::abandon`] when time is up.
//!
//! The caller's loop: send [`Client::output`]; read; feed what was read to [`Client::step`] until it neither uses input nor
//! has an event; do what the events say.
//!
//! ```
//! use base::Address;
//! use smtp::client::{Client, Config, Event};
//! use smtp::{Mail, Rcpt, Recipient};
//!
//! let address = |text| Address::parse(text).unwrap();
//! // What the other host will say, each time it is its turn.
//! let mut host = [
//!     "220 mx.example ESMTP\r\n",
//!     "250-mx.example\r\n250 PIPELINING\r\n",
//!     "250 2.1.0 OK\r\n250 2.1.5 OK\r\n550 5.1.1 No such user\r\n354 Go ahead\r\n",
//!     "250 2.0.0 Queued\r\n",
//!     "221 2.0.0 Bye\r\n",
//! ]
//! .into_iter();
//!
//! let mut client = Client::new(Config::new("sender.test"));
//! let mut said = String::new();
//! 'connection: loop {
//!     said += std::str::from_utf8(client.output()).unwrap();
//!     client.sent(client.output().len());
//!     let mut input = host.next().unwrap().as_bytes();
//!     loop {
//!         let step = client.step(input);
//!         input = &input[step.consumed..];
//!         match step.event {
//!             Some(Event::Ready) => {
//!                 let mail = Mail { from: Some(address("joe@sender.test")), ..Mail::default() };
//!                 let to = ["jane@example.test", "jim@example.test"];
//!                 let rcpts = to.map(|to| Rcpt { to: Recipient::Mailbox(address(to)), notify: None, original: None });
//!                 client.send(mail, rcpts.into()).unwrap();
//!             }
//!             Some(Event::SendBody) => {
//!                 client.body(b"Subject: hi\n\n.");
//!                 client.body_end();
//!             }
//!             Some(Event::Done(verdicts)) => {
//!                 assert!(verdicts[0].is_delivered());
//!                 assert_eq!(verdicts[1].reply.to_string(), "550 5.1.1 No such user");
//!                 client.quit();
//!             }
//!             Some(Event::Closed(_)) => break 'connection,
//!             Some(event) => unreachable!("not asked for: {event:?}"),
//!             None => break,
//!         }
//!     }
//! }
//! assert_eq!(
//!     said,
//!     "EHLO sender.test\r\nMAIL FROM:<joe@sender.test>\r\nRCPT TO:<jane@example.test>\r\nRCPT TO:<jim@example.test>\r\n\
//!     DATA\r\nSubject: hi\r\n\r\n..\r\n.\r\nQUIT\r\n"
//! );
//! ```

mod event;
mod peer;
mod transaction;

use std::collections::VecDeque;

use base::Reply;

use crate::envelope::{BodyType, Mail, Rcpt};
use crate::reply::Reader;
use crate::timing::DeliverBy;
use crate::{Protocol, base64};
pub use event::{Answered, End, Event, Heard, Stage, Step, Unable, Verdict, timeout};
pub use peer::Peer;
use transaction::{Taken, Transaction};

/// How a client presents itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our name, for EHLO: a domain or an address literal.
    pub name: String,
    /// SMTP or LMTP.
    pub protocol: Protocol,
    /// Passwords may be sent without TLS.
    pub auth_in_clear: bool,
    /// Keep the peer's replies for [`Client::heard`].
    pub listen: bool,
}

/// Replies that are kept: those to a mail of as many recipients as any host takes, and to what comes before it.
const MAX_HEARD: usize = 160;

impl Config {
    /// SMTP, DATA, and no password in the clear.
    pub fn new(name: impl Into<String>) -> Self {
        Config { name: name.into(), protocol: Protocol::Smtp, auth_in_clear: false, listen: false }
    }
}

/// One connection's machine.
#[derive(Debug)]
pub struct Client {
    config: Config,
    state: State,
    peer: Peer,
    tls: bool,
    /// The peer may still be in a transaction that came to nothing: RSET goes before the next.
    stale: bool,
    reader: Reader,
    /// See [`Client::lacks_bdat`].
    lacks_bdat: bool,
    /// Replies that have come whole.
    replies: u64,
    /// Those the caller has not taken yet, if he listens.
    heard: Vec<Heard>,
    /// What the caller has not been told yet.
    events: VecDeque<Event>,
    out: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Greeting,
    /// EHLO or LHLO was said.
    Ehlo,
    /// HELO was said, since EHLO was not understood.
    Helo,
    Ready,
    StartTls,
    /// [`Client::tls_started`].
    Handshake,
    /// AUTH was said; these responses are to follow, each to a challenge.
    Auth(VecDeque<Vec<u8>>),
    Transaction(Box<Transaction>),
    Quit,
    Closed,
}

impl Client {
    /// A machine that waits for the greeting.
    pub fn new(mut config: Config) -> Self {
        // A name with a line end would be a command.
        config.name.retain(|c| !c.is_control() && c != ' ');
        Client {
            config,
            state: State::Greeting,
            peer: Peer::default(),
            tls: false,
            stale: false,
            reader: Reader::default(),
            lacks_bdat: false,
            replies: 0,
            heard: Vec::new(),
            events: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// What the machine waits for.
    pub fn stage(&self) -> Stage {
        match &self.state {
            State::Greeting => Stage::Greeting,
            State::Ehlo | State::Helo => Stage::Hello,
            State::Ready => Stage::Ready,
            State::StartTls | State::Handshake => Stage::StartTls,
            State::Auth(_) => Stage::Auth,
            State::Transaction(transaction) => transaction.stage(),
            State::Quit => Stage::Quit,
            State::Closed => Stage::Closed,
        }
    }

    /// What the peer can, from [`Event::Ready`] on.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// It offers CHUNKING and does not know BDAT: recipients whom it took were not sent the mail that showed it, and have no word of
    /// the peer's. The next must go by DATA, on a new connection.
    pub fn lacks_bdat(&self) -> bool {
        self.lacks_bdat
    }

    /// How many replies have come whole. [`Stage::timeout`] is the time for one of them: a part of one gains no time
    /// (RFC 5321 §4.5.3.2).
    pub fn replies(&self) -> u64 {
        self.replies
    }

    /// Takes the replies that have come since it was asked last, with [`Config::listen`]; of more than 160 the first.
    pub fn heard(&mut self) -> std::vec::Drain<'_, Heard> {
        self.heard.drain(..)
    }

    /// What is to be sent.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// The first `n` octets of [`output`](Self::output) were sent.
    pub fn sent(&mut self, n: usize) {
        self.out.drain(..n.min(self.out.len()));
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    // ---- what the caller wants ----

    /// Asks for TLS; [`Event::StartTls`] or [`Event::TlsRefused`] follows.
    ///
    /// # Errors
    /// [`Unable`]: the peer does not offer it.
    pub fn starttls(&mut self) -> Result<(), Unable> {
        self.ready()?;
        if self.tls || !self.peer.starttls {
            return Err(Unable::StartTls);
        }
        self.line("STARTTLS");
        self.state = State::StartTls;
        Ok(())
    }

    /// TLS is on: either at once, before the greeting, or after [`Event::StartTls`]; then the machine introduces itself
    /// again, and [`Event::Ready`] follows (RFC 3207 §4.2).
    pub fn tls_started(&mut self) {
        match self.state {
            State::Greeting => self.tls = true,
            State::Handshake => {
                self.tls = true;
                self.introduce();
            }
            _ => {}
        }
    }

    /// Signs in, by PLAIN (RFC 4616) or else LOGIN; [`Event::Authenticated`] or [`Event::AuthRefused`] follows.
    ///
    /// # Errors
    /// [`Unable`]: the peer offers neither, or TLS is not on.
    pub fn sign_in(&mut self, user: &str, password: &str) -> Result<(), Unable> {
        self.ready()?;
        if !self.tls && !self.config.auth_in_clear {
            return Err(Unable::AuthInClear);
        }
        let offers = |name| self.peer.auth.iter().any(|m| m == name);
        if offers("PLAIN") {
            self.out.extend_from_slice(b"AUTH PLAIN ");
            base64::encode(format!("\0{user}\0{password}").as_bytes(), &mut self.out);
            self.out.extend_from_slice(b"\r\n");
            self.state = State::Auth(VecDeque::new());
        } else if offers("LOGIN") {
            self.line("AUTH LOGIN");
            self.state = State::Auth([user, password].map(|s| s.as_bytes().to_vec()).into());
        } else {
            return Err(Unable::Auth);
        }
        Ok(())
    }

    /// Begins a mail; [`Event::SendBody`] follows, or at once [`Event::Done`].
    ///
    /// `mail.size` should be known: it is declared where the peer offers SIZE. RET, ENVID, NOTIFY and ORCPT go along where
    /// it offers DSN and are left out where it does not; so are BY, if nothing is to be returned, and MT-PRIORITY. `mail.auth`
    /// and `mail.hold` stay here.
    ///
    /// # Errors
    /// [`Unable`] names what this peer lacks; nothing was sent, and another mail can be.
    pub fn send(&mut self, mail: Mail, rcpts: Vec<Rcpt>) -> Result<(), Unable> {
        let chunked = mail.body == BodyType::BinaryMime;
        self.begin(mail, rcpts, chunked, Vec::new())
    }

    /// As [`send`](Self::send), by BDAT where the peer offers CHUNKING and PIPELINING (RFC 3030). The body begins with `lead`, and
    /// [`body`](Self::body) goes on behind it.
    ///
    /// BDAT has no go-ahead: its octets follow at once, and a peer that does not know it takes them for commands. So the lead
    /// goes with the envelope in one flight, in a chunk of its own, and nothing more before the peer has taken that: no round
    /// trip more than for DATA. It should be a line that is no command, like a field of a header. Without one there is no such
    /// test, and the body follows once there is a recipient who gets it.
    ///
    /// A chunk that is refused ends the connection, after the verdicts: how often its octets are answered nobody knows.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_in_chunks(&mut self, mail: Mail, rcpts: Vec<Rcpt>, lead: &[u8]) -> Result<(), Unable> {
        let chunked = mail.body == BodyType::BinaryMime || self.peer.chunking && self.peer.pipelining;
        self.begin(mail, rcpts, chunked, lead.to_vec())
    }

    fn begin(&mut self, mail: Mail, rcpts: Vec<Rcpt>, chunked: bool, lead: Vec<u8>) -> Result<(), Unable> {
        self.ready()?;
        self.fits(&mail, &rcpts)?;
        let transaction = Transaction::new(mail, rcpts, (chunked, lead), self.config.protocol, self.stale);
        self.state = State::Transaction(Box::new(transaction));
        // Until the final reply says that all is well.
        self.stale = true;
        self.go_on();
        Ok(())
    }

    /// Trap 30: what the peer did not offer is not tried.
    fn fits(&self, mail: &Mail, rcpts: &[Rcpt]) -> Result<(), Unable> {
        let peer = &self.peer;
        let utf8 = mail.smtputf8 || transaction::needs_utf8(mail, rcpts);
        let chunks = peer.binary_mime && peer.chunking && peer.pipelining;
        // RFC 2852 §4.1.4: what is to be returned goes nowhere where that is not done.
        let promises = |by: DeliverBy| peer.deliver_by.is_some_and(|least| i64::from(least) <= i64::from(by.seconds));
        let max = peer.size.filter(|&max| max > 0).unwrap_or(u64::MAX);
        let needs = [
            (rcpts.is_empty(), Unable::NoRecipients),
            (utf8 && !peer.smtputf8, Unable::SmtpUtf8),
            (mail.body == BodyType::EightBitMime && !peer.eight_bit_mime, Unable::EightBitMime),
            (mail.body == BodyType::BinaryMime && !chunks, Unable::BinaryMime),
            // RFC 8689 §2: in the clear the keyword is worth nothing.
            (mail.require_tls && !(self.tls && peer.require_tls), Unable::RequireTls),
            (mail.deliver_by.is_some_and(|by| by.returned && !promises(by)), Unable::DeliverBy),
            (mail.size.is_some_and(|size| size > max), Unable::Size(max)),
        ];
        needs.into_iter().find(|(unmet, _)| *unmet).map_or(Ok(()), |(_, unable)| Err(unable))
    }

    /// Appends a part of the body to the output, in its wire form: send it before giving more. Does nothing when the peer
    /// wants no body (any more).
    pub fn body(&mut self, part: &[u8]) {
        if let State::Transaction(transaction) = &mut self.state {
            transaction.body(part, &mut self.out);
        }
    }

    /// The body is whole; [`Event::Done`] follows.
    pub fn body_end(&mut self) {
        if let State::Transaction(transaction) = &mut self.state {
            transaction.body_end(&mut self.out);
        }
    }

    /// Says goodbye; [`Event::Closed`] follows. Only when the machine is ready; otherwise just close the connection.
    pub fn quit(&mut self) {
        if self.ready().is_ok() {
            self.line("QUIT");
            self.state = State::Quit;
        }
    }

    /// The caller gives up, for the reason that `reply` (4xx) gives: the connection is lost, or time is up. An open
    /// transaction ends with that verdict for all recipients that have none.
    pub fn abandon(&mut self, reply: Reply) {
        let stage = self.stage();
        let end = if stage == Stage::Quit { End::Quit } else { End::Abandoned(stage, reply.clone()) };
        self.end(end, reply);
    }

    // ---- what the peer says ----

    /// Works on `input`, which is what follows the octets consumed so far, until something happens that the caller must
    /// know. Call it again after each event, even with no input left.
    ///
    /// Linear in `input`; keeps at most one reply of it, and of that 8 KiB.
    pub fn step(&mut self, input: &[u8]) -> Step {
        let mut consumed = 0;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Step { consumed, event: Some(event) };
            }
            let rest = &input[consumed..];
            if rest.is_empty() {
                return Step { consumed, event: None };
            }
            match self.state {
                State::Closed => consumed = input.len(),
                State::Handshake => {
                    // RFC 3207 §4.2, trap 3: nothing comes between 220 and the handshake, but from a man in the middle.
                    consumed = input.len();
                    self.nonsense("it talks between STARTTLS and the handshake");
                }
                _ => match self.reader.next(rest) {
                    Ok((used, reply)) => {
                        consumed += used;
                        let Some(reply) = reply else { continue };
                        let more = consumed < input.len();
                        self.take(reply, more);
                    }
                    Err(_) => {
                        consumed = input.len();
                        self.nonsense("what it says is no reply");
                    }
                },
            }
        }
    }

    /// A reply; `more` input stands behind it.
    fn take(&mut self, reply: Reply, more: bool) {
        self.replies += 1;
        if self.config.listen && self.heard.len() < MAX_HEARD {
            self.heard.push(Heard { to: self.answered(), reply: reply.clone() });
        }
        if reply.code == 421 && !matches!(self.state, State::Quit) {
            // RFC 5321 §3.8: at any time, and the connection is gone.
            return self.end(End::Refused(self.stage(), reply.clone()), reply);
        }
        match &mut self.state {
            State::Greeting if reply.code == 220 => self.introduce(),
            State::Ehlo | State::Helo if reply.code == 250 => {
                self.peer = Peer::parse(&reply);
                self.state = State::Ready;
                self.events.push_back(Event::Ready);
            }
            // RFC 5321 §3.2: it may be a host of 1982.
            State::Ehlo if reply.code >= 500 && self.config.protocol == Protocol::Smtp => {
                self.line(&format!("HELO {}", self.config.name));
                self.state = State::Helo;
            }
            State::Greeting | State::Ehlo | State::Helo if !reply.is_positive() => {
                self.end(End::Refused(self.stage(), reply.clone()), reply);
            }
            State::StartTls if reply.code == 220 => {
                self.state = State::Handshake;
                if !more {
                    self.events.push_back(Event::StartTls);
                }
            }
            State::StartTls if !reply.is_positive() => self.back(Event::TlsRefused(reply)),
            State::Auth(responses) if reply.code == 334 => {
                match responses.pop_front() {
                    Some(response) => base64::encode(&response, &mut self.out),
                    // RFC 4954 §4: it asks for more than the mechanism has; the answer will be 501.
                    None => self.out.push(b'*'),
                }
                self.out.extend_from_slice(b"\r\n");
            }
            State::Auth(_) if reply.code == 235 => self.back(Event::Authenticated),
            State::Auth(_) if !reply.is_positive() => self.back(Event::AuthRefused(reply)),
            State::Transaction(transaction) => match transaction.take(reply, &mut self.out) {
                Taken::Fine => self.go_on(),
                Taken::SendBody => self.events.push_back(Event::SendBody),
                Taken::CutShort(reply) => self.end(End::Refused(self.stage(), reply.clone()), reply),
                Taken::Nonsense(why) => self.nonsense(why),
                Taken::NoBdat => {
                    self.lacks_bdat = true;
                    self.nonsense("it offers CHUNKING, and does not know BDAT");
                }
            },
            State::Quit => self.end(End::Quit, reply),
            _ => self.nonsense("its reply does not belong here"),
        }
    }

    /// What the next reply answers.
    fn answered(&self) -> Answered {
        match &self.state {
            State::Greeting => Answered::Connection,
            State::Ehlo => Answered::Ehlo,
            State::Helo => Answered::Helo,
            State::StartTls => Answered::StartTls,
            State::Auth(_) => Answered::Auth,
            State::Transaction(transaction) => transaction.answered(),
            State::Quit => Answered::Quit,
            State::Ready | State::Handshake | State::Closed => Answered::Nothing,
        }
    }

    /// Writes what can be written of a transaction, and notices what has come.
    fn go_on(&mut self) {
        let State::Transaction(transaction) = &mut self.state else { return };
        if transaction.write(&self.peer, &mut self.out) {
            self.events.push_back(Event::SendBody);
        }
        if transaction.is_over()
            && let State::Transaction(transaction) = std::mem::replace(&mut self.state, State::Ready)
        {
            self.stale = !transaction.is_complete();
            self.back(Event::Done(transaction.verdicts()));
        }
    }

    fn introduce(&mut self) {
        let verb = match self.config.protocol {
            Protocol::Smtp => "EHLO",
            Protocol::Lmtp => "LHLO",
        };
        self.line(&format!("{verb} {}", self.config.name));
        self.state = State::Ehlo;
    }

    fn ready(&self) -> Result<(), Unable> {
        if matches!(self.state, State::Ready) && self.events.is_empty() { Ok(()) } else { Err(Unable::NotReady) }
    }

    fn line(&mut self, command: &str) {
        self.out.extend_from_slice(command.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Something is done, and the machine ready for the next.
    fn back(&mut self, event: Event) {
        self.state = State::Ready;
        self.events.push_back(event);
    }

    /// Who answers so may answer anything: nothing it says from here on counts.
    fn nonsense(&mut self, why: &'static str) {
        let stage = self.stage();
        let reply = Reply::new(451, 5, 0, format!("The receiving host does not follow the protocol: {why}"));
        self.end(End::Nonsense(stage, why), reply);
    }

    /// `reply` is the verdict for all recipients that have none.
    fn end(&mut self, end: End, reply: Reply) {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Closed => return,
            State::Transaction(mut transaction) => {
                transaction.fail(&reply, matches!(end, End::Refused(..)));
                self.events.push_back(Event::Done(transaction.verdicts()));
            }
            _ => {}
        }
        self.events.push_back(Event::Closed(end));
    }
}
