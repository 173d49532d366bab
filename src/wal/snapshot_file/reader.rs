//! Reading a snapshot, block by block: at no time more than one block is in memory, and nothing is
//! given out before its checksum was right.
//!
//! By reads, not by a map: a bad sector is an error here, and would be a SIGBUS there.

use std::path::{Path, PathBuf};

use super::format::{
    FOOTER_BYTES, Footer, HEAD_BYTES, HEADER_BYTES, Head, Header, HeaderProblem, version_problem,
};
use super::{SnapshotError, SnapshotInfo, at_path};
use crate::wal::disk::{Disk, DiskFile};

/// Room for a block that is kept from one to the next; what a larger one took is given back.
pub(super) const KEPT_BYTES: usize = 4 << 20;

/// An open snapshot. Its blocks come in order, checked by whoever takes them: on any thread.
pub struct SnapshotReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    info: SnapshotInfo,
    blocks: Blocks,
    stated: Footer,
}

/// How far one is in a file's blocks.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    at: u64,
    /// Where the blocks end.
    upto: u64,
    /// The checksum of what stands before the next.
    seed: u32,
    place: u32,
    keys: u64,
    raw_bytes: u64,
}

/// A block as it stands in the file. To be used again for the next.
#[derive(Debug, Default)]
pub struct StoredBlock {
    place: u32,
    head: Head,
    seed: u32,
    body: Vec<u8>,
}

impl StoredBlock {
    /// Effects in it, as it says.
    pub fn keys(&self) -> u32 {
        self.head.keys
    }

    /// Bytes once unpacked, as it says.
    pub fn raw_bytes(&self) -> u64 {
        u64::from(self.head.raw)
    }

    /// Checks the block and gives its bytes, unpacked into `room` where they are packed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn unpack<'a>(&'a self, room: &'a mut Vec<u8>) -> Result<&'a [u8], String> {
        self.check()?;
        let raw = self.head.raw as usize;
        if self.body.len() == raw {
            return Ok(&self.body);
        }
        resize(room, raw);
        match lz4_flex::block::decompress_into(&self.body, room) {
            Ok(len) if len == raw => Ok(room),
            Ok(len) => Err(format!(
                "block {} has {len} bytes, not the {raw} it states",
                self.place
            )),
            Err(error) => Err(format!("block {} cannot be unpacked: {error}", self.place)),
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.head.checksum(self.seed, &self.body) == self.head.crc {
            Ok(())
        } else {
            Err(format!(
                "block {} is damaged (checksum mismatch)",
                self.place
            ))
        }
    }
}

/// To `len` bytes, and no more kept than is reasonable.
fn resize(room: &mut Vec<u8>, len: usize) {
    if room.capacity() > KEPT_BYTES && len <= KEPT_BYTES {
        *room = Vec::new();
    }
    room.resize(len, 0);
}

impl Blocks {
    fn behind(header: &Header, upto: u64) -> Blocks {
        Blocks {
            at: HEADER_BYTES as u64,
            upto,
            seed: header.crc,
            place: 0,
            keys: 0,
            raw_bytes: 0,
        }
    }

    /// Reads the next block, not checked yet; whether there was one. `Err` of `Err`: what is wrong
    /// with the bytes.
    fn next(
        &mut self,
        file: &dyn DiskFile,
        into: &mut StoredBlock,
    ) -> std::io::Result<Result<bool, String>> {
        if self.at >= self.upto {
            return Ok(Ok(false));
        }
        let place = self.place;
        let cut_short = || Ok(Err(format!("block {place} is cut short")));
        let mut head = [0; HEAD_BYTES];
        let behind_head = self.at + HEAD_BYTES as u64;
        if behind_head > self.upto || file.read_at(&mut head, self.at)? < HEAD_BYTES {
            return cut_short();
        }
        let head = match Head::decode(head, self.upto - behind_head) {
            Ok(head) => head,
            Err(what) => return Ok(Err(format!("block {place} {what}"))),
        };
        resize(&mut into.body, head.stored as usize);
        if file.read_at(&mut into.body, behind_head)? < into.body.len() {
            return cut_short();
        }
        (into.place, into.head, into.seed) = (place, head, self.seed);
        self.at = behind_head + u64::from(head.stored);
        self.seed = head.crc;
        self.place += 1;
        self.keys += u64::from(head.keys);
        self.raw_bytes += u64::from(head.raw);
        Ok(Ok(true))
    }
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotReader")
            .field("path", &self.path)
            .field("at", &self.blocks.at)
            .finish_non_exhaustive()
    }
}

