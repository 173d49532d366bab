//! Planning what takes strings bit by bit. The whole new value is logged, since effects are absolute.

use bytes::Bytes;

use super::{Planner, count, from_start, grown};
use crate::command::{
    BitOp, BitRange, BitSearch, FieldAction, FieldOp, FieldType, MAX_STRING_BYTES, Overflow,
};
use crate::keyspace::Effect;
use crate::keyspace::entry::Entry;
use crate::resp::Reply;

impl Planner<'_> {
    pub(super) fn get_bit(&mut self, key: &[u8], offset: u64) -> Reply {
        let value = self.find(key).map_or(&[][..], Entry::value);
        Reply::Integer(i64::from(bit_at(value, offset)))
    }

    pub(super) fn set_bit(&mut self, key: &[u8], offset: u64, on: bool) -> Reply {
        let entry = self.find(key);
        let old = entry.map_or(&[][..], Entry::value);
        let was = bit_at(old, offset);
        let wanted = (offset / 8) as usize + 1;
        if was != on || old.len() < wanted {
            let mut value = grown(old, wanted);
            set_bit_at(&mut value, offset, on);
            self.put(key, &value, entry.and_then(Entry::expire_at));
        }
        Reply::Integer(i64::from(was))
    }

    pub(super) fn bit_count(&mut self, search: &BitSearch) -> Reply {
        let Some(entry) = self.find(&search.key) else {
            return count(0);
        };
        let range = match BitRange::parse(&search.range, true) {
            Ok(range) => range,
            Err(error) => return error,
        };
        if range.is_backwards() {
            return count(0);
        }
        let value = entry.value();
        let Some((first, last)) = bits_of(&range, value.len()) else {
            return count(0);
        };
        let (head, tail) = ((first / 8) as usize, (last / 8) as usize);
        let whole = value.get(head..=tail).unwrap_or_default();
        let ones: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
        let before = (head as u64 * 8..first).filter(|at| bit_at(value, *at));
        let behind = (last + 1..(tail as u64 + 1) * 8).filter(|at| bit_at(value, *at));
        Reply::Integer((ones - (before.count() + behind.count()) as u64) as i64)
    }

    /// Behind a string's end are zeroes for ever, but not behind an end that was asked for.
    pub(super) fn bit_pos(&mut self, search: &BitSearch) -> Reply {
        let nowhere = Reply::Integer(-1);
        let Some(entry) = self.find(&search.key) else {
            return if search.bit { nowhere } else { count(0) };
        };
        let range = match BitRange::parse(&search.range, false) {
            Ok(range) => range,
            Err(error) => return error,
        };
        let value = entry.value();
        let Some((first, last)) = bits_of(&range, value.len()) else {
            return nowhere;
        };
        let dull = if search.bit { 0 } else { 0xff };
        let mut at = first;
        while at <= last {
            let byte = value.get((at / 8) as usize).copied().unwrap_or(0);
            if at.is_multiple_of(8) && byte == dull {
                at += 8;
            } else if bit_at(value, at) == search.bit {
                return Reply::Integer(at as i64);
            } else {
                at += 1;
            }
        }
        match search.bit || range.end.is_some() {
            true => nowhere,
            false => Reply::Integer((last / 8 * 8 + 8) as i64),
        }
    }

    /// `keys`: the destination, and what is combined.
    pub(super) fn bit_op(&mut self, op: BitOp, keys: &[Bytes]) -> Reply {
        let Some((destination, sources)) = keys.split_first() else {
            return count(0);
        };
        let values: Vec<&[u8]> = sources
            .iter()
            .map(|key| self.find(key).map_or(&[][..], Entry::value))
            .collect();
        let longest = values.iter().map(|value| value.len()).max().unwrap_or(0);
        let mut result = grown(values.first().copied().unwrap_or_default(), longest);
        for value in values.iter().skip(1) {
            let zeroes = std::iter::repeat(&0);
            for (byte, other) in result.iter_mut().zip(value.iter().chain(zeroes)) {
                match op {
                    BitOp::And => *byte &= other,
                    BitOp::Or => *byte |= other,
                    BitOp::Xor => *byte ^= other,
                    BitOp::Not => {}
                }
            }
        }
        if op == BitOp::Not {
            result.iter_mut().for_each(|byte| *byte = !*byte);
        }
        if longest > 0 {
            self.effects.push(Effect::Set {
                key: destination,
                value: &result,
                expire_at: None,
            });
        } else if self.find(destination).is_some() {
            self.effects.push(Effect::Del { key: destination });
        }
        count(longest)
    }

    pub(super) fn bit_field(&mut self, key: &[u8], ops: &[FieldOp]) -> Reply {
        let entry = self.find(key);
        let old = entry.map_or(&[][..], Entry::value);
        let furthest = ops.iter().filter(|op| op.writes()).map(FieldOp::last_bit);
        let Some(furthest) = furthest.max() else {
            let fields = ops.iter().map(|op| integer(load(old, op)));
            return Reply::Array(fields.collect());
        };
        let wanted = (furthest / 8) as usize + 1;
        if wanted > MAX_STRING_BYTES {
            return super::strings::TOO_LONG;
        }
        // The room is made even where nothing is written, as in Redis.
        let mut value = grown(old, wanted);
        let replies = ops.iter().map(|op| carry_out(&mut value, op)).collect();
        if value != old {
            self.put(key, &value, entry.and_then(Entry::expire_at));
        }
        Reply::Array(replies)
    }
}

