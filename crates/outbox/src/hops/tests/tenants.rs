//! Organisations with figures and pools of their own.

use super::*;
use crate::hops::room::OF_ONE_HOP;

/// Figures of the first organisation for a host of the administrator's.
fn bound(site: &str, figures: &[(&str, &str)]) -> queue::source::Setup {
    use queue::source::{Rule, Scope, Setup};
    let (site, organisation) = (Some(site.into()), Some(OrganisationId(1)));
    let scope = Scope { source: None, site, organisation };
    let rule = |(key, value): &(&str, &str)| Rule { scope: scope.clone(), key: (*key).into(), value: (*value).into() };
    Setup { rules: figures.iter().map(rule).collect(), ..Setup::default() }
}

fn by(work: Option<Work>) -> i64 {
    work.map_or(0, |work| work.message.organisation.0)
}

#[tokio::test(start_paused = true)]
async fn an_organisation_at_its_rate_keeps_back_no_other() {
    let (hops, a) = (hops(), hop("a"));
    hops.set_up(&bound("a", &[("rate", "2/s")]), &[]).unwrap();
    // What it may send in the next seconds stands in line, and the rest waits in the queue.
    let added = (0..100).filter(|_| !matches!(hops.add(&a, sent_by(1, 1)), Added::Bound(..))).count();
    assert_eq!(added, 9);
    let Added::Bound(_, wait, _) = hops.add(&a, sent_by(1, 1)) else { panic!("it has sent enough") };
    assert_eq!(wait, Duration::from_millis(2500));
    (0..5).for_each(|_| assert!(matches!(hops.add(&a, sent_by(2, 1)), Added::InLine)));
    assert_eq!([(); 6].map(|()| by(next(&hops, &a))), [1, 2, 2, 2, 2, 2]);
    for _ in 0..8 {
        let Next::Until([line, ..], wait) = hops.next(&a, 9, 0, true) else { panic!("it may send two a second") };
        assert_eq!(wait, Duration::from_millis(500));
        assert!(matches!(hops.add(&a, sent_by(2, 1)), Added::InLine));
        tokio::time::timeout(Duration::ZERO, line.notified()).await.expect("the other is not told of");
        hops.wake(&a, For::Work);
        assert_eq!(by(next(&hops, &a)), 2);
        tokio::time::advance(wait).await;
        assert_eq!(by(next(&hops, &a)), 1);
    }
    // What has no figures any more waits no longer.
    (0..8).for_each(|_| assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::InLine)));
    let Next::Until([line, ..], _) = hops.next(&a, 9, 0, true) else { panic!("it may send two a second") };
    hops.set_up(&Default::default(), &[]).unwrap();
    tokio::time::timeout(Duration::ZERO, line.notified()).await.expect("nobody is told of it");
    hops.wake(&a, For::Work);
    assert_eq!([(); 8].map(|()| by(next(&hops, &a))), [1; 8]);
}

/// What it sends in the turns that it has is first what is urgent.
#[tokio::test(start_paused = true)]
async fn marketing_of_an_organisation_takes_no_place_in_line_of_what_is_urgent() {
    let urgent = || {
        let work = of(Stream::Transactional, 1);
        Work { message: Arc::new(Message { organisation: OrganisationId(1), ..(*work.message).clone() }), ..work }
    };
    for figure in [("rate", "2/s"), ("connections", "1")] {
        let (hops, a) = (hops(), hop("a"));
        hops.set_up(&bound("a", &[figure]), &[]).unwrap();
        while !matches!(hops.add(&a, sent_by(1, 1)), Added::Bound(..)) {}
        assert!(matches!(hops.add(&a, urgent()), Added::InLine), "{figure:?}");
        assert_eq!(next(&hops, &a).unwrap().message.stream, Stream::Transactional, "{figure:?}");
        // Nor is there room for more of it than has its turn soon.
        let more = (0..2000).filter(|_| !matches!(hops.add(&a, urgent()), Added::Bound(..))).count();
        assert!((8..=OF_ONE_HOP / 2).contains(&more), "{more} of {figure:?}");
    }
}

