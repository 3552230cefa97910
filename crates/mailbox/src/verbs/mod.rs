//! What can be done to mailboxes inside a transaction. A verb takes the account's lock with its first statement, does its
//! work, writes the log and publishes the [`Change`](crate::Change); a floor above composes several into one commit.

mod arrive;
mod folder;
mod modify;
mod read;

pub use arrive::{Arrival, Copied, NewEmail, copy, deliver, move_places};
pub use folder::{
    FolderInfo, INBOX, create, create_account, delete, find, folder, folders, remove_account, rename, room, set_quota,
    subscribe, subscriptions,
};
pub use modify::{StoreRequest, Stored, expunge, store_flags};
pub use read::{EmailRow, cached, email, saved, vanished};

use base::{AccountId, EmailId, MailboxId, ModSeq};
use store::{Result, Tx, params};

use crate::load::{self};
use crate::{Flags, Keywords, Refusal, schema};

/// What a mail is kept under: account and number in one integer, so that an account's mails stand together in one order.
pub(crate) fn email_key(account: AccountId, email: EmailId) -> i64 {
    (account.0 << 32) | (email.0 & 0xffff_ffff)
}

/// The account's lock and its next MODSEQ.
pub(crate) fn next_modseq(tx: &mut Tx<'_>, account: AccountId) -> Result<ModSeq> {
    let found = tx.row(&schema::NEXT_MODSEQ, params![account], |r| Ok(ModSeq(r.int(0)? as u64)))?;
    found.ok_or(Refusal::NoAccount.into())
}

/// What becomes of a keyword for which a mailbox has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// It is all that was asked for: the verb refuses.
    Refuse,
    /// A mail comes, and comes without it.
    Drop,
}

/// The bits of these keywords in this mailbox; unknown ones are added to its table. Gives the new table when it grew.
///
/// # Errors
/// Refused, if asked to, when the mailbox has its fill of keywords ([`Keywords::MOST`]).
pub(crate) fn keyword_bits(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailbox: MailboxId,
    names: &[String],
    no_room: NoRoom,
) -> Result<(Flags, Option<Keywords>)> {
    if names.is_empty() {
        return Ok((Flags::default(), None));
    }
    let (mut known, mut bits, mut grown) = (load::keywords(tx, account, mailbox)?, Flags::default(), false);
    for name in names {
        let bit = known.names().len();
        match known.add(name) {
            Some(one) => bits = bits.with(one),
            None if no_room == NoRoom::Drop => continue,
            None => return Err(Refusal::TooManyKeywords.into()),
        }
        if known.names().len() > bit {
            tx.execute(&schema::INSERT_KEYWORD, params![account, mailbox, bit as i64, name.as_str()])?;
            grown = true;
        }
    }
    Ok((bits, grown.then_some(known)))
}
