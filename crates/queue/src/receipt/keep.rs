//! How long receipts are kept. Dialogues may go before the rest.

use base::Timestamp;
use store::{Result, Tx, params};

use crate::schema;

/// Forgets at most `n` segments of dialogues that were written before; gives how many.
///
/// # Errors
/// The store's.
pub fn forget_dialogues(tx: &mut Tx<'_>, before: Timestamp, n: u32) -> Result<u64> {
    tx.execute(&schema::FORGET_DIALOGUES, params![before, n])
}

/// Forgets at most `n` receipts of deliveries that ended before, with what was attached to them, and as many segments; gives
/// how many of each.
///
/// # Errors
/// The store's.
pub fn forget_receipts(tx: &mut Tx<'_>, before: Timestamp, n: u32) -> Result<u64> {
    let events = tx.execute(&schema::FORGET_EVENTS, params![before, n])?;
    let receipts = tx.execute(&schema::FORGET_RECEIPTS, params![before, n])?;
    let segments = tx.execute(&schema::FORGET_SEGMENTS, params![before, n])?;
    Ok(events + receipts + segments)
}
