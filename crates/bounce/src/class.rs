//! A class: what happened, and what follows from it. Read from the data file's `[class.*]` tables.

use std::fmt;

use serde::Deserialize;

/// What a failed (or odd) delivery means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// As `no-such-user`: what receipts keep and people read. The names do not change.
    pub name: Box<str>,
    /// A phrase that explains it.
    pub about: Box<str>,
    /// Whether trying again may help.
    pub permanence: Permanence,
    /// What it is evidence about.
    pub scope: Scope,
    /// When an address is suppressed for it; None: never.
    pub suppression: Option<Suppression>,
    /// When to try again, where the reply allows it.
    pub retry: Retry,
    /// What others call it.
    pub names: Names,
}

/// Whether trying again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Permanence {
    /// This address or message will not get through.
    Hard,
    /// It may, later.
    Soft,
    /// Somebody decided against us.
    Block,
    /// It is no failure.
    None,
}

/// What a reply is evidence about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The recipient's address.
    Address,
    /// The recipient's domain.
    Domain,
    /// This message.
    Message,
    /// Our From and its domain, or our DKIM domain.
    Sender,
    /// The IP we send from.
    Source,
    /// The site that answered.
    Site,
    /// Our own setup.
    Us,
    /// Nothing.
    None,
}

/// When to try again, where the reply allows it (4xx, or a hint of the site).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// Not at all.
    Never,
    /// By the normal schedule.
    Backoff,
    /// In minutes.
    Short,
    /// In hours.
    Long,
    /// At once from another IP of the pool, else in hours.
    OtherSource,
    /// Held for the operator, then by the normal schedule.
    Fix,
}

/// When an address is no longer written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// How much it takes.
    pub after: Threshold,
    /// The streams it is suppressed for; empty: all.
    pub streams: Vec<Stream>,
    /// Days until it is tried again; None: never.
    pub expires: Option<u32>,
}

/// How much it takes until an address is suppressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Threshold {
    /// The first time.
    First,
    /// After so many messages on as many different days.
    Repeated {
        /// Messages, none delivered in between.
        messages: u32,
        /// The days within which they count.
        days: u32,
    },
}

/// A stream that a suppression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// That of the mail the answer is about.
    Same,
    /// `marketing`.
    Marketing,
}

/// What others call the class; empty where they have no word for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// Postmark's bounce type.
    pub postmark: Box<str>,
    /// Twilio SendGrid's event and classification.
    pub sendgrid: Box<str>,
    /// Mailgun's severity and reason.
    pub mailgun: Box<str>,
    /// Amazon SES's type and subtype; Resend's too.
    pub ses: Box<str>,
    /// Brevo's event.
    pub brevo: Box<str>,
    /// SparkPost's class number, or event.
    #[serde(deserialize_with = "number_or_text")]
    pub sparkpost: Box<str>,
    /// Sisimai's reasons.
    pub sisimai: Vec<Box<str>>,
}

fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Box<str>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u32),
        Text(Box<str>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Number(number) => number.to_string().into(),
        Either::Text(text) => text,
    })
}

/// How the data file writes a class: `act` and `names`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    act: Act,
    names: Names,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Act {
    about: Box<str>,
    permanence: Permanence,
    scope: Scope,
    suppress: Box<str>,
    #[serde(default)]
    streams: Vec<Stream>,
    expire: Option<u32>,
    retry: Retry,
}

impl Class {
    /// None when `suppress` is not understood, or its companions do not fit it.
    pub(crate) fn of(name: &str, Written { act, names }: Written) -> Option<Class> {
        let suppression = match (&*act.suppress, act.expire) {
            ("no", None) if act.streams.is_empty() => None,
            ("no", _) => return None,
            (after, Some(expire)) => Some(Suppression {
                after: threshold(after)?,
                streams: act.streams,
                expires: (expire > 0).then_some(expire),
            }),
            (_, None) => return None,
        };
        let Act { about, permanence, scope, retry, .. } = act;
        Some(Class { name: name.into(), about, permanence, scope, suppression, retry, names })
    }
}

/// `first`, or `3/30d`.
fn threshold(text: &str) -> Option<Threshold> {
    if text == "first" {
        return Some(Threshold::First);
    }
    let (messages, days) = text.strip_suffix('d')?.split_once('/')?;
    Some(Threshold::Repeated { messages: messages.parse().ok()?, days: days.parse().ok()? })
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
