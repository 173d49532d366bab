//! SLOWLOG, LATENCY and MEMORY: what a node tells about itself.

use bytes::Bytes;

use super::args::{arg, rest, wrong_subcommand};
use super::server::fixed;
use super::{Command, CommandSpec, SessionCommand, parse_integer};
use crate::resp::Reply;

/// A SLOWLOG subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlowLogCommand {
    /// SLOWLOG GET: the newest entries.
    Get {
        /// How many; none: all.
        count: Option<usize>,
    },
    /// SLOWLOG LEN.
    Len,
    /// SLOWLOG RESET.
    Reset,
}

/// A LATENCY subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatencyCommand {
    /// LATENCY LATEST.
    Latest,
    /// LATENCY HISTORY.
    History {
        /// Its name.
        event: Bytes,
    },
    /// LATENCY RESET.
    Reset {
        /// Their names; empty: all.
        events: Vec<Bytes>,
    },
    /// LATENCY GRAPH.
    Graph {
        /// Its name.
        event: Bytes,
    },
    /// LATENCY HISTOGRAM.
    Histogram {
        /// Of which; empty: of all.
        commands: Vec<Bytes>,
    },
    /// LATENCY DOCTOR.
    Doctor,
}

/// A MEMORY subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryCommand {
    /// MEMORY STATS.
    Stats,
    /// MEMORY DOCTOR.
    Doctor,
}

fn slowlog(command: SlowLogCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::SlowLog(command)))
}

fn latency(command: LatencyCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Latency(command)))
}

pub(super) fn parse_slowlog_get(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let count = match args.get(2..).unwrap_or_default() {
        [] => 10,
        [count] => parse_integer(count)
            .filter(|count| *count >= -1)
            .ok_or(Reply::error(
                "ERR count should be greater than or equal to -1",
            ))?,
        _ => return Err(wrong_subcommand(args)),
    };
    slowlog(SlowLogCommand::Get {
        count: usize::try_from(count).ok(),
    })
}

pub(super) fn parse_slowlog_len(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    slowlog(SlowLogCommand::Len)
}

pub(super) fn parse_slowlog_reset(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    slowlog(SlowLogCommand::Reset)
}

pub(super) fn parse_latency_latest(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    latency(LatencyCommand::Latest)
}

pub(super) fn parse_latency_history(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    latency(LatencyCommand::History {
        event: arg(args, 2),
    })
}

pub(super) fn parse_latency_reset(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    latency(LatencyCommand::Reset {
        events: rest(args, 2),
    })
}

pub(super) fn parse_latency_graph(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    latency(LatencyCommand::Graph {
        event: arg(args, 2),
    })
}

pub(super) fn parse_latency_doctor(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    latency(LatencyCommand::Doctor)
}

pub(super) fn parse_latency_histogram(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    latency(LatencyCommand::Histogram {
        commands: rest(args, 2),
    })
}

pub(super) fn parse_memory_stats(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Memory(
        MemoryCommand::Stats,
    )))
}

pub(super) fn parse_memory_doctor(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Memory(
        MemoryCommand::Doctor,
    )))
}

/// The system's allocator gives back what is free by itself.
pub(super) fn parse_memory_purge(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    fixed(Reply::OK)
}

/// As a Redis says it that was built with another allocator than jemalloc.
pub(super) fn parse_memory_malloc_stats(
    _: &'static CommandSpec,
    _: &[Bytes],
) -> Result<Command, Reply> {
    let text = "Stats not supported for the current allocator";
    fixed(Reply::text(text))
}
