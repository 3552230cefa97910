//! STORE, COPY, MOVE, EXPUNGE, and what other sessions hear of it.

use crate::world::World;

const MAIL: &str = "Subject: x\r\n\r\nbody\r\n";

async fn filled(count: usize) -> World {
    let world = World::new().await;
    let mut c = world.client().await;
    for _ in 0..count {
        c.append("", MAIL).await;
    }
    world
}

#[tokio::test]
async fn store_tells_the_flags_of_the_whole_set() {
    let world = filled(3).await;
    let (mut c, mut other) = (world.inbox().await, world.inbox().await);
    c.play(
        r#"
        C: a STORE 1:2 +FLAGS (\Flagged $Work)
        S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Work)
        S: * 1 FETCH (FLAGS (\Flagged $Work))
        S: * 2 FETCH (FLAGS (\Flagged $Work))
        S: a OK STORE completed
        C: b STORE 1 +FLAGS (\Flagged)
        S: * 1 FETCH (FLAGS (\Flagged $Work))
        S: b OK STORE completed
        C: c STORE 1 FLAGS.SILENT (\Seen)
        S: c OK STORE completed
        C: d UID STORE 2 -FLAGS ($work)
        S: * 2 FETCH (UID 2 FLAGS (\Flagged))
        S: d OK STORE completed
        C: e UID STORE 99 +FLAGS (\Seen)
        S: e OK STORE completed
        C: f STORE 4 +FLAGS (\Seen)
        S: f BAD There is no message of that number
        "#,
    )
    .await;
    other
        .play(
            r#"
            C: a NOOP
            S: * FLAGS (… $Work)
            S: * 1 FETCH (FLAGS (\Seen))
            S: * 2 FETCH (FLAGS (\Flagged))
            S: a OK Done
            "#,
        )
        .await;
    world.verify().await;
}

#[tokio::test]
async fn a_silent_store_does_not_hide_what_another_did() {
    let world = filled(2).await;
    let (mut c, mut other) = (world.inbox().await, world.inbox().await);
    other.ask("STORE 1 +FLAGS.SILENT (\\Answered)").await;
    c.play(
        r#"
        C: a STORE 1:2 +FLAGS.SILENT (\Seen)
        S: * 1 FETCH (FLAGS (\Answered \Seen))
        S: a OK STORE completed
        C: b NOOP
        S: b OK Done
        "#,
    )
    .await;
}

#[tokio::test]
async fn condstore() {
    let world = filled(3).await;
    let mut c = world.client().await;
    let lines = c.ask("SELECT INBOX (CONDSTORE)").await.join(" ");
    let since: u64 = lines.split("[HIGHESTMODSEQ ").nth(1).unwrap().split(']').next().unwrap().parse().unwrap();
    c.play(&format!(
        r#"
        C: a STORE 2 +FLAGS (\Flagged)
        S: * 2 FETCH (FLAGS (\Flagged) MODSEQ ({next}))
        S: a OK STORE completed
        C: b FETCH 1:* (FLAGS) (CHANGEDSINCE {since})
        S: * 2 FETCH (FLAGS (\Flagged) MODSEQ ({next}))
        S: b OK FETCH completed
        C: c STORE 1:3 (UNCHANGEDSINCE {since}) +FLAGS.SILENT (\Answered)
        S: * 1 FETCH (MODSEQ ({after}))
        S: * 3 FETCH (MODSEQ ({after}))
        S: c OK [MODIFIED 2] …
        C: d UID STORE 2 (UNCHANGEDSINCE {since}) FLAGS ()
        S: d OK [MODIFIED 2] …
        C: e SEARCH MODSEQ {next}
        S: * SEARCH 1 2 3 (MODSEQ {after})
        S: e OK SEARCH completed
        C: f SEARCH RETURN (MIN) MODSEQ {after}
        S: * ESEARCH (TAG "f") MIN 1 MODSEQ {after}
        S: f OK SEARCH completed
        C: g SEARCH RETURN (MIN COUNT) MODSEQ 99999
        S: * ESEARCH (TAG "g") COUNT 0
        S: g OK SEARCH completed
        "#,
        next = since + 1,
        after = since + 2,
    ))
    .await;
}

