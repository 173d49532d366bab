//! Strings: reading, counting, changing in place, several at once.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, integer, is_option, keys, rest, wrong_arity};
use super::{Command, CommandSpec, KeyCommand, LongDouble};
use crate::resp::Reply;

/// LCS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LcsCommand {
    /// The two keys.
    pub keys: [Bytes; 2],
    /// What is answered.
    pub form: LcsForm,
}

/// What LCS answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LcsForm {
    /// The longest common subsequence.
    Text,
    /// Its length (LEN).
    Length,
    /// Where its parts are (IDX).
    Ranges {
        /// Shorter parts are left out (MINMATCHLEN).
        at_least: u64,
        /// Each with its length (WITHMATCHLEN).
        with_length: bool,
    },
}

pub(super) fn parse_lcs(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (mut length, mut ranges, mut with_length, mut at_least) = (false, false, false, 0);
    let mut at = 3;
    while let Some(option) = args.get(at) {
        if is_option(option, "IDX") {
            ranges = true;
        } else if is_option(option, "LEN") {
            length = true;
        } else if is_option(option, "WITHMATCHLEN") {
            with_length = true;
        } else if is_option(option, "MINMATCHLEN") && at + 1 < args.len() {
            at += 1;
            at_least = u64::try_from(integer(args, at)?).unwrap_or(0);
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 1;
    }
    let form = match (length, ranges) {
        (true, true) => {
            return Err(Reply::error(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        (true, false) => LcsForm::Length,
        (false, false) => LcsForm::Text,
        (false, true) => LcsForm::Ranges {
            at_least,
            with_length,
        },
    };
    keys(KeyCommand::Lcs(LcsCommand {
        keys: [arg(args, 1), arg(args, 2)],
        form,
    }))
}

pub(super) fn parse_get(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Get { key: arg(args, 1) })
}

pub(super) fn parse_getdel(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::GetDel { key: arg(args, 1) })
}

pub(super) fn parse_strlen(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::StrLen { key: arg(args, 1) })
}

pub(super) fn parse_append(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Append {
        key: arg(args, 1),
        value: arg(args, 2),
    })
}

pub(super) fn parse_getrange(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (start, end) = (integer(args, 2)?, integer(args, 3)?);
    keys(KeyCommand::GetRange {
        key: arg(args, 1),
        start,
        end,
    })
}

pub(super) fn parse_setrange(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let offset =
        u64::try_from(integer(args, 2)?).map_err(|_| Reply::error("ERR offset is out of range"))?;
    keys(KeyCommand::SetRange {
        key: arg(args, 1),
        offset,
        value: arg(args, 3),
    })
}

pub(super) fn parse_incr(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::IncrBy {
        key: arg(args, 1),
        by: 1,
    })
}

pub(super) fn parse_decr(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::IncrBy {
        key: arg(args, 1),
        by: -1,
    })
}

pub(super) fn parse_incrby(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::IncrBy {
        key: arg(args, 1),
        by: integer(args, 2)?,
    })
}

pub(super) fn parse_decrby(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let by = integer(args, 2)?.checked_neg();
    let by = by.ok_or(Reply::error("ERR decrement would overflow"))?;
    keys(KeyCommand::IncrBy {
        key: arg(args, 1),
        by,
    })
}

pub(super) fn parse_incrbyfloat(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::IncrByFloat {
        key: arg(args, 1),
        by: LongDouble::parse(&arg(args, 2)),
    })
}

pub(super) fn parse_mget(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::MGet {
        keys: rest(args, 1),
    })
}

pub(super) fn parse_mset(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::MSet {
        pairs: pairs(spec, args)?,
    })
}

pub(super) fn parse_msetnx(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::MSetNx {
        pairs: pairs(spec, args)?,
    })
}

fn pairs(spec: &CommandSpec, args: &[Bytes]) -> Result<Vec<(Bytes, Bytes)>, Reply> {
    let (pairs, odd) = args.get(1..).unwrap_or_default().as_chunks::<2>();
    if !odd.is_empty() {
        return Err(wrong_arity(spec.name));
    }
    Ok(pairs
        .iter()
        .map(|[key, value]| (key.clone(), value.clone()))
        .collect())
}
