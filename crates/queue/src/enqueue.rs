//! A message comes into the queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use base::{AccountId, Address, BlobId, Enhanced, OrganisationId, Reply, Stream, Timestamp};
use smtp::{BodyType, Notify, OriginalRecipient, Ret};
use store::{Result, Tx, Value, params};

use crate::accepted::Accepted;
use crate::entry::{stored_flags, stored_notify, stored_original, stored_ret};
use crate::receipt::MAX_RECORDS;
use crate::{Content, DeliverBy, Event, Group, MAX_REFERENCE, Owed, QueueId, Recipe, State, lifetime, schema};

/// Octets of a Message-ID that is kept; those that programs make have half as many.
const MAX_MESSAGE_ID: usize = 250;

/// A message to be enqueued; the fields are those of [`crate::Message`].
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NewMessage<'a> {
    pub id: QueueId,
    pub from: Option<&'a Address>,
    pub prefix: &'a [u8],
    pub content: Content,
    pub octets: u64,
    pub envelope_id: Option<&'a str>,
    pub ret: Option<Ret>,
    pub body: BodyType,
    pub smtputf8: bool,
    pub require_tls: bool,
    pub tls_optional: bool,
    pub account: Option<AccountId>,
    pub organisation: OrganisationId,
    pub stream: Stream,
    pub created: Timestamp,
    pub priority: i8,
    pub release: Option<Timestamp>,
    pub deliver_by: Option<DeliverBy>,
    /// When it is given up; [`lifetime`] after it may leave when there is none.
    pub expires: Option<Timestamp>,
    pub message_id: Option<&'a str>,
}

impl NewMessage<'_> {
    /// A message of `octets` that asks for nothing: between people, from `<>`, of no organisation, to leave at once.
    pub fn new(id: QueueId, blob: BlobId, octets: u64, created: Timestamp) -> Self {
        NewMessage {
            id,
            from: None,
            prefix: b"",
            content: Content::Stored(blob),
            octets,
            envelope_id: None,
            ret: None,
            body: BodyType::SevenBit,
            smtputf8: false,
            require_tls: false,
            tls_optional: false,
            account: None,
            organisation: OrganisationId::HOUSE,
            stream: Stream::Mail,
            created,
            priority: 0,
            release: None,
            deliver_by: None,
            expires: None,
            message_id: None,
        }
    }

    /// The same, but made by [`crate::Bodies`].
    pub fn made(id: QueueId, recipe: Recipe, created: Timestamp) -> Self {
        NewMessage { content: Content::Made(recipe), ..NewMessage::new(id, BlobId(0), 0, created) }
    }

    /// When it is given up.
    fn expires(&self) -> Timestamp {
        let begun = self.release.unwrap_or(self.created);
        let expires = self.expires.unwrap_or(Timestamp(begun.0 + lifetime(self.stream).as_millis() as i64));
        match self.deliver_by {
            Some(by) if by.returned => expires.min(by.until),
            _ => expires,
        }
    }

    /// When its first attempt is due.
    fn due(&self) -> Timestamp {
        self.release.unwrap_or(self.created).min(self.expires())
    }
}

/// One of its recipients.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// The recipient.
    pub to: Address,
    /// NOTIFY.
    pub notify: Option<Notify>,
    /// ORCPT.
    pub original: Option<OriginalRecipient>,
    /// Whether it is to be sent, or only to be reported.
    pub fate: Fate,
}

/// What is already known of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is to be sent, as soon as it may leave.
    Open,
    /// A mailbox of ours has it, and the sender asked to be told.
    Delivered,
    /// It failed here, after the sender was told that we take it.
    Failed(Reply),
}

/// Enqueues a message. Deliveries of which nothing is left to do, as nobody wants their report, are left out.
///
/// # Errors
/// The store's; refused, when a [`Recipe`] is too long.
pub fn enqueue(tx: &mut Tx<'_>, new: &NewMessage<'_>, deliveries: &[NewDelivery]) -> Result<()> {
    let mut accepted = Accepted::default();
    insert(tx, new, deliveries, &mut accepted)?;
    accepted.log(tx, new.created);
    Ok(())
}

/// Enqueues messages as [`enqueue`] does, but their log costs one row for a thousand recipients, not one for each message. How many
/// fit into a job is for the caller to know: 20 ms are some 500.
///
/// # Errors
/// The store's; refused, when a [`Recipe`] is too long.
pub fn enqueue_all(tx: &mut Tx<'_>, all: &[(NewMessage<'_>, Vec<NewDelivery>)]) -> Result<()> {
    let Some((first, _)) = all.first() else { return Ok(()) };
    let (mut accepted, mut full) = (Accepted::default(), Vec::new());
    for (new, deliveries) in all {
        insert(tx, new, deliveries, &mut accepted)?;
        if accepted.places() >= MAX_RECORDS {
            full.push(std::mem::take(&mut accepted));
        }
    }
    full.push(accepted);
    full.iter().for_each(|accepted| accepted.log(tx, first.created));
    Ok(())
}

