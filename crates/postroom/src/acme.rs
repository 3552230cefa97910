//! The certificate of `[acme]`: when to order it, and the files it is kept in. What is said to the authority is
//! [`net::acme`]'s part.
//!
//! `data/tls/acme.pem` has the key and the certificate in one file, so that no power cut leaves one without the other;
//! its first line names the authority. `data/tls/acme-account.json` is our account there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::{Address, Clock, SystemClock, Timestamp};
use net::acme::{Account, AcmeError, Authority, Challenges, Issued};
use net::{CertFacts, CertFiles, Deadline, write_whole};
use tokio::sync::Notify;

use crate::certificates::directory;
use crate::config::Config;
use crate::outside::Outside;

/// A certificate is renewed so long before its end, or when a third of its life is left, whichever is later.
const BEFORE_THE_END: Duration = Duration::from_secs(30 * 86_400);
/// An order has come to its end by then, or is given up.
const ORDER: Duration = Duration::from_secs(10 * 60);
/// No two orders are closer than this, whoever asks and whatever is issued.
const LEAST: Duration = Duration::from_secs(10);
/// After the first failure; each in a row doubles it. Let's Encrypt allows five failures an hour.
const AGAIN: Duration = Duration::from_secs(2 * 60);
/// The longest wait after a failure.
const SELDOM: Duration = Duration::from_secs(6 * 3600);
/// How often we look whether it is time: the machine may have slept.
const LOOK: Duration = Duration::from_secs(3600);

/// The file of the authority's certificate, once there is one.
pub fn issued(config: &Config) -> Option<CertFiles> {
    config.acme.as_ref().and_then(|_| existing(&directory(config)))
}

fn existing(dir: &Path) -> Option<CertFiles> {
    let file = certificate(dir);
    file.exists().then(|| CertFiles { chain: file.clone(), key: file })
}

fn certificate(dir: &Path) -> PathBuf {
    dir.join("acme.pem")
}

/// Keeps the authority's certificate fresh.
pub struct Renewal {
    authority: Authority,
    /// The first line of a certificate's file.
    origin: String,
    contact: Option<Address>,
    names: Vec<String>,
    dir: PathBuf,
    challenges: Challenges,
}

impl Renewal {
    /// `None` without `[acme]`. Asks nobody yet.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        let Some(acme) = &config.acme else { return Ok(None) };
        let wrong = |key: &str, e: &dyn std::fmt::Display| config.at(&["acme", key], format!("[acme] {e}"));
        let outside = Outside::of(config);
        let roots = outside.roots(acme.ca_file.as_ref()).map_err(|e| wrong("ca_file", &e))?;
        let https = outside.https(&roots).map_err(|e| wrong("directory", &e))?;
        let authority = Authority::new(&acme.directory, https).map_err(|e| wrong("directory", &e))?;
        let contact = acme.contact.as_deref().map(Address::parse).transpose().map_err(|e| wrong("contact", &e))?;
        let names = if acme.names.is_empty() { std::slice::from_ref(&config.hostname) } else { &acme.names[..] };
        Ok(Some(Renewal {
            authority,
            origin: format!("From {}", acme.directory),
            contact,
            names: names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            dir: directory(config),
            challenges: Challenges::default(),
        }))
    }

    /// What port 80 answers.
    pub fn challenges(&self) -> Challenges {
        self.challenges.clone()
    }

    /// The file of the certificate, once there is one.
    pub fn issued(&self) -> Option<CertFiles> {
        existing(&self.dir)
    }

    /// For ever: orders a certificate whenever it is time. Rings `issued` when there is a new one; `asked` cuts a wait
    /// short.
    pub async fn keep(&self, asked: &Notify, issued: &Notify) {
        let mut failures = 0;
        loop {
            let left = self.due(SystemClock.now());
            if !left.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(left.min(LOOK)) => {}
                    () = asked.notified() => {}
                }
                continue;
            }
            let names = self.names.join(" ");
            tracing::info!(names, "ordering a certificate");
            let wait = match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    LEAST
                }
                Err(error) => {
                    let wait = pause(&error, failures, random());
                    failures += 1;
                    let again_in_seconds = wait.as_secs();
                    tracing::warn!(names, %error, again_in_seconds, "no certificate from the authority; the one in use stays");
                    wait
                }
            };
            issued.notify_one();
            tokio::time::sleep(LEAST).await;
            tokio::select! {
                () = tokio::time::sleep(wait.saturating_sub(LEAST)) => {}
                () = asked.notified() => {}
            }
        }
    }

    /// How long the certificate will do; zero when there is none, or none for our names from this authority.
    fn due(&self, now: Timestamp) -> Duration {
        let file = certificate(&self.dir);
        let Ok(text) = fs::read_to_string(&file) else { return Duration::ZERO };
        let Ok(facts) = CertFacts::read(&file) else { return Duration::ZERO };
        if text.lines().next() != Some(&self.origin) || !self.names.iter().all(|name| facts.is_for(name)) {
            return Duration::ZERO;
        }
        left(&facts, now)
    }

    async fn renew(&self) -> Result<(), AcmeError> {
        let deadline = Deadline::after(ORDER);
        let Issued { chain, key } = match self.order_as_before(deadline).await {
            Err(AcmeError::NoAccount) => self.order(&self.register(deadline).await?, deadline).await?,
            found => found?,
        };
        let whole = format!("{}\n{key}\n{chain}", self.origin);
        self.write(&certificate(&self.dir), &whole)?;
        // Or the next order would follow at once, for ever.
        if self.due(SystemClock.now()).is_zero() {
            let why = "the authority's new certificate is not for all names, or will not do for long";
            return Err(AcmeError::Failed(why.into()));
        }
        Ok(())
    }

    /// With the account that is kept; [`AcmeError::NoAccount`] when there is none, or the authority forgot it.
    async fn order_as_before(&self, deadline: Deadline) -> Result<Issued, AcmeError> {
        let kept = fs::read_to_string(self.account_file()).map_err(|_| AcmeError::NoAccount)?;
        self.order(&self.authority.account(&kept, deadline).await?, deadline).await
    }

    async fn register(&self, deadline: Deadline) -> Result<Account, AcmeError> {
        let account = self.authority.register(self.contact.as_ref(), deadline).await?;
        self.write(&self.account_file(), account.kept())?;
        Ok(account)
    }

    async fn order(&self, account: &Account, deadline: Deadline) -> Result<Issued, AcmeError> {
        account.order(&self.names, &self.challenges, deadline).await
    }

    fn account_file(&self) -> PathBuf {
        self.dir.join("acme-account.json")
    }

    fn write(&self, file: &Path, text: &str) -> Result<(), AcmeError> {
        store::make_private_dir(&self.dir).map_err(|e| AcmeError::Failed(e.to_string()))?;
        write_whole(file, text.as_bytes(), 0o600).map_err(|e| AcmeError::Failed(e.to_string()))
    }
}

