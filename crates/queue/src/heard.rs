//! What came back about a mail finds its delivery: the receipt is told, and where that follows, the suppressions.
//!
//! Anybody may forge a report. So it counts only from who has seen the mail that it is about, and knows what nobody can guess:
//!
//! - the return address that was made for the delivery alone (`trust::Verp`): the report came to it, or has it in its fields or in the
//!   mail that it returns, wherever it came to; then it must not name another recipient, whose mail may only have had that one in it;
//! - or the mail's Message-ID, and its recipient. A failure must then have come to the address that the mail was sent from, as
//!   reports do; a complaint or an answer to an address of the organisation that sent it: providers complain at an address that
//!   was registered with them, and people answer to `From`. A complaint must name the recipient, an answer must be its.
//!
//! Whoever has got one mail of many knows no other's return address, and no other's Message-ID where each is made for one.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use base::{Address, OrganisationId, Stream, Timestamp};
use bounce::{Action, Class, Classifier, Rule as Reason, Verdict};
use mime::Index;
use store::{Result, Row, Tx, params};

use crate::receipt::{self, Attached, Event, Head, Kind, Receipt};
use crate::returned::{self, Answer, AnswerKind, Complaint, Feedback, Report, Returned, Thread};
use crate::source::{self, Fared};
use crate::suppression::{self, Rule, Suppression};
use crate::{Queue, QueueId, admin, schema};

/// Deliveries in hand that are looked through for a Message-ID: any of all nodes, where these have more.
const IN_HAND: u32 = 2_000;

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
    organisation: OrganisationId,
    /// What follows for the address.
    suppression: Option<bounce::Suppression>,
}

/// A mail that came in, and may be about one of ours.
#[derive(Clone, Copy, Debug)]
pub struct Came<'a> {
    /// What it is made of.
    pub index: &'a Index,
    /// All of it, or as much as was read.
    pub bytes: &'a [u8],
    /// The envelope's sender; none for `<>`.
    pub from: Option<&'a Address>,
    /// The addresses of ours that it came to.
    pub to: &'a [Address],
    /// Whose these are.
    pub of: &'a [OrganisationId],
    /// The deliveries whose return addresses it came to, or has in it: it is about these.
    pub about: &'a [(QueueId, u32)],
    /// It came to these return addresses. What only has them in it may be about a mail in which another was sent on: then it counts for
    /// whom it names.
    pub is_addressed: bool,
}

/// A mail may be a report: it is from `<>`, or calls itself so.
pub fn may_be_report(index: &Index, from: Option<&Address>) -> bool {
    from.is_none() || index.parts().first().is_some_and(|top| top.content.is("multipart", "report"))
}

/// Reads a mail that came, and finds what it is about. To be done before the job that stores it: it may read much of a report, and of
/// any other mail that answers one little more than its header. In ascending order of messages and recipients: told so, two mails that
/// speak of the same take locks in the same order, whatever theirs is.
///
/// # Errors
/// The store's.
pub fn understand(
    tx: &mut Tx<'_>,
    queue: &Queue,
    classifier: &Classifier,
    came: Came<'_>,
    now: Timestamp,
) -> Result<Vec<Heard>> {
    let fetch = |span: Range<u64>, out: &mut Vec<u8>| {
        let end = came.bytes.len().min(span.end as usize);
        out.extend_from_slice(came.bytes.get(span.start as usize..end).unwrap_or_default());
        Ok(())
    };
    let about = addressed(tx, came.about)?;
    let all = Search { queue, classifier, came, about, now };
    let returned = match may_be_report(came.index, came.from) || !came.about.is_empty() {
        true => returned::read(classifier, came.index, came.from.is_none(), fetch)?,
        false => None,
    };
    let mut heard = match returned {
        Some(Returned::Report(report)) => all.report(tx, &report)?,
        Some(Returned::Complaint(complaint)) => all.complaint(tx, &complaint)?,
        Some(Returned::Answer(answer)) => {
            let thread = returned::read_thread(came.index, fetch)?;
            all.answer(tx, &thread, |_| Ok(Some(answer)))?
        }
        None => {
            let thread = returned::read_thread(came.index, fetch)?;
            all.answer(tx, &thread, |classifier| returned::read_answer(classifier, came.index, fetch))?
        }
    };
    heard.sort_by_key(|one| (one.message, one.number));
    Ok(heard)
}

/// What a mail may be about.
struct Search<'a> {
    queue: &'a Queue,
    classifier: &'a Classifier,
    came: Came<'a>,
    /// It proves that it is about these.
    about: Vec<Head>,
    now: Timestamp,
}

