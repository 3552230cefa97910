//! What happens to a message as spans of one trace: the message from its acceptance to its last outcome, each attempt below it with
//! the steps of its dialogue, and what is heard later. Ids are hashes of what they name: whoever reads the log, whenever, gives the same.
//!
//! Addresses of people, and texts of strangers, which may quote them, are not in it: who wants them has the receipt.

use base::Timestamp;
use queue::log::{Line, What};
use queue::receipt::{self, Ended, Head, Peer, Step, Talk};

use super::otlp::{Attribute, Event, Id, Kind, Nanos, Span, Status, int, text};

/// Which traces are told: that part of all, by their ids, so that a trace is told whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample(u64);

/// Octets of randomness in a trace's id (W3C Trace Context level 2, "random trace id flag").
const RANDOM: u32 = 56;

impl Sample {
    /// Everything.
    pub const ALL: Sample = Sample(0);

    /// A part from 0 to 1.
    pub fn of(part: f64) -> Option<Sample> {
        (0.0..=1.0).contains(&part).then(|| Sample(((1.0 - part) * (1u64 << RANDOM) as f64).round() as u64))
    }

    /// Whether the trace of a message is told.
    pub(super) fn has(self, head: &Head) -> bool {
        let id = trace(head).0;
        let random = id[9..].iter().fold(0u64, |n, octet| n << 8 | u64::from(*octet));
        random >= self.0
    }
}

/// Of a message. The number of a message is its store's; when it came and what it is called makes it different from those of others.
pub(super) fn trace(head: &Head) -> Id<16> {
    Id(hashed(head, "trace"))
}

/// The message's own span.
fn root(head: &Head) -> Id<8> {
    Id(hashed(head, "message"))
}

fn hashed<const N: usize>(head: &Head, what: &str) -> [u8; N] {
    let mut hash = blake3::Hasher::new_derive_key("postroom telemetry 1");
    // No two lists of these are the same text: none but the last has a space in it.
    hash.update(format!("{what} {} {} {}", head.message, head.created.0, head.message_id).as_bytes());
    let mut out = [0; N];
    hash.finalize_xof().fill(&mut out);
    out
}

/// The span of a line: an attempt, or what was heard later.
pub(super) fn span(line: &Line) -> Span {
    let Line { what, head, class, .. } = line;
    let talk = line.talk.as_deref();
    let began = talk.map_or(line.time, |talk| talk.began).clamp(head.created.min(line.time), line.time);
    let mut hash = blake3::Hasher::new_derive_key("postroom telemetry 1");
    hash.update(line.id().as_bytes());
    let mut id = [0; 8];
    hash.finalize_xof().fill(&mut id);
    let name = match what {
        _ if !is_heard(*what) && talk.is_some() => "send",
        what => what.name(),
    };
    let mut attributes = common(head);
    attributes.extend(line.head.to.rsplit_once('@').map(|(_, domain)| text("messaging.destination.name", domain)));
    attributes.push(int("postroom.recipient.number", head.number));
    attributes.push(text("postroom.event", what.name()));
    attributes.push(int("postroom.attempts", line.attempts));
    attributes.push(int("postroom.uncertain", line.uncertain));
    if let Some(reply) = &line.reply {
        attributes.push(int("postroom.smtp.code", reply.code));
        attributes.extend(reply.enhanced.map(|status| text("postroom.smtp.status", status.to_string())));
    }
    if !class.is_empty() {
        attributes.push(text("error.type", class));
    }
    attributes.extend(talk.map(|talk| of_peer(&talk.peer)).into_iter().flatten());
    Span {
        trace_id: trace(head),
        span_id: Id(id),
        parent_span_id: Some(root(head)),
        name: name.to_owned(),
        kind: if talk.is_some() { Kind::Client } else { Kind::Internal },
        start_time_unix_nano: Nanos(began),
        end_time_unix_nano: Nanos(line.time),
        attributes,
        events: talk.map(|talk| events(talk, began, line.time)).unwrap_or_default(),
        status: match what {
            What::Queued | What::Delivered | What::Cancelled => Status::default(),
            What::ReportDelayed | What::ReportConfirmed | What::Answered | What::Replied => Status::default(),
            _ if class.is_empty() => Status::error(what.name()),
            _ => Status::error(class),
        },
    }
}

/// The span of a whole message, when all its deliveries have ended.
pub(super) fn message(head: &Head, ended: &Ended) -> Span {
    let mut attributes = common(head);
    attributes.push(text("messaging.operation.type", "send"));
    attributes.push(int("messaging.batch.message_count", ended.deliveries));
    attributes.push(int("postroom.delivered", ended.delivered));
    Span {
        trace_id: trace(head),
        span_id: root(head),
        parent_span_id: None,
        name: "message".to_owned(),
        kind: Kind::Producer,
        start_time_unix_nano: Nanos(head.created),
        end_time_unix_nano: Nanos(ended.at.max(head.created)),
        attributes,
        events: Vec::new(),
        status: if ended.failed > 0 { Status::error("not delivered") } else { Status::default() },
    }
}

/// Whether it came after the end of the delivery.
pub(super) fn is_heard(what: What) -> bool {
    match what {
        What::ReportBounced | What::ReportDelayed | What::ReportConfirmed => true,
        What::Complained | What::Answered | What::Replied => true,
        What::Queued | What::Delivered | What::Deferred | What::Bounced => false,
        What::Expired | What::Cancelled | What::Uncertain => false,
    }
}

/// Whether it ends the delivery.
pub(super) fn ends(what: What) -> bool {
    matches!(what, What::Delivered | What::Bounced | What::Expired | What::Cancelled)
}

/// What is said of every span of a message.
fn common(head: &Head) -> Vec<Attribute> {
    let mut all = vec![
        text("messaging.system", "smtp"),
        text("postroom.message", head.message.to_string()),
        text("postroom.stream", head.stream.word()),
        int("postroom.organisation", head.organisation.0),
    ];
    if !head.message_id.is_empty() {
        all.push(text("messaging.message.id", &head.message_id));
    }
    all
}

/// Whom it was said to; without what is not known.
fn of_peer(peer: &Peer) -> Vec<Attribute> {
    let Peer { source, host, address, tls, site, counted: _ } = peer;
    let (ip, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let mut words = tls.split(' ');
    let version = words.next().and_then(|version| version.strip_prefix("TLSv"));
    let texts = [
        ("server.address", host.as_str()),
        ("network.peer.address", ip.trim_start_matches('[').trim_end_matches(']')),
        ("tls.protocol.version", version.unwrap_or("")),
        ("tls.cipher", words.next().unwrap_or("")),
        ("postroom.source", source),
        ("postroom.site", site),
    ];
    let mut all: Vec<_> =
        texts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| text(key, value)).collect();
    all.extend(port.parse::<u16>().ok().map(|port| int("network.peer.port", port)));
    all
}

/// The replies, each when it was heard.
fn events(talk: &Talk, began: Timestamp, ended: Timestamp) -> Vec<Event> {
    let event = |step: &Step| Event {
        // A connection may be older than the mail.
        time_unix_nano: Nanos(Timestamp(talk.began.0 + i64::from(step.after)).clamp(began, ended)),
        name: receipt::command(step.to),
        attributes: vec![int("postroom.smtp.code", step.reply.code)],
    };
    talk.steps.iter().map(event).collect()
}

#[cfg(test)]
mod tests;
