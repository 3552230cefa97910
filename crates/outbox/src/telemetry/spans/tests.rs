use std::sync::Arc;

use base::{OrganisationId, Reply, Stream};
use queue::QueueId;
use smtp::client::Answered;

use super::*;
use crate::telemetry::otlp::Value;

const ACCEPTED: Timestamp = Timestamp(1_800_000_000_000);

fn later(ms: i64) -> Timestamp {
    Timestamp(ACCEPTED.0 + ms)
}

fn head(number: u32) -> Head {
    Head {
        message: QueueId::FIRST,
        number,
        to: "jane@example.net".into(),
        from: "joe@ours.test".into(),
        message_id: "1@ours.test".into(),
        created: ACCEPTED,
        stream: Stream::Marketing,
        organisation: OrganisationId(3),
    }
}

fn step(after: u32, to: Answered, code: u16) -> Step {
    Step { after, to, reply: Reply::new(code, 0, 0, "says <jane@example.net>") }
}

/// An attempt that was put off, on a connection that was begun at `began`.
fn line(began: Timestamp) -> Line {
    let peer = Peer {
        source: "out1".into(),
        host: "mx.example.net".into(),
        address: "[2001:db8::1]:25".into(),
        tls: "TLSv1.3 TLS_AES_256_GCM_SHA384 verified".into(),
        site: "example.net".into(),
        counted: String::new(),
    };
    let steps = vec![step(10, Answered::Connection, 220), step(90, Answered::Rcpt(0), 451)];
    let talk = Talk { began, carried: 0, peer: Arc::new(peer), steps };
    Line {
        at: (1, 0),
        what: What::Deferred,
        time: later(100),
        head: head(2),
        attempts: 1,
        uncertain: 0,
        class: "greylisted".into(),
        host: "mx.example.net".into(),
        reply: Some(Reply::new(451, 7, 1, "Greylisted <jane@example.net>")),
        talk: Some(Arc::new(talk)),
        detail: "quotes <jane@example.net>".into(),
    }
}

fn facts(span: &Span) -> Vec<(&'static str, String)> {
    let value = |value: &Value| match value {
        Value::Text(text) | Value::Int(text) => text.clone(),
    };
    span.attributes.iter().map(|a| (a.key, value(&a.value))).collect()
}

#[test]
fn an_attempt_says_with_whom_it_was_and_what_came_of_it() {
    let span = span(&line(later(5)));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (Nanos(later(5)), Nanos(later(100))));
    assert_eq!((span.name.as_str(), span.kind, &span.status), ("send", Kind::Client, &Status::error("greylisted")));
    let facts = facts(&span);
    for fact in [
        ("messaging.system", "smtp"),
        ("messaging.message.id", "1@ours.test"),
        ("messaging.destination.name", "example.net"),
        ("server.address", "mx.example.net"),
        ("network.peer.address", "2001:db8::1"),
        ("network.peer.port", "25"),
        ("tls.protocol.version", "1.3"),
        ("tls.cipher", "TLS_AES_256_GCM_SHA384"),
        ("postroom.source", "out1"),
        ("postroom.site", "example.net"),
        ("postroom.stream", "marketing"),
        ("postroom.organisation", "3"),
        ("postroom.recipient.number", "2"),
        ("postroom.event", "delivery.deferred"),
        ("postroom.smtp.code", "451"),
        ("postroom.smtp.status", "4.7.1"),
        ("error.type", "greylisted"),
    ] {
        assert!(facts.contains(&(fact.0, fact.1.to_owned())), "{fact:?} in {facts:?}");
    }
    let steps: Vec<_> = span.events.iter().map(|e| (e.name, e.time_unix_nano)).collect();
    assert_eq!(steps, [("(connected)", Nanos(later(15))), ("RCPT TO", Nanos(later(95)))]);
}

#[test]
fn nobodys_address_and_nobodys_words_are_in_a_trace() {
    let attempt = span(&line(later(5)));
    let heard = span(&Line { what: What::Complained, talk: None, ..line(later(5)) });
    let ended = Ended { at: later(100), last: 2, deliveries: 3, delivered: 2, failed: 1 };
    for span in [attempt, heard, message(&head(2), &ended)] {
        let text = serde_json::to_string(&span).unwrap();
        assert!(!text.contains("jane") && !text.contains("joe") && !text.contains("Greylisted"), "{text}");
    }
}

#[test]
fn a_connection_may_be_older_than_the_mail_but_its_span_is_not() {
    let span = span(&line(later(-50)));
    assert_eq!(span.start_time_unix_nano, Nanos(ACCEPTED));
    assert_eq!(span.events.iter().map(|e| e.time_unix_nano).collect::<Vec<_>>(), [Nanos(ACCEPTED), Nanos(later(40))]);
    // A clock that was set back meanwhile.
    let line = Line { time: later(-100), ..line(later(5)) };
    let span = super::span(&line);
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
}

#[test]
fn ids_are_of_what_they_name() {
    let (first, ended) = (line(later(5)), Ended { at: later(100), last: 2, deliveries: 3, delivered: 2, failed: 1 });
    let (attempt, whole) = (span(&first), message(&first.head, &ended));
    // The same again, and of another of its recipients the same trace.
    assert_eq!(attempt, span(&first));
    assert_eq!(trace(&first.head), trace(&head(0)));
    assert_eq!(
        (attempt.trace_id, attempt.parent_span_id, whole.parent_span_id),
        (whole.trace_id, Some(whole.span_id), None)
    );
    let second = span(&Line { attempts: 2, time: later(900), ..line(later(800)) });
    assert_ne!(second.span_id, attempt.span_id);
    // Another server's message of that number is another.
    for other in [
        Head { created: later(1), ..head(2) },
        Head { message_id: "2@ours.test".into(), ..head(2) },
        Head { message: "3-1f".parse().unwrap(), ..head(2) },
    ] {
        assert_ne!(trace(&other), trace(&first.head));
    }
    assert_eq!((whole.start_time_unix_nano, whole.end_time_unix_nano), (Nanos(ACCEPTED), Nanos(later(100))));
}

#[test]
fn a_part_of_the_traces_is_told_whole() {
    let heads: Vec<_> = (0..20_000).map(|n| Head { created: later(n), ..head(0) }).collect();
    let told = |part: f64| heads.iter().filter(|head| Sample::of(part).unwrap().has(head)).count();
    assert_eq!((told(0.0), told(1.0)), (0, heads.len()));
    let (some, more) = (told(0.01), told(0.3));
    assert!((120..280).contains(&some) && (5_600..6_400).contains(&more), "{some}, {more}");
    // By the trace, whoever of its recipients it is about, and more with a greater part.
    let has = |part: f64, head: &Head| Sample::of(part).unwrap().has(head);
    for head in &heads {
        assert!(!has(0.01, head) || has(0.3, head));
        assert_eq!(has(0.3, head), has(0.3, &Head { number: 9, to: "x@y.test".into(), ..head.clone() }));
    }
    for bad in [-0.1, 1.1, f64::NAN] {
        assert_eq!(Sample::of(bad), None);
    }
}
