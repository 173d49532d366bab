//! The snapshot's walk: the keyspace in batches, while writes go on between them.
//!
//! The walk goes by position, which for a key never changes, so a key that is there from begin to
//! end is visited exactly once, whatever is written meanwhile.
//!
//! A batch is taken under the keyspace's lock, and encoded without it. Under the lock only a
//! bounded number of entries is looked at, small ones are copied, and of a large value nothing but
//! a reference is taken: a single value of 512 MiB does not make the hold longer. (A long key is
//! copied: it has no reference count. One record bounds it, at 64 MiB.)

use std::ops::Range;

use bytes::Bytes;

use super::effects::push_effect;
use super::entry::{Entry, SHARED_BYTES};
use super::{Effect, Keyspace};
use crate::units::Millis;

/// How far a walk has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor {
    /// The first position not visited.
    position: u64,
}

/// The most that one hold of the lock takes. Either is exceeded by less than one entry, or by the
/// keys of one position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkLimit {
    /// Entries.
    pub entries: usize,
    /// Bytes copied.
    pub bytes: usize,
}

impl Default for WalkLimit {
    /// About a quarter of a millisecond where every entry is a miss of every cache.
    fn default() -> Self {
        WalkLimit {
            entries: 512,
            bytes: 128 << 10,
        }
    }
}

#[derive(Debug)]
enum Value {
    Copied(Range<usize>),
    Shared(Bytes),
}

#[derive(Debug)]
struct Taken {
    key: Range<usize>,
    value: Value,
    expire_at: Option<Millis>,
}

/// Entries on their way from the keyspace into a snapshot.
#[derive(Debug, Default)]
pub struct WalkBatch {
    entries: Vec<Taken>,
    /// Keys and small values.
    copied: Vec<u8>,
}

impl WalkBatch {
    /// An empty batch with room for `limit`, so that none has to be found under the lock.
    pub fn with_room(limit: WalkLimit) -> WalkBatch {
        let mut copied = Vec::with_capacity(limit.bytes + SHARED_BYTES);
        // Written to once: under the lock, the first touch of each page was a fault.
        copied.resize(copied.capacity(), 1);
        copied.clear();
        WalkBatch {
            entries: Vec::with_capacity(limit.entries + 1),
            copied,
        }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, entry: &Entry) {
        let parts = entry.parts();
        let key = self.copy(parts.key);
        let value = if parts.value.len() < SHARED_BYTES {
            Value::Copied(self.copy(parts.value))
        } else {
            Value::Shared(entry.shared(..))
        };
        self.entries.push(Taken {
            key,
            value,
            expire_at: parts.expire_at(),
        });
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.copied.len();
        self.copied.extend_from_slice(bytes);
        start..self.copied.len()
    }

