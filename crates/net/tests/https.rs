//! HTTPS out, over connections in memory: what is sent, what is believed, what is too much.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use base::Clock;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use net::{
    CertFiles, Deadline, Dialer, Https, ListenOptions, Listener, Resolver, Roots, Stream, Tls, Zone, self_signed,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// A web server at `ca.example.test`, port 14000, which says `answer` to everything and tells what it heard.
struct Web {
    https: Https,
    heard: mpsc::UnboundedReceiver<String>,
}

fn web(test: &str, answer: Vec<u8>) -> Web {
    let at = std::env::temp_dir().join(format!("postroom-net-https-{test}-{}", std::process::id()));
    let files = CertFiles { chain: at.with_extension("pem"), key: at.with_extension("key") };
    self_signed(&files, &["ca.example.test".into()], base::SystemClock.now()).unwrap();
    let (tls, roots) =
        (Tls::load(vec![files.clone()]).unwrap(), Roots::new(std::slice::from_ref(&files.chain)).unwrap());
    std::fs::remove_file(files.chain).unwrap();
    std::fs::remove_file(files.key).unwrap();

    let (listener, door) = Listener::memory(ListenOptions::default());
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(
        listener.serve(std::future::pending(), move |stream| serve(stream, tls.clone(), answer.clone(), tell.clone())),
    );
    let address: SocketAddr = "192.0.2.1:14000".parse().unwrap();
    let zone = Zone::default().ip("ca.example.test", address.ip()).ip("other.example.test", address.ip());
    let dialer = Dialer::memory(HashMap::from([(address, door)]));
    Web { https: Https::new(dialer, Resolver::memory(zone), &roots).unwrap(), heard }
}

async fn serve(stream: Stream, tls: Tls, answer: Vec<u8>, tell: mpsc::UnboundedSender<String>) {
    let Ok(mut stream) = stream.upgrade(&tls, b"", Deadline::after(Duration::from_secs(9))).await else { return };
    let mut said = Vec::new();
    while !said.ends_with(b"\r\n\r\n") && !said.ends_with(b"hello") && stream.read_buf(&mut said).await.unwrap() > 0 {}
    tell.send(String::from_utf8(said).unwrap()).unwrap();
    let _ = stream.write_all(&answer).await;
    let _ = stream.flush().await;
    // It keeps the connection open, as web servers do.
    let _ = stream.read_buf(&mut Vec::new()).await;
}

impl Web {
    async fn ask(&self, uri: &str) -> std::io::Result<Response<Bytes>> {
        let request = Request::post(uri).body(Full::new(Bytes::from_static(b"hello"))).unwrap();
        self.https.ask(request, Deadline::after(Duration::from_secs(30))).await
    }
}

#[tokio::test]
async fn a_request_names_its_host_and_the_answer_comes_whole() {
    let mut web = web("whole", b"HTTP/1.1 403 No\r\nReplay-Nonce: abc\r\nContent-Length: 3\r\n\r\nnay".to_vec());
    let answer = web.ask("https://ca.example.test:14000/new-order?x=1").await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["replay-nonce"]), (403, &"abc".parse().unwrap()));
    assert_eq!(answer.into_body(), "nay");
    let heard = web.heard.recv().await.unwrap().to_lowercase();
    assert!(heard.starts_with("post /new-order?x=1 http/1.1\r\n"), "{heard}");
    assert!(heard.contains("\r\nhost: ca.example.test:14000\r\n") && heard.ends_with("\r\n\r\nhello"), "{heard}");
}

#[tokio::test]
async fn only_a_trusted_host_is_asked() {
    let mut web = web("trust", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec());
    for (uri, kind) in [
        ("https://other.example.test:14000/", ErrorKind::InvalidData), // the certificate is for another
        ("http://ca.example.test:14000/", ErrorKind::InvalidInput),
        ("/new-order", ErrorKind::InvalidInput),
        ("https://ca.example.test/", ErrorKind::ConnectionRefused), // nobody listens on 443
        ("https://nobody.example.test/", ErrorKind::Other),
    ] {
        assert_eq!(web.ask(uri).await.unwrap_err().kind(), kind, "{uri}");
    }
    assert!(web.heard.try_recv().is_err(), "nothing was said to a stranger");
}

