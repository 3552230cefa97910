//! A mail address, as SMTP knows it: `local@domain`.

use std::fmt;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// An address of RFC 5321 §4.1.2 (`Mailbox`), with the UTF-8 of RFC 6531 §3.3.
///
/// The local part is kept without quoting (`"a b"@x` has the local part `a b`) and in the case it was written in. The
/// domain is kept in one form, whatever it was written in: A-labels in lower case ([`domain`]), so that two spellings of it
/// are one wherever it is looked up. A domain may be an address literal in brackets.
///
/// What an address is shown as ([`fmt::Display`]) parses again to the same address: it may be stored so.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// `local@domain`, unquoted.
    text: Box<str>,
    /// Where `@` is: the last one.
    at: u16,
}

/// Octets that a local part always may have (RFC 5321 §4.5.3.1.1). No name of a mailbox should be longer; the return
/// addresses that forwarders and lists make often are, and §4.5.3.1 wants no limit where none is needed.
pub const LOCAL: usize = 64;

/// Octets of the whole address, where the local part has more than [`LOCAL`] (§4.5.3.1.3: a path has 256, with its
/// brackets).
const WHOLE: usize = 254;

/// Why a text is no address; the words are fit for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No `@`.
    NoDomain,
    /// Empty, too long, or of characters that need quoting.
    Local,
    /// Empty, too long (255 octets, §4.5.3.1.2), not labels of letters, digits and hyphens, or no name of IDNA (RFC 5890).
    Domain,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::NoDomain => "the address has no domain",
            AddressError::Local => "the part before @ is not valid",
            AddressError::Domain => "the domain is not valid",
        })
    }
}

impl std::error::Error for AddressError {}

/// RFC 5322 §3.2.3 `atext`, and RFC 6531 §3.3: any non-ASCII character.
fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || (!c.is_ascii() && !c.is_control())
}

fn is_dot_string(s: &str) -> bool {
    !s.is_empty() && s.split('.').all(|a| !a.is_empty() && a.chars().all(is_atext))
}

impl Address {
    /// Parses `local@domain`, where `local` is a dot-string or a quoted string.
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = text.rfind('@').ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if local.starts_with('"') {
            Self::new(&unquote(local)?, domain)
        } else {
            if !is_dot_string(local) {
                return Err(AddressError::Local);
            }
            Self::new(local, domain)
        }
    }

    /// From an unquoted local part and a domain.
    ///
    /// # Errors
    /// [`AddressError`] names the part that is wrong; control characters are never allowed in either.
    pub fn new(local: &str, domain: &str) -> Result<Self, AddressError> {
        if local.is_empty() || local.chars().any(char::is_control) {
            return Err(AddressError::Local);
        }
        let domain = self::domain(domain)?;
        if local.len() > LOCAL && local.len() + 1 + domain.len() > WHOLE {
            return Err(AddressError::Local);
        }
        let text = format!("{local}@{domain}");
        Ok(Address { text: text.into(), at: local.len() as u16 })
    }

    /// Before the `@`, without quotes, in the writer's case.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// After the `@`: A-labels in lower case, or an address literal.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// False when the address needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// As it is shown, in lower case: what all spellings of it have in common. RFC 5321 §2.4 leaves it to its host whether
    /// they are one mailbox; none is known that takes them for two, and who asks not to be written to asks for all of them.
    pub fn folded(&self) -> String {
        self.to_string().to_lowercase()
    }

    /// Whether the two differ in nothing but case: as [`folded`](Self::folded) has it, without making it where that can be.
    pub fn is_alike(&self, other: &Address) -> bool {
        self.text.eq_ignore_ascii_case(&other.text)
            || !(self.is_ascii() && other.is_ascii()) && self.folded() == other.folded()
    }
}

