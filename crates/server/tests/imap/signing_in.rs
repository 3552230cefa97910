//! Greeting, CAPABILITY, LOGIN, AUTHENTICATE, STARTTLS, ENABLE, ID, and how a session ends.

use base::{Clock, SystemClock};

use crate::world::World;

#[tokio::test]
async fn a_session_from_greeting_to_goodbye() {
    let world = World::new().await;
    let mut c = world.connect();
    c.play(
        r#"
        S: * OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE STARTTLS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN] mx.x.test is ready
        C: a SELECT INBOX
        S: a BAD Log in first
        C: b ID ("name" "test")
        S: * ID ("name" "Postroom")
        S: b OK ID completed
        C: c LOGIN u0@x.test wrong
        S: c NO [AUTHENTICATIONFAILED] Wrong user name or password
        C: d AUTHENTICATE NO-SUCH
        S: d NO [CANNOT] …
        C: e LOGIN u0@x.test pw
        S: e OK [CAPABILITY IMAP4rev1 IMAP4rev2 … APPENDLIMIT=8388608] Signed in
        C: f LOGIN u0@x.test pw
        S: f BAD You are signed in already
        C: g STARTTLS
        S: g BAD STARTTLS comes before signing in
        C: h FETCH 1 FLAGS
        S: h BAD Select a mailbox first
        C: i NAMESPACE
        S: * NAMESPACE (("" "/")) NIL NIL
        S: i OK NAMESPACE completed
        C: j NOOP
        S: j OK Done
        C: k LOGOUT
        S: * BYE Goodbye
        S: k OK LOGOUT completed
        "#,
    )
    .await;
    c.ended().await;
}

#[tokio::test]
async fn authenticate_plain_and_login_with_and_without_initial_response() {
    let world = World::new().await;
    // NUL u0@x.test NUL pw
    for script in [
        "C: a AUTHENTICATE PLAIN AHUwQHgudGVzdABwdw==\nS: a OK …",
        "C: a AUTHENTICATE PLAIN\nS: +…\nC: AHUwQHgudGVzdABwdw==\nS: a OK …",
        "C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\nC: dTBAeC50ZXN0\nS: + UGFzc3dvcmQ6\nC: cHc=\nS: a OK …",
        "C: a AUTHENTICATE PLAIN\nS: +…\nC: *\nS: a BAD Cancelled\nC: b NOOP\nS: b OK …",
        "C: a AUTHENTICATE PLAIN\nS: +…\nC: %%%\nS: a BAD …\nC: b NOOP\nS: b OK …",
        "C: a AUTHENTICATE PLAIN AAAA\nS: a BAD …\nC: b NOOP\nS: b OK …",
    ] {
        let mut c = world.connect();
        c.play("S: * OK …").await;
        c.play(script).await;
    }
}

#[tokio::test]
async fn never_in_the_clear_and_then_under_tls() {
    let world = World::with(0, false).await;
    let mut c = world.connect();
    c.play(
        r#"
        S: * OK [CAPABILITY … STARTTLS LOGINDISABLED] …
        C: a LOGIN u0@x.test pw
        S: a NO [PRIVACYREQUIRED] …
        C: b AUTHENTICATE PLAIN AHUwQHgudGVzdABwdw==
        S: b NO [PRIVACYREQUIRED] …
        C: c STARTTLS
        S: c OK Begin TLS now
        "#,
    )
    .await;
    c.start_tls().await;
    c.play(
        r#"
        C: d CAPABILITY
        S: * CAPABILITY … AUTH=SCRAM-SHA-256-PLUS AUTH=SCRAM-SHA-256 AUTH=PLAIN AUTH=LOGIN
        S: d OK …
        C: e STARTTLS
        S: e BAD TLS is on already
        C: f LOGIN u0@x.test pw
        S: f OK …
        "#,
    )
    .await;
}

#[tokio::test]
async fn trap_03_what_was_sent_ahead_of_tls_is_not_obeyed() {
    let world = World::new().await;
    let mut c = world.connect();
    c.play("S: * OK …").await;
    c.send(b"a STARTTLS\r\nb LOGIN u0@x.test pw\r\n").await;
    c.play("S: a OK Begin TLS now").await;
    c.ended().await;
}

#[tokio::test]
async fn trap_28_a_connection_has_few_guesses() {
    let world = World::new().await;
    let mut c = world.connect();
    c.play("S: * OK …").await;
    for n in 0..4 {
        c.play(&format!("C: {n} LOGIN nobody{n}@x.test x\nS: {n} NO [AUTHENTICATIONFAILED] …")).await;
    }
    c.play("C: x LOGIN nobody@x.test x\nS: x NO …\nS: * BYE Too many failed sign-ins").await;
    c.ended().await;
}

#[tokio::test]
async fn who_only_talks_nonsense_is_sent_away() {
    let world = World::new().await;
    let mut c = world.connect();
    c.play("S: * OK …").await;
    for n in 0..9 {
        c.play(&format!("C: {n} FROB\nS: {n} BAD …")).await;
    }
    c.play("C: x FROB\nS: x BAD …\nS: * BYE Too many wrong commands").await;
    c.ended().await;
}

#[tokio::test]
async fn enable_tells_what_is_new() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.play(
        r#"
        C: a ENABLE CONDSTORE X-UNKNOWN
        S: * ENABLED CONDSTORE
        S: a OK ENABLE completed
        C: b ENABLE QRESYNC CONDSTORE
        S: * ENABLED QRESYNC
        S: b OK ENABLE completed
        C: c ENABLE QRESYNC
        S: * ENABLED
        S: c OK ENABLE completed
        C: d CREATE Entw&APw-rfe
        S: d OK …
        C: e ENABLE UTF8=ACCEPT
        S: * ENABLED UTF8=ACCEPT
        S: e OK ENABLE completed
        C: f LIST "" Entw*
        S: * LIST (\HasNoChildren) "/" "Entwürfe"
        S: f OK LIST completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_stop_says_goodbye() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.play("C: a IDLE\nS: + idling").await;
    world.stop.send(true).unwrap();
    c.play("S: * BYE [UNAVAILABLE] The server is stopping").await;
    c.ended().await;
}

#[tokio::test]
async fn a_changed_password_ends_the_sessions_it_opened() {
    let world = World::new().await;
    let mut idle = world.inbox().await;
    idle.play("C: a IDLE\nS: + idling").await;
    let mut busy = world.client().await;
    let (account, hash) = (world.accounts[0], world.services.directory.hash_password(b"another").await.unwrap());
    let change = move |tx: &mut store::Tx<'_>| directory::set_password(tx, account, &hash, SystemClock.now());
    world.services.directory.store().write(change).await.unwrap();
    idle.play("S: * BYE Signed out: the account or its password was changed").await;
    idle.ended().await;
    busy.play("S: * BYE Signed out: …").await;
    busy.ended().await;
}
