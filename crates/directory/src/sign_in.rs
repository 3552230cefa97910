//! Sign-in with a login and a password.
//!
//! A password is hashed by one of a few threads, off the I/O threads; what was proven is remembered for ten minutes, so
//! that a program that signs in every second costs a look-up. Whoever asks cannot tell an unknown login from a wrong
//! password, by word or by time.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base::{AccountId, Address};
use store::{Store, Tx, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::{Moment, Recent};
use crate::credential::{CredentialId, Kind};
use crate::password::{MAX_PASSWORD, PasswordHash};
use crate::sql::credential as sql;
use crate::{Directory, OrganisationId, Random, Secret, canonical};

/// How long a proven password is remembered, in seconds.
const PROVEN: i64 = 600;

/// How long somebody may wait for a turn to have a password hashed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest login, in octets: RFC 5321 §4.5.3.1 allows 64 + `@` + 255.
const MAX_LOGIN: usize = 320;

/// An attempt to sign in.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// An account's login address, in any case.
    pub login: &'a [u8],
    /// The password, or an app password.
    pub password: &'a [u8],
    /// Where the attempt comes from.
    pub ip: IpAddr,
    /// The protocol, for the log: `imap`, `smtp`, `pop3`.
    pub service: &'static str,
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.login.escape_ascii().to_string();
        f.debug_struct("Attempt").field("login", &login).field("ip", &self.ip).field("service", &self.service).finish()
    }
}

/// Somebody who proved to be an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// Who.
    pub account: AccountId,
    /// Of which organisation.
    pub organisation: OrganisationId,
    /// What the account signs in as.
    pub login: Address,
    /// May administer the organisation.
    pub administrator: bool,
    /// By which credential.
    pub credential: CredentialId,
}

/// Why a sign-in failed. What the peer is told is the protocol's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The login or the password is wrong; which of them, nobody says.
    Invalid,
    /// The password is right, but the account is disabled.
    Disabled,
    /// Too many failures; nothing was looked at.
    TryLater {
        /// After so many seconds it will be.
        seconds: u32,
    },
    /// The store or the machine has trouble.
    Unavailable,
}

/// What sign-in needs to know of an account.
pub(crate) struct Record {
    pub(crate) account: AccountId,
    organisation: OrganisationId,
    login: Address,
    administrator: bool,
    disabled: bool,
    /// Changes with every change of a credential.
    version: i64,
    password: Option<(CredentialId, PasswordHash)>,
}

/// What is kept between sign-ins.
pub(crate) struct Gate {
    /// By login as it was written.
    records: Recent<Box<[u8]>, Option<Arc<Record>>>,
    /// Passwords that were proven, under a keyed hash of all that decides it.
    proven: Recent<[u8; 32], CredentialId>,
    /// Of this process only: what is in memory is worth nothing elsewhere.
    key: hmac::Key,
    /// Who may hash; a few at once, because each needs a core and 19 MiB.
    turns: Arc<Semaphore>,
}

impl Gate {
    pub(crate) async fn open(_store: &Store, random: Random) -> base::Result<Self> {
        let mut key = [0; 32];
        random(&mut key)?;
        let turns = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        Ok(Gate {
            records: Recent::new(20_000, 60),
            proven: Recent::new(20_000, PROVEN),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            turns: Arc::new(Semaphore::new(turns)),
        })
    }

    /// Under what a proven password is remembered: the account, the state of its credentials, and the password (trap 26).
    fn name_of_proof(&self, record: &Record, password: &[u8]) -> [u8; 32] {
        let mut mac = hmac::Context::with_key(&self.key);
        mac.update(&record.account.as_i64().to_le_bytes());
        mac.update(&record.version.to_le_bytes());
        mac.update(password);
        let mut name = [0; 32];
        name.copy_from_slice(mac.sign().as_ref());
        name
    }
}

impl Directory {
    /// Checks a login and a password. Answers without leaving the thread when the same was proven in the last ten
    /// minutes.
    ///
    /// # Errors
    /// [`AuthFailure`] says what to do about it.
    pub async fn authenticate(&self, attempt: Attempt<'_>) -> Result<SignedIn, AuthFailure> {
        let record = self.record(attempt.login).await?;
        if let Some(record) = &record
            && let Some(credential) = self.proven(record, attempt.password)
        {
            return admit(record, credential);
        }
        let turn = self.turn().await?;
        // Of many sessions of one program that begin together, the first had it hashed while the others waited.
        if let Some(record) = &record
            && let Some(credential) = self.proven(record, attempt.password)
        {
            return admit(record, credential);
        }
        let credential = self.check(turn, record.clone(), attempt.password).await?;
        match (record, credential) {
            (Some(record), Some(credential)) => {
                let name = self.inner.gate.name_of_proof(&record, attempt.password);
                self.inner.gate.proven.put(name, credential, self.moment_of_proof());
                admit(&record, credential)
            }
            _ => {
                tracing::info!(?attempt, "sign-in refused");
                Err(AuthFailure::Invalid)
            }
        }
    }

