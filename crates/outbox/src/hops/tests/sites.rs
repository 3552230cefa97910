//! What a site bears, whichever lines lead to it.

use super::*;
use crate::hops::sites::{SiteKey, SiteName};

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
    assert!(matches!(hops.add(&b, work(1)), Added::Later(_, wait, _) if wait == pause));
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
    let site = SiteKey { source: a.source, name: SiteName::Hosts(a.to.clone()) };
    assert!(hops.lock().sites.get(&site).is_some(), "its pace is remembered");
    tokio::time::advance(Duration::from_secs(60)).await;
    hops.forget();
    assert!(hops.lock().sites.get(&site).is_none());
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
        Added::Later(_, wait, _) => wait.as_secs(),
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
