//! What sources that are new may still deliver today, at sites where a day was judged ([`queue::source::judge`]) as if it were an
//! earlier one, and of that in this hour. Whatever stands in line or is under way counts as delivered until it is
//! known not to be, so that a cap holds exactly; a [`Permit`] stands for it, and gives back what was not used when it is
//! dropped, wherever that happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Timestamp;
use queue::source::{Cap, Count, Delivered, Judged, Setup, Share, SourceId};

use crate::shape::Hourly;

/// Hours since 1970, in UTC.
pub(crate) fn hour_of(now: Timestamp) -> i64 {
    now.secs().div_euclid(3600)
}

/// Its day, as [`queue::source::day_of`] counts.
pub(super) fn day_of_hour(hour: i64) -> i64 {
    hour.div_euclid(24)
}

/// All sources with a plan.
#[derive(Default)]
pub(crate) struct Warmups(HashMap<SourceId, Arc<Warmup>>);

/// A source with a plan.
#[derive(Debug)]
struct Warmup {
    source: SourceId,
    ledger: Mutex<Ledger>,
}

#[derive(Debug)]
struct Ledger {
    caps: Vec<Cap>,
    hourly: Hourly,
    /// By sites: days that do not count there; none where nothing is sent.
    behind: HashMap<Arc<str>, Option<usize>>,
    /// That of which `this_hour` is, and `today` of its day; and days before that on which something was delivered.
    hour: i64,
    days: usize,
    all: Tally,
    sites: HashMap<Arc<str>, Tally>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Delivered, and of that in this hour.
    today: u32,
    this_hour: u32,
    /// May still be.
    pending: u32,
}

/// How much more a source may deliver to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) left: u32,
    /// And in the hours of today that are to come.
    pub(crate) today: u32,
    /// More may be left yet.
    pub(crate) pending: bool,
}

/// The right to deliver so many to a site.
#[derive(Debug)]
pub(crate) struct Permit {
    warmup: Arc<Warmup>,
    site: Arc<str>,
    left: Mutex<u32>,
}

impl Tally {
    fn room(&self, cap: Option<u32>, hourly: Hourly) -> Room {
        let left_of = |cap: u32, delivered: u32| cap.saturating_sub(delivered.saturating_add(self.pending));
        let today = cap.map_or(u32::MAX, |cap| left_of(cap, self.today));
        let left = cap.map_or(u32::MAX, |cap| left_of(hourly.of(cap), self.this_hour));
        Room { left: left.min(today), today, pending: self.pending > 0 }
    }
}

impl Ledger {
    /// Another hour begins, or a day: what is pending counts for it.
    fn pass(&mut self, hour: i64) {
        if hour <= self.hour {
            return;
        }
        let is_new_day = day_of_hour(hour) > day_of_hour(self.hour);
        self.days += usize::from(is_new_day && self.all.today > 0);
        self.hour = hour;
        for tally in self.sites.values_mut().chain([&mut self.all]) {
            tally.this_hour = 0;
            if is_new_day {
                tally.today = 0;
            }
        }
        self.sites.retain(|_, tally| tally.pending > 0 || tally.today > 0);
    }

    fn cap(&self, day: usize, such: impl Fn(&Share) -> bool) -> Option<Option<u32>> {
        self.caps.iter().find(|cap| such(&cap.share)).map(|cap| cap.days.get(day).copied())
    }

    fn room(&self, site: &str, is: impl Fn(&str) -> bool) -> Room {
        let is_all = |share: &Share| *share == Share::All;
        let Some(behind) = self.behind.get(site).copied().unwrap_or(Some(0)) else {
            return Room { left: 0, today: 0, pending: false };
        };
        let day = self.days.saturating_sub(behind);
        let own = self.cap(day, |share| matches!(share, Share::Site(name) if is(name)));
        let own = own.or_else(|| self.cap(day, |share| *share == Share::Each));
        // Where only all together have a cap, a site that was set back has by itself what that was then.
        let cap = own.or_else(|| self.cap(day, is_all).filter(|_| behind > 0)).flatten();
        let of_site = self.sites.get(site).copied().unwrap_or_default().room(cap, self.hourly);
        let of_all = self.all.room(self.cap(self.days, is_all).flatten(), self.hourly);
        let pending = of_site.left == 0 && of_site.pending || of_all.left == 0 && of_all.pending;
        Room { left: of_site.left.min(of_all.left), today: of_site.today.min(of_all.today), pending }
    }

    fn both(&mut self, site: &Arc<str>) -> [&mut Tally; 2] {
        [&mut self.all, self.sites.entry(site.clone()).or_default()]
    }
}

