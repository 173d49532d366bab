//! Effects and their codec: what a record of the log says.
//!
//! An [`Effects`] *is* its encoding, so that what is applied here, written to the log, shipped and
//! applied elsewhere are the same bytes. Format and proof are in `docs/formats.md`.
//!
//! Every effect is absolute: it says what holds afterwards, not what changes. EXPIRE alone does not
//! state the whole entry (a value may have 512 MiB), and it is still safe to replay on a state
//! from later: whatever state that is, the record that made it so follows in the log and says it
//! again; and on a missing key it does nothing.

use bytes::Bytes;

use crate::command::MAX_STRING_BYTES;
use crate::units::Millis;

/// The only database there is.
const DATABASE: u64 = 0;

/// Value-type byte of strings.
const TYPE_STRING: u8 = 0;

const KIND_SET: u8 = 1;
const KIND_DEL: u8 = 2;
const KIND_EXPIRE: u8 = 3;
const KIND_FLUSH: u8 = 4;

/// What one effect says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// The key has this value and this expiry.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value, a string.
        value: &'a [u8],
        /// When it expires; never zero.
        expire_at: Option<Millis>,
    },
    /// The key does not exist.
    Del {
        /// The key.
        key: &'a [u8],
    },
    /// The key, where it exists, has this expiry.
    Expire {
        /// The key.
        key: &'a [u8],
        /// When it expires; never zero; none: never.
        expire_at: Option<Millis>,
    },
    /// No key exists.
    Flush,
}

impl<'a> Effect<'a> {
    /// The key that it is about; a FLUSH is about all.
    pub fn key(&self) -> Option<&'a [u8]> {
        match self {
            Effect::Set { key, .. } | Effect::Del { key } | Effect::Expire { key, .. } => Some(key),
            Effect::Flush => None,
        }
    }
}

/// Why a payload is not a list of effects. Replay must stop: to skip what is not understood would
/// lose a write without a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EffectError {
    /// The payload ends inside an effect.
    #[error("payload ends inside an effect, at byte {0}")]
    Truncated(usize),
    /// A number has more than 64 bits or more bytes than it needs.
    #[error("malformed number at byte {0}")]
    MalformedNumber(usize),
    /// An effect of a kind that this version does not know.
    #[error("unknown effect kind {kind} at byte {at}: written by a newer version?")]
    UnknownKind {
        /// The kind.
        kind: u8,
        /// Where it stands.
        at: usize,
    },
    /// A value of a type that this version does not know.
    #[error("unknown value type {value_type} at byte {at}: written by a newer version?")]
    UnknownType {
        /// The type.
        value_type: u8,
        /// Where it stands.
        at: usize,
    },
    /// A database other than 0.
    #[error("unknown database {database} at byte {at}: written by a newer version?")]
    UnknownDatabase {
        /// The database.
        database: u64,
        /// Where it stands.
        at: usize,
    },
    /// A key or a value longer than 512 MiB.
    #[error("a string of {length} bytes at byte {at} is above the limit of 512 MiB")]
    TooLong {
        /// Its length.
        length: u64,
        /// Where it stands.
        at: usize,
    },
}

/// The effects of one command, or of a transaction's, in order, in their encoding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    bytes: Vec<u8>,
}

impl Effects {
    /// No effects; allocates nothing.
    pub const fn new() -> Self {
        Effects { bytes: Vec::new() }
    }

    /// Checks `payload` and takes a copy.
    pub fn decode(payload: &[u8]) -> Result<Effects, EffectError> {
        EffectIter::new(payload).try_for_each(|effect| effect.map(|_| ()))?;
        Ok(Effects {
            bytes: payload.to_vec(),
        })
    }

    /// The payload of the log record.
    pub fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// The payload of the log record, for keeping.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from(self.bytes)
    }

    /// Whether there are none: the command was a read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The effects, in order.
    pub fn iter(&self) -> impl Iterator<Item = Effect<'_>> {
        // Only effects that were encoded here or checked by `decode` are inside.
        EffectIter::new(&self.bytes).map_while(Result::ok)
    }

    /// Adds those of another command behind these.
    pub fn extend(&mut self, others: &Effects) {
        self.bytes.extend_from_slice(&others.bytes);
    }

    /// Takes all effects out.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds an effect. The caller keeps keys and values within 512 MiB.
    pub fn push(&mut self, effect: Effect<'_>) {
        push_effect(effect, &mut self.bytes);
    }
}

