//! The server's side of a POP3 connection: its states, what may be said in each, and how each thing said is answered.

use std::fmt::{self, Write};

use base::Reply;

use crate::body::Body;
use crate::command::{Command, Malformed};

/// The longest line in octets, CRLF included, that [`Server::step`] ever waits for: a read buffer of this size always
/// makes progress. It is the length a SASL response may have (RFC 4954 §4 names it; RFC 5034 §4 leaves it to us).
pub const MAX_LINE: usize = 12_288;

/// The longest line of any other command. RFC 2449 §4 says 255; long passwords are worth some patience.
const MAX_COMMAND: usize = 512;

/// RFC 2449 §4: the first line of an answer, CRLF included.
const MAX_ANSWER: usize = 512;

/// So many commands that were wrong, or sign-ins that were refused, and the connection is closed.
const MAX_ERRORS: u8 = 10;

/// How a connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Not at all, and STLS is refused.
    #[default]
    Off,
    /// Not yet: STLS is offered (RFC 2595 §4).
    Offered,
    /// It is.
    On,
}

/// What a machine is made with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Our name in the greeting. No `<` may be in it, lest clients take the greeting for APOP's (RFC 1939 §7).
    pub hostname: String,
    /// How the connection is protected at its start.
    pub tls: Tls,
    /// Whether a sign-in is allowed while TLS is not [`Tls::On`].
    pub clear_sign_in: bool,
    /// SASL mechanisms, in upper case, best first. Those that end in `-PLUS` are offered under TLS only: they bind to
    /// its channel (RFC 5802 §6).
    pub mechanisms: Vec<&'static str>,
}

/// Bytes that must not be logged: `Debug` shows their number only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(pub &'a [u8]);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} octets)", self.0.len())
    }
}

/// What the client asks of the session. Each event but [`Event::Stls`] is owed an answer.
///
/// Numbers of mails are the client's: 0 and those beyond the last mail come too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// USER and PASS (RFC 1939 §7). Answer [`Server::ok`] or [`Server::refuse`].
    Login {
        /// As written, without spaces at its ends.
        user: String,
        /// As written, with all spaces; of any bytes.
        password: Secret<'a>,
    },
    /// AUTH (RFC 5034 §4) begins; what another exchange left is to be forgotten. Answer [`Server::challenge`],
    /// [`Server::ok`] or [`Server::refuse`].
    Auth {
        /// One of [`Config::mechanisms`].
        mechanism: &'static str,
        /// The initial response in base64, not yet looked at; of length 0 when the client sent an empty one.
        initial: Option<Secret<'a>>,
    },
    /// The response to a challenge in base64, not yet looked at. Answered like [`Event::Auth`].
    AuthResponse(Secret<'a>),
    /// Write the output, begin TLS, then call [`Server::tls_started`]. Forget all that was read after the command.
    Stls,
    /// STAT. Answer [`Server::ok`] with `mails octets`.
    Stat,
    /// LIST. Answer [`Server::begin`], a [`Server::row`] for each mail, [`Server::end`]; for one mail [`Server::ok`]
    /// with `number octets`.
    List(Option<u32>),
    /// UIDL. Answered like LIST, with unique ids of 1 to 70 characters from 0x21 to 0x7E (RFC 1939 §7).
    Uidl(Option<u32>),
    /// RETR. Answer [`Server::begin`], [`Server::body`] for each chunk of the mail, [`Server::end`].
    Retr(u32),
    /// TOP: a mail and how many lines of its text. Answered like RETR; the machine counts the lines.
    Top(u32, u32),
    /// DELE: the mail is marked. Answer [`Server::ok`] or [`Server::err`].
    Dele(u32),
    /// RSET: all marks are taken off.
    Rset,
    /// QUIT after a sign-in: the UPDATE state (RFC 1939 §6). Remove the marked mails, then answer; the connection is
    /// closed either way. A connection that ends without this event removes nothing.
    Quit,
}

/// What [`Server::step`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Octets of the input that are done with.
    pub consumed: usize,
    /// What the client wants, if the session must know. With no event and nothing consumed, the machine waits: for more
    /// input, or for the answer that is owed.
    pub event: Option<Event<'a>>,
}

