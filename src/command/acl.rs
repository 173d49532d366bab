//! ACL: who may do what. Parsed here; the server knows the users.

use bytes::Bytes;

use super::args::{arg, is_option, rest, wrong_subcommand};
use super::{Command, CommandSpec, SessionCommand, parse_integer};
use crate::resp::Reply;

/// Most bits of a password that ACL GENPASS makes.
const MOST_PASSWORD_BITS: i64 = 4096;

/// An ACL subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AclCommand {
    /// ACL CAT: the categories, or the commands of one.
    Cat {
        /// Which one.
        category: Option<Bytes>,
    },
    /// ACL DELUSER.
    DelUser {
        /// At least one.
        names: Vec<Bytes>,
    },
    /// ACL DRYRUN.
    DryRun {
        /// Whose permissions.
        user: Bytes,
        /// A whole request.
        request: Vec<Bytes>,
    },
    /// ACL GENPASS.
    GenPass {
        /// Hexadecimal digits.
        digits: usize,
    },
    /// ACL GETUSER.
    GetUser {
        /// Whom.
        name: Bytes,
    },
    /// ACL LIST.
    List,
    /// ACL LOAD.
    Load,
    /// ACL LOG.
    Log {
        /// Entries at most.
        most: usize,
    },
    /// ACL LOG RESET.
    ResetLog,
    /// ACL SAVE.
    Save,
    /// ACL SETUSER.
    SetUser {
        /// Whom.
        name: Bytes,
        /// In this order.
        rules: Vec<Bytes>,
    },
    /// ACL USERS.
    Users,
    /// ACL WHOAMI.
    WhoAmI,
}

impl AclCommand {
    /// Whether it may change what this or another connection may do.
    pub fn changes_users(&self) -> bool {
        matches!(
            self,
            AclCommand::SetUser { .. } | AclCommand::DelUser { .. } | AclCommand::Load
        )
    }
}

fn acl(command: AclCommand) -> Result<Command, Reply> {
    Ok(Command::Session(SessionCommand::Acl(command)))
}

pub(super) fn parse_cat(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args {
        [_, _] => acl(AclCommand::Cat { category: None }),
        [_, _, category] => acl(AclCommand::Cat {
            category: Some(category.clone()),
        }),
        _ => Err(wrong_subcommand(args)),
    }
}

pub(super) fn parse_deluser(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::DelUser {
        names: rest(args, 2),
    })
}

pub(super) fn parse_dryrun(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::DryRun {
        user: arg(args, 2),
        request: rest(args, 3),
    })
}

pub(super) fn parse_genpass(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let bits = match args {
        [_, _] => 256,
        [_, _, bits] => parse_integer(bits).ok_or(super::args::NOT_AN_INTEGER)?,
        _ => return Err(wrong_subcommand(args)),
    };
    if !(1..=MOST_PASSWORD_BITS).contains(&bits) {
        return Err(Reply::error(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    acl(AclCommand::GenPass {
        digits: (bits as usize).div_ceil(4),
    })
}

pub(super) fn parse_getuser(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::GetUser { name: arg(args, 2) })
}

pub(super) fn parse_list(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::List)
}

pub(super) fn parse_load(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::Load)
}

pub(super) fn parse_log(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args {
        [_, _] => acl(AclCommand::Log { most: 10 }),
        [_, _, word] if is_option(word, "RESET") => acl(AclCommand::ResetLog),
        [_, _, most] => {
            let most = parse_integer(most).ok_or(super::args::NOT_AN_INTEGER)?;
            acl(AclCommand::Log {
                most: usize::try_from(most).unwrap_or(0),
            })
        }
        _ => Err(wrong_subcommand(args)),
    }
}

pub(super) fn parse_save(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::Save)
}

pub(super) fn parse_setuser(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::SetUser {
        name: arg(args, 2),
        rules: rest(args, 3),
    })
}

pub(super) fn parse_users(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::Users)
}

pub(super) fn parse_whoami(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    acl(AclCommand::WhoAmI)
}
