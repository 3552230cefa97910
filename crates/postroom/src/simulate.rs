//! `postroom simulate`: what a load will take with these sources and limits, before anything is sent.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, OrganisationId, Stream, SystemClock, Timestamp};
use clap::Args;
use outbox::{Forecast, Load, Mix, RECIPIENTS, Reason, SiteForecast, Terms};
use queue::source::{
    self, Cap, Course, Delivered, Finding, Judged, Measure, Member, Pool, Rule, Scope, Setup, Share, Source, SourceId,
    Stop, What,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::admin::{Answer, Outcome, words};
use crate::house::House;
use crate::{policies, sources};

const DAY: i64 = 86_400;
/// Rows of the curve, at most, and the width of its longest bar.
const ROWS: usize = 48;
const WIDTH: u64 = 50;
/// What a row of the curve may stand for, in hours.
const STEPS: [usize; 7] = [1, 2, 3, 6, 24, 48, 168];

/// What is asked.
#[derive(Debug, Args)]
pub struct Question {
    /// How many recipients, each with a mail of its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=RECIPIENTS))]
    recipients: u64,
    /// Who they are, and what those bear: a file as docs/simulation.md explains. Without, an estimate that is shipped.
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// So many sources of equal weight, and no figures of your own, instead of what this server has set up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    sources: Option<u16>,
    /// Those sources are new: "standard", or what each delivers a day in all (50,100,200 or 50x1.4..10000).
    #[arg(long, value_name = "DAYS", requires = "sources", value_parser = plan)]
    warmup: Option<GivenPlan>,
    /// A figure more, as `policy set` takes it: KEY=VALUE for all sites, SITE:KEY=VALUE for one. May be given more than once.
    #[arg(long, value_name = "FIGURE", value_parser = figure)]
    figure: Vec<Figure>,
    /// What kind of mail it is: it decides the pool.
    #[arg(long, default_value = "marketing")]
    stream: Stream,
    /// How long each is tried; else as long as mail of its stream.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=365))]
    give_up_after: Option<u16>,
    /// For what is left to chance: the same number gives the same answer.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
enum GivenPlan {
    Standard,
    Days(Vec<u32>),
}

/// A site if one is named, a key, a value.
type Figure = (Option<String>, String, String);

fn plan(text: &str) -> Result<GivenPlan, String> {
    if text == "standard" { Ok(GivenPlan::Standard) } else { Ok(GivenPlan::Days(sources::days(text)?.0)) }
}

fn figure(text: &str) -> Result<Figure, String> {
    let (site, rest) = match text.split_once(':') {
        Some((site, rest)) if !site.contains('=') => (Some(site.to_ascii_lowercase()), rest),
        _ => (None, text),
    };
    let (key, value) = policies::figure(rest)?;
    outbox::check_figure(&key, &value, false)?;
    Ok((site, key, value))
}

/// Sources with weights; sites with what was delivered to them.
type Members = Vec<(i64, u32)>;
type ToSites = Vec<(String, u32)>;

/// What the server has set up, as it travels.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    sources: Vec<(i64, String)>,
    /// Members with weights, and streams.
    pools: Vec<(String, Members, Vec<String>)>,
    rules: Vec<(Option<i64>, Option<String>, String, String)>,
    stopped: Vec<i64>,
    /// To whom, on which days, since when.
    caps: Vec<(i64, To, Vec<u32>, i64)>,
    /// Days before, today, and of that to sites.
    delivered: Vec<(i64, u32, u32, ToSites)>,
    /// At which site, how many days do not count, and whether nothing goes there.
    judged: Vec<(i64, String, u32, bool)>,
}

#[derive(Debug, Serialize, Deserialize)]
enum To {
    All,
    Each,
    Site(String),
}

/// What is set up here.
///
/// # Errors
/// The store's, in words.
pub async fn facts(house: &House) -> Outcome {
    let today = source::day_of(house.clock.now());
    let read = house.store.read(move |tx| {
        let setup = source::setup(tx)?;
        let delivered = source::delivered(tx, &setup, today)?;
        Ok((setup, delivered))
    });
    let (setup, delivered) = read.await.map_err(words)?;
    let pool = |pool: &Pool| {
        let members = pool.members.iter().map(|m| (m.source.stored(), m.weight)).collect();
        (pool.name.to_string(), members, pool.streams.iter().map(|stream| stream.word().to_owned()).collect())
    };
    let rule = |rule: &Rule| {
        let site = rule.scope.site.as_deref().map(str::to_owned);
        (rule.scope.source.map(SourceId::stored), site, rule.key.to_string(), rule.value.to_string())
    };
    let stopped = |stop: &Stop| match stop.what {
        What::Source(source) => Some(source.stored()),
        _ => None,
    };
    let cap = |cap: &Cap| {
        let to = match &cap.share {
            Share::All => To::All,
            Share::Each => To::Each,
            Share::Site(name) => To::Site(name.to_string()),
        };
        (cap.source.stored(), to, cap.days.to_vec(), cap.began.0)
    };
    let sent = |(source, d): &(SourceId, Delivered)| {
        let sites = d.sites.iter().map(|(site, n)| (site.to_string(), *n)).collect();
        (source.stored(), d.days, d.today, sites)
    };
    let judged = |one: &Judged| (one.source.stored(), one.site.to_string(), one.behind, one.is_stopped);
    let facts = Facts {
        sources: setup.sources.iter().map(|s| (s.id.stored(), s.name.to_string())).collect(),
        pools: setup.pools.iter().filter(|pool| pool.organisation.is_none()).map(pool).collect(),
        rules: setup.rules.iter().filter(|rule| rule.scope.organisation.is_none()).map(rule).collect(),
        stopped: setup.stops.iter().filter_map(stopped).collect(),
        caps: setup.caps.iter().map(cap).collect(),
        delivered: delivered.iter().map(sent).collect(),
        judged: setup.judged.iter().map(judged).collect(),
    };
    Ok(Answer::new(String::new(), serde_json::to_value(facts).map_err(|e| e.to_string())?))
}

fn named(id: i64, name: &str) -> Source {
    Source { name: name.into(), ..source_of(id) }
}

fn source_of(id: i64) -> Source {
    Source { id: SourceId::read(id), ..Source::default_one() }
}

impl Facts {
    fn setup(self, now: Timestamp) -> (Setup, Vec<(SourceId, Delivered)>) {
        let member = |(id, weight): (i64, u32)| Member { source: SourceId::read(id), weight };
        let pool = |(name, members, streams): (String, Members, Vec<String>)| Pool {
            name: name.into(),
            members: members.into_iter().map(member).collect(),
            streams: streams.iter().filter_map(|word| word.parse().ok()).collect(),
            organisation: None,
        };
        let rule = |(source, site, key, value): (Option<i64>, Option<String>, String, String)| Rule {
            scope: Scope { source: source.map(SourceId::read), site: site.map(Into::into), organisation: None },
            key: key.into(),
            value: value.into(),
        };
        let cap = |(id, to, days, began): (i64, To, Vec<u32>, i64)| {
            let share = match to {
                To::All => Share::All,
                To::Each => Share::Each,
                To::Site(name) => Share::Site(name.into()),
            };
            Cap { source: SourceId::read(id), share, days: days.into(), began: Timestamp(began) }
        };
        let sent = |(id, days, today, sites): (i64, u32, u32, ToSites)| {
            let sites = sites.into_iter().map(|(site, n)| (site.into(), n)).collect();
            (SourceId::read(id), Delivered { days, today, sites })
        };
        let judged = |(id, site, behind, is_stopped): (i64, String, u32, bool)| Judged {
            source: SourceId::read(id),
            site: site.into(),
            // What it was judged for, nobody asks here.
            day: 0,
            finding: Finding { measure: Measure::Bounced, count: 0, among: 0, course: Course::Hold },
            days: behind,
            behind,
            is_stopped,
        };
        let stop = |id: i64| Stop { what: What::Source(SourceId::read(id)), drains: false, since: now };
        let setup = Setup {
            sources: self.sources.iter().map(|(id, name)| named(*id, name)).collect(),
            pools: self.pools.into_iter().map(pool).collect(),
            rules: self.rules.into_iter().map(rule).collect(),
            stops: self.stopped.into_iter().map(stop).collect(),
            caps: self.caps.into_iter().map(cap).collect(),
            judged: self.judged.into_iter().map(judged).collect(),
            ..Setup::default()
        };
        (setup, self.delivered.into_iter().map(sent).collect())
    }
}

impl Question {
    /// Whether the server's own sources are meant.
    pub fn is_of_server(&self) -> bool {
        self.sources.is_none()
    }

    /// How long each is tried.
    fn lifetime(&self) -> Duration {
        let given = self.give_up_after.map(|days| Duration::from_secs(u64::from(days) * 86_400));
        given.unwrap_or_else(|| queue::lifetime(self.stream))
    }

    /// The answer; `known` is what [`facts`] gave, if there is a server's data.
    ///
    /// # Errors
    /// In words: the mix cannot be read or is wrong, no source may send.
    pub fn answer(&self, known: Option<Value>) -> Outcome {
        let mix = match &self.mix {
            None => Mix::shipped()?,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Mix::read(&text).map_err(|e| format!("{}: {e}", path.display()))?
            }
        };
        let today = SystemClock.now().secs().div_euclid(DAY);
        let start = Timestamp::from_secs(today * DAY);
        let (mut setup, delivered) = match (self.sources, known) {
            (Some(n), _) => self.given(i64::from(n), start)?,
            (None, Some(facts)) => serde_json::from_value::<Facts>(facts).map_err(|e| e.to_string())?.setup(start),
            (None, None) => Default::default(),
        };
        let rule = |(site, key, value): &Figure| Rule {
            scope: Scope { site: site.as_deref().map(Into::into), ..Scope::default() },
            key: key.as_str().into(),
            value: value.as_str().into(),
        };
        setup.rules.extend(self.figure.iter().map(rule));
        let lifetime = self.lifetime();
        let (stream, seed) = (self.stream, self.seed);
        let by: Vec<String> =
            setup.members(stream, OrganisationId::HOUSE).iter().map(|m| name_of(&setup, m.source)).collect();
        let terms = Terms { setup, delivered, stream, start, lifetime, seed };
        let found = outbox::forecast(&Load::of(&mix, self.recipients, seed), &terms)?;
        Ok(Answer::new(self.told(&found, &by), self.facts_of(&found, &by)))
    }

    /// Sources that there are not.
    fn given(&self, n: i64, began: Timestamp) -> Result<(Setup, Vec<(SourceId, Delivered)>), String> {
        let ids = || (1..=n).map(SourceId::read);
        let members = ids().map(|source| Member { source, weight: 1 }).collect();
        let caps = match &self.warmup {
            None => Vec::new(),
            Some(GivenPlan::Standard) => outbox::standard_plan()?,
            Some(GivenPlan::Days(days)) => vec![(Share::All, days.clone())],
        };
        let of = |source| {
            let cap = move |(share, days): &(Share, Vec<u32>)| Cap {
                source,
                share: share.clone(),
                days: days.as_slice().into(),
                began,
            };
            caps.iter().map(cap)
        };
        let delivered = if caps.is_empty() { Vec::new() } else { ids().map(|id| (id, Delivered::default())).collect() };
        let setup = Setup {
            sources: (1..=n).map(|n| named(n, &n.to_string())).collect(),
            pools: vec![Pool { name: "all".into(), members, streams: vec![self.stream], organisation: None }],
            caps: ids().flat_map(of).collect(),
            ..Setup::default()
        };
        Ok((setup, delivered))
    }

    fn told(&self, found: &Forecast, by: &[String]) -> String {
        let mut text = String::new();
        let sources = match by {
            [one] => format!("the source {one}"),
            several => format!("{} sources", several.len()),
        };
        let sites: usize = found.sites.iter().map(|site| site.sites).sum();
        let all = found.sum(|s| s.recipients);
        let _ = writeln!(text, "{} recipients at {} sites, by {sources}\n", grouped(all), grouped(sites as u64));
        let _ = writeln!(
            text,
            "{:30}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}{:>12}{:>12}",
            "site", "recipients", "delivered", "bounced", "given up", "deferred", "blocked", "95 % in", "last in"
        );
        for site in found.sites.iter().filter(|site| site.recipients > 0) {
            row(&mut text, site);
        }
        row(&mut text, &total(found));
        text.push('\n');
        curve(&mut text, found);
        let _ = write!(text, "\n{}", self.sentence(found));
        text
    }

    /// What limits it, and what would help.
    fn sentence(&self, found: &Forecast) -> String {
        let mut text = String::new();
        if let Some(slowest) = found.slowest()
            && let Some((site, why, time)) = &slowest.kept
        {
            text = format!("{site} takes longest, {} for 95 of 100: ", span(slowest.mostly));
            text += &match why {
                Reason::Connections => {
                    "nothing holds its mail but the connections that may be open at once, and its answers. More sources \
                     have more of them."
                        .to_owned()
                }
                Reason::OurRate => format!(
                    "for {} it waited for our own figures (rate, connection_rate). `postroom policy set --site` changes \
                     them; each source has its own.",
                    span(*time)
                ),
                Reason::ItsQuota => format!(
                    "for {} it waited until the site takes more: it counts the mails of each source. More sources have \
                     more.",
                    span(*time)
                ),
                Reason::Asked => format!("for {} the site wanted to be left alone.", span(*time)),
                Reason::AllConnections => {
                    format!("for {} all connections that this server opens at once were in use.", span(*time))
                }
                Reason::Retries => "what is put off there (greylisting, faults) waits for its next attempt. No source and \
                                    no figure changes that."
                    .to_owned(),
                Reason::Plan => format!(
                    "for {} it waited for another day of the plans of new sources. More sources, or a longer life \
                     (--give-up-after), or fewer recipients.",
                    span(*time)
                ),
            };
        }
        let expired = found.sum(|s| s.expired);
        if expired > 0 {
            let days = self.lifetime().as_secs() / 86_400;
            let _ = write!(text, "\n{} recipients were given up after {days} days.", grouped(expired));
        }
        text
    }

    fn facts_of(&self, found: &Forecast, by: &[String]) -> Value {
        let site = |s: &SiteForecast| {
            let kept = s
                .kept
                .as_ref()
                .map(|(name, why, time)| json!({ "site": &**name, "reason": word(*why), "seconds": time.as_secs() }));
            json!({ "site": &*s.name, "sites": s.sites, "recipients": s.recipients, "delivered": s.delivered,
                "bounced": s.bounced, "given_up": s.expired, "deferred": s.deferred, "blocked": s.blocked,
                "mostly_seconds": s.mostly.as_secs(), "last_seconds": s.last.as_secs(), "kept": kept })
        };
        json!({ "seed": self.seed, "sources": by, "all": site(&total(found)),
            "sites": found.sites.iter().map(site).collect::<Vec<_>>(), "hours": found.hours,
            "limit": found.slowest().map(site), "sentence": self.sentence(found) })
    }
}

