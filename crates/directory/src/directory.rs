//! The handle sessions hold: it answers from memory what it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{AccountId, Address, Clock, Error, OrganisationId, Result};
use store::{Gap, Store};

use crate::cache::{Moment, Recent};
use crate::gate::Gate;
use crate::pass::{self, Passes};
use crate::resolve::{self, Recipients, Resolution};
use crate::{Changed, domain};

/// Where randomness comes from: fills the whole slice, or says why it cannot.
pub type Random = fn(&mut [u8]) -> Result<()>;

/// The machine's randomness.
///
/// # Errors
/// When the machine has none to give.
pub fn system_random(bytes: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| Error::internal("no randomness"))
}

/// How long, in seconds, an answer is good without being asked for again. A change made here shows at once; this is the
/// longest that a change made by another node on the same store takes to show.
const FRESH: i64 = 60;

/// Entries that each half of a cache may hold.
const KEPT: usize = 20_000;

/// An address that leads to more than this is looked up each time.
const FEW: usize = 16;

/// Who is who, with a memory. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Random,
    /// Counts [`Changed`] events: what was learnt under another number may be wrong.
    generation: Arc<AtomicU64>,
    /// Domains that are not ours. Kept by domain, and apart, so that relaying to a million addresses does not push out
    /// what is known of our own.
    foreign: Recent<Box<str>, ()>,
    /// Addresses that do not exist, apart for the same reason: strangers choose them.
    unknown: Recent<Address, ()>,
    /// Addresses that do. The key is the address in the sender's case, because the detail is given in that case.
    known: Recent<Address, Arc<Recipients>>,
    /// Who may send as whom.
    senders: Recent<(AccountId, Address), bool>,
    pub(crate) gate: Gate,
    /// Who is signed in.
    pub(crate) passes: Arc<Passes>,
}

impl Directory {
    /// Opens the directory in a store that has its [`crate::MIGRATIONS`], and listens for changes. Within a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be read, or there is no randomness to be had.
    pub async fn open(store: Store, clock: Arc<dyn Clock>, random: Random) -> Result<Self> {
        let generation = Arc::new(AtomicU64::new(0));
        let gate = Gate::open(&store, random).await?;
        let (passes, rung) = Passes::new();
        let (counter, ears) = (generation.clone(), passes.clone());
        store.subscribe(Box::new(move |event| {
            // Behind a gap nobody knows what changed.
            if event.is::<Changed>() || event.is::<Gap>() {
                counter.fetch_add(1, Ordering::Release);
            }
            ears.hear(event);
        }));
        let inner = Inner {
            store,
            clock,
            random,
            generation,
            foreign: Recent::new(KEPT, FRESH),
            unknown: Recent::new(KEPT, FRESH),
            known: Recent::new(KEPT, FRESH),
            senders: Recent::new(KEPT, FRESH),
            gate,
            passes,
        };
        let inner = Arc::new(inner);
        tokio::spawn(pass::keep(Arc::downgrade(&inner), rung));
        Ok(Directory { inner })
    }

    /// The store below, for verbs in jobs.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Taken before a question is put to the store, and kept with the answer.
    pub(crate) fn moment(&self) -> Moment {
        Moment { time: self.inner.clock.now(), generation: self.inner.generation.load(Ordering::Acquire) }
    }

    /// What becomes of mail to `address`: asked for each RCPT TO, and answered without leaving the thread where the
    /// answer is remembered.
    ///
    /// # Errors
    /// 550 5.2.4 for an address whose lists are too deep or too many; 451 when the store does not answer.
    pub async fn resolve(&self, address: &Address) -> Result<Resolution> {
        let (inner, now) = (&self.inner, self.moment());
        if let Some(recipients) = inner.known.get(address, now) {
            return Ok(Resolution::Deliver(recipients));
        }
        if inner.foreign.get(address.domain(), now).is_some() {
            return Ok(Resolution::NotOurs);
        }
        if inner.unknown.get(address, now).is_some() {
            return Ok(Resolution::Unknown);
        }
        let asked = address.clone();
        let resolution = inner.store.read(move |tx| resolve::resolve(tx, &asked)).await?;
        match &resolution {
            Resolution::NotOurs => inner.foreign.put(address.domain().into(), (), now),
            Resolution::Unknown => inner.unknown.put(address.clone(), (), now),
            // A name can be spelt in many ways, and each is an entry of its own: long lists would fill the memory.
            Resolution::Deliver(recipients) if recipients.len() > FEW => {}
            Resolution::Deliver(recipients) => inner.known.put(address.clone(), recipients.clone(), now),
        }
        Ok(resolution)
    }

    /// Whether a domain (in lower case) is one of ours.
    ///
    /// # Errors
    /// 451 when the store does not answer.
    pub async fn is_ours(&self, domain: &str) -> Result<bool> {
        Ok(self.organisation_of(domain).await?.is_some())
    }

    /// Whose a domain (in lower case) is; None: it is none of ours.
    ///
    /// # Errors
    /// 451 when the store does not answer.
    pub async fn organisation_of(&self, domain: &str) -> Result<Option<OrganisationId>> {
        let (inner, now) = (&self.inner, self.moment());
        if inner.foreign.get(domain, now).is_some() {
            return Ok(None);
        }
        let asked = domain.to_owned();
        let found = inner.store.read(move |tx| domain::domain_by_name(tx, &asked)).await?;
        if found.is_none() {
            inner.foreign.put(domain.into(), (), now);
        }
        Ok(found.map(|domain| domain.organisation))
    }

    /// The address that mail to `postmaster` or `abuse` goes to when it comes for this host and for no domain (RFC 5321
    /// §4.5.1): that of our oldest domain. None while there is no domain.
    ///
    /// # Errors
    /// 451 when the store does not answer.
    pub async fn role(&self, local: &str) -> Result<Option<Address>> {
        let Some(domain) = self.inner.store.read(domain::first_domain).await? else { return Ok(None) };
        Address::new(local, &domain.name).map(Some).map_err(Error::internal)
    }

    /// Whether `account` may send as `sender`: its own addresses and their sub-addresses, aliases that lead to it, groups
    /// it is a member of that allow it, postmaster@ and abuse@ where it reads them. A catch-all gives no such right.
    ///
    /// # Errors
    /// As [`Directory::resolve`].
    pub async fn owns(&self, account: AccountId, sender: &Address) -> Result<bool> {
        let (key, now) = ((account, sender.clone()), self.moment());
        if let Some(known) = self.inner.senders.get(&key, now) {
            return Ok(known);
        }
        let asked = sender.clone();
        let owns = self.inner.store.read(move |tx| resolve::owns(tx, account, &asked)).await?;
        self.inner.senders.put(key, owns, now);
        Ok(owns)
    }
}
