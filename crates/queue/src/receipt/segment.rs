//! Segments: what one batch of attempts left behind, compressed, never changed but for small ones, which are merged later (`merge`).
//! A segment has two halves that live as long as they are told to: heads (whose mail it was) and dialogues. Two octets a record, in the order of the
//! records, tell whether an address or a Message-ID may be in it: a search reads those of all segments, and then the few
//! segments that have it. An index by random keys would cost a page written for each delivery instead.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base::{Address, OrganisationId, Reply, Stream, Timestamp};
use store::{Result, Tx, params};

use super::part::Parts;
use super::talk::Talk;
use super::wire::{Reader, Writer};
use super::{Attempt, Head, Pointer, Tried};
use crate::entry::corrupt;
use crate::{Delivery, Message, Queue, QueueId, Settled, schema};

/// Records of one segment, at most.
pub const MAX_RECORDS: usize = 1024;
/// Octets that a segment may have when it is read; what one batch can say fits.
const MAX_OCTETS: usize = 64 << 20;
/// Octets of a reply in a record.
const MAX_TEXT: usize = 1024;
/// Records of a small one, at most, and its octets: it may be merged with others. With more of them a record is not much smaller than
/// in the largest.
const SMALL: usize = 16;
const SMALL_OCTETS: usize = 4096;
/// How hard it is compressed: little, as texts repeat from record to record.
const LEVEL: i32 = 1;
/// What most dialogues have, so that a segment of one record is small too. Part of what is on disk: never change it.
const COMMON: &[u8] = b"451 4.7.1 Greylisting in action, please come back later\nThe connection to was lost while it was to answer\
552 5.2.2 The email account that you tried to reach is over quota\n554 5.7.1 Message rejected as spam\
550 5.1.1 The email account that you tried to reach does not exist. User unknown\nTLSv1.3 TLS_AES_256_GCM_SHA384\
TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384 ESMTP Postfix ESMTP ready Hello, pleased to meet you\nPIPELINING\nSIZE 157286400\nVRFY\n\
ETRN\nSTARTTLS\nENHANCEDSTATUSCODES\n8BITMIME\nDSN\nSMTPUTF8\nCHUNKING\nHELP\x02\x00\x00\x09Sender OK\x02\x01\x00Ok\x02\x01\x05\
Recipient OK\x09End data with <CR><LF>.<CR><LF>\x02\x00\x00Ok: queued as 2.0.0 Message accepted for delivery\x02\x06\x00mail.\
.com.org.net:25";

/// What packs segments: made for the first, as its tables take longer to make than a segment to pack.
#[derive(Default)]
pub(crate) struct Packer(Mutex<Option<zstd::bulk::Compressor<'static>>>);

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Packer")
    }
}

impl Packer {
    /// How many, how long each is, then all of them.
    fn pack(&self, records: &[Writer]) -> Result<Vec<u8>> {
        // Claims that are only given back: such a segment is never written.
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut out = Writer::default();
        out.int(records.len() as u64);
        records.iter().for_each(|record| out.int(record.0.len() as u64));
        records.iter().for_each(|record| out.0.extend_from_slice(&record.0));
        let failed = |e: std::io::Error| store::Error::Io(format!("compressing a record: {e}").into());
        let mut compressor = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let compressor = match &mut *compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::with_dictionary(LEVEL, COMMON).map_err(failed)?),
        };
        compressor.compress(&out.0).map_err(failed)
    }
}

/// The outcomes of one batch, packed. Made outside of the store's job.
#[derive(Clone, Debug)]
pub struct Segment {
    id: i64,
    at: Timestamp,
    recipients: Vec<u8>,
    message_ids: Vec<u8>,
    heads: Vec<u8>,
    dialogues: Vec<u8>,
    /// What was merged into it; none when it is as it was written.
    parts: Option<Parts>,
}

impl Segment {
    /// Of at most [`MAX_RECORDS`] outcomes; what comes behind them has no record.
    ///
    /// # Errors
    /// The compressor's, which only a lack of memory is.
    pub fn of(queue: &Queue, settled: &[Settled], now: Timestamp) -> Result<Segment> {
        let mut builder = Builder::default();
        for s in settled.iter().take(MAX_RECORDS) {
            builder.add(&Head::of(&s.message, &s.delivery), |out| attempt(out, s, now));
        }
        builder.finish(queue.packer(), queue.next_id().raw(), now)
    }

