//! SELECT and EXAMINE, with what a returning client missed (QRESYNC); CLOSE and UNSELECT; and what a set of numbers means
//! in the mailbox that is selected.

use std::sync::Arc;

use base::{ModSeq, Uid};
use imap::{Code, ListEntry, MailboxName, Qresync, Select, SequenceSet, Status, Tag};
use mailbox::verbs;
use mailbox::{Entry, Flags, Index, Keywords, UidSet, View};

use super::tell::names;
use super::{No, Session, ranges, uid_set};

/// The selected mailbox.
pub(super) struct Selected {
    /// What the client has been told of it.
    pub view: View,
    /// EXAMINE.
    pub read_only: bool,
    /// How many of the mailbox's keywords the client has been told.
    pub keywords: usize,
    /// `$`: UIDs (RFC 5182).
    pub saved: UidSet,
    /// What is there now, while an expunge could not be told and the view had to stay behind.
    pub ahead: Option<Arc<Index>>,
}

impl Selected {
    /// The flags of a message as they are now, even where the view had to stay behind: the client may have set them
    /// itself.
    pub fn flags_of(&self, entry: &Entry) -> Flags {
        let newer = self.ahead.as_ref().and_then(|index| index.find(entry.uid));
        newer.map_or(entry.flags, |(_, entry)| entry.flags)
    }

    /// The names of all bits there may be in flags.
    pub fn keywords(&self) -> &Keywords {
        &self.ahead.as_ref().unwrap_or(self.view.index()).keywords
    }

    /// The messages meant by a set, as message numbers in the view.
    ///
    /// # Errors
    /// BAD for a number above the highest (RFC 9051 §6.4.5). UIDs that are not there mean nothing (§6.4.9).
    pub fn numbers(&self, uid: bool, set: &SequenceSet) -> Result<UidSet, No> {
        let highest = self.view.index().len();
        if !uid && set.resolve(highest).last().is_some_and(|last| last > highest) {
            return Err(No::Wrong("There is no message of that number"));
        }
        Ok(self.numbers_there(uid, set))
    }

    /// The same, for a SEARCH: what is not there does not match.
    pub fn numbers_there(&self, uid: bool, set: &SequenceSet) -> UidSet {
        let index = self.view.index();
        let mut numbers = if uid {
            numbers_of(index, &uid_set(&set.resolve(index.max_uid())))
        } else {
            uid_set(&set.resolve(index.len())).intersection(&UidSet::from_ranges([(0, index.len())]))
        };
        if set.has_saved() {
            numbers.union(&numbers_of(index, &self.saved));
        }
        numbers
    }
}

/// The message numbers of those UIDs that are there: costs the set's ranges, not what they span.
fn numbers_of(index: &Index, uids: &UidSet) -> UidSet {
    let after = |uid: u32| uid.checked_add(1).map_or(index.len() + 1, |next| index.seq_from(Uid(next)));
    let spans = uids.ranges().iter().map(|(from, to)| (index.seq_from(Uid(*from)), after(*to)));
    UidSet::from_ranges(spans.filter(|(from, to)| from < to).map(|(from, to)| (from, to - 1)))
}

