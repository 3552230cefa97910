//! Why a command is not carried out, and the words for it (RFC 9051 §7.1, RFC 5530).

use std::borrow::Cow;
use std::io;

use base::Reply;
use imap::{Code, Status, Tag};
use mailbox::Refusal;

use super::Session;

/// How a command fails.
#[derive(Debug)]
pub(super) enum No {
    /// NO: it makes sense and cannot be done.
    Refused(Option<Code<'static>>, Cow<'static, str>),
    /// BAD: it makes no sense now.
    Wrong(&'static str),
    /// The connection broke: nobody is there to hear of it.
    Broken(io::Error),
}

impl No {
    pub(super) fn refused(code: Code<'static>, text: &'static str) -> Self {
        No::Refused(Some(code), text.into())
    }

    /// For a mailbox that is the destination of mails: CREATE would help (RFC 9051 §6.3.12, §6.4.7).
    pub(super) fn or_try_create(self) -> Self {
        match self {
            No::Refused(Some(Code::NonExistent), text) => No::Refused(Some(Code::TryCreate), text),
            other => other,
        }
    }

    /// There is no such mailbox.
    pub(super) fn nonexistent() -> Self {
        Refusal::NoMailbox.into()
    }
}

impl From<io::Error> for No {
    fn from(error: io::Error) -> Self {
        No::Broken(error)
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::NoAccount => Code::ContactAdmin,
            Refusal::NoMailbox => Code::NonExistent,
            Refusal::NoDestination => Code::TryCreate,
            Refusal::Exists => Code::AlreadyExists,
            Refusal::UseTaken => Code::UseAttr,
            Refusal::BadName | Refusal::Inbox | Refusal::BelowItself => Code::Cannot,
            Refusal::OverQuota => Code::OverQuota,
            Refusal::TooManyMailboxes
            | Refusal::TooManySubscriptions
            | Refusal::TooManyKeywords
            | Refusal::NoUidsLeft => Code::Limit,
        };
        No::Refused(Some(code), refusal.reply().text)
    }
}

impl From<Reply> for No {
    fn from(reply: Reply) -> Self {
        if let Some(refusal) = Refusal::of(&reply) {
            return refusal.into();
        }
        let code = match (reply.code, reply.enhanced) {
            // 452 4.3.1: the disk is full, which RFC 9208's OVERQUOTA would blame on the user.
            (454 | 451, _) | (452, Some(base::Enhanced(_, 3, 1))) => Code::Unavailable,
            (552, _) => Code::TooBig,
            // RFC 5530 §3: what is wrong with a disabled account only its administrator can put right.
            (535, Some(base::Enhanced(_, 7, 13))) => Code::ContactAdmin,
            (535, _) => Code::AuthenticationFailed,
            _ => Code::Cannot,
        };
        No::Refused(Some(code), reply.text)
    }
}

impl From<store::Error> for No {
    fn from(error: store::Error) -> Self {
        if let Some(refusal) = error.refusal() {
            return refusal.reply().clone().into();
        }
        tracing::warn!(%error, "IMAP command failed");
        let code = match error {
            store::Error::Corrupt(_) => Code::Corruption,
            store::Error::Sql(_) => Code::ServerBug,
            _ => Code::Unavailable,
        };
        No::Refused(Some(code), "The server has a problem of its own, please try again later".into())
    }
}

impl From<base::Error> for No {
    fn from(error: base::Error) -> Self {
        if std::error::Error::source(&error).is_some() {
            tracing::warn!(%error, "IMAP command failed");
        }
        error.into_reply().into()
    }
}

impl Session {
    /// Answers a command that was not carried out.
    pub(super) fn refuse(&mut self, tag: &Tag, no: &No) {
        let mut writer = self.machine.writer();
        match no {
            No::Refused(code, text) => writer.tagged(tag, Status::No, *code, text),
            No::Wrong(text) => writer.tagged(tag, Status::Bad, None, text),
            No::Broken(_) => {}
        }
    }
}
