//! Webhooks: whoever is to be told what happens to mail is sent it, signed, in order, until it is taken (docs/events.md).
//!
//! A webhook reads the log behind its own cursor, so that none is in the way of mail or of another. `window` knows what is on its
//! way and in which order, `sender` drives it, `sign` signs.

mod sender;
mod sign;
mod window;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Timestamp};
use directory::Random;
use net::{Cidr, Deadline, Https, Told};
use queue::webhook::{self, Setup, State, Webhook};
use store::Store;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use sender::Sender;
pub use sign::{KEY, shown};

/// From one look for webhooks that were set up otherwise to the next.
const LOOK: Duration = Duration::from_secs(1);
/// How long one may take to answer (Standard Webhooks: 15 to 30 seconds).
const PATIENCE: Duration = Duration::from_secs(20);

/// The way to webhooks: public addresses, and those of networks of ours that they may be in.
pub fn way(https: Https, ours: Vec<Cidr>) -> Https {
    https.public_and(ours)
}

/// Tells webhooks. One for the whole server.
pub struct Webhooks {
    /// The store.
    pub store: Store,
    /// In whose name.
    pub epoch: i64,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The way to them.
    pub https: Https,
    /// Randomness.
    pub random: Random,
}

/// A webhook that is told.
struct Running {
    setup: Setup,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Webhooks {
    /// Until `stop` is done; then what is on its way comes to its end, for some seconds.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut running = HashMap::<i64, Running>::new();
        let look = async {
            loop {
                match self.store.read(webhook::all).await {
                    Ok(all) => self.follow(&mut running, all),
                    Err(error) => tracing::warn!(%error, "webhooks cannot be read"),
                }
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            () = pin!(stop) => {}
            () = look => {}
        }
        for one in running.values() {
            let _ = one.stop.send(true);
        }
        for one in running.into_values() {
            let _ = one.task.await;
        }
    }

    /// Ends those that are to be told no more or otherwise, and begins with those that are not told yet.
    fn follow(&self, running: &mut HashMap<i64, Running>, all: Vec<Webhook>) {
        running.retain(|id, one| {
            if !all.iter().any(|hook| hook.id == *id && hook.setup == one.setup) {
                let _ = one.stop.send(true);
            }
            !one.task.is_finished()
        });
        for hook in all {
            if hook.setup.state == State::On && !running.contains_key(&hook.id) {
                let (stop, stopping) = watch::channel(false);
                let (id, setup) = (hook.id, hook.setup.clone());
                let sender = Sender {
                    store: self.store.clone(),
                    epoch: self.epoch,
                    clock: self.clock.clone(),
                    https: self.https.clone(),
                    random: self.random,
                    stopping,
                };
                running.insert(id, Running { setup, stop, task: tokio::spawn(sender.run(hook)) });
            }
        }
    }
}

/// Sends a webhook something now, to see whether it takes it.
///
/// # Errors
/// In words, why it did not.
pub async fn test(https: &Https, setup: &Setup, id: &str, now: Timestamp) -> Result<(), String> {
    let stamp = now.rfc3339_millis();
    let body = format!("{{\"type\":\"webhook.test\",\"timestamp\":\"{stamp}\",\"data\":{{}}}}");
    match tell(https, setup, id, &body, now).await {
        Ok(told) if (200..300).contains(&told.status) => Ok(()),
        Ok(told) => Err(format!("it answered {}", told.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// One request (Standard Webhooks, "Webhook headers").
async fn tell(https: &Https, setup: &Setup, id: &str, body: &str, now: Timestamp) -> std::io::Result<Told> {
    let (seconds, signature) = (now.secs().to_string(), sign::header(setup, id, now, body));
    let fields = [
        ("content-type", "application/json"),
        ("user-agent", "Postroom"),
        ("webhook-id", id),
        ("webhook-timestamp", &seconds),
        ("webhook-signature", &signature),
    ];
    https.tell(&setup.url, &fields, body.as_bytes().to_vec(), 0, Deadline::after(PATIENCE)).await
}
