//! Finds the hop of a domain: asks the DNS once for all mail of a stream that waits for the answer, and remembers the answer for a
//! minute (the resolver itself keeps answers as long as they are good), with the policy that the domain has for the way. That there was none is remembered as well: zones
//! whose servers are dead are many on any old list of addresses, and must not keep back mail for the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::{Reply, Stream};
use net::Deadline;
use queue::QueueId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::dane;
use crate::dialogue::ours;
use crate::dispatch::{later, line_up, too_many};
use crate::hops::Work;
use crate::outbox::Inner;
use crate::route::{self, Hop, Hosts, To};
use crate::sts::{self, Sts};

/// How long an answer is remembered.
const GOOD: Duration = Duration::from_secs(60);
/// And a failure that may pass: not until the first retry, which asks anew.
const BAD: Duration = Duration::from_secs(55);
/// Domains that are remembered.
const KNOWN: usize = 50_000;
/// Questions of one stream at once.
const QUESTIONS: usize = 100;
/// Deliveries of one stream that wait for an answer: half of those that are always its own, so that there are places for
/// mail whose way is known.
const WAITING: usize = 500;
/// How long a question waits for its turn; and how long mail waits that had none, or came when too much waited.
const TURN: Duration = Duration::from_secs(45);
/// How long the DNS may take for a domain, and how long when it did not answer last time.
const DNS: Duration = Duration::from_secs(30);
const DNS_AGAIN: Duration = Duration::from_secs(5);
/// After a fault of ours.
const AGAIN: Duration = Duration::from_secs(300);

/// A domain, and whether its hosts must be known for sure.
type Question = (Arc<str>, bool);
/// Its hosts and its policy, or why there is no way: a reply that may change.
type Answer = Result<Way, Reply>;

#[derive(Clone, Debug)]
struct Way {
    hosts: Arc<Hosts>,
    sts: Option<Arc<Sts>>,
    dane: bool,
}

impl Way {
    fn hop(&self, require_tls: bool) -> Hop {
        Hop { sts: self.sts.clone(), dane: self.dane, ..Hop::new(To::Hosts(self.hosts.clone()), require_tls) }
    }
}

pub(crate) struct Finder {
    state: Mutex<State>,
    turns: [Semaphore; 3],
}

#[derive(Default)]
struct State {
    known: HashMap<Question, (Answer, Instant)>,
    /// What waits for an answer. Each stream asks for itself: another's question may wait for its turn.
    asked: HashMap<(Question, Stream), Asked>,
    /// How many deliveries these are, by stream.
    waiting: [usize; 3],
    /// Questions there ever were.
    questions: u64,
    /// Tasks that have not ended.
    asking: usize,
}

struct Asked {
    /// Which question it is. The next one for the same domain is another.
    number: u64,
    since: Instant,
    waiting: Vec<Work>,
}

/// Mail whose hosts are being looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// Those of this domain.
    pub domain: Arc<str>,
    /// For so long.
    pub since: Duration,
}

/// What is to be asked.
#[derive(Debug)]
struct Ask {
    question: Question,
    stream: Stream,
    number: u64,
    /// There was no answer last time.
    failed: bool,
}

/// What is known of the way of some work.
#[derive(Debug)]
enum Found {
    Hop(Hop, Work),
    /// There was none a moment ago.
    None(Reply, Work),
    /// Somebody asks already.
    Asked,
    /// The caller is to ask.
    Ask(Ask),
    /// Too much waits for answers.
    Later(Work),
}

impl Default for Finder {
    fn default() -> Self {
        Finder { state: Mutex::default(), turns: [(); 3].map(|()| Semaphore::new(QUESTIONS)) }
    }
}

impl State {
    /// This no longer waits.
    fn freed(&mut self, works: Vec<Work>) -> Vec<Work> {
        for work in &works {
            self.waiting[work.message.stream as usize] -= work.deliveries.len();
        }
        works
    }

    fn learn(&mut self, question: &Question, answer: &Answer) {
        let now = Instant::now();
        let good = match answer {
            Ok(_) => GOOD,
            Err(reply) if reply.is_transient() => BAD,
            // The resolver remembers it, for as long as the zone says.
            Err(_) => return drop(self.known.remove(question)),
        };
        if self.known.len() >= KNOWN {
            self.known.retain(|_, (_, until)| *until > now);
        }
        if self.known.len() < KNOWN {
            self.known.insert(question.clone(), (answer.clone(), now + good));
        }
    }
}

