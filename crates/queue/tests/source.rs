//! Sources and pools, on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base::{OrganisationId, Stream, Timestamp};
use queue::source::{
    self, Count, Course, DEFAULT, Delivered, Fared, Finding, Measure, Member, NewSource, Rule, Scope, Setup, Share,
    SourceId, Used, UsedOf, What,
};
use queue::{Node, Queue};
use store::{Result, Store, Tx};
use testkit::{Bed, engines};

struct World {
    store: Store,
    changes: Arc<AtomicUsize>,
    // Last: it takes its directory away.
    _bed: Bed,
}

fn worlds() -> impl Iterator<Item = World> {
    engines().map(|bed| {
        let (store, changes) = (bed.open(&[queue::MIGRATIONS]), Arc::new(AtomicUsize::new(0)));
        let counted = changes.clone();
        store.subscribe(Box::new(move |event| {
            let changed = matches!(event.downcast_ref(), Some(queue::Event::Changed));
            counted.fetch_add(usize::from(changed), Ordering::Relaxed);
        }));
        World { store, changes, _bed: bed }
    })
}

impl World {
    fn write<T: Send + 'static>(&self, work: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        self.store.write_blocking(work)
    }

    fn add(&self, name: &'static str, n: u8) -> Result<SourceId> {
        self.write(move |tx| source::add(tx, name, &v4(n)))
    }

    fn add_pool(
        &self,
        name: &'static str,
        of: &'static [(&'static str, u32)],
        streams: &'static [Stream],
    ) -> Result<()> {
        self.write(move |tx| source::add_pool(tx, name, &members(of), streams))
    }

    /// What a refusal says.
    fn no<T>(&self, outcome: Result<T>) -> String {
        let error = outcome.err().expect("a refusal");
        error.refusal().unwrap_or_else(|| panic!("{error}")).reply().text.to_string()
    }

    fn setup(&self) -> Setup {
        self.store.read_blocking(source::setup).unwrap()
    }
}

fn v4(n: u8) -> NewSource {
    NewSource { v4: Some(Ipv4Addr::new(192, 0, 2, n)), ..NewSource::default() }
}

fn members(of: &[(&str, u32)]) -> Vec<(String, u32)> {
    of.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
}

#[test]
fn every_statement_is_understood() {
    for w in worlds() {
        w.store.read_blocking(|tx| source::ALL.iter().try_for_each(|sql| tx.prepare(sql))).unwrap();
    }
}

#[test]
fn a_source_is_kept_as_it_was_given_and_each_change_is_told() {
    for w in worlds() {
        assert_eq!(w.setup(), Setup::default());
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let new = move || NewSource { v6: Some(v6), ehlo: Some("MX2.Example.TEST".into()), ..v4(1) };
        let a = w.write(move |tx| source::add(tx, "a", &new())).unwrap();
        let setup = w.setup();
        let kept = setup.named("a").unwrap();
        assert_eq!(
            (kept.id, kept.v4, kept.v6, kept.ehlo.as_deref()),
            (a, v4(1).v4, Some(v6), Some("mx2.example.test"))
        );
        w.write(|tx| source::change(tx, "a", &v4(2))).unwrap();
        let kept = w.setup().named("a").unwrap();
        assert_eq!((kept.v4, kept.v6, kept.ehlo.as_deref()), (v4(2).v4, None, None));
        assert!(kept.reaches(true) && !kept.reaches(false));
        w.write(|tx| source::remove(tx, "a")).unwrap();
        assert_eq!(w.setup(), Setup::default());
        assert_eq!(w.changes.load(Ordering::Relaxed), 3);
        // A number is not given twice.
        assert_ne!(w.add("a", 1).unwrap(), a);
    }
}

