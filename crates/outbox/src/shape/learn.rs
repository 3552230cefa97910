//! What a site bears, learned from what it had taken when it said that it was too much.
//!
//! Sites count mails over a span of time, and say neither the number nor the span. The number is what they took until they
//! refused one. The span is found by trying: the shortest that can be is believed until the site refuses a mail although
//! fewer than the number stand in it; then it is the next. So a site is asked a few times too often, and then no more.
//!
//! Nor do they say which mails they count: one counts recipients that it does not know, another only what it took. So a mail in
//! doubt counts where we ask how much may go, and hardly where we ask how much a site bears.

use std::collections::VecDeque;
use std::time::Duration;

use base::Stream;
use tokio::time::Instant;

use super::flight::{Flight, Ticket};

/// Spans over which sites count.
const SPANS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3600)];
/// A span is counted in so many parts, so that it is known to a sixtieth.
const PARTS: u32 = 60;
/// Fewer mails than these say nothing about a number.
const FEWEST: usize = 3;
/// So many mails later a little more is tried, and each time that this fails twice as many. A try is a mail that is refused, and of
/// a site that then wants to be left alone, hours.
const AFTER: usize = 2000;
const AFTER_AT_MOST: usize = 50_000;
/// Of a site that said nothing yet so many mails may be unanswered, and one more for every so many that passed: when it says
/// that it was enough, it says so to all of them, and these are to be few of those that passed. Of each stream that is: mail waits for
/// none that is less urgent.
const AT_ONCE: usize = 1;
const MORE_AFTER: usize = 200;
/// Who takes longer for an answer than this keeps back no other.
const PROMPT: Duration = Duration::from_secs(5);
/// While an answer decides how to go on, twice as long as the last took is waited for it; not longer than this.
const DECISIVE: Duration = Duration::from_secs(60);
/// So small a part of what a site bears is given up as it is in doubt. More would cost more time than a refusal is worth.
const DOUBT: usize = 16;
/// More by this part, and each time that this does not fail by twice of it.
const STEP: f64 = 0.125;
const STEP_AT_MOST: f64 = 1.0;
/// While an answer is awaited that decides how to go on.
const SOON: Duration = Duration::from_secs(1);
/// What a site said is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// See the module.
#[derive(Debug)]
pub(super) struct Learned {
    /// One for each of [`SPANS`].
    tallies: [Tally; 3],
    flight: Flight,
    /// How long the last answer took.
    answers_in: Duration,
    /// Mails that may be unanswered at once as long as the site said nothing.
    at_once: usize,
    /// How many mails ever passed.
    passed: usize,
    limit: Option<Limit>,
}

/// So many in a span.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Of [`SPANS`].
    span: usize,
    count: usize,
    /// What the site had when it last refused one; `count` may be raised beyond it.
    heard: Mails,
    /// When it was last said.
    said: Instant,
    /// A mail that was sent since was taken, which a site that counts over the next longer span had refused.
    proven: bool,
    /// When the next may go: not all at once.
    next: Instant,
    /// Mails that passed since it was said or raised.
    passed: usize,
    after: usize,
    step: f64,
}

/// Mails that a site may have counted, and those of them that it counted for sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mails {
    all: usize,
    sure: usize,
}

impl Mails {
    fn add(&mut self, sure: bool) {
        (self.all, self.sure) = (self.all + 1, self.sure + usize::from(sure));
    }

    fn without(self, other: Mails) -> Mails {
        Mails { all: self.all - other.all, sure: self.sure - other.sure }
    }

    /// What a site bears that refused one more.
    fn borne(self) -> usize {
        self.sure.max(self.all - self.all / DOUBT)
    }
}

/// Mails that passed within a span.
#[derive(Debug)]
struct Tally {
    span: Duration,
    /// Parts of the span in which mails passed: when they began, and how many.
    parts: VecDeque<(Instant, Mails)>,
    mails: Mails,
    /// As many as ever passed within the span.
    most: usize,
}

impl Tally {
    fn new(span: Duration) -> Self {
        Tally { span, parts: VecDeque::new(), mails: Mails::default(), most: 0 }
    }

    fn part(&self) -> Duration {
        self.span / PARTS
    }

