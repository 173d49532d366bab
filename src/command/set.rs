//! SET and its older relatives, and GETEX: everything that stores with conditions or an expiry.

use bytes::Bytes;

use super::args::{NOT_AN_INTEGER, SYNTAX_ERROR, arg, integer, is_option, keys};
use super::{Command, CommandSpec, KeyCommand, invalid_expire_time, parse_integer};
use crate::resp::Reply;
use crate::units::Millis;

/// SET in all its forms.
#[derive(Clone, Debug, PartialEq)]
pub struct SetCommand {
    /// The command's name, for error texts.
    pub name: &'static str,
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// What becomes of the expiry.
    pub expiry: SetExpiry,
    /// When to store at all.
    pub condition: SetCondition,
    /// What to answer.
    pub reply: SetReply,
}

/// The expiry a SET leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetExpiry {
    /// None; an old one is removed.
    Clear,
    /// The old one, if any (KEEPTTL).
    Keep,
    /// A new one (EX, PX, EXAT, PXAT).
    At(Expiry),
}

/// When a SET stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetCondition {
    /// Always.
    Always,
    /// Only where the key does not exist (NX).
    IfMissing,
    /// Only where it does (XX).
    IfExists,
    /// Only where it exists with exactly this value (IFEQ, as in Valkey 8.1).
    IfEqual(Bytes),
}

/// What a SET answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetReply {
    /// OK, or nil when nothing was stored.
    Ok,
    /// The old value or nil (GET, GETSET).
    OldValue,
    /// 1 or 0 (SETNX).
    Count,
}

/// A checked expiry argument: positive, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Span or point of time, in milliseconds; positive.
    pub amount_ms: i64,
    /// Whether it counts from now; else from 1970.
    pub relative: bool,
}

impl Expiry {
    /// The point of time, or none where it lies beyond the range of a signed 64-bit number.
    pub fn at(self, now: Millis) -> Option<Millis> {
        let base = if self.relative {
            i64::try_from(now.0).ok()?
        } else {
            0
        };
        let at = base.checked_add(self.amount_ms)?;
        u64::try_from(at).ok().map(Millis)
    }
}

/// GETEX.
#[derive(Clone, Debug, PartialEq)]
pub struct GetExCommand {
    /// The key.
    pub key: Bytes,
    /// What becomes of the expiry.
    pub expiry: GetExExpiry,
}

/// What GETEX does to a key's expiry.
#[derive(Clone, Debug, PartialEq)]
pub enum GetExExpiry {
    /// Nothing.
    Keep,
    /// Removes it (PERSIST).
    Clear,
    /// Sets it. Redis looks for the key before it judges the number, so a wrong one is carried
    /// along as the error it becomes when the key exists.
    At(Result<Expiry, Reply>),
}

/// EX, PX, EXAT or PXAT.
#[derive(Clone, Copy, PartialEq)]
struct ExpiryOption {
    unit_ms: i64,
    relative: bool,
}

impl ExpiryOption {
    fn named(option: &[u8]) -> Option<ExpiryOption> {
        let (unit_ms, relative) = match option.len() {
            2 if is_option(option, "EX") => (1000, true),
            2 if is_option(option, "PX") => (1, true),
            4 if is_option(option, "EXAT") => (1000, false),
            4 if is_option(option, "PXAT") => (1, false),
            _ => return None,
        };
        Some(ExpiryOption { unit_ms, relative })
    }

    fn with(self, amount: &[u8], command: &str) -> Result<Expiry, Reply> {
        let amount = parse_integer(amount).ok_or(NOT_AN_INTEGER)?;
        let amount_ms = amount.checked_mul(self.unit_ms).filter(|_| amount > 0);
        let amount_ms = amount_ms.ok_or_else(|| invalid_expire_time(command))?;
        Ok(Expiry {
            amount_ms,
            relative: self.relative,
        })
    }
}

