//! An SMTP or LMTP session: the machine's questions answered out of the directory and ingress.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base::{Reply, Timestamp};
use directory::Pass;
use ingress::{Incoming, Origin, Submitter};
use net::Stream;
use smtp::server::{BareLineEnds, Protocol};
use smtp::{Config, Event, FutureRelease, Mail, Rcpt, Server};

use crate::conn::{Conn, REVOKED, Read};
use crate::patience::Patience;
use crate::sign_in::{Progress, SignIn, mechanisms};
use crate::{HANDSHAKE, Services};

/// RFC 5321 §4.5.3.2.7: a server waits at least five minutes for a command.
const COMMAND: Duration = Duration::from_secs(300);
/// The longest time that mail is held, in seconds: a month.
const HOLD: u32 = 31 * 24 * 3600;
/// So many refused sign-ins, and the connection is closed: who guesses must come again (trap 28).
const GUESSES: u8 = 5;
/// Mails in one connection of somebody who is neither on this machine nor trusted; the next hears 421 and connects again.
const MAILS: u32 = 1000;
/// Within a mail: for a command, and for the next octets of a body.
const WITHIN: Duration = Duration::from_secs(180);

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Port 25: other servers bring mail for us.
    Mx,
    /// 587, 465, 2525: our users' programs send.
    Submission,
    /// Local delivery, trusted: loopback or a Unix socket.
    Lmtp,
}

/// The machine's configuration for a session.
fn config(services: &Services, role: Role, from: &Stream) -> Config {
    let mut config = Config::new(services.hostname.clone());
    config.max_size = services.max_message;
    config.starttls = true;
    config.requiretls = true;
    config.bare_line_ends = BareLineEnds::Reject;
    config.max_messages = if services.is_near(from) { None } else { Some(MAILS) };
    // Trap 19: a report of success goes to a sender nobody has proved. A host that is not offered DSN tells its user itself
    // that the mail was relayed (RFC 3461 §5.2.2).
    config.dsn = role != Role::Mx || services.is_near(from);
    // A report of delay, too. Less than a minute nobody can promise.
    config.deliver_by = config.dsn.then_some(60);
    config.mt_priority = role != Role::Lmtp;
    // RFC 4865 §2: submission only.
    config.future_release = (role == Role::Submission).then(|| FutureRelease {
        most: HOLD,
        until: Timestamp::from_secs(services.ingress.clock().now().secs() + i64::from(HOLD)),
    });
    match role {
        Role::Lmtp => config.protocol = Protocol::Lmtp,
        Role::Mx | Role::Submission => {
            config.auth = mechanisms(services.scram, true).to_vec();
            if services.clear_sign_in(from) {
                config.auth_in_clear = mechanisms(services.scram, false).to_vec();
            }
        }
    }
    config
}

pub(crate) async fn serve(services: Arc<Services>, role: Role, stream: Stream) -> io::Result<()> {
    let ip = stream.peer().map(|p| p.ip());
    let config = Arc::new(config(&services, role, &stream));
    let mut machine = Server::new(config);
    if stream.is_tls() {
        tls_started(&mut machine, &stream);
    }
    machine.greet();
    let (tls, binding, trusted) = (facts(&stream), stream.channel_binding(), services.is_trusted(&stream));
    let conn = Conn::new(stream, services.stopping.clone());
    let origin = Origin {
        ip,
        helo: String::new(),
        extended: false,
        tls,
        smtputf8: false,
        signed_in: None,
        trusted,
        protocol: match role {
            Role::Mx => ingress::Protocol::Smtp,
            Role::Submission => ingress::Protocol::Submission,
            Role::Lmtp => ingress::Protocol::Lmtp,
        },
    };
    let session = Session {
        services,
        role,
        machine,
        origin,
        patience: Patience::new(COMMAND),
        sends: false,
        incoming: None,
        sign_in: None,
        pass: None,
        refused: 0,
        binding,
    };
    session.run(conn).await
}

/// The machine hears of TLS, and whether a sign-in can be bound to it.
fn tls_started(machine: &mut Server, stream: &Stream) {
    machine.tls_started();
    if stream.channel_binding().is_none() {
        machine.cannot_bind();
    }
}

fn facts(stream: &Stream) -> Option<(&'static str, &'static str)> {
    stream.tls().map(|facts| (facts.version, facts.cipher))
}

struct Session {
    services: Arc<Services>,
    role: Role,
    machine: Server,
    origin: Origin,
    /// By when the peer must say more.
    patience: Patience,
    /// A mail was begun, so this is no mere listener.
    sends: bool,
    /// The mail being taken.
    incoming: Option<Box<Taking>>,
    /// The sign-in under way.
    sign_in: Option<Box<SignIn>>,
    /// Good as long as who signed in may go on.
    pass: Option<Pass>,
    /// Sign-ins refused so far.
    refused: u8,
    /// What a sign-in can be bound to.
    binding: Option<[u8; 32]>,
}

