//! The header of a mail on its way in: held back until it is complete, looked at, mended for submissions, let through.

use std::collections::HashSet;
use std::fmt::Write;

use base::{Error, Reply, Result, Timestamp};
use memchr::memmem;

use crate::trace;

/// A header up to this size is worked on; one larger passes unseen, or is refused where it must be worked on.
const MOST: usize = 256 * 1024;
/// So many Received fields are a loop (RFC 5321 §6.3 wants at least 100).
const HOPS: usize = 100;

/// Holds the header back until it is complete.
pub(crate) struct Gate {
    held: Vec<u8>,
    open: bool,
    /// The header must be worked on.
    strict: bool,
}

/// A header, and what came with it.
pub(crate) struct Held {
    bytes: Vec<u8>,
    /// Where the header ends; the empty line follows.
    end: usize,
}

impl Gate {
    pub(crate) fn new(strict: bool) -> Self {
        Gate { held: Vec::new(), open: false, strict }
    }

    /// The header is through: nothing is held any more.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes bytes; gives what was held once the header is complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Option<Held>> {
        let from = self.held.len().saturating_sub(3);
        self.held.extend_from_slice(bytes);
        let end = match memmem::find(&self.held[from..], b"\r\n\r\n") {
            _ if self.held.starts_with(b"\r\n") => 0,
            Some(at) => from + at + 2,
            None if self.held.len() <= MOST => return Ok(None),
            None if self.strict => {
                return Err(Error::new(Reply::new(554, 6, 0, "The message header is larger than 256 KB")));
            }
            None => self.held.len(),
        };
        self.open = true;
        Ok(Some(Held { bytes: std::mem::take(&mut self.held), end }))
    }

    /// The mail is at its end: gives what is still held, a mail without a body.
    pub(crate) fn end(&mut self) -> Option<Held> {
        if std::mem::replace(&mut self.open, true) {
            return None;
        }
        let bytes = std::mem::take(&mut self.held);
        Some(Held { end: bytes.len(), bytes })
    }
}

/// What makes a Message-ID of ours unlike any other. Nobody can guess it: who names it in a report has seen the mail.
pub(crate) fn number() -> Result<u64> {
    let mut octets = [0; 8];
    directory::system_random(&mut octets)?;
    Ok(u64::from_be_bytes(octets))
}

/// The first id of the Message-ID, without brackets: by it a report that comes back is known.
pub(crate) fn message_id(header: &[u8]) -> Option<String> {
    let field = mime::header::find(header, b"Message-ID")?;
    let id = mime::header::message_ids(field.value).next()?;
    id.is_ascii().then(|| String::from_utf8_lossy(id).into_owned())
}

impl Held {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn header(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// It answers another mail.
    pub(crate) fn answers(&self) -> bool {
        mime::header::fields(self.header()).any(|f| f.is(b"In-Reply-To") || f.is(b"References"))
    }

    /// Trap 18: a mail that passed too many hosts goes in a circle. A 5xx, or it would be sent again.
    pub(crate) fn check_loops(&self) -> Result<()> {
        let hops = mime::header::fields(self.header()).filter(|f| f.is(b"Received")).take(HOPS + 1).count();
        if hops > HOPS {
            return Err(Error::new(Reply::new(554, 4, 6, "Too many hops: the message goes in a circle")));
        }
        Ok(())
    }

    /// From which addresses it was forwarded on its way, as [`trace::mark`] writes them.
    pub(crate) fn passed(&self) -> HashSet<String> {
        let fields = mime::header::fields(self.header()).filter(|f| f.is(b"Delivered-To"));
        fields.filter_map(|f| std::str::from_utf8(f.value).ok().map(trace::mark_of)).collect()
    }

    /// The same mail as its author's server sends it: Bcc and Resent-Bcc removed, Date and Message-ID added where they lack (RFC 6409
    /// §8.1-8.2).
    pub(crate) fn for_submission(&self, now: Timestamp, hostname: &str, number: u64) -> Vec<u8> {
        let header = self.header();
        let mut out = Vec::with_capacity(self.bytes.len() + 128);
        let mut at = 0;
        for field in mime::header::fields(header).filter(|f| f.is(b"Bcc") || f.is(b"Resent-Bcc")) {
            out.extend_from_slice(&header[at..field.span.start]);
            at = field.span.end;
        }
        out.extend_from_slice(&header[at..]);
        let mut added = String::new();
        let lacks = |name: &[u8]| mime::header::find(header, name).is_none();
        if lacks(b"Date") {
            let _ = write!(added, "Date: {}\r\n", now.rfc5322());
        }
        if lacks(b"Message-ID") {
            let _ = write!(added, "Message-ID: <{:x}.{number:016x}@{hostname}>\r\n", now.0);
        }
        if !added.is_empty() && !out.is_empty() && !out.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(added.as_bytes());
        out.extend_from_slice(&self.bytes[self.end..]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str, chunk: usize) -> Held {
        let mut gate = Gate::new(true);
        let mut held = None;
        for part in text.as_bytes().chunks(chunk) {
            match &mut held {
                None => held = gate.push(part).unwrap(),
                Some(h) => h.bytes.extend_from_slice(part),
            }
        }
        held.or_else(|| gate.end()).unwrap()
    }

    #[test]
    fn a_submission_is_completed_and_bcc_is_removed() {
        let text = "From: a@x.test\r\nBcc: b@x.test,\r\n c@x.test\r\nresent-bcc: d@x.test\r\nSubject: Bcc: no\r\n\r\nBcc: body\r\n";
        for chunk in 1..text.len() {
            let out = through(text, chunk).for_submission(Timestamp(0), "mx.test", 7);
            let out = String::from_utf8(out).unwrap();
            let (header, body) = out.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, "Bcc: body\r\n");
            let lines: Vec<&str> = header.split("\r\n").collect();
            assert_eq!(lines[..2], ["From: a@x.test", "Subject: Bcc: no"]);
            assert_eq!(lines[2], "Date: Thu, 01 Jan 1970 00:00:00 +0000");
            assert_eq!(lines[3..], ["Message-ID: <0.0000000000000007@mx.test>"]);
        }
    }

    #[test]
    fn nobody_guesses_a_message_id_of_ours_from_another() {
        let some: Vec<u64> = (0..4).map(|_| number().unwrap()).collect();
        assert!(some.windows(2).all(|two| two[0].abs_diff(two[1]) > 1 << 20), "{some:x?}");
    }

    #[test]
    fn what_is_complete_stays_as_it_is() {
        let text = "date: x\r\nMESSAGE-ID: <a@b>\r\n\r\nbody";
        assert_eq!(through(text, 5).for_submission(Timestamp(0), "mx", 1), text.as_bytes());
        for text in ["", "\r\nbody", "Date: x"] {
            assert_eq!(through(text, 3).bytes(), text.as_bytes());
        }
    }

    #[test]
    fn trap_18_a_mail_in_a_circle_is_refused_for_good() {
        let circle = "Received: from a\r\n\tby b\r\n".repeat(HOPS + 1) + "\r\n";
        assert_eq!(through(&circle, 1000).check_loops().unwrap_err().reply().code, 554);
        let long_way = "Received: from a\r\n\tby b\r\n".repeat(HOPS) + "X: y\r\n\r\nReceived: in the body\r\n";
        through(&long_way, 1000).check_loops().unwrap();
    }
}
