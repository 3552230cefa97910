//! Signing in with a login and a password.

use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Waker};

use base::{AccountId, Stream};
use directory::*;

use crate::world::{NOW, World};

const HOME: &str = "192.0.2.1";

async fn from(w: &World, ip: &str, login: &str, password: &str) -> Result<AccountId, AuthFailure> {
    let ip: IpAddr = ip.parse().unwrap();
    let attempt = Attempt { login: login.as_bytes(), password: password.as_bytes(), ip, service: "test" };
    w.directory.authenticate(attempt).await.map(|who| who.account)
}

async fn sign_in(w: &World, login: &str, password: &str) -> Result<AccountId, AuthFailure> {
    from(w, HOME, login, password).await
}

#[tokio::test]
async fn the_right_password_and_only_that() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Ok(jane));
    assert_eq!(sign_in(&w, "Jane@X.TEST", "pw").await, Ok(jane));
    w.alias("j@x.test", &["jane@x.test"]).await;
    let admin = "admin@x.test";
    for (login, password) in
        [("jane@x.test", "pw "), ("jane@x.test", ""), ("j@x.test", "pw"), (admin, ""), (admin, "pw"), ("", "pw")]
    {
        w.later(3600);
        assert_eq!(sign_in(&w, login, password).await, Err(AuthFailure::Invalid), "{login} {password}");
    }
}

#[tokio::test]
async fn trap_26_what_was_proven_ends_with_the_password_the_account_and_its_time() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Ok(jane));

    // It proved nothing for another account, nor for another password of this one.
    let joe = w.account("joe@x.test").await;
    let hash = w.directory.hash_password(b"better").await.unwrap();
    let better = hash.clone();
    w.job(move |tx| set_password(tx, joe, &better, NOW)).await.unwrap();
    assert_eq!(sign_in(&w, "joe@x.test", "pw").await, Err(AuthFailure::Invalid));
    assert_eq!(sign_in(&w, "jane@x.test", "pw2").await, Err(AuthFailure::Invalid));

    let disable = |on| AccountChange { disabled: Some(on), ..Default::default() };
    let off = disable(true);
    w.job(move |tx| change_account(tx, jane, &off)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Err(AuthFailure::Disabled));
    assert_eq!(sign_in(&w, "jane@x.test", "no").await, Err(AuthFailure::Invalid), "only its owner is told");
    let on = disable(false);
    w.job(move |tx| change_account(tx, jane, &on)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Ok(jane));

    w.later(10);
    w.job(move |tx| set_password(tx, jane, &hash, NOW)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Err(AuthFailure::Invalid));
    w.later(10);
    assert_eq!(sign_in(&w, "jane@x.test", "better").await, Ok(jane));
    w.password(joe).await;
    assert_eq!(sign_in(&w, "joe@x.test", "pw").await, Ok(joe));

    let listed = w.job(move |tx| credentials(tx, jane)).await.unwrap();
    let [only] = &listed[..] else { panic!("one password an account: {listed:?}") };
    let id = only.id;
    w.job(move |tx| remove_credential(tx, jane, id)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", "better").await, Err(AuthFailure::Invalid));
}

#[test]
fn trap_28_passwords_are_not_shown() {
    let ip: IpAddr = HOME.parse().unwrap();
    let attempt = Attempt { login: b"jane\r\n", password: b"hunter2", ip, service: "imap" };
    let shown = format!("{attempt:?} {:?}", Secret::from(&b"hunter2"[..]));
    assert!(!shown.contains("hunter2") && !shown.contains('\n') && shown.contains(r"jane\\r\\n"), "{shown}");
}

/// Whether a future has its answer without waiting for another thread.
fn at_once(future: impl Future) -> bool {
    pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[tokio::test]
async fn what_is_remembered_is_answered_on_the_spot() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    assert!(!at_once(sign_in(&w, "jane@x.test", "pw")));
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Ok(jane));
    let address = crate::world::at("jane@x.test");
    w.directory.resolve(&address).await.unwrap();
    w.directory.owns(jane, &address).await.unwrap();
    for _ in 0..2 {
        assert!(at_once(sign_in(&w, "jane@x.test", "pw")));
        assert!(at_once(w.directory.resolve(&address)) && at_once(w.directory.owns(jane, &address)));
        w.later(30);
    }
    // A change of something else costs a look at the store, but no hashing.
    w.account("joe@x.test").await;
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Ok(jane));
    assert!(at_once(sign_in(&w, "jane@x.test", "pw")));
    w.later(600);
    sign_in(&w, "joe@x.test", "guess").await.unwrap_err();
    assert!(!at_once(sign_in(&w, "jane@x.test", "pw")), "ten minutes later it is proven anew");
}

#[tokio::test]
async fn trap_28_an_unknown_login_is_hashed_like_a_known_one() {
    let w = World::new().await;
    w.account("jane@x.test").await;
    for login in ["jane@x.test", "nobody@x.test", "no address"] {
        assert_eq!(sign_in(&w, login, "guess").await, Err(AuthFailure::Invalid));
        // The login is in memory now, so what is waited for is the hash.
        assert!(!at_once(sign_in(&w, login, "guess")), "{login}");
    }
}

