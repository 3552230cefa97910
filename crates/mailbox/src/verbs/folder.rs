//! The mailboxes themselves: making, renaming, deleting, listing. Names are UTF-8, levels are separated by `/`.

use std::collections::HashSet;
use std::sync::Arc;

use base::{AccountId, MailboxId, ModSeq, Timestamp, UidValidity};
use store::{Result, Tx, params};

use super::next_modseq;
use crate::load::MailboxRow;
use crate::{Change, Refusal, What, schema};

/// Every account's first mailbox.
pub const INBOX: MailboxId = MailboxId(1);

/// Octets in a mailbox's name, at most.
const NAME: usize = 1000;
/// Levels in a mailbox's name, at most.
const LEVELS: usize = 32;
/// Mailboxes in an account, at most.
const MAILBOXES: i64 = 10_000;
/// Names an account may subscribe to, at most.
const SUBSCRIPTIONS: i64 = 20_000;

/// What a new account finds: name and special use (RFC 6154).
const FIRST: [(&str, &str); 6] = [
    ("INBOX", ""),
    ("Archive", "\\Archive"),
    ("Drafts", "\\Drafts"),
    ("Junk", "\\Junk"),
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
];

/// What LIST and STATUS tell of a mailbox.
#[derive(Clone, Debug)]
pub struct FolderInfo {
    /// Stable for the mailbox's life, through renames (RFC 8474 MAILBOXID).
    pub id: MailboxId,
    /// Its whole name.
    pub name: String,
    /// RFC 6154 attribute, as `\Sent`.
    pub special_use: Option<String>,
    /// RFC 9051 §2.3.1.1
    pub uid_validity: UidValidity,
    /// RFC 9051 §2.3.1.1
    pub uid_next: u32,
    /// RFC 7162 HIGHESTMODSEQ
    pub modseq: ModSeq,
    /// How many mails.
    pub messages: u32,
    /// How many without `\Seen`.
    pub unseen: u32,
    /// How many with `\Deleted`.
    pub deleted: u32,
    /// Their sizes' sum (RFC 8438).
    pub octets: u64,
}

impl FolderInfo {
    fn new(id: MailboxId, row: MailboxRow) -> Self {
        FolderInfo {
            id,
            uid_validity: row.uid_validity,
            uid_next: row.uid_next,
            modseq: row.modseq,
            messages: row.messages as u32,
            unseen: row.unseen as u32,
            deleted: row.deleted as u32,
            octets: row.octets as u64,
            name: row.name,
            special_use: row.special_use,
        }
    }
}

/// Gives a new account its mailboxes. `quota` in octets; 0: none.
///
/// # Errors
/// A second time is a broken constraint.
pub fn create_account(tx: &mut Tx<'_>, account: AccountId, quota: u64, now: Timestamp) -> Result<()> {
    tx.execute(&schema::NEW_ACCOUNT, params![account, quota as i64])?;
    for (name, special_use) in FIRST {
        insert(tx, account, name, special_use, now)?;
        subscribe(tx, account, name, true)?;
    }
    Ok(())
}

/// Removes an account's mailboxes; their rows are taken away in pieces later ([`crate::Mailboxes::purge`]).
///
/// # Errors
/// Refused when there is no such account.
pub fn remove_account(tx: &mut Tx<'_>, account: AccountId) -> Result<()> {
    for f in folders(tx, account)? {
        drop_folder(tx, account, f.id)?;
    }
    for name in subscriptions(tx, account)? {
        subscribe(tx, account, &name, false)?;
    }
    match tx.execute(&schema::REMOVE_ACCOUNT, params![account])? {
        0 => Err(Refusal::NoAccount.into()),
        _ => Ok(()),
    }
}

/// Changes the quota: octets, 0 for none.
///
/// # Errors
/// As any statement.
pub fn set_quota(tx: &mut Tx<'_>, account: AccountId, quota: u64) -> Result<()> {
    tx.execute(&schema::SET_QUOTA, params![account, quota as i64]).map(drop)
}

/// Octets used and the quota (0: none).
///
/// # Errors
/// Refused when there is no such account.
pub fn room(tx: &mut Tx<'_>, account: AccountId) -> Result<(u64, u64)> {
    let found = tx.row(&schema::ACCOUNT_USE, params![account], |r| Ok((r.int(0)? as u64, r.int(1)? as u64)))?;
    found.ok_or(Refusal::NoAccount.into())
}

