//! Quiet hours: when the mail of an organisation's stream is not to disturb anybody. It waits for their end, without an
//! attempt, does not expire meanwhile, and then has as long as they last to find a place in line.

use base::{OrganisationId, Stream, Timestamp};
use store::{Result, Tx, params};

use super::{changed, locked, refused, schema};
use crate::entry::corrupt;

const DAY: i64 = 24 * 60;
const MINUTE: i64 = 60_000;
/// The widest offset that a zone has, in minutes (RFC 5322 §3.3 allows more, the earth does not).
const ZONE: i64 = 14 * 60;

/// Hours of every day. All in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// The stream.
    pub stream: Stream,
    /// Whose mail.
    pub organisation: OrganisationId,
    /// They begin so long after midnight.
    pub from: i64,
    /// They end so long after midnight; when that is not after their begin, on the next day.
    pub to: i64,
    /// Midnight is that of a zone so far east of Greenwich.
    pub zone: i64,
}

impl Quiet {
    /// When those began and end that are now, or were last.
    pub fn around(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let minute = now.0.div_euclid(MINUTE);
        let passed = (minute + self.zone - self.to).rem_euclid(DAY) * MINUTE;
        let end = self.until(now).unwrap_or(Timestamp(minute * MINUTE - passed));
        (Timestamp(end.0 - self.length()), end)
    }

    /// How long what they kept back may look for a place in line then: as long as they last, and no longer than half of the
    /// time to the next, so that it has an end. Milliseconds.
    pub fn grace(&self) -> i64 {
        self.length().min((DAY * MINUTE - self.length()) / 2)
    }

    /// Milliseconds.
    fn length(&self) -> i64 {
        (self.to - self.from).rem_euclid(DAY) * MINUTE
    }

    /// When they end, if this moment is within them.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let minute = now.0.div_euclid(MINUTE);
        let left = (self.to - minute - self.zone).rem_euclid(DAY);
        let length = (self.to - self.from).rem_euclid(DAY);
        // At their end nothing is left of them: that is the first minute that is not quiet.
        (left > 0 && left <= length).then(|| Timestamp((minute + left) * MINUTE))
    }
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Quiet>> {
    tx.list(&schema::QUIET, params![], |r| {
        Ok(Quiet {
            stream: Stream::read(r.int(0)?).ok_or_else(|| corrupt("stream", "an unknown one"))?,
            organisation: OrganisationId(r.int(1)?),
            from: r.int(2)?,
            to: r.int(3)?,
            zone: r.int(4)?,
        })
    })
}

/// Gives an organisation's stream quiet hours, in place of those that it had.
///
/// # Errors
/// A refusal in words: they are no hours of a day. The store's.
pub fn set_quiet(tx: &mut Tx<'_>, quiet: &Quiet) -> Result<()> {
    let Quiet { stream, organisation, from, to, zone } = *quiet;
    if !(0..DAY).contains(&from) || !(0..DAY).contains(&to) || zone.abs() > ZONE {
        return Err(refused("quiet hours begin and end between 00:00 and 23:59, in a zone up to 14 hours away".into()));
    }
    if from == to {
        return Err(refused("quiet hours that begin when they end have no end: queue hold stops a stream".into()));
    }
    locked(tx)?;
    tx.execute(&schema::SET_QUIET, params![stream.stored(), organisation, from, to, zone])?;
    changed(tx)
}

/// Takes them away; false when there were none.
///
/// # Errors
/// The store's.
pub fn unset_quiet(tx: &mut Tx<'_>, stream: Stream, organisation: OrganisationId) -> Result<bool> {
    let gone = tx.execute(&schema::UNSET_QUIET, params![stream.stored(), organisation])? > 0;
    if gone {
        changed(tx)?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: i64, to: i64, zone: i64) -> Quiet {
        Quiet { stream: Stream::Marketing, organisation: OrganisationId(1), from: from * 60, to: to * 60, zone }
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn hours_over_midnight_end_on_the_next_day() {
        let night = quiet(21, 8, 0);
        for (now, until) in [
            ("2026-01-01T20:59:59Z", None),
            ("2026-01-01T21:00:00Z", Some("2026-01-02T08:00:00Z")),
            ("2026-01-01T23:59:59Z", Some("2026-01-02T08:00:00Z")),
            ("2026-01-02T00:00:00Z", Some("2026-01-02T08:00:00Z")),
            ("2026-01-02T07:59:59Z", Some("2026-01-02T08:00:00Z")),
            ("2026-01-02T08:00:00Z", None),
        ] {
            assert_eq!(night.until(at(now)), until.map(at), "{now}");
        }
    }

    #[test]
    fn hours_are_those_of_their_zone() {
        let noon = quiet(12, 14, 330);
        assert_eq!(noon.until(at("2026-01-01T12:00:00+05:30")), Some(at("2026-01-01T14:00:00+05:30")));
        assert_eq!(noon.until(at("2026-01-01T11:59:59+05:30")), None);
        assert_eq!(noon.until(at("2026-01-01T14:00:00+05:30")), None);
        let night = quiet(22, 6, -600);
        assert_eq!(night.until(at("2026-01-01T23:30:00-10:00")), Some(at("2026-01-02T06:00:00-10:00")));
    }
}
