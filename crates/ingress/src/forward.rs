//! What comes back to return addresses of ours. Mail that is forwarded leaves with one (SRS) that leads to the sender; bulk mail
//! with one for each delivery (VERP), and what comes there is told to the receipt and goes nowhere.

use std::sync::Arc;

use base::{Address, Error, Reply, Result};
use directory::{Recipients, Resolution};
use queue::QueueId;

use crate::Ingress;

impl Ingress {
    /// Who gets reports about a mail of `from` that leaves by `home`, an address of ours: `from` itself where its domain is
    /// ours, as we may send for it; else a return address in the domain of `home`. A sender too long for one stays.
    ///
    /// # Errors
    /// 451 when the directory or the store does not answer.
    pub(crate) async fn return_address(&self, from: &Address, home: &Address) -> Result<Address> {
        if self.directory.is_ours(from.domain()).await? {
            return Ok(from.clone());
        }
        let domain = match self.directory.is_ours(home.domain()).await? {
            true => home.domain().to_owned(),
            // Postmaster at our own host name: see `role`.
            false => match self.directory.role("postmaster").await? {
                Some(role) => role.domain().to_owned(),
                None => return Ok(from.clone()),
            },
        };
        let rewritten = self.srs.rewritten(from, &domain, self.now()).await?;
        Ok(rewritten.unwrap_or_else(|| from.clone()))
    }

    /// The delivery that a return address of ours was made for; None for an address that is none.
    ///
    /// # Errors
    /// 550 5.1.1 we did not make it; 451 when the directory or the store does not answer.
    pub(crate) async fn about(&self, to: &Address) -> Result<Option<(QueueId, u32)>> {
        if !trust::is_verp(to) || !self.directory.is_ours(to.domain()).await? {
            return Ok(None);
        }
        let (message, number) = self.verp.behind(to, self.now()).await?.ok_or_else(invalid)?;
        Ok(Some((QueueId::of_bits(message), number)))
    }

    /// Where a return address of ours leads; None for an address that is none. Reports come from `<>` (RFC 5321 §6.1),
    /// and so do the answers of machines (RFC 3834 §3.3): who writes from an address of his own has found this one in a
    /// forwarded mail, and is not to reach the sender through us.
    ///
    /// # Errors
    /// 550 5.7.1 from a sender; 550 5.1.1 we did not make it, or more than three weeks ago; 451 when the directory or the
    /// store does not answer.
    pub(crate) async fn returned(&self, to: &Address, from: Option<&Address>) -> Result<Option<Arc<Recipients>>> {
        if !trust::is_rewritten(to) || !self.directory.is_ours(to.domain()).await? {
            return Ok(None);
        }
        if from.is_some() {
            return Err(Error::new(Reply::new(550, 7, 1, "This address takes reports about forwarded mail only")));
        }
        let sender = self.srs.behind(to, self.now()).await?.ok_or_else(invalid)?;
        match self.directory.resolve(&sender).await? {
            Resolution::NotOurs => Ok(Some(Arc::new(Recipients { local: Vec::new(), remote: vec![sender] }))),
            // Its domain has become ours since.
            Resolution::Deliver(found) => Ok(Some(found)),
            Resolution::Unknown => Err(invalid()),
        }
    }
}

fn invalid() -> Error {
    Error::new(Reply::new(550, 1, 1, "This return address is not valid, or not any more"))
}
