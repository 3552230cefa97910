//! Passwords people choose, kept as Argon2id hashes. Slow on purpose: never run on an I/O thread or in a job.

use std::fmt;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use base::Error;

use crate::Random;

/// OWASP's password storage cheat sheet, the variant of the least memory that it still calls equal to the others: 19 MiB,
/// two passes, one lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The longest password, in octets: SASL (RFC 4616 §2) sets no limit, so we do.
pub(crate) const MAX_PASSWORD: usize = 1024;

/// A hash of today's cost that no password has: what unknown users are measured against, so that they take as long.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdC4uLg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The Argon2id hash of a password, in PHC form.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Hashes a password: 20 to 50 ms, 19 MiB. See [`crate::Directory::hash_password`] for the form that does not block.
    ///
    /// # Errors
    /// When the password is empty or longer than 1,024 octets, or there is no randomness to be had.
    pub fn new(password: &[u8], random: Random) -> base::Result<Self> {
        let text = match password.len() {
            0 => Some("The password is empty"),
            1..=MAX_PASSWORD => None,
            _ => Some("The password is longer than 1,024 octets"),
        };
        if let Some(text) = text {
            return Err(Error::new(base::Reply::new(501, 5, 4, text)));
        }
        let mut salt = [0; 16];
        random(&mut salt)?;
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|e| Error::internal(e.to_string()))?;
        let salt = SaltString::encode_b64(&salt).map_err(|e| Error::internal(e.to_string()))?;
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password, &salt)
            .map_err(|e| Error::internal(e.to_string()))?;
        Ok(PasswordHash(hash.to_string()))
    }

    /// From the store, where only hashes of ours are.
    pub(crate) fn stored(text: &str) -> Self {
        PasswordHash(text.to_owned())
    }

    /// The hash nobody's password has.
    pub(crate) fn nobody() -> Self {
        PasswordHash(NOBODY.to_owned())
    }

    /// The PHC form.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be read at all.
    pub(crate) fn is_sound(&self) -> bool {
        argon2::PasswordHash::new(&self.0).is_ok_and(|h| h.algorithm == argon2::ARGON2ID_IDENT && h.hash.is_some())
    }

    /// Whether this is the hash of `password`; as slow as making it, and the comparison takes the same time wherever the
    /// two differ.
    pub(crate) fn is_of(&self, password: &[u8]) -> bool {
        #[cfg(test)]
        crate::effort::ARGON2.set(crate::effort::ARGON2.get() + 1);
        // One megabyte of password costs more to hash than to refuse.
        let password = &password[..password.len().min(MAX_PASSWORD + 1)];
        argon2::PasswordHash::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_password() {
        let hash = PasswordHash::new(b"correct horse", crate::system_random).unwrap();
        assert!(hash.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(hash.is_of(b"correct horse") && !hash.is_of(b"correct horse ") && !hash.is_of(b""));
        assert_eq!(format!("{hash:?}"), "PasswordHash");
        assert!(PasswordHash::new(b"", crate::system_random).is_err());
        assert!(PasswordHash::new(&[b'x'; 1025], crate::system_random).is_err());
    }

    #[test]
    fn trap_28_unknown_users_are_measured_against_a_hash_of_the_same_cost() {
        let real = PasswordHash::new(b"x", crate::system_random).unwrap();
        let (real, nobody) =
            (argon2::PasswordHash::new(real.as_str()).unwrap(), argon2::PasswordHash::new(NOBODY).unwrap());
        assert_eq!((real.algorithm, real.version, &real.params), (nobody.algorithm, nobody.version, &nobody.params));
        let length = |h: &argon2::PasswordHash<'_>| (h.salt.unwrap().as_str().len(), h.hash.unwrap().len());
        assert_eq!(length(&real), length(&nobody));
    }
}
