//! An IMAP session: the wire machine's commands carried out on an account's mailboxes.
//!
//! Started by [`crate::serve`], one task a connection. What a client sees is its view of the selected mailbox; the view
//! moves only where the client may be told (`tell`). A session that waits holds no buffer, and a command's future is
//! boxed, so that thousands of idle sessions cost little. What is long (a FETCH of everything) is prepared and sent in
//! bounded pieces.

mod append;
mod auth;
mod change;
mod fetch;
mod folders;
mod list;
mod no;
mod search;
mod select;
mod source;
mod tell;

use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use base::AccountId;
use directory::Pass;
use imap::{Code, Command, Config, Enable, Event, Server, Status, Tag};
use mailbox::{UidSet, View};
use net::{Deadline, Stream};
use store::Store;

use crate::conn::{Conn, REVOKED, Read, Woken};
use crate::{HANDSHAKE, Services};
use append::{Append, Appends, Outcome};
use auth::SigningIn;
use no::No;
use select::Selected;

/// RFC 9051 §5.4: at least thirty minutes.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// All the time there is for signing in, whatever the client sends meanwhile.
const BEFORE_LOGIN: Duration = Duration::from_secs(180);
/// In the middle of a message.
const APPENDING: Duration = Duration::from_secs(180);
/// Octets that are sent at once, and about as many are prepared meanwhile.
const PIECE: usize = 256 * 1024;
/// A reader thread of the store is given back after this time: others wait for it.
const TURN: Duration = Duration::from_millis(40);
/// Wrong commands in a row: from a stranger, and from a user.
const FAULTS: (u32, u32) = (10, 100);

pub(crate) async fn serve(services: Arc<Services>, stream: Stream) -> io::Result<()> {
    let peer = Peer {
        ip: stream.peer().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |p| p.ip()),
        tls: stream.is_tls(),
        clear_sign_in: services.clear_sign_in(&stream),
        binding: stream.channel_binding(),
    };
    let conn = Conn::new(stream, services.stopping.clone());
    let mut session = Box::new(Session::new(services, conn, peer));
    session.greet();
    match session.run().await {
        Err(No::Broken(error)) => Err(error),
        Err(no) => Err(io::Error::other(format!("{no:?}"))),
        Ok(()) => Ok(()),
    }
}

/// Who is at the other end, and how we speak.
#[derive(Clone, Copy)]
struct Peer {
    ip: IpAddr,
    tls: bool,
    /// May sign in without TLS.
    clear_sign_in: bool,
    /// The TLS channel's binding (RFC 9266).
    binding: Option<[u8; 32]>,
}

struct Session {
    services: Arc<Services>,
    conn: Conn,
    machine: Server,
    peer: Peer,
    user: Option<AccountId>,
    /// Good as long as the user may go on.
    pass: Option<Pass>,
    enabled: Enable,
    selected: Option<Box<Selected>>,
    /// The AUTHENTICATE under way.
    signing_in: Option<Box<SigningIn>>,
    /// Sign-ins that failed.
    failed_sign_ins: u32,
    /// The IDLE under way.
    idling: Option<Tag>,
    /// The APPEND on its way in.
    append: Option<Box<Append>>,
    /// Those whose commit is awaited.
    appends: Appends,
    /// The command at hand, or the last one, is a UID command.
    by_uid: bool,
    /// Wrong commands in a row.
    faults: u32,
    /// The last word was said.
    ended: bool,
}

/// What the connection does after its input is used up.
enum Next {
    Wait,
    StartTls,
}

/// What a client hears of without having asked.
enum Stir {
    Appended(Outcome),
    Changed,
}

impl Session {
    fn new(services: Arc<Services>, conn: Conn, peer: Peer) -> Self {
        Session {
            services,
            conn,
            machine: Server::new(Config::default()),
            peer,
            user: None,
            pass: None,
            enabled: Enable::default(),
            selected: None,
            signing_in: None,
            failed_sign_ins: 0,
            idling: None,
            append: None,
            appends: Appends::default(),
            by_uid: false,
            faults: 0,
            ended: false,
        }
    }

    async fn run(mut self: Box<Self>) -> Result<(), No> {
        let sign_in_by = Deadline::after(BEFORE_LOGIN);
        loop {
            let next = self.obey().await?;
            self.flush().await?;
            if self.ended {
                self.conn.close().await;
                return Ok(());
            }
            if matches!(next, Next::StartTls) {
                *self = self.after_start_tls().await?;
                continue;
            }
            if self.appends.is_waiting() && self.conn.has_more() {
                continue;
            }
            self.commit_appends();
            let deadline = match self.user {
                None => sign_in_by,
                Some(_) => Deadline::after(if self.append.is_some() { APPENDING } else { IDLE }),
            };
            self.wait(deadline).await?;
        }
    }

