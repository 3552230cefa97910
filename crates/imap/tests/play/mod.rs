//! Plays transcripts at the machine: `C:` lines go in, what it says (`S:`) and tells (`E:`) comes out.
//!
//! Every transcript is played whole and octet by octet, and must go the same way.

#![allow(dead_code, reason = "each test file uses its part")]

use imap::{Command, Config, Event, Server, Tag};

/// A caller of the machine that says yes to all, but for what `refuse` names.
pub struct Player {
    pub server: Server,
    /// Mailboxes that are not there.
    pub refuse: &'static [&'static str],
    /// Largest message, in octets.
    pub max_message: u64,
    pub log: Vec<String>,
    pub commands: Vec<(Tag, Command)>,
    pub message: Vec<u8>,
    pub append: Option<Tag>,
}

impl Player {
    pub fn stranger() -> Self {
        Player {
            server: Server::new(Config::default()),
            refuse: &[],
            max_message: 1 << 30,
            log: Vec::new(),
            commands: Vec::new(),
            message: Vec::new(),
            append: None,
        }
    }

    pub fn logged_in() -> Self {
        let mut player = Self::stranger();
        player.server.set_authenticated();
        player
    }

    /// Gives the machine `input` in pieces of `size` octets.
    pub fn feed(&mut self, input: &[u8], size: usize) {
        for piece in input.chunks(size) {
            let mut rest = piece;
            loop {
                let step = self.server.step(rest);
                rest = &rest[step.consumed..];
                self.hear();
                match step.event {
                    Some(event) => self.react(event),
                    None => break,
                }
            }
            assert!(rest.is_empty(), "no event, and octets left");
        }
    }

    fn hear(&mut self) {
        let out = std::mem::take(self.server.output());
        for line in out.split_inclusive(|b| *b == b'\n') {
            self.log.push(format!("S: {}", line.trim_ascii_end().escape_ascii()));
        }
    }

    fn react(&mut self, event: Event<'_>) {
        match event {
            Event::AppendData(data) => return self.message.extend_from_slice(data),
            Event::AppendMessageEnd => {
                let message = std::mem::take(&mut self.message);
                return self.log.push(format!("E: message of {} octets: {}", message.len(), message.escape_ascii()));
            }
            _ => self.log.push(format!("E: {event:?}")),
        }
        match event {
            Event::Command { tag, command } => {
                match &command {
                    Command::Idle => self.server.start_idle(tag.clone()),
                    Command::Authenticate { initial: None, .. } => self.server.challenge(tag.clone(), b""),
                    _ => {}
                }
                self.commands.push((tag, command));
            }
            Event::AppendStart { tag, mailbox } => {
                self.append = Some(tag);
                if self.refuse.contains(&mailbox.as_str()) {
                    self.refuse("TRYCREATE");
                }
            }
            Event::AppendMessage(message) if message.size > self.max_message => self.refuse("TOOBIG"),
            Event::AppendAbort => self.message.clear(),
            _ => {}
        }
        self.hear();
    }

    fn refuse(&mut self, code: &str) {
        self.server.refuse_append();
        let tag = self.append.take();
        self.log.push(format!("S: {} NO [{code}]", tag.as_ref().map_or("?", Tag::as_str)));
    }
}

/// The octets of a transcript's `C:` lines, each with CRLF. What goes on without one ends in `\`.
pub fn client_side(transcript: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    for line in transcript.lines().map(str::trim_start) {
        let Some(text) = line.strip_prefix("C:") else { continue };
        octets.extend_from_slice(text.strip_prefix(' ').unwrap_or(text).as_bytes());
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

/// Plays whole and octet by octet; gives the player of the whole.
pub fn play_by(new: impl Fn() -> Player, input: &[u8]) -> Player {
    let mut whole = new();
    whole.feed(input, input.len().max(1));
    for size in [1, 7] {
        let mut pieces = new();
        pieces.feed(input, size);
        assert_eq!(whole.log, pieces.log, "pieces of {size} go another way");
    }
    whole
}

/// Plays a transcript after login.
pub fn play(transcript: &str) -> Player {
    play_by(Player::logged_in, &client_side(transcript))
}

/// The one command in `line`.
pub fn command(line: &str) -> Command {
    let mut player = play_by(Player::logged_in, format!("{line}\r\n").as_bytes());
    assert_eq!(player.commands.len(), 1, "{line}: {:#?}", player.log);
    player.commands.remove(0).1
}

/// What the client is told of a wrong `line`.
pub fn fault(line: &str) -> String {
    let player = play_by(Player::logged_in, format!("{line}\r\n").as_bytes());
    assert!(player.commands.is_empty(), "{line}: {:#?}", player.log);
    player.log.first().cloned().unwrap_or_default()
}
