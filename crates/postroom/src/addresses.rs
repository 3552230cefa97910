//! Domains and the addresses in them, as an administrator sees them.

use base::{Address, Timestamp};
use directory::{DomainChange, NewDomain, Route};
use serde_json::{Value, json};
use store::Tx;
use trust::mta_sts::Mode;
use trust::own_policy;

use crate::admin::{Answer, Kind, parse, refused};
use crate::organisations::{self, Names};

/// A domain of an organisation from now on, with keys to sign with.
pub fn add_domain(
    tx: &mut Tx<'_>,
    name: &str,
    organisation: Option<&str>,
    keys: &trust::NewKeys,
    now: Timestamp,
) -> store::Result<Answer> {
    let organisation = organisations::meant_or_first(tx, organisation, now)?;
    let id = directory::create_domain(tx, &NewDomain { organisation, name, created: now })?;
    trust::add_keys(tx, &name.to_lowercase(), keys)?;
    Ok(Answer::new(format!("Added {name}"), json!({ "domain": id.0, "name": name })))
}

/// All of them.
pub fn domains(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (mut text, mut data, names) = (Vec::new(), Vec::new(), Names::read(tx)?);
    for d in directory::domains(tx)? {
        let catch_all = d.catch_all.as_ref().map(Address::to_string);
        let note = catch_all.as_ref().map_or(String::new(), |to| format!("  all else to {to}"));
        text.push(format!("{}{note}{}", d.name, names.note(d.organisation)));
        data.push(json!({ "name": d.name, "organisation": names.of(d.organisation), "catch_all": catch_all,
            "separator": d.separator, "mta_sts": own_policy::mode(tx, &d.name)?.word() }));
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

/// Changes what is given; an empty text takes it away.
pub fn change_domain(
    tx: &mut Tx<'_>,
    name: &str,
    catch_all: Option<&str>,
    separator: Option<&str>,
    mta_sts: Option<&str>,
) -> store::Result<Answer> {
    let catch_all = match catch_all {
        Some("") => Some(None),
        Some(address) => Some(Some(parse(address)?)),
        None => None,
    };
    let separator = match separator.map(|s| s.chars().collect::<Vec<_>>()).as_deref() {
        Some([]) => Some(None),
        Some([one]) => Some(Some(*one)),
        Some(_) => return Err(refused("The separator is one of + - = _ #".into())),
        None => None,
    };
    let domain = domain(tx, name)?;
    directory::change_domain(tx, domain.id, &DomainChange { separator, catch_all })?;
    let Some(mode) = mta_sts else { return Ok(Answer::new(format!("Changed {name}"), json!({ "name": name }))) };
    let mode = Mode::of_word(mode).ok_or_else(|| refused("The policy is none, testing or enforce".into()))?;
    own_policy::set_mode(tx, &domain.name, mode)?;
    let text = format!("Changed {name}: its record _mta-sts changes too, see postroom domain dns {name}");
    Ok(Answer::new(text, json!({ "name": name, "mta_sts": mode.word() })))
}

/// No longer a domain of ours.
pub fn remove_domain(tx: &mut Tx<'_>, name: &str) -> store::Result<Answer> {
    let domain = domain(tx, name)?;
    directory::remove_domain(tx, domain.id)?;
    trust::remove_keys(tx, &domain.name)?;
    own_policy::remove(tx, &domain.name)?;
    Ok(Answer::new(format!("Removed {name}"), json!({ "name": name })))
}

fn domain(tx: &mut Tx<'_>, name: &str) -> store::Result<directory::Domain> {
    let found = directory::domain_by_name(tx, name)?;
    found.ok_or_else(|| refused(format!("there is no domain {name}")))
}

/// Makes or changes an address that has targets.
pub fn set(
    tx: &mut Tx<'_>,
    address: &str,
    kind: Kind,
    targets: &[String],
    new: bool,
    now: Timestamp,
) -> store::Result<Answer> {
    let to: Vec<Address> = targets.iter().map(|t| parse(t)).collect::<store::Result<_>>()?;
    let route = match kind {
        Kind::Alias => Route::Alias(to),
        Kind::Forward => Route::Forward(to),
        Kind::Group { members_send } => Route::Group { members: to, members_send },
    };
    let done = if new {
        directory::create_address(tx, &parse(address)?, &route, now)?;
        "Added"
    } else {
        directory::change_address(tx, &parse(address)?, &route)?;
        "Changed"
    };
    let text = format!("{done} {address} -> {}", targets.join(", "));
    Ok(Answer::new(text, json!({ "address": address, "targets": targets })))
}

/// Takes an address away.
pub fn remove(tx: &mut Tx<'_>, address: &str) -> store::Result<Answer> {
    directory::remove_address(tx, &parse(address)?)?;
    Ok(Answer::new(format!("Removed {address}"), json!({ "address": address })))
}

/// All addresses of all domains.
pub fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    const PAGE: u32 = 1000;
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for domain in directory::domains(tx)? {
        let mut after = String::new();
        loop {
            let page = directory::addresses(tx, domain.id, &after, PAGE)?;
            for entry in &page {
                let targets: Vec<String> = entry.route.targets().iter().map(Address::to_string).collect();
                let (address, kind) = (entry.address.to_string(), kind(&entry.route));
                text.push(format!("{address:32} {kind:8} {}", targets.join(", ")));
                data.push(json!({ "address": address, "kind": kind, "targets": targets }));
                after = entry.address.local().to_owned();
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

fn kind(route: &Route) -> &'static str {
    match route {
        Route::Account(_) => "account",
        Route::Alias(_) => "alias",
        Route::Group { .. } => "group",
        Route::Forward(_) => "forward",
    }
}
