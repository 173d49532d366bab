//! WATCH: who hears that a key was changed.
//!
//! Whatever changes a key says so here, on its way into the tables: commands, expiries, what a standby
//! applies, repairs. A keyspace that is replaced changes all keys. Keys go by their hash: two with the
//! same one only make a transaction fail that might have gone through.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Set once one of the watched keys was changed.
#[derive(Clone, Debug, Default)]
pub struct Changed(Arc<AtomicBool>);

impl Changed {
    /// Whether it was.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Those that watch, by the hash of the key.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_hash: HashMap<u64, Vec<Weak<AtomicBool>>>,
    /// Hashes that may be watched before those that nobody watches any more are cleared away.
    room: usize,
}

/// The least that is worth clearing away.
const LEAST_ROOM: usize = 64;

impl Watches {
    pub(super) fn add(&mut self, hash: u64, changed: &Changed) {
        if self.by_hash.len() >= self.room {
            let watched = |watchers: &mut Vec<Weak<AtomicBool>>| {
                watchers.retain(|watcher| watcher.strong_count() > 0);
                !watchers.is_empty()
            };
            self.by_hash.retain(|_, watchers| watched(watchers));
            self.room = LEAST_ROOM.max(self.by_hash.len() * 2);
        }
        let watchers = self.by_hash.entry(hash).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(&changed.0));
    }

    /// The key with this hash was changed.
    pub(super) fn touch(&mut self, hash: u64) {
        if !self.by_hash.is_empty()
            && let Some(watchers) = self.by_hash.remove(&hash)
        {
            tell(&watchers);
        }
    }

    /// All keys that `is_there` says of, by their hash, were changed.
    pub(super) fn touch_all(&mut self, is_there: impl Fn(u64) -> bool) {
        self.by_hash.retain(|hash, watchers| {
            let stays = !is_there(*hash);
            if !stays {
                tell(watchers);
            }
            stays
        });
    }
}

fn tell(watchers: &[Weak<AtomicBool>]) {
    for watcher in watchers.iter().filter_map(Weak::upgrade) {
        watcher.store(true, Ordering::Release);
    }
}

/// With its keyspace.
impl Drop for Watches {
    fn drop(&mut self) {
        self.touch_all(|_| true);
    }
}

#[cfg(test)]
mod tests {
    use crate::keyspace::{Changed, Effect, Effects, HashSeed, Keyspace};
    use crate::units::Lsn;

    #[test]
    fn who_watches_hears_of_changes_of_that_key_alone() {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        let set = |keyspace: &mut Keyspace, key: &[u8]| {
            let effect = Effect::Set {
                key,
                value: b"value",
                expire_at: None,
            };
            keyspace.apply(&Effects::from_iter([effect]), Lsn(1));
        };
        let flush = |keyspace: &mut Keyspace| {
            keyspace.apply(&Effects::from_iter([Effect::Flush]), Lsn(2));
        };
        let watch = |keyspace: &mut Keyspace, key: &[u8]| {
            let changed = Changed::default();
            keyspace.watch(key, &changed);
            changed
        };
        let (a, b) = (watch(&mut keyspace, b"a"), watch(&mut keyspace, b"b"));
        set(&mut keyspace, b"a");
        assert_eq!((a.is_set(), b.is_set()), (true, false));
        // A FLUSH changes what there is.
        let a = watch(&mut keyspace, b"a");
        flush(&mut keyspace);
        assert_eq!((a.is_set(), b.is_set()), (true, false));
        set(&mut keyspace, b"b");
        assert!(b.is_set());
        // Nobody is left: no more than the least room is kept for those who went.
        for number in 0..10_000_u32 {
            watch(&mut keyspace, &number.to_be_bytes());
        }
        assert!(keyspace.watches.by_hash.len() <= super::LEAST_ROOM);
        // Another keyspace takes its place.
        let a = watch(&mut keyspace, b"a");
        drop(keyspace);
        assert!(a.is_set());
    }
}
