//! Which blobs messages are made of: for the sweeper of packs, and for compaction, which moves them.

use base::BlobId;
use store::{Blobs, References, Result, Tx, params};

use crate::{QueueId, schema};

/// The tables of this crate, for [`store::Store::compact`].
pub const REFERENCES: References = References { between, repoint };

fn between(tx: &mut Tx<'_>, from: BlobId, to: BlobId, n: u32) -> Result<Blobs> {
    tx.list(&schema::BLOBS_OF_PACK, params![from, to, n], |r| Ok((BlobId(r.int(0)?), r.int(1)? as u64)))
}

fn repoint(tx: &mut Tx<'_>, old: BlobId, new: BlobId, most: u64) -> Result<u64> {
    tx.execute(&schema::REPOINT, params![old, new, most as i64])
}

/// Whether any message's bytes are a blob of `from..to`.
///
/// # Errors
/// The store's.
pub fn refers_between(tx: &mut Tx<'_>, from: BlobId, to: BlobId) -> Result<bool> {
    Ok(tx.row(&schema::BLOBS_BETWEEN, params![from, to], |_| Ok(()))?.is_some())
}

/// Where a message's bytes are now: while it is in hand they may be moved. None when it is finished, or has none.
///
/// # Errors
/// The store's.
pub fn blob(tx: &mut Tx<'_>, id: QueueId) -> Result<Option<BlobId>> {
    Ok(tx.row(&schema::MESSAGE_BLOB, params![id], |r| r.opt_int(0))?.flatten().map(BlobId))
}
