//! The body of a multi-line answer: dot-stuffing and TOP's counting of lines, in a stream whose chunks cut anywhere.
//! [`crate::Server`] calls it; it holds a few bytes of state and never a line of the mail.

use memchr::{memchr_iter, memmem};

/// A multi-line answer under way (RFC 1939 §3).
#[derive(Debug)]
pub(crate) struct Body {
    /// The last two octets sent; the answer's first line counts.
    tail: [u8; 2],
    /// For TOP: how much of the mail is still wanted.
    cut: Option<Cut>,
}

impl Body {
    /// The whole mail, or with `lines` its header and so many lines of its text (RFC 1939 §7, TOP).
    pub(crate) fn new(lines: Option<u32>) -> Self {
        Body { tail: *b"\r\n", cut: lines.map(|lines| Cut { part: Part::Header(Line::Empty), lines }) }
    }

    /// Sends a chunk of the mail; false when no more of it is wanted.
    pub(crate) fn chunk(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> bool {
        match &mut self.cut {
            None => {
                self.stuff(chunk, out);
                true
            }
            Some(cut) => {
                let wanted = cut.wanted(chunk);
                let more = !matches!(cut.part, Part::Done);
                self.stuff(&chunk[..wanted], out);
                more
            }
        }
    }

    /// Ends the last line, where the mail did not, and the answer.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        if self.tail != *b"\r\n" {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }

    /// RFC 1939 §3: a line that begins with the termination octet gets one more.
    ///
    /// A bare LF is sent as it is, but counts as a line's end: many clients read up to LF, and to them `LF . CR LF` in a
    /// mail would end the answer and let its writer speak for the server.
    fn stuff(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if chunk.is_empty() {
            return;
        }
        out.reserve(chunk.len() + 8);
        if self.tail[1] == b'\n' && chunk[0] == b'.' {
            out.push(b'.');
        }
        let mut sent = 0;
        for lf in memmem::find_iter(chunk, b"\n.") {
            out.extend_from_slice(&chunk[sent..=lf]);
            out.push(b'.');
            sent = lf + 1;
        }
        out.extend_from_slice(&chunk[sent..]);
        self.tail = match chunk {
            [.., a, b] => [*a, *b],
            [b] => [self.tail[1], *b],
            [] => self.tail,
        };
    }
}

/// How far TOP has come.
#[derive(Debug)]
struct Cut {
    part: Part,
    /// Lines of the text still wanted.
    lines: u32,
}

#[derive(Debug)]
enum Part {
    /// In the header, with what its unfinished line holds so far.
    Header(Line),
    Text,
    Done,
}

/// What an unfinished line of the header holds so far; only an empty one ends the header.
#[derive(Clone, Copy, Debug)]
enum Line {
    Empty,
    Cr,
    Words,
}

impl Line {
    /// The line with `more` of it known.
    fn with(self, more: &[u8]) -> Line {
        match (self, more) {
            (line, []) => line,
            (Line::Empty, b"\r") => Line::Cr,
            _ => Line::Words,
        }
    }
}

impl Cut {
    /// How many octets of the chunk are wanted.
    fn wanted(&mut self, chunk: &[u8]) -> usize {
        let mut start = 0;
        for lf in memchr_iter(b'\n', chunk) {
            match self.part {
                Part::Header(line) => match line.with(&chunk[start..lf]) {
                    Line::Empty | Line::Cr if self.lines == 0 => self.part = Part::Done,
                    Line::Empty | Line::Cr => self.part = Part::Text,
                    Line::Words => self.part = Part::Header(Line::Empty),
                },
                Part::Text => {
                    self.lines -= 1;
                    if self.lines == 0 {
                        self.part = Part::Done;
                    }
                }
                Part::Done => return 0,
            }
            start = lf + 1;
            if matches!(self.part, Part::Done) {
                return start;
            }
        }
        match self.part {
            Part::Header(line) => self.part = Part::Header(line.with(&chunk[start..])),
            Part::Text => {}
            Part::Done => return 0,
        }
        chunk.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent for a mail, after checking that the way it is cut into two or single octets changes nothing.
    fn sent(mail: &str, lines: Option<u32>) -> String {
        let run = |chunks: &[&[u8]]| {
            let (mut body, mut out) = (Body::new(lines), Vec::new());
            for chunk in chunks {
                body.chunk(chunk, &mut out);
            }
            body.end(&mut out);
            String::from_utf8(out).unwrap()
        };
        let whole = run(&[mail.as_bytes()]);
        for cut in 0..=mail.len() {
            assert_eq!(run(&[&mail.as_bytes()[..cut], &mail.as_bytes()[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(run(&mail.as_bytes().chunks(1).collect::<Vec<_>>()), whole);
        whole
    }

    #[test]
    fn dots_are_stuffed_and_the_last_line_is_ended() {
        for (mail, wire) in [
            ("", ".\r\n"),
            (".", "..\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("..\r\n.a\r\nb.\r\n", "...\r\n..a\r\nb.\r\n.\r\n"),
            ("a\r\n\r\n.\r\n.\r\n", "a\r\n\r\n..\r\n..\r\n.\r\n"),
            ("no end", "no end\r\n.\r\n"),
            ("cr\r", "cr\r\r\n.\r\n"),
            ("lf\n", "lf\n\r\n.\r\n"),
        ] {
            assert_eq!(sent(mail, None), wire, "{mail:?}");
        }
    }

    #[test]
    fn a_bare_lf_cannot_end_the_answer() {
        assert_eq!(sent("a\n.\r\n+OK forged\r\n", None), "a\n..\r\n+OK forged\r\n.\r\n");
        assert_eq!(sent("a\r.\r\n", None), "a\r.\r\n.\r\n");
    }

    #[test]
    fn top_sends_the_header_the_empty_line_and_some_lines() {
        let mail = "A: 1\r\n b\r\nB: 2\r\n\r\none\r\n.two\r\n\r\nfour";
        let header = "A: 1\r\n b\r\nB: 2\r\n\r\n";
        for (lines, text) in [
            (0, ""),
            (1, "one\r\n"),
            (2, "one\r\n..two\r\n"),
            (3, "one\r\n..two\r\n\r\n"),
            (4, "one\r\n..two\r\n\r\nfour\r\n"),
            (u32::MAX, "one\r\n..two\r\n\r\nfour\r\n"),
        ] {
            assert_eq!(sent(mail, Some(lines)), format!("{header}{text}.\r\n"));
        }
        assert_eq!(sent("A: 1\r\nno text", Some(0)), "A: 1\r\nno text\r\n.\r\n");
        assert_eq!(sent("A: 1\n\none\ntwo\n", Some(1)), "A: 1\n\none\n\r\n.\r\n");
        assert_eq!(sent("\r\r\n\r\nx\r\n", Some(0)), "\r\r\n\r\n.\r\n");
    }

    #[test]
    fn top_says_when_it_has_enough() {
        let (mut body, mut out) = (Body::new(Some(1)), Vec::new());
        assert!(body.chunk(b"A: 1\r\n\r\non", &mut out));
        assert!(!body.chunk(b"e\r\ntwo\r\n", &mut out));
        assert!(!body.chunk(b"three\r\n", &mut out));
        assert_eq!(out, b"A: 1\r\n\r\none\r\n");
    }
}
