//! `BODY[section]<partial>` and the three items of RFC 3501 that mean the same.

use std::ops::Range;

use imap::{FetchWriter, Partial, Section, SectionText};
use mime::header::{Select, select};
use mime::{Cached, MessageSpans};
use store::{Error, Result};

use super::batch::Mail;
use super::output::{Output, mask_nul};
use crate::imap::source::HEADER;

/// How the item is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Body,
    Rfc822,
    Rfc822Header,
    Rfc822Text,
}

/// Writes the item; a section the message does not have is NIL (RFC 9051 §7.5.2).
pub(super) fn write(
    section: &Section,
    partial: Option<Partial>,
    form: Form,
    mail: &Mail<'_>,
    out: &mut Output,
) -> Result<()> {
    let Some(source) = &mail.source else { return Err(Error::Corrupt("a mail was not opened".into())) };
    let origin = partial.map(|partial| partial.offset);
    let Some(span) = find(section, mail)? else {
        out.item(|fetch| fetch.no_section(section, origin));
        return Ok(());
    };
    let fields = match &section.text {
        SectionText::HeaderFields(names) => Some((Select::Named, names)),
        SectionText::HeaderFieldsNot(names) => Some((Select::NotNamed, names)),
        _ => None,
    };
    if let Some((which, names)) = fields {
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let mut header = Vec::new();
        if section.part.is_empty() {
            header = source.head()?;
        } else {
            source.read(span.start..span.end.min(span.start + HEADER), &mut header)?;
        }
        let mut chosen = Vec::new();
        select(&header, which, &names, &mut chosen);
        let part = cut(0..chosen.len() as u64, partial);
        mask_nul(&mut chosen);
        let chosen = &chosen[part.start as usize..part.end as usize];
        out.item(|fetch| fetch.section(section, origin, chosen.len() as u64));
        out.literal(chosen);
        return Ok(());
    }
    let span = cut(span, partial);
    out.item(|fetch| begin(fetch, form, section, origin, span.end - span.start));
    out.span(source, span)
}

fn begin<'a>(fetch: FetchWriter<'a>, form: Form, section: &Section, origin: Option<u64>, size: u64) -> FetchWriter<'a> {
    match form {
        Form::Body => fetch.section(section, origin, size),
        Form::Rfc822 => fetch.rfc822(size),
        Form::Rfc822Header => fetch.rfc822_header(size),
        Form::Rfc822Text => fetch.rfc822_text(size),
    }
}

/// Where a section is, if the message has it. All of the message, and the fields of its header, are found without the
/// index.
fn find(section: &Section, mail: &Mail<'_>) -> Result<Option<Range<u64>>> {
    let Some(source) = &mail.source else { return Ok(None) };
    let whole = 0..source.len();
    if section.part.is_empty()
        && matches!(section.text, SectionText::All | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_))
    {
        return Ok(Some(whole));
    }
    let Some(cached) = &mail.cached else { return Err(Error::Corrupt("a mail has no index".into())) };
    Ok(in_index(section, cached, source.prefix_len()).map(|span| span.start.min(whole.end)..span.end.min(whole.end)))
}

/// RFC 9051 §6.4.5.1.
fn in_index(section: &Section, cached: &Cached<'_>, prefix: u64) -> Option<Range<u64>> {
    let found = cached.section(&section.part, prefix)?;
    let message = |span: fn(MessageSpans) -> Range<u64>| found.message.clone().map(span);
    match section.text {
        SectionText::All => Some(found.body),
        SectionText::Mime => Some(found.mime),
        SectionText::Text => message(|message| message.text),
        SectionText::Header | SectionText::HeaderFields(_) | SectionText::HeaderFieldsNot(_) => {
            message(|message| message.header)
        }
    }
}

/// `<offset.count>` of a span; nothing is left when it begins behind the end.
pub(super) fn cut(span: Range<u64>, partial: Option<Partial>) -> Range<u64> {
    let Some(partial) = partial else { return span };
    let start = span.start.saturating_add(partial.offset).min(span.end);
    start..start.saturating_add(partial.count).min(span.end)
}
