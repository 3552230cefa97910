//! A transaction as the floors above see it: an enum of the engines, and what it will announce once it is on disk.

use std::any::Any;
use std::sync::Arc;

use crate::{Error, Result, Sql};

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
from_id!(AccountId, BlobId, DomainId, EmailId, MailboxId, ModSeq, Uid, UidValidity);

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
}

impl Row<'_> {
    /// A BIGINT.
    pub fn int(&self, i: usize) -> Result<i64> {
        match self {
            Row::Sqlite(r) => Ok(r.get(i)?),
        }
    }

    /// A BIGINT that may be NULL.
    pub fn opt_int(&self, i: usize) -> Result<Option<i64>> {
        match self {
            Row::Sqlite(r) => Ok(r.get(i)?),
        }
    }

    /// Bytes, valid until the next row.
    pub fn bytes(&self, i: usize) -> Result<&[u8]> {
        match self {
            Row::Sqlite(r) => r.get_ref(i)?.as_blob().map_err(|e| Error::Sql(e.to_string().into())),
        }
    }

    /// Text, valid until the next row.
    pub fn text(&self, i: usize) -> Result<&str> {
        match self {
            Row::Sqlite(r) => r.get_ref(i)?.as_str().map_err(|e| Error::Sql(e.to_string().into())),
        }
    }
}

/// Something that happened, told to the [subscribers](crate::Subscriber) once it is on disk, in the order of commits.
/// What it is, only the crate that publishes it knows.
pub type Event = Arc<dyn Any + Send + Sync>;

pub(crate) enum Engine<'a> {
    Sqlite(&'a rusqlite::Connection),
}

/// A transaction: of a write job, or (read-only, a snapshot) of a read.
pub struct Tx<'a> {
    engine: Engine<'a>,
    pub(crate) events: Vec<Event>,
}

impl<'a> Tx<'a> {
    pub(crate) fn sqlite(connection: &'a rusqlite::Connection) -> Self {
        Tx { engine: Engine::Sqlite(connection), events: Vec::new() }
    }

    /// Runs a statement that answers with no rows; gives how many it changed.
    pub fn execute(&mut self, sql: &Sql, params: &[Value<'_>]) -> Result<u64> {
        match &self.engine {
            Engine::Sqlite(c) => {
                let mut s = c.prepare_cached(sql.text).map_err(|e| named(sql, e))?;
                s.execute(bound(params)).map(|n| n as u64).map_err(|e| named(sql, e))
            }
        }
    }

    /// Calls `each` for every row, in order.
    pub fn rows(
        &mut self,
        sql: &Sql,
        params: &[Value<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(c) => {
                let mut s = c.prepare_cached(sql.text).map_err(|e| named(sql, e))?;
                let mut rows = s.query(bound(params)).map_err(|e| named(sql, e))?;
                while let Some(row) = rows.next().map_err(|e| named(sql, e))? {
                    each(&Row::Sqlite(row))?;
                }
                Ok(())
            }
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

    /// Announces `event` when, and only when, this transaction is on disk.
    pub fn publish(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Prepares a statement without running it: for the test that every text is understood.
    pub fn prepare(&mut self, sql: &Sql) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(c) => c.prepare(sql.text).map(drop).map_err(|e| named(sql, e)),
        }
    }
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
