//! What leaves the house again: who vouches for it, and how much of it an account may send.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base::{AccountId, Address, Error, Reply, Result, Timestamp};
use mime::address::{self, Entry};
use mime::header;

use crate::{Ingress, Origin};

/// Recipients on other hosts that an account may write to within a day. People need far less; who has stolen a password
/// wants far more.
pub const DAILY: u32 = 2000;
const DAY: i64 = 24 * 3600 * 1000;

/// What each account has spent of its day.
#[derive(Default)]
pub(crate) struct Spent(Mutex<HashMap<AccountId, (Timestamp, u32)>>);

impl Spent {
    /// Counts a recipient more.
    ///
    /// # Errors
    /// 451 4.7.1 when the day's are spent.
    pub(crate) fn one_more(&self, account: AccountId, now: Timestamp) -> Result<()> {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, n) = spent.entry(account).or_insert((now, 0));
        if now.0 - since.0 >= DAY {
            (*since, *n) = (now, 0);
        }
        if *n >= DAILY {
            let text =
                format!("This account has written to {DAILY} recipients elsewhere within a day, and may do no more");
            return Err(Error::new(Reply::new(451, 7, 1, text)));
        }
        *n += 1;
        Ok(())
    }
}

/// Who the header says wrote the mail: the one address of its one From field.
pub(crate) fn author(head: &[u8]) -> Option<Address> {
    let mut from = header::fields(head).filter(|f| f.is(b"From"));
    let (Some(field), None) = (from.next(), from.next()) else { return None };
    let mut mailboxes = address::addresses(field.value).filter_map(|entry| match entry {
        Entry::Mailbox(mailbox) => Some(mailbox),
        Entry::GroupStart(_) | Entry::GroupEnd => None,
    });
    let (Some(one), None) = (mailboxes.next(), mailboxes.next()) else { return None };
    Address::new(std::str::from_utf8(&one.local).ok()?, std::str::from_utf8(&one.domain).ok()?).ok()
}

impl Ingress {
    /// The domain that signs for a mail: the author's, so that the signature counts for DMARC; but a user cannot have a mail
    /// signed by somebody else's domain, so where the author is not the user's own address it is the envelope's sender,
    /// which was checked.
    ///
    /// # Errors
    /// 451 when the directory does not answer.
    pub(crate) async fn signer(
        &self,
        origin: &Origin,
        author: Option<&Address>,
        from: Option<&Address>,
    ) -> Result<Option<String>> {
        let Some(account) = origin.account() else {
            // A trusted host, which says for whom it speaks. Domains that are not ours have no keys.
            return Ok(author.or(from).map(|a| a.domain().to_owned()));
        };
        if let Some(author) = author
            && self.directory.owns(account, author).await?
        {
            return Ok(Some(author.domain().to_owned()));
        }
        Ok(from.map(|from| from.domain().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_one_or_nobody() {
        let one = |header: &str| author(header.as_bytes()).map(|a| a.to_string());
        for header in ["From: a@x.test\r\n", "Subject: x\r\nfrom: Joe <a@X.test>\r\n", "From: us: a@x.test;\r\n"] {
            assert_eq!(one(header).as_deref(), Some("a@x.test"), "{header}");
        }
        for header in
            ["", "From: \r\n", "From: a@x.test, b@y.test\r\n", "From: a@x.test\r\nFrom: b@y.test\r\n", "From: joe\r\n"]
        {
            assert_eq!(one(header), None, "{header}");
        }
    }

    #[test]
    fn a_stolen_password_is_good_for_so_many_mails_a_day() {
        let (spent, me, now) = (Spent::default(), AccountId(1), Timestamp(0));
        for _ in 0..DAILY {
            spent.one_more(me, now).unwrap();
        }
        let refused = spent.one_more(me, Timestamp(DAY - 1)).unwrap_err();
        assert_eq!(refused.reply().to_string()[..9], *"451 4.7.1");
        spent.one_more(AccountId(2), now).unwrap();
        spent.one_more(me, Timestamp(DAY)).unwrap();
    }
}
