//! Room on the disk: what is kept back for when there is none, and what is known of the lack of it.
//!
//! A full disk is no broken disk. Room is asked for at a few known places, before anything is
//! written there: the next segment, and whatever is replaced or saved as a whole. When it is
//! refused there, nothing was written, nothing is lost, and asking again is safe. A write or a sync
//! that fails closes the log for good, whatever the reason (R3): that is not decided here.
//!
//! Promises: the reserve holds nothing but room, and is given up only to something that was refused
//! room; half-made files do not stay and take more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;

use super::disk::Disk;

/// Bytes kept back for control state (twice 64 KiB, written beside the old one), the history (a
/// thousand reports are about 1.5 MiB, written beside the old one) and what a rejoin discards.
pub const RESERVE_BYTES: u64 = 4 << 20;

/// Until room is asked for again, unless something was removed before.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Whether the disk refused for lack of room, and for no other reason.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// There is no room for this record. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DiskFull(pub Arc<str>);

/// How a log stands with its disk's room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// What was refused room and what to do about it; `None` when nothing was.
    pub full: Option<Arc<str>>,
    /// For how long.
    pub full_for: Duration,
    /// Bytes that may still be appended meanwhile; without meaning when it is not full.
    pub left_bytes: u64,
    /// The next segment is there already.
    pub spare: bool,
}

/// The log was refused room.
#[derive(Debug)]
pub(super) struct Full {
    pub(super) since: Duration,
    pub(super) why: Arc<str>,
    /// When to ask again.
    pub(super) again_at: Duration,
    /// A group that is in memory waits for a segment: nothing more is taken.
    pub(super) stuck: bool,
}

impl Full {
    /// How long until room is asked for again.
    pub(super) fn wait(&self, now: Duration) -> Option<Duration> {
        let left = self.again_at.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

/// Room kept back on a disk: one preallocated file.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    held: AtomicBool,
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserve")
            .field("path", &self.path)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Reserve {
    /// The reserve of a data directory, made if there is room; without it everything works until
    /// the disk is full.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Reserve {
        let reserve = Reserve {
            disk,
            path: dir.join("reserve"),
            held: AtomicBool::new(false),
        };
        // Whoever needs it asks again.
        let _ = reserve.make();
        reserve
    }

    /// Whether it is there.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, if it is not there.
    ///
    /// # Errors
    /// The disk, [`is_full`] among others; then no part of it is left.
    pub fn make(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let made = self
            .disk
            .open(&self.path, true)
            .and_then(|file| file.allocate(RESERVE_BYTES));
        if made.is_err() {
            // A part would only take the room that others wait for.
            let _ = self.disk.remove(&self.path);
        }
        made?;
        self.held.store(true, Ordering::Release);
        Ok(())
    }

    /// Asks the disk for room; where it has none, gives the reserve up and asks once more. `ask`
    /// must leave nothing behind that matters when it fails for lack of room.
    ///
    /// # Errors
    /// As `ask` the last time.
    pub fn spend<T>(&self, mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        match ask() {
            Err(error) if is_full(&error) && self.held.swap(false, Ordering::AcqRel) => {
                self.disk.remove(&self.path)?;
                ask()
            }
            asked => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::sim_disk::SimDisk;

    fn reserve(disk: &SimDisk) -> Reserve {
        Reserve::open(Arc::new(disk.clone()), Path::new("/data"))
    }

    #[test]
    fn it_is_given_up_to_what_was_refused_room_and_made_again() {
        let disk = SimDisk::new();
        let reserve = self::reserve(&disk);
        assert!(reserve.is_held());
        assert_eq!(disk.used_bytes(), RESERVE_BYTES);
        disk.set_capacity(Some(RESERVE_BYTES + 10));
        let path = Path::new("/data/file");
        let ask = |bytes: u64| {
            let file = disk.open(path, true)?;
            file.allocate(bytes)
        };
        reserve.spend(|| ask(10)).unwrap();
        assert!(reserve.is_held(), "there was room");
        reserve.spend(|| ask(100)).unwrap();
        assert!(!reserve.is_held());
        let refused = reserve.make().unwrap_err();
        assert!(is_full(&refused), "{refused}");
        assert_eq!(disk.used_bytes(), 100, "no part of it is left");
        disk.remove(path).unwrap();
        reserve.make().unwrap();
        assert!(reserve.is_held());
    }

    #[test]
    fn it_does_not_go_for_another_reason_and_a_start_finds_it() {
        let disk = SimDisk::new();
        let reserve = self::reserve(&disk);
        let failed = reserve.spend(|| Err::<(), _>(io::Error::from_raw_os_error(5)));
        assert_eq!(failed.unwrap_err().raw_os_error(), Some(5));
        assert!(reserve.is_held());
        disk.set_capacity(Some(RESERVE_BYTES));
        assert!(self::reserve(&disk).is_held(), "a full disk has it still");
        let full = SimDisk::new();
        full.set_capacity(Some(RESERVE_BYTES - 1));
        let reserve = self::reserve(&full);
        assert!(!reserve.is_held());
        let refused = reserve.spend(|| Err::<(), _>(io::Error::from_raw_os_error(28)));
        assert!(is_full(&refused.unwrap_err()));
    }
}
