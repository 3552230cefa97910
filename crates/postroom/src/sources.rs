//! Requests about what mail leaves by: sources and pools.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use base::{OrganisationId, Stream, Timestamp};
use directory::Domain;
use net::{Deadline, Resolver, is_special};
use queue::source::{self, DEFAULT, Delivered, Judged, NewSource, Setup, Share, Source, SourceId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, has, read, refused, words, write};
use crate::findings::{Finding, report};
use crate::house::House;
use crate::organisations::{self, Names};
use crate::spf;

/// How long the DNS may take for a question.
const DNS: Duration = Duration::from_secs(10);
/// And for all that is asked about SPF.
const SPF: Duration = Duration::from_secs(60);
/// So many domains are looked at for each source.
const DOMAINS: usize = 50;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A new source. `anyway`: also when this machine has not got the addresses.
    Add { name: String, addresses: Vec<IpAddr>, ehlo: Option<String>, anyway: bool },
    /// Other addresses, none for the system's choice; another name, an empty one for our host name.
    Change { name: String, addresses: Option<Vec<IpAddr>>, ehlo: Option<String>, anyway: bool },
    /// A source less.
    Remove { name: String },
    /// All sources, or those with a word in their name.
    List { word: Option<String> },
    /// Whether the DNS and this machine know of them.
    Check { word: Option<String> },
    /// What it may deliver a day while it is new.
    WarmUp { name: String, plan: Plan },
    /// A pool of sources with their weights, for these streams, of an organisation or all.
    PoolAdd { name: String, organisation: Option<String>, members: Vec<(String, u32)>, streams: Vec<String> },
    /// Other sources, other streams, or for another organisation: an empty name is all.
    PoolChange {
        name: String,
        organisation: Option<String>,
        members: Option<Vec<(String, u32)>>,
        streams: Option<Vec<String>>,
    },
    /// A pool less.
    PoolRemove { name: String },
    /// All pools, or those with a word in their name.
    PoolList { word: Option<String> },
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    match ask {
        Ask::Add { name, addresses, ehlo, anyway } => {
            let (v4, v6) = addresses_of(&addresses, anyway)?;
            write(house, move |tx| {
                source::add(tx, &name, &NewSource { v4, v6, ehlo: ehlo.clone() })?;
                Ok(Answer::new(format!("Added {name}: it sends once it is in a pool"), json!({ "name": name })))
            })
            .await
        }
        Ask::Change { name, addresses, ehlo, anyway } => {
            let given = addresses.map(|all| addresses_of(&all, anyway)).transpose()?;
            write(house, move |tx| change(tx, &name, given, ehlo.as_deref())).await
        }
        Ask::Remove { name } => {
            write(house, move |tx| {
                source::remove(tx, &name)?;
                Ok(Answer::new(format!("Removed {name}"), json!({ "name": name })))
            })
            .await
        }
        Ask::List { word } => {
            let hostname = house.hostname.clone();
            let today = source::day_of(house.clock.now());
            read(house, move |tx| {
                let setup = source::setup(tx)?;
                let new = source::delivered(tx, &setup, today)?;
                Ok(list(&setup, &new, &hostname, word.as_deref()))
            })
            .await
        }
        Ask::Check { word } => check(house, word.as_deref()).await,
        Ask::WarmUp { name, plan } => warmup(house, name, plan).await,
        Ask::PoolAdd { name, organisation, members, streams } => {
            let streams = streams_of(&streams)?;
            write(house, move |tx| {
                source::add_pool(tx, &name, &members, &[])?;
                give(tx, &name, organisation.as_deref())?;
                source::change_pool(tx, &name, None, Some(&streams))?;
                Ok(Answer::new(format!("Added {name}"), json!({ "name": name })))
            })
            .await
        }
        Ask::PoolChange { name, organisation, members, streams } => {
            let streams = streams.map(|all| streams_of(&all)).transpose()?;
            write(house, move |tx| {
                if organisation.is_some() && streams.is_some() {
                    // Those that it had may be taken where it goes.
                    source::change_pool(tx, &name, None, Some(&[]))?;
                }
                give(tx, &name, organisation.as_deref())?;
                source::change_pool(tx, &name, members.as_deref(), streams.as_deref())?;
                Ok(Answer::new(format!("Changed {name}"), json!({ "name": name })))
            })
            .await
        }
        Ask::PoolRemove { name } => {
            write(house, move |tx| {
                source::remove_pool(tx, &name)?;
                Ok(Answer::new(format!("Removed {name}"), json!({ "name": name })))
            })
            .await
        }
        Ask::PoolList { word } => {
            read(house, move |tx| Ok(pools(&source::setup(tx)?, &Names::read(tx)?, word.as_deref()))).await
        }
    }
}

