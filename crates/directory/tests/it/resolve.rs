//! What an address resolves to, and who may send as it.

use directory::{AccountChange, DomainChange, NewDomain, Route, change_account, change_address, create_domain};
use directory::{MAX_DEPTH, remove_account, remove_address};

use crate::world::{NOW, World, at};

#[tokio::test]
async fn accounts_aliases_groups_forwards() {
    for w in World::each().await {
        w.account("jane@x.test").await;
        w.account("joe@x.test").await;
        w.alias("j@x.test", &["jane@x.test"]).await;
        w.alias("both@x.test", &["j@x.test", "joe@x.test"]).await;
        let members = vec![at("both@x.test"), at("JANE@x.test"), at("Ann@elsewhere.test")];
        w.try_address("all@x.test", Route::Group { members, members_send: false }).await.unwrap();
        w.try_address("away@x.test", Route::Forward(vec![at("Jane@far.test")])).await.unwrap();
        for (address, shown) in [
            ("jane@x.test", "jane@x.test"),
            ("Jane@X.test", "jane@x.test"),
            ("jane+News@x.test", "jane@x.test [News]"),
            ("jane+a+b@x.test", "jane@x.test [a+b]"),
            ("jane+@x.test", "jane@x.test []"),
            ("+jane@x.test", "unknown"),
            ("j+Shop@x.test", "jane@x.test [Shop]"),
            ("all@x.test", "jane@x.test, joe@x.test, -> Ann@elsewhere.test"),
            ("away@x.test", "-> Jane@far.test"),
            ("nobody@x.test", "unknown"),
            ("jane@y.test", "not ours"),
            ("jane@sub.x.test", "not ours"),
            ("jane@[192.0.2.1]", "not ours"),
            ("postmaster@x.test", "postmaster@x.test"),
            ("ABUSE@x.test", "abuse@x.test"),
        ] {
            // Once from the store, once from memory.
            assert_eq!(w.shows(address).await, shown, "{address}");
            assert_eq!(w.shows(address).await, shown, "{address}, remembered");
        }
        assert_eq!(w.directory.role("abuse").await.unwrap(), Some(at("abuse@x.test")));
    }
}

#[tokio::test]
async fn postmaster_is_the_administrator_until_defined() {
    for w in World::each().await {
        let jane = w.account("jane@x.test").await;
        let directory::Resolution::Deliver(to) = w.directory.resolve(&at("postmaster@x.test")).await.unwrap() else {
            panic!("postmaster always resolves")
        };
        let admin = to.local[0].account;
        assert_ne!(admin, jane);
        assert_eq!(to.local[0].quota, Some(1000));
        assert!(w.directory.owns(admin, &at("postmaster@x.test")).await.unwrap());
        w.try_address("postmaster@x.test", Route::Account(jane)).await.unwrap();
        assert!(w.directory.owns(jane, &at("postmaster@x.test")).await.unwrap());
        assert!(!w.directory.owns(admin, &at("postmaster@x.test")).await.unwrap());
    }
}

#[tokio::test]
async fn the_catch_all_gets_what_nobody_else_does() {
    for w in World::each().await {
        let jane = w.account("jane@x.test").await;
        let domain = w.domain;
        let change = DomainChange { catch_all: Some(Some(at("jane@x.test"))), separator: Some(Some('-')) };
        w.job(move |tx| directory::change_domain(tx, domain, &change)).await.unwrap();
        assert_eq!(w.shows("anything@x.test").await, "jane@x.test");
        assert_eq!(w.shows("jane-shop@x.test").await, "jane@x.test [shop]");
        assert_eq!(w.shows("jane+shop@x.test").await, "jane@x.test", "by the catch-all: + is no separator any more");
        assert_eq!(w.shows("abuse@x.test").await, "abuse@x.test", "the administrator's, not the catch-all's");
        assert!(!w.directory.owns(jane, &at("anything@x.test")).await.unwrap());
        let circle = DomainChange { catch_all: Some(Some(at("anything@x.test"))), ..Default::default() };
        let refused = w.job(move |tx| directory::change_domain(tx, domain, &circle)).await.unwrap_err();
        assert_eq!(refused.to_string(), "550 5.1.1 There is no address anything@x.test");
        assert_eq!(w.shows("anything@x.test").await, "jane@x.test", "as before");
        let gone = w.job(move |tx| remove_account(tx, jane)).await.unwrap_err();
        assert!(gone.to_string().contains("catch-all of x.test"), "{gone}");
    }
}

