use std::time::Duration;

use base::{Stream, Timestamp};
use peers::{Block, Character, Faults, Quota, Tls, Wording};
use queue::source::{Cap, Delivered, Member, Pool, Rule, Scope, Setup, Share, Source, SourceId, Stop, What};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
/// Midnight, 14 November 2023.
const START: Timestamp = Timestamp::from_secs(1_699_920_000);

pub(super) fn lenient() -> Character {
    Character {
        connections: 50,
        messages: 1000,
        quotas: Vec::new(),
        wording: Wording::SlowDown,
        patience: 100.0,
        block: Block::Defers,
        blocks_for: HOUR,
        reply: Duration::from_millis(50),
        tarpit: Duration::ZERO,
        reads_for: Duration::ZERO,
        greylist: None,
        tls: Tls::None,
        faults: Faults::default(),
    }
}

fn terms() -> Terms {
    Terms {
        setup: Setup::default(),
        delivered: Vec::new(),
        stream: Stream::Marketing,
        start: START,
        lifetime: 120 * HOUR,
        seed: 1,
    }
}

fn sources(n: i64) -> Setup {
    let source =
        |n: i64| Source { id: SourceId::read(n), name: format!("s{n}").into(), v4: None, v6: None, ehlo: None };
    let members = (1..=n).map(|n| Member { source: SourceId::read(n), weight: 1 }).collect();
    let pool = Pool { name: "all".into(), members, streams: vec![Stream::Marketing], organisation: None };
    Setup { sources: (1..=n).map(source).collect(), pools: vec![pool], ..Setup::default() }
}

/// All to one site.
fn to(character: Character, mails: u64) -> Load {
    Load::to(&[("mx.example.test", character, 7)], (0..mails).map(|n| (n, 0)).collect()).unwrap()
}

fn mix() -> Mix {
    Mix::read("schema = 1\n[[site]]\nname = \"a\"\nshare = 3\nunknown = 0.05\nlater = 0.02\n[[site]]\nname = \"b\"\nshare = 1\nsites = 5\nfull = 0.02\ngreylist = 5\n").unwrap()
}

#[test]
fn one_number_makes_one_forecast_and_all_recipients_are_in_it() {
    let of = |seed| forecast(&Load::of(&mix(), 3000, seed), &Terms { seed, ..terms() }).unwrap();
    let shown = |f: &Forecast| format!("{f:?}");
    let (first, again, other) = (of(1), of(1), of(2));
    assert_eq!(shown(&first), shown(&again));
    assert_ne!(shown(&first), shown(&other));
    for found in [first, other] {
        assert_eq!(found.sum(|s| s.recipients), 3000);
        for site in &found.sites {
            assert_eq!(site.recipients, site.delivered + site.bounced + site.expired, "{site:?}");
        }
        assert_eq!(found.hours.iter().sum::<u64>(), found.sum(|s| s.delivered));
        // Of three quarters a twentieth is unknown, and of the last quarter a fiftieth is never done.
        let (bounced, expired) = (found.sum(|s| s.bounced), found.sum(|s| s.expired));
        assert!((80..150).contains(&bounced) && (5..30).contains(&expired), "{bounced} {expired}");
        // All that are greylisted are put off.
        assert!(found.sites[1].deferred > found.sites[1].delivered * 9 / 10, "{found:?}");
    }
}

#[test]
fn our_own_figure_for_all_sites_is_a_bound() {
    // Twenty a second, says site-policies.toml.
    let found = forecast(&to(lenient(), 72_000), &terms()).unwrap();
    let (last, kept) = (found.last().as_secs(), found.sites[0].kept.as_ref().unwrap().1);
    assert!((3560..3900).contains(&last), "{last} s");
    assert_eq!(kept, Reason::OurRate);
    // An operator's figure goes before it.
    let rule = |key: &str, value: &str| Rule { scope: Scope::default(), key: key.into(), value: value.into() };
    let setup = Setup { rules: vec![rule("rate", "80/s"), rule("connections", "20")], ..Setup::default() };
    let faster = forecast(&to(lenient(), 72_000), &Terms { setup, ..terms() }).unwrap();
    assert!(faster.last() < HOUR / 3, "{:?}", faster.last());
}

