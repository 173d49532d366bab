//! A disk in memory that forgets, tears and fails on command. For tests and simulation.
//!
//! What survives a crash: synced content, and names whose directory was synced. Of unsynced writes
//! any subset may survive, the last of them torn; of unsynced renames and removals, any prefix.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile, Held, Map};

#[derive(Clone, Debug)]
enum Write {
    Bytes(u64, Vec<u8>),
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inner {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    changes: Vec<NameChange>,
    /// Mutating operations so far.
    operations: u64,
    /// The operation that fails, and every one after it: the machine is off.
    crash_at: Option<u64>,
    /// Operations that fail with EIO, once each.
    fail_at: Option<u64>,
    capacity: Option<u64>,
    locks: Vec<PathBuf>,
}

/// The disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<Inner>>);

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn apply(bytes: &mut Vec<u8>, write: &Write, torn: Option<usize>) {
    match write {
        Write::Len(len) => bytes.resize(*len as usize, 0),
        Write::Bytes(offset, data) => {
            let data = &data[..torn.unwrap_or(data.len()).min(data.len())];
            let end = *offset as usize + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*offset as usize..end].copy_from_slice(data);
        }
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("no code panics while it holds the simulated disk")
    }

    /// Mutating operations done so far: every one is a boundary to crash at.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// From this operation on, nothing works any more.
    pub fn crash_at(&self, operation: u64) {
        self.inner().crash_at = Some(operation);
    }

    /// This one operation fails with EIO.
    pub fn fail_at(&self, operation: u64) {
        self.inner().fail_at = Some(operation);
    }

    /// Bytes that fit; beyond, writes fail with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// What the disk holds when the machine comes back: the seed decides which unsynced writes
    /// and names survived.
    pub fn after_crash(&self, seed: u64) -> SimDisk {
        let inner = self.inner();
        let mut random = seed;
        let mut inodes = Vec::with_capacity(inner.inodes.len());
        for inode in &inner.inodes {
            let mut bytes = inode.durable.clone();
            for (place, write) in inode.unsynced.iter().enumerate() {
                let last = place + 1 == inode.unsynced.len();
                match split_mix(&mut random) % 3 {
                    0 => {}
                    1 if last => {
                        let len = match write {
                            Write::Bytes(_, data) => data.len() as u64,
                            Write::Len(_) => 1,
                        };
                        let torn = (split_mix(&mut random) % (len + 1)) as usize;
                        apply(&mut bytes, write, Some(torn));
                    }
                    _ => apply(&mut bytes, write, None),
                }
            }
            inodes.push(Inode {
                now: bytes.clone(),
                durable: bytes,
                unsynced: Vec::new(),
            });
        }
        let mut names = inner.durable_names.clone();
        let survive = split_mix(&mut random) % (inner.changes.len() as u64 + 1);
        for change in inner.changes.iter().take(survive as usize) {
            change_name(&mut names, change);
        }
        SimDisk(Arc::new(Mutex::new(Inner {
            inodes,
            durable_names: names.clone(),
            names,
            capacity: inner.capacity,
            ..Inner::default()
        })))
    }

    /// Flips one bit of a file's durable content.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut inner = self.inner();
        if let Some(inode) = inner.names.get(path).copied() {
            inner.inodes[inode].now[bit / 8] ^= 1 << (bit % 8);
            inner.inodes[inode].durable = inner.inodes[inode].now.clone();
        }
    }
}

fn change_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Link(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
    }
}

impl Inner {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.crash_at.is_some_and(|at| self.operations >= at) {
            return Err(io::Error::other("the machine is off"));
        }
        if self.fail_at == Some(self.operations) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change_name(&mut self.names, &change);
        self.changes.push(change);
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .map(|inode| self.inodes[*inode].now.len() as u64)
            .sum()
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl SimFile {
    fn write(&self, write: Write) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operation()?;
        let mut bytes = std::mem::take(&mut inner.inodes[self.inode].now);
        let before = bytes.len() as u64;
        apply(&mut bytes, &write, None);
        let grown = (bytes.len() as u64).saturating_sub(before);
        let used = inner.used() + before;
        if inner
            .capacity
            .is_some_and(|capacity| used + grown > capacity)
            && grown > 0
        {
            bytes.truncate(before as usize);
            inner.inodes[self.inode].now = bytes;
            return Err(io::Error::from_raw_os_error(28));
        }
        inner.inodes[self.inode].now = bytes;
        inner.inodes[self.inode].unsynced.push(write);
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let inner = self.disk.inner();
        let bytes = &inner.inodes[self.inode].now;
        let from = (offset as usize).min(bytes.len());
        let n = buffer.len().min(bytes.len() - from);
        buffer[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write(Write::Bytes(offset, bytes.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner();
        inner.operation()?;
        let inode = &mut inner.inodes[self.inode];
        inode.durable = inode.now.clone();
        inode.unsynced.clear();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner().inodes[self.inode].now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write(Write::Len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len {
            self.write(Write::Len(len))
        } else {
            Ok(())
        }
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl Held for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.inner().locks.retain(|path| *path != self.path);
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.inner();
        let inode = match inner.names.get(path) {
            Some(inode) => *inode,
            None if create => {
                inner.operation()?;
                inner.inodes.push(Inode::default());
                let inode = inner.inodes.len() - 1;
                inner.change(NameChange::Link(path.to_path_buf(), inode));
                inode
            }
            None => return Err(not_found(path)),
        };
        drop(inner);
        Ok(Box::new(SimFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn map(&self, path: &Path) -> io::Result<Map> {
        let inner = self.inner();
        let inode = *inner.names.get(path).ok_or_else(|| not_found(path))?;
        Ok(Arc::new(inner.inodes[inode].now.clone()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.operation()?;
        if !inner.names.contains_key(from) {
            return Err(not_found(from));
        }
        inner.change(NameChange::Rename(from.to_path_buf(), to.to_path_buf()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.operation()?;
        if !inner.names.contains_key(path) {
            return Err(not_found(path));
        }
        inner.change(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner();
        let names = inner.names.keys().filter(|path| path.parent() == Some(dir));
        let names = names.filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.operation()?;
        // Names of other directories stay undecided.
        let in_dir = |path: &PathBuf| path.parent() == Some(dir);
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut inner.changes)
            .into_iter()
            .partition(|change| match change {
                NameChange::Link(path, _) | NameChange::Remove(path) => in_dir(path),
                NameChange::Rename(_, to) => in_dir(to),
            });
        let mut names = std::mem::take(&mut inner.durable_names);
        for change in &synced {
            change_name(&mut names, change);
        }
        inner.durable_names = names;
        inner.changes = rest;
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Held>> {
        let mut inner = self.inner();
        if inner.locks.iter().any(|held| held == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        inner.locks.push(path.to_path_buf());
        drop(inner);
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        }))
    }
}
