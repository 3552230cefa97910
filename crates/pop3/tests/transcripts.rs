//! Whole dialogues with the machine. Each runs three ways, which must say the same: turn by turn, octet by octet, and
//! all of the client's lines at once.

mod maildrop;

use maildrop::{Maildrop, Way};
use pop3::{Config, Server, Tls};

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-256-PLUS", "PLAIN", "LOGIN"];

fn config(tls: Tls, clear_sign_in: bool) -> Config {
    Config { hostname: "pop.example.test".into(), tls, clear_sign_in, mechanisms: MECHANISMS.into() }
}

/// Runs a script of `C: ` and `S: ` lines in all ways, under TLS.
fn dialogue(script: &str) {
    dialogue_with(&config(Tls::On, false), script);
}

fn dialogue_with(config: &Config, script: &str) {
    for way in [Way::Turns, Way::Octets, Way::Pipelined] {
        let said = Maildrop::new(config.clone()).run(script, way);
        assert!(said == maildrop::servers_lines(script), "{way:?}\nscript:\n{script}\nthe server said:\n{said}");
    }
}

/// RFC 1939 §10, in our words where the text is free; then TOP, UIDL, RSET and a mail that is not there.
#[test]
fn a_session_as_in_rfc_1939() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: USER mrose
        S: +OK Password please
        C: PASS secret
        S: +OK 2 messages
        C: STAT
        S: +OK 2 320
        C: LIST
        S: +OK 2 messages
        S: 1 120
        S: 2 200
        S: .
        C: LIST 2
        S: +OK 2 200
        C: LIST 3
        S: -ERR No such message
        C: UIDL
        S: +OK Unique ids
        S: 1 uid1
        S: 2 uid2
        S: .
        C: UIDL 2
        S: +OK 2 uid2
        C: RETR 1
        S: +OK 120 octets
        S: Subject: one
        S: 
        S: ..a dot
        S: the end
        S: .
        C: TOP 1 1
        S: +OK The top
        S: Subject: one
        S: 
        S: ..a dot
        S: .
        C: TOP 1 0
        S: +OK The top
        S: Subject: one
        S: 
        S: .
        C: RETR 9
        S: -ERR No such message
        C: DELE 1
        S: +OK Marked
        C: DELE 1
        S: -ERR No such message
        C: STAT
        S: +OK 1 200
        C: RSET
        S: +OK 2 messages
        C: NOOP
        S: +OK Still here
        C: dele 2
        S: +OK Marked
        C: QUIT
        S: +OK 1 removed
        -- closed
        ",
    );
}

#[test]
fn quit_before_a_sign_in_updates_nothing() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: QUIT
        S: +OK Bye
        -- closed
        ",
    );
}

#[test]
fn a_failed_update_says_so_and_closes() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: USER mrose
        S: +OK Password please
        C: PASS secret
        S: +OK 2 messages
        C: DELE 1
        S: +OK Marked
        C: DELE 2
        S: +OK Marked
        C: QUIT
        S: -ERR [SYS/TEMP] Some messages were not removed
        -- closed
        ",
    );
}

#[test]
fn commands_in_the_wrong_state() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: STAT
        S: -ERR Sign in first
        C: NOOP
        S: -ERR Sign in first
        C: PASS secret
        S: -ERR USER comes first
        C: USER mrose
        S: +OK Password please
        C: UTF8
        S: +OK UTF-8 it is
        C: PASS secret
        S: -ERR USER comes first
        C: USER mrose
        S: +OK Password please
        C: PASS secret
        S: +OK 2 messages
        C: USER mrose
        S: -ERR Already signed in
        C: UTF8
        S: -ERR Already signed in
        C: STLS
        S: -ERR Already signed in
        C: APOP mrose c4c9334bac560ecc979e58001b3e22fb
        S: -ERR Unknown command
        ",
    );
}

#[test]
fn passwords_keep_their_spaces() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: USER spaces
        S: +OK Password please
        C: PASS  a  b 
        S: +OK 2 messages
        ",
    );
}