    /// TLS, and a new session: nothing that was said in the clear is remembered (RFC 9051 §6.2.1, trap 3).
    async fn after_start_tls(self) -> io::Result<Session> {
        let conn = self.conn.start_tls(&self.services.tls, HANDSHAKE).await?;
        let peer = Peer { tls: true, binding: conn.stream().channel_binding(), ..self.peer };
        Ok(Session::new(self.services, conn, peer))
    }

    /// Waits for input; tells meanwhile what there is to tell. Ends the session when there is no more to come.
    async fn wait(&mut self, deadline: Deadline) -> Result<(), No> {
        while !self.ended {
            let Session { conn, appends, selected, pass, .. } = self;
            let view = selected.as_mut().filter(|_| self.idling.is_some()).map(|selected| &mut selected.view);
            match conn.read_or(deadline, pass.as_ref(), stirred(appends, view)).await? {
                Woken::Read(Read::More) => return Ok(()),
                Woken::Read(Read::End) => {
                    // A client that half closes may still read: it hears that its messages came.
                    self.settle_appends().await?;
                    self.ended = true;
                }
                Woken::Read(Read::Late) => self.bye(None, "You were silent for too long"),
                Woken::Read(Read::Stopping) => {
                    self.settle_appends().await?;
                    self.bye(Some(Code::Unavailable), "The server is stopping");
                }
                Woken::Read(Read::Revoked) => self.bye(None, REVOKED),
                Woken::Other(Stir::Appended(outcome)) => self.appended(outcome).await?,
                Woken::Other(Stir::Changed) => self.tell(true).await?,
            }
            self.flush().await?;
        }
        Ok(())
    }

    /// Uses up the input.
    async fn obey(&mut self) -> Result<Next, No> {
        let mut input = self.conn.take_input();
        let mut next = Next::Wait;
        while !self.ended && matches!(next, Next::Wait) {
            if self.is_revoked() {
                self.bye(None, REVOKED);
                break;
            }
            let step = self.machine.step(input.rest());
            let consumed = step.consumed;
            let Some(event) = step.event else {
                input.consume(consumed);
                break;
            };
            next = self.answer(event).await?;
            input.consume(consumed);
            self.flush_if_full().await?;
        }
        self.conn.put_back(input);
        Ok(next)
    }

    async fn answer(&mut self, event: Event<'_>) -> Result<Next, No> {
        if !matches!(event, Event::Bad { .. }) {
            self.faults = 0;
        }
        match event {
            // Boxed: the state of a command is not part of a session that waits.
            Event::Command { tag, command } => return Box::pin(self.command(tag, command)).await,
            Event::AppendStart { tag, mailbox } => Box::pin(self.append_start(tag, mailbox)).await?,
            Event::AppendMessage(message) => self.append_message(message),
            Event::AppendData(octets) => self.append_data(octets),
            Event::AppendMessageEnd => self.append_message_end(),
            Event::AppendEnd => self.append_end(),
            Event::AppendAbort => self.append = None,
            Event::AuthResponse(response) => Box::pin(self.auth_response(response)).await,
            Event::IdleDone => {
                self.tell(true).await?;
                if let Some(tag) = self.idling.take() {
                    self.ok(&tag, None, "IDLE completed");
                }
            }
            Event::Bad { .. } => self.fault(),
        }
        Ok(Next::Wait)
    }

    /// The client was told that it made no sense. Some do nothing else.
    fn fault(&mut self) {
        self.idling = None;
        self.signing_in = None;
        self.faults += 1;
        let most = if self.user.is_some() { FAULTS.1 } else { FAULTS.0 };
        if self.faults >= most {
            self.bye(None, "Too many wrong commands");
        }
    }

    async fn command(&mut self, tag: Tag, command: Command) -> Result<Next, No> {
        // Answers come in the order of the commands.
        self.settle_appends().await?;
        self.by_uid = is_by_uid(&command);
        let starts_tls = matches!(command, Command::StartTls);
        match self.carry_out(&tag, command).await {
            Ok(()) if starts_tls => return Ok(Next::StartTls),
            Ok(()) => {}
            Err(broken @ No::Broken(_)) => return Err(broken),
            Err(no) => self.refuse(&tag, &no),
        }
        Ok(Next::Wait)
    }

