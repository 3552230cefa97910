//! What is heard of a mail after its delivery.

use base::Timestamp;
use store::{Result, Row, Tx, params};

use super::{End, Receipt};
use crate::entry::{corrupt, opt_text};
use crate::{QueueId, log, schema};

/// Events of one receipt; what comes then is not attached.
pub const MAX_EVENTS: i64 = 100;
/// Octets of what is said about one.
const MAX_DETAIL: usize = 1000;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A report: it failed after all (RFC 3464).
    Bounced,
    /// A report: it takes long there.
    Delayed,
    /// A report: it reached the mailbox.
    Confirmed,
    /// The reader called it spam (RFC 5965).
    Complained,
    /// A machine answered (RFC 3834).
    Answered,
    /// Somebody answered.
    Replied,
}

const KINDS: [Kind; 6] =
    [Kind::Bounced, Kind::Delayed, Kind::Confirmed, Kind::Complained, Kind::Answered, Kind::Replied];

impl Kind {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Bounced => "bounced",
            Kind::Delayed => "delayed",
            Kind::Confirmed => "confirmed",
            Kind::Complained => "complained",
            Kind::Answered => "auto-replied",
            Kind::Replied => "replied",
        }
    }
}

/// Something that was heard of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When we heard of it.
    pub at: Timestamp,
    /// What it was.
    pub kind: Kind,
    /// The class of what was said (`bounce::Class`); empty when it has none.
    pub class: String,
    /// What was said: untrusted, at most 1000 octets.
    pub detail: String,
}

/// What an event is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The receipt, as it is then.
    Ended(Receipt),
    /// A delivery that is still open: of its attempts one may have arrived, and nobody has written it down, or nobody knows. It
    /// goes on, and its receipt will have the event.
    Open,
}

/// Attaches an event to a delivery; one that was thought delivered and was not has bounced. None when nothing is known of such a
/// delivery, or it has 100 events already.
///
/// # Errors
/// The store's.
pub fn attach(tx: &mut Tx<'_>, message: QueueId, number: u32, event: &Event) -> Result<Option<Attached>> {
    let (mut receipt, mut so_far) = (super::receipt(tx, message, number)?, None);
    if receipt.is_none() {
        // Its end waits for this, and then sees the event; or this has waited for its end.
        let counts = |r: &Row<'_>| Ok((r.int(0)? as u32, r.int(1)? as u32));
        so_far = tx.row(&schema::OPEN, params![message, number], counts)?;
        if so_far.is_none() {
            receipt = super::receipt(tx, message, number)?;
        }
    }
    if receipt.is_none() && so_far.is_none() {
        return Ok(None);
    }
    let n = tx.one(&schema::COUNT_EVENTS, params![message, number], |r| r.int(0))?;
    if n >= MAX_EVENTS {
        return Ok(None);
    }
    let detail = &event.detail[..event.detail.floor_char_boundary(MAX_DETAIL)];
    let (kind, class) = (event.kind as i64, event.class.as_str());
    tx.execute(&schema::INSERT_EVENT, params![message, number, n, event.at, kind, class, detail.as_bytes()])?;
    log::append(tx, log::Source::Heard(message, number, n, so_far), event.at);
    let Some(mut receipt) = receipt else { return Ok(Some(Attached::Open)) };
    if event.kind == Kind::Bounced && receipt.end == End::Delivered {
        receipt.end = End::Bounced;
        receipt.class.clone_from(&event.class);
        tx.execute(&schema::REVISE_RECEIPT, params![message, number, receipt.end as i64, class])?;
    }
    Ok(Some(Attached::Ended(receipt)))
}

/// What is attached to a delivery, the oldest first.
///
/// # Errors
/// The store's.
pub fn events(tx: &mut Tx<'_>, message: QueueId, number: u32) -> Result<Vec<Event>> {
    tx.list(&schema::EVENTS, params![message, number], read)
}

/// One that is attached to a delivery.
pub(crate) fn one(tx: &mut Tx<'_>, message: QueueId, number: u32, n: i64) -> Result<Option<Event>> {
    tx.row(&schema::EVENT, params![message, number, n], read)
}

fn read(r: &Row<'_>) -> Result<Event> {
    let kind = r.int(1)?;
    let known = usize::try_from(kind).ok().and_then(|n| KINDS.get(n)).copied();
    Ok(Event {
        at: Timestamp(r.int(0)?),
        kind: known.ok_or_else(|| corrupt("kind of event", kind))?,
        class: r.text(2)?.to_owned(),
        detail: opt_text(Some(r.bytes(3)?))?.unwrap_or_default(),
    })
}
