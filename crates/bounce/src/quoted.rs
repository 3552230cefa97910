//! A text, prepared for the patterns: white space folded, mail addresses and message ids cut out, since they contain words.
//!
//! A report wraps what it quotes: `host mx.test[192.0.2.1] said: 550 5.1.1 <jo@x.test>... User unknown (in reply to RCPT TO
//! command)`. What stands before the first reply code is the reporting host's, and says nothing about the refusal. Of
//! several replies the first counts that does not only follow from another.

use std::borrow::Cow;

use base::Enhanced;

use crate::MAX_TEXT;
use crate::classify::Stage;

/// Octets of an unprepared text that are looked at.
const MAX_RAW: usize = 4 * MAX_TEXT;
/// Replies of a transcript that are told apart; what comes then belongs to the last.
const MAX_REPLIES: usize = 8;
/// AsyncOS writes this before any 5xx.
const ASYNC_OS: &str = "Unknown address error";

/// How reporting hosts name what they had sent when they were refused: Postfix, Exim.
const MOMENTS: [(&str, Stage); 11] = [
    ("in reply to mail from", Stage::MailFrom),
    ("in reply to rcpt to", Stage::Rcpt),
    ("in reply to end of data", Stage::Dot),
    ("in reply to data", Stage::Data),
    ("in reply to ehlo", Stage::Helo),
    ("in reply to helo", Stage::Helo),
    ("after initial connection", Stage::Connect),
    ("after ehlo", Stage::Helo),
    ("after mail from", Stage::MailFrom),
    ("after rcpt to", Stage::Rcpt),
    ("after end of data", Stage::Dot),
];

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub code: Option<u16>,
    pub enhanced: Option<Enhanced>,
    /// At most [`MAX_TEXT`] octets and a word.
    pub text: String,
    /// Where in the reporting host's session.
    pub moment: Option<Stage>,
}

impl Said {
    /// A reply to us, or a subject.
    pub fn plainly(text: &str, code: Option<u16>, enhanced: Option<Enhanced>) -> Said {
        let mut said = Said { code, enhanced, ..Said::default() };
        let text = cut(text, MAX_RAW).trim_start();
        let text = text.strip_prefix(ASYNC_OS).unwrap_or(text);
        text.split_whitespace().for_each(|word| said.push(word));
        said
    }

    /// A text of a report. Codes that it quotes are nearer to the refusal than those of the report.
    pub fn in_report(text: &str, code: Option<u16>, enhanced: Option<Enhanced>) -> Said {
        let text = cut(text, MAX_RAW);
        let mut reader = Reader::default();
        for line in text.lines() {
            reader.line(line);
        }
        let moment = moment(text);
        let mut said = reader.choose();
        said.code = said.code.or(code);
        said.enhanced = said.enhanced.or(enhanced);
        said.moment = moment;
        said
    }

    fn push(&mut self, word: &str) {
        let word = without_addresses(word);
        if self.text.len() < MAX_TEXT && !word.is_empty() {
            if !self.text.is_empty() {
                self.text.push(' ');
            }
            self.text.push_str(cut(&word, MAX_TEXT));
        }
    }

    /// Whether it is more than numbers and marks.
    fn has_words(&self) -> bool {
        self.text.split(|c: char| !c.is_alphabetic()).any(|word| word.chars().nth(1).is_some())
    }

    /// Said only because of what was said before, when commands were pipelined.
    fn only_follows(&self) -> bool {
        let has = |phrase: &str| self.text.to_ascii_lowercase().contains(phrase);
        match self.code {
            Some(503) => true,
            Some(554) => has("no valid recipients"),
            Some(421) => has("too many errors"),
            _ => false,
        }
    }
}

