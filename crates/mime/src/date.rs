//! Dates as they are found in mail (RFC 5322 §3.3 and §4.3, and what programs write instead).
//!
//! Called to sort and search by the `Date` field. It reads the field word by word and takes each for what it can only be,
//! so that order, commas and comments hardly matter; it does not guess at all-number dates such as `04/05/06`.

use base::{Civil, Timestamp};

use crate::lexer::Lexer;

/// More words than a date has.
const MAX_WORDS: usize = 16;

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

/// The zones of RFC 5322 §4.3 and a few that are as common, in minutes east of UTC.
const ZONES: [(&str, i32); 18] = [
    ("UT", 0),
    ("UTC", 0),
    ("GMT", 0),
    ("Z", 0),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("WET", 0),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("EET", 120),
    ("JST", 540),
];

/// Reads a date: the moment, and how many minutes east of UTC its writer's clock was (0 when the date does not say).
///
/// None when day, month or year is missing or impossible. A missing time is midnight.
///
/// ```
/// let (time, offset) = mime::date::parse_date(b" Fri, 21 Nov 1997 09:55:06 -0600 (CST)").unwrap();
/// assert_eq!((time.rfc3339().as_str(), offset), ("1997-11-21T15:55:06Z", -360));
/// ```
pub fn parse_date(value: &[u8]) -> Option<(Timestamp, i32)> {
    let mut date = Date::default();
    let mut lexer = Lexer::new(value);
    for _ in 0..MAX_WORDS {
        lexer.skip_cfws();
        while lexer.eat(b',') || lexer.eat(b';') {
            lexer.skip_cfws();
        }
        let word = lexer.until(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | b',' | b';' | b'('));
        if word.is_empty() {
            break;
        }
        date.word(word);
    }
    date.finish()
}

/// What the words said so far.
#[derive(Default)]
struct Date {
    year: Option<i64>,
    month: Option<u8>,
    day: Option<u8>,
    /// Hour, minute, second.
    time: Option<[u8; 3]>,
    zone: Option<i32>,
    /// `PM` (true) or `AM`.
    afternoon: Option<bool>,
}

impl Date {
    fn word(&mut self, word: &[u8]) {
        if word.contains(&b':') && word[0].is_ascii_digit() {
            self.time_or_iso(word);
        } else if let [b'+' | b'-', digits @ ..] = word {
            self.zone = self.zone.or(offset(word[0], digits));
        } else if word.iter().all(u8::is_ascii_digit) {
            self.number(word);
        } else if word.contains(&b'-') && word[0].is_ascii_digit() {
            self.dashed(word);
        } else {
            self.name(word);
        }
    }

    /// `09:55`, `9:55:06.12`, `09:55:06+0100`, `9:55PM`, `1997-11-21T09:55:06Z` (RFC 3339).
    fn time_or_iso(&mut self, word: &[u8]) {
        let mut time = word;
        if let Some(t) = word.iter().position(|b| matches!(b, b'T' | b't')) {
            self.dashed(&word[..t]);
            time = &word[t + 1..];
        }
        let end = time.iter().position(|b| !b.is_ascii_digit() && *b != b':').unwrap_or(time.len());
        let (clock, mut rest) = time.split_at(end);
        let mut parts = clock.split(|b| *b == b':').map(|p| small(p).unwrap_or(u8::MAX));
        let time = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
        self.time = self.time.or(parts.next().is_none().then_some(time));
        if let [b'.', fraction @ ..] = rest {
            rest = &fraction[fraction.iter().position(|b| !b.is_ascii_digit()).unwrap_or(fraction.len())..];
        }
        if !rest.is_empty() && !rest[0].is_ascii_digit() && !rest.contains(&b':') || rest.starts_with(b"+") {
            self.word(rest);
        }
    }

    /// `1997-11-21`, `21-Nov-1997`.
    fn dashed(&mut self, word: &[u8]) {
        let mut parts = word.split(|b| *b == b'-');
        let (Some(a), Some(b), Some(c), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return;
        };
        if a.len() == 4 {
            self.year = self.year.or(year(a));
            self.month = self.month.or(small(b));
            self.day = self.day.or(small(c));
        } else if month(b).is_some() {
            self.day = self.day.or(small(a));
            self.month = self.month.or(month(b));
            self.year = self.year.or(year(c));
        }
    }

    /// The day comes before the year, and has two digits at most.
    fn number(&mut self, digits: &[u8]) {
        if self.day.is_none() && digits.len() <= 2 {
            self.day = small(digits);
        } else {
            self.year = self.year.or(year(digits));
        }
    }

    fn name(&mut self, word: &[u8]) {
        let is = |name: &str| name.as_bytes().eq_ignore_ascii_case(word);
        if let Some((_, minutes)) = ZONES.iter().find(|(name, _)| is(name)) {
            self.zone = self.zone.or(Some(*minutes));
        } else if is("AM") || is("PM") {
            self.afternoon = Some(is("PM"));
        } else if let Some((b"GMT" | b"UTC", [sign @ (b'+' | b'-'), digits @ ..])) = word.split_at_checked(3) {
            self.zone = self.zone.or(offset(*sign, digits));
        } else {
            self.month = self.month.or(month(word));
        }
    }