    /// Of deliveries without the outcome of an attempt.
    pub(crate) fn untried(
        id: i64,
        deliveries: &[(Arc<Message>, Delivery)],
        tried: Tried,
        now: Timestamp,
    ) -> Result<Segment> {
        let mut builder = Builder::default();
        for (message, d) in deliveries.iter().take(MAX_RECORDS) {
            builder.add(&Head::of(message, d), |out| {
                start(out, d, d.attempts, (tried, ""), "", now);
                out.int(0);
                out.reply(&Reply::plain(0, tried.word()));
                out.int(0);
            });
        }
        builder.finish(&Packer::default(), id, now)
    }

    /// Where the record of this place will be.
    pub(crate) fn pointer(&self, place: usize) -> Option<Pointer> {
        (place < self.recipients.len() / 2).then_some(Pointer { segment: self.id, place: place as u32 })
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// Octets on disk, of both halves.
    pub fn octets(&self) -> usize {
        [&self.recipients, &self.message_ids, &self.heads, &self.dialogues].iter().map(|part| part.len()).sum()
    }

    pub(crate) fn insert(&self, tx: &mut Tx<'_>) -> Result<()> {
        let Segment { id, at, recipients, message_ids, heads, dialogues, parts } = self;
        // What ended without an attempt stays as it is: its numbers fall with time.
        let is_small = *id > 0 && recipients.len() <= 2 * SMALL && self.octets() <= SMALL_OCTETS;
        let (merged, parts) = match parts {
            Some(parts) => (parts.last(), Some(parts.packed())),
            None => (is_small.then_some(0), None),
        };
        let (recipients, message_ids) = (recipients.as_slice(), message_ids.as_slice());
        let values = params![*id, *at, merged, parts.as_deref(), recipients, message_ids, heads.as_slice()];
        tx.send(&schema::INSERT_SEGMENT, values)?;
        tx.send(&schema::INSERT_DIALOGUE, params![*id, *at, dialogues.as_slice()])?;
        Ok(())
    }

    /// It takes the place of these.
    pub(super) fn merged(self, parts: Parts) -> Segment {
        Segment { parts: Some(parts), ..self }
    }
}

#[derive(Default)]
pub(super) struct Builder {
    pub(super) recipients: Vec<u8>,
    pub(super) message_ids: Vec<u8>,
    pub(super) heads: Vec<Writer>,
    pub(super) dialogues: Vec<Writer>,
}

impl Builder {
    fn add(&mut self, head: &Head, dialogue: impl FnOnce(&mut Writer)) {
        self.recipients.extend(trace(&head.to));
        self.message_ids.extend(trace(&head.message_id));
        let mut out = Writer::default();
        head.write(&mut out);
        self.heads.push(out);
        let mut out = Writer::default();
        dialogue(&mut out);
        self.dialogues.push(out);
    }

    pub(super) fn finish(self, packer: &Packer, id: i64, at: Timestamp) -> Result<Segment> {
        let Builder { recipients, message_ids, heads, dialogues } = self;
        let (heads, dialogues) = (packer.pack(&heads)?, packer.pack(&dialogues)?);
        Ok(Segment { id, at, recipients, message_ids, heads, dialogues, parts: None })
    }
}

/// What stands in a segment for a text that there is none of, as the Message-ID of a mail without one: what the hash of nothing
/// begins with. Part of what is on disk.
const NOTHING: [u8; 2] = [0xaf, 0x13];

/// The two octets by which a text is looked for; letters of either case are one. Only the empty one has those of [`NOTHING`]: there may be
/// a million records without a Message-ID, and none of them is to be read for one.
pub(crate) fn trace(text: &str) -> [u8; 2] {
    let hash = blake3::hash(text.to_ascii_lowercase().as_bytes());
    match [hash.as_bytes()[0], hash.as_bytes()[1]] {
        NOTHING if !text.is_empty() => [NOTHING[0], NOTHING[1] ^ 1],
        trace => trace,
    }
}

/// A half of a segment, unpacked.
pub(crate) struct Unpacked {
    bytes: Vec<u8>,
    records: Vec<std::ops::Range<usize>>,
}

impl Unpacked {
    pub(crate) fn of(segment: i64, packed: &[u8]) -> Result<Unpacked> {
        let bad = || corrupt("segment", segment);
        let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten().unwrap_or(0) as usize;
        let room = size.min(MAX_OCTETS);
        let unpacked = zstd::bulk::Decompressor::with_dictionary(COMMON).and_then(|mut d| d.decompress(packed, room));
        let bytes = unpacked.map_err(|_| bad())?;
        let mut r = Reader(&bytes);
        let n: usize = r.number().filter(|n| *n <= MAX_RECORDS).ok_or_else(bad)?;
        let lengths: Vec<usize> = (0..n).map(|_| r.number()).collect::<Option<_>>().ok_or_else(bad)?;
        let mut at = bytes.len() - r.0.len();
        let mut records = Vec::with_capacity(n);
        for length in lengths {
            let end = at.checked_add(length).filter(|end| *end <= bytes.len()).ok_or_else(bad)?;
            records.push(at..end);
            at = end;
        }
        Ok(Unpacked { bytes, records })
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Each record, in order.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|record| &self.bytes[record.clone()])
    }

