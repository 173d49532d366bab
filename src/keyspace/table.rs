//! The table of keys: many small hash tables, so that none ever stalls for long when it grows and
//! a walk can stop between any two keys.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::effect::{Effect, EffectError, EffectRef, Effects, visit};
use super::expire::ExpiryIndex;
use super::pending::Pending;
use crate::units::Lsn;

const TABLE_BITS: u32 = 10;
/// Bits of the hash that choose the table: neither the lowest (they choose the bucket) nor the
/// highest (they are hashbrown's tags), so that both stay random within a table.
const TABLE_SHIFT: u32 = 40;

/// A key as stored.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    pub(super) value: Box<[u8]>,
    /// Milliseconds since 1970; 0: none.
    pub(super) expire_at: u64,
}

/// All keys of a node.
#[derive(Debug)]
pub struct Keyspace {
    pub(super) tables: Vec<HashTable<Entry>>,
    pub(super) seed: RandomState,
    pub(super) expiries: ExpiryIndex,
    pub(super) pending: Pending,
    keys: usize,
    bytes: usize,
}

impl Default for Keyspace {
    fn default() -> Keyspace {
        Keyspace::new()
    }
}

impl Keyspace {
    /// An empty one. The hash seed is drawn per process: keys are the clients' choice.
    pub fn new() -> Keyspace {
        Keyspace {
            tables: (0..1 << TABLE_BITS).map(|_| HashTable::new()).collect(),
            seed: RandomState::new(),
            expiries: ExpiryIndex::default(),
            pending: Pending::default(),
            keys: 0,
            bytes: 0,
        }
    }

    /// Number of keys, the expired but not yet deleted included.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Number of keys with an expiry.
    pub fn expiring(&self) -> usize {
        self.expiries.len()
    }

    /// Bytes of keys, values and entries, without the allocator's own.
    pub fn used_bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets which effects were unreleased, up to here.
    pub fn prune_released(&mut self, released: Lsn) {
        self.pending.prune(released);
    }

    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.seed.hash_one(key)
    }

    pub(super) fn table_of(hash: u64) -> usize {
        ((hash >> TABLE_SHIFT) & ((1 << TABLE_BITS) - 1)) as usize
    }

    /// A key's place in the walk's order: by table first.
    pub(super) fn position(hash: u64) -> u64 {
        hash.rotate_left(64 - TABLE_SHIFT - TABLE_BITS)
    }

    pub(super) fn table_at(position: u64) -> usize {
        (position >> (64 - TABLE_BITS)) as usize
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.tables[Self::table_of(hash)].find(hash, |entry| *entry.key == *key)
    }

    /// Applies one transaction's effects, made by the record `lsn`.
    pub fn apply(&mut self, effects: &Effects, lsn: Lsn) {
        for effect in &effects.0 {
            let effect = match effect {
                Effect::Set {
                    key,
                    value,
                    expire_at,
                } => EffectRef::Set(key, value, *expire_at),
                Effect::Del(key) => EffectRef::Del(key),
                Effect::Expire(key, at) => EffectRef::Expire(key, *at),
                Effect::Flush => EffectRef::Flush,
            };
            self.apply_one(effect, lsn);
        }
    }

    /// Applies a record's payload; nothing of it when any of it is not understood.
    pub fn apply_encoded(&mut self, payload: &[u8], lsn: Lsn) -> Result<(), EffectError> {
        visit(payload, |_| {})?;
        visit(payload, |effect| self.apply_one(effect, lsn))
    }

    fn apply_one(&mut self, effect: EffectRef<'_>, lsn: Lsn) {
        match effect {
            EffectRef::Set(key, value, expire_at) => {
                let hash = self.hash(key);
                self.set(hash, key, value, expire_at);
                self.note(hash, lsn);
            }
            EffectRef::Del(key) => {
                let hash = self.hash(key);
                self.delete(hash, key);
                self.note(hash, lsn);
            }
            EffectRef::Expire(key, at) => {
                let hash = self.hash(key);
                let table = &mut self.tables[Self::table_of(hash)];
                if let Some(entry) = table.find_mut(hash, |entry| *entry.key == *key) {
                    self.expiries.moved(key, entry.expire_at, at);
                    entry.expire_at = at;
                }
                self.note(hash, lsn);
            }
            EffectRef::Flush => {
                for table in &mut self.tables {
                    *table = HashTable::new();
                }
                self.expiries = ExpiryIndex::default();
                (self.keys, self.bytes) = (0, 0);
                self.pending.note_whole(lsn);
            }
        }
    }

    /// What comes from a snapshot (LSN zero) was released before it counted.
    fn note(&mut self, hash: u64, lsn: Lsn) {
        if lsn > Lsn::ZERO {
            self.pending.note(hash, lsn);
        }
    }

    fn set(&mut self, hash: u64, key: &[u8], value: &[u8], expire_at: u64) {
        let table = &mut self.tables[Self::table_of(hash)];
        if let Some(entry) = table.find_mut(hash, |entry| *entry.key == *key) {
            self.expiries.moved(key, entry.expire_at, expire_at);
            self.bytes = self.bytes + value.len() - entry.value.len();
            entry.expire_at = expire_at;
            if entry.value.len() == value.len() {
                entry.value.copy_from_slice(value);
            } else {
                entry.value = value.into();
            }
            return;
        }
        let entry = Entry {
            key: key.into(),
            value: value.into(),
            expire_at,
        };
        let seed = &self.seed;
        table.insert_unique(hash, entry, |entry| seed.hash_one(&*entry.key));
        self.expiries.moved(key, 0, expire_at);
        self.keys += 1;
        self.bytes += key.len() + value.len() + size_of::<Entry>();
    }

    fn delete(&mut self, hash: u64, key: &[u8]) {
        let table = &mut self.tables[Self::table_of(hash)];
        let Ok(found) = table.find_entry(hash, |entry| *entry.key == *key) else {
            return;
        };
        let (entry, _) = found.remove();
        self.expiries.moved(key, entry.expire_at, 0);
        self.keys -= 1;
        self.bytes -= entry.key.len() + entry.value.len() + size_of::<Entry>();
    }
}
