//! A command line, taken apart as far as its verb.

/// What a client may say. `Http` is not SMTP: a browser or a proxy was made to talk to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth,
    /// RFC 5321 names it, or RFC 821 did; nobody implements it today.
    Unimplemented,
    Http,
}

const VERBS: [(&str, Verb); 30] = [
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("LHLO", Verb::Lhlo),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("HELP", Verb::Help),
    ("QUIT", Verb::Quit),
    ("EXPN", Verb::Unimplemented),
    ("TURN", Verb::Unimplemented),
    ("ETRN", Verb::Unimplemented),
    ("ATRN", Verb::Unimplemented),
    ("SEND", Verb::Unimplemented),
    ("SOML", Verb::Unimplemented),
    ("SAML", Verb::Unimplemented),
    ("GET", Verb::Http),
    ("POST", Verb::Http),
    ("PUT", Verb::Http),
    ("HEAD", Verb::Http),
    ("OPTIONS", Verb::Http),
    ("CONNECT", Verb::Http),
    ("DELETE", Verb::Http),
    ("PATCH", Verb::Http),
    ("PRI", Verb::Http),
];

impl Verb {
    /// By its name, in any case.
    pub(super) fn parse(word: &str) -> Option<Verb> {
        VERBS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, verb)| verb)
    }
}

/// The verb, and what follows the spaces after it, without trailing ones (RFC 5321 §4.1.1).
pub(super) fn split(line: &str) -> (&str, &str) {
    let line = line.trim_end_matches(' ');
    let (verb, args) = line.split_once(' ').unwrap_or((line, ""));
    (verb, args.trim_start_matches(' '))
}

/// The text of a line that has no control character and is UTF-8 (RFC 6531 §3.3 allows no other 8-bit text).
pub(super) fn text(line: &[u8]) -> Option<&str> {
    if line.iter().any(u8::is_ascii_control) {
        return None;
    }
    std::str::from_utf8(line).ok()
}

/// `count [LAST]` of BDAT (RFC 3030 §2).
pub(super) fn parse_bdat(args: &str) -> Option<(u64, bool)> {
    let (count, last) = match args.split_once(' ') {
        Some((count, word)) if word.trim_start().eq_ignore_ascii_case("LAST") => (count, true),
        Some(_) => return None,
        None => (args, false),
    };
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((count.parse().ok()?, last))
}
