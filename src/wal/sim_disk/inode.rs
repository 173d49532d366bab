//! One simulated file: what the page cache says, what the platter has, and what lies between.
//!
//! A change that was not synced may reach the platter at any time: each of its sectors as it stood
//! after that change, or not at all. So of two unsynced writes to one sector the second never
//! arrives without the first, and one that spans sectors may arrive in any of them.

use std::collections::BTreeSet;

use super::content::{Content, PAGE, pages_of};
use super::random::Random;

/// A change that the platter may lack.
#[derive(Clone)]
enum Change {
    /// Whole sectors as they stood after a write, and the length of the file then.
    Sectors {
        at: u64,
        image: Vec<u8>,
        len_after: u64,
    },
    /// Cut or extended.
    Len(u64),
}

#[derive(Clone, Default)]
pub(super) struct Inode {
    now: Content,
    durable: Content,
    pending: Vec<Change>,
    dirty: BTreeSet<u64>,
    /// Handles that are open.
    pub(super) handles: u32,
}

/// What a crash leaves of the pending changes.
enum Survives {
    Nothing,
    Everything,
    /// So many whole changes and so many sectors of the next.
    Prefix(usize, usize),
    /// Lengths up to one change; of the sectors so many in eight, whichever.
    Any(usize, u64),
}

impl Survives {
    fn draw(changes: usize, random: &mut Random) -> Survives {
        let any = |random: &mut Random| random.below(changes as u64 + 1) as usize;
        match random.below(8) {
            0 => Survives::Nothing,
            1 => Survives::Everything,
            2 | 3 => Survives::Prefix(any(random), random.below(20) as usize),
            4 => Survives::Any(any(random), 1),
            5 => Survives::Any(any(random), 7),
            _ => Survives::Any(any(random), 4),
        }
    }

    fn length_of(&self, change: usize) -> bool {
        match self {
            Survives::Nothing => false,
            Survives::Everything => true,
            // A write that tears has made the file as long as it wanted.
            Survives::Prefix(whole, _) => change <= *whole,
            Survives::Any(lengths, _) => change < *lengths,
        }
    }

    fn sector(&self, change: usize, sector: usize, random: &mut Random) -> bool {
        match self {
            Survives::Nothing => false,
            Survives::Everything => true,
            Survives::Prefix(whole, torn) => change < *whole || change == *whole && sector < *torn,
            Survives::Any(_, of_eight) => random.below(8) < *of_eight,
        }
    }
}

impl Inode {
    pub(super) fn now(&self) -> &Content {
        &self.now
    }

    pub(super) fn durable(&self) -> &Content {
        &self.durable
    }

    /// Changes that a crash may lose.
    #[cfg(test)]
    pub(super) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8], sector: usize) {
        if bytes.is_empty() {
            return;
        }
        self.now.write(offset, bytes);
        self.dirty.extend(pages_of(offset, bytes.len()));
        let sector = sector as u64;
        let at = offset / sector * sector;
        let end = (offset + bytes.len() as u64).div_ceil(sector) * sector;
        let mut image = vec![0; (end - at) as usize];
        self.now.read(&mut image, at);
        self.pending.push(Change::Sectors {
            at,
            image,
            len_after: self.now.len(),
        });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let cut = len.min(self.now.len());
        self.dirty.extend(self.now.pages_from(cut));
        self.dirty.extend(self.durable.pages_from(cut));
        self.now.set_len(len);
        self.pending.push(Change::Len(len));
    }

    /// Everything is on the platter; costs as much as there was to sync.
    pub(super) fn sync(&mut self) {
        self.durable.set_len(self.now.len());
        for page in std::mem::take(&mut self.dirty) {
            self.durable.take_page(&self.now, page);
        }
        self.pending.clear();
    }

    /// A sync that fails: some sectors arrive, and Linux counts the pages as clean all the same.
    /// The cache goes on claiming what the platter lacks; no later sync brings it there, unless
    /// its page is written again. (PostgreSQL, 2018.)
    pub(super) fn fail_sync(&mut self, sector: usize, random: &mut Random) {
        self.settle(sector, random);
        self.dirty.clear();
    }

    /// The power goes: the platter keeps what it has and some of what it lacks.
    pub(super) fn lose_power(&mut self, sector: usize, random: &mut Random) {
        self.settle(sector, random);
        self.now = self.durable.clone();
        self.dirty.clear();
    }

    fn settle(&mut self, sector: usize, random: &mut Random) {
        let changes = std::mem::take(&mut self.pending);
        if changes.is_empty() {
            return;
        }
        let survives = Survives::draw(changes.len(), random);
        for (place, change) in changes.iter().enumerate() {
            match change {
                Change::Len(len) if survives.length_of(place) => self.durable.set_len(*len),
                // Blocks written behind a cut that never happened belong to no file.
                Change::Len(len) if *len < self.durable.len() => return,
                Change::Len(_) => {}
                Change::Sectors {
                    at,
                    image,
                    len_after,
                } => {
                    if survives.length_of(place) && *len_after > self.durable.len() {
                        self.durable.set_len(*len_after);
                    }
                    for (n, bytes) in image.chunks(sector).enumerate() {
                        if survives.sector(place, n, random) {
                            let offset = at + (n * sector) as u64;
                            self.durable.write_within(offset, bytes);
                        }
                    }
                }
            }
        }
    }

    /// Flips a bit on the platter. Read back from there, unless the page waits to be written.
    pub(super) fn rot(&mut self, bit: u64) -> bool {
        let there = self.durable.flip(bit);
        if there && !self.dirty.contains(&(bit / 8 / PAGE as u64)) {
            self.now.flip(bit);
        }
        there
    }
}
