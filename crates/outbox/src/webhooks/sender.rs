//! Tells one webhook what happens, until it is set up otherwise or the server stops.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use directory::Random;
use net::{Https, Told};
use queue::log::{self, Page};
use queue::webhook::{self, AllWaiting, Setup, State, Webhook};
use store::{Store, Tx};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::tell;
use super::window::{At, Failure, Fate, Window};
use crate::schedule::millis;
use crate::wish::wish;

/// Lines of a page: when there are so many, no further batch is unpacked.
const LINES: usize = 256;
/// From one look at the log to the next, when there was nothing new.
const LOOK: Duration = Duration::from_millis(250);
/// How often it is written down how far it has come: so much is told twice after a crash.
const NOTED: Duration = Duration::from_secs(1);
/// What is on its way at the end is waited for so long.
const DRAIN: Duration = Duration::from_secs(5);
/// After the store failed.
const PAUSE: Duration = Duration::from_secs(5);

/// What it takes to tell one.
pub(super) struct Sender {
    pub(super) store: Store,
    pub(super) epoch: i64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) https: Https,
    pub(super) random: Random,
    pub(super) stopping: watch::Receiver<bool>,
}

/// What came of a request.
type Landed = (At, std::io::Result<Told>);

/// The state of one webhook.
struct Course {
    id: i64,
    setup: Arc<Setup>,
    window: Window,
    flights: JoinSet<Landed>,
    /// What is written down of what waits.
    stored: AllWaiting,
    /// Something happened since it was.
    changed: bool,
    noted: Instant,
    /// Why it is to be disabled.
    over: Option<String>,
}