impl Search<'_> {
    fn report(&self, tx: &mut Tx<'_>, report: &Report<'_>) -> Result<Vec<Heard>> {
        let ours: HashSet<String> = self.came.to.iter().map(Address::folded).collect();
        let ours = |head: &Head| ours.contains(&head.from.to_lowercase());
        let left = self.proven_or(tx, report.about.message_id.as_slice(), true, ours)?;
        let by_name = left.by_name();
        let one = |r: &returned::Recipient<'_>| {
            let names: Vec<&Address> = [&r.original, &r.address].into_iter().flatten().collect();
            let named = names.iter().find_map(|name| by_name.get(name.folded().as_str()).copied());
            // Mail that was forwarded there is reported by another name, at the address that was made for it.
            let may_be_other = names.is_empty() || self.is_proven() && self.came.is_addressed;
            let head = named.or_else(|| left.only().filter(|_| may_be_other))?;
            match r.action {
                Action::Failed => self.heard(head, Kind::Bounced, Some(&r.verdict), &r.diagnostic),
                Action::Delayed => self.heard(head, Kind::Delayed, None, &r.diagnostic),
                Action::Delivered | Action::Relayed | Action::Expanded => {
                    self.heard(head, Kind::Confirmed, None, &r.diagnostic)
                }
            }
        };
        Ok(report.recipients.iter().filter_map(one).collect())
    }

    fn complaint(&self, tx: &mut Tx<'_>, complaint: &Complaint) -> Result<Vec<Heard>> {
        if !matches!(complaint.feedback, Feedback::Abuse | Feedback::Fraud | Feedback::Other) {
            return Ok(Vec::new());
        }
        let left = self.proven_or(tx, complaint.about.message_id.as_slice(), true, |head| self.is_theirs(head))?;
        let mut whose = left.named(&complaint.recipients);
        if whose.is_empty() && left.is_all {
            // Many providers say who only by the mail that they return, some not at all. Several are named there that did not complain.
            whose = left.named(&complaint.quoted_to);
            whose.truncate(usize::from(whose.len() == 1));
        }
        if whose.is_empty() && self.is_proven() {
            whose = left.only().into_iter().collect();
        }
        let verdict = self.says("complaint");
        Ok(whose.into_iter().filter_map(|head| self.heard(head, Kind::Complained, verdict.as_ref(), "")).collect())
    }

    /// A mail of a person or of a machine. What it says is only read when it answers one of ours.
    fn answer(
        &self,
        tx: &mut Tx<'_>,
        thread: &Thread,
        read: impl FnOnce(&Classifier) -> Result<Option<Answer>>,
    ) -> Result<Vec<Heard>> {
        let is_null = self.came.from.is_none();
        let left = self.proven_or(tx, &thread.message_ids, is_null, |head| self.is_theirs(head))?;
        if left.all.is_empty() {
            return Ok(Vec::new());
        }
        let is_machine = |kind| !matches!(kind, AnswerKind::Unsubscribe);
        let answer = read(self.classifier)?.map(|answer| answer.kind);
        let by_machine = answer.map_or(is_null, is_machine);
        let authors = || self.came.from.into_iter().chain(&thread.authors);
        // Who is away may say so in the name of another address that leads there.
        let whose = || left.named(authors()).first().copied().or_else(|| left.only().filter(|_| by_machine));
        let whose: Vec<&Head> = match self.is_proven() {
            true => left.all.iter().map(|(_, head)| head).collect(),
            false => whose().into_iter().collect(),
        };
        let kind = if by_machine { Kind::Answered } else { Kind::Replied };
        let verdict = answer.filter(|kind| !is_machine(*kind)).and_then(|_| self.says("unsubscribe"));
        Ok(whose.into_iter().filter_map(|head| self.heard(head, kind, verdict.as_ref(), "")).collect())
    }

    fn is_proven(&self) -> bool {
        !self.about.is_empty()
    }

    /// It came to the organisation that sent the mail.
    fn is_theirs(&self, head: &Head) -> bool {
        self.came.of.contains(&head.organisation)
    }

    /// What it proves to be about; else what left with one of these Message-IDs, as far as it may speak of it. What comes back at once
    /// may be about what is in hand.
    fn proven_or(&self, tx: &mut Tx<'_>, ids: &[String], at_once: bool, may: impl Fn(&Head) -> bool) -> Result<Left> {
        if self.is_proven() {
            return Ok(Left::of(self.about.clone(), true));
        }
        let receipt::Left { mut heads, is_all } = self.queue.message_ids().find(tx, ids)?;
        if let (true, Some(id)) = (at_once, ids.first()) {
            let one = |r: &Row<'_>| Ok((QueueId::stored(r.int(0)?), r.int(1)? as u32));
            let mut in_hand = tx.list(&schema::IN_HAND_WITH, params![id.as_bytes(), IN_HAND], one)?;
            // One that was put off before has a record as well.
            let known: HashSet<_> = heads.iter().map(|head| (head.message, head.number)).collect();
            in_hand.retain(|one| !known.contains(one));
            heads.extend(addressed(tx, &in_hand)?);
        }
        heads.retain(may);
        let mut left = Left::of(heads, is_all);
        // Another recipient may still wait, or be in hand on another node and not among those that were looked through.
        if let Some(only) = left.only() {
            let other = tx.row(&schema::OTHER_OF_MESSAGE, params![only.message, only.number], |_| Ok(()))?;
            left.is_one = other.is_none();
        }
        Ok(left)
    }

    /// What follows from a class that nobody has to find out.
    fn says(&self, class: &str) -> Option<Verdict<'_>> {
        let verdict = |class| Verdict { class, rule: Reason::Nothing, is_final: true };
        self.classifier.class(class).map(verdict)
    }

    /// What is said of a delivery.
    fn heard(&self, head: &Head, kind: Kind, verdict: Option<&Verdict<'_>>, detail: &str) -> Option<Heard> {
        let class = verdict.map_or("", |verdict| &*verdict.class.name).to_owned();
        let follows = |class: &Class| class.suppression.clone();
        Some(Heard {
            message: head.message,
            number: head.number,
            to: Address::parse(&head.to).ok()?,
            event: Event { at: self.now, kind, class, detail: detail.to_owned() },
            stream: head.stream,
            organisation: head.organisation,
            suppression: verdict.filter(|verdict| verdict.is_final).and_then(|verdict| follows(verdict.class)),
        })
    }
}