#[tokio::test]
async fn who_begins_to_use_mod_seqs_hears_the_highest() {
    let world = filled(1).await;
    let (mut c, mut other) = (world.inbox().await, world.inbox().await);
    c.play(
        r#"
        C: a FETCH 1 (MODSEQ)
        S: * OK [HIGHESTMODSEQ …] Highest
        S: * 1 FETCH (MODSEQ (…))
        S: a OK FETCH completed
        C: b STORE 1 +FLAGS (\Seen)
        S: * 1 FETCH (FLAGS (\Seen) MODSEQ (…))
        S: b OK STORE completed
        C: c STORE 1 -FLAGS.SILENT (\Seen)
        S: * 1 FETCH (MODSEQ (…))
        S: c OK STORE completed
        "#,
    )
    .await;
    other.play("C: a STORE 1 +FLAGS (\\Draft)\nS: * 1 FETCH (FLAGS (\\Draft))\nS: a OK STORE completed").await;
}

#[tokio::test]
async fn expunge_tells_numbers_or_uids() {
    let world = filled(5).await;
    let (mut c, mut other, mut third) = (world.inbox().await, world.inbox().await, world.client().await);
    third.ask("ENABLE QRESYNC").await;
    third.ask("SELECT INBOX").await;
    c.play(
        r#"
        C: a STORE 2,4 +FLAGS.SILENT (\Deleted)
        S: a OK STORE completed
        C: b UID EXPUNGE 4:5
        S: * 4 EXPUNGE
        S: b OK EXPUNGE completed
        C: c EXPUNGE
        S: * 2 EXPUNGE
        S: c OK EXPUNGE completed
        C: d EXPUNGE
        S: d OK EXPUNGE completed
        "#,
    )
    .await;
    other
        .play(
            r#"
            C: a FETCH 1:5 UID
            S: * 1 FETCH (UID 1)
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: * 4 FETCH (UID 4)
            S: * 5 FETCH (UID 5)
            S: a OK FETCH completed
            C: b SEARCH ALL
            S: * SEARCH 1 2 3 4 5
            S: b OK [EXPUNGEISSUED] SEARCH completed
            C: c UID SEARCH ALL
            S: * SEARCH 1 2 3 4 5
            S: * 4 EXPUNGE
            S: * 2 EXPUNGE
            S: c OK SEARCH completed
            C: d UID SEARCH ALL
            S: * SEARCH 1 3 5
            S: d OK SEARCH completed
            "#,
        )
        .await;
    third
        .play(
            r#"
            C: a NOOP
            S: * VANISHED 2,4
            S: a OK Done
            C: b UID STORE 5 +FLAGS.SILENT (\Deleted)
            S: * 3 FETCH (UID 5 MODSEQ (…))
            S: b OK STORE completed
            C: c EXPUNGE
            S: * VANISHED 5
            S: c OK [HIGHESTMODSEQ …] EXPUNGE completed
            "#,
        )
        .await;
    world.verify().await;
}

