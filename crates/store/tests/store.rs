//! The store's contract: what a floor above may rely on, on either engine.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::{Arc, Mutex, mpsc};

use store::{Class, Engine, Error, Lane, Migrations, Options, Sql, Store, Tx, Value, params};
use testkit::{Bed, engines};

const TABLES: Migrations = Migrations {
    owner: "test",
    steps: &[
        "CREATE TABLE t (owner {int} NOT NULL, k {int} NOT NULL, v {bytes}, PRIMARY KEY (owner, k)) {clustered};",
        "CREATE TABLE n (name {text} PRIMARY KEY, size {int}, note {text}) {table}; CREATE INDEX n_size ON n (size);",
    ],
};
const ADD: Sql = Sql { name: "add", text: "INSERT INTO t (owner, k, v) VALUES (?1, ?2, ?3)" };
const COUNT: Sql = Sql { name: "count", text: "SELECT count(*) FROM t WHERE owner = ?1" };
const GET: Sql = Sql { name: "get", text: "SELECT v FROM t WHERE owner = ?1 AND k = ?2" };
const NEXT: Sql = Sql { name: "next", text: "UPDATE n SET size = size + 1 WHERE name = ?1 RETURNING size" };
const NAME: Sql = Sql { name: "name", text: "INSERT INTO n (name, size, note) VALUES (?1, ?2, ?3)" };
const NAMES: Sql = Sql { name: "names", text: "SELECT name, size, note FROM n ORDER BY name" };

fn count(store: &Store, owner: i64) -> i64 {
    store.read_blocking(move |tx| tx.one(&COUNT, params![owner], |r| r.int(0))).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn refusal() -> Error {
    base::Error::new(base::Reply::new(550, 1, 1, "no")).into()
}

/// On each engine: of 200 jobs that wait together every third fails with `error`, which `is_it` knows, and only those.
fn every_third_fails_alone(error: fn() -> Error, is_it: fn(&Error) -> bool) {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        block_on(async {
            let jobs: Vec<_> = (0..200)
                .map(|k| {
                    store.write_with(Lane::Interactive, Vec::new(), move |tx, _| {
                        tx.execute(&ADD, params![1, k, None::<i64>])?;
                        if k % 3 == 0 { Err(error()) } else { Ok(k) }
                    })
                })
                .collect();
            for (k, job) in (0..).zip(jobs) {
                match job.await {
                    Ok(got) => assert!(got == k && k % 3 != 0),
                    Err(e) => assert!(k % 3 == 0 && is_it(&e), "{}: {e}", bed.name()),
                }
            }
        });
        assert_eq!(count(&store, 1), 133);
    }
}

#[test]
fn a_job_that_finds_a_damaged_row_fails_alone() {
    every_third_fails_alone(|| Error::Corrupt("its row is no row".into()), |e| matches!(e, Error::Corrupt(_)));
}

#[test]
fn a_refused_job_leaves_nothing_and_its_neighbours_alone() {
    every_third_fails_alone(refusal, |e| e.refusal().is_some());
}

#[test]
fn a_job_that_panics_harms_only_itself() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        for _ in 0..10 {
            let bad: store::Result<()> = store.write_blocking(|tx| {
                tx.execute(&ADD, params![1, 1, None::<i64>])?;
                panic!("a mistake of ours")
            });
            assert!(matches!(bad, Err(Error::Sql(_))));
        }
        store.write_blocking(|tx| tx.execute(&ADD, params![1, 2, None::<i64>])).unwrap();
        assert_eq!(count(&store, 1), 1);
    }
}

#[test]
fn a_read_that_panics_harms_only_itself() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        for _ in 0..10 {
            let bad: store::Result<()> = store.read_blocking(|_| panic!("a mistake of ours"));
            assert!(bad.is_err());
        }
        assert_eq!(count(&store, 1), 0);
    }
}

