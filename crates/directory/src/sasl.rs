//! The server's side of SASL (RFC 4422): PLAIN, LOGIN, SCRAM-SHA-256 and -PLUS, without I/O. SMTP, IMAP and POP3 carry the
//! messages; [`crate::Directory::converse`] has the answers. It never sees a socket, a clock or the store.
//!
//! Names and passwords are taken as they come: SASLprep (RFC 4013) would only change texts that our own accounts and
//! generated passwords do not have.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::credential::CredentialId;
use crate::scram::{ITERATIONS, ScramKeys};
use crate::sign_in::MAX_LOGIN;
use crate::{AuthFailure, Secret};

/// The longest message of a client, in octets, decoded: what RFC 4954 §4 allows a line, taken out of base64.
pub const MAX_MESSAGE: usize = 12_288 / 4 * 3;

/// The longest nonce of a client: theirs are some twenty octets.
const MAX_NONCE: usize = 256;

/// The channel binding we know (RFC 9266), the one that RFC 9266 §3 makes the default for TLS 1.3.
const BINDING: &str = "tls-exporter";

/// A way to sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// An old draft (draft-murchison-sasl-login), still spoken by many programs.
    Login,
    /// RFC 7677, for app passwords.
    ScramSha256,
    /// The same, bound to the TLS channel.
    ScramSha256Plus,
}

impl Mechanism {
    /// All of them, best first.
    pub const ALL: [Mechanism; 4] =
        [Mechanism::ScramSha256Plus, Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login];

    /// The name registered with IANA.
    pub const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Login => "LOGIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// By its name, in any case.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name().eq_ignore_ascii_case(name))
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum Step {
    /// Send this; give what comes back to [`Exchange::step`].
    Challenge(Vec<u8>),
    /// Check these.
    Password {
        /// As the client wrote it.
        login: Vec<u8>,
        /// As the client wrote it.
        password: Secret,
    },
    /// Find this login's keys and give them to [`Exchange::keys`].
    Lookup {
        /// As the client wrote it.
        login: Vec<u8>,
    },
    /// The client proved to know the password of this credential. Send `last`; the client answers with nothing.
    Proven {
        /// Which of the keys it was.
        credential: CredentialId,
        /// Our own proof.
        last: Vec<u8>,
    },
    /// The client has heard our proof: it is signed in.
    Done,
}

/// What SCRAM needs to know of a login; of one that does not exist, something that looks the same.
#[derive(Clone, Debug)]
pub struct ScramUser {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: NonZeroU32,
    /// All derived with the salt above; none: no proof will do.
    pub(crate) keys: Vec<(CredentialId, ScramKeys)>,
}

/// An exchange under way.
#[derive(Debug)]
pub struct Exchange {
    mechanism: Mechanism,
    /// The channel's binding data; with it -PLUS was offered.
    binding: Option<Vec<u8>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Of all mechanisms: the client has yet to begin.
    Begin,
    /// LOGIN: the password is missing.
    Login(Vec<u8>),
    /// SCRAM: the keys are missing.
    Lookup(First),
    /// SCRAM: the proof is missing.
    Final(Box<Offer>),
    /// SCRAM: our proof was sent.
    Last,
    Over,
}

/// What we keep of a client's first message (RFC 5802 §7).
#[derive(Debug)]
struct First {
    /// The header as it stands, for the check of `c=`.
    gs2_header: Vec<u8>,
    /// What follows it.
    bare: String,
    nonce: String,
}

/// What we offered.
#[derive(Debug)]
struct Offer {
    first: First,
    /// Our answer to it.
    server_first: String,
    /// The client's nonce and ours.
    nonce: String,
    user: ScramUser,
}

impl Exchange {
    /// A new exchange. `binding` is the `tls-exporter` value (RFC 9266 §2) of the channel, given exactly when -PLUS is
    /// offered on it.
    pub fn new(mechanism: Mechanism, binding: Option<Vec<u8>>) -> Self {
        Exchange { mechanism, binding, state: State::Begin }
    }

    /// Begins, with the initial response if the client sent one (RFC 4422 §3): an empty one is not the same as none.
    ///
    /// # Errors
    /// As [`Exchange::step`].
    pub fn start(&mut self, initial: Option<&[u8]>) -> Result<Step, AuthFailure> {
        match (initial, self.mechanism) {
            (Some(message), _) => self.step(message),
            (None, Mechanism::Login) => Ok(Step::Challenge(b"Username:".to_vec())),
            (None, _) => Ok(Step::Challenge(Vec::new())),
        }
    }

