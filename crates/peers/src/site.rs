//! One site: what it bears, what it has seen of us, and what it did about it. It has no clock: `now` is the time since the
//! beginning, and never runs backwards.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Reply;

use crate::chance::share;

/// After a block a sender's reputation is so good again.
const FORGIVEN: f64 = 0.5;
/// From nothing to the best reputation by time alone.
const FORGETS: Duration = Duration::from_secs(24 * 3600);
/// What a connection too many costs, in mails too many.
const CONNECTION: f64 = 0.2;

/// So many mails in every span of that length.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Mails.
    pub count: usize,
    /// The span.
    pub span: Duration,
}

/// How a site says that we are too fast: after the words of hosts that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wording {
    /// `421 4.7.28`, after the body: an unusual rate.
    Unusual,
    /// `421 4.7.0 [TSS04]`: unexpected volume.
    Volume,
    /// `450 4.7.1`, and the connection stays: too much mail.
    TooMuch,
    /// `451 4.7.1`, and when to come again.
    Named,
    /// `452 4.7.1` at RCPT: too many recipients this hour.
    Hourly,
    /// `451 4.7.1`: slow down.
    SlowDown,
}

/// What a site does with a sender whose reputation is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `554 5.7.1`: the mail is lost.
    Refuses,
    /// `421 4.7.0`, for hours.
    Defers,
}

/// What a site offers of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None.
    None,
    /// With a certificate of another name that nobody has signed.
    Wrong,
}

/// Shares of mails that meet a mishap, each anew at every attempt.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The connection ends at the greeting, in answer to MAIL, to RCPT, to DATA, within the body, in answer to its end.
    pub drops: [f64; 6],
    /// `451 4.3.0`
    pub later: f64,
    /// `550 5.1.1`, at every attempt the same.
    pub unknown: f64,
    /// `452 4.2.2`, at every attempt the same.
    pub full: f64,
    /// `554 5.6.0` after the body, at every attempt the same.
    pub refused: f64,
}

/// What a site is like.
#[derive(Clone, Debug)]
pub struct Character {
    /// Connections at once.
    pub connections: usize,
    /// Mails on one connection.
    pub messages: u32,
    /// Of all mails, whether taken or refused by what is in them. All hold.
    pub quotas: Vec<Quota>,
    /// How it says so.
    pub wording: Wording,
    /// Mails over the quota after which nothing of our reputation is left.
    pub patience: f64,
    /// What it does then.
    pub block: Block,
    /// For how long.
    pub blocks_for: Duration,
    /// From a command to its reply.
    pub reply: Duration,
    /// More than that, at RCPT.
    pub tarpit: Duration,
    /// More than that, for the body.
    pub reads_for: Duration,
    /// An unknown sender and recipient are to come again after this long.
    pub greylist: Option<Duration>,
    /// TLS.
    pub tls: Tls,
    /// What goes wrong.
    pub faults: Faults,
}

impl Character {
    /// The same where all times are so many times shorter (from one), for who cannot wait as long. What is left as it is: a
    /// reputation is forgotten in a day.
    pub fn hurried(self, times: u32) -> Self {
        let times = times.max(1);
        Character {
            quotas: self.quotas.iter().map(|q| Quota { span: q.span / times, ..*q }).collect(),
            blocks_for: self.blocks_for / times,
            reply: self.reply / times,
            tarpit: self.tarpit / times,
            reads_for: self.reads_for / times,
            greylist: self.greylist.map(|wait| wait / times),
            ..self
        }
    }
}