type Addresses = (Option<Ipv4Addr>, Option<Ipv6Addr>);

/// One of each family at most; this machine has them, unless that is to be taken on trust.
fn addresses_of(all: &[IpAddr], anyway: bool) -> Result<Addresses, String> {
    let (mut v4, mut v6) = (None, None);
    for ip in all {
        let twice = match ip {
            IpAddr::V4(ip) => v4.replace(*ip).is_some(),
            IpAddr::V6(ip) => v6.replace(*ip).is_some(),
        };
        if twice {
            return Err("a source has one address of each family; for another one add another source".into());
        }
        if !anyway && !is_here(*ip) {
            return Err(format!(
                "{ip} is no address of this machine, so nothing could be sent from it: give it to an interface first (ip \
                 address add), or say --anyway"
            ));
        }
    }
    Ok((v4, v6))
}

/// Whether this machine has the address.
pub fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn change(tx: &mut Tx<'_>, name: &str, given: Option<Addresses>, ehlo: Option<&str>) -> store::Result<Answer> {
    let now = source::setup(tx)?.named(name);
    let (v4, v6) = given.unwrap_or_else(|| now.as_ref().map_or((None, None), |s| (s.v4, s.v6)));
    let ehlo = match ehlo {
        Some("") => None,
        Some(name) => Some(name.to_owned()),
        None => now.and_then(|s| s.ehlo.as_deref().map(str::to_owned)),
    };
    source::change(tx, name, &NewSource { v4, v6, ehlo })?;
    Ok(Answer::new(format!("Changed {name}"), json!({ "name": name })))
}

/// The one that is always there is the last.
fn all(setup: &Setup) -> Vec<Source> {
    setup.sources.iter().cloned().chain([Source::default_one()]).collect()
}

fn addresses(source: &Source) -> Vec<IpAddr> {
    source.v4.map(IpAddr::V4).into_iter().chain(source.v6.map(IpAddr::V6)).collect()
}

/// The names of the columns of an export.
pub const COLUMNS: [&str; 4] = ["name", "addresses", "ehlo", "pools"];

fn list(setup: &Setup, new: &[(SourceId, Delivered)], hostname: &str, word: Option<&str>) -> Answer {
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for s in all(setup).into_iter().filter(|s| has(&s.name, word)) {
        let ips: Vec<String> = addresses(&s).iter().map(IpAddr::to_string).collect();
        let shown = if ips.is_empty() { "the system's choice".into() } else { ips.join(" ") };
        let ehlo = s.ehlo.as_deref().unwrap_or(hostname);
        let of = |pool: &source::Pool| pool.members.iter().find(|m| m.source == s.id).map(|m| m.weight);
        let pools: Vec<_> = setup.pools.iter().filter_map(|p| Some((&*p.name, of(p)?))).collect();
        let mut note = match pools.iter().map(|(name, weight)| format!("{name} ({weight})")).collect::<Vec<_>>() {
            pools if pools.is_empty() => String::new(),
            pools => format!("  in {}", pools.join(", ")),
        };
        let free: Vec<&str> = unserved(setup).iter().map(|stream| stream.word()).collect();
        if s.name.as_ref() == DEFAULT && !free.is_empty() {
            note += &format!("  for {}", free.join(", "));
        } else if note.is_empty() {
            note = "  in no pool: nothing is sent by it".into();
        }
        if let Some((_, delivered)) = new.iter().find(|(id, _)| *id == s.id) {
            note += &format!("  new, day {}", delivered.days + 1);
        }
        text.push(format!("{:16} {shown:32} {ehlo}{note}", s.name));
        for judged in setup.judged.iter().filter(|judged| judged.source == s.id && judged.is_stopped) {
            text.push(format!("    at {}", standing(judged, judged.days)));
        }
        let pools: Vec<_> = pools.iter().map(|(name, weight)| json!({ "pool": name, "weight": weight })).collect();
        data.push(json!({ "name": &*s.name, "addresses": ips, "ehlo": ehlo, "pools": pools }));
    }
    if text.is_empty() {
        text.push("There is no such source".into());
    }
    Answer::new(text.join("\n"), Value::Array(data))
}