/// A job that goes on after a failed statement would keep half of its work on one engine and nothing on the other.
#[test]
fn trap_21_a_failed_statement_fails_the_job_whatever_it_makes_of_it() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let add = |k| store.write_blocking(move |tx| tx.execute(&ADD, params![1, k, None::<i64>]));
        add(1).unwrap();
        let swallowed = store.write_blocking(|tx| {
            tx.execute(&ADD, params![1, 2, None::<i64>])?;
            let _ = tx.execute(&ADD, params![1, 1, None::<i64>]);
            Ok(())
        });
        assert!(matches!(swallowed, Err(Error::Sql(_))), "{}: {swallowed:?}", bed.name());
        let reworded = store.write_blocking(|tx| tx.execute(&ADD, params![1, 1, None::<i64>]).map_err(|_| refusal()));
        assert!(matches!(reworded, Err(Error::Sql(_))), "{}: {reworded:?}", bed.name());
        assert_eq!(count(&store, 1), 1);
        add(2).unwrap();
    }
}

/// More than sockets hold, and more than may be unanswered.
#[test]
fn what_is_sent_is_there_for_the_statement_behind_it() {
    const OCTETS: Sql = Sql { name: "octets", text: "SELECT count(*), CAST(sum(length(v)) AS BIGINT) FROM t" };
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let found = store.write_blocking(|tx| {
            for k in 0..1000 {
                tx.send(&ADD, params![1, k, &[7u8; 9000][..]])?;
                tx.send(&ADD, params![2, k, None::<i64>])?;
            }
            tx.one(&OCTETS, params![], |r| Ok((r.int(0)?, r.int(1)?)))
        });
        assert_eq!(found.unwrap(), (2000, 9_000_000), "{}", bed.name());
        assert_eq!(count(&store, 1) + count(&store, 2), 2000);
        // Of what is refused, or breaks off, while answers are out nothing stays, and nothing is in the way of the next.
        for panics in [false, true] {
            let refused: store::Result<()> = store.write_blocking(move |tx| {
                (0..100).try_for_each(|k| tx.send(&ADD, params![3, k, &[7u8; 9000][..]]))?;
                if panics { panic!("a mistake of ours") } else { Err(refusal()) }
            });
            assert!(refused.is_err(), "{}", bed.name());
        }
        store.write_blocking(|tx| tx.send(&ADD, params![3, 1, None::<i64>])).unwrap();
        assert_eq!(count(&store, 3), 1, "{}", bed.name());
    }
}

#[test]
fn each_of_many_is_told_its_own_answer() {
    const REMOVE: Sql = Sql { name: "remove", text: "DELETE FROM t WHERE owner = 1 AND k = ?1" };
    const MOVE: Sql = Sql { name: "move", text: "UPDATE t SET owner = 2 WHERE owner = 1 AND k = ?1 RETURNING k * 10" };
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let told = store.write_blocking(|tx| {
            for k in (0..1000).filter(|k| k % 3 != 0) {
                tx.send(&ADD, params![1, k, None::<i64>])?;
            }
            let (mut removed, mut moved) = (Vec::new(), Vec::new());
            tx.each(&REMOVE, 0..500i64, |k| [(*k).into()], |k, answer| removed.push((k, answer.changed)))?;
            tx.each(
                &MOVE,
                400..1000i64,
                |k| [(*k).into()],
                |k, answer| moved.push((k, answer.changed, answer.returned)),
            )?;
            Ok((removed, moved))
        });
        let (removed, moved) = told.unwrap();
        let is_there = |k: i64| k % 3 != 0;
        assert_eq!(removed, (0..500).map(|k| (k, u64::from(is_there(k)))).collect::<Vec<_>>(), "{}", bed.name());
        let is_left = |k: i64| k >= 500 && is_there(k);
        let expected = (400..1000).map(|k| (k, u64::from(is_left(k)), is_left(k).then_some(10 * k)));
        assert_eq!(moved, expected.collect::<Vec<_>>(), "{}", bed.name());
    }
}

