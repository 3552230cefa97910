//! What waits together.

use std::sync::Arc;

use base::{Address, OrganisationId, Stream, Timestamp};
use store::{Result, Row, Tx, Value};

use crate::entry::{address, corrupt, read_priority};
use crate::{Event, schema};

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

/// Groups that [`scheduled`] gives at once, or a few more.
const PAGE: usize = 1000;
/// What it reads of the index for them, at most.
const READ: usize = 20_000;
/// What one statement reads: little where groups are large, as all of it may be of one; much where they are small.
const LEAST: usize = 256;
const MOST: usize = 4096;
/// What a statement takes, in deliveries that might be read instead.
const STATEMENT: usize = 200;

/// The groups behind one, or the first, in which something waits, with the time when the first of each is due: a page of some 1,000,
/// or fewer that are large. None when that was all. However many wait in a group, a few are read of it.
///
/// # Errors
/// The store's.
pub fn scheduled(tx: &mut Tx<'_>, behind: Option<Group>) -> Result<Vec<(Group, Timestamp)>> {
    seek(tx, behind).map(|(groups, _)| groups)
}

/// With how much was read of the index.
fn seek(tx: &mut Tx<'_>, behind: Option<Group>) -> Result<(Vec<(Group, Timestamp)>, usize)> {
    let (mut groups, mut behind, mut read, mut paid, mut most) = (Vec::new(), behind, 0, 0, LEAST);
    while groups.len() < PAGE && paid < READ {
        let [stream, organisation, domain, priority] =
            behind.map_or([i64::MIN; 4].map(Value::from), |group| group.stored());
        let (next, mut rows) = ([stream, organisation, domain, priority, (most as i64).into()], 0);
        let some = tx.list(&schema::SCHEDULED, &next, |r| {
            rows += r.int(5)? as usize;
            Ok((Group::read(r, 0)?, Timestamp(r.int(4)?)))
        })?;
        (read, paid) = (read + rows, paid + rows + STATEMENT);
        let (is_all, are_small) = (rows < most, some.len() * LEAST > 2 * rows);
        most = if are_small { MOST.min(most * 4) } else { LEAST.max(most / 4) };
        behind = some.last().map(|(group, _)| *group);
        groups.extend(some);
        if is_all {
            break;
        }
    }
    Ok((groups, read))
}

/// When the first of a group is due; none when nothing of it waits.
///
/// # Errors
/// The store's.
pub fn next_due(tx: &mut Tx<'_>, group: Group) -> Result<Option<Timestamp>> {
    tx.one(&schema::NEXT_DUE, &group.stored(), |r| Ok(r.opt_int(0)?.map(Timestamp)))
}

/// Deliveries that one job makes due: a few milliseconds of work.
const PIECE: i64 = 256;
/// A row that cannot be read says nothing of the others: so many are looked at.
const LOOKED_AT: i64 = 8;

/// The domain of what waits of a group and has its turn at `from` or later; none when nothing does.
///
/// # Errors
/// The store's.
pub fn domain_later(tx: &mut Tx<'_>, group: Group, from: Timestamp) -> Result<Option<String>> {
    let found = later(tx, group, Turn::before(from), from, LOOKED_AT)?;
    Ok(found.into_iter().find_map(|later| later.to).map(|to| to.domain().to_owned()))
}

/// A place among what waits of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    due: Timestamp,
    message: i64,
    number: i64,
}

impl Turn {
    /// Before all that is due then or later.
    pub fn before(due: Timestamp) -> Self {
        Turn { due: Timestamp(due.0 - 1), message: i64::MAX, number: i64::MAX }
    }
}

/// Makes due at once what waits of a group and has its turn behind that one, which lies behind `now`, but for what its sender wants to
/// leave later (RFC 4865): some of it. Gives where the rest begins, if there may be more. Other nodes find it when they look at what
/// waits.
///
/// # Errors
/// The store's.
pub fn bring_forward(tx: &mut Tx<'_>, group: Group, behind: Turn, now: Timestamp) -> Result<Option<Turn>> {
    let (found, mut n) = (later(tx, group, behind, now, PIECE)?, 0);
    tx.each(
        &schema::BRING_FORWARD,
        found.iter().filter(|later| !later.is_wanted_later),
        |later| [later.turn.message.into(), later.turn.number.into(), now.into()],
        |_, answer| n += answer.changed,
    )?;
    if n > 0 {
        tx.publish(Arc::new(Event::Retried(vec![group], now)));
    }
    Ok(found.last().filter(|_| found.len() as i64 == PIECE).map(|later| later.turn))
}

struct Later {
    turn: Turn,
    to: Option<Address>,
    /// By its sender.
    is_wanted_later: bool,
}

fn later(tx: &mut Tx<'_>, group: Group, behind: Turn, now: Timestamp, most: i64) -> Result<Vec<Later>> {
    let [stream, organisation, domain, priority] = group.stored();
    let (due, message, number) = (behind.due.into(), behind.message.into(), behind.number.into());
    let which = [stream, organisation, domain, priority, due, message, number, now.into(), most.into()];
    tx.list(&schema::LATER, &which, |r| {
        let turn = Turn { message: r.int(0)?, number: r.int(1)?, due: Timestamp(r.int(3)?) };
        Ok(Later { turn, to: address(r.bytes(2)?).ok(), is_wanted_later: r.int(4)? == 1 })
    })
}

