//! What a site bears, learned from what it had taken when it said that it was too much.
//!
//! Sites count mails over a span of time, and say neither the number nor the span. The number is what they took until they
//! refused one. The span is found by trying: the shortest that can be is believed until the site refuses a mail although
//! fewer than the number stand in it; then it is the next. So a site is asked a few times too often, and then no more.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

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
/// that it was enough, it is not to say so to many.
const AT_ONCE: usize = 2;
const MORE_AFTER: usize = 32;
/// More by this part, and each time that this does not fail by twice of it.
const STEP: f64 = 0.125;
const STEP_AT_MOST: f64 = 1.0;
/// A mail that was not answered after this long will not be.
const UNANSWERED: Duration = Duration::from_secs(300);
/// While an answer is awaited that decides how to go on.
const SOON: Duration = Duration::from_secs(1);
/// What a site said is remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// See the module.
#[derive(Debug)]
pub(super) struct Learned {
    /// One for each of [`SPANS`].
    tallies: [Tally; 3],
    /// When those were sent that are not answered yet; the first are answered first, nearly.
    flying: VecDeque<Instant>,
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
    /// What the site took when it last refused one; `count` may be raised beyond it.
    heard: usize,
    /// When it was last said.
    said: Instant,
    /// A mail that was sent since was taken.
    proven: bool,
    /// When the next may go: not all at once.
    next: Instant,
    /// Mails that passed since it was said or raised.
    passed: usize,
    after: usize,
    step: f64,
}

/// Mails that passed within a span.
#[derive(Debug)]
struct Tally {
    span: Duration,
    /// Parts of the span in which mails passed: when they began, and how many.
    parts: VecDeque<(Instant, usize)>,
    count: usize,
    /// As many as ever passed within the span.
    most: usize,
}

impl Tally {
    fn new(span: Duration) -> Self {
        Tally { span, parts: VecDeque::new(), count: 0, most: 0 }
    }

    fn part(&self) -> Duration {
        self.span / PARTS
    }

    /// When a part has left the span for sure.
    fn leaves(&self, began: Instant) -> Instant {
        began + self.part() + self.span
    }

    fn pass(&mut self, now: Instant) {
        while let Some((began, n)) = self.parts.front().copied()
            && self.leaves(began) <= now
        {
            self.parts.pop_front();
            self.count -= n;
        }
    }

    fn add(&mut self, now: Instant) {
        self.pass(now);
        let part = self.part();
        match self.parts.back_mut() {
            Some((began, n)) if *began + part > now => *n += 1,
            _ => self.parts.push_back((now, 1)),
        }
        self.count += 1;
        self.most = self.most.max(self.count);
    }

    /// Until fewer than `count` are in it.
    fn wait(&self, count: usize, now: Instant) -> Duration {
        let mut left = self.count;
        let mut parts = self.parts.iter();
        while left >= count {
            let Some((began, n)) = parts.next() else { return SOON };
            left -= n;
            if left < count {
                return self.leaves(*began).saturating_duration_since(now);
            }
        }
        Duration::ZERO
    }

    /// The site may have counted over this span: it never took more within it.
    fn may_be(&self) -> bool {
        self.count >= FEWEST && self.count + (self.count / 10).max(1) >= self.most
    }
}

impl Learned {
    /// Of a site that is heard. Of one that is not nothing is learned, and it need not be sounded.
    pub(super) fn new(heard: bool) -> Self {
        let at_once = if heard { AT_ONCE } else { usize::MAX };
        Learned { tallies: SPANS.map(Tally::new), flying: VecDeque::new(), at_once, passed: 0, limit: None }
    }

    /// How long the next mail must wait.
    pub(super) fn wait(&mut self, now: Instant) -> Duration {
        self.pass(now);
        let Some(limit) = &self.limit else {
            let at_once = self.at_once.saturating_add(self.passed / MORE_AFTER);
            return if self.flying.len() >= at_once { SOON } else { Duration::ZERO };
        };
        let tally = &self.tallies[limit.span];
        let apart = limit.next.saturating_duration_since(now);
        match () {
            () if !limit.proven && !self.flying.is_empty() => SOON,
            () if tally.count >= limit.count => tally.wait(limit.count, now).max(apart),
            () if tally.count + self.flying.len() >= limit.count => SOON,
            () => apart,
        }
    }

    /// Between mails that come in turn, a little faster than they may go, so that no turn is lost; zero when nothing is known.
    pub(super) fn interval(&self) -> Duration {
        self.limit.map_or(Duration::ZERO, |limit| limit.even() * 3 / 4)
    }

    /// A mail goes out.
    pub(super) fn sent(&mut self, now: Instant) {
        self.flying.push_back(now);
        if let Some(limit) = &mut self.limit {
            limit.next = now + limit.even() / 2;
        }
    }

    /// The last that went out did not: the connection had been closed.
    pub(super) fn unsent(&mut self) {
        self.flying.pop_back();
    }