/// Appends the encoding of `effect` to `out`.
pub(super) fn push_effect(effect: Effect<'_>, out: &mut Vec<u8>) {
    match effect {
        Effect::Set {
            key,
            value,
            expire_at,
        } => {
            out.reserve(key.len() + value.len() + 24);
            out.extend_from_slice(&[KIND_SET, DATABASE as u8, TYPE_STRING]);
            push_number(expire_at.map_or(0, |at| at.0), out);
            push_string(key, out);
            push_string(value, out);
        }
        Effect::Del { key } => {
            out.reserve(key.len() + 8);
            out.extend_from_slice(&[KIND_DEL, DATABASE as u8]);
            push_string(key, out);
        }
        Effect::Expire { key, expire_at } => {
            out.reserve(key.len() + 18);
            out.extend_from_slice(&[KIND_EXPIRE, DATABASE as u8]);
            push_number(expire_at.map_or(0, |at| at.0), out);
            push_string(key, out);
        }
        Effect::Flush => out.extend_from_slice(&[KIND_FLUSH, DATABASE as u8]),
    }
}

/// LEB128: seven bits a byte, lowest first, the highest bit set on all but the last.
fn push_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn push_string(string: &[u8], out: &mut Vec<u8>) {
    push_number(string.len() as u64, out);
    out.extend_from_slice(string);
}

/// The keys that the effects in `payload` are about, up to the first that is damaged.
pub(crate) fn keys_in(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let effects = EffectIter::new(payload).map_while(Result::ok);
    effects.filter_map(|effect| effect.key())
}

impl<'a> FromIterator<Effect<'a>> for Effects {
    fn from_iter<T: IntoIterator<Item = Effect<'a>>>(list: T) -> Effects {
        let mut effects = Effects::new();
        list.into_iter().for_each(|effect| effects.push(effect));
        effects
    }
}

/// Reads effects from bytes that nobody has checked; ends behind the first error.
#[derive(Clone, Debug)]
pub struct EffectIter<'a> {
    payload: &'a [u8],
    at: usize,
    failed: bool,
}

impl<'a> EffectIter<'a> {
    /// Reads `payload` from its start.
    pub fn new(payload: &'a [u8]) -> Self {
        EffectIter {
            payload,
            at: 0,
            failed: false,
        }
    }

    fn effect(&mut self) -> Result<Effect<'a>, EffectError> {
        let at = self.at;
        let kind = self.byte()?;
        if !(KIND_SET..=KIND_FLUSH).contains(&kind) {
            return Err(EffectError::UnknownKind { kind, at });
        }
        let at = self.at;
        let database = self.number()?;
        if database != DATABASE {
            return Err(EffectError::UnknownDatabase { database, at });
        }
        match kind {
            KIND_SET => {
                let at = self.at;
                let value_type = self.byte()?;
                if value_type != TYPE_STRING {
                    return Err(EffectError::UnknownType { value_type, at });
                }
                let expire_at = self.expire_at()?;
                let (key, value) = (self.string()?, self.string()?);
                Ok(Effect::Set {
                    key,
                    value,
                    expire_at,
                })
            }
            KIND_DEL => Ok(Effect::Del {
                key: self.string()?,
            }),
            KIND_EXPIRE => {
                let expire_at = self.expire_at()?;
                Ok(Effect::Expire {
                    key: self.string()?,
                    expire_at,
                })
            }
            _ => Ok(Effect::Flush),
        }
    }

    fn byte(&mut self) -> Result<u8, EffectError> {
        let byte = self
            .payload
            .get(self.at)
            .ok_or(EffectError::Truncated(self.at))?;
        self.at += 1;
        Ok(*byte)
    }

    /// A number in its shortest form: equal effects have equal bytes.
    fn number(&mut self) -> Result<u64, EffectError> {
        let start = self.at;
        let malformed = EffectError::MalformedNumber(start);
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(malformed)
                } else {
                    Ok(number)
                };
            }
        }
        Err(malformed)
    }

    fn expire_at(&mut self) -> Result<Option<Millis>, EffectError> {
        Ok(Some(Millis(self.number()?)).filter(|at| at.0 > 0))
    }

    fn string(&mut self) -> Result<&'a [u8], EffectError> {
        let at = self.at;
        let length = self.number()?;
        if length > MAX_STRING_BYTES as u64 {
            return Err(EffectError::TooLong { length, at });
        }
        let end = self.at + length as usize;
        let string = self.payload.get(self.at..end);
        let string = string.ok_or(EffectError::Truncated(self.payload.len()))?;
        self.at = end;
        Ok(string)
    }
}

