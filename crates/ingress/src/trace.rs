//! Where a mail came from, and the header fields that say so: Return-Path, Delivered-To, Received.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use base::{AccountId, Address, OrganisationId, Stream, Timestamp};

/// How a mail came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321
    Smtp,
    /// RFC 6409
    Submission,
    /// RFC 2033
    Lmtp,
}

/// Who brings a mail: what a session knows about its peer.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The peer; none for a Unix socket.
    pub ip: Option<IpAddr>,
    /// What it called itself in EHLO.
    pub helo: String,
    /// EHLO, not HELO.
    pub extended: bool,
    /// The mail's own transaction asked for SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// TLS version and cipher.
    pub tls: Option<(&'static str, &'static str)>,
    /// Who signed in.
    pub signed_in: Option<Submitter>,
    /// The peer's network may relay.
    pub trusted: bool,
    /// Which protocol.
    pub protocol: Protocol,
}

/// Somebody who signed in, to send.
#[derive(Clone, Debug)]
pub struct Submitter {
    /// Who.
    pub account: AccountId,
    /// As what.
    pub login: Address,
    /// Whose account it is.
    pub organisation: OrganisationId,
    /// What kind of sending it is.
    pub stream: Stream,
}

impl Origin {
    /// The account that signed in.
    pub fn account(&self) -> Option<AccountId> {
        self.signed_in.as_ref().map(|who| who.account)
    }

    /// A program sends mail of its own: we complete its header (RFC 6409 §8). What a trusted host brings to the port where
    /// servers bring mail passes as it is.
    pub fn is_submission(&self) -> bool {
        self.signed_in.is_some() || self.protocol == Protocol::Submission
    }

    /// May send to hosts that are not ours. Everybody else must not, in any combination (no open relay).
    pub fn may_relay(&self) -> bool {
        self.signed_in.is_some() || (self.trusted && self.protocol != Protocol::Lmtp)
    }

    /// The address of a peer who has no right but to bring mail for us, and is not on this machine.
    pub(crate) fn stranger(&self) -> Option<IpAddr> {
        let near = self.may_relay() || self.protocol == Protocol::Lmtp;
        self.ip.filter(|ip| !near && !ip.to_canonical().is_loopback())
    }

    /// The `Received` field (RFC 5321 §4.4). `to` only when there is one recipient: others' addresses are nobody's
    /// business. Of who signed in it says neither the address nor the name: programs put their address into EHLO too.
    pub(crate) fn received(&self, hostname: &str, to: Option<&Address>, now: Timestamp) -> String {
        let mut field = String::with_capacity(256);
        // Writing to a String does not fail.
        let from = if self.signed_in.is_some() { "authenticated".into() } else { clean(&self.helo) };
        let _ = write!(field, "Received: from {from}");
        match self.ip {
            _ if self.signed_in.is_some() => {}
            Some(IpAddr::V4(ip)) => drop(write!(field, " ([{ip}])")),
            Some(IpAddr::V6(ip)) => drop(write!(field, " ([IPv6:{ip}])")),
            None => field.push_str(" (local)"),
        }
        let _ = write!(field, "\r\n\tby {hostname} (Postroom) with {}", self.with());
        if let Some((version, cipher)) = self.tls {
            let _ = write!(field, " ({version} {cipher})");
        }
        if let Some(to) = to {
            let _ = write!(field, "\r\n\tfor <{to}>");
        }
        let _ = write!(field, ";\r\n\t{}\r\n", now.rfc5322());
        field
    }

    /// The `with` keyword (RFC 3848), and its UTF-8 forms (RFC 6531 §4.3).
    fn with(&self) -> String {
        let name = match (self.protocol, self.extended, self.smtputf8) {
            (Protocol::Smtp | Protocol::Submission, false, _) => return "SMTP".into(),
            (Protocol::Smtp | Protocol::Submission, true, false) => "ESMTP",
            (Protocol::Smtp | Protocol::Submission, true, true) => "UTF8SMTP",
            (Protocol::Lmtp, _, false) => "LMTP",
            (Protocol::Lmtp, _, true) => "UTF8LMTP",
        };
        let secure = if self.tls.is_some() { "S" } else { "" };
        let authenticated = if self.signed_in.is_some() { "A" } else { "" };
        format!("{name}{secure}{authenticated}")
    }
}

