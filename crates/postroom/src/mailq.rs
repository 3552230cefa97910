//! Requests about mail on its way out: the queue.

use std::fmt::Write;
use std::ops::Range;

use base::Stream;
use clap::Args;
use queue::{Cancelled, Content, Message, Party, Place, QueueId, Sought, Standing, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, refused, words};
use crate::house::House;
use crate::{organisations, receipts};

/// Deliveries that a page of an export has, and those of one read.
const PAGE: usize = 1000;
const TOGETHER: usize = 500;
/// Reads of one search: beyond, it says where to go on.
const READS: usize = 500;

/// All that is given must hold.
#[derive(Clone, Debug, Default, Args, Serialize, Deserialize)]
pub struct Which {
    /// To this address, or to a domain.
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    to: Option<String>,
    /// Of this sender (of the envelope), or of a domain's.
    #[arg(long, value_name = "ADDRESS|@DOMAIN")]
    from: Option<String>,
    /// mail, transactional or marketing.
    #[arg(long)]
    stream: Option<String>,
    /// Of this organisation.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// waiting, claimed (being sent, or in line for it), held (cannot be read) or cancelling; delivered, failed or cancelled: the report to
    /// its sender is on the way, or others have the same mail before them.
    #[arg(long)]
    state: Option<String>,
}

/// `ADDRESS` or `@DOMAIN`.
pub fn party(text: &str) -> Party {
    match text.strip_prefix('@') {
        Some(domain) => Party::Domain(domain.to_owned()),
        None => Party::Address(text.trim_matches(['<', '>']).to_owned()),
    }
}

/// A delivery that was found; what is wrong, where it cannot be read.
type One = (Place, store::Result<(Message, Standing)>);

impl Which {
    fn sought(&self, tx: &mut Tx<'_>) -> store::Result<Sought> {
        let stream = self.stream.as_deref().map(|word| word.parse::<Stream>().map_err(|e| refused(e.to_string())));
        let state = self.state.as_deref().map(|word| {
            let known = "waiting, claimed, held, cancelling, delivered, failed or cancelled";
            State::from_word(word).ok_or_else(|| refused(format!("{word}: {known}")))
        });
        Ok(Sought {
            to: self.to.as_deref().map(party),
            from: self.from.as_deref().map(party),
            stream: stream.transpose()?,
            organisation: self.organisation.as_deref().map(|name| organisations::named(tx, name)).transpose()?,
            state: state.transpose()?,
        })
    }

    fn is_all(&self) -> bool {
        let Which { to, from, stream, organisation, state } = self;
        [to, from, stream, organisation, state].iter().all(|given| given.is_none())
    }
}

/// At most `limit` deliveries behind `after`, and where to go on: in steps, so that no read is long.
async fn look(
    house: &House,
    which: &Which,
    mut after: Option<Place>,
    limit: usize,
) -> Result<(Vec<One>, Option<Place>), String> {
    let mut found: Vec<One> = Vec::new();
    for _ in 0..READS {
        let (which, n) = (which.clone(), TOGETHER.min(limit - found.len()));
        let some = move |tx: &mut Tx<'_>| {
            let sought = which.sought(tx)?;
            let page = queue::search(tx, &sought, after, n)?;
            let mut all = Vec::with_capacity(page.all.len());
            for (id, number) in page.all {
                match queue::show_one(tx, id, number) {
                    // It has ended, but for its report.
                    Ok(None) => {}
                    Ok(Some(one)) => all.push(((id, number), Ok(one))),
                    // One that is damaged hides no other.
                    Err(e @ store::Error::Corrupt(_)) => all.push(((id, number), Err(e))),
                    Err(e) => return Err(e),
                }
            }
            Ok((all, page.next))
        };
        let (all, next) = house.store.read(some).await.map_err(words)?;
        found.extend(all);
        after = next;
        if after.is_none() || found.len() >= limit {
            break;
        }
    }
    Ok((found, after))
}