/// RFC 3206 §5: the client learns whether its credentials are wrong or our house is.
#[test]
fn refused_sign_ins_say_whose_fault_it_is() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: USER mrose
        S: +OK Password please
        C: PASS guess
        S: -ERR [AUTH] Wrong name or password
        C: USER sick
        S: +OK Password please
        C: PASS secret
        S: -ERR [SYS/TEMP] Temporary local problem, please try again later
        ",
    );
}

/// RFC 5034 §4, §6: with an initial response, without, with an empty one, cancelled, and one we do not know.
#[test]
fn sasl() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: AUTH CRAM-MD5
        S: -ERR No such mechanism
        C: AUTH PLAIN
        S: + 
        C: *
        S: -ERR Sign-in cancelled
        C: AUTH LOGIN
        S: + VXNlcm5hbWU6
        C: dGVzdA==
        S: + UGFzc3dvcmQ6
        C: d3Jvbmc=
        S: -ERR [AUTH] Wrong name or password
        C: AUTH PLAIN =
        S: -ERR [AUTH] Wrong name or password
        C: auth plain dGVzdAB0ZXN0AHRlc3Q=
        S: +OK 2 messages
        C: STAT
        S: +OK 2 320
        ",
    );
    dialogue(
        "
        S: +OK pop.example.test ready
        C: AUTH PLAIN
        S: + 
        C: dGVzdAB0ZXN0AHRlc3Q=
        S: +OK 2 messages
        ",
    );
}

/// RFC 2449 §5 and RFC 2595 §4: the list follows the state.
#[test]
fn capabilities() {
    dialogue_with(
        &config(Tls::Offered, false),
        "
        S: +OK pop.example.test ready
        C: CAPA
        S: +OK Capabilities follow
        S: TOP
        S: UIDL
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: STLS
        S: EXPIRE NEVER
        S: UTF8 USER
        S: LANG
        S: IMPLEMENTATION Postroom
        S: .
        C: USER mrose
        S: -ERR Sign-in needs TLS first
        C: AUTH PLAIN dGVzdAB0ZXN0AHRlc3Q=
        S: -ERR Sign-in needs TLS first
        C: STLS
        S: +OK Begin TLS
        -- tls
        C: CAPA
        S: +OK Capabilities follow
        S: TOP
        S: UIDL
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: USER
        S: SASL SCRAM-SHA-256-PLUS PLAIN LOGIN
        S: EXPIRE NEVER
        S: UTF8 USER
        S: LANG
        S: IMPLEMENTATION Postroom
        S: .
        C: STLS
        S: -ERR TLS is not on offer here
        C: USER mrose
        S: +OK Password please
        C: PASS secret
        S: +OK 2 messages
        C: CAPA
        S: +OK Capabilities follow
        S: TOP
        S: UIDL
        S: PIPELINING
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: USER
        S: SASL SCRAM-SHA-256-PLUS PLAIN LOGIN
        S: EXPIRE NEVER
        S: UTF8 USER
        S: LANG
        S: IMPLEMENTATION Postroom
        S: .
        ",
    );
    dialogue_with(
        &config(Tls::Off, true),
        "
        S: +OK pop.example.test ready
        C: AUTH SCRAM-SHA-256-PLUS
        S: -ERR No such mechanism
        C: USER mrose
        S: +OK Password please
        C: PASS secret
        S: +OK 2 messages
        ",
    );
}

/// RFC 6856 §3.
#[test]
fn languages() {
    dialogue(
        "
        S: +OK pop.example.test ready
        C: LANG
        S: +OK Languages follow
        S: en English
        S: .
        C: LANG EN
        S: +OK en English
        C: LANG *
        S: +OK en English
        C: LANG uga
        S: -ERR No such language
        C: USER 用户
        S: +OK Password please
        C: PASS 密码
        S: +OK 2 messages
        ",
    );
}

#[test]
fn ten_errors_close_the_connection() {
    dialogue(&format!(
        "
        S: +OK pop.example.test ready
        {}
        C: XYZZY
        S: -ERR Too many errors, closing
        -- closed
        ",
        "C: XYZZY\n        S: -ERR Unknown command\n        ".repeat(9),
    ));
    dialogue(&format!(
        "
        S: +OK pop.example.test ready
        {}
        -- closed
        ",
        "C: AUTH PLAIN =\n        S: -ERR [AUTH] Wrong name or password\n        ".repeat(10),
    ));
}

