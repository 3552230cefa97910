//! Mails that are made for each recipient, when a connection is ready for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use base::Stream;
use queue::receipt::End;
use queue::source::What;
use queue::{Bodies, Delivery, MAX_MADE, Message, NotMade, QueueId, Recipe, State};

use crate::peer::{Act, Character, Peer};
use crate::world::{MINUTE, Net, World, rules};

/// What it is asked for, in order; it does what the reference says.
#[derive(Default)]
struct Maker {
    asked: Mutex<Vec<String>>,
    /// It takes its time, as long as a test wants it to.
    slow: AtomicBool,
}

impl Maker {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Bodies for Maker {
    fn make(&self, recipe: &Recipe, message: &Message, delivery: &Delivery) -> Result<Vec<u8>, NotMade> {
        assert_eq!((recipe.kind, message.message_id.as_deref()), (7, Some("7@x.test")));
        self.asked.lock().unwrap().push(delivery.to.to_string());
        let to = &delivery.to;
        let mail = |text: &str| Ok(format!("Subject: for {to}\r\n\r\n{text}").into_bytes());
        match str::from_utf8(&recipe.reference).unwrap() {
            "later" => Err(NotMade::Later(Duration::from_secs(600), "the campaign is paused".into())),
            "never" => Err(NotMade::Never("the template has no end".into())),
            "unwanted" => Err(NotMade::Unwanted("unsubscribed".into())),
            "panic" => panic!("a panic that was asked for"),
            "large" => Ok(vec![b'x'; MAX_MADE + 1]),
            "slow" => {
                // Not for ever: a test that fails waits for its threads.
                for _ in (0..30_000).take_while(|_| self.slow.load(Ordering::Relaxed)) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                mail("at last\r\n")
            }
            "stray" => mail("a\n.\nMAIL FROM:<evil@x.test>\r.\rb"),
            "utf-8" => mail("fünf\r\n"),
            "utf-8 header" => Ok("Subject: fünf\r\n\r\nfive\r\n".into()),
            _ => mail("hello\r\n"),
        }
    }
}

async fn world(character: Character) -> (World, Peer, Arc<Maker>) {
    let maker = Arc::<Maker>::default();
    let (net, peer) = Net::default().host("b.test", 1, character);
    (net.making(maker.clone()).world().await, peer, maker)
}

/// How each delivery ended, in the words of the last attempt.
async fn ends(w: &World, id: QueueId) -> Vec<(End, String)> {
    // A host of which nothing is known is not sent all at once.
    let gone = async || {
        w.pass(1).await;
        w.show(id).await.is_empty()
    };
    w.until("the message is finished", gone).await;
    let all = w.receipts(id).await;
    all.into_iter().map(|(r, attempts)| (r.end, attempts[0].reply.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn each_recipient_has_a_mail_of_its_own() {
    let (w, peer, maker) = world(Character { offers: vec!["SIZE 1000"], ..Character::default() }).await;
    let id = w.make_for(&["a@b.test", "b@b.test", "c@b.test"], "").await;
    assert!(ends(&w, id).await.iter().all(|(end, _)| *end == End::Delivered));
    let mut taken: Vec<_> = peer.taken().into_iter().map(|t| (t.to, t.body)).collect();
    taken.sort();
    let mail = |to: &str| (vec![to.to_owned()], format!("Subject: for {to}\r\n\r\nhello\r\n"));
    assert_eq!(taken, ["a@b.test", "b@b.test", "c@b.test"].map(mail));
    assert_eq!(maker.asked().len(), 3);
    let mails = peer
        .all_said()
        .into_iter()
        .filter(|l| l.starts_with("MAIL FROM:<bounce+") && l.ends_with("@example.test> SIZE=32"));
    assert_eq!(mails.count(), 3, "{:?}", peer.said());
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_before_a_connection_is_ready() {
    let (w, peer, maker) = world(rules(&[("greeting", Act::Stall)])).await;
    w.hold(What::Stream(Stream::Marketing), false).await;
    let id = w.make_for(&["a@b.test"], "").await;
    w.pass(MINUTE).await;
    assert!(peer.said().is_empty());
    w.resume(What::Stream(Stream::Marketing)).await;
    w.until("a connection", async || peer.said().len() == 1).await;
    assert_eq!((maker.asked().len(), w.show(id).await[0].state), (0, State::Claimed));
    peer.becomes(rules(&[("greeting", Act::Say("421 4.3.2 Not now"))]));
    peer.hang_up();
    w.until_deferred(id, 1).await;
    assert_eq!(maker.asked().len(), 0);
    peer.becomes(Character::default());
    w.pass(11 * MINUTE).await;
    w.until_gone(id).await;
    assert_eq!(maker.asked(), ["a@b.test"]);
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_had_now_waits() {
    let (w, peer, maker) = world(Character::default()).await;
    let id = w.make_for(&["a@b.test"], "later").await;
    let d = w.until_deferred(id, 1).await;
    assert_eq!(d.reply, "451 4.3.0 The mail is not made yet: the campaign is paused");
    assert!((600_000..660_001).contains(&(d.due.0 - crate::world::NOW.0)), "{}", d.due.0);
    let id = w.make_for(&["a@b.test"], "panic").await;
    assert!(w.until_deferred(id, 1).await.reply.contains("failed while it made the mail"));
    assert_eq!((peer.taken().len(), maker.asked().len()), (0, 2));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_never_to_be_had_ends_and_its_receipt_says_why() {
    let (w, peer, _) = world(Character::default()).await;
    for (reference, end, text) in [
        ("never", End::Bounced, "554 5.6.0 The mail cannot be made: the template has no end"),
        ("unwanted", End::Cancelled, "554 5.6.0 The mail is not wanted any more: unsubscribed"),
        (
            "large",
            End::Bounced,
            "554 5.6.0 The mail cannot be made: It came to 4194305 octets, and 4194304 are the most",
        ),
    ] {
        let id = w.make_for(&["a@b.test", "b@b.test"], reference).await;
        assert_eq!(ends(&w, id).await, [(end, text.to_owned()), (end, text.to_owned())]);
        let alone = w.make_for(&["a@b.test"], reference).await;
        assert_eq!(ends(&w, alone).await, [(end, text.to_owned())]);
    }
    w.check().await;
    assert!(peer.taken().is_empty() && w.inbox().await.is_empty(), "nobody is sent a report");
}

#[tokio::test(start_paused = true)]
async fn who_takes_too_long_is_asked_again() {
    let (w, peer, maker) = world(Character::default()).await;
    maker.slow.store(true, Ordering::Relaxed);
    let id = w.make_for(&["a@b.test"], "slow").await;
    w.until_meanwhile("it is asked", async || maker.asked().len() == 1).await;
    w.jump(31).await;
    w.until_meanwhile("it waits", async || w.show(id).await[0].delivery.attempts == 1).await;
    assert!(w.show(id).await[0].reply.contains("not made within 30 seconds"));
    maker.slow.store(false, Ordering::Relaxed);
    w.pass(6 * MINUTE).await;
    w.until_gone(id).await;
    assert_eq!((peer.taken().len(), maker.asked().len()), (1, 2));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_nobody_who_makes_a_mail() {
    let (mut w, peer, maker) = world(Character::default()).await;
    maker.slow.store(true, Ordering::Relaxed);
    let id = w.make_for(&["a@b.test"], "slow").await;
    w.until_meanwhile("it is asked", async || maker.asked().len() == 1).await;
    w.stop().await.unwrap();
    let d = &w.show(id).await[0];
    assert_eq!((d.state, d.delivery.attempts, d.delivery.uncertain), (State::Waiting, 0, 0));
    maker.slow.store(false, Ordering::Relaxed);
    w.start_again().await;
    w.until_gone(id).await;
    assert_eq!(peer.taken().len(), 1);
}

/// Places where mails are made.
fn places() -> usize {
    available_parallelism().unwrap().get()
}

/// As many hosts as there are places, `c0.test` and so on.
fn with_hosts(mut net: Net, letter: char, first: usize) -> Net {
    for n in 0..places() {
        net = net.host(&format!("{letter}{n}.test"), (first + n) as u8, Character::default()).0;
    }
    net
}

/// Mails to them that take all places, until they are slow no longer.
async fn all_places_are_taken(w: &World, maker: &Maker) {
    maker.slow.store(true, Ordering::Relaxed);
    let slow: Vec<String> = (0..places()).map(|n| format!("a@c{n}.test")).collect();
    let slow: Vec<&str> = slow.iter().map(String::as_str).collect();
    w.make_for(&slow, "slow").await;
    w.until_meanwhile("all places are taken", async || maker.asked().len() == places()).await;
}

/// A connection that waits for a place where mail is made has no mail in hand: it sends what is there.
#[tokio::test(start_paused = true)]
async fn what_is_to_be_made_keeps_back_no_other_mail() {
    let maker = Arc::<Maker>::default();
    let (net, peer) = with_hosts(Net::default(), 'c', 2).host("b.test", 1, Character::default());
    let w = net.making(maker.clone()).world().await;
    w.policy(None, &[("connections", "1")]).await;
    all_places_are_taken(&w, &maker).await;
    let made = w.make_for(&["a@b.test", "b@b.test", "c@b.test"], "").await;
    w.until_meanwhile("a connection", async || !peer.said().is_empty()).await;
    // By weight each third or so would be the turn of what is to be made.
    for _ in 0..5 {
        let other = w.send_in(Stream::Transactional, &["code@b.test"]).await;
        w.until_meanwhile("it is gone", async || w.show(other).await.is_empty()).await;
        // So that it is not the rate for a new site that counts.
        w.jump(1).await;
    }
    assert_eq!((maker.asked().len(), w.show(made).await.len()), (places(), 3), "nothing else was made meanwhile");
    maker.slow.store(false, Ordering::Relaxed);
    assert!(ends(&w, made).await.iter().all(|(end, _)| *end == End::Delivered));
    w.check().await;
}

/// What is urgent has places of its own, whoever of its line waits for one already.
#[tokio::test(start_paused = true)]
async fn marketing_that_takes_its_time_to_be_made_keeps_back_nothing_that_is_urgent() {
    let maker = Arc::<Maker>::default();
    let (net, peer) = with_hosts(Net::default(), 'c', 2).host("b.test", 1, Character::default());
    let w = net.making(maker.clone()).world().await;
    w.policy(None, &[("connections", "1")]).await;
    all_places_are_taken(&w, &maker).await;
    let made = w.make_for(&["a@b.test"], "").await;
    w.until_meanwhile("a connection", async || !peer.said().is_empty()).await;
    let mut looks = 0;
    let some = async || {
        looks += 1;
        looks > 20
    };
    w.until_meanwhile("it waits for a place", some).await;
    let urgent = w.make_in(Stream::Transactional, &["code@b.test"], "").await;
    w.until_meanwhile("it is gone", async || w.show(urgent).await.is_empty()).await;
    assert_eq!((peer.taken().len(), maker.asked().len()), (1, places() + 1));
    maker.slow.store(false, Ordering::Relaxed);
    assert_eq!(ends(&w, made).await[0].0, End::Delivered);
    w.check().await;
}

/// Who was in the queue for a place and has something else to wait for is not given one.
#[tokio::test(start_paused = true)]
async fn a_place_is_given_to_who_makes_a_mail() {
    let maker = Arc::<Maker>::default();
    let net = with_hosts(with_hosts(Net::default(), 'c', 2), 'b', 2 + places());
    let (net, peer) = net.host("d.test", 1, Character::default());
    let w = net.making(maker.clone()).world().await;
    w.policy(None, &[("connections", "1")]).await;
    // These have had their mail of this while, and rest.
    for n in 0..places() {
        w.policy(Some(&format!("b{n}.test")), &[("rate", "1/m")]).await;
        let first = w.send_in(Stream::Transactional, &[&format!("a@b{n}.test")]).await;
        w.until_gone(first).await;
    }
    all_places_are_taken(&w, &maker).await;
    for n in 0..places() {
        let to = format!("a@b{n}.test");
        let made = w.make_for(&[&to], "").await;
        w.until_meanwhile("it is in line", async || w.show(made).await[0].state == State::Claimed).await;
        let mut looks = 0;
        let some = async || {
            looks += 1;
            looks > 20
        };
        w.until_meanwhile("it waits for a place", some).await;
        let other = w.send_in(Stream::Transactional, &[&to]).await;
        w.until_meanwhile("it has no turn yet", async || w.show(other).await[0].state == State::Waiting).await;
    }
    w.make_for(&["a@d.test"], "").await;
    w.until_meanwhile("a connection", async || !peer.said().is_empty()).await;
    maker.slow.store(false, Ordering::Relaxed);
    w.until_meanwhile("it is made", async || peer.taken().len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn trap_33_after_a_crash_it_is_made_again() {
    let (mut w, peer, maker) = world(rules(&[(".", Act::Stall)])).await;
    let id = w.make_for(&["a@b.test"], "").await;
    w.until("the host has it", async || peer.taken().len() == 1 || peer.all_said().contains(&".".to_owned())).await;
    peer.becomes(Character::default());
    w.kill_and_start().await;
    assert_eq!(ends(&w, id).await[0].0, End::Delivered);
    assert_eq!((maker.asked().len(), w.receipts(id).await[0].0.uncertain), (2, 1));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn trap_02_no_stray_line_end_of_a_made_mail_goes_out_or_is_kept() {
    let (w, peer, _) = world(Character::default()).await;
    let id = w.make_for(&["a@b.test", "me@example.test"], "stray").await;
    assert!(ends(&w, id).await.iter().all(|(end, _)| *end == End::Delivered));
    let text = "\r\n\r\na\r\n.\r\nMAIL FROM:<evil@x.test>\r\n.\r\nb";
    assert_eq!(peer.taken()[0].body, format!("Subject: for a@b.test{text}\r\n"));
    assert_eq!(peer.said()[0].iter().filter(|l| l.starts_with("MAIL")).count(), 1);
    let kept = w.mail(1).await;
    assert!(kept.ends_with(&format!("Subject: for me@example.test{text}")), "{kept}");
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn trap_30_what_a_made_mail_demands_is_known_when_it_is_made() {
    let (w, peer, _) = world(Character::default()).await;
    for (reference, code) in [("utf-8", "5.6.3"), ("utf-8 header", "5.6.7")] {
        let id = w.make_for(&["a@b.test"], reference).await;
        let (end, reply) = ends(&w, id).await.remove(0);
        assert!(end == End::Bounced && reply.contains(code), "{reply}");
    }
    peer.becomes(Character { offers: vec!["8BITMIME"], ..Character::default() });
    w.pass(31).await;
    let id = w.make_for(&["a@b.test"], "utf-8").await;
    assert_eq!(ends(&w, id).await[0].0, End::Delivered);
    assert!(peer.all_said().iter().any(|l| l.ends_with("BODY=8BITMIME")), "{:?}", peer.said());
}
