//! DANE on the way out (RFC 7672): for mail hosts that DNSSEC proves, what the DNS says of their certificates. And whether
//! this server's resolver can prove anything at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::Reply;
use net::{Answer, Dane, Deadline, DnsError, Resolver};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::guard::Guard;
use crate::outbox::Inner;

/// How long the first mails wait to hear whether the resolver validates, and how long later tries do.
const AT_START: Duration = Duration::from_secs(3);
const LATER: Duration = Duration::from_secs(10);
/// From one try to the next.
const EVERY: Duration = Duration::from_secs(60);

/// Whether the resolver validates. Once it does it is relied upon: whoever can take that away would get mail in the clear.
#[derive(Default)]
pub(crate) struct Proof {
    is: AtomicBool,
    tried: OnceCell<()>,
}

impl Proof {
    pub(crate) fn is_to_be_had(&self) -> bool {
        self.is.load(Ordering::Relaxed)
    }
}

/// Waits until it was tried whether the resolver validates: before that, no way is asked of it.
pub(crate) async fn begun(inner: &Inner) {
    inner.proof.tried.get_or_init(|| begin(inner)).await;
}

/// Tries for the first time, and says loudly when the resolver does not validate.
async fn begin(inner: &Inner) {
    if let Err(why) = try_it(inner, AT_START).await {
        tracing::warn!(
            why,
            "the DNS resolver does not validate (DNSSEC): DANE protects no mail until it does; see postroom doctor"
        );
    }
}

/// Tries until the resolver validates, or the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    // Where a smart host sends for us nobody else's certificates matter.
    if inner.routes.smarthost.is_some() {
        return;
    }
    tokio::select! {
        () = begun(&inner) => {}
        () = inner.stopped() => return,
    }
    while !inner.proof.is_to_be_had() {
        tokio::select! {
            () = sleep(EVERY) => {}
            () = inner.stopped() => return,
        }
        if try_it(&inner, LATER).await.is_ok() {
            tracing::info!("the DNS resolver validates (DNSSEC): DANE protects mail from now on");
        }
    }
}

async fn try_it(inner: &Inner, patience: Duration) -> Result<(), String> {
    match inner.validating.validates(Deadline::after(patience)).await {
        Ok(true) => {
            inner.proof.is.store(true, Ordering::Relaxed);
            Ok(())
        }
        Ok(false) => Err("it does not pass on what proves the DNS's root".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a mail host has to prove by the DNS; None: nothing. `addresses` are its own, looked up with validation.
///
/// # Errors
/// The reply for mail to that host: the DNS does not say what it has to prove, and so it is not asked for less (§2.1).
pub(crate) async fn guard(
    host: &str,
    port: u16,
    addresses: &Answer<IpAddr>,
    resolver: &Resolver,
    deadline: Deadline,
) -> Result<Option<Guard>, Reply> {
    for base in bases(host, addresses) {
        let records = match resolver.tlsa(base, port, deadline).await {
            Ok(answer) if answer.secure => answer.records,
            // §2.2: what is not proven is not there.
            Ok(_) | Err(DnsError::NoSuchName | DnsError::NoData | DnsError::BadName) => continue,
            Err(error @ DnsError::Transient(_)) => {
                let text = format!(
                    "The DNS does not say what the certificate of {host} has to be (TLSA, _{port}._tcp.{base}): {error}. The \
                     administrator of {base}'s DNS can mend it"
                );
                return Err(Reply::new(451, 7, 5, text));
            }
        };
        let records: Vec<_> = records.into_iter().filter(net::Tlsa::is_usable).collect();
        if records.is_empty() {
            return Ok(Some(Guard::Encrypted));
        }
        // §3.2.2; not the recipient's domain, as its hosts are shared with others.
        let mut names = vec![base.to_owned()];
        names.extend((host != base).then(|| host.to_owned()));
        return Ok(Some(Guard::Dane(Arc::new(Dane { base: base.to_owned(), names, records }))));
    }
    Ok(None)
}

/// Names below which TLSA records may stand, the first that has any counts (§2.2.2): where a host's aliases lead, if all of
/// that is proven, then its own name.
fn bases<'a>(host: &'a str, addresses: &'a Answer<IpAddr>) -> Vec<&'a str> {
    match (addresses.secure, addresses.alias) {
        (true, None) => vec![host],
        (true, Some(_)) => vec![&addresses.name, host],
        // The aliases lead out of what is proven, the first of them not.
        (false, Some(true)) => vec![host],
        (false, _) => Vec::new(),
    }
}
