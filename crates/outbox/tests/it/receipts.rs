//! What the receipts say of an attempt: with whom, what was said, how it was protected, and what it means.

use queue::QueueId;
use queue::receipt::{Attempt, End, Receipt, attempts, command, of_message};
use testkit::Dir;

use crate::peer::{Act, Character};
use crate::tls::{certificate, offering};
use crate::world::{Net, World, rules};

impl World {
    pub async fn receipts(&self, id: QueueId) -> Vec<(Receipt, Vec<Attempt>)> {
        let work = move |tx: &mut store::Tx<'_>| {
            let all = of_message(tx, id)?;
            all.into_iter()
                .map(|r| Ok((r.clone(), attempts(tx, &[r.trail])?.remove(0))))
                .collect::<store::Result<Vec<_>>>()
        };
        self.store.read(work).await.unwrap()
    }
}

fn commands(attempt: &Attempt) -> Vec<&'static str> {
    attempt.talk.as_ref().unwrap().steps.iter().map(|step| command(step.to)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_receipt_has_the_host_its_tls_and_the_dialogue() {
    let dir = Dir::new("outbox-receipts");
    let (net, _) = Net::default().host("b.test", 1, offering(&certificate(&dir, "other.test")));
    let w = net.world().await;
    let id = w.send(&["jane@b.test", "jim@b.test"]).await;
    w.until_gone(id).await;
    let all = w.receipts(id).await;
    assert_eq!(
        all.iter().map(|(r, _)| (r.number, r.end, r.attempts)).collect::<Vec<_>>(),
        [(0, End::Delivered, 1), (1, End::Delivered, 1)]
    );
    for (_, attempts) in &all {
        let talk = attempts[0].talk.as_ref().unwrap();
        assert_eq!(
            (&*talk.peer.host, &*talk.peer.address, &*talk.peer.source),
            ("mx.b.test", "192.0.2.1:25", "default")
        );
        assert!(
            talk.peer.tls.starts_with("TLSv1.3 TLS_AES_256_GCM_SHA384, certificate not verified: "),
            "{}",
            talk.peer.tls
        );
        assert_eq!(
            commands(&attempts[0]),
            ["(connected)", "EHLO", "STARTTLS", "EHLO", "MAIL FROM", "RCPT TO", "DATA", "(end of the mail)"]
        );
        assert_eq!(attempts[0].reply.code, 250);
    }
    // The next mail on the same connection has its own part only.
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    let next = &w.receipts(id).await[0].1[0];
    assert_eq!((commands(next)[0], next.talk.as_ref().unwrap().carried), ("MAIL FROM", 1));
    w.check().await;
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_there_with_its_class() {
    let (net, peer) =
        Net::default().host("b.test", 1, rules(&[("RCPT", Act::Say("450 4.2.0 Greylisted, come back later"))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    let waiting = w.until_deferred(id, 1).await;
    assert_eq!((waiting.class.as_str(), w.receipts(id).await.len()), ("greylisted", 0));
    peer.becomes(rules(&[("RCPT", Act::Say("550 5.1.1 No such user here"))]));
    w.pass(900).await;
    w.until_gone(id).await;
    let all = w.receipts(id).await;
    let (receipt, attempts) = &all[0];
    assert_eq!((receipt.end, receipt.class.as_str(), receipt.attempts), (End::Bounced, "no-such-user", 2));
    let told: Vec<_> = attempts.iter().map(|a| (a.tried.word(), a.class.as_str(), a.reply.to_string())).collect();
    assert_eq!(
        told,
        [
            ("deferred", "greylisted", "450 4.2.0 Greylisted, come back later".to_owned()),
            ("failed", "no-such-user", "550 5.1.1 No such user here".to_owned()),
        ]
    );
    // A minute between them, as the policies say; the milliseconds are those of the clock.
    assert!(attempts[1].at.0 - attempts[0].at.0 >= 60_000);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_without_a_host_has_its_class_too() {
    let (net, _) = Net::default().host("b.test", 1, Character::default());
    let w = net.dns(|zone| zone.mx("nomail.test", 0, ".")).world().await;
    let null = w.send(&["jane@nomail.test"]).await;
    let nobody = w.send(&["jane@nowhere.test"]).await;
    w.until_gone(null).await;
    w.until_gone(nobody).await;
    let class = async |id| w.receipts(id).await[0].0.class.clone();
    assert_eq!((class(null).await.as_str(), class(nobody).await.as_str()), ("no-such-domain", "no-such-domain"));
}

#[tokio::test(start_paused = true)]
async fn a_chatty_host_fills_no_disk() {
    let (net, _) = Net::default().host("b.test", 1, rules(&[("RCPT", Act::Say(CHATTY))]));
    let w = net.world().await;
    let id = w.send(&["jane@b.test"]).await;
    w.until_gone(id).await;
    let all = w.receipts(id).await;
    let step = all[0].1[0].talk.as_ref().unwrap().steps.last().unwrap().clone();
    assert!(step.reply.text.len() <= 1024, "{}", step.reply.text.len());
}

/// A line as long as any that is taken.
const CHATTY: &str = {
    const LINE: [u8; 2000] = {
        let (mut line, mut at, start) = ([b'x'; 2000], 0, b"550 5.1.1 ");
        while at < start.len() {
            line[at] = start[at];
            at += 1;
        }
        line
    };
    match std::str::from_utf8(&LINE) {
        Ok(line) => line,
        Err(_) => "",
    }
};

/// Trap 35: what stands in line already is not sent either, whatever the case in which each wrote the address.
#[tokio::test(start_paused = true)]
async fn trap_35_who_is_suppressed_while_mail_stands_in_line_gets_none() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    // More than the host is sent in a second: the last stand in line.
    let mut last = None;
    for n in 0..100 {
        last = Some(w.send(&[&format!("Mr{n}@b.test")]).await);
    }
    w.until("some are sent", async || peer.taken().len() >= 2).await;
    assert!(peer.taken().len() < 90);
    let suppress = |tx: &mut store::Tx<'_>| {
        let new = queue::suppression::Suppression {
            organisation: base::OrganisationId::HOUSE,
            address: String::new(),
            stream: None,
            reason: "manual".into(),
            note: String::new(),
            evidence: None,
            since: crate::world::NOW,
            expires: None,
        };
        queue::suppression::add(tx, &base::Address::parse("mR99@B.test").unwrap(), &new)
    };
    w.store.write(suppress).await.unwrap();
    w.pass(600).await;
    w.until_gone(last.unwrap()).await;
    assert_eq!(w.receipts(last.unwrap()).await[0].0.class, "suppressed");
    w.until("the others are sent", async || {
        w.pass(1).await;
        peer.taken().len() == 99
    })
    .await;
    assert!(peer.taken().iter().all(|taken| taken.to != ["Mr99@b.test"]));
}
