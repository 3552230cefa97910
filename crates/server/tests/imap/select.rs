//! SELECT, EXAMINE, CLOSE, UNSELECT, and QRESYNC for those who come back.

use crate::world::World;

const MAIL: &str = "Subject: x\r\n\r\nbody\r\n";

#[tokio::test]
async fn select_says_what_is_there() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.append("(\\Seen) ", MAIL).await;
    c.append("($Work) ", MAIL).await;
    c.play(
        r#"
        C: a SELECT inbox
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
        S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work \*)] …
        S: * 2 EXISTS
        S: * 0 RECENT
        S: * OK [UNSEEN 2] …
        S: * OK [UIDVALIDITY …] …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …] …
        S: * OK [MAILBOXID (F1)] …
        S: a OK [READ-WRITE] SELECT completed
        C: b EXAMINE INBOX
        S: * OK [CLOSED] …
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS ()] …
        …
        S: b OK [READ-ONLY] EXAMINE completed
        C: c STORE 1 +FLAGS (\Flagged)
        S: c NO [READ-ONLY] …
        C: d EXPUNGE
        S: d NO [READ-ONLY] …
        C: e SELECT nowhere
        S: * OK [CLOSED] …
        S: e NO [NONEXISTENT] No such mailbox
        C: f FETCH 1 FLAGS
        S: f BAD Select a mailbox first
        C: g UNSELECT
        S: g BAD Select a mailbox first
        C: h ENABLE IMAP4rev2
        S: * ENABLED IMAP4rev2
        S: h OK …
        C: i SELECT INBOX
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * 2 EXISTS
        S: * OK [UIDVALIDITY …
        S: * OK [UIDNEXT 3] …
        S: * OK [HIGHESTMODSEQ …
        S: * OK [MAILBOXID (F1)] …
        S: * LIST () "/" INBOX
        S: i OK [READ-WRITE] SELECT completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn close_expunges_and_unselect_does_not() {
    let world = World::new().await;
    let mut c = world.client().await;
    for flags in ["(\\Deleted) ", "", "(\\Deleted) "] {
        c.append(flags, MAIL).await;
    }
    c.play(
        r#"
        C: a EXAMINE INBOX
        …
        S: a OK …
        C: b CLOSE
        S: b OK CLOSE completed
        C: c SELECT INBOX
        …
        S: * 3 EXISTS
        …
        S: c OK …
        C: d UNSELECT
        S: d OK UNSELECT completed
        C: e SELECT INBOX
        …
        S: * 3 EXISTS
        …
        S: e OK …
        C: f CLOSE
        S: f OK CLOSE completed
        C: g SELECT INBOX
        …
        S: * 1 EXISTS
        …
        S: g OK …
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn qresync_tells_what_was_missed() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.play("C: a SELECT INBOX (QRESYNC (1 1))\nS: a BAD ENABLE QRESYNC first\nC: b ENABLE QRESYNC\n…\nS: b OK …").await;
    for _ in 0..6 {
        c.append("", MAIL).await;
    }
    let lines = c.ask("SELECT INBOX").await.join("\n");
    let number = |name: &str| {
        let from = lines.find(&format!("[{name} ")).unwrap() + name.len() + 2;
        lines[from..].split(']').next().unwrap().parse::<u64>().unwrap()
    };
    let (validity, since) = (number("UIDVALIDITY"), number("HIGHESTMODSEQ"));
    c.ask("UNSELECT").await;
    let mut other = world.inbox().await;
    other.ask("STORE 1 +FLAGS.SILENT (\\Flagged)").await;
    other.ask("STORE 2:3,6 +FLAGS.SILENT (\\Deleted)").await;
    other.ask("EXPUNGE").await;
    other.append("", MAIL).await;
    c.play(&format!(
        r#"
        C: c SELECT INBOX (QRESYNC ({validity} {since}))
        …
        S: * VANISHED (EARLIER) 2:3,6
        S: * 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (…))
        S: * 4 FETCH (UID 7 FLAGS () MODSEQ (…))
        S: c OK [READ-WRITE] …
        C: d SELECT INBOX (QRESYNC ({validity} {since} 1:3))
        …
        S: * VANISHED (EARLIER) 2:3
        S: * 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ (…))
        S: d OK [READ-WRITE] …
        C: e SELECT INBOX (QRESYNC ({validity} {since} 1:7 (1,2 1,4)))
        …
        S: * VANISHED (EARLIER) 6
        …
        S: e OK [READ-WRITE] …
        "#
    ))
    .await;
    // RFC 7162 §3.2.5.1: another UIDVALIDITY is as if nothing had been said.
    let lines = c.ask(&format!("SELECT INBOX (QRESYNC ({} {since}))", validity + 1)).await;
    assert!(!lines.iter().any(|line| line.contains("VANISHED") || line.contains(" FETCH ")), "{}", c.log);
}

#[tokio::test]
async fn trap_09_what_vanished_above_the_highest_uid_is_told() {
    let world = World::new().await;
    let mut c = world.client().await;
    for _ in 0..4 {
        c.append("", MAIL).await;
    }
    c.ask("ENABLE QRESYNC").await;
    let lines = c.ask("STATUS INBOX (HIGHESTMODSEQ)").await;
    let since = lines[0].split("HIGHESTMODSEQ ").nth(1).unwrap().trim_end_matches(')').to_owned();
    let mut other = world.inbox().await;
    other.ask("STORE 3:4 +FLAGS.SILENT (\\Deleted)").await;
    other.ask("EXPUNGE").await;
    c.ask("SELECT INBOX").await;
    c.play(&format!(
        r#"
        C: a UID FETCH 1:* (FLAGS) (CHANGEDSINCE {since} VANISHED)
        S: * VANISHED (EARLIER) 3:4
        S: a OK FETCH completed
        C: b UID FETCH 3:* (FLAGS) (CHANGEDSINCE 1 VANISHED)
        S: * VANISHED (EARLIER) 3:4
        S: * 2 FETCH (UID 2 FLAGS () MODSEQ (…))
        S: b OK FETCH completed
        "#
    ))
    .await;
}

#[tokio::test]
async fn trap_10_sets_with_a_star() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.play(
        r#"
        C: a UID FETCH 1:* (FLAGS)
        S: a OK …
        C: b UID FETCH * (FLAGS)
        S: b OK …
        C: c FETCH 1 (FLAGS)
        S: c BAD There is no message of that number
        "#,
    )
    .await;
    for _ in 0..3 {
        c.append("", MAIL).await;
    }
    for (set, uids) in [("*", "3"), ("*:1", "1 2 3"), ("3:2", "2 3"), ("1,3,1", "1 3"), ("2:*", "2 3"), ("*:4", "3")] {
        for form in ["FETCH", "UID FETCH"] {
            if form == "FETCH" && set == "*:4" {
                continue;
            }
            let lines = c.ask(&format!("{form} {set} (UID)")).await;
            let told: Vec<&str> = lines
                .iter()
                .filter_map(|line| line.split("(UID ").nth(1))
                .map(|rest| rest.trim_end_matches(')'))
                .collect();
            assert_eq!(told.join(" "), uids, "{form} {set}");
        }
    }
    c.play("C: d FETCH 4 UID\nS: d BAD There is no message of that number").await;
    // The highest there is, not the highest there was.
    c.ask("STORE 3 +FLAGS.SILENT (\\Deleted)").await;
    c.ask("EXPUNGE").await;
    c.play("C: e UID FETCH * UID\nS: * 2 FETCH (UID 2)\nS: e OK FETCH completed").await;
}
