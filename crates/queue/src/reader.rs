//! Readers of the [`crate::log`] that go on where they stood, in this life or the next. One life of one node at a time reads in a name.

use store::{Result, Tx, params};

use crate::schema;

/// Takes a name, unless a life has it that is not over; gives the position that all was read up to. A new reader begins with what
/// happens from now on.
///
/// # Errors
/// The store's.
pub fn hold(tx: &mut Tx<'_>, name: &str, epoch: i64) -> Result<Option<i64>> {
    tx.row(&schema::HOLD_READER, params![name, epoch], |r| r.int(0))
}

/// Notes that all was read up to a position; gives false, and changes nothing, where another life has the name.
///
/// # Errors
/// The store's.
pub fn note(tx: &mut Tx<'_>, name: &str, epoch: i64, position: i64) -> Result<bool> {
    Ok(tx.execute(&schema::NOTE_READER, params![name, epoch, position])? == 1)
}
