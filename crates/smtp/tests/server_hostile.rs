//! Clients that are broken, impolite or worse.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use base::Reply;
use common::{Caller, Random, octets, play};
use smtp::server::{AskBody, BareLineEnds, Chunking, Close, Protocol};
use smtp::{Config, Event, Server};

fn config() -> Config {
    let mut config = Config::new("mx.test");
    config.chunking = Chunking::Lines;
    config
}

const HELO: &str = "S: 220
    C: HELO a
    S: 250
    ";
const READY: &str = "S: 220
    C: HELO a
    C: MAIL FROM:<a@x.test>
    C: RCPT TO:<b@x.test>
    S: 250
    S: 250
    S: 250
    ";

#[test]
fn trap_01_a_smuggled_message_stays_in_the_first() {
    for ending in [r"\n.\n", r"\n.\r\n", r"\r.\r\n", r"\r\n.\n", r"\r\n.\r", r"\r.\r", r"\n.\r"] {
        let script = format!(
            "{READY}C: DATA
            S: 354
            c: Hello{ending}
            C: MAIL FROM:<admin@x.test>
            C: RCPT TO:<victim@x.test>
            C: DATA
            C: From: admin
            C: .
            C: NOOP
            "
        );
        let seen = play(config(), &format!("{script}S: 554 5.6.0\nS: 250 2.0.0"));
        assert_eq!((seen.mails.len(), seen.bodies.len()), (1, 0), "{ending}");

        let mut lenient = config();
        lenient.bare_line_ends = BareLineEnds::Normalise;
        let seen = play(lenient, &format!("{script}S: 250 2.0.0\nS: 250 2.0.0"));
        assert_eq!((seen.mails.len(), seen.bodies.len()), (1, 1), "{ending}");
        let body = String::from_utf8(seen.bodies[0].clone()).unwrap();
        assert!(body.contains("MAIL FROM:<admin@x.test>\r\n"), "{ending}: {body}");
        assert!(!body.replace("\r\n", "").contains(['\r', '\n']), "{ending}: {body:?}");
    }
}

#[test]
fn trap_01_a_chunk_with_a_bare_line_end_fails_in_order() {
    let script = r"C: BDAT 4
        c: a\nb\r
        C: BDAT 3 LAST
        c: \nc\r
        C: NOOP
        ";
    let seen = play(config(), &format!("{READY}{script}S: 554 5.6.0\nS: 503 5.5.1\nS: 250"));
    assert_eq!(seen.events, ["Hello", "Mail", "Rcpt", "Data", "Body", "Abort"]);
    let mut lenient = config();
    lenient.bare_line_ends = BareLineEnds::Normalise;
    let seen = play(lenient, &format!("{READY}{script}S: 250\nS: 250\nS: 250"));
    assert_eq!(seen.bodies, [b"a\r\nb\r\nc\r\n"]);
}

#[test]
fn trap_03_what_was_sent_with_starttls_is_never_obeyed() {
    let mut config = config();
    config.starttls = true;
    let seen = play(
        config,
        "S: 220 mx.test
         C: EHLO a
         S: 250-mx.test
         S: 250-PIPELINING
         S: 250-SIZE
         S: 250-8BITMIME
         S: 250-ENHANCEDSTATUSCODES
         S: 250-LIMITS
         S: 250-SMTPUTF8
         S: 250-CHUNKING
         S: 250-DSN
         S: 250 STARTTLS
         C: STARTTLS
         C: EHLO injected
         C: MAIL FROM:<injected@x.test>
         c: RCPT TO:<inj
         S: 220 2.0.0
         T:
         C: MAIL FROM:<a@x.test>
         S: 503 5.5.1
         C: HELO a
         S: 250
         C: MAIL FROM:<a@x.test>
         S: 250",
    );
    assert_eq!(seen.events, ["Hello", "StartTls", "Hello", "Mail"]);
}

#[test]
fn trap_03_the_rest_of_the_flight_is_used_up_with_starttls() {
    let mut config = config();
    config.starttls = true;
    let mut server = Server::new(config.into());
    server.greet();
    let Some(Event::Hello(ask, _)) = server.step(b"EHLO a\r\n").event else { panic!() };
    ask.accept(&mut server);
    let flight = b"STARTTLS\r\nEHLO injected\r\n";
    let step = server.step(flight);
    // A caller that keeps what was not consumed, and shakes hands at once, has nothing left to inject.
    assert_eq!(step.consumed, flight.len());
    let Some(Event::StartTls(ask)) = step.event else { panic!() };
    ask.accept(&mut server);
    server.tls_started();
    assert!(server.step(&flight[step.consumed..]).event.is_none());
}

