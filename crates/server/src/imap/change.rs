//! What changes messages: STORE, COPY, MOVE, EXPUNGE.

use std::sync::Arc;

use base::MailboxId;
use imap::{Code, Flag, MailboxName, Ranges, SequenceSet, Status, Store, StoreAction, Tag};
use mailbox::verbs::{Copied, StoreRequest, Stored};
use mailbox::{Entry, FlagOp, Flags, Index, Refusal, UidSet};

use super::select::{Selected, entries};
use super::tell::{Mention, names};
use super::{No, Session, ranges};

/// Messages that are copied in one job.
const COPIED_AT_ONCE: usize = 1000;

/// Splits flags into those of the system and keywords.
pub(super) fn split(flags: &[Flag]) -> (Flags, Vec<String>) {
    let (mut system, mut keywords) = (Flags::default(), Vec::new());
    for flag in flags {
        match flag {
            Flag::Answered => system = system.with(Flags::ANSWERED),
            Flag::Flagged => system = system.with(Flags::FLAGGED),
            Flag::Deleted => system = system.with(Flags::DELETED),
            Flag::Seen => system = system.with(Flags::SEEN),
            Flag::Draft => system = system.with(Flags::DRAFT),
            Flag::Keyword(keyword) => keywords.push(keyword.as_str().to_owned()),
            // The parser gives neither: they cannot be set.
            Flag::Recent | Flag::Any => {}
        }
    }
    (system, keywords)
}

impl Selected {
    /// EXPUNGE would do something.
    pub(super) async fn has_deleted(&self) -> Result<bool, No> {
        let newest = self.view.latest().await?;
        Ok(newest.iter().any(|(_, entry)| entry.flags.has(Flags::DELETED)))
    }

    /// Does a STORE change anything? Programs set flags that are set, and a job that does nothing costs an fsync.
    async fn would_change(&self, uids: &UidSet, op: FlagOp, flags: Flags, keywords: &[String]) -> Result<bool, No> {
        let newest = self.view.latest().await?;
        let bits: Option<Vec<Flags>> = keywords.iter().map(|keyword| newest.keywords.get(keyword)).collect();
        let Some(bits) = bits else { return Ok(true) };
        let given = bits.into_iter().fold(flags, Flags::with);
        Ok(newest.within(uids).any(|(_, entry)| op.apply(entry.flags, given) != entry.flags))
    }

    fn check_writable(&self) -> Result<(), No> {
        if self.read_only { Err(No::refused(Code::ReadOnly, "The mailbox is open read-only")) } else { Ok(()) }
    }
}

/// What COPYUID tells (RFC 4315 §3).
fn copied_ranges(copied: &Copied) -> (Ranges, Ranges) {
    (copied.from.iter().copied().collect(), copied.to.iter().copied().collect())
}

/// A STORE that was carried out.
struct Change {
    /// Which messages.
    uids: UidSet,
    op: FlagOp,
    flags: Flags,
    keywords: Vec<String>,
    silent: bool,
    /// UNCHANGEDSINCE was given.
    conditional: bool,
    stored: Stored,
}

impl Change {
    /// The flags that were given, as bits of this mailbox.
    fn given(&self, index: &Index) -> Flags {
        self.keywords.iter().filter_map(|keyword| index.keywords.get(keyword)).fold(self.flags, Flags::with)
    }

    fn concerns(&self, uid: u32) -> bool {
        self.uids.contains(uid) && !self.stored.modified.contains(uid)
    }
}

