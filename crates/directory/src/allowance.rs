//! How many recipients on other hosts an account may write to within a day: what a stolen password is good for.

use base::{AccountId, Error, Reply, Timestamp};
use store::{Result, Tx, params};

use crate::sql::account as sql;

/// Recipients on other hosts that an account may write to within a day. People need far less; who has stolen a password
/// wants far more.
pub const DAILY: u32 = 2000;
const DAY: i64 = 24 * 3600 * 1000;

/// Why no more can be sent: 451 4.7.1, because tomorrow it can.
pub fn spent() -> Error {
    let text = format!("This account has written to {DAILY} recipients elsewhere within a day, and may do no more");
    Error::new(Reply::new(451, 7, 1, text))
}

/// How many recipients elsewhere an account may still write to today.
///
/// # Errors
/// The store's.
pub fn allowance(tx: &mut Tx<'_>, account: AccountId, now: Timestamp) -> Result<u32> {
    let sent = tx.row(&sql::SENT_SINCE, params![account, now.0 - DAY, now], |r| r.int(0))?;
    Ok(DAILY.saturating_sub(u32::try_from(sent.unwrap_or(0)).unwrap_or(u32::MAX)))
}

/// Counts the recipients elsewhere of a mail, in the commit that accepts it. The day begins with its first mail.
///
/// # Errors
/// Refuses ([`spent`]) what is more than the day's.
pub fn spend(tx: &mut Tx<'_>, account: AccountId, recipients: u32, now: Timestamp) -> Result<()> {
    let sent = tx.one(&sql::SENT_ADD, params![account, recipients, now, now.0 - DAY], |r| r.int(0))?;
    if sent > i64::from(DAILY) { Err(spent().into()) } else { Ok(()) }
}
