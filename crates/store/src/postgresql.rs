//! The engine for a database of its own: a transaction a job on a few connections, one thread each. PostgreSQL groups
//! the fsyncs of those that commit together.
//!
//! **Isolation.** Jobs run READ COMMITTED, and what a job decides on, it has locked: it begins with the `UPDATE …
//! RETURNING` of the rows its numbers come from (accounts in ascending id), and each later statement sees all that the
//! locks' earlier holders committed. A stricter level would turn every wait for such a row into a serialization failure,
//! so a busy account would be all retries. What a job found absent without a lock is guarded by a unique key: the job
//! that comes second hits it, is run again, and then finds the row. Reads are REPEATABLE READ, READ ONLY: one snapshot.
//!
//! **Again.** A job that was chosen as victim (40001, 40P01), hit a unique key, or lost its connection before COMMIT was
//! sent has changed nothing and runs again, a bounded number of times. Once COMMIT was sent and no answer came, nobody
//! knows: [`Error::Io`], a [`Gap`] for the subscribers, and never a second run.
//!
//! **Limits.** No TLS yet: a Unix socket, loopback, or a network you trust. Locks and statements have deadlines in the
//! server, dead peers are found by keepalives; a server that is alive on the network but answers nothing is waited for.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Config, Statement};

use crate::client::{Client, Failed, Kept};
use crate::engine::{Read, Stop};
use crate::events::{Gap, Subscribers, Ticket};
use crate::job::{Job, Queue};
use crate::migrate::{Dialect, Migrations};
use crate::{Answer, Error, Event, Result, Row, Sql, Tx, Value};

/// How often a job is run before its callers are told to come back later.
const TRIES: u32 = 12;

/// How long work waits for a connection to come back before it fails at once: a restart of the server is a delay, an
/// outage is an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The first and the longest wait between two tries to connect.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// The key of the advisory lock under which migrations run; any number that nobody else uses.
const MIGRATING: i64 = 0x706f_7374_726f_6f6d;

pub(crate) const DIALECT: Dialect =
    Dialect { int: "BIGINT", bytes: "BYTEA", text: "TEXT COLLATE \"C\"", table: "", clustered: "" };

/// What a connection is for, with the settings that follow from it.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Jobs,
    Reads,
}

impl Role {
    /// Everything the server's or the user's defaults could have spoilt is said.
    fn settings(self) -> &'static str {
        match self {
            // Between two statements a job works for milliseconds. What holds locks for longer is of a process that is frozen
            // or cut off, and others are to take over within half a minute.
            Role::Jobs => {
                "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
                 SET statement_timeout = '30s'; SET lock_timeout = '10s'; SET jit = off;
                 SET idle_in_transaction_session_timeout = '15s'; SET client_min_messages = warning"
            }
            // A backup streams a table in one statement.
            Role::Reads => {
                "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on;
                 SET statement_timeout = '600s'; SET lock_timeout = '10s'; SET jit = off;
                 SET client_min_messages = warning"
            }
        }
    }
}

/// One connection and the statements prepared on it. Their texts are constants of ours: that bounds them.
pub(crate) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    /// A unique key was in the way of a statement.
    taken: bool,
    /// See [`Tx::process`].
    pub(crate) process: i64,
}

