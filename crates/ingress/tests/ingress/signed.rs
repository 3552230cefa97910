//! Trap 2: what is signed is what is sent, stray CR and LF and all. The mails go through all there is between a session
//! and the socket; mail-auth, which is not ours, then verifies what came out there.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use ingress::Origin;
use mail_auth::common::parse::TxtRecordParser;
use mail_auth::common::verify::DomainKey;
use mail_auth::hickory_resolver::config::{ResolverConfig, ResolverOpts};
use mail_auth::{AuthenticatedMessage, DkimResult, MessageAuthenticator, Parameters, ResolverCache, Txt};
use smtp::Mail;
use smtp::client::{Client, Config, Event, Step};
use store::Tx;
use trust::NewKeys;

use crate::world::{BODY, NOW, World, from, to};

/// What the DNS tells of a domain's keys.
struct Records(HashMap<Box<str>, Txt>);

impl ResolverCache<Box<str>, Txt> for Records {
    fn get<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        self.0.get(name).cloned()
    }

    fn remove<Q: Hash + Eq + ?Sized>(&self, _: &Q) -> Option<Txt>
    where
        Box<str>: Borrow<Q>,
    {
        None
    }

    fn insert(&self, _: Box<str>, _: Txt, _: Instant) {}
}

async fn records(w: &World) -> Records {
    let keys = w.store.read(|tx| trust::public_keys(tx, "example.test")).await.unwrap();
    let records = trust::dns_records("example.test", "mx.example.test", (None, &[]), &keys, NOW).into_iter();
    let keys = records.filter(|r| r.name.contains("._domainkey."));
    let parsed = |text: &str| Txt::DomainKey(Arc::new(DomainKey::parse(text.as_bytes()).unwrap()));
    Records(keys.map(|r| (format!("{}.", r.name).into(), parsed(&r.value))).collect())
}

/// How many signatures verify; all must.
async fn verified(shown: &[u8], records: &Records) -> usize {
    // It is asked nothing: the records are there.
    let nobody = MessageAuthenticator::new(ResolverConfig::default(), ResolverOpts::default()).unwrap();
    let mail = AuthenticatedMessage::parse(shown).unwrap();
    let outcome = nobody.verify_dkim(Parameters::new(&mail).with_txt_cache(records)).await;
    assert!(outcome.iter().all(|one| *one.result() == DkimResult::Pass), "{}", shown.escape_ascii());
    outcome.len()
}

/// The last mail of the queue, as a peer without or with CHUNKING reads it; it is given to the wire in pieces of `cut`.
async fn sent(w: &World, chunked: bool, cut: usize) -> Vec<u8> {
    let (message, _) = w.queue().await.pop().unwrap();
    let blob = w.store.blob(message.content.blob().unwrap()).unwrap();
    let mut mail = message.prefix.to_vec();
    blob.read(0, blob.len(), &mut mail).unwrap();
    let mut client = Client::new(Config::new("mx.example.test"));
    let say = |client: &mut Client, replies: &str| {
        client.sent(client.output().len());
        let mut input = replies.as_bytes();
        while let Step { consumed, event: Some(event) } = client.step(input) {
            assert!(matches!(event, Event::Ready | Event::SendBody), "{event:?}");
            input = &input[consumed..];
        }
    };
    let chunking = if chunked { "250-CHUNKING\r\n250-BINARYMIME\r\n" } else { "" };
    say(&mut client, &format!("220 b.test\r\n250-b.test\r\n250-8BITMIME\r\n{chunking}250 PIPELINING\r\n"));
    let envelope = Mail { from: message.from.clone(), body: message.body, ..Mail::default() };
    if chunked {
        client.send_in_chunks(envelope, vec![to("jane@b.test")], b"").unwrap();
        say(&mut client, "250 OK\r\n250 OK\r\n");
    } else {
        client.send(envelope, vec![to("jane@b.test")]).unwrap();
        say(&mut client, "250 OK\r\n250 OK\r\n354 go\r\n");
    }
    mail.chunks(cut).for_each(|part| client.body(part));
    client.body_end();
    let wire = client.output();
    let read = if chunked { joined(wire) } else { unstuffed(wire) };
    // RFC 5321 §2.3.8.
    let line_ends = read.windows(2).filter(|two| two == b"\r\n").count();
    assert!([b'\r', b'\n'].iter().all(|end| read.iter().filter(|b| *b == end).count() == line_ends));
    read
}

/// RFC 3030 §2: what BDAT brings.
fn joined(mut wire: &[u8]) -> Vec<u8> {
    let mut mail = Vec::new();
    loop {
        let end = wire.iter().position(|b| *b == b'\n').unwrap() + 1;
        let line = std::str::from_utf8(&wire[..end]).unwrap().trim_end();
        let words: Vec<&str> = line.strip_prefix("BDAT ").unwrap().split(' ').collect();
        let (chunk, rest) = wire[end..].split_at(words[0].parse().unwrap());
        mail.extend_from_slice(chunk);
        wire = rest;
        if words.get(1) == Some(&"LAST") {
            assert!(wire.is_empty());
            return mail;
        }
    }
}

