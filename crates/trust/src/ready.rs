//! The keys that sign, kept ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::{Address, Result, Timestamp};
use store::Store;

use crate::keys::{Changed, signing_keys};
use crate::sign::{Signable, SigningKey};
use crate::{Digest, dkim2};

/// Domains whose keys are kept ready, or known to be none; a pair is a few kilobytes.
const KEPT: usize = 1000;

/// A domain's keys, ready to sign.
type Ready = Arc<[SigningKey]>;

#[derive(Default)]
struct Cache {
    ready: HashMap<String, Ready>,
    /// Counts changes: what was read under another number may be out of date.
    changes: u64,
}

/// The keys of all domains, those in use ready to sign. Cheap to clone.
#[derive(Clone)]
pub struct Keys {
    store: Store,
    cache: Arc<Mutex<Cache>>,
    dkim2: bool,
}

impl Keys {
    /// The handle; begins to listen to the store.
    pub fn new(store: Store) -> Self {
        let cache: Arc<Mutex<Cache>> = Arc::default();
        let ear = Arc::downgrade(&cache);
        store.subscribe(Box::new(move |event| {
            if let (Some(Changed(domain)), Some(cache)) = (event.downcast_ref::<Changed>(), ear.upgrade()) {
                let mut cache = lock(&cache);
                cache.changes += 1;
                cache.ready.remove(domain);
            }
        }));
        Keys { store, cache, dkim2: false }
    }

    /// The same, and mails are signed by DKIM2 too.
    #[must_use]
    pub fn with_dkim2(self, dkim2: bool) -> Self {
        Keys { dkim2, ..self }
    }

    /// For a mail that is to be signed.
    pub fn digest(&self) -> Digest {
        if self.dkim2 { Digest::with_instance() } else { Digest::new() }
    }

    /// The `DKIM2-Signature` of a transaction, by the sender's domain: a whole field, to be put before `instance`, the
    /// `Message-Instance` of the mail. None when that domain has no keys.
    ///
    /// # Errors
    /// 451 when the keys cannot be had.
    pub async fn sign_hop(
        &self,
        instance: &str,
        from: &Address,
        to: &Address,
        now: Timestamp,
    ) -> Result<Option<String>> {
        dkim2::signature(&self.of(from.domain()).await?, instance, from, to, now)
    }

    /// The signatures of `domain` for a mail, whole fields to be put before it, one for each key; empty when the domain has
    /// no keys or the mail cannot be signed.
    ///
    /// # Errors
    /// 451 when the keys cannot be had.
    pub async fn sign(&self, domain: &str, mail: Digest, now: Timestamp) -> Result<String> {
        signatures(&self.of(domain).await?, mail, now)
    }

    async fn of(&self, domain: &str) -> Result<Ready> {
        match self.known(domain) {
            Ok(keys) => Ok(keys),
            Err(changes) => {
                let name = domain.to_owned();
                let read = self.store.read(move |tx| signing_keys(tx, &name)).await?;
                Ok(self.learn(domain, read.into(), changes))
            }
        }
    }

    /// [`Keys::sign`] for threads outside the runtime.
    ///
    /// # Errors
    /// As [`Keys::sign`].
    pub fn sign_blocking(&self, domain: &str, mail: Digest, now: Timestamp) -> Result<String> {
        let keys = match self.known(domain) {
            Ok(keys) => keys,
            Err(changes) => {
                let name = domain.to_owned();
                let read = self.store.read_blocking(move |tx| signing_keys(tx, &name))?;
                self.learn(domain, read.into(), changes)
            }
        };
        signatures(&keys, mail, now)
    }

    /// Whether it is known that none of these domains has keys: a mail of theirs needs no digest.
    pub fn are_none<'a>(&self, domains: impl IntoIterator<Item = &'a str>) -> bool {
        let cache = lock(&self.cache);
        domains.into_iter().all(|domain| cache.ready.get(domain).is_some_and(|keys| keys.is_empty()))
    }

    /// What is known of a domain; else how many changes there have been.
    fn known(&self, domain: &str) -> std::result::Result<Ready, u64> {
        let cache = lock(&self.cache);
        cache.ready.get(domain).cloned().ok_or(cache.changes)
    }

    /// What was read since `changes`; it is kept unless there was another.
    fn learn(&self, domain: &str, keys: Ready, changes: u64) -> Ready {
        let mut cache = lock(&self.cache);
        if changes == cache.changes {
            if cache.ready.len() >= KEPT {
                cache.ready.clear();
            }
            cache.ready.insert(domain.to_owned(), keys.clone());
        }
        keys
    }
}

fn signatures(keys: &[SigningKey], mail: Digest, now: Timestamp) -> Result<String> {
    let mail = mail.finish().filter(|_| !keys.is_empty());
    let Some(mail) = mail.as_ref().and_then(Signable::of) else { return Ok(String::new()) };
    keys.iter().map(|key| key.sign(&mail, now)).collect()
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
