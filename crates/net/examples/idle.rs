//! How much memory an idle connection costs, plain and under TLS, with a session task that waits for bytes.
//!
//! Prints the growth of this process's PSS a connection, in bytes. The clients live in a second process (this program
//! again), so that only our side is counted; the kernel's socket buffers are not. Run it in release:
//! `cargo run --release -p postroom-net --example idle -- 2000`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use base::{Clock, SystemClock};
use net::{
    Caps, CertFiles, ClientTls, Deadline, Dialer, ListenAddr, ListenOptions, Listener, Roots, Stream, Tls, self_signed,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [client, kind, count, addr] if client == "client" => {
            let (count, addr) = (count.parse().unwrap(), addr.parse().unwrap());
            clients(kind == "tls", count, addr).await;
        }
        _ => {
            let count = args.first().map_or(2000, |n| n.parse().unwrap());
            for kind in ["plain", "tls"] {
                let bytes = measure(kind, count).await;
                println!("{kind}: {bytes} bytes a connection ({count} connections)");
            }
        }
    }
}

/// This process's proportional set size, in bytes.
fn pss() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

async fn measure(kind: &str, count: usize) -> usize {
    let caps = Caps::new(usize::MAX, usize::MAX, Vec::new());
    let options = ListenOptions { caps: caps.clone(), ..ListenOptions::default() };
    let listener = Listener::bind(&"127.0.0.21:0".parse().unwrap(), options).unwrap();
    let Some(ListenAddr::Tcp(addr)) = listener.addr() else { panic!("no address") };
    let tls = (kind == "tls").then(certificate);
    let server = tokio::spawn(listener.serve(std::future::pending(), move |stream| session(stream, tls.clone())));
    let before = pss();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["client", kind, &count.to_string(), &addr.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The client says a line when all its connections have exchanged a line with us.
    let mut ready = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    tokio::task::block_in_place(|| said.read_line(&mut ready)).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(caps.open(), count);
    let after = pss();
    drop(child.stdin.take());
    child.wait().unwrap();
    while caps.open() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.abort();
    after.saturating_sub(before) / count
}

fn certificate() -> Tls {
    let dir = std::env::temp_dir().join(format!("postroom-net-idle-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let files = CertFiles { chain: dir.join("cert.pem"), key: dir.join("key.pem") };
    self_signed(&files, &["localhost".into()], SystemClock.now()).unwrap();
    let tls = Tls::load(vec![files]).unwrap();
    std::fs::remove_dir_all(dir).unwrap();
    tls
}

/// What a well-behaved session does: waits without a buffer, and reads into one it gives back.
async fn session(mut stream: Stream, tls: Option<Tls>) {
    let soon = Deadline::after(Duration::from_secs(60));
    if let Some(tls) = tls {
        stream = stream.upgrade(&tls, b"", soon).await.unwrap();
    }
    while stream.readable().await.is_ok() {
        let mut buf = vec![0; 4096];
        match stream.try_read(&mut buf) {
            Ok(0) => return,
            Ok(n) => stream.write_all(&buf[..n]).await.unwrap(),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn clients(tls: bool, count: usize, addr: SocketAddr) {
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
    let mut open = Vec::new();
    for _ in 0..count {
        let soon = Deadline::after(Duration::from_secs(60));
        let mut stream = Dialer::tcp().dial(addr, None, soon).await.unwrap();
        if tls {
            stream = stream.upgrade_client(&client, "localhost", b"", soon).await.unwrap();
        }
        stream.write_all(b"a NOOP\r\n").await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut [0; 8]).await.unwrap();
        open.push(stream);
    }
    println!("ready");
    std::io::stdout().flush().unwrap();
    tokio::task::block_in_place(|| std::io::stdin().read_line(&mut String::new())).unwrap();
    drop(open);
}
