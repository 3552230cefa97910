//! Sign-in with a login and a password.
//!
//! A password is hashed by one of a few threads, off the I/O threads; what was proven is remembered for ten minutes, so
//! that a program that signs in every second costs a look-up. Whoever asks cannot tell an unknown login from a wrong
//! password, by word or by time.

use std::fmt;
use std::net::IpAddr;

use base::{AccountId, Address, OrganisationId, Stream};
use store::Lane;
use tokio::sync::OwnedSemaphorePermit;

use crate::backoff::Network;
use crate::credential::{self, CredentialId, Kind};
use crate::gate::{self, Known, Record};
use crate::password::{MAX_PASSWORD, PasswordHash};
use crate::scram::{AppPassword, ITERATIONS, ScramKeys};
use crate::turns::Asker;
use crate::{Directory, Pass, Secret};

/// The longest login, in octets: RFC 5321 §4.5.3.1 allows 64 + `@` + 255.
pub(crate) const MAX_LOGIN: usize = 320;

/// An attempt to sign in.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// An account's login address, in any case.
    pub login: &'a [u8],
    /// The password, or an app password.
    pub password: &'a [u8],
    /// Where the attempt comes from.
    pub ip: IpAddr,
    /// The protocol, for the log: `imap`, `smtp`, `pop3`.
    pub service: &'static str,
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let login = self.login.escape_ascii().to_string();
        f.debug_struct("Attempt").field("login", &login).field("ip", &self.ip).field("service", &self.service).finish()
    }
}

/// Somebody who proved to be an account.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who.
    pub account: AccountId,
    /// Of which organisation.
    pub organisation: OrganisationId,
    /// What the account signs in as.
    pub login: Address,
    /// May administer the organisation.
    pub administrator: bool,
    /// By which credential.
    pub credential: CredentialId,
    /// What kind of sending it signed in for.
    pub stream: Stream,
    /// How long that holds: a session ends with its pass.
    pub pass: Pass,
}

/// Why a sign-in failed. What the peer is told is the protocol's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The login or the password is wrong; which of them, nobody says.
    Invalid,
    /// The client's SASL message is none, or not base64: nothing was tried.
    Malformed,
    /// The password is right, but the account is disabled.
    Disabled,
    /// Too many failures, or too many who wait; nothing was looked at.
    TryLater {
        /// After so many seconds it will be.
        seconds: u32,
    },
    /// The store or the machine has trouble.
    Unavailable,
}

impl Directory {
    /// Checks a login and a password. Answers without leaving the thread when the same was proven in the last ten
    /// minutes.
    ///
    /// # Errors
    /// [`AuthFailure`] says what to do about it.
    pub async fn authenticate(&self, attempt: Attempt<'_>) -> Result<SignedIn, AuthFailure> {
        let (gate, from) = (&self.inner.gate, Network::of(attempt.ip));
        let known = self.known(attempt.login).await?;
        if let Some(credential) = self.remembered(&known, &attempt) {
            return self.admit(&known, credential).await;
        }
        self.may_try(from, &known)?;
        let friend = gate.backoff.is_friend(from, known.account(), self.inner.clock.now());
        let turn = gate.turns.turn(if friend { Asker::Friend } else { Asker::Stranger(from.site()) }).await?;
        // Of many sessions of one program that begin together, the first had it hashed while the others waited; of many
        // guesses that begin together, the first few were counted.
        if let Some(credential) = self.remembered(&known, &attempt) {
            return self.admit(&known, credential).await;
        }
        self.may_try(from, &known)?;
        let credential = self.check(turn, known.clone(), attempt.password).await?;
        if let (Some(record), Some(credential)) = (&known.record, credential) {
            gate.prove(record, attempt.password, credential, self.inner.clock.now());
        }
        self.conclude(&known, credential, attempt.ip, attempt.service).await
    }

