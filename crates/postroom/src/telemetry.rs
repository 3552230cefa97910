//! `[telemetry]`: where traces of mail are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use net::Https;
use outbox::telemetry::{Sample, Setup, way};
use serde::Deserialize;

use crate::outside::Outside;

/// A collector of OpenTelemetry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Its URL for traces.
    pub endpoint: String,
    /// Further fields of each request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The part of all messages that is told, from 0 to 1.
    #[serde(default = "all")]
    pub sample: f64,
    /// Roots beside Mozilla's by which it is verified, PEM; relative to the configuration.
    pub ca_file: Option<PathBuf>,
}

fn all() -> f64 {
    1.0
}

impl TelemetryConfig {
    /// What types cannot say.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if Sample::of(self.sample).is_none() {
            return Err(("sample", format!("{} is not from 0 to 1", self.sample)));
        }
        // RFC 9110 §5.1, §5.5: a name is a token, and no value has a line of its own.
        let token = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        let visible = |value: &str| value.bytes().all(|b| matches!(b, b' '..=b'~'));
        match self.headers.iter().find(|(name, value)| !token(name) || !visible(value)) {
            Some((name, _)) => Err(("headers", format!("{name:?} and its value are no field of a request"))),
            None => Ok(()),
        }
    }

    /// The way to it.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn way(&self, outside: &Outside) -> Result<Https, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("[telemetry] {e}");
        let roots = outside.roots(self.ca_file.as_ref()).map_err(|e| wrong(&e))?;
        let https = way(outside.https(&roots).map_err(|e| wrong(&e))?);
        https.accepts(&self.endpoint).map_err(|e| wrong(&e))?;
        Ok(https)
    }

    /// For who tells them.
    pub fn setup(&self, hostname: &str) -> Setup {
        Setup {
            endpoint: self.endpoint.clone(),
            headers: self.headers.clone().into_iter().collect(),
            sample: Sample::of(self.sample).unwrap_or(Sample::ALL),
            instance: (hostname.to_owned(), env!("CARGO_PKG_VERSION")),
        }
    }
}
