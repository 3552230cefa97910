//! Making, changing and removing things; and what is refused, in which words.

use directory::*;
use store::Tx;

use crate::world::{NOW, World, at};

/// The public text of a refusal.
async fn no<T: Send + 'static>(w: &World, job: impl Fn(&mut Tx<'_>) -> store::Result<T> + Send + 'static) -> String {
    match w.job(job).await {
        Ok(_) => panic!("this should have been refused"),
        Err(e) => e.refusal().unwrap_or_else(|| panic!("no refusal: {e}")).reply().text.to_string(),
    }
}

#[tokio::test]
async fn every_statement_is_understood() {
    for w in World::each().await {
        w.job(|tx| statements().try_for_each(|sql| tx.prepare(sql))).await.unwrap();
    }
}

#[tokio::test]
async fn organisations_and_domains() {
    for w in World::each().await {
        let (x, domain) = (w.organisation, w.domain);
        let y = w.job(|tx| create_organisation(tx, "Y", NOW)).await.unwrap();
        w.job(move |tx| rename_organisation(tx, y, "Why")).await.unwrap();
        assert_eq!(no(&w, |tx| create_organisation(tx, "X", NOW)).await, "The organisation X exists already");
        assert_eq!(no(&w, move |tx| rename_organisation(tx, y, "X")).await, "The organisation X exists already");
        w.job(move |tx| rename_organisation(tx, y, "Why")).await.unwrap();
        assert!(no(&w, |tx| create_organisation(tx, "", NOW)).await.starts_with("The name of an organisation"));
        let names = w.job(organisations).await.unwrap().into_iter().map(|o| o.name).collect::<Vec<_>>();
        assert_eq!(names, ["X", "Why"]);
        let make =
            move |name| move |tx: &mut Tx<'_>| create_domain(tx, &NewDomain { organisation: x, name, created: NOW });
        assert_eq!(no(&w, make("X.Test")).await, "The domain x.test exists already");
        for bad in ["", "x..test", "[192.0.2.1]", "例子.test", "a b.test", "x.test'; DROP TABLE domain; --"] {
            assert!(no(&w, make(bad)).await.starts_with("That is not a domain name"), "{bad}");
        }
        let other = w.job(make("Second.Test")).await.unwrap();
        assert_eq!(w.job(move |tx| directory::domain(tx, other)).await.unwrap().name, "second.test");
        assert_eq!(no(&w, move |tx| remove_domain(tx, domain)).await, "The domain still has addresses");
        assert_eq!(
            no(&w, move |tx| remove_organisation(tx, x)).await,
            "The organisation still has domains or accounts"
        );
        w.job(move |tx| remove_domain(tx, other)).await.unwrap();
        w.job(move |tx| remove_organisation(tx, y)).await.unwrap();
        assert_eq!(no(&w, move |tx| organisation(tx, y)).await, "There is no such organisation");
        assert_eq!(w.job(domains).await.unwrap().len(), 1);
        let wide = DomainChange { separator: Some(Some('a')), ..Default::default() };
        assert_eq!(no(&w, move |tx| change_domain(tx, domain, &wide)).await, "The separator is one of + - = _ #");
        let lost = DomainChange { catch_all: Some(Some(at("lost@x.test"))), ..Default::default() };
        assert_eq!(no(&w, move |tx| change_domain(tx, domain, &lost)).await, "There is no address lost@x.test");
    }
}

#[tokio::test]
async fn accounts_and_their_addresses() {
    for w in World::each().await {
        let organisation = w.organisation;
        let jane = w.account("Jane@x.test").await;
        let new = move |login: &'static str, organisation| {
            move |tx: &mut Tx<'_>| {
                let login = at(login);
                let (name, quota, administrator) = ("", None, false);
                create_account(
                    tx,
                    &NewAccount { organisation, login: &login, name, quota, administrator, created: NOW },
                )
            }
        };
        assert_eq!(no(&w, new("jane@x.test", organisation)).await, "The address jane@x.test exists already");
        assert_eq!(no(&w, new("jane@far.test", organisation)).await, "The domain far.test is not ours");
        let y = w.job(|tx| create_organisation(tx, "Y", NOW)).await.unwrap();
        assert_eq!(no(&w, new("joe@x.test", y)).await, "The domain x.test is another organisation's");

        let (a, b) = (w.account("a@x.test").await, w.account("b@x.test").await);
        assert!(jane < a && a < b, "numbers rise");
        let first = w.job(move |tx| accounts(tx, organisation, jane, 1)).await.unwrap();
        assert_eq!(first.iter().map(|a| a.id).collect::<Vec<_>>(), [a]);
        assert_eq!(w.job(|tx| account_by_login(tx, &at("A@X.test"))).await.unwrap().unwrap().id, a);

        // A second address, which then becomes the login; the first may go then, and not before.
        w.try_address("jane.doe@x.test", Route::Account(jane)).await.unwrap();
        let gone = |tx: &mut Tx<'_>| remove_address(tx, &at("jane@x.test"));
        assert_eq!(no(&w, gone).await, "jane@x.test is what an account signs in as");
        let rename = |login| AccountChange { login: Some(at(login)), name: Some("Jane".into()), ..Default::default() };
        let wrong = rename("a@x.test");
        let text = "An account signs in as one of its own addresses";
        assert_eq!(no(&w, move |tx| change_account(tx, jane, &wrong)).await, text);
        let right = rename("jane.doe@x.test");
        w.job(move |tx| change_account(tx, jane, &right)).await.unwrap();
        w.job(gone).await.unwrap();
        let now = w.job(move |tx| account(tx, jane)).await.unwrap();
        assert_eq!(
            (now.login.to_string().as_str(), now.name.as_str(), now.quota),
            ("jane.doe@x.test", "Jane", Some(1000))
        );

        w.job(move |tx| remove_account(tx, jane)).await.unwrap();
        assert_eq!(no(&w, move |tx| account(tx, jane)).await, "There is no such account");
        assert_ne!(w.account("jane@x.test").await, jane, "a number is never given twice");
        let domain = w.domain;
        let listed = w.job(move |tx| addresses(tx, domain, "a", 2)).await.unwrap();
        assert_eq!(listed.iter().map(|e| e.address.local()).collect::<Vec<_>>(), ["admin", "b"]);
    }
}

