//! Requests about mail on its way out: the queue.

use std::fmt::Write;

use base::Stream;
use queue::{Content, Message, QueueId, Standing, State};
use serde_json::{Value, json};
use store::Tx;

use crate::admin::{Answer, Outcome, refused, words};
use crate::house::House;

/// Messages that a list shows.
const SHOWN: u32 = 1000;

/// What is in the queue, the oldest first.
pub async fn list(house: &House) -> Outcome {
    house.store.read(all).await.map_err(words)
}

fn all(tx: &mut Tx<'_>) -> store::Result<Answer> {
    let (mut text, mut data) = (String::new(), Vec::new());
    let ids = queue::page(tx, QueueId::FIRST, SHOWN)?;
    for id in &ids {
        match queue::show(tx, *id) {
            Ok(Some((message, deliveries))) => {
                describe(&mut text, &message, &deliveries);
                data.push(facts(&message, &deliveries));
            }
            Ok(None) => {}
            // One that is damaged hides no other.
            Err(e @ store::Error::Corrupt(_)) => {
                let _ = writeln!(text, "{id}  cannot be read ({e}): postroom queue cancel {id} removes it");
                data.push(json!({ "id": id.to_string(), "error": e.to_string() }));
            }
            Err(e) => return Err(e),
        }
    }
    match ids.len() as u32 {
        0 => text.push_str("The queue is empty"),
        SHOWN => drop(write!(text, "These are the {SHOWN} oldest")),
        _ => {}
    }
    Ok(Answer::new(text.trim_end(), Value::Array(data)))
}

/// One message.
pub async fn show(house: &House, id: String) -> Outcome {
    let id = number(&id)?;
    let one = move |tx: &mut Tx<'_>| {
        let (message, deliveries) = queue::show(tx, id)?.ok_or_else(|| gone(id))?;
        let mut text = String::new();
        describe(&mut text, &message, &deliveries);
        Ok(Answer::new(text.trim_end(), facts(&message, &deliveries)))
    };
    house.store.read(one).await.map_err(words)
}

/// Tries a message now.
pub async fn retry(house: &House, id: String) -> Outcome {
    let (id, now) = (number(&id)?, house.clock.now());
    let work = move |tx: &mut Tx<'_>| {
        known(tx, id)?;
        let n = queue::retry(tx, id, now)?;
        Ok(Answer::new(format!("{id}: {} due now", deliveries(n)), json!({ "id": id.to_string(), "due": n })))
    };
    house.store.write(work).await.map_err(words)
}

/// Takes back what was not sent yet, in jobs of which none is long.
pub async fn cancel(house: &House, id: String) -> Outcome {
    let (id, now) = (number(&id)?, house.clock.now());
    let (mut cancelled, mut under_way, mut reports, mut from) = (0, 0, 0, 0);
    loop {
        let some = move |tx: &mut Tx<'_>| {
            // It may have ended with what is cancelled already.
            if from == 0 {
                known(tx, id)?;
            }
            queue::cancel(tx, id, from, now)
        };
        let done = house.store.write(some).await.map_err(words)?;
        (cancelled, under_way) = (cancelled + done.cancelled, under_way + done.under_way);
        reports += done.reports;
        match done.next {
            Some(next) => from = next,
            None => break,
        }
    }
    let mut text = format!("{id}: {} cancelled", deliveries(cancelled));
    if under_way > 0 {
        let _ = write!(text, ", {} under way: cancelled unless this attempt arrives", deliveries(under_way));
    }
    if reports > 0 {
        let _ = write!(text, ", {reports} reports dropped");
    }
    let data = json!({ "id": id.to_string(), "cancelled": cancelled, "under_way": under_way, "reports": reports });
    Ok(Answer::new(text, data))
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

fn describe(text: &mut String, m: &Message, all: &[Standing]) {
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

fn facts(m: &Message, all: &[Standing]) -> Value {
    let recipient = |d: &Standing| {
        json!({ "to": d.delivery.to.to_string(), "state": d.state.word(), "attempts": d.delivery.attempts,
            "uncertain": d.delivery.uncertain, "class": d.class, "due": d.due.rfc3339(), "expires": d.delivery.expires.rfc3339(),
            "status": d.status, "reply": d.reply, "host": d.host })
    };
    json!({ "id": m.id.to_string(), "from": m.from.as_ref().map(ToString::to_string), "octets": m.octets,
        "created": m.created.rfc3339(), "stream": m.stream.word(),
        "priority": m.priority, "release": m.release.map(|at| at.rfc3339()),
        "deliver_by": m.deliver_by.map(|by| by.until.rfc3339()),
        "recipients": all.iter().map(recipient).collect::<Vec<_>>() })
}
