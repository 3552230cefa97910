//! The state of one site: what is open, how fast it goes, and what the site has said. A machine: it is told what happens
//! and when, and answers what may be done.
//!
//! It begins with few connections and gains one with each full round of accepted mails. From a word against the traffic it
//! learns how many mails the site bears, and does what the data says: halves what is, or sets other figures; half an hour of
//! quiet gives one step back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::Stream;
use tokio::time::Instant;

use super::flight::Ticket;
use super::hint::{Action, Hint};
use super::learn::Learned;
use super::policy::{Family, Figures, Limits, Policy, TlsLevel};
use super::rate::{Pace, kept};
use super::used::{self, Slow, Used, What};

/// After this long without a word against us, one step back up.
const QUIET: Duration = Duration::from_secs(30 * 60);
/// The rate is not halved further than to this share.
const LEAST: f64 = 1.0 / 64.0;
/// How long figures hold when the data names no time.
const SLOW: Duration = Duration::from_secs(30 * 60);
/// Replies that count together ("3/h").
const HOUR: Duration = Duration::from_secs(3600);
/// A mail that did nothing wrong, and needs only another connection or transaction; but not for ever.
const AT_ONCE: Duration = Duration::from_secs(1);
const OFTEN: u32 = 3;
/// One moment's words against us, from however many connections, halve once.
const MOMENT: Duration = Duration::from_secs(60);
/// What a site said about TLS, addresses and recipients is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// A reply may name so many times what the data says, or an hour.
const AT_MOST: u32 = 4;
/// Sender domains that one site can make wait; beyond them whoever has waited longest is let go.
const SENDERS: usize = 100;
/// A 5xx that means "later" is believed so many times.
const KEPT: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    policy: Arc<Policy>,
    /// The policy's, and what the operator put in their place.
    limits: Limits,
    /// Connections that are open or being made.
    open: usize,
    /// As many as may be.
    limit: usize,
    /// Mails accepted since `limit` was last changed.
    round: usize,
    /// Of the rate that the policy allows.
    share: f64,
    sends: Vec<Pace>,
    connects: Vec<Pace>,
    /// What its refusals tell of the mails it bears.
    bears: Learned,
    /// Figures that hold for a while.
    slowed: Option<Slowed>,
    paused: Option<Instant>,
    /// Sender domains that wait.
    senders: HashMap<Box<str>, Instant>,
    /// When what is acted upon only after a few times was said, by the hint's place.
    said: HashMap<usize, VecDeque<Instant>>,
    /// The last word against us, or the last step back.
    quiet_since: Option<Instant>,
    recipients: usize,
    tls: TlsLevel,
    family: Family,
    /// These three hold until then, if they are not what the policy says.
    learned: Option<Instant>,
}

#[derive(Debug)]
struct Slowed {
    until: Instant,
    connections: Option<usize>,
    messages: Option<u32>,
    sends: Vec<Pace>,
    connects: Vec<Pace>,
}

impl Slowed {
    /// From now on.
    fn of(figures: &Slow, until: Instant, now: Instant) -> Self {
        let begun = |rate: &super::rate::Rate| {
            let mut pace = Pace::new(*rate);
            // The mail that was too much counts: else each complaint would let the next go at once.
            pace.take(1.0, now);
            pace
        };
        Slowed {
            until,
            connections: figures.connections,
            messages: figures.messages,
            sends: figures.sends.iter().map(begun).collect(),
            connects: figures.connects.iter().map(begun).collect(),
        }
    }

    fn figures(&self) -> Slow {
        let rates = |paces: &[Pace]| paces.iter().map(Pace::rate).collect();
        let (sends, connects) = (rates(&self.sends), rates(&self.connects));
        Slow { connections: self.connections, messages: self.messages, sends, connects }
    }

