use std::collections::BTreeSet;
use std::sync::Arc;

use queue::source::{Ended, Quiet, SourceId, What};

use crate::route::To;

use super::order::GROUPS;
use super::*;

const ONE: OrganisationId = OrganisationId(1);

fn room() -> Rooms {
    Rooms::default()
}

fn at(t: i64) -> Timestamp {
    Timestamp(t)
}

fn group(stream: Stream, domain: i64) -> Group {
    Group { stream, organisation: ONE, domain, priority: 0 }
}

fn hop() -> Hop {
    Hop { to: To::Smarthost, source: SourceId::DEFAULT, require_tls: false, sts: None, dane: false }
}

fn picked(wants: &[Want]) -> Vec<(Stream, i64, u32)> {
    wants.iter().map(|w| (w.group.stream, w.group.domain, w.most)).collect()
}

#[test]
fn groups_are_picked_when_they_are_due_and_not_twice() {
    let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
    t.ring(a, at(10));
    t.ring(b, at(20));
    assert!(t.pick(at(9), &room(), 100).is_empty());
    assert_eq!(t.next(at(0), &room()), Some(at(10)));
    assert_eq!(picked(&t.pick(at(10), &room(), 100)), [(Stream::Mail, 1, 100)]);
    assert!(t.pick(at(10), &room(), 100).is_empty());
    // What rings while it is claimed of is not lost.
    t.ring(a, at(15));
    t.claimed(&[(a, Some(at(30)))]);
    assert_eq!(t.next(at(0), &room()), Some(at(15)));
    assert_eq!(picked(&t.pick(at(20), &room(), 100)), [(Stream::Mail, 1, 50), (Stream::Mail, 2, 50)]);
    t.claimed(&[(a, None), (b, None)]);
    assert_eq!((t.next(at(0), &room()), t.lock().groups.len()), (None, 0));
}

#[test]
fn what_could_not_be_claimed_is_due_as_before() {
    let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
    t.ring(a, at(10));
    let wants = t.pick(at(10), &room(), 9);
    t.ring(a, at(5));
    t.failed(&wants);
    assert_eq!(t.next(at(0), &room()), Some(at(5)));
}

#[test]
fn a_held_group_waits_whatever_rings_and_others_do_not() {
    let (t, a, b) = (Timetable::default(), group(Stream::Marketing, 1), group(Stream::Mail, 1));
    t.ring(a, at(0));
    t.hold(a, at(100), at(0), Why::Busy);
    // Its turn, not that of the last who waits.
    t.hold(a, at(900), at(0), Why::Busy);
    t.ring(a, at(1));
    t.ring(b, at(1));
    assert_eq!(picked(&t.pick(at(50), &room(), 9)), [(Stream::Mail, 1, 9)]);
    assert_eq!(picked(&t.pick(at(100), &room(), 9)), [(Stream::Marketing, 1, 9)]);
    // Also while it is claimed of.
    t.hold(a, at(300), at(100), Why::Busy);
    t.claimed(&[(a, Some(at(0)))]);
    assert_eq!(t.next(at(0), &room()), Some(at(300)));
}

#[test]
fn a_group_of_which_all_was_claimed_is_held_as_well() {
    let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
    t.ring(a, at(0));
    t.pick(at(0), &room(), 9);
    t.claimed(&[(a, None)]);
    t.hold(a, at(100), at(0), Why::Busy);
    // What was put off, and what is new.
    t.ring(a, at(100));
    t.ring(a, at(1));
    assert_eq!((t.held_groups(at(99)), t.held_groups(at(100))), (1, 0));
    assert!(t.pick(at(99), &room(), 9).is_empty());
    assert_eq!(picked(&t.pick(at(100), &room(), 9)), [(Stream::Mail, 1, 9)]);
}

