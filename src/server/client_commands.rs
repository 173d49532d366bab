//! CLIENT: what a connection says of itself, asks about others, and does to them.

use std::time::Duration;

use bytes::Bytes;

use super::clients::Unblocked;
use super::session::{After, Session};
use super::session_commands::bulk;
use crate::command::{ClientCommand, ClientFilter};
use crate::node::RequestId;
use crate::resp::Reply;

/// The one reply to a CLIENT subcommand.
pub(super) fn reply_to(session: &mut Session<'_>, command: ClientCommand) -> Reply {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let server = session.server;
    let client = &session.client;
    match command {
        ClientCommand::Id => return Reply::Integer(client.id as i64),
        ClientCommand::GetName => {
            let name = client.facts().name.clone();
            return if name.is_empty() {
                Reply::Null
            } else {
                bulk(name)
            };
        }
        ClientCommand::SetName { name } => client.facts().name = text(&name),
        ClientCommand::SetLibraryName { name } => client.facts().library.0 = text(&name),
        ClientCommand::SetLibraryVersion { version } => {
            client.facts().library.1 = text(&version);
        }
        ClientCommand::Info => return Reply::Verbatim(*b"txt", Bytes::from(client.line())),
        ClientCommand::List { kind, ids } => {
            let lines: String = server
                .clients
                .all()
                .iter()
                .filter(|client| ids.is_empty() || ids.contains(&client.id))
                .filter(|client| kind.is_none_or(|kind| client.kind() == kind))
                .map(|client| client.line())
                .collect();
            return Reply::Verbatim(*b"txt", Bytes::from(lines));
        }
        ClientCommand::NoEvict { on } => client.facts().no_evict = on,
        ClientCommand::NoTouch { on } => {
            client.facts().no_touch = on;
            session.no_touch = on;
        }
        ClientCommand::Pause { timeout_ms, all } => {
            server.pause.begin(Duration::from_millis(timeout_ms), all);
        }
        ClientCommand::Unpause => server.pause.end(),
        ClientCommand::Unblock { id, with_error } => {
            let how = match with_error {
                true => Unblocked::Error,
                false => Unblocked::Timeout,
            };
            let other = server.clients.find(id);
            let done = other.is_some_and(|other| other.unblock.ask(how));
            return Reply::Integer(i64::from(done));
        }
        ClientCommand::Durability(command) => return session.set_durability(command),
        ClientCommand::RequestId { token, done } => {
            session.request = Some(RequestId { token, done });
        }
        ClientCommand::LastLsn => return Reply::Integer(session.last_write.0 as i64),
        ClientCommand::MaxStaleness { ms } => {
            session.max_staleness = (ms > 0).then(|| Duration::from_millis(ms));
        }
        ClientCommand::TrackingOff => {}
        ClientCommand::GetRedirection => return Reply::Integer(-1),
        ClientCommand::TrackingInfo => {
            return Reply::Map(vec![
                (Reply::text("flags"), Reply::Set(vec![Reply::text("off")])),
                (Reply::text("redirect"), Reply::Integer(-1)),
                (Reply::text("prefixes"), Reply::Array(Vec::new())),
            ]);
        }
        // In a transaction: the connection goes when EXEC is answered.
        ClientCommand::Kill(filter) => return count_killed(session, &filter).0,
        ClientCommand::Reply(mode) => session.replies = mode,
    }
    Reply::OK
}

/// CLIENT KILL.
pub(super) fn kill(session: &mut Session<'_>, filter: &ClientFilter) -> After {
    let (reply, own) = count_killed(session, filter);
    session.answer(&reply);
    if own { After::Close } else { After::GoOn }
}

/// Ends the others that are meant; whether this connection is, too.
fn count_killed(session: &Session<'_>, filter: &ClientFilter) -> (Reply, bool) {
    let users = &session.server.acl;
    if let Some(user) = filter
        .user
        .as_ref()
        .filter(|user| users.user(user).is_none())
    {
        let text = format!("ERR No such user '{}'", String::from_utf8_lossy(user));
        return (Reply::Error(text.into()), false);
    }
    let own = session.client.id;
    let mut meant = session.server.clients.all();
    meant.retain(|client| client.is_meant(filter, own));
    for client in meant.iter().filter(|client| client.id != own) {
        client.end.cancel();
    }
    let reply = match (filter.is_old, meant.is_empty()) {
        (false, _) => Reply::Integer(meant.len() as i64),
        (true, true) => Reply::error("ERR No such client"),
        (true, false) => Reply::OK,
    };
    (reply, meant.iter().any(|client| client.id == own))
}
