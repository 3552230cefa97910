//! App passwords: making one, whole.

use base::{AccountId, Result, Stream};

use crate::credential::{self, CredentialId, add_app_password};
use crate::scram::{AppPassword, ITERATIONS, ScramKeys};
use crate::{Directory, account, canonical};

impl Directory {
    /// Makes an app password for one program of an account, and gives its text, which is shown once and kept nowhere.
    ///
    /// # Errors
    /// As [`add_app_password`]; 451 when too many wait.
    pub async fn create_app_password(
        &self,
        of: AccountId,
        name: &str,
        stream: Option<Stream>,
    ) -> Result<(CredentialId, AppPassword)> {
        let inner = &self.inner;
        let read = inner.store.read(move |tx| Ok((account(tx, of)?.login, credential::secrets(tx, of)?.apps)));
        let (login, others) = read.await?;
        let (salt, iterations) = match others.first() {
            Some((_, keys)) => (keys.salt.clone(), keys.iterations),
            None => (inner.gate.salt(&canonical(&login)?), ITERATIONS),
        };
        let made = AppPassword::generate(inner.random)?;
        let text = made.clone();
        let keys = self.slowly(move || ScramKeys::derive(text.expose().as_bytes(), &salt, iterations)).await?;
        let (name, now) = (name.to_owned(), inner.clock.now());
        let id = inner.store.write(move |tx| add_app_password(tx, of, &name, &keys, stream, now)).await?;
        Ok((id, made))
    }
}
