//! What follows from a mail, as one job: the copies in our mailboxes, what other hosts get, what the sender is still to be
//! told.

use std::collections::HashMap;
use std::sync::Arc;

use base::{AccountId, Address, BlobId, Error, Reply, Timestamp};
use mailbox::Flags;
use mailbox::verbs::{self, INBOX, NewEmail};
use queue::{Fate, NewDelivery, NewMessage, QueueId};
use smtp::{BodyType, Mail, Notify, OriginalRecipient};
use store::{Result, Tx};

/// All that follows from a mail.
pub(crate) struct Plan {
    /// In the queue, where something of it goes there.
    pub(crate) id: QueueId,
    pub(crate) copies: Vec<Copy>,
    /// What stands before the mail on its way out, and the octets of both.
    pub(crate) prefix: Vec<u8>,
    pub(crate) octets: u64,
    pub(crate) body: BodyType,
    pub(crate) smtputf8: bool,
    pub(crate) mail: Mail,
    pub(crate) account: Option<AccountId>,
    pub(crate) one_answer: bool,
    pub(crate) recipients: Vec<Named>,
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
    /// The accounts of ours it leads to.
    pub(crate) accounts: Vec<AccountId>,
    /// It leads to other hosts.
    pub(crate) leads_out: bool,
    /// Where to, but for addresses that a recipient before led to.
    pub(crate) remote: Vec<Address>,
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
    /// Puts the copies into mailboxes.
    pub(crate) fn deliver(&self, tx: &mut Tx<'_>, blob: BlobId, index: &[u8], now: Timestamp) -> Result<Kept> {
        let one = |tx: &mut Tx<'_>, c: &Copy| {
            let (flags, keywords, octets, prefix) = (Flags::default(), &[][..], c.octets, &c.prefix);
            let new = NewEmail { blob, octets, received: now, prefix, index, flags, keywords };
            verbs::deliver(tx, c.account, INBOX, &new, now).map(drop)
        };
        // Refused with nothing else to do, the whole job is: that costs no savepoint.
        if let ([copy], [Named { leads_out: false, .. }]) = (&self.copies[..], &self.recipients[..]) {
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
        let here: Vec<bool> =
            self.recipients.iter().map(|r| r.accounts.iter().any(|a| !refused.contains_key(a))).collect();
        let refusal = |r: &Named| r.accounts.first().and_then(|a| refused.get(a)).cloned();
        let outcomes: Vec<Option<Reply>> = self
            .recipients
            .iter()
            .zip(&here)
            .map(|(r, here)| if *here || r.leads_out { None } else { refusal(r) })
            .collect();
        // About a mail from nobody nobody is told anything. With one answer for all it is better that it comes again.
        if self.mail.from.is_none()
            && self.one_answer
            && outcomes.iter().any(Option::is_none)
            && let Some(reply) = outcomes.iter().flatten().next()
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
        let mut deliveries = Vec::new();
        for ((r, refusal), here) in self.recipients.iter().zip(&kept.outcomes).zip(&kept.here) {
            deliveries.extend(r.remote.iter().map(|to| r.delivery(to, Fate::Open)));
            match refusal {
                None if *here && r.wants_success() => deliveries.push(r.delivery(&r.address, Fate::Delivered)),
                Some(reply) if said_yes => deliveries.push(r.delivery(&r.address, Fate::Failed(reply.clone()))),
                _ => {}
            }
        }
        for Missed { recipient, address, reply } in &kept.missed {
            deliveries.push(self.recipients[*recipient].delivery(address, Fate::Failed(reply.clone())));
        }
        let new = NewMessage {
            id: self.id,
            from: self.mail.from.as_ref(),
            prefix: &self.prefix,
            blob,
            octets: self.octets,
            envelope_id: self.mail.envelope_id.as_deref(),
            ret: self.mail.ret,
            body: self.body,
            smtputf8: self.smtputf8,
            require_tls: self.mail.require_tls,
            account: self.account,
            created: now,
        };
        queue::enqueue(tx, &new, &deliveries)
    }
}
