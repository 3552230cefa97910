//! Patience with wrong passwords: who fails often waits longer and longer, and nobody waits for what others did.
//!
//! Failures are counted for the pair of network and login, for the network, and for its site. A network from which the account signed
//! in lately is a friend of it: there the owner's own typing errors cost seconds, and the network's failures with other
//! logins cost nothing. Failures with a login from everywhere make strangers' second tries dearer, never a first try: so
//! an attack from ten thousand hosts is slowed, and the owner gets in from wherever they are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::{AccountId, Timestamp};

use crate::cache::{Moment, Recent};

/// Entries each half of a table may hold.
const KEPT: usize = 20_000;

/// A day; what is older was forgiven long ago.
const REMEMBERED: i64 = 86_400;

/// How long a network stays an account's friend: a week, in seconds.
const FRIENDSHIP: i64 = 7 * 86_400;

/// Failures with one login from everywhere that make strangers' tries dearer.
const UNDER_ATTACK: u32 = 50;

/// How a count of failures turns into waiting.
struct Rule {
    /// Failures that cost nothing.
    free: u32,
    /// Seconds after which one failure is forgotten.
    forgive: i64,
    /// The longest wait, in seconds. From the first failure that costs on, each doubles the wait.
    longest: i64,
}

const PAIR: Rule = Rule { free: 3, forgive: 600, longest: 900 };
const PAIR_UNDER_ATTACK: Rule = Rule { free: 1, ..PAIR };
const FRIEND: Rule = Rule { longest: 10, ..PAIR };
const NETWORK: Rule = Rule { free: 20, forgive: 60, longest: 900 };
/// A site keeps a core busy for a thirtieth of its time at most, once it has spent what is free: for who has 65,536
/// networks to fail from. An honest stranger there waits seconds.
const SITE: Rule = Rule { free: 400, forgive: 1, longest: 10 };
const LOGIN: Rule = Rule { free: UNDER_ATTACK, forgive: 60, longest: 0 };

/// What one party counts as: an IPv4 address, or the /64 that an IPv6 host has to itself (RFC 6177 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(IpAddr);

impl Network {
    pub(crate) fn of(ip: IpAddr) -> Self {
        Network(match ip.to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (!0 << 64)).into(),
            v4 => v4,
        })
    }

    /// The site it belongs to: an IPv4 /24, or an IPv6 /48, the most that one customer is given.
    pub(crate) fn site(self) -> Self {
        Network(match self.0 {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (!0 << 80)).into(),
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (!0 << 8)).into(),
        })
    }
}

#[derive(Clone, Copy, Default)]
struct Tally {
    failures: u32,
    last: Timestamp,
}

impl Tally {
    /// Failures that are not forgiven yet.
    fn count(self, rule: &Rule, now: Timestamp) -> u32 {
        let forgiven = (now.0 - self.last.0).max(0) / (rule.forgive * 1000);
        self.failures.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    fn one_more(self, rule: &Rule, now: Timestamp) -> Self {
        Tally { failures: self.count(rule, now).saturating_add(1), last: now }
    }

    /// Seconds still to wait.
    fn wait(self, rule: &Rule, now: Timestamp) -> u32 {
        let Some(costly) = self.count(rule, now).checked_sub(rule.free) else { return 0 };
        let wait = (1i64 << costly.min(32)).min(rule.longest) * 1000;
        // A clock that was set back must not turn seconds into years.
        let left = (self.last.0 + wait - now.0).clamp(0, wait);
        u32::try_from((left + 999) / 1000).unwrap_or(u32::MAX)
    }
}

/// The tables; each bounded, each forgetting.
pub(crate) struct Backoff {
    pairs: Recent<(Network, Box<str>), Tally>,
    networks: Recent<Network, Tally>,
    sites: Recent<Network, Tally>,
    logins: Recent<Box<str>, Tally>,
    /// Apart from the others, so that no flood of failures pushes it out.
    friends: Recent<(Network, AccountId), ()>,
}

fn at(time: Timestamp) -> Moment {
    Moment { time, generation: 0 }
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Backoff {
            pairs: Recent::new(KEPT, REMEMBERED),
            networks: Recent::new(KEPT, REMEMBERED),
            sites: Recent::new(KEPT, REMEMBERED),
            logins: Recent::new(KEPT, REMEMBERED),
            friends: Recent::new(KEPT, FRIENDSHIP),
        }
    }

