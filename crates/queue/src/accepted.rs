//! What a job accepted, as the [`log`] tells it: messages, and how many recipients each has. Who they are stands in their rows,
//! and when these are gone in the receipts: nothing of it is written twice.

use base::{OrganisationId, Stream, Timestamp};
use store::{Result, Tx, params};

use crate::entry::corrupt;
use crate::log::{self, Source};
use crate::receipt::{self, Head, Reader, Writer};
use crate::{QueueId, schema};

/// Messages in the order in which they were accepted, and of each the deliveries that it has.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Vec<(QueueId, u32)>);

impl Accepted {
    pub(crate) fn add(&mut self, message: QueueId, deliveries: u32) {
        self.0.push((message, deliveries));
    }

    /// Deliveries of all of them.
    pub(crate) fn places(&self) -> usize {
        self.0.iter().map(|(_, deliveries)| *deliveries as usize).sum()
    }

    /// Appends it to the log, unless there is nothing.
    pub(crate) fn log(&self, tx: &mut Tx<'_>, now: Timestamp) {
        if !self.0.is_empty() {
            log::append(tx, Source::Accepted(self.packed()), now);
        }
    }

    /// Each message by its distance to the one before: mostly one octet, and one for the deliveries.
    pub(crate) fn packed(&self) -> Vec<u8> {
        let (mut out, mut before) = (Writer::default(), 0);
        for (message, deliveries) in &self.0 {
            out.int(message.raw().wrapping_sub(before) as u64);
            out.int((*deliveries).into());
            before = message.raw();
        }
        out.0
    }

    /// What stands at a position of the log.
    pub(crate) fn unpacked(position: i64, packed: &[u8]) -> Result<Accepted> {
        let (mut r, mut all, mut before) = (Reader(packed), Accepted::default(), 0i64);
        let bad = || corrupt("position of the log", position);
        while !r.0.is_empty() {
            before = before.wrapping_add(r.int().ok_or_else(bad)? as i64);
            all.add(QueueId::stored(before), r.number().ok_or_else(bad)?);
        }
        Ok(all)
    }

    /// Whose mail it was to be, each with its place: those of a message begin behind the deliveries of all before it, wherever they
    /// are by now. Those of which nothing is kept any more are missing.
    pub(crate) fn heads(&self, tx: &mut Tx<'_>) -> Result<Vec<(u32, Head)>> {
        let (mut all, mut first, mut ended) = (Vec::new(), 0, Vec::new());
        for (message, deliveries) in &self.0 {
            let heads = queued(tx, *message)?;
            if heads.is_empty() {
                let trails = receipt::of_message(tx, *message)?.into_iter().filter_map(|receipt| receipt.trail);
                ended.extend(trails.map(|trail| (trail, first, *deliveries)));
            }
            let known = heads.into_iter().filter(|head| head.number < *deliveries);
            all.extend(known.map(|head| (first + head.number, head)));
            first += deliveries;
        }
        // In this order each segment is unpacked once, whatever messages ended in it.
        ended.sort();
        let trails: Vec<_> = ended.iter().map(|(trail, ..)| Some(*trail)).collect();
        for ((_, first, deliveries), head) in ended.into_iter().zip(receipt::head(tx, &trails)?) {
            let known = head.filter(|head| head.number < deliveries);
            all.extend(known.map(|head| (first + head.number, head)));
        }
        all.sort_by_key(|(place, _)| *place);
        Ok(all)
    }
}

/// From the rows of a message that is in the queue; those that cannot be sent as they cannot be read, too.
fn queued(tx: &mut Tx<'_>, message: QueueId) -> Result<Vec<Head>> {
    tx.list(&schema::ACCEPTED, params![message], |r| {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        Ok(Head {
            message,
            number: r.int(0)? as u32,
            to: text(r.opt_bytes(1)?),
            from: text(r.opt_bytes(2)?),
            message_id: text(r.opt_bytes(3)?),
            created: Timestamp(r.int(4)?),
            stream: Stream::read(r.int(5)?).unwrap_or_default(),
            organisation: OrganisationId(r.int(6)?),
        })
    })
}