    async fn carry_out(&mut self, tag: &Tag, command: Command) -> Result<(), No> {
        match command {
            Command::Capability => self.capability(tag),
            Command::Noop | Command::Check => self.done(tag, None, "Done").await?,
            Command::Logout => {
                self.bye(None, "Goodbye");
                self.ok(tag, None, "LOGOUT completed");
            }
            Command::Id(_) => self.id(tag),
            Command::StartTls => self.start_tls(tag)?,
            Command::Authenticate { mechanism, initial } => self.authenticate(tag, &mechanism, initial).await?,
            Command::Login { user, password } => self.login(tag, &user, &password).await?,
            Command::Enable(enable) => self.enable(tag, enable),
            Command::Select(select) => self.select(tag, select, false).await?,
            Command::Examine(select) => self.select(tag, select, true).await?,
            Command::Create { mailbox, uses } => self.create(tag, mailbox, &uses).await?,
            Command::Delete(mailbox) => self.delete(tag, mailbox).await?,
            Command::Rename { from, to } => self.rename(tag, from, to).await?,
            Command::Subscribe(mailbox) => self.subscribe(tag, mailbox, true).await?,
            Command::Unsubscribe(mailbox) => self.subscribe(tag, mailbox, false).await?,
            Command::List(list) => self.list(tag, *list).await?,
            Command::Lsub { reference, pattern } => self.lsub(tag, &reference, &pattern).await?,
            Command::Namespace => {
                self.machine.writer().namespace(&[("", '/')], &[], &[]);
                self.done(tag, None, "NAMESPACE completed").await?;
            }
            Command::Status { mailbox, items } => self.status(tag, mailbox, items).await?,
            Command::Idle => {
                self.tell(true).await?;
                self.machine.start_idle(tag.clone());
                self.idling = Some(tag.clone());
            }
            Command::Close => self.close(tag).await?,
            Command::Unselect => self.unselect(tag)?,
            Command::Expunge => self.expunge(tag, None).await?,
            Command::UidExpunge(set) => self.expunge(tag, Some(&set)).await?,
            Command::Search { uid, search } => self.search(tag, uid, *search).await?,
            Command::Fetch { uid, set, fetch } => self.fetch(tag, uid, &set, *fetch).await?,
            Command::Store { uid, set, store } => self.store(tag, uid, &set, store).await?,
            Command::Copy { uid, set, mailbox } => self.copy(tag, uid, &set, mailbox, false).await?,
            Command::Move { uid, set, mailbox } => self.copy(tag, uid, &set, mailbox, true).await?,
        }
        Ok(())
    }

    /// The store below the mailboxes.
    fn store_below(&self) -> &Store {
        self.services.mailboxes.store()
    }

    /// Who signed in. The machine gives no other command before.
    fn user(&self) -> Result<AccountId, No> {
        self.user.ok_or(No::Wrong("Log in first"))
    }

    /// Who signed in may not go on.
    fn is_revoked(&self) -> bool {
        self.pass.as_ref().is_some_and(Pass::is_revoked)
    }

    fn selected(&mut self) -> Result<&mut Selected, No> {
        self.selected.as_deref_mut().ok_or(No::Wrong("Select a mailbox first"))
    }

    /// Ends a command, telling first what there is to tell; not for FETCH, STORE and SEARCH by number.
    async fn done(&mut self, tag: &Tag, code: Option<Code<'_>>, text: &str) -> Result<(), No> {
        self.tell(true).await?;
        self.ok(tag, code, text);
        Ok(())
    }

    fn ok(&mut self, tag: &Tag, code: Option<Code<'_>>, text: &str) {
        self.machine.writer().tagged(tag, Status::Ok, code, text);
    }

    /// The last word.
    fn bye(&mut self, code: Option<Code<'static>>, text: &str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.machine.writer().untagged(Status::Bye, code, text);
        }
    }

    /// Sends what was written, and keeps no buffer.
    async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(self.machine.output());
        self.conn.write(&out).await
    }

    async fn flush_if_full(&mut self) -> io::Result<()> {
        if self.machine.output().len() >= PIECE { self.flush().await } else { Ok(()) }
    }
}

/// RFC 9051 §6.4.9
fn is_by_uid(command: &Command) -> bool {
    match command {
        Command::Search { uid, .. }
        | Command::Fetch { uid, .. }
        | Command::Store { uid, .. }
        | Command::Copy { uid, .. }
        | Command::Move { uid, .. } => *uid,
        Command::UidExpunge(_) => true,
        _ => false,
    }
}

/// Waits for what the client is to hear unasked: answers to APPENDs, and what happens to the mailbox it idles in. May be
/// dropped and called again.
async fn stirred(appends: &mut Appends, idling: Option<&mut View>) -> Stir {
    if appends.is_under_way() {
        return Stir::Appended(appends.next().await);
    }
    match idling {
        Some(view) => {
            view.changed().await;
            Stir::Changed
        }
        None => pending().await,
    }
}

/// A set as the wire machine writes it.
fn ranges(set: &UidSet) -> imap::Ranges {
    set.ranges().iter().map(|(from, to)| *from..=*to).collect()
}

/// A set as the mailbox knows it.
fn uid_set(ranges: &imap::Ranges) -> UidSet {
    UidSet::from_ranges(ranges.as_slice().iter().map(|r| (*r.start(), *r.end())))
}
