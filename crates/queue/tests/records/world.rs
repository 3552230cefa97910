//! A queue on each engine, whose mail is claimed and recorded by hand.

use base::{Address, BlobId, OrganisationId, Stream, Timestamp};
use queue::receipt::Segment;
use queue::{Due, Fate, Group, MIGRATIONS, NewDelivery, NewMessage, Outcome, Queue, QueueId, Settled, Want};
use smtp::Notify;
use store::{Class, Lane, Store};
use testkit::{Bed, engines};

pub const NOW: Timestamp = Timestamp(1_800_000_000_000);
pub const US: OrganisationId = OrganisationId(1);
pub const DELIVERED: Outcome = Outcome::Delivered { reports: false };

const BODY: &[u8] = b"Subject: x\r\n\r\nx\r\n";

pub fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

pub fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

pub struct World {
    pub store: Store,
    pub queue: Queue,
    // Last: it takes its directory away.
    _bed: Bed,
}

pub fn worlds() -> impl Iterator<Item = World> {
    engines().map(World::on)
}

/// What there is to say of a mail beside its recipients.
pub struct Mail {
    pub by: OrganisationId,
    pub stream: Stream,
    pub message_id: Option<String>,
    pub notify: Option<Notify>,
    pub expires: Option<Timestamp>,
}

impl World {
    pub fn on(bed: Bed) -> World {
        let store = bed.open(&[MIGRATIONS]);
        let queue = block_on(Queue::open(&store, 1, NOW)).unwrap();
        World { store, queue, _bed: bed }
    }

    pub fn send(&self, mail: Mail, to: &[impl AsRef<str>]) -> QueueId {
        let (id, from) = (self.queue.next_id(), at("joe@ours.test"));
        let to: Vec<_> = to.iter().map(|to| at(to.as_ref())).collect();
        let mut stager = self.store.stager(Class::Transit);
        stager.push(BODY).unwrap();
        let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
            let new = NewMessage {
                from: Some(&from),
                organisation: mail.by,
                stream: mail.stream,
                message_id: mail.message_id.as_deref(),
                expires: mail.expires,
                ..NewMessage::new(id, blobs[0], BODY.len() as u64, NOW)
            };
            let one =
                |to: &Address| NewDelivery { to: to.clone(), notify: mail.notify, original: None, fate: Fate::Open };
            queue::enqueue(tx, &new, &to.iter().map(one).collect::<Vec<_>>())
        };
        block_on(self.store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap();
        id
    }

    /// Mail of marketing of ours, of which no sender is told.
    pub fn news(&self, message_id: &str, to: &[impl AsRef<str>]) -> QueueId {
        let (message_id, notify) = (Some(message_id.to_owned()), Some(Notify::Never));
        self.send(Mail { by: US, stream: Stream::Marketing, message_id, notify, expires: None }, to)
    }

    pub fn claim(&self, by: OrganisationId, stream: Stream, domain: &str, now: Timestamp) -> Due {
        let queue = self.queue.clone();
        let want = Want { group: Group::of(stream, by, domain, 0), most: 1000 };
        self.store.write_blocking(move |tx| queue::claim_due(tx, &queue, &[want], now)).unwrap()
    }

    /// Gives the octets of the records.
    pub fn record(&self, settled: Vec<Settled>, now: Timestamp) -> usize {
        let queue = self.queue.clone();
        let segment = Segment::of(&queue, &settled, now).unwrap();
        let octets = segment.octets();
        self.store.write_blocking(move |tx| queue::record(tx, &queue, &settled, &segment, now)).unwrap();
        octets
    }
}
