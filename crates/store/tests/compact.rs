//! Compaction's contract, on both engines: dead space is given back, and nobody notices.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use base::BlobId;
use store::{Class, Compacted, Error, Lane, Migrations, Options, References, Result, Sql, Store, Tx, params};
use testkit::{Bed, Dir, engines};

/// Two tables that refer to blobs: the rows of `kept` are many, those of `queued` share blobs with them.
const TABLES: Migrations = Migrations {
    owner: "test",
    steps: &["CREATE TABLE kept (name {int} PRIMARY KEY, blob {int} NOT NULL, octets {int} NOT NULL) {table};
              CREATE INDEX kept_blob ON kept (blob, octets);
              CREATE TABLE queued (name {int} PRIMARY KEY, blob {int} NOT NULL) {table};
              CREATE INDEX queued_blob ON queued (blob);"],
};
const KEEP: Sql = Sql { name: "keep", text: "INSERT INTO kept (name, blob, octets) VALUES (?1, ?2, ?3)" };
const QUEUE: Sql =
    Sql { name: "queue", text: "INSERT INTO queued (name, blob) SELECT name, blob FROM kept WHERE name = ?1" };
const LOCK: Sql = Sql { name: "lock", text: "UPDATE kept SET name = name WHERE name = ?1" };
const COPY: Sql = Sql {
    name: "copy",
    text: "INSERT INTO kept (name, blob, octets) SELECT CAST(?2 AS BIGINT), blob, octets FROM kept WHERE name = ?1",
};
const DROP: Sql = Sql { name: "drop", text: "DELETE FROM kept WHERE name = ?1" };
const ALL: Sql = Sql { name: "all", text: "SELECT name, blob, octets FROM kept ORDER BY name" };
const QUEUED: Sql = Sql { name: "queued", text: "SELECT name, blob FROM queued ORDER BY name" };
const ONE: Sql = Sql { name: "one", text: "SELECT blob, octets FROM kept WHERE name = ?1" };

const KEPT_BETWEEN: Sql = Sql {
    name: "kept between",
    text: "SELECT blob, max(octets) FROM kept WHERE blob >= ?1 AND blob < ?2 GROUP BY blob ORDER BY blob LIMIT ?3",
};
const KEPT_MOVE: Sql = Sql {
    name: "kept move",
    text: "UPDATE kept SET blob = ?2 WHERE blob = ?1 AND name IN (SELECT name FROM kept WHERE blob = ?1 LIMIT ?3)",
};
const QUEUED_BETWEEN: Sql = Sql {
    name: "queued between",
    text: "SELECT DISTINCT blob FROM queued WHERE blob >= ?1 AND blob < ?2 ORDER BY blob LIMIT ?3",
};
const QUEUED_MOVE: Sql = Sql { name: "queued move", text: "UPDATE queued SET blob = ?2 WHERE blob = ?1" };

const REFERENCES: &[References] = &[
    References {
        between: |tx, from, to, n| {
            tx.list(&KEPT_BETWEEN, params![from, to, n], |r| Ok((BlobId(r.int(0)?), r.int(1)? as u64)))
        },
        repoint: |tx, old, new, most| tx.execute(&KEPT_MOVE, params![old, new, most as i64]),
    },
    References {
        between: |tx, from, to, n| tx.list(&QUEUED_BETWEEN, params![from, to, n], |r| Ok((BlobId(r.int(0)?), 0))),
        repoint: |tx, old, new, _| tx.execute(&QUEUED_MOVE, params![old, new]),
    },
];

/// A lasting pack is full at so much in these tests.
const FULL: u64 = 40_000;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// What is stored under a name: its length and bytes follow from it.
fn bytes(name: i64) -> Vec<u8> {
    let octets = 1000 + name as usize * 1237 % 7000;
    (0..octets).map(|i| (i as i64 * 31 + name) as u8).collect()
}

fn keep(store: &Store, name: i64) -> Result<BlobId> {
    let (mut stager, body) = (store.stager(Class::Lasting), bytes(name));
    stager.push(&body)?;
    let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
        tx.execute(&KEEP, params![name, blobs[0], body.len() as i64])?;
        Ok(blobs[0])
    };
    block_on(store.write_with(Lane::Interactive, vec![stager.finish()], work))
}

