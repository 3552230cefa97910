//! What a part says of itself: the `Content-*` fields (RFC 2045, 2046, 2183, 2231, 3282, 1864, 2557).
//!
//! Called by the indexer at the end of each header. It never fails: a field that makes no sense counts as absent
//! (RFC 2045 §5.2). It does not look at bodies.

use std::borrow::Cow;

use crate::header::{Field, unfold};
use crate::lexer::{Lexer, is_wsp};

/// A `Content-Transfer-Encoding` (RFC 2045 §6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Encoding {
    /// `7bit`, also when the field is absent.
    #[default]
    SevenBit,
    /// `8bit`.
    EightBit,
    /// `binary`.
    Binary,
    /// `base64`.
    Base64,
    /// `quoted-printable`.
    QuotedPrintable,
    /// A name that is none of these: the content can be passed on, not decoded (RFC 2045 §6.4).
    Unknown,
}

impl Encoding {
    /// All but `Unknown`, with their names.
    const NAMES: [(Encoding, &'static str); 5] = [
        (Encoding::SevenBit, "7bit"),
        (Encoding::EightBit, "8bit"),
        (Encoding::Binary, "binary"),
        (Encoding::Base64, "base64"),
        (Encoding::QuotedPrintable, "quoted-printable"),
    ];

    /// By its name, in any case.
    pub fn from_name(name: &[u8]) -> Encoding {
        let known = Self::NAMES.iter().find(|(_, n)| n.as_bytes().eq_ignore_ascii_case(name));
        known.map_or(Encoding::Unknown, |(e, _)| *e)
    }

    /// Its name; None for `Unknown`.
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(e, _)| *e == self).map(|(_, n)| *n)
    }

    /// True when the content stands there as it is.
    pub fn is_identity(self) -> bool {
        matches!(self, Encoding::SevenBit | Encoding::EightBit | Encoding::Binary)
    }
}

/// A parameter, RFC 2231 continuations joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// In lower case. It ends in `*` when the value is in RFC 2231's extended form (`utf-8'en'%C3%A9`), which stays
    /// encoded: RFC 2231 §6 has an IMAP server join, not decode.
    pub name: Vec<u8>,
    /// Unquoted and unfolded.
    pub value: Vec<u8>,
}

/// A `Content-Disposition` (RFC 2183).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disposition {
    /// `inline`, `attachment` or another token, in lower case.
    pub kind: Vec<u8>,
    /// As `filename`.
    pub params: Vec<Param>,
}

/// What a part says of itself. Strings are bytes: mail is not always ASCII where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The media type's first half, in lower case.
    pub main: Vec<u8>,
    /// Its second half, in lower case.
    pub sub: Vec<u8>,
    /// The parameters of `Content-Type`.
    pub params: Vec<Param>,
    /// How the body is encoded.
    pub encoding: Encoding,
    /// The encoding's name where it is [`Encoding::Unknown`], else empty.
    pub encoding_name: Vec<u8>,
    /// `Content-ID`, with its angle brackets.
    pub id: Option<Vec<u8>>,
    /// `Content-Description`, encoded words as they stand.
    pub description: Option<Vec<u8>>,
    /// `Content-MD5` (RFC 1864).
    pub md5: Option<Vec<u8>>,
    /// `Content-Disposition`.
    pub disposition: Option<Disposition>,
    /// The tags of `Content-Language` (RFC 3282).
    pub language: Vec<Vec<u8>>,
    /// `Content-Location` (RFC 2557).
    pub location: Option<Vec<u8>>,
}

impl Default for Content {
    /// RFC 2045 §5.2: what has no `Content-Type` is `text/plain; charset=us-ascii`.
    fn default() -> Self {
        let params = vec![Param { name: b"charset".to_vec(), value: b"us-ascii".to_vec() }];
        Content { params, ..Content::of("text", "plain") }
    }
}

impl Content {
    fn of(main: &str, sub: &str) -> Self {
        Content {
            main: main.into(),
            sub: sub.into(),
            params: Vec::new(),
            encoding: Encoding::SevenBit,
            encoding_name: Vec::new(),
            id: None,
            description: None,
            md5: None,
            disposition: None,
            language: Vec::new(),
            location: None,
        }
    }

