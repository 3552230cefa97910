use base::{Address, BlobId, OrganisationId, Timestamp};
use smtp::BodyType;

use super::line::{PACE, UNKNOWN};
use super::networks::OF_ONE_NETWORK;
use super::room::{LEAST, LOW, OF_ONE_HOP, OF_ONE_HOP_OF_MANY, OF_ONE_SITE, OWN};
use super::*;
use crate::route::{HostPort, Hosts, To};

mod kept;
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
fn one_hop_does_not_keep_back_all_others() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
    assert!(matches!(hops.add(&a, work(1)), Added::Full(_, UNKNOWN, _)));
    assert!(matches!(hops.add(&b, work(1)), Added::Start(_)));
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
fn slow_hops_do_not_keep_back_all_others() {
    let hops = hops();
    let mut claimed = 0;
    for n in 0..10 {
        loop {
            if matches!(hops.add(&hop(&n.to_string()), work(1)), Added::Later(..) | Added::Full(..)) {
                break;
            }
            hops.claimed(Stream::Mail, OrganisationId(1), 1);
            claimed += 1;
        }
    }
    assert_eq!((in_line(&hops), claimed), (OF_ONE_HOP + 9 * OF_ONE_HOP_OF_MANY, in_line(&hops)));
    assert!(hops.rooms().room(Stream::Mail) > 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_place_waits_as_long_as_the_line_takes() {
    let (hops, a) = (hops(), hop("a"));
    let wait = || match hops.add(&a, work(1)) {
        Added::Later(_, wait) | Added::Full(_, wait, _) => wait.as_secs(),
        _ => 0,
    };
    (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
    assert_eq!(wait(), 30);
    // Nothing moves: longer and longer, to ten minutes.
    let mut waits = Vec::new();
    for _ in 0..6 {
        tokio::time::advance(PACE).await;
        waits.push(wait());
    }
    assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
    // Ten in ten seconds, of a thousand; then five hundred.
    for (taken, expected) in [(10, 600), (500, 10)] {
        for _ in 0..taken {
            let work = next(&hops, &a).unwrap();
            hops.give_back(&a, work, true);
        }
        tokio::time::advance(PACE).await;
        assert_eq!(wait() / 10 * 10, expected / 10 * 10 * if taken == 10 { 1 } else { 2 });
    }
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

/// A hoster has the servers of many in one network, and what is refused there comes again half a minute later.
#[test]
fn marketing_leaves_connections_to_a_network_to_the_others() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    hops.add(&a, of(Stream::Marketing, 1));
    hops.add(&b, of(Stream::Marketing, 1));
    let ip = "192.0.2.1".parse().unwrap();
    while hops.enter(&a, ip) {}
    assert!(!hops.enter(&b, ip));
    hops.add(&b, of(Stream::Transactional, 1));
    assert_eq!((0..OF_ONE_NETWORK).filter(|_| hops.enter(&b, ip)).count(), OF_ONE_NETWORK / 10);
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

/// Else who leaves for it makes room for another that leaves for it at once.
#[test]
fn a_place_that_is_left_for_what_is_urgent_is_taken_by_it() {
    let hops = hops();
    let [a, b] = ["a", "b"].map(|n| mail_hosts(&format!("{n}.l.google.com")));
    assert_eq!(starts(&hops, &a, 3) + starts(&hops, &b, 1), 2, "the site takes two");
    (2..CONNECTIONS).for_each(|n| assert_eq!(starts(&hops, &hop(&n.to_string()), 1), 1));
    let urgent = hop("urgent");
    assert!(matches!(hops.add(&urgent, of(Stream::Transactional, 1)), Added::InLine));
    assert!(hops.is_crowded(&a, false) && hops.is_crowded(&b, false));
    assert_eq!(hops.leave(&a, false, false), [urgent]);
    assert_eq!(hops.leave(&a, false, false), [b]);
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

#[tokio::test(start_paused = true)]
async fn domains_of_one_provider_share_what_it_bears() {
    let hops = hops();
    let all: Vec<Hop> = ["a", "b", "c"].iter().map(|n| mail_hosts(&format!("{n}.l.google.com"))).collect();
    let other = mail_hosts("mx.example.org");
    // Two connections to begin with, whichever of its hosts they lead to.
    assert_eq!(all.iter().map(|h| starts(&hops, h, 3)).sum::<usize>(), 2);
    assert_eq!(starts(&hops, &other, 3), 2);
    assert!(hops.is_crowded(&all[0], true) && !hops.is_crowded(&other, true));
    // Who has none comes first, also when the site grows.
    let mut started = Vec::new();
    while started.is_empty() {
        started = hops.came_of(&all[0], Some(Ticket::of_none()), Stream::Mail, [1, 0, 0, 0]);
    }
    assert_eq!(started, [all[1].clone()]);
    assert_eq!(hops.leave(&all[0], false, false), [all[2].clone()]);
}

#[tokio::test(start_paused = true)]
async fn what_a_site_does_not_want_now_goes_back_from_all_its_lines() {
    let (hops, pause) = (hops(), Duration::from_secs(300));
    let (a, b, other) = (mail_hosts("a.l.google.com"), mail_hosts("b.l.google.com"), mail_hosts("mx.example.org"));
    for hop in [&a, &b, &other] {
        hops.add(hop, work(2));
    }
    let reply = Reply::new(450, 7, 25, "The IP address has no PTR record, try again in 5 minutes");
    let (hint, wait) = hops.hint(&a, &reply, &[]).unwrap();
    let (course, later) =
        hops.heard(&a, &Words { hint, wait, sender: Some("example.test"), mail: Some(Ticket::of_none()), attempts: 0 });
    assert_eq!((course.wait, course.close), (Some(pause), true));
    assert_eq!(later.iter().map(|(_, wait)| *wait).collect::<Vec<_>>(), [pause, pause]);
    assert_eq!(in_line(&hops), 2);
    assert!(matches!(hops.add(&b, work(1)), Added::Later(_, wait) if wait == pause));
    assert!(!matches!(hops.add(&other, work(1)), Added::Later(..) | Added::Full(..)));
    assert_eq!(hops.connect(&b).map_err(|(_, wait)| wait), Err(pause));
    tokio::time::advance(pause).await;
    assert!(matches!(hops.add(&b, work(1)), Added::InLine | Added::Start(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_too_fast_is_put_off_to_its_turn() {
    let (hops, a) = (hops(), mail_hosts("mx.example.org"));
    (0..100).for_each(|_| drop(hops.add(&a, work(1))));
    // Twenty a second, of which two may come at once.
    for _ in 0..2 {
        let mail = next(&hops, &a).unwrap().ticket;
        hops.came_of(&a, mail, Stream::Mail, [1, 0, 0, 0]);
    }
    let Next::Wait(_, wait) = hops.next(&a, 9, 0, true) else { panic!("no pause") };
    let later = hops.put_off(&a, wait);
    assert_eq!(later.len(), 98);
    let last = later.last().unwrap().1;
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&last), "{last:?}");
    assert_eq!(in_line(&hops), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_carries_no_more_than_its_site_wants() {
    let (hops, a) = (hops(), mail_hosts("mx.mail.icloud.com"));
    (0..2).for_each(|_| drop(hops.add(&a, work(1))));
    assert!(matches!(hops.next(&a, 9, 4, true), Next::Send(_)));
    assert!(matches!(hops.next(&a, 9, 5, true), Next::Leave));
}

#[tokio::test(start_paused = true)]
async fn sites_that_are_as_new_are_forgotten() {
    let (hops, a) = (hops(), mail_hosts("mx.example.org"));
    assert_eq!(starts(&hops, &a, 1), 1);
    assert!(next(&hops, &a).is_some());
    assert!(hops.leave(&a, false, false).is_empty());
    let site = sites::SiteKey { source: a.source, name: sites::SiteName::Hosts(a.to.clone()) };
    assert!(hops.lock().sites.get(&site).is_some(), "its pace is remembered");
    tokio::time::advance(Duration::from_secs(60)).await;
    hops.forget();
    assert!(hops.lock().sites.get(&site).is_none());
}

fn of(stream: Stream, n: u32) -> Work {
    let work = work(n);
    Work { message: Arc::new(Message { stream, ..(*work.message).clone() }), ..work }
}

#[test]
fn streams_take_turns_by_weight_and_keep_their_order() {
    let (hops, a) = (hops(), hop("a"));
    for stream in Stream::ALL {
        (0..100).for_each(|_| drop(hops.add(&a, of(stream, 1))));
    }
    let turns: Vec<Stream> = (0..14).map(|_| next(&hops, &a).unwrap().message.stream).collect();
    let count = |stream| turns.iter().filter(|s| **s == stream).count();
    assert_eq!(Stream::ALL.map(count), [4, 8, 2], "{turns:?}");
    // Evenly: nobody waits for all of another's turns.
    assert!(turns.windows(8).all(|w| w.contains(&Stream::Marketing) && w.contains(&Stream::Mail)), "{turns:?}");
}

#[test]
fn what_is_urgent_is_next_whatever_waited_before() {
    let (hops, a) = (hops(), hop("a"));
    (0..1000).for_each(|_| drop(hops.add(&a, of(Stream::Marketing, 1))));
    (0..10).for_each(|_| drop(next(&hops, &a)));
    hops.add(&a, of(Stream::Transactional, 1));
    assert_eq!(next(&hops, &a).unwrap().message.stream, Stream::Transactional);
}

/// At a stranger.
#[tokio::test(start_paused = true)]
async fn marketing_that_waits_for_an_answer_has_no_turn_before_it() {
    let (hops, a) = (hops(), mail_hosts("mx.example.org"));
    (0..2).for_each(|_| drop(hops.add(&a, of(Stream::Marketing, 1))));
    let first = next(&hops, &a).unwrap();
    assert!(matches!(hops.next(&a, 9, 0, true), Next::Wait(..)));
    (0..9).for_each(|_| drop(hops.add(&a, of(Stream::Transactional, 1))));
    for n in 0..5 {
        // It bears twenty a second.
        tokio::time::advance(Duration::from_millis(100)).await;
        let urgent = next(&hops, &a).unwrap_or_else(|| panic!("{n} went, and the next waits"));
        assert_eq!(urgent.message.stream, Stream::Transactional);
        assert!(matches!(hops.next(&a, 9, 0, true), Next::Wait(..)), "two are under way");
        hops.answered(&a, urgent.ticket);
    }
    hops.answered(&a, first.ticket);
    tokio::time::advance(Duration::from_millis(100)).await;
    let mut turns = Vec::new();
    while !turns.contains(&Stream::Marketing) {
        let work = next(&hops, &a).unwrap();
        turns.push(work.message.stream);
        hops.answered(&a, work.ticket);
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    assert!(turns.len() <= 4, "it has its turns again: {turns:?}");
}

#[test]
fn a_stream_that_is_full_leaves_room_to_the_others() {
    let (hops, a) = (hops(), hop("a"));
    hops.claimed(Stream::Marketing, OrganisationId(1), OWN);
    while !matches!(hops.add(&a, of(Stream::Marketing, 1)), Added::Later(..) | Added::Full(..)) {}
    assert!(!matches!(hops.add(&a, of(Stream::Transactional, 1)), Added::Later(..) | Added::Full(..)));
}

#[test]
fn marketing_leaves_connections_to_the_others() {
    let hops = hops();
    let all: Vec<Hop> = (0..CONNECTIONS).map(|n| hop(&n.to_string())).collect();
    let started = all.iter().filter(|h| matches!(hops.add(h, of(Stream::Marketing, 1)), Added::Start(_))).count();
    assert_eq!(started, CONNECTIONS_OF_MARKETING);
    for n in 0..CONNECTIONS - CONNECTIONS_OF_MARKETING {
        assert!(matches!(hops.add(&hop(&format!("t{n}")), of(Stream::Transactional, 1)), Added::Start(_)));
    }
    // Beyond that, who carries marketing makes way after the mail at hand; who has had no turn does not for anything else.
    assert!(!hops.is_crowded(&all[0], false));
    hops.add(&hop("last"), of(Stream::Transactional, 1));
    assert!(hops.is_crowded(&all[0], false));
    assert_eq!(hops.leave(&all[0], false, false), [hop("last")]);
}

/// To be made, of a stream.
fn made(stream: Stream) -> Work {
    let work = of(stream, 1);
    let content = Content::Made(queue::Recipe { kind: 1, reference: [].into() });
    Work { message: Arc::new(Message { content, ..(*work.message).clone() }), ..work }
}

#[tokio::test(start_paused = true)]
async fn who_waits_until_mail_is_made_sends_what_else_there_is() {
    let (hops, a) = (hops(), hop("a"));
    assert!(matches!(hops.add(&a, made(Stream::Marketing)), Added::Start(_)));
    let Next::Make(Stream::Marketing, line) = hops.next(&a, 9, 0, false) else { panic!("it has no place") };
    // A connection more makes nothing sooner, and more to be made is no reason to be woken.
    assert!((0..3).all(|_| matches!(hops.add(&a, made(Stream::Marketing)), Added::InLine)));
    assert!(tokio::time::timeout(Duration::from_secs(1), line.notified()).await.is_err());
    assert!(matches!(hops.add(&a, of(Stream::Transactional, 1)), Added::InLine));
    tokio::time::timeout(Duration::from_secs(1), line.notified()).await.unwrap();
    hops.wake(&a, For::Place);
    let stream = |next| match next {
        Next::Send(work) => work.message.stream,
        other => panic!("{other:?}"),
    };
    assert_eq!(stream(hops.next(&a, 9, 0, false)), Stream::Transactional);
    // One has a place when mail that is urgent comes, which goes first, whoever made it.
    hops.add(&a, of(Stream::Transactional, 1));
    assert_eq!(stream(hops.next(&a, 9, 0, true)), Stream::Transactional);
    assert_eq!(stream(hops.next(&a, 9, 0, true)), Stream::Marketing);
}

/// Who is alone at a line does not keep what is there behind what is yet to be made, however often that has its turn.
#[test]
fn who_is_alone_waits_until_mail_is_made_only_when_there_is_nothing_else() {
    let (hops, a) = (hops(), hop("a"));
    (0..20).for_each(|_| drop(hops.add(&a, made(Stream::Marketing))));
    (0..20).for_each(|_| drop(hops.add(&a, of(Stream::Transactional, 1))));
    hops.connected(&a);
    for _ in 0..20 {
        let next = hops.next(&a, 9, 0, false);
        assert!(matches!(&next, Next::Send(work) if !work.is_made()), "{next:?}");
    }
    assert!(matches!(hops.next(&a, 9, 0, false), Next::Make(..)));
    // While it waits, what need not be made is worth a connection.
    assert!(matches!(hops.add(&a, of(Stream::Transactional, 1)), Added::InLine), "who waits can send it");
    hops.came_of(&a, Some(Ticket::of_none()), Stream::Mail, [1, 0, 0, 0]);
    hops.came_of(&a, Some(Ticket::of_none()), Stream::Mail, [1, 0, 0, 0]);
    assert!(matches!(hops.add(&a, of(Stream::Transactional, 1)), Added::Start(_)));
}

/// Where there is always other mail, what is to be made has its turns all the same.
#[test]
fn one_of_a_line_waits_until_mail_is_made_when_it_is_its_turn() {
    let (hops, a) = (hops(), hop("a"));
    (0..20).for_each(|_| drop(hops.add(&a, of(Stream::Mail, 1))));
    (0..20).for_each(|_| drop(hops.add(&a, made(Stream::Marketing))));
    (0..2).for_each(|_| hops.connected(&a));
    let mut sent = 0;
    while matches!(hops.next(&a, 9, 0, false), Next::Send(_)) {
        sent += 1;
    }
    assert!((1..=WEIGHTS[0] / WEIGHTS[2]).contains(&sent), "{sent}");
    // The others send on meanwhile.
    assert!((0..5).all(|_| matches!(hops.next(&a, 9, 0, false), Next::Send(_))));
    hops.wake(&a, For::Place);
    let next = hops.next(&a, 9, 0, true);
    assert!(matches!(&next, Next::Send(work) if work.is_made()), "{next:?}");
}

/// A provider has a line for each of its customers, and few connections.
#[tokio::test(start_paused = true)]
async fn who_rests_makes_way_for_others_of_its_site() {
    let hops = hops();
    let all: Vec<Hop> = (0..4).map(|n| mail_hosts(&format!("t{n}.mail.protection.outlook.com"))).collect();
    for hop in &all[..2] {
        assert!(matches!(hops.add(hop, work(1)), Added::Start(_)));
        hops.answered(hop, next(&hops, hop).unwrap().ticket);
    }
    let Next::Rest([_, site, _]) = hops.next(&all[0], 9, 1, true) else { panic!("it does not rest") };
    assert!(matches!(hops.add(&all[2], work(1)), Added::InLine));
    tokio::time::timeout(Duration::from_secs(1), site.notified()).await.unwrap();
    hops.wake(&all[0], For::Work);
    assert!(matches!(hops.next(&all[0], 9, 1, true), Next::Leave));
    assert_eq!(hops.leave(&all[0], false, false), [all[2].clone()]);
    // Who comes to its end while others wait does not rest at all.
    assert!(matches!(hops.add(&all[3], work(1)), Added::InLine));
    assert!(matches!(hops.next(&all[1], 9, 1, true), Next::Leave));
}

#[tokio::test(start_paused = true)]
async fn one_site_of_many_lines_does_not_hold_all_that_is_in_hand() {
    let hops = hops();
    let tenant = |n: usize| mail_hosts(&format!("t{n}.mail.protection.outlook.com"));
    let taken = (0..3000).filter(|n| {
        let added = hops.add(&tenant(*n), work(1));
        if !matches!(added, Added::Later(..) | Added::Full(..)) {
            hops.claimed(Stream::Mail, OrganisationId(1), 1);
        }
        !matches!(added, Added::Later(..) | Added::Full(..))
    });
    assert_eq!(taken.count(), OF_ONE_SITE);
    assert!(hops.rooms().room(Stream::Mail) > 0);
    assert!(matches!(hops.add(&mail_hosts("mx.example.org"), work(1)), Added::Start(_)));
    // No line is left behind for those that had no place, nor for what is taken out.
    assert_eq!(hops.lock().lines.len(), OF_ONE_SITE + 1);
    hops.take_out(|work| work.message.id == "1-1".parse().unwrap());
    assert_eq!(hops.lock().lines.len(), 3, "those with workers");
}

fn sent_by(organisation: i64, n: u32) -> Work {
    let work = of(Stream::Marketing, n);
    let organisation = OrganisationId(organisation);
    Work { message: Arc::new(Message { organisation, ..(*work.message).clone() }), ..work }
}

#[test]
fn organisations_of_a_stream_take_turns_whoever_was_first() {
    let (hops, a) = (hops(), hop("a"));
    (0..500).for_each(|_| drop(hops.add(&a, sent_by(1, 1))));
    (0..3).for_each(|_| drop(hops.add(&a, sent_by(7, 1))));
    (0..2).for_each(|_| drop(hops.add(&a, sent_by(3, 1))));
    let turns: Vec<i64> = (0..8).map(|_| next(&hops, &a).unwrap().message.organisation.0).collect();
    assert_eq!(turns, [1, 3, 7, 1, 3, 7, 1, 7]);
    // What is left of one message's recipients waits for the next turn of its own.
    hops.add(&a, sent_by(9, 25));
    let Next::Send(work) = hops.next(&a, 20, 0, true) else { panic!("it is the turn of the ninth") };
    assert_eq!((work.message.organisation.0, work.deliveries.len()), (9, 20));
    assert_eq!([0, 1].map(|_| next(&hops, &a).unwrap().message.organisation.0), [1, 9]);
    assert_eq!(hops.drain().len(), 497 - 1);
}

/// Anybody can name any number of hosts.
#[test]
fn the_names_of_sites_that_are_counted_are_bounded() {
    let hops = hops();
    for n in 0..200 {
        let to = mail_hosts(&format!("mx{n}.example.org"));
        hops.add(&to, work(1));
        for _ in 0..150 {
            hops.came_of(&to, Some(Ticket::of_none()), Stream::Mail, [1, 0, 1, 0]);
        }
    }
    let google = mail_hosts("aspmx.l.google.com");
    hops.add(&google, work(1));
    hops.came_of(&google, Some(Ticket::of_none()), Stream::Mail, [3, 0, 0, 0]);
    hops.came_of(&google, Some(Ticket::of_none()), Stream::Marketing, [0, 2, 0, 1]);
    let traffic = hops.traffic();
    assert_eq!(traffic.len(), 100 + 3);
    let of =
        |site: &str, stream| traffic.iter().find(|of| *of.site == *site && of.stream == stream).map(|of| of.recipients);
    assert_eq!(of("google", Stream::Mail), Some([3, 0, 0, 0]));
    assert_eq!(of("google", Stream::Marketing), Some([0, 2, 0, 1]));
    // A stream that had no mail for it takes no line.
    assert_eq!(of("google", Stream::Transactional), None);
    // Its first hundred recipients were others.
    assert_eq!(of("mx7.example.org", Stream::Mail), Some([101, 0, 101, 0]));
    assert_eq!(traffic.iter().map(|of| of.recipients[0]).sum::<u64>(), 200 * 150 + 3);
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

/// Takes mails out of a line, as fast as its site takes them, until those are called who had no place; gives how many.
async fn until_called(hops: &Hops, hop: &Hop) -> usize {
    let mut taken = 0;
    while hops.called().0.is_empty() {
        match hops.next(hop, 100, 0, true) {
            Next::Send(work) => {
                taken += 1;
                hops.answered(hop, work.ticket);
            }
            Next::Wait(_, wait) => tokio::time::advance(wait).await,
            other => panic!("{other:?} after {taken}"),
        }
    }
    taken
}

#[tokio::test(start_paused = true)]
async fn who_had_no_place_is_called_when_the_line_is_short() {
    let (hops, a) = (hops(), hop("a"));
    let group = work(1).message.group(&work(1).deliveries[0]);
    for _ in 0..OF_ONE_HOP {
        drop(hops.add(&a, work(1)));
    }
    assert!(matches!(hops.add(&a, work(1)), Added::Full(..)));
    assert!(hops.refused(&a, group));
    assert_eq!(until_called(&hops, &a).await, OF_ONE_HOP - LOW);
    // Once.
    assert!(hops.called().0.is_empty());
    // Whoever comes too late to be called is told.
    assert!(!hops.refused(&a, group));
}

/// Where many sources share what may stand in line, the line of each is short, and none is called before it is shorter still.
#[tokio::test(start_paused = true)]
async fn who_had_no_place_in_a_short_line_is_not_called_at_once() {
    use queue::source::{Member, Pool, Setup, Source, SourceId};
    let (hops, a) = (hops(), hop("a"));
    let ids: Vec<_> = (1..=100).map(SourceId::read).collect();
    let source = |id: &SourceId| Source { id: *id, name: id.stored().to_string().into(), ..Source::default_one() };
    let members = ids.iter().map(|source| Member { source: *source, weight: 1 }).collect();
    let pool = Pool { name: "p".into(), members, streams: vec![Stream::Mail], organisation: None };
    hops.set_up(&Setup { sources: ids.iter().map(source).collect(), pools: vec![pool], ..Setup::default() }, &[])
        .unwrap();
    let group = work(1).message.group(&work(1).deliveries[0]);
    let full = (0..100 * LEAST + 1).find_map(|_| match hops.add(&a, work(1)) {
        Added::Full(_, _, hop) => Some(hop),
        _ => None,
    });
    let full = full.expect("each line has its share");
    assert!(hops.refused(&full, group));
    assert_eq!(until_called(&hops, &full).await, LEAST / 2);
}

#[tokio::test(start_paused = true)]
async fn to_look_whether_others_have_a_place_changes_nothing() {
    use queue::source::{Member, Pool, Setup, Source, SourceId};
    let (hops, a, never) = (hops(), hop("a"), Duration::from_secs(3600));
    let ids = [1, 2].map(SourceId::read);
    let source = |id: &SourceId| Source { id: *id, name: id.stored().to_string().into(), ..Source::default_one() };
    let members = ids.iter().map(|source| Member { source: *source, weight: 1 }).collect();
    let pool = Pool { name: "p".into(), members, streams: vec![Stream::Mail], organisation: None };
    hops.set_up(&Setup { sources: ids.iter().map(source).collect(), pools: vec![pool], ..Setup::default() }, &[])
        .unwrap();
    let numbered = |n: usize| {
        let message = Message { id: format!("1-{n:x}").parse().unwrap(), ..(*work(1).message).clone() };
        Work { message: Arc::new(message), ..work(1) }
    };
    assert_eq!(hops.nobody_takes(&a.by(ids[0]), &work(1), never), None, "the other has no mail at all");
    (1..2 * OF_ONE_HOP).for_each(|n| drop(hops.add(&a, numbered(n))));
    for source in ids {
        assert_eq!(hops.lock().lines[&a.by(source)].ready.deliveries(Stream::Mail), OF_ONE_HOP / 2);
    }
    for _ in 0..5 {
        tokio::time::advance(PACE).await;
        let wait = hops.nobody_takes(&a.by(ids[0]), &work(1), never);
        assert_eq!(wait, Some(2 * UNKNOWN), "nothing was taken, however often that is looked at");
    }
    while hops.lock().lines[&a.by(ids[1])].ready.deliveries(Stream::Mail) == OF_ONE_HOP / 2 {
        drop(hops.next(&a.by(ids[1]), 9, 0, true));
    }
    assert_eq!(hops.nobody_takes(&a.by(ids[0]), &work(1), never), None);
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_has_no_more_than_its_site_wants_from_whomever() {
    use queue::source::{Rule, Scope, Setup};
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    let rule = |site: &str| Rule {
        scope: Scope { site: Some(site.into()), ..Scope::default() },
        key: "mailbox_rate".into(),
        value: "2/m".into(),
    };
    hops.set_up(&Setup { rules: vec![rule("a"), rule("b")], ..Setup::default() }, &[]).unwrap();
    // To x@y.test; and to that and another.
    (0..3).for_each(|_| drop(hops.add(&a, work(1))));
    let mut both = work(2);
    both.deliveries[1].to = Address::parse("z@y.test").unwrap();
    hops.add(&a, both);
    hops.add(&b, work(1));
    assert!(next(&hops, &a).is_some());
    let later = |hop: &Hop| match hops.next(hop, 9, 0, true) {
        Next::Later(work, wait) => (work.deliveries.len(), wait.as_secs()),
        other => panic!("{other:?}"),
    };
    // Each has a turn of its own.
    assert_eq!([later(&a), later(&a), later(&a), later(&b)], [(1, 30), (1, 60), (1, 90), (1, 120)]);
    let other = next(&hops, &a).unwrap();
    assert_eq!(other.deliveries.iter().map(|d| d.to.to_string()).collect::<Vec<_>>(), ["z@y.test"]);
    tokio::time::advance(Duration::from_secs(30)).await;
    hops.add(&b, work(1));
    assert!(next(&hops, &b).is_some());
}

/// A line that empties as its mailbox has had enough is as short as any other.
#[tokio::test(start_paused = true)]
async fn who_had_no_place_is_called_when_a_mailbox_has_had_enough() {
    use queue::source::{Rule, Scope, Setup};
    let (hops, a) = (hops(), hop("a"));
    let scope = Scope { site: Some("a".into()), ..Scope::default() };
    let rule = Rule { scope, key: "mailbox_rate".into(), value: "2/m".into() };
    hops.set_up(&Setup { rules: vec![rule], ..Setup::default() }, &[]).unwrap();
    (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
    let group = work(1).message.group(&work(1).deliveries[0]);
    assert!(hops.refused(&a, group));
    assert!(next(&hops, &a).is_some());
    tokio::time::advance(PACE).await;
    for n in 1..OF_ONE_HOP - LOW {
        assert!(hops.called().0.is_empty(), "{n}");
        assert!(matches!(hops.next(&a, 9, 0, true), Next::Later(..)), "{n}");
    }
    assert_eq!(hops.called().0, [group]);
    // It is not a line of which nothing is taken.
    assert!(hops.lock().lines.get_mut(&a).unwrap().pace(Stream::Mail) < UNKNOWN);
}

#[tokio::test(start_paused = true)]
async fn hosts_that_failed_in_a_row_are_left_alone() {
    let (hops, a) = (hops(), mail_hosts("t1.mail.protection.outlook.com"));
    let fails = || {
        assert!(matches!(hops.add(&a, work(1)), Added::Start(_)));
        hops.failed(&a);
        assert_eq!(hops.unreachable(&a).len(), 1);
        hops.leave(&a, false, false);
        hops.forget();
    };
    let left_alone = || match hops.add(&a, work(1)) {
        Added::Later(_, wait) => wait.as_secs(),
        other => panic!("{other:?}"),
    };
    for _ in 0..5 {
        fails();
        tokio::time::advance(Duration::from_secs(60)).await;
    }
    assert_eq!(left_alone(), 14 * 60);
    // Another customer of the provider is none of theirs.
    assert!(matches!(hops.add(&mail_hosts("t2.mail.protection.outlook.com"), work(1)), Added::Start(_)));
    tokio::time::advance(Duration::from_secs(14 * 60)).await;
    // Once more, which says whether they are back.
    fails();
    assert_eq!(left_alone(), 15 * 60);
    tokio::time::advance(Duration::from_secs(15 * 60)).await;
    assert!(matches!(hops.add(&a, work(1)), Added::Start(_)));
    hops.connected(&a);
    assert!(next(&hops, &a).is_some());
    hops.leave(&a, true, false);
    (0..4).for_each(|_| fails());
    assert!(matches!(hops.add(&a, work(1)), Added::Start(_)));
}
