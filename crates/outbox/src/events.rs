//! Lines of the log as programs read them: JSON, with fields that stay what they are (docs/events.md).

use queue::log::Line;
use serde::Serialize;

/// In the order of the fields. What does not apply is null.
#[derive(Serialize)]
struct Event<'a> {
    id: String,
    cursor: String,
    #[serde(rename = "type")]
    kind: &'static str,
    time: String,
    #[serde(flatten)]
    facts: Facts<'a>,
}

/// What is said of the event itself.
#[derive(Serialize)]
struct Facts<'a> {
    recipient: &'a str,
    sender: &'a str,
    message: String,
    number: u32,
    message_id: Option<&'a str>,
    stream: &'static str,
    organisation: i64,
    accepted: String,
    attempts: u32,
    uncertain: u32,
    class: Option<&'a str>,
    code: Option<u16>,
    status: Option<String>,
    reply: Option<&'a str>,
    host: Option<&'a str>,
    address: Option<&'a str>,
    source: Option<&'a str>,
    site: Option<&'a str>,
    tls: Option<&'a str>,
    detail: Option<&'a str>,
}

/// A webhook's body.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: String,
    #[serde(flatten)]
    facts: Facts<'a>,
}

fn facts(line: &Line) -> Facts<'_> {
    let some = |text: &'_ str| !text.is_empty();
    let (head, reply, peer) = (&line.head, line.reply.as_ref(), line.talk.as_ref().map(|talk| &*talk.peer));
    Facts {
        recipient: &head.to,
        sender: &head.from,
        message: head.message.to_string(),
        number: head.number,
        message_id: Some(&*head.message_id).filter(|text| some(text)),
        stream: head.stream.word(),
        organisation: head.organisation.0,
        accepted: head.created.rfc3339_millis(),
        attempts: line.attempts,
        uncertain: line.uncertain,
        class: Some(&*line.class).filter(|text| some(text)),
        code: reply.map(|reply| reply.code),
        status: reply.and_then(|reply| reply.enhanced).map(|status| status.to_string()),
        reply: reply.map(|reply| &*reply.text),
        host: Some(&*line.host).filter(|text| some(text)),
        address: peer.map(|peer| &*peer.address).filter(|text| some(text)),
        source: peer.map(|peer| &*peer.source).filter(|text| some(text)),
        site: peer.map(|peer| &*peer.site).filter(|text| some(text)),
        tls: peer.map(|peer| &*peer.tls).filter(|text| some(text)),
        detail: Some(&*line.detail).filter(|text| some(text)),
    }
}

/// A line of the event log, with its end.
pub fn event_line(line: &Line) -> String {
    let (id, cursor, time) = (line.id(), line.cursor().to_string(), line.time.rfc3339_millis());
    let mut text = text(&Event { id, cursor, kind: line.what.name(), time, facts: facts(line) });
    text.push('\n');
    text
}

/// What a webhook is told, as Standard Webhooks has it: type, timestamp, data.
pub(crate) fn payload(line: &Line) -> String {
    let data = Data { id: line.id(), facts: facts(line) };
    text(&Payload { kind: line.what.name(), timestamp: line.time.rfc3339_millis(), data })
}

/// Texts and numbers: there is nothing that cannot be written.
fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
