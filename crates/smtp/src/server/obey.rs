//! Commands, one by one: whether they fit here and now, and the question they raise.

use std::fmt::Write;

use base::Reply;

use super::command::{self, Verb};
use super::event::negative_reply;
use super::{
    Abort, Ask, AskAuth, AskVrfy, Asked, Auth, Chunking, Close, Event, Hello, MAX_AUTH_LINE, Protocol, Scanner, Server,
    State, Transaction, Vrfy,
};
use crate::base64;
use crate::envelope::{self, BodyType, Offered};
use crate::timing::FutureRelease;

const OK: &str = "OK";

impl Server {
    /// `line` is without its line end.
    pub(super) fn command(&mut self, line: &[u8]) -> Option<Event<'static>> {
        // RFC 6531 §3.3, trap 30: a command is UTF-8 without controls, or it is no command.
        let Some(line) = command::text(line) else {
            return self.no(&Reply::new(501, 5, 2, "Commands are printable US-ASCII or UTF-8"));
        };
        let (word, args) = command::split(line);
        let Some(verb) = Verb::parse(word) else {
            self.idle = self.idle.saturating_add(1);
            return self.no(&Reply::new(500, 5, 1, "Command not recognised"));
        };
        if !matches!(verb, Verb::Rcpt | Verb::Data | Verb::Bdat | Verb::Quit) {
            self.idle = self.idle.saturating_add(1);
        }
        match verb {
            Verb::Ehlo | Verb::Helo | Verb::Lhlo => self.hello(verb, args),
            Verb::Mail => self.mail(args),
            Verb::Rcpt => self.rcpt(args),
            Verb::Data => self.begin_data(args),
            Verb::Bdat => self.bdat(args),
            Verb::Rset => self.rset(args),
            // RFC 5321 §4.1.1.9: a parameter is ignored.
            Verb::Noop => self.no(&Reply::new(250, 0, 0, OK)),
            Verb::Help => self.no(&Reply::new(214, 0, 0, "See RFC 5321")),
            Verb::Vrfy => self.vrfy(args),
            Verb::StartTls => self.starttls(args),
            Verb::Auth => self.auth(args),
            Verb::Quit => self.quit(args),
            Verb::Unimplemented => self.no(&Reply::new(502, 5, 1, "Command not implemented")),
            Verb::Http => {
                self.state = State::Closing(Close::Http);
                None
            }
        }
    }

    fn ask(&mut self, asked: Asked, event: Event<'static>) -> Option<Event<'static>> {
        self.state = State::Asked(asked);
        Some(event)
    }

    fn out_of_order(&mut self, text: &'static str) -> Option<Event<'static>> {
        self.no(&Reply::new(503, 5, 1, text))
    }

    fn no_arguments(&mut self, args: &str) -> bool {
        if !args.is_empty() {
            self.reply(&Reply::new(501, 5, 4, "This command takes no parameters"));
        }
        args.is_empty()
    }

    fn hello(&mut self, verb: Verb, args: &str) -> Option<Event<'static>> {
        // RFC 2033 §4.1: LHLO is LMTP's, and HELO and EHLO are not.
        if (verb == Verb::Lhlo) != (self.config.protocol == Protocol::Lmtp) {
            return self.no(&Reply::new(500, 5, 1, "Wrong protocol for this port"));
        }
        if args.is_empty() || args.len() > 255 || args.contains(' ') {
            return self.no(&Reply::new(501, 5, 4, "Say who you are: a domain or an address literal"));
        }
        let extended = verb != Verb::Helo;
        self.ask(Asked::Hello { extended }, Event::Hello(Ask(()), Hello { extended, name: args.to_owned() }))
    }

    fn rset(&mut self, args: &str) -> Option<Event<'static>> {
        if !self.no_arguments(args) {
            return None;
        }
        self.reply(&Reply::new(250, 0, 0, OK));
        self.transaction.take().map(|_| Event::Abort(Abort::Reset))
    }

    fn quit(&mut self, args: &str) -> Option<Event<'static>> {
        if self.no_arguments(args) {
            self.reply(&Reply::new(221, 0, 0, "Goodbye"));
            self.state = State::Closing(Close::Quit);
        }
        None
    }

    fn vrfy(&mut self, args: &str) -> Option<Event<'static>> {
        // RFC 6531 §3.7.4.2.
        let (query, smtputf8) = match args.rsplit_once(' ') {
            Some((query, word)) if self.config.smtputf8 && word.eq_ignore_ascii_case("SMTPUTF8") => (query, true),
            _ => (args, false),
        };
        if query.is_empty() {
            return self.no(&Reply::new(501, 5, 4, "Syntax: VRFY name"));
        }
        self.ask(Asked::Vrfy { smtputf8 }, Event::Vrfy(AskVrfy(()), Vrfy { query: query.to_owned(), smtputf8 }))
    }

    fn starttls(&mut self, args: &str) -> Option<Event<'static>> {
        if !self.no_arguments(args) {
            return None;
        }
        if !self.config.starttls {
            return self.no(&Reply::new(502, 5, 1, "TLS is not available"));
        }
        if self.tls {
            return self.out_of_order("TLS is on already");
        }
        if self.hello != Some(true) {
            return self.out_of_order("Say EHLO first");
        }
        if self.transaction.is_some() {
            return self.out_of_order("Not within a transaction");
        }
        self.ask(Asked::StartTls, Event::StartTls(Ask(())))
    }

    // ---- AUTH (RFC 4954) ----

    fn auth_offered(&self) -> &[&'static str] {
        if self.tls { &self.config.auth } else { &self.config.auth_in_clear }
    }

    fn auth(&mut self, args: &str) -> Option<Event<'static>> {
        if self.config.auth.is_empty() && self.config.auth_in_clear.is_empty() {
            return self.no(&Reply::new(502, 5, 1, "Nobody signs in here"));
        }
        // RFC 4954 §4.
        if self.authenticated {
            return self.out_of_order("You are signed in already");
        }
        if self.hello != Some(true) {
            return self.out_of_order("Say EHLO first");
        }
        if self.transaction.is_some() {
            return self.out_of_order("Not within a transaction");
        }
        let (name, initial) = match args.split_once(' ') {
            Some((name, initial)) => (name, Some(initial)),
            None => (args, None),
        };
        if name.is_empty() {
            return self.no(&Reply::new(501, 5, 4, "Syntax: AUTH mechanism [initial-response]"));
        }
        let named = |list: &[&'static str]| list.iter().copied().find(|m| m.eq_ignore_ascii_case(name));
        let Some(mechanism) = named(self.auth_offered()) else {
            return if named(&self.config.auth).is_some() {
                self.no(&Reply::new(538, 7, 11, "Start TLS first: this mechanism must not be used in the clear"))
            } else {
                self.no(&Reply::new(504, 5, 4, "Mechanism not available"))
            };
        };
        let initial = match initial {
            None => None,
            Some("=") => Some(Vec::new()),
            Some(text) => match base64::decode(text.as_bytes()) {
                Some(bytes) => Some(bytes),
                None => return self.no(&Reply::new(501, 5, 2, "Cannot decode that: not base64")),
            },
        };
        self.ask(Asked::Auth, Event::Auth(AskAuth(()), Auth { mechanism, initial }))
    }

    pub(super) fn challenge(&mut self, challenge: &[u8]) {
        if let State::Asked(Asked::Auth) = self.state {
            self.out.extend_from_slice(b"334 ");
            base64::encode(&challenge[..challenge.len().min(MAX_AUTH_LINE / 4 * 3 - 6)], &mut self.out);
            self.out.extend_from_slice(b"\r\n");
            self.state = State::AuthResponse;
        }
    }

    pub(super) fn auth_response(&mut self, line: &[u8]) -> Option<Event<'static>> {
        if line == b"*" {
            return self.abort_auth(&Reply::new(501, 7, 0, "Authentication cancelled"));
        }
        match base64::decode(line) {
            Some(bytes) => self.ask(Asked::Auth, Event::AuthResponse(AskAuth(()), bytes)),
            None => self.abort_auth(&Reply::new(501, 5, 2, "Cannot decode that: not base64")),
        }
    }

    pub(super) fn abort_auth(&mut self, reply: &Reply) -> Option<Event<'static>> {
        self.reply(reply);
        self.state = State::Command;
        Some(Event::AuthAborted)
    }

    // ---- the envelope ----

    fn offered(&self) -> Offered {
        let extensions = self.hello == Some(true);
        Offered {
            extensions,
            smtputf8: extensions && self.config.smtputf8,
            binarymime: extensions && self.config.chunking == Chunking::WithBinary,
            dsn: extensions && self.config.dsn,
            // RFC 8689 §2: the extension exists within TLS only.
            requiretls: extensions && self.config.requiretls && self.tls,
            auth: extensions && !self.auth_offered().is_empty(),
            future_release: self.config.future_release.filter(|_| extensions),
            deliver_by: self.config.deliver_by.filter(|_| extensions),
            mt_priority: extensions && self.config.mt_priority,
            max_size: self.config.max_size,
        }
    }

    fn mail(&mut self, args: &str) -> Option<Event<'static>> {
        if self.hello.is_none() {
            return self.out_of_order("Introduce yourself first");
        }
        if self.transaction.is_some() {
            return self.out_of_order("One mail at a time");
        }
        if self.config.max_messages.is_some_and(|max| self.mails >= max) {
            // RFC 9422 §4.1 announced it.
            self.reply(&Reply::new(421, 7, 0, "No more mails in this connection, please come again"));
            self.state = State::Closing(Close::TooManyCommands);
            return None;
        }
        match envelope::parse_mail(args, &self.offered()) {
            Ok(mail) => {
                let asked = Asked::Mail { body: mail.body, smtputf8: mail.smtputf8 };
                self.ask(asked, Event::Mail(Ask(()), mail))
            }
            Err(reply) => self.no(&reply),
        }
    }

    fn rcpt(&mut self, args: &str) -> Option<Event<'static>> {
        let Some(transaction) = &self.transaction else { return self.out_of_order("MAIL first") };
        if transaction.chunked {
            return self.out_of_order("The body has begun");
        }
        // RFC 5321 §4.5.3.1.10, RFC 9422 §4.2.
        if transaction.recipients >= self.config.max_recipients {
            return self.no(&Reply::new(452, 5, 3, "Too many recipients; send the rest another time"));
        }
        match envelope::parse_rcpt(args, &self.offered(), transaction.smtputf8) {
            Ok(rcpt) => self.ask(Asked::Rcpt, Event::Rcpt(Ask(()), rcpt)),
            Err(reply) => self.no(&reply),
        }
    }

    // ---- answers ----

    /// `words` in place of those that the machine has for yes to MAIL.
    pub(super) fn accept(&mut self, words: Option<Reply>) {
        let State::Asked(asked) = self.state else { return };
        match asked {
            Asked::Hello { extended } => {
                self.transaction = None;
                self.hello = Some(extended);
                self.settle(self.introduction(extended));
            }
            Asked::StartTls => {
                self.reply(&Reply::new(220, 0, 0, "Go ahead"));
                self.state = State::Handshake;
            }
            Asked::Auth => {
                self.authenticated = true;
                self.settle(Reply::new(235, 7, 0, "Welcome"));
            }
            Asked::Mail { body, smtputf8 } => {
                self.mails = self.mails.saturating_add(1);
                self.settle(words.unwrap_or(Reply::new(250, 1, 0, "Sender OK")));
                self.transaction = Some(Transaction {
                    smtputf8,
                    body,
                    recipients: 0,
                    chunked: false,
                    scanner: Scanner::new(true, self.config.bare_line_ends),
                    size: 0,
                    fault: None,
                    received: 0,
                });
            }
            Asked::Rcpt => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients += 1;
                }
                self.settle(Reply::new(250, 1, 5, "Recipient OK"));
            }
            Asked::Data => {
                self.reply(&Reply::plain(354, "End with <CRLF>.<CRLF>"));
                self.state = State::Data;
            }
            Asked::Bdat { left, last } => self.state = State::Chunk { left, last },
            // These have answers of their own.
            Asked::Body | Asked::Vrfy { .. } => {}
        }
    }

    pub(super) fn refuse(&mut self, reply: &Reply) {
        let State::Asked(asked) = self.state else { return };
        let reply = negative_reply(reply);
        match asked {
            Asked::Bdat { left, last } => {
                let copies = if last { self.copies() } else { 1 };
                self.transaction = None;
                self.count(&reply);
                self.state = State::Skip { left, reply: Box::new(reply), copies };
            }
            Asked::Data => {
                self.settle(reply);
                self.transaction = None;
            }
            _ => self.settle(reply),
        }
    }

    /// The answer to EHLO, LHLO or HELO.
    fn introduction(&self, extended: bool) -> Reply {
        let config = &*self.config;
        let mut text = config.hostname.clone();
        if extended {
            // Writing to a String does not fail.
            let _ = write!(text, "\nPIPELINING\nSIZE {}\n8BITMIME\nENHANCEDSTATUSCODES", config.max_size);
            let _ = write!(text, "\nLIMITS RCPTMAX={}", config.max_recipients);
            if let Some(max) = config.max_messages {
                let _ = write!(text, " MAILMAX={max}");
            }
            let optional = [
                (config.smtputf8, "\nSMTPUTF8"),
                (config.chunking != Chunking::Off, "\nCHUNKING"),
                (config.chunking == Chunking::WithBinary, "\nBINARYMIME"),
                (config.dsn, "\nDSN"),
                (config.starttls && !self.tls, "\nSTARTTLS"),
                (config.requiretls && self.tls, "\nREQUIRETLS"),
                (config.mt_priority, "\nMT-PRIORITY"),
            ];
            text.extend(optional.iter().filter(|(offered, _)| *offered).map(|(_, keyword)| *keyword));
            // RFC 4865 §4, RFC 2852 §3.
            if let Some(FutureRelease { most, until }) = config.future_release {
                let _ = write!(text, "\nFUTURERELEASE {most} {}", until.rfc3339());
            }
            if let Some(least) = config.deliver_by {
                let _ = write!(text, "\nDELIVERBY {least}");
            }
            if !self.auth_offered().is_empty() {
                let _ = write!(text, "\nAUTH {}", self.auth_offered().join(" "));
            }
        }
        Reply::plain(250, text)
    }

    /// What the body needs before it can begin: the reply that says what is missing.
    pub(super) fn not_ready_for_body(&self) -> Option<Reply> {
        match &self.transaction {
            None => Some(Reply::new(503, 5, 1, "MAIL first")),
            // RFC 5321 §4.1.1.4: either code; RFC 2033 §4.2 wants 503 in LMTP.
            Some(t) if t.recipients == 0 => Some(match self.config.protocol {
                Protocol::Smtp => Reply::new(554, 5, 1, "No valid recipients"),
                Protocol::Lmtp => Reply::new(503, 5, 1, "No valid recipients"),
            }),
            Some(_) => None,
        }
    }

    fn begin_data(&mut self, args: &str) -> Option<Event<'static>> {
        if !self.no_arguments(args) {
            return None;
        }
        if let Some(reply) = self.not_ready_for_body() {
            return self.no(&reply);
        }
        match &self.transaction {
            Some(t) if t.chunked => self.out_of_order("BDAT has begun this body"),
            // RFC 3030 §3.
            Some(t) if t.body == BodyType::BinaryMime => self.out_of_order("BODY=BINARYMIME needs BDAT"),
            _ => self.ask(Asked::Data, Event::Data(Ask(()))),
        }
    }
}
