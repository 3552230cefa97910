//! A mail arrives: resolve, stream, store. Called by the SMTP, LMTP and IMAP sessions of `server`.
//!
//! The contract of mail moving inside the house: *start → recipient → body → commit (one outcome a recipient) | abort*.
//! Each recipient is resolved when it is named, so that an unknown one is refused at RCPT and never bounced (trap 19).
//! The body is streamed to a blob while it is indexed; all recipients share it, and each has a short prefix of its own.
//! Everything that follows from a mail is one commit: the copies in our mailboxes, the queue's deliveries to other hosts,
//! the reports that are owed. Only when that is on disk does the sender hear `250` (trap 32).

mod append;
mod forward;
mod header;
mod incoming;
mod outgoing;
mod pace;
mod plan;
mod trace;

use std::sync::Arc;

use base::{Clock, Timestamp};
use directory::Directory;
use mailbox::Mailboxes;
use queue::Queue;
use trust::{Keys, Srs, Verp};

pub use append::{Appended, Appending};
pub use incoming::Incoming;
use pace::Pace;
pub use trace::{Origin, Protocol, Submitter};

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Ingress {
    directory: Directory,
    mailboxes: Mailboxes,
    queue: Queue,
    keys: Keys,
    srs: Srs,
    verp: Verp,
    hostname: Arc<str>,
    pace: Arc<Pace>,
}

impl Ingress {
    /// `hostname` is our name in `Received` and in the Message-IDs we make.
    pub fn new(directory: Directory, mailboxes: Mailboxes, queue: Queue, keys: Keys, hostname: &str) -> Self {
        let (srs, verp) = (Srs::new(mailboxes.store().clone()), Verp::new(mailboxes.store().clone()));
        Ingress { directory, mailboxes, queue, keys, srs, verp, hostname: hostname.into(), pace: Arc::default() }
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.mailboxes.clock()
    }

    fn now(&self) -> Timestamp {
        self.clock().now()
    }
}