impl Finder {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, domain: &str, require_tls: bool, work: Work) -> Found {
        let (mut guard, question) = (self.lock(), (domain.into(), require_tls));
        let state = &mut *guard;
        let failed = match state.known.get(&question) {
            Some((answer, until)) if *until > Instant::now() => {
                return match answer {
                    Ok(way) => Found::Hop(way.hop(require_tls), work),
                    Err(reply) => Found::None(reply.clone(), work),
                };
            }
            last => matches!(last, Some((Err(_), _))),
        };
        let stream = work.message.stream;
        let waiting = &mut state.waiting[stream as usize];
        if *waiting >= WAITING {
            return Found::Later(work);
        }
        *waiting += work.deliveries.len();
        match state.asked.entry((question, stream)) {
            Entry::Occupied(mut asked) => {
                asked.get_mut().waiting.push(work);
                Found::Asked
            }
            Entry::Vacant(vacant) => {
                (state.questions, state.asking) = (state.questions + 1, state.asking + 1);
                let (question, number) = (vacant.key().0.clone(), state.questions);
                vacant.insert(Asked { number, since: Instant::now(), waiting: vec![work] });
                Found::Ask(Ask { question, stream, number, failed })
            }
        }
    }

    /// What waits for the answer to this question, and to no later one.
    fn answered(&self, ask: &Ask, answer: Option<&Answer>) -> Vec<Work> {
        let mut state = self.lock();
        if let Some(answer) = answer {
            state.learn(&ask.question, answer);
        }
        let of = (ask.question.clone(), ask.stream);
        if state.asked.get(&of).is_none_or(|asked| asked.number != ask.number) {
            return Vec::new();
        }
        let waiting = state.asked.remove(&of).map_or(Vec::new(), |asked| asked.waiting);
        state.freed(waiting)
    }

    /// What is being looked for, for a delivery that waits for it.
    pub(crate) fn looks_for(&self, message: QueueId, number: u32) -> Option<Looked> {
        let is_it = |work: &Work| work.message.id == message && work.deliveries.iter().any(|d| d.number == number);
        let state = self.lock();
        let (((domain, _), _), asked) = state.asked.iter().find(|(_, asked)| asked.waiting.iter().any(is_it))?;
        Some(Looked { domain: domain.clone(), since: asked.since.elapsed() })
    }

    /// Tasks that have not ended.
    pub(crate) fn asking(&self) -> usize {
        self.lock().asking
    }

    /// Takes out what is asked for.
    pub(crate) fn take_out(&self, which: impl Fn(&Work) -> bool) -> Vec<Work> {
        let mut state = self.lock();
        let of = |asked: &mut Asked| asked.waiting.extract_if(.., |work| which(work)).collect::<Vec<_>>();
        let taken = state.asked.values_mut().flat_map(of).collect();
        state.freed(taken)
    }

    /// Takes everything out.
    pub(crate) fn drain(&self) -> Vec<Work> {
        let mut state = self.lock();
        let taken = state.asked.values_mut().flat_map(|asked| std::mem::take(&mut asked.waiting)).collect();
        state.freed(taken)
    }
}

/// Lines work up as soon as its way is known.
pub(crate) fn find(inner: &Arc<Inner>, domain: &str, require_tls: bool, work: Work) {
    match inner.finder.find(domain, require_tls, work) {
        Found::Hop(hop, work) => line_up_as_demanded(inner, hop, work),
        Found::None(reply, work) => inner.settle_all(work, &ours(reply)),
        Found::Asked => {}
        Found::Ask(ask) => {
            let asking = Asking { inner: inner.clone(), ask };
            tokio::spawn(async move { asking.run().await });
        }
        Found::Later(work) => too_many(inner, work, TURN),
    }
}

fn line_up_as_demanded(inner: &Arc<Inner>, hop: Hop, work: Work) {
    let hop = if work.message.tls_optional { hop.whatever_is_demanded() } else { hop };
    line_up(inner, &hop, work);
}

/// A question that is being asked. However that ends, nothing waits for the answer for ever.
struct Asking {
    inner: Arc<Inner>,
    ask: Ask,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let inner = &self.inner;
        // At a stop all goes back as it is; else this was a panic.
        let wait = if inner.is_stopping() { Duration::ZERO } else { AGAIN };
        inner.finder.answered(&self.ask, None).into_iter().for_each(|work| later(inner, work, wait));
        inner.finder.lock().asking -= 1;
        inner.left.notify_one();
    }
}

impl Asking {
    /// Asks when a question of this stream has its turn.
    async fn run(self) {
        let asked = async {
            match timeout(TURN, self.inner.finder.turns[self.ask.stream as usize].acquire()).await {
                Ok(_turn) => self.answered(self.answer().await),
                Err(_) => self.give_up(),
            }
        };
        tokio::select! {
            () = asked => {}
            () = self.inner.stopped() => {}
        }
    }

    async fn answer(&self) -> Answer {
        let (inner, (domain, require_tls)) = (&self.inner, &self.ask.question);
        let deadline = Deadline::after(if self.ask.failed { DNS_AGAIN } else { DNS });
        dane::begun(inner).await;
        let hosts = route::hosts(domain, inner.dns(), deadline, &inner.hostname);
        let (named, sts) = tokio::join!(hosts, sts::of(inner, domain));
        let (named, sts) = (named?, sts?);
        if *require_tls {
            route::vouched_for(domain, &named, sts.as_ref(), inner.proof.is_to_be_had())?;
        }
        let dane = named.proven && inner.proof.is_to_be_had();
        Ok(Way { hosts: Arc::new(named.hosts), sts, dane })
    }

