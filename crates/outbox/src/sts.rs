//! MTA-STS on the way out (RFC 8461): asks for, fetches and remembers the policies of recipient domains. What is read and
//! what follows from it is [`trust::mta_sts`]; here are the DNS, the policy hosts and the store.
//!
//! The first mail for a domain waits for its policy; later ones go by what is known, which is looked after meanwhile. A
//! policy is on disk, so that neither a restart nor an outage of its host takes the protection away; what cannot be read from
//! there holds the mail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{BlobId, Reply, Timestamp};
use net::{Deadline, DnsError, Https};
use store::{Lane, Tx};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use trust::mta_sts::{self, Announced, Demand, Entry, Known, LARGEST, Mode, Next, Policy};

use crate::outbox::Inner;
use crate::tally;

/// How long the DNS may take for an announcement.
const DNS: Duration = Duration::from_secs(10);
/// How long a policy's host may take while mail waits (RFC 8461 §3.3 names a minute for those who do not).
const FETCH: Duration = Duration::from_secs(20);
/// Domains that are remembered. The policies of others are on disk.
const REMEMBERED: usize = 50_000;
/// Policies that are renewed at once while nobody waits for them.
const RENEWALS: usize = 20;
/// From one look for policies to be renewed to the next, and how long a domain is looked after when it gets no mail.
const ROUND: Duration = Duration::from_secs(3600);
const IN_USE: i64 = 14 * 24 * 3600 * 1000;

/// The policy of a recipient domain, as the hop of its mail carries it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sts {
    pub(crate) domain: String,
    pub(crate) id: String,
    pub(crate) policy: Policy,
}

impl Sts {
    /// What does not fit is not sent.
    pub(crate) fn enforces(&self) -> bool {
        self.policy.mode == Mode::Enforce
    }

    /// For the mail that waits, as its host is none that the policy names.
    pub(crate) fn refusal(&self, host: &str) -> String {
        format!(
            "The MTA-STS policy of {} does not name its mail host {host}: its MX record or its policy is wrong, or its DNS is \
             forged; its administrator can mend it",
            self.domain
        )
    }
}

/// What is known of a domain, since it was read from disk.
struct Remembered {
    entry: Entry,
    /// When mail asked for it last.
    used: Timestamp,
}

/// A domain that is remembered. Whoever looks after it has hold of it, though it is forgotten meanwhile.
#[derive(Clone)]
struct Domain(Arc<Mutex<Remembered>>);

impl Domain {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The domains that are remembered: those whose policy, or that they have none, was read from disk.
#[derive(Default)]
struct Table(Mutex<HashMap<String, Domain>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Domain>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, domain: &str) -> Option<Domain> {
        self.lock().get(domain).cloned()
    }

    /// Remembers what was on disk, unless somebody else did.
    fn read(&self, domain: &str, known: Option<Known>, now: Timestamp) -> Domain {
        let mut table = self.lock();
        if table.len() >= REMEMBERED && !table.contains_key(domain) {
            // Policies are on disk, too.
            table.retain(|_, domain| domain.lock().entry.known.is_some());
            if table.len() >= REMEMBERED {
                table.clear();
            }
        }
        let new = || {
            let mut entry = Entry::default();
            entry.known = known;
            Domain(Arc::new(Mutex::new(Remembered { entry, used: now })))
        };
        table.entry(domain.to_owned()).or_insert_with(new).clone()
    }

    /// Those in use of which the policy is to be looked after.
    fn stale(&self, now: Timestamp) -> Vec<(String, Domain)> {
        let is_stale = |domain: &Domain| {
            let remembered = domain.lock();
            let in_use = now.0 - remembered.used.0 < IN_USE;
            in_use && remembered.entry.known.is_some() && remembered.entry.next(now) == Next::Ask
        };
        let table = self.lock();
        table
            .iter()
            .filter(|(_, known)| is_stale(known))
            .map(|(domain, known)| (domain.clone(), known.clone()))
            .collect()
    }
}