    /// The connection ended before a mail was answered: the site may have counted it. It is on its way no longer; else the
    /// answers to others, of which nobody knows whose they are, would keep a place for it for ever.
    pub(super) fn unanswered(&mut self, now: Instant) {
        self.pass(now);
        self.flying.pop_front();
        self.tallies.iter_mut().for_each(|tally| tally.add(now));
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

    /// It was answered, and not for being one too many.
    pub(super) fn passed(&mut self, now: Instant) {
        self.pass(now);
        let sent = self.flying.pop_front();
        self.passed += 1;
        self.tallies.iter_mut().for_each(|tally| tally.add(now));
        if let Some(limit) = &mut self.limit {
            match sent.is_some_and(|sent| sent < limit.said) {
                // It was on its way when another was refused: the site bears one more than had been answered then.
                true => (limit.count, limit.heard) = (limit.count + 1, limit.heard + 1),
                false => limit.pass(sent.is_some()),
            }
        }
    }

    /// The site said that it was one too many, and perhaps for how long none is to come. Gives how long the next waits.
    pub(super) fn refused(&mut self, wait: Option<Duration>, now: Instant) -> Duration {
        self.learn(wait, now);
        self.wait(now)
    }

    fn learn(&mut self, wait: Option<Duration>, now: Instant) {
        self.pass(now);
        self.flying.pop_front();
        let (first, before) = match &self.limit {
            Some(limit) => {
                // Before it is proven every mail counts; then not each that was counted a little earlier or later there.
                let heard = if limit.proven { limit.heard * 9 / 10 } else { limit.heard };
                let refuted = self.tallies[limit.span].count < heard;
                ((limit.span + usize::from(refuted)).min(SPANS.len() - 1), Some(*limit))
            }
            None => {
                // A wait beyond all spans is a punishment: it says nothing of how long the site counts.
                let fits = |span: &Duration| wait.is_some_and(|wait| wait <= *span);
                (SPANS.iter().position(fits).unwrap_or(0), None)
            }
        };
        let found = (first..SPANS.len()).find(|span| self.tallies[*span].may_be());
        let Some(span) = found else {
            // It takes less than it once did: that is no number, but a mood.
            if let Some(limit) = &mut self.limit {
                limit.count = (limit.count / 2).max(FEWEST);
                (limit.heard, limit.said, limit.proven, limit.passed) = (limit.count, now, false, 0);
            }
            return;
        };
        let count = self.tallies[span].count;
        let again = before.filter(|b| b.span == span && b.proven && count * 10 >= b.count * 7);
        let after = again.map_or(AFTER, |b| (b.after * 2).min(AFTER_AT_MOST));
        let (heard, proven) = (count, again.is_some());
        self.limit = Some(Limit { span, count, heard, said: now, proven, next: now, passed: 0, after, step: STEP });
    }

    /// What time alone changes.
    fn pass(&mut self, now: Instant) {
        self.tallies.iter_mut().for_each(|tally| tally.pass(now));
        while self.flying.front().is_some_and(|sent| now.saturating_duration_since(*sent) >= UNANSWERED) {
            self.flying.pop_front();
            // The site may have counted it.
            self.tallies.iter_mut().for_each(|tally| tally.add(now));
        }
        if self.limit.is_some_and(|limit| now.saturating_duration_since(limit.said) >= REMEMBERED) {
            self.limit = None;
        }
    }

    /// Nothing would be lost if it were forgotten.
    pub(super) fn is_at_rest(&mut self, now: Instant) -> bool {
        self.pass(now);
        self.limit.is_none() && self.tallies.iter().all(|tally| tally.count < FEWEST)
    }
}

impl Limit {
    fn even(&self) -> Duration {
        SPANS[self.span] / u32::try_from(self.count.max(1)).unwrap_or(u32::MAX)
    }

    /// A mail more passed. After enough of them more is tried.
    fn pass(&mut self, sent_since: bool) {
        self.proven |= sent_since;
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
                let wait = self.learned.wait(Instant::now());
                if !wait.is_zero() {
                    advance(wait).await;
                    continue;
                }
                self.learned.sent(Instant::now());
                advance(Duration::from_millis(100)).await;
                taken += usize::from(self.offer());
            }
            assert!(before + taken >= self.taken.len());
            taken
        }

        fn offer(&mut self) -> bool {
            let (now, (count, span)) = (Instant::now(), self.quota);
            while self.taken.front().is_some_and(|at| now - *at >= span) {
                self.taken.pop_front();
            }
            let yes = self.taken.len() < count;
            if yes {
                self.taken.push_back(now);
                self.learned.passed(now);
            } else {
                let free = self.taken[self.taken.len() - count] + span - now;
                self.learned.refused(Some(free).filter(|_| self.names), now);
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
        rig.learned.sent(Instant::now());
        rig.learned.refused(None, Instant::now());
        assert!(!rig.learned.is_limited());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_two_are_on_their_way_to_a_site_that_was_not_sent_to_before() {
        let mut learned = Learned::new(true);
        (0..AT_ONCE).for_each(|_| learned.sent(Instant::now()));
        assert_eq!(learned.wait(Instant::now()), SOON);
        // Whoever never answers does not hold up the rest for ever.
        advance(UNANSWERED).await;
        assert!(learned.wait(Instant::now()).is_zero());
    }

    /// Yahoo's words for too many mails keep it alone for two hours: it was then sent in an hour what it takes in a minute.
    #[tokio::test(start_paused = true)]
    async fn a_punishment_says_nothing_of_the_span() {
        let mut rig = Rig::of(6, MINUTE);
        for _ in 0..6 {
            rig.learned.sent(Instant::now());
            rig.offer();
        }
        rig.learned.sent(Instant::now());
        rig.learned.refused(Some(2 * HOUR), Instant::now());
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
            while !rig.learned.wait(Instant::now()).is_zero() {
                advance(Duration::from_secs(1)).await;
            }
            rig.learned.sent(Instant::now());
            rig.taken.push_back(Instant::now());
            rig.learned.unanswered(Instant::now());
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
