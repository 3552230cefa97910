//! What is said on a connection, noted for the receipts: each reply with its time.

use std::net::SocketAddr;
use std::sync::Arc;

use base::{Clock, Enhanced, Reply, Timestamp};
use bounce::{Classifier, Input, Known};
use net::{Stream, Trust};
use queue::receipt::{Peer, Step, Talk};
use queue::source::Fared;
use queue::suppression::Rule;
use queue::{Cause, Message, Outcome, Said, Settled};
use smtp::client::{Client, Stage};
use tokio::time::Instant;

use crate::connection::Terms;
use crate::guard::Guard;
use crate::route::Target;

/// Octets of a reply that are noted. A line has 512 (RFC 5321 §4.5.3.1.5), an answer to EHLO a few dozen short ones.
const NOTED: usize = 1024;

/// The dialogue of one connection; handed out mail by mail.
pub(crate) struct Dialogue {
    clock: Arc<dyn Clock>,
    peer: Arc<Peer>,
    /// Who vouches for the host.
    vouched: &'static str,
    began: Timestamp,
    since: Instant,
    carried: u32,
    steps: Vec<Step>,
}

impl Dialogue {
    /// Begins with the connecting.
    pub(crate) fn new(terms: &Terms<'_>, target: &Target) -> Self {
        let peer = Peer {
            source: terms.source.to_owned(),
            host: target.host.clone(),
            address: SocketAddr::new(target.ip, target.port).to_string(),
            tls: String::new(),
            site: terms.site.unwrap_or_default().to_owned(),
            counted: terms.counted.unwrap_or_default().to_owned(),
        };
        let (clock, began) = (terms.clock.clone(), terms.clock.now());
        let vouched = match target.guard {
            Guard::Dane(_) => " (DANE)",
            Guard::Sts(_) => " (MTA-STS)",
            Guard::Open | Guard::Encrypted => "",
        };
        Dialogue { clock, peer: Arc::new(peer), vouched, began, since: Instant::now(), carried: 0, steps: Vec::new() }
    }

    /// TLS is on.
    pub(crate) fn tls(&mut self, stream: &Stream) {
        let Some(facts) = stream.tls() else { return };
        let trust = match facts.trust {
            Some(Trust::Verified) => format!(", certificate verified{}", self.vouched),
            Some(Trust::Untrusted(why)) => format!(", certificate not verified: {why}"),
            None => String::new(),
        };
        Arc::make_mut(&mut self.peer).tls = format!("{} {}{trust}", facts.version, facts.cipher);
    }

    /// A mail begins: the first has what was said before it.
    pub(crate) fn begin(&mut self) {
        if self.carried > 0 {
            (self.began, self.since) = (self.clock.now(), Instant::now());
            self.steps.clear();
        }
    }

    /// Notes what has come.
    pub(crate) fn listen(&mut self, client: &mut Client) {
        let after = u32::try_from(self.since.elapsed().as_millis()).unwrap_or(u32::MAX);
        self.steps.extend(client.heard().map(|heard| Step { after, to: heard.to, reply: short(heard.reply) }));
    }

    /// What was said since the mail began.
    pub(crate) fn end(&mut self) -> Arc<Talk> {
        let (began, carried, peer) = (self.began, self.carried, self.peer.clone());
        self.carried += 1;
        Arc::new(Talk { began, carried, peer, steps: std::mem::take(&mut self.steps) })
    }
}

fn short(mut reply: Reply) -> Reply {
    if reply.text.len() > NOTED {
        let end = reply.text.floor_char_boundary(NOTED);
        reply.text.to_mut().truncate(end);
    }
    reply
}

/// The stage in the words of the classes.
pub(crate) fn stage(stage: Stage) -> bounce::Stage {
    match stage {
        Stage::Greeting => bounce::Stage::Connect,
        Stage::Hello | Stage::StartTls | Stage::Auth => bounce::Stage::Helo,
        Stage::Ready | Stage::Mail => bounce::Stage::MailFrom,
        Stage::Rcpt => bounce::Stage::Rcpt,
        Stage::Data | Stage::Body => bounce::Stage::Data,
        Stage::DataEnd | Stage::Quit | Stage::Closed => bounce::Stage::Dot,
    }
}

