//! Commands about the connection and the server.

use bytes::Bytes;

use super::pubsub::Space;
use super::session::{After, Session};
use super::transaction::NOT_HERE;
use super::{ClientInfo, config_commands, failover, info, latency, memory, sentinel};
use crate::command::{ClientCommand, HelloCommand, SessionCommand};
use crate::node::Serves;
use crate::resp::{Reply, Version};

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the \
                           default user. Are you sure your configuration is correct?";

/// Answers what is not answered by one reply, too.
pub(super) fn answer(session: &mut Session<'_>, command: SessionCommand) -> After {
    match command {
        SessionCommand::Quit => {
            session.answer(&Reply::OK);
            After::Close
        }
        SessionCommand::CrossProtocol => After::Close,
        SessionCommand::Subscribe { channels } => {
            subscribe(session, Space::Channels, true, channels)
        }
        SessionCommand::PSubscribe { patterns } => {
            subscribe(session, Space::Patterns, true, patterns)
        }
        SessionCommand::SSubscribe { channels } => subscribe(session, Space::Shard, true, channels),
        SessionCommand::Unsubscribe { channels } => {
            subscribe(session, Space::Channels, false, channels)
        }
        SessionCommand::PUnsubscribe { patterns } => {
            subscribe(session, Space::Patterns, false, patterns)
        }
        SessionCommand::SUnsubscribe { channels } => {
            subscribe(session, Space::Shard, false, channels)
        }
        SessionCommand::Shutdown => {
            session.server.end.cancel();
            After::Close
        }
        command => {
            let reply = reply_to(session, command);
            session.answer(&reply);
            After::GoOn
        }
    }
}

/// The one reply to a command that has one.
pub(super) fn reply_to(session: &mut Session<'_>, command: SessionCommand) -> Reply {
    match command {
        SessionCommand::Ping { message } => ping(session, message),
        SessionCommand::Echo { message } => Reply::Bulk(message),
        SessionCommand::Hello(hello) => hello_reply(session, hello),
        SessionCommand::Auth { user: Some(_), .. } => {
            Reply::error("WRONGPASS invalid username-password pair or user is disabled.")
        }
        SessionCommand::Auth { user: None, .. } => Reply::error(NO_PASSWORD),
        SessionCommand::Select => Reply::OK,
        SessionCommand::Client(command) => client(session, command),
        SessionCommand::Command(query) => query.answer(),
        SessionCommand::Info { sections } => {
            let text = info::text(session.server, &sections);
            Reply::Verbatim(*b"txt", Bytes::from(text))
        }
        SessionCommand::Role => {
            session.was_told_the_role();
            info::role(session.server)
        }
        SessionCommand::Config(command) => config_commands::answer(session.server, &command),
        SessionCommand::SlowLog(command) => session.server.slowlog.answer(&command),
        SessionCommand::Latency(command) => latency::answer(session.server, &command),
        SessionCommand::Memory(command) => memory::answer(session.server, &command),
        SessionCommand::Sentinel(command) => sentinel::answer(session.server, &command),
        SessionCommand::Reset => {
            let mut subscriptions = std::mem::take(&mut session.subscriptions);
            subscriptions.clear(&session.server.pubsub);
            session.version = Version::Resp2;
            session.forget_transaction();
            Reply::Simple("RESET".into())
        }
        SessionCommand::Publish { channel, message } => {
            Reply::Integer(session.server.pubsub.publish(&channel, &message) as i64)
        }
        SessionCommand::SPublish { channel, message } => {
            let pubsub = &session.server.pubsub;
            Reply::Integer(pubsub.publish_in_shard(&channel, &message) as i64)
        }
        SessionCommand::PubSub(query) => session.server.pubsub.answer(&query),
        SessionCommand::Failover(command) => failover::answer(session.server, &command),
        SessionCommand::Fixed(reply) => reply,
        SessionCommand::Wait { .. } => copies(session),
        SessionCommand::Time => {
            let now = session.server.node.host.wall().0;
            let (seconds, micros) = (now / 1000, now % 1000 * 1000);
            Reply::Array(vec![bulk(seconds), bulk(micros)])
        }
        // UNWATCH in a transaction, which ends watching anyway.
        SessionCommand::Transaction(_) => Reply::OK,
        SessionCommand::Quit
        | SessionCommand::CrossProtocol
        | SessionCommand::Shutdown
        | SessionCommand::Sleep { .. }
        | SessionCommand::SSubscribe { .. }
        | SessionCommand::SUnsubscribe { .. }
        | SessionCommand::Subscribe { .. }
        | SessionCommand::PSubscribe { .. }
        | SessionCommand::Unsubscribe { .. }
        | SessionCommand::PUnsubscribe { .. } => NOT_HERE,
    }
}

pub(super) fn bulk(value: impl ToString) -> Reply {
    Reply::Bulk(Bytes::from(value.to_string()))
}

fn ping(session: &Session<'_>, message: Option<Bytes>) -> Reply {
    let subscribed = session.subscriptions.len() > 0 && session.version == Version::Resp2;
    match message {
        _ if subscribed => Reply::Array(vec![
            Reply::text("pong"),
            Reply::Bulk(message.unwrap_or_default()),
        ]),
        Some(message) => Reply::Bulk(message),
        None => Reply::Simple("PONG".into()),
    }
}

