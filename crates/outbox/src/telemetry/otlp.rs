//! Requests as OpenTelemetry collectors read them: OTLP 1.x over HTTP, in its JSON encoding. Of protobuf's JSON mapping that is: names in
//! lowerCamelCase, 64-bit numbers as strings, enums as numbers; and ids in hexadecimal digits, which OTLP has otherwise than protobuf.

use base::Timestamp;
use serde::{Serialize, Serializer};

/// An answer, as far as it says what was not taken.
#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Answer {
    partial_success: PartialSuccess,
}

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    rejected_spans: serde_json::Value,
    error_message: String,
}

impl Answer {
    /// How many spans were refused by who took the others, and why: they are not to be sent again.
    pub(super) fn refused(body: &[u8]) -> (u64, String) {
        let PartialSuccess { rejected_spans, error_message } =
            serde_json::from_slice::<Answer>(body).unwrap_or_default().partial_success;
        let n = rejected_spans.as_u64().or_else(|| rejected_spans.as_str()?.parse().ok());
        (n.unwrap_or(0), error_message)
    }
}

/// `ExportTraceServiceRequest`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: &'a [Attribute],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: &'a [Span],
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

impl<'a> Request<'a> {
    /// Spans of what `resource` describes.
    pub(super) fn of(resource: &'a [Attribute], spans: &'a [Span]) -> Self {
        let scope_spans = [ScopeSpans { scope: Scope { name: "postroom.outbox" }, spans }];
        Request { resource_spans: [ResourceSpans { resource: Resource { attributes: resource }, scope_spans }] }
    }
}

/// Sixteen octets of a trace, or eight of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id<const N: usize>(pub(super) [u8; N]);

impl<const N: usize> Serialize for Id<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let digits: String = self.0.iter().map(|octet| format!("{octet:02x}")).collect();
        s.serialize_str(&digits)
    }
}

/// Nanoseconds since 1970, as a string: `fixed64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nanos(pub(super) Timestamp);

impl Serialize for Nanos {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&(i128::from(self.0.0.max(0)) * 1_000_000))
    }
}

/// A span, which has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span {
    pub(super) trace_id: Id<16>,
    pub(super) span_id: Id<8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<Id<8>>,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start_time_unix_nano: Nanos,
    pub(super) end_time_unix_nano: Nanos,
    pub(super) attributes: Vec<Attribute>,
    pub(super) events: Vec<Event>,
    pub(super) status: Status,
}

/// What kind of work a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Client = 3,
    Producer = 4,
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u8(*self as u8)
    }
}

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) time_unix_nano: Nanos,
    pub(super) name: &'static str,
    pub(super) attributes: Vec<Attribute>,
}

/// Unset, or an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

impl Status {
    /// It did not go well.
    pub(super) fn error(message: &str) -> Self {
        Status { code: Some(2), message: message.to_owned() }
    }
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Attribute {
    pub(super) key: &'static str,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) enum Value {
    #[serde(rename = "stringValue")]
    Text(String),
    /// `int64`: a string of digits.
    #[serde(rename = "intValue")]
    Int(String),
}

/// A text.
pub(super) fn text(key: &'static str, value: impl Into<String>) -> Attribute {
    Attribute { key, value: Value::Text(value.into()) }
}

/// A number.
pub(super) fn int(key: &'static str, value: impl Into<i64>) -> Attribute {
    Attribute { key, value: Value::Int(value.into().to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_read_in_both_forms_of_a_number() {
        assert_eq!(
            Answer::refused(br#"{"partialSuccess":{"rejectedSpans":"7","errorMessage":"no"}}"#),
            (7, "no".into())
        );
        assert_eq!(Answer::refused(br#"{"partialSuccess":{"rejectedSpans":7}}"#), (7, String::new()));
        for none in ["", "{}", r#"{"partialSuccess":{}}"#, "<html>"] {
            assert_eq!(Answer::refused(none.as_bytes()), (0, String::new()), "{none}");
        }
    }

    #[test]
    fn an_id_is_in_hexadecimal_digits_and_a_time_in_a_string() {
        // The forms of the OTLP specification, "JSON Protobuf Encoding".
        let id = Id([0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03]);
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""5b8efff798038103""#);
        let time = Nanos(Timestamp(1_544_712_660_300));
        assert_eq!(serde_json::to_string(&time).unwrap(), r#""1544712660300000000""#);
        assert_eq!(serde_json::to_string(&int("n", 550)).unwrap(), r#"{"key":"n","value":{"intValue":"550"}}"#);
    }
}