    /// Of both the stricter, and for as long as either.
    fn add(&mut self, other: Slowed) {
        let stricter = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        self.until = self.until.max(other.until);
        self.connections = stricter(self.connections, other.connections);
        self.messages = self.messages.into_iter().chain(other.messages).min();
        for (ours, theirs) in [(&mut self.sends, other.sends), (&mut self.connects, other.connects)] {
            for pace in theirs {
                match ours.iter_mut().find(|known| known.rate() == pace.rate()) {
                    Some(known) => known.catch_up(&pace),
                    None => ours.push(pace),
                }
            }
        }
    }
}

/// What a site said about the traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    /// The place of the hint that fits ([`Policy::hint`]).
    pub(crate) hint: usize,
    /// The wait that the reply names, if it is a transient one.
    pub(crate) wait: Option<Duration>,
    /// The domain of the mail's sender, if he is one of ours.
    pub(crate) sender: Option<&'a str>,
    /// The mail that it answered; none where it answered a connection.
    pub(crate) mail: Option<Ticket>,
    /// So many attempts of the mail came before.
    pub(crate) attempts: u32,
}

/// Whether a connection more may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayConnect {
    Yes,
    /// When another ends.
    Full,
}

/// Why a mail does not go out now, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// No mail does.
    Site(Duration),
    /// No mail of its sender's domain does.
    Sender(Duration),
}

/// What a reply means for the mail that it answers, beside what its code says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// The next attempt is due then, whatever the schedule says.
    pub(crate) wait: Option<Duration>,
    /// There is none, whatever the code says.
    pub(crate) stop: bool,
    /// There is one, whatever the code says.
    pub(crate) keep: bool,
    /// The connection has served.
    pub(crate) close: bool,
}

fn paces(rates: &[super::rate::Rate]) -> Vec<Pace> {
    rates.iter().copied().map(Pace::new).collect()
}

fn longest(paces: &[Pace], share: f64, now: Instant) -> Duration {
    paces.iter().map(|p| p.wait(share, now)).max().unwrap_or_default()
}

impl Site {
    pub(crate) fn new(policy: Arc<Policy>, limits: Limits) -> Self {
        Site {
            open: 0,
            limit: limits.start_connections,
            round: 0,
            share: 1.0,
            sends: paces(&limits.rate),
            connects: paces(&limits.connection_rate),
            bears: Learned::new(!policy.hints.is_empty()),
            slowed: None,
            paused: None,
            senders: HashMap::new(),
            said: HashMap::new(),
            quiet_since: None,
            recipients: limits.recipients,
            tls: limits.tls,
            family: limits.family,
            learned: None,
            policy,
            limits,
        }
    }

    /// From now on these are its limits. What was learned stays.
    pub(crate) fn govern(&mut self, limits: Limits) {
        if self.limits == limits {
            return;
        }
        (self.sends, self.connects) = (kept(&limits.rate, &self.sends), kept(&limits.connection_rate, &self.connects));
        if limits.start_connections > self.limits.start_connections {
            self.limit = self.limit.max(limits.start_connections);
        }
        self.limit = self.limit.min(limits.connections);
        if self.learned.is_some() {
            (self.recipients, self.tls) = (self.recipients.min(limits.recipients), self.tls.max(limits.tls));
        } else {
            (self.recipients, self.tls, self.family) = (limits.recipients, limits.tls, limits.family);
        }
        self.limits = limits;
    }

