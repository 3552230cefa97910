//! A mail on its way in: its envelope, its body, its commit.

use std::collections::HashSet;
use std::sync::Arc;

use base::{AccountId, Address, BlobId, Error, Reply, Result, Timestamp};
use directory::{LocalTarget, Recipients, Resolution};
use mailbox::verbs;
use smtp::{BodyType, Mail, Notify, OriginalRecipient, Rcpt};
use store::{Class, Lane, Stager, Tx};
use trust::Digest;

use crate::header::{self, Gate};
use crate::plan::{Copy, Missed, Named, Plan};
use crate::{Ingress, Origin, Protocol, outgoing, trace};

impl Ingress {
    /// Begins a mail.
    ///
    /// # Errors
    /// 553 5.7.1 when a signed-in sender does not own the address.
    pub async fn start(&self, origin: Arc<Origin>, mail: Mail) -> Result<Incoming> {
        if let (Some(account), Some(from)) = (origin.account(), &mail.from)
            && !self.directory.owns(account, from).await?
        {
            let text = format!("You may not send as {from}: it is not an address of yours");
            return Err(Error::new(Reply::new(553, 7, 1, text)));
        }
        Ok(Incoming {
            ingress: self.clone(),
            origin,
            mail,
            recipients: Vec::new(),
            accounts: HashSet::new(),
            elsewhere: HashSet::new(),
            body: State::Awaited,
        })
    }
}

/// A mail on its way in. Dropping it leaves nothing behind.
pub struct Incoming {
    ingress: Ingress,
    origin: Arc<Origin>,
    mail: Mail,
    recipients: Vec<Recipient>,
    /// Accounts that get it already.
    accounts: HashSet<AccountId>,
    /// Addresses on other hosts that get it already.
    elsewhere: HashSet<Address>,
    body: State,
}

/// What the sender named, and who gets it.
struct Recipient {
    /// As the sender wrote it: `Delivered-To`.
    address: Address,
    notify: Option<Notify>,
    original: Option<OriginalRecipient>,
    /// The accounts of ours it leads to.
    accounts: Vec<AccountId>,
    /// Those of them that no recipient before led to: each account gets one copy.
    local: Vec<LocalTarget>,
    /// It leads to other hosts.
    leads_out: bool,
    /// Where to, but for addresses that a recipient before led to.
    remote: Vec<Address>,
}

enum State {
    /// Its first octet has not come.
    Awaited,
    Open(Box<Body>),
    Refused,
}

struct Body {
    gate: Gate,
    stager: Stager,
    /// For mailboxes of ours.
    indexer: Option<mime::Indexer>,
    /// For other hosts, where we vouch for it.
    digest: Option<Digest>,
    author: Option<Address>,
    /// There are octets above 127.
    eight_bit: bool,
    /// There are some in the header.
    eight_bit_header: bool,
}

impl Incoming {
    /// One recipient more.
    ///
    /// # Errors
    /// 550 5.1.1 nobody of that address; 550 5.7.1 not ours, and the sender has no right to relay; 451 4.7.1 the sender has
    /// written to too many others today; 452 4.2.2 no room; 451 when the directory does not answer.
    pub async fn recipient(&mut self, rcpt: &Rcpt) -> Result<()> {
        let (directory, nobody) = (&self.ingress.directory, || Error::new(Reply::new(550, 1, 1, "No such user here")));
        let (named, resolution) = match &rcpt.to {
            smtp::Recipient::Mailbox(address) => (Some(address), directory.resolve(address).await?),
            smtp::Recipient::Postmaster => (None, directory.resolve_postmaster().await?),
        };
        let found = match (resolution, named) {
            (Resolution::Deliver(found), _) => found,
            (Resolution::NotOurs, Some(named)) if self.origin.may_relay() => {
                Arc::new(Recipients { local: Vec::new(), remote: vec![named.clone()] })
            }
            (Resolution::NotOurs, _) => {
                return Err(Error::new(Reply::new(550, 7, 1, "Relaying denied: sign in to send to other hosts")));
            }
            (Resolution::Unknown, _) => return Err(nobody()),
        };
        self.check_room(&found).await?;
        if let Some(account) = self.origin.account() {
            let now = self.ingress.now();
            found.remote.iter().try_for_each(|_| self.ingress.spent.one_more(account, now))?;
        }
        let address = named.or(found.local.first().map(|t| &t.address)).cloned().ok_or_else(nobody)?;
        self.recipients.push(Recipient {
            address,
            notify: rcpt.notify,
            original: rcpt.original.clone(),
            accounts: found.local.iter().map(|t| t.account).collect(),
            local: found.local.iter().filter(|t| self.accounts.insert(t.account)).cloned().collect(),
            leads_out: !found.remote.is_empty(),
            remote: found.remote.iter().filter(|a| self.elsewhere.insert((*a).clone())).cloned().collect(),
        });
        Ok(())
    }

