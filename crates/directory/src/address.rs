//! Addresses: the account itself, an alias, a group, a forward.

use base::{AccountId, Address, DomainId, Timestamp};
use store::{Error, Result, Row, Tx, params};

use crate::domain::{Domain, catch_all_to, domain, domain_by_name};
use crate::organisation::begin_change;
use crate::resolve::{MAX_TARGETS, Purpose, Walk};
use crate::sql::address as sql;
use crate::{Changed, account, missing, refused};

/// What becomes of mail to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// It is an account.
    Account(AccountId),
    /// It is another name for these; accounts among them may send as it.
    Alias(Vec<Address>),
    /// It reaches these people.
    Group {
        /// Ours or anybody's.
        members: Vec<Address>,
        /// Whether a member may send as the group.
        members_send: bool,
    },
    /// It goes on to other hosts; nobody here may send as it.
    Forward(Vec<Address>),
}

impl Route {
    /// As the store keeps it.
    fn kind(&self) -> i64 {
        match self {
            Route::Account(_) => 1,
            Route::Alias(_) => 2,
            Route::Group { .. } => 3,
            Route::Forward(_) => 4,
        }
    }

    fn account(&self) -> Option<AccountId> {
        match self {
            Route::Account(id) => Some(*id),
            _ => None,
        }
    }

    fn members_send(&self) -> bool {
        matches!(self, Route::Group { members_send: true, .. })
    }

    /// Where a list leads; empty for an account.
    pub fn targets(&self) -> &[Address] {
        match self {
            Route::Account(_) => &[],
            Route::Alias(t) | Route::Group { members: t, .. } | Route::Forward(t) => t,
        }
    }
}

/// An address as it stands in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// In its canonical form.
    pub address: Address,
    /// What becomes of its mail.
    pub route: Route,
    /// When it was made.
    pub created: Timestamp,
}

/// Where an address stands in its table.
pub(crate) struct Key {
    pub(crate) domain: DomainId,
    /// In lower case.
    pub(crate) local: String,
    /// The whole, as [`canonical`] writes it.
    pub(crate) text: String,
}

/// The one spelling by which addresses are compared and stored: in lower case, quoted where it must be.
///
/// # Errors
/// Refuses the few local parts that are too long in lower case.
pub fn canonical(address: &Address) -> Result<String> {
    Address::new(&address.local().to_lowercase(), address.domain())
        .map(|a| a.to_string())
        .map_err(|e| refused(format!("{address}: {e}")))
}

/// Reads an address that [`canonical`] wrote.
pub(crate) fn stored(text: &str) -> Result<Address> {
    Address::parse(text).map_err(|e| Error::Corrupt(format!("stored address: {e}").into()))
}

/// The domain and key of an address that should be ours.
fn locate(tx: &mut Tx<'_>, address: &Address) -> Result<(Domain, Key)> {
    let Some(domain) = domain_by_name(tx, address.domain())? else {
        return Err(missing(format!("The domain {} is not ours", address.domain())));
    };
    let key = Key { domain: domain.id, local: address.local().to_lowercase(), text: canonical(address)? };
    Ok((domain, key))
}

/// [`locate`], and refuses an address that exists, and one that not every host would take.
pub(crate) fn free(tx: &mut Tx<'_>, address: &Address) -> Result<(Domain, Key)> {
    let (domain, key) = locate(tx, address)?;
    if key.local.len() > base::LOCAL {
        return Err(refused("The part before @ is too long: 64 octets (RFC 5321 §4.5.3.1.1)"));
    }
    match entry(tx, key.domain, &key.local)? {
        Some(_) => Err(refused(format!("The address {address} exists already"))),
        None => Ok((domain, key)),
    }
}

/// One row of `address`, without its targets.
pub(crate) struct Entry {
    pub(crate) kind: i64,
    pub(crate) account: Option<AccountId>,
    pub(crate) members_send: bool,
    pub(crate) created: Timestamp,
    /// The account's, when it is one.
    pub(crate) quota: Option<u64>,
}

impl Entry {
    pub(crate) fn is_alias(&self) -> bool {
        self.kind == 2
    }
}