    pub(crate) fn tls(&self) -> TlsLevel {
        self.tls
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// How long a connection waits for more.
    pub(crate) fn idle(&self) -> Duration {
        self.limits.idle
    }

    /// Recipients of one transaction.
    pub(crate) fn recipients(&self) -> usize {
        self.recipients
    }

    /// Messages on one connection.
    pub(crate) fn messages(&self) -> u32 {
        let less = self.slowed.as_ref().and_then(|s| s.messages);
        less.map_or(self.limits.messages, |n| n.min(self.limits.messages))
    }

    /// The limits in force, but for what was learned.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Connections that are open or being made.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// And how many there may be.
    pub(crate) fn may_open(&mut self, now: Instant) -> usize {
        self.pass(now);
        self.slowed.as_ref().and_then(|s| s.connections).map_or(self.limit, |n| n.min(self.limit))
    }

    /// What the site taught, in words.
    pub(crate) fn learned(&mut self, now: Instant) -> Vec<String> {
        self.pass(now);
        let mut all: Vec<String> = self.bears.words().into_iter().collect();
        if let Some(slowed) = &self.slowed {
            let rates = slowed.sends.iter().map(|pace| format!("{} mails", pace.rate()));
            let connects = slowed.connects.iter().map(|pace| format!("{} connections", pace.rate()));
            let open = slowed.connections.iter().map(|n| format!("{n} connections at once"));
            let messages = slowed.messages.iter().map(|n| format!("{n} mails on a connection"));
            let figures: Vec<String> = rates.chain(connects).chain(open).chain(messages).collect();
            let seconds = slowed.until.saturating_duration_since(now).as_secs();
            all.push(format!("slowed to {} for {seconds} s", figures.join(", ")));
        }
        if self.share < 1.0 {
            all.push(format!("its rate is lowered to 1/{:.0}", 1.0 / self.share));
        }
        if self.learned.is_some() {
            let (tls, family) = (self.tls.word(), self.family.word());
            all.push(format!("{} recipients in a transaction, TLS {tls}, addresses {family}", self.recipients));
        }
        all.extend(
            self.senders
                .iter()
                .filter(|(_, until)| **until > now)
                .map(|(sender, until)| used::nothing_from(sender, until.saturating_duration_since(now))),
        );
        all
    }

    /// Whether there may be a connection more. How fast they may follow each other is another matter
    /// ([`Site::connect`]).
    pub(crate) fn may_connect(&mut self, now: Instant) -> MayConnect {
        if self.open < self.may_open(now) { MayConnect::Yes } else { MayConnect::Full }
    }

    /// How long the site is still left alone.
    pub(crate) fn pause(&self, now: Instant) -> Option<Duration> {
        self.paused.map(|until| until.saturating_duration_since(now)).filter(|wait| !wait.is_zero())
    }

    /// Somebody is about to connect.
    pub(crate) fn enter(&mut self) {
        self.open += 1;
    }

    /// And no longer is connected.
    pub(crate) fn exit(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Who entered connects now, to carry mail of a stream, or must wait for so long first.
    pub(crate) fn connect(&mut self, stream: Stream, now: Instant) -> Result<(), Duration> {
        self.pass(now);
        let pause = self.pause(now).unwrap_or_default();
        // Nor is one of use that could carry nothing yet.
        let sends = self.slowed.as_ref().map_or(Duration::ZERO, |s| longest(&s.sends, 1.0, now));
        let sends = longest(&self.sends, self.share, now).max(self.bears.wait(stream, now)).max(sends);
        let slower = self.slowed.as_mut().map(|s| &mut s.connects);
        let wait = slower.as_ref().map_or(sends, |s| longest(s, 1.0, now).max(sends));
        let wait = longest(&self.connects, 1.0, now).max(wait).max(pause);
        if !wait.is_zero() {
            return Err(wait);
        }
        slower.into_iter().flatten().chain(&mut self.connects).for_each(|p| p.take(1.0, now));
        Ok(())
    }

    /// Mail of a stream waits until mail that is no less urgent is answered, as little is known of the site.
    pub(crate) fn awaits(&self, stream: Stream, now: Instant) -> bool {
        self.bears.awaits(stream, now)
    }

    /// A mail of a stream from `sender`, a domain, goes out now, or waits. What comes of it is told with its ticket: [`Site::unsent`],
    /// [`Site::unanswered`], [`Site::answered`], [`Site::accepted`] or [`Site::heard`].
    pub(crate) fn send(&mut self, (sender, stream): (&str, Stream), now: Instant) -> Result<Ticket, Hold> {
        self.pass(now);
        if let Some(until) = self.senders.get(sender).filter(|until| **until > now) {
            return Err(Hold::Sender(until.saturating_duration_since(now)));
        }
        let pause = self.pause(now).unwrap_or_default();
        let slower = self.slowed.as_mut().map(|s| &mut s.sends);
        let wait = slower.as_ref().map_or(Duration::ZERO, |s| longest(s, 1.0, now));
        let wait = longest(&self.sends, self.share, now).max(self.bears.wait(stream, now)).max(wait).max(pause);
        if !wait.is_zero() {
            return Err(Hold::Site(wait));
        }
        slower.into_iter().flatten().for_each(|p| p.take(1.0, now));
        self.sends.iter_mut().for_each(|p| p.take(self.share, now));
        Ok(self.bears.sent(stream, now))
    }

    /// A mail that was to go out did not, as its connection had been closed.
    pub(crate) fn unsent(&mut self, mail: Ticket) {
        self.bears.unsent(mail);
    }

    /// The connection ended before a mail was answered.
    pub(crate) fn unanswered(&mut self, mail: Ticket, now: Instant) {
        self.bears.unanswered(mail, now);
    }

    /// A mail was refused for what it is.
    pub(crate) fn answered(&mut self, mail: Ticket, now: Instant) {
        self.bears.failed(mail, now);
    }

    /// The site is known to count our mails: it gets none more than it must.
    pub(crate) fn counts_ours(&self) -> bool {
        self.bears.is_limited()
    }

    /// Between mails that go as fast as they may; zero when nothing is said about it.
    pub(crate) fn interval(&self) -> Duration {
        let slower = self.slowed.iter().flat_map(|s| &s.sends).map(|p| p.interval(1.0));
        let paces = self.sends.iter().map(|p| p.interval(self.share)).chain(slower);
        paces.chain([self.bears.interval()]).max().unwrap_or_default()
    }

    /// The site took a mail. True when it may have a connection more than before.
    pub(crate) fn accepted(&mut self, mail: Ticket, now: Instant) -> bool {
        self.pass(now);
        self.bears.passed(mail, now);
        self.round += 1;
        if self.round < self.limit || self.limit >= self.limits.connections {
            return false;
        }
        (self.limit, self.round) = (self.limit + 1, 0);
        true
    }

    /// A connection was refused while others are open or tried: it was one too many.
    pub(crate) fn overrun(&mut self) {
        (self.limit, self.round) = (self.open.saturating_sub(1).max(1), 0);
    }

    /// Nobody answers there: unless others are open, it begins anew.
    pub(crate) fn lost(&mut self) {
        if self.open > 1 {
            return;
        }
        (self.limit, self.round) = (self.limits.start_connections, 0);
    }

    /// How it is treated when nothing is known of it but its name.
    pub(crate) fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The site said this about the traffic. What it says is done; what it means for the mail that it answered is the answer.
    pub(crate) fn heard(&mut self, words: &Words<'_>, now: Instant) -> Course {
        self.pass(now);
        let policy = self.policy.clone();
        let Some(hint) = policy.hints.get(words.hint) else { return Course::default() };
        let keep = hint.keep && words.attempts < KEPT;
        let most = hint.time().map_or(HOUR, |time| (time * AT_MOST).max(HOUR));
        let named = words.wait.map(|wait| wait.min(most));
        let turn = words.mail.and_then(|mail| self.learn(mail, hint, named, now));
        if !self.counts(words.hint, hint, now) {
            return Course { keep, wait: turn, ..Course::default() };
        }
        let course = self.act(hint, named.or(hint.time()), words, now);
        Course { keep: course.keep || keep, wait: course.wait.max(turn), ..course }
    }

    /// What is learned from the first word, however often the data wants to hear it. Gives when the mail has its turn.
    fn learn(&mut self, mail: Ticket, hint: &Hint, named: Option<Duration>, now: Instant) -> Option<Duration> {
        if !hint.is_about_rate() {
            self.bears.passed(mail, now);
            return None;
        }
        let wait = self.bears.refused(mail, named.or(hint.pause()), now);
        Some(wait.max(named.unwrap_or_default())).filter(|wait| !wait.is_zero())
    }

    fn act(&mut self, hint: &Hint, time: Option<Duration>, words: &Words<'_>, now: Instant) -> Course {
        let at_once = || (words.attempts < OFTEN).then_some(AT_ONCE);
        let waits = |wait, close| Course { wait, close, ..Course::default() };
        match hint.action {
            Action::PauseSite => {
                let wait = time.unwrap_or(SLOW);
                self.against(now);
                self.paused = self.paused.max(Some(now + wait));
                waits(Some(wait), true)
            }
            Action::PauseSender => {
                let wait = time.unwrap_or(SLOW);
                // Else whoever writes in our name to an address that is forwarded stops our mail.
                if let Some(sender) = words.sender {
                    self.pause_sender(sender, now + wait, now);
                }
                waits(Some(wait), false)
            }
            Action::Slow => {
                self.slow(&hint.set, time.unwrap_or(SLOW), now);
                waits(None, true)
            }
            Action::DeferRecipient | Action::DeferMessage => waits(time, false),
            Action::StopMessage => Course { stop: true, ..Course::default() },
            Action::NewConnection => waits(at_once(), true),
            Action::Split => {
                let before = self.recipients;
                self.recipients = (before / 2).max(1);
                self.learned = Some(now + REMEMBERED);
                waits(at_once().filter(|_| before > self.recipients), false)
            }
            Action::UseTls => {
                let before = self.tls;
                self.tls = before.max(TlsLevel::Encrypt);
                self.learned = Some(now + REMEMBERED);
                waits(at_once().filter(|_| before < self.tls), true)
            }
            Action::UseV4 => {
                let before = std::mem::replace(&mut self.family, Family::V4Only);
                self.learned = Some(now + REMEMBERED);
                let changed = before != self.family;
                Course { keep: changed, ..waits(at_once().filter(|_| changed), true) }
            }
        }
    }

    fn pause_sender(&mut self, sender: &str, until: Instant, now: Instant) {
        self.senders.retain(|_, until| *until > now);
        if self.senders.len() >= SENDERS && !self.senders.contains_key(sender) {
            let first = self.senders.iter().min_by_key(|(_, until)| **until).map(|(sender, _)| sender.clone());
            first.map(|first| self.senders.remove(&first));
        }
        let known = self.senders.entry(sender.into()).or_insert(until);
        *known = until.max(*known);
    }

    /// Whether a hint was heard often enough to be acted upon.
    fn counts(&mut self, place: usize, hint: &Hint, now: Instant) -> bool {
        let Some(often) = hint.after.as_ref().map(|o| o.0.0) else { return true };
        let said = self.said.entry(place).or_default();
        said.retain(|at| now.saturating_duration_since(*at) < HOUR);
        said.push_back(now);
        if said.len() > often {
            said.pop_front();
        }
        said.len() >= often
    }

    /// The figures for a while, or half of what is.
    fn slow(&mut self, set: &Figures, time: Duration, now: Instant) {
        let said_before = self.quiet_since.is_some_and(|since| now.saturating_duration_since(since) < MOMENT);
        self.against(now);
        let rates = |rates: &Option<Vec<super::policy::Text<super::rate::Rate>>>| {
            rates.iter().flatten().map(|rate| rate.0).collect::<Vec<_>>()
        };
        let figures = Slow {
            connections: set.connections.map(|n| n.max(1)),
            messages: set.messages.map(|n| n.max(1)),
            sends: rates(&set.rate),
            connects: rates(&set.connection_rate),
        };
        let slowed = Slowed::of(&figures, now + time, now);
        let sets_nothing = slowed.connections.is_none()
            && slowed.messages.is_none()
            && slowed.sends.is_empty()
            && slowed.connects.is_empty();
        if sets_nothing && said_before {
            return;
        }
        if sets_nothing {
            (self.limit, self.round) = ((self.limit / 2).max(1), 0);
            self.share = (self.share / 2.0).max(LEAST);
        } else {
            self.slow_down(slowed);
        }
    }

    fn slow_down(&mut self, slowed: Slowed) {
        match &mut self.slowed {
            Some(before) => before.add(slowed),
            None => self.slowed = Some(slowed),
        }
    }

    fn against(&mut self, now: Instant) {
        self.quiet_since = Some(now);
    }

    /// What time alone changes.
    fn pass(&mut self, now: Instant) {
        self.paused = self.paused.filter(|until| *until > now);
        if self.slowed.as_ref().is_some_and(|s| s.until <= now) {
            self.slowed = None;
        }
        if self.learned.is_some_and(|until| until <= now) {
            let limits = &self.limits;
            (self.recipients, self.tls, self.family) = (limits.recipients, limits.tls, limits.family);
            self.learned = None;
        }
        while self.share < 1.0
            && let Some(since) = self.quiet_since.filter(|since| now.saturating_duration_since(*since) >= QUIET)
        {
            self.share = (self.share * 2.0).min(1.0);
            self.quiet_since = Some(since + QUIET);
        }
    }

    /// What is to be known of it when this server is another. `next` is when it is asked again.
    pub(crate) fn used(&self, now: Instant, next: Instant) -> Vec<Used> {
        let sends = used::of_paces(&self.sends, What::Mails, self.share, [now, next]);
        let connects = used::of_paces(&self.connects, What::Connections, 1.0, [now, next]);
        let pauses = self.pauses(now).into_iter().filter_map(|(what, until)| used::of_while(what, until, now));
        let slowed = self.slowed.as_ref().and_then(|s| used::of_while(What::Slow(s.figures()), s.until, now));
        sends.chain(connects).chain(pauses).chain(slowed).collect()
    }

    /// What it does not want, and until when: any mail, or that of some senders.
    pub(crate) fn pauses(&self, now: Instant) -> Vec<(What, Instant)> {
        let senders = self.senders.iter().map(|(who, until)| (What::Sender(who.clone()), *until));
        let all = self.paused.map(|until| (What::Pause, until)).into_iter().chain(senders);
        all.filter(|(_, until)| *until > now).collect()
    }

    /// It is sent to again, whatever it asked for. What was learned of it stays.
    pub(crate) fn end_pauses(&mut self) {
        self.paused = None;
        self.senders.clear();
    }

    /// What was so before this server began, or had its source.
    pub(crate) fn resume(&mut self, what: &What, until: Instant, now: Instant) {
        match what {
            What::Mails(rate) => used::resume(&mut self.sends, *rate, until, now),
            What::Connections(rate) => used::resume(&mut self.connects, *rate, until, now),
            What::Pause => self.paused = self.paused.max(used::paused(until, now)),
            What::Sender(sender) => {
                if let Some(until) = used::paused(until, now) {
                    self.pause_sender(sender, until, now);
                }
            }
            What::Slow(figures) => {
                if let Some(until) = used::paused(until, now) {
                    self.slow_down(Slowed::of(figures, until, now));
                }
            }
        }
    }

    /// Nothing would be lost if it were forgotten.
    pub(crate) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.pass(now);
        self.open == 0
            && self.paused.is_none()
            && self.slowed.is_none()
            && self.share >= 1.0
            && self.senders.values().all(|until| *until <= now)
            && self.said.values().all(|said| said.iter().all(|at| now.saturating_duration_since(*at) >= HOUR))
            && self.learned.is_none()
            && self.bears.is_at_rest(now)
            && self.sends.iter().chain(&self.connects).all(|p| p.is_at_rest(now))
    }
}

#[cfg(test)]
mod tests;
