//! Streams, and organisations within one, beside each other.

use super::*;
use crate::hops::room::OWN;

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
