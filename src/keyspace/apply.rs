//! Carrying effects out.

use hashbrown::HashTable;

use super::access::{Access, Dice, Tracking};
use super::digest::{digest_of, entry_digest};
use super::effects::EffectIter;
use super::entry::Entry;
use super::{Effect, EffectError, Effects, Keyspace, is_reserved};
use crate::units::{Lsn, Millis};

/// What a FLUSH has taken out. Dropping it frees every key, which may take seconds: do that
/// without holding the lock.
pub struct Flushed {
    _tables: Box<[HashTable<Entry>]>,
}

impl std::fmt::Debug for Flushed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flushed")
    }
}

impl Keyspace {
    /// Carries out the effects of record `lsn`.
    pub fn apply(&mut self, effects: &Effects, lsn: Lsn) {
        for effect in effects.iter() {
            self.apply_one(effect, lsn);
        }
        self.pending.advance(lsn);
    }

    /// Carries out the effects that `payload` of record `lsn` (or a part of a snapshot) encodes.
    /// All or nothing: the whole payload is checked before anything is touched.
    pub fn apply_encoded(&mut self, payload: &[u8], lsn: Lsn) -> Result<(), EffectError> {
        EffectIter::new(payload).try_for_each(|effect| effect.map(|_| ()))?;
        for effect in EffectIter::new(payload) {
            self.apply_one(effect?, lsn);
        }
        self.pending.advance(lsn);
        Ok(())
    }

    /// What the last FLUSH took out, if any: to be dropped after the lock has been let go.
    pub fn take_flushed(&mut self) -> Option<Flushed> {
        self.flushed.take()
    }

    fn apply_one(&mut self, effect: Effect<'_>, lsn: Lsn) {
        match effect {
            Effect::Set {
                key,
                value,
                expire_at,
            } => {
                let hash = self.touch(key, lsn);
                let clock = self.clock_of_written(hash, key);
                self.set(Entry::with_clock(hash, key, value, expire_at, clock));
            }
            Effect::Del { key } => {
                let hash = self.touch(key, lsn);
                if let Some(old) = self.tables.remove(hash, key) {
                    self.forget(&old);
                }
            }
            Effect::Expire { key, expire_at } => {
                let hash = self.touch(key, lsn);
                self.set_expiry(hash, key, expire_at);
            }
            Effect::Flush => {
                self.pending.touch_all(lsn);
                let tables = &self.tables;
                self.watches
                    .touch_all(|hash| tables.with_hash(hash).next().is_some());
                self.expiries.clear();
                self.digest = 0;
                self.bytes = 0;
                self.own = 0;
                self.flushed = Some(Flushed {
                    _tables: self.tables.take(),
                });
            }
        }
    }

    /// Record `lsn` changes this key; its hash.
    fn touch(&mut self, key: &[u8], lsn: Lsn) -> u64 {
        let hash = self.tables.hash(key);
        self.pending.touch(hash, lsn);
        self.watches.touch(hash);
        hash
    }

    /// How a key is used that is just given a value; one that was there stays as frequent as it was.
    fn clock_of_written(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let Access {
            tracking,
            now,
            random,
        } = self.access;
        if tracking != Tracking::Frequency {
            return tracking.first(now);
        }
        let old = self.tables.find(hash, key).and_then(Entry::clock);
        self.access.random = Dice(random).roll();
        old.map_or(tracking.first(now), |old| {
            Some(tracking.used(old, now, self.access.random))
        })
    }

    fn set(&mut self, entry: Entry) {
        let (hash, parts) = (entry.hash, entry.parts());
        let expire_at = parts.expire_at();
        self.bytes += parts.bytes();
        self.own += usize::from(is_reserved(parts.key));
        self.add_digest(hash, digest_of(&parts));
        if let Some(old) = self.tables.insert(entry) {
            self.forget(&old);
        }
        if let Some(at) = expire_at {
            self.expiries.add(at, hash);
        }
    }

    fn add_digest(&mut self, hash: u64, change: u64) {
        self.digest = self.digest.wrapping_add(change);
        self.tables.add_digest(hash, change);
    }

    /// Takes an entry that is no longer in the tables out of everything that describes them.
    fn forget(&mut self, old: &Entry) {
        let parts = old.parts();
        self.add_digest(old.hash, digest_of(&parts).wrapping_neg());
        self.bytes -= parts.bytes();
        self.own -= usize::from(is_reserved(parts.key));
        if let Some(at) = parts.expire_at() {
            self.unindex(at, old.hash);
        }
    }

    fn set_expiry(&mut self, hash: u64, key: &[u8], expire_at: Option<Millis>) {
        let Some(entry) = self.tables.find_mut(hash, key) else {
            return;
        };
        let old = entry.expire_at();
        if old == expire_at {
            return;
        }
        let before = entry_digest(entry);
        entry.set_expire_at(expire_at);
        let change = entry_digest(entry).wrapping_sub(before);
        self.add_digest(hash, change);
        if let Some(at) = old {
            self.unindex(at, hash);
        }
        if let Some(at) = expire_at {
            self.expiries.add(at, hash);
        }
    }

    /// Takes one key that had this expiry, and has it no more, out of the index.
    fn unindex(&mut self, at: Millis, hash: u64) {
        let shared = self
            .tables
            .with_hash(hash)
            .any(|entry| entry.expire_at() == Some(at));
        self.expiries.remove(at, hash, shared);
    }
}