/// Streams that no general pool serves.
fn unserved(setup: &Setup) -> Vec<Stream> {
    Stream::ALL.into_iter().filter(|stream| setup.pool(*stream, OrganisationId::HOUSE).is_none()).collect()
}

/// To an organisation that is named; an empty name is all.
fn give(tx: &mut Tx<'_>, pool: &str, organisation: Option<&str>) -> store::Result<()> {
    let to = match organisation {
        None => return Ok(()),
        Some("") => None,
        Some(name) => Some(organisations::named(tx, name)?),
    };
    source::give_pool(tx, pool, to)
}

/// The names of the columns of an export.
pub const POOL_COLUMNS: [&str; 4] = ["name", "members", "streams", "organisation"];

fn pools(setup: &Setup, names: &Names, word: Option<&str>) -> Answer {
    let (mut text, mut data) = (Vec::new(), Vec::new());
    let name = |id| all(setup).into_iter().find(|s| s.id == id).map_or_else(String::new, |s| s.name.to_string());
    for pool in setup.pools.iter().filter(|pool| has(&pool.name, word)) {
        let members: Vec<(String, u32)> = pool.members.iter().map(|m| (name(m.source), m.weight)).collect();
        let streams: Vec<&str> = pool.streams.iter().map(|stream| stream.word()).collect();
        let shown: Vec<String> = members.iter().map(|(name, weight)| format!("{name}:{weight}")).collect();
        let served = if streams.is_empty() { "no stream".into() } else { streams.join(", ") };
        let whose = pool.organisation.map(|organisation| names.of(organisation));
        let of = whose.map_or(String::new(), |whose| format!(" of {whose}"));
        text.push(format!("{:16} {}  for {served}{of}", pool.name, shown.join(" ")));
        let members: Vec<_> = members.iter().map(|(name, w)| json!({ "source": name, "weight": w })).collect();
        data.push(json!({ "name": &*pool.name, "members": members, "streams": streams, "organisation": whose }));
    }
    let free: Vec<&str> = unserved(setup).iter().map(|stream| stream.word()).collect();
    if word.is_some() && text.is_empty() {
        text.push("There is no such pool".into());
    } else if word.is_none() && !free.is_empty() {
        text.push(format!("All else ({}) leaves by the source {DEFAULT}", free.join(", ")));
    }
    Answer::new(text.join("\n"), Value::Array(data))
}

fn streams_of(all: &[String]) -> Result<Vec<Stream>, String> {
    all.iter().map(|word| word.parse().map_err(|e: base::BadStream| e.to_string())).collect()
}

/// What receivers look at first: that the name we say leads to the address we come from, and the address to the name; then, that our
/// domains let it send.
async fn check(house: &House, word: Option<&str>) -> Outcome {
    let (setup, domains) =
        house.store.read(|tx| Ok((source::setup(tx)?, directory::domains(tx)?))).await.map_err(words)?;
    let resolver = house.outside.resolver().map_err(|e| e.to_string())?;
    let mut findings = Vec::new();
    for s in all(&setup).into_iter().filter(|s| has(&s.name, word)) {
        let (name, ehlo) = (&s.name, s.ehlo.as_deref().unwrap_or(&house.hostname));
        let ips = addresses(&s);
        findings.extend(forward(&resolver, name, ehlo, &ips).await);
        for ip in ips {
            if !is_here(ip) {
                findings.push(Finding::Bad(format!("{name}: {ip} is no address of this machine")));
            } else if is_special(ip) {
                let text =
                    format!("{name}: {ip} is not public: other hosts see another address, which is not looked at");
                findings.push(Finding::Doubt(text));
            } else {
                findings.push(reverse(&resolver, name, ehlo, ip).await);
            }
        }
    }
    if house.smarthost.is_none() {
        findings.extend(spf_of(&resolver, &setup, &domains, &house.hostname).await);
    }
    Ok(report(&findings))
}

