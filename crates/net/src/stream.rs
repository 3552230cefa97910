//! One connection to a peer, whatever carries it: TCP, a Unix socket or memory, each with TLS or without.
//!
//! Sessions of all protocols read and write a [`Stream`] and never ask what it is. It is small when nothing happens:
//! an idle session waits in [`Stream::readable`] without a read buffer, and gets one only when bytes are there.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsAcceptor, client, server};

use crate::tls_client::{ClientTls, Trust};
use crate::tls_server::Tls;
use crate::{Deadline, with_deadline};

thread_local! {
    /// Where octets come in: cleared once, where a buffer of each read's own would be cleared for each.
    static PIECE: RefCell<Box<[u8]>> = RefCell::new(vec![0; 32 * 1024].into());
}

/// A connection to a peer.
///
/// Reads and writes have no deadline of their own: wrap each in [`with_deadline`]. Flush before waiting for the peer:
/// under TLS written bytes may rest here. Dropping a stream closes the connection without a TLS close_notify;
/// [`Stream::close`] says goodbye first.
#[derive(Debug)]
pub struct Stream {
    wire: Wire,
    peer: Option<SocketAddr>,
    local: Option<SocketAddr>,
    veiled: bool,
}

/// TLS state is boxed: it is a kilobyte that a plain connection need not carry.
#[derive(Debug)]
enum Wire {
    Plain(Socket),
    TlsServer(Box<server::TlsStream<Socket>>),
    TlsClient(Box<client::TlsStream<Socket>>, Trust),
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(Box<Memory>),
}

/// What was agreed in the TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's name in IANA's registry, as a `Received` field gives it (RFC 8314 §4.3).
    pub cipher: &'static str,
    /// The name the client asked for (SNI). Server side only, in lower case.
    pub server_name: Option<String>,
    /// The application protocol agreed on (ALPN, RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// What the server's certificate is worth. Client side only.
    pub trust: Option<Trust>,
}

impl Stream {
    fn plain(socket: Socket, peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        Stream { wire: Wire::Plain(socket), peer, local, veiled: false }
    }

    /// A TCP connection. Nagle's algorithm is switched off: replies are written whole.
    pub(crate) fn tcp(socket: TcpStream, peer: SocketAddr) -> Self {
        // Both fail only on a connection that is dead already; its first read will tell.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr().ok();
        Stream::plain(Socket::Tcp(socket), Some(peer), local)
    }

    pub(crate) fn unix(socket: UnixStream) -> Self {
        Stream::plain(Socket::Unix(socket), None, None)
    }

    /// Two ends of a connection in memory, each of which buffers at most `capacity` bytes on their way to the other.
    /// They have no addresses until [`Stream::with_addresses`] gives them some.
    pub fn duplex(capacity: usize) -> (Stream, Stream) {
        let (a, b) = tokio::io::duplex(capacity);
        let stream = |io| Stream::plain(Socket::Memory(Box::new(Memory { io, early: Vec::new() })), None, None);
        (stream(a), stream(b))
    }

    /// The same connection with other addresses: those a PROXY header told, or those a test wants.
    #[must_use]
    pub fn with_addresses(mut self, peer: SocketAddr, local: SocketAddr) -> Self {
        (self.peer, self.local) = (Some(peer), Some(local));
        self
    }

    /// The peer's address, behind a proxy the real one; None for a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// True for what a proxy forwards without saying for whom (PROXY `UNKNOWN`, `LOCAL`): the peer's address is then the
    /// proxy's, and who speaks is none of those whom that address stands for. It deserves no trust.
    pub fn is_veiled(&self) -> bool {
        self.veiled
    }

    pub(crate) fn veil(&mut self) {
        self.veiled = true;
    }

    /// The address the peer connected to; None for a Unix socket.
    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// True when bytes travel under TLS.
    pub fn is_tls(&self) -> bool {
        !matches!(self.wire, Wire::Plain(_))
    }

    /// What was agreed in the TLS handshake; None in the clear.
    pub fn tls(&self) -> Option<TlsFacts> {
        let (common, server_name, trust): (&rustls::CommonState, _, _) = match &self.wire {
            Wire::Plain(_) => return None,
            Wire::TlsServer(tls) => (tls.get_ref().1, tls.get_ref().1.server_name(), None),
            Wire::TlsClient(tls, trust) => (tls.get_ref().1, None, Some(trust.clone())),
        };
        Some(TlsFacts {
            version: match common.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: common.negotiated_cipher_suite().map_or("", |suite| cipher_name(suite.suite())),
            server_name: server_name.map(str::to_ascii_lowercase),
            alpn: common.alpn_protocol().map(<[u8]>::to_vec),
            trust,
        })
    }

