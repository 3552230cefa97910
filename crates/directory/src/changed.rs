//! The event that tells caches and sessions that what they know may be old.

use std::sync::Arc;

use base::{AccountId, DomainId, OrganisationId};
use store::Tx;

/// Published by every verb that changes something, told once that is on disk. Subscribe with
/// [`store::Store::subscribe`] and downcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// An organisation was made, renamed or removed.
    Organisation(OrganisationId),
    /// A domain was made, changed or removed.
    Domain(DomainId),
    /// An account was made, changed, disabled or removed: its sessions may have to end.
    Account(AccountId),
    /// A credential of the account was made or removed.
    Credential(AccountId),
    /// An address in the domain was made, changed or removed.
    Address(DomainId),
}

impl Changed {
    pub(crate) fn publish(self, tx: &mut Tx<'_>) {
        tx.publish(Arc::new(self));
    }
}