/// The messages of these numbers from `from` on, in order.
pub(super) fn entries<'a>(
    index: &'a Index,
    numbers: &'a UidSet,
    from: u32,
) -> impl Iterator<Item = (u32, &'a Entry)> + use<'a> {
    let first = numbers.ranges().partition_point(|range| range.1 < from);
    numbers.ranges()[first..]
        .iter()
        .flat_map(move |(a, b)| index.iter_from((*a).max(from)).take_while(move |(seq, _)| seq <= b))
}

/// What the mailbox is called in OBJECTID's terms (RFC 8474 §4).
pub(super) fn object_id(mailbox: base::MailboxId) -> String {
    format!("F{mailbox}")
}

impl Session {
    pub(super) async fn select(&mut self, tag: &Tag, select: Select, read_only: bool) -> Result<(), No> {
        if select.qresync.is_some() && !self.enabled.qresync {
            // RFC 7162 §3.2.5
            return Err(No::Wrong("ENABLE QRESYNC first"));
        }
        // RFC 9051 §6.3.2: the mailbox selected before is closed, even if this fails.
        if self.selected.take().is_some() {
            self.machine.writer().untagged(Status::Ok, Some(Code::Closed), "The mailbox before is closed");
        }
        if select.condstore {
            self.use_mod_seqs();
        }
        let view = self.open(&select.mailbox).await?;
        let keywords = view.index().keywords.names().len();
        let saved = UidSet::new();
        self.selected = Some(Box::new(Selected { view, read_only, keywords, saved, ahead: None }));
        self.describe(&select.mailbox)?;
        if let Some(known) = &select.qresync {
            self.resync(known).await?;
        }
        let code = if read_only { Code::ReadOnly } else { Code::ReadWrite };
        self.ok(tag, Some(code), if read_only { "EXAMINE completed" } else { "SELECT completed" });
        Ok(())
    }

    /// A view of the mailbox of this name.
    pub(super) async fn open(&self, mailbox: &MailboxName) -> Result<View, No> {
        let id = self.find(mailbox).await?.ok_or_else(No::nonexistent)?;
        self.services.mailboxes.open(self.user()?, id).await?.ok_or_else(No::nonexistent)
    }

    /// The untagged responses of SELECT (RFC 9051 §6.3.2, RFC 3501 §6.3.1, RFC 7162 §3.1.2, RFC 8474 §4.2).
    fn describe(&mut self, name: &MailboxName) -> Result<(), No> {
        let rev2 = self.enabled.rev2;
        let Some(selected) = &self.selected else { return Ok(()) };
        let index = selected.view.index();
        let id = object_id(selected.view.mailbox());
        let mut writer = self.machine.writer();
        writer.flags(names(Flags(u64::MAX), &index.keywords));
        let mut permanent: Vec<&str> = Vec::new();
        if !selected.read_only {
            permanent.extend(names(Flags(u64::MAX), &index.keywords));
            permanent.extend((index.keywords.names().len() < Keywords::MOST).then_some("\\*"));
        }
        writer.untagged(Status::Ok, Some(Code::PermanentFlags(&permanent)), "Flags that last");
        writer.exists(index.len());
        if !rev2 {
            writer.recent(0);
            if let Some(unseen) = index.first_unseen() {
                writer.untagged(Status::Ok, Some(Code::Unseen(unseen)), "The first unseen message");
            }
        }
        writer.untagged(Status::Ok, Some(Code::UidValidity(index.uid_validity)), "UIDs are valid");
        writer.untagged(Status::Ok, Some(Code::UidNext(Uid(index.uid_next))), "The next UID");
        writer.untagged(Status::Ok, Some(Code::HighestModSeq(index.modseq)), "Highest");
        writer.untagged(Status::Ok, Some(Code::MailboxId(&id)), "Its id");
        if rev2 {
            let entry =
                ListEntry { attributes: &[], delimiter: Some('/'), name, old_name: None, child_subscribed: false };
            writer.list(&entry);
        }
        Ok(())
    }

    /// Tells a returning client what it missed (RFC 7162 §3.2.5).
    async fn resync(&mut self, known: &Qresync) -> Result<(), No> {
        let index = self.selected()?.view.index().clone();
        if known.uid_validity != index.uid_validity {
            return Ok(());
        }
        let among = match &known.known_uids {
            Some(uids) => uid_set(&uids.resolve(index.max_uid())),
            None => UidSet::from_ranges([(1, u32::MAX)]),
        };
        let mut gone = self.vanished(known.mod_seq, &among).await?;
        if let Some(same) = last_match(&index, known) {
            gone = gone.difference(&UidSet::from_ranges([(0, same)]));
        }
        self.machine.writer().vanished(true, &ranges(&gone));
        for (seq, entry) in index.within(&among).filter(|(_, entry)| entry.modseq > known.mod_seq) {
            let flags = names(entry.flags, &index.keywords);
            self.machine.writer().fetch(seq).uid(entry.uid).flags(flags).mod_seq(entry.modseq).end();
            self.flush_if_full().await?;
        }
        Ok(())
    }

    /// Those `among` UIDs that were expunged since (RFC 7162 §3.2.6), but for what the view still shows: that is told
    /// when the view moves.
    pub(super) async fn vanished(&mut self, since: ModSeq, among: &UidSet) -> Result<UidSet, No> {
        let view = &self.selected()?.view;
        let (account, mailbox, index) = (view.account(), view.mailbox(), view.index().clone());
        let seen = index.clone();
        let work = move |tx: &mut store::Tx<'_>| verbs::vanished(tx, account, mailbox, &index, since);
        let gone = self.store_below().read(work).await?.intersection(among);
        let shown: UidSet = seen.within(&gone).map(|(_, entry)| entry.uid.0).collect();
        let given = UidSet::from_ranges([(0, seen.uid_next.saturating_sub(1))]);
        Ok(gone.difference(&shown).intersection(&given))
    }

    /// RFC 9051 §6.4.1: CLOSE expunges, and tells nothing of it.
    pub(super) async fn close(&mut self, tag: &Tag) -> Result<(), No> {
        let selected = self.selected()?;
        if !selected.read_only && selected.has_deleted().await? {
            selected.view.expunge(None, false).await?;
        }
        self.selected = None;
        self.ok(tag, None, "CLOSE completed");
        Ok(())
    }

    /// RFC 9051 §6.4.2.
    pub(super) fn unselect(&mut self, tag: &Tag) -> Result<(), No> {
        self.selected()?;
        self.selected = None;
        self.ok(tag, None, "UNSELECT completed");
        Ok(())
    }
}

/// The highest UID of those the client gave with their numbers (RFC 7162 §3.2.5.2) that still has its number: below it
/// nothing was expunged that the client does not know of.
fn last_match(index: &Index, known: &Qresync) -> Option<u32> {
    let (numbers, uids) = known.seq_match.as_ref()?;
    let (numbers, uids) = (uid_set(&numbers.resolve(index.len())), uid_set(&uids.resolve(index.max_uid())));
    let pairs = numbers.iter().zip(uids.iter()).take_while(|(seq, _)| *seq <= index.len());
    pairs.filter(|(seq, uid)| index.get(*seq).is_some_and(|entry| entry.uid.0 == *uid)).map(|(_, uid)| uid).last()
}