/// The response codes we use (RFC 2449 §8, RFC 3206 §4-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The maildrop is in use by another session.
    InUse,
    /// Our trouble, and it will pass.
    SysTemp,
    /// Our trouble, and somebody must mend it.
    SysPerm,
    /// The credentials are wrong.
    Auth,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Code::InUse => "IN-USE",
            Code::SysTemp => "SYS/TEMP",
            Code::SysPerm => "SYS/PERM",
            Code::Auth => "AUTH",
        }
    }

    /// For a reply in SMTP's numbers: 4xx is ours and passes, 53x and X.7.X are the client's credentials.
    fn of(reply: &Reply) -> Code {
        match (reply.code, reply.enhanced) {
            (400..500, _) => Code::SysTemp,
            (530..540, _) => Code::Auth,
            (_, Some(enhanced)) if enhanced.1 == 7 => Code::Auth,
            _ => Code::SysPerm,
        }
    }
}

/// Where the connection is (RFC 1939 §3).
#[derive(Debug)]
enum State {
    /// Nobody is signed in; a USER may wait for its PASS.
    Authorization(Option<String>),
    /// The next line is a SASL response.
    Sasl,
    /// STLS was agreed to, TLS is not yet up.
    Handshake,
    /// Somebody is signed in.
    Transaction,
    /// The session has an event to answer.
    Owed(Answer),
    /// The session is in a multi-line answer.
    Sending(Body),
    /// After QUIT, or too many errors.
    Closed,
}

/// Which answer is owed.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// To USER and PASS.
    Login,
    /// To AUTH or a SASL response.
    Sasl,
    /// One line, in the TRANSACTION state.
    Line,
    /// Many lines; for TOP no more of a mail's text than this.
    Text(Option<u32>),
    /// To QUIT, in the UPDATE state.
    Update,
}

/// The machine. See the crate's documentation for how it is driven.
#[derive(Debug)]
pub struct Server {
    config: Config,
    state: State,
    /// In a line that is too long: all of it up to its LF is thrown away.
    overlong: bool,
    errors: u8,
    utf8: bool,
    out: Vec<u8>,
}

impl Server {
    /// A new connection; the greeting waits in the output.
    pub fn new(config: Config) -> Self {
        let mut out = Vec::new();
        answer_line(&mut out, "+OK", format_args!("{} ready", config.hostname));
        Server { config, state: State::Authorization(None), overlong: false, errors: 0, utf8: false, out }
    }

