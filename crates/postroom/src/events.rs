//! `postroom events`: what happens to recipients, a line of JSON each; and the same into a file of the administrator's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::Stream;
use clap::Args;
use queue::log::{self, Cursor, Filter, Page, What};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::Store;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::admin::{Answer, Outcome, refused, words};
use crate::house::House;
use crate::organisations::named;
use crate::receipts::time;

/// Lines of one answer: when there are so many, no further place is read.
const MOST: usize = 1000;
/// Reads of one answer: a filter may pass nearly everything by.
const READS: usize = 200;
/// From one look for something new to the next.
const LOOK: Duration = Duration::from_millis(500);
/// After the disk or the store failed.
const PAUSE: Duration = Duration::from_secs(5);
/// Octets of a line, at most: so far back a torn one is looked for.
const LONGEST: u64 = 1 << 20;

/// Which events; all that is given must hold.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Which {
    /// From then on, as far as they are kept: behind a cursor, or since 2026-11-22, 2026-11-22T08:00:00Z, 90m, 24h, 7d.
    #[arg(long, value_name = "CURSOR|TIME")]
    since: Option<String>,
    /// Mail of this organisation.
    #[arg(long, value_name = "NAME")]
    organisation: Option<String>,
    /// mail, transactional or marketing.
    #[arg(long)]
    stream: Option<String>,
    /// Like delivery.bounced, or delivery for all that begin so; may be given more than once.
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Wait for more; without --since, for what happens from now on.
    #[arg(long)]
    pub follow: bool,
}

impl Which {
    /// The same, from a place on.
    pub fn behind(&self, cursor: &str) -> Which {
        Which { since: Some(cursor.to_owned()), ..self.clone() }
    }
}

/// What all of these mean; an unknown one is told.
pub fn whats(types: &[String]) -> Result<Vec<What>, String> {
    let mut all = Vec::new();
    for name in types {
        let named = What::named(name);
        if named.is_empty() {
            let known: Vec<&str> = What::ALL.into_iter().map(What::name).collect();
            return Err(format!("{name}: an event is one of {}", known.join(", ")));
        }
        all.extend(named);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// A filter of its parts, for the mail of all organisations.
pub fn filter(stream: Option<&str>, types: &[String]) -> Result<Filter, String> {
    let stream = stream.map(|word| word.parse::<Stream>()).transpose().map_err(|e| e.to_string())?;
    Ok(Filter { organisation: None, stream, whats: whats(types)? })
}

/// Reads on: lines, where to go on, whether there is more, and how many places are gone.
pub async fn execute(house: &House, which: Which) -> Outcome {
    let now = house.clock.now();
    let mut filter = filter(which.stream.as_deref(), &which.types)?;
    if let Some(name) = which.organisation.clone() {
        filter.organisation = Some(house.store.read(move |tx| named(tx, &name)).await.map_err(words)?);
    }
    let mut from = match which.since.clone() {
        None if which.follow => Cursor::before(house.store.read(log::last).await.map_err(words)? + 1),
        None => Cursor::START,
        Some(text) => match text.parse::<Cursor>() {
            Ok(cursor) => cursor,
            Err(_) => {
                let since = move |tx: &mut store::Tx<'_>| {
                    let then = time(&text, now).map_err(|e| refused(format!("{}; or a cursor like 12.3", words(e))))?;
                    log::since(tx, then)
                };
                house.store.read(since).await.map_err(words)?
            }
        },
    };
    let (mut lines, mut lost, mut more) = (Vec::new(), 0, true);
    for _ in 0..READS {
        let filter = filter.clone();
        let page = house.store.read(move |tx| log::read(tx, from, &filter, MOST)).await.map_err(words)?;
        lines.extend(page.lines.iter().map(outbox::event_line));
        (from, more, lost) = (page.next, page.more, lost + page.lost);
        if !more || lines.len() >= MOST {
            break;
        }
    }
    let data = json!({ "lines": lines, "next": from.to_string(), "more": more, "lost": lost });
    Ok(Answer::new(lines.concat().trim_end(), data))
}

/// The file that events are appended to, and how far that has come.
///
/// A batch is on disk before it is noted that it is: a crash repeats at most the last one, of up to some thousand lines with
/// the ids that they had, and loses none.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    /// Where the cursor stands.
    note: PathBuf,
    open: Option<File>,
}

