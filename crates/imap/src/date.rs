//! The two date forms a client sends (RFC 9051 §9 `date` and `date-time`).

use base::{Civil, Timestamp};
use std::fmt;

/// A calendar day without time or zone, counted from 1970-01-01: what SEARCH compares with, disregarding both
/// (RFC 9051 §6.4.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i64);

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = Timestamp::from_secs(self.0 * 86_400).civil();
        write!(f, "{:04}-{:02}-{:02}", civil.year, civil.month, civil.day)
    }
}

pub(crate) const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `1-Feb-1994` or `01-Feb-1994`.
pub(crate) fn day(text: &[u8]) -> Option<Day> {
    let civil = day_month_year(text)?;
    Some(Day(civil.days()))
}

/// ` 7-Feb-1994 21:52:25 -0800`, the text between the quotes.
pub(crate) fn date_time(text: &[u8]) -> Option<Timestamp> {
    let [date @ .., b' ', h1, h2, b':', m1, m2, b':', s1, s2, b' ', sign, z1, z2, z3, z4] = text else { return None };
    let mut civil = day_month_year(date.strip_prefix(b" ").unwrap_or(date))?;
    civil.hour = u8::try_from(decimal(&[*h1, *h2])?).ok().filter(|h| *h < 24)?;
    civil.minute = u8::try_from(decimal(&[*m1, *m2])?).ok().filter(|m| *m < 60)?;
    civil.second = u8::try_from(decimal(&[*s1, *s2])?).ok().filter(|s| *s <= 60)?;
    let minutes = decimal(&[*z3, *z4]).filter(|m| *m < 60)?;
    let zone = i32::try_from(decimal(&[*z1, *z2])? * 60 + minutes).ok()?;
    match sign {
        b'+' => Some(civil.at_offset(zone)),
        b'-' => Some(civil.at_offset(-zone)),
        _ => None,
    }
}

fn day_month_year(text: &[u8]) -> Option<Civil> {
    let (day, m, y) = match text {
        [d, b'-', m1, m2, m3, b'-', y @ ..] => (decimal(&[*d])?, [*m1, *m2, *m3], y),
        [d1, d2, b'-', m1, m2, m3, b'-', y @ ..] => (decimal(&[*d1, *d2])?, [*m1, *m2, *m3], y),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(&m))? as u8 + 1;
    let year = (y.len() == 4).then(|| decimal(y))??;
    let day = u8::try_from(day).ok()?;
    let civil = Civil { year, month, day, hour: 0, minute: 0, second: 0 };
    // There and back again: a 31st of February would come back as the 3rd of March.
    (civil.at_offset(0).civil() == civil).then_some(civil)
}

fn decimal(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_times() {
        // RFC 9051 §6.3.12's example.
        assert_eq!(date_time(b" 7-Feb-1994 21:52:25 -0800").unwrap().rfc3339(), "1994-02-08T05:52:25Z");
        assert_eq!(date_time(b"17-Jul-1996 02:44:25 +0530").unwrap().rfc3339(), "1996-07-16T21:14:25Z");
        for bad in
            ["", "7-Feb-1994", " 7-Feb-1994 24:00:00 +0000", "30-Feb-1994 00:00:00 +0000", "7-Feb-1994 21:52:25 0800"]
        {
            assert_eq!(date_time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn days() {
        assert_eq!(format!("{:?}", day(b"1-FEB-1994").unwrap()), "1994-02-01");
        assert_eq!(day(b"02-Jan-1970"), Some(Day(1)));
        for bad in ["0-Feb-1994", "31-Feb-1994", "1-Foo-1994", "1-Feb-94", "1-Feb-19940", "001-Feb-1994", "--Feb-1994"]
        {
            assert_eq!(day(bad.as_bytes()), None, "{bad}");
        }
    }
}
