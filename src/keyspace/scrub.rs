//! The memory scrub: whether keys and values are still what effects made them.
//!
//! The digest is updated per effect and never computed from what is stored, so a bit that memory
//! lost does not show in it. Each table has a digest of its own; its entries are added up again, one
//! table at a time, under the keyspace's shared lock: a thousand entries of a keyspace of five
//! million.

use super::Keyspace;
use super::entry::Entry;
use super::tables::TABLES;

impl Keyspace {
    /// How many parts a scrub goes through.
    pub const SCRUB_PARTS: usize = TABLES;

    /// Whether this part is what effects made it.
    pub fn is_sound(&self, part: usize) -> bool {
        self.tables.adds_up(part).unwrap_or(true)
    }

    /// Tells one keyspace of this process from another. For tests.
    #[doc(hidden)]
    pub fn seed(&self) -> u64 {
        self.tables.hash(b"")
    }

    /// Turns one bit of a stored value and tells nobody: what bad memory does. For tests; whether
    /// there was such a key with a value.
    #[doc(hidden)]
    pub fn turn_bit_of(&mut self, key: &[u8]) -> bool {
        let hash = self.tables.hash(key);
        let Some(entry) = self.tables.find_mut(hash, key) else {
            return false;
        };
        let mut value = entry.value().to_vec();
        let Some(byte) = value.first_mut() else {
            return false;
        };
        *byte ^= 0x10;
        *entry = Entry::new(hash, key, &value, entry.expire_at());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Effect, Effects, HashSeed};
    use crate::units::{Lsn, Millis};

    #[test]
    fn a_turned_bit_is_found_in_its_part_and_nowhere_else() {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        for n in 0..20_000_u64 {
            let (key, mut effects) = (format!("k{}", n % 9_000), Effects::new());
            let key = key.as_bytes();
            effects.push(match n % 7 {
                0 => Effect::Del { key },
                1 => Effect::Expire {
                    key,
                    expire_at: Some(Millis(n)),
                },
                _ => Effect::Set {
                    key,
                    value: b"value",
                    expire_at: (n % 3 == 0).then_some(Millis(1 + n)),
                },
            });
            keyspace.apply(&effects, Lsn(n + 1));
        }
        let unsound = |keyspace: &Keyspace| -> Vec<usize> {
            let parts = 0..Keyspace::SCRUB_PARTS;
            parts.filter(|part| !keyspace.is_sound(*part)).collect()
        };
        assert!(unsound(&keyspace).is_empty());
        let digest = keyspace.digest();
        assert!(keyspace.turn_bit_of(b"k5"));
        assert_eq!(keyspace.digest(), digest, "the digest does not notice");
        assert_eq!(unsound(&keyspace).len(), 1);
        assert!(keyspace.turn_bit_of(b"k5"));
        assert!(unsound(&keyspace).is_empty());
        assert!(!keyspace.turn_bit_of(b"nobody"));
        let mut flush = Effects::new();
        flush.push(Effect::Flush);
        keyspace.apply(&flush, Lsn(30_000));
        assert!(unsound(&keyspace).is_empty());
        assert_eq!(keyspace.digest(), 0);
    }
}
