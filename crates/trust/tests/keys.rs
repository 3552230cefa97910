//! Keys are made, kept and used: what was signed verifies by what the DNS would tell, checked here by hand.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::Store;
use testkit::{Bed, engines};
use trust::{Algorithm, Digest, Keys, MIGRATIONS, NewKeys, PublicKey, add_keys, public_keys, remove_keys};

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
const MAIL: &str = "From: a@x.test\r\nSubject:  hi\r\n\tthere\r\nX-Other: 1\r\n\r\nHello  you \r\n\r\n";

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn with_keys(store: &Store) -> Vec<PublicKey> {
    let keys = NewKeys::generate(NOW).unwrap();
    store.write_blocking(move |tx| add_keys(tx, "x.test", &keys)).unwrap();
    store.read_blocking(|tx| public_keys(tx, "x.test")).unwrap()
}

fn sign(keys: &Keys, domain: &str, mail: &str) -> String {
    let mut digest = Digest::new();
    digest.push(mail.as_bytes());
    block_on(keys.sign(domain, digest, NOW)).unwrap()
}

/// One signature after another.
fn fields(signed: &str) -> Vec<String> {
    signed.split("DKIM-Signature").skip(1).map(|rest| format!("DKIM-Signature{rest}")).collect()
}

/// The tags of a signature, white space taken out.
fn tag(field: &str, name: &str) -> String {
    let text: String = field.split_once(':').unwrap().1.chars().filter(|c| !c.is_whitespace()).collect();
    text.split(';').find_map(|t| t.strip_prefix(&format!("{name}=")).map(str::to_owned)).unwrap()
}

/// Verifies one signature field of [`MAIL`]; its canonical form was written down by hand after RFC 6376 §3.4.
fn verifies(field: &str, key: &PublicKey) -> bool {
    assert_eq!(tag(field, "bh"), STANDARD.encode(digest(&SHA256, b"Hello you\r\n")));
    assert_eq!(tag(field, "h"), "From:From:To:Cc:Subject:Subject:Date:Message-ID");
    let value: Vec<&str> = field.split_once(':').unwrap().1.split_whitespace().collect();
    let value = value.join(" ");
    let (unsigned, _) = value.rsplit_once("b=").unwrap();
    let signed = format!("from:a@x.test\r\nsubject:hi there\r\ndkim-signature:{unsigned}b=");
    let (signature, public) = (STANDARD.decode(tag(field, "b")).unwrap(), STANDARD.decode(&key.key).unwrap());
    match key.algorithm {
        Algorithm::Rsa => {
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature)
        }
        Algorithm::Ed25519 => {
            UnparsedPublicKey::new(&ED25519, public).verify(digest(&SHA256, signed.as_bytes()).as_ref(), &signature)
        }
    }
    .is_ok()
}

#[test]
fn a_mail_is_signed_by_each_key_of_its_domain() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        let public = with_keys(&store);
        assert_eq!(public.iter().map(|k| k.selector.as_str()).collect::<Vec<_>>(), ["e20231114", "r20231114"]);
        let keys = Keys::new(store.clone());
        let signed = sign(&keys, "x.test", MAIL);
        let fields = fields(&signed);
        assert_eq!(fields.len(), 2, "{signed}");
        for (field, key) in fields.iter().zip(&public) {
            assert_eq!((tag(field, "d"), tag(field, "s")), ("x.test".into(), key.selector.clone()));
            assert!(verifies(field, key), "{field}");
            assert!(field.lines().all(|line| line.len() <= 78), "{field}");
        }
        assert_eq!(store.read_blocking(trust::verify).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn keys_go_with_their_domain() {
    let bed = Bed::sqlite();
    let store = bed.open(&[MIGRATIONS]);
    let keys = Keys::new(store.clone());
    assert_eq!(sign(&keys, "x.test", MAIL), "");
    with_keys(&store);
    assert!(sign(&keys, "x.test", MAIL).contains("d=x.test"));
    assert_eq!(sign(&keys, "y.test", MAIL), "");
    assert_eq!(sign(&keys, "x.test", "Subject: from nobody\r\n\r\n"), "");
    store.write_blocking(|tx| remove_keys(tx, "x.test")).unwrap();
    assert_eq!(sign(&keys, "x.test", MAIL), "");
}

#[test]
fn trap_02_the_signature_is_of_what_goes_out() {
    let bed = Bed::sqlite();
    let store = bed.open(&[MIGRATIONS]);
    let public = with_keys(&store);
    let keys = Keys::new(store);
    // What the wire makes of each of these is MAIL.
    for mail in [MAIL.replace("\r\n", "\n"), MAIL.replace("\r\n", "\r"), MAIL.replacen("\r\n\r\n", "\r\n\n", 1)] {
        let signed = sign(&keys, "x.test", &mail);
        assert!(verifies(&fields(&signed)[0], &public[0]), "{}", mail.escape_debug());
    }
}

#[test]
fn every_statement_is_understood() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        store.read_blocking(|tx| trust::ALL.iter().try_for_each(|sql| tx.prepare(sql))).unwrap();
    }
}