#[test]
fn what_cannot_be_a_source_is_refused_in_words() {
    for w in worlds() {
        w.add("a", 1).unwrap();
        assert_eq!(w.no(w.add("a", 2)), "there is a source a already");
        assert_eq!(w.no(w.add("b", 1)), "192.0.2.1 is the address of the source a already");
        assert!(w.no(w.add("B 1", 2)).contains("is no name for a source"));
        assert!(w.no(w.add(DEFAULT, 2)).contains("already"));
        let change = |name: &'static str| w.write(move |tx| source::change(tx, name, &v4(3)));
        assert!(w.no(change(DEFAULT)).contains("this server itself"));
        assert_eq!(w.no(change("x")), "there is no source x; there are: a, default");
        for name in ["mx", "a b.test", "", "mx..test"] {
            let named = move || NewSource { ehlo: Some(name.into()), ..v4(9) };
            let refused = w.no(w.write(move |tx| source::add(tx, "n", &named())));
            assert!(refused.contains("no host name"), "{name}: {refused}");
        }
        // Changing one is not taking its own address from it.
        w.write(|tx| source::change(tx, "a", &v4(1))).unwrap();
        assert_eq!(w.setup().sources.len(), 1);
    }
}

#[test]
fn a_pool_has_sources_and_a_stream_one_pool() {
    for w in worlds() {
        let (a, b) = (w.add("a", 1).unwrap(), w.add("b", 2).unwrap());
        w.add_pool("bulk", &[("b", 3), ("a", 1)], &[Stream::Marketing]).unwrap();
        let pools = w.setup().pools;
        assert_eq!(pools[0].members, [Member { source: a, weight: 1 }, Member { source: b, weight: 3 }]);
        assert_eq!((&*pools[0].name, &pools[0].streams[..]), ("bulk", &[Stream::Marketing][..]));
        assert!(w.no(w.add_pool("bulk", &[("a", 1)], &[])).contains("already"));
        assert_eq!(w.no(w.add_pool("p", &[], &[])), "the pool p needs a source to send by");
        assert_eq!(w.no(w.add_pool("p", &[("x", 1)], &[])), "there is no source x; there are: a, b, default");
        assert!(w.no(w.add_pool("p", &[("a", 1), ("a", 2)], &[])).contains("twice"));
        assert!(w.no(w.add_pool("p", &[("a", 0)], &[])).contains("no weight"));
        let taken = w.no(w.add_pool("p", &[(DEFAULT, 1)], &[Stream::Mail, Stream::Marketing]));
        assert_eq!(taken, "the stream marketing is served by the pool bulk: take it from there first");
        // A refusal leaves nothing behind.
        assert_eq!(w.setup().pools.len(), 1);
        assert_eq!(w.no(w.write(|tx| source::remove(tx, "a"))), "a is in the pool bulk: give that other sources first");
        let only_b = || members(&[("b", 1)]);
        w.write(move |tx| source::change_pool(tx, "bulk", Some(&only_b()), Some(&[Stream::Mail]))).unwrap();
        let pools = w.setup().pools;
        assert_eq!((pools[0].members.len(), &pools[0].streams[..]), (1, &[Stream::Mail][..]));
        w.write(|tx| source::remove(tx, "a")).unwrap();
        w.write(|tx| source::remove_pool(tx, "bulk")).unwrap();
        assert_eq!(w.no(w.write(|tx| source::remove_pool(tx, "bulk"))), "there is no pool bulk, nor any other");
        assert!(w.setup().pools.is_empty());
    }
}

