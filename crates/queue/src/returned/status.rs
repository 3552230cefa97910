//! Reports with fields: delivery status notifications (RFC 3464), and refusals by MDN (RFC 5429 §2.2.1).

use std::collections::BTreeSet;
use std::ops::Range;

use base::Enhanced;
use bounce::{Action, Classifier};
use mime::header::fields;
use store::Result;

use super::human::{Human, has_words};
use super::source::{Source, address, field, message_id, typed};
use super::{About, Judge, MAX_RECIPIENTS, Recipient, Report};

const STATUS: [(&str, &str); 2] = [("message", "delivery-status"), ("message", "global-delivery-status")];
const DISPOSITION: [(&str, &str); 2] =
    [("message", "disposition-notification"), ("message", "global-disposition-notification")];

/// None also when the fields name no recipient: then the words may.
pub(super) fn read<'c, F>(classifier: &'c Classifier, source: &mut Source<'_, F>) -> Result<Option<Report<'c>>>
where
    F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
{
    let Some(part) = source.find(&STATUS).or_else(|| source.find(&DISPOSITION)) else { return Ok(None) };
    let block = source.content(part)?;
    let groups = groups(&block);
    let mut fields: Vec<_> = groups.iter().filter_map(|group| Fields::of(group)).take(MAX_RECIPIENTS).collect();
    if !DISPOSITION.iter().any(|(main, sub)| part.content.is(main, sub)) {
        // A group that is no recipient's has an Action of nobody's.
        fields.retain(|fields| fields.address.is_some() || fields.original.is_some() || fields.diagnostic.is_some());
    } else if !groups.iter().any(|group| refuses(group)) {
        return Ok(None);
    }
    if fields.is_empty() {
        return Ok(None);
    }
    // Aliases that lead to the same place are reported one by one.
    let mut seen = BTreeSet::new();
    fields.retain(|fields| seen.insert((fields.address.clone(), fields.original.clone())));
    let human = Human::of(source)?;
    let subject = source.header(source.top())?.field("Subject").unwrap_or_default();
    let judge = Judge::new(classifier, &human, &subject);
    let recipients = fields.into_iter().map(|fields| fields.recipient(&judge, &human)).collect();
    let first = groups.first().copied().unwrap_or_default();
    let about = About {
        // RFC 8098 §3.2.5; Google writes the other.
        message_id: source
            .message_id()?
            .or_else(|| message_id(first, "Original-Message-ID"))
            .or_else(|| message_id(first, "X-Original-Message-ID")),
        envelope_id: field(first, "Original-Envelope-Id"),
    };
    let reporting_mta = field(first, "Reporting-MTA").map(|mta| typed(&mta).to_owned());
    Ok(Some(Report { recipients, about, reporting_mta }))
}

/// Blocks of fields with blank lines between them (RFC 3464 §2.1).
fn groups(mut block: &[u8]) -> Vec<&[u8]> {
    let mut groups = Vec::new();
    while !block.is_empty() && groups.len() <= 2 * MAX_RECIPIENTS {
        let end = fields(block).last().map_or(0, |field| field.span.end);
        if end > 0 {
            groups.push(&block[..end]);
        }
        block = &block[end..];
        let blank = block.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(block.len());
        // What is no field and no blank line either cannot be; go on all the same.
        block = &block[blank.max(usize::from(end == 0))..];
    }
    groups
}

/// An MDN by which the mail was thrown away unread.
fn refuses(group: &[u8]) -> bool {
    field(group, "Disposition").is_some_and(|disposition| {
        let disposition = disposition.to_ascii_lowercase();
        disposition.starts_with("automatic-action") && disposition.contains("deleted")
    })
}

/// The fields of a recipient.
struct Fields {
    address: Option<String>,
    original: Option<String>,
    action: Action,
    status: Option<Enhanced>,
    diagnostic: Option<String>,
    remote_mta: Option<String>,
}

impl Fields {
    fn of(group: &[u8]) -> Option<Fields> {
        let value = |name| field(group, name).map(|value| typed(&value).to_owned());
        let fields = Fields {
            address: value("Final-Recipient"),
            original: value("Original-Recipient"),
            // Other words than RFC 3464 §2.3.3 has are said by programs that gave up.
            action: field(group, "Action").and_then(|name| first_action(&name)).unwrap_or(Action::Failed),
            status: field(group, "Status").and_then(|status| enhanced(&status)),
            diagnostic: value("Diagnostic-Code"),
            remote_mta: value("Remote-MTA"),
        };
        let is_recipient = fields.address.is_some() || fields.original.is_some() || fields.status.is_some();
        is_recipient.then_some(fields)
    }

    fn recipient<'c>(self, judge: &Judge<'c, '_>, human: &Human) -> Recipient<'c> {
        let address = self.address.as_deref().and_then(address);
        // RFC 3464 §2.3.6: it may be absent, and what is there may be a number only.
        let diagnostic = self.diagnostic.filter(|text| has_words(text));
        let own = diagnostic.as_deref().unwrap_or_else(|| human.about(address.as_ref()));
        let (verdict, diagnostic) = judge.judge(self.action, self.status, own);
        Recipient {
            verdict,
            original: self.original.as_deref().and_then(super::source::address),
            address,
            action: self.action,
            status: self.status,
            diagnostic,
            remote_mta: self.remote_mta,
        }
    }
}

fn first_action(value: &str) -> Option<Action> {
    Action::from_name(value.split(|c: char| !c.is_ascii_alphabetic()).next()?)
}

/// `5.1.1 (no such user)`.
fn enhanced(value: &str) -> Option<Enhanced> {
    let code = value.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut numbers = code.split('.').map(|n| n.parse().ok().filter(|_| n.len() <= 3));
    match (numbers.next()??, numbers.next()??, numbers.next()??) {
        (class @ (2 | 4 | 5), subject, detail) => Some(Enhanced(class as u8, subject, detail)),
        _ => None,
    }
}
