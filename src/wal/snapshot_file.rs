//! Snapshot files: `snapshot/<begin>-<end>.snap`. Blocks of opaque bytes, each checksummed; the
//! file counts only once it is complete, synced and renamed.
//!
//! A snapshot is fuzzy: it says the LSN at which its walk began (replay starts behind it) and the
//! one at which the walk ended (it is exact once replay has passed that). Whoever makes one
//! finishes it only when everything up to the end is synced and released (R30).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use thiserror::Error;

use super::disk::{Disk, DiskFile, read_all};
use super::record::ChainPoint;
use crate::units::{Epoch, Lsn, Millis};

/// How a snapshot that counts is called, and a full copy that replaces everything.
const SNAPSHOT: &str = ".snap";
const FULL_COPY: &str = "copy.full";
/// Says that log and snapshots count no more.
const VOID: &str = "void";

const MAGIC: &[u8; 8] = b"USTYSNP\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
const FOOTER_BYTES: usize = 32;
const FOOTER_MARK: u32 = u32::MAX;

/// What a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The cluster whose data this is.
    pub cluster: u128,
    /// Where its walk began; replay starts behind it.
    pub begin: ChainPoint,
    /// Where its walk ended; exact once replay has passed it.
    pub end: Lsn,
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
    /// The snapshots below `data_dir`; what a crash left unfinished is removed.
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path) -> Result<SnapshotStore, SnapshotError> {
        let dir = data_dir.join("snapshot");
        disk.create_dir_all(&dir).map_err(at_path(&dir))?;
        for name in disk.list(&dir).map_err(at_path(&dir))? {
            if name.ends_with(".tmp") {
                let path = dir.join(name);
                disk.remove(&path).map_err(at_path(&path))?;
            }
        }
        // A snapshot may have got its name from a process that died before the name was durable;
        // the log must not be shortened for the sake of one that a power cut takes.
        disk.sync_dir(&dir).map_err(at_path(&dir))?;
        let store = SnapshotStore { disk, dir };
        store.finish_replacing(data_dir)?;
        Ok(store)
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
            let (begin, end) = name.strip_suffix(SNAPSHOT)?.split_once('-')?;
            Some((
                Lsn(begin.parse().ok()?),
                Lsn(end.parse().ok()?),
                self.dir.join(name),
            ))
        };
        let mut found: Vec<_> = names.iter().filter_map(parse).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Starts a snapshot of what follows `begin`.
    pub fn create(
        &self,
        cluster: u128,
        begin: ChainPoint,
    ) -> Result<SnapshotWriter, SnapshotError> {
        let path = self.dir.join(format!("{}.tmp", begin.lsn));
        let file = self.disk.open(&path, true).map_err(at_path(&path))?;
        let mut header = MAGIC.to_vec();
        header.put_u32_le(VERSION);
        header.put_u32_le(begin.crc);
        header.put_u128_le(cluster);
        header.put_u64_le(begin.lsn.0);
        header.put_u64_le(begin.epoch.0);
        header.put_u64_le(begin.time.0);
        header.put_u64_le(begin.offset);
        header.put_u32_le(crc32fast::hash(&header));
        header.resize(HEADER_BYTES, 0);
        file.set_len(0)
            .and_then(|()| file.write_at(&header, 0))
            .map_err(at_path(&path))?;
        Ok(SnapshotWriter {
            disk: Arc::clone(&self.disk),
            dir: self.dir.clone(),
            path,
            file,
            at: HEADER_BYTES as u64,
            blocks: 0,
            begin: begin.lsn,
        })
    }

    /// Takes a snapshot that arrives as raw bytes from a peer.
    pub fn receive(&self) -> Result<SnapshotReceiver, SnapshotError> {
        let path = self.dir.join("received.tmp");
        let file = self.disk.open(&path, true).map_err(at_path(&path))?;
        file.set_len(0).map_err(at_path(&path))?;
        Ok(SnapshotReceiver {
            disk: Arc::clone(&self.disk),
            path,
            file,
            at: 0,
        })
    }

    /// Reads and checks a snapshot, giving each block to `visit`.
    pub fn read(
        &self,
        path: &Path,
        visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let bytes = self.disk.map(path).map_err(at_path(path))?;
        parse(&bytes, visit).map_err(|what| SnapshotError::Bad {
            path: path.to_path_buf(),
            what,
        })
    }

    /// The raw bytes of a finished snapshot, for a peer.
    pub fn raw(&self, path: &Path) -> Result<bytes::Bytes, SnapshotError> {
        read_all(self.disk.as_ref(), path)
            .map(bytes::Bytes::from)
            .map_err(at_path(path))
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
        let info = self.read(&copy, |_| Ok(()))?;
        for (_, _, path) in self.list()? {
            self.disk.remove(&path).map_err(at_path(&path))?;
        }
        self.disk.sync_dir(&self.dir).map_err(at_path(&self.dir))?;
        let (begin, end) = (info.begin.lsn, info.end);
        install(self.disk.as_ref(), &self.dir, &copy, begin, end)
    }

    /// Removes every snapshot but the newest `keep`.
    pub fn prune(&self, keep: usize) -> Result<(), SnapshotError> {
        let found = self.list()?;
        let extra = found.len().saturating_sub(keep);
        for (_, _, path) in found.into_iter().take(extra) {
            self.disk.remove(&path).map_err(at_path(&path))?;
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

/// A snapshot being written.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    at: u64,
    blocks: u32,
    begin: Lsn,
}

impl SnapshotWriter {
    /// Appends one block.
    pub fn block(&mut self, payload: &[u8]) -> Result<(), SnapshotError> {
        let mut head = Vec::with_capacity(8);
        head.put_u32_le(payload.len() as u32);
        head.put_u32_le(crc32fast::hash(payload));
        let write = |bytes: &[u8], at| self.file.write_at(bytes, at);
        write(&head, self.at)
            .and_then(|()| write(payload, self.at + 8))
            .map_err(at_path(&self.path))?;
        self.at += 8 + payload.len() as u64;
        self.blocks += 1;
        Ok(())
    }

    /// Completes it, its walk having ended at `end`, and makes it count.
    pub fn finish(self, end: Lsn) -> Result<PathBuf, SnapshotError> {
        let mut footer = Vec::with_capacity(FOOTER_BYTES);
        footer.put_u32_le(FOOTER_MARK);
        footer.put_u32_le(self.blocks);
        footer.put_u64_le(end.0);
        footer.put_u64_le(self.at);
        footer.put_u32_le(crc32fast::hash(&footer));
        footer.put_u32_le(0);
        self.file
            .write_at(&footer, self.at)
            .and_then(|()| self.file.sync_data())
            .map_err(at_path(&self.path))?;
        let disk = self.disk.as_ref();
        install(disk, &self.dir, &self.path, self.begin, end)
    }

    /// Gives it up.
    pub fn abandon(self) -> Result<(), SnapshotError> {
        self.disk.remove(&self.path).map_err(at_path(&self.path))
    }
}

/// A snapshot arriving from a peer.
pub struct SnapshotReceiver {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    at: u64,
}

impl SnapshotReceiver {
    /// Appends the next raw bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.file
            .write_at(bytes, self.at)
            .map_err(at_path(&self.path))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable and checks the whole. It does not count yet.
    pub fn verify(self) -> Result<FullCopy, SnapshotError> {
        self.file.sync_data().map_err(at_path(&self.path))?;
        let bytes = self.disk.map(&self.path).map_err(at_path(&self.path))?;
        let info = parse(&bytes, |_| Ok(())).map_err(|what| SnapshotError::Bad {
            path: self.path.clone(),
            what,
        })?;
        Ok(FullCopy {
            info,
            path: self.path,
        })
    }
}

/// A whole copy from a peer, checked and durable, that does not count yet.
#[derive(Debug)]
pub struct FullCopy {
    /// What it holds.
    pub info: SnapshotInfo,
    path: PathBuf,
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

fn parse(
    bytes: &[u8],
    mut visit: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<SnapshotInfo, String> {
    let (cluster, begin) = parse_header(bytes)?;
    let footer_at = bytes.len().saturating_sub(FOOTER_BYTES).max(HEADER_BYTES);
    let (end, blocks) = parse_footer(&bytes[footer_at..], footer_at as u64)?;
    let mut rest = &bytes[HEADER_BYTES..footer_at];
    for place in 0..blocks {
        if rest.len() < 8 {
            return Err(format!("block {place} is cut short"));
        }
        let (len, crc) = (rest.get_u32_le() as usize, rest.get_u32_le());
        let Some(block) = rest.get(..len) else {
            return Err(format!("block {place} is cut short"));
        };
        if crc32fast::hash(block) != crc {
            return Err(format!("block {place} is damaged (checksum mismatch)"));
        }
        visit(block)?;
        rest = &rest[len..];
    }
    if !rest.is_empty() {
        return Err("bytes between the last block and the footer".into());
    }
    Ok(SnapshotInfo {
        cluster,
        begin,
        end,
    })
}

fn parse_header(bytes: &[u8]) -> Result<(u128, ChainPoint), String> {
    if bytes.len() < HEADER_BYTES + FOOTER_BYTES || &bytes[..8] != MAGIC {
        return Err("this is not a whole understudy snapshot".into());
    }
    let crc = crc32fast::hash(&bytes[..64]);
    let mut fields = &bytes[8..HEADER_BYTES];
    let version = fields.get_u32_le();
    if version > VERSION {
        return Err(format!(
            "format version {version} is newer than this program's {VERSION}"
        ));
    }
    let chain_crc = fields.get_u32_le();
    let cluster = fields.get_u128_le();
    let begin = ChainPoint {
        lsn: Lsn(fields.get_u64_le()),
        epoch: Epoch(fields.get_u64_le()),
        crc: chain_crc,
        time: Millis(fields.get_u64_le()),
        offset: fields.get_u64_le(),
    };
    if fields.get_u32_le() != crc || fields.iter().any(|byte| *byte != 0) {
        return Err("the header is damaged (checksum mismatch)".into());
    }
    Ok((cluster, begin))
}

fn parse_footer(bytes: &[u8], at: u64) -> Result<(Lsn, u32), String> {
    let crc = crc32fast::hash(&bytes[..24]);
    let mut fields = bytes;
    let (mark, blocks) = (fields.get_u32_le(), fields.get_u32_le());
    let (end, stated_at) = (fields.get_u64_le(), fields.get_u64_le());
    if mark != FOOTER_MARK || stated_at != at || fields.get_u32_le() != crc {
        return Err("the footer is missing or damaged; the snapshot is not complete".into());
    }
    if fields.get_u32_le() != 0 {
        return Err("the footer is damaged".into());
    }
    Ok((Lsn(end), blocks))
}
