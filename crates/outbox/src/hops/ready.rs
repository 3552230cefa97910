//! The work of a line, by stream. Streams take turns by weight: one that is full keeps back no other.

use std::collections::VecDeque;

use base::Stream;
use queue::QueueId;

use super::Work;

/// Turns that a stream has where all have work, in the order of [`Stream::ALL`].
pub(crate) const WEIGHTS: [i32; 3] = [4, 8, 2];

#[derive(Default)]
pub(super) struct Ready {
    works: [VecDeque<Work>; 3],
    deliveries: [usize; 3],
    /// Turns that a stream has not had yet.
    credit: [i32; 3],
}

impl Ready {
    pub(super) fn len(&self) -> usize {
        self.works.iter().map(VecDeque::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.works.iter().all(VecDeque::is_empty)
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
        self.deliveries[at] += work.deliveries.len();
        self.works[at].push_back(work);
    }

    pub(super) fn push_front(&mut self, work: Work) {
        let at = work.message.stream as usize;
        self.deliveries[at] += work.deliveries.len();
        self.works[at].push_front(work);
    }

    /// Whose turn it is: where all have work, each gets turns by its weight, as evenly spread as can be.
    fn turn(&self) -> Option<usize> {
        (0..3).filter(|n| !self.works[*n].is_empty()).max_by_key(|n| self.credit[*n] + WEIGHTS[*n])
    }

    /// What is next.
    pub(super) fn front(&self) -> Option<&Work> {
        self.works[self.turn()?].front()
    }

    pub(super) fn pop_front(&mut self) -> Option<Work> {
        let turn = self.turn()?;
        let mut all = 0;
        for ((works, credit), weight) in self.works.iter().zip(&mut self.credit).zip(WEIGHTS) {
            // Who has nothing saves no turns for later.
            (*credit, all) = if works.is_empty() { (0, all) } else { (*credit + weight, all + weight) };
        }
        self.credit[turn] -= all;
        let work = self.works[turn].pop_front()?;
        self.deliveries[turn] -= work.deliveries.len();
        Some(work)
    }

    /// Everything, the streams one after the other.
    pub(super) fn drain(&mut self) -> Vec<Work> {
        self.deliveries = [0; 3];
        self.works.iter_mut().flat_map(|works| works.drain(..)).collect()
    }

    /// The work of one message.
    pub(super) fn take_out(&mut self, id: QueueId) -> Vec<Work> {
        let mut out = Vec::new();
        for (works, deliveries) in self.works.iter_mut().zip(&mut self.deliveries) {
            let (of_it, rest): (Vec<_>, Vec<_>) = works.drain(..).partition(|work| work.message.id == id);
            *works = rest.into();
            *deliveries -= of_it.iter().map(|work| work.deliveries.len()).sum::<usize>();
            out.extend(of_it);
        }
        out
    }
}
