//! Networks and kinds of addresses: who is trusted, which targets are no public mail hosts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP network, `192.0.2.0/24` or `2001:db8::/32`; a bare address is a network of one.
///
/// IPv4-mapped IPv6 (`::ffff:192.0.2.7`, RFC 4291 §2.5.5.2) is IPv4 here, on both sides, so that a rule cannot be
/// walked around by the spelling of an address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// Host bits are zero.
    base: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCidr(String);

impl fmt::Display for BadCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no IP network (like 192.0.2.0/24 or 2001:db8::/32)", self.0)
    }
}

impl std::error::Error for BadCidr {}

/// `ip` with all but the first `prefix` bits zero.
fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

impl Cidr {
    /// True when `ip` lies in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4() && network(ip, self.prefix) == self.base
    }

    /// The network of one peer: an IPv4 address, or the /64 that one IPv6 host is commonly given.
    pub(crate) fn of_peer(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let prefix = if ip.is_ipv4() { 32 } else { 64 };
        Cidr { base: network(ip, prefix), prefix }
    }

    /// The network of a whole site: an IPv6 /48, the most that one customer is given (RFC 6177 §2), or an IPv4 /24.
    pub(crate) fn of_site(self) -> Self {
        let prefix = if self.base.is_ipv4() { 24 } else { 48 };
        Cidr { base: network(self.base, prefix), prefix }
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;

    /// Host bits must be zero: `192.0.2.7/24` is more likely a slip than a network.
    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.chars().take(80).collect());
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = ip.parse().map_err(|_| bad())?;
        let base = written.to_canonical();
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => {
                // A mapped network's prefix counts the 96 bits of ::ffff:0:0/96.
                let mapped = if written == base { 0 } else { 96 };
                p.parse::<u8>().ok().and_then(|p| p.checked_sub(mapped)).ok_or_else(bad)?
            }
            Some(_) => return Err(bad()),
        };
        if prefix > bits || network(base, prefix) != base {
            return Err(bad());
        }
        Ok(Cidr { base, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// True for an address that is no public host's: loopback, private, link-local, unspecified, shared (RFC 6598),
/// multicast, broadcast, reserved. An MX that points there is a mistake or an attack on the inner network.
///
/// An IPv4 address behind NAT64 (RFC 6052 §2.1) is what it is in itself.
///
/// The documentation networks (RFC 5737, RFC 3849) count as public: nothing answers there anyway.
pub fn is_special(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // RFC 6890: 0.0.0.0/8 is "this network"; RFC 6598: 100.64.0.0/10; RFC 1112 §4: 240.0.0.0/4 is reserved.
            a == 0
                || (a == 100 && b & 0xc0 == 64)
                || a >= 240
                || ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_multicast()
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            if bits >> 32 == 0x0064_ff9b << 64 {
                return is_special(Ipv4Addr::from_bits(bits as u32).into());
            }
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    #[test]
    fn networks_contain_their_addresses_in_every_spelling() {
        for (net, yes, no) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0/24", "::ffff:192.0.2.1", "::192.0.2.1"),
            ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.9"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("::1", "::1", "::2"),
        ] {
            let net: Cidr = net.parse().unwrap();
            assert!(net.contains(ip(yes)), "{net} {yes}");
            assert!(!net.contains(ip(no)), "{net} {no}");
        }
        assert_eq!("2001:db8::/32".parse::<Cidr>().unwrap().to_string(), "2001:db8::/32");
    }

    #[test]
    fn what_is_no_network() {
        for text in ["", "192.0.2.0/33", "192.0.2.1/24", "::/129", "192.0.2.0/", "192.0.2.0/+8", "192.0.2/24", "a/8"] {
            assert!(text.parse::<Cidr>().is_err(), "{text:?}");
        }
        assert!("::ffff:192.0.2.0/64".parse::<Cidr>().is_err());
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_64() {
        assert_eq!(Cidr::of_peer(ip("2001:db8::1")), Cidr::of_peer(ip("2001:db8::ffff:0:0:1")));
        assert_ne!(Cidr::of_peer(ip("2001:db8::1")), Cidr::of_peer(ip("2001:db8:0:1::1")));
        assert_ne!(Cidr::of_peer(ip("192.0.2.1")), Cidr::of_peer(ip("192.0.2.2")));
        assert_eq!(Cidr::of_peer(ip("192.0.2.1")), Cidr::of_peer(ip("::ffff:192.0.2.1")));
    }

    #[test]
    fn special_addresses() {
        for s in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.1.1",
            "fe80::1",
            "fd00::1",
            "100.64.0.1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "64:ff9b::127.0.0.1",
        ] {
            assert!(is_special(ip(s)), "{s}");
        }
        for s in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"] {
            assert!(!is_special(ip(s)), "{s}");
        }
    }
}
