//! Sites made of a seed: few large providers with many domains, hosters, and a long tail.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use net::{CertFiles, Door, ListenOptions, Listener, Tls as Certificate, Zone};
use tokio::time::Instant;

use crate::host::serve;
use peers::{Block, Character, Fate, Faults, Quota, Site, Tls, Wording, drawn, one_of, share};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A domain that takes no mail (RFC 7505).
const NULL: &str = "null.test";

/// Hosts of providers that every sender knows something about; the rest of the large ones nobody knows.
const KNOWN: [&str; 5] = [".yahoodns.net", ".icloud.com", ".prodigy.net", ".charter.net", ".secureserver.net"];

/// One mail of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Its number, from zero.
    pub number: u64,
    /// The site of its recipient; none takes mail for the domain with a null MX.
    pub site: Option<usize>,
    /// Its sender, by which the sites know it again.
    pub from: String,
    /// Its recipient.
    pub to: String,
}

/// Sites, and a load for them.
pub struct Internet {
    /// All of them, the largest first.
    pub sites: Vec<Arc<Site>>,
    /// What is to be sent.
    pub mails: Vec<Mail>,
}

/// What its sites are like beside what a day of virtual time asks for: for who sends in real time, and few mails.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// All their times are shorter by so much ([`Character::hurried`]).
    pub hurry: u32,
    /// Half of the sites cut so many more of the connections, from none to one, at a step of their own; a third have so many
    /// more passing errors, a third unknown recipients, a third full mailboxes, and a third refuse so many more bodies.
    pub mishaps: f64,
}

impl Default for Manner {
    /// As the measurements are made.
    fn default() -> Self {
        Manner { hurry: 1, mishaps: 0.0 }
    }
}

/// What kind of site it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Provider,
    Hoster,
    Small,
}

impl Internet {
    /// `sites` sites with a load of `mails`, all made of `seed`. A twentieth of the sites are large providers and get half
    /// of the mail; a third are hosters and get three tenths of it; the rest of both is the long tail.
    ///
    /// How strict a site is depends on its load: a strict one takes some hours for it, so that any number of mails makes a
    /// day's work.
    pub fn new(seed: u64, sites: usize, mails: usize) -> Self {
        Internet::of(seed, sites, mails, Manner::default())
    }

    /// The same sites, in that manner.
    pub fn of(seed: u64, sites: usize, mails: usize, manner: Manner) -> Self {
        let (providers, hosters) = ((sites / 20).max(1), sites / 3);
        let size = |n: usize| match n {
            n if n < providers => Size::Provider,
            n if n < providers + hosters => Size::Hoster,
            _ => Size::Small,
        };
        let count = |wanted| (0..sites).filter(|n| size(*n) == wanted).count().max(1) as f64;
        let load = |size| {
            let share = match size {
                Size::Provider => 0.5,
                Size::Hoster => 0.3,
                Size::Small => 0.2,
            };
            share / count(size)
        };
        // No two of a kind are of one weight.
        let weight = |n: usize| load(size(n)) * (0.5 + share(seed, &[10, n as u64]));
        let weights: Vec<f64> = (0..sites).map(weight).collect();
        let all: f64 = weights.iter().sum();
        let made = |n: usize| {
            let mails = (weights[n] / all * mails as f64) as usize;
            let (domains, hosts) = names(seed, n, size(n));
            let character = rougher(seed, n as u64, character(seed, n as u64, size(n), mails.max(1)), manner.mishaps);
            let character = character.hurried(manner.hurry);
            Arc::new(Site::new(n as u64, domains, hosts, character, drawn(seed, &[11, n as u64])))
        };
        let sites: Vec<_> = (0..sites).map(made).collect();
        let mails = (0..mails as u64).map(|n| mail(seed, n, &sites, &weights, all)).collect();
        Internet { sites, mails }
    }

    /// The DNS of it.
    pub fn zone(&self) -> Zone {
        let mut zone = Zone::default().mx(NULL, 0, ".");
        for site in &self.sites {
            for (n, host) in site.hosts.iter().enumerate() {
                zone = zone.ip(host, address(site.number, n));
                for domain in &site.domains {
                    zone = zone.mx(domain, 10 * (n as u16 + 1), host);
                }
            }
        }
        zone
    }

    /// Opens all hosts, in the runtime that this is called in. Their certificate is for another name.
    pub fn open(&self, certificate: &CertFiles) -> HashMap<SocketAddr, Door> {
        let (start, mut doors) = (Instant::now(), HashMap::new());
        let tls = Certificate::load(vec![certificate.clone()]).expect("a certificate");
        for site in &self.sites {
            let tls = (site.character.tls == Tls::Wrong).then(|| tls.clone());
            for n in 0..site.hosts.len() {
                let (listener, door) = Listener::memory(ListenOptions::default());
                doors.insert(SocketAddr::new(address(site.number, n), 25), door);
                tokio::spawn(serve(site.clone(), tls.clone(), start, listener));
            }
        }
        doors
    }

