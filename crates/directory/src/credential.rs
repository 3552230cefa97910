//! Credentials: what proves that somebody is an account.

use base::{AccountId, Timestamp};
use store::{Error, Result, Tx, Value, params};

use crate::password::PasswordHash;
use crate::sql::{account as account_sql, credential as sql};
use crate::{Changed, missing};

/// A credential, numbered within its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CredentialId(pub i64);

impl From<CredentialId> for Value<'_> {
    fn from(id: CredentialId) -> Self {
        Value::Int(id.0)
    }
}

/// What kind of secret it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The account's password, chosen by its owner; one at most.
    Password,
    /// Made by us for one program.
    AppPassword,
}

impl Kind {
    pub(crate) fn as_i64(self) -> i64 {
        match self {
            Kind::Password => 1,
            Kind::AppPassword => 2,
        }
    }

    pub(crate) fn read(kind: i64) -> Result<Self> {
        match kind {
            1 => Ok(Kind::Password),
            2 => Ok(Kind::AppPassword),
            _ => Err(Error::Corrupt(format!("credential of kind {kind}").into())),
        }
    }
}

/// A credential as people may see it: without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Its number within the account.
    pub id: CredentialId,
    /// What it is.
    pub kind: Kind,
    /// What its owner calls it; empty for the password.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it last proved somebody, to the hour; None: never.
    pub last_used: Option<Timestamp>,
}

/// The account's next credential version: also what a new credential is numbered by.
pub(crate) fn next_version(tx: &mut Tx<'_>, of: AccountId) -> Result<CredentialId> {
    tx.row(&account_sql::NEXT_VERSION, params![of], |r| Ok(CredentialId(r.int(0)?)))?
        .ok_or_else(|| missing("There is no such account"))
}

/// All credentials of an account, oldest first.
///
/// # Errors
/// The store's.
pub fn credentials(tx: &mut Tx<'_>, of: AccountId) -> Result<Vec<Credential>> {
    tx.list(&sql::LIST, params![of], |r| {
        Ok(Credential {
            id: CredentialId(r.int(0)?),
            kind: Kind::read(r.int(1)?)?,
            name: r.text(2)?.to_owned(),
            created: Timestamp(r.int(3)?),
            last_used: r.opt_int(4)?.map(Timestamp),
        })
    })
}

/// Sets the account's password, in place of the one it had. The hash is made beforehand: it is too slow for a job.
///
/// # Errors
/// Refuses when there is no such account.
pub fn set_password(tx: &mut Tx<'_>, of: AccountId, hash: &PasswordHash, now: Timestamp) -> Result<CredentialId> {
    let (id, kind) = (next_version(tx, of)?, Kind::Password.as_i64());
    tx.execute(&sql::REMOVE_KIND, params![of, kind])?;
    tx.execute(&sql::ADD, params![of, id, kind, "", hash.as_str(), now])?;
    Changed::Credential(of).publish(tx);
    Ok(id)
}

/// Removes one credential.
///
/// # Errors
/// Refuses when there is no such account or credential.
pub fn remove_credential(tx: &mut Tx<'_>, of: AccountId, id: CredentialId) -> Result<()> {
    next_version(tx, of)?;
    if tx.execute(&sql::REMOVE, params![of, id])? == 0 {
        return Err(missing("There is no such credential"));
    }
    Changed::Credential(of).publish(tx);
    Ok(())
}

/// Removes all credentials of an account that goes.
pub(crate) fn remove_all(tx: &mut Tx<'_>, of: AccountId) -> Result<()> {
    tx.execute(&sql::REMOVE_ALL, params![of]).map(drop)
}
