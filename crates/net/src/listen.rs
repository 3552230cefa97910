//! Listening: sockets, the accept loop, caps, the PROXY header. What is said on a connection is the handler's business,
//! TLS included: a handshake belongs to one connection and must not keep the others from being accepted.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::caps::Slot;
use crate::proxy::{self, Endpoints, Step};
use crate::{Caps, Cidr, Deadline, Stream};

/// Connections the kernel keeps for us between two accepts.
const BACKLOG: i32 = 1024;

/// Where to listen: `127.0.0.1:25`, `[::]:25` or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// A TCP address. An IPv6 address takes IPv6 only, so `[::]:25` and `0.0.0.0:25` go together.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A text that is no [`ListenAddr`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadListenAddr(String);

impl fmt::Display for BadListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no address to listen on (like 127.0.0.1:25, [::]:25 or unix:/path)", self.0)
    }
}

impl std::error::Error for BadListenAddr {}

impl FromStr for ListenAddr {
    type Err = BadListenAddr;

    fn from_str(text: &str) -> Result<Self, BadListenAddr> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() && !path.contains('\0') => Ok(ListenAddr::Unix(path.into())),
            Some(_) => Err(BadListenAddr(text.into())),
            None => text.parse().map(ListenAddr::Tcp).map_err(|_| BadListenAddr(text.into())),
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddr::Tcp(addr) => addr.fmt(f),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// The caps, commonly the same for all listeners.
    pub caps: Caps,
    /// Sent to a peer that the caps turn away, before the connection is closed: `421 …`, `* BYE …`. Leave it empty
    /// where TLS comes first.
    pub full: &'static [u8],
    /// Peers in these networks are proxies: their connections must begin with a PROXY header, and are closed without.
    /// From everybody else a header is never read.
    pub proxies: Vec<Cidr>,
    /// How long a proxy may take to send its header.
    pub proxy_timeout: Duration,
    /// The mode of a Unix socket.
    pub unix_mode: u32,
}

impl Default for ListenOptions {
    /// The default caps, no proxies, ten seconds for a header, and a Unix socket for our user only.
    fn default() -> Self {
        ListenOptions {
            caps: Caps::default(),
            full: b"",
            proxies: Vec::new(),
            proxy_timeout: Duration::from_secs(10),
            unix_mode: 0o600,
        }
    }
}

/// An open listener. Connections wait in the kernel until [`Listener::serve`] is called.
#[derive(Debug)]
pub struct Listener {
    source: Source,
    options: ListenOptions,
}

#[derive(Debug)]
enum Source {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
    Memory(mpsc::Receiver<io::Result<Stream>>),
}

/// The outside of a listener in memory: what a network does to one.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<io::Result<Stream>>);

impl Door {
    /// Connects; the peer's end. Nothing is buffered beyond 64 KiB each way.
    ///
    /// # Errors
    /// `ConnectionRefused` when the listener is gone.
    pub async fn connect(&self, peer: SocketAddr, local: SocketAddr) -> io::Result<Stream> {
        let (ours, theirs) = Stream::duplex(64 * 1024);
        let ours = ours.with_addresses(peer, local);
        self.0.send(Ok(ours)).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(theirs.with_addresses(local, peer))
    }

    /// Makes one accept fail.
    pub async fn fail(&self, error: io::Error) {
        let _ = self.0.send(Err(error)).await;
    }
}

impl Listener {
    /// Opens the socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Those of the system: the address is in use, is not ours, is not allowed to us. For a Unix socket also
    /// `AddrInUse` when somebody answers there, or when the path is something else than a socket.
    pub fn bind(addr: &ListenAddr, options: ListenOptions) -> io::Result<Self> {
        let source = match addr {
            ListenAddr::Tcp(addr) => Source::Tcp(bind_tcp(*addr)?),
            ListenAddr::Unix(path) => Source::Unix(bind_unix(path, options.unix_mode)?, path.clone()),
        };
        Ok(Listener { source, options })
    }

    /// A listener in memory and its outside.
    pub fn memory(options: ListenOptions) -> (Self, Door) {
        let (door, source) = mpsc::channel(BACKLOG as usize);
        (Listener { source: Source::Memory(source), options }, Door(door))
    }

    /// Where it listens; with the real port if it was bound to port 0. None in memory.
    pub fn addr(&self) -> Option<ListenAddr> {
        match &self.source {
            Source::Tcp(socket) => socket.local_addr().ok().map(ListenAddr::Tcp),
            Source::Unix(_, path) => Some(ListenAddr::Unix(path.clone())),
            Source::Memory(_) => None,
        }
    }