fn name_of(setup: &Setup, id: SourceId) -> String {
    let found = setup.sources.iter().find(|s| s.id == id);
    found.map_or_else(|| source::DEFAULT.to_owned(), |s| s.name.to_string())
}

fn word(reason: Reason) -> &'static str {
    match reason {
        Reason::Connections => "connections",
        Reason::OurRate => "rate",
        Reason::ItsQuota => "quota",
        Reason::Asked => "asked",
        Reason::AllConnections => "all-connections",
        Reason::Retries => "retries",
        Reason::Plan => "warmup",
    }
}

fn total(found: &Forecast) -> SiteForecast {
    SiteForecast {
        name: "all".into(),
        sites: found.sites.iter().map(|site| site.sites).sum(),
        recipients: found.sum(|s| s.recipients),
        delivered: found.sum(|s| s.delivered),
        bounced: found.sum(|s| s.bounced),
        expired: found.sum(|s| s.expired),
        deferred: found.sum(|s| s.deferred),
        blocked: found.sum(|s| s.blocked),
        mostly: found.sites.iter().map(|site| site.mostly).max().unwrap_or_default(),
        last: found.last(),
        kept: None,
    }
}

fn row(text: &mut String, s: &SiteForecast) {
    let name = if s.sites > 1 && &*s.name != "all" { format!("{} ({})", s.name, s.sites) } else { s.name.to_string() };
    let _ = writeln!(
        text,
        "{name:30}{:>11}{:>11}{:>10}{:>10}{:>10}{:>10}{:>12}{:>12}",
        grouped(s.recipients),
        grouped(s.delivered),
        grouped(s.bounced),
        grouped(s.expired),
        grouped(s.deferred),
        grouped(s.blocked),
        span(s.mostly),
        span(s.last)
    );
}

