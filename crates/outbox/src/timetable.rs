//! What is due when, by group: the index of the queue, in memory. A group costs a few dozen octets, however much waits in
//! it; what waits is in the tables.
//!
//! Whoever writes a row rings with its time, once it is on disk. A group that has no place now is held, in memory alone: so
//! what waits for a slow host is not read over and over.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::{Stream, Timestamp};
use queue::{Group, Want};
use tokio::sync::Notify;

use crate::hops::WEIGHTS;

/// Groups of which one job claims.
const GROUPS: usize = 64;

#[derive(Default)]
pub(crate) struct Timetable {
    state: Mutex<State>,
    /// Something may be due earlier than was thought.
    pub(crate) bell: Notify,
}

#[derive(Default)]
struct State {
    groups: HashMap<Group, Entry>,
    /// Those that are not being claimed of, by time.
    order: [BTreeSet<(Timestamp, i64)>; 3],
}

struct Entry {
    /// When the first of it is due.
    due: Timestamp,
    /// It has no place before.
    held: Timestamp,
    /// It is being claimed of; what rang meanwhile.
    claiming: Option<Option<Timestamp>>,
}

impl Entry {
    fn at(&self) -> Timestamp {
        self.due.max(self.held)
    }
}

impl State {
    /// Changes an entry that is not being claimed of, in its place in the order.
    fn change(&mut self, group: Group, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.groups.get_mut(&group) else { return };
        let order = &mut self.order[group.stream as usize];
        order.remove(&(entry.at(), group.domain));
        change(entry);
        order.insert((entry.at(), group.domain));
    }
}

impl State {
    /// True when it is due earlier than was thought.
    fn ring(&mut self, group: Group, at: Timestamp) -> bool {
        match self.groups.get_mut(&group) {
            Some(Entry { claiming: Some(rung), .. }) => *rung = Some(rung.map_or(at, |r| r.min(at))),
            Some(entry) if entry.due <= at => {}
            Some(_) => {
                self.change(group, |entry| entry.due = at);
                return true;
            }
            None => {
                self.groups.insert(group, Entry { due: at, held: Timestamp(i64::MIN), claiming: None });
                self.order[group.stream as usize].insert((at, group.domain));
                return true;
            }
        }
        false
    }
}

impl Timetable {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of a group is due then.
    pub(crate) fn ring(&self, group: Group, at: Timestamp) {
        self.ring_all(&[group], at);
    }

    /// Something of each group is due then.
    pub(crate) fn ring_all(&self, groups: &[Group], at: Timestamp) {
        let (mut state, mut earlier) = (self.lock(), false);
        for group in groups {
            earlier |= state.ring(*group, at);
        }
        drop(state);
        if earlier {
            self.bell.notify_one();
        }
    }

    /// Nothing of a group has a place before `until`, not even what comes yet; no change when it is held already.
    pub(crate) fn hold(&self, group: Group, until: Timestamp, now: Timestamp) {
        let mut state = self.lock();
        match state.groups.get_mut(&group) {
            Some(entry) if entry.held > now => {}
            Some(entry) if entry.claiming.is_some() => entry.held = until,
            Some(_) => state.change(group, |entry| entry.held = until),
            // All that waited was claimed, and now has no place.
            None => {
                state.groups.insert(group, Entry { due: until, held: until, claiming: None });
                state.order[group.stream as usize].insert((until, group.domain));
            }
        }
    }

    /// These are held no longer.
    pub(crate) fn let_go(&self, groups: &[Group]) {
        let mut state = self.lock();
        for group in groups {
            match state.groups.get_mut(group) {
                Some(entry) if entry.claiming.is_some() => entry.held = Timestamp(i64::MIN),
                _ => state.change(*group, |entry| entry.held = Timestamp(i64::MIN)),
            }
        }
        drop(state);
        self.bell.notify_one();
    }

    /// How many groups are held.
    pub(crate) fn held_groups(&self, now: Timestamp) -> usize {
        self.lock().groups.values().filter(|entry| entry.held > now).count()
    }

