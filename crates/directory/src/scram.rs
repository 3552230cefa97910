//! The arithmetic of SCRAM-SHA-256 (RFC 5802 §3, RFC 7677), and the app passwords it is used for.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Random;

/// RFC 7677 §4 asks for at least as many; more would buy nothing for a password of 100 random bits.
pub(crate) const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// What a stored secret begins with.
const SCHEME: &str = "SCRAM-SHA-256";

/// RFC 4648 §6, in lower case: no digit looks like a letter.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// 20 characters of 5 bits.
const LENGTH: usize = 20;

/// A generated password, shown to its owner once: `abcde-fghij-klmno-pqrst`.
#[derive(Clone, PartialEq, Eq)]
pub struct AppPassword(String);

impl AppPassword {
    /// A new one, of 100 random bits.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn generate(random: Random) -> base::Result<Self> {
        let mut bytes = [0; LENGTH];
        random(&mut bytes)?;
        Ok(Self::grouped(bytes.iter().map(|b| char::from(BASE32[usize::from(b & 31)]))))
    }

    fn grouped(characters: impl Iterator<Item = char>) -> Self {
        let mut text = String::with_capacity(LENGTH + 3);
        for (i, c) in characters.enumerate() {
            if i > 0 && i % 5 == 0 {
                text.push('-');
            }
            text.push(c);
        }
        AppPassword(text)
    }

    /// What somebody typed, if it has an app password's shape: people drop the hyphens, or write capitals. SCRAM gives no
    /// room for that: there it is typed as shown.
    pub(crate) fn typed(password: &[u8]) -> Option<Self> {
        // Bounded before anything is copied: the shape has no room for more.
        let text = str::from_utf8(password).ok().filter(|t| t.len() <= 2 * LENGTH)?;
        let text: String = text.chars().filter(|c| !"- ".contains(*c)).map(|c| c.to_ascii_lowercase()).collect();
        let fits = text.len() == LENGTH && text.bytes().all(|b| BASE32.contains(&b));
        fits.then(|| Self::grouped(text.chars()))
    }

    /// The text; whoever asks answers for it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AppPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppPassword")
    }
}

/// What is kept of an app password: enough to check a proof and to give ours, not enough to sign in with elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: NonZeroU32,
    stored: [u8; 32],
    server: [u8; 32],
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys")
    }
}

impl ScramKeys {
    /// Derives the keys (RFC 5802 §3); some milliseconds.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        #[cfg(test)]
        crate::effort::PBKDF2.set(crate::effort::PBKDF2.get() + 1);
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let client = mac(&salted, b"Client Key");
        ScramKeys { salt: salt.to_vec(), iterations, stored: sha256(&client), server: mac(&salted, b"Server Key") }
    }

    /// Whether a password belongs to these keys; `other` was derived with the same salt.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.shares_salt(other) && verify_slices_are_equal(&self.stored, &other.stored).is_ok()
    }

    /// Whether both can be offered in one SCRAM challenge.
    pub(crate) fn shares_salt(&self, other: &Self) -> bool {
        self.salt == other.salt && self.iterations == other.iterations
    }

    /// Whether the proof over `message` was made with the password: ClientProof of RFC 5802 §3.
    pub(crate) fn proves(&self, proof: &[u8; 32], message: &[u8]) -> bool {
        let signature = mac(&self.stored, message);
        let client: Vec<u8> = proof.iter().zip(signature).map(|(p, s)| p ^ s).collect();
        verify_slices_are_equal(&sha256(&client), &self.stored).is_ok()
    }

    /// ServerSignature of RFC 5802 §3: how the client knows us.
    pub(crate) fn signature(&self, message: &[u8]) -> [u8; 32] {
        mac(&self.server, message)
    }

    /// As the store keeps it, in the form of RFC 5803 §2.
    pub(crate) fn to_text(&self) -> String {
        let [salt, stored, server] = [&self.salt[..], &self.stored, &self.server].map(|b| BASE64.encode(b));
        format!("{SCHEME}${}:{salt}${stored}:{server}", self.iterations)
    }

    /// From the store; None when it is damaged.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix(SCHEME)?.strip_prefix('$')?.split_once('$')?;
        let ((iterations, salt), (stored, server)) = (head.split_once(':')?, keys.split_once(':')?);
        let key = |text| BASE64.decode(text).ok()?.try_into().ok();
        Some(ScramKeys {
            salt: BASE64.decode(salt).ok()?,
            iterations: iterations.parse().ok()?,
            stored: key(stored)?,
            server: key(server)?,
        })
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = [0; 32];
    out.copy_from_slice(tag.as_ref());
    out
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The salt an account's app passwords get, and the one that is shown for a login that has none or does not exist: the
/// same for the same login at all times, so that asking twice does not tell them apart.
pub(crate) fn salt_for(secret: &[u8], login: &str) -> Vec<u8> {
    mac(secret, login.as_bytes())[..16].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_passwords_are_long_and_forgiving_of_how_they_are_typed() {
        let made = AppPassword::generate(crate::system_random).unwrap();
        let groups: Vec<_> = made.expose().split('-').map(str::len).collect();
        assert_eq!(groups, [5, 5, 5, 5]);
        assert_ne!(made, AppPassword::generate(crate::system_random).unwrap());
        for typed in
            [made.expose().to_owned(), made.expose().replace('-', ""), made.expose().to_uppercase().replace('-', " ")]
        {
            assert_eq!(AppPassword::typed(typed.as_bytes()).as_ref(), Some(&made), "{typed}");
        }
        for other in [
            "",
            "pw",
            "abcde-fghij-klmno-pqrs1",
            "abcde-fghij-klmno-pqrs",
            "abcde-fghij-klmno-pqrstu",
            "äbcde-fghij-klmno-pqrs",
        ] {
            assert_eq!(AppPassword::typed(other.as_bytes()), None, "{other}");
        }
        assert_eq!(AppPassword::typed(&[b'-'; 1_000_000]), None);
    }

    #[test]
    fn keys_are_kept_as_text() {
        let keys = ScramKeys::derive(b"pencil", b"salt", ITERATIONS);
        let text = keys.to_text();
        assert!(text.starts_with("SCRAM-SHA-256$4096:c2FsdA==$"));
        assert_eq!(ScramKeys::from_text(&text), Some(keys));
        for bad in
            ["", "SCRAM-SHA-256$0:c2FsdA==$a:b", &text[1..], &text[..text.len() - 1], "SCRAM-SHA-256$4096:$AA==:AA=="]
        {
            assert_eq!(ScramKeys::from_text(bad), None, "{bad}");
        }
    }
}
