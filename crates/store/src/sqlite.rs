//! The embedded engine: one writer thread that commits waiting jobs together, a few readers, and a checkpointer.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::engine::{Read, Stop};
use crate::events::Subscribers;
use crate::job::{Job, Queue};
use crate::migrate::{Dialect, Migrations};
use crate::{Error, Result, Tx};

/// A group is closed when it holds this many jobs or has run this long, so that nobody waits for a long group's end.
const GROUP_JOBS: usize = 512;
const GROUP_TIME: Duration = Duration::from_millis(20);

/// So many groups after one in which a job was refused have savepoints.
const CAREFUL: u32 = 64;

/// Pages in the write-ahead log: from this many on the writer itself helps the checkpointer to start the log anew.
const LOG_PAGES: i64 = 16_384;

pub(crate) const DIALECT: Dialect =
    Dialect { int: "INTEGER", bytes: "BLOB", text: "TEXT", table: "STRICT", clustered: "STRICT, WITHOUT ROWID" };

/// The paths and switches the threads share.
pub(crate) struct Sqlite {
    path: PathBuf,
    /// Set by the checkpointer when the log grew too long.
    log_is_long: AtomicBool,
}

impl Sqlite {
    pub(crate) fn new(dir: &Path) -> Self {
        Sqlite { path: dir.join("postroom.db"), log_is_long: AtomicBool::new(false) }
    }

    /// Opens (or makes) the database and runs the migrations it has not seen; `then` is part of it.
    pub(crate) fn open_writer(
        &self,
        migrations: &[Migrations],
        then: impl FnOnce(&mut Tx<'_>) -> Result<()>,
    ) -> Result<Connection> {
        // Nobody else's to read; SQLite gives its log the same mode.
        let opened = File::options().append(true).create(true).mode(0o600).open(&self.path);
        opened.map_err(|e| Error::io(format_args!("opening {}", self.path.display()), e))?;
        let c = Connection::open(&self.path)?;
        // FULL: every commit syncs the log; that is what a 250 stands on. The checkpointer works, not the writer.
        c.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
             PRAGMA foreign_keys = OFF; PRAGMA cache_size = -32768; PRAGMA temp_store = MEMORY;",
        )?;
        prepare_once(&c)?;
        c.execute_batch("BEGIN IMMEDIATE")?;
        let mut tx = Tx::sqlite(&c);
        crate::migrate::run(&mut tx, migrations, &DIALECT)?;
        then(&mut tx)?;
        c.execute_batch("COMMIT")?;
        Ok(c)
    }

    pub(crate) fn open_reader(&self) -> Result<Connection> {
        let c = Connection::open_with_flags(
            &self.path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        c.execute_batch("PRAGMA cache_size = -8192; PRAGMA query_only = ON; PRAGMA temp_store = MEMORY;")?;
        c.busy_timeout(Duration::from_secs(5))?;
        prepare_once(&c)?;
        Ok(c)
    }

    /// Runs jobs until the queue is closed and empty.
    pub(crate) fn write_loop(&self, c: &Connection, queue: &Queue, subscribers: &Subscribers) {
        let mut careful = 0;
        while let Some(first) = queue.first() {
            group(c, first, queue, subscribers, &mut careful);
            queue.ended();
            if self.log_is_long.swap(false, Ordering::Relaxed) {
                // What the checkpointer left is little; once all is copied the next commit begins the log anew.
                if let Err(e) = checkpoint(c) {
                    tracing::warn!(error = %e, "checkpoint by the writer failed");
                }
            }
        }
    }

    /// Copies the log into the database beside the writer, so that commits do not pay for it.
    pub(crate) fn checkpoint_loop(&self, stop: &Stop) {
        let c = match Connection::open(&self.path) {
            Ok(c) => c,
            Err(e) => return tracing::error!(error = %e, "no connection for checkpoints"),
        };
        if let Err(e) = c.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;") {
            return tracing::error!(error = %e, "no connection for checkpoints");
        }
        while !stop.wait(Duration::from_millis(500)) {
            match checkpoint(&c) {
                Ok(pages) if pages > LOG_PAGES => self.log_is_long.store(true, Ordering::Relaxed),
                Ok(_) => {}
                Err(e) => tracing::warn!(error = %e, "checkpoint failed"),
            }
        }
    }
}

/// Copies what can be copied without waiting for anyone; gives the log's length in pages.
fn checkpoint(c: &Connection) -> Result<i64> {
    Ok(c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get(1))?)
}

/// Jobs of a group, and what came of each.
type Jobs = Vec<(Box<dyn Job>, Result<()>)>;

