//! The policies that our domains publish (MTA-STS), for whoever asks our web server.

use store::{Store, Tx};
use trust::own_policy;

/// Knows them.
pub struct Policies {
    pub store: Store,
    /// The host that takes the mail of our domains.
    pub hostname: String,
}

impl http::Policies for Policies {
    async fn policy(&self, domain: &str) -> Result<Option<String>, String> {
        let (name, hostname) = (domain.to_owned(), self.hostname.clone());
        let read = move |tx: &mut Tx<'_>| match directory::domain_by_name(tx, &name)? {
            Some(domain) => own_policy::mode(tx, &domain.name).map(|mode| Some(own_policy::text(mode, &hostname))),
            None => Ok(None),
        };
        self.store.read(read).await.map_err(|e| e.to_string())
    }
}
