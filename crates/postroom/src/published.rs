//! What the DNS is to tell of our domains, and whether it does: the records to publish, and the keys that sign once theirs
//! are seen.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use base::Timestamp;
use net::{Deadline, DnsError, Https, MailHosts, Resolver, is_special};
use queue::source;
use serde_json::{Value, json};
use store::{Store, Tx};
use tokio::sync::watch;
use tokio::time::sleep;
use trust::judge::{self, Judgement};
use trust::mta_sts::{self, Mode};
use trust::{DnsRecord, NewKeys, PublicKey, State, own_policy};

use crate::admin::{Answer, Outcome, refused, words};
use crate::findings::{Finding, report};
use crate::house::House;
use crate::spf::{self, Sender};

/// How long all questions about a domain may take.
const LOOK: Duration = Duration::from_secs(15);
/// From one look for the records of new keys to the next.
const EVERY: Duration = Duration::from_secs(600);
/// So many labels of a name may stand before the domain whose DMARC record counts for it.
const PARENTS: usize = 8;

/// Keys for a domain: made before the job that stores them, as they take their time.
pub async fn new_keys(now: Timestamp) -> Result<NewKeys, String> {
    let made = tokio::task::spawn_blocking(move || NewKeys::generate(now)).await;
    made.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

// ---- requests ----

/// The records that a domain needs.
pub async fn records(house: &House, name: String) -> Outcome {
    let (name, public) = domain(house, &name).await?;
    let (mut text, mut data) = (String::new(), Vec::new());
    let senders: Vec<IpAddr> = senders(house, &name).await?.iter().map(|sender| sender.ip).collect();
    let by = (house.smarthost.as_deref(), &senders[..]);
    let mut records = trust::dns_records(&name, &house.hostname, by, &public, house.clock.now());
    if let Some((_, policy)) = policy(house, &name).await? {
        records.push(DnsRecord::mta_sts(&name, &own_policy::id(&policy)));
        records.push(DnsRecord::mta_sts_host(&name, &house.hostname));
    }
    for r in records {
        let _ = writeln!(text, "; {}\n{r}", r.why);
        data.push(json!({ "name": r.name, "type": r.kind, "value": r.value, "why": r.why }));
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

/// Whether the DNS has them.
pub async fn check(house: &House, name: String) -> Outcome {
    let (name, public) = domain(house, &name).await?;
    let look = Look::new(house)?;
    let senders = senders(house, &name).await?;
    let mut findings = look.mail(&name, &house.hostname, house.smarthost.as_deref(), &senders).await;
    for key in &public {
        findings.push(look.key(&name, key).await.finding);
    }
    findings.extend(age(&name, &public, look.now));
    findings.push(look.dmarc(&name).await);
    findings.extend(look.tls(&name, policy(house, &name).await?).await);
    Ok(report(&findings))
}

/// What mail of a domain leaves by, besides the address that the system chooses; nothing where a smart host sends it on.
async fn senders(house: &House, name: &str) -> Result<Vec<Sender>, String> {
    if house.smarthost.is_some() {
        return Ok(Vec::new());
    }
    let (name, hostname) = (name.to_owned(), house.hostname.clone());
    let read = move |tx: &mut Tx<'_>| {
        let domain = directory::domain_by_name(tx, &name)?;
        let setup = source::setup(tx)?;
        Ok(domain.map_or_else(Vec::new, |domain| spf::senders(&setup, domain.organisation, &hostname)))
    };
    house.store.read(read).await.map_err(words)
}

/// The policy that we publish for a domain, if our web server does.
async fn policy(house: &House, name: &str) -> Result<Option<(Mode, String)>, String> {
    if !house.publishes {
        return Ok(None);
    }
    let name = name.to_owned();
    let mode = house.store.read(move |tx| own_policy::mode(tx, &name)).await.map_err(words)?;
    Ok(Some((mode, own_policy::text(mode, &house.hostname))))
}

/// The keys of a domain.
pub async fn keys(house: &House, name: String) -> Outcome {
    let (_, public) = domain(house, &name).await?;
    let (mut text, mut data) = (String::new(), Vec::new());
    for key in &public {
        let (state, algorithm, until) = (key.state.word(), key.algorithm.name(), key.published_until());
        let _ = write!(text, "{:12} {algorithm:15} {state:8} since {}", key.selector, key.since.rfc3339());
        match until {
            Some(until) => drop(writeln!(text, ", in the DNS until {}", trust::day(until))),
            None => text.push('\n'),
        }
        data.push(json!({ "selector": key.selector, "algorithm": algorithm, "state": state,
            "since": key.since.rfc3339(), "published_until": until.map(Timestamp::rfc3339) }));
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

/// Makes a new pair of keys.
pub async fn rotate(house: &House, name: String) -> Outcome {
    let (name, _) = domain(house, &name).await?;
    let new = new_keys(house.clock.now()).await?;
    let public = {
        let name = name.clone();
        let work = move |tx: &mut Tx<'_>| {
            known(tx, &name)?;
            trust::rotate(tx, &name, &new)?;
            trust::public_keys(tx, &name)
        };
        house.store.write(work).await.map_err(words)?
    };
    let mut text = "Put these into the DNS; the keys sign once the server sees them there:\n".to_owned();
    let mut data = Vec::new();
    for key in public.iter().filter(|key| key.state == State::Waiting) {
        let r = DnsRecord::dkim(&name, key);
        let _ = writeln!(text, "{r}");
        data.push(json!({ "name": r.name, "type": r.kind, "value": r.value, "why": r.why }));
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

/// Looks the keys of a domain up, and does what follows from it; with `force`, new keys sign whatever the DNS says.
pub async fn check_keys(house: &House, name: String, force: bool) -> Outcome {
    let (name, _) = domain(house, &name).await?;
    let now = house.clock.now();
    if force {
        return match activate(&house.store, &name, now).await? {
            true => Ok(Answer::new(format!("The new keys of {name} sign from now on"), json!({ "active": true }))),
            false => Err(format!("{name} has no new keys: postroom domain key rotate {name} makes them")),
        };
    }
    let look = Look::new(house)?;
    Ok(report(&look.settle(&house.store, &name).await?))
}

/// Looks every so often for the records of new keys, and of old ones that may go, until the server stops.
pub async fn watch(house: House, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            () = sleep(EVERY) => {}
        }
        let round = async {
            let now = house.clock.now();
            let domains = house.store.read(move |tx| trust::unsettled(tx, now)).await.map_err(words)?;
            for domain in domains {
                Look::new(&house)?.settle(&house.store, &domain).await?;
            }
            Ok::<_, String>(())
        };
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            done = round => if let Err(error) = done {
                tracing::warn!(error, "the keys of our domains could not be looked up");
            }
        }
    }
}

fn known(tx: &mut Tx<'_>, name: &str) -> store::Result<()> {
    let found = directory::domain_by_name(tx, name)?;
    found.map(drop).ok_or_else(|| refused(format!("there is no domain {name}")))
}

/// A domain of ours in its one spelling, and its keys. One that is older than its keys gets them now.
async fn domain(house: &House, name: &str) -> Result<(String, Vec<PublicKey>), String> {
    let name = base::domain(name).map_err(|e| format!("{name}: {e}"))?;
    let public = {
        let name = name.clone();
        let read = move |tx: &mut Tx<'_>| known(tx, &name).and_then(|()| trust::public_keys(tx, &name));
        house.store.read(read).await.map_err(words)?
    };
    if !public.is_empty() {
        return Ok((name, public));
    }
    let (new, to) = (new_keys(house.clock.now()).await?, name.clone());
    let work = move |tx: &mut Tx<'_>| trust::add_keys(tx, &to, &new).and_then(|()| trust::public_keys(tx, &to));
    let public = house.store.write(work).await.map_err(words)?;
    Ok((name, public))
}

async fn activate(store: &Store, domain: &str, now: Timestamp) -> Result<bool, String> {
    let name = domain.to_owned();
    let done = store.write(move |tx| trust::activate(tx, &name, now)).await.map_err(words)?;
    if done {
        tracing::info!(domain, "new keys sign the domain's mail");
    }
    Ok(done)
}

/// That a pair signs for long; nothing while another waits for the DNS.
fn age(name: &str, public: &[PublicKey], now: Timestamp) -> Option<Finding> {
    let old = public.iter().find(|key| key.is_old(now))?;
    let waits = public.iter().any(|key| key.state == State::Waiting);
    let since = trust::day(old.since);
    (!waits).then(|| {
        let words = format!(
            "its keys sign since {since}, and twice a year is good practice: postroom domain key rotate {name}"
        );
        Finding::Hint(format!("DKIM: {words}"))
    })
}

// ---- looking ----

/// A look into the DNS, for one domain.
struct Look {
    resolver: Resolver,
    https: Https,
    deadline: Deadline,
    now: Timestamp,
}

/// A key as the DNS has it.
struct Seen {
    /// The record is there and right; None: the DNS does not answer.
    there: Option<bool>,
    finding: Finding,
}

impl Look {
    /// The resolver remembers nothing: who has just changed the DNS does not want to hear what it was.
    fn new(house: &House) -> Result<Self, String> {
        let (outside, now) = (&house.outside, house.clock.now());
        let resolver = outside.resolver().map_err(|e| e.to_string())?;
        let roots = outside.roots(None).map_err(|e| e.to_string())?;
        let https = Https::new(outside.dialer(), resolver.clone(), &roots).map_err(|e| e.to_string())?;
        Ok(Look { resolver, https, deadline: Deadline::after(LOOK), now })
    }

    /// The TXT records of a name; none where there is no such name.
    async fn texts(&self, name: &str) -> Result<Vec<Vec<u8>>, Finding> {
        match self.resolver.txt(name, self.deadline).await {
            Ok(found) => Ok(found.records),
            Err(DnsError::NoSuchName | DnsError::NoData) => Ok(Vec::new()),
            Err(e) => Err(Finding::Bad(format!("{name}: {e}"))),
        }
    }

    /// MX, and SPF that builds on it.
    async fn mail(&self, domain: &str, hostname: &str, smarthost: Option<&str>, senders: &[Sender]) -> Vec<Finding> {
        let missing = |record: DnsRecord| Finding::Bad(format!("{} is missing; add: {record}", record.kind));
        let hosts = self.resolver.mail_hosts(domain, || 0, self.deadline).await;
        let (mx, here) = match hosts {
            Ok(MailHosts::Mx(hosts)) if hosts.records.iter().any(|h| h.host.eq_ignore_ascii_case(hostname)) => {
                (Finding::Good(format!("MX: mail for {domain} comes here")), true)
            }
            Ok(MailHosts::Mx(hosts)) => {
                let to: Vec<&str> = hosts.records.iter().map(|h| h.host.as_str()).collect();
                (Finding::Bad(format!("MX: mail for {domain} goes to {}, not to {hostname}", to.join(", "))), false)
            }
            Ok(MailHosts::Null) => (Finding::Bad(format!("MX: {domain} says that it takes no mail (RFC 7505)")), false),
            Ok(MailHosts::Implicit) | Err(DnsError::NoSuchName) => (missing(DnsRecord::mx(domain, hostname)), false),
            Err(e) => (Finding::Bad(format!("MX of {domain}: {e}")), false),
        };
        let mut findings = vec![mx];
        findings.extend(self.spf(domain, hostname, (here, smarthost), senders).await);
        findings
    }

    /// What the record says by itself of our host, and what receivers make of it for each address of a source. `here`: mail for the
    /// domain comes here.
    async fn spf(
        &self,
        domain: &str,
        hostname: &str,
        (here, smarthost): (bool, Option<&str>),
        senders: &[Sender],
    ) -> Vec<Finding> {
        let texts = match self.texts(domain).await {
            Ok(texts) => texts,
            Err(unknown) => return vec![unknown],
        };
        let judged = judge::spf(&texts, smarthost.unwrap_or(hostname), here && smarthost.is_none());
        if judged == Judgement::Missing {
            let ips: Vec<IpAddr> = senders.iter().map(|sender| sender.ip).collect();
            let add = |record: DnsRecord| Finding::Bad(format!("SPF is missing; add: {record}"));
            return DnsRecord::spf(domain, smarthost, &ips).into_iter().map(add).collect();
        }
        let mut all = senders.to_vec();
        // What the words leave open, the addresses of our host tell.
        let ours = match (&judged, smarthost) {
            (Judgement::Doubt(_), None) => self.resolver.addresses(hostname, self.deadline).await,
            _ => Err(DnsError::NoData),
        };
        let ours = ours.map(|found| found.records).unwrap_or_default();
        let host = |ip| Sender { source: hostname.into(), ehlo: hostname.to_owned(), ip };
        all.splice(..0, ours.into_iter().filter(|ip| !is_special(*ip)).map(host));
        let mut findings = Vec::new();
        if all.len() == senders.len() {
            findings.push(finding(judged, || Finding::Bad("SPF is missing".to_owned())));
        }
        for sender in &all {
            findings.extend(spf::look(&self.resolver, self.deadline, domain, sender).await);
        }
        findings
    }

    async fn key(&self, domain: &str, key: &PublicKey) -> Seen {
        let record = DnsRecord::dkim(domain, key);
        let texts = match self.texts(&record.name).await {
            Ok(texts) => texts,
            Err(finding) => return Seen { there: None, finding },
        };
        let judged = judge::key(key, &texts);
        let (there, name) = (judged != Judgement::Missing, &record.name);
        let finding = match (key.published_until(), there) {
            (None, _) => {
                let found = finding(judged, || Finding::Bad(format!("DKIM: the key is missing; add: {record}")));
                let wrong = |words| Finding::Bad(format!("DKIM: {name}: {words}; it should be: {record}"));
                return match found {
                    Finding::Bad(words) if there => Seen { there: Some(false), finding: wrong(words) },
                    finding => Seen { there: Some(there), finding },
                };
            }
            (Some(end), true) if self.now < end => {
                Finding::Good(format!("DKIM: {name}, the key before, is there; keep it until {}", trust::day(end)))
            }
            (Some(end), false) if self.now < end => Finding::Doubt(format!(
                "DKIM: {name}, the key before, is gone; mail that it signed may be on its way until {}",
                trust::day(end)
            )),
            (Some(_), true) => Finding::Hint(format!("DKIM: {name} is not needed any more: take it out of the DNS")),
            (Some(_), false) => Finding::Good(format!("DKIM: {name} is not needed any more, and gone")),
        };
        Seen { there: Some(there), finding }
    }

    /// The record of the domain, or of the nearest domain above that has one (RFC 7489 §6.6.3 asks the organisation's).
    async fn dmarc(&self, domain: &str) -> Finding {
        let missing = || Finding::Bad(format!("DMARC is missing; add: {}", DnsRecord::dmarc(domain)));
        let mut at = domain;
        for _ in 0..PARENTS {
            let texts = match self.texts(&format!("_dmarc.{at}")).await {
                Ok(texts) => texts,
                Err(unknown) => return unknown,
            };
            match judge::dmarc(&texts) {
                Judgement::Missing => {}
                Judgement::Good(words) if at != domain => return Finding::Good(format!("{words}, from {at}")),
                judged => return finding(judged, missing),
            }
            match at.split_once('.') {
                Some((_, parent)) if parent.contains('.') => at = parent,
                _ => break,
            }
        }
        missing()
    }

    /// MTA-STS and TLS-RPT, which a domain need not have. `policy` is the one that this server publishes for it.
    async fn tls(&self, domain: &str, policy: Option<(Mode, String)>) -> Vec<Finding> {
        let mut findings = match (self.texts(&format!("_mta-sts.{domain}")).await, policy) {
            (Err(unknown), _) => vec![unknown],
            (Ok(texts), None) => {
                let hint = || Finding::Hint("MTA-STS: no policy is announced; [listen] https publishes one".to_owned());
                vec![finding(judge::mta_sts(&texts), hint)]
            }
            (Ok(texts), Some((mode, policy))) => {
                vec![announcement(domain, &texts, &policy), self.policy(domain, mode, &policy).await]
            }
        };
        let rpt = match self.texts(&format!("_smtp._tls.{domain}")).await {
            Ok(texts) => finding(judge::tls_rpt(&texts), || {
                Finding::Hint(format!("TLS-RPT: to hear of trouble with TLS, add: {}", DnsRecord::tls_rpt(domain)))
            }),
            Err(unknown) => unknown,
        };
        findings.push(rpt);
        findings
    }

    /// Whether others get from our web server what they are to get.
    async fn policy(&self, domain: &str, mode: Mode, expected: &str) -> Finding {
        let url = mta_sts::policy_url(domain);
        let wrong = |why: String| {
            Finding::Bad(format!(
                "MTA-STS: {url} cannot be had as others would: {why}; see [listen] https and the certificates"
            ))
        };
        match self.https.get(&url, self.deadline).await {
            Ok(page) if page.status != 200 => wrong(format!("it answers {}", page.status)),
            Ok(page) if page.body != expected.as_bytes() => wrong("it is another policy".into()),
            Ok(_) => Finding::Good(format!("MTA-STS: others can fetch the policy ({})", mode.word())),
            Err(error) => wrong(error.to_string()),
        }
    }

    /// Looks the keys of a domain up. New ones sign when the records of all of them are there; old ones are forgotten when
    /// their time is over and their records are gone.
    async fn settle(&self, store: &Store, domain: &str) -> Result<Vec<Finding>, String> {
        let name = domain.to_owned();
        let keys = store.read(move |tx| trust::public_keys(tx, &name)).await.map_err(words)?;
        let (mut findings, mut ready, mut waiting) = (Vec::new(), true, false);
        for key in &keys {
            let seen = self.key(domain, key).await;
            if key.state == State::Waiting {
                (waiting, ready) = (true, ready && seen.there == Some(true));
            }
            if !key.is_published(self.now) && seen.there == Some(false) {
                let (domain, selector) = (domain.to_owned(), key.selector.clone());
                store.write(move |tx| trust::forget_key(tx, &domain, &selector)).await.map_err(words)?;
            }
            findings.push(seen.finding);
        }
        if waiting && ready && activate(store, domain, self.now).await? {
            findings.push(Finding::Good(format!("DKIM: the new keys of {domain} sign from now on")));
        } else if waiting {
            findings.push(Finding::Doubt("DKIM: the new keys wait until all their records are there".into()));
        }
        findings.extend(age(domain, &keys, self.now));
        Ok(findings)
    }
}

/// Whether the DNS announces the policy as it is now.
fn announcement(domain: &str, texts: &[Vec<u8>], policy: &str) -> Finding {
    let record = DnsRecord::mta_sts(domain, &own_policy::id(policy));
    let missing = || Finding::Doubt(format!("MTA-STS: the policy is not announced; add: {record}"));
    match judge::mta_sts(texts) {
        Judgement::Good(_) if mta_sts::announced(texts) != mta_sts::Announced::Id(own_policy::id(policy)) => {
            Finding::Bad(format!("MTA-STS: another policy is announced; it should be: {record}"))
        }
        judged => finding(judged, missing),
    }
}

fn finding(judged: Judgement, missing: impl FnOnce() -> Finding) -> Finding {
    match judged {
        Judgement::Good(words) => Finding::Good(words),
        Judgement::Doubt(words) => Finding::Doubt(words),
        Judgement::Wrong(words) => Finding::Bad(words),
        Judgement::Missing => missing(),
    }
}

#[cfg(test)]
mod tests {
    use net::{Dialer, Roots, Zone};
    use testkit::Bed;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_763_683_200);

    /// A store with the first keys of `x.test`.
    async fn store(bed: &Bed) -> Store {
        let store = bed.open(&[trust::MIGRATIONS]);
        let first = new_keys(NOW).await.unwrap();
        store.write(move |tx| trust::add_keys(tx, "x.test", &first)).await.unwrap();
        store
    }

    async fn new_pair(store: &Store) {
        let new = new_keys(NOW).await.unwrap();
        store.write(move |tx| trust::rotate(tx, "x.test", &new)).await.unwrap();
    }

    async fn public(store: &Store) -> Vec<PublicKey> {
        store.read(|tx| trust::public_keys(tx, "x.test")).await.unwrap()
    }

    /// A zone that tells of those keys.
    fn zone<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Zone {
        keys.into_iter().fold(Zone::default(), |zone, key| {
            let record = DnsRecord::dkim("x.test", key);
            zone.txt(&record.name, &record.value)
        })
    }

    fn look(zone: Zone, days: i64) -> Look {
        let now = Timestamp(NOW.0 + days * 86_400_000);
        let (resolver, dialer) = (Resolver::memory(zone), Dialer::memory(Default::default()));
        let https = Https::new(dialer, resolver.clone(), &Roots::new(&[]).unwrap()).unwrap();
        Look { resolver, https, deadline: Deadline::after(LOOK), now }
    }

    async fn states(store: &Store) -> String {
        let all = public(store).await;
        all.iter()
            .map(|key| format!("{} {} ", key.selector, key.state.word()))
            .collect::<String>()
            .trim_end()
            .to_owned()
    }

    #[tokio::test]
    async fn new_keys_sign_when_both_their_records_are_seen() {
        let bed = Bed::sqlite();
        let store = store(&bed).await;
        new_pair(&store).await;
        let keys = public(&store).await;
        let before = "e20251121 active e20251121b waiting r20251121 active r20251121b waiting";
        let wrong = DnsRecord::dkim("x.test", &keys[3]);
        let other_key = zone(&keys[..3]).txt(&wrong.name, &DnsRecord::dkim("x.test", &keys[2]).value);
        let twice = zone(&keys).txt(&wrong.name, &wrong.value);
        for zone in [Zone::default(), zone(&keys[..3]), other_key, twice, zone(&keys[..3]).fails(&wrong.name)] {
            let found = look(zone, 1).settle(&store, "x.test").await.unwrap();
            assert!(!report(&found).good, "{found:?}");
            assert_eq!(states(&store).await, before);
        }
        let found = look(zone(&keys), 1).settle(&store, "x.test").await.unwrap();
        assert!(report(&found).good, "{found:?}");
        assert_eq!(states(&store).await, "e20251121 retired e20251121b active r20251121 retired r20251121b active");
    }

    #[tokio::test]
    async fn old_keys_are_forgotten_when_their_time_is_over_and_the_dns_has_them_no_more() {
        let bed = Bed::sqlite();
        let store = store(&bed).await;
        new_pair(&store).await;
        store.write(|tx| trust::activate(tx, "x.test", NOW)).await.unwrap();
        let keys = public(&store).await;
        let said = async |zone: Zone, days| {
            let found = look(zone, days).settle(&store, "x.test").await.unwrap();
            report(&found).text.lines().map(|line| line[..5].trim_end().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let new = || [&keys[1], &keys[3]];
        assert_eq!(said(zone(&keys), 29).await, "ok ok ok ok");
        assert_eq!(said(zone(new()), 29).await, "look ok look ok");
        assert_eq!(said(zone(&keys), 30).await, "hint ok hint ok");
        assert_eq!(public(&store).await.len(), 4);
        let fails = zone(new()).fails(&DnsRecord::dkim("x.test", &keys[0]).name);
        assert_eq!(said(fails, 30).await, "WRONG ok ok ok");
        assert_eq!(states(&store).await, "e20251121 retired e20251121b active r20251121b active");
        assert_eq!(said(zone(new()), 30).await, "ok ok ok");
        assert_eq!(states(&store).await, "e20251121b active r20251121b active");
        // Those that sign are never forgotten.
        assert_eq!(said(Zone::default(), 180).await, "WRONG WRONG");
        assert_eq!(public(&store).await.len(), 2);
        // But after half a year others are due, until they wait for the DNS.
        assert_eq!(said(zone(new()), 184).await, "ok ok hint");
        let text = report(&look(zone(new()), 184).settle(&store, "x.test").await.unwrap()).text;
        assert!(
            text.contains("sign since 2025-11-21, ") && text.ends_with("postroom domain key rotate x.test"),
            "{text}"
        );
        new_pair(&store).await;
        assert_eq!(said(zone(new()), 184).await, "WRONG ok WRONG ok look");
    }

    #[tokio::test]
    async fn a_domain_as_it_should_be_and_as_it_should_not() {
        let all = async |zone: Zone, domain: &str| {
            let look = look(zone, 0);
            let mut found = look.mail(domain, "mx.x.test", None, &[]).await;
            found.push(look.dmarc(domain).await);
            found.extend(look.tls(domain, None).await);
            report(&found).text
        };
        let good = Zone::default()
            .mx("x.test", 10, "MX.x.test")
            .txt("x.test", "some-site-verification=1")
            .txt("x.test", "v=spf1 mx -all")
            .txt("_dmarc.x.test", "v=DMARC1; p=reject")
            .txt("_smtp._tls.x.test", "v=TLSRPTv1; rua=mailto:a@x.test");
        assert_eq!(
            all(good.clone(), "x.test").await,
            "ok     MX: mail for x.test comes here\n\
             ok     SPF: the record lets mx.x.test send\n\
             ok     DMARC: p=reject\n\
             hint   MTA-STS: no policy is announced; [listen] https publishes one\n\
             ok     TLS-RPT: reports go to mailto:a@x.test"
        );
        let below = good.mx("a.b.x.test", 10, "mx.y.test").txt("a.b.x.test", "v=spf1 mx -all");
        assert_eq!(
            all(below, "a.b.x.test").await.lines().take(3).collect::<Vec<_>>(),
            [
                "WRONG  MX: mail for a.b.x.test goes to mx.y.test, not to mx.x.test",
                "WRONG  SPF: this record does not let mx.x.test send: v=spf1 mx -all",
                "ok     DMARC: p=reject, from x.test",
            ]
        );
        let nothing = all(Zone::default(), "x.test").await;
        let lines: Vec<&str> = nothing.lines().collect();
        assert_eq!(lines[0], "WRONG  MX is missing; add: x.test. IN MX 10 mx.x.test.");
        assert_eq!(lines[1], "WRONG  SPF is missing; add: x.test. IN TXT \"v=spf1 mx -all\"");
        assert!(lines[2].starts_with("WRONG  DMARC is missing; add: _dmarc.x.test. IN TXT \"v=DMARC1; "), "{nothing}");
        assert!(lines[4].starts_with("hint   TLS-RPT: "), "{nothing}");
        let silent = Zone::default().mx("x.test", 0, ".").fails("_dmarc.x.test").fails("_mta-sts.x.test");
        let lines = all(silent, "x.test").await;
        let marks: Vec<&str> = lines.lines().map(|line| line[..5].trim_end()).collect();
        assert_eq!(marks, ["WRONG", "WRONG", "WRONG", "WRONG", "hint"], "{lines}");
    }

    /// Trap 13: what is printed lets each source send, and what lets one fail is told.
    #[tokio::test]
    async fn trap_13_a_record_that_lets_our_own_sources_fail_is_told() {
        let source: [IpAddr; 2] = ["192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap()];
        let senders = source.map(|ip| Sender { source: "news".into(), ehlo: "news.x.test".into(), ip });
        let found = async |zone: Zone, senders: &[Sender]| {
            let mut found = look(zone, 0).mail("x.test", "mx.x.test", None, senders).await;
            report(&found.split_off(1)).text
        };
        let bare = Zone::default().mx("x.test", 10, "mx.x.test").ip("mx.x.test", "192.0.2.10".parse().unwrap());
        let before = found(bare.clone().txt("x.test", "v=spf1 mx -all"), &senders).await;
        let lines: Vec<&str> = before.lines().collect();
        assert_eq!(
            lines,
            [
                "ok     SPF: the record lets mx.x.test send",
                "WRONG  SPF: the record of x.test does not let news send from 192.0.2.11 (fail); add ip4:192.0.2.11 to it",
                "WRONG  SPF: the record of x.test does not let news send from 2001:db8::11 (fail); add ip6:2001:db8::11 to it",
            ]
        );
        let printed = |zone: Zone, ips: &[IpAddr]| {
            let all = DnsRecord::spf("x.test", None, ips);
            all.iter().fold(zone, |zone, record| zone.txt(&record.name, &record.value))
        };
        let lines = found(printed(bare.clone(), &source), &senders).await;
        assert!(lines.lines().all(|line| line.starts_with("ok ")), "{lines}");
        // More than one record holds.
        let ips: Vec<IpAddr> = (0..90).map(|n| IpAddr::from([198, 51, 100, n])).chain(source).collect();
        assert!(DnsRecord::spf("x.test", None, &ips).len() > 2);
        let lines = found(printed(bare.clone(), &ips), &senders).await;
        assert!(lines.lines().all(|line| line.starts_with("ok ")), "{lines}");
        // What the words of the record leave open is evaluated.
        let by_address = bare.clone().txt("x.test", "v=spf1 ip4:192.0.2.0/29 -all");
        let lines = found(by_address, &[]).await;
        assert!(
            lines.starts_with("WRONG  SPF: the record of x.test does not let mx.x.test send from 192.0.2.10"),
            "{lines}"
        );
        let by_address =
            bare.clone().txt("x.test", "v=spf1 include:y.test -all").txt("y.test", "v=spf1 a:mx.x.test -all");
        assert_eq!(
            found(by_address, &[]).await,
            "ok     SPF: the record of x.test lets mx.x.test send from 192.0.2.10"
        );
        // Nobody asks that often.
        let many = (0..11).map(|n| format!("exists:e{n}.test")).collect::<Vec<_>>().join(" ");
        let lines = found(bare.txt("x.test", &format!("v=spf1 mx {many} -all")), &senders).await;
        assert!(lines.contains("WRONG  SPF: receivers take this for an error: more than 2 terms"), "{lines}");
    }

    /// The policy is announced and fetched as others would, and each way in which that can fail is told.
    #[tokio::test]
    async fn the_policy_as_others_get_it() {
        let policy = own_policy::text(Mode::Testing, "mx.x.test");
        let record = DnsRecord::mta_sts("x.test", &own_policy::id(&policy));
        let found = async |zone: Zone| {
            let found = look(zone, 0).tls("x.test", Some((Mode::Testing, policy.clone()))).await;
            report(&found).text
        };
        let nothing = found(Zone::default()).await;
        let lines: Vec<&str> = nothing.lines().collect();
        assert!(
            lines[0].starts_with("look   MTA-STS: the policy is not announced; add: _mta-sts.x.test. IN TXT"),
            "{nothing}"
        );
        let url = "https://mta-sts.x.test/.well-known/mta-sts.txt";
        assert!(lines[1].starts_with(&format!("WRONG  MTA-STS: {url} cannot be had as others would")), "{nothing}");
        let announced = found(Zone::default().txt(&record.name, &record.value)).await;
        assert!(announced.starts_with("ok     MTA-STS: the policy "), "{announced}");
        let other = found(Zone::default().txt(&record.name, "v=STSv1; id=1;")).await;
        assert!(
            other.starts_with("WRONG  MTA-STS: another policy is announced; it should be: _mta-sts.x.test."),
            "{other}"
        );
    }
}