/// Takes a transcript apart.
#[derive(Default)]
struct Reader {
    /// What stands before the first code.
    before: Said,
    replies: Vec<Said>,
    /// A reply code or a mark of one went just before.
    announced: bool,
    /// Nothing but a code was read of the reply at hand: an enhanced code may follow.
    fresh: bool,
    /// Inside `(in reply to …)`.
    aside: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        self.announced = true;
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let next = words.peek().copied().unwrap_or_default();
            if word == "(in" && next == "reply" {
                self.aside = true;
            }
            if self.aside {
                self.aside = !word.ends_with([')', ']']);
                continue;
            }
            self.word(word, next);
        }
    }

    fn word(&mut self, word: &str, next: &str) {
        if let Some((code, rest)) = reply_code(word)
            && (self.announced || enhanced(rest).is_some() || rest.is_empty() && enhanced(next).is_some())
        {
            let same = self.replies.last().is_some_and(|reply| reply.code == Some(code));
            if !same && self.replies.len() < MAX_REPLIES {
                self.replies.push(Said { code: Some(code), ..Said::default() });
            }
            self.fresh = true;
            self.announced = false;
            if rest.is_empty() {
                return;
            }
            return self.word_behind(rest);
        }
        self.word_behind(word);
    }

    /// A word that is no reply code.
    fn word_behind(&mut self, word: &str) {
        let first = self.replies.is_empty() && self.before.text.is_empty();
        let marked = word.starts_with(['#', '(', '[']);
        let said = self.replies.last_mut().unwrap_or(&mut self.before);
        let mut word = word;
        if (self.fresh || first || marked)
            && let Some((code, rest)) = enhanced(word)
        {
            said.enhanced = said.enhanced.or(Some(code));
            word = rest;
        }
        self.fresh = false;
        let mark = word.trim_end_matches(['"', '\'', '<', '(', '[']);
        self.announced = mark.ends_with([':', ';', '-'])
            || ["<<<", "error", "code", "returned", "reply", "response"].iter().any(|w| mark.eq_ignore_ascii_case(w));
        said.push(word);
    }

    fn choose(self) -> Said {
        let Reader { before, mut replies, .. } = self;
        let chosen = replies.iter().position(|reply| !reply.only_follows()).unwrap_or(0);
        if chosen >= replies.len() {
            return before;
        }
        let mut said = replies.swap_remove(chosen);
        said.enhanced = said.enhanced.or(before.enhanced);
        if !said.has_words() {
            said.text = before.text;
        }
        said
    }
}

/// `550`, `550-5.1.1`, `[550]`, `550:`: a code that refuses, and what is tied to it.
fn reply_code(word: &str) -> Option<(u16, &str)> {
    let word = word.trim_start_matches(['(', '[', '<', '"', '\'', '{']);
    let (digits, rest) = word.split_at_checked(3)?;
    if !matches!(digits.as_bytes(), [b'4' | b'5', b'0'..=b'7', b'0'..=b'9']) {
        return None;
    }
    let tied = match rest.as_bytes().first() {
        Some(b'-') => &rest[1..],
        _ => rest.trim_start_matches([')', ']', '>', '"', '\'', ':', ';', ',', '.', '}']),
    };
    (tied.is_empty() || rest.starts_with('-')).then(|| Some((digits.parse().ok()?, tied)))?
}

/// `5.1.1`, `(#5.1.1)`, `5.1.1:`: an enhanced code at the beginning of a word, and what is tied to it.
fn enhanced(word: &str) -> Option<(Enhanced, &str)> {
    let word = word.trim_start_matches(['(', '[', '#', '\'', '"']);
    let end = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
    let (code, rest) = word.split_at(end);
    // At the end of a sentence: `5.1.1.`
    let mut numbers = code.strip_suffix('.').unwrap_or(code).split('.');
    let mut number = || numbers.next().filter(|n| (1..=3).contains(&n.len()))?.parse::<u16>().ok();
    let (class, subject, detail) = (number()?, number()?, number()?);
    let is_code = matches!(class, 2 | 4 | 5) && numbers.next().is_none() && !rest.starts_with(char::is_alphanumeric);
    is_code.then(|| (Enhanced(class as u8, subject, detail), rest.trim_start_matches([')', ']', ':', ',', ';', '-'])))
}

fn moment(text: &str) -> Option<Stage> {
    let text = text.to_ascii_lowercase();
    MOMENTS.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, stage)| *stage)
}

