//! Compaction: what lives in packs that are mostly dead is copied into fresh ones, and the old are deleted.
//!
//! In pieces, each in this order: copy, sync, and only then one short job that lets the rows refer to the copies. A crash
//! leaves rows that refer to either; both are there, for an old pack goes last, when a snapshot shows that nothing refers
//! to it. That snapshot is the truth for good: new references come only from jobs that hold the pack open, and a pack that
//! is looked at here was seen with nobody but [`Packs`] holding it.
//!
//! What a snapshot does not show are ids in the hands of a reader. A blob is opened in the read that read its id, so the
//! pack is deleted when all reads have ended that began before the snapshot did; who holds it open by then still reads it.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::BlobId;

use crate::blob::{BlobReader, Class};
use crate::job::{Lane, WriteJob};
use crate::pack::{self, Bytes, Header, Packs, Pin, Placed};
use crate::{Error, Result, Store, Tx};

/// Blobs that one read looks at.
const LOOK: u32 = 1000;
/// Blobs that one job moves, and after how many octets it moves no more.
const MOVE: u32 = 64;
const OCTETS: u64 = 1 << 20;
/// Rows that one job changes, so that it is short for a mail to thousands too.
const ROWS: u64 = 512;
/// A pack with less than one of so many octets alive is emptied.
const SPARSE: u64 = 2;
/// Packs smaller than one of so many of a full one are emptied too, when there are [`MANY`]: each is an open file.
const SMALL: u64 = 16;
const MANY: usize = 64;
/// How long earlier reads may take to end before the next round deletes the pack in place of this one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blobs, each with the octets of its mail.
pub type Blobs = Vec<(BlobId, u64)>;

/// What tables refer to blobs: the floor above gives the two verbs of each crate that has such.
#[derive(Clone, Copy)]
pub struct References {
    /// The blobs `from..to` that rows refer to, each once, in ascending order, at most `n`; with the octets of the mail,
    /// which are not fewer than the blob's.
    pub between: fn(tx: &mut Tx<'_>, from: BlobId, to: BlobId, n: u32) -> Result<Blobs>,
    /// Lets rows that refer to `old` refer to `new`, at most `most` of them; gives how many.
    pub repoint: fn(tx: &mut Tx<'_>, old: BlobId, new: BlobId, most: u64) -> Result<u64>,
}

/// What a round of compaction came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Packs that were deleted.
    pub packs: u64,
    /// Their octets.
    pub octets: u64,
    /// Blobs that were copied.
    pub copied: u64,
    /// Octets that were copied.
    pub copied_octets: u64,
}

/// Which reads are still running: each holds the generation it began in.
#[derive(Default)]
pub(crate) struct Generations(Mutex<Arc<()>>);

impl Generations {
    /// A read begins; it holds this to its end.
    pub(crate) fn enter(&self) -> Arc<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a new generation, and gives the old one: nobody else holds it once all its reads have ended.
    fn turn(&self) -> Arc<()> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store {
    /// Gives back dead space, if this process [keeps](crate::Options::keeps) the packs: looks at every pack of [`Class::Lasting`] that is not written to, deletes those that nothing
    /// refers to, and moves what lives in the sparse ones. `references` are all tables that refer to blobs. Blocks its
    /// thread for as long as it takes; between pieces it asks `go_on`, which may sleep, and ends early when that says no.
    ///
    /// # Errors
    /// As [`Store::read`] and [`Store::write`]. Nothing is lost then: another round goes on.
    pub fn compact(&self, references: &'static [References], go_on: &mut dyn FnMut() -> bool) -> Result<Compacted> {
        let packs = self.packs();
        packs.learn()?;
        let settled = packs.settled(Class::Lasting)?;
        let is_small = |octets: u64| octets < packs.full(Class::Lasting) / SMALL;
        let many = settled.iter().filter(|(_, octets)| is_small(*octets)).count() >= MANY;
        let (mut round, copier) =
            (Round { store: self, references, go_on, done: Compacted::default() }, &mut Copier { packs, open: None });
        // Room first: what is dead goes before anything is copied.
        let mut sparse = Vec::new();
        let outcome = settled.into_iter().try_for_each(|(number, octets)| match round.living(number, octets)? {
            0 => round.delete(number, octets),
            living if living * SPARSE < octets || (many && is_small(octets)) => {
                sparse.push((number, octets));
                Ok(())
            }
            _ => Ok(()),
        });
        let outcome = outcome.and_then(|()| {
            sparse.iter().try_for_each(|(number, octets)| {
                round.empty(*number, copier)?;
                round.delete(*number, *octets)
            })
        });
        match outcome {
            // It was told to stop.
            Ok(()) | Err(Error::Closed) => Ok(round.done),
            Err(e) => Err(e),
        }
    }
}

/// One look at all packs.
struct Round<'a> {
    store: &'a Store,
    references: &'static [References],
    go_on: &'a mut dyn FnMut() -> bool,
    done: Compacted,
}

/// Blobs that live, in ascending order, with their octets; behind `next` there may be more.
struct Living {
    blobs: Blobs,
    next: Option<BlobId>,
}

impl Round<'_> {
    fn pause(&mut self) -> Result<()> {
        if (self.go_on)() { Ok(()) } else { Err(Error::Closed) }
    }