/// Nobody waited for the statement that fails: the next one says so, or the job's end.
#[test]
fn trap_21_a_sent_statement_that_fails_fails_the_job() {
    fn add(tx: &mut Tx<'_>, all: impl IntoIterator<Item = i64>) -> store::Result<()> {
        all.into_iter().try_for_each(|k| tx.send(&ADD, params![1, k, None::<i64>]))
    }
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let says = |what: store::Result<()>| {
            assert!(matches!(&what, Err(Error::Sql(text)) if text.starts_with("add: ")), "{}: {what:?}", bed.name());
            assert_eq!(count(&store, 1), 0, "{}", bed.name());
        };
        says(store.write_blocking(|tx| add(tx, [1, 2, 1])));
        says(store.write_blocking(|tx| add(tx, (0..500).chain([1]).chain(500..999))));
        says(store.write_blocking(|tx| {
            add(tx, [1, 1, 2])?;
            tx.rows(&Sql { name: "all", text: "SELECT k FROM t" }, params![], |_| Ok(()))
        }));
        says(store.write_blocking(|tx| tx.attempt(|tx| add(tx, [1, 1]))));
        says(store.write_blocking(|tx| {
            let _ = tx.each(&ADD, (0..500i64).chain([1]), |k| [1.into(), (*k).into(), Value::Null], |_, _| ());
            Ok(())
        }));
        says(store.write_blocking(|tx| {
            let _ = add(tx, (0..500).chain([1]).chain(500..999));
            Ok(())
        }));
        store.write_blocking(|tx| add(tx, [1])).unwrap();
        assert_eq!(count(&store, 1), 1);
    }
}

#[test]
fn a_row_closure_may_stop_early_and_the_job_goes_on() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let seen = store
            .write_blocking(|tx| {
                for k in 0..3000 {
                    tx.execute(&ADD, params![1, k, &[1u8; 500][..]])?;
                }
                let mut seen = 0;
                const ALL: Sql = Sql { name: "all", text: "SELECT k, v FROM t ORDER BY k" };
                let stopped = tx.rows(&ALL, params![], |r| {
                    seen += 1;
                    if r.int(0)? == 4 { Err(refusal()) } else { Ok(()) }
                });
                assert!(stopped.unwrap_err().refusal().is_some());
                tx.execute(&ADD, params![1, 3000, None::<i64>])?;
                Ok(seen)
            })
            .unwrap();
        assert_eq!((seen, count(&store, 1)), (5, 3001));
    }
}

#[test]
fn a_read_is_a_snapshot_and_cannot_write() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
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
}

#[test]
fn values_come_back_as_they_went_in() {
    let large: Vec<u8> = (0..20_000_000u32).map(|i| (i % 251) as u8).collect();
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let cases: Vec<Option<Vec<u8>>> =
            vec![None, Some(vec![]), Some(vec![0]), Some((0..=255).collect()), Some(large.clone())];
        for (k, v) in cases.iter().enumerate() {
            let v = v.clone();
            store.write_blocking(move |tx| tx.execute(&ADD, params![i64::MIN, k as i64, v.as_deref()])).unwrap();
        }
        for (k, v) in cases.iter().enumerate() {
            let got = store
                .read_blocking(move |tx| {
                    tx.one(&GET, params![i64::MIN, k as i64], |r| Ok(r.opt_bytes(0)?.map(<[u8]>::to_vec)))
                })
                .unwrap();
            assert!(got == *v, "{}: case {k}", bed.name());
        }
        // NULL is no bytes and no number; a column of another type is an error, not a guess.
        let null = store.read_blocking(|tx| tx.one(&GET, params![i64::MIN, 0], |r| r.bytes(0).map(<[u8]>::to_vec)));
        assert!(matches!(null, Err(Error::Sql(_))), "{null:?}");
        let other = store.read_blocking(|tx| tx.one(&GET, params![i64::MIN, 2], |r| r.int(0)));
        assert!(matches!(other, Err(Error::Sql(_))), "{other:?}");
        let other = store.read_blocking(|tx| tx.one(&COUNT, params![1], |r| r.text(0).map(str::to_owned)));
        assert!(matches!(other, Err(Error::Sql(_))), "{other:?}");
    }
}

