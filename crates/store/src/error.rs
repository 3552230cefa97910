//! What can go wrong below the domain, and how it looks from above.

use std::fmt;
use std::sync::Arc;

/// `Result` with the store's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do it. Cloned to every member of a group that fails together.
#[derive(Clone, Debug)]
pub enum Error {
    /// The disk, the engine or the connection failed; nothing of the job is promised, in rare cases it is done all the
    /// same. Trying again may help.
    Io(Arc<str>),
    /// A statement is wrong or broke a constraint: our mistake.
    Sql(Arc<str>),
    /// PostgreSQL asks for the transaction to be run again (40001, 40P01). Never leaves the store.
    Conflict,
    /// Bytes on disk are not what was written.
    Corrupt(Arc<str>),
    /// More work waits than is good, or others were faster too often; come back later.
    Busy,
    /// The disk has less room than is kept in reserve: nothing new is taken, see [`crate::Options::reserve`].
    Full,
    /// The store is shutting down.
    Closed,
    /// The job itself said no: nothing was changed.
    Refused(Arc<base::Error>),
}

impl Error {
    /// An [`Error::Io`] that says what was being done.
    pub(crate) fn io(doing: impl fmt::Display, e: impl fmt::Display) -> Self {
        Error::Io(format!("{doing}: {e}").into())
    }

    /// The job's own refusal, if that is what this is.
    pub fn refusal(&self) -> Option<&base::Error> {
        match self {
            Error::Refused(e) => Some(e),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(e) => write!(f, "store input/output: {e}"),
            Error::Sql(e) => write!(f, "store statement: {e}"),
            Error::Conflict => f.write_str("store: transactions in conflict"),
            Error::Corrupt(e) => write!(f, "store corrupt: {e}"),
            Error::Busy => f.write_str("store: too much work is waiting"),
            Error::Full => f.write_str("store: the disk is nearly full"),
            Error::Closed => f.write_str("store: closed"),
            Error::Refused(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<base::Error> for Error {
    fn from(e: base::Error) -> Self {
        Error::Refused(Arc::new(e))
    }
}

/// A refusal keeps its reply; everything else is our own trouble: 451, and the cause for the log.
impl From<Error> for base::Error {
    fn from(e: Error) -> Self {
        match &e {
            Error::Refused(inner) => base::Error::new(inner.reply().clone()),
            Error::Busy => base::Error::new(base::Reply::new(451, 3, 2, "Too busy, please try again later")).because(e),
            // RFC 3463 §3.4: X.3.1, mail system full.
            Error::Full => {
                base::Error::new(base::Reply::new(452, 3, 1, "The server's disk is full, please try again later"))
            }
            _ => base::Error::internal(e),
        }
    }
}

impl From<rusqlite::Error> for Error {
    fn from(e: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::*;
        match e.sqlite_error_code() {
            Some(SystemIoFailure | DiskFull | CannotOpen | DatabaseBusy | DatabaseLocked | ReadOnly | OutOfMemory) => {
                Error::Io(e.to_string().into())
            }
            Some(DatabaseCorrupt | NotADatabase) => Error::Corrupt(e.to_string().into()),
            _ => Error::Sql(e.to_string().into()),
        }
    }
}
