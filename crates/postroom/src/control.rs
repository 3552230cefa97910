//! The socket in the data directory: an administrator's command reaches the running server by it. One request and one
//! answer a connection, each a line of JSON. Only the server's own user can open it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net::{Deadline, Stream, with_deadline};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::admin::{self, Outcome, Request};
use crate::house::House;

/// Octets of a request or an answer, at most.
const MOST: u64 = 64 << 20;
/// A request is written at once; working on it (verify, say) may take long.
const REQUEST: Duration = Duration::from_secs(10);

/// Where the socket is.
pub fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}

/// Asks the running server; `None` when there is none.
///
/// # Errors
/// The connection broke.
pub fn ask(data: &Path, request: &Request) -> io::Result<Option<Outcome>> {
    let mut stream = match UnixStream::connect(path(data)) {
        Ok(stream) => stream,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MOST)).read_line(&mut answer)?;
    Ok(Some(serde_json::from_str(&answer)?))
}

/// Answers one connection.
pub async fn serve(house: House, mut stream: Stream) {
    let outcome = match read(&mut stream).await {
        Ok(request) => admin::execute(&house, request).await,
        Err(e) => Err(format!("the request cannot be read: {e}")),
    };
    let Ok(mut line) = serde_json::to_vec(&outcome) else { return };
    line.push(b'\n');
    let write = async {
        stream.write_all(&line).await?;
        stream.flush().await
    };
    if let Err(error) = with_deadline(Deadline::after(REQUEST), write).await {
        tracing::debug!(%error, "an administrator did not wait for the answer");
    }
}

async fn read(stream: &mut Stream) -> io::Result<Request> {
    let mut line = Vec::new();
    let deadline = Deadline::after(REQUEST);
    while !line.ends_with(b"\n") && (line.len() as u64) < MOST {
        if with_deadline(deadline, stream.read_buf(&mut line)).await? == 0 {
            break;
        }
    }
    Ok(serde_json::from_slice(&line)?)
}
