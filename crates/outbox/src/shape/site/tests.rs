use base::Reply;
use tokio::time::advance;

use super::super::{Policies, on_one_line};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

struct Rig {
    site: Site,
    policies: Policies,
    mail: Option<Ticket>,
}

impl Rig {
    fn of(host: &str) -> Self {
        let policies = Policies::shipped().unwrap();
        let policy = policies.of_host(host).clone();
        Rig { site: Site::new(policy.clone(), policy.limits.clone()), policies, mail: None }
    }

    fn hear(&mut self, code: u16, text: &'static str) -> Course {
        self.hear_of("example.test", Reply::plain(code, text))
    }

    fn hear_of(&mut self, sender: &str, reply: Reply) -> Course {
        self.hear_again(sender, &reply, 0)
    }

    fn hear_again(&mut self, sender: &str, reply: &Reply, attempts: u32) -> Course {
        let text = on_one_line(reply, &[]);
        let Some(hint) = self.site.policy().hint(reply, &text) else { return Course::default() };
        let wait = self.policies.delays.named(&text).filter(|_| reply.is_transient());
        let mail = Some(self.ticket());
        self.site.heard(&Words { hint, wait, sender: Some(sender), mail, attempts }, Instant::now())
    }

    /// Of the mail that is under way, or of one that goes out whatever the site bears.
    fn ticket(&mut self) -> Ticket {
        self.mail.take().unwrap_or_else(|| self.site.bears.sent(Stream::Mail, Instant::now()))
    }

    fn send(&mut self) -> Result<(), Hold> {
        self.mail = Some(self.site.send(("example.test", Stream::Mail), Instant::now())?);
        Ok(())
    }

    fn accepted(&mut self) {
        let mail = self.ticket();
        self.site.accepted(mail, Instant::now());
    }

    /// Opens as many connections as may be.
    fn fill(&mut self) -> usize {
        while self.site.may_connect(Instant::now()) == MayConnect::Yes {
            self.site.enter();
        }
        self.site.open
    }

    /// A full round of mails, and one more, is accepted.
    fn round(&mut self) {
        let n = self.site.limit;
        (0..n).for_each(|_| self.accepted());
    }
}

/// What the administrator sends to hosts of his own is not sounded: only strangers are.
#[tokio::test(start_paused = true)]
async fn a_host_of_our_own_is_sent_as_many_at_once_as_come() {
    let policies = Policies::shipped().unwrap();
    let policy = policies.own().clone();
    let mut site = Site::new(policy.clone(), policy.limits.clone());
    assert!((0..1000).all(|_| site.send(("example.test", Stream::Mail), Instant::now()).is_ok()));
    let mut rig = Rig::of("mx.example.org");
    assert!(rig.send().is_ok() && rig.send().is_err());
}

#[tokio::test(start_paused = true)]
async fn each_full_round_gives_a_connection_more_up_to_the_sites_limit() {
    let mut rig = Rig::of("aspmx.l.google.com");
    let mut seen = vec![rig.fill()];
    for _ in 0..5 {
        rig.round();
        seen.push(rig.fill());
    }
    assert_eq!(seen, [2, 3, 4, 5, 5, 5]);
}

