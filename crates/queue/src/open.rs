//! The handle, and what is told when something changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Address, Timestamp};
use store::{Result, Store, Tx, params};

use crate::node::until;
use crate::receipt::{MessageIds, Packer};
use crate::recover::{Heir, Remains, inherit};
use crate::source::{SourceId, Used};
use crate::{Group, Node, QueueId, schema};

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
    /// The administrator ends pauses that a site asked for, of one source or of all ([`crate::source::end_pauses`]).
    PausesEnded {
        /// As he calls it, in lower case.
        site: Arc<str>,
        /// None is all.
        source: Option<SourceId>,
        /// What was noted of them, by whatever node, and is so no longer; nothing where another node was told to end them.
        noted: Arc<[Used]>,
    },
}

/// The right to enqueue and to claim: one life of one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    epoch: i64,
    node: i64,
    /// Others may take over what it has claimed.
    leased: bool,
    uncertain: u64,
    next: Arc<AtomicU64>,
    packer: Arc<Packer>,
    message_ids: Arc<MessageIds>,
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
    /// had delivered and not written down. Nothing else of its is uncertain. However much that is, it keeps nobody else from the store for
    /// long; who dies meanwhile is followed by one that goes on.
    ///
    /// # Errors
    /// The store's; another node took over from this one meanwhile, as it was silent for longer than its lease.
    pub async fn recover(store: &Store, node: &Node, now: Timestamp, remains: Option<Remains>) -> Result<Self> {
        let (of, packer, next) = (node.clone(), Arc::<Packer>::default(), Arc::new(AtomicU64::new(1)));
        let message_ids = Arc::<MessageIds>::default();
        let begin = move |tx: &mut Tx<'_>| {
            let epoch = tx.one(&schema::NEXT_EPOCH, params![], |r| r.int(0))?;
            let born = Queue {
                epoch,
                node: of.number,
                leased: of.lease.is_some(),
                uncertain: 0,
                next: next.clone(),
                packer: packer.clone(),
                message_ids: message_ids.clone(),
            };
            let until = match of.lease {
                Some(lease) => until(tx.shared_time()?, lease),
                None => Timestamp(i64::MAX),
            };
            let over = params![of.number, epoch, of.lease.is_none()];
            let over = tx.list(&schema::EPOCHS_BEFORE, over, |r| r.int(0))?;
            over.iter().try_for_each(|before| inherit(tx, *before, epoch))?;
            tx.execute(&schema::BEGIN_EPOCH, params![epoch, of.number, of.name.as_str(), now, until])?;
            Ok((born, over))
        };
        let (mut born, over) = store.write(begin).await?;
        let mut remains = remains;
        for before in over {
            let known = remains.take_if(|remains| remains.epoch == before);
            let heir = Heir { store, queue: &born, of: before, lease: node.lease, now };
            born.uncertain += heir.end(known).await?;
        }
        Ok(born)
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

    /// By which mail that left is found.
    pub(crate) fn message_ids(&self) -> &MessageIds {
        &self.message_ids
    }

    /// What claims are made with: no other life has the same.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The node's number, the same in all its lives.
    pub(crate) fn node(&self) -> i64 {
        self.node
    }

    /// As if it were another life, to end what that had claimed.
    pub(crate) fn as_life(&self, epoch: i64) -> Queue {
        Queue { epoch, ..self.clone() }
    }

    /// Whether what it claims is its own, until the end of the transaction: another node may have taken it over.
    pub(crate) fn stands(&self, tx: &mut Tx<'_>) -> Result<bool> {
        Ok(!self.leased || tx.execute(&schema::STANDS, params![self.epoch])? == 1)
    }
}
