//! Which attempts were begun and how they ended, for the next life of this server: so that it knows what a killed one had
//! sent. Only a mail whose last answer never came is uncertain; what stood in line was not sent, and what was taken is not
//! sent again though nobody had the time to write it into the store.
//!
//! A file that is appended to and never synced: it outlives the process, not the machine. One that is of another start of
//! the machine, or not of the claims that are found, says nothing, and then all that was claimed is uncertain.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::Reply;
use bounce::Stage;
use queue::{Delivered, QueueId, Remains, Said, Settled};

/// Once the file has so many octets, and twice of what still counts, it is written anew with that.
const LARGE: u64 = 1 << 20;
/// Octets that are kept of a reply.
const REPLY: usize = 500;

/// One delivery: its message, and its number there.
type Key = (QueueId, u32);

pub(crate) struct Journal(Mutex<Option<Open>>);

struct Open {
    path: PathBuf,
    file: File,
    octets: u64,
    /// See [`LARGE`].
    most: u64,
    head: String,
    /// The lines that still count: an attempt that was begun and is not settled on disk.
    lines: HashMap<Key, String>,
}

/// Tells one start of the machine from another; none where the system does not say.
fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Journal {
    /// Begins one for claims of `epoch`; without a place for it nothing is written, and nothing will be known.
    pub(crate) fn begin(path: Option<&Path>, epoch: i64) -> Self {
        let open = path.zip(boot()).and_then(|(path, boot)| {
            let head = format!("postroom attempts {epoch} {boot}\n");
            let open = Open::create(path, head, HashMap::new());
            let failed = |error| {
                tracing::warn!(%error, path = %path.display(), "attempts cannot be noted");
                // What stands there is of a life before.
                let _ = fs::remove_file(path);
            };
            open.map_err(failed).ok()
        });
        Journal(Mutex::new(open))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are about to be sent.
    pub(crate) fn begun(&self, message: QueueId, numbers: impl Iterator<Item = u32>) {
        self.note(numbers.map(|number| ((message, number), Some(format!("B {message} {number}\n")))).collect());
    }

    /// The next hop has it.
    pub(crate) fn delivered(&self, message: QueueId, number: u32, reports: bool, said: &Said) {
        let one_line =
            |text: &str| -> String { text[..text.floor_char_boundary(REPLY)].replace(char::is_control, " ") };
        let (host, reply) = (one_line(&said.host).replace(' ', ""), one_line(&said.reply.to_string()));
        let line = format!("D {message} {number} {} {host} {reply}\n", u8::from(reports));
        self.note(vec![((message, number), Some(line))]);
    }

    /// Nobody has it, or it is written into the store: the attempt is over.
    pub(crate) fn over(&self, keys: impl Iterator<Item = Key>) {
        self.note(keys.map(|key| (key, None)).collect());
    }

    fn note(&self, notes: Vec<(Key, Option<String>)>) {
        let mut guard = self.lock();
        let Some(open) = guard.as_mut() else { return };
        if let Err(error) = open.note(notes) {
            tracing::error!(%error, "attempts cannot be noted any more");
            // What is half written must not be believed, be it that it cannot be removed.
            let _ = File::create(&open.path);
            let _ = fs::remove_file(&open.path);
            *guard = None;
        }
    }

    /// What the file says; None when it says nothing about the claims that are there now.
    pub(crate) fn remains(path: &Path) -> Option<Remains> {
        let mut octets = fs::read(path).ok()?;
        // The last line may be torn, in the middle of a character too.
        octets.truncate(octets.iter().rposition(|octet| *octet == b'\n')? + 1);
        read(std::str::from_utf8(&octets).ok()?, &boot()?)
    }
}

impl Open {
    fn create(path: &Path, head: String, lines: HashMap<Key, String>) -> io::Result<Self> {
        let (path, new) = (path.to_owned(), path.with_extension("new"));
        let text: String = std::iter::once(&head).chain(lines.values()).map(String::as_str).collect();
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &path)?;
        let octets = text.len() as u64;
        Ok(Open { path, file, octets, most: LARGE.max(2 * octets), head, lines })
    }

    fn note(&mut self, notes: Vec<(Key, Option<String>)>) -> io::Result<()> {
        let mut text = String::new();
        for (key, line) in notes {
            match line {
                Some(line) => {
                    text += &line;
                    self.lines.insert(key, line);
                }
                None if self.lines.remove(&key).is_some() => text += &format!("E {} {}\n", key.0, key.1),
                None => {}
            }
        }
        // In one write: a process that is killed has said all of it or nothing.
        self.file.write_all(text.as_bytes())?;
        self.octets += text.len() as u64;
        if self.octets > self.most {
            *self = Open::create(&self.path, std::mem::take(&mut self.head), std::mem::take(&mut self.lines))?;
        }
        Ok(())
    }
}

