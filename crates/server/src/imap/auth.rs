//! Before the mailboxes: CAPABILITY, ID, STARTTLS, LOGIN, AUTHENTICATE, ENABLE.

use imap::{Capabilities, Code, Enable, IdField, Secret, Status, Tag};

use super::{No, Session};
use crate::sign_in::{Progress, SignIn, mechanisms, password_sign_in};

/// Sign-ins that may fail on one connection (trap 28).
const MOST_FAILED: u32 = 5;

/// An AUTHENTICATE under way.
pub(super) struct SigningIn {
    tag: Tag,
    sign_in: SignIn,
}

impl Session {
    /// RFC 9051 §7.1.5.
    pub(super) fn greet(&mut self) {
        let capabilities = self.capabilities();
        let text = format!("{} is ready", self.services.hostname);
        self.machine.writer().untagged(Status::Ok, Some(Code::Capability(&capabilities)), &text);
    }

    fn may_sign_in(&self) -> bool {
        self.peer.tls || self.peer.clear_sign_in
    }

    fn mechanisms(&self) -> &'static [&'static str] {
        if self.may_sign_in() { mechanisms(self.services.scram, self.peer.binding.is_some()) } else { &[] }
    }

    fn capabilities(&self) -> Capabilities<'static> {
        Capabilities {
            authenticated: self.user.is_some(),
            starttls: !self.peer.tls && self.user.is_none(),
            login_disabled: !self.may_sign_in(),
            mechanisms: self.mechanisms(),
            append_limit: Some(self.services.max_message),
        }
    }

    pub(super) fn capability(&mut self, tag: &Tag) {
        let capabilities = self.capabilities();
        self.machine.writer().capability(&capabilities);
        self.ok(tag, None, "CAPABILITY completed");
    }

    /// RFC 2971. Which version this is, strangers need not know.
    pub(super) fn id(&mut self, tag: &Tag) {
        self.machine.writer().id(&[IdField { name: "name".into(), value: Some("Postroom".into()) }]);
        self.ok(tag, None, "ID completed");
    }

    pub(super) fn start_tls(&mut self, tag: &Tag) -> Result<(), No> {
        if self.peer.tls {
            return Err(No::Wrong("TLS is on already"));
        }
        if self.user.is_some() {
            return Err(No::Wrong("STARTTLS comes before signing in"));
        }
        self.ok(tag, None, "Begin TLS now");
        Ok(())
    }

    /// What LOGIN and AUTHENTICATE ask for first (RFC 9051 §6.2.3: never in the clear, but by setting).
    fn check_may_sign_in(&self) -> Result<(), No> {
        if self.user.is_some() {
            return Err(No::Wrong("You are signed in already"));
        }
        if !self.may_sign_in() {
            return Err(No::refused(Code::PrivacyRequired, "Use TLS first: a password must not travel in the clear"));
        }
        Ok(())
    }

    pub(super) async fn login(&mut self, tag: &Tag, user: &str, password: &Secret) -> Result<(), No> {
        self.check_may_sign_in()?;
        let attempt = password_sign_in(&self.services, "imap", self.peer.ip, user.as_bytes(), &password.0).await;
        let progress = match attempt {
            Ok(who) => Progress::Done(who),
            Err(reply) => Progress::Failed(reply),
        };
        self.progress(tag.clone(), progress);
        Ok(())
    }

    pub(super) async fn authenticate(&mut self, tag: &Tag, mechanism: &str, initial: Option<Secret>) -> Result<(), No> {
        self.check_may_sign_in()?;
        if !self.mechanisms().contains(&mechanism) {
            return Err(No::refused(Code::Cannot, "That mechanism is not known here"));
        }
        let mut sign_in = SignIn::new(mechanism, "imap", Some(self.peer.ip), self.peer.binding);
        let progress = sign_in.go_on(&self.services, initial.as_ref().map(|secret| &*secret.0)).await;
        self.signing_in = Some(Box::new(SigningIn { tag: tag.clone(), sign_in }));
        self.progress(tag.clone(), progress);
        Ok(())
    }

    pub(super) async fn auth_response(&mut self, response: Vec<u8>) {
        let Some(signing_in) = &mut self.signing_in else { return };
        let progress = signing_in.sign_in.go_on(&self.services, Some(&response)).await;
        let tag = signing_in.tag.clone();
        self.progress(tag, progress);
    }

    fn progress(&mut self, tag: Tag, progress: Progress) {
        match progress {
            Progress::Challenge(challenge) => return self.machine.challenge(tag, &challenge),
            Progress::Done(who) => {
                self.user = Some(who.account);
                self.pass = Some(who.pass);
                self.machine.set_authenticated();
                let capabilities = self.capabilities();
                self.ok(&tag, Some(Code::Capability(&capabilities)), "Signed in");
            }
            // RFC 9051 §6.2.2: what is no message of the mechanism is BAD.
            Progress::Failed(reply) if reply.code == 501 => {
                self.machine.writer().tagged(&tag, Status::Bad, None, &reply.text);
                self.sign_in_failed();
            }
            Progress::Failed(reply) => {
                self.refuse(&tag, &reply.into());
                self.sign_in_failed();
            }
        }
        self.signing_in = None;
    }

    fn sign_in_failed(&mut self) {
        self.failed_sign_ins += 1;
        if self.failed_sign_ins >= MOST_FAILED {
            self.bye(None, "Too many failed sign-ins");
        }
    }

    /// RFC 9051 §6.3.1; what is on already is not told again.
    pub(super) fn enable(&mut self, tag: &Tag, wanted: Enable) {
        let on = self.enabled;
        let new = Enable {
            condstore: wanted.condstore && !on.condstore,
            qresync: wanted.qresync && !on.qresync,
            utf8: wanted.utf8 && !on.utf8,
            rev2: wanted.rev2 && !on.rev2,
        };
        self.machine.writer().enabled(new);
        if new.utf8 || new.rev2 {
            self.machine.set_utf8();
        }
        self.enabled.qresync |= new.qresync;
        self.enabled.utf8 |= new.utf8;
        self.enabled.rev2 |= new.rev2;
        // RFC 7162 §3.2.3: QRESYNC includes CONDSTORE.
        if new.condstore || new.qresync {
            self.use_mod_seqs();
        }
        self.ok(tag, None, "ENABLE completed");
    }
}