/// A mail, and why it will be refused at its end.
struct Taking {
    mail: Incoming,
    refusal: Option<Reply>,
    /// Some of its body is here.
    begun: bool,
}

/// What the connection has to do.
enum Next {
    Go,
    StartTls,
}

impl Session {
    async fn run(mut self, mut conn: Conn) -> io::Result<()> {
        loop {
            let mut input = conn.take_input();
            let mut next = Next::Go;
            loop {
                if self.pass.as_ref().is_some_and(Pass::is_revoked) {
                    self.sign_out();
                    break;
                }
                let body = self.machine.in_body();
                let step = self.machine.step(input.rest());
                let consumed = step.consumed;
                let idle = step.event.is_none();
                if let Some(event) = step.event {
                    next = self.answer(event).await;
                }
                input.consume(consumed);
                if body || self.machine.in_body() {
                    self.patience.body(consumed);
                }
                if matches!(next, Next::StartTls) || (idle && consumed == 0) || self.machine.is_closed() && idle {
                    break;
                }
            }
            conn.put_back(input);
            self.renew_patience();
            self.flush(&mut conn).await?;
            if self.machine.is_closed() {
                conn.close().await;
                return Ok(());
            }
            if matches!(next, Next::StartTls) {
                conn = conn.start_tls(&self.services.tls, HANDSHAKE).await?;
                tls_started(&mut self.machine, conn.stream());
                self.origin.tls = facts(conn.stream());
                self.binding = conn.stream().channel_binding();
                self.origin.signed_in = None;
                self.pass = None;
                self.incoming = None;
                continue;
            }
            let known = self.sends || self.pass.is_some() || self.origin.trusted || self.role == Role::Lmtp;
            match conn.read(self.patience.deadline(known, WITHIN), self.pass.as_ref()).await? {
                Read::More => {}
                Read::End => return Ok(()),
                Read::Late => self.machine.shut_down(&Reply::new(421, 4, 2, "You took too long")),
                Read::Stopping => self.machine.shut_down(&Reply::new(421, 3, 2, "The server is stopping")),
                Read::Revoked => self.sign_out(),
            }
        }
    }

    /// Whatever was answered was a whole command. A body is one thing to its end, in however many chunks it comes.
    fn renew_patience(&mut self) {
        let chunks = self.incoming.as_ref().is_some_and(|taking| taking.begun);
        if !self.machine.output().is_empty() && !self.machine.in_body() && !chunks {
            self.patience.next_command(if self.incoming.is_some() { WITHIN } else { COMMAND });
        }
    }

    /// The last word to somebody who signed in and may not go on; a mail under way is not taken.
    fn sign_out(&mut self) {
        self.incoming = None;
        self.machine.shut_down(&Reply::new(421, 7, 0, REVOKED));
    }

    async fn flush(&mut self, conn: &mut Conn) -> io::Result<()> {
        let n = self.machine.output().len();
        conn.write(self.machine.output()).await?;
        self.machine.sent(n);
        Ok(())
    }

    async fn answer(&mut self, event: Event<'_>) -> Next {
        match event {
            Event::Hello(ask, hello) => {
                self.incoming = None;
                (self.origin.helo, self.origin.extended) = (hello.name, hello.extended);
                ask.accept(&mut self.machine);
            }
            Event::StartTls(ask) => {
                ask.accept(&mut self.machine);
                return Next::StartTls;
            }
            Event::Auth(ask, auth) => {
                let mut sign_in = SignIn::new(auth.mechanism, "smtp", self.origin.ip, self.binding);
                let progress = sign_in.go_on(&self.services, auth.initial.as_deref()).await;
                self.sign_in = Some(Box::new(sign_in));
                self.signed_in(ask, progress);
            }
            Event::AuthResponse(ask, response) => {
                let progress = match &mut self.sign_in {
                    Some(sign_in) => sign_in.go_on(&self.services, Some(&response)).await,
                    None => Progress::Failed(Reply::new(503, 5, 1, "No sign-in is under way")),
                };
                self.signed_in(ask, progress);
            }
            Event::AuthAborted => self.sign_in = None,
            Event::Mail(ask, mut mail) => {
                // RFC 6710 §5: anybody can say that his mail is urgent.
                let lowered = !self.origin.may_relay() && mail.priority > Some(0);
                mail.priority = mail.priority.filter(|_| !lowered);
                match self.mail(mail).await {
                    Ok(()) if lowered => ask.accept_less_urgent(&mut self.machine),
                    Ok(()) => ask.accept(&mut self.machine),
                    Err(e) => ask.refuse(&mut self.machine, &public(e)),
                }
            }
            Event::Rcpt(ask, rcpt) => match self.rcpt(rcpt).await {
                Ok(()) => ask.accept(&mut self.machine),
                Err(e) => ask.refuse(&mut self.machine, &public(e)),
            },
            Event::Data(ask) => ask.accept(&mut self.machine),
            Event::Body(bytes) => {
                if let Some(taking) = &mut self.incoming {
                    taking.begun = true;
                    if let Err(e) = taking.mail.push(bytes) {
                        taking.refusal.get_or_insert(public(e));
                    }
                }
            }
            Event::BodyEnd(ask) => {
                let outcome = self.commit().await;
                self.count(&outcome);
                match (ask, outcome) {
                    (smtp::server::AskBody::Each(ask), Ok(each)) => ask.reply(&mut self.machine, |i| each[i].clone()),
                    (ask, Ok(each)) => ask.reply(&mut self.machine, &for_all(each)),
                    (ask, Err(reply)) => ask.reply(&mut self.machine, &reply),
                }
            }
            Event::Abort(_) => self.incoming = None,
            Event::Vrfy(ask, _) => {
                // Whom we know is nobody's business (RFC 5321 §7.3).
                ask.reply(&mut self.machine, &Reply::new(252, 5, 0, "Send some mail, and we shall see"));
            }
            Event::Close(_) => self.incoming = None,
        }
        Next::Go
    }

