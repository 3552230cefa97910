//! A small internet in memory, and a server in it: `example.test` with the account `me@example.test`.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak, mpsc};
use std::time::Duration;

use base::{AccountId, Address, BlobId, Clock, OrganisationId, Stream, Timestamp};
use directory::{Directory, NewAccount, NewDomain, system_random};
use mailbox::Mailboxes;
use mailbox::verbs::{self, INBOX};
use net::{Dialer, Door, ListenOptions, Listener, Resolver, Roots, Stream as Connection, Tls, Zone};
use outbox::{Meter, Outbox, Parts, Routes};
use queue::source::{self, NewSource, Scope, SourceId, What};
use queue::{Bodies, DeliverBy, Fate, NewDelivery, NewMessage, Queue, QueueId, Recipe, Standing, State};
use smtp::{BodyType, Hold, Mail, Notify};
use store::{Class, Lane, Options, Store, Tx};
use testkit::Dir;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::peer::{Character, Peer};
use crate::web::Web;

pub const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 60 * MINUTE;
/// What every mail of these tests has in front of it.
pub const PREFIX: &str = "Received: by mx.example.test\r\n";
pub const BODY: &str = "Subject: hi\r\nMessage-ID: <1@client.test>\r\n\r\nhello\r\n";

/// The least that tokio's clock moves.
const A_MOMENT: Duration = Duration::from_millis(1);
/// So often it is looked whether something is so.
const LOOKS: u32 = 1000;

/// A clock that is moved by hand.
pub struct Moved(AtomicI64);

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

/// The clock as one server has it: whatever that began holds it as long as it goes on.
struct OnesOwn(Arc<Moved>);

impl Clock for OnesOwn {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// An internet under construction.
#[derive(Default)]
pub struct Net {
    zone: Zone,
    doors: HashMap<SocketAddr, Door>,
    routes: Routes,
    roots: Vec<std::path::PathBuf>,
    files: Vec<Arc<Dir>>,
    bodies: Option<Arc<dyn Bodies>>,
    /// Cuts all connections.
    cut: watch::Sender<()>,
}

impl Net {
    /// A domain `name` whose only mail host `mx.NAME` is this one, at 192.0.2.`n`.
    pub fn host(self, name: &str, n: u8, character: Character) -> (Self, Peer) {
        let host = format!("mx.{name}");
        self.mx(name, 10, &host, n, character)
    }

    /// One mail host more for a domain.
    pub fn mx(mut self, name: &str, preference: u16, host: &str, n: u8, character: Character) -> (Self, Peer) {
        let ip: IpAddr = [192, 0, 2, n].into();
        self.zone = self.zone.mx(name, preference, host).ip(host, ip);
        self.listen(SocketAddr::new(ip, 25), character)
    }

    /// A host at an address, without a name.
    pub fn listen(mut self, at: SocketAddr, character: Character) -> (Self, Peer) {
        let peer = Peer::new(character);
        let (listener, door) = Listener::memory(ListenOptions::default());
        self.doors.insert(at, door);
        let serving = peer.clone();
        self.serve(listener, move |stream| serving.clone().serve(stream));
        (self, peer)
    }

    /// A web server of this name at 192.0.2.`n`.
    pub fn web(mut self, name: &str, n: u8, tls: Tls) -> (Self, Web) {
        let (ip, web): (IpAddr, _) = ([192, 0, 2, n].into(), Web::new(tls));
        self.zone = self.zone.ip(name, ip);
        (self.also_at(&format!("{ip}:443"), &web), web)
    }

    /// A web server is to be found here, too.
    pub fn also_at(mut self, at: &str, web: &Web) -> Self {
        let (listener, door) = Listener::memory(ListenOptions::default());
        self.doors.insert(at.parse().unwrap(), door);
        let serving = web.clone();
        self.serve(listener, move |stream| serving.clone().serve(stream));
        self
    }

    /// Until its connections are cut.
    fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        listener: Listener,
        session: impl Fn(Connection) -> F + Clone + Send + 'static,
    ) {
        let cut = self.cut.clone();
        let until_cut = move |stream| {
            let (mut cut, session) = (cut.subscribe(), session(stream));
            async move {
                tokio::select! {
                    () = session => {}
                    _ = cut.changed() => {}
                }
            }
        };
        tokio::spawn(listener.serve(std::future::pending(), until_cut));
    }

