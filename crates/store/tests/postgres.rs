//! What goes wrong on a server with many connections: conflicts, lost connections, restarts. Nothing that was
//! acknowledged is lost or done twice.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use store::{Engine, Error, Gap, Migrations, Sql, Store, Tx, params};
use testkit::{Bed, Server};

/// `log` has no key: what is done twice shows.
const TABLES: Migrations = Migrations {
    owner: "test",
    steps: &["CREATE TABLE n (k {int} PRIMARY KEY, size {int} NOT NULL) {table}; CREATE TABLE log (k {int}) {table};"],
};
const ADD: Sql = Sql { name: "add", text: "INSERT INTO n (k, size) VALUES (?1, 0)" };
const HAS: Sql = Sql { name: "has", text: "SELECT 1 FROM n WHERE k = ?1" };
const NEXT: Sql = Sql { name: "next", text: "UPDATE n SET size = size + 1 WHERE k = ?1 RETURNING size" };
const SIZES: Sql = Sql { name: "sizes", text: "SELECT size FROM n ORDER BY k" };
const LOG: Sql = Sql { name: "log", text: "INSERT INTO log (k) VALUES (?1)" };
const LOGGED: Sql = Sql { name: "logged", text: "SELECT k FROM log ORDER BY k" };

fn refusal() -> Error {
    base::Error::new(base::Reply::new(550, 1, 1, "it is there")).into()
}

fn open(bed: &Bed) -> Store {
    let store = bed.open(&[TABLES]);
    for k in 0..2 {
        store.write_blocking(move |tx| tx.execute(&ADD, params![k])).unwrap();
    }
    store
}

fn list(store: &Store, sql: &'static Sql) -> Vec<i64> {
    store.read_blocking(move |tx| tx.list(sql, params![], |r| r.int(0))).unwrap()
}

/// Waits until `done`; a minute is never.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets the first run of two jobs meet at a point; later runs pass.
struct Meeting(Barrier, [AtomicBool; 2]);

impl Meeting {
    fn new() -> Arc<Self> {
        Arc::new(Meeting(Barrier::new(2), Default::default()))
    }

    fn point(&self, who: usize) {
        if !self.1[who].swap(true, Ordering::Relaxed) {
            self.0.wait();
        }
    }
}

/// Runs `job(who, …)` twice at once.
fn both(
    store: &Store,
    job: impl Fn(usize, &mut Tx<'_>) -> store::Result<()> + Send + Sync + 'static,
) -> [store::Result<()>; 2] {
    let job = Arc::new(job);
    let start = |who| {
        let (store, job) = (store.clone(), job.clone());
        std::thread::spawn(move || store.write_blocking(move |tx| job(who, tx)))
    };
    [start(0), start(1)].map(|t| t.join().unwrap())
}

/// Each holds what the other wants next: PostgreSQL ends one of them (40P01), and it is run again.
#[test]
fn trap_21_two_jobs_in_a_deadlock_both_end_well() {
    let bed = Bed::postgres();
    let store = open(&bed);
    let (meeting, runs) = (Meeting::new(), Arc::new(AtomicU32::new(0)));
    let ran = runs.clone();
    let outcomes = both(&store, move |who, tx| {
        ran.fetch_add(1, Ordering::Relaxed);
        tx.one(&NEXT, params![who as i64], |r| r.int(0))?;
        meeting.point(who);
        tx.one(&NEXT, params![1 - who as i64], |r| r.int(0))?;
        Ok(())
    });
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(list(&store, &SIZES), [2, 2]);
    assert!(runs.load(Ordering::Relaxed) > 2, "there was no deadlock");
}

/// Both look and find nothing; the one whose INSERT comes second looks again, and says what it has to say about that.
#[test]
fn of_two_jobs_that_make_the_same_row_the_second_finds_it() {
    for waits in [true, false] {
        let bed = Bed::postgres();
        let store = open(&bed);
        let meeting = Meeting::new();
        let outcomes = both(&store, move |who, tx| {
            if tx.row(&HAS, params![7], |r| r.int(0))?.is_some() {
                return Err(refusal());
            }
            meeting.point(who);
            if waits { tx.execute(&ADD, params![7]).map(drop) } else { tx.send(&ADD, params![7]) }
        });
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
        assert!(outcomes.iter().any(|o| matches!(o, Err(e) if e.refusal().is_some())), "{outcomes:?}");
    }
}

/// The statement fails behind the rows that were looked at: COMMIT alone would roll back and say it went well.
#[test]
fn trap_32_a_commit_that_was_a_rollback_is_not_acknowledged() {
    const FAILS_LATE: Sql = Sql {
        name: "fails late",
        text: "SELECT repeat('x', 1000), 1 / (20000 - n) FROM generate_series(1, 20000) AS n",
    };
    let bed = Bed::postgres();
    let store = open(&bed);
    let outcome = store.write_blocking(|tx| {
        tx.execute(&LOG, params![1])?;
        let _ = tx.rows(&FAILS_LATE, params![], |_| Err(refusal()));
        Ok(())
    });
    assert!(outcome.is_err());
    assert!(list(&store, &LOGGED).is_empty());
}

/// What a load of jobs came to. Each takes the next number of a row, writes a line and tells of it.
#[derive(Default)]
struct Load {
    acknowledged: BTreeSet<i64>,
    failed: BTreeSet<i64>,
    /// How many of these may be there all the same.
    unknown: usize,
    why: BTreeSet<String>,
    told: Vec<i64>,
    gaps: usize,
}

/// Runs jobs from eight threads until `until` says so, and on for `until` being watched by each.
fn load(store: &Store, until: &AtomicBool) -> Load {
    let heard = Arc::new(Mutex::new((Vec::new(), 0)));
    let ear = heard.clone();
    store.subscribe(Box::new(move |e| {
        let mut heard = ear.lock().unwrap();
        match e.downcast_ref::<i64>() {
            Some(k) => heard.0.push(*k),
            None => heard.1 += usize::from(e.is::<Gap>()),
        }
    }));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|s| {
        for thread in 0..8i64 {
            let outcomes = &outcomes;
            s.spawn(move || {
                let mut k = thread * 1_000_000;
                while !until.load(Ordering::Relaxed) {
                    k += 1;
                    let outcome = store.write_blocking(move |tx| {
                        tx.one(&NEXT, params![k % 2], |r| r.int(0))?;
                        tx.send(&LOG, params![k])?;
                        tx.publish(Arc::new(k));
                        Ok(())
                    });
                    outcomes.lock().unwrap().push((k, outcome));
                }
            });
        }
    });
    let mut load = Load::default();
    for (k, outcome) in outcomes.into_inner().unwrap() {
        match outcome {
            Ok(()) => load.acknowledged.insert(k),
            Err(Error::Io(text)) => {
                load.unknown += usize::from(text.contains("outcome unknown"));
                load.why.insert(text.to_string());
                load.failed.insert(k)
            }
            Err(e) => panic!("job {k}: {e}"),
        };
    }
    (load.told, load.gaps) = std::mem::take(&mut *heard.lock().unwrap());
    load
}

