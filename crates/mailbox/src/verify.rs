//! Proves the tables of mailboxes consistent with each other and with the blobs they refer to.

use std::sync::Arc;

use base::{AccountId, BlobId, ModSeq};
use store::{Result, Tx, params};

use crate::verbs::{self, FolderInfo};
use crate::{Flags, Index, load, schema};

/// Lists what is wrong, in words for the administrator; nothing is changed. `blob_length` gives a blob's octets.
///
/// # Errors
/// The store's: then nothing is known.
pub fn verify(tx: &mut Tx<'_>, blob_length: &dyn Fn(BlobId) -> Result<u64>) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let accounts = tx.list(&schema::ACCOUNTS, params![], |r| {
        Ok((AccountId(r.int(0)?), ModSeq(r.int(1)? as u64), r.int(2)?, r.int(4)?))
    })?;
    for (account, modseq, next_email, used) in accounts {
        let mut octets = 0;
        for folder in verbs::folders(tx, account)? {
            octets += folder.octets;
            check_folder(tx, account, &folder, modseq, &mut wrong)?;
        }
        if octets != used as u64 {
            wrong.push(format!("account {account}: mailboxes hold {octets} octets, the account counts {used}"));
        }
        check_emails(tx, account, next_email, blob_length, &mut wrong)?;
    }
    Ok(wrong)
}

fn check_folder(
    tx: &mut Tx<'_>,
    account: AccountId,
    folder: &FolderInfo,
    highest: ModSeq,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let Some((row, index)) = load::current(tx, account, folder.id, &Arc::new(Index::default()))? else {
        return Ok(());
    };
    let mut say = |what: String| wrong.push(format!("account {account}, mailbox {:?}: {what}", folder.name));
    let count = |test: &dyn Fn(Flags) -> bool| index.iter().filter(|(_, e)| test(e.flags)).count() as u32;
    let octets: u64 = index.iter().map(|(_, e)| u64::from(e.octets)).sum();
    let counted = (index.len(), count(&|f| !f.has(Flags::SEEN)), count(&|f| f.has(Flags::DELETED)), octets);
    let kept = (folder.messages, folder.unseen, folder.deleted, folder.octets);
    if counted != kept {
        say(format!("(messages, unseen, deleted, octets) are {counted:?}, counted as {kept:?}"));
    }
    if index.max_uid() >= row.uid_next {
        say(format!("UID {} is not below UIDNEXT {}", index.max_uid(), row.uid_next));
    }
    if row.modseq > highest {
        say(format!("MODSEQ {} is above the account's {highest}", row.modseq));
    }
    if let Some((_, e)) = index.iter().find(|(_, e)| e.modseq > row.modseq) {
        say(format!("UID {} has MODSEQ {}, above the mailbox's {}", e.uid, e.modseq, row.modseq));
    }
    Ok(())
}

fn check_emails(
    tx: &mut Tx<'_>,
    account: AccountId,
    next_email: i64,
    blob_length: &dyn Fn(BlobId) -> Result<u64>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    tx.rows(&schema::ALL_EMAILS, params![account], |r| {
        let (id, blob, octets, prefix) = (r.int(0)?, BlobId(r.int(1)?), r.int(2)? as u64, r.bytes(3)?.len() as u64);
        match blob_length(blob) {
            Ok(n) if n + prefix == octets => {}
            Ok(n) => {
                wrong.push(format!("account {account}, email {id}: {octets} octets, but {prefix} + {n} are there"))
            }
            Err(e) => wrong.push(format!("account {account}, email {id}: {e}")),
        }
        if id >= next_email {
            wrong.push(format!("account {account}, email {id}: its number is yet to be given"));
        }
        Ok(())
    })?;
    for (sql, what) in
        [(&schema::HOMELESS_EMAILS, "mails stand in no mailbox"), (&schema::PLACELESS_PLACES, "places have no mail")]
    {
        let n = tx.one(sql, params![account], |r| r.int(0))?;
        if n > 0 {
            wrong.push(format!("account {account}: {n} {what}"));
        }
    }
    Ok(())
}