    pub fn dns(mut self, change: impl FnOnce(Zone) -> Zone) -> Self {
        self.zone = change(self.zone);
        self
    }

    pub fn routes(mut self, change: impl FnOnce(&mut Routes)) -> Self {
        change(&mut self.routes);
        self
    }

    pub fn trusting(mut self, certificate: std::path::PathBuf) -> Self {
        self.roots.push(certificate);
        self
    }

    /// Who makes mails.
    pub fn making(mut self, bodies: Arc<dyn Bodies>) -> Self {
        self.bodies = Some(bodies);
        self
    }

    /// Where the certificates are, until they are read.
    pub fn keeping(mut self, files: &Arc<Dir>) -> Self {
        self.files.push(files.clone());
        self
    }

    pub async fn world(self) -> World {
        World::new(self).await
    }
}

/// A server and the clock of everything.
pub struct World {
    pub store: Store,
    pub queue: Queue,
    pub me: AccountId,
    pub clock: Arc<Moved>,
    meter: Option<Meter>,
    directory: Directory,
    net: (Resolver, Resolver, Dialer, Routes, Roots),
    zone: Arc<Mutex<Zone>>,
    bodies: Option<Arc<dyn Bodies>>,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    /// There as long as anything of the server that began last goes on.
    alive: Weak<OnesOwn>,
    cut: watch::Sender<()>,
    // Dropped after all else; the directory goes last.
    still: Mutex<Option<Still>>,
    _there: There,
    _dir: Dir,
}

/// As long as it is there, tokio's paused clock stands still: it does as long as a blocking thread is busy. Else it would
/// move whenever no task can run, while the store, on threads of its own, is at work.
struct Still(mpsc::Sender<()>, JoinHandle<()>);

impl Still {
    fn stand() -> Self {
        let (busy, wait) = mpsc::channel();
        Still(busy, tokio::task::spawn_blocking(move || _ = wait.recv()))
    }

    async fn end(self) {
        drop(self.0);
        self.1.await.unwrap();
    }
}

thread_local! {
    /// A test has one world at a time: no other keeps the clock from moving.
    static THERE: Cell<bool> = const { Cell::new(false) };
}

/// There is a world.
struct There;

impl There {
    fn is() -> Self {
        assert!(!THERE.replace(true), "drop the world before the next begins");
        There
    }
}

impl Drop for There {
    fn drop(&mut self) {
        THERE.set(false);
    }
}

