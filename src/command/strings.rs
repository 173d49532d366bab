//! Strings but SET: GET, MGET, MSET, APPEND, counters, ranges.

use bytes::Bytes;

use super::KeyCommand;
use super::parse::{Parsed, int, not_an_integer, wrong_arity};
use super::table::CommandInfo;
use crate::resp::Reply;

pub(super) fn parse(info: &CommandInfo, args: &[Bytes]) -> Parsed<KeyCommand> {
    let key = args[0].clone();
    Ok(match info.name {
        "get" => KeyCommand::Get(key),
        "getdel" => KeyCommand::GetDel(key),
        "mget" => KeyCommand::MGet(args.to_vec()),
        "mset" | "msetnx" => {
            if args.len() % 2 != 0 {
                return Err(wrong_arity(info));
            }
            let pairs = args
                .chunks_exact(2)
                .map(|pair| (pair[0].clone(), pair[1].clone()));
            KeyCommand::MSet {
                pairs: pairs.collect(),
                only_if_none: info.name == "msetnx",
            }
        }
        "append" => KeyCommand::Append {
            key,
            value: args[1].clone(),
        },
        "strlen" => KeyCommand::StrLen(key),
        "getrange" | "substr" => KeyCommand::GetRange {
            key,
            start: int(&args[1])?,
            end: int(&args[2])?,
        },
        "setrange" => {
            let offset = int(&args[1])?;
            if offset < 0 {
                return Err(Reply::error("ERR offset is out of range"));
            }
            KeyCommand::SetRange {
                key,
                offset,
                value: args[2].clone(),
            }
        }
        "incr" => KeyCommand::IncrBy { key, by: 1 },
        "decr" => KeyCommand::IncrBy { key, by: -1 },
        "incrby" => KeyCommand::IncrBy {
            key,
            by: int(&args[1])?,
        },
        "decrby" => {
            let by = int(&args[1])?;
            let overflow = || Reply::error("ERR decrement would overflow");
            KeyCommand::IncrBy {
                key,
                by: by.checked_neg().ok_or_else(overflow)?,
            }
        }
        "incrbyfloat" => KeyCommand::IncrByFloat {
            key,
            by: args[1].clone(),
        },
        other => unreachable!("the table lists {other} as a string command without a parser"),
    })
}

/// An integer that SCAN's and others' options take.
pub(super) fn count(value: &Bytes) -> Parsed<usize> {
    match int(value)? {
        n if n < 1 => Err(super::parse::syntax_error()),
        n => usize::try_from(n).map_err(|_| not_an_integer()),
    }
}