impl Warmup {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Warmups {
    /// The plans as they are set up, with what was delivered before this server ran. What it counted itself goes on. In which hours the
    /// rest was delivered nobody knows: it counts for this one, so that no hour has more than it may.
    pub(crate) fn new(
        setup: &Setup,
        delivered: &[(SourceId, Delivered)],
        (hour, hourly): (i64, Hourly),
        before: &Warmups,
    ) -> Self {
        let of = |(source, delivered): &(SourceId, Delivered)| {
            let caps: Vec<Cap> = setup.caps.iter().filter(|cap| cap.source == *source).cloned().collect();
            let judged = setup.judged.iter().filter(|judged| judged.source == *source);
            let behind = |one: &Judged| (one.site.clone(), (!one.is_stopped).then_some(one.behind as usize));
            let behind: HashMap<_, _> = judged.map(behind).collect();
            let known = before.0.get(source).filter(|known| {
                let mut ledger = known.lock();
                let same = ledger.caps.first().map(|cap| cap.began) == caps.first().map(|cap| cap.began);
                if same {
                    ledger.caps.clone_from(&caps);
                    ledger.behind.clone_from(&behind);
                }
                same
            });
            let tally = |n| Tally { today: n, this_hour: n, pending: 0 };
            let begun = || {
                let sites = delivered.sites.iter().map(|(site, n)| (site.clone(), tally(*n))).collect();
                let (days, all) = (delivered.days as usize, tally(delivered.today));
                Arc::new(Warmup {
                    source: *source,
                    ledger: Mutex::new(Ledger { caps, hourly, behind, hour, days, all, sites }),
                })
            };
            (*source, known.cloned().unwrap_or_else(begun))
        };
        Warmups(delivered.iter().map(of).collect())
    }

    /// How much more a source may deliver to a site that `is` called so; none when it may deliver what it can.
    pub(crate) fn room(&self, source: SourceId, site: &str, hour: i64, is: impl Fn(&str) -> bool) -> Option<Room> {
        let mut ledger = self.0.get(&source)?.lock();
        ledger.pass(hour);
        Some(ledger.room(site, is))
    }

    /// A source has a plan.
    pub(crate) fn has(&self, source: SourceId) -> bool {
        self.0.contains_key(&source)
    }

    /// A source sends nothing to a site any more.
    pub(crate) fn is_stopped(&self, source: SourceId, site: &str) -> bool {
        self.0.get(&source).is_some_and(|warmup| warmup.lock().behind.get(site) == Some(&None))
    }

    /// The right to deliver `n`, of which there is room for all.
    pub(crate) fn permit(&self, source: SourceId, site: &str, n: u32) -> Option<Arc<Permit>> {
        let warmup = self.0.get(&source)?;
        let site: Arc<str> = site.into();
        warmup.lock().both(&site).into_iter().for_each(|tally| tally.pending += n);
        Some(Arc::new(Permit { warmup: warmup.clone(), site, left: Mutex::new(n) }))
    }
}

impl Permit {
    /// One was delivered, in this hour: what is to be noted on disk.
    pub(crate) fn delivered(&self, hour: i64) -> Count {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.warmup.lock();
        ledger.pass(hour);
        for tally in ledger.both(&self.site) {
            (tally.today, tally.this_hour) = (tally.today + 1, tally.this_hour + 1);
            tally.pending = tally.pending.saturating_sub(u32::from(*left > 0));
        }
        *left = left.saturating_sub(1);
        self.count(day_of_hour(ledger.hour))
    }