/// The text of a quoted string (RFC 5321 §4.1.2 `Quoted-string`).
fn unquote(s: &str) -> Result<String, AddressError> {
    let inner = s.strip_prefix('"').and_then(|s| s.strip_suffix('"')).ok_or(AddressError::Local)?;
    let (mut out, mut chars) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().ok_or(AddressError::Local)?),
            '"' => return Err(AddressError::Local),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// The one form of a domain (RFC 5321 §4.1.2 `Domain`, RFC 6531 §3.3) or an address literal (§4.1.3): U-labels become
/// A-labels, all of it lower case. Underscores occur in the wild. What comes out is its own form.
///
/// ```
/// assert_eq!(base::domain("例子.TEST").unwrap(), "xn--fsqu00a.test");
/// ```
///
/// # Errors
/// [`AddressError::Domain`].
pub fn domain(text: &str) -> Result<String, AddressError> {
    let bad = AddressError::Domain;
    if let Some(literal) = text.strip_prefix('[') {
        let literal = literal.strip_suffix(']').ok_or(bad)?.to_ascii_lowercase();
        let valid = match literal.strip_prefix("ipv6:") {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
        };
        return if valid { Ok(format!("[{literal}]")) } else { Err(bad) };
    }
    if text.len() > MAX_U_LABELS || !text.chars().all(|c| c.is_ascii() || may_be_in_u_label(c)) {
        return Err(bad);
    }
    // What IDNA makes of it counts, and only that: checked before, it could become something that is no domain.
    let name = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        let (deny, hyphens, length) = (AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore);
        Uts46::new().to_ascii(text.as_bytes(), deny, hyphens, length).map_err(|_| bad)?.into_owned()
    };
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    if name.len() <= 255 && name.split('.').all(label) { Ok(name) } else { Err(bad) }
}

/// Octets of a domain in U-labels that are looked at: 255 in A-labels have no need of more.
const MAX_U_LABELS: usize = 1024;

/// Whether a U-label may hold `c`, near enough: RFC 5892 names letters, digits and combining marks, of which many scripts
/// have need. What is certain: no blanks, and nothing that IDNA takes for a dot (RFC 3490 §3.1), which would give a domain
/// other labels than those we see.
fn may_be_in_u_label(c: char) -> bool {
    !c.is_ascii() && !c.is_control() && !c.is_whitespace() && !matches!(c, '\u{3002}' | '\u{FF0E}' | '\u{FF61}')
}

