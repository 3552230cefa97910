//! The handle: what the floors above hold, and the threads behind it.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use base::BlobId;

use crate::blob::{BlobReader, Class, Staged, Stager};
use crate::compact::Generations;
use crate::events::{Subscriber, Subscribers};
use crate::job::{Job, Lane, Pending, Queue, Tally, Work, WriteJob};
use crate::migrate::Migrations;
use crate::pack::{self, PackReport, Packs, Waiting};
use crate::postgresql::{self, Postgres, Role};
use crate::sqlite::{self, Sqlite};
use crate::{Error, Result, Tx, space};

/// Where the store is, and how much it may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory: a lock file, the database of the embedded engine, and the packs if they are not elsewhere.
    pub dir: PathBuf,
    /// Where the packs are, when several processes share them and their PostgreSQL; none is the data directory.
    pub shared: Option<PathBuf>,
    /// Whether this process looks after the packs: [`Store::compact`] and [`Store::sweep_transit`] do nothing in others. Of
    /// those that share them one may at a time.
    pub keeps: bool,
    /// Where the tables are.
    pub engine: Engine,
    /// Threads for reads, a connection each.
    pub readers: usize,
    /// A lasting pack is full at this many octets; below 16 GiB.
    pub pack_octets: u64,
    /// With fewer octets free than this no new mail is taken ([`Error::Full`]); everything else goes on. 0: never.
    pub reserve: u64,
    /// Asks how many octets are free where a path is: [`crate::free_space`].
    pub free_space: fn(&Path) -> std::io::Result<u64>,
}

/// Where the tables are.
#[derive(Clone, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, in the data directory.
    Sqlite,
    /// A PostgreSQL database of our own, in UTF8, reached without TLS: by a Unix socket, loopback or a trusted network.
    Postgres {
        /// `postgres://user@host/database`, or `host=… user=… dbname=…`.
        url: String,
        /// Threads for jobs, a connection each.
        connections: usize,
    },
}

impl fmt::Debug for Engine {
    /// The URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Sqlite => f.write_str("Sqlite"),
            Engine::Postgres { connections, .. } => {
                f.debug_struct("Postgres").field("connections", connections).finish_non_exhaustive()
            }
        }
    }
}

impl Options {
    /// The embedded engine in `dir`.
    pub fn sqlite(dir: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Options {
            dir: dir.into(),
            shared: None,
            keeps: true,
            engine: Engine::Sqlite,
            readers: cores.clamp(2, 16),
            pack_octets: 1 << 30,
            reserve: 256 << 20,
            free_space: crate::space::free_space,
        }
    }

    /// The packs in `dir`, the tables in the database at `url`, by four connections for jobs.
    pub fn postgres(dir: impl Into<PathBuf>, url: impl Into<String>) -> Self {
        Options { engine: Engine::Postgres { url: url.into(), connections: 4 }, ..Options::sqlite(dir) }
    }

    /// The directory in which the packs are.
    fn home(&self) -> &Path {
        self.shared.as_deref().unwrap_or(&self.dir)
    }
}

/// A read that waits; it is told when it cannot be run.
pub(crate) type Read = Box<dyn FnOnce(Result<&mut Tx<'_>>) + Send>;

/// What the threads of either engine work on.
struct Shared {
    queue: Arc<Queue>,
    subscribers: Arc<Subscribers>,
    stop: Arc<Stop>,
    reads: Mutex<mpsc::Receiver<Read>>,
}

impl Shared {
    fn next_read(&self) -> Option<Read> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }
}

/// A stop sign that a sleeping thread sees at once.
pub(crate) struct Stop(Mutex<bool>, Condvar);

impl Stop {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Stop(Mutex::new(false), Condvar::new()))
    }

    pub(crate) fn set(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_all();
    }

    /// Sleeps; true when it is time to stop.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match self.1.wait_timeout_while(guard, time, |stop| !*stop) {
            Ok((stop, _)) => *stop,
            Err(_) => true,
        }
    }
}

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
    generations: Generations,
    tally: Arc<Tally>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    /// Held as long as the store is open: two servers on one directory would overwrite each other.
    locks: Vec<File>,
}

