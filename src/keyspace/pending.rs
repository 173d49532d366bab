//! Which keys have effects that are not released yet (R32).
//!
//! A reply must not show an effect, or the absence that a deletion left, before the record behind
//! it is released. So every key an effect touched is remembered, by its hash, with the newest LSN,
//! until that is released. Two keys with the same hash only make a read wait longer.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::units::Lsn;

/// A hasher for keys that are hashes already.
#[derive(Clone, Debug, Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The side table of unreleased effects.
///
/// `pruned <= newest` unless nothing was applied yet; every LSN in `by_key` and in the queue is
/// above `pruned`.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_key: HashMap<u64, Lsn, BuildHasherDefault<Identity>>,
    /// (LSN, key) in the order applied, which is the order of LSNs.
    queue: VecDeque<(Lsn, u64)>,
    /// Up to here every key counts as touched: the newest FLUSH touched those that it did not find,
    /// too, and what a new primary replays is not worth telling apart.
    all: Lsn,
    newest: Lsn,
    pruned: Lsn,
}

impl Pending {
    pub(super) fn newest(&self) -> Lsn {
        self.newest
    }

    /// An effect of record `lsn` touched the key with this hash.
    pub(super) fn touch(&mut self, hash: u64, lsn: Lsn) {
        if lsn <= self.pruned.max(self.all) {
            return;
        }
        if self.by_key.insert(hash, lsn) != Some(lsn) {
            self.queue.push_back((lsn, hash));
        }
    }

    /// All keys count as touched by record `lsn`.
    pub(super) fn touch_all(&mut self, lsn: Lsn) {
        self.all = self.all.max(lsn);
    }

    /// Record `lsn` has been applied.
    pub(super) fn advance(&mut self, lsn: Lsn) {
        self.newest = self.newest.max(lsn);
    }

    /// The LSN that an answer about the key with this hash waits for; zero for none.
    pub(super) fn newest_of(&self, hash: u64) -> Lsn {
        let own = if self.by_key.is_empty() {
            None
        } else {
            self.by_key.get(&hash)
        };
        let newest = own.copied().unwrap_or(Lsn::ZERO).max(self.all);
        if newest > self.pruned {
            newest
        } else {
            Lsn::ZERO
        }
    }

    /// The LSN that an answer about the whole keyspace waits for; zero for none.
    pub(super) fn newest_of_all(&self) -> Lsn {
        if self.newest > self.pruned {
            self.newest
        } else {
            Lsn::ZERO
        }
    }

    /// The records behind `lsn` are taken back; others will have their numbers.
    pub(super) fn rewind(&mut self, lsn: Lsn) {
        self.queue.retain(|(at, _)| *at <= lsn);
        self.by_key = self.queue.iter().map(|(at, hash)| (*hash, *at)).collect();
        if self.all > lsn {
            // An earlier one may lie between; to wait for all is safe.
            self.all = lsn;
        }
        self.newest = self.newest.min(lsn);
        self.pruned = self.pruned.min(lsn);
    }

    pub(super) fn prune(&mut self, released: Lsn) {
        self.pruned = self.pruned.max(released);
        while let Some((lsn, hash)) = self.queue.front().copied()
            && lsn <= self.pruned
        {
            self.queue.pop_front();
            if self.by_key.get(&hash) == Some(&lsn) {
                self.by_key.remove(&hash);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_for_its_newest_unreleased_effect() {
        let mut pending = Pending::default();
        for (lsn, hash) in [(1, 10), (2, 20), (3, 10)] {
            pending.touch(hash, Lsn(lsn));
            pending.advance(Lsn(lsn));
        }
        assert_eq!(pending.newest_of(10), Lsn(3));
        assert_eq!(pending.newest_of(20), Lsn(2));
        assert_eq!(pending.newest_of(30), Lsn::ZERO);
        pending.prune(Lsn(2));
        assert_eq!(pending.newest_of(10), Lsn(3));
        assert_eq!(pending.newest_of(20), Lsn::ZERO);
        assert_eq!(pending.newest_of_all(), Lsn(3));
        pending.prune(Lsn(3));
        assert_eq!(pending.newest_of_all(), Lsn::ZERO);
        assert!(pending.by_key.is_empty() && pending.queue.is_empty());
    }

    #[test]
    fn a_flush_touches_every_key() {
        let mut pending = Pending::default();
        pending.touch_all(Lsn(5));
        pending.advance(Lsn(5));
        assert_eq!(pending.newest_of(1), Lsn(5));
        pending.prune(Lsn(5));
        assert_eq!(pending.newest_of(1), Lsn::ZERO);
    }

    #[test]
    fn what_counts_for_every_key_is_not_tracked_by_key() {
        let mut pending = Pending::default();
        pending.touch_all(Lsn(5));
        for lsn in 1..=6 {
            pending.touch(lsn, Lsn(lsn));
            pending.advance(Lsn(lsn));
        }
        assert_eq!(pending.queue, [(Lsn(6), 6)]);
        let waits = [1, 6, 7].map(|hash| pending.newest_of(hash));
        assert_eq!(waits, [Lsn(5), Lsn(6), Lsn(5)]);
        pending.prune(Lsn(5));
        assert_eq!(pending.newest_of(1), Lsn::ZERO);
        assert_eq!(pending.newest_of(6), Lsn(6));
    }

    #[test]
    fn what_is_taken_back_is_waited_for_no_more_and_what_was_before_still_is() {
        let mut pending = Pending::default();
        for (lsn, hash) in [(4, 10), (5, 20), (6, 10), (7, 30)] {
            pending.touch(hash, Lsn(lsn));
            pending.advance(Lsn(lsn));
        }
        pending.touch_all(Lsn(8));
        pending.rewind(Lsn(5));
        pending.prune(Lsn(3));
        assert_eq!(pending.newest_of_all(), Lsn(5));
        // That all keys were touched stays, lowered: to wait for all is safe.
        assert_eq!(
            [10, 20, 30].map(|hash| pending.newest_of(hash)),
            [Lsn(5); 3]
        );
        pending.all = Lsn::ZERO;
        let waits = [10, 20, 30].map(|hash| pending.newest_of(hash));
        assert_eq!(waits, [Lsn(4), Lsn(5), Lsn::ZERO]);
    }

    #[test]
    fn what_is_released_already_is_not_tracked() {
        let mut pending = Pending::default();
        pending.prune(Lsn(10));
        pending.touch(1, Lsn(10));
        pending.advance(Lsn(10));
        assert!(pending.by_key.is_empty() && pending.queue.is_empty());
        assert_eq!(pending.newest_of_all(), Lsn::ZERO);
    }
}