    /// Hashes a password for [`crate::set_password`], off this thread.
    ///
    /// # Errors
    /// As [`PasswordHash::new`]; 451 when too many wait.
    pub async fn hash_password(&self, password: &[u8]) -> base::Result<PasswordHash> {
        let busy = |_| base::Error::new(base::Reply::new(451, 3, 2, "Too busy, please try again later"));
        let (password, random) = (Secret::from(password), self.inner.random);
        let turn = self.turn().await.map_err(busy)?;
        let work = move || {
            let _turn = turn;
            PasswordHash::new(password.expose(), random)
        };
        tokio::task::spawn_blocking(work).await.map_err(base::Error::internal)?
    }

    /// The moment of a proof: the name it is kept under changes with the credentials, so other changes do not matter.
    fn moment_of_proof(&self) -> Moment {
        Moment { generation: 0, ..self.moment() }
    }

    fn proven(&self, record: &Record, password: &[u8]) -> Option<CredentialId> {
        let gate = &self.inner.gate;
        gate.proven.get(&gate.name_of_proof(record, password), self.moment_of_proof())
    }

    /// What is known of a login; None: nothing.
    async fn record(&self, login: &[u8]) -> Result<Option<Arc<Record>>, AuthFailure> {
        if login.len() > MAX_LOGIN {
            return Ok(None);
        }
        let (gate, now) = (&self.inner.gate, self.moment());
        if let Some(record) = gate.records.get(login, now) {
            return Ok(record);
        }
        let address = str::from_utf8(login).ok().and_then(|login| Address::parse(login).ok());
        let record = match address {
            None => None,
            Some(address) => self.inner.store.read(move |tx| read_record(tx, address)).await.map_err(|e| {
                tracing::error!(error = %e, "no sign-in without the store");
                AuthFailure::Unavailable
            })?,
        };
        gate.records.put(login.into(), record.clone(), now);
        Ok(record)
    }

    /// A turn to hash, or word that there is too much to do.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, AuthFailure> {
        match tokio::time::timeout(PATIENCE, self.inner.gate.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(AuthFailure::Unavailable),
            Err(_) => Err(AuthFailure::TryLater { seconds: PATIENCE.as_secs() as u32 }),
        }
    }

    /// Does the slow work. The turn goes along: it ends with the work, not with a session that lost patience.
    async fn check(
        &self,
        turn: OwnedSemaphorePermit,
        record: Option<Arc<Record>>,
        password: &[u8],
    ) -> Result<Option<CredentialId>, AuthFailure> {
        let password = Secret::from(&password[..password.len().min(MAX_PASSWORD + 1)]);
        let work = move || {
            let _turn = turn;
            record_allows(record.as_deref(), password.expose())
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| {
            tracing::error!(error = %e, "hashing a password failed");
            AuthFailure::Unavailable
        })
    }
}

/// Which credential `password` is. Costs the same whether there is such an account, or such a credential, or not.
fn record_allows(record: Option<&Record>, password: &[u8]) -> Option<CredentialId> {
    let chosen = record.and_then(|r| r.password.as_ref());
    let hash = chosen.map_or_else(PasswordHash::nobody, |(_, hash)| hash.clone());
    let right = hash.is_of(password);
    chosen.filter(|_| right).map(|(id, _)| *id)
}

fn admit(record: &Record, credential: CredentialId) -> Result<SignedIn, AuthFailure> {
    if record.disabled {
        return Err(AuthFailure::Disabled);
    }
    Ok(SignedIn {
        account: record.account,
        organisation: record.organisation,
        login: record.login.clone(),
        administrator: record.administrator,
        credential,
    })
}

fn read_record(tx: &mut Tx<'_>, login: Address) -> store::Result<Option<Arc<Record>>> {
    let Ok(text) = canonical(&login) else { return Ok(None) };
    let Some(login) = Address::parse(&text).ok() else { return Ok(None) };
    let record = tx.row(&sql::SIGN_IN_ACCOUNT, params![text.as_str()], |r| {
        Ok(Record {
            account: AccountId(r.int(0)?),
            organisation: OrganisationId(r.int(1)?),
            login,
            administrator: r.int(2)? != 0,
            disabled: r.int(3)? != 0,
            version: r.int(4)?,
            password: None,
        })
    })?;
    let Some(mut record) = record else { return Ok(None) };
    tx.rows(&sql::SECRETS, params![record.account], |r| {
        let id = CredentialId(r.int(0)?);
        match Kind::read(r.int(1)?)? {
            Kind::Password => record.password = Some((id, PasswordHash::stored(r.text(2)?))),
            Kind::AppPassword => {}
        }
        Ok(())
    })?;
    Ok(Some(Arc::new(record)))
}
