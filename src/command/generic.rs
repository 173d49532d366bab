//! Commands about keys as such, and about the keyspace as a whole.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, cut, database, integer, is_option, keys, rest};
use super::{Command, CommandSpec, KeyCommand};
use crate::resp::Reply;

/// SCAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanCommand {
    /// Where to go on; 0 to begin.
    pub cursor: u64,
    /// Glob pattern the keys must match (MATCH).
    pub pattern: Option<Bytes>,
    /// How many keys to visit (COUNT); at least 1.
    pub count: u64,
    /// Type the keys must have (TYPE), as given.
    pub kind: Option<Bytes>,
}

/// RENAME and RENAMENX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenameCommand {
    /// What is moved, with its expiry.
    pub from: Bytes,
    /// The new name.
    pub to: Bytes,
    /// RENAMENX: not onto another key.
    pub only_new: bool,
}

/// COPY.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyCommand {
    /// What is copied, with its expiry.
    pub from: Bytes,
    /// The name of the copy.
    pub to: Bytes,
    /// A key of that name is replaced (REPLACE).
    pub replace: bool,
}

/// Keys a SCAN visits unless told.
const SCAN_COUNT: u64 = 10;

pub(super) fn parse_db_size(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::DbSize)
}

pub(super) fn parse_flush(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args {
        [_] => keys(KeyCommand::Flush),
        [_, mode] if is_option(mode, "ASYNC") || is_option(mode, "SYNC") => keys(KeyCommand::Flush),
        _ => Err(SYNTAX_ERROR),
    }
}

pub(super) fn parse_del(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Del {
        keys: rest(args, 1),
    })
}

pub(super) fn parse_exists(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Exists {
        keys: rest(args, 1),
    })
}

pub(super) fn parse_touch(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Touch {
        keys: rest(args, 1),
    })
}

pub(super) fn parse_rename(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    rename(args, false)
}

pub(super) fn parse_renamenx(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    rename(args, true)
}

fn rename(args: &[Bytes], only_new: bool) -> Result<Command, Reply> {
    keys(KeyCommand::Rename(RenameCommand {
        from: arg(args, 1),
        to: arg(args, 2),
        only_new,
    }))
}

pub(super) fn parse_copy(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (from, to) = (arg(args, 1), arg(args, 2));
    let (mut replace, mut at) = (false, 3);
    while let Some(option) = args.get(at) {
        if is_option(option, "REPLACE") {
            replace = true;
        } else if is_option(option, "DB") && at + 1 < args.len() {
            at += 1;
            database(args, at)?;
        } else {
            return Err(SYNTAX_ERROR);
        }
        at += 1;
    }
    if from == to {
        return Err(Reply::error(
            "ERR source and destination objects are the same",
        ));
    }
    keys(KeyCommand::Copy(CopyCommand { from, to, replace }))
}

pub(super) fn parse_type(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Type { key: arg(args, 1) })
}

pub(super) fn parse_keys(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::Keys {
        pattern: arg(args, 1),
    })
}

pub(super) fn parse_random_key(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    keys(KeyCommand::RandomKey)
}

pub(super) fn parse_scan(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let cursor = parse_cursor(&arg(args, 1)).ok_or(Reply::error("ERR invalid cursor"))?;
    let mut scan = ScanCommand {
        cursor,
        pattern: None,
        count: SCAN_COUNT,
        kind: None,
    };
    let mut index = 2;
    while let Some(option) = args.get(index) {
        let Some(value) = args.get(index + 1) else {
            return Err(SYNTAX_ERROR);
        };
        if is_option(option, "COUNT") {
            let count = integer(args, index + 1)?;
            scan.count = u64::try_from(count)
                .ok()
                .filter(|count| *count > 0)
                .ok_or(SYNTAX_ERROR)?;
        } else if is_option(option, "MATCH") {
            scan.pattern = Some(value.clone());
        } else if is_option(option, "TYPE") {
            scan.kind = Some(value.clone());
        } else {
            return Err(SYNTAX_ERROR);
        }
        index += 2;
    }
    keys(KeyCommand::Scan(scan))
}

/// A cursor as C's `strtoul` reads it, which is more lenient than other integers: a sign and
/// leading zeros are allowed, an empty argument is 0, and a NUL ends it.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let text = cut(text, text.len());
    let (negative, digits) = match text {
        [] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut cursor: u64 = 0;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        cursor = cursor.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(if negative {
        cursor.wrapping_neg()
    } else {
        cursor
    })
}
