//! A disk that takes no more. The test runs itself again as a child whose files may not grow, and grants it room later.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use base::BlobId;
use store::{Class, Error, Lane, Migrations, Options, References, Sql, Store, params};
use testkit::Bed;

const TABLES: Migrations =
    Migrations { owner: "test", steps: &["CREATE TABLE t (k {int} PRIMARY KEY, v {bytes}) {table};"] };
const ADD: Sql = Sql { name: "add", text: "INSERT INTO t (k, v) VALUES (?1, ?2)" };
const KEYS: Sql = Sql { name: "keys", text: "SELECT k FROM t ORDER BY k" };

fn keys(store: &Store) -> Vec<i64> {
    store.read_blocking(|tx| tx.list(&KEYS, params![], |r| r.int(0))).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// The largest size a file of this process may have; the hard limit stays open.
fn limit(octets: &str) {
    let pid = std::process::id().to_string();
    let done = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={octets}:")]).status();
    assert!(done.unwrap().success(), "prlimit is part of the Debian package util-linux");
}

/// A write beyond the limit fails with EFBIG, once the signal that comes with it is ignored.
fn run_child(test: &str) {
    let output = Command::new("env")
        .arg("--ignore-signal=XFSZ")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn trap_32_a_full_disk_fails_the_group_and_later_writes_work_again() {
    run_child("full_database");
}

#[test]
#[ignore = "run by the test above, which sets the stage"]
fn full_database() {
    let bed = Bed::sqlite();
    let store = bed.open(&[TABLES]);
    store.write_blocking(|tx| tx.execute(&ADD, params![0, None::<&[u8]>])).unwrap();
    limit("200000");
    let mut acknowledged = vec![0];
    block_on(async {
        // Small ones that wait together with one that is too large: with it or before it, never half.
        let jobs: Vec<_> = (1..100i64)
            .map(|k| {
                let v = vec![1u8; if k == 50 { 1_000_000 } else { 10 }];
                store.write_with(Lane::Interactive, Vec::new(), move |tx, _| tx.execute(&ADD, params![k, &v[..]]))
            })
            .collect();
        for (k, job) in (1..).zip(jobs) {
            match job.await {
                Ok(_) => acknowledged.push(k),
                Err(Error::Io(_)) => {}
                Err(e) => panic!("job {k}: {e}"),
            }
        }
    });
    assert!(!acknowledged.contains(&50));
    assert_eq!(keys(&store), acknowledged);
    limit("unlimited");
    store.write_blocking(|tx| tx.execute(&ADD, params![50, &vec![1u8; 1_000_000][..]])).unwrap();
    acknowledged.push(50);
    acknowledged.sort_unstable();
    drop(store);
    assert_eq!(keys(&bed.open(&[TABLES])), acknowledged);
}

#[test]
fn trap_32_a_full_disk_fails_the_blob_and_its_job_never_runs() {
    run_child("full_packs");
}

#[test]
#[ignore = "run by the test above, which sets the stage"]
fn full_packs() {
    let bed = Bed::sqlite();
    let store = bed.open(&[TABLES]);
    let write = |k: i64, size: usize| {
        let mut stager = store.stager(Class::Lasting);
        stager.push(&vec![k as u8; size]).map(|()| stager.finish()).and_then(|staged| {
            block_on(store.write_with(Lane::Interactive, vec![staged], move |tx, ids| {
                tx.execute(&ADD, params![k, None::<&[u8]>])?;
                Ok(ids[0])
            }))
        })
    };
    let first = write(1, 50_000).unwrap();
    limit("100000");
    assert!(matches!(write(2, 200_000), Err(Error::Io(_))));
    assert!(matches!(write(3, 400_000), Err(Error::Io(_))));
    assert_eq!(keys(&store), [1]);
    limit("unlimited");
    let last = write(4, 200_000).unwrap();
    assert_eq!(keys(&store), [1, 4]);
    for id in [first, last] {
        store.blob(id).unwrap().verify().unwrap();
    }
}

#[test]
fn a_pack_stays_while_nobody_knows_whether_rows_refer_to_it() {
    run_child("unknown_outcome");
}

#[test]
#[ignore = "run by the test above, which sets the stage"]
fn unknown_outcome() {
    let bed = Bed::sqlite();
    let store = bed.open(&[TABLES]);
    let sweep = |store: &Store| block_on(store.sweep_transit(|_, _, _| Ok(false))).unwrap();
    let stage = |octets: usize| {
        let mut stager = store.stager(Class::Transit);
        (0..octets / 1000).for_each(|_| stager.push(&[1; 1000]).unwrap());
        vec![stager.finish()]
    };
    limit("200000");
    let add = |tx: &mut store::Tx<'_>, _: &[BlobId]| tx.execute(&ADD, params![1, &[1; 1_000_000][..]]);
    assert!(matches!(block_on(store.write_with(Lane::Interactive, stage(1000), add)), Err(Error::Io(_))));
    limit("unlimited");
    // With this the pack is full, and nobody writes to it any more.
    block_on(store.write_with(Lane::Interactive, stage(64 << 20), |_, _| Ok(()))).unwrap();
    assert_eq!(sweep(&store), 0, "the commit may yet be found on the disk after a crash");
    drop(store);
    assert_eq!(sweep(&bed.open(&[TABLES])), 1);
}

#[test]
fn trap_32_a_full_disk_gets_room_before_it_is_asked_for_some() {
    run_child("full_compaction");
}

const BETWEEN: Sql = Sql { name: "between", text: "SELECT k FROM t WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT ?3" };
const MOVE: Sql = Sql { name: "move", text: "UPDATE t SET k = ?2 WHERE k = ?1" };
const DROP: Sql = Sql { name: "drop", text: "DELETE FROM t WHERE k = ?1" };
/// A row's key is its blob.
const REFERENCES: &[References] = &[References {
    between: |tx, from, to, n| tx.list(&BETWEEN, params![from, to, n], |r| Ok((BlobId(r.int(0)?), 50_000))),
    repoint: |tx, old, new, _| tx.execute(&MOVE, params![old, new]),
}];

#[test]
#[ignore = "run by the test above, which sets the stage"]
fn full_compaction() {
    let bed = Bed::sqlite().with(|options: &mut Options| options.pack_octets = 400_000);
    let store = bed.open(&[TABLES]);
    let write = |size: usize| {
        let mut stager = store.stager(Class::Lasting);
        stager.push(&vec![1; size]).unwrap();
        let work = |tx: &mut store::Tx<'_>, ids: &[BlobId]| {
            tx.execute(&ADD, params![ids[0], None::<&[u8]>])?;
            Ok(ids[0])
        };
        block_on(store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap()
    };
    let forget = |id: BlobId| {
        store.write_blocking(move |tx| tx.execute(&DROP, params![id])).unwrap();
    };
    // A pack that is sparse, and behind it one that is dead.
    (0..8).map(|_| write(50_000)).skip(1).for_each(forget);
    forget(write(400_000));
    limit("20000");
    assert!(matches!(store.compact(REFERENCES, &mut || true), Err(Error::Io(_))));
    let packs = || store.scan_packs(|_, _, _| {}).unwrap().iter().filter(|p| p.octets > 200_000).count();
    assert_eq!(packs(), 1, "the dead one has made room");
    limit("unlimited");
    assert_eq!(store.compact(REFERENCES, &mut || true).unwrap().copied, 1);
    assert_eq!(packs(), 0);
    store.blob(BlobId(keys(&store)[0])).unwrap().verify().unwrap();
}

/// What a file beside the store says is free.
fn told(dir: &Path) -> std::io::Result<u64> {
    let text = std::fs::read_to_string(dir.ancestors().find(|d| d.join("free").exists()).unwrap().join("free"))?;
    text.parse().map_err(std::io::Error::other)
}

#[test]
fn trap_32_a_nearly_full_disk_takes_no_new_mail_and_is_well_again_by_itself() {
    let bed = Bed::sqlite().with(|options| (options.reserve, options.free_space) = (1000, told));
    let free = |octets: u64| std::fs::write(bed.dir().join("free"), octets.to_string()).unwrap();
    free(1000);
    let store = bed.open(&[TABLES]);
    let write = |k: i64| {
        let mut stager = store.stager(Class::Lasting);
        stager.push(b"a mail")?;
        let add = move |tx: &mut store::Tx<'_>, ids: &[BlobId]| {
            tx.execute(&ADD, params![k, None::<&[u8]>])?;
            Ok(ids[0])
        };
        block_on(store.write_with(Lane::Interactive, vec![stager.finish()], add))
    };
    let until = |full: bool| {
        let begun = Instant::now();
        while store.check_space().is_err() != full {
            assert!(begun.elapsed() < Duration::from_secs(10), "nobody looked");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let blob = write(1).unwrap();
    free(999);
    until(true);
    let refused = write(2).unwrap_err();
    assert_eq!(base::Error::from(refused).reply().to_string()[..9], *"452 4.3.1");
    // Reading, changing and deleting go on.
    store.blob(blob).unwrap().verify().unwrap();
    store.write_blocking(|tx| tx.execute(&ADD, params![3, None::<&[u8]>])).unwrap();
    store.write_blocking(|tx| tx.execute(&DROP, params![1])).unwrap();
    // An eighth more than the reserve.
    free(1125);
    until(false);
    write(4).unwrap();
    assert_eq!(keys(&store), [3, 4]);
    drop(store);
    // It starts all the same: who deletes mail makes room.
    free(0);
    assert!(matches!(bed.open(&[TABLES]).check_space(), Err(Error::Full)));
}

#[test]
fn trap_32_packs_that_cannot_be_written_to_are_found_at_the_start() {
    run_child("probed");
}

#[test]
#[ignore = "run by the test above, which sets the stage"]
fn probed() {
    let bed = Bed::sqlite();
    drop(bed.open(&[TABLES]));
    // Enough for the database, whose log is begun anew.
    limit("4000");
    let said = Store::open(bed.options(), &[TABLES]).err().unwrap().to_string();
    let packs = bed.dir().join("packs").display().to_string();
    assert!(said.contains(&format!("{packs} cannot be written to: ")), "{said}");
    limit("unlimited");
    drop(bed.open(&[TABLES]));
}
