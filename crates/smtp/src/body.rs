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

#[cfg(test)]
mod tests {
    use super::*;

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
