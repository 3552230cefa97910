//! Retry-After.

use std::time::Duration;

use base::Timestamp;

/// How long somebody asks to be left alone: seconds, or until a date (RFC 9110 §10.2.3).
pub(crate) fn wish(text: &str, now: Timestamp) -> Option<Duration> {
    let seconds = text.trim().parse::<u32>().ok().map(|n| Duration::from_secs(n.into()));
    let until = || {
        let (at, _) = mime::date::parse_date(text.as_bytes())?;
        u64::try_from(at.0 - now.0).ok().map(Duration::from_millis)
    };
    seconds.or_else(until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_seconds_or_dates() {
        // RFC 9110 §5.6.7 has this date; it is 784111777 seconds after 1970.
        let (text, now) = ("Sun, 06 Nov 1994 08:49:37 GMT", Timestamp::from_secs(784_111_777 - 90));
        assert_eq!(
            (wish("120", now), wish(text, now)),
            (Some(Duration::from_secs(120)), Some(Duration::from_secs(90)))
        );
        let later = Timestamp::from_secs(784_111_778);
        for text in ["", "soon", "-1", "1e9", text] {
            assert_eq!(wish(text, later), None, "{text}");
        }
    }
}
