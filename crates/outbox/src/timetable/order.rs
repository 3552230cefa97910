//! The groups of a stream, and whose turn it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use base::{OrganisationId, Timestamp};
use queue::Group;

/// Of so many turns of an organisation one is for what is less urgent.
const LESS_URGENT: usize = 4;
/// Groups of which one job claims.
pub(super) const GROUPS: usize = 64;

/// By time.
type Due = BTreeSet<(Timestamp, i64)>;

/// The groups of a stream: of each organisation by priority.
#[derive(Default)]
pub(super) struct Order {
    /// None of them empty.
    pub(super) by: BTreeMap<OrganisationId, Own>,
    /// Whose turn was the last.
    last: OrganisationId,
}

/// The groups of an organisation.
#[derive(Default)]
pub(super) struct Own {
    /// By priority, none of them empty.
    levels: BTreeMap<Reverse<i8>, Due>,
    /// Turns it had.
    turns: usize,
}

impl Own {
    /// Of what is due mostly the most urgent, and each level below in its turn: whoever says that all of his is urgent keeps
    /// back nobody for ever (RFC 6710 §5).
    fn level(&self, now: Timestamp) -> Option<(i8, &Due)> {
        let is_due = |groups: &Due| groups.first().is_some_and(|(at, _)| *at <= now);
        let due: Vec<_> = self.levels.iter().filter(|(_, groups)| is_due(groups)).collect();
        let place = match (self.turns % LESS_URGENT, due.len()) {
            (turn, 2..) if turn == LESS_URGENT - 1 => 1 + self.turns / LESS_URGENT % (due.len() - 1),
            _ => 0,
        };
        due.get(place).map(|(priority, groups)| (priority.0, *groups))
    }
}

impl Order {
    pub(super) fn insert(&mut self, group: Group, at: Timestamp) {
        let own = self.by.entry(group.organisation).or_default();
        own.levels.entry(Reverse(group.priority)).or_default().insert((at, group.domain));
    }

    pub(super) fn remove(&mut self, group: Group, at: Timestamp) {
        let Some(own) = self.by.get_mut(&group.organisation) else { return };
        if let Some(groups) = own.levels.get_mut(&Reverse(group.priority)) {
            groups.remove(&(at, group.domain));
            if groups.is_empty() {
                own.levels.remove(&Reverse(group.priority));
            }
        }
        if own.levels.is_empty() {
            self.by.remove(&group.organisation);
        }
    }

    /// When the first is due, of organisations that have a place.
    pub(super) fn first(&self, has_place: impl Fn(OrganisationId) -> bool) -> Option<Timestamp> {
        let groups = self.by.iter().filter(|(organisation, _)| has_place(**organisation));
        groups.flat_map(|(_, own)| own.levels.values()).filter_map(BTreeSet::first).map(|(at, _)| *at).min()
    }

    /// An organisation has its turn.
    pub(super) fn had_turn(&mut self, organisation: OrganisationId) {
        self.last = organisation;
        self.by.entry(organisation).and_modify(|own| own.turns += 1);
    }

    /// What is due, by organisation, [`GROUPS`] in all and of each as many as of the others, of one priority ([`Own::level`]).
    /// They begin behind the one whose turn was the last.
    pub(super) fn due(
        &self,
        now: Timestamp,
        has_place: impl Fn(OrganisationId) -> bool,
    ) -> Vec<(OrganisationId, i8, Vec<i64>)> {
        let with_place = self.by.iter().filter(|(organisation, _)| has_place(**organisation));
        let urgent = with_place.filter_map(|(o, own)| Some((*o, own.level(now)?)));
        let mut turns: Vec<_> = urgent.collect();
        let behind = turns.partition_point(|(organisation, _)| *organisation <= self.last);
        turns.rotate_left(behind);
        turns.truncate(GROUPS);
        let most = GROUPS / turns.len().max(1);
        let due = |groups: &Due| groups.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, d)| *d).collect();
        turns.into_iter().map(|(o, (priority, groups))| (o, priority, due(groups))).collect()
    }
}
