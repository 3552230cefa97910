//! Return addresses of single deliveries.

use base::Stream;
use queue::source::set_verp;
use smtp::BodyType;

use crate::peer::Character;
use crate::world::{Net, World, at, mail};

async fn verp(w: &World, stream: Stream, on: bool) {
    w.store.write(move |tx| set_verp(tx, stream, on)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_recipient_of_a_stream_that_wants_it_has_a_return_address() {
    let (net, peer) = Net::default().host("b.test", 1, Character::default());
    let w = net.world().await;
    let to = ["a@b.test", "b@b.test"];
    let id = w.send_in(Stream::Transactional, &to).await;
    w.until_gone(id).await;
    assert_eq!(peer.taken()[0].from, "me@example.test", "the default shares a transaction");
    assert_eq!(peer.taken()[0].to, to);
    verp(&w, Stream::Transactional, true).await;
    let id = w.send_in(Stream::Transactional, &to).await;
    let there = async || {
        w.pass(1).await;
        peer.taken().len() == 3
    };
    w.until("both are there", there).await;
    let known = trust::Verp::new(w.store.clone());
    for (number, taken) in (0..).zip(&peer.taken()[1..]) {
        assert_eq!(taken.to, [to[number as usize]]);
        let behind = known.behind(&at(&taken.from), crate::world::NOW).await.unwrap();
        assert_eq!(behind, Some((id.bits(), number)), "{}", taken.from);
    }
    // Mail of a domain that is not ours, and people's.
    let mail = smtp::Mail { body: BodyType::SevenBit, ..mail("x@other.test") };
    w.enqueue_in(Stream::Transactional, mail, &["c@b.test"], None, "Subject: x\r\n\r\n").await;
    w.send(&to).await;
    let there = async || {
        w.pass(1).await;
        peer.taken().len() == 5
    };
    w.until("these too", there).await;
    let mut senders: Vec<String> = peer.taken()[3..].iter().map(|t| t.from.clone()).collect();
    senders.sort();
    assert_eq!(senders, ["me@example.test", "x@other.test"]);
    assert!(w.store.write(|tx| set_verp(tx, Stream::Mail, true)).await.is_err());
    w.check().await;
}
