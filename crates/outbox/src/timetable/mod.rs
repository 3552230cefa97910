//! What is due when, by group: the index of the queue, in memory. A group costs a few dozen octets, however much waits in
//! it; what waits is in the tables.
//!
//! Whoever writes a row rings with its time, once it is on disk. A group that has no place now is held, in memory alone: so
//! what waits for a slow host is not read over and over.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::{OrganisationId, Stream, Timestamp};
use queue::source::{Ended, Quiet};
use queue::{Delivery, Group, Message, Want};
use tokio::sync::Notify;

use crate::hops::{Rooms, WEIGHTS};
use crate::route::Hop;

/// Of so many turns of an organisation one is for what is less urgent.
const LESS_URGENT: usize = 4;
/// Groups of which one job claims.
const GROUPS: usize = 64;
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

/// Streams and domains, by their digests, that the administrator stopped.
#[derive(Default)]
pub(crate) struct Stopped {
    pub(crate) streams: [bool; 3],
    /// Whether those of organisations with pools of their own are.
    pub(crate) own: HashMap<(Stream, OrganisationId), bool>,
    pub(crate) domains: HashSet<i64>,
    /// When which organisation's streams are quiet.
    pub(crate) quiet: HashMap<(Stream, OrganisationId), Quiet>,
    /// What was stopped not long ago.
    pub(crate) ended: Vec<Ended>,
}

impl Stopped {
    /// Nothing of an organisation's stream is claimed here.
    fn stops(&self, stream: Stream, organisation: OrganisationId) -> bool {
        self.own.get(&(stream, organisation)).copied().unwrap_or(self.streams[stream as usize])
    }

    /// Until when a stream of an organisation is quiet, if it is now.
    fn quiet(&self, stream: Stream, organisation: OrganisationId, now: Timestamp) -> Option<Timestamp> {
        self.quiet.get(&(stream, organisation))?.until(now)
    }

    /// Until when a delivery lives that was kept back when its time ended: once for each stop or night.
    fn longer(&self, message: &Message, d: &Delivery, now: Timestamp) -> Option<Timestamp> {
        // RFC 2852 §4.1.2: this is to be returned then.
        if message.is_late(now) {
            return None;
        }
        let had_time = |since: Timestamp| since < d.expires;
        let (stream, by) = (message.stream, message.organisation);
        let ended = self.ended.iter().filter(|e| had_time(e.since) && e.kept_back(stream, by, d.to.domain()));
        let quiet = self.quiet.get(&(stream, by)).map(|q| (q.around(now), q.grace()));
        let quiet = quiet.filter(|((since, _), _)| had_time(*since)).map(|((_, end), grace)| Timestamp(end.0 + grace));
        let longer = ended.map(|e| Timestamp(2 * e.until.0 - e.since.0)).chain(quiet).max();
        longer.filter(|longer| *longer > now)
    }
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

/// By time.
type Due = BTreeSet<(Timestamp, i64)>;

/// The groups of a stream: of each organisation by priority.
#[derive(Default)]
struct Order {
    /// None of them empty.
    by: BTreeMap<OrganisationId, Own>,
    /// Whose turn was the last.
    last: OrganisationId,
}

/// The groups of an organisation.
#[derive(Default)]
struct Own {
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
    fn insert(&mut self, group: Group, at: Timestamp) {
        let own = self.by.entry(group.organisation).or_default();
        own.levels.entry(Reverse(group.priority)).or_default().insert((at, group.domain));
    }

