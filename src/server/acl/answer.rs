//! ACL's answers.

use std::sync::Arc;

use bytes::Bytes;

use super::Acl;
use super::catalogue::{CATEGORIES, catalogue, category};
use super::permission::Denied;
use super::rule::{has_blanks, merge};
use super::selector::Selector;
use super::user::User;
use super::{DEFAULT, file, read_users};
use crate::command::{AclCommand, NoRow, row_of};
use crate::resp::Reply;
use crate::server::session::Session;
use crate::wal::replace;

const NO_FILE: Reply = Reply::error(
    "ERR This node is not configured to use an ACL file. You may want to say auth.acl_file in its \
     configuration, and then issue ACL SAVE in order to keep the users that ACL SETUSER made.",
);

/// The one reply to an ACL command.
pub(in crate::server) fn answer(session: &mut Session<'_>, command: AclCommand) -> Reply {
    let server = session.server;
    let acl = &server.acl;
    match command {
        AclCommand::Cat { category: None } => {
            Reply::Array(CATEGORIES.iter().map(|name| Reply::text(name)).collect())
        }
        AclCommand::Cat {
            category: Some(name),
        } => commands_of(&name),
        AclCommand::DelUser { names } => {
            let (reply, gone) = acl.delete(&names);
            server.clients.end_users(&gone, session.client.id);
            session.look_at_own_user();
            reply
        }
        AclCommand::DryRun { user, request } => acl.dry_run(&user, &request),
        AclCommand::GenPass { digits } => generate(digits, || server.node.host.draw()),
        AclCommand::GetUser { name } => acl.user(&name).map_or(Reply::Null, |user| details(&user)),
        AclCommand::List => {
            let users = acl.users();
            Reply::Array(
                users
                    .values()
                    .map(|user| Reply::bulk(&file::line(user)))
                    .collect(),
            )
        }
        AclCommand::Load => {
            let host = &server.node.host;
            let (reply, gone) = host.blocking(|| acl.load(&*host.disk()));
            server.clients.end_users(&gone, session.client.id);
            server.pubsub.recheck();
            session.look_at_own_user();
            reply
        }
        AclCommand::Log { most } => acl.log().answer(most, server.node.host.wall()),
        AclCommand::ResetLog => {
            acl.log().clear();
            Reply::OK
        }
        AclCommand::Save => {
            let host = &server.node.host;
            host.blocking(|| acl.save(&*host.disk()))
        }
        AclCommand::SetUser { name, rules } => {
            let reply = acl.set_user(&name, &rules);
            server.pubsub.recheck();
            session.look_at_own_user();
            reply
        }
        AclCommand::Users => {
            let users = acl.users();
            Reply::Array(users.keys().cloned().map(Reply::Bulk).collect())
        }
        AclCommand::WhoAmI => Reply::Bulk(session.user_name()),
    }
}

fn error(text: String) -> Reply {
    Reply::Error(text.into())
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    // As C prints it.
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or(bytes))
}

impl Acl {
    /// All rules or none.
    fn set_user(&self, name: &Bytes, rules: &[Bytes]) -> Reply {
        if has_blanks(name) {
            return Reply::error("ERR Usernames can't contain spaces or null characters");
        }
        let rules = match merge(rules) {
            Ok(rules) => rules,
            Err(open) => {
                let open = shown(&open);
                return error(format!(
                    "ERR Unmatched parenthesis in acl selector starting at '{open}'."
                ));
            }
        };
        let mut users = self.users();
        // Copied: it is kept for longer than the request that it is a part of.
        let new = || User::new(Bytes::copy_from_slice(name));
        let mut user = users.get(name).map_or_else(new, |user| User::clone(user));
        for rule in &rules {
            if let Err(wrong) = user.apply(rule) {
                let rule = shown(rule);
                return error(format!(
                    "ERR Error in ACL SETUSER modifier '{rule}': {wrong}"
                ));
            }
        }
        users.insert(user.name.clone(), Arc::new(user));
        drop(users);
        self.changed();
        Reply::OK
    }

    /// The answer, and who is gone.
    fn delete(&self, names: &[Bytes]) -> (Reply, Vec<Bytes>) {
        if names.iter().any(|name| name == DEFAULT) {
            let reply = Reply::error("ERR The 'default' user cannot be removed");
            return (reply, Vec::new());
        }
        let mut users = self.users();
        let gone = names.iter().filter(|name| users.remove(*name).is_some());
        let gone: Vec<Bytes> = gone.cloned().collect();
        drop(users);
        self.changed();
        (Reply::Integer(gone.len() as i64), gone)
    }

