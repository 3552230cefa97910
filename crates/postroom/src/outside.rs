//! The world outside: the internet, or the laboratory that is configured in its place. Whatever this server asks of others,
//! it asks by these.

use std::path::PathBuf;

use net::{Dialer, DnsError, Https, Resolver, Roots, TlsError};

use crate::config::{Config, Laboratory};

/// How it is reached.
#[derive(Clone, Debug)]
pub struct Outside(Option<Laboratory>);

impl Outside {
    /// As it is configured.
    pub fn of(config: &Config) -> Self {
        Outside(config.laboratory.clone())
    }

    /// Its DNS; remembers nothing yet.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub fn resolver(&self) -> Result<Resolver, DnsError> {
        match &self.0 {
            None => Resolver::system(false),
            Some(laboratory) => Resolver::servers(&[laboratory.dns], false),
        }
    }

    /// Its DNS, which proves what it says.
    ///
    /// # Errors
    /// As [`Outside::resolver`]; the anchor cannot be read.
    pub fn validating(&self) -> Result<Resolver, DnsError> {
        match &self.0 {
            None => Resolver::system(true),
            Some(laboratory) => Resolver::anchored(&[laboratory.dns], &laboratory.anchor),
        }
    }

    /// Connections to it.
    pub fn dialer(&self) -> Dialer {
        match &self.0 {
            None => Dialer::tcp(),
            Some(_) => Dialer::mirrored(),
        }
    }

    /// Its authorities, and those of `more`.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn roots(&self, more: Option<&PathBuf>) -> Result<Roots, TlsError> {
        let files: Vec<PathBuf> = self.0.iter().map(|laboratory| &laboratory.roots).chain(more).cloned().collect();
        Roots::new(&files)
    }

    /// HTTPS to it, where `roots` prove who answers.
    ///
    /// # Errors
    /// In words: as [`Outside::resolver`]; the roots cannot be used.
    pub fn https(&self, roots: &Roots) -> Result<Https, String> {
        let resolver = self.resolver().map_err(|e| e.to_string())?;
        Https::new(self.dialer(), resolver, roots).map_err(|e| e.to_string())
    }

    /// The laboratory, where it is one.
    pub fn laboratory(&self) -> Option<&Laboratory> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use net::Deadline;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn in_a_laboratory_nobody_else_is_asked() {
        let (dns, nowhere) = (UdpSocket::bind("127.0.0.1:0").unwrap(), PathBuf::from("/nowhere"));
        let laboratory = Laboratory { dns: dns.local_addr().unwrap(), anchor: nowhere.clone(), roots: nowhere };
        let outside = Outside(Some(laboratory));
        let soon = || Deadline::after(Duration::from_millis(500));
        let _ = outside.resolver().unwrap().txt("x.test", soon()).await;
        dns.set_nonblocking(true).unwrap();
        assert!(dns.recv(&mut [0; 512]).unwrap() > 0);
        assert!(outside.validating().is_err() && outside.roots(None).is_err(), "they are read from its files");
        // Who has a public address is on loopback.
        let (listener, port) = loop {
            let listener = TcpListener::bind("127.51.100.7:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            if let Some(port) = port.checked_sub(20_000) {
                break (listener, port);
            }
        };
        outside.dialer().dial(SocketAddr::new([198, 51, 100, 7].into(), port), None, soon()).await.unwrap();
        listener.accept().await.unwrap();
    }
}
