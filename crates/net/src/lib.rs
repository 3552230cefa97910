//! The only place that resolves, dials, listens, does TLS and HTTP out.
//!
//! Every await on a peer takes a [`Deadline`]; every form has a twin in memory, so that the floors above are tested
//! without a socket: [`Stream::duplex`], [`Listener::memory`], [`Dialer::memory`], [`Resolver::memory`].
//!
//! Nothing here knows a mail protocol. Floor 1: it imports `base` only.
//!
//! ```
//! use net::{Cidr, ListenAddr};
//! let office: Cidr = "192.0.2.0/24".parse().unwrap();
//! assert!(office.contains("::ffff:192.0.2.7".parse().unwrap()));
//! assert_eq!("[::]:25".parse::<ListenAddr>().unwrap().to_string(), "[::]:25");
//! ```

pub mod acme;
mod addr;
mod caps;
mod cert_facts;
mod dane;
mod deadline;
mod dial;
mod dns;
mod https;
mod listen;
pub mod proxy;
mod resolve;
mod stream;
mod tls_client;
mod tls_server;
mod zone;

pub use addr::{BadCidr, Cidr, is_special};
pub use caps::Caps;
pub use cert_facts::CertFacts;
pub use dane::{Dane, Tlsa};
pub use deadline::{Deadline, with_deadline};
pub use dial::Dialer;
pub use https::{Https, Page, Told};
pub use listen::{BadListenAddr, Door, ListenAddr, ListenOptions, Listener};
pub use resolve::{Answer, DnsError, MailHost, MailHosts, Resolver};
pub use stream::{Stream, TlsFacts};
pub use tls_client::{BadCert, CertFault, ClientTls, Identity, Roots, Trust};
pub use tls_server::{CertFiles, Reloaded, Tls, TlsError, self_signed, write_whole};
pub use zone::Zone;