fn keep_all(store: &Store, names: std::ops::Range<i64>) {
    for name in names {
        keep(store, name).unwrap();
    }
}

fn drop_names(store: &Store, names: impl IntoIterator<Item = i64>) {
    let names: Vec<_> = names.into_iter().collect();
    store
        .write_blocking(move |tx| names.iter().try_for_each(|name| tx.execute(&DROP, params![*name]).map(drop)))
        .unwrap();
}

fn all(store: &Store) -> Vec<(i64, BlobId)> {
    store.read_blocking(|tx| tx.list(&ALL, params![], |r| Ok((r.int(0)?, BlobId(r.int(1)?))))).unwrap()
}

fn queued(store: &Store) -> Vec<(i64, BlobId)> {
    store.read_blocking(|tx| tx.list(&QUEUED, params![], |r| Ok((r.int(0)?, BlobId(r.int(1)?))))).unwrap()
}

/// Every name leads to its bytes.
fn check(store: &Store) {
    for (name, blob) in all(store) {
        let mut found = Vec::new();
        store.blob(blob).unwrap().read(0, u64::MAX, &mut found).unwrap();
        // A copy has the bytes of its original.
        assert!(found == bytes(name % COPIES), "the bytes of {name}");
    }
}

/// Names of copies are those of their originals and this.
const COPIES: i64 = 1_000_000;

fn compact(store: &Store) -> Compacted {
    store.compact(REFERENCES, &mut || true).unwrap()
}

fn lasting(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("packs")).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "lasting")).collect();
    files.sort();
    files
}

fn octets(dir: &Path) -> u64 {
    lasting(dir).iter().map(|p| p.metadata().unwrap().len()).sum()
}

fn beds() -> impl Iterator<Item = Bed> {
    engines().map(|bed| bed.with(|options| options.pack_octets = FULL))
}

/// A store with some packs: dead ones, sparse ones, dense ones, and the one that is written to.
fn furnished(bed: &Bed) -> Store {
    let store = bed.open(&[TABLES]);
    keep_all(&store, 0..150);
    store.write_blocking(|tx| tx.execute(&QUEUE, params![70])).unwrap();
    // The first packs are dead, in the next ones every fifth lives, then all.
    drop_names(&store, (0..50).chain((50..100).filter(|n| n % 5 != 0)));
    store
}

#[test]
fn dead_space_is_given_back_and_the_rest_stays() {
    for bed in beds() {
        let store = furnished(&bed);
        let (before, size, files) = (all(&store), octets(bed.dir()), lasting(bed.dir()).len());
        let done = compact(&store);
        assert!(done.packs >= 4 && done.copied >= 5 && done.copied < 20, "{}: {done:?}", bed.name());
        assert!(lasting(bed.dir()).len() < files - 2);
        assert!(octets(bed.dir()) < size * 2 / 3, "{}: {size}, then {}", bed.name(), octets(bed.dir()));
        check(&store);
        let after = all(&store);
        let moved: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(moved.len() as u64, done.copied, "what stood among the living was not touched");
        assert!(moved.contains(&70) && moved.iter().all(|n| *n < 120), "{moved:?}");
        // Two tables that refer to one blob still do.
        assert_eq!(queued(&store), after.iter().filter(|(name, _)| *name == 70).copied().collect::<Vec<_>>());
        for (name, old) in before.iter().filter(|(name, _)| moved.contains(name)) {
            assert!(matches!(store.blob(*old), Err(Error::Corrupt(_))), "{name} has moved, and its pack is gone");
        }
        assert_eq!(compact(&store), Compacted::default(), "{}: there is no more to do", bed.name());
        drop(store);
        check(&bed.open(&[TABLES]));
    }
}

#[test]
fn a_mail_to_thousands_stays_one_blob() {
    for bed in beds() {
        let store = bed.open(&[TABLES]);
        let blob = keep(&store, 0).unwrap();
        let copies = |tx: &mut Tx<'_>| (1..2000).try_for_each(|n| tx.execute(&COPY, params![0, n * COPIES]).map(drop));
        store.write_blocking(copies).unwrap();
        keep_all(&store, 1..40);
        drop_names(&store, 1..40);
        let done = compact(&store);
        assert_eq!(done.copied, 1, "{}", bed.name());
        let after = all(&store);
        assert!(after.len() == 2000 && after.iter().all(|(_, b)| *b == after[0].1 && *b != blob), "{}", bed.name());
        check(&store);
    }
}

