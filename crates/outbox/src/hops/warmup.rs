//! What sources that are new may still deliver today. Whatever stands in line or is under way counts as delivered until it is
//! known not to be, so that a cap holds exactly; a [`Permit`] stands for it, and gives back what was not used when it is
//! dropped, wherever that happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use queue::source::{Cap, Count, Delivered, Setup, Share, SourceId};

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
    /// That of which `delivered` is, and days before it on which something was delivered.
    today: i64,
    days: usize,
    all: Tally,
    sites: HashMap<Arc<str>, Tally>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    delivered: u32,
    /// May still be.
    pending: u32,
}

/// How much more a source may deliver to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) left: u32,
    /// More may be left yet today.
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
    fn room(&self, cap: Option<u32>) -> Room {
        let left = cap.map_or(u32::MAX, |cap| cap.saturating_sub(self.delivered.saturating_add(self.pending)));
        Room { left, pending: self.pending > 0 }
    }
}

impl Ledger {
    /// Another day begins: what is pending counts for it.
    fn pass(&mut self, today: i64) {
        if today <= self.today {
            return;
        }
        self.days += usize::from(self.all.delivered > 0);
        (self.today, self.all.delivered) = (today, 0);
        self.sites.values_mut().for_each(|tally| tally.delivered = 0);
        self.sites.retain(|_, tally| tally.pending > 0);
    }

    fn cap(&self, such: impl Fn(&Share) -> bool) -> Option<Option<u32>> {
        self.caps.iter().find(|cap| such(&cap.share)).map(|cap| cap.days.get(self.days).copied())
    }

    fn room(&self, site: &str, is: impl Fn(&str) -> bool) -> Room {
        let own = self.cap(|share| matches!(share, Share::Site(name) if is(name)));
        let cap = own.or_else(|| self.cap(|share| *share == Share::Each)).flatten();
        let of_site = self.sites.get(site).copied().unwrap_or_default().room(cap);
        let of_all = self.all.room(self.cap(|share| *share == Share::All).flatten());
        let pending = of_site.left == 0 && of_site.pending || of_all.left == 0 && of_all.pending;
        Room { left: of_site.left.min(of_all.left), pending }
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
    /// The plans as they are set up, with what was delivered before this server ran. What it counted itself goes on.
    pub(crate) fn new(setup: &Setup, delivered: &[(SourceId, Delivered)], today: i64, before: &Warmups) -> Self {
        let of = |(source, delivered): &(SourceId, Delivered)| {
            let caps: Vec<Cap> = setup.caps.iter().filter(|cap| cap.source == *source).cloned().collect();
            let known = before.0.get(source).filter(|known| {
                let mut ledger = known.lock();
                let same = ledger.caps.first().map(|cap| cap.began) == caps.first().map(|cap| cap.began);
                if same {
                    ledger.caps.clone_from(&caps);
                }
                same
            });
            let tally = |n| Tally { delivered: n, pending: 0 };
            let begun = || {
                let sites = delivered.sites.iter().map(|(site, n)| (site.clone(), tally(*n))).collect();
                let (days, all) = (delivered.days as usize, tally(delivered.today));
                Arc::new(Warmup { source: *source, ledger: Mutex::new(Ledger { caps, today, days, all, sites }) })
            };
            (*source, known.cloned().unwrap_or_else(begun))
        };
        Warmups(delivered.iter().map(of).collect())
    }

    /// How much more a source may deliver to a site that `is` called so; none when it may deliver what it can.
    pub(crate) fn room(&self, source: SourceId, site: &str, today: i64, is: impl Fn(&str) -> bool) -> Option<Room> {
        let mut ledger = self.0.get(&source)?.lock();
        ledger.pass(today);
        Some(ledger.room(site, is))
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
    /// One was delivered, today: what is to be noted on disk.
    pub(crate) fn delivered(&self, today: i64) -> Count {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ledger = self.warmup.lock();
        ledger.pass(today);
        for tally in ledger.both(&self.site) {
            tally.delivered += 1;
            tally.pending = tally.pending.saturating_sub(u32::from(*left > 0));
        }
        *left = left.saturating_sub(1);
        Count { source: self.warmup.source, site: self.site.clone(), day: ledger.today }
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
