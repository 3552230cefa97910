//! SMTP and LMTP wire machines, server and client side, without I/O.
//!
//! Bytes go in; events and bytes come out. There is no socket, no clock and no store in here, so that a machine can be
//! fuzzed, driven byte by byte, replayed from a transcript and timed. [`Server`] is the receiving side (RFC 5321,
//! LMTP of RFC 2033). Who may send, which recipients exist and where a mail goes is the caller's to decide: the machine
//! asks, and waits for the answer. [`Client`] is the sending side: it says what the envelope needs, stuffs dots, and brings
//! home one verdict for each recipient.

mod base64;
mod body;
pub mod client;
mod envelope;
mod reply;
pub mod server;
mod timing;
mod xtext;

pub use client::Client;
pub use envelope::{BodyType, Mail, Notify, OriginalRecipient, Rcpt, Recipient, Ret};
pub use server::{Config, Event, Server, Step};
pub use timing::{DeliverBy, FutureRelease, Hold};

/// Which protocol a machine speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// RFC 5321
    Smtp,
    /// RFC 2033: LHLO instead of EHLO, and a reply for each recipient after the body.
    Lmtp,
}
