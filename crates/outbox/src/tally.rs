//! What came of TLS with hosts of domains that have a policy (RFC 8460): counted in memory, written down every minute, so that
//! no connection waits for the store. A crash loses a minute of it.
//!
//! What goes by no policy is not counted, and so neither are the connections that carry our own reports (trap 17).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::BlobId;
use net::{CertFault, Trust};
use store::{Lane, Tx};
use tokio::time::sleep;
use trust::mta_sts::{Mode, Policy};
use trust::tls_report::{self, Applied, Failure, Kind, ResultType, Sessions};

use crate::connection::TlsFault;
use crate::guard::Guard;
use crate::outbox::Inner;
use crate::route::{Hop, Target};
use crate::sts::Sts;

/// How long counts are kept in memory.
const WRITTEN: Duration = Duration::from_secs(60);
/// Policies of domains that are counted at once, and kinds of failures of each; what is beyond is not counted.
const COUNTED: usize = 10_000;
const KINDS: usize = 100;
/// Rows that are written in one job, and those of one policy more.
const ROWS: usize = 100;
/// Octets of a reason.
const WHY: usize = 300;

/// A domain's day, and the policy that was applied.
type Key = (i64, String, Applied);

#[derive(Default)]
pub(crate) struct Tally(Mutex<HashMap<Key, Counts>>);

#[derive(Default)]
struct Counts {
    good: u64,
    bad: u64,
    failures: HashMap<Failure, u64>,
}

/// How a session failed, and more about it.
type Fault = (ResultType, String);

impl Tally {
    fn count(&self, key: Key, fault: Option<Failure>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED && !all.contains_key(&key) {
            return;
        }
        let counts = all.entry(key).or_default();
        let Some(failure) = fault else {
            counts.good += 1;
            return;
        };
        counts.bad += 1;
        if counts.failures.len() < KINDS || counts.failures.contains_key(&failure) {
            *counts.failures.entry(failure).or_default() += 1;
        }
    }
}

/// A session with a host came to this: None is as the policy wants it.
pub(crate) fn session(inner: &Inner, hop: &Hop, target: &Target, sender: Option<IpAddr>, fault: Option<Fault>) {
    let applied = match (&target.guard, &hop.sts) {
        (Guard::Dane(dane), _) => {
            let lines = dane.records.iter().map(ToString::to_string).collect();
            Applied { kind: Kind::Tlsa, name: dane.base.clone(), lines, hosts: vec![target.host.clone()] }
        }
        (Guard::Encrypted, _) => {
            let host = target.host.clone();
            Applied { kind: Kind::Tlsa, name: host.clone(), lines: Vec::new(), hosts: vec![host] }
        }
        (_, Some(sts)) => by_sts(sts),
        _ => return,
    };
    let failure = fault.map(|fault| Failure {
        ip: target.ip.to_string(),
        sender: sender.map_or(String::new(), |ip| ip.to_string()),
        ..failure(&target.host, fault)
    });
    let day = tls_report::day_of(inner.clock.now());
    let domains = match &hop.sts {
        Some(sts) => vec![sts.domain.clone()],
        None => inner.hops.domains(hop),
    };
    for domain in domains {
        inner.tally.count((day, domain, applied.clone()), failure.clone());
    }
}

/// Mail hosts that an enforced policy does not name were passed over.
pub(crate) fn unnamed(inner: &Inner, sts: &Sts, host: &str) {
    let fault = (ResultType::ValidationFailure, "the policy does not name the host".to_owned());
    let key = (tls_report::day_of(inner.clock.now()), sts.domain.clone(), by_sts(sts));
    inner.tally.count(key, Some(failure(host, fault)));
}

/// A domain announces a policy that cannot be had, and none is known.
pub(crate) fn unfetched(inner: &Inner, domain: &str, why: &str) {
    let applied = Applied { kind: Kind::Sts, name: String::new(), lines: Vec::new(), hosts: Vec::new() };
    let key = (tls_report::day_of(inner.clock.now()), domain.to_owned(), applied);
    inner.tally.count(key, Some(failure("", (ResultType::StsPolicyFetchError, why.to_owned()))));
}