    fn record(&self, place: u32) -> Option<Reader<'_>> {
        Some(Reader(&self.bytes[self.records.get(place as usize)?.clone()]))
    }

    pub(crate) fn head(&self, place: u32) -> Option<Head> {
        Head::read(&mut self.record(place)?)
    }

    pub(crate) fn attempt(&self, place: u32) -> Option<Attempt> {
        read_attempt(&mut self.record(place)?)
    }
}

impl Head {
    pub(crate) fn of(message: &Message, delivery: &Delivery) -> Head {
        Head {
            message: message.id,
            number: delivery.number,
            to: delivery.to.to_string(),
            from: message.from.as_ref().map(Address::to_string).unwrap_or_default(),
            message_id: message.message_id.clone().unwrap_or_default(),
            created: message.created,
            stream: message.stream,
            organisation: message.organisation,
        }
    }

    fn write(&self, out: &mut Writer) {
        out.int(self.message.raw() as u64);
        out.int(self.number.into());
        out.int(self.created.0 as u64);
        out.int(self.stream.stored() as u64);
        out.int(self.organisation.as_i64() as u64);
        [&self.to, &self.from, &self.message_id].into_iter().for_each(|text| out.text(text));
    }

    fn read(r: &mut Reader<'_>) -> Option<Head> {
        Some(Head {
            message: QueueId::stored(r.int()? as i64),
            number: r.number()?,
            created: Timestamp(r.int()? as i64),
            stream: Stream::read(r.int()? as i64)?,
            organisation: OrganisationId(r.int()? as i64),
            to: r.string()?,
            from: r.string()?,
            message_id: r.string()?,
        })
    }
}

/// What all records of dialogues begin with.
fn start(out: &mut Writer, d: &Delivery, attempts: u32, (tried, class): (Tried, &str), host: &str, now: Timestamp) {
    let (segment, place) = d.trail.map_or((0, 0), |p| (p.segment, p.place));
    out.int(segment as u64);
    out.int(place.into());
    out.int(now.0 as u64);
    out.int(tried as u64);
    out.int(attempts.into());
    out.int(d.uncertain.into());
    out.text(class);
    out.text(host);
}

fn attempt(out: &mut Writer, s: &Settled, now: Timestamp) {
    let said = &s.said;
    start(out, &s.delivery, s.delivery.attempts + 1, (Tried::of(s.outcome), &s.class), &said.host, now);
    // Mostly the last reply of the dialogue is what was said.
    let last = said.talk.as_ref().and_then(|talk| talk.of(said.place).next_back());
    let same = last.is_some_and(|step| step.reply == said.reply);
    out.int(same.into());
    if !same {
        let text = &said.reply.text[..said.reply.text.floor_char_boundary(MAX_TEXT)];
        out.reply(&Reply { text: text.to_owned().into(), ..said.reply.clone() });
    }
    out.int(said.talk.is_some().into());
    if let Some(talk) = &said.talk {
        talk.write(said.place, out);
    }
}

fn read_attempt(r: &mut Reader<'_>) -> Option<Attempt> {
    let (segment, place) = (r.int()? as i64, r.number()?);
    let before = (segment != 0).then_some(Pointer { segment, place });
    let (at, tried) = (Timestamp(r.int()? as i64), Tried::read(r.int()?)?);
    let (attempts, uncertain) = (r.number()?, r.number()?);
    let (class, host) = (r.string()?, r.string()?);
    let reply = if r.int()? == 0 { Some(r.reply()?) } else { None };
    let talk = if r.int()? == 0 { None } else { Some(Talk::read(r)?) };
    let last = || talk.as_ref().and_then(|talk| talk.steps.last()).map(|step| step.reply.clone());
    let reply = reply.or_else(last)?;
    Some(Attempt { before, at, tried, attempts, uncertain, class, host, reply, talk })
}

#[cfg(test)]
mod tests {
    use super::{NOTHING, trace};

    #[test]
    fn no_message_id_is_looked_for_among_the_mails_without_one() {
        assert_eq!(trace(""), NOTHING);
        let is_near = |text: &str| blake3::hash(text.as_bytes()).as_bytes()[..2] == NOTHING;
        let near = (0..).map(|n| format!("{n}@x.test")).find(|text| is_near(text));
        assert_ne!(trace(&near.unwrap_or_default()), NOTHING);
    }
}
