//! Lives that are over: what one had claimed goes back to the queue, by what is known of it.
//!
//! The first word is that it has an *heir*: from then on it says and claims nothing any more. The rest may be much, and is done in jobs
//! of which none is long. Each does all there is to do for some of its claims, so that nothing of them is lost or done twice when the heir
//! dies between two: then the next takes what is left.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Timestamp;
use store::{Result, Store, Tx, params};

use crate::admin::readable;
use crate::node::until;
use crate::receipt::{self, ByMessage, Segment};
use crate::{Outcome, Queue, QueueId, Said, Settled, State, claim, schema};

/// Claims that one job sees to: a few milliseconds, with the packing of their records; on PostgreSQL some more, as each message is
/// read by itself.
const BATCH: usize = 64;

/// What is known of the claims of an epoch whose process died.
#[derive(Debug)]
pub struct Remains {
    /// The epoch.
    pub epoch: i64,
    /// Attempts whose end is not known: message and number.
    pub begun: Vec<(QueueId, u32)>,
    /// What was delivered.
    pub delivered: Vec<Delivered>,
}

/// A delivery that the next hop had taken, and that was perhaps not written down.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Its message.
    pub message: QueueId,
    /// Its number there.
    pub number: u32,
    /// See [`Outcome::Delivered`].
    pub reports: bool,
    /// What was said.
    pub said: Said,
}

/// A life is over, and `heir` ends it, whoever was to before.
pub(crate) fn inherit(tx: &mut Tx<'_>, of: i64, heir: i64) -> Result<()> {
    tx.execute(&schema::INHERIT, params![of, heir])?;
    tx.execute(&schema::LET_SOURCES_GO, params![of]).map(drop)
}

/// Who ends a life.
pub(crate) struct Heir<'a> {
    pub(crate) store: &'a Store,
    pub(crate) queue: &'a Queue,
    /// The life that is over.
    pub(crate) of: i64,
    /// The heir's own, where nobody else renews it meanwhile.
    pub(crate) lease: Option<Duration>,
    pub(crate) now: Timestamp,
}

/// So many were uncertain, and whether that was the last.
type Done = (u64, bool);

impl Heir<'_> {
    /// Gives how many deliveries are uncertain, as far as this one saw to them.
    pub(crate) async fn end(&self, remains: Option<Remains>) -> Result<u64> {
        // What is known of another life says nothing of this one.
        let remains = remains.filter(|remains| remains.epoch == self.of);
        let (of, now, queue, is_known) = (self.of, self.now, self.queue.clone(), remains.is_some());
        let mut uncertain = 0;
        if let Some(Remains { mut begun, mut delivered, .. }) = remains {
            delivered.sort_by_key(|d| (d.message, d.number));
            begun.sort();
            for some in delivered.chunks(BATCH) {
                let (some, life, born) = (some.to_vec(), queue.as_life(of), queue.clone());
                // Who is owed a report is found by all debts that are looked for at start.
                self.job(move |tx| settle(tx, &some, &life, &born, now).map(|()| (0, false))).await?;
            }
            for some in begun.chunks(BATCH) {
                let some = some.to_vec();
                uncertain += self.job(move |tx| Ok((give_back_begun(tx, of, &some, now)?, false))).await?.0;
            }
        }
        loop {
            let (n, is_over) = self.job(move |tx| give_back(tx, of, is_known, now)).await?;
            uncertain += n;
            if is_over {
                return Ok(uncertain);
            }
        }
    }

    /// Done while the life is this one's to end; all is done where it is not any more.
    async fn job(&self, work: impl Fn(&mut Tx<'_>) -> Result<Done> + Send + 'static) -> Result<Done> {
        let (of, heir, lease) = (self.of, self.queue.epoch(), self.lease);
        let job = move |tx: &mut Tx<'_>| {
            if let Some(lease) = lease {
                let time = tx.shared_time()?;
                // Nothing that this one says or claims would count any more.
                if tx.execute(&schema::RENEW, params![heir, until(time, lease)])? != 1 {
                    return Err(base::Error::internal("another node took over while this one began").into());
                }
            }
            let inherits = tx.execute(&schema::INHERITS, params![of, heir])? == 1;
            if inherits { work(tx) } else { Ok((0, true)) }
        };
        self.store.write(job).await
    }
}

/// Writes what was delivered: `life` had claimed it, and `born` packs the records.
fn settle(tx: &mut Tx<'_>, all: &[Delivered], life: &Queue, born: &Queue, now: Timestamp) -> Result<()> {
    let mut by_message = BTreeMap::<QueueId, Vec<u32>>::new();
    all.iter().for_each(|d| by_message.entry(d.message).or_default().push(d.number));
    let mut settled = Vec::with_capacity(all.len());
    for (id, numbers) in by_message {
        // One that cannot be read is not sent again either: it is held when it is claimed.
        for (message, delivery) in readable(tx, id, &numbers)? {
            let Some(d) = all.iter().find(|d| d.message == id && d.number == delivery.number) else { continue };
            let (outcome, said) = (Outcome::Delivered { reports: d.reports }, d.said.clone());
            settled.push(Settled { message, delivery, outcome, said, class: String::new(), rule: None });
        }
    }
    claim::record(tx, life, &settled, &Segment::of(born, &settled, now)?, now).map(drop)
}

/// It is known that these were begun.
fn give_back_begun(tx: &mut Tx<'_>, of: i64, begun: &[(QueueId, u32)], now: Timestamp) -> Result<u64> {
    let mut uncertain = ByMessage::new();
    recover(tx, of, begun.iter().copied(), true, now, |id, number| uncertain.entry(id).or_default().push(number))?;
    noted(tx, &uncertain, now)
}