/// What stood in line before there were any figures, and has its turn much later, waits in the queue.
#[tokio::test(start_paused = true)]
async fn what_is_bound_for_longer_than_a_connection_rests_is_put_off() {
    let (hops, a) = (hops(), hop("a"));
    (0..3).for_each(|_| drop(hops.add(&a, sent_by(1, 1))));
    hops.set_up(&bound("a", &[("rate", "1/m")]), &[]).unwrap();
    hops.add(&a, sent_by(2, 1));
    assert_eq!([(); 2].map(|()| by(next(&hops, &a))), [1, 2]);
    let Next::Bound(later) = hops.next(&a, 9, 0, true) else { panic!("a minute is long") };
    let turns: Vec<_> = later.iter().map(|(work, wait)| (work.message.organisation.0, wait.as_secs())).collect();
    assert_eq!(turns, [(1, 60), (1, 120)]);
    // As long as another's mail is there that goes first, and none of it is put off.
    hops.add(&a, sent_by(2, 1));
    assert_eq!(by(next(&hops, &a)), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_takes_no_turn_of_its_organisation() {
    let (hops, a) = (hops(), hop("a"));
    hops.set_up(&bound("a", &[("rate", "1/m")]), &[]).unwrap();
    hops.add(&a, sent_by(1, 1));
    let work = next(&hops, &a).unwrap();
    assert_eq!(work.message.organisation, OrganisationId(1));
    hops.unsent(&a, &work);
    assert!(!matches!(hops.add(&a, sent_by(1, 1)), Added::Bound(..)));
    let work = next(&hops, &a).unwrap();
    assert!(hops.give_back(&a, work, true).is_none());
    assert_eq!(by(next(&hops, &a)), 1);
    assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::Bound(..)), "this one was");
}

/// Also of what stood in line before there were any.
#[tokio::test(start_paused = true)]
async fn an_organisation_has_no_more_connections_than_it_may() {
    let (hops, a) = (hops(), hop("a"));
    (0..5).for_each(|_| drop(hops.add(&a, sent_by(1, 25))));
    (0..5).for_each(|_| drop(hops.add(&a, sent_by(2, 1))));
    hops.set_up(&bound("a", &[("connections", "1")]), &[]).unwrap();
    let first = next(&hops, &a);
    assert_eq!((by(first.clone()), first.as_ref().map(|work| work.deliveries.len())), (1, Some(9)));
    assert_eq!([(); 5].map(|()| by(next(&hops, &a))), [2; 5]);
    assert!(matches!(hops.next(&a, 9, 0, true), Next::Until(..)), "the first is under way");
    hops.wake(&a, For::Work);
    drop(first);
    let rest = next(&hops, &a);
    assert_eq!(by(rest.clone()), 1);
    assert!(matches!(hops.next(&a, 9, 0, true), Next::Until(..)), "its rest is");
    hops.wake(&a, For::Work);
    // It was not begun.
    assert!(hops.give_back(&a, rest.unwrap(), true).is_none());
    assert_eq!(by(next(&hops, &a)), 1);
}

#[test]
fn an_organisation_with_few_connections_takes_half_of_the_places() {
    let (hops, a) = (hops(), hop("a"));
    hops.set_up(&bound("a", &[("connections", "1")]), &[]).unwrap();
    let started: Vec<_> = (0..OF_ONE_HOP).map(|_| hops.add(&a, sent_by(1, 1))).collect();
    let n = |is: fn(&Added) -> bool| started.iter().filter(|added| is(added)).count();
    assert_eq!(n(|added| matches!(added, Added::Start(_))), 1, "more would have nothing to carry");
    assert_eq!(n(|added| matches!(added, Added::Bound(..))), OF_ONE_HOP / 2);
    let others = (0..OF_ONE_HOP).filter(|_| !matches!(hops.add(&a, sent_by(2, 1)), Added::Full(..))).count();
    assert_eq!(others, OF_ONE_HOP / 2);
}

/// A site said something to a mail.
fn answered(hops: &Hops, hop: &Hop, work: &Option<Work>) {
    hops.answered(hop, work.as_ref().unwrap().ticket);
}

