//! Mail that is forwarded: it leaves with a return address of ours (SRS), and what comes back there goes to the sender.

use std::sync::Arc;

use base::{Address, Error, Reply, Result};
use directory::{Recipients, Resolution};

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
        let nobody = || Error::new(Reply::new(550, 1, 1, "This return address is not valid, or not any more"));
        let sender = self.srs.behind(to, self.now()).await?.ok_or_else(nobody)?;
        match self.directory.resolve(&sender).await? {
            Resolution::NotOurs => Ok(Some(Arc::new(Recipients { local: Vec::new(), remote: vec![sender] }))),
            // Its domain has become ours since.
            Resolution::Deliver(found) => Ok(Some(found)),
            Resolution::Unknown => Err(nobody()),
        }
    }
}