#[test]
fn an_organisation_has_pools_of_its_own_and_else_the_general_ones() {
    for w in worlds() {
        let (a, b) = (w.add("a", 1).unwrap(), w.add("b", 2).unwrap());
        let (own, other) = (OrganisationId(7), OrganisationId(8));
        w.add_pool("all", &[("a", 1)], &[Stream::Mail, Stream::Marketing]).unwrap();
        w.add_pool("own", &[("b", 1)], &[]).unwrap();
        w.write(move |tx| source::give_pool(tx, "own", Some(own))).unwrap();
        // It may serve what the general one does, of one organisation.
        w.write(|tx| source::change_pool(tx, "own", None, Some(&[Stream::Marketing]))).unwrap();
        let by = |stream, organisation| {
            let sources = w.setup().members(stream, organisation);
            sources.iter().map(|member| member.source).collect::<Vec<_>>()
        };
        assert_eq!([by(Stream::Marketing, own), by(Stream::Marketing, other)], [[b], [a]]);
        assert_eq!([by(Stream::Mail, own), by(Stream::Transactional, own)], [[a], [SourceId::DEFAULT]]);
        let taken = w.no(w.write(|tx| source::give_pool(tx, "own", None)));
        assert_eq!(taken, "the stream marketing is served by the pool all: take it from there first");
        // Its source is its alone, whoever would share it and on whichever way.
        let shared =
            |pool| format!("the source {pool} already: the sources of an organisation's pool send its mail alone");
        let both = |pool: &'static str| {
            let members = [("a".to_owned(), 1), ("b".to_owned(), 1)];
            w.no(w.write(move |tx| source::change_pool(tx, pool, Some(&members), None)))
        };
        assert_eq!(
            [both("all"), both("own")],
            [shared("b sends for the pool own"), shared("a sends for the pool all")]
        );
        w.add_pool("more", &[("b", 1)], &[]).unwrap();
        let serve = || w.write(|tx| source::change_pool(tx, "more", None, Some(&[Stream::Transactional])));
        assert_eq!(w.no(serve()), shared("b sends for the pool own"));
        w.write(move |tx| source::give_pool(tx, "more", Some(own))).unwrap();
        serve().unwrap();
        assert_eq!(
            w.no(w.write(move |tx| source::give_pool(tx, "more", Some(other)))),
            shared("b sends for the pool own")
        );
        w.write(|tx| source::remove_pool(tx, "more")).unwrap();
        assert!(w.no(w.write(move |tx| source::forget_organisation(tx, own))).starts_with("the pool own is its own"));
        w.write(|tx| source::remove_pool(tx, "own")).unwrap();
        w.write(move |tx| source::forget_organisation(tx, own)).unwrap();
        assert_eq!(by(Stream::Marketing, own), [a]);
    }
}

#[test]
fn figures_are_set_and_taken_back_and_go_with_their_source() {
    for w in worlds() {
        let a = w.add("a", 1).unwrap();
        let to = |source, site: Option<&str>, organisation: Option<i64>| Scope {
            source,
            site: site.map(Into::into),
            organisation: organisation.map(OrganisationId),
        };
        let rule =
            |scope: &Scope, key: &str, value: &str| Rule { scope: scope.clone(), key: key.into(), value: value.into() };
        let (google, by_a, theirs) = (to(None, Some("google"), None), to(Some(a), None, None), to(None, None, Some(7)));
        let set = |rules: Vec<Rule>| w.write(move |tx| source::set_rules(tx, &rules)).unwrap();
        set(vec![rule(&google, "connections", "3"), rule(&google, "rate", "1/s"), rule(&theirs, "rate", "2/s")]);
        set(vec![rule(&google, "connections", "4"), rule(&by_a, "idle", "9")]);
        let all = [
            rule(&theirs, "rate", "2/s"),
            rule(&google, "connections", "4"),
            rule(&google, "rate", "1/s"),
            rule(&by_a, "idle", "9"),
        ];
        assert_eq!(w.setup().rules, all);
        let unset = |keys: &'static [&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            let google = google.clone();
            w.write(move |tx| source::unset_rules(tx, &google, &keys)).unwrap()
        };
        assert_eq!((unset(&["rate", "tls"]), unset(&["rate"]), unset(&[])), (1, 0, 1));
        assert_eq!(w.setup().rules, [all[0].clone(), all[3].clone()]);
        w.write(|tx| source::remove(tx, "a")).unwrap();
        assert_eq!(w.setup().rules, all[..1]);
        w.write(|tx| source::forget_organisation(tx, OrganisationId(7))).unwrap();
        assert_eq!(w.setup().rules, []);
    }
}

