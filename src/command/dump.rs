//! DUMP and RESTORE: a value out of one server and into another.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, integer, is_option, keys};
use super::{Command, CommandSpec, KeyCommand, parse_integer};
use crate::resp::Reply;

/// RESTORE. Redis looks for the key before it judges time and payload, so those are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreCommand {
    /// The key.
    pub key: Bytes,
    /// Milliseconds until it expires, 0: never; none where the argument was no number.
    pub ttl: Option<i64>,
    /// The time counts from 1970 (ABSTTL).
    pub absolute: bool,
    /// A key of that name is replaced (REPLACE).
    pub replace: bool,
    /// What DUMP gave.
    pub payload: Bytes,
}

pub(super) fn parse_dump(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Dump { key: arg(args, 1) })
}

/// IDLETIME and FREQ are judged and let go: how often a key is used is each node's own knowledge, and no
/// record says it.
pub(super) fn parse_restore(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (mut replace, mut absolute, mut idle, mut frequent) = (false, false, false, false);
    let mut at = 4;
    while let Some(option) = args.get(at) {
        let has_value = at + 1 < args.len();
        if is_option(option, "REPLACE") {
            replace = true;
        } else if is_option(option, "ABSTTL") {
            absolute = true;
        } else if is_option(option, "IDLETIME") && has_value && !frequent {
            at += 1;
            idle = true;
            if integer(args, at)? < 0 {
                return Err(Reply::error("ERR Invalid IDLETIME value, must be >= 0"));
            }
        } else if is_option(option, "FREQ") && has_value && !idle {
            at += 1;
            frequent = true;
            if !(0..=255).contains(&integer(args, at)?) {
                let text = "ERR Invalid FREQ value, must be >= 0 and <= 255";
                return Err(Reply::error(text));
            }
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 1;
    }
    keys(KeyCommand::Restore(RestoreCommand {
        key: arg(args, 1),
        ttl: args.get(2).and_then(|ttl| parse_integer(ttl)),
        absolute,
        replace,
        payload: arg(args, 3),
    }))
}
