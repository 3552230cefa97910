//! What a certificate says of itself: for whom it is, and until when. For renewal and for the administrator; whether to
//! trust one is decided by rustls alone.

use std::path::Path;

use base::{Civil, Timestamp};
use rustls_pki_types::{CertificateDer, ServerName};
use webpki::EndEntityCert;

use crate::tls_server::{TlsError, read_certificates};

/// The first certificate of a file.
#[derive(Debug)]
pub struct CertFacts {
    /// The DNS names it is for, wildcards as they are written.
    pub names: Vec<String>,
    /// It is good from here …
    pub from: Timestamp,
    /// … to here.
    pub until: Timestamp,
    der: CertificateDer<'static>,
}

impl CertFacts {
    /// Reads a PEM file.
    ///
    /// # Errors
    /// [`TlsError::File`]: it cannot be read, or there is no certificate in it.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let bad = || TlsError::File { path: path.into(), why: "the certificate cannot be read".into() };
        let der = read_certificates(path)?.into_iter().next().ok_or_else(bad)?;
        let (from, until) = validity(&der).ok_or_else(bad)?;
        let names = EndEntityCert::try_from(&der).map_err(|_| bad())?.valid_dns_names().map(str::to_owned).collect();
        Ok(CertFacts { names, from, until, der })
    }

    /// True when it is for `name`, wildcards included (RFC 9525 §6.3).
    pub fn is_for(&self, name: &str) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        EndEntityCert::try_from(&self.der).is_ok_and(|cert| cert.verify_is_valid_for_subject_name(&name).is_ok())
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`: the version, left out for the first.
const VERSION: u8 = 0xa0;

/// The two moments of RFC 5280 §4.1.2.5, which stand behind version, serial number, algorithm and issuer.
fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let mut certificate = Der(certificate);
    let mut signed = Der(Der(certificate.expect(SEQUENCE)?).expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.expect(VERSION)?;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        signed.expect(tag)?;
    }
    let mut validity = Der(signed.expect(SEQUENCE)?);
    let mut moment = || validity.next().and_then(|(tag, text)| moment(tag, text));
    Some((moment()?, moment()?))
}

/// The public key as a record of the DNS has it (RFC 6698 §2.1.2), which stands behind validity and subject.
pub(crate) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut certificate = Der(certificate);
    let mut signed = Der(Der(certificate.expect(SEQUENCE)?).expect(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.expect(VERSION)?;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        signed.expect(tag)?;
    }
    let from = signed.0;
    signed.expect(SEQUENCE)?;
    from.get(..from.len() - signed.0.len())
}

/// RFC 5280 §4.1.2.5.1 and .2: `YYMMDDHHMMSSZ` for 1950 to 2049, `YYYYMMDDHHMMSSZ`.
fn moment(tag: u8, text: &[u8]) -> Option<Timestamp> {
    let digits = text.strip_suffix(b"Z")?;
    let year = match (tag, digits.len()) {
        (UTC_TIME, 12) => number(&digits[..2]).map(|y| if y < 50 { 2000 + y } else { 1900 + y })?,
        (GENERALIZED_TIME, 14) => number(&digits[..4])?,
        _ => return None,
    };
    let mut rest = digits[digits.len() - 10..].chunks(2);
    let mut field = |range: std::ops::RangeInclusive<i64>| {
        let value = number(rest.next()?).filter(|value| range.contains(value))?;
        u8::try_from(value).ok()
    };
    let (month, day, hour, minute, second) =
        (field(1..=12)?, field(1..=31)?, field(0..=23)?, field(0..=59)?, field(0..=59)?);
    Some(Civil { year, month, day, hour, minute, second }.at_offset(0))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
}

/// What is left to read of DER (X.690 §8.1, §10.1). Tags above 30 do not occur in what we read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0x00..=0x7f => (usize::from(length), rest),
            // The long form: so many octets of length.
            0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                (octets.iter().fold(0, |n, octet| n << 8 | usize::from(*octet)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(year: i64, month: u8, day: u8) -> Timestamp {
        Civil { year, month, day, hour: 0, minute: 0, second: 0 }.at_offset(0)
    }

    /// A certificate of rcgen's, who knows what it says.
    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["mx.example.test".into(), "*.wild.test".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(until.0, until.1, until.2);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn validity_in_both_forms_of_time() {
        for (from, until) in
            [((1999, 12, 31), (2049, 12, 31)), ((2026, 2, 28), (2050, 1, 1)), ((1950, 1, 1), (9999, 12, 31))]
        {
            let found = validity(&certificate(from, until));
            assert_eq!(found, Some((day(from.0.into(), from.1, from.2), day(until.0.into(), until.1, until.2))));
        }
        assert_eq!(moment(UTC_TIME, b"260228235958Z").unwrap().rfc3339(), "2026-02-28T23:59:58Z");
    }

    #[test]
    fn what_is_cut_short_or_says_nonsense_is_refused() {
        let whole = certificate((2026, 1, 1), (2027, 1, 1));
        for end in 0..whole.len() {
            assert_eq!(validity(&whole[..end]), None, "{end}");
        }
        for text in
            ["", "Z", "261301000000Z", "260100000000Z", "260101240000Z", "2601010000Z", "260101000000", "26010100000xZ"]
        {
            assert_eq!(moment(UTC_TIME, text.as_bytes()), None, "{text}");
        }
        assert_eq!(moment(GENERALIZED_TIME, b"260101000000Z"), None);
        assert_eq!(Der(&[SEQUENCE, 0x80, 0, 0]).next(), None, "the indefinite form is not DER");
        assert_eq!(Der(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).next(), None);
    }

    #[test]
    fn a_file_names_its_hosts() {
        let path = std::env::temp_dir().join(format!("postroom-net-facts-{}.pem", std::process::id()));
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["mx.example.test".into(), "*.wild.test".into()]).unwrap();
        std::fs::write(&path, params.self_signed(&key).unwrap().pem()).unwrap();
        let facts = CertFacts::read(&path).unwrap();
        assert_eq!(facts.names, ["mx.example.test", "*.wild.test"]);
        assert!(facts.is_for("mx.example.test") && facts.is_for("a.wild.test"));
        assert!(!facts.is_for("example.test") && !facts.is_for("a.b.wild.test") && !facts.is_for("no name"));
        std::fs::write(&path, key.serialize_pem()).unwrap();
        assert!(CertFacts::read(&path).unwrap_err().to_string().contains("no certificate"));
        std::fs::remove_file(&path).unwrap();
    }
}
