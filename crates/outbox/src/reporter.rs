//! Pays the queue's debts: a report to the sender of each message that owes one, in one commit with the note that it does
//! not owe it any more. To a sender of ours straight into the mailbox, to others through the queue, from `<>` (trap 19).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base::{Address, BlobId, Reply, Timestamp};
use directory::{Recipients, Resolution};
use mailbox::Flags;
use mailbox::verbs::{self, INBOX, NewEmail};
use queue::{Fate, Message, NewDelivery, NewMessage, QueueId, Standing, State};
use smtp::{BodyType, Ret};
use store::{BlobReader, Class, Lane, Tx};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::outbox::{Inner, PAUSE};
use crate::report::{Original, Report};

/// A mail larger than this is not returned whole, whatever RET says: the report is to arrive.
const WHOLE: u64 = 1 << 20;
/// A header is looked for in so many octets.
const HEADER: u64 = 64 * 1024;

/// So long a report waits for other deliveries of the message, so that one report tells of all (RFC 3464 §2), and for
/// bytes that cannot be read now.
const GATHER: Duration = Duration::from_secs(60);
/// How often it is looked for debts that other nodes have made.
const OTHERS: Duration = Duration::from_secs(5);
/// The longest time between two attempts at a report.
const LONGEST: Duration = Duration::from_secs(600);

/// The messages that owe a report, and when each is looked at next. None waits for another.
#[derive(Default)]
struct Debts {
    looks: BTreeSet<(Instant, QueueId)>,
    /// Since when it is known.
    since: HashMap<QueueId, Instant>,
    /// Those that can never be paid.
    bad: BTreeSet<QueueId>,
}

impl Debts {
    fn add(&mut self, id: QueueId) {
        let now = Instant::now();
        if self.since.insert(id, now).is_none() {
            self.looks.insert((now, id));
        }
    }

    /// Takes the next one whose time has come; never done when there is none.
    async fn next(&mut self) -> (QueueId, Instant) {
        let Some((look, id)) = self.looks.first().copied() else { return std::future::pending().await };
        sleep_until(look).await;
        self.looks.remove(&(look, id));
        (id, self.since.remove(&id).unwrap_or(look))
    }

    /// It waits some more, the longer the older it is.
    fn put_back(&mut self, id: QueueId, since: Instant) {
        let wait = since.elapsed().clamp(PAUSE, LONGEST);
        self.since.insert(id, since);
        self.looks.insert((Instant::now() + wait, id));
    }
}

/// Until the server stops. What is owed then is found at the next start.
pub(crate) async fn run(inner: Arc<Inner>, mut owing: mpsc::UnboundedReceiver<QueueId>) {
    let mut debts = Debts::default();
    loop {
        match inner.store.read(queue::owing).await {
            Ok(old) => break old.into_iter().for_each(|id| debts.add(id)),
            Err(error) => tracing::warn!(%error, "the reports that are owed cannot be read"),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = inner.stopped() => return,
        }
    }
    // Debts that other nodes have made.
    let mut others = tokio::time::interval(OTHERS);
    loop {
        tokio::select! {
            biased;
            () = inner.stopped() => return,
            _ = others.tick(), if inner.peers.is_some() => match inner.store.read(queue::owing).await {
                Ok(all) => {
                    debts.bad.retain(|id| all.contains(id));
                    for id in all {
                        if !debts.bad.contains(&id) {
                            debts.add(id);
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "the reports that are owed cannot be read"),
            },
            id = owing.recv() => match id {
                Some(id) => debts.add(id),
                None => return,
            },
            (id, since) = debts.next() => match report(&inner, id, since.elapsed() >= GATHER).await {
                Ok(Paid::Yes) => {}
                Ok(Paid::NotYet) => debts.put_back(id, since),
                Err(error) if error.is_transient() => {
                    tracing::warn!(queue = %id, %error, "a report cannot be sent yet");
                    debts.put_back(id, since);
                }
                Err(error) => {
                    debts.bad.insert(id);
                    tracing::error!(queue = %id, %error, "a report cannot be sent: queue cancel strikes it");
                }
            },
        }
    }
}

/// What came of a debt.
enum Paid {
    Yes,
    /// More will be owed soon, or the bytes may yet be read.
    NotYet,
}

/// Reports to the sender of a message what is owed; at once when it is `urgent`.
///
/// # Errors
/// One that is not transient: the debt will never be paid.
async fn report(inner: &Inner, id: QueueId, urgent: bool) -> base::Result<Paid> {
    let (blobs, now) = (inner.store.clone(), inner.clock.now());
    let work = move |tx: &mut Tx<'_>| {
        let Some((message, deliveries)) = queue::show(tx, id)? else { return Ok(None) };
        // A forwarded mail has a return address of ours.
        let to = message.from.as_ref().map(|from| trust::reported_to(tx, from, now)).transpose()?;
        // Opened in the read that read its row: later it may have moved.
        let blob = message.content.blob().map(|blob| blobs.blob(blob));
        Ok(Some((message, to, deliveries, blob)))
    };
    let found = inner.store.read(work).await.map_err(|e| match e {
        // No later look makes it readable.
        store::Error::Corrupt(_) => base::Error::new(Reply::new(550, 3, 0, "It cannot be read")).because(e),
        e => e.into(),
    })?;
    let Some((message, to, deliveries, blob)) = found else { return Ok(Paid::Yes) };
    // What is being tried for the first time may owe the same in a moment.
    let begun = |d: &Standing| d.state == State::Claimed || d.state == State::Waiting && d.delivery.attempts == 0;
    if !urgent && deliveries.iter().any(begun) {
        return Ok(Paid::NotYet);
    }
    let about: Vec<Standing> = deliveries.into_iter().filter(|d| !d.owed.is_nothing()).collect();
    let Some(to) = to else { return Ok(Paid::Yes) };
    if about.is_empty() {
        return Ok(Paid::Yes);
    }
    let failed = about.iter().any(|d| d.state == State::Failed);
    let original = match blob.map(|blob| blob.and_then(|blob| original(&message, &blob, failed))).transpose() {
        Ok(original) => original.unwrap_or(Bytes::Nothing),
        Err(_) if !urgent => return Ok(Paid::NotYet),
        Err(error) => {
            tracing::error!(queue = %id, %error, "the report goes without the mail, which cannot be read");
            Bytes::Nothing
        }
    };
    let ours = match inner.directory.resolve(&to).await {
        Ok(Resolution::Deliver(recipients)) => Some(recipients),
        Ok(Resolution::NotOurs) => None,
        // The sender is gone: there is nobody to tell.
        Ok(Resolution::Unknown) => Some(Arc::default()),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            tracing::warn!(queue = %id, %to, %error, "nobody can be told: the report is dropped");
            Some(Arc::default())
        }
    };
    let domain = if ours.is_some() { to.domain() } else { &inner.hostname };
    let (hostname, random) = (inner.hostname.as_str(), inner.random());
    let body =
        Report { hostname, message: &message, about: &about, to: &to, domain, now, random }.write(&match &original {
            Bytes::Whole(bytes) => Original::Whole(bytes),
            Bytes::Header(bytes) => Original::Header(bytes),
            Bytes::Nothing => Original::Nothing,
        });
    tracing::info!(queue = %id, %to, recipients = about.len(), "reported to the sender");
    send(inner, &message, about, to, ours, body, now).await?;
    Ok(Paid::Yes)
}