impl World {
    async fn new(net: Net) -> Self {
        let (there, still) = (There::is(), Mutex::new(Some(Still::stand())));
        let dir = Dir::new("outbox");
        let tables = [directory::MIGRATIONS, mailbox::MIGRATIONS, queue::MIGRATIONS, trust::MIGRATIONS];
        let store = Store::open(&Options::sqlite(dir.path()), &tables).unwrap();
        let clock = Arc::new(Moved(AtomicI64::new(NOW.0)));
        let directory = Directory::open(store.clone(), clock.clone(), system_random).await.unwrap();
        let _ = Mailboxes::new(store.clone(), clock.clone());
        let me = store.write(people).await.unwrap();
        let queue = Queue::open(&store, 1, NOW).await.unwrap();
        let roots = Roots::new(&net.roots).unwrap();
        let dialer = Dialer::memory(net.doors);
        let plain = Resolver::memory(net.zone.clone().without_dnssec());
        let (resolver, zone) = Resolver::changing(net.zone);
        let (bodies, cut, net) = (net.bodies, net.cut, (plain, resolver, dialer, net.routes, roots));
        let (running, alive, meter) = (None, Weak::new(), None);
        let mut world = World {
            store,
            queue,
            me,
            clock,
            directory,
            net,
            zone,
            bodies,
            running,
            alive,
            cut,
            meter,
            still,
            _there: there,
            _dir: dir,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let (resolver, validating, dialer, routes, roots) = self.net.clone();
        let clock = Arc::new(OnesOwn(self.clock.clone()));
        self.alive = Arc::downgrade(&clock);
        let parts = Parts {
            store: self.store.clone(),
            queue: self.queue.clone(),
            directory: self.directory.clone(),
            clock,
            validating,
            resolver,
            dialer,
            roots,
            identity: None,
            random: counted,
            hostname: "mx.example.test".into(),
            routes,
            bodies: self.bodies.clone(),
            keep: outbox::Keep::default(),
            journal: None,
            peers: None,
        };
        let (stop, stopped) = oneshot::channel();
        let outbox = Outbox::new(parts).unwrap();
        self.meter = Some(outbox.meter());
        let task = tokio::spawn(outbox.run(async { drop(stopped.await) }));
        self.running = Some((stop, task));
    }

    /// Attempts delivered, deferred, bounced and expired, and deliveries that are claimed.
    pub fn metered(&self) -> ([u64; 4], usize) {
        let meter = self.meter.as_ref().unwrap();
        (meter.outcomes().map(|(_, n)| n), meter.claimed())
    }

    /// Whether it believes that the DNS is proven.
    pub fn validates(&self) -> bool {
        self.meter.as_ref().unwrap().validates()
    }

    /// Whether people's mail to a domain is held.
    pub fn held(&self, domain: &str) -> bool {
        let until = self.meter.as_ref().unwrap().held(queue::Group::of(Stream::Mail, OrganisationId::HOUSE, domain, 0));
        until.is_some_and(|(until, _)| until > self.clock.now())
    }

    /// Why people's mail to a domain is held.
    pub fn why(&self, domain: &str) -> Option<outbox::Why> {
        let group = queue::Group::of(Stream::Mail, OrganisationId::HOUSE, domain, 0);
        self.meter.as_ref().unwrap().held(group).filter(|(until, _)| *until > self.clock.now()).map(|(_, why)| why)
    }

    /// Where people's mail to a domain goes that is held.
    pub fn kept(&self, domain: &str) -> Option<outbox::Kept> {
        self.meter.as_ref().unwrap().kept(queue::Group::of(Stream::Mail, OrganisationId::HOUSE, domain, 0))
    }

    /// Tells the outbox to stop; the task is done when it has.
    pub fn stop(&mut self) -> JoinHandle<()> {
        let (stop, task) = self.running.take().unwrap();
        let _ = stop.send(());
        task
    }

    /// The process dies, with its connections and whatever else it is at, and another begins.
    pub async fn kill_and_start(&mut self) {
        let (_, task) = self.running.take().unwrap();
        task.abort();
        let _ = task.await;
        self.cut.send_replace(());
        self.meter = None;
        self.until("nothing of it goes on", async || self.alive.strong_count() == 0).await;
        self.queue = Queue::open(&self.store, 1, self.clock.now()).await.unwrap();
        self.start();
    }

    /// After [`World::stop`].
    pub async fn start_again(&mut self) {
        self.queue = Queue::open(&self.store, 1, self.clock.now()).await.unwrap();
        self.start();
    }

    /// The DNS has this text from now on, and no other.
    pub fn announce(&self, name: &str, text: &str) {
        let mut zone = self.zone.lock().unwrap();
        *zone = zone.clone().without(name).txt(name, text);
    }

    /// The DNS has nothing there any more.
    pub fn withdraw(&self, name: &str) {
        let mut zone = self.zone.lock().unwrap();
        *zone = zone.clone().without(name);
    }

    /// Time passes for everybody, when nothing is left to be done before.
    pub async fn pass(&self, seconds: u64) {
        self.settle().await;
        self.jump(seconds).await;
        self.settle().await;
    }

    /// Time passes for everybody, whatever is under way.
    pub async fn jump(&self, seconds: u64) {
        self.clock.0.fetch_add(seconds as i64 * 1000, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    /// Waits until nothing happens any more unless time passes: no task can run, and the store has answered all it was
    /// asked. It takes milliseconds of everybody's time.
    pub async fn settle(&self) {
        loop {
            let before = self.store.work();
            if before.is_done() {
                let still = self.still.lock().unwrap().take();
                still.expect("one settles at a time").end().await;
                // The clock moves when no task can run, and only then.
                tokio::time::sleep(A_MOMENT).await;
                *self.still.lock().unwrap() = Some(Still::stand());
                self.clock.0.fetch_add(A_MOMENT.as_millis() as i64, Ordering::Relaxed);
                if self.store.work() == before {
                    return;
                }
            }
            // It is done when what was asked before is; more or less.
            let _ = self.store.write(|_| Ok(())).await;
        }
    }

    /// Waits until something is so: at once, when all that can happen has, or a little later.
    pub async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        for _ in 0..LOOKS {
            if so().await {
                return;
            }
            self.settle().await;
        }
        panic!("never: {what}");
    }

    /// [`World::until`] in real time: while a test keeps a blocking thread busy, nothing settles.
    pub async fn until_meanwhile(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        for _ in 0..5000 {
            if so().await {
                return;
            }
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(2))).await.unwrap();
        }
        panic!("never: {what}");
    }

