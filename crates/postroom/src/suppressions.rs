//! Requests about addresses that nothing is sent to.

use base::{OrganisationId, Stream, Timestamp};
use clap::Subcommand;
use queue::suppression::{self, Suppression};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, parse, read, refused, write};
use crate::house::House;
use crate::organisations;

/// Rows of one answer.
const MOST: u32 = 1000;
const DAY: i64 = 24 * 3600 * 1000;

/// Nothing is sent to an address that is suppressed: the mail ends, and its sender is told. Hard bounces of transactional and
/// marketing mail, and complaints, suppress an address by themselves; people's mail does not.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Suppress an address.
    Add {
        /// Who is not sent to.
        address: String,
        /// Only for mail, transactional or marketing.
        #[arg(long)]
        stream: Option<Stream>,
        /// For so many days; for good without.
        #[arg(long)]
        days: Option<u32>,
        /// Why, for those who look later.
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        /// Whose mail; needed where there are several organisations.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
    },
    /// Let an address be sent to again.
    Remove {
        /// One that `list` shows.
        address: String,
        /// Only for mail, transactional or marketing.
        #[arg(long)]
        stream: Option<Stream>,
        /// Whose mail; needed where there are several organisations.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
    },
    /// What is suppressed, by address; or for one address.
    List {
        /// Only this one.
        address: Option<String>,
        /// Go on behind this address, as the last answer said.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "address")]
        after: Option<String>,
        /// Whose mail; needed where there are several organisations.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
    },
    /// All of them, a line each: JSON, or CSV.
    Export {
        /// Comma-separated values, with a line of names.
        #[arg(long)]
        csv: bool,
        /// Whose mail; needed where there are several organisations.
        #[arg(long, value_name = "NAME")]
        organisation: Option<String>,
    },
}

/// What is asked of the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Suppresses an address.
    Add { address: String, organisation: Option<String>, stream: Option<String>, days: Option<u32>, note: String },
    /// No longer.
    Remove { address: String, organisation: Option<String>, stream: Option<String> },
    /// A page, or what there is of one address.
    List { organisation: Option<String>, address: Option<String>, after: String },
}

impl Command {
    /// None for an export, which is several.
    pub fn ask(self) -> Option<Ask> {
        let word = |stream: Option<Stream>| stream.map(|stream| stream.word().to_owned());
        Some(match self {
            Command::Add { address, stream, days, note, organisation } => {
                Ask::Add { address, organisation, stream: word(stream), days, note }
            }
            Command::Remove { address, stream, organisation } => {
                Ask::Remove { address, organisation, stream: word(stream) }
            }
            Command::List { address, after, organisation } => {
                Ask::List { organisation, address, after: after.unwrap_or_default() }
            }
            Command::Export { .. } => return None,
        })
    }
}

/// Carries a request out.
pub async fn execute(house: &House, ask: Ask) -> Outcome {
    let now = house.clock.now();
    match ask {
        Ask::Add { address, organisation, stream, days, note } => {
            write(house, move |tx| {
                let by = organisations::meant_or_first(tx, organisation.as_deref(), now)?;
                add(tx, by, &address, stream.as_deref(), days, &note, now)
            })
            .await
        }
        Ask::Remove { address, organisation, stream } => {
            write(house, move |tx| {
                let by = organisations::meant_or_first(tx, organisation.as_deref(), now)?;
                remove(tx, by, &address, stream.as_deref())
            })
            .await
        }
        Ask::List { organisation, address, after } => {
            read(house, move |tx| {
                // A read makes none.
                let by = organisations::meant(tx, organisation.as_deref())?.unwrap_or(OrganisationId::HOUSE);
                match address {
                    Some(address) => of(tx, by, &address, now),
                    None => list(tx, by, &after),
                }
            })
            .await
        }
    }
}

fn stream(word: Option<&str>) -> store::Result<Option<Stream>> {
    word.map(|word| word.parse::<Stream>().map_err(|e| refused(e.to_string()))).transpose()
}

fn add(
    tx: &mut Tx<'_>,
    by: OrganisationId,
    address: &str,
    word: Option<&str>,
    days: Option<u32>,
    note: &str,
    now: Timestamp,
) -> store::Result<Answer> {
    let (to, stream) = (parse(address)?, stream(word)?);
    let expires = days.map(|days| Timestamp(now.0 + i64::from(days) * DAY));
    let (reason, note) = ("manual".to_owned(), note.to_owned());
    let address = to.folded();
    let new = Suppression { organisation: by, address, stream, reason, note, evidence: None, since: now, expires };
    suppression::add(tx, &to, &new)?;
    Ok(Answer::new(format!("Suppressed: {}", line(&new)), facts(&new)))
}

fn remove(tx: &mut Tx<'_>, by: OrganisationId, address: &str, word: Option<&str>) -> store::Result<Answer> {
    let (to, stream) = (parse(address)?, stream(word)?);
    match suppression::remove(tx, by, &to, stream)? {
        0 => Err(refused(format!(
            "{address} is not suppressed{}",
            word.map(|w| format!(" for {w}")).unwrap_or_default()
        ))),
        n => Ok(Answer::new(format!("{address} is sent to again"), json!({ "address": address, "removed": n }))),
    }
}

fn of(tx: &mut Tx<'_>, by: OrganisationId, address: &str, now: Timestamp) -> store::Result<Answer> {
    let to = parse(address)?;
    let mut all: Vec<Suppression> = Vec::new();
    for stream in Stream::ALL {
        let found = suppression::find(tx, by, &to, stream, now)?;
        all.extend(found.filter(|found| !all.contains(found)));
    }
    Ok(answer(&all, &format!("{address} is not suppressed"), None))
}

fn list(tx: &mut Tx<'_>, by: OrganisationId, after: &str) -> store::Result<Answer> {
    let all = suppression::page(tx, by, after, MOST)?;
    let next = (all.len() >= MOST as usize).then(|| all.last().map(|last| last.address.clone())).flatten();
    Ok(answer(&all, "No address is suppressed", next))
}

fn answer(all: &[Suppression], nothing: &str, next: Option<String>) -> Answer {
    let more = next.as_ref().map(|next| format!("There are more: --after {next}"));
    let text: Vec<String> = all.iter().map(line).chain(more).collect();
    let text = if text.is_empty() { nothing.to_owned() } else { text.join("\n") };
    Answer::new(text, json!({ "suppressions": all.iter().map(facts).collect::<Vec<_>>(), "next": next }))
}

fn line(s: &Suppression) -> String {
    let stream = s.stream.map_or("all mail", Stream::word);
    let until = s.expires.map(|at| format!(" until {}", at.rfc3339())).unwrap_or_default();
    let evidence = s.evidence.map(|(id, number)| format!(", receipt {id}/{number}")).unwrap_or_default();
    let note = if s.note.is_empty() { String::new() } else { format!(": {}", s.note.replace(['\r', '\n'], " ")) };
    format!("{}  {stream}, since {}{until} ({}){evidence}{note}", s.address, s.since.rfc3339(), s.reason)
}

fn facts(s: &Suppression) -> Value {
    json!({ "address": s.address, "stream": s.stream.map_or("all", Stream::word), "reason": s.reason, "note": s.note,
        "since": s.since.rfc3339(), "until": s.expires.map(|at| at.rfc3339()),
        "receipt": s.evidence.map(|(id, number)| format!("{id}/{number}")) })
}

/// The names of the columns of an export.
pub const COLUMNS: [&str; 7] = ["address", "stream", "reason", "since", "until", "receipt", "note"];
