//! TLS as the client of a mail server elsewhere. Between mail servers TLS is opportunistic (RFC 7435): any certificate
//! is better than none, but what it was worth is recorded. Where policy (MTA-STS, a smart host that gets our password)
//! demands a trusted one, the handshake fails without; where the DNS names one (DANE), nothing else counts.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::{TlsConnector, client};

use crate::Dane;
use crate::stream::Socket;
use crate::tls_server::{self, CertFiles, TlsError, provider, read_certificates};

/// What a server's certificate is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It names the server we asked for and leads to a root we trust.
    Verified,
    /// It does not.
    Untrusted(BadCert),
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertFault {
    /// It is for other names.
    OtherName,
    /// Its time, or that of one above it, is over or has not begun.
    Expired,
    /// It leads to no root that we trust, nor to what the DNS names.
    NotTrusted,
    /// Anything else: it cannot be read, its signature is false, it is for other purposes.
    Other,
}

/// A certificate that proves nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadCert {
    /// What kind of fault it is.
    pub fault: CertFault,
    /// For receipts and logs.
    pub why: String,
}

impl BadCert {
    /// The certificate for which a handshake failed; None when it failed for something else.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().filter(|e| matches!(e, rustls::Error::InvalidCertificate(_))).map(BadCert::from)
    }
}

impl From<&rustls::Error> for BadCert {
    fn from(error: &rustls::Error) -> Self {
        let fault = match error {
            rustls::Error::InvalidCertificate(why) => match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    CertFault::OtherName
                }
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => CertFault::Expired,
                CertificateError::UnknownIssuer | CertificateError::ApplicationVerificationFailure => {
                    CertFault::NotTrusted
                }
                _ => CertFault::Other,
            },
            _ => CertFault::Other,
        };
        BadCert { fault, why: error.to_string() }
    }
}

impl fmt::Display for BadCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The certificate authorities we trust: Mozilla's list, which is compiled in, so that a host without
/// `ca-certificates` verifies the same as any other.
#[derive(Clone, Debug)]
pub struct Roots(Arc<WebPkiServerVerifier>);

impl Roots {
    /// Mozilla's list, and the certificates in `extra` (PEM): an organisation's own authority, or a smart host's
    /// self-signed certificate.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used.
    pub fn new(extra: &[PathBuf]) -> Result<Self, TlsError> {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for path in extra {
            for cert in read_certificates(path)? {
                store.add(cert).map_err(|e| TlsError::File { path: path.clone(), why: e.to_string() })?;
            }
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(store.into(), provider()).build();
        verifier.map(Roots).map_err(TlsError::crypto)
    }
}

/// The certificate that servers are shown when they ask for one. Clones share it.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Shown>);

#[derive(Debug)]
struct Shown {
    files: CertFiles,
    key: RwLock<Arc<CertifiedKey>>,
}

impl Identity {
    /// Reads it.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used.
    pub fn load(files: CertFiles) -> Result<Self, TlsError> {
        let key = RwLock::new(Arc::new(tls_server::read(&files)?));
        Ok(Identity(Arc::new(Shown { files, key })))
    }

    /// Reads the files again, for new handshakes; true when they hold another certificate.
    ///
    /// # Errors
    /// [`TlsError`] names the file that cannot be used; the one in use stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let new = Arc::new(tls_server::read(&self.0.files)?);
        let mut key = self.0.key.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = key.cert != new.cert;
        *key = new;
        Ok(is_new)
    }

