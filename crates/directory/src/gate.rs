//! What is remembered between sign-ins: accounts, proofs, failures.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base::{AccountId, Address, OrganisationId, Stream, Timestamp};
use store::{Result, Store, Tx, params};

use crate::account::read_stream;
use crate::address::stored;
use crate::backoff::Backoff;
use crate::cache::{Moment, Recent};
use crate::credential::{CredentialId, Secrets, secrets};
use crate::refusals::Refusals;
use crate::sasl::ScramUser;
use crate::scram::salt_for;
use crate::sql::credential as sql;
use crate::turns::Turns;
use crate::{Random, canonical};

/// How long a proven password is remembered, in seconds.
const PROVEN: i64 = 600;

/// How long a record is good, in seconds, on a node that does not hear of a change.
const FRESH: i64 = 60;

/// How often the use of a credential is written down, in seconds.
const USED: i64 = 3600;

/// Entries that each half of a table may hold.
const KEPT: usize = 20_000;

/// What sign-in needs to know of an account.
pub(crate) struct Record {
    pub(crate) account: AccountId,
    pub(crate) organisation: OrganisationId,
    pub(crate) login: Address,
    pub(crate) administrator: bool,
    pub(crate) disabled: bool,
    pub(crate) stream: Stream,
    /// Changes with every change of a credential.
    pub(crate) version: i64,
    pub(crate) secrets: Secrets,
}

/// A login, and what is known of it.
#[derive(Clone)]
pub(crate) struct Known {
    /// The canonical spelling; empty for what is no address. All such share a count of failures.
    pub(crate) login: Arc<str>,
    /// None: there is no such account.
    pub(crate) record: Option<Arc<Record>>,
}

impl Known {
    pub(crate) fn account(&self) -> Option<AccountId> {
        self.record.as_ref().map(|r| r.account)
    }

    /// What is no login at all.
    pub(crate) fn nobody() -> Self {
        Known { login: "".into(), record: None }
    }
}

/// What is kept between sign-ins.
pub(crate) struct Gate {
    /// By login as it was written.
    pub(crate) records: Recent<Box<[u8]>, Known>,
    /// Passwords that were proven, under a keyed hash of all that decides it.
    proven: Recent<[u8; 32], CredentialId>,
    /// Whose use was written down lately.
    used: Recent<(AccountId, CredentialId), ()>,
    pub(crate) backoff: Backoff,
    /// Of this process only: what is in memory is worth nothing elsewhere.
    key: hmac::Key,
    /// Of the store: what salts are made with, those of logins that do not exist too.
    salts: Vec<u8>,
    /// Who may hash; a few at once, because each needs a core and 19 MiB.
    pub(crate) turns: Turns,
    pub(crate) refusals: Refusals,
}

impl Gate {
    pub(crate) async fn open(store: &Store, random: Random) -> base::Result<Self> {
        let (mut key, mut fresh) = ([0; 32], [0; 32]);
        random(&mut key)?;
        random(&mut fresh)?;
        let salts = store.write(move |tx| secret(tx, "salts", &fresh)).await?;
        let turns = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        Ok(Gate {
            records: Recent::new(KEPT, FRESH),
            proven: Recent::new(KEPT, PROVEN),
            used: Recent::new(KEPT, USED),
            backoff: Backoff::new(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            salts,
            turns: Turns::new(turns),
            refusals: Refusals::default(),
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

    /// Which credential this password was, if that was proven in the last ten minutes.
    pub(crate) fn proven(&self, record: &Record, password: &[u8], now: Timestamp) -> Option<CredentialId> {
        self.proven.get(&self.name_of_proof(record, password), at(now))
    }

    /// Remembers a proof.
    pub(crate) fn prove(&self, record: &Record, password: &[u8], credential: CredentialId, now: Timestamp) {
        self.proven.put(self.name_of_proof(record, password), credential, at(now));
    }

    /// Whether it is time to write down that a credential is in use.
    pub(crate) fn note_use(&self, account: AccountId, credential: CredentialId, now: Timestamp) -> bool {
        let (key, now) = ((account, credential), at(now));
        let due = self.used.get(&key, now).is_none();
        if due {
            self.used.put(key, (), now);
        }
        due
    }

    /// The salt of an account that has no app password yet, and of a login that does not exist.
    pub(crate) fn salt(&self, login: &str) -> Vec<u8> {
        salt_for(&self.salts, login)
    }

    /// What SCRAM shows of a login.
    pub(crate) fn scram_user(&self, known: &Known) -> ScramUser {
        let apps = known.record.as_ref().map(|r| r.secrets.apps.clone()).unwrap_or_default();
        ScramUser::with(apps).unwrap_or_else(|| ScramUser::nobody(self.salt(&known.login)))
    }
}

/// These tables know what decides by their keys: no change of the directory makes them worthless.
fn at(time: Timestamp) -> Moment {
    Moment { time, generation: 0 }
}

/// Random bytes that are made once for a store.
fn secret(tx: &mut Tx<'_>, name: &str, fresh: &[u8]) -> Result<Vec<u8>> {
    tx.execute(&sql::SECRET_ADD, params![name, fresh])?;
    tx.one(&sql::SECRET_GET, params![name], |r| Ok(r.bytes(0)?.to_vec()))
}

/// What the store knows of a login.
pub(crate) fn read(tx: &mut Tx<'_>, login: &Address) -> Result<Known> {
    let Ok(text) = canonical(login) else { return Ok(Known::nobody()) };
    let login = stored(&text)?;
    let record = tx.row(&sql::SIGN_IN_ACCOUNT, params![text.as_str()], |r| {
        Ok(Record {
            account: AccountId(r.int(0)?),
            organisation: OrganisationId(r.int(1)?),
            login,
            administrator: r.int(2)? != 0,
            disabled: r.int(3)? != 0,
            version: r.int(4)?,
            stream: read_stream(r.int(5)?)?,
            secrets: Secrets::default(),
        })
    })?;
    let record = match record {
        None => None,
        Some(mut record) => {
            record.secrets = secrets(tx, record.account)?;
            Some(Arc::new(record))
        }
    };
    Ok(Known { login: text.into(), record })
}
