//! What leaves the house again: in whose name, and who vouches for it.

use std::borrow::Cow;

use base::{AccountId, Address, Error, Reply, Result};
use mime::address::{self, Entry};
use mime::header;

use crate::{Ingress, Origin};

/// Who a header says wrote a mail, and sent it (RFC 5322 §3.6.2).
#[derive(Default)]
pub(crate) struct Author {
    /// How many From fields there are. More than one, and each reader takes another.
    fields: usize,
    from: Vec<Named>,
    sender: Vec<Named>,
}

/// An address in a header, as far as it is one.
struct Named {
    domain: String,
    address: Option<Address>,
}

/// So many addresses of one field are looked at.
const AUTHORS: usize = 20;

impl Author {
    pub(crate) fn of(head: &[u8]) -> Self {
        let named = |name| header::fields(head).filter(move |f| f.is(name)).flat_map(|f| named(f.value));
        Author {
            fields: header::fields(head).filter(|f| f.is(b"From")).count(),
            from: named(b"From").take(AUTHORS + 1).collect(),
            sender: named(b"Sender").take(AUTHORS + 1).collect(),
        }
    }

    /// The one address of the one From field.
    pub(crate) fn only(&self) -> Option<&Address> {
        match &self.from[..] {
            [one] if self.fields == 1 => one.address.as_ref(),
            _ => None,
        }
    }
}

fn named(value: &[u8]) -> impl Iterator<Item = Named> {
    address::addresses(value).filter_map(|entry| match entry {
        Entry::Mailbox(mailbox) => {
            let (local, domain) = (String::from_utf8_lossy(&mailbox.local), String::from_utf8_lossy(&mailbox.domain));
            let domain = domain.trim_end_matches('.');
            let address = Address::new(&local, domain).ok();
            let domain = address.as_ref().map_or_else(|| domain.to_lowercase(), |a| a.domain().to_owned());
            Some(Named { domain, address })
        }
        Entry::GroupStart(_) | Entry::GroupEnd => None,
    })
}

fn not_yours(text: impl Into<Cow<'static, str>>) -> Error {
    Error::new(Reply::new(550, 7, 1, text))
}

impl Ingress {
    /// A user writes in no other user's name: what From and Sender name in our domains must be the user's own. Addresses
    /// elsewhere are their domains' business, which say by DMARC who may use them. Resent-From is not looked at: nobody is
    /// shown it as the author, and who sends a mail on keeps those of the senders before.
    ///
    /// # Errors
    /// 550 5.7.1 when it is not so; 451 when the directory does not answer.
    pub(crate) async fn check_author(&self, account: AccountId, author: &Author) -> Result<()> {
        if author.fields > 1 {
            return Err(not_yours("The message has several From fields"));
        }
        if author.from.len().max(author.sender.len()) > AUTHORS {
            return Err(not_yours("The message has too many authors"));
        }
        for named in author.from.iter().chain(&author.sender) {
            let owned = match &named.address {
                Some(address) => self.directory.owns(account, address).await?,
                None => false,
            };
            if !owned && self.directory.is_ours(&named.domain).await? {
                let who = named.address.as_ref().map_or_else(|| named.domain.clone(), Address::to_string);
                return Err(not_yours(format!("You may not write as {who}: it is not an address of yours")));
            }
        }
        Ok(())
    }

    /// The domain that signs for a mail: its author's, so that the signature counts for DMARC. For a user's mail it is the
    /// domain of an address of the user's, in From or else in the envelope: we answer for what our users send. A trusted
    /// host says itself for whom it speaks. Domains that are not ours have no keys.
    ///
    /// # Errors
    /// 451 when the directory does not answer.
    pub(crate) async fn signer(
        &self,
        origin: &Origin,
        author: &Author,
        from: Option<&Address>,
    ) -> Result<Option<String>> {
        let Some(account) = origin.account() else {
            return Ok(author.only().or(from).map(|a| a.domain().to_owned()));
        };
        for author in author.from.iter().filter_map(|named| named.address.as_ref()) {
            if self.directory.owns(account, author).await? {
                return Ok(Some(author.domain().to_owned()));
            }
        }
        // It was checked at MAIL.
        Ok(from.map(|from| from.domain().to_owned()))
    }

    /// Whether it is known already that [`Ingress::signer`] finds nobody who has keys.
    pub(crate) fn goes_unsigned(&self, origin: &Origin, author: &Author, from: Option<&Address>) -> bool {
        let any_of = match origin.account() {
            None => (&[][..], author.only().or(from)),
            Some(_) => (&author.from[..], from),
        };
        let addresses = any_of.0.iter().filter_map(|named| named.address.as_ref()).chain(any_of.1);
        self.keys.are_none(addresses.map(Address::domain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_author_is_one_or_nobody() {
        let one = |header: &str| Author::of(header.as_bytes()).only().map(Address::to_string);
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
    fn an_author_cannot_hide_in_its_spelling() {
        for from in [
            "From:ceo@x.test",
            "FROM : CEO@X.test",
            "From: ceo@x.test.",
            "From: (me) ceo @ x.test (me)",
            "From: \"me@y.test\" <ceo@x.test>",
            "From: me@y.test,\r\n ceo@x.test",
            "From: us: me@y.test, ceo@x.test;",
            "From: <@y.test:ceo@x.test>",
            "From: <ceo@x.test",
            "Sender: ceo@x.test",
        ] {
            let author = Author::of(format!("{from}\r\n").as_bytes());
            assert!(author.from.iter().chain(&author.sender).any(|n| n.domain == "x.test"), "{from}");
        }
    }
}
