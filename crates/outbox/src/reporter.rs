//! Pays the queue's debts: a report to the sender of each message that owes one, in one commit with the note that it does
//! not owe it any more. To a sender of ours straight into the mailbox, to others through the queue, from `<>` (trap 19).

use std::sync::Arc;

use base::{Address, BlobId, Timestamp};
use directory::{Recipients, Resolution};
use mailbox::Flags;
use mailbox::verbs::{self, INBOX, NewEmail};
use queue::{Fate, Message, NewDelivery, NewMessage, QueueId, Standing};
use smtp::{BodyType, Ret};
use store::{BlobReader, Class, Lane, Tx};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::outbox::{Inner, PAUSE};
use crate::report::{Original, Report};

/// A mail larger than this is not returned whole, whatever RET says: the report is to arrive.
const WHOLE: u64 = 1 << 20;
/// A header is looked for in so many octets.
const HEADER: u64 = 64 * 1024;

/// Until the server stops. What is owed then is found at the next start.
pub(crate) async fn run(inner: Arc<Inner>, mut owing: mpsc::UnboundedReceiver<QueueId>) {
    let old = loop {
        match inner.store.read(queue::owing).await {
            Ok(old) => break old,
            Err(error) => tracing::warn!(%error, "the reports that are owed cannot be read"),
        }
        tokio::select! {
            () = sleep(PAUSE) => {}
            () = inner.stopped() => return,
        }
    };
    for id in old {
        pay(&inner, id).await;
    }
    loop {
        tokio::select! {
            id = owing.recv() => match id {
                Some(id) => pay(&inner, id).await,
                None => return,
            },
            () = inner.stopped() => return,
        }
    }
}

/// Pays what a message owes, however long the store takes.
async fn pay(inner: &Inner, id: QueueId) {
    while let Err(error) = report(inner, id).await {
        tracing::warn!(queue = %id, %error, "a report cannot be sent yet");
        if inner.is_stopping() {
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn report(inner: &Inner, id: QueueId) -> base::Result<()> {
    let blobs = inner.store.clone();
    let work = move |tx: &mut Tx<'_>| {
        let Some((message, deliveries)) = queue::show(tx, id)? else { return Ok(None) };
        // Opened in the read that read its row: later it may have moved.
        let blob = blobs.blob(message.blob)?;
        Ok(Some((message, deliveries, blob)))
    };
    let Some((message, deliveries, blob)) = inner.store.read(work).await? else { return Ok(()) };
    let about: Vec<Standing> = deliveries.into_iter().filter(|d| !d.owed.is_nothing()).collect();
    let Some(to) = message.from.clone() else { return Ok(()) };
    if about.is_empty() {
        return Ok(());
    }
    let ours = match inner.directory.resolve(&to).await? {
        Resolution::Deliver(recipients) => Some(recipients),
        Resolution::NotOurs => None,
        // The sender is gone: there is nobody to tell.
        Resolution::Unknown => Some(Arc::default()),
    };
    let now = inner.clock.now();
    let domain = if ours.is_some() { to.domain() } else { &inner.hostname };
    let body = {
        let (hostname, random) = (inner.hostname.as_str(), inner.random());
        let report = Report { hostname, message: &message, about: &about, to: &to, domain, now, random };
        let original = original(&message, &blob)?;
        report.write(&match &original {
            Bytes::Whole(bytes) => Original::Whole(bytes),
            Bytes::Header(bytes) => Original::Header(bytes),
        })
    };
    tracing::info!(queue = %id, %to, recipients = about.len(), "reported to the sender");
    send(inner, id, about, to, ours, body, now).await
}

enum Bytes {
    Whole(Vec<u8>),
    Header(Vec<u8>),
}

/// What is returned of the mail (RFC 3461 §4.3): its header, unless all was asked for.
fn original(message: &Message, blob: &BlobReader) -> base::Result<Bytes> {
    let mut bytes = Vec::new();
    // A binary mail does not fit into ours. What demanded TLS is not sent back without (RFC 8689 §5).
    let fits = blob.len() <= WHOLE && message.body != BodyType::BinaryMime && !message.require_tls;
    if message.ret == Some(Ret::Full) && fits {
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
    about_id: QueueId,
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
            id,
            from: None,
            prefix: received.as_bytes(),
            blob,
            octets: (octets + received.len()) as u64,
            envelope_id: None,
            ret: None,
            body: if eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit },
            smtputf8: !to.is_ascii(),
            require_tls: false,
            account: None,
            created: now,
        };
        let remote = |to: &Address| NewDelivery { to: to.clone(), notify: None, original: None, fate: Fate::Open };
        queue::enqueue(tx, &new, &recipients.remote.iter().map(remote).collect::<Vec<_>>())?;
        let paid = |s: &Standing| queue::Report { number: s.delivery.number, owed: s.owed, state: s.state };
        queue::reported(tx, about_id, &about.iter().map(paid).collect::<Vec<_>>())
    };
    Ok(inner.store.write_with(Lane::Interactive, vec![stager.finish()?], job).await?)
}
