//! A transaction as the floors above see it: an enum of the engines, and what it will announce once it is on disk.

use std::panic::{AssertUnwindSafe, catch_unwind};

use base::Timestamp;

use crate::job::Job;
use crate::{Error, Event, Result, Sql, postgresql};

const SQLITE_TIME: Sql = Sql { name: "time", text: "SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT)" };
const POSTGRES_TIME: Sql =
    Sql { name: "time", text: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)" };

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// SQL NULL.
    Null,
    /// BIGINT.
    Int(i64),
    /// Text of our own making (names of tables' things); what comes from mail is bytes.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(v: i64) -> Self {
        Value::Int(v)
    }
}

impl From<i32> for Value<'_> {
    fn from(v: i32) -> Self {
        Value::Int(i64::from(v))
    }
}

impl From<u32> for Value<'_> {
    fn from(v: u32) -> Self {
        Value::Int(i64::from(v))
    }
}

impl From<bool> for Value<'_> {
    fn from(v: bool) -> Self {
        Value::Int(i64::from(v))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(v: &'a str) -> Self {
        Value::Text(v)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(v: &'a [u8]) -> Self {
        Value::Bytes(v)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(v: Option<T>) -> Self {
        v.map_or(Value::Null, Into::into)
    }
}

macro_rules! from_id {
    ($($id:ident),+) => { $(impl From<base::$id> for Value<'_> {
        fn from(v: base::$id) -> Self {
            Value::Int(v.as_i64())
        }
    })+ };
}
from_id!(AccountId, BlobId, DomainId, EmailId, MailboxId, ModSeq, OrganisationId, Uid, UidValidity);

impl From<base::Timestamp> for Value<'_> {
    fn from(v: base::Timestamp) -> Self {
        Value::Int(v.0)
    }
}

/// The parameters of a statement: `params![account, "name", &bytes[..]]`.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => { &[$($crate::Value::from($value)),*] };
}

/// One row of an answer. Columns are counted from 0; a column of another type is [`Error::Sql`], our mistake.
pub enum Row<'a> {
    /// SQLite's.
    Sqlite(&'a rusqlite::Row<'a>),
    /// PostgreSQL's.
    Postgres(&'a tokio_postgres::Row),
}

impl Row<'_> {
    /// A BIGINT; truth (`EXISTS …`) is 0 or 1.
    pub fn int(&self, i: usize) -> Result<i64> {
        self.opt_int(i)?.ok_or_else(|| Error::Sql(format!("column {i} is NULL").into()))
    }

    /// A BIGINT that may be NULL.
    pub fn opt_int(&self, i: usize) -> Result<Option<i64>> {
        match self {
            Row::Sqlite(r) => Ok(r.get(i)?),
            Row::Postgres(r) => postgresql::int(r, i),
        }
    }

    /// Bytes, valid until the next row.
    pub fn bytes(&self, i: usize) -> Result<&[u8]> {
        self.opt_bytes(i)?.ok_or_else(|| Error::Sql(format!("column {i} is NULL").into()))
    }

    /// Bytes that may be NULL, valid until the next row.
    pub fn opt_bytes(&self, i: usize) -> Result<Option<&[u8]>> {
        match self {
            Row::Sqlite(r) => r.get_ref(i)?.as_blob_or_null().map_err(|e| Error::Sql(e.to_string().into())),
            Row::Postgres(r) => postgresql::column(r, i),
        }
    }

    /// Text, valid until the next row.
    pub fn text(&self, i: usize) -> Result<&str> {
        self.opt_text(i)?.ok_or_else(|| Error::Sql(format!("column {i} is NULL").into()))
    }

    /// Text that may be NULL, valid until the next row.
    pub fn opt_text(&self, i: usize) -> Result<Option<&str>> {
        match self {
            Row::Sqlite(r) => r.get_ref(i)?.as_str_or_null().map_err(|e| Error::Sql(e.to_string().into())),
            Row::Postgres(r) => postgresql::column(r, i),
        }
    }
}