    /// When a part has left the span for sure.
    fn leaves(&self, began: Instant) -> Instant {
        began + self.part() + self.span
    }

    fn pass(&mut self, now: Instant) {
        while let Some((began, mails)) = self.parts.front().copied()
            && self.leaves(began) <= now
        {
            self.parts.pop_front();
            self.mails = self.mails.without(mails);
        }
    }

    fn add(&mut self, sure: bool, now: Instant) {
        self.pass(now);
        let part = self.part();
        if self.parts.back().is_none_or(|(began, _)| *began + part <= now) {
            self.parts.push_back((now, Mails::default()));
        }
        self.parts.back_mut().into_iter().for_each(|(_, mails)| mails.add(sure));
        self.mails.add(sure);
        self.most = self.most.max(self.mails.all);
    }

    /// Until fewer than `count` are in it.
    fn wait(&self, count: usize, now: Instant) -> Duration {
        let mut left = self.mails.all;
        let mut parts = self.parts.iter();
        while left >= count {
            let Some((began, mails)) = parts.next() else { return SOON };
            left -= mails.all;
            if left < count {
                return self.leaves(*began).saturating_duration_since(now);
            }
        }
        Duration::ZERO
    }

    /// What is in it for sure, and not at its edge.
    fn within(&self, now: Instant) -> Mails {
        let is_out = |(began, _): &&(Instant, Mails)| *began + self.span <= now;
        self.parts.iter().take_while(is_out).fold(self.mails, |mails, (_, part)| mails.without(*part))
    }

    /// The site may have counted over this span: it took some within it, and never more.
    fn may_be(&self, now: Instant) -> bool {
        let count = self.mails.all;
        self.within(now).all >= FEWEST && count + (count / 10).max(1) >= self.most
    }
}

impl Learned {
    /// Of a site that is heard. Of one that is not nothing is learned, and it need not be sounded.
    pub(super) fn new(heard: bool) -> Self {
        let at_once = if heard { AT_ONCE } else { usize::MAX };
        Learned {
            tallies: SPANS.map(Tally::new),
            flight: Flight::default(),
            answers_in: Duration::ZERO,
            at_once,
            passed: 0,
            limit: None,
        }
    }

    /// How long the next mail of a stream must wait.
    pub(super) fn wait(&mut self, stream: Stream, now: Instant) -> Duration {
        self.pass(now);
        let awaited = self.awaits(stream, now);
        let Some(limit) = &self.limit else { return if awaited { SOON } else { Duration::ZERO } };
        let tally = &self.tallies[limit.span];
        let apart = limit.next.saturating_duration_since(now);
        match () {
            () if awaited => SOON,
            () if tally.mails.all >= limit.count => tally.wait(limit.count, now).max(apart),
            // As if the site had counted it when it went out.
            () if tally.mails.all + self.flight.within(tally.span, now) >= limit.count => SOON,
            () => apart,
        }
    }

    /// Mail of a stream waits for what is said to mail that is under way. That of one that is less urgent keeps it back as little
    /// as if it were not there: it costs a refusal more at most, where a slow host costs whoever waits for the mail seconds.
    pub(super) fn awaits(&self, stream: Stream, now: Instant) -> bool {
        let before = |time| self.flight.before(stream, time, now);
        match &self.limit {
            None => before(PROMPT) >= self.at_once.saturating_add(self.passed / MORE_AFTER),
            Some(limit) => !limit.proven && before((self.answers_in * 2).clamp(PROMPT, DECISIVE)) > 0,
        }
    }

    /// Between mails that come in turn, a little faster than they may go, so that no turn is lost; zero when nothing is known.
    pub(super) fn interval(&self) -> Duration {
        self.limit.map_or(Duration::ZERO, |limit| limit.even() * 3 / 4)
    }

    /// A mail of a stream goes out.
    pub(super) fn sent(&mut self, stream: Stream, now: Instant) -> Ticket {
        if let Some(limit) = &mut self.limit {
            limit.next = now + limit.even() / 2;
        }
        self.flight.begin(stream, now)
    }

    /// It did not: the connection had been closed.
    pub(super) fn unsent(&mut self, ticket: Ticket) {
        self.flight.end(ticket);
    }