#[cfg(test)]
mod tests {
    use store::{Sql, params};
    use testkit::engines;

    use super::*;
    use crate::{Fate, MIGRATIONS, NewDelivery, NewMessage, Queue, Recipe};

    /// So many groups behind `?3` of so many deliveries each; the later ones are due first.
    const FILL: Sql = Sql {
        name: "fill",
        text: "INSERT INTO queue_delivery (message, number, recipient, state, epoch, due, expires, attempts, uncertain, warned, owed,
    status, reply, host, class, segment, place, stream, organisation, domain, priority)
SELECT ?3 + g.n, d.n, ?4, 0, 0, 1000000 - d.n, 9000000, 0, 0, 0, 0, '', ?4, ?4, '', 0, 0, 1, 1, ?3 + g.n, 0 FROM
    (WITH RECURSIVE c(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < ?1) SELECT n FROM c) AS g,
    (WITH RECURSIVE c(n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM c WHERE n < ?2) SELECT n FROM c) AS d",
    };

    #[test]
    fn of_a_large_group_little_is_read_and_small_ones_are_read_together() {
        for bed in engines() {
            let store = bed.open(&[MIGRATIONS]);
            for (groups, each, behind) in [(900, 3, 0), (2, 20_000, 1000), (900, 3, 2000)] {
                store.write_blocking(move |tx| tx.execute(&FILL, params![groups, each, behind, &b""[..]])).unwrap();
            }
            let (mut all, mut read, mut behind) = (Vec::new(), 0, None);
            loop {
                let (page, n) = store.read_blocking(move |tx| seek(tx, behind)).unwrap();
                let Some((last, _)) = page.last() else { break };
                (behind, read) = (Some(*last), read + n);
                all.extend(page.iter().map(|(group, due)| (group.domain, due.0)));
            }
            let small = |behind: i64| (1..=900).map(move |n| (behind + n, 999_997));
            let large = (1i64..=2).map(|n| (1000 + n, 980_000));
            assert_eq!(all, small(0).chain(large).chain(small(2000)).collect::<Vec<_>>(), "{}", bed.name());
            assert!(read < 2 * 900 * 3 + 3 * MOST, "{}: {read} of 45,400", bed.name());
        }
    }

    #[test]
    fn what_is_behind_a_group_is_found_by_the_index() {
        let store = testkit::Bed::sqlite().open(&[MIGRATIONS]);
        let text = format!("EXPLAIN QUERY PLAN {}", schema::SCHEDULED.text);
        let plan = Sql { name: "plan", text: text.leak() };
        let plan = store.read_blocking(move |tx| tx.list(&plan, params![1, 2, 3, 4, 5], |r| Ok(r.text(3)?.to_owned())));
        let sought = "queue_delivery_due ((stream,organisation,domain,priority,due)>(?,?,?,?,?))";
        assert!(plan.as_ref().unwrap().iter().any(|step| step.contains(sought)), "{plan:?}");
    }

    #[test]
    fn behind_what_its_sender_wants_to_leave_later_the_rest_is_brought_forward() {
        for bed in engines() {
            let store = bed.open(&[MIGRATIONS]);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let queue = runtime.block_on(Queue::open(&store, 1, Timestamp(1))).unwrap();
            let to = Address::parse("jane@b.test").unwrap();
            let group = Group::of(base::Stream::Mail, base::OrganisationId::HOUSE, to.domain(), 0);
            let add = |release: Option<i64>, created: i64| {
                let made =
                    NewMessage::made(queue.next_id(), Recipe { kind: 1, reference: [].into() }, Timestamp(created));
                let to = NewDelivery { to: to.clone(), notify: None, original: None, fate: Fate::Open };
                (NewMessage { release: release.map(Timestamp), ..made }, vec![to])
            };
            // Of these no piece finds anything to do.
            let all: Vec<_> = (0..PIECE + 9).map(|n| add(Some(1000 + n), 1)).chain([add(None, 5000)]).collect();
            store.write_blocking(move |tx| crate::enqueue_all(tx, &all)).unwrap();
            let (from, now) = (Timestamp(500), Timestamp(10));
            let bring = |turn| store.write_blocking(move |tx| bring_forward(tx, group, turn, now)).unwrap();
            let due = || store.read_blocking(move |tx| next_due(tx, group)).unwrap();
            let rest = bring(Turn::before(from)).unwrap();
            assert_eq!((rest.due, due()), (Timestamp(1000 + PIECE - 1), Some(Timestamp(1000))), "{}", bed.name());
            assert_eq!((bring(rest), due()), (None, Some(now)), "{}", bed.name());
            let domain = store.read_blocking(move |tx| domain_later(tx, group, from)).unwrap();
            assert_eq!(domain.as_deref(), Some("b.test"));
        }
    }
}