/// The entry of a local part (in lower case), if there is one.
pub(crate) fn entry(tx: &mut Tx<'_>, domain: DomainId, local: &str) -> Result<Option<Entry>> {
    tx.row(&sql::GET, params![domain, local], |r| {
        Ok(Entry {
            kind: r.int(0)?,
            account: r.opt_int(1)?.map(AccountId),
            members_send: r.int(2)? != 0,
            created: Timestamp(r.int(3)?),
            quota: r.opt_int(4)?.and_then(|q| u64::try_from(q).ok()),
        })
    })
}

/// The targets of a list, in the order they were written; one more than is allowed at most.
pub(crate) fn targets(tx: &mut Tx<'_>, domain: DomainId, local: &str) -> Result<Vec<Address>> {
    tx.list(&sql::TARGET_LIST, params![domain, local, MAX_TARGETS as i64 + 1], |r| stored(r.text(0)?))
}

fn route(tx: &mut Tx<'_>, domain: DomainId, local: &str, entry: &Entry) -> Result<Route> {
    let targets = targets(tx, domain, local)?;
    Ok(match (entry.kind, entry.account) {
        (1, Some(account)) => Route::Account(account),
        (2, _) => Route::Alias(targets),
        (3, _) => Route::Group { members: targets, members_send: entry.members_send },
        (4, _) => Route::Forward(targets),
        (kind, _) => return Err(Error::Corrupt(format!("address {local}: kind {kind}").into())),
    })
}

/// The entry of exactly this address, without catch-all or sub-address.
///
/// # Errors
/// Refuses when the domain is not ours.
pub fn address(tx: &mut Tx<'_>, address: &Address) -> Result<Option<AddressEntry>> {
    let (_, key) = locate(tx, address)?;
    let Some(entry) = entry(tx, key.domain, &key.local)? else { return Ok(None) };
    let route = route(tx, key.domain, &key.local, &entry)?;
    Ok(Some(AddressEntry { address: stored(&key.text)?, route, created: entry.created }))
}

/// At most `limit` of a domain's addresses in the order of their local parts, from the one after `after` (in lower
/// case; empty for the first page).
///
/// # Errors
/// Refuses an unknown domain.
pub fn addresses(tx: &mut Tx<'_>, of: DomainId, after: &str, limit: u32) -> Result<Vec<AddressEntry>> {
    let name = domain(tx, of)?.name;
    let read = |r: &Row<'_>| {
        let entry = Entry {
            kind: r.int(1)?,
            account: r.opt_int(2)?.map(AccountId),
            members_send: r.int(3)? != 0,
            created: Timestamp(r.int(4)?),
            quota: None,
        };
        Ok((r.text(0)?.to_owned(), entry))
    };
    let rows = tx.list(&sql::LIST, params![of, after, limit], read)?;
    let made = rows.into_iter().map(|(local, entry)| {
        let address =
            Address::new(&local, &name).map_err(|e| Error::Corrupt(format!("address {local}: {e}").into()))?;
        Ok(AddressEntry { address, route: route(tx, of, &local, &entry)?, created: entry.created })
    });
    made.collect()
}

/// Makes an address.
///
/// # Errors
/// Refuses an address that exists, a domain that is not ours, an account of another organisation, and a list that is
/// empty, too long, leads to itself, or names an address of ours that does not exist.
pub fn create_address(tx: &mut Tx<'_>, address: &Address, route: &Route, now: Timestamp) -> Result<()> {
    begin_change(tx)?;
    let (domain, key) = free(tx, address)?;
    check_route(tx, &domain, &key, route)?;
    tx.execute(
        &sql::ADD,
        params![key.domain, key.local.as_str(), route.kind(), route.account(), route.members_send(), now],
    )?;
    write_targets(tx, &key, route)
}

/// Gives an address another route.
///
/// # Errors
/// As [`create_address`]; and refuses to take an account's login away.
pub fn change_address(tx: &mut Tx<'_>, address: &Address, route: &Route) -> Result<()> {
    begin_change(tx)?;
    let (domain, key) = locate(tx, address)?;
    let Some(entry) = entry(tx, key.domain, &key.local)? else { return Err(no_address(address)) };
    if entry.account != route.account() {
        refuse_login(tx, address, &entry)?;
    }
    check_route(tx, &domain, &key, route)?;
    tx.execute(
        &sql::CHANGE,
        params![key.domain, key.local.as_str(), route.kind(), route.account(), route.members_send()],
    )?;
    tx.execute(&sql::TARGET_CLEAR, params![key.domain, key.local.as_str()])?;
    write_targets(tx, &key, route)
}

