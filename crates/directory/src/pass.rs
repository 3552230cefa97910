//! What a session holds of its sign-in: a pass, which ends when the account is disabled or removed, or the credential it
//! signed in with is removed or changed.
//!
//! Sessions ask nobody. One task hears of changes ([`Changed`]) and looks the account up, if anybody is signed in to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use base::AccountId;
use store::{Event, Gap, Result, Tx};
use tokio::sync::{Notify, mpsc};

use crate::directory::Inner;
use crate::{Changed, CredentialId, account, credential};

/// How long to wait before a store that does not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The right to go on, shared by the sessions that signed in to an account by the same credential. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pass(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    revoked: AtomicBool,
    told: Notify,
}

impl Pass {
    /// True when the session must end. Costs a look at the memory.
    pub fn is_revoked(&self) -> bool {
        self.0.revoked.load(Ordering::Acquire)
    }

    /// Waits until the session must end.
    pub async fn revoked(&self) {
        // First the ear, then the question: what is told in between is heard.
        let told = self.0.told.notified();
        if !self.is_revoked() {
            told.await;
        }
    }

    fn revoke(&self) {
        self.0.revoked.store(true, Ordering::Release);
        self.0.told.notify_waiters();
    }
}

type Key = (AccountId, CredentialId);

/// The passes that are held.
pub(crate) struct Passes {
    state: Mutex<State>,
    /// Wakes [`Passes::keep`]: full when that has something to do already.
    bell: mpsc::Sender<()>,
}

#[derive(Default)]
struct State {
    issued: BTreeMap<Key, Weak<Held>>,
    /// How many may be there before those that nobody holds are taken out.
    sweep_at: usize,
    /// Accounts that changed, of those somebody is signed in to.
    suspects: BTreeSet<AccountId>,
}

impl Passes {
    /// None issued yet; what comes out of the receiver is for [`keep`].
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<()>) {
        let (bell, rung) = mpsc::channel(1);
        (Arc::new(Passes { state: Mutex::default(), bell }), rung)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The maps are whole at every point where a holder could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pass. Whoever asks looks at the account afterwards: of what changes later, the pass tells.
    pub(crate) fn issue(&self, account: AccountId, credential: CredentialId) -> Pass {
        let mut state = self.lock();
        if state.issued.len() >= state.sweep_at {
            state.issued.retain(|_, held| held.strong_count() > 0);
            state.sweep_at = 2 * state.issued.len() + 64;
        }
        let place = state.issued.entry((account, credential)).or_default();
        let held = place.upgrade().unwrap_or_else(|| {
            let held = Arc::new(Held::default());
            *place = Arc::downgrade(&held);
            held
        });
        Pass(held)
    }

    /// Notes what changed. Called for every event of the store: it must not take long.
    pub(crate) fn hear(&self, event: &Event) {
        let State { issued, suspects, .. } = &mut *self.lock();
        match event.downcast_ref() {
            Some(Changed::Account(id) | Changed::Credential(id)) if issued.range(of(*id)).next().is_some() => {
                suspects.insert(*id);
            }
            Some(_) => {}
            // Behind a gap nobody knows what changed.
            None if event.is::<Gap>() => suspects.extend(issued.keys().map(|(account, _)| account)),
            None => {}
        }
        if !suspects.is_empty() {
            let _ = self.bell.try_send(());
        }
    }

    /// By which credentials somebody is signed in to the account.
    fn in_use(&self, account: AccountId) -> Vec<CredentialId> {
        self.lock().issued.range(of(account)).map(|((_, credential), _)| *credential).collect()
    }

    fn revoke(&self, account: AccountId, credential: CredentialId) {
        // Out of the map: who signs in again, after the account is enabled again, gets a new one.
        let held = self.lock().issued.remove(&(account, credential));
        if let Some(held) = held.and_then(|held| held.upgrade()) {
            Pass(held).revoke();
        }
    }
}

fn of(account: AccountId) -> RangeInclusive<Key> {
    (account, CredentialId(i64::MIN))..=(account, CredentialId(i64::MAX))
}

/// Revokes passes as accounts change, one account after the other, until the store or the directory is gone.
pub(crate) async fn keep(directory: Weak<Inner>, mut rung: mpsc::Receiver<()>) {
    while rung.recv().await.is_some() {
        loop {
            let Some(inner) = directory.upgrade() else { return };
            let Some(account) = inner.passes.lock().suspects.pop_first() else { break };
            // Before the look: a credential that is made after it is none of its business.
            let in_use = inner.passes.in_use(account);
            match inner.store.read(move |tx| valid(tx, account)).await {
                Ok(valid) => {
                    let gone = in_use.into_iter().filter(|by| !valid.contains(by));
                    gone.for_each(|by| inner.passes.revoke(account, by));
                }
                Err(error) => {
                    tracing::warn!(%error, "whose sessions must end cannot be looked up");
                    inner.passes.lock().suspects.insert(account);
                    drop(inner);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The credentials an account may use now.
fn valid(tx: &mut Tx<'_>, of: AccountId) -> Result<Vec<CredentialId>> {
    match account::account(tx, of) {
        Ok(account) if account.disabled => Ok(Vec::new()),
        Ok(_) => Ok(credential::credentials(tx, of)?.into_iter().map(|c| c.id).collect()),
        Err(error) if error.refusal().is_some() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