/// Text is ordered by its bytes, NULLs of every type go in, and the same statement takes NULL first and a value next.
#[test]
fn text_is_ordered_by_bytes_and_null_has_every_type() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let rows = [("b", None, None), ("a", Some(i64::MAX), None), ("Z", Some(-1), Some("é")), ("ä", None, Some(""))];
        for (name, size, note) in rows {
            store.write_blocking(move |tx| tx.execute(&NAME, params![name, size, note])).unwrap();
        }
        let got = store
            .read_blocking(|tx| {
                tx.list(&NAMES, params![], |r| {
                    Ok((r.text(0)?.to_owned(), r.opt_int(1)?, r.opt_text(2)?.map(str::to_owned)))
                })
            })
            .unwrap();
        let want: Vec<_> = [rows[2], rows[1], rows[0], rows[3]]
            .map(|(name, size, note)| (name.to_owned(), size, note.map(str::to_owned)))
            .into();
        assert_eq!(got, want, "{}", bed.name());
    }
}

#[test]
fn truth_and_small_integers_are_read_as_integers() {
    const KINDS: Sql = Sql { name: "kinds", text: "SELECT EXISTS (SELECT 1 FROM t WHERE k = ?1), 7, count(*) FROM t" };
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let got =
            store.read_blocking(|tx| tx.one(&KINDS, params![1], |r| Ok([r.int(0)?, r.int(1)?, r.int(2)?]))).unwrap();
        assert_eq!(got, [0, 7, 0], "{}", bed.name());
    }
}

#[test]
fn a_wrong_statement_says_which_it_was() {
    const WRONG: Sql = Sql { name: "the wrong one", text: "SELECT nothing FROM nowhere" };
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        for outcome in [
            store.read_blocking(|tx| tx.prepare(&WRONG)),
            store.write_blocking(|tx| tx.execute(&WRONG, params![]).map(drop)),
            store.write_blocking(|tx| tx.execute(&COUNT, params![]).map(drop)),
        ] {
            let Err(Error::Sql(text)) = outcome else { panic!("{}: {outcome:?}", bed.name()) };
            assert!(text.starts_with("the wrong one: ") || text.starts_with("count: "), "{text}");
        }
        store.read_blocking(|tx| tx.prepare(&COUNT)).unwrap();
    }
}

/// What PostgreSQL takes for a narrower type would fail for large values only: it is refused when it is prepared.
#[test]
fn a_parameter_of_another_type_is_refused_when_it_is_prepared() {
    const NARROW: Sql = Sql { name: "narrow", text: "SELECT ?1 + 1" };
    const WIDE: Sql = Sql { name: "wide", text: "SELECT CAST(?1 AS BIGINT) + 1" };
    let bed = Bed::postgres();
    let store = bed.open(&[TABLES]);
    let Err(Error::Sql(text)) = store.read_blocking(|tx| tx.prepare(&NARROW)) else { panic!() };
    assert!(text.contains("CAST(?1 AS BIGINT)"), "{text}");
    for bed in engines() {
        let wide = bed.open(&[TABLES]).read_blocking(|tx| tx.one(&WIDE, params![i64::MAX - 1], |r| r.int(0)));
        assert_eq!(wide.unwrap(), i64::MAX);
    }
}

#[test]
fn events_are_told_in_the_order_of_commits_and_only_of_what_was_kept() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        store.subscribe(Box::new(move |e| ear.lock().unwrap().push(*e.downcast_ref::<i64>().unwrap())));
        for k in 0..20i64 {
            let _ = store.write_blocking(move |tx| {
                tx.publish(Arc::new(k));
                if k % 2 == 0 { Ok(()) } else { Err(Error::Busy) }
            });
        }
        assert_eq!(*heard.lock().unwrap(), (0..20).step_by(2).collect::<Vec<i64>>(), "{}", bed.name());
    }
}

