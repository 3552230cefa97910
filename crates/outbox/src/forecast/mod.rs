//! What a load will take: how many recipients of which sites, by which sources, in which hours. Nothing is sent and nothing
//! is stored.
//!
//! It is a model of the sender, not the sender: what decides how fast mail goes is the real thing (the shaping of a site and
//! what it learns, plans of new sources, the choice of a source, the retries), and so are the hosts ([`peers`]). What is left
//! out is what takes the machine's time: queue, store, DNS, and the octets on the wire. `tests/simulation` holds it against
//! the real sender on one internet.
//!
//! - [`Mix`]: to whom, and what those bear;
//! - [`Load`] and [`Terms`]: what is asked;
//! - `run`: the sender, a heap of what happens when;
//! - `way`: what one source knows of one site;
//! - [`Forecast`]: what comes of it.

mod mix;
mod run;
mod way;

use std::sync::Arc;
use std::time::Duration;

use base::{Stream, Timestamp};
use peers::{Character, drawn, share};
use queue::source::{Delivered, Setup, SourceId};

use crate::shape::{Policies, Policy};
pub use mix::Mix;
pub use run::forecast;
pub use way::Reason;

/// Recipients in one go, at most.
pub const RECIPIENTS: u64 = 10_000_000;

/// Recipients, and who takes mail for them.
#[derive(Clone, Debug)]
pub struct Load {
    sites: Vec<Target>,
    /// The number of each mail, and the place of its site.
    mails: Vec<(u64, u32)>,
    groups: Vec<Arc<str>>,
}

/// A site that is sent to.
#[derive(Clone, Debug)]
struct Target {
    name: Arc<str>,
    /// Of [`Load::groups`].
    group: usize,
    policy: Arc<Policy>,
    character: Character,
    seed: u64,
}

impl Load {
    /// So many recipients, spread over a mix by chance.
    pub fn of(mix: &Mix, recipients: u64, seed: u64) -> Self {
        let (mut sites, mut upto, mut all) = (Vec::new(), Vec::new(), 0.0);
        for (n, group) in mix.groups().iter().enumerate() {
            for one in 0..group.sites {
                let name = if group.sites == 1 { group.name.clone() } else { format!("{}-{one}", group.name).into() };
                let seed = drawn(seed, &[1, sites.len() as u64]);
                let (policy, character) = (group.policy.clone(), group.character.clone());
                sites.push(Target { name, group: n, policy, character, seed });
                all += group.share / group.sites as f64;
                upto.push(all);
            }
        }
        let site = |number: u64| {
            let at = share(seed, &[2, number]) * all;
            upto.partition_point(|end| *end <= at).min(sites.len().saturating_sub(1)) as u32
        };
        let mails = (0..recipients.min(RECIPIENTS)).map(|number| (number, site(number))).collect();
        Load { mails, groups: mix.groups().iter().map(|group| group.name.clone()).collect(), sites }
    }

    /// These mails, each with its number and the place of its site, to sites of which each is known by a mail host.
    ///
    /// # Errors
    /// What is wrong with the policies that are shipped, in words.
    pub fn to(hosts: &[(&str, Character, u64)], mails: Vec<(u64, u32)>) -> Result<Self, String> {
        let policies = Policies::shipped()?;
        let target = |(group, (host, character, seed)): (usize, &(&str, Character, u64))| Target {
            name: (*host).into(),
            group,
            policy: policies.of_host(host).clone(),
            character: character.clone(),
            seed: *seed,
        };
        let sites: Vec<_> = hosts.iter().enumerate().map(target).collect();
        Ok(Load { mails, groups: sites.iter().map(|site| site.name.clone()).collect(), sites })
    }
}

/// How it is sent.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Sources, pools, plans and figures. What is an organisation's own is left out of account: the mail is nobody's.
    pub setup: Setup,
    /// What sources with a plan have delivered already.
    pub delivered: Vec<(SourceId, Delivered)>,
    /// What kind of mail it is: it decides the pool.
    pub stream: Stream,
    /// When all of it is accepted.
    pub start: Timestamp,
    /// How long each is tried.
    pub lifetime: Duration,
    /// For what is left to chance.
    pub seed: u64,
}

/// What comes of a load.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// By site, those that are alike together, as the mix has them.
    pub sites: Vec<SiteForecast>,
    /// Delivered in each hour since the start.
    pub hours: Vec<u64>,
}

/// What comes of the mail for a site, or for several that are alike.
#[derive(Clone, Debug, Default)]
pub struct SiteForecast {
    /// Its name.
    pub name: Arc<str>,
    /// How many they are.
    pub sites: usize,
    /// Mails for them: each is in the end delivered, bounced or expired.
    pub recipients: u64,
    /// Taken.
    pub delivered: u64,
    /// Refused for good.
    pub bounced: u64,
    /// Given up when its time was over.
    pub expired: u64,
    /// Those that were put off at least once.
    pub deferred: u64,
    /// Those that were refused at least once for how we send.
    pub blocked: u64,
    /// When nineteen of twenty had come to their end. The rest mostly waits for mailboxes that are full.
    pub mostly: Duration,
    /// When the last was taken.
    pub last: Duration,
    /// Of the slowest of them: its name, and what kept its mail longest until nineteen of twenty had come to their end.
    pub kept: Option<(Arc<str>, Reason, Duration)>,
}

impl Forecast {
    /// Of all sites.
    pub fn sum(&self, of: impl Fn(&SiteForecast) -> u64) -> u64 {
        self.sites.iter().map(of).sum()
    }

    /// When the last mail was taken.
    pub fn last(&self) -> Duration {
        self.sites.iter().map(|site| site.last).max().unwrap_or_default()
    }

    /// The site of which nineteen of twenty take longest.
    pub fn slowest(&self) -> Option<&SiteForecast> {
        self.sites.iter().max_by_key(|site| site.mostly).filter(|site| site.recipients > 0)
    }
}

#[cfg(test)]
mod tests;
