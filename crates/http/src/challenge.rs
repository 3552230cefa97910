//! What a certificate authority asks for on port 80 (ACME, RFC 8555 §8.3), and nothing else.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use net::Stream;
use net::acme::Challenges;

use crate::{run, text};

/// A connection may last so long: the whole world can open one.
const CONNECTION: Duration = Duration::from_secs(30);
const PREFIX: &str = "/.well-known/acme-challenge/";

/// Serves one connection to its end: the answers of an order under way, 404 for all else.
pub async fn serve_challenges(stream: Stream, challenges: Challenges) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let answer = answer(&request, &challenges);
        async move { Ok::<_, Infallible>(answer) }
    });
    run(stream, answer, CONNECTION).await;
}

fn answer(request: &Request<Incoming>, challenges: &Challenges) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    let Some(found) = request.uri().path().strip_prefix(PREFIX).and_then(|token| challenges.answer(token)) else {
        return text(StatusCode::NOT_FOUND, "there is nothing here\n".into());
    };
    let mut response = Response::new(Full::new(found.into()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::time::Instant;

    use super::*;
    use crate::tests::dialogue_with;

    #[tokio::test]
    async fn a_token_is_answered_while_its_order_lasts_and_all_else_is_not() {
        let challenges = Challenges::default();
        let ask = async |line: &str| {
            let request = format!("{line} HTTP/1.1\r\nHost: mx.example.test\r\nConnection: close\r\n\r\n");
            dialogue_with(request.as_bytes(), |stream| serve_challenges(stream, challenges.clone())).await
        };
        let path = "/.well-known/acme-challenge/evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA";
        assert!(ask(&format!("GET {path}")).await.starts_with("HTTP/1.1 404 "));
        let order = challenges.publish("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA", "evaG.thumbprint");
        let answer = ask(&format!("GET {path}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nevaG.thumbprint"), "{answer}");
        assert!(answer.contains("application/octet-stream"));
        for other in
            ["GET /", "GET /.well-known/acme-challenge/", "GET /metrics", "GET /.well-known/acme-challenge/../x"]
        {
            assert!(ask(other).await.starts_with("HTTP/1.1 404 "), "{other}");
        }
        assert!(ask(&format!("POST {path}")).await.starts_with("HTTP/1.1 405 "));
        drop(order);
        assert!(ask(&format!("GET {path}")).await.starts_with("HTTP/1.1 404 "));
    }
    #[tokio::test(start_paused = true)]
    async fn trap_20_who_says_nothing_or_never_ends_frees_its_slot() {
        for (said, pause, least) in [("GET / HTTP/1.1\r\n", 3600, 10), ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 4, 28)] {
            let (mut client, stream) = Stream::duplex(4096);
            let began = Instant::now();
            let serving = tokio::spawn(serve_challenges(stream, Challenges::default()));
            let asking = async {
                while client.write_all(said.as_bytes()).await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                    let _ = client.try_read(&mut [0; 4096]);
                }
            };
            tokio::select! {
                ended = serving => ended.unwrap(),
                () = asking => {}
            }
            let lasted = began.elapsed().as_secs();
            assert!((least..=30).contains(&lasted), "{said:?}: {lasted} s");
        }
    }
}