/// As it stands in an SMTP command or a header, quoted where it must be; without angle brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(self.local()) {
            return f.write_str(&self.text);
        }
        f.write_str("\"")?;
        for c in self.local().chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        write!(f, "\"@{}", self.domain())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_taken_off_and_put_back() {
        for (text, local, shown) in [
            ("Jane.Doe@EXAMPLE.test", "Jane.Doe", "Jane.Doe@example.test"),
            (r#""jane"@x.test"#, "jane", "jane@x.test"),
            (r#""a \"b\" @c"@x.test"#, r#"a "b" @c"#, r#""a \"b\" @c"@x.test"#),
            ("用户@例子.test", "用户", "用户@xn--fsqu00a.test"),
            ("joe@XN--fsqu00a.test", "joe", "joe@xn--fsqu00a.test"),
            // With a virama, which is no letter. A-labels here and below as Python's punycode codec gives them.
            ("डाक@हिन्दी.भारत", "डाक", "डाक@xn--j2bd4cyah0f.xn--h2brj9c"),
            ("x@mail_1.test", "x", "x@mail_1.test"),
            ("x@[192.0.2.1]", "x", "x@[192.0.2.1]"),
        ] {
            let a = Address::parse(text).unwrap();
            assert_eq!((a.local(), a.to_string().as_str()), (local, shown));
            assert_eq!(Address::parse(&a.to_string()).unwrap(), a);
        }
    }

    #[test]
    fn spellings_that_differ_in_case_are_alike() {
        let at = |text| Address::parse(text).unwrap();
        for (one, other, alike) in [
            ("Ann@x.test", "aNN@X.test", true),
            (r#""Ann Lee"@x.test"#, r#""ann lee"@x.test"#, true),
            ("ÄNN@x.test", "änn@x.test", true),
            // The sign of the unit Kelvin, whose lower case is a letter of ASCII.
            ("\u{212a}im@x.test", "kim@x.test", true),
            ("ann@x.test", "ann@y.test", false),
            ("ann@x.test", "anne@x.test", false),
            ("ann@x.test", "änn@x.test", false),
        ] {
            let (one, other) = (at(one), at(other));
            assert_eq!((one.is_alike(&other), other.is_alike(&one)), (alike, alike), "{one} {other}");
            assert_eq!(one.folded() == other.folded(), alike, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_address() {
        use AddressError::*;
        for (text, why) in [
            ("jane", NoDomain),
            ("@x.test", Local),
            ("a..b@x.test", Local),
            ("a b@x.test", Local),
            ("\"a\"b\"@x.test", Local),
            ("\"a\r\nRCPT TO:<b@x.test>\"@x.test", Local),
            ("a@", Domain),
            ("a@x..test", Domain),
            ("a@-x.test", Domain),
            ("a@[300.0.2.1]", Domain),
            ("a@x.test\r\n", Domain),
            ("a@[IPv6:zz]", Domain),
            ("a@例子\u{3002}test", Domain),
            ("a@例\u{3000}子.test", Domain),
            ("a@Ｘ＠ｘ.test", Domain),
            ("a@\u{2126}.\u{2488}test", Domain),
        ] {
            assert_eq!(Address::parse(text), Err(why), "{text:?}");
        }
        assert!(Address::parse(&format!("{}@x.test", "a".repeat(247))).is_ok());
        assert_eq!(Address::parse(&format!("{}@x.test", "a".repeat(248))), Err(Local));
    }

    #[test]
    fn what_grows_in_lower_case_or_as_an_a_label_is_too_long_before_it_is_kept() {
        // One character that becomes two, and one of two octets that becomes three.
        for (c, n) in [("\u{130}", 40), ("\u{23a}", 60), ("\u{23a}", 63)] {
            let text = format!("x@{}.test", c.repeat(n));
            if let Ok(a) = Address::parse(&text) {
                assert_eq!(Address::parse(&a.to_string()), Ok(a), "{text}");
            }
        }
        assert_eq!(Address::parse(&format!("x@{}.test", "\u{130}".repeat(40))), Err(AddressError::Domain));
    }

    /// What was accepted once and stored must be read for ever: very many texts of the characters that are odd.
    #[test]
    fn what_an_address_is_shown_as_parses_to_the_same() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut random = move |n: u32| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 32) as u32 % n
        };
        let odd: Vec<char> =
            "İẞßſKÅȺȾςΣǅﬁ①．。｡＠\u{ad}\u{200d}\u{301}\u{307}अ्ख例ابא٣🙂\\\"@.-_[]: \tXx".chars().collect();
        let mut valid = 0;
        for _ in 0..20_000 {
            let mut part = |most: u32| -> String {
                let (length, plain) = (1 + random(most), random(3));
                let one = |_| match (plain, random(4)) {
                    (0, _) | (1, 1..) => char::from(b'a' + random(26) as u8),
                    (_, 0) => char::from_u32(random(0x11_0000)).unwrap_or('x'),
                    _ => odd[random(odd.len() as u32) as usize],
                };
                (0..length).map(one).collect()
            };
            let (local, domain) = (part(40), [part(70), part(5)].join("."));
            for a in [Address::new(&local, &domain), Address::parse(&format!("{local}@{domain}"))].into_iter().flatten()
            {
                valid += 1;
                let shown = a.to_string();
                assert_eq!(Address::parse(&shown), Ok(a), "{local:?} {domain:?}: {shown:?}");
            }
        }
        assert!(valid > 1000, "{valid}");
    }
}