/// How long a certificate will do.
fn left(facts: &CertFacts, now: Timestamp) -> Duration {
    let millis = |from: Timestamp, to: Timestamp| Duration::from_millis(u64::try_from(to.0 - from.0).unwrap_or(0));
    let margin = BEFORE_THE_END.min(millis(facts.from, facts.until) / 3);
    millis(now, facts.until).saturating_sub(margin)
}

/// How long to leave the authority alone after so many failures in a row before this one; spread by a quarter to either
/// side, so that many servers do not come back at once.
fn pause(error: &AcmeError, failures: u32, random: u32) -> Duration {
    let whole = match error {
        AcmeError::RateLimited(_) => SELDOM,
        _ => AGAIN.saturating_mul(1 << failures.min(10)).min(SELDOM),
    };
    whole * 3 / 4 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the wait is merely not spread.
    let _ = directory::system_random(&mut bytes);
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn failures_leave_the_authority_alone_for_longer_and_longer() {
        let failed = AcmeError::Failed(String::new());
        let minutes = |failures, random| pause(&failed, failures, random).as_secs_f64() / 60.0;
        // Two minutes, doubled to six hours; a quarter less or more.
        for (failures, least, most) in
            [(0, 1.5, 2.5), (1, 3.0, 5.0), (4, 24.0, 40.0), (8, 270.0, 450.0), (u32::MAX, 270.0, 450.0)]
        {
            assert_eq!((minutes(failures, 0), minutes(failures, u32::MAX)), (least, most), "{failures}");
        }
        // Let's Encrypt: five failures for a name in an hour.
        assert!((0..5).map(|failures| minutes(failures, 0)).sum::<f64>() > 45.0);
        let limited = AcmeError::RateLimited(String::new());
        assert_eq!(pause(&limited, 0, 0), Duration::from_secs(270 * 60));
    }

    #[test]
    fn a_third_of_a_life_or_thirty_days_before_the_end() {
        for (days, margin) in [(90, 30), (398, 30), (6, 2), (45, 15)] {
            let file = std::env::temp_dir().join(format!("postroom-acme-{days}-{}.pem", std::process::id()));
            let files = CertFiles { chain: file.clone(), key: file.with_extension("key") };
            net::self_signed(&files, &["mx.example.test".into()], Timestamp(0)).unwrap();
            let mut facts = CertFacts::read(&file).unwrap();
            fs::remove_file(&files.chain).unwrap();
            fs::remove_file(&files.key).unwrap();
            (facts.from, facts.until) = (Timestamp(0), Timestamp::from_secs(days * DAY as i64));
            let at = |day: i64| left(&facts, Timestamp::from_secs(day * DAY as i64)).as_secs();
            assert_eq!(at(0), (days as u64 - margin) * DAY, "{days}");
            assert_eq!((at(days - margin as i64), at(days + 1)), (0, 0), "{days}");
        }
    }
}