impl Connection {
    fn open(of: &Postgres, role: Role) -> Result<Self> {
        const CONNECTING: &str = "connecting to PostgreSQL";
        let connected = Client::connect(&of.config).map_err(|e| Error::io(CONNECTING, e))?;
        let client = connected.map_err(|e| Error::io(CONNECTING, Said(&e)))?;
        let mut c = Connection { client, statements: HashMap::new(), taken: false, process: of.process };
        c.client.batch(CONNECTING, role.settings()).map_err(unreachable)?;
        let found = Sql {
            name: CONNECTING,
            text: "SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit') = 'off',
                          current_setting('server_encoding') = 'UTF8'",
        };
        let mut said = [false; 3];
        c.rows(&found, &[], &mut |r| {
            (0..3).try_for_each(|i| {
                said[i] = r.int(i)? == 1;
                Ok(())
            })
        })??;
        let [syncs, late, utf8] = said;
        if !syncs {
            return Err(Error::io("PostgreSQL", "runs with fsync = off: nothing it commits is safe from a power cut"));
        }
        if !utf8 {
            return Err(Error::io("PostgreSQL", "the database's encoding is not UTF8"));
        }
        // `local`, `remote_apply` and the like are the owner's choice and all sync our own disk; `off` does not.
        if late {
            c.client.batch(CONNECTING, "SET synchronous_commit = on").map_err(unreachable)?;
        }
        Ok(c)
    }

