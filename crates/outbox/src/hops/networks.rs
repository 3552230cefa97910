//! How many connections a network has, whatever the names of its hosts.

use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::line::Line;
use super::{CONNECTIONS, Hops};
use crate::route::Hop;

/// Connections to one network (a /24, or a /48 of IPv6), whatever the names of its hosts: who holds one does not hold all. Of
/// these, too, marketing leaves a tenth.
pub(super) const OF_ONE_NETWORK: usize = CONNECTIONS / 4;
const OF_ONE_NETWORK_OF_MARKETING: usize = OF_ONE_NETWORK * 9 / 10;

impl Hops {
    /// A connection for a hop is about to be made, to an address; false when its network has its share.
    pub(crate) fn enter(&self, hop: &Hop, ip: IpAddr) -> bool {
        let mut state = self.lock();
        let only_marketing = state.lines.get(hop).is_some_and(Line::is_only_marketing);
        let most = if only_marketing { OF_ONE_NETWORK_OF_MARKETING } else { OF_ONE_NETWORK };
        let n = state.networks.entry(network(ip)).or_default();
        let enters = *n < most;
        *n += usize::from(enters);
        enters
    }

    /// It has ended.
    pub(crate) fn exit(&self, ip: IpAddr) {
        let mut state = self.lock();
        if let Entry::Occupied(mut n) = state.networks.entry(network(ip)) {
            *n.get_mut() -= 1;
            if *n.get() == 0 {
                n.remove();
            }
        }
    }
}

/// RFC 6177 §2: a site has a /48 at most.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
    }
}
