//! A maildrop of two mails that answers the machine's events, and the reader of the scripts.

use base::{Error, Reply};
use pop3::{Code, Config, Event, Secret, Server};

/// How the client's octets reach the machine.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// All lines up to the server's next.
    Turns,
    Octets,
    /// All there are, up to TLS.
    Pipelined,
}

/// As in RFC 1939 §10, 120 and 200 octets, but for what they really hold.
const MAILS: [(u32, &str); 2] =
    [(120, "Subject: one\r\n\r\n.a dot\r\nthe end"), (200, "Subject: two\r\n\r\n.\r\n..\r\n")];

pub struct Maildrop {
    pop: Server,
    marked: [bool; 2],
    /// The response to the first challenge of LOGIN.
    login_name: Option<Vec<u8>>,
    mechanism: &'static str,
}

/// What a script's server says, and how it ends.
pub fn servers_lines(script: &str) -> String {
    let mut said = String::new();
    for line in lines(script) {
        if let Some(text) = line.strip_prefix("S: ") {
            said.extend([text, "\r\n"]);
        } else if line == "-- closed" {
            said.push_str("(closed)");
        }
    }
    said
}

fn lines(script: &str) -> impl Iterator<Item = &str> {
    script.lines().map(str::trim_start).filter(|line| !line.is_empty())
}

impl Maildrop {
    pub fn new(config: Config) -> Self {
        Maildrop { pop: Server::new(config), marked: [false; 2], login_name: None, mechanism: "" }
    }

    /// Plays the client's lines; gives all that the server said.
    pub fn run(mut self, script: &str, way: Way) -> String {
        let (mut said, mut unread) = (Vec::new(), Vec::new());
        for line in lines(script) {
            let turn_ends = match line.split_at(3) {
                ("C: ", text) => {
                    unread.extend_from_slice(text.as_bytes());
                    unread.extend_from_slice(b"\r\n");
                    false
                }
                ("S: ", _) => !matches!(way, Way::Pipelined),
                _ => true,
            };
            if turn_ends {
                self.feed(&mut unread, way);
                said.append(self.pop.output());
            }
            if line == "-- tls" {
                self.pop.tls_started();
            }
        }
        self.feed(&mut unread, way);
        said.append(self.pop.output());
        if self.pop.is_closed() {
            said.extend_from_slice(b"(closed)");
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    fn feed(&mut self, unread: &mut Vec<u8>, way: Way) {
        let mut seen = if matches!(way, Way::Octets) { 1 } else { unread.len() };
        while seen <= unread.len() && !unread.is_empty() {
            let step = self.pop.step(&unread[..seen]);
            let (consumed, waits) = (step.consumed, step.consumed == 0 && step.event.is_none());
            if let Some(event) = step.event {
                self.answer(event);
            }
            unread.drain(..consumed);
            seen -= consumed;
            if waits || seen == 0 {
                seen += 1;
            }
        }
    }

    fn answer(&mut self, event: Event) {
        match event {
            Event::Login { user, .. } if user == "sick" => {
                self.pop.refuse(Error::internal("the disk is on fire").reply());
            }
            Event::Login { user, password } => {
                let right: &[u8] = if user == "spaces" { b" a  b " } else { b"secret" };
                self.signed_in(password.0 == right || (user == "用户" && password.0 == "密码".as_bytes()));
            }
            Event::Auth { mechanism, initial } => {
                self.mechanism = mechanism;
                self.login_name = None;
                match (initial, mechanism) {
                    (Some(response), _) => self.sasl(response),
                    (None, "LOGIN") => self.pop.challenge("VXNlcm5hbWU6"),
                    (None, _) => self.pop.challenge(""),
                }
            }
            Event::AuthResponse(response) => self.sasl(response),
            Event::Stls => {}
            Event::Stat => {
                let left = self.left();
                self.pop.ok(format_args!("{} {}", left.len(), left.iter().map(|(_, octets)| octets).sum::<u32>()));
            }
            Event::List(None) => {
                let left = self.left();
                self.pop.begin(format_args!("{} messages", left.len()));
                left.iter().for_each(|(number, octets)| self.pop.row(*number, octets));
                self.pop.end();
            }
            Event::List(Some(number)) => self.with(number, |pop, octets, _| pop.ok(format_args!("{number} {octets}"))),
            Event::Uidl(None) => {
                self.pop.begin("Unique ids");
                self.left().iter().for_each(|(number, _)| self.pop.row(*number, format_args!("uid{number}")));
                self.pop.end();
            }
            Event::Uidl(Some(number)) => self.with(number, |pop, _, _| pop.ok(format_args!("{number} uid{number}"))),
            Event::Retr(number) => self.with(number, |pop, octets, mail| {
                pop.begin(format_args!("{octets} octets"));
                mail.as_bytes().chunks(3).for_each(|chunk| assert!(pop.body(chunk)));
                pop.end();
            }),
            Event::Top(number, _) => self.with(number, |pop, _, mail| {
                pop.begin("The top");
                let _ = mail.as_bytes().chunks(3).all(|chunk| pop.body(chunk));
                pop.end();
            }),
            Event::Dele(number) => {
                self.with(number, |pop, _, _| pop.ok("Marked"));
                if let Some(marked) = (number as usize).checked_sub(1).and_then(|i| self.marked.get_mut(i)) {
                    *marked = true;
                }
            }
            Event::Rset => {
                self.marked = [false; 2];
                self.pop.ok("2 messages");
            }
            Event::Quit => match self.marked.iter().filter(|m| **m).count() {
                2 => self.pop.err(Some(Code::SysTemp), "Some messages were not removed"),
                n => self.pop.ok(format_args!("{n} removed")),
            },
        }
    }

    /// Only test/test (RFC 4616's form of it, or LOGIN's two halves) is right.
    fn sasl(&mut self, response: Secret) {
        match (self.mechanism, &self.login_name) {
            ("LOGIN", None) => {
                self.login_name = Some(response.0.to_vec());
                self.pop.challenge("UGFzc3dvcmQ6");
            }
            ("LOGIN", Some(name)) => {
                let right = name == b"dGVzdA==" && response.0 == b"dGVzdA==";
                self.signed_in(right);
            }
            _ => self.signed_in(response.0 == b"dGVzdAB0ZXN0AHRlc3Q="),
        }
    }

    fn signed_in(&mut self, right: bool) {
        if right {
            self.pop.ok("2 messages");
        } else {
            self.pop.refuse(&Reply::new(535, 7, 8, "Wrong name or password"));
        }
    }

    fn left(&self) -> Vec<(u32, u32)> {
        (1..)
            .zip(MAILS)
            .zip(self.marked)
            .filter(|(_, marked)| !marked)
            .map(|((n, (octets, _)), _)| (n, octets))
            .collect()
    }

    fn with(&mut self, number: u32, answer: impl FnOnce(&mut Server, u32, &str)) {
        match (1..).zip(MAILS).zip(self.marked).find(|((n, _), marked)| *n == number && !marked) {
            Some(((_, (octets, mail)), _)) => answer(&mut self.pop, octets, mail),
            None => self.pop.err(None, "No such message"),
        }
    }
}