fn bit_at(value: &[u8], offset: u64) -> bool {
    let byte = value.get((offset / 8) as usize).copied().unwrap_or(0);
    byte >> (7 - offset % 8) & 1 == 1
}

fn set_bit_at(value: &mut [u8], offset: u64, on: bool) {
    if let Some(byte) = value.get_mut((offset / 8) as usize) {
        let mask = 1 << (7 - offset % 8);
        if on {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
    }
}

/// First and last bit of a range in a string of so many bytes; `None` where it is empty.
fn bits_of(range: &BitRange, bytes: usize) -> Option<(u64, u64)> {
    let total = bytes as i64 * if range.in_bits { 8 } else { 1 };
    let start = from_start(range.start, total);
    let end = range.end.map_or(total - 1, |end| from_start(end, total));
    let end = end.min(total - 1);
    if start > end {
        return None;
    }
    let (start, end) = (start as u64, end as u64);
    Some(match range.in_bits {
        true => (start, end),
        false => (start * 8, end * 8 + 7),
    })
}

fn integer(number: i128) -> Reply {
    Reply::Integer(number as i64)
}

/// The number there; zeroes behind the end.
fn load(value: &[u8], op: &FieldOp) -> i128 {
    let bits = (op.offset..=op.last_bit()).map(|at| u64::from(bit_at(value, at)));
    let raw = bits.fold(0, |number, bit| number << 1 | bit);
    match op.field.signed {
        true => {
            let unused = 64 - op.field.bits;
            i128::from((raw << unused) as i64 >> unused)
        }
        false => i128::from(raw),
    }
}

fn store(value: &mut [u8], op: &FieldOp, number: i128) {
    for (place, at) in (op.offset..=op.last_bit()).rev().enumerate() {
        set_bit_at(value, at, number >> place & 1 == 1);
    }
}

/// What does not fit becomes this.
fn fitted(field: FieldType, (least, most): (i128, i128), number: i128, op: &FieldAction) -> i128 {
    let saturates = matches!(
        op,
        FieldAction::Set(_, Overflow::Saturate) | FieldAction::IncrBy(_, Overflow::Saturate)
    );
    // Redis takes a SET for too large where it is so far below that their distance overflows.
    let far_below =
        matches!(op, FieldAction::Set(..)) && field.signed && most - number > i128::from(i64::MAX);
    match saturates {
        true if far_below => most,
        true => number.clamp(least, most),
        false => (number - least).rem_euclid(most - least + 1) + least,
    }
}

fn carry_out(value: &mut [u8], op: &FieldOp) -> Reply {
    let old = load(value, op);
    let (wanted, overflow) = match op.action {
        FieldAction::Get => return integer(old),
        FieldAction::Set(number, overflow) if op.field.signed => (i128::from(number), overflow),
        // A negative number is one that is too large for any field without sign.
        FieldAction::Set(number, overflow) => (i128::from(number as u64), overflow),
        FieldAction::IncrBy(by, overflow) => (old + i128::from(by), overflow),
    };
    let (least, most) = match op.field.signed {
        true => {
            let half = 1_i128 << (op.field.bits - 1);
            (-half, half - 1)
        }
        false => (0, (1_i128 << op.field.bits) - 1),
    };
    let fits = (least..=most).contains(&wanted);
    if !fits && overflow == Overflow::Fail {
        return Reply::Null;
    }
    let new = match fits {
        true => wanted,
        false => fitted(op.field, (least, most), wanted, &op.action),
    };
    store(value, op, new);
    integer(match op.action {
        FieldAction::IncrBy(..) => new,
        _ => old,
    })
}
