//! What hostile clients try with literals, lengths and parentheses.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod play;

use imap::{Config, Fetch, Server};
use play::{Player, client_side, fault, play, play_by};

fn said(player: &Player) -> Vec<&str> {
    player.log.iter().filter(|line| line.starts_with("S:")).map(String::as_str).collect()
}

const REFUSED: &str = "S: a BAD The literals are too many or too large";

#[test]
fn trap_04_a_large_literal_is_refused_before_it_comes() {
    let limit = Config::default().after_login.literal;
    let player = play_by(Player::logged_in, format!("a LOGIN x {{{}}}\r\nb NOOP\r\n", limit + 1).as_bytes());
    assert_eq!((said(&player), player.commands.len()), (vec![REFUSED], 1), "no continuation, and b is a command");
    let player = play_by(Player::logged_in, format!("a LOGIN x {{{limit}}}\r\n").as_bytes());
    assert_eq!(said(&player), ["S: + OK"]);
    for size in ["18446744073709551615", "99999999999999999999"] {
        assert!(fault(&format!("a LOGIN x {{{size}}}")).starts_with("S: a BAD "));
    }
}

#[test]
fn trap_04_a_refused_literal_that_comes_unasked_is_drained() {
    let size = Config::default().after_login.literal + 1;
    // What the literal holds looks like a command; so does the literal after it.
    let mut bomb = b"x DELETE a\r\n".repeat(size as usize / 12 + 1);
    bomb.truncate(size as usize);
    let mut input = format!("a LOGIN x {{{size}+}}\r\n").into_bytes();
    input.extend_from_slice(&bomb);
    input.extend_from_slice(b" {12+}\r\nx DELETE a\r\n\r\nb NOOP\r\n");
    let player = play_by(Player::logged_in, &input);
    assert_eq!((said(&player), player.commands.len()), (vec![REFUSED], 1), "{:#?}", player.log);
}

#[test]
fn trap_04_the_sum_and_the_number_of_literals_are_capped() {
    let limits = Config::default().after_login;
    let each = vec![b'x'; limits.literal as usize];
    let mut input = b"a SEARCH".to_vec();
    for _ in 0..=limits.literal_sum / limits.literal {
        input.extend_from_slice(format!(" TEXT {{{}+}}\r\n", each.len()).as_bytes());
        input.extend_from_slice(&each);
    }
    input.extend_from_slice(b"\r\nb NOOP\r\n");
    let player = play_by(Player::logged_in, &input);
    assert_eq!((said(&player), player.commands.len()), (vec![REFUSED], 1));

    let many = format!("a SEARCH{}\r\nb NOOP\r\n", " TEXT {1+}\r\nx".repeat(limits.literals as usize + 1));
    let player = play_by(Player::logged_in, many.as_bytes());
    assert_eq!((said(&player), player.commands.len()), (vec![REFUSED], 1));
    let enough = format!("a SEARCH{}\r\nb NOOP\r\n", " TEXT {1+}\r\nx".repeat(limits.literals as usize));
    assert_eq!(play_by(Player::logged_in, enough.as_bytes()).commands.len(), 2);
}

#[test]
fn trap_04_strangers_get_less() {
    let limits = Config::default().before_login;
    let line = format!("a LOGIN x {{{}}}\r\n", limits.literal + 1);
    assert_eq!(said(&play_by(Player::stranger, line.as_bytes())), [REFUSED]);
    let line = format!("a LOGIN x {}\r\nb NOOP\r\n", "y".repeat(limits.text));
    let player = play_by(Player::stranger, line.as_bytes());
    assert_eq!((said(&player), player.commands.len()), (vec!["S: a BAD The command is too long"], 1));
}

#[test]
fn trap_04_an_announced_literal_takes_no_memory_until_it_comes() {
    let mut server = Server::new(Config::default());
    server.set_authenticated();
    server.step(b"a LOGIN x {32768}\r\n");
    // Debug shows what is kept: the line alone.
    assert!(format!("{server:?}").len() < 1000);
}

#[test]
fn a_literal_of_a_wrong_command_is_not_asked_for() {
    let player = play("C: a FOO {1000}\nC: b SELECT ( {1000}\nC: c APPEND x 1 {1000}\nC: d NOOP");
    let told = ["S: a BAD Unknown command", "S: b BAD A string is missing"];
    assert_eq!((&said(&player)[..2], said(&player).len(), player.commands.len()), (&told[..], 3, 1));
}

#[test]
fn each_step_ends_at_its_event() {
    // So that what was sent in the clear after STARTTLS is still the caller's, to throw away.
    let mut server = Server::new(Config::default());
    assert_eq!(server.step(b"a STARTTLS\r\nb NOOP\r\n").consumed, b"a STARTTLS\r\n".len());
}

