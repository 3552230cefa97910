//! What every floor shares: ids, addresses, time, and an error with two faces.
//!
//! Nothing here does I/O, reads the clock by itself or keeps state. Floor 0: it imports none of the other crates.
//!
//! ```
//! use base::{Address, Timestamp};
//! let a = Address::parse("\"odd name\"@Example.TEST").unwrap();
//! assert_eq!((a.local(), a.domain()), ("odd name", "example.test"));
//! assert_eq!(Timestamp::from_secs(0).rfc5322(), "Thu, 01 Jan 1970 00:00:00 +0000");
//! ```

mod address;
mod error;
mod id;
mod stream;
mod time;

pub use address::{Address, AddressError, LOCAL, domain};
pub use error::{Enhanced, Error, Reply, Result};
pub use id::{AccountId, BlobId, DomainId, EmailId, MailboxId, ModSeq, OrganisationId, Uid, UidValidity};
pub use stream::{BadStream, Stream};
pub use time::{Civil, Clock, SystemClock, Timestamp};
