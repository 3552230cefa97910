//! Our certificates: the files of `[tls]`, or one of our own that is made at the first start. Files that change go live
//! without a restart.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use net::{CertFiles, Tls};
use tokio::signal::unix::Signal;

use crate::config::Config;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Reads the certificates of the configuration.
///
/// # Errors
/// In words for the administrator: which file is wrong, and why.
pub fn load(config: &Config) -> Result<Tls, String> {
    let files = match configured(config) {
        files if files.is_empty() => vec![self_signed(config)?],
        files => files,
    };
    Tls::load(files).map_err(|e| e.to_string())
}

/// Looks whether the certificates of `[tls]` can be used, and makes none.
///
/// # Errors
/// As for [`load`].
pub fn check(config: &Config) -> Result<(), String> {
    match configured(config) {
        files if files.is_empty() => Ok(()),
        files => Tls::load(files).map(drop).map_err(|e| format!("[tls] {e}")),
    }
}

fn configured(config: &Config) -> Vec<CertFiles> {
    let files = config.tls.0.iter();
    files.map(|tls| CertFiles { chain: tls.certificate.clone(), key: tls.key.clone() }).collect()
}

fn self_signed(config: &Config) -> Result<CertFiles, String> {
    let dir = config.data.join("tls");
    let files = CertFiles { chain: dir.join("self-signed.pem"), key: dir.join("self-signed-key.pem") };
    if !files.chain.exists() {
        store::make_private_dir(&dir).map_err(|e| e.to_string())?;
        let names = [config.hostname.clone(), "localhost".into()];
        let now = base::Clock::now(&base::SystemClock);
        net::self_signed(&files, &names, now).map_err(|e| e.to_string())?;
    }
    Ok(files)
}

/// Until `stop`: reads the files again each minute, and at once on SIGHUP. One that was renewed goes live; of one that
/// is broken the certificate in use stays.
pub async fn watch(tls: Tls, mut hangup: Signal, stop: impl Future<Output = ()>) {
    let (mut stop, mut told) = (pin!(stop), Vec::<String>::new());
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(LOOK) => {}
            // Who asks hears all that is wrong, the known too.
            _ = hangup.recv() => told.clear(),
        }
        let reloaded = tls.reload();
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
