//! A server that sends a load to a simulated internet, and what came of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{Address, BlobId, Clock, Stream, Timestamp};
use directory::{Directory, system_random};
use net::{CertFiles, Dialer, Resolver, Roots, self_signed};
use outbox::{Outbox, Parts, Routes};
use queue::{Fate, NewDelivery, NewMessage, Queue};
use simnet::{Internet, Ledger, Mail, Refusal, Time};
use smtp::Notify;
use store::{Class, Lane, Options, Store, Tx};
use tokio::sync::oneshot;

const BODY: &[u8] = b"Subject: news\r\n\r\nNothing new.\r\n";
pub const START: Timestamp = Timestamp::from_secs(1_700_000_000);
/// Mails that one job enqueues.
const BATCH: usize = 500;

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub enum Sender {
    /// Ours, as it is shipped.
    Adaptive,
    /// One that hears nothing: connections, and mails a second.
    Flat(usize, u32),
}

/// What came of a load.
pub struct Outcome {
    /// By site.
    pub ledgers: Vec<Ledger>,
    /// In real time.
    pub real: Duration,
}

impl Outcome {
    pub fn sum(&self, of: impl Fn(&Ledger) -> u64) -> u64 {
        self.ledgers.iter().map(of).sum()
    }

    pub fn taken(&self) -> u64 {
        self.sum(|l| l.taken.len() as u64)
    }

    pub fn refused(&self, why: Refusal) -> u64 {
        self.sum(|l| l.refused.get(&why).copied().unwrap_or(0))
    }

    /// Mails that were refused at least once for how they were sent.
    pub fn blocked(&self) -> u64 {
        self.sum(|l| l.blocked.len() as u64)
    }

    /// When the last mail was taken.
    pub fn last(&self) -> Duration {
        self.ledgers.iter().map(|l| l.last).max().unwrap_or_default()
    }
}

/// Sends all there is to be sent, at most for `time`. The sites keep what they see: an internet is good for one go.
pub fn send(internet: &Arc<Internet>, sender: Sender, time: Duration) -> Outcome {
    let began = Instant::now();
    // In memory where the system has such a place: the disk is not what is measured.
    let place = Path::new("/dev/shm");
    let dir = if place.is_dir() { testkit::Dir::within(place, "simulation") } else { testkit::Dir::new("simulation") };
    let files = CertFiles { chain: dir.path().join("chain.pem"), key: dir.path().join("key.pem") };
    self_signed(&files, &["other.test".to_owned()], START).unwrap();
    let migrations = [directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS];
    // One reader, which takes one read after another: else nobody could tell when all of them are done.
    let options = Options { readers: 1, ..Options::sqlite(dir.path().join("store")) };
    let store = Store::open(&options, &migrations).unwrap();
    let (clock, fence, net) = (Time::from(START), store.clone(), internet.clone());
    let quiet = move || {
        let fence = fence.clone();
        async move {
            let _ = fence.write(|_| Ok(())).await;
            let _ = fence.read(|_| Ok(())).await;
        }
    };
    let at = clock.clone();
    simnet::run(&clock, quiet, async move {
        let directory = Directory::open(store.clone(), Arc::new(at.clone()), system_random).await.unwrap();
        let queue = Queue::open(&store, 1, START).await.unwrap();
        enqueue(&store, &queue, &net.mails).await;
        let resolver = Resolver::memory(net.zone());
        let parts = Parts {
            store: store.clone(),
            queue,
            directory,
            clock: Arc::new(at.clone()),
            validating: resolver.clone(),
            resolver,
            dialer: Dialer::memory(net.open(&files)),
            roots: Roots::new(&[]).unwrap(),
            identity: None,
            random: counted,
            hostname: "mx.example.test".into(),
            routes: Routes::default(),
            bodies: None,
            keep: outbox::Keep::default(),
            journal: None,
            peers: None,
        };
        let outbox = match sender {
            Sender::Adaptive => Outbox::new(parts),
            Sender::Flat(connections, per_second) => Outbox::flat(parts, connections, per_second),
        };
        let outbox = outbox.unwrap();
        let meter = outbox.meter();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(outbox.run(async { drop(stopped.await) }));
        let all = net.mails.len() as u64;
        let unfinished = || {
            let done: u64 = meter.outcomes().iter().filter(|(how, _)| *how != "deferred").map(|(_, n)| n).sum();
            all - done
        };
        // Whose mailbox is full tries until it expires.
        let never = net.never_done();
        while unfinished() > never && at.now().0 - START.0 < time.as_millis() as i64 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        let _ = stop.send(());
        running.await.unwrap();
    });
    let ledgers = internet.sites.iter().map(|site| site.ledger()).collect();
    Outcome { ledgers, real: began.elapsed() }
}

/// All at once, with one body. Nobody wants a report.
async fn enqueue(store: &Store, queue: &Queue, mails: &[Mail]) {
    for batch in mails.chunks(BATCH) {
        let mut stager = store.stager(Class::Transit);
        stager.push(BODY).unwrap();
        let rows: Vec<_> = batch
            .iter()
            .map(|mail| (queue.next_id(), Address::parse(&mail.from).unwrap(), Address::parse(&mail.to).unwrap()))
            .collect();
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
            for (id, from, to) in &rows {
                let new = NewMessage {
                    from: Some(from),
                    stream: Stream::Marketing,
                    ..NewMessage::new(*id, blobs[0], BODY.len() as u64, START)
                };
                let to = NewDelivery { to: to.clone(), notify: Some(Notify::Never), original: None, fate: Fate::Open };
                queue::enqueue(tx, &new, &[to])?;
            }
            Ok(())
        };
        store.write_with(Lane::Interactive, vec![stager.finish()], work).await.unwrap();
    }
}

/// Unlike numbers, the same in every run.
fn counted(bytes: &mut [u8]) -> base::Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    bytes.iter_mut().zip(n.iter().cycle()).for_each(|(b, n)| *b = *n);
    Ok(())
}
