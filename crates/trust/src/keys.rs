//! The keys of our domains: made, kept, and replaced by new ones.
//!
//! A domain has a pair, of one key for each algorithm. The first pair signs at once. A later one ([`rotate`]) waits until
//! the DNS has its records; then it signs ([`activate`]), and the one before is retired: its records are to stay for
//! [`STAYS_PUBLISHED`], as mail that it signed is still on its way. When they are gone from the DNS, it is forgotten.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base::{Error, Reply, Result, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::{Row, Tx, params};

use crate::sign::{Algorithm, Pair, SigningKey};

pub(crate) const TABLE: &str = "
CREATE TABLE dkim_key (domain {text} NOT NULL, selector {text} NOT NULL, algorithm {int} NOT NULL,
    private_key {bytes} NOT NULL, public_key {bytes} NOT NULL, state {int} NOT NULL, since {int} NOT NULL,
    PRIMARY KEY (domain, selector)) {clustered};
";

store::statements! { include_str!("../sql/dkim.sql");
    KEY_ADD = "key_add",
    KEYS_OF = "keys_of",
    KEY_RETIRE = "key_retire",
    KEYS_ACTIVATE = "keys_activate",
    KEY_FORGET = "key_forget",
    KEYS_REMOVE = "keys_remove",
    KEY_DOMAINS = "key_domains",
    KEY_DOMAINS_UNSETTLED = "key_domains_unsettled",
}

/// So long the records of a retired key are to stay in the DNS. Mail waits in our queue for five days, in those of others
/// for as long again, and some readers verify only when they open it.
pub const STAYS_PUBLISHED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A pair that signs for longer is to be replaced: who has stolen a key has it for no longer than that. Senders agree on half a year
/// (M3AAWG, DKIM Key Rotation Best Common Practices).
pub const SIGNS: Duration = Duration::from_secs(183 * 24 * 3600);

/// Told when the keys of a domain changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed(pub String);

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It signs once its record is in the DNS.
    Waiting,
    /// It signs.
    Active,
    /// It signed, and verifies what is still on its way.
    Retired,
}

impl State {
    fn stored(self) -> i64 {
        match self {
            State::Waiting => 1,
            State::Active => 2,
            State::Retired => 3,
        }
    }

    fn read(value: i64) -> store::Result<Self> {
        match value {
            1 => Ok(State::Waiting),
            2 => Ok(State::Active),
            3 => Ok(State::Retired),
            n => Err(store::Error::Corrupt(format!("trust: state of a key {n}").into())),
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Active => "active",
            State::Retired => "retired",
        }
    }
}

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

    /// `r20251121`, `e20251121`: the day tells an administrator which is the newer. A second pair of one day is
    /// `r20251121b`.
    fn selector(&self, algorithm: Algorithm, nth: u8) -> String {
        let (day, letter) = (self.made.civil(), if algorithm == Algorithm::Rsa { 'r' } else { 'e' });
        let again = if nth == 0 { String::new() } else { char::from(b'a' + nth).to_string() };
        format!("{letter}{:04}{:02}{:02}{again}", day.year, day.month, day.day)
    }

    fn store(&self, tx: &mut Tx<'_>, domain: &str, nth: u8, state: State) -> store::Result<()> {
        for (algorithm, private, public) in &self.keys {
            let (selector, algorithm, state) = (self.selector(*algorithm, nth), algorithm.stored(), state.stored());
            let row = params![domain, selector.as_str(), algorithm, &private[..], &public[..], state, self.made];
            tx.execute(&KEY_ADD, row)?;
        }
        Ok(())
    }
}

/// So many pairs may be made in a day.
const A_DAY: u8 = 26;

/// Stores the first keys of a domain (lower case A-labels); in the job that makes the domain. They sign at once: there is
/// nothing else to sign with, and until the DNS has their records a signature counts as none (RFC 6376 §6.1).
///
/// # Errors
/// The store's; it has keys made on the same day already.
pub fn add_keys(tx: &mut Tx<'_>, domain: &str, new: &NewKeys) -> store::Result<()> {
    new.store(tx, domain, 0, State::Active)?;
    tx.publish(Arc::new(Changed(domain.to_owned())));
    Ok(())
}

