//! Filling an empty keyspace from a snapshot's blocks, on as many threads as there are.
//!
//! A block's entries are made without a lock, then put into 64 groups of tables, each behind a lock
//! of its own that is held for a few dozen entries. A snapshot holds each key once, so the order of
//! blocks means nothing, and a key that comes twice is damage.

use std::sync::{Mutex, MutexGuard};

use hashbrown::HashTable;
use thiserror::Error;

use super::access::Access;
use super::digest::entry_digest;
use super::effects::EffectIter;
use super::entry::Entry;
use super::expiry::ExpiryIndex;
use super::pending::Pending;
use super::tables::{HashSeed, TABLES, Tables, insert_into, reserve_in, table_of};
use super::watch::Watches;
use super::{Effect, EffectError, Keyspace, is_reserved};

const GROUPS: usize = 64;
const TABLES_PER_GROUP: usize = TABLES / GROUPS;

/// Why a block does not belong into a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError {
    /// It is no list of effects.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// It says something else than that keys have values.
    #[error("an effect that is no SET")]
    NotSet,
    /// A key was there already.
    #[error("a key that comes twice")]
    Twice,
}

/// Tables next to each other, and what describes their content.
#[derive(Debug, Default)]
struct Group {
    tables: Vec<HashTable<Entry>>,
    digests: Vec<u64>,
    expiring: Vec<(u64, u64)>,
    bytes: usize,
    own: usize,
}

/// A keyspace that is being filled.
#[derive(Debug)]
pub struct Loader {
    seed: HashSeed,
    groups: Vec<Mutex<Group>>,
}

/// One thread's entries between a block and the tables, kept from block to block.
#[derive(Debug)]
pub struct LoadRoom {
    /// Entries, each with its digest.
    groups: Vec<Vec<(Entry, u64)>>,
}

impl Default for LoadRoom {
    fn default() -> LoadRoom {
        LoadRoom {
            groups: (0..GROUPS).map(|_| Vec::new()).collect(),
        }
    }
}

impl Loader {
    /// An empty one, with room for about `keys`.
    pub fn new(seed: HashSeed, keys: u64) -> Loader {
        // A little over the mean: without it, half of the tables would grow at the very end.
        let per_table = usize::try_from(keys).unwrap_or(0) / TABLES;
        let per_table = per_table + per_table / 8;
        let group = || {
            let table = || {
                let mut table = HashTable::new();
                reserve_in(&mut table, per_table);
                table
            };
            Mutex::new(Group {
                tables: (0..TABLES_PER_GROUP).map(|_| table()).collect(),
                digests: vec![0; TABLES_PER_GROUP],
                ..Group::default()
            })
        };
        Loader {
            seed,
            groups: (0..GROUPS).map(|_| group()).collect(),
        }
    }

    /// Adds what one block holds; how many keys.
    ///
    /// # Errors
    /// A block that is not of a snapshot. What has been loaded is of no use then.
    pub fn add(&self, block: &[u8], room: &mut LoadRoom) -> Result<u64, LoadError> {
        let mut keys = 0;
        for effect in EffectIter::new(block) {
            let Effect::Set {
                key,
                value,
                expire_at,
            } = effect?
            else {
                return Err(LoadError::NotSet);
            };
            let entry = Entry::new(self.seed.hash(key), key, value, expire_at);
            let digest = entry_digest(&entry);
            room.groups[table_of(entry.hash) / TABLES_PER_GROUP].push((entry, digest));
            keys += 1;
        }
        for (group, entries) in self.groups.iter().zip(&mut room.groups) {
            if !entries.is_empty() {
                lock(group).take(entries)?;
            }
        }
        Ok(keys)
    }

