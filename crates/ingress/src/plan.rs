//! What follows from a mail, as one job: the copies in our mailboxes, what other hosts get, what the sender is still to be
//! told.

use std::collections::HashMap;
use std::sync::Arc;

use base::{AccountId, Address, BlobId, Error, OrganisationId, Reply, Stream, Timestamp};
use directory::Recipients;
use mailbox::Flags;
use mailbox::verbs::{self, INBOX, NewEmail};
use queue::{DeliverBy, Fate, NewDelivery, NewMessage, QueueId};
use smtp::{BodyType, Mail, Notify, OriginalRecipient};
use store::{Result, Tx};

/// All that follows from a mail.
pub(crate) struct Plan {
    pub(crate) copies: Vec<Copy>,
    /// The mail as it leaves, once for all whom the sender named itself, and once for each address that is forwarded.
    pub(crate) leaving: Vec<Leaving>,
    pub(crate) body: BodyType,
    pub(crate) smtputf8: bool,
    pub(crate) mail: Mail,
    pub(crate) account: Option<AccountId>,
    pub(crate) one_answer: bool,
    pub(crate) recipients: Vec<Named>,
    /// Nobody gets it before (RFC 4865): copies wait in the queue, too.
    pub(crate) release: Option<Timestamp>,
    pub(crate) message_id: Option<String>,
}

/// A mail on its way out: a message of the queue, where something of it goes there.
pub(crate) struct Leaving {
    pub(crate) id: QueueId,
    /// Who gets reports about it.
    pub(crate) from: Option<Address>,
    /// Whose sending it is, and of what kind.
    pub(crate) organisation: OrganisationId,
    pub(crate) stream: Stream,
    /// As its sender wants it; what is forwarded is as urgent as any other, whoever sent it.
    pub(crate) priority: i8,
    /// What stands before it, and the octets of both.
    pub(crate) prefix: Vec<u8>,
    pub(crate) octets: u64,
}

/// One account's copy.
pub(crate) struct Copy {
    /// Through which recipient the account gets it.
    pub(crate) recipient: usize,
    pub(crate) account: AccountId,
    /// The account's own address.
    pub(crate) address: Address,
    pub(crate) octets: u32,
    pub(crate) prefix: Arc<[u8]>,
}

/// A recipient as the queue knows it.
pub(crate) struct Named {
    pub(crate) address: Address,
    pub(crate) notify: Option<Notify>,
    pub(crate) original: Option<OriginalRecipient>,
    /// Where it leads.
    pub(crate) found: Arc<Recipients>,
    /// To which other hosts, but for addresses that a recipient before led to.
    pub(crate) remote: Vec<Address>,
    /// As which of [`Plan::leaving`].
    pub(crate) leaving: usize,
    /// It gets nothing.
    pub(crate) refusal: Option<Reply>,
}

/// What became of the copies.
pub(crate) struct Kept {
    /// The refusal of each recipient. It has its mail when any of its accounts has, or when it leads to other hosts.
    pub(crate) outcomes: Vec<Option<Reply>>,
    /// Accounts that have no copy, though their recipient has its mail.
    pub(crate) missed: Vec<Missed>,
    /// Whether a mailbox of ours has it, by recipient.
    here: Vec<bool>,
}

/// An account without its copy.
pub(crate) struct Missed {
    recipient: usize,
    pub(crate) address: Address,
    pub(crate) reply: Reply,
}

impl Named {
    /// It leads to other hosts.
    fn leads_out(&self) -> bool {
        self.refusal.is_none() && !self.found.remote.is_empty()
    }

    fn wants_success(&self) -> bool {
        matches!(self.notify, Some(Notify::On { success: true, .. }))
    }

    fn delivery(&self, to: &Address, fate: Fate) -> NewDelivery {
        // The sender knows the address it named, and not where that leads (RFC 3461 §5.2.7).
        let kind = || if self.address.is_ascii() { "rfc822" } else { "utf-8" };
        let named = || OriginalRecipient { kind: kind().into(), address: self.address.to_string() };
        let original = self.original.clone().or_else(|| (*to != self.address).then(named));
        NewDelivery { to: to.clone(), notify: self.notify, original, fate }
    }
}

impl Plan {
    /// Why nobody gets anything.
    pub(crate) fn all_refused(&self) -> Option<Vec<Option<Reply>>> {
        let refusals = || self.recipients.iter().map(|r| r.refusal.clone()).collect();
        self.recipients.iter().all(|r| r.refusal.is_some()).then(refusals)
    }

    /// The number in the queue of the first that goes to another host.
    pub(crate) fn goes_on(&self) -> Option<QueueId> {
        let first = self.recipients.iter().find(|r| !r.remote.is_empty())?;
        self.leaving.get(first.leaving).map(|mail| mail.id)
    }

    /// Counts what the account writes to other hosts.
    ///
    /// # Errors
    /// 451 4.7.1 when that is more than a day's.
    pub(crate) fn spend(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        let elsewhere: usize = self.recipients.iter().map(|r| r.remote.len()).sum();
        let (Some(account), 1..) = (self.account, elsewhere) else { return Ok(()) };
        directory::spend(tx, account, u32::try_from(elsewhere).unwrap_or(u32::MAX), now)
    }

