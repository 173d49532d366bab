//! Repair by key (R28): which keys given-up records touched, and what those keys hold elsewhere.
//!
//! Effects are absolute, so what was given up differs from what was not in the touched keys alone.
//! Their values as of some later record, set here, and a replay from the fork to that record give
//! the exact state; the argument is the one for fuzzy snapshots, in `docs/formats.md`.

use std::collections::HashSet;

use bytes::Bytes;

use super::effects::{EffectIter, push_effect};
use super::{Effect, EffectError, Keyspace};
use crate::units::Lsn;

/// What some records touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// These keys.
    Keys(HashSet<Bytes>),
    /// Every key: there was a FLUSH.
    Everything,
}

impl Default for Touched {
    fn default() -> Touched {
        Touched::Keys(HashSet::new())
    }
}

impl Touched {
    /// Adds what the effects of one record touch.
    pub fn add(&mut self, payload: &[u8]) -> Result<(), EffectError> {
        for effect in EffectIter::new(payload) {
            let Some(key) = effect?.key() else {
                *self = Touched::Everything;
                return Ok(());
            };
            if let Touched::Keys(keys) = self
                && !keys.contains(key)
            {
                keys.insert(Bytes::copy_from_slice(key));
            }
        }
        Ok(())
    }
}

impl Keyspace {
    /// Appends the effect that makes `key` what it is here, expired or not: a SET, or a DEL.
    pub fn restate(&self, key: &[u8], out: &mut Vec<u8>) {
        let effect = match self.tables.find(self.tables.hash(key), key) {
            Some(entry) => Effect::Set {
                key,
                value: entry.value(),
                expire_at: entry.expire_at(),
            },
            None => Effect::Del { key },
        };
        push_effect(effect, out);
    }

    /// The records behind `lsn` are taken back. Only which keys wait for a release is forgotten:
    /// what the records did to the tables is for a repair to undo.
    pub fn rewind(&mut self, lsn: Lsn) {
        self.pending.rewind(lsn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Effects, HashSeed};
    use crate::units::Millis;

    fn effects(list: &[Effect<'_>]) -> Effects {
        list.iter().copied().collect()
    }

    fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Effect<'a> {
        Effect::Set {
            key,
            value,
            expire_at: None,
        }
    }

    #[test]
    fn touched_are_keys_until_a_flush_touches_all() {
        let mut touched = Touched::default();
        let expire = Effect::Expire {
            key: b"c",
            expire_at: Some(Millis(7)),
        };
        let list = [set(b"a", b"1"), Effect::Del { key: b"b" }, expire];
        touched.add(effects(&list).encoded()).unwrap();
        let keys = [&b"a"[..], b"b", b"c"].map(Bytes::from_static);
        assert_eq!(touched, Touched::Keys(keys.into_iter().collect()));
        touched.add(effects(&[Effect::Flush]).encoded()).unwrap();
        touched.add(effects(&[set(b"d", b"1")]).encoded()).unwrap();
        assert_eq!(touched, Touched::Everything);
        assert!(Touched::default().add(&[9]).is_err());
    }

    /// Two histories share 300 records; the old primary applied 40 more that the new one never
    /// had, and the new one went on. Whenever the touched keys are read at the new one, their
    /// values and a replay from the fork give the new one's state.
    #[test]
    fn touched_keys_and_replay_give_the_other_history() {
        let mut state = 7_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 33) % below
        };
        let mut record = || {
            let key = format!("k{}", draw(40)).into_bytes();
            let value = draw(1000).to_string().into_bytes();
            let expire_at = (draw(3) == 0).then_some(Millis(1 + draw(9)));
            effects(&[match draw(6) {
                0 => Effect::Del { key: &key },
                1 => Effect::Expire {
                    key: &key,
                    expire_at,
                },
                _ => Effect::Set {
                    key: &key,
                    value: &value,
                    expire_at,
                },
            }])
        };
        for round in 0..50 {
            let shared: Vec<Effects> = (0..300).map(|_| record()).collect();
            let given_up: Vec<Effects> = (0..40).map(|_| record()).collect();
            let new: Vec<Effects> = (0..200).map(|_| record()).collect();
            let (mut old, mut other) = (
                Keyspace::new(HashSeed::new([1, 2])),
                Keyspace::new(HashSeed::new([3, 4])),
            );
            for (lsn, record) in (1..).zip(&shared) {
                old.apply(record, Lsn(lsn));
                other.apply(record, Lsn(lsn));
            }
            let mut touched = Touched::default();
            for (lsn, record) in (301..).zip(&given_up) {
                old.apply(record, Lsn(lsn));
                touched.add(record.encoded()).unwrap();
            }
            let Touched::Keys(keys) = touched else {
                panic!("no FLUSH was among them")
            };
            old.rewind(Lsn(300));
            assert_eq!(old.applied(), Lsn(300));
            let mut keys: Vec<Bytes> = keys.into_iter().collect();
            keys.sort_unstable();
            // The values are read at two moments of the other's history.
            let (first, last) = (round, 3 * round);
            let mut values = Vec::new();
            for (place, (lsn, record)) in (301..).zip(&new).enumerate() {
                if place == first || place == last {
                    // All at the first, half of them again at the last.
                    let from = if place == first { 0 } else { keys.len() / 2 };
                    let part = &keys[from..];
                    part.iter().for_each(|key| other.restate(key, &mut values));
                }
                other.apply(record, Lsn(lsn));
            }
            old.apply_encoded(&values, Lsn::ZERO).unwrap();
            for (lsn, record) in (301..).zip(&new) {
                old.apply(record, Lsn(lsn));
            }
            assert_eq!(old.digest(), other.digest(), "round {round}");
            assert_eq!(old.len(), other.len());
        }
    }

    #[test]
    fn after_a_rewind_nobody_waits_for_what_was_given_up() {
        let mut keyspace = Keyspace::new(HashSeed::new([1, 2]));
        keyspace.apply(&effects(&[set(b"a", b"1")]), Lsn(1));
        keyspace.prune_released(Lsn(1));
        keyspace.apply(&effects(&[set(b"a", b"2"), Effect::Flush]), Lsn(9));
        keyspace.rewind(Lsn(1));
        assert_eq!(keyspace.pending.newest_of_all(), Lsn::ZERO);
        assert_eq!(
            keyspace.pending.newest_of(keyspace.tables.hash(b"a")),
            Lsn::ZERO
        );
    }
}
