//! The state of one site: what is open, how fast it goes, and what the site has said. A machine: it is told what happens
//! and when, and answers what may be done.
//!
//! It begins with few connections and gains one with each full round of accepted mails; a word against the traffic halves
//! what is, or sets what the data says, and half an hour of quiet gives one step back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base::Reply;
use tokio::time::Instant;

use super::hint::{Action, Delays, Hint, on_one_line};
use super::policy::{Family, Figures, Policy, TlsLevel};
use super::rate::Pace;

/// After this long without a word against us, one step back up.
const QUIET: Duration = Duration::from_secs(30 * 60);
/// The rate is not halved further than to this share.
const LEAST: f64 = 1.0 / 64.0;
/// How long figures hold when the data names no time.
const SLOW: Duration = Duration::from_secs(30 * 60);
/// Replies that count together ("3/h").
const HOUR: Duration = Duration::from_secs(3600);
/// A mail that did nothing wrong, and needs only another connection or transaction.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Sender domains that one site can make wait. Beyond them the site waits as a whole.
const SENDERS: usize = 100;
/// A 5xx that means "later" is believed so many times.
const KEPT: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Site {
    policy: Arc<Policy>,
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
}

#[derive(Debug)]
struct Slowed {
    until: Instant,
    connections: Option<usize>,
    messages: Option<u32>,
    sends: Vec<Pace>,
    connects: Vec<Pace>,
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
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        let limits = &policy.limits;
        Site {
            open: 0,
            limit: limits.start_connections,
            round: 0,
            share: 1.0,
            sends: paces(&limits.rate),
            connects: paces(&limits.connection_rate),
            slowed: None,
            paused: None,
            senders: HashMap::new(),
            said: HashMap::new(),
            quiet_since: None,
            recipients: limits.recipients,
            tls: limits.tls,
            family: limits.family,
            policy,
        }
    }

    pub(crate) fn tls(&self) -> TlsLevel {
        self.tls
    }

    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// How long a connection waits for more.
    pub(crate) fn idle(&self) -> Duration {
        self.policy.limits.idle
    }

    /// Recipients of one transaction.
    pub(crate) fn recipients(&self) -> usize {
        self.recipients
    }

    /// Messages on one connection.
    pub(crate) fn messages(&self) -> u32 {
        let less = self.slowed.as_ref().and_then(|s| s.messages);
        less.map_or(self.policy.limits.messages, |n| n.min(self.policy.limits.messages))
    }

    /// Whether there may be a connection more. How fast they may follow each other is another matter
    /// ([`Site::connect`]).
    pub(crate) fn may_connect(&mut self, now: Instant) -> MayConnect {
        self.pass(now);
        let most = self.slowed.as_ref().and_then(|s| s.connections).map_or(self.limit, |n| n.min(self.limit));
        if self.open < most { MayConnect::Yes } else { MayConnect::Full }
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

    /// Who entered connects now, or must wait for so long first.
    pub(crate) fn connect(&mut self, now: Instant) -> Result<(), Duration> {
        self.pass(now);
        let pause = self.pause(now).unwrap_or_default();
        let slower = self.slowed.as_mut().map(|s| &mut s.connects);
        let wait = slower.as_ref().map_or(Duration::ZERO, |s| longest(s, 1.0, now));
        let wait = longest(&self.connects, 1.0, now).max(wait).max(pause);
        if !wait.is_zero() {
            return Err(wait);
        }
        slower.into_iter().flatten().chain(&mut self.connects).for_each(|p| p.take(1.0, now));
        Ok(())
    }

    /// A mail from `sender`, a domain, goes out now, or waits.
    pub(crate) fn send(&mut self, sender: &str, now: Instant) -> Result<(), Hold> {
        self.pass(now);
        if let Some(until) = self.senders.get(sender).filter(|until| **until > now) {
            return Err(Hold::Sender(until.saturating_duration_since(now)));
        }
        let pause = self.pause(now).unwrap_or_default();
        let slower = self.slowed.as_mut().map(|s| &mut s.sends);
        let wait = slower.as_ref().map_or(Duration::ZERO, |s| longest(s, 1.0, now));
        let wait = longest(&self.sends, self.share, now).max(wait).max(pause);
        if !wait.is_zero() {
            return Err(Hold::Site(wait));
        }
        slower.into_iter().flatten().for_each(|p| p.take(1.0, now));
        self.sends.iter_mut().for_each(|p| p.take(self.share, now));
        Ok(())
    }

    /// Between mails that go as fast as they may; zero when nothing is said about it.
    pub(crate) fn interval(&self) -> Duration {
        let slower = self.slowed.iter().flat_map(|s| &s.sends).map(|p| p.interval(1.0));
        self.sends.iter().map(|p| p.interval(self.share)).chain(slower).max().unwrap_or_default()
    }

    /// The site took a mail. True when it may have a connection more than before.
    pub(crate) fn accepted(&mut self, now: Instant) -> bool {
        self.pass(now);
        self.round += 1;
        if self.round < self.limit || self.limit >= self.policy.limits.connections {
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
        (self.limit, self.round) = (self.policy.limits.start_connections, 0);
    }

    /// The site refused a mail from `sender`, a domain, after `attempts` others. What its reply says about the traffic is
    /// done; what it says about the mail is the answer.
    pub(crate) fn heard(
        &mut self,
        reply: &Reply,
        sender: &str,
        attempts: u32,
        delays: &Delays,
        now: Instant,
    ) -> Course {
        self.pass(now);
        let (text, policy) = (on_one_line(reply), self.policy.clone());
        let Some((place, hint)) = policy.hints.iter().enumerate().find(|(_, h)| h.fits(reply, &text)) else {
            return Course::default();
        };
        if !self.counts(place, hint, now) {
            return Course { keep: hint.keep && attempts < KEPT, ..Course::default() };
        }
        let time = delays.named(&text).filter(|_| reply.is_transient()).or(hint.time());
        if hint.alert {
            let (site, about) = (policy.id.as_deref().unwrap_or("unknown"), &hint.about);
            tracing::warn!(site, %reply, about, "a site wants something that only its postmaster and you can settle");
        }
        let course = self.act(hint, time, sender, now);
        Course { keep: hint.keep && attempts < KEPT, ..course }
    }

    fn act(&mut self, hint: &Hint, time: Option<Duration>, sender: &str, now: Instant) -> Course {
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
                self.senders.retain(|_, until| *until > now);
                if self.senders.len() < SENDERS {
                    self.senders.insert(sender.into(), now + wait);
                } else {
                    self.paused = self.paused.max(Some(now + wait));
                }
                waits(Some(wait), false)
            }
            Action::Slow => {
                self.slow(&hint.set, time.unwrap_or(SLOW), now);
                waits(None, true)
            }
            Action::DeferRecipient | Action::DeferMessage => waits(time, false),
            Action::StopMessage => Course { stop: true, ..Course::default() },
            Action::NewConnection => waits(Some(AT_ONCE), true),
            Action::Split => {
                self.recipients = (self.recipients / 2).max(1);
                waits(Some(AT_ONCE), false)
            }
            Action::UseTls => {
                self.tls = TlsLevel::Encrypt;
                waits(Some(AT_ONCE), true)
            }
            Action::UseV4 => {
                self.family = Family::V4Only;
                waits(Some(AT_ONCE), true)
            }
        }
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
        self.against(now);
        let paces = |rates: &Option<Vec<super::policy::Text<super::rate::Rate>>>| {
            rates.iter().flatten().map(|r| Pace::new(r.0)).collect::<Vec<_>>()
        };
        let slowed = Slowed {
            until: now + time,
            connections: set.connections.map(|n| n.max(1)),
            messages: set.messages.map(|n| n.max(1)),
            sends: paces(&set.rate),
            connects: paces(&set.connection_rate),
        };
        let sets_nothing = slowed.connections.is_none()
            && slowed.messages.is_none()
            && slowed.sends.is_empty()
            && slowed.connects.is_empty();
        if sets_nothing {
            (self.limit, self.round) = ((self.limit / 2).max(1), 0);
            self.share = (self.share / 2.0).max(LEAST);
        } else {
            self.slowed = Some(slowed);
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
        while self.share < 1.0
            && let Some(since) = self.quiet_since.filter(|since| now.saturating_duration_since(*since) >= QUIET)
        {
            self.share = (self.share * 2.0).min(1.0);
            self.quiet_since = Some(since + QUIET);
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
            && self.sends.iter().chain(&self.connects).all(|p| p.is_at_rest(now))
            && (self.recipients, self.tls, self.family)
                == (self.policy.limits.recipients, self.policy.limits.tls, self.policy.limits.family)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::Policies;
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    struct Rig {
        site: Site,
        policies: Policies,
    }

    impl Rig {
        fn of(host: &str) -> Self {
            let policies = Policies::shipped().unwrap();
            Rig { site: Site::new(policies.of_host(host).clone()), policies }
        }

        fn hear(&mut self, code: u16, text: &'static str) -> Course {
            self.hear_of("example.test", Reply::plain(code, text))
        }

        fn hear_of(&mut self, sender: &str, reply: Reply) -> Course {
            self.site.heard(&reply, sender, 0, &self.policies.delays, Instant::now())
        }

        fn send(&mut self) -> Result<(), Hold> {
            self.site.send("example.test", Instant::now())
        }

        /// Opens as many connections as may be.
        fn fill(&mut self) -> usize {
            while self.site.may_connect(Instant::now()) == MayConnect::Yes {
                self.site.enter();
            }
            self.site.open
        }

        /// A full round of mails, and one more, is accepted.
        fn round(&mut self) {
            let n = self.site.limit;
            (0..n).for_each(|_| _ = self.site.accepted(Instant::now()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_full_round_gives_a_connection_more_up_to_the_sites_limit() {
        let mut rig = Rig::of("aspmx.l.google.com");
        let mut seen = vec![rig.fill()];
        for _ in 0..5 {
            rig.round();
            seen.push(rig.fill());
        }
        assert_eq!(seen, [2, 3, 4, 5, 5, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_against_us_halves_and_quiet_gives_back() {
        let mut rig = Rig::of("mx.example.org");
        (0..8).for_each(|_| rig.round());
        assert_eq!(rig.fill(), 10);
        rig.site.open = 0;
        let interval = rig.site.interval();
        // The data says: act from the third on.
        for _ in 0..2 {
            assert_eq!(rig.hear(450, "You are sending too fast, slow down"), Course::default());
        }
        assert_eq!(rig.fill(), 10);
        rig.site.open = 0;
        assert!(rig.hear(450, "You are sending too fast, slow down").close);
        assert_eq!(rig.fill(), 5);
        assert_eq!(rig.site.interval(), interval * 2);
        advance(29 * MINUTE).await;
        assert!(rig.send().is_ok());
        assert_eq!(rig.site.interval(), interval * 2);
        advance(MINUTE).await;
        assert!(rig.send().is_ok());
        assert_eq!(rig.site.interval(), interval);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_the_text_names_is_kept() {
        let mut rig = Rig::of("mx.example.org");
        let course = rig.hear(421, "4.7.1 too many recipients this hour, try again in 300 seconds");
        assert_eq!(course.wait, Some(5 * MINUTE));
        assert_eq!(rig.site.pause(Instant::now()), Some(5 * MINUTE));
        assert_eq!(rig.send(), Err(Hold::Site(5 * MINUTE)));
        advance(5 * MINUTE - Duration::from_millis(1)).await;
        assert!(rig.send().is_err());
        advance(Duration::from_millis(1)).await;
        assert!(rig.send().is_ok());
        assert_eq!(rig.site.pause(Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_of_a_hint_hold_for_their_time() {
        let mut rig = Rig::of("aspmx.l.google.com");
        let reply = || Reply::new(421, 7, 28, "Gmail has detected an unusual rate of mail");
        assert_eq!(rig.hear_of("example.test", reply()), Course::default());
        assert!(rig.hear_of("example.test", reply()).close);
        // 10 a minute: the second waits six seconds.
        assert!(rig.send().is_ok());
        assert_eq!(rig.send(), Err(Hold::Site(Duration::from_secs(6))));
        advance(30 * MINUTE).await;
        assert!(rig.send().is_ok() && rig.send().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn one_sender_waits_and_the_others_do_not() {
        let mut rig = Rig::of("aspmx.l.google.com");
        rig.hear_of("bad.test", Reply::new(421, 7, 26, "This mail is unauthenticated"));
        let now = Instant::now();
        assert_eq!(rig.site.send("bad.test", now), Err(Hold::Sender(60 * MINUTE)));
        assert!(rig.site.send("good.test", now).is_ok());
        // Nobody fills our memory with senders.
        for n in 0..10 * SENDERS {
            rig.hear_of(&format!("{n}.test"), Reply::new(421, 7, 26, "This mail is unauthenticated"));
        }
        assert_eq!(rig.site.senders.len(), SENDERS);
        assert!(rig.site.send("good.test", now).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_5xx_that_means_later_is_kept_three_times() {
        let mut rig = Rig::of("mx.mail.protection.outlook.com");
        let reply = Reply::new(550, 2, 121, "Recipient's per hour message receive limit exceeded");
        for attempts in 0..5 {
            let course = rig.site.heard(&reply, "a.test", attempts, &rig.policies.delays, Instant::now());
            assert_eq!(course.keep, attempts < KEPT, "{attempts}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_follow_each_other_no_faster_than_they_may() {
        let mut rig = Rig::of("mx.example.org");
        let start = Instant::now();
        let mut n = 0;
        while Instant::now() < start + MINUTE {
            match rig.site.connect(Instant::now()) {
                Ok(()) => n += 1,
                Err(wait) => advance(wait).await,
            }
        }
        assert!((90..=100).contains(&n), "{n}");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_recipients_makes_transactions_smaller() {
        let mut rig = Rig::of("mx.example.org");
        let before = rig.site.recipients();
        assert_eq!(rig.hear_of("a.test", Reply::new(452, 5, 3, "Too many recipients")).wait, Some(AT_ONCE));
        assert_eq!(rig.site.recipients(), before / 2);
        (0..20).for_each(|_| _ = rig.hear_of("a.test", Reply::new(452, 5, 3, "Too many recipients")));
        assert_eq!(rig.site.recipients(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_is_forgotten_when_nothing_would_be_lost() {
        let mut rig = Rig::of("mx.example.org");
        assert!(rig.site.is_at_rest(Instant::now()));
        assert!(rig.send().is_ok());
        assert!(!rig.site.is_at_rest(Instant::now()));
        advance(MINUTE).await;
        assert!(rig.site.is_at_rest(Instant::now()));
        rig.hear(421, "too many recipients this hour");
        assert!(!rig.site.is_at_rest(Instant::now()));
        advance(61 * MINUTE).await;
        assert!(rig.site.is_at_rest(Instant::now()));
    }
}