/// The lines of a site share what an organisation may have there.
#[tokio::test(start_paused = true)]
async fn a_line_that_waits_for_others_of_its_organisation_has_its_turn() {
    let hops = hops();
    hops.set_up(&bound("microsoft365", &[("connections", "1")]), &[]).unwrap();
    let [a, b] = [0, 1].map(|n| mail_hosts(&format!("t{n}.mail.protection.outlook.com")));
    assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::Start(_)));
    let first = next(&hops, &a);
    assert_eq!(by(first.clone()), 1);
    assert!(matches!(hops.add(&b, sent_by(1, 1)), Added::InLine));
    assert!(matches!(hops.add(&b, sent_by(2, 1)), Added::Start(_)), "who has no figures does not wait");
    answered(&hops, &a, &first);
    let other = next(&hops, &b);
    assert_eq!(by(other.clone()), 2);
    assert!(matches!(hops.next(&b, 9, 1, true), Next::Until(..)));
    hops.wake(&b, For::Work);
    assert!(hops.leave(&b, false, false).is_empty(), "it would find nothing to do");
    answered(&hops, &b, &other);
    hops.connected(&a);
    assert!(matches!(hops.next(&a, 9, 1, true), Next::Rest(_)), "to leave would help nobody");
    hops.wake(&a, For::Work);
    drop(first);
    assert!(matches!(hops.next(&a, 9, 1, true), Next::Rest(_)));
    assert_eq!(hops.called().1, std::slice::from_ref(&b));
    // As fast as the site takes them.
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(by(next(&hops, &b)), 1);
}

/// The lines of some customers of a provider, of which an organisation may have one connection: it is one's who carries its mail.
fn lines_that_wait(n: usize) -> (Hops, Hop, Option<Work>, Vec<Hop>) {
    let hops = hops();
    let mut setup = bound("microsoft365", &[("connections", "1")]);
    let scope = queue::source::Scope { organisation: None, ..setup.rules[0].scope.clone() };
    let rule =
        |(key, value): (&str, &str)| queue::source::Rule { scope: scope.clone(), key: key.into(), value: value.into() };
    setup.rules.extend([("connections", "9"), ("start_connections", "9")].map(rule));
    hops.set_up(&setup, &[]).unwrap();
    let tenant = |n: usize| mail_hosts(&format!("t{n}.mail.protection.outlook.com"));
    let first = tenant(0);
    assert!(matches!(hops.add(&first, sent_by(1, 1)), Added::Start(_)));
    hops.connected(&first);
    let work = next(&hops, &first);
    let waiting: Vec<Hop> = (1..=n).map(tenant).collect();
    waiting.iter().for_each(|hop| assert!(matches!(hops.add(hop, sent_by(1, 1)), Added::InLine)));
    (hops, first, work, waiting)
}

#[tokio::test(start_paused = true)]
async fn a_line_waits_no_longer_than_others_of_its_organisation_send() {
    let (hops, first, work, waiting) = lines_that_wait(1);
    (0..3).for_each(|_| drop(hops.add(&first, sent_by(2, 1))));
    tokio::time::advance(Duration::from_secs(1)).await;
    answered(&hops, &first, &work);
    let other = next(&hops, &first);
    assert_eq!((by(other.clone()), hops.called().1), (2, vec![]));
    drop(work);
    answered(&hops, &first, &other);
    tokio::time::advance(Duration::from_secs(10)).await;
    let next = hops.next(&first, 9, 1, true);
    assert!(matches!(next, Next::Send(_)), "the connection goes on with another's mail: {next:?}");
    assert_eq!(hops.called().1, waiting);
}

#[test]
fn a_line_waits_no_longer_than_there_are_figures() {
    let (hops, _, _work, waiting) = lines_that_wait(1);
    hops.set_up(&Default::default(), &[]).unwrap();
    assert_eq!(hops.called().1, waiting);
}

