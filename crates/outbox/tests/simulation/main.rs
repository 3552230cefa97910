//! A day of sending to a simulated internet: what our shaping is worth (docs/simulation.md).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sender;

use std::sync::Arc;
use std::time::Duration;

use base::Stream;
use outbox::{Forecast, Load, Terms};
use sender::{Outcome, START, Sender, send};
use simnet::{Internet, Refusal};

const HOUR: Duration = Duration::from_secs(3600);
/// What one who hears nothing has: connections, and mails a second.
const FLAT: Sender = Sender::Flat(10, 20);

/// What one can change from outside, to look at a run: `SIMNET_SEED=7`, `SIMNET_SITES`, `SIMNET_MAILS`.
fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().map_or(or, |n| n.parse().expect("a number"))
}

fn made(seed: u64, sites: u64, mails: u64) -> Arc<Internet> {
    Arc::new(Internet::new(seed, sites as usize, mails as usize))
}

fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / HOUR.as_secs_f64()
}

/// The share of mails that were blocked, in percent.
fn blocked(internet: &Internet, outcome: &Outcome) -> f64 {
    outcome.blocked() as f64 * 100.0 / internet.mails.len() as f64
}

/// How long it took, by what a sender needs who knows all limits.
fn slower(internet: &Internet, outcome: &Outcome) -> f64 {
    let needs = internet.sites.iter().zip(internet.takes()).map(|(site, n)| site.needs(n));
    hours(outcome.last()) / hours(needs.max().unwrap_or_default())
}

fn report(who: &str, internet: &Internet, outcome: &Outcome) {
    let would: usize = internet.takes().iter().sum();
    println!(
        "{who}: {} mails, {} of {would} taken in {:.2} h ({:.2} of the least), {} attempts, {:.1} s",
        internet.mails.len(),
        outcome.taken(),
        hours(outcome.last()),
        slower(internet, outcome),
        outcome.sum(|l| l.attempts),
        outcome.real.as_secs_f64(),
    );
    let refused: Vec<_> = Refusal::ALL.iter().map(|why| format!("{why:?} {}", outcome.refused(*why))).collect();
    println!("  blocked: {:.2} %; refused: {}", blocked(internet, outcome), refused.join(", "));
    if number("SIMNET_SHOWN", 0) > 0 {
        internet.sites.iter().zip(&outcome.ledgers).for_each(|(site, ledger)| println!("  {}", site.told(ledger)));
    }
}

/// What `postroom simulate` says of the same load to the same hosts.
fn foretold(internet: &Internet, seed: u64) -> Forecast {
    let host = |site: &Arc<simnet::Site>| (site.hosts[0].clone(), site.character.clone(), site.seed());
    let hosts: Vec<_> = internet.sites.iter().map(host).collect();
    let hosts: Vec<_> = hosts.iter().map(|(host, character, seed)| (host.as_str(), character.clone(), *seed)).collect();
    let mails = internet.mails.iter().filter_map(|mail| Some((mail.number, mail.site? as u32))).collect();
    let terms = Terms {
        setup: queue::source::Setup::default(),
        delivered: Vec::new(),
        stream: Stream::Marketing,
        start: START,
        lifetime: queue::LIFETIME,
        seed,
    };
    outbox::forecast(&Load::to(&hosts, mails).unwrap(), &terms).unwrap()
}

/// How far the forecast is off: the time by a factor, and what is blocked by points.
fn compare(internet: &Internet, outcome: &Outcome, seed: u64) -> (f64, f64) {
    let said = foretold(internet, seed);
    let blocked_then = said.sum(|site| site.blocked) as f64 * 100.0 / internet.mails.len() as f64;
    let (time, points) = (hours(said.last()) / hours(outcome.last()), blocked_then - blocked(internet, outcome));
    println!(
        "foretold: {} taken in {:.2} h ({time:.2} of ours), blocked: {blocked_then:.2} % ({points:+.2})",
        said.sum(|site| site.delivered),
        hours(said.last()),
    );
    assert_eq!(said.sum(|site| site.delivered), outcome.taken(), "seed {seed}: the forecast delivers others");
    (time, points)
}

