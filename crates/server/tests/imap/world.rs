//! A server in memory, and clients that play transcripts at it.
//!
//! In a transcript `C:` lines are sent and `S:` lines must come, in this order. In an `S:` line `…` stands for any text;
//! a line that is only `…` for any lines. A line of the server that ends in a literal goes on with its octets, line ends
//! shown as `␍`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{AccountId, Address, BlobId, Clock, EmailId, MailboxId, SystemClock};
use directory::{Directory, NewAccount, NewDomain, PasswordHash, system_random};
use ingress::Ingress;
use mailbox::verbs::{self, NewEmail};
use mailbox::{Flags, Mailboxes};
use net::{CertFiles, ClientTls, Deadline, Roots, Stream, Tls, self_signed};
use server::{Service, Services};
use store::{Class, Lane, Options, Sql, Store, params};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// Accounts of the world, `u0@x.test` and so on, with the password `pw`.
const ACCOUNTS: usize = 2;
/// A server that says nothing for so long has nothing to say.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub services: Arc<Services>,
    pub accounts: Vec<AccountId>,
    pub stop: watch::Sender<bool>,
    dir: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.dir).ok();
    }
}

fn tls() -> Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    let make = || {
        let dir = std::env::temp_dir().join(format!("postroom-server-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let files = CertFiles { chain: dir.join("cert.pem"), key: dir.join("key.pem") };
        self_signed(&files, &["localhost".into()], SystemClock.now()).unwrap();
        let tls = Tls::load(vec![files]).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
        tls
    };
    TLS.get_or_init(make).clone()
}

impl World {
    pub async fn new() -> Self {
        World::with(0, true).await
    }

    /// `quota` in octets, 0 for none; `clear`: sign-in without TLS.
    pub async fn with(quota: u64, clear: bool) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let n = N.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("postroom-server-{}-{n}", std::process::id()));
        let store = Store::open(
            &Options::sqlite(&dir),
            &[directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS],
        )
        .unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let directory = Directory::open(store.clone(), clock.clone(), system_random).await.unwrap();
        let mailboxes = Mailboxes::new(store.clone(), clock);
        let accounts = store.write(move |tx| people(tx, quota)).await.unwrap();
        let (stop, stopping) = watch::channel(false);
        let queue = queue::Queue::open(&store, 1, SystemClock.now()).await.unwrap();
        let keys = trust::Keys::new(store.clone());
        let services = Services {
            ingress: Ingress::new(directory.clone(), mailboxes.clone(), queue, keys, "mx.x.test"),
            directory,
            mailboxes,
            tls: tls(),
            hostname: "mx.x.test".into(),
            trusted: Vec::new(),
            clear_on_loopback: clear,
            scram: true,
            max_message: 8 << 20,
            counters: Arc::default(),
            stopping,
        };
        World { services: Arc::new(services), accounts, stop, dir }
    }

    /// A connection from this machine, before its greeting.
    pub fn connect(&self) -> Client {
        self.connect_to(Service::Imap)
    }

    /// The same, to another service.
    pub fn connect_to(&self, service: Service) -> Client {
        let (ours, theirs) = Stream::duplex(64 * 1024);
        let here = "127.0.0.1:1".parse().unwrap();
        tokio::spawn(server::serve(self.services.clone(), service, false, ours.with_addresses(here, here)));
        Client { stream: Some(theirs), held: Vec::new(), log: String::new() }
    }

    /// The first user, signed in.
    pub async fn client(&self) -> Client {
        let mut client = self.connect();
        client.play("S: * OK …\nC: in LOGIN u0@x.test pw\nS: in OK …").await;
        client
    }

    /// The first user with INBOX selected.
    pub async fn inbox(&self) -> Client {
        let mut client = self.client().await;
        client.play("C: sel SELECT INBOX\n…\nS: sel OK …").await;
        client
    }

    /// Delivers a mail to the first user's INBOX, as if by SMTP.
    pub async fn deliver(&self, prefix: &'static str, mail: &[u8]) {
        let store = self.services.mailboxes.store();
        let mut stager = store.stager(Class::Lasting);
        stager.push(mail).unwrap();
        let mut indexer = mime::Indexer::new(mime::Limits::default());
        indexer.push(mail);
        let mut index = Vec::new();
        indexer.finish().encode(&mut index);
        let (account, octets, now) = (self.accounts[0], (prefix.len() + mail.len()) as u32, SystemClock.now());
        let work = move |tx: &mut store::Tx<'_>, blobs: &[BlobId]| {
            let new = NewEmail {
                blob: blobs[0],
                octets,
                received: now,
                prefix: prefix.as_bytes(),
                index: &index,
                flags: Flags::default(),
                keywords: &[],
            };
            verbs::deliver(tx, account, MailboxId(1), &new, now)
        };
        store.write_with(Lane::Interactive, vec![stager.finish()], work).await.unwrap();
    }

    /// The first user's mail of this number has not been taken away yet.
    pub async fn has_email(&self, id: i64) -> bool {
        let account = self.accounts[0];
        let work = move |tx: &mut store::Tx<'_>| verbs::email(tx, account, EmailId(id));
        self.services.mailboxes.store().read(work).await.unwrap().is_some()
    }

    pub async fn set_quota(&self, octets: u64) {
        let account = self.accounts[0];
        self.services.mailboxes.write(move |tx| verbs::set_quota(tx, account, octets)).await.unwrap();
    }

    /// The first user's mailbox has no more than `left` UIDs to give.
    pub async fn use_up_uids(&self, mailbox: i64, left: u32) {
        const SQL: Sql =
            Sql { name: "use_up", text: "UPDATE mailbox SET uid_next = ?3 WHERE account = ?1 AND id = ?2" };
        let (account, next) = (self.accounts[0], i64::from(u32::MAX - left));
        self.services.mailboxes.write(move |tx| tx.execute(&SQL, params![account, mailbox, next])).await.unwrap();
    }

    /// Loses the last octets of the packs.
    pub fn cut_packs(&self, octets: u64) {
        for pack in std::fs::read_dir(self.dir.join("packs")).unwrap() {
            let file = std::fs::File::options().write(true).open(pack.unwrap().path()).unwrap();
            let length = file.metadata().unwrap().len();
            file.set_len(length.saturating_sub(octets)).unwrap();
        }
    }

    /// The tables are consistent.
    pub async fn verify(&self) {
        let store = self.services.mailboxes.store().clone();
        let blobs = store.clone();
        let wrong = store.read(move |tx| mailbox::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).await.unwrap();
        assert_eq!(wrong, Vec::<String>::new());
    }
}