    pub async fn send(&self, to: &[&str]) -> QueueId {
        self.enqueue("me@example.test", to, None, BODY).await
    }

    pub async fn enqueue(&self, from: &str, to: &[&str], notify: Option<Notify>, body: &str) -> QueueId {
        let kind = if body.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime };
        self.enqueue_as(Mail { body: kind, ..mail(from) }, to, notify, body).await
    }

    pub async fn enqueue_as(&self, mail: Mail, to: &[&str], notify: Option<Notify>, body: &str) -> QueueId {
        self.enqueue_in(Stream::Mail, mail, to, notify, body).await
    }

    pub async fn send_in(&self, stream: Stream, to: &[&str]) -> QueueId {
        self.enqueue_in(stream, mail("me@example.test"), to, None, BODY).await
    }

    /// Of an organisation's.
    pub async fn send_of(&self, organisation: i64, to: &[&str]) -> QueueId {
        let of = (OrganisationId(organisation), Stream::Mail);
        self.enqueue_of(of, mail("me@example.test"), to, None, BODY).await
    }

    pub async fn enqueue_in(
        &self,
        stream: Stream,
        mail: Mail,
        to: &[&str],
        notify: Option<Notify>,
        body: &str,
    ) -> QueueId {
        self.enqueue_of((OrganisationId::HOUSE, stream), mail, to, notify, body).await
    }

    async fn enqueue_of(
        &self,
        (organisation, stream): (OrganisationId, Stream),
        mail: Mail,
        to: &[&str],
        notify: Option<Notify>,
        body: &str,
    ) -> QueueId {
        let (id, created) = (self.queue.next_id(), self.clock.now());
        let delivery = |to: &&str| NewDelivery { to: at(to), notify, original: None, fate: Fate::Open };
        let deliveries: Vec<_> = to.iter().map(delivery).collect();
        // What is held may be for mailboxes of ours.
        let mut stager = self.store.stager(if mail.hold.is_some() { Class::Lasting } else { Class::Transit });
        stager.push(body.as_bytes()).unwrap();
        let after = |seconds: i64| Timestamp(created.0 + seconds * 1000);
        let release = mail.hold.map(|hold| match hold {
            Hold::For(seconds) => after(seconds.into()),
            Hold::Until(at) => at,
        });
        let deliver_by = mail.deliver_by.map(|by| DeliverBy {
            until: after(by.seconds.into()),
            returned: by.returned,
            trace: by.trace,
        });
        let octets = (PREFIX.len() + body.len()) as u64;
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
            let new = NewMessage {
                id,
                from: mail.from.as_ref(),
                prefix: PREFIX.as_bytes(),
                content: queue::Content::Stored(blobs[0]),
                octets,
                envelope_id: None,
                ret: mail.ret,
                body: mail.body,
                smtputf8: false,
                require_tls: mail.require_tls,
                tls_optional: false,
                account: None,
                organisation,
                stream,
                created,
                priority: mail.priority.unwrap_or(0),
                release,
                deliver_by,
                expires: None,
                message_id: Some("1@sender.test"),
            };
            queue::enqueue(tx, &new, &deliveries)
        };
        self.store.write_with(Lane::Interactive, vec![stager.finish()], work).await.unwrap();
        id
    }

    /// A mail of marketing that is made for each recipient.
    pub async fn make_for(&self, to: &[&str], reference: &str) -> QueueId {
        self.make_in(Stream::Marketing, to, reference).await
    }

    /// The same of a stream.
    pub async fn make_in(&self, stream: Stream, to: &[&str], reference: &str) -> QueueId {
        let (id, created, from) = (self.queue.next_id(), self.clock.now(), at("me@example.test"));
        let recipe = Recipe { kind: 7, reference: reference.as_bytes().into() };
        let delivery = |to: &&str| NewDelivery { to: at(to), notify: None, original: None, fate: Fate::Open };
        let deliveries: Vec<_> = to.iter().map(delivery).collect();
        let work = move |tx: &mut Tx<'_>| {
            let made = NewMessage::made(id, recipe.clone(), created);
            let new = NewMessage { from: Some(&from), stream, message_id: Some("7@x.test"), ..made };
            queue::enqueue(tx, &new, &deliveries)
        };
        self.store.write(work).await.unwrap();
        id
    }

    /// A source with these addresses, that says its name with `.example.test` behind.
    pub async fn source(&self, name: &'static str, addresses: &[&str]) -> SourceId {
        let ips: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let add = move |tx: &mut Tx<'_>| {
            let mut new = NewSource { ehlo: Some(format!("{name}.example.test")), ..NewSource::default() };
            for ip in &ips {
                match ip {
                    IpAddr::V4(ip) => new.v4 = Some(*ip),
                    IpAddr::V6(ip) => new.v6 = Some(*ip),
                }
            }
            source::add(tx, name, &new)
        };
        self.store.write(add).await.unwrap()
    }

    /// A pool of sources with their weights, for people's mail.
    pub async fn pool(&self, name: &'static str, members: &[(&str, u32)]) {
        let members: Vec<(String, u32)> = members.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        self.store.write(move |tx| source::add_pool(tx, name, &members, &[Stream::Mail])).await.unwrap();
    }

    /// Figures of the operator's, for a site or all.
    pub async fn policy(&self, site: Option<&str>, figures: &[(&str, &str)]) {
        self.policy_of(None, site, figures).await;
    }

    /// The same, for the mail of an organisation.
    pub async fn policy_of(&self, organisation: Option<i64>, site: Option<&str>, figures: &[(&str, &str)]) {
        let organisation = organisation.map(OrganisationId);
        self.rules(Scope { site: site.map(Into::into), organisation, ..Scope::default() }, figures).await;
    }

    /// The same, for what the scope says.
    pub async fn rules(&self, scope: Scope, figures: &[(&str, &str)]) {
        let rule = |(key, value): &(&str, &str)| source::Rule {
            scope: scope.clone(),
            key: (*key).into(),
            value: (*value).into(),
        };
        let rules: Vec<_> = figures.iter().map(rule).collect();
        self.store.write(move |tx| source::set_rules(tx, &rules)).await.unwrap();
    }

    /// Holds something, or drains it.
    pub async fn hold(&self, what: What, drains: bool) {
        self.store.write(move |tx| source::stop(tx, &what, drains, NOW)).await.unwrap();
    }

    pub async fn resume(&self, what: What) {
        let now = self.clock.now();
        assert!(self.store.write(move |tx| source::resume(tx, &what, now)).await.unwrap());
    }

    /// Ends what sites of a name asked for, of a source or all.
    pub async fn end_pauses(&self, site: &'static str, source: Option<SourceId>) {
        let now = self.clock.now();
        self.store.write(move |tx| source::end_pauses(tx, site, source, now)).await.unwrap();
        self.settle().await;
    }

    /// What is known of a site.
    pub fn site(&self, name: &str) -> Vec<outbox::SiteState> {
        self.meter.as_ref().unwrap().sites(Some(name), 9)
    }

    /// So much comes that the queue's pack is full and another begins.
    pub async fn fill_pack(&self) {
        let mut filler = self.store.stager(Class::Transit);
        (0..64).for_each(|_| filler.push(&vec![0; 1 << 20]).unwrap());
        self.store.write_with(Lane::Interactive, vec![filler.finish()], |_, _| Ok(())).await.unwrap();
    }

    /// The bytes of a message are copied elsewhere, and the pack they were in is deleted.
    pub async fn moved(&self, id: QueueId, body: &str) {
        self.fill_pack().await;
        let mut stager = self.store.stager(Class::Transit);
        stager.push(body.as_bytes()).unwrap();
        let work = move |tx: &mut Tx<'_>, blobs: &[BlobId]| {
            let old = queue::blob(tx, id)?.expect("a message");
            (queue::REFERENCES.repoint)(tx, old, blobs[0], 10)
        };
        let moved = self.store.write_with(Lane::Interactive, vec![stager.finish()], work).await.unwrap();
        let swept = self.store.sweep_transit(queue::refers_between).await.unwrap();
        assert!(moved == 1 && swept >= 1, "{moved} moved, {swept} packs deleted");
    }

    /// The deliveries of a message; none when it is finished.
    pub async fn show(&self, id: QueueId) -> Vec<Standing> {
        self.store.read(move |tx| queue::show(tx, id)).await.unwrap().map_or(Vec::new(), |(_, d)| d)
    }

    /// Waits until nothing of it is left: at once, or a second later where another was on its way to a site that is not known.
    pub async fn until_gone(&self, id: QueueId) {
        let is_gone = async || self.show(id).await.is_empty();
        for _ in 0..LOOKS {
            if is_gone().await {
                return;
            }
            self.settle().await;
        }
        self.pass(1).await;
        self.until("the message is finished", is_gone).await;
    }

    /// Waits until the first delivery waits after `attempts`; gives it.
    pub async fn until_deferred(&self, id: QueueId, attempts: u32) -> Standing {
        let waits =
            |d: &[Standing]| d.first().is_some_and(|d| d.state == State::Waiting && d.delivery.attempts == attempts);
        self.until("the delivery is deferred", async || waits(&self.show(id).await)).await;
        self.show(id).await.remove(0)
    }

    /// The mails in my INBOX, whole.
    pub async fn inbox(&self) -> Vec<String> {
        let (me, blobs) = (self.me, self.store.clone());
        let read = move |tx: &mut Tx<'_>| {
            let folders = verbs::folders(tx, me)?;
            let n = folders.iter().find(|f| f.id == INBOX).map_or(0, |f| f.messages);
            let mut mails = Vec::new();
            for email in 1..=i64::from(n) {
                let row = verbs::email(tx, me, base::EmailId(email))?.expect("an email");
                let mut bytes = row.prefix.clone();
                blobs.blob(row.blob)?.read(0, u64::MAX, &mut bytes)?;
                mails.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            Ok(mails)
        };
        self.store.read(read).await.unwrap()
    }

    /// Waits for the n-th mail in my INBOX.
    pub async fn mail(&self, n: usize) -> String {
        self.until("a mail in the inbox", async || self.inbox().await.len() >= n).await;
        self.inbox().await.remove(n - 1)
    }

    /// Every test ends with the tables in order.
    pub async fn check(&self) {
        let blobs = self.store.clone();
        let wrong = self.store.read(move |tx| queue::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).await.unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        let blobs = self.store.clone();
        let wrong = self.store.read(move |tx| mailbox::verify(tx, &|id| Ok(blobs.blob(id)?.len()))).await.unwrap();
        assert_eq!(wrong, Vec::<String>::new());
    }
}