/// What becomes of a mail, however often it comes: what a site thinks of how we send is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is taken, sooner or later.
    Taken,
    /// `550 5.1.1`: its recipient is not there.
    Unknown,
    /// `452 4.2.2`, for ever: its recipient's mailbox is full.
    Full,
    /// `554 5.6.0`, after the body: for what is in it.
    Unwanted,
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// A mail: we are too fast.
    Rate,
    /// A mail: nothing is left of our reputation.
    Reputation,
    /// A connection: too many.
    Connections,
    /// A mail: the connection has carried what it may.
    Session,
    /// A mail: it is to come again.
    Greylisted,
    /// A mail: something else that passes.
    Later,
    /// A mail: for good, its recipient is not there.
    Unknown,
    /// A mail: for good, for what is in it.
    Unwanted,
    /// The connection was cut.
    Dropped,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Refusal; 9] = [
        Refusal::Rate,
        Refusal::Reputation,
        Refusal::Connections,
        Refusal::Session,
        Refusal::Greylisted,
        Refusal::Later,
        Refusal::Unknown,
        Refusal::Unwanted,
        Refusal::Dropped,
    ];

    /// It speaks of how we send: this is what "blocked" means.
    pub fn is_block(self) -> bool {
        matches!(self, Refusal::Rate | Refusal::Reputation)
    }
}

/// What a site has seen.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Mails that were begun, again and again counted.
    pub attempts: u64,
    /// Connections that were begun.
    pub connected: u64,
    /// Mails that it has taken.
    pub taken: HashSet<u64>,
    /// Mails that it has taken more than once.
    pub twice: u64,
    /// When it took the last, from the beginning.
    pub last: Duration,
    /// What it refused, by reason.
    pub refused: HashMap<Refusal, u64>,
    /// Mails that it refused at least once for how we send.
    pub blocked: HashSet<u64>,
    /// When it refused so, from the beginning; the first thousand.
    pub blocks: Vec<Duration>,
}

/// One site.
pub struct Site {
    /// Its number.
    pub number: u64,
    /// The domains it serves.
    pub domains: Vec<String>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// What it is like.
    pub character: Character,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    began: Option<Duration>,
    open: usize,
    /// When mails were counted, the oldest first.
    counted: VecDeque<Duration>,
    reputation: Reputation,
    /// When a mail came first.
    seen: HashMap<u64, Duration>,
    tries: HashMap<u64, u64>,
}

struct Reputation {
    /// From nothing to one.
    is: f64,
    since: Option<Duration>,
    blocked: Option<Duration>,
}

impl Default for Reputation {
    fn default() -> Self {
        Reputation { is: 1.0, since: None, blocked: None }
    }
}

/// What a site says to a step of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// As a good host does.
    Well,
    /// This.
    Say(Reply),
    /// Nothing: the connection ends.
    Cut,
}

/// A step of a session at which a site may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The first octets of the body.
    Body,
    /// The end of the body.
    Dot,
}

impl Site {
    /// A site of that number, which nobody has sent to yet; chance is drawn from `seed`.
    pub fn new(number: u64, domains: Vec<String>, hosts: Vec<String>, character: Character, seed: u64) -> Self {
        Site { number, domains, hosts, character, seed, state: Mutex::default() }
    }

    /// What its chance is drawn from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it has seen until now.
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    /// The least time that anybody needs for `n` mails, had he known all limits: as many at once as each quota gives, the
    /// next when its span is over; or as many connections as may be, none of them ever idle. Greylisting comes before all.
    pub fn needs(&self, n: usize) -> Duration {
        let c = &self.character;
        let quotas = c.quotas.iter().map(|q| q.span * (n.saturating_sub(1) / q.count) as u32);
        // A flight of commands and a body, each with its answer.
        let one = c.reply * 2 + c.tarpit + c.reads_for;
        let carried = one * n.div_ceil(c.connections) as u32;
        quotas.chain([carried]).max().unwrap_or_default() + c.greylist.unwrap_or_default()
    }

    /// What it is like and what it saw, on one line.
    pub fn told(&self, ledger: &Ledger) -> String {
        let (c, hours) = (&self.character, |time: Duration| time.as_secs_f64() / 3600.0);
        let blocks: Vec<_> = ledger.blocks.iter().take(20).map(Duration::as_secs).collect();
        format!(
            "{} {:?} {:?}, {} connections: {} taken in {:.2} h of {:.2}, blocked at {blocks:?}; refused {:?}",
            self.hosts[0],
            c.quotas,
            c.wording,
            c.connections,
            ledger.taken.len(),
            hours(ledger.last),
            hours(self.needs(ledger.taken.len())),
            ledger.refused,
        )
    }

