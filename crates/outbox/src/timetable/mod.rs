//! What is due when, by group: the index of the queue, in memory. A group costs a few dozen octets, however much waits in
//! it; what waits is in the tables.
//!
//! Whoever writes a row rings with its time, once it is on disk. A group that has no place now is held, in memory alone: so
//! what waits for a slow host is not read over and over.

mod order;
mod stopped;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::{OrganisationId, Stream, Timestamp};
use queue::{Delivery, Group, Message, Want};
use tokio::sync::Notify;

use crate::hops::{Rooms, WEIGHTS};
use crate::route::Hop;
use order::Order;
pub(crate) use stopped::Stopped;

/// So many are claimed of a group first after it was more than its organisation may send; then four times as many, as long as
/// all have a place.
const FEW: u32 = 8;

#[derive(Default)]
pub(crate) struct Timetable {
    state: Mutex<State>,
    /// Something may be due earlier than was thought.
    pub(crate) bell: Notify,
}

#[derive(Default)]
struct State {
    groups: HashMap<Group, Entry>,
    /// Those that are not being claimed of, by stream.
    order: [Order; 3],
    /// Of these nothing is claimed until the administrator wants it.
    stopped: Stopped,
    /// So often was that set up.
    set_up: u64,
}

/// Why nothing of a group is claimed for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no place for it, or its site wants none now.
    Busy,
    /// The administrator stopped its site, or all sources it may leave by.
    Stopped,
    /// Its organisation has sent there what it may.
    Bound,
    /// All sources it may leave by are new, and have delivered what they may today.
    Spent,
}

/// Without end.
const EVER: Timestamp = Timestamp(i64::MAX);
const NEVER: Timestamp = Timestamp(i64::MIN);

struct Entry {
    /// When the first of it is due.
    due: Timestamp,
    /// It has no place before.
    held: Timestamp,
    why: Why,
    /// Where there was no place for it; for those who look.
    hop: Option<Box<Hop>>,
    /// So many are claimed of it at most.
    most: u32,
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
        order.remove(group, entry.at());
        change(entry);
        order.insert(group, entry.at());
    }
}

impl State {
    /// A group of which nothing was known.
    fn insert(&mut self, group: Group, due: Timestamp, held: Timestamp, why: Why) {
        let stopped = self.stopped.domains.contains(&group.domain);
        let (held, why) = if stopped { (EVER, Why::Stopped) } else { (held, why) };
        let most = if why == Why::Bound { FEW } else { u32::MAX };
        let entry = Entry { due, held, why, hop: None, most, claiming: None };
        self.order[group.stream as usize].insert(group, entry.at());
        self.groups.insert(group, entry);
    }

    /// Whether a group is held or not is changed, where it stands.
    fn hold(&mut self, group: Group, until: Timestamp, why: Why) {
        let hold = |entry: &mut Entry| {
            (entry.held, entry.why, entry.hop) = (until, why, None);
            entry.most = if why == Why::Bound { FEW } else { entry.most };
        };
        match self.groups.get_mut(&group) {
            Some(entry) if entry.claiming.is_some() => hold(entry),
            _ => self.change(group, hold),
        }
    }

    /// What is held has no place at this hop; where it was for another, that stands.
    fn note(&mut self, group: Group, hop: &Hop) {
        if let Some(entry) = self.groups.get_mut(&group).filter(|entry| entry.held > NEVER) {
            entry.hop.get_or_insert_with(|| Box::new(hop.clone()));
        }
    }

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
                self.insert(group, at, NEVER, Why::Busy);
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

    /// How often it was said what is stopped.
    pub(crate) fn stops_seen(&self) -> u64 {
        self.lock().set_up
    }

    /// Nothing of a group has a place before `until`, not even what comes yet; no change when it is held already.
    pub(crate) fn hold(&self, group: Group, until: Timestamp, now: Timestamp, why: Why) {
        Self::hold_in(&mut self.lock(), group, until, now, why);
    }

    /// The same, as the hop has no place for it.
    pub(crate) fn hold_at(&self, hop: &Hop, group: Group, until: Timestamp, now: Timestamp) {
        let mut state = self.lock();
        Self::hold_in(&mut state, group, until, now, Why::Busy);
        state.note(group, hop);
    }

    /// The same for what is stopped, or has sent enough, on its way to a hop: not when the administrator set up something else meanwhile.
    pub(crate) fn hold_as_seen(
        &self,
        hop: &Hop,
        group: Group,
        until: Timestamp,
        now: Timestamp,
        (why, seen): (Why, u64),
    ) {
        let mut state = self.lock();
        if state.set_up == seen {
            Self::hold_in(&mut state, group, until, now, why);
            state.note(group, hop);
        }
    }

    fn hold_in(state: &mut State, group: Group, until: Timestamp, now: Timestamp, why: Why) {
        match state.groups.get(&group) {
            Some(entry) if entry.held > now => {}
            Some(_) => state.hold(group, until, why),
            // All that waited was claimed, and now has no place.
            None => state.insert(group, until, until, why),
        }
    }

    /// These are held no longer, unless the administrator stopped them.
    pub(crate) fn let_go(&self, groups: &[Group]) {
        let mut state = self.lock();
        for group in groups.iter().filter(|group| !state.stopped.domains.contains(&group.domain)).collect::<Vec<_>>() {
            state.hold(*group, NEVER, Why::Busy);
        }
        drop(state);
        self.bell.notify_one();
    }

