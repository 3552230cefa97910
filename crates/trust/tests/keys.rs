//! Keys are made, kept and used: what was signed verifies by what the DNS would tell, checked here by hand.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use store::Store;
use testkit::{Bed, engines};
use trust::{
    Algorithm, Digest, Keys, MIGRATIONS, NewKeys, PublicKey, STAYS_PUBLISHED, State, activate, add_keys, forget_key,
    public_keys, remove_keys, rotate, unsettled,
};

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

fn states(store: &Store) -> Vec<(String, State)> {
    let keys = store.read_blocking(|tx| public_keys(tx, "x.test")).unwrap();
    keys.into_iter().map(|k| (k.selector, k.state)).collect()
}

#[test]
fn a_new_pair_signs_when_it_is_told_to_and_the_old_one_stays_known() {
    for bed in engines() {
        let store = bed.open(&[MIGRATIONS]);
        with_keys(&store);
        let keys = Keys::new(store.clone());
        let selectors = |signed: &str| fields(signed).iter().map(|f| tag(f, "s")).collect::<Vec<_>>();
        let first = ["e20231114", "r20231114"];
        assert_eq!(selectors(&sign(&keys, "x.test", MAIL)), first);
        let turn = |at: Timestamp| {
            let new = NewKeys::generate(at).unwrap();
            store.write_blocking(move |tx| rotate(tx, "x.test", &new))
        };
        assert!(!store.write_blocking(|tx| activate(tx, "x.test", NOW)).unwrap());
        // On the day the first was made, and only one at a time.
        turn(NOW).unwrap();
        assert!(turn(NOW).unwrap_err().refusal().is_some());
        let second = ["e20231114b", "r20231114b"];
        assert_eq!(selectors(&sign(&keys, "x.test", MAIL)), first);
        assert_eq!(store.read_blocking(|tx| unsettled(tx, NOW)).unwrap(), ["x.test"]);
        assert!(store.write_blocking(|tx| activate(tx, "x.test", NOW)).unwrap());
        assert_eq!(selectors(&sign(&keys, "x.test", MAIL)), second);
        let (old, new) = (State::Retired, State::Active);
        let expected = [(first[0], old), (second[0], new), (first[1], old), (second[1], new)];
        assert_eq!(states(&store), expected.map(|(name, state)| (name.to_owned(), state)));
        assert_eq!(store.read_blocking(trust::verify).unwrap(), Vec::<String>::new());
        // A retired one is told of for its time, then it may go; one in use may not.
        let later = Timestamp(NOW.0 + STAYS_PUBLISHED.as_millis() as i64);
        let public = store.read_blocking(|tx| public_keys(tx, "x.test")).unwrap();
        let told = |at| public.iter().filter(|key| key.is_published(at)).count();
        assert_eq!((told(Timestamp(later.0 - 1)), told(later)), (4, 2));
        assert!(store.read_blocking(move |tx| unsettled(tx, later)).unwrap().is_empty());
        assert_eq!(store.read_blocking(move |tx| unsettled(tx, Timestamp(later.0 + 1))).unwrap(), ["x.test"]);
        for name in ["e20231114", "r20231114b"] {
            store.write_blocking(move |tx| forget_key(tx, "x.test", name)).unwrap();
        }
        assert_eq!(states(&store).len(), 3);
    }
}

#[test]
fn a_retired_key_can_sign_no_more() {
    let bed = Bed::sqlite();
    let store = bed.open(&[MIGRATIONS]);
    with_keys(&store);
    let new = NewKeys::generate(NOW).unwrap();
    store.write_blocking(move |tx| rotate(tx, "x.test", &new).and_then(|()| activate(tx, "x.test", NOW))).unwrap();
    let secrets = store::Sql { name: "t", text: "SELECT selector, private_key FROM dkim_key WHERE domain = ?1" };
    let empty =
        move |tx: &mut store::Tx<'_>| tx.list(&secrets, store::params!["x.test"], |r| Ok(r.bytes(1)?.is_empty()));
    assert_eq!(store.read_blocking(empty).unwrap().iter().filter(|empty| **empty).count(), 2);
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
        store.read_blocking(|tx| trust::statements().try_for_each(|sql| tx.prepare(sql))).unwrap();
    }
}
