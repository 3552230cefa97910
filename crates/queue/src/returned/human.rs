//! The part of a report that is for people: where it ends, whom it names, what it says of whom.

use std::ops::Range;

use base::Address;
use store::Result;

use super::MAX_RECIPIENTS;
use super::source::Source;

/// Octets of the words that are looked at. Reports say early what they have to say.
const MAX_WORDS: usize = 16 << 10;
/// What is kept of the words about one recipient.
const MAX_SECTION: usize = 4096;

/// The words of a report, up to the mail that it returns.
#[derive(Debug, Default)]
pub(super) struct Human {
    text: String,
    /// Whom it names, with the place of the line.
    named: Vec<(Address, usize)>,
}

impl Human {
    pub fn of<F>(source: &mut Source<'_, F>) -> Result<Human>
    where
        F: FnMut(Range<u64>, &mut Vec<u8>) -> Result<()>,
    {
        let mut text = match source.find(&[("text", "plain")]) {
            Some(plain) => source.text(plain)?,
            None => String::new(),
        };
        if !has_words(&text)
            && let Some(html) = source.find(&[("text", "html")])
        {
            text = without_tags(&source.text(html)?);
        }
        Ok(Human::read(&text))
    }

    fn read(text: &str) -> Human {
        let text = &text[..text.floor_char_boundary(MAX_WORDS)];
        let (mut human, mut at) = (Human::default(), 0);
        for line in text.split_inclusive('\n') {
            // The second line at the earliest: some begin with a title.
            if at > 0 && begins_original(line) {
                break;
            }
            at += line.len();
        }
        human.text = text[..at].to_owned();
        human.named = named(&human.text);
        human
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whom it names, each once.
    pub fn named(&self) -> impl Iterator<Item = &Address> {
        self.named.iter().map(|(address, _)| address)
    }

    /// Leaves out those it names for another reason than that they failed.
    pub fn forget(&mut self, innocent: impl Fn(&Address) -> bool) {
        self.named.retain(|(address, _)| !innocent(address));
    }

    /// What it says of a recipient: from the line that names the address to the line that names another. All it says, of
    /// nobody in particular or of one that it does not name.
    pub fn about(&self, address: Option<&Address>) -> &str {
        let section = match self.named.iter().position(|(named, _)| Some(named) == address) {
            Some(at) => {
                let start = self.named[at].1;
                let end = self.named[at + 1..].iter().map(|(_, line)| *line).find(|line| *line > start);
                &self.text[start..end.unwrap_or(self.text.len())]
            }
            None => &self.text,
        };
        section[..section.floor_char_boundary(MAX_SECTION)].trim()
    }
}

/// Whether there is more than numbers, marks and addresses.
pub(super) fn has_words(text: &str) -> bool {
    let words = text.split_whitespace().filter(|word| !word.contains('@'));
    words.flat_map(|word| word.split(|c: char| !c.is_alphabetic())).any(|word| word.chars().nth(1).is_some())
}

/// A line that announces the returned mail, or is the beginning of it.
fn begins_original(line: &str) -> bool {
    const ANNOUNCED: [&str; 17] = [
        "original message",
        "message original",
        "mensaje original",
        "copy of the message",
        "copy of your message",
        "message follows",
        "mail follows",
        "returned message",
        "returned mail",
        "forwarded message",
        "unsent message",
        "undelivered message",
        "message header",
        "message text",
        "header and top",
        "message reads",
        "old message",
    ];
    let line = line.trim().trim_start_matches('>').to_lowercase();
    // The last is the header of a part, in a mail whose own header lost its MIME fields.
    if ["received:", "return-path:", "content-type: message/"].iter().any(|field| line.starts_with(field)) {
        return true;
    }
    let marked = line.starts_with(['-', '|', '=', '_', '*']);
    let announces = line.ends_with(':') || line.ends_with("follows.") || line.ends_with("follow.");
    // "These did not receive a copy of your message:" is the beginning of what matters.
    let is_title = line.len() < 100 && (marked || announces && !line.contains(" not "));
    is_title && ANNOUNCED.iter().any(|phrase| line.contains(phrase))
}

/// The addresses in a text, each where it is first named. Those that begin a line are meant; only where there is none the
/// others are.
fn named(text: &str) -> Vec<(Address, usize)> {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        // Reports repeat fields of the mail that they are about.
        let repeated = ["to:", "cc:", "from:", "reply-to:", "subject:", "message-id:"];
        let lower = line.trim_start().to_ascii_lowercase();
        let found = addresses(line).filter(|_| !repeated.iter().any(|field| lower.starts_with(field)));
        for (begins, address) in found {
            let list = if begins { &mut first } else { &mut others };
            if list.len() < MAX_RECIPIENTS && !list.iter().any(|(known, _)| *known == address) {
                list.push((address, at));
            }
        }
        at += line.len();
    }
    if first.is_empty() { others } else { first }
}

/// The addresses of a line; whether it begins with one.
fn addresses(line: &str) -> impl Iterator<Item = (bool, Address)> {
    line.match_indices('@').filter_map(|(at, _)| {
        let start = line[..at].trim_end_matches(is_local).len();
        let end = line.len() - line[at + 1..].trim_start_matches(is_domain).len();
        let local = line[start..at].rsplit("SMTP=").next()?.trim_start_matches(['-', '.', '\'', '=']);
        let address = Address::parse(&format!("{local}@{}", line[at + 1..end].trim_end_matches(['.', '-']))).ok()?;
        let before = line[..start].trim_matches(|c: char| !c.is_alphanumeric());
        Some((before.is_empty(), address))
    })
}

fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || "-._".contains(c)
}

/// HTML as text: tags go, those that end a line become line ends, and the common entities what they stand for.
fn without_tags(html: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(html.len()), html);
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // An entity, or a tag that does not end, is what it looks like.
        let Some((end, text)) = markup(rest) else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
            continue;
        };
        out.push_str(text);
        rest = &rest[end..];
    }
    out.push_str(rest);
    out
}

/// How long a tag or an entity is, and the text for it.
fn markup(at: &str) -> Option<(usize, &'static str)> {
    const ENTITIES: [(&str, &str); 6] =
        [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&"), ("&quot;", "\""), ("&#39;", "'")];
    if let Some((entity, text)) = ENTITIES.iter().find(|(entity, _)| at.starts_with(entity)) {
        return Some((entity.len(), text));
    }
    let window = &at[..at.floor_char_boundary(1000)];
    let end = window.strip_prefix('<').and_then(|_| window.find('>'))?;
    let name = window[1..end].trim_start_matches('/').split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    // `<jo@x.test>` is no tag.
    if window[..end].contains('@') && !window[..end].contains('=') {
        return None;
    }
    let breaks = ["br", "p", "div", "tr", "li", "h1", "h2", "h3", "pre", "table"];
    Some((end + 1, if breaks.iter().any(|tag| tag.eq_ignore_ascii_case(name)) { "\n" } else { " " }))
}