/// Whether our domains let each source send, as far as mail of theirs may leave by it.
async fn spf_of(resolver: &Resolver, setup: &Setup, domains: &[Domain], hostname: &str) -> Vec<Finding> {
    let (mut findings, deadline) = (Vec::new(), Deadline::after(SPF));
    for domain in domains.iter().take(DOMAINS) {
        for sender in spf::senders(setup, domain.organisation, hostname) {
            let missing =
                || Finding::Bad(format!("{}: SPF of {} is missing: see domain dns", sender.source, domain.name));
            findings.push(spf::look(resolver, deadline, &domain.name, &sender).await.unwrap_or_else(missing));
        }
    }
    if domains.len() > DOMAINS && !findings.is_empty() {
        let words =
            format!("SPF of {DOMAINS} of {} domains was looked at: domain dns --check looks at one", domains.len());
        findings.push(Finding::Hint(words));
    }
    findings
}

async fn forward(resolver: &Resolver, name: &str, ehlo: &str, ips: &[IpAddr]) -> Vec<Finding> {
    let found = match resolver.addresses(ehlo, Deadline::after(DNS)).await {
        Ok(found) => found.records,
        Err(e) => return vec![Finding::Bad(format!("{name}: its name {ehlo} has no address: {e}"))],
    };
    if ips.is_empty() {
        return vec![Finding::Good(format!("{name}: its name {ehlo} has {} addresses", found.len()))];
    }
    let one = |ip: &IpAddr| match found.contains(ip) {
        true => Finding::Good(format!("{name}: its name {ehlo} leads to {ip}")),
        false => Finding::Bad(format!("{name}: its name {ehlo} does not lead to {ip}; add that address to the DNS")),
    };
    ips.iter().filter(|ip| !is_special(**ip)).map(one).collect()
}

async fn reverse(resolver: &Resolver, name: &str, ehlo: &str, ip: IpAddr) -> Finding {
    match resolver.ptr(ip, Deadline::after(DNS)).await {
        Ok(found) if found.records.iter().any(|n| n.eq_ignore_ascii_case(ehlo)) => {
            Finding::Good(format!("{name}: {ip} leads to {ehlo}"))
        }
        Ok(found) => {
            let names = found.records.join(", ");
            Finding::Bad(format!(
                "{name}: {ip} leads to {names}, not to {ehlo}: who owns the address sets its PTR record"
            ))
        }
        Err(e) => Finding::Bad(format!("{name}: {ip} has no name ({e}): who owns the address sets its PTR record")),
    }
}

/// `NAME` or `NAME:WEIGHT`.
///
/// # Errors
/// In words.
pub fn member(text: &str) -> Result<(String, u32), String> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), 1)),
        Some((name, weight)) => {
            let weight = weight.parse().map_err(|_| format!("{text:?}: the weight is a number, like a:3"))?;
            Ok((name.to_owned(), weight))
        }
    }
}

/// Caps for a source, in days.
#[derive(Debug, Serialize, Deserialize)]
pub enum Plan {
    /// As it stands.
    Show,
    /// The one that is shipped.
    Standard,
    /// These days, for a site, for all sites together, or for each other site.
    Caps { site: Option<String>, total: bool, days: Vec<u32> },
    /// None any more.
    Stop,
    /// As it stands, but that it sends to this site again, at which it was stopped.
    Resume { site: String },
}

