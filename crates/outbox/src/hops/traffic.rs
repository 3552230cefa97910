//! How much of which stream went to which site by which source, for monitoring. The number of names is bounded, and a number never falls:
//! providers that the data names have their own, other sites once they have had some mail, as long as there are names left;
//! the rest is "other". Of a name only streams are told that had mail for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Stream;
use queue::source::SourceId;

use super::sites::{Place, SiteKey, SiteName};

/// Sites that get names although the data does not know them, and after how many recipients.
const NAMES: usize = 100;
const SOME: u64 = 100;
/// The name of all the rest.
const OTHER: &str = "other";

/// Recipients, by what an attempt for them came to: [`crate::OUTCOMES`].
pub(super) type Came = [u64; 4];
/// The same of each stream.
pub(super) type Counts = [[AtomicU64; 4]; 3];

#[derive(Default)]
pub(super) struct Counted {
    counts: HashMap<(SourceId, Arc<str>), Arc<Counts>>,
    /// Names given to sites that the data does not know.
    named: usize,
}

/// A line of it.
pub(super) type Line = (SourceId, Arc<str>, Stream, Came);

impl Counted {
    /// So many more to a site.
    pub(super) fn add(&mut self, site: &SiteKey, place: &mut Place, stream: Stream, came: Came) {
        place.recipients += came.iter().sum::<u64>();
        let is_other = place.traffic.is_none();
        if is_other && (matches!(site.name, SiteName::Known(_)) || place.recipients >= SOME) {
            place.traffic = self.name(site);
        }
        let into = match &place.traffic {
            Some(own) => own,
            None => self.counts.entry((site.source, OTHER.into())).or_default(),
        };
        into[stream as usize].iter().zip(came).for_each(|(all, n)| _ = all.fetch_add(n, Ordering::Relaxed));
    }

    /// A name's counts, which it may have had before it was forgotten.
    fn name(&mut self, site: &SiteKey) -> Option<Arc<Counts>> {
        let key = (site.source, Arc::from(site.name.label()));
        if let Some(known) = self.counts.get(&key) {
            return Some(known.clone());
        }
        let known = matches!(site.name, SiteName::Known(_));
        if !known && self.named >= NAMES {
            return None;
        }
        self.named += usize::from(!known);
        Some(self.counts.entry(key).or_default().clone())
    }

    /// All of it, in order.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut all = Vec::new();
        for ((source, site), counts) in &self.counts {
            for stream in Stream::ALL {
                let came = std::array::from_fn(|i| counts[stream as usize][i].load(Ordering::Relaxed));
                all.extend((came != [0; 4]).then(|| (*source, site.clone(), stream, came)));
            }
        }
        all.sort_by(|(a, b, c, _), (x, y, z, _)| (a, b, c.stored()).cmp(&(x, y, z.stored())));
        all
    }
}