/// The first octets, whole characters.
fn cut(text: &str, octets: usize) -> &str {
    &text[..text.floor_char_boundary(octets)]
}

/// A word without `jo@x.test`, `<jo@x.test>...` and the like. A URL stays: providers put their codes in there.
fn without_addresses(word: &str) -> Cow<'_, str> {
    if !word.contains('@') || word.contains("://") {
        return Cow::Borrowed(word);
    }
    let (mut out, mut rest) = (String::new(), word);
    while let Some(at) = rest.find('@') {
        let local = rest[..at].trim_end_matches(is_address).len();
        out.push_str(&rest[..local]);
        rest = rest[at + 1..].trim_start_matches(|c| is_address(c) || matches!(c, '@' | '[' | ']' | ':'));
    }
    out.push_str(rest);
    Cow::Owned(out)
}

fn is_address(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.<>\"".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> (Option<u16>, Option<String>, String) {
        let said = Said::in_report(text, None, None);
        (said.code, said.enhanced.map(|e| e.to_string()), said.text)
    }

    #[test]
    fn the_wrapping_of_reports_is_cut() {
        for (text, code, enhanced, rest) in [
            (
                "host mx.x.test[192.0.2.1] said: 550 5.1.1 <jo@x.test>... User unknown (in reply to RCPT TO command)",
                Some(550),
                Some("5.1.1"),
                "User unknown",
            ),
            (
                "SMTP error from remote mail server after RCPT TO:<jo@x.test>: host mx.x.test [192.0.2.1]: 550-no\n \
                 550 such user",
                Some(550),
                None,
                "no such user",
            ),
            // Of a reply that came in several lines the codes go.
            (
                "550-5.7.1 Our system\n550-5.7.1 says no. Visit\n550 5.7.1 https://x.test/a@b",
                Some(550),
                Some("5.7.1"),
                "Our system says no. Visit https://x.test/a@b",
            ),
            // Pipelined: the others follow from the first.
            (
                "<<< 550 5.1.1 <jo@x.test>... User unknown\n554 5.0.0 Service unavailable\n<<< 503 5.0.0 Need RCPT",
                Some(550),
                Some("5.1.1"),
                "User unknown",
            ),
            ("503 Need RCPT first\n554 no valid recipients\n550 unknown", Some(550), None, "unknown"),
            (
                "5.1.0 - Unknown address error 550-'5.1.1 no such user' (delivery attempts: 0)",
                Some(550),
                Some("5.1.1"),
                "no such user' (delivery attempts: 0)",
            ),
            (
                "Sorry, no mailbox here by that name. (#5.1.1)",
                None,
                Some("5.1.1"),
                "Sorry, no mailbox here by that name.",
            ),
            ("mailbox unavailable. [SMTP Error Code 550]", Some(550), None, "mailbox unavailable. [SMTP Error Code"),
            // Numbers that are none.
            ("over the limit of 500 messages from 5.1.1.2", None, None, "over the limit of 500 messages from 5.1.1.2"),
            ("用户jo@x.test不存在", None, None, "用户不存在"),
            ("", None, None, ""),
        ] {
            assert_eq!(said(text), (code, enhanced.map(str::to_owned), rest.to_owned()), "{text}");
        }
        assert_eq!(Said::in_report("452 no (in reply to end of DATA command)", None, None).moment, Some(Stage::Dot));
    }

    #[test]
    fn a_reply_to_us_keeps_its_words() {
        let said = Said::plainly("Unknown address error\n a  <b@c.test>:\td", Some(550), None);
        assert_eq!((said.code, &*said.text), (Some(550), "a d"));
    }

    #[test]
    fn long_texts_are_cut() {
        for text in [
            "a ".repeat(100_000),
            "é".repeat(100_000),
            "@".repeat(100_000),
            "550 ".repeat(100_000),
            "a@b ".repeat(50_000),
        ] {
            assert!(Said::in_report(&text, None, None).text.len() <= 2 * MAX_TEXT);
            assert!(Said::plainly(&text, None, None).text.len() <= 2 * MAX_TEXT);
        }
    }
}
