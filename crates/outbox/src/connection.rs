//! One connection to a next hop: the wire machine bound to a socket. Called by the workers of [`crate::worker`]; it knows
//! nothing of the queue but how it is told. Every step has its deadline, so that a dead peer frees its slot (trap 20).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Reply};
use net::{BadCert, CertFault, ClientTls, Deadline, Dialer, Identity, Stream, Trust, with_deadline};
use queue::Said;
use queue::receipt::Talk;
use smtp::client::{Client, Config, End, Event, Stage, Unable, Verdict};
use smtp::{Mail, Rcpt};
use store::BlobReader;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::dialogue::{self, Dialogue, ours};
use crate::lease::Lease;
use crate::route::{self, Target};
use crate::unchunked::Unchunked;

/// RFC 5321 gives no time for TCP; nobody answers later than this.
pub(crate) const CONNECT: Duration = Duration::from_secs(30);
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(60);
const CLOSE: Duration = Duration::from_secs(2);
/// For all answers of a mail but the last, whose time is its own; each has time besides (RFC 5321 §4.5.3.2), but not as
/// often as there are recipients.
const TRANSACTION: Duration = Duration::from_secs(30 * 60);
/// Octets of a body that a peer takes in a second, at least.
const PACE: u64 = 500;
/// After a write failed: how long to look for a word that explains it.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Octets of a body that are on their way at once.
const PIECE: u64 = 64 * 1024;

/// A line has no more octets (RFC 5322 §2.1.1), its end among them.
const LINE: usize = 1000;

/// What a hop demands of a connection.
pub(crate) struct Terms<'a> {
    /// Our name.
    pub(crate) hostname: &'a str,
    /// The name that we say.
    pub(crate) ehlo: &'a str,
    /// The address of ours to connect from; none leaves it to the system.
    pub(crate) from: Option<IpAddr>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What it is called by the administrator.
    pub(crate) source: &'a str,
    /// The site, by its name in the policies.
    pub(crate) site: Option<&'a str>,
    /// As what a new source counts its mail there, where that is another name.
    pub(crate) counted: Option<&'a str>,
    pub(crate) tls: Tls<'a>,
    /// The mail demands TLS (RFC 8689), not only the administrator.
    pub(crate) require_tls: bool,
    /// User and password.
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// A host of that name is this server (trap 18).
    pub(crate) not_ourselves: bool,
    pub(crate) unchunked: &'a Arc<Unchunked>,
    /// For all of the way.
    pub(crate) deadline: Deadline,
}