    /// What nobody looks into: `application/octet-stream`.
    pub(crate) fn opaque() -> Self {
        Content::of("application", "octet-stream")
    }

    /// The part of a `multipart/digest` that has no `Content-Type` (RFC 2046 §5.1.5).
    pub(crate) fn digested() -> Self {
        Content::of("message", "rfc822")
    }

    /// Takes the media type of `other`, and keeps the rest.
    pub(crate) fn become_type_of(&mut self, other: Content) {
        (self.main, self.sub, self.params) = (other.main, other.sub, other.params);
    }

    /// The fields it is read from.
    pub(crate) const FIELDS: [&[u8]; 8] = [
        b"Content-Type",
        b"Content-Transfer-Encoding",
        b"Content-Disposition",
        b"Content-ID",
        b"Content-Description",
        b"Content-MD5",
        b"Content-Language",
        b"Content-Location",
    ];

    /// Reads the fields of a header. Of a field that occurs twice the first counts. `default` is the type of a part that
    /// names none; no field has more than `max_params` parameters, what follows is dropped.
    pub(crate) fn read(fields: &[Field<'_>], default: Content, max_params: usize) -> Content {
        let mut content = default;
        // From the back, so that the first of two has the last word.
        for field in fields.iter().rev() {
            let text = || Some(unfold(field.value).into_owned()).filter(|v| !v.is_empty());
            if field.is(b"Content-Type") {
                content.become_type_of(content_type(field.value, max_params).unwrap_or_default());
            } else if field.is(b"Content-Transfer-Encoding") {
                content.set_encoding(field.value);
            } else if field.is(b"Content-Disposition") {
                content.disposition = disposition(field.value, max_params);
            } else if field.is(b"Content-ID") {
                content.id = text();
            } else if field.is(b"Content-Description") {
                content.description = text();
            } else if field.is(b"Content-MD5") {
                content.md5 = text();
            } else if field.is(b"Content-Language") {
                content.language = languages(field.value, max_params);
            } else if field.is(b"Content-Location") {
                content.location = text();
            }
        }
        content
    }

    fn set_encoding(&mut self, value: &[u8]) {
        let mut lexer = Lexer::new(value);
        lexer.skip_cfws();
        let name = lexer.token();
        self.encoding = if name.is_empty() { Encoding::SevenBit } else { Encoding::from_name(name) };
        self.encoding_name = if self.encoding == Encoding::Unknown { name.to_vec() } else { Vec::new() };
    }

    /// `text/html`; both in lower case.
    pub fn is(&self, main: &str, sub: &str) -> bool {
        self.main == main.as_bytes() && self.sub == sub.as_bytes()
    }

    /// The first parameter of `Content-Type` with this name, which is in lower case.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        self.params.iter().find(|p| p.name == name.as_bytes()).map(|p| &*p.value)
    }
}

/// RFC 2045 §5.1. None where the type makes no sense; `text` alone was meant as `text/plain`.
fn content_type(value: &[u8], max_params: usize) -> Option<Content> {
    let mut lexer = Lexer::new(value);
    lexer.skip_cfws();
    let main = lexer.token().to_ascii_lowercase();
    lexer.skip_cfws();
    let mut sub = Vec::new();
    if lexer.eat(b'/') {
        lexer.skip_cfws();
        sub = lexer.token().to_ascii_lowercase();
    } else if main == b"text" {
        sub = b"plain".to_vec();
    }
    if main.is_empty() || sub.is_empty() {
        return None;
    }
    Some(Content { main, sub, params: params(&mut lexer, max_params), ..Content::opaque() })
}

/// RFC 2183 §2.
fn disposition(value: &[u8], max_params: usize) -> Option<Disposition> {
    let mut lexer = Lexer::new(value);
    lexer.skip_cfws();
    let kind = lexer.token().to_ascii_lowercase();
    (!kind.is_empty()).then(|| Disposition { kind, params: params(&mut lexer, max_params) })
}

