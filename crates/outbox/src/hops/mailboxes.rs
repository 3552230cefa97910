//! How fast mail goes to single mailboxes, where their site names a bound: from all sources together. Only mailboxes that had mail
//! a moment ago are known: one for which all is past is as one that never had any.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use base::Address;
use tokio::time::Instant;

use super::ready::Turn;
use super::{State, TURN, Work};
use crate::route::Hop;
use crate::shape::{MAILBOX_RATES, Pace, Rate};

/// Mailboxes that are known at once; beyond them others are not counted, until some are forgotten.
const KNOWN: usize = 20_000;
/// From so many on those that are past are looked for, and no more often than this.
const SWEPT: usize = 1000;
const SWEEP: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub(super) struct Mailboxes {
    /// By a digest of the address.
    known: HashMap<u64, Mailbox>,
    digest: RandomState,
    /// When those that are past were looked for last.
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Default)]
struct Mailbox {
    /// When the next would go if all went evenly, for each rate.
    even: [Option<Instant>; MAILBOX_RATES],
    /// The turn of the last that was put off.
    booked: Option<Instant>,
}

impl Mailbox {
    fn is_past(&self, now: Instant) -> bool {
        self.even.iter().chain([&self.booked]).flatten().all(|at| *at <= now)
    }

    fn paces<'a>(&'a self, rates: &'a [Rate]) -> impl Iterator<Item = Pace> + 'a {
        rates.iter().zip(self.even).map(|(rate, even)| Pace::since(*rate, even))
    }
}

impl Mailboxes {
    /// Letters of either case are one mailbox's.
    fn key(&self, to: &Address) -> u64 {
        let mut digest = self.digest.build_hasher();
        let at = to.local().bytes().chain([b'@']).chain(to.domain().bytes());
        at.for_each(|octet| digest.write_u8(octet.to_ascii_lowercase()));
        digest.finish()
    }

    /// How long a mailbox is to have nothing more.
    fn wait(&self, to: &Address, rates: &[Rate], now: Instant) -> Duration {
        let Some(known) = self.known.get(&self.key(to)) else { return Duration::ZERO };
        known.paces(rates).map(|pace| pace.wait(1.0, now)).max().unwrap_or_default()
    }

    /// It has one more.
    fn take(&mut self, to: &Address, rates: &[Rate], now: Instant) {
        let key = self.key(to);
        if self.known.len() >= SWEPT && self.swept.is_none_or(|last| now - last >= SWEEP) {
            self.known.retain(|_, mailbox| !mailbox.is_past(now));
            self.swept = Some(now);
        }
        if self.known.len() >= KNOWN && !self.known.contains_key(&key) {
            return;
        }
        let mailbox = self.known.entry(key).or_default();
        let paces = mailbox.paces(rates).map(|mut pace| {
            pace.take(1.0, now);
            pace.even()
        });
        let mut even = [None; MAILBOX_RATES];
        even.iter_mut().zip(paces).for_each(|(even, next)| *even = next);
        mailbox.even = even;
    }

    /// When the next that is put off has its turn: each its own, so that they do not all come again at once.
    fn book(&mut self, to: &Address, rates: &[Rate], now: Instant) -> Duration {
        let (key, wait) = (self.key(to), self.wait(to, rates, now));
        let interval = rates.iter().map(|rate| Pace::new(*rate).interval(1.0)).max().unwrap_or_default();
        let Some(mailbox) = self.known.get_mut(&key) else { return wait };
        let turn = mailbox.booked.map_or(now + wait, |last| (last + interval).max(now + wait)).min(now + TURN);
        mailbox.booked = Some(turn);
        turn - now
    }
}

impl State {
    /// Of what is next in a line that which goes to mailboxes that are to have nothing more now; the rest stays.
    pub(super) fn not_yet(
        &mut self,
        hop: &Hop,
        turn: Turn,
        rates: &Option<Arc<[Rate]>>,
        now: Instant,
    ) -> Option<(Work, Duration)> {
        let (rates, mailboxes, line) = (rates.as_deref()?, &mut self.mailboxes, self.lines.get_mut(hop)?);
        let stream = line.ready.front(turn)?.message.stream;
        let is_late = |to: &Address| !mailboxes.wait(to, rates, now).is_zero();
        if !line.ready.front(turn)?.deliveries.iter().any(|d| is_late(&d.to)) {
            return None;
        }
        let mut work = line.ready.pop_front(turn)?;
        let late: Vec<_> = work.deliveries.extract_if(.., |d| is_late(&d.to)).collect();
        let wait = late.iter().map(|d| mailboxes.book(&d.to, rates, now)).max().unwrap_or_default();
        let later = Work { deliveries: late, seat: None, ..work.clone() };
        if !work.deliveries.is_empty() {
            line.ready.push_front(work);
        }
        line.taken += later.deliveries.len();
        self.call_refused(hop, stream);
        Some((later, wait))
    }

    /// A work goes to its mailboxes.
    pub(super) fn goes(&mut self, work: &Work, rates: &Option<Arc<[Rate]>>, now: Instant) {
        if let Some(rates) = rates {
            work.deliveries.iter().for_each(|d| self.mailboxes.take(&d.to, rates, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn mailboxes_are_forgotten_when_all_is_past_and_never_too_many() {
        let (mut mailboxes, rates) = (Mailboxes::default(), ["60/m".parse::<Rate>().unwrap()]);
        let to = |n: usize| Address::parse(&format!("u{n}@b.test")).unwrap();
        for n in 0..100_000 {
            mailboxes.take(&to(n), &rates, Instant::now());
        }
        assert_eq!(mailboxes.known.len(), KNOWN);
        // What is known is bounded all the same, in letters of any case.
        (0..6).for_each(|_| mailboxes.take(&to(1), &rates, Instant::now()));
        assert!(!mailboxes.wait(&Address::parse("U1@b.test").unwrap(), &rates, Instant::now()).is_zero());
        tokio::time::advance(Duration::from_secs(60)).await;
        mailboxes.take(&to(7), &rates, Instant::now());
        assert_eq!(mailboxes.known.len(), 1);
    }
}
