//! Packs: append-only files of records. A blob's id is its place: the pack's number and the record's offset.
//!
//! One thread appends: whatever waits is written with one write and one fsync for each class, and only then do the jobs
//! that refer to it reach the SQL writer. What a crash leaves behind without a reference is dead space; every start
//! begins new packs, so that a torn tail needs no repair. After a failed write or fsync a pack is sealed and the records
//! are written anew elsewhere: its pages may be lost though a second fsync says yes.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread;
use std::time::Duration;

use base::BlobId;

use crate::blob::{Class, Place, SPOOL, Staged, remove};
use crate::job::{Job, Lane, Queue};
use crate::numbers::Numbers;
use crate::space::{self, Space};
use crate::{Error, Options, Result, Tx};

const MAGIC: &[u8; 16] = b"postroom pack 1\n";
const RECORD: &[u8; 4] = b"rec1";

/// How a pack is called that is not made yet.
const NEW: &str = "new-";

/// A pack of the short-lived is full at this many octets. They are small, as one goes only when all that is in it has.
const TRANSIT_FULL: u64 = 64 << 20;

/// How many octets of waiting blobs go into one write.
const BATCH: u64 = 8 << 20;

/// A pack grows ahead of its records by as much as it has, within these bounds, in octets: what is written where the file has
/// its room already is synced without a look at the file's size, which costs a write and a wait more (290 and 170 µs on one disk).
const LEAST_AHEAD: u64 = 64 << 10;
const MOST_AHEAD: u64 = 1 << 20;
static ZEROS: [u8; MOST_AHEAD as usize] = [0; MOST_AHEAD as usize];

/// Writes of more octets than this are slower than that look: for them nothing is written twice.
const LARGE: u64 = 128 << 10;

/// So many are written in a moment: a sync takes longer.
const SOON: u64 = 256 << 10;

/// A batch that is much smaller than usual waits so long for others: less than the sync that it saves.
const MOMENT: Duration = Duration::from_micros(300);

/// How much of a record is read at once.
const PIECE: u64 = 256 * 1024;

/// How many writes may wait for the appender.
const WAITING: usize = 4096;

/// What stands before a record's bytes: magic, codec (0: as they are), length, BLAKE3. Records begin at multiples of 8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) length: u64,
    pub(crate) checksum: [u8; 32],
}

impl Header {
    pub(crate) const LEN: usize = 48;
    /// Where a pack's first record begins.
    pub(crate) const FIRST: u64 = MAGIC.len() as u64;

    pub(crate) fn bytes(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(RECORD);
        out[8..16].copy_from_slice(&self.length.to_le_bytes());
        out[16..].copy_from_slice(&self.checksum);
        out
    }

    pub(crate) fn parse(b: &[u8; Self::LEN]) -> Option<Self> {
        if &b[..4] != RECORD || b[4..8] != [0; 4] {
            return None;
        }
        Some(Header { length: u64::from_le_bytes(b[8..16].try_into().ok()?), checksum: b[16..].try_into().ok()? })
    }

    /// What a record of so many octets takes, up to where the next one may begin.
    pub(crate) fn space(length: u64) -> u64 {
        length.saturating_add(Self::LEN as u64).saturating_add(7) & !7
    }