/// Each counter's row is locked by who takes its next number: its events are told by rising number, every one once, and
/// before the job is answered.
#[test]
fn events_of_one_row_are_told_in_the_order_of_its_numbers() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        for name in ["a", "b", "c"] {
            store.write_blocking(move |tx| tx.execute(&NAME, params![name, 0, None::<&str>])).unwrap();
        }
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        store.subscribe(Box::new(move |e| ear.lock().unwrap().push(*e.downcast_ref::<(&'static str, i64)>().unwrap())));
        block_on(async {
            let jobs: Vec<_> = (0..600)
                .map(|i| {
                    let name = ["a", "b", "c"][i % 3];
                    store.write_with(Lane::Interactive, Vec::new(), move |tx, _| {
                        let number = tx.one(&NEXT, params![name], |r| r.int(0))?;
                        tx.publish(Arc::new((name, number)));
                        Ok((name, number))
                    })
                })
                .collect();
            for job in jobs {
                let mine = job.await.unwrap();
                assert!(heard.lock().unwrap().contains(&mine), "answered before it was told");
            }
        });
        let heard = heard.lock().unwrap();
        for name in ["a", "b", "c"] {
            let numbers: Vec<i64> = heard.iter().filter(|(n, _)| *n == name).map(|(_, k)| *k).collect();
            assert_eq!(numbers, (1..=200).collect::<Vec<i64>>(), "{} {name}", bed.name());
        }
    }
}

#[test]
fn a_subscriber_that_panics_stops_nobody() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let heard = Arc::new(Mutex::new(0));
        let ear = heard.clone();
        store.subscribe(Box::new(|_| panic!("a mistake of ours")));
        store.subscribe(Box::new(move |_| *ear.lock().unwrap() += 1));
        for _ in 0..10 {
            store
                .write_blocking(|tx| {
                    tx.publish(Arc::new(()));
                    Ok(())
                })
                .unwrap();
        }
        assert_eq!(*heard.lock().unwrap(), 10);
    }
}

/// The first job holds the only connection until a thousand bulk jobs wait, and one interactive one behind them.
#[test]
fn trap_20_bulk_work_does_not_keep_an_interactive_job_waiting() {
    for bed in engines() {
        let bed = bed.with(|options| {
            if let Engine::Postgres { connections, .. } = &mut options.engine {
                *connections = 1;
            }
        });
        let store = bed.open(&[TABLES]);
        let done = Arc::new(Mutex::new(Vec::new()));
        let (open, door) = mpsc::channel::<()>();
        let door = Mutex::new(door);
        // Done though nobody waits for it. `recv` ends when the other end is dropped.
        drop(store.write_with(Lane::Interactive, Vec::new(), move |_, _| {
            let _ = door.lock().unwrap().recv();
            Ok(())
        }));
        let jobs: Vec<_> = std::iter::repeat_n(Lane::Bulk, 1000)
            .chain([Lane::Interactive])
            .map(|lane| {
                let done = done.clone();
                store.write_with(lane, Vec::new(), move |_, _| {
                    done.lock().unwrap().push(lane);
                    Ok(())
                })
            })
            .collect();
        drop(open);
        block_on(async {
            for job in jobs {
                job.await.unwrap();
            }
        });
        let done = done.lock().unwrap();
        // A bulk job may have had its turn.
        assert!(done[..2].contains(&Lane::Interactive));
        assert_eq!(done.len(), 1001);
    }
}

#[test]
fn what_was_queued_is_done_before_the_store_closes() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        for k in 0..100 {
            drop(store.write_with(Lane::Bulk, Vec::new(), move |tx, _| tx.execute(&ADD, params![1, k, None::<i64>])));
        }
        drop(store);
        assert_eq!(count(&bed.open(&[TABLES]), 1), 100, "{}", bed.name());
    }
}

#[test]
fn migrations_run_once_and_go_on_where_they_stopped() {
    let first = Migrations { owner: "test", steps: &TABLES.steps[..1] };
    for bed in engines() {
        let store = bed.open(&[first]);
        store.write_blocking(|tx| tx.execute(&ADD, params![1, 1, None::<i64>])).unwrap();
        drop(store);
        for _ in 0..2 {
            let store = bed.open(&[TABLES]);
            assert_eq!(count(&store, 1), 1);
            store.read_blocking(|tx| tx.prepare(&NAMES)).unwrap();
        }
    }
}