#[tokio::test]
async fn trap_28_guesses_are_turned_away_before_they_cost_anything() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    for _ in 0..3 {
        assert_eq!(from(&w, "203.0.113.9", "jane@x.test", "guess").await, Err(AuthFailure::Invalid));
    }
    let wait = Err(AuthFailure::TryLater { seconds: 1 });
    assert_eq!(from(&w, "203.0.113.9", "Jane@x.test", "pw").await, wait, "in any spelling, even the right one");
    assert_eq!(from(&w, HOME, "jane@x.test", "pw").await, Ok(jane), "the owner elsewhere is let in");
    w.later(1);
    assert_eq!(from(&w, "203.0.113.9", "jane@x.test", "guess").await, Err(AuthFailure::Invalid));
    assert_eq!(from(&w, "203.0.113.9", "jane@x.test", "g").await, Err(AuthFailure::TryLater { seconds: 2 }));
    w.later(2);
    let address = "203.0.113.9";
    assert_eq!(from(&w, address, "jane@x.test", "pw").await, Ok(jane), "and behind the guesser, after a wait");
}

#[tokio::test]
async fn trap_28_many_guesses_at_once_are_counted_too() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            let directory = w.directory.clone();
            tokio::spawn(async move {
                let (password, ip) = (format!("guess {n}"), HOME.parse().unwrap());
                let login = b"jane@x.test";
                let attempt = Attempt { login, password: password.as_bytes(), ip, service: "test" };
                directory.authenticate(attempt).await.unwrap_err()
            })
        })
        .collect();
    let mut looked_at = 0;
    for guess in guesses {
        looked_at += usize::from(guess.await.unwrap() == AuthFailure::Invalid);
    }
    // Three are free; those that hash at the same moment as the third, eight at most, are counted when they end.
    assert!((3..=3 + 8).contains(&looked_at), "{looked_at}");
}

#[tokio::test]
async fn app_passwords_sign_in_beside_the_password() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    let (phone, phone_password) = w.directory.create_app_password(jane, "Phone", None).await.unwrap();
    let (laptop, laptop_password) = w.directory.create_app_password(jane, "Laptop", None).await.unwrap();
    assert_ne!(phone_password, laptop_password);
    let (phone_text, laptop_text) = (phone_password.expose(), laptop_password.expose());
    for password in [phone_text, laptop_text, &laptop_text.replace('-', " "), "pw"] {
        assert_eq!(sign_in(&w, "jane@x.test", password).await, Ok(jane));
    }
    // Uses are written down in the bulk lane, where each job gets its turn after eight groups of others at the latest.
    for _ in 0..3 * 10 {
        w.job(|_| Ok(())).await.unwrap();
    }
    let listed = w.job(move |tx| credentials(tx, jane)).await.unwrap();
    let shown: Vec<_> = listed.iter().map(|c| (c.kind, c.name.as_str())).collect();
    assert_eq!(shown, [(Kind::Password, ""), (Kind::AppPassword, "Phone"), (Kind::AppPassword, "Laptop")]);
    assert!(listed.iter().all(|c| c.last_used == Some(NOW)), "{listed:?}");

    w.job(move |tx| remove_credential(tx, jane, phone)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", phone_text).await, Err(AuthFailure::Invalid));
    assert_eq!(sign_in(&w, "jane@x.test", laptop_text).await, Ok(jane));
    let again = w.job(move |tx| remove_credential(tx, jane, phone)).await.unwrap_err();
    assert_eq!(again.refusal().unwrap().reply().text, "There is no such credential");
    assert!(laptop > phone);

    for n in 1..MAX_APP_PASSWORDS {
        w.directory.create_app_password(jane, &format!("{n}"), None).await.unwrap();
    }
    let full = w.directory.create_app_password(jane, "one more", None).await.unwrap_err();
    assert_eq!(full.reply().text, "The account has 32 app passwords already: remove one");
}

#[tokio::test]
async fn a_credential_sends_in_its_own_stream_or_in_its_accounts() {
    let w = World::new().await;
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    let (_, shop) = w.directory.create_app_password(jane, "Shop", Some(Stream::Transactional)).await.unwrap();
    let (_, phone) = w.directory.create_app_password(jane, "Phone", None).await.unwrap();
    let stream = async |password: &str| {
        let ip: IpAddr = HOME.parse().unwrap();
        let attempt = Attempt { login: b"jane@x.test", password: password.as_bytes(), ip, service: "test" };
        w.directory.authenticate(attempt).await.unwrap().stream
    };
    let each = async || [stream("pw").await, stream(phone.expose()).await, stream(shop.expose()).await];
    assert_eq!(each().await, [Stream::Mail, Stream::Mail, Stream::Transactional]);
    let change = AccountChange { stream: Some(Stream::Marketing), ..Default::default() };
    w.job(move |tx| change_account(tx, jane, &change)).await.unwrap();
    assert_eq!(each().await, [Stream::Marketing, Stream::Marketing, Stream::Transactional]);
    let shown = w.job(move |tx| account(tx, jane)).await.unwrap();
    assert_eq!(shown.stream, Stream::Marketing);
    let listed = w.job(move |tx| credentials(tx, jane)).await.unwrap();
    assert_eq!(listed.iter().map(|c| c.stream).collect::<Vec<_>>(), [None, Some(Stream::Transactional), None]);
}