/// One transaction of the jobs that wait, one fsync for all. When the engine fails, the whole group does.
fn group(c: &Connection, first: Box<dyn Job>, queue: &Queue, subscribers: &Subscribers, careful: &mut u32) {
    let (mut jobs, mut tx) = (Jobs::new(), Tx::sqlite(c));
    let outcome = gather(c, &mut tx, first, queue, &mut jobs, careful);
    match outcome.and_then(|()| statement(c, "COMMIT")) {
        Ok(()) => {
            subscribers.tell(&tx.events);
            for (job, result) in jobs {
                job.finish(result);
            }
        }
        Err(e) => {
            tracing::error!(error = %e, jobs = jobs.len(), "commit failed: nothing of the group is acknowledged");
            let _ = roll_back(c);
            for (job, _) in jobs {
                job.finish(Err(e.clone()));
            }
        }
    }
}

/// Runs jobs until there is no more. A savepoint for each would copy every page that it changes, and mostly no job is refused: they
/// have savepoints for [`CAREFUL`] groups after one was, and that one's group is run again with them.
fn gather(
    c: &Connection,
    tx: &mut Tx<'_>,
    first: Box<dyn Job>,
    queue: &Queue,
    jobs: &mut Jobs,
    careful: &mut u32,
) -> Result<()> {
    *careful = careful.saturating_sub(1);
    jobs.push((first, Ok(())));
    statement(c, "BEGIN IMMEDIATE")?;
    let began = Instant::now();
    while let Some((job, result)) = jobs.last_mut() {
        *result = if *careful > 0 { one(c, tx, &mut **job)? } else { run(tx, &mut **job)? };
        if result.is_err() {
            if *careful == 0 {
                again(c, tx, jobs)?;
            }
            *careful = CAREFUL;
        }
        let full = jobs.len() >= GROUP_JOBS || began.elapsed() >= GROUP_TIME;
        let Some(next) = (if full { None } else { queue.more() }) else { break };
        jobs.push((next, Ok(())));
    }
    Ok(())
}

/// Takes back what jobs did of which the last was refused, and runs them anew, each inside its savepoint; a single one has had its
/// answer.
fn again(c: &Connection, tx: &mut Tx<'_>, jobs: &mut Jobs) -> Result<()> {
    roll_back(c)?;
    tx.events.clear();
    statement(c, "BEGIN IMMEDIATE")?;
    if jobs.len() == 1 {
        return Ok(());
    }
    for (job, result) in jobs {
        *result = one(c, tx, &mut **job)?;
    }
    Ok(())
}

/// SQLite may have rolled back by itself already.
fn roll_back(c: &Connection) -> Result<()> {
    if c.is_autocommit() { Ok(()) } else { statement(c, "ROLLBACK") }
}

/// Runs one job; what it is refused, be it by itself, by a row that makes no sense to it or by a panic.
///
/// # Errors
/// What the engine itself failed at: nothing that it was told since the last commit is certain any more.
fn run(tx: &mut Tx<'_>, job: &mut dyn Job) -> Result<Result<()>> {
    let result = tx.job(job);
    match tx.failed.take() {
        Some(e @ (Error::Io(_) | Error::Corrupt(_))) => Err(e),
        Some(e) => Ok(Err(e)),
        None => Ok(result),
    }
}

/// The same inside a savepoint: what is refused takes back what it did, and only that.
fn one(c: &Connection, tx: &mut Tx<'_>, job: &mut dyn Job) -> Result<Result<()>> {
    statement(c, "SAVEPOINT job")?;
    let events = tx.events.len();
    let result = run(tx, job)?;
    if result.is_err() && !c.is_autocommit() {
        tx.events.truncate(events);
        statement(c, "ROLLBACK TO job")?;
    }
    if !c.is_autocommit() {
        statement(c, "RELEASE job")?;
    }
    Ok(result)
}

/// Statements are kept, and stay as they were prepared: else one whose `LIMIT` is a parameter is prepared anew for each value.
fn prepare_once(c: &Connection) -> Result<()> {
    c.set_prepared_statement_cache_capacity(256);
    c.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn statement(c: &Connection, sql: &str) -> Result<()> {
    c.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Runs `work` on a snapshot.
pub(crate) fn read(c: &Connection, work: Read) {
    if let Err(e) = statement(c, "BEGIN") {
        return work(Err(e));
    }
    if catch_unwind(AssertUnwindSafe(|| work(Ok(&mut Tx::sqlite(c))))).is_err() {
        tracing::error!("a read panicked");
    }
    if let Err(e) = statement(c, "COMMIT") {
        tracing::error!(error = %e, "a read did not end");
    }
}