#[test]
fn a_failed_migration_leaves_nothing() {
    const BROKEN: Migrations = Migrations { owner: "test", steps: &[TABLES.steps[0], "CREATE TABEL x (k {int});"] };
    for bed in engines() {
        assert!(Store::open(bed.options(), &[BROKEN]).is_err());
        bed.open(&[TABLES]);
    }
}

#[test]
fn the_store_opens_inside_a_runtime() {
    for bed in engines() {
        block_on(async {
            let store = bed.open(&[TABLES]);
            store.write(|tx| tx.execute(&ADD, params![1, 1, None::<i64>])).await.unwrap();
            assert_eq!(store.read(|tx| tx.one(&COUNT, params![1], |r| r.int(0))).await.unwrap(), 1);
        });
    }
}

#[test]
fn blobs_of_all_sizes_survive_a_reopening() {
    let sizes = [0usize, 1, 7, 8, 4096, 262_144, 262_145, 3_000_000];
    let body = |n: usize| (0..n).map(|i| (i * 31 % 251) as u8).collect::<Vec<u8>>();
    for bed in engines() {
        {
            let store = bed.open(&[TABLES]);
            for (k, n) in sizes.iter().enumerate() {
                let mut stager = store.stager(if k % 2 == 0 { Class::Lasting } else { Class::Transit });
                body(*n).chunks(10_007).for_each(|c| stager.push(c).unwrap());
                let staged = stager.finish();
                let write = store.write_with(Lane::Interactive, vec![staged], move |tx, ids| {
                    tx.execute(&ADD, params![1, k as i64, &ids[0].0.to_le_bytes()[..]])
                });
                block_on(write).unwrap();
            }
        }
        let store = bed.open(&[TABLES]);
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
}

#[test]
fn one_flipped_bit_is_found() {
    let bed = Bed::sqlite();
    let store = bed.open(&[TABLES]);
    let mut stager = store.stager(Class::Lasting);
    stager.push(&[7; 5000]).unwrap();
    let write = store.write_with(Lane::Interactive, vec![stager.finish()], |_, ids| Ok(ids[0]));
    let id = block_on(write).unwrap();
    let pack = std::fs::read_dir(bed.dir().join("packs")).unwrap().next().unwrap().unwrap().path();
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
    let bed = Bed::sqlite();
    let store = bed.open(&[TABLES]);
    let mut stager = store.stager(Class::Lasting);
    stager.push(&vec![1; 1_000_000]).unwrap();
    // It never had a name; what a crash left in the moment in which it did is cleared away.
    assert_eq!(std::fs::read_dir(bed.dir().join("packs")).unwrap().count(), 0);
    drop((stager, store));
    std::fs::write(bed.dir().join("packs/1-1.spool"), b"half a mail").unwrap();
    std::fs::write(bed.dir().join("packs/new-00000007.lasting"), b"a pack that was just being made").unwrap();
    let _store = bed.open(&[TABLES]);
    assert_eq!(std::fs::read_dir(bed.dir().join("packs")).unwrap().count(), 0);
}

#[test]
fn two_servers_cannot_have_one_directory() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        assert!(matches!(Store::open(bed.options(), &[TABLES]), Err(Error::Busy)));
        drop(store);
        bed.open(&[TABLES]);
    }
}

/// The ids of blobs are places in the packs of one directory: with those of another they lead to others' mail.
#[test]
fn a_database_opens_with_its_own_packs_only() {
    let bed = Bed::postgres();
    drop(bed.open(&[TABLES]));
    let elsewhere = testkit::Dir::new("elsewhere");
    for _ in 0..2 {
        let options = Options { dir: elsewhere.path().to_owned(), ..bed.options().clone() };
        assert!(matches!(Store::open(&options, &[TABLES]), Err(Error::Corrupt(_))));
    }
    bed.open(&[TABLES]);
}

