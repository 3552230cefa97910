//! Signing in, the same for all protocols: a SASL exchange (RFC 4422) that ends at the directory.

use std::net::{IpAddr, Ipv4Addr};

use base::Reply;
use directory::{Attempt, AuthFailure, SignedIn};

use crate::Services;

/// What we offer, best first.
pub const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];

/// One exchange.
pub(crate) struct SignIn {
    mechanism: &'static str,
    service: &'static str,
    ip: IpAddr,
    /// LOGIN: the name, once it was given.
    login: Option<Vec<u8>>,
}

/// Where an exchange stands.
pub(crate) enum Progress {
    /// Send this, and bring the response.
    Challenge(Vec<u8>),
    /// Who it is.
    Done(SignedIn),
    /// No, and why.
    Failed(Reply),
}

impl SignIn {
    pub(crate) fn new(mechanism: &'static str, service: &'static str, ip: Option<IpAddr>) -> Self {
        SignIn { mechanism, service, ip: ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), login: None }
    }

    /// The client's first word, if it sent one along.
    pub(crate) async fn begin(&mut self, services: &Services, initial: Option<&[u8]>) -> Progress {
        match (initial, self.mechanism) {
            (Some(initial), _) => self.respond(services, initial).await,
            (None, "LOGIN") => Progress::Challenge(b"Username:".to_vec()),
            (None, _) => Progress::Challenge(Vec::new()),
        }
    }

    /// The answer to a challenge.
    pub(crate) async fn respond(&mut self, services: &Services, response: &[u8]) -> Progress {
        if self.mechanism == "LOGIN" {
            return match self.login.take() {
                None => {
                    self.login = Some(response.to_vec());
                    Progress::Challenge(b"Password:".to_vec())
                }
                Some(login) => self.check(services, &login, response).await,
            };
        }
        // RFC 4616 §2: authorization identity, authentication identity, password.
        let mut parts = response.split(|b| *b == 0);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(as_whom), Some(login), Some(password), None) if as_whom.is_empty() || as_whom == login => {
                self.check(services, login, password).await
            }
            (Some(_), Some(_), Some(_), None) => {
                Progress::Failed(Reply::new(535, 7, 8, "You may sign in as yourself only"))
            }
            _ => Progress::Failed(Reply::new(501, 5, 2, "That is not PLAIN: it takes two NULs and a password")),
        }
    }

    async fn check(&self, services: &Services, login: &[u8], password: &[u8]) -> Progress {
        match password_sign_in(services, self.service, self.ip, login, password).await {
            Ok(who) => Progress::Done(who),
            Err(reply) => Progress::Failed(reply),
        }
    }
}

/// A login and a password as they are: IMAP's LOGIN, POP3's USER and PASS.
pub(crate) async fn password_sign_in(
    services: &Services,
    service: &'static str,
    ip: IpAddr,
    login: &[u8],
    password: &[u8],
) -> Result<SignedIn, Reply> {
    let attempt = Attempt { login, password, ip, service };
    services.directory.authenticate(attempt).await.map_err(|failure| match failure {
        AuthFailure::Invalid => Reply::new(535, 7, 8, "Wrong user name or password"),
        AuthFailure::Disabled => Reply::new(535, 7, 13, "This account is disabled: ask your administrator"),
        AuthFailure::TryLater { seconds } => {
            Reply::new(454, 7, 0, format!("Too many failed attempts: try again in {seconds} seconds"))
        }
        AuthFailure::Unavailable => Reply::new(454, 7, 0, "Signing in does not work right now, please try again later"),
    })
}
