//! When a mail goes, until when it is good and how urgent it is: what MAIL says by FUTURERELEASE (RFC 4865), DELIVERBY
//! (RFC 2852) and MT-PRIORITY (RFC 6710).

use std::fmt;

use base::Timestamp;

/// HOLDFOR or HOLDUNTIL (RFC 4865 §4): it is kept here until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// So many seconds from its acceptance.
    For(u32),
    /// To this moment.
    Until(Timestamp),
}

/// The longest time that a server holds a mail: FUTURERELEASE's parameters, which it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureRelease {
    /// In seconds.
    pub most: u32,
    /// The last moment.
    pub until: Timestamp,
}

impl FutureRelease {
    /// RFC 4865 §4: what is held longer than announced is not taken.
    pub(crate) fn allows(&self, hold: Hold) -> bool {
        match hold {
            Hold::For(seconds) => seconds <= self.most,
            Hold::Until(at) => at <= self.until,
        }
    }
}

/// BY (RFC 2852 §4): the time within which a mail is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliverBy {
    /// So many seconds from now; zero or less: the time is over.
    pub seconds: i32,
    /// Then it is returned (`R`). Otherwise its sender is told (`N`), and it goes on.
    pub returned: bool,
    /// Each host that passes it on says so (`T`).
    pub trace: bool,
}

/// The parameter's value.
impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, trace) = (if self.returned { "R" } else { "N" }, if self.trace { "T" } else { "" });
        write!(f, "{};{mode}{trace}", self.seconds)
    }
}

/// RFC 4865 §4: `1*9DIGIT`; none at all would be no wait.
pub(crate) fn hold_for(value: &str) -> Option<Hold> {
    let seconds = (1..=9).contains(&value.len()).then(|| number(value)).flatten()?;
    (seconds > 0).then_some(Hold::For(seconds))
}

/// RFC 4865 §4, erratum 2040: a date and time of RFC 3339.
pub(crate) fn hold_until(value: &str) -> Option<Hold> {
    Timestamp::parse_rfc3339(value).map(Hold::Until)
}

/// RFC 2852 §4: `["-" / "+"] 1*9digit ";" ("N" / "R") ["T"]`; what is to be returned needs time.
pub(crate) fn deliver_by(value: &str) -> Option<DeliverBy> {
    let (time, mode) = value.split_once(';')?;
    let (sign, digits) = match time.as_bytes().first()? {
        b'-' => (-1, &time[1..]),
        b'+' => (1, &time[1..]),
        _ => (1, time),
    };
    let seconds = (1..=9).contains(&digits.len()).then(|| number(digits)).flatten()? as i32 * sign;
    let (returned, trace) = match mode.to_ascii_uppercase().as_str() {
        "N" => (false, false),
        "NT" => (false, true),
        "R" => (true, false),
        "RT" => (true, true),
        _ => return None,
    };
    (seconds > 0 || !returned).then_some(DeliverBy { seconds, returned, trace })
}

/// RFC 6710 §3: `["-"] NZDIGIT / "0"`.
pub(crate) fn priority(value: &str) -> Option<i8> {
    match value.as_bytes() {
        [digit @ b'0'..=b'9'] => Some((digit - b'0') as i8),
        [b'-', digit @ b'1'..=b'9'] => Some(-((digit - b'0') as i8)),
        _ => None,
    }
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds() {
        assert_eq!(hold_for("86400"), Some(Hold::For(86_400)));
        for value in ["", "0", "-1", "+1", "1x", "1234567890"] {
            assert_eq!(hold_for(value), None, "{value}");
        }
        assert_eq!(hold_until("1970-01-01T00:01:00Z"), Some(Hold::Until(Timestamp(60_000))));
        assert_eq!(hold_until("tomorrow"), None);
        let offered = FutureRelease { most: 60, until: Timestamp(60_000) };
        let allowed = [Hold::For(60), Hold::For(61), Hold::Until(Timestamp(60_000)), Hold::Until(Timestamp(60_001))];
        assert_eq!(allowed.map(|hold| offered.allows(hold)), [true, false, true, false]);
    }

    #[test]
    fn times_to_deliver_by() {
        // RFC 2852 §5 has BY=125;R.
        for (value, seconds, returned, trace) in [
            ("125;R", 125, true, false),
            ("+5;nt", 5, false, true),
            ("-20;N", -20, false, false),
            ("9;RT", 9, true, true),
        ] {
            let by = DeliverBy { seconds, returned, trace };
            assert_eq!(deliver_by(value), Some(by), "{value}");
            assert_eq!(deliver_by(&by.to_string()), Some(by));
        }
        for value in ["", "125", "125;", "125;X", "0;R", "-1;R", ";N", "+;N", "1234567890;N", "1;NTT", "1;N;T", "--1;N"]
        {
            assert_eq!(deliver_by(value), None, "{value}");
        }
    }

    #[test]
    fn priorities() {
        for n in -9..=9 {
            assert_eq!(priority(&n.to_string()), Some(n));
        }
        for value in ["", "-", "-0", "+1", "10", "-10", "x", "1 "] {
            assert_eq!(priority(value), None, "{value}");
        }
    }
}