    /// What becomes of a mail in the end; nothing where no site takes mail for its domain.
    pub fn fate(&self, mail: &Mail) -> Option<Fate> {
        mail.site.map(|n| self.sites[n].fate(mail.number))
    }

    /// How many mails are neither ever taken nor refused for good.
    pub fn never_done(&self) -> u64 {
        self.mails.iter().filter(|mail| self.fate(mail) == Some(Fate::Full)).count() as u64
    }

    /// How many mails each site would ever take.
    pub fn takes(&self) -> Vec<usize> {
        let mut takes = vec![0; self.sites.len()];
        for mail in &self.mails {
            if let Some(n) = mail.site.filter(|_| self.fate(mail) == Some(Fate::Taken)) {
                takes[n] += 1;
            }
        }
        takes
    }
}

/// Each site has a network of its own.
fn address(site: u64, host: usize) -> IpAddr {
    [20, (site / 250) as u8, (site % 250) as u8, host as u8 + 1].into()
}

fn names(seed: u64, n: usize, size: Size) -> (Vec<String>, Vec<String>) {
    let (least, more, hosts) = match size {
        Size::Provider => (20, 40, 3),
        Size::Hoster => (5, 10, 2),
        Size::Small => (1, 2, 1),
    };
    let domains = least + drawn(seed, &[12, n as u64]) % more;
    let suffix = KNOWN.get(n).filter(|_| size == Size::Provider);
    let suffix = suffix.map_or_else(|| format!(".site{n}.test"), |known| (*known).to_owned());
    let host = |h: usize| format!("mx{h}{suffix}");
    ((0..domains).map(|d| format!("d{d}.s{n}.test")).collect(), (0..hosts).map(host).collect())
}

fn mail(seed: u64, number: u64, sites: &[Arc<Site>], weights: &[f64], all: f64) -> Mail {
    let from = format!("b+{number}@example.test");
    if drawn(seed, &[13, number]).is_multiple_of(1000) {
        return Mail { number, site: None, from, to: format!("u{number}@{NULL}") };
    }
    let mut at = share(seed, &[14, number]) * all;
    let upto = |weight: &&f64| {
        at -= **weight;
        at > 0.0
    };
    let n = weights.iter().take_while(upto).count().min(sites.len() - 1);
    let domains = &sites[n].domains;
    let domain = &domains[(drawn(seed, &[15, number]) % domains.len() as u64) as usize];
    Mail { number, site: Some(n), from, to: format!("u{number}@{domain}") }
}

fn character(seed: u64, n: u64, size: Size, mails: usize) -> Character {
    let about = |what| [what, n];
    let chance = |what| share(seed, &about(what));
    let millis = |from: u64, to: u64, what| Duration::from_millis(from + drawn(seed, &about(what)) % (to - from));
    let faults = Faults {
        drops: if chance(20) < 0.2 { [0.002, 0.002, 0.002, 0.002, 0.002, 0.0] } else { [0.0; 6] },
        later: if chance(21) < 0.3 { 0.01 } else { 0.001 },
        unknown: 0.01,
        full: 0.002,
        refused: 0.0,
    };
    let lenient = Character {
        connections: one_of(&[5, 10, 20, 50], seed, &about(22)),
        messages: one_of(&[20, 50, 100, 1000], seed, &about(23)),
        quotas: vec![Quota { count: 1200, span: MINUTE }],
        wording: one_of(&Wording::ALL, seed, &about(24)),
        patience: 30.0 + 70.0 * chance(25),
        block: one_of(&[Block::Refuses, Block::Defers], seed, &about(26)),
        blocks_for: HOUR * one_of(&[1, 2, 4], seed, &about(27)),
        reply: millis(10, 150, 28),
        tarpit: if chance(29) < 0.05 { Duration::from_secs(5) } else { Duration::ZERO },
        reads_for: if chance(30) < 0.03 { Duration::from_secs(20) } else { Duration::ZERO },
        greylist: None,
        tls: if chance(31) < 0.02 { Tls::Wrong } else { Tls::None },
        faults,
    };
    let quota = |span: Duration, hours: f64| {
        let spans = hours * HOUR.div_duration_f64(span);
        vec![Quota { count: ((mails as f64 / spans) as usize).max(5), span }]
    };
    let strict = |span, hours| {
        // Only who counts by the hour speaks of it.
        let wording = Some(lenient.wording).filter(|w| *w != Wording::Hourly || span == HOUR);
        Character { quotas: quota(span, hours), wording: wording.unwrap_or(Wording::TooMuch), ..lenient.clone() }
    };
    match (size, chance(32)) {
        // What the data knows of the known ones is true: TLS where it says so.
        (Size::Provider, p) => {
            let tls = if n < 2 { Tls::Wrong } else { Tls::None };
            // Who looks at the hour has the longest work.
            let site = match p {
                p if p < 0.4 => strict(HOUR, 6.0 + 6.0 * chance(33)),
                p if p < 0.7 => strict(MINUTE, 2.0 + 4.0 * chance(34)),
                _ => lenient,
            };
            Character {
                tls,
                connections: site.connections.max(10),
                messages: site.messages.max(50),
                tarpit: Duration::ZERO,
                ..site
            }
        }
        (Size::Hoster, p) if p < 0.15 => strict(HOUR, 2.0 + 4.0 * chance(33)),
        (Size::Hoster, p) if p < 0.3 => strict(10 * MINUTE, 1.0 + 3.0 * chance(33)),
        (Size::Hoster, p) if p < 0.45 => Character { connections: 2, ..lenient },
        (Size::Small, p) if p < 0.05 => strict(HOUR, 2.0 + chance(33)),
        (Size::Small, p) if p < 0.3 => Character { greylist: Some(5 * MINUTE), ..lenient },
        (Size::Small, p) if p < 0.4 => Character { connections: 1, ..lenient },
        _ => lenient,
    }
}

