//! SCRIPT and FUNCTION, as a Redis answers them that never was given any: there are none here, and what
//! would make one is refused (`refused.rs`).

use bytes::Bytes;

use super::args::{is_option, printable, wrong_subcommand};
use super::server::fixed;
use super::{Command, CommandSpec};
use crate::resp::Reply;

/// FUNCTION DUMP of no functions: the version of the format and a checksum, nothing else.
const NO_FUNCTIONS: &[u8] = b"\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda";

fn is_flush_mode(arg: &[u8]) -> bool {
    is_option(arg, "SYNC") || is_option(arg, "ASYNC")
}

pub(super) fn parse_script_flush(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    match args.get(2..).unwrap_or_default() {
        [] => fixed(Reply::OK),
        [mode] if is_flush_mode(mode) => fixed(Reply::OK),
        _ => Err(Reply::error(
            "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
        )),
    }
}

pub(super) fn parse_script_exists(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    let asked = args.iter().skip(2);
    fixed(Reply::Array(asked.map(|_| Reply::Integer(0)).collect()))
}

pub(super) fn parse_kill(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    Err(Reply::error("NOTBUSY No scripts in execution right now."))
}

pub(super) fn parse_function_flush(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    match args.get(2..).unwrap_or_default() {
        [] => fixed(Reply::OK),
        [mode] if is_flush_mode(mode) => fixed(Reply::OK),
        [_] => Err(Reply::error(
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option",
        )),
        _ => Err(wrong_subcommand(args)),
    }
}

pub(super) fn parse_function_list(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    let mut options = args.get(2..).unwrap_or_default();
    let (mut with_code, mut with_name) = (false, false);
    while let [option, tail @ ..] = options {
        options = if !with_code && is_option(option, "WITHCODE") {
            with_code = true;
            tail
        } else if !with_name && is_option(option, "LIBRARYNAME") {
            with_name = true;
            let missing = Reply::error("ERR library name argument was not given");
            tail.get(1..).ok_or(missing)?
        } else {
            let option = printable(option, option.len());
            return Err(Reply::Error(
                format!("ERR Unknown argument {option}").into(),
            ));
        };
    }
    fixed(Reply::Array(Vec::new()))
}

pub(super) fn parse_function_dump(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    fixed(Reply::Bulk(Bytes::from_static(NO_FUNCTIONS)))
}

pub(super) fn parse_function_stats(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    let count = |name| (Reply::text(name), Reply::Integer(0));
    let engine = Reply::Map(vec![count("libraries_count"), count("functions_count")]);
    let engines = Reply::Map(vec![(Reply::text("LUA"), engine)]);
    fixed(Reply::Map(vec![
        (Reply::text("running_script"), Reply::Null),
        (Reply::text("engines"), engines),
    ]))
}

pub(super) fn parse_function_delete(
    _: &'static CommandSpec,
    _: &[Bytes],
) -> Result<Command, Reply> {
    Err(Reply::error("ERR Library not found"))
}
