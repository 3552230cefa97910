//! A SASL exchange with the directory's answers: what SMTP, IMAP and POP3 sessions call for AUTH.

use std::net::IpAddr;

use crate::backoff::Network;
use crate::gate::Known;
use crate::sasl::{self, Exchange, Mechanism, Step};
use crate::{Attempt, AuthFailure, Directory, SignedIn};

/// What a session knows of the channel a sign-in comes by.
#[derive(Clone, Debug)]
pub struct Channel {
    /// Where the client is.
    pub ip: IpAddr,
    /// The protocol, for the log: `imap`, `smtp`, `pop3`.
    pub service: &'static str,
    /// The `tls-exporter` value (RFC 9266 §2), given exactly when SCRAM-SHA-256-PLUS is offered.
    pub binding: Option<Vec<u8>>,
}

/// A sign-in under way. Dropped when the client cancels it.
pub struct Conversation {
    exchange: Exchange,
    ip: IpAddr,
    service: &'static str,
    /// SCRAM: who claims to be there.
    known: Option<Known>,
    /// SCRAM: who has proven it, and is let in once the client has heard our proof.
    admitted: Option<SignedIn>,
    begun: bool,
}

/// What a session does next.
#[derive(Clone, Debug)]
pub enum Turn {
    /// Send this, in base64, and give what comes back to [`Directory::converse`].
    Challenge(Vec<u8>),
    /// Somebody has signed in.
    SignedIn(SignedIn),
}

impl Conversation {
    /// A new one.
    pub fn new(mechanism: Mechanism, channel: Channel) -> Self {
        let Channel { ip, service, binding } = channel;
        let exchange = Exchange::new(mechanism, binding);
        Conversation { exchange, ip, service, known: None, admitted: None, begun: false }
    }
}

impl Directory {
    /// Goes one step on: first with the initial response, or None when the client sent none (an empty one is not none:
    /// RFC 4954 §4 writes it `=`); then with each response. All out of base64: see [`sasl::decode`].
    ///
    /// # Errors
    /// [`AuthFailure`]; it ends the conversation.
    pub async fn converse(&self, with: &mut Conversation, said: Option<&[u8]>) -> Result<Turn, AuthFailure> {
        let step = if std::mem::replace(&mut with.begun, true) {
            with.exchange.step(said.ok_or(AuthFailure::Malformed)?)
        } else {
            with.exchange.start(said)
        };
        match (step, &with.known) {
            (Ok(Step::Challenge(text)), _) => Ok(Turn::Challenge(text)),
            (Ok(Step::Password { login, password }), _) => {
                let attempt =
                    Attempt { login: &login, password: password.expose(), ip: with.ip, service: with.service };
                self.authenticate(attempt).await.map(Turn::SignedIn)
            }
            (Ok(Step::Lookup { login }), _) => self.offer_keys(with, &login).await,
            (Ok(Step::Proven { credential, last }), Some(known)) => {
                let admitted = self.conclude(known, Some(credential), with.ip, with.service).await?;
                with.admitted = Some(admitted);
                Ok(Turn::Challenge(last))
            }
            (Ok(Step::Done), _) => match with.admitted.take() {
                Some(who) if who.pass.is_revoked() => Err(AuthFailure::Invalid),
                who => who.map(Turn::SignedIn).ok_or(AuthFailure::Malformed),
            },
            // A proof that proves nothing is a failure of whoever claimed to be there.
            (Err(AuthFailure::Invalid), Some(known)) => {
                self.conclude(known, None, with.ip, with.service).await.map(Turn::SignedIn)
            }
            (Ok(Step::Proven { .. }), None) => Err(AuthFailure::Malformed),
            (Err(e), _) => Err(e),
        }
    }

    /// Answers a SCRAM client's first message.
    async fn offer_keys(&self, with: &mut Conversation, login: &[u8]) -> Result<Turn, AuthFailure> {
        let known = self.known(login).await?;
        self.may_try(Network::of(with.ip), &known)?;
        let mut nonce = [0; 18];
        (self.inner.random)(&mut nonce).map_err(|_| AuthFailure::Unavailable)?;
        let user = self.inner.gate.scram_user(&known);
        with.known = Some(known);
        match with.exchange.keys(user, &sasl::encode(&nonce))? {
            Step::Challenge(text) => Ok(Turn::Challenge(text)),
            _ => Err(AuthFailure::Malformed),
        }
    }
}