    /// The `tls-exporter` channel binding for SCRAM-…-PLUS (RFC 9266 §2): 32 bytes that both ends of this TLS
    /// connection, and nobody between them, can compute.
    ///
    /// None in the clear, and under TLS 1.2: there it is only sound with the extended master secret (RFC 9266 §4.2),
    /// whose use rustls does not tell.
    pub fn channel_binding(&self) -> Option<[u8; 32]> {
        const LABEL: &[u8] = b"EXPORTER-Channel-Binding";
        let export = |common: &rustls::CommonState| common.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        match &self.wire {
            Wire::TlsServer(tls) if export(tls.get_ref().1) => {
                tls.get_ref().1.export_keying_material([0; 32], LABEL, Some(b"")).ok()
            }
            Wire::TlsClient(tls, _) if export(tls.get_ref().1) => {
                tls.get_ref().1.export_keying_material([0; 32], LABEL, Some(b"")).ok()
            }
            _ => None,
        }
    }

    /// Waits until [`Stream::try_read`] is worth calling: bytes, the end, or an error are there. Holds no buffer
    /// meanwhile. Safe to cancel, and to call again without reading.
    ///
    /// # Errors
    /// Those of the socket, as a read would give them.
    pub async fn readable(&mut self) -> io::Result<()> {
        // A caller loops over readable and try_read. When tokio's budget for this turn is spent, try_read finds nothing
        // though bytes are there; giving up the turn here keeps that loop from spinning.
        tokio::task::coop::consume_budget().await;
        let socket = match &mut self.wire {
            Wire::Plain(socket) => socket,
            Wire::TlsServer(tls) => {
                let (socket, tls) = tls.get_mut();
                if has_plaintext(tls.process_new_packets()) {
                    return Ok(());
                }
                socket
            }
            Wire::TlsClient(tls, _) => {
                let (socket, tls) = tls.get_mut();
                if has_plaintext(tls.process_new_packets()) {
                    return Ok(());
                }
                socket
            }
        };
        match socket {
            Socket::Tcp(io) => io.readable().await,
            Socket::Unix(io) => io.readable().await,
            Socket::Memory(io) => io.readable().await,
        }
    }

    /// Reads what is there into `buf`, without waiting; zero is the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is nothing for the reader, which can be so right after
    /// [`Stream::readable`]: under TLS the bytes may be part of a record, or the protocol's own.
    pub fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut *self).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf) {
            Poll::Ready(Ok(())) => Ok(buf.filled().len()),
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => Err(self.failed().unwrap_or_else(|| io::ErrorKind::WouldBlock.into())),
        }
    }

    /// What was wrong with the peer's TLS. It was said once already: who reads on would wait for what never comes, without a pause, as
    /// [`Stream::readable`] finds the error there.
    fn failed(&mut self) -> Option<io::Error> {
        let state = match &mut self.wire {
            Wire::Plain(_) => return None,
            Wire::TlsServer(tls) => tls.get_mut().1.process_new_packets(),
            Wire::TlsClient(tls, _) => tls.get_mut().1.process_new_packets(),
        };
        state.err().map(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// [`Stream::try_read`] of at most 32 KiB, behind what `held` holds and is not `used` yet: what was used goes, and it grows by
    /// what came and by no more. What nothing is left of gives its memory back.
    ///
    /// # Errors
    /// Those of [`Stream::try_read`].
    pub fn try_read_behind(&mut self, held: &mut Vec<u8>, used: &mut usize) -> io::Result<usize> {
        held.drain(..std::mem::take(used));
        if held.is_empty() {
            *held = Vec::new();
        }
        PIECE.with_borrow_mut(|piece| {
            let read = self.try_read(piece)?;
            held.extend_from_slice(&piece[..read]);
            Ok(read)
        })
    }

    /// Writes what the peer takes now, without waiting: a last word to one who is shown the door.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) {
        let _ = Pin::new(self).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
    }

    /// Our side of STARTTLS, or of TLS from the first byte: a handshake as the server.
    ///
    /// `leftover` is what the caller read behind the command that asked for TLS. It must be empty: bytes sent in the
    /// clear before the handshake could have been put there by anyone on the way, and must not count as said inside TLS
    /// (RFC 3207 §6; CVE-2011-0411).
    ///
    /// # Errors
    /// `InvalidData`: leftover plaintext, or what the peer says is not the TLS we speak; `TimedOut`; `InvalidInput`:
    /// TLS is on already. The connection is closed by any of them.
    pub async fn upgrade(self, tls: &Tls, leftover: &[u8], deadline: Deadline) -> io::Result<Stream> {
        let (peer, local, veiled) = (self.peer, self.local, self.veiled);
        let socket = self.into_plain(leftover)?;
        // Boxed, so that the kilobytes of a handshake under way are not part of the session's task for ever.
        let handshake = Box::pin(TlsAcceptor::from(tls.config()).accept(socket));
        let stream = with_deadline(deadline, handshake).await?;
        Ok(Stream { wire: Wire::TlsServer(Box::new(stream)), peer, local, veiled })
    }

    /// A handshake as the client of the server called `name` (an MX host, a smart host, or an IP address).
    ///
    /// `leftover` is what the caller read behind the server's go-ahead, and must be empty for the reason given at
    /// [`Stream::upgrade`].
    ///
    /// # Errors
    /// As for [`Stream::upgrade`]; `InvalidData` also when `tls` demands a trusted certificate and this is none;
    /// `InvalidInput` also when `name` is no host name.
    pub async fn upgrade_client(
        self,
        tls: &ClientTls,
        name: &str,
        leftover: &[u8],
        deadline: Deadline,
    ) -> io::Result<Stream> {
        let (peer, local, veiled) = (self.peer, self.local, self.veiled);
        let socket = self.into_plain(leftover)?;
        let (stream, trust) = with_deadline(deadline, Box::pin(tls.connect(name, socket))).await?;
        Ok(Stream { wire: Wire::TlsClient(Box::new(stream), trust), peer, local, veiled })
    }

    /// The bare socket, fit for a handshake.
    fn into_plain(self, leftover: &[u8]) -> io::Result<Socket> {
        if !leftover.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "plaintext was sent ahead of the TLS handshake"));
        }
        match self.wire {
            Wire::Plain(socket) => Ok(socket),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "TLS is already in use")),
        }
    }

    /// Reads exactly `buf.len()` bytes.
    ///
    /// # Errors
    /// `TimedOut`; `UnexpectedEof` when the peer ends before.
    pub(crate) async fn fill(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<()> {
        with_deadline(deadline, self.read_exact(buf)).await.map(drop)
    }

    /// Writes what is buffered, says goodbye under TLS, and ends our direction; gives up at the deadline. The peer may
    /// be gone: nobody is interested in an error here.
    pub async fn close(mut self, deadline: Deadline) {
        // All was handed to the system, which ends both directions when the socket goes: a call less.
        if let Wire::Plain(Socket::Tcp(_)) = self.wire {
            return;
        }
        let _ = with_deadline(deadline, self.shutdown()).await;
    }
}

