//! Webhooks: what is kept of them, on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use base::{OrganisationId, Stream, Timestamp};
use queue::log::{Filter, What};
use queue::webhook::{self, AllWaiting, Record, State, Waiting, Webhook};
use queue::{MIGRATIONS, Node, Queue};
use store::Store;
use testkit::{Bed, engines};

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn later(ms: i64) -> Timestamp {
    Timestamp(NOW.0 + ms)
}

/// A life of one of several nodes.
fn open(store: &Store, number: i64) -> Queue {
    let node = Node { number, name: String::new(), lease: Some(Duration::from_secs(600)) };
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(Queue::recover(store, &node, NOW, None))
        .unwrap()
}

fn worlds() -> impl Iterator<Item = (Store, Bed)> {
    engines().map(|bed| (bed.open(&[MIGRATIONS]), bed))
}

fn one(store: &Store) -> Webhook {
    store.read_blocking(webhook::all).unwrap().pop().unwrap()
}

fn narrow() -> Filter {
    let whats = vec![What::Bounced, What::Complained];
    Filter { organisation: Some(OrganisationId(7)), stream: Some(Stream::Marketing), whats }
}

#[test]
fn statements_are_good() {
    for (store, _bed) in worlds() {
        store.read_blocking(|tx| webhook::ALL.iter().try_for_each(|sql| tx.prepare(sql))).unwrap();
    }
}

#[test]
fn it_is_kept_as_it_was_set_up() {
    for (store, _bed) in worlds() {
        let add = |url: &'static str, filter: Filter| {
            store.write_blocking(move |tx| webhook::add(tx, url, &filter, b"key", NOW)).unwrap()
        };
        assert_eq!((add("https://a.test/", narrow()), add("https://b.test/", Filter::default())), (1, 2));
        let all = store.read_blocking(webhook::all).unwrap();
        assert_eq!((all[0].setup.filter.clone(), all[1].setup.filter.clone()), (narrow(), Filter::default()));
        assert_eq!((all[0].setup.state, all[0].setup.made, &all[0].setup.secret[..]), (State::On, NOW, &b"key"[..]));
        store.write_blocking(|tx| webhook::rotate(tx, 2, b"new", later(9))).unwrap();
        store.write_blocking(|tx| webhook::stop(tx, 2, State::Disabled, "it is gone")).unwrap();
        let Webhook { setup, record, .. } = one(&store);
        assert_eq!((&setup.secret[..], setup.former), (&b"new"[..], Some((b"key".to_vec(), later(9)))));
        assert_eq!((setup.state, record.why.as_str()), (State::Disabled, "it is gone"));
        assert!(!format!("{:?}", one(&store)).contains("new"), "keys are not logged");
        assert!(store.write_blocking(|tx| webhook::remove(tx, 2)).unwrap());
        assert!(!store.write_blocking(|tx| webhook::remove(tx, 2)).unwrap());
        assert_eq!(one(&store).id, 1);
    }
}

#[test]
fn one_life_at_a_time_sends_to_it() {
    for (store, _bed) in worlds() {
        let id = store.write_blocking(|tx| webhook::add(tx, "https://a.test/", &narrow(), b"k", NOW)).unwrap();
        let (a, b) = (open(&store, 1).epoch(), open(&store, 2).epoch());
        let hold = |epoch| store.write_blocking(move |tx| webhook::hold(tx, id, epoch)).unwrap();
        assert_eq!((hold(a), hold(b), hold(a)), (true, false, true));
        let moved = |epoch, generation, position| {
            let record = Record { position, taken: 2, ..Record::default() };
            let work = move |tx: &mut store::Tx<'_>| {
                webhook::progress(tx, (id, epoch, generation), &record, &AllWaiting::new(), &[])
            };
            store.write_blocking(work).unwrap()
        };
        assert_eq!((moved(a, 0, 5), moved(b, 0, 9)), (true, false));
        assert_eq!((one(&store).record.position, one(&store).record.taken), (5, 2));
        // Its node lives again: who held it is gone.
        let again = open(&store, 1).epoch();
        assert_eq!((hold(again), moved(a, 0, 9), moved(again, 0, 6)), (true, false, true));
        store.write_blocking(move |tx| webhook::let_go(tx, id, again)).unwrap();
        assert!(hold(b));
        // Set elsewhere meanwhile: what was read before counts no more.
        store.write_blocking(move |tx| webhook::replay(tx, id, 3)).unwrap();
        assert_eq!((moved(b, 0, 9), one(&store).record.position, moved(b, 1, 4)), (false, 2, true));
        assert_eq!(one(&store).record.taken, 6);
    }
}

#[test]
fn what_waits_is_kept() {
    for (store, _bed) in worlds() {
        let id = store.write_blocking(|tx| webhook::add(tx, "https://a.test/", &narrow(), b"k", NOW)).unwrap();
        let epoch = open(&store, 1).epoch();
        assert!(store.write_blocking(move |tx| webhook::hold(tx, id, epoch)).unwrap());
        let waiting = |tries, due| Waiting { tries, due: later(due), since: NOW };
        let write = |generation, waits: &[((i64, u32), Waiting)], gone: &'static [(i64, u32)]| {
            let waits: AllWaiting = waits.iter().copied().collect();
            let record = Record { position: 9, ..Record::default() };
            let work =
                move |tx: &mut store::Tx<'_>| webhook::progress(tx, (id, epoch, generation), &record, &waits, gone);
            assert!(store.write_blocking(work).unwrap());
        };
        let read = || store.read_blocking(move |tx| webhook::waiting(tx, id)).unwrap().into_iter().collect::<Vec<_>>();
        write(0, &[((1, 0), waiting(1, 5)), ((1, 7), waiting(0, 0)), ((8, 0), waiting(3, 9))], &[]);
        write(0, &[((1, 0), waiting(2, 50))], &[(1, 7)]);
        assert_eq!(read(), [((1, 0), waiting(2, 50)), ((8, 0), waiting(3, 9))]);
        // Let go on: everything at once, as if it had failed once.
        store.write_blocking(move |tx| webhook::resume(tx, id, later(60))).unwrap();
        let hurried = Waiting { tries: 1, due: later(60), since: later(60) };
        assert_eq!(read(), [((1, 0), hurried), ((8, 0), hurried)]);
        // From a place on: what waits behind it comes again anyway.
        store.write_blocking(move |tx| webhook::replay(tx, id, 8)).unwrap();
        assert_eq!(read(), [((1, 0), hurried)]);
        assert!(store.write_blocking(move |tx| webhook::remove(tx, id)).unwrap());
        assert_eq!(read(), []);
    }
}