    /// The prepared form of `sql`. PostgreSQL infers the parameters' types from the text alone, so that they do not
    /// depend on the values of the first call; any but those of [`Value`] would fail only for some values.
    pub(crate) fn statement(&mut self, sql: &Sql) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql.text) {
            return Ok(statement.clone());
        }
        let prepared = self.client.prepare(sql.name, &sql.postgres());
        let statement = self.noted(prepared)?;
        for (i, ty) in statement.params().iter().enumerate() {
            if ![Type::INT8, Type::BYTEA, Type::TEXT].contains(ty) {
                let n = i + 1;
                let text = format!("{}: ?{n} is taken for {ty}: write CAST(?{n} AS BIGINT) or the like", sql.name);
                return Err(Error::Sql(text.into()));
            }
        }
        self.statements.insert(sql.text, statement.clone());
        Ok(statement)
    }

    pub(crate) fn execute(&mut self, sql: &Sql, params: &[Value<'_>]) -> Result<u64> {
        let statement = self.statement(sql)?;
        let done = self.client.execute(sql.name, &statement, &bound(&statement, params));
        self.noted(done)
    }

    /// Rows come as they are read, not collected first. An error of `each` itself is the outer one.
    pub(crate) fn rows(
        &mut self,
        sql: &Sql,
        params: &[Value<'_>],
        each: &mut impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<Result<()>> {
        let statement = self.statement(sql)?;
        let params = bound(&statement, params);
        let done = self.client.rows(sql.name, &statement, &params, |row| each(&Row::Postgres(row)));
        self.noted(done)
    }

    /// See [`Tx::send`].
    pub(crate) fn send(&mut self, sql: &Sql, params: &[Value<'_>]) -> Result<()> {
        let statement = self.statement(sql)?;
        let params = kept(&statement, params);
        let done = self.client.send(sql.name, statement, params);
        self.noted(done)
    }

    /// See [`Tx::each`].
    pub(crate) fn each<T, const N: usize>(
        &mut self,
        sql: &Sql,
        all: impl IntoIterator<Item = T>,
        with: impl for<'t> Fn(&'t T) -> [Value<'t>; N],
        then: impl FnMut(T, Answer),
    ) -> Result<()> {
        let statement = self.statement(sql)?;
        let done = self.client.each(sql.name, &statement, all, |item| kept(&statement, &with(item)), then);
        self.noted(done)
    }

    /// Waits for the answers to all that was sent.
    fn settle(&mut self) -> Result<()> {
        let done = self.client.settle();
        self.noted(done)
    }

    /// Statements without parameters, as text.
    pub(crate) fn batch(&mut self, text: &str) -> Result<()> {
        let done = self.client.batch("DDL", text);
        self.noted(done)
    }

    fn begin(&mut self) -> Result<()> {
        self.client.batch("BEGIN", "BEGIN").map_err(unreachable)
    }

    /// False when the connection is of no further use.
    fn roll_back(&mut self) -> bool {
        self.client.forget();
        self.client.batch("ROLLBACK", "ROLLBACK").is_ok()
    }

    /// COMMIT of a transaction that failed without our knowing would be a ROLLBACK that says it went well; the SELECT
    /// in the same message fails then, and COMMIT is not reached.
    fn commit(&mut self) -> std::result::Result<(), Failed> {
        self.client.batch("COMMIT", "SELECT 1; COMMIT")
    }

    fn noted<T>(&mut self, done: std::result::Result<T, Failed>) -> Result<T> {
        done.map_err(|failed| {
            self.taken |= failed.why.code() == Some(&SqlState::UNIQUE_VIOLATION);
            failure(&failed)
        })
    }
}

/// What failed has to do with the connection, whatever it was.
fn unreachable(failed: Failed) -> Error {
    Error::io(failed.name, Said(&failed.why))
}

/// Parameters as the statement's types want them: NULL has one too.
fn bound<'a>(statement: &Statement, params: &'a [Value<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    let types = statement.params();
    let one = |(i, value): (usize, &'a Value<'a>)| -> &'a (dyn ToSql + Sync) {
        match value {
            Value::Int(v) => v,
            Value::Text(v) => v,
            Value::Bytes(v) => v,
            Value::Null => match types.get(i) {
                Some(ty) if *ty == Type::BYTEA => &None::<&[u8]>,
                Some(ty) if *ty == Type::TEXT => &None::<&str>,
                _ => &None::<i64>,
            },
        }
    };
    params.iter().enumerate().map(one).collect()
}

/// The same for what is sent, and answered later.
fn kept(statement: &Statement, params: &[Value<'_>]) -> Vec<Kept> {
    let types = statement.params();
    let one = |(i, value): (usize, &Value<'_>)| -> Kept {
        match value {
            Value::Int(v) => Box::new(*v),
            Value::Text(v) => Box::new(v.to_string()),
            Value::Bytes(v) => Box::new(v.to_vec()),
            Value::Null => match types.get(i) {
                Some(ty) if *ty == Type::BYTEA => Box::new(None::<&[u8]>),
                Some(ty) if *ty == Type::TEXT => Box::new(None::<&str>),
                _ => Box::new(None::<i64>),
            },
        }
    };
    params.iter().enumerate().map(one).collect()
}

/// Integers of any width, and truth as 0 or 1, as SQLite has them.
pub(crate) fn int(row: &tokio_postgres::Row, i: usize) -> Result<Option<i64>> {
    let ty = row.columns().get(i).map(|c| c.type_().clone());
    let value = match ty {
        Some(Type::INT4) => row.try_get::<_, Option<i32>>(i).map(|v| v.map(i64::from)),
        Some(Type::INT2) => row.try_get::<_, Option<i16>>(i).map(|v| v.map(i64::from)),
        Some(Type::BOOL) => row.try_get::<_, Option<bool>>(i).map(|v| v.map(i64::from)),
        _ => row.try_get(i),
    };
    value.map_err(|e| Error::Sql(Said(&e).to_string().into()))
}

pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a tokio_postgres::Row, i: usize) -> Result<T> {
    row.try_get(i).map_err(|e| Error::Sql(Said(&e).to_string().into()))
}

/// An error with its cause: alone it only says "db error".
struct Said<'a>(&'a tokio_postgres::Error);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.as_db_error(), std::error::Error::source(self.0)) {
            (Some(db), _) => write!(f, "{} ({})", db.message(), db.code().code()),
            (None, Some(cause)) => write!(f, "{}: {cause}", self.0),
            (None, None) => self.0.fmt(f),
        }
    }
}