/// Every acknowledged job is there once and was told of once; of the others only those of unknown outcome may be there.
fn check(store: &Store, load: &Load) {
    let logged = list(store, &LOGGED);
    let once: BTreeSet<i64> = logged.iter().copied().collect();
    assert_eq!(once.len(), logged.len(), "done twice");
    assert!(load.acknowledged.is_subset(&once), "lost: {:?}", load.acknowledged.difference(&once));
    let more: BTreeSet<i64> = once.difference(&load.acknowledged).copied().collect();
    assert!(more.is_subset(&load.failed) && more.len() <= load.unknown, "{more:?}");
    assert_eq!(list(store, &SIZES).iter().sum::<i64>(), logged.len() as i64);
    let told: BTreeSet<i64> = load.told.iter().copied().collect();
    assert!(told == load.acknowledged && told.len() == load.told.len(), "told of what was acknowledged, once");
    assert_eq!(load.gaps, load.unknown);
}

const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND application_name = 'postroom'";

#[test]
fn trap_21_killed_connections_lose_nothing_and_double_nothing() {
    let bed = Bed::postgres();
    let store = open(&bed);
    let stop = AtomicBool::new(false);
    let load = std::thread::scope(|s| {
        s.spawn(|| {
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(50));
                bed.sql(KILL);
            }
            stop.store(true, Ordering::Relaxed);
        });
        load(&store, &stop)
    });
    check(&store, &load);
    assert!(load.acknowledged.len() > 100, "{} jobs got through", load.acknowledged.len());
    // Who had not sent COMMIT yet was run again.
    assert_eq!(load.failed.len(), load.unknown, "{:?}", load.why);
}

/// Idle connections die too: the next job and the next read do not notice.
#[test]
fn connections_killed_while_idle_are_replaced_unseen() {
    let bed = Bed::postgres();
    let store = open(&bed);
    for k in 0..20 {
        bed.sql(KILL);
        store.write_blocking(move |tx| tx.execute(&LOG, params![k])).unwrap();
        assert_eq!(list(&store, &LOGGED).len() as i64, k + 1);
    }
}

