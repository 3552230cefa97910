//! What waits together.

use base::{OrganisationId, Stream, Timestamp};
use store::{Result, Row, Tx, Value};

use crate::entry::{corrupt, read_priority};
use crate::schema;

/// Deliveries of one stream of an organisation to one domain, of one priority. They are claimed apart from all others: whoever waits for a slow host stands in
/// nobody's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Their stream.
    pub stream: Stream,
    /// Whose they are.
    pub organisation: OrganisationId,
    /// Stands for the domain, by a digest: two domains that share one, should that ever happen, wait together.
    pub domain: i64,
    /// How urgent they are, -9 to 9 (RFC 6710): of an organisation's the most urgent that are due are claimed first.
    pub priority: i8,
}

impl Group {
    /// The group of a recipient's domain, in lower case.
    pub fn of(stream: Stream, organisation: OrganisationId, domain: &str, priority: i8) -> Self {
        Group { stream, organisation, domain: Group::digest(domain), priority }
    }

    /// What stands for a domain, in lower case.
    pub fn digest(domain: &str) -> i64 {
        let digest = blake3::hash(domain.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        i64::from_le_bytes(first)
    }

    /// A group from the columns that begin at `at`.
    pub(crate) fn read(r: &Row<'_>, at: usize) -> Result<Self> {
        let stream = Stream::read(r.int(at)?).ok_or_else(|| corrupt("stream", "an unknown one"))?;
        let (organisation, domain) = (OrganisationId(r.int(at + 1)?), r.int(at + 2)?);
        Ok(Group { stream, organisation, domain, priority: read_priority(r.int(at + 3)?)? })
    }

    /// As the statements want it.
    pub(crate) fn stored(&self) -> [Value<'static>; 4] {
        [self.stream.stored().into(), self.organisation.into(), self.domain.into(), i64::from(self.priority).into()]
    }
}

/// Groups that [`scheduled`] gives at once.
const PAGE: i64 = 1000;

/// The groups behind one, or the first, in which something waits, with the time when the first of each is due: a page of at
/// most 1,000. All pages together read the whole index of what waits.
///
/// # Errors
/// The store's.
pub fn scheduled(tx: &mut Tx<'_>, behind: Option<Group>) -> Result<Vec<(Group, Timestamp)>> {
    let [stream, organisation, domain, priority] =
        behind.map_or([i64::MIN; 4].map(Value::from), |group| group.stored());
    let page = [stream, organisation, domain, priority, PAGE.into()];
    tx.list(&schema::SCHEDULED, &page, |r| Ok((Group::read(r, 0)?, Timestamp(r.int(4)?))))
}

/// When the first of a group is due; none when nothing of it waits.
///
/// # Errors
/// The store's.
pub fn next_due(tx: &mut Tx<'_>, group: Group) -> Result<Option<Timestamp>> {
    tx.one(&schema::NEXT_DUE, &group.stored(), |r| Ok(r.opt_int(0)?.map(Timestamp)))
}
