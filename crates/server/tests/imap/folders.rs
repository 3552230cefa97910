//! CREATE, DELETE, RENAME, SUBSCRIBE, STATUS, LIST and LSUB.

use crate::world::World;

#[tokio::test]
async fn mailboxes_are_made_listed_and_removed() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.play(
        r#"
        C: a LIST "" *
        S: * LIST (\HasNoChildren \Archive) "/" Archive
        S: * LIST (\HasNoChildren \Drafts) "/" Drafts
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren \Junk) "/" Junk
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: * LIST (\HasNoChildren \Trash) "/" Trash
        S: a OK LIST completed
        C: b CREATE Work/2026/May
        S: b OK [MAILBOXID (F…)] CREATE completed
        C: c CREATE Work/2026/May
        S: c NO [ALREADYEXISTS] …
        C: d CREATE "a//b"
        S: d NO [CANNOT] …
        C: e LIST "" %
        …
        S: * LIST (\HasChildren) "/" Work
        S: e OK LIST completed
        C: f LIST "Work/" %
        S: * LIST (\HasChildren) "/" Work/2026
        S: f OK LIST completed
        C: g LIST "" ""
        S: * LIST (\Noselect) "/" ""
        S: g OK LIST completed
        C: h DELETE Work
        S: h OK DELETE completed
        C: i LIST "" %
        …
        S: * LIST (\NonExistent \Noselect \HasChildren) "/" Work
        S: i OK LIST completed
        C: j SELECT Work
        S: j NO [NONEXISTENT] No such mailbox
        C: k DELETE Work
        S: k NO [NONEXISTENT] No such mailbox
        C: l RENAME Work/2026 Old
        S: l OK RENAME completed
        C: m LIST "" (Old* Work*)
        S: * LIST (\HasChildren) "/" Old
        S: * LIST (\HasNoChildren) "/" Old/May
        S: m OK LIST completed
        C: n DELETE INBOX
        S: n NO [CANNOT] INBOX cannot be deleted
        C: o RENAME Old Old/x
        S: o NO [CANNOT] …
        C: p RENAME Old Sent
        S: p NO [ALREADYEXISTS] …
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn list_extended() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.ask("CREATE Fruit/Apple").await;
    c.ask("CREATE Fruit/Banana").await;
    c.ask("CREATE Vegetable").await;
    c.ask("SUBSCRIBE Fruit/Apple").await;
    for gone in ["CREATE Tofu/Raw", "SUBSCRIBE Tofu/Raw", "DELETE Tofu/Raw", "DELETE Tofu"] {
        c.ask(gone).await;
    }
    for name in ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"] {
        c.ask(&format!("UNSUBSCRIBE {name}")).await;
    }
    // RFC 5258 §5, examples 1 to 9, with names of ours.
    c.play(
        r#"
        C: a LIST (SUBSCRIBED) "" *
        S: * LIST (\Subscribed \HasNoChildren) "/" Fruit/Apple
        S: * LIST (\NonExistent \Subscribed \HasNoChildren) "/" Tofu/Raw
        S: a OK LIST completed
        C: b LIST (SUBSCRIBED RECURSIVEMATCH) "" %
        S: * LIST (\HasChildren) "/" Fruit ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\NonExistent \HasNoChildren) "/" Tofu ("CHILDINFO" ("SUBSCRIBED"))
        S: b OK LIST completed
        C: c LIST (SUBSCRIBED RECURSIVEMATCH) "" *
        S: * LIST (\Subscribed \HasNoChildren) "/" Fruit/Apple
        S: * LIST (\NonExistent \Subscribed \HasNoChildren) "/" Tofu/Raw
        S: c OK LIST completed
        C: d LIST "" "F*" RETURN (SUBSCRIBED CHILDREN)
        S: * LIST (\HasChildren) "/" Fruit
        S: * LIST (\Subscribed \HasNoChildren) "/" Fruit/Apple
        S: * LIST (\HasNoChildren) "/" Fruit/Banana
        S: d OK LIST completed
        C: e LIST (SPECIAL-USE) "" *
        S: * LIST (\HasNoChildren \Archive) "/" Archive
        S: * LIST (\HasNoChildren \Drafts) "/" Drafts
        S: * LIST (\HasNoChildren \Junk) "/" Junk
        S: * LIST (\HasNoChildren \Sent) "/" Sent
        S: * LIST (\HasNoChildren \Trash) "/" Trash
        S: e OK LIST completed
        C: f LIST "" (INBOX Veg%) RETURN (STATUS (MESSAGES SIZE))
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * STATUS INBOX (MESSAGES 0 SIZE 0)
        S: * LIST (\HasNoChildren) "/" Vegetable
        S: * STATUS Vegetable (MESSAGES 0 SIZE 0)
        S: f OK LIST completed
        C: g LSUB "" *
        S: * LSUB () "/" Fruit/Apple
        S: * LSUB () "/" Tofu/Raw
        S: g OK LSUB completed
        C: h LSUB "" %
        S: * LSUB (\Noselect) "/" Fruit
        S: * LSUB (\Noselect) "/" Tofu
        S: h OK LSUB completed
        C: i LIST "" Tofu*
        S: i OK LIST completed
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_special_use_is_given_once() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.play(
        r#"
        C: a CREATE Bin (USE (\Trash))
        S: a NO [USEATTR] Another mailbox has that special use
        C: b DELETE Trash
        S: b OK DELETE completed
        C: c CREATE Bin (USE (\Trash))
        S: c OK …
        C: d LIST (SPECIAL-USE) "" B*
        S: * LIST (\HasNoChildren \Trash) "/" Bin
        S: d OK LIST completed
        C: e CREATE Everything (USE (\All))
        S: e NO [USEATTR] …
        "#,
    )
    .await;
}

