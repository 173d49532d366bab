//! A snapshot that arrives from a peer: into a file named after what it will be, so that a copy
//! that broke off, even by this process's death, goes on where it was.
//!
//! What is there already is never believed: on resuming, every block is checked and the file cut
//! behind the last good one; once all is there, the whole is checked before it counts.

use std::path::PathBuf;
use std::sync::Arc;

use super::format::FOOTER_BYTES;
use super::reader::{SnapshotReader, intact_bytes};
use super::{SnapshotError, SnapshotInfo, SnapshotStore, StoredBlock, at_path};
use crate::units::Lsn;
use crate::wal::disk::{Disk, DiskFile};

const PART: &str = ".part";

/// Bytes written between two syncs. Nobody waits for this node's log meanwhile.
const SYNC_BYTES: u64 = 16 << 20;

/// Which snapshot: two with equal keys have the same bytes. Both LSNs are stated because it is fuzzy
/// (R30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotKey {
    /// LSN at which its walk began: replay starts behind it.
    pub begin: Lsn,
    /// LSN at which its walk ended: the state is exact once replay has passed it.
    pub end: Lsn,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// [`SnapshotInfo::id`].
    pub id: u64,
}

impl SnapshotInfo {
    /// Which snapshot this is.
    pub fn key(&self) -> SnapshotKey {
        SnapshotKey {
            begin: self.begin.lsn,
            end: self.end,
            bytes: self.bytes,
            id: self.id,
        }
    }
}

/// A snapshot arriving from a peer.
pub struct SnapshotReceiver {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    key: SnapshotKey,
    held: u64,
    unsynced: u64,
}

impl std::fmt::Debug for SnapshotReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReceiver")
            .field("path", &self.path)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl SnapshotStore {
    /// Takes a snapshot that arrives as raw bytes from a peer; goes on with what is held of exactly
    /// this one. Parts of others are removed.
    ///
    /// # Errors
    /// The disk; a length that no snapshot has.
    pub fn receive(&self, key: SnapshotKey) -> Result<SnapshotReceiver, SnapshotError> {
        let SnapshotKey { begin, end, .. } = key;
        let name = format!(
            "{:020}-{:020}-{}-{:016x}{PART}",
            begin.0, end.0, key.bytes, key.id
        );
        let path = self.dir.join(&name);
        if key.bytes < FOOTER_BYTES as u64 {
            return Err(SnapshotError::Bad {
                path,
                what: format!("no snapshot has {} bytes", key.bytes),
            });
        }
        self.remove_parts(Some(&name))?;
        let file = self.disk.open(&path, true).map_err(at_path(&path))?;
        let held = intact_bytes(file.as_ref(), &path, key.bytes)?;
        file.set_len(held).map_err(at_path(&path))?;
        Ok(SnapshotReceiver {
            disk: Arc::clone(&self.disk),
            path,
            file,
            key,
            held,
            unsynced: 0,
        })
    }

    /// Removes what is left of copies that broke off: this node needs none any more.
    ///
    /// # Errors
    /// The disk.
    pub fn forget_parts(&self) -> Result<(), SnapshotError> {
        self.remove_parts(None)
    }

    fn remove_parts(&self, but: Option<&str>) -> Result<(), SnapshotError> {
        for name in self.disk.list(&self.dir).map_err(at_path(&self.dir))? {
            if name.ends_with(PART) && Some(&name[..]) != but {
                let path = self.dir.join(name);
                self.disk.remove(&path).map_err(at_path(&path))?;
            }
        }
        Ok(())
    }
}

impl SnapshotReceiver {
    /// Bytes that are held: the next to come is the one behind them.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Appends the next raw bytes.
    ///
    /// # Errors
    /// The disk; more bytes than the snapshot has.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let len = bytes.len() as u64;
        if len > self.key.bytes - self.held {
            return Err(self.bad("the snapshot is longer than offered"));
        }
        self.file
            .write_at(bytes, self.held)
            .map_err(at_path(&self.path))?;
        self.held += len;
        self.unsynced += len;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data().map_err(at_path(&self.path))?;
        }
        Ok(())
    }

    fn bad(&self, what: &str) -> SnapshotError {
        SnapshotError::Bad {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// Makes it durable and checks the whole. It does not count yet. Bytes that are bad are
    /// removed: the next attempt begins anew.
    ///
    /// # Errors
    /// The disk; damage; another snapshot than was offered.
    pub fn verify(self) -> Result<FullCopy, SnapshotError> {
        self.file.sync_data().map_err(at_path(&self.path))?;
        let checked = self.check();
        if let Err(SnapshotError::Bad { .. } | SnapshotError::OtherVersion { .. }) = &checked {
            self.disk.remove(&self.path).map_err(at_path(&self.path))?;
        }
        checked.map(|info| FullCopy {
            info,
            path: self.path,
        })
    }

    fn check(&self) -> Result<SnapshotInfo, SnapshotError> {
        let mut reader = SnapshotReader::open(self.disk.as_ref(), &self.path)?;
        let info = reader.info();
        if info.key() != self.key {
            return Err(self.bad("this is not the snapshot that was offered"));
        }
        let (mut block, mut room) = (StoredBlock::default(), Vec::new());
        while reader.next_block(&mut block)? {
            block.unpack(&mut room).map_err(|what| self.bad(&what))?;
        }
        Ok(info)
    }
}

/// A whole copy from a peer, checked and durable, that does not count yet.
#[derive(Debug)]
pub struct FullCopy {
    /// What it holds.
    pub info: SnapshotInfo,
    pub(super) path: PathBuf,
}