    /// Hands over the bytes of a record, which stand in `file` from `start` on, a piece at a time, each with its place
    /// behind `start`; gives whether they are those that were written.
    ///
    /// # Errors
    /// What `take` said.
    pub(crate) fn stream(
        &self,
        file: &File,
        start: u64,
        mut take: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<Bytes> {
        let (mut at, mut hasher) = (0, blake3::Hasher::new());
        let mut piece = vec![0; self.length.min(PIECE) as usize];
        while at < self.length {
            let n = (self.length - at).min(PIECE) as usize;
            if let Err(e) = file.read_exact_at(&mut piece[..n], start + at) {
                return Ok(Bytes::Unreadable(e));
            }
            hasher.update(&piece[..n]);
            take(at, &piece[..n])?;
            at += n as u64;
        }
        // A checksum, not a secret: nothing is learnt from how long this takes.
        Ok(if *hasher.finalize().as_bytes() == self.checksum { Bytes::Whole } else { Bytes::Damaged })
    }

    /// Where the next record begins, when this one begins at `at`.
    fn next(&self, at: u64) -> Option<u64> {
        at.checked_add(Self::LEN as u64)?.checked_add(self.length)?.checked_next_multiple_of(8)
    }
}

/// What came of reading a record.
#[derive(Debug)]
pub(crate) enum Bytes {
    Whole,
    /// They are not what was written.
    Damaged,
    Unreadable(std::io::Error),
}

/// A blob's id from its place; `at` is a multiple of 8.
pub(crate) fn id(number: u32, at: u64) -> BlobId {
    BlobId((i64::from(number) << 32) | (at / 8) as i64)
}

fn place(id: BlobId) -> Option<(u32, u64)> {
    Some((u32::try_from(id.0 >> 32).ok()?, (id.0 & 0xffff_ffff) as u64 * 8))
}

/// An open pack. Whoever is about to refer to what is in it holds a clone: a pack that only [`Packs`] holds has all its
/// references in the tables.
pub(crate) type Pin = Arc<File>;

/// The pack files of a data directory, or those that several processes share.
///
/// Whoever makes a pack holds its file locked until all that it wrote there has its references in the tables: only what
/// can be locked is looked at by who keeps the packs, so that nothing goes that another is just writing.
pub(crate) struct Packs {
    dir: PathBuf,
    keeps: bool,
    files: RwLock<HashMap<u32, (Class, Pin)>>,
    numbers: Arc<Numbers>,
    /// When a lasting pack is full.
    full: u64,
    space: Space,
}

impl Packs {
    /// Opens the directory of packs, making it where it is missing. No pack can be made before [`Packs::reserve`].
    pub(crate) fn open(dir: &Path, options: &Options, queue: Arc<Queue>) -> Result<Self> {
        let failed = |e| Error::io(format_args!("opening packs in {}", dir.display()), e);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut files = HashMap::new();
        for entry in std::fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            // A crash came between its making and the taking of its name.
            let is_new = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(NEW.as_bytes()));
            if options.keeps && (is_new || path.extension().is_some_and(|e| e == SPOOL)) {
                remove(&path).map_err(failed)?;
            }
            if let Some((number, class)) = named(&path) {
                files.insert(number, (class, Arc::new(open(&path, options.keeps).map_err(failed)?)));
            }
        }
        space::probe(dir)?;
        let after = files.keys().max().copied().unwrap_or(0);
        Ok(Packs {
            dir: dir.to_owned(),
            keeps: options.keeps,
            files: RwLock::new(files),
            numbers: Numbers::new(after, queue),
            full: options.pack_octets,
            space: Space::open(options, dir),
        })
    }

    /// Reserves the first numbers of this life, inside the transaction that opens the tables.
    pub(crate) fn reserve(&self, tx: &mut Tx<'_>) -> Result<()> {
        self.numbers.open(tx)
    }

    /// A pack is full at this many octets; the next record begins a new one.
    pub(crate) fn full(&self, class: Class) -> u64 {
        match class {
            Class::Transit => TRANSIT_FULL,
            Class::Lasting => self.full,
        }
    }

    /// How much room there is.
    pub(crate) fn space(&self) -> &Space {
        &self.space
    }

    /// Where the packs are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, number: u32, class: Class) -> PathBuf {
        self.dir.join(format!("{number:08}.{}", suffix(class)))
    }

    /// A new pack; its name is durable before anything in it can be acknowledged.
    pub(crate) fn create(&self, class: Class) -> Result<(u32, Pin)> {
        let number = self.numbers.take()?;
        let path = self.path(number, class);
        let make = || -> std::io::Result<File> {
            // Locked before it has its name: it is never seen without.
            let new = self.dir.join(format!("{NEW}{number:08}.{}", suffix(class)));
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new)?;
            file.lock_shared()?;
            file.write_all_at(MAGIC, 0)?;
            if path.exists() {
                return Err(std::io::ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()?;
            Ok(file)
        };
        let file = make().map_err(|e| Error::io(format_args!("making {}", path.display()), e))?;
        let file = Arc::new(file);
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(number, (class, file.clone()));
        Ok((number, file))
    }

    /// Learns of packs that others have made. Who does not keep the packs lets go of those of its own that it has done
    /// with, and of those that are deleted.
    pub(crate) fn learn(&self) -> Result<()> {
        let failed = |e| Error::io(format_args!("looking at packs in {}", self.dir.display()), e);
        if self.keeps {
            for entry in std::fs::read_dir(&self.dir).map_err(failed)? {
                if let Some((number, _)) = named(&entry.map_err(failed)?.path()) {
                    // One that went meanwhile is none.
                    _ = self.file(number);
                }
            }
        } else {
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            files.retain(|_, (_, file)| Arc::strong_count(file) > 1);
        }
        Ok(())
    }

    /// Packs that are neither written to nor read, and of whose blobs none waits for its job; none for who does not keep
    /// them.
    pub(crate) fn idle(&self, class: Class) -> Vec<u32> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let idle = files.iter().filter(|(_, (c, file))| *c == class && self.is_idle(file));
        idle.map(|(number, _)| *number).collect()
    }

    /// The same in ascending order, each with its octets.
    pub(crate) fn settled(&self, class: Class) -> Result<Vec<(u32, u64)>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mut settled = Vec::new();
        for (number, (_, file)) in files.iter().filter(|(_, (c, file))| *c == class && self.is_idle(file)) {
            settled.push((*number, file.metadata().map_err(|e| Error::io("looking at a pack", e))?.len()));
        }
        settled.sort_unstable();
        Ok(settled)
    }

    /// Nobody here holds it, and nobody elsewhere has it locked.
    fn is_idle(&self, file: &Pin) -> bool {
        self.keeps && Arc::strong_count(file) == 1 && file.try_lock().is_ok()
    }

    /// The store is closed: as at the end of the process, whoever keeps the packs next may look at all of them.
    pub(crate) fn let_go(&self) {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.values().for_each(|(_, file)| _ = file.unlock());
    }

    /// The ids that the blobs of a pack can have.
    pub(crate) fn ids(number: u32) -> std::ops::Range<BlobId> {
        BlobId(i64::from(number) << 32)..BlobId((i64::from(number) + 1) << 32)
    }

    /// Deletes a pack in which nothing was ever acknowledged.
    fn discard(&self, number: u32, class: Class) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        self.delete(number, class);
    }

    /// Deletes a pack that nothing refers to, unless somebody holds it; gives whether it did.
    pub(crate) fn discard_idle(&self, number: u32) -> bool {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let idle = files.get(&number).filter(|(_, file)| Arc::strong_count(file) == 1).map(|(class, _)| *class);
        let Some(class) = idle else { return false };
        files.remove(&number);
        drop(files);
        self.delete(number, class);
        true
    }

    fn delete(&self, number: u32, class: Class) {
        if let Err(e) = std::fs::remove_file(self.path(number, class)) {
            tracing::warn!(pack = number, error = %e, "could not delete a pack of no further use");
        }
    }

    /// The file and the offset of a blob's record.
    pub(crate) fn find(&self, id: BlobId) -> Result<(Arc<File>, u64)> {
        let found = place(id).and_then(|(number, at)| Some((self.file(number)?, at)));
        found.ok_or_else(|| Error::Corrupt(format!("blob {id}: its pack is missing").into()))
    }

    /// The file of a pack; one that was made elsewhere is opened now.
    fn file(&self, number: u32) -> Option<Pin> {
        if let Some((_, file)) = self.files.read().unwrap_or_else(PoisonError::into_inner).get(&number) {
            return Some(file.clone());
        }
        let open = |class| Some((class, Arc::new(open(&self.path(number, class), self.keeps).ok()?)));
        let (class, file) = [Class::Lasting, Class::Transit].into_iter().find_map(open)?;
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        Some(files.entry(number).or_insert((class, file)).1.clone())
    }

    /// Reads every record of every pack; `each` gets the id and whether the bytes are what was written.
    pub(crate) fn scan(&self, mut each: impl FnMut(BlobId, u64, Result<()>)) -> Result<Vec<PackReport>> {
        let mut numbers: Vec<(u32, Class, Arc<File>)> = {
            let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
            files.iter().map(|(n, (c, f))| (*n, *c, f.clone())).collect()
        };
        numbers.sort_by_key(|(n, ..)| *n);
        let mut reports = Vec::new();
        for (number, class, file) in numbers {
            let size = file.metadata().map_err(|e| Error::io("reading a pack", e))?.len();
            let (mut at, mut records, mut head) = (Header::FIRST, 0, [0; Header::LEN]);
            while at + Header::LEN as u64 <= size {
                file.read_exact_at(&mut head, at).map_err(|e| Error::io("reading a pack", e))?;
                // The rest is a torn tail: dead, unless a reference to it shows up.
                let Some(header) = Header::parse(&head) else { break };
                let Some(next) = header.next(at).filter(|_| at + Header::LEN as u64 + header.length <= size) else {
                    break;
                };
                let blob = id(number, at);
                each(blob, header.length, crate::BlobReader::open(self, blob).and_then(|b| b.verify()));
                records += 1;
                at = next;
            }
            reports.push(PackReport { number, class, octets: size, records, readable: at.min(size) });
        }
        Ok(reports)
    }
}