/// RFC 9051 §7.5.1: numbers do not move in STORE and FETCH by number; and no MODSEQ above an expunge that is not told
/// may be told (RFC 7162 §3.2).
#[tokio::test]
async fn a_store_while_an_expunge_cannot_be_told() {
    let world = filled(3).await;
    let (mut c, mut other) = (world.client().await, world.inbox().await);
    c.ask("SELECT INBOX (CONDSTORE)").await;
    other.ask("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    other.ask("EXPUNGE").await;
    c.play(
        r#"
        C: a STORE 1:3 +FLAGS (\Seen)
        S: * 2 FETCH (FLAGS (\Seen))
        S: * 3 FETCH (FLAGS (\Seen))
        S: a OK [EXPUNGEISSUED] …
        C: b FETCH 2 (UID FLAGS)
        S: * 2 FETCH (UID 2 FLAGS (\Seen))
        S: b OK FETCH completed
        C: c SEARCH SEEN
        S: * SEARCH 2 3
        S: c OK [EXPUNGEISSUED] SEARCH completed
        C: d NOOP
        S: * 1 EXPUNGE
        S: * 1 FETCH (FLAGS (\Seen) MODSEQ (…))
        S: * 2 FETCH (FLAGS (\Seen) MODSEQ (…))
        S: d OK Done
        "#,
    )
    .await;
}

#[tokio::test]
async fn copy_and_move() {
    let world = filled(4).await;
    let mut c = world.inbox().await;
    c.play(
        r#"
        C: a STORE 1 +FLAGS.SILENT (\Flagged $Work)
        S: * FLAGS …
        S: a OK STORE completed
        C: b COPY 1 there
        S: b NO [TRYCREATE] …
        C: c CREATE there
        S: c OK [MAILBOXID (F…)] CREATE completed
        C: d COPY 1:2 there
        S: d OK [COPYUID … 1:2 1:2] COPY completed
        C: e UID MOVE 3 there
        S: * OK [COPYUID … 3 3] Moved
        S: * 3 EXPUNGE
        S: e OK MOVE completed
        C: f UID COPY 77 there
        S: f OK COPY completed
        C: g FETCH 1:* (UID EMAILID)
        S: * 1 FETCH (UID 1 EMAILID (M1))
        S: * 2 FETCH (UID 2 EMAILID (M2))
        S: * 3 FETCH (UID 4 EMAILID (M4))
        S: g OK FETCH completed
        C: h SELECT there
        …
        S: * 3 EXISTS
        …
        S: h OK …
        C: i FETCH 1:* (FLAGS EMAILID)
        S: * 1 FETCH (FLAGS (\Flagged $Work) EMAILID (M1))
        S: * 2 FETCH (FLAGS () EMAILID (M2))
        S: * 3 FETCH (FLAGS () EMAILID (M3))
        S: i OK FETCH completed
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn trap_11_copy_and_move_onto_itself_end() {
    let world = filled(2).await;
    let mut c = world.inbox().await;
    c.play(
        r#"
        C: a UID MOVE 1:* INBOX
        S: * OK [COPYUID … 1:2 3:4] Moved
        S: * 2 EXPUNGE
        S: * 1 EXPUNGE
        S: * 2 EXISTS
        S: a OK MOVE completed
        C: b UID COPY 1:* INBOX
        S: * 4 EXISTS
        S: b OK [COPYUID … 3:4 5:6] COPY completed
        C: c UID FETCH 1:* EMAILID
        S: * 1 FETCH (UID 3 EMAILID (M1))
        S: * 2 FETCH (UID 4 EMAILID (M2))
        S: * 3 FETCH (UID 5 EMAILID (M1))
        S: * 4 FETCH (UID 6 EMAILID (M2))
        S: c OK FETCH completed
        "#,
    )
    .await;
    world.verify().await;
}

/// RFC 3501 §6.4.8, RFC 9051 §6.4.9
#[tokio::test]
async fn what_a_uid_command_leads_to_has_the_uid() {
    let world = filled(4).await;
    let mut c = world.inbox().await;
    c.ask("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    c.ask("EXPUNGE").await;
    c.ask("SELECT INBOX (CONDSTORE)").await;
    c.play(
        r#"
        C: a UID STORE 3 +FLAGS.SILENT (\Seen)
        S: * 2 FETCH (UID 3 MODSEQ (…))
        S: a OK STORE completed
        C: b UID FETCH 4 BODY[TEXT]
        S: * 3 FETCH (FLAGS (\Seen) UID 4 BODY[TEXT] {6}␍body␍)
        S: * 3 FETCH (UID 4 FLAGS (\Seen) MODSEQ (…))
        S: b OK FETCH completed
        C: c STORE 1 +FLAGS.SILENT (\Seen)
        S: * 1 FETCH (MODSEQ (…))
        S: c OK STORE completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn nothing_is_stored_in_or_copied_from_a_mailbox_that_was_deleted() {
    for (command, end) in [("STORE 1 +FLAGS (\\Flagged)", "S: a NO …"), ("UID COPY 1 INBOX", "S: a NO [NONEXISTENT] …")]
    {
        let world = filled(1).await;
        let (mut c, mut other) = (world.inbox().await, world.client().await);
        c.ask("CREATE Work").await;
        c.ask("COPY 1 Work").await;
        c.ask("SELECT Work").await;
        other.ask("DELETE Work").await;
        c.play(&format!("C: a {command}\nS: * BYE The mailbox was deleted by another session\n{end}")).await;
        c.ended().await;
    }
}

/// RFC 6851 §4.3: what was moved is told, though the rest could not be.
#[tokio::test]
async fn a_move_that_fails_half_way_tells_what_it_moved() {
    let world = filled(1).await;
    let mut c = world.inbox().await;
    for _ in 0..11 {
        c.ask("COPY 1:* INBOX").await;
    }
    // 2,048 messages, and UIDs for 2,000: the third piece fails.
    let id: i64 =
        c.ask("CREATE there").await[0].split("(F").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
    world.use_up_uids(id, 2000).await;
    c.send(b"a UID MOVE 1:* there\r\n").await;
    c.play("S: * OK [COPYUID … 1:2000 …] Moved\nS: * 2000 EXPUNGE").await;
    c.play("…\nS: * 1 EXPUNGE\nS: a NO [LIMIT] …\nC: b STATUS there (MESSAGES)\nS: * STATUS there (MESSAGES 2000)")
        .await;
    world.verify().await;
}

#[tokio::test]
async fn mail_of_a_full_account_is_moved_and_inbox_renamed() {
    let world = World::with(3 * MAIL.len() as u64, true).await;
    let mut c = world.inbox().await;
    for _ in 0..3 {
        c.append("", MAIL).await;
    }
    c.play(
        r#"
        C: a COPY 1 Trash
        S: a NO [OVERQUOTA] The mailbox is full
        C: b MOVE 1 Trash
        S: * OK [COPYUID … 1 1] Moved
        S: * 1 EXPUNGE
        S: b OK MOVE completed
        "#,
    )
    .await;
    world.set_quota(1).await;
    c.play(
        r#"
        C: a MOVE 1 Trash
        S: * OK [COPYUID … 2 2] Moved
        S: * 1 EXPUNGE
        S: a OK MOVE completed
        C: b RENAME INBOX old
        S: * 1 EXPUNGE
        S: b OK RENAME completed
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn a_copy_that_fails_takes_back_what_it_did() {
    let world = World::with(1500 * MAIL.len() as u64, true).await;
    let mut c = world.inbox().await;
    c.append("", MAIL).await;
    // 1, 2, 4 … 1024 messages; then a copy of more than one piece, of which the second has no room.
    for n in 0..10 {
        let lines = c.ask("COPY 1:* INBOX").await;
        assert!(lines.iter().any(|line| line.ends_with(&format!("{} EXISTS", 2 << n))), "{}", c.log);
    }
    c.play(
        r#"
        C: a CREATE there
        S: a OK …
        C: b UID COPY 1:* there
        S: b NO [OVERQUOTA] The mailbox is full
        C: c STATUS there (MESSAGES UIDNEXT)
        S: * STATUS there (MESSAGES 0 UIDNEXT …)
        S: c OK …
        "#,
    )
    .await;
}

#[tokio::test]
async fn keywords_have_a_limit() {
    let world = filled(1).await;
    let mut c = world.inbox().await;
    let many: Vec<String> = (0..56).map(|n| format!("k{n}")).collect();
    c.ask(&format!("STORE 1 FLAGS.SILENT ({})", many.join(" "))).await;
    c.play("C: a STORE 1 +FLAGS (one-more)\nS: a NO [LIMIT] …\nC: b STORE 1 -FLAGS.SILENT (k3)\nS: b OK …").await;
    // A mail comes without what has no room; nothing is the matter with it.
    c.append("(\\Seen one-more k3) ", MAIL).await;
    c.play("C: c FETCH 2 FLAGS\nS: * 2 FETCH (FLAGS (\\Seen k3))\nS: c OK …\nC: d CREATE there\nS: d OK …").await;
    c.play("C: e SELECT there\n…\nS: e OK …").await;
    // What nobody has takes no room.
    for n in 0..60 {
        c.ask(&format!("UID STORE 400 +FLAGS (n{n})")).await;
    }
    c.play("C: f APPEND there (own other) {20+}").await;
    c.send(format!("{MAIL}\r\n").as_bytes()).await;
    c.play(
        "…\nS: f OK …\nC: g SELECT INBOX\n…\nS: g OK …\nC: h COPY 1 there\nS: h OK …\nC: i SELECT there\n…\nS: i OK …",
    )
    .await;
    let flags = c.ask("FETCH 1:2 FLAGS").await;
    assert!(flags[0].contains("(own other)") && flags[1].contains(" k54") && !flags[1].contains("k55"), "{flags:?}");
    world.verify().await;
}
