//! Receipts of copies: WAIT, WAITAOF, CLIENT DURABILITY; and what reads on a standby wait for.

use bytes::Bytes;

use super::args::{NOT_AN_INTEGER, SYNTAX_ERROR, arg, integer, is_option, printable};
use super::client::client;
use super::client_control::parse_timeout;
use super::{ClientCommand, Command, CommandSpec, SessionCommand, parse_integer};
use crate::resp::Reply;

/// How firmly a standby must hold a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyLevel {
    /// Handed to its operating system.
    Received,
    /// Durable there.
    Synced,
    /// Visible to its readers.
    Applied,
}

/// CLIENT DURABILITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurabilityCommand {
    /// Without arguments: what is asked for now.
    Tell,
    /// OFF.
    Off,
    /// From now on each write's reply waits for so many copies.
    On {
        /// Standbys.
        standbys: u32,
        /// How firmly.
        level: CopyLevel,
        /// How long, in milliseconds; 0: without end.
        timeout_ms: u64,
    },
}

/// WAIT and WAITAOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitCommand {
    /// How many standbys must hold this connection's writes.
    pub standbys: u32,
    /// WAITAOF: synced, there, and here if it asks for that.
    pub synced: bool,
    /// Durable here, too.
    pub here: bool,
    /// How long to wait, in milliseconds; 0: without end.
    pub timeout_ms: u64,
}

pub(super) fn parse_wait(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let standbys = at_least_zero(integer(args, 1)?);
    Ok(Command::Session(SessionCommand::Wait(WaitCommand {
        standbys,
        synced: false,
        here: false,
        timeout_ms: parse_timeout(args, 2)?,
    })))
}

pub(super) fn parse_waitaof(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let here = match integer(args, 1)? {
        0 => false,
        1 => true,
        _ => {
            let text = "ERR value is out of range, value must between 0 and 1";
            return Err(Reply::error(text));
        }
    };
    let standbys = integer(args, 2)?;
    if standbys < 0 {
        return Err(Reply::error("ERR value is out of range, must be positive"));
    }
    Ok(Command::Session(SessionCommand::Wait(WaitCommand {
        standbys: at_least_zero(standbys),
        synced: true,
        here,
        timeout_ms: parse_timeout(args, 3)?,
    })))
}

fn at_least_zero(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

pub(super) fn parse_durability(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::Durability(match args {
        [_, _] => DurabilityCommand::Tell,
        [_, _, off] if is_option(off, "OFF") => DurabilityCommand::Off,
        [_, _, copies, level, _] => DurabilityCommand::On {
            standbys: parse_integer(copies)
                .and_then(|copies| u32::try_from(copies).ok())
                .filter(|copies| *copies > 0)
                .ok_or(Reply::error(
                    "ERR CLIENT DURABILITY wants the copies on standbys as a number above 0",
                ))?,
            level: parse_level(level)?,
            timeout_ms: parse_timeout(args, 4)?,
        },
        _ => return Err(SYNTAX_ERROR),
    }))
}

fn parse_level(name: &[u8]) -> Result<CopyLevel, Reply> {
    for (known, level) in [
        ("received", CopyLevel::Received),
        ("synced", CopyLevel::Synced),
        ("applied", CopyLevel::Applied),
    ] {
        if is_option(name, known) {
            return Ok(level);
        }
    }
    let name = printable(name, 128);
    let text = format!("ERR unknown level '{name}': received, synced or applied");
    Err(Reply::Error(text.into()))
}

pub(super) fn parse_lastlsn(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::LastLsn)
}

pub(super) fn parse_maxstaleness(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    let ms = unsigned(args, 2)?;
    client(ClientCommand::MaxStaleness { ms })
}

pub(super) fn parse_readafter(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::ReadAfter {
        lsn: unsigned(args, 1)?,
        timeout_ms: parse_timeout(args, 2)?,
    }))
}

fn unsigned(args: &[Bytes], index: usize) -> Result<u64, Reply> {
    let number = parse_integer(&arg(args, index)).and_then(|number| u64::try_from(number).ok());
    number.ok_or(NOT_AN_INTEGER)
}
