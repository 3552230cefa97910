//! How a new source fares at each site: by what came of a day's mail there its plan goes on, stands still, goes back some days, or
//! it sends nothing more there. By which rules, who sends knows ([`judge`]); that a day is judged once, and what follows, is here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base::Timestamp;
use store::{Result, Tx, params};

use super::{Cap, Fared, Share, SourceId, changed, locked, schema};
use crate::entry::corrupt;

/// What is looked at of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// [`Fared::bounced`], of those that ended, or of those tried, if these are more: where a site puts all off but whom it does not
    /// know, few have ended.
    Bounced,
    /// [`Fared::complained`], of those delivered.
    Complained,
    /// [`Fared::blocked`], of those tried.
    Blocked,
    /// [`Fared::deferred`], of those tried.
    Deferred,
}

/// What follows for the days after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// The next day of the plan is the same.
    Hold,
    /// It is one so many days before.
    Back(u32),
    /// There is none before an operator says so ([`let_go`]), and then it is the same.
    Stop,
}

/// What was found of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// By what.
    pub measure: Measure,
    /// So many recipients.
    pub count: u32,
    /// Of so many.
    pub among: u32,
    /// What follows.
    pub course: Course,
}

/// How a source stands at a site where something was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The source.
    pub source: SourceId,
    /// The site.
    pub site: Arc<str>,
    /// The day of the last finding ([`super::day_of`]).
    pub day: i64,
    /// What it was.
    pub finding: Finding,
    /// Days of its plan that the source had behind it after that.
    pub days: u32,
    /// So many of them do not count here.
    pub behind: u32,
    /// Nothing goes there.
    pub is_stopped: bool,
}

impl Measure {
    const ALL: [Measure; 4] = [Measure::Bounced, Measure::Complained, Measure::Blocked, Measure::Deferred];

    /// So many, of so many.
    pub fn of(self, fared: &Fared) -> (u32, u32) {
        match self {
            Measure::Bounced => (fared.bounced, fared.ended.max(fared.tried)),
            Measure::Complained => (fared.complained, fared.sent),
            Measure::Blocked => (fared.blocked, fared.tried),
            Measure::Deferred => (fared.deferred, fared.tried),
        }
    }
}

impl Course {
    fn stored(self) -> i64 {
        match self {
            Course::Stop => -1,
            Course::Hold => 0,
            Course::Back(days) => i64::from(days),
        }
    }

    fn read(value: i64) -> Option<Self> {
        match value {
            -1 => Some(Course::Stop),
            0 => Some(Course::Hold),
            days => u32::try_from(days).ok().map(Course::Back),
        }
    }

    /// How many days of `next`, which the source has behind it after a day, do not count at a site where that day was the one after
    /// `at`. Never more than all of them.
    fn behind(self, at: u32, next: u32) -> u32 {
        let back = if let Course::Back(days) = self { days } else { 0 };
        next.saturating_sub(at.saturating_sub(back))
    }
}

/// `6 of 100 bounced: stopped`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let came = match self.measure {
            Measure::Bounced => "bounced",
            Measure::Complained => "called it spam",
            Measure::Blocked => "were blocked",
            Measure::Deferred => "were deferred",
        };
        write!(f, "{} of {} {came}: ", self.count, self.among)?;
        match self.course {
            Course::Hold => f.write_str("held"),
            Course::Back(1) => f.write_str("set back a day"),
            Course::Back(days) => write!(f, "set back {days} days"),
            Course::Stop => f.write_str("stopped"),
        }
    }
}

pub(super) fn all(tx: &mut Tx<'_>) -> Result<Vec<Judged>> {
    tx.list(&schema::JUDGED, params![], |r| {
        let n = |i| Ok::<_, store::Error>(u32::try_from(r.int(i)?).unwrap_or(u32::MAX));
        let measure = usize::try_from(r.int(4)?).ok().and_then(|n| Measure::ALL.get(n)).copied();
        let found = || corrupt("finding of source", r.int(0).unwrap_or(-1));
        let finding = Finding {
            measure: measure.ok_or_else(found)?,
            count: n(5)?,
            among: n(6)?,
            course: Course::read(r.int(3)?).ok_or_else(found)?,
        };
        Ok(Judged {
            source: SourceId(r.int(0)?),
            site: r.text(1)?.into(),
            day: r.int(2)?,
            finding,
            days: n(7)?,
            behind: n(8)?,
            is_stopped: r.int(9)? != 0,
        })
    })
}

fn set(tx: &mut Tx<'_>, judged: &Judged) -> Result<()> {
    let Judged { source, site, day, finding, days, behind, is_stopped } = judged;
    let [course, measure] = [finding.course.stored(), finding.measure as i64];
    let (source, site) = (source.stored(), &**site);
    let all = params![source, site, *day, course, measure, finding.count, finding.among, *days, *behind, *is_stopped];
    tx.execute(&schema::SET_JUDGED, all)?;
    Ok(())
}