#[test]
fn of_what_was_more_than_its_organisation_may_send_little_is_claimed_at_first() {
    let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
    let most = |now| {
        let wants = t.pick(at(now), &room(), 200);
        t.claimed(&[(a, Some(at(0)))]);
        wants.iter().map(|want| want.most).collect::<Vec<_>>()
    };
    t.ring(a, at(0));
    assert_eq!(most(0), [200]);
    t.hold(a, at(100), at(0), Why::Bound);
    assert_eq!(
        [most(99), most(100), most(100), most(100), most(100)],
        [vec![], vec![8], vec![32], vec![128], vec![200]]
    );
    t.hold(a, at(200), at(100), Why::Bound);
    assert_eq!([most(200), most(200)], [[8], [32]]);
    // Nor of one of which all was claimed.
    let b = group(Stream::Mail, 2);
    t.hold(b, at(300), at(200), Why::Bound);
    let wants = t.pick(at(300), &room(), 200);
    assert_eq!(wants.iter().find(|want| want.group == b).map(|want| want.most), Some(8));
}

#[test]
fn what_is_let_go_is_due_at_once() {
    let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
    t.ring(a, at(0));
    t.hold(a, at(100), at(0), Why::Busy);
    t.let_go(&[a, b]);
    assert_eq!(picked(&t.pick(at(1), &room(), 9)), [(Stream::Mail, 1, 9)]);
}

#[test]
fn what_is_stopped_is_not_picked_whatever_comes_of_it() {
    let (t, a, b, c) =
        (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2), group(Stream::Marketing, 3));
    t.ring(a, at(0));
    t.ring(c, at(0));
    t.stop(Stopped { streams: [false, false, true], domains: [1, 2].into(), ..Stopped::default() });
    // One that is known, one that is new, and one that was put off.
    t.ring(b, at(0));
    t.hold(group(Stream::Transactional, 2), at(5), at(0), Why::Busy);
    t.let_go(&[a, b, c]);
    assert!(t.pick(at(1000), &room(), 9).is_empty());
    assert_eq!((t.next(at(0), &room()).filter(|at| *at < EVER), t.first_due()), (None, None));
    assert_eq!(t.held(b), Some((EVER, Why::Stopped)));
    t.stop(Stopped::default());
    assert_eq!(picked(&t.pick(at(1000), &room(), 9)).len(), 4);
}

#[test]
fn every_stream_has_its_share_and_room_of_its_own() {
    let t = Timetable::default();
    for domain in 0..1000 {
        t.ring(group(Stream::Marketing, domain), at(0));
    }
    t.ring(group(Stream::Transactional, 7), at(5));
    let wants = t.pick(at(9), &room(), 100);
    let of = |stream| wants.iter().filter(|w| w.group.stream == stream).map(|w| w.most).sum::<u32>();
    // Eight to two.
    assert_eq!((of(Stream::Transactional), of(Stream::Marketing)), (80, 20));
    t.failed(&wants);
    let mut rooms = room();
    rooms.claimed(Stream::Marketing, ONE, rooms.room(Stream::Marketing));
    assert_eq!(picked(&t.pick(at(9), &rooms, 100)), [(Stream::Transactional, 7, 100)]);
    assert_eq!(t.next(at(0), &rooms), None);
}

#[test]
fn a_batch_is_spread_over_many_groups() {
    let t = Timetable::default();
    (0..1000).for_each(|domain| t.ring(group(Stream::Mail, domain), at(0)));
    let wants = t.pick(at(0), &room(), 256);
    assert_eq!((wants.len(), wants.iter().map(|w| w.most).sum::<u32>()), (GROUPS, 256));
    assert!(wants.iter().all(|w| w.most == 4));
}

fn of_organisation(organisation: i64, domain: i64) -> Group {
    Group { organisation: OrganisationId(organisation), ..group(Stream::Marketing, domain) }
}