#[tokio::test]
async fn who_may_send_as_whom() {
    for w in World::each().await {
        let (jane, joe) = (w.account("jane@x.test").await, w.account("joe@x.test").await);
        w.alias("j@x.test", &["jane@x.test"]).await;
        let both = vec![at("j@x.test"), at("joe@x.test")];
        w.try_address("closed@x.test", Route::Group { members: both.clone(), members_send: false }).await.unwrap();
        w.try_address("open@x.test", Route::Group { members: both, members_send: true }).await.unwrap();
        w.alias("via@x.test", &["closed@x.test"]).await;
        for (address, jane_may, joe_may) in [
            ("jane@x.test", true, false),
            ("Jane+shop@x.test", true, false),
            ("J@x.test", true, false),
            ("closed@x.test", false, false),
            ("via@x.test", false, false),
            ("open@x.test", true, true),
            ("jane@elsewhere.test", false, false),
            ("nobody@x.test", false, false),
        ] {
            for (account, may) in [(jane, jane_may), (joe, joe_may), (jane, jane_may)] {
                assert_eq!(w.directory.owns(account, &at(address)).await.unwrap(), may, "{address} by {account}");
            }
        }
    }
}

#[tokio::test]
async fn trap_26_a_change_is_seen_at_once_and_nothing_is_keyed_by_less_than_decides_it() {
    for w in World::each().await {
        assert_eq!(w.shows("new@x.test").await, "unknown");
        let new = w.account("new@x.test").await;
        assert_eq!(w.shows("new@x.test").await, "new@x.test");
        // The detail is part of the answer, and so of the key.
        assert_eq!(w.shows("new+A@x.test").await, "new@x.test [A]");
        assert_eq!(w.shows("new+a@x.test").await, "new@x.test [a]");
        assert_eq!(w.shows("new@y.test").await, "not ours");
        let organisation = w.organisation;
        w.job(move |tx| create_domain(tx, &NewDomain { organisation, name: "y.test", created: NOW })).await.unwrap();
        assert_eq!(w.shows("new@y.test").await, "unknown");
        assert!(w.directory.owns(new, &at("new@x.test")).await.unwrap());
        w.alias("list@x.test", &["new@x.test"]).await;
        assert_eq!(w.shows("list@x.test").await, "new@x.test");
        w.job(|tx| change_address(tx, &at("list@x.test"), &Route::Forward(vec![at("a@far.test")]))).await.unwrap();
        assert_eq!(w.shows("list@x.test").await, "-> a@far.test");
        w.job(|tx| remove_address(tx, &at("list@x.test"))).await.unwrap();
        assert_eq!(w.shows("list@x.test").await, "unknown");
        w.job(move |tx| remove_account(tx, new)).await.unwrap();
        assert_eq!(w.shows("new@x.test").await, "unknown");
        assert!(!w.directory.owns(new, &at("new@x.test")).await.unwrap());
    }
}

#[tokio::test]
async fn mail_to_a_disabled_account_is_still_taken() {
    for w in World::each().await {
        let jane = w.account("jane@x.test").await;
        let change = AccountChange { disabled: Some(true), ..Default::default() };
        w.job(move |tx| change_account(tx, jane, &change)).await.unwrap();
        assert_eq!(w.shows("jane@x.test").await, "jane@x.test");
    }
}

#[tokio::test]
async fn lists_that_go_too_deep_are_refused_not_followed() {
    for w in World::each().await {
        w.account("jane@x.test").await;
        w.alias("l0@x.test", &["jane@x.test"]).await;
        for n in 1..MAX_DEPTH {
            w.alias(&format!("l{n}@x.test"), &[&format!("l{}@x.test", n - 1)]).await;
        }
        let deepest = format!("l{}@x.test", MAX_DEPTH - 1);
        assert_eq!(w.shows(&deepest).await, "jane@x.test");
        w.alias("deeper@x.test", &[&deepest]).await;
        assert_eq!(w.shows("deeper@x.test").await, "550 5.2.4 The address expands to too many others");
        let refusal = w.try_address("deepest@x.test", Route::Alias(vec![at("deeper@x.test")])).await.unwrap_err();
        assert_eq!(refusal, "The address expands to too many others");
    }
}

#[tokio::test]
async fn a_list_of_a_thousand_is_delivered_and_one_more_is_refused() {
    for w in World::each().await {
        let members: Vec<_> = (0..1001).map(|n| at(&format!("m{n}@far.test"))).collect();
        let group = |n: usize| Route::Group { members: members[..n].to_vec(), members_send: false };
        w.try_address("many@x.test", group(1000)).await.unwrap();
        let directory::Resolution::Deliver(to) = w.directory.resolve(&at("many@x.test")).await.unwrap() else {
            panic!()
        };
        assert_eq!(to.remote, members[..1000]);
        assert_eq!(w.try_address("more@x.test", group(1001)).await.unwrap_err(), "A list has 1 to 1000 targets");
    }
}

#[tokio::test]
async fn behind_a_gap_nothing_is_remembered() {
    const BEHIND: store::Sql = store::Sql { name: "behind", text: "DELETE FROM address WHERE local_part = 'jane'" };
    let mut w = World::new().await;
    w.sound = false;
    w.account("jane@x.test").await;
    assert_eq!(w.shows("jane@x.test").await, "jane@x.test");
    w.job(|tx| tx.execute(&BEHIND, &[])).await.unwrap();
    assert_eq!(w.shows("jane@x.test").await, "jane@x.test", "nobody was told");
    w.job(|tx| {
        tx.publish(std::sync::Arc::new(store::Gap));
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(w.shows("jane@x.test").await, "unknown");
}