fn read(text: &str, boot: &str) -> Option<Remains> {
    let (head, lines) = text.split_once('\n')?;
    let epoch = head.strip_prefix("postroom attempts ")?.strip_suffix(boot)?.trim_end().parse().ok()?;
    let mut last: HashMap<Key, Option<Delivered>> = HashMap::new();
    for line in lines.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut words = line.splitn(4, ' ');
        let kind = words.next()?;
        let key = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        match kind {
            "B" => drop(last.insert(key, None)),
            "D" => drop(last.insert(key, Some(delivered(key, words.next()?)?))),
            "E" => drop(last.remove(&key)),
            _ => return None,
        }
    }
    let mut remains = Remains { epoch, begun: Vec::new(), delivered: Vec::new() };
    for (key, line) in last {
        match line {
            None => remains.begun.push(key),
            Some(delivered) => remains.delivered.push(delivered),
        }
    }
    Some(remains)
}

fn delivered((message, number): Key, rest: &str) -> Option<Delivered> {
    let mut words = rest.splitn(3, ' ');
    let (reports, host, reply) = (words.next()? == "1", words.next()?.to_owned(), words.next()?);
    let (code, text) = reply.split_at_checked(3)?;
    let reply = Reply::plain(code.parse().ok()?, text.trim_start().to_owned());
    Some(Delivered { message, number, reports, said: Said::by(host, Stage::Dot, reply) })
}