impl<'a> Iterator for EffectIter<'a> {
    type Item = Result<Effect<'a>, EffectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.at >= self.payload.len() {
            return None;
        }
        let effect = self.effect();
        self.failed = effect.is_err();
        Some(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(effect: Effect<'_>) -> Vec<u8> {
        let mut effects = Effects::new();
        effects.push(effect);
        effects.encoded().to_vec()
    }

    /// These bytes are in logs. If this test fails, the format has changed, and old logs cannot be
    /// read any more: give the new form a kind of its own instead.
    #[test]
    fn golden_bytes() {
        let expire_at = Some(Millis(1_700_000_000_000));
        let time = [0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31];
        let set = encoded(Effect::Set {
            key: b"key",
            value: b"value",
            expire_at,
        });
        assert_eq!(set, [&[1, 0, 0][..], &time, b"\x03key\x05value"].concat());
        let set = encoded(Effect::Set {
            key: b"",
            value: &[b'v'; 200],
            expire_at: None,
        });
        assert_eq!(
            set,
            [&[1, 0, 0, 0, 0, 0xc8, 0x01][..], &[b'v'; 200]].concat()
        );
        assert_eq!(encoded(Effect::Del { key: b"key" }), b"\x02\x00\x03key");
        let expire = encoded(Effect::Expire {
            key: b"key",
            expire_at,
        });
        assert_eq!(expire, [&[3, 0][..], &time, b"\x03key"].concat());
        let persist = encoded(Effect::Expire {
            key: b"key",
            expire_at: None,
        });
        assert_eq!(persist, b"\x03\x00\x00\x03key");
        assert_eq!(encoded(Effect::Flush), [4, 0]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let error = |payload: &[u8]| Effects::decode(payload).err();
        assert_eq!(
            error(&[5, 0]),
            Some(EffectError::UnknownKind { kind: 5, at: 0 })
        );
        assert_eq!(
            error(&[0, 0]),
            Some(EffectError::UnknownKind { kind: 0, at: 0 })
        );
        assert_eq!(
            error(&[4, 1]),
            Some(EffectError::UnknownDatabase { database: 1, at: 1 })
        );
        let other_type = EffectError::UnknownType {
            value_type: 1,
            at: 2,
        };
        assert_eq!(error(&[1, 0, 1, 0, 0, 0]), Some(other_type));
        assert_eq!(error(&[2, 0, 5, b'a']), Some(EffectError::Truncated(4)));
        assert_eq!(error(&[4, 0, 2]), Some(EffectError::Truncated(3)));
        assert_eq!(
            error(&[2, 0x80, 0, 0]),
            Some(EffectError::MalformedNumber(1))
        );
        let eleven = [&[3, 0][..], &[0xff; 11]].concat();
        assert_eq!(error(&eleven), Some(EffectError::MalformedNumber(2)));
        let too_long = [2, 0, 0x81, 0x80, 0x80, 0x80, 0x02];
        let length = 512 * 1024 * 1024 + 1;
        assert_eq!(
            error(&too_long),
            Some(EffectError::TooLong { length, at: 2 })
        );
        assert_eq!(error(&[]), None);
    }

    proptest! {
        #[test]
        fn effects_are_read_back(
            list in prop::collection::vec(
                (0u8..4, prop::collection::vec(any::<u8>(), 0..200), any::<u64>()),
                0..6,
            ),
        ) {
            let expire_at = |at: u64| Some(Millis(at)).filter(|at| at.0 > 0);
            let list: Vec<Effect<'_>> = list.iter().map(|(kind, key, at)| match kind {
                0 => Effect::Set { key, value: key, expire_at: expire_at(*at) },
                1 => Effect::Del { key },
                2 => Effect::Expire { key, expire_at: expire_at(*at) },
                _ => Effect::Flush,
            }).collect();
            let mut effects = Effects::new();
            list.iter().for_each(|effect| effects.push(*effect));
            prop_assert_eq!(Effects::decode(effects.encoded()), Ok(effects.clone()));
            prop_assert_eq!(effects.iter().collect::<Vec<_>>(), list);
        }

        #[test]
        fn what_is_accepted_has_one_encoding(
            payload in prop::collection::vec(prop::sample::select(vec![0, 1, 2, 3, 4, 0x80, 0xff]), 0..20),
        ) {
            if let Ok(effects) = Effects::decode(&payload) {
                let mut again = Effects::new();
                effects.iter().for_each(|effect| again.push(effect));
                prop_assert_eq!(again.encoded(), &payload[..]);
            }
        }
    }
}