    /// At least the octets that live in a pack; it does not count on when these are too many to matter.
    fn living(&mut self, number: u32, octets: u64) -> Result<u64> {
        let (mut from, mut living) = (Some(Packs::ids(number).start), 0);
        while let Some(at) = from
            && living * SPARSE < octets
        {
            let found = self.look(at, number, LOOK)?;
            living += found.blobs.iter().map(|(_, octets)| Header::space(*octets)).sum::<u64>();
            from = found.next;
            self.pause()?;
        }
        Ok(living)
    }

    /// At most about `n` living blobs of a pack, from an id on.
    fn look(&self, from: BlobId, number: u32, n: u32) -> Result<Living> {
        let (references, to) = (self.references, Packs::ids(number).end);
        self.store.read_blocking(move |tx| {
            let (mut blobs, mut next) = (Vec::new(), None);
            for table in references {
                let found = (table.between)(tx, from, to, n)?;
                // Behind the last of a full answer this table may have more: what others have there comes later.
                if let Some((last, _)) = found.last().filter(|_| found.len() >= n as usize) {
                    let behind = BlobId(last.0 + 1);
                    next = Some(next.map_or(behind, |next: BlobId| next.min(behind)));
                }
                blobs.extend(found);
            }
            blobs.retain(|(id, _)| next.is_none_or(|next| *id < next));
            // Of one that several tables refer to, the octets of the mail that has the longest prefix.
            blobs.sort_unstable();
            blobs.reverse();
            blobs.dedup_by_key(|(id, _)| *id);
            blobs.reverse();
            Ok(Living { blobs, next })
        })
    }

    /// Copies what lives in a pack, and lets the rows refer to the copies.
    fn empty(&mut self, number: u32, copier: &mut Copier<'_>) -> Result<()> {
        let mut from = Some(Packs::ids(number).start);
        while let Some(at) = from {
            let found = self.look(at, number, MOVE)?;
            let mut rest = &found.blobs[..];
            while !rest.is_empty() {
                rest = self.move_some(rest, copier)?;
                self.pause()?;
            }
            from = found.next;
        }
        Ok(())
    }

    /// Moves the first of `blobs`; gives those that are left.
    fn move_some<'b>(&mut self, blobs: &'b [(BlobId, u64)], copier: &mut Copier<'_>) -> Result<&'b [(BlobId, u64)]> {
        let (mut old, mut placed, mut octets, mut rest) = (Vec::new(), Placed::default(), 0, blobs);
        while let [(id, _), more @ ..] = rest
            && octets < OCTETS
        {
            rest = more;
            match copier.copy(*id, &mut || (self.go_on)())? {
                Some((copy, length)) => {
                    octets += length;
                    old.push(*id);
                    placed.add(copy.0, &copy.1);
                }
                // It stays where it is, and its pack with it: `verify` tells who misses what.
                None => tracing::error!(blob = %id, "a blob is not what was written; it is not moved"),
            }
        }
        copier.sync()?;
        (self.done.copied, self.done.copied_octets) =
            (self.done.copied + old.len() as u64, self.done.copied_octets + octets);
        self.repoint(old, &placed)?;
        Ok(rest)
    }

