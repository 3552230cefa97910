//! A mail address, as SMTP knows it: `local@domain`.

use std::fmt;

/// An address of RFC 5321 §4.1.2 (`Mailbox`), with the UTF-8 of RFC 6531 §3.3.
///
/// The local part is kept without quoting (`"a b"@x` has the local part `a b`) and in the case it was written in; the
/// domain is kept in lower case. A domain may be an address literal in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// `local@domain`, unquoted.
    text: Box<str>,
    /// Where `@` is: the last one.
    at: u16,
}

/// Why a text is no address; the words are fit for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No `@`.
    NoDomain,
    /// Empty, too long (64 octets, RFC 5321 §4.5.3.1.1), or of characters that need quoting.
    Local,
    /// Empty, too long (255 octets, §4.5.3.1.2), or not labels of letters, digits and hyphens.
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
        if local.is_empty() || local.len() > 64 || local.chars().any(char::is_control) {
            return Err(AddressError::Local);
        }
        if !valid_domain(domain) {
            return Err(AddressError::Domain);
        }
        let text = format!("{local}@{}", domain.to_lowercase());
        Ok(Address { text: text.into(), at: local.len() as u16 })
    }

    /// Before the `@`, without quotes, in the writer's case.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// After the `@`, in lower case.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// False when the address needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// What two spellings of one local mailbox have in common: local part in lower case, unquoted.
    pub fn key(&self) -> String {
        self.text.to_lowercase()
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

/// RFC 5321 §4.1.2 `Domain` or an address literal (§4.1.3); RFC 6531 §3.3: U-labels too. Underscores occur in the wild.
fn valid_domain(d: &str) -> bool {
    if let Some(literal) = d.strip_prefix('[') {
        let Some(literal) = literal.strip_suffix(']') else { return false };
        return match literal.strip_prefix("IPv6:").or_else(|| literal.strip_prefix("ipv6:")) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => literal.parse::<std::net::Ipv4Addr>().is_ok(),
        };
    }
    let label = |l: &str| {
        (1..=63).contains(&l.chars().count())
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || may_be_in_u_label(c))
    };
    d.len() <= 255 && d.split('.').all(label)
}

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
            ("用户@例子.test", "用户", "用户@例子.test"),
            // With a virama, which is no letter.
            ("डाक@हिन्दी.भारत", "डाक", "डाक@हिन्दी.भारत"),
            ("x@[192.0.2.1]", "x", "x@[192.0.2.1]"),
        ] {
            let a = Address::parse(text).unwrap();
            assert_eq!((a.local(), a.to_string().as_str()), (local, shown));
            assert_eq!(Address::parse(&a.to_string()).unwrap(), a);
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
        ] {
            assert_eq!(Address::parse(text), Err(why), "{text:?}");
        }
        assert_eq!(Address::parse(&format!("{}@x.test", "a".repeat(65))), Err(Local));
    }
}
