//! Transcripts: a dialogue as the RFCs print them, played to a server machine whole and cut into pieces of every size.
//!
//! `C:` the client writes a line; `c:` it writes this and no line end; `S:` the server's next reply line begins so;
//! `T:` TLS is on. `\r`, `\n`, `\0` and `\xNN` in a client's line are octets.

#![allow(dead_code)]

use std::sync::Arc;

use base::Reply;
use smtp::server::{Ask, AskBody};
use smtp::{Config, Event, Mail, Rcpt, Recipient, Server};

/// What a caller that believes everything made of a dialogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Events by name, each run of body parts once.
    pub events: Vec<String>,
    pub mails: Vec<Mail>,
    pub rcpts: Vec<Rcpt>,
    /// Bodies that came to their end.
    pub bodies: Vec<Vec<u8>>,
    body: Vec<u8>,
}

impl Caller {
    /// Answers as the RFCs' examples do: recipients whose local part is Green, Jones or begins with `no` are unknown,
    /// sender `refused` is refused, DATA of `nodata` is, and the password is `tanstaaftanstaaf`.
    fn answer(&mut self, server: &mut Server, event: Event<'_>) {
        let name = format!("{event:?}");
        let name = name.split(['(', ' ']).next().unwrap().to_owned();
        if name != "Body" || self.events.last() != Some(&name) {
            self.events.push(name);
        }
        match event {
            Event::Hello(ask, _) | Event::StartTls(ask) => ask.accept(server),
            Event::Data(ask) => {
                let nodata = |m: &Mail| m.from.as_ref().is_some_and(|a| a.local() == "nodata");
                let refused = self.mails.last().is_some_and(nodata);
                verdict(ask, server, !refused, Reply::new(451, 3, 0, "Not now"));
            }
            Event::Mail(ask, mail) => {
                let fine = mail.from.as_ref().is_none_or(|a| a.local() != "refused");
                self.mails.push(mail);
                verdict(ask, server, fine, Reply::new(550, 7, 1, "Go away"));
            }
            Event::Rcpt(ask, rcpt) => {
                let to = rcpt.to.to_string();
                let fine =
                    rcpt.to == Recipient::Postmaster || !["Green", "Jones", "no"].iter().any(|n| to.starts_with(n));
                self.rcpts.push(rcpt);
                verdict(ask, server, fine, Reply::new(550, 1, 1, "No such user here"));
            }
            Event::Body(part) => self.body.extend_from_slice(part),
            Event::BodyEnd(ask) => {
                self.bodies.push(std::mem::take(&mut self.body));
                match ask {
                    AskBody::One(ask) => ask.reply(server, &Reply::new(250, 0, 0, "OK")),
                    // RFC 2033 §4.2's example: the second recipient's mailbox fails.
                    AskBody::Each(ask) => ask.reply(server, |n| match n {
                        1 => Reply::new(452, 2, 1, "Delivery is temporarily refused"),
                        _ => Reply::new(250, 0, 0, "OK"),
                    }),
                }
            }
            Event::Abort(_) => self.body.clear(),
            Event::Auth(ask, auth) => match (auth.mechanism, auth.initial) {
                (_, None) => ask.challenge(server, b""),
                ("PLAIN", Some(it)) if it.ends_with(b"\0tim\0tanstaaftanstaaf") => ask.accept(server),
                _ => ask.refuse(server, &Reply::new(535, 7, 8, "Authentication credentials invalid")),
            },
            Event::AuthResponse(ask, it) if it.ends_with(b"\0tim\0tanstaaftanstaaf") => ask.accept(server),
            Event::AuthResponse(ask, _) => {
                ask.refuse(server, &Reply::new(535, 7, 8, "Authentication credentials invalid"));
            }
            Event::Vrfy(ask, vrfy) if vrfy.smtputf8 => ask.reply(server, &Reply::new(250, 1, 5, "用户 <用户@x.test>")),
            Event::Vrfy(ask, _) => ask.reply(server, &Reply::new(252, 1, 5, "Perhaps 用户")),
            Event::AuthAborted | Event::Close(_) => {}
        }
    }

    /// Gives all of `input` to `server`, `cut` octets at a time.
    pub fn feed(&mut self, server: &mut Server, input: &[u8], cut: usize) {
        for mut chunk in input.chunks(cut.max(1)) {
            loop {
                let step = server.step(chunk);
                chunk = &chunk[step.consumed..];
                match step.event {
                    Some(event) => self.answer(server, event),
                    None => break,
                }
            }
            assert!(chunk.is_empty(), "left over: {}", chunk.escape_ascii());
        }
    }
}

fn verdict(ask: Ask, server: &mut Server, fine: bool, no: Reply) {
    if fine { ask.accept(server) } else { ask.refuse(server, &no) }
}

/// The octets a client's line stands for.
pub fn octets(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, tail @ ..] = rest {
        let (octet, used) = match (first, tail) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'x', a, b, ..]) => (u8::from_str_radix(&format!("{}{}", *a as char, *b as char), 16).unwrap(), 4),
            _ => (*first, 1),
        };
        out.push(octet);
        rest = &rest[used..];
    }
    out
}

/// Plays `script` with every cut; returns what the caller saw, which must be the same each time.
pub fn play(config: Config, script: &str) -> Caller {
    let mut first: Option<Caller> = None;
    for cut in [usize::MAX, 1, 2, 3, 5, 7, 11, 64] {
        let caller = play_cut(&config, script, cut);
        match &first {
            None => first = Some(caller),
            Some(first) => assert_eq!(&caller, first, "input cut by {cut}"),
        }
    }
    first.unwrap()
}

fn play_cut(config: &Config, script: &str, cut: usize) -> Caller {
    let (mut server, mut caller) = (Server::new(Arc::new(config.clone())), Caller::default());
    let (mut dialogue, mut flight) = (String::new(), Vec::new());
    server.greet();
    for line in script.lines().map(str::trim_start).filter(|l| !l.is_empty()) {
        let (who, text) = line.split_at(2.min(line.len()));
        let text = text.strip_prefix(' ').unwrap_or(text);
        if matches!(who, "S:" | "T:") {
            caller.feed(&mut server, &std::mem::take(&mut flight), cut);
        }
        match who {
            "C:" => flight.extend([octets(text), b"\r\n".to_vec()].concat()),
            "c:" => flight.extend(octets(text)),
            "T:" => server.tls_started(),
            "S:" => {
                let output = String::from_utf8(server.output().to_vec()).unwrap();
                let reply = output.split_inclusive("\r\n").next().unwrap_or("(nothing)\r\n");
                assert!(reply.starts_with(text), "{dialogue}expected S: {text}\n     got S: {reply}");
                server.sent(reply.len().min(output.len()));
            }
            _ => panic!("not a transcript: {line}"),
        }
        dialogue += &format!("{line}\n");
    }
    caller.feed(&mut server, &flight, cut);
    let left = String::from_utf8_lossy(server.output()).into_owned();
    assert_eq!(left, "", "{dialogue}and then, unexpected");
    caller
}

/// A small generator (xorshift), so that a failure can be had again from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1))
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}