fn insert(tx: &mut Tx<'_>, account: AccountId, name: &str, special_use: &str, now: Timestamp) -> Result<MailboxId> {
    let validity = now.secs().clamp(1, i64::from(u32::MAX));
    let (id, validity, modseq) = tx
        .row(&schema::NEXT_MAILBOX, params![account, validity], |r| {
            Ok((MailboxId(r.int(0)?), UidValidity(r.int(1)? as u32), ModSeq(r.int(2)? as u64)))
        })?
        .ok_or(Refusal::NoAccount)?;
    tx.execute(&schema::INSERT_MAILBOX, params![account, id, name, validity, modseq, special_use])?;
    Ok(id)
}

/// A name as we keep it: INBOX in any case is `INBOX` (RFC 9051 §5.1), also as a first level.
fn canonical(name: &str) -> String {
    match name.split_once('/') {
        None if name.eq_ignore_ascii_case("INBOX") => "INBOX".into(),
        Some((first, rest)) if first.eq_ignore_ascii_case("INBOX") => format!("INBOX/{rest}"),
        _ => name.into(),
    }
}

/// RFC 9051 §5.1: no controls, nothing that LIST could not show again.
fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.len() > NAME
        || name.chars().any(|c| c.is_control() || matches!(c, '*' | '%' | '\u{2028}' | '\u{2029}'))
        || name.split('/').any(str::is_empty)
        || name.split('/').count() > LEVELS;
    if bad {
        return Err(Refusal::BadName.into());
    }
    Ok(())
}

/// The mailbox of this name.
///
/// # Errors
/// As any statement.
pub fn find(tx: &mut Tx<'_>, account: AccountId, name: &str) -> Result<Option<MailboxId>> {
    tx.row(&schema::MAILBOX_BY_NAME, params![account, canonical(name).as_str()], |r| Ok(MailboxId(r.int(0)?)))
}

/// Makes a mailbox, and the levels above it that are missing (RFC 9051 §6.3.4). A `/` at the end is ignored.
///
/// # Errors
/// Refused: it exists, its name is not valid, a special use is taken, or there are too many.
pub fn create(
    tx: &mut Tx<'_>,
    account: AccountId,
    name: &str,
    special_use: Option<&str>,
    now: Timestamp,
) -> Result<MailboxId> {
    let name = canonical(name.strip_suffix('/').unwrap_or(name));
    check_name(&name)?;
    next_modseq(tx, account)?;
    if find(tx, account, &name)?.is_some() {
        return Err(Refusal::Exists.into());
    }
    let mut missing = Vec::new();
    for (end, _) in name.match_indices('/') {
        if find(tx, account, &name[..end])?.is_none() {
            missing.push(&name[..end]);
        }
    }
    let there = tx.one(&schema::COUNT_MAILBOXES, params![account], |r| r.int(0))?;
    if there + missing.len() as i64 >= MAILBOXES {
        return Err(Refusal::TooManyMailboxes.into());
    }
    if let Some(special_use) = special_use
        && tx.row(&schema::MAILBOX_BY_USE, params![account, special_use], |r| r.int(0))?.is_some()
    {
        return Err(Refusal::UseTaken.into());
    }
    for level in missing {
        insert(tx, account, level, "", now)?;
    }
    insert(tx, account, &name, special_use.unwrap_or(""), now)
}

/// Deletes a mailbox with all that stands in it; mailboxes below it stay (RFC 9051 §6.3.5).
///
/// # Errors
/// Refused: there is none, or it is INBOX.
pub fn delete(tx: &mut Tx<'_>, account: AccountId, name: &str) -> Result<MailboxId> {
    let id = find(tx, account, name)?.ok_or(Refusal::NoMailbox)?;
    if id == INBOX {
        return Err(Refusal::Inbox.into());
    }
    drop_folder(tx, account, id)?;
    Ok(id)
}

fn drop_folder(tx: &mut Tx<'_>, account: AccountId, id: MailboxId) -> Result<()> {
    let after = next_modseq(tx, account)?;
    let row = MailboxRow::read(tx, account, id)?.ok_or(Refusal::NoMailbox)?;
    tx.execute(&schema::CHANGE_USE, params![account, -row.octets])?;
    tx.execute(&schema::DELETE_MAILBOX, params![account, id])?;
    // Its rows are taken away in pieces later: no job runs long.
    tx.execute(&schema::ORPHANS, params![account, id])?;
    let change = Change { account, mailbox: id, before: row.modseq, after, keywords: None, what: What::Deleted };
    tx.publish(Arc::new(change));
    Ok(())
}

