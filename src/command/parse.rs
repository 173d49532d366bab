//! The door: name, arity, then the family's own parser.

use bytes::Bytes;

use super::table::{self, CommandInfo};
use super::{KeyCommand, SessionCommand, expiry, keys, set, strings};
use crate::resp::{Reply, Request};

/// A parsed command.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Answered from the keyspace.
    Keys(KeyCommand),
    /// Answered by the session; its arguments without the name.
    Session(SessionCommand, Vec<Bytes>),
}

pub(super) type Parsed<T> = Result<T, Reply>;

pub(super) fn syntax_error() -> Reply {
    Reply::error("ERR syntax error")
}

pub(super) fn not_an_integer() -> Reply {
    Reply::error("ERR value is not an integer or out of range")
}

pub(super) fn int(bytes: &[u8]) -> Parsed<i64> {
    parse_int(bytes).ok_or_else(not_an_integer)
}

/// Redis's `string2ll`: no plus sign, no spaces, no leading zeroes.
pub(crate) fn parse_int(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical =
        text == "0" || (!digits.is_empty() && !digits.starts_with('0') && !digits.starts_with('+'));
    canonical.then(|| text.parse().ok())?
}

impl Command {
    /// What this request asks for; or Redis's error.
    pub fn parse(request: &Request) -> Result<Command, Reply> {
        let (name, args) = request
            .args
            .split_first()
            .expect("a request is never empty");
        let Some(info) = table::find(name) else {
            return Err(unknown(name, args));
        };
        if !info.arity_fits(request.args.len()) {
            return Err(wrong_arity(info));
        }
        (info.parse)(info, args)
    }
}

pub(super) fn wrong_arity(info: &CommandInfo) -> Reply {
    Reply::error(format!(
        "ERR wrong number of arguments for '{}' command",
        info.name
    ))
}

fn unknown(name: &[u8], args: &[Bytes]) -> Reply {
    let clean = |bytes: &[u8], most: usize| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(most)]).into_owned()
    };
    let mut shown = String::new();
    for arg in args {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        shown.push_str(&format!("'{}' ", clean(arg, room)));
    }
    let name = clean(name, 128);
    Reply::error(format!(
        "ERR unknown command '{name}', with args beginning with: {shown}"
    ))
}

/// The parser that a table entry names.
pub(super) type Parser = fn(&CommandInfo, &[Bytes]) -> Parsed<Command>;

pub(super) fn session(info: &CommandInfo, args: &[Bytes]) -> Parsed<Command> {
    use SessionCommand::*;
    let command = match info.name {
        "ping" => Ping,
        "echo" => Echo,
        "hello" => Hello,
        "auth" => Auth,
        "select" => Select,
        "client" => Client,
        "command" => CommandCmd,
        "info" => Info,
        "role" => Role,
        "config" => Config,
        "sentinel" => Sentinel,
        "reset" => Reset,
        "subscribe" => Subscribe,
        "psubscribe" => PSubscribe,
        "unsubscribe" => Unsubscribe,
        "punsubscribe" => PUnsubscribe,
        "publish" => Publish,
        "wait" => Wait,
        "time" => Time,
        _ => Quit,
    };
    Ok(Command::Session(command, args.to_vec()))
}

pub(super) fn key_command(info: &CommandInfo, args: &[Bytes]) -> Parsed<Command> {
    let command = match info.group {
        "string" => strings::parse(info, args),
        "expiry" => expiry::parse(info, args),
        "set" => set::parse(info, args),
        _ => keys::parse(info, args),
    };
    command.map(Command::Keys)
}
