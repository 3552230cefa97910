//! The real form of the resolver: hickory, with the system's servers or given ones. It caches by the records' TTLs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Trouble, NetError};
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use crate::resolve::{Data, Kind, Record};
use crate::{DnsError, Tlsa};

#[derive(Debug)]
pub(crate) struct Servers(TokioResolver);

impl Servers {
    pub(crate) fn system(dnssec: bool) -> Result<Self, DnsError> {
        match TokioResolver::builder_tokio() {
            Ok(mut builder) => {
                builder.options_mut().validate = dnssec;
                builder.build().map(Servers).map_err(transient)
            }
            Err(error) => {
                tracing::warn!(%error, "/etc/resolv.conf names no DNS server; asking 127.0.0.1");
                Servers::given(&[(Ipv4Addr::LOCALHOST, 53).into()], dnssec)
            }
        }
    }

    pub(crate) fn given(addrs: &[SocketAddr], dnssec: bool) -> Result<Self, DnsError> {
        let mut builder = builder(addrs);
        builder.options_mut().validate = dnssec;
        builder.build().map(Servers).map_err(transient)
    }

    pub(crate) fn anchored(addrs: &[SocketAddr], keys: &Path) -> Result<Self, DnsError> {
        let anchors = TrustAnchors::from_file(keys);
        let anchors = anchors.map_err(|e| DnsError::Transient(format!("{}: {e}", keys.display())))?;
        builder(addrs).with_trust_anchor(Arc::new(anchors)).build().map(Servers).map_err(transient)
    }

    /// Whether the keys of the root are proven (RFC 4035 §5).
    pub(crate) async fn validates(&self) -> Result<bool, DnsError> {
        match self.0.lookup(Name::root(), RecordType::DNSKEY).await {
            Ok(found) => Ok(found.answers().iter().any(|r| r.proof == Proof::Secure)),
            // No keys, or none that fit.
            Err(NetError::Dns(_)) => Ok(false),
            Err(error) => Err(transient(error)),
        }
    }
}

/// Asks these servers, over UDP and TCP.
fn builder(addrs: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let server = |addr: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = addr.port();
            connection
        });
        NameServerConfig::new(addr.ip(), true, connections.into())
    };
    let config = ResolverConfig::from_parts(None, Vec::new(), addrs.iter().map(server).collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
}

impl Servers {
    /// All records of the answer that we know, aliases included.
    pub(crate) async fn ask(&self, name: &str, kind: Kind) -> Result<Vec<Record>, DnsError> {
        let mut name = Name::from_ascii(name).map_err(|_| DnsError::BadName)?;
        // Never the search list: `example.test` is not `example.test.our-domain.test`.
        name.set_fqdn(true);
        let kind = match kind {
            Kind::Mx => RecordType::MX,
            Kind::V4 => RecordType::A,
            Kind::V6 => RecordType::AAAA,
            Kind::Txt => RecordType::TXT,
            Kind::Ptr => RecordType::PTR,
            Kind::Tlsa => RecordType::TLSA,
        };
        let lookup = self.0.lookup(name, kind).await.map_err(meaning)?;
        let record = |r: &hickory_resolver::proto::rr::Record| {
            let data = match &r.data {
                RData::CNAME(target) => Data::Cname(plain(&target.0)),
                RData::MX(mx) => Data::Mx(mx.preference, plain(&mx.exchange)),
                RData::A(ip) => Data::Ip(ip.0.into()),
                RData::AAAA(ip) => Data::Ip(ip.0.into()),
                RData::TXT(txt) => Data::Txt(txt.txt_data.concat()),
                RData::PTR(name) => Data::Ptr(plain(&name.0)),
                RData::TLSA(tlsa) => Data::Tlsa(Tlsa {
                    usage: tlsa.cert_usage.into(),
                    selector: tlsa.selector.into(),
                    matching: tlsa.matching.into(),
                    data: tlsa.cert_data.clone(),
                }),
                _ => return None,
            };
            Some(Record { owner: plain(&r.name), data, secure: r.proof == Proof::Secure })
        };
        Ok(lookup.answers().iter().filter_map(record).collect())
    }
}

fn transient(error: NetError) -> DnsError {
    DnsError::Transient(error.to_string())
}

/// RFC 2308 §2: the two ways not to be there; all else says nothing about the name.
fn meaning(error: NetError) -> DnsError {
    let code = match &error {
        NetError::Dns(Trouble::NoRecordsFound(none)) => none.response_code,
        NetError::Dns(Trouble::Nsec { response, .. }) => response.response_code,
        _ => return transient(error),
    };
    match code {
        ResponseCode::NXDomain => DnsError::NoSuchName,
        ResponseCode::NoError => DnsError::NoData,
        _ => transient(error),
    }
}

/// In lower case, without the last dot; what is not printable stays escaped. The root is the empty string.
fn plain(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// A name as it is asked for: U-labels become A-labels (RFC 5891 §4.4), lower case, no last dot. What is ASCII is asked for
/// as it is: the DNS knows no rules for its names (RFC 2181 §11), and underscores occur in those of mail hosts.
pub(crate) fn normal(name: &str) -> Result<String, DnsError> {
    match if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) } {
        Ok(name) if name.num_labels() > 0 => Ok(plain(&name)),
        _ => Err(DnsError::BadName),
    }
}

/// The name under which the names of an address stand (RFC 1035 §3.5, RFC 3596 §2.5).
pub(crate) fn reverse(ip: IpAddr) -> String {
    plain(&Name::from(ip.to_canonical()))
}
