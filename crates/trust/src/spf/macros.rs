//! Names with macros (RFC 7208 §7).

use std::fmt::Write;
use std::net::IpAddr;

use super::Asked;

/// Octets of a name; of a longer one labels on the left are left out (§7.3).
const NAME: usize = 253;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Macros(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Macro {
        letter: char,
        /// As in a URL.
        escaped: bool,
        /// So many parts from the right; all where it is none.
        keep: Option<usize>,
        reversed: bool,
        delimiters: String,
    },
}

impl Macros {
    /// A domain-spec (§7.1). None when it is none: it is visible ASCII, and ends in a label or a macro.
    pub(super) fn parse(text: &str) -> Option<Macros> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(c) = rest.chars().next() {
            if c != '%' {
                if !c.is_ascii_graphic() {
                    return None;
                }
                plain.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
            match rest.as_bytes().get(1)? {
                b'%' => plain.push('%'),
                b'_' => plain.push(' '),
                b'-' => plain.push_str("%20"),
                b'{' => {
                    let end = rest.find('}')?;
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::parse(&rest[2..end])?);
                    rest = &rest[end + 1..];
                    continue;
                }
                _ => return None,
            }
            rest = &rest[2..];
        }
        if !plain.is_empty() {
            // §7.1: `domain-end` is a macro, or a dot and a label that is not all digits.
            let label = plain.strip_suffix('.').unwrap_or(&plain).rsplit_once('.')?.1;
            let is_top = !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.bytes().all(|b| b.is_ascii_digit());
            if !is_top {
                return None;
            }
            parts.push(Part::Text(plain));
        }
        if parts.is_empty() { None } else { Some(Macros(parts)) }
    }

    /// `%{p}` is among them.
    pub(super) fn asks_for_names(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Macro { letter: 'p', .. }))
    }

    /// `validated`: a name of the address that leads back to it.
    pub(super) fn expand(&self, asked: &Asked<'_>, domain: &str, validated: Option<&str>) -> String {
        let mut name = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Macro { letter, escaped, keep, reversed, delimiters } => {
                    let value = value(*letter, asked, domain, validated);
                    let mut parts: Vec<&str> = value.split(|c| delimiters.contains(c)).collect();
                    if *reversed {
                        parts.reverse();
                    }
                    let from = keep.map_or(0, |keep| parts.len().saturating_sub(keep));
                    let value = parts[from..].join(".");
                    if *escaped { escape(&value, &mut name) } else { name.push_str(&value) }
                }
            }
        }
        while name.len() > NAME {
            match name.find('.') {
                Some(dot) => drop(name.drain(..=dot)),
                None => name.clear(),
            }
        }
        name
    }
}

impl Part {
    /// What stands within the braces.
    fn parse(text: &str) -> Option<Part> {
        let mut chars = text.chars();
        let letter = chars.next()?;
        let rest = chars.as_str();
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, rest) = rest.split_at(digits);
        let keep = if number.is_empty() { None } else { Some(number.parse().ok().filter(|keep| *keep > 0)?) };
        let (reversed, delimiters) = match rest.strip_prefix(['r', 'R']) {
            Some(delimiters) => (true, delimiters),
            None => (false, rest),
        };
        let known = delimiters.chars().all(|c| ".-+,/_=".contains(c));
        let lower = letter.to_ascii_lowercase();
        // c, r and t are only for words to people (§7.2).
        if !known || !"slodiphv".contains(lower) {
            return None;
        }
        let delimiters = if delimiters.is_empty() { ".".to_owned() } else { delimiters.to_owned() };
        Some(Part::Macro { letter: lower, escaped: letter.is_ascii_uppercase(), keep, reversed, delimiters })
    }
}

fn value(letter: char, asked: &Asked<'_>, domain: &str, validated: Option<&str>) -> String {
    match letter {
        's' => format!("{}@{}", asked.local, asked.domain),
        'l' => asked.local.to_owned(),
        'o' => asked.domain.to_owned(),
        'd' => domain.to_owned(),
        'i' => match asked.ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => {
                let nibbles = ip.octets().into_iter().flat_map(|octet| [octet >> 4, octet & 15]);
                nibbles.map(|nibble| format!("{nibble:x}")).collect::<Vec<_>>().join(".")
            }
        },
        'p' => validated.unwrap_or("unknown").to_owned(),
        'v' => if asked.ip.is_ipv4() { "in-addr" } else { "ip6" }.to_owned(),
        _ => asked.helo.to_owned(),
    }
}

/// All but what RFC 3986 §2.3 leaves.
fn escape(value: &str, out: &mut String) {
    for octet in value.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(octet)),
            _ => drop(write!(out, "%{octet:02X}")),
        }
    }
}
