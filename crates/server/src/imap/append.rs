//! APPEND and MULTIAPPEND (RFC 9051 §6.3.12, RFC 3502).
//!
//! A client that sends messages without waiting for answers has many APPENDs under way: the next message is read while
//! the commits of those before are still awaited, so that one fsync covers many. Answers come in the order of the
//! commands.

use std::collections::VecDeque;
use std::future::{pending, ready};
use std::pin::Pin;

use base::MailboxId;
use imap::{AppendMessage, Code, MailboxName, Ranges, Tag};
use ingress::{Appended, Appending};
use mailbox::verbs::{self, Arrival};

use super::change::split;
use super::{No, Session};

/// APPENDs whose commits may be awaited at a time, and octets of their messages.
const UNDER_WAY: (usize, u64) = (64, 16 << 20);
/// Messages of one APPEND, and octets of all but the last: they are committed together.
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
    octets: u64,
}

/// `Sync`, because a session is shared with its own reads.
type Commit = Pin<Box<dyn Future<Output = Result<Vec<Arrival>, No>> + Send + Sync>>;

/// An APPEND whose commit is awaited; or one that was refused, and has to wait for its turn to say so.
struct UnderWay {
    tag: Tag,
    commit: Commit,
    octets: u64,
}

/// How one ended.
pub(super) struct Outcome {
    tag: Tag,
    result: Result<Vec<Arrival>, No>,
}

/// The APPENDs whose commits are awaited, oldest first.
#[derive(Default)]
pub(super) struct Appends {
    queue: VecDeque<UnderWay>,
    octets: u64,
    /// The mailbox of the last one: clients append many in a row, and its name is not looked up for each.
    last: Option<(MailboxName, MailboxId)>,
}

impl Appends {
    pub fn is_under_way(&self) -> bool {
        !self.queue.is_empty()
    }

    fn is_full(&self) -> bool {
        self.queue.len() >= UNDER_WAY.0 || (self.octets >= UNDER_WAY.1 && self.is_under_way())
    }

    fn push(&mut self, tag: Tag, octets: u64, commit: Commit) {
        self.octets += octets;
        self.queue.push_back(UnderWay { tag, commit, octets });
    }

    /// Waits for the oldest. May be dropped and called again.
    pub async fn next(&mut self) -> Outcome {
        let Some(oldest) = self.queue.front_mut() else { return pending().await };
        let result = oldest.commit.as_mut().await;
        let Some(UnderWay { tag, octets, .. }) = self.queue.pop_front() else { return pending().await };
        self.octets -= octets;
        if self.queue.is_empty() {
            *self = Appends::default();
        }
        Outcome { tag, result }
    }
}

impl Session {
    pub(super) async fn append_start(&mut self, tag: Tag, name: MailboxName) {
        while self.appends.is_full() {
            let outcome = self.appends.next().await;
            self.appended(outcome).await;
        }
        match self.find_for_append(&name).await {
            Ok((mailbox, room)) => {
                let mailbox = (name, mailbox);
                let append = Append { tag, mailbox, room, message: None, complete: Vec::new(), octets: 0 };
                self.append = Some(Box::new(append));
            }
            Err(no) => {
                // Trap 12: the machine passes over the messages that come all the same.
                self.machine.refuse_append();
                self.appends.push(tag, 0, Box::pin(ready(Err(no))));
            }
        }
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
        let refusal = match &self.append {
            None => return self.machine.refuse_append(),
            Some(append) => self.check_message(append, &message).err(),
        };
        match (refusal, &mut self.append) {
            (Some(no), _) => self.give_up_append(no),
            (None, Some(append)) => append.message = Some((message, appending)),
            (None, None) => {}
        }
    }

    /// What can be refused before the message is sent.
    fn check_message(&self, append: &Append, message: &AppendMessage) -> Result<(), No> {
        let (used, quota) = append.room;
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
        if append.complete.len() >= TOGETHER.0 || append.octets >= TOGETHER.1 {
            return Err(No::refused(Code::Limit, "These are too many messages to be appended together"));
        }
        Ok(())
    }

    fn give_up_append(&mut self, no: No) {
        self.machine.refuse_append();
        if let Some(append) = self.append.take() {
            self.appends.push(append.tag, 0, Box::pin(ready(Err(no))));
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
                append.complete.push(complete);
                append.octets += message.size;
            }
            Err(error) => self.give_up_append(error.into()),
        }
    }

    /// The commit begins; its outcome is awaited when there is nothing else to do.
    pub(super) fn append_end(&mut self) {
        let (Some(append), Ok(account)) = (self.append.take(), self.user()) else { return };
        let Append { tag, mailbox, complete, octets, .. } = *append;
        let commit = self.services.ingress.commit_appended(account, mailbox.1, complete);
        self.appends.last = Some(mailbox);
        self.appends.push(tag, octets, Box::pin(async move { Ok(commit.await?) }));
    }

    /// Answers an APPEND (RFC 4315 §3).
    pub(super) async fn appended(&mut self, outcome: Outcome) {
        match outcome.result {
            Ok(arrivals) => {
                let uids: Ranges = arrivals.iter().map(|arrival| arrival.uid.0).collect();
                let code = arrivals.first().map(|first| Code::AppendUid(first.uid_validity, &uids));
                self.done(&outcome.tag, code, "APPEND completed").await;
            }
            Err(no) => self.refuse(&outcome.tag, &no.or_try_create()),
        }
    }
}
