//! Dot-stuffing and TOP: any mail, in chunks of any size. The first octet is the chunk's size, the second TOP's lines.
//!
//! A client that reads lines up to LF gets back the mail and nothing else; TOP is a prefix of it that ends with a line.
#![no_main]

use pop3::{Config, Event, Server, Tls};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let &[size, lines, ref mail @ ..] = data else { return };
    let size = usize::from(size).max(1);

    let whole = received(&answer(b"RETR 1\r\n", mail, usize::MAX));
    assert_eq!(whole, received(&answer(b"RETR 1\r\n", mail, size)));
    assert_eq!(
        whole.strip_prefix(mail),
        Some(if mail.ends_with(b"\r\n") || mail.is_empty() { &b""[..] } else { b"\r\n" })
    );

    let command = format!("TOP 1 {lines}\r\n");
    let top = received(&answer(command.as_bytes(), mail, size));
    assert_eq!(top, expected_top(mail, usize::from(lines)));
});

/// All the machine says to the command, without the first line.
fn answer(command: &[u8], mail: &[u8], size: usize) -> Vec<u8> {
    let mut pop = Server::new(Config { tls: Tls::On, ..Config::default() });
    pop.step(b"USER a\r\n");
    assert!(matches!(pop.step(b"PASS b\r\n").event, Some(Event::Login { .. })));
    pop.ok("Welcome");
    assert!(pop.step(command).event.is_some());
    pop.begin("A mail");
    pop.output().clear();
    let _ = mail.chunks(size).all(|chunk| pop.body(chunk));
    pop.end();
    std::mem::take(pop.output())
}

/// What a client takes the answer for that reads up to LF; it must see the end where the answer ends.
fn received(answer: &[u8]) -> Vec<u8> {
    let (mut mail, mut rest) = (Vec::new(), answer);
    loop {
        let end = rest.iter().position(|b| *b == b'\n').expect("the answer ends") + 1;
        let (line, after) = rest.split_at(end);
        if matches!(line, b".\r\n" | b".\n") {
            assert!(after.is_empty(), "the mail ended the answer");
            return mail;
        }
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = after;
    }
}

/// RFC 1939 §7: the header, the empty line, and so many lines.
fn expected_top(mail: &[u8], lines: usize) -> Vec<u8> {
    let mut all = mail.split_inclusive(|b| *b == b'\n');
    let mut top = Vec::new();
    for line in all.by_ref() {
        top.extend_from_slice(line);
        if matches!(line, b"\r\n" | b"\n") {
            all.by_ref().take(lines).for_each(|line| top.extend_from_slice(line));
            break;
        }
    }
    if !top.is_empty() && !top.ends_with(b"\r\n") {
        top.extend_from_slice(b"\r\n");
    }
    top
}
