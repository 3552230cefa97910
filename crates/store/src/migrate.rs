//! Migrations: each crate of floor 3 brings its own steps; this runs those that a store has not seen.
//!
//! A step is a few statements in a neutral DDL: `{int}`, `{bytes}`, `{text}` for column types, `{table}` or `{clustered}`
//! after the closing parenthesis: a plain table, or one kept in the order of its primary key. Steps expand, then
//! contract: release N's schema serves N-1. A step that was released is never edited.

use crate::{Result, Sql, Tx, params};

/// The migrations of one crate.
#[derive(Clone, Copy, Debug)]
pub struct Migrations {
    /// The crate's name.
    pub owner: &'static str,
    /// In order; the n-th brings its tables to version n.
    pub steps: &'static [&'static str],
}

const VERSION: Sql = Sql { name: "schema version", text: "SELECT version FROM schema_version WHERE owner = ?1" };
const RECORD: Sql = Sql {
    name: "record schema version",
    text: "INSERT INTO schema_version (owner, version) VALUES (?1, ?2) ON CONFLICT (owner) DO UPDATE SET version = excluded.version",
};
const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS schema_version (owner {text} PRIMARY KEY, version {int} NOT NULL) {table}";

/// The words that differ between the engines' DDL.
pub(crate) struct Dialect {
    pub(crate) int: &'static str,
    pub(crate) bytes: &'static str,
    pub(crate) text: &'static str,
    pub(crate) table: &'static str,
    pub(crate) clustered: &'static str,
}

impl Dialect {
    pub(crate) fn ddl(&self, neutral: &str) -> String {
        neutral
            .replace("{int}", self.int)
            .replace("{bytes}", self.bytes)
            .replace("{text}", self.text)
            .replace("{table}", self.table)
            .replace("{clustered}", self.clustered)
    }
}

/// Runs what is missing, inside the caller's transaction.
pub(crate) fn run(tx: &mut Tx<'_>, all: &[Migrations], dialect: &Dialect) -> Result<()> {
    tx.batch(&dialect.ddl(SCHEMA))?;
    tx.batch(&dialect.ddl(crate::numbers::TABLE))?;
    for m in all {
        let seen = version(tx, m.owner)?.unwrap_or(0);
        let seen = usize::try_from(seen).unwrap_or(usize::MAX);
        for step in m.steps.iter().skip(seen) {
            tx.batch(&dialect.ddl(step))?;
        }
        if m.steps.len() > seen {
            record(tx, m.owner, m.steps.len() as i64)?;
        }
    }
    Ok(())
}

pub(crate) fn version(tx: &mut Tx<'_>, owner: &str) -> Result<Option<i64>> {
    tx.row(&VERSION, params![owner], |r| r.int(0))
}

pub(crate) fn record(tx: &mut Tx<'_>, owner: &str, version: i64) -> Result<()> {
    tx.execute(&RECORD, params![owner, version]).map(drop)
}
