//! Publish and subscribe. Only parsed: the server answers, mostly so that Sentinel-aware clients
//! can wait for `+switch-master`.

use bytes::Bytes;

use super::args::{arg, rest};
use super::{Command, CommandSpec, SessionCommand};
use crate::resp::Reply;

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
