//! One site: what it bears, what it has seen of us, and what it did about it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

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
    /// The connection ends at the greeting, in answer to MAIL, to RCPT, to DATA, within the body.
    pub drops: [f64; 5],
    /// `451 4.3.0`
    pub later: f64,
    /// `550 5.1.1`, at every attempt the same.
    pub unknown: f64,
    /// `452 4.2.2`, at every attempt the same.
    pub full: f64,
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
    /// A mail: for good, for its own fault.
    Unknown,
    /// The connection was cut.
    Dropped,
}

impl Refusal {
    /// All there are.
    pub const ALL: [Refusal; 8] = [
        Refusal::Rate,
        Refusal::Reputation,
        Refusal::Connections,
        Refusal::Session,
        Refusal::Greylisted,
        Refusal::Later,
        Refusal::Unknown,
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
    began: Option<Instant>,
    open: usize,
    /// When mails were counted, the oldest first.
    counted: VecDeque<Instant>,
    reputation: Reputation,
    /// When a mail came first.
    seen: HashMap<u64, Instant>,
    tries: HashMap<u64, u64>,
}

struct Reputation {
    /// From nothing to one.
    is: f64,
    since: Option<Instant>,
    blocked: Option<Instant>,
}

impl Default for Reputation {
    fn default() -> Self {
        Reputation { is: 1.0, since: None, blocked: None }
    }
}

/// What a site says to a step of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// As a good host does.
    Well,
    /// This.
    Say(String),
    /// Nothing: the connection ends.
    Cut,
}

/// A step of a session at which a site may refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Mail,
    Rcpt,
    Data,
    Body,
    Dot,
}

impl Site {
    pub(crate) fn new(number: u64, domains: Vec<String>, hosts: Vec<String>, character: Character, seed: u64) -> Self {
        Site { number, domains, hosts, character, seed, state: Mutex::default() }
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
    pub(crate) fn enter(&self) -> Answer {
        let (mut state, c) = (self.lock(), &self.character);
        state.open += 1;
        state.ledger.connected += 1;
        let n = state.ledger.connected;
        if state.open > c.connections {
            state.offend(c, CONNECTION);
            state.refuse(Refusal::Connections, None);
            return Answer::Say("421 4.7.0 mx Error: too many connections from 192.0.2.1".into());
        }
        if share(self.seed, &[1, n]) < c.faults.drops[0] {
            state.refuse(Refusal::Dropped, None);
            return Answer::Cut;
        }
        Answer::Well
    }

    pub(crate) fn exit(&self) {
        self.lock().open -= 1;
    }

    /// The answer to a step of `mail`, the `nth` on its connection. A site speaks its mind at one step; that of its quota
    /// and its blocks is MAIL, but where the wording has another.
    pub(crate) fn step(&self, step: Step, mail: u64, nth: u32) -> Answer {
        let (mut state, c) = (self.lock(), &self.character);
        if step == Step::Mail {
            state.began.get_or_insert_with(Instant::now);
            state.ledger.attempts += 1;
            *state.tries.entry(mail).or_default() += 1;
            if nth > c.messages {
                state.refuse(Refusal::Session, None);
                return Answer::Say("421 4.7.0 Too many messages in this session, connect again".into());
            }
        }
        if let Some(said) = state.traffic(c, step, mail) {
            return Answer::Say(said);
        }
        self.mishap(&mut state, step, mail)
    }

    fn mishap(&self, state: &mut State, step: Step, mail: u64) -> Answer {
        let (f, tries, c) = (&self.character.faults, state.tries[&mail], &self.character);
        let dropped =
            f.drops.get(step as usize + 1).is_some_and(|p| share(self.seed, &[2, step as u64, mail, tries]) < *p);
        if dropped {
            state.refuse(Refusal::Dropped, None);
            return Answer::Cut;
        }
        if step != Step::Rcpt {
            return Answer::Well;
        }
        if let Some(wait) = c.greylist {
            let now = Instant::now();
            if now - *state.seen.entry(mail).or_insert(now) < wait {
                state.refuse(Refusal::Greylisted, None);
                let seconds = wait.as_secs();
                return Answer::Say(format!("450 4.7.1 Greylisted, try again in {seconds} seconds"));
            }
        }
        let (kind, reply) = match () {
            () if share(self.seed, &[3, mail]) < f.unknown => (Refusal::Unknown, "550 5.1.1 No such user here"),
            () if share(self.seed, &[4, mail]) < f.full => (Refusal::Later, "452 4.2.2 Mailbox full"),
            () if share(self.seed, &[5, mail, tries]) < f.later => {
                (Refusal::Later, "451 4.3.0 Local error in processing")
            }
            () => return Answer::Well,
        };
        state.refuse(kind, None);
        Answer::Say(reply.into())
    }

    /// Whether the site will ever take it.
    pub fn would_take(&self, mail: u64) -> bool {
        let f = &self.character.faults;
        share(self.seed, &[3, mail]) >= f.unknown && share(self.seed, &[4, mail]) >= f.full
    }

    pub(crate) fn defers_for_ever(&self, mail: u64) -> bool {
        let f = &self.character.faults;
        share(self.seed, &[3, mail]) >= f.unknown && share(self.seed, &[4, mail]) < f.full
    }

    /// The site has it.
    pub(crate) fn take(&self, mail: u64, start: Instant) {
        let mut state = self.lock();
        if !state.ledger.taken.insert(mail) {
            state.ledger.twice += 1;
        }
        state.ledger.last = start.elapsed();
        state.seen.remove(&mail);
    }
}

impl State {
    fn refuse(&mut self, why: Refusal, mail: Option<u64>) {
        *self.ledger.refused.entry(why).or_default() += 1;
        self.ledger.blocked.extend(mail);
        if let Some(began) = self.began.filter(|_| mail.is_some() && self.ledger.blocks.len() < 1000) {
            self.ledger.blocks.push(began.elapsed());
        }
    }

