//! SASL conversations with the directory: what a session sees, as `C:` and `S:` lines out of base64.

use aws_lc_rs::{digest, hmac, pbkdf2};
use base::AccountId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use directory::sasl::Mechanism;
use directory::*;

use crate::world::World;

const HERE: &str = "192.0.2.1";

fn begin(mechanism: Mechanism, binding: Option<&[u8]>) -> Conversation {
    let binding = binding.map(<[u8]>::to_vec);
    Conversation::new(mechanism, Channel { ip: HERE.parse().unwrap(), service: "test", binding })
}

async fn say(w: &World, with: &mut Conversation, line: Option<&str>) -> Result<String, AuthFailure> {
    match w.directory.converse(with, line.map(str::as_bytes)).await? {
        Turn::Challenge(text) => Ok(format!("S: {}", String::from_utf8(text).unwrap())),
        Turn::SignedIn(who) => Ok(format!("signed in: {}", who.login)),
    }
}

/// A client's last message and the proof it expects of the server, by the definitions of RFC 5802 §3.
fn client_final(bare: &str, server_first: &str, binding: &[u8], password: &str) -> (String, String) {
    let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let attribute = |name: &str| server_first.split(',').find_map(|a| a.strip_prefix(name)).unwrap().to_owned();
    let (nonce, salt) = (attribute("r="), BASE64.decode(attribute("s=")).unwrap());
    let mut salted = [0; 32];
    let iterations = attribute("i=").parse().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let client = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let unproven = format!("c={},r={nonce}", BASE64.encode(binding));
    let message = format!("{bare},{server_first},{unproven}");
    let signature = sign(stored.as_ref(), message.as_bytes());
    let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    let server = sign(sign(&salted, b"Server Key").as_ref(), message.as_bytes());
    (format!("{unproven},p={}", BASE64.encode(proof)), format!("S: v={}", BASE64.encode(server)))
}

/// A whole SCRAM sign-in.
async fn scram(w: &World, login: &str, password: &str, binding: Option<&[u8]>) -> Result<String, AuthFailure> {
    let (mechanism, header) = match binding {
        Some(_) => (Mechanism::ScramSha256Plus, "p=tls-exporter,,"),
        None => (Mechanism::ScramSha256, "n,,"),
    };
    let mut c = begin(mechanism, binding);
    assert_eq!(say(w, &mut c, None).await?, "S: ");
    let bare = format!("n={login},r=fyko+d2lbbFgONRv9qkxdawL");
    let server_first = say(w, &mut c, Some(&format!("{header}{bare}"))).await?;
    let bound = [header.as_bytes(), binding.unwrap_or_default()].concat();
    let (last, expected) = client_final(&bare, &server_first["S: ".len()..], &bound, password);
    assert_eq!(say(w, &mut c, Some(&last)).await?, expected, "the server proves itself");
    say(w, &mut c, Some("")).await
}

async fn jane(w: &World) -> (AccountId, [String; 2]) {
    let jane = w.account("jane@x.test").await;
    w.password(jane).await;
    let (_, first) = w.directory.create_app_password(jane, "Phone", None).await.unwrap();
    let (_, second) = w.directory.create_app_password(jane, "Laptop", None).await.unwrap();
    (jane, [first, second].map(|p| p.expose().to_owned()))
}

#[tokio::test]
async fn plain_and_login() {
    let w = World::new().await;
    jane(&w).await;
    let mut c = begin(Mechanism::Plain, None);
    assert_eq!(say(&w, &mut c, Some("\0jane@x.test\0pw")).await.unwrap(), "signed in: jane@x.test");
    let mut c = begin(Mechanism::Plain, None);
    assert_eq!(say(&w, &mut c, None).await.unwrap(), "S: ");
    assert_eq!(say(&w, &mut c, Some("\0jane@x.test\0pw")).await.unwrap(), "signed in: jane@x.test");
    let mut c = begin(Mechanism::Login, None);
    assert_eq!(say(&w, &mut c, None).await.unwrap(), "S: Username:");
    assert_eq!(say(&w, &mut c, Some("jane@x.test")).await.unwrap(), "S: Password:");
    assert_eq!(say(&w, &mut c, Some("guess")).await, Err(AuthFailure::Invalid));
    assert_eq!(say(&w, &mut c, Some("pw")).await, Err(AuthFailure::Malformed), "it is over");
}