/// Opens a pack that is there. Who keeps the packs may write: over a network only that lets a file be locked.
fn open(path: &Path, keeps: bool) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(keeps).open(path)
}

/// What a scan found in one pack.
#[derive(Clone, Copy, Debug)]
pub struct PackReport {
    /// The pack's number.
    pub number: u32,
    /// What lives in it.
    pub class: Class,
    /// The file's size.
    pub octets: u64,
    /// Whole records.
    pub records: u64,
    /// Octets up to the end of the last whole record; what follows is room for more, or what a crash left.
    pub readable: u64,
}

fn suffix(class: Class) -> &'static str {
    match class {
        Class::Transit => "transit",
        Class::Lasting => "lasting",
    }
}

fn named(path: &Path) -> Option<(u32, Class)> {
    let class = match path.extension()?.to_str()? {
        "transit" => Class::Transit,
        "lasting" => Class::Lasting,
        _ => return None,
    };
    Some((path.file_stem()?.to_str()?.parse().ok()?, class))
}

/// A job and the blobs it needs on disk first.
pub(crate) struct Waiting {
    pub(crate) staged: Vec<Staged>,
    pub(crate) lane: Lane,
    pub(crate) job: Box<dyn Job>,
}

/// The way to the appender; closing it (dropping) ends the thread once all is written.
pub(crate) type Sender = mpsc::SyncSender<Waiting>;

