//! Requests about webhooks: who is told what happens to mail.

use std::path::PathBuf;

use base::{Stream, Timestamp};
use clap::Subcommand;
use net::{Cidr, Https};
use outbox::webhooks::{KEY, shown, test, way};
use queue::log::{self, Filter};
use queue::webhook::{self, State, Webhook};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, read, refused, words, write};
use crate::events;
use crate::house::House;
use crate::organisations::{Names, named};
use crate::outside::Outside;
use crate::receipts::time;

/// Each reads the log for itself.
const MOST: usize = 50;
const HOUR: i64 = 3_600_000;

/// A webhook is told what happens to mail that leaves: a signed request for each event, until it is taken. What is in one, and
/// how to check it, is in docs/events.md.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell somebody, from now on. Prints the key of the signatures, once.
    Add {
        /// https://host/path; http only into networks that the configuration names.
        url: String,
        /// Mail of this organisation.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
        /// mail, transactional or marketing.
        #[arg(long)]
        stream: Option<Stream>,
        /// Like delivery.bounced, or delivery for all that begin so; may be given more than once.
        #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
        types: Vec<String>,
    },
    /// All of them, and how it has gone.
    List,
    /// Tell it no more.
    Remove {
        /// As `list` shows it.
        number: i64,
    },
    /// Let it wait; it goes on where it stands.
    Pause {
        /// As `list` shows it.
        number: i64,
    },
    /// Let it go on, after a pause or when it was disabled; what waits is tried at once.
    Resume {
        /// As `list` shows it.
        number: i64,
    },
    /// Tell it again all that happened since, with the ids that it had.
    Replay {
        /// As `list` shows it.
        number: i64,
        /// 2026-11-22, 2026-11-22T08:00:00Z, or 90m, 24h, 7d ago.
        #[arg(long, value_name = "TIME")]
        since: String,
    },
    /// Make a new key, and print it once. The one before signs too, for a while.
    Rotate {
        /// As `list` shows it.
        number: i64,
        /// For how long.
        #[arg(long, default_value_t = 24)]
        hours: u32,
    },
    /// Send it something now, and say what came of it.
    Test {
        /// As `list` shows it.
        number: i64,
    },
}

/// What is asked of the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// A new one.
    Add { url: String, organisation: Option<String>, stream: Option<String>, types: Vec<String> },
    /// All.
    List,
    /// Away with one.
    Remove { number: i64 },
    /// Not now.
    Pause { number: i64 },
    /// On.
    Resume { number: i64 },
    /// From then on.
    Replay { number: i64, since: String },
    /// A new key.
    Rotate { number: i64, hours: u32 },
    /// Is it there?
    Test { number: i64 },
}

impl From<Command> for Ask {
    fn from(command: Command) -> Self {
        match command {
            Command::Add { url, organisation, stream, types } => {
                Ask::Add { url, organisation, stream: stream.map(|stream| stream.word().to_owned()), types }
            }
            Command::List => Ask::List,
            Command::Remove { number } => Ask::Remove { number },
            Command::Pause { number } => Ask::Pause { number },
            Command::Resume { number } => Ask::Resume { number },
            Command::Replay { number, since } => Ask::Replay { number, since },
            Command::Rotate { number, hours } => Ask::Rotate { number, hours },
            Command::Test { number } => Ask::Test { number },
        }
    }
}

/// Where webhooks may be.
#[derive(Clone, Debug, Default)]
pub struct Where {
    /// Networks of ours.
    pub networks: Vec<Cidr>,
    /// Roots beside Mozilla's.
    pub ca_file: Option<PathBuf>,
}

