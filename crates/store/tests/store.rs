//! The store's contract: what a floor above may rely on.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use store::{Class, Error, Lane, Migrations, Options, Sql, Store, params};

const TABLES: Migrations = Migrations {
    owner: "test",
    steps: &["CREATE TABLE t (owner {int} NOT NULL, k {int} NOT NULL, v {bytes}, PRIMARY KEY (owner, k)) {clustered};"],
};
const ADD: Sql = Sql { name: "add", text: "INSERT INTO t (owner, k, v) VALUES (?1, ?2, ?3)" };
const COUNT: Sql = Sql { name: "count", text: "SELECT count(*) FROM t WHERE owner = ?1" };
const GET: Sql = Sql { name: "get", text: "SELECT v FROM t WHERE owner = ?1 AND k = ?2" };

/// A directory that goes away with the test.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("postroom-store-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn open(&self) -> Store {
        Store::open(&Options::sqlite(&self.0), &[TABLES]).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn count(store: &Store, owner: i64) -> i64 {
    store.read_blocking(move |tx| tx.one(&COUNT, params![owner], |r| r.int(0))).unwrap()
}

#[test]
fn a_refused_job_leaves_nothing_and_its_neighbours_alone() {
    let dir = Dir::new();
    let store = dir.open();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let jobs: Vec<_> = (0..200)
            .map(|k| {
                store.write_with(Lane::Interactive, Vec::new(), move |tx, _| {
                    tx.execute(&ADD, params![1, k, None::<i64>])?;
                    if k % 3 == 0 {
                        return Err(base::Error::new(base::Reply::new(550, 1, 1, "no")).into());
                    }
                    Ok(k)
                })
            })
            .collect();
        for (k, job) in (0..).zip(jobs) {
            match job.await {
                Ok(got) => assert!(got == k && k % 3 != 0),
                Err(e) => assert!(k % 3 == 0 && e.refusal().is_some(), "{e}"),
            }
        }
    });
    assert_eq!(count(&store, 1), 133);
}

#[test]
fn a_job_that_panics_harms_only_itself() {
    let dir = Dir::new();
    let store = dir.open();
    let bad: store::Result<()> = store.write_blocking(|tx| {
        tx.execute(&ADD, params![1, 1, None::<i64>])?;
        panic!("a mistake of ours")
    });
    assert!(matches!(bad, Err(Error::Sql(_))));
    store.write_blocking(|tx| tx.execute(&ADD, params![1, 2, None::<i64>])).unwrap();
    assert_eq!(count(&store, 1), 1);
}

#[test]
fn a_read_is_a_snapshot_and_cannot_write() {
    let dir = Dir::new();
    let store = dir.open();
    let other = store.clone();
    store
        .read_blocking(move |tx| {
            assert_eq!(tx.one(&COUNT, params![1], |r| r.int(0))?, 0);
            other.write_blocking(|tx| tx.execute(&ADD, params![1, 1, None::<i64>]))?;
            assert_eq!(tx.one(&COUNT, params![1], |r| r.int(0))?, 0);
            assert!(tx.execute(&ADD, params![1, 2, None::<i64>]).is_err());
            Ok(())
        })
        .unwrap();
    assert_eq!(count(&store, 1), 1);
}

#[test]
fn events_are_told_in_the_order_of_commits_and_only_of_what_was_kept() {
    let dir = Dir::new();
    let store = dir.open();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = heard.clone();
    store.subscribe(Box::new(move |e| ear.lock().unwrap().push(*e.downcast_ref::<i64>().unwrap())));
    for k in 0..20i64 {
        let _ = store.write_blocking(move |tx| {
            tx.publish(Arc::new(k));
            if k % 2 == 0 { Ok(()) } else { Err(Error::Busy) }
        });
    }
    assert_eq!(*heard.lock().unwrap(), (0..20).step_by(2).collect::<Vec<i64>>());
}

#[test]
fn blobs_of_all_sizes_survive_a_reopening() {
    let dir = Dir::new();
    let sizes = [0usize, 1, 7, 8, 4096, 262_144, 262_145, 3_000_000];
    let body = |n: usize| (0..n).map(|i| (i * 31 % 251) as u8).collect::<Vec<u8>>();
    {
        let store = dir.open();
        for (k, n) in sizes.iter().enumerate() {
            let mut stager = store.stager(if k % 2 == 0 { Class::Lasting } else { Class::Transit });
            body(*n).chunks(10_007).for_each(|c| stager.push(c).unwrap());
            let staged = stager.finish().unwrap();
            let write = store.write_with(Lane::Interactive, vec![staged], move |tx, ids| {
                tx.execute(&ADD, params![1, k as i64, &ids[0].0.to_le_bytes()[..]])
            });
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write).unwrap();
        }
    }
    let store = dir.open();
    for (k, n) in sizes.iter().enumerate() {
        let id = store
            .read_blocking(move |tx| {
                tx.one(&GET, params![1, k as i64], |r| Ok(i64::from_le_bytes(r.bytes(0)?.try_into().unwrap())))
            })
            .unwrap();
        let blob = store.blob(base::BlobId(id)).unwrap();
        let mut out = Vec::new();
        blob.read(0, u64::MAX, &mut out).unwrap();
        assert!(out == body(*n), "{n} octets");
        out.clear();
        blob.read(2, 5, &mut out).unwrap();
        assert_eq!(out, body(*n).get(2..5.min(*n)).unwrap_or_default());
        blob.verify().unwrap();
    }
    assert!(store.blob(base::BlobId(77 << 32)).is_err());
}

#[test]
fn one_flipped_bit_is_found() {
    let dir = Dir::new();
    let store = dir.open();
    let mut stager = store.stager(Class::Lasting);
    stager.push(&[7; 5000]).unwrap();
    let write = store.write_with(Lane::Interactive, vec![stager.finish().unwrap()], |_, ids| Ok(ids[0]));
    let id = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(write).unwrap();
    let pack = std::fs::read_dir(dir.0.join("packs")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[3000] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    let mut bad = Vec::new();
    let reports = store.scan_packs(|id, _, verdict| bad.extend(verdict.is_err().then_some(id))).unwrap();
    assert_eq!(bad, [id]);
    assert_eq!((reports.len(), reports[0].records), (1, 1));
}

#[test]
fn a_blob_given_up_leaves_no_file() {
    let dir = Dir::new();
    let store = dir.open();
    let mut stager = store.stager(Class::Lasting);
    stager.push(&vec![1; 1_000_000]).unwrap();
    assert_eq!(std::fs::read_dir(dir.0.join("packs")).unwrap().count(), 1);
    drop(stager);
    assert_eq!(std::fs::read_dir(dir.0.join("packs")).unwrap().count(), 0);
}

#[test]
fn two_servers_cannot_have_one_directory() {
    let dir = Dir::new();
    let store = dir.open();
    assert!(matches!(Store::open(&Options::sqlite(&dir.0), &[TABLES]), Err(Error::Busy)));
    drop(store);
    dir.open();
}