/// True when decrypted bytes, the end or an error await the reader. No new bytes were read, so this only looks.
fn has_plaintext(state: Result<rustls::IoState, rustls::Error>) -> bool {
    state.map_or(true, |state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed())
}

/// rustls names the suites of TLS 1.3 `TLS13_…`; IANA calls them `TLS_…` (RFC 8446 §B.4).
fn cipher_name(suite: rustls::CipherSuite) -> &'static str {
    match suite {
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str().unwrap_or(""),
    }
}

/// One end of a connection in memory. Tokio's has no way to wait without reading, so what was read while waiting is
/// kept here.
#[derive(Debug)]
pub(crate) struct Memory {
    io: DuplexStream,
    early: Vec<u8>,
}

impl Memory {
    async fn readable(&mut self) -> io::Result<()> {
        if self.early.is_empty() {
            let mut chunk = [0; 512];
            let n = self.io.read(&mut chunk).await?;
            self.early.extend_from_slice(&chunk[..n]);
        }
        Ok(())
    }
}

impl AsyncRead for Memory {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = buf.remaining().min(self.early.len());
        buf.put_slice(&self.early[..n]);
        self.early.drain(..n);
        Poll::Ready(Ok(()))
    }
}

/// The same call on whichever variant it is.
macro_rules! on_socket {
    ($self:expr, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Socket::Tcp(io) => {
                let $io = Pin::new(io);
                $call
            }
            Socket::Unix(io) => {
                let $io = Pin::new(io);
                $call
            }
            Socket::Memory(io) => {
                let $io = Pin::new(&mut io.io);
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Socket::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Socket::Unix(io) => Pin::new(io).poll_read(cx, buf),
            Socket::Memory(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_socket!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_socket!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_socket!(self, io => io.poll_shutdown(cx))
    }
}

macro_rules! on_wire {
    ($self:expr, $io:ident => $call:expr) => {
        match &mut $self.get_mut().wire {
            Wire::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Wire::TlsServer(io) => {
                let $io = Pin::new(&mut **io);
                $call
            }
            Wire::TlsClient(io, _) => {
                let $io = Pin::new(&mut **io);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_wire!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_wire!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_wire!(self, io => io.poll_shutdown(cx))
    }
}
