//! Publish and subscribe. Only parsed: the server answers, mostly so that Sentinel-aware clients
//! can wait for `+switch-master`.

use bytes::Bytes;

use super::args::{arg, rest, wrong_subcommand};
use super::{Command, CommandSpec, SessionCommand};
use crate::resp::Reply;

/// A PUBSUB subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PubSubQuery {
    /// PUBSUB CHANNELS and SHARDCHANNELS: names that somebody subscribed to.
    Channels {
        /// Those of the shard.
        shard: bool,
        /// Glob pattern; none: all.
        pattern: Option<Bytes>,
    },
    /// PUBSUB NUMSUB and SHARDNUMSUB: how many subscribed to each.
    Counts {
        /// Those of the shard.
        shard: bool,
        /// Names.
        channels: Vec<Bytes>,
    },
    /// PUBSUB NUMPAT: how many patterns are subscribed to.
    Patterns,
}

pub(super) fn parse_subscribe(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Subscribe {
        channels: rest(args, 1),
    }))
}

pub(super) fn parse_psubscribe(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::PSubscribe {
        patterns: rest(args, 1),
    }))
}

pub(super) fn parse_unsubscribe(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Unsubscribe {
        channels: rest(args, 1),
    }))
}

pub(super) fn parse_punsubscribe(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::PUnsubscribe {
        patterns: rest(args, 1),
    }))
}

pub(super) fn parse_publish(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (channel, message) = (arg(args, 1), arg(args, 2));
    Ok(Command::Session(SessionCommand::Publish {
        channel,
        message,
    }))
}

pub(super) fn parse_ssubscribe(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::SSubscribe {
        channels: rest(args, 1),
    }))
}

pub(super) fn parse_sunsubscribe(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::SUnsubscribe {
        channels: rest(args, 1),
    }))
}

pub(super) fn parse_spublish(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (channel, message) = (arg(args, 1), arg(args, 2));
    Ok(Command::Session(SessionCommand::SPublish {
        channel,
        message,
    }))
}

fn query(query: PubSubQuery) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::PubSub(query)))
}

fn channels(shard: bool, args: &[Bytes]) -> Result<Command, Reply> {
    if args.len() > 3 {
        return Err(wrong_subcommand(args));
    }
    let pattern = args.get(2).cloned();
    query(PubSubQuery::Channels { shard, pattern })
}

pub(super) fn parse_channels(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    channels(false, args)
}

pub(super) fn parse_shardchannels(
    _: &'static CommandSpec,
    args: &[Bytes],
) -> Result<Command, Reply> {
    channels(true, args)
}

pub(super) fn parse_numsub(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    query(PubSubQuery::Counts {
        shard: false,
        channels: rest(args, 2),
    })
}

pub(super) fn parse_shardnumsub(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    query(PubSubQuery::Counts {
        shard: true,
        channels: rest(args, 2),
    })
}

pub(super) fn parse_numpat(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    query(PubSubQuery::Patterns)
}
