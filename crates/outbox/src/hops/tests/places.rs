//! Who has a place in line, who has none, and when that is called.

use super::*;
use crate::hops::line::{PACE, UNKNOWN};
use crate::hops::room::{LEAST, LOW, OF_ONE_HOP, OF_ONE_HOP_OF_MANY, OF_ONE_SITE};

#[test]
fn one_hop_does_not_keep_back_all_others() {
    let (hops, a, b) = (hops(), hop("a"), hop("b"));
    (0..OF_ONE_HOP).for_each(|_| drop(hops.add(&a, work(1))));
    assert!(matches!(hops.add(&a, work(1)), Added::Full(_, UNKNOWN, _)));
    assert!(matches!(hops.add(&b, work(1)), Added::Start(_)));
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
        Added::Later(_, wait, _) | Added::Full(_, wait, _) => wait.as_secs(),
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