/// With more mishaps ([`Manner::mishaps`]).
fn rougher(seed: u64, n: u64, site: Character, mishaps: f64) -> Character {
    let more = |what, share_of_sites| if share(seed, &[what, n]) < share_of_sites { mishaps } else { 0.0 };
    let usual = site.faults;
    let mut drops = usual.drops;
    drops[one_of(&[0, 1, 2, 3, 4, 5], seed, &[41, n])] += more(40, 0.5);
    let faults = Faults {
        drops,
        later: usual.later + more(42, 0.33),
        unknown: usual.unknown + more(43, 0.33),
        full: usual.full + more(44, 0.33),
        refused: usual.refused + more(45, 0.33),
    };
    Character { faults, ..site }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peers::{Answer, Step};

    #[test]
    fn one_number_makes_all_of_it_and_another_makes_another() {
        let shape = |seed| {
            let net = Internet::new(seed, 100, 2000);
            let sites: Vec<_> = net.sites.iter().map(|s| format!("{:?} {:?}", s.domains, s.character)).collect();
            (sites, net.mails)
        };
        assert_eq!(shape(1), shape(1));
        assert_ne!(shape(1), shape(2));
    }

    /// What a site says to mails in this order, each tried three times, of what does not depend on the time.
    fn decisions(site: &Site, mails: impl Iterator<Item = u64>) -> HashMap<u64, Vec<Answer>> {
        let patient = Character { quotas: Vec::new(), greylist: None, ..site.character.clone() };
        let site = Site::new(site.number, Vec::new(), Vec::new(), patient, site.seed());
        let steps = [Step::Mail, Step::Rcpt, Step::Data, Step::Body, Step::Dot].repeat(3);
        mails.map(|mail| (mail, steps.iter().map(|step| site.step(*step, mail, 1, Duration::ZERO)).collect())).collect()
    }

    #[test]
    fn what_a_site_decides_is_of_the_seed_and_of_the_mail_and_not_of_the_order() {
        let manner = Manner { hurry: 60, mishaps: 0.2 };
        let (one, same, other) = (1, 1, 2);
        let of = |seed| Internet::of(seed, 40, 2000, manner).sites;
        for (one, same) in of(one).iter().zip(of(same)) {
            assert_eq!(decisions(one, 0..50), decisions(&same, (0..50).rev()));
        }
        let differ = |(one, other): &(&Arc<Site>, Arc<Site>)| decisions(one, 0..50) != decisions(other, 0..50);
        assert!(of(one).iter().zip(of(other)).filter(differ).count() > 20);
    }

    #[test]
    fn a_manner_adds_to_what_the_seed_gives() {
        let (plain, hurried) =
            (Internet::new(1, 60, 2000), Internet::of(1, 60, 2000, Manner { hurry: 60, mishaps: 0.2 }));
        assert_eq!(plain.mails, hurried.mails);
        let mut cut_at = [0; 6];
        for (plain, hurried) in plain.sites.iter().zip(&hurried.sites) {
            assert_eq!((&plain.domains, &plain.hosts), (&hurried.domains, &hurried.hosts));
            let (plain, hurried) = (&plain.character, &hurried.character);
            assert_eq!(plain.reply / 60, hurried.reply);
            assert_eq!(plain.greylist.map(|wait| wait / 60), hurried.greylist);
            assert_eq!((plain.connections, plain.wording), (hurried.connections, hurried.wording));
            cut_at.iter_mut().zip(hurried.faults.drops).for_each(|(n, drops)| *n += usize::from(drops >= 0.2));
        }
        assert!(cut_at.iter().all(|n| *n > 0), "{cut_at:?}");
    }

    #[test]
    fn half_of_the_mail_is_for_a_twentieth_of_the_sites() {
        let net = Internet::new(1, 100, 10_000);
        let large = net.mails.iter().filter(|m| m.site.is_some_and(|n| n < 5)).count();
        assert!((4000..6000).contains(&large), "{large}");
        let of = |site: &Arc<Site>| site.domains.len();
        assert!(net.sites[..5].iter().map(of).min() > net.sites[50..].iter().map(of).max());
    }
}
