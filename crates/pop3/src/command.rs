//! The syntax of a command line. [`crate::Server`] calls it; it knows no states and answers nothing.

use crate::Secret;

/// One command, well formed; whether it may be given now is the machine's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    User(&'a str),
    Pass(Secret<'a>),
    Auth { mechanism: &'a str, initial: Option<Secret<'a>> },
    Stls,
    Capa,
    Utf8,
    Lang(Option<&'a str>),
    Stat,
    List(Option<u32>),
    Uidl(Option<u32>),
    Retr(u32),
    Top(u32, u32),
    Dele(u32),
    Rset,
    Noop,
    Quit,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// No keyword of ours.
    Keyword,
    /// Too few, too many, or not of the kind.
    Arguments,
}

impl<'a> Command<'a> {
    /// A line without its CRLF. RFC 1939 §3: keywords in any case, arguments behind single spaces; trailing spaces,
    /// which some clients send, are forgiven.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let space = memchr::memchr(b' ', line);
        let (keyword, rest) = match space {
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        let mut upper = [0u8; 4];
        let upper = upper.get_mut(..keyword.len()).ok_or(Malformed::Keyword)?;
        upper.copy_from_slice(keyword);
        upper.make_ascii_uppercase();
        let mut args = Arguments(rest);
        let command = match &*upper {
            // A user's name and a password may hold spaces (RFC 1939 §7), a password at its ends too.
            b"USER" => Command::User(args.rest().ok_or(Malformed::Arguments)?),
            b"PASS" if space.is_some() => return Ok(Command::Pass(Secret(rest))),
            b"AUTH" => Command::Auth {
                mechanism: args.word().and_then(|w| str::from_utf8(w).ok()).ok_or(Malformed::Arguments)?,
                // RFC 5034 §4: a single "=" is an empty initial response.
                initial: args.word().map(|w| Secret(if w == b"=" { b"" } else { w })),
            },
            b"STLS" => Command::Stls,
            b"CAPA" => Command::Capa,
            b"UTF8" => Command::Utf8,
            b"LANG" => Command::Lang(args.rest()),
            b"STAT" => Command::Stat,
            b"LIST" => Command::List(args.optional_number()?),
            b"UIDL" => Command::Uidl(args.optional_number()?),
            b"RETR" => Command::Retr(args.number()?),
            b"TOP" => Command::Top(args.number()?, args.number()?),
            b"DELE" => Command::Dele(args.number()?),
            b"RSET" => Command::Rset,
            b"NOOP" => Command::Noop,
            b"QUIT" => Command::Quit,
            b"PASS" => return Err(Malformed::Arguments),
            _ => return Err(Malformed::Keyword),
        };
        if args.word().is_some() { Err(Malformed::Arguments) } else { Ok(command) }
    }
}

/// What of a line is not yet read.
struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    /// The next word, if any.
    fn word(&mut self) -> Option<&'a [u8]> {
        let text = self.0.trim_ascii();
        let end = memchr::memchr(b' ', text).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        (!word.is_empty()).then_some(word)
    }

    /// All that is left, if it is text.
    fn rest(&mut self) -> Option<&'a str> {
        let text = std::mem::take(&mut self.0).trim_ascii();
        str::from_utf8(text).ok().filter(|t| !t.is_empty())
    }

    fn optional_number(&mut self) -> Result<Option<u32>, Malformed> {
        self.word().map(number).transpose()
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        number(self.word().ok_or(Malformed::Arguments)?)
    }
}

/// A number in digits. One beyond 32 bits becomes the largest: there is no such mail, and TOP wants all lines (fetchmail
/// asks for 99999999).
fn number(word: &[u8]) -> Result<u32, Malformed> {
    word.iter().try_fold(0u32, |n, d| match d {
        b'0'..=b'9' => Ok(n.saturating_mul(10).saturating_add(u32::from(d - b'0'))),
        _ => Err(Malformed::Arguments),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        use Command::*;
        for (line, command) in [
            ("list", Ok(List(None))),
            ("LIST ", Ok(List(None))),
            ("LiSt 007", Ok(List(Some(7)))),
            ("UIDL 99999999999999999999", Ok(Uidl(Some(u32::MAX)))),
            ("TOP 1 0", Ok(Top(1, 0))),
            ("TOP  1  0 ", Ok(Top(1, 0))),
            ("USER Jane Doe ", Ok(User("Jane Doe"))),
            ("PASS  a b ", Ok(Pass(Secret(b" a b ")))),
            ("PASS ", Ok(Pass(Secret(b"")))),
            ("AUTH PLAIN", Ok(Auth { mechanism: "PLAIN", initial: None })),
            ("AUTH PLAIN =", Ok(Auth { mechanism: "PLAIN", initial: Some(Secret(b"")) })),
            ("AUTH PLAIN AGE=", Ok(Auth { mechanism: "PLAIN", initial: Some(Secret(b"AGE=")) })),
            ("LANG", Ok(Lang(None))),
            ("LANG *", Ok(Lang(Some("*")))),
            ("", Err(Malformed::Keyword)),
            (" STAT", Err(Malformed::Keyword)),
            ("STATS", Err(Malformed::Keyword)),
            ("TO", Err(Malformed::Keyword)),
            ("STAT 1", Err(Malformed::Arguments)),
            ("RETR", Err(Malformed::Arguments)),
            ("RETR -1", Err(Malformed::Arguments)),
            ("RETR 1 2", Err(Malformed::Arguments)),
            ("TOP 1", Err(Malformed::Arguments)),
            ("USER", Err(Malformed::Arguments)),
            ("PASS", Err(Malformed::Arguments)),
            ("AUTH", Err(Malformed::Arguments)),
            ("AUTH PLAIN a b", Err(Malformed::Arguments)),
        ] {
            assert_eq!(Command::parse(line.as_bytes()), command, "{line:?}");
        }
        assert_eq!(Command::parse(b"USER \xff"), Err(Malformed::Arguments));
    }
}
