//! Mails that are on their way to a site: each has a ticket, with which what came of it is told.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// A mail that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    number: u64,
    sent: Instant,
}

impl Ticket {
    /// When it went out.
    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    /// Of a mail that is on its way to nobody.
    #[cfg(test)]
    pub(crate) fn of_none() -> Self {
        Ticket { number: u64::MAX, sent: Instant::now() }
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
    pub(super) fn begin(&mut self, now: Instant) -> Ticket {
        let ticket = Ticket { number: self.next, sent: now };
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
        self.all.iter().rev().take_while(|ticket| now.saturating_duration_since(ticket.sent) < time).count()
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
        let [first, second] = [flight.begin(at), flight.begin(at)];
        advance(SECOND).await;
        let third = flight.begin(Instant::now());
        let within = |flight: &Flight, time| flight.within(time, Instant::now());
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (1, 3));
        assert_eq!([0; 3].map(|_| flight.end(second)), [true, false, false]);
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (1, 2));
        flight.end(third);
        assert_eq!((within(&flight, SECOND), within(&flight, 2 * SECOND)), (0, 1));
        flight.end(first);
        assert!(flight.all.is_empty());
    }
}
