//! What happens to peers that hold their place by a word now and then; SMTP and POP3 too. The clock is tokio's, moved.

use std::iter::repeat;

use server::{Role, Service};

use crate::world::World;

#[tokio::test]
async fn trap_20_a_word_now_and_then_holds_no_place_before_signing_in() {
    let world = World::new().await;
    tokio::time::pause();
    let mut mx = world.connect_to(Service::Smtp(Role::Mx));
    mx.play("S: 220 …").await;
    // One line, an octet at a time.
    assert_eq!(mx.trickle(repeat(b'x'), 100).await, 300);
    mx.play("S: 421 4.4.2 You took too long").await;
    mx.ended().await;

    // Many lines: each is answered, and all together take too long.
    let mut submission = world.connect_to(Service::Smtp(Role::Submission));
    submission.play("S: 220 …\nC: EHLO client.test\n…\nS: 250 …").await;
    for _ in 0..2 {
        tokio::time::sleep(std::time::Duration::from_secs(140)).await;
        submission.play("C: NOOP\nS: 250 …").await;
    }
    assert_eq!(submission.trickle(repeat(b'x'), 100).await, 20);
    submission.play("S: 421 4.4.2 You took too long").await;

    let mut pop3 = world.connect_to(Service::Pop3);
    pop3.play("S: +OK …").await;
    for _ in 0..2 {
        tokio::time::sleep(std::time::Duration::from_secs(140)).await;
        pop3.play("C: CAPA\nS: +OK …\n…\nS: .").await;
    }
    assert_eq!(pop3.trickle(std::iter::once(b'x'), 100).await, 20);
    pop3.ended().await;
}

#[tokio::test]
async fn trap_20_a_body_of_single_octets_is_given_up() {
    let world = World::new().await;
    for start in ["DATA\nS: 354 …", "BDAT 1000000"] {
        let mut mx = world.connect_to(Service::Smtp(Role::Mx));
        mx.play("S: 220 …\nC: EHLO client.test\n…\nS: 250 …\nC: MAIL FROM:<a@elsewhere.test>\nS: 250 …").await;
        mx.play("C: RCPT TO:<u0@x.test>\nS: 250 …").await;
        mx.play(&format!("C: {start}")).await;
        // The store has answered; from here on only the clock counts.
        tokio::time::pause();
        assert_eq!(mx.trickle(repeat(b'x'), 170).await, 600, "{start}");
        mx.play("S: 421 4.4.2 You took too long").await;
        tokio::time::resume();
    }
}
