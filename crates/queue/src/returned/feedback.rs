//! Complaints (RFC 5965).

use std::ops::Range;

use mime::header::fields;
use store::Result;

use super::source::{Source, address, field, mailboxes};
use super::{About, Complaint, Feedback, MAX_RECIPIENTS};

pub(super) fn read<F>(source: &mut Source<'_, F>) -> Result<Option<Complaint>>
where
    F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
{
    let Some(part) = source.find(&[("message", "feedback-report")]) else { return Ok(None) };
    let report = source.content(part)?;
    let recipients = fields(&report).filter(|field| field.is(b"Original-Rcpt-To")).take(MAX_RECIPIENTS);
    let recipients = recipients.filter_map(|field| address(&String::from_utf8_lossy(field.value))).collect();
    let quoted = source.returned()?;
    let quoted_to = quoted.first().map_or(Vec::new(), |header| mailboxes(&header.0, "To", MAX_RECIPIENTS));
    let about = About { message_id: source.message_id()?, envelope_id: field(&report, "Original-Envelope-Id") };
    let feedback = feedback(&field(&report, "Feedback-Type").unwrap_or_default());
    Ok(Some(Complaint { feedback, recipients, quoted_to, about }))
}

fn feedback(name: &str) -> Feedback {
    match &*name.to_ascii_lowercase() {
        "abuse" => Feedback::Abuse,
        "fraud" => Feedback::Fraud,
        "virus" => Feedback::Virus,
        "not-spam" => Feedback::NotSpam,
        "auth-failure" => Feedback::AuthFailure,
        _ => Feedback::Other,
    }
}