    /// Whether a handshake failed because the server does not take our certificate (RFC 8446 §6.2).
    pub fn is_refused(error: &io::Error) -> bool {
        use AlertDescription::{
            BadCertificate, CertificateExpired, CertificateRevoked, CertificateUnknown, UnknownCA,
            UnsupportedCertificate,
        };
        let alert = match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => alert,
            _ => return false,
        };
        matches!(
            alert,
            BadCertificate
                | CertificateExpired
                | CertificateRevoked
                | CertificateUnknown
                | UnknownCA
                | UnsupportedCertificate
        )
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// TLS as the client, with what it demands of the server's certificate. Clones are cheap.
#[derive(Clone, Debug)]
pub struct ClientTls {
    roots: Roots,
    demand: Demand,
    config: ClientConfig,
}

/// What a certificate has to be.
#[derive(Clone, Debug)]
enum Demand {
    Nothing,
    Trusted,
    Named(Arc<Dane>),
}

impl ClientTls {
    /// Any certificate will do (RFC 7435 §3); [`Trust`] in the stream's facts tells what it was.
    ///
    /// # Errors
    /// [`TlsError::Crypto`].
    pub fn opportunistic(roots: &Roots) -> Result<Self, TlsError> {
        ClientTls::new(roots, Demand::Nothing)
    }

    /// The certificate must name the server and lead to one of `roots`.
    ///
    /// # Errors
    /// [`TlsError::Crypto`].
    pub fn verified(roots: &Roots) -> Result<Self, TlsError> {
        ClientTls::new(roots, Demand::Trusted)
    }

    /// The same, and servers that ask for a certificate are shown this one (RFC 8446 §4.3.2).
    #[must_use]
    pub fn showing(mut self, identity: &Identity) -> Self {
        self.config.client_auth_cert_resolver = identity.0.clone();
        self
    }

    /// The same, but the certificate must be one that the DNS names.
    #[must_use]
    pub fn by_dane(&self, dane: Arc<Dane>) -> Self {
        ClientTls { demand: Demand::Named(dane), ..self.clone() }
    }

    fn new(roots: &Roots, demand: Demand) -> Result<Self, TlsError> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::crypto)?
            .with_webpki_verifier(roots.0.clone())
            .with_no_client_auth();
        // A resumed session shows no certificate to judge. Connections are reused for many messages instead.
        config.resumption = Resumption::disabled();
        Ok(ClientTls { roots: roots.clone(), demand, config })
    }

    pub(crate) async fn connect(&self, name: &str, socket: Socket) -> io::Result<(client::TlsStream<Socket>, Trust)> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: {e}")))?;
        let judge = Arc::new(Judge {
            roots: self.roots.0.clone(),
            demand: self.demand.clone(),
            // Both checks below run in every full handshake; a certificate nobody looked at is not trusted.
            chain: Mutex::new(Err(unchecked("the certificate was not checked"))),
            signature: Mutex::new(Err(unchecked("the handshake's signature was not checked"))),
        });
        let mut config = self.config.clone();
        config.dangerous().set_certificate_verifier(judge.clone());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        Ok((stream, judge.verdict()))
    }
}

fn unchecked(why: &str) -> BadCert {
    BadCert { fault: CertFault::Other, why: why.to_owned() }
}

/// Judges one server's certificate in one handshake, and remembers the judgement.
#[derive(Debug)]
struct Judge {
    roots: Arc<WebPkiServerVerifier>,
    demand: Demand,
    chain: Mutex<Result<(), BadCert>>,
    signature: Mutex<Result<(), BadCert>>,
}

impl Judge {
    /// Notes `result` in `place`; an error is passed on only where trust is demanded.
    fn note<T>(
        &self,
        place: &Mutex<Result<(), BadCert>>,
        result: Result<T, rustls::Error>,
        accept: T,
    ) -> Result<T, rustls::Error> {
        let note = result.as_ref().map(drop).map_err(BadCert::from);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = note;
        if matches!(self.demand, Demand::Nothing) { Ok(accept) } else { result }
    }

    fn verdict(&self) -> Trust {
        let get = |place: &Mutex<Result<(), BadCert>>| place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match get(&self.chain).and(get(&self.signature)) {
            Ok(()) => Trust::Verified,
            Err(why) => Trust::Untrusted(why),
        }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let result = match &self.demand {
            Demand::Named(dane) => {
                dane.verify(end_entity, intermediates, now).map(|()| ServerCertVerified::assertion())
            }
            _ => self.roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        };
        self.note(&self.chain, result, ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let result = self.roots.verify_tls12_signature(message, cert, dss);
        self.note(&self.signature, result, HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let result = self.roots.verify_tls13_signature(message, cert, dss);
        self.note(&self.signature, result, HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}
