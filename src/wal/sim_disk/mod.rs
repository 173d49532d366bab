//! A disk in memory that forgets, tears, rots and fails on command. For tests and simulation.
//!
//! What survives a power cut: synced content, and names whose directory was synced. Of unsynced
//! writes any sector may survive, as it stood after any of them; of unsynced creations, renames
//! and removals, any prefix. What survives the death of a process: everything it wrote. A failed
//! sync drops the pages as clean, as Linux does: reads go on showing what a crash will take.
//!
//! The same calls and seeds give the same bytes: no clock, no thread, no hash order. A sync costs
//! as much as there is to sync, reserved room costs nothing, [`SimDisk::kill`] and
//! [`SimDisk::crash`] copy no content. It never tears a sector, and never loses what was synced,
//! unless told to ([`SimDisk::rot`]).

mod content;
mod files;
mod inode;
mod names;
mod random;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use self::content::PAGE;
use self::inode::Inode;
use self::names::{NameChange, Names};
use self::random::Random;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// Kinds of operations, for choosing which one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reading or mapping a file.
    Read,
    /// Writing, cutting, extending or reserving.
    Write,
    /// Syncing a file.
    Sync,
    /// Creating, renaming or removing a file.
    Name,
    /// Syncing a directory.
    SyncDir,
}

/// A file as it would be found after a power cut now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurableFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
    /// Offset behind the last byte that is not zero: the rest is reserved room.
    pub used: u64,
}

#[derive(Clone)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: Names,
    /// Bytes of the files that have names.
    used: u64,
    capacity: Option<u64>,
    sector: usize,
    random: Random,
    operations: u64,
    /// Nothing works any more.
    off: bool,
    crash_at: Option<u64>,
    fail_at: Option<u64>,
    /// How many more of a kind until one fails.
    failing: Vec<(Operation, u64)>,
    locks: BTreeSet<PathBuf>,
}

/// The disk; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl std::fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.inner();
        f.debug_struct("SimDisk")
            .field("operations", &inner.operations)
            .field("off", &inner.off)
            .field("names", &inner.names.now)
            .finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk with sectors of 512 bytes.
    pub fn new() -> SimDisk {
        SimDisk::with_sectors(512)
    }

    /// An empty disk that tears at other places: small sectors tear small records.
    ///
    /// # Panics
    /// If `sector_bytes` does not divide 4096.
    pub fn with_sectors(sector_bytes: usize) -> SimDisk {
        assert!(
            sector_bytes > 0 && PAGE.is_multiple_of(sector_bytes),
            "sectors of {sector_bytes} bytes do not make a page"
        );
        SimDisk::of(Inner {
            inodes: BTreeMap::new(),
            next_inode: 0,
            names: Names::default(),
            used: 0,
            capacity: None,
            sector: sector_bytes,
            random: Random::default(),
            operations: 0,
            off: false,
            crash_at: None,
            fail_at: None,
            failing: Vec::new(),
            locks: BTreeSet::new(),
        })
    }

    fn of(inner: Inner) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(inner)))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("no code panics while it holds the simulated disk")
    }

    /// Mutating operations done so far: every one is a boundary to crash at.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// Seeds what a failed sync leaves behind.
    pub fn set_seed(&self, seed: u64) {
        self.inner().random = Random(seed);
    }

    /// From this mutating operation on, nothing works any more.
    pub fn crash_at(&self, operation: u64) {
        self.inner().crash_at = Some(operation);
    }

    /// Nothing works any more; what is there can still be had by [`SimDisk::after_crash`],
    /// [`SimDisk::crash`] and [`SimDisk::kill`].
    pub fn power_off(&self) {
        self.inner().off = true;
    }

    /// Whether nothing works any more.
    pub fn is_off(&self) -> bool {
        self.inner().off
    }

    /// This one mutating operation fails with EIO.
    pub fn fail_at(&self, operation: u64) {
        self.inner().fail_at = Some(operation);
    }

    /// The `nth` operation of this kind from now on, 1 being the next, fails with EIO. Several may
    /// be due; each fails one operation.
    pub fn fail_nth(&self, kind: Operation, nth: u64) {
        self.inner().failing.push((kind, nth.max(1)));
    }

    /// Bytes that fit, reserved ones included; beyond, writes fail with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.inner().capacity = bytes;
    }

    /// Bytes taken by files that have names, reserved ones included.
    pub fn used_bytes(&self) -> u64 {
        self.inner().used
    }

    /// What the disk would hold if the power went now: the seed decides which unsynced writes and
    /// names survive. This disk goes on.
    pub fn after_crash(&self, seed: u64) -> SimDisk {
        let inner = self.inner().clone();
        SimDisk::of(inner.after_power_cut(seed))
    }

    /// The power goes: this disk is off for ever, and the one returned is what the machine finds
    /// when it comes back. Counters and faults begin anew, the capacity stays.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let taken = self.inner().take();
        SimDisk::of(taken.after_power_cut(seed))
    }

    /// The process dies and the machine lives: this disk is off for ever, and the one returned
    /// goes on where it was, page cache, counters and faults included. Locks are free.
    pub fn kill(&self) -> SimDisk {
        let mut taken = self.inner().take();
        taken.crash_at = None;
        taken.off = false;
        SimDisk::of(taken)
    }

    /// The files that a power cut now would leave for certain, sorted by path. What is not synced
    /// is not in it.
    pub fn durable_files(&self) -> Vec<DurableFile> {
        let inner = self.inner();
        let names = inner.names.durable.iter();
        names
            .map(|(path, inode)| {
                let content = inner.inode(*inode).durable();
                DurableFile {
                    path: path.clone(),
                    len: content.len(),
                    used: content.used(),
                }
            })
            .collect()
    }

    /// What the platter has of a file; `None` if its name is not durable.
    pub fn durable_bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let inner = self.inner();
        let inode = inner.names.durable.get(path)?;
        Some(inner.inode(*inode).durable().bytes())
    }

    /// Flips one bit of a file on the platter; whoever reads it sees that, unless the page is in
    /// the cache waiting to be written. `false` where the file, or that bit of it, is not durable.
    pub fn rot(&self, path: &Path, bit: u64) -> bool {
        let mut inner = self.inner();
        let Some(inode) = inner.names.durable.get(path).copied() else {
            return false;
        };
        inner.inode_mut(inode).rot(bit)
    }
}

