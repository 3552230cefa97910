//! Receipts: what became of each recipient, and how.
//!
//! While a delivery is open its row in the queue is its receipt. With its end a narrow row takes over: how it ended, its
//! class, and a [`Pointer`] to the record of its last attempt. Records stand in segments (`segment`), each with a pointer to
//! the one before. What comes back about the mail is attached as an [`Event`].

mod event;
mod keep;
mod look;
pub(crate) mod merge;
mod message_ids;
mod part;
mod segment;
mod talk;
mod wire;

pub(crate) use event::one;
pub use event::{Attached, Event, Kind, attach, events};
pub use keep::{forget_dialogues, forget_receipts, forget_segments};
pub use look::{
    Ended, Filter, Found, Key, Recorded, When, attempts, ended, head, last, look_up, of_message, page, receipt,
    some_of_message,
};
pub use merge::{Merge, to_merge};
pub(crate) use message_ids::{Left, MessageIds};
pub(crate) use part::Halves;
pub(crate) use segment::Packer;
pub use segment::{MAX_RECORDS, Segment};
pub use talk::{Peer, Step, Talk, command};
pub(crate) use wire::{Reader, Writer};

use std::collections::BTreeMap;

use base::{AccountId, OrganisationId, Reply, Stream, Timestamp};
use store::{Result, Row, Tx, params};

use crate::admin::readable;
use crate::entry::corrupt;
use crate::{Delivery, Message, Outcome, QueueId, State, log, schema};

/// Where the record of an attempt is: the segment that it was written in, and its place there, though that segment may stand in a larger
/// one by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    pub(crate) segment: i64,
    pub(crate) place: u32,
}

impl Pointer {
    /// From two columns; 0 is no segment.
    pub(crate) fn read(r: &Row<'_>, at: usize) -> Result<Option<Pointer>> {
        let (segment, place) = (r.int(at)?, r.int(at + 1)? as u32);
        Ok((segment != 0).then_some(Pointer { segment, place }))
    }
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The next hop has taken responsibility.
    Delivered,
    /// Given up: what was said was final, or a report said so later.
    Bounced,
    /// Given up: its time was over.
    Expired,
    /// Taken back.
    Cancelled,
}

/// All of them; the order is part of what is on disk.
const ENDS: [End; 4] = [End::Delivered, End::Bounced, End::Expired, End::Cancelled];

impl End {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            End::Delivered => "delivered",
            End::Bounced => "bounced",
            End::Expired => "expired",
            End::Cancelled => "cancelled",
        }
    }

    /// By its word.
    pub fn from_word(word: &str) -> Option<End> {
        ENDS.into_iter().find(|end| end.word() == word)
    }

    fn read(value: i64) -> Result<End> {
        usize::try_from(value).ok().and_then(|n| ENDS.get(n)).copied().ok_or_else(|| corrupt("end", value))
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// The next hop has taken responsibility.
    Delivered,
    /// Not now.
    Deferred,
    /// Never.
    Failed,
    /// Not now, and its time was over.
    Expired,
    /// There was no attempt: it was taken back.
    Cancelled,
    /// Nobody knows: the server died meanwhile.
    Uncertain,
}

const TRIED: [Tried; 6] =
    [Tried::Delivered, Tried::Deferred, Tried::Failed, Tried::Expired, Tried::Cancelled, Tried::Uncertain];

impl Tried {
    fn of(outcome: Outcome) -> Tried {
        match outcome {
            Outcome::Delivered { .. } => Tried::Delivered,
            Outcome::Deferred(_) => Tried::Deferred,
            Outcome::Failed => Tried::Failed,
            Outcome::Expired => Tried::Expired,
            Outcome::Cancelled => Tried::Cancelled,
        }
    }

    fn read(value: u64) -> Option<Tried> {
        TRIED.get(usize::try_from(value).ok()?).copied()
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Tried::Delivered => "delivered",
            Tried::Deferred => "deferred",
            Tried::Failed => "failed",
            Tried::Expired => "expired",
            Tried::Cancelled => "cancelled",
            Tried::Uncertain => "uncertain",
        }
    }
}

/// A finished delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its message.
    pub message: QueueId,
    /// Its number there.
    pub number: u32,
    /// How it ended.
    pub end: End,
    /// The class of the last refusal (`bounce::Class`); empty when there was none.
    pub class: String,
    /// What kind of sending it was.
    pub stream: Stream,
    /// Who submitted it.
    pub account: Option<AccountId>,
    /// When it ended.
    pub at: Timestamp,
    /// Attempts with an outcome.
    pub attempts: u32,
    /// Attempts whose outcome nobody knows: the server died meanwhile.
    pub uncertain: u32,
    /// The record of the last attempt.
    pub trail: Option<Pointer>,
}

/// Whose mail a record is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message.
    pub message: QueueId,
    /// The delivery's number there.
    pub number: u32,
    /// The recipient.
    pub to: String,
    /// The envelope's sender; empty for `<>`.
    pub from: String,
    /// The Message-ID without brackets; empty when it is not known.
    pub message_id: String,
    /// When the message was accepted.
    pub created: Timestamp,
    /// What kind of sending it was.
    pub stream: Stream,
    /// Whose sending that was.
    pub organisation: OrganisationId,
}