    /// The connection ended before it was answered: the site may have counted it.
    pub(super) fn unanswered(&mut self, ticket: Ticket, now: Instant) {
        self.flight.end(ticket);
        self.count(false, now);
    }

    /// What is known, in words.
    pub(super) fn words(&self) -> Option<String> {
        let Limit { count, span, proven, .. } = self.limit.as_ref()?;
        let sure = if *proven { "" } else { ", so it seems" };
        Some(format!("it takes {count} mails in {} s{sure}", SPANS[*span].as_secs()))
    }

    /// There is a number to be kept.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }

    /// It was taken, or put off for another reason than being one too many.
    pub(super) fn passed(&mut self, ticket: Ticket, now: Instant) {
        self.goes_by(ticket, true, now);
    }

    /// It failed, for what it was: the site may have counted it.
    pub(super) fn failed(&mut self, ticket: Ticket, now: Instant) {
        self.goes_by(ticket, false, now);
    }

    fn goes_by(&mut self, ticket: Ticket, sure: bool, now: Instant) {
        self.pass(now);
        let flew = self.ends(ticket, now);
        self.passed += 1;
        let on_its_way = flew && self.limit.is_some_and(|limit| ticket.sent() < limit.said);
        if let Some(limit) = self.limit.as_mut().filter(|_| !on_its_way) {
            let longer = self.tallies.get(limit.span + 1);
            let is_full = longer.is_none_or(|tally| tally.mails.sure >= limit.heard.all);
            // Where another recipient of its mail was answered before, that may be the one that was refused.
            limit.pass(flew && sure && is_full);
        }
        self.count(sure, now);
        // It was on its way when another was refused: the site bears one more than had been answered then, if those still count.
        if let Some(limit) = self.limit.as_mut().filter(|_| on_its_way)
            && self.tallies[limit.span].within(now).all > limit.heard.all
        {
            limit.count += usize::from(sure);
            limit.heard.add(sure);
        }
    }

    /// It is answered; gives whether that is its first answer.
    fn ends(&mut self, ticket: Ticket, now: Instant) -> bool {
        let flew = self.flight.end(ticket);
        if flew {
            self.answers_in = now.saturating_duration_since(ticket.sent());
        }
        flew
    }

    fn count(&mut self, sure: bool, now: Instant) {
        self.tallies.iter_mut().for_each(|tally| tally.add(sure, now));
    }

    /// The site said that it was one too many, and perhaps for how long none is to come. Gives how long the next waits.
    pub(super) fn refused(&mut self, ticket: Ticket, wait: Option<Duration>, now: Instant) -> Duration {
        self.pass(now);
        self.ends(ticket, now);
        // What was on its way when another was refused is refused for the same.
        if self.limit.is_none_or(|limit| ticket.sent() >= limit.said) {
            self.learn(wait, now);
        }
        self.wait(ticket.stream(), now)
    }

    fn learn(&mut self, wait: Option<Duration>, now: Instant) {
        let (first, before) = match &self.limit {
            Some(limit) => {
                // Before it is proven every mail counts; then not each that was counted a little earlier or later there.
                let heard = if limit.proven { limit.heard.borne() * 9 / 10 } else { limit.heard.sure };
                let refuted = self.tallies[limit.span].within(now).all < heard;
                ((limit.span + usize::from(refuted)).min(SPANS.len() - 1), Some(*limit))
            }
            None => {
                // A wait beyond all spans is a punishment: it says nothing of how long the site counts.
                let fits = |span: &Duration| wait.is_some_and(|wait| wait <= *span);
                (SPANS.iter().position(fits).unwrap_or(0), None)
            }
        };
        let found = (first..SPANS.len()).find(|span| self.tallies[*span].may_be(now));
        let Some(span) = found else {
            // It takes less than it once did: that is no number, but a mood.
            if let Some(limit) = &mut self.limit {
                limit.count = (limit.count / 2).max(FEWEST);
                limit.heard = Mails { all: limit.count, sure: limit.count };
                (limit.said, limit.proven, limit.passed) = (now, false, 0);
            }
            return;
        };
        let heard = self.tallies[span].within(now);
        let count = heard.borne();
        let again = before.filter(|b| b.span == span && b.proven && count * 10 >= b.count * 7);
        let after = again.map_or(AFTER, |b| (b.after * 2).min(AFTER_AT_MOST));
        let proven = again.is_some();
        self.limit = Some(Limit { span, count, heard, said: now, proven, next: now, passed: 0, after, step: STEP });
    }

