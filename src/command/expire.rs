//! EXPIRE and its relatives, TTL and its relatives, PERSIST.

use bytes::Bytes;

use super::args::{arg, integer, is_option, keys, printable};
use super::{Command, CommandSpec, KeyCommand, invalid_expire_time};
use crate::resp::Reply;
use crate::units::Millis;

/// EXPIRE, PEXPIRE, EXPIREAT or PEXPIREAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpireCommand {
    /// The command's name, for error texts.
    pub name: &'static str,
    /// The key.
    pub key: Bytes,
    /// Span or point of time, in milliseconds; may be negative, which deletes the key.
    pub amount_ms: i64,
    /// Whether it counts from now; else from 1970.
    pub relative: bool,
    /// When to change the expiry at all.
    pub condition: ExpireCondition,
}

impl ExpireCommand {
    /// The point of time in signed milliseconds since 1970, or none where it overflows.
    pub fn at(&self, now: Millis) -> Option<i64> {
        let base = if self.relative {
            i64::try_from(now.0).ok()?
        } else {
            0
        };
        base.checked_add(self.amount_ms)
    }
}

/// The options of EXPIRE. XX goes together with GT or LT; all else is exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// Only where the key has no expiry (NX).
    pub if_none: bool,
    /// Only where it has one (XX).
    pub if_some: bool,
    /// Only where the new one is later (GT); a key without expiry lives for ever.
    pub if_later: bool,
    /// Only where the new one is earlier (LT).
    pub if_earlier: bool,
}

/// What TTL and its relatives answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlForm {
    /// Milliseconds instead of seconds.
    pub in_millis: bool,
    /// The time since 1970 instead of the time left.
    pub absolute: bool,
}

pub(super) fn parse_expire(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_expire(spec, args, 1000, true)
}

pub(super) fn parse_pexpire(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_expire(spec, args, 1, true)
}

pub(super) fn parse_expireat(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_expire(spec, args, 1000, false)
}

pub(super) fn parse_pexpireat(
    spec: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    parse_any_expire(spec, args, 1, false)
}

fn parse_any_expire(
    spec: &'static CommandSpec,
    args: &[Bytes],
    unit_ms: i64,
    relative: bool,
) -> Result<Command, Reply> {
    let condition = parse_condition(args)?;
    let amount_ms = integer(args, 2)?.checked_mul(unit_ms);
    let amount_ms = amount_ms.ok_or_else(|| invalid_expire_time(spec.name))?;
    let key = arg(args, 1);
    keys(KeyCommand::Expire(ExpireCommand {
        name: spec.name,
        key,
        amount_ms,
        relative,
        condition,
    }))
}

fn parse_condition(args: &[Bytes]) -> Result<ExpireCondition, Reply> {
    let mut condition = ExpireCondition::default();
    for option in args.iter().skip(3) {
        if is_option(option, "NX") {
            condition.if_none = true;
        } else if is_option(option, "XX") {
            condition.if_some = true;
        } else if is_option(option, "GT") {
            condition.if_later = true;
        } else if is_option(option, "LT") {
            condition.if_earlier = true;
        } else {
            let option = printable(option, option.len());
            return Err(Reply::Error(
                format!("ERR Unsupported option {option}").into(),
            ));
        }
    }
    let ExpireCondition {
        if_none,
        if_some,
        if_later,
        if_earlier,
    } = condition;
    if if_none && (if_some || if_later || if_earlier) {
        let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(Reply::error(text));
    }
    if if_later && if_earlier {
        return Err(Reply::error(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(condition)
}

fn parse_any_ttl(args: &[Bytes], in_millis: bool, absolute: bool) -> Result<Command, Reply> {
    keys(KeyCommand::Ttl {
        key: arg(args, 1),
        form: TtlForm {
            in_millis,
            absolute,
        },
    })
}

pub(super) fn parse_ttl(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_ttl(args, false, false)
}

pub(super) fn parse_pttl(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_ttl(args, true, false)
}

pub(super) fn parse_expiretime(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_ttl(args, false, true)
}

pub(super) fn parse_pexpiretime(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    parse_any_ttl(args, true, true)
}

pub(super) fn parse_persist(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Persist { key: arg(args, 1) })
}