    fn remove(&mut self, group: Group, at: Timestamp) {
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
    fn first(&self, has_place: impl Fn(OrganisationId) -> bool) -> Option<Timestamp> {
        let groups = self.by.iter().filter(|(organisation, _)| has_place(**organisation));
        groups.flat_map(|(_, own)| own.levels.values()).filter_map(BTreeSet::first).map(|(at, _)| *at).min()
    }

    /// An organisation has its turn.
    fn had_turn(&mut self, organisation: OrganisationId) {
        self.last = organisation;
        self.by.entry(organisation).and_modify(|own| own.turns += 1);
    }

    /// What is due, by organisation, [`GROUPS`] in all and of each as many as of the others, of one priority ([`Own::level`]).
    /// They begin behind the one whose turn was the last.
    fn due(&self, now: Timestamp, has_place: impl Fn(OrganisationId) -> bool) -> Vec<(OrganisationId, i8, Vec<i64>)> {
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
mod tests {
    use std::sync::Arc;

    use queue::source::{SourceId, What};

    use crate::route::To;

    use super::*;

    const ONE: OrganisationId = OrganisationId(1);

    fn room() -> Rooms {
        Rooms::default()
    }

    fn at(t: i64) -> Timestamp {
        Timestamp(t)
    }

    fn group(stream: Stream, domain: i64) -> Group {
        Group { stream, organisation: ONE, domain, priority: 0 }
    }

    fn hop() -> Hop {
        Hop { to: To::Smarthost, source: SourceId::DEFAULT, require_tls: false, sts: None, dane: false }
    }

    fn picked(wants: &[Want]) -> Vec<(Stream, i64, u32)> {
        wants.iter().map(|w| (w.group.stream, w.group.domain, w.most)).collect()
    }

    #[test]
    fn groups_are_picked_when_they_are_due_and_not_twice() {
        let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
        t.ring(a, at(10));
        t.ring(b, at(20));
        assert!(t.pick(at(9), &room(), 100).is_empty());
        assert_eq!(t.next(at(0), &room()), Some(at(10)));
        assert_eq!(picked(&t.pick(at(10), &room(), 100)), [(Stream::Mail, 1, 100)]);
        assert!(t.pick(at(10), &room(), 100).is_empty());
        // What rings while it is claimed of is not lost.
        t.ring(a, at(15));
        t.claimed(&[(a, Some(at(30)))]);
        assert_eq!(t.next(at(0), &room()), Some(at(15)));
        assert_eq!(picked(&t.pick(at(20), &room(), 100)), [(Stream::Mail, 1, 50), (Stream::Mail, 2, 50)]);
        t.claimed(&[(a, None), (b, None)]);
        assert_eq!((t.next(at(0), &room()), t.lock().groups.len()), (None, 0));
    }

    #[test]
    fn what_could_not_be_claimed_is_due_as_before() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        t.ring(a, at(10));
        let wants = t.pick(at(10), &room(), 9);
        t.ring(a, at(5));
        t.failed(&wants);
        assert_eq!(t.next(at(0), &room()), Some(at(5)));
    }

    #[test]
    fn a_held_group_waits_whatever_rings_and_others_do_not() {
        let (t, a, b) = (Timetable::default(), group(Stream::Marketing, 1), group(Stream::Mail, 1));
        t.ring(a, at(0));
        t.hold(a, at(100), at(0), Why::Busy);
        // Its turn, not that of the last who waits.
        t.hold(a, at(900), at(0), Why::Busy);
        t.ring(a, at(1));
        t.ring(b, at(1));
        assert_eq!(picked(&t.pick(at(50), &room(), 9)), [(Stream::Mail, 1, 9)]);
        assert_eq!(picked(&t.pick(at(100), &room(), 9)), [(Stream::Marketing, 1, 9)]);
        // Also while it is claimed of.
        t.hold(a, at(300), at(100), Why::Busy);
        t.claimed(&[(a, Some(at(0)))]);
        assert_eq!(t.next(at(0), &room()), Some(at(300)));
    }

    #[test]
    fn a_group_of_which_all_was_claimed_is_held_as_well() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        t.ring(a, at(0));
        t.pick(at(0), &room(), 9);
        t.claimed(&[(a, None)]);
        t.hold(a, at(100), at(0), Why::Busy);
        // What was put off, and what is new.
        t.ring(a, at(100));
        t.ring(a, at(1));
        assert_eq!((t.held_groups(at(99)), t.held_groups(at(100))), (1, 0));
        assert!(t.pick(at(99), &room(), 9).is_empty());
        assert_eq!(picked(&t.pick(at(100), &room(), 9)), [(Stream::Mail, 1, 9)]);
    }

    #[test]
    fn of_what_was_more_than_its_organisation_may_send_little_is_claimed_at_first() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        let most = |now| {
            let wants = t.pick(at(now), &room(), 200);
            t.claimed(&[(a, Some(at(0)))]);
            wants.iter().map(|want| want.most).collect::<Vec<_>>()
        };
        t.ring(a, at(0));
        assert_eq!(most(0), [200]);
        t.hold(a, at(100), at(0), Why::Bound);
        assert_eq!(
            [most(99), most(100), most(100), most(100), most(100)],
            [vec![], vec![8], vec![32], vec![128], vec![200]]
        );
        t.hold(a, at(200), at(100), Why::Bound);
        assert_eq!([most(200), most(200)], [[8], [32]]);
        // Nor of one of which all was claimed.
        let b = group(Stream::Mail, 2);
        t.hold(b, at(300), at(200), Why::Bound);
        let wants = t.pick(at(300), &room(), 200);
        assert_eq!(wants.iter().find(|want| want.group == b).map(|want| want.most), Some(8));
    }

