//! `postroom serve`: opens everything, says it is ready, and drains when it is told to stop.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ingress::Ingress;
use net::{Caps, Cidr, Identity, ListenAddr, ListenOptions, Listener};
use outbox::telemetry::{Figures, Telemetry};
use outbox::webhooks::Webhooks;
use outbox::{Outbox, Parts, Routes};
use queue::Queue;
use server::{Counters, Role, Service, Services};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use trust::Keys;

use crate::certificates::Certificates;
use crate::compact;
use crate::config::{Config, Laboratory};
use crate::events::EventFile;
use crate::house::House;
use crate::mta_sts::Policies;
use crate::watch::Watch;
use crate::{control, descriptors, node, privileges, published, scheduling};

/// Connections from one peer that is neither of this machine nor trusted.
const PER_PEER: usize = 100;
/// How long a command may have the store that looks into it while no server runs: so often, and so long each.
const COMMAND_LOOKS: u32 = 5;
const LOOK: Duration = Duration::from_millis(200);
/// How long sessions get to end by themselves.
const DRAIN: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// In words for the administrator: what could not be opened, and why.
pub async fn run(config: Config) -> Result<(), String> {
    let descriptors = descriptors::raise();
    if let Some(few) = descriptors::few(descriptors) {
        tracing::warn!("{few}");
    }
    // Ports below 1024 are root's, and nothing else is done as root. Who connects from now on waits for us.
    let caps = caps(&config, descriptors::connections(descriptors));
    let mut doors = doors(&config, &caps, |addr| matches!(addr, ListenAddr::Tcp(_)))?;
    privileges::give_up(&config)?;
    doors.extend(self::doors(&config, &caps, |addr| matches!(addr, ListenAddr::Unix(_)))?);
    if privileges::is_root() {
        tracing::warn!("running as root: name a user in the configuration, and the server becomes it");
    }
    let certificates = Certificates::open(&config)?;
    let hangup = signal(SignalKind::hangup()).map_err(|e| format!("waiting for signals: {e}"))?;
    let house = opened(&config).await.map_err(|e| opening(&config, &e))?;
    // Not before the directory is ours: another server may be writing to it.
    let event_file = config.events.file.as_ref().map(|file| EventFile::open(file, &config.data)).transpose()?;
    // What an earlier life left claimed is sorted out before anything new can come (trap 22).
    let this = node::this(&config)?;
    let journal = node::journal(&config, &this);
    let queue = Queue::recover(&house.store, &this, house.clock.now(), outbox::remains(&journal)).await;
    let queue = queue.map_err(|e| opening(&config, &e))?;
    let ending = Ending::heard().map_err(|e| format!("waiting for signals: {e}"))?;
    let epoch = queue.epoch();
    let outbox = outbox(&config, &house, &queue, journal, certificates.identity())?;
    let keys = Keys::new(house.store.clone()).with_dkim2(config.dkim.dkim2);
    let ingress = Ingress::new(house.directory.clone(), house.mailboxes.clone(), queue, keys, &config.hostname);
    let (stop, stopping) = watch::channel(false);
    let counters = Arc::new(Counters::default());
    let services = Arc::new(Services {
        directory: house.directory.clone(),
        mailboxes: house.mailboxes.clone(),
        ingress,
        tls: certificates.tls(),
        hostname: config.hostname.clone(),
        trusted: cidrs(&config.network.trusted),
        clear_on_loopback: config.network.cleartext_login_on_loopback,
        scram: config.sign_in.scram,
        max_message: config.max_message,
        counters: counters.clone(),
        stopping: stopping.clone(),
    });
    let mut tasks = JoinSet::new();
    let house = House { outbox: Some(outbox.meter()), ..house };
    let telemetry = config.telemetry.as_ref().map(|_| Arc::<Figures>::default());
    let watch =
        Arc::new(Watch { house: house.clone(), outbox: outbox.meter(), counters, telemetry: telemetry.clone() });
    let policies = Arc::new(Policies { store: house.store.clone(), hostname: config.hostname.clone() });
    let inside = Inside { services, watch, policies, certificates: &certificates };
    doors.into_iter().for_each(|door| inside.let_in(&mut tasks, door, &stopping));
    let socket = ListenAddr::Unix(control::path(&config.data));
    let listener = Listener::bind(&socket, ListenOptions::default()).map_err(|e| listening(&socket, &e))?;
    {
        let (house, stop) = (house.clone(), stopped(stopping.clone()));
        tasks.spawn(listener.serve(stop, move |stream| control::serve(house.clone(), stream)));
    }
    tasks.spawn(certificates.keep(hangup, stopped(stopping.clone())));
    let meter = outbox.meter();
    let sending = scheduling::apart("outbound", outbox.run(stopped(stopping.clone())));
    let (sending, gone) = (sending.map_err(|e| format!("starting threads: {e}"))?, Arc::new(Notify::new()));
    tasks.spawn(sent(sending, gone.clone()));
    tell(&mut tasks, &config, &house, epoch, telemetry, &stopping)?;
    if let Some(file) = event_file {
        let hangup = signal(SignalKind::hangup()).map_err(|e| format!("waiting for signals: {e}"))?;
        tasks.spawn(file.run(house.store.clone(), hangup, stopping.clone()));
    }
    tend(&mut tasks, &config, house, &stopping);
    println!("postroom: ready");
    let _ = std::io::stdout().flush();
    let outcome = tokio::select! {
        biased;
        () = ending.come() => Ok(()),
        () = meter.over() => Err("another node took over what this one had claimed, as it was silent for too long".to_owned()),
        // Who takes mail that nobody sends promises too much.
        () = gone.notified() => Err("what sends mail has failed".to_owned()),
    };
    tracing::info!("stopping");
    let _ = stop.send(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("some sessions did not end in time");
    }
    let _ = std::fs::remove_file(control::path(&config.data));
    outcome
}

