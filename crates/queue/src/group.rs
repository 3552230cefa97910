//! What waits together.

use base::Stream;
use store::{Result, Tx, params};

use base::Timestamp;

use crate::entry::corrupt;
use crate::schema;

/// Deliveries of one stream to one domain. They are claimed apart from all others: whoever waits for a slow host stands in
/// nobody's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Their stream.
    pub stream: Stream,
    /// Stands for the domain, by a digest: two domains that share one, should that ever happen, wait together.
    pub domain: i64,
}

impl Group {
    /// The group of a recipient's domain, in lower case.
    pub fn of(stream: Stream, domain: &str) -> Self {
        let digest = blake3::hash(domain.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        Group { stream, domain: i64::from_le_bytes(first) }
    }

    pub(crate) fn read(stream: i64, domain: i64) -> Result<Self> {
        let stream = Stream::read(stream).ok_or_else(|| corrupt("stream", stream))?;
        Ok(Group { stream, domain })
    }
}

/// All groups in which something waits, with the time when the first of each is due. Reads the whole index of what waits.
///
/// # Errors
/// The store's.
pub fn scheduled(tx: &mut Tx<'_>) -> Result<Vec<(Group, Timestamp)>> {
    tx.list(&schema::SCHEDULED, params![], |r| Ok((Group::read(r.int(0)?, r.int(1)?)?, Timestamp(r.int(2)?))))
}

/// When the first of a group is due; none when nothing of it waits.
///
/// # Errors
/// The store's.
pub fn next_due(tx: &mut Tx<'_>, group: Group) -> Result<Option<Timestamp>> {
    let key = params![group.stream.stored(), group.domain];
    tx.one(&schema::NEXT_DUE, key, |r| Ok(r.opt_int(0)?.map(Timestamp)))
}