#[test]
fn trap_30_a_command_is_printable_utf_8() {
    let seen = play(
        config(),
        r"S: 220
         C: MAIL FROM:<\xff@x.test>
         S: 501 5.5.2
         C: NOOP \0
         S: 501 5.5.2
         C: NOOP a\rb
         S: 501 5.5.2
         C: HELO a\xe9
         S: 501 5.5.2
         c: NOOP\n
         S: 500 5.5.2
         C: 
         S: 500 5.5.1
         C: EXPN staff
         S: 502 5.5.1
         C: NOOP 例子
         S: 250",
    );
    assert_eq!(seen.events.len(), 0);
    let mut lenient = config();
    lenient.bare_line_ends = BareLineEnds::Normalise;
    play(lenient, "S: 220\nc: NOOP\\n\nS: 250");
}

#[test]
fn commands_out_of_order() {
    play(
        config(),
        "S: 220
         C: MAIL FROM:<>
         S: 503 5.5.1
         C: RCPT TO:<b@x.test>
         S: 503 5.5.1
         C: DATA
         S: 503 5.5.1
         C: STARTTLS
         S: 502 5.5.1
         C: AUTH PLAIN
         S: 502 5.5.1
         C: LHLO a
         S: 500 5.5.1
         C: HELO
         S: 501 5.5.4
         C: HELO a b
         S: 501 5.5.4
         C: VRFY
         S: 501 5.5.4
         C: RSET
         S: 250
         C: RSET x
         S: 501 5.5.4
         C: HELO a
         S: 250
         C: MAIL FROM:<> SIZE=10
         S: 555 5.5.4
         C: MAIL FROM:<>
         S: 250
         C: MAIL FROM:<>
         S: 503 5.5.1
         C: RCPT TO:<b@x.test>
         S: 250
         C: BDAT 2
         c: \\r\\n
         S: 250
         C: RCPT TO:<b@x.test>
         S: 503 5.5.1
         C: DATA
         S: 503 5.5.1
         C: QUIT now
         S: 501 5.5.4
         C: HELP
         S: 214
         C: HELO again
         S: 250
         C: DATA
         S: 503 5.5.1",
    );
}

#[test]
fn a_refused_chunk_is_read_before_it_is_answered() {
    let seen = play(
        config(),
        &format!(
            "{HELO}C: BDAT 6
             c: QUIT\\r\\n
             S: 503 5.5.1
             C: MAIL FROM:<nodata@x.test>
             C: RCPT TO:<b@x.test>
             C: BDAT 6
             c: QUIT\\r\\n
             C: BDAT 6 LAST
             c: QUIT\\r\\n
             C: NOOP
             S: 250
             S: 250
             S: 451 4.3.0
             S: 503 5.5.1
             S: 250"
        ),
    );
    assert_eq!(seen.events, ["Hello", "Mail", "Rcpt", "Data"]);
    let mut off = config();
    off.chunking = Chunking::Off;
    play(off, &format!("{HELO}C: BDAT 6 LAST\nc: QUIT\\r\\n\nC: NOOP\nS: 502\nS: 250"));
}

#[test]
fn chunks_on_the_way_when_the_first_was_refused_are_no_errors() {
    let chunks = 40;
    play(
        config(),
        &format!(
            "{HELO}C: MAIL FROM:<nodata@x.test>
             C: RCPT TO:<b@x.test>
             {}C: NOOP
             S: 250
             S: 250
             S: 451
             {}S: 250",
            "C: BDAT 3\nc: abc\n".repeat(chunks),
            "S: 503 5.5.1\n".repeat(chunks - 1)
        ),
    );
    let endless = format!("{HELO}{}{}S: 421", "C: BDAT 1\nc: a\n".repeat(110), "S: 503\n".repeat(100));
    assert_eq!(play(config(), &endless).events.last().unwrap(), "Close");
}

