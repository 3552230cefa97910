//! The POP3 machine against any client. The first octet chooses the configuration, the rest is what the client sends.
//!
//! No panic; the size of the reads makes no difference; the output is bounded by the input.
#![no_main]

use fuzz::{PIECES, Trace, feed};
use pop3::{Code, Config, Event, MAX_LINE, Server, Tls};

/// The longest answer to one command: RETR of [`MAIL`], or CAPA.
const MAX_ANSWER: usize = 1024;

const MAIL: &[u8] = b"Subject: x\r\n\r\n.\r\n..two\r\n\r\nno end";

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let config = Config {
        hostname: "pop.example.test".into(),
        tls: [Tls::On, Tls::Offered, Tls::Off][usize::from(choice % 3)],
        clear_sign_in: choice & 4 == 0,
        mechanisms: vec!["PLAIN", "SCRAM-SHA-256-PLUS"],
    };
    let whole = run(&config, data, PIECES[0]);
    let commands = 1 + data.iter().filter(|b| **b == b'\n').count();
    assert!(whole.output.len() <= commands * MAX_ANSWER, "too much output");
    for piece in &PIECES[1..] {
        whole.must_equal(&run(&config, data, *piece), *piece);
    }
});

fn run(config: &Config, data: &[u8], piece: usize) -> Trace {
    let (mut pop, mut trace) = (Server::new(config.clone()), Trace::default());
    feed(data, piece, MAX_LINE, |unread| {
        let step = pop.step(unread);
        let waits = step.consumed == 0 && step.event.is_none();
        if let Some(event) = step.event {
            trace.event(describe(&event));
            answer(&mut pop, event);
        }
        trace.output.append(pop.output());
        (!waits).then_some(step.consumed)
    });
    trace
}

/// `Debug` hides what is secret, which must be compared too.
fn describe(event: &Event) -> String {
    let secret = match event {
        Event::Login { password, .. } => Some(*password),
        Event::Auth { initial, .. } => *initial,
        Event::AuthResponse(response) => Some(*response),
        _ => None,
    };
    format!("{event:?} {:?}", secret.map(|s| s.0.escape_ascii().to_string()))
}

/// A session whose answers depend on nothing but the event.
fn answer(pop: &mut Server, event: Event) {
    match event {
        Event::Login { password, .. } if password.0.starts_with(b"s") => pop.ok("2 messages"),
        Event::Login { user, .. } => pop.err(Some(Code::Auth), user),
        Event::Auth { initial: None, .. } => pop.challenge(""),
        Event::Auth { initial: Some(response), .. } | Event::AuthResponse(response) => match response.0.first() {
            Some(b's') => pop.ok("2 messages"),
            Some(b'c') => pop.challenge("bW9yZQ=="),
            _ => pop.err(Some(Code::Auth), "No"),
        },
        // The machine throws all away until TLS is up; TLS from the start is a choice of its own.
        Event::Stls => {}
        Event::List(None) | Event::Uidl(None) => {
            pop.begin("2 messages");
            pop.row(1, 120);
            pop.row(2, 200);
            pop.end();
        }
        Event::Retr(1..=9) | Event::Top(1..=9, _) => {
            pop.begin("A mail");
            let _ = MAIL.chunks(5).all(|chunk| pop.body(chunk));
            pop.end();
        }
        Event::List(Some(0)) | Event::Uidl(Some(0)) | Event::Retr(_) | Event::Top(..) | Event::Dele(0) => {
            pop.err(None, "No such message");
        }
        Event::Stat | Event::List(_) | Event::Uidl(_) | Event::Dele(_) | Event::Rset | Event::Quit => pop.ok("Fine"),
    }
}