#[test]
fn a_stop_is_kept_changed_and_taken_back_and_goes_with_its_source() {
    let now = Timestamp(1000);
    for w in worlds() {
        let a = w.add("a", 1).unwrap();
        let all =
            [What::Source(a), What::Site("google".into()), What::Stream(Stream::Mail), What::Domain("b.test".into())];
        for (n, what) in (0..).zip(all.clone()) {
            w.write(move |tx| source::stop(tx, &what, false, Timestamp(n))).unwrap();
        }
        let kept = w.setup().stops;
        assert_eq!(kept.iter().map(|stop| stop.what.clone()).collect::<Vec<_>>(), all);
        assert!(kept.iter().all(|stop| !stop.drains));
        w.write(|tx| source::stop(tx, &What::Site("google".into()), true, Timestamp(9))).unwrap();
        assert!(w.setup().stops[1].drains && w.setup().stops.len() == 4);
        let resume = || w.write(move |tx| source::resume(tx, &What::Site("google".into()), now)).unwrap();
        assert!(resume() && !resume());
        let ended = || w.setup().ended.iter().map(|e| (e.what.clone(), e.since, e.until)).collect::<Vec<_>>();
        // It was held before it was drained.
        assert_eq!(ended(), [(What::Site("google".into()), Timestamp(1), now)]);
        let later = move |n: i64| Timestamp(now.0 * n);
        assert!(w.write(move |tx| source::resume(tx, &What::Stream(Stream::Mail), later(2))).unwrap());
        assert_eq!(ended(), [(What::Stream(Stream::Mail), Timestamp(2), later(2))]);
        w.write(move |tx| source::stop(tx, &What::Stream(Stream::Mail), true, later(2))).unwrap();
        w.write(|tx| source::remove(tx, "a")).unwrap();
        assert_eq!(w.setup().stops.len(), 2);
    }
}

#[test]
fn a_source_that_was_not_used_for_a_month_begins_its_plan_anew_once() {
    for w in worlds() {
        let a = w.add("a", 1).unwrap();
        let caps = vec![(Share::All, vec![10, 20, 40, 100, 200])];
        w.write(move |tx| source::set_caps(tx, a, &caps, Timestamp(7))).unwrap();
        let fared = |sent| Fared { sent, tried: sent, ..Fared::default() };
        let counts = |day| ["x", "y"].map(|site| (Count { source: a, site: site.into(), day }, fared(1)));
        for day in 1..=4 {
            let of_day = counts(day);
            w.write(move |tx| source::count(tx, &of_day)).unwrap();
            w.write(move |tx| source::judge(tx, &[a], day + 1, 30, |_| None)).unwrap();
        }
        let bad = |days| Finding { measure: Measure::Blocked, count: 2, among: 60, course: Course::Back(days) };
        let found = [("x", 1, fared(2)), ("y", 9, fared(3))];
        for (site, _, fared) in found {
            w.write(move |tx| source::count(tx, &[(Count { source: a, site: site.into(), day: 5 }, fared)])).unwrap();
        }
        let rule = move |of: &Fared| found.iter().find(|(_, _, fared)| fared == of).map(|(_, days, _)| bad(*days));
        w.write(move |tx| source::judge(tx, &[a], 6, 30, rule)).unwrap();
        let stands = |today| {
            let read = move |tx: &mut Tx<'_>| source::setup(tx).and_then(|setup| source::delivered(tx, &setup, today));
            let days = w.store.read_blocking(read).unwrap().remove(0).1.days;
            let judged = w.setup().judged.iter().map(|j| (j.site.to_string(), j.days, j.behind)).collect::<Vec<_>>();
            (days, judged)
        };
        let is_cold = |today| w.store.read_blocking(move |tx| source::is_to_judge(tx, &[a], today, 30)).unwrap();
        let judge = |today| w.write(move |tx| source::judge(tx, &[a], today, 30, |_| None)).unwrap();
        assert_eq!(stands(6), (5, vec![("x".into(), 5, 2), ("y".into(), 5, 5)]));
        assert_eq!([35, 36].map(is_cold), [false, true]);
        judge(36);
        // A fifth of 200 is what its third day has; where it stood below that it still does.
        assert_eq!(stands(36), (2, vec![("y".into(), 2, 2)]));
        assert_eq!(w.setup().caps[0].began, Timestamp::from_secs(36 * 86_400));
        assert_eq!([36, 65, 66].map(is_cold), [false, false, true]);
        judge(66);
        assert_eq!(stands(66), (0, vec![]));
    }
}

