//! Lines and who serves them.

use base::{Address, BlobId, OrganisationId, Timestamp};
use smtp::BodyType;

use super::networks::OF_ONE_NETWORK;
use super::*;
use crate::route::{HostPort, Hosts, To};

mod judged;
mod kept;
mod places;
mod sites;
mod streams;
mod tenants;
mod used;

fn hops() -> Hops {
    Hops::new(Policies::shipped().unwrap())
}

/// One that the administrator names: up to twenty connections, as fast as it goes.
fn hop(name: &str) -> Hop {
    Hop::new(To::Fixed(Arc::new(HostPort { host: name.into(), port: 25 })), false)
}

/// One that the DNS names.
fn mail_hosts(first: &str) -> Hop {
    Hop::new(To::Hosts(Arc::new(Hosts::of(&[first]))), false)
}

/// Deliveries in all lines.
fn in_line(hops: &Hops) -> usize {
    let of = |line: &Line| Stream::ALL.map(|s| line.ready.deliveries(s)).iter().sum::<usize>();
    hops.lock().lines.values().map(of).sum()
}

fn next(hops: &Hops, hop: &Hop) -> Option<Work> {
    match hops.next(hop, 9, 0, true) {
        Next::Send(work) => Some(work),
        _ => None,
    }
}

/// Of so many recipients.
pub(crate) fn work(n: u32) -> Work {
    let message = Message {
        id: "1-1".parse().unwrap(),
        from: None,
        prefix: Arc::from(&b""[..]),
        content: queue::Content::Stored(BlobId(1)),
        octets: 0,
        envelope_id: None,
        ret: None,
        body: BodyType::SevenBit,
        smtputf8: false,
        require_tls: false,
        tls_optional: false,
        account: None,
        created: Timestamp(0),
        total: n,
        stream: Stream::Mail,
        organisation: OrganisationId(1),
        priority: 0,
        release: None,
        deliver_by: None,
        message_id: None,
    };
    let delivery = |number| Delivery {
        number,
        to: Address::parse("x@y.test").unwrap(),
        notify: None,
        original: None,
        expires: Timestamp(0),
        attempts: 0,
        warned: false,
        uncertain: 0,
        trail: None,
    };
    Work {
        message: Arc::new(message),
        deliveries: (0..n).map(delivery).collect(),
        again: false,
        permit: None,
        seat: None,
        ticket: None,
    }
}

fn of(stream: Stream, n: u32) -> Work {
    let work = work(n);
    Work { message: Arc::new(Message { stream, ..(*work.message).clone() }), ..work }
}

fn sent_by(organisation: i64, n: u32) -> Work {
    let work = of(Stream::Marketing, n);
    let organisation = OrganisationId(organisation);
    Work { message: Arc::new(Message { organisation, ..(*work.message).clone() }), ..work }
}

fn starts(hops: &Hops, hop: &Hop, n: usize) -> usize {
    (0..n).filter(|_| matches!(hops.add(hop, work(1)), Added::Start(_))).count()
}

#[test]
fn a_hop_gets_two_connections_and_one_more_with_each_full_round() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 100), 2);
    let (mut started, mut mails) = (2, 0);
    while started < 20 {
        mails += 1;
        started += hops.came_of(&a, Some(Ticket::of_none()), Stream::Mail, [1, 0, 0, 0]).len();
    }
    assert_eq!(mails, (2..20).sum::<usize>());
    assert!(
        (0..100).all(|_| hops.came_of(&a, Some(Ticket::of_none()), Stream::Mail, [1, 0, 0, 0]).is_empty()),
        "twenty are enough"
    );
    // One ends: another takes its place, as long as there is work.
    assert_eq!(hops.leave(&a, false, false), [a]);
}

