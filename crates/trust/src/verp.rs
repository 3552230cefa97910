//! Variable Envelope Return Paths: mail leaves with a return address of its own for each recipient, so that what comes back there
//! says by its address alone which delivery it is about, however little is in it.
//!
//! `bounce+TOKEN@ours.test`: the token is the number of the message and of the recipient, and twelve octets that prove that we
//! wrote it, for this domain, in base 32. A mail server may write local parts in any case, so case does not count.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use base::{Address, Result, Timestamp};
use store::Store;
use tokio::sync::OnceCell;

use crate::srs;

/// What all local parts begin with.
const TAG: &str = "bounce+";
/// Octets of a message's number and a recipient's.
const NUMBERS: usize = 12;
/// Octets of proof: 96 bits.
const PROOF: usize = 12;
/// Letters of a token.
const LETTERS: usize = ((NUMBERS + PROOF) * 8).div_ceil(5);
/// RFC 4648 §6, in lower case.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Whether an address is one of the kind that is made here; in a domain of ours, it is ours to resolve.
pub fn is_verp(address: &Address) -> bool {
    token(address).is_some()
}

/// The token, in lower case.
fn token(address: &Address) -> Option<String> {
    let local = address.local().to_ascii_lowercase();
    let token = local.strip_prefix(TAG)?;
    (token.len() == LETTERS && token.bytes().all(|b| BASE32.contains(&b))).then(|| token.to_owned())
}

/// What proves the numbers, in a domain.
fn proof(key: &hmac::Key, numbers: &[u8], domain: &str) -> [u8; PROOF] {
    // Told apart from what the key signs for forwards, which begins with "SRS".
    let input = [b"VERP", numbers, domain.to_ascii_lowercase().as_bytes()].concat();
    let mut proof = [0; PROOF];
    proof.copy_from_slice(&hmac::sign(key, &input).as_ref()[..PROOF]);
    proof
}

fn made(key: &hmac::Key, message: u64, number: u32, domain: &str) -> Option<Address> {
    let mut octets = [message.to_be_bytes().as_slice(), &number.to_be_bytes()].concat();
    octets.extend(proof(key, &octets, domain));
    Address::new(&format!("{TAG}{}", encoded(&octets)), domain).ok()
}

fn known(key: &hmac::Key, address: &Address) -> Option<(u64, u32)> {
    let octets = decoded(&token(address)?)?;
    let (numbers, given) = octets.split_at(NUMBERS);
    let good = constant_time::verify_slices_are_equal(given, &proof(key, numbers, address.domain())).is_ok();
    let (message, number) = numbers.split_at(8);
    good.then_some((u64::from_be_bytes(message.try_into().ok()?), u32::from_be_bytes(number.try_into().ok()?)))
}

fn encoded(octets: &[u8]) -> String {
    let bit = |n: usize| octets.get(n / 8).is_some_and(|octet| octet >> (7 - n % 8) & 1 == 1);
    let letter = |n: usize| (0..5).fold(0, |value, at| value << 1 | usize::from(bit(5 * n + at)));
    (0..LETTERS).map(|n| char::from(BASE32[letter(n)])).collect()
}

/// None when a bit is set behind the last octet: a token has one form.
fn decoded(token: &str) -> Option<[u8; NUMBERS + PROOF]> {
    let mut octets = [0; NUMBERS + PROOF];
    for (n, letter) in token.bytes().enumerate() {
        let value = BASE32.iter().position(|l| *l == letter)?;
        for bit in (0..5).filter(|bit| value >> (4 - bit) & 1 == 1).map(|bit| 5 * n + bit) {
            *octets.get_mut(bit / 8)? |= 128 >> (bit % 8);
        }
    }
    Some(octets)
}

/// Makes such addresses and knows them again. Cheap to clone.
#[derive(Clone)]
pub struct Verp {
    store: Store,
    key: Arc<OnceCell<hmac::Key>>,
}

impl Verp {
    /// The handle; the secret is that of the forwards, read or made when it is first needed.
    pub fn new(store: Store) -> Self {
        Verp { store, key: Arc::default() }
    }

    /// The return address, in `domain` of ours, of a message's delivery. None: it would be too long.
    ///
    /// # Errors
    /// 451 when the secret cannot be had.
    pub async fn address(&self, message: u64, number: u32, domain: &str, now: Timestamp) -> Result<Option<Address>> {
        Ok(made(self.key(now).await?, message, number, domain))
    }

    /// The message and the number of the delivery that an address stands for. None: we did not make it.
    ///
    /// # Errors
    /// 451 when the secret cannot be had.
    pub async fn behind(&self, address: &Address, now: Timestamp) -> Result<Option<(u64, u32)>> {
        Ok(known(self.key(now).await?, address))
    }

    async fn key(&self, now: Timestamp) -> Result<&hmac::Key> {
        let open = async || Ok(hmac::Key::new(hmac::HMAC_SHA256, &srs::open(&self.store, now).await?));
        self.key.get_or_try_init(open).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &[u8]) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, secret)
    }

    fn at(local: &str) -> Address {
        Address::new(local, "x.test").unwrap()
    }

    #[test]
    fn what_leaves_comes_back_in_any_case() {
        for (message, number) in [(0, 0), (1 << 40 | 7, 3), (u64::MAX, u32::MAX)] {
            let sent = made(&key(b"a"), message, number, "x.test").unwrap();
            // RFC 5321 §4.5.3.1.1
            assert!(sent.local().len() <= 64 && is_verp(&sent), "{sent}");
            assert_eq!(known(&key(b"a"), &at(&sent.local().to_uppercase())), Some((message, number)));
        }
    }

    #[test]
    fn what_somebody_else_wrote_leads_nowhere() {
        let sent = made(&key(b"a"), 1 << 40 | 7, 3, "x.test").unwrap();
        assert_eq!(known(&key(b"b"), &sent), None);
        assert_eq!(known(&key(b"a"), &Address::new(sent.local(), "y.test").unwrap()), None);
        for n in TAG.len()..sent.local().len() {
            let mut forged = sent.local().to_owned();
            let other = if forged[n..].starts_with('q') { "a" } else { "q" };
            forged.replace_range(n..=n, other);
            assert_eq!(known(&key(b"a"), &at(&forged)), None, "{forged}");
        }
        let token = &sent.local()[TAG.len()..];
        for odd in [format!("{TAG}{token}a"), format!("{TAG}{}", &token[1..]), format!("bounce-{token}"), TAG.into()] {
            assert!(!is_verp(&at(&odd)), "{odd}");
        }
    }
}
