//! Writing a snapshot: blocks are packed and appended under a temporary name; then it is sealed,
//! read back, and only then given the name under which it counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{Footer, HEAD_BYTES, Head, Header, MAX_BLOCK_BYTES};
use super::reader::{KEPT_BYTES, SnapshotReader};
use super::{SnapshotError, SnapshotStore, StoredBlock, at_path, install};
use crate::units::Lsn;
use crate::wal::disk::{Disk, DiskFile};
use crate::wal::record::ChainPoint;

/// Bytes written between two syncs: the log's next sync may have to wait for all of them. A slow disk
/// writes so many in some milliseconds.
const SYNC_BYTES: u64 = 1 << 20;

/// A snapshot being written.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    begin: Lsn,
    header_crc: u32,
    so_far: Footer,
    unsynced: u64,
    packed: Vec<u8>,
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("path", &self.path)
            .field("so_far", &self.so_far)
            .finish_non_exhaustive()
    }
}

impl SnapshotStore {
    /// Starts a snapshot of what follows `begin`. There is one at a time: what an earlier one left
    /// unfinished is removed.
    ///
    /// # Errors
    /// The disk.
    pub fn create(
        &self,
        cluster: u128,
        begin: ChainPoint,
    ) -> Result<SnapshotWriter, SnapshotError> {
        self.remove_unfinished()?;
        let path = self.dir.join(format!("{}.tmp", begin.lsn));
        let file = self.disk.open(&path, true).map_err(at_path(&path))?;
        let (header, crc) = Header::encode(cluster, begin);
        file.set_len(0)
            .and_then(|()| file.write_at(&header, 0))
            .map_err(at_path(&path))?;
        Ok(SnapshotWriter {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            path,
            file,
            begin: begin.lsn,
            header_crc: crc,
            so_far: Footer {
                blocks: 0,
                end: begin.lsn,
                at: header.len() as u64,
                keys: 0,
                raw_bytes: 0,
                chain: crc,
                crc: 0,
            },
            unsynced: 0,
            packed: Vec::new(),
        })
    }
}

impl SnapshotWriter {
    /// Appends one block of `keys` effects, packed where that makes it smaller.
    ///
    /// # Errors
    /// The disk; a block that is empty or above [`MAX_BLOCK_BYTES`].
    pub fn block(&mut self, payload: &[u8], keys: u32) -> Result<(), SnapshotError> {
        if payload.is_empty() || payload.len() > MAX_BLOCK_BYTES {
            return Err(SnapshotError::Bad {
                path: self.path.clone(),
                what: format!("a block of {} bytes cannot be written", payload.len()),
            });
        }
        let room = lz4_flex::block::get_maximum_output_size(payload.len());
        self.packed.resize(room, 0);
        let body = match lz4_flex::block::compress_into(payload, &mut self.packed) {
            Ok(len) if len < payload.len() => &self.packed[..len],
            _ => payload,
        };
        let head = Head::new(self.so_far.chain, payload.len() as u32, keys, body);
        let at = self.so_far.at;
        self.file
            .write_at(&head.encode(), at)
            .and_then(|()| self.file.write_at(body, at + HEAD_BYTES as u64))
            .map_err(at_path(&self.path))?;
        let written = (HEAD_BYTES + body.len()) as u64;
        self.so_far.at += written;
        self.so_far.chain = head.crc;
        self.so_far.blocks += 1;
        self.so_far.keys += u64::from(keys);
        self.so_far.raw_bytes += payload.len() as u64;
        self.unsynced += written;
        if self.packed.capacity() > KEPT_BYTES {
            self.packed = Vec::new();
        }
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data().map_err(at_path(&self.path))?;
        }
        Ok(())
    }

    /// Completes it, its walk having ended at `end`, and makes it durable. It does not count yet.
    pub fn seal(self, end: Lsn) -> Result<SealedSnapshot, SnapshotError> {
        let footer = Footer { end, ..self.so_far };
        let written = self
            .file
            .write_at(&footer.encode(self.header_crc), footer.at);
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // On a full disk it would take the room that is lacking, until the next attempt.
            let _ = self.disk.remove(&self.path);
            return Err(at_path(&self.path)(error));
        }
        Ok(SealedSnapshot {
            disk: self.disk,
            dir: self.dir,
            path: self.path,
            begin: self.begin,
            end,
        })
    }

    /// Completes it, reads it back, and makes it count.
    pub fn finish(self, end: Lsn) -> Result<PathBuf, SnapshotError> {
        let sealed = self.seal(end)?;
        let (mut reader, mut block) = (sealed.reader()?, StoredBlock::default());
        let mut room = Vec::new();
        while reader.next_block(&mut block)? {
            block.unpack(&mut room).map_err(|what| SnapshotError::Bad {
                path: sealed.path.clone(),
                what,
            })?;
        }
        sealed.install()
    }

    /// Gives it up.
    pub fn abandon(self) -> Result<(), SnapshotError> {
        self.disk.remove(&self.path).map_err(at_path(&self.path))
    }
}

/// A snapshot that is whole and durable, and counts once it has its name.
pub struct SealedSnapshot {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    begin: Lsn,
    end: Lsn,
}

impl std::fmt::Debug for SealedSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedSnapshot")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SealedSnapshot {
    /// The file, under its temporary name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it back, from the disk where the operating system lets one.
    pub fn reader(&self) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(self.disk.as_ref(), &self.path).map(SnapshotReader::from_disk)
    }

    /// Gives it its name, durably: from here on it counts.
    pub fn install(self) -> Result<PathBuf, SnapshotError> {
        let disk = self.disk.as_ref();
        install(disk, &self.dir, &self.path, self.begin, self.end)
    }

    /// Gives it up.
    pub fn remove(self) -> Result<(), SnapshotError> {
        self.disk.remove(&self.path).map_err(at_path(&self.path))
    }
}
