//! What a host has to prove before it is given mail, and who says so; in words for those who look why mail waits.

use std::sync::Arc;

use base::Reply;
use bounce::Known;
use net::Dane;
use queue::Said;

use crate::sts::Sts;

/// Who vouches for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nobody: any TLS will do, or none (RFC 7435).
    #[default]
    Open,
    /// An enforced policy names it: TLS with a certificate that verifies for its name (RFC 8461 §4.2).
    Sts(Arc<Sts>),
    /// The DNS names its certificate (RFC 7672), whatever a policy says (RFC 8461 §2).
    Dane(Arc<Dane>),
    /// The DNS names its certificate in ways that we cannot use: TLS, with whatever certificate (RFC 7672 §2.2).
    Encrypted,
}

impl Guard {
    /// What is said of mail that waits as the host did not prove it.
    pub(crate) fn explained(&self, host: &str, said: Said) -> Said {
        let (known, demanded) = match self {
            Guard::Open => return said,
            Guard::Sts(sts) => {
                let demanded = format!(
                    "The MTA-STS policy of {} demands TLS with a certificate that is good for its mail host {host}, and there \
                     was none",
                    sts.domain
                );
                (Known::TlsMtaSts, demanded)
            }
            Guard::Dane(dane) => {
                let demanded = format!(
                    "The DNS names the certificate of the mail host {host} (DANE, TLSA records of {}), and there was no TLS \
                     with such a one",
                    dane.base
                );
                (Known::TlsDane, demanded)
            }
            Guard::Encrypted => {
                (Known::TlsDane, format!("The DNS demands TLS of the mail host {host} (DANE), and there was none"))
            }
        };
        if !said.reply.is_transient() {
            return said;
        }
        let text = format!("{demanded}: {}. The administrator of {host} can mend it", said.reply.text);
        Said { talk: said.talk, ..Said::known(known, Reply::new(451, 7, 5, text)) }
    }
}