pub(crate) fn channel() -> (Sender, mpsc::Receiver<Waiting>) {
    mpsc::sync_channel(WAITING)
}

impl Waiting {
    fn octets(&self) -> u64 {
        self.staged.iter().map(|s| s.header.length).sum()
    }
}

/// Appends what waits until the channel closes. Where the writer commits jobs in groups it hears what is coming, and files have room
/// ahead.
pub(crate) fn append_loop(packs: &Packs, waiting: &mpsc::Receiver<Waiting>, queue: &Queue) {
    let (mut current, mut last) = (Current { grows: queue.is_grouped(), ..Current::default() }, 0);
    // So many come together of late.
    let mut usual = 0;
    while let Ok(first) = waiting.recv() {
        // While the jobs of the last batch still wait for their commit, or are just being committed, a sync of our own would
        // make little sooner: what comes meanwhile joins this batch, and there is one sync here for one of the writer's.
        let coming = queue.turn(last);
        // On a busy machine others are about to add to it, who have work to do and no core to do it on: they go first.
        thread::yield_now();
        let mut octets = first.octets();
        let mut batch = vec![first];
        gather(waiting, &mut batch, &mut octets);
        if octets < SOON && 2 * batch.len() < usual {
            // Those who had their answers together come again together, and soon.
            thread::sleep(MOMENT);
            gather(waiting, &mut batch, &mut octets);
        }
        usual = batch.len().max(usual * 7 / 8);
        let somebody_waits = batch.iter().any(|w| w.lane == Lane::Interactive);
        let coming = coming.filter(|_| somebody_waits && octets < SOON);
        // The second try is on fresh files.
        let outcome = current.append(packs, &batch).or_else(|e| {
            tracing::warn!(error = %e, "a pack failed and was sealed; writing its records anew");
            current.seal(packs);
            current.append(packs, &batch)
        });
        match outcome {
            Ok(places) => {
                let added = queue.push_all(batch.into_iter().zip(places).map(|(mut w, placed)| {
                    w.job.placed(placed);
                    (w.lane, w.job)
                }));
                // Much is better written while the last is committed.
                last = if octets < SOON { added } else { 0 };
            }
            Err(e) => {
                tracing::error!(error = %e, "packs cannot be written");
                current.seal(packs);
                for w in batch {
                    w.job.finish(Err(e.clone()));
                }
            }
        }
        drop(coming);
    }
    current.seal(packs);
}

