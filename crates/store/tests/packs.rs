//! What packs promise, on both engines: an id leads to its bytes or to nothing.

#![allow(clippy::unwrap_used, clippy::panic)]

use base::BlobId;
use store::{Class, Lane, Migrations, Options, Sql, Store, Tx, params};
use testkit::{Bed, Dir, engines};

const TABLES: Migrations =
    Migrations { owner: "test", steps: &["CREATE TABLE kept (name {int} PRIMARY KEY, blob {int} NOT NULL) {table};"] };
const KEEP: Sql = Sql { name: "keep", text: "INSERT INTO kept (name, blob) VALUES (?1, ?2)" };

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

/// Stores `octets` times `byte`, with a row that refers to it.
fn keep(store: &Store, class: Class, name: i64, byte: u8, octets: usize) -> BlobId {
    let mut stager = store.stager(class);
    stager.push(&vec![byte; octets]).unwrap();
    let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
        tx.execute(&KEEP, params![name, blobs[0]])?;
        Ok(blobs[0])
    };
    block_on(store.write_with(Lane::Interactive, vec![stager.finish()], work)).unwrap()
}

/// The files of packs, by number.
fn packs(bed: &Bed) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(bed.dir().join("packs")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_number_of_a_lost_pack_is_not_used_again() {
    for bed in engines() {
        let mut store = bed.open(&[TABLES]);
        let first = keep(&store, Class::Lasting, 1, b'a', 100);
        drop(store);
        store = bed.open(&[TABLES]);
        let last = keep(&store, Class::Lasting, 2, b'b', 100);
        drop(store);
        std::fs::remove_file(packs(&bed).pop().unwrap()).unwrap();
        store = bed.open(&[TABLES]);
        let other = keep(&store, Class::Lasting, 3, b'c', 100);
        assert!(store.blob(last).is_err(), "{}: an id of a lost pack leads to other bytes", bed.name());
        assert!(store.blob(first).is_ok() && store.blob(other).is_ok());
        // All of them are gone, and their directory.
        drop(store);
        std::fs::remove_dir_all(bed.dir().join("packs")).unwrap();
        store = bed.open(&[TABLES]);
        keep(&store, Class::Lasting, 4, b'd', 100);
        for lost in [first, last, other] {
            assert!(store.blob(lost).is_err(), "{}: an id of a lost pack leads to other bytes", bed.name());
        }
    }
}

#[test]
fn the_number_of_a_swept_pack_is_not_used_again() {
    for bed in engines() {
        let mut store = bed.open(&[TABLES]);
        let gone = keep(&store, Class::Transit, 1, b'a', 1 << 20);
        drop(store);
        store = bed.open(&[TABLES]);
        assert_eq!(block_on(store.sweep_transit(|_, _, _| Ok(false))).unwrap(), 1);
        drop(store);
        store = bed.open(&[TABLES]);
        keep(&store, Class::Transit, 2, b'b', 1 << 20);
        assert!(store.blob(gone).is_err(), "{}: an id of a swept pack leads to other bytes", bed.name());
    }
}

/// Tables that were lost, or come from a backup, do not make it give the numbers of files that are there.
#[test]
fn a_number_that_a_file_has_is_not_used_again() {
    let bed = Bed::sqlite();
    let mut store = bed.open(&[TABLES]);
    keep(&store, Class::Lasting, 1, b'a', 100);
    drop(store);
    for name in ["postroom.db", "postroom.db-wal", "postroom.db-shm"] {
        let _ = std::fs::remove_file(bed.dir().join(name));
    }
    store = bed.open(&[TABLES]);
    let new = keep(&store, Class::Lasting, 1, b'b', 100);
    assert_eq!(packs(&bed).len(), 2);
    assert!(store.blob(new).unwrap().verify().is_ok());
}

#[test]
fn the_room_ahead_of_the_records_is_given_back_and_does_no_harm_if_it_is_not() {
    // On PostgreSQL other machines may read them: they have none.
    for bed in engines().filter(|bed| bed.name() == "SQLite") {
        let store = bed.open(&[TABLES]);
        let blob = keep(&store, Class::Lasting, 1, b'a', 100);
        let path = packs(&bed).pop().unwrap();
        let as_a_crash_leaves_it = std::fs::read(&path).unwrap();
        // The magic; a header, 100 octets, and 4 up to a multiple of 8.
        let records = 16 + 48 + 104;
        assert!(as_a_crash_leaves_it.len() > 2 * records && as_a_crash_leaves_it[records..].iter().all(|b| *b == 0));
        drop(store);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), records as u64, "{}", bed.name());
        std::fs::write(&path, as_a_crash_leaves_it).unwrap();
        let store = bed.open(&[TABLES]);
        let other = keep(&store, Class::Lasting, 2, b'b', 100);
        store.blob(blob).unwrap().verify().unwrap();
        store.blob(other).unwrap().verify().unwrap();
    }
}

/// Two stores on one PostgreSQL and one directory of packs, of which the first keeps them.
fn two() -> (Bed, [Dir; 2], [Store; 2]) {
    let dirs = [Dir::new("shared"), Dir::new("other")];
    let bed = Bed::postgres().with(|options| options.shared = Some(dirs[0].path().to_owned()));
    let keeper = bed.open(&[TABLES]);
    let options = Options { dir: dirs[1].path().to_owned(), keeps: false, ..bed.options().clone() };
    let other = Store::open(&options, &[TABLES]).unwrap();
    (bed, dirs, [keeper, other])
}

#[test]
fn two_processes_read_what_the_other_has_written() {
    let (bed, _dirs, [keeper, other]) = two();
    for (n, (writer, reader)) in [(&keeper, &other), (&other, &keeper)].into_iter().enumerate() {
        for (m, class) in [Class::Lasting, Class::Transit].into_iter().enumerate() {
            let id = keep(writer, class, (10 * n + m) as i64, b'a', 300_000);
            assert_eq!(reader.blob(id).unwrap().len(), 300_000);
        }
    }
    // Nobody else can look after them, and nobody else's packs are these.
    let third = Dir::new("third");
    let third = Options { dir: third.path().to_owned(), ..bed.options().clone() };
    assert!(matches!(Store::open(&third, &[TABLES]), Err(store::Error::Busy)));
    let elsewhere = Options { shared: None, ..third };
    assert!(matches!(Store::open(&elsewhere, &[TABLES]), Err(store::Error::Corrupt(_))));
}

/// A pack is as good as unreferenced until the commit that refers to it: who keeps the packs must not take it away then.
#[test]
fn trap_23_a_pack_that_another_process_writes_to_is_left_alone() {
    let (_bed, _dirs, [keeper, other]) = two();
    let sweep = |store: &Store| block_on(store.sweep_transit(|_, _, _| Ok(false))).unwrap();
    let first = keep(&other, Class::Transit, 1, b'a', 1000);
    assert_eq!(sweep(&keeper), 0, "it is written to");
    // Full now: of the first pack nothing is at work any more, and of the second the next blob is.
    keep(&other, Class::Transit, 2, b'b', 64 << 20);
    let last = keep(&other, Class::Transit, 3, b'c', 1000);
    assert_eq!(sweep(&keeper), 0, "the other has not let go of it");
    assert_eq!(sweep(&other), 0, "it does not keep them");
    assert_eq!(sweep(&keeper), 1);
    assert!(other.blob(first).is_err() && keeper.blob(first).is_err());
    assert!(other.blob(last).is_ok() && keeper.blob(last).is_ok());
    // Its process is gone.
    drop(other);
    assert_eq!(sweep(&keeper), 1);
}
