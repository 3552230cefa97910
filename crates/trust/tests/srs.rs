//! One secret for all servers of a store, and for each of their lives.

#![allow(clippy::unwrap_used)]

use base::{Address, Timestamp};
use testkit::engines;
use trust::{MIGRATIONS, Srs, reported_to};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_made_once() {
    let jane = Address::parse("jane@b.test").unwrap();
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let ask = || {
            let (srs, jane) = (Srs::new(store.clone()), jane.clone());
            tokio::spawn(async move { srs.rewritten(&jane, "x.test", NOW).await.unwrap().unwrap() })
        };
        // Several at once, as servers of one store that start together.
        let asked: Vec<_> = (0..8).map(|_| ask()).collect();
        let sent = ask().await.unwrap();
        for one in asked {
            assert_eq!(one.await.unwrap(), sent);
        }
        assert_eq!(Srs::new(store.clone()).behind(&sent, NOW).await.unwrap().as_ref(), Some(&jane));
        for from in [&sent, &jane] {
            let from = from.clone();
            assert_eq!(store.read(move |tx| reported_to(tx, &from, NOW)).await.unwrap(), jane);
        }
    }
}
