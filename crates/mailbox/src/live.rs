//! The handle of sessions: mailboxes in use, kept current by what commits announce.
//!
//! A [`Live`] holds the newest index of one mailbox; each session holds a [`View`]: the index it has told its client
//! about. Both are the same allocation as long as nothing changed. The difference between them is what the session has
//! to tell. A live index that missed a change (another node's, say) notices by the MODSEQ and reads the log.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use base::{AccountId, Clock, MailboxId};
use store::{Lane, Result, Store, Tx};
use tokio::sync::watch;

use crate::verbs::{self, Copied, StoreRequest, Stored};
use crate::{Change, Difference, Index, UidSet, What, fold, load};

/// Places of mailboxes nobody looks at that are kept in memory all the same, for the next SELECT: 32 octets each.
const KEPT_PLACES: u64 = 2_000_000;
/// Mailboxes kept so, at most.
const KEPT_MAILBOXES: usize = 1024;
/// Flag changes after which the log is folded.
const FOLD_AFTER: u32 = 128;

type Key = (AccountId, MailboxId);

/// One mailbox in use.
#[derive(Debug)]
struct Live {
    account: AccountId,
    mailbox: MailboxId,
    state: Mutex<State>,
    /// Counts changes; sessions in IDLE wait for it.
    changed: watch::Sender<u64>,
    /// Flag changes since the last fold.
    unfolded: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    index: Arc<Index>,
    /// The index is not what the store holds: never read, or a change was missed.
    stale: bool,
    deleted: bool,
}

impl Live {
    fn new((account, mailbox): Key) -> Self {
        let state = Mutex::new(State { stale: true, ..State::default() });
        Live { account, mailbox, state, changed: watch::Sender::new(0), unfolded: AtomicU32::new(0) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, change: &Change) {
        {
            let mut state = self.state();
            if matches!(change.what, What::Deleted) {
                state.deleted = true;
                state.index = Arc::new(Index::default());
            } else if change.after <= state.index.modseq {
                return;
            } else if change.before == state.index.modseq && !state.stale {
                change.apply(Arc::make_mut(&mut state.index));
            } else {
                state.stale = true;
            }
        }
        if matches!(change.what, What::Flags { .. }) {
            self.unfolded.fetch_add(1, Ordering::Relaxed);
        }
        self.changed.send_modify(|n| *n += 1);
    }

    /// The newest index, brought up to date where it is stale.
    async fn current(&self, store: &Store) -> Result<Arc<Index>> {
        loop {
            let known = {
                let mut state = self.state();
                if !state.stale || state.deleted {
                    return Ok(state.index.clone());
                }
                // Changes that come while the read runs make it stale again.
                state.stale = false;
                state.index.clone()
            };
            let key = (self.account, self.mailbox);
            let read = store.read(move |tx| load::current(tx, key.0, key.1, &known)).await;
            let mut state = self.state();
            match read {
                Ok(Some((_, index))) => {
                    if index.modseq >= state.index.modseq {
                        state.index = index;
                    }
                }
                Ok(None) => state.deleted = true,
                Err(e) => {
                    state.stale = true;
                    return Err(e);
                }
            }
        }
    }
}

#[derive(Default)]
struct Registry {
    live: Mutex<Lives>,
}

#[derive(Default)]
struct Lives {
    by_key: HashMap<Key, Weak<Live>>,
    /// Kept though nobody may look: the least recently opened first.
    kept: VecDeque<Arc<Live>>,
    /// The map is swept when it has grown to this.
    sweep_at: usize,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Lives> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, change: &Change) {
        let live = self.lock().by_key.get(&(change.account, change.mailbox)).and_then(Weak::upgrade);
        if let Some(live) = live {
            live.hear(change);
        }
    }

    /// Nobody knows what the last commit did: everything is read again.
    fn doubt(&self) {
        let all: Vec<_> = self.lock().by_key.values().filter_map(Weak::upgrade).collect();
        for live in all {
            live.state().stale = true;
            live.changed.send_modify(|n| *n += 1);
        }
    }

