//! TLS over connections in memory: certificates, SNI, reload, STARTTLS, deadlines.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use base::Timestamp;
use net::{
    Caps, CertFiles, ClientTls, Deadline, Identity, ListenOptions, Listener, Reloaded, Roots, Stream, Tls, Trust,
    self_signed,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Certificates are checked against the machine's clock.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_secs(since.as_secs() as i64)
}

/// A directory of this test's own, removed at its end.
struct Dir(PathBuf);

impl Dir {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("postroom-net-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    /// A new certificate for `names` under the file name `name`.
    fn cert(&self, name: &str, names: &[&str]) -> CertFiles {
        let files = CertFiles { chain: self.0.join(format!("{name}.pem")), key: self.0.join(format!("{name}.key")) };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self_signed(&files, &names, now()).unwrap();
        files
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

/// A handshake in memory: the server's end and the client's, or the client's error.
async fn handshake(tls: &Tls, client: &ClientTls, name: &str) -> std::io::Result<(Stream, Stream)> {
    let (a, b) = Stream::duplex(32 * 1024);
    let (server, client) = tokio::join!(a.upgrade(tls, b"", soon()), b.upgrade_client(client, name, b"", soon()));
    let client = client?;
    Ok((server.unwrap(), client))
}

fn trusting(files: &[&CertFiles]) -> Roots {
    Roots::new(&files.iter().map(|f| f.chain.clone()).collect::<Vec<_>>()).unwrap()
}

#[tokio::test]
async fn both_ends_agree_on_the_facts_and_the_channel_binding() {
    let dir = Dir::new("facts");
    let files = dir.cert("a", &["mx.example.test"]);
    let tls = Tls::load(vec![files.clone()]).unwrap();
    let client = ClientTls::verified(&trusting(&[&files])).unwrap();
    let (mut server, mut client) = handshake(&tls, &client, "mx.example.test").await.unwrap();

    let (s, c) = (server.tls().unwrap(), client.tls().unwrap());
    assert_eq!((s.version, c.version), ("TLSv1.3", "TLSv1.3"));
    assert!(s.cipher.starts_with("TLS_") && s.cipher == c.cipher, "{} {}", s.cipher, c.cipher);
    assert_eq!(s.server_name.as_deref(), Some("mx.example.test"));
    assert_eq!((s.trust, c.trust), (None, Some(Trust::Verified)));
    assert_eq!(server.channel_binding(), client.channel_binding());
    assert_ne!(server.channel_binding().unwrap(), [0; 32]);

    client.write_all(b"hello").await.unwrap();
    client.close(soon()).await;
    let mut said = Vec::new();
    server.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"hello");
}

/// RFC 9266 §4.2: under TLS 1.2 the exporter binds only with the extended master secret, so there is no binding.
#[tokio::test]
async fn tls_1_2_is_spoken_without_a_channel_binding() {
    let dir = Dir::new("tls12");
    let files = dir.cert("a", &["mx.example.test"]);
    let tls = Tls::load(vec![files.clone()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.chain).unwrap()).unwrap();
    let old = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (a, b) = Stream::duplex(32 * 1024);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(old));
    let (server, client) =
        tokio::join!(a.upgrade(&tls, b"", soon()), connector.connect("mx.example.test".try_into().unwrap(), b));
    client.unwrap();
    let server = server.unwrap();
    let facts = server.tls().unwrap();
    assert_eq!(facts.version, "TLSv1.2");
    assert!(facts.cipher.starts_with("TLS_ECDHE_ECDSA_WITH_"), "{}", facts.cipher);
    assert_eq!(server.channel_binding(), None);
}

#[tokio::test]
async fn tls_that_failed_stays_an_error_for_who_reads_on() {
    let dir = Dir::new("failed");
    let files = dir.cert("a", &["mx.example.test"]);
    let tls = Tls::load(vec![files.clone()]).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.chain).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (a, b) = Stream::duplex(32 * 1024);
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let (server, client) =
        tokio::join!(a.upgrade(&tls, b"", soon()), connector.connect("mx.example.test".try_into().unwrap(), b));
    let (mut server, (mut wire, _)) = (server.unwrap(), client.unwrap().into_inner());
    // A record of application data that nobody encrypted (RFC 8446 §5.2); the connection stays open.
    wire.write_all(&[&[23, 3, 3, 0, 32][..], &[0; 32]].concat()).await.unwrap();
    let mut errors = Vec::new();
    while errors.len() < 3 {
        tokio::time::timeout(Duration::from_secs(20), server.readable()).await.unwrap().unwrap();
        match server.try_read(&mut [0; 100]) {
            Err(e) if errors.is_empty() && e.kind() == std::io::ErrorKind::WouldBlock => {}
            said => errors.push(said.map_err(|e| e.kind())),
        }
    }
    assert_eq!(errors, [Err(std::io::ErrorKind::InvalidData); 3]);
}