#[test]
fn a_refused_data_ends_the_transaction() {
    play(
        config(),
        &format!(
            "{HELO}C: MAIL FROM:<nodata@x.test>
             C: RCPT TO:<b@x.test>
             C: DATA
             C: MAIL FROM:<a@x.test>
             S: 250
             S: 250
             S: 451 4.3.0
             S: 250"
        ),
    );
}

#[test]
fn a_chunk_without_a_length_closes_the_connection() {
    for args in ["", "x", "-1", "1 2", "18446744073709551616", "5 LAST LAST"] {
        let seen = play(config(), &format!("{READY}C: BDAT {args}\nC: QUIT\nS: 501 5.5.4"));
        assert_eq!(seen.events.last().unwrap(), "Close", "{args}");
    }
    let seen = play(config(), &format!("{READY}C: BDAT 2000000000\nC: QUIT\nS: 552 5.3.4"));
    assert_eq!(seen.events.last().unwrap(), "Close");
}

#[test]
fn nothing_beyond_the_maximum_reaches_the_caller() {
    let mut config = config();
    config.max_size = 10;
    let exact = play(config.clone(), &format!("{READY}C: DATA\nC: 12345678\nC: .\nS: 354\nS: 250"));
    assert_eq!(exact.bodies, [b"12345678\r\n"]);
    let over = play(
        config.clone(),
        &format!("{READY}C: DATA\nC: 123456789\nC: more\nC: .\nC: NOOP\nS: 354\nS: 552 5.3.4\nS: 250"),
    );
    assert_eq!(over.events[3..], ["Data", "Body", "Abort"]);
    let over = play(
        config.clone(),
        &format!("{READY}C: BDAT 8\nc: 12345678BDAT 3\\r\\n123\nC: BDAT 0 LAST\nS: 250\nS: 552 5.3.4\nS: 503"),
    );
    assert_eq!(over.events[3..], ["Data", "Body", "Abort"]);
    config.max_drain = 100;
    let flood = format!("{READY}C: DATA\nC: 1234567890\n{}S: 354\nS: 552 5.3.4", "C: and on and on\n".repeat(10));
    assert_eq!(play(config, &flood).events.last().unwrap(), "Close");
}

#[test]
fn an_overlong_line_is_answered_at_its_end_or_not_at_all() {
    let fits = "x".repeat(2048 - 2 - 5);
    play(config(), &format!("S: 220\nC: NOOP {fits}\nC: NOOP {fits}x\nC: NOOP\nS: 250\nS: 500 5.5.2\nS: 250"));
    let flood = "x".repeat(70_000);
    let seen = play(config(), &format!("S: 220\nC: NOOP {flood}\nC: NOOP\nS: 500 5.5.2"));
    assert_eq!(seen.events, ["Close"]);
}

#[test]
fn authentication_lines_are_bounded() {
    // RFC 4954 §4: 12288 octets must be taken.
    let mut config = config();
    config.auth_in_clear = vec!["PLAIN"];
    config.smtputf8 = false;
    let hello =
        "S: 220\nC: EHLO a\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250 AUTH\n";
    let fits = "AAAA".repeat(12_288 / 4);
    let seen = play(
        config,
        &format!(
            "{hello}C: AUTH PLAIN\nC: {fits}\nC: AUTH PLAIN\nC: {fits}A\nC: NOOP\nS: 334\nS: 535\nS: 334\nS: 500 5.5.6\nS: 250"
        ),
    );
    assert_eq!(seen.events, ["Hello", "Auth", "AuthResponse", "Auth", "AuthAborted"]);
}

#[test]
fn errors_and_idle_commands_are_counted() {
    let mut config = config();
    (config.max_errors, config.max_idle_commands) = (3, 5);
    let seen = play(config.clone(), "S: 220\nC: X\nC: X\nC: X\nC: NOOP\nS: 500\nS: 500\nS: 500\nS: 421 4.7.0");
    assert_eq!(seen.events, ["Close"]);
    let noops = "C: NOOP\n".repeat(7) + &"S: 250\n".repeat(6);
    assert_eq!(play(config.clone(), &format!("S: 220\n{noops}S: 421 4.7.0")).events, ["Close"]);
    // A mail that was taken pays for what came before.
    let mail = "C: X\nC: X\nC: MAIL FROM:<>\nC: RCPT TO:<b@x.test>\nC: DATA\nC: .\n";
    let replies = "S: 500\nS: 500\nS: 250\nS: 250\nS: 354\nS: 250\n";
    play(config, &format!("{HELO}{}{}", mail.repeat(5), replies.repeat(5)));
}