impl Session {
    pub(super) async fn store(&mut self, tag: &Tag, uid: bool, set: &SequenceSet, store: Store) -> Result<(), No> {
        if store.unchanged_since.is_some() {
            self.use_mod_seqs();
        }
        let selected = self.selected()?;
        selected.check_writable()?;
        let numbers = selected.numbers(uid, set)?;
        let uids = selected.view.index().uids_of(&numbers);
        let (flags, keywords) = split(&store.flags);
        let op = match store.action {
            StoreAction::Add => FlagOp::Add,
            StoreAction::Remove => FlagOp::Remove,
            StoreAction::Replace => FlagOp::Replace,
        };
        let unchanged_since = store.unchanged_since;
        let conditional = unchanged_since.is_some();
        let stored = if conditional || selected.would_change(&uids, op, flags, &keywords).await? {
            let (uids, keywords) = (uids.clone(), keywords.clone());
            selected.view.store_flags(StoreRequest { uids, op, flags, keywords, unchanged_since }).await?
        } else {
            Stored::default()
        };
        let change = Change { uids, op, flags, keywords, silent: store.silent, conditional, stored };
        let modified = self.modified(uid, &change)?;
        self.tell_change(uid, &change).await?;
        self.end_store(tag, uid, &modified);
        Ok(())
    }

    /// What UNCHANGEDSINCE left alone, in the numbers of the command, as the client knows them.
    fn modified(&mut self, uid: bool, change: &Change) -> Result<Ranges, No> {
        if uid {
            return Ok(ranges(&change.stored.modified));
        }
        let index = self.selected()?.view.index();
        Ok(index.within(&change.stored.modified).map(|(seq, _)| seq).collect())
    }

    fn end_store(&mut self, tag: &Tag, uid: bool, modified: &Ranges) {
        let gone = !uid && self.selected.as_ref().is_some_and(|selected| selected.ahead.is_some());
        if !modified.is_empty() {
            // RFC 7162 §3.1.3
            self.ok(tag, Some(Code::Modified(modified)), "Some messages changed since and were left alone");
        } else if gone {
            self.ok(tag, Some(Code::ExpungeIssued), "Done; some messages of the mailbox are gone");
        } else {
            self.ok(tag, None, "STORE completed");
        }
    }

    /// Tells what the change did, together with what else happened. Not silent, it tells the flags of all messages of the
    /// set, changed or not (RFC 9051 §6.4.6).
    async fn tell_change(&mut self, uid: bool, change: &Change) -> Result<(), No> {
        let newest = self.selected()?.view.latest().await?;
        let given = change.given(&newest);
        let mention = |before: Option<&Entry>, now: &Entry| {
            if !change.concerns(now.uid.0) {
                return Mention::Flags;
            }
            // A client that wants silence computes the flags itself: unless somebody else had a hand in it, it knows.
            let known = before.map(|entry| change.op.apply(entry.flags, given));
            match change.silent {
                false => Mention::Nothing,
                true if known == Some(now.flags) => Mention::ModSeq,
                true => Mention::Flags,
            }
        };
        self.tell_but(uid, mention).await?;
        if self.ended {
            // The mailbox was deleted: nothing was stored.
            return Err(No::nonexistent());
        }
        if change.silent && !change.conditional {
            return Ok(());
        }
        self.tell_flags(change).await
    }

    /// The flags (or with a conditional silent STORE the MODSEQs, RFC 7162 §3.1.3) of the messages of a STORE. Where the
    /// view had to stay behind there are no MODSEQs to be told.
    async fn tell_flags(&mut self, change: &Change) -> Result<(), No> {
        let (condstore, with_uid) = (self.enabled.condstore, self.tells_uids());
        let Some(selected) = &self.selected else { return Ok(()) };
        let index = selected.view.index().clone();
        let newest: Arc<Index> = selected.ahead.clone().unwrap_or_else(|| index.clone());
        let behind = selected.ahead.is_some();
        for (seq, entry) in index.within(&change.uids).filter(|(_, entry)| change.concerns(entry.uid.0)) {
            let Some((_, now)) = newest.find(entry.uid) else { continue };
            // Those that changed were told their MODSEQ with the difference.
            if change.silent && (behind || change.stored.changed.contains(entry.uid.0)) {
                continue;
            }
            let mut writer = self.machine.writer();
            let mut fetch = writer.fetch(seq);
            if with_uid {
                fetch = fetch.uid(entry.uid);
            }
            if !change.silent {
                fetch = fetch.flags(names(now.flags, &newest.keywords));
            }
            if condstore && !behind {
                fetch = fetch.mod_seq(now.modseq);
            }
            fetch.end();
            self.flush_if_full().await?;
        }
        Ok(())
    }