/// Stores a pair that is to replace the one that signs; it waits for [`activate`].
///
/// # Errors
/// Refuses while another waits, and the 27th pair of a day.
pub fn rotate(tx: &mut Tx<'_>, domain: &str, new: &NewKeys) -> store::Result<()> {
    let there = public_keys(tx, domain)?;
    if there.iter().any(|key| key.state == State::Waiting) {
        return Err(refused(format!("{domain} has new keys already, which wait for their DNS records")));
    }
    let is_free = |nth: &u8| {
        let mut taken = there.iter().map(|key| &key.selector);
        !taken.any(|name| [Algorithm::Rsa, Algorithm::Ed25519].iter().any(|how| *name == new.selector(*how, *nth)))
    };
    let nth = (0..A_DAY).find(is_free).ok_or_else(|| refused(format!("{domain} had {A_DAY} pairs of keys today")))?;
    new.store(tx, domain, nth, State::Waiting)
}

/// The pair that waits signs from now on, and the one before is retired: its private keys are gone. False when none waits.
///
/// # Errors
/// The store's.
pub fn activate(tx: &mut Tx<'_>, domain: &str, now: Timestamp) -> store::Result<bool> {
    let there = public_keys(tx, domain)?;
    if tx.execute(&KEYS_ACTIVATE, params![domain, now])? == 0 {
        return Ok(false);
    }
    for old in there.iter().filter(|key| key.state == State::Active) {
        tx.execute(&KEY_RETIRE, params![domain, old.selector.as_str(), now, &b""[..]])?;
    }
    tx.publish(Arc::new(Changed(domain.to_owned())));
    Ok(true)
}

/// Forgets a retired key, whose record is gone from the DNS.
///
/// # Errors
/// The store's.
pub fn forget_key(tx: &mut Tx<'_>, domain: &str, selector: &str) -> store::Result<()> {
    tx.execute(&KEY_FORGET, params![domain, selector]).map(drop)
}

/// Domains for which something is to be looked up: new keys wait for their records, or old ones need theirs no more.
///
/// # Errors
/// The store's.
pub fn unsettled(tx: &mut Tx<'_>, now: Timestamp) -> store::Result<Vec<String>> {
    let before = Timestamp(now.0 - STAYS_PUBLISHED.as_millis() as i64);
    tx.list(&KEY_DOMAINS_UNSETTLED, params![before], |r| Ok(r.text(0)?.to_owned()))
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

fn refused(text: String) -> store::Error {
    Error::new(Reply::new(501, 5, 4, text)).into()
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
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
}

impl PublicKey {
    /// Until when its record is to stay in the DNS; none: for as long as it is in use.
    pub fn published_until(&self) -> Option<Timestamp> {
        let end = Timestamp(self.since.0 + STAYS_PUBLISHED.as_millis() as i64);
        (self.state == State::Retired).then_some(end)
    }

    /// It signs, and has for longer than [`SIGNS`].
    pub fn is_old(&self, now: Timestamp) -> bool {
        self.state == State::Active && now.0 - self.since.0 > SIGNS.as_millis() as i64
    }

    /// Its record is to be in the DNS.
    pub fn is_published(&self, now: Timestamp) -> bool {
        self.published_until().is_none_or(|end| now < end)
    }
}

/// The public keys of a domain.
///
/// # Errors
/// The store's.
pub fn public_keys(tx: &mut Tx<'_>, domain: &str) -> store::Result<Vec<PublicKey>> {
    tx.list(&KEYS_OF, params![domain], |r| {
        let (selector, algorithm) = (r.text(0)?.to_owned(), Algorithm::read(r.int(1)?)?);
        let (state, since) = (State::read(r.int(4)?)?, Timestamp(r.int(5)?));
        Ok(PublicKey { selector, algorithm, key: STANDARD.encode(r.bytes(3)?), state, since })
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

/// Those that sign.
pub(crate) fn signing_keys(tx: &mut Tx<'_>, domain: &str) -> store::Result<Vec<SigningKey>> {
    let mut keys = Vec::new();
    tx.rows(&KEYS_OF, params![domain], |r| {
        if State::read(r.int(4)?)? == State::Active {
            keys.push(signing_key(domain, r)?);
        }
        Ok(())
    })?;
    Ok(keys)
}

/// Whether every private key that is there can be read and belongs to its public one: this crate's part of `postroom verify`.
///
/// # Errors
/// The store's: then nothing is known.
pub fn verify(tx: &mut Tx<'_>) -> store::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for domain in tx.list(&KEY_DOMAINS, params![], |r| Ok(r.text(0)?.to_owned()))? {
        tx.rows(&KEYS_OF, params![domain.as_str()], |r| {
            if State::read(r.int(4)?)? == State::Retired {
                return Ok(());
            }
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
