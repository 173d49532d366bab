//! Bitmaps: strings taken bit by bit, from the highest bit of the first byte on.

use bytes::Bytes;

use super::args::{
    MAX_STRING_BYTES, NOT_AN_INTEGER, SYNTAX_ERROR, arg, integer, is_option, keys, parse_integer,
    rest,
};
use super::{Command, CommandSpec, KeyCommand};
use crate::resp::Reply;

const BAD_OFFSET: Reply = Reply::error("ERR bit offset is not an integer or out of range");
const BAD_BIT: Reply = Reply::error("ERR bit is not an integer or out of range");
const BAD_TYPE: Reply = Reply::error(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
);

/// BITCOUNT or BITPOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitSearch {
    /// The key.
    pub key: Bytes,
    /// Which bits: those in this state are counted (BITCOUNT), or the first is looked for.
    pub bit: bool,
    /// The arguments that name a range. Redis looks for the key before it judges them, so that they
    /// may be anything where there is none: [`BitRange::parse`].
    pub range: Vec<Bytes>,
}

/// Which part of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// First; negative ones count from the end.
    pub start: i64,
    /// Last, if given.
    pub end: Option<i64>,
    /// The two are bits, not bytes.
    pub in_bits: bool,
}

impl BitRange {
    /// Both ends count from the string's end, and the first is behind the last: BITCOUNT looks no
    /// further.
    pub fn is_backwards(&self) -> bool {
        let end = self.end.unwrap_or(-1);
        self.start < 0 && end < 0 && self.start > end
    }

    /// What `[start [end [BYTE|BIT]]]` says; `end_needed`: BITCOUNT's has both or none.
    ///
    /// # Errors
    /// Redis's reply.
    pub fn parse(args: &[Bytes], end_needed: bool) -> Result<BitRange, Reply> {
        let integer = |at: usize| integer(args, at);
        let unit = || match args.get(2) {
            Some(unit) if is_option(unit, "BIT") => Ok(true),
            Some(unit) if is_option(unit, "BYTE") => Ok(false),
            _ => Err(SYNTAX_ERROR),
        };
        let (start, end, in_bits) = match (args.len(), end_needed) {
            (0, _) => (0, None, false),
            (1, false) => (integer(0)?, None, false),
            (2, _) => (integer(0)?, Some(integer(1)?), false),
            // In Redis's order of judgement, which differs between the two.
            (3, true) => {
                let (start, end) = (integer(0)?, integer(1)?);
                let backwards = start < 0 && end < 0 && start > end;
                (start, Some(end), !backwards && unit()?)
            }
            (3, false) => {
                let start = integer(0)?;
                let in_bits = unit()?;
                (start, Some(integer(1)?), in_bits)
            }
            _ => return Err(SYNTAX_ERROR),
        };
        Ok(BitRange {
            start,
            end,
            in_bits,
        })
    }
}

/// How BITOP combines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitOp {
    /// Bits that are set in all.
    And,
    /// Bits that are set in one at least.
    Or,
    /// Bits that are set in an odd number.
    Xor,
    /// Bits that are not set in the one there is.
    Not,
}

/// A number in a string: so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    /// Two's complement.
    pub signed: bool,
    /// 1 to 64, and to 63 without sign.
    pub bits: u32,
}

/// What a number does that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits stay.
    Wrap,
    /// It becomes the greatest or the least.
    Saturate,
    /// Nothing is written, and null is answered.
    Fail,
}

/// What BITFIELD does with one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldAction {
    /// Answers it.
    Get,
    /// Writes it, and answers what was there.
    Set(i64, Overflow),
    /// Adds to it, and answers the sum.
    IncrBy(i64, Overflow),
}

/// One operation of BITFIELD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldOp {
    /// How the number is stored.
    pub field: FieldType,
    /// Its first bit.
    pub offset: u64,
    /// What is done.
    pub action: FieldAction,
}

impl FieldOp {
    /// Whether it may change the string.
    pub fn writes(&self) -> bool {
        self.action != FieldAction::Get
    }

    /// Its last bit.
    pub fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.field.bits) - 1
    }
}

/// A bit's number. `field`: the width that `#n` counts in, if it may.
fn offset(text: &[u8], field: Option<u32>) -> Result<u64, Reply> {
    let (text, width) = match (text, field) {
        ([b'#', digits @ ..], Some(bits)) => (digits, i64::from(bits)),
        _ => (text, 1),
    };
    let at = parse_integer(text).ok_or(BAD_OFFSET)?;
    // Wrapping, as in Redis; what it comes to is judged then.
    let at = u64::try_from(at.wrapping_mul(width)).map_err(|_| BAD_OFFSET)?;
    match at >> 3 < MAX_STRING_BYTES as u64 {
        true => Ok(at),
        false => Err(BAD_OFFSET),
    }
}