    /// Reads the file, and takes all of it or nothing. The answer, and who is gone.
    fn load(&self, disk: &dyn crate::wal::Disk) -> (Reply, Vec<Bytes>) {
        let Some(path) = &self.file else {
            return (NO_FILE, Vec::new());
        };
        let new = match read_users(path, disk) {
            Ok(users) => users,
            Err(super::AclFileError::Wrong(errors)) => {
                return (error(format!("ERR {errors}")), Vec::new());
            }
            Err(super::AclFileError::Unreadable { source, .. }) => {
                let path = path.display();
                let text = format!("ERR Error loading ACLs, opening file '{path}': {source}");
                return (error(text), Vec::new());
            }
        };
        let old = std::mem::replace(&mut *self.users(), new.clone());
        self.changed();
        let gone = old.into_keys().filter(|name| !new.contains_key(name));
        (Reply::OK, gone.collect())
    }

    fn save(&self, disk: &dyn crate::wal::Disk) -> Reply {
        let Some(path) = &self.file else {
            return NO_FILE;
        };
        let text = file::text(&self.users());
        match replace(disk, path, &text) {
            Ok(()) => Reply::OK,
            Err(failed) => {
                tracing::warn!("ACL SAVE: {}: {failed}", path.display());
                Reply::error(
                    "ERR There was an error trying to save the ACLs. Please check the server logs \
                     for more information",
                )
            }
        }
    }

    fn dry_run(&self, name: &[u8], request: &[Bytes]) -> Reply {
        let Some(user) = self.user(name) else {
            return error(format!("ERR User '{}' not found", shown(name)));
        };
        let first = request.first().map_or(&b""[..], |name| name);
        let spec = match row_of(request) {
            Ok(spec) => spec,
            Err(NoRow::Unknown) => {
                return error(format!("ERR Command '{}' not found", shown(first)));
            }
            Err(NoRow::Arity(spec)) => {
                let name = spec.name;
                return error(format!(
                    "ERR wrong number of arguments for '{name}' command"
                ));
            }
        };
        let at = |place: usize| shown(request.get(place).map_or(&b""[..], |arg| arg));
        let text = match user.may(spec, request) {
            Ok(()) => return Reply::OK,
            Err(Denied::Command) => {
                format!(
                    "This user has no permissions to run the '{}' command",
                    spec.name
                )
            }
            Err(Denied::Key(place)) => {
                format!(
                    "This user has no permissions to access the '{}' key",
                    at(place)
                )
            }
            Err(Denied::Channel(place)) => {
                format!(
                    "This user has no permissions to access the '{}' channel",
                    at(place)
                )
            }
        };
        Reply::bulk(text.as_bytes())
    }
}

/// ACL CAT of one category: the commands that are here.
fn commands_of(name: &[u8]) -> Reply {
    let Some(category) = category(name) else {
        let name = shown(name.get(..128).unwrap_or(name));
        return error(format!("ERR Unknown category '{name}'"));
    };
    let members = catalogue()
        .entries()
        .filter(|(_, entry)| entry.is_in(category));
    let here = members.filter(|(_, entry)| crate::command::lookup(entry.name.as_bytes()).is_some());
    Reply::Array(here.map(|(_, entry)| Reply::text(entry.name)).collect())
}

fn generate(digits: usize, mut draw: impl FnMut() -> u64) -> Reply {
    let mut text = String::new();
    while text.len() < digits {
        text.push_str(&format!("{:016x}", draw()));
    }
    text.truncate(digits);
    Reply::bulk(text.as_bytes())
}

/// ACL GETUSER.
fn details(user: &User) -> Reply {
    let passwords = user.passwords.iter();
    let passwords = passwords.map(|digest| Reply::bulk(digest.to_hex().as_bytes()));
    let mut fields = vec![
        (
            Reply::text("flags"),
            Reply::Set(user.flags().map(Reply::text).collect()),
        ),
        (Reply::text("passwords"), Reply::Array(passwords.collect())),
    ];
    fields.extend(permissions(&user.root));
    let others = user.others.iter();
    let others = others.map(|selector| Reply::Map(permissions(selector).into()));
    fields.push((Reply::text("selectors"), Reply::Array(others.collect())));
    Reply::Map(fields)
}

fn permissions(selector: &Selector) -> [(Reply, Reply); 3] {
    [
        ("commands", selector.describe_commands().into_bytes()),
        ("keys", selector.describe_keys()),
        ("channels", selector.describe_channels()),
    ]
    .map(|(name, rules)| (Reply::text(name), Reply::bulk(&rules)))
}