    /// What time alone changes.
    fn pass(&mut self, now: Instant) {
        self.tallies.iter_mut().for_each(|tally| tally.pass(now));
        if self.limit.is_some_and(|limit| now.saturating_duration_since(limit.said) >= REMEMBERED) {
            self.limit = None;
        }
    }

    /// Nothing would be lost if it were forgotten.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.pass(now);
        self.limit.is_none() && self.tallies.iter().all(|tally| tally.mails.all < FEWEST)
    }
}

impl Limit {
    fn even(&self) -> Duration {
        SPANS[self.span] / u32::try_from(self.count.max(1)).unwrap_or(u32::MAX)
    }

    /// A mail more passed. After enough of them more is tried.
    fn pass(&mut self, proves: bool) {
        self.proven |= proves;
        self.passed += 1;
        if self.passed >= self.after {
            self.count += ((self.count as f64 * self.step) as usize).max(1);
            (self.passed, self.step) = (0, (self.step * 2.0).min(STEP_AT_MOST));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    /// A site that counts over a sliding span, and a sender that obeys what it learned.
    struct Rig {
        learned: Learned,
        quota: (usize, Duration),
        taken: VecDeque<Instant>,
        refused: Vec<Instant>,
        names: bool,
    }

    impl Rig {
        fn of(count: usize, span: Duration) -> Self {
            Rig {
                learned: Learned::new(true),
                quota: (count, span),
                taken: VecDeque::new(),
                refused: Vec::new(),
                names: false,
            }
        }

        /// As many as may go, for so long; gives how many were taken.
        async fn send(&mut self, time: Duration) -> usize {
            let (end, before) = (Instant::now() + time, self.taken.len());
            let mut taken = 0;
            while Instant::now() < end {
                let wait = self.learned.wait(Stream::Marketing, Instant::now());
                if !wait.is_zero() {
                    advance(wait).await;
                    continue;
                }
                let mail = self.learned.sent(Stream::Marketing, Instant::now());
                advance(Duration::from_millis(100)).await;
                taken += usize::from(self.offer(mail));
            }
            assert!(before + taken >= self.taken.len());
            taken
        }

        fn offer(&mut self, mail: Ticket) -> bool {
            let (now, (count, span)) = (Instant::now(), self.quota);
            while self.taken.front().is_some_and(|at| now - *at >= span) {
                self.taken.pop_front();
            }
            let yes = self.taken.len() < count;
            if yes {
                self.taken.push_back(now);
                self.learned.passed(mail, now);
            } else {
                let free = self.taken[self.taken.len() - count] + span - now;
                self.learned.refused(mail, Some(free).filter(|_| self.names), now);
                self.refused.push(now);
            }
            yes
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_span_is_found_by_trying_the_shorter_ones_once() {
        for (span, tries) in [(MINUTE, 1), (10 * MINUTE, 2), (HOUR, 3)] {
            let mut rig = Rig::of(100, span);
            let spans = (6 * HOUR).div_duration_f64(span);
            let taken = rig.send(6 * HOUR).await as f64;
            // More is tried after 2000, 4000, 8000 mails and so on.
            let more = (taken / AFTER as f64 + 1.0).log2().floor() as usize;
            assert!(rig.refused.len() <= tries + more, "{span:?}: {:?}", rig.refused.len());
            assert!(taken >= 0.85 * 100.0 * spans, "{span:?}: {taken} of {}", 100.0 * spans);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_names_a_wait_is_asked_once() {
        let mut rig = Rig { names: true, ..Rig::of(100, HOUR) };
        assert!(rig.send(4 * HOUR).await >= 380);
        assert_eq!(rig.refused.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_that_bears_more_than_it_did_is_found_out() {
        let mut rig = Rig::of(100, MINUTE);
        rig.send(HOUR).await;
        rig.quota.0 = 1000;
        rig.send(2 * HOUR).await;
        assert!(rig.send(HOUR).await > 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_site_in_a_mood_teaches_no_number() {
        let mut rig = Rig::of(10_000, MINUTE);
        rig.send(10 * MINUTE).await;
        advance(2 * HOUR).await;
        rig.quota.0 = 0;
        let mail = rig.learned.sent(Stream::Marketing, Instant::now());
        rig.learned.refused(mail, None, Instant::now());
        assert!(!rig.learned.is_limited());
    }

    /// When a site says that it was enough, it says so to few of those it was sent.
    #[tokio::test(start_paused = true)]
    async fn one_is_on_its_way_to_a_stranger_and_one_more_after_two_hundred() {
        let (mut learned, mut passed) = (Learned::new(true), 0);
        for (upto, at_once) in [(200, 1), (400, 2), (600, 3), (800, 4)] {
            while passed < upto {
                let mut mails = Vec::new();
                while learned.wait(Stream::Marketing, Instant::now()).is_zero() {
                    mails.push(learned.sent(Stream::Marketing, Instant::now()));
                }
                assert_eq!((mails.len(), learned.wait(Stream::Marketing, Instant::now())), (at_once, SOON));
                advance(Duration::from_millis(100)).await;
                passed += mails.len();
                mails.into_iter().for_each(|mail| learned.passed(mail, Instant::now()));
            }
        }
    }

    /// At a stranger, and while a site shows over which span it counts.
    #[tokio::test(start_paused = true)]
    async fn mail_waits_for_the_answer_to_none_that_is_less_urgent() {
        let urgent = [Stream::Marketing, Stream::Mail, Stream::Transactional];
        let waits = |learned: &mut Learned| urgent.map(|stream| !learned.wait(stream, Instant::now()).is_zero());
        let mut rig = Rig::of(10, MINUTE);
        rig.send(MINUTE / 2).await;
        rig.learned.limit.as_mut().unwrap().count = 100;
        advance(MINUTE / 2).await;
        for mut learned in [Learned::new(true), rig.learned] {
            for (n, stream) in urgent.into_iter().enumerate() {
                let others = waits(&mut learned);
                assert_eq!(others, [0, 1, 2].map(|other| other < n), "{n} are under way");
                learned.sent(stream, Instant::now());
                advance(SOON).await;
            }
            assert_eq!(waits(&mut learned), [true; 3]);
        }
    }

    /// Else a thousand mails to a host that takes its time for each took hours, and one connection that hangs stopped all.
    #[tokio::test(start_paused = true)]
    async fn who_takes_his_time_for_an_answer_keeps_back_no_other() {
        let mut rig = Rig::of(usize::MAX, MINUTE);
        let slow = [rig.learned.sent(Stream::Marketing, Instant::now()), {
            assert_eq!(rig.learned.wait(Stream::Marketing, Instant::now()), SOON);
            advance(PROMPT).await;
            rig.learned.sent(Stream::Marketing, Instant::now())
        }];
        assert_eq!(rig.learned.wait(Stream::Marketing, Instant::now()), SOON);
        advance(PROMPT).await;
        // Ten a second, as each is answered: what is heard of others is not taken for theirs.
        assert_eq!(rig.send(MINUTE).await, 600);
        slow.into_iter().for_each(|mail| rig.learned.unanswered(mail, Instant::now()));
        assert_eq!(rig.learned.tallies[2].mails, Mails { all: 602, sure: 600 });
        // Nor while a site shows over which span it counts.
        let mut rig = Rig::of(10, MINUTE);
        rig.send(Duration::from_secs(5)).await;
        let hangs = rig.learned.sent(Stream::Marketing, Instant::now());
        advance(PROMPT).await;
        let taken = rig.send(10 * MINUTE).await;
        assert!(taken >= 85 && rig.learned.limit.unwrap().proven, "{taken}");
        rig.learned.unanswered(hangs, Instant::now());
    }

    /// A host that reads for twenty seconds refused one and took the next: by then it had forgotten the first.
    #[tokio::test(start_paused = true)]
    async fn what_is_taken_when_others_count_no_more_does_not_raise_the_number() {
        for (after, count) in [(0, 8), (61, 7)] {
            let mut rig = Rig::of(7, MINUTE);
            rig.send(Duration::from_millis(700)).await;
            let [refused, late] = [
                rig.learned.sent(Stream::Marketing, Instant::now()),
                rig.learned.sent(Stream::Marketing, Instant::now()),
            ];
            advance(Duration::from_secs(1)).await;
            rig.learned.refused(refused, None, Instant::now());
            advance(Duration::from_secs(after)).await;
            rig.learned.passed(late, Instant::now());
            assert_eq!(rig.learned.limit.unwrap().count, count, "after {after} s");
        }
    }

    /// A host that reads for twenty seconds and then refuses was sent another every five, and refused them all.
    #[tokio::test(start_paused = true)]
    async fn who_takes_his_time_is_asked_once() {
        let mut rig = Rig::of(0, HOUR);
        (0..FEWEST).for_each(|_| {
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            rig.learned.passed(mail, Instant::now());
        });
        let slow = Duration::from_secs(20);
        let mail = rig.learned.sent(Stream::Marketing, Instant::now());
        advance(slow).await;
        rig.learned.refused(mail, None, Instant::now());
        advance(MINUTE).await;
        assert!(rig.learned.wait(Stream::Marketing, Instant::now()).is_zero());
        let hangs = rig.learned.sent(Stream::Marketing, Instant::now());
        advance(slow * 2 - Duration::from_millis(1)).await;
        assert_eq!(rig.learned.wait(Stream::Marketing, Instant::now()), SOON);
        advance(Duration::from_millis(1)).await;
        assert!(rig.learned.wait(Stream::Marketing, Instant::now()).is_zero());
        rig.learned.unanswered(hangs, Instant::now());
    }

    /// The site may have counted them when they went out, and forgets them as any other.
    #[tokio::test(start_paused = true)]
    async fn as_many_as_a_site_bears_may_hang_and_others_still_go() {
        let mut rig = Rig::of(5, MINUTE);
        rig.send(HOUR).await;
        let since = Instant::now();
        for _ in 0..5 {
            while !rig.learned.wait(Stream::Marketing, Instant::now()).is_zero() {
                advance(Duration::from_secs(1)).await;
            }
            rig.learned.sent(Stream::Marketing, Instant::now());
        }
        assert!(since.elapsed() < MINUTE && rig.learned.wait(Stream::Marketing, Instant::now()) == SOON);
        advance(MINUTE).await;
        assert!(rig.learned.wait(Stream::Marketing, Instant::now()).is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_recipients_of_a_mail_that_was_one_too_many_do_not_raise_the_number() {
        let mut rig = Rig::of(7, MINUTE);
        let mail = rig.learned.sent(Stream::Marketing, Instant::now());
        (0..7).for_each(|_| rig.learned.count(true, Instant::now()));
        advance(Duration::from_secs(61)).await;
        (0..7).for_each(|_| rig.learned.count(true, Instant::now()));
        advance(Duration::from_secs(1)).await;
        rig.learned.refused(mail, None, Instant::now());
        let learned = rig.learned.limit.unwrap().count;
        (0..3).for_each(|_| rig.learned.passed(mail, Instant::now()));
        rig.learned.failed(mail, Instant::now());
        assert_eq!(rig.learned.limit.unwrap().count, learned);
    }

    /// One that was on its way when another was refused was refused a minute later: by then less than the number stood in it, and
    /// the site was believed to count over ten.
    #[tokio::test(start_paused = true)]
    async fn what_was_on_its_way_is_refused_for_the_same() {
        let mut rig = Rig::of(10, MINUTE);
        let late = rig.learned.sent(Stream::Marketing, Instant::now());
        advance(PROMPT).await;
        rig.send(Duration::from_secs(5)).await;
        assert_eq!((rig.refused.len(), rig.learned.limit.unwrap().span), (1, 0));
        advance(MINUTE).await;
        rig.learned.refused(late, None, Instant::now());
        let limit = rig.learned.limit.unwrap();
        assert_eq!((limit.span, limit.count), (0, 10));
    }

    /// It took 48, and refused the next; three that it did not know had not counted. Then 51 an hour were sent to it, and three
    /// refused, until that was learned too.
    #[tokio::test(start_paused = true)]
    async fn what_failed_says_nothing_of_what_a_site_bears() {
        let mut rig = Rig::of(48, HOUR);
        for _ in 0..3 {
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            advance(Duration::from_millis(100)).await;
            rig.learned.failed(mail, Instant::now());
        }
        let taken = rig.send(8 * HOUR).await;
        assert_eq!(rig.refused.len(), 3, "the price of the span: {:?}", rig.refused);
        assert!(taken as f64 >= 0.85 * 48.0 * 8.0, "{taken}");
        // But of few it is not a quarter that is given up.
        let mut rig = Rig::of(8, HOUR);
        for _ in 0..2 {
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            rig.taken.push_back(Instant::now());
            rig.learned.failed(mail, Instant::now());
        }
        rig.send(2 * HOUR).await;
        assert_eq!(rig.learned.limit.unwrap().count, 8);
    }

    /// Five in ten minutes, of which one was lost. After a minute the rest stood at the edge of it: as the number of a minute it was
    /// none, and for a day nothing was sent.
    #[tokio::test(start_paused = true)]
    async fn what_stands_at_the_edge_of_a_span_is_no_number() {
        for count in [5, 15] {
            let mut rig = Rig::of(count, 10 * MINUTE);
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            rig.taken.push_back(Instant::now());
            rig.learned.unanswered(mail, Instant::now());
            advance(Duration::from_millis(900)).await;
            let taken = rig.send(2 * HOUR).await;
            assert_eq!(rig.refused.len(), 2, "{:?}", rig.refused);
            assert!(taken as f64 >= 0.85 * count as f64 * 12.0, "{taken}");
        }
        // Nor when it is the first that is said.
        let mut rig = Rig::of(4, 10 * MINUTE);
        rig.send(Duration::from_millis(400)).await;
        advance(MINUTE).await;
        rig.send(2 * HOUR).await;
        assert_eq!((rig.refused.len(), rig.learned.limit.unwrap().span), (1, 1));
    }

    /// A site that was left alone takes anything: that it does so says nothing of its span. Yahoo was believed to count over ten
    /// minutes for two pauses of two hours.
    #[tokio::test(start_paused = true)]
    async fn what_is_taken_after_a_pause_proves_nothing() {
        let mut rig = Rig::of(100, HOUR);
        rig.send(MINUTE + MINUTE / 10).await;
        assert_eq!(rig.refused.len(), 2);
        advance(2 * HOUR).await;
        rig.send(6 * HOUR).await;
        assert_eq!(rig.refused.len(), 3, "{:?}", rig.refused);
    }

    /// Yahoo's words for too many mails keep it alone for two hours: it was then sent in an hour what it takes in a minute.
    #[tokio::test(start_paused = true)]
    async fn a_punishment_says_nothing_of_the_span() {
        let mut rig = Rig::of(6, MINUTE);
        for _ in 0..6 {
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            rig.offer(mail);
        }
        let mail = rig.learned.sent(Stream::Marketing, Instant::now());
        rig.learned.refused(mail, Some(2 * HOUR), Instant::now());
        assert_eq!(rig.learned.limit.unwrap().span, 0);
        // A wait that fits a span is believed.
        let mut rig = Rig::of(6, HOUR);
        rig.names = true;
        rig.send(MINUTE / 2).await;
        assert_eq!(rig.learned.limit.unwrap().span, 2);
    }

    /// Each mail that was lost took a place of the few for ever: it took twice the time.
    #[tokio::test(start_paused = true)]
    async fn connections_that_break_do_not_take_the_places_of_those_that_do_not() {
        let mut rig = Rig::of(6, MINUTE);
        rig.send(HOUR).await;
        let mut taken = 0;
        for _ in 0..12 {
            while !rig.learned.wait(Stream::Marketing, Instant::now()).is_zero() {
                advance(Duration::from_secs(1)).await;
            }
            let mail = rig.learned.sent(Stream::Marketing, Instant::now());
            rig.taken.push_back(Instant::now());
            rig.learned.unanswered(mail, Instant::now());
            taken += rig.send(HOUR / 4).await;
        }
        assert!(taken as f64 >= 0.85 * 6.0 * 180.0, "{taken} of {}", 6 * 180);
    }

    #[tokio::test(start_paused = true)]
    async fn trap_06_memory_does_not_grow_with_the_mail() {
        let mut rig = Rig::of(usize::MAX, MINUTE);
        rig.send(2 * HOUR).await;
        assert!(rig.learned.tallies.iter().all(|tally| tally.parts.len() <= PARTS as usize + 2));
    }
}
