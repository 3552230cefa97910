//! Policies are kept on disk, on both engines.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use base::Timestamp;
use testkit::engines;
use trust::MIGRATIONS;
use trust::mta_sts::{Known, Mode, Policy, keep, recall, tidy_up};

const DAY: i64 = 86_400_000;

fn known(id: &str, mode: Mode, days: u64, fetched: i64) -> Known {
    let hosts = if mode == Mode::None { vec![] } else { vec!["mx.x.test".to_owned(), "*.y.test".to_owned()] };
    let policy = Policy { mode, hosts, max_age: Duration::from_secs(days * 86_400) };
    Known { policy, id: id.to_owned(), fetched: Timestamp(fetched) }
}

#[test]
fn what_was_kept_is_recalled_until_its_time_is_over() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let of = |domain: &'static str| store.read_blocking(move |tx| recall(tx, domain)).unwrap();
        let put = |domain: &'static str, known: &Known| {
            let known = known.clone();
            store.write_blocking(move |tx| keep(tx, domain, &known)).unwrap();
        };
        assert_eq!(of("x.test"), None);
        let (first, second) = (known("1", Mode::Enforce, 2, 0), known("2", Mode::Testing, 9, DAY));
        put("x.test", &first);
        put("y.test", &known("7", Mode::None, 3, 0));
        assert_eq!(of("x.test"), Some(first));
        put("x.test", &second);
        let tidy = |now| store.write_blocking(move |tx| tidy_up(tx, Timestamp(now))).unwrap();
        tidy(3 * DAY);
        assert_eq!((of("x.test"), of("y.test")), (Some(second), Some(known("7", Mode::None, 3, 0))));
        tidy(3 * DAY + 1);
        assert!(of("y.test").is_none() && of("x.test").is_some());
        // Many go in several jobs.
        let job = |tx: &mut store::Tx<'_>| {
            (0..300).try_for_each(|n| keep(tx, &format!("{n}.test"), &known("1", Mode::None, 1, 0)))
        };
        store.write_blocking(job).unwrap();
        assert_eq!([tidy(5 * DAY), tidy(5 * DAY), tidy(5 * DAY)], [true, false, false]);
        assert!(of("299.test").is_none() && of("x.test").is_some());
    }
}
