//! Three sessions do what chance says, break off, and come back with what they last knew, or with something older. What
//! each was told must add up to what a plain model says is there, and so must a look with fresh eyes.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Client, World};

const MAIL: &str = "Subject: x\r\n\r\nbody\r\n";
const FLAGS: [&str; 6] = ["\\Answered", "\\Flagged", "\\Seen", "\\Draft", "$Work", "$Later"];

type Flags = BTreeSet<String>;
type Mailbox = BTreeMap<u32, Flags>;

/// A small generator; the seed is in every failure's dialogue.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Some of these, at least one if there are any.
    fn some(&mut self, of: &[u32], most: usize) -> Vec<u32> {
        let mut chosen: Vec<u32> =
            (0..1 + self.below(most)).filter_map(|_| of.get(self.below(of.len().max(1)))).copied().collect();
        chosen.sort_unstable();
        chosen.dedup();
        chosen
    }

    fn flags(&mut self) -> Flags {
        let mut chosen: Flags = (0..1 + self.below(3)).map(|_| FLAGS[self.below(6)].to_owned()).collect();
        if self.below(3) == 0 {
            chosen.insert("\\Deleted".into());
        }
        chosen
    }
}

/// A client that keeps the mailbox by QRESYNC: what it was told is all that it knows.
#[derive(Default)]
struct Session {
    client: Option<Client>,
    known: Mailbox,
    /// UIDs by message number; 0 where the UID was not told yet.
    numbers: Vec<u32>,
    validity: u64,
    /// The highest MODSEQ it was told.
    mod_seq: u64,
    /// What it knew at other times.
    memories: Vec<(Mailbox, u64)>,
}

fn numbers(set: &str) -> Vec<u32> {
    set.split(',')
        .flat_map(|range| {
            let (from, to) = range.split_once(':').unwrap_or((range, range));
            from.parse().unwrap()..=to.parse().unwrap()
        })
        .collect()
}

fn set(numbers: &[u32]) -> String {
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// What follows `from` in a line, up to one of `ends`.
fn after<'a>(line: &'a str, from: &str, ends: &[char]) -> Option<&'a str> {
    line.split_once(from)?.1.split(ends).next()
}

fn changed(old: &Flags, sign: &str, given: &Flags) -> Flags {
    match sign {
        "+" => old | given,
        "-" => old - given,
        _ => given.clone(),
    }
}

impl Session {
    async fn open(&mut self, world: &World) {
        self.client = Some(world.client().await);
        self.ask("ENABLE QRESYNC").await;
        self.numbers.clear();
        if self.validity == 0 {
            self.ask("SELECT INBOX").await;
            self.catch_up().await;
            return;
        }
        let known = format!("SELECT INBOX (QRESYNC ({} {}))", self.validity, self.mod_seq);
        self.ask(&known).await;
        // All that is there is known now: what is new has changed since, too.
        let told: Vec<u32> = self.known.keys().copied().collect();
        assert_eq!(told.len(), self.numbers.len(), "{}", self.log());
        self.numbers = told;
    }

    fn log(&self) -> &str {
        self.client.as_ref().map_or("", |client| &client.log)
    }

    /// The connection is gone; perhaps a copy of what was known earlier is all that is left.
    fn break_off(&mut self, r: &mut Random) {
        self.client = None;
        self.memories.push((self.known.clone(), self.mod_seq));
        if r.below(3) == 0 {
            (self.known, self.mod_seq) = self.memories[r.below(self.memories.len())].clone();
        }
    }

    /// Runs a command and hears what comes with it; gives its last line.
    async fn ask(&mut self, command: &str) -> String {
        let lines = self.client.as_mut().unwrap().ask(command).await;
        lines.iter().for_each(|line| self.hear(line));
        lines.last().unwrap().clone()
    }

    async fn run(&mut self, command: &str) -> String {
        let last = self.ask(command).await;
        self.catch_up().await;
        last
    }

    /// Asks about messages whose arrival was told.
    async fn catch_up(&mut self) {
        if self.numbers.contains(&0) {
            let next = self.numbers.iter().max().unwrap() + 1;
            self.ask(&format!("UID FETCH {next}:* (FLAGS)")).await;
        }
    }

    /// Having asked, it knows all there is.
    async fn must_know(&mut self, truth: &Truth) {
        self.run("NOOP").await;
        assert_eq!(self.known, truth.mailbox, "{}", self.log());
        assert_eq!(self.numbers, truth.mailbox.keys().copied().collect::<Vec<_>>(), "{}", self.log());
    }

    fn hear(&mut self, line: &str) {
        let number = |name: &str| after(line, name, &[']', ')', ' ']).map(|n| n.parse::<u64>().unwrap());
        if let Some(validity) = number("[UIDVALIDITY ") {
            self.validity = validity;
        }
        for name in ["[HIGHESTMODSEQ ", "MODSEQ ("] {
            self.mod_seq = self.mod_seq.max(number(name).unwrap_or(0));
        }
        if let Some(gone) = line.strip_prefix("* VANISHED (EARLIER) ") {
            numbers(gone).iter().for_each(|uid| drop(self.known.remove(uid)));
        } else if let Some(gone) = line.strip_prefix("* VANISHED ") {
            let gone = numbers(gone);
            self.known.retain(|uid, _| !gone.contains(uid));
            self.numbers.retain(|uid| !gone.contains(uid));
        } else if let Some(exists) = line.strip_suffix(" EXISTS") {
            self.numbers.resize(exists[2..].parse().unwrap(), 0);
        } else if line.contains(" FETCH (") {
            self.hear_fetch(line);
        }
        assert!(!line.ends_with(" EXPUNGE"), "{}", self.log());
    }

