//! What contract tests stand on: a place for a store on each engine, and a PostgreSQL server of the test's own.
//!
//! Used in `[dev-dependencies]` only; it stands outside the floors. It panics where a test cannot go on, with what to do.
//!
//! ```
//! # use store::Migrations;
//! # const TABLES: Migrations = Migrations { owner: "doc", steps: &["CREATE TABLE t (k {int} PRIMARY KEY) {table};"] };
//! for bed in testkit::engines() {
//!     let store = bed.open(&[TABLES]);
//!     // … the same behaviour, whichever engine it is: `bed.name()`.
//! }   // the store's directory, and its database, are gone
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod server;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use store::{Engine, Migrations, Options, Store};

pub use server::Server;

/// A new, empty place for a store on each engine.
pub fn engines() -> impl Iterator<Item = Bed> {
    [Bed::sqlite as fn() -> Bed, Bed::postgres].into_iter().map(|make| make())
}

/// A place for a store: a directory, and on PostgreSQL a database. Both go with it; drop the store first.
pub struct Bed {
    options: Options,
    database: Option<(Arc<Server>, String)>,
    // Last: the directory goes when nothing uses it.
    _dir: Dir,
}

impl Bed {
    /// For the embedded engine.
    pub fn sqlite() -> Self {
        let dir = Dir::new("store");
        Bed { options: Options { readers: 2, ..Options::sqlite(dir.path()) }, database: None, _dir: dir }
    }

    /// A database on the server that the tests of this process share. It is started by the first who asks.
    pub fn postgres() -> Self {
        static SHARED: OnceLock<Arc<Server>> = OnceLock::new();
        Bed::on(SHARED.get_or_init(|| Arc::new(Server::start())))
    }

    /// A database on `server`: for tests that stop it.
    pub fn on(server: &Arc<Server>) -> Self {
        let dir = Dir::new("store");
        let database = format!("t{}", next());
        server.sql("postgres", &format!("CREATE DATABASE {database}"));
        let options = Options { readers: 2, ..Options::postgres(dir.path(), server.url(&database)) };
        Bed { options, database: Some((server.clone(), database)), _dir: dir }
    }

    /// How to open the store.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Which engine it is, for messages.
    pub fn name(&self) -> &'static str {
        match self.options.engine {
            Engine::Sqlite => "SQLite",
            Engine::Postgres { .. } => "PostgreSQL",
        }
    }

    /// The same place with changed options.
    pub fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Opens the store; again as well, once the first is dropped.
    pub fn open(&self, migrations: &[Migrations]) -> Store {
        Store::open(&self.options, migrations).unwrap_or_else(|e| panic!("{}: {e}", self.name()))
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Runs SQL beside the store, as an administrator of its database. Only on PostgreSQL.
    pub fn sql(&self, text: &str) {
        let (server, database) = self.database.as_ref().expect("a PostgreSQL bed");
        server.sql(database, text);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some((server, database)) = &self.database {
            server.sql("postgres", &format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"));
        }
    }
}

/// A directory that goes away with its value.
pub struct Dir(PathBuf);

impl Dir {
    /// A new one below the system's directory for temporary files.
    pub fn new(name: &str) -> Self {
        Dir::within(&std::env::temp_dir(), name)
    }

    /// A new one below `place`.
    pub fn within(place: &Path, name: &str) -> Self {
        std::fs::create_dir_all(place).unwrap_or_else(|e| panic!("making {}: {e}", place.display()));
        loop {
            let dir = place.join(format!("postroom-{name}-{}-{}", std::process::id(), next()));
            match std::fs::create_dir(&dir) {
                Ok(()) => return Dir(dir),
                // A process of the same id was killed and left it.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => panic!("making {}: {e}", dir.display()),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn next() -> u32 {
    static N: AtomicU32 = AtomicU32::new(0);
    N.fetch_add(1, Ordering::Relaxed)
}
