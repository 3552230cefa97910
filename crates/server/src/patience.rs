//! How long a peer may take. What is honest and slow is waited for; what holds a place by a word now and then is not.

use std::time::Duration;

use net::Deadline;
use tokio::time::Instant;

/// All the time there is for signing in, or on port 25 for beginning a mail, whatever is said meanwhile: as long as
/// RFC 5321 §4.5.3.2.7 gives a single command, for the three or four that it takes.
const OPENING: Duration = Duration::from_secs(300);
/// A body may take so long whatever its rate: lines that stall for minutes are common, and they come back.
const GRACE: Duration = Duration::from_secs(600);
/// Beyond that it comes at so many octets a second at least, over all its time: a fifth of what a telephone gives at the
/// edge of the oldest networks, and 10,000 peers at this rate need 20 Mbit/s to hold their places.
const RATE: u64 = 256;

/// By when a peer must have said something whole. A word of it, now and then, gives it no more time.
pub(crate) struct Patience {
    opening: Deadline,
    command: Deadline,
    body: Option<Pace>,
}

/// A body on its way.
struct Pace {
    since: Instant,
    octets: u64,
}

impl Patience {
    /// With a new connection; `command`: for its first command.
    pub(crate) fn new(command: Duration) -> Self {
        Patience { opening: Deadline::after(OPENING), command: Deadline::after(command), body: None }
    }

    /// A command is done: there is so much time for the next.
    pub(crate) fn next_command(&mut self, time: Duration) {
        (self.command, self.body) = (Deadline::after(time), None);
    }

    /// So many octets more of a body came.
    pub(crate) fn body(&mut self, octets: usize) {
        let body = self.body.get_or_insert_with(|| Pace { since: Instant::now(), octets: 0 });
        body.octets += octets as u64;
    }

    /// By when more must have come. `known`: a peer that has signed in, or begun a mail, or is trusted; `pause`: the
    /// longest between two octets of a body.
    pub(crate) fn deadline(&self, known: bool, pause: Duration) -> Deadline {
        match &self.body {
            Some(body) => {
                let slowest = body.since + GRACE + Duration::from_secs(body.octets / RATE);
                Deadline::at(slowest).min(Deadline::after(pause))
            }
            None if known => self.command,
            None => self.command.min(self.opening),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: Duration = Duration::from_secs(300);
    const PAUSE: Duration = Duration::from_secs(180);

    /// Sends a body, so many octets every so many seconds, for at most a day; gives the octets that were waited for.
    async fn sends(octets: usize, every: u64) -> usize {
        let (mut patience, mut sent) = (Patience::new(COMMAND), 0);
        patience.body(0);
        for _ in 0..86_400 / every {
            let next = Instant::now() + Duration::from_secs(every);
            if patience.deadline(true, PAUSE).instant() < next {
                break;
            }
            tokio::time::sleep_until(next).await;
            patience.body(octets);
            sent += octets;
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_a_body_of_single_octets_is_given_up_and_a_slow_one_is_not() {
        assert_eq!(sends(1, 179).await, 3, "an octet every three minutes: ten minutes");
        assert_eq!(sends(1000, 179).await, 3000);
        // 1200 octets a second for a day; 300 a second, in bursts after stalls of nearly three minutes.
        assert_eq!(sends(1200, 1).await, 1200 * 86_400);
        assert_eq!(sends(300 * 170, 170).await, 300 * 170 * (86_400 / 170));
        assert_eq!(sends(1 << 20, 181).await, 0, "longer than the pause");
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_the_first_minutes_are_for_all_commands_together() {
        let mut patience = Patience::new(COMMAND);
        tokio::time::sleep(Duration::from_secs(200)).await;
        patience.next_command(COMMAND);
        assert_eq!(patience.deadline(false, PAUSE).left(), Duration::from_secs(100));
        assert_eq!(patience.deadline(true, PAUSE).left(), COMMAND);
    }
}
