//! Room on the disk. It is probed at the start, and looked at every second: before the disk is entirely full, new mail is
//! refused. What is kept in reserve is for reading, flagging, deleting and expunging, for the database's log, and for
//! compaction, which gives the room of deleted mail back.

use std::fs::OpenOptions;
use std::io::{Error as IoError, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::blob::{SPOOL, remove};
use crate::{Error, Options, Result};

/// From one look to the next. The reserve has to last so long.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Octets that our user may still write to the disk on which `path` is.
///
/// # Errors
/// What the system said.
pub fn free_space(path: &Path) -> std::io::Result<u64> {
    let found = nix::sys::statvfs::statvfs(path)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// Whether there is room for new mail.
pub(crate) struct Space {
    /// The data directory and that of the packs, which may be on a disk of its own.
    dirs: [PathBuf; 2],
    reserve: u64,
    free: fn(&Path) -> std::io::Result<u64>,
    full: AtomicBool,
}

impl Space {
    /// Looks for the first time.
    pub(crate) fn open(options: &Options, packs: &Path) -> Self {
        let dirs = [options.dir.clone(), packs.to_owned()];
        let space = Space { dirs, reserve: options.reserve, free: options.free_space, full: AtomicBool::new(false) };
        space.look();
        space
    }

    /// Looks how much is free; a change is told in the log. A disk that does not say is taken as it was. One that was full
    /// is well again with an eighth more than the reserve: else the first mails would make it full again.
    pub(crate) fn look(&self) {
        let again = self.reserve.saturating_add(self.reserve / 8);
        let least = if self.full.load(Ordering::Relaxed) { again } else { self.reserve };
        for dir in &self.dirs {
            match (self.free)(dir) {
                Ok(free) if free < least => {
                    if !self.full.swap(true, Ordering::Relaxed) {
                        let (dir, reserve) = (dir.display(), self.reserve);
                        tracing::error!(%dir, free, reserve, again, "the disk is nearly full: new mail is refused until an \
                             eighth more than [store] reserve_octets is free; make room, or give it a larger disk");
                    }
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    return tracing::debug!(dir = %dir.display(), %error, "the disk does not say what is free");
                }
            }
        }
        if self.full.swap(false, Ordering::Relaxed) {
            tracing::info!("there is room on the disk again: new mail is taken");
        }
    }

    /// Whether new mail may be taken.
    pub(crate) fn check(&self) -> Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(Error::Full) } else { Ok(()) }
    }
}

/// Shows that files in `dir` can be made, written, synced and taken away. What a crash leaves of it goes as spools do.
pub(crate) fn probe(dir: &Path) -> Result<()> {
    let path = dir.join(format!("probe.{SPOOL}"));
    let tried = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
        remove(&path)?;
        written
    };
    tried().map_err(|e| Error::io(format_args!("{} cannot be written to", dir.display()), advice(&e)))
}

fn advice(e: &IoError) -> String {
    let what = match e.kind() {
        ErrorKind::PermissionDenied => "it must belong to the user the server runs as (chown -R)",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on that disk",
        ErrorKind::ReadOnlyFilesystem => "mount that disk for writing",
        _ => return e.to_string(),
    };
    format!("{e}: {what}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    static FREE: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn trap_32_a_disk_at_its_reserve_is_not_full_and_well_in_turn() {
        let free = |_: &Path| Ok(FREE.load(Ordering::Relaxed));
        let space = Space { dirs: Default::default(), reserve: 1000, free, full: AtomicBool::new(false) };
        for (octets, full) in [(1000, false), (999, true), (1000, true), (1124, true), (1125, false), (1000, false)] {
            FREE.store(octets, Ordering::Relaxed);
            space.look();
            assert_eq!(space.check().is_err(), full, "{octets} free");
        }
    }
}