/// What is in the queue, the oldest first: by message, with those of its recipients that were looked for.
pub async fn list(house: &House, which: Which, after: Option<String>, limit: usize) -> Outcome {
    let after = after.as_deref().map(receipts::place).transpose()?;
    let (found, next) = look(house, &which, after, limit.max(1)).await?;
    let (mut text, mut data) = (String::new(), Vec::new());
    for of_message in found.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
        let read: Vec<_> = of_message.iter().filter_map(|(_, one)| one.as_ref().ok()).collect();
        if let Some((message, _)) = read.first() {
            let all: Vec<&Standing> = read.iter().map(|(_, d)| d).collect();
            describe(&mut text, message, &all);
            data.push(facts(message, &all));
        }
        if let Some(((id, _), Err(e))) = of_message.iter().find(|(_, one)| one.is_err()) {
            let _ = writeln!(text, "{id}  cannot be read ({e}): postroom queue cancel {id} removes it");
            data.push(json!({ "id": id.to_string(), "error": e.to_string() }));
        }
    }
    match next {
        Some((id, number)) => drop(write!(text, "There may be more: --after {id}/{number}")),
        None if found.is_empty() && after.is_none() && which.is_all() => text.push_str("The queue is empty"),
        None if found.is_empty() => text.push_str("Nothing like that is in the queue"),
        None => {}
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

/// The names of the columns of an export.
pub const COLUMNS: [&str; 15] = [
    "id",
    "number",
    "to",
    "from",
    "stream",
    "state",
    "accepted",
    "due",
    "expires",
    "attempts",
    "uncertain",
    "class",
    "status",
    "host",
    "reply",
];

/// A page of an export: a row for each delivery.
pub async fn page(house: &House, which: Which, after: Option<String>) -> Outcome {
    let after = after.as_deref().map(receipts::place).transpose()?;
    let (found, next) = look(house, &which, after, PAGE).await?;
    let row = |((id, number), one): &One| match one {
        Ok((m, d)) => {
            let mut row = standing(d);
            row["id"] = id.to_string().into();
            row["number"] = (*number).into();
            row["from"] = m.from.as_ref().map(ToString::to_string).unwrap_or_default().into();
            row["stream"] = m.stream.word().into();
            row["accepted"] = m.created.rfc3339().into();
            row
        }
        Err(e) => json!({ "id": id.to_string(), "number": number, "error": e.to_string() }),
    };
    let next = next.map(|(id, number)| format!("{id}/{number}"));
    Ok(Answer::new("", json!({ "queue": found.iter().map(row).collect::<Vec<_>>(), "next": next })))
}

/// One message.
pub async fn show(house: &House, id: String) -> Outcome {
    let id = number(&id)?;
    let one = move |tx: &mut Tx<'_>| {
        let (message, deliveries) = queue::show(tx, id)?.ok_or_else(|| gone(id))?;
        let (mut text, all) = (String::new(), deliveries.iter().collect::<Vec<_>>());
        describe(&mut text, &message, &all);
        Ok(Answer::new(text.trim_end(), facts(&message, &all)))
    };
    house.store.read(one).await.map_err(words)
}

/// What is to be tried now, or cancelled: a message, or all that is looked for.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Meant {
    /// A number like 3-1f, as `list` shows it; without it, all that is looked for.
    #[arg(conflicts_with_all = ["to", "from", "stream", "organisation", "state"])]
    id: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Meant {
    fn one(self) -> Result<Result<QueueId, Which>, String> {
        match self.id {
            Some(id) => number(&id).map(Ok),
            None if self.which.is_all() => {
                Err("say which: a number like 3-1f, or --to, --from, --stream, --organisation or --state".into())
            }
            None => Ok(Err(self.which)),
        }
    }
}

/// Deliveries that one job changes, where each may be of a message of its own.
const CHANGED: usize = 64;

