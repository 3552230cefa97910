//! APPEND: a mail comes into its owner's mailbox as it is, without an envelope.

use base::{AccountId, MailboxId, Result, Timestamp};
use mailbox::Flags;
use mailbox::verbs::{self, Arrival, NewEmail};
use store::{Class, Lane, Staged, Stager};

use crate::Ingress;
use crate::incoming::too_big;

/// A mail being appended by its owner.
pub struct Appending {
    stager: Stager,
    indexer: mime::Indexer,
}

/// A mail that was appended whole and waits for its commit.
pub struct Appended {
    staged: Staged,
    octets: u32,
    index: Vec<u8>,
    /// INTERNALDATE
    pub received: Timestamp,
    /// Flags of the system.
    pub flags: Flags,
    /// Further flags.
    pub keywords: Vec<String>,
}

impl Appended {
    /// Octets of memory it may hold until it is committed: a message of a thousand empty parts is small, and its record
    /// is not (trap 6).
    pub fn weight(&self) -> u64 {
        u64::from(self.octets) + self.index.len() as u64
    }
}

impl Appending {
    /// The next bytes.
    ///
    /// # Errors
    /// 451 when the disk does not take them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.indexer.push(bytes);
        Ok(self.stager.push(bytes)?)
    }

    /// The mail is complete.
    ///
    /// # Errors
    /// 552 5.3.4 over 4 GiB.
    pub fn finish(self, received: Timestamp, flags: Flags, keywords: Vec<String>) -> Result<Appended> {
        let octets = u32::try_from(self.stager.len()).map_err(|_| too_big())?;
        let mut index = Vec::new();
        self.indexer.finish().encode(&mut index);
        Ok(Appended { staged: self.stager.finish(), octets, index, received, flags, keywords })
    }
}

impl Ingress {
    /// Takes an APPEND's bytes: no prefix, no header of ours.
    pub fn append(&self) -> Appending {
        Appending {
            stager: self.mailboxes.store().stager(Class::Lasting),
            indexer: mime::Indexer::new(mime::Limits::default()),
        }
    }

    /// Appends mails to a mailbox: all of them or none (RFC 3502). Begins at once; the future gives the outcome, and
    /// several may be under way for one session.
    ///
    /// # Errors
    /// Those of [`verbs::deliver`].
    pub fn commit_appended(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        mails: Vec<Appended>,
    ) -> impl Future<Output = Result<Vec<Arrival>>> + Send + 'static {
        let now = self.now();
        let (mut staged, mut rows) = (Vec::with_capacity(mails.len()), Vec::with_capacity(mails.len()));
        for m in mails {
            staged.push(m.staged);
            rows.push((m.octets, m.index, m.received, m.flags, m.keywords));
        }
        let work = move |tx: &mut store::Tx<'_>, blobs: &[base::BlobId]| {
            let mut arrivals = Vec::with_capacity(rows.len());
            for ((octets, index, received, flags, keywords), blob) in rows.iter().zip(blobs) {
                let (blob, octets, received, flags) = (*blob, *octets, *received, *flags);
                let new = NewEmail { blob, octets, received, prefix: b"", index, flags, keywords };
                arrivals.push(verbs::deliver(tx, account, mailbox, &new, now)?);
            }
            Ok(arrivals)
        };
        let done = self.mailboxes.store().write_with(Lane::Interactive, staged, work);
        async move { Ok(done.await?) }
    }
}