/// A read that has the id of a blob in hand, and opens it only then, finds it.
#[test]
fn a_pack_stays_until_every_read_has_ended_that_may_know_its_ids() {
    for bed in beds() {
        let store = furnished(&bed);
        let (reading, compacting) = mpsc::channel();
        let reader = store.clone();
        let read = std::thread::spawn(move || {
            let blobs = reader.clone();
            reader.read_blocking(move |tx| {
                let blob = tx.one(&ONE, params![70], |r| Ok(BlobId(r.int(0)?)))?;
                reading.send(blob).unwrap();
                std::thread::sleep(Duration::from_millis(500));
                blobs.blob(blob)
            })
        });
        let old: BlobId = compacting.recv().unwrap();
        compact(&store);
        assert_ne!(all(&store).iter().find(|(name, _)| *name == 70).unwrap().1, old, "it was moved");
        let blob = read.join().unwrap().unwrap_or_else(|e| panic!("{}: {e}", bed.name()));
        // Who has it open reads on, and its pack is deleted by a later round.
        let mut found = Vec::new();
        blob.read(0, u64::MAX, &mut found).unwrap();
        assert!(found == bytes(70));
        assert!(store.blob(old).is_ok());
        drop(blob);
        assert_eq!((compact(&store).packs, compact(&store).packs), (1, 0), "{}", bed.name());
        assert!(store.blob(old).is_err());
    }
}

