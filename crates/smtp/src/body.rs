//! The body on the wire: dot-stuffing (RFC 5321 §4.5.2), where it ends, and what becomes of a CR or LF that stands alone.
//! Called by both machines; it never copies the body, it cuts it into slices.

use memchr::memchr2;

/// What a server does with a CR or an LF that is not part of a CRLF.
///
/// RFC 5321 §2.3.8 forbids them. A server that takes one for a line end, where the sending host did not, lets the author
/// of a message end it early and write commands after it ("SMTP smuggling"). Neither choice here ever does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BareLineEnds {
    /// Commands are answered 500; a message is read to its true end and then answered 554 5.6.0.
    #[default]
    Reject,
    /// Commands may end in LF; in a message each becomes CRLF, without ending it.
    Normalise,
}

/// Reads a body from the wire in slices, however it was cut.
#[derive(Debug)]
pub(crate) struct Scanner {
    at: At,
    /// True for DATA, where a line's first dot is not the author's; false for BDAT.
    dots: bool,
    bare: BareLineEnds,
}

/// What stood before the next octet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// CRLF, or nothing.
    LineStart,
    /// Anything else.
    Middle,
    /// CR, already handed out.
    Cr,
    /// CRLF and a dot, held back.
    Dot,
    /// CRLF, a dot and a CR, held back.
    DotCr,
}

/// What the scanner made of some input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A part of the body, perhaps empty.
    Text(&'a [u8]),
    /// A bare CR or LF, and [`BareLineEnds::Reject`]. The scan goes on.
    Bare,
    /// `<CRLF>.<CRLF>`.
    End,
}

impl Scanner {
    pub(crate) fn new(dots: bool, bare: BareLineEnds) -> Self {
        Scanner { at: At::LineStart, dots, bare }
    }

    /// How many octets of `input` (not empty) were used, and what they are. Zero are used when what was held back from
    /// earlier input had to be given first.
    pub(crate) fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        match (self.at, input[0]) {
            (At::LineStart, b'.') if self.dots => {
                if input[1..].starts_with(b"\r\n") {
                    return (3, Piece::End);
                }
                self.at = At::Dot;
                (1, Piece::Text(b""))
            }
            (At::Dot, b'\r') => {
                self.at = At::DotCr;
                (1, Piece::Text(b""))
            }
            (At::DotCr, b'\n') => (1, Piece::End),
            (At::DotCr, _) => (0, self.bare(b"\r\n")),
            (At::Cr, b'\n') => self.after_crlf(input, 1),
            (At::Cr, _) => (0, self.bare(b"\n")),
            (At::LineStart | At::Middle | At::Dot, b'\n') => (1, self.bare(b"\r\n")),
            (At::LineStart | At::Middle | At::Dot, _) => self.run(input, 0),
        }
    }

    /// The body ends here, without a dot (BDAT LAST): a last CR is bare.
    pub(crate) fn finish(&mut self) -> Piece<'static> {
        if self.at == At::Cr { self.bare(b"\n") } else { Piece::Text(b"") }
    }

    /// A bare CR or LF; `instead` completes what was handed out to a CRLF.
    fn bare<'a>(&mut self, instead: &'static [u8]) -> Piece<'a> {
        // Not `LineStart`: a dot after a bare line end is the author's.
        self.at = At::Middle;
        match self.bare {
            BareLineEnds::Reject => Piece::Bare,
            BareLineEnds::Normalise => Piece::Text(instead),
        }
    }

    /// The longest slice from the start of `input` that is the body's as it is; up to `from` it was looked at before.
    fn run<'a>(&mut self, input: &'a [u8], mut from: usize) -> (usize, Piece<'a>) {
        loop {
            let Some(found) = memchr2(b'\r', b'\n', &input[from..]) else {
                self.at = At::Middle;
                return (input.len(), Piece::Text(input));
            };
            let at = from + found;
            if input[at] == b'\n' {
                self.at = At::Middle;
                return (at, Piece::Text(&input[..at]));
            }
            if input.get(at + 1) != Some(&b'\n') {
                self.at = At::Cr;
                return (at + 1, Piece::Text(&input[..=at]));
            }
            from = at + 2;
            if from == input.len() || self.dots && input[from] == b'.' {
                self.at = At::LineStart;
                return (from, Piece::Text(&input[..from]));
            }
        }
    }

    /// `input[..from]` is the LF of a CRLF that was cut in two.
    fn after_crlf<'a>(&mut self, input: &'a [u8], from: usize) -> (usize, Piece<'a>) {
        if from == input.len() || self.dots && input[from] == b'.' {
            self.at = At::LineStart;
            return (from, Piece::Text(&input[..from]));
        }
        self.run(input, from)
    }
}

