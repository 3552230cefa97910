//! The bytes of a mail, when a connection is ready for it: from the store, or from who makes them ([`Bodies`]). Called by the
//! workers, and by `local` for mailboxes of ours.

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use base::{BlobId, Reply, Stream};
use mime::header;
use queue::{Bodies, Content, Delivery, MAX_MADE, Message, NotMade, Outcome, Recipe};
use smtp::BodyType;
use store::BlobReader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::dialogue::ours;
use crate::outbox::Inner;
use crate::schedule;

/// How long a connection waits for a mail.
const PATIENCE: Duration = Duration::from_secs(30);
/// When who failed to make it is asked again.
const AGAIN: Duration = Duration::from_secs(300);
/// Octets of all mails that are made and not sent yet, in units of which a semaphore can count as many.
const ROOM: usize = (256 << 20) / UNIT;
const UNIT: usize = 1024;

/// Who makes mails, and how many at once.
pub(crate) struct Makers {
    bodies: Option<Arc<dyn Bodies>>,
    /// One for each core: it is computing, mostly. A connection waits for one before it has a mail in hand.
    places: Arc<Semaphore>,
    /// And as many for what is not marketing, when those are taken: others may take their time.
    urgent: Arc<Semaphore>,
    room: Arc<Semaphore>,
}

/// A place where a mail is made.
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// The bytes of a mail.
pub(crate) enum Bytes {
    /// Behind the prefix of the message.
    Stored(BlobReader),
    /// All of it.
    Made(Made),
}

/// A mail that was made. It counts as long as it lives.
pub(crate) struct Made {
    pub(crate) bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Made {
    /// What it demands of a host: 8BITMIME, and SMTPUTF8.
    pub(crate) fn demands(&self) -> (BodyType, bool) {
        if self.bytes.is_ascii() {
            return (BodyType::SevenBit, false);
        }
        let end = header::fields(&self.bytes).last().map_or(0, |field| field.span.end);
        (BodyType::EightBitMime, !self.bytes[..end].is_ascii())
    }
}

/// Why there are none.
#[derive(Debug)]
pub(crate) enum Missing {
    /// Our store did not give them.
    Unreadable(store::Error),
    /// Who makes them says why, or failed to.
    NotMade(NotMade),
    /// The server stops.
    Stopping,
}

/// Whether mail of both is made in the same places: what is urgent has some that marketing has not, and who queues for one is not to
/// make the other there.
pub(crate) fn same_places(one: Stream, other: Stream) -> bool {
    (one == Stream::Marketing) == (other == Stream::Marketing)
}

impl Makers {
    pub(crate) fn new(bodies: Option<Arc<dyn Bodies>>) -> Self {
        let cores = available_parallelism().map_or(2, usize::from);
        let [places, urgent] = [(); 2].map(|()| Arc::new(Semaphore::new(cores)));
        Makers { bodies, places, urgent, room: Arc::new(Semaphore::new(ROOM)) }
    }