/// What a mail may be about, each with its recipient's address in lower case: two that differ in case are one person's.
struct Left {
    all: Vec<(String, Head)>,
    /// There is no more.
    is_all: bool,
    /// There is just one, and its mail had no other recipient.
    is_one: bool,
}

impl Left {
    fn of(heads: Vec<Head>, is_all: bool) -> Left {
        let is_one = is_all && heads.len() == 1;
        Left { all: heads.into_iter().map(|head| (head.to.to_lowercase(), head)).collect(), is_all, is_one }
    }

    /// The one it can only be about, where nobody is named.
    fn only(&self) -> Option<&Head> {
        self.all.first().filter(|_| self.is_one).map(|(_, head)| head)
    }

    fn named<'a>(&self, names: impl IntoIterator<Item = &'a Address>) -> Vec<&Head> {
        let names: HashSet<String> = names.into_iter().map(Address::folded).collect();
        self.all.iter().filter(|(to, _)| names.contains(to)).map(|(_, head)| head).collect()
    }

    /// The youngest of each.
    fn by_name(&self) -> HashMap<&str, &Head> {
        self.all.iter().rev().map(|(to, head)| (to.as_str(), head)).collect()
    }
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

/// Tells a delivery what was heard; in the commit that stores the mail which says so. Gives what it was attached to.
///
/// # Errors
/// The store's.
pub fn hear(tx: &mut Tx<'_>, heard: &Heard) -> Result<Option<Attached>> {
    let Heard { message, number, to, event, stream, organisation, suppression } = heard;
    let Some(attached) = receipt::attach(tx, *message, *number, event)? else { return Ok(None) };
    if let Attached::Ended(receipt) = &attached {
        tell_source(tx, receipt, event)?;
    }
    if let Some(suppression) = suppression
        && *stream != Stream::Mail
    {
        let new = Suppression {
            organisation: *organisation,
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

/// What is heard counts, the first time, for the source that the mail left by, as long as that is new.
fn tell_source(tx: &mut Tx<'_>, receipt: &Receipt, event: &Event) -> Result<()> {
    let fared = match event.kind {
        Kind::Complained => Fared { complained: 1, ..Fared::default() },
        Kind::Bounced => {
            let class = Classifier::shared().and_then(|classifier| classifier.class(&event.class));
            class.map(Fared::returned).unwrap_or_default()
        }
        Kind::Delayed | Kind::Confirmed | Kind::Answered | Kind::Replied => return Ok(()),
    };
    if fared == Fared::default() || !source::has_plans(tx)? {
        return Ok(());
    }
    let is_again = |all: Vec<Event>| all.iter().filter(|one| one.kind == event.kind).count() > 1;
    if is_again(receipt::events(tx, receipt.message, receipt.number)?) {
        return Ok(());
    }
    let last = receipt::last(tx, &[receipt.trail])?.pop().flatten();
    let Some((at, talk)) = last.and_then(|attempt| Some((attempt.at, attempt.talk?))) else { return Ok(()) };
    let peer = talk.peer;
    // A share of mail of the same day: what comes back of a good Monday's thousand says nothing of Tuesday's sixty. A complaint may
    // come a week later, and would count nowhere.
    let at = if event.kind == Kind::Bounced { at } else { event.at };
    // Providers have names; another site mostly has that of its host.
    let names = [&peer.counted, &peer.site, &peer.host];
    let site = names.into_iter().find(|name| !name.is_empty()).unwrap_or(&peer.host);
    source::count_by_name(tx, &peer.source, site, source::day_of(at), fared)
}
