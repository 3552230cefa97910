//! What the other side says it can (RFC 5321 §4.1.1.1: the lines of its answer to EHLO).

use base::Reply;

/// The peer's answer to EHLO, LHLO or HELO.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Peer {
    /// The name it gave itself.
    pub name: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870); `Some(0)`: it declares no limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// DELIVERBY (RFC 2852): the least time it takes for a promise, in seconds; 0 when it says none.
    pub deliver_by: Option<u32>,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// AUTH (RFC 4954): mechanisms, in upper case.
    pub auth: Vec<String>,
    /// LIMITS RCPTMAX (RFC 9422): recipients of one mail.
    pub max_recipients: Option<u32>,
    /// LIMITS MAILMAX (RFC 9422): mails of one connection.
    pub max_mails: Option<u32>,
}

impl Peer {
    /// From a positive answer.
    pub(super) fn parse(reply: &Reply) -> Self {
        let mut lines = reply.text.split('\n');
        let mut peer = Peer::default();
        peer.name.push_str(lines.next().unwrap_or("").split(' ').next().unwrap_or(""));
        for line in lines {
            let mut words = line.split([' ', '=']).filter(|w| !w.is_empty());
            let Some(keyword) = words.next() else { continue };
            match keyword.to_ascii_uppercase().as_str() {
                "PIPELINING" => peer.pipelining = true,
                "SIZE" => peer.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "8BITMIME" => peer.eight_bit_mime = true,
                "SMTPUTF8" => peer.smtputf8 = true,
                "CHUNKING" => peer.chunking = true,
                "BINARYMIME" => peer.binary_mime = true,
                "DSN" => peer.dsn = true,
                "STARTTLS" => peer.starttls = true,
                "REQUIRETLS" => peer.require_tls = true,
                "DELIVERBY" => peer.deliver_by = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "MT-PRIORITY" => peer.mt_priority = true,
                // `AUTH=LOGIN` is what programs older than RFC 2554 wrote; both may come.
                "AUTH" => peer.auth.extend(words.map(str::to_ascii_uppercase)),
                "LIMITS" => peer.limits(line),
                _ => {}
            }
        }
        peer
    }

    fn limits(&mut self, line: &str) {
        // RFC 9422 §3: a value begins with another digit than 0. A host that takes no mails at all would not say so here.
        let value = |n: &str| n.parse().ok().filter(|n| *n > 0);
        for limit in line.split(' ') {
            match limit.split_once('=') {
                Some((name, n)) if name.eq_ignore_ascii_case("RCPTMAX") => self.max_recipients = value(n),
                Some((name, n)) if name.eq_ignore_ascii_case("MAILMAX") => self.max_mails = value(n),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_of_an_ehlo_answer() {
        let text =
            "mx.example hi\nPipelining\nSIZE 1000\nAUTH PLAIN login\nAUTH=LOGIN\nLIMITS RCPTMAX=20 MAILMAX=5\nX\n";
        let peer = Peer::parse(&Reply::plain(250, text));
        assert_eq!((peer.name.as_str(), peer.pipelining, peer.size), ("mx.example", true, Some(1000)));
        assert_eq!(peer.auth, ["PLAIN", "LOGIN", "LOGIN"]);
        assert_eq!((peer.max_recipients, peer.max_mails), (Some(20), Some(5)));
        assert_eq!((peer.dsn, peer.chunking, peer.smtputf8), (false, false, false));
        assert_eq!(Peer::parse(&Reply::plain(250, "mx")).name, "mx");
        let nothing = Peer::parse(&Reply::plain(250, "mx\nLIMITS RCPTMAX=0 MAILMAX=0"));
        assert_eq!((nothing.max_recipients, nothing.max_mails), (None, None));
    }
}
