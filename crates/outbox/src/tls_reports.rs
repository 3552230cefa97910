//! Tells domains what came of TLS with their hosts (RFC 8460): once a day, those that ask for it. By mail of our own, which no
//! policy keeps back and of which nothing is counted (§3, trap 17), or by HTTPS.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Address, BlobId, Timestamp};
use net::{Deadline, DnsError, Https};
use queue::{Fate, NewDelivery, NewMessage};
use store::{Class, Lane, Tx};
use tokio::task::JoinSet;
use tokio::time::sleep;
use trust::Digest;
use trust::tls_report::{self, Reader, Report, Sessions};

use crate::outbox::Inner;

/// From one look for what is to be told to the next.
const ROUND: Duration = Duration::from_secs(600);
/// So long after a day's end all of it is written down, whatever the clocks of several servers say.
const WRITTEN: i64 = 5 * 60 * 1000;
/// After that, reports go out over so many milliseconds, lest all servers send theirs at midnight (§4.1).
const SPREAD: u64 = 4 * 3600 * 1000;
/// So long after a day its report is tried, and so long after a try that told nobody.
const TRIED: i64 = 48 * 3600 * 1000;
const AGAIN: i64 = 2 * 3600 * 1000;
/// Domains that are looked at in one piece, and that are told at once: a slow reader keeps few others back.
const PIECE: i64 = 500;
const AT_ONCE: usize = 20;
/// How long the DNS may take, and each of a domain's readers, of whom there are five.
const DNS: Duration = Duration::from_secs(10);
const POST: Duration = Duration::from_secs(10);

/// A day, and a domain that is to be told about it.
type Untold = (i64, String);

/// Until the server stops.
pub(crate) async fn run(inner: Arc<Inner>, https: Https) {
    // Nobody could be told of these; when they are tried again.
    let mut failed = HashMap::new();
    loop {
        tokio::select! {
            () = sleep(ROUND) => {}
            () = inner.stopped() => return,
        }
        tokio::select! {
            () = round(&inner, &https, &mut failed) => {}
            () = inner.stopped() => return,
        }
    }
}

async fn round(inner: &Arc<Inner>, https: &Https, failed: &mut HashMap<Untold, Timestamp>) {
    let now = inner.clock.now();
    let today = tls_report::day_of(now);
    failed.retain(|_, again| *again > now);
    let mut last: Untold = (0, String::new());
    loop {
        let job = move |tx: &mut Tx<'_>| tls_report::untold(tx, today, (last.0, &last.1), PIECE);
        let untold = match inner.store.read(job).await {
            Ok(untold) => untold,
            Err(error) => return tracing::warn!(%error, "what is to be told of TLS cannot be read"),
        };
        let Some(end) = untold.last().cloned() else { return };
        last = end;
        let is_due = |(day, domain): &Untold| now.0 >= tls_report::end_of(*day).0 + offset(domain);
        let due = untold.into_iter().filter(|untold| is_due(untold) && !failed.contains_key(untold)).collect();
        for (untold, why) in tell_all(inner, https, due).await {
            let (day, domain) = &untold;
            tracing::warn!(domain, why, "the domain could not be told what came of TLS with its hosts");
            if now.0 > tls_report::end_of(*day).0 + TRIED {
                forget(inner, *day, domain).await;
            } else {
                failed.insert(untold, Timestamp(now.0 + AGAIN));
            }
        }
    }
}

/// Tells some domains, several at once; gives those that could not be told, and why.
async fn tell_all(inner: &Arc<Inner>, https: &Https, due: Vec<Untold>) -> Vec<(Untold, String)> {
    let (mut telling, mut failed) = (JoinSet::new(), Vec::new());
    let mut due = due.into_iter();
    loop {
        while telling.len() < AT_ONCE
            && let Some((day, domain)) = due.next()
        {
            let (inner, https) = (inner.clone(), https.clone());
            telling.spawn(async move {
                let told = tell(&inner, &https, day, &domain).await;
                told.map_err(|why| ((day, domain), why))
            });
        }
        match telling.join_next().await {
            Some(told) => failed.extend(told.ok().and_then(Result::err)),
            None => return failed,
        }
    }
}

/// Each domain has its own moment.
fn offset(domain: &str) -> i64 {
    let hash = domain.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    WRITTEN + (hash % SPREAD) as i64
}

async fn forget(inner: &Inner, day: i64, domain: &str) {
    let name = domain.to_owned();
    if let Err(error) = inner.store.write(move |tx| tls_report::told(tx, day, &name)).await {
        tracing::warn!(%error, domain, "what the domain was told cannot be forgotten");
    }
}

