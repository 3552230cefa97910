//! What changed is told: the difference between what the client has seen and what is there.
//!
//! Called at the end of commands, and by IDLE as soon as something happens.

use base::ModSeq;
use imap::Code;
use mailbox::{Difference, Entry, Flags, Index, Keywords};

use super::{Session, ranges};

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
    pub(super) async fn tell(&mut self, expunges: bool) {
        self.tell_but(expunges, |_, _| Mention::Flags).await;
    }

    /// The same, but `mention` decides what is said of a message whose flags or MODSEQ changed: it gets the message as
    /// the client knew it, and as it is now.
    pub(super) async fn tell_but(&mut self, expunges: bool, mention: impl Fn(Option<&Entry>, &Entry) -> Mention) {
        let Some(selected) = &mut self.selected else { return };
        let before = selected.view.index().clone();
        let difference = match selected.view.sync(expunges).await {
            Ok(difference) => difference,
            // The command itself is done; what could not be read now will be told later.
            Err(error) => return tracing::warn!(%error, "what changed could not be read"),
        };
        if selected.view.is_deleted() {
            return self.bye(None, "The mailbox was deleted by another session");
        }
        match difference {
            Some(difference) => {
                selected.ahead = None;
                if !difference.is_empty() {
                    self.write_difference(&before, &difference, mention);
                }
            }
            None => selected.ahead = selected.view.latest().await.ok(),
        }
    }

    fn write_difference(
        &mut self,
        before: &Index,
        difference: &Difference,
        mention: impl Fn(Option<&Entry>, &Entry) -> Mention,
    ) {
        let Some(selected) = &mut self.selected else { return };
        let index = selected.view.index();
        let mut writer = self.machine.writer();
        // Expunges first: a MODSEQ tells the client that it has heard of all that happened before (RFC 7162 §3.2).
        if self.enabled.qresync {
            writer.vanished(false, &ranges(&difference.expunged_uids));
        } else {
            difference.expunged.iter().rev().for_each(|seq| writer.expunge(*seq));
        }
        if difference.arrived > 0 {
            writer.exists(index.len());
        }
        if index.keywords.names().len() > selected.keywords {
            selected.keywords = index.keywords.names().len();
            writer.flags(names(Flags(u64::MAX), &index.keywords));
        }
        for seq in &difference.changed {
            let Some(now) = index.get(*seq) else { continue };
            let mention = mention(before.find(now.uid).map(|(_, entry)| entry), now);
            if mention == Mention::Nothing || (mention == Mention::ModSeq && !self.enabled.condstore) {
                continue;
            }
            let mut fetch = writer.fetch(*seq);
            // RFC 7162 §3.2.3, and RFC 9051 §7.5.2 likes it too.
            if self.enabled.qresync || self.enabled.rev2 {
                fetch = fetch.uid(now.uid);
            }
            if mention == Mention::Flags {
                fetch = fetch.flags(names(now.flags, &index.keywords));
            }
            if self.enabled.condstore {
                fetch = fetch.mod_seq(now.modseq);
            }
            fetch.end();
        }
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
