//! A queue on each engine, and what tests ask of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::{Address, BlobId, OrganisationId, Reply, Stream, Timestamp};
use queue::receipt::Segment;
use queue::{
    Claimed, Fate, MIGRATIONS, NewDelivery, NewMessage, Outcome, Queue, QueueId, Said, Settled, State, Want, claim_due,
    record, show,
};
use smtp::{BodyType, Notify, Ret};
use store::{Class, Done, Lane, Store};
use testkit::{Bed, engines};

pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
pub const HOUR: i64 = 3_600_000;
pub const DAY: i64 = 24 * HOUR;
pub const BODY: &[u8] = b"Subject: hi\r\n\r\nhello\r\n";
pub const PREFIX: &[u8] = b"Received: here\r\n";

pub fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

pub fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub struct World {
    pub store: Store,
    pub queue: Queue,
    pub name: &'static str,
    /// What kind of sending it is.
    pub stream: Stream,
    // Last: it takes its directory away.
    pub bed: Bed,
}

/// A world on each engine. A test ends with the tables in order.
pub fn worlds() -> impl Iterator<Item = World> {
    engines().map(World::on)
}

/// What a job took of the writer: its time, without the sync, and what it did.
pub type Took = (Duration, Done);

/// Notes what `work` takes, with what it leaves for the end of its job.
pub fn timed<T>(
    tx: &mut store::Tx<'_>,
    took: &Arc<Mutex<Took>>,
    work: impl FnOnce(&mut store::Tx<'_>) -> store::Result<T>,
) -> store::Result<T> {
    let (took, began) = (took.clone(), Instant::now());
    let done = work(tx)?;
    tx.at_end(move |tx| {
        *took.lock().unwrap() = (began.elapsed(), tx.done());
        Ok(())
    });
    Ok(done)
}

impl World {
    pub fn on(bed: Bed) -> Self {
        let store = bed.open(&[MIGRATIONS]);
        let queue = block_on(Queue::open(&store, 1, NOW)).unwrap();
        World { store, queue, name: bed.name(), stream: Stream::Mail, bed }
    }

    pub fn enqueue(&self, from: &str, to: &[&str]) -> QueueId {
        self.enqueue_each(from, to.iter().map(|to| delivery(to, None, Fate::Open)).collect())
    }

    pub fn enqueue_each(&self, from: &str, deliveries: Vec<NewDelivery>) -> QueueId {
        self.enqueue_in(from, deliveries, Arc::default())
    }

    /// Notes what that took.
    pub fn enqueue_in(&self, from: &str, deliveries: Vec<NewDelivery>, took: Arc<Mutex<Took>>) -> QueueId {
        let (id, from, stream) = (self.queue.next_id(), Address::parse(from).ok(), self.stream);
        let mut stager = self.store.stager(Class::Transit);
        stager.push(BODY).unwrap();
        let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
            let octets = (PREFIX.len() + BODY.len()) as u64;
            let new = NewMessage {
                id,
                from: from.as_ref(),
                prefix: PREFIX,
                content: queue::Content::Stored(blobs[0]),
                octets,
                envelope_id: Some("id+1"),
                ret: Some(Ret::Headers),
                body: BodyType::EightBitMime,
                smtputf8: true,
                require_tls: false,
                tls_optional: false,
                account: None,
                organisation: OrganisationId(1),
                stream,
                created: NOW,
                priority: 0,
                release: None,
                deliver_by: None,
                expires: None,
                message_id: Some("7@joe.test"),
            };
            timed(tx, &took, |tx| queue::enqueue(tx, &new, &deliveries))
        };
        block_on(self.store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap();
        id
    }

    pub fn claim(&self, n: u32, now: Timestamp) -> Vec<Claimed> {
        let queue = self.queue.clone();
        self.store.write_blocking(move |tx| claim_any(tx, &queue, n, now)).unwrap().claimed
    }

    pub fn record(&self, settled: Vec<Settled>, now: Timestamp) -> Vec<QueueId> {
        let queue = self.queue.clone();
        let segment = Segment::of(&queue, &settled, now).unwrap();
        self.store.write_blocking(move |tx| record(tx, &queue, &settled, &segment, now)).unwrap()
    }

    /// All of it.
    pub fn cancel(&self, id: QueueId) {
        let mut from = Some(0);
        while let Some(next) = from {
            from = self.store.write_blocking(move |tx| queue::cancel(tx, id, next, NOW)).unwrap().next;
        }
    }

    pub fn show(&self, id: QueueId) -> Vec<(String, State, u32)> {
        let shown = self.store.read_blocking(move |tx| show(tx, id)).unwrap();
        let deliveries = shown.map_or(Vec::new(), |(_, d)| d);
        deliveries.iter().map(|d| (d.delivery.to.to_string(), d.state, d.delivery.attempts)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.store.read_blocking(|tx| queue::page(tx, QueueId::FIRST, 1)).unwrap().is_empty()
    }

    /// Stops without a word, and starts again.
    pub fn killed(self) -> World {
        let World { store, bed, .. } = self;
        drop(store);
        World::on(bed)
    }

    pub fn check(&self) {
        let blobs = self.store.clone();
        let wrong = self.store.read_blocking(move |tx| queue::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).unwrap();
        assert_eq!(wrong, Vec::<String>::new(), "{}", self.name);
    }
}

/// At most `n`, of whatever group.
pub fn claim_any(tx: &mut store::Tx<'_>, queue: &Queue, n: u32, now: Timestamp) -> store::Result<queue::Due> {
    let mut all = queue::Due::default();
    for (group, _) in queue::scheduled(tx, None)? {
        let taken = all.claimed.iter().map(|c| c.deliveries.len()).sum::<usize>() as u32;
        let due = claim_due(tx, queue, &[Want { group, most: n - taken }], now)?;
        all.held.extend(due.held);
        for claimed in due.claimed {
            match all.claimed.iter_mut().find(|c| c.message.id == claimed.message.id) {
                Some(known) => known.deliveries.extend(claimed.deliveries),
                None => all.claimed.push(claimed),
            }
        }
    }
    all.claimed.sort_by_key(|c| c.message.id);
    all.claimed.iter_mut().for_each(|c| c.deliveries.sort_by_key(|d| d.number));
    Ok(all)
}

/// When the first of all is due.
pub fn first_due(tx: &mut store::Tx<'_>) -> store::Result<Option<Timestamp>> {
    Ok(queue::scheduled(tx, None)?.into_iter().map(|(_, due)| due).min())
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

pub fn delivery(to: &str, notify: Option<Notify>, fate: Fate) -> NewDelivery {
    NewDelivery { to: at(to), notify, original: None, fate }
}

pub fn on(success: bool, failure: bool, delay: bool) -> Option<Notify> {
    Some(Notify::On { success, failure, delay })
}

/// The same outcome for all of it.
pub fn settled(claimed: &[Claimed], outcome: Outcome, reply: Reply) -> Vec<Settled> {
    let said = Said::by("mx.example.test", bounce::Stage::Rcpt, reply);
    let one = |c: &Claimed, d: &queue::Delivery| Settled {
        message: c.message.clone(),
        delivery: d.clone(),
        outcome,
        said: said.clone(),
        class: String::new(),
        rule: None,
    };
    claimed.iter().flat_map(|c| c.deliveries.iter().map(move |d| one(c, d))).collect()
}

pub fn yes() -> Reply {
    Reply::new(250, 0, 0, "Queued")
}

pub fn no() -> Reply {
    Reply::new(550, 1, 1, "No such user")
}

pub fn later_please() -> Reply {
    Reply::plain(451, "busy")
}

pub const DELIVERED: Outcome = Outcome::Delivered { reports: false };
