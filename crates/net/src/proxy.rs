//! The PROXY protocol, versions 1 and 2: how a load balancer tells the real peer's address ahead of the connection's
//! own bytes. Sans-I/O: the listener feeds it; it never reads past the header, which TLS or a greeting may follow.
//!
//! Source: "The PROXY protocol, Versions 1 & 2" (HAProxy project), §2.1 and §2.2. A header is believed only from
//! networks the administrator named: anyone else could claim to be anyone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a header so far leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// At least so many more bytes (one or more) belong to the header: read exactly these, then parse again.
    More(usize),
    /// The header ends with the last byte given.
    Done(Option<Endpoints>),
}

/// The two ends of the connection the proxy took. There are none in a proxy's own health checks (§2.2 `LOCAL`), nor
/// where it does not know (§2.1 `UNKNOWN`): then the connection speaks for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The real peer.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// They do not begin like one.
    NotProxy,
    /// Longer than 107 bytes (version 1), or than [`MAX_V2`] (version 2).
    TooLong,
    /// They begin like one and go on wrong.
    Malformed,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHeader::NotProxy => "a PROXY header was expected and did not come",
            BadHeader::TooLong => "the PROXY header is too long",
            BadHeader::Malformed => "the PROXY header is malformed",
        })
    }
}

impl std::error::Error for BadHeader {}

/// The longest header of version 2 taken, in bytes with its 16 fixed ones. Addresses need 232 at most (§2.2); the rest
/// is room for the proxy's extensions (TLVs), which are skipped.
pub const MAX_V2: usize = 4096;

/// §2.1: the longest line, CRLF included.
const MAX_V1: usize = 107;
/// §2.1: the shortest line, `PROXY UNKNOWN` with CRLF.
const MIN_V1: usize = 15;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Parses what was read so far, starting from nothing: `parse(&[])` says how much to read first.
///
/// # Errors
/// [`BadHeader`]; the connection is to be closed without a word (§2: the receiver must not guess).
pub fn parse(head: &[u8]) -> Result<Step, BadHeader> {
    if begins(head, V2) && !head.is_empty() {
        return v2(head);
    }
    if !begins(head, V1) {
        return Err(BadHeader::NotProxy);
    }
    if head.len() < MIN_V1 {
        return Ok(Step::More(MIN_V1 - head.len()));
    }
    if head.ends_with(b"\r\n") {
        return v1(&head[..head.len() - 2]).map(Step::Done);
    }
    // At least CRLF is missing, or its LF.
    let more = if head.ends_with(b"\r") { 1 } else { 2 };
    if head.len() + more > MAX_V1 { Err(BadHeader::TooLong) } else { Ok(Step::More(more)) }
}

/// True when `head` and `mark` agree as far as both go.
fn begins(head: &[u8], mark: &[u8]) -> bool {
    head.iter().zip(mark).all(|(a, b)| a == b)
}

/// §2.1, `line` without CRLF.
fn v1(line: &[u8]) -> Result<Option<Endpoints>, BadHeader> {
    let line = std::str::from_utf8(line).map_err(|_| BadHeader::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let is_v6 = match words.next() {
        // "the receiver must ignore anything presented before the CRLF"
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => false,
        Some("TCP6") => true,
        _ => return Err(BadHeader::Malformed),
    };
    let ip = |word: Option<&str>| -> Option<IpAddr> {
        let word = word?;
        if is_v6 { word.parse::<Ipv6Addr>().ok().map(IpAddr::V6) } else { word.parse().ok().map(IpAddr::V4) }
    };
    let port = |word: Option<&str>| -> Option<u16> {
        word.filter(|w| w.bytes().all(|b| b.is_ascii_digit())).and_then(|w| w.parse().ok())
    };
    let (from, to) = (ip(words.next()), ip(words.next()));
    let (from_port, to_port) = (port(words.next()), port(words.next()));
    match (from, to, from_port, to_port, words.next()) {
        (Some(from), Some(to), Some(from_port), Some(to_port), None) => {
            Ok(Some(Endpoints { source: SocketAddr::new(from, from_port), destination: SocketAddr::new(to, to_port) }))
        }
        _ => Err(BadHeader::Malformed),
    }
}

/// §2.2: signature, version and command, family and protocol, length, addresses, extensions.
fn v2(head: &[u8]) -> Result<Step, BadHeader> {
    let Some((fixed, rest)) = head.split_first_chunk::<16>() else {
        return Ok(Step::More(16 - head.len()));
    };
    let [.., command, family, len_high, len_low] = *fixed;
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    if fixed.len() + len > MAX_V2 {
        return Err(BadHeader::TooLong);
    }
    if command != 0x20 && command != 0x21 {
        return Err(BadHeader::Malformed);
    }
    if rest.len() != len {
        return len.checked_sub(rest.len()).map(Step::More).ok_or(BadHeader::Malformed);
    }
    if command == 0x20 {
        return Ok(Step::Done(None));
    }
    match family {
        // Unspecified, and Unix sockets: no address that means anything here.
        0x00 | 0x31 => Ok(Step::Done(None)),
        0x11 => {
            let (from, rest) = take::<4>(rest)?;
            let (to, rest) = take::<4>(rest)?;
            endpoints(Ipv4Addr::from_octets(from).into(), Ipv4Addr::from_octets(to).into(), rest)
        }
        0x21 => {
            let (from, rest) = take::<16>(rest)?;
            let (to, rest) = take::<16>(rest)?;
            endpoints(Ipv6Addr::from_octets(from).into(), Ipv6Addr::from_octets(to).into(), rest)
        }
        _ => Err(BadHeader::Malformed),
    }
}

fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), BadHeader> {
    bytes.split_first_chunk::<N>().map(|(first, rest)| (*first, rest)).ok_or(BadHeader::Malformed)
}

