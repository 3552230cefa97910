//! The sites beside the cases: those that the internet in memory has of the same seed, in a manner that suits real time.

use std::sync::Arc;

use serde_json::{Value, json};
use simnet::{Character, Fate, Internet, Manner, Site};

/// What is asked for, all of it by number.
///
///     --seed N --sites N [--mails N] [--day N] [--hurry N] [--mishaps N]
///
/// Of a day's load of `--day` mails, by which limits are made, the first `--mails` are told; `--hurry` and `--mishaps`, the
/// latter in thousandths, are those of [`Manner`].
#[derive(Default)]
pub struct Asked {
    seed: u64,
    sites: usize,
    mails: usize,
    day: usize,
    hurry: u32,
    mishaps: u32,
}

impl Asked {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut asked = Asked { hurry: 1, ..Asked::default() };
        while let Some(name) = arguments.next() {
            let n: u64 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{name}: a number"));
            match name.as_str() {
                "--seed" => asked.seed = n,
                "--sites" => asked.sites = n as usize,
                "--mails" => asked.mails = n as usize,
                "--day" => asked.day = n as usize,
                "--hurry" => asked.hurry = u32::try_from(n).unwrap(),
                "--mishaps" => asked.mishaps = u32::try_from(n).unwrap(),
                _ => panic!("{name}: what is that?"),
            }
        }
        asked
    }

    pub fn internet(&self) -> Internet {
        let manner = Manner { hurry: self.hurry, mishaps: f64::from(self.mishaps) / 1000.0 };
        if self.sites == 0 {
            return Internet { sites: Vec::new(), mails: Vec::new() };
        }
        let mut internet = Internet::of(self.seed, self.sites, self.day.max(self.mails), manner);
        internet.mails.truncate(self.mails);
        internet
    }
}

/// What each site is like.
pub fn sites(internet: &Internet) -> Vec<Value> {
    internet.sites.iter().map(site).collect()
}

/// What there is to be sent, and what becomes of it.
pub fn mails(internet: &Internet) -> Vec<Value> {
    let told = internet.mails.iter().map(|mail| {
        let fate = match internet.fate(mail) {
            Some(Fate::Taken) => "taken",
            Some(Fate::Unknown) => "unknown",
            Some(Fate::Full) => "full",
            Some(Fate::Unwanted) => "unwanted",
            None => "nowhere",
        };
        json!({ "number": mail.number, "from": mail.from, "to": mail.to, "site": mail.site, "fate": fate })
    });
    told.collect()
}

fn site(site: &Arc<Site>) -> Value {
    let Character { quotas, faults, .. } = &site.character;
    let c = &site.character;
    let quotas: Vec<_> = quotas.iter().map(|q| json!({ "count": q.count, "seconds": q.span.as_secs_f64() })).collect();
    json!({
        "site": site.number, "domains": site.domains, "hosts": site.hosts, "connections": c.connections,
        "messages": c.messages, "quotas": quotas, "wording": format!("{:?}", c.wording), "patience": c.patience,
        "block": format!("{:?}", c.block), "blocks_for": c.blocks_for.as_secs_f64(), "reply": c.reply.as_secs_f64(),
        "tarpit": c.tarpit.as_secs_f64(), "reads_for": c.reads_for.as_secs_f64(),
        "greylist": c.greylist.map(|wait| wait.as_secs_f64()), "tls": format!("{:?}", c.tls),
        "faults": { "drops": faults.drops, "later": faults.later, "unknown": faults.unknown, "full": faults.full,
            "refused": faults.refused },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> (Vec<Value>, Vec<Value>) {
        let internet = Asked::read(line.split(' ').map(str::to_owned)).internet();
        (sites(&internet), mails(&internet))
    }

    #[test]
    fn a_seed_is_told_the_same_again_and_another_is_another() {
        let of = |seed| told(&format!("--seed {seed} --sites 40 --mails 300 --day 3000 --hurry 60 --mishaps 100"));
        let (one, same, other) = (of(7), of(7), of(8));
        assert_eq!(one, same);
        assert_eq!((one.0.len(), one.1.len()), (40, 300));
        assert_ne!(one.0, other.0);
        assert_ne!(one.1, other.1);
    }

    #[test]
    fn without_a_seed_there_are_the_cases_only() {
        let internet = Asked::read(std::iter::empty()).internet();
        assert!(internet.sites.is_empty() && internet.mails.is_empty());
    }
}
