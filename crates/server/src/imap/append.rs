//! APPEND and MULTIAPPEND (RFC 9051 §6.3.12, RFC 3502).
//!
//! A client that sends messages without waiting for answers has many APPENDs under way: those that have come are committed
//! together when nothing more is there to be read, and while their commits are awaited the next are read. So one fsync
//! covers many. Answers come in the order of the commands.

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::pin::Pin;

use base::MailboxId;
use imap::{AppendMessage, Code, MailboxName, Ranges, Tag};
use ingress::{Appended, Appending};
use mailbox::verbs::{self, Arrival};

use super::change::split;
use super::{No, Session};

/// APPENDs whose commits may be awaited at a time, and octets that their messages hold.
const UNDER_WAY: (usize, u64) = (64, 16 << 20);
/// Messages of one APPEND, and octets that all but the last hold: they are committed together.
const TOGETHER: (usize, u64) = (100, 32 << 20);

/// An APPEND on its way in.
pub(super) struct Append {
    tag: Tag,
    mailbox: (MailboxName, MailboxId),
    /// What the account has used, and may use (0: all it likes), when this began.
    room: (u64, u64),
    /// The message on its way in.
    message: Option<(AppendMessage, Appending)>,
    complete: Vec<Appended>,
    /// Of the messages.
    octets: u64,
    /// What they hold.
    weight: u64,
}

/// `Sync`, because a session is shared with its own reads.
type Commit = Pin<Box<dyn Future<Output = Result<Vec<Arrival>, No>> + Send + Sync>>;

/// An APPEND that is complete and was not answered yet.
struct UnderWay {
    tag: Tag,
    stage: Stage,
    weight: u64,
}

enum Stage {
    /// To be committed.
    Complete(MailboxId, Vec<Appended>),
    /// Its commit is awaited; or it was refused, and has to wait for its turn to say so.
    Committing(Commit),
}

/// How one ended.
pub(super) struct Outcome {
    tag: Tag,
    result: Result<Vec<Arrival>, No>,
}

/// The APPENDs that are under way, oldest first.
#[derive(Default)]
pub(super) struct Appends {
    queue: VecDeque<UnderWay>,
    weight: u64,
    /// So many at the end are not being committed yet.
    waiting: usize,
    /// The mailbox of the last one: clients append many in a row, and its name is not looked up for each.
    last: Option<(MailboxName, MailboxId)>,
}

impl Appends {
    pub fn is_under_way(&self) -> bool {
        !self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= UNDER_WAY.0 || (self.weight >= UNDER_WAY.1 && self.is_under_way())
    }

    /// Some of them are not being committed yet.
    pub fn is_waiting(&self) -> bool {
        self.waiting > 0
    }

    fn push(&mut self, tag: Tag, weight: u64, stage: Stage) {
        self.weight += weight;
        self.waiting += 1;
        self.queue.push_back(UnderWay { tag, stage, weight });
    }

    fn refuse(&mut self, tag: Tag, no: No) {
        self.push(tag, 0, Stage::Committing(Box::pin(ready(Err(no)))));
    }

    /// Waits for the oldest. May be dropped and called again.
    pub async fn next(&mut self) -> Outcome {
        let Some(UnderWay { stage: Stage::Committing(commit), .. }) = self.queue.front_mut() else {
            return pending().await;
        };
        let result = commit.as_mut().await;
        let Some(UnderWay { tag, weight, .. }) = self.queue.pop_front() else { return pending().await };
        self.weight -= weight;
        if self.queue.is_empty() {
            *self = Appends::default();
        }
        Outcome { tag, result }
    }
}

impl Session {
    pub(super) async fn append_start(&mut self, tag: Tag, name: MailboxName) -> Result<(), No> {
        while self.appends.is_full() {
            self.commit_appends();
            let outcome = self.appends.next().await;
            self.appended(outcome).await?;
        }
        match self.find_for_append(&name).await {
            Ok((mailbox, room)) => {
                let mailbox = (name, mailbox);
                let append = Append { tag, mailbox, room, message: None, complete: Vec::new(), octets: 0, weight: 0 };
                self.append = Some(Box::new(append));
            }
            Err(no) => {
                // Trap 12: the machine passes over the messages that come all the same.
                self.machine.refuse_append();
                self.appends.refuse(tag, no);
            }
        }
        Ok(())
    }

    /// The mailbox, and how much room there is.
    async fn find_for_append(&mut self, name: &MailboxName) -> Result<(MailboxId, (u64, u64)), No> {
        if let Some((_, id)) = self.appends.last.as_ref().filter(|(last, _)| last == name) {
            return Ok((*id, (0, 0)));
        }
        let (account, wanted) = (self.user()?, name.as_str().to_owned());
        let work = move |tx: &mut store::Tx<'_>| Ok((verbs::find(tx, account, &wanted)?, verbs::room(tx, account)?));
        let (found, room) = self.store_below().read(work).await?;
        Ok((found.ok_or_else(No::nonexistent)?, room))
    }

