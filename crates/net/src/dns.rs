//! The real form of the resolver: hickory, with the system's servers or given ones. It caches by the records' TTLs.
//!
//! Where it validates, hickory says of each record whether it is proven, but takes some answers for good whose records are
//! honestly unsigned and have nothing to do with the question. So a denial is judged here once more ([`denies`]): whoever
//! forges "there is none" would else take away what a signed zone demands (RFC 7672 §2.1.1).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Trouble, NetError};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::domain::usage::{INVALID, LOCALHOST, ONION};
use hickory_resolver::proto::rr::{Name, RData, Record as Rr, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use crate::resolve::{Data, Kind, MAX_ALIASES, Record};
use crate::{DnsError, Tlsa};

#[derive(Debug)]
pub(crate) struct Servers {
    resolver: TokioResolver,
    validate: bool,
}

impl Servers {
    pub(crate) fn system(dnssec: bool) -> Result<Self, DnsError> {
        match TokioResolver::builder_tokio() {
            Ok(mut builder) => {
                builder.options_mut().validate = dnssec;
                Servers::new(builder, dnssec)
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
        Servers::new(builder, dnssec)
    }

    pub(crate) fn anchored(addrs: &[SocketAddr], keys: &Path) -> Result<Self, DnsError> {
        let anchors = TrustAnchors::from_file(keys);
        let anchors = anchors.map_err(|e| DnsError::Transient(format!("{}: {e}", keys.display())))?;
        Servers::new(builder(addrs).with_trust_anchor(Arc::new(anchors)), true)
    }

    fn new(builder: ResolverBuilder<TokioRuntimeProvider>, validate: bool) -> Result<Self, DnsError> {
        builder.build().map(|resolver| Servers { resolver, validate }).map_err(transient)
    }

    /// Whether the keys of the root are proven (RFC 4035 §5).
    pub(crate) async fn validates(&self) -> Result<bool, DnsError> {
        match self.resolver.lookup(Name::root(), RecordType::DNSKEY).await {
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
        let lookup = match self.resolver.lookup(name.clone(), kind).await {
            Ok(lookup) => lookup,
            Err(error) if self.validate && !self.is_proven(name, &error).await => {
                return Err(DnsError::Transient(format!("it denies without proof: {error}")));
            }
            Err(error) => return Err(meaning(error)),
        };
        // hickory looks at the answers before it gathers some from other sections.
        if self.validate && lookup.answers().iter().any(|r| r.proof == Proof::Bogus) {
            return Err(DnsError::Transient("its signatures do not verify".into()));
        }
        let record = |r: &Rr| {
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

    /// Whether an error about a name, if it is a denial, is proven, or comes from where nothing can be.
    async fn is_proven(&self, asked: Name, error: &NetError) -> bool {
        let (name, authorities) = match error {
            NetError::Dns(Trouble::NoRecordsFound(none)) => {
                (none.query.name(), none.authorities.as_deref().unwrap_or_default())
            }
            NetError::Dns(Trouble::Nsec { query, response, proof: Proof::Insecure, .. }) => {
                (query.name(), response.authorities.as_slice())
            }
            NetError::Dns(Trouble::Nsec { .. }) => return false,
            // No denial.
            _ => return true,
        };
        (denies(authorities, name) || is_special(name)) && self.leads(asked, name).await
    }

    /// Whether aliases, proven or honestly unsigned, lead from one name to another: hickory follows others, too.
    async fn leads(&self, from: Name, to: &Name) -> bool {
        let mut at = from;
        for _ in 0..MAX_ALIASES {
            if at == *to {
                return true;
            }
            let Ok(found) = self.resolver.lookup(at.clone(), RecordType::CNAME).await else { return false };
            let target = found.answers().iter().find_map(|r| match &r.data {
                RData::CNAME(target) if r.name == at && matches!(r.proof, Proof::Secure | Proof::Insecure) => {
                    Some(target.0.clone())
                }
                _ => None,
            });
            let Some(target) = target else { return false };
            at = target;
        }
        false
    }
}

/// Whether a denial's authority section belongs to the name: NSEC or NSEC3 records that its own zone or one above it has
/// signed (what they say hickory has verified), or the SOA of such a zone, which is proven not to be signed (RFC 4035 §5.4).
fn denies(authorities: &[Rr], name: &Name) -> bool {
    let mut signers = authorities.iter().filter_map(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::RRSIG(signature)) if r.proof == Proof::Secure => {
            let input = signature.input();
            matches!(input.type_covered, RecordType::NSEC | RecordType::NSEC3).then_some(&input.signer_name)
        }
        _ => None,
    });
    match signers.next() {
        Some(first) => first.zone_of(name) && signers.all(|signer| signer.zone_of(name)),
        None => authorities
            .iter()
            .any(|r| r.record_type() == RecordType::SOA && r.proof == Proof::Insecure && r.name.zone_of(name)),
    }
}

/// Names of which hickory says by itself that they have nothing (RFC 6761 §6.3, §6.4, RFC 7686 §2).
fn is_special(name: &Name) -> bool {
    [&LOCALHOST, &INVALID, &ONION].iter().any(|zone| zone.zone_of(name))
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

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::dnssec::Algorithm;
    use hickory_resolver::proto::dnssec::rdata::{RRSIG, SigInput};

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    /// The signature below an NSEC record, as hickory passes it on.
    fn signature(signer: &str, proof: Proof) -> Rr {
        let input = SigInput {
            type_covered: RecordType::NSEC,
            algorithm: Algorithm::ED25519,
            num_labels: 2,
            original_ttl: 60,
            sig_expiration: 2.into(),
            sig_inception: 1.into(),
            key_tag: 1,
            signer_name: name(signer),
        };
        let data = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, Vec::new())));
        let mut record = Rr::from_rdata(name(signer), 60, data);
        record.proof = proof;
        record
    }

    /// An NSEC record may name any other as the next: one from a zone of the forger's says nothing of names outside of it.
    #[test]
    fn trap_16_a_zone_denies_only_names_of_its_own() {
        let asked = name("_25._tcp.mx.b.test.");
        let secure = |signer| signature(signer, Proof::Secure);
        for good in [".", "test.", "b.test.", "_25._tcp.mx.b.test."] {
            assert!(denies(&[secure(good)], &asked), "{good}");
            assert!(!denies(&[signature(good, Proof::Bogus)], &asked), "{good}");
        }
        for bad in ["a.test.", "x._25._tcp.mx.b.test."] {
            assert!(!denies(&[secure(bad)], &asked), "{bad}");
            assert!(!denies(&[secure("test."), secure(bad)], &asked), "{bad}");
        }
        assert!(!denies(&[], &asked));
    }
}
