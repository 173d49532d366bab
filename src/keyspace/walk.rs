//! The snapshot's walk: the keyspace in chunks, while writes go on between them.
//!
//! The walk goes by position, which for a key never changes, so a key that is there from begin to
//! end is visited exactly once, whatever is written meanwhile. Chunks are effects in the same
//! codec as the log: loading one is [`Keyspace::apply_encoded`].

use super::effects::push_effect;
use super::{Effect, Keyspace};

/// How far a walk has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor {
    /// The first position not visited.
    position: u64,
}

impl Keyspace {
    /// Appends the entries of the next positions to `out` as SET effects, until about `max_bytes`
    /// have been added, and moves `cursor` on. At least one position is taken, so that a value
    /// above `max_bytes` does not stop the walk. Whether the walk is done.
    pub fn walk_chunk(&self, cursor: &mut WalkCursor, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let mut last = None;
        for entry in self.tables.sorted_from(cursor.position).flatten() {
            if out.len() - start >= max_bytes && last.is_some_and(|last| last != entry.hash) {
                cursor.position = entry.hash;
                return false;
            }
            let (key, value, expire_at) = (&entry.key[..], &entry.value[..], entry.expire_at());
            push_effect(
                Effect::Set {
                    key,
                    value,
                    expire_at,
                },
                out,
            );
            last = Some(entry.hash);
        }
        cursor.position = u64::MAX;
        true
    }
}
