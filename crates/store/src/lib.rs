//! The store: one set of SQL texts on SQLite or PostgreSQL, and append-only packs for the bytes of mails.
//!
//! Floor 2. It has no tables of its own but for migrations and the numbers of packs: the crates of floor 3 own theirs,
//! their SQL and their migrations, and offer verbs on `&mut Tx`, so that a floor above composes one commit out of several
//! of them.
//!
//! Writing is a [job](Store::write): a synchronous, repeatable function of a [`Tx`] without effect outside it. Jobs that
//! wait together are committed together, and what a job returned is handed out after the fsync that covers it. Reading
//! is a closure too, run by one of a few threads on a read-only connection.
//!
//! On SQLite jobs run one after another; on PostgreSQL several at once, each in a transaction of its own. So a job first
//! takes what it decides on, by the `UPDATE … RETURNING` of its rows (accounts in ascending id), and guards what must not
//! be there twice by a unique key.
//!
//! ```
//! # fn main() -> Result<(), store::Error> {
//! use store::{Migrations, Options, Sql, Store, params};
//! const TABLES: Migrations = Migrations { owner: "doc", steps: &["CREATE TABLE n (k {int} PRIMARY KEY) {table};"] };
//! const ADD: Sql = Sql { name: "add", text: "INSERT INTO n (k) VALUES (?1)" };
//! const COUNT: Sql = Sql { name: "count", text: "SELECT count(*) FROM n" };
//!
//! let dir = std::env::temp_dir().join(format!("store-doc-{}", std::process::id()));
//! let store = Store::open(&Options::sqlite(&dir), &[TABLES])?;
//! store.write_blocking(|tx| tx.execute(&ADD, params![7]))?;
//! assert_eq!(store.read_blocking(|tx| tx.one(&COUNT, params![], |row| row.int(0)))?, 1);
//! # drop(store); std::fs::remove_dir_all(&dir).ok(); Ok(()) }
//! ```

mod blob;
mod client;
mod compact;
mod engine;
mod error;
mod events;
mod job;
mod migrate;
mod numbers;
mod pack;
mod postgresql;
mod space;
mod sql;
mod sqlite;
mod tx;

pub use blob::{BlobReader, Class, Staged, Stager};
pub use compact::{Blobs, Compacted, References};
pub use engine::{Engine, Options, Store, make_private_dir};
pub use error::{Error, Result};
pub use events::{Event, Gap, Subscriber};
pub use job::{Lane, Work};
pub use migrate::Migrations;
pub use pack::PackReport;
pub use space::free_space;
pub use sql::Sql;
pub use tx::{Answer, Done, Row, Tx, Value};
