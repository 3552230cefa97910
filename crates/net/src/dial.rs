//! Connecting to a server elsewhere, from a source address of our choice. Whom to connect to, and whom never (our own
//! hosts, see [`crate::is_special`]), is the caller's decision.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpSocket;

use crate::{Deadline, Door, Stream, with_deadline};

/// Makes connections, over TCP or in memory.
#[derive(Clone, Debug)]
pub struct Dialer(Network);

#[derive(Clone, Debug)]
enum Network {
    Tcp,
    Memory(Arc<HashMap<SocketAddr, Door>>),
}

impl Dialer {
    /// Connects over TCP.
    pub fn tcp() -> Self {
        Dialer(Network::Tcp)
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
            Network::Tcp => {
                let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(from) = from {
                    socket.bind(SocketAddr::new(from, 0))?;
                }
                let stream = with_deadline(deadline, socket.connect(to)).await?;
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
