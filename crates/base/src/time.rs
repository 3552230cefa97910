//! Time is passed in, never read: a [`Clock`] can be driven by a test. The date form of RFC 5322 is written
//! here once; parsing the many forms found in mail is `mime`'s work.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Milliseconds since 1970-01-01 00:00 UTC, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

/// Where the time comes from.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A moment taken apart, proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// May be negative or above 9999; what is written for people stays in 0..=9999.
    pub year: i64,
    /// 1..=12
    pub month: u8,
    /// 1..=31
    pub day: u8,
    /// 0..=23
    pub hour: u8,
    /// 0..=59
    pub minute: u8,
    /// 0..=60; a leap second counts as the next minute's first.
    pub second: u8,
}

impl Civil {
    /// The day this falls on, counted from 1970-01-01.
    pub fn days(&self) -> i64 {
        // Years begin in March, so that the leap day is a year's last; an era is 400 years = 146,097 days.
        let m = i64::from(self.month);
        let y = if m <= 2 { self.year - 1 } else { self.year };
        let era = y.div_euclid(400);
        let yoe = y.rem_euclid(400);
        let doy = (153 * ((m + 9) % 12) + 2) / 5 + i64::from(self.day) - 1;
        era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
    }

    /// The moment, when the clock of the writer was `offset_minutes` east of UTC.
    pub fn at_offset(&self, offset_minutes: i32) -> Timestamp {
        let secs =
            self.days() * 86_400 + i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second)
                - i64::from(offset_minutes) * 60;
        Timestamp(secs * 1000)
    }
}

impl Timestamp {
    /// From whole seconds since 1970.
    pub const fn from_secs(secs: i64) -> Self {
        Timestamp(secs * 1000)
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Taken apart in UTC.
    pub fn civil(self) -> Civil {
        let (days, sod) = (self.secs().div_euclid(86_400), self.secs().rem_euclid(86_400));
        let z = days + 719_468;
        let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        Civil {
            year: yoe + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (doy - (153 * mp + 2) / 5 + 1) as u8,
            hour: (sod / 3600) as u8,
            minute: (sod / 60 % 60) as u8,
            second: (sod % 60) as u8,
        }
    }

    /// `Thu, 01 Jan 1970 00:00:00 +0000` (RFC 5322 §3.3), in UTC: the server's zone is nobody's business.
    pub fn rfc5322(self) -> String {
        let (c, weekday) = (self.civil(), (self.secs().div_euclid(86_400) + 4).rem_euclid(7) as usize);
        format!(
            "{}, {:02} {} {:04} {:02}:{:02}:{:02} +0000",
            DAYS[weekday],
            c.day,
            MONTHS[usize::from(c.month) - 1],
            c.year,
            c.hour,
            c.minute,
            c.second
        )
    }

    /// `1970-01-01T00:00:00Z` (RFC 3339).
    pub fn rfc3339(self) -> String {
        let c = self.civil();
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", c.year, c.month, c.day, c.hour, c.minute, c.second)
    }

    /// `1970-01-01T00:00:00.000Z`: the same, to the millisecond.
    pub fn rfc3339_millis(self) -> String {
        let seconds = self.rfc3339();
        format!("{}.{:03}Z", seconds.trim_end_matches('Z'), self.0.rem_euclid(1000))
    }
}

impl Timestamp {
    /// From RFC 3339 §5.6, `1985-04-12T23:20:50.52Z` or with an offset; a leap second is the second after it.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let (bytes, rest) = (text.as_bytes(), text.get(19..)?);
        let marks = [(4, b"--"), (7, b"--"), (10, b"Tt"), (13, b"::"), (16, b"::")];
        let number = |from: usize, to: usize| digits(text.get(from..to)?);
        if marks.iter().any(|(at, mark)| !mark.contains(&bytes[*at])) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let zone = match rest.strip_prefix('.') {
            Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        // A point alone is no fraction.
        if rest.starts_with('.') && zone.len() + 1 == rest.len() || hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let offset = match zone.split_at_checked(1)? {
            ("Z" | "z", "") => 0,
            (sign @ ("+" | "-"), hours) => {
                let (h, m) = hours.split_once(':').filter(|(h, m)| h.len() == 2 && m.len() == 2)?;
                let (h, m) = (digits(h).filter(|h| *h <= 23)?, digits(m).filter(|m| *m <= 59)?);
                (h * 60 + m) * if sign == "-" { -1 } else { 1 }
            }
            _ => return None,
        };
        let (month, day) = (month as u8, day as u8);
        let civil =
            Civil { year: year.into(), month, day, hour: hour as u8, minute: minute as u8, second: second as u8 };
        let at = civil.at_offset(0);
        // The thirtieth of February is another day.
        let days = (1..=12).contains(&month) && Timestamp(at.0 - i64::from(second) * 1000).civil().day == day;
        days.then(|| civil.at_offset(offset))
    }
}

fn digits(text: &str) -> Option<i32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        // RFC 9051 §6.3.12's example, RFC 5322 Appendix A.1.1's, and the day after a century's leap day.
        let t = Civil { year: 1994, month: 2, day: 7, hour: 21, minute: 52, second: 25 }.at_offset(-480);
        assert_eq!(t.rfc3339(), "1994-02-08T05:52:25Z");
        let t = Civil { year: 1997, month: 11, day: 21, hour: 9, minute: 55, second: 6 }.at_offset(-360);
        assert_eq!(t.rfc5322(), "Fri, 21 Nov 1997 15:55:06 +0000");
        assert_eq!(Timestamp::from_secs(951_868_800).rfc3339(), "2000-03-01T00:00:00Z");
        assert_eq!(Timestamp::from_secs(-1).rfc3339(), "1969-12-31T23:59:59Z");
        assert_eq!(Timestamp(1007).rfc3339_millis(), "1970-01-01T00:00:01.007Z");
        assert_eq!(Timestamp(-1).rfc3339_millis(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn rfc_3339_section_5_8_and_what_is_no_date() {
        for (text, same) in [
            ("1985-04-12T23:20:50.52Z", "1985-04-12T23:20:50Z"),
            ("1996-12-19T16:39:57-08:00", "1996-12-20T00:39:57Z"),
            ("1990-12-31T23:59:60Z", "1991-01-01T00:00:00Z"),
            ("1990-12-31T15:59:60-08:00", "1991-01-01T00:00:00Z"),
            ("1937-01-01T12:00:27.87+00:20", "1937-01-01T11:40:27Z"),
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text).unwrap().rfc3339(), same, "{text}");
        }
        for text in [
            "",
            "1985-04-12",
            "1985-04-12T23:20:50",
            "1985-04-12 23:20:50Z",
            "1985-02-30T00:00:00Z",
            "1985-13-01T00:00:00Z",
            "1985-00-01T00:00:00Z",
            "1985-04-12T24:00:00Z",
            "1985-04-12T23:20:50.Z",
            "1985-04-12T23:20:50+1:00",
            "1985-04-12T23:20:50+24:00",
            "1985-04-12T23:20:50Zx",
            "+985-04-12T23:20:50Z",
            "1985-04-12T23:20:5\u{e9}Z",
            "198\u{e9}-04-12T23:20:50Z",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn civil_and_back() {
        for day in (-800_000..800_000).step_by(37) {
            let t = Timestamp::from_secs(day * 86_400 + 12_345);
            assert_eq!(t.civil().at_offset(0), t);
        }
    }
}