    /// What to claim now, at most `most` and of each stream what it has room for; each stream gets its share, and of each
    /// group as much as of the others. The caller answers for them all ([`Timetable::claimed`], [`Timetable::failed`]).
    pub(crate) fn pick(&self, now: Timestamp, rooms: [usize; 3], most: usize) -> Vec<Want> {
        let mut state = self.lock();
        let due = |state: &State, n: usize| -> Vec<i64> {
            let soon = state.order[n].iter().take_while(|(at, _)| *at <= now);
            soon.take(if rooms[n] == 0 { 0 } else { GROUPS }).map(|(_, domain)| *domain).collect()
        };
        let due: [Vec<i64>; 3] = [0, 1, 2].map(|n| due(&state, n));
        let weights: i32 = (0..3).filter(|n| !due[*n].is_empty()).map(|n| WEIGHTS[n]).sum();
        let (mut wants, mut left) = (Vec::new(), most);
        for (n, domains) in due.iter().enumerate().filter(|(_, domains)| !domains.is_empty()) {
            let share = (most * WEIGHTS[n] as usize / weights.max(1) as usize).min(rooms[n]).min(left).max(1);
            let groups = domains.len().min(share);
            for (place, domain) in domains.iter().take(groups).enumerate() {
                let group = Group { stream: Stream::ALL[n], domain: *domain };
                let most = share / groups + usize::from(place < share % groups);
                wants.push(Want { group, most: most as u32 });
                if let Some(entry) = state.groups.get_mut(&group) {
                    let at = entry.at();
                    entry.claiming = Some(None);
                    state.order[n].remove(&(at, *domain));
                }
            }
            left = left.saturating_sub(share);
        }
        wants
    }

    /// What was picked was claimed; this is when the rest of each group is due.
    pub(crate) fn claimed(&self, next: &[(Group, Option<Timestamp>)]) {
        let mut state = self.lock();
        for (group, next) in next {
            let Some(entry) = state.groups.get_mut(group) else { continue };
            let rung = entry.claiming.take().flatten();
            match next.iter().copied().chain(rung).min() {
                Some(due) => {
                    entry.due = due;
                    let at = entry.at();
                    state.order[group.stream as usize].insert((at, group.domain));
                }
                None => drop(state.groups.remove(group)),
            }
        }
    }

    /// What was picked was not claimed, and is due as before.
    pub(crate) fn failed(&self, wants: &[Want]) {
        let mut state = self.lock();
        for Want { group, .. } in wants {
            let Some(entry) = state.groups.get_mut(group) else { continue };
            let rung = entry.claiming.take().flatten();
            entry.due = rung.map_or(entry.due, |r| r.min(entry.due));
            let at = entry.at();
            state.order[group.stream as usize].insert((at, group.domain));
        }
    }

    /// When there is something to pick, of the streams that have room.
    pub(crate) fn next(&self, rooms: [usize; 3]) -> Option<Timestamp> {
        let state = self.lock();
        let first = |n: usize| state.order[n].first().filter(|_| rooms[n] > 0).map(|(at, _)| *at);
        (0..3).filter_map(first).min()
    }

    /// Until when a group is held; in the past when it is not.
    pub(crate) fn held(&self, group: Group) -> Option<Timestamp> {
        self.lock().groups.get(&group).map(|entry| entry.held)
    }

    /// When the first of all is or was due.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        self.lock().groups.values().map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: [usize; 3] = [1000; 3];

    fn at(t: i64) -> Timestamp {
        Timestamp(t)
    }

    fn group(stream: Stream, domain: i64) -> Group {
        Group { stream, domain }
    }

    fn picked(wants: &[Want]) -> Vec<(Stream, i64, u32)> {
        wants.iter().map(|w| (w.group.stream, w.group.domain, w.most)).collect()
    }

