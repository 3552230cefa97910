//! Real sockets: TCP on 127.x and ::1, Unix sockets.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use net::{Deadline, Dialer, ListenAddr, ListenOptions, Listener, Stream, with_deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

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
        let mut io = Dialer::tcp().dial(to.parse().unwrap(), None, soon()).await.unwrap();
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

#[tokio::test]
async fn dialing_from_a_source_address() {
    let (addr, _stop) = listen("127.0.0.13:0");
    let to = tcp(&addr);
    let dialer = Dialer::tcp();
    let mut stream = dialer.dial(to, Some("127.0.0.14".parse().unwrap()), soon()).await.unwrap();
    let mut who = [0; 10];
    stream.read_exact(&mut who).await.unwrap();
    assert_eq!(&who, b"127.0.0.14");
    assert_eq!((stream.peer(), stream.local().map(|a| a.ip())), (Some(to), Some("127.0.0.14".parse().unwrap())));

    let nobody = SocketAddr::new("127.0.0.15".parse().unwrap(), to.port());
    assert_eq!(dialer.dial(nobody, None, soon()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    let foreign = dialer.dial(to, Some("192.0.2.1".parse().unwrap()), soon()).await;
    assert_eq!(foreign.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
    let mixed = dialer.dial(to, Some("::1".parse().unwrap()), soon()).await;
    assert_eq!(mixed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn dialing_in_memory() {
    let (listener, door) = Listener::memory(ListenOptions::default());
    tokio::spawn(listener.serve(std::future::pending(), echo));
    let to: SocketAddr = "192.0.2.25:25".parse().unwrap();
    let dialer = Dialer::memory([(to, door)].into());
    let mut stream = dialer.dial(to, Some("198.51.100.7".parse().unwrap()), soon()).await.unwrap();
    let mut who = [0; 12];
    stream.read_exact(&mut who).await.unwrap();
    assert_eq!(&who, b"198.51.100.7");
    let nobody = dialer.dial("192.0.2.26:25".parse().unwrap(), None, soon()).await;
    assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

/// A listener whose backlog is full answers no SYN any more.
#[tokio::test]
async fn a_host_that_does_not_answer_costs_no_more_than_the_deadline() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.16:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let to = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills_it = std::net::TcpStream::connect(to).unwrap();
    let late = Dialer::tcp().dial(to, None, Deadline::after(Duration::from_millis(50))).await;
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

/// Both loops spend tokio's budget for a turn many times over; the reader must then give up its turn, not spin.
#[tokio::test]
async fn a_reader_of_much_lets_others_run() {
    let (addr, _stop) = listen("127.0.0.18:0");
    let mut stream = Dialer::tcp().dial(tcp(&addr), None, soon()).await.unwrap();
    stream.write_all(&[b'x'; 50_000]).await.unwrap();
    let (mut got, mut buf) = (0, [0; 7]);
    while got < 9 + 50_000 {
        stream.readable().await.unwrap();
        match stream.try_read(&mut buf) {
            Ok(n) => got += n,
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

/// The kernel's own EMFILE: runs the next test under a limit.
#[test]
fn out_of_descriptors_for_real_it_recovers() {
    let limited = "ulimit -n 64; exec \"$0\" --exact out_of_descriptors --ignored --nocapture";
    let child = std::process::Command::new("sh").args(["-c", limited]).arg(std::env::current_exe().unwrap()).output();
    let child = child.unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}

#[tokio::test]
#[ignore = "uses up all file descriptors: run by out_of_descriptors_for_real_it_recovers"]
async fn out_of_descriptors() {
    let (addr, _stop) = listen("127.0.0.17:0");
    let mut files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    files.pop();
    // The client takes the last descriptor; the kernel completes its connection, but nobody can accept it.
    let mut client = Dialer::tcp().dial(tcp(&addr), None, soon()).await.unwrap();
    assert!(std::fs::File::open("/dev/null").is_err());
    tokio::time::sleep(Duration::from_millis(20)).await;
    drop(files);
    let mut who = [0; 9];
    with_deadline(soon(), client.read_exact(&mut who)).await.unwrap();
    assert_eq!(&who, b"127.0.0.1");
}
