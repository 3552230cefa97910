//! Exchanges as transcripts, without a store.

use super::*;

fn user(password: &str) -> ScramUser {
    let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    ScramUser::with(vec![
        (CredentialId(1), ScramKeys::derive(b"another", &salt, ITERATIONS)),
        (CredentialId(2), ScramKeys::derive(password.as_bytes(), &salt, ITERATIONS)),
    ])
    .unwrap()
}

fn challenge(step: Result<Step, AuthFailure>) -> String {
    match step {
        Ok(Step::Challenge(c)) => String::from_utf8(c).unwrap(),
        other => panic!("no challenge: {other:?}"),
    }
}

fn login(step: Result<Step, AuthFailure>) -> String {
    match step {
        Ok(Step::Lookup { login }) => String::from_utf8(login).unwrap(),
        other => panic!("no lookup: {other:?}"),
    }
}

/// The dialogue of RFC 7677 §3.
#[test]
fn scram_sha_256_as_in_rfc_7677() {
    let mut exchange = Exchange::new(Mechanism::ScramSha256, None);
    assert_eq!(challenge(exchange.start(None)), "");
    assert_eq!(login(exchange.step(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")), "user");
    assert_eq!(
        challenge(exchange.keys(user("pencil"), "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")),
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = exchange.step(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    let Ok(Step::Proven { credential, last }) = last else { panic!("{last:?}") };
    assert_eq!(credential, CredentialId(2));
    assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    assert!(matches!(exchange.step(b""), Ok(Step::Done)));
    assert!(exchange.step(b"").is_err(), "it is over");
}

/// What a client would send: the proof is made here from the definitions of RFC 5802 §3.
fn client_final(bare: &str, server_first: &str, binding: &[u8], password: &str) -> String {
    let nonce = server_first.split(',').find_map(|a| a.strip_prefix("r=")).unwrap();
    client_final_with(bare, server_first, nonce, binding, password)
}

fn client_final_with(bare: &str, server_first: &str, nonce: &str, binding: &[u8], password: &str) -> String {
    use aws_lc_rs::{digest, hmac, pbkdf2};
    let sign = |key: &[u8], message: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let attribute = |name: &str| server_first.split(',').find_map(|a| a.strip_prefix(name)).unwrap().to_owned();
    let salt = BASE64.decode(attribute("s=")).unwrap();
    let iterations = attribute("i=").parse().unwrap();
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let client = sign(&salted, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let unproven = format!("c={},r={nonce}", BASE64.encode(binding));
    let signature = sign(stored.as_ref(), format!("{bare},{server_first},{unproven}").as_bytes());
    let proof: Vec<u8> = client.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
    format!("{unproven},p={}", BASE64.encode(proof))
}

fn scram(
    mechanism: Mechanism,
    offered: Option<&[u8]>,
    header: &str,
    bound: &[u8],
    password: &str,
) -> Result<Step, AuthFailure> {
    let mut exchange = Exchange::new(mechanism, offered.map(<[u8]>::to_vec));
    let bare = "n=jane,r=abc";
    let Step::Lookup { .. } = exchange.step(format!("{header}{bare}").as_bytes())? else { panic!() };
    let server_first = challenge(exchange.keys(user("pencil"), "def"));
    let binding = [header.as_bytes(), bound].concat();
    exchange.step(client_final(bare, &server_first, &binding, password).as_bytes())
}

#[test]
fn the_channel_is_bound_and_a_downgrade_is_noticed() {
    use Mechanism::{ScramSha256 as Bare, ScramSha256Plus as Plus};
    let here = Some(&b"the exporter's 32 octets"[..]);
    let bound = |m, offered, header, data: &[u8]| scram(m, offered, header, data, "pencil").map(|_| ());
    let same = b"the exporter's 32 octets";
    assert_eq!(bound(Plus, here, "p=tls-exporter,,", same), Ok(()));
    assert_eq!(bound(Bare, here, "n,,", b""), Ok(()));
    assert_eq!(bound(Bare, None, "y,,", b""), Ok(()));
    let no = Err(AuthFailure::Invalid);
    assert_eq!(bound(Bare, here, "y,,", b""), no, "the offer of -PLUS did not reach the client: RFC 5802 §6");
    assert_eq!(bound(Plus, here, "p=tls-exporter,,", b"of another channel"), no);
    assert_eq!(bound(Plus, here, "p=tls-exporter,,", b""), no);
    assert_eq!(bound(Plus, here, "p=tls-unique,,", same), no);
    assert_eq!(bound(Plus, here, "n,,", b""), no);
    assert_eq!(bound(Plus, None, "p=tls-exporter,,", b""), no);
    assert_eq!(bound(Bare, here, "p=tls-exporter,,", same), no);
    assert_eq!(bound(Bare, None, "n,,", b"unasked"), no);
}

#[test]
fn a_wrong_proof_or_nonce_proves_nothing() {
    let no = Err(AuthFailure::Invalid);
    assert_eq!(scram(Mechanism::ScramSha256, None, "n,,", b"", "pencil2").map(|_| ()), no);
    let mut exchange = Exchange::new(Mechanism::ScramSha256, None);
    assert_eq!(login(exchange.step(b"n,,n=jane,r=abc")), "jane");
    let server_first = challenge(exchange.keys(user("pencil"), "def"));
    // Signed with the right password, but with another nonce than the one that was offered (RFC 5802 §5.1, `r:`).
    let other = client_final_with("n=jane,r=abc", &server_first, "abcdeg", b"n,,", "pencil");
    assert_eq!(exchange.step(other.as_bytes()).map(|_| ()), no);
    assert_eq!(exchange.step(b"").map(|_| ()), Err(AuthFailure::Malformed), "and there is no second try");
}

#[test]
fn names_are_unescaped() {
    for (first, name) in
        [("n,,n=a=2Cb=3Dc,r=x", "a,b=c"), ("n,a=jane,n=jane,r=x", "jane"), ("n,,n=j=C3,r=x", ""), ("n,,n==,r=x", "")]
    {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, None);
        match exchange.step(first.as_bytes()) {
            Ok(Step::Lookup { login }) => assert_eq!(login, name.as_bytes()),
            other => assert!(name.is_empty() && matches!(other, Err(AuthFailure::Malformed)), "{first}: {other:?}"),
        }
    }
}

#[test]
fn plain_and_login() {
    let who = |step| match step {
        Ok(Step::Password { login, password }) => {
            Ok((String::from_utf8(login).unwrap(), String::from_utf8(password.expose().to_vec()).unwrap()))
        }
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e),
    };
    let plain = |message: &[u8]| who(Exchange::new(Mechanism::Plain, None).start(Some(message)));
    let jane = || Ok(("jane".to_owned(), "p w".to_owned()));
    assert_eq!(plain(b"\0jane\0p w"), jane());
    assert_eq!(plain(b"jane\0jane\0p w"), jane());
    assert_eq!(plain(b"root\0jane\0p w"), Err(AuthFailure::Invalid));
    for bad in [&b""[..], b"jane", b"\0jane", b"\0\0p", b"\0jane\0p\0w", &[0; 20_000]] {
        assert_eq!(plain(bad), Err(AuthFailure::Malformed));
    }

    let mut exchange = Exchange::new(Mechanism::Login, None);
    assert_eq!(challenge(exchange.start(None)), "Username:");
    assert_eq!(challenge(exchange.step(b"jane")), "Password:");
    assert_eq!(who(exchange.step(b"p w")), jane());
    let mut exchange = Exchange::new(Mechanism::Login, None);
    assert_eq!(challenge(exchange.start(Some(b"jane"))), "Password:");
    assert_eq!(who(exchange.step(b"p w")), jane());
    assert!(exchange.step(b"more").is_err());
}

#[test]
fn trap_28_bad_base64_and_bad_messages_are_refused_without_harm() {
    for bad in [&b"="[..], b"A", b"AAA", b"AA=A", b"AB==", b"AA==\r\n", b"A A=", b"\xff\xff\xff\xff"] {
        assert_eq!(decode(bad), Err(AuthFailure::Malformed), "{}", bad.escape_ascii());
    }
    assert_eq!(decode(&vec![b'A'; MAX_MESSAGE / 3 * 4]).map(|m| m.len()), Ok(MAX_MESSAGE));
    assert_eq!(decode(&vec![b'A'; MAX_MESSAGE / 3 * 4 + 4]), Err(AuthFailure::Malformed));
    let long_nonce = format!("n,,n=jane,r={}", "x".repeat(MAX_NONCE + 1));
    let long_name = format!("n,,n={},r=x", "x".repeat(MAX_LOGIN + 1));
    for bad in [
        "",
        ",",
        ",,",
        "n,,",
        "n,,n=jane",
        "n,,r=x,n=jane",
        "n,,m=1,n=jane,r=x",
        "n,,n=jane,r=",
        "q,,n=jane,r=x",
        "n,x,n=jane,r=x",
        "n,,n=,r=x",
        "n,,n=jane,r=a b",
        &long_nonce,
        &long_name,
    ] {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, None);
        assert_eq!(exchange.step(bad.as_bytes()).map(|_| ()), Err(AuthFailure::Malformed), "{bad}");
        assert!(exchange.step(b"n,,n=jane,r=x").is_err(), "it is over");
    }
    for bad in
        ["", ",p=", "p=AAAA", "c=biws,r=abcdef", "r=abcdef,c=biws,p=AAAA", "c=biws,r=abcdef,p=AAAA", "c=!,r=abcdef,p=!"]
    {
        let mut exchange = Exchange::new(Mechanism::ScramSha256, None);
        login(exchange.step(b"n,,n=jane,r=abc"));
        challenge(exchange.keys(user("pencil"), "def"));
        assert_eq!(exchange.step(bad.as_bytes()).map(|_| ()), Err(AuthFailure::Malformed), "{bad}");
    }
}
