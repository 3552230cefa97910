//! Traces: a collector of OpenTelemetry is told what happens to mail, as spans, by OTLP over HTTP (docs/telemetry.md).
//!
//! It is one more reader of the log, behind a cursor of its own: so nothing of it is in the way of mail, nothing is lost while the
//! collector or this server is away, and the same span has the same id whenever it is told. `spans` knows what is told of a line,
//! `otlp` how it is written.

mod otlp;
mod spans;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;
use net::{Cidr, Deadline, Https};
use queue::log::{self, Cursor, Filter, What};
use queue::{reader, receipt};
use store::{Store, Tx};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::wish::wish;
use otlp::{Answer, Request, Span, text};
pub use spans::Sample;

/// In whose name the log is read.
const READER: &str = "telemetry";
/// From one look at the log to the next, when there was nothing new.
const LOOK: Duration = Duration::from_millis(500);
/// From one look whether nobody else tells it any more to the next; and after the store failed.
const PAUSE: Duration = Duration::from_secs(5);
/// How often it is written down how far it has come: so much is told twice after a stop.
const NOTED: Duration = Duration::from_secs(1);
/// Lines of a page: when there are so many, no further batch is unpacked.
const LINES: usize = 512;
/// Spans of a request.
const SPANS: usize = 256;
/// How long a collector may take to answer (the specification's OTEL_EXPORTER_OTLP_TIMEOUT is 10 s).
const PATIENCE: Duration = Duration::from_secs(10);
/// Octets of an answer that are read.
const MOST_ANSWER: usize = 64 << 10;
/// How long it is left alone after a failure, at first and at most; and how long it may ask for.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
const LONGEST_WISH: Duration = Duration::from_secs(600);
/// Networks that need no TLS: a machine's own (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3), and those that are private (RFC 1918, RFC 4193).
const CLEAR: [&str; 6] = ["127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// The way to a collector: by `https` to public addresses, and anyhow to those of private networks, as the administrator named it.
pub fn way(https: Https) -> Https {
    https.public_and(CLEAR.iter().filter_map(|network| network.parse::<Cidr>().ok()))
}

/// Where traces are told, and of which.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The URL, mostly of a path that ends in `/v1/traces`.
    pub endpoint: String,
    /// Further fields of each request.
    pub headers: Vec<(String, String)>,
    /// Which.
    pub sample: Sample,
    /// Our name, and this server's version.
    pub instance: (String, &'static str),
}

/// How it has gone since the server began.
#[derive(Debug, Default)]
pub struct Figures {
    taken: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    /// One more than the position; 0 while another node tells it.
    next: AtomicI64,
}

impl Figures {
    /// Spans that were taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Spans that were refused for good.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests that were not answered with success.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Positions of the log that were kept no longer than it took to come to them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// All of the log up to there is told; none while another node does it.
    pub fn position(&self) -> Option<i64> {
        self.next.load(Ordering::Relaxed).checked_sub(1).filter(|position| *position >= 0)
    }
}

/// Tells traces. One for the whole server.
pub struct Telemetry {
    /// The store.
    pub store: Store,
    /// In whose name.
    pub epoch: i64,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// The way to it.
    pub https: Https,
    /// Where to.
    pub setup: Setup,
    /// How it goes.
    pub figures: Arc<Figures>,
    /// True when the server stops.
    pub stopping: watch::Receiver<bool>,
}

/// What a page of the log came to.
struct Told {
    spans: Vec<Span>,
    next: Cursor,
    more: bool,
    lost: u64,
}

impl Telemetry {
    /// Until the server stops.
    pub async fn run(mut self) {
        let mut stopping = self.stopping.clone();
        let stop = stopping.wait_for(|stop| *stop);
        tokio::select! {
            biased;
            _ = stop => {}
            () = self.take_turns() => {}
        }
    }

    /// Of several nodes one tells; when it dies, another goes on.
    async fn take_turns(&mut self) {
        loop {
            let epoch = self.epoch;
            match self.store.write(move |tx| reader::hold(tx, READER, epoch)).await {
                Ok(Some(position)) => self.tell_from(position).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "it cannot be read how far traces were told"),
            }
            self.figures.next.store(0, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    }

    /// Tells what comes, until somebody else does.
    async fn tell_from(&self, position: i64) {
        let (mut from, mut noted) = (Cursor::before(position + 1), Instant::now());
        let mut written = from;
        loop {
            self.figures.next.store(from.position, Ordering::Relaxed);
            let told = match self.read(from).await {
                Ok(told) => told,
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be read");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            if told.lost > 0 {
                self.figures.lost.fetch_add(told.lost, Ordering::Relaxed);
                tracing::warn!(
                    places = told.lost,
                    "events were kept no longer than it took to tell of them: traces lack them"
                );
            }
            for spans in told.spans.chunks(SPANS) {
                self.deliver(spans).await;
            }
            from = told.next;
            if from != written && noted.elapsed() >= NOTED {
                match self.note(from.position - 1).await {
                    Ok(true) => written = from,
                    Ok(false) => return,
                    Err(error) => tracing::warn!(%error, "it cannot be written how far traces were told"),
                }
                noted = Instant::now();
            }
            if !told.more {
                sleep(LOOK).await;
            }
        }
    }

    /// Writes down how far it has come; false when another tells them.
    async fn note(&self, position: i64) -> store::Result<bool> {
        let epoch = self.epoch;
        self.store.write(move |tx| reader::note(tx, READER, epoch, position)).await
    }

    /// Reads on.
    async fn read(&self, from: Cursor) -> store::Result<Told> {
        let sample = self.setup.sample;
        let read = move |tx: &mut Tx<'_>| {
            let page = log::read(tx, from, &wanted(), LINES)?;
            let (mut spans, mut ends) = (Vec::new(), HashMap::new());
            for line in page.lines.iter().filter(|line| sample.has(&line.head)) {
                spans.push(spans::span(line));
                if !spans::ends(line.what) {
                    continue;
                }
                // Asked once for a message of many: its receipts are all read.
                let ended = match ends.entry(line.head.message) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(unknown) => unknown.insert(receipt::ended(tx, line.head.message)?),
                };
                // Told with its last, and once.
                if let Some(ended) = ended.take_if(|ended| (ended.at, ended.last) == (line.time, line.head.number)) {
                    spans.push(spans::message(&line.head, &ended));
                }
            }
            Ok(Told { spans, next: page.next, more: page.more, lost: page.lost })
        };
        self.store.read(read).await
    }

    /// Sends spans until they are taken, or refused for good.
    async fn deliver(&self, spans: &[Span]) {
        let (name, version) = &self.setup.instance;
        let resource = [
            text("service.name", "postroom"),
            text("service.version", *version),
            text("service.instance.id", name),
            text("host.name", name),
        ];
        // Texts and numbers: there is nothing that cannot be written.
        let body = serde_json::to_vec(&Request::of(&resource, spans)).unwrap_or_default();
        let mut alone = LEFT_ALONE.0;
        loop {
            let wished = match self.tell(body.clone(), spans.len() as u64).await {
                Ok(()) => return,
                Err(wished) => wished,
            };
            if self.figures.failed.fetch_add(1, Ordering::Relaxed) == 0 || alone == LEFT_ALONE.1 {
                tracing::warn!(endpoint = self.setup.endpoint, "the collector takes no traces; they are told later");
            }
            sleep(wished.map_or(alone, |wished| wished.clamp(alone, LONGEST_WISH))).await;
            alone = (alone * 2).min(LEFT_ALONE.1);
        }
    }

    /// One request. It is to be made again where this is an error, perhaps not before some time.
    async fn tell(&self, body: Vec<u8>, spans: u64) -> Result<(), Option<Duration>> {
        let mut fields = vec![("content-type", "application/json"), ("user-agent", "Postroom")];
        fields.extend(self.setup.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let telling = self.https.tell(&self.setup.endpoint, &fields, body, MOST_ANSWER, Deadline::after(PATIENCE));
        let Ok(Ok(told)) = timeout(PATIENCE, telling).await else { return Err(None) };
        let (refused, why) = match told.status {
            200..300 => Answer::refused(&told.body),
            // OTLP 1.x, "Retryable Response Codes".
            429 | 502 | 503 | 504 => return Err(told.retry_after.and_then(|text| wish(&text, self.clock.now()))),
            status => (spans, format!("it answered {status}")),
        };
        let refused = refused.min(spans);
        if refused > 0 {
            self.figures.refused.fetch_add(refused, Ordering::Relaxed);
            tracing::warn!(spans = refused, why, "the collector refuses spans for good");
        }
        self.figures.taken.fetch_add(spans - refused, Ordering::Relaxed);
        Ok(())
    }
}

/// All but that mail is queued, which the spans of messages begin with.
fn wanted() -> Filter {
    Filter { whats: What::ALL.into_iter().filter(|what| *what != What::Queued).collect(), ..Filter::default() }
}
