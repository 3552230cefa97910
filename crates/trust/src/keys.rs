//! The keys of our domains: made, kept, handed out ready to sign.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base::{Error, Result, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::{Migrations, Row, Store, Tx, params};

use crate::Digest;
use crate::sign::{Algorithm, Pair, SigningKey};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations { owner: "trust", steps: &[FIRST] };

const FIRST: &str = "
CREATE TABLE dkim_key (domain {text} NOT NULL, selector {text} NOT NULL, algorithm {int} NOT NULL,
    private_key {bytes} NOT NULL, public_key {bytes} NOT NULL, created {int} NOT NULL,
    PRIMARY KEY (domain, selector)) {clustered};
";

store::statements! { include_str!("../sql/dkim.sql");
    KEY_ADD = "key_add",
    KEYS_OF = "keys_of",
    KEYS_REMOVE = "keys_remove",
    KEY_DOMAINS = "key_domains",
}

/// Told when the keys of a domain changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(pub String);

impl Algorithm {
    fn stored(self) -> i64 {
        match self {
            Algorithm::Rsa => 1,
            Algorithm::Ed25519 => 2,
        }
    }

    fn read(value: i64) -> store::Result<Self> {
        match value {
            1 => Ok(Algorithm::Rsa),
            2 => Ok(Algorithm::Ed25519),
            n => Err(store::Error::Corrupt(format!("trust: algorithm {n}").into())),
        }
    }
}

/// A pair of keys of each algorithm, not stored yet.
pub struct NewKeys {
    made: Timestamp,
    /// PKCS #8 (RFC 5208), and what the DNS tells.
    keys: Vec<(Algorithm, Vec<u8>, Vec<u8>)>,
}

impl NewKeys {
    /// Makes them. Takes up to a second of computing: not for a job, nor for a thread that serves connections.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate(now: Timestamp) -> Result<Self> {
        let failed = |_| Error::internal("no key could be made");
        let rsa = rsa::KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let rsa_private: Pkcs8V1Der<'_> = rsa.as_der().map_err(failed)?;
        let rsa_public: PublicKeyX509Der<'_> = rsa.public_key().as_der().map_err(failed)?;
        let ed = Ed25519KeyPair::generate().map_err(failed)?;
        let ed_private: Pkcs8V1Der<'_> = ed.as_der().map_err(failed)?;
        let keys = vec![
            (Algorithm::Rsa, rsa_private.as_ref().to_vec(), rsa_public.as_ref().to_vec()),
            // RFC 8463 §4.2: the key alone, without what says that it is one.
            (Algorithm::Ed25519, ed_private.as_ref().to_vec(), ed.public_key().as_ref().to_vec()),
        ];
        Ok(NewKeys { made: now, keys })
    }

    /// `r20251121`, `e20251121`: the day tells an administrator which is the newer.
    fn selector(&self, algorithm: Algorithm) -> String {
        let (day, letter) = (self.made.civil(), if algorithm == Algorithm::Rsa { 'r' } else { 'e' });
        format!("{letter}{:04}{:02}{:02}", day.year, day.month, day.day)
    }
}

/// Stores the keys of a domain (lower case A-labels); in the job that makes the domain.
///
/// # Errors
/// The store's; it has keys made on the same day already.
pub fn add_keys(tx: &mut Tx<'_>, domain: &str, new: &NewKeys) -> store::Result<()> {
    for (algorithm, private, public) in &new.keys {
        let selector = new.selector(*algorithm);
        let row = params![domain, selector.as_str(), algorithm.stored(), &private[..], &public[..], new.made];
        tx.execute(&KEY_ADD, row)?;
    }
    tx.publish(Arc::new(Changed(domain.to_owned())));
    Ok(())
}

/// Forgets the keys of a domain; in the job that removes it.
///
/// # Errors
/// The store's.
pub fn remove_keys(tx: &mut Tx<'_>, domain: &str) -> store::Result<()> {
    tx.execute(&KEYS_REMOVE, params![domain])?;
    tx.publish(Arc::new(Changed(domain.to_owned())));
    Ok(())
}

