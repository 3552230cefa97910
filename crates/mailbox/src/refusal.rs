//! Why a verb says no. Each refusal has a reply of its own, so that a protocol with finer words than SMTP's (IMAP's
//! response codes) can tell them apart after any number of floors.

use base::{Error, Reply};

/// Why a verb says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such account.
    NoAccount,
    /// There is no such mailbox.
    NoMailbox,
    /// There is no such mailbox for mails to be copied to.
    NoDestination,
    /// A mailbox of that name exists, or one that would have to move to an existing name.
    Exists,
    /// A name that no mailbox can have.
    BadName,
    /// Another mailbox has that special use (RFC 6154).
    UseTaken,
    /// INBOX is there for ever.
    Inbox,
    /// A mailbox cannot be moved below itself.
    BelowItself,
    /// The account's quota is used up.
    OverQuota,
    /// The account has its fill of mailboxes.
    TooManyMailboxes,
    /// The account is subscribed to as many names as it may be.
    TooManySubscriptions,
    /// The mailbox has its fill of keywords.
    TooManyKeywords,
    /// The mailbox has used up its UIDs.
    NoUidsLeft,
}

impl Refusal {
    const ALL: [Refusal; 13] = [
        Refusal::NoAccount,
        Refusal::NoMailbox,
        Refusal::NoDestination,
        Refusal::Exists,
        Refusal::BadName,
        Refusal::UseTaken,
        Refusal::Inbox,
        Refusal::BelowItself,
        Refusal::OverQuota,
        Refusal::TooManyMailboxes,
        Refusal::TooManySubscriptions,
        Refusal::TooManyKeywords,
        Refusal::NoUidsLeft,
    ];

    /// What a peer is told.
    pub fn reply(self) -> Reply {
        let (code, subject, detail, text) = match self {
            Refusal::NoAccount => (550, 1, 1, "No such account"),
            Refusal::NoMailbox => (550, 1, 1, "No such mailbox"),
            Refusal::NoDestination => (550, 1, 1, "There is no mailbox of that name to copy to"),
            Refusal::Exists => (550, 2, 0, "A mailbox of that name exists already"),
            Refusal::BadName => {
                (553, 2, 0, "That is no valid mailbox name: 1 to 1000 octets, levels separated by /, no * or %")
            }
            Refusal::UseTaken => (550, 2, 0, "Another mailbox has that special use"),
            Refusal::Inbox => (550, 2, 0, "INBOX cannot be deleted"),
            Refusal::BelowItself => (550, 2, 0, "A mailbox cannot be moved below itself"),
            Refusal::OverQuota => (452, 2, 2, "The mailbox is full"),
            Refusal::TooManyMailboxes => (452, 2, 4, "The account has its limit of 10,000 mailboxes"),
            Refusal::TooManySubscriptions => (452, 2, 4, "The account has its limit of 20,000 subscriptions"),
            Refusal::TooManyKeywords => (452, 2, 4, "This mailbox has its limit of 56 different keywords"),
            Refusal::NoUidsLeft => (452, 2, 4, "The mailbox has used up its UIDs"),
        };
        Reply::new(code, subject, detail, text)
    }

    /// Which refusal a reply came from, if from any.
    pub fn of(reply: &Reply) -> Option<Self> {
        Refusal::ALL.into_iter().find(|refusal| refusal.reply() == *reply)
    }
}

impl From<Refusal> for store::Error {
    fn from(refusal: Refusal) -> Self {
        Error::new(refusal.reply()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_again_by_its_reply() {
        for refusal in Refusal::ALL {
            let error = base::Error::from(store::Error::from(refusal));
            assert_eq!(Refusal::of(error.reply()), Some(refusal));
        }
        assert_eq!(Refusal::of(&Reply::new(550, 1, 1, "Something else")), None);
    }
}