pub(super) fn parse_setbit(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let offset = offset(&arg(args, 2), None)?;
    let on = match parse_integer(&arg(args, 3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(BAD_BIT),
    };
    let key = arg(args, 1);
    keys(KeyCommand::SetBit { key, offset, on })
}

pub(super) fn parse_getbit(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::GetBit {
        key: arg(args, 1),
        offset: offset(&arg(args, 2), None)?,
    })
}

pub(super) fn parse_bitcount(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::BitCount(BitSearch {
        key: arg(args, 1),
        bit: true,
        range: rest(args, 2),
    }))
}

pub(super) fn parse_bitpos(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let bit = match parse_integer(&arg(args, 2)).ok_or(NOT_AN_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(Reply::error("ERR The bit argument must be 1 or 0.")),
    };
    keys(KeyCommand::BitPos(BitSearch {
        key: arg(args, 1),
        bit,
        range: rest(args, 3),
    }))
}

pub(super) fn parse_bitop(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let name = arg(args, 1);
    let all = [
        ("AND", BitOp::And),
        ("OR", BitOp::Or),
        ("XOR", BitOp::Xor),
        ("NOT", BitOp::Not),
    ];
    let op = all.iter().find(|(known, _)| is_option(&name, known));
    let (_, op) = *op.ok_or(SYNTAX_ERROR)?;
    if op == BitOp::Not && args.len() != 4 {
        return Err(Reply::error(
            "ERR BITOP NOT must be called with a single source key.",
        ));
    }
    keys(KeyCommand::BitOp {
        op,
        // The destination first.
        keys: rest(args, 2),
    })
}

pub(super) fn parse_bitfield(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::BitField {
        key: arg(args, 1),
        ops: field_ops(args)?,
        read_only: false,
    })
}

pub(super) fn parse_bitfield_ro(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let ops = field_ops(args)?;
    if ops.iter().any(FieldOp::writes) {
        return Err(Reply::error(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    keys(KeyCommand::BitField {
        key: arg(args, 1),
        ops,
        read_only: true,
    })
}

fn field_ops(args: &[Bytes]) -> Result<Vec<FieldOp>, Reply> {
    let (mut ops, mut overflow, mut at) = (Vec::new(), Overflow::Wrap, 2);
    while let Some(name) = args.get(at) {
        let more = args.len() - at - 1;
        if is_option(name, "OVERFLOW") && more >= 1 {
            overflow = parse_overflow(&arg(args, at + 1))?;
            at += 2;
            continue;
        }
        let is = |known, wanted| is_option(name, known) && more >= wanted;
        let gets = is("GET", 2);
        let sets = is("SET", 3);
        if !gets && !sets && !is("INCRBY", 3) {
            return Err(SYNTAX_ERROR);
        }
        let field = parse_type(&arg(args, at + 1)).ok_or(BAD_TYPE)?;
        let offset = offset(&arg(args, at + 2), Some(field.bits))?;
        let action = match (gets, sets) {
            (true, _) => FieldAction::Get,
            (_, true) => FieldAction::Set(integer(args, at + 3)?, overflow),
            _ => FieldAction::IncrBy(integer(args, at + 3)?, overflow),
        };
        ops.push(FieldOp {
            field,
            offset,
            action,
        });
        at += if gets { 3 } else { 4 };
    }
    Ok(ops)
}

fn parse_overflow(name: &[u8]) -> Result<Overflow, Reply> {
    let all = [
        ("WRAP", Overflow::Wrap),
        ("SAT", Overflow::Saturate),
        ("FAIL", Overflow::Fail),
    ];
    let found = all.iter().find(|(known, _)| is_option(name, known));
    found
        .map(|(_, overflow)| *overflow)
        .ok_or(Reply::error("ERR Invalid OVERFLOW type specified"))
}

fn parse_type(text: &[u8]) -> Option<FieldType> {
    let (signed, digits, most) = match text {
        [b'i', digits @ ..] => (true, digits, 64),
        [b'u', digits @ ..] => (false, digits, 63),
        _ => return None,
    };
    let bits = u32::try_from(parse_integer(digits)?).ok()?;
    (1..=most)
        .contains(&bits)
        .then_some(FieldType { signed, bits })
}
