//! Signing in with a login and a password.

use std::net::IpAddr;

use base::AccountId;
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

    // Another account's same password was not proven by this one's, nor another password of this one.
    let joe = w.account("joe@x.test").await;
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

    let hash = w.directory.hash_password(b"better").await.unwrap();
    w.job(move |tx| set_password(tx, jane, &hash, NOW)).await.unwrap();
    assert_eq!(sign_in(&w, "jane@x.test", "pw").await, Err(AuthFailure::Invalid));
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