/// Until the outbox has ended, which it does when it is told to, or by a fault: then whoever waits for it hears.
async fn sent(sending: impl Future<Output = Result<(), String>>, gone: Arc<Notify>) {
    if let Err(error) = sending.await {
        tracing::error!(error, "what sends mail has failed");
        gone.notify_one();
    }
}

/// What those who are let in find.
struct Inside<'a> {
    services: Arc<Services>,
    watch: Arc<Watch>,
    policies: Arc<Policies>,
    certificates: &'a Certificates,
}

impl Inside<'_> {
    /// Whoever comes to a door is let in until the server stops.
    fn let_in(&self, tasks: &mut JoinSet<()>, Door { listener, behind }: Door, stopping: &watch::Receiver<bool>) {
        let stop = stopped(stopping.clone());
        match behind {
            Behind::Mail(service, tls) => {
                let services = self.services.clone();
                tasks.spawn(listener.serve(stop, move |stream| server::serve(services.clone(), service, tls, stream)));
            }
            Behind::Watch => {
                let watch = self.watch.clone();
                tasks.spawn(listener.serve(stop, move |stream| http::serve(stream, watch.clone())));
            }
            Behind::Policies => {
                let (policies, tls) = (self.policies.clone(), self.certificates.tls());
                let serve = move |stream| http::serve_policies(stream, tls.clone(), policies.clone());
                tasks.spawn(listener.serve(stop, serve));
            }
            Behind::Challenges => {
                let challenges = self.certificates.challenges();
                tasks.spawn(listener.serve(stop, move |stream| http::serve_challenges(stream, challenges.clone())));
            }
        }
    }
}

