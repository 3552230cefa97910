//! The "relaxed" forms in which header and body are signed (RFC 6376 §3.4.2, §3.4.4), and line ends made whole before.

use aws_lc_rs::digest::{Context, SHA256};

/// Makes every line end a CRLF: what goes out on the wire has no other (RFC 5321 §2.3.8), and a signature must be made
/// over what goes out (trap 2).
#[derive(Debug, Default)]
pub(crate) struct LineEnds {
    /// A CR was the last octet, and given out as CRLF already.
    after_cr: bool,
}

impl LineEnds {
    /// Hands out `input` in pieces, cut wherever.
    pub(crate) fn push(&mut self, input: &[u8], mut out: impl FnMut(&[u8])) {
        let mut rest = input;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(rest.len());
            if end > 0 {
                out(&rest[..end]);
            }
            if let Some(&b) = rest.get(end) {
                out(b"\r\n");
                self.after_cr = b == b'\r';
            }
            rest = rest.get(end + 1..).unwrap_or(b"");
        }
    }
}

/// A mail with whole line ends: what is signed of it, and what goes out, is the same (trap 2).
pub fn whole_lines(mail: &[u8]) -> Vec<u8> {
    let (mut ends, mut out) = (LineEnds::default(), Vec::with_capacity(mail.len()));
    ends.push(mail, |piece| out.extend_from_slice(piece));
    out
}

/// The hash of a body in its relaxed form. Input has CRLF line ends only, cut anywhere but between CR and LF.
pub(crate) struct BodyHash {
    hash: Context,
    /// Line ends that count only if something follows.
    lines: u64,
    /// White space that counts only if something follows on its line.
    space: bool,
    /// Anything was hashed.
    any: bool,
}

impl BodyHash {
    pub(crate) fn new() -> Self {
        BodyHash { hash: Context::new(&SHA256), lines: 0, space: false, any: false }
    }

    pub(crate) fn push(&mut self, input: &[u8]) {
        let mut rest = input;
        while let Some(&first) = rest.first() {
            match first {
                b'\r' => self.space = false,
                b'\n' => self.lines += 1,
                b' ' | b'\t' => self.space = true,
                _ => {
                    let end = rest.iter().position(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len());
                    self.text(&rest[..end]);
                    rest = &rest[end..];
                    continue;
                }
            }
            rest = &rest[1..];
        }
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.lines) {
            self.hash.update(b"\r\n");
        }
        if std::mem::take(&mut self.space) {
            self.hash.update(b" ");
        }
        self.hash.update(text);
        self.any = true;
    }

    /// Empty lines at the end do not count, and a body that is not empty ends with a line end.
    pub(crate) fn finish(mut self) -> [u8; 32] {
        if self.any {
            self.hash.update(b"\r\n");
        }
        let mut out = [0; 32];
        out.copy_from_slice(self.hash.finish().as_ref());
        out
    }
}

/// A header field in its relaxed form, without its line end.
pub(crate) fn field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let mut words = value.split(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).filter(|w| !w.is_empty());
    if let Some(first) = words.next() {
        out.extend_from_slice(first);
    }
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::digest;

    use super::*;

    fn whole(input: &[u8], cut: usize) -> Vec<u8> {
        let (mut ends, mut out) = (LineEnds::default(), Vec::new());
        for part in input.chunks(cut) {
            ends.push(part, |piece| out.extend_from_slice(piece));
        }
        out
    }

    fn body(input: &[u8], cut: usize) -> [u8; 32] {
        let (mut ends, mut hash) = (LineEnds::default(), BodyHash::new());
        for part in input.chunks(cut) {
            ends.push(part, |piece| hash.push(piece));
        }
        hash.finish()
    }

    #[test]
    fn trap_02_line_ends_are_made_whole_before_anything_is_signed() {
        for (input, output) in [
            (&b"a\nb"[..], &b"a\r\nb"[..]),
            (b"a\rb", b"a\r\nb"),
            (b"a\r\nb\r\n", b"a\r\nb\r\n"),
            (b"a\n\rb", b"a\r\n\r\nb"),
            (b"\r\r\n\n", b"\r\n\r\n\r\n"),
            (b"a\r", b"a\r\n"),
        ] {
            for cut in 1..=input.len() {
                assert_eq!(whole(input, cut), output, "{} by {cut}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn the_relaxed_form_of_a_body() {
        // RFC 6376 §3.4.5's example, and the rules of §3.4.4 one by one.
        for (input, relaxed) in [
            (&b" C \r\nD \t E\r\n\r\n\r\n"[..], &b" C\r\nD E\r\n"[..]),
            (b"", b""),
            (b"\r\n\r\n", b""),
            (b" \r\n\t\r\n", b""),
            (b"a", b"a\r\n"),
            (b"a\r\n\r\n b  \r\n", b"a\r\n\r\n b\r\n"),
            (b"a \t \tb\r\n", b"a b\r\n"),
        ] {
            for cut in 1..=input.len().max(1) {
                let expected = digest(&SHA256, relaxed);
                assert_eq!(body(input, cut), expected.as_ref(), "{} by {cut}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn the_relaxed_form_of_a_field() {
        // RFC 6376 §3.4.5's example.
        for (name, value, relaxed) in [(&b"A"[..], &b" X"[..], "a:X"), (b"B ", b" Y\t\r\n\tZ  ", "b :Y Z")] {
            let mut out = Vec::new();
            field(name, value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), relaxed);
        }
    }
}