#[test]
fn an_organisation_with_many_groups_starves_no_other() {
    let t = Timetable::default();
    (0..100_000).for_each(|domain| t.ring(of_organisation(1, domain), at(domain)));
    // It is due last.
    t.ring(of_organisation(2, 5), at(200_000));
    let wants = t.pick(at(200_000), &room(), 256);
    let of = |o| wants.iter().filter(|w| w.group.organisation.0 == o).map(|w| w.most).sum::<u32>();
    assert_eq!((of(1), of(2)), (128, 128));
    t.failed(&wants);
    // With all places but those that are left to others, it waits, and nobody wakes for it.
    let mut rooms = room();
    rooms.claimed(Stream::Marketing, ONE, rooms.room_of(Stream::Marketing, ONE));
    let wants = t.pick(at(200_000), &rooms, 256);
    assert!(wants.iter().all(|w| w.group.organisation.0 == 2), "{wants:?}");
    t.claimed(&[(of_organisation(2, 5), None)]);
    assert_eq!(t.next(at(0), &rooms), None);
    assert_eq!(t.next(at(0), &room()), Some(at(0)));
}

#[test]
fn of_what_is_due_the_most_urgent_is_first() {
    let t = Timetable::default();
    let of = |priority, domain| Group { priority, ..group(Stream::Mail, domain) };
    t.ring(of(0, 1), at(0));
    t.ring(of(-9, 1), at(0));
    t.ring(of(4, 1), at(5));
    t.ring(of(9, 1), at(100));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let wants = t.pick(at(9), &room(), 100);
        seen.extend(wants.iter().map(|w| (w.group.priority, w.most)));
        t.claimed(&wants.iter().map(|w| (w.group, None)).collect::<Vec<_>>());
    }
    assert_eq!(seen, [(4, 100), (0, 100), (-9, 100)]);
    assert_eq!(t.next(at(0), &room()), Some(at(100)));
}

#[test]
fn what_is_less_urgent_has_its_turn_however_much_is_urgent() {
    let t = Timetable::default();
    let of = |priority, domain| Group { priority, ..group(Stream::Mail, domain) };
    (0..10_000).for_each(|domain| t.ring(of(9, domain), at(0)));
    t.ring(of(0, 1), at(5));
    t.ring(of(-9, 1), at(5));
    let mut seen = Vec::new();
    for _ in 0..8 {
        let wants = t.pick(at(9), &room(), 100);
        seen.push(wants[0].group.priority);
        t.failed(&wants);
    }
    assert_eq!(seen.iter().filter(|priority| **priority == 9).count(), 6);
    assert!(seen.contains(&0) && seen.contains(&-9), "{seen:?}");
}

#[test]
fn with_one_place_at_a_time_each_organisation_has_its_turn() {
    let t = Timetable::default();
    (1..=50).for_each(|organisation| t.ring(of_organisation(organisation, 0), at(0)));
    let mut rooms = room();
    rooms.claimed(Stream::Marketing, OrganisationId(99), rooms.room(Stream::Marketing) - 1);
    let turns = || {
        let wants = t.pick(at(0), &rooms, 256);
        t.failed(&wants);
        wants[0].group.organisation.0
    };
    assert_eq!([turns(), turns(), turns()], [1, 2, 3]);
}

#[test]
fn of_more_organisations_than_fit_each_gets_its_turn() {
    let t = Timetable::default();
    for organisation in 1..=200 {
        (0..20).for_each(|domain| t.ring(of_organisation(organisation, domain), at(0)));
    }
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let wants = t.pick(at(0), &room(), 256);
        seen.extend(wants.iter().map(|w| w.group.organisation.0));
        t.failed(&wants);
    }
    assert_eq!(seen.len(), 200);
}