    /// EXPUNGE, or UID EXPUNGE of `only`.
    pub(super) async fn expunge(&mut self, tag: &Tag, only: Option<&SequenceSet>) -> Result<(), No> {
        let selected = self.selected()?;
        selected.check_writable()?;
        let only = match only {
            Some(set) => Some(selected.view.index().uids_of(&selected.numbers(true, set)?)),
            None => None,
        };
        if selected.has_deleted().await? {
            selected.view.expunge(only, false).await?;
        }
        self.done_with_mod_seq(tag, "EXPUNGE completed").await
    }

    /// RFC 7162 §3.2.7: what expunged ends with the MODSEQ up to which the client has heard of everything.
    async fn done_with_mod_seq(&mut self, tag: &Tag, text: &str) -> Result<(), No> {
        self.tell(true).await?;
        let code = self.highest_mod_seq().filter(|_| self.enabled.qresync).map(Code::HighestModSeq);
        self.ok(tag, code, text);
        Ok(())
    }

    pub(super) async fn copy(
        &mut self,
        tag: &Tag,
        uid: bool,
        set: &SequenceSet,
        to: MailboxName,
        and_remove: bool,
    ) -> Result<(), No> {
        let selected = self.selected()?;
        if and_remove {
            selected.check_writable()?;
        }
        let numbers = selected.numbers(uid, set)?;
        let index = selected.view.index().clone();
        let to = self.find(&to).await?.ok_or(Refusal::NoDestination)?;
        let (copied, failed) = self.copy_in_pieces(&index, &numbers, to, and_remove).await;
        if and_remove {
            self.tell_moved(&copied);
        }
        if let Some(no) = failed {
            self.tell(true).await?;
            return Err(no);
        }
        if and_remove {
            return self.done_with_mod_seq(tag, "MOVE completed").await;
        }
        let (from, to) = copied_ranges(&copied);
        let code = (!from.is_empty()).then_some(Code::CopyUid(copied.uid_validity, &from, &to));
        self.done(tag, code, "COPY completed").await
    }

    /// RFC 6851 §4.3: the COPYUID of MOVE comes before the expunges; also where only some of the messages were moved.
    fn tell_moved(&mut self, copied: &Copied) {
        let (from, to) = copied_ranges(copied);
        if !from.is_empty() {
            let code = Some(Code::CopyUid(copied.uid_validity, &from, &to));
            self.machine.writer().untagged(Status::Ok, code, "Moved");
        }
    }

    /// Each piece is one job, so that nobody waits long behind it. A COPY that fails takes back what it did (RFC 9051
    /// §6.4.7); a MOVE that fails leaves each message in one of the mailboxes (RFC 6851 §4.2): what it moved is given,
    /// too. Into the mailbox they are in, messages get new UIDs (§3.3); what came so is not moved again (trap 11).
    async fn copy_in_pieces(
        &mut self,
        index: &Index,
        numbers: &UidSet,
        to: MailboxId,
        and_remove: bool,
    ) -> (Copied, Option<No>) {
        let mut all = Copied::default();
        let uids: Vec<u32> = entries(index, numbers, 1).map(|(_, entry)| entry.uid.0).collect();
        for piece in uids.chunks(COPIED_AT_ONCE) {
            let Some(selected) = &self.selected else { break };
            match selected.view.copy(piece.iter().copied().collect(), to, and_remove).await {
                Ok(copied) => {
                    all.uid_validity = copied.uid_validity;
                    all.from.extend(copied.from);
                    all.to.extend(copied.to);
                }
                Err(error) => {
                    if !and_remove {
                        self.take_back(to, &all).await;
                    }
                    return (all, Some(error.into()));
                }
            }
        }
        (all, None)
    }

    async fn take_back(&mut self, to: MailboxId, copied: &Copied) {
        let (Ok(account), false) = (self.user(), copied.to.is_empty()) else { return };
        let uids = copied.to.iter().copied().collect();
        let outcome = match self.services.mailboxes.open(account, to).await {
            Ok(Some(view)) => view.expunge(Some(uids), true).await.map(drop),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "half a COPY could not be taken back");
        }
    }
}
