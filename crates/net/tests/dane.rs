//! Certificates that the DNS names (RFC 7671, RFC 7672): each kind of record against hosts that show what fits and what does
//! not. What records hold is computed here from what the certificates were made of.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use net::{BadCert, CertFault, CertFiles, ClientTls, Dane, Deadline, Roots, Stream, Tls, Tlsa};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData,
};

/// An authority's root, one below it, and a host's certificate by that.
struct Chain {
    host: (Certificate, KeyPair),
    middle: (Certificate, KeyPair),
    root: (Certificate, KeyPair),
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A host's certificate for `name`; `old`: it ended in 2010.
fn chain(name: &str, old: bool) -> Chain {
    let (root_key, middle_key, host_key) = (key(), key(), key());
    let (root_params, middle_params) = (authority("root"), authority("middle"));
    let mut host_params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if old {
        host_params.not_before = rcgen::date_time_ymd(2009, 1, 1);
        host_params.not_after = rcgen::date_time_ymd(2010, 1, 1);
    }
    let root = root_params.self_signed(&root_key).unwrap();
    let middle = middle_params.signed_by(&middle_key, &Issuer::from_params(&root_params, &root_key)).unwrap();
    let host = host_params.signed_by(&host_key, &Issuer::from_params(&middle_params, &middle_key)).unwrap();
    Chain { host: (host, host_key), middle: (middle, middle_key), root: (root, root_key) }
}

fn record(usage: u8, selector: u8, matching: u8, (cert, key): &(Certificate, KeyPair)) -> Tlsa {
    let what = if selector == 0 { cert.der().to_vec() } else { key.subject_public_key_info() };
    let data = match matching {
        0 => what,
        1 => digest(&SHA256, &what).as_ref().to_vec(),
        _ => digest(&SHA512, &what).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

/// The handshake with a host that shows these; its name in the DNS is `mx.b.test`.
async fn shows(chain: &Chain, shown: &[&Certificate], records: &[Tlsa]) -> Result<(), CertFault> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let at: PathBuf = std::env::temp_dir().join(format!("postroom-dane-{}-{n}", std::process::id()));
    let files = CertFiles { chain: at.with_extension("pem"), key: at.with_extension("key") };
    std::fs::write(&files.chain, shown.iter().map(|cert| cert.pem()).collect::<String>()).unwrap();
    std::fs::write(&files.key, chain.host.1.serialize_pem()).unwrap();
    let tls = Tls::load(vec![files.clone()]).unwrap();
    std::fs::remove_file(files.chain).unwrap();
    std::fs::remove_file(files.key).unwrap();
    let names = vec!["mx.b.test".to_owned()];
    let dane = Dane { base: "mx.b.test".into(), names, records: records.to_vec() };
    let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap().by_dane(Arc::new(dane));
    let (a, b) = Stream::duplex(32 * 1024);
    let soon = || Deadline::after(Duration::from_secs(20));
    let (_, done) = tokio::join!(a.upgrade(&tls, b"", soon()), b.upgrade_client(&client, "mx.b.test", b"", soon()));
    done.map(drop).map_err(|e| BadCert::of(&e).unwrap_or_else(|| panic!("{e}")).fault)
}

#[tokio::test]
async fn a_certificate_that_is_named_itself_needs_neither_name_nor_date() {
    let (chain, other) = (chain("elsewhere.test", true), chain("mx.b.test", false));
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        let good = record(3, selector, matching, &chain.host);
        let bad = record(3, selector, matching, &other.host);
        assert_eq!(
            shows(&chain, &[&chain.host.0], std::slice::from_ref(&good)).await,
            Ok(()),
            "3 {selector} {matching}"
        );
        assert_eq!(shows(&chain, &[&chain.host.0], std::slice::from_ref(&bad)).await, Err(CertFault::NotTrusted));
        // One of several is enough: the next key is named before it is used (RFC 7671 §8.1).
        assert_eq!(shows(&chain, &[&chain.host.0], &[bad, good]).await, Ok(()));
    }
    // What names something above is not fulfilled by itself, nor the other way.
    let above = record(3, 1, 1, &chain.middle);
    assert_eq!(shows(&chain, &[&chain.host.0, &chain.middle.0], &[above]).await, Err(CertFault::NotTrusted));
}

#[tokio::test]
async fn trap_16_an_authority_is_found_anywhere_in_the_chain() {
    let chain = chain("mx.b.test", false);
    let whole = [&chain.host.0, &chain.middle.0, &chain.root.0];
    for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
        for place in [&chain.middle, &chain.root] {
            let records = [record(2, selector, matching, place)];
            assert_eq!(shows(&chain, &whole, &records).await, Ok(()), "2 {selector} {matching}");
        }
    }
    // A record that holds the whole certificate need not be shown.
    assert_eq!(shows(&chain, &whole[..2], &[record(2, 0, 0, &chain.root)]).await, Ok(()));
    // One that holds its digest has to (RFC 7671 §5.2.2).
    assert_eq!(shows(&chain, &whole[..2], &[record(2, 0, 1, &chain.root)]).await, Err(CertFault::NotTrusted));
    // Shown, but not above.
    let other = self::chain("mx.b.test", false);
    let aside = [&chain.host.0, &other.middle.0];
    assert_eq!(shows(&chain, &aside, &[record(2, 0, 1, &other.middle)]).await, Err(CertFault::NotTrusted));
}

#[tokio::test]
async fn below_an_authority_name_and_date_count() {
    for (name, old, expected) in [
        ("mx.b.test", false, Ok(())),
        ("*.b.test", false, Ok(())),
        ("mx.evil.test", false, Err(CertFault::OtherName)),
        ("mx.b.test", true, Err(CertFault::Expired)),
    ] {
        let chain = chain(name, old);
        let records = [record(2, 1, 1, &chain.middle)];
        assert_eq!(shows(&chain, &[&chain.host.0, &chain.middle.0], &records).await, expected, "{name} {old}");
    }
}

#[test]
fn records_that_prove_nothing() {
    let chain = chain("mx.b.test", false);
    let good = record(3, 1, 1, &chain.host);
    assert!(good.is_usable());
    for bad in [
        // RFC 7672 §3.1.3: usages 0 and 1 are unusable.
        Tlsa { usage: 0, ..good.clone() },
        Tlsa { usage: 1, ..good.clone() },
        Tlsa { usage: 4, ..good.clone() },
        Tlsa { selector: 2, ..good.clone() },
        Tlsa { matching: 3, ..good.clone() },
        Tlsa { matching: 2, ..good.clone() },
        Tlsa { data: good.data[1..].to_vec(), ..good.clone() },
        Tlsa { matching: 0, data: Vec::new(), ..good.clone() },
    ] {
        assert!(!bad.is_usable(), "{bad:?}");
    }
}