/// Words of ours, and by their codes what they are about.
pub(crate) fn ours(reply: Reply) -> Said {
    let known = match (reply.code, reply.enhanced) {
        (556, _) => Known::DnsNullMx,
        (_, Some(Enhanced(5, 1, 2))) => Known::DnsNxDomain,
        (_, Some(Enhanced(5, 4, 4))) => Known::DnsNoAddress,
        (_, Some(Enhanced(4, 4, 3))) => Known::DnsServFail,
        (_, Some(Enhanced(5, 4, 6))) => Known::MxSelf,
        (_, Some(Enhanced(4, 4, 1))) => Known::ConnectTimeout,
        (_, Some(Enhanced(4, 4, 2))) => Known::SessionLost,
        (_, Some(Enhanced(4, 5, 0))) => Known::SessionGarbage,
        (_, Some(Enhanced(4, 7, 5))) => Known::TlsHandshake,
        (_, Some(Enhanced(5, 7, 10))) => Known::TlsNotOffered,
        (_, Some(Enhanced(5, 7, 30))) => Known::RequireTlsNotOffered,
        (_, Some(Enhanced(5, 6, 7))) => Known::SmtpUtf8NotOffered,
        (_, Some(Enhanced(5, 6, 3))) => Known::EightBitMimeNotOffered,
        (552, Some(Enhanced(5, 3, 4))) => Known::SizeAnnounced,
        _ => return Said::ours(reply),
    };
    Said::known(known, reply)
}

/// It is a refusal, or the end of a mail's time: there is something to be read.
pub(crate) fn has_class(said: &Said, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Delivered { .. } => false,
        Outcome::Expired => true,
        Outcome::Failed | Outcome::Deferred(_) | Outcome::Cancelled => said.cause != Cause::Ours,
    }
}

/// The class of what [has one](has_class); and what follows for the address, if nothing more will be tried. A mail whose time
/// was over may have been refused for a reason that passes: it counts as that (`bounce-classes.toml`, head). The first takes a tenth of
/// a second, and each some of a millisecond.
pub(crate) fn class(message: &Message, said: &Said, outcome: Outcome) -> (String, Option<Rule>) {
    // Its patterns take some megabytes, and a server whose mail is never refused needs none. The data is tested to be good.
    let Some(classifier) = Classifier::shared() else { return Default::default() };
    let class = name(classifier, said);
    let suppression = match outcome {
        Outcome::Failed => classifier.class(&class).and_then(|class| class.suppression.as_ref()),
        Outcome::Expired => classifier.known(Known::Expired).class.suppression.as_ref(),
        Outcome::Delivered { .. } | Outcome::Deferred(_) | Outcome::Cancelled => None,
    };
    (class, suppression.map(|suppression| Rule::of(suppression, message.stream)))
}

/// What an attempt by a source that is new says of it. What no host has answered says nothing.
pub(crate) fn fared(settled: &Settled) -> Fared {
    let Settled { delivery, outcome, said, class, .. } = settled;
    let is_first = delivery.attempts == 0;
    match outcome {
        Outcome::Delivered { .. } => Fared::sent(is_first),
        Outcome::Cancelled => Fared::default(),
        Outcome::Failed | Outcome::Expired | Outcome::Deferred(_) if matches!(said.cause, Cause::Host(_)) => {
            let class = Classifier::shared().and_then(|classifier| classifier.class(class));
            Fared::refused(class, is_first, *outcome == Outcome::Failed)
        }
        Outcome::Failed | Outcome::Expired | Outcome::Deferred(_) => Fared::default(),
    }
}

fn name(classifier: &Classifier, said: &Said) -> String {
    let site = said.talk.as_ref().map(|talk| talk.peer.site.as_str()).filter(|site| !site.is_empty());
    let verdict = match said.cause {
        Cause::Host(stage) => classifier.classify(&Input { site, ..Input::reply(stage, &said.reply) }),
        Cause::Known(known) => classifier.known(known),
        Cause::Ours => return String::new(),
    };
    verdict.class.name.to_string()
}