    #[test]
    fn groups_are_picked_when_they_are_due_and_not_twice() {
        let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
        t.ring(a, at(10));
        t.ring(b, at(20));
        assert!(t.pick(at(9), ROOM, 100).is_empty());
        assert_eq!(t.next(ROOM), Some(at(10)));
        assert_eq!(picked(&t.pick(at(10), ROOM, 100)), [(Stream::Mail, 1, 100)]);
        assert!(t.pick(at(10), ROOM, 100).is_empty());
        // What rings while it is claimed of is not lost.
        t.ring(a, at(15));
        t.claimed(&[(a, Some(at(30)))]);
        assert_eq!(t.next(ROOM), Some(at(15)));
        assert_eq!(picked(&t.pick(at(20), ROOM, 100)), [(Stream::Mail, 1, 50), (Stream::Mail, 2, 50)]);
        t.claimed(&[(a, None), (b, None)]);
        assert_eq!((t.next(ROOM), t.lock().groups.len()), (None, 0));
    }

    #[test]
    fn what_could_not_be_claimed_is_due_as_before() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        t.ring(a, at(10));
        let wants = t.pick(at(10), ROOM, 9);
        t.ring(a, at(5));
        t.failed(&wants);
        assert_eq!(t.next(ROOM), Some(at(5)));
    }

    #[test]
    fn a_held_group_waits_whatever_rings_and_others_do_not() {
        let (t, a, b) = (Timetable::default(), group(Stream::Marketing, 1), group(Stream::Mail, 1));
        t.ring(a, at(0));
        t.hold(a, at(100), at(0));
        // Its turn, not that of the last who waits.
        t.hold(a, at(900), at(0));
        t.ring(a, at(1));
        t.ring(b, at(1));
        assert_eq!(picked(&t.pick(at(50), ROOM, 9)), [(Stream::Mail, 1, 9)]);
        assert_eq!(picked(&t.pick(at(100), ROOM, 9)), [(Stream::Marketing, 1, 9)]);
        // Also while it is claimed of.
        t.hold(a, at(300), at(100));
        t.claimed(&[(a, Some(at(0)))]);
        assert_eq!(t.next(ROOM), Some(at(300)));
    }

    #[test]
    fn a_group_of_which_all_was_claimed_is_held_as_well() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        t.ring(a, at(0));
        t.pick(at(0), ROOM, 9);
        t.claimed(&[(a, None)]);
        t.hold(a, at(100), at(0));
        // What was put off, and what is new.
        t.ring(a, at(100));
        t.ring(a, at(1));
        assert_eq!((t.held_groups(at(99)), t.held_groups(at(100))), (1, 0));
        assert!(t.pick(at(99), ROOM, 9).is_empty());
        assert_eq!(picked(&t.pick(at(100), ROOM, 9)), [(Stream::Mail, 1, 9)]);
    }

    #[test]
    fn what_is_let_go_is_due_at_once() {
        let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
        t.ring(a, at(0));
        t.hold(a, at(100), at(0));
        t.let_go(&[a, b]);
        assert_eq!(picked(&t.pick(at(1), ROOM, 9)), [(Stream::Mail, 1, 9)]);
    }

    #[test]
    fn every_stream_has_its_share_and_room_of_its_own() {
        let t = Timetable::default();
        for domain in 0..1000 {
            t.ring(group(Stream::Marketing, domain), at(0));
        }
        t.ring(group(Stream::Transactional, 7), at(5));
        let wants = t.pick(at(9), ROOM, 100);
        let of = |stream| wants.iter().filter(|w| w.group.stream == stream).map(|w| w.most).sum::<u32>();
        // Eight to two.
        assert_eq!((of(Stream::Transactional), of(Stream::Marketing)), (80, 20));
        t.failed(&wants);
        assert_eq!(picked(&t.pick(at(9), [0, 1, 0], 100)), [(Stream::Transactional, 7, 1)]);
        assert_eq!(t.next([1, 1, 0]), None);
    }

    #[test]
    fn a_batch_is_spread_over_many_groups() {
        let t = Timetable::default();
        (0..1000).for_each(|domain| t.ring(group(Stream::Mail, domain), at(0)));
        let wants = t.pick(at(0), ROOM, 256);
        assert_eq!((wants.len(), wants.iter().map(|w| w.most).sum::<u32>()), (GROUPS, 256));
        assert!(wants.iter().all(|w| w.most == 4));
    }
}