    #[test]
    fn what_is_let_go_is_due_at_once() {
        let (t, a, b) = (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2));
        t.ring(a, at(0));
        t.hold(a, at(100), at(0), Why::Busy);
        t.let_go(&[a, b]);
        assert_eq!(picked(&t.pick(at(1), &room(), 9)), [(Stream::Mail, 1, 9)]);
    }

    #[test]
    fn what_is_stopped_is_not_picked_whatever_comes_of_it() {
        let (t, a, b, c) =
            (Timetable::default(), group(Stream::Mail, 1), group(Stream::Mail, 2), group(Stream::Marketing, 3));
        t.ring(a, at(0));
        t.ring(c, at(0));
        t.stop(Stopped { streams: [false, false, true], domains: [1, 2].into(), ..Stopped::default() });
        // One that is known, one that is new, and one that was put off.
        t.ring(b, at(0));
        t.hold(group(Stream::Transactional, 2), at(5), at(0), Why::Busy);
        t.let_go(&[a, b, c]);
        assert!(t.pick(at(1000), &room(), 9).is_empty());
        assert_eq!((t.next(at(0), &room()).filter(|at| *at < EVER), t.first_due()), (None, None));
        assert_eq!(t.held(b), Some((EVER, Why::Stopped)));
        t.stop(Stopped::default());
        assert_eq!(picked(&t.pick(at(1000), &room(), 9)).len(), 4);
    }

    #[test]
    fn every_stream_has_its_share_and_room_of_its_own() {
        let t = Timetable::default();
        for domain in 0..1000 {
            t.ring(group(Stream::Marketing, domain), at(0));
        }
        t.ring(group(Stream::Transactional, 7), at(5));
        let wants = t.pick(at(9), &room(), 100);
        let of = |stream| wants.iter().filter(|w| w.group.stream == stream).map(|w| w.most).sum::<u32>();
        // Eight to two.
        assert_eq!((of(Stream::Transactional), of(Stream::Marketing)), (80, 20));
        t.failed(&wants);
        let mut rooms = room();
        rooms.claimed(Stream::Marketing, ONE, rooms.room(Stream::Marketing));
        assert_eq!(picked(&t.pick(at(9), &rooms, 100)), [(Stream::Transactional, 7, 100)]);
        assert_eq!(t.next(at(0), &rooms), None);
    }

    #[test]
    fn a_batch_is_spread_over_many_groups() {
        let t = Timetable::default();
        (0..1000).for_each(|domain| t.ring(group(Stream::Mail, domain), at(0)));
        let wants = t.pick(at(0), &room(), 256);
        assert_eq!((wants.len(), wants.iter().map(|w| w.most).sum::<u32>()), (GROUPS, 256));
        assert!(wants.iter().all(|w| w.most == 4));
    }

    fn of_organisation(organisation: i64, domain: i64) -> Group {
        Group { organisation: OrganisationId(organisation), ..group(Stream::Marketing, domain) }
    }

