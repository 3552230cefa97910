//! Finds the hop of a domain: asks the DNS once for all mail that waits for the answer, and remembers it for a minute (the
//! resolver itself keeps answers as long as they are good).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Reply;
use queue::QueueId;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::connection::ours;
use crate::dispatch::{later, line_up};
use crate::hops::Work;
use crate::outbox::Inner;
use crate::route::{self, Hop, Hosts, To};

/// How long an answer is remembered.
const GOOD: Duration = Duration::from_secs(60);
/// Domains that are remembered.
const KNOWN: usize = 50_000;
/// Questions at once.
const QUESTIONS: usize = 100;
/// After a fault of ours.
const AGAIN: Duration = Duration::from_secs(300);

/// A domain, and whether its hosts must be known for sure.
type Question = (Arc<str>, bool);

pub(crate) struct Finder {
    state: Mutex<State>,
    turns: Semaphore,
}

#[derive(Default)]
struct State {
    known: HashMap<Question, (Arc<Hosts>, Instant)>,
    /// What waits for an answer.
    asked: HashMap<Question, Vec<Work>>,
    /// Tasks that have not ended.
    asking: usize,
}

/// What is known of the way of some work.
enum Found {
    Hop(Hop, Work),
    /// Somebody asks already.
    Asked,
    /// The caller is to ask.
    Ask(Question),
}

impl Default for Finder {
    fn default() -> Self {
        Finder { state: Mutex::default(), turns: Semaphore::new(QUESTIONS) }
    }
}

impl Finder {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, domain: &str, require_tls: bool, work: Work) -> Found {
        let (mut state, question) = (self.lock(), (domain.into(), require_tls));
        if let Some((hosts, until)) = state.known.get(&question)
            && *until > Instant::now()
        {
            return Found::Hop(Hop { to: To::Hosts(hosts.clone()), require_tls }, work);
        }
        if let Some(waiting) = state.asked.get_mut(&question) {
            waiting.push(work);
            return Found::Asked;
        }
        state.asked.insert(question.clone(), vec![work]);
        state.asking += 1;
        Found::Ask(question)
    }

    fn learn(&self, question: &Question, hosts: Arc<Hosts>) {
        let (mut state, now) = (self.lock(), Instant::now());
        if state.known.len() >= KNOWN {
            state.known.retain(|_, (_, until)| *until > now);
        }
        if state.known.len() < KNOWN {
            state.known.insert(question.clone(), (hosts, now + GOOD));
        }
    }

    fn answered(&self, question: &Question) -> Vec<Work> {
        self.lock().asked.remove(question).unwrap_or_default()
    }

    /// Tasks that have not ended.
    pub(crate) fn asking(&self) -> usize {
        self.lock().asking
    }

    /// Takes the work of one message out.
    pub(crate) fn take_out(&self, id: QueueId) -> Vec<Work> {
        let mut state = self.lock();
        state.asked.values_mut().flat_map(|waiting| waiting.extract_if(.., |work| work.message.id == id)).collect()
    }

    /// Takes everything out.
    pub(crate) fn drain(&self) -> Vec<Work> {
        self.lock().asked.values_mut().flat_map(std::mem::take).collect()
    }
}

/// Lines work up as soon as its way is known.
pub(crate) fn find(inner: &Arc<Inner>, domain: &str, require_tls: bool, work: Work) {
    match inner.finder.find(domain, require_tls, work) {
        Found::Hop(hop, work) => line_up(inner, &hop, work),
        Found::Asked => {}
        Found::Ask(question) => {
            let asking = Asking { inner: inner.clone(), question };
            tokio::spawn(async move { ask(asking).await });
        }
    }
}

/// A question that is being asked. However that ends, nothing waits for the answer for ever.
struct Asking {
    inner: Arc<Inner>,
    question: Question,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let inner = &self.inner;
        // At a stop all goes back as it is; else this was a panic.
        let wait = if inner.is_stopping() { Duration::ZERO } else { AGAIN };
        inner.finder.answered(&self.question).into_iter().for_each(|work| later(inner, work, wait));
        inner.finder.lock().asking -= 1;
        inner.left.notify_one();
    }
}

async fn ask(asking: Asking) {
    let (inner, (domain, require_tls)) = (&asking.inner, &asking.question);
    let resolver = if *require_tls { &inner.validating } else { &inner.resolver };
    let answer = async {
        let _turn = inner.finder.turns.acquire().await;
        route::hosts(domain, *require_tls, resolver, &inner.hostname).await
    };
    let answer: Result<Hosts, Reply> = tokio::select! {
        answer = answer => answer,
        () = inner.stopped() => return,
    };
    match answer {
        Ok(hosts) => {
            let hosts = Arc::new(hosts);
            inner.finder.learn(&asking.question, hosts.clone());
            let hop = Hop { to: To::Hosts(hosts), require_tls: *require_tls };
            inner.finder.answered(&asking.question).into_iter().for_each(|work| line_up(inner, &hop, work));
        }
        Err(reply) => {
            tracing::info!(domain = &**domain, %reply, "no way");
            let said = ours(reply);
            inner.finder.answered(&asking.question).into_iter().for_each(|work| inner.settle_all(work, &said));
        }
    }
}