impl Store {
    /// Opens the store, making it where it is missing, runs migrations and starts its threads. Permissions, room and
    /// the disk's willingness to sync are probed here, not at the first mail.
    ///
    /// # Errors
    /// [`Error::Io`] names what could not be opened; [`Error::Busy`]: another process has it, or keeps the packs.
    pub fn open(options: &Options, migrations: &[Migrations]) -> Result<Self> {
        let dir = &options.dir;
        make_private_dir(dir)?;
        let mut locks = vec![lock(dir, "lock")?];
        if let Some(shared) = &options.shared {
            make_private_dir(shared)?;
            if options.keeps {
                locks.push(lock(shared, "keeper")?);
            }
        }
        let queue = Arc::new(Queue::new(options.engine == Engine::Sqlite));
        let (subscribers, stop) = (Arc::new(Subscribers::default()), Stop::new());
        let packs = Arc::new(Packs::open(&options.home().join("packs"), options, queue.clone())?);
        let stopping = stop.clone();
        let (reads, waiting) = mpsc::sync_channel::<Read>(4096);
        let shared = Shared {
            queue: queue.clone(),
            subscribers: subscribers.clone(),
            stop: stop.clone(),
            reads: Mutex::new(waiting),
        };
        let mut threads = match &options.engine {
            Engine::Sqlite => start_sqlite(options, migrations, &packs, Arc::new(shared))?,
            Engine::Postgres { url, connections } => {
                start_postgres(options, (url, *connections), migrations, &packs, Arc::new(shared))?
            }
        };
        threads.push({
            let packs = packs.clone();
            spawn("store-space", move || {
                while !stopping.wait(space::LOOK) {
                    packs.space().look();
                }
            })?
        });
        // The names of the database, its log and the packs are durable from here on.
        sync(dir)?;
        sync(options.home())?;
        let (append, waiting) = pack::channel();
        threads.push({
            let (packs, queue) = (packs.clone(), queue.clone());
            spawn("store-packs", move || {
                pack::append_loop(&packs, &waiting, &queue);
                queue.close();
            })?
        });
        let (dir, append, reads) = (dir.clone(), Some(append), Some(reads));
        let (generations, tally) = (Generations::default(), Arc::default());
        let inner = Inner { dir, packs, queue, subscribers, append, reads, generations, tally, stop, threads, locks };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Runs `job` in a transaction and gives its result once that is on disk.
    ///
    /// # Errors
    /// What the job said, or [`Error::Io`] when it is not known to be on disk: the group it was in could not be committed,
    /// or the connection was lost while PostgreSQL committed; then it may be done all the same.
    pub async fn write<T: Send + 'static>(&self, job: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let (job, wait) = WriteJob::boxed(self.pending(), move |tx: &mut Tx<'_>, _: &[BlobId]| job(tx));
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
        let (job, wait) = WriteJob::boxed(self.pending(), move |tx: &mut Tx<'_>, _: &[BlobId]| job(tx));
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
        let (job, wait) = WriteJob::boxed(self.pending(), job);
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
        // Before its snapshot, to its end.
        let (generation, pending) = (self.inner.generations.enter(), self.pending());
        let read: Read = Box::new(move |tx| {
            drop(done.send(tx.and_then(work)));
            drop((generation, pending));
        });
        match &self.inner.reads {
            None => Err(Error::Closed),
            Some(reads) => reads.try_send(read).map(|()| wait).map_err(|e| match e {
                mpsc::TrySendError::Full(_) => Error::Busy,
                mpsc::TrySendError::Disconnected(_) => Error::Closed,
            }),
        }
    }

    /// Whether there is room for new mail: what can be refused before its bytes come is asked here first.
    ///
    /// # Errors
    /// [`Error::Full`]: the disk has less than the [reserve](Options::reserve).
    pub fn check_space(&self) -> Result<()> {
        self.inner.packs.space().check()
    }

    /// Begins a blob.
    pub fn stager(&self, class: Class) -> Stager {
        Stager::new(self.inner.packs.clone(), class)
    }

    /// Opens a blob for reading. In the [read](Store::read) that read its id it is there. Later that id may lead nowhere,
    /// never elsewhere: the blob was deleted or [moved](Store::compact), and the row is to be read again.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is none of that id.
    pub fn blob(&self, id: BlobId) -> Result<BlobReader> {
        BlobReader::open(&self.inner.packs, id)
    }

    /// Deletes the packs of [`Class::Transit`] that nothing refers to, and gives how many; of those that others have made
    /// too, if this process [keeps](Options::keeps) them. `refers` is asked, in one
    /// snapshot, whether any row refers to a blob from its first id up to, but not including, its second. Packs that are
    /// being written or read, or whose blobs still wait for their job, are left alone.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn sweep_transit(
        &self,
        refers: impl Fn(&mut Tx<'_>, BlobId, BlobId) -> Result<bool> + Send + 'static,
    ) -> Result<usize> {
        // In this order: what was idle before the snapshot has all its references in it.
        let packs = self.inner.packs.clone();
        let idle = self.read(move |_| packs.learn().map(|()| packs.idle(Class::Transit))).await?;
        if idle.is_empty() {
            return Ok(0);
        }
        let unused = self.read(move |tx| {
            let mut unused = Vec::new();
            for number in idle {
                let ids = Packs::ids(number);
                if !refers(tx, ids.start, ids.end)? {
                    unused.push(number);
                }
            }
            Ok(unused)
        });
        let unused = unused.await?;
        Ok(unused.into_iter().filter(|number| self.inner.packs.discard_idle(*number)).count())
    }

