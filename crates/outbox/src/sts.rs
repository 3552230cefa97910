//! MTA-STS on the way out (RFC 8461): asks for, fetches and remembers the policies of recipient domains. What is read and
//! what follows from it is [`trust::mta_sts`]; here are the DNS, the policy hosts and the store.
//!
//! The first mail for a domain waits for its policy; later ones go by what is known, which is looked after meanwhile. A
//! policy is on disk, so that neither a restart nor an outage of its host takes the protection away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::Timestamp;
use net::{Deadline, DnsError, Https};
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

/// What is known of a domain.
#[derive(Default)]
struct Remembered {
    entry: Entry,
    /// When mail asked for it last.
    used: Timestamp,
}

/// The policies, and the way to their hosts.
pub(crate) struct Guards {
    https: Https,
    known: Mutex<HashMap<String, Remembered>>,
    renewals: Semaphore,
}

impl Guards {
    /// `https` asks public addresses only.
    pub(crate) fn new(https: Https) -> Self {
        Guards { https, known: Mutex::default(), renewals: Semaphore::new(RENEWALS) }
    }

    /// Does something to what is remembered of a domain.
    fn with<T>(&self, domain: &str, work: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED && !known.contains_key(domain) {
            // Policies are on disk, too.
            known.retain(|_, remembered| remembered.entry.known.is_some());
            if known.len() >= REMEMBERED {
                known.clear();
            }
        }
        work(known.entry(domain.to_owned()).or_default())
    }

    fn is_remembered(&self, domain: &str) -> bool {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).contains_key(domain)
    }

    /// The policy was in the way of a mail: a newer one is looked for before the next attempt (RFC 8461 §5.1).
    pub(crate) fn was_in_the_way(&self, domain: &str, now: Timestamp) {
        self.with(domain, |remembered| remembered.entry.was_in_the_way(now));
    }

    /// Those in use of which the policy is to be looked after.
    fn stale(&self, now: Timestamp) -> Vec<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stale = |remembered: &Remembered| {
            let in_use = now.0 - remembered.used.0 < IN_USE;
            in_use && remembered.entry.known.is_some() && remembered.entry.next(now) == Next::Ask
        };
        known.iter().filter(|(_, remembered)| is_stale(remembered)).map(|(domain, _)| domain.clone()).collect()
    }
}

/// The policy for mail to a domain, if it has one that is good and asks anything. Waits for it only when none is known.
pub(crate) async fn of(inner: &Arc<Inner>, domain: &str) -> Option<Arc<Sts>> {
    mta_sts::record_name(domain)?;
    let now = inner.clock.now();
    if !inner.guards.is_remembered(domain) {
        recall(inner, domain).await;
    }
    let (next, is_known) = inner.guards.with(domain, |remembered| {
        remembered.used = now;
        (remembered.entry.next(now), remembered.entry.policy(now).is_some())
    });
    if next == Next::Ask && is_known {
        let (inner, domain) = (inner.clone(), domain.to_owned());
        tokio::spawn(async move { renew_in_turn(&inner, &domain).await });
    } else if next == Next::Ask {
        renew(inner, domain).await;
    }
    inner.guards.with(domain, |remembered| {
        let policy = remembered.entry.policy(now).filter(|policy| policy.mode != Mode::None)?.clone();
        let id = remembered.entry.known.as_ref().map_or(String::new(), |known| known.id.clone());
        Some(Arc::new(Sts { domain: domain.to_owned(), id, policy }))
    })
}

/// Reads what is on disk.
async fn recall(inner: &Inner, domain: &str) {
    let name = domain.to_owned();
    match inner.store.read(move |tx| mta_sts::recall(tx, &name)).await {
        Ok(known) => inner.guards.with(domain, |remembered| {
            remembered.entry.known = remembered.entry.known.take().or(known);
        }),
        Err(error) => tracing::error!(%error, domain, "the policy of a domain cannot be read"),
    }
}

async fn renew_in_turn(inner: &Inner, domain: &str) {
    let Ok(_turn) = inner.guards.renewals.try_acquire() else { return };
    tokio::select! {
        () = renew(inner, domain) => {}
        () = inner.stopped() => {}
    }
}

/// Asks what the domain announces, and fetches its policy where that is called for.
async fn renew(inner: &Inner, domain: &str) {
    let said = announced(inner, domain).await;
    let now = inner.clock.now();
    let Next::Fetch(id) = inner.guards.with(domain, |remembered| remembered.entry.asked(said, now)) else { return };
    let fetched = fetch(&inner.guards.https, domain).await;
    if let Err(why) = &fetched {
        tracing::warn!(domain, why, "the MTA-STS policy that the domain announces cannot be fetched");
        if inner.guards.with(domain, |remembered| remembered.entry.policy(now).is_none()) {
            tally::unfetched(inner, domain, why);
        }
    }
    let now = inner.clock.now();
    let known = inner.guards.with(domain, |remembered| {
        let is_new = fetched.is_ok();
        remembered.entry.fetched(id, fetched.ok(), now);
        remembered.entry.known.clone().filter(|_| is_new)
    });
    if let Some(known) = known {
        keep(inner, domain, known).await;
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
        for domain in inner.guards.stale(now) {
            renew_in_turn(&inner, &domain).await;
            if inner.is_stopping() {
                return;
            }
        }
        if let Err(error) = inner.store.write(move |tx| mta_sts::tidy_up(tx, now)).await {
            tracing::warn!(%error, "policies whose time is over could not be removed");
        }
    }
}

/// What a hop's policy demands of a host.
pub(crate) fn demand(sts: Option<&Arc<Sts>>, host: &str) -> Demand {
    sts.map_or(Demand::Nothing, |sts| sts.policy.demand(host))
}
