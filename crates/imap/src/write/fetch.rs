//! FETCH responses (RFC 9051 §7.5.2), piece by piece. This runs for each message: no allocation, no `format!`.

use super::Writer;
use crate::fetch::{Section, SectionText};
use base::{ModSeq, Timestamp, Uid};

/// One FETCH response under way; ends with [`FetchWriter::end`].
///
/// ```
/// let mut out = Vec::new();
/// let mut writer = imap::Writer::new(&mut out, false);
/// writer.fetch(23).uid(base::Uid(4827313)).flags(["\\Seen"]).size(44827).end();
/// assert_eq!(out, b"* 23 FETCH (UID 4827313 FLAGS (\\Seen) RFC822.SIZE 44827)\r\n");
/// ```
#[derive(Debug)]
#[must_use = "a response has to be ended"]
pub struct FetchWriter<'a> {
    writer: Writer<'a>,
    first: bool,
}

impl Writer<'_> {
    /// Begins `* n FETCH (`.
    pub fn fetch(&mut self, number: u32) -> FetchWriter<'_> {
        self.raw(b"* ").number(number).raw(b" FETCH (");
        FetchWriter { writer: Writer { out: self.out, utf8: self.utf8 }, first: true }
    }

    /// Goes on with a response that already has an item: after the octets of a literal were sent by other means.
    pub fn fetch_again(&mut self) -> FetchWriter<'_> {
        FetchWriter { writer: Writer { out: self.out, utf8: self.utf8 }, first: false }
    }
}

impl<'a> FetchWriter<'a> {
    fn item(&mut self, name: &str) -> &mut Writer<'a> {
        if !std::mem::replace(&mut self.first, false) {
            self.writer.raw(b" ");
        }
        self.writer.raw(name);
        &mut self.writer
    }

    /// `UID n`
    pub fn uid(mut self, uid: Uid) -> Self {
        self.item("UID ").number(uid.0);
        self
    }

    /// `FLAGS (…)`, each flag as [`Flag::as_str`](crate::Flag::as_str) has it.
    pub fn flags<'f>(mut self, flags: impl IntoIterator<Item = &'f str>) -> Self {
        self.item("FLAGS ").flag_list(flags);
        self
    }

    /// `MODSEQ (n)` (RFC 7162 §3.1.4.2)
    pub fn mod_seq(mut self, mod_seq: ModSeq) -> Self {
        self.item("MODSEQ (").number(mod_seq.0).raw(b")");
        self
    }

    /// `INTERNALDATE "…"`
    pub fn internal_date(mut self, at: Timestamp) -> Self {
        self.item("INTERNALDATE ").date_time(at);
        self
    }

    /// `SAVEDATE "…"`, or NIL where none is kept (RFC 8514 §4.2).
    pub fn save_date(mut self, at: Option<Timestamp>) -> Self {
        let writer = self.item("SAVEDATE ");
        match at {
            Some(at) => writer.date_time(at),
            None => writer.raw(b"NIL"),
        };
        self
    }

    /// `RFC822.SIZE n`
    pub fn size(mut self, octets: u64) -> Self {
        self.item("RFC822.SIZE ").number(octets);
        self
    }

    /// `EMAILID (id)` (RFC 8474 §5.1)
    pub fn email_id(mut self, id: impl AsRef<[u8]>) -> Self {
        self.item("EMAILID (").raw(id).raw(b")");
        self
    }

    /// `THREADID (id)`, or NIL (RFC 8474 §5.2)
    pub fn thread_id(mut self, id: Option<&[u8]>) -> Self {
        let writer = self.item("THREADID ");
        match id {
            Some(id) => writer.raw(b"(").raw(id).raw(b")"),
            None => writer.raw(b"NIL"),
        };
        self
    }

    /// `ENVELOPE …`, which the MIME index wrote.
    pub fn envelope(mut self, written: &[u8]) -> Self {
        self.item("ENVELOPE ").raw(written);
        self
    }

    /// `BODYSTRUCTURE …`, which the MIME index wrote.
    pub fn body_structure(mut self, written: &[u8]) -> Self {
        self.item("BODYSTRUCTURE ").raw(written);
        self
    }

    /// `BODY …`, which the MIME index wrote.
    pub fn body(mut self, written: &[u8]) -> Self {
        self.item("BODY ").raw(written);
        self
    }

    /// `BODY[section]<origin> {size}`: `size` octets must follow, by [`FetchWriter::octets`] or by other means.
    pub fn section(mut self, section: &Section, origin: Option<u64>, size: u64) -> Self {
        self.item("BODY[").section(section).raw(b"]").origin(origin).raw(b" ").literal_header(size);
        self
    }

    /// `BODY[section]<origin> NIL`: the message has no such part.
    pub fn no_section(mut self, section: &Section, origin: Option<u64>) -> Self {
        self.item("BODY[").section(section).raw(b"]").origin(origin).raw(b" NIL");
        self
    }

    /// `RFC822 {size}` (RFC 3501): `size` octets must follow.
    pub fn rfc822(mut self, size: u64) -> Self {
        self.item("RFC822 ").literal_header(size);
        self
    }

    /// `RFC822.HEADER {size}` (RFC 3501): `size` octets must follow.
    pub fn rfc822_header(mut self, size: u64) -> Self {
        self.item("RFC822.HEADER ").literal_header(size);
        self
    }

    /// `RFC822.TEXT {size}` (RFC 3501): `size` octets must follow.
    pub fn rfc822_text(mut self, size: u64) -> Self {
        self.item("RFC822.TEXT ").literal_header(size);
        self
    }

    /// `BINARY[part]<origin> {size}` (RFC 3516 §4.2), a literal8 when there is a NUL in it: `size` octets must follow.
    pub fn binary(mut self, part: &[u32], origin: Option<u64>, size: u64, has_nul: bool) -> Self {
        let writer = self.item("BINARY[").part(part).raw(b"]").origin(origin);
        writer.raw(if has_nul { " ~" } else { " " }).literal_header(size);
        self
    }

    /// `BINARY[part]<origin> NIL`: the message has no such part.
    pub fn no_binary(mut self, part: &[u32], origin: Option<u64>) -> Self {
        self.item("BINARY[").part(part).raw(b"]").origin(origin).raw(b" NIL");
        self
    }

    /// `BINARY.SIZE[part] n`
    pub fn binary_size(mut self, part: &[u32], octets: u64) -> Self {
        self.item("BINARY.SIZE[").part(part).raw(b"] ").number(octets);
        self
    }

    /// Octets of the literal that was begun.
    pub fn octets(mut self, octets: &[u8]) -> Self {
        self.writer.raw(octets);
        self
    }

    /// `)` and the line end.
    pub fn end(mut self) {
        self.writer.raw(b")").end_line();
    }

    /// Leaves the response open, for octets that come by other means; [`Writer::fetch_again`] goes on.
    pub fn leave_open(self) {}
}

