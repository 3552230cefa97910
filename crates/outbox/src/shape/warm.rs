//! The plan for a new source that is shipped, how much of a day may leave in an hour, and by what rules each day is judged at each
//! site.

use std::collections::BTreeMap;
use std::str::FromStr;

use queue::source::{Course, Fared, Finding, Measure, Share};
use serde::Deserialize;

use super::policy::{DATA, Text};

/// Recipients below which a share of them says nothing: one of 50 is 2 %, the least share of answers that a rule is about.
const ENOUGH: u32 = 50;
/// Nor does one alone. Of complaints a share of 0.1 % is one of a thousand: a single reader could stop a source of fewer.
const SEVERAL: u32 = 2;

#[derive(Deserialize)]
struct File {
    warmup: Plan,
}

#[derive(Deserialize)]
struct Plan {
    per_day: Vec<u32>,
    site_share: BTreeMap<String, f64>,
}

/// A rule of the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    when: Text<Seen>,
    /// This share, or less, is borne.
    above: f64,
    #[serde(rename = "do")]
    course: Then,
    /// How far it goes back.
    days: Option<u32>,
    /// The operator is told.
    #[serde(default)]
    alert: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen(Measure);

impl FromStr for Seen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Seen(match text {
            "hard_bounces" => Measure::Bounced,
            "complaints" => Measure::Complained,
            "blocked" => Measure::Blocked,
            "deferred" => Measure::Deferred,
            _ => return Err(format!("{text:?} is nothing that a new source is judged by")),
        }))
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Then {
    Hold,
    StepBack,
    Stop,
}

impl Rule {
    fn course(&self) -> Course {
        match self.course {
            Then::Hold => Course::Hold,
            Then::StepBack => Course::Back(self.days.unwrap_or(1)),
            Then::Stop => Course::Stop,
        }
    }
}

/// What may leave in an hour of what a new source may deliver in a day.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub struct Hourly(f64);

impl TryFrom<f64> for Hourly {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if share > 0.0 && share <= 1.0 { Ok(Hourly(share)) } else { Err(format!("{share} is no share of a day")) }
    }
}

impl Hourly {
    /// All of it.
    pub(crate) const ALL: Hourly = Hourly(1.0);

    /// As the data has it.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn shipped() -> Result<Self, String> {
        #[derive(Deserialize)]
        struct File {
            warmup: Care,
        }
        toml::from_str(DATA).map(|file: File| file.warmup.hourly).map_err(|e| e.to_string())
    }

    /// Recipients in an hour, where a day's cap is so many: rounded down, but one at least, if it has any.
    pub fn of(self, cap: u32) -> u32 {
        ((f64::from(cap) * self.0) as u32).max(1).min(cap)
    }
}

/// How a new source is watched over while it sends.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Care {
    #[serde(flatten)]
    pub(crate) judge: Judge,
    #[serde(rename = "per_hour_share")]
    pub(crate) hourly: Hourly,
    /// A source that is not used for so long begins its plan anew.
    pub(crate) cold_after_days: u32,
}

impl Care {
    /// Nothing is looked at.
    pub(crate) fn none() -> Self {
        Care { judge: Judge::default(), hourly: Hourly::ALL, cold_after_days: u32::MAX }
    }
}

/// The rules, of which the first that holds decides.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Judge {
    rules: Vec<Rule>,
}

impl Judge {
    /// What follows from what came of a day at a site; none when it was a good one, or too little was sent to say.
    pub(crate) fn of(&self, fared: &Fared) -> Option<Finding> {
        let one = |rule: &Rule| {
            let measure = rule.when.0.0;
            let (count, among) = measure.of(fared);
            let holds = among >= ENOUGH && count >= SEVERAL && f64::from(count) > rule.above * f64::from(among);
            holds.then(|| Finding { measure, count, among, course: rule.course() })
        };
        self.rules.iter().find_map(one)
    }

    /// The operator is to be told of what was found.
    pub(crate) fn alerts(&self, finding: &Finding) -> bool {
        self.rules.iter().any(|rule| rule.alert && (rule.when.0.0, rule.course()) == (finding.measure, finding.course))
    }
}