#[test]
fn what_a_new_source_delivers_is_counted_by_site_and_day() {
    for w in worlds() {
        let a = w.add("a", 1).unwrap();
        let caps = |share: Share, days: &[u32]| vec![(share, days.to_vec())];
        let set = |caps: Vec<(Share, Vec<u32>)>, at| w.write(move |tx| source::set_caps(tx, a, &caps, Timestamp(at)));
        set(caps(Share::Each, &[5, 10]), 7).unwrap();
        set(caps(Share::Site("google".into()), &[1]), 8).unwrap();
        set(caps(Share::Each, &[6]), 9).unwrap();
        let kept: Vec<_> =
            w.setup().caps.iter().map(|cap| (cap.share.clone(), cap.days.to_vec(), cap.began.0)).collect();
        assert_eq!(kept, [(Share::Each, vec![6], 7), (Share::Site("google".into()), vec![1], 7)]);
        assert!(w.no(set(caps(Share::All, &[]), 9)).contains("1 to 365 days"));
        let count = |site: &str, day, sent| {
            (Count { source: a, site: site.into(), day }, Fared { sent, tried: sent, ..Fared::default() })
        };
        let note = |counts: Vec<(Count, Fared)>| w.write(move |tx| source::count(tx, &counts)).unwrap();
        note(vec![count("x", 3, 2), count("y", 3, 1)]);
        note(vec![count("x", 3, 2)]);
        note(vec![count("x", 5, 4)]);
        let of = |day| {
            let read = move |tx: &mut Tx<'_>| source::setup(tx).and_then(|setup| source::delivered(tx, &setup, day));
            w.store.read_blocking(read).unwrap().remove(0).1
        };
        assert_eq!(of(5), Delivered { days: 1, today: 4, sites: vec![("x".into(), 4)] });
        // Of days that are over and judged only that they were.
        w.write(move |tx| source::judge(tx, &[a], 5, 30, |_| None)).unwrap();
        assert_eq!(of(3), Delivered { days: 0, today: 5, sites: Vec::new() });
        assert_eq!(of(6), Delivered { days: 2, today: 0, sites: Vec::new() });
        assert!(w.write(move |tx| source::end_plan(tx, a)).unwrap() && w.setup().caps.is_empty());
        // What was under way then counts for no plan, and does not stay.
        note(vec![count("x", 5, 1)]);
        assert!(!w.store.read_blocking(move |tx| source::is_to_judge(tx, &[a], 6, 30)).unwrap());
        set(caps(Share::Each, &[5]), 10).unwrap();
        assert_eq!(of(6), Delivered::default());
        // Nor does what was judged of another plan.
        w.write(move |tx| source::judge(tx, &[a], 6, 30, |_| None)).unwrap();
        note(vec![count("x", 6, 1)]);
        w.write(move |tx| source::judge(tx, &[a], 7, 30, |_| None)).unwrap();
        assert!(w.write(move |tx| source::end_plan(tx, a)).unwrap());
        set(caps(Share::Each, &[5]), 11).unwrap();
        note(vec![count("x", 6, 1)]);
        let tried = Arc::new(AtomicUsize::new(0));
        let looked = tried.clone();
        let look = move |fared: &Fared| {
            looked.fetch_add(fared.tried as usize, Ordering::Relaxed);
            None
        };
        w.write(move |tx| source::judge(tx, &[a], 7, 30, &look)).unwrap();
        assert!(tried.load(Ordering::Relaxed) > 0, "a new plan's day is judged");
    }
}

