//! Snapshot files: `snapshot/<begin>-<end>.snap`. Blocks of opaque bytes, packed with LZ4, each
//! checksummed; the file counts only once it is complete, synced, read back and renamed.
//!
//! A snapshot is fuzzy: it says the LSN at which its walk began (replay starts behind it) and the
//! one at which the walk ended (it is exact once replay has passed that). Whoever makes one
//! finishes it only when everything up to the end is synced and released (R30).
//!
//! Never is more than one block in memory, and never is a length believed before its checksum: a
//! snapshot of 60 GB passes through in a few megabytes. A single block is larger only where a
//! single value is.

mod format;
mod reader;
mod received;
mod writer;

pub use format::MAX_BLOCK_BYTES;
pub use reader::{SnapshotReader, StoredBlock};
pub use received::{FullCopy, SnapshotKey, SnapshotReceiver};
pub use writer::{SealedSnapshot, SnapshotWriter};

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::disk::Disk;
use super::record::ChainPoint;
use crate::units::Lsn;

/// How a snapshot that counts is called, and a full copy that replaces everything.
const SNAPSHOT: &str = ".snap";
const FULL_COPY: &str = "copy.full";
/// Says that log and snapshots count no more.
const VOID: &str = "void";
/// Ends the name of a snapshot that was found damaged.
const ASIDE: &str = ".bad";

/// What a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The cluster whose data this is.
    pub cluster: u128,
    /// Where its walk began; replay starts behind it.
    pub begin: ChainPoint,
    /// Where its walk ended; exact once replay has passed it.
    pub end: Lsn,
    /// Its blocks.
    pub blocks: u32,
    /// Its keys.
    pub keys: u64,
    /// Bytes of all blocks before they were packed.
    pub raw_bytes: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Made of all its checksums: two snapshots with the same have the same content, unless someone
    /// crafted them.
    pub id: u64,
}

/// Why a snapshot was not written or read.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The disk refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The bytes are not a whole, intact snapshot.
    #[error("{}: {what}", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It is intact, but of a format version that this program does not read.
    #[error("{}: {what}", path.display())]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Which, and what to do.
        what: String,
    },
}

/// The snapshots of one node.
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

fn at_path(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError + '_ {
    move |source| SnapshotError::Io {
        path: path.to_path_buf(),
        source,
    }
}