/// The policies, and the way to their hosts.
pub(crate) struct Guards {
    https: Https,
    known: Table,
    renewals: Semaphore,
}

impl Guards {
    /// `https` asks public addresses only.
    pub(crate) fn new(https: Https) -> Self {
        Guards { https, known: Table::default(), renewals: Semaphore::new(RENEWALS) }
    }

    /// The policy was in the way of a mail: a newer one is looked for before the next attempt (RFC 8461 §5.1). One that is
    /// forgotten meanwhile is so anyway.
    pub(crate) fn was_in_the_way(&self, domain: &str, now: Timestamp) {
        if let Some(known) = self.known.get(domain) {
            known.lock().entry.was_in_the_way(now);
        }
    }
}

/// The policy for mail to a domain, if it has one that is good and asks anything. Waits for it only when none is known.
///
/// # Errors
/// The reply for all mail to that domain: the store does not say whether there is one.
pub(crate) async fn of(inner: &Arc<Inner>, domain: &str) -> Result<Option<Arc<Sts>>, Reply> {
    if mta_sts::record_name(domain).is_none() {
        return Ok(None);
    }
    let now = inner.clock.now();
    let known = remembered(inner, domain, now).await?;
    let (next, is_known) = {
        let mut remembered = known.lock();
        remembered.used = now;
        (remembered.entry.next(now), remembered.entry.policy(now).is_some())
    };
    if next == Next::Ask && is_known {
        let (inner, domain, known) = (inner.clone(), domain.to_owned(), known.clone());
        tokio::spawn(async move { renew_in_turn(&inner, &domain, &known).await });
    } else if next == Next::Ask {
        renew(inner, domain, &known).await;
    }
    let remembered = known.lock();
    let policy = remembered.entry.policy(now).filter(|policy| policy.mode != Mode::None).cloned();
    let id = remembered.entry.known.as_ref().map_or(String::new(), |known| known.id.clone());
    Ok(policy.map(|policy| Arc::new(Sts { domain: domain.to_owned(), id, policy })))
}

/// What is remembered of a domain, or else on disk.
async fn remembered(inner: &Inner, domain: &str, now: Timestamp) -> Result<Domain, Reply> {
    if let Some(known) = inner.guards.known.get(domain) {
        return Ok(known);
    }
    let name = domain.to_owned();
    match inner.store.read(move |tx| mta_sts::recall(tx, &name)).await {
        Ok(known) => Ok(inner.guards.known.read(domain, known, now)),
        Err(error) => {
            tracing::error!(%error, domain, "the policy of a domain cannot be read; its mail waits");
            Err(Reply::new(
                451,
                3,
                0,
                format!("This server cannot read its store for what {domain} demands of mail hosts"),
            ))
        }
    }
}

async fn renew_in_turn(inner: &Inner, domain: &str, known: &Domain) {
    let Ok(_turn) = inner.guards.renewals.try_acquire() else { return };
    tokio::select! {
        () = renew(inner, domain, known) => {}
        () = inner.stopped() => {}
    }
}

/// Asks what the domain announces, and fetches its policy where that is called for.
async fn renew(inner: &Inner, domain: &str, known: &Domain) {
    let said = announced(inner, domain).await;
    let next = known.lock().entry.asked(said, inner.clock.now());
    let Next::Fetch(id) = next else { return };
    let fetched = fetch(&inner.guards.https, domain).await;
    let now = inner.clock.now();
    if let Err(why) = &fetched {
        tracing::warn!(domain, why, "the MTA-STS policy that the domain announces cannot be fetched");
        if known.lock().entry.policy(now).is_none() {
            tally::unfetched(inner, domain, why);
        }
    }
    let is_new = fetched.is_ok();
    let fetched = {
        let mut remembered = known.lock();
        remembered.entry.fetched(id, fetched.ok(), now);
        remembered.entry.known.clone().filter(|_| is_new)
    };
    if let Some(fetched) = fetched {
        keep(inner, domain, fetched).await;
    }
}