    /// Empties the batch: appends its entries to `block` as SET effects, by key, and calls `full`
    /// whenever `block` has `block_bytes` or more, with it and the number of keys in it. `full`
    /// empties the block. What is left in `block` at the end belongs to `keys` keys.
    ///
    /// By key, so that a keyspace of one batch has the same bytes on every node and in every
    /// simulation, although positions differ, and because neighbours compress better.
    ///
    /// # Errors
    /// Those of `full`; the batch is lost then.
    pub fn encode<E>(
        &mut self,
        block: &mut Vec<u8>,
        keys: &mut u64,
        block_bytes: usize,
        mut full: impl FnMut(&mut Vec<u8>, &mut u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let copied = &self.copied;
        self.entries
            .sort_unstable_by(|a, b| copied[a.key.clone()].cmp(&copied[b.key.clone()]));
        for taken in self.entries.drain(..) {
            let value = match &taken.value {
                Value::Copied(range) => &copied[range.clone()],
                Value::Shared(bytes) => &bytes[..],
            };
            let effect = Effect::Set {
                key: &copied[taken.key],
                value,
                expire_at: taken.expire_at,
            };
            push_effect(effect, block);
            *keys += 1;
            if block.len() >= block_bytes {
                full(block, keys)?;
            }
        }
        self.copied.clear();
        Ok(())
    }
}

impl Keyspace {
    /// Takes the entries of the next positions into `out`, until `limit` is reached, and moves
    /// `cursor` on. At least one position is taken. Whether the walk is done.
    ///
    /// The time under the lock is that of `limit`, and of one look through one of the 4,096 tables.
    pub fn walk_batch(
        &self,
        cursor: &mut WalkCursor,
        limit: WalkLimit,
        out: &mut WalkBatch,
    ) -> bool {
        let before = out.copied.len();
        let mut left = limit.entries.max(1);
        loop {
            let about = limit.entries;
            let (mut found, next) = self.tables.next_positions(cursor.position, about);
            found.sort_unstable_by_key(|entry| entry.hash);
            let mut last = None;
            for entry in found {
                let full = left == 0 || out.copied.len() - before >= limit.bytes;
                if full && last != Some(entry.hash) {
                    cursor.position = entry.hash;
                    return false;
                }
                out.take(entry);
                left = left.saturating_sub(1);
                last = Some(entry.hash);
            }
            let Some(next) = next else {
                cursor.position = u64::MAX;
                return true;
            };
            cursor.position = next;
            if left == 0 || out.copied.len() - before >= limit.bytes {
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Effects, HashSeed};
    use crate::units::Lsn;

    fn filled(keys: u32, value: &[u8]) -> Keyspace {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        let mut effects = Effects::new();
        for n in 0..keys {
            let key = format!("key {n}");
            effects.push(Effect::Set {
                key: key.as_bytes(),
                value,
                expire_at: None,
            });
        }
        keyspace.apply(&effects, Lsn(1));
        keyspace
    }

    fn walk(keyspace: &Keyspace, limit: WalkLimit) -> (Keyspace, usize) {
        let (mut cursor, mut batch) = (WalkCursor::default(), WalkBatch::with_room(limit));
        let (mut restored, mut holds) = (Keyspace::new(HashSeed::new([3, 4])), 0);
        loop {
            let done = keyspace.walk_batch(&mut cursor, limit, &mut batch);
            holds += 1;
            assert!(batch.len() <= limit.entries, "{} entries", batch.len());
            let (mut block, mut keys) = (Vec::new(), 0);
            let never = |_: &mut Vec<u8>, _: &mut u64| Err("no block is full");
            assert_eq!(
                batch.encode(&mut block, &mut keys, usize::MAX, never),
                Ok(())
            );
            restored.apply_encoded(&block, Lsn(1)).unwrap();
            if done {
                return (restored, holds);
            }
        }
    }

    #[test]
    fn every_key_is_taken_once_whatever_the_limit() {
        let keyspace = filled(3000, b"a value");
        for (entries, bytes) in [(1, 1 << 20), (7, 1 << 20), (500, 64), (100_000, 1 << 20)] {
            let (restored, holds) = walk(&keyspace, WalkLimit { entries, bytes });
            assert_eq!(restored.len(), 3000);
            assert_eq!(restored.digest(), keyspace.digest());
            assert!(holds >= 3000 / entries.min(3000));
        }
        assert_eq!(
            walk(&Keyspace::new(HashSeed::new([1, 2])), WalkLimit::default()).1,
            1
        );
    }

    #[test]
    fn a_large_value_is_referred_to_and_not_copied() {
        let keyspace = filled(3, &vec![7; 1 << 20]);
        let (mut cursor, mut batch) = (WalkCursor::default(), WalkBatch::default());
        assert!(keyspace.walk_batch(&mut cursor, WalkLimit::default(), &mut batch));
        assert_eq!((batch.len(), batch.copied.len()), (3, 3 * "key 0".len()));
    }

    #[test]
    fn blocks_are_full_and_say_how_many_keys_they_hold() {
        let keyspace = filled(1000, b"0123456789");
        let (mut cursor, mut batch) = (WalkCursor::default(), WalkBatch::default());
        let (mut block, mut keys, mut blocks, mut counted) = (Vec::new(), 0, 0, 0);
        loop {
            let done = keyspace.walk_batch(&mut cursor, WalkLimit::default(), &mut batch);
            let full = |block: &mut Vec<u8>, keys: &mut u64| {
                assert!((600..700).contains(&block.len()), "{}", block.len());
                (blocks, counted) = (blocks + 1, counted + *keys);
                block.clear();
                *keys = 0;
                Ok::<(), ()>(())
            };
            batch.encode(&mut block, &mut keys, 600, full).unwrap();
            if done {
                break;
            }
        }
        assert_eq!(counted + keys, 1000);
        assert!(blocks > 30, "{blocks}");
    }
}