async fn warmup(house: &House, name: String, plan: Plan) -> Outcome {
    let now = house.clock.now();
    let caps = match plan {
        Plan::Show => return read(house, move |tx| show_plan(tx, &name, now)).await,
        Plan::Stop => {
            return write(house, move |tx| {
                let id = known(tx, &name)?;
                if !source::end_plan(tx, id)? {
                    return Err(refused(format!("{name} has no plan: it may send what it can")));
                }
                Ok(Answer::new(format!("{name} may send what it can"), json!({ "name": name })))
            })
            .await;
        }
        Plan::Resume { site } => {
            return write(house, move |tx| {
                let site = site.to_ascii_lowercase();
                let source = known(tx, &name)?;
                if !source::let_go(tx, source, &site, source::day_of(now))? {
                    return Err(refused(format!(
                        "{name} was not stopped at {site}: postroom source warmup {name} shows where"
                    )));
                }
                show_plan(tx, &name, now)
            })
            .await;
        }
        Plan::Standard => outbox::standard_plan()?,
        Plan::Caps { total: true, days, .. } => vec![(Share::All, days)],
        Plan::Caps { site: Some(site), days, .. } => vec![(Share::Site(site.to_ascii_lowercase().into()), days)],
        Plan::Caps { days, .. } => vec![(Share::Each, days)],
    };
    write(house, move |tx| {
        let source = known(tx, &name)?;
        source::set_caps(tx, source, &caps, now)?;
        show_plan(tx, &name, now)
    })
    .await
}

fn known(tx: &mut Tx<'_>, name: &str) -> store::Result<SourceId> {
    let found = source::setup(tx)?.named(name).map(|s| s.id);
    found.ok_or_else(|| refused(format!("there is no source {name}")))
}