#[test]
fn what_is_quiet_waits_and_the_rest_does_not() {
    let (t, hour) = (Timetable::default(), 3_600_000);
    t.ring(group(Stream::Marketing, 1), at(0));
    t.ring(Group { organisation: OrganisationId(2), ..group(Stream::Marketing, 1) }, at(0));
    let quiet = Quiet { stream: Stream::Marketing, organisation: ONE, from: 0, to: 120, zone: 0 };
    t.stop(Stopped { quiet: [((Stream::Marketing, ONE), quiet)].into(), ..Stopped::default() });
    let wants = t.pick(at(hour), &room(), 9);
    assert_eq!(wants.iter().map(|w| w.group.organisation.0).collect::<Vec<_>>(), [2]);
    t.claimed(&[(wants[0].group, None)]);
    assert_eq!(t.next(at(hour), &room()), Some(at(2 * hour)));
    assert!(t.pick(at(2 * hour - 1), &room(), 9).is_empty());
    assert_eq!(t.pick(at(2 * hour), &room(), 9).len(), 1);
}

#[test]
fn who_saw_a_stop_that_is_over_holds_nothing() {
    let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
    let seen = t.stops_seen();
    t.stop(Stopped::default());
    t.hold_as_seen(&hop(), a, at(600), at(0), (Why::Stopped, seen));
    t.ring(a, at(0));
    assert_eq!(picked(&t.pick(at(0), &room(), 9)), [(Stream::Mail, 1, 9)]);
    t.failed(&[Want { group: a, most: 9 }]);
    t.hold_as_seen(&hop(), a, at(600), at(0), (Why::Stopped, t.stops_seen()));
    assert_eq!(t.hop(a), Some(hop()));
    assert!(t.pick(at(0), &room(), 9).is_empty());
}

#[test]
fn trap_20_what_was_kept_back_has_a_while_more_and_no_longer() {
    let (work, hour) = (crate::hops::tests::work(1), 3_600_000);
    let message = Arc::new(Message { stream: Stream::Marketing, ..(*work.message).clone() });
    let until = |stopped: Stopped, expires, now| {
        let d = Delivery { expires: at(expires * hour), ..work.deliveries[0].clone() };
        stopped.longer(&message, &d, at(now * hour)).map(|t| t.0 / hour)
    };
    // Held from 10 to 30.
    let held = |what| Stopped {
        ended: vec![Ended { what, since: at(10 * hour), until: at(30 * hour) }],
        ..Stopped::default()
    };
    let domain = |name: &str| held(What::Domain(name.into()));
    assert_eq!(until(domain("y.test"), 20, 30), Some(50));
    assert_eq!(until(domain("y.test"), 20, 50), None);
    // Its time was over before; it is not what was held.
    assert_eq!(until(domain("y.test"), 9, 30), None);
    assert_eq!(until(domain("z.test"), 20, 30), None);
    assert_eq!(until(held(What::Stream(Stream::Mail)), 20, 30), None);
    assert_eq!(until(held(What::Site("google".into())), 20, 30), Some(50));
    let own = |of, stream| until(held(What::Organisation(of, stream)), 20, 30);
    let [own_all, own_news, own_mail] = [None, Some(Stream::Marketing), Some(Stream::Mail)].map(|s| own(ONE, s));
    assert_eq!([own_all, own_news, own_mail, own(OrganisationId(99), None)], [Some(50), Some(50), None, None]);
    // Quiet from 18 to 8.
    let quiet = || {
        let own = Quiet { stream: Stream::Marketing, organisation: ONE, from: 18 * 60, to: 8 * 60, zone: 0 };
        Stopped { quiet: [((Stream::Marketing, ONE), own)].into(), ..Stopped::default() }
    };
    assert_eq!([until(quiet(), 20, 32), until(quiet(), 20, 37), until(quiet(), 17, 32)], [Some(37), None, None]);
    // In their middle, too.
    assert_eq!(until(quiet(), 44, 45), Some(61));
    let by = queue::DeliverBy { until: at(20 * hour), returned: true, trace: false };
    let message = Message { deliver_by: Some(by), ..(*message).clone() };
    let d = Delivery { expires: at(20 * hour), ..work.deliveries[0].clone() };
    assert_eq!(domain("y.test").longer(&message, &d, at(30 * hour)), None);
}