    /// Hashes a password for [`crate::set_password`], off this thread.
    ///
    /// # Errors
    /// As [`PasswordHash::new`]; 451 when too many wait.
    pub async fn hash_password(&self, password: &[u8]) -> base::Result<PasswordHash> {
        let (password, random) = (Secret::from(password), self.inner.random);
        self.slowly(move || PasswordHash::new(password.expose(), random)).await?
    }

    /// Runs work of an administrator's that takes milliseconds of a core, in its turn, off this thread.
    pub(crate) async fn slowly<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> base::Result<T> {
        let busy = |_| base::Error::new(base::Reply::new(451, 3, 2, "Too busy, please try again later"));
        let turn = self.inner.gate.turns.turn(Asker::Friend).await.map_err(busy)?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .map_err(base::Error::internal)
    }

    /// What is known of a login.
    pub(crate) async fn known(&self, login: &[u8]) -> Result<Known, AuthFailure> {
        if login.len() > MAX_LOGIN {
            return Ok(Known::nobody());
        }
        let (gate, now) = (&self.inner.gate, self.moment());
        if let Some(known) = gate.records.get(login, now) {
            return Ok(known);
        }
        let address = str::from_utf8(login).ok().and_then(|login| Address::parse(login).ok());
        let Some(address) = address else { return Ok(Known::nobody()) };
        let known = self.inner.store.read(move |tx| gate::read(tx, &address)).await.map_err(|e| {
            tracing::error!(error = %e, "no sign-in without the store");
            AuthFailure::Unavailable
        })?;
        gate.records.put(login.into(), known.clone(), now);
        Ok(known)
    }

    /// Which credential a password is that was proven lately. It does not ask for patience: whoever knows the password is
    /// not the one who guesses it.
    fn remembered(&self, known: &Known, attempt: &Attempt<'_>) -> Option<CredentialId> {
        let (record, now) = (known.record.as_ref()?, self.inner.clock.now());
        let credential = self.inner.gate.proven(record, attempt.password, now)?;
        self.inner.gate.backoff.befriend(Network::of(attempt.ip), record.account, now);
        Some(credential)
    }

    /// Whether this network may try this login now.
    pub(crate) fn may_try(&self, from: Network, known: &Known) -> Result<(), AuthFailure> {
        match self.inner.gate.backoff.wait(from, &known.login, known.account(), self.inner.clock.now()) {
            0 => Ok(()),
            seconds => Err(AuthFailure::TryLater { seconds }),
        }
    }

    /// Does the slow work. The turn goes along: it ends with the work, not with a session that lost patience.
    async fn check(
        &self,
        turn: OwnedSemaphorePermit,
        known: Known,
        password: &[u8],
    ) -> Result<Option<CredentialId>, AuthFailure> {
        // What is longer than any password need not be hashed whole to be wrong.
        let password = Secret::from(&password[..password.len().min(MAX_PASSWORD + 1)]);
        let salt = self.inner.gate.salt(&known.login);
        let work = move || {
            let _turn = turn;
            matching(known.record.as_deref(), &salt, password.expose())
        };
        tokio::task::spawn_blocking(work).await.map_err(|e| {
            tracing::error!(error = %e, "hashing a password failed");
            AuthFailure::Unavailable
        })
    }

    /// Writes down how a try ended.
    pub(crate) async fn conclude(
        &self,
        known: &Known,
        credential: Option<CredentialId>,
        peer: IpAddr,
        service: &'static str,
    ) -> Result<SignedIn, AuthFailure> {
        let (gate, from, now) = (&self.inner.gate, Network::of(peer), self.inner.clock.now());
        let login = &*known.login;
        match (&known.record, credential) {
            (Some(record), Some(credential)) => {
                gate.backoff.succeeded(from, login, record.account, now);
                let admitted = self.admit(known, credential).await;
                let by = record.secrets.kind(credential).map(Kind::name);
                match &admitted {
                    Ok(who) => tracing::info!(account = %who.account, login, service, %peer, by, "signed in"),
                    Err(why) => tracing::info!(login, service, %peer, by, ?why, "sign-in refused"),
                }
                admitted
            }
            _ => {
                if let Some(left_out) = gate.refusals.one_more(now) {
                    tracing::info!(login, service, %peer, left_out, "sign-in refused");
                }
                gate.backoff.failed(from, login, now);
                Err(AuthFailure::Invalid)
            }
        }
    }

