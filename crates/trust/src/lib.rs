//! Who vouches for a mail. So far: DKIM signatures (RFC 6376, RFC 8463) on what our users send, the keys for them, and the
//! DNS records by which others can check.
//!
//! Floor 3. `ingress` gives every octet of a mail that goes out to a [`Digest`] as it streams by; what remains of it is a
//! header and a hash, which the domain's [`Keys`] sign in the end. The floor above makes keys ([`NewKeys`]) when it makes
//! a domain, and prints its [`dns_records`]. Nothing here asks the DNS or opens a socket.

mod canon;
mod digest;
mod dns;
mod keys;
mod sign;

pub use digest::Digest;
pub use dns::{DnsRecord, dns_records};
pub use keys::{ALL, Changed, Keys, MIGRATIONS, NewKeys, PublicKey, add_keys, public_keys, remove_keys, verify};
pub use sign::{Algorithm, SigningKey};