/// Writes a body to the wire, however it was cut: every line end becomes CRLF, and dots are stuffed where DATA wants it.
///
/// A CR or LF that stands alone never leaves us: a server that takes it for a line end would let the author of a message
/// end it early and speak in our name.
#[derive(Debug)]
pub(crate) struct Stuffer {
    at: Before,
    /// True for DATA.
    dots: bool,
}

/// What was written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// CRLF, or nothing.
    LineStart,
    /// Anything else.
    Middle,
    /// As `Middle`, and a CR was read and not written.
    Cr,
}

impl Stuffer {
    pub(crate) fn new(dots: bool) -> Self {
        Stuffer { at: Before::LineStart, dots }
    }

    /// Appends `input` to `out` in its wire form.
    pub(crate) fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = input.first() {
            let used = match (self.at, first) {
                (Before::Cr, _) => {
                    self.end_line(out);
                    usize::from(first == b'\n')
                }
                (_, b'\n') => {
                    self.end_line(out);
                    1
                }
                (_, b'\r') => {
                    self.at = Before::Cr;
                    1
                }
                (Before::LineStart, b'.') if self.dots => {
                    // RFC 5321 §4.5.2.
                    out.extend_from_slice(b"..");
                    self.at = Before::Middle;
                    1
                }
                _ => self.run(input, out),
            };
            input = &input[used..];
        }
    }

    /// The body is complete: an open line is ended, and for DATA the final dot is written. BDAT could leave the line open
    /// (RFC 3030 §2), but verifiers do not agree on the blanks at its end (RFC 6376 §3.4.4), and the next hop may use DATA.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if self.at != Before::LineStart {
            self.end_line(out);
        }
        if self.dots {
            out.extend_from_slice(b".\r\n");
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.at = Before::LineStart;
    }

    /// The longest slice from the start of `input`, which is no line end, that can be copied as it is.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let mut from = 0;
        let used = loop {
            let Some(found) = memchr2(b'\r', b'\n', &input[from..]) else {
                self.at = Before::Middle;
                break input.len();
            };
            let end = from + found;
            if !input[end..].starts_with(b"\r\n") {
                self.at = Before::Middle;
                break end;
            }
            from = end + 2;
            if from == input.len() || self.dots && input[from] == b'.' {
                self.at = Before::LineStart;
                break from;
            }
        };
        out.extend_from_slice(&input[..used]);
        used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(body: &[u8], cut: usize, dots: bool) -> String {
        let (mut stuffer, mut out) = (Stuffer::new(dots), Vec::new());
        for chunk in body.chunks(cut) {
            stuffer.push(chunk, &mut out);
        }
        stuffer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn trap_02_no_cr_or_lf_leaves_alone() {
        for (body, wire) in [
            ("", ".\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n..\r\n", "..\r\n...\r\n.\r\n"),
            ("a\n.\nQUIT\n", "a\r\n..\r\nQUIT\r\n.\r\n"),
            ("a\n.\r\nQUIT", "a\r\n..\r\nQUIT\r\n.\r\n"),
            ("a\r.\rQUIT", "a\r\n..\r\nQUIT\r\n.\r\n"),
            ("a\r\n.\rb\r", "a\r\n..\r\nb\r\n.\r\n"),
            ("\r\r\n\n", "\r\n\r\n\r\n.\r\n"),
        ] {
            for cut in 1..=body.len().max(1) {
                assert_eq!(stuffed(body.as_bytes(), cut, true), wire, "{body:?} by {cut}");
            }
        }
        // BDAT: no dots, and the same lines.
        assert_eq!(stuffed(b".a\nb\r.", 1, false), ".a\r\nb\r\n.\r\n");
        assert_eq!(stuffed(b"a\r", 1, false), "a\r\n");
        assert_eq!(stuffed(b"", 1, false), "");
    }

    /// The body, whether a bare line end was met, and what was left after the end.
    fn scan(wire: &[u8], cut: usize, mut scanner: Scanner) -> (Vec<u8>, bool, Option<usize>) {
        let (mut body, mut bare, mut base) = (Vec::new(), false, 0);
        for chunk in wire.chunks(cut) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let (used, piece) = scanner.next(rest);
                rest = &rest[used..];
                match piece {
                    Piece::Text(text) => body.extend_from_slice(text),
                    Piece::Bare => bare = true,
                    Piece::End => return (body, bare, Some(base + chunk.len() - rest.len())),
                }
            }
            base += chunk.len();
        }
        (body, bare, None)
    }

    #[test]
    fn dots_are_taken_off_wherever_the_input_is_cut() {
        for (wire, body) in [
            (&b".\r\n"[..], &b""[..]),
            (b"a\r\n.\r\n", b"a\r\n"),
            (b"..\r\n.\r\n", b".\r\n"),
            (b"a\r\n..b\r\n...\r\n\r\n.\r\n", b"a\r\n.b\r\n..\r\n\r\n"),
            (b".a\r\n.\r\n", b"a\r\n"),
            (b"a.\r\n.\r\n", b"a.\r\n"),
        ] {
            for cut in 1..=wire.len() {
                let got = scan(wire, cut, Scanner::new(true, BareLineEnds::Reject));
                assert_eq!(got, (body.to_vec(), false, Some(wire.len())), "{:?} by {cut}", wire.as_bstr());
            }
        }
    }

    #[test]
    fn trap_01_nothing_but_crlf_dot_crlf_ends_the_data() {
        for (ending, normalised) in [
            (&b"\n.\n"[..], &b"\r\n.\r\n"[..]),
            (b"\n.\r\n", b"\r\n.\r\n"),
            (b"\r.\r\n", b"\r\n.\r\n"),
            (b"\r\n.\n", b"\r\n\r\n"),
            (b"\r\n.\r", b"\r\n\r\n"),
            (b"\r.\r", b"\r\n.\r\n"),
            (b"\r\r\n.\r\r\n", b"\r\n\r\n\r\n\r\n"),
            (b"\n\n.\r\n", b"\r\n\r\n.\r\n"),
        ] {
            let wire = [b"a", ending, b"MAIL FROM:<x@y>\r\n.\r\n"].concat();
            let body = [b"a", normalised, b"MAIL FROM:<x@y>\r\n"].concat();
            for cut in 1..=wire.len() {
                let (_, bare, end) = scan(&wire, cut, Scanner::new(true, BareLineEnds::Reject));
                assert_eq!((bare, end), (true, Some(wire.len())), "{:?} by {cut}", ending.as_bstr());
                let got = scan(&wire, cut, Scanner::new(true, BareLineEnds::Normalise));
                assert_eq!(got, (body.clone(), false, Some(wire.len())), "{:?} by {cut}", ending.as_bstr());
            }
        }
    }

    trait Shown {
        fn as_bstr(&self) -> String;
    }

    impl Shown for &[u8] {
        fn as_bstr(&self) -> String {
            self.escape_ascii().to_string()
        }
    }
}
