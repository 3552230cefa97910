//! A mail arrives: resolve, stream, store. Called by the SMTP, LMTP and IMAP sessions of `server`.
//!
//! The contract of mail moving inside the house: *start → recipient → body → commit (one outcome a recipient) | abort*.
//! Each recipient is resolved when it is named, so that an unknown one is refused at RCPT and never bounced (trap 19).
//! The body is streamed to a blob while it is indexed; all recipients share it, and each has a short prefix of its own.
//! Everything that follows from a mail is one commit; only when that is on disk does the sender hear `250` (trap 32).

mod header;
mod trace;

use std::collections::HashSet;
use std::sync::Arc;

use base::{AccountId, Address, Clock, Error, MailboxId, Reply, Result, Timestamp};
use directory::{Directory, LocalTarget, Resolution};
use mailbox::verbs::{self, Arrival, INBOX, NewEmail};
use mailbox::{Flags, Mailboxes};
use store::{Class, Lane, Staged, Stager};

use header::Gate;
pub use trace::{Origin, Protocol};

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Ingress {
    directory: Directory,
    mailboxes: Mailboxes,
    hostname: Arc<str>,
}

impl Ingress {
    /// `hostname` is our name in `Received` and in the Message-IDs we make.
    pub fn new(directory: Directory, mailboxes: Mailboxes, hostname: &str) -> Self {
        Ingress { directory, mailboxes, hostname: hostname.into() }
    }

    fn now(&self) -> Timestamp {
        self.mailboxes.clock().now()
    }

    /// Begins a mail. `from` is the reverse-path, none for `<>`.
    ///
    /// # Errors
    /// 553 5.7.1 when a signed-in sender does not own the address.
    pub async fn start(&self, origin: Arc<Origin>, from: Option<Address>) -> Result<Incoming> {
        if let (Some(account), Some(from)) = (origin.account(), &from)
            && !self.directory.owns(account, from).await?
        {
            let text = format!("You may not send as {from}: it is not an address of yours");
            return Err(Error::new(Reply::new(553, 7, 1, text)));
        }
        let body = Body {
            gate: Gate::new(origin.is_submission()),
            stager: self.mailboxes.store().stager(Class::Lasting),
            indexer: mime::Indexer::new(mime::Limits::default()),
        };
        Ok(Incoming {
            ingress: self.clone(),
            origin,
            from,
            recipients: Vec::new(),
            known: HashSet::new(),
            body: Some(Box::new(body)),
        })
    }

    /// Takes an APPEND's bytes: no prefix, no header of ours.
    pub fn append(&self) -> Appending {
        Appending {
            stager: self.mailboxes.store().stager(Class::Lasting),
            indexer: mime::Indexer::new(mime::Limits::default()),
        }
    }
}

/// A mail on its way in. Dropping it leaves nothing behind.
pub struct Incoming {
    ingress: Ingress,
    origin: Arc<Origin>,
    from: Option<Address>,
    recipients: Vec<Recipient>,
    /// Accounts that get it already.
    known: HashSet<AccountId>,
    /// None once it is complete, or was refused.
    body: Option<Box<Body>>,
}

/// What the sender named, and who gets it.
struct Recipient {
    /// As the sender wrote it: `Delivered-To`.
    address: Address,
    targets: Vec<LocalTarget>,
}

struct Body {
    gate: Gate,
    stager: Stager,
    indexer: mime::Indexer,
}

impl Body {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.indexer.push(bytes);
        Ok(self.stager.push(bytes)?)
    }
}

impl Incoming {
    /// One recipient more; `None` for a bare `<postmaster>`.
    ///
    /// # Errors
    /// 550 5.1.1 nobody of that address; 550 5.7.1 not ours, and the sender has no right to relay; 452 4.2.2 no room;
    /// 451 when the directory does not answer.
    pub async fn recipient(&mut self, to: Option<&Address>) -> Result<()> {
        let directory = &self.ingress.directory;
        let resolution = match to {
            Some(address) => directory.resolve(address).await?,
            None => directory.resolve_postmaster().await?,
        };
        let found = match resolution {
            Resolution::Deliver(found) => found,
            Resolution::Unknown => return Err(Error::new(Reply::new(550, 1, 1, "No such user here"))),
            Resolution::NotOurs if self.origin.may_relay() => return Err(no_relay_yet()),
            Resolution::NotOurs => {
                return Err(Error::new(Reply::new(550, 7, 1, "Relaying denied: sign in to send to other hosts")));
            }
        };
        if !found.remote.is_empty() {
            return Err(no_relay_yet());
        }
        for target in &found.local {
            self.check_room(target).await?;
        }
        let targets = found.local.iter().filter(|t| self.known.insert(t.account)).cloned().collect();
        let address = match (to, found.local.first()) {
            (Some(to), _) => to.clone(),
            (None, Some(first)) => first.address.clone(),
            (None, None) => return Err(Error::new(Reply::new(550, 1, 1, "No such user here"))),
        };
        self.recipients.push(Recipient { address, targets });
        Ok(())
    }

    /// Only accounts with a quota cost a look at the store.
    async fn check_room(&self, target: &LocalTarget) -> Result<()> {
        let (Some(quota), account) = (target.quota, target.account) else { return Ok(()) };
        let (used, _) = self.ingress.mailboxes.store().read(move |tx| verbs::room(tx, account)).await?;
        if used >= quota {
            return Err(Error::new(Reply::new(452, 2, 2, "The mailbox is full")));
        }
        Ok(())
    }

