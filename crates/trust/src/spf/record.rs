//! A record, read (RFC 7208 §4.6, §12): all of it, before any of it counts.

use std::net::IpAddr;

use super::Outcome;
use super::macros::Macros;

/// Terms of one record that are looked at: ten ask, and what names addresses takes octets. A record beyond it is an error.
const TERMS: usize = 1000;

#[derive(Debug)]
pub(super) struct Record {
    pub(super) directives: Vec<Directive>,
    /// None where a mechanism matches all (§6.1).
    pub(super) redirect: Option<Macros>,
}

#[derive(Debug)]
pub(super) struct Directive {
    pub(super) outcome: Outcome,
    pub(super) mechanism: Mechanism,
}

#[derive(Debug)]
pub(super) enum Mechanism {
    All,
    Include(Macros),
    A(Option<Macros>, Bits),
    Mx(Option<Macros>, Bits),
    Ptr(Option<Macros>),
    Ip(IpAddr, u8),
    Exists(Macros),
}

impl Mechanism {
    /// §4.6.4
    pub(super) fn asks(&self) -> bool {
        !matches!(self, Mechanism::All | Mechanism::Ip(..))
    }
}

/// Octets of a network, of each family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bits {
    v4: u8,
    v6: u8,
}

impl Bits {
    pub(super) fn of(self, v6: bool) -> u8 {
        if v6 { self.v6 } else { self.v4 }
    }
}

impl Record {
    /// The error is in words.
    pub(super) fn parse(text: &str) -> Result<Record, String> {
        let (mut record, mut explained) = (Record { directives: Vec::new(), redirect: None }, false);
        let terms = text.split(' ').skip(1).filter(|term| !term.is_empty());
        for (n, term) in terms.enumerate() {
            let bad = || format!("{} is nothing that SPF knows", shown(term));
            if n == TERMS {
                return Err("it has too many terms".to_owned());
            }
            let name_end = term.find([':', '/', '=']).unwrap_or(term.len());
            let (name, rest) = (term[..name_end].to_ascii_lowercase(), &term[name_end..]);
            if let Some(value) = rest.strip_prefix('=') {
                let twice = match name.as_str() {
                    "redirect" => record.redirect.replace(Macros::parse(value).ok_or_else(bad)?).is_some(),
                    // What is said to who is refused says nothing here.
                    "exp" => std::mem::replace(&mut explained, true),
                    // §6: unknown modifiers are no error, if they are of a modifier's form.
                    _ if is_name(&name) => false,
                    _ => return Err(bad()),
                };
                if twice {
                    return Err(format!("{name}= stands there twice"));
                }
                continue;
            }
            let outcome = match name.chars().next() {
                Some('-') => Outcome::Fail,
                Some('~') => Outcome::SoftFail,
                Some('?') => Outcome::Neutral,
                _ => Outcome::Pass,
            };
            let mechanism = mechanism(name.strip_prefix(['+', '-', '~', '?']).unwrap_or(&name), rest);
            record.directives.push(Directive { outcome, mechanism: mechanism.ok_or_else(bad)? });
        }
        if record.directives.iter().any(|one| matches!(one.mechanism, Mechanism::All)) {
            record.redirect = None;
        }
        Ok(record)
    }
}

/// As much of a term as is of use, fit for a terminal (trap 27).
fn shown(term: &str) -> String {
    term.chars().take(60).flat_map(char::escape_debug).collect()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

fn mechanism(name: &str, rest: &str) -> Option<Mechanism> {
    let value = rest.strip_prefix(':');
    match name {
        "ip4" => return network(value?, false),
        "ip6" => return network(value?, true),
        _ => {}
    }
    let (named, bits) = match value {
        // The first slash that is not within a macro, where it may be a delimiter.
        Some(value) => value.split_at(outside_macros(value, '/').unwrap_or(value.len())),
        None => ("", rest),
    };
    let named = match value {
        Some(_) => Some(Macros::parse(named)?),
        None => None,
    };
    let no_bits = bits.is_empty();
    match name {
        "all" if rest.is_empty() => Some(Mechanism::All),
        "include" if no_bits => named.map(Mechanism::Include),
        "exists" if no_bits => named.map(Mechanism::Exists),
        "ptr" if no_bits => Some(Mechanism::Ptr(named)),
        "a" => Some(Mechanism::A(named, both(bits)?)),
        "mx" => Some(Mechanism::Mx(named, both(bits)?)),
        _ => None,
    }
}

fn outside_macros(text: &str, wanted: char) -> Option<usize> {
    let mut within = false;
    text.char_indices().find_map(|(at, c)| {
        within = (within || c == '{') && c != '}';
        (c == wanted && !within).then_some(at)
    })
}

/// `ip4:` and `ip6:` (§5.6).
fn network(value: &str, v6: bool) -> Option<Mechanism> {
    let most = if v6 { 128 } else { 32 };
    let (ip, bits) = value.split_once('/').map_or((value, Some(most)), |(ip, bits)| (ip, prefix(bits, most)));
    let ip: IpAddr = ip.parse().ok()?;
    (ip.is_ipv6() == v6).then_some(Mechanism::Ip(ip, bits?))
}

/// `/24`, `//64`, `/24//64` or nothing (§5.3).
fn both(bits: &str) -> Option<Bits> {
    let (v4, v6) = match bits.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (bits, None),
    };
    let v4 = if v4.is_empty() { Some(32) } else { prefix(v4.strip_prefix('/')?, 32) };
    let v6 = v6.map_or(Some(128), |v6| prefix(v6, 128));
    Some(Bits { v4: v4?, v6: v6? })
}

fn prefix(digits: &str, most: u8) -> Option<u8> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|bits| plain && *bits <= most)
}