fn bad(path: &Path, what: impl Into<String>) -> SnapshotError {
    SnapshotError::Bad {
        path: path.to_path_buf(),
        what: what.into(),
    }
}

fn read_header(file: &dyn DiskFile, path: &Path) -> Result<Header, SnapshotError> {
    let mut bytes = [0; HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0).map_err(at_path(path))?;
    Header::decode(&bytes[..read]).map_err(|problem| match problem {
        HeaderProblem::Damaged(what) => bad(path, what),
        HeaderProblem::Version(version) => SnapshotError::OtherVersion {
            path: path.to_path_buf(),
            what: version_problem(version),
        },
    })
}

impl SnapshotReader {
    /// Opens a file and checks its header and footer.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let file = disk.open(path, false).map_err(at_path(path))?;
        let header = read_header(file.as_ref(), path)?;
        let len = file.len().map_err(at_path(path))?;
        let at = len.saturating_sub(FOOTER_BYTES as u64);
        let mut bytes = [0; FOOTER_BYTES];
        let read = file.read_at(&mut bytes, at).map_err(at_path(path))?;
        let footer = if at < HEADER_BYTES as u64 {
            Err("the snapshot is cut short")
        } else {
            Footer::decode(&bytes[..read], at, header.crc)
        };
        let footer = footer.map_err(|what| bad(path, what))?;
        Ok(SnapshotReader {
            file,
            path: path.to_path_buf(),
            info: footer.info(&header),
            blocks: Blocks::behind(&header, at),
            stated: footer,
        })
    }

    /// What it says about itself.
    pub fn info(&self) -> SnapshotInfo {
        self.info
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file that have been read.
    pub fn bytes_read(&self) -> u64 {
        self.blocks.at
    }

    /// Keys in the blocks that have been read, as they say.
    pub fn keys_read(&self) -> u64 {
        self.blocks.keys
    }

    /// Gives the file's pages back to the operating system, so that what is read comes from the
    /// disk and not from the memory it was written to. A request: not every file system honours it.
    pub fn from_disk(self) -> SnapshotReader {
        self.file.forget_cached();
        self
    }

    /// Reads the next block; whether there was one. It is checked when it is unpacked. Behind the
    /// last one, what the footer says is held against what was there.
    ///
    /// # Errors
    /// The disk; bytes that are no block.
    pub fn next_block(&mut self, into: &mut StoredBlock) -> Result<bool, SnapshotError> {
        let next = self.blocks.next(self.file.as_ref(), into);
        let more = next
            .map_err(at_path(&self.path))?
            .map_err(|what| bad(&self.path, what))?;
        if more {
            return Ok(true);
        }
        let found = Footer {
            blocks: self.blocks.place,
            at: self.blocks.at,
            keys: self.blocks.keys,
            raw_bytes: self.blocks.raw_bytes,
            chain: self.blocks.seed,
            ..self.stated
        };
        if found == self.stated {
            Ok(false)
        } else {
            Err(bad(&self.path, "blocks are missing, doubled or moved"))
        }
    }

    /// Raw bytes of the file from `offset` on, for a peer, into all of `room` or as much of it as
    /// the file has; how many.
    ///
    /// # Errors
    /// The disk.
    pub fn raw_at(&self, room: &mut [u8], offset: u64) -> Result<usize, SnapshotError> {
        self.file.read_at(room, offset).map_err(at_path(&self.path))
    }
}

/// Length of the intact beginning of a file that is to have `bytes` in all: header and whole
/// blocks, each with the right checksum.
pub(super) fn intact_bytes(
    file: &dyn DiskFile,
    path: &Path,
    bytes: u64,
) -> Result<u64, SnapshotError> {
    let len = file.len().map_err(at_path(path))?;
    let Some(upto) = bytes.checked_sub(FOOTER_BYTES as u64) else {
        return Ok(0);
    };
    let header = match read_header(file, path) {
        Ok(header) => header,
        Err(SnapshotError::Io { path, source }) => return Err(SnapshotError::Io { path, source }),
        Err(_) => return Ok(0),
    };
    let mut blocks = Blocks::behind(&header, upto.min(len));
    let (mut block, mut intact) = (StoredBlock::default(), HEADER_BYTES as u64);
    while let Ok(true) = blocks.next(file, &mut block).map_err(at_path(path))?
        && block.check().is_ok()
    {
        intact = blocks.at;
    }
    Ok(intact)
}
