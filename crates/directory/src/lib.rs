//! Who is who: organisations, their domains and accounts, what an address resolves to, and who may sign in.
//!
//! Floor 3. The verbs on [`store::Tx`] (`create_account`, `change_address`, …) are composed into write jobs by the floors
//! above; each announces a [`Changed`] event. The [`Directory`] handle answers what sessions ask many times a second,
//! from memory where it can: [`Directory::resolve`], [`Directory::owns`], [`Directory::authenticate`].
//!
//! Nothing here speaks a protocol or opens a socket. Passwords are never logged, nor shown by `Debug`.

mod account;
mod address;
mod app_password;
mod backoff;
mod cache;
mod changed;
mod converse;
mod credential;
mod directory;
mod domain;
mod gate;
mod organisation;
mod password;
mod resolve;
pub mod sasl;
mod scram;
mod secret;
mod sign_in;
mod sql;
mod tables;
mod verify;

pub use account::{
    Account, AccountChange, NewAccount, account, account_by_login, accounts, change_account, create_account,
    remove_account,
};
pub use address::{AddressEntry, Route, address, addresses, canonical, change_address, create_address, remove_address};
pub use changed::Changed;
pub use converse::{Channel, Conversation, Turn};
pub use credential::{
    Credential, CredentialId, Kind, MAX_APP_PASSWORDS, add_app_password, credentials, remove_credential, set_password,
};
pub use directory::{Directory, Random, system_random};
pub use domain::{
    Domain, DomainChange, NewDomain, change_domain, create_domain, domain, domain_by_name, domains, remove_domain,
};
pub use organisation::{
    Organisation, OrganisationId, create_organisation, organisation, organisations, remove_organisation,
    rename_organisation,
};
pub use password::PasswordHash;
pub use resolve::{LocalTarget, MAX_DEPTH, MAX_TARGETS, MAX_VISITED, Recipients, Resolution};
pub use scram::{AppPassword, ScramKeys};
pub use secret::Secret;
pub use sign_in::{Attempt, AuthFailure, SignedIn};
pub use sql::statements;
pub use tables::MIGRATIONS;
pub use verify::verify;

use base::{Error, Reply};

/// A verb says no: RFC 3463 §3.6, invalid arguments; the text is for the administrator.
fn refused(text: impl Into<std::borrow::Cow<'static, str>>) -> store::Error {
    Error::new(Reply::new(501, 5, 4, text)).into()
}

/// The thing a verb was asked to work on is not there.
fn missing(text: impl Into<std::borrow::Cow<'static, str>>) -> store::Error {
    Error::new(Reply::new(550, 1, 1, text)).into()
}
