//! To whom a load goes, and what those bear: a file of an operator's, or the one that is shipped.

use std::sync::Arc;
use std::time::Duration;

use peers::{Block, Character, Faults, Quota, Tls, Wording};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::shape::{Policies, Policy, Rate, Text};

/// The mix that is shipped; its head says what every key means.
const SHIPPED: &str = include_str!("../../data/mix.toml");
/// Sites in all, at most.
const SITES: usize = 10_000;
/// Milliseconds for an answer, and minutes of a greylist, at most.
const SLOWEST: u64 = 600_000;
const GREYEST: u64 = 1440;
/// Of a quota that is refused so many times over nothing is left of our reputation.
const PATIENCE: f64 = 100.0;

/// Sites, each with its part of the recipients.
#[derive(Clone, Debug)]
pub struct Mix(Vec<Group>);

/// Sites that are alike.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) share: f64,
    pub(super) sites: usize,
    pub(super) policy: Arc<Policy>,
    pub(super) character: Character,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(rename = "source")]
    _source: Option<IgnoredAny>,
    site: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    share: f64,
    #[serde(default = "one")]
    sites: usize,
    connections: Option<usize>,
    messages: Option<u32>,
    quota: Option<Vec<Text<Rate>>>,
    #[serde(default)]
    says: Says,
    #[serde(default = "reply")]
    reply_ms: u64,
    #[serde(default = "reads")]
    reads_ms: u64,
    greylist: Option<u64>,
    #[serde(default)]
    unknown: f64,
    #[serde(default)]
    full: f64,
    #[serde(default)]
    later: f64,
}

/// How a site refuses what is more than its quota.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Says {
    Unusual,
    Volume,
    TooMuch,
    Named,
    Hourly,
    #[default]
    SlowDown,
}

impl From<Says> for Wording {
    fn from(says: Says) -> Self {
        match says {
            Says::Unusual => Wording::Unusual,
            Says::Volume => Wording::Volume,
            Says::TooMuch => Wording::TooMuch,
            Says::Named => Wording::Named,
            Says::Hourly => Wording::Hourly,
            Says::SlowDown => Wording::SlowDown,
        }
    }
}

fn one() -> usize {
    1
}

fn reply() -> u64 {
    60
}

fn reads() -> u64 {
    100
}

impl Mix {
    /// The mix that is shipped.
    ///
    /// # Errors
    /// What is wrong with a file, in words.
    pub fn shipped() -> Result<Self, String> {
        Mix::read(SHIPPED)
    }

    /// The mix of a file.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
        if file.schema != 1 {
            return Err(format!("schema {} is not known", file.schema));
        }
        let policies = Policies::shipped()?;
        let groups = file.site.into_iter().map(|entry| group(entry, &policies)).collect::<Result<Vec<_>, _>>()?;
        for (n, group) in groups.iter().enumerate() {
            if groups[..n].iter().any(|other| other.name == group.name) {
                return Err(format!("{} stands there twice", group.name));
            }
        }
        if groups.iter().map(|group| group.share).sum::<f64>() <= 0.0 {
            return Err("no site has a share".into());
        }
        let sites = groups.iter().try_fold(0usize, |all, group| all.checked_add(group.sites));
        if sites.is_none_or(|all| all > SITES) {
            return Err(format!("{SITES} sites are as many as there may be"));
        }
        Ok(Mix(groups))
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.0
    }
}

fn group(entry: Entry, policies: &Policies) -> Result<Group, String> {
    let bad = |what: &str| Err(format!("{}: {what}", entry.name));
    if entry.name.is_empty() || !entry.share.is_finite() || entry.share < 0.0 {
        return bad("a site has a name, and a share that is not negative");
    }
    if entry.sites == 0 || entry.connections == Some(0) || entry.messages == Some(0) {
        return bad("sites, connections and messages are at least 1");
    }
    if entry.reply_ms.max(entry.reads_ms) > SLOWEST || entry.greylist.is_some_and(|minutes| minutes > GREYEST) {
        return bad("reply_ms and reads_ms are 600000 at most, greylist is 1440");
    }
    if [entry.unknown, entry.full, entry.later].iter().any(|share| !(0.0..=1.0).contains(share)) {
        return bad("unknown, full and later are from 0 to 1");
    }
    let policy = policies.by_id(&entry.name).clone();
    let limits = &policy.limits;
    let rates: Vec<Rate> = match entry.quota {
        Some(rates) => rates.into_iter().map(|rate| rate.0).collect(),
        // What all are treated by is no knowledge of this one.
        None if limits.rate == policies.default().limits.rate => Vec::new(),
        None => limits.rate.clone(),
    };
    let character = Character {
        connections: entry.connections.unwrap_or(limits.connections),
        messages: entry.messages.unwrap_or(limits.messages),
        quotas: rates.iter().map(|rate| Quota { count: rate.count as usize, span: rate.per }).collect(),
        wording: entry.says.into(),
        patience: PATIENCE,
        block: Block::Defers,
        blocks_for: Duration::from_secs(4 * 3600),
        reply: Duration::from_millis(entry.reply_ms),
        tarpit: Duration::ZERO,
        reads_for: Duration::from_millis(entry.reads_ms),
        greylist: entry.greylist.map(|minutes| Duration::from_secs(minutes * 60)),
        tls: Tls::None,
        faults: Faults { later: entry.later, unknown: entry.unknown, full: entry.full, ..Faults::default() },
    };
    Ok(Group { name: entry.name.into(), share: entry.share, sites: entry.sites, policy, character })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Mix::read(text).unwrap_err()
    }

    #[test]
    fn the_shipped_mix_names_sites_that_are_known() {
        let mix = Mix::shipped().unwrap();
        let group = |name: &str| mix.groups().iter().find(|g| &*g.name == name).unwrap();
        // The figures are those of site-policies.toml.
        let qq = group("qq");
        assert_eq!((qq.policy.id.as_deref(), qq.character.connections, qq.character.messages), (Some("qq"), 4, 8));
        let quotas: Vec<_> = qq.character.quotas.iter().map(|q| (q.count, q.span.as_secs())).collect();
        assert_eq!(quotas, [(30, 60), (1000, 3600)]);
        assert!(group("google").character.quotas.is_empty());
        assert_eq!(group("own-server").policy.id, None);
    }

    #[test]
    fn what_is_wrong_with_a_mix_is_said() {
        assert!(refused("schema = 2\nsite = []").contains("schema 2"));
        assert!(refused("schema = 1\nsite = []").contains("no site has a share"));
        let with = |line: &str| refused(&format!("schema = 1\n[[site]]\nname = \"a\"\nshare = 1\n{line}\n"));
        assert!(with("quota = [\"5/x\"]").contains("no rate"));
        assert!(with("qouta = [\"5/m\"]").contains("qouta"));
        assert!(with("says = \"nothing\"").contains("nothing"));
        assert!(with("unknown = 1.5").contains("from 0 to 1"));
        assert!(with("reply_ms = 600001").contains("600000"));
        assert!(with("greylist = 1441").contains("1440"));
        assert!(with("sites = 0").contains("at least 1"));
        assert!(with("sites = 100000").contains("10000 sites"));
        assert!(with("[[site]]\nname = \"a\"\nshare = 1").contains("twice"));
    }
}