    /// From now on this is stopped, and all else is not held.
    pub(crate) fn stop(&self, stopped: Stopped) {
        let mut state = self.lock();
        state.stopped = stopped;
        state.set_up += 1;
        let all: Vec<(Group, bool)> = state.groups.iter().map(|(group, entry)| (*group, entry.held > NEVER)).collect();
        for (group, held) in all {
            match state.stopped.domains.contains(&group.domain) {
                true => state.hold(group, EVER, Why::Stopped),
                false if held => state.hold(group, NEVER, Why::Busy),
                false => {}
            }
        }
        drop(state);
        self.bell.notify_one();
    }

    /// How many groups are held.
    pub(crate) fn held_groups(&self, now: Timestamp) -> usize {
        self.lock().groups.values().filter(|entry| entry.held > now).count()
    }

    /// What to claim now, at most `most` and of each stream and organisation what there is room for. Each stream gets its
    /// share; of that each organisation as much as the others, and of an organisation's each group. The caller answers for
    /// them all ([`Timetable::claimed`], [`Timetable::failed`]).
    pub(crate) fn pick(&self, now: Timestamp, rooms: &Rooms, most: usize) -> Vec<Want> {
        let mut state = self.lock();
        let due = Stream::ALL.map(|stream| {
            let stopped = &state.stopped;
            let goes = |o| !stopped.stops(stream, o) && stopped.quiet(stream, o, now).is_none();
            state.order[stream as usize].due(now, |o| goes(o) && rooms.room_of(stream, o) > 0)
        });
        let weights: i32 = (0..3).filter(|n| !due[*n].is_empty()).map(|n| WEIGHTS[n]).sum();
        let (mut wants, mut left) = (Vec::new(), most);
        for (n, turns) in due.iter().enumerate().filter(|(_, turns)| !turns.is_empty()) {
            let stream = Stream::ALL[n];
            let share = most * WEIGHTS[n] as usize / weights.max(1) as usize;
            let share = share.min(rooms.room(stream)).min(left).max(1);
            for ((organisation, priority, domains), share) in turns.iter().zip(parts(share, turns.len())) {
                let share = share.min(rooms.room_of(stream, *organisation));
                state.order[n].had_turn(*organisation);
                for (domain, most) in domains.iter().zip(parts(share, domains.len())) {
                    let (organisation, domain, priority) = (*organisation, *domain, *priority);
                    let group = Group { stream, organisation, domain, priority };
                    let Some(entry) = state.groups.get_mut(&group) else { continue };
                    wants.push(Want { group, most: entry.most.min(most as u32) });
                    entry.most = entry.most.saturating_mul(4);
                    let at = entry.at();
                    entry.claiming = Some(None);
                    state.order[n].remove(group, at);
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
                    state.order[group.stream as usize].insert(*group, at);
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
            state.order[group.stream as usize].insert(*group, at);
        }
    }

    /// When there is something to pick, of the streams and organisations that have room.
    pub(crate) fn next(&self, now: Timestamp, rooms: &Rooms) -> Option<Timestamp> {
        let state = self.lock();
        let first = |stream: Stream| {
            let (stopped, order) = (&state.stopped, &state.order[stream as usize]);
            let quiet = |o| stopped.quiet(stream, o, now);
            let goes = |o: OrganisationId| !stopped.stops(stream, o);
            let loud = order.first(|o| goes(o) && rooms.room_of(stream, o) > 0 && quiet(o).is_none());
            // What is quiet now has its time when that is over.
            loud.into_iter().chain(order.by.keys().filter(|o| goes(**o)).filter_map(|o| quiet(*o))).min()
        };
        Stream::ALL.into_iter().filter_map(first).min()
    }

    /// Until when the stream of a group is quiet, if it is now.
    pub(crate) fn quiet(&self, stream: Stream, organisation: OrganisationId, now: Timestamp) -> Option<Timestamp> {
        self.lock().stopped.quiet(stream, organisation, now)
    }

    /// Until when a delivery lives that was kept back when its time ended; none when it was not, or has had its while more.
    pub(crate) fn longer(&self, message: &Message, d: &Delivery, now: Timestamp) -> Option<Timestamp> {
        self.lock().stopped.longer(message, d, now)
    }

    /// Until when a group is held, and why; in the past when it is not.
    pub(crate) fn held(&self, group: Group) -> Option<(Timestamp, Why)> {
        self.lock().groups.get(&group).map(|entry| (entry.held, entry.why))
    }

    /// The hop that had no place for a group, as far as that was why.
    pub(crate) fn hop(&self, group: Group) -> Option<Hop> {
        self.lock().groups.get(&group)?.hop.as_deref().cloned()
    }

    /// Groups that are held as a hop has no place for them, each with that hop.
    pub(crate) fn held_at(&self, now: Timestamp) -> Vec<(Group, Hop)> {
        let state = self.lock();
        let held = state.groups.iter().filter(|(_, entry)| entry.held > now && entry.why == Why::Busy);
        held.filter_map(|(group, entry)| Some((*group, entry.hop.as_deref()?.clone()))).collect()
    }

    /// When the first of all that is not stopped is or was due, or has its turn.
    pub(crate) fn first_due(&self) -> Option<Timestamp> {
        let state = self.lock();
        let going = state.groups.iter().filter(|(group, _)| !state.stopped.stops(group.stream, group.organisation));
        going.map(|(_, entry)| entry.at()).filter(|at| *at < EVER).min()
    }
}

/// A number in so many parts, of which none is much more than another; those that would be nothing are left out.
fn parts(n: usize, parts: usize) -> impl Iterator<Item = usize> {
    (0..parts.min(n)).map(move |place| n / parts + usize::from(place < n % parts))
}

#[cfg(test)]
mod tests;