#[test]
fn recipients_and_mails_are_limited() {
    let mut config = config();
    (config.max_recipients, config.max_messages) = (1, Some(1));
    let seen = play(
        config,
        &format!(
            "{READY}C: RCPT TO:<c@x.test>
             C: RSET
             C: MAIL FROM:<>
             C: QUIT
             S: 452 4.5.3
             S: 250
             S: 421 4.7.0"
        ),
    );
    assert_eq!(seen.events.last().unwrap(), "Close");
}

#[test]
fn a_browser_gets_no_answer() {
    for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "CONNECT mx.test:25 HTTP/1.1", "PRI * HTTP/2.0"] {
        let seen = play(config(), &format!("S: 220\nC: {line}\nC: HELO a\nC: MAIL FROM:<>"));
        assert_eq!(seen.events, ["Close"], "{line}");
    }
}

#[test]
fn a_question_stops_the_machine_until_it_is_answered() {
    let mut server = Server::new(config().into());
    assert_eq!(server.step(b"HELO early\r\n").consumed, 0, "before the greeting");
    server.greet();
    let step = server.step(b"HELO a\r\nMAIL FROM:<>\r\n");
    assert_eq!(step.consumed, 8);
    let Some(Event::Hello(ask, _)) = step.event else { panic!() };
    let waiting = server.step(b"MAIL FROM:<>\r\n");
    assert!((waiting.consumed, waiting.event.is_none()) == (0, true));
    ask.accept(&mut server);
    let Some(Event::Mail(ask, _)) = server.step(b"MAIL FROM:<>\r\n").event else { panic!() };
    // We must stop just now; the late answer does no harm.
    server.shut_down(&Reply::new(421, 3, 2, "Shutting down"));
    ask.accept(&mut server);
    assert!(server.is_closed() && !server.in_transaction());
    assert!(server.output().ends_with(b"250 mx.test\r\n421 4.3.2 Shutting down\r\n"));
}

#[test]
fn tls_may_be_on_from_the_start() {
    let mut config = config();
    (config.starttls, config.auth) = (true, vec!["PLAIN"]);
    let mut server = Server::new(config.into());
    server.tls_started();
    server.greet();
    let Some(Event::Hello(ask, _)) = server.step(b"EHLO a\r\n").event else { panic!() };
    ask.accept(&mut server);
    let said = String::from_utf8_lossy(server.output()).into_owned();
    assert!(said.ends_with("\r\n250 AUTH PLAIN\r\n") && !said.contains("STARTTLS"), "{said}");
}

#[test]
fn an_answer_that_is_none_asks_the_client_to_come_back() {
    let mut server = Server::new(config().into());
    server.greet();
    let Some(Event::Hello(ask, _)) = server.step(b"HELO a\r\n").event else { panic!() };
    ask.refuse(&mut server, &Reply::new(250, 0, 0, "no"));
    assert!(server.output().ends_with(b"\r\n451 4.3.0 Temporary local problem, please try again later\r\n"));
    let Some(Event::Hello(ask, _)) = server.step(b"HELO a\r\n").event else { panic!() };
    ask.refuse(&mut server, &Reply::new(421, 7, 0, "Bye"));
    assert!(matches!(server.step(b"").event, Some(Event::Close(Close::Refused))));
}

#[test]
fn lmtp_gives_one_answer_for_a_chunk_and_many_for_the_last() {
    let mut config = config();
    (config.protocol, config.max_size) = (Protocol::Lmtp, 4);
    let lhlo =
        "S: 220\nC: LHLO a\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250-\nS: 250 DSN\n";
    let mail = "C: MAIL FROM:<>\nC: RCPT TO:<a@x.test>\nC: RCPT TO:<b@x.test>\nS: 250\nS: 250\nS: 250\n";
    play(config.clone(), &format!("{lhlo}{mail}C: BDAT 2\nc: ab\nC: BDAT 2 LAST\nc: cd\nS: 250 2.0.0\nS: 250\nS: 452"));
    play(config.clone(), &format!("{lhlo}{mail}C: BDAT 5 LAST\nc: abcde\nC: NOOP\nS: 552\nS: 552\nS: 250"));
    play(config.clone(), &format!("{lhlo}{mail}C: BDAT 5\nc: abcde\nC: NOOP\nS: 552\nS: 250"));
    let nodata = mail.replace("<>", "<nodata@x.test>");
    play(config.clone(), &format!("{lhlo}{nodata}C: BDAT 1 LAST\nc: a\nC: NOOP\nS: 451\nS: 451\nS: 250"));
    play(config, &format!("{lhlo}{nodata}C: DATA\nC: NOOP\nS: 451\nS: 250"));
}

