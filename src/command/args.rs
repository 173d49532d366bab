//! What all families share: numbers, options and error texts.

use bytes::Bytes;

use super::{Command, KeyCommand};
use crate::resp::Reply;

pub use crate::resp::parse_integer;

/// Longest string value, in bytes (Redis: `proto-max-bulk-len`).
pub const MAX_STRING_BYTES: usize = 512 * 1024 * 1024;

/// `ERR syntax error`.
pub(super) const SYNTAX_ERROR: Reply = Reply::error("ERR syntax error");

/// `ERR value is not an integer or out of range`.
pub(crate) const NOT_AN_INTEGER: Reply =
    Reply::error("ERR value is not an integer or out of range");

/// Most bytes of arguments that an unknown-command error repeats.
const REPEATED_BYTES: usize = 128;

/// The answer to an expiry that is zero, negative or beyond the range of time.
pub fn invalid_expire_time(command: &str) -> Reply {
    Reply::Error(format!("ERR invalid expire time in '{command}' command").into())
}

pub(super) fn wrong_arity(command: &str) -> Reply {
    let what = format!("wrong number of arguments for '{command}' command");
    // EXEC that cannot be carried out ends what it was to carry out.
    let text = match command {
        "exec" => format!("EXECABORT Transaction discarded because of: {what}"),
        _ => format!("ERR {what}"),
    };
    Reply::Error(text.into())
}

pub(super) fn unknown_subcommand(container: &str, name: &[u8]) -> Reply {
    let name = printable(name, REPEATED_BYTES);
    let container = container.to_ascii_uppercase();
    Reply::Error(format!("ERR unknown subcommand '{name}'. Try {container} HELP.").into())
}

/// A subcommand with arguments that it does not take, which its arity allows.
pub(super) fn wrong_subcommand(args: &[Bytes]) -> Reply {
    let text = |index| printable(&arg(args, index), REPEATED_BYTES);
    let (container, name) = (text(0).to_ascii_uppercase(), text(1));
    let text = format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    );
    Reply::Error(text.into())
}

/// Repeats the command and the first of its arguments, in at most about 128 bytes each.
pub(super) fn unknown_command(args: &[Bytes]) -> Reply {
    let name = args
        .first()
        .map(|name| printable(name, REPEATED_BYTES))
        .unwrap_or_default();
    // Counted in their own bytes, not in those that stand for what is not UTF-8.
    let mut repeated = Vec::new();
    for arg in args.iter().skip(1) {
        if repeated.len() >= REPEATED_BYTES {
            break;
        }
        let shown = cut(arg, REPEATED_BYTES - repeated.len());
        repeated.push(b'\'');
        repeated.extend_from_slice(shown);
        repeated.extend_from_slice(b"' ");
    }
    let repeated = String::from_utf8_lossy(&repeated);
    let text = format!("ERR unknown command '{name}', with args beginning with: {repeated}");
    Reply::Error(text.into())
}

/// What [`cut`] leaves, as far as it is UTF-8.
pub(super) fn printable(text: &[u8], most: usize) -> String {
    String::from_utf8_lossy(cut(text, most)).into_owned()
}

/// The first `most` bytes of `text`, cut at a NUL as C does.
pub(super) fn cut(text: &[u8], most: usize) -> &[u8] {
    let text = text.get(..most).unwrap_or(text);
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    text.get(..end).unwrap_or_default()
}

/// The argument at `index`, which the arity check has promised.
pub(super) fn arg(args: &[Bytes], index: usize) -> Bytes {
    args.get(index).cloned().unwrap_or_default()
}

/// The integer at `index`, or Redis's error.
pub(super) fn integer(args: &[Bytes], index: usize) -> Result<i64, Reply> {
    args.get(index)
        .and_then(|text| parse_integer(text))
        .ok_or(NOT_AN_INTEGER)
}

/// Checks the number of a database at `index`: there is one, as in a Redis that was told so.
pub(super) fn database(args: &[Bytes], index: usize) -> Result<(), Reply> {
    let database = integer(args, index)?;
    if i32::try_from(database).is_err() {
        let text = "ERR value is out of range, value must between -2147483648 and 2147483647";
        return Err(Reply::error(text));
    }
    match database {
        0 => Ok(()),
        _ => Err(Reply::error("ERR DB index is out of range")),
    }
}

/// All arguments from `index` on.
pub(super) fn rest(args: &[Bytes], index: usize) -> Vec<Bytes> {
    args.get(index..).unwrap_or_default().to_vec()
}

/// Whether `arg` is the option `name`, in any case.
pub(super) fn is_option(arg: &[u8], name: &str) -> bool {
    arg.eq_ignore_ascii_case(name.as_bytes())
}

/// Wraps a key command, as every parser of them returns it.
pub(super) fn keys(command: KeyCommand) -> Result<Command, Reply> {
    Ok(Command::Keys(command))
}
