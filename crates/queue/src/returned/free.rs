//! Reports without fields: what programs wrote before there was a form, and still write.

use std::ops::Range;

use base::Address;
use bounce::{Action, Classifier};
use mime::header::fields;
use store::Result;

use super::human::Human;
use super::source::{Header, Source, address, message_id};
use super::{About, Judge, MAX_RECIPIENTS, Recipient, Report};

/// Who writes reports; the beginning of the local part, or all of it.
const REPORTERS: [&str; 7] =
    ["mailer-daemon", "postmaster", "mdaemon", "mail-daemon", "mail.delivery", "maildelivery", "mail delivery"];

/// What reports say, in the subject or in the first lines.
const FAILURE: [&str; 37] = [
    "undeliver",
    "non-deliver",
    "nondeliver",
    "delivery fail",
    "delivery problem",
    "delivery status",
    "delivery error",
    "delivery has failed",
    "delivery of your message",
    "failure notice",
    "failure delivery",
    "failed mail",
    "mail failed",
    "mail failure",
    "mail error",
    "returned mail",
    "returning to sender",
    "returned to sender",
    "not delivered",
    "not be delivered",
    "cannot be delivered",
    "not been delivered",
    "able to deliver",
    "not deliver",
    "failed recipient",
    "did not reach",
    "user unknown",
    "encountered an error while being processed",
    "unzustellbar",
    "nicht zugestellt",
    "non remis",
    "no pudo ser entregado",
    "не доставлено",
    "退信",
    "无法送达",
    "无法发送",
    "配信できません",
];

/// What reports say of mail that is still tried.
const DELAY: [&str; 8] = [
    "not yet been delivered",
    "has been delayed",
    "will be retried",
    "delivery attempts will continue",
    "will continue to try",
    "will continue to attempt",
    "warning message only",
    "has been postponed",
];

pub(super) fn read<'c, F>(
    classifier: &'c Classifier,
    null_sender: bool,
    source: &mut Source<'_, F>,
) -> Result<Option<Report<'c>>>
where
    F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
{
    let header = source.header(source.top())?;
    let mut human = Human::of(source)?;
    if !is_report(&header, &human, null_sender, source) {
        return Ok(None);
    }
    let failed = failed_recipients(&header);
    human.forget(|address| is_reporter(address) || is_of_the_mail(&header, address));
    let action = if says(&DELAY, human.text()) { Action::Delayed } else { Action::Failed };
    let mut addresses: Vec<_> = if failed.is_empty() { human.named().cloned().collect() } else { failed };
    addresses.truncate(MAX_RECIPIENTS);
    let mut whom: Vec<_> = addresses.into_iter().map(Some).collect();
    if whom.is_empty() {
        whom.push(None);
    }
    let subject = header.field("Subject").unwrap_or_default();
    let judge = Judge::new(classifier, &human, &subject);
    let recipients = whom.into_iter().map(|address| {
        let (verdict, diagnostic) = judge.judge(action, None, human.about(address.as_ref()));
        Recipient { address, original: None, action, status: None, diagnostic, remote_mta: None, verdict }
    });
    let recipients = recipients.collect();
    let about = About { message_id: original_id(source)?, envelope_id: None };
    Ok(Some(Report { recipients, about, reporting_mta: None }))
}

/// A program that reports, and words of a report: a postmaster answers mail too, and answers that nobody wrote come from
/// `<>` too. Of others it must have both the subject and the words, and begin a thread: people talk about reports.
fn is_report<F>(header: &Header, human: &Human, null_sender: bool, source: &Source<'_, F>) -> bool
where
    F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
{
    let top = &source.top().content;
    let has_form = top.param("report-type").is_some_and(|kind| kind.eq_ignore_ascii_case(b"delivery-status"))
        || header.field("X-Failed-Recipients").is_some();
    if has_form {
        return true;
    }
    let from = header.field("From").unwrap_or_default().to_lowercase();
    // Nobody writes to people by this name.
    if from.contains("mailer-daemon@") {
        return true;
    }
    let by_name = from.contains("<>") || REPORTERS.iter().any(|name| from.contains(name));
    let reporter = by_name || null_sender && !super::answer::is_automatic(header);
    let subject = header.field("Subject").unwrap_or_default();
    let (in_subject, in_text) = (says(&FAILURE, &subject), says(&FAILURE, human.text()));
    let delay = says(&DELAY, human.text());
    let answers = header.answers().message_id.is_some();
    reporter && (in_subject || in_text || delay) || in_subject && (in_text || delay) && !answers
}

fn says(phrases: &[&str], text: &str) -> bool {
    let text = text.to_lowercase();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    phrases.iter().any(|phrase| text.contains(phrase))
}

/// `X-Failed-Recipients`, which Exim writes.
fn failed_recipients(header: &Header) -> Vec<Address> {
    let all = fields(&header.0).filter(|field| field.is(b"X-Failed-Recipients")).take(MAX_RECIPIENTS);
    let text = |field: mime::header::Field<'_>| String::from_utf8_lossy(field.value).into_owned();
    let mut addresses = Vec::new();
    for value in all.map(text) {
        addresses.extend(value.split(',').take(MAX_RECIPIENTS).filter_map(address));
    }
    addresses
}

fn is_reporter(address: &Address) -> bool {
    let local = address.local().to_ascii_lowercase();
    REPORTERS.iter().any(|name| local.starts_with(name))
}

/// The writer of the report, and to whom it came.
fn is_of_the_mail(header: &Header, named: &Address) -> bool {
    ["From", "To", "Sender"].iter().any(|name| {
        let of = header.field(name).and_then(|value| address(&value));
        of.is_some_and(|of| of.is_alike(named))
    })
}

/// The Message-ID of the mail that is returned, attached or in the text.
fn original_id<F>(source: &mut Source<'_, F>) -> Result<Option<String>>
where
    F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
{
    if let Some(id) = source.message_id()? {
        return Ok(Some(id));
    }
    let Some(part) = source.find(&[("text", "plain")]) else { return Ok(None) };
    let text = source.content(part)?;
    let line = text.split(|b| *b == b'\n').find(|line| {
        let line = line.trim_ascii_start();
        line.get(..11).is_some_and(|name| name.eq_ignore_ascii_case(b"message-id:"))
    });
    Ok(line.and_then(|line| message_id(line.trim_ascii_start(), "Message-ID")))
}