/// The ports follow the two addresses.
fn endpoints(from: IpAddr, to: IpAddr, rest: &[u8]) -> Result<Step, BadHeader> {
    let (from_port, rest) = take::<2>(rest)?;
    let (to_port, _extensions) = take::<2>(rest)?;
    Ok(Step::Done(Some(Endpoints {
        source: SocketAddr::new(from, u16::from_be_bytes(from_port)),
        destination: SocketAddr::new(to, u16::from_be_bytes(to_port)),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `wire` as the listener does. The result, and how many bytes were taken.
    fn feed(wire: &[u8]) -> (Result<Option<Endpoints>, BadHeader>, usize) {
        let mut at = 0;
        loop {
            match parse(&wire[..at]) {
                Ok(Step::More(n)) if at + n <= wire.len() => {
                    assert!(n > 0);
                    at += n;
                }
                Ok(Step::More(_)) => panic!("it wants more than there is"),
                Ok(Step::Done(ends)) => return (Ok(ends), at),
                Err(e) => return (Err(e), at),
            }
        }
    }

    fn ends(source: &str, destination: &str) -> Option<Endpoints> {
        Some(Endpoints { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn version_1_ends_at_its_crlf() {
        for (line, want) in [
            // The two examples of §2.1.
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                ends("255.255.255.255:65535", "255.255.255.255:65535"),
            ),
            (
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                ends(
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                    "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
                ),
            ),
            ("PROXY UNKNOWN\r\n", None),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                None,
            ),
            ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", ends("192.168.0.1:56324", "192.168.0.11:443")),
        ] {
            let wire = [line.as_bytes(), b"EHLO x\r\n"].concat();
            assert_eq!(feed(&wire), (Ok(want), line.len()), "{line}");
        }
    }

    #[test]
    fn version_1_hostile() {
        use BadHeader::*;
        for (wire, why) in [
            (&b"EHLO x.test\r\nMAIL FROM"[..], NotProxy),
            (b"PROXY\tTCP4 1.2.3.4 1.2.3.4 1 1\r\n", NotProxy),
            (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 +5\r\n", Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", Malformed),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", Malformed),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", Malformed),
            (b"PROXY TCP4 ::1 ::1 1 1\r\n      ", Malformed),
            (b"PROXY TCP4 1.2.3.4\nEHLO x\r\n", Malformed),
            (b"PROXY TCP6 \xff\xff\xff\xff 1.2.3.4 1 1\r\n", Malformed),
        ] {
            assert_eq!(feed(wire).0, Err(why), "{}", wire.escape_ascii());
        }
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 4096]].concat();
        let (result, taken) = feed(&endless);
        assert_eq!(result, Err(TooLong));
        assert!(taken <= 107);
        let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'\r'; 4096]].concat();
        assert_eq!(feed(&endless).0, Err(TooLong));
    }

    fn header(command: u8, family: u8, len: u16, rest: &[u8]) -> Vec<u8> {
        // §2.2: the signature, in hexadecimal as the document prints it.
        let mut head = vec![0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A, command, family];
        head.extend(len.to_be_bytes());
        head.extend(rest);
        head
    }

    #[test]
    fn version_2_takes_addresses_and_skips_extensions() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x00, 0x19];
        let want = ends("192.0.2.1:56324", "198.51.100.2:25");
        let wire = header(0x21, 0x11, 12, &v4);
        assert_eq!(feed(&[&wire[..], b"EHLO"].concat()), (Ok(want), 28));
        // A PP2_TYPE_NOOP extension of two bytes.
        let wire = header(0x21, 0x11, 17, &[&v4[..], &[0x04, 0, 2, 0, 0]].concat());
        assert_eq!(feed(&wire), (Ok(want), 33));

        let mut v6 = [0; 36];
        (v6[15], v6[31], v6[33], v6[35]) = (1, 2, 3, 4);
        assert_eq!(feed(&header(0x21, 0x21, 36, &v6)), (Ok(ends("[::1]:3", "[::2]:4")), 52));

        // LOCAL, whatever its family; unspecified; Unix.
        assert_eq!(feed(&header(0x20, 0x00, 0, &[])), (Ok(None), 16));
        assert_eq!(feed(&header(0x20, 0x11, 12, &v4)), (Ok(None), 28));
        assert_eq!(feed(&header(0x20, 0x77, 3, &[1, 2, 3])), (Ok(None), 19));
        assert_eq!(feed(&header(0x21, 0x00, 0, &[])), (Ok(None), 16));
        assert_eq!(feed(&header(0x21, 0x31, 216, &[0; 216])), (Ok(None), 232));
    }

    #[test]
    fn version_2_hostile() {
        use BadHeader::*;
        for (wire, why) in [
            (header(0x11, 0x11, 12, &[0; 12]), Malformed),
            (header(0x22, 0x11, 12, &[0; 12]), Malformed),
            (header(0x21, 0x12, 12, &[0; 12]), Malformed),
            (header(0x21, 0x11, 11, &[0; 11]), Malformed),
            (header(0x21, 0x21, 35, &[0; 35]), Malformed),
            (header(0x21, 0x11, 65535, &[]), TooLong),
            (header(0x21, 0x11, 4081, &[]), TooLong),
            (b"\r\n\r\n\0\r\nQUIT\r________".to_vec(), NotProxy),
        ] {
            assert_eq!(feed(&wire).0, Err(why), "{}", wire.escape_ascii());
        }
        // More bytes than the header has are never taken for part of it.
        assert_eq!(parse(&header(0x21, 0x11, 12, &[0; 13])), Err(Malformed));
    }
}
