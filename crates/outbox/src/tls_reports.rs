//! Tells domains what came of TLS with their hosts (RFC 8460): once a day, those that ask for it. By mail of our own, which no
//! policy keeps back and of which nothing is counted (§3, trap 17), or by HTTPS.

use std::sync::Arc;
use std::time::Duration;

use base::{Address, BlobId, OrganisationId, Stream};
use net::{Deadline, DnsError, Https};
use queue::{Fate, NewDelivery, NewMessage};
use smtp::BodyType;
use store::{Class, Lane, Tx};
use tokio::time::sleep;
use trust::Digest;
use trust::tls_report::{self, Reader, Report, Sessions};

use crate::outbox::Inner;

/// From one look for what is to be told to the next.
const ROUND: Duration = Duration::from_secs(600);
/// After a day's end, reports go out over so many milliseconds, lest all servers send theirs at midnight (§4.1).
const SPREAD: u64 = 4 * 3600 * 1000;
/// So long after a day its report is tried.
const TRIED: i64 = 48 * 3600 * 1000;
/// Domains that are told in one round.
const AT_ONCE: i64 = 500;
const DNS: Duration = Duration::from_secs(10);
const POST: Duration = Duration::from_secs(30);

/// Until the server stops.
pub(crate) async fn run(inner: Arc<Inner>, https: Https) {
    loop {
        tokio::select! {
            () = sleep(ROUND) => {}
            () = inner.stopped() => return,
        }
        tokio::select! {
            () = round(&inner, &https) => {}
            () = inner.stopped() => return,
        }
    }
}

async fn round(inner: &Inner, https: &Https) {
    let today = tls_report::day_of(inner.clock.now());
    let untold = match inner.store.read(move |tx| tls_report::untold(tx, today, AT_ONCE)).await {
        Ok(untold) => untold,
        Err(error) => return tracing::warn!(%error, "what is to be told of TLS cannot be read"),
    };
    for (day, domain) in untold {
        if inner.clock.now().0 < tls_report::end_of(day).0 + offset(&domain) {
            continue;
        }
        if let Err(why) = tell(inner, https, day, &domain).await {
            tracing::warn!(domain, why, "the domain could not be told what came of TLS with its hosts");
            if inner.clock.now().0 > tls_report::end_of(day).0 + TRIED {
                forget(inner, day, &domain).await;
            }
        }
    }
}

/// Each domain has its own moment.
fn offset(domain: &str) -> i64 {
    let hash = domain.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash % SPREAD) as i64
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
    let (mut failure, mut mails) = (None, Vec::new());
    for reader in readers {
        match reader {
            Reader::Mail(to) => mails.push((report.mail(&to, inner.clock.now()).map_err(|e| e.to_string())?, to)),
            Reader::Https(url) => {
                let body = report.gzip().map_err(|e| e.to_string())?;
                match https.post(&url, tls_report::MEDIA, body, Deadline::after(POST)).await {
                    Ok(answer) if (200..300).contains(&answer.status) => failure = failure.or(Some(None)),
                    Ok(answer) => failure = Some(Some(format!("{url} answers {}", answer.status))),
                    Err(error) => failure = Some(Some(format!("{url}: {error}"))),
                }
            }
        }
    }
    // Told by one way it is told; else another round tries again.
    if let (true, Some(Some(why))) = (mails.is_empty(), failure) {
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
        for ((id, prefix, octets, to), blob) in news.iter().zip(blobs) {
            let new = NewMessage {
                id: *id,
                // Nobody is told when it does not arrive.
                from: None,
                prefix: prefix.as_bytes(),
                blob: *blob,
                octets: (prefix.len() + octets) as u64,
                envelope_id: None,
                ret: None,
                body: BodyType::SevenBit,
                smtputf8: !to.is_ascii(),
                require_tls: false,
                tls_optional: true,
                account: None,
                organisation: OrganisationId::HOUSE,
                stream: Stream::Mail,
                created: now,
                priority: 0,
                release: None,
                deliver_by: None,
                expires: None,
                message_id: None,
            };
            let delivery = NewDelivery { to: to.clone(), notify: None, original: None, fate: Fate::Open };
            queue::enqueue(tx, &new, &[delivery])?;
        }
        tls_report::told(tx, day, &name)
    };
    inner.store.write_with(Lane::Bulk, staged, job).await.map_err(|e| e.to_string())
}