/// How a session that is tested, not enforced, would have failed.
pub(crate) fn tested(sts: &Sts, host: &str, trust: Option<&Trust>) -> Option<Fault> {
    match trust {
        _ if !sts.policy.names(host) => {
            Some((ResultType::ValidationFailure, "the policy does not name the host".to_owned()))
        }
        None => Some(fault(TlsFault::NotOffered, "")),
        Some(Trust::Untrusted(bad)) => Some(fault(TlsFault::Certificate(bad.fault), &bad.why)),
        Some(Trust::Verified) => None,
    }
}

/// As reports name it.
pub(crate) fn fault(fault: TlsFault, why: &str) -> Fault {
    let result = match fault {
        TlsFault::NotOffered => ResultType::StartTlsNotSupported,
        TlsFault::Certificate(CertFault::OtherName) => ResultType::CertificateHostMismatch,
        TlsFault::Certificate(CertFault::Expired) => ResultType::CertificateExpired,
        TlsFault::Certificate(CertFault::NotTrusted) => ResultType::CertificateNotTrusted,
        TlsFault::Certificate(CertFault::Other) | TlsFault::OurCertificate | TlsFault::Handshake => {
            ResultType::ValidationFailure
        }
    };
    (result, why.to_owned())
}

fn failure(host: &str, (result, why): Fault) -> Failure {
    let why = why[..why.floor_char_boundary(WHY)].replace(char::is_control, " ");
    Failure { result, host: host.to_owned(), ip: String::new(), sender: String::new(), why }
}

fn by_sts(sts: &Sts) -> Applied {
    let Policy { mode, max_age, hosts } = &sts.policy;
    let mut lines = vec!["version: STSv1".to_owned(), format!("mode: {}", mode.word())];
    lines.extend(hosts.iter().map(|host| format!("mx: {host}")));
    lines.push(format!("max_age: {}", max_age.as_secs()));
    Applied { kind: Kind::Sts, name: sts.id.clone(), lines, hosts: hosts.clone() }
}

/// Whether a hop's sessions are tested only.
pub(crate) fn is_tested(hop: &Hop, target: &Target) -> bool {
    target.guard == Guard::Open && hop.sts.as_ref().is_some_and(|sts| sts.policy.mode == Mode::Testing)
}

/// Writes counts down every minute, until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        tokio::select! {
            () = sleep(WRITTEN) => write(&inner).await,
            () = inner.stopped() => return,
        }
    }
}

/// Writes down what was counted.
pub(crate) async fn write(inner: &Inner) {
    let all = std::mem::take(&mut *inner.tally.0.lock().unwrap_or_else(PoisonError::into_inner));
    if all.is_empty() {
        return;
    }
    let sessions: Vec<_> = all
        .into_iter()
        .map(|((day, domain, applied), Counts { good, bad, failures })| {
            (day, domain, Sessions { applied, good, bad, failures: failures.into_iter().collect() })
        })
        .collect();
    // A job is short, whatever a minute brought.
    let mut rows = 0;
    let pieces = sessions.chunk_by(|_, (_, _, next)| {
        rows += 1 + next.failures.len();
        let fits = rows < ROWS;
        rows = if fits { rows } else { 0 };
        fits
    });
    for some in pieces {
        let some = some.to_vec();
        let job = move |tx: &mut Tx<'_>, _: &[BlobId]| {
            some.iter().try_for_each(|(day, domain, sessions)| tls_report::add(tx, *day, domain, sessions))
        };
        if let Err(error) = inner.store.write_with(Lane::Bulk, Vec::new(), job).await {
            tracing::warn!(%error, "what came of TLS cannot be written down; reports about it will lack it");
        }
    }
}