    /// Puts the copies into mailboxes.
    pub(crate) fn deliver(&self, tx: &mut Tx<'_>, blob: BlobId, index: &[u8], now: Timestamp) -> Result<Kept> {
        let one = |tx: &mut Tx<'_>, c: &Copy| {
            let (flags, keywords, octets, prefix) = (Flags::default(), &[][..], c.octets, &c.prefix);
            let new = NewEmail { blob, octets, received: now, prefix, index, flags, keywords };
            verbs::deliver(tx, c.account, INBOX, &new, now).map(drop)
        };
        if self.release.is_some() {
            let outcomes = self.recipients.iter().map(|r| r.refusal.clone()).collect();
            return Ok(Kept { outcomes, missed: Vec::new(), here: vec![false; self.recipients.len()] });
        }
        // Refused with nothing else to do, the whole job is: that costs no savepoint.
        if let ([copy], [only]) = (&self.copies[..], &self.recipients[..])
            && !only.leads_out()
        {
            return one(tx, copy).map(|()| Kept { outcomes: vec![None], missed: Vec::new(), here: vec![true] });
        }
        let mut refused = HashMap::new();
        for copy in &self.copies {
            match tx.attempt(|tx| one(tx, copy)) {
                Ok(()) => {}
                Err(store::Error::Refused(e)) => drop(refused.insert(copy.account, e.reply().clone())),
                Err(e) => return Err(e),
            }
        }
        self.kept(refused)
    }

    fn kept(&self, mut refused: HashMap<AccountId, Reply>) -> Result<Kept> {
        let has = |r: &Named| r.refusal.is_none() && r.found.local.iter().any(|t| !refused.contains_key(&t.account));
        let here: Vec<bool> = self.recipients.iter().map(has).collect();
        let refusal = |r: &Named| r.found.local.first().and_then(|t| refused.get(&t.account)).cloned();
        let outcome = |(r, here): (&Named, &bool)| match &r.refusal {
            None if *here || r.leads_out() => None,
            None => refusal(r),
            Some(reply) => Some(reply.clone()),
        };
        let outcomes: Vec<Option<Reply>> = self.recipients.iter().zip(&here).map(outcome).collect();
        // About a mail from nobody nobody is told anything. With one answer for all it is better that it comes again.
        if self.mail.from.is_none()
            && self.one_answer
            && outcomes.iter().any(Option::is_none)
            && let Some(reply) = outcomes.iter().flatten().find(|reply| reply.is_transient())
        {
            return Err(Error::new(reply.clone()).into());
        }
        let mut missed = Vec::new();
        for c in self.copies.iter().filter(|c| outcomes[c.recipient].is_none()) {
            let missing = |reply| Missed { recipient: c.recipient, address: c.address.clone(), reply };
            missed.extend(refused.remove(&c.account).map(missing));
        }
        Ok(Kept { outcomes, missed, here })
    }

    /// What other hosts get, and what the sender is still to be told.
    pub(crate) fn enqueue(&self, tx: &mut Tx<'_>, blob: BlobId, kept: &Kept, now: Timestamp) -> Result<()> {
        // One answer says yes when anybody has the mail: who has it not is reported.
        let said_yes = self.one_answer && kept.outcomes.iter().any(Option::is_none);
        let mut deliveries: Vec<Vec<NewDelivery>> = self.leaving.iter().map(|_| Vec::new()).collect();
        for ((r, refusal), here) in self.recipients.iter().zip(&kept.outcomes).zip(&kept.here) {
            let deliveries = &mut deliveries[r.leaving];
            deliveries.extend(r.remote.iter().map(|to| r.delivery(to, Fate::Open)));
            match refusal {
                None if *here && r.wants_success() => deliveries.push(r.delivery(&r.address, Fate::Delivered)),
                Some(reply) if said_yes => deliveries.push(r.delivery(&r.address, Fate::Failed(reply.clone()))),
                _ => {}
            }
        }
        for copy in self.copies.iter().filter(|_| self.release.is_some()) {
            let r = &self.recipients[copy.recipient];
            deliveries[r.leaving].push(r.delivery(&copy.address, Fate::Open));
        }
        for Missed { recipient, address, reply } in &kept.missed {
            let r = &self.recipients[*recipient];
            deliveries[r.leaving].push(r.delivery(address, Fate::Failed(reply.clone())));
        }
        self.leaving.iter().zip(&deliveries).try_for_each(|(mail, to)| self.enqueue_one(tx, blob, mail, to, now))
    }

    fn enqueue_one(
        &self,
        tx: &mut Tx<'_>,
        blob: BlobId,
        mail: &Leaving,
        deliveries: &[NewDelivery],
        now: Timestamp,
    ) -> Result<()> {
        let new = NewMessage {
            id: mail.id,
            from: mail.from.as_ref(),
            prefix: &mail.prefix,
            content: queue::Content::Stored(blob),
            octets: mail.octets,
            envelope_id: self.mail.envelope_id.as_deref(),
            ret: self.mail.ret,
            body: self.body,
            smtputf8: self.smtputf8,
            require_tls: self.mail.require_tls,
            tls_optional: false,
            account: self.account,
            organisation: mail.organisation,
            stream: mail.stream,
            created: now,
            priority: mail.priority,
            release: self.release,
            deliver_by: self.mail.deliver_by.map(|by| DeliverBy {
                until: Timestamp(self.release.unwrap_or(now).0 + i64::from(by.seconds) * 1000),
                returned: by.returned,
                trace: by.trace,
            }),
            expires: None,
            message_id: self.message_id.as_deref(),
        };
        queue::enqueue(tx, &new, deliveries)
    }
}