    /// Lets somebody in who proved who they are: as the account is now, not as it was when they began to prove it.
    async fn admit(&self, proven: &Known, credential: CredentialId) -> Result<SignedIn, AuthFailure> {
        let account = proven.account().ok_or(AuthFailure::Invalid)?;
        // First the pass, then the look: a change that the look does not see, the pass will tell of.
        let pass = self.inner.passes.issue(account, credential);
        let now = self.known(proven.login.as_bytes()).await?;
        let Some(record) = now.record.filter(|now| now.account == account && now.secrets.kind(credential).is_some())
        else {
            return Err(AuthFailure::Invalid);
        };
        if record.disabled {
            return Err(AuthFailure::Disabled);
        }
        let now = self.inner.clock.now();
        if self.inner.gate.note_use(account, credential, now) {
            // Nobody waits for it, and nothing is lost but a date if it fails.
            let job = move |tx: &mut store::Tx<'_>, _: &[_]| credential::used(tx, account, credential, now);
            drop(self.inner.store.write_with(Lane::Bulk, Vec::new(), job));
        }
        Ok(SignedIn {
            account,
            organisation: record.organisation,
            login: record.login.clone(),
            administrator: record.administrator,
            credential,
            stream: record.secrets.stream(credential).unwrap_or(record.stream),
            pass,
        })
    }
}

/// Which credential `password` is. What it costs depends on the password given, never on whether there is such an account
/// or what credentials it has.
fn matching(record: Option<&Record>, salt: &[u8], password: &[u8]) -> Option<CredentialId> {
    if let Some(typed) = AppPassword::typed(password) {
        let apps = record.map_or(&[][..], |r| &r.secrets.apps);
        let (salt, iterations) = apps.first().map_or((salt, ITERATIONS), |(_, k)| (&k.salt, k.iterations));
        let keys = ScramKeys::derive(typed.expose().as_bytes(), salt, iterations);
        if let Some((id, _)) = apps.iter().find(|(_, app)| app.is_same(&keys)) {
            return Some(*id);
        }
    }
    let chosen = record.and_then(|r| r.secrets.password.as_ref());
    let hash = chosen.map_or_else(PasswordHash::nobody, |(_, hash)| hash.clone());
    let right = hash.is_of(password);
    chosen.filter(|_| right).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Secrets;
    use crate::effort::spent;

    fn record(secrets: Secrets) -> Record {
        let login = Address::parse("jane@x.test").unwrap();
        let (account, organisation) = (AccountId(1), OrganisationId(1));
        let stream = Stream::default();
        Record { account, organisation, login, administrator: false, disabled: false, stream, version: 1, secrets }
    }

    #[test]
    fn trap_28_a_wrong_password_costs_the_same_whoever_it_is_tried_on() {
        let app = ScramKeys::derive(b"abcde-fghij-klmno-pqrst", b"salt", ITERATIONS);
        let chosen = (CredentialId(1), PasswordHash::new(b"right", crate::system_random).unwrap());
        let two = Secrets {
            password: Some(chosen),
            apps: vec![(CredentialId(2), app.clone()), (CredentialId(3), app)],
            streams: vec![],
        };
        for record in [None, Some(record(Secrets::default())), Some(record(two))] {
            spent();
            assert_eq!(matching(record.as_ref(), b"salt", b"wrong"), None);
            assert_eq!(spent(), (1, 0));
            assert_eq!(matching(record.as_ref(), b"salt", b"zzzzz-zzzzz-zzzzz-zzzzz"), None);
            assert_eq!(spent(), (1, 1), "of an app password's shape");
        }
    }
}