impl SnapshotStore {
    /// The snapshots below `data_dir`; what a crash left unfinished is removed, but for the parts of
    /// copies from a peer, which can go on.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<SnapshotStore, SnapshotError> {
        let dir = data_dir.join("snapshot");
        disk.create_dir_all(&dir).map_err(at_path(&dir))?;
        let store = SnapshotStore { disk, dir };
        store.remove_unfinished()?;
        let (disk, dir) = (store.disk.as_ref(), &store.dir);
        // A snapshot may have got its name from a process that died before the name was durable;
        // the log must not be shortened for the sake of one that a power cut takes.
        disk.sync_dir(dir).map_err(at_path(dir))?;
        store.finish_replacing(data_dir)?;
        Ok(store)
    }

    /// The same for looking only: nothing is made, removed or finished. For a directory that another
    /// process may be using.
    pub fn beside(disk: Arc<dyn Disk>, data_dir: &Path) -> SnapshotStore {
        let dir = data_dir.join("snapshot");
        SnapshotStore { disk, dir }
    }

    fn remove_unfinished(&self) -> Result<(), SnapshotError> {
        for name in self.disk.list(&self.dir).map_err(at_path(&self.dir))? {
            if name.ends_with(".tmp") {
                let path = self.dir.join(name);
                self.disk.remove(&path).map_err(at_path(&path))?;
            }
        }
        Ok(())
    }

    /// Goes on where a crash interrupted the replacing of everything by a full copy.
    fn finish_replacing(&self, data_dir: &Path) -> Result<(), SnapshotError> {
        let names = self.disk.list(&self.dir).map_err(at_path(&self.dir))?;
        let copied = names.iter().any(|name| name == FULL_COPY);
        let void = names.iter().any(|name| name == VOID);
        if !copied && !void {
            return Ok(());
        }
        let wal = data_dir.join("wal");
        for name in self.disk.list(&wal).map_err(at_path(&wal))? {
            let path = wal.join(name);
            self.disk.remove(&path).map_err(at_path(&path))?;
        }
        self.disk.sync_dir(&wal).map_err(at_path(&wal))?;
        if void {
            self.forget_all()?;
        }
        if copied {
            self.settle()?;
        }
        Ok(())
    }

    /// Begins and ends of the finished snapshots, oldest first.
    pub fn list(&self) -> Result<Vec<(Lsn, Lsn, PathBuf)>, SnapshotError> {
        let names = self.disk.list(&self.dir).map_err(at_path(&self.dir))?;
        let parse = |name: &String| {
            let (begin, end) = lsns_of(name)?;
            Some((begin, end, self.dir.join(name)))
        };
        let mut found: Vec<_> = names.iter().filter_map(parse).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Opens a finished snapshot, its header and footer checked.
    ///
    /// # Errors
    /// The disk; damage; another version.
    pub fn reader(&self, path: &Path) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(self.disk.as_ref(), path)
    }

    /// What a snapshot says about itself, by header and footer alone.
    ///
    /// # Errors
    /// The disk; damage there; another version.
    pub fn describe(&self, path: &Path) -> Result<SnapshotInfo, SnapshotError> {
        self.reader(path).map(|reader| reader.info())
    }

    /// Reads and checks a snapshot, giving the bytes of each block to `visit`.
    ///
    /// # Errors
    /// The disk; damage; another version; those of `visit`.
    pub fn read(
        &self,
        path: &Path,
        mut visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let mut reader = self.reader(path)?;
        let (mut block, mut room) = (StoredBlock::default(), Vec::new());
        while reader.next_block(&mut block)? {
            let checked = block.unpack(&mut room);
            checked
                .and_then(&mut visit)
                .map_err(|what| SnapshotError::Bad {
                    path: path.to_path_buf(),
                    what,
                })?;
        }
        Ok(reader.info())
    }

    /// Takes a damaged snapshot out of those that count, durably, and keeps its bytes under a name
    /// of their own, which is returned.
    ///
    /// # Errors
    /// The disk.
    pub fn set_aside(&self, path: &Path) -> Result<PathBuf, SnapshotError> {
        let mut name = path.as_os_str().to_owned();
        name.push(ASIDE);
        let aside = PathBuf::from(name);
        self.disk
            .rename(path, &aside)
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(at_path(&aside))?;
        Ok(aside)
    }

    /// Removes what was set aside and began before `oldest`; how many files.
    ///
    /// # Errors
    /// The disk.
    pub fn forget_aside(&self, oldest: Lsn) -> Result<usize, SnapshotError> {
        let mut removed = 0;
        for name in self.disk.list(&self.dir).map_err(at_path(&self.dir))? {
            let begin = name.strip_suffix(ASIDE).and_then(lsns_of);
            if begin.is_some_and(|(begin, _)| begin < oldest) {
                let path = self.dir.join(name);
                self.disk.remove(&path).map_err(at_path(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// A full copy replaces log and snapshots in two steps. The first is this: from here on, the
    /// log and every other snapshot are void, and a start removes what is left of them. (A crash
    /// between the copy's name and the log's removal once left a node with a log that ended before
    /// its snapshot began: it refused to start.)
    ///
    /// The name is always the same, so that a second copy takes the place of one whose second step
    /// failed. (With a name each, the older was once taken for the newer.)
    pub fn void_all_but(&self, copy: &FullCopy) -> Result<(), SnapshotError> {
        let path = self.dir.join(FULL_COPY);
        self.disk
            .rename(&copy.path, &path)
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(at_path(&path))
    }

    /// Log and snapshots are void, durably, from here on: what they hold was taken back, and only a
    /// full copy can replace it. The first step; a start removes what is left of them.
    pub fn void_all(&self) -> Result<(), SnapshotError> {
        let path = self.dir.join(VOID);
        self.disk
            .open(&path, true)
            .and_then(|file| file.sync_data())
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(at_path(&path))
    }

    /// The second step, the log being gone.
    pub fn forget_all(&self) -> Result<(), SnapshotError> {
        for (_, _, path) in self.list()? {
            self.disk.remove(&path).map_err(at_path(&path))?;
        }
        self.disk.sync_dir(&self.dir).map_err(at_path(&self.dir))?;
        let path = self.dir.join(VOID);
        self.disk
            .remove(&path)
            .and_then(|()| self.disk.sync_dir(&self.dir))
            .map_err(at_path(&path))
    }

    /// The second step, the log being gone: the other snapshots go, and the copy is a snapshot.
    pub fn settle(&self) -> Result<PathBuf, SnapshotError> {
        let copy = self.dir.join(FULL_COPY);
        let info = self.describe(&copy)?;
        for (_, _, path) in self.list()? {
            self.disk.remove(&path).map_err(at_path(&path))?;
        }
        self.disk.sync_dir(&self.dir).map_err(at_path(&self.dir))?;
        let (begin, end) = (info.begin.lsn, info.end);
        install(self.disk.as_ref(), &self.dir, &copy, begin, end)
    }

    /// Removes every snapshot but the newest `keep` and those in `held`.
    pub fn prune(&self, keep: usize, held: &[PathBuf]) -> Result<(), SnapshotError> {
        let found = self.list()?;
        let extra = found.len().saturating_sub(keep);
        for (_, _, path) in found.into_iter().take(extra) {
            if !held.contains(&path) {
                self.disk.remove(&path).map_err(at_path(&path))?;
            }
        }
        self.disk.sync_dir(&self.dir).map_err(at_path(&self.dir))
    }
}

impl SnapshotStore {
    /// Removes the newest `count` snapshots, durably: they hold what was taken back (R29).
    pub fn remove_newest(&self, count: usize) -> Result<(), SnapshotError> {
        for (_, _, path) in self.list()?.into_iter().rev().take(count) {
            self.disk.remove(&path).map_err(at_path(&path))?;
        }
        self.disk.sync_dir(&self.dir).map_err(at_path(&self.dir))
    }
}

/// Begin and end of a snapshot, by its name.
fn lsns_of(name: &str) -> Option<(Lsn, Lsn)> {
    let (begin, end) = name.strip_suffix(SNAPSHOT)?.split_once('-')?;
    Some((Lsn(begin.parse().ok()?), Lsn(end.parse().ok()?)))
}

fn install(
    disk: &dyn Disk,
    dir: &Path,
    from: &Path,
    begin: Lsn,
    end: Lsn,
) -> Result<PathBuf, SnapshotError> {
    let path = dir.join(format!("{:020}-{:020}{SNAPSHOT}", begin.0, end.0));
    disk.rename(from, &path)
        .and_then(|()| disk.sync_dir(dir))
        .map_err(at_path(&path))?;
    Ok(path)
}
