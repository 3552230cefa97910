//! Hosts that refuse, break off, fall silent; what is tried again, when, and what is not.

use outbox::Smarthost;
use queue::{QueueId, State};
use store::Sql;

use crate::peer::{Act, Character};
use crate::world::{HOUR, MINUTE, NOW, Net, World, panic_in_random, panicked, rules};

#[tokio::test(start_paused = true)]
async fn each_recipient_has_its_own_fate() {
    let refuse = [
        ("RCPT TO:<no@", Act::Say("550 5.1.1 No such user")),
        ("RCPT TO:<busy@", Act::Say("451 4.7.1 Greylisted")),
        // Trap 30: RFC 5321 §4.5.3.1.10.
        ("RCPT TO:<many@", Act::Say("552 5.5.3 Too many recipients")),
    ];
    let (net, peer) = Net::default().host("b.test", 1, rules(&refuse));
    let w = net.world().await;
    let id = w.send(&["yes@b.test", "no@b.test", "busy@b.test", "many@b.test"]).await;
    assert!(w.mail(1).await.contains("Final-Recipient: rfc822;no@b.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"));
    let states = async || w.show(id).await.iter().map(|d| d.state).collect::<Vec<_>>();
    let expected = [State::Delivered, State::Failed, State::Waiting, State::Waiting];
    w.until("all is settled", async || states().await == expected).await;
    assert_eq!(peer.taken().len(), 1);
    w.until("attempts are counted", async || w.metered() == ([1, 2, 1, 0], 0)).await;
    peer.becomes(Character::default());
    // Greylisting: after six minutes.
    w.pass(7 * MINUTE).await;
    w.until_gone(id).await;
    let mut to = peer.taken()[1..].iter().flat_map(|t| t.to.clone()).collect::<Vec<_>>();
    to.sort();
    assert_eq!(to, ["busy@b.test", "many@b.test"]);
    assert_eq!(w.inbox().await.len(), 1);
    w.until("attempts are counted", async || w.metered() == ([3, 2, 1, 0], 0)).await;
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_grow_rarer() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Say("450 4.3.0 Later"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    let mut before = 0;
    for (attempt, minutes) in [(1, 1), (2, 5), (3, 15), (4, 30), (5, 60), (6, 120), (7, 240), (8, 360), (9, 360)] {
        let d = w.until_deferred(id, attempt).await;
        assert_eq!(d.reply, "450 4.3.0 Later");
        let wait = (d.due.0 - NOW.0) / 1000 - before;
        // And up to a tenth more.
        assert!((minutes * 60 - 1..=minutes * 66).contains(&wait), "{attempt}: {wait} s");
        w.pass(wait as u64 + 1).await;
        before += wait + 1;
    }
    assert!(peer.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_host_that_falls_silent_frees_its_slot() {
    // RFC 5321 §4.5.3.2, in minutes.
    for (stage, minutes) in [("greeting", 5), ("EHLO", 5), ("MAIL", 5), ("RCPT", 5), ("DATA", 2), (".", 10)] {
        let (net, peer) = Net::default().host("b.test", 1, rules(&[(stage, Act::Stall)]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        let before = match stage {
            "greeting" => "",
            stage => stage,
        };
        let reached = async || match before {
            "" => !peer.said().is_empty(),
            stage => peer.all_said().iter().any(|l| l.starts_with(stage)),
        };
        w.until(stage, reached).await;
        w.pass(minutes * MINUTE - 5).await;
        assert_eq!(w.show(id).await[0].state, State::Claimed, "{stage}");
        w.pass(10).await;
        let d = w.until_deferred(id, 1).await;
        assert!(d.status.starts_with("4.4.") && d.reply.contains("did not answer in time"), "{stage}: {}", d.reply);
        peer.becomes(Character::default());
        w.pass(6 * MINUTE).await;
        w.until_gone(id).await;
        // RFC 5321 §4.5.3.2.6: who gives up at the end may send it twice; that is why it has ten minutes.
        assert_eq!(peer.taken().len(), if stage == "." { 2 } else { 1 }, "{stage}");
        w.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_hangs_up_is_tried_again() {
    for stage in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let (net, peer) = Net::default().host("b.test", 1, rules(&[(stage, Act::Drop)]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        let d = w.until_deferred(id, 1).await;
        assert!(d.reply.starts_with("451 4.4.2 The connection to mx.b.test was lost"), "{stage}: {}", d.reply);
        peer.becomes(Character::default());
        w.pass(6 * MINUTE).await;
        w.until_gone(id).await;
        assert_eq!(peer.taken().len(), 1, "{stage}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dns_or_a_host_that_is_away_defers_all_mail_for_it() {
    let net = Net::default().dns(|zone| {
        zone.fails("broken.test").mx("away.test", 10, "mx.away.test").ip("mx.away.test", [192, 0, 2, 7].into())
    });
    let w = net.world().await;
    let (broken, away) = (w.send(&["a@broken.test"]).await, w.send(&["a@away.test", "b@away.test"]).await);
    assert_eq!(w.until_deferred(broken, 1).await.status, "4.4.3");
    assert_eq!(w.until_deferred(away, 1).await.status, "4.4.1");
    w.until("both are", async || w.show(away).await.iter().all(|d| d.state == State::Waiting)).await;
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_zone_that_does_not_answer_is_not_asked_for_each_mail_and_soon_given_up() {
    let w = Net::default().dns(|zone| zone.silent("dead.test")).world().await;
    let first = w.send(&["a@dead.test"]).await;
    w.until("it is asked", async || w.metered().1 == 1).await;
    w.pass(31).await;
    assert_eq!(w.until_deferred(first, 1).await.status, "4.4.3");
    // Without any more waiting.
    let second = w.send(&["b@dead.test"]).await;
    assert_eq!(w.until_deferred(second, 1).await.status, "4.4.3");
    // A minute, and up to a tenth more.
    w.pass(67).await;
    w.until("it is asked again", async || w.metered().1 == 2).await;
    w.pass(6).await;
    w.until_deferred(first, 2).await;
    w.until_deferred(second, 2).await;
    w.check().await;
}

/// One mail to an old list: so many domains whose servers are dead.
async fn dead_zones(net: Net, n: usize) -> (World, QueueId) {
    let dead: Vec<String> = (0..n).map(|n| format!("dead{n}.test")).collect();
    let w = net.dns(|zone| dead.iter().fold(zone, |zone, name| zone.silent(name))).world().await;
    let to: Vec<String> = dead.iter().map(|name| format!("x@{name}")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    (w, id)
}

#[tokio::test(start_paused = true)]
async fn trap_20_zones_that_do_not_answer_keep_back_no_mail_whose_way_is_known() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    // More than a stream may have in hand.
    let (w, dead) =
        dead_zones(net.routes(|r| drop(r.fixed.insert("b.test".into(), "192.0.2.1:25".parse().unwrap()))), 2500).await;
    let waiting = async || w.show(dead).await.iter().filter(|d| d.state == State::Waiting && d.due == NOW).count();
    w.until("all are asked or put off", async || waiting().await == 0).await;
    assert!(w.metered().1 < 1000, "there are places for others");
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn trap_20_what_has_no_turn_to_be_asked_goes_back_to_the_queue() {
    let (w, id) = dead_zones(Net::default(), 300).await;
    w.until("all wait for answers", async || w.metered().1 == 300).await;
    w.pass(31).await;
    w.until("the first hundred were asked", async || w.metered() == ([0, 100, 0, 0], 200)).await;
    w.pass(15).await;
    w.until("the third hundred is back", async || w.metered() == ([0, 100, 0, 0], 100)).await;
    let untouched = w.show(id).await.iter().filter(|d| d.state == State::Waiting && d.delivery.attempts == 0).count();
    assert_eq!(untouched, 100);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_dns_rules_out_fails_at_once() {
    let net = Net::default().dns(|zone| zone.mx("null.test", 0, ".").txt("empty.test", "no mail here"));
    let w = net.world().await;
    for (n, (to, status)) in
        [("a@null.test", "5.1.10"), ("a@missing.test", "5.1.2"), ("a@empty.test", "5.4.4")].iter().enumerate()
    {
        let id = w.send(&[to]).await;
        w.until_gone(id).await;
        let report = w.mail(n + 1).await;
        assert!(
            report.contains(&format!("Final-Recipient: rfc822;{to}\r\nAction: failed\r\nStatus: {status}\r\n")),
            "{report}"
        );
    }
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn trap_18_mail_does_not_come_back_to_us() {
    let us = Character { name: "MX.example.test", ..Character::default() };
    let (net, peer) = Net::default().host("circle.test", 1, us);
    let net = net.dns(|zone| {
        zone.mx("ours.test", 10, "mx.example.test")
            .ip("mx.example.test", [192, 0, 2, 1].into())
            .mx("inside.test", 10, "mx.inside.test")
            .ip("mx.inside.test", [127, 0, 0, 1].into())
    });
    let w = net.world().await;
    for (n, to) in ["a@circle.test", "a@ours.test", "a@inside.test", "a@[127.0.0.1]"].iter().enumerate() {
        let id = w.send(&[to]).await;
        w.until_gone(id).await;
        let report = w.mail(n + 1).await;
        assert!(report.contains("\r\nStatus: 5.4.6\r\n"), "{to}: {report}");
    }
    assert!(peer.taken().is_empty());
}

#[tokio::test(start_paused = true)]
async fn trap_20_after_five_days_a_mail_is_given_up() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Say("450 4.3.0 Later"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_deferred(id, 1).await;
    // The server was off for a week: one attempt more, and that was the last.
    w.pass(7 * 24 * HOUR).await;
    w.until_gone(id).await;
    assert_eq!(peer.all_said().iter().filter(|l| l.starts_with("MAIL")).count(), 2);
    let report = w.mail(1).await;
    assert!(report.contains("Action: failed\r\nStatus: 4.4.7\r\n"), "{report}");
    assert!(report.contains("Diagnostic-Code: smtp; 450 4.3.0 Later\r\n"), "{report}");
    assert!(report.contains("mx.b.test answered: 450 4.3.0 Later\r\n"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn trap_21_a_sick_store_stops_sending_and_nothing_is_sent_twice() {
    const AWAY: Sql = Sql { name: "away", text: "ALTER TABLE queue_delivery RENAME TO elsewhere" };
    const BACK: Sql = Sql { name: "back", text: "ALTER TABLE elsewhere RENAME TO queue_delivery" };
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("DATA", Act::Stall)]));
    let w = net.world().await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(w.send(&[&format!("u{n}@b.test")]).await);
    }
    let at_data = async || peer.all_said().iter().filter(|l| l.starts_with("DATA")).count();
    w.until("one is on its way", async || at_data().await == 1).await;
    // It takes too long to keep back the next.
    w.pass(6).await;
    w.until("two are on their way", async || at_data().await == 2).await;
    w.store.write(|tx| tx.execute(&AWAY, &[])).await.unwrap();
    // Both are given up after their time, and that cannot be written.
    peer.becomes(Character::default());
    w.pass(2 * MINUTE + 1).await;
    w.until("the connections are gone", async || peer.said().len() >= 2).await;
    for _ in 0..20 {
        w.pass(1).await;
    }
    let sent = peer.taken().len();
    assert!(sent < 20, "sending went on");
    w.store.write(|tx| tx.execute(&BACK, &[])).await.unwrap();
    w.pass(2).await;
    w.until("the others go", async || {
        w.pass(1).await;
        peer.taken().len() >= 18
    })
    .await;
    w.pass(6 * MINUTE).await;
    for id in ids {
        w.until_gone(id).await;
    }
    let mut to: Vec<String> = peer.taken().into_iter().flat_map(|t| t.to).collect();
    to.sort();
    let n = to.len();
    to.dedup();
    assert_eq!((n, to.len()), (20, 20));
    w.check().await;
}

/// RFC 5321 §5.1: a first host that is up and unwell does not keep the mail from its backup.
#[tokio::test(start_paused = true)]
async fn the_backup_gets_what_the_first_host_puts_off() {
    let unwell = [
        rules(&[("MAIL", Act::Say("451 4.3.0 Database down"))]),
        rules(&[("RCPT", Act::Say("451 4.7.1 Policy server down"))]),
        rules(&[("DATA", Act::Drop)]),
    ];
    for character in unwell {
        let (net, first) = Net::default().mx("b.test", 10, "a.b.test", 1, character);
        let (net, second) = net.mx("b.test", 20, "b.b.test", 2, rules(&[("RCPT TO:<no@", Act::Say("550 5.1.1 No"))]));
        let w = net.world().await;
        let id = w.send(&["yes@b.test", "no@b.test"]).await;
        w.until_gone(id).await;
        assert_eq!((first.taken().len(), second.taken()[0].to.clone()), (0, vec!["yes@b.test".to_owned()]));
        assert!(w.mail(1).await.contains("Remote-MTA: dns; b.b.test\r\n"));
        w.check().await;
    }
    // After the final dot nobody knows who has it; and what is refused for good is.
    for (when, what) in [(".", Act::Say("451 4.3.0 Disk full")), ("RCPT", Act::Say("550 5.1.1 No such user"))] {
        let (net, _) = Net::default().mx("b.test", 10, "a.b.test", 1, rules(&[(when, what)]));
        let (net, second) = net.mx("b.test", 20, "b.b.test", 2, Character::default());
        let w = net.world().await;
        let id = w.send(&["yes@b.test"]).await;
        match when {
            "." => drop(w.until_deferred(id, 1).await),
            _ => w.until_gone(id).await,
        }
        assert!(second.said().is_empty(), "{when}");
    }
    // Nor is there a third.
    let busy = || rules(&[("MAIL", Act::Say("451 4.3.0 Later"))]);
    let (net, _) = Net::default().mx("b.test", 10, "a.b.test", 1, busy());
    let (net, _) = net.mx("b.test", 20, "b.b.test", 2, busy());
    let (net, third) = net.mx("b.test", 30, "c.b.test", 3, Character::default());
    let w = net.world().await;
    let id = w.send(&["x@b.test"]).await;
    assert_eq!(w.until_deferred(id, 1).await.host, "b.b.test");
    assert!(third.said().is_empty());
}

/// The administrator's own way may be mistyped, or its DNS down: the mail waits for him.
#[tokio::test(start_paused = true)]
async fn a_smart_host_or_a_route_that_has_no_name_costs_no_mail() {
    let net = Net::default().routes(|r| {
        r.smarthost = Some(Smarthost { address: "mial.provider.test:587".parse().unwrap(), login: None });
        r.fixed.insert("b.test".into(), "gone.inside.test:25".parse().unwrap());
    });
    let w = net.world().await;
    for to in ["x@b.test", "x@c.test"] {
        let id = w.send(&[to]).await;
        let d = w.until_deferred(id, 1).await;
        assert!(d.reply.contains("there is no such name in the DNS") && d.host.is_empty(), "{}", d.reply);
    }
    assert!(w.inbox().await.is_empty());
}

/// No reply, and always a bit more of it.
#[tokio::test(start_paused = true)]
async fn trap_20_a_host_that_trickles_has_no_more_time_than_a_silent_one() {
    for (stage, minutes) in [("greeting", 5), ("EHLO", 5), ("MAIL", 5)] {
        let (net, peer) = Net::default().host("b.test", 1, rules(&[(stage, Act::Trickle)]));
        let w = net.world().await;
        let id = w.send(&["jane@b.test"]).await;
        w.until(stage, async || !peer.said().is_empty()).await;
        for _ in 0..minutes * 2 {
            w.settle().await;
            assert_eq!(w.show(id).await[0].state, State::Claimed, "{stage}");
            w.pass(30).await;
        }
        let d = w.until_deferred(id, 1).await;
        assert!(d.reply.contains("did not answer in time"), "{stage}: {}", d.reply);
    }
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_hundred_slow_answers_are_not_waited_for_one_by_one() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT", Act::Slow(280))]));
    let w = net.world().await;
    let to: Vec<String> = (0..50).map(|n| format!("u{n}@b.test")).collect();
    let id = w.send(&to.iter().map(String::as_str).collect::<Vec<_>>()).await;
    w.until("RCPT", async || peer.all_said().iter().any(|l| l.starts_with("RCPT"))).await;
    let mut minutes = 0;
    // What came of it is seen some time after it came.
    w.until("it is given up within 40 minutes", async || {
        if minutes < 40 {
            w.pass(60).await;
            minutes += 1;
        }
        w.show(id).await[49].delivery.attempts > 0
    })
    .await;
    assert!(minutes >= 28, "{minutes}");
}

#[tokio::test(start_paused = true)]
async fn what_a_host_forbids_itself_is_not_tried_for_ever() {
    let (net, peer) = Net::default().host(
        "b.test",
        1,
        Character { offers: vec!["LIMITS MAILMAX=0 RCPTMAX=0"], ..Character::default() },
    );
    let w = net.world().await;
    let id = w.send(&["x@b.test"]).await;
    w.until_gone(id).await;
    assert_eq!((peer.said().len(), peer.taken().len()), (1, 1));
}

/// Whatever a worker trips over, its mail, its place and the mails behind it come to no harm.
#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_gives_everything_back() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("RCPT", Act::Say("451 4.7.1 Later"))]));
    let mut w = net.world().await;
    panic_in_random(true);
    let id = w.send(&["x@b.test"]).await;
    let d = w.until_deferred(id, 1).await;
    panic_in_random(false);
    assert_eq!(d.reply, "451 4.3.0 This server failed while it sent the mail");
    peer.becomes(Character::default());
    let other = w.send(&["y@b.test"]).await;
    w.until_gone(other).await;
    w.pass(6 * MINUTE).await;
    w.until_gone(id).await;
    w.check().await;
    // No worker that is counted and not there.
    w.stop().await.unwrap();
}

/// Before it has a mail in hand, as the line's next worker would.
#[tokio::test(start_paused = true)]
async fn a_worker_that_panics_on_its_way_does_not_do_so_for_ever() {
    let (net, peer) = Net::default().mx("b.test", 10, "a.b.test", 1, Character::default());
    let (net, _) = net.mx("b.test", 10, "b.b.test", 2, Character::default());
    let w = net.world().await;
    panic_in_random(true);
    let id = w.send(&["x@b.test"]).await;
    let given_back = async || panicked() > 0 && w.show(id).await[0].state == State::Waiting;
    w.until("it is given back", given_back).await;
    assert!(panicked() <= 2, "{} workers", panicked());
    panic_in_random(false);
    assert!(peer.said().is_empty());
    w.pass(6 * MINUTE).await;
    w.until_gone(id).await;
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_leaves_the_line_at_once() {
    let (net, peer) = Net::default().host("b.test", 1, rules(&[("greeting", Act::Stall)]));
    let w = net.world().await;
    let (id, other) = (w.send(&["x@b.test", "y@b.test"]).await, w.send(&["z@b.test"]).await);
    w.until("connections", async || peer.said().len() == 2).await;
    let cancelled = w.store.write(move |tx| queue::cancel(tx, id, 0, crate::world::NOW)).await.unwrap();
    assert_eq!(cancelled.under_way, 2);
    w.until_gone(id).await;
    assert_eq!(w.show(other).await[0].state, State::Claimed);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn the_words_of_a_report_are_whose_they_are() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[("MAIL", Act::Drop)]));
    let w = net
        .dns(|zone| zone.mx("away.test", 10, "mx.away.test").ip("mx.away.test", [192, 0, 2, 7].into()))
        .world()
        .await;
    for to in ["x@b.test", "x@away.test"] {
        let id = w.send(&[to]).await;
        let d = w.until_deferred(id, 1).await;
        assert_eq!((d.host.as_str(), d.status.starts_with("4.4.")), ("", true), "{}", d.reply);
    }
}

/// What it said too much was taken for the answer to the next mail's first command, and so on.
#[tokio::test(start_paused = true)]
async fn a_host_that_says_more_than_it_was_asked_gets_the_next_mail_on_another_connection() {
    let twice = [("RCPT TO:<no@", Act::Say("550 5.1.1 Nobody\r\n250 2.1.5 Or so"))];
    let (net, peer) = Net::default().host("b.test", 1, Character { rules: twice.to_vec(), ..Character::default() });
    let w = net.world().await;
    let no = w.send(&["no@b.test"]).await;
    w.until_gone(no).await;
    let jane = w.send(&["jane@b.test"]).await;
    w.until_gone(jane).await;
    assert_eq!((peer.taken().len(), peer.said().len()), (1, 2), "{:?}", peer.said());
    assert_eq!(w.receipts(jane).await[0].1.len(), 1);
    w.check().await;
}
