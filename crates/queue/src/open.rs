//! The handle, and what is told when something changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Address, Timestamp};
use store::{Error, Result, Row, Store, Tx, params};

use crate::node::until;
use crate::receipt::{self, ByMessage, Packer, Segment};
use crate::{Group, Node, Outcome, QueueId, Said, Settled, claim, schema};

/// Told once it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something of these groups is due then.
    Due(Vec<Group>, Timestamp),
    /// The administrator wants these groups tried now, whatever holds them up.
    Retried(Vec<Group>, Timestamp),
    /// A message came that owes its sender a report.
    Owing(QueueId),
    /// The administrator wants a message back of which deliveries are claimed.
    Cancelling(QueueId),
    /// An address is not to be sent to ([`crate::suppression`]): what is in line for it is to be claimed anew.
    Suppressed(Address),
    /// What mail leaves by, or how, was set up otherwise ([`crate::source`]).
    Changed,
}

/// Outcomes that are written together.
const BATCH: usize = 256;

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
#[derive(Debug)]
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

impl Remains {
    /// Done by the life that was `born` after it; gives those that are uncertain.
    fn sort_out(&self, tx: &mut Tx<'_>, born: &Queue, now: Timestamp) -> Result<ByMessage> {
        let (mut all_settled, mut by_message) = (Vec::new(), BTreeMap::<QueueId, Vec<&Delivered>>::new());
        self.delivered.iter().for_each(|d| by_message.entry(d.message).or_default().push(d));
        for (id, delivered) in by_message {
            let (message, all) = match crate::show(tx, id) {
                Ok(Some((message, all))) => (Arc::new(message), all),
                // One that cannot be read is not sent again either: it is held when it is claimed.
                Ok(None) | Err(Error::Corrupt(_)) => continue,
                Err(error) => return Err(error),
            };
            for standing in all {
                let Some(d) = delivered.iter().find(|d| d.number == standing.delivery.number) else { continue };
                let (message, delivery) = (message.clone(), standing.delivery);
                let (outcome, said) = (Outcome::Delivered { reports: d.reports }, d.said.clone());
                all_settled.push(Settled { message, delivery, outcome, said, class: String::new(), rule: None });
            }
        }
        let life = Queue { epoch: self.epoch, ..born.clone() };
        for settled in all_settled.chunks(BATCH) {
            // Who is owed a report is found by all debts that are looked for at start.
            claim::record(tx, &life, settled, &Segment::of(born, settled, now)?, now)?;
        }
        let mut uncertain = ByMessage::new();
        for (message, number) in &self.begun {
            if tx.execute(&schema::RECOVER_BEGUN, params![*message, *number, self.epoch, now])? == 1 {
                uncertain.entry(*message).or_default().push(*number);
            }
        }
        tx.execute(&schema::RECOVER_UNBEGUN, params![self.epoch, now])?;
        Ok(uncertain)
    }
}

/// The right to enqueue and to claim: one life of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    epoch: i64,
    /// Others may take over what it has claimed.
    leased: bool,
    uncertain: u64,
    next: Arc<AtomicU64>,
    packer: Arc<Packer>,
}

impl Queue {
    /// Begins a life of a node: takes the number of its epoch, and gives back to the queue what its earlier lives left
    /// claimed, marked as uncertain. Nobody can enqueue or claim before (trap 22).
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: &Store, node: i64, now: Timestamp) -> Result<Self> {
        Queue::recover(store, &Node { number: node, ..Node::alone() }, now, None).await
    }

    /// As [`Queue::open`], for a node among others, and with what is known of its life before: what it had begun, and what it
    /// had delivered and not written down. Nothing else of its is uncertain.
    ///
    /// # Errors
    /// The store's.
    pub async fn recover(store: &Store, node: &Node, now: Timestamp, remains: Option<Remains>) -> Result<Self> {
        let (node, packer, next) = (node.clone(), Arc::<Packer>::default(), Arc::new(AtomicU64::new(1)));
        let begin = move |tx: &mut Tx<'_>| {
            let epoch = tx.one(&schema::NEXT_EPOCH, params![], |r| r.int(0))?;
            let (packer, next) = (packer.clone(), next.clone());
            let mut born = Queue { epoch, leased: node.lease.is_some(), uncertain: 0, next, packer };
            let until = match node.lease {
                Some(lease) => until(tx.shared_time()?, lease),
                None => Timestamp(i64::MAX),
            };
            for before in
                tx.list(&schema::EPOCHS_BEFORE, params![node.number, epoch, node.lease.is_none()], |r| r.int(0))?
            {
                let remains = remains.as_ref().filter(|remains| remains.epoch == before);
                born.uncertain += end_life(tx, &born, before, remains, now)?;
            }
            tx.execute(&schema::BEGIN_EPOCH, params![epoch, node.number, node.name.as_str(), now, until])?;
            Ok(born)
        };
        store.write(begin).await
    }

    /// A number for a message; drawn before the job that enqueues it.
    pub fn next_id(&self) -> QueueId {
        QueueId::new(self.epoch, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// How many deliveries were found whose last attempt has an unknown outcome.
    pub fn uncertain(&self) -> u64 {
        self.uncertain
    }

    /// What packs its receipts.
    pub(crate) fn packer(&self) -> &Packer {
        &self.packer
    }

    /// What claims are made with: no other life has the same.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Whether what it claims is its own, until the end of the transaction: another node may have taken it over.
    pub(crate) fn stands(&self, tx: &mut Tx<'_>) -> Result<bool> {
        Ok(!self.leased || tx.execute(&schema::STANDS, params![self.epoch])? == 1)
    }
}

/// Ends a life that is over: what it had claimed goes back to the queue, by what is known of it; gives how many deliveries
/// are uncertain.
pub(crate) fn end_life(
    tx: &mut Tx<'_>,
    by: &Queue,
    epoch: i64,
    remains: Option<&Remains>,
    now: Timestamp,
) -> Result<u64> {
    let mut uncertain = remains.map_or(Ok(ByMessage::new()), |remains| remains.sort_out(tx, by, now))?;
    let key = |r: &Row<'_>| Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32));
    for (id, number) in tx.list(&schema::RECOVER, params![epoch, now], key)? {
        uncertain.entry(id).or_default().push(number);
    }
    let mut ended = ByMessage::new();
    for (id, number) in tx.list(&schema::RECOVER_CANCELLED, params![epoch], key)? {
        ended.entry(id).or_default().push(number);
    }
    tx.execute(&schema::LET_SOURCES_GO, params![epoch])?;
    tx.execute(&schema::END_EPOCH, params![epoch])?;
    receipt::uncertain(tx, &uncertain, now)?;
    claim::end_cancelled(tx, ended, now)?;
    Ok(uncertain.values().map(|numbers| numbers.len() as u64).sum())
}
