//! HTTP. Today: `/healthz` and `/metrics` on a loopback port, for whoever watches the server, what a certificate
//! authority asks on port 80, and the policies of our domains on port 443.
//!
//! Floor 5. What is healthy and what is counted, the binary knows: it passes a [`Site`].

mod challenge;
mod policy;

pub use challenge::serve_challenges;
pub use policy::{Policies, serve_policies};

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use net::Stream;

/// How long a client may take with its request's header.
const HEADER: Duration = Duration::from_secs(10);
/// Requests of one connection and the pauses between them may last so long altogether.
const CONNECTION: Duration = Duration::from_secs(300);

/// What is shown.
pub trait Site: Send + Sync + 'static {
    /// Whether the server serves: `ok`, perhaps with a warning.
    ///
    /// # Errors
    /// Why not, in words for the operator.
    fn health(&self) -> impl Future<Output = Result<String, String>> + Send;

    /// Everything that is counted, in Prometheus' text format (version 0.0.4).
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

/// Serves one connection to its end.
pub async fn serve(stream: Stream, site: Arc<impl Site>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let site = site.clone();
        async move { Ok::<_, Infallible>(answer(&request, &*site).await) }
    });
    run(stream, answer, CONNECTION).await;
}

/// Reads requests, bounded in size and time, and has `service` answer them.
async fn run<S>(stream: Stream, service: S, whole: Duration)
where
    S: Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible>,
{
    let mut connection = http1::Builder::new();
    connection.timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(16 * 1024);
    let served = connection.serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(whole, served).await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

async fn answer(request: &Request<Incoming>, site: &impl Site) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/healthz" => match site.health().await {
            Ok(state) => text(StatusCode::OK, state + "\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
        },
        "/metrics" => text(StatusCode::OK, site.metrics().await),
        _ => text(StatusCode::NOT_FOUND, "there are /healthz and /metrics\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Shown(Result<&'static str, &'static str>);

    impl Site for Shown {
        async fn health(&self) -> Result<String, String> {
            self.0.map(String::from).map_err(String::from)
        }

        async fn metrics(&self) -> String {
            "postroom_up 1\n".into()
        }
    }

    async fn dialogue(said: &[u8], health: Result<&'static str, &'static str>) -> String {
        dialogue_with(said, |stream| serve(stream, Arc::new(Shown(health)))).await
    }

    /// One connection: what the client says, and all it hears.
    pub(crate) async fn dialogue_with<F: Future<Output = ()>>(said: &[u8], server: impl FnOnce(Stream) -> F) -> String {
        let (mut client, stream) = Stream::duplex(4096);
        let mut heard = Vec::new();
        let client = async {
            // The server may hang up before it has read all.
            let _ = client.write_all(said).await;
            client.read_to_end(&mut heard).await.unwrap();
        };
        tokio::join!(server(stream), client);
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn health_metrics_and_nothing_else() {
        let ask_when = async |health, line: &str| {
            dialogue(format!("{line} HTTP/1.1\r\nConnection: close\r\n\r\n").as_bytes(), health).await
        };
        let sick = ask_when(Err("no answer"), "GET /healthz").await;
        assert!(sick.starts_with("HTTP/1.1 503 ") && sick.ends_with("\r\n\r\nno answer\n"), "{sick}");
        let warned = ask_when(Ok("ok, but old"), "GET /healthz").await;
        assert!(warned.starts_with("HTTP/1.1 200 ") && warned.ends_with("\r\n\r\nok, but old\n"), "{warned}");
        let ask = async |line: &str| ask_when(Ok("ok"), line).await;
        assert!(ask("GET /metrics").await.ends_with("\r\n\r\npostroom_up 1\n"));
        assert!(ask("GET /etc/passwd").await.starts_with("HTTP/1.1 404 "));
        assert!(ask("DELETE /metrics").await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test]
    async fn a_header_without_end_is_refused() {
        let endless = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 20_000]].concat();
        assert!(dialogue(&endless, Ok("ok")).await.starts_with("HTTP/1.1 431 "));
    }
}