/// Some of what a life had claimed: each was perhaps sent, unless it is known what was begun. Without any the life is over.
fn give_back(tx: &mut Tx<'_>, of: i64, is_known: bool, now: Timestamp) -> Result<Done> {
    let mut claims = tx.list(&schema::CLAIMS_OF, params![of, BATCH as i64], |r| {
        Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32, State::read(r.int(2)?)?))
    })?;
    if claims.is_empty() {
        tx.execute(&schema::END_EPOCH, params![of])?;
        return Ok((0, true));
    }
    claims.sort_by_key(|(id, number, _)| (*id, *number));
    let (mut uncertain, mut cancelled) = (ByMessage::new(), ByMessage::new());
    // On PostgreSQL one that was just cancelled is left for the next job.
    let some = |cancelling| claims.iter().filter(move |c| (c.2 == State::Cancelling) == cancelling).map(|c| (c.0, c.1));
    recover(tx, of, some(false), !is_known, now, |id, number| {
        if !is_known {
            uncertain.entry(id).or_default().push(number);
        }
    })?;
    tx.each(
        &schema::RECOVER_CANCELLED,
        some(true),
        |(id, number)| [(*id).into(), (*number).into(), of.into()],
        |(id, number), answer| {
            if answer.changed == 1 {
                cancelled.entry(id).or_default().push(number);
            }
        },
    )?;
    claim::end_cancelled(tx, cancelled, now)?;
    Ok((noted(tx, &uncertain, now)?, false))
}

/// Makes what a life had claimed due again, unless that is not its any more, and gives it to `then`.
fn recover(
    tx: &mut Tx<'_>,
    of: i64,
    all: impl Iterator<Item = (QueueId, u32)>,
    is_uncertain: bool,
    now: Timestamp,
    mut then: impl FnMut(QueueId, u32),
) -> Result<()> {
    tx.each(
        &schema::RECOVER,
        all,
        |(id, number)| [(*id).into(), (*number).into(), of.into(), now.into(), is_uncertain.into()],
        |(id, number), answer| {
            if answer.changed == 1 {
                then(id, number);
            }
        },
    )
}

/// Records that nobody knows what came of these; gives how many they are.
fn noted(tx: &mut Tx<'_>, uncertain: &ByMessage, now: Timestamp) -> Result<u64> {
    receipt::uncertain(tx, uncertain, now)?;
    Ok(uncertain.values().map(|numbers| numbers.len() as u64).sum())
}

#[cfg(test)]
mod tests {
    use store::Done;

    use super::*;
    use crate::{Fate, MIGRATIONS, NewDelivery, NewMessage, Node, Recipe, Want};

    #[test]
    fn one_job_gives_back_some_of_what_a_life_had_claimed() {
        let now = Timestamp(1_800_000_000_000);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for bed in testkit::engines() {
            let store = bed.open(&[MIGRATIONS]);
            let queue = runtime.block_on(Queue::open(&store, 1, now)).unwrap();
            let of = queue.epoch();
            let claim_many = move |tx: &mut Tx<'_>| {
                let to = base::Address::parse("jane@b.test").map_err(|_| store::Error::Closed)?;
                let to = [NewDelivery { to, notify: None, original: None, fate: Fate::Open }];
                for _ in 0..5 * BATCH {
                    let recipe = Recipe { kind: 1, reference: [].into() };
                    crate::enqueue(tx, &NewMessage::made(queue.next_id(), recipe, now), &to)?;
                }
                let wants: Vec<Want> =
                    crate::scheduled(tx, None)?.into_iter().map(|(group, _)| Want { group, most: u32::MAX }).collect();
                crate::claim_due(tx, &queue, &wants, now).map(|due| due.claimed.len())
            };
            assert_eq!(store.write_blocking(claim_many).unwrap(), 5 * BATCH);
            let piece = move |tx: &mut Tx<'_>| Ok((give_back(tx, of, false, now)?, tx.done()));
            let (done, Done { waits, statements, rows }) = store.write_blocking(piece).unwrap();
            assert_eq!(done, (BATCH as u64, false), "{}", bed.name());
            // Each message is read by itself, with its deliveries.
            let all = BATCH as u64;
            assert!(waits <= 2 * all + 16 && statements <= 5 * all && rows <= 6 * all, "{waits} {statements} {rows}");
        }
    }

    #[test]
    fn who_is_taken_over_while_it_begins_does_not_begin() {
        let now = Timestamp(1_800_000_000_000);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for bed in testkit::engines() {
            let store = bed.open(&[MIGRATIONS]);
            let lease = Some(Duration::from_secs(60));
            let node = |number| Node { number, name: String::new(), lease };
            let [dead, begins, other] = [1, 2, 3].map(node);
            let recover = |node: &Node| runtime.block_on(Queue::recover(&store, node, now, None)).unwrap();
            let (dead, begins, other) = (recover(&dead).epoch(), recover(&begins), recover(&other).epoch());
            let inherits = move |of, heir| move |tx: &mut Tx<'_>| inherit(tx, of, heir);
            store.write_blocking(inherits(dead, begins.epoch())).unwrap();
            let heir = Heir { store: &store, queue: &begins, of: dead, lease, now };
            store.write_blocking(inherits(begins.epoch(), other)).unwrap();
            assert!(runtime.block_on(heir.end(None)).is_err());
        }
    }
}