    /// The next bytes of the body, cut anywhere.
    ///
    /// # Errors
    /// 554 5.4.6 a loop; 554 5.6.0 a header too large to work on; 451 when the disk does not take it. The mail is refused
    /// then: further bytes are not kept.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let outcome = body.take(bytes, &self.ingress, &self.origin);
        if outcome.is_err() {
            self.body = None;
        }
        outcome
    }

    /// The body is complete: everything in one commit. Gives an outcome for each recipient, in the order they were named,
    /// once all of it is on disk.
    ///
    /// # Errors
    /// One reply for all: the body was refused, or nothing could be stored.
    pub async fn commit(mut self) -> Result<Vec<Result<()>>> {
        let refused = || Error::new(Reply::new(554, 6, 0, "The message was refused"));
        let mut body = self.body.take().ok_or_else(refused)?;
        body.end(&self.ingress, &self.origin)?;
        let Body { stager, indexer, .. } = *body;
        let octets = stager.len();
        let staged = stager.finish()?;
        let mut index = Vec::new();
        indexer.finish().encode(&mut index);
        let now = self.ingress.now();
        let plan = self.plan(octets, now)?;
        let work = move |tx: &mut store::Tx<'_>, blobs: &[base::BlobId]| {
            let one = |tx: &mut store::Tx<'_>, d: &Delivery| {
                let (blob, flags) = (*blobs.first().ok_or(store::Error::Closed)?, Flags::default());
                let new = NewEmail {
                    blob,
                    octets: d.octets,
                    received: now,
                    prefix: &d.prefix,
                    index: &index,
                    flags,
                    keywords: &[],
                };
                verbs::deliver(tx, d.account, INBOX, &new, now)
            };
            let mut outcomes = Vec::with_capacity(plan.len());
            for d in &plan {
                match one(tx, d) {
                    Ok(_) => outcomes.push((d.recipient, None)),
                    Err(store::Error::Refused(e)) => outcomes.push((d.recipient, Some(e.reply().clone()))),
                    Err(e) => return Err(e),
                }
            }
            Ok(outcomes)
        };
        let done = self.ingress.mailboxes.store().write_with(Lane::Interactive, vec![staged], work).await?;
        Ok(self.outcomes(done))
    }

    /// Who gets what: accounts in ascending order, so that two mails to the same people take locks in the same order.
    fn plan(&self, octets: u64, now: Timestamp) -> Result<Vec<Delivery>> {
        let only = if let [one] = &self.recipients[..] { Some(&one.address) } else { None };
        let received = self.origin.received(&self.ingress.hostname, only, now);
        let mut plan = Vec::new();
        for (recipient, r) in self.recipients.iter().enumerate() {
            let prefix = trace::prefix(self.from.as_ref(), &r.address, &received);
            let octets = u32::try_from(octets + prefix.len() as u64).map_err(|_| too_big())?;
            plan.extend(r.targets.iter().map(|t| Delivery {
                recipient,
                account: t.account,
                octets,
                prefix: prefix.clone(),
            }));
        }
        plan.sort_by_key(|d| d.account);
        Ok(plan)
    }

    /// A recipient has its mail when any of its accounts has; one whose accounts all had it already has it too.
    fn outcomes(&self, done: Vec<(usize, Option<Reply>)>) -> Vec<Result<()>> {
        let mut outcomes: Vec<Result<()>> = self.recipients.iter().map(|_| Ok(())).collect();
        let mut stored = HashSet::new();
        for (recipient, refusal) in done {
            match refusal {
                None => {
                    stored.insert(recipient);
                    outcomes[recipient] = Ok(());
                }
                Some(reply) if !stored.contains(&recipient) => outcomes[recipient] = Err(Error::new(reply)),
                Some(_) => {}
            }
        }
        outcomes
    }
}

fn too_big() -> Error {
    Error::new(Reply::new(552, 3, 4, "The message is too big"))
}

fn no_relay_yet() -> Error {
    Error::new(Reply::new(550, 7, 1, "This server does not send to other hosts"))
}

/// One account's copy.
struct Delivery {
    recipient: usize,
    account: AccountId,
    octets: u32,
    prefix: Arc<[u8]>,
}

impl Body {
    fn take(&mut self, bytes: &[u8], ingress: &Ingress, origin: &Origin) -> Result<()> {
        // Past the header nothing is looked at: the bytes go through.
        if self.gate.is_open() {
            return self.push(bytes);
        }
        match self.gate.push(bytes)? {
            None => Ok(()),
            Some(held) => self.open(held, ingress, origin),
        }
    }

    /// The header is complete (or the body ended without one).
    fn open(&mut self, held: header::Held, ingress: &Ingress, origin: &Origin) -> Result<()> {
        held.check_loops()?;
        if origin.is_submission() {
            let fixed = held.for_submission(ingress.now(), &ingress.hostname, self.gate.number());
            return self.push(&fixed);
        }
        self.push(held.bytes())
    }

    fn end(&mut self, ingress: &Ingress, origin: &Origin) -> Result<()> {
        match self.gate.end() {
            None => Ok(()),
            Some(held) => self.open(held, ingress, origin),
        }
    }
}

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
    /// 552 5.3.4 over 4 GiB; 451 when the disk does not take it.
    pub fn finish(self, received: Timestamp, flags: Flags, keywords: Vec<String>) -> Result<Appended> {
        let octets = u32::try_from(self.stager.len()).map_err(|_| too_big())?;
        let mut index = Vec::new();
        self.indexer.finish().encode(&mut index);
        Ok(Appended { staged: self.stager.finish()?, octets, index, received, flags, keywords })
    }
}

impl Ingress {
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

/// The clock of the house.
impl Ingress {
    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        self.mailboxes.clock()
    }
}
