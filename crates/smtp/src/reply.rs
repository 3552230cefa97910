//! Replies on the wire (RFC 5321 §4.2): written by the server.

use std::io::Write;

use base::Reply;

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

#[cfg(test)]
mod tests {
    use super::*;

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
