//! The SMTP and LMTP server machine against any client. The first octet chooses the configuration, the rest is what the
//! client sends.
//!
//! No panic; the size of the reads makes no difference; all input is used at once; the output is bounded by the input;
//! and no bare CR or LF gets into a mail that was not sent as binary (trap 1).
#![no_main]

use std::sync::Arc;

use base::Reply;
use fuzz::{PIECES, Trace, feed};
use smtp::server::{Ask, BareLineEnds, Chunking, Protocol};
use smtp::{BodyType, Config, Event, Server};

/// The longest reply to one line, EHLO's with all there is; a line can cause two, its own and that of the close.
const MAX_REPLY: usize = 2048;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let config = Arc::new(config(*choice));
    let whole = run(&config, data, PIECES[0]);
    let lines = 2 + data.iter().filter(|b| **b == b'\n').count();
    assert!(whole.output.len() <= lines * MAX_REPLY, "too much output");
    for piece in &PIECES[1..] {
        whole.must_equal(&run(&config, data, *piece), *piece);
    }
});

/// Limits are small, so that short inputs reach them.
fn config(choice: u8) -> Config {
    let on = |bit: u8| choice & 1 << bit != 0;
    Config {
        protocol: if on(0) { Protocol::Lmtp } else { Protocol::Smtp },
        bare_line_ends: if on(1) { BareLineEnds::Normalise } else { BareLineEnds::Reject },
        chunking: if on(2) { Chunking::Lines } else { Chunking::WithBinary },
        smtputf8: !on(3),
        starttls: on(4),
        auth: vec!["PLAIN", "LOGIN"],
        auth_in_clear: if on(4) { vec![] } else { vec!["PLAIN", "LOGIN"] },
        max_messages: on(5).then_some(3),
        max_size: if on(6) { 64 } else { 10_000 },
        max_drain: if on(6) { 512 } else { 1 << 20 },
        max_recipients: 5,
        future_release: Some(smtp::FutureRelease { most: 1000, until: base::Timestamp::from_secs(1 << 31) }),
        deliver_by: on(3).then_some(60),
        mt_priority: on(3),
        ..Config::new("mx.example.test")
    }
}

fn run(config: &Arc<Config>, data: &[u8], piece: usize) -> Trace {
    let (mut smtp, mut trace) = (Server::new(config.clone()), Trace::default());
    let mut binary = false;
    smtp.greet();
    // The machine keeps an unfinished line itself: nothing is ever left unread.
    feed(data, piece, 1, |unread| {
        let step = smtp.step(unread);
        let moved = step.consumed > 0 || step.event.is_some();
        match step.event {
            Some(Event::Body(part)) => trace.body.extend_from_slice(part),
            Some(event) => {
                let body = trace.event(format!("{event:?}"));
                match &event {
                    Event::Mail(_, mail) => binary = mail.body == BodyType::BinaryMime,
                    Event::BodyEnd(_) => assert!(binary || !has_bare_line_end(&body), "{}", body.escape_ascii()),
                    _ => {}
                }
                answer(&mut smtp, event);
            }
            None => {}
        }
        trace.output.extend_from_slice(smtp.output());
        smtp.sent(smtp.output().len());
        moved.then_some(step.consumed)
    });
    trace
}

/// A session whose answers depend on nothing but the event: what begins with `n` it refuses.
fn answer(smtp: &mut Server, event: Event) {
    let no = Reply::new(550, 7, 1, "No");
    let decide = |ask: Ask, smtp: &mut Server, name: &str| match name.as_bytes().first() {
        Some(b'n') => ask.refuse(smtp, &no),
        _ => ask.accept(smtp),
    };
    match event {
        Event::Hello(ask, hello) => decide(ask, smtp, &hello.name),
        Event::Mail(ask, mail) => decide(ask, smtp, mail.from.as_ref().map_or("", |a| a.local())),
        Event::Rcpt(ask, rcpt) => decide(ask, smtp, &rcpt.to.to_string()),
        // TLS never comes up here: the machine throws all away that follows.
        Event::Data(ask) | Event::StartTls(ask) => ask.accept(smtp),
        Event::BodyEnd(ask) => ask.reply(smtp, &Reply::new(250, 6, 0, "Taken")),
        Event::Auth(ask, auth) => match auth.initial.as_deref().map(|r| r.first()) {
            None => ask.challenge(smtp, b"more"),
            Some(Some(b'n')) => ask.refuse(smtp, &no),
            Some(_) => ask.accept(smtp),
        },
        Event::AuthResponse(ask, response) => match response.first() {
            None => ask.challenge(smtp, b""),
            Some(b'n') => ask.refuse(smtp, &no),
            Some(_) => ask.accept(smtp),
        },
        Event::Vrfy(ask, vrfy) => ask.reply(smtp, &Reply::new(252, 5, 0, vrfy.query)),
        Event::Body(_) | Event::Abort(_) | Event::AuthAborted | Event::Close(_) => {}
    }
}

fn has_bare_line_end(body: &[u8]) -> bool {
    let mut before = 0;
    body.iter().chain(b".").any(|octet| {
        let bare = (*octet == b'\n') != (before == b'\r');
        before = *octet;
        bare
    })
}