    /// The keyspace.
    pub fn finish(self) -> Keyspace {
        let (mut tables, mut digests) = (Vec::with_capacity(TABLES), Vec::with_capacity(TABLES));
        let (mut expiring, mut bytes, mut own) = (Vec::new(), 0, 0);
        for group in self.groups {
            let group = group
                .into_inner()
                .expect("a thread panicked while it filled the keyspace");
            tables.extend(group.tables);
            digests.extend(group.digests);
            expiring.extend(group.expiring);
            bytes += group.bytes;
            own += group.own;
        }
        Keyspace {
            digest: digests.iter().copied().fold(0, u64::wrapping_add),
            tables: Tables::filled(self.seed, tables.into(), digests.into()),
            expiries: ExpiryIndex::filled(expiring),
            bytes,
            pending: Pending::default(),
            flushed: None,
            watches: Watches::default(),
            own,
            access: Access::default(),
        }
    }
}

fn lock(group: &Mutex<Group>) -> MutexGuard<'_, Group> {
    group
        .lock()
        .expect("a thread panicked while it filled the keyspace")
}

impl Group {
    fn take(&mut self, entries: &mut Vec<(Entry, u64)>) -> Result<(), LoadError> {
        for (entry, digest) in entries.drain(..) {
            let parts = entry.parts();
            self.bytes += parts.bytes();
            self.own += usize::from(is_reserved(parts.key));
            if let Some(at) = parts.expire_at() {
                self.expiring.push((at.0, entry.hash));
            }
            let place = table_of(entry.hash) % TABLES_PER_GROUP;
            self.digests[place] = self.digests[place].wrapping_add(digest);
            if insert_into(&mut self.tables[place], entry).is_some() {
                return Err(LoadError::Twice);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Effects;
    use crate::units::{Lsn, Millis};

    fn block(keys: std::ops::Range<u64>) -> Effects {
        let mut effects = Effects::new();
        for n in keys {
            let (key, value) = (format!("key {n}"), format!("value {n}"));
            effects.push(Effect::Set {
                key: key.as_bytes(),
                value: value.as_bytes(),
                // Equal times share an item of the index.
                expire_at: (n % 3 == 0).then_some(Millis(1000 + n % 7)),
            });
        }
        effects
    }

    #[test]
    fn what_threads_load_is_what_applying_gives() {
        let mut wanted = Keyspace::new(HashSeed::new([1, 2]));
        let blocks: Vec<Effects> = (0..40).map(|n| block(n * 100..n * 100 + 100)).collect();
        for block in &blocks {
            wanted.apply(block, Lsn::ZERO);
        }
        let loader = Loader::new(HashSeed::new([3, 4]), 4000);
        std::thread::scope(|scope| {
            for part in blocks.chunks(10) {
                let loader = &loader;
                scope.spawn(move || {
                    let mut room = LoadRoom::default();
                    for block in part {
                        assert_eq!(loader.add(block.encoded(), &mut room), Ok(100));
                    }
                });
            }
        });
        let mut loaded = loader.finish();
        let facts = |keyspace: &Keyspace| {
            (
                keyspace.len(),
                keyspace.len_with_expiry(),
                keyspace.used_bytes(),
                keyspace.digest(),
                keyspace.next_expiry(),
            )
        };
        assert_eq!(facts(&loaded), facts(&wanted));
        for keyspace in [&mut loaded, &mut wanted] {
            let expired = keyspace.plan_expired(Millis(u64::MAX), usize::MAX);
            keyspace.apply(&expired, Lsn(1));
        }
        assert_eq!(loaded.len_with_expiry(), 0);
        assert_eq!(facts(&loaded), facts(&wanted));
    }

    #[test]
    fn a_block_that_is_no_snapshot_s_is_refused() {
        let (loader, mut room) = (Loader::new(HashSeed::new([1, 2]), 0), LoadRoom::default());
        let mut add = |bytes: &[u8]| loader.add(bytes, &mut room);
        assert_eq!(add(block(0..2).encoded()), Ok(2));
        assert_eq!(add(block(1..2).encoded()), Err(LoadError::Twice));
        let mut other = Effects::new();
        other.push(Effect::Flush);
        assert_eq!(add(other.encoded()), Err(LoadError::NotSet));
        assert!(matches!(add(b"\x09"), Err(LoadError::Effect(_))));
    }
}
