//! An error has a public face, which the peer reads, and a private one, which the log keeps.

use std::borrow::Cow;
use std::fmt;

/// `Result` with the two-faced [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// An enhanced status code (RFC 3463): class, subject, detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What a peer is told: an SMTP code, an enhanced code and a text for people. IMAP and POP3 use the text and map the
/// code to their response codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// RFC 5321 §4.2: 200-599.
    pub code: u16,
    /// RFC 3463; its class agrees with `code`'s first digit. None for replies that carry none (greeting, EHLO, 354).
    pub enhanced: Option<Enhanced>,
    /// US-ASCII (or UTF-8 once SMTPUTF8 was agreed); lines split at `\n`.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced code; its class is the first digit of `code`.
    pub fn new(code: u16, subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Reply { code, enhanced: Some(Enhanced((code / 100) as u8, subject, detail)), text: text.into() }
    }

    /// A reply without enhanced code (RFC 2034 §4: the greeting, EHLO, 354).
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Reply { code, enhanced: None, text: text.into() }
    }

    /// 2xx or 3xx.
    pub fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// 4xx: try again later.
    pub fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enhanced {
            Some(e) => write!(f, "{} {} {}", self.code, e, self.text),
            None => write!(f, "{} {}", self.code, self.text),
        }
    }
}

/// Something that did not work: what the peer may know of it, and what only the log may.
#[derive(Debug)]
pub struct Error {
    /// Boxed, so that `Result<()>` stays a word long.
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    public: Reply,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error the peer caused: there is nothing to add for the log.
    pub fn new(public: Reply) -> Self {
        Error { inner: Box::new(Inner { public, cause: None }) }
    }

    /// Our own trouble: the peer is asked to come back (451 4.3.0), the log gets the cause.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::new(Reply::new(451, 3, 0, "Temporary local problem, please try again later")).because(cause)
    }

    /// Adds the private cause.
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.cause = Some(cause.into());
        self
    }

    /// What the peer is told.
    pub fn reply(&self) -> &Reply {
        &self.inner.public
    }

    /// What the peer is told, by value.
    pub fn into_reply(self) -> Reply {
        self.inner.public
    }

    /// True when trying again may help (4xx).
    pub fn is_transient(&self) -> bool {
        self.inner.public.is_transient()
    }
}

/// The private face: for logs and the administrator, never for a peer.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.cause {
            Some(c) => write!(f, "{}: {c}", self.inner.public),
            None => self.inner.public.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.cause {
            Some(c) => Some(&**c),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_face_never_shows_the_cause() {
        let e = Error::internal("disk /dev/sdq is on fire");
        assert!(!e.reply().to_string().contains("sdq"));
        assert!(e.to_string().contains("sdq") && e.is_transient());
        assert_eq!(Reply::new(550, 1, 1, "No such user").to_string(), "550 5.1.1 No such user");
    }
}
