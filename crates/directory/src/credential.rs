//! Credentials: what proves that somebody is an account.

use base::{AccountId, Stream, Timestamp};
use store::{Error, Result, Tx, Value, params};

use crate::account::read_stream;
use crate::organisation::{begin_change, check_name};
use crate::password::PasswordHash;
use crate::scram::ScramKeys;
use crate::sql::{account as account_sql, credential as sql};
use crate::{Changed, missing, refused};

/// How many app passwords an account may have.
pub const MAX_APP_PASSWORDS: usize = 32;

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

    /// For the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Password => "password",
            Kind::AppPassword => "app password",
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
    /// What kind of sending is done with it; None: what its account says.
    pub stream: Option<Stream>,
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
            stream: r.opt_int(5)?.map(read_stream).transpose()?,
        })
    })
}

/// Sets the account's password, in place of the one it had. The hash is made beforehand: it is too slow for a job.
///
/// # Errors
/// Refuses when there is no such account.
pub fn set_password(tx: &mut Tx<'_>, of: AccountId, hash: &PasswordHash, now: Timestamp) -> Result<CredentialId> {
    begin_change(tx)?;
    let (id, kind) = (next_version(tx, of)?, Kind::Password.as_i64());
    tx.execute(&sql::REMOVE_KIND, params![of, kind])?;
    tx.execute(&sql::ADD, params![of, id, kind, "", hash.as_str(), now, None::<i64>])?;
    Changed::Credential(of).publish(tx);
    Ok(id)
}

/// What proves somebody, as the store keeps it.
#[derive(Default)]
pub(crate) struct Secrets {
    pub(crate) password: Option<(CredentialId, PasswordHash)>,
    /// All with the same salt, so that SCRAM, which shows a salt before it knows which password comes, works for each.
    pub(crate) apps: Vec<(CredentialId, ScramKeys)>,
    /// Those that send in another stream than their account.
    pub(crate) streams: Vec<(CredentialId, Stream)>,
}

impl Secrets {
    /// What the credential of this number is; None: it is none of them.
    pub(crate) fn kind(&self, id: CredentialId) -> Option<Kind> {
        let password = self.password.iter().map(|(own, _)| (own, Kind::Password));
        let mut all = password.chain(self.apps.iter().map(|(own, _)| (own, Kind::AppPassword)));
        all.find(|(own, _)| **own == id).map(|(_, kind)| kind)
    }

    /// The stream that the credential of this number sends in, where it has one of its own.
    pub(crate) fn stream(&self, id: CredentialId) -> Option<Stream> {
        self.streams.iter().find(|(own, _)| *own == id).map(|(_, stream)| *stream)
    }
}

/// The secrets of an account.
pub(crate) fn secrets(tx: &mut Tx<'_>, of: AccountId) -> Result<Secrets> {
    let mut secrets = Secrets::default();
    tx.rows(&sql::SECRETS, params![of], |r| {
        let (id, text) = (CredentialId(r.int(0)?), r.text(2)?);
        if let Some(stream) = r.opt_int(3)? {
            secrets.streams.push((id, read_stream(stream)?));
        }
        match Kind::read(r.int(1)?)? {
            Kind::Password => secrets.password = Some((id, PasswordHash::stored(text))),
            Kind::AppPassword => match ScramKeys::from_text(text) {
                Some(keys) => secrets.apps.push((id, keys)),
                None => return Err(Error::Corrupt(format!("credential {} of account {of}", id.0).into())),
            },
        }
        Ok(())
    })?;
    Ok(secrets)
}

/// Adds an app password, by the keys that were derived from it beforehand; see
/// [`crate::Directory::create_app_password`]. With a `stream` its program sends in that one, whatever the account's is.
///
/// # Errors
/// Refuses a bad name, the 33rd, keys with another salt than the account's others have, and an unknown account.
pub fn add_app_password(
    tx: &mut Tx<'_>,
    of: AccountId,
    name: &str,
    keys: &ScramKeys,
    stream: Option<Stream>,
    now: Timestamp,
) -> Result<CredentialId> {
    check_name(name)?;
    begin_change(tx)?;
    let others = secrets(tx, of)?.apps;
    if others.len() >= MAX_APP_PASSWORDS {
        return Err(refused("The account has 32 app passwords already: remove one"));
    }
    if others.iter().any(|(_, other)| !other.shares_salt(keys)) {
        return Err(refused("Another app password was made at the same moment: try again"));
    }
    let id = next_version(tx, of)?;
    let (kind, stream) = (Kind::AppPassword.as_i64(), stream.map(Stream::stored));
    tx.execute(&sql::ADD, params![of, id, kind, name, keys.to_text().as_str(), now, stream])?;
    Changed::Credential(of).publish(tx);
    Ok(id)
}

/// Writes down that a credential was used. This is no change of it: no event.
pub(crate) fn used(tx: &mut Tx<'_>, of: AccountId, id: CredentialId, now: Timestamp) -> Result<()> {
    tx.execute(&sql::USED, params![of, id, now]).map(drop)
}

/// Removes one credential.
///
/// # Errors
/// Refuses when there is no such account or credential.
pub fn remove_credential(tx: &mut Tx<'_>, of: AccountId, id: CredentialId) -> Result<()> {
    begin_change(tx)?;
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