#[tokio::test(start_paused = true)]
async fn no_more_lines_are_started_than_an_organisation_may_have_connections() {
    let (hops, first, work, waiting) = lines_that_wait(9);
    answered(&hops, &first, &work);
    drop(work);
    assert_eq!(hops.leave(&first, true, false), waiting[..1]);
    // It is about to be connected, and nobody else is to be.
    let other = mail_hosts("t99.mail.protection.outlook.com");
    assert!(matches!(hops.add(&other, sent_by(1, 1)), Added::InLine));
    assert_eq!(hops.leave(&waiting[0], false, false), waiting[1..2], "it was not to be had there");
    hops.connected(&waiting[1]);
    tokio::time::advance(Duration::from_secs(1)).await;
    let work = next(&hops, &waiting[1]);
    assert_eq!((by(work.clone()), hops.called().1), (1, vec![]), "that is the one");
    drop(work);
    assert!(matches!(hops.next(&waiting[1], 9, 1, true), Next::Rest(_)));
    assert_eq!(hops.called().1, waiting[2..3]);
}

#[test]
fn lines_that_are_no_more_are_in_nobodys_way() {
    let (hops, first, work, waiting) = lines_that_wait(40);
    hops.take_out(|work| work.message.organisation.0 == 1);
    let last = &waiting[39];
    assert!(matches!(hops.add(last, sent_by(1, 1)), Added::InLine));
    assert_eq!(hops.lock().sites.iter_mut().map(|(_, site)| site.bound.len()).sum::<usize>(), 1);
    drop(work);
    assert_eq!(hops.leave(&first, true, false), std::slice::from_ref(last));
}

#[test]
fn the_pool_of_an_organisation_is_its_own_and_its_mail_stays_there() {
    use queue::source::{Cap, Delivered, Member, Pool, Setup, Share, Source, SourceId};
    let (hops, a) = (hops(), hop("a"));
    let [own, all] = [1, 2].map(SourceId::read);
    let source = |id| Source { id, name: id.stored().to_string().into(), ..Source::default_one() };
    let pool = |source, organisation: Option<i64>| Pool {
        name: "p".into(),
        members: vec![Member { source, weight: 1 }],
        streams: vec![Stream::Marketing],
        organisation: organisation.map(OrganisationId),
    };
    let pools = vec![pool(own, Some(1)), pool(all, None)];
    let setup = Setup { sources: [own, all].map(source).into(), pools, ..Setup::default() };
    hops.set_up(&setup, &[]).unwrap();
    let by = |work| match hops.add(&a, work) {
        Added::Start(hop) => hop.source.stored(),
        other => panic!("{other:?}"),
    };
    assert_eq!([by(sent_by(1, 1)), by(sent_by(2, 1))], [1, 2]);
    // Of a new source the rest goes to others of its pool, and there are none.
    let cap = Cap { source: own, share: Share::All, days: [0].into(), began: Timestamp(0) };
    hops.set_up(&Setup { caps: vec![cap], ..setup.clone() }, &[(own, Delivered::default())]).unwrap();
    assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::No(_, No::Spent { .. })));
    assert!(matches!(hops.add(&a, sent_by(2, 1)), Added::InLine | Added::Start(_)));
    // Without a pool of its own it leaves by that of all.
    hops.set_up(&Setup { pools: vec![pool(all, None)], ..setup }, &[]).unwrap();
    hops.drain();
    let hop = a.by(all);
    assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::InLine | Added::Start(_)));
    assert_eq!(next(&hops, &hop).unwrap().message.organisation.0, 1);
}

/// Of several servers one has the sources of a pool: to the others its mail is not out of reach, and no attempt is made.
#[test]
fn what_leaves_only_by_sources_of_another_server_is_not_tried() {
    use queue::source::{Member, Pool, Setup, Source, SourceId};
    let (hops, a, own) = (hops(), hop("a"), SourceId::read(1));
    let source = Source { id: own, name: "own".into(), ..Source::default_one() };
    let pool = Pool {
        name: "p".into(),
        members: vec![Member { source: own, weight: 1 }],
        streams: vec![Stream::Marketing],
        organisation: Some(OrganisationId(1)),
    };
    let mut setup = Setup { sources: vec![source], pools: vec![pool], ..Setup::default() };
    setup.restrict(&[]);
    hops.set_up(&setup, &[]).unwrap();
    assert!(matches!(hops.add(&a, sent_by(1, 1)), Added::No(_, No::Stopped)));
    assert!(matches!(hops.add(&a, sent_by(2, 1)), Added::Start(_)));
}