    #[test]
    fn an_organisation_with_many_groups_starves_no_other() {
        let t = Timetable::default();
        (0..100_000).for_each(|domain| t.ring(of_organisation(1, domain), at(domain)));
        // It is due last.
        t.ring(of_organisation(2, 5), at(200_000));
        let wants = t.pick(at(200_000), &room(), 256);
        let of = |o| wants.iter().filter(|w| w.group.organisation.0 == o).map(|w| w.most).sum::<u32>();
        assert_eq!((of(1), of(2)), (128, 128));
        t.failed(&wants);
        // With all places but those that are left to others, it waits, and nobody wakes for it.
        let mut rooms = room();
        rooms.claimed(Stream::Marketing, ONE, rooms.room_of(Stream::Marketing, ONE));
        let wants = t.pick(at(200_000), &rooms, 256);
        assert!(wants.iter().all(|w| w.group.organisation.0 == 2), "{wants:?}");
        t.claimed(&[(of_organisation(2, 5), None)]);
        assert_eq!(t.next(at(0), &rooms), None);
        assert_eq!(t.next(at(0), &room()), Some(at(0)));
    }

    #[test]
    fn of_what_is_due_the_most_urgent_is_first() {
        let t = Timetable::default();
        let of = |priority, domain| Group { priority, ..group(Stream::Mail, domain) };
        t.ring(of(0, 1), at(0));
        t.ring(of(-9, 1), at(0));
        t.ring(of(4, 1), at(5));
        t.ring(of(9, 1), at(100));
        let mut seen = Vec::new();
        for _ in 0..3 {
            let wants = t.pick(at(9), &room(), 100);
            seen.extend(wants.iter().map(|w| (w.group.priority, w.most)));
            t.claimed(&wants.iter().map(|w| (w.group, None)).collect::<Vec<_>>());
        }
        assert_eq!(seen, [(4, 100), (0, 100), (-9, 100)]);
        assert_eq!(t.next(at(0), &room()), Some(at(100)));
    }

    #[test]
    fn what_is_less_urgent_has_its_turn_however_much_is_urgent() {
        let t = Timetable::default();
        let of = |priority, domain| Group { priority, ..group(Stream::Mail, domain) };
        (0..10_000).for_each(|domain| t.ring(of(9, domain), at(0)));
        t.ring(of(0, 1), at(5));
        t.ring(of(-9, 1), at(5));
        let mut seen = Vec::new();
        for _ in 0..8 {
            let wants = t.pick(at(9), &room(), 100);
            seen.push(wants[0].group.priority);
            t.failed(&wants);
        }
        assert_eq!(seen.iter().filter(|priority| **priority == 9).count(), 6);
        assert!(seen.contains(&0) && seen.contains(&-9), "{seen:?}");
    }

    #[test]
    fn with_one_place_at_a_time_each_organisation_has_its_turn() {
        let t = Timetable::default();
        (1..=50).for_each(|organisation| t.ring(of_organisation(organisation, 0), at(0)));
        let mut rooms = room();
        rooms.claimed(Stream::Marketing, OrganisationId(99), rooms.room(Stream::Marketing) - 1);
        let turns = || {
            let wants = t.pick(at(0), &rooms, 256);
            t.failed(&wants);
            wants[0].group.organisation.0
        };
        assert_eq!([turns(), turns(), turns()], [1, 2, 3]);
    }

    #[test]
    fn of_more_organisations_than_fit_each_gets_its_turn() {
        let t = Timetable::default();
        for organisation in 1..=200 {
            (0..20).for_each(|domain| t.ring(of_organisation(organisation, domain), at(0)));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let wants = t.pick(at(0), &room(), 256);
            seen.extend(wants.iter().map(|w| w.group.organisation.0));
            t.failed(&wants);
        }
        assert_eq!(seen.len(), 200);
    }