#[tokio::test(start_paused = true)]
async fn a_word_against_us_halves_and_quiet_gives_back() {
    let mut rig = Rig::of("mx.example.org");
    (0..8).for_each(|_| rig.round());
    assert_eq!(rig.fill(), 10);
    rig.site.open = 0;
    let interval = rig.site.interval();
    // So long that what was accepted tells nothing of how much is too much.
    advance(61 * MINUTE).await;
    // The data says: act from the third on.
    for _ in 0..2 {
        assert_eq!(rig.hear(450, "You are sending too fast, slow down"), Course::default());
    }
    assert_eq!(rig.fill(), 10);
    rig.site.open = 0;
    assert!(rig.hear(450, "You are sending too fast, slow down").close);
    assert_eq!(rig.fill(), 5);
    assert_eq!(rig.site.interval(), interval * 2);
    advance(29 * MINUTE).await;
    assert!(rig.send().is_ok());
    assert_eq!(rig.site.interval(), interval * 2);
    advance(MINUTE).await;
    assert!(rig.send().is_ok());
    assert_eq!(rig.site.interval(), interval);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_the_text_names_is_kept() {
    let mut rig = Rig::of("mx.example.org");
    let course = rig.hear(421, "4.7.1 too many recipients this hour, try again in 300 seconds");
    assert_eq!(course.wait, Some(5 * MINUTE));
    assert_eq!(rig.site.pause(Instant::now()), Some(5 * MINUTE));
    assert_eq!(rig.send(), Err(Hold::Site(5 * MINUTE)));
    advance(5 * MINUTE - Duration::from_millis(1)).await;
    assert!(rig.send().is_err());
    advance(Duration::from_millis(1)).await;
    assert!(rig.send().is_ok());
    assert_eq!(rig.site.pause(Instant::now()), None);
}

#[tokio::test(start_paused = true)]
async fn figures_of_a_hint_hold_for_their_time() {
    let mut rig = Rig::of("aspmx.l.google.com");
    let reply = || Reply::new(421, 7, 28, "Gmail has detected an unusual rate of mail");
    assert_eq!(rig.hear_of("example.test", reply()), Course::default());
    assert!(rig.hear_of("example.test", reply()).close);
    // 10 a minute: the next waits six seconds, and so does each after it.
    for _ in 0..3 {
        assert_eq!(rig.send(), Err(Hold::Site(Duration::from_secs(6))));
        advance(Duration::from_secs(6)).await;
        assert!(rig.send().is_ok());
        rig.accepted();
    }
    advance(30 * MINUTE).await;
    for _ in 0..2 {
        assert!(rig.send().is_ok());
        rig.accepted();
    }
}

/// A complaint is no reason to go faster.
#[tokio::test(start_paused = true)]
async fn while_a_site_complains_the_pace_that_it_set_holds() {
    let mut rig = Rig::of("mx.olc.protection.outlook.com");
    let reply = Reply::new(451, 7, 650, "The mail server has been temporarily rate limited");
    let mut sent = 0;
    for _ in 0..600 {
        if rig.send().is_ok() {
            sent += 1;
            rig.hear_of("a.test", reply.clone());
        }
        advance(Duration::from_secs(1)).await;
    }
    // The first three until it is acted upon, then one a minute.
    assert!((10..=13).contains(&sent), "{sent}");
    // A milder word does not lift a stricter one.
    let mut rig = Rig::of("aspmx.l.google.com");
    rig.hear_of("a.test", Reply::new(421, 7, 0, "low reputation of the IP"));
    for _ in 0..2 {
        rig.hear_of("a.test", Reply::new(421, 7, 28, "Gmail has detected an unusual rate of mail"));
    }
    advance(MINUTE).await;
    assert!(rig.send().is_ok());
    assert_eq!(rig.send(), Err(Hold::Site(MINUTE)));
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_tried_at_once_is_not_for_ever() {
    let mut rig = Rig::of("mx.example.org");
    let reply = Reply::new(451, 7, 0, "The limit of 20 messages per session is reached");
    let waits: Vec<_> = (0..5).map(|n| rig.hear_again("a.test", &reply, n).wait).collect();
    assert_eq!(waits, [Some(AT_ONCE), Some(AT_ONCE), Some(AT_ONCE), None, None]);
}

/// Nothing that a site says makes us trust less.
#[tokio::test(start_paused = true)]
async fn tls_is_raised_and_never_lowered() {
    let mut rig = Rig::of("aspmx.l.google.com");
    rig.hear_of("a.test", Reply::new(421, 7, 29, "This message was not sent over a TLS connection"));
    assert_eq!(rig.site.tls(), TlsLevel::Verify);
}

#[tokio::test(start_paused = true)]
async fn one_moment_halves_once() {
    let mut rig = Rig::of("mx.example.org");
    (0..8).for_each(|_| rig.round());
    for _ in 0..20 {
        rig.hear(450, "You are sending too fast, slow down");
    }
    assert_eq!(rig.fill(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_a_reply_names_is_bounded_by_what_the_data_says() {
    let mut rig = Rig::of("aspmx.l.google.com");
    let course = rig.hear(421, "4.7.0 try again later, closing connection; retry in 24 hours");
    assert_eq!(course.wait, Some(HOUR));
}

#[tokio::test(start_paused = true)]
async fn one_sender_waits_and_the_others_do_not() {
    let mut rig = Rig::of("aspmx.l.google.com");
    rig.hear_of("bad.test", Reply::new(421, 7, 26, "This mail is unauthenticated"));
    let now = Instant::now();
    assert_eq!(rig.site.send(("bad.test", Stream::Mail), now).err(), Some(Hold::Sender(60 * MINUTE)));
    assert!(rig.site.send(("good.test", Stream::Mail), now).is_ok());
    // Nobody fills our memory with senders, nor stops the site by them.
    for n in 0..10 * SENDERS {
        rig.hear_of(&format!("{n}.test"), Reply::new(421, 7, 26, "This mail is unauthenticated"));
    }
    assert_eq!(rig.site.senders.len(), SENDERS);
    advance(MINUTE).await;
    assert!(rig.site.send(("good.test", Stream::Mail), Instant::now()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_5xx_that_means_later_is_kept_three_times() {
    let mut rig = Rig::of("mx.mail.protection.outlook.com");
    let reply = Reply::new(550, 2, 121, "Recipient's per hour message receive limit exceeded");
    for attempts in 0..5 {
        let course = rig.hear_again("a.test", &reply, attempts);
        assert_eq!(course.keep, attempts < KEPT, "{attempts}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_follow_each_other_no_faster_than_they_may() {
    let mut rig = Rig::of("mx.example.org");
    let start = Instant::now();
    let mut n = 0;
    while Instant::now() < start + MINUTE {
        match rig.site.connect(Stream::Mail, Instant::now()) {
            Ok(()) => n += 1,
            Err(wait) => advance(wait).await,
        }
    }
    assert!((90..=100).contains(&n), "{n}");
}

#[tokio::test(start_paused = true)]
async fn too_many_recipients_makes_transactions_smaller() {
    let mut rig = Rig::of("mx.example.org");
    let before = rig.site.recipients();
    assert_eq!(rig.hear_of("a.test", Reply::new(452, 5, 3, "Too many recipients")).wait, Some(AT_ONCE));
    assert_eq!(rig.site.recipients(), before / 2);
    (0..20).for_each(|_| _ = rig.hear_of("a.test", Reply::new(452, 5, 3, "Too many recipients")));
    assert_eq!(rig.site.recipients(), 1);
    advance(REMEMBERED).await;
    assert!(rig.send().is_ok());
    assert_eq!(rig.site.recipients(), before, "a day later it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_site_is_forgotten_when_nothing_would_be_lost() {
    let mut rig = Rig::of("mx.example.org");
    assert!(rig.site.is_at_rest(Instant::now()));
    assert!(rig.send().is_ok());
    assert!(!rig.site.is_at_rest(Instant::now()));
    advance(MINUTE).await;
    assert!(rig.site.is_at_rest(Instant::now()));
    rig.hear(421, "too many recipients this hour");
    assert!(!rig.site.is_at_rest(Instant::now()));
    advance(61 * MINUTE).await;
    assert!(rig.site.is_at_rest(Instant::now()));
}