/// Renames a mailbox and those below it; subscriptions stay with the names (RFC 9051 §6.3.6). Gives false for INBOX,
/// whose mails the caller moves to the new mailbox instead.
///
/// # Errors
/// Refused: no such mailbox, the new name exists or is not valid, or lies below the old one.
pub fn rename(tx: &mut Tx<'_>, account: AccountId, from: &str, to: &str, now: Timestamp) -> Result<bool> {
    let (from, to) = (canonical(from), canonical(to.strip_suffix('/').unwrap_or(to)));
    check_name(&to)?;
    next_modseq(tx, account)?;
    let id = find(tx, account, &from)?.ok_or(Refusal::NoMailbox)?;
    if find(tx, account, &to)?.is_some() {
        return Err(Refusal::Exists.into());
    }
    if id == INBOX {
        create(tx, account, &to, None, now)?;
        return Ok(false);
    }
    if to.strip_prefix(from.as_str()).is_some_and(|rest| rest.starts_with('/')) {
        return Err(Refusal::BelowItself.into());
    }
    if let Some((parent, _)) = to.rsplit_once('/')
        && find(tx, account, parent)?.is_none()
    {
        create(tx, account, parent, None, now)?;
    }
    tx.execute(&schema::RENAME_MAILBOX, params![account, id, to.as_str()])?;
    let moved = below(tx, account, &from)?;
    // What stands below a mailbox stays when that is deleted: others than those that move may have the new names.
    let mut taken: HashSet<String> = below(tx, account, &to)?.into_iter().collect();
    for old in &moved {
        taken.remove(old);
    }
    for old in &moved {
        let new = format!("{to}{}", &old[from.len()..]);
        check_name(&new)?;
        if taken.contains(&new) {
            return Err(Refusal::Exists.into());
        }
    }
    if from.starts_with(&format!("{to}/")) {
        // Up a level: an engine that is half way through might find the name of one that has not moved yet.
        rename_below(tx, account, &from, ASIDE)?;
        rename_below(tx, account, ASIDE, &to)?;
    } else {
        rename_below(tx, account, &from, &to)?;
    }
    Ok(true)
}

/// A name that no mailbox can have.
const ASIDE: &str = "\u{1}";

/// The names below a mailbox's: `0` follows `/`.
fn range(name: &str) -> (String, String) {
    (format!("{name}/"), format!("{name}0"))
}

fn below(tx: &mut Tx<'_>, account: AccountId, name: &str) -> Result<Vec<String>> {
    let (first, end) = range(name);
    tx.list(&schema::MAILBOXES_BETWEEN, params![account, first.as_str(), end.as_str()], |r| Ok(r.text(0)?.to_owned()))
}

/// In one statement: ten thousand of their own would be a long job.
fn rename_below(tx: &mut Tx<'_>, account: AccountId, from: &str, to: &str) -> Result<()> {
    let (first, end) = range(from);
    let names = params![account, first.as_str(), end.as_str(), from, to];
    tx.execute(&schema::RENAME_MAILBOXES_BETWEEN, names).map(drop)
}

/// All mailboxes of an account, by name.
///
/// # Errors
/// As any statement.
pub fn folders(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<FolderInfo>> {
    tx.list(&schema::MAILBOXES, params![account], |r| Ok(FolderInfo::new(MailboxId(r.int(12)?), MailboxRow::from(r)?)))
}

/// What is to be told of one mailbox; `None` when there is none of that name.
///
/// # Errors
/// As any statement.
pub fn folder(tx: &mut Tx<'_>, account: AccountId, name: &str) -> Result<Option<FolderInfo>> {
    let Some(id) = find(tx, account, name)? else { return Ok(None) };
    Ok(MailboxRow::read(tx, account, id)?.map(|row| FolderInfo::new(id, row)))
}

/// Subscribes to a name or no longer does; the mailbox need not exist (RFC 9051 §6.3.7).
///
/// # Errors
/// Refused when the name is not valid, or there are too many.
pub fn subscribe(tx: &mut Tx<'_>, account: AccountId, name: &str, yes: bool) -> Result<()> {
    let name = canonical(name);
    check_name(&name)?;
    if !yes {
        return tx.execute(&schema::UNSUBSCRIBE, params![account, name.as_str()]).map(drop);
    }
    if tx.one(&schema::COUNT_SUBSCRIPTIONS, params![account], |r| r.int(0))? >= SUBSCRIPTIONS {
        return Err(Refusal::TooManySubscriptions.into());
    }
    tx.execute(&schema::SUBSCRIBE, params![account, name.as_str()]).map(drop)
}

/// The names an account is subscribed to, sorted.
///
/// # Errors
/// As any statement.
pub fn subscriptions(tx: &mut Tx<'_>, account: AccountId) -> Result<Vec<String>> {
    tx.list(&schema::SUBSCRIPTIONS, params![account], |r| Ok(r.text(0)?.to_owned()))
}