/// A peer's own words in a header field of ours: no spaces, no parentheses, no end of line (trap 27).
fn clean(helo: &str) -> String {
    let kept: String = helo.chars().filter(|c| c.is_ascii_graphic() && !"()<>\";,\\".contains(*c)).take(255).collect();
    if kept.is_empty() { "unknown".into() } else { kept }
}

/// What stands before the mail in one recipient's mailbox.
pub(crate) fn prefix(from: Option<&Address>, to: &Address, received: &str) -> Arc<[u8]> {
    let mut text = String::with_capacity(received.len() + 128);
    match from {
        Some(from) => drop(write!(text, "Return-Path: <{from}>\r\n")),
        None => text.push_str("Return-Path: <>\r\n"),
    }
    let _ = write!(text, "Delivered-To: {to}\r\n{received}");
    text.into_bytes().into()
}

/// An address of ours in the `Delivered-To` of what it forwards: always in one spelling, by which the mail is known when it
/// comes back, and in ASCII (as RFC 6533 §3 has it), for hosts without SMTPUTF8.
pub(crate) fn mark(address: &Address) -> String {
    let text = address.folded();
    let mut mark = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            mark.push(c);
        } else {
            let _ = write!(mark, "\\x{{{:x}}}", u32::from(c));
        }
    }
    mark
}

/// The mark of an address in a header.
pub(crate) fn mark_of(value: &str) -> String {
    let bare = value.trim();
    let bare = bare.strip_prefix('<').and_then(|b| b.strip_suffix('>')).unwrap_or(bare);
    Address::parse(bare).map_or_else(|_| bare.to_lowercase(), |address| mark(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin {
            ip: Some([192, 0, 2, 7].into()),
            helo: "client.example".into(),
            extended: true,
            smtputf8: false,
            tls: None,
            signed_in: None,
            trusted: false,
            protocol: Protocol::Smtp,
        }
    }

    #[test]
    fn a_received_field_says_what_the_session_knows() {
        let to = Address::parse("jane@example.test").unwrap();
        assert_eq!(
            origin().received("mx.example.test", Some(&to), Timestamp(0)),
            "Received: from client.example ([192.0.2.7])\r\n\tby mx.example.test (Postroom) with ESMTP\r\n\t\
             for <jane@example.test>;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n"
        );
    }

    #[test]
    fn a_signed_in_users_address_is_not_given_away() {
        let (account, login) = (AccountId(1), Address::parse("jane@example.test").unwrap());
        let signed_in = Some(Submitter { account, login, organisation: OrganisationId(1), stream: Stream::Mail });
        let origin = Origin { signed_in, tls: Some(("TLSv1.3", "X")), helo: "[192.0.2.7]".into(), ..origin() };
        let field = origin.received("mx", None, Timestamp(0));
        assert!(field.starts_with("Received: from authenticated\r\n\tby mx "), "{field}");
        assert!(!field.contains("192.0.2.7") && field.contains("with ESMTPSA (TLSv1.3 X);"), "{field}");
    }

    #[test]
    fn trap_27_a_greeting_cannot_add_header_fields() {
        let field = Origin { helo: "a\r\nX-Evil: (1".into(), ..origin() }.received("mx", None, Timestamp(0));
        assert!(field.starts_with("Received: from aX-Evil:1 ("), "{field}");
    }

    #[test]
    fn a_forwards_mark_is_known_again() {
        for (address, mark_) in
            [("Jane+X@Example.test", "jane+x@example.test"), ("b\u{fc}ro@x.test", "b\\x{fc}ro@x.test")]
        {
            assert_eq!(mark(&Address::parse(address).unwrap()), mark_);
            for spelling in [address.to_owned(), format!(" <{address}>"), mark_.to_uppercase()] {
                assert_eq!(mark_of(&spelling), mark_);
            }
        }
    }

    #[test]
    fn nobody_relays_without_a_right_to() {
        assert!(!origin().may_relay());
        assert!(Origin { trusted: true, ..origin() }.may_relay());
        assert!(!Origin { trusted: true, protocol: Protocol::Lmtp, ..origin() }.may_relay());
    }
}
