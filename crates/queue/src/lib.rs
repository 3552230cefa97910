//! The queue: mail that was accepted and is not finished.
//!
//! Floor 3. A [`Message`] is the envelope and where the bytes are; each of its recipients is a [`Delivery`]. The verbs work
//! on a `&mut Tx`, so that `ingress` enqueues in the same commit in which it delivers to our own mailboxes. The bytes are a
//! blob, or are made for each recipient when it is about to leave, by [`Bodies`]. Who sends
//! (`outbox`, and one day the bulk engine in its place) is woken by an [`Event`], takes what is due by [`claim_due`], group by group ([`Group`]: a stream's deliveries to a domain),
//! and writes what came of it by [`record`]; nothing here opens a connection or knows when to try again.
//!
//! A delivery is claimed by an epoch, which is one life of one node, and the claim is on disk before the first attempt. So
//! what a crash leaves claimed was perhaps sent: [`Queue::open`] marks it uncertain and makes it due; [`Queue::recover`]
//! knows more, where the sender kept a journal. An outcome counts
//! only for who holds the claim.
//!
//! A delivery that failed, takes long or was asked to be confirmed owes its sender a report (RFC 3461); the debt stands in
//! its row until [`reported`], in the commit that sends the report. With its last debt and its last open delivery a
//! message's rows go, and the pack with its bytes once nothing else refers to it ([`refers_between`]).
//!
//! What mail leaves by is set up in [`source`].
//!
//! What comes back about a mail is understood by [`understand`] and told to its receipt by [`hear`].
//!
//! What became of each recipient stays in its [`receipt`]; all that happens to them is a [`log`], of which a [`webhook`] is told. Who is not sent to stands in [`suppression`]. What comes back about a mail from elsewhere is read by
//! [`returned`].

mod accepted;
mod admin;
mod blobs;
mod body;
mod claim;
mod enqueue;
mod entry;
mod group;
mod heard;
mod id;
pub mod log;
mod node;
mod open;
pub mod reader;
pub mod receipt;
mod recover;
pub mod returned;
mod schema;
mod search;
mod settle;
pub mod source;
pub mod suppression;
mod verify;
pub mod webhook;

pub use admin::{
    Cancelled, Report, Retried, Standing, cancel, cancel_between, exists, has_mail, owing, page, reported, retry,
    retry_between, show, show_one, show_some,
};
pub use blobs::{REFERENCES, blob, refers_between};
pub use body::{Bodies, Content, MAX_MADE, MAX_REFERENCE, NotMade, Recipe};
pub use claim::{
    Cause, Claimed, Due, Held, Outcome, Release, Said, Settled, Want, claim_due, is_claimed, record, release,
    take_back, waiting,
};
pub use enqueue::{Fate, NewDelivery, NewMessage, enqueue, enqueue_all};
pub use entry::{DeliverBy, Delivery, Message, Owed, State};
pub use group::{Group, Turn, bring_forward, domain_later, next_due, scheduled};
pub use heard::{Came, Heard, hear, may_be_report, understand};
pub use id::{BadQueueId, QueueId};
pub use node::{Life, Mark, Node, hold_sources, lives, news, renew};
pub use open::{Event, Queue};
pub use recover::{Delivered, Remains};
pub use schema::{ALL, MIGRATIONS};
pub use search::{Party, Place, Sought, by_recipient, search};
pub use verify::verify;

use std::time::Duration;

use base::Stream;

/// After this long a delivery of people's mail is given up (RFC 5321 §4.5.4.1: at least four to five days).
pub const LIFETIME: Duration = Duration::from_secs(5 * 24 * 3600);

/// After this long a delivery of a stream is given up: nobody waits five days for a link to sign in by, or for last week's news.
/// The figures are those of the policies (`live_hours`).
pub fn lifetime(stream: Stream) -> Duration {
    match stream {
        Stream::Mail => LIFETIME,
        Stream::Transactional => Duration::from_secs(48 * 3600),
        Stream::Marketing => Duration::from_secs(72 * 3600),
    }
}

/// After this long the sender is told, once, that it takes long.
pub const WARNING: Duration = Duration::from_secs(4 * 3600);