#[test]
fn the_database_is_for_our_own_eyes() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::sqlite();
    let _store = bed.open(&[TABLES]);
    for name in ["postroom.db", "postroom.db-wal", "lock"] {
        let mode = bed.dir().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_directory_is_made_for_our_own_eyes_and_one_that_is_there_is_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let bed = Bed::sqlite();
    let (parent, dir) = (bed.dir().join("parent"), bed.dir().join("parent/data"));
    let mode = |dir: &std::path::Path| dir.metadata().unwrap().permissions().mode() & 0o777;
    store::make_private_dir(&dir).unwrap();
    assert_eq!((mode(&parent), mode(&dir)), (0o700, 0o700));
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o750)).unwrap();
    store::make_private_dir(&dir).unwrap();
    assert_eq!(mode(&dir), 0o750);
}

#[test]
fn a_password_is_not_shown() {
    let options = Options::postgres("/nowhere", "postgres://postroom:hunter2@db/mail");
    assert!(!format!("{options:?}").contains("hunter2"));
    let malformed =
        Options::postgres(std::env::temp_dir().join("postroom-malformed"), "postgres://p:hunter2@db:x/mail");
    let e = Store::open(&malformed, &[]).err().unwrap();
    std::fs::remove_dir_all(&malformed.dir).unwrap();
    assert!(!e.to_string().contains("hunter2"), "{e}");
}

#[test]
fn packs_of_the_short_lived_go_when_nothing_refers_to_them() {
    const KEEP: Sql = Sql { name: "keep", text: "INSERT INTO n (name, size, note) VALUES (?1, ?2, ?1)" };
    const DROP: Sql = Sql { name: "drop", text: "DELETE FROM n WHERE name = ?1" };
    const BETWEEN: Sql = Sql { name: "between", text: "SELECT size FROM n WHERE size >= ?1 AND size < ?2" };
    for bed in engines() {
        let mut store = bed.open(&[TABLES]);
        let stage = |store: &Store, class, octets: usize| {
            let mut stager = store.stager(class);
            stager.push(&vec![1; octets]).unwrap();
            stager.finish()
        };
        let keep = |store: &Store, name: &'static str, class, octets| {
            let work = move |tx: &mut store::Tx<'_>, blobs: &[base::BlobId]| {
                tx.execute(&KEEP, params![name, blobs[0]])?;
                Ok(blobs[0])
            };
            block_on(store.write_with(Lane::Interactive, vec![stage(store, class, octets)], work)).unwrap()
        };
        let sweep = |store: &Store| {
            let refers =
                |tx: &mut store::Tx<'_>, from, to| Ok(tx.row(&BETWEEN, params![from, to], |_| Ok(()))?.is_some());
            block_on(store.sweep_transit(refers)).unwrap()
        };
        let forget = |store: &Store, name: &'static str| {
            store.write_blocking(move |tx| tx.execute(&DROP, params![name])).unwrap();
        };
        let small = keep(&store, "small", Class::Transit, 10);
        let large = keep(&store, "large", Class::Transit, 1 << 20);
        let lasting = keep(&store, "lasting", Class::Lasting, 10);
        forget(&store, "small");
        drop(store);
        store = bed.open(&[TABLES]);
        assert_eq!(sweep(&store), 0, "large is in use");
        let reader = store.blob(large).unwrap();
        forget(&store, "large");
        assert_eq!(sweep(&store), 0, "somebody reads it");
        drop(reader);
        // On its way into a pack, and not yet referred to.
        let staged = stage(&store, Class::Transit, 1 << 20);
        assert_eq!(sweep(&store), 1, "a start seals what was being written");
        let work = |tx: &mut store::Tx<'_>, blobs: &[base::BlobId]| {
            tx.execute(&KEEP, params!["late", blobs[0]])?;
            Ok(blobs[0])
        };
        let late = block_on(store.write_with(Lane::Interactive, vec![staged], work)).unwrap();
        assert_eq!(sweep(&store), 0);
        assert!(store.blob(large).is_err() && store.blob(small).is_err());
        forget(&store, "late");
        assert_eq!(sweep(&store), 0, "it is being written");
        forget(&store, "lasting");
        drop(store);
        store = bed.open(&[TABLES]);
        assert_eq!(sweep(&store), 1);
        assert!(store.blob(late).is_err() && store.blob(lasting).is_ok());
    }
}

