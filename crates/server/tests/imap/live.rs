//! IDLE, and changes that others make.

use crate::world::World;

const MAIL: &str = "Subject: x\r\n\r\nbody\r\n";

#[tokio::test]
async fn idle_tells_as_it_happens() {
    let world = World::new().await;
    let (mut idle, mut other) = (world.inbox().await, world.inbox().await);
    idle.play("C: i IDLE\nS: + idling").await;
    other.append("", MAIL).await;
    idle.play("S: * 1 EXISTS").await;
    world.deliver("", MAIL.as_bytes()).await;
    idle.play("S: * 2 EXISTS").await;
    other.ask("STORE 1 +FLAGS.SILENT (\\Flagged)").await;
    idle.play("S: * 1 FETCH (FLAGS (\\Flagged))").await;
    other.ask("STORE 1 +FLAGS.SILENT (\\Deleted)").await;
    idle.play("S: * 1 FETCH (FLAGS (\\Flagged \\Deleted))").await;
    other.ask("EXPUNGE").await;
    idle.play("S: * 1 EXPUNGE\nC: DONE\nS: i OK IDLE completed\nC: n NOOP\nS: n OK Done").await;
}

#[tokio::test]
async fn idle_without_a_mailbox_and_without_done() {
    let world = World::new().await;
    let mut c = world.client().await;
    c.play("C: i IDLE\nS: + idling\nC: DONE\nS: i OK IDLE completed\nC: j IDLE\nS: + idling\nC: k NOOP\nS: j BAD …")
        .await;
    c.play("C: l NOOP\nS: l OK Done").await;
}

#[tokio::test]
async fn pipelined_commands_are_answered_in_order() {
    let world = World::new().await;
    let mut c = world.inbox().await;
    c.append("", MAIL).await;
    c.send(b"a STORE 1 +FLAGS.SILENT (\\Seen)\r\nb SEARCH SEEN\r\nc FETCH 1 FLAGS\r\nd NOOP\r\n").await;
    c.send(b"e FETCH 1 BODY[TEXT]\r\nf NOOP\r\n").await;
    c.play(
        r#"
        S: a OK STORE completed
        S: * SEARCH 1
        S: b OK SEARCH completed
        S: * 1 FETCH (FLAGS (\Seen))
        S: c OK FETCH completed
        S: d OK Done
        S: * 1 FETCH (BODY[TEXT] {6}␍body␍)
        S: e OK FETCH completed
        S: f OK Done
        "#,
    )
    .await;
}

#[tokio::test]
async fn a_session_that_waits_is_small() {
    let world = World::new().await;
    let (ours, _theirs) = net::Stream::duplex(1024);
    let session = server::serve(world.services.clone(), server::Service::Imap, false, ours);
    // What a task holds beside the socket and its view; a command's own state is on the heap while it runs.
    assert!(size_of_val(&session) <= 4096, "{} octets", size_of_val(&session));
}