    /// Accepts connections, each handled in a task of its own, until `stop` is done; then closes the socket (a Unix
    /// socket's file goes) and returns when the last of these tasks has ended. Telling them to end is the caller's part,
    /// and so is losing patience: dropping the future leaves the tasks running and counted.
    pub async fn serve<H, F>(mut self, stop: impl Future<Output = ()>, handler: H)
    where
        H: Fn(Stream) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // Each task holds a sender; when the last is gone, the receiver hears it.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let mut stop = pin!(stop);
        let mut pause = Pause::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.source.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    pause = Pause::default();
                    self.admit(stream, &handler, alive.clone());
                }
                Err(error) => {
                    let pause = pause.next();
                    tracing::warn!(%error, ?pause, "accepting connections fails");
                    tokio::select! {
                        biased;
                        () = &mut stop => break,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
        if let Source::Unix(_, path) = &self.source {
            // Nobody is to find a socket behind which nobody listens. Who cannot remove it leaves it to the next start.
            let _ = std::fs::remove_file(path);
        }
        drop((self, alive));
        let _ = all_gone.recv().await;
    }

    /// Starts the task of a connection, unless the house is full.
    fn admit<H, F>(&self, mut stream: Stream, handler: &H, alive: mpsc::Sender<()>)
    where
        H: Fn(Stream) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let full = self.options.full;
        let Some(mut slot) = self.options.caps.enter() else { return stream.try_write(full) };
        let proxied = stream.peer().is_some_and(|peer| self.options.proxies.iter().any(|net| net.contains(peer.ip())));
        if !proxied && stream.peer().is_some_and(|peer| !slot.belongs_to(peer.ip())) {
            return stream.try_write(full);
        }
        let (handler, timeout) = (handler.clone(), self.options.proxy_timeout);
        tokio::spawn(async move {
            if proxied {
                // Boxed, so that a session does not carry the state of a header long read.
                match Box::pin(unwrap_proxied(stream, &mut slot, full, Deadline::after(timeout))).await {
                    Ok(unwrapped) => stream = unwrapped,
                    Err(error) => return tracing::info!(%error, "a proxy's connection was closed"),
                }
            }
            handler(stream).await;
            drop((slot, alive));
        });
    }
}

/// Reads the PROXY header and counts the connection for its real peer.
async fn unwrap_proxied(
    mut stream: Stream,
    slot: &mut Slot,
    full: &'static [u8],
    deadline: Deadline,
) -> io::Result<Stream> {
    match read_header(&mut stream, deadline).await? {
        Some(Endpoints { source, destination }) => stream = stream.with_addresses(source, destination),
        None => stream.veil(),
    }
    let veiled = stream.is_veiled();
    let fits = |ip| if veiled { slot.counts_for(ip) } else { slot.belongs_to(ip) };
    if !stream.peer().map(|peer| peer.ip()).is_none_or(fits) {
        stream.try_write(full);
        return Err(io::Error::other("too many connections from one peer"));
    }
    Ok(stream)
}

async fn read_header(stream: &mut Stream, deadline: Deadline) -> io::Result<Option<Endpoints>> {
    let mut head = Vec::new();
    loop {
        match proxy::parse(&head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
            Step::Done(endpoints) => return Ok(endpoints),
            Step::More(n) => {
                let read = head.len();
                head.resize(read + n, 0);
                stream.fill(&mut head[read..], deadline).await?;
            }
        }
    }
}

/// How long to wait after a failed accept: 1 ms, doubled with each failure in a row up to a second.
///
/// Out of file descriptors (EMFILE, ENFILE), accept fails at once, and the listener stays readable: without a pause the
/// loop would take a whole processor from the very sessions that must end for it to go on. Errors of a single
/// connection (ECONNABORTED …) get the same treatment, which costs the next one a millisecond.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self) -> Duration {
        let pause = Duration::from_millis(1 << self.0.min(10)).min(Duration::from_secs(1));
        self.0 += 1;
        pause
    }
}