#[tokio::test]
async fn renaming_inbox_moves_its_mail() {
    let world = World::new().await;
    let mut c = world.client().await;
    for flags in ["(\\Seen) ", "($Work) "] {
        c.append(flags, "Subject: x\r\n\r\nbody\r\n").await;
    }
    c.play(
        r#"
        C: a RENAME INBOX old
        S: a OK RENAME completed
        C: b STATUS old (MESSAGES UNSEEN SIZE)
        S: * STATUS old (MESSAGES 2 UNSEEN 1 SIZE 40)
        S: b OK …
        C: c STATUS INBOX (MESSAGES RECENT UIDNEXT UNSEEN DELETED SIZE APPENDLIMIT MAILBOXID)
        S: * STATUS INBOX (MESSAGES 0 RECENT 0 UIDNEXT 3 UNSEEN 0 DELETED 0 SIZE 0 MAILBOXID (F1) APPENDLIMIT 8388608)
        S: c OK …
        C: d STATUS nowhere (MESSAGES)
        S: d NO [NONEXISTENT] No such mailbox
        "#,
    )
    .await;
    world.verify().await;
}

#[tokio::test]
async fn a_mailbox_deleted_under_a_session() {
    let world = World::new().await;
    let (mut own, mut idle, mut other) = (world.client().await, world.client().await, world.client().await);
    own.ask("CREATE box").await;
    for c in [&mut own, &mut idle, &mut other] {
        c.ask("SELECT box").await;
    }
    idle.play("C: i IDLE\nS: + idling").await;
    own.play("C: a DELETE box\nS: a OK DELETE completed\nC: b FETCH 1 FLAGS\nS: b BAD Select a mailbox first").await;
    idle.play("S: * BYE The mailbox was deleted by another session").await;
    idle.ended().await;
    other.play("C: a NOOP\nS: * BYE The mailbox was deleted by another session").await;
}

/// A pattern costs its length times the name's: that is counted.
#[tokio::test]
async fn trap_05_patterns_that_take_too_long_are_refused() {
    let world = World::new().await;
    let mut c = world.client().await;
    for n in 0..24 {
        c.ask(&format!("CREATE {}{n:02}", "a".repeat(990))).await;
    }
    let patterns: Vec<String> = (0..32).map(|n| format!("{}{n}", "%a".repeat(480))).collect();
    c.play(&format!("C: a LIST \"\" ({})\nS: a NO [LIMIT] …", patterns.join(" "))).await;
    assert_eq!(c.ask("LIST \"\" (a* %)").await.len(), 31);
}
