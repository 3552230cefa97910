//! Workers: each connects to one hop and sends what stands in its line, one mail after another, until there is no more for
//! a while. A worker never waits for the store to write: what came of a mail goes to the recorder.

use std::sync::Arc;
use std::time::Duration;

use base::Reply;
use queue::{Message, Outcome, Said};
use smtp::{Mail, Rcpt, Recipient};
use store::BlobReader;

use crate::connection::{Connection, Letter, NoWay, Sent, Terms, Tls};
use crate::hops::Work;
use crate::outbox::Inner;
use crate::route::{self, Hop, Target, To};

/// How long a connection is kept for the next mail.
const IDLE: Duration = Duration::from_secs(5);
/// RFC 8314 §3.3
const SUBMISSIONS: u16 = 465;

/// Starts a worker for a hop; it has been counted already.
pub(crate) fn start(inner: &Arc<Inner>, hop: Hop) {
    let inner = inner.clone();
    tokio::spawn(async move {
        let connected = work(&inner, &hop).await;
        for next in inner.hops.leave(&hop, connected) {
            start(&inner, next);
        }
        inner.left.notify_one();
    });
}

/// Gives whether there was a connection.
async fn work(inner: &Arc<Inner>, hop: &Hop) -> bool {
    match connect(inner, hop).await {
        Ok(connection) => {
            inner.hops.connected(hop);
            serve(inner, hop, connection).await;
            true
        }
        // What stands in line is given back by who stops.
        Err(_) if inner.is_stopping() => false,
        Err(said) => {
            tracing::info!(%hop, host = said.host, reply = %said.reply, "no connection");
            for work in inner.hops.unreachable(hop) {
                inner.settle_all(work, &said);
            }
            false
        }
    }
}

/// A connection to the first host of the hop that gives one.
///
/// # Errors
/// What all mail for the hop is answered, for now or for good.
async fn connect(inner: &Inner, hop: &Hop) -> Result<Connection, Said> {
    let ours = |reply| Said { reply, host: String::new() };
    let random = || inner.random();
    let resolver = if hop.require_tls { &inner.validating } else { &inner.resolver };
    let targets = route::targets(&inner.routes, hop, resolver, &inner.hostname, random).await.map_err(ours)?;
    let mut failure: Option<Said> = None;
    for target in &targets {
        if inner.is_stopping() {
            return Err(ours(Reply::new(451, 3, 2, "The server is stopping")));
        }
        let reply = match open(inner, hop, target).await {
            Ok(connection) => return Ok(connection),
            Err(reply) => reply,
        };
        // Of several hosts, one that may take it later counts.
        if failure.as_ref().is_none_or(|f| !f.reply.is_transient()) {
            failure = Some(Said { reply, host: target.host.clone() });
        }
    }
    let nobody = || ours(Reply::new(451, 4, 4, "There is no host to connect to"));
    let mut said = failure.unwrap_or_else(nobody);
    if !said.reply.is_transient() && !matches!(hop.to, To::Domain(_)) {
        // The administrator chose this way: what is wrong with it is not the mail's fault.
        said.reply = Reply::new(451, 7, 0, format!("{} answers: {}", said.host, said.reply));
    }
    Err(said)
}

async fn open(inner: &Inner, hop: &Hop, target: &Target) -> Result<Connection, Reply> {
    let terms = terms(inner, hop);
    match Connection::open(&inner.dialer, target, &terms).await {
        Ok(connection) => Ok(connection),
        Err(NoWay::Refused(reply)) => Err(reply),
        Err(NoWay::Ourselves) => Err(route::to_ourselves()),
        Err(NoWay::TlsFailed(reply)) => {
            // RFC 7435 §3: no TLS is no worse than what we would have done without the offer; on a new connection, as this
            // one is in an unknown state.
            tracing::info!(%hop, host = target.host, %reply, "trying without TLS");
            match Connection::open(&inner.dialer, target, &Terms { tls: Tls::Never, ..terms }).await {
                Ok(connection) => Ok(connection),
                Err(NoWay::Refused(reply) | NoWay::TlsFailed(reply)) => Err(reply),
                Err(NoWay::Ourselves) => Err(route::to_ourselves()),
            }
        }
    }
}

