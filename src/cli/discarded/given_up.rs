//! What a file of discarded records says about each key in the end, held against what the key holds
//! today.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::cli::quoted::quote_start;
use crate::cli::text::when;
use crate::keyspace::Effect;
use crate::units::{Lsn, Millis};

/// The last state of a key that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It had this value.
    Value {
        value: Bytes,
        expire_at: Option<Millis>,
    },
    /// It was deleted.
    Gone,
    /// It got this expiry; its value is from before the fork, and not in the file.
    Expiry(Option<Millis>),
    /// It went with everything else.
    Flushed,
}

/// What a key holds at the primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) value: Bytes,
    pub(super) expire_at: Option<Millis>,
}

/// How the two compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Same,
    Differs,
    /// There is no such key today.
    Gone,
}

impl Verdict {
    pub(super) fn name(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Differs => "differs",
            Verdict::Gone => "gone",
        }
    }
}

impl State {
    /// Whether this state has ended by itself by now.
    pub(super) fn expired(&self, now: Millis) -> bool {
        match self {
            State::Value { expire_at, .. } | State::Expiry(expire_at) => {
                expire_at.is_some_and(|at| at <= now)
            }
            State::Gone | State::Flushed => false,
        }
    }

    /// Holds it against today's.
    pub(super) fn compare(&self, today: Option<&Held>, now: Millis) -> Verdict {
        let ended = self.expired(now) || matches!(self, State::Gone | State::Flushed);
        let Some(today) = today else {
            return if ended { Verdict::Same } else { Verdict::Gone };
        };
        let same = match self {
            _ if ended => false,
            State::Value { value, expire_at } => {
                *value == today.value && *expire_at == today.expire_at
            }
            State::Expiry(expire_at) => *expire_at == today.expire_at,
            State::Gone | State::Flushed => false,
        };
        if same {
            Verdict::Same
        } else {
            Verdict::Differs
        }
    }

    /// As text.
    pub(super) fn say(&self) -> String {
        match self {
            State::Value { value, expire_at } => say_value(value, *expire_at),
            State::Gone => "deleted".to_owned(),
            State::Expiry(Some(at)) => format!("expires {}, its value unchanged", when(*at)),
            State::Expiry(None) => "expires no more, its value unchanged".to_owned(),
            State::Flushed => "deleted by a FLUSH".to_owned(),
        }
    }
}

/// What a key holds, as text.
pub(super) fn say_held(held: Option<&Held>) -> String {
    held.map_or_else(
        || "no such key".to_owned(),
        |held| say_value(&held.value, held.expire_at),
    )
}

fn say_value(value: &[u8], expire_at: Option<Millis>) -> String {
    let expiry = expire_at.map_or_else(String::new, |at| format!(" expires {}", when(at)));
    quote_start(value) + &expiry
}

/// The last state of each key, and which record brought it.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    /// In the keys' order.
    pub(super) keys: BTreeMap<Vec<u8>, (State, Lsn)>,
    /// Records that deleted everything.
    pub(super) flushes: Vec<Lsn>,
}

impl GivenUp {
    /// Takes in the next effect. Only `chosen` keys are kept, where some are named.
    pub(super) fn take(&mut self, lsn: Lsn, effect: &Effect<'_>, chosen: &Chosen) {
        let (key, state) = match *effect {
            Effect::Flush => {
                self.flushes.push(lsn);
                for state in self.keys.values_mut() {
                    *state = (State::Flushed, lsn);
                }
                return;
            }
            Effect::Set {
                key,
                value,
                expire_at,
            } => {
                let value = if chosen.has(key) {
                    Bytes::copy_from_slice(value)
                } else {
                    Bytes::new()
                };
                (key, State::Value { value, expire_at })
            }
            Effect::Del { key } => (key, State::Gone),
            Effect::Expire { key, expire_at } => match self.keys.get(key) {
                // On a missing key it does nothing, on a known one it leaves the value.
                Some((State::Gone | State::Flushed, _)) => return,
                Some((State::Value { value, .. }, _)) => {
                    let value = value.clone();
                    (key, State::Value { value, expire_at })
                }
                // A key from before the fork, gone with a FLUSH.
                None if !self.flushes.is_empty() => (key, State::Flushed),
                Some((State::Expiry(_), _)) | None => (key, State::Expiry(expire_at)),
            },
        };
        if chosen.has(key) {
            self.keys.insert(key.to_vec(), (state, lsn));
        }
    }
}

/// Which keys a command is about.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    /// All that the file names.
    All,
    /// These.
    Keys(BTreeSet<Vec<u8>>),
}

impl Chosen {
    /// Those named, all where none is.
    pub(super) fn new(keys: Vec<Vec<u8>>) -> Chosen {
        if keys.is_empty() {
            Chosen::All
        } else {
            Chosen::Keys(keys.into_iter().collect())
        }
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        match self {
            Chosen::All => true,
            Chosen::Keys(keys) => keys.contains(key),
        }
    }

