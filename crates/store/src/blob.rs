//! Bytes on their way into a pack and out of it. Small blobs wait in memory for the group they are written with; a large
//! one waits in a spool, a file without a name, so that 50 MB cost kilobytes of memory.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::BlobId;

use crate::pack::{Bytes, Header, Packs};
use crate::{Error, Result};

/// A blob up to this size waits in memory; beyond, it is streamed to a file.
const IN_MEMORY: usize = 256 * 1024;

/// How the file of a spool ends, in the moment in which it has a name.
pub(crate) const SPOOL: &str = "spool";

/// How long bytes are likely to live: packs hold one class, so that whole files of the short-lived can be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Queue bodies.
    Transit,
    /// Mail in mailboxes.
    Lasting,
}

/// Takes the bytes of one blob as they come; made by [`crate::Store::stager`].
pub struct Stager {
    packs: Arc<Packs>,
    class: Class,
    hasher: blake3::Hasher,
    memory: Vec<u8>,
    spool: Option<File>,
    length: u64,
}

/// A blob that is complete but not yet durable: [`crate::Store::write_with`] makes it so.
pub struct Staged {
    pub(crate) class: Class,
    pub(crate) header: Header,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    Memory(Vec<u8>),
    /// A file without a name: whatever ends this, the room is given back. It need not reach the disk, as the appender
    /// copies it into a pack and syncs that.
    Spool(File),
}

impl Staged {
    /// Its first 256 KB; of most blobs that is all.
    ///
    /// # Errors
    /// [`Error::Io`] when a large blob's file cannot be read.
    pub fn beginning(&self) -> Result<Cow<'_, [u8]>> {
        match &self.place {
            Place::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::Spool(file) => {
                let mut bytes = vec![0; IN_MEMORY.min(usize::try_from(self.header.length).unwrap_or(IN_MEMORY))];
                file.read_exact_at(&mut bytes, 0).map_err(|e| Error::io("reading a large mail", e))?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// A file in `dir` that nobody else can open, and that goes with its handle.
fn spool(dir: &Path) -> std::io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Other machines may have made a name of the same process id.
    let chance = crate::postgresql::random();
    let name = format!("{}-{}-{chance:x}.{SPOOL}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = dir.join(name);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    remove(&path)?;
    Ok(file)
}

/// Takes a name away that may be gone already: whoever starts cleans up what crashes have left.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl Stager {
    pub(crate) fn new(packs: Arc<Packs>, class: Class) -> Self {
        Stager { packs, class, hasher: blake3::Hasher::new(), memory: Vec::new(), spool: None, length: 0 }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when a large blob's file cannot be written, [`Error::Full`]; the stager is of no further use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.packs.space().check()?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        if self.spool.is_none() && self.memory.len() + bytes.len() <= IN_MEMORY {
            self.memory.extend_from_slice(bytes);
            return Ok(());
        }
        self.spool(bytes).map_err(|e| Error::io("writing a large mail", e))
    }

    fn spool(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let spool = match &mut self.spool {
            Some(spool) => spool,
            none => {
                let file = spool(self.packs.dir())?;
                file.write_all_at(&std::mem::take(&mut self.memory), 0)?;
                none.insert(file)
            }
        };
        spool.write_all_at(bytes, self.length - bytes.len() as u64)
    }

    /// Octets so far.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True before the first octet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The blob is complete.
    pub fn finish(self) -> Staged {
        let header = Header { length: self.length, checksum: *self.hasher.finalize().as_bytes() };
        let place = self.spool.map_or(Place::Memory(self.memory), Place::Spool);
        Staged { class: self.class, header, place }
    }
}

/// An open blob: reads at any offset, as long as it is held.
#[derive(Clone, Debug)]
pub struct BlobReader {
    file: Arc<File>,
    id: BlobId,
    start: u64,
    header: Header,
}

impl BlobReader {
    pub(crate) fn open(packs: &Packs, id: BlobId) -> Result<Self> {
        let (file, at) = packs.find(id)?;
        let mut head = [0; Header::LEN];
        file.read_exact_at(&mut head, at).map_err(|e| Error::io(format_args!("reading blob {id}"), e))?;
        let header =
            Header::parse(&head).ok_or_else(|| Error::Corrupt(format!("blob {id}: no record there").into()))?;
        Ok(BlobReader { file, id, start: at + Header::LEN as u64, header })
    }

    pub(crate) fn header(&self) -> Header {
        self.header
    }

    /// As [`Header::stream`].
    pub(crate) fn stream(&self, take: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Bytes> {
        self.header.stream(&self.file, self.start, take)
    }

    /// Octets.
    pub fn len(&self) -> u64 {
        self.header.length
    }

    /// True for a blob of no octets.
    pub fn is_empty(&self) -> bool {
        self.header.length == 0
    }

    /// Appends the octets `from..to` (cut at the end) to `out`.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk says no.
    pub fn read(&self, from: u64, to: u64, out: &mut Vec<u8>) -> Result<()> {
        let to = to.min(self.header.length);
        let Some(length) = to.checked_sub(from).and_then(|n| usize::try_from(n).ok()) else { return Ok(()) };
        let old = out.len();
        out.resize(old + length, 0);
        self.file.read_exact_at(&mut out[old..], self.start + from).map_err(|e| {
            out.truncate(old);
            Error::io(format_args!("reading blob {}", self.id), e)
        })
    }

    /// Reads all of it in pieces and compares with the checksum it was written with.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they differ.
    pub fn verify(&self) -> Result<()> {
        match self.stream(|_, _| Ok(()))? {
            Bytes::Whole => Ok(()),
            Bytes::Damaged => Err(Error::Corrupt(format!("blob {}: checksum differs", self.id).into())),
            Bytes::Unreadable(e) => Err(Error::io(format_args!("reading blob {}", self.id), e)),
        }
    }
}