#[test]
fn each_day_of_a_new_source_is_judged_once_at_each_site_and_ended_with_its_plan() {
    for w in worlds() {
        let a = w.add("a", 1).unwrap();
        let plan = vec![(Share::Each, vec![5, 10, 20, 40, 80, 160])];
        w.write(move |tx| source::set_caps(tx, a, &plan, Timestamp(7))).unwrap();
        let note = |site: &'static str, day, bounced| {
            let fared = Fared { sent: 1, tried: 1, bounced, ..Fared::default() };
            w.write(move |tx| source::count(tx, &[(Count { source: a, site: site.into(), day }, fared)])).unwrap();
        };
        // By the number of bounces, so that the test says what follows.
        let rule = |fared: &Fared| {
            let course = match fared.bounced {
                0 => return None,
                1 => Course::Hold,
                2 => Course::Back(2),
                _ => Course::Stop,
            };
            Some(Finding { measure: Measure::Bounced, count: fared.bounced, among: fared.tried, course })
        };
        let judge = |today| {
            let found = w.write(move |tx| source::judge(tx, &[a], today, 30, rule)).unwrap();
            found.iter().map(|one| (one.site.to_string(), one.day, one.behind)).collect::<Vec<_>>()
        };
        let waits = |day| w.store.read_blocking(move |tx| source::is_to_judge(tx, &[a], day, 30)).unwrap();
        note("x", 1, 1);
        note("y", 1, 0);
        assert_eq!((waits(1), waits(2)), (false, true));
        assert_eq!((judge(2), waits(2)), (vec![("x".into(), 1, 1)], false));
        // What comes late, of a day that was judged.
        note("x", 1, 3);
        note("x", 2, 0);
        assert_eq!(judge(3), []);
        // Of a good one too, and where nothing was found at all.
        note("x", 2, 3);
        note("y", 2, 3);
        assert_eq!((waits(3), judge(3), waits(3)), (true, vec![], false));
        // Two days that nobody judged meanwhile, and one without mail before them.
        note("x", 4, 1);
        note("x", 5, 2);
        note("y", 5, 3);
        assert_eq!(judge(6), [("x".into(), 4, 2), ("x".into(), 5, 4), ("y".into(), 5, 1)]);
        let stopped = || w.setup().judged.iter().map(|one| one.is_stopped).collect::<Vec<_>>();
        assert_eq!(stopped(), [false, true]);
        for day in 6..9 {
            note("z", day, 0);
        }
        judge(9);
        let let_go = |site: &'static str| w.write(move |tx| source::let_go(tx, a, site, 9)).unwrap();
        assert!(!let_go("x") && let_go("y") && !let_go("y"));
        let behind = || w.setup().judged.iter().map(|one| one.behind).collect::<Vec<_>>();
        assert_eq!((stopped(), behind()), (vec![false, false], vec![4, 4]));
        note("x", 9, 0);
        judge(10);
        assert_eq!(behind(), [4, 4]);
        note("x", 10, 1);
        judge(11);
        assert_eq!(behind(), [5, 4]);
        // At y the plan is over.
        note("x", 11, 0);
        judge(12);
        assert_eq!(behind(), [5]);
        w.write(move |tx| source::end_plan(tx, a)).unwrap();
        assert_eq!(behind(), []);
    }
}

