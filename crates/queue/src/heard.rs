//! What came back about a mail finds its delivery: the receipt is told, and where that follows, the suppressions.
//!
//! A report may be forged by whoever has seen the mail that it is about. So it counts only where it came to the return address
//! that was made for the delivery alone (`trust::Verp`), or where it names the mail's Message-ID, its recipient, and came to the
//! address that the mail was sent from: a recipient can speak of no other mail than of one that it got.

use std::ops::Range;

use base::{Address, OrganisationId, Stream, Timestamp};
use bounce::{Action, Classifier, Verdict};
use mime::Index;
use store::{Result, Tx};

use crate::receipt::{self, Attached, Event, Head, Key, Kind};
use crate::returned::{self, About, AnswerKind, Feedback, Returned};
use crate::suppression::{self, Rule, Suppression};
use crate::{QueueId, admin};

/// Segments that are looked through for the mail that a report is about, the youngest first: those of some five million
/// deliveries of bulk mail.
const SEGMENTS: u32 = 20_000;

/// Something that a mail that came back says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The message.
    pub message: QueueId,
    /// The delivery.
    pub number: u32,
    /// Its recipient.
    pub to: Address,
    /// What is said.
    pub event: Event,
    stream: Stream,
    /// What follows for the address.
    suppression: Option<bounce::Suppression>,
}

/// A mail that came in, and may be about one of ours.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// What it is made of.
    pub index: &'a Index,
    /// All of it.
    pub bytes: &'a [u8],
    /// It is from `<>`.
    pub null_sender: bool,
    /// The addresses of ours that it came to.
    pub to: &'a [Address],
    /// The deliveries for which return addresses of their own, to which it came, were made: it is about these.
    pub about: &'a [(QueueId, u32)],
}

/// Reads a mail that came, and finds what it is about. To be done before the job that stores it: it may read much.
///
/// # Errors
/// The store's.
pub fn understand(tx: &mut Tx<'_>, classifier: &Classifier, came: Came<'_>, now: Timestamp) -> Result<Vec<Heard>> {
    let fetch = |span: Range<u64>, out: &mut Vec<u8>| {
        let end = came.bytes.len().min(span.end as usize);
        out.extend_from_slice(came.bytes.get(span.start as usize..end).unwrap_or_default());
        Ok(())
    };
    let returned = returned::read(classifier, came.index, came.null_sender, fetch)?;
    let addressed = addressed(tx, came.about)?;
    let Some(returned) = returned else {
        let kind = if came.null_sender { Kind::Answered } else { Kind::Replied };
        return Ok(addressed.iter().filter_map(|head| heard(head, now, kind, None, "")).collect());
    };
    let (Returned::Report(returned::Report { about, .. })
    | Returned::Complaint(returned::Complaint { about, .. })
    | Returned::Answer(returned::Answer { about, .. })) = &returned;
    let by_address = !addressed.is_empty();
    let heads = if by_address { addressed } else { sent(tx, about, came.to)? };
    let heard =
        |head: &Head, kind, verdict: Option<&Verdict<'_>>, detail: &str| heard(head, now, kind, verdict, detail);
    let named = |address: Option<&Address>| address.map(|address| address.to_string().to_lowercase());
    // The one it can only be about, where nobody is named.
    let only = || if let [only] = &heads[..] { Some(only) } else { None };
    Ok(match &returned {
        Returned::Report(report) => {
            let one = |r: &returned::Recipient<'_>| {
                let names = [named(r.original.as_ref()), named(r.address.as_ref())];
                let head = match names {
                    [None, None] => only(),
                    names => {
                        let named = |head: &&Head| names.iter().flatten().any(|name| *name == head.to.to_lowercase());
                        // Mail that was forwarded there is reported by another name.
                        heads.iter().find(named).or_else(|| if by_address { only() } else { None })
                    }
                };
                match r.action {
                    Action::Failed => heard(head?, Kind::Bounced, Some(&r.verdict), &r.diagnostic),
                    Action::Delayed => heard(head?, Kind::Delayed, None, &r.diagnostic),
                    Action::Delivered | Action::Relayed | Action::Expanded => {
                        heard(head?, Kind::Confirmed, None, &r.diagnostic)
                    }
                }
            };
            report.recipients.iter().filter_map(one).collect()
        }
        Returned::Complaint(complaint) => {
            let unwanted = matches!(complaint.feedback, Feedback::Abuse | Feedback::Fraud | Feedback::Other);
            let names: Vec<String> = complaint.recipients.iter().filter_map(|a| named(Some(a))).collect();
            let which = |head: &&Head| names.contains(&head.to.to_lowercase());
            let heads: Vec<&Head> = if names.is_empty() || by_address {
                only().into_iter().collect()
            } else {
                heads.iter().filter(which).collect()
            };
            let class = classifier.class("complaint").map(|class| Verdict {
                class,
                rule: bounce::Rule::Nothing,
                is_final: true,
            });
            let all = heads.into_iter().filter_map(|head| heard(head, Kind::Complained, class.as_ref(), ""));
            all.filter(|_| unwanted).collect()
        }
        Returned::Answer(answer) => {
            let (kind, class) = match answer.kind {
                AnswerKind::Automatic | AnswerKind::Disposition | AnswerKind::Challenge => (Kind::Answered, None),
                AnswerKind::Unsubscribe => (Kind::Replied, classifier.class("unsubscribe")),
            };
            let class = class.map(|class| Verdict { class, rule: bounce::Rule::Nothing, is_final: true });
            only().and_then(|head| heard(head, kind, class.as_ref(), "")).into_iter().collect()
        }
    })
}

