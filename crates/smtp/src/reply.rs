//! Replies on the wire (RFC 5321 §4.2): written by the server, read by the client.

use std::io::Write;

use base::{Enhanced, Reply};
use memchr::memchr;

/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets; this leaves room for codes and CRLF.
const MAX_TEXT: usize = 480;

/// Appends `reply`, as many lines as it needs, with the enhanced code on each (RFC 2034 §4).
///
/// Text outside US-ASCII is kept where `utf8` says that the client can read it (RFC 6531 §3.7.4.2); a control character
/// never is, since a CR in a text that quotes the peer would write a reply of the peer's own.
pub(crate) fn write(out: &mut Vec<u8>, reply: &Reply, utf8: bool) {
    let mut lines = Lines { rest: Some(&reply.text) }.peekable();
    while let Some(line) = lines.next() {
        let separator = if lines.peek().is_some() { '-' } else { ' ' };
        // Writing to a Vec does not fail.
        let _ = write!(out, "{}{separator}", reply.code);
        if let Some(enhanced) = reply.enhanced {
            let _ = write!(out, "{enhanced} ");
        }
        for c in line.chars() {
            match c {
                c if c.is_control() => out.push(b' '),
                c if c.is_ascii() => out.push(c as u8),
                c if utf8 => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => out.push(b'?'),
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// The lines of a text, long ones cut; at least one.
struct Lines<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest?;
        let (line, rest) = match text.split_once('\n') {
            Some((line, rest)) => (line, Some(rest)),
            None => (text, None),
        };
        if line.len() <= MAX_TEXT {
            self.rest = rest;
            return Some(line);
        }
        let (line, rest) = text.split_at(text.floor_char_boundary(MAX_TEXT));
        self.rest = Some(rest);
        Some(line)
    }
}

/// A reply line with its line end: RFC 5321 §4.5.3.1.5 says 512, some hosts are chattier.
const MAX_LINE: usize = 2048;
/// Lines of one reply.
const MAX_LINES: u32 = 100;
/// What is kept of a reply's text, in octets; the rest is read and dropped.
const MAX_KEPT: usize = 8192;

/// Puts replies together from what a hostile server sends.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The lines before the last.
    reply: Option<Reply>,
    lines: u32,
}

/// What was read is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Reader {
    /// How many octets of `input` were used, and the reply that they end.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), Malformed> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let newline = memchr(b'\n', rest);
            let part = &rest[..newline.map_or(rest.len(), |at| at + 1)];
            if self.line.len() + part.len() > MAX_LINE {
                return Err(Malformed);
            }
            used += part.len();
            self.line.extend_from_slice(part);
            if newline.is_some() {
                let line = std::mem::take(&mut self.line);
                if let Some(reply) = self.take(&line)? {
                    return Ok((used, Some(reply)));
                }
            }
        }
        Ok((used, None))
    }

    /// One line; the reply, when it is the last. A line may end in LF: there is nothing to smuggle here.
    fn take(&mut self, line: &[u8]) -> Result<Option<Reply>, Malformed> {
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        let (code, rest) = line.split_at_checked(3).ok_or(Malformed)?;
        let well_formed = matches!(code.as_bytes(), [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']);
        let code = code.parse().ok().filter(|_| well_formed).ok_or(Malformed)?;
        let (last, text) = match rest.as_bytes().first() {
            None => (true, rest),
            Some(b' ') => (true, &rest[1..]),
            Some(b'-') => (false, &rest[1..]),
            Some(_) => return Err(Malformed),
        };
        let (enhanced, text) = split_enhanced(code, text);
        let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.lines += 1;
        let reply = match self.reply.take() {
            None => Reply { code, enhanced, text: text.into() },
            // RFC 5321 §4.2.1: the code is the same on every line.
            Some(reply) if reply.code != code || self.lines > MAX_LINES => return Err(Malformed),
            Some(mut reply) => {
                if reply.text.len() + text.len() < MAX_KEPT {
                    reply.text.to_mut().push_str(&format!("\n{text}"));
                }
                reply
            }
        };
        if last {
            self.lines = 0;
            return Ok(Some(reply));
        }
        self.reply = Some(reply);
        Ok(None)
    }
}

/// The enhanced code at the start of `text` (RFC 2034 §4), if there is one that agrees with `code`, and what follows.
fn split_enhanced(code: u16, text: &str) -> (Option<Enhanced>, &str) {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut numbers = word.split('.').map(|n| {
        let digits = (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
        n.parse::<u16>().ok().filter(|_| digits)
    });
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Some(class)), Some(Some(subject)), Some(Some(detail)), None) if class == code / 100 => {
            (Some(Enhanced(class as u8, subject, detail)), rest)
        }
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &str, cut: usize) -> Result<Vec<String>, Malformed> {
        let (mut reader, mut replies) = (Reader::default(), Vec::new());
        for chunk in wire.as_bytes().chunks(cut) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let (used, reply) = reader.next(rest)?;
                rest = &rest[used..];
                replies.extend(reply.map(|r| r.to_string()));
            }
        }
        Ok(replies)
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let wire = "220 mx\r\n250-5.1.0 a\r\n250-5.1.0\r\n250 2.1.0 b\n354\r\n550-5.1.1 no\r\n550 5.1.1 \x01such\r\n250 1.2.3\r\n";
        let replies = ["220 mx", "250 5.1.0 a\n5.1.0\nb", "354 ", "550 5.1.1 no\n such", "250 1.2.3"];
        for cut in 1..=wire.len() {
            assert_eq!(read(wire, cut).unwrap(), replies, "by {cut}");
        }
    }

    #[test]
    fn what_is_no_reply() {
        for wire in
            ["\r\n", "22\r\n", "2200\r\n", "199 a\r\n", "600 a\r\n", "+OK\r\n", "250-a\r\n251 b\r\n", "２50 a\r\n"]
        {
            assert_eq!(read(wire, 99), Err(Malformed), "{wire:?}");
        }
        assert_eq!(read(&format!("250 {}\r\n", "a".repeat(2043)), 2049), Err(Malformed));
        assert!(read(&format!("250 {}\r\n", "a".repeat(2042)), 1).is_ok());
        assert!(read(&("250-a\r\n".repeat(99) + "250 a\r\n"), 64).is_ok());
        assert_eq!(read(&("250-a\r\n".repeat(100) + "250 a\r\n"), 64), Err(Malformed));
        let long = format!("250-{}\r\n", "a".repeat(2000)).repeat(20) + "250 b\r\n";
        assert!(read(&long, 1000).unwrap()[0].len() < 9000);
    }

    fn written(reply: &Reply, utf8: bool) -> String {
        let mut out = Vec::new();
        write(&mut out, reply, utf8);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_carries_the_enhanced_code() {
        // RFC 2034 §5's shape.
        let reply = Reply::new(550, 7, 1, "Mailbox \"nosuchuser\" is closed\nAsk for another");
        assert_eq!(
            written(&reply, false),
            "550-5.7.1 Mailbox \"nosuchuser\" is closed\r\n550 5.7.1 Ask for another\r\n"
        );
        assert_eq!(written(&Reply::plain(220, ""), false), "220 \r\n");
    }

    #[test]
    fn a_text_cannot_leave_its_line() {
        let reply = Reply::new(550, 1, 1, "no\r250 ok\u{7f}\u{85} é");
        assert_eq!(written(&reply, false), "550 5.1.1 no 250 ok   ?\r\n");
        assert_eq!(written(&reply, true), "550 5.1.1 no 250 ok   é\r\n");
        for line in written(&Reply::new(550, 1, 1, "é".repeat(1000)), true).split_inclusive("\r\n") {
            assert!(line.len() <= 512);
        }
    }
}
