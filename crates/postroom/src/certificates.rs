//! Our certificates: the files of `[tls]`, the one that the authority of `[acme]` issues, or, without any, one of our own
//! that is made at the first start. What changes goes live without a restart.

use std::future::{Future, pending};
use std::path::PathBuf;
use std::time::Duration;

use net::acme::Challenges;
use net::{CertFiles, Identity, Tls, TlsError};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;

use crate::acme::{self, Renewal};
use crate::config::{Config, TlsFiles};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// The certificates in use, and where new ones come from.
pub struct Certificates {
    tls: Tls,
    identity: Option<Identity>,
    configured: Vec<CertFiles>,
    renewal: Option<Renewal>,
}

impl Certificates {
    /// Reads the certificates of the configuration; makes one where there is none.
    ///
    /// # Errors
    /// In words for the administrator: which file is wrong, and why.
    pub fn open(config: &Config) -> Result<Self, String> {
        let (configured, renewal) = (configured(config), Renewal::new(config)?);
        let mut files = configured.clone();
        if let Some(issued) = acme::issued(config) {
            match Tls::load(vec![issued.clone()]) {
                Ok(_) => files.push(issued),
                // Not a person's mistake, and another can be ordered.
                Err(error) => tracing::warn!(%error, "the authority's certificate cannot be read"),
            }
        }
        if files.is_empty() {
            files.push(make_self_signed(config)?);
        }
        let tls = Tls::load(files).map_err(|e| e.to_string())?;
        let identity = config.client_certificate.as_ref().map(|files| Identity::load(of(files))).transpose();
        let identity = identity.map_err(|e| format!("[client_certificate] {e}"))?;
        Ok(Certificates { tls, identity, configured, renewal })
    }

    /// TLS with them.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// What other servers are shown when they ask.
    pub fn identity(&self) -> Option<Identity> {
        self.identity.clone()
    }

    /// What the authority is to find on our port 80.
    pub fn challenges(&self) -> Challenges {
        self.renewal.as_ref().map(Renewal::challenges).unwrap_or_default()
    }

    /// Until `stop`: looks at the files each minute, and at once on SIGHUP; has the authority renew its certificate in
    /// time.
    pub async fn keep(self, hangup: Signal, stop: impl Future<Output = ()>) {
        let (asked, issued) = (Notify::new(), Notify::new());
        let renewed = async {
            match &self.renewal {
                Some(renewal) => renewal.keep(&asked, &issued).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = stop => {}
            () = self.look(hangup, &asked, &issued) => {}
            () = renewed => {}
        }
    }

    /// For ever: takes what is new in the files; of one that is broken the certificate in use stays.
    async fn look(&self, mut hangup: Signal, asked: &Notify, issued: &Notify) {
        let mut told = Vec::<String>::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = issued.notified() => {}
                _ = hangup.recv() => {
                    // Who asks hears all that is wrong, the known too.
                    told.clear();
                    asked.notify_one();
                }
            }
            let mut reloaded = match self.renewal.as_ref().and_then(Renewal::issued) {
                Some(issued) => self.tls.replace([&self.configured[..], &[issued]].concat()),
                None => self.tls.reload(),
            };
            if let Some(identity) = &self.identity {
                match identity.reload() {
                    Ok(true) => tracing::info!("a new client certificate is in use"),
                    Ok(false) => {}
                    Err(error) => reloaded.broken.push(error),
                }
            }
            for file in reloaded.fresh {
                tracing::info!(file = %file.display(), "a new certificate is in use");
            }
            let broken: Vec<String> = reloaded.broken.iter().map(ToString::to_string).collect();
            for error in broken.iter().filter(|error| !told.contains(error)) {
                tracing::warn!(%error, "a certificate cannot be read again; the one in use stays");
            }
            told = broken;
        }
    }
}

/// Looks whether what the configuration says of certificates can be used, and makes nothing.
///
/// # Errors
/// As for [`Certificates::open`].
pub fn check(config: &Config) -> Result<(), String> {
    Renewal::new(config)?;
    for (n, files) in configured(config).into_iter().enumerate() {
        let chain = files.chain.clone();
        Tls::load(vec![files]).map_err(|e| {
            let key = if matches!(&e, TlsError::File { path, .. } if *path != chain) { "key" } else { "certificate" };
            config.at(&["tls", &n.to_string(), key], format!("[tls] {e}"))
        })?;
    }
    Ok(())
}

/// The files of the certificates that a server with this configuration shows. The configured ones come first: who asks
/// for no name sees one that a person chose.
pub fn files(config: &Config) -> Vec<CertFiles> {
    let mut files = configured(config);
    files.extend(acme::issued(config));
    if files.is_empty() {
        files.push(self_signed(config));
    }
    files
}

fn configured(config: &Config) -> Vec<CertFiles> {
    let files = config.tls.0.iter();
    files.map(of).collect()
}

/// Where certificates that we made or ordered are kept.
pub fn directory(config: &Config) -> PathBuf {
    config.data.join("tls")
}

/// A certificate on disk.
pub fn of(files: &TlsFiles) -> CertFiles {
    CertFiles { chain: files.certificate.clone(), key: files.key.clone() }
}

fn self_signed(config: &Config) -> CertFiles {
    let dir = directory(config);
    CertFiles { chain: dir.join("self-signed.pem"), key: dir.join("self-signed-key.pem") }
}

fn make_self_signed(config: &Config) -> Result<CertFiles, String> {
    let files = self_signed(config);
    if !files.chain.exists() {
        store::make_private_dir(&directory(config)).map_err(|e| e.to_string())?;
        let names = [config.hostname.clone(), "localhost".into()];
        let now = base::Clock::now(&base::SystemClock);
        net::self_signed(&files, &names, now).map_err(|e| e.to_string())?;
    }
    Ok(files)
}
