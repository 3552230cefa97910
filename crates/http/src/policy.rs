//! The policies of our domains, for those who send them mail (MTA-STS, RFC 8461 §3.3): `https://mta-sts.DOMAIN/`, and nothing
//! else.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use net::{Deadline, Stream, Tls};

use crate::{run, text};

/// A connection may last so long, and its handshake: the whole world can open one.
const CONNECTION: Duration = Duration::from_secs(30);
const PATH: &str = "/.well-known/mta-sts.txt";

/// Who knows the policies.
pub trait Policies: Send + Sync + 'static {
    /// The policy of a domain, in lower case; None: it is none of ours.
    ///
    /// # Errors
    /// Why it cannot be told now.
    fn policy(&self, domain: &str) -> impl Future<Output = Result<Option<String>, String>> + Send;
}

/// Serves one connection to its end, under TLS.
pub async fn serve_policies(stream: Stream, tls: Tls, policies: Arc<impl Policies>) {
    let Ok(stream) = stream.upgrade(&tls, b"", Deadline::after(CONNECTION)).await else { return };
    let answer = service_fn(move |request: Request<Incoming>| {
        let policies = policies.clone();
        async move { Ok::<_, Infallible>(answer(&request, &*policies).await) }
    });
    run(stream, answer, CONNECTION).await;
}

async fn answer(request: &Request<Incoming>, policies: &impl Policies) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    let Some(domain) = domain(request).filter(|_| request.uri().path() == PATH) else {
        return text(StatusCode::NOT_FOUND, "there is nothing here\n".into());
    };
    match policies.policy(&domain).await {
        Ok(Some(policy)) => {
            let mut response = Response::new(Full::new(policy.into()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        Ok(None) => text(StatusCode::NOT_FOUND, "there is nothing here\n".into()),
        Err(error) => {
            tracing::warn!(error, domain, "the policy of a domain of ours cannot be told");
            text(StatusCode::SERVICE_UNAVAILABLE, "please try again later\n".into())
        }
    }
}

/// Whose policy is asked for.
fn domain(request: &Request<Incoming>) -> Option<String> {
    let host = request.headers().get(HOST)?.to_str().ok()?.to_ascii_lowercase();
    let host = host.split(':').next()?.trim_end_matches('.');
    host.strip_prefix("mta-sts.").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use base::{Clock, SystemClock};
    use net::{CertFiles, ClientTls, Roots, self_signed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Ours;

    impl Policies for Ours {
        async fn policy(&self, domain: &str) -> Result<Option<String>, String> {
            match domain {
                "x.test" => Ok(Some("version: STSv1\r\n".into())),
                "sick.test" => Err("no answer".into()),
                _ => Ok(None),
            }
        }
    }

    async fn ask(request: &str) -> String {
        let at = std::env::temp_dir().join(format!("postroom-http-{}-{}", std::process::id(), request.len()));
        let files = CertFiles { chain: at.with_extension("pem"), key: at.with_extension("key") };
        self_signed(&files, &["mta-sts.x.test".to_owned()], SystemClock.now()).unwrap();
        let tls = Tls::load(vec![files.clone()]).unwrap();
        std::fs::remove_file(&files.chain).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        let client = ClientTls::opportunistic(&Roots::new(&[]).unwrap()).unwrap();
        let (a, b) = Stream::duplex(32 * 1024);
        let asking = async {
            let deadline = Deadline::after(Duration::from_secs(20));
            let mut stream = b.upgrade_client(&client, "mta-sts.x.test", b"", deadline).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut heard = Vec::new();
            let _ = stream.read_to_end(&mut heard).await;
            String::from_utf8(heard).unwrap()
        };
        tokio::join!(serve_policies(a, tls, Arc::new(Ours)), asking).1
    }

    #[tokio::test]
    async fn the_policies_of_our_domains_and_nothing_else() {
        let get = async |host: &str, path: &str| {
            ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await
        };
        for host in ["mta-sts.x.test", "MTA-STS.x.test.", "mta-sts.x.test:443"] {
            let answer = get(host, PATH).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nversion: STSv1\r\n"), "{answer}");
            assert!(answer.contains("\r\ncontent-type: text/plain\r\n"), "{answer}");
        }
        for (host, path) in [
            ("x.test", PATH),
            ("mta-sts.y.test", PATH),
            ("mta-sts.x.test", "/"),
            ("mta-sts.x.test", "/metrics"),
            ("mta-sts.x.test", "/.well-known/../.well-known/mta-sts.txt"),
        ] {
            assert!(get(host, path).await.starts_with("HTTP/1.1 404 "), "{host}{path}");
        }
        let sick = get("mta-sts.sick.test", PATH).await;
        assert!(sick.starts_with("HTTP/1.1 503 ") && !sick.contains("no answer"), "{sick}");
        let post =
            format!("POST {PATH} HTTP/1.1\r\nHost: mta-sts.x.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert!(ask(&post).await.starts_with("HTTP/1.1 405 "));
    }

    #[tokio::test(start_paused = true)]
    async fn trap_20_who_never_begins_tls_frees_its_slot() {
        let at = std::env::temp_dir().join(format!("postroom-http-{}-slow", std::process::id()));
        let files = CertFiles { chain: at.with_extension("pem"), key: at.with_extension("key") };
        self_signed(&files, &["mta-sts.x.test".to_owned()], SystemClock.now()).unwrap();
        let tls = Tls::load(vec![files.clone()]).unwrap();
        std::fs::remove_file(&files.chain).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        let (a, _silent) = Stream::duplex(1024);
        let began = tokio::time::Instant::now();
        serve_policies(a, tls, Arc::new(Ours)).await;
        assert_eq!(began.elapsed().as_secs(), 30);
    }
}
