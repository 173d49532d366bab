//! Which keys have effects that may not be released yet (R32).
//!
//! A reply waits for the newest such effect among the keys it saw, deletions included: a read of a
//! key that an unreleased DEL removed must not show its absence. Kept beside the table, by hash of
//! the key, so that it costs nothing at rest; two keys with one hash only make a read wait longer.

use std::collections::{HashMap, VecDeque};

use crate::units::Lsn;

#[derive(Debug, Default)]
pub(super) struct Pending {
    newest: HashMap<u64, Lsn>,
    queue: VecDeque<(Lsn, u64)>,
    /// Newest effect on every key at once.
    whole: Lsn,
    last: Lsn,
}

impl Pending {
    pub(super) fn note(&mut self, hash: u64, lsn: Lsn) {
        self.newest.insert(hash, lsn);
        self.queue.push_back((lsn, hash));
        self.last = lsn;
    }

    pub(super) fn note_whole(&mut self, lsn: Lsn) {
        self.whole = lsn;
        self.last = lsn;
    }

    pub(super) fn of(&self, hash: u64) -> Lsn {
        let key = if self.newest.is_empty() {
            None
        } else {
            self.newest.get(&hash).copied()
        };
        key.unwrap_or(Lsn::ZERO).max(self.whole)
    }

    pub(super) fn last(&self) -> Lsn {
        self.last
    }

    pub(super) fn prune(&mut self, released: Lsn) {
        while let Some((lsn, hash)) = self.queue.front().copied() {
            if lsn > released {
                break;
            }
            self.queue.pop_front();
            if self.newest.get(&hash) == Some(&lsn) {
                self.newest.remove(&hash);
            }
        }
        if self.newest.capacity() > 4096 && self.newest.len() * 8 < self.newest.capacity() {
            self.newest.shrink_to(self.newest.len() * 2);
        }
    }
}