/// Tells a domain about a day, if it wants to hear.
///
/// # Errors
/// Why nobody was told; it may go better later.
async fn tell(inner: &Inner, https: &Https, day: i64, domain: &str) -> Result<(), String> {
    let readers = match inner.dns().txt(&tls_report::record_name(domain), Deadline::after(DNS)).await {
        Ok(found) => tls_report::readers(&found.records),
        Err(error @ DnsError::Transient(_)) => return Err(error.to_string()),
        Err(_) => Vec::new(),
    };
    let Some(contact) = contact(inner).await?.filter(|_| !readers.is_empty()) else {
        forget(inner, day, domain).await;
        return Ok(());
    };
    let name = domain.to_owned();
    let sessions = inner.store.read(move |tx| tls_report::of(tx, day, &name)).await.map_err(|e| e.to_string())?;
    let (hostname, random) = (inner.hostname.as_str(), inner.random());
    let report = Report { hostname, contact: &contact, domain, day, random, sessions: &sessions };
    let (mut posted, mut failure, mut mails) = (false, None, Vec::new());
    for reader in readers {
        match reader {
            Reader::Mail(to) => mails.push((report.mail(&to, inner.clock.now()).map_err(|e| e.to_string())?, to)),
            Reader::Https(url) => {
                let body = report.gzip().map_err(|e| e.to_string())?;
                match https.post(&url, tls_report::MEDIA, body, Deadline::after(POST)).await {
                    Ok(answer) if (200..300).contains(&answer.status) => posted = true,
                    Ok(answer) => failure = Some(format!("{url} answers {}", answer.status)),
                    Err(error) => failure = Some(format!("{url}: {error}")),
                }
            }
        }
    }
    // Told by one way it is told: whoever had it is not to have it again. Else another round tries.
    if let (true, false, Some(why)) = (mails.is_empty(), posted, failure) {
        return Err(why);
    }
    let (good, bad): (Vec<u64>, Vec<u64>) = sessions.iter().map(|Sessions { good, bad, .. }| (*good, *bad)).unzip();
    let (good, bad) = (good.iter().sum::<u64>(), bad.iter().sum::<u64>());
    tracing::info!(domain, good, bad, mails = mails.len(), "told the domain what came of TLS with its hosts");
    send(inner, &contact, mails, day, domain).await
}

/// In whose name we report: postmaster of the domain of ours in which this server is, else of the first.
async fn contact(inner: &Inner) -> Result<Option<Address>, String> {
    let domains = inner.store.read(directory::domains).await.map_err(|e| e.to_string())?;
    let has = |name: &str| inner.hostname.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let ours = domains.iter().find(|domain| has(&domain.name)).or(domains.first());
    Ok(ours.and_then(|domain| Address::new("postmaster", &domain.name).ok()))
}

/// Puts the mails into the queue, in the commit that forgets what they tell.
async fn send(
    inner: &Inner,
    contact: &Address,
    mails: Vec<(String, Address)>,
    day: i64,
    domain: &str,
) -> Result<(), String> {
    let (now, mut staged, mut news) = (inner.clock.now(), Vec::new(), Vec::new());
    for (body, to) in mails {
        let mut digest = Digest::new();
        digest.push(body.as_bytes());
        // RFC 8460 §3: what is not signed is not believed.
        let signatures = inner.keys.sign(contact.domain(), digest, now).await.map_err(|e| e.to_string())?;
        let received = format!("Received: by {} (Postroom); {}\r\n", inner.hostname, now.rfc5322());
        let mut stager = inner.store.stager(Class::Transit);
        stager.push(body.as_bytes()).map_err(|e| e.to_string())?;
        staged.push(stager.finish());
        news.push((inner.queue.next_id(), format!("{signatures}{received}"), body.len(), to));
    }
    let name = domain.to_owned();
    let job = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
        tls_report::told(tx, day, &name)?;
        for ((id, prefix, octets, to), blob) in news.iter().zip(blobs) {
            // From `<>`: nobody is told when it does not arrive.
            let new = NewMessage {
                prefix: prefix.as_bytes(),
                smtputf8: !to.is_ascii(),
                tls_optional: true,
                ..NewMessage::new(*id, *blob, (prefix.len() + octets) as u64, now)
            };
            let delivery = NewDelivery { to: to.clone(), notify: None, original: None, fate: Fate::Open };
            queue::enqueue(tx, &new, &[delivery])?;
        }
        Ok(())
    };
    inner.store.write_with(Lane::Bulk, staged, job).await.map_err(|e| e.to_string())
}
