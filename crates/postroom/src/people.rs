//! Accounts, as an administrator sees them.

use base::{AccountId, Stream, Timestamp};
use directory::{AccountChange, NewAccount};
use mailbox::verbs;
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, account, parse, refused};
use crate::organisations::Names;

/// Who is to be added.
pub struct Person<'a> {
    pub address: &'a str,
    pub name: &'a str,
    pub quota: Option<u64>,
    pub administrator: bool,
}

/// Adds an account with its mailboxes and its password, of the organisation that its domain belongs to; without a name it is called
/// as its address.
pub fn add(
    tx: &mut Tx<'_>,
    new: &Person<'_>,
    hash: &directory::PasswordHash,
    now: Timestamp,
) -> store::Result<AccountId> {
    let login = parse(new.address)?;
    let domain = directory::domain_by_name(tx, login.domain())?;
    let organisation =
        domain.ok_or_else(|| refused(format!("the domain {} is not ours", login.domain())))?.organisation;
    let Person { name, quota, administrator, .. } = *new;
    let name = if name.is_empty() { login.local().to_owned() } else { name.to_owned() };
    let account = NewAccount { organisation, login: &login, name: &name, quota, administrator, created: now };
    let id = directory::create_account(tx, &account)?;
    directory::set_password(tx, id, hash, now)?;
    verbs::create_account(tx, id, quota.unwrap_or(0), now)?;
    Ok(id)
}

/// Every account, by number.
fn all(tx: &mut Tx<'_>) -> store::Result<Vec<directory::Account>> {
    const PAGE: u32 = 1000;
    let mut all: Vec<directory::Account> = Vec::new();
    for organisation in directory::organisations(tx)? {
        let mut after = AccountId(0);
        loop {
            let page = directory::accounts(tx, organisation.id, after, PAGE)?;
            let full = page.len() == PAGE as usize;
            after = page.last().map_or(after, |a| a.id);
            all.extend(page);
            if !full {
                break;
            }
        }
    }
    Ok(all)
}

/// All of them, and the room they use.
pub fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (mut text, mut data, names) = (Vec::new(), Vec::new(), Names::read(tx)?);
    for a in all(tx)? {
        let (used, quota) = verbs::room(tx, a.id)?;
        let role = if a.administrator { "  administrator" } else { "" };
        let state = if a.disabled { "  disabled" } else { "" };
        // Only what is unusual: accounts are people's.
        let stream = if a.stream == Stream::Mail { String::new() } else { format!("  sends {}", a.stream) };
        let of = names.note(a.organisation);
        text.push(format!("{:32} {:>12} octets{role}{state}{stream}{of}", a.login.to_string(), used));
        let (login, name) = (a.login.to_string(), a.name);
        data.push(json!({ "account": a.id.0, "address": login, "name": name, "used": used, "quota": quota,
            "administrator": a.administrator, "disabled": a.disabled, "stream": a.stream.word(),
            "organisation": names.of(a.organisation) }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

/// Changes what is given.
pub fn change(tx: &mut Tx<'_>, address: &str, change: &AccountChange) -> store::Result<Answer> {
    let account = account(tx, address)?;
    if change.administrator == Some(false) || change.disabled == Some(true) {
        keep_an_administrator(tx, account, address)?;
    }
    directory::change_account(tx, account, change)?;
    if let Some(quota) = change.quota {
        verbs::set_quota(tx, account, quota.unwrap_or(0))?;
    }
    Ok(Answer::new(format!("Changed {address}"), json!({ "address": address })))
}

/// Takes an account away, with its mail.
pub fn remove(tx: &mut Tx<'_>, address: &str) -> store::Result<Answer> {
    let account = account(tx, address)?;
    keep_an_administrator(tx, account, address)?;
    directory::remove_account(tx, account)?;
    verbs::remove_account(tx, account)?;
    Ok(Answer::new(format!("Removed {address} and its mail"), json!({ "address": address })))
}

/// RFC 5321 §4.5.1: postmaster must exist; it is the administrator.
fn keep_an_administrator(tx: &mut Tx<'_>, account: AccountId, address: &str) -> store::Result<()> {
    let administrators: Vec<AccountId> =
        all(tx)?.into_iter().filter(|a| a.administrator && !a.disabled).map(|a| a.id).collect();
    if administrators == [account] {
        return Err(refused(format!("{address} is the only administrator: make another one first")));
    }
    Ok(())
}