    fn hear_fetch(&mut self, line: &str) {
        let seq: usize = line[2..].split(' ').next().unwrap().parse().unwrap();
        let uid: u32 = after(line, "UID ", &[' ', ')']).unwrap().parse().unwrap();
        let place = self.numbers.get_mut(seq - 1);
        match place {
            Some(known) if *known == 0 => *known = uid,
            known => assert_eq!(known.copied(), Some(uid), "a message has another number: {line}"),
        }
        if let Some(flags) = after(line, "FLAGS (", &[')']) {
            self.known.insert(uid, flags.split_whitespace().map(str::to_owned).collect());
        }
    }
}

/// The mailbox as it must be.
struct Truth {
    mailbox: Mailbox,
    next_uid: u32,
}

impl Truth {
    fn arrive(&mut self, flags: Flags) {
        self.mailbox.insert(self.next_uid, flags);
        self.next_uid += 1;
    }
}

async fn store(session: &mut Session, truth: &mut Truth, r: &mut Random) {
    let uids = r.some(&session.numbers, 4);
    let (sign, given) = (["+", "-", ""][r.below(3)], r.flags());
    let silent = r.below(2) == 0;
    let by_number = r.below(2) == 0;
    let condition = match r.below(3) {
        0 => format!(" (UNCHANGEDSINCE {})", session.mod_seq.saturating_sub(r.below(3) as u64)),
        _ => String::new(),
    };
    let (form, chosen) = if by_number {
        let place = |uid: &u32| session.numbers.iter().position(|known| known == uid).unwrap() as u32 + 1;
        ("STORE", uids.iter().map(place).collect())
    } else {
        ("UID STORE", uids.clone())
    };
    let words = given.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    let before = session.known.clone();
    let places = session.numbers.clone();
    let dot = if silent { ".SILENT" } else { "" };
    let command = format!("{form} {}{condition} {sign}FLAGS{dot} ({words})", set(&chosen));
    // What is told of a silent STORE corrects what the client does by itself, so that comes first.
    let mut expected = before.clone();
    for uid in &uids {
        if let (true, Some(flags)) = (silent, expected.get_mut(uid)) {
            *flags = changed(flags, sign, &given);
        }
    }
    session.known = expected;
    let last = session.ask(&command).await;
    let modified: Vec<u32> = after(&last, "[MODIFIED ", &[']']).map(numbers).unwrap_or_default();
    let modified: Vec<u32> =
        if by_number { modified.iter().map(|seq| places[*seq as usize - 1]).collect() } else { modified };
    for uid in &uids {
        if modified.contains(uid) {
            // It has to look (RFC 7162 §3.1.3); what it was told already, it heard.
            session.ask(&format!("UID FETCH {uid} (FLAGS)")).await;
        } else if let Some(flags) = truth.mailbox.get_mut(uid) {
            *flags = changed(flags, sign, &given);
        }
    }
    session.catch_up().await;
}

async fn step(world: &World, session: &mut Session, truth: &mut Truth, r: &mut Random) {
    if session.client.is_none() {
        return session.open(world).await;
    }
    let some = r.some(&session.numbers, 4);
    match r.below(13) {
        0..=3 if !some.is_empty() => store(session, truth, r).await,
        4 => {
            session.run("EXPUNGE").await;
            truth.mailbox.retain(|_, flags| !flags.contains("\\Deleted"));
        }
        5 if !some.is_empty() => {
            session.run(&format!("UID EXPUNGE {}", set(&some))).await;
            truth.mailbox.retain(|uid, flags| !(flags.contains("\\Deleted") && some.contains(uid)));
        }
        6 if !some.is_empty() => {
            session.run(&format!("UID MOVE {} Archive", set(&some))).await;
            truth.mailbox.retain(|uid, _| !some.contains(uid));
        }
        7 if truth.mailbox.len() < 60 && !some.is_empty() => {
            session.run(&format!("UID COPY {} INBOX", set(&some))).await;
            let copies: Vec<Flags> = some.iter().filter_map(|uid| truth.mailbox.get(uid)).cloned().collect();
            copies.into_iter().for_each(|flags| truth.arrive(flags));
        }
        8 => {
            let flags = r.flags();
            let words = flags.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            session.run(&format!("APPEND INBOX ({words}) {{20+}}\r\n{MAIL}")).await;
            truth.arrive(flags);
        }
        9 => {
            world.deliver("", MAIL.as_bytes()).await;
            truth.arrive(Flags::new());
        }
        10 => session.break_off(r),
        11 => {
            let since = session.mod_seq.saturating_sub(r.below(4) as u64);
            session.run(&format!("UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)")).await;
        }
        _ => session.must_know(truth).await,
    }
}

#[tokio::test]
async fn what_sessions_were_told_adds_up_to_what_is_there() {
    for seed in 1..=3 {
        let world = World::new().await;
        println!("seed {seed}");
        let mut r = Random(seed);
        let mut truth = Truth { mailbox: Mailbox::new(), next_uid: 1 };
        let mut sessions = [Session::default(), Session::default(), Session::default()];
        for _ in 0..300 {
            let who = r.below(3);
            step(&world, &mut sessions[who], &mut truth, &mut r).await;
        }
        for (who, session) in sessions.iter_mut().enumerate() {
            println!("session {who} of seed {seed}");
            if session.client.is_none() {
                session.open(&world).await;
            }
            session.must_know(&truth).await;
        }
        println!("fresh eyes, seed {seed}");
        let mut fresh = Session::default();
        fresh.open(&world).await;
        fresh.must_know(&truth).await;
        world.verify().await;
    }
}