/// An envelope with nothing special about it.
pub fn mail(from: &str) -> Mail {
    Mail { from: Address::parse(from).ok(), ..Mail::default() }
}

fn people(tx: &mut Tx<'_>) -> store::Result<AccountId> {
    let organisation = directory::create_organisation(tx, "X", NOW)?;
    directory::create_domain(tx, &NewDomain { organisation, name: "example.test", created: NOW })?;
    let login = at("me@example.test");
    let new = NewAccount { organisation, login: &login, name: "", quota: None, administrator: true, created: NOW };
    let me = directory::create_account(tx, &new)?;
    verbs::create_account(tx, me, 0, NOW)?;
    Ok(me)
}

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
    static PANICKED: Cell<u32> = const { Cell::new(0) };
}

/// How often it did.
pub fn panicked() -> u32 {
    PANICKED.get()
}

/// From now on, on this thread.
pub fn panic_in_random(yes: bool) {
    PANICS.set(yes);
}

/// Unlike numbers, the same in every run.
fn counted(bytes: &mut [u8]) -> base::Result<()> {
    if PANICS.get() {
        PANICKED.set(PANICKED.get() + 1);
        panic!("a panic that was asked for");
    }
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    bytes.iter_mut().zip(n.iter().cycle()).for_each(|(b, n)| *b = *n);
    Ok(())
}

pub fn at(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A host with rules.
pub fn rules(rules: &[(&'static str, crate::peer::Act)]) -> Character {
    Character { rules: rules.to_vec(), ..Character::default() }
}
