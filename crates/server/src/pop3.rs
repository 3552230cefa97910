//! A POP3 session: INBOX as a list of mails that does not change while the session lasts.
//!
//! Several sessions may look at one INBOX at a time: there is no lock to be left behind. A mail that another session
//! removed meanwhile can no longer be read, and what QUIT removes is what this session marked.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, EmailId, Reply};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use directory::{Pass, SignedIn};
use mailbox::verbs::{self, INBOX};
use mailbox::{UidSet, View};
use net::Stream;
use pop3::{Config, Event, Secret, Server, Tls};
use store::{BlobReader, Tx};

use crate::conn::{Conn, REVOKED, Read};
use crate::patience::Patience;
use crate::sign_in::{Progress, SignIn, mechanisms, password_sign_in};
use crate::{HANDSHAKE, Services};

/// RFC 1939 §3: at least ten minutes.
const IDLE: Duration = Duration::from_secs(600);
/// Octets of a mail that are on their way at once.
const PIECE: u64 = 128 * 1024;

pub(crate) async fn serve(services: Arc<Services>, stream: Stream) -> io::Result<()> {
    let ip = stream.peer().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |p| p.ip());
    let mut machine = Server::new(Config {
        hostname: services.hostname.clone(),
        tls: if stream.is_tls() { Tls::On } else { Tls::Offered },
        clear_sign_in: services.clear_sign_in(&stream),
        mechanisms: mechanisms(services.scram, true).to_vec(),
    });
    let binding = stream.channel_binding();
    if stream.is_tls() && binding.is_none() {
        machine.cannot_bind();
    }
    let conn = Conn::new(stream, services.stopping.clone());
    Session { services, machine, ip, sign_in: None, binding, drop: None, pass: None }.run(conn).await
}

struct Session {
    services: Arc<Services>,
    machine: Server,
    ip: IpAddr,
    sign_in: Option<Box<SignIn>>,
    /// What a sign-in can be bound to.
    binding: Option<[u8; 32]>,
    drop: Option<Maildrop>,
    /// Good as long as who signed in may go on.
    pass: Option<Pass>,
}

/// INBOX as it was at sign-in.
struct Maildrop {
    view: View,
    /// Marked mails, by their place in the list.
    marked: Vec<bool>,
}

/// What the connection has to do.
enum Next {
    Go,
    StartTls,
    Send(Box<Sending>),
}

/// A mail on its way to the client.
struct Sending {
    prefix: Vec<u8>,
    blob: BlobReader,
    octets: u32,
}

impl Session {
    async fn run(mut self, mut conn: Conn) -> io::Result<()> {
        let mut patience = Patience::new(IDLE);
        loop {
            let mut input = conn.take_input();
            let mut obeyed = false;
            let mut next = Next::Go;
            loop {
                if self.is_revoked() {
                    self.sign_out();
                    break;
                }
                let step = self.machine.step(input.rest());
                let (consumed, idle) = (step.consumed, step.event.is_none());
                obeyed |= consumed > 0;
                if let Some(event) = step.event {
                    next = self.answer(event).await;
                }
                input.consume(consumed);
                match next {
                    Next::Send(sending) => {
                        self.send(&mut conn, *sending).await?;
                        next = Next::Go;
                    }
                    Next::StartTls => break,
                    Next::Go if idle && consumed == 0 => break,
                    Next::Go if self.machine.output().len() >= PIECE as usize => self.flush(&mut conn).await?,
                    Next::Go => {}
                }
            }
            conn.put_back(input);
            self.flush(&mut conn).await?;
            if self.machine.is_closed() {
                conn.close().await;
                return Ok(());
            }
            if obeyed {
                patience.next_command(IDLE);
            }
            if matches!(next, Next::StartTls) {
                conn = conn.start_tls(&self.services.tls, HANDSHAKE).await?;
                self.machine.tls_started();
                self.binding = conn.stream().channel_binding();
                if self.binding.is_none() {
                    self.machine.cannot_bind();
                }
                continue;
            }
            match conn.read(patience.deadline(self.pass.is_some(), IDLE), self.pass.as_ref()).await? {
                Read::More => {}
                // Nothing is removed without QUIT (RFC 1939 §6).
                Read::End | Read::Late | Read::Stopping => return Ok(()),
                Read::Revoked => self.sign_out(),
            }
        }
    }