/// Adds to a batch what waits.
fn gather(waiting: &mpsc::Receiver<Waiting>, batch: &mut Vec<Waiting>, octets: &mut u64) {
    while *octets < BATCH
        && let Ok(more) = waiting.try_recv()
    {
        *octets += more.octets();
        batch.push(more);
    }
}

/// The packs being appended to, one a class.
#[derive(Default)]
struct Current {
    open: HashMap<Class, Open>,
    /// They have room ahead of their records: not where other machines read them, which may know the zeros there for longer than
    /// they stand.
    grows: bool,
}

struct Open {
    number: u32,
    file: Pin,
    /// Where the next record begins.
    end: u64,
    /// Up to here all is synced.
    synced: u64,
    /// Up to here the file has room: zeros, behind the records.
    room: u64,
}

/// Where the staged bytes of a job went.
#[derive(Clone, Default)]
pub(crate) struct Placed {
    /// In the order staged.
    pub(crate) blobs: Vec<BlobId>,
    /// Held until the job is done.
    pub(crate) pins: Vec<Pin>,
}

impl Placed {
    pub(crate) fn add(&mut self, blob: BlobId, pin: &Pin) {
        self.blobs.push(blob);
        self.pins.push(pin.clone());
    }
}

impl Current {
    /// Writes and syncs the batch; gives the places for each of its members.
    fn append(&mut self, packs: &Packs, batch: &[Waiting]) -> Result<Vec<Placed>> {
        let mut places: Vec<Placed> = batch.iter().map(|_| Placed::default()).collect();
        for class in [Class::Lasting, Class::Transit] {
            let mut records = Vec::new();
            for (w, placed) in batch.iter().zip(&mut places) {
                for s in w.staged.iter().filter(|s| s.class == class) {
                    let open = self.open(packs, class)?;
                    placed.add(id(open.number, open.end), &open.file);
                    open.end = s.header.next(open.end).unwrap_or(open.end);
                    records.push((s.header.bytes(), s));
                }
            }
            if !records.is_empty() {
                let open = self.open.get_mut(&class).ok_or(Error::Closed)?;
                open.write(&records, self.grows)?;
                if open.end >= packs.full(class)
                    && let Some(open) = self.open.remove(&class)
                {
                    open.cut();
                }
            }
        }
        Ok(places)
    }

