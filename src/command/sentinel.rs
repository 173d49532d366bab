//! SENTINEL, as far as clients use it to find the primary and follow a takeover.

use bytes::Bytes;

use super::args::arg;
use super::{Command, CommandSpec, SessionCommand};
use crate::resp::Reply;

/// A question a Sentinel-aware client asks. `master` is the cluster's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentinelCommand {
    /// Host and port of the primary.
    GetMasterAddrByName {
        /// The cluster's name.
        master: Bytes,
    },
    /// All clusters known here: one.
    Masters,
    /// The state of one.
    Master {
        /// The cluster's name.
        master: Bytes,
    },
    /// Its standbys (REPLICAS and the older SLAVES).
    Replicas {
        /// The cluster's name.
        master: Bytes,
    },
    /// The other sentinels: its other nodes.
    Sentinels {
        /// The cluster's name.
        master: Bytes,
    },
    /// This sentinel's id.
    MyId,
    /// PONG.
    Ping,
}

fn sentinel(command: SentinelCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Sentinel(command)))
}

pub(super) fn parse_get_master_addr_by_name(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    sentinel(SentinelCommand::GetMasterAddrByName {
        master: arg(args, 2),
    })
}

pub(super) fn parse_masters(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Masters)
}

pub(super) fn parse_master(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Master {
        master: arg(args, 2),
    })
}

pub(super) fn parse_replicas(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Replicas {
        master: arg(args, 2),
    })
}

pub(super) use parse_replicas as parse_slaves;

pub(super) fn parse_sentinels(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Sentinels {
        master: arg(args, 2),
    })
}

pub(super) fn parse_myid(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::MyId)
}

pub(super) fn parse_ping(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Ping)
}
