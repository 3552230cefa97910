//! Mail for mailboxes of ours that comes out of the queue: held until its time (RFC 4865), or made for each recipient. All
//! other mail for them was delivered when it came, and is never seen here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{BlobId, Reply, Timestamp};
use directory::{Recipients, Resolution};
use mailbox::Flags;
use mailbox::verbs::{self, INBOX, NewEmail};
use queue::receipt::Segment;
use queue::{Claimed, Delivery, Event, Message, Outcome, Said, Settled};
use store::{Class, Lane, Staged, Tx};

use crate::bodies::{self, Bytes, Missing};
use crate::dialogue::ours;
use crate::outbox::Inner;
use crate::shape::Course;
use crate::{dispatch, schedule};

/// A node that only sends leaves it to the one that has the mailboxes; for so long it looks away.
const NOT_HERE: Duration = Duration::from_secs(30);
/// Octets that are indexed at a time.
const PIECE: u64 = 64 * 1024;

/// Counts as long as somebody is at it.
struct Under(Arc<Inner>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.local.fetch_sub(1, Ordering::Relaxed);
        self.0.left.notify_one();
    }
}

/// Delivers what is for accounts of ours, and hands out the rest.
pub(crate) fn hand_out(inner: &Arc<Inner>, claimed: Claimed) {
    inner.local.fetch_add(1, Ordering::Relaxed);
    let under = Under(inner.clone());
    tokio::spawn(async move {
        let (inner, Claimed { message, deliveries }) = (&under.0, claimed);
        let mut elsewhere = Vec::new();
        for delivery in deliveries {
            match inner.directory.resolve(&delivery.to).await {
                Ok(Resolution::NotOurs) => elsewhere.push(delivery),
                // Who is connected to the mailbox hears of mail in its own process.
                Ok(_) if !inner.keeps() => {
                    let now = inner.clock.now();
                    inner.release(&message, &delivery, Timestamp(now.0 + schedule::millis(NOT_HERE)));
                }
                Ok(Resolution::Deliver(found)) => keep(inner, &message, delivery, &found).await,
                Ok(Resolution::Unknown) => fail(inner, &message, delivery, Reply::new(550, 1, 1, "No such user here")),
                Err(error) => fail(inner, &message, delivery, error.into_reply()),
            }
        }
        if !elsewhere.is_empty() {
            dispatch::go_out(inner, Claimed { message, deliveries: elsewhere });
        }
    });
}

fn fail(inner: &Inner, message: &Arc<Message>, delivery: Delivery, reply: Reply) {
    let transient = reply.is_transient();
    inner.settle_failure(None, message, delivery, ours(reply), transient, Course::default());
}

/// The copy, and the note that it is delivered, in one commit.
async fn keep(inner: &Arc<Inner>, message: &Arc<Message>, delivery: Delivery, found: &Recipients) {
    let got = bodies::get(inner, None, message, &delivery).await;
    let copied = got.and_then(|bytes| copy(inner, &bytes).map_err(Missing::Unreadable));
    let (index, staged, octets) = match copied {
        Ok(copied) => copied,
        Err(missing) => return bodies::settle(inner, message, vec![delivery], missing),
    };
    let accounts: Vec<_> = found.local.iter().map(|target| target.account).collect();
    if accounts.is_empty() {
        return fail(inner, message, delivery, Reply::new(550, 1, 6, "The mailbox has moved elsewhere since"));
    }
    let now = inner.clock.now();
    // RFC 2852 §4.1.2: it is returned, not late. It may have waited while this server was down.
    if message.is_late(now) {
        let said = ours(Reply::new(550, 4, 7, "There was no way to deliver it in time"));
        return inner.settle(message, delivery, Outcome::Expired, said);
    }
    let from = message.from.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut prefix = format!("Return-Path: <{from}>\r\nDelivered-To: {}\r\n", delivery.to).into_bytes();
    // What DKIM2 is to sign when a mail leaves is nothing here.
    prefix.extend_from_slice(&message.prefix[trust::instance_of(&message.prefix).unwrap_or(0)..]);
    let said = Said::ours(Reply::new(250, 6, 0, "Stored"));
    let outcome = Outcome::Delivered { reports: false };
    let settled = Settled {
        message: message.clone(),
        delivery: delivery.clone(),
        outcome,
        said,
        class: String::new(),
        rule: None,
    };
    let (queue, octets) = (inner.queue.clone(), (octets + prefix.len() as u64) as u32);
    let job = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
        let blob = *blobs.first().ok_or(store::Error::Closed)?;
        // Trap 23: a copy that another node has made, too, would be one too many.
        if !queue::is_claimed(tx, &queue, settled.message.id, settled.delivery.number)? {
            return Err(base::Error::new(Reply::new(451, 3, 0, "Another node has taken over")).into());
        }
        let flags = Flags::default();
        for account in &accounts {
            let new = NewEmail { blob, octets, received: now, prefix: &prefix, index: &index, flags, keywords: &[] };
            verbs::deliver(tx, *account, INBOX, &new, now)?;
        }
        let settled = std::slice::from_ref(&settled);
        for id in queue::record(tx, &queue, settled, &Segment::of(&queue, settled, now)?, now)? {
            tx.publish(Arc::new(Event::Owing(id)));
        }
        Ok(())
    };
    match inner.store.write_with(Lane::Interactive, vec![staged], job).await {
        Ok(()) => {
            tracing::info!(queue = %message.id, to = %delivery.to, "a mail from the queue is delivered here");
            inner.hops.settled(message.stream, message.organisation);
            inner.room.notify_one();
            inner.count(message.stream, outcome);
        }
        Err(error) => {
            tracing::warn!(queue = %message.id, to = %delivery.to, %error, "a mail from the queue is not delivered");
            fail(inner, message, delivery, base::Error::from(error).into_reply());
        }
    }
}

/// The index of a mail, its octets, and a copy that lasts: in the queue's packs it may be among what goes when it has left.
fn copy(inner: &Inner, bytes: &Bytes) -> store::Result<(Vec<u8>, Staged, u64)> {
    let (mut indexer, mut stager) = (mime::Indexer::new(mime::Limits::default()), inner.store.stager(Class::Lasting));
    let mut push = |piece: &[u8]| {
        indexer.push(piece);
        stager.push(piece)
    };
    match bytes {
        Bytes::Stored(blob) => {
            let (mut at, mut piece) = (0, Vec::new());
            while at < blob.len() {
                piece.clear();
                blob.read(at, at + PIECE, &mut piece)?;
                at += piece.len() as u64;
                push(&piece)?;
            }
        }
        Bytes::Made(made) => push(&made.bytes)?,
    }
    let (mut index, octets) = (Vec::new(), stager.len());
    indexer.finish().encode(&mut index);
    Ok((index, stager.finish(), octets))
}