#[test]
fn a_long_line_is_passed_over_to_its_end() {
    let text = Config::default().after_login.text;
    let long = "x".repeat(2 * text);
    // It ends in a literal that comes unasked, which belongs to it.
    let input = format!("a LOGIN {long} {{12+}}\r\nx DELETE a\r\n\r\nb NOOP\r\n");
    let player = play_by(Player::logged_in, input.as_bytes());
    assert_eq!((said(&player), player.commands.len()), (vec!["S: a BAD The command is too long"], 1));
    // Its pieces add up, across literals too.
    let half = "x".repeat(text / 2);
    let input = format!("a SEARCH TEXT {half} TEXT {{1+}}\r\nx TEXT {half}\r\nb NOOP\r\n");
    let player = play_by(Player::logged_in, input.as_bytes());
    assert_eq!((said(&player), player.commands.len()), (vec!["S: a BAD The command is too long"], 1));
}

#[test]
fn long_lines_end_what_is_under_way() {
    let long = "x".repeat(Config::default().after_login.text + 1);
    let player = play(&format!("C: a IDLE\nC: {long}\nC: b NOOP"));
    assert_eq!((said(&player), player.commands.len()), (vec!["S: + idling", "S: a BAD The line is too long"], 2));
    let player = play(&format!("C: a AUTHENTICATE PLAIN\nC: {long}\nC: b NOOP"));
    assert_eq!((said(&player), player.commands.len()), (vec!["S: +", "S: a BAD The line is too long"], 2));
    let player = play(&format!("C: a APPEND x {{1+}}\nC: y ({long}) {{3+}}\nC: abc\nC: b NOOP"));
    assert_eq!((said(&player), player.commands.len()), (vec!["S: a BAD The command is too long"], 1));
    assert!(player.log.contains(&"E: AppendAbort".to_owned()));
}

#[test]
fn trap_05_parentheses_do_not_nest() {
    let open = "(".repeat(60_000);
    for start in [
        "FETCH 1",
        "LIST",
        "LIST \"\"",
        "STATUS x",
        "STORE 1",
        "SELECT x",
        "CREATE x",
        "ID",
        "FETCH 1 BODY[HEADER.FIELDS",
    ] {
        assert!(fault(&format!("a {start} {open}")).starts_with("S: a BAD "), "{start}");
    }
    let player = play_by(Player::stranger, format!("a ID {}\r\n", "(".repeat(8000)).as_bytes());
    assert!(said(&player)[0].starts_with("S: a BAD "));
}

#[test]
fn trap_05_lists_are_counted() {
    let many = |item: &str, n: usize| vec![item; n].join(" ");
    assert_eq!(fault(&format!("a FETCH 1 ({})", many("UID", Fetch::MAX_ATTRS + 1))), "S: a BAD A list is too long");
    assert_eq!(fault(&format!("a FETCH 1 BODY[{}]", many("1", 101).replace(' ', "."))), "S: a BAD A part is too deep");
    assert_eq!(fault(&format!("a FETCH 1 BODY[HEADER.FIELDS ({})]", many("a", 257))), "S: a BAD A list is too long");
    assert_eq!(fault(&format!("a LIST \"\" ({})", many("a", 33))), "S: a BAD A list is too long");
    assert_eq!(fault(&format!("a STORE 1 FLAGS ({})", many("a", 257))), "S: a BAD A list is too long");
    assert_eq!(fault(&format!("a ID ({})", many("\"a\" NIL", 31))), "S: a BAD A list is too long");
}

#[test]
fn trap_12_a_multiappend_that_breaks_off_is_drained() {
    let player = play_by(
        Player::logged_in,
        &client_side(
            "C: a APPEND x {1+}
             C: y (\\Recent) {12+}
             C: x DELETE a
             C:  {3+}
             C: abc
             C: b NOOP",
        ),
    );
    assert_eq!((said(&player), player.commands.len()), (vec!["S: a BAD Not a flag that can be set"], 1));
    assert_eq!(player.log.iter().filter(|line| *line == "E: AppendAbort").count(), 1);
}

#[test]
fn an_append_can_be_refused_at_any_moment() {
    let input = b"a APPEND x {4+}\r\nabcd (\\Seen) {4+}\r\nefgh\r\nb NOOP\r\n";
    let end = input.len() - b"\r\nb NOOP\r\n".len();
    for moment in b"a APPEND x {4+}\r\n".len()..=end {
        let mut server = Server::new(Config::default());
        server.set_authenticated();
        let mut told = Vec::new();
        for (at, octet) in input.iter().enumerate() {
            let mut rest = std::slice::from_ref(octet);
            loop {
                let step = server.step(rest);
                rest = &rest[step.consumed..];
                match step.event {
                    Some(event) => told.push(format!("{event:?}")),
                    None => break,
                }
            }
            if at + 1 == moment {
                server.refuse_append();
                told.clear();
            }
        }
        assert_eq!(told, ["Command { tag: b, command: Noop }"], "refused after {moment} octets");
    }
}

#[test]
fn an_idle_machine_is_small() {
    assert!(size_of::<Server>() < 400, "{}", size_of::<Server>());
    let mut server = Server::new(Config::default());
    server.set_authenticated();
    for input in [&b"a SEARCH TEXT {3+}\r\nabc\r\n"[..], b"b NO", b"OP\r\n"] {
        server.step(input);
    }
    assert_eq!(server.output().capacity(), 0);
    assert!(format!("{server:?}").contains("bytes: []"));
}