/// One organisation, one domain, some accounts.
fn people(tx: &mut store::Tx<'_>, quota: u64) -> store::Result<Vec<AccountId>> {
    static PW: OnceLock<PasswordHash> = OnceLock::new();
    let hash = PW.get_or_init(|| PasswordHash::new(b"pw", system_random).unwrap());
    let now = SystemClock.now();
    let organisation = directory::create_organisation(tx, "X", now)?;
    directory::create_domain(tx, &NewDomain { organisation, name: "x.test", created: now })?;
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let login = Address::parse(&format!("u{n}@x.test")).unwrap();
        let new = NewAccount {
            organisation,
            login: &login,
            name: "",
            quota: (quota > 0).then_some(quota),
            administrator: n == 0,
            created: now,
        };
        let account = directory::create_account(tx, &new)?;
        directory::set_password(tx, account, hash, now)?;
        verbs::create_account(tx, account, quota, now)?;
        accounts.push(account);
    }
    Ok(accounts)
}

/// A client, which keeps the dialogue for whoever has to find out what went wrong.
pub struct Client {
    stream: Option<Stream>,
    held: Vec<u8>,
    pub log: String,
}

impl Client {
    fn stream(&mut self) -> &mut Stream {
        self.stream.as_mut().unwrap()
    }

    pub async fn send(&mut self, octets: &[u8]) {
        self.log.push_str(&format!("C: {}\n", octets.escape_ascii().to_string().chars().take(300).collect::<String>()));
        self.stream().write_all(octets).await.unwrap();
        self.stream().flush().await.unwrap();
    }

    /// More octets are there; false at the end.
    async fn fill(&mut self) -> bool {
        let mut piece = vec![0; 64 * 1024];
        let read = tokio::time::timeout(PATIENCE, self.stream().read(&mut piece)).await;
        let Ok(read) = read else { panic!("the server says nothing more\n{}", self.log) };
        let n = read.unwrap_or(0);
        self.held.extend_from_slice(&piece[..n]);
        n > 0
    }