/// RFC 2449 §4 caps lines at 255 octets; we take 512, and 12,288 for SASL.
#[test]
fn long_lines() {
    let password = "p".repeat(505); // with "PASS " and CRLF 512
    let (fits, too_long) = ("A".repeat(12_275), "A".repeat(12_276)); // with "AUTH PLAIN " and CRLF 12,288
    dialogue(&format!(
        "
        S: +OK pop.example.test ready
        C: USER mrose
        S: +OK Password please
        C: PASS {password}
        S: -ERR [AUTH] Wrong name or password
        C: USER mrose
        S: +OK Password please
        C: PASS {password}p
        S: -ERR Line too long
        C: AUTH PLAIN {fits}
        S: -ERR [AUTH] Wrong name or password
        C: AUTH PLAIN {too_long}
        S: -ERR Line too long
        C: AUTH PLAIN
        S: + 
        C: {fits}AAAAAAAAAAA
        S: -ERR [AUTH] Wrong name or password
        C: AUTH PLAIN
        S: + 
        C: {fits}AAAAAAAAAAAA
        S: -ERR Line too long
        C: NOOP
        S: -ERR Sign in first
        ",
    ));
}

/// An endless line is thrown away as it comes: the caller's buffer never has to hold more than [`pop3::MAX_LINE`].
#[test]
fn an_endless_line_needs_no_memory() {
    let mut pop = Server::new(config(Tls::On, false));
    pop.output().clear();
    let chunk = vec![b'x'; pop3::MAX_LINE];
    for _ in 0..1000 {
        assert_eq!(pop.step(&chunk).consumed, chunk.len());
    }
    assert_eq!(pop.output().len(), 0);
    pop.step(b"\r\n");
    assert_eq!(pop.output(), b"-ERR Line too long\r\n");
}

/// RFC 2595 §4 and the hole many servers had: what an attacker puts behind STLS in the clear is never acted on, and what
/// was said before it is forgotten.
#[test]
fn trap_03_plaintext_after_stls_is_discarded() {
    let mut pop = Server::new(config(Tls::Offered, true));
    pop.output().clear();
    let input = b"UTF8\r\nUSER victim\r\nSTLS\r\nPASS injected\r\nUSER attacker\r\nQUIT\r\n";
    let mut rest: &[u8] = input;
    let mut events = Vec::new();
    while !rest.is_empty() {
        let step = pop.step(rest);
        rest = &rest[step.consumed..];
        events.extend(step.event);
    }
    assert_eq!(events, [pop3::Event::Stls]);
    // Still in the clear, read a moment later: nothing of it reaches the session either.
    assert_eq!(pop.step(b"USER attacker\r\n"), pop3::Step { consumed: 15, event: None });
    pop.tls_started();
    assert!(!pop.is_utf8());
    assert_eq!(pop.step(b"PASS secret\r\n").event, None);
    assert_eq!(
        String::from_utf8_lossy(pop.output()),
        "+OK UTF-8 it is\r\n+OK Password please\r\n+OK Begin TLS\r\n-ERR USER comes first\r\n"
    );
}

/// What the session says can break neither the line nor the 512 octets of RFC 2449 §4.
#[test]
fn an_answer_stays_one_line() {
    let mut pop = Server::new(config(Tls::On, false));
    pop.step(b"USER a\r\n");
    pop.step(b"PASS b\r\n");
    pop.output().clear();
    pop.err(None, format!("no\r\n+OK {}", "é".repeat(600)));
    let said = std::mem::take(pop.output());
    assert!(said.starts_with(b"-ERR no  +OK "), "{said:?}");
    assert_eq!(said.iter().filter(|b| **b == b'\n').count(), 1);
    assert!((511..=512).contains(&said.len()) && str::from_utf8(&said).is_ok());
}

#[test]
fn credentials_do_not_reach_the_log() {
    let mut pop = Server::new(config(Tls::On, false));
    let shown = format!("{:?}", pop.step(b"AUTH PLAIN c2VjcmV0\r\n"));
    assert!(shown.contains("Secret(8 octets)") && !shown.contains("c2V"), "{shown}");
}