    fn open(&self, key: Key) -> Arc<Live> {
        let mut lives = self.lock();
        if let Some(live) = lives.by_key.get(&key).and_then(Weak::upgrade) {
            return live;
        }
        let live = Arc::new(Live::new(key));
        lives.by_key.insert(key, Arc::downgrade(&live));
        if lives.by_key.len() >= lives.sweep_at {
            lives.by_key.retain(|_, l| l.strong_count() > 0);
            lives.sweep_at = 64 + 2 * lives.by_key.len();
        }
        live
    }

    /// Marks it as just used, and lets go of what is too much.
    fn keep(&self, live: &Arc<Live>) {
        let mut lives = self.lock();
        lives.kept.retain(|l| !Arc::ptr_eq(l, live));
        lives.kept.push_back(live.clone());
        let mut places: u64 = lives.kept.iter().map(|l| u64::from(l.state().index.len())).sum();
        while lives.kept.len() > KEPT_MAILBOXES || (places > KEPT_PLACES && lives.kept.len() > 1) {
            if let Some(gone) = lives.kept.pop_front() {
                places -= u64::from(gone.state().index.len());
            }
        }
    }
}

/// All mailboxes: what IMAP, POP3, JMAP and ingress hold. Cheap to clone.
#[derive(Clone)]
pub struct Mailboxes {
    store: Store,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
}

impl Mailboxes {
    /// The handle; begins to listen to the store.
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        let registry = Arc::new(Registry::default());
        let ear = Arc::downgrade(&registry);
        store.subscribe(Box::new(move |event| {
            let Some(registry) = ear.upgrade() else { return };
            if let Some(change) = event.downcast_ref::<Change>() {
                registry.hear(change);
            } else if event.is::<store::Gap>() {
                registry.doubt();
            }
        }));
        Mailboxes { store, clock, registry }
    }

    /// The store below.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Opens a mailbox for looking at; `None` when there is none.
    ///
    /// # Errors
    /// The store's.
    pub async fn open(&self, account: AccountId, mailbox: MailboxId) -> Result<Option<View>> {
        let live = self.registry.open((account, mailbox));
        let index = live.current(&self.store).await?;
        if live.state().deleted {
            return Ok(None);
        }
        self.registry.keep(&live);
        let ear = live.changed.subscribe();
        Ok(Some(View { mailboxes: self.clone(), live, index, ear }))
    }

    /// A verb that needs no view, as one job.
    ///
    /// # Errors
    /// The verb's.
    pub async fn write<T: Send + 'static>(
        &self,
        verb: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.store.write(verb).await
    }

    /// Takes away what deleted mailboxes left, in pieces, in the bulk lane. Called after a deletion.
    ///
    /// # Errors
    /// The store's.
    pub async fn purge(&self) -> Result<()> {
        while self.store.write_with(Lane::Bulk, Vec::new(), |tx, _| fold::purge(tx)).await? {}
        Ok(())
    }

    /// Takes away what a stop left: of deleted mailboxes, and the rows of expunged places. Called at start.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy_up(&self) -> Result<()> {
        self.purge().await?;
        let mut after = (AccountId(0), MailboxId(0));
        while let Some(key) = self.store.read(move |tx| fold::next_unreaped(tx, after)).await? {
            reap(&self.store, key).await?;
            after = key;
        }
        Ok(())
    }
}

/// What one session sees of a mailbox: it changes only when the session says so.
#[derive(Clone)]
pub struct View {
    mailboxes: Mailboxes,
    live: Arc<Live>,
    index: Arc<Index>,
    ear: watch::Receiver<u64>,
}

impl View {
    /// What the session has told its client.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// Whose mailbox.
    pub fn account(&self) -> AccountId {
        self.live.account
    }

    /// Which mailbox.
    pub fn mailbox(&self) -> MailboxId {
        self.live.mailbox
    }

    /// The mailbox was deleted under the session.
    pub fn is_deleted(&self) -> bool {
        self.live.state().deleted
    }

    /// The newest index: the flags after one's own STORE, say.
    ///
    /// # Errors
    /// The store's, where the log had to be read.
    pub async fn latest(&self) -> Result<Arc<Index>> {
        self.live.current(&self.mailboxes.store).await
    }