/// What a source used is found by whoever has it, and what the one that each node has for itself used, by that node alone.
#[test]
fn what_is_used_up_is_kept_until_it_is_over_and_goes_with_its_source() {
    for w in worlds() {
        let node = |number| {
            let node = Node { number, name: String::new(), lease: Some(Duration::from_secs(3600)) };
            block_on(Queue::recover(&w.store, &node, Timestamp(0), None)).unwrap()
        };
        let [one, two] = [1, 2].map(node);
        let own = w.add("own", 1).unwrap();
        let of = |source, site, organisation, what: &str| UsedOf { source, site, organisation, what: what.into() };
        let rows: Vec<Used> = [
            (of(own, -5, None, "mails 3600/h"), 100),
            (of(own, -5, Some(OrganisationId(7)), "mails 3600/h"), 200),
            (of(own, i64::MAX, None, "pause"), 300),
            (of(SourceId::DEFAULT, 1, None, "mails 3600/h"), 400),
        ]
        .map(|(of, until)| Used { of, name: "mx.b.test".into(), until: Timestamp(until) })
        .into();
        let note = |queue: &Queue, some: &[Used], now| {
            let (queue, some) = (queue.clone(), some.to_vec());
            let note = move |tx: &mut Tx<'_>| {
                source::note_used(tx, &queue, &some)?;
                source::forget_used(tx, &queue, Timestamp(now))
            };
            w.write(note).unwrap();
        };
        let used = |queue: &Queue, sources: &[SourceId], now| {
            let (queue, sources) = (queue.clone(), sources.iter().copied().collect());
            let mut all = w.store.read_blocking(move |tx| source::used(tx, &queue, &sources, Timestamp(now))).unwrap();
            all.sort_by_key(|used| used.until);
            all
        };
        note(&one, &rows, 0);
        assert_eq!(used(&one, &[SourceId::DEFAULT, own], 0), rows);
        assert_eq!(used(&one, &[own], 100), rows[1..3]);
        // Less of it, and one that is over.
        note(&one, &[Used { until: Timestamp(250), ..rows[2].clone() }], 100);
        assert_eq!(used(&one, &[own], 0).iter().map(|used| used.until.0).collect::<Vec<_>>(), [200, 250]);
        assert_eq!(used(&two, &[SourceId::DEFAULT, own], 0).len(), 2, "what is another's is among it");
        block_on(one.leave(&w.store, Timestamp(0))).unwrap();
        note(&one, &rows, 0);
        assert_eq!(used(&two, &[own], 0).len(), 2, "its sources are another's");
    }
}

/// Of whatever node it is: who is down hears nothing.
#[test]
fn a_pause_that_is_ended_is_noted_of_no_node_any_more() {
    for w in worlds() {
        let node = |number| {
            let node = Node { number, name: String::new(), lease: Some(Duration::from_secs(3600)) };
            block_on(Queue::recover(&w.store, &node, Timestamp(0), None)).unwrap()
        };
        let own = w.add("own", 1).unwrap();
        let row = |source, site, what: &str, name: &str, until| {
            let of = UsedOf { source, site, organisation: None, what: what.into() };
            Used { of, name: name.into(), until: Timestamp(until) }
        };
        let ours = SourceId::DEFAULT;
        let (one, two) = (row(ours, 1, "pause", "mx.b.test", 100), row(ours, 1, "pause", "mx.b.test", 200));
        let (sender, by_own) = (row(ours, 1, "pause a.test", "mx.b.test", 150), row(own, 1, "pause", "mx.b.test", 120));
        let rest = [row(ours, 1, "mails 3600/h", "", 300), row(ours, 2, "pause", "xb.test", 300)];
        let [first, second] = [1, 2].map(node);
        for (queue, mut rows) in
            [(&first, vec![one.clone(), by_own.clone()]), (&second, vec![two.clone(), sender.clone()])]
        {
            rows.extend(rest.clone());
            let queue = queue.clone();
            w.write(move |tx| source::note_used(tx, &queue, &rows)).unwrap();
        }
        let end =
            |name: &'static str, source, now| w.write(move |tx| source::end_pauses(tx, name, source, Timestamp(now)));
        assert_eq!(end("mx.c.test", None, 0).unwrap(), []);
        assert_eq!(end("b.test", None, 200).unwrap(), [], "they are over");
        assert_eq!(end("b.test", Some(ours), 0).unwrap(), [two, sender, one]);
        assert_eq!(end("b.test", Some(ours), 0).unwrap(), []);
        assert_eq!(end("mx.b.test", None, 0).unwrap(), [by_own]);
        for queue in [first, second] {
            let left = move |tx: &mut Tx<'_>| source::used(tx, &queue, &[ours, own].into(), Timestamp(0));
            let mut left = w.store.read_blocking(left).unwrap();
            left.sort_by_key(|used| used.of.site);
            assert_eq!(left, rest);
        }
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}
