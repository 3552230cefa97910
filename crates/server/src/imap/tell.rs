//! What changed is told: the difference between what the client has seen and what is there.
//!
//! Called at the end of commands, and by IDLE as soon as something happens.

use base::ModSeq;
use imap::Code;
use mailbox::{Difference, Entry, Flags, Index, Keywords};

use super::{No, Session, ranges};

/// What is said of a message that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mention {
    /// Its flags.
    Flags,
    /// The client knows the flags by itself; a MODSEQ it does not (RFC 7162 §3.1.3).
    ModSeq,
    /// Nothing: it was told.
    Nothing,
}

/// The names of flags, as FETCH lists them.
pub(super) fn names(flags: Flags, keywords: &Keywords) -> impl Iterator<Item = &str> {
    Flags::SYSTEM.into_iter().filter(move |(flag, _)| flags.has(*flag)).map(|(_, name)| name).chain(keywords.of(flags))
}

impl Session {
    /// Tells all that happened to the selected mailbox. `expunges` is false where numbers must not move: in FETCH, STORE
    /// and SEARCH by number (RFC 9051 §7.5.1).
    pub(super) async fn tell(&mut self, expunges: bool) -> Result<(), No> {
        self.tell_but(expunges, |_, _| Mention::Flags).await
    }

    /// The same, but `mention` decides what is said of a message whose flags or MODSEQ changed: it gets the message as
    /// the client knew it, and as it is now.
    ///
    /// # Errors
    /// When the connection breaks. What could not be read is told later.
    pub(super) async fn tell_but(
        &mut self,
        expunges: bool,
        mention: impl Fn(Option<&Entry>, &Entry) -> Mention,
    ) -> Result<(), No> {
        let Some(selected) = &mut self.selected else { return Ok(()) };
        let before = selected.view.index().clone();
        let difference = match selected.view.sync(expunges).await {
            Ok(difference) => difference,
            Err(error) => {
                tracing::warn!(%error, "what changed could not be read");
                return Ok(());
            }
        };
        if selected.view.is_deleted() {
            self.bye(None, "The mailbox was deleted by another session");
            return Ok(());
        }
        let Some(difference) = difference else {
            selected.ahead = selected.view.latest().await.ok();
            return Ok(());
        };
        selected.ahead = None;
        if difference.is_empty() {
            return Ok(());
        }
        let index = selected.view.index().clone();
        // Expunges first: a MODSEQ tells the client that it has heard of all that happened before (RFC 7162 §3.2).
        self.tell_expunged(&difference).await?;
        self.tell_arrived(&index, &difference);
        for seq in &difference.changed {
            let Some(now) = index.get(*seq) else { continue };
            let mention = mention(before.find(now.uid).map(|(_, entry)| entry), now);
            self.tell_changed(*seq, now, &index.keywords, mention);
            self.flush_if_full().await?;
        }
        Ok(())
    }

    async fn tell_expunged(&mut self, difference: &Difference) -> Result<(), No> {
        if self.enabled.qresync {
            self.machine.writer().vanished(false, &ranges(&difference.expunged_uids));
            return Ok(());
        }
        for seq in difference.expunged.iter().rev() {
            self.machine.writer().expunge(*seq);
            self.flush_if_full().await?;
        }
        Ok(())
    }

    /// New messages, and keywords the client has not heard of.
    fn tell_arrived(&mut self, index: &Index, difference: &Difference) {
        if difference.arrived > 0 {
            self.machine.writer().exists(index.len());
        }
        let Some(selected) = &mut self.selected else { return };
        let keywords = index.keywords.names().len();
        if keywords > selected.keywords {
            selected.keywords = keywords;
            self.machine.writer().flags(names(Flags(u64::MAX), &index.keywords));
        }
    }

    /// Is the UID part of what is told of a message? Of all that a UID command leads to (RFC 9051 §6.4.9); with QRESYNC
    /// always (RFC 7162 §3.2.3), and RFC 9051 §7.5.2 likes it too.
    pub(super) fn tells_uids(&self) -> bool {
        self.by_uid || self.enabled.qresync || self.enabled.rev2
    }

    fn tell_changed(&mut self, seq: u32, now: &Entry, keywords: &Keywords, mention: Mention) {
        let condstore = self.enabled.condstore;
        if mention == Mention::Nothing || (mention == Mention::ModSeq && !condstore) {
            return;
        }
        let with_uid = self.tells_uids();
        let mut writer = self.machine.writer();
        let mut fetch = writer.fetch(seq);
        if with_uid {
            fetch = fetch.uid(now.uid);
        }
        if mention == Mention::Flags {
            fetch = fetch.flags(names(now.flags, keywords));
        }
        if condstore {
            fetch = fetch.mod_seq(now.modseq);
        }
        fetch.end();
    }

    /// A client that uses MODSEQs, whichever way it said so, hears of them from now on (RFC 7162 §3.1).
    pub(super) fn use_mod_seqs(&mut self) {
        if std::mem::replace(&mut self.enabled.condstore, true) {
            return;
        }
        if let Some(mod_seq) = self.highest_mod_seq() {
            let code = Some(Code::HighestModSeq(mod_seq));
            self.machine.writer().untagged(imap::Status::Ok, code, "Highest");
        }
    }

    /// Up to here the client has heard of everything.
    pub(super) fn highest_mod_seq(&self) -> Option<ModSeq> {
        self.selected.as_ref().map(|selected| selected.view.index().modseq)
    }
}