/// Writes the rows of a message, and notes in `accepted` that it was.
fn insert(tx: &mut Tx<'_>, new: &NewMessage<'_>, deliveries: &[NewDelivery], accepted: &mut Accepted) -> Result<()> {
    let reports_to = new.from.filter(|_| matches!(new.content, Content::Stored(_)));
    let owes = |d: &NewDelivery| {
        let wanted = match &d.fate {
            Fate::Open => Owed::NOTHING,
            Fate::Delivered => Owed { success: true, ..Owed::NOTHING },
            Fate::Failed(_) => Owed { failure: true, ..Owed::NOTHING },
        };
        Owed::of(reports_to, d.notify, wanted)
    };
    let rows: Vec<_> =
        deliveries.iter().map(|d| (d, owes(d))).filter(|(d, o)| d.fate == Fate::Open || !o.is_nothing()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    insert_message(tx, new, rows.len())?;
    for (number, (d, owed)) in (0i64..).zip(&rows) {
        insert_delivery(tx, new, number, d, *owed)?;
    }
    let open = rows.iter().filter(|(d, _)| d.fate == Fate::Open);
    let groups: BTreeSet<Group> =
        open.map(|(d, _)| Group::of(new.stream, new.organisation, d.to.domain(), new.priority)).collect();
    if !groups.is_empty() {
        accepted.add(new.id, rows.len() as u32);
        tx.publish(Arc::new(Event::Due(groups.into_iter().collect(), new.due())));
    }
    if rows.iter().any(|(_, o)| !o.is_nothing()) {
        tx.publish(Arc::new(Event::Owing(new.id)));
    }
    Ok(())
}

fn insert_message(tx: &mut Tx<'_>, new: &NewMessage<'_>, n: usize) -> Result<()> {
    let from = new.from.map(Address::to_string);
    let (tls, by) = ((new.require_tls, new.tls_optional), new.deliver_by);
    let flags = stored_flags(new.body, new.smtputf8, tls, by);
    let n = n as i64;
    let message_id = new.message_id.filter(|id| id.len() <= MAX_MESSAGE_ID);
    let recipe = match &new.content {
        Content::Stored(_) => None,
        Content::Made(recipe) if recipe.reference.len() <= MAX_REFERENCE => Some(recipe),
        Content::Made(_) => return Err(base::Error::internal("the reference of a body is too long").into()),
    };
    tx.send(
        &schema::INSERT_MESSAGE,
        params![
            new.id,
            new.content.blob(),
            new.prefix,
            new.octets as i64,
            from.as_deref().map(str::as_bytes),
            new.envelope_id.map(str::as_bytes),
            stored_ret(new.ret),
            flags,
            new.account,
            new.organisation,
            new.stream.stored(),
            new.created,
            n,
            n,
            i64::from(new.priority),
            new.release,
            new.deliver_by.map(|by| by.until),
            message_id.map(str::as_bytes),
            recipe.map(|recipe| i64::from(recipe.kind)),
            recipe.map(|recipe| &*recipe.reference)
        ],
    )
}

fn insert_delivery(tx: &mut Tx<'_>, new: &NewMessage<'_>, number: i64, d: &NewDelivery, owed: Owed) -> Result<()> {
    let (to, original) = (d.to.to_string(), stored_original(d.original.as_ref()));
    let group = Group::of(new.stream, new.organisation, d.to.domain(), new.priority);
    let (state, status, reply) = match &d.fate {
        Fate::Open => (State::Waiting, String::new(), String::new()),
        Fate::Delivered => (State::Delivered, Enhanced(2, 0, 0).to_string(), String::new()),
        Fate::Failed(reply) => (State::Failed, crate::claim::status(reply).to_string(), reply.to_string()),
    };
    tx.send(
        &schema::INSERT_DELIVERY,
        params![
            new.id,
            number,
            to.as_bytes(),
            stored_notify(d.notify),
            original.as_deref().map(str::as_bytes),
            state.stored(),
            new.due(),
            new.expires(),
            owed.stored(),
            status.as_str(),
            reply.as_bytes(),
            Value::Bytes(b""),
            group.stream.stored(),
            group.organisation,
            group.domain,
            i64::from(group.priority)
        ],
    )
}
