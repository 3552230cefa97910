//! New sources: what they may deliver a day, day by day.

use outbox::Why;
use queue::source::{self, Course, Setup, Share, SourceId};
use queue::{Came, QueueId, State};

use crate::peer::{Act, Character, Peer};
use crate::world::{Net, World, at, rules};

const NEW: &str = "127.0.0.2";

fn by(peer: &Peer, ip: &str) -> usize {
    peer.taken().iter().filter(|taken| taken.by == Some(ip.parse().unwrap())).count()
}

async fn plan(w: &World, source: SourceId, caps: &[(Share, &[u32])]) {
    let (caps, now): (Vec<_>, _) =
        (caps.iter().map(|(s, days)| (s.clone(), days.to_vec())).collect(), base::Clock::now(&*w.clock));
    w.store.write(move |tx| source::set_caps(tx, source, &caps, now)).await.unwrap();
}

async fn send(w: &World, n: usize, domain: &str) -> Vec<QueueId> {
    let mut ids = Vec::new();
    for n in 0..n {
        ids.push(w.send(&[&format!("u{n}@{domain}")]).await);
    }
    ids
}

async fn until_all_gone(w: &World, ids: &[QueueId]) {
    for id in ids {
        w.until_gone(*id).await;
    }
}

/// How many of them wait and were not tried.
async fn waiting(w: &World, ids: &[QueueId]) -> usize {
    let mut n = 0;
    for id in ids {
        n += w.show(*id).await.iter().filter(|d| d.state == State::Waiting && d.delivery.attempts == 0).count();
    }
    n
}

/// A day later, and a little.
async fn to_the_next_day(w: &World) {
    let now = base::Clock::now(&*w.clock).secs();
    w.pass((86_400 - now.rem_euclid(86_400)) as u64 + 60).await;
}

/// The new one would get nearly all of it. Of such caps one may go in an hour.
#[tokio::test(start_paused = true)]
async fn caps_hold_exactly_over_days_and_restarts_and_the_surplus_goes_elsewhere() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    let new = w.source("new", &[NEW]).await;
    w.source("old", &["127.0.0.3"]).await;
    w.pool("all", &[("new", 1000), ("old", 1)]).await;
    plan(&w, new, &[(Share::Each, &[3, 5, 9])]).await;
    let mut sent = Vec::new();
    for day in 0..4 {
        // A day on which nothing is sent is none.
        to_the_next_day(&w).await;
        to_the_next_day(&w).await;
        let before = by(&peer, NEW);
        for hour in 0..12 {
            until_all_gone(&w, &send(&w, 1, "b.test").await).await;
            if day % 2 == 1 && hour == 2 {
                w.kill_and_start().await;
            }
            w.pass(3600).await;
        }
        sent.push(by(&peer, NEW) - before);
    }
    assert_eq!(sent[..3], [3, 5, 9]);
    assert!(sent[3] >= 10, "the plan is over: {sent:?}");
    assert_eq!(peer.taken().len(), 48);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_source_may_send_today_waits_for_tomorrow() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[3, 100])]).await;
    to_the_next_day(&w).await;
    let ids = send(&w, 10, "b.test").await;
    for n in 1..=3 {
        w.until("one an hour", async || peer.taken().len() == n && w.metered().1 == 0).await;
        w.pass(3600).await;
        w.settle().await;
    }
    assert_eq!((peer.taken().len(), waiting(&w, &ids).await, w.why("b.test")), (3, 7, Some(Why::Spent)));
    w.kill_and_start().await;
    w.pass(3600).await;
    w.settle().await;
    assert_eq!((peer.taken().len(), waiting(&w, &ids).await), (3, 7));
    to_the_next_day(&w).await;
    until_all_gone(&w, &ids).await;
    assert_eq!(peer.taken().len(), 10);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_day_is_not_spent_in_an_hour() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let mut w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[50])]).await;
    to_the_next_day(&w).await;
    let ids = send(&w, 18, "b.test").await;
    for (sent, restarts) in [(5, false), (10, true), (15, false)] {
        w.until("a tenth is there", async || peer.taken().len() == sent && w.metered().1 == 0).await;
        // In which hour it was sent a server that begins does not know.
        if restarts {
            w.kill_and_start().await;
        }
        w.pass(30).await;
        w.settle().await;
        assert_eq!((peer.taken().len(), waiting(&w, &ids).await, w.why("b.test")), (sent, 18 - sent, Some(Why::Spent)));
        w.pass(3600).await;
    }
    until_all_gone(&w, &ids).await;
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_what_is_on_its_way_does_not_miss_the_next_hour() {
    let slow = Character { rules: vec![("MAIL", Act::Slow(60))], ..Character::default() };
    let (net, peer) = Net::default().host("b.test", 1, slow);
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[10])]).await;
    to_the_next_day(&w).await;
    w.pass(54 * 60).await;
    // Five minutes before the hour one begins, and the other finds it on its way.
    let ids = send(&w, 2, "b.test").await;
    w.pass(200).await;
    assert_eq!((peer.taken().len(), waiting(&w, &ids).await), (1, 1));
    for _ in 0..10 {
        w.pass(30).await;
    }
    w.settle().await;
    assert_eq!(peer.taken().len(), 2);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_more_than_an_hours_leaves_by_another_source() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let new = w.source("new", &[NEW]).await;
    w.source("old", &["127.0.0.3"]).await;
    w.pool("all", &[("new", 1000), ("old", 1)]).await;
    plan(&w, new, &[(Share::Each, &[30])]).await;
    to_the_next_day(&w).await;
    for hour in 1..4 {
        until_all_gone(&w, &send(&w, 8, "b.test").await).await;
        assert_eq!(by(&peer, NEW), 3 * hour);
        w.pass(3600).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_mail_to_more_than_may_be_sent_is_sent_in_parts() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    // Four an hour.
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[40])]).await;
    to_the_next_day(&w).await;
    let to: Vec<String> = (0..10).map(|n| format!("u{n}@b.test")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut delivered = Vec::new();
    for _ in 0..3 {
        w.until("its share is sent", async || w.metered().1 == 0 && peer.taken().len() == delivered.len() + 1).await;
        w.settle().await;
        delivered.push(peer.taken().last().unwrap().to.len());
        w.pass(3600).await;
    }
    assert_eq!(delivered, [4, 4, 2]);
    w.until_gone(id).await;
    w.check().await;
}