#[test]
fn a_site_that_counts_takes_what_it_takes_and_two_sources_bring_twice_as_much() {
    let counts = Character { quotas: vec![Quota { count: 600, span: HOUR }], ..lenient() };
    let load = to(counts.clone(), 6000);
    let by = |n| forecast(&load, &Terms { setup: sources(n), ..terms() }).unwrap();
    let (one, two) = (by(1), by(2));
    // Ten hours' quotas, of which the first is there at the start and the last at its end.
    assert!((9 * HOUR..12 * HOUR).contains(&one.last()), "{:?}", one.last());
    assert!(two.last() < one.last() * 6 / 10, "{:?} {:?}", one.last(), two.last());
    assert_eq!(one.sites[0].kept.as_ref().unwrap().1, Reason::ItsQuota);
    assert!(one.sites[0].blocked > 0 && one.sites[0].blocked < 60, "{:?}", one.sites[0]);
}

#[test]
fn a_plan_for_a_new_source_stretches_a_load_over_days() {
    let mut setup = sources(1);
    let (source, began) = (SourceId::read(1), START);
    let days = vec![100, 200, 400, 800].into();
    setup.caps = vec![Cap { source, share: Share::All, days, began }];
    let delivered = vec![(source, Delivered::default())];
    let terms = Terms { setup, delivered, ..terms() };
    let found = forecast(&to(lenient(), 1000), &terms).unwrap();
    let by_day: Vec<u64> = found.hours.chunks(24).map(|day| day.iter().sum()).collect();
    assert_eq!(by_day, [100, 200, 400, 300]);
    assert_eq!(found.sites[0].kept.as_ref().unwrap().1, Reason::Plan);
    // What has no day left in its lifetime is given up, and said to be.
    let short = forecast(&to(lenient(), 1000), &Terms { lifetime: 47 * HOUR, ..terms }).unwrap();
    assert_eq!((short.sites[0].delivered, short.sites[0].expired), (300, 700));
}

#[test]
fn a_site_of_one_slow_connection_is_bound_by_it() {
    let slow = Character { connections: 1, reads_for: Duration::from_secs(1), ..lenient() };
    let found = forecast(&to(slow, 3000), &terms()).unwrap();
    // A flight, a body and its answer each.
    let least = Duration::from_millis(1100) * 3000;
    assert!((least..least * 12 / 10).contains(&found.last()), "{:?}", found.last());
}

/// What is asked by mistake fails at once, and does not take the machine's memory.
#[test]
fn more_sites_and_sources_than_a_forecast_can_know_are_refused() {
    let many = "schema = 1\n[[site]]\nname = \"a\"\nshare = 1\nsites = 10000\n";
    let load = Load::of(&Mix::read(many).unwrap(), 10, 1);
    let refused = forecast(&load, &Terms { setup: sources(11), ..terms() }).unwrap_err();
    assert!(refused.starts_with("10000 sites by 11 sources are more"), "{refused}");
    assert_eq!(forecast(&load, &Terms { setup: sources(10), ..terms() }).unwrap().sum(|site| site.recipients), 10);
}

#[test]
fn a_source_that_is_stopped_sends_nothing() {
    let mut setup = sources(1);
    let stop = |n| Stop { what: What::Source(SourceId::read(n)), since: START, drains: false };
    setup.stops = vec![stop(1)];
    let refused = forecast(&to(lenient(), 1), &Terms { setup, ..terms() }).unwrap_err();
    assert!(refused.contains("stopped"), "{refused}");
}

/// As it is where mail is sent: days that do not count are found by it.
#[test]
fn a_provider_that_is_many_sites_is_counted_by_the_host_of_each() {
    let label = |host| Load::to(&[(host, lenient(), 7)], Vec::new()).unwrap().sites[0].label().to_owned();
    assert_eq!(label("aspmx.l.google.com"), "google");
    assert_eq!(label("eu-1.mimecast.com"), "eu-1.mimecast.com");
}
