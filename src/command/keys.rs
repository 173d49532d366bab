//! Commands about keys, whatever their value: DEL, EXISTS, KEYS, SCAN and so on.

use bytes::Bytes;

use super::KeyCommand;
use super::parse::{Parsed, syntax_error};
use super::strings::count;
use super::table::CommandInfo;
use crate::resp::Reply;

/// SCAN's TYPE option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeFilter {
    /// Every key.
    Any,
    /// No key: a type that no value here has.
    Nothing,
}

pub(super) fn parse(info: &CommandInfo, args: &[Bytes]) -> Parsed<KeyCommand> {
    Ok(match info.name {
        "del" | "unlink" => KeyCommand::Del(args.to_vec()),
        "exists" | "touch" => KeyCommand::Exists(args.to_vec()),
        "type" => KeyCommand::Type(args[0].clone()),
        "keys" => KeyCommand::Keys(args[0].clone()),
        "randomkey" => KeyCommand::RandomKey,
        "dbsize" => KeyCommand::DbSize,
        "scan" => scan(args)?,
        "flushall" | "flushdb" => match args {
            [] => KeyCommand::Flush,
            [how] if how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync") => {
                KeyCommand::Flush
            }
            _ => return Err(syntax_error()),
        },
        other => unreachable!("the table lists {other} as a key command without a parser"),
    })
}

fn scan(args: &[Bytes]) -> Parsed<KeyCommand> {
    let cursor = std::str::from_utf8(&args[0])
        .ok()
        .and_then(|text| text.parse().ok());
    let cursor: u64 = cursor.ok_or_else(|| Reply::error("ERR invalid cursor"))?;
    let (mut pattern, mut most, mut filter) = (None, 10, TypeFilter::Any);
    let mut rest = &args[1..];
    while let [option, tail @ ..] = rest {
        let [value, tail @ ..] = tail else {
            return Err(syntax_error());
        };
        match option.to_ascii_lowercase().as_slice() {
            b"match" => pattern = Some(value.clone()),
            b"count" => most = count(value)?,
            b"type" if value.eq_ignore_ascii_case(b"string") => filter = TypeFilter::Any,
            b"type" => filter = TypeFilter::Nothing,
            _ => return Err(syntax_error()),
        }
        rest = tail;
    }
    Ok(KeyCommand::Scan {
        cursor,
        pattern,
        count: most,
        filter,
    })
}