#[tokio::test]
async fn sni_chooses_and_the_first_is_for_everybody_else() {
    let dir = Dir::new("sni");
    let first = dir.cert("first", &["mail.one.test"]);
    let second = dir.cert("second", &["mail.two.test", "*.wild.test"]);
    let tls = Tls::load(vec![first.clone(), second.clone()]).unwrap();
    let verified = ClientTls::verified(&trusting(&[&first, &second])).unwrap();
    for name in ["mail.one.test", "MAIL.two.test", "a.wild.test"] {
        assert!(handshake(&tls, &verified, name).await.is_ok(), "{name}");
    }
    for name in ["a.b.wild.test", "mail.three.test", "127.0.0.1"] {
        assert!(handshake(&tls, &verified, name).await.is_err(), "{name}");
        let any = ClientTls::opportunistic(&trusting(&[&first, &second])).unwrap();
        let (_, client) = handshake(&tls, &any, name).await.unwrap();
        assert!(matches!(client.tls().unwrap().trust, Some(Trust::Untrusted(_))), "{name}");
    }
}

#[tokio::test]
async fn opportunistic_takes_any_certificate_and_says_what_it_was() {
    let dir = Dir::new("opportunistic");
    let files = dir.cert("a", &["mx.example.test"]);
    let tls = Tls::load(vec![files.clone()]).unwrap();
    let stranger = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
    let (_, client) = handshake(&tls, &stranger, "mx.example.test").await.unwrap();
    assert!(matches!(client.tls().unwrap().trust, Some(Trust::Untrusted(_))));
    let friend = ClientTls::opportunistic(&trusting(&[&files])).unwrap();
    let (_, client) = handshake(&tls, &friend, "mx.example.test").await.unwrap();
    assert_eq!(client.tls().unwrap().trust, Some(Trust::Verified));
    let strict = ClientTls::verified(&Roots::new(&[]).unwrap()).unwrap();
    assert_eq!(handshake(&tls, &strict, "mx.example.test").await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn reload_takes_the_new_certificate_and_a_broken_file_changes_nothing() {
    let dir = Dir::new("reload");
    let old = dir.cert("a", &["mx.example.test"]);
    let tls = Tls::load(vec![old.clone()]).unwrap();
    let knows_old = ClientTls::verified(&trusting(&[&old])).unwrap();
    dir.cert("a", &["mx.example.test"]);
    let knows_new = ClientTls::verified(&trusting(&[&old])).unwrap();

    assert!(handshake(&tls, &knows_old, "mx.example.test").await.is_ok());
    let told = tls.reload();
    assert_eq!((told.fresh, told.broken.len()), (vec![old.chain.clone()], 0));
    assert!(handshake(&tls, &knows_old, "mx.example.test").await.is_err());
    assert!(handshake(&tls, &knows_new, "mx.example.test").await.is_ok());
    let told = tls.reload();
    assert!(told.fresh.is_empty() && told.broken.is_empty(), "nothing is new: {told:?}");

    // The key of another certificate; no certificate; nothing at all.
    let other = dir.cert("other", &["mx.other.test"]);
    let good_key = std::fs::read(&old.key).unwrap();
    std::fs::copy(&other.key, &old.key).unwrap();
    assert!(broken(&tls.reload()).contains("a.key: this is not the key of the certificate in "));
    std::fs::write(&old.key, good_key).unwrap();
    std::fs::write(&old.chain, "no certificate\n").unwrap();
    assert!(broken(&tls.reload()).contains("a.pem: there is no certificate in this file"));
    tls.replace(vec![]);
    assert!(handshake(&tls, &knows_new, "mx.example.test").await.is_ok());

    // A certificate for one more name goes live, beside the broken one, which stays as it was.
    let missing = CertFiles { chain: dir.0.join("nowhere.pem"), key: dir.0.join("nowhere.key") };
    let told = tls.replace(vec![old, other.clone(), missing]);
    assert_eq!((told.fresh, told.broken.len()), (vec![other.chain.clone()], 2));
    assert!(handshake(&tls, &knows_new, "mx.example.test").await.is_ok());
    let knows_other = ClientTls::verified(&trusting(&[&other])).unwrap();
    assert!(handshake(&tls, &knows_other, "mx.other.test").await.is_ok());

    // And goes again.
    assert!(tls.replace(vec![other]).broken.is_empty());
    assert!(handshake(&tls, &knows_new, "mx.example.test").await.is_err());
}

fn broken(told: &Reloaded) -> String {
    let [error] = &told.broken[..] else { panic!("{told:?}") };
    error.to_string()
}

#[test]
fn a_self_signed_key_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new("mode");
    let files = dir.cert("a", &["mx.example.test"]);
    assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 2, "nothing is left lying about");
}