    #[test]
    fn what_is_quiet_waits_and_the_rest_does_not() {
        let (t, hour) = (Timetable::default(), 3_600_000);
        t.ring(group(Stream::Marketing, 1), at(0));
        t.ring(Group { organisation: OrganisationId(2), ..group(Stream::Marketing, 1) }, at(0));
        let quiet = Quiet { stream: Stream::Marketing, organisation: ONE, from: 0, to: 120, zone: 0 };
        t.stop(Stopped { quiet: [((Stream::Marketing, ONE), quiet)].into(), ..Stopped::default() });
        let wants = t.pick(at(hour), &room(), 9);
        assert_eq!(wants.iter().map(|w| w.group.organisation.0).collect::<Vec<_>>(), [2]);
        t.claimed(&[(wants[0].group, None)]);
        assert_eq!(t.next(at(hour), &room()), Some(at(2 * hour)));
        assert!(t.pick(at(2 * hour - 1), &room(), 9).is_empty());
        assert_eq!(t.pick(at(2 * hour), &room(), 9).len(), 1);
    }

    #[test]
    fn who_saw_a_stop_that_is_over_holds_nothing() {
        let (t, a) = (Timetable::default(), group(Stream::Mail, 1));
        let seen = t.stops_seen();
        t.stop(Stopped::default());
        t.hold_as_seen(&hop(), a, at(600), at(0), (Why::Stopped, seen));
        t.ring(a, at(0));
        assert_eq!(picked(&t.pick(at(0), &room(), 9)), [(Stream::Mail, 1, 9)]);
        t.failed(&[Want { group: a, most: 9 }]);
        t.hold_as_seen(&hop(), a, at(600), at(0), (Why::Stopped, t.stops_seen()));
        assert_eq!(t.hop(a), Some(hop()));
        assert!(t.pick(at(0), &room(), 9).is_empty());
    }

    #[test]
    fn trap_20_what_was_kept_back_has_a_while_more_and_no_longer() {
        let (work, hour) = (crate::hops::tests::work(1), 3_600_000);
        let message = Arc::new(Message { stream: Stream::Marketing, ..(*work.message).clone() });
        let until = |stopped: Stopped, expires, now| {
            let d = Delivery { expires: at(expires * hour), ..work.deliveries[0].clone() };
            stopped.longer(&message, &d, at(now * hour)).map(|t| t.0 / hour)
        };
        // Held from 10 to 30.
        let held = |what| Stopped {
            ended: vec![Ended { what, since: at(10 * hour), until: at(30 * hour) }],
            ..Stopped::default()
        };
        let domain = |name: &str| held(What::Domain(name.into()));
        assert_eq!(until(domain("y.test"), 20, 30), Some(50));
        assert_eq!(until(domain("y.test"), 20, 50), None);
        // Its time was over before; it is not what was held.
        assert_eq!(until(domain("y.test"), 9, 30), None);
        assert_eq!(until(domain("z.test"), 20, 30), None);
        assert_eq!(until(held(What::Stream(Stream::Mail)), 20, 30), None);
        assert_eq!(until(held(What::Site("google".into())), 20, 30), Some(50));
        let own = |of, stream| until(held(What::Organisation(of, stream)), 20, 30);
        let [own_all, own_news, own_mail] = [None, Some(Stream::Marketing), Some(Stream::Mail)].map(|s| own(ONE, s));
        assert_eq!([own_all, own_news, own_mail, own(OrganisationId(99), None)], [Some(50), Some(50), None, None]);
        // Quiet from 18 to 8.
        let quiet = || {
            let own = Quiet { stream: Stream::Marketing, organisation: ONE, from: 18 * 60, to: 8 * 60, zone: 0 };
            Stopped { quiet: [((Stream::Marketing, ONE), own)].into(), ..Stopped::default() }
        };
        assert_eq!([until(quiet(), 20, 32), until(quiet(), 20, 37), until(quiet(), 17, 32)], [Some(37), None, None]);
        // In their middle, too.
        assert_eq!(until(quiet(), 44, 45), Some(61));
        let by = queue::DeliverBy { until: at(20 * hour), returned: true, trace: false };
        let message = Message { deliver_by: Some(by), ..(*message).clone() };
        let d = Delivery { expires: at(20 * hour), ..work.deliveries[0].clone() };
        assert_eq!(domain("y.test").longer(&message, &d, at(30 * hour)), None);
    }
}
