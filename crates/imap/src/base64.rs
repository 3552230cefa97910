//! Base64 of RFC 4648 §4 for SASL, and the padless form with `,` for `/` of modified UTF-7 (RFC 3501 §5.1.3).
//! Called by the machine and by [`crate::name`]; strict, linear, and it never allocates more than its input.

/// Which of the two forms is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// RFC 4648 §4, padding required.
    Padded,
    /// RFC 3501 §5.1.3: `,` for `/`, no padding.
    MailboxName,
}

impl Form {
    fn digit(self, value: u8) -> u8 {
        match value {
            0..=25 => b'A' + value,
            26..=51 => b'a' + value - 26,
            52..=61 => b'0' + value - 52,
            62 => b'+',
            _ if self == Form::MailboxName => b',',
            _ => b'/',
        }
    }

    fn value(self, digit: u8) -> Option<u8> {
        match digit {
            b'A'..=b'Z' => Some(digit - b'A'),
            b'a'..=b'z' => Some(digit - b'a' + 26),
            b'0'..=b'9' => Some(digit - b'0' + 52),
            b'+' => Some(62),
            b',' if self == Form::MailboxName => Some(63),
            b'/' if self == Form::Padded => Some(63),
            _ => None,
        }
    }
}

/// Writes `bytes` in base64.
pub(crate) fn encode(form: Form, bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(form.digit((word >> (18 - 6 * i) & 63) as u8));
        }
        if form == Form::Padded {
            out.extend_from_slice(&b"=="[..3 - chunk.len()]);
        }
    }
}

/// Reads base64; none when a character, the padding or an unused bit is wrong.
pub(crate) fn decode(form: Form, text: &[u8]) -> Option<Vec<u8>> {
    let digits = match form {
        Form::MailboxName => text,
        Form::Padded if !text.len().is_multiple_of(4) => return None,
        Form::Padded => match text {
            [head @ .., b'=', b'='] | [head @ .., b'='] => head,
            all => all,
        },
    };
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut word = 0u32;
        for digit in chunk {
            word = word << 6 | u32::from(form.value(*digit)?);
        }
        word <<= 6 * (4 - chunk.len());
        let octets = chunk.len() * 6 / 8;
        // RFC 4648 §3.5: what the last octet does not use is zero; one digit alone holds no octet.
        if octets == 0 || word & (0xff_ffff >> (8 * octets)) != 0 {
            return None;
        }
        out.extend_from_slice(&word.to_be_bytes()[1..=octets]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_4648_section_10() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")]
        {
            let mut out = Vec::new();
            encode(Form::Padded, plain.as_bytes(), &mut out);
            assert_eq!(out, coded.as_bytes());
            assert_eq!(decode(Form::Padded, coded.as_bytes()).as_deref(), Some(plain.as_bytes()));
        }
    }

    #[test]
    fn what_is_no_base64() {
        for bad in ["Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Z===", "====", "Zm9v\r\n", "Zg==Zg==", "Zm,v"] {
            assert_eq!(decode(Form::Padded, bad.as_bytes()), None, "{bad}");
        }
    }
}
