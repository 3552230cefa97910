//! The octets of a session: what was read and not yet used, and writing with a deadline.
//!
//! An idle session holds no buffer: it waits until octets are there, and only then takes one.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use directory::Pass;
use net::{Deadline, Stream, Tls, with_deadline};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

/// How long a peer may take to take what we write.
const WRITE: Duration = Duration::from_secs(120);

/// A connection and its input.
pub(crate) struct Conn {
    stream: Stream,
    input: Vec<u8>,
    used: usize,
    stopping: watch::Receiver<bool>,
}

/// What reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// More input is there.
    More,
    /// The peer ended its side.
    End,
    /// Nothing came in time.
    Late,
    /// The server is stopping.
    Stopping,
    /// Who signed in may not go on.
    Revoked,
}

/// What a session says when its [`Pass`] was revoked.
pub(crate) const REVOKED: &str = "Signed out: the account or its password was changed";

/// What a session that waits for two things woke up for.
pub(crate) enum Woken<T> {
    /// Reading came to this.
    Read(Read),
    /// The other thing happened.
    Other(T),
}

impl Conn {
    pub(crate) fn new(stream: Stream, stopping: watch::Receiver<bool>) -> Self {
        Conn { stream, input: Vec::new(), used: 0, stopping }
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The input as a buffer of its own, for a loop that also writes; what is left is given back by [`Conn::put_back`].
    pub(crate) fn take_input(&mut self) -> Input {
        Input { bytes: std::mem::take(&mut self.input), used: std::mem::take(&mut self.used) }
    }

    /// The end of that loop.
    pub(crate) fn put_back(&mut self, input: Input) {
        if input.used < input.bytes.len() {
            (self.input, self.used) = (input.bytes, input.used);
        }
    }

    /// Waits for more input, at most until `deadline`, and while the pass is good, if there is one.
    pub(crate) async fn read(&mut self, deadline: Deadline, pass: Option<&Pass>) -> io::Result<Read> {
        match self.read_or(deadline, pass, std::future::pending::<Infallible>()).await? {
            Woken::Read(read) => Ok(read),
            Woken::Other(never) => match never {},
        }
    }

    /// The same, or for `other`: for whichever comes first. `other` is dropped unfinished when it is not.
    pub(crate) async fn read_or<T>(
        &mut self,
        deadline: Deadline,
        pass: Option<&Pass>,
        other: impl Future<Output = T>,
    ) -> io::Result<Woken<T>> {
        let late = tokio::time::sleep_until(deadline.instant());
        let revoked = revoked(pass);
        tokio::pin!(late, other, revoked);
        loop {
            // In no fixed order: neither a talkative peer nor a busy mailbox keeps the others from being heard.
            tokio::select! {
                ready = self.stream.readable() => ready?,
                outcome = &mut other => return Ok(Woken::Other(outcome)),
                () = &mut late => return Ok(Woken::Read(Read::Late)),
                () = &mut revoked => return Ok(Woken::Read(Read::Revoked)),
                _ = self.stopping.wait_for(|stop| *stop) => return Ok(Woken::Read(Read::Stopping)),
            }
            match self.fill() {
                Ok(0) => return Ok(Woken::Read(Read::End)),
                Ok(_) => return Ok(Woken::Read(Read::More)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Reads what is there already; true when that was something. The end and what is wrong are seen by the next read.
    pub(crate) fn has_more(&mut self) -> bool {
        self.fill().is_ok_and(|read| read > 0)
    }

    /// Reads what is there; 0 at the end, `WouldBlock` when there is nothing.
    fn fill(&mut self) -> io::Result<usize> {
        self.stream.try_read_behind(&mut self.input, &mut self.used)
    }

    /// Writes all of it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let work = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        with_deadline(Deadline::after(WRITE), work).await
    }

    /// TLS from here on. What was read in the clear and not used is refused by the stream (trap 3).
    pub(crate) async fn start_tls(self, tls: &Tls, time: Duration) -> io::Result<Conn> {
        let stream = self.stream.upgrade(tls, &self.input[self.used..], Deadline::after(time)).await?;
        Ok(Conn { stream, input: Vec::new(), used: 0, stopping: self.stopping })
    }

    /// Says goodbye.
    pub(crate) async fn close(self) {
        self.stream.close(Deadline::after(Duration::from_secs(5))).await;
    }
}

/// Without a pass there is nothing to revoke.
async fn revoked(pass: Option<&Pass>) {
    match pass {
        Some(pass) => pass.revoked().await,
        None => std::future::pending().await,
    }
}

/// Input taken out of a [`Conn`].
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    used: usize,
}

impl Input {
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.used += n;
    }
}