#[tokio::test]
async fn an_answer_has_bounds() {
    let long = [&b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n"[..], &vec![b'x'; (1 << 20) + 1]].concat();
    let endless = [&b"HTTP/1.1 200 OK\r\nX: "[..], &vec![b'x'; 1 << 17]].concat();
    for (test, answer) in [("long", long), ("endless", endless), ("none", b"220 mx ESMTP\r\n".to_vec())] {
        let error = web(test, answer).ask("https://ca.example.test:14000/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{test}: {error}");
        assert!(error.to_string().starts_with("ca.example.test:14000: "), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_web_server_that_says_nothing_is_given_up() {
    for (test, answer) in
        [("mute", b"".to_vec()), ("stuck", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec())]
    {
        let began = tokio::time::Instant::now();
        let error = web(test, answer).ask("https://ca.example.test:14000/").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{test}: {error}");
        assert!(began.elapsed() <= Duration::from_secs(31), "{test}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn addresses_are_looked_at_where_they_are_dialled() {
    // The same server under a public address, one of the inner network, and without TLS.
    for (ip, scheme, ours, reached) in [
        ("192.0.2.1", "https", None, true),
        ("10.0.0.1", "https", None, false),
        ("127.0.0.1", "https", None, false),
        ("169.254.169.254", "https", None, false),
        ("10.0.0.1", "https", Some("10.0.0.0/8"), true),
        ("127.0.0.1", "https", Some("10.0.0.0/8"), false),
        ("10.0.0.1", "http", Some("10.0.0.0/8"), true),
        ("192.0.2.1", "http", Some("10.0.0.0/8"), false),
    ] {
        let (listener, door) = Listener::memory(ListenOptions::default());
        let served = tokio::spawn(listener.serve(std::future::pending(), |mut stream| async move {
            let mut said = Vec::new();
            while !said.ends_with(b"hello") && stream.read_buf(&mut said).await.unwrap_or(0) > 0 {}
            // A body without end is not waited for.
            let _ =
                stream.write_all(b"HTTP/1.1 202 No\r\nRetry-After: 7\r\nContent-Length: 99999999\r\n\r\nlong").await;
            let _ = stream.flush().await;
            let _ = stream.read_buf(&mut Vec::new()).await;
        }));
        let address: SocketAddr = format!("{ip}:8080").parse().unwrap();
        let zone = Zone::default().ip("hook.example.test", address.ip());
        let dialer = Dialer::memory(HashMap::from([(address, door)]));
        let https = Https::new(dialer, Resolver::memory(zone), &Roots::new(&[]).unwrap()).unwrap();
        let https = https.public_and(ours.map(|ours: &str| ours.parse::<net::Cidr>().unwrap()));
        // By its name, and by its number.
        for (host, most) in [("hook.example.test", 0), (ip, 3)] {
            let url = format!("{scheme}://{host}:8080/");
            let answer = https
                .tell(&url, &[("x-a", "b")], b"hello".to_vec(), most, Deadline::after(Duration::from_secs(9)))
                .await;
            match (reached, scheme, answer) {
                (true, "http", Ok(answer)) => {
                    let body = b"long"[..most].to_vec();
                    assert_eq!(answer, net::Told { status: 202, retry_after: Some("7".into()), body });
                }
                // What it says is no TLS: so it was reached.
                (true, "https", Err(e)) => assert_ne!(e.kind(), ErrorKind::HostUnreachable, "{ip}: {e}"),
                (false, _, Err(e)) => assert_eq!(e.kind(), ErrorKind::HostUnreachable, "{ip}: {e}"),
                (_, _, answer) => panic!("{scheme}://{host}: {answer:?}"),
            }
        }
        served.abort();
    }
}

#[tokio::test]
async fn what_is_no_url_to_tell_is_refused() {
    let web = web("urls", Vec::new());
    let ours = web.https.clone().public_and(["10.0.0.0/8".parse().unwrap()]);
    for url in ["https://hook.test/a?b=c", "https://[2001:db8::1]:8443/", "https://192.0.2.1"] {
        assert!(web.https.accepts(url).is_ok() && ours.accepts(url).is_ok(), "{url}");
    }
    assert!(web.https.accepts("http://hook.test/").is_err() && ours.accepts("http://hook.test/").is_ok());
    for url in [
        "",
        "/",
        "ftp://hook.test/",
        "https://",
        "https:///x",
        "https://joe:secret@hook.test/",
        "hook.test",
        "https://a b/",
    ] {
        assert!(ours.accepts(url).is_err(), "{url:?}");
    }
}