/// An attempt, as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub(crate) before: Option<Pointer>,
    /// When it ended.
    pub at: Timestamp,
    /// What it came to.
    pub tried: Tried,
    /// Attempts with an outcome until then, this one too.
    pub attempts: u32,
    /// Attempts until then whose outcome nobody knows.
    pub uncertain: u32,
    /// The class of the refusal; empty when there was none.
    pub class: String,
    /// The host that gave the answer; empty when it is ours.
    pub host: String,
    /// The answer that counts.
    pub reply: Reply,
    /// The dialogue; none when there was no connection.
    pub talk: Option<Talk>,
}

impl Attempt {
    /// The source that it left by; empty when there was no connection.
    pub fn source(&self) -> &str {
        self.talk.as_ref().map_or("", |talk| &talk.peer.source)
    }

    /// The host that it was to go to; empty when none was reached, and none answered.
    pub fn host(&self) -> &str {
        self.talk.as_ref().map_or(&*self.host, |talk| &talk.peer.host)
    }

    /// The site of the host, by its name in the policies; empty when there was no connection, or it has no name there.
    pub fn site(&self) -> &str {
        self.talk.as_ref().map_or("", |talk| &talk.peer.site)
    }

    /// Whether it went to a site of this name, in any case of letters: the site's in the policies, a mail host, or what mail hosts end in.
    fn went_to(&self, site: &str) -> bool {
        let host = self.host();
        let before = host.len().checked_sub(site.len()).filter(|at| host.is_char_boundary(*at));
        let ends = before.is_some_and(|at| host[at..].eq_ignore_ascii_case(site));
        !site.is_empty()
            && (self.site().eq_ignore_ascii_case(site)
                || ends && before.is_some_and(|at| at == 0 || host[..at].ends_with('.')))
    }
}

/// Writes the row of a delivery that has come to its end: how, of what class, and whether by an attempt.
pub(crate) fn write(
    tx: &mut Tx<'_>,
    message: &Message,
    delivery: &Delivery,
    end: (End, &str, bool),
    trail: Option<Pointer>,
    now: Timestamp,
) -> Result<()> {
    let (end, class, tried) = end;
    // What was cancelled during its last attempt is no refusal of anybody's.
    let class = if end == End::Cancelled { "" } else { class };
    let (segment, place) = trail.map_or((0, 0), |p| (p.segment, p.place));
    tx.send(
        &schema::INSERT_RECEIPT,
        params![
            message.id,
            delivery.number,
            end as i64,
            class,
            message.stream.stored(),
            message.account,
            now,
            delivery.attempts + u32::from(tried),
            delivery.uncertain,
            segment,
            place
        ],
    )
}

/// Deliveries by their messages and numbers.
pub(crate) type ByMessage = BTreeMap<QueueId, Vec<u32>>;

/// Deliveries were cancelled, in the same commit. Of one that cannot be read there is no receipt.
pub(crate) fn cancelled(tx: &mut Tx<'_>, all: &ByMessage, now: Timestamp) -> Result<()> {
    untried(tx, all, Tried::Cancelled, now, |tx, message, delivery, trail| {
        write(tx, message, delivery, (End::Cancelled, "", false), trail, now)
    })
}

/// What came of attempts nobody knows, and nobody will: the deliveries are due again, in the same commit. Of one that cannot be read
/// there is no record.
pub(crate) fn uncertain(tx: &mut Tx<'_>, all: &ByMessage, now: Timestamp) -> Result<()> {
    untried(tx, all, Tried::Uncertain, now, |tx, message, delivery, trail| {
        let (segment, place) = trail.map_or((0, 0), |p| (p.segment, p.place));
        tx.send(&schema::POINT, params![message.id, delivery.number, segment, place])
    })
}

/// Records what became of deliveries without an outcome of an attempt, and does `each` with every one of them.
fn untried(
    tx: &mut Tx<'_>,
    all: &ByMessage,
    tried: Tried,
    now: Timestamp,
    mut each: impl FnMut(&mut Tx<'_>, &Message, &Delivery, Option<Pointer>) -> Result<()>,
) -> Result<()> {
    let mut deliveries = Vec::new();
    for (id, numbers) in all {
        deliveries.extend(readable(tx, *id, numbers)?);
    }
    for some in deliveries.chunks(MAX_RECORDS) {
        let segment = tx.one(&schema::LEAST_SEGMENT, params![], |r| r.int(0))?;
        let segment = Segment::untried(segment, some, tried, now)?;
        segment.insert(tx)?;
        for (place, (message, delivery)) in some.iter().enumerate() {
            each(tx, message, delivery, segment.pointer(place))?;
        }
        log::append(tx, log::Source::Segment(segment.id(), None), now);
    }
    Ok(())
}

/// How an outcome ends a delivery; none when it goes on.
pub(crate) fn end_of(outcome: Outcome, state: State) -> Option<End> {
    match (outcome, state) {
        (_, State::Cancelled) | (Outcome::Cancelled, _) => Some(End::Cancelled),
        (Outcome::Delivered { .. }, _) => Some(End::Delivered),
        (Outcome::Failed, _) => Some(End::Bounced),
        (Outcome::Expired, _) => Some(End::Expired),
        (Outcome::Deferred(_), _) => None,
    }
}