/// What is said of a delivery.
fn heard(head: &Head, at: Timestamp, kind: Kind, verdict: Option<&Verdict<'_>>, detail: &str) -> Option<Heard> {
    let class = verdict.map_or("", |verdict| &*verdict.class.name).to_owned();
    Some(Heard {
        message: head.message,
        number: head.number,
        to: Address::parse(&head.to).ok()?,
        event: Event { at, kind, class, detail: detail.to_owned() },
        stream: head.stream,
        suppression: verdict.filter(|verdict| verdict.is_final).and_then(|verdict| verdict.class.suppression.clone()),
    })
}

/// Whose deliveries these are, as far as anything is known of them.
fn addressed(tx: &mut Tx<'_>, about: &[(QueueId, u32)]) -> Result<Vec<Head>> {
    let mut heads = Vec::new();
    for (message, number) in about {
        match receipt::receipt(tx, *message, *number)? {
            Some(receipt) => heads.extend(receipt::head(tx, &[receipt.trail])?.into_iter().flatten()),
            None => heads.extend(admin::open_head(tx, *message, *number)?),
        }
    }
    Ok(heads)
}

/// What was sent from one of these addresses with the Message-ID.
fn sent(tx: &mut Tx<'_>, about: &About, from: &[Address]) -> Result<Vec<Head>> {
    let Some(id) = &about.message_id else { return Ok(Vec::new()) };
    let found = receipt::look_up(tx, &Key::MessageId(id.clone()), None, SEGMENTS, usize::MAX)?;
    let ours = |head: &Head| from.iter().any(|from| from.to_string().eq_ignore_ascii_case(&head.from));
    Ok(found.all.into_iter().filter(ours).collect())
}

/// Tells a delivery what was heard; in the commit that stores the mail which says so. `by` is whose mail it was. Gives what it was
/// attached to.
///
/// # Errors
/// The store's.
pub fn hear(tx: &mut Tx<'_>, heard: &Heard, by: OrganisationId) -> Result<Option<Attached>> {
    let Heard { message, number, to, event, stream, suppression } = heard;
    let Some(attached) = receipt::attach(tx, *message, *number, event)? else { return Ok(None) };
    if let Some(suppression) = suppression
        && *stream != Stream::Mail
    {
        let new = Suppression {
            organisation: by,
            address: String::new(),
            stream: None,
            reason: event.class.clone(),
            note: event.detail.clone(),
            evidence: Some((*message, *number)),
            since: event.at,
            expires: None,
        };
        suppression::failed(tx, to, Rule::of(suppression, *stream), &new)?;
    }
    Ok(Some(attached))
}