    /// A connection comes in: the greeting, or none.
    pub fn enter(&self, now: Duration) -> Answer {
        let (mut state, c) = (self.lock(), &self.character);
        state.open += 1;
        state.ledger.connected += 1;
        let n = state.ledger.connected;
        if state.open > c.connections {
            state.offend(c, CONNECTION, now);
            state.refuse(Refusal::Connections, None, now);
            return Answer::Say(Reply::new(421, 7, 0, "mx Error: too many connections from 192.0.2.1"));
        }
        if share(self.seed, &[1, n]) < c.faults.drops[0] {
            state.refuse(Refusal::Dropped, None, now);
            return Answer::Cut;
        }
        Answer::Well
    }

    /// A connection has ended.
    pub fn exit(&self) {
        let open = &mut self.lock().open;
        *open = open.saturating_sub(1);
    }

    /// The answer to a step of `mail`, the `nth` on its connection. A site speaks its mind at one step; that of its quota
    /// and its blocks is MAIL, but where the wording has another.
    pub fn step(&self, step: Step, mail: u64, nth: u32, now: Duration) -> Answer {
        let (mut state, c) = (self.lock(), &self.character);
        if step == Step::Mail {
            state.began.get_or_insert(now);
            state.ledger.attempts += 1;
            *state.tries.entry(mail).or_default() += 1;
            if nth > c.messages {
                state.refuse(Refusal::Session, None, now);
                return Answer::Say(Reply::new(421, 7, 0, "Too many messages in this session, connect again"));
            }
        }
        if let Some(said) = state.traffic(c, step, mail, now) {
            return Answer::Say(said);
        }
        self.mishap(&mut state, step, mail, now)
    }

    fn mishap(&self, state: &mut State, step: Step, mail: u64, now: Duration) -> Answer {
        let (f, tries, c) =
            (&self.character.faults, state.tries.get(&mail).copied().unwrap_or_default(), &self.character);
        let dropped =
            f.drops.get(step as usize + 1).is_some_and(|p| share(self.seed, &[2, step as u64, mail, tries]) < *p);
        if dropped {
            state.refuse(Refusal::Dropped, None, now);
            return Answer::Cut;
        }
        if step == Step::Dot && self.fate(mail) == Fate::Unwanted {
            state.refuse(Refusal::Unwanted, None, now);
            return Answer::Say(Reply::new(554, 6, 0, "This content is not wanted here"));
        }
        if step != Step::Rcpt {
            return Answer::Well;
        }
        if let Some(wait) = c.greylist
            && now.saturating_sub(*state.seen.entry(mail).or_insert(now)) < wait
        {
            state.refuse(Refusal::Greylisted, None, now);
            let seconds = wait.as_secs();
            return Answer::Say(Reply::new(450, 7, 1, format!("Greylisted, try again in {seconds} seconds")));
        }
        let (kind, reply) = match self.fate(mail) {
            Fate::Unknown => (Refusal::Unknown, Reply::new(550, 1, 1, "No such user here")),
            Fate::Full => (Refusal::Later, Reply::new(452, 2, 2, "Mailbox full")),
            _ if share(self.seed, &[5, mail, tries]) < f.later => {
                (Refusal::Later, Reply::new(451, 3, 0, "Local error in processing"))
            }
            _ => return Answer::Well,
        };
        state.refuse(kind, None, now);
        Answer::Say(reply)
    }

    /// What becomes of a mail in the end.
    pub fn fate(&self, mail: u64) -> Fate {
        let f = &self.character.faults;
        match () {
            () if share(self.seed, &[3, mail]) < f.unknown => Fate::Unknown,
            () if share(self.seed, &[4, mail]) < f.full => Fate::Full,
            () if share(self.seed, &[6, mail]) < f.refused => Fate::Unwanted,
            () => Fate::Taken,
        }
    }

