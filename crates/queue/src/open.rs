//! The handle, and what is told when something changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::Timestamp;
use store::{Result, Row, Store, Tx, params};

use crate::{Group, QueueId, claim, receipt, schema};

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
    /// What mail leaves by, or how, was set up otherwise ([`crate::source`]).
    Changed,
}

/// The right to enqueue and to claim: one life of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    epoch: i64,
    uncertain: u64,
    next: Arc<AtomicU64>,
}

impl Queue {
    /// Begins a life of `node`: takes the number of its epoch, and gives back to the queue what its earlier lives left
    /// claimed, marked as uncertain. Nobody can enqueue or claim before (trap 22).
    ///
    /// # Errors
    /// The store's.
    pub async fn open(store: &Store, node: u32, now: Timestamp) -> Result<Self> {
        let begin = move |tx: &mut Tx<'_>| {
            let epoch = tx.one(&schema::NEXT_EPOCH, params![node, now], |r| r.int(0))?;
            let uncertain = tx.execute(&schema::RECOVER, params![node, epoch, now])?;
            let cancelled = |r: &Row<'_>| Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32));
            for (id, number) in tx.list(&schema::RECOVER_CANCELLED, params![node, epoch], cancelled)? {
                receipt::cancelled(tx, id, |n, _| n == number, now)?;
                claim::close(tx, id, 1)?;
            }
            tx.execute(&schema::FORGET_EPOCHS, params![node, epoch])?;
            Ok((epoch, uncertain))
        };
        let (epoch, uncertain) = store.write(begin).await?;
        Ok(Queue { epoch, uncertain, next: Arc::new(AtomicU64::new(1)) })
    }

    /// A number for a message; drawn before the job that enqueues it.
    pub fn next_id(&self) -> QueueId {
        QueueId::new(self.epoch, self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// How many deliveries were found whose last attempt has an unknown outcome.
    pub fn uncertain(&self) -> u64 {
        self.uncertain
    }

    /// What claims are made with.
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch
    }
}
