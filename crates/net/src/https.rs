//! HTTPS out, for the little that a mail server asks of web servers: one request a connection, a small answer. No
//! redirects are followed, no cookies kept.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;

use crate::tls_server::TlsError;
use crate::{ClientTls, Deadline, Dialer, Resolver, Roots, Stream, is_special, with_deadline};

/// Octets of an answer's body, at most.
const MOST: usize = 1 << 20;
/// Octets of an answer's header, at most.
const MOST_HEADER: usize = 64 << 10;
/// How long one of a host's addresses may take to answer, before the next is tried.
const DIAL: Duration = Duration::from_secs(10);

/// Asks web servers. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Https {
    dialer: Dialer,
    resolver: Resolver,
    tls: ClientTls,
    public: bool,
}

/// An answer, as far as mail needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// 200 is good; redirects are for the caller to refuse.
    pub status: u16,
    /// The media type in lower case, without parameters; empty where none is named.
    pub media: String,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

impl Https {
    /// A server's certificate must name it and lead to one of `roots`.
    ///
    /// # Errors
    /// [`TlsError::Crypto`].
    pub fn new(dialer: Dialer, resolver: Resolver, roots: &Roots) -> Result<Self, TlsError> {
        Ok(Https { dialer, resolver, tls: ClientTls::verified(roots)?, public: false })
    }

    /// The same, but it connects to public addresses only: for hosts that strangers name (trap 18).
    #[must_use]
    pub fn public(self) -> Self {
        Https { public: true, ..self }
    }

    /// Reads what is at a URL.
    ///
    /// # Errors
    /// Those of [`Https::ask`].
    pub async fn get(&self, url: &str, deadline: Deadline) -> io::Result<Page> {
        let request = Request::get(url).body(Full::new(Bytes::new()));
        self.page(request, deadline).await
    }

    /// Gives something to who is at a URL.
    ///
    /// # Errors
    /// Those of [`Https::ask`].
    pub async fn post(&self, url: &str, media: &str, body: Vec<u8>, deadline: Deadline) -> io::Result<Page> {
        let request = Request::post(url).header(CONTENT_TYPE, media).body(Full::new(body.into()));
        self.page(request, deadline).await
    }

    async fn page(&self, request: hyper::http::Result<Request<Full<Bytes>>>, deadline: Deadline) -> io::Result<Page> {
        let request = request.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let answer = self.ask(request, deadline).await?;
        let media = answer.headers().get(CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or("");
        let media = media.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        Ok(Page { status: answer.status().as_u16(), media, body: answer.into_body().to_vec() })
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `InvalidInput` for a URI that is not `https://host[:port]/…`; `InvalidData` for a
    /// certificate that is not trusted, and for an answer that is no HTTP or larger than 1 MiB; others from the network.
    /// The text names the host.
    pub async fn ask(&self, request: Request<Full<Bytes>>, deadline: Deadline) -> io::Result<Response<Bytes>> {
        let (host, port) = target(request.uri())?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{host}:{port}: {e}"));
        let stream = self.connect(&host, port, deadline).await.map_err(named)?;
        with_deadline(deadline, exchange(stream, request)).await.map_err(named)
    }

    async fn connect(&self, host: &str, port: u16, deadline: Deadline) -> io::Result<Stream> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolver.addresses(host, deadline).await.map_err(io::Error::other)?.records,
        };
        let mut failed = io::Error::from(io::ErrorKind::HostUnreachable);
        for ip in addresses.into_iter().filter(|ip| !self.public || !is_special(*ip)) {
            let patience = deadline.min(Deadline::after(DIAL));
            match self.dialer.dial(SocketAddr::new(ip, port), None, patience).await {
                Ok(stream) => return stream.upgrade_client(&self.tls, host, b"", deadline).await,
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }
}

/// Host and port of an `https` URI.
fn target(uri: &Uri) -> io::Result<(String, u16)> {
    let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} is not https://host/…"));
    if uri.scheme_str() != Some("https") {
        return Err(bad());
    }
    // An IPv6 address stands in brackets.
    let host = uri.host().ok_or_else(bad)?.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(443)))
}

/// One request and its answer.
async fn exchange(stream: Stream, mut request: Request<Full<Bytes>>) -> io::Result<Response<Bytes>> {
    let bad = |e: hyper::Error| io::Error::new(io::ErrorKind::InvalidData, e);
    // RFC 9112 §3.2: the path goes into the request line, the authority into Host.
    let (authority, path) = (request.uri().authority().cloned(), request.uri().path_and_query().cloned());
    if let Some(authority) = authority {
        let host = HeaderValue::from_str(authority.as_str()).map_err(io::Error::other)?;
        request.headers_mut().insert(HOST, host);
    }
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let handshake = http1::Builder::new().max_buf_size(MOST_HEADER).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(bad)?;
    let answer = async move {
        let (head, body) = sender.send_request(request).await.map_err(bad)?.into_parts();
        let body = Limited::new(body, MOST).collect().await;
        let body = body.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    let mut answer = pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Drives the connection. When it ends first, the answer is complete or will not be.
        _ = connection => answer.await,
    }
}