/// RFC 3207 §6; CVE-2011-0411: `STARTTLS\r\nRSET\r\n` in one packet.
#[tokio::test]
async fn trap_03_plaintext_behind_starttls_is_refused() {
    let dir = Dir::new("starttls");
    let tls = Tls::load(vec![dir.cert("a", &["mx.example.test"])]).unwrap();
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();

    let (a, mut b) = Stream::duplex(1024);
    assert_eq!(a.upgrade(&tls, b"RSET\r\n", soon()).await.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert_eq!(b.read(&mut [0; 8]).await.unwrap(), 0, "closed");

    let (a, _b) = Stream::duplex(1024);
    let refused = a.upgrade_client(&client, "mx.example.test", b"250 ok\r\n", soon()).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::InvalidData);

    // What arrives later, but ahead of the handshake, is no TLS and cannot become part of it.
    let (a, mut b) = Stream::duplex(1024);
    b.write_all(b"RSET\r\n").await.unwrap();
    let (server, peer) =
        tokio::join!(a.upgrade(&tls, b"", soon()), b.upgrade_client(&client, "mx.example.test", b"", soon()));
    assert_eq!(server.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    assert!(peer.is_err());
}

#[tokio::test]
async fn tls_within_tls_is_refused() {
    let dir = Dir::new("twice");
    let tls = Tls::load(vec![dir.cert("a", &["mx.example.test"])]).unwrap();
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
    let (server, _client) = handshake(&tls, &client, "mx.example.test").await.unwrap();
    assert_eq!(server.upgrade(&tls, b"", soon()).await.unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn trap_20_a_peer_that_stalls_in_the_handshake_frees_its_slot() {
    let dir = Dir::new("stall");
    let tls = Tls::load(vec![dir.cert("a", &["mx.example.test"])]).unwrap();
    let caps = Caps::default();
    let (listener, door) = Listener::memory(ListenOptions { caps: caps.clone(), ..ListenOptions::default() });
    tokio::spawn(listener.serve(std::future::pending(), move |stream: Stream| {
        let tls = tls.clone();
        async move {
            let _ = stream.upgrade(&tls, b"", Deadline::after(Duration::from_secs(30))).await;
        }
    }));
    let (peer, local) = ("198.51.100.7:1".parse().unwrap(), "192.0.2.1:993".parse().unwrap());
    let mut stalled = door.connect(peer, local).await.unwrap();
    // The first bytes of a ClientHello, one each five seconds: progress does not buy time.
    for byte in [0x16, 0x03, 0x01, 0x00, 0xfa] {
        stalled.write_u8(byte).await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(caps.open(), 1);
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(caps.open(), 0);
    assert_eq!(stalled.read(&mut [0; 8]).await.unwrap(), 0);

    // Our client gives up on a server that says nothing, too.
    let (_mute, b) = Stream::duplex(1024);
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
    let gave_up = b.upgrade_client(&client, "mx.example.test", b"", Deadline::after(Duration::from_secs(30))).await;
    assert_eq!(gave_up.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
}

/// The way an idle session waits, under TLS: part of a record wakes it, but is nothing to read.
#[tokio::test]
async fn readable_then_try_read() {
    let dir = Dir::new("readable");
    let tls = Tls::load(vec![dir.cert("a", &["mx.example.test"])]).unwrap();
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
    let (server, client) = handshake(&tls, &client, "mx.example.test").await.unwrap();
    let plain = Stream::duplex(1024);
    for (mut server, mut client) in [(server, client), plain] {
        client.write_all(b"0123456789").await.unwrap();
        let mut buf = [0; 4];
        let mut got = Vec::new();
        while got.len() < 10 {
            server.readable().await.unwrap();
            match server.try_read(&mut buf) {
                Ok(n) => got.extend_from_slice(&buf[..n]),
                Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        assert_eq!(got, b"0123456789");
        assert_eq!(server.try_read(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        let waits = tokio::time::timeout(Duration::ZERO, server.readable()).await;
        assert!(waits.is_err(), "nothing more to read, yet readable");
        drop(client);
        server.readable().await.unwrap();
        // TLS without a close_notify is a truncation (RFC 8446 §6.1), and says so.
        match server.try_read(&mut buf) {
            Ok(n) => assert_eq!(n, 0),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::UnexpectedEof),
        }
    }
}

/// A server that asks for a certificate is shown ours; without one it takes nobody.
#[tokio::test]
async fn servers_that_ask_are_shown_our_certificate() {
    let dir = Dir::new("identity");
    let server = dir.cert("server", &["mx.example.test"]);
    let identity = CertFiles { chain: dir.0.join("us.pem"), key: dir.0.join("us.key") };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["us.example.test".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let cert = params.self_signed(&key).unwrap();
    std::fs::write(&identity.chain, cert.pem()).unwrap();
    std::fs::write(&identity.key, key.serialize_pem()).unwrap();

    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let asks = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_file(&server.chain).unwrap()];
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&server.key).unwrap();
    let config = config.with_client_cert_verifier(asks.build().unwrap()).with_single_cert(chain, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));

    let plain = ClientTls::verified(&trusting(&[&server])).unwrap();
    for (client, shown) in
        [(plain.clone(), None), (plain.showing(&Identity::load(identity.clone()).unwrap()), Some(cert.der().clone()))]
    {
        let (a, b) = Stream::duplex(32 * 1024);
        let (accepted, _) = tokio::join!(acceptor.accept(a), b.upgrade_client(&client, "mx.example.test", b"", soon()));
        let seen = accepted.ok().and_then(|s| Some(s.get_ref().1.peer_certificates()?.first()?.clone().into_owned()));
        assert_eq!(seen, shown);
    }
    let lost = CertFiles { key: dir.0.join("nowhere.key"), ..identity };
    let error = Identity::load(lost).unwrap_err();
    assert!(error.to_string().contains("nowhere.key"), "{error}");
}
