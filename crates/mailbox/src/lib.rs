//! Mailboxes: the log, its snapshots, and the live views that sessions look at.
//!
//! Floor 3. What never changes is rows (`email`, `place`); what changes is an append-only log of entries over UID ranges,
//! each with its MODSEQ, folded into chunks now and then. The index of a mailbox in use is copy-on-write chunks shared
//! by its sessions ([`Index`]); it is a cache that every job checks against the mailbox's MODSEQ inside its own
//! transaction, so that a change is never computed from stale memory.
//!
//! - [`verbs`] work on a `&mut Tx`: deliver, flag, copy, move, expunge, and the mailboxes themselves;
//! - [`Mailboxes`] is the handle that sessions use: it runs those verbs as jobs and keeps the live indexes;
//! - [`verify`] proves the tables consistent.

mod blobs;
mod change;
mod flags;
mod fold;
mod index;
mod live;
mod load;
mod log;
mod refusal;
mod schema;
mod set;
pub mod verbs;
mod verify;

pub use blobs::REFERENCES;
pub use change::{Change, What};
pub use flags::{FlagOp, Flags, Keywords};
pub use index::{Difference, Entry, Index};
pub use live::{Mailboxes, View};
pub use refusal::Refusal;
pub use schema::{ALL, MIGRATIONS};
pub use set::UidSet;
pub use verify::verify;