    pub(super) fn append_message(&mut self, message: AppendMessage) {
        let appending = self.services.ingress.append();
        let Some(append) = &self.append else { return };
        match (self.check_message(append, &message), &mut self.append) {
            (Err(no), _) => self.give_up_append(no),
            (Ok(()), Some(append)) => append.message = Some((message, appending)),
            (Ok(()), None) => {}
        }
    }

    /// What can be refused before the message is sent.
    fn check_message(&self, append: &Append, message: &AppendMessage) -> Result<(), No> {
        let (used, quota) = append.room;
        self.services.mailboxes.store().check_space().map_err(base::Error::from)?;
        if message.size == 0 {
            // RFC 3502 §6.3.11: how a client gives up.
            return Err(No::refused(Code::Cannot, "A message of no octets is none"));
        }
        if message.size > self.services.max_message {
            return Err(No::refused(Code::TooBig, "The message is too big"));
        }
        if quota > 0 && used.saturating_add(append.octets).saturating_add(message.size) > quota {
            return Err(mailbox::Refusal::OverQuota.into());
        }
        if message.utf8 && !(self.enabled.utf8 || self.enabled.rev2) {
            return Err(No::refused(Code::Cannot, "ENABLE UTF8=ACCEPT first"));
        }
        if append.complete.len() >= TOGETHER.0 || append.weight >= TOGETHER.1 {
            return Err(No::refused(Code::Limit, "These are too many messages to be appended together"));
        }
        Ok(())
    }

    fn give_up_append(&mut self, no: No) {
        self.machine.refuse_append();
        if let Some(append) = self.append.take() {
            self.appends.refuse(append.tag, no);
        }
    }

    pub(super) fn append_data(&mut self, octets: &[u8]) {
        let message = self.append.as_mut().and_then(|append| append.message.as_mut());
        let Some((_, appending)) = message else { return };
        if let Err(error) = appending.push(octets) {
            self.give_up_append(error.into());
        }
    }

    pub(super) fn append_message_end(&mut self) {
        let now = self.services.mailboxes.clock().now();
        let Some(append) = &mut self.append else { return };
        let Some((message, appending)) = append.message.take() else { return };
        let (flags, keywords) = split(&message.flags);
        match appending.finish(message.date.unwrap_or(now), flags, keywords) {
            Ok(complete) => {
                append.octets += message.size;
                append.weight += complete.weight();
                append.complete.push(complete);
            }
            Err(error) => self.give_up_append(error.into()),
        }
    }

    pub(super) fn append_end(&mut self) {
        let Some(append) = self.append.take() else { return };
        let Append { tag, mailbox, complete, weight, .. } = *append;
        self.appends.push(tag, weight, Stage::Complete(mailbox.1, complete));
        self.appends.last = Some(mailbox);
    }

    /// Begins to commit what is complete; the outcomes are awaited when there is nothing else to do.
    pub(super) fn commit_appends(&mut self) {
        let (ingress, Ok(account)) = (&self.services.ingress, self.user()) else { return };
        let appends = &mut self.appends;
        let begun = appends.queue.len() - std::mem::take(&mut appends.waiting);
        for under_way in appends.queue.iter_mut().skip(begun) {
            if let Stage::Complete(mailbox, mails) = &mut under_way.stage {
                let commit = ingress.commit_appended(account, *mailbox, std::mem::take(mails));
                under_way.stage = Stage::Committing(Box::pin(async move { Ok(commit.await?) }));
            }
        }
    }

    /// Answers all that are under way.
    pub(super) async fn settle_appends(&mut self) -> Result<(), No> {
        self.commit_appends();
        while self.appends.is_under_way() {
            let outcome = self.appends.next().await;
            self.appended(outcome).await?;
        }
        Ok(())
    }

    /// Answers an APPEND (RFC 4315 §3).
    pub(super) async fn appended(&mut self, outcome: Outcome) -> Result<(), No> {
        match outcome.result {
            Ok(arrivals) => {
                let uids: Ranges = arrivals.iter().map(|arrival| arrival.uid.0).collect();
                let code = arrivals.first().map(|first| Code::AppendUid(first.uid_validity, &uids));
                self.done(&outcome.tag, code, "APPEND completed").await
            }
            Err(no) => {
                self.refuse(&outcome.tag, &no.or_try_create());
                Ok(())
            }
        }
    }
}