#[test]
fn the_same_answer_for_every_recipient() {
    let mut config = config();
    config.protocol = Protocol::Lmtp;
    let mut server = Server::new(config.into());
    server.greet();
    let mut input = &b"LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n.\r\n"[..];
    loop {
        let step = server.step(input);
        input = &input[step.consumed..];
        match step.event.unwrap() {
            Event::Hello(ask, _) | Event::Mail(ask, _) | Event::Rcpt(ask, _) | Event::Data(ask) => {
                ask.accept(&mut server);
            }
            Event::BodyEnd(ask) => {
                assert!(matches!(&ask, AskBody::Each(each) if each.recipients() == 2));
                break ask.reply(&mut server, &Reply::new(451, 3, 0, "Disk full"));
            }
            event => panic!("{event:?}"),
        }
    }
    assert!(server.output().ends_with(b"> \r\n451 4.3.0 Disk full\r\n451 4.3.0 Disk full\r\n".split_at(4).1));
    assert!(!server.in_transaction());
}

#[test]
fn any_input_means_the_same_however_it_is_cut() {
    const WORDS: [&str; 32] = [
        "HELO a\r\n",
        "EHLO a\r\n",
        "MAIL FROM:<a@x>\r\n",
        "MAIL FROM:<> BODY=BINARYMIME\r\n",
        "RCPT TO:<b@x>\r\n",
        "RCPT TO:<no@x>\r\n",
        "DATA\r\n",
        "BDAT 5\r\n",
        "BDAT 3 LAST\r\n",
        "BDAT 0 LAST\r\n",
        "RSET\r\n",
        "QUIT\r\n",
        "AUTH PLAIN\r\n",
        "AUTH PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm\r\n",
        "*\r\n",
        "NOOP\r\n",
        "VRFY x SMTPUTF8\r\n",
        "\r\n.\r\n",
        ".\r\n",
        "\n.\r\n",
        "\r.\r\n",
        "..",
        "\r",
        "\n",
        ".",
        "text",
        "\\xff",
        "\\0",
        " ",
        "\r\n",
        "MAIL FROM:<\u{7528}@x> SMTPUTF8\r\n",
        "MAIL FROM:<nodata@x>\r\n",
    ];
    for seed in 1..3000 {
        let mut random = Random::new(seed);
        let mut config = config();
        config.chunking = Chunking::WithBinary;
        config.auth_in_clear = vec!["PLAIN"];
        config.max_size = [1000, 20, 3][random.below(3)];
        config.max_drain = [1000, 30][random.below(2)];
        if random.below(2) == 0 {
            config.bare_line_ends = BareLineEnds::Normalise;
        }
        if random.below(4) == 0 {
            config.protocol = Protocol::Lmtp;
        }
        let mut wire = match config.protocol {
            Protocol::Smtp => b"EHLO a\r\n".to_vec(),
            Protocol::Lmtp => b"LHLO a\r\n".to_vec(),
        };
        for _ in 0..random.below(40) {
            wire.extend(octets(WORDS[random.below(WORDS.len())]));
        }
        let run = |cuts: &mut dyn FnMut() -> usize| {
            let (mut server, mut caller) = (Server::new(Arc::new(config.clone())), Caller::default());
            server.greet();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                let (chunk, tail) = rest.split_at(cuts().clamp(1, rest.len()));
                caller.feed(&mut server, chunk, usize::MAX);
                rest = tail;
            }
            assert!(caller.bodies.iter().all(|b| b.len() as u64 <= config.max_size));
            (caller, String::from_utf8_lossy(server.output()).into_owned())
        };
        let whole = run(&mut || usize::MAX);
        assert_eq!(run(&mut || 1), whole, "seed {seed}: {}", wire.escape_ascii());
        assert_eq!(run(&mut || random.below(9)), whole, "seed {seed}: {}", wire.escape_ascii());
    }
}

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<Server>() < 256, "{}", size_of::<Server>());
}