async fn announced(inner: &Inner, domain: &str) -> Announced {
    let Some(name) = mta_sts::record_name(domain) else { return Announced::Nothing };
    match inner.dns().txt(&name, Deadline::after(DNS)).await {
        Ok(found) => mta_sts::announced(&found.records),
        Err(DnsError::NoSuchName | DnsError::NoData | DnsError::BadName) => Announced::Nothing,
        Err(DnsError::Transient(_)) => Announced::Unknown,
    }
}

/// Fetches a policy (§3.3): by a host whose certificate is good, without a redirect, as plain text.
///
/// # Errors
/// Why there is none, in words.
async fn fetch(https: &Https, domain: &str) -> Result<Policy, String> {
    let answer = https.get(&mta_sts::policy_url(domain), Deadline::after(FETCH)).await.map_err(|e| e.to_string())?;
    if answer.status != 200 {
        return Err(format!("its host answers {}", answer.status));
    }
    if answer.media != "text/plain" {
        return Err(format!("its host gives {:?}, not text/plain", answer.media));
    }
    if answer.body.len() > LARGEST {
        return Err("the policy is larger than 64 KB".into());
    }
    Policy::parse(&answer.body).map_err(|bad| bad.to_string())
}

async fn keep(inner: &Inner, domain: &str, known: Known) {
    let (mode, max_age, id) = (known.policy.mode.word(), known.policy.max_age.as_secs(), known.id.clone());
    tracing::info!(domain, id, mode, max_age, "the domain has an MTA-STS policy");
    let name = domain.to_owned();
    if let Err(error) = inner.store.write(move |tx| mta_sts::keep(tx, &name, &known)).await {
        tracing::error!(%error, domain, "the policy of a domain cannot be kept; it is good until the server ends");
    }
}

/// Looks after the policies of domains that get mail, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = sleep(ROUND) => {}
            () = inner.stopped() => return,
        }
        let now = inner.clock.now();
        for (domain, known) in inner.guards.known.stale(now) {
            renew_in_turn(&inner, &domain, &known).await;
            if inner.is_stopping() {
                return;
            }
        }
        if let Err(error) = tidy_up(&inner, now).await {
            tracing::warn!(%error, "policies whose time is over could not be removed");
        }
    }
}

async fn tidy_up(inner: &Inner, now: Timestamp) -> store::Result<()> {
    let job = move |tx: &mut Tx<'_>, _: &[BlobId]| mta_sts::tidy_up(tx, now);
    while !inner.is_stopping() && inner.store.write_with(Lane::Bulk, Vec::new(), job).await? {}
    Ok(())
}

/// What a hop's policy demands of a host.
pub(crate) fn demand(sts: Option<&Arc<Sts>>, host: &str) -> Demand {
    sts.map_or(Demand::Nothing, |sts| sts.policy.demand(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the table is full it forgets, and what is read anew comes from disk.
    #[test]
    fn what_is_not_remembered_is_read_from_disk_again() {
        let (table, now) = (Table::default(), Timestamp(1));
        let policy =
            Policy { mode: Mode::Enforce, max_age: Duration::from_secs(3600), hosts: vec!["mx.b.test".into()] };
        let known = || Some(Known { policy: policy.clone(), id: "1".into(), fetched: now });
        let held = table.read("b.test", known(), now);
        for n in 1..REMEMBERED {
            table.read(&format!("{n}.test"), known(), now);
        }
        assert!(table.get("b.test").is_some());
        table.read("none.test", None, now);
        assert!(table.get("b.test").is_none());
        // Who has hold of it goes by it all the same.
        assert!(held.lock().entry.policy(now).is_some());
        // What has no policy goes first.
        for n in 1..REMEMBERED {
            table.read(&format!("{n}.test"), known(), now);
        }
        table.read("b.test", known(), now);
        assert!(table.get("none.test").is_none() && table.get("1.test").is_some());
    }
}