impl Sender {
    pub(super) async fn run(mut self, hook: Webhook) {
        let id = hook.id;
        match self.begin(hook).await {
            Ok(Some(mut course)) => {
                if self.drive(&mut course).await {
                    self.leave(course).await;
                }
            }
            // Another node tells it.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(webhook = id, %error, "it cannot be read where a webhook stands");
                let _ = timeout(PAUSE, self.stopping.wait_for(|stop| *stop)).await;
            }
        }
    }

    /// Reads where it stands; none when another has it.
    async fn begin(&self, hook: Webhook) -> store::Result<Option<Course>> {
        let (id, epoch) = (hook.id, self.epoch);
        if self.store.read(move |tx| webhook::is_held(tx, id, epoch)).await?
            || !self.store.write(move |tx| webhook::hold(tx, id, epoch)).await?
        {
            return Ok(None);
        }
        let read = move |tx: &mut Tx<'_>| {
            // As whoever had it before has left it.
            let Some(hook) = webhook::all(tx)?.into_iter().find(|hook| hook.id == id) else { return Ok(None) };
            let (mut window, stored) = (Window::new(&hook.record), webhook::waiting(tx, id)?);
            let places: Vec<_> = stored.keys().copied().collect();
            for (waiting, line) in stored.values().zip(log::lines(tx, &places)?) {
                match line {
                    Some(line) => window.restore(&line, *waiting),
                    None => window.is_gone(),
                }
            }
            Ok(Some((hook.setup, window, stored)))
        };
        let course = |(setup, window, stored)| Course {
            id,
            setup: Arc::new(setup),
            window,
            flights: JoinSet::new(),
            stored,
            changed: false,
            noted: Instant::now(),
            over: None,
        };
        Ok(self.store.read(read).await?.map(course))
    }

    /// Until the end; false when it is another's, or stands elsewhere.
    async fn drive(&mut self, course: &mut Course) -> bool {
        let mut look = Instant::now();
        while course.over.is_none() {
            if look <= Instant::now() {
                look = Instant::now() + self.read_on(course).await;
            }
            while let Some((at, id, body)) = course.window.begin(self.clock.now()) {
                let (https, setup, now) = (self.https.clone(), course.setup.clone(), self.clock.now());
                course.flights.spawn(async move { (at, tell(&https, &setup, &id, &body, now).await) });
            }
            if course.changed && course.noted + NOTED <= Instant::now() && !self.note(course).await {
                return false;
            }
            let wakes = course.window.wakes().map(|wakes| {
                let wait = (wakes.0 - self.clock.now().0).clamp(0, millis(NOTED)) as u64;
                Instant::now() + Duration::from_millis(wait)
            });
            let landed = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|stop| *stop) => return true,
                landed = course.flights.join_next(), if !course.flights.is_empty() => landed,
                () = sleep_until(wakes.unwrap_or(look).min(look)) => None,
            };
            if let Some(landed) = landed {
                self.land(course, landed);
            }
        }
        true
    }

    /// Reads the log on, if there is room; gives how long to wait before the next time.
    async fn read_on(&self, course: &mut Course) -> Duration {
        let Some(from) = course.window.wants() else { return LOOK };
        let filter = course.setup.filter.clone();
        match self.store.read(move |tx| log::read(tx, from, &filter, LINES)).await {
            Ok(Page { lines, next, more, lost }) => {
                if lost > 0 {
                    let (webhook, places) = (course.id, lost);
                    tracing::warn!(
                        webhook,
                        places,
                        "events were kept no longer than it took to tell a webhook of them"
                    );
                }
                course.changed |= next != from;
                course.window.read(&lines, next, lost);
                if more { Duration::ZERO } else { LOOK }
            }
            Err(error) => {
                tracing::warn!(webhook = course.id, %error, "the log cannot be read");
                PAUSE
            }
        }
    }

    /// What came of a request.
    fn land(&self, course: &mut Course, landed: Result<Landed, tokio::task::JoinError>) {
        let Ok((at, told)) = landed else { return };
        let now = self.clock.now();
        course.changed = true;
        let (failure, why) = match told {
            Ok(Told { status: 200..300, .. }) => return course.window.taken(at, now),
            Ok(Told { status: 410, .. }) => {
                course.over = Some("it answered 410: it is gone".into());
                (Failure::Refused, "it answered 410".to_owned())
            }
            Ok(Told { status: status @ (429 | 500..600), retry_after, .. }) => {
                let wished = retry_after.and_then(|text| wish(&text, now));
                (Failure::Down(wished), format!("it answered {status}"))
            }
            Ok(Told { status, .. }) => (Failure::Refused, format!("it answered {status}")),
            Err(error) => (Failure::Down(None), error.to_string()),
        };
        tracing::debug!(webhook = course.id, why, "an event was not taken");
        match course.window.failed(at, failure, why.clone(), now, self.chance()) {
            Fate::Again => {}
            Fate::GivenUp => {
                let (webhook, place) = (course.id, format!("{}.{}", at.0, at.1));
                tracing::warn!(webhook, place, why, "a webhook did not take an event for days: it is given up");
            }
            Fate::Hopeless => course.over = Some(format!("it took nothing for days: {why}")),
        }
    }

    fn chance(&self) -> u64 {
        let mut bytes = [0; 8];
        // Without randomness tries are not spread, which does no harm.
        let _ = (self.random)(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Writes down how far it has come; false when it is another's, or stands elsewhere.
    async fn note(&self, course: &mut Course) -> bool {
        let (record, all) = course.window.stands();
        let key = (course.id, self.epoch, course.setup.generation);
        let is_new = |(at, waiting): &(&At, &webhook::Waiting)| course.stored.get(at) != Some(waiting);
        let new: AllWaiting = all.iter().filter(is_new).map(|(at, waiting)| (*at, *waiting)).collect();
        let gone: Vec<At> = course.stored.keys().filter(|at| !all.contains_key(at)).copied().collect();
        let said = record.clone();
        let work = move |tx: &mut Tx<'_>| webhook::progress(tx, key, &said, &new, &gone);
        course.noted = Instant::now();
        match self.store.write(work).await {
            Ok(true) => {
                course.window.written(&record);
                (course.stored, course.changed) = (all, false);
                true
            }
            Ok(false) => false,
            Err(error) => {
                tracing::warn!(webhook = course.id, %error, "it cannot be written how far a webhook has come");
                true
            }
        }
    }

    /// The end: what is on its way gets some time, and all is written down.
    async fn leave(&self, mut course: Course) {
        let last = Instant::now() + DRAIN;
        while let Ok(Some(landed)) = timeout_at(last, course.flights.join_next()).await {
            self.land(&mut course, landed);
        }
        if !self.note(&mut course).await {
            return;
        }
        let (id, epoch, over) = (course.id, self.epoch, course.over);
        if let Some(why) = &over {
            tracing::warn!(
                webhook = id,
                why,
                "a webhook is disabled; `postroom webhook resume` lets it go on where it stands"
            );
        }
        let work = move |tx: &mut Tx<'_>| {
            if let Some(why) = &over {
                webhook::stop(tx, id, State::Disabled, why)?;
            }
            webhook::let_go(tx, id, epoch)
        };
        if let Err(error) = self.store.write(work).await {
            tracing::warn!(webhook = id, %error, "a webhook cannot be let go");
        }
    }
}
