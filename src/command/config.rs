//! CONFIG.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, rest};
use super::{Command, CommandSpec, SessionCommand};
use crate::resp::Reply;

/// A CONFIG subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigCommand {
    /// CONFIG GET.
    Get {
        /// Glob patterns over the names of parameters.
        patterns: Vec<Bytes>,
    },
    /// CONFIG SET.
    Set {
        /// Names and values, of which all are set or none.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// CONFIG RESETSTAT.
    ResetStat,
    /// CONFIG REWRITE.
    Rewrite,
}

fn config(command: ConfigCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Config(command)))
}

pub(super) fn parse_get(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    config(ConfigCommand::Get {
        patterns: rest(args, 2),
    })
}

pub(super) fn parse_set(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let pairs = args.get(2..).unwrap_or_default().chunks(2);
    let pairs = pairs.map(|pair| match pair {
        [name, value] => Ok((name.clone(), value.clone())),
        _ => Err(SYNTAX_ERROR),
    });
    config(ConfigCommand::Set {
        pairs: pairs.collect::<Result<_, _>>()?,
    })
}

pub(super) fn parse_resetstat(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    config(ConfigCommand::ResetStat)
}

pub(super) fn parse_rewrite(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    config(ConfigCommand::Rewrite)
}