/// Whether days before `today` wait for [`judge`], or a source was not used for `cold_after` days.
///
/// # Errors
/// The store's.
pub fn is_to_judge(tx: &mut Tx<'_>, sources: &[SourceId], today: i64, cold_after: u32) -> Result<bool> {
    for source in sources {
        if is_cold(tx, *source, today, cold_after)?
            || tx.row(&schema::ANY_UNJUDGED, params![source.stored(), today], |_| Ok(()))?.is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As long as that before today nothing came of a source's mail. One that was never used is not cold.
fn is_cold(tx: &mut Tx<'_>, source: SourceId, today: i64, after: u32) -> Result<bool> {
    let last = tx.row(&schema::LAST_USED, params![source.stored()], |r| r.opt_int(0))?.flatten();
    Ok(last.is_some_and(|last| today - last > i64::from(after)))
}

/// With so many days of a plan behind it, how many a source has that was not used for long: it goes on with a fifth of what it might
/// have delivered, or what is next below, or the first day.
fn cooled(plan: &[u32], days: u32) -> u32 {
    let level = plan.get(days as usize).or(plan.last()).map_or(0, |n| n / 5);
    let below = plan.iter().take_while(|n| **n <= level).count().saturating_sub(1);
    days.min(u32::try_from(below).unwrap_or(u32::MAX))
}

/// A source that was not used for long begins its plan anew, on a day with a fifth of the cap. Sites that were set back further stay
/// so. True when it did.
fn cool(tx: &mut Tx<'_>, source: SourceId, today: i64, caps: &[Cap]) -> Result<bool> {
    // The silence is judged, too.
    tx.execute(&schema::SET_JUDGED_TO, params![source.stored(), today - 1])?;
    let of = |share: Share| caps.iter().find(|cap| cap.source == source && cap.share == share);
    let longest = || caps.iter().filter(|cap| cap.source == source).max_by_key(|cap| cap.days.len());
    let Some(cap) = of(Share::All).or_else(|| of(Share::Each)).or_else(longest) else { return Ok(false) };
    let mut sent: Vec<i64> = tx.list(&schema::DAYS, params![source.stored()], |r| r.int(0))?;
    sent.retain(|day| *day < today);
    sent.sort_unstable();
    let days = sent.len() as u32;
    let left = cooled(&cap.days, days);
    if left == days {
        return Ok(false);
    }
    tx.execute(&schema::FORGET_DAYS, params![source.stored(), sent[(days - left - 1) as usize]])?;
    tx.execute(&schema::BEGIN_ANEW, params![source.stored(), Timestamp::from_secs(today * 86_400)])?;
    for mut judged in all(tx)?.into_iter().filter(|judged| judged.source == source) {
        judged.behind = left.saturating_sub(days.saturating_sub(judged.behind));
        judged.days = left;
        match judged.behind == 0 && !judged.is_stopped {
            true => drop(tx.execute(&schema::FORGET_JUDGED, params![source.stored(), &*judged.site])?),
            false => set(tx, &judged)?,
        }
    }
    Ok(true)
}

/// Judges what came of days before `today` at each site by a `rule`, as long as the source has a plan, and forgets it. What is written
/// of a day after that was judged is forgotten: it is a part of one, and no day of its own. Gives what was found. A source that was not
/// used for `cold_after` days begins its plan anew, on the day of a fifth of the cap that it had.
///
/// # Errors
/// The store's.
pub fn judge(
    tx: &mut Tx<'_>,
    sources: &[SourceId],
    today: i64,
    cold_after: u32,
    rule: impl Fn(&Fared) -> Option<Finding>,
) -> Result<Vec<Judged>> {
    let setup = locked(tx)?;
    let (mut found, mut is_changed) = (Vec::new(), false);
    for source in sources {
        let plan = setup.caps.iter().filter(|cap| cap.source == *source).map(|cap| cap.days.len()).max().unwrap_or(0);
        let before = setup.judged.iter().filter(|judged| judged.source == *source);
        let mut known: HashMap<Arc<str>, Judged> = before.map(|one| (one.site.clone(), one.clone())).collect();
        let sent: Vec<i64> = tx.list(&schema::DAYS, params![source.stored()], |r| r.int(0))?;
        let days_before = |day| sent.iter().filter(|sent| **sent < day).count() as u32;
        let mut unjudged = tx.list(&schema::TAKE_UNJUDGED, params![source.stored(), today], |r| {
            let n = |i| Ok::<_, store::Error>(u32::try_from(r.int(i)?).unwrap_or(u32::MAX));
            let [sent, tried, ended, bounced] = [n(2)?, n(3)?, n(4)?, n(5)?];
            let fared = Fared { sent, tried, ended, bounced, complained: n(6)?, blocked: n(7)?, deferred: n(8)? };
            Ok((r.int(1)?, Arc::<str>::from(r.text(0)?), fared))
        })?;
        // A server's clock may be a day ahead of another's; one that was further ahead was wrong.
        let judged_to = tx.row(&schema::JUDGED_TO, params![source.stored()], |r| r.int(0))?.filter(|to| *to <= today);
        unjudged.retain(|(day, ..)| judged_to.is_none_or(|to| *day > to));
        unjudged.sort_by(|(day, site, _), (other, of, _)| (day, site).cmp(&(other, of)));
        let last = unjudged.last().map(|(day, ..)| *day);
        for (day, site, fared) in unjudged {
            let before = known.get(&site);
            if before.is_some_and(|before| before.is_stopped) {
                continue;
            }
            let at = days_before(day).saturating_sub(before.map_or(0, |before| before.behind));
            let Some(finding) = rule(&fared).filter(|_| (at as usize) < plan) else { continue };
            let days = days_before(day + 1);
            let (behind, is_stopped) = (finding.course.behind(at, days), finding.course == Course::Stop);
            let judged = Judged { source: *source, site: site.clone(), day, finding, days, behind, is_stopped };
            set(tx, &judged)?;
            known.insert(site, judged.clone());
            found.push(judged);
        }
        if let Some(last) = last {
            tx.execute(&schema::SET_JUDGED_TO, params![source.stored(), last])?;
        }
        // At these the plan is over, too.
        let is_over = |one: &&Judged| !one.is_stopped && days_before(today).saturating_sub(one.behind) as usize >= plan;
        for over in known.values().filter(is_over) {
            tx.execute(&schema::FORGET_JUDGED, params![source.stored(), &*over.site])?;
            is_changed = true;
        }
        if is_cold(tx, *source, today, cold_after)? {
            is_changed |= cool(tx, *source, today, &setup.caps)?;
        }
    }
    if is_changed || !found.is_empty() {
        changed(tx)?;
    }
    Ok(found)
}

/// Lets a source that was stopped send to a site again, from the day of its plan at which it was stopped; false when it was not.
///
/// # Errors
/// The store's.
pub fn let_go(tx: &mut Tx<'_>, source: SourceId, site: &str, today: i64) -> Result<bool> {
    let stopped =
        locked(tx)?.judged.into_iter().find(|one| one.source == source && *one.site == *site && one.is_stopped);
    let Some(mut judged) = stopped else { return Ok(false) };
    let sent: Vec<i64> = tx.list(&schema::DAYS, params![source.stored()], |r| r.int(0))?;
    let days = sent.iter().filter(|sent| **sent < today).count() as u32;
    // Days on which it sent elsewhere.
    judged.behind += days.saturating_sub(judged.days);
    (judged.days, judged.is_stopped) = (days, false);
    set(tx, &judged)?;
    changed(tx)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The day after, with 0 for the first, where the source's day was `number` and `behind` of its days did not count.
    fn after(course: Course, number: u32, behind: u32, delivered: bool) -> u32 {
        let next = number + u32::from(delivered);
        next - course.behind(number.saturating_sub(behind), next)
    }

    #[test]
    fn a_day_is_held_or_goes_back_and_never_before_the_first() {
        assert_eq!([0, 1, 5].map(|number| after(Course::Hold, number, 0, true)), [0, 1, 5]);
        assert_eq!([0, 1, 2, 5].map(|number| after(Course::Back(2), number, 0, true)), [0, 0, 0, 3]);
        // It goes on from where it stands, whatever the source does elsewhere.
        assert_eq!(after(Course::Hold, 9, 3, true), 6);
        assert_eq!(after(Course::Back(3), 9, 3, true), 3);
        assert_eq!(after(Course::Stop, 9, 3, true), 6);
        // A day on which nothing was delivered was none anyway.
        assert_eq!(after(Course::Hold, 4, 1, false), 3);
        assert_eq!(after(Course::Back(9), 4, 1, false), 0);
    }

    #[test]
    fn what_was_not_used_goes_on_with_a_fifth_and_never_before_the_first() {
        let plan = [50, 100, 250, 500, 1000, 1400, 5000];
        assert_eq!([0, 1, 2, 3, 4, 5].map(|days| cooled(&plan, days)), [0, 0, 0, 1, 1, 2]);
        // The plan was over.
        assert_eq!([6, 7, 400].map(|days| cooled(&plan, days)), [4, 4, 4]);
    }

    #[test]
    fn a_course_is_read_as_it_was_stored() {
        for course in [Course::Hold, Course::Stop, Course::Back(1), Course::Back(3)] {
            assert_eq!(Course::read(course.stored()), Some(course));
        }
        assert_eq!(Course::read(-2), None);
    }
}
