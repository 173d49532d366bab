//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.

use bytes::Bytes;

use super::args::rest;
use super::{Command, CommandSpec, SessionCommand};
use crate::resp::Reply;

/// What begins, ends or guards a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionCommand {
    /// MULTI.
    Begin,
    /// EXEC.
    Execute,
    /// DISCARD.
    Discard,
    /// WATCH.
    Watch {
        /// At least one key.
        keys: Vec<Bytes>,
    },
    /// UNWATCH.
    Unwatch,
}

fn transaction(command: TransactionCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Transaction(command)))
}

pub(super) fn parse_multi(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    transaction(TransactionCommand::Begin)
}

pub(super) fn parse_exec(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    transaction(TransactionCommand::Execute)
}

pub(super) fn parse_discard(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    transaction(TransactionCommand::Discard)
}

pub(super) fn parse_watch(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    transaction(TransactionCommand::Watch {
        keys: rest(args, 1),
    })
}

pub(super) fn parse_unwatch(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    transaction(TransactionCommand::Unwatch)
}