    /// The site has it.
    pub fn take(&self, mail: u64, now: Duration) {
        let mut state = self.lock();
        if !state.ledger.taken.insert(mail) {
            state.ledger.twice += 1;
        }
        state.ledger.last = now;
        state.seen.remove(&mail);
    }
}

impl State {
    fn refuse(&mut self, why: Refusal, mail: Option<u64>, now: Duration) {
        *self.ledger.refused.entry(why).or_default() += 1;
        self.ledger.blocked.extend(mail);
        if let Some(began) = self.began.filter(|_| mail.is_some() && self.ledger.blocks.len() < 1000) {
            self.ledger.blocks.push(now.saturating_sub(began));
        }
    }

    /// What the site says about how we send.
    fn traffic(&mut self, c: &Character, step: Step, mail: u64, now: Duration) -> Option<Reply> {
        if step == Step::Mail && self.reputation.is_blocked(now) {
            self.refuse(Refusal::Reputation, Some(mail), now);
            return Some(match c.block {
                Block::Refuses => Reply::new(554, 7, 1, "192.0.2.1 is on our block list for its poor reputation"),
                Block::Defers => Reply::new(421, 7, 0, "Poor reputation of 192.0.2.1, try again later"),
            });
        }
        if step != c.wording.step() {
            return None;
        }
        let longest = c.quotas.iter().map(|q| q.span).max().unwrap_or_default();
        while self.counted.front().is_some_and(|at| now.saturating_sub(*at) >= longest) {
            self.counted.pop_front();
        }
        let wait = c.quotas.iter().filter_map(|q| self.wait(q, now)).max();
        let Some(wait) = wait else {
            self.counted.push_back(now);
            return None;
        };
        self.offend(c, 1.0, now);
        self.refuse(Refusal::Rate, Some(mail), now);
        Some(c.wording.words(wait))
    }

    /// How long the quota is used up, if it is.
    fn wait(&self, q: &Quota, now: Duration) -> Option<Duration> {
        let nth = self.counted.len().checked_sub(q.count)?;
        let free = self.counted[nth] + q.span;
        (free > now).then(|| free - now)
    }

    fn offend(&mut self, c: &Character, mails: f64, now: Duration) {
        self.reputation.pass(now);
        self.reputation.is -= mails / c.patience;
        if self.reputation.is <= 0.0 {
            self.reputation = Reputation { is: FORGIVEN, since: Some(now), blocked: Some(now + c.blocks_for) };
        }
    }
}

impl Reputation {
    fn pass(&mut self, now: Duration) {
        let passed = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        (self.is, self.since) = ((self.is + passed.div_duration_f64(FORGETS)).min(1.0), Some(now));
    }

    fn is_blocked(&self, now: Duration) -> bool {
        self.blocked.is_some_and(|until| until > now)
    }
}

impl Wording {
    /// All there are.
    pub const ALL: [Wording; 6] =
        [Wording::Unusual, Wording::Volume, Wording::TooMuch, Wording::Named, Wording::Hourly, Wording::SlowDown];

    fn step(self) -> Step {
        match self {
            Wording::Unusual => Step::Dot,
            Wording::Hourly => Step::Rcpt,
            _ => Step::Mail,
        }
    }