    /// What the site says about how we send.
    fn traffic(&mut self, c: &Character, step: Step, mail: u64) -> Option<String> {
        let now = Instant::now();
        if step == Step::Mail && self.reputation.is_blocked(now) {
            self.refuse(Refusal::Reputation, Some(mail));
            return Some(match c.block {
                Block::Refuses => "554 5.7.1 192.0.2.1 is on our block list for its poor reputation".into(),
                Block::Defers => "421 4.7.0 Poor reputation of 192.0.2.1, try again later".into(),
            });
        }
        if step != c.wording.step() {
            return None;
        }
        let wait = c.quotas.iter().filter_map(|q| self.wait(q, now)).max();
        let Some(wait) = wait else {
            self.counted.push_back(now);
            return None;
        };
        self.offend(c, 1.0);
        self.refuse(Refusal::Rate, Some(mail));
        Some(c.wording.words(wait))
    }

    /// How long the quota is used up, if it is.
    fn wait(&mut self, q: &Quota, now: Instant) -> Option<Duration> {
        // The longest quota decides how much is remembered: an hour.
        while self.counted.front().is_some_and(|at| now - *at >= Duration::from_secs(3600)) {
            self.counted.pop_front();
        }
        let nth = self.counted.len().checked_sub(q.count)?;
        let free = self.counted[nth] + q.span;
        (free > now).then(|| free - now)
    }

    fn offend(&mut self, c: &Character, mails: f64) {
        let now = Instant::now();
        self.reputation.pass(now);
        self.reputation.is -= mails / c.patience;
        if self.reputation.is <= 0.0 {
            self.reputation = Reputation { is: FORGIVEN, since: Some(now), blocked: Some(now + c.blocks_for) };
        }
    }
}

impl Reputation {
    fn pass(&mut self, now: Instant) {
        let passed = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        (self.is, self.since) = ((self.is + passed.div_duration_f64(FORGETS)).min(1.0), Some(now));
    }

    fn is_blocked(&self, now: Instant) -> bool {
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

    fn words(self, wait: Duration) -> String {
        match self {
            Wording::Unusual => "421 4.7.28 We have detected an unusual rate of mail from your IP address".into(),
            Wording::Volume => "421 4.7.0 [TSS04] Messages from 192.0.2.1 deferred due to unexpected volume".into(),
            Wording::TooMuch => "450 4.7.1 Error: too much mail from 192.0.2.1".into(),
            Wording::Named => {
                format!("451 4.7.1 Rate limit exceeded, try again in {} seconds", wait.as_secs() + 1)
            }
            Wording::Hourly => "452 4.7.1 Too many recipients received this hour".into(),
            Wording::SlowDown => "451 4.7.1 You are sending too fast, slow down".into(),
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

    fn code(answer: &Answer) -> &str {
        match answer {
            Answer::Well => "well",
            Answer::Say(text) => &text[..3],
            Answer::Cut => "cut",
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_quota_slides_and_who_goes_on_beyond_it_is_blocked() {
        let site = site(character());
        let mail = |n| code(&site.step(Step::Mail, n, 1)).to_owned();
        assert_eq!([mail(1), mail(2), mail(3)], ["well"; 3]);
        tokio::time::advance(MINUTE - Duration::from_secs(1)).await;
        assert_eq!(mail(4), "451");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(mail(4), "well");
        // The patience is for two.
        assert_eq!([mail(5), mail(6), mail(7)], ["well", "well", "451"]);
        assert_eq!(mail(8), "554");
        tokio::time::advance(10 * MINUTE).await;
        assert_eq!(mail(8), "well");
        let ledger = site.ledger();
        assert_eq!(
            (ledger.blocked.len(), ledger.refused[&Refusal::Rate], ledger.refused[&Refusal::Reputation]),
            (3, 2, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn connections_and_what_they_carry_are_counted() {
        let site = site(character());
        assert_eq!([site.enter(), site.enter()], [Answer::Well, Answer::Well]);
        assert_eq!(code(&site.enter()), "421");
        site.exit();
        site.exit();
        assert_eq!(site.enter(), Answer::Well);
        assert_eq!([site.step(Step::Mail, 1, 3), site.step(Step::Rcpt, 1, 3)], [Answer::Well, Answer::Well]);
        assert_eq!(code(&site.step(Step::Mail, 2, 4)), "421");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_is_to_come_again_and_then_is_known() {
        let site = site(Character { greylist: Some(5 * MINUTE), ..character() });
        let rcpt = || {
            site.step(Step::Mail, 1, 1);
            code(&site.step(Step::Rcpt, 1, 1)).to_owned()
        };
        assert_eq!(rcpt(), "450");
        tokio::time::advance(5 * MINUTE).await;
        assert_eq!(rcpt(), "well");
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