    fn is_revoked(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_revoked)
    }

    /// The last word to somebody who signed in and may not go on. What was marked stays: nobody said QUIT.
    fn sign_out(&mut self) {
        self.drop = None;
        self.machine.shut_down(pop3::Code::Auth, REVOKED);
    }

    async fn flush(&mut self, conn: &mut Conn) -> io::Result<()> {
        let out = std::mem::take(self.machine.output());
        conn.write(&out).await
    }

    async fn answer(&mut self, event: Event<'_>) -> Next {
        match event {
            Event::Login { user, password } => {
                let outcome = password_sign_in(&self.services, "pop3", self.ip, user.as_bytes(), password.0).await;
                match outcome {
                    Ok(who) => self.open(who).await,
                    Err(reply) => self.machine.refuse(&reply),
                }
            }
            Event::Auth { mechanism, initial } => self.begin(mechanism, initial).await,
            Event::AuthResponse(response) => self.respond(response).await,
            Event::Stls => return Next::StartTls,
            Event::Stat => {
                let (n, octets) = self.left();
                self.machine.ok(format_args!("{n} {octets}"));
            }
            Event::List(which) => self.list(which, |d, seq| d.octets(seq).to_string()),
            Event::Uidl(which) => self.list(which, |d, seq| d.unique_id(seq)),
            Event::Retr(seq) | Event::Top(seq, _) => return self.retrieve(seq).await,
            Event::Dele(seq) => match self.drop.as_mut().and_then(|d| d.marked_mut(seq)) {
                Some(marked) => {
                    *marked = true;
                    self.machine.ok("Marked");
                }
                None => self.machine.err(None, "No such message"),
            },
            Event::Rset => {
                if let Some(drop) = &mut self.drop {
                    drop.marked.fill(false);
                }
                let (n, octets) = self.left();
                self.machine.ok(format_args!("{n} {octets}"));
            }
            Event::Quit => self.quit().await,
        }
        Next::Go
    }

    async fn begin(&mut self, mechanism: &'static str, initial: Option<Secret<'_>>) {
        let mut sign_in = SignIn::new(mechanism, "pop3", Some(self.ip), self.binding);
        let initial = match initial.map(|s| STANDARD.decode(s.0)).transpose() {
            Ok(initial) => initial,
            Err(_) => return self.machine.err(None, "That is not base64"),
        };
        let progress = sign_in.go_on(&self.services, initial.as_deref()).await;
        self.sign_in = Some(Box::new(sign_in));
        self.progress(progress).await;
    }

    async fn respond(&mut self, response: Secret<'_>) {
        let (Some(sign_in), Ok(response)) = (&mut self.sign_in, STANDARD.decode(response.0)) else {
            self.sign_in = None;
            return self.machine.err(None, "That is not base64");
        };
        let progress = sign_in.go_on(&self.services, Some(&response)).await;
        self.progress(progress).await;
    }

    async fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Challenge(challenge) => return self.machine.challenge(&STANDARD.encode(challenge)),
            Progress::Done(who) => self.open(who).await,
            Progress::Failed(reply) => self.machine.refuse(&reply),
        }
        self.sign_in = None;
    }

    async fn open(&mut self, who: SignedIn) {
        match self.services.mailboxes.open(who.account, INBOX).await {
            Ok(Some(view)) => {
                let marked = vec![false; view.index().len() as usize];
                self.drop = Some(Maildrop { view, marked });
                self.pass = Some(who.pass);
                let (n, octets) = self.left();
                self.machine.ok(format_args!("{n} messages ({octets} octets)"));
            }
            Ok(None) => self.machine.err(Some(pop3::Code::SysPerm), "This account has no mailbox"),
            Err(error) => self.trouble(error.into()),
        }
    }

    /// How many mails are not marked, and their octets.
    fn left(&self) -> (u32, u64) {
        let Some(drop) = &self.drop else { return (0, 0) };
        let kept = drop.view.index().iter().zip(&drop.marked).filter(|(_, marked)| !**marked);
        kept.fold((0, 0), |(n, octets), ((_, e), _)| (n + 1, octets + u64::from(e.octets)))
    }

    fn list(&mut self, which: Option<u32>, value: impl Fn(&Maildrop, u32) -> String) {
        let Some(drop) = &self.drop else { return self.machine.err(None, "Sign in first") };
        match which {
            Some(seq) if drop.is_there(seq) => self.machine.ok(format_args!("{seq} {}", value(drop, seq))),
            Some(_) => self.machine.err(None, "No such message"),
            None => {
                self.machine.begin("The list follows");
                for seq in (1..=drop.marked.len() as u32).filter(|seq| drop.is_there(*seq)) {
                    self.machine.row(seq, value(drop, seq));
                }
                self.machine.end();
            }
        }
    }

    async fn retrieve(&mut self, seq: u32) -> Next {
        let found =
            self.drop.as_ref().filter(|d| d.is_there(seq)).and_then(|d| Some((d.view.account(), d.email(seq)?)));
        let Some((account, email)) = found else {
            self.machine.err(None, "No such message");
            return Next::Go;
        };
        match self.find(account, email).await {
            Ok(Some(sending)) => {
                self.machine.begin(format_args!("{} octets", sending.octets));
                Next::Send(Box::new(sending))
            }
            Ok(None) => {
                self.machine.err(None, "The message was removed by another session");
                Next::Go
            }
            Err(error) => {
                self.trouble(error.into());
                Next::Go
            }
        }
    }

    async fn find(&self, account: AccountId, email: EmailId) -> store::Result<Option<Sending>> {
        let store = self.services.mailboxes.store();
        let blobs = store.clone();
        // Opened in the read that read its row: later it may have moved.
        let work = move |tx: &mut Tx<'_>| {
            let Some(row) = verbs::email(tx, account, email)? else { return Ok(None) };
            Ok(Some(Sending { prefix: row.prefix, blob: blobs.blob(row.blob)?, octets: row.octets }))
        };
        store.read(work).await
    }

    /// Streams a mail: only a piece of it is in memory. When it cannot be read to its end the connection breaks, so that
    /// the client never takes a part for the whole; so it does for who may not go on.
    async fn send(&mut self, conn: &mut Conn, sending: Sending) -> io::Result<()> {
        let Sending { prefix, blob, .. } = sending;
        let mut wanted = self.machine.body(&prefix);
        let (mut at, mut piece) = (0, Vec::new());
        while wanted && at < blob.len() {
            piece.clear();
            blob.read(at, at + PIECE, &mut piece).map_err(io::Error::other)?;
            at += piece.len() as u64;
            wanted = self.machine.body(&piece);
            if self.machine.output().len() >= PIECE as usize {
                self.flush(conn).await?;
            }
            if self.is_revoked() {
                return Err(io::Error::other(REVOKED));
            }
        }
        self.machine.end();
        Ok(())
    }

    /// The UPDATE state: what was marked goes, in one commit, before the answer.
    async fn quit(&mut self) {
        let Some(drop) = self.drop.take() else { return self.machine.ok("Goodbye") };
        let index = drop.view.index();
        let uids: UidSet =
            index.iter().zip(&drop.marked).filter(|(_, marked)| **marked).map(|((_, e), _)| e.uid.0).collect();
        if uids.is_empty() {
            return self.machine.ok("Goodbye");
        }
        match drop.view.expunge(Some(uids), true).await {
            Ok(gone) => self.machine.ok(format_args!("Goodbye, {} messages removed", gone.len())),
            Err(error) => self.trouble(error.into()),
        }
    }

    fn trouble(&mut self, error: base::Error) {
        tracing::warn!(%error, "POP3 command failed");
        let reply: Reply = error.into_reply();
        self.machine.refuse(&reply);
    }
}

impl Maildrop {
    fn is_there(&self, seq: u32) -> bool {
        seq.checked_sub(1).and_then(|i| self.marked.get(i as usize)).is_some_and(|marked| !marked)
    }

    fn marked_mut(&mut self, seq: u32) -> Option<&mut bool> {
        self.is_there(seq).then(|| &mut self.marked[seq as usize - 1])
    }

    fn octets(&self, seq: u32) -> u32 {
        self.view.index().get(seq).map_or(0, |e| e.octets)
    }

    fn email(&self, seq: u32) -> Option<EmailId> {
        self.view.index().get(seq).map(|e| e.email)
    }

    /// RFC 1939 §7: the mail's own number, which survives restarts and restores, and its UID, for one mail may stand in
    /// INBOX twice. Neither depends on what else is there, which may be gone in the next session.
    fn unique_id(&self, seq: u32) -> String {
        self.view.index().get(seq).map_or_else(String::new, |e| format!("{}.{}", e.email, e.uid))
    }
}