    fn count(&self, outcome: &Result<Vec<Reply>, Reply>) {
        let counters = &self.services.counters;
        let count = match outcome {
            Ok(each) if each.iter().any(Reply::is_positive) => &counters.mails_accepted,
            Ok(each) if each.iter().any(Reply::is_transient) => &counters.mails_deferred,
            Err(reply) if reply.is_transient() => &counters.mails_deferred,
            Ok(_) | Err(_) => &counters.mails_refused,
        };
        count.up();
    }

    fn signed_in(&mut self, ask: smtp::server::AskAuth, progress: Progress) {
        match progress {
            Progress::Challenge(challenge) => return ask.challenge(&mut self.machine, &challenge),
            Progress::Done(who) => {
                let directory::SignedIn { account, login, organisation, stream, .. } = who;
                self.origin.signed_in = Some(Submitter { account, login, organisation, stream });
                self.pass = Some(who.pass);
                ask.accept(&mut self.machine);
            }
            Progress::Failed(reply) => {
                self.refused += 1;
                let enough = Reply::new(421, 7, 0, "Too many failed sign-ins");
                ask.refuse(&mut self.machine, if self.refused < GUESSES { &reply } else { &enough });
            }
        }
        self.sign_in = None;
    }

    async fn mail(&mut self, mail: Mail) -> base::Result<()> {
        if self.role == Role::Submission && self.origin.signed_in.is_none() && !self.origin.trusted {
            return Err(base::Error::new(Reply::new(530, 7, 0, "Sign in first")));
        }
        self.origin.smtputf8 = mail.smtputf8;
        let incoming = self.services.ingress.start(Arc::new(self.origin.clone()), mail).await?;
        self.sends = true;
        self.incoming = Some(Box::new(Taking { mail: incoming, refusal: None, begun: false }));
        Ok(())
    }

    async fn rcpt(&mut self, rcpt: Rcpt) -> base::Result<()> {
        match &mut self.incoming {
            Some(taking) => taking.mail.recipient(&rcpt).await,
            None => Err(base::Error::new(Reply::new(503, 5, 1, "MAIL comes first"))),
        }
    }

    /// An answer for each recipient, or one for all.
    async fn commit(&mut self) -> Result<Vec<Reply>, Reply> {
        let taking = self.incoming.take().ok_or_else(|| Reply::new(503, 5, 1, "MAIL comes first"))?;
        if let Some(refusal) = taking.refusal {
            return Err(refusal);
        }
        let outcomes = taking.mail.commit().await.map_err(public)?;
        let stored = || Reply::new(250, 6, 0, "Stored");
        Ok(outcomes.into_iter().map(|o| o.map_or_else(public, |()| stored())).collect())
    }
}

/// SMTP has one answer for all recipients: yes when anybody has the mail. The others had their answer at RCPT; who could
/// not be served since is reported to the sender: ingress saw to that.
fn for_all(each: Vec<Reply>) -> Reply {
    let yes = each.iter().position(Reply::is_positive);
    let refused = || Reply::new(554, 5, 1, "No valid recipients");
    each.into_iter().nth(yes.unwrap_or(0)).unwrap_or_else(refused)
}

/// What the peer is told; the cause goes to the log.
fn public(error: base::Error) -> Reply {
    if std::error::Error::source(&error).is_some() {
        tracing::warn!(%error, "refused for our own trouble");
    }
    error.into_reply()
}