    pub(crate) fn packs(&self) -> &Packs {
        &self.inner.packs
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    pub(crate) fn generations(&self) -> &Generations {
        &self.inner.generations
    }

    /// How much it was asked for, and how much of that is answered.
    pub fn work(&self) -> Work {
        self.inner.tally.work()
    }

    pub(crate) fn pending(&self) -> Pending {
        self.inner.tally.ask()
    }

    /// Adds a subscriber to all events from here on.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.inner.subscribers.add(subscriber);
    }

    /// Reads every record of every pack, in ascending order of ids, and compares checksums; `each` gets id, length and the
    /// verdict. A record that is not whole is damage only if something refers to it: a crash leaves such records.
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
        self.packs.let_go();
        // A child that is just being started has the files open too, for a moment.
        self.locks.iter().for_each(|lock| _ = lock.unlock());
    }
}

/// One writer, a checkpointer, and the readers.
fn start_sqlite(
    options: &Options,
    migrations: &[Migrations],
    packs: &Packs,
    shared: Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>> {
    let engine = Arc::new(Sqlite::new(&options.dir));
    let writer = engine.open_writer(migrations, |tx| packs.reserve(tx))?;
    let readers = (0..options.readers.max(1)).map(|_| engine.open_reader()).collect::<Result<Vec<_>>>()?;
    let mut threads = Vec::new();
    threads.push({
        let (engine, shared) = (engine.clone(), shared.clone());
        spawn("store-writer", move || engine.write_loop(&writer, &shared.queue, &shared.subscribers))?
    });
    threads.push({
        let shared = shared.clone();
        spawn("store-checkpoint", move || engine.checkpoint_loop(&shared.stop))?
    });
    for connection in readers {
        let shared = shared.clone();
        threads.push(spawn("store-reader", move || {
            while let Some(work) = shared.next_read() {
                sqlite::read(&connection, work);
            }
        })?);
    }
    Ok(threads)
}

/// Writers and readers, a connection each.
fn start_postgres(
    options: &Options,
    (url, connections): (&str, usize),
    migrations: &[Migrations],
    packs: &Packs,
    shared: Arc<Shared>,
) -> Result<Vec<JoinHandle<()>>> {
    let engine = Arc::new(Postgres::new(url, shared.stop.clone())?);
    // The client blocks on a runtime of its own, which a thread of another runtime must not do.
    let connect = || -> Result<_> {
        engine.migrate(migrations, |tx| {
            postgresql::pair(tx, options.home())?;
            packs.reserve(tx)
        })?;
        let links = |role, n: usize| (0..n.max(1)).map(|_| engine.link(role)).collect::<Result<Vec<_>>>();
        Ok((links(Role::Jobs, connections)?, links(Role::Reads, options.readers)?))
    };
    let (writers, readers) = std::thread::scope(|s| s.spawn(connect).join()).unwrap_or(Err(Error::Closed))?;
    let mut threads = Vec::new();
    for mut link in writers {
        let shared = shared.clone();
        threads.push(spawn("store-writer", move || link.write_loop(&shared.queue, &shared.subscribers))?);
    }
    for mut link in readers {
        let shared = shared.clone();
        threads.push(spawn("store-reader", move || {
            loop {
                link.ready();
                let Some(work) = shared.next_read() else { return };
                link.read(work);
            }
        })?);
    }
    Ok(threads)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(|e| Error::io("starting a thread", e))
}

/// Makes a directory for our user only, and what it stands in; a power cut does not take the name of any of them away
/// again. One that is there already is left as it is.
///
/// # Errors
/// [`Error::Io`] names the directory that cannot be made or synced.
pub fn make_private_dir(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::io(format_args!("making {}", dir.display()), e))?;
    for made in missing {
        match made.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync(parent)?,
            _ => sync(Path::new("."))?,
        }
    }
    Ok(())
}

/// Makes the names in a directory durable.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io(format_args!("syncing {}", dir.display()), e))
}

/// Takes the directory for this process, and shows that it can be written to and synced.
fn lock(dir: &Path, name: &str) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(name);
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