    /// How many seconds this network must wait before it may try this login (canonical) again; 0: it may.
    pub(crate) fn wait(&self, from: Network, login: &str, account: Option<AccountId>, now: Timestamp) -> u32 {
        let pair = self.pairs.get(&(from, login.into()), at(now)).unwrap_or_default();
        if self.is_friend(from, account, now) {
            return pair.wait(&FRIEND, now);
        }
        let everywhere = self.logins.get(login, at(now)).unwrap_or_default();
        let rule = if everywhere.count(&LOGIN, now) >= LOGIN.free { &PAIR_UNDER_ATTACK } else { &PAIR };
        let network = self.networks.get(&from, at(now)).unwrap_or_default();
        let site = self.sites.get(&from.site(), at(now)).unwrap_or_default();
        pair.wait(rule, now).max(network.wait(&NETWORK, now)).max(site.wait(&SITE, now))
    }

    /// Whether the account signed in from here lately.
    pub(crate) fn is_friend(&self, from: Network, account: Option<AccountId>, now: Timestamp) -> bool {
        account.is_some_and(|account| self.friends.get(&(from, account), at(now)).is_some())
    }

    /// Counts a failure, of a login that exists or of one that does not.
    pub(crate) fn failed(&self, from: Network, login: &str, now: Timestamp) {
        let more = |rule: &'static Rule| move |old: Option<Tally>| old.unwrap_or_default().one_more(rule, now);
        self.pairs.update((from, login.into()), at(now), more(&PAIR));
        self.networks.update(from, at(now), more(&NETWORK));
        self.sites.update(from.site(), at(now), more(&SITE));
        self.logins.update(login.into(), at(now), more(&LOGIN));
    }

    /// The account signed in from here: its failures from here were its owner's.
    pub(crate) fn succeeded(&self, from: Network, login: &str, account: AccountId, now: Timestamp) {
        self.pairs.update((from, login.into()), at(now), |_| Tally::default());
        self.befriend(from, account, now);
    }