impl Writer<'_> {
    fn part(&mut self, part: &[u32]) -> &mut Self {
        for (i, number) in part.iter().enumerate() {
            self.raw(if i == 0 { "" } else { "." }).number(*number);
        }
        self
    }

    fn origin(&mut self, origin: Option<u64>) -> &mut Self {
        match origin {
            Some(octet) => self.raw(b"<").number(octet).raw(b">"),
            None => self,
        }
    }

    fn section(&mut self, section: &Section) -> &mut Self {
        self.part(&section.part);
        let (name, fields) = match &section.text {
            SectionText::All => return self,
            SectionText::Header => ("HEADER", &[][..]),
            SectionText::HeaderFields(fields) => ("HEADER.FIELDS", &fields[..]),
            SectionText::HeaderFieldsNot(fields) => ("HEADER.FIELDS.NOT", &fields[..]),
            SectionText::Text => ("TEXT", &[][..]),
            SectionText::Mime => ("MIME", &[][..]),
        };
        self.raw(if section.part.is_empty() { "" } else { "." }).raw(name);
        for (i, field) in fields.iter().enumerate() {
            self.raw(if i == 0 { " (" } else { " " }).astring(&**field);
        }
        self.raw(if fields.is_empty() { "" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once() {
        let mut out = Vec::new();
        let mut w = Writer::new(&mut out, false);
        let header =
            Section { part: [4, 1].into(), text: SectionText::HeaderFields(vec!["DATE".into(), "X Y".into()]) };
        let all = Section { part: [].into(), text: SectionText::All };
        w.fetch(12)
            .flags(["\\Seen", "$Forwarded"])
            .internal_date(Timestamp::from_secs(837_596_665))
            .size(4286)
            .mod_seq(ModSeq(624140003))
            .email_id("M6d99ac3275bb4e")
            .thread_id(Some(b"T64b478a75b7ea9"))
            .thread_id(None)
            .save_date(None)
            .envelope(b"(NIL)")
            .body_structure(b"(\"a\")")
            .body(b"(\"b\")")
            .section(&header, Some(0), 2)
            .octets(b"\r\n")
            .no_section(&all, None)
            .rfc822(0)
            .rfc822_header(0)
            .rfc822_text(3)
            .leave_open();
        w.raw("abc");
        w.fetch_again()
            .binary(&[1], Some(2), 1, true)
            .octets(b"\0")
            .no_binary(&[], None)
            .binary_size(&[1, 2], 9)
            .uid(Uid(7))
            .end();
        // 837,596,665 is 17-Jul-1996 09:44:25 +0000: RFC 9051 §7.5.2's date in UTC.
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* 12 FETCH (FLAGS (\\Seen $Forwarded) INTERNALDATE \"17-Jul-1996 09:44:25 +0000\" RFC822.SIZE 4286 \
             MODSEQ (624140003) EMAILID (M6d99ac3275bb4e) THREADID (T64b478a75b7ea9) THREADID NIL SAVEDATE NIL \
             ENVELOPE (NIL) BODYSTRUCTURE (\"a\") BODY (\"b\") \
             BODY[4.1.HEADER.FIELDS (DATE \"X Y\")]<0> {2}\r\n\r\n BODY[] NIL RFC822 {0}\r\n RFC822.HEADER {0}\r\n RFC822.TEXT {3}\r\nabc \
             BINARY[1]<2> ~{1}\r\n\0 BINARY[] NIL BINARY.SIZE[1.2] 9 UID 7)\r\n"
        );
    }
}
