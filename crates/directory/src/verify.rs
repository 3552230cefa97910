//! Whether the tables agree with each other: this crate's part of `postroom verify`.

use base::AccountId;
use store::{Result, Sql, Tx, params};

use crate::address::{check_targets, stored};
use crate::credential::Kind;
use crate::password::PasswordHash;
use crate::scram::ScramKeys;
use crate::sql::verify as sql;

/// Statements that answer with one text a fault, and what the fault is.
const FAULTS: [(Sql, &str); 11] = [
    (sql::DOMAIN_OWNER, "domain without an organisation"),
    (sql::ACCOUNT_OWNER, "account without an organisation"),
    (sql::LOGIN, "login that is no address of its account"),
    (sql::ADDRESS_DOMAIN, "address in a domain that is gone"),
    (sql::ADDRESS_ACCOUNT, "address of no account and no list"),
    (sql::EMPTY_LIST, "list that leads nowhere"),
    (sql::STRAY_TARGET, "target of a list that is gone"),
    (sql::CREDENTIAL_ACCOUNT, "credential of an account that is gone"),
    (sql::CREDENTIAL_NUMBER, "credential numbered above its account's version, account"),
    (sql::ONE_PASSWORD, "more than one password, account"),
    (sql::COUNTER, "counter behind its table"),
];

/// Checks everything this crate keeps; gives a line for each fault, none when all is well. Run it as a read.
///
/// # Errors
/// The store's.
pub fn verify(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (statement, fault) in &FAULTS {
        tx.rows(statement, params![], |r| {
            faults.push(format!("directory: {fault}: {}", r.text(0)?));
            Ok(())
        })?;
    }
    targets(tx, &mut faults)?;
    secrets(tx, &mut faults)?;
    Ok(faults)
}

/// Every list and catch-all leads to somebody.
fn targets(tx: &mut Tx<'_>, faults: &mut Vec<String>) -> Result<()> {
    for target in tx.list(&sql::TARGETS, params![], |r| Ok(r.text(0)?.to_owned()))? {
        let outcome = stored(&target).and_then(|address| check_targets(tx, &[address]).map(drop));
        if let Err(e) = outcome {
            faults.push(format!("directory: target {target}: {e}"));
        }
    }
    Ok(())
}

/// Every secret can be read, and an account's app passwords share their salt.
fn secrets(tx: &mut Tx<'_>, faults: &mut Vec<String>) -> Result<()> {
    let mut last: Option<(AccountId, ScramKeys)> = None;
    tx.rows(&sql::SECRETS, params![], |r| {
        let (account, text) = (AccountId(r.int(0)?), r.text(2)?);
        match Kind::read(r.int(1)?) {
            Ok(Kind::Password) if PasswordHash::stored(text).is_sound() => return Ok(()),
            Ok(Kind::AppPassword) => {
                if let Some(keys) = ScramKeys::from_text(text) {
                    let other = last.replace((account, keys.clone()));
                    if other.is_some_and(|(of, other)| of == account && !other.shares_salt(&keys)) {
                        faults.push(format!("directory: app passwords with several salts, account: {account}"));
                    }
                    return Ok(());
                }
            }
            _ => {}
        }
        faults.push(format!("directory: credential that cannot be read, account: {account}"));
        Ok(())
    })
}
