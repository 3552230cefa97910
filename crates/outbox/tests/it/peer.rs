//! A host that takes mail as its character has it: SMTP by hand, so that it can be as wrong as real hosts are.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{Deadline, Stream, Tls};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Notify;

/// What the host does where a rule says so.
#[derive(Clone, Debug)]
pub enum Act {
    /// Replies; lines without their end.
    Say(&'static str),
    /// Closes the connection.
    Drop,
    /// Says nothing more, and keeps the connection.
    Stall,
    /// Begins a reply, and goes on with it for ever: an octet each half minute.
    Trickle,
    /// Answers well, after so many seconds.
    Slow(u64),
}

/// How a host behaves. Whatever no rule speaks of is answered as a good host does.
#[derive(Clone, Default)]
pub struct Character {
    /// Keywords of EHLO besides PIPELINING.
    pub offers: Vec<&'static str>,
    /// What begins so is answered so; the first that fits. `greeting`, a command in upper case, `chunk` for one that is not the last, or
    /// `.` for the body's end. A BDAT that a rule answers is not known: its octets are taken for commands.
    pub rules: Vec<(&'static str, Act)>,
    /// Its name; `mx.peer.test` when empty.
    pub name: &'static str,
    /// Its certificate, if it has one.
    pub tls: Option<Tls>,
    /// STARTTLS is answered well, and then comes no handshake.
    pub broken_tls: bool,
}

/// A mail that a host took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    /// As it was on the wire, dots taken off.
    pub body: String,
    pub tls: bool,
    /// Where the connection came from.
    pub by: Option<IpAddr>,
}

/// A host, as it is now.
#[derive(Clone, Default)]
pub struct Peer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    character: Character,
    /// A list of lines for each connection.
    said: Vec<Vec<String>>,
    /// And where it came from.
    from: Vec<Option<IpAddr>>,
    taken: Vec<Taken>,
    hung_up: Arc<Notify>,
}

impl Peer {
    pub fn new(character: Character) -> Self {
        let peer = Peer::default();
        peer.becomes(character);
        peer
    }

    /// Changes its ways; connections that are open see it with their next command.
    pub fn becomes(&self, character: Character) {
        self.0.lock().unwrap().character = character;
    }

    /// Connections on which it says nothing more end.
    pub fn hang_up(&self) {
        self.0.lock().unwrap().hung_up.notify_waiters();
    }

    /// The mails it took, whole.
    pub fn taken(&self) -> Vec<Taken> {
        self.0.lock().unwrap().taken.clone()
    }

    /// What was said to it on each connection.
    pub fn said(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().said.clone()
    }

    /// Where each connection came from, and what was said there to introduce us.
    pub fn visitors(&self) -> Vec<(String, String)> {
        let state = self.0.lock().unwrap();
        let ehlo = |lines: &Vec<String>| lines.iter().find_map(|l| l.strip_prefix("EHLO ")).unwrap_or("").to_owned();
        let from = state.from.iter().map(|ip| ip.map_or(String::new(), |ip| ip.to_string()));
        from.zip(state.said.iter().map(ehlo)).collect()
    }

    /// All of it, a line each.
    pub fn all_said(&self) -> Vec<String> {
        self.said().concat()
    }

    fn character(&self) -> Character {
        self.0.lock().unwrap().character.clone()
    }

    fn heard(&self, connection: usize, line: &str) {
        self.0.lock().unwrap().said[connection].push(line.to_owned());
    }

    pub async fn serve(self, stream: Stream) {
        let connection = {
            let mut state = self.0.lock().unwrap();
            state.said.push(Vec::new());
            state.from.push(stream.peer().map(|peer| peer.ip()));
            state.said.len() - 1
        };
        let session = Session {
            peer: self,
            connection,
            io: BufReader::new(stream),
            from: None,
            to: Vec::new(),
            body: Vec::new(),
        };
        // Errors are the other side's leaving.
        let _ = session.run().await;
    }
}

struct Session {
    peer: Peer,
    connection: usize,
    io: BufReader<Stream>,
    from: Option<String>,
    to: Vec<String>,
    /// What chunks brought.
    body: Vec<u8>,
}

impl Session {
    async fn run(mut self) -> std::io::Result<()> {
        if !self.act("greeting", "220 mx.peer.test ESMTP").await? {
            return Ok(());
        }
        loop {
            let Some(line) = self.line().await? else { return Ok(()) };
            self.peer.heard(self.connection, &line);
            let (verb, good) = self.good(&line);
            // Who does not know it takes what follows for commands.
            if verb == "BDAT" && self.rule(&line).is_none() {
                if !self.chunk(&line).await? {
                    return Ok(());
                }
                continue;
            }
            if !self.act(&line, &good).await? {
                return Ok(());
            }
            let refused = !matches!(self.rule(&line), None | Some(Act::Slow(_)));
            match verb.as_str() {
                "STARTTLS" if !refused => {
                    if self.peer.character().broken_tls {
                        self.say("this is no handshake").await?;
                        return Ok(());
                    }
                    let tls = self.peer.character().tls.expect("a certificate");
                    let Session { peer, connection, io, .. } = self;
                    let soon = Deadline::after(std::time::Duration::from_secs(60));
                    let io = io.into_inner().upgrade(&tls, b"", soon).await?;
                    let (io, to, body) = (BufReader::new(io), Vec::new(), Vec::new());
                    self = Session { peer, connection, io, from: None, to, body };
                }
                "MAIL" if !refused => self.from = Some(argument(&line)),
                "RCPT" if !refused && self.from.is_some() => self.to.push(argument(&line)),
                "RSET" => (self.from, self.to, self.body) = (None, Vec::new(), Vec::new()),
                "DATA" if !refused && !self.to.is_empty() && !self.body().await? => return Ok(()),
                "QUIT" => return Ok(()),
                _ => {}
            }
        }
    }