/// What one of many was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// So many rows were changed.
    pub changed: u64,
    /// A BIGINT, the first column of what it returns; none when it returns nothing.
    pub returned: Option<i64>,
}

/// What a transaction has done so far: how its work grows with its load, whatever the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// It waited so often for an answer: a round trip each, on PostgreSQL.
    pub waits: u64,
    /// Statements that it ran.
    pub statements: u64,
    /// Rows that these changed or answered with; of what is sent only SQLite says how many.
    pub rows: u64,
}

enum Connection<'a> {
    Sqlite(&'a rusqlite::Connection),
    Postgres(&'a mut postgresql::Connection),
}

type Last = Box<dyn FnOnce(&mut Tx<'_>) -> Result<()>>;

/// A transaction: of a write job, or (read-only, a snapshot) of a read. A statement that fails fails the transaction:
/// whatever the job makes of it, nothing is kept.
pub struct Tx<'a> {
    connection: Connection<'a>,
    pub(crate) events: Vec<Event>,
    /// What is done at the job's end.
    last: Vec<Last>,
    /// Why nothing of this will be kept.
    pub(crate) failed: Option<Error>,
    done: Done,
}

impl<'a> Tx<'a> {
    pub(crate) fn sqlite(connection: &'a rusqlite::Connection) -> Self {
        Tx::on(Connection::Sqlite(connection))
    }

    pub(crate) fn postgres(connection: &'a mut postgresql::Connection) -> Self {
        Tx::on(Connection::Postgres(connection))
    }

    fn on(connection: Connection<'a>) -> Self {
        Tx { connection, events: Vec::new(), last: Vec::new(), failed: None, done: Done::default() }
    }

    /// What it has done so far.
    pub fn done(&self) -> Done {
        self.done
    }

    fn count(&mut self, waits: u64, statements: u64, rows: u64) {
        let done = &mut self.done;
        (done.waits, done.statements, done.rows) = (done.waits + waits, done.statements + statements, done.rows + rows);
    }

    /// Runs a statement that answers with no rows; gives how many it changed.
    pub fn execute(&mut self, sql: &Sql, params: &[Value<'_>]) -> Result<u64> {
        let result = match &mut self.connection {
            Connection::Sqlite(c) => sqlite_execute(c, sql, params).map_err(|e| named(sql, e)),
            Connection::Postgres(c) => c.execute(sql, params),
        };
        self.count(1, 1, *result.as_ref().unwrap_or(&0));
        self.noted(result)
    }

    /// Runs a statement whose answer nobody waits for. On PostgreSQL that saves the round trip: the next statement that is waited for
    /// hears whether this one failed, or the end of the job.
    pub fn send(&mut self, sql: &Sql, params: &[Value<'_>]) -> Result<()> {
        let result = match &mut self.connection {
            Connection::Sqlite(c) => sqlite_execute(c, sql, params).map_err(|e| named(sql, e)),
            Connection::Postgres(c) => c.send(sql, params).map(|()| 0),
        };
        self.count(0, 1, *result.as_ref().unwrap_or(&0));
        self.noted(result).map(drop)
    }

    /// Runs a statement that changes rows, or answers with a number, once for each of `all`, in order, with what `with` makes of it, and
    /// gives it to `then` with the answer. On PostgreSQL many are sent before the first is answered.
    pub fn each<T, const N: usize>(
        &mut self,
        sql: &Sql,
        all: impl IntoIterator<Item = T>,
        with: impl for<'t> Fn(&'t T) -> [Value<'t>; N],
        mut then: impl FnMut(T, Answer),
    ) -> Result<()> {
        let (mut statements, mut rows) = (0, 0);
        let then = |item, answer: Answer| {
            (statements, rows) = (statements + 1, rows + answer.changed.max(answer.returned.is_some().into()));
            then(item, answer);
        };
        let result = match &mut self.connection {
            Connection::Sqlite(c) => sqlite_each(c, sql, all, with, then).map_err(|e| named(sql, e)),
            Connection::Postgres(c) => c.each(sql, all, with, then),
        };
        self.count(1, statements, rows);
        self.noted(result)
    }

    /// Calls `each` for every row, in order. An error of `each` ends it and is passed on; it does not fail the transaction.
    pub fn rows(
        &mut self,
        sql: &Sql,
        params: &[Value<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut rows = 0;
        let mut each = |row: &Row<'_>| {
            rows += 1;
            each(row)
        };
        let result = match &mut self.connection {
            Connection::Sqlite(c) => sqlite_rows(c, sql, params, &mut each).map_err(|e| named(sql, e)),
            Connection::Postgres(c) => c.rows(sql, params, &mut each),
        };
        self.count(1, 1, rows);
        self.noted(result)?
    }

    /// A statement failed: the transaction did.
    fn noted<T>(&mut self, result: Result<T>) -> Result<T> {
        if let (Err(e), None) = (&result, &self.failed) {
            self.failed = Some(e.clone());
        }
        result
    }

    /// Runs DDL.
    pub(crate) fn batch(&mut self, text: &str) -> Result<()> {
        match &mut self.connection {
            Connection::Sqlite(c) => Ok(c.execute_batch(text)?),
            Connection::Postgres(c) => c.batch(text),
        }
    }

    /// The first row, if there is one; further rows are not looked at, but the statement is run to its end.
    pub fn row<T>(
        &mut self,
        sql: &Sql,
        params: &[Value<'_>],
        take: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (mut take, mut out) = (Some(take), None);
        self.rows(sql, params, |row| {
            if let Some(take) = take.take() {
                out = Some(take(row)?);
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// The row that must be there.
    ///
    /// # Errors
    /// [`Error::Sql`] when it is not.
    pub fn one<T>(&mut self, sql: &Sql, params: &[Value<'_>], take: impl FnOnce(&Row<'_>) -> Result<T>) -> Result<T> {
        self.row(sql, params, take)?.ok_or_else(|| Error::Sql(format!("{}: no row", sql.name).into()))
    }

    /// All rows, each made into a `T`.
    pub fn list<T>(
        &mut self,
        sql: &Sql,
        params: &[Value<'_>],
        mut take: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut out = Vec::new();
        self.rows(sql, params, |row| {
            out.push(take(row)?);
            Ok(())
        })?;
        Ok(out)
    }

    /// Runs a part of a job. When that is refused, all it did is taken back, and only that: the job may go on without it. Any
    /// other error fails the whole transaction, as ever.
    ///
    /// # Errors
    /// Those of `part`.
    pub fn attempt<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let (events, last) = (self.events.len(), self.last.len());
        self.point("SAVEPOINT part")?;
        let result = part(self);
        if self.failed.is_some() {
            return result;
        }
        if result.is_err() {
            self.events.truncate(events);
            self.last.truncate(last);
            self.point("ROLLBACK TO part")?;
        }
        self.point("RELEASE part")?;
        result
    }

    fn point(&mut self, text: &str) -> Result<()> {
        let result = self.batch(text);
        self.count(1, 1, 0);
        self.noted(result)
    }

    /// Announces `event` when, and only when, this transaction is on disk.
    pub fn publish(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Puts off to the end of the job what locks a row that all jobs of a kind need: so it is locked for no longer than it
    /// must be, and behind everything else, whatever the order in which a job does its work. What is put off first is done
    /// first.
    pub fn at_end(&mut self, work: impl FnOnce(&mut Tx<'_>) -> Result<()> + 'static) {
        self.last.push(Box::new(work));
    }

    /// Runs a job, and what it puts off; that of one that failed is forgotten.
    pub(crate) fn job(&mut self, job: &mut dyn Job) -> Result<()> {
        let ran = catch_unwind(AssertUnwindSafe(|| {
            job.run(self)?;
            std::mem::take(&mut self.last).into_iter().try_for_each(|last| last(self))
        }));
        self.last.clear();
        ran.unwrap_or_else(|_| Err(Error::Sql("a job panicked".into())))
    }

    /// The number of this process among those that work on these tables; 0 where there is no other.
    pub fn process(&self) -> i64 {
        match &self.connection {
            Connection::Sqlite(_) => 0,
            Connection::Postgres(c) => c.process,
        }
    }

    /// Whether other processes may work on these tables at the same time: on PostgreSQL.
    pub fn is_shared(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    /// What time it is for all that work on these tables, to the millisecond: PostgreSQL's, or the system's where nobody
    /// else does.
    ///
    /// # Errors
    /// The store's.
    pub fn shared_time(&mut self) -> Result<Timestamp> {
        let sql = if self.is_shared() { &POSTGRES_TIME } else { &SQLITE_TIME };
        self.one(sql, &[], |r| r.int(0).map(Timestamp))
    }

    /// Prepares a statement without running it: for the test that every text is understood.
    pub fn prepare(&mut self, sql: &Sql) -> Result<()> {
        let result = match &mut self.connection {
            Connection::Sqlite(c) => c.prepare(sql.text).map(drop).map_err(|e| named(sql, e)),
            Connection::Postgres(c) => c.statement(sql).map(drop),
        };
        self.noted(result)
    }
}

fn sqlite_execute(c: &rusqlite::Connection, sql: &Sql, params: &[Value<'_>]) -> rusqlite::Result<u64> {
    Ok(c.prepare_cached(sql.text)?.execute(bound(params))? as u64)
}

fn sqlite_each<T, const N: usize>(
    c: &rusqlite::Connection,
    sql: &Sql,
    all: impl IntoIterator<Item = T>,
    with: impl for<'t> Fn(&'t T) -> [Value<'t>; N],
    mut then: impl FnMut(T, Answer),
) -> rusqlite::Result<()> {
    let mut statement = c.prepare_cached(sql.text)?;
    for item in all {
        let mut returned = None;
        let params = with(&item);
        let mut rows = statement.query(bound(&params))?;
        while let Some(row) = rows.next()? {
            returned = Some(row.get(0)?);
        }
        drop(rows);
        let changed = if statement.readonly() { 0 } else { c.changes() };
        then(item, Answer { changed, returned });
    }
    Ok(())
}

/// The inner result is that of `each`.
fn sqlite_rows(
    c: &rusqlite::Connection,
    sql: &Sql,
    params: &[Value<'_>],
    each: &mut impl FnMut(&Row<'_>) -> Result<()>,
) -> rusqlite::Result<Result<()>> {
    let mut statement = c.prepare_cached(sql.text)?;
    let mut rows = statement.query(bound(params))?;
    while let Some(row) = rows.next()? {
        if let Err(e) = each(&Row::Sqlite(row)) {
            return Ok(Err(e));
        }
    }
    Ok(Ok(()))
}

/// Says which statement it was; an I/O error stays one.
fn named(sql: &Sql, e: rusqlite::Error) -> Error {
    match Error::from(e) {
        Error::Sql(text) => Error::Sql(format!("{}: {text}", sql.name).into()),
        Error::Io(text) => Error::Io(format!("{}: {text}", sql.name).into()),
        other => other,
    }
}

fn bound<'a>(params: &'a [Value<'a>]) -> impl rusqlite::Params + 'a {
    rusqlite::params_from_iter(params.iter().map(|v| Bound(*v)))
}

struct Bound<'a>(Value<'a>);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(v) => ValueRef::Integer(v),
            Value::Text(v) => ValueRef::Text(v.as_bytes()),
            Value::Bytes(v) => ValueRef::Blob(v),
        }))
    }
}