    /// Takes the client's next message, out of base64.
    ///
    /// # Errors
    /// [`AuthFailure::Malformed`] for what is no message of the mechanism, [`AuthFailure::Invalid`] for one that proves
    /// nothing. Both end the exchange.
    pub fn step(&mut self, message: &[u8]) -> Result<Step, AuthFailure> {
        if message.len() > MAX_MESSAGE {
            return Err(AuthFailure::Malformed);
        }
        match (std::mem::replace(&mut self.state, State::Over), self.mechanism) {
            (State::Begin, Mechanism::Plain) => plain(message),
            (State::Begin, Mechanism::Login) => {
                self.state = State::Login(message.to_vec());
                Ok(Step::Challenge(b"Password:".to_vec()))
            }
            (State::Login(login), _) => Ok(Step::Password { login, password: message.into() }),
            (State::Begin, _) => {
                let (login, first) = self.client_first(message)?;
                self.state = State::Lookup(first);
                Ok(Step::Lookup { login })
            }
            (State::Final(offer), _) => {
                let step = self.client_final(&offer, message)?;
                self.state = State::Last;
                Ok(step)
            }
            // RFC 5802 §5: after our last message the client has nothing to add.
            (State::Last, _) if message.is_empty() => Ok(Step::Done),
            (State::Last | State::Lookup(_) | State::Over, _) => Err(AuthFailure::Malformed),
        }
    }

    /// Takes what [`Step::Lookup`] asked for, and a random nonce of printable ASCII without commas (RFC 5802 §7).
    ///
    /// # Errors
    /// [`AuthFailure::Malformed`] when nothing was asked for.
    pub fn keys(&mut self, user: ScramUser, nonce: &str) -> Result<Step, AuthFailure> {
        let State::Lookup(first) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(AuthFailure::Malformed);
        };
        let nonce = format!("{}{nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&user.salt), user.iterations);
        let challenge = server_first.clone().into_bytes();
        self.state = State::Final(Box::new(Offer { first, server_first, nonce, user }));
        Ok(Step::Challenge(challenge))
    }

    /// RFC 5802 §7 `client-first-message`.
    fn client_first(&self, message: &[u8]) -> Result<(Vec<u8>, First), AuthFailure> {
        let text = str::from_utf8(message).map_err(|_| AuthFailure::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(AuthFailure::Malformed);
        };
        self.check_flag(flag)?;
        let mut attributes = bare.split(',');
        // A mandatory extension (`m=`) would stand before the name: we know none, so it is malformed to us (§5.1).
        let login = attributes.next().and_then(|a| a.strip_prefix("n=")).and_then(unescape);
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).filter(|n| is_nonce(n));
        let (Some(login), Some(nonce)) = (login, nonce) else { return Err(AuthFailure::Malformed) };
        if login.is_empty() || login.len() > MAX_LOGIN {
            return Err(AuthFailure::Malformed);
        }
        if !authzid.is_empty() {
            let authzid = authzid.strip_prefix("a=").and_then(unescape).ok_or(AuthFailure::Malformed)?;
            may_act_as(&authzid, &login)?;
        }
        let header = message[..text.len() - bare.len()].to_vec();
        Ok((login, First { gs2_header: header, bare: bare.to_owned(), nonce: nonce.to_owned() }))
    }

    /// RFC 5802 §6: what the client says of channel binding must agree with what was offered. A `y` (the client could,
    /// and thinks we cannot) while we offered it means that somebody between us took the offer away.
    fn check_flag(&self, flag: &str) -> Result<(), AuthFailure> {
        let bound = self.mechanism == Mechanism::ScramSha256Plus;
        match flag.split_once('=') {
            None if flag == "n" && !bound => Ok(()),
            None if flag == "y" && !bound && self.binding.is_none() => Ok(()),
            Some(("p", BINDING)) if bound && self.binding.is_some() => Ok(()),
            None if flag == "n" || flag == "y" => Err(AuthFailure::Invalid),
            Some(("p", _)) => Err(AuthFailure::Invalid),
            _ => Err(AuthFailure::Malformed),
        }
    }

