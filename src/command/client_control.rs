//! CLIENT, as far as one client acts on others, or on what it is answered.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, integer, is_option, wrong_subcommand};
use super::client::{client, parse_kind};
use super::{ClientCommand, ClientKind, Command, CommandSpec, parse_integer};
use crate::resp::Reply;

/// Which connections CLIENT KILL ends: those to which all of it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFilter {
    /// With this number.
    pub id: Option<u64>,
    /// From this `host:port`.
    pub addr: Option<Bytes>,
    /// To this `host:port` of ours.
    pub laddr: Option<Bytes>,
    /// Of this kind.
    pub kind: Option<ClientKind>,
    /// Of this user.
    pub user: Option<Bytes>,
    /// All but the connection that asks.
    pub skip_me: bool,
    /// The old form: one connection, by its address, answered OK or an error.
    pub is_old: bool,
}

/// What a connection is answered from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyMode {
    /// Everything.
    On,
    /// Nothing.
    Off,
    /// Not the next command.
    Skip,
}

pub(super) fn parse_kill(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    if let [_, _, addr] = args {
        return client(ClientCommand::Kill(ClientFilter {
            addr: Some(addr.clone()),
            is_old: true,
            ..ClientFilter::default()
        }));
    }
    let mut filter = ClientFilter {
        skip_me: true,
        ..ClientFilter::default()
    };
    for pair in args.get(2..).unwrap_or_default().chunks(2) {
        let [option, value] = pair else {
            return Err(SYNTAX_ERROR);
        };
        add_filter(&mut filter, option, value)?;
    }
    client(ClientCommand::Kill(filter))
}

fn add_filter(filter: &mut ClientFilter, option: &[u8], value: &Bytes) -> Result<(), Reply> {
    if is_option(option, "ID") {
        let id = parse_integer(value).and_then(|id| u64::try_from(id).ok());
        let id = id.filter(|id| *id > 0);
        let wrong = Reply::error("ERR client-id should be greater than 0");
        filter.id = Some(id.ok_or(wrong)?);
    } else if is_option(option, "TYPE") {
        filter.kind = Some(parse_kind(value)?);
    } else if is_option(option, "ADDR") {
        filter.addr = Some(value.clone());
    } else if is_option(option, "LADDR") {
        filter.laddr = Some(value.clone());
    } else if is_option(option, "USER") {
        filter.user = Some(value.clone());
    } else if is_option(option, "SKIPME") {
        filter.skip_me = is_option(value, "YES");
        if !filter.skip_me && !is_option(value, "NO") {
            return Err(SYNTAX_ERROR);
        }
    } else {
        return Err(SYNTAX_ERROR);
    }
    Ok(())
}

pub(super) fn parse_pause(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let timeout_ms = parse_timeout(args, 2)?;
    let all = match args.get(3..).unwrap_or_default() {
        [] => true,
        [mode] if is_option(mode, "ALL") => true,
        [mode] if is_option(mode, "WRITE") => false,
        [_] => {
            return Err(Reply::error("ERR CLIENT PAUSE mode must be WRITE or ALL"));
        }
        _ => return Err(wrong_subcommand(args)),
    };
    client(ClientCommand::Pause { timeout_ms, all })
}

pub(super) fn parse_unpause(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::Unpause)
}

pub(super) fn parse_unblock(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let with_error = match args.get(3..).unwrap_or_default() {
        [] => false,
        [reason] if is_option(reason, "TIMEOUT") => false,
        [reason] if is_option(reason, "ERROR") => true,
        [_] => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(Reply::error(text));
        }
        _ => return Err(wrong_subcommand(args)),
    };
    let id = u64::try_from(integer(args, 2)?).unwrap_or(0);
    client(ClientCommand::Unblock { id, with_error })
}

pub(super) fn parse_reply(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mode = arg(args, 2);
    let mode = if is_option(&mode, "ON") {
        ReplyMode::On
    } else if is_option(&mode, "OFF") {
        ReplyMode::Off
    } else if is_option(&mode, "SKIP") {
        ReplyMode::Skip
    } else {
        return Err(SYNTAX_ERROR);
    };
    client(ClientCommand::Reply(mode))
}

pub(super) fn parse_no_touch(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mode = arg(args, 2);
    let on = is_option(&mode, "ON");
    if !on && !is_option(&mode, "OFF") {
        return Err(SYNTAX_ERROR);
    }
    client(ClientCommand::NoTouch { on })
}

/// Clients that cache what they read would have to be told of every change before it is shown to
/// anybody else, by whoever is primary then.
pub(super) fn parse_tracking(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args.get(2..).unwrap_or_default() {
        [mode] if is_option(mode, "OFF") => client(ClientCommand::TrackingOff),
        [mode, ..] if is_option(mode, "ON") => Err(Reply::error(
            "ERR client-side caching is not supported here; connect without CLIENT TRACKING",
        )),
        _ => Err(SYNTAX_ERROR),
    }
}

pub(super) fn parse_caching(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    Err(Reply::error(
        "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
         OPTOUT mode enabled",
    ))
}

pub(super) fn parse_getredir(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::GetRedirection)
}

pub(super) fn parse_trackinginfo(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::TrackingInfo)
}

/// A time to wait, in milliseconds; 0: without end.
pub(super) fn parse_timeout(args: &[Bytes], index: usize) -> Result<u64, Reply> {
    let timeout = args.get(index).and_then(|text| parse_integer(text));
    let timeout = timeout.ok_or(Reply::error(
        "ERR timeout is not an integer or out of range",
    ))?;
    u64::try_from(timeout).map_err(|_| Reply::error("ERR timeout is negative"))
}
