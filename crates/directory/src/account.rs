//! Accounts: one person or role that logs in.

use base::{AccountId, Address, OrganisationId, Stream, Timestamp};
use store::{Error, Result, Row, Tx, params};

use crate::address::{self, Route, create_address};
use crate::organisation::{begin_change, check_name, next_id};
use crate::sql::account as sql;
use crate::{Changed, canonical, credential, missing, refused};

/// An account as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number; mailboxes and mails are kept under it.
    pub id: AccountId,
    /// Who owns it.
    pub organisation: OrganisationId,
    /// What it signs in as; also one of its addresses.
    pub login: Address,
    /// For people.
    pub name: String,
    /// How many octets of mail it may keep; None: as many as there is room for.
    pub quota: Option<u64>,
    /// May administer the organisation, and gets its postmaster's mail.
    pub administrator: bool,
    /// May not sign in. Mail is still taken for it.
    pub disabled: bool,
    /// What kind of sending its mail to other hosts is, unless the credential says otherwise.
    pub stream: Stream,
    /// When it was made.
    pub created: Timestamp,
}

/// What an account is made from.
#[derive(Clone, Debug)]
pub struct NewAccount<'a> {
    /// Who owns it; its login's domain must be the same organisation's.
    pub organisation: OrganisationId,
    /// What it signs in as; becomes its first address.
    pub login: &'a Address,
    /// For people.
    pub name: &'a str,
    /// In octets; None: no limit.
    pub quota: Option<u64>,
    /// See [`Account::administrator`].
    pub administrator: bool,
    /// Now.
    pub created: Timestamp,
}

/// What may change about an account; None leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    /// Another of its addresses to sign in as.
    pub login: Option<Address>,
    /// See [`Account::name`].
    pub name: Option<String>,
    /// See [`Account::quota`].
    pub quota: Option<Option<u64>>,
    /// See [`Account::administrator`].
    pub administrator: Option<bool>,
    /// See [`Account::disabled`].
    pub disabled: Option<bool>,
    /// See [`Account::stream`]. Who is signed in already goes on as before.
    pub stream: Option<Stream>,
}

/// The quota as the store keeps it.
fn octets(quota: Option<u64>) -> Option<i64> {
    quota.map(|q| i64::try_from(q).unwrap_or(i64::MAX))
}

/// A stream as the store keeps it.
pub(crate) fn read_stream(value: i64) -> Result<Stream> {
    Stream::read(value).ok_or_else(|| Error::Corrupt(format!("stream {value}").into()))
}

fn read(r: &Row<'_>) -> Result<Account> {
    Ok(Account {
        id: AccountId(r.int(0)?),
        organisation: OrganisationId(r.int(1)?),
        login: Address::parse(r.text(2)?).map_err(|e| Error::Corrupt(format!("account login: {e}").into()))?,
        name: r.text(3)?.to_owned(),
        quota: r.opt_int(4)?.and_then(|q| u64::try_from(q).ok()),
        administrator: r.int(5)? != 0,
        disabled: r.int(6)? != 0,
        created: Timestamp(r.int(7)?),
        stream: read_stream(r.int(8)?)?,
    })
}

/// Makes an account and the address it signs in as. It has no credential yet: see [`crate::set_password`].
///
/// # Errors
/// Refuses an address that exists, a domain that is not ours or another organisation's, and a bad name.
pub fn create_account(tx: &mut Tx<'_>, new: &NewAccount<'_>) -> Result<AccountId> {
    check_name(new.name)?;
    begin_change(tx)?;
    let (_, key) = address::free(tx, new.login)?;
    let (id, quota) = (AccountId(next_id(tx, "account")?), octets(new.quota));
    tx.execute(
        &sql::ADD,
        params![id, new.organisation, key.text.as_str(), new.name, quota, new.administrator, new.created],
    )?;
    create_address(tx, new.login, &Route::Account(id), new.created)?;
    Changed::Account(id).publish(tx);
    Ok(id)
}

/// At most `limit` of an organisation's accounts, by number, from the one after `after` (0 for the first page).
///
/// # Errors
/// The store's.
pub fn accounts(tx: &mut Tx<'_>, of: OrganisationId, after: AccountId, limit: u32) -> Result<Vec<Account>> {
    tx.list(&sql::LIST, params![of, after, limit], read)
}

/// One account.
///
/// # Errors
/// Refuses when there is none of that number.
pub fn account(tx: &mut Tx<'_>, id: AccountId) -> Result<Account> {
    tx.row(&sql::BY_ID, params![id], read)?.ok_or_else(|| missing("There is no such account"))
}

/// The account that signs in as `login`, if there is one.
///
/// # Errors
/// The store's.
pub fn account_by_login(tx: &mut Tx<'_>, login: &Address) -> Result<Option<Account>> {
    let login = canonical(login)?;
    tx.row(&sql::BY_LOGIN, params![login.as_str()], read)
}

/// Changes an account.
///
/// # Errors
/// Refuses a bad name, and a login that is not one of the account's own addresses.
pub fn change_account(tx: &mut Tx<'_>, id: AccountId, change: &AccountChange) -> Result<()> {
    begin_change(tx)?;
    let mut now = account(tx, id)?;
    if let Some(name) = &change.name {
        check_name(name)?;
        now.name.clone_from(name);
    }
    if let Some(login) = &change.login {
        if address::address(tx, login)?.is_none_or(|entry| entry.route != Route::Account(id)) {
            return Err(refused("An account signs in as one of its own addresses"));
        }
        now.login.clone_from(login);
    }
    now.quota = change.quota.unwrap_or(now.quota);
    now.administrator = change.administrator.unwrap_or(now.administrator);
    now.disabled = change.disabled.unwrap_or(now.disabled);
    now.stream = change.stream.unwrap_or(now.stream);
    let (login, quota, stream) = (canonical(&now.login)?, octets(now.quota), now.stream.stored());
    let (login, name) = (login.as_str(), now.name.as_str());
    tx.execute(&sql::CHANGE, params![id, login, name, quota, now.administrator, now.disabled, stream])?;
    Changed::Account(id).publish(tx);
    Ok(())
}

/// Removes an account with its addresses and credentials. What other crates keep for it, they remove in the same job.
///
/// # Errors
/// Refuses while a list or a catch-all still points at one of its addresses.
pub fn remove_account(tx: &mut Tx<'_>, id: AccountId) -> Result<()> {
    begin_change(tx)?;
    account(tx, id)?;
    for own in address::of_account(tx, id)? {
        address::remove_row(tx, &own)?;
    }
    credential::remove_all(tx, id)?;
    tx.execute(&sql::SENT_REMOVE, params![id])?;
    tx.execute(&sql::REMOVE, params![id])?;
    Changed::Account(id).publish(tx);
    Ok(())
}