    /// Whether anybody can take a mail of this size. Who cannot, and is not alone, is reported once the mail is there: one
    /// full mailbox does not keep a group from its mail. Only accounts with a quota cost a look at the store.
    async fn check_room(&self, found: &Recipients) -> Result<()> {
        if !found.remote.is_empty() {
            return Ok(());
        }
        let size = self.mail.size.unwrap_or(1);
        for target in &found.local {
            let (Some(quota), account) = (target.quota, target.account) else { return Ok(()) };
            let (used, _) = self.ingress.mailboxes.store().read(move |tx| verbs::room(tx, account)).await?;
            if used.saturating_add(size) <= quota {
                return Ok(());
            }
        }
        Err(Error::new(Reply::new(452, 2, 2, "The mailbox is full")))
    }

    /// The next bytes of the body, cut anywhere.
    ///
    /// # Errors
    /// 554 5.4.6 a loop; 554 5.6.0 a header too large to work on; 451 when the disk does not take it. The mail is refused
    /// then: further bytes are not kept.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let State::Awaited = self.body {
            self.body = State::Open(Box::new(self.begin()));
        }
        let State::Open(body) = &mut self.body else { return Ok(()) };
        let outcome = body.take(bytes, &self.ingress, &self.origin);
        if outcome.is_err() {
            self.body = State::Refused;
        }
        outcome
    }

    /// All recipients are known: what is done with the bytes as they come.
    fn begin(&self) -> Body {
        let (here, elsewhere) = (!self.accounts.is_empty(), !self.elsewhere.is_empty());
        // What only passes through is soon gone.
        let class = if here { Class::Lasting } else { Class::Transit };
        Body {
            gate: Gate::new(self.origin.is_submission()),
            stager: self.ingress.mailboxes.store().stager(class),
            indexer: here.then(|| mime::Indexer::new(mime::Limits::default())),
            digest: (elsewhere && self.origin.may_relay()).then(Digest::new),
            author: None,
            eight_bit: false,
            eight_bit_header: false,
        }
    }

    /// The body is complete: everything in one commit. Gives an outcome for each recipient, in the order they were named,
    /// once all of it is on disk.
    ///
    /// # Errors
    /// One reply for all: the body was refused, or nothing could be stored.
    pub async fn commit(mut self) -> Result<Vec<Result<()>>> {
        // A mail may be empty.
        self.push(b"")?;
        let refused = || Error::new(Reply::new(554, 6, 0, "The message was refused"));
        let State::Open(mut body) = std::mem::replace(&mut self.body, State::Refused) else { return Err(refused()) };
        body.end(&self.ingress, &self.origin)?;
        let now = self.ingress.now();
        let signatures = self.sign(&mut body, now).await?;
        let plan = self.plan(&body, &signatures, now)?;
        let mut index = Vec::new();
        if let Some(indexer) = body.indexer {
            indexer.finish().encode(&mut index);
        }
        let staged = vec![body.stager.finish()?];
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
            let blob = *blobs.first().ok_or(store::Error::Closed)?;
            let kept = plan.deliver(tx, blob, &index, now)?;
            plan.enqueue(tx, blob, &kept, now)?;
            Ok(kept)
        };
        let kept = self.ingress.mailboxes.store().write_with(Lane::Interactive, staged, work).await?;
        for Missed { address, reply, .. } in &kept.missed {
            tracing::info!(to = %address, %reply, "no room for a copy of a mail that others have");
        }
        Ok(kept.outcomes.into_iter().map(|refusal| refusal.map_or(Ok(()), |reply| Err(Error::new(reply)))).collect())
    }

    /// The signatures that go before a mail to other hosts.
    async fn sign(&self, body: &mut Body, now: Timestamp) -> Result<String> {
        let Some(digest) = body.digest.take() else { return Ok(String::new()) };
        match self.ingress.signer(&self.origin, body.author.as_ref(), self.mail.from.as_ref()).await? {
            Some(domain) => self.ingress.keys.sign(&domain, digest, now).await,
            None => Ok(String::new()),
        }
    }

    fn plan(&self, body: &Body, signatures: &str, now: Timestamp) -> Result<Plan> {
        let only = if let [one] = &self.recipients[..] { Some(&one.address) } else { None };
        let received = self.origin.received(&self.ingress.hostname, only, now);
        let (mut copies, octets) = (Vec::new(), body.stager.len());
        for (recipient, r) in self.recipients.iter().enumerate().filter(|(_, r)| !r.local.is_empty()) {
            let prefix = trace::prefix(self.mail.from.as_ref(), &r.address, &received);
            let octets = u32::try_from(octets + prefix.len() as u64).map_err(|_| too_big())?;
            let copy = |t: &LocalTarget| {
                let (address, prefix) = (t.address.clone(), prefix.clone());
                Copy { recipient, account: t.account, address, octets, prefix }
            };
            copies.extend(r.local.iter().map(copy));
        }
        // In ascending order, so that two mails to the same people take locks in the same order.
        copies.sort_by_key(|c| c.account);
        let prefix = format!("{signatures}{received}");
        Ok(Plan {
            id: self.ingress.queue.next_id(),
            copies,
            octets: octets + prefix.len() as u64,
            prefix: prefix.into_bytes(),
            body: match self.mail.body {
                BodyType::BinaryMime => BodyType::BinaryMime,
                _ if body.eight_bit => BodyType::EightBitMime,
                _ => BodyType::SevenBit,
            },
            // Programs say SMTPUTF8 for mails that do not need it; the next host may not have it.
            smtputf8: self.mail.smtputf8 && body.eight_bit_header,
            mail: self.mail.clone(),
            account: self.origin.account(),
            // LMTP says for each recipient what became of it.
            one_answer: self.origin.protocol == Protocol::Smtp,
            recipients: self.recipients.iter().map(Recipient::named).collect(),
        })
    }
}

impl Recipient {
    fn named(&self) -> Named {
        let (address, notify, original) = (self.address.clone(), self.notify, self.original.clone());
        let (accounts, leads_out, remote) = (self.accounts.clone(), self.leads_out, self.remote.clone());
        Named { address, notify, original, accounts, leads_out, remote }
    }
}

pub(crate) fn too_big() -> Error {
    Error::new(Reply::new(552, 3, 4, "The message is too big"))
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
        self.eight_bit_header = !held.header().is_ascii();
        if self.digest.is_some() {
            self.author = outgoing::author(held.header());
        }
        if origin.is_submission() {
            let fixed = held.for_submission(ingress.now(), &ingress.hostname, self.gate.number());
            return self.push(&fixed);
        }
        self.push(held.bytes())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(indexer) = &mut self.indexer {
            indexer.push(bytes);
        }
        if let Some(digest) = &mut self.digest {
            digest.push(bytes);
        }
        self.eight_bit |= !bytes.is_ascii();
        Ok(self.stager.push(bytes)?)
    }

    fn end(&mut self, ingress: &Ingress, origin: &Origin) -> Result<()> {
        match self.gate.end() {
            None => Ok(()),
            Some(held) => self.open(held, ingress, origin),
        }
    }
}