    /// Moves the view to the newest state and gives what the client must be told. Where that holds expunges and these may
    /// not be told now (RFC 9051 §7.5.1), nothing is moved and the answer is `None`: no MODSEQ above an untold expunge
    /// may reach the client, or it would never hear of it (RFC 7162 §3.2).
    ///
    /// # Errors
    /// The store's, where the log had to be read.
    pub async fn sync(&mut self, expunges: bool) -> Result<Option<Difference>> {
        let newest = self.latest().await?;
        if Arc::ptr_eq(&newest, &self.index) {
            return Ok(Some(Difference::default()));
        }
        let difference = self.index.difference(&newest);
        if !expunges && !difference.expunged.is_empty() {
            return Ok(None);
        }
        self.index = newest;
        Ok(Some(difference))
    }

    /// Waits until the mailbox changed since the last call (or since the view was made). Cancel-safe.
    pub async fn changed(&mut self) {
        // The sender lives in `self.live`: it cannot be gone.
        let _ = self.ear.changed().await;
    }

    /// STORE.
    ///
    /// # Errors
    /// Those of [`verbs::store_flags`].
    pub async fn store_flags(&self, request: StoreRequest) -> Result<Stored> {
        let (live, key) = (self.live.clone(), self.key());
        let stored = self.write(move |tx| verbs::store_flags(tx, key.0, key.1, &live.state().index.clone(), &request));
        let stored = stored.await?;
        if self.live.unfolded.load(Ordering::Relaxed) >= FOLD_AFTER {
            self.live.unfolded.store(0, Ordering::Relaxed);
            self.tidy();
        }
        Ok(stored)
    }

    /// EXPUNGE, UID EXPUNGE (`only`), or POP3's deletion (`all`: with or without `\Deleted`).
    ///
    /// # Errors
    /// Those of [`verbs::expunge`].
    pub async fn expunge(&self, only: Option<UidSet>, all: bool) -> Result<UidSet> {
        let (live, key) = (self.live.clone(), self.key());
        let gone =
            self.write(move |tx| verbs::expunge(tx, key.0, key.1, &live.state().index.clone(), only.as_ref(), all));
        let gone = gone.await?;
        if !gone.is_empty() {
            self.tidy();
        }
        Ok(gone)
    }

    /// COPY, or MOVE when the originals are to go.
    ///
    /// # Errors
    /// Those of [`verbs::copy`] and [`verbs::move_places`].
    pub async fn copy(&self, uids: UidSet, to: MailboxId, and_remove: bool) -> Result<Copied> {
        let (live, key, now) = (self.live.clone(), self.key(), self.mailboxes.clock.now());
        let copied = self.write(move |tx| {
            let known = live.state().index.clone();
            let verb = if and_remove { verbs::move_places } else { verbs::copy };
            verb(tx, key.0, (key.1, &known), to, &uids, now)
        });
        let copied = copied.await?;
        if and_remove {
            self.tidy();
        }
        Ok(copied)
    }

    fn key(&self) -> Key {
        (self.live.account, self.live.mailbox)
    }

    async fn write<T: Send + 'static>(&self, job: impl Fn(&mut Tx<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        self.mailboxes.store.write(job).await
    }

    /// Folds the log and deletes the rows of expunged places, beside whatever the session does next.
    fn tidy(&self) {
        let (live, store) = (self.live.clone(), self.mailboxes.store.clone());
        tokio::spawn(async move {
            let key = (live.account, live.mailbox);
            let reaped = reap(&store, key).await;
            let work = move |tx: &mut Tx<'_>, _: &[_]| {
                let known = live.state().index.clone();
                fold::fold(tx, key.0, key.1, &known)
            };
            let folded = store.write_with(Lane::Bulk, Vec::new(), work).await;
            if let Err(e) = reaped.and(folded) {
                tracing::warn!(account = %key.0, mailbox = %key.1, error = %e, "tidying a mailbox failed");
            }
        });
    }
}

/// Deletes the rows of expunged places, in pieces.
async fn reap(store: &Store, (account, mailbox): Key) -> Result<()> {
    while store.write_with(Lane::Bulk, Vec::new(), move |tx, _| fold::reap(tx, account, mailbox)).await? {}
    Ok(())
}