pub(super) fn parse_set(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mut condition = SetCondition::Always;
    let mut reply = SetReply::Ok;
    let mut keep = false;
    let mut expiry: Option<(ExpiryOption, &Bytes)> = None;
    let mut options = args.iter().skip(3);
    while let Some(option) = options.next() {
        if let Some(known) = ExpiryOption::named(option) {
            let same = expiry.is_none_or(|(earlier, _)| earlier == known);
            let amount = options
                .next()
                .filter(|_| same && !keep)
                .ok_or(SYNTAX_ERROR)?;
            expiry = Some((known, amount));
        } else if is_option(option, "NX") && accepts(&condition, &SetCondition::IfMissing) {
            condition = SetCondition::IfMissing;
        } else if is_option(option, "XX") && accepts(&condition, &SetCondition::IfExists) {
            condition = SetCondition::IfExists;
        } else if is_option(option, "IFEQ") && condition == SetCondition::Always {
            condition = SetCondition::IfEqual(options.next().ok_or(SYNTAX_ERROR)?.clone());
        } else if is_option(option, "GET") {
            reply = SetReply::OldValue;
        } else if is_option(option, "KEEPTTL") && expiry.is_none() {
            keep = true;
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    let expiry = match expiry {
        Some((option, amount)) => SetExpiry::At(option.with(amount, spec.name)?),
        None if keep => SetExpiry::Keep,
        None => SetExpiry::Clear,
    };
    let (key, value) = (arg(args, 1), arg(args, 2));
    keys(KeyCommand::Set(SetCommand {
        name: spec.name,
        key,
        value,
        expiry,
        condition,
        reply,
    }))
}

/// NX may be said twice, but not together with XX or IFEQ; and so on.
fn accepts(earlier: &SetCondition, wanted: &SetCondition) -> bool {
    *earlier == SetCondition::Always || earlier == wanted
}

fn plain_set(spec: &'static CommandSpec, key: Bytes, value: Bytes) -> SetCommand {
    SetCommand {
        name: spec.name,
        key,
        value,
        expiry: SetExpiry::Clear,
        condition: SetCondition::Always,
        reply: SetReply::Ok,
    }
}

pub(super) fn parse_setnx(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Set(SetCommand {
        condition: SetCondition::IfMissing,
        reply: SetReply::Count,
        ..plain_set(spec, arg(args, 1), arg(args, 2))
    }))
}

pub(super) fn parse_getset(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Set(SetCommand {
        reply: SetReply::OldValue,
        ..plain_set(spec, arg(args, 1), arg(args, 2))
    }))
}

pub(super) fn parse_setex(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    timed_set(
        spec,
        args,
        ExpiryOption {
            unit_ms: 1000,
            relative: true,
        },
    )
}

pub(super) fn parse_psetex(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    timed_set(
        spec,
        args,
        ExpiryOption {
            unit_ms: 1,
            relative: true,
        },
    )
}

pub(super) fn parse_delifeq(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::DelIfEqual {
        key: arg(args, 1),
        value: arg(args, 2),
    })
}

fn timed_set(
    spec: &'static CommandSpec,
    args: &[Bytes],
    option: ExpiryOption,
) -> Result<Command, Reply> {
    integer(args, 2)?;
    let expiry = SetExpiry::At(option.with(&arg(args, 2), spec.name)?);
    keys(KeyCommand::Set(SetCommand {
        expiry,
        ..plain_set(spec, arg(args, 1), arg(args, 3))
    }))
}

pub(super) fn parse_getex(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mut clear = false;
    let mut expiry: Option<(ExpiryOption, &Bytes)> = None;
    let mut options = args.iter().skip(2);
    while let Some(option) = options.next() {
        if let Some(known) = ExpiryOption::named(option) {
            let same = expiry.is_none_or(|(earlier, _)| earlier == known);
            let amount = options
                .next()
                .filter(|_| same && !clear)
                .ok_or(SYNTAX_ERROR)?;
            expiry = Some((known, amount));
        } else if is_option(option, "PERSIST") && expiry.is_none() {
            clear = true;
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    let expiry = match expiry {
        Some((option, amount)) => GetExExpiry::At(option.with(amount, spec.name)),
        None if clear => GetExExpiry::Clear,
        None => GetExExpiry::Keep,
    };
    keys(KeyCommand::GetEx(GetExCommand {
        key: arg(args, 1),
        expiry,
    }))
}
