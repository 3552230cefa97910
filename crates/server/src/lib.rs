//! Sessions: a wire machine bound to the domain. One task a connection: read, step the machine, answer its events out of
//! the directory, the mailboxes and ingress, write.
//!
//! Floor 5. The protocols' rules are the machines' (`smtp`, `imap`, `pop3`); what a mail or an account is, the floors below
//! know. What is here is the conversation: who may say what, with which deadline, and how an answer is put together.

mod conn;
mod counters;
mod imap;
mod patience;
mod pop3;
mod sign_in;
mod smtp;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use directory::Directory;
use ingress::Ingress;
use mailbox::Mailboxes;
use net::{Cidr, Stream, Tls};

pub use counters::{Count, Counters, ServiceCounts};
pub use smtp::Role;

/// What every session needs. One for the whole server.
pub struct Services {
    /// Who is who.
    pub directory: Directory,
    /// Mailboxes.
    pub mailboxes: Mailboxes,
    /// The way in.
    pub ingress: Ingress,
    /// Our certificates.
    pub tls: Tls,
    /// Our name in greetings.
    pub hostname: String,
    /// Networks that may relay without signing in.
    pub trusted: Vec<Cidr>,
    /// Sign-in without TLS is allowed from loopback.
    pub clear_on_loopback: bool,
    /// SCRAM is offered, for app passwords.
    pub scram: bool,
    /// The largest mail, octets.
    pub max_message: u64,
    /// What sessions count.
    pub counters: Arc<Counters>,
    /// Tells sessions to end.
    pub stopping: tokio::sync::watch::Receiver<bool>,
}

impl Services {
    fn is_trusted(&self, from: &Stream) -> bool {
        known_ip(from).is_some_and(|ip| self.trusted.iter().any(|net| net.contains(ip)))
    }

    /// Who is no stranger: a trusted network, or this machine.
    fn is_near(&self, from: &Stream) -> bool {
        let local = |ip: IpAddr| ip.to_canonical().is_loopback();
        from.peer().is_none() || known_ip(from).is_some_and(local) || self.is_trusted(from)
    }

    /// Passwords travel in the clear only within this machine, and only by setting.
    fn clear_sign_in(&self, from: &Stream) -> bool {
        self.clear_on_loopback && known_ip(from).is_some_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// The peer's address, where that is its own: a proxy that does not say for whom it speaks lends nobody its trust.
fn known_ip(stream: &Stream) -> Option<IpAddr> {
    stream.peer().filter(|_| !stream.is_veiled()).map(|peer| peer.ip())
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// SMTP or LMTP, in a role.
    Smtp(Role),
    /// POP3.
    Pop3,
    /// IMAP.
    Imap,
}

impl Service {
    fn counts(self, counters: &Counters) -> &ServiceCounts {
        match self {
            Service::Smtp(Role::Lmtp) => &counters.lmtp,
            Service::Smtp(Role::Mx | Role::Submission) => &counters.smtp,
            Service::Pop3 => &counters.pop3,
            Service::Imap => &counters.imap,
        }
    }
}

/// A connection that is counted as open until it is dropped, however it ends.
struct Open<'a>(&'a Count);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.down();
    }
}

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Serves one connection to its end. `tls`: TLS from the first octet (465, 993, 995).
pub async fn serve(services: Arc<Services>, service: Service, tls: bool, stream: Stream) {
    let counters = services.counters.clone();
    let counts = service.counts(&counters);
    counts.connections.up();
    counts.open.up();
    let _open = Open(&counts.open);
    let stream = if tls {
        let handshake = stream.upgrade(&services.tls, &[], net::Deadline::after(HANDSHAKE));
        match handshake.await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(%error, "TLS handshake failed"),
        }
    } else {
        stream
    };
    let peer = stream.peer();
    let outcome = match service {
        // Boxed: a task is as large as its own session, not as the largest there is.
        Service::Smtp(role) => Box::pin(smtp::serve(services, role, stream)).await,
        Service::Pop3 => Box::pin(pop3::serve(services, stream)).await,
        Service::Imap => Box::pin(imap::serve(services, stream)).await,
    };
    if let Err(error) = outcome {
        tracing::debug!(?service, ?peer, %error, "connection ended");
    }
}