#[test]
fn what_stands_in_line_is_found_there_and_what_is_sent_is_not() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    hops.add(&a, work(2));
    let other = work(1);
    let message = Message { id: "1-2".parse().unwrap(), ..(*other.message).clone() };
    hops.add(&b, Work { message: Arc::new(message), ..other });
    let site = |id: &str, number| hops.waits_for(id.parse().unwrap(), number).map(|site| (site.site, site.in_line));
    assert_eq!([site("1-1", 1), site("1-2", 0)], [Some(("a".into(), 2)), Some(("b".into(), 1))]);
    assert_eq!([site("1-1", 2), site("1-3", 0)], [None, None]);
    next(&hops, &a).unwrap();
    assert_eq!([site("1-1", 0), site("1-1", 1)], [None, None]);
}

#[test]
fn who_rests_is_woken_before_another_is_started() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 1), 1);
    assert!(next(&hops, &a).is_some());
    assert!(next(&hops, &a).is_none());
    assert_eq!(starts(&hops, &a, 1), 0);
    assert_eq!(starts(&hops, &a, 1), 1, "one rests, two have work");
}

/// Else the mail waited for the end of the rest: half a minute.
#[tokio::test]
async fn who_rests_gets_what_another_leaves_whose_connection_is_gone() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 2), 2);
    (0..2).for_each(|_| hops.connected(&a));
    (0..2).for_each(|_| drop(next(&hops, &a).unwrap()));
    let rests = || match hops.next(&a, 9, 0, true) {
        Next::Rest(bells) => bells,
        other => panic!("{other:?}"),
    };
    let ([bell, ..], _) = (rests(), rests());
    // One is rung, and finds the connection closed.
    assert_eq!(starts(&hops, &a, 1), 0);
    bell.notified().await;
    hops.wake(&a, For::Work);
    let work = next(&hops, &a).unwrap();
    assert!(hops.give_back(&a, work, false).is_none());
    assert!(hops.leave(&a, true, false).is_empty());
    tokio::time::timeout(Duration::from_secs(5), bell.notified()).await.expect("the other is rung");
    assert!(next(&hops, &a).is_some());
}

#[test]
fn too_many_recipients_are_two_transactions() {
    let (hops, a) = (hops(), hop("a"));
    hops.add(&a, work(25));
    let numbers = |w: Work| w.deliveries.iter().map(|d| d.number).collect::<Vec<_>>();
    let of = |most| match hops.next(&a, most, 0, true) {
        Next::Send(work) => numbers(work),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(20), (0..20).collect::<Vec<_>>());
    assert_eq!(of(20), (20..25).collect::<Vec<_>>());
}

#[test]
fn a_host_that_is_away_gives_all_back_unless_it_is_only_full() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 5), 2);
    hops.connected(&a);
    assert!(hops.unreachable(&a).is_empty());
    assert!(hops.leave(&a, false, false).is_empty(), "no more connections than the host takes");
    assert_eq!(hops.leave(&a, true, false), std::slice::from_ref(&a));
    assert_eq!(hops.unreachable(&a).len(), 5);
    assert!(hops.leave(&a, false, false).is_empty());
    assert_eq!((hops.workers(), hops.lock().lines.len()), (0, 0));
}

#[test]
fn connections_have_a_limit_in_all_and_nobody_is_forgotten() {
    let hops = hops();
    let all: Vec<Hop> = (0..150).map(|n| hop(&n.to_string())).collect();
    let started: usize = all.iter().map(|h| starts(&hops, h, 2)).sum();
    assert_eq!(started, CONNECTIONS);
    // Fifty have none. As others end, each gets its own.
    let mut got = Vec::new();
    for h in &all[..100] {
        while next(&hops, h).is_some() {}
        hops.wake(h, For::Work);
        got.extend(hops.leave(h, false, false));
    }
    assert_eq!(got.len(), 50);
    assert!(all[100..].iter().all(|h| got.contains(h)));
}