    fn finish(self) -> Option<(Timestamp, i32)> {
        let (year, month, day) = (self.year?, self.month?, self.day?);
        let [mut hour, minute, second] = self.time.unwrap_or_default();
        match self.afternoon {
            Some(true) if hour < 12 => hour += 12,
            Some(false) if hour == 12 => hour = 0,
            _ => {}
        }
        let zone = self.zone.unwrap_or(0);
        let possible = (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hour < 24
            && minute < 60
            && second <= 60;
        possible.then(|| (Civil { year, month, day, hour, minute, second }.at_offset(zone), zone))
    }
}

fn days_in(year: i64, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// One or two digits.
fn small(digits: &[u8]) -> Option<u8> {
    let fits = (1..=2).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    fits.then(|| digits.iter().fold(0, |n, d| n * 10 + (d - b'0')))
}

/// RFC 5322 §4.3: two digits are 1950 to 2049, three count from 1900.
fn year(digits: &[u8]) -> Option<i64> {
    if !(2..=4).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = digits.iter().fold(0, |n, d| n * 10 + i64::from(d - b'0'));
    Some(match (digits.len(), n) {
        (2, 0..50) => n + 2000,
        (2 | 3, _) => n + 1900,
        _ => n,
    })
}

/// By its first three letters.
fn month(word: &[u8]) -> Option<u8> {
    let start = word.first_chunk::<3>()?.to_ascii_lowercase();
    let letters = word.iter().all(|b| b.is_ascii_alphabetic() || *b == b'.');
    let at = MONTHS.iter().position(|m| **m == start[..])?;
    letters.then_some(at as u8 + 1)
}

/// `hhmm`, `hh:mm`, `hmm` or `hh`. None for what no clock on Earth is set to.
fn offset(sign: u8, digits: &[u8]) -> Option<i32> {
    let (hours, minutes) = match digits.iter().position(|b| *b == b':') {
        Some(colon) => (&digits[..colon], &digits[colon + 1..]),
        None if digits.len() <= 2 => (digits, &b"0"[..]),
        None => digits.split_at(digits.len() - 2),
    };
    let (hours, minutes) = (i32::from(small(hours)?), i32::from(small(minutes)?));
    let east = hours * 60 + minutes;
    (hours < 24 && minutes < 60).then_some(if sign == b'-' { -east } else { east })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_year_of_many_digits_is_no_year() {
        // It once overflowed before its length was looked at.
        assert_eq!(super::parse_date(b"Fri, 21 Nov 22222222222222222222222222 09:55:06"), None);
    }

    use super::*;

    #[test]
    fn many_forms_of_one_moment() {
        for (text, offset) in [
            // RFC 5322 Appendix A.1.1, A.5 and A.6.2's forms, moved to one moment.
            ("Fri, 21 Nov 1997 09:55:06 -0600", -360),
            ("Fri, 21 Nov 97 09:55:06 CST", -360),
            ("Fri,\r\n      21\r\n        Nov\r\n          1997\r\n       09:55:06\r\n        -0600 (Central)", -360),
            ("21 Nov 97 15:55:06 GMT", 0),
            ("Fri Nov 21 15:55:06 1997", 0),
            ("Fri Nov 21 09:55:06 CST 1997", -360),
            ("Friday, November 21, 1997 3:55:06 PM", 0),
            ("21-Nov-1997 16:55:06 +0100", 60),
            ("1997-11-21T15:55:06Z", 0),
            ("1997-11-21T16:55:06.250+01:00", 60),
            ("1997-11-21 09:55:06 -0600", -360),
            ("21 Nov 1997 16:55:06 GMT+0100", 60),
            ("(c) Fri, 21 Nov 1997 15:55:06 -0000", 0),
        ] {
            let (time, east) = parse_date(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((time.rfc3339().as_str(), east), ("1997-11-21T15:55:06Z", offset), "{text}");
        }
    }

    #[test]
    fn less_is_enough_and_nonsense_is_not() {
        for (text, expected) in [
            ("1 Jan 2000", Some("2000-01-01T00:00:00Z")),
            ("29 Feb 2000 12:30 +0000", Some("2000-02-29T12:30:00Z")),
            ("31 Dec 49 23:59:60 +0000", Some("2050-01-01T00:00:00Z")),
            ("1 Jan 103 0:00", Some("2003-01-01T00:00:00Z")),
            ("1 Jan 2000 00:00 +9999", Some("2000-01-01T00:00:00Z")),
            ("12 Mar 2001 12:00 AM", Some("2001-03-12T00:00:00Z")),
            ("", None),
            ("yesterday", None),
            ("29 Feb 1900 12:00", None),
            ("32 Jan 2000", None),
            ("1 Jan 2000 25:00", None),
            ("1 Jan 2000 1:2:3:4:5", Some("2000-01-01T00:00:00Z")),
            ("04/05/06", None),
            ("1 Jan 99999", None),
            ("2000-13-01", None),
        ] {
            let read = parse_date(text.as_bytes()).map(|(time, _)| time.rfc3339());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
