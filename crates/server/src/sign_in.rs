//! Signing in, the same for all protocols: a SASL exchange (RFC 4422) with the directory.

use std::net::{IpAddr, Ipv4Addr};

use base::Reply;
use directory::sasl::Mechanism;
use directory::{Attempt, AuthFailure, Channel, Conversation, SignedIn, Turn};

use crate::Services;

/// The mechanisms offered, best first. SCRAM only where the administrator wants it: it knows app passwords alone (of an
/// account's own password a hash is kept that SCRAM cannot use), and many programs take the strongest they are offered and
/// then fail with the password their user chose. What binds to the TLS channel is for those only that can be bound to.
pub(crate) fn mechanisms(scram: bool, bound: bool) -> &'static [&'static str] {
    const ALL: [&str; 4] = [
        Mechanism::ScramSha256Plus.name(),
        Mechanism::ScramSha256.name(),
        Mechanism::Plain.name(),
        Mechanism::Login.name(),
    ];
    match (scram, bound) {
        (true, true) => &ALL,
        (true, false) => &ALL[1..],
        (false, _) => &ALL[2..],
    }
}

/// One exchange.
pub(crate) struct SignIn {
    /// None when the mechanism is not known.
    conversation: Option<Conversation>,
    service: &'static str,
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
    /// `binding` is the TLS channel's (RFC 9266), where there is one.
    pub(crate) fn new(mechanism: &str, service: &'static str, ip: Option<IpAddr>, binding: Option<[u8; 32]>) -> Self {
        let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let channel = Channel { ip, service, binding: binding.map(|b| b.to_vec()) };
        SignIn { conversation: Mechanism::by_name(mechanism).map(|m| Conversation::new(m, channel)), service }
    }

    /// Goes on: first with the initial response, if the client sent one along, then with the answer to each challenge.
    pub(crate) async fn go_on(&mut self, services: &Services, said: Option<&[u8]>) -> Progress {
        let Some(conversation) = &mut self.conversation else {
            return Progress::Failed(Reply::new(504, 5, 4, "That mechanism is not known"));
        };
        match services.directory.converse(conversation, said).await {
            Ok(Turn::Challenge(challenge)) => Progress::Challenge(challenge),
            Ok(Turn::SignedIn(who)) => {
                count(services, self.service, true);
                Progress::Done(who)
            }
            Err(failure) => {
                count(services, self.service, false);
                Progress::Failed(reply(failure))
            }
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
    let outcome = services.directory.authenticate(Attempt { login, password, ip, service }).await;
    count(services, service, outcome.is_ok());
    outcome.map_err(reply)
}

fn count(services: &Services, service: &str, success: bool) {
    if let Some((_, counts)) = services.counters.services().into_iter().find(|(name, _)| *name == service) {
        if success { counts.signed_in.up() } else { counts.sign_ins_refused.up() }
    }
}

/// RFC 4954 §6, in SMTP's numbers.
fn reply(failure: AuthFailure) -> Reply {
    match failure {
        AuthFailure::Invalid => Reply::new(535, 7, 8, "Wrong user name or password"),
        AuthFailure::Malformed => Reply::new(501, 5, 2, "That is not what the mechanism wants to hear"),
        AuthFailure::Disabled => Reply::new(535, 7, 13, "This account is disabled: ask your administrator"),
        AuthFailure::TryLater { seconds } => {
            Reply::new(454, 7, 0, format!("Too many failed attempts: try again in {seconds} seconds"))
        }
        AuthFailure::Unavailable => Reply::new(454, 7, 0, "Signing in does not work right now, please try again later"),
    }
}
