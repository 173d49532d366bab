//! Walking the keyspace while it changes: SCAN, KEYS, RANDOMKEY and the fuzzy snapshot.
//!
//! The order is by position, a function of the key's hash alone, so it is stable under any growth:
//! a key that is there from the walk's start to its end is met, and (SCAN) met once.

use bytes::Bytes;

use super::effect::encode_set;
use super::glob;
use super::table::{Entry, Keyspace};

/// Where a snapshot's walk is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCursor(u64);

impl Keyspace {
    /// The keys from position `cursor` on that pass `keep`, stopping behind about `count` keys
    /// looked at; and the position to go on from, 0 at the end.
    pub(super) fn scan_from(
        &self,
        cursor: u64,
        count: usize,
        mut keep: impl FnMut(&Entry) -> bool,
    ) -> (u64, Vec<Bytes>) {
        let (mut found, mut seen) = (Vec::new(), 0);
        for table in Self::table_at(cursor)..self.tables.len() {
            let mut entries: Vec<(u64, &Entry)> = self.tables[table]
                .iter()
                .map(|entry| (Self::position(self.hash(&entry.key)), entry))
                .filter(|(position, _)| *position >= cursor)
                .collect();
            entries.sort_unstable_by_key(|(position, _)| *position);
            let mut last = None;
            for (position, entry) in entries {
                // Only between two positions: keys with one hash go together.
                if seen >= count && last != Some(position) {
                    return (position, found);
                }
                last = Some(position);
                seen += 1;
                if keep(entry) {
                    found.push(Bytes::copy_from_slice(&entry.key));
                }
            }
        }
        (0, found)
    }

    /// Every live key that matches.
    pub(super) fn all_matching(&self, pattern: &[u8], now_ms: u64) -> Vec<Bytes> {
        let keys = self.tables.iter().flatten();
        let live = keys.filter(|entry| entry.is_live(now_ms) && glob::matches(pattern, &entry.key));
        live.map(|entry| Bytes::copy_from_slice(&entry.key))
            .collect()
    }

    /// A live key near a random position.
    pub(super) fn random_key(&self, random: u64, now_ms: u64) -> Option<Bytes> {
        let tables = self.tables.len();
        let start = Self::table_at(random);
        for step in 0..tables {
            let table = &self.tables[(start + step) % tables];
            if table.is_empty() {
                continue;
            }
            let skip = (random as usize) % table.len();
            let live = |entry: &&Entry| entry.is_live(now_ms);
            let chosen = table
                .iter()
                .skip(skip)
                .find(live)
                .or_else(|| table.iter().find(live));
            if let Some(entry) = chosen {
                return Some(Bytes::copy_from_slice(&entry.key));
            }
        }
        None
    }

    /// Appends the SET effects of the next tables, about `max_bytes`, to `out`; whether the walk
    /// is at its end. Writes may go on between two calls: what they change follows in the log.
    pub fn walk_chunk(&self, cursor: &mut WalkCursor, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        while (cursor.0 as usize) < self.tables.len() {
            for entry in &self.tables[cursor.0 as usize] {
                encode_set(&entry.key, &entry.value, entry.expire_at, out);
            }
            cursor.0 += 1;
            if out.len() - start >= max_bytes {
                break;
            }
        }
        cursor.0 as usize == self.tables.len()
    }
}

impl Entry {
    pub(super) fn is_live(&self, now_ms: u64) -> bool {
        self.expire_at == 0 || self.expire_at > now_ms
    }
}
