//! What the policies of our own domains ask is kept by domain, on both engines.

#![allow(clippy::unwrap_used)]

use testkit::engines;
use trust::mta_sts::Mode;
use trust::{MIGRATIONS, own_policy};

#[test]
fn a_policy_begins_in_testing_and_is_the_domains_own() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let mode = |domain: &'static str| store.read_blocking(move |tx| own_policy::mode(tx, domain)).unwrap();
        assert_eq!(mode("x.test"), Mode::Testing);
        for to in [Mode::Enforce, Mode::None, Mode::Testing, Mode::Enforce] {
            store.write_blocking(move |tx| own_policy::set_mode(tx, "x.test", to)).unwrap();
            assert_eq!((mode("x.test"), mode("y.test")), (to, Mode::Testing));
        }
        store.write_blocking(|tx| own_policy::remove(tx, "x.test")).unwrap();
        assert_eq!(mode("x.test"), Mode::Testing);
    }
}
