//! What came of sessions is counted by day and domain, on both engines.

#![allow(clippy::unwrap_used)]

use testkit::engines;
use trust::MIGRATIONS;
use trust::tls_report::{Applied, Failure, Kind, ResultType, Sessions, add, of, told, untold};

fn applied(kind: Kind, name: &str) -> Applied {
    let lines = vec!["a: b".to_owned(), "c: d".to_owned()];
    Applied { kind, name: name.to_owned(), lines, hosts: vec!["mx.x.test".to_owned(), "*.y.test".to_owned()] }
}

fn failure(host: &str) -> Failure {
    let (ip, sender, why) = ("192.0.2.1".to_owned(), "192.0.2.2".to_owned(), "it ended".to_owned());
    Failure { result: ResultType::CertificateExpired, host: host.to_owned(), ip, sender, why }
}

#[test]
fn sessions_are_added_up_until_they_are_told() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let put = |day, kind, name: &str, good, failures: &[&str]| {
            let failures: Vec<_> = failures.iter().map(|host| (failure(host), 2)).collect();
            let bad = failures.len() as u64 * 2;
            let sessions = Sessions { applied: applied(kind, name), good, bad, failures };
            store.write_blocking(move |tx| add(tx, day, "x.test", &sessions)).unwrap();
        };
        let know = |day| store.read_blocking(move |tx| of(tx, day, "x.test")).unwrap();
        put(7, Kind::Sts, "1", 1, &["a", "b"]);
        put(7, Kind::Sts, "1", 2, &["a"]);
        put(7, Kind::Tlsa, "1", 5, &[]);
        put(8, Kind::Sts, "1", 1, &[]);
        let expected = [
            Sessions { applied: applied(Kind::Tlsa, "1"), good: 5, bad: 0, failures: vec![] },
            Sessions {
                applied: applied(Kind::Sts, "1"),
                good: 3,
                bad: 6,
                failures: vec![(failure("a"), 4), (failure("b"), 2)],
            },
        ];
        assert_eq!(know(7), expected);
        let days = |before| store.read_blocking(move |tx| untold(tx, before, (0, ""), 10)).unwrap();
        assert_eq!(days(8), [(7, "x.test".to_owned())]);
        let behind = |domain: &'static str| store.read_blocking(move |tx| untold(tx, 9, (7, domain), 10)).unwrap();
        assert_eq!((behind("x").len(), behind("x.test")), (2, vec![(8, "x.test".to_owned())]));
        store.write_blocking(|tx| told(tx, 7, "x.test")).unwrap();
        assert_eq!((know(7), know(8).len(), days(9).len()), (vec![], 1, 1));
    }
}

#[test]
fn a_domain_with_thousands_of_hosts_fills_no_disk() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let hosts: Vec<_> = (0..300).map(|n| (failure(&format!("mx{n}.x.test")), 1)).collect();
        let sessions = Sessions { applied: applied(Kind::Sts, "1"), good: 0, bad: 300, failures: hosts };
        store.write_blocking(move |tx| add(tx, 1, "x.test", &sessions)).unwrap();
        for n in 0..80 {
            let name = n.to_string();
            let sessions = Sessions { applied: applied(Kind::Tlsa, &name), good: 1, bad: 0, failures: vec![] };
            store.write_blocking(move |tx| add(tx, 1, "x.test", &sessions)).unwrap();
        }
        // What is counted already goes on to be.
        let applied = applied(Kind::Tlsa, "0");
        let known = Sessions { applied, good: 7, bad: 0, failures: vec![] };
        store.write_blocking(move |tx| add(tx, 1, "x.test", &known)).unwrap();
        let failures = vec![(failure("new.x.test"), 1), (failure("mx0.x.test"), 5)];
        let known = Sessions { applied: self::applied(Kind::Sts, "1"), good: 0, bad: 0, failures };
        store.write_blocking(move |tx| add(tx, 1, "x.test", &known)).unwrap();
        let all = store.read_blocking(|tx| of(tx, 1, "x.test")).unwrap();
        assert_eq!(all[0].good, 8);
        assert!(all.iter().any(|s| s.failures.contains(&(failure("mx0.x.test"), 6))));
        let failures = all.iter().map(|s| s.failures.len()).sum::<usize>();
        assert_eq!((all.len(), failures, all.last().unwrap().bad), (50, 100, 300));
    }
}