    /// The account signed in from here once more.
    pub(crate) fn befriend(&self, from: Network, account: AccountId, now: Timestamp) {
        self.friends.put((from, account), (), at(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JANE: (&str, Option<AccountId>) = ("jane@x.test", Some(AccountId(1)));
    const NOBODY: (&str, Option<AccountId>) = ("nobody@x.test", None);

    fn network(ip: &str) -> Network {
        Network::of(ip.parse().unwrap())
    }

    fn secs(s: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + s)
    }

    /// Fails as often as it is let, one try a second, for so many seconds; gives how often that was.
    fn hammer(b: &Backoff, ip: &str, who: (&str, Option<AccountId>), seconds: std::ops::Range<i64>) -> usize {
        let tries = seconds.filter(|s| {
            let allowed = b.wait(network(ip), who.0, who.1, secs(*s)) == 0;
            if allowed {
                b.failed(network(ip), who.0, secs(*s));
            }
            allowed
        });
        tries.count()
    }

    #[test]
    fn trap_28_guessing_one_account_gets_slower_and_slower() {
        let b = Backoff::new();
        // Three are free, then each wait doubles: 1 + 2 + 4 + … + 512 s fills the first quarter of an hour.
        assert_eq!(hammer(&b, "192.0.2.1", JANE, 0..900), 12);
        assert!(b.wait(network("192.0.2.1"), JANE.0, JANE.1, secs(900)) > 60);
        assert_eq!(b.wait(network("192.0.2.2"), JANE.0, JANE.1, secs(900)), 0, "elsewhere nothing happened");
        let b = Backoff::new();
        assert_eq!(hammer(&b, "192.0.2.1", NOBODY, 0..900), 12, "an unknown login is treated the same");
    }

    #[test]
    fn trap_28_one_host_with_many_logins_is_slowed_and_a_v6_host_has_one_network() {
        let b = Backoff::new();
        let tried = (0..600).filter(|n| {
            let (ip, login) = (network(&format!("2001:db8::{n:x}")), format!("u{n}@x.test"));
            let allowed = b.wait(ip, &login, None, secs(*n)) == 0;
            if allowed {
                b.failed(ip, &login, secs(*n));
            }
            allowed
        });
        let tried = tried.count();
        assert!((20..40).contains(&tried), "{tried}");
        assert_eq!(b.wait(network("2001:db8:0:1::1"), JANE.0, JANE.1, secs(600)), 0, "another /64");
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }

    #[test]
    fn trap_28_a_site_with_many_networks_is_slowed_as_a_whole() {
        let b = Backoff::new();
        let mut allowed = 0;
        // 50 tries a second for an hour, each from another /64 of one /48, each with another login.
        for n in 0..50 * 3600i64 {
            let (ip, login) = (network(&format!("2001:db8:7:{:x}::1", n % 65_536)), format!("u{n}@x.test"));
            if b.wait(ip, &login, None, secs(n / 50)) == 0 {
                b.failed(ip, &login, secs(n / 50));
                allowed += 1;
            }
        }
        assert!((400..400 + 3600 + 10).contains(&allowed), "{allowed}");
        let there = b.wait(network("2001:db8:7:abcd::2"), JANE.0, JANE.1, secs(3600));
        assert!(there <= 10, "an honest stranger there waits {there} s");
        assert_eq!(b.wait(network("2001:db8:8::1"), JANE.0, JANE.1, secs(3600)), 0, "another site");
        b.succeeded(network("2001:db8:7:1::9"), JANE.0, AccountId(1), secs(3600));
        b.failed(network("2001:db8:7:2::9"), "x", secs(3600));
        assert_eq!(b.wait(network("2001:db8:7:1::9"), JANE.0, JANE.1, secs(3600)), 0, "a friend there");
    }

    #[test]
    fn trap_28_the_owner_is_not_locked_out_by_others() {
        let b = Backoff::new();
        let (home, account) = (network("192.0.2.1"), AccountId(1));
        b.succeeded(home, JANE.0, account, secs(0));
        // An attack on the account from everywhere, and a roommate at home who tries all other logins.
        for second in 0..60 {
            for n in 0..100 {
                hammer(&b, &format!("198.51.100.{n}"), JANE, second..second + 1);
            }
        }
        for n in 0..100 {
            b.failed(home, &format!("u{n}@x.test"), secs(59));
        }
        assert!(b.wait(home, NOBODY.0, None, secs(60)) > 0, "home as a whole has to wait");
        assert_eq!(b.wait(home, JANE.0, JANE.1, secs(60)), 0, "but not Jane");
        let abroad = network("203.0.113.7");
        assert_eq!(b.wait(abroad, JANE.0, JANE.1, secs(60)), 0, "nor abroad, where she never was");
        b.failed(abroad, JANE.0, secs(60));
        assert!(b.wait(abroad, JANE.0, JANE.1, secs(60)) > 0, "though a stranger there has no second try for nothing");
        // Her own old telephone, at home, with last year's password: seconds, not minutes.
        hammer(&b, "192.0.2.1", JANE, 60..600);
        assert!(b.wait(home, JANE.0, JANE.1, secs(600)) <= 10);
    }

    #[test]
    fn what_was_done_is_forgiven_in_time_and_clocks_may_jump() {
        let b = Backoff::new();
        hammer(&b, "192.0.2.1", JANE, 0..900);
        assert_eq!(b.wait(network("192.0.2.1"), JANE.0, JANE.1, secs(90_000)), 0);
        hammer(&b, "192.0.2.2", JANE, 0..900);
        assert!(b.wait(network("192.0.2.2"), JANE.0, JANE.1, secs(-1_000_000)) <= 900);
    }
}
