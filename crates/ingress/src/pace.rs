//! How many recipients strangers may name: a cap for each network, in memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use base::{Error, Reply, Result, Timestamp};

/// Recipients, known to us or not, that the strangers of one address (an IPv6 /64) may name within an hour. The largest
/// provider writes less to a small office; who floods mailboxes or tries names writes more.
const HOURLY: u32 = 10_000;
const HOUR: i64 = 3600 * 1000;
/// So many networks are counted; in an hour in which more come, the others are not.
const NETWORKS: usize = 50_000;

/// What was named in the hour that is not over.
#[derive(Default)]
pub(crate) struct Pace(Mutex<Hour>);

#[derive(Default)]
struct Hour {
    number: i64,
    named: HashMap<IpAddr, u32>,
}

impl Pace {
    /// Counts a recipient more.
    ///
    /// # Errors
    /// 451 4.7.1 when the hour's are spent.
    pub(crate) fn one_more(&self, ip: IpAddr, now: Timestamp) -> Result<()> {
        let mut hour = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = now.0.div_euclid(HOUR);
        if hour.number != number {
            *hour = Hour { number, named: HashMap::new() };
        }
        let network = network(ip);
        if hour.named.len() >= NETWORKS && !hour.named.contains_key(&network) {
            return Ok(());
        }
        let named = hour.named.entry(network).or_default();
        if *named >= HOURLY {
            let text = format!("Your network has named {HOURLY} recipients within the hour: try again in the next");
            return Err(Error::new(Reply::new(451, 7, 1, text)));
        }
        *named += 1;
        Ok(())
    }
}

fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_hours_fill_of_recipients() {
        let (pace, now) = (Pace::default(), Timestamp(5 * HOUR));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..HOURLY {
            pace.one_more(ip("2001:db8::1"), now).unwrap();
        }
        let refused = pace.one_more(ip("2001:db8::ffff:2"), Timestamp(6 * HOUR - 1)).unwrap_err();
        assert_eq!(refused.reply().to_string()[..9], *"451 4.7.1");
        pace.one_more(ip("2001:db8:0:1::1"), now).unwrap();
        pace.one_more(ip("192.0.2.1"), now).unwrap();
        pace.one_more(ip("2001:db8::1"), Timestamp(6 * HOUR)).unwrap();
    }

    #[test]
    fn strangers_without_number_need_bounded_memory() {
        let (pace, now) = (Pace::default(), Timestamp(0));
        for n in 0..NETWORKS as u32 + 10 {
            pace.one_more(IpAddr::from(n.to_be_bytes()), now).unwrap();
        }
        assert_eq!(pace.0.lock().unwrap().named.len(), NETWORKS);
    }
}
