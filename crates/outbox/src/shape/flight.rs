//! Mails that are on their way to a site: each has a ticket, with which what came of it is told.

use std::collections::VecDeque;
use std::time::Duration;

use base::Stream;
use tokio::time::Instant;

/// A mail that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    sent: Instant,
    stream: Stream,
}

impl Ticket {
    /// When it went out.
    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// Of a mail that is on its way to nobody.
    #[cfg(test)]
    pub(crate) fn of_none() -> Self {
        Ticket { number: u64::MAX, sent: Instant::now(), stream: Stream::Mail }
    }
}

/// Those of which nothing is known yet. A connection carries one mail after another, so they are no more than connections.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// In the order in which they went out.
    all: VecDeque<Ticket>,
    next: u64,
}

impl Flight {
    pub(super) fn begin(&mut self, stream: Stream, now: Instant) -> Ticket {
        let ticket = Ticket { number: self.next, sent: now, stream };
        self.next += 1;
        self.all.push_back(ticket);
        ticket
    }

    /// It came to an end; gives whether it does so now. It may be told of more than once: each recipient of a mail has an answer.
    pub(super) fn end(&mut self, ticket: Ticket) -> bool {
        let at = self.all.binary_search_by_key(&ticket.number, |known| known.number);
        at.is_ok_and(|at| self.all.remove(at).is_some())
    }

    /// So many went out in this time, and have not come to an end.
    pub(super) fn within(&self, time: Duration, now: Instant) -> usize {
        self.since(time, now).count()
    }

    /// And so many of these are no less urgent than mail of this stream.
    pub(super) fn before(&self, stream: Stream, time: Duration, now: Instant) -> usize {
        self.since(time, now).filter(|ticket| urgency(ticket.stream) >= urgency(stream)).count()
    }

    fn since(&self, time: Duration, now: Instant) -> impl Iterator<Item = &Ticket> {
        self.all.iter().rev().take_while(move |ticket| now.saturating_duration_since(ticket.sent) < time)
    }
}

/// The higher, the less mail of a stream waits for others': for a code or a receipt somebody sits and waits.
pub(crate) fn urgency(stream: Stream) -> u8 {
    match stream {
        Stream::Marketing => 0,
        Stream::Mail => 1,
        Stream::Transactional => 2,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_mail_ends_for_itself_and_once() {
        let mut flight = Flight::default();
        let at = Instant::now();
        let [first, second] = [flight.begin(Stream::Marketing, at), flight.begin(Stream::Mail, at)];
        advance(SECOND).await;
        let third = flight.begin(Stream::Mail, Instant::now());
        let within = |flight: &Flight, time| flight.within(time, Instant::now());
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (1, 3));
        let before = |stream| flight.before(stream, 2 * SECOND, Instant::now());
        assert_eq!([Stream::Marketing, Stream::Mail, Stream::Transactional].map(before), [3, 2, 0]);
        assert_eq!([0; 3].map(|_| flight.end(second)), [true, false, false]);
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (1, 2));
        flight.end(third);
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (0, 1));
        flight.end(first);
        assert!(flight.all.is_empty());
    }
}
