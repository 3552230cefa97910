//! How much is in hand, claimed and not yet settled on disk, and how much more may be. Each stream has places for itself, and
//! all share some more; within a stream one organisation never has all of them.

use std::collections::HashMap;

use base::{OrganisationId, Stream};

use super::State;

/// Places that each stream has for itself, and those that all share.
pub(super) const OWN: usize = 1000;
const SHARED: usize = 1000;
/// Places of a stream that an organisation leaves to the others.
const OTHERS: usize = OWN / 10;

/// Of all in hand one hop may have so many in line, of each stream, so that mail to a host that is slow does not keep back all
/// other; and so many once its stream has taken all that is its own.
pub(super) const OF_ONE_HOP: usize = OWN;
pub(super) const OF_ONE_HOP_OF_MANY: usize = OWN / 10;
/// And all hops of one site together: a provider has a line for each of its customers.
pub(super) const OF_ONE_SITE: usize = OWN;
const OF_ONE_SITE_OF_MANY: usize = OWN / 4;
/// And however many sources share them, so many each.
pub(super) const LEAST: usize = 20;
/// With so few left in line there is a place for those that had none: enough for the connections until more are claimed.
pub(super) const LOW: usize = OF_ONE_HOP_OF_MANY / 2;

/// Deliveries in hand.
#[derive(Clone, Default)]
pub(crate) struct Rooms {
    streams: [usize; 3],
    /// Those that have any.
    organisations: HashMap<(Stream, OrganisationId), usize>,
}

impl Rooms {
    /// How many there are.
    pub(super) fn in_hand(&self) -> usize {
        self.streams.iter().sum()
    }

    /// How many of a stream.
    pub(super) fn of_stream(&self, stream: Stream) -> usize {
        self.streams[stream as usize]
    }

    /// So many more.
    pub(crate) fn claimed(&mut self, stream: Stream, organisation: OrganisationId, n: usize) {
        self.streams[stream as usize] += n;
        *self.organisations.entry((stream, organisation)).or_default() += n;
    }

    /// One less.
    pub(super) fn settled(&mut self, stream: Stream, organisation: OrganisationId) {
        let all = &mut self.streams[stream as usize];
        *all = all.saturating_sub(1);
        if let Some(n) = self.organisations.get_mut(&(stream, organisation)) {
            *n -= 1;
            if *n == 0 {
                self.organisations.remove(&(stream, organisation));
            }
        }
    }

    /// How many more of a stream may be claimed.
    pub(crate) fn room(&self, stream: Stream) -> usize {
        let shared = SHARED.saturating_sub(self.streams.iter().map(|n| n.saturating_sub(OWN)).sum());
        OWN.saturating_sub(self.of_stream(stream)) + shared
    }

    /// And of these, of one organisation.
    pub(crate) fn room_of(&self, stream: Stream, organisation: OrganisationId) -> usize {
        let own = self.organisations.get(&(stream, organisation)).copied().unwrap_or(0);
        let others = self.of_stream(stream).saturating_sub(own);
        self.room(stream).saturating_sub(OTHERS.saturating_sub(others))
    }
}

impl State {
    /// So many of an organisation's stream a line may hold, and all lines of a site.
    pub(super) fn shares(&self, stream: Stream, organisation: OrganisationId) -> (usize, usize) {
        let crowded = self.rooms.of_stream(stream) >= OWN;
        let (share, of_site) =
            if crowded { (OF_ONE_HOP_OF_MANY, OF_ONE_SITE_OF_MANY) } else { (OF_ONE_HOP, OF_ONE_SITE) };
        // All sources together are not to have more.
        let sources = self.fleet.members(stream, organisation).len().max(1);
        ((share / sources).max(LEAST), (of_site / sources).max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OrganisationId = OrganisationId(1);
    const B: OrganisationId = OrganisationId(2);

    #[test]
    fn a_stream_that_is_full_leaves_room_to_the_others() {
        let mut rooms = Rooms::default();
        rooms.claimed(Stream::Marketing, A, OWN + SHARED);
        assert_eq!(Stream::ALL.map(|s| rooms.room(s)), [OWN, OWN, 0]);
        rooms.settled(Stream::Marketing, A);
        assert_eq!(Stream::ALL.map(|s| rooms.room(s)), [OWN + 1, OWN + 1, 1]);
    }

    #[test]
    fn an_organisation_leaves_places_to_the_others() {
        let mut rooms = Rooms::default();
        let of_a = rooms.room_of(Stream::Marketing, A);
        assert_eq!(of_a, OWN + SHARED - OTHERS);
        rooms.claimed(Stream::Marketing, A, of_a);
        let room_of = |rooms: &Rooms, o| rooms.room_of(Stream::Marketing, o);
        assert_eq!((room_of(&rooms, A), room_of(&rooms, B)), (0, OTHERS));
        // The others have what was left to them: the rest is anybody's.
        rooms.claimed(Stream::Marketing, B, OTHERS);
        (0..50).for_each(|_| rooms.settled(Stream::Marketing, A));
        assert_eq!((room_of(&rooms, A), room_of(&rooms, B)), (50, 50));
        (0..OTHERS).for_each(|_| rooms.settled(Stream::Marketing, B));
        assert_eq!(rooms.organisations.len(), 1);
    }
}