    fn words(self, wait: Duration) -> Reply {
        match self {
            Wording::Unusual => Reply::new(421, 7, 28, "We have detected an unusual rate of mail from your IP address"),
            Wording::Volume => {
                Reply::new(421, 7, 0, "[TSS04] Messages from 192.0.2.1 deferred due to unexpected volume")
            }
            Wording::TooMuch => Reply::new(450, 7, 1, "Error: too much mail from 192.0.2.1"),
            Wording::Named => {
                let seconds = wait.as_secs() + 1;
                Reply::new(451, 7, 1, format!("Rate limit exceeded, try again in {seconds} seconds"))
            }
            Wording::Hourly => Reply::new(452, 7, 1, "Too many recipients received this hour"),
            Wording::SlowDown => Reply::new(451, 7, 1, "You are sending too fast, slow down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn site(character: Character) -> Site {
        Site::new(1, Vec::new(), Vec::new(), character, 7)
    }

    fn character() -> Character {
        Character {
            connections: 2,
            messages: 3,
            quotas: vec![Quota { count: 3, span: MINUTE }],
            wording: Wording::Named,
            patience: 1.9,
            block: Block::Refuses,
            blocks_for: 10 * MINUTE,
            reply: Duration::ZERO,
            tarpit: Duration::ZERO,
            reads_for: Duration::ZERO,
            greylist: None,
            tls: Tls::None,
            faults: Faults::default(),
        }
    }

    fn code(answer: &Answer) -> u16 {
        match answer {
            Answer::Well => 250,
            Answer::Say(reply) => reply.code,
            Answer::Cut => 0,
        }
    }

    #[test]
    fn the_quota_slides_and_who_goes_on_beyond_it_is_blocked() {
        let site = site(character());
        let mail = |n, seconds| code(&site.step(Step::Mail, n, 1, Duration::from_secs(seconds)));
        assert_eq!([mail(1, 0), mail(2, 0), mail(3, 0)], [250; 3]);
        assert_eq!(mail(4, 59), 451);
        assert_eq!(mail(4, 60), 250);
        // The patience is for two.
        assert_eq!([mail(5, 60), mail(6, 60), mail(7, 60)], [250, 250, 451]);
        assert_eq!(mail(8, 60), 554);
        assert_eq!(mail(8, 660), 250);
        let ledger = site.ledger();
        assert_eq!(
            (ledger.blocked.len(), ledger.refused[&Refusal::Rate], ledger.refused[&Refusal::Reputation]),
            (3, 2, 1)
        );
    }

    #[test]
    fn a_quota_of_a_day_is_remembered_for_a_day() {
        let day = Duration::from_secs(86_400);
        let site = site(Character { quotas: vec![Quota { count: 1, span: day }], ..character() });
        let mail = |n, now| code(&site.step(Step::Mail, n, 1, now));
        assert_eq!(mail(1, Duration::ZERO), 250);
        assert_eq!(mail(2, day - Duration::from_secs(1)), 451);
        assert_eq!(mail(2, day), 250);
    }

    #[test]
    fn connections_and_what_they_carry_are_counted() {
        let (site, now) = (site(character()), Duration::ZERO);
        assert_eq!([site.enter(now), site.enter(now)], [Answer::Well, Answer::Well]);
        assert_eq!(code(&site.enter(now)), 421);
        site.exit();
        site.exit();
        assert_eq!(site.enter(now), Answer::Well);
        assert_eq!([site.step(Step::Mail, 1, 3, now), site.step(Step::Rcpt, 1, 3, now)], [Answer::Well, Answer::Well]);
        assert_eq!(code(&site.step(Step::Mail, 2, 4, now)), 421);
    }

    #[test]
    fn a_stranger_is_to_come_again_and_then_is_known() {
        let site = site(Character { greylist: Some(5 * MINUTE), ..character() });
        let rcpt = |now| {
            site.step(Step::Mail, 1, 1, now);
            code(&site.step(Step::Rcpt, 1, 1, now))
        };
        assert_eq!(rcpt(Duration::ZERO), 450);
        assert_eq!(rcpt(5 * MINUTE), 250);
    }

    #[test]
    fn the_bound_is_the_tightest_limit() {
        let second = Duration::from_secs(1);
        let hourly = Quota { count: 100, span: 60 * MINUTE };
        let fast = Character { reply: second, ..character() };
        // A hundred at once, and so on: the last of a thousand comes with the tenth hundred.
        let by = |quotas: Vec<Quota>| site(Character { quotas, ..fast.clone() }).needs(1000);
        assert_eq!(by(vec![hourly]), 9 * 60 * MINUTE);
        assert_eq!(by(vec![Quota { count: 10, span: MINUTE }, hourly]), 9 * 60 * MINUTE);
        // Two connections, two seconds a mail.
        assert_eq!(by(vec![]), 1000 * second);
    }
}