#[tokio::test]
async fn scram_with_any_app_password_and_with_no_other() {
    let w = World::new().await;
    let (account, passwords) = jane(&w).await;
    for password in &passwords {
        assert_eq!(scram(&w, "jane@x.test", password, None).await.unwrap(), "signed in: jane@x.test");
        let plus = scram(&w, "Jane@x.test", password, Some(b"exported")).await;
        assert_eq!(plus.unwrap(), "signed in: jane@x.test");
    }
    assert_eq!(scram(&w, "jane@x.test", "pw", None).await, Err(AuthFailure::Invalid));
    let change = AccountChange { disabled: Some(true), ..Default::default() };
    w.job(move |tx| change_account(tx, account, &change)).await.unwrap();
    assert_eq!(scram(&w, "jane@x.test", &passwords[0], None).await, Err(AuthFailure::Disabled));
}

#[tokio::test]
async fn trap_28_scram_does_not_tell_who_exists() {
    let w = World::new().await;
    jane(&w).await;
    let mut salts = Vec::new();
    for login in ["jane@x.test", "admin@x.test", "nobody@x.test", "no address", "jane@x.test", "NOBODY@x.test"] {
        let mut c = begin(Mechanism::ScramSha256, None);
        let first = say(&w, &mut c, Some(&format!("n,,n={login},r=abc"))).await.unwrap();
        let [nonce, salt, iterations] = first.split(',').collect::<Vec<_>>()[..] else { panic!("{first}") };
        assert!(nonce.starts_with("S: r=abc") && nonce.len() > 24 && iterations == "i=4096", "{first}");
        assert_eq!(BASE64.decode(&salt[2..]).unwrap().len(), 16);
        salts.push(salt.to_owned());
    }
    assert_eq!((&salts[4], &salts[5]), (&salts[0], &salts[2]), "the same salt at each asking");
    salts.truncate(4);
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), 4, "and another for each");
}

#[tokio::test]
async fn trap_28_scram_failures_are_counted() {
    let w = World::new().await;
    let (_, passwords) = jane(&w).await;
    for login in ["jane@x.test", "nobody@x.test"] {
        for _ in 0..3 {
            assert_eq!(scram(&w, login, "guess", None).await, Err(AuthFailure::Invalid));
        }
        assert_eq!(scram(&w, login, &passwords[0], None).await, Err(AuthFailure::TryLater { seconds: 1 }));
    }
    w.later(1);
    assert_eq!(scram(&w, "jane@x.test", &passwords[0], None).await.unwrap(), "signed in: jane@x.test");
}

#[tokio::test]
async fn a_credential_removed_between_a_clients_messages_signs_nobody_in() {
    for removed_before_the_proof in [true, false] {
        let w = World::new().await;
        let (account, [password, _]) = jane(&w).await;
        let mut c = begin(Mechanism::ScramSha256, None);
        let bare = "n=jane@x.test,r=fyko+d2lbbFgONRv9qkxdawL";
        let server_first = say(&w, &mut c, Some(&format!("n,,{bare}"))).await.unwrap();
        let (last, expected) = client_final(bare, &server_first["S: ".len()..], b"n,,", &password);
        let phone = w.job(move |tx| credentials(tx, account)).await.unwrap()[1].id;
        if removed_before_the_proof {
            w.job(move |tx| remove_credential(tx, account, phone)).await.unwrap();
            assert_eq!(say(&w, &mut c, Some(&last)).await, Err(AuthFailure::Invalid));
        } else {
            assert_eq!(say(&w, &mut c, Some(&last)).await.unwrap(), expected);
            w.job(move |tx| remove_credential(tx, account, phone)).await.unwrap();
            // The task that revokes passes has its turn.
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            assert_eq!(say(&w, &mut c, Some("")).await, Err(AuthFailure::Invalid));
        }
    }
}