impl Which {
    /// Changes all that is looked for, in jobs of which none is long: `change` is given deliveries of one message that follow each other.
    async fn each<T: Send + 'static>(
        &self,
        house: &House,
        change: impl Fn(&mut Tx<'_>, QueueId, Range<u32>) -> store::Result<T> + Clone + Send + 'static,
        mut done: impl FnMut(T),
    ) -> Result<(), String> {
        let mut after = None;
        loop {
            let (which, change) = (self.clone(), change.clone());
            let some = move |tx: &mut Tx<'_>| {
                let sought = which.sought(tx)?;
                queue::search(tx, &sought, after, CHANGED)
            };
            let page = house.store.read(some).await.map_err(words)?;
            after = page.next;
            let all = move |tx: &mut Tx<'_>| {
                let runs = page.all.chunk_by(|(a, n), (b, m)| a == b && n + 1 == *m);
                let run = |run: &[Place]| Some((run.first()?.0, run.first()?.1..run.last()?.1 + 1));
                runs.filter_map(run).map(|(id, numbers)| change(tx, id, numbers)).collect::<store::Result<Vec<T>>>()
            };
            house.store.write(all).await.map_err(words)?.into_iter().for_each(&mut done);
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Tries a message now, or all that is looked for.
pub async fn retry(house: &House, meant: Meant) -> Outcome {
    let (now, mut due) = (house.clock.now(), 0);
    match meant.one()? {
        Ok(id) => retry_message(house, id).await,
        Err(which) => {
            which.each(house, move |tx, id, these| queue::retry_between(tx, id, these, now), |n| due += n).await?;
            Ok(Answer::new(format!("{} due now", deliveries(due)), json!({ "due": due })))
        }
    }
}

/// Takes back what was not sent yet, of a message or of all that is looked for.
pub async fn cancel(house: &House, meant: Meant) -> Outcome {
    let (now, mut all) = (house.clock.now(), [0; 3]);
    match meant.one()? {
        Ok(id) => cancel_message(house, id).await,
        Err(which) => {
            let add = |done: Cancelled| all = plus(all, done);
            which.each(house, move |tx, id, these| queue::cancel_between(tx, id, these, now), add).await?;
            Ok(cancelled(None, all))
        }
    }
}

/// Makes it due in jobs of which none is long.
async fn retry_message(house: &House, id: QueueId) -> Outcome {
    let now = house.clock.now();
    let (mut due, mut from) = (0, 0);
    loop {
        let some = move |tx: &mut Tx<'_>| {
            // It may end while some of it is made due.
            if from == 0 {
                known(tx, id)?;
            }
            queue::retry(tx, id, from, now)
        };
        let done = house.store.write(some).await.map_err(words)?;
        due += done.due;
        match done.next {
            Some(next) => from = next,
            None => break,
        }
    }
    Ok(Answer::new(format!("{id}: {} due now", deliveries(due)), json!({ "id": id.to_string(), "due": due })))
}

/// In jobs of which none is long.
async fn cancel_message(house: &House, id: QueueId) -> Outcome {
    let (now, mut all, mut from) = (house.clock.now(), [0; 3], 0);
    loop {
        let some = move |tx: &mut Tx<'_>| {
            // It may have ended with what is cancelled already.
            if from == 0 {
                known(tx, id)?;
            }
            queue::cancel(tx, id, from, now)
        };
        let done = house.store.write(some).await.map_err(words)?;
        all = plus(all, done);
        match done.next {
            Some(next) => from = next,
            None => return Ok(cancelled(Some(id), all)),
        }
    }
}

fn plus([cancelled, under_way, reports]: [u64; 3], done: Cancelled) -> [u64; 3] {
    [cancelled + done.cancelled, under_way + done.under_way, reports + done.reports]
}

