//! A web server in memory, as wrong as real ones are: it answers every request alike.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{Deadline, Stream, Tls};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// A web server, as it is now.
#[derive(Clone)]
pub struct Web(Arc<Mutex<State>>);

struct State {
    tls: Tls,
    /// Status line and further fields, and the body; None: it says nothing, and keeps the connection.
    answer: Option<(String, String)>,
    asked: Vec<String>,
}

impl Web {
    pub fn new(tls: Tls) -> Self {
        Web(Arc::new(Mutex::new(State { tls, answer: None, asked: Vec::new() })))
    }

    /// From now on it says this: `200 OK`, a media type, and a body.
    pub fn says(&self, status: &str, media: &str, body: &str) {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nLocation: https://b.test/\r\n");
        self.0.lock().unwrap().answer = Some((head, body.to_owned()));
    }

    /// From now on it is down.
    pub fn says_nothing(&self) {
        self.0.lock().unwrap().answer = None;
    }

    /// Another certificate.
    pub fn shows(&self, tls: Tls) {
        self.0.lock().unwrap().tls = tls;
    }

    /// The requests that it had: request line, header, body.
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().unwrap().asked.clone()
    }

    pub async fn serve(self, stream: Stream) {
        let tls = self.0.lock().unwrap().tls.clone();
        let Ok(stream) = stream.upgrade(&tls, b"", Deadline::after(Duration::from_secs(60))).await else { return };
        let (mut stream, mut request, mut length) = (BufReader::new(stream), String::new(), 0);
        loop {
            let from = request.len();
            if stream.read_line(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
            let line = request[from..].to_ascii_lowercase();
            if let Some(n) = line.strip_prefix("content-length:") {
                length = n.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        request.extend(body.iter().map(|b| char::from(*b)));
        let answer = {
            let mut state = self.0.lock().unwrap();
            state.asked.push(request);
            state.answer.clone()
        };
        let Some((head, body)) = answer else { return std::future::pending().await };
        let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