/// What a new source may deliver a day, to all sites and of that to each.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn standard_plan() -> Result<Vec<(Share, Vec<u32>)>, String> {
    let File { warmup: Plan { per_day, site_share } } = toml::from_str(DATA).map_err(|e| e.to_string())?;
    let part = |share: f64| per_day.iter().map(|n| ((f64::from(*n) * share) as u32).max(1)).collect();
    let mut caps: Vec<(Share, Vec<u32>)> = site_share
        .iter()
        .map(|(site, share)| match site.as_str() {
            "default" => (Share::Each, part(*share)),
            site => (Share::Site(site.into()), part(*share)),
        })
        .collect();
    caps.push((Share::All, per_day));
    Ok(caps)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Judge {
        fn shipped() -> Judge {
            super::super::policy::Policies::shipped().unwrap().warmup.judge
        }
    }

    /// As many recipients, and of them these.
    fn judged(tried: u32, bounced: u32, complained: u32, blocked: u32, deferred: u32) -> Option<(Measure, Course)> {
        let fared = Fared { sent: tried, tried, ended: tried, bounced, complained, blocked, deferred };
        let found = Judge::shipped().of(&fared)?;
        assert_eq!(found.measure.of(&fared), (found.count, found.among));
        Some((found.measure, found.course))
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        use Course::{Back, Hold, Stop};
        use Measure::{Blocked, Bounced, Complained, Deferred};
        assert_eq!(judged(1000, 30, 1, 20, 100), None, "no share is above its bound");
        assert_eq!(judged(1000, 51, 9, 90, 900), Some((Bounced, Stop)));
        assert_eq!(judged(1000, 31, 4, 90, 900), Some((Complained, Back(3))));
        assert_eq!(judged(1000, 31, 3, 90, 900), Some((Bounced, Hold)));
        assert_eq!(judged(1000, 30, 3, 21, 900), Some((Blocked, Back(2))));
        assert_eq!(judged(1000, 30, 2, 20, 101), Some((Deferred, Hold)));
        assert_eq!(judged(1000, 30, 2, 20, 100), Some((Complained, Hold)));
    }

    #[test]
    fn a_share_of_few_says_nothing() {
        assert_eq!(judged(0, 0, 0, 0, 0), None);
        assert_eq!(judged(49, 49, 49, 49, 49), None);
        assert_eq!(judged(50, 3, 0, 0, 0), Some((Measure::Bounced, Course::Stop)));
        // One complaint of fifty is 2 %, and one reader.
        assert_eq!((judged(50, 0, 1, 0, 0), judged(50, 0, 2, 0, 0).is_some()), (None, true));
        // What was delivered is what can be complained of, whatever was tried.
        let fared = Fared { tried: 1000, sent: 40, complained: 40, ..Fared::default() };
        assert_eq!(Judge::shipped().of(&fared), None);
    }

    #[test]
    fn bounces_of_retries_are_a_share_of_what_ended_with_them() {
        let of = |tried, ended, bounced| {
            let found =
                Judge::shipped().of(&Fared { sent: ended - bounced, tried, ended, bounced, ..Fared::default() });
            found.map(|found| (found.count, found.among, found.course))
        };
        // A thousand of the day before, and fifty that are new.
        assert_eq!(of(50, 1050, 3), None);
        // The host was down when they were tried first.
        assert_eq!(of(0, 1000, 1000), Some((1000, 1000, Course::Stop)));
        // It puts off all but whom it does not know.
        assert_eq!(of(1000, 29, 29), None);
        assert_eq!(of(1000, 51, 51), Some((51, 1000, Course::Stop)));
    }

    #[test]
    fn the_operator_is_told_as_the_file_has_it() {
        let judge = Judge::shipped();
        let alerts = |n: [u32; 4]| {
            let [bounced, complained, blocked, deferred] = n;
            let fared = Fared { sent: 1000, tried: 1000, ended: 1000, bounced, complained, blocked, deferred };
            judge.alerts(&judge.of(&fared).unwrap())
        };
        assert!(alerts([51, 0, 0, 0]) && alerts([0, 0, 21, 0]));
        assert!(![[31, 0, 0, 0], [0, 4, 0, 0], [0, 2, 0, 0], [0, 0, 0, 101]].map(alerts).contains(&true));
    }

    #[test]
    fn an_hour_has_a_tenth_of_the_day_and_one_at_least() {
        let hourly = Hourly::shipped().unwrap();
        assert_eq!([0, 1, 9, 19, 20, 50, 70, 1_000_000].map(|cap| hourly.of(cap)), [0, 1, 1, 1, 2, 5, 7, 100_000]);
        assert_eq!(Hourly::ALL.of(1_000_000), 1_000_000);
        assert!([0.0, -0.1, 1.1, f64::NAN].into_iter().all(|share| Hourly::try_from(share).is_err()));
    }

    #[test]
    fn the_plan_is_that_of_the_file() {
        let plan = standard_plan().unwrap();
        let of = |share: &Share| &plan.iter().find(|(s, _)| s == share).unwrap().1;
        assert_eq!(of(&Share::All)[..4], [50, 100, 250, 500]);
        // Two fifths of it for one, a fiftieth for another.
        assert_eq!(of(&Share::Site("google".into()))[..4], [20, 40, 100, 200]);
        assert_eq!(of(&Share::Site("t-online".into()))[..4], [1, 2, 5, 10]);
        assert_eq!(of(&Share::Each)[1], 25);
        assert!(plan.iter().all(|(_, days)| days.len() == 30 && days.is_sorted()));
    }
}