impl Inner {
    fn inode(&self, inode: u64) -> &Inode {
        &self.inodes[&inode]
    }

    fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes
            .get_mut(&inode)
            .expect("a file with a name or a handle is kept")
    }

    /// Leaves a disk that is off.
    fn take(&mut self) -> Inner {
        let mut left = Inner {
            inodes: BTreeMap::new(),
            names: Names::default(),
            failing: Vec::new(),
            locks: BTreeSet::new(),
            off: true,
            ..*self
        };
        std::mem::swap(self, &mut left);
        left.locks.clear();
        // The handles that are open stay with the disk that is off.
        left.inodes.values_mut().for_each(|inode| inode.handles = 0);
        left.forget_nameless();
        left
    }

    fn after_power_cut(mut self, seed: u64) -> Inner {
        let mut random = Random(seed);
        let sector = self.sector;
        for inode in self.inodes.values_mut() {
            inode.lose_power(sector, &mut random);
            inode.handles = 0;
        }
        self.names.lose_power(&mut random);
        let linked = self.names.now.values();
        let mut after = Inner {
            used: linked.map(|inode| self.inodes[inode].now().len()).sum(),
            names: self.names,
            inodes: self.inodes,
            operations: 0,
            off: false,
            crash_at: None,
            fail_at: None,
            failing: Vec::new(),
            locks: BTreeSet::new(),
            random,
            ..self
        };
        after.forget_nameless();
        after
    }

    /// Lets go of files that nobody can reach, not even after a crash.
    fn forget_nameless(&mut self) {
        let named = self.names.inodes();
        self.inodes
            .retain(|inode, file| file.handles > 0 || named.contains(inode));
    }

    fn check_power(&self) -> io::Result<()> {
        match self.off {
            true => Err(io::Error::other("the machine is off")),
            false => Ok(()),
        }
    }

    /// Counts the operation; whether it takes effect.
    fn check(&mut self, kind: Operation) -> io::Result<()> {
        self.check_power()?;
        if kind != Operation::Read {
            self.operations += 1;
            if self.crash_at.is_some_and(|at| self.operations >= at) {
                self.off = true;
                return self.check_power();
            }
        }
        let mut fails = kind != Operation::Read && self.fail_at == Some(self.operations);
        self.failing.retain_mut(|(failing, left)| {
            if *failing == kind {
                *left -= 1;
                fails |= *left == 0;
            }
            *left > 0
        });
        if fails {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        if let Some(lost) = self.names.change(change) {
            self.used -= self.inode(lost).now().len();
        }
    }

    /// Whether a file may become this long.
    fn make_room(&mut self, inode: u64, len: u64) -> io::Result<()> {
        if !self.names.now.values().any(|named| *named == inode) {
            return Ok(());
        }
        let used = self.used - self.inode(inode).now().len() + len;
        if used > self.used && self.capacity.is_some_and(|capacity| used > capacity) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.used = used;
        Ok(())
    }
}
