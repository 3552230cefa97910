//! What a commit tells the live views.

use base::{AccountId, MailboxId, ModSeq};

use crate::{Entry, FlagOp, Flags, Index, Keywords, UidSet};

/// One change of one mailbox, published with the transaction that made it.
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose.
    pub account: AccountId,
    /// Which mailbox.
    pub mailbox: MailboxId,
    /// The mailbox's MODSEQ before: a view at another one missed something, and reads again.
    pub before: ModSeq,
    /// The mailbox's MODSEQ now.
    pub after: ModSeq,
    /// Its keywords now, where one was added.
    pub keywords: Option<Keywords>,
    /// What happened.
    pub what: What,
}

/// What happened to a mailbox.
#[derive(Clone, Debug)]
pub enum What {
    /// New places, rising UIDs.
    Arrived(Vec<Entry>),
    /// The flags of these places became `op(old, flags)`.
    Flags {
        /// Which places: only those whose flags really changed.
        uids: UidSet,
        /// How.
        op: FlagOp,
        /// Given to `op`.
        flags: Flags,
    },
    /// Places are gone.
    Expunged(UidSet),
    /// The mailbox itself is gone.
    Deleted,
}

impl Change {
    /// Brings an index at `before` to `after`.
    pub(crate) fn apply(&self, index: &mut Index) {
        match &self.what {
            What::Arrived(entries) => entries.iter().for_each(|e| index.push(*e)),
            What::Flags { uids, op, flags } => index.set_flags(uids, *op, *flags, self.after),
            What::Expunged(uids) => index.remove(uids),
            What::Deleted => *index = Index::default(),
        }
        if let Some(keywords) = &self.keywords {
            index.keywords = keywords.clone();
        }
        index.modseq = self.after;
    }
}
