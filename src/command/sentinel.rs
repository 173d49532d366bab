//! SENTINEL: all of its subcommands, those that a cluster of this kind has no use for as errors that say
//! what to do instead.

use bytes::Bytes;

use super::args::{NOT_AN_INTEGER, arg};
use super::{Command, CommandSpec, SessionCommand, parse_integer};
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
    /// Whether so many voters are there that one can be elected.
    CkQuorum {
        /// The cluster's name.
        master: Bytes,
    },
    /// Hand over to the best standby.
    Failover {
        /// The cluster's name.
        master: Bytes,
    },
    /// What one Sentinel asks another of a primary.
    IsMasterDownByAddr {
        /// Its host.
        host: Bytes,
        /// Its port.
        port: i64,
    },
    /// Scripts that wait to be run.
    PendingScripts,
    /// What there is.
    Help,
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

pub(super) fn parse_ckquorum(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::CkQuorum {
        master: arg(args, 2),
    })
}

pub(super) fn parse_failover(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Failover {
        master: arg(args, 2),
    })
}

/// The epoch and the run id are a request for a vote, and nobody votes on this way: they are only
/// looked at as far as Redis refuses them.
pub(super) fn parse_is_master_down_by_addr(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    let number = |index: usize| args.get(index).and_then(|text| parse_integer(text));
    let (Some(port), Some(_)) = (number(3), number(4)) else {
        return Err(NOT_AN_INTEGER);
    };
    sentinel(SentinelCommand::IsMasterDownByAddr {
        host: arg(args, 2),
        port,
    })
}

pub(super) fn parse_pending_scripts(
    _: &'static CommandSpec,
    _: &[Bytes],
) -> Result<Command, Reply> {
    sentinel(SentinelCommand::PendingScripts)
}

pub(super) fn parse_help(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Help)
}

/// What a Sentinel keeps and here stands elsewhere, or is not kept at all.
pub(super) fn parse_not_here(spec: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    Err(Reply::error(match spec.name {
        "sentinel|monitor" | "sentinel|remove" | "sentinel|set" => {
            "ERR one cluster is watched, its own: members and settings stand in the nodes' \
             configuration files; change them there and restart the nodes one by one"
        }
        "sentinel|config" | "sentinel|debug" => {
            "ERR settings stand in the nodes' configuration files; change them there and restart the \
             nodes one by one"
        }
        "sentinel|reset" => {
            "ERR nothing to reset: members stand in the nodes' configuration files, and who is there \
             is looked at all the time"
        }
        "sentinel|flushconfig" => {
            "ERR nothing to flush: what a node promises is on its disk before it says so"
        }
        "sentinel|info-cache" => {
            "ERR no INFO of other nodes is kept here; send INFO to each of them"
        }
        _ => "ERR failures are not simulated here; understudy demo kills real processes",
    }))
}

pub(super) fn parse_myid(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::MyId)
}

pub(super) fn parse_ping(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    sentinel(SentinelCommand::Ping)
}
