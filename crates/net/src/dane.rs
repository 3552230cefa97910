//! DANE (RFC 6698, RFC 7671, for SMTP RFC 7672): a host's certificate is good because the DNS, proven by DNSSEC, names it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::cert_facts::public_key;

/// What a TLSA record says (RFC 6698 §2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tlsa {
    /// 2: an authority above the certificate; 3: the certificate itself. 0 and 1 are nothing for mail (RFC 7672 §3.1.3).
    pub usage: u8,
    /// 0: of the whole certificate; 1: of its public key.
    pub selector: u8,
    /// 0: the thing itself; 1: its SHA-256; 2: its SHA-512.
    pub matching: u8,
    /// That.
    pub data: Vec<u8>,
}

/// As a zone file has it (RFC 6698 §2.2).
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl Tlsa {
    /// Whether a host can prove anything by it (RFC 7671 §4.1).
    pub fn is_usable(&self) -> bool {
        let fits = match self.matching {
            0 => !self.data.is_empty(),
            1 => self.data.len() == 32,
            2 => self.data.len() == 64,
            _ => false,
        };
        fits && matches!(self.usage, 2 | 3) && matches!(self.selector, 0 | 1)
    }

    fn matches(&self, certificate: &CertificateDer<'_>) -> bool {
        let what = match self.selector {
            0 => Some(certificate.as_ref()),
            1 => public_key(certificate),
            _ => None,
        };
        what.is_some_and(|what| match self.matching {
            0 => what == self.data,
            1 => digest(&SHA256, what).as_ref() == self.data,
            2 => digest(&SHA512, what).as_ref() == self.data,
            _ => false,
        })
    }
}

/// What a host's certificate is to be judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dane {
    /// Below which name the records stand: the name that the host is asked for (SNI, RFC 7672 §8.1).
    pub base: String,
    /// Names that a certificate may have whose authority is named: `base`, and what led to it (§3.2.2).
    pub names: Vec<String>,
    /// The usable ones; at least one.
    pub records: Vec<Tlsa>,
}

impl Dane {
    /// Whether one of the records is fulfilled.
    pub(crate) fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let of = |usage| self.records.iter().filter(move |record| record.usage == usage);
        // RFC 7672 §3.1.1: neither its names nor its dates count, as the DNS says all of that.
        if of(3).any(|record| record.matches(end_entity)) {
            return Ok(());
        }
        // §3.1.2: anywhere in the chain that the host shows, or the record itself.
        let mut anchors = Vec::new();
        for record in of(2) {
            anchors.extend(intermediates.iter().filter(|above| record.matches(above)).cloned());
            if (record.selector, record.matching) == (0, 0) {
                anchors.push(CertificateDer::from(record.data.clone()));
            }
        }
        let anchors: Vec<TrustAnchor<'_>> =
            anchors.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect();
        if anchors.is_empty() {
            return Err(unknown());
        }
        self.leads_to(&anchors, end_entity, intermediates, now)
    }

    fn leads_to(
        &self,
        anchors: &[TrustAnchor<'_>],
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let bad = |e: webpki::Error| match e {
            webpki::Error::CertExpired { .. } => CertificateError::Expired.into(),
            webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet.into(),
            // It has the authority's name, and was not made by it.
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => unknown(),
            _ => Error::InvalidCertificate(CertificateError::BadEncoding),
        };
        let certificate = EndEntityCert::try_from(end_entity).map_err(bad)?;
        let algorithms = crate::tls_server::provider().signature_verification_algorithms.all;
        let usage = KeyUsage::server_auth();
        certificate.verify_for_usage(algorithms, anchors, intermediates, now, usage, None, None).map_err(bad)?;
        let is_for = |name: &String| {
            ServerName::try_from(name.as_str())
                .is_ok_and(|name| certificate.verify_is_valid_for_subject_name(&name).is_ok())
        };
        if self.names.iter().any(is_for) { Ok(()) } else { Err(CertificateError::NotValidForName.into()) }
    }
}

fn unknown() -> Error {
    CertificateError::UnknownIssuer.into()
}