async fn pass(w: &World, login: &str, password: &str) -> Pass {
    let ip: IpAddr = HOME.parse().unwrap();
    let attempt = Attempt { login: login.as_bytes(), password: password.as_bytes(), ip, service: "test" };
    w.directory.authenticate(attempt).await.unwrap().pass
}

async fn ends(pass: &Pass) {
    tokio::time::timeout(std::time::Duration::from_secs(20), pass.revoked()).await.unwrap();
    assert!(pass.is_revoked());
}

fn disabled(on: bool) -> AccountChange {
    AccountChange { disabled: Some(on), ..Default::default() }
}

/// Each world, on each engine, with Jane and Joe.
async fn worlds() -> Vec<(World, AccountId, AccountId)> {
    let mut worlds = Vec::new();
    for w in World::each().await {
        let (jane, joe) = (w.account("jane@x.test").await, w.account("joe@x.test").await);
        w.password(jane).await;
        w.password(joe).await;
        worlds.push((w, jane, joe));
    }
    worlds
}

#[tokio::test]
async fn a_session_ends_with_its_credential_and_with_no_other() {
    for (w, jane, _) in worlds().await {
        let (_, phone_password) = w.directory.create_app_password(jane, "Phone", None).await.unwrap();
        let (laptop, laptop_password) = w.directory.create_app_password(jane, "Laptop", None).await.unwrap();
        let by_password = pass(&w, "jane@x.test", "pw").await;
        // Two of one credential; one in another spelling, out of memory.
        let by_laptop = [
            pass(&w, "jane@x.test", laptop_password.expose()).await,
            pass(&w, "Jane@x.test", laptop_password.expose()).await,
        ];
        let by_phone = pass(&w, "jane@x.test", phone_password.expose()).await;
        let joes = pass(&w, "joe@x.test", "pw").await;

        w.job(move |tx| remove_credential(tx, jane, laptop)).await.unwrap();
        for pass in &by_laptop {
            ends(pass).await;
        }
        assert!(!by_password.is_revoked() && !by_phone.is_revoked());
        w.password(jane).await;
        ends(&by_password).await;
        assert!(!by_phone.is_revoked() && !joes.is_revoked());
        let again = pass(&w, "jane@x.test", "pw").await;
        w.job(move |tx| remove_account(tx, jane)).await.unwrap();
        ends(&by_phone).await;
        ends(&again).await;
        assert!(!joes.is_revoked());
    }
}

#[tokio::test]
async fn a_disabled_account_has_no_sessions_and_an_enabled_one_has_new_ones() {
    for (w, jane, _) in worlds().await {
        let before = pass(&w, "jane@x.test", "pw").await;
        w.job(move |tx| change_account(tx, jane, &AccountChange { name: Some("Jane".into()), ..Default::default() }))
            .await
            .unwrap();
        w.job(move |tx| change_account(tx, jane, &disabled(true))).await.unwrap();
        ends(&before).await;
        assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Err(AuthFailure::Disabled));
        w.job(move |tx| change_account(tx, jane, &disabled(false))).await.unwrap();
        let after = pass(&w, "jane@x.test", "pw").await;
        assert!(!after.is_revoked() && before.is_revoked());
        // The store says that it does not know what changed, and nothing did.
        w.job(|tx| {
            tx.publish(std::sync::Arc::new(store::Gap));
            Ok(())
        })
        .await
        .unwrap();
        w.job(move |tx| change_account(tx, jane, &disabled(true))).await.unwrap();
        ends(&after).await;
    }
}

#[tokio::test]
async fn a_sign_in_under_way_is_decided_by_what_is_when_it_is_done() {
    for (w, jane, joe) in worlds().await {
        let (directory, ip) = (w.directory.clone(), HOME.parse().unwrap());
        let begin = |login: &'static str| {
            let directory = directory.clone();
            let attempt = Attempt { login: login.as_bytes(), password: b"pw", ip, service: "test" };
            async move { directory.authenticate(attempt).await.map(|who| who.account) }
        };
        // What the store knows was read: from here on both wait for their hash.
        for login in ["jane@x.test", "joe@x.test"] {
            sign_in(&w, login, "guess").await.unwrap_err();
        }
        let (mut janes, mut joes) = (Box::pin(begin("jane@x.test")), Box::pin(begin("joe@x.test")));
        for under_way in [&mut janes, &mut joes] {
            assert!(under_way.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        w.job(move |tx| change_account(tx, jane, &disabled(true))).await.unwrap();
        w.job(move |tx| remove_account(tx, joe)).await.unwrap();
        assert_eq!(janes.await, Err(AuthFailure::Disabled));
        assert_eq!(joes.await, Err(AuthFailure::Invalid));
    }
}