fn show_plan(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> store::Result<Answer> {
    let (source, setup) = (known(tx, name)?, source::setup(tx)?);
    let all = source::delivered(tx, &setup, source::day_of(now))?;
    let Some((_, delivered)) = all.into_iter().find(|(id, _)| *id == source) else {
        return Ok(Answer::new(
            format!("{name} has no plan: it may send what it can"),
            json!({ "name": name, "caps": [] }),
        ));
    };
    let day = delivered.days as usize;
    let mut text = vec![format!("{name} is at day {} of its plan; today it delivered {}", day + 1, delivered.today)];
    let (mut data, hourly) = (Vec::new(), outbox::Hourly::shipped().map_err(refused)?);
    for cap in setup.caps.iter().filter(|cap| cap.source == source) {
        let (share, to) = match &cap.share {
            Share::All => ("*".to_owned(), "all sites together".to_owned()),
            Share::Each => ("each".to_owned(), "each other site".to_owned()),
            Share::Site(site) => (site.to_string(), site.to_string()),
        };
        let today = cap.days.get(day);
        let shown = today.map_or("no cap any more".to_owned(), |n| format!("{n} today, {} an hour", hourly.of(*n)));
        text.push(format!("    to {to}: {shown}, {} days in all", cap.days.len()));
        data.push(
            json!({ "site": share, "today": today, "hour": today.map(|n| hourly.of(*n)), "days": &cap.days[..] }),
        );
    }
    for (site, n) in &delivered.sites {
        text.push(format!("    delivered today to {site}: {n}"));
    }
    let judged: Vec<_> = setup.judged.iter().filter(|judged| judged.source == source).collect();
    text.extend(judged.iter().map(|judged| format!("    at {}", standing(judged, delivered.days))));
    let judged: Vec<_> = judged.into_iter().map(|judged| facts_of(judged, delivered.days)).collect();
    let sites: serde_json::Map<String, Value> =
        delivered.sites.iter().map(|(site, n)| (site.to_string(), Value::from(*n))).collect();
    let data = json!({ "name": name, "day": day + 1, "delivered_today": delivered.today, "sites": sites, "caps": data,
            "judged": judged });
    Ok(Answer::new(text.join("\n"), data))
}

/// How a new source stands at a site, with so many days of its plan behind it, and what was found there last.
fn standing(judged: &Judged, days: u32) -> String {
    let Judged { site, behind, is_stopped, finding, .. } = judged;
    if *is_stopped {
        return format!("{site}: nothing ({})", found(judged));
    }
    let resumed = if finding.course == source::Course::Stop { ", resumed" } else { "" };
    format!("{site}: day {} ({}{resumed})", days.saturating_sub(*behind) + 1, found(judged))
}

/// What was found last of a new source, and of which day.
pub fn found(judged: &Judged) -> String {
    format!("{}: {}", date_of(judged.day), judged.finding)
}

fn facts_of(judged: &Judged, days: u32) -> Value {
    let day = (!judged.is_stopped).then(|| days.saturating_sub(judged.behind) + 1);
    json!({ "site": &*judged.site, "day": day, "date": date_of(judged.day), "found": judged.finding.to_string() })
}

/// Like 2026-11-22.
fn date_of(day: i64) -> String {
    let text = Timestamp::from_secs(day.saturating_mul(86_400)).rfc3339();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// `50,100,200`, or `50x1.4..10000`: from the first by the factor to the last.
///
/// # Errors
/// In words.
pub fn days(text: &str) -> Result<Days, String> {
    let bad = || {
        format!(
            "{text:?} is no plan: list the days (50,100,200), or say from where, by what, and to where (50x1.4..10000)"
        )
    };
    let Some((from, rest)) = text.split_once('x') else {
        let all: Option<Vec<u32>> = text.split(',').map(|n| n.trim().parse().ok()).collect();
        return all.map(Days).ok_or_else(bad);
    };
    let (factor, to) = rest.split_once("..").ok_or_else(bad)?;
    let (from, factor, to): (u32, f64, u32) =
        (from.parse().map_err(|_| bad())?, factor.parse().map_err(|_| bad())?, to.parse().map_err(|_| bad())?);
    if from == 0 || factor.is_nan() || factor < 1.01 || to < from {
        return Err(bad());
    }
    let mut days = vec![from];
    let mut next = f64::from(from) * factor;
    while next < f64::from(to) {
        days.push(next as u32);
        next *= factor;
    }
    days.push(to);
    Ok(Days(days))
}

/// Caps, day by day.
#[derive(Clone, Debug)]
pub struct Days(pub Vec<u32>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_of_a_new_source_is_said_in_a_phrase() {
        let finding = |course| source::Finding { measure: source::Measure::Bounced, count: 6, among: 100, course };
        let judged = |course, behind| Judged {
            source: SourceId::DEFAULT,
            site: "google".into(),
            day: 20_414,
            finding: finding(course),
            days: 9,
            behind,
            is_stopped: course == source::Course::Stop,
        };
        let said = |course, behind| standing(&judged(course, behind), 10);
        assert_eq!(said(source::Course::Hold, 1), "google: day 10 (2025-11-22: 6 of 100 bounced: held)");
        assert_eq!(said(source::Course::Back(3), 9), "google: day 2 (2025-11-22: 6 of 100 bounced: set back 3 days)");
        assert_eq!(said(source::Course::Stop, 9), "google: nothing (2025-11-22: 6 of 100 bounced: stopped)");
        let resumed = Judged { is_stopped: false, ..judged(source::Course::Stop, 9) };
        assert_eq!(standing(&resumed, 10), "google: day 2 (2025-11-22: 6 of 100 bounced: stopped, resumed)");
    }

    #[test]
    fn a_plan_is_a_list_or_a_ramp() {
        assert_eq!(days("50,100, 200").unwrap().0, [50, 100, 200]);
        assert_eq!(days("100x2..1000").unwrap().0, [100, 200, 400, 800, 1000]);
        assert_eq!(days("0,5").unwrap().0, [0, 5]);
        for text in ["", "x", "50x", "50x1..100", "50x2..10", "0x2..10", "50xNaN..100", "-1", "5x2"] {
            assert!(days(text).is_err(), "{text}");
        }
        // Within reason, however small the factor.
        assert!(days("1x1.01..4294967295").unwrap().0.len() < 3000);
    }
}
