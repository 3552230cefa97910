//! A bounded map of what was asked recently. It forgets what is old, what was overtaken by a change, and, when it is
//! full, roughly what was asked for the longest time ago.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use base::Timestamp;

/// A map in two halves: what is asked moves to the young half; when that is full it becomes the old one, and what nobody
/// asked for since is gone. Constant time, and keys chosen by strangers do no harm: the hash is keyed.
pub(crate) struct Recent<K, V> {
    halves: Mutex<Halves<K, V>>,
    /// Entries a half may hold.
    half: usize,
    /// How long an entry is good, in milliseconds.
    ttl: i64,
}

struct Halves<K, V> {
    young: HashMap<K, Dated<V>>,
    old: HashMap<K, Dated<V>>,
}

/// When something was learnt, and of which state of the directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) time: Timestamp,
    pub(crate) generation: u64,
}

#[derive(Clone)]
struct Dated<V> {
    value: V,
    learnt: Moment,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// Holds up to twice `half` entries, each for `ttl_seconds`.
    pub(crate) fn new(half: usize, ttl_seconds: i64) -> Self {
        let halves = Halves { young: HashMap::new(), old: HashMap::new() };
        Recent { halves: Mutex::new(halves), half, ttl: ttl_seconds * 1000 }
    }

    /// What was learnt under `key`, if that was not long ago, nor before a change.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Moment) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = halves.young.get(key).cloned();
        if found.is_none()
            && let Some((key, dated)) = halves.old.remove_entry(key)
        {
            found = Some(dated.clone());
            halves.insert(key, dated, self.half);
        }
        found.filter(|d| self.is_good(d.learnt, now)).map(|d| d.value)
    }

    /// Keeps what was learnt at `learnt`: the moment before the asking, so that a change meanwhile makes it worthless.
    pub(crate) fn put(&self, key: K, value: V, learnt: Moment) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.old.remove(&key);
        halves.insert(key, Dated { value, learnt }, self.half);
    }

    /// Replaces what is known under `key` by what `change` makes of it, in one go.
    pub(crate) fn update(&self, key: K, now: Moment, change: impl FnOnce(Option<V>) -> V) {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let found = halves.young.get(&key).cloned().or_else(|| halves.old.remove(&key));
        let value = change(found.filter(|d| self.is_good(d.learnt, now)).map(|d| d.value));
        halves.insert(key, Dated { value, learnt: now }, self.half);
    }

    fn is_good(&self, learnt: Moment, now: Moment) -> bool {
        // A clock that was set back makes an entry old, not young.
        learnt.generation == now.generation && (0..self.ttl).contains(&(now.time.0 - learnt.time.0))
    }
}

impl<K: Hash + Eq, V> Halves<K, V> {
    fn insert(&mut self, key: K, dated: Dated<V>, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, dated);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64, generation: u64) -> Moment {
        Moment { time: Timestamp::from_secs(secs), generation }
    }

    #[test]
    fn an_entry_lives_until_its_time_or_a_change() {
        let cache = Recent::new(4, 60);
        cache.put("a", 1, at(100, 7));
        assert_eq!(cache.get("a", at(159, 7)), Some(1));
        assert_eq!(cache.get("a", at(160, 7)), None);
        assert_eq!(cache.get("a", at(99, 7)), None, "the clock was set back");
        assert_eq!(cache.get("a", at(101, 8)), None, "something changed");
    }

    #[test]
    fn it_never_grows_beyond_its_bound_and_keeps_what_is_asked_for() {
        let cache = Recent::new(10, 60);
        cache.put(-1, 0, at(0, 0));
        for k in 0..10_000 {
            cache.put(k, k, at(0, 0));
            assert_eq!(cache.get(&-1, at(0, 0)), Some(0), "asked for all the time, after {k}");
        }
        let halves = cache.halves.lock().unwrap();
        assert!(halves.young.len() <= 10 && halves.old.len() <= 10);
    }
}