/// TLS on a connection.
#[derive(Clone, Copy)]
pub(crate) enum Tls<'a> {
    /// Not at all: it was tried and failed.
    Never,
    /// When the peer offers it (RFC 7435).
    IfOffered(&'a ClientTls),
    /// By STARTTLS, or not at all.
    Demanded(&'a ClientTls),
    /// Before the greeting.
    First(&'a ClientTls),
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoWay {
    /// What all mail for this host is answered.
    Refused(Said),
    /// There is no TLS, or none that proves what it should. Where it is not demanded, the host may be had without.
    TlsFailed(Said, TlsFault),
    /// The host is this server.
    Ourselves,
}

impl NoWay {
    /// What the mail is answered.
    pub(crate) fn said(self) -> Said {
        match self {
            NoWay::Refused(said) | NoWay::TlsFailed(said, _) => said,
            NoWay::Ourselves => ours(route::to_ourselves()),
        }
    }
}

/// Why there is no TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The host does not offer it, or refuses it.
    NotOffered,
    /// The certificate proves nothing.
    Certificate(CertFault),
    /// The host does not take ours.
    OurCertificate,
    /// The handshake failed for anything else.
    Handshake,
}

/// A connection that is ready for mail.
pub(crate) struct Connection {
    stream: Stream,
    client: Client,
    /// What was read; the machine has used `used` octets of it.
    input: Vec<u8>,
    used: usize,
    host: String,
    dialogue: Dialogue,
    mails: u32,
    unchunked: Arc<Unchunked>,
    /// It has served.
    retired: bool,
    /// The end of what is being done: of the way here, then of a mail.
    budget: Deadline,
}

/// A mail to be sent: envelope and bytes, those in memory before those of the store.
pub(crate) struct Letter<'a> {
    pub(crate) mail: Mail,
    pub(crate) rcpts: Vec<Rcpt>,
    pub(crate) prefix: &'a [u8],
    pub(crate) blob: Option<&'a BlobReader>,
    pub(crate) lease: &'a Lease,
    /// It was [`untouched`](Sent::untouched) before, and goes by DATA.
    pub(crate) again: bool,
}

/// What came of a transaction.
pub(crate) struct Sent {
    /// One for each recipient.
    pub(crate) verdicts: Vec<Verdict>,
    /// The connection ended before this mail began: nothing is known of the mail's fate, but that it has none. Or it shall come
    /// another way, by DATA: some recipients were taken.
    pub(crate) untouched: bool,
    /// Our own store did not give the bytes.
    pub(crate) unreadable: Option<store::Error>,
    /// What was said.
    pub(crate) talk: Arc<Talk>,
}

impl Connection {
    /// Connects, introduces itself, starts TLS and signs in as `terms` say.
    pub(crate) async fn open(dialer: &Dialer, target: &Target, terms: &Terms<'_>) -> Result<Self, NoWay> {
        let to = (target.ip, target.port).into();
        let mut dialogue = Dialogue::new(terms, target);
        let dialled = dialer.dial(to, terms.from, Deadline::after(CONNECT).min(terms.deadline)).await;
        let mut stream = dialled.map_err(|e| NoWay::Refused(with(&mut dialogue, unreachable(target, &e))))?;
        if terms.not_ourselves && stream.local().is_some_and(|local| local.ip() == target.ip) {
            return Err(NoWay::Ourselves);
        }
        let config = Config {
            // A password in the clear stays within this machine.
            auth_in_clear: target.ip.is_loopback(),
            listen: true,
            ..Config::new(terms.ehlo)
        };
        let mut client = Client::new(config);
        if let Tls::First(tls) = terms.tls {
            let handshake =
                stream.upgrade_client(tls, &target.host, b"", Deadline::after(HANDSHAKE).min(terms.deadline)).await;
            stream = handshake.map_err(|e| NoWay::Refused(with(&mut dialogue, no_tls(target, &e))))?;
            dialogue.tls(&stream);
            client.tls_started();
        }
        let mut connection = Connection {
            stream,
            client,
            input: Vec::new(),
            used: 0,
            host: target.host.clone(),
            dialogue,
            mails: 0,
            unchunked: terms.unchunked.clone(),
            retired: false,
            budget: terms.deadline,
        };
        connection.expect_ready().await?;
        // A name without a dot, like `localhost`, is anybody's.
        let name = &connection.client.peer().name;
        let same =
            [terms.hostname, terms.ehlo].iter().any(|ours| name.eq_ignore_ascii_case(ours) && ours.contains('.'));
        if terms.not_ourselves && same {
            connection.close().await;
            return Err(NoWay::Ourselves);
        }
        connection = connection.start_tls(target, terms).await?;
        if let Some((user, password)) = terms.login {
            connection.sign_in(user, password).await?;
        }
        Ok(connection)
    }

    /// The name of the host at the other end.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Whether the peer takes over the duty to report (RFC 3461 §5.2.2).
    pub(crate) fn reports(&self) -> bool {
        self.client.peer().dsn
    }

    /// What its certificate is worth; none in the clear.
    pub(crate) fn trust(&self) -> Option<Trust> {
        self.stream.tls().and_then(|facts| facts.trust)
    }

    /// Our own address.
    pub(crate) fn sender(&self) -> Option<IpAddr> {
        self.stream.local().map(|local| local.ip())
    }

    /// Recipients of one mail, at most.
    pub(crate) fn max_recipients(&self) -> usize {
        // RFC 5321 §4.5.3.1.8: every host takes a hundred.
        self.client.peer().max_recipients.map_or(100, |n| n.clamp(1, 100) as usize)
    }

    /// Mails that it carried.
    pub(crate) fn mails(&self) -> u32 {
        self.mails
    }

    /// It carries no more.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    /// The peer takes no more mails, or is gone; or it has said more than it was asked, which would be taken for answers to the
    /// next mail.
    pub(crate) fn is_spent(&self) -> bool {
        self.retired
            || self.used < self.input.len()
            || self.client.stage() != Stage::Ready
            || self.client.peer().max_mails.is_some_and(|max| self.mails >= max)
    }

    async fn start_tls(mut self, target: &Target, terms: &Terms<'_>) -> Result<Self, NoWay> {
        let (tls, demanded) = match terms.tls {
            Tls::Never | Tls::First(_) => return Ok(self),
            Tls::IfOffered(_) if !self.client.peer().starttls => return Ok(self),
            Tls::IfOffered(tls) => (tls, false),
            Tls::Demanded(tls) => (tls, true),
        };
        if self.client.starttls().is_err() {
            let reply = if terms.require_tls { Unable::RequireTls.reply() } else { passing(Unable::StartTls) };
            return Err(NoWay::TlsFailed(with(&mut self.dialogue, reply), TlsFault::NotOffered));
        }
        match self.event().await {
            Event::StartTls => {}
            Event::TlsRefused(_) if !demanded => return Ok(self),
            Event::TlsRefused(reply) => {
                let reply = later(&self.host, "refuses TLS", &reply);
                return Err(NoWay::TlsFailed(with(&mut self.dialogue, reply), TlsFault::NotOffered));
            }
            event => return Err(NoWay::TlsFailed(self.ended(event), TlsFault::Handshake)),
        }
        let Connection { stream, mut client, host, mut dialogue, unchunked, budget, .. } = self;
        let stream =
            stream.upgrade_client(tls, target.asked_for(), b"", Deadline::after(HANDSHAKE).min(terms.deadline)).await;
        let stream = stream.map_err(|e| {
            let fault = match BadCert::of(&e) {
                Some(bad) => TlsFault::Certificate(bad.fault),
                None if Identity::is_refused(&e) => TlsFault::OurCertificate,
                None => TlsFault::Handshake,
            };
            NoWay::TlsFailed(with(&mut dialogue, no_tls(target, &e)), fault)
        })?;
        dialogue.tls(&stream);
        client.tls_started();
        // What was read before TLS is not looked at (trap 3).
        let (input, used, mails, retired) = (Vec::new(), 0, 0, false);
        let mut connection =
            Connection { stream, client, input, used, host, dialogue, mails, unchunked, retired, budget };
        connection.expect_ready().await?;
        Ok(connection)
    }

    async fn sign_in(&mut self, user: &str, password: &str) -> Result<(), NoWay> {
        if let Err(unable) = self.client.sign_in(user, password) {
            return Err(NoWay::Refused(with(&mut self.dialogue, passing(unable))));
        }
        match self.event().await {
            Event::Authenticated => Ok(()),
            // Our setting, not the mail, is at fault: it stays in the queue until the administrator sees to it.
            Event::AuthRefused(reply) => {
                let reply = later(&self.host, "does not let us sign in", &reply);
                Err(NoWay::Refused(with(&mut self.dialogue, reply)))
            }
            event => Err(NoWay::Refused(self.ended(event))),
        }
    }

    async fn expect_ready(&mut self) -> Result<(), NoWay> {
        match self.event().await {
            Event::Ready => Ok(()),
            event => Err(NoWay::Refused(self.ended(event))),
        }
    }

    /// What the end of a connection says about all mail for the host.
    fn ended(&mut self, event: Event) -> Said {
        let host = &self.host;
        let said = match event {
            Event::Closed(End::Refused(stage, reply)) => Said::by(host.as_str(), dialogue::stage(stage), reply),
            Event::Closed(End::Abandoned(_, reply)) => ours(reply),
            Event::Closed(End::Nonsense(_, why)) => {
                ours(Reply::new(451, 5, 0, format!("{host} does not follow the protocol: {why}")))
            }
            _ => ours(Reply::new(451, 4, 2, format!("{host} closed the connection"))),
        };
        Said { talk: Some(self.dialogue.end()), ..said }
    }

    /// Sends one mail.
    ///
    /// # Errors
    /// [`Unable`] names what the peer lacks for it; the connection is as good as before.
    pub(crate) async fn send(&mut self, letter: Letter<'_>) -> Result<Sent, Unable> {
        let (reused, body) = (self.mails > 0, Duration::from_secs(letter.mail.size.unwrap_or(0) / PACE));
        self.budget = Deadline::after(TRANSACTION + body);
        // Without a lead nobody knows whether the host does what it offers.
        let by_bdat = !letter.again && !self.unchunked.has(&self.host) && lead(letter.prefix) > 0;
        let (lead, prefix) = letter.prefix.split_at(if by_bdat { lead(letter.prefix) } else { 0 });
        match by_bdat {
            true => self.client.send_in_chunks(letter.mail, letter.rcpts, lead)?,
            false => self.client.send(letter.mail, letter.rcpts)?,
        }
        self.dialogue.begin();
        self.mails += 1;
        let mut unreadable = None;
        loop {
            match self.event().await {
                Event::SendBody => unreadable = self.body(prefix, letter.blob, letter.lease).await.err(),
                Event::Done(verdicts) => {
                    // Or it chokes on chunks: it closes the connection, or falls silent.
                    let lost = verdicts.iter().any(|v| v.stage == Stage::Body && !v.by_peer) && unreadable.is_none();
                    if self.client.lacks_bdat() || by_bdat && self.client.peer().chunking && lost {
                        self.unchunked.note(&self.host);
                    }
                    // A host may close a connection that waited, and the mail has done nothing wrong.
                    let closed = reused
                        && self.ended_at() == Some(Stage::Mail)
                        && verdicts.iter().all(|v| v.stage == Stage::Mail && v.is_transient());
                    // Where nobody was taken all is said.
                    let undone = self.client.lacks_bdat() && verdicts.iter().any(|v| v.stage == Stage::Body);
                    let untouched = closed || undone;
                    return Ok(Sent { verdicts, untouched, unreadable, talk: self.dialogue.end() });
                }
                // The verdicts come before the end.
                _ => {}
            }
        }
    }

    /// What the peer was to answer when the connection ended; none while it goes on.
    fn ended_at(&mut self) -> Option<Stage> {
        if self.client.stage() != Stage::Closed {
            return None;
        }
        match self.client.step(b"").event {
            Some(Event::Closed(End::Refused(stage, _) | End::Abandoned(stage, _) | End::Nonsense(stage, _))) => {
                Some(stage)
            }
            _ => None,
        }
    }

    /// The body, a piece at a time: memory does not grow with it. When our store fails, the end is never said: half a mail
    /// is no mail.
    async fn body(&mut self, prefix: &[u8], blob: Option<&BlobReader>, lease: &Lease) -> store::Result<()> {
        for piece in prefix.chunks(PIECE as usize) {
            self.client.body(piece);
            if !self.keeps_up().await {
                return Ok(());
            }
        }
        if let Some(blob) = blob
            && !self.blob(blob).await?
        {
            return Ok(());
        }
        match lease.end() {
            None => self.client.body_end(),
            Some(end) => self.end_before(end).await,
        }
        Ok(())
    }

    /// Trap 23: from then on another node may be at it.
    async fn end_before(&mut self, end: Instant) {
        // Nothing of the end waits behind a peer that takes its time.
        if !self.flush_or_abandon().await {
            return;
        }
        if Instant::now() >= end {
            return self.client.abandon(Reply::new(451, 3, 0, "This node was silent for too long"));
        }
        self.client.body_end();
        self.flush_by(self.deadline().min(Deadline::at(end))).await;
    }

    /// Whether all of it is on its way.
    async fn blob(&mut self, blob: &BlobReader) -> store::Result<bool> {
        let (mut at, mut piece) = (0, Vec::new());
        while at < blob.len() {
            piece.clear();
            if let Err(e) = blob.read(at, at + PIECE, &mut piece) {
                self.client.abandon(Reply::new(451, 3, 0, "Our store did not give the message"));
                return Err(e);
            }
            at += piece.len() as u64;
            self.client.body(&piece);
            if !self.keeps_up().await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends what has come together, once it is a piece; false as [`Connection::flush_or_abandon`].
    async fn keeps_up(&mut self) -> bool {
        (self.client.output().len() as u64) < PIECE || self.flush_or_abandon().await
    }

    /// Waits, without mail, until the peer says something (it can only be goodbye) or closes.
    pub(crate) async fn wait_for_end(&mut self) {
        while self.stream.readable().await.is_ok() {
            match self.fill() {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        self.client.quit();
        self.budget = Deadline::after(Stage::Quit.timeout());
        if self.client.stage() == Stage::Quit {
            while !matches!(self.event().await, Event::Closed(_)) {}
        }
        self.stream.close(Deadline::after(CLOSE)).await;
    }

    /// Sends what is to be sent and reads until something happens.
    async fn event(&mut self) -> Event {
        // Trap 20: for a whole reply, however many pieces it comes in.
        let mut deadline = None;
        loop {
            let before = self.client.replies();
            let step = self.client.step(&self.input[self.used..]);
            self.used += step.consumed;
            self.dialogue.listen(&mut self.client);
            if let Some(event) = step.event {
                return event;
            }
            if self.client.replies() > before {
                deadline = None;
            }
            if !self.flush_or_abandon().await {
                continue;
            }
            match self.read(*deadline.get_or_insert(self.deadline())).await {
                Ok(0) => self.lost("it closed the connection"),
                Ok(_) => {}
                Err(e) => self.lost(&e.to_string()),
            }
        }
    }

    /// For what is being waited for now.
    fn deadline(&self) -> Deadline {
        let stage = self.client.stage();
        let own = Deadline::after(stage.timeout());
        match stage {
            // Who gives up here has the mail sent twice.
            Stage::DataEnd => own,
            _ => own.min(self.budget),
        }
    }

    async fn read(&mut self, deadline: Deadline) -> io::Result<usize> {
        let read = async {
            loop {
                self.stream.readable().await?;
                match self.fill() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
            }
        };
        with_deadline(deadline, read).await
    }

    /// Reads what is there, without waiting.
    fn fill(&mut self) -> io::Result<usize> {
        self.stream.try_read_behind(&mut self.input, &mut self.used)
    }

    /// False when the peer takes no more: the machine has been told, or has what the peer said before it left.
    async fn flush_or_abandon(&mut self) -> bool {
        self.flush_by(self.deadline()).await
    }

    async fn flush_by(&mut self, deadline: Deadline) -> bool {
        let n = self.client.output().len();
        if n == 0 {
            return true;
        }
        let write = async {
            self.stream.write_all(self.client.output()).await?;
            self.stream.flush().await
        };
        let outcome = with_deadline(deadline, write).await;
        self.client.sent(n);
        let Err(error) = outcome else { return true };
        // It may have said why before it hung up: "552 too large" in the middle of a body, say.
        if !matches!(self.read(Deadline::after(LAST_WORD)).await, Ok(n) if n > 0) {
            self.lost(&error.to_string());
        }
        false
    }

    fn lost(&mut self, why: &str) {
        let stage = self.client.stage();
        let text = format!("The connection to {} was lost while it was to answer {stage}: {why}", self.host);
        self.client.abandon(Reply::new(451, 4, 2, text));
    }
}

/// Octets of the first line, if it is one of a header and no command: a field of ours, mostly.
fn lead(prefix: &[u8]) -> usize {
    let end = prefix.iter().take(LINE).position(|octet| *octet == b'\n').map_or(0, |at| at + 1);
    let line = &prefix[..end];
    let name = line.iter().position(|octet| *octet == b':').map_or(&line[..0], |at| &line[..at]);
    let is_name = !name.is_empty() && name.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    if is_name && line.ends_with(b"\r\n") { end } else { 0 }
}

/// Words of ours that end a dialogue.
fn with(dialogue: &mut Dialogue, reply: Reply) -> Said {
    Said { talk: Some(dialogue.end()), ..ours(reply) }
}

fn unreachable(target: &Target, e: &io::Error) -> Reply {
    Reply::new(451, 4, 1, format!("No connection to {} ({}): {e}", target.host, target.ip))
}

fn no_tls(target: &Target, e: &io::Error) -> Reply {
    Reply::new(451, 7, 5, format!("The TLS handshake with {} failed: {e}", target.host))
}

/// What a host lacks may come back; the mail waits.
fn passing(unable: Unable) -> Reply {
    Reply::new(451, 7, 0, unable.to_string())
}

fn later(host: &str, what: &str, reply: &Reply) -> Reply {
    Reply::new(451, 7, 0, format!("{host} {what}: {reply}"))
}

#[cfg(test)]
mod tests {
    use base::{Address, SystemClock};
    use smtp::Recipient;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::guard::Guard;

    /// What a mail of one recipient comes to with that lease, at a host that answers so; and all that was said to it.
    async fn sent(lease: &Lease, offers: &str, replies: &str) -> (Verdict, String) {
        let (ours, mut theirs) = Stream::duplex(1 << 16);
        let said = format!("220 mx\r\n250-mx\r\n{offers}250 PIPELINING\r\n{replies}");
        theirs.write_all(said.as_bytes()).await.unwrap();
        let unchunked = Arc::new(Unchunked::default());
        let terms = Terms {
            hostname: "us.test",
            ehlo: "us.test",
            from: None,
            clock: Arc::new(SystemClock),
            source: "default",
            site: None,
            counted: None,
            tls: Tls::Never,
            require_tls: false,
            login: None,
            not_ourselves: false,
            unchunked: &unchunked,
            deadline: Deadline::after(TRANSACTION),
        };
        let (host, ip) = ("mx.b.test".to_owned(), IpAddr::from([192, 0, 2, 1]));
        let target = Target { host: host.clone(), ip, port: 25, guard: Guard::Open };
        let client = Client::new(Config { listen: true, ..Config::new("us.test") });
        let (dialogue, budget) = (Dialogue::new(&terms, &target), terms.deadline);
        let (input, used, mails, retired) = (Vec::new(), 0, 0, false);
        let mut connection =
            Connection { stream: ours, client, input, used, host, dialogue, mails, unchunked, retired, budget };
        connection.expect_ready().await.unwrap();
        let to = Recipient::Mailbox(Address::parse("jane@b.test").unwrap());
        let (mail, rcpts) = (Mail::default(), vec![Rcpt { to, notify: None, original: None }]);
        let prefix = b"Received: here\r\nSubject: hi\r\n\r\nhello\r\n";
        let mut sent = connection.send(Letter { mail, rcpts, prefix, blob: None, lease, again: false }).await.unwrap();
        drop(connection);
        let mut said = String::new();
        theirs.read_to_string(&mut said).await.unwrap();
        (sent.verdicts.remove(0), said)
    }

    /// The last chunk is the end of a mail as the dot is.
    #[tokio::test(start_paused = true)]
    async fn trap_23_no_end_of_a_mail_is_said_behind_the_lease() {
        for (offers, go_ahead, end) in
            [("", "354 Go\r\n", "\r\n.\r\n"), ("250-CHUNKING\r\n", "250 OK\r\n", " LAST\r\n")]
        {
            let replies = format!("250 OK\r\n250 OK\r\n{go_ahead}");
            // It is to begin yet, so it is over.
            let (verdict, said) = sent(&Lease::new(true), offers, &replies).await;
            assert_eq!(
                (verdict.stage, verdict.is_transient(), said.contains(end)),
                (Stage::Body, true, false),
                "{said}"
            );
            // Nobody else is there: the end is said, and what came of it is not known.
            let (verdict, said) = sent(&Lease::new(false), offers, &replies).await;
            assert_eq!(
                (verdict.stage, verdict.is_transient(), said.contains(end)),
                (Stage::DataEnd, true, true),
                "{said}"
            );
        }
    }
}
