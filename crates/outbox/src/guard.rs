//! What a host has to prove before it is given mail, and who says so; in words for those who look why mail waits.

use std::sync::Arc;

use base::Reply;
use queue::Said;

use crate::connection::ours;
use crate::sts::Sts;

/// Who vouches for a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nobody: any TLS will do, or none (RFC 7435).
    #[default]
    Open,
    /// An enforced policy names it: TLS with a certificate that verifies for its name (RFC 8461 §4.2).
    Sts(Arc<Sts>),
}

impl Guard {
    /// What is said of mail that waits as the host did not prove it.
    pub(crate) fn explained(&self, host: &str, said: Said) -> Said {
        let Guard::Sts(sts) = self else { return said };
        if !said.reply.is_transient() {
            return said;
        }
        let text = format!(
            "The MTA-STS policy of {} demands TLS with a certificate that is good for its mail host {host}, and there was \
             none: {}. The administrator of {host} can mend it",
            sts.domain, said.reply.text
        );
        ours(Reply::new(451, 7, 5, text))
    }
}
