//! The work of one stream in a line. Its organisations take turns, so that what one sends much of keeps back no other.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use base::OrganisationId;

use super::Work;

#[derive(Default)]
pub(super) struct Turns {
    /// None of them empty.
    by: BTreeMap<OrganisationId, VecDeque<Work>>,
    /// Who had the last turn.
    last: OrganisationId,
    len: usize,
}

impl Turns {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push_back(&mut self, work: Work) {
        self.len += 1;
        self.by.entry(work.message.organisation).or_default().push_back(work);
    }

    /// Before all else of its organisation.
    pub(super) fn push_front(&mut self, work: Work) {
        self.len += 1;
        self.by.entry(work.message.organisation).or_default().push_front(work);
    }

    /// Whose turn it is of those who `may`: the next after the last, and after the greatest the least.
    pub(super) fn turn(&self, may: impl Fn(OrganisationId) -> bool) -> Option<OrganisationId> {
        let behind = self.by.range((Excluded(self.last), Unbounded));
        behind.chain(&self.by).map(|(organisation, _)| *organisation).find(|organisation| may(*organisation))
    }

    pub(super) fn front(&self, of: OrganisationId) -> Option<&Work> {
        self.by.get(&of)?.front()
    }

    /// Whose work it is, and how much each has.
    pub(super) fn organisations(&self) -> impl Iterator<Item = (OrganisationId, usize)> {
        self.by.iter().map(|(organisation, works)| (*organisation, works.len()))
    }

    /// Each, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Work> {
        self.by.values().flatten()
    }

    /// The first of an organisation, whose turn it is.
    pub(super) fn pop_front(&mut self, of: OrganisationId) -> Option<Work> {
        let works = self.by.get_mut(&of)?;
        let work = works.pop_front()?;
        if works.is_empty() {
            self.by.remove(&of);
        }
        (self.last, self.len) = (of, self.len - 1);
        Some(work)
    }

    /// Everything, as it would have had its turn.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Work> {
        std::iter::from_fn(|| self.pop_front(self.turn(|_| true)?))
    }

    /// All such work.
    pub(super) fn take_out(&mut self, such: impl Fn(&Work) -> bool) -> Vec<Work> {
        let mut out = Vec::new();
        for works in self.by.values_mut() {
            let (of_it, rest): (Vec<_>, Vec<_>) = works.drain(..).partition(&such);
            out.extend(of_it);
            *works = rest.into();
        }
        self.by.retain(|_, works| !works.is_empty());
        self.len -= out.len();
        out
    }
}