/// RFC 3282 §2: tags between commas.
fn languages(value: &[u8], max: usize) -> Vec<Vec<u8>> {
    let mut lexer = Lexer::new(value);
    let mut tags = Vec::new();
    while tags.len() < max {
        lexer.skip_cfws();
        let tag = lexer.token();
        if !tag.is_empty() {
            tags.push(tag.to_vec());
        }
        skip_to(&mut lexer, b',');
        if !lexer.eat(b',') {
            break;
        }
    }
    tags
}

/// Passes over everything up to `stop`; one inside a quoted string or comment does not count.
fn skip_to(lexer: &mut Lexer<'_>, stop: u8) {
    loop {
        lexer.skip_cfws();
        match lexer.peek() {
            Some(b'"') => {
                lexer.quoted();
            }
            Some(b) if b != stop => {
                lexer.take(1);
            }
            _ => return,
        }
    }
}

/// A parameter as written: `title*1*=...` has the name `title`, the section 1 and is extended.
struct RawParam<'a> {
    name: Vec<u8>,
    section: Option<u32>,
    extended: bool,
    value: Cow<'a, [u8]>,
}

/// `*(";" attribute "=" value)` (RFC 2045 §5.1), to the end of the field. A `;` may be missing: RFC 2046 §5.2.3.5 itself
/// forgot one.
fn params(lexer: &mut Lexer<'_>, max: usize) -> Vec<Param> {
    let mut raw = Vec::new();
    while raw.len() < max && lexer.peek().is_some() {
        lexer.skip_cfws();
        match lexer.peek() {
            Some(b'"') => {
                lexer.quoted();
            }
            _ if lexer.token_before(b'=') => {
                let name = lexer.token();
                lexer.skip_cfws();
                lexer.take(1);
                lexer.skip_cfws();
                let value = if lexer.peek() == Some(b'"') { lexer.quoted() } else { unquoted(lexer) };
                raw.push(RawParam::new(name, value));
            }
            _ if lexer.token().is_empty() => {
                lexer.take(1);
            }
            _ => {}
        }
    }
    join_continuations(raw)
}

/// A value without quotes. RFC 2045 allows it to be one token; mail has `name=annual report.pdf` too, so that it goes to
/// the next `;` or `attribute=`, without the comments at its end.
fn unquoted<'a>(lexer: &mut Lexer<'a>) -> Cow<'a, [u8]> {
    let from = lexer.rest();
    loop {
        lexer.until(|b| b == b';' || is_wsp(b));
        let len = from.len() - lexer.rest().len();
        lexer.skip_cfws();
        if matches!(lexer.peek(), None | Some(b';')) || lexer.token_before(b'=') {
            return unfold(&from[..len]);
        }
    }
}

impl<'a> RawParam<'a> {
    /// RFC 2231 §7: `attribute["*" section]["*"]`.
    fn new(written: &[u8], value: Cow<'a, [u8]>) -> Self {
        let (rest, extended) = match written.strip_suffix(b"*") {
            Some(rest) => (rest, true),
            None => (written, false),
        };
        let section = memchr::memrchr(b'*', rest).and_then(|star| Some((star, section_number(&rest[star + 1..])?)));
        let name = section.map_or(rest, |(star, _)| &rest[..star]).to_ascii_lowercase();
        RawParam { name, section: section.map(|(_, n)| n), extended, value }
    }
}