    /// Whether an effect touches one of them; a FLUSH touches all.
    pub(super) fn touches(&self, effect: &Effect<'_>) -> bool {
        effect.key().is_none_or(|key| self.has(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<'a>(key: &'a [u8], value: &'a [u8], at: u64) -> Effect<'a> {
        Effect::Set {
            key,
            value,
            expire_at: Some(Millis(at)).filter(|at| at.0 > 0),
        }
    }

    fn expire(key: &[u8], at: u64) -> Effect<'_> {
        Effect::Expire {
            key,
            expire_at: Some(Millis(at)).filter(|at| at.0 > 0),
        }
    }

    fn value(value: &'static [u8], at: u64) -> State {
        State::Value {
            value: Bytes::from_static(value),
            expire_at: Some(Millis(at)).filter(|at| at.0 > 0),
        }
    }

    /// The last state of `k` after these effects.
    fn last(effects: &[Effect<'_>]) -> Option<State> {
        let mut given_up = GivenUp::default();
        for (place, effect) in effects.iter().enumerate() {
            given_up.take(Lsn(place as u64), effect, &Chosen::All);
        }
        given_up.keys.remove(&b"k"[..]).map(|(state, _)| state)
    }

    #[test]
    fn the_last_effect_counts_and_an_expiry_leaves_the_value() {
        let del = Effect::Del { key: b"k" };
        assert_eq!(last(&[set(b"other", b"1", 0)]), None);
        assert_eq!(
            last(&[set(b"k", b"1", 0), set(b"k", b"2", 9)]),
            Some(value(b"2", 9))
        );
        assert_eq!(last(&[set(b"k", b"1", 0), del]), Some(State::Gone));
        assert_eq!(last(&[del, expire(b"k", 9)]), Some(State::Gone));
        assert_eq!(
            last(&[set(b"k", b"1", 0), expire(b"k", 9)]),
            Some(value(b"1", 9))
        );
        assert_eq!(
            last(&[set(b"k", b"1", 9), expire(b"k", 0)]),
            Some(value(b"1", 0))
        );
        assert_eq!(
            last(&[expire(b"k", 9)]),
            Some(State::Expiry(Some(Millis(9))))
        );
        assert_eq!(
            last(&[expire(b"k", 9), expire(b"k", 0)]),
            Some(State::Expiry(None))
        );
    }

    #[test]
    fn a_flush_ends_what_was_before_it() {
        let flush = Effect::Flush;
        assert_eq!(last(&[set(b"k", b"1", 0), flush]), Some(State::Flushed));
        assert_eq!(
            last(&[set(b"k", b"1", 0), flush, expire(b"k", 9)]),
            Some(State::Flushed)
        );
        assert_eq!(last(&[flush, expire(b"k", 9)]), Some(State::Flushed));
        assert_eq!(last(&[flush, set(b"k", b"1", 0)]), Some(value(b"1", 0)));
        assert_eq!(last(&[flush]), None);
    }

    #[test]
    fn only_chosen_keys_are_kept() {
        let chosen = Chosen::new(vec![b"k".to_vec()]);
        let mut given_up = GivenUp::default();
        for effect in [set(b"k", b"1", 0), set(b"other", b"2", 0), Effect::Flush] {
            given_up.take(Lsn(1), &effect, &chosen);
        }
        assert_eq!(given_up.keys.len(), 1);
        assert_eq!(given_up.flushes, [Lsn(1)]);
    }

    #[test]
    fn today_is_the_same_differs_or_is_gone() {
        let held = |value: &'static [u8], at: u64| Held {
            value: Bytes::from_static(value),
            expire_at: Some(Millis(at)).filter(|at| at.0 > 0),
        };
        let now = Millis(100);
        let compare = |state: &State, today: Option<Held>| state.compare(today.as_ref(), now);
        for (state, today, verdict) in [
            (value(b"1", 0), Some(held(b"1", 0)), Verdict::Same),
            (value(b"1", 0), Some(held(b"2", 0)), Verdict::Differs),
            (value(b"1", 0), Some(held(b"1", 200)), Verdict::Differs),
            (value(b"1", 0), None, Verdict::Gone),
            // What expired would be gone today as well.
            (value(b"1", 50), None, Verdict::Same),
            (value(b"1", 50), Some(held(b"1", 0)), Verdict::Differs),
            (State::Gone, None, Verdict::Same),
            (State::Gone, Some(held(b"1", 0)), Verdict::Differs),
            (State::Flushed, None, Verdict::Same),
            (State::Flushed, Some(held(b"1", 0)), Verdict::Differs),
            (
                State::Expiry(Some(Millis(200))),
                Some(held(b"1", 200)),
                Verdict::Same,
            ),
            (State::Expiry(None), Some(held(b"1", 200)), Verdict::Differs),
            (State::Expiry(None), None, Verdict::Gone),
        ] {
            assert_eq!(
                compare(&state, today.clone()),
                verdict,
                "{state:?} {today:?}"
            );
        }
    }
}
