//! APPEND, MULTIAPPEND and UTF8 APPEND as dialogues.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod play;
use play::{Player, client_side, play, play_by};

/// `S:` and `E:` lines of the log, E shortened to what matters here.
fn log(player: &Player) -> Vec<&str> {
    player.log.iter().map(String::as_str).collect()
}

#[test]
fn one_message_rfc_9051_section_6_3_12() {
    let player = play(
        "C: A003 APPEND saved-messages (\\Seen) {326}
         S: + Ready for literal data
         C: Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)
         C: From: Fred Foobar <foobar@Blurdybloop.example>
         C: Subject: afternoon meeting
         C: To: mooch@owatagu.siam.edu.example
         C: Message-Id: <B27397-0100000@Blurdybloop.example>
         C: MIME-Version: 1.0
         C: Content-Type: TEXT/PLAIN; CHARSET=US-ASCII
         C:
         C: Hello Joe, do you think we can meet at 3:30 tomorrow?
         C:
         C: A004 NOOP",
    );
    let log = log(&player);
    assert_eq!(log[0], "E: AppendStart { tag: A003, mailbox: \"saved-messages\" }");
    assert!(log[1].starts_with("E: AppendMessage(AppendMessage { flags: [Seen], date: None, size: 326,"), "{log:#?}");
    assert_eq!(log[2], "S: + OK");
    assert!(log[3].starts_with("E: message of 326 octets: Date: Mon") && log[3].ends_with("tomorrow?\\r\\n"));
    assert_eq!(log[4..], ["E: AppendEnd", "E: Command { tag: A004, command: Noop }"]);
}

#[test]
fn two_messages_rfc_3502() {
    let player = play(
        "C: A003 APPEND saved-messages (\\Seen $Work) \" 7-Feb-1994 22:43:04 -0800\" {6+}
         C: one!
         C:  (\\Flagged) {5}
         S: + Ready for literal data
         C: two
         C:
         C: A004 NOOP",
    );
    assert_eq!(
        log(&player),
        [
            "E: AppendStart { tag: A003, mailbox: \"saved-messages\" }",
            "E: AppendMessage(AppendMessage { flags: [Seen, Keyword($Work)], date: Some(Timestamp(760689784000)), \
             size: 6, binary: false, utf8: false })",
            "E: message of 6 octets: one!\\r\\n",
            "E: AppendMessage(AppendMessage { flags: [Flagged], date: None, size: 5, binary: false, utf8: false })",
            "S: + OK",
            "E: message of 5 octets: two\\r\\n",
            "E: AppendEnd",
            "E: Command { tag: A004, command: Noop }",
        ]
    );
}

#[test]
fn utf8_and_binary_messages() {
    // RFC 6855 §4, RFC 3516 §4.4. An é is two octets.
    let player = play_by(
        Player::logged_in,
        "a APPEND x UTF8 (~{2+}\r\né)\r\nb APPEND x ~{1}\r\n\0\r\nc APPEND x UTF8 (~{2+}\r\né\r\nd NOOP\r\n".as_bytes(),
    );
    assert_eq!(
        log(&player),
        [
            "E: AppendStart { tag: a, mailbox: \"x\" }",
            "E: AppendMessage(AppendMessage { flags: [], date: None, size: 2, binary: true, utf8: true })",
            "E: message of 2 octets: \\xc3\\xa9",
            "E: AppendEnd",
            "E: AppendStart { tag: b, mailbox: \"x\" }",
            "E: AppendMessage(AppendMessage { flags: [], date: None, size: 1, binary: true, utf8: false })",
            "S: + OK",
            "E: message of 1 octets: \\x00",
            "E: AppendEnd",
            "E: AppendStart { tag: c, mailbox: \"x\" }",
            "E: AppendMessage(AppendMessage { flags: [], date: None, size: 2, binary: true, utf8: true })",
            "E: message of 2 octets: \\xc3\\xa9",
            "S: c BAD The parenthesis of UTF8 does not end",
            "E: AppendAbort",
            "E: Command { tag: d, command: Noop }",
        ]
    );
}

#[test]
fn a_mailbox_may_come_as_a_literal() {
    let player = play(
        "C: a APPEND {5}
         C: inbox (\\Seen) {3+}
         C: abc
         C: b APPEND {5+}
         C: Drafts {3+}
         C: a b c",
    );
    assert_eq!(
        log(&player),
        [
            "S: + OK",
            "E: AppendStart { tag: a, mailbox: \"INBOX\" }",
            "E: AppendMessage(AppendMessage { flags: [Seen], date: None, size: 3, binary: false, utf8: false })",
            "E: message of 3 octets: abc",
            "E: AppendEnd",
            // Six letters, of which the literal takes five. What follows it makes no sense and is drained.
            "S: b BAD A space is missing",
            "E: Bad { tag: Some(b), text: \"A space is missing\" }",
        ]
    );
}

#[test]
fn a_refused_message_that_is_held_back_never_comes() {
    let input = client_side(
        "C: a APPEND x {2000}
         S: a NO [TOOBIG]
         C: b APPEND x {3+}
         C: abc {2000}
         S: b NO [TOOBIG]
         C: c NOOP",
    );
    let player = play_by(|| Player { max_message: 1000, ..Player::logged_in() }, &input);
    let said: Vec<_> = log(&player).into_iter().filter(|l| l.starts_with("S:")).collect();
    assert_eq!(said, ["S: a NO [TOOBIG]", "S: b NO [TOOBIG]"]);
    assert_eq!(player.commands.len(), 1);
}

#[test]
fn a_message_must_be_a_literal() {
    for (line, told) in [
        ("a APPEND x", "S: a BAD APPEND ends with the message as a literal"),
        ("a APPEND x \"hello\"", "S: a BAD APPEND ends with the message as a literal"),
        ("a APPEND x hello {3}", "S: a BAD APPEND takes the message as a literal"),
        ("a APPEND x {3} {3}", "S: a BAD APPEND takes the message as a literal"),
        ("a APPEND x \"32-Feb-1994 21:52:25 -0800\" {3}", "S: a BAD Not a date and time"),
        ("a APPEND x (\\Recent) {3}", "S: a BAD Not a flag that can be set"),
    ] {
        assert_eq!(play::fault(line), told, "{line}");
    }
}

#[test]
fn trap_12_a_missing_mailbox_consumes_its_literals() {
    let input = client_side(
        "C: a APPEND gone {10+}
         C: x LOGOUT
         C:  (\\Seen) {13+}
         C: y LOGOUT {3+}
         C: c NOOP",
    );
    let refusing = || Player { refuse: &["gone"], ..Player::logged_in() };
    let player = play_by(refusing, &input);
    assert_eq!(
        log(&player),
        ["E: AppendStart { tag: a, mailbox: \"gone\" }", "S: a NO [TRYCREATE]", "E: Command { tag: c, command: Noop }"]
    );
}
