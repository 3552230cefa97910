//! Our certificates, and TLS as the server. One [`Tls`] serves all listeners and STARTTLS alike; certificates change
//! under it without a restart. It never watches files by itself: whoever changes them, or polls them, calls
//! [`Tls::reload`].

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base::Timestamp;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// The only crypto provider. Passed to every configuration; the process-wide default is never set.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// A certificate on disk, in PEM. Both may be the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate, then the chain that leads to a root, which itself may be left out.
    pub chain: PathBuf,
    /// Its private key: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
}

/// Why there is no TLS; the words are for the administrator.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read or written, or what is in it cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No certificate was given at all.
    NoCertificate,
    /// The crypto library would not do its part.
    Crypto(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, why } => write!(f, "{}: {why}", path.display()),
            TlsError::NoCertificate => f.write_str("TLS needs a certificate, and none is configured"),
            TlsError::Crypto(why) => write!(f, "TLS cannot be set up: {why}"),
        }
    }
}

impl std::error::Error for TlsError {}

impl TlsError {
    fn file(path: &Path, why: impl fmt::Display) -> Self {
        TlsError::File { path: path.into(), why: why.to_string() }
    }

    pub(crate) fn crypto(why: impl fmt::Display) -> Self {
        TlsError::Crypto(why.to_string())
    }
}

/// TLS as the server: TLS 1.2 and 1.3 (RFC 8996 retired the others), and the certificates in use. Clones share them.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    certs: Arc<Certs>,
}

/// What came of reading certificates again.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The files of certificates that were not in use before; new handshakes get them.
    pub fresh: Vec<PathBuf>,
    /// What cannot be used. Where there was a certificate from these files, it stays in use.
    pub broken: Vec<TlsError>,
}

impl Tls {
    /// Reads the certificates. The first serves clients that name no host, or a host that none of them covers.
    ///
    /// # Errors
    /// [`TlsError`] tells which file is wrong, or that `files` is empty.
    pub fn load(files: Vec<CertFiles>) -> Result<Self, TlsError> {
        if files.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let live = files.into_iter().map(Live::read).collect::<Result<Arc<[_]>, _>>()?;
        let certs = Arc::new(Certs { live: RwLock::new(live), changing: Mutex::new(()) });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::crypto)?
            .with_no_client_auth()
            .with_cert_resolver(certs.clone());
        // Resumption by tickets (RFC 5077, RFC 8446 §2.2): the client keeps the state, we keep one key that rotates
        // every six hours. A cache of sessions would cost memory for each client.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::crypto)?;
        Ok(Tls { config: Arc::new(config), certs })
    }

    /// Reads the files again. New handshakes get what they hold now; sessions under way keep what they have. Each
    /// certificate stands for itself: one whose files are broken stays as it was, and the others are renewed.
    pub fn reload(&self) -> Reloaded {
        let _alone = self.certs.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let files = self.certs.live().iter().map(|live| live.files.clone()).collect();
        self.certs.change(files)
    }

    /// As [`Tls::reload`], from other files: how a certificate for a new name, say one that ACME brought, goes live.
    /// One that was not in use before and cannot be used is left out; if none remains, all stay as they were.
    pub fn replace(&self, files: Vec<CertFiles>) -> Reloaded {
        let _alone = self.certs.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.certs.change(files)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.certs.live()).finish()
    }
}

/// A certificate in use, and where it came from.
#[derive(Clone, Debug)]
struct Live {
    files: CertFiles,
    key: Arc<CertifiedKey>,
}

impl Live {
    fn read(files: CertFiles) -> Result<Self, TlsError> {
        let key = Arc::new(read(&files)?);
        Ok(Live { files, key })
    }
}

/// The certificates in use; never none.
#[derive(Debug)]
struct Certs {
    live: RwLock<Arc<[Live]>>,
    /// Held while files are read, so that no change undoes another. Handshakes do not wait for it.
    changing: Mutex<()>,
}

impl Certs {
    fn live(&self) -> Arc<[Live]> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, files: Vec<CertFiles>) -> Reloaded {
        let (old, mut new, mut told) = (self.live(), Vec::new(), Reloaded::default());
        for files in files {
            let before = old.iter().find(|old| old.files == files);
            match Live::read(files) {
                Ok(live) => {
                    if before.is_none_or(|old| old.key.cert != live.key.cert) {
                        told.fresh.push(live.files.chain.clone());
                    }
                    new.push(live);
                }
                Err(error) => {
                    told.broken.push(error);
                    new.extend(before.cloned());
                }
            }
        }
        if !new.is_empty() {
            *self.live.write().unwrap_or_else(PoisonError::into_inner) = new.into();
        }
        told
    }
}

