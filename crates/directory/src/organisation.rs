//! Organisations: the tenants that own domains and accounts.

use base::{OrganisationId, Timestamp};
use store::{Result, Row, Tx, params};

use crate::sql::organisation as sql;
use crate::{Changed, missing, refused};

/// An organisation as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organisation {
    /// Its number.
    pub id: OrganisationId,
    /// What commands call it: no two have the same.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

/// The longest name of an organisation, an account or an app password, in octets.
pub(crate) const MAX_NAME: usize = 200;

/// Names are for people, but they end in headers and on terminals.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(refused("A name has at most 200 octets and no control characters"));
    }
    Ok(())
}

/// The next number of `what` (`organisation`, `domain`, `account`); none is ever given twice.
pub(crate) fn next_id(tx: &mut Tx<'_>, what: &str) -> Result<i64> {
    tx.one(&sql::NEXT_ID, params![what], |r| r.int(0))
}

/// Every verb that changes something begins with this: what it then finds, or finds missing, stays so until the commit.
/// Changes of the directory are rare; one at a time is fast enough, and leaves nothing to think about.
pub(crate) fn begin_change(tx: &mut Tx<'_>) -> Result<()> {
    next_id(tx, "change").map(drop)
}

/// A name for an organisation (`of`, if it has one), that no other has.
fn check_own_name(tx: &mut Tx<'_>, name: &str, of: Option<OrganisationId>) -> Result<()> {
    check_name(name)?;
    if name.trim() != name || name.is_empty() {
        return Err(refused("The name of an organisation is not empty, and neither begins nor ends with a space"));
    }
    if organisations(tx)?.iter().any(|other| other.name == name && Some(other.id) != of) {
        return Err(refused(format!("The organisation {name} exists already")));
    }
    Ok(())
}

fn read(r: &Row<'_>) -> Result<Organisation> {
    Ok(Organisation { id: OrganisationId(r.int(0)?), name: r.text(1)?.to_owned(), created: Timestamp(r.int(2)?) })
}

/// Makes an organisation.
///
/// # Errors
/// Refuses a name that another has, and one that is empty, too long or has control characters.
pub fn create_organisation(tx: &mut Tx<'_>, name: &str, now: Timestamp) -> Result<OrganisationId> {
    begin_change(tx)?;
    check_own_name(tx, name, None)?;
    let id = OrganisationId(next_id(tx, "organisation")?);
    tx.execute(&sql::ADD, params![id, name, now])?;
    Changed::Organisation(id).publish(tx);
    Ok(id)
}

/// All organisations, oldest first.
///
/// # Errors
/// The store's.
pub fn organisations(tx: &mut Tx<'_>) -> Result<Vec<Organisation>> {
    tx.list(&sql::LIST, params![], read)
}

/// One organisation.
///
/// # Errors
/// Refuses when there is none of that number.
pub fn organisation(tx: &mut Tx<'_>, id: OrganisationId) -> Result<Organisation> {
    tx.row(&sql::GET, params![id], read)?.ok_or_else(|| missing("There is no such organisation"))
}

/// Gives an organisation another name.
///
/// # Errors
/// As [`create_organisation`] and [`organisation`].
pub fn rename_organisation(tx: &mut Tx<'_>, id: OrganisationId, name: &str) -> Result<()> {
    begin_change(tx)?;
    check_own_name(tx, name, Some(id))?;
    if tx.execute(&sql::RENAME, params![id, name])? == 0 {
        return Err(missing("There is no such organisation"));
    }
    Changed::Organisation(id).publish(tx);
    Ok(())
}

/// Removes an organisation that owns nothing any more.
///
/// # Errors
/// Refuses while it has domains or accounts.
pub fn remove_organisation(tx: &mut Tx<'_>, id: OrganisationId) -> Result<()> {
    begin_change(tx)?;
    if tx.row(&sql::IN_USE, params![id], |_| Ok(()))?.is_some() {
        return Err(refused("The organisation still has domains or accounts"));
    }
    if tx.execute(&sql::REMOVE, params![id])? == 0 {
        return Err(missing("There is no such organisation"));
    }
    Changed::Organisation(id).publish(tx);
    Ok(())
}
