//! The work of a line, by stream. Streams take turns by weight, and within one its organisations: what is full keeps back no
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{OrganisationId, Stream};

use super::Work;
use super::turns::Turns;
use crate::shape::urgency;

/// Turns that a stream has where all have work, in the order of [`Stream::ALL`].
pub(crate) const WEIGHTS: [i32; 3] = [4, 8, 2];

/// Deliveries that stand in all lines of a site, by stream.
pub(super) type InLine = Arc<[AtomicUsize; 3]>;

/// What is next in a line.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    stream: usize,
    pub(super) organisation: OrganisationId,
    /// Streams that have work that can go.
    goes: [bool; 3],
}

pub(super) struct Ready {
    works: [Turns; 3],
    deliveries: [usize; 3],
    to_be_made: usize,
    site: InLine,
    /// Turns that a stream has not had yet.
    credit: [i32; 3],
}

impl Ready {
    /// Of a line of a site.
    pub(super) fn new(site: InLine) -> Self {
        Ready { works: Default::default(), deliveries: [0; 3], to_be_made: 0, site, credit: [0; 3] }
    }

    fn gains(&mut self, stream: usize, work: &Work) {
        let n = work.deliveries.len();
        self.to_be_made += usize::from(work.is_made());
        self.deliveries[stream] += n;
        self.site[stream].fetch_add(n, Ordering::Relaxed);
    }

    fn loses(&mut self, stream: usize, work: &Work) {
        let n = work.deliveries.len();
        self.to_be_made -= usize::from(work.is_made());
        self.deliveries[stream] -= n;
        self.site[stream].fetch_sub(n, Ordering::Relaxed);
    }

    pub(super) fn len(&self) -> usize {
        self.works.iter().map(Turns::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.works.iter().all(Turns::is_empty)
    }

    /// Each, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Work> {
        self.works.iter().flat_map(Turns::iter)
    }

    /// Works that are to be made when they leave.
    pub(super) fn to_be_made(&self) -> usize {
        self.to_be_made
    }

    /// Deliveries of a stream.
    pub(super) fn deliveries(&self, stream: Stream) -> usize {
        self.deliveries[stream as usize]
    }

    pub(super) fn has(&self, stream: Stream) -> bool {
        !self.works[stream as usize].is_empty()
    }

    pub(super) fn push_back(&mut self, work: Work) {
        let at = work.message.stream as usize;
        self.gains(at, &work);
        self.works[at].push_back(work);
    }

    pub(super) fn push_front(&mut self, work: Work) {
        let at = work.message.stream as usize;
        self.gains(at, &work);
        self.works[at].push_front(work);
    }

    /// Whose turn it is of those organisations that `may`: where all streams have work, each gets turns by its weight, as evenly
    /// spread as can be. Of `all` that is first, or only of what need not be made. A stream that `awaits` something has its turn
    /// where all do.
    pub(super) fn turn(
        &self,
        all: bool,
        may: impl Fn(OrganisationId) -> bool,
        awaits: impl Fn(Stream) -> bool,
    ) -> Option<Turn> {
        let mut next: [Option<OrganisationId>; 3] = std::array::from_fn(|n| {
            let works = &self.works[n];
            let can_go = |organisation| all || works.front(organisation).is_some_and(|work| !work.is_made());
            works.turn(|organisation| may(organisation) && can_go(organisation))
        });
        // Asked only where there is a choice.
        if next.iter().flatten().count() > 1 {
            let goes = Stream::ALL.map(|stream| next[stream as usize].is_some() && !awaits(stream));
            if goes.contains(&true) {
                next = std::array::from_fn(|n| next[n].filter(|_| goes[n]));
            }
        }
        let stream = (0..3).filter(|n| next[*n].is_some()).max_by_key(|n| self.credit[*n] + WEIGHTS[*n])?;
        Some(Turn { stream, organisation: next[stream]?, goes: next.map(|next| next.is_some()) })
    }

    /// The most urgent stream that has work; the least where none has any.
    pub(super) fn most_urgent(&self) -> Stream {
        let streams = Stream::ALL.into_iter().filter(|stream| self.has(*stream));
        streams.max_by_key(|stream| urgency(*stream)).unwrap_or(Stream::Marketing)
    }

    /// What is next.
    pub(super) fn front(&self, turn: Turn) -> Option<&Work> {
        self.works[turn.stream].front(turn.organisation)
    }

    pub(super) fn pop_front(&mut self, turn: Turn) -> Option<Work> {
        let mut weights = 0;
        for (n, weight) in WEIGHTS.into_iter().enumerate() {
            // Who has nothing saves no turns for later, nor who could not have used them.
            match turn.goes[n] {
                true => (self.credit[n], weights) = (self.credit[n] + weight, weights + weight),
                false if self.works[n].is_empty() => self.credit[n] = 0,
                false => {}
            }
        }
        self.credit[turn.stream] -= weights;
        let work = self.works[turn.stream].pop_front(turn.organisation)?;
        self.loses(turn.stream, &work);
        Some(work)
    }

    /// Whose work it is, and how much each has: by stream, so that one may come several times.
    pub(super) fn organisations(&self) -> impl Iterator<Item = (OrganisationId, usize)> {
        self.works.iter().flat_map(Turns::organisations)
    }

    /// Everything, the streams one after the other.
    pub(super) fn drain(&mut self) -> Vec<Work> {
        let all: Vec<Work> = self.works.iter_mut().flat_map(Turns::drain).collect();
        all.iter().for_each(|work| self.loses(work.message.stream as usize, work));
        all
    }

    /// All such work.
    pub(super) fn take_all(&mut self, such: impl Fn(&Work) -> bool) -> Vec<Work> {
        let mut out = Vec::new();
        for stream in 0..3 {
            let of_it = self.works[stream].take_out(&such);
            of_it.iter().for_each(|work| self.loses(stream, work));
            out.extend(of_it);
        }
        out
    }
}