/// Programs are told what happens: webhooks, and a collector of traces, if one is named.
fn tell(
    tasks: &mut JoinSet<()>,
    config: &Config,
    house: &House,
    epoch: i64,
    figures: Option<Arc<Figures>>,
    stopping: &watch::Receiver<bool>,
) -> Result<(), String> {
    let webhooks = Webhooks {
        store: house.store.clone(),
        epoch,
        clock: house.clock.clone(),
        https: house.webhooks.way(&house.outside)?,
        random: directory::system_random,
    };
    tasks.spawn(webhooks.run(stopped(stopping.clone())));
    if let Some((to, figures)) = config.telemetry.as_ref().zip(figures) {
        let telemetry = Telemetry {
            store: house.store.clone(),
            epoch,
            clock: house.clock.clone(),
            https: to.way(&house.outside)?,
            setup: to.setup(&config.hostname),
            figures,
            stopping: stopping.clone(),
        };
        tasks.spawn(telemetry.run());
    }
    Ok(())
}

/// What is done beside all the time: what was left is taken away, dead space is given back, and what the DNS says of us is looked at.
fn tend(tasks: &mut JoinSet<()>, config: &Config, house: House, stopping: &watch::Receiver<bool>) {
    let every = Duration::from_secs(config.store.compact_seconds);
    tasks.spawn(compact::run(house.store.clone(), every, stopping.clone()));
    if !config.node.keeps() {
        return;
    }
    let mailboxes = house.mailboxes.clone();
    tokio::spawn(async move {
        if let Err(error) = mailboxes.tidy_up().await {
            tracing::warn!(%error, "what deleted mailboxes and expunged mails left could not be taken away");
        }
    });
    tasks.spawn(published::watch(house, stopping.clone()));
}

/// The store; a command that has just looked into it is waited for.
async fn opened(config: &Config) -> Result<House, store::Error> {
    for _ in 0..COMMAND_LOOKS {
        match House::open(config).await {
            Err(store::Error::Busy) => tokio::time::sleep(LOOK).await,
            done => return done,
        }
    }
    House::open(config).await
}

/// The way out.
fn outbox(
    config: &Config,
    house: &House,
    queue: &Queue,
    journal: PathBuf,
    identity: Option<Identity>,
) -> Result<Outbox, String> {
    let (words, outside) = (|e: net::DnsError| e.to_string(), &house.outside);
    if let Some(Laboratory { dns, .. }) = outside.laboratory() {
        tracing::warn!(%dns, "in a laboratory: nothing leaves this machine");
    }
    let parts = Parts {
        store: house.store.clone(),
        queue: queue.clone(),
        directory: house.directory.clone(),
        clock: house.clock.clone(),
        resolver: outside.resolver().map_err(words)?,
        validating: outside.validating().map_err(words)?,
        dialer: outside.dialer(),
        roots: outside.roots(None).map_err(|e| e.to_string())?,
        identity,
        random: directory::system_random,
        hostname: config.hostname.clone(),
        routes: Routes { fixed: config.fixed_routes()?, smarthost: config.smarthost()? },
        bodies: None,
        keep: config.receipts.keep(),
        journal: Some(journal),
        peers: node::peers(config),
    };
    Outbox::new(parts).map_err(|e| e.to_string())
}

fn cidrs(list: &[crate::config::Parsed<Cidr>]) -> Vec<Cidr> {
    list.iter().map(|p| p.0).collect()
}

/// What is spoken behind a door.
#[derive(Clone, Copy, Debug)]
enum Behind {
    /// A mail protocol, and whether TLS comes first.
    Mail(Service, bool),
    /// Health and metrics.
    Watch,
    /// What a certificate authority asks.
    Challenges,
    /// The policies of our domains.
    Policies,
}

/// An address that is listened on.
struct Door {
    listener: Listener,
    behind: Behind,
}

/// Begins to listen on the addresses that are `wanted`; nobody is let in yet.
fn doors(config: &Config, caps: &Caps, wanted: fn(&ListenAddr) -> bool) -> Result<Vec<Door>, String> {
    let open = |(addr, behind): (&ListenAddr, Behind)| {
        let listener = Listener::bind(addr, options(config, caps, behind)).map_err(|e| listening(addr, &e))?;
        tracing::info!(%addr, ?behind, "listening");
        Ok(Door { listener, behind })
    };
    addresses(config).filter(|(addr, _)| wanted(addr)).map(open).collect()
}

