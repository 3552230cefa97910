//! Which blobs mails are made of: for compaction, which moves them.

use base::BlobId;
use store::{Blobs, References, Result, Tx, params};

use crate::schema;

/// The tables of this crate, for [`store::Store::compact`].
pub const REFERENCES: References = References { between, repoint };

fn between(tx: &mut Tx<'_>, from: BlobId, to: BlobId, n: u32) -> Result<Blobs> {
    tx.list(&schema::BLOBS_BETWEEN, params![from, to, n], |r| Ok((BlobId(r.int(0)?), r.int(1)? as u64)))
}

/// Takes no account's lock: nothing a client sees changes, and who deletes the mail meanwhile deletes its row.
fn repoint(tx: &mut Tx<'_>, old: BlobId, new: BlobId, most: u64) -> Result<u64> {
    tx.execute(&schema::REPOINT, params![old, new, most as i64])
}