/// What is refused was not delivered, and does not count; what may still be delivered does.
#[tokio::test(start_paused = true)]
async fn what_is_refused_makes_room_for_another() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT TO:<u0@", Act::Say("450 4.2.0 Later"))]));
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[20])]).await;
    let first = w.send(&["u0@b.test"]).await;
    w.until_deferred(first, 1).await;
    let ids = send(&w, 4, "b.test").await;
    w.pass(30).await;
    w.until("two are there", async || peer.taken().len() == 2).await;
    for _ in 0..3 {
        w.pass(660).await;
        w.settle().await;
    }
    w.until("one was refused, two are there", async || waiting(&w, &ids).await == 1).await;
    assert_eq!(peer.taken().len(), 2);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_has_a_cap_for_all_sites_and_sites_have_their_own() {
    let (net, b) = Net::default().host("b.test", 1, Character::default());
    let (net, c) = net.host("c.test", 2, Character::default());
    let (net, d) = net.host("d.test", 3, Character::default());
    let w = net.world().await;
    let share = |name: &str| Share::Site(name.into());
    plan(&w, SourceId::DEFAULT, &[(share("b.test"), &[40]), (Share::Each, &[10]), (Share::All, &[60])]).await;
    for domain in ["b.test", "c.test", "b.test", "c.test"] {
        for n in 0..3 {
            w.send(&[&format!("u{n}@{domain}")]).await;
            w.pass(1).await;
            w.settle().await;
        }
    }
    w.until("four and one", async || (b.taken().len(), c.taken().len()) == (4, 1)).await;
    for n in 0..3 {
        w.send(&[&format!("u{n}@d.test")]).await;
    }
    w.until("and one", async || d.taken().len() == 1 && w.metered().1 == 0).await;
    w.settle().await;
    assert_eq!((b.taken().len(), c.taken().len(), d.taken().len()), (4, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_silent_for_a_month_begins_with_a_fifth() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[10, 20, 40, 100, 200])]).await;
    for day in 0..4 {
        send_with(&w, 1, 0).await;
        assert_eq!(users(&peer), day + 1);
        to_the_next_day(&w).await;
    }
    // Its fifth day has 20 an hour.
    w.pass(29 * 86_400).await;
    to_the_next_day(&w).await;
    let id = send_with(&w, 30, 0).await;
    // Forty of 200 are those of the third.
    assert_eq!((users(&peer), waiting(&w, &[id]).await), (8, 26));
    // It is set back once.
    to_the_next_day(&w).await;
    w.settle().await;
    w.until("ten an hour", async || users(&peer) == 18 && w.metered().1 == 0).await;
    w.check().await;
}