fn curve(text: &mut String, found: &Forecast) {
    let fits = |step: &&usize| found.hours.len().div_ceil(**step) <= ROWS;
    let step = STEPS.iter().find(fits).copied().unwrap_or_else(|| found.hours.len().div_ceil(ROWS));
    let sums: Vec<u64> = found.hours.chunks(step).map(|hours| hours.iter().sum()).collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let _ = writeln!(text, "delivered, from hour to hour");
    for (n, sum) in sums.iter().enumerate() {
        // Whoever is not nobody is seen.
        let bar = (sum * WIDTH / most).max(u64::from(*sum > 0)) as usize;
        let _ = writeln!(text, "{:>5} h {:>11} {}", n * step, grouped(*sum), "#".repeat(bar));
    }
}

/// `1,234,567`
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let ahead = digits.len() % 3;
    let mut all: Vec<&str> = if ahead > 0 { vec![&digits[..ahead]] } else { Vec::new() };
    all.extend((ahead..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    all.join(",")
}

/// Two units, the first of which says most.
fn span(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min", s.div_ceil(60)),
        3600..86_400 => format!("{} h {:02}", s / 3600, s % 3600 / 60),
        _ => format!("{} d {:02} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_do_not_count_travel_with_the_plan() {
        let judged = vec![(1, "google".to_owned(), 2, false), (2, "yahoo".to_owned(), 1, true)];
        let asked = serde_json::to_value(Facts { judged, ..Facts::default() }).unwrap();
        let (setup, _) = serde_json::from_value::<Facts>(asked).unwrap().setup(Timestamp(0));
        let one = |one: &Judged| (one.source.stored(), one.site.to_string(), one.behind, one.is_stopped);
        let judged: Vec<_> = setup.judged.iter().map(one).collect();
        assert_eq!(judged, [(1, "google".into(), 2, false), (2, "yahoo".into(), 1, true)]);
    }

    #[test]
    fn figures_are_for_all_sites_or_for_one() {
        let of = |text: &str| figure(text).unwrap();
        assert_eq!(of("rate=5/s"), (None, "rate".into(), "5/s".into()));
        assert_eq!(of("Google:rate=5/s,9/m"), (Some("google".into()), "rate".into(), "5/s,9/m".into()));
        for text in ["google", "google:", "rate=5", "google:speed=5"] {
            assert!(figure(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_and_times_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let of = |s| span(Duration::from_secs(s));
        assert_eq!([of(59), of(61), of(3660), of(90_000)], ["59 s", "2 min", "1 h 01", "1 d 01 h"]);
    }
}
