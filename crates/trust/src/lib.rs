//! Who vouches for a mail. So far: DKIM signatures (RFC 6376, RFC 8463) on what our users send, the keys for them, and the
//! DNS records by which others can check.
//!
//! Floor 3. `ingress` gives every octet of a mail that goes out to a [`Digest`] as it streams by; what remains of it is a
//! header and a hash, which the domain's [`Keys`] sign in the end. The floor above makes keys ([`NewKeys`]) when it makes
//! a domain and when it [`rotate`]s them, prints its [`dns_records`], and asks the DNS for what [`judge`] compares. Nothing
//! here opens a socket.

mod canon;
mod digest;
mod dns;
pub mod judge;
mod keys;
mod ready;
mod sign;

use store::Migrations;

pub use digest::Digest;
pub use dns::{DnsRecord, day, dns_records};
pub use keys::{
    ALL, Changed, NewKeys, PublicKey, STAYS_PUBLISHED, State, activate, add_keys, forget_key, public_keys, remove_keys,
    rotate, unsettled, verify,
};
pub use ready::Keys;
pub use sign::{Algorithm, SigningKey};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations { owner: "trust", steps: &[keys::TABLE] };