#[test]
fn who_is_turned_away_while_another_still_tries_gives_nothing_up() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 5), 2);
    // The host takes one at a time, and the one has not said EHLO yet.
    assert!(hops.unreachable(&a).is_empty());
    assert!(hops.leave(&a, false, false).is_empty(), "one is enough");
    assert_eq!(hops.unreachable(&a).len(), 5);
}

#[test]
fn one_network_does_not_get_all_connections() {
    let (hops, a) = (hops(), hop("a"));
    let enter = |s: &str| hops.enter(&a, s.parse().unwrap());
    hops.add(&a, work(1));
    for n in 0..OF_ONE_NETWORK {
        assert!(enter(&format!("192.0.2.{n}")) && enter(&format!("2001:db8:0:{n}::1")));
    }
    assert!(!enter("192.0.2.250") && !enter("2001:db8:0:ffff::1"));
    assert!(!enter("::ffff:192.0.2.250"));
    assert!(enter("192.0.3.1") && enter("2001:db8:1::1"));
    hops.exit("192.0.2.3".parse().unwrap());
    assert!(enter("192.0.2.250"));
}

#[test]
fn who_has_no_connection_comes_before_who_had_one() {
    let hops = hops();
    let all: Vec<Hop> = (0..=CONNECTIONS).map(|n| hop(&n.to_string())).collect();
    all.iter().for_each(|h| drop(hops.add(h, work(1))));
    assert!(hops.is_crowded(&all[0], true));
    assert_eq!(hops.leave(&all[0], false, false), [all[CONNECTIONS].clone()]);
    // Now that one waits.
    assert_eq!(hops.leave(&all[1], false, false), [all[0].clone()]);
}

#[test]
fn a_message_is_taken_out_of_all_lines() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    let other = Message { id: "1-2".parse().unwrap(), ..(*work(1).message).clone() };
    hops.add(&a, work(2));
    hops.add(&a, Work { message: Arc::new(other), ..work(1) });
    hops.add(&b, work(1));
    assert_eq!(hops.take_out(|work| work.message.id == "1-1".parse().unwrap()).len(), 2);
    assert_eq!((in_line(&hops), next(&hops, &a).unwrap().message.id.to_string()), (1, "1-2".into()));
}

#[test]
fn at_a_stop_nobody_is_counted_who_is_not_started() {
    let (hops, a) = (hops(), hop("a"));
    assert_eq!(starts(&hops, &a, 5), 2);
    for left in [1, 0] {
        assert!(hops.leave(&a, false, true).is_empty());
        assert_eq!(hops.workers(), left);
    }
    assert_eq!(hops.drain().len(), 5);
}

#[test]
fn a_stopped_domain_takes_no_other_out_of_the_line_of_a_smart_host() {
    use queue::source::{Setup, Stop, What};
    let (hops, hop) = (hops(), hop("mx.test"));
    let stop = Stop { what: What::Domain("y.test".into()), drains: false, since: Timestamp(0) };
    let both = || {
        let mut both = work(2);
        both.deliveries[1].to = Address::parse("x@z.test").unwrap();
        both
    };
    let domains = |work: &Work| work.deliveries.iter().map(|d| d.to.domain().to_owned()).collect::<Vec<_>>();
    assert!(matches!(hops.add(&hop, both()), Added::Start(_)));
    let moved = hops.set_up(&Setup { stops: vec![stop], ..Setup::default() }, &[]).unwrap();
    let (_, work) = moved.into_iter().next().unwrap();
    let Added::Apart(goes, stopped) = hops.add(&hop, work) else { panic!("together") };
    assert_eq!((domains(&goes), domains(&stopped)), (vec!["z.test".into()], vec!["y.test".into()]));
    assert!(matches!(hops.add(&hop, goes), Added::InLine | Added::Start(_)));
    assert!(matches!(hops.add(&hop, stopped), Added::No(_, No::Stopped)));
    assert_eq!(in_line(&hops), 1);
}