/// What a failed statement means for those above (PostgreSQL, appendix A).
fn failure(failed: &Failed) -> Error {
    let Failed { name, why: e } = failed;
    let text = format!("{name}: {}", Said(e)).into();
    let Some(db) = e.as_db_error() else {
        // Without an answer it is the connection, or values that do not fit the statement.
        let lost = e.is_closed() || std::error::Error::source(e).is_some_and(|s| s.is::<std::io::Error>());
        return if lost { Error::Io(text) } else { Error::Sql(text) };
    };
    let code = db.code();
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        Error::Conflict
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        Error::Busy
    } else if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        Error::Corrupt(text)
    } else {
        // 08 connection, 53 resources (disk full), 57 operator, 58 system, XX internal; read-only is the server after a
        // fail-over. The rest is what we wrote: data, constraints, syntax.
        match code.code().get(..2) {
            Some("08" | "53" | "57" | "58" | "XX") => Error::Io(text),
            _ if *code == SqlState::READ_ONLY_SQL_TRANSACTION => Error::Io(text),
            _ => Error::Sql(text),
        }
    }
}

/// The database, as the threads share it.
pub(crate) struct Postgres {
    config: Config,
    process: i64,
    stop: Arc<Stop>,
    /// How many connections each [`Role`] has, as far as anybody noticed.
    live: [AtomicUsize; 2],
}

impl Postgres {
    /// # Errors
    /// [`Error::Sql`] when `url` is not one.
    pub(crate) fn new(url: &str, stop: Arc<Stop>) -> Result<Self> {
        // The text of the error may repeat the URL's password.
        let mut config: Config =
            url.parse().map_err(|_| Error::Sql("the address of the PostgreSQL database is malformed".into()))?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(Duration::from_secs(30));
        }
        if config.get_application_name().is_none() {
            config.application_name("postroom");
        }
        config.keepalives_idle(Duration::from_secs(30)).keepalives_interval(Duration::from_secs(10));
        Ok(Postgres { config, process: (random() >> 1) as i64, stop, live: Default::default() })
    }

    /// Runs what is missing of the migrations, one process at a time; `then` is part of it.
    pub(crate) fn migrate(
        &self,
        migrations: &[Migrations],
        then: impl FnOnce(&mut Tx<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut c = Connection::open(self, Role::Jobs)?;
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '300s';
             SELECT pg_advisory_xact_lock({MIGRATING})"
        );
        c.client.batch("migrating", &begin).map_err(unreachable)?;
        let mut tx = Tx::postgres(&mut c);
        crate::migrate::run(&mut tx, migrations, &DIALECT)?;
        then(&mut tx)?;
        c.settle()?;
        c.commit().map_err(unreachable)
    }

    /// A connection that comes back when it is lost.
    pub(crate) fn link(self: &Arc<Self>, role: Role) -> Result<Link> {
        let connection = Some(Connection::open(self, role)?);
        self.live[role as usize].fetch_add(1, Ordering::Relaxed);
        Ok(Link { of: self.clone(), role, connection, outage: None })
    }
}

/// A thread's connection; made again when it was lost.
pub(crate) struct Link {
    of: Arc<Postgres>,
    role: Role,
    connection: Option<Connection>,
    outage: Option<Outage>,
}

struct Outage {
    since: Instant,
    next: Instant,
    wait: Duration,
    why: Error,
}

impl Link {
    /// Before work is taken: a thread without a connection leaves it to those that have one, and goes on trying. It
    /// would fail at once what they do well, and soon have taken all of it.
    pub(crate) fn ready(&mut self) {
        while self.connection.is_none()
            && self.of.live[self.role as usize].load(Ordering::Relaxed) > 0
            && !self.of.stop.wait(self.until_next_try())
        {
            self.connect();
        }
    }

    /// The connection. Once an outage has lasted for [`PATIENCE`] this fails at once, but for a try now and then.
    fn get(&mut self) -> Result<&mut Connection> {
        while self.connection.is_none() {
            let wait = self.until_next_try();
            if let Some(outage) = self.outage.as_ref().filter(|_| !wait.is_zero())
                && (outage.since.elapsed() >= PATIENCE || self.of.stop.wait(wait))
            {
                return Err(outage.why.clone());
            }
            self.connect();
        }
        self.connection.as_mut().ok_or(Error::Closed)
    }

