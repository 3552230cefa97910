//! How many connections may be open: in total, and from one peer. Shared by all listeners of a process, since file
//! descriptors are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Cidr;

/// What share of all connections the peers of one site may have together: one in so many.
const SITE: usize = 8;

/// A cap on open connections: in total, for one peer (an IPv4 address, or an IPv6 /64: one host commonly has a whole /64
/// to choose from), and for one site (an IPv4 /24, or an IPv6 /48: one customer may have 65,536 /64s), which gets an
/// eighth of the total, and at least what two peers get. Clones share the count.
#[derive(Clone, Debug)]
pub struct Caps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: usize,
    per_ip: usize,
    uncapped: Vec<Cidr>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Of peers and of their sites; the prefix tells which.
    by_network: HashMap<Cidr, usize>,
}

impl Caps {
    /// At most `total` connections at once, of which `per_ip` (one or more) from one peer; peers in `uncapped` (a webmail host, a
    /// load balancer) count in the total only.
    pub fn new(total: usize, per_ip: usize, uncapped: Vec<Cidr>) -> Self {
        Caps(Arc::new(Shared { total, per_ip: per_ip.max(1), uncapped, open: Mutex::default() }))
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.0.lock().total
    }

    /// A place for one connection, freed when dropped. None when the house is full.
    pub(crate) fn enter(&self) -> Option<Slot> {
        let mut open = self.0.lock();
        if open.total >= self.0.total {
            return None;
        }
        open.total += 1;
        Some(Slot { shared: self.0.clone(), peer: None })
    }
}

impl Default for Caps {
    /// 10,000 connections, 100 from one peer.
    fn default() -> Self {
        Caps::new(10_000, 100, Vec::new())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // The counters are whole at every point where a holder could panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place under the caps.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    peer: Option<Cidr>,
}

impl Slot {
    /// Counts the connection for `ip`, once, if that is capped; false when that peer has its fill.
    #[must_use]
    pub(crate) fn belongs_to(&mut self, ip: IpAddr) -> bool {
        self.shared.uncapped.iter().any(|net| net.contains(ip)) || self.counts_for(ip)
    }

    /// The same, capped in any case.
    #[must_use]
    pub(crate) fn counts_for(&mut self, ip: IpAddr) -> bool {
        if self.peer.is_some() {
            return true;
        }
        let peer = Cidr::of_peer(ip);
        let per_site = (self.shared.total / SITE).max(2 * self.shared.per_ip);
        let mut open = self.shared.lock();
        let caps = [(peer, self.shared.per_ip), (peer.of_site(), per_site)];
        if caps.iter().any(|(network, cap)| open.by_network.get(network).is_some_and(|count| count >= cap)) {
            return false;
        }
        for (network, _) in caps {
            *open.by_network.entry(network).or_insert(0) += 1;
        }
        self.peer = Some(peer);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        open.total -= 1;
        // Networks without connections are forgotten: the table is never larger than twice the total.
        for network in self.peer.iter().flat_map(|peer| [*peer, peer.of_site()]) {
            if let Entry::Occupied(mut count) = open.by_network.entry(network) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_with_many_networks_leaves_room_for_others() {
        let caps = Caps::new(800, 10, Vec::new());
        let enter = |ip: String| {
            let mut slot = caps.enter().unwrap();
            slot.belongs_to(ip.parse().unwrap()).then_some(slot)
        };
        // Each address of another /64 of 2001:db8:1::/48.
        let mut inside: Vec<_> = (0..500).filter_map(|n| enter(format!("2001:db8:1:{n:x}::1"))).collect();
        assert_eq!(inside.len(), 100, "an eighth");
        assert!(enter("2001:db8:2::1".into()).is_some(), "the next site");
        inside.pop();
        assert!(enter("2001:db8:1:ffff::1".into()).is_some(), "a place that is free again");
        let office: Vec<_> = (0..256).filter_map(|n| enter(format!("192.0.2.{n}"))).collect();
        assert_eq!(office.len(), 100);
        drop((inside, office));
        assert!(caps.0.lock().by_network.is_empty());
        // However few there are, two peers are not in each other's way.
        let few = Caps::new(20, 10, Vec::new());
        let mut slots: Vec<_> = (0..20).filter_map(|_| few.enter()).collect();
        let peer = |n: usize| format!("192.0.2.{}", n % 2).parse().unwrap();
        assert!(slots.iter_mut().enumerate().all(|(n, slot)| slot.belongs_to(peer(n))));
    }

    #[test]
    fn a_slot_is_given_back_when_dropped() {
        let caps = Caps::new(3, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let mut a = caps.enter().unwrap();
        assert!(a.belongs_to(ip("2001:db8::1")));
        let mut b = caps.enter().unwrap();
        assert!(!b.belongs_to(ip("2001:db8::2")), "the same /64");
        assert!(b.belongs_to(ip("2001:db8:0:1::2")));
        drop(a);
        let mut c = caps.enter().unwrap();
        assert!(c.belongs_to(ip("2001:db8::2")));
        let d = caps.enter().unwrap();
        assert!(caps.enter().is_none());
        drop((b, c, d));
        assert_eq!(caps.open(), 0);
        assert!(caps.0.lock().by_network.is_empty());

        let mut inside = [caps.enter().unwrap(), caps.enter().unwrap()];
        assert!(inside.iter_mut().all(|slot| slot.belongs_to(ip("10.0.0.1"))));
    }
}
