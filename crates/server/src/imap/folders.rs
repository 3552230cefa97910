//! The mailboxes themselves: CREATE, DELETE, RENAME, SUBSCRIBE, STATUS.

use base::{AccountId, MailboxId};
use imap::{Code, MailboxName, SpecialUse, StatusItem, StatusItems, StatusValue, Tag};
use mailbox::Refusal;
use mailbox::verbs::{self, FolderInfo, INBOX};
use store::Tx;

use super::select::object_id;
use super::{No, Session};

/// Messages of INBOX that RENAME moves in one job.
const MOVED_AT_ONCE: usize = 1000;

impl Session {
    /// RFC 9051 §6.3.4, RFC 6154 §3, RFC 8474 §4.1.
    pub(super) async fn create(&mut self, tag: &Tag, name: MailboxName, uses: &[SpecialUse]) -> Result<(), No> {
        let special_use = match uses {
            [] => None,
            // These would hold messages of other mailboxes: there is no such thing here.
            [SpecialUse::All | SpecialUse::Flagged | SpecialUse::Important] | [_, _, ..] => {
                return Err(No::refused(Code::UseAttr, "A new mailbox cannot have that use"));
            }
            [one] => Some(one.as_str()),
        };
        let now = self.services.mailboxes.clock().now();
        let id = self.write(move |tx, account| verbs::create(tx, account, name.as_str(), special_use, now)).await?;
        self.done(tag, Some(Code::MailboxId(&object_id(id))), "CREATE completed").await
    }

    /// A verb as one job.
    async fn write<T: Send + 'static>(
        &self,
        verb: impl Fn(&mut Tx<'_>, AccountId) -> store::Result<T> + Send + 'static,
    ) -> Result<T, No> {
        let account = self.user()?;
        Ok(self.services.mailboxes.write(move |tx| verb(tx, account)).await?)
    }

    /// RFC 9051 §6.3.5: mailboxes below it stay.
    pub(super) async fn delete(&mut self, tag: &Tag, name: MailboxName) -> Result<(), No> {
        let id = self.write(move |tx, account| verbs::delete(tx, account, name.as_str())).await?;
        if self.selected.as_ref().is_some_and(|selected| selected.view.mailbox() == id) {
            self.selected = None;
        }
        let mailboxes = self.services.mailboxes.clone();
        tokio::spawn(async move {
            if let Err(error) = mailboxes.purge().await {
                tracing::warn!(%error, "what a deleted mailbox left could not be taken away");
            }
        });
        self.done(tag, None, "DELETE completed").await
    }

    /// RFC 9051 §6.3.6.
    pub(super) async fn rename(&mut self, tag: &Tag, from: MailboxName, to: MailboxName) -> Result<(), No> {
        let now = self.services.mailboxes.clock().now();
        let new = to.clone();
        let renamed =
            self.write(move |tx, account| verbs::rename(tx, account, from.as_str(), to.as_str(), now)).await?;
        if !renamed {
            self.move_all_of_inbox(&new).await?;
        }
        self.done(tag, None, "RENAME completed").await
    }

    /// INBOX stays and is empty (RFC 9051 §6.3.6). What comes while this runs may stay behind.
    async fn move_all_of_inbox(&mut self, to: &MailboxName) -> Result<(), No> {
        let to = self.open(to).await?.mailbox();
        let inbox = self.services.mailboxes.open(self.user()?, INBOX).await?.ok_or_else(No::nonexistent)?;
        let uids: Vec<u32> = inbox.index().iter().map(|(_, entry)| entry.uid.0).collect();
        for piece in uids.chunks(MOVED_AT_ONCE) {
            inbox.copy(piece.iter().copied().collect(), to, true).await?;
        }
        Ok(())
    }

    /// RFC 9051 §6.3.7, §6.3.8. A name is subscribed to only while it has a mailbox, so that a slip of the pen is told;
    /// it stays subscribed when the mailbox goes.
    pub(super) async fn subscribe(&mut self, tag: &Tag, name: MailboxName, yes: bool) -> Result<(), No> {
        self.write(move |tx, account| {
            if yes && verbs::find(tx, account, name.as_str())?.is_none() {
                return Err(Refusal::NoMailbox.into());
            }
            verbs::subscribe(tx, account, name.as_str(), yes)
        })
        .await?;
        self.done(tag, None, if yes { "SUBSCRIBE completed" } else { "UNSUBSCRIBE completed" }).await
    }

    /// RFC 9051 §6.3.11: one row.
    pub(super) async fn status(&mut self, tag: &Tag, name: MailboxName, items: StatusItems) -> Result<(), No> {
        if items.contains(StatusItem::HighestModSeq) {
            self.use_mod_seqs();
        }
        let (account, wanted) = (self.user()?, name.as_str().to_owned());
        let folder = self.store_below().read(move |tx| verbs::folder(tx, account, &wanted)).await?;
        let folder = folder.ok_or(Refusal::NoMailbox)?;
        self.write_status(&name, &folder, items);
        self.done(tag, None, "STATUS completed").await
    }

    pub(super) fn write_status(&mut self, name: &MailboxName, folder: &FolderInfo, items: StatusItems) {
        let (id, limit) = (object_id(folder.id), self.services.max_message);
        let value = |item| match item {
            StatusItem::Messages => StatusValue::Number(folder.messages.into()),
            StatusItem::Recent => StatusValue::Number(0),
            StatusItem::UidNext => StatusValue::Number(folder.uid_next.into()),
            StatusItem::UidValidity => StatusValue::Number(folder.uid_validity.0.into()),
            StatusItem::Unseen => StatusValue::Number(folder.unseen.into()),
            StatusItem::Deleted => StatusValue::Number(folder.deleted.into()),
            StatusItem::Size => StatusValue::Number(folder.octets),
            StatusItem::HighestModSeq => StatusValue::Number(folder.modseq.0),
            StatusItem::MailboxId => StatusValue::Id(&id),
            StatusItem::AppendLimit => StatusValue::Number(limit),
        };
        self.machine.writer().status(name, items.iter().map(|item| (item, value(item))));
    }

    /// The id of a mailbox by its name.
    pub(super) async fn find(&self, name: &MailboxName) -> Result<Option<MailboxId>, No> {
        let (account, name) = (self.user()?, name.as_str().to_owned());
        Ok(self.store_below().read(move |tx| verbs::find(tx, account, &name)).await?)
    }
}
