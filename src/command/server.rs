//! Commands about the server as a whole: databases, handing over, the end, DEBUG.

use std::time::Duration;

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, database, integer, is_option, printable, wrong_subcommand};
use super::help::help_of;
use super::{Command, CommandSpec, SessionCommand, parse_integer};
use crate::resp::Reply;

/// FAILOVER's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailoverCommand {
    /// FAILOVER ABORT.
    Abort,
    /// A switchover.
    Begin {
        /// TO: the standby that takes over; none: the one that holds most.
        to: Option<FailoverTarget>,
        /// FORCE: to take over even without everything.
        force: bool,
        /// TIMEOUT, in milliseconds.
        timeout_ms: Option<u64>,
    },
}

/// A member, as clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailoverTarget {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: i64,
}

/// A command that is answered the same whatever there is.
pub(super) fn fixed(reply: Reply) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Fixed(reply)))
}

/// With one database there is only it to swap with.
pub(super) fn parse_swapdb(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let number = |index: usize, error: &'static str| {
        let number = args.get(index).and_then(|text| parse_integer(text));
        let number = number.and_then(|number| i32::try_from(number).ok());
        number.ok_or(Reply::error(error))
    };
    let first = number(1, "ERR invalid first DB index")?;
    let second = number(2, "ERR invalid second DB index")?;
    match (first, second) {
        (0, 0) => fixed(Reply::OK),
        _ => Err(Reply::error("ERR DB index is out of range")),
    }
}

/// There is no other database to move a key to.
pub(super) fn parse_move(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    database(args, 2)?;
    Err(Reply::error(
        "ERR source and destination objects are the same",
    ))
}

pub(super) fn parse_failover(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let failover = |command| Ok(Command::Session(SessionCommand::Failover(command)));
    if let [_, option] = args
        && is_option(option, "ABORT")
    {
        return failover(FailoverCommand::Abort);
    }
    let (mut to, mut force, mut timeout_ms) = (None, false, None);
    let mut options = args.get(1..).unwrap_or_default();
    while let [option, tail @ ..] = options {
        options = match tail {
            [_, tail @ ..] if is_option(option, "TIMEOUT") && timeout_ms.is_none() => {
                let timeout = integer(options, 1)?;
                let ms = u64::try_from(timeout).ok().filter(|ms| *ms > 0);
                timeout_ms =
                    Some(ms.ok_or(Reply::error("ERR FAILOVER timeout must be greater than 0"))?);
                tail
            }
            [host, _, tail @ ..] if is_option(option, "TO") && to.is_none() => {
                let port = integer(options, 2)?;
                to = Some(FailoverTarget {
                    host: printable(host, 256),
                    port,
                });
                tail
            }
            tail if is_option(option, "FORCE") && !force => {
                force = true;
                tail
            }
            _ => return Err(SYNTAX_ERROR),
        };
    }
    failover(FailoverCommand::Begin {
        to,
        force,
        timeout_ms,
    })
}

pub(super) fn parse_shutdown(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (mut save, mut nosave, mut others, mut abort) = (false, false, false, false);
    for option in args.iter().skip(1) {
        if is_option(option, "NOSAVE") {
            nosave = true;
        } else if is_option(option, "SAVE") {
            save = true;
        } else if is_option(option, "NOW") || is_option(option, "FORCE") {
            others = true;
        } else if is_option(option, "ABORT") {
            abort = true;
        } else {
            return Err(SYNTAX_ERROR);
        }
    }
    if (abort && (save || nosave || others)) || (save && nosave) {
        return Err(SYNTAX_ERROR);
    }
    if abort {
        return Err(Reply::error("ERR No shutdown in progress."));
    }
    Ok(Command::Session(SessionCommand::Shutdown))
}

/// Longest time that DEBUG SLEEP takes, in seconds: a client that goes meanwhile is not noticed before.
const LONGEST_SLEEP: f64 = 3600.0;

pub(super) fn parse_debug(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args {
        [_, what, seconds] if is_option(what, "SLEEP") => {
            let seconds = std::str::from_utf8(seconds).ok();
            let seconds = seconds.and_then(|text| text.parse::<f64>().ok());
            let Some(seconds) = seconds.filter(|seconds| seconds.is_finite()) else {
                return Err(Reply::error("ERR value is not a valid float"));
            };
            if seconds > LONGEST_SLEEP {
                return Err(Reply::error("ERR DEBUG SLEEP sleeps at most 3600 seconds"));
            }
            let span = Duration::from_secs_f64(seconds.max(0.0));
            Ok(Command::Session(SessionCommand::Sleep { span }))
        }
        // Clients' own tests ask for it, to see what they make of an error.
        [_, what, text] if is_option(what, "ERROR") => {
            let text = String::from_utf8_lossy(text).replace(['\r', '\n'], " ");
            fixed(Reply::Error(text.into()))
        }
        [_, what] if is_option(what, "HELP") => fixed(help_of("debug")),
        _ => Err(wrong_subcommand(args)),
    }
}

pub(super) fn parse_lolwut(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    if args
        .get(1)
        .is_some_and(|option| is_option(option, "VERSION"))
        && args.len() > 2
    {
        integer(args, 2)?;
    }
    let text = concat!("understudy ver. ", env!("CARGO_PKG_VERSION"), "\n");
    fixed(Reply::Verbatim(
        *b"txt",
        Bytes::from_static(text.as_bytes()),
    ))
}