/// What the DNS is to tell of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The name below `_domainkey`.
    pub selector: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// As `p=` has it, base64.
    pub key: String,
}

/// The public keys of a domain.
///
/// # Errors
/// The store's.
pub fn public_keys(tx: &mut Tx<'_>, domain: &str) -> store::Result<Vec<PublicKey>> {
    tx.list(&KEYS_OF, params![domain], |r| {
        let (selector, algorithm) = (r.text(0)?.to_owned(), Algorithm::read(r.int(1)?)?);
        Ok(PublicKey { selector, algorithm, key: STANDARD.encode(r.bytes(3)?) })
    })
}

fn signing_key(domain: &str, r: &Row<'_>) -> store::Result<SigningKey> {
    let (selector, private) = (r.text(0)?.to_owned(), r.bytes(2)?);
    let unreadable = |_| store::Error::Corrupt(format!("trust: the key {selector} of {domain} cannot be read").into());
    let pair = match Algorithm::read(r.int(1)?)? {
        Algorithm::Rsa => Pair::Rsa(rsa::KeyPair::from_pkcs8(private).map_err(unreadable)?),
        Algorithm::Ed25519 => Pair::Ed25519(Ed25519KeyPair::from_pkcs8(private).map_err(unreadable)?),
    };
    Ok(SigningKey { domain: domain.to_owned(), selector, pair })
}

fn signing_keys(tx: &mut Tx<'_>, domain: &str) -> store::Result<Vec<SigningKey>> {
    tx.list(&KEYS_OF, params![domain], |r| signing_key(domain, r))
}

/// Whether every private key can be read and belongs to its public one: this crate's part of `postroom verify`.
///
/// # Errors
/// The store's: then nothing is known.
pub fn verify(tx: &mut Tx<'_>) -> store::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for domain in tx.list(&KEY_DOMAINS, params![], |r| Ok(r.text(0)?.to_owned()))? {
        tx.rows(&KEYS_OF, params![domain.as_str()], |r| {
            let same = |public: &[u8], stored: &[u8]| public == stored;
            let fits = match signing_key(&domain, r).map(|k| k.pair) {
                Ok(Pair::Ed25519(pair)) => same(pair.public_key().as_ref(), r.bytes(3)?),
                Ok(Pair::Rsa(pair)) => {
                    let der: std::result::Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                    der.is_ok_and(|der| r.bytes(3).is_ok_and(|stored| same(der.as_ref(), stored)))
                }
                Err(_) => false,
            };
            if !fits {
                wrong.push(format!("trust: the key {} of {domain} does not fit its public key", r.text(0)?));
            }
            Ok(())
        })?;
    }
    Ok(wrong)
}

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
        Keys { store, cache }
    }

    /// The signatures of `domain` for a mail, whole fields to be put before it, one for each key; empty when the domain has
    /// no keys or the mail cannot be signed.
    ///
    /// # Errors
    /// 451 when the keys cannot be had.
    pub async fn sign(&self, domain: &str, mail: Digest, now: Timestamp) -> Result<String> {
        let (keys, mail) = (self.of(domain).await?, mail.finish());
        let Some(mail) = mail else { return Ok(String::new()) };
        keys.iter().filter_map(|key| key.sign(&mail, now).transpose()).collect()
    }

    async fn of(&self, domain: &str) -> Result<Ready> {
        let changes = {
            let cache = lock(&self.cache);
            if let Some(keys) = cache.ready.get(domain) {
                return Ok(keys.clone());
            }
            cache.changes
        };
        let name = domain.to_owned();
        let keys: Ready = self.store.read(move |tx| signing_keys(tx, &name)).await?.into();
        let mut cache = lock(&self.cache);
        if changes == cache.changes {
            if cache.ready.len() >= KEPT {
                cache.ready.clear();
            }
            cache.ready.insert(domain.to_owned(), keys.clone());
        }
        Ok(keys)
    }
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
