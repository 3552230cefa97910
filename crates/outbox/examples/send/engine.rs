//! The engine, as the server runs it: a store on disk, a queue in it, the outbox with its journal.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base::{Address, BlobId, Clock, Stream, SystemClock, Timestamp};
use directory::{Directory, system_random};
use net::{Dialer, Resolver, Roots, Zone};
use outbox::{Keep, Meter, Outbox, Parts, Routes};
use queue::{Fate, NewDelivery, NewMessage, Queue, Recipe};
use store::{Class, Lane, Options, Sql, Store, Tx, params};
use tokio::sync::oneshot;
use trust::{Keys, NewKeys, add_keys};

use crate::mail::{DOMAIN, Maker, recipient, unsigned};
use crate::{SITES, address};

/// Messages that one job enqueues.
const BATCH: u32 = 200;
/// Between two transactional messages.
const PAUSE: Duration = Duration::from_millis(20);

const USED: Sql = Sql {
    name: "used",
    text: "SELECT (p.page_count - f.freelist_count) * s.page_size \
           FROM pragma_page_count p, pragma_freelist_count f, pragma_page_size s",
};

fn open(dir: &Path) -> Store {
    let tables = [directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS];
    Store::open(&Options::sqlite(dir), &tables).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

fn now() -> Timestamp {
    SystemClock.now()
}

fn open_delivery(to: Address) -> NewDelivery {
    NewDelivery { to, notify: None, original: None, fate: Fate::Open }
}

/// Deliveries of marketing, a message each.
pub fn fill(dir: &Path, n: u32) {
    let (store, began) = (open(dir), Instant::now());
    let keys = NewKeys::generate(now()).unwrap();
    store.write_blocking(move |tx| add_keys(tx, DOMAIN, &keys)).unwrap();
    block_on(async {
        let queue = Queue::open(&store, 1, now()).await.unwrap();
        let from = Address::parse(&format!("news@{DOMAIN}")).unwrap();
        for first in (0..n).step_by(BATCH as usize) {
            let all: Vec<_> = (first..n.min(first + BATCH)).map(|n| (queue.next_id(), n)).collect();
            let from = from.clone();
            let work = move |tx: &mut Tx<'_>| {
                let ids: Vec<_> = all.iter().map(|(_, n)| format!("{}.7@{DOMAIN}", recipient(*n))).collect();
                let mut mails = Vec::with_capacity(all.len());
                for ((id, n), message_id) in all.iter().zip(&ids) {
                    let recipe = Recipe { kind: 1, reference: n.to_be_bytes().into() };
                    let made = NewMessage::made(*id, recipe, now());
                    let (from, stream, message_id) = (Some(&from), Stream::Marketing, Some(message_id.as_str()));
                    mails.push((NewMessage { from, stream, message_id, ..made }, vec![open_delivery(recipient(*n))]));
                }
                queue::enqueue_all(tx, &mails)
            };
            store.write(work).await.unwrap();
        }
    });
    println!("seconds {:.3}", began.elapsed().as_secs_f64());
}

/// An outbox at work.
struct Running {
    store: Store,
    queue: Queue,
    meter: Meter,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn start(dir: &Path, port: u16) -> Running {
    let store = open(dir);
    let clock = Arc::new(SystemClock);
    let directory = Directory::open(store.clone(), clock.clone(), system_random).await.unwrap();
    let queue = Queue::open(&store, 1, now()).await.unwrap();
    let resolver = Resolver::memory(Zone::default());
    let site = |n| (format!("s{n}.test"), address(n, port).to_string().parse().unwrap());
    let parts = Parts {
        store: store.clone(),
        queue: queue.clone(),
        directory,
        clock,
        validating: resolver.clone(),
        resolver,
        dialer: Dialer::tcp(),
        roots: Roots::new(&[]).unwrap(),
        identity: None,
        random: system_random,
        hostname: "mx.bench.test".into(),
        routes: Routes { fixed: (0..SITES).map(site).collect(), smarthost: None },
        bodies: Some(Arc::new(Maker(Keys::new(store.clone())))),
        keep: Keep::default(),
        journal: Some(dir.join("attempts")),
        peers: None,
    };
    let outbox = Outbox::new(parts).unwrap();
    let (meter, (stop, stopped)) = (outbox.meter(), oneshot::channel());
    let task = tokio::spawn(outbox.run(async { drop(stopped.await) }));
    Running { store, queue, meter, stop, task }
}

impl Running {
    /// Attempts of which the end is on disk.
    fn done(&self) -> u64 {
        self.meter.outcomes().iter().map(|(_, n)| n).sum()
    }

    async fn end(self) -> Store {
        let _ = self.stop.send(());
        self.task.await.unwrap();
        self.store
    }
}

/// Until each has had its first attempt, and the receipts are on disk.
pub fn drain(dir: &Path, port: u16, n: u32) {
    block_on(async {
        let (began, cpu) = (Instant::now(), cpu());
        let running = start(dir, port).await;
        println!("ready {:.3}", began.elapsed().as_secs_f64());
        println!("waiting_kb {}", memory("VmRSS:"));
        while running.done() < n.into() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("seconds {:.3}", began.elapsed().as_secs_f64());
        println!("cpu_seconds {:.2}", self::cpu() - cpu);
        println!("most_kb {}", memory("VmHWM:"));
        for (outcome, n) in running.meter.outcomes() {
            println!("{outcome} {n}");
        }
        let store = running.end().await;
        println!("octets {}", store.read(|tx| tx.one(&USED, params![], |r| r.int(0))).await.unwrap());
    });
}

/// Transactional messages while the others run: when each was accepted, to be compared with what the sink says.
pub fn first(dir: &Path, port: u16, samples: u32) {
    block_on(async {
        let running = start(dir, port).await;
        while running.done() < 1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for n in 0..samples {
            tokio::time::sleep(PAUSE).await;
            let to = Address::parse(&format!("first-{n}@s{}.test", n % SITES)).unwrap();
            let (id, body, from) = (running.queue.next_id(), unsigned(&to, 4096), to.clone());
            let mut stager = running.store.stager(Class::Transit);
            stager.push(&body).unwrap();
            let octets = body.len() as u64;
            let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
                let new = NewMessage { stream: Stream::Transactional, ..NewMessage::new(id, blobs[0], octets, now()) };
                queue::enqueue(tx, &NewMessage { from: Some(&from), ..new }, &[open_delivery(to.clone())])
            };
            running.store.write_with(Lane::Interactive, vec![stager.finish()], work).await.unwrap();
            let accepted = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
            println!("accepted {n} {accepted}");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!("meanwhile {}", running.done());
        running.end().await;
    });
}

/// User and system, of all threads.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // proc(5): fields 14 and 15, in hundredths of a second on every Linux of today.
    [11, 12].iter().map(|n| fields[*n].parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// In kilobytes.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}
