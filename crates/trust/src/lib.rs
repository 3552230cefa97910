//! Who vouches for a mail. So far: DKIM signatures (RFC 6376, RFC 8463) on what our users send, the keys for them, the DNS
//! records by which others can check, return addresses of ours for what we forward ([`Srs`]) and
//! for each recipient ([`Verp`]), what the policies of
//! others demand ([`mta_sts`]), what they are told of how that went ([`tls_report`]), and what a domain says of the hosts that
//! send its mail ([`spf`]).
//!
//! Floor 3. `ingress` gives every octet of a mail that goes out to a [`Digest`] as it streams by; what remains of it is a
//! header and a hash, which the domain's [`Keys`] sign in the end. The floor above makes keys ([`NewKeys`]) when it makes
//! a domain and when it [`rotate`]s them, prints its [`dns_records`], and asks the DNS for what [`judge`] compares. Nothing
//! here opens a socket.

mod canon;
mod digest;
mod dkim2;
mod dns;
pub mod judge;
mod keys;
pub mod mta_sts;
pub mod own_policy;
mod ready;
mod sign;
pub mod spf;
mod srs;
pub mod tls_report;
mod verp;

use store::{Migrations, Sql};

pub use canon::whole_lines;
pub use digest::Digest;
pub use dkim2::instance_of;
pub use dns::{DnsRecord, day, dns_records};
pub use keys::{
    Changed, NewKeys, PublicKey, SIGNS, STAYS_PUBLISHED, State, activate, add_keys, forget_key, public_keys,
    remove_keys, rotate, unsettled, verify,
};
pub use ready::Keys;
pub use sign::{Algorithm, SigningKey};
pub use srs::{Srs, is_rewritten, reported_to};
pub use verp::{Verp, is_verp};

/// The tables of this crate.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "trust",
    steps: &[keys::TABLE, srs::TABLE, mta_sts::TABLE, tls_report::TABLE, own_policy::TABLE],
};

/// Every statement of this crate, for the test that prepares them.
pub fn statements() -> impl Iterator<Item = &'static Sql> {
    [keys::ALL, srs::ALL, mta_sts::ALL, tls_report::ALL, own_policy::ALL].into_iter().flatten()
}