#[test]
fn mail_comes_goes_is_copied_and_read_while_packs_are_compacted() {
    for bed in beds() {
        let store = furnished(&bed);
        // For as long as it takes on a busy machine.
        let (stop, moved, until) =
            (AtomicBool::new(false), AtomicU64::new(0), Instant::now() + Duration::from_secs(60));
        let running = || !stop.load(Ordering::Relaxed);
        std::thread::scope(|s| {
            let compactor = s.spawn(|| {
                while running() {
                    moved.fetch_add(compact(&store).copied, Ordering::Relaxed);
                }
            });
            s.spawn(|| {
                for name in (200..).take_while(|_| running()) {
                    keep(&store, name).unwrap();
                    // Whoever takes an id from a row to another locks that row first.
                    let copy = move |tx: &mut Tx<'_>| {
                        tx.execute(&LOCK, params![name - 20])?;
                        tx.execute(&COPY, params![name - 20, name - 20 + COPIES])
                    };
                    if name % 3 == 0 {
                        store.write_blocking(copy).unwrap();
                    }
                    drop_names(&store, [name - 100, name - 40 + COPIES].into_iter().filter(|n| n % 4 != 0));
                }
            });
            for _ in 0..2 {
                s.spawn(|| {
                    while running() {
                        for (name, _) in all(&store) {
                            let blobs = store.clone();
                            let work = move |tx: &mut Tx<'_>| {
                                let id = tx.row(&ONE, params![name], |r| Ok(BlobId(r.int(0)?)))?;
                                id.map(|id| blobs.blob(id)).transpose()
                            };
                            let Some(blob) = store.read_blocking(work).unwrap() else { continue };
                            let mut found = Vec::new();
                            blob.read(0, u64::MAX, &mut found).unwrap();
                            assert!(found == bytes(name % COPIES), "the bytes of {name}");
                        }
                    }
                });
            }
            let enough = || moved.load(Ordering::Relaxed) > 300 || Instant::now() > until || compactor.is_finished();
            while !enough() {
                std::thread::sleep(Duration::from_millis(20));
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(moved.into_inner() > 300, "{}", bed.name());
        check(&store);
        drop(store);
        let store = bed.open(&[TABLES]);
        check(&store);
        compact(&store);
        check(&store);
    }
}

/// A copy of a directory as a crash would leave it now: the database before its log.
fn image(from: &Path) -> Dir {
    let to = Dir::new("image");
    std::fs::create_dir_all(to.path().join("packs")).unwrap();
    for name in ["postroom.db", "postroom.db-wal"] {
        std::fs::copy(from.join(name), to.path().join(name)).unwrap();
    }
    for pack in std::fs::read_dir(from.join("packs")).unwrap().map(|e| e.unwrap().path()) {
        std::fs::copy(&pack, to.path().join("packs").join(pack.file_name().unwrap())).unwrap();
    }
    to
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing() {
    let bed = Bed::sqlite().with(|options| options.pack_octets = FULL);
    let store = furnished(&bed);
    let expected = all(&store).len();
    let mut images = Vec::new();
    let mut photograph = || {
        images.push(image(bed.dir()));
        true
    };
    store.compact(REFERENCES, &mut photograph).unwrap();
    assert!(images.len() > 10);
    for dir in images {
        let store = Store::open(&Options { pack_octets: FULL, ..Options::sqlite(dir.path()) }, &[TABLES]).unwrap();
        assert_eq!(all(&store).len(), expected);
        check(&store);
        compact(&store);
        check(&store);
        assert_eq!(compact(&store), Compacted::default());
    }
}

#[test]
fn who_is_told_to_stop_stops_and_another_round_goes_on() {
    for bed in beds() {
        let store = furnished(&bed);
        let mut steps = 0;
        // Ever later.
        loop {
            let mut left = steps;
            let mut go_on = || {
                left -= 1;
                left >= 0
            };
            store.compact(REFERENCES, &mut go_on).unwrap();
            check(&store);
            if left >= 0 {
                break;
            }
            steps += 1;
        }
        assert!(steps > 5, "{}: {steps}", bed.name());
        compact(&store);
        assert_eq!(compact(&store), Compacted::default());
        check(&store);
    }
}

#[test]
fn a_damaged_blob_stays_where_it_is() {
    for bed in beds() {
        let store = bed.open(&[TABLES]);
        keep_all(&store, 0..30);
        drop_names(&store, (0..30).filter(|n| n % 10 != 3));
        let pack = lasting(bed.dir()).remove(0);
        let (mut data, body) = (std::fs::read(&pack).unwrap(), bytes(3));
        let at = data.windows(body.len()).position(|w| w == body).unwrap();
        data[at + 500] ^= 1;
        std::fs::write(&pack, data).unwrap();
        let before = all(&store);
        compact(&store);
        let after = all(&store);
        assert_eq!((after[0], after.len()), (before[0], 3), "{}", bed.name());
        assert!(after[1] != before[1] && store.blob(after[0].1).unwrap().verify().is_err());
        assert!(store.blob(after[1].1).unwrap().verify().is_ok());
    }
}

/// What stands around each would else look like dead space, and they would be copied again and again.
#[test]
fn tiny_mails_side_by_side_are_not_sparse() {
    let bed = Bed::sqlite().with(|options| options.pack_octets = FULL);
    let store = bed.open(&[TABLES]);
    for batch in 0..3 {
        let each = (batch * 800..(batch + 1) * 800).map(|name| {
            let mut stager = store.stager(Class::Lasting);
            stager.push(b"tiny").unwrap();
            let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| tx.execute(&KEEP, params![name, blobs[0], 4]);
            store.write_with(Lane::Interactive, vec![stager.finish()], work)
        });
        let jobs: Vec<_> = each.collect();
        assert!(jobs.into_iter().all(|job| block_on(job).is_ok()));
    }
    assert!(lasting(bed.dir()).len() > 1);
    assert_eq!(compact(&store), Compacted::default());
}

/// Every start begins a pack, and each is an open file.
#[test]
fn many_small_packs_become_few() {
    let bed = Bed::sqlite().with(|options| options.pack_octets = 16 << 20);
    let large = |name: i64| {
        let store = bed.open(&[TABLES]);
        let mut stager = store.stager(Class::Lasting);
        stager.push(&vec![name as u8; 300_000]).unwrap();
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| tx.execute(&KEEP, params![name, blobs[0], 300_000]);
        block_on(store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap();
    };
    (0..60).for_each(large);
    assert_eq!(compact(&bed.open(&[TABLES])), Compacted::default());
    (60..70).for_each(large);
    let store = bed.open(&[TABLES]);
    assert_eq!(compact(&store).copied, 70);
    assert_eq!(lasting(bed.dir()).len(), 2);
    for (name, blob) in all(&store) {
        let mut found = Vec::new();
        store.blob(blob).unwrap().read(0, u64::MAX, &mut found).unwrap();
        assert!(found == vec![name as u8; 300_000]);
    }
    assert_eq!(compact(&store), Compacted::default());
}
