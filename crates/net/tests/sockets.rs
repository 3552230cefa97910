//! Real sockets: TCP on 127.x and ::1, Unix sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use net::{Deadline, ListenAddr, ListenOptions, Listener, Stream, with_deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

/// Says who the peer is, then echoes.
async fn echo(mut stream: Stream) {
    let who = stream.peer().map_or_else(|| "nobody".into(), |peer| peer.ip().to_string());
    stream.write_all(who.as_bytes()).await.unwrap();
    let mut buf = [0; 16];
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut buf) {
            Ok(0) => return,
            Ok(n) => stream.write_all(&buf[..n]).await.unwrap(),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

fn listen(addr: &str) -> (ListenAddr, oneshot::Sender<()>) {
    let listener = Listener::bind(&addr.parse().unwrap(), ListenOptions::default()).unwrap();
    let (stop, stopped) = oneshot::channel();
    let addr = listener.addr().unwrap();
    tokio::spawn(listener.serve(async { drop(stopped.await) }, echo));
    (addr, stop)
}

fn tcp(addr: &ListenAddr) -> SocketAddr {
    match addr {
        ListenAddr::Tcp(addr) => *addr,
        ListenAddr::Unix(_) => panic!("{addr}"),
    }
}

#[tokio::test]
async fn tcp_v4_and_v6_share_a_port() {
    let (v4, _stop4) = listen("127.0.0.11:0");
    let port = tcp(&v4).port();
    let (any4, _stop) = listen("0.0.0.0:0");
    let (_any6, _stop6) = listen(&format!("[::]:{}", tcp(&any4).port()));
    for (to, who) in [
        (format!("127.0.0.11:{port}"), "127.0.0.1"),
        (format!("127.0.0.12:{}", tcp(&any4).port()), "127.0.0.1"),
        (format!("[::1]:{}", tcp(&any4).port()), "::1"),
    ] {
        let mut io = std::net::TcpStream::connect(&to).map(|io| {
            io.set_nonblocking(true).unwrap();
            tokio::net::TcpStream::from_std(io).unwrap()
        });
        let io = io.as_mut().unwrap();
        let mut said = vec![0; who.len()];
        io.read_exact(&mut said).await.unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), who);
        io.write_all(&[b'x'; 100]).await.unwrap();
        io.shutdown().await.unwrap();
        let mut echoed = Vec::new();
        io.read_to_end(&mut echoed).await.unwrap();
        assert_eq!(echoed, [b'x'; 100]);
    }
}

#[tokio::test]
async fn unix_sockets_have_their_mode_and_replace_only_the_dead() {
    let path = std::env::temp_dir().join(format!("postroom-net-unix-{}", std::process::id()));
    let addr = format!("unix:{}", path.display());
    std::fs::write(&path, "a file").unwrap();
    let bind = || Listener::bind(&addr.parse().unwrap(), ListenOptions { unix_mode: 0o660, ..Default::default() });
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    std::fs::remove_file(&path).unwrap();

    drop(bind().unwrap());
    assert!(path.exists(), "a dead socket stays behind");
    let (_, _stop) = listen(&addr);
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let mut io = tokio::net::UnixStream::connect(&path).await.unwrap();
    let mut said = [0; 6];
    io.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"nobody");
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_read() {
    let (mut stream, _silent) = Stream::duplex(16);
    let read = with_deadline(Deadline::after(Duration::from_secs(300)), stream.read_u8()).await;
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
}