impl EventFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// In words for the administrator.
    pub fn open(path: &Path, data: &Path) -> Result<Self, String> {
        let mut file = EventFile { path: path.to_owned(), note: data.join("events.cursor"), open: None };
        file.ready().map_err(|e| format!("[events] file: {}: {e}", path.display()))?;
        Ok(file)
    }

    /// The file, opened and without half a line at its end.
    fn ready(&mut self) -> io::Result<&mut File> {
        let file = match self.open.take() {
            Some(file) => file,
            None => {
                let mut options = OpenOptions::new();
                let mut file = options.create(true).append(true).read(true).mode(0o640).open(&self.path)?;
                mend(&mut file)?;
                file
            }
        };
        Ok(self.open.insert(file))
    }

    /// None when nothing was ever written.
    fn cursor(&self) -> io::Result<Option<Cursor>> {
        match std::fs::read_to_string(&self.note) {
            Ok(text) => text.trim().parse().map(Some).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn append(&mut self, text: &[u8], next: Cursor) -> io::Result<()> {
        let written = self.ready().and_then(|file| {
            file.write_all(text)?;
            file.sync_data()
        });
        if written.is_err() {
            // What is there of it is taken away when it is opened again.
            self.open = None;
        }
        written.and_then(|()| self.keep(next))
    }

    fn keep(&self, next: Cursor) -> io::Result<()> {
        let new = self.note.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{next}")?;
        file.sync_data()?;
        std::fs::rename(&new, &self.note)
    }

    /// Appends what happens until the server stops. SIGHUP opens the file anew, after it was moved away.
    pub async fn run(mut self, store: Store, mut hangup: Signal, mut stopping: watch::Receiver<bool>) {
        let mut next: Option<Cursor> = None;
        loop {
            let (pause, file) = match step(self, &store, next).await {
                Ok((file, cursor, more)) => {
                    next = Some(cursor);
                    (if more { Duration::ZERO } else { LOOK }, file)
                }
                Err((file, error)) => {
                    tracing::error!(error, file = %file.path.display(), "events cannot be written; they are later");
                    (PAUSE, file)
                }
            };
            self = file;
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                _ = hangup.recv() => self.open = None,
                () = sleep(pause) => {}
            }
        }
    }
}

/// One look: what is new is appended. Gives where to go on, and whether there is more.
async fn step(
    mut file: EventFile,
    store: &Store,
    next: Option<Cursor>,
) -> Result<(EventFile, Cursor, bool), (EventFile, String)> {
    let from = match next.map_or_else(|| file.cursor(), |next| Ok(Some(next))) {
        Ok(Some(cursor)) => cursor,
        // A new file begins with what happens now.
        Ok(None) => match store.read(log::last).await {
            Ok(last) => Cursor::before(last + 1),
            Err(e) => return Err((file, e.to_string())),
        },
        Err(e) => return Err((file, format!("{}: {e}", "events.cursor"))),
    };
    let page = match store.read(move |tx| log::read(tx, from, &Filter::default(), MOST)).await {
        Ok(page) => page,
        Err(e) => return Err((file, e.to_string())),
    };
    let Page { lines, next: behind, more, lost } = page;
    if lost > 0 {
        tracing::warn!(places = lost, "events were kept no longer than it took to come to them: the file lacks them");
    }
    if next.is_some() && behind == from {
        return Ok((file, from, more));
    }
    let work = move || {
        let text: String = lines.iter().map(outbox::event_line).collect();
        let written = if text.is_empty() { file.keep(behind) } else { file.append(text.as_bytes(), behind) };
        match written {
            Ok(()) => Ok((file, behind, more)),
            Err(e) => Err((file, e.to_string())),
        }
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}

/// Half a line, which a crash or a full disk left at the end, goes: it is written again.
fn mend(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(LONGEST).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    match &tail[whole as usize..] {
        [] => Ok(()),
        [b'{', ..] => file.set_len(from + whole),
        // Whatever it is, it is not to be lost.
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it ends with something that is no event: is it another file?",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_is_cut_off_and_what_is_no_event_is_left_alone() {
        let dir = testkit::Dir::new("events");
        let path = dir.path().join("events.jsonl");
        let opened = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let opened = EventFile::open(&path, dir.path()).map(drop);
            (opened, std::fs::read_to_string(&path).unwrap())
        };
        for (before, after) in [("", ""), ("{\"id\":1}\n", "{\"id\":1}\n"), ("{}\n{\"id\":", "{}\n"), ("{\"i", "")] {
            assert_eq!(opened(before), (Ok(()), after.to_owned()));
        }
        for other in ["a letter, and no end of line", "first\nlast"] {
            let (opened, left) = opened(other);
            assert!(opened.unwrap_err().contains("another file"));
            assert_eq!(left, other);
        }
    }
}
