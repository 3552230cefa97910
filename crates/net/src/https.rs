//! HTTPS out, for the little that a mail server asks of web servers: one request a connection, a small answer. No
//! redirects are followed, no cookies kept. What an address may be is looked at where it is dialled, after the DNS was asked:
//! no name that leads elsewhere the second time gets round it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;

use crate::tls_server::TlsError;
use crate::{Cidr, ClientTls, Deadline, Dialer, Resolver, Roots, Stream, is_special, with_deadline};

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
    reach: Reach,
}

/// Which addresses are connected to.
#[derive(Clone, Debug)]
enum Reach {
    /// All of them.
    Anywhere,
    /// Public ones, and these networks.
    Public(Arc<[Cidr]>),
}

impl Reach {
    /// Whether these networks are reached, which are ours.
    fn within(&self, ip: IpAddr) -> bool {
        matches!(self, Reach::Public(ours) if ours.iter().any(|network| network.contains(ip)))
    }

    fn allows(&self, ip: IpAddr, tls: bool) -> bool {
        match self {
            Reach::Anywhere => tls,
            Reach::Public(_) => self.within(ip) || (tls && !is_special(ip)),
        }
    }
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

/// What was answered by who was told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// 200 to 299 are good.
    pub status: u16,
    /// When to come again, as it was said: seconds, or a date (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// As much of the body as was wanted.
    pub body: Vec<u8>,
}

impl Https {
    /// A server's certificate must name it and lead to one of `roots`.
    ///
    /// # Errors
    /// [`TlsError::Crypto`].
    pub fn new(dialer: Dialer, resolver: Resolver, roots: &Roots) -> Result<Self, TlsError> {
        Ok(Https { dialer, resolver, tls: ClientTls::verified(roots)?, reach: Reach::Anywhere })
    }

    /// The same, but it connects to public addresses only: for hosts that strangers name (trap 18).
    #[must_use]
    pub fn public(self) -> Self {
        self.public_and([])
    }

    /// The same, but it connects to addresses in `ours` too, and to those without TLS where the URL says `http`.
    #[must_use]
    pub fn public_and(self, ours: impl IntoIterator<Item = Cidr>) -> Self {
        Https { reach: Reach::Public(ours.into_iter().collect()), ..self }
    }

    /// Whether a URL is one that can be asked, wherever it leads.
    ///
    /// # Errors
    /// `InvalidInput`, in words for who wrote it.
    pub fn accepts(&self, url: &str) -> io::Result<()> {
        let bad = |e: hyper::http::uri::InvalidUri| io::Error::new(io::ErrorKind::InvalidInput, format!("{url}: {e}"));
        self.target(&url.parse().map_err(bad)?).map(drop)
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
        self.exchange(request, Body::Whole(MOST), deadline).await
    }

    /// Tells who is at a URL something, with these fields, and reads the answer whatever its status: of its body so many octets,
    /// and what is beyond them is left.
    ///
    /// # Errors
    /// Those of [`Https::ask`], but for a body that is long.
    pub async fn tell(
        &self,
        url: &str,
        fields: &[(&str, &str)],
        body: Vec<u8>,
        most: usize,
        deadline: Deadline,
    ) -> io::Result<Told> {
        let request = fields.iter().fold(Request::post(url), |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(body.into()));
        let request = request.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let answer = self.exchange(request, Body::Begin(most), deadline).await?;
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.map(str::to_owned);
        Ok(Told { status: answer.status().as_u16(), retry_after, body: answer.into_body().to_vec() })
    }

    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        body: Body,
        deadline: Deadline,
    ) -> io::Result<Response<Bytes>> {
        let to = self.target(request.uri())?;
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}:{}: {e}", to.host, to.port));
        let stream = self.connect(&to, deadline).await.map_err(named)?;
        with_deadline(deadline, exchange(stream, request, body)).await.map_err(named)
    }

    /// What a URI leads to: `https`, or `http` where networks of ours are reached.
    fn target(&self, uri: &Uri) -> io::Result<Target> {
        let plain = matches!(&self.reach, Reach::Public(ours) if !ours.is_empty());
        let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} is not https://host/…"));
        let (tls, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") if plain => (false, 80),
            _ => return Err(bad()),
        };
        // A password would stand in Host.
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(bad());
        }
        // An IPv6 address stands in brackets.
        let host = uri.host().ok_or_else(bad)?.trim_start_matches('[').trim_end_matches(']');
        Ok(Target { tls, host: host.to_owned(), port: uri.port_u16().unwrap_or(port) })
    }

    async fn connect(&self, Target { tls, host, port }: &Target, deadline: Deadline) -> io::Result<Stream> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolver.addresses(host, deadline).await.map_err(io::Error::other)?.records,
        };
        let mut failed = io::Error::new(io::ErrorKind::HostUnreachable, "it has no address that may be connected to");
        for ip in addresses.into_iter().filter(|ip| self.reach.allows(*ip, *tls)) {
            let patience = deadline.min(Deadline::after(DIAL));
            match self.dialer.dial(SocketAddr::new(ip, *port), None, patience).await {
                Ok(stream) if *tls => return stream.upgrade_client(&self.tls, host, b"", deadline).await,
                Ok(stream) => return Ok(stream),
                Err(e) => failed = e,
            }
        }
        Err(failed)
    }
}

/// Where a URI leads.
struct Target {
    tls: bool,
    host: String,
    port: u16,
}

/// What is wanted of an answer's body.
#[derive(Clone, Copy)]
enum Body {
    /// All of it; so many octets are the most.
    Whole(usize),
    /// So many octets of it, and no error for more.
    Begin(usize),
}

/// One request and its answer.
async fn exchange(stream: Stream, mut request: Request<Full<Bytes>>, wanted: Body) -> io::Result<Response<Bytes>> {
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
        let (head, mut body) = sender.send_request(request).await.map_err(bad)?.into_parts();
        let body = match wanted {
            Body::Whole(most) => {
                let body = Limited::new(body, most).collect().await;
                body.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?.to_bytes()
            }
            Body::Begin(most) => {
                let mut begin = Vec::new();
                while begin.len() < most
                    && let Some(frame) = body.frame().await.transpose().map_err(bad)?
                {
                    let data = frame.data_ref().map_or(&[][..], |data| data);
                    begin.extend_from_slice(&data[..data.len().min(most - begin.len())]);
                }
                begin.into()
            }
        };
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