    /// Whoever refers to one of `old` from now on refers to its copy; in as many short jobs as it takes.
    fn repoint(&self, old: Vec<BlobId>, placed: &Placed) -> Result<()> {
        let (old, references) = (Arc::new(old), self.references);
        loop {
            let old = old.clone();
            // Rows that changed or went meanwhile are not found by the old id. What locks rows in another order is no
            // danger: one of the two is run again.
            let (mut job, wait) = WriteJob::boxed(self.store.pending(), move |tx: &mut Tx<'_>, new: &[BlobId]| {
                let mut left = ROWS;
                for (old, new) in old.iter().zip(new) {
                    for table in references {
                        left = left.saturating_sub((table.repoint)(tx, *old, *new, left)?);
                        if left == 0 {
                            return Ok(false);
                        }
                    }
                }
                Ok(true)
            });
            job.placed(placed.clone());
            self.store.queue().push(Lane::Bulk, job);
            if wait.blocking_recv().unwrap_or(Err(Error::Closed))? {
                return Ok(());
            }
        }
    }

    /// Deletes a pack that nothing refers to, unless somebody is just reading it: then a later round does.
    fn delete(&mut self, number: u32, octets: u64) -> Result<()> {
        if !self.look(Packs::ids(number).start, number, 1)?.blobs.is_empty() {
            return Ok(());
        }
        let (before, began) = (self.store.generations().turn(), Instant::now());
        while Arc::strong_count(&before) > 1 {
            if began.elapsed() > PATIENCE {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
            self.pause()?;
        }
        if self.store.packs().discard_idle(number) {
            (self.done.packs, self.done.octets) = (self.done.packs + 1, self.done.octets + octets);
        }
        Ok(())
    }
}

/// Writes copies into packs of its own: new mail does not wait for their syncs.
struct Copier<'a> {
    packs: &'a Packs,
    open: Option<Fresh>,
}

struct Fresh {
    number: u32,
    file: Pin,
    end: u64,
}

impl Copier<'_> {
    /// Copies a blob, a piece at a time; gives its new id and octets, or nothing when it cannot be read as it was written.
    fn copy(&mut self, old: BlobId, go_on: &mut dyn FnMut() -> bool) -> Result<Option<((BlobId, Pin), u64)>> {
        let Ok(blob) = BlobReader::open(self.packs, old) else { return Ok(None) };
        let fresh = match &mut self.open {
            Some(fresh) => fresh,
            none => {
                let (number, file) = self.packs.create(Class::Lasting)?;
                none.insert(Fresh { number, file, end: Header::FIRST })
            }
        };
        let written = |e| Error::io("writing a pack", e);
        let (header, start) = (blob.header(), fresh.end + Header::LEN as u64);
        let bytes = blob.stream(|at, piece| {
            fresh.file.write_all_at(piece, start + at).map_err(written)?;
            if at + (piece.len() as u64) < header.length && !go_on() { Err(Error::Closed) } else { Ok(()) }
        })?;
        if !matches!(bytes, Bytes::Whole) {
            fresh.file.set_len(fresh.end).map_err(written)?;
            return Ok(None);
        }
        fresh.file.write_all_at(&header.bytes(), fresh.end).map_err(written)?;
        let id = pack::id(fresh.number, fresh.end);
        fresh.end += Header::space(header.length);
        Ok(Some(((id, fresh.file.clone()), header.length)))
    }

    /// All copies are on disk; a pack that is full is done with. One that cannot be synced is never written to again.
    fn sync(&mut self) -> Result<()> {
        let Some(fresh) = self.open.take() else { return Ok(()) };
        fresh.file.sync_data().map_err(|e| Error::io("syncing a pack", e))?;
        self.open = Some(fresh).filter(|fresh| fresh.end < self.packs.full(Class::Lasting));
        Ok(())
    }
}
