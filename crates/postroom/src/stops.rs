//! Requests to hold, drain and resume what leaves.

use base::{Stream, Timestamp};
use queue::source::{self, DEFAULT, Setup, Stop, What};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, read, refused, write};
use crate::house::House;
use crate::organisations::{self, Names};

/// What is meant: one of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Named {
    Source(String),
    Site(String),
    Stream(String),
    Domain(String),
    /// All of its mail, or that of a stream.
    Organisation(String, Option<String>),
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Nothing more is begun; with `drains` what stands in line is still sent.
    Stop { what: Named, drains: bool },
    /// It goes on.
    Resume { what: Named },
    /// All that is held or drained.
    List,
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    let now = house.clock.now();
    match ask {
        Ask::Stop { what, drains } => write(house, move |tx| stop(tx, &what, drains, now)).await,
        Ask::Resume { what } => write(house, move |tx| resume(tx, &what, now)).await,
        Ask::List => read(house, |tx| Ok(list(&source::setup(tx)?, &Names::read(tx)?))).await,
    }
}

fn stop(tx: &mut Tx<'_>, named: &Named, drains: bool, now: Timestamp) -> store::Result<Answer> {
    let (setup, names) = (source::setup(tx)?, Names::read(tx)?);
    let what = meant(tx, &setup, named)?;
    source::stop(tx, &what, drains, now)?;
    let name = words(&setup, &names, &what);
    let text = match drains {
        true => format!("Drained: {name}. What stands in line is still sent, nothing more comes; queue resume ends it"),
        false => format!("Held: {name}. Nothing more is begun; queue resume ends it"),
    };
    Ok(Answer::new(text, facts(&setup, &names, &Stop { what, drains, since: now })))
}

fn resume(tx: &mut Tx<'_>, named: &Named, now: Timestamp) -> store::Result<Answer> {
    let (setup, names) = (source::setup(tx)?, Names::read(tx)?);
    let what = meant(tx, &setup, named)?;
    let name = words(&setup, &names, &what);
    match source::resume(tx, &what, now)? {
        true => Ok(Answer::new(format!("Resumed: {name}"), json!({ "resumed": name }))),
        false => Err(refused(format!("{name} is neither held nor drained"))),
    }
}

fn list(setup: &Setup, names: &Names) -> Answer {
    let how = |stop: &Stop| if stop.drains { "drained" } else { "held" };
    let line = |s: &Stop| format!("{:40} {} since {}", words(setup, names, &s.what), how(s), s.since.rfc3339());
    let mut text: Vec<String> = setup.stops.iter().map(line).collect();
    if text.is_empty() {
        text.push("Nothing is held or drained".into());
    }
    Answer::new(text.join("\n"), setup.stops.iter().map(|stop| facts(setup, names, stop)).collect())
}

fn meant(tx: &mut Tx<'_>, setup: &Setup, named: &Named) -> store::Result<What> {
    Ok(match named {
        Named::Source(name) => {
            let source = setup.named(name).ok_or_else(|| refused(format!("there is no source {name}")))?;
            What::Source(source.id)
        }
        Named::Site(name) => What::Site(name.to_ascii_lowercase().into()),
        Named::Stream(word) => What::Stream(stream(word)?),
        Named::Organisation(name, word) => {
            What::Organisation(organisations::named(tx, name)?, word.as_deref().map(stream).transpose()?)
        }
        Named::Domain(name) => {
            let domain = base::domain(name).map_err(|_| refused(format!("{name:?} is no domain")))?;
            What::Domain(domain.into())
        }
    })
}

fn stream(word: &str) -> store::Result<Stream> {
    word.parse().map_err(|e: base::BadStream| refused(e.to_string()))
}

/// For people.
pub fn words(setup: &Setup, names: &Names, what: &What) -> String {
    match what {
        What::Source(id) => {
            let name = setup.sources.iter().find(|s| s.id == *id).map_or(DEFAULT, |s| &s.name);
            format!("the source {name}")
        }
        What::Site(name) => format!("the site {name}"),
        What::Stream(stream) => format!("the stream {stream}"),
        What::Domain(name) => format!("mail to {name}"),
        What::Organisation(id, None) => format!("all mail of {}", names.of(*id)),
        What::Organisation(id, Some(stream)) => format!("the stream {stream} of {}", names.of(*id)),
    }
}

/// A sentence, as far as who did what.
pub fn said(setup: &Setup, names: &Names, stop: &Stop) -> String {
    let how = if stop.drains { "drained" } else { "held" };
    let (what, since) = (words(setup, names, &stop.what), stop.since.rfc3339());
    format!("An administrator of this server {how} {what} at {since}")
}

fn facts(setup: &Setup, names: &Names, stop: &Stop) -> Value {
    json!({ "what": words(setup, names, &stop.what), "drains": stop.drains, "since": stop.since.rfc3339() })
}
