//! The handle: what the floors above hold, and the threads behind it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;

use base::BlobId;

use crate::blob::{BlobReader, Class, Staged, Stager};
use crate::job::{Job, Lane, Queue, WriteJob};
use crate::migrate::Migrations;
use crate::pack::{self, PackReport, Packs, Waiting};
use crate::sqlite::{self, Sqlite, Stop};
use crate::{Error, Event, Result, Tx};

/// Where the store is, and how much it may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory: database, packs and a lock file.
    pub dir: PathBuf,
    /// Threads for reads, a connection each.
    pub readers: usize,
}

impl Options {
    /// The embedded engine in `dir`.
    pub fn sqlite(dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Options { dir: dir.into(), readers: cores.clamp(2, 16) }
    }
}

/// Is told of every [`Event`] once it is on disk, in the order of commits, before the job that published it is answered.
/// Runs on the writer's thread: short, and never waiting for anything.
pub type Subscriber = Box<dyn Fn(&Event) + Send + Sync>;

#[derive(Default)]
pub(crate) struct Subscribers(RwLock<Vec<Subscriber>>);

impl Subscribers {
    pub(crate) fn tell(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            all.iter().for_each(|s| s(event));
        }
    }
}

type Read = Box<dyn FnOnce(&mut Tx<'_>) + Send>;

/// The store. Cheap to clone; the last clone dropped closes it: what was queued is finished first.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    packs: Arc<Packs>,
    queue: Arc<Queue>,
    subscribers: Arc<Subscribers>,
    append: Option<pack::Sender>,
    reads: Option<mpsc::SyncSender<Read>>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    /// Held as long as the store is open: two servers on one directory would overwrite each other.
    _lock: File,
}

impl Store {
    /// Opens the store, making it where it is missing, runs migrations and starts its threads. Permissions and the
    /// disk's willingness to sync are probed here, not at the first mail.
    ///
    /// # Errors
    /// [`Error::Io`] names what could not be opened; [`Error::Busy`]: another process has it.
    pub fn open(options: &Options, migrations: &[Migrations]) -> Result<Self> {
        let dir = &options.dir;
        std::fs::create_dir_all(dir).map_err(|e| Error::io(format_args!("making {}", dir.display()), e))?;
        let lock = lock(dir)?;
        let engine = Arc::new(Sqlite::new(dir));
        let writer = engine.open_writer(migrations)?;
        let packs = Arc::new(Packs::open(&dir.join("packs"))?);
        // The names of the database, its log and the packs are durable from here on.
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("syncing the data directory", e))?;