/// WAIT: how many standbys hold this connection's last write now. Replies are held until the
/// commit rule is met, so that in sync and semi-sync mode there is nothing to wait for beyond it.
fn copies(session: &Session<'_>) -> Reply {
    let view = session.server.node.view();
    let holds = view
        .standbys
        .iter()
        .filter(|standby| standby.received >= session.last_write);
    Reply::Integer(holds.count() as i64)
}

fn subscribe(session: &mut Session<'_>, space: Space, add: bool, names: Vec<Bytes>) -> After {
    let server = session.server;
    let answers = if add {
        session.subscriptions.add(&server.pubsub, space, names)
    } else {
        session.subscriptions.remove(&server.pubsub, space, names)
    };
    for answer in answers {
        session.answer(&answer);
    }
    let counts = session.subscriptions.counts();
    let in_shard = session.subscriptions.in_shard();
    server.update_client(session.id, |info| {
        info.subscriptions = counts;
        info.shard_subscriptions = in_shard;
    });
    After::GoOn
}

fn hello_reply(session: &mut Session<'_>, hello: HelloCommand) -> Reply {
    if hello.auth.is_some() {
        return Reply::error("WRONGPASS invalid username-password pair or user is disabled.");
    }
    if let Some(version) = hello.version {
        session.version = version;
    }
    let resp = if session.version == Version::Resp3 {
        3
    } else {
        2
    };
    let name = hello.client_name;
    session.server.update_client(session.id, |info| {
        info.resp = resp;
        if let Some(name) = &name {
            info.name = String::from_utf8_lossy(name).into_owned();
        }
    });
    let gate = session.server.node.gate_now();
    let role = match gate.serves {
        Serves::Witness => "sentinel",
        _ if gate.is_primary() => "master",
        _ => "replica",
    };
    let mode = if gate.serves == Serves::Witness {
        "sentinel"
    } else {
        "standalone"
    };
    Reply::Map(vec![
        (Reply::text("server"), Reply::text("redis")),
        (Reply::text("version"), Reply::text(info::REDIS_VERSION)),
        (Reply::text("proto"), Reply::Integer(resp.into())),
        (Reply::text("id"), Reply::Integer(session.id as i64)),
        (Reply::text("mode"), Reply::text(mode)),
        (Reply::text("role"), Reply::text(role)),
        (Reply::text("modules"), Reply::Array(Vec::new())),
    ])
}

fn client(session: &mut Session<'_>, command: ClientCommand) -> Reply {
    let server = session.server;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    match command {
        ClientCommand::Id => Reply::Integer(session.id as i64),
        ClientCommand::GetName => {
            let name = own(session).map(|info| info.name).unwrap_or_default();
            if name.is_empty() {
                Reply::Null
            } else {
                bulk(name)
            }
        }
        ClientCommand::SetName { name } => {
            server.update_client(session.id, |info| info.name = text(&name));
            Reply::OK
        }
        ClientCommand::SetLibraryName { name } => {
            server.update_client(session.id, |info| info.library.0 = text(&name));
            Reply::OK
        }
        ClientCommand::SetLibraryVersion { version } => {
            server.update_client(session.id, |info| info.library.1 = text(&version));
            Reply::OK
        }
        ClientCommand::Info => {
            let line = own(session)
                .map(|info| client_line(server, &info))
                .unwrap_or_default();
            Reply::Verbatim(*b"txt", Bytes::from(line))
        }
        ClientCommand::List { kind, ids } => {
            let lines: String = server
                .client_list()
                .iter()
                .filter(|info| ids.is_empty() || ids.contains(&info.id))
                .filter(|info| kind.is_none_or(|kind| info.kind() == kind))
                .map(|info| client_line(server, info))
                .collect();
            Reply::Verbatim(*b"txt", Bytes::from(lines))
        }
        ClientCommand::NoEvict { .. } => Reply::OK,
    }
}

fn own(session: &Session<'_>) -> Option<ClientInfo> {
    session
        .server
        .client_list()
        .into_iter()
        .find(|info| info.id == session.id)
}

impl ClientInfo {
    pub(super) fn is_subscribed(&self) -> bool {
        self.kind() == crate::command::ClientKind::PubSub
    }

    fn kind(&self) -> crate::command::ClientKind {
        match (self.subscriptions, self.shard_subscriptions) {
            ((0, 0), 0) => crate::command::ClientKind::Normal,
            _ => crate::command::ClientKind::PubSub,
        }
    }
}

fn client_line(server: &super::Server, info: &ClientInfo) -> String {
    let (channels, patterns) = info.subscriptions;
    format!(
        "id={} addr={} laddr={} fd=0 name={} age={} idle={} flags={} db=0 sub={channels} \
         psub={patterns} ssub={} multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 \
         obl=0 oll=0 omem=0 tot-mem=0 events=r cmd={} user=default redir=-1 resp={} lib-name={} \
         lib-ver={}\n",
        info.id,
        info.from,
        server.node.settings.client_addr,
        info.name,
        info.since.elapsed().as_secs(),
        info.last.elapsed().as_secs(),
        if info.is_subscribed() { "P" } else { "N" },
        info.shard_subscriptions,
        info.last_command,
        info.resp,
        info.library.0,
        info.library.1,
    )
}
