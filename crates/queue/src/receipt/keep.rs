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

/// Forgets at most `n` receipts of deliveries that ended before, with what was attached to them; gives how many.
///
/// # Errors
/// The store's.
pub fn forget_receipts(tx: &mut Tx<'_>, before: Timestamp, n: u32) -> Result<u64> {
    tx.execute(&schema::FORGET_EVENTS, params![before, n])?;
    tx.execute(&schema::FORGET_RECEIPTS, params![before, n])
}

/// Forgets at most `n` segments of heads that were written before; gives how many.
///
/// # Errors
/// The store's.
pub fn forget_segments(tx: &mut Tx<'_>, before: Timestamp, n: u32) -> Result<u64> {
    tx.execute(&schema::FORGET_SEGMENTS, params![before, n])
}
