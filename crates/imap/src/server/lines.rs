//! Lines and the literals they announce (RFC 9051 §4.3, RFC 7888).

/// A literal that the end of a line announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// Octets; a number that is too large for 64 bits reads as the largest.
    pub size: u64,
    /// The client waits to be asked: no `+`.
    pub sync: bool,
    /// A literal8: `~` before it.
    pub binary: bool,
}

/// The literal announced at the end of `line`, which ends in LF. RFC 9051 §9 `literal`, `literal8`.
pub(super) fn announcement(line: &[u8]) -> Option<Announcement> {
    let rest = super::without_line_end(line).strip_suffix(b"}")?;
    let (rest, sync) = rest.strip_suffix(b"+").map_or((rest, true), |rest| (rest, false));
    let digits = rest.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (head, digits) = rest.split_at(rest.len() - digits);
    let head = head.strip_suffix(b"{").filter(|_| (1..=MAX_DIGITS).contains(&digits.len()))?;
    let add = |n: u64, d: &u8| n.saturating_mul(10).saturating_add(u64::from(d - b'0'));
    Some(Announcement { size: digits.iter().fold(0, add), sync, binary: head.ends_with(b"~") })
}

/// The most digits of a size.
const MAX_DIGITS: usize = 20;

/// A command on its way in.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// All of it so far, literals included; empty when it is to be read from the input itself.
    pub bytes: Vec<u8>,
    /// Where its last line begins, after the last literal.
    pub text_at: usize,
    /// Octets outside literals before `text_at`.
    text_before: usize,
    /// Literals so far.
    pub literals: u32,
    /// Octets in them.
    pub literal_sum: u64,
}

/// The text is longer than allowed: so many octets were taken of it, and kept.
pub(super) struct TooLong(pub usize);

impl Line {
    /// Takes octets up to and with LF: how many, and whether the LF was among them. What is not yet a command is kept;
    /// a line that is complete at once is not, unless something stands before it.
    pub fn take(&mut self, input: &[u8], limit: usize) -> Result<(usize, bool), TooLong> {
        let line_end = memchr::memchr(b'\n', input);
        let used = line_end.map_or(input.len(), |at| at + 1);
        let room = limit.saturating_sub(self.text_before + self.bytes.len() - self.text_at);
        if used > room {
            self.bytes.extend_from_slice(&input[..room]);
            return Err(TooLong(room));
        }
        if line_end.is_none() || !self.bytes.is_empty() {
            self.bytes.extend_from_slice(&input[..used]);
        }
        Ok((used, line_end.is_some()))
    }

    /// A literal was added whole: text again.
    pub fn start_of_text(&mut self) {
        let in_literals = usize::try_from(self.literal_sum).unwrap_or(usize::MAX);
        self.text_before = self.bytes.len().saturating_sub(in_literals);
        self.text_at = self.bytes.len();
    }
}

/// The end of a refused command: literals that come unasked, and text up to a line that announces none (trap 4).
#[derive(Debug)]
pub(super) struct Discard {
    /// Octets of a literal still to come.
    left: u64,
    /// The last octets of the line so far, enough for an announcement.
    tail: [u8; Self::TAIL],
    len: usize,
}

impl Discard {
    /// `~{`, the digits, `+}`, CR, LF.
    const TAIL: usize = MAX_DIGITS + 6;

    /// A literal comes first.
    pub fn literal(left: u64) -> Self {
        Discard { left, tail: [0; Self::TAIL], len: 0 }
    }

    /// A line goes on that began with `text`.
    pub fn text(text: &[u8]) -> Self {
        let mut discard = Self::literal(0);
        discard.remember(text);
        discard
    }

    fn remember(&mut self, text: &[u8]) {
        let new = &text[text.len().saturating_sub(Self::TAIL)..];
        let keep = self.len.min(Self::TAIL - new.len());
        self.tail.copy_within(self.len - keep..self.len, 0);
        self.tail[keep..keep + new.len()].copy_from_slice(new);
        self.len = keep + new.len();
    }

    /// Passes over octets: how many, and whether the command has ended.
    pub fn feed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        loop {
            let skip = (input.len() - at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= skip as u64;
            at += skip;
            let Some(line_end) = memchr::memchr(b'\n', &input[at..]) else {
                self.remember(&input[at..]);
                return (input.len(), false);
            };
            self.remember(&input[at..=at + line_end]);
            at += line_end + 1;
            match announcement(&self.tail[..self.len]) {
                Some(literal) if !literal.sync => *self = Discard::literal(literal.size),
                // A literal the client waits to be asked for: it was told already that the command is refused.
                _ => return (at, true),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements() {
        let found = |line: &str| announcement(line.as_bytes()).map(|a| (a.size, a.sync, a.binary));
        assert_eq!(found("a LOGIN {11}\r\n"), Some((11, true, false)));
        assert_eq!(found("{0+}\n"), Some((0, false, false)));
        assert_eq!(found("a APPEND x ~{5+}\r\n"), Some((5, false, true)));
        assert_eq!(found("{99999999999999999999+}\r\n"), Some((u64::MAX, false, false)));
        for line in
            ["a NOOP\r\n", "{}\r\n", "{+}\r\n", "5}\r\n", "{5} \r\n", "{5++}\r\n", "{-5}\r\n", "{5-}\r\n", "\r\n"]
        {
            assert_eq!(found(line), None, "{line:?}");
        }
    }

    #[test]
    fn what_is_discarded_ends_where_the_command_ends() {
        let rest = b"drop {3+}\r\n\r\n\r tail {4+}\r\nabcd end\r\na NOOP\r\n";
        let commands_end = rest.len() - b"a NOOP\r\n".len();
        assert_eq!(Discard::text(b"").feed(rest), (commands_end, true));
        // One octet at a time.
        let mut discard = Discard::text(b"");
        let end = (0..rest.len()).find(|at| discard.feed(&rest[*at..=*at]).1);
        assert_eq!(end, Some(commands_end - 1));
    }
}