/// Every address with what is spoken there.
fn addresses(config: &Config) -> impl Iterator<Item = (&ListenAddr, Behind)> {
    let l = &config.listen;
    let all = [
        (&l.smtp, Service::Smtp(Role::Mx), false),
        (&l.alternative, Service::Smtp(Role::Submission), false),
        (&l.submission, Service::Smtp(Role::Submission), false),
        (&l.submissions, Service::Smtp(Role::Submission), true),
        (&l.lmtp, Service::Smtp(Role::Lmtp), false),
        (&l.imap, Service::Imap, false),
        (&l.imaps, Service::Imap, true),
        (&l.pop3, Service::Pop3, false),
        (&l.pop3s, Service::Pop3, true),
    ];
    let mail =
        all.into_iter().flat_map(|(addrs, service, tls)| addrs.iter().map(move |a| (a, Behind::Mail(service, tls))));
    let watch = l.http.iter().map(|a| (a, Behind::Watch));
    let challenges = l.acme_http.iter().map(|a| (a, Behind::Challenges));
    mail.chain(watch).chain(challenges).chain(l.https.iter().map(|a| (a, Behind::Policies)))
}

/// One count for all listeners: descriptors are the process's.
fn caps(config: &Config, connections: usize) -> Caps {
    let mut uncapped = cidrs(&config.network.trusted);
    uncapped.extend(["127.0.0.0/8", "::1/128"].iter().filter_map(|net| net.parse::<Cidr>().ok()));
    Caps::new(connections, PER_PEER, uncapped)
}

fn options(config: &Config, caps: &Caps, behind: Behind) -> ListenOptions {
    let full: &'static [u8] = match behind {
        Behind::Watch => return ListenOptions::default(),
        Behind::Mail(_, true) | Behind::Challenges | Behind::Policies => b"",
        Behind::Mail(Service::Smtp(_), _) => b"421 4.7.0 Too many connections, please try again later\r\n",
        Behind::Mail(Service::Imap, _) => b"* BYE [UNAVAILABLE] Too many connections, please try again later\r\n",
        Behind::Mail(Service::Pop3, _) => b"-ERR [SYS/TEMP] Too many connections, please try again later\r\n",
    };
    // Who delivers by LMTP sits on this machine, as a proxy may: it speaks for itself.
    let lmtp = matches!(behind, Behind::Mail(Service::Smtp(Role::Lmtp), _));
    let proxies = if lmtp { Vec::new() } else { cidrs(&config.network.proxy_protocol_from) };
    let unix_mode = config.listen.lmtp_mode.filter(|_| lmtp).unwrap_or(0o600);
    ListenOptions { caps: caps.clone(), full, proxies, unix_mode, ..ListenOptions::default() }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// SIGTERM and SIGINT, from when they no longer end the process at once: before the server says that it is ready.
struct Ending {
    term: Signal,
    int: Signal,
}

impl Ending {
    fn heard() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn come(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

fn opening(config: &Config, e: &store::Error) -> String {
    match e {
        store::Error::Busy => {
            let shared = config.store.shared.iter().filter(|_| config.node.keeps());
            let shared: String =
                shared.map(|d| format!(", or {} is (only one of role = \"all\")", d.display())).collect();
            format!("{} is in use{shared}: another server runs on it", config.data.display())
        }
        e => e.to_string(),
    }
}

fn listening(addr: &ListenAddr, e: &std::io::Error) -> String {
    let hint = match (e.kind(), addr) {
        (std::io::ErrorKind::PermissionDenied, ListenAddr::Tcp(SocketAddr::V4(_) | SocketAddr::V6(_))) => {
            " (ports below 1024 are for root: start as root, or listen on a higher port)"
        }
        (std::io::ErrorKind::AddrInUse, _) => " (another program listens there)",
        _ => "",
    };
    format!("cannot listen on {addr}: {e}{hint}")
}