impl ResolvesServerCert for Certs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live();
        hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok())
            .and_then(|name| live.iter().find(|live| covers(&live.key, &name)))
            .or(live.first())
            .map(|live| live.key.clone())
    }
}

/// True when the certificate is for `name`, wildcards included (RFC 9525 §6.3).
fn covers(cert: &CertifiedKey, name: &ServerName<'_>) -> bool {
    cert.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|cert| verify_server_name(&cert, name))
        .is_ok()
}

pub(crate) fn read(files: &CertFiles) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(&files.chain)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| TlsError::file(&files.key, in_words(e)))?;
    pair(chain, key).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            let why = format!("this is not the key of the certificate in {}", files.chain.display());
            TlsError::file(&files.key, why)
        }
        rustls::Error::InvalidCertificate(_) => TlsError::file(&files.chain, e),
        e => TlsError::file(&files.key, e),
    })
}

/// Looks whether a certificate and a key in PEM belong together and can be used.
///
/// # Errors
/// In words.
pub(crate) fn fits(chain: &str, key: &str) -> Result<(), String> {
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(in_words)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(in_words)?;
    pair(chain, key).map(drop).map_err(|e| e.to_string())
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, rustls::Error> {
    // Also checks that the key is the certificate's.
    let cert = CertifiedKey::from_der(chain, key, &provider())?;
    // One that cannot be parsed would be offered to nobody; say so now.
    cert.end_entity_cert().and_then(ParsedCertificate::try_from)?;
    Ok(cert)
}

/// What is wrong with a PEM file, for its owner.
fn in_words(error: pem::Error) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => "there is no private key in this file".into(),
        e => format!("this is no PEM: {e}"),
    }
}

/// All certificates of a PEM file; at least one.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certs = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| TlsError::file(path, in_words(e)))?;
    if certs.is_empty() {
        return Err(TlsError::file(path, "there is no certificate in this file"));
    }
    Ok(certs)
}

/// How long a self-signed certificate is good: nobody renews it, and it expires before ten years are full.
const SELF_SIGNED_DAYS: i64 = 3650 - 1;

/// Makes a self-signed certificate (ECDSA P-256) for `hostnames` and writes it to `files`, the key readable by us only.
/// It is the certificate to begin with: it hides mail from listeners, but proves nothing to a program that checks.
///
/// The two files are put in place one after the other, each whole or not at all; if only one is there after a crash,
/// call this again.
///
/// # Errors
/// [`TlsError::File`] when they cannot be written; [`TlsError::Crypto`] when a hostname is none.
pub fn self_signed(files: &CertFiles, hostnames: &[String], now: Timestamp) -> Result<(), TlsError> {
    const DAY: i64 = 86_400;
    let date = |t: Timestamp| {
        let day = t.civil();
        rcgen::date_time_ymd(i32::try_from(day.year).unwrap_or(9999), day.month, day.day)
    };
    let mut params = rcgen::CertificateParams::new(hostnames).map_err(TlsError::crypto)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(first) = hostnames.first() {
        params.distinguished_name.push(rcgen::DnType::CommonName, first.as_str());
    }
    // From yesterday: a client's clock may be behind ours.
    params.not_before = date(Timestamp::from_secs(now.secs() - DAY));
    params.not_after = date(Timestamp::from_secs(now.secs() + SELF_SIGNED_DAYS * DAY));
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(TlsError::crypto)?;
    let cert = params.self_signed(&key).map_err(TlsError::crypto)?;
    write_whole(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
    write_whole(&files.chain, cert.pem().as_bytes(), 0o644)
}

/// Writes a file so that under its name there is the old one or the new one, never a part, and it survives a power cut.
///
/// # Errors
/// [`TlsError::File`].
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let write = || -> std::io::Result<()> {
        // Left behind by a crash; made anew, so that its mode is ours.
        match std::fs::remove_file(&part) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::File::open(parent)?.sync_all()
    };
    write().map_err(|e| TlsError::file(path, e))
}