enum Bytes {
    Whole(Vec<u8>),
    Header(Vec<u8>),
    Nothing,
}

/// What is returned of the mail (RFC 3461 §4.3): its header, unless it failed and all was asked for.
fn original(message: &Message, blob: &BlobReader, failed: bool) -> store::Result<Bytes> {
    let mut bytes = Vec::new();
    // A binary mail does not fit into ours. What demanded TLS is not sent back without (RFC 8689 §5).
    let fits = blob.len() <= WHOLE && message.body != BodyType::BinaryMime && !message.require_tls;
    if failed && message.ret == Some(Ret::Full) && fits {
        blob.read(0, blob.len(), &mut bytes)?;
        return Ok(Bytes::Whole(bytes));
    }
    blob.read(0, HEADER, &mut bytes)?;
    let end = mime::header::fields(&bytes).last().map_or(0, |f| f.span.end);
    bytes.truncate(end);
    Ok(Bytes::Header(bytes))
}

/// Trap 18: what we make says who made it.
fn received(inner: &Inner, now: Timestamp) -> String {
    format!("Received: by {} (Postroom); {}\r\n", inner.hostname, now.rfc5322())
}

async fn send(
    inner: &Inner,
    about_whom: &Message,
    about: Vec<Standing>,
    to: Address,
    ours: Option<Arc<Recipients>>,
    body: Vec<u8>,
    now: Timestamp,
) -> base::Result<()> {
    let recipients = ours.unwrap_or_else(|| Arc::new(Recipients { local: Vec::new(), remote: vec![to.clone()] }));
    let class = if recipients.local.is_empty() { Class::Transit } else { Class::Lasting };
    let (mut stager, mut indexer) = (inner.store.stager(class), mime::Indexer::new(mime::Limits::default()));
    stager.push(&body)?;
    indexer.push(&body);
    let mut index = Vec::new();
    indexer.finish().encode(&mut index);
    let (received, id) = (received(inner, now), inner.queue.next_id());
    let (about_id, organisation) = (about_whom.id, about_whom.organisation);
    let prefix = format!("Return-Path: <>\r\nDelivered-To: {to}\r\n{received}");
    let eight_bit = !body.is_ascii();
    let octets = body.len();
    let job = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
        let blob = *blobs.first().ok_or(store::Error::Closed)?;
        for target in &recipients.local {
            let new = NewEmail {
                blob,
                octets: (octets + prefix.len()) as u32,
                received: now,
                prefix: prefix.as_bytes(),
                index: &index,
                flags: Flags::default(),
                keywords: &[],
            };
            match tx.attempt(|tx| verbs::deliver(tx, target.account, INBOX, &new, now)) {
                // A full mailbox: a report about a report is never sent (trap 17).
                Ok(_) | Err(store::Error::Refused(_)) => {}
                Err(e) => return Err(e),
            }
        }
        let new = NewMessage {
            prefix: received.as_bytes(),
            body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
            smtputf8: !to.is_ascii(),
            organisation,
            ..NewMessage::new(id, blob, (octets + received.len()) as u64, now)
        };
        let remote = |to: &Address| NewDelivery { to: to.clone(), notify: None, original: None, fate: Fate::Open };
        let paid = |s: &Standing| queue::Report { number: s.delivery.number, owed: s.owed, state: s.state };
        queue::reported(tx, about_id, &about.iter().map(paid).collect::<Vec<_>>())?;
        queue::enqueue(tx, &new, &recipients.remote.iter().map(remote).collect::<Vec<_>>())
    };
    Ok(inner.store.write_with(Lane::Interactive, vec![stager.finish()], job).await?)
}
