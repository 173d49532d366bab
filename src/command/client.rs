//! CLIENT, as far as client libraries use it when they connect, and people when they look.

use bytes::Bytes;

use super::args::{SYNTAX_ERROR, arg, is_option, printable};
use super::{
    ClientFilter, Command, CommandSpec, DurabilityCommand, ReplyMode, SessionCommand, parse_integer,
};
use crate::resp::Reply;

/// A CLIENT subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// CLIENT ID.
    Id,
    /// CLIENT GETNAME.
    GetName,
    /// CLIENT SETNAME; an empty name removes it.
    SetName {
        /// Printable ASCII without blanks.
        name: Bytes,
    },
    /// CLIENT SETINFO LIB-NAME.
    SetLibraryName {
        /// Printable ASCII without blanks.
        name: Bytes,
    },
    /// CLIENT SETINFO LIB-VER.
    SetLibraryVersion {
        /// Printable ASCII without blanks.
        version: Bytes,
    },
    /// CLIENT INFO.
    Info,
    /// CLIENT LIST.
    List {
        /// Only connections of this kind (TYPE).
        kind: Option<ClientKind>,
        /// Only these connections (ID); empty: all.
        ids: Vec<u64>,
    },
    /// CLIENT KILL.
    Kill(ClientFilter),
    /// CLIENT PAUSE.
    Pause {
        /// For how long, in milliseconds.
        timeout_ms: u64,
        /// Reads, too.
        all: bool,
    },
    /// CLIENT UNPAUSE.
    Unpause,
    /// CLIENT UNBLOCK.
    Unblock {
        /// Which connection.
        id: u64,
        /// Its command is answered with an error, and not as if its time were over.
        with_error: bool,
    },
    /// CLIENT REPLY.
    Reply(ReplyMode),
    /// CLIENT TRACKING OFF.
    TrackingOff,
    /// CLIENT GETREDIR.
    GetRedirection,
    /// CLIENT TRACKINGINFO.
    TrackingInfo,
    /// CLIENT NO-TOUCH.
    NoTouch {
        /// ON instead of OFF.
        on: bool,
    },
    /// CLIENT DURABILITY: what each write's reply waits for besides the cluster's rule.
    Durability(DurabilityCommand),
    /// CLIENT REQUESTID: the next write, or EXEC, happens once.
    RequestId {
        /// Its id, of the client's choice.
        token: Bytes,
        /// Ids whose answers were heard.
        done: Vec<Bytes>,
    },
    /// CLIENT LASTLSN.
    LastLsn,
    /// CLIENT MAXSTALENESS: how old what this connection reads on a standby may be.
    MaxStaleness {
        /// 0: as old as it is.
        ms: u64,
    },
    /// CLIENT NO-EVICT.
    NoEvict {
        /// ON instead of OFF.
        on: bool,
    },
}

/// The kinds of connections CLIENT LIST can be narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// Ordinary clients.
    Normal,
    /// The connection to a primary.
    Master,
    /// Connections of replicas.
    Replica,
    /// Subscribers.
    PubSub,
}

pub(super) fn client(command: ClientCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Client(command)))
}

/// A name stands in the one-line-per-client output of CLIENT LIST, where a blank would forge
/// another field.
pub(super) fn is_clean(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

/// The error for a connection name that is not clean.
pub(super) const UNCLEAN_NAME: Reply =
    Reply::error("ERR Client names cannot contain spaces, newlines or special characters.");

/// Whether a connection may be named so.
pub fn clean_name(name: &[u8]) -> Result<(), Reply> {
    match is_clean(name) {
        true => Ok(()),
        false => Err(UNCLEAN_NAME),
    }
}

pub(super) fn parse_id(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::Id)
}

pub(super) fn parse_getname(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::GetName)
}

pub(super) fn parse_info(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    client(ClientCommand::Info)
}

pub(super) fn parse_setname(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let name = arg(args, 2);
    if !is_clean(&name) {
        return Err(UNCLEAN_NAME);
    }
    client(ClientCommand::SetName { name })
}

pub(super) fn parse_setinfo(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (option, value) = (arg(args, 2), arg(args, 3));
    let is_name = is_option(&option, "LIB-NAME");
    if !is_name && !is_option(&option, "LIB-VER") {
        let option = printable(&option, 128);
        return Err(Reply::Error(
            format!("ERR Unrecognized option '{option}'").into(),
        ));
    }
    if !is_clean(&value) {
        let field = if is_name { "lib-name" } else { "lib-ver" };
        let text = format!("ERR {field} cannot contain spaces, newlines or special characters.");
        return Err(Reply::Error(text.into()));
    }
    client(if is_name {
        ClientCommand::SetLibraryName { name: value }
    } else {
        ClientCommand::SetLibraryVersion { version: value }
    })
}

pub(super) fn parse_no_evict(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mode = arg(args, 2);
    let on = is_option(&mode, "ON");
    if !on && !is_option(&mode, "OFF") {
        return Err(SYNTAX_ERROR);
    }
    client(ClientCommand::NoEvict { on })
}

pub(super) fn parse_list(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let (kind, ids) = match args.get(2..).unwrap_or_default() {
        [] => (None, Vec::new()),
        [option, kind] if is_option(option, "TYPE") => (Some(parse_kind(kind)?), Vec::new()),
        [option, ids @ ..] if is_option(option, "ID") && !ids.is_empty() => {
            let parsed = ids.iter().map(|id| {
                let id = parse_integer(id).and_then(|id| u64::try_from(id).ok());
                id.filter(|id| *id > 0)
                    .ok_or(Reply::error("ERR Invalid client ID"))
            });
            (None, parsed.collect::<Result<_, _>>()?)
        }
        _ => return Err(SYNTAX_ERROR),
    };
    client(ClientCommand::List { kind, ids })
}

pub(super) fn parse_kind(name: &[u8]) -> Result<ClientKind, Reply> {
    if is_option(name, "normal") {
        Ok(ClientKind::Normal)
    } else if is_option(name, "master") {
        Ok(ClientKind::Master)
    } else if is_option(name, "slave") || is_option(name, "replica") {
        Ok(ClientKind::Replica)
    } else if is_option(name, "pubsub") {
        Ok(ClientKind::PubSub)
    } else {
        let name = printable(name, 128);
        Err(Reply::Error(
            format!("ERR Unknown client type '{name}'").into(),
        ))
    }
}