fn terms<'a>(inner: &'a Inner, hop: &Hop) -> Terms<'a> {
    let hostname = &inner.hostname;
    let smarthost = inner.routes.smarthost.as_ref().filter(|_| hop.to == To::Smarthost);
    let login = smarthost.and_then(|s| s.login.as_ref());
    let tls = match (smarthost, login) {
        (Some(s), _) if hop.require_tls && s.address.port == SUBMISSIONS => Tls::First(&inner.verified),
        // RFC 8689 §4.2.1
        _ if hop.require_tls => Tls::Demanded(&inner.verified),
        (Some(s), None) if s.address.port == SUBMISSIONS => Tls::First(&inner.opportunistic),
        (Some(s), Some(_)) if s.address.port == SUBMISSIONS => Tls::First(&inner.verified),
        // On this machine nobody listens in, and certificates rarely fit.
        (Some(s), Some(_)) if s.address.host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()) => {
            Tls::IfOffered(&inner.opportunistic)
        }
        (Some(_), Some(_)) => Tls::Demanded(&inner.verified),
        _ => Tls::IfOffered(&inner.opportunistic),
    };
    let login = login.map(|(user, password)| (user.as_str(), password.as_str()));
    Terms { hostname, tls, require_tls: hop.require_tls, login, not_ourselves: matches!(hop.to, To::Domain(_)) }
}

async fn serve(inner: &Arc<Inner>, hop: &Hop, mut connection: Connection) {
    while let Some(work) = next(inner, hop, &mut connection).await {
        attempt(inner, hop, &mut connection, work).await;
    }
    connection.close().await;
}

/// The next mail for this connection; waits a little for one.
async fn next(inner: &Inner, hop: &Hop, connection: &mut Connection) -> Option<Work> {
    loop {
        // Trap 21: while outcomes cannot be written, nothing more is sent.
        inner.until_not_held().await;
        if inner.is_stopping() || connection.is_spent() {
            return None;
        }
        let bell = match inner.hops.take_or_rest(hop, connection.max_recipients()) {
            Ok(work) => return Some(work),
            Err(bell) => bell,
        };
        let go_on = tokio::select! {
            () = bell.notified() => true,
            () = connection.wait_for_end() => false,
            () = tokio::time::sleep(IDLE) => false,
            () = inner.stopped() => false,
        };
        inner.hops.wake(hop);
        if !go_on {
            return None;
        }
    }
}

/// The bytes of a message. It was claimed a while ago, and they may have been moved since.
async fn bytes(inner: &Inner, m: &Message) -> store::Result<BlobReader> {
    let (id, store) = (m.id, inner.store.clone());
    match inner.store.blob(m.blob) {
        Ok(blob) => Ok(blob),
        Err(e) => match inner.store.read(move |tx| queue::blob(tx, id)?.map(|b| store.blob(b)).transpose()).await? {
            Some(blob) => Ok(blob),
            None => Err(e),
        },
    }
}

async fn attempt(inner: &Arc<Inner>, hop: &Hop, connection: &mut Connection, work: Work) {
    let m = &work.message;
    let blob = match bytes(inner, m).await {
        Ok(blob) => blob,
        Err(error) => {
            tracing::error!(queue = %m.id, %error, "a message in the queue cannot be read");
            let reply = Reply::new(451, 3, 0, "Our store did not give the message");
            return inner.settle_all(work, &Said { reply, host: String::new() });
        }
    };
    let mail = Mail {
        from: m.from.clone(),
        size: Some(m.octets),
        body: m.body,
        smtputf8: m.smtputf8,
        require_tls: m.require_tls,
        ret: m.ret,
        envelope_id: m.envelope_id.clone(),
        auth: None,
    };
    let rcpt = |d: &queue::Delivery| Rcpt {
        to: Recipient::Mailbox(d.to.clone()),
        notify: d.notify,
        original: d.original.clone(),
    };
    let rcpts = work.deliveries.iter().map(rcpt).collect();
    match connection.send(Letter { mail, rcpts, prefix: &m.prefix, blob: &blob }).await {
        // Trap 30: what the host lacks is not left out of the mail.
        Err(unable) => inner.settle_all(work, &Said { reply: unable.reply(), host: connection.host().to_owned() }),
        Ok(sent) if sent.untouched && !work.again => inner.hops.give_back(hop, work),
        Ok(sent) => settle(inner, hop, connection, work, sent),
    }
}

fn settle(inner: &Arc<Inner>, hop: &Hop, connection: &Connection, work: Work, sent: Sent) {
    if let Some(error) = sent.unreadable {
        tracing::error!(queue = %work.message.id, %error, "a message in the queue cannot be read");
    }
    let mut delivered = false;
    for (delivery, verdict) in work.deliveries.into_iter().zip(sent.verdicts) {
        let (yes, transient) = (verdict.is_delivered(), verdict.is_transient());
        let said = Said { reply: verdict.reply, host: connection.host().to_owned() };
        if yes {
            delivered = true;
            inner.settle(&work.message, delivery, Outcome::Delivered { reports: connection.reports() }, said);
        } else {
            inner.settle_failure(&work.message, delivery, said, transient);
        }
    }
    if delivered && inner.hops.succeeded(hop) {
        start(inner, hop.clone());
    }
}
