//! Connecting to a server elsewhere, from a source address of our choice. Whom to connect to, and whom never (our own
//! hosts, see [`crate::is_special`]), is the caller's decision.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpSocket;

use crate::{Deadline, Door, Stream, with_deadline};

/// In a laboratory a port is so much higher: those below 1024 are root's.
const MIRRORED: u16 = 20_000;

/// Makes connections, over TCP or in memory.
#[derive(Clone, Debug)]
pub struct Dialer(Network);

#[derive(Clone, Debug)]
enum Network {
    Tcp,
    /// Over TCP, and to nobody but this machine.
    Mirror,
    Memory(Arc<HashMap<SocketAddr, Door>>),
}

impl Dialer {
    /// Connects over TCP.
    pub fn tcp() -> Self {
        Dialer(Network::Tcp)
    }

    /// Connects over TCP, and to nobody but this machine: who is at 198.51.100.7, port 25, is looked for at 127.51.100.7, port
    /// 20025. Who is on loopback already is where he is. For a laboratory, in which a whole internet is on this machine.
    pub fn mirrored() -> Self {
        Dialer(Network::Mirror)
    }

    /// Connects to listeners in memory; at all other addresses nobody listens.
    pub fn memory(doors: HashMap<SocketAddr, Door>) -> Self {
        Dialer(Network::Memory(Arc::new(doors)))
    }

    /// Connects to `to`, from the local address `from` or from one the system chooses.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `ConnectionRefused`, `HostUnreachable` and their like from the network;
    /// `AddrNotAvailable` when `from` is not ours; `InvalidInput` when `from` and `to` are of different families.
    pub async fn dial(&self, to: SocketAddr, from: Option<IpAddr>, deadline: Deadline) -> io::Result<Stream> {
        if from.is_some_and(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no way from {from:?} to {to}")));
        }
        match &self.0 {
            Network::Tcp | Network::Mirror => {
                let there = if matches!(self.0, Network::Mirror) { mirrored(to)? } else { to };
                let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(from) = from {
                    socket.bind(SocketAddr::new(from, 0))?;
                }
                let stream = with_deadline(deadline, socket.connect(there)).await?;
                Ok(Stream::tcp(stream, to))
            }
            Network::Memory(doors) => {
                let door = doors.get(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
                let from = SocketAddr::new(from.unwrap_or(Ipv4Addr::LOCALHOST.into()), 50_000);
                with_deadline(deadline, door.connect(from, to)).await
            }
        }
    }
}

/// Where a laboratory has an address; IPv6 has no such loopback network, so nobody is there.
fn mirrored(to: SocketAddr) -> io::Result<SocketAddr> {
    match to.ip().to_canonical() {
        ip if ip.is_loopback() => Ok(to),
        IpAddr::V4(ip) => {
            let [_, b, c, d] = ip.octets();
            let port = to.port().checked_add(MIRRORED).ok_or(io::ErrorKind::ConnectionRefused)?;
            Ok(SocketAddr::new([127, b, c, d].into(), port))
        }
        IpAddr::V6(_) => Err(io::ErrorKind::HostUnreachable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_laboratory_never_leaves_this_machine() {
        let of = |to: &str| mirrored(to.parse().unwrap()).map(|at| at.to_string()).map_err(|e| e.kind());
        assert_eq!(of("198.51.100.7:25").unwrap(), "127.51.100.7:20025");
        assert_eq!(of("[::ffff:198.51.100.7]:443").unwrap(), "127.51.100.7:20443");
        // What is here already is no host of the laboratory's.
        assert_eq!(of("127.0.0.1:25").unwrap(), "127.0.0.1:25");
        assert_eq!(of("[::1]:25").unwrap(), "[::1]:25");
        assert_eq!(of("[2001:db8::1]:25"), Err(io::ErrorKind::HostUnreachable));
        assert_eq!(of("198.51.100.7:60000"), Err(io::ErrorKind::ConnectionRefused));
    }
}
