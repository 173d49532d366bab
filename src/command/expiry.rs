//! Expiry times: EXPIRE and its kin, TTL and its kin.

use bytes::Bytes;

use super::KeyCommand;
use super::parse::{Parsed, int};
use super::set::positive;
use super::table::CommandInfo;
use crate::resp::Reply;

/// A moment, in milliseconds. Relative ones become absolute when the command is planned, so that
/// nothing relative is ever logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From now.
    In(i64),
    /// Since 1970.
    At(i64),
}

impl When {
    /// Milliseconds since 1970; `None` on overflow.
    pub fn absolute(self, now_ms: u64) -> Option<i64> {
        match self {
            When::At(ms) => Some(ms),
            When::In(ms) => ms.checked_add(i64::try_from(now_ms).ok()?),
        }
    }
}

/// EXPIRE's NX, XX, GT, LT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// Only if there is none.
    pub nx: bool,
    /// Only if there is one.
    pub xx: bool,
    /// Only if later.
    pub gt: bool,
    /// Only if earlier.
    pub lt: bool,
}

pub(super) fn invalid_expire(info: &CommandInfo) -> Reply {
    Reply::error(format!(
        "ERR invalid expire time in '{}' command",
        info.name
    ))
}

/// A positive expiry of SET and its kin.
pub(super) fn when(
    info: &CommandInfo,
    value: &Bytes,
    seconds: bool,
    absolute: bool,
) -> Parsed<When> {
    let n = positive(info, value)?;
    let ms = if seconds {
        n.checked_mul(1000).ok_or_else(|| invalid_expire(info))?
    } else {
        n
    };
    Ok(if absolute { When::At(ms) } else { When::In(ms) })
}

pub(super) fn parse(info: &CommandInfo, args: &[Bytes]) -> Parsed<KeyCommand> {
    let key = args[0].clone();
    let seconds = !info.name.starts_with('p');
    match info.name {
        "ttl" | "pttl" => Ok(KeyCommand::Ttl {
            key,
            seconds,
            absolute: false,
        }),
        "expiretime" | "pexpiretime" => Ok(KeyCommand::Ttl {
            key,
            seconds,
            absolute: true,
        }),
        "persist" => Ok(KeyCommand::Persist(key)),
        _ => {
            let condition = condition(&args[2..])?;
            let n = int(&args[1])?;
            let ms = if seconds {
                n.checked_mul(1000)
            } else {
                Some(n)
            };
            let ms = ms.ok_or_else(|| invalid_expire(info))?;
            let at = if info.name.ends_with("at") {
                When::At(ms)
            } else {
                When::In(ms)
            };
            Ok(KeyCommand::Expire { key, at, condition })
        }
    }
}

fn condition(options: &[Bytes]) -> Parsed<ExpireCondition> {
    let mut found = ExpireCondition::default();
    for option in options {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => found.nx = true,
            b"xx" => found.xx = true,
            b"gt" => found.gt = true,
            b"lt" => found.lt = true,
            _ => {
                let shown = String::from_utf8_lossy(option);
                return Err(Reply::error(format!("ERR Unsupported option {shown}")));
            }
        }
    }
    if found.nx && (found.xx || found.gt || found.lt) {
        return Err(Reply::error(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if found.gt && found.lt {
        return Err(Reply::error(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    Ok(found)
}
