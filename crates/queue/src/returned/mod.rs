//! What came back: reports (RFC 3464, and the many that are not), complaints (RFC 5965), answers of machines (RFC 3834).
//!
//! Called with a mail that came to an address that our sending named, once it is stored and indexed. What is read is what
//! the mail says, and a mail may say anything: to find the delivery that it is about, by the token of the address it came
//! to or by the Message-ID in [`About`], and to believe it, is the caller's. Nothing here decides anything.
//!
//! Of each part at most 64 KB are read, of a report at most 100 recipients; of the original that it returns no more than the
//! header is looked at.

mod answer;
mod feedback;
mod free;
mod human;
mod source;
mod status;

use std::cell::OnceCell;
use std::ops::Range;

use base::{Address, Enhanced};
use bounce::{Action, Classifier, Input, Rule, Stage, Verdict};
use mime::Index;
use store::Result;

use human::Human;
use source::Source;

/// Recipients of one report; what follows is not read.
pub const MAX_RECIPIENTS: usize = 100;
/// Addresses of one report that somebody wants to see.
const MAX_ADDRESSES: usize = 4;

/// A mail that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Returned<'c> {
    /// What became of a mail.
    Report(Report<'c>),
    /// What a reader thought of one.
    Complaint(Complaint),
    /// An answer that nobody wrote, or one that a machine can understand.
    Answer(Answer),
}

/// The mail that it is about, as far as is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Its Message-ID, without the brackets; at most 998 octets.
    pub message_id: Option<String>,
    /// The ENVID of its MAIL (RFC 3461 §4.4), as the report writes it.
    pub envelope_id: Option<String>,
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report<'c> {
    /// At least one.
    pub recipients: Vec<Recipient<'c>>,
    /// The mail.
    pub about: About,
    /// The host that reports, by its own word.
    pub reporting_mta: Option<String>,
}

/// What became of a mail for one of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient<'c> {
    /// `Final-Recipient`: where it went. None when the report names nobody, or nobody that is an address.
    pub address: Option<Address>,
    /// `Original-Recipient`: where we had sent it.
    pub original: Option<Address>,
    /// What was done.
    pub action: Action,
    /// `Status`.
    pub status: Option<Enhanced>,
    /// What the host that refused said, or in its place what the report says in words.
    pub diagnostic: String,
    /// The host that refused.
    pub remote_mta: Option<String>,
    /// What it means.
    pub verdict: Verdict<'c>,
}

/// What a reader, or the reader's provider, reports of a mail (RFC 5965).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What kind of report it is.
    pub feedback: Feedback,
    /// `Original-Rcpt-To`: who complains. Most providers leave it out.
    pub recipients: Vec<Address>,
    /// `To` of the mail.
    pub quoted_to: Vec<Address>,
    /// The mail.
    pub about: About,
}

/// The types of RFC 5965 §7.3 and RFC 6591 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// `abuse`: it was not wanted.
    Abuse,
    /// `fraud`: phishing.
    Fraud,
    /// `virus`.
    Virus,
    /// `not-spam`: it was wanted.
    NotSpam,
    /// `auth-failure`: about the sender's authentication, not about the mail.
    AuthFailure,
    /// Something else.
    Other,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What kind it is.
    pub kind: AnswerKind,
    /// The mail it answers.
    pub about: About,
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Nobody wrote it: away, received, a ticket.
    Automatic,
    /// Confirms that the mail was displayed or processed (RFC 8098).
    Disposition,
    /// A machine wants a proof that we are a person.
    Challenge,
    /// A wish to be taken off.
    Unsubscribe,
}

/// Reads a mail; None for one that is nothing of all that.
///
/// `index` is the mail's, `null_sender` says that it came from `<>`, and `fetch` appends a span of its octets.
///
/// # Errors
/// Those of `fetch`.
pub fn read<'c>(
    classifier: &'c Classifier,
    index: &Index,
    null_sender: bool,
    fetch: impl FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
) -> Result<Option<Returned<'c>>> {
    let mut source = Source::new(index, fetch);
    if let Some(complaint) = feedback::read(&mut source)? {
        return Ok(Some(Returned::Complaint(complaint)));
    }
    if let Some(report) = status::read(classifier, &mut source)? {
        return Ok(Some(Returned::Report(report)));
    }
    if let Some(report) = free::read(classifier, null_sender, &mut source)? {
        return Ok(Some(Returned::Report(report)));
    }
    Ok(answer::read(classifier, &mut source)?.map(Returned::Answer))
}