fn section_number(digits: &[u8]) -> Option<u32> {
    let short = (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    short.then(|| digits.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
}

/// Joins `title*0`, `title*1`, … (RFC 2231 §3), in whatever order they came; what comes after a gap is dropped. Sorted, so
/// that thousands of sections cost no more than the sort: trap 6.
fn join_continuations(raw: Vec<RawParam<'_>>) -> Vec<Param> {
    let (mut sections, whole): (Vec<_>, Vec<_>) = raw.into_iter().partition(|p| p.section.is_some());
    let mut params: Vec<Param> = Vec::with_capacity(whole.len());
    for RawParam { mut name, extended, value, .. } in whole {
        if extended {
            name.push(b'*');
        }
        params.push(Param { name, value: value.into_owned() });
    }
    sections.sort_by(|a, b| (&a.name, a.section).cmp(&(&b.name, b.section)));
    for group in sections.chunk_by(|a, b| a.name == b.name) {
        params.extend(joined(group));
    }
    params
}

/// One parameter out of its sections, which are in order. None when there is no section 0.
fn joined(sections: &[RawParam<'_>]) -> Option<Param> {
    let mut next = 0;
    // Of two sections with one number the first counts.
    let in_line = sections.iter().filter(|p| {
        let fits = p.section == Some(next);
        next += u32::from(fits);
        fits
    });
    let in_line: Vec<_> = in_line.collect();
    let first = in_line.first()?;
    let (mut name, mut value) = (first.name.clone(), Vec::new());
    if !in_line.iter().any(|p| p.extended) {
        in_line.iter().for_each(|p| value.extend_from_slice(&p.value));
        return Some(Param { name, value });
    }
    name.push(b'*');
    if !first.extended {
        // RFC 2231 §4: charset and language, both left empty.
        value.extend_from_slice(b"''");
    }
    for section in in_line {
        if section.extended {
            value.extend_from_slice(&section.value);
        } else {
            percent_encode(&section.value, &mut value);
        }
    }
    Some(Param { name, value })
}

/// RFC 2231 §7: everything but `attribute-char`.
fn percent_encode(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for b in value {
        if b.is_ascii_alphanumeric() || b"!#$&+-.^_`{|}~".contains(b) {
            out.push(*b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexer::work;

    fn shown(value: &str) -> Vec<String> {
        let content = content_type(value.as_bytes(), 100).unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        content.params.iter().map(|p| format!("{}={}", text(&p.name), text(&p.value))).collect()
    }

    #[test]
    fn parameters_as_mail_has_them() {
        for (value, expected) in [
            // RFC 2045 §5.1.
            ("text/plain; charset=us-ascii (Plain text)", &["charset=us-ascii"][..]),
            ("text/plain; charset=\"us-ascii\"", &["charset=us-ascii"]),
            // RFC 2046 §5.2.3.5 forgot a semicolon.
            (
                "message/external-body; access-type=mail-server\r\n server=\"listserv@bogus.bitnet\"",
                &["access-type=mail-server", "server=listserv@bogus.bitnet"],
            ),
            ("text/html charset=utf-8", &["charset=utf-8"]),
            ("a/b; name=annual report.pdf ; x", &["name=annual report.pdf"]),
            ("a/b; boundary==_1=2; c = d", &["boundary==_1=2", "c=d"]),
            ("a/b;;c=d;", &["c=d"]),
            ("a/b; c=\"d;e\"junk; f=g", &["c=d;e", "f=g"]),
            ("a/b; c=", &["c="]),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn continuations() {
        for (value, expected) in [
            // RFC 2231 §3, §4, §4.1.
            ("a/b; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/pub\"", &["url=ftp://cs.utk.edu/pub"][..]),
            (
                "a/x; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A",
                &["title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A"],
            ),
            (
                "a/x; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"",
                &["title*=us-ascii'en'This%20is%20even%20more%20%2A%2A%2Afun%2A%2A%2A%20isn%27t%20it!"],
            ),
            // In any order; doubled; with a gap; without a beginning; without a charset.
            ("a/b; x*1=b; x*0=a; x*1=c; x*3=d; y*1=z", &["x=ab"]),
            ("a/b; x*0=\"a b\"; x*1*=%20", &["x*=''a%20b%20"]),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    #[test]
    fn trap_06_hostile_parameters_are_read_a_bounded_number_of_times() {
        for unit in [
            ";", "a", "a ", "=", "a=", "a=b ", "(", "(c)", "a(c)", "\"", "\"x\"", ";a*0=x", " x(c)", ";a=(c)x ", "/",
            "\\",
        ] {
            let value = format!("a/b;n={}", unit.repeat(20_000));
            work::taken();
            let params = content_type(value.as_bytes(), 50_000).unwrap().params;
            assert!(work::taken() <= 4 * value.len(), "{unit}");
            assert!(params.len() <= value.len() / 2);
        }
    }
}