    fn open(&mut self, packs: &Packs, class: Class) -> Result<&mut Open> {
        match self.open.entry(class) {
            std::collections::hash_map::Entry::Occupied(e) => Ok(e.into_mut()),
            std::collections::hash_map::Entry::Vacant(e) => {
                let (number, file) = packs.create(class)?;
                // `create` wrote the magic at a position; appending goes on behind it.
                std::io::Seek::seek(&mut &*file, std::io::SeekFrom::Start(Header::FIRST))
                    .map_err(|e| Error::io("making a pack", e))?;
                let first = Header::FIRST;
                Ok(e.insert(Open { number, file, end: first, synced: first, room: first }))
            }
        }
    }

    /// Nothing more is written to these packs. What of them is of no use gives its room back: on a full disk it counts.
    fn seal(&mut self, packs: &Packs) {
        for (class, open) in self.open.drain() {
            if open.synced == Header::FIRST {
                packs.discard(open.number, class);
            } else {
                open.cut();
            }
        }
    }
}

impl Open {
    /// What is behind the records that were synced gives its room back.
    fn cut(&self) {
        if let Err(e) = self.file.set_len(self.synced) {
            tracing::warn!(pack = self.number, error = %e, "the end of a pack could not be cut off");
        }
    }

    /// Room for the records to come, where those of now are few; without it they are only synced more slowly.
    fn grow(&mut self) {
        if self.end <= self.room {
            return;
        }
        let ahead = self.end.clamp(LEAST_AHEAD, MOST_AHEAD) as usize;
        let is_large = self.end - self.synced > LARGE;
        let grown = !is_large && self.file.write_all_at(&ZEROS[..ahead], self.end).is_ok();
        self.room = if grown { self.end + ahead as u64 } else { self.end };
    }

    /// One write (as far as the kernel takes it at once) for all that is in memory, and one sync for all records.
    fn write(&mut self, records: &[([u8; Header::LEN], &Staged)], grows: bool) -> Result<()> {
        const PADDING: [u8; 8] = [0; 8];
        let mut slices = Vec::with_capacity(records.len() * 3);
        for (header, staged) in records {
            slices.push(IoSlice::new(header));
            match &staged.place {
                Place::Memory(bytes) => slices.push(IoSlice::new(bytes)),
                Place::Spool(spool) => {
                    self.write_all(&mut slices)?;
                    self.copy(spool, &staged.header)?;
                }
            }
            slices.push(IoSlice::new(&PADDING[..(staged.header.length.wrapping_neg() % 8) as usize]));
        }
        self.write_all(&mut slices)?;
        if grows {
            self.grow();
        }
        self.file.sync_data().map_err(|e| Error::io("syncing a pack", e))?;
        self.synced = self.end;
        Ok(())
    }

    /// Leaves `slices` empty.
    fn write_all(&self, slices: &mut Vec<IoSlice<'_>>) -> Result<()> {
        let mut rest = &mut slices[..];
        // Empty ones in front, which nothing would come of.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            match (&*self.file).write_vectored(rest) {
                Ok(0) => return Err(Error::io("writing a pack", "the disk takes no more")),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("writing a pack", e)),
            }
        }
        slices.clear();
        Ok(())
    }

    /// What the disk failed to keep of a spool, the kernel may have forgotten: only bytes that are those that came are
    /// taken.
    fn copy(&self, spool: &File, header: &Header) -> Result<()> {
        let written = |e| Error::io("writing a pack", e);
        match header.stream(spool, 0, |_, piece| (&*self.file).write_all(piece).map_err(written))? {
            Bytes::Whole => Ok(()),
            Bytes::Damaged => Err(Error::io("reading a large mail", "it is not what came")),
            Bytes::Unreadable(e) => Err(Error::io("reading a large mail", e)),
        }
    }
}