/// Reads a mail of which it is known that it is no report: None when a person wrote it, as far as one can tell.
///
/// # Errors
/// Those of `fetch`.
pub fn read_answer(
    classifier: &Classifier,
    index: &Index,
    fetch: impl FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
) -> Result<Option<Answer>> {
    answer::read(classifier, &mut Source::new(index, fetch))
}

/// What a mail answers, whatever it is, and who wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Message-IDs, without the brackets: the first of `In-Reply-To`; without it the last and the first of `References`.
    pub message_ids: Vec<String>,
    /// `From`: the first five.
    pub authors: Vec<Address>,
}

/// Reads what a mail answers.
///
/// # Errors
/// Those of `fetch`.
pub fn read_thread(index: &Index, fetch: impl FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>) -> Result<Thread> {
    let mut source = Source::new(index, fetch);
    let header = source.header(source.top())?;
    Ok(Thread { message_ids: header.thread(), authors: source::mailboxes(&header.0, "From", 5) })
}

/// Addresses that are `wanted` and stand in the fields of a report, in the header of a mail that it returns, or in the words beside a
/// delivery status, each once, at most four: who sent the mail may have written its proof into its return address (`trust::Verp`), and
/// hosts note that in fields of many names. The words of what has no fields may be all of a mail in which another was sent on.
///
/// # Errors
/// Those of `fetch`.
pub fn addresses(
    index: &Index,
    wanted: impl Fn(&Address) -> bool,
    fetch: impl FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
) -> Result<Vec<Address>> {
    let mut source = Source::new(index, fetch);
    let fields = source.find(&FIELDS).map(|part| source.content(part)).transpose()?;
    let returned = source.returned()?.into_iter().map(|header| header.0);
    let words = source.find(&FIELDS[1..]).and_then(|_| source.find(&[("text", "plain")]));
    let words = words.map(|part| source.content(part)).transpose()?;
    let mut all = Vec::new();
    for octets in fields.into_iter().chain(returned).chain(words) {
        for address in source::addresses_in(&octets, &wanted) {
            if all.len() < MAX_ADDRESSES && !all.contains(&address) {
                all.push(address);
            }
        }
    }
    Ok(all)
}

/// The parts of reports that are for machines: of complaints, and of delivery statuses.
const FIELDS: [(&str, &str); 3] =
    [("message", "feedback-report"), ("message", "delivery-status"), ("message", "global-delivery-status")];

/// Finds what a report means for each of its recipients.
struct Judge<'c, 'h> {
    classifier: &'c Classifier,
    human: &'h Human,
    subject: &'h str,
    /// What the words say that are about nobody in particular: the same for all, so it is found once.
    shared: OnceCell<Option<(Verdict<'c>, &'h str)>>,
}

impl<'c, 'h> Judge<'c, 'h> {
    fn new(classifier: &'c Classifier, human: &'h Human, subject: &'h str) -> Self {
        Judge { classifier, human, subject, shared: OnceCell::new() }
    }

    /// By the words about the recipient, and where they say nothing, by what is said of all. Gives the words, too.
    fn judge(&self, action: Action, status: Option<Enhanced>, own: &str) -> (Verdict<'c>, String) {
        let input = Input { enhanced: status, text: own, ..Input::at(Stage::Dsn(action)) };
        let verdict = self.classifier.classify(&input);
        match self.shared() {
            Some((shared, text)) if !means_something(&verdict) => {
                (Verdict { is_final: verdict.is_final && shared.is_final, ..shared }, text.to_owned())
            }
            _ => (verdict, own.to_owned()),
        }
    }

    fn shared(&self) -> Option<(Verdict<'c>, &'h str)> {
        *self.shared.get_or_init(|| {
            [self.human.about(None), self.subject].into_iter().find_map(|text| {
                let verdict = self.classifier.classify(&Input { text, ..Input::at(Stage::Dsn(Action::Failed)) });
                means_something(&verdict).then_some((verdict, text))
            })
        })
    }
}

/// Whether it was more than a code that says nothing.
fn means_something(verdict: &Verdict<'_>) -> bool {
    !matches!(verdict.rule, Rule::Nothing | Rule::Reply { .. } | Rule::Enhanced { weight: 0, .. })
}