    /// Reads a body to its dot. False: the connection ends.
    async fn body(&mut self) -> std::io::Result<bool> {
        let mut body = Vec::new();
        loop {
            let at = body.len();
            if self.io.read_until(b'\n', &mut body).await? == 0 {
                return Ok(false);
            }
            match &body[at..] {
                b".\r\n" => {
                    body.truncate(at);
                    break;
                }
                [b'.', ..] => drop(body.remove(at)),
                _ => {}
            }
        }
        self.peer.heard(self.connection, ".");
        self.whole(body).await
    }

    /// Reads a chunk, whatever is said to it. False: the connection ends.
    async fn chunk(&mut self, line: &str) -> std::io::Result<bool> {
        let words: Vec<&str> = line.split(' ').collect();
        let mut chunk = vec![0; words[1].parse().unwrap()];
        self.io.read_exact(&mut chunk).await?;
        if self.to.is_empty() {
            self.say("503 5.5.1 No valid recipients").await?;
            return Ok(true);
        }
        self.body.append(&mut chunk);
        if words.get(2) == Some(&"LAST") {
            let body = std::mem::take(&mut self.body);
            return self.whole(body).await;
        }
        self.act("chunk", "250 2.0.0 Go on").await
    }

    async fn whole(&mut self, body: Vec<u8>) -> std::io::Result<bool> {
        // Who falls silent now has it, and never says so.
        if matches!(self.rule("."), None | Some(Act::Stall)) {
            let (from, to) = (self.from.take().unwrap(), std::mem::take(&mut self.to));
            let (body, tls) = (String::from_utf8_lossy(&body).into_owned(), self.io.get_ref().is_tls());
            let by = self.io.get_ref().peer().map(|peer| peer.ip());
            self.peer.0.lock().unwrap().taken.push(Taken { from, to, body, tls, by });
        }
        (self.from, self.to) = (None, Vec::new());
        self.act(".", "250 2.6.0 Taken").await
    }

    fn rule(&self, line: &str) -> Option<Act> {
        let character = self.peer.character();
        character.rules.into_iter().find(|(with, _)| line.starts_with(with)).map(|(_, act)| act)
    }

    /// Does what the rules say, or answers well; false when the connection ends.
    async fn act(&mut self, line: &str, good: &str) -> std::io::Result<bool> {
        match self.rule(line) {
            None => self.say(good).await?,
            Some(Act::Say(reply)) => {
                self.say(reply).await?;
                // RFC 5321 §3.8: 421 is goodbye.
                return Ok(!reply.starts_with("421"));
            }
            Some(Act::Drop) => return Ok(false),
            Some(Act::Stall) => {
                let hung_up = self.peer.0.lock().unwrap().hung_up.clone();
                hung_up.notified().await;
                return Ok(false);
            }
            Some(Act::Trickle) => loop {
                self.io.get_mut().write_all(b"2").await?;
                self.io.get_mut().flush().await?;
                tokio::time::sleep(Duration::from_secs(30)).await;
            },
            Some(Act::Slow(seconds)) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                self.say(good).await?;
            }
        }
        Ok(true)
    }

    fn good(&self, line: &str) -> (String, String) {
        let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
        let character = self.peer.character();
        let reply = match verb.as_str() {
            "EHLO" => {
                let name = if character.name.is_empty() { "mx.peer.test" } else { character.name };
                let offers = ["PIPELINING"].into_iter().chain(character.offers);
                // TLS is not offered within TLS (RFC 3207 §4.2).
                let offers: Vec<&str> = offers.filter(|o| *o != "STARTTLS" || !self.io.get_ref().is_tls()).collect();
                let lines = [&[name], &offers[..]].concat();
                let (last, first) = lines.split_last().unwrap();
                first.iter().map(|l| format!("250-{l}\r\n")).collect::<String>() + &format!("250 {last}")
            }
            "STARTTLS" => "220 2.0.0 Go ahead".into(),
            "AUTH" => "235 2.7.0 Welcome".into(),
            "RCPT" if self.from.is_none() => "503 5.5.1 MAIL first".into(),
            "DATA" if self.to.is_empty() => "554 5.5.1 No valid recipients".into(),
            "DATA" => "354 Go ahead".into(),
            "QUIT" => "221 2.0.0 Bye".into(),
            _ => "250 2.0.0 OK".into(),
        };
        (verb, reply)
    }

    async fn say(&mut self, reply: &str) -> std::io::Result<()> {
        self.io.get_mut().write_all(format!("{reply}\r\n").as_bytes()).await?;
        self.io.get_mut().flush().await
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.io.read_line(&mut line).await?;
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// What stands between the angle brackets.
fn argument(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(address, _)| address).to_owned()
}