    /// RFC 5802 §7 `client-final-message`.
    fn client_final(&self, offer: &Offer, message: &[u8]) -> Result<Step, AuthFailure> {
        let text = str::from_utf8(message).map_err(|_| AuthFailure::Malformed)?;
        let (unproven, proof) = text.rsplit_once(",p=").ok_or(AuthFailure::Malformed)?;
        let proof: [u8; 32] = decode(proof.as_bytes())?.try_into().map_err(|_| AuthFailure::Malformed)?;
        let mut attributes = unproven.split(',');
        let binding = attributes.next().and_then(|a| a.strip_prefix("c=")).ok_or(AuthFailure::Malformed)?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or(AuthFailure::Malformed)?;

        let mut expected = offer.first.gs2_header.clone();
        if let (Mechanism::ScramSha256Plus, Some(binding)) = (self.mechanism, &self.binding) {
            expected.extend_from_slice(binding);
        }
        let same = |a: &[u8], b: &[u8]| verify_slices_are_equal(a, b).is_ok();
        if !same(&decode(binding.as_bytes())?, &expected) || !same(nonce.as_bytes(), offer.nonce.as_bytes()) {
            return Err(AuthFailure::Invalid);
        }
        let message = format!("{},{},{unproven}", offer.first.bare, offer.server_first);
        let proven = offer.user.keys.iter().find(|(_, keys)| keys.proves(&proof, message.as_bytes()));
        let (credential, keys) = proven.ok_or(AuthFailure::Invalid)?;
        let last = format!("v={}", BASE64.encode(keys.signature(message.as_bytes())));
        Ok(Step::Proven { credential: *credential, last: last.into_bytes() })
    }
}

impl ScramUser {
    /// Somebody with these keys, which share a salt; None when there are none.
    pub(crate) fn with(keys: Vec<(CredentialId, ScramKeys)>) -> Option<Self> {
        let (_, first) = keys.first()?;
        Some(ScramUser { salt: first.salt.clone(), iterations: first.iterations, keys })
    }

    /// Nobody, who looks like somebody.
    pub(crate) fn nobody(salt: Vec<u8>) -> Self {
        ScramUser { salt, iterations: ITERATIONS, keys: Vec::new() }
    }
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`.
fn plain(message: &[u8]) -> Result<Step, AuthFailure> {
    let mut parts = message.split(|b| *b == 0);
    let (Some(authzid), Some(login), Some(password), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AuthFailure::Malformed);
    };
    if login.is_empty() {
        return Err(AuthFailure::Malformed);
    }
    if !authzid.is_empty() {
        may_act_as(authzid, login)?;
    }
    Ok(Step::Password { login: login.to_vec(), password: password.into() })
}

/// Nobody acts for another yet: an authorisation identity may only repeat the login.
fn may_act_as(authzid: &[u8], login: &[u8]) -> Result<(), AuthFailure> {
    if authzid == login { Ok(()) } else { Err(AuthFailure::Invalid) }
}

/// RFC 5802 §5.1: in a name a comma is written `=2C` and `=` is written `=3D`; any other `=` is wrong.
fn unescape(name: &str) -> Option<Vec<u8>> {
    let mut parts = name.split('=');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (b',', rest),
            (_, Some(rest)) => (b'=', rest),
            _ => return None,
        };
        out.push(byte);
        out.extend_from_slice(rest.as_bytes());
    }
    Some(out)
}

/// RFC 5802 §7 `printable`: the commas are gone already.
fn is_nonce(nonce: &str) -> bool {
    (1..=MAX_NONCE).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_graphic())
}

/// A message out of base64, strictly (RFC 4648 §3).
///
/// # Errors
/// [`AuthFailure::Malformed`] for what is not base64, or longer than [`MAX_MESSAGE`].
pub fn decode(text: &[u8]) -> Result<Vec<u8>, AuthFailure> {
    if text.len() > MAX_MESSAGE / 3 * 4 {
        return Err(AuthFailure::Malformed);
    }
    BASE64.decode(text).map_err(|_| AuthFailure::Malformed)
}

/// A message into base64.
pub fn encode(message: &[u8]) -> String {
    BASE64.encode(message)
}

#[cfg(test)]
mod tests;
