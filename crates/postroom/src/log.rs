//! The log on stderr: a line for each event. On a terminal it is for people; else it is JSON, and written by a thread of its own,
//! many lines at once: a mail has two or three, and none is to wait for a write.

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use base::{Clock, SystemClock};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as readable};

/// Octets of lines that wait to be written; what comes when there are more is lost, and counted.
const WAITING: usize = 4 << 20;
/// So long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the server waits for who does not read its last lines.
const LAST: Duration = Duration::from_secs(2);

/// Begins the log; `RUST_LOG` chooses what. What was said is written when the guard is gone.
pub(crate) fn begin() -> Option<Guard> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    if io::stderr().is_terminal() {
        readable().with_env_filter(filter).with_writer(io::stderr).init();
        return None;
    }
    let sink = Arc::new(Sink::default());
    let (alive, ended) = mpsc::channel::<()>();
    let writer = {
        let sink = sink.clone();
        thread::Builder::new().name("log".into()).spawn(move || {
            sink.run(&mut io::stderr());
            drop(alive);
        })
    };
    // Without a thread each line is written by who says it.
    if writer.is_err() {
        sink.close();
    }
    tracing_subscriber::registry().with(filter).with(Lines(sink.clone())).init();
    Some(Guard { sink, ended })
}

/// Lines wait for the thread as long as this lives; what is said later is written at once.
pub(crate) struct Guard {
    sink: Arc<Sink>,
    /// Hears when the thread is gone.
    ended: mpsc::Receiver<()>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sink.close();
        let _ = self.ended.recv_timeout(LAST);
    }
}