/// One mail to so many, and to so many whose name begins with an x.
async fn send_with(w: &World, n: usize, others: usize) -> QueueId {
    let to = (0..n).map(|n| format!("u{n}@b.test")).chain((0..others).map(|n| format!("x{n}@b.test")));
    let to: Vec<String> = to.collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    w.pass(1).await;
    w.until("what may go is gone", async || w.metered().1 == 0).await;
    w.settle().await;
    id
}

fn users(peer: &Peer) -> usize {
    peer.taken().iter().flat_map(|taken| &taken.to).count()
}

async fn set_up(w: &World) -> Setup {
    w.store.read(source::setup).await.unwrap()
}

/// What followed, and how many days do not count.
async fn judged(w: &World) -> Vec<(Course, u32)> {
    set_up(w).await.judged.iter().map(|judged| (judged.finding.course, judged.behind)).collect()
}

const NO_USER: (&str, Act) = ("RCPT TO:<x", Act::Say("550 5.1.1 No such user"));

#[tokio::test(start_paused = true)]
async fn a_day_with_too_many_unknown_users_is_had_again() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[NO_USER]));
    let mut w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[600, 800, 1200])]).await;
    send_with(&w, 58, 2).await;
    assert_eq!((users(&peer), judged(&w).await), (58, vec![]));
    // What was counted outlasts the server.
    w.kill_and_start().await;
    to_the_next_day(&w).await;
    assert_eq!(judged(&w).await, [(Course::Hold, 1)]);
    w.kill_and_start().await;
    send_with(&w, 100, 0).await;
    assert_eq!((users(&peer), w.why("b.test")), (58 + 60, Some(Why::Spent)));
    // A good day: the plan goes on from where it stands.
    to_the_next_day(&w).await;
    send_with(&w, 100, 0).await;
    assert_eq!(users(&peer), 58 + 60 + 80);
    assert_eq!(judged(&w).await, [(Course::Hold, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_a_site_says_of_a_day_decides_on_the_next() {
    let bad = [
        ("550 5.1.1 No such user", 2, Some((Course::Hold, 1))),
        ("550 5.7.1 Your message looks like spam", 2, Some((Course::Back(2), 3))),
        ("451 4.3.2 Too busy, try again later", 7, Some((Course::Hold, 1))),
        // Of the mailbox, and of everybody.
        ("452 4.2.2 Mailbox full", 20, None),
        ("451 4.7.1 Greylisted, please try again later", 20, None),
    ];
    for (says, n, found) in bad {
        let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT TO:<x", Act::Say(says))]));
        let w = net.world().await;
        plan(&w, SourceId::DEFAULT, &[(Share::Each, &[1000, 2000, 3000, 4000, 5000])]).await;
        for _ in 0..3 {
            send_with(&w, 1, 0).await;
            to_the_next_day(&w).await;
        }
        let before = users(&peer);
        send_with(&w, 60 - n, n).await;
        assert_eq!(users(&peer), before + 60 - n, "{says}");
        to_the_next_day(&w).await;
        assert_eq!(judged(&w).await, Vec::from_iter(found), "{says}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_meets_nobody_sends_no_more_there_until_it_is_let_go() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[NO_USER]));
    let (net, other) = net.host("c.test", 2, Character::default());
    let mut w = net.world().await;
    let new = w.source("new", &[NEW]).await;
    w.source("old", &["127.0.0.3"]).await;
    w.pool("all", &[("new", 1000)]).await;
    plan(&w, new, &[(Share::Each, &[600, 800, 1200, 2000])]).await;
    send_with(&w, 56, 4).await;
    assert_eq!(by(&peer, NEW), 2, "in two parts");
    to_the_next_day(&w).await;
    w.kill_and_start().await;
    let waits = send_with(&w, 1, 0).await;
    assert_eq!((by(&peer, NEW), w.why("b.test"), set_up(&w).await.judged[0].is_stopped), (2, Some(Why::Spent), true));
    // Elsewhere it goes on.
    until_all_gone(&w, &send(&w, 2, "c.test").await).await;
    assert_eq!(by(&other, NEW), 2);
    to_the_next_day(&w).await;
    assert_eq!(waiting(&w, &[waits]).await, 1);
    // Another of the pool may send there.
    let both = [("new", 1000), ("old", 1)].map(|(name, weight)| (name.to_owned(), weight));
    w.store.write(move |tx| source::change_pool(tx, "all", Some(&both), None)).await.unwrap();
    w.until_gone(waits).await;
    assert_eq!((by(&peer, NEW), by(&peer, "127.0.0.3")), (2, 1));
    // It begins with the day that it had.
    let today = source::day_of(base::Clock::now(&*w.clock));
    assert!(w.store.write(move |tx| source::let_go(tx, new, "mx.b.test", today)).await.unwrap());
    assert_eq!(judged(&w).await, [(Course::Stop, 2)]);
    until_all_gone(&w, &[send_with(&w, 1, 0).await]).await;
    assert_eq!(by(&peer, NEW), 3);
}

/// The second of its hosts takes what the first does not: both are one site, which is counted by the first.
#[tokio::test(start_paused = true)]
async fn who_calls_it_spam_counts_for_the_site_whichever_host_took_it() {
    let (net, _) = Net::default().mx("b.test", 5, "first.b.test", 9, rules(&[("greeting", Act::Drop)]));
    let (net, peer) = net.mx("b.test", 10, "second.b.test", 1, Character::default());
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[600, 800, 1200, 2000])]).await;
    let first = send_with(&w, 60, 0).await;
    assert_eq!(users(&peer), 60);
    complain(&w, first, 8).await;
    complain(&w, first, 9).await;
    to_the_next_day(&w).await;
    assert_eq!(judged(&w).await, [(Course::Back(3), 1)]);
    assert_eq!(&*set_up(&w).await.judged[0].site, "first.b.test");
}

/// A provider says that the one to whom a mail was delivered calls it spam.
async fn complain(w: &World, message: QueueId, number: u32) {
    let mail = "From: fbl@b.test\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=cut\r\n\r\n\
                --cut\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\
                User-Agent: x\r\n\r\n--cut--\r\n";
    let mut indexer = mime::Indexer::new(mime::Limits::default());
    indexer.push(mail.as_bytes());
    let (index, queue, now) = (indexer.finish(), w.queue.clone(), base::Clock::now(&*w.clock));
    let hear = move |tx: &mut store::Tx<'_>| {
        let (to, of, about) = ([at("bounce@example.test")], [base::OrganisationId::HOUSE], [(message, number)]);
        let bytes = mail.as_bytes();
        let came = Came { index: &index, bytes, from: None, to: &to, of: &of, about: &about, is_addressed: true };
        let heard = queue::understand(tx, &queue, bounce::Classifier::shared().unwrap(), came, now)?;
        assert_eq!(heard.len(), 1);
        heard.iter().try_for_each(|one| queue::hear(tx, one).map(drop))
    };
    w.store.write(hear).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_calls_it_spam_is_counted_once_on_the_day_that_says_so() {
    let (net, _peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    plan(&w, SourceId::DEFAULT, &[(Share::Each, &[600, 800, 1200, 2000])]).await;
    let first = send_with(&w, 60, 0).await;
    for _ in 0..3 {
        complain(&w, first, 7).await;
    }
    to_the_next_day(&w).await;
    assert_eq!(judged(&w).await, [], "one reader, however often");
    complain(&w, first, 8).await;
    complain(&w, first, 9).await;
    send_with(&w, 60, 0).await;
    to_the_next_day(&w).await;
    assert_eq!(judged(&w).await, [(Course::Back(3), 2)]);
    // Without a plan it is nobody's business.
    w.store.write(|tx| source::end_plan(tx, SourceId::DEFAULT)).await.unwrap();
    complain(&w, first, 10).await;
    let today = source::day_of(base::Clock::now(&*w.clock));
    let waits = move |tx: &mut store::Tx<'_>| source::is_to_judge(tx, &[SourceId::DEFAULT], today + 1, 30);
    assert!(!w.store.read(waits).await.unwrap());
}
