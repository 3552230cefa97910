//! Who is who: organisations, their domains and accounts, what an address resolves to, and who may sign in.
//!
//! Floor 3. The verbs on [`store::Tx`] (`create_account`, `change_address`, …) are composed into write jobs by the floors
//! above; each announces a [`Changed`] event. The [`Directory`] handle answers what sessions ask many times a second,
//! from memory where it can: [`Directory::resolve`], [`Directory::owns`], [`Directory::authenticate`].
//!
//! Nothing here speaks a protocol or opens a socket. Passwords are never logged, nor shown by `Debug`.
//!
//! ```
//! # #[tokio::main] async fn main() -> base::Result<()> {
//! use std::sync::Arc;
//! use base::{Address, SystemClock, Timestamp};
//! use directory::*;
//!
//! let dir = std::env::temp_dir().join(format!("directory-doc-{}", std::process::id()));
//! let store = store::Store::open(&store::Options::sqlite(&dir), &[MIGRATIONS])?;
//! let directory = Directory::open(store.clone(), Arc::new(SystemClock), system_random).await?;
//! let hash = directory.hash_password(b"correct horse").await?;
//! let (login, created) = (Address::parse("jane@example.test").unwrap(), Timestamp::from_secs(0));
//! let jane = store
//!     .write(move |tx| {
//!         let organisation = create_organisation(tx, "Example", created)?;
//!         create_domain(tx, &NewDomain { organisation, name: "example.test", created })?;
//!         let (name, quota, administrator) = ("Jane", None, true);
//!         let new = NewAccount { organisation, login: &login, name, quota, administrator, created };
//!         let jane = create_account(tx, &new)?;
//!         set_password(tx, jane, &hash, created)?;
//!         Ok(jane)
//!     })
//!     .await?;
//!
//! let ip = "192.0.2.1".parse().unwrap();
//! let attempt = Attempt { login: b"jane@example.test", password: b"correct horse", ip, service: "imap" };
//! assert_eq!(directory.authenticate(attempt).await.unwrap().account, jane);
//! let address = Address::parse("Jane+news@example.test").unwrap();
//! let Resolution::Deliver(to) = directory.resolve(&address).await? else { unreachable!() };
//! assert_eq!((to.local[0].account, to.local[0].detail.as_deref()), (jane, Some("news")));
//! # drop((directory, store)); std::fs::remove_dir_all(&dir).ok(); Ok(()) }
//! ```

mod account;
mod address;
mod allowance;
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
mod pass;
mod password;
mod refusals;
mod resolve;
pub mod sasl;
mod scram;
mod secret;
mod sign_in;
mod sql;
mod tables;
mod turns;
mod verify;

pub use account::{
    Account, AccountChange, NewAccount, account, account_by_login, accounts, change_account, create_account,
    remove_account,
};
pub use address::{AddressEntry, Route, address, addresses, canonical, change_address, create_address, remove_address};
pub use allowance::{DAILY, allowance, spend, spent};
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
    Organisation, create_organisation, organisation, organisations, remove_organisation, rename_organisation,
};
pub use pass::Pass;
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

/// What the slow work of sign-in did on this thread: how often it hashed by Argon2, and by PBKDF2.
#[cfg(test)]
mod effort {
    use std::cell::Cell;

    thread_local! {
        pub(crate) static ARGON2: Cell<u32> = const { Cell::new(0) };
        pub(crate) static PBKDF2: Cell<u32> = const { Cell::new(0) };
    }

    /// What was spent since the last asking.
    pub(crate) fn spent() -> (u32, u32) {
        (ARGON2.take(), PBKDF2.take())
    }
}
