//! FETCH (RFC 9051 §9 `fetch`, RFC 3516 §7, RFC 7162 §7).

use super::{Cursor, Fault, Result};
use crate::fetch::{Fetch, FetchAttr, Partial, Section, SectionText};

impl Cursor<'_> {
    /// What follows the set.
    pub(super) fn fetch(&mut self, uid: bool) -> Result<Fetch> {
        let attrs = if self.peek() == Some(b'(') {
            self.full_list(Fetch::MAX_ATTRS, Cursor::fetch_attr)?
        } else {
            self.macro_or_attr()?
        };
        let mut fetch = Fetch { attrs, changed_since: None, vanished: false };
        if self.eat(b' ') {
            self.full_list(4, |c| match &*c.word()? {
                b"CHANGEDSINCE" => {
                    c.space()?;
                    fetch.changed_since = Some(c.mod_seq()?);
                    Ok(())
                }
                b"VANISHED" => {
                    fetch.vanished = true;
                    Ok(())
                }
                _ => Err(Fault::Bad("Unknown FETCH modifier")),
            })?;
        }
        // RFC 7162 §3.2.6.
        if fetch.vanished && (!uid || fetch.changed_since.is_none()) {
            return Err(Fault::Bad("VANISHED needs UID FETCH and CHANGEDSINCE"));
        }
        Ok(fetch)
    }

    /// RFC 9051 §6.4.5: the macros stand alone.
    fn macro_or_attr(&mut self) -> Result<Vec<FetchAttr>> {
        use FetchAttr::{Body, Envelope, Flags, InternalDate, Rfc822Size};
        let start = self.at;
        let attrs = match &*self.fetch_word() {
            b"FAST" => vec![Flags, InternalDate, Rfc822Size],
            b"ALL" => vec![Flags, InternalDate, Rfc822Size, Envelope],
            b"FULL" => vec![Flags, InternalDate, Rfc822Size, Envelope, Body],
            _ => {
                self.at = start;
                vec![self.fetch_attr()?]
            }
        };
        Ok(attrs)
    }

    /// An attribute's name, up to a bracket.
    fn fetch_word(&mut self) -> super::Word {
        super::Word::new(self.take_while(|b| b.is_ascii_alphanumeric() || b == b'.'))
    }

    fn fetch_attr(&mut self) -> Result<FetchAttr> {
        let name = self.fetch_word();
        if self.eat(b'[') {
            return self.bracketed(&name);
        }
        Ok(match &*name {
            b"FLAGS" => FetchAttr::Flags,
            b"INTERNALDATE" => FetchAttr::InternalDate,
            b"RFC822.SIZE" => FetchAttr::Rfc822Size,
            b"ENVELOPE" => FetchAttr::Envelope,
            b"BODY" => FetchAttr::Body,
            b"BODYSTRUCTURE" => FetchAttr::BodyStructure,
            b"UID" => FetchAttr::Uid,
            b"MODSEQ" => FetchAttr::ModSeq,
            b"EMAILID" => FetchAttr::EmailId,
            b"THREADID" => FetchAttr::ThreadId,
            b"SAVEDATE" => FetchAttr::SaveDate,
            b"RFC822" => FetchAttr::Rfc822,
            b"RFC822.HEADER" => FetchAttr::Rfc822Header,
            b"RFC822.TEXT" => FetchAttr::Rfc822Text,
            _ => return Err(Fault::Bad("Unknown FETCH attribute")),
        })
    }

    /// After `name[`.
    fn bracketed(&mut self, name: &[u8]) -> Result<FetchAttr> {
        match name {
            b"BODY" | b"BODY.PEEK" => {
                let section = self.section()?;
                self.expect(b']', "A section does not end")?;
                Ok(FetchAttr::Section { peek: name != b"BODY", section, partial: self.partial()? })
            }
            b"BINARY" | b"BINARY.PEEK" | b"BINARY.SIZE" => {
                let part = self.section_part()?;
                self.expect(b']', "A section does not end")?;
                if name == b"BINARY.SIZE" {
                    return Ok(FetchAttr::BinarySize { part: part.into() });
                }
                Ok(FetchAttr::Binary { peek: name != b"BINARY", part: part.into(), partial: self.partial()? })
            }
            _ => Err(Fault::Bad("Unknown FETCH attribute")),
        }
    }

    /// `1.2.3`, or nothing. Stops before a `]`, or after the dot before a name.
    fn section_part(&mut self) -> Result<Vec<u32>> {
        let mut part = Vec::new();
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            if part.len() == Section::MAX_DEPTH {
                return Err(Fault::Bad("A part is too deep"));
            }
            part.push(self.nonzero32()?);
            if self.peek() == Some(b']') {
                break;
            }
            self.expect(b'.', "Not a section")?;
        }
        // A dot promises a number or a name.
        if self.bytes[self.at - 1] == b'.' && self.peek() == Some(b']') {
            return Err(Fault::Bad("Not a section"));
        }
        Ok(part)
    }

    /// RFC 9051 §9 `section-spec`.
    fn section(&mut self) -> Result<Section> {
        let part: Box<[u32]> = self.section_part()?.into();
        let text = match &*self.fetch_word() {
            b"" => SectionText::All,
            b"HEADER" => SectionText::Header,
            b"HEADER.FIELDS" => SectionText::HeaderFields(self.field_names()?),
            b"HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(self.field_names()?),
            b"TEXT" => SectionText::Text,
            b"MIME" if !part.is_empty() => SectionText::Mime,
            _ => return Err(Fault::Bad("Unknown section")),
        };
        Ok(Section { part, text })
    }

    fn field_names(&mut self) -> Result<Vec<Box<str>>> {
        self.space()?;
        self.full_list(Section::MAX_FIELDS, Cursor::field_name)
    }

    /// RFC 9051 §9 `header-fld-name`: an astring; here, what can name a header field (RFC 5322 §3.6.8 `ftext`), since the
    /// response repeats it.
    pub(super) fn field_name(&mut self) -> Result<Box<str>> {
        let name = self.astring()?;
        let valid = !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':');
        if valid { Self::text(name) } else { Err(Fault::Bad("Not a header field name")) }
    }

    /// RFC 9051 §9 `partial`.
    fn partial(&mut self) -> Result<Option<Partial>> {
        if !self.eat(b'<') {
            return Ok(None);
        }
        let offset = self.number()?;
        self.expect(b'.', "Not a partial range")?;
        let count = self.number()?;
        self.expect(b'>', "Not a partial range")?;
        if count == 0 {
            Err(Fault::Bad("A partial range may not be empty"))
        } else {
            Ok(Some(Partial { offset, count }))
        }
    }
}
