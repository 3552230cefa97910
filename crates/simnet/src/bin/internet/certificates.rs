//! An authority that only this internet knows, and what its hosts show.

use std::path::Path;

use net::CertFiles;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, PublicKeyData};

use crate::cases::Shown;

/// See the module.
pub struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

/// A certificate and its key.
pub struct Certificate {
    pem: String,
    key: KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "an authority of the laboratory");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { params, key: KeyPair::generate().unwrap() }
    }

    pub fn root(&self) -> String {
        self.params.self_signed(&self.key).unwrap().pem()
    }

    /// What a host of that name shows, if it shows anything.
    pub fn issue(&self, shown: Shown, name: &str) -> Option<Certificate> {
        let name = if shown == Shown::OfAnother { "another.test" } else { name };
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if shown == Shown::Expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = match shown {
            Shown::None => return None,
            Shown::OwnWord => params.self_signed(&key),
            _ => params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)),
        };
        Some(Certificate { pem: certificate.unwrap().pem(), key })
    }
}

impl Certificate {
    /// Its public key, as TLSA records with selector 1 name it (RFC 6698 §2.1.2).
    pub fn public_key(&self) -> Vec<u8> {
        self.key.subject_public_key_info()
    }

    pub fn save(&self, directory: &Path, name: &str) -> CertFiles {
        let at = |kind| directory.join(format!("{name}.{kind}"));
        let files = CertFiles { chain: at("pem"), key: at("key") };
        std::fs::write(&files.chain, &self.pem).unwrap();
        std::fs::write(&files.key, self.key.serialize_pem()).unwrap();
        files
    }
}