    fn answered(&self, answer: Answer) {
        let (inner, (domain, require_tls)) = (&self.inner, &self.ask.question);
        let waiting = inner.finder.answered(&self.ask, Some(&answer));
        match answer {
            Ok(way) => {
                let hop = way.hop(*require_tls);
                waiting.into_iter().for_each(|work| line_up_as_demanded(inner, hop.clone(), work));
            }
            Err(reply) => {
                tracing::info!(domain = &**domain, %reply, "no way");
                let said = ours(reply);
                waiting.into_iter().for_each(|work| inner.settle_all(work, &said));
            }
        }
    }

    /// Its turn does not come soon: others are to have the places of what waits.
    fn give_up(&self) {
        self.inner.finder.answered(&self.ask, None).into_iter().for_each(|work| too_many(&self.inner, work, TURN));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use queue::Message;

    use super::*;
    use crate::hops;

    /// Mail of a stream to so many, each a message with an id of its own.
    fn work(stream: Stream, n: u32) -> Work {
        static IDS: AtomicU32 = AtomicU32::new(1);
        let id = format!("1-{}", IDS.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        let (organisation, work) = (base::OrganisationId::HOUSE, hops::tests::work(n));
        Work { message: Arc::new(Message { id, stream, organisation, ..(*work.message).clone() }), ..work }
    }

    fn find(finder: &Finder, domain: &str) -> Found {
        finder.find(domain, false, work(Stream::Mail, 1))
    }

    fn ask(found: Found) -> Ask {
        match found {
            Found::Ask(ask) => ask,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_may_pass_is_remembered_until_the_first_retry() {
        let (finder, dead) = (Finder::default(), Reply::new(451, 4, 3, "no answer"));
        let first = ask(find(&finder, "dead.test"));
        assert!(!first.failed && matches!(find(&finder, "dead.test"), Found::Asked));
        assert_eq!(finder.answered(&first, Some(&Err(dead.clone()))).len(), 2);
        tokio::time::advance(BAD - Duration::from_secs(1)).await;
        assert!(matches!(find(&finder, "dead.test"), Found::None(reply, _) if reply == dead));
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = ask(find(&finder, "dead.test"));
        assert!(second.failed, "it is asked with little patience");
        finder.answered(
            &second,
            Some(&Ok(Way { hosts: Arc::new(Hosts::of(&["mx.dead.test"])), sts: None, dane: false })),
        );
        assert!(matches!(find(&finder, "dead.test"), Found::Hop(..)));
        tokio::time::advance(GOOD).await;
        let third = ask(find(&finder, "dead.test"));
        assert!(!third.failed, "it answered last time");
        // That there is no such domain the resolver remembers.
        finder.answered(&third, Some(&Err(Reply::new(550, 1, 2, "no such name"))));
        assert!(!ask(find(&finder, "dead.test")).failed);
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_is_told_what_mail_waits_for_and_how_long() {
        let (finder, first, second) = (Finder::default(), work(Stream::Mail, 2), work(Stream::Mail, 1));
        let [one, two] = [&first, &second].map(|work| work.message.id);
        let asked = ask(finder.find("slow.test", false, first));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(matches!(finder.find("slow.test", false, second), Found::Asked));
        let looked = Looked { domain: "slow.test".into(), since: Duration::from_secs(7) };
        assert_eq!(
            [(one, 1), (two, 0)].map(|(id, number)| finder.looks_for(id, number)),
            [(); 2].map(|()| Some(looked.clone()))
        );
        assert_eq!(finder.looks_for(two, 1), None);
        finder.answered(&asked, None);
        assert_eq!(finder.looks_for(one, 0), None);
    }

    #[tokio::test]
    async fn the_end_of_one_question_takes_nothing_from_the_next() {
        let finder = Finder::default();
        let first = ask(find(&finder, "gone.test"));
        assert_eq!(finder.answered(&first, Some(&Err(Reply::new(550, 1, 2, "no such name")))).len(), 1);
        // Before the first task is dropped, there is more for the domain.
        let second = ask(find(&finder, "gone.test"));
        assert_eq!(finder.answered(&first, None).len(), 0);
        assert_eq!(finder.answered(&second, None).len(), 1);
    }

    #[tokio::test]
    async fn what_waits_for_answers_is_bounded_for_each_stream() {
        let finder = Finder::default();
        let asks: Vec<Ask> = (0..WAITING).map(|n| ask(find(&finder, &format!("d{n}.test")))).collect();
        assert!(matches!(find(&finder, "d0.test"), Found::Later(_)));
        assert!(matches!(find(&finder, "new.test"), Found::Later(_)));
        let urgent = work(Stream::Transactional, 9);
        let id = urgent.message.id;
        // Nor does it wait for the turn of marketing's question.
        ask(finder.find("d0.test", false, urgent));
        assert_eq!(finder.take_out(|work| work.message.id == id).len(), 1);
        assert_eq!(finder.lock().waiting.iter().sum::<usize>(), WAITING);
        finder.answered(&asks[0], None);
        ask(find(&finder, "new.test"));
        assert_eq!(finder.drain().len(), WAITING);
        assert_eq!(finder.lock().waiting, [0; 3]);
    }
}
