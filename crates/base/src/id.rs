//! Identifiers. Each is its own type, so that none can be passed for another; all are positive and fit PostgreSQL's
//! BIGINT (SQLite's INTEGER).

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $int);

        impl $name {
            /// The value as the store keeps it.
            pub const fn as_i64(self) -> i64 {
                self.0 as i64
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A tenant: who owns domains and accounts.
    OrganisationId(i64)
);
id!(
    /// One person or role that logs in.
    AccountId(i64)
);
id!(
    /// A domain whose mail we take.
    DomainId(i64)
);
id!(
    /// An IMAP folder, numbered within its account.
    MailboxId(i64)
);
id!(
    /// One stored mail, numbered within its account; it may stand in several mailboxes (RFC 8474 `EMAILID`).
    EmailId(i64)
);
id!(
    /// Immutable bytes in the store, by a rising number.
    BlobId(i64)
);
id!(
    /// The number of a mail in a mailbox, never given twice (RFC 9051 §2.3.1.1). Zero is no UID.
    Uid(u32)
);
id!(
    /// Changes when a mailbox's UIDs lost their meaning (RFC 9051 §2.3.1.1).
    UidValidity(u32)
);
id!(
    /// The account's counter of changes (RFC 7162 §3.1); below 2^63.
    ModSeq(u64)
);

impl OrganisationId {
    /// Whose mail belongs to no organisation: reports about such mail, and what a trusted host brings from domains that are
    /// not ours. No organisation has this number.
    pub const HOUSE: OrganisationId = OrganisationId(0);
}
