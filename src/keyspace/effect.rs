//! Effects and their bytes. The layout stands in `docs/formats.md`.

use bytes::{Buf, BufMut, Bytes};
use thiserror::Error;

const SET: u8 = 1;
const DEL: u8 = 2;
const EXPIRE: u8 = 3;
const FLUSH: u8 = 4;
/// The one value type there is today.
const STRING: u8 = 0;

/// One change, absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The key has this value and this expiry (ms since 1970; 0: none).
    Set {
        /// The key.
        key: Bytes,
        /// Its value.
        value: Bytes,
        /// Its expiry.
        expire_at: u64,
    },
    /// The key is gone.
    Del(Bytes),
    /// The key, if it is there, has this expiry. Where a fuzzy snapshot already holds a later
    /// state of the key, the later effects that made it follow in the log.
    Expire(Bytes, u64),
    /// Every key is gone.
    Flush,
}

/// Why a record's payload is not applied. Skipping it would lose a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EffectError {
    /// The payload ends inside an effect.
    #[error("an effect is cut short")]
    Short,
    /// A kind this version does not know.
    #[error("effect kind {0} is unknown to this version; use a newer understudy")]
    Kind(u8),
    /// A value type this version does not know.
    #[error("value type {0} is unknown to this version; use a newer understudy")]
    ValueType(u8),
    /// A database other than 0.
    #[error("database {0} is unknown to this version; use a newer understudy")]
    Database(u8),
}

/// The effects of one transaction, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects(pub Vec<Effect>);

impl Effects {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends their bytes: a record's payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for effect in &self.0 {
            match effect {
                Effect::Set {
                    key,
                    value,
                    expire_at,
                } => encode_set(key, value, *expire_at, out),
                Effect::Del(key) => {
                    out.put_slice(&[DEL, 0]);
                    put_bytes(key, out);
                }
                Effect::Expire(key, at) => {
                    out.put_slice(&[EXPIRE, 0]);
                    out.put_u64_le(*at);
                    put_bytes(key, out);
                }
                Effect::Flush => out.put_slice(&[FLUSH, 0]),
            }
        }
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Effects, EffectError> {
        let mut effects = Vec::new();
        visit(payload, |effect| effects.push(effect.to_owned()))?;
        Ok(Effects(effects))
    }
}

/// An effect whose bytes still stand in the record.
#[derive(Clone, Copy, Debug)]
pub(super) enum EffectRef<'a> {
    Set(&'a [u8], &'a [u8], u64),
    Del(&'a [u8]),
    Expire(&'a [u8], u64),
    Flush,
}

impl EffectRef<'_> {
    fn to_owned(self) -> Effect {
        let copy = Bytes::copy_from_slice;
        match self {
            EffectRef::Set(key, value, expire_at) => Effect::Set {
                key: copy(key),
                value: copy(value),
                expire_at,
            },
            EffectRef::Del(key) => Effect::Del(copy(key)),
            EffectRef::Expire(key, at) => Effect::Expire(copy(key), at),
            EffectRef::Flush => Effect::Flush,
        }
    }
}

pub(super) fn encode_set(key: &[u8], value: &[u8], expire_at: u64, out: &mut Vec<u8>) {
    out.put_slice(&[SET, 0, STRING]);
    out.put_u64_le(expire_at);
    put_bytes(key, out);
    put_bytes(value, out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Reads a payload effect by effect.
pub(super) fn visit<'a>(
    payload: &'a [u8],
    mut each: impl FnMut(EffectRef<'a>),
) -> Result<(), EffectError> {
    let mut rest = payload;
    while !rest.is_empty() {
        let kind = byte(&mut rest)?;
        match byte(&mut rest)? {
            0 => {}
            database => return Err(EffectError::Database(database)),
        }
        each(match kind {
            SET => {
                match byte(&mut rest)? {
                    STRING => {}
                    other => return Err(EffectError::ValueType(other)),
                }
                let expire_at = number(&mut rest)?;
                let key = take_bytes(&mut rest)?;
                EffectRef::Set(key, take_bytes(&mut rest)?, expire_at)
            }
            DEL => EffectRef::Del(take_bytes(&mut rest)?),
            EXPIRE => {
                let at = number(&mut rest)?;
                EffectRef::Expire(take_bytes(&mut rest)?, at)
            }
            FLUSH => EffectRef::Flush,
            other => return Err(EffectError::Kind(other)),
        });
    }
    Ok(())
}

fn byte(rest: &mut &[u8]) -> Result<u8, EffectError> {
    rest.try_get_u8().map_err(|_| EffectError::Short)
}

fn number(rest: &mut &[u8]) -> Result<u64, EffectError> {
    rest.try_get_u64_le().map_err(|_| EffectError::Short)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], EffectError> {
    let len = rest.try_get_u32_le().map_err(|_| EffectError::Short)? as usize;
    let taken = rest.get(..len).ok_or(EffectError::Short)?;
    *rest = &rest[len..];
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Effects {
        let key = Bytes::from_static(b"k");
        let value = Bytes::from_static(b"val");
        Effects(vec![
            Effect::Set {
                key: key.clone(),
                value,
                expire_at: 7,
            },
            Effect::Del(key.clone()),
            Effect::Expire(key, 9),
            Effect::Flush,
        ])
    }

    #[test]
    fn golden_bytes_and_back() {
        let mut bytes = Vec::new();
        all().encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0100000700000000000000010000006b0300000076616c\
             0200010000006b\
             03000900000000000000010000006b\
             0400"
        );
        assert_eq!(Effects::decode(&bytes), Ok(all()));
    }

    #[test]
    fn what_is_unknown_or_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        all().encode(&mut bytes);
        let ends = [0, 23, 30, 45, 47];
        for cut in 0..bytes.len() {
            assert_eq!(
                Effects::decode(&bytes[..cut]).is_ok(),
                ends.contains(&cut),
                "cut {cut}"
            );
        }
        assert_eq!(Effects::decode(&[9, 0]), Err(EffectError::Kind(9)));
        assert_eq!(Effects::decode(&[1, 0, 5]), Err(EffectError::ValueType(5)));
        assert_eq!(Effects::decode(&[1, 3, 0]), Err(EffectError::Database(3)));
    }
}