    fn until_next_try(&self) -> Duration {
        self.outage.as_ref().map_or(Duration::ZERO, |o| o.next.saturating_duration_since(Instant::now()))
    }

    fn connect(&mut self) {
        match Connection::open(&self.of, self.role) {
            Ok(c) => {
                self.connection = Some(c);
                self.of.live[self.role as usize].fetch_add(1, Ordering::Relaxed);
                if self.outage.take().is_some() {
                    tracing::info!("connected to PostgreSQL again");
                }
            }
            Err(why) => self.note(why),
        }
    }

    fn note(&mut self, why: Error) {
        let now = Instant::now();
        let (since, wait) = match &self.outage {
            None => {
                tracing::error!(error = %why, "no connection to PostgreSQL");
                (now, BACK_OFF[0])
            }
            Some(o) => (o.since, (o.wait * 2).min(BACK_OFF[1])),
        };
        // All threads lost theirs at the same moment; they need not all come back at the same.
        let next = now + wait.mul_f64(0.5 + 0.5 * fraction());
        self.outage = Some(Outage { since, next, wait, why });
    }

    fn lost(&mut self) {
        if self.connection.take().is_some() {
            self.of.live[self.role as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The connection, in a transaction. One that died while it was idle shows that here, and is replaced.
    fn begin(&mut self) -> Result<&mut Connection> {
        let mut tried = 0;
        while let Err(e) = self.get()?.begin() {
            self.lost();
            tried += 1;
            if tried >= TRIES {
                return Err(e);
            }
        }
        self.connection.as_mut().ok_or(Error::Closed)
    }

    /// Runs jobs until the queue is closed and empty.
    pub(crate) fn write_loop(&mut self, queue: &Queue, subscribers: &Arc<Subscribers>) {
        loop {
            self.ready();
            let Some(job) = queue.first() else { return };
            queue.ended();
            self.work(job, subscribers);
        }
    }

    /// Runs one job as often as it takes.
    fn work(&mut self, mut job: Box<dyn Job>, subscribers: &Arc<Subscribers>) {
        for tried in 1.. {
            let why = match self.attempt(&mut *job, subscribers) {
                Attempt::Committed(ticket, events) => {
                    let told = subscribers.clone();
                    return in_turn(ticket, move || {
                        told.tell(&events);
                        job.finish(Ok(()));
                    });
                }
                Attempt::Unknown(ticket, e) => {
                    tracing::error!(error = %e, "the connection was lost during a commit: its outcome is unknown");
                    let told = subscribers.clone();
                    let gap = ticket.is_some();
                    return in_turn(ticket, move || {
                        if gap {
                            told.tell(&[Arc::new(Gap)]);
                        }
                        job.finish(Err(e));
                    });
                }
                Attempt::Failed(e) => return job.finish(Err(e)),
                Attempt::Again(e) => e,
            };
            match why {
                // A taken key: the second run finds what was in the way and says so in its own words, or never will.
                Error::Sql(_) if tried > 1 => return job.finish(Err(why)),
                Error::Conflict if tried >= TRIES => return job.finish(Err(Error::Busy)),
                why if tried >= TRIES => return job.finish(Err(why)),
                Error::Conflict => std::thread::sleep(Duration::from_millis(1 << tried.min(6)).mul_f64(fraction())),
                _ => {}
            }
        }
    }

    /// Runs the job once, in a transaction of its own.
    fn attempt(&mut self, job: &mut dyn Job, subscribers: &Arc<Subscribers>) -> Attempt {
        let c = match self.begin() {
            Ok(c) => c,
            Err(e) => return Attempt::Failed(e),
        };
        let mut tx = Tx::postgres(c);
        let ran = run(job, &mut tx);
        let events = std::mem::take(&mut tx.events);
        if let Err(e) = ran.and_then(|()| c.settle()) {
            let taken = std::mem::take(&mut c.taken);
            let alive = c.roll_back();
            if !alive {
                self.lost();
            }
            return match e {
                Error::Conflict => Attempt::Again(e),
                Error::Sql(_) if taken => Attempt::Again(e),
                Error::Io(_) if !alive => Attempt::Again(e),
                e => Attempt::Failed(e),
            };
        }
        let ticket = (!events.is_empty()).then(|| subscribers.ticket());
        let Err(e) = c.commit() else { return Attempt::Committed(ticket, events) };
        // An ERROR is said before the commit record is written. A FATAL one may come behind it: then it is on disk.
        let answered = e.why.as_db_error().is_some_and(|db| db.parsed_severity() == Some(Severity::Error));
        if !c.roll_back() {
            self.lost();
        }
        match failure(&e) {
            e if !answered => Attempt::Unknown(ticket, Error::io("outcome unknown", e)),
            Error::Conflict => Attempt::Again(Error::Conflict),
            e => Attempt::Failed(e),
        }
    }

    /// Runs `work` on a snapshot. BEGIN finds out whether the connection still lives; `work` cannot be run twice.
    pub(crate) fn read(&mut self, work: Read) {
        let c = match self.begin() {
            Ok(c) => c,
            Err(e) => return work(Err(e)),
        };
        if catch_unwind(AssertUnwindSafe(|| work(Ok(&mut Tx::postgres(c))))).is_err() {
            tracing::error!("a read panicked");
        }
        if !c.roll_back() {
            self.lost();
        }
    }
}

/// What one run of a job came to.
enum Attempt {
    Committed(Option<Ticket>, Vec<Event>),
    /// Nothing was changed, and that is the answer.
    Failed(Error),
    /// Nothing was changed; another run may do better.
    Again(Error),
    /// COMMIT was sent and not answered.
    Unknown(Option<Ticket>, Error),
}

fn run(job: &mut dyn Job, tx: &mut Tx<'_>) -> Result<()> {
    let result = tx.job(job);
    // Whatever the job made of a statement's failure: its transaction is void, and may be worth another run.
    tx.failed.take().map_or(result, Err)
}

fn in_turn(ticket: Option<Ticket>, then: impl FnOnce() + Send + 'static) {
    match ticket {
        Some(ticket) => ticket.settle(then),
        None => then(),
    }
}

/// Ties the database to the packs in `dir`: with the packs of another, every blob's id would lead to somebody else's mail.
/// Both carry one random number; a database that has none yet takes the directory's.
pub(crate) fn pair(tx: &mut Tx<'_>, dir: &Path) -> Result<()> {
    const OWNER: &str = "packs";
    let path = dir.join("database-id");
    let failed = |e| Error::io(format_args!("pairing {} with the database", path.display()), e);
    let here = match std::fs::read_to_string(&path) {
        Ok(text) => Some(text.trim().parse::<i64>().map_err(|e| Error::Corrupt(format!("{path:?}: {e}").into()))?),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(failed(e)),
    };
    match (here, crate::migrate::version(tx, OWNER)?) {
        (Some(here), Some(there)) if here == there => Ok(()),
        (_, Some(_)) => Err(Error::Corrupt(format!("the packs of this database are not in {}", dir.display()).into())),
        (Some(here), None) => crate::migrate::record(tx, OWNER, here),
        (None, None) => {
            let number = (random() >> 1) as i64;
            // Whole or not at all: it is renamed into place. On disk before the database says the same.
            let new = path.with_extension("new");
            std::fs::write(&new, format!("{number}\n")).map_err(failed)?;
            std::fs::File::open(&new).and_then(|f| f.sync_all()).map_err(failed)?;
            std::fs::rename(&new, &path).map_err(failed)?;
            crate::engine::sync(dir)?;
            crate::migrate::record(tx, OWNER, number)
        }
    }
}

/// 0 to 1, for waits that should not coincide: the standard library's keys for hash maps differ at every start.
fn fraction() -> f64 {
    (random() >> 11) as f64 / (1u64 << 53) as f64
}

/// Not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