/// Stopped in good order and crashed, in turns.
#[test]
fn trap_21_a_server_restarted_under_load_loses_nothing() {
    let server = Arc::new(Server::start());
    let bed = Bed::on(&server);
    let store = open(&bed);
    let stop = AtomicBool::new(false);
    let load = std::thread::scope(|s| {
        s.spawn(|| {
            for signal in ["INT", "QUIT", "INT", "QUIT"] {
                std::thread::sleep(Duration::from_millis(300));
                server.stop(signal);
                server.start_again();
            }
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        load(&store, &stop)
    });
    // After a long outage it may take a moment.
    eventually("a read", || store.read_blocking(|tx| tx.prepare(&LOGGED)).is_ok());
    check(&store, &load);
    assert!(load.acknowledged.len() > 100, "{} jobs got through", load.acknowledged.len());
    eventually("a write", || store.write_blocking(|tx| tx.execute(&LOG, params![-1])).is_ok());
}

#[test]
fn trap_21_an_outage_is_answered_and_ends_by_itself() {
    let server = Arc::new(Server::start());
    let bed = Bed::on(&server);
    let store = open(&bed);
    server.stop("INT");
    let write = || store.write_blocking(|tx| tx.execute(&LOG, params![1]));
    assert!(matches!(write(), Err(Error::Io(_))));
    assert!(matches!(store.read_blocking(|tx| tx.list(&LOGGED, params![], |r| r.int(0))), Err(Error::Io(_))));
    server.start_again();
    eventually("a write", || write().is_ok());
    eventually("a read", || store.read_blocking(|tx| tx.prepare(&LOGGED)).is_ok());
    assert_eq!(list(&store, &LOGGED), [1]);
}

/// Stands between the store and the server; once armed, it cuts the connection at the next COMMIT.
struct Cutter {
    dir: testkit::Dir,
    /// The server gets the COMMIT before the cut.
    passes: bool,
    armed: AtomicBool,
}

impl Cutter {
    fn start(server: &std::path::Path, passes: bool) -> Arc<Self> {
        let cutter = Arc::new(Cutter { dir: testkit::Dir::new("cutter"), passes, armed: AtomicBool::new(false) });
        let listener = UnixListener::bind(cutter.dir.path().join(".s.PGSQL.5432")).unwrap();
        let (this, server) = (Arc::downgrade(&cutter), server.join(".s.PGSQL.5432"));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(cutter)) = (client, this.upgrade()) else { return };
                let server = UnixStream::connect(&server).unwrap();
                let (back, forth) = ((server.try_clone().unwrap(), client.try_clone().unwrap()), (client, server));
                std::thread::spawn(move || std::io::copy(&mut &back.0, &mut &back.1));
                std::thread::spawn(move || cutter.pass(&forth.0, &forth.1));
            }
        });
        cutter
    }

    fn pass(&self, mut client: &UnixStream, mut server: &UnixStream) {
        let mut piece = [0; 65536];
        while let Ok(n @ 1..) = client.read(&mut piece) {
            let commit = piece[..n].windows(6).any(|w| w == b"COMMIT");
            if commit && self.armed.swap(false, Ordering::Relaxed) {
                client.shutdown(std::net::Shutdown::Both).unwrap();
                if !self.passes {
                    break;
                }
                // The server is left to do it in peace.
                server.write_all(&piece[..n]).unwrap();
                std::thread::sleep(Duration::from_millis(500));
                break;
            }
            if server.write_all(&piece[..n]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(std::net::Shutdown::Both);
    }
}

/// The answer to a COMMIT is lost; whether it was carried out, the store cannot know. It says so, to the caller and to
/// the subscribers, and does not run the job again.
#[test]
fn trap_21_a_commit_without_an_answer_is_neither_acknowledged_nor_repeated() {
    for passes in [false, true] {
        let server = Arc::new(Server::start());
        let cutter = Cutter::start(server.dir(), passes);
        let bed = Bed::on(&server).with(|o| {
            let Engine::Postgres { url, .. } = &mut o.engine else { panic!() };
            *url = url.replace(server.dir().to_str().unwrap(), cutter.dir.path().to_str().unwrap());
        });
        let store = open(&bed);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        store.subscribe(Box::new(move |e| ear.lock().unwrap().push(e.is::<Gap>())));
        cutter.armed.store(true, Ordering::Relaxed);
        let runs = Arc::new(AtomicU32::new(0));
        let ran = runs.clone();
        let outcome = store.write_blocking(move |tx| {
            ran.fetch_add(1, Ordering::Relaxed);
            tx.publish(Arc::new(()));
            tx.execute(&LOG, params![1])
        });
        assert!(matches!(&outcome, Err(Error::Io(text)) if text.contains("outcome unknown")), "{outcome:?}");
        assert_eq!(runs.load(Ordering::Relaxed), 1);
        assert_eq!(*heard.lock().unwrap(), [true]);
        if passes {
            eventually("the COMMIT that was passed on", || list(&store, &LOGGED) == [1]);
        }
        store.write_blocking(|tx| tx.execute(&LOG, params![2])).unwrap();
        assert_eq!(list(&store, &LOGGED), if passes { vec![1, 2] } else { vec![2] });
    }
}