/// Ours delivers all there is to deliver, and is measured.
fn ours(seed: u64, sites: u64, mails: u64) -> (f64, f64) {
    let internet = made(seed, sites, mails);
    println!("seed {seed}, {sites} sites");
    let outcome = send(&internet, Sender::Adaptive, 72 * HOUR);
    report("ours", &internet, &outcome);
    assert_eq!(outcome.taken(), internet.takes().iter().sum::<usize>() as u64, "seed {seed}: a mail was not delivered");
    assert_eq!(outcome.sum(|l| l.twice), 0, "seed {seed}: a mail came twice");
    let (time, points) = compare(&internet, &outcome, seed);
    assert!(
        (0.8..1.25).contains(&time) && points.abs() < 0.3,
        "seed {seed}: the forecast is off: {time:.2}, {points:+.2}"
    );
    (blocked(&internet, &outcome), slower(&internet, &outcome))
}

/// And the other one, for as long as it takes to see what becomes of it.
fn flat(seed: u64, sites: u64, mails: u64, time: Duration) -> f64 {
    let internet = made(seed, sites, mails);
    let outcome = send(&internet, FLAT, time);
    report("flat", &internet, &outcome);
    blocked(&internet, &outcome)
}

#[test]
fn our_sender_is_hardly_blocked_where_one_that_hears_nothing_is() {
    let (seed, sites, mails) = (number("SIMNET_SEED", 3), number("SIMNET_SITES", 40), number("SIMNET_MAILS", 4000));
    let (blocked, slower) = ours(seed, sites, mails);
    let flat = flat(seed, sites, mails, HOUR / 6);
    // Runs of one seed differ a little by the order in which the store's threads answer. docs/simulation.md says at which seeds
    // this is missed.
    assert!(blocked < 0.5, "{blocked:.2} % of our mail was blocked");
    assert!(slower < 1.2, "it took {slower:.2} of the time that is needed");
    assert!(flat > 10.0, "only {flat:.2} % of the other's mail was blocked");
}

/// Of more seeds than can be sent for in a test, by the forecast, which is right about the pace: one site that is treated
/// wrongly shows in the time. `SIMNET_SEEDS` are so many.
#[test]
fn no_seed_is_blocked_or_takes_much_longer_than_it_must() {
    let (first, sites, mails) = (number("SIMNET_SEED", 1), number("SIMNET_SITES", 200), number("SIMNET_MAILS", 20_000));
    let seeds = number("SIMNET_SEEDS", 12);
    let mut all = Vec::new();
    for seed in first..first + seeds {
        let internet = made(seed, sites, mails);
        let said = foretold(&internet, seed);
        let needs = internet.sites.iter().zip(internet.takes()).map(|(site, n)| site.needs(n)).max();
        let (share, time) = (
            said.sum(|site| site.blocked) as f64 * 100.0 / internet.mails.len() as f64,
            hours(said.last()) / hours(needs.unwrap_or_default()),
        );
        println!("seed {seed}: blocked {share:.2} %, {time:.2} of the least");
        all.push((seed, share, time));
    }
    let average = |of: fn(&(u64, f64, f64)) -> f64| all.iter().map(of).sum::<f64>() / seeds as f64;
    println!("on average blocked {:.2} %, {:.2} of the least", average(|seed| seed.1), average(|seed| seed.2));
    let missed: Vec<_> = all.iter().filter(|(_, share, time)| *share >= 0.5 || *time > 1.2).collect();
    assert!(missed.is_empty(), "over 0.5 % or 1.2 times the least: {missed:?}");
}

#[test]
#[ignore = "minutes: make soak"]
fn a_day_of_sending_to_200_sites() {
    let (first, sites, mails) = (number("SIMNET_SEED", 1), number("SIMNET_SITES", 200), number("SIMNET_MAILS", 20_000));
    for seed in first..first + 3 {
        let ((blocked, slower), flat) = (ours(seed, sites, mails), flat(seed, sites, mails, HOUR));
        assert!(blocked < 0.5, "seed {seed}: {blocked:.2} % of our mail was blocked");
        assert!(slower <= 1.2, "seed {seed}: it took {slower:.2} of the time that is needed");
        assert!(flat > 10.0, "seed {seed}: only {flat:.2} % of the other's mail was blocked");
    }
}