        let (queue, subscribers, stop) = (Arc::new(Queue::new()), Arc::new(Subscribers::default()), Stop::new());
        let mut threads = Vec::new();
        threads.push({
            let (engine, queue, subscribers) = (engine.clone(), queue.clone(), subscribers.clone());
            spawn("store-writer", move || engine.write_loop(&writer, &queue, &subscribers))?
        });
        let (append, waiting) = pack::channel();
        threads.push({
            let (packs, queue) = (packs.clone(), queue.clone());
            spawn("store-packs", move || {
                pack::append_loop(&packs, &waiting, &queue);
                queue.close();
            })?
        });
        threads.push({
            let (engine, stop) = (engine.clone(), stop.clone());
            spawn("store-checkpoint", move || engine.checkpoint_loop(&stop))?
        });
        let (reads, rx) = mpsc::sync_channel::<Read>(4096);
        let rx = Arc::new(Mutex::new(rx));
        for _ in 0..options.readers.max(1) {
            let (connection, rx) = (engine.open_reader()?, rx.clone());
            threads.push(spawn("store-reader", move || {
                loop {
                    let next = rx.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(work) = next else { return };
                    if let Err(e) = sqlite::read(&connection, work) {
                        tracing::error!(error = %e, "read failed");
                    }
                }
            })?);
        }
        let (dir, append, reads) = (dir.clone(), Some(append), Some(reads));
        let inner = Inner { dir, packs, queue, subscribers, append, reads, stop, threads, _lock: lock };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Runs `job` in a transaction and gives its result once that is on disk.
    ///
    /// # Errors
    /// What the job said, or [`Error::Io`] when the group it was in could not be committed: then nothing was changed.
    pub async fn write<T: Send + 'static>(&self, job: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (job, wait) = WriteJob::boxed(move |tx: &mut Tx<'_>, _: &[BlobId]| job(tx));
        self.inner.queue.push(Lane::Interactive, job);
        wait.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Store::write`] for threads outside the runtime.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking<T: Send + 'static>(
        &self,
        job: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (job, wait) = WriteJob::boxed(move |tx: &mut Tx<'_>, _: &[BlobId]| job(tx));
        self.inner.queue.push(Lane::Interactive, job);
        wait.blocking_recv().unwrap_or(Err(Error::Closed))
    }

    /// Makes `staged` durable, then runs `job` with the blobs' ids, in the order staged. Gives a future that need not be
    /// polled for the work to be done; several may be under way.
    ///
    /// # Errors
    /// As [`Store::write`]; the blobs are then dead space.
    pub fn write_with<T: Send + 'static>(
        &self,
        lane: Lane,
        staged: Vec<Staged>,
        job: impl Fn(&mut Tx<'_>, &[BlobId]) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send + 'static {
        let (job, wait) = WriteJob::boxed(job);
        self.submit(lane, staged, job);
        async move { wait.await.unwrap_or(Err(Error::Closed)) }
    }

    fn submit(&self, lane: Lane, staged: Vec<Staged>, job: Box<dyn Job>) {
        if staged.is_empty() {
            return self.inner.queue.push(lane, job);
        }
        let refused = match &self.inner.append {
            None => return job.finish(Err(Error::Closed)),
            Some(append) => append.try_send(Waiting { staged, lane, job }),
        };
        match refused {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(w)) => w.job.finish(Err(Error::Busy)),
            Err(mpsc::TrySendError::Disconnected(w)) => w.job.finish(Err(Error::Closed)),
        }
    }

    /// Runs `work` on a snapshot, on one of the reader threads.
    ///
    /// # Errors
    /// What the closure said; [`Error::Busy`] when too many reads wait.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.start_read(work)?.await.unwrap_or(Err(Error::Closed))
    }

    /// [`Store::read`] for threads outside the runtime.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.start_read(work)?.blocking_recv().unwrap_or(Err(Error::Closed))
    }

    fn start_read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<T>>> {
        let (done, wait) = tokio::sync::oneshot::channel();
        let read: Read = Box::new(move |tx| drop(done.send(work(tx))));
        match &self.inner.reads {
            None => Err(Error::Closed),
            Some(reads) => reads.try_send(read).map(|()| wait).map_err(|e| match e {
                mpsc::TrySendError::Full(_) => Error::Busy,
                mpsc::TrySendError::Disconnected(_) => Error::Closed,
            }),
        }
    }

    /// Begins a blob.
    pub fn stager(&self, class: Class) -> Stager {
        Stager::new(self.inner.packs.clone(), class)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is none of that id.
    pub fn blob(&self, id: BlobId) -> Result<BlobReader> {
        BlobReader::open(&self.inner.packs, id)
    }

    /// Adds a subscriber to all events from here on.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.inner.subscribers.0.write().unwrap_or_else(PoisonError::into_inner).push(subscriber);
    }

    /// Reads every record of every pack and compares checksums; `each` gets id, length and the verdict.
    ///
    /// # Errors
    /// [`Error::Io`] when a pack cannot be read at all.
    pub fn scan_packs(&self, each: impl FnMut(BlobId, u64, Result<()>)) -> Result<Vec<PackReport>> {
        self.inner.packs.scan(each)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.append = None;
        self.reads = None;
        self.stop.set();
        let me = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last clone may be dropped by a job of ours.
            if thread.thread().id() != me {
                let _ = thread.join();
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(|e| Error::io("starting a thread", e))
}

/// Takes the directory for this process, and shows that it can be written to and synced.
fn lock(dir: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join("lock");
    let doing = || format!("taking {}", path.display());
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| Error::io(doing(), e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => return Err(Error::Busy),
        Err(std::fs::TryLockError::Error(e)) => return Err(Error::io(doing(), e)),
    }
    file.sync_all().map_err(|e| Error::io(doing(), e))?;
    Ok(file)
}