    /// Reads one command from the front of `input`, which begins where the last step's `consumed` ended.
    ///
    /// Call it again with the rest until it neither consumes nor raises an event. A line without its end is not
    /// consumed: keep it, and come again with more behind it.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        match self.state {
            // What follows STLS in the clear may be an attacker's, put before the client's own first words (trap 3).
            State::Closed | State::Handshake => return Step { consumed: input.len(), event: None },
            State::Owed(_) | State::Sending(_) => return Step { consumed: 0, event: None },
            State::Authorization(_) | State::Sasl | State::Transaction => {}
        }
        let limit = self.limit(input);
        let Some(lf) = memchr::memchr(b'\n', input) else {
            self.overlong |= input.len() >= limit;
            return Step { consumed: if self.overlong { input.len() } else { 0 }, event: None };
        };
        let consumed = lf + 1;
        if std::mem::take(&mut self.overlong) || consumed > limit {
            if matches!(self.state, State::Sasl) {
                self.state = State::Authorization(None);
            }
            self.complain("Line too long");
            return Step { consumed, event: None };
        }
        let line = input[..lf].strip_suffix(b"\r").unwrap_or(&input[..lf]);
        let event = self.line(line);
        let consumed = if matches!(self.state, State::Handshake) { input.len() } else { consumed };
        Step { consumed, event }
    }

    /// What the client is to be sent. The caller writes it out and clears it, at the latest before it reads more.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// True when the output is the last: write it and close the connection.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// True once the client gave UTF8 (RFC 6856 §2): it reads mails with UTF-8 in their headers.
    pub fn is_utf8(&self) -> bool {
        self.utf8
    }

    /// TLS is up after [`Event::Stls`]. RFC 2595 §4: nothing that was said before it counts.
    pub fn tls_started(&mut self) {
        debug_assert!(matches!(self.state, State::Handshake), "no STLS was agreed to");
        self.config.tls = Tls::On;
        self.state = State::Authorization(None);
        self.utf8 = false;
    }

    /// To be told where TLS is up and its channel cannot be bound to (RFC 9266 §4.2: TLS 1.2): what binds to it, the
    /// mechanisms that end in `-PLUS`, is not offered.
    pub fn cannot_bind(&mut self) {
        self.config.mechanisms.retain(|name| !name.ends_with("-PLUS"));
    }

    /// `+OK` to the open event. Control characters in the text become spaces, and it is cut at 512 octets.
    pub fn ok(&mut self, text: impl fmt::Display) {
        self.state = match self.state {
            State::Owed(Answer::Login | Answer::Sasl | Answer::Line) => State::Transaction,
            State::Owed(Answer::Update) => State::Closed,
            _ => return debug_assert!(false, "no one-line answer is owed"),
        };
        answer_line(&mut self.out, "+OK", text);
    }

    /// `-ERR` to the open event, with a response code where one helps the client. The text is treated as in
    /// [`Server::ok`].
    pub fn err(&mut self, code: Option<Code>, text: impl fmt::Display) {
        let (next, failed_sign_in) = match self.state {
            State::Owed(Answer::Login | Answer::Sasl) => (State::Authorization(None), true),
            State::Owed(Answer::Line | Answer::Text(_)) => (State::Transaction, false),
            State::Owed(Answer::Update) => (State::Closed, false),
            _ => return debug_assert!(false, "no answer is owed"),
        };
        self.state = next;
        match code {
            Some(code) => answer_line(&mut self.out, "-ERR", format_args!("[{}] {text}", code.as_str())),
            None => answer_line(&mut self.out, "-ERR", text),
        }
        if failed_sign_in {
            self.count_error();
        }
    }

    /// Says `-ERR` and stops, at any time. An open event need not be answered any more.
    pub fn shut_down(&mut self, code: Code, text: impl fmt::Display) {
        if !self.is_closed() {
            self.state = State::Closed;
            answer_line(&mut self.out, "-ERR", format_args!("[{}] {text}", code.as_str()));
        }
    }

    /// `-ERR` with the public face of an error, its SMTP code turned into a response code.
    pub fn refuse(&mut self, reply: &Reply) {
        self.err(Some(Code::of(reply)), &reply.text);
    }

    /// The next challenge of a SASL exchange, in base64 (RFC 5034 §4); empty where the mechanism has nothing to say.
    pub fn challenge(&mut self, base64: &str) {
        if !matches!(self.state, State::Owed(Answer::Sasl)) {
            return debug_assert!(false, "no SASL exchange is open");
        }
        self.state = State::Sasl;
        self.out.extend_from_slice(b"+ ");
        self.out.extend_from_slice(base64.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// `+OK` to the open event, and the first line of a multi-line answer. The text is treated as in [`Server::ok`].
    pub fn begin(&mut self, text: impl fmt::Display) {
        let State::Owed(Answer::Text(lines)) = self.state else {
            return debug_assert!(false, "no multi-line answer is owed");
        };
        self.state = State::Sending(Body::new(lines));
        answer_line(&mut self.out, "+OK", text);
    }

    /// One line of LIST or UIDL.
    pub fn row(&mut self, number: u32, value: impl fmt::Display) {
        debug_assert!(matches!(self.state, State::Sending(_)), "no multi-line answer was begun");
        // Writing to memory does not fail.
        let _ = write!(Clean { out: &mut self.out, room: MAX_ANSWER }, "{number} {value}");
        self.out.extend_from_slice(b"\r\n");
    }

    /// A chunk of a mail, cut anywhere; false when TOP has all it wants and the rest need not be read.
    ///
    /// The chunk is copied to the output with its dots stuffed: write that out before the next one.
    pub fn body(&mut self, chunk: &[u8]) -> bool {
        match &mut self.state {
            State::Sending(body) => body.chunk(chunk, &mut self.out),
            _ => {
                debug_assert!(false, "no multi-line answer was begun");
                false
            }
        }
    }

    /// The end of a multi-line answer. When the mail cannot be read to its end, do not call this: close the connection,
    /// so that the client never takes a part for the whole.
    pub fn end(&mut self) {
        match std::mem::replace(&mut self.state, State::Transaction) {
            State::Sending(body) => body.end(&mut self.out),
            other => {
                self.state = other;
                debug_assert!(false, "no multi-line answer was begun");
            }
        }
    }

    /// The longest line allowed here, CRLF included.
    fn limit(&self, line: &[u8]) -> usize {
        match self.state {
            State::Sasl => MAX_LINE,
            State::Authorization(_) if line.get(..5).is_some_and(|k| k.eq_ignore_ascii_case(b"AUTH ")) => MAX_LINE,
            _ => MAX_COMMAND,
        }
    }

    fn line<'a>(&mut self, line: &'a [u8]) -> Option<Event<'a>> {
        if matches!(self.state, State::Sasl) {
            return self.sasl(line);
        }
        let command = match Command::parse(line) {
            Ok(command) => command,
            Err(Malformed::Keyword) => return self.complain("Unknown command"),
            Err(Malformed::Arguments) => return self.complain("Wrong arguments"),
        };
        match &mut self.state {
            State::Authorization(user) => {
                let user = user.take();
                self.authorization(command, user)
            }
            _ => self.transaction(command),
        }
    }

    /// RFC 1939 §4. `user` is the USER given right before.
    fn authorization<'a>(&mut self, command: Command<'a>, user: Option<String>) -> Option<Event<'a>> {
        match command {
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } if !self.may_sign_in() => {
                self.complain("Sign-in needs TLS first")
            }
            // The same words for every name, so that names cannot be tried.
            Command::User(user) => {
                self.state = State::Authorization(Some(user.to_owned()));
                self.say("Password please")
            }
            Command::Pass(password) => {
                let Some(user) = user else { return self.complain("USER comes first") };
                self.owe(Answer::Login, Event::Login { user, password })
            }
            Command::Auth { mechanism, initial } => {
                let known = self.mechanisms().find(|known| known.eq_ignore_ascii_case(mechanism));
                match known {
                    Some(mechanism) => self.owe(Answer::Sasl, Event::Auth { mechanism, initial }),
                    None => self.complain("No such mechanism"),
                }
            }
            Command::Stls if self.config.tls == Tls::Offered => {
                self.state = State::Handshake;
                self.say("Begin TLS");
                Some(Event::Stls)
            }
            Command::Stls => self.complain("TLS is not on offer here"),
            Command::Utf8 => {
                self.utf8 = true;
                self.say("UTF-8 it is")
            }
            // RFC 1939 §4: no UPDATE state without a sign-in.
            Command::Quit => {
                self.state = State::Closed;
                self.say("Bye")
            }
            Command::Capa => self.capabilities(),
            Command::Lang(language) => self.language(language),
            Command::Stat
            | Command::List(_)
            | Command::Uidl(_)
            | Command::Retr(_)
            | Command::Top(..)
            | Command::Dele(_)
            | Command::Rset
            | Command::Noop => self.complain("Sign in first"),
        }
    }

    /// RFC 1939 §5.
    fn transaction<'a>(&mut self, command: Command<'a>) -> Option<Event<'a>> {
        match command {
            Command::Stat => self.owe(Answer::Line, Event::Stat),
            Command::List(None) => self.owe(Answer::Text(None), Event::List(None)),
            Command::List(one) => self.owe(Answer::Line, Event::List(one)),
            Command::Uidl(None) => self.owe(Answer::Text(None), Event::Uidl(None)),
            Command::Uidl(one) => self.owe(Answer::Line, Event::Uidl(one)),
            Command::Retr(number) => self.owe(Answer::Text(None), Event::Retr(number)),
            Command::Top(number, lines) => self.owe(Answer::Text(Some(lines)), Event::Top(number, lines)),
            Command::Dele(number) => self.owe(Answer::Line, Event::Dele(number)),
            Command::Rset => self.owe(Answer::Line, Event::Rset),
            Command::Quit => self.owe(Answer::Update, Event::Quit),
            Command::Noop => self.say("Still here"),
            Command::Capa => self.capabilities(),
            Command::Lang(language) => self.language(language),
            // RFC 6856 §2: UTF8 comes before the sign-in, as these do.
            Command::User(_) | Command::Pass(_) | Command::Auth { .. } | Command::Stls | Command::Utf8 => {
                self.complain("Already signed in")
            }
        }
    }

    /// RFC 5034 §4: the client's response, or a `*` that ends the exchange.
    fn sasl<'a>(&mut self, line: &'a [u8]) -> Option<Event<'a>> {
        self.state = State::Authorization(None);
        match line {
            b"*" => self.complain("Sign-in cancelled"),
            _ => self.owe(Answer::Sasl, Event::AuthResponse(Secret(line))),
        }
    }

    /// RFC 2449 §5, §6; RFC 2595 §4; RFC 3206 §6; RFC 6856 §2, §3. The list after a sign-in is the same.
    fn capabilities(&mut self) -> Option<Event<'static>> {
        self.say("Capabilities follow");
        let mut list = String::from("TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n");
        if self.may_sign_in() {
            list.push_str("USER\r\n");
        }
        let mechanisms: Vec<_> = self.mechanisms().collect();
        if !mechanisms.is_empty() {
            list.extend(["SASL ", &mechanisms.join(" "), "\r\n"]);
        }
        if self.config.tls == Tls::Offered {
            list.push_str("STLS\r\n");
        }
        list.push_str("EXPIRE NEVER\r\nUTF8 USER\r\nLANG\r\nIMPLEMENTATION Postroom\r\n.\r\n");
        self.out.extend_from_slice(list.as_bytes());
        None
    }

    /// RFC 6856 §3: we speak English, which is also what `*` and the default give.
    fn language(&mut self, tag: Option<&str>) -> Option<Event<'static>> {
        match tag {
            None => {
                self.say("Languages follow");
                self.out.extend_from_slice(b"en English\r\n.\r\n");
                None
            }
            Some(tag) if tag == "*" || tag.eq_ignore_ascii_case("en") || tag.eq_ignore_ascii_case("i-default") => {
                self.say("en English")
            }
            Some(_) => self.complain("No such language"),
        }
    }

    fn may_sign_in(&self) -> bool {
        self.config.clear_sign_in || self.config.tls == Tls::On
    }

    fn mechanisms(&self) -> impl Iterator<Item = &'static str> {
        let (allowed, bound) = (self.may_sign_in(), self.config.tls == Tls::On);
        self.config.mechanisms.iter().copied().filter(move |name| allowed && (bound || !name.ends_with("-PLUS")))
    }

    fn owe<'a>(&mut self, answer: Answer, event: Event<'a>) -> Option<Event<'a>> {
        self.state = State::Owed(answer);
        Some(event)
    }

    /// Answers `+OK` without asking the session.
    fn say(&mut self, text: &str) -> Option<Event<'static>> {
        answer_line(&mut self.out, "+OK", text);
        None
    }

    /// Answers `-ERR` without asking the session.
    fn complain(&mut self, text: &str) -> Option<Event<'static>> {
        self.count_error();
        let text = if self.is_closed() { "Too many errors, closing" } else { text };
        answer_line(&mut self.out, "-ERR", text);
        None
    }

    /// A client that only errs is lost, or guesses.
    fn count_error(&mut self) {
        self.errors += 1;
        if self.errors >= MAX_ERRORS {
            self.state = State::Closed;
        }
    }
}

/// One answer of a single line.
fn answer_line(out: &mut Vec<u8>, status: &str, text: impl fmt::Display) {
    let room = MAX_ANSWER - "\r\n".len();
    // Writing to memory does not fail.
    let _ = write!(Clean { out, room }, "{status} {text}");
    out.extend_from_slice(b"\r\n");
}

/// Text on its way into a line: what would break the line becomes a space, what is too much is left out.
struct Clean<'a> {
    out: &'a mut Vec<u8>,
    /// Octets still free.
    room: usize,
}

impl Write for Clean<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let c = if c.is_control() { ' ' } else { c };
            let Some(room) = self.room.checked_sub(c.len_utf8()) else {
                self.room = 0;
                break;
            };
            self.room = room;
            self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        Ok(())
    }
}
