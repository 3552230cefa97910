//! Requests about addresses that nothing is sent to.

use base::{OrganisationId, Stream, Timestamp};
use clap::{Args, Subcommand};
use queue::suppression::{self, Suppression};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Store, Tx};

use crate::admin::{Answer, Outcome, has, parse, refused, words, write};
use crate::house::House;
use crate::organisations;

/// Rows of one answer.
const MOST: u32 = 1000;
/// Pages that one answer looks at: beyond, it says where to go on.
const READS: usize = 100;
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
    /// What is suppressed, by address; or for one address. Of many it looks at 100,000, and says where to go on.
    List {
        /// Only this one.
        address: Option<String>,
        /// Go on behind this address, as the last answer said.
        #[arg(long, value_name = "ADDRESS", conflicts_with = "address")]
        after: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// All of them, a line each: JSON, or CSV.
    Export {
        #[command(flatten)]
        which: Which,
        /// Comma-separated values, with a line of names.
        #[arg(long)]
        csv: bool,
    },
}

/// All that is given must hold. There is no index for it: all of the organisation's are looked at, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
pub struct Which {
    /// With this in the address; @DOMAIN: all of that domain.
    #[arg(long, value_name = "PART|@DOMAIN")]
    address_part: Option<String>,
    /// manual, complaint, or the class of the refusal, like no-such-user.
    #[arg(long)]
    reason: Option<String>,
    /// That keeps back this stream: it alone, or all mail.
    #[arg(long, value_parser = Stream::ALL.map(Stream::word))]
    stream: Option<String>,
    /// Whose mail; needed where there are several organisations.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
}

impl Which {
    fn has(&self, s: &Suppression) -> bool {
        let is_in = |part: &str| match part.strip_prefix('@') {
            Some(domain) => s.address.rsplit('@').next() == Some(&*domain.to_lowercase()),
            None => has(&s.address, Some(part)),
        };
        self.address_part.as_deref().is_none_or(is_in)
            && self.reason.as_ref().is_none_or(|reason| *reason == s.reason)
            && self.stream.as_ref().is_none_or(|stream| s.stream.is_none_or(|of| of.word() == stream))
    }

    fn is_all(&self) -> bool {
        *self == Which { organisation: self.organisation.clone(), ..Which::default() }
    }
}

/// What is asked of the server.
#[derive(Debug, Serialize, Deserialize)]
pub enum Ask {
    /// Suppresses an address.
    Add { address: String, organisation: Option<String>, stream: Option<String>, days: Option<u32>, note: String },
    /// No longer.
    Remove { address: String, organisation: Option<String>, stream: Option<String> },
    /// A page, or what there is of one address.
    List { which: Which, address: Option<String>, after: String },
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
            Command::List { address, after, which } => Ask::List { which, address, after: after.unwrap_or_default() },
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
        Ask::List { which, address, after } => {
            let name = which.organisation.clone();
            // A read makes none.
            let by = move |tx: &mut Tx<'_>| organisations::meant(tx, name.as_deref());
            let by = house.store.read(by).await.map_err(words)?.unwrap_or(OrganisationId::HOUSE);
            match address {
                Some(address) => house.store.read(move |tx| of(tx, by, &address, &which, now)).await.map_err(words),
                None => list(&house.store, by, &which, after).await.map_err(words),
            }
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

fn of(tx: &mut Tx<'_>, by: OrganisationId, address: &str, which: &Which, now: Timestamp) -> store::Result<Answer> {
    let to = parse(address)?;
    let mut all: Vec<Suppression> = Vec::new();
    for stream in Stream::ALL {
        let found = suppression::find(tx, by, &to, stream, now)?;
        all.extend(found.filter(|found| which.has(found) && !all.contains(found)));
    }
    let so = if which.is_all() { "" } else { " like that" };
    Ok(answer(&all, &format!("{address} is not suppressed{so}"), None))
}

/// In steps, so that no read is long.
async fn list(store: &Store, by: OrganisationId, which: &Which, after: String) -> store::Result<Answer> {
    let (mut all, mut next) = (Vec::new(), Some(after));
    for _ in 0..READS {
        let Some(after) = next.take() else { break };
        let page = store.read(move |tx| suppression::page(tx, by, &after, MOST)).await?;
        next = page.last().filter(|_| page.len() >= MOST as usize).map(|last| last.address.clone());
        all.extend(page.into_iter().filter(|found| which.has(found)));
        if all.len() >= MOST as usize {
            break;
        }
    }
    let nothing = if which.is_all() { "No address is suppressed" } else { "No address is suppressed like that" };
    Ok(answer(&all, nothing, next))
}

fn answer(all: &[Suppression], nothing: &str, next: Option<String>) -> Answer {
    let more = next.as_ref().map(|next| format!("There may be more: --after {next}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_looked_for_are_found_among_many_by_pages() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (us, at) = (OrganisationId(1), Timestamp(1));
        for bed in testkit::engines() {
            let store = bed.open(&[queue::MIGRATIONS]);
            let new = move |stream: Option<Stream>, reason: &str| Suppression {
                organisation: us,
                address: String::new(),
                stream,
                reason: reason.into(),
                note: String::new(),
                evidence: None,
                since: at,
                expires: None,
            };
            let work = move |tx: &mut Tx<'_>| {
                let mut add = |to: &str, stream, reason| suppression::add(tx, &parse(to)?, &new(stream, reason));
                add("Jane@b.test", None, "manual")?;
                add("zoe@b.test", Some(Stream::Marketing), "no-such-user")?;
                add("zoe@b.test", Some(Stream::Transactional), "no-such-user")?;
                (0..2500).try_for_each(|n| add(&format!("u{n}@sub.b.test.example"), None, "complaint"))
            };
            store.write_blocking(work).unwrap();
            let list = |which: Which, after: &str| {
                let answer = runtime.block_on(list(&store, us, &which, after.into())).unwrap();
                let found = answer.data["suppressions"].as_array().unwrap().clone();
                let found: Vec<String> = found.iter().map(|one| one["address"].as_str().unwrap().into()).collect();
                (found, answer.data["next"].as_str().map(str::to_owned))
            };
            let some = |text: &str| Some(text.to_owned());
            let (jane, zoe) = ("jane@b.test", "zoe@b.test");
            for (which, expected) in [
                (Which { address_part: some("@B.test"), ..Which::default() }, vec![jane, zoe, zoe]),
                (Which { address_part: some("ZOE"), ..Which::default() }, vec![zoe, zoe]),
                (Which { reason: some("manual"), ..Which::default() }, vec![jane]),
                (Which { stream: some("marketing"), address_part: some("e@"), ..Which::default() }, vec![jane, zoe]),
                (Which { stream: some("mail"), reason: some("no-such-user"), ..Which::default() }, vec![]),
            ] {
                let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
                assert_eq!(list(which.clone(), ""), (expected, None), "{which:?}, {}", bed.name());
            }
            // What is found ends a list, and where it goes on is said.
            let (first, next) = list(Which { reason: some("complaint"), ..Which::default() }, "");
            let (second, _) = list(Which { reason: some("complaint"), ..Which::default() }, &next.unwrap());
            assert!(first.len() >= 1000 && first.last() < second.first(), "{}", bed.name());
        }
    }
}