impl Source {
    async fn accept(&mut self) -> io::Result<Stream> {
        match self {
            Source::Tcp(socket) => socket.accept().await.map(|(io, peer)| Stream::tcp(io, peer)),
            Source::Unix(socket, _) => socket.accept().await.map(|(io, _)| Stream::unix(io)),
            Source::Memory(source) => match source.recv().await {
                Some(accepted) => accepted,
                // Nobody will connect any more; the caller's stop is still to come.
                None => std::future::pending().await,
            },
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    if addr.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds under another name and moves the socket into place when its mode is right: nobody can connect too early, and a
/// dead socket of an earlier run is replaced in one step.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "there is a file of this name that is no socket"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there"));
        }
        _ => {}
    }
    let mut early = path.as_os_str().to_owned();
    early.push(".new");
    match std::fs::remove_file(&early) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(&early)?;
    std::fs::set_permissions(&early, std::fs::Permissions::from_mode(mode))?;
    std::fs::rename(&early, path)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    const LOCAL: &str = "192.0.2.25:25";

    fn addr(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    /// Echoes one line's worth of bytes behind the peer's address, then waits for the end.
    async fn session(mut stream: Stream) {
        let mut buf = [0; 64];
        let hello = format!("{}\n", stream.peer().map_or_else(|| "-".into(), |p| p.to_string()));
        stream.write_all(hello.as_bytes()).await.unwrap();
        while stream.read(&mut buf).await.is_ok_and(|n| n > 0) {}
    }

    async fn line(stream: &mut Stream) -> String {
        let mut line = Vec::new();
        while let Ok(byte) = stream.read_u8().await {
            if byte == b'\n' {
                break;
            }
            line.push(byte);
        }
        String::from_utf8(line).unwrap()
    }

    fn start(options: ListenOptions) -> (Door, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let (listener, door) = Listener::memory(options);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(listener.serve(async { drop(stopped.await) }, session));
        (door, stop, server)
    }

    #[test]
    fn addresses_to_listen_on() {
        for text in ["127.0.0.1:25", "[::]:25", "unix:/run/postroom/lmtp"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        for text in ["", "25", "localhost:25", "127.0.0.1", "::1:25", "unix:", "127.0.0.1:65536", "unix:a\0b"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text:?}");
        }
    }

    /// A source that is out of file descriptors, and counts how often it was asked.
    #[tokio::test(start_paused = true)]
    async fn trap_24_out_of_descriptors_the_accept_loop_backs_off() {
        const EMFILE: i32 = 24;
        let (listener, door) = Listener::memory(ListenOptions::default());
        let (_stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(listener.serve(async { drop(stopped.await) }, session));
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, feeder) = (asked.clone(), door.clone());
        let feed = tokio::spawn(async move {
            // The channel is bounded: what could be sent beyond its room was taken by an accept. So many at most, for a
            // loop that spins to fail here instead of hanging.
            for _ in 0..100_000 {
                feeder.fail(io::Error::from_raw_os_error(EMFILE)).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        tokio::time::sleep(Duration::from_secs(60)).await;
        feed.abort();
        let accepts = asked.load(Ordering::Relaxed) - BACKLOG as usize;
        // 1 + 2 + 4 + … + 512 ms, then one a second.
        assert!((60..=75).contains(&accepts), "{accepts} accepts in a minute");
    }

    #[tokio::test(start_paused = true)]
    async fn after_failed_accepts_it_goes_on() {
        let (door, _stop, _server) = start(ListenOptions::default());
        let start = Instant::now();
        for errno in [24, 23, 103] {
            door.fail(io::Error::from_raw_os_error(errno)).await;
        }
        let mut peer = door.connect(addr("198.51.100.7:1000"), addr(LOCAL)).await.unwrap();
        assert_eq!(line(&mut peer).await, "198.51.100.7:1000");
        assert!(start.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test]
    async fn the_caps_turn_peers_away_with_a_word() {
        let caps = Caps::new(3, 2, vec![]);
        let options = ListenOptions { caps: caps.clone(), full: b"421 full\r\n", ..ListenOptions::default() };
        let (door, _stop, _server) = start(options);
        let connect = async |peer| door.connect(addr(peer), addr(LOCAL)).await.unwrap();
        let mut one = connect("198.51.100.7:1").await;
        let mut two = connect("198.51.100.7:2").await;
        let mut three = connect("198.51.100.7:3").await;
        assert_eq!(line(&mut one).await, "198.51.100.7:1");
        assert_eq!(line(&mut two).await, "198.51.100.7:2");
        assert_eq!(line(&mut three).await, "421 full\r");
        let mut other = connect("198.51.100.8:1").await;
        assert_eq!(line(&mut other).await, "198.51.100.8:1");
        let mut fourth = connect("198.51.100.9:1").await;
        assert_eq!(line(&mut fourth).await, "421 full\r");
        assert_eq!(caps.open(), 3);
        drop(one);
        while caps.open() == 3 {
            tokio::task::yield_now().await;
        }
        let mut again = connect("198.51.100.7:4").await;
        assert_eq!(line(&mut again).await, "198.51.100.7:4");
    }

    #[tokio::test]
    async fn a_stop_closes_the_door_and_waits_for_those_inside() {
        let (door, stop, server) = start(ListenOptions::default());
        let mut inside = door.connect(addr("198.51.100.7:1"), addr(LOCAL)).await.unwrap();
        line(&mut inside).await;
        stop.send(()).unwrap();
        while door.connect(addr("198.51.100.7:2"), addr(LOCAL)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!server.is_finished());
        drop(inside);
        server.await.unwrap();
    }

    fn behind_proxy(caps: &Caps) -> ListenOptions {
        let proxies = vec!["10.0.0.0/8".parse().unwrap()];
        ListenOptions { caps: caps.clone(), full: b"421 full\r\n", proxies, ..ListenOptions::default() }
    }

    #[tokio::test]
    async fn a_proxy_speaks_for_its_peer_and_nobody_else_does() {
        let caps = Caps::new(100, 1, vec![]);
        let (door, _stop, _server) = start(behind_proxy(&caps));
        let header = b"PROXY TCP4 203.0.113.9 192.0.2.25 40000 25\r\n";
        let mut proxied = door.connect(addr("10.0.0.1:1"), addr(LOCAL)).await.unwrap();
        proxied.write_all(header).await.unwrap();
        assert_eq!(line(&mut proxied).await, "203.0.113.9:40000");
        // The cap counts the real peer, not the proxy.
        let mut twin = door.connect(addr("10.0.0.1:2"), addr(LOCAL)).await.unwrap();
        twin.write_all(header).await.unwrap();
        assert_eq!(line(&mut twin).await, "421 full\r");
        let mut other = door.connect(addr("10.0.0.1:3"), addr(LOCAL)).await.unwrap();
        other.write_all(b"PROXY TCP4 203.0.113.10 192.0.2.25 40000 25\r\n").await.unwrap();
        assert_eq!(line(&mut other).await, "203.0.113.10:40000");
        // A stranger's header is data.
        let mut liar = door.connect(addr("203.0.113.66:5"), addr(LOCAL)).await.unwrap();
        liar.write_all(header).await.unwrap();
        assert_eq!(line(&mut liar).await, "203.0.113.66:5");
        // A proxy without a header is closed without a word.
        let mut mute = door.connect(addr("10.0.0.1:4"), addr(LOCAL)).await.unwrap();
        mute.write_all(b"EHLO x.test\r\nEHLO").await.unwrap();
        assert_eq!(line(&mut mute).await, "");
    }

    #[tokio::test]
    async fn whom_a_proxy_does_not_name_is_veiled_and_capped() {
        let caps = Caps::new(100, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let (listener, door) = Listener::memory(behind_proxy(&caps));
        let (_stop, stopped) = oneshot::channel::<()>();
        let say = async |mut stream: Stream| {
            let veiled = format!("{}\n", stream.is_veiled());
            stream.write_all(veiled.as_bytes()).await.unwrap();
            session(stream).await;
        };
        tokio::spawn(listener.serve(async { drop(stopped.await) }, move |stream| Box::pin(say(stream))));
        let mut named = door.connect(addr("10.0.0.1:1"), addr(LOCAL)).await.unwrap();
        named.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.25 40000 25\r\n").await.unwrap();
        assert_eq!(line(&mut named).await, "false");
        let v2_unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
        for (port, header) in [(2, &b"PROXY UNKNOWN\r\n"[..]), (3, v2_unspecified)] {
            let mut unnamed = door.connect(addr(&format!("10.0.0.{port}:1")), addr(LOCAL)).await.unwrap();
            unnamed.write_all(header).await.unwrap();
            assert_eq!(line(&mut unnamed).await, "true");
            let mut twin = door.connect(addr(&format!("10.0.0.{port}:2")), addr(LOCAL)).await.unwrap();
            twin.write_all(header).await.unwrap();
            assert_eq!(line(&mut twin).await, "421 full\r", "though the proxy's network is not capped");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_a_proxy_that_stalls_in_its_header_frees_its_slot() {
        let caps = Caps::default();
        let (door, _stop, _server) = start(behind_proxy(&caps));
        let mut stalled = door.connect(addr("10.0.0.1:1"), addr(LOCAL)).await.unwrap();
        for byte in b"PROXY" {
            stalled.write_u8(*byte).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
        assert_eq!(caps.open(), 1);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(caps.open(), 0);
        assert_eq!(line(&mut stalled).await, "");
    }
}
