//! Pauses that an administrator ends before their time, here or on another node. The site is sent to again at once; what had been put
//! back until the end of the pause is due in the tables, and is brought forward.
//!
//! Which mail that is, no row says: a group is known by a digest of its domain, and the site of a domain is found by its mail hosts. So
//! the domain of each group that has a turn behind the pause is asked for anew, as for its next attempt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{BlobId, Timestamp};
use net::Deadline;
use queue::source::{SourceId, Used};
use queue::{Group, Turn};
use store::{Lane, Tx};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::hops::Then;
use crate::outbox::Inner;
use crate::route::{self, Hop, To};
use crate::{schedule, used};

/// A turn may have been given by a clock that was set a little since.
const SLACK: Duration = Duration::from_secs(60);
/// Domains that are asked for at once, and how long the DNS may take for one. Mail of one that does not answer keeps its turn.
const QUESTIONS: usize = 50;
const DNS: Duration = Duration::from_secs(10);

/// Pauses that were ended, of which mail is to be brought forward.
#[derive(Default)]
pub(crate) struct Ended {
    pauses: Mutex<Vec<Then>>,
    bell: Notify,
}

impl Ended {
    fn lock(&self) -> MutexGuard<'_, Vec<Then>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is paused here is so no longer, of the sites that are called so. What was `noted` is of all nodes: whoever is down brings
/// nothing forward, and who runs does so once more.
pub(crate) fn heard(inner: &Inner, site: &str, source: Option<SourceId>, noted: &[Used]) {
    let mut ended = inner.hops.end_pauses(site, source);
    if !ended.is_empty() {
        used::over(inner, &ended);
        // What came meanwhile is due already, and held only here.
        let held = inner.timetable.held_at(inner.clock.now()).into_iter();
        let is_one = |hop: &Hop| is_any(&ended, inner.hops.digest_of(hop));
        let held: Vec<Group> = held.filter(|(_, hop)| is_one(hop)).map(|(group, _)| group).collect();
        inner.timetable.let_go(&held);
    }
    let (now, instant) = (inner.clock.now(), Instant::now());
    ended.extend(noted.iter().filter_map(|used| used::then(used, now, instant)));
    if !ended.is_empty() {
        inner.ended.lock().extend(ended);
        inner.ended.bell.notify_one();
    }
}

fn is_any(ended: &[Then], site: i64) -> bool {
    ended.iter().any(|then| then.at.1 == site)
}

/// Brings mail forward whenever pauses were ended, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        let ended = std::mem::take(&mut *inner.ended.lock());
        let work = async {
            match ended.is_empty() {
                true => inner.ended.bell.notified().await,
                false => {
                    if let Err(error) = bring_forward(&inner, &ended).await {
                        tracing::warn!(%error, "mail that waits for the end of a pause cannot be brought forward: it keeps its turn");
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = inner.stopped() => return,
        }
    }
}

/// What waits for these sites and has its turn behind the pause is due at once.
async fn bring_forward(inner: &Arc<Inner>, ended: &[Then]) -> store::Result<()> {
    let (now, instant) = (inner.clock.now(), Instant::now());
    let Some(first) = ended.iter().map(|then| then.until).min() else { return Ok(()) };
    let left = first.saturating_duration_since(instant).saturating_sub(SLACK);
    // What is due is on its way.
    let from = Timestamp(now.0.saturating_add(schedule::millis(left)).max(now.0 + 1));
    let (mut behind, mut known) = (None, HashMap::new());
    loop {
        let page = inner.store.read(move |tx| queue::scheduled(tx, behind)).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        behind = Some(*last);
        let later = inner.store.read(move |tx| later(tx, &page, from)).await?;
        find(inner, &later, &mut known).await;
        for (group, _) in later {
            if known.get(&group.domain).copied().flatten().is_some_and(|site| is_any(ended, site)) {
                bring_group(inner, group, from, now).await?;
            }
        }
    }
}

/// Groups of which something has its turn then or later, each with its domain.
fn later(tx: &mut Tx<'_>, page: &[(Group, Timestamp)], from: Timestamp) -> store::Result<Vec<(Group, String)>> {
    let mut all = Vec::new();
    for (group, _) in page {
        all.extend(queue::domain_later(tx, *group, from)?.map(|domain| (*group, domain)));
    }
    Ok(all)
}

/// Finds the sites of domains that are not known yet, by what stands for the domain.
async fn find(inner: &Arc<Inner>, groups: &[(Group, String)], known: &mut HashMap<i64, Option<i64>>) {
    let mut questions = JoinSet::new();
    for (group, domain) in groups {
        if known.contains_key(&group.domain) {
            continue;
        }
        known.insert(group.domain, None);
        while questions.len() >= QUESTIONS {
            known.extend(questions.join_next().await.and_then(Result::ok));
        }
        let (inner, of, domain) = (inner.clone(), group.domain, domain.clone());
        questions.spawn(async move { (of, site_of(&inner, &domain).await) });
    }
    while let Some(answer) = questions.join_next().await {
        known.extend(answer);
    }
}

/// What stands for the site of a domain; none when its hosts cannot be found now.
async fn site_of(inner: &Inner, domain: &str) -> Option<i64> {
    let hop = match inner.routes.chosen(domain, false) {
        Some(hop) => hop,
        None => {
            let found = route::hosts(domain, inner.dns(), Deadline::after(DNS), &inner.hostname).await.ok()?;
            Hop::new(To::Hosts(Arc::new(found.hosts)), false)
        }
    };
    Some(inner.hops.digest_of(&hop))
}

/// In jobs of which none is long.
async fn bring_group(inner: &Inner, group: Group, from: Timestamp, now: Timestamp) -> store::Result<()> {
    let mut behind = Some(Turn::before(from));
    while let Some(turn) = behind {
        let some = move |tx: &mut Tx<'_>, _: &[BlobId]| queue::bring_forward(tx, group, turn, now);
        behind = inner.store.write_with(Lane::Bulk, Vec::new(), some).await?;
    }
    Ok(())
}