/// The deliveries of what was settled.
pub(crate) fn keys(settled: &[Settled]) -> impl Iterator<Item = Key> {
    settled.iter().map(|s| (s.message.id, s.delivery.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> QueueId {
        text.parse().unwrap()
    }

    fn said() -> Said {
        Said::by("mx.b.test", Stage::Dot, Reply::new(250, 2, 0, "as it\nwas"))
    }

    /// A delivery, whether it will be reported, the host and its reply.
    type Taken = (Key, bool, String, String);

    /// Deliveries that were begun, and those that were delivered.
    fn found(path: &Path) -> (Vec<Key>, Vec<Taken>) {
        let remains = Journal::remains(path).unwrap();
        assert_eq!(remains.epoch, 7);
        let delivered = |d: Delivered| ((d.message, d.number), d.reports, d.said.host, d.said.reply.to_string());
        (remains.begun, remains.delivered.into_iter().map(delivered).collect())
    }

    #[test]
    fn what_was_begun_and_what_was_taken_is_found_again() {
        let dir = testkit::Dir::new("journal");
        let path = dir.path().join("attempts");
        let journal = Journal::begin(Some(&path), 7);
        journal.begun(id("7-1"), 0..3);
        journal.over([(id("7-1"), 0)].into_iter());
        journal.delivered(id("7-1"), 1, true, &said());
        journal.over([(id("7-9"), 9)].into_iter());
        let taken = ((id("7-1"), 1), true, "mx.b.test".into(), "250 2.2.0 as it was".into());
        assert_eq!(found(&path), (vec![(id("7-1"), 2)], vec![taken]));
        journal.over([(id("7-1"), 1), (id("7-1"), 2)].into_iter());
        assert_eq!(found(&path), (vec![], vec![]));
    }

    #[test]
    fn the_file_does_not_grow_and_keeps_what_counts() {
        let dir = testkit::Dir::new("journal");
        let path = dir.path().join("attempts");
        let journal = Journal::begin(Some(&path), 7);
        journal.begun(id("7-1"), 0..1);
        for n in 0..60_000 {
            journal.begun(id("7-2"), n..n + 1);
            journal.over([(id("7-2"), n)].into_iter());
        }
        assert!(fs::metadata(&path).unwrap().len() <= LARGE + 100);
        assert_eq!(found(&path).0, [(id("7-1"), 0)]);
    }

    #[test]
    fn much_that_counts_is_not_written_anew_for_each_note() {
        use std::os::unix::fs::MetadataExt;
        let dir = testkit::Dir::new("journal");
        let path = dir.path().join("attempts");
        let journal = Journal::begin(Some(&path), 7);
        // Two octets each, and more than are kept.
        let long = Said::by("mx.b.test", Stage::Dot, Reply::plain(250, "é".repeat(REPLY)));
        (0..4000).for_each(|n| journal.delivered(id("7-1"), n, true, &long));
        let (mut files, mut last) = (0, 0);
        for n in 0..100 {
            journal.begun(id("7-2"), n..n + 1);
            let file = fs::metadata(&path).unwrap().ino();
            files += usize::from(std::mem::replace(&mut last, file) != file);
        }
        assert!(files <= 2, "{files}");
        let octets = fs::metadata(&path).unwrap().len();
        assert!(octets > LARGE && octets < 4100 * (REPLY as u64 + 100), "{octets}");
        assert_eq!(found(&path).1.len(), 4000);
    }

    #[test]
    fn a_line_torn_within_a_character_spoils_no_other() {
        let dir = testkit::Dir::new("journal");
        let path = dir.path().join("attempts");
        let journal = Journal::begin(Some(&path), 7);
        journal.begun(id("7-1"), 0..1);
        journal.delivered(id("7-2"), 0, false, &Said::by("mx.b.test", Stage::Dot, Reply::plain(250, "é")));
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        assert_eq!(found(&path), (vec![(id("7-1"), 0)], vec![]));
    }

    #[test]
    fn what_cannot_be_written_on_is_empty_wherever_it_stays() {
        let dir = testkit::Dir::new("journal");
        let (path, stays) = (dir.path().join("attempts"), dir.path().join("stays"));
        let journal = Journal::begin(Some(&path), 7);
        fs::hard_link(&path, &stays).unwrap();
        // Writing fails now.
        journal.lock().as_mut().unwrap().file = File::open(&path).unwrap();
        journal.begun(id("7-1"), 0..1);
        assert!(Journal::remains(&stays).is_none() && !path.exists());
    }

    #[test]
    fn where_none_can_be_begun_none_of_a_life_before_stays() {
        let dir = testkit::Dir::new("journal");
        let path = dir.path().join("attempts");
        Journal::begin(Some(&path), 7).begun(id("7-1"), 0..1);
        // What is written first cannot be.
        fs::create_dir(path.with_extension("new")).unwrap();
        Journal::begin(Some(&path), 8);
        assert!(!path.exists());
    }

    #[test]
    fn what_is_of_another_time_or_torn_is_not_believed() {
        let whole = "postroom attempts 7 here\nB 7-1 0\nB 7-1 1\n";
        assert_eq!(read(whole, "here").unwrap().begun.len(), 2);
        // A line that was not written whole was followed by no attempt.
        assert_eq!(read(&whole[..whole.len() - 2], "here").unwrap().begun.len(), 1);
        assert!(read(whole, "there").is_none() && read("", "here").is_none());
        assert!(read("postroom attempts 7 here\nX 7-1 0\n", "here").is_none());
        assert!(read("postroom attempts 7 here\nB what 0\n", "here").is_none());
    }
}