fn cancelled(id: Option<QueueId>, [cancelled, under_way, reports]: [u64; 3]) -> Answer {
    let mut text = id.map_or(String::new(), |id| format!("{id}: "));
    let _ = write!(text, "{} cancelled", deliveries(cancelled));
    if under_way > 0 {
        let _ = write!(text, ", {} under way: cancelled unless this attempt arrives", deliveries(under_way));
    }
    if reports > 0 {
        let _ = write!(text, ", {reports} reports dropped");
    }
    let id = id.map(|id| id.to_string());
    Answer::new(text, json!({ "id": id, "cancelled": cancelled, "under_way": under_way, "reports": reports }))
}

fn deliveries(n: u64) -> String {
    if n == 1 { "1 delivery".into() } else { format!("{n} deliveries") }
}

fn number(text: &str) -> Result<QueueId, String> {
    text.parse().map_err(|e: queue::BadQueueId| format!("{text:?}: {e}"))
}

/// Needs no row to be readable.
fn known(tx: &mut Tx<'_>, id: QueueId) -> store::Result<()> {
    if queue::exists(tx, id)? { Ok(()) } else { Err(gone(id)) }
}

fn gone(id: QueueId) -> store::Error {
    refused(format!("there is no message {id} in the queue: it is finished, or never was"))
}

/// Its sender wants it to leave later (RFC 4865).
pub fn is_held_back(m: &Message, d: &Standing) -> bool {
    d.state == State::Waiting && d.delivery.attempts == 0 && m.release == Some(d.due)
}

fn describe(text: &mut String, m: &Message, all: &[&Standing]) {
    let from = m.from.as_ref().map(ToString::to_string).unwrap_or_default();
    let stream = if m.stream == Stream::Mail { String::new() } else { format!(", {}", m.stream) };
    let size = match m.content {
        Content::Stored(_) => format!("{} octets", m.octets),
        Content::Made(_) => "made when it leaves".into(),
    };
    let _ = writeln!(text, "{}  from <{from}>, {size}, since {}{stream}", m.id, m.created.rfc3339());
    for d in all {
        let _ = write!(text, "    to <{}>: {}", d.delivery.to, d.state.word());
        match d.state {
            State::Waiting if is_held_back(m, d) => {
                let _ = write!(text, " for the time it is to leave, {}", d.due.rfc3339());
            }
            State::Waiting => drop(write!(text, " until {}", d.due.rfc3339())),
            _ if !d.owed.is_nothing() => text.push_str(", its report is on the way"),
            _ => {}
        }
        if d.delivery.attempts > 0 {
            let _ = write!(text, ", {} attempts", d.delivery.attempts);
        }
        if d.delivery.uncertain > 0 {
            let _ = write!(text, ", {} of unknown outcome", d.delivery.uncertain);
        }
        text.push('\n');
        if !d.reply.is_empty() {
            let host = if d.host.is_empty() { "this server" } else { &d.host };
            let _ = writeln!(text, "        {host}: {}", d.reply.replace('\n', " "));
        }
    }
}

fn facts(m: &Message, all: &[&Standing]) -> Value {
    json!({ "id": m.id.to_string(), "from": m.from.as_ref().map(ToString::to_string), "octets": m.octets,
        "created": m.created.rfc3339(), "stream": m.stream.word(),
        "priority": m.priority, "release": m.release.map(|at| at.rfc3339()),
        "deliver_by": m.deliver_by.map(|by| by.until.rfc3339()),
        "recipients": all.iter().map(|d| standing(d)).collect::<Vec<_>>() })
}

fn standing(d: &Standing) -> Value {
    json!({ "to": d.delivery.to.to_string(), "state": d.state.word(), "attempts": d.delivery.attempts,
        "uncertain": d.delivery.uncertain, "class": d.class, "due": d.due.rfc3339(), "expires": d.delivery.expires.rfc3339(),
        "status": d.status, "reply": d.reply, "host": d.host })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_that_the_help_names_is_one() {
        for word in ["waiting", "claimed", "held", "cancelling", "delivered", "failed", "cancelled"] {
            assert_eq!(State::from_word(word).map(State::word), Some(word));
        }
    }
}
