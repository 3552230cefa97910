//! Proves the tables of mailboxes consistent with each other and with the blobs they refer to.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{AccountId, BlobId, EmailId, ModSeq};
use store::{Result, Tx, params};

use crate::verbs::{self, FolderInfo, email_key};
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

/// Every mail has its bytes, and as many places as its copies say.
fn check_emails(
    tx: &mut Tx<'_>,
    account: AccountId,
    next_email: i64,
    blob_length: &dyn Fn(BlobId) -> Result<u64>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let mut places: BTreeMap<i64, i64> = BTreeMap::new();
    tx.rows(&schema::ALL_PLACES, params![account], |r| {
        *places.entry(email_key(account, EmailId(r.int(0)?))).or_default() += 1;
        Ok(())
    })?;
    let range = (email_key(account, EmailId(0)), email_key(AccountId(account.0 + 1), EmailId(0)));
    let mut copies: BTreeMap<i64, i64> = BTreeMap::new();
    tx.rows(&schema::ALL_COPIES, params![range.0, range.1], |r| {
        copies.insert(r.int(0)?, r.int(1)?);
        Ok(())
    })?;
    tx.rows(&schema::ALL_EMAILS, params![range.0, range.1], |r| {
        let (key, blob, octets, prefix) = (r.int(0)?, BlobId(r.int(1)?), r.int(2)? as u64, r.bytes(3)?.len() as u64);
        let id = key - range.0;
        let mut say = |what: String| wrong.push(format!("account {account}, email {id}: {what}"));
        match blob_length(blob) {
            Ok(n) if n + prefix == octets => {}
            Ok(n) => say(format!("{octets} octets, but {prefix} + {n} are there")),
            Err(e) => say(e.to_string()),
        }
        if id >= next_email {
            say("its number is yet to be given".into());
        }
        let (stands, counted) = (places.remove(&key).unwrap_or(0), 1 + copies.remove(&key).unwrap_or(0));
        if stands != counted {
            say(format!("it stands in {stands} places, {counted} are counted"));
        }
        Ok(())
    })?;
    wrong.extend(
        places.keys().map(|key| format!("account {account}: email {} has a place but is not there", key - range.0)),
    );
    wrong.extend(
        copies.keys().map(|key| format!("account {account}: email {} is counted but not there", key - range.0)),
    );
    Ok(())
}