    /// What is noted on disk of what came of it today.
    pub(crate) fn count(&self, today: i64) -> Count {
        Count { source: self.warmup.source, site: self.site.clone(), day: today }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let left = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
        for tally in self.warmup.lock().both(&self.site) {
            tally.pending = tally.pending.saturating_sub(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use queue::source::{Course, Finding, Measure};

    use super::*;

    const SOURCE: SourceId = SourceId::DEFAULT;

    fn setup(caps: &[(Share, &[u32])], judged: &[(&str, u32, bool)]) -> Setup {
        let cap = |(share, days): &(Share, &[u32])| Cap {
            source: SOURCE,
            share: share.clone(),
            days: (*days).into(),
            began: Timestamp(7),
        };
        let one = |(site, behind, is_stopped): &(&str, u32, bool)| Judged {
            source: SOURCE,
            site: (*site).into(),
            day: 0,
            finding: Finding { measure: Measure::Bounced, count: 2, among: 60, course: Course::Hold },
            days: *behind,
            behind: *behind,
            is_stopped: *is_stopped,
        };
        let (caps, judged) = (caps.iter().map(cap).collect(), judged.iter().map(one).collect());
        Setup { caps, judged, ..Setup::default() }
    }

    /// The first hour of a day, of which all may leave at once.
    fn of_day(day: i64) -> (i64, Hourly) {
        (day * 24, Hourly::ALL)
    }

    /// What may go to each of `a` and `b`.
    fn left(warmups: &Warmups, today: i64) -> [u32; 2] {
        ["a", "b"].map(|site| warmups.room(SOURCE, site, today * 24, |name| name == site).unwrap().left)
    }

    #[test]
    fn a_site_where_days_do_not_count_has_the_cap_of_an_earlier_one() {
        let delivered = |days| vec![(SOURCE, Delivered { days, ..Delivered::default() })];
        let none = Warmups::default();
        let (own, each) = (Share::Site("a".into()), Share::Each);
        let caps: [(Share, &[u32]); 3] =
            [(own, &[1, 2, 3, 4]), (each, &[10, 20, 30, 40]), (Share::All, &[100, 200, 300, 400])];
        let of = |judged: &[_]| left(&Warmups::new(&setup(&caps, judged), &delivered(3), of_day(9), &none), 9);
        assert_eq!(of(&[]), [4, 40]);
        assert_eq!(of(&[("a", 1, false), ("b", 3, false)]), [3, 10]);
        assert_eq!(of(&[("a", 9, false), ("b", 2, true)]), [1, 0], "it is never before the first; nothing goes there");
        // All together have a cap, and nobody one of his own.
        let of = |judged: &[_]| left(&Warmups::new(&setup(&caps[2..], judged), &delivered(3), of_day(9), &none), 9);
        assert_eq!(of(&[("a", 2, false)]), [200, 400]);
        // The plan is over, but not where days do not count.
        let of = |judged: &[_]| left(&Warmups::new(&setup(&caps[..2], judged), &delivered(5), of_day(9), &none), 9);
        assert_eq!(of(&[("b", 2, false)]), [u32::MAX, 40]);
    }

    #[test]
    fn what_is_found_counts_at_once_and_takes_nothing_from_what_was_counted() {
        let caps: [(Share, &[u32]); 1] = [(Share::Each, &[10, 20, 40])];
        let begun = Warmups::new(&setup(&caps, &[]), &[(SOURCE, Delivered::default())], of_day(9), &Warmups::default());
        let permit = begun.permit(SOURCE, "a", 3).unwrap();
        permit.delivered(9 * 24);
        assert_eq!(
            (left(&begun, 9), left(&begun, 10)),
            ([7, 10], [18, 20]),
            "what is under way counts for the next day"
        );
        let judged = setup(&caps, &[("a", 1, false)]);
        let after = Warmups::new(&judged, &[(SOURCE, Delivered::default())], of_day(10), &begun);
        assert_eq!(left(&after, 10), [8, 20]);
        let stopped =
            Warmups::new(&setup(&caps, &[("a", 1, true)]), &[(SOURCE, Delivered::default())], of_day(10), &after);
        assert_eq!((left(&stopped, 10), stopped.is_stopped(SOURCE, "a")), ([0, 20], true));
        assert!(!stopped.is_stopped(SOURCE, "b") && !stopped.is_stopped(SourceId::read(1), "a"));
    }

    #[test]
    fn an_hour_has_a_part_of_the_day_and_what_is_pending_counts_for_it() {
        let caps: [(Share, &[u32]); 2] = [(Share::Each, &[20]), (Share::All, &[30])];
        let new = |sent: u32, hour| {
            let delivered = Delivered { today: sent, sites: vec![("a".into(), sent)], ..Delivered::default() };
            let hourly = (hour, Hourly::shipped().unwrap());
            Warmups::new(&setup(&caps, &[]), &[(SOURCE, delivered)], hourly, &Warmups::default())
        };
        let room = |warmups: &Warmups, site: &str, hour| warmups.room(SOURCE, site, hour, |name| name == site).unwrap();
        let (warmups, noon) = (new(0, 204), 204);
        assert_eq!(room(&warmups, "a", noon), Room { left: 2, today: 20, pending: false });
        let permit = warmups.permit(SOURCE, "a", 2).unwrap();
        assert_eq!(room(&warmups, "a", noon), Room { left: 0, today: 18, pending: true });
        permit.delivered(noon);
        // All together have three; what is under way counts for the hour that begins.
        assert_eq!(room(&warmups, "b", noon), Room { left: 1, today: 20, pending: false });
        assert_eq!(room(&warmups, "a", noon + 1), Room { left: 1, today: 18, pending: false });
        drop(permit);
        assert_eq!([room(&warmups, "a", noon + 1).left, room(&warmups, "a", noon + 2).left], [2, 2]);
        // A day that is used up has no hour left, and the next has.
        let spent = new(20, noon);
        assert_eq!(room(&spent, "a", noon + 1), Room { left: 0, today: 0, pending: false });
        assert_eq!(room(&spent, "a", noon + 12).left, u32::MAX, "the plan was for one day");
        // A server that begins does not know in which hours it was sent.
        let begun = new(6, noon);
        assert_eq!([room(&begun, "a", noon), room(&begun, "a", noon + 1)].map(|room| room.left), [0, 2]);
    }
}
