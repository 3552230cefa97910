//! `xtext` (RFC 3461 §4): how DSN and AUTH parameters carry what their grammar forbids. And the `\x{..}` form that
//! RFC 6533 §3 gives to addresses of type `utf-8`.

/// The text behind `xtext`, or none when it is not well formed or hides a control or non-ASCII character: those would
/// end up in the header of a delivery report.
pub(crate) fn decode(text: &str) -> Option<String> {
    let (mut out, mut bytes) = (String::with_capacity(text.len()), text.bytes());
    while let Some(b) = bytes.next() {
        let decoded = match b {
            b'+' => upper_hex(bytes.next()?)? << 4 | upper_hex(bytes.next()?)?,
            b'=' => return None,
            b'!'..=b'~' => b,
            _ => return None,
        };
        if !matches!(decoded, b' '..=b'~') {
            return None;
        }
        out.push(char::from(decoded));
    }
    Some(out)
}

/// RFC 3461 §4: `hexchar` has upper case digits only.
fn upper_hex(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'A'..=b'F' => Some(c - b'A' + 10),
        _ => None,
    }
}

/// An address of type `utf-8` (RFC 6533 §3): printable ASCII and UTF-8 stand for themselves, `\x{2B}` for the rest.
pub(crate) fn decode_utf8(text: &str) -> Option<String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(c) = rest.chars().next() {
        let c = if c == '\\' {
            let (hex, after) = rest.strip_prefix("\\x{")?.split_once('}')?;
            let canonical = (2..=6).contains(&hex.len()) && hex.bytes().all(|b| upper_hex(b).is_some());
            rest = after;
            canonical.then(|| u32::from_str_radix(hex, 16).ok()).flatten().and_then(char::from_u32)?
        } else if c == '+' || c == '=' || c == ' ' {
            return None;
        } else {
            rest = &rest[c.len_utf8()..];
            c
        };
        if c.is_control() {
            return None;
        }
        out.push(c);
    }
    Some(out)
}

/// `text` as xtext.
pub(crate) fn encode(text: &str, out: &mut Vec<u8>) {
    for b in text.bytes() {
        match b {
            b'!'..=b'~' if b != b'+' && b != b'=' => out.push(b),
            _ => out.extend_from_slice(format!("+{b:02X}").as_bytes()),
        }
    }
}

/// `text` as an address of type `utf-8`; `smtputf8` says that UTF-8 may stand for itself.
pub(crate) fn encode_utf8(text: &str, smtputf8: bool, out: &mut Vec<u8>) {
    for c in text.chars() {
        match c {
            '\\' | '+' | '=' => out.extend_from_slice(format!("\\x{{{:02X}}}", u32::from(c)).as_bytes()),
            '!'..='~' => out.push(c as u8),
            c if smtputf8 && !c.is_ascii() && !c.is_control() => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            c => out.extend_from_slice(format!("\\x{{{:02X}}}", u32::from(c)).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let encoded = |f: &dyn Fn(&mut Vec<u8>)| {
            let mut out = Vec::new();
            f(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encoded(&|out| encode("a+b=c d", out)), "a+2Bb+3Dc+20d");
        assert_eq!(encoded(&|out| encode_utf8("用+\\@x", true, out)), "用\\x{2B}\\x{5C}@x");
        assert_eq!(encoded(&|out| encode_utf8("用 @x", false, out)), "\\x{7528}\\x{20}@x");
        for text in ["a+b=c d", "用户+\\ =@x.test"] {
            for smtputf8 in [false, true] {
                assert_eq!(decode_utf8(&encoded(&|out| encode_utf8(text, smtputf8, out))).as_deref(), Some(text));
            }
        }
    }

    #[test]
    fn xtext_is_decoded_strictly() {
        assert_eq!(decode("QQ314159").as_deref(), Some("QQ314159"));
        assert_eq!(decode("a+2Bb+3Dc+20d").as_deref(), Some("a+b=c d"));
        for bad in ["a=b", "a+2", "a+", "a+2b", "a+0A", "a+00", "a b", "a+C3+A9", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn utf8_addresses_are_decoded_strictly() {
        assert_eq!(decode_utf8("\\x{7528}\\x{6237}@x.test").as_deref(), Some("用户@x.test"));
        assert_eq!(decode_utf8("用户@x.test").as_deref(), Some("用户@x.test"));
        assert_eq!(decode_utf8("a\\x{2B}b@x.test").as_deref(), Some("a+b@x.test"));
        for bad in ["a+b", "a=b", "\\", "\\x{}", "\\x{2b}", "\\x{D800}", "\\x{0A}", "\\x{2B", "\\x{1FFFFF}"] {
            assert_eq!(decode_utf8(bad), None, "{bad}");
        }
    }
}