impl Where {
    /// The way to them.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn way(&self, outside: &Outside) -> Result<Https, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("[webhooks] {e}");
        let roots = outside.roots(self.ca_file.as_ref()).map_err(|e| wrong(&e))?;
        let https = outside.https(&roots).map_err(|e| wrong(&e))?;
        Ok(way(https, self.networks.clone()))
    }
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    let now = house.clock.now();
    match ask {
        Ask::Add { url, organisation, stream, types } => {
            house.webhooks.way(&house.outside)?.accepts(&url).map_err(|e| e.to_string())?;
            let (filter, key) = (events::filter(stream.as_deref(), &types)?, new_key()?);
            write(house, move |tx| {
                let organisation = organisation.as_deref().map(|name| named(tx, name)).transpose()?;
                let filter = Filter { organisation, ..filter.clone() };
                if webhook::all(tx)?.len() >= MOST {
                    return Err(refused(format!("there are {MOST} webhooks already: each reads the log for itself")));
                }
                let number = webhook::add(tx, &url, &filter, &key, now)?;
                Ok(with_key(format!("Webhook {number} is told of what happens from now on"), number, &key))
            })
            .await
        }
        Ask::List => read(house, list).await,
        Ask::Remove { number } => {
            write(house, move |tx| {
                one(tx, number)?;
                webhook::remove(tx, number)?;
                Ok(answer(format!("Webhook {number} is told no more"), number))
            })
            .await
        }
        Ask::Pause { number } => {
            write(house, move |tx| {
                let hook = one(tx, number)?;
                if hook.setup.state == State::On {
                    webhook::stop(tx, number, State::Paused, &hook.record.why)?;
                }
                Ok(answer(format!("Webhook {number} waits"), number))
            })
            .await
        }
        Ask::Resume { number } => {
            write(house, move |tx| {
                if one(tx, number)?.setup.state != State::On {
                    webhook::resume(tx, number, now)?;
                }
                Ok(answer(format!("Webhook {number} goes on where it stands"), number))
            })
            .await
        }
        Ask::Replay { number, since } => write(house, move |tx| replay(tx, number, &since, now)).await,
        Ask::Rotate { number, hours } => {
            let key = new_key()?;
            write(house, move |tx| {
                one(tx, number)?;
                webhook::rotate(tx, number, &key, Timestamp(now.0 + i64::from(hours) * HOUR))?;
                let text = format!("Webhook {number} has a new key; the one before signs too for {hours} hours");
                Ok(with_key(text, number, &key))
            })
            .await
        }
        Ask::Test { number } => {
            let hook = house.store.read(move |tx| one(tx, number)).await.map_err(words)?;
            let id = format!("test_{:016x}", u64::from_be_bytes(random()?));
            let told = test(&house.webhooks.way(&house.outside)?, &hook.setup, &id, now).await;
            let text = match &told {
                Ok(()) => format!("{} took it", hook.setup.url),
                Err(why) => format!("{} did not take it: {why}", hook.setup.url),
            };
            Ok(Answer { good: told.is_ok(), ..Answer::new(text, json!({ "number": number, "why": told.err() })) })
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    directory::system_random(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

fn new_key() -> Result<[u8; KEY], String> {
    random()
}

fn answer(text: String, number: i64) -> Answer {
    Answer::new(text, json!({ "number": number }))
}

fn with_key(text: String, number: i64, key: &[u8]) -> Answer {
    let key = shown(key);
    let text = format!("{text}\nKey   {key}   (shown once)");
    Answer::new(text, json!({ "number": number, "key": key }))
}

fn one(tx: &mut Tx<'_>, number: i64) -> store::Result<Webhook> {
    let found = webhook::all(tx)?.into_iter().find(|hook| hook.id == number);
    found.ok_or_else(|| refused(format!("there is no webhook {number}")))
}

fn replay(tx: &mut Tx<'_>, number: i64, since: &str, now: Timestamp) -> store::Result<Answer> {
    let (hook, from) = (one(tx, number)?, log::since(tx, time(since, now)?)?.position);
    let Webhook { record, .. } = hook;
    if from > record.position {
        return Err(refused(format!("webhook {number} has not come so far yet: it will be told of all since {since}")));
    }
    webhook::replay(tx, number, from)?;
    Ok(answer(format!("Webhook {number} is told again of what happened since {since}"), number))
}

fn list(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (all, last, names) = (webhook::all(tx)?, log::last(tx)?, Names::read(tx)?);
    let (mut text, mut data) = (Vec::new(), Vec::new());
    for hook in &all {
        let waiting = webhook::waiting(tx, hook.id)?.len();
        text.push(line(hook, &names, last, waiting));
        data.push(facts(hook, &names, last, waiting));
    }
    if text.is_empty() {
        text.push("There are no webhooks".into());
    }
    Ok(Answer::new(text.join("\n"), Value::Array(data)))
}

fn line(hook: &Webhook, names: &Names, last: i64, waiting: usize) -> String {
    let Webhook { id, setup, record } = hook;
    let mut text = format!("{id}  {}  {}  {}", setup.state.word(), setup.url, selection(hook, names));
    let numbers = [("taken", record.taken), ("waiting", waiting as u64), ("given up", record.given_up)];
    for (what, n) in numbers {
        text += &format!(", {n} {what}");
    }
    if record.lost > 0 {
        text += &format!(", {} places of the log were gone before it was told", record.lost);
    }
    match (last - record.position).max(0) {
        0 => {}
        behind => text += &format!(", {behind} places of the log behind"),
    }
    if let Some(since) = record.failing {
        text += &format!("\n   took nothing since {}", since.rfc3339());
    }
    if !record.why.is_empty() {
        text += &format!("\n   {}", record.why.replace(['\r', '\n'], " "));
    }
    text
}

fn selection(hook: &Webhook, names: &Names) -> String {
    let filter = &hook.setup.filter;
    let mut parts: Vec<String> = filter.whats.iter().map(|what| what.name().to_owned()).collect();
    if parts.is_empty() {
        parts.push("everything".into());
    }
    parts.extend(filter.stream.map(|stream| format!("of {stream}")));
    parts.extend(filter.organisation.map(|organisation| format!("of {}", names.of(organisation))));
    parts.join(" ")
}

fn facts(hook: &Webhook, names: &Names, last: i64, waiting: usize) -> Value {
    let Webhook { id, setup, record } = hook;
    let when = |at: Option<Timestamp>| at.map(|at| at.rfc3339());
    json!({ "number": id, "url": setup.url, "state": setup.state.word(), "made": setup.made.rfc3339(),
        "types": setup.filter.whats.iter().map(|what| what.name()).collect::<Vec<_>>(),
        "stream": setup.filter.stream.map(|stream| stream.word()),
        "organisation": setup.filter.organisation.map(|organisation| names.of(organisation)),
        "taken": record.taken, "waiting": waiting, "given_up": record.given_up, "lost": record.lost,
        "behind": (last - record.position).max(0), "last_taken": when(record.last_taken),
        "failing_since": when(record.failing), "why": record.why })
}