/// The lines that are not written yet.
#[derive(Default)]
struct Sink {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// The thread sleeps until it is called.
    sleeps: bool,
    /// Lines for which there was no room.
    lost: u64,
    /// One of them is not to be gathered for: it may be the last before the process ends.
    urgent: bool,
    closed: bool,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never waits for who reads the log: a server whose log is stuck goes on.
    fn add(&self, line: &str, urgent: bool) {
        let mut waiting = self.lock();
        if waiting.closed {
            drop(waiting);
            // There is nobody to tell.
            let _ = io::stderr().write_all(line.as_bytes());
        } else if waiting.lines.len() + line.len() > WAITING {
            waiting.lost += 1;
        } else {
            waiting.lines.extend_from_slice(line.as_bytes());
            waiting.urgent |= urgent;
            if std::mem::take(&mut waiting.sleeps) || urgent {
                self.more.notify_one();
            }
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_one();
    }

    /// Writes until the sink is closed and empty.
    fn run(&self, out: &mut impl io::Write) {
        let (mut lines, mut lost) = (Vec::new(), 0);
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && waiting.lost == 0 {
                if waiting.closed {
                    return;
                }
                waiting.sleeps = true;
                waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let gathers = |waiting: &mut Waiting| !waiting.urgent && !waiting.closed;
            waiting = self.more.wait_timeout_while(waiting, GATHER, gathers).unwrap_or_else(PoisonError::into_inner).0;
            waiting.urgent = false;
            std::mem::swap(&mut waiting.lines, &mut lines);
            lost += std::mem::take(&mut waiting.lost);
            drop(waiting);
            let failed = write(out, &lines);
            lost += failed;
            lines.clear();
            // What a flood took is given back.
            lines.shrink_to(64 << 10);
            // Said once it can be: who takes no lines takes this one neither.
            if failed == 0 && lost > 0 {
                tracing::warn!(lines = lost, "the log was not read fast enough: lines are missing");
                lost = 0;
            }
        }
    }
}

/// Gives how many lines could not be written.
fn write(out: &mut impl io::Write, mut lines: &[u8]) -> u64 {
    while !lines.is_empty() {
        match out.write(lines) {
            Ok(n @ 1..) => lines = &lines[n.min(lines.len())..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // Somebody before us has set it so that it waits for nobody.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(GATHER),
            Ok(_) | Err(_) => return lines.iter().filter(|octet| **octet == b'\n').count() as u64,
        }
    }
    0
}

/// Writes each event as a line of JSON: `timestamp`, `level`, `fields` and `target`.
struct Lines(Arc<Sink>);

thread_local! {
    /// Kept for the next line.
    static LINE: Cell<String> = const { Cell::new(String::new()) };
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Taken, not borrowed: a value that says something itself while it is written has a line of its own.
        let mut line = LINE.try_with(Cell::take).unwrap_or_default();
        line.clear();
        put(&mut line, event);
        self.0.add(&line, *event.metadata().level() == tracing::Level::ERROR);
        // Of a thread that ends it is gone.
        let _ = LINE.try_with(|kept| kept.set(line));
    }
}

fn put(line: &mut String, event: &Event<'_>) {
    let (now, about) = (SystemClock.now().rfc3339_millis(), event.metadata());
    let mut fields = Fields { line, any: false };
    // Nothing fails to be written to a string but what fails to say itself.
    let _ = write!(fields.line, r#"{{"timestamp":"{now}","level":"{}","fields":{{"#, about.level());
    event.record(&mut fields);
    line.push_str(r#"},"target":"#);
    string(line, format_args!("{}", about.target()));
    line.push_str("}\n");
}

/// The fields of an event, behind each other.
struct Fields<'a> {
    line: &'a mut String,
    any: bool,
}

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        if std::mem::replace(&mut self.any, true) {
            self.line.push(',');
        }
        string(self.line, format_args!("{}", field.name().trim_start_matches("r#")));
        self.line.push(':');
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        let _ = write!(self.line, "{value}");
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.plain(field, value) } else { self.record_debug(field, &value) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        string(self.line, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        string(self.line, format_args!("{value:?}"));
    }
}

/// A string as RFC 8259 §7 has it.
fn string(line: &mut String, text: fmt::Arguments<'_>) {
    line.push('"');
    // As far as it could say itself.
    let _ = Escaped(line).write_fmt(text);
    line.push('"');
}

struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|octet| octet < b' ' || octet == b'"' || octet == b'\\') {
            self.0.push_str(&rest[..at]);
            match rest.as_bytes()[at] {
                b'\n' => self.0.push_str("\\n"),
                b'\r' => self.0.push_str("\\r"),
                b'\t' => self.0.push_str("\\t"),
                octet @ (b'"' | b'\\') => self.0.extend(['\\', char::from(octet)]),
                octet => write!(self.0, "\\u{octet:04x}")?,
            }
            rest = &rest[at + 1..];
        }
        self.0.push_str(rest);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a log says of what is said in `f`.
    fn said(f: impl FnOnce()) -> String {
        let sink = Arc::new(Sink::default());
        let lines = tracing_subscriber::registry().with(Lines(sink.clone()));
        tracing::subscriber::with_default(lines, f);
        let mut out = Vec::new();
        sink.close();
        sink.run(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_json_whatever_is_said() {
        let odd = "a \"quoted\" \\ line\r\nand\ta \u{1}\u{7f}bell, ü";
        let all = said(|| {
            let (big, none) = (u64::MAX, f64::NAN);
            tracing::info!(n = -7, big, yes = true, half = 0.5, none, odd, shown = %odd, r#type = ?Some(1), "it \"is\"");
            tracing::warn!("second");
        });
        let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let fields = json!({"n": -7, "big": u64::MAX, "yes": true, "half": 0.5, "none": "NaN", "odd": odd, "shown": odd,
            "type": "Some(1)", "message": "it \"is\""});
        assert_eq!(lines[0]["fields"], fields);
        assert_eq!((&lines[0]["level"], &lines[0]["target"]), (&json!("INFO"), &json!(module_path!())));
        assert!(base::Timestamp::parse_rfc3339(lines[0]["timestamp"].as_str().unwrap()).is_some());
        assert_eq!((lines.len(), &lines[1]["level"]), (2, &json!("WARN")));
        assert_eq!(lines[1]["fields"], json!({"message": "second"}));
    }

    /// Takes a few octets at a time, and each second time none.
    struct Busy(Vec<u8>, u32);

    impl io::Write for Busy {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 {
                1001.. => Err(io::ErrorKind::BrokenPipe.into()),
                n if n % 2 == 0 => Err(io::ErrorKind::WouldBlock.into()),
                _ => self.0.write(&bytes[..bytes.len().min(7)]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_not_taken_at_once_comes_later_and_what_never_is_counts_as_lost() {
        let (mut out, lines) = (Busy(Vec::new(), 0), "one line\nand another\n".repeat(2));
        assert_eq!(write(&mut out, lines.as_bytes()), 0);
        assert_eq!(out.0, lines.as_bytes());
        out.1 = 1000;
        assert_eq!(write(&mut out, lines.as_bytes()), 4);
    }

    /// Takes what it is given one piece at a time.
    struct Slow(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl io::Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Says when it was given something.
    struct Told(mpsc::Sender<()>);

    impl io::Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_may_be_the_last_word_is_not_gathered() {
        let (sink, (told, written)) = (Arc::new(Sink::default()), mpsc::channel());
        let writer = {
            let sink = sink.clone();
            thread::spawn(move || sink.run(&mut Told(told)))
        };
        let (began, times) = (std::time::Instant::now(), 200);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Lines(sink.clone())), || {
            for _ in 0..times {
                tracing::error!("it is over");
                written.recv().unwrap();
            }
        });
        assert!(began.elapsed() < GATHER * times, "{:?}", began.elapsed());
        sink.close();
        writer.join().unwrap();
    }

    #[test]
    fn who_does_not_read_the_log_keeps_nobody_waiting() {
        let (sink, (go, wait), read) = (Arc::new(Sink::default()), mpsc::channel(), Arc::<Mutex<Vec<u8>>>::default());
        let writer = {
            let (sink, mut slow) = (sink.clone(), Slow(wait, read.clone()));
            thread::spawn(move || {
                let lines = tracing_subscriber::registry().with(Lines(sink.clone()));
                tracing::subscriber::with_default(lines, || sink.run(&mut slow));
            })
        };
        let line = format!("{}\n", "x".repeat(1023));
        (0..20_000).for_each(|_| sink.add(&line, false));
        drop(go);
        // What is said of them stands behind them.
        while !sink.lock().sleeps {
            thread::yield_now();
        }
        sink.close();
        writer.join().unwrap();
        let read = String::from_utf8(read.lock().unwrap().clone()).unwrap();
        let kept = read.lines().filter(|read| line.trim_end() == *read).count();
        // What was being written, and what waited.
        assert!((4096..=8192).contains(&kept), "{kept}");
        let told: u64 =
            read.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["fields"]["lines"].as_u64()).sum();
        assert_eq!(kept as u64 + told, 20_000);
    }
}
