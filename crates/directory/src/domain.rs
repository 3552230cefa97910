//! Domains whose mail we take.

use base::{Address, DomainId, OrganisationId, Timestamp};
use store::{Result, Row, Tx, params};

use crate::address::check_targets;
use crate::organisation::{begin_change, next_id};
use crate::sql::domain as sql;
use crate::{Changed, canonical, missing, organisation, refused};

/// What divides a local part from its detail (RFC 5233 §1) unless the domain says otherwise.
const SEPARATOR: char = '+';

/// A domain as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its number.
    pub id: DomainId,
    /// Who owns it.
    pub organisation: OrganisationId,
    /// Lower case A-labels (RFC 5890 §2.3.2.1), without a final dot.
    pub name: String,
    /// What divides a local part from its detail; None: this domain has no sub-addresses.
    pub separator: Option<char>,
    /// Where mail to unknown local parts goes; None: it is refused.
    pub catch_all: Option<Address>,
    /// When it was made.
    pub created: Timestamp,
}

impl Domain {
    /// `Jane+news` taken apart into `Jane` and `news` (RFC 5233 §4), at the first separator. None when there is nothing
    /// to take apart.
    pub(crate) fn detail<'a>(&self, local: &'a str) -> Option<(&'a str, &'a str)> {
        local.split_once(self.separator?).filter(|(user, _)| !user.is_empty())
    }
}

/// What a domain is made from.
#[derive(Clone, Debug)]
pub struct NewDomain<'a> {
    /// Who owns it.
    pub organisation: OrganisationId,
    /// In any case; internationalised names as A-labels.
    pub name: &'a str,
    /// Now.
    pub created: Timestamp,
}

/// What may change about a domain; None leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct DomainChange {
    /// Some(None) switches sub-addresses off.
    pub separator: Option<Option<char>>,
    /// Some(None) takes the catch-all away.
    pub catch_all: Option<Option<Address>>,
}

fn read(r: &Row<'_>) -> Result<Domain> {
    Ok(Domain {
        id: DomainId(r.int(0)?),
        organisation: OrganisationId(r.int(1)?),
        name: r.text(2)?.to_owned(),
        separator: r.text(3)?.chars().next(),
        catch_all: Address::parse(r.text(4)?).ok(),
        created: Timestamp(r.int(5)?),
    })
}

/// Makes a domain, with `+` for sub-addresses and no catch-all.
///
/// # Errors
/// Refuses a name that is no domain name, one we already have, and an unknown organisation.
pub fn create_domain(tx: &mut Tx<'_>, new: &NewDomain<'_>) -> Result<DomainId> {
    // The rules for a domain are those for an address's; a literal or a U-label cannot be looked up in the DNS.
    let probe = Address::new("postmaster", new.name).ok().filter(|_| new.name.is_ascii() && !new.name.starts_with('['));
    let Some(probe) = probe else {
        return Err(refused("That is not a domain name; internationalised names are written as A-labels (xn--…)"));
    };
    begin_change(tx)?;
    organisation(tx, new.organisation)?;
    if domain_by_name(tx, probe.domain())?.is_some() {
        return Err(refused(format!("The domain {} exists already", probe.domain())));
    }
    let id = DomainId(next_id(tx, "domain")?);
    let separator = SEPARATOR.to_string();
    tx.execute(&sql::ADD, params![id, new.organisation, probe.domain(), separator.as_str(), new.created])?;
    Changed::Domain(id).publish(tx);
    Ok(id)
}

/// All domains, oldest first.
///
/// # Errors
/// The store's.
pub fn domains(tx: &mut Tx<'_>) -> Result<Vec<Domain>> {
    tx.list(&sql::LIST, params![], read)
}

/// One domain.
///
/// # Errors
/// Refuses when there is none of that number.
pub fn domain(tx: &mut Tx<'_>, id: DomainId) -> Result<Domain> {
    tx.row(&sql::BY_ID, params![id], read)?.ok_or_else(|| missing("There is no such domain"))
}

/// The domain of that name (lower case A-labels), if it is ours.
///
/// # Errors
/// The store's.
pub fn domain_by_name(tx: &mut Tx<'_>, name: &str) -> Result<Option<Domain>> {
    tx.row(&sql::BY_NAME, params![name], read)
}

/// The oldest domain: a bare `<postmaster>` belongs to it.
pub(crate) fn first_domain(tx: &mut Tx<'_>) -> Result<Option<Domain>> {
    tx.row(&sql::FIRST, params![], read)
}

/// Changes a domain's settings.
///
/// # Errors
/// Refuses a separator that may not stand in a local part, and a catch-all that leads nowhere.
pub fn change_domain(tx: &mut Tx<'_>, id: DomainId, change: &DomainChange) -> Result<()> {
    begin_change(tx)?;
    let mut now = domain(tx, id)?;
    if let Some(separator) = change.separator {
        if separator.is_some_and(|c| !"+-=_#".contains(c)) {
            return Err(refused("The separator is one of + - = _ #"));
        }
        now.separator = separator;
    }
    if let Some(catch_all) = &change.catch_all {
        now.catch_all.clone_from(catch_all);
    }
    let separator = now.separator.map(String::from).unwrap_or_default();
    let catch_all = now.catch_all.as_ref().map(canonical).transpose()?.unwrap_or_default();
    tx.execute(&sql::CHANGE, params![id, separator.as_str(), catch_all.as_str()])?;
    if let Some(target) = &now.catch_all {
        // Only now: the catch-all there was could make any target look as if it existed.
        check_targets(tx, std::slice::from_ref(target))?;
    }
    Changed::Domain(id).publish(tx);
    Ok(())
}

/// Removes a domain that has no addresses any more.
///
/// # Errors
/// Refuses while it has.
pub fn remove_domain(tx: &mut Tx<'_>, id: DomainId) -> Result<()> {
    begin_change(tx)?;
    if tx.row(&sql::IN_USE, params![id], |_| Ok(()))?.is_some() {
        return Err(refused("The domain still has addresses"));
    }
    if tx.execute(&sql::REMOVE, params![id])? == 0 {
        return Err(missing("There is no such domain"));
    }
    Changed::Domain(id).publish(tx);
    Ok(())
}

/// The name of a domain whose catch-all is `target` (canonical), if there is one.
pub(crate) fn catch_all_to(tx: &mut Tx<'_>, target: &str) -> Result<Option<String>> {
    tx.row(&sql::WITH_CATCH_ALL, params![target], |r| Ok(r.text(0)?.to_owned()))
}