    /// A line of the server with its literals, without its line end; none at the end of the connection.
    pub async fn octets(&mut self) -> Option<Vec<u8>> {
        let (mut line, mut from) = (Vec::new(), 0);
        loop {
            while let Some(at) = self.held[from..].iter().position(|b| *b == b'\n') {
                let end = from + at + 1;
                match literal(&self.held[..end]) {
                    None => {
                        line.extend(self.held.drain(..end));
                        line.truncate(line.len() - 2);
                        self.log.push_str(&format!("S: {}\n", shown(&line).chars().take(1000).collect::<String>()));
                        return Some(line);
                    }
                    Some(octets) => {
                        while self.held.len() < end + octets {
                            assert!(self.fill().await, "a literal breaks off\n{}", self.log);
                        }
                        from = end + octets;
                    }
                }
            }
            if !self.fill().await {
                assert!(self.held.is_empty(), "half a line: {}\n{}", shown(&self.held), self.log);
                return None;
            }
        }
    }

    pub async fn line(&mut self) -> Option<String> {
        self.octets().await.map(|line| shown(&line))
    }

    /// The lines up to the one with this tag, which is the last and must be OK.
    pub async fn until(&mut self, tag: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let Some(line) = self.line().await else { panic!("the connection ended\n{}", self.log) };
            let last = line.starts_with(&format!("{tag} "));
            assert!(!last || line.starts_with(&format!("{tag} OK")), "{line}\n{}", self.log);
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Sends a command and gives its answer.
    pub async fn ask(&mut self, command: &str) -> Vec<String> {
        self.send(format!("t {command}\r\n").as_bytes()).await;
        self.until("t").await
    }

    /// Appends a mail to INBOX with a literal that is not waited for.
    pub async fn append(&mut self, flags: &str, mail: &str) {
        self.send(format!("ap APPEND INBOX {flags}{{{}+}}\r\n{mail}\r\n", mail.len()).as_bytes()).await;
        self.until("ap").await;
    }

    pub async fn play(&mut self, script: &str) {
        let mut any = false;
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "…" {
                any = true;
            } else if let Some(said) = line.strip_prefix("C: ") {
                self.send(format!("{said}\r\n").as_bytes()).await;
            } else if let Some(expected) = line.strip_prefix("S: ") {
                loop {
                    let Some(said) = self.line().await else {
                        panic!("the connection ended; expected: {expected}\n{}", self.log)
                    };
                    if fits(expected, &said) {
                        break;
                    }
                    assert!(any, "expected: {expected}\ncame:     {said}\n{}", self.log);
                }
                any = false;
            } else {
                panic!("neither C: nor S:: {line}");
            }
        }
    }

    /// Sends single octets, one every so many seconds, until the server says something; gives how many seconds that took.
    pub async fn trickle(&mut self, octets: impl Iterator<Item = u8>, every: u64) -> u64 {
        let (start, every) = (tokio::time::Instant::now(), Duration::from_secs(every));
        for octet in octets {
            self.stream().write_all(&[octet]).await.unwrap();
            let mut piece = [0; 1024];
            if let Ok(read) = tokio::time::timeout(every, self.stream().read(&mut piece)).await {
                self.held.extend_from_slice(&piece[..read.unwrap()]);
                break;
            }
        }
        start.elapsed().as_secs_f64().round() as u64
    }

    /// Nothing more is sent; answers are still read.
    pub async fn half_close(&mut self) {
        self.stream().shutdown().await.unwrap();
    }

    /// The server has hung up.
    pub async fn ended(&mut self) {
        let more = self.line().await;
        assert_eq!(more, None, "{}", self.log);
    }

    /// TLS from here on.
    pub async fn start_tls(&mut self) {
        let stream = self.stream.take().unwrap();
        let deadline = Deadline::after(PATIENCE);
        let tls = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
        self.stream = Some(stream.upgrade_client(&tls, "localhost", &[], deadline).await.unwrap());
    }
}

/// The literal announced at the end of a line.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(&line[open + 1..]).ok()?.parse().ok()
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).replace("\r\n", "␍")
}

/// Does a line fit a pattern with `…` in it?
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut open = false;
    for part in parts {
        open = true;
        match rest.find(part) {
            Some(at) if !part.is_empty() => {
                rest = &rest[at + part.len()..];
                open = false;
            }
            Some(_) => {}
            None => return false,
        }
    }
    open || rest.is_empty()
}