#[test]
fn a_part_that_is_refused_is_taken_back_alone() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = heard.clone();
        store.subscribe(Box::new(move |event| ear.lock().unwrap().extend(event.downcast_ref::<i64>().copied())));
        let done = store.write_blocking(|tx| {
            let mut outcomes = Vec::new();
            for k in 0..6i64 {
                let outcome = tx.attempt(|tx| {
                    tx.execute(&ADD, params![1, k, None::<i64>])?;
                    tx.publish(Arc::new(k));
                    if k % 3 == 0 { Err(refusal()) } else { Ok(k) }
                });
                outcomes.push(outcome.ok());
            }
            Ok(outcomes)
        });
        assert_eq!(done.unwrap(), [None, Some(1), Some(2), None, Some(4), Some(5)]);
        assert_eq!(count(&store, 1), 4, "{}", bed.name());
        assert_eq!(*heard.lock().unwrap(), [1, 2, 4, 5]);
        // A statement that fails is no refusal.
        let broken = store.write_blocking(|tx| {
            tx.execute(&ADD, params![2, 1, None::<i64>])?;
            let _ = tx.attempt(|tx| tx.execute(&ADD, params![2, 1, None::<i64>]));
            Ok(())
        });
        assert!(matches!(broken, Err(Error::Sql(_))), "{}", bed.name());
        assert_eq!(count(&store, 2), 0);
    }
}

/// Who sees that all is answered, and that nothing was asked since, knows that nothing is under way.
#[test]
fn what_is_under_way_is_known() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let before = store.work();
        assert!(before.is_done());
        let (begin, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        block_on(async {
            let slow = store.write_with(Lane::Bulk, vec![], move |_, _| {
                let _ = wait.lock().unwrap().recv();
                Ok(())
            });
            assert!(!store.work().is_done(), "{}", bed.name());
            drop(begin);
            slow.await.unwrap();
            store.read(|_| Err::<(), _>(refusal())).await.unwrap_err();
            store.write(|_| Err::<(), _>(refusal())).await.unwrap_err();
        });
        // Who is woken is so a moment before it is counted.
        while !store.work().is_done() {
            std::thread::yield_now();
        }
        assert_eq!(store.work().asked - before.asked, 3, "{}", bed.name());
    }
}

#[test]
fn what_a_job_puts_off_is_done_at_its_end_if_it_has_one() {
    for bed in engines() {
        let store = bed.open(&[TABLES]);
        let late = |tx: &mut Tx<'_>, k: i64| tx.at_end(move |tx| tx.execute(&ADD, params![1, k, &[][..]]).map(drop));
        let job = move |tx: &mut Tx<'_>| {
            late(tx, 1);
            let refused = tx.attempt(|tx| {
                late(tx, 2);
                Err::<(), _>(refusal())
            });
            assert!(refused.is_err());
            late(tx, 3);
            tx.one(&COUNT, params![1], |r| r.int(0))
        };
        assert_eq!(store.write_blocking(job).unwrap(), 0, "{}", bed.name());
        assert_eq!(count(&store, 1), 2, "{}", bed.name());
        let failing = move |tx: &mut Tx<'_>| {
            late(tx, 4);
            Err::<(), _>(refusal())
        };
        store.write_blocking(failing).unwrap_err();
        store.write_blocking(|_| Ok(())).unwrap();
        assert_eq!(count(&store, 1), 2, "{}", bed.name());
        // What fails there fails the job: the key is taken.
        store
            .write_blocking(move |tx| {
                late(tx, 3);
                Ok(())
            })
            .unwrap_err();
    }
}