/// RFC 5321 §4.5.2: what DATA brings.
fn unstuffed(wire: &[u8]) -> Vec<u8> {
    let text = wire.strip_suffix(b".\r\n").unwrap();
    let lines = text.split_inclusive(|b| *b == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

#[tokio::test]
async fn both_signatures_are_good_for_a_verifier_of_others() {
    let w = World::new().await;
    let records = records(&w).await;
    w.send(w.signed_in(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
    let mail = sent(&w, false, 1000).await;
    assert_eq!(verified(&mail, &records).await, 2);
    for algorithm in ["a=rsa-sha256", "a=ed25519-sha256"] {
        assert!(mail.windows(algorithm.len()).any(|part| part == algorithm.as_bytes()));
    }
}

/// The last mail of the queue, when `change` was made after its header had come and some of its body.
async fn changed_meanwhile(
    w: &World,
    change: impl Fn(&mut Tx<'_>) -> store::Result<()> + Send + 'static,
) -> (Vec<u8>, usize) {
    let mut incoming = w.ingress.start(Arc::new(w.signed_in()), from("me@example.test")).await.unwrap();
    incoming.recipient(&to("jane@b.test")).await.unwrap();
    let (first, rest) = BODY.split_at(BODY.find("hello").unwrap() + 2);
    incoming.push(first.as_bytes()).unwrap();
    w.store.write(change).await.unwrap();
    incoming.push(rest.as_bytes()).unwrap();
    assert!(incoming.commit().await.unwrap().iter().all(Result::is_ok));
    shown(w).await
}

/// The last mail of the queue, whole, and how many signatures of it verify.
async fn shown(w: &World) -> (Vec<u8>, usize) {
    let mail = sent(w, false, 100).await;
    assert!(mail.ends_with(b"\r\n\r\nhello\r\n"), "{}", mail.escape_ascii());
    let signatures = verified(&mail, &records(w).await).await;
    (mail, signatures)
}

fn has(mail: &[u8], words: &str) -> bool {
    mail.windows(words.len()).any(|part| part == words.as_bytes())
}

#[tokio::test]
async fn keys_that_come_while_a_mail_does_sign_the_next() {
    for dkim2 in [false, true] {
        let w = World::with(|keys| keys.with_dkim2(dkim2)).await;
        w.store.write(|tx| trust::remove_keys(tx, "example.test")).await.unwrap();
        // With the first it is known that there are none.
        for _ in 0..2 {
            w.send(w.signed_in(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
            let (mail, signatures) = shown(&w).await;
            assert_eq!((signatures, has(&mail, "Message-Instance:")), (0, false));
        }
        let new = NewKeys::generate(NOW).unwrap();
        let (mail, signatures) = changed_meanwhile(&w, move |tx| trust::add_keys(tx, "example.test", &new)).await;
        assert_eq!((signatures, has(&mail, "Message-Instance:")), (0, false));
        w.send(w.signed_in(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
        let (mail, signatures) = shown(&w).await;
        assert_eq!((signatures, has(&mail, "Message-Instance:")), (2, dkim2));
    }
}

#[tokio::test]
async fn keys_that_are_replaced_or_go_while_a_mail_comes_leave_it_whole() {
    let w = World::with(|keys| keys.with_dkim2(true)).await;
    w.send(w.signed_in(), from("me@example.test"), &[to("jane@b.test")], BODY).await;
    let new = NewKeys::generate(NOW).unwrap();
    let replaced = move |tx: &mut Tx<'_>| {
        trust::rotate(tx, "example.test", &new)?;
        trust::activate(tx, "example.test", NOW).map(drop)
    };
    let (mail, signatures) = changed_meanwhile(&w, replaced).await;
    assert_eq!((signatures, has(&mail, "Message-Instance:")), (2, true));
    // The second pair of that day.
    assert!(has(&mail, "s=r20231114b;") && has(&mail, "s=e20231114b;"), "{}", mail.escape_ascii());
    let (mail, signatures) = changed_meanwhile(&w, |tx| trust::remove_keys(tx, "example.test")).await;
    assert_eq!((signatures, has(&mail, "Message-Instance:")), (0, false));
}

#[tokio::test]
async fn trap_02_what_is_signed_is_what_is_sent() {
    let w = World::new().await;
    let records = records(&w).await;
    const PIECES: [&str; 14] = [
        "\r",
        "\n",
        "\r\n",
        "\r\n",
        "\r\n.\r\n",
        "\n.\n",
        "\r.\r",
        ".",
        " ",
        "\t ",
        "a",
        "b  c",
        "MAIL FROM:<x@y>",
        "=",
    ];
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |n: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) as usize % n
    };
    for round in 0..200 {
        let body: String = (0..random(40)).map(|_| PIECES[random(PIECES.len())]).collect();
        // The oracle does not take a line of blanks at the end for an empty one (RFC 6376 §3.4.4).
        let last = ["a", "a\t ", "a \r", "a\n", "a\r\n", "a\r\n\r\n", "a\n\r\r"][random(7)];
        let fields = ["X: y\r", "X: y\n", "Subject: a\n\tb\r\n", "Subject: a\rX: b\n", "To: x\r\n"][random(5)];
        let body = format!("From: me@example.test\r\n{fields}Date: x\r\nMessage-ID: <1@x>\r\n\r\n{body}{last}");
        let origin = if round % 2 == 0 { w.signed_in() } else { Origin { trusted: true, ..w.stranger() } };
        w.send(origin, from("me@example.test"), &[to("jane@b.test")], &body).await;
        for chunked in [false, true] {
            let mail = sent(&w, chunked, 1 + random(200)).await;
            assert_eq!(verified(&mail, &records).await, 2);
        }
    }
}