    /// Waits for a place, for mail of a stream; without end, as others may take their time.
    pub(crate) async fn place(&self, stream: Stream) -> Place {
        let of = |places: &Arc<Semaphore>| places.clone().acquire_owned();
        let permit = match stream {
            Stream::Marketing => of(&self.places).await,
            Stream::Mail | Stream::Transactional => tokio::select! {
                biased;
                permit = of(&self.places) => permit,
                permit = of(&self.urgent) => permit,
            },
        };
        match permit {
            Ok(permit) => Place { _permit: permit },
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    /// In the place that was waited for, or else the next. A thread is lent for as long as it takes, however long that is
    /// waited for.
    async fn make(
        &self,
        place: Option<Place>,
        recipe: &Recipe,
        message: &Arc<Message>,
        delivery: &Delivery,
    ) -> Result<Made, NotMade> {
        let later = |why: &str| NotMade::Later(AGAIN, why.into());
        let Some(bodies) = self.bodies.clone() else { return Err(later("Nobody here makes such mail")) };
        let closed = |_| later("This server stops");
        let place = match place {
            Some(place) => place,
            None => self.place(message.stream).await,
        };
        let (recipe, message, delivery) = (recipe.clone(), message.clone(), delivery.clone());
        // Trap 2: mailboxes of ours get it as it goes out.
        let work = move || bodies.make(&recipe, &message, &delivery).map(|mail| trust::whole_lines(&mail));
        let made = spawn_blocking(move || (work(), place)).await;
        // The place is kept until there is room: so little more is made than has room.
        let (made, _place) = made.map_err(|_| later("This server failed while it made the mail"))?;
        let bytes = made?;
        if bytes.len() > MAX_MADE {
            return Err(NotMade::Never(format!("It came to {} octets, and {MAX_MADE} are the most", bytes.len())));
        }
        let units = bytes.len().div_ceil(UNIT) as u32;
        let room = self.room.clone().acquire_many_owned(units).await.map_err(closed)?;
        Ok(Made { bytes, _room: room })
    }
}

/// The bytes of a mail for one recipient; of a stored one, for all.
pub(crate) async fn get(
    inner: &Inner,
    place: Option<Place>,
    message: &Arc<Message>,
    delivery: &Delivery,
) -> Result<Bytes, Missing> {
    match &message.content {
        Content::Stored(blob) => stored(inner, message, *blob).await.map(Bytes::Stored).map_err(Missing::Unreadable),
        Content::Made(recipe) => {
            let making = timeout(PATIENCE, inner.makers.make(place, recipe, message, delivery));
            let made = tokio::select! {
                made = making => made,
                () = inner.stopped() => return Err(Missing::Stopping),
            };
            let slow = |_| Err(NotMade::Later(AGAIN, format!("It was not made within {} seconds", PATIENCE.as_secs())));
            made.unwrap_or_else(slow).map(Bytes::Made).map_err(Missing::NotMade)
        }
    }
}

/// It was claimed a while ago, and may have been moved since.
async fn stored(inner: &Inner, message: &Message, blob: BlobId) -> store::Result<BlobReader> {
    let (id, store) = (message.id, inner.store.clone());
    match inner.store.blob(blob) {
        Ok(blob) => Ok(blob),
        Err(e) => match inner.store.read(move |tx| queue::blob(tx, id)?.map(|b| store.blob(b)).transpose()).await? {
            Some(blob) => Ok(blob),
            None => Err(e),
        },
    }
}

/// What follows for the deliveries.
pub(crate) fn settle(inner: &Inner, message: &Arc<Message>, deliveries: Vec<Delivery>, missing: Missing) {
    let now = inner.clock.now();
    if let Missing::Unreadable(error) = &missing {
        tracing::error!(queue = %message.id, %error, "a message in the queue cannot be read");
    }
    for d in deliveries {
        let (reply, wait) = match &missing {
            Missing::Stopping => {
                inner.release(message, &d, now);
                continue;
            }
            Missing::Unreadable(_) => {
                let retry = &inner.hops.policies().retry;
                let reply = Reply::new(451, 3, 0, "Our store did not give the message");
                (reply, Some(schedule::interval(retry, d.attempts)))
            }
            Missing::NotMade(NotMade::Later(wait, why)) => {
                (Reply::new(451, 3, 0, format!("The mail is not made yet: {why}")), Some(schedule::millis(*wait)))
            }
            Missing::NotMade(NotMade::Never(why)) => {
                (Reply::new(554, 6, 0, format!("The mail cannot be made: {why}")), None)
            }
            Missing::NotMade(NotMade::Unwanted(why)) => {
                let reply = Reply::new(554, 6, 0, format!("The mail is not wanted any more: {why}"));
                inner.settle(message, d, Outcome::Cancelled, ours(reply));
                continue;
            }
        };
        let (outcome, said) = schedule::judge(&d, ours(reply), wait, now, inner.random());
        inner.settle(message, d, schedule::not_beyond(outcome, message, now), said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn marketing_that_takes_its_time_leaves_places_to_the_others() {
        let makers = Makers::new(None);
        let soon = |stream| timeout(Duration::from_secs(1), makers.place(stream));
        let mut taken = Vec::new();
        while let Ok(place) = soon(Stream::Marketing).await {
            taken.push(place);
        }
        for stream in [Stream::Transactional, Stream::Mail] {
            assert!(soon(stream).await.is_ok(), "{stream} waits");
        }
        // What is urgent takes the others', too.
        taken.pop();
        let _urgent = soon(Stream::Transactional).await.unwrap();
        assert!(soon(Stream::Marketing).await.is_err());
    }

    #[test]
    fn a_turn_for_what_is_urgent_is_none_for_marketing_nor_the_other_way_round() {
        use Stream::{Mail, Marketing, Transactional};
        for (queued, next, keeps) in [
            (Marketing, Marketing, true),
            (Marketing, Transactional, false),
            (Transactional, Marketing, false),
            (Mail, Marketing, false),
            (Mail, Transactional, true),
        ] {
            assert_eq!(same_places(queued, next), keeps, "{queued:?}, {next:?}");
        }
    }
}
