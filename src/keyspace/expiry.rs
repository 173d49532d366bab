//! When keys expire: an index by time, and the effects that make expiry happen.
//!
//! Time alone changes nothing here. An expired key is planned as absent, and it goes away when the
//! primary has logged its DEL: because a command saw it, or because [`Keyspace::plan_expired`],
//! which the primary calls from time to time, found it.

use std::collections::BTreeSet;

use super::{Effect, Effects, Keyspace};
use crate::units::Millis;

/// Bytes of the index for each key in it, roughly.
pub(super) const ITEM_BYTES: usize = 24;

/// (time, hash of the key) of every key that has an expiry.
#[derive(Debug, Default)]
pub(super) struct ExpiryIndex {
    by_time: BTreeSet<(u64, u64)>,
    /// How many keys have an expiry: one per item of `by_time` but for collisions.
    len: usize,
}

impl ExpiryIndex {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn used_bytes(&self) -> usize {
        self.by_time.len() * ITEM_BYTES
    }

    /// The positions of all keys in it, the soonest first.
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.by_time.iter().map(|(_, hash)| *hash)
    }

    pub(super) fn first(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| Millis(*at))
    }

    pub(super) fn add(&mut self, at: Millis, hash: u64) {
        self.by_time.insert((at.0, hash));
        self.len += 1;
    }

    /// Takes one key out. `shared` says that another key of the same hash expires at the same
    /// time, so that the item has to stay.
    pub(super) fn remove(&mut self, at: Millis, hash: u64, shared: bool) {
        self.len -= 1;
        if !shared {
            self.by_time.remove(&(at.0, hash));
        }
    }

    /// An index of all these (time, hash of the key) at once.
    pub(super) fn filled(items: Vec<(u64, u64)>) -> ExpiryIndex {
        ExpiryIndex {
            len: items.len(),
            by_time: items.into_iter().collect(),
        }
    }

    pub(super) fn clear(&mut self) {
        *self = ExpiryIndex::default();
    }
}

impl Keyspace {
    /// The DELs of up to `limit` keys that have expired, earliest first. As in Redis, a key is
    /// still there in the millisecond it expires at.
    pub fn plan_expired(&self, now: Millis, limit: usize) -> Effects {
        let mut effects = Effects::new();
        let expired = self.expiries.by_time.range(..(now.0, 0));
        let entries = expired.flat_map(|(at, hash)| {
            let same_time =
                move |entry: &&super::entry::Entry| entry.expire_at() == Some(Millis(*at));
            self.tables.with_hash(*hash).filter(same_time)
        });
        for entry in entries.take(limit) {
            effects.push(Effect::Del { key: entry.key() });
        }
        effects
    }
}