#[tokio::test]
async fn lists_lead_somewhere_and_never_back() {
    for w in World::each().await {
        w.account("jane@x.test").await;
        let list = |targets: &[&str]| Route::Alias(targets.iter().map(|t| at(t)).collect());
        for (route, refusal) in [
            (list(&[]), "A list has 1 to 1000 targets"),
            (list(&["jane@x.test", "gone@x.test"]), "There is no address gone@x.test"),
            (Route::Forward(vec![at("jane@x.test")]), "jane@x.test is on this server: make an alias, not a forward"),
            (list(&["self@x.test"]), "There is no address self@x.test"),
            (Route::Account(base::AccountId(99)), "There is no such account"),
        ] {
            assert_eq!(w.try_address("self@x.test", route).await.unwrap_err(), refusal);
        }
        w.alias("one@x.test", &["jane@x.test"]).await;
        w.alias("two@x.test", &["one@x.test"]).await;
        for back in ["two@x.test", "One@x.test", "two+x@x.test"] {
            let route = list(&["jane@x.test", back]);
            let text = no(&w, move |tx| change_address(tx, &at("one@x.test"), &route)).await;
            assert_eq!(text, "Mail to one@x.test would come back to it", "{back}");
        }
        let text = no(&w, |tx| remove_address(tx, &at("one@x.test"))).await;
        assert_eq!(text, "two@x.test still delivers to one@x.test");
        assert_eq!(no(&w, |tx| remove_address(tx, &at("no@x.test"))).await, "There is no address no@x.test");
        w.job(|tx| remove_address(tx, &at("two@x.test"))).await.unwrap();
        w.job(|tx| remove_address(tx, &at("one@x.test"))).await.unwrap();
    }
}

#[tokio::test]
async fn trap_27_hostile_texts_go_through_as_data() {
    for w in World::each().await {
        let organisation = w.organisation;
        for local in ["'; DROP TABLE address; --", "a' OR '1'='1", "%", "_", "?1", "\\", "a\"b"] {
            let address = base::Address::new(local, "x.test").unwrap();
            let login = address.clone();
            let job = move |tx: &mut Tx<'_>| {
                let (quota, administrator) = (None, false);
                let new =
                    NewAccount { organisation, login: &login, name: login.local(), quota, administrator, created: NOW };
                create_account(tx, &new)
            };
            let id = w.job(job).await.unwrap();
            let asked = address.clone();
            let found = w.job(move |tx| account_by_login(tx, &asked)).await.unwrap().unwrap();
            assert_eq!((found.id, found.name.as_str()), (id, local));
            let Resolution::Deliver(to) = w.directory.resolve(&address).await.unwrap() else { panic!("{local}") };
            assert_eq!((to.local.len(), to.local[0].account), (1, id), "{local}");
        }
        assert_eq!(w.shows("anyone@x.test").await, "unknown");
        assert!(!no(&w, |tx| create_organisation(tx, "a\r\nBcc: b@x.test", NOW)).await.is_empty());
    }
}

#[tokio::test]
async fn changes_made_at_once_do_not_contradict_each_other() {
    for w in World::each().await {
        let jane = w.account("jane@x.test").await;
        for n in 0..30 {
            let (short, list) = (at(&format!("j{n}@x.test")), at(&format!("list{n}@x.test")));
            w.try_address(&short.to_string(), Route::Account(jane)).await.unwrap();
            let gone = short.clone();
            let (listed, removed) = tokio::join!(
                w.job(move |tx| create_address(tx, &list, &Route::Alias(vec![short.clone()]), NOW)),
                w.job(move |tx| remove_address(tx, &gone)),
            );
            // Whichever came first, the other was refused; the tables are checked when the world ends.
            assert!(listed.is_ok() != removed.is_ok(), "{listed:?} {removed:?}");
        }
    }
}

#[tokio::test]
async fn a_day_of_sending_begins_with_its_first_mail() {
    for w in World::each().await {
        let (jane, day) = (w.account("jane@x.test").await, 24 * 3600 * 1000);
        let work = move |tx: &mut store::Tx<'_>| {
            let left = |tx: &mut store::Tx<'_>, at| directory::allowance(tx, jane, base::Timestamp(at));
            directory::spend(tx, jane, 10, base::Timestamp(1))?;
            directory::spend(tx, jane, 5, base::Timestamp(day))?;
            assert_eq!((left(tx, day)?, left(tx, day + 1)?, left(tx, 0)?), (DAILY - 15, DAILY, DAILY));
            directory::spend(tx, jane, 1, base::Timestamp(day + 1))?;
            assert_eq!(left(tx, day + 1)?, DAILY - 1);
            directory::remove_account(tx, jane)?;
            assert_eq!(left(tx, day + 1)?, DAILY);
            Ok(())
        };
        w.store.write(work).await.unwrap();
    }
}