/// Removes an address.
///
/// # Errors
/// Refuses an account's login, and an address that a list or a catch-all still points at.
pub fn remove_address(tx: &mut Tx<'_>, address: &Address) -> Result<()> {
    begin_change(tx)?;
    let (_, key) = locate(tx, address)?;
    let Some(entry) = entry(tx, key.domain, &key.local)? else { return Err(no_address(address)) };
    refuse_login(tx, address, &entry)?;
    remove_row(tx, &key)
}

fn no_address(address: &Address) -> Error {
    missing(format!("There is no address {address}"))
}

/// A login is one of its account's addresses, always.
fn refuse_login(tx: &mut Tx<'_>, address: &Address, entry: &Entry) -> Result<()> {
    let Some(id) = entry.account else { return Ok(()) };
    if account(tx, id)?.login.is_alike(address) {
        return Err(refused(format!("{address} is what an account signs in as")));
    }
    Ok(())
}

/// Removes the row and its targets, unless something points there.
pub(crate) fn remove_row(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    let (domain, local) = (key.domain, key.local.as_str());
    let list = tx.row(&sql::TARGET_OF, params![key.text.as_str(), domain, local], |r| {
        Ok(format!("{}@{}", r.text(0)?, r.text(1)?))
    })?;
    if let Some(list) = list {
        return Err(refused(format!("{list} still delivers to {}", key.text)));
    }
    if let Some(name) = catch_all_to(tx, &key.text)? {
        return Err(refused(format!("The catch-all of {name} still delivers to {}", key.text)));
    }
    tx.execute(&sql::TARGET_CLEAR, params![domain, local])?;
    tx.execute(&sql::REMOVE, params![domain, local])?;
    Changed::Address(domain).publish(tx);
    Ok(())
}

/// Every address that is the account itself.
pub(crate) fn of_account(tx: &mut Tx<'_>, id: AccountId) -> Result<Vec<Key>> {
    tx.list(&sql::OF_ACCOUNT, params![id], |r| {
        let local = r.text(2)?.to_owned();
        let address = Address::new(&local, r.text(1)?).map_err(|e| Error::Corrupt(format!("{local}: {e}").into()))?;
        Ok(Key { domain: DomainId(r.int(0)?), local, text: address.to_string() })
    })
}

fn check_route(tx: &mut Tx<'_>, domain: &Domain, key: &Key, route: &Route) -> Result<()> {
    if let Some(id) = route.account() {
        if account(tx, id)?.organisation != domain.organisation {
            return Err(refused(format!("The domain {} is another organisation's", domain.name)));
        }
        return Ok(());
    }
    let targets = route.targets();
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return Err(refused(format!("A list has 1 to {MAX_TARGETS} targets")));
    }
    if matches!(route, Route::Forward(_)) {
        for target in targets {
            if domain_by_name(tx, target.domain())?.is_some() {
                return Err(refused(format!("{target} is on this server: make an alias, not a forward")));
            }
        }
    }
    let walk = check_targets(tx, targets)?;
    if walk.has_seen(&key.text) {
        return Err(refused(format!("Mail to {} would come back to it", key.text)));
    }
    Ok(())
}

/// Follows targets to their ends; refuses when one of ours leads nowhere.
pub(crate) fn check_targets(tx: &mut Tx<'_>, targets: &[Address]) -> Result<Walk> {
    let mut walk = Walk::new(Purpose::Deliver);
    for target in targets {
        canonical(target)?;
        walk.add(target.clone());
    }
    walk.run(tx)?;
    // A walk that ends nowhere without meeting an unknown address went in a circle of catch-alls.
    let circle = targets.first().filter(|_| walk.recipients.is_empty());
    match walk.unknown.first().or(circle) {
        Some(unknown) => Err(missing(format!("There is no address {unknown}"))),
        None => Ok(walk),
    }
}

fn write_targets(tx: &mut Tx<'_>, key: &Key, route: &Route) -> Result<()> {
    for (place, target) in (0i64..).zip(route.targets()) {
        // What another host makes of the case of a local part is its business (RFC 5321 §2.4).
        let ours = domain_by_name(tx, target.domain())?.is_some();
        let text = if ours { canonical(target)? } else { target.to_string() };
        tx.execute(&sql::TARGET_ADD, params![key.domain, key.local.as_str(), place, text.as_str()])?;
    }
    Changed::Address(key.domain).publish(tx);
    Ok(())
}
