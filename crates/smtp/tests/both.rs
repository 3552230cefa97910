//! The client machine talks to the server machine, over a wire that cuts what it carries anywhere.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use base::Address;
use common::{Caller, Random};
use smtp::client::{self, Client, Stage};
use smtp::server::Chunking;
use smtp::{BodyType, Config, Mail, Protocol, Rcpt, Recipient, Server};

/// A body of words that hurt.
fn body(random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 10] = [
        b"\r\n",
        b".",
        b"\r\n.\r\n",
        b"\n",
        b"\r",
        b"text",
        b"\r\n.\r\nMAIL FROM:<>\r\n",
        b"\n.\n",
        b"\r.\r",
        b"\xff\0",
    ];
    let mut body = Vec::new();
    for _ in 0..random.below(30) {
        body.extend_from_slice(WORDS[random.below(WORDS.len())]);
    }
    body
}

/// Every CR, LF and CRLF made a CRLF: written as simply as can be.
fn normalised(body: &[u8]) -> Vec<u8> {
    let text = body.iter().map(|&b| char::from(b)).collect::<String>();
    let text = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    text.chars().map(|c| c as u8).collect()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// Moves what each side has to say to the other, until the client has an event or both are silent.
fn exchange(client: &mut Client, server: &mut Server, caller: &mut Caller, random: &mut Random) -> Vec<client::Event> {
    let mut events = Vec::new();
    loop {
        let output = client.output();
        let n = random.below(output.len().min(40) + 1);
        let flight = output[..n].to_vec();
        client.sent(n);
        caller.feed(server, &flight, 1 + random.below(9));
        let reply = server.output()[..random.below(server.output().len().min(40) + 1)].to_vec();
        server.sent(reply.len());
        let mut rest = &reply[..];
        loop {
            let step = client.step(rest);
            rest = &rest[step.consumed..];
            match step.event {
                Some(event) => events.push(event),
                None => break,
            }
        }
        if !events.is_empty() || client.output().is_empty() && server.output().is_empty() {
            return events;
        }
    }
}

#[test]
fn every_mail_arrives_once_and_whole() {
    for seed in 1..400 {
        let mut random = Random::new(seed);
        let mut server_config = Config::new("mx.test");
        server_config.chunking = [Chunking::Off, Chunking::Lines, Chunking::WithBinary][random.below(3)];
        server_config.max_idle_commands = 1000;
        server_config.protocol = [Protocol::Smtp, Protocol::Lmtp][random.below(2)];
        let mut client_config = client::Config::new("sender.test");
        client_config.protocol = server_config.protocol;
        let lmtp = server_config.protocol == Protocol::Lmtp;
        let mut client = Client::new(client_config.clone());
        let (mut server, mut caller) = (Server::new(Arc::new(server_config)), Caller::default());
        server.greet();
        let ready = exchange(&mut client, &mut server, &mut caller, &mut random);
        assert_eq!(ready, [client::Event::Ready], "seed {seed}");

        let mut expected: Vec<Vec<u8>> = Vec::new();
        for _ in 0..3 {
            let binary = client.peer().binary_mime && random.below(2) == 0;
            let mail = Mail {
                from: Some(address(["a@x.test", "refused@x.test", "nodata@x.test", "ü@x.test"][random.below(4)])),
                body: if binary { BodyType::BinaryMime } else { BodyType::EightBitMime },
                ..Mail::default()
            };
            let fails = mail.from.as_ref().is_some_and(|a| ["refused", "nodata"].contains(&a.local()));
            let to: Vec<_> = (0..1 + random.below(4)).map(|_| ["b", "no", "\"c d\""][random.below(3)]).collect();
            let rcpts = to.iter().map(|to| Rcpt {
                to: Recipient::Mailbox(address(&format!("{to}@x.test"))),
                notify: None,
                original: None,
            });
            let taken: Vec<_> = to.iter().map(|to| *to != "no" && !fails).collect();
            let mut body = body(&mut random);
            let (chunks, lead) = (random.below(2) == 0, ["", "X-A: b\r\n", "X-A: b", "\r"][random.below(4)]);
            if chunks {
                body.splice(..0, lead.bytes());
                client.send_in_chunks(mail, rcpts.collect(), lead.as_bytes()).unwrap();
            } else {
                client.send(mail, rcpts.collect()).unwrap();
            }
            let rest = if chunks { &body[lead.len()..] } else { &body[..] };
            let (verdicts, is_open) = loop {
                match &exchange(&mut client, &mut server, &mut caller, &mut random)[..] {
                    [client::Event::SendBody] => {
                        rest.chunks(1 + random.below(9)).for_each(|part| client.body(part));
                        client.body_end();
                    }
                    [client::Event::Done(verdicts)] => break (verdicts.clone(), true),
                    // A chunk was refused.
                    [client::Event::Done(verdicts), client::Event::Closed(client::End::Refused(..))]
                        if !taken.contains(&true) =>
                    {
                        break (verdicts.clone(), false);
                    }
                    events => panic!("seed {seed}: {events:?}"),
                }
            };
            let mut nth = 0;
            for (verdict, &taken) in verdicts.iter().zip(&taken) {
                // See `Caller`: in LMTP the second recipient that was taken fails after the body.
                let delivered = taken && !(lmtp && nth == 1);
                nth += usize::from(taken);
                assert_eq!(verdict.is_delivered(), delivered, "seed {seed}: {verdict:?}");
            }
            if taken.contains(&true) {
                let mut wire = if binary { body.clone() } else { normalised(&body) };
                if !binary && !wire.is_empty() && !wire.ends_with(b"\r\n") {
                    wire.extend_from_slice(b"\r\n");
                }
                expected.push(wire);
            }
            if !is_open {
                break;
            }
        }
        // A body for nobody (DATA went out before all recipients were refused) is an empty one.
        caller.bodies.retain(|body| !body.is_empty() || expected.contains(body));
        assert_eq!(caller.bodies, expected, "seed {seed}");
        if client.stage() == Stage::Closed {
            continue;
        }
        client.quit();
        let end = exchange(&mut client, &mut server, &mut caller, &mut random);
        assert_eq!((end.as_slice(), client.stage()), (&[client::Event::Closed(client::End::Quit)][..], Stage::Closed));
    }
}

#[test]
fn starttls_and_sign_in() {
    for seed in 1..100 {
        let mut random = Random::new(seed);
        let mut server_config = Config::new("mx.test");
        (server_config.starttls, server_config.auth) = (true, vec!["PLAIN"]);
        let mut client = Client::new(client::Config::new("sender.test"));
        let (mut server, mut caller) = (Server::new(Arc::new(server_config)), Caller::default());
        server.greet();
        let mut next = |client: &mut Client, server: &mut Server| exchange(client, server, &mut caller, &mut random);
        assert_eq!(next(&mut client, &mut server), [client::Event::Ready]);
        client.starttls().unwrap();
        assert_eq!(next(&mut client, &mut server), [client::Event::StartTls]);
        client.tls_started();
        server.tls_started();
        assert_eq!(next(&mut client, &mut server), [client::Event::Ready]);
        client.sign_in("tim", "wrong").unwrap();
        assert!(matches!(next(&mut client, &mut server)[..], [client::Event::AuthRefused(_)]));
        client.sign_in("tim", "tanstaaftanstaaf").unwrap();
        assert_eq!(next(&mut client, &mut server), [client::Event::Authenticated]);
    }
}
