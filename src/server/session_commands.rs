//! Commands about the connection and the server.

use bytes::Bytes;

use super::pubsub::Space;
use super::session::{After, Session};
use super::transaction::NOT_HERE;
use super::{acl, client_commands, config_commands, failover, info, latency, memory, sentinel};
use crate::command::{
    ClientCommand, HelloCommand, HelloStep, ReplyMode, SessionCommand, clean_name,
};
use crate::node::Serves;
use crate::resp::{Reply, Version};

const HELLO_NEEDS_AUTH: Reply = Reply::error(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
     <user> <pass> option can be used to authenticate the client and select the RESP protocol \
     version at the same time",
);

/// Answers what is not answered by one reply, too.
pub(super) fn answer(session: &mut Session<'_>, command: SessionCommand) -> After {
    match command {
        SessionCommand::Quit => {
            session.answer(&Reply::OK);
            After::Close
        }
        SessionCommand::CrossProtocol => After::Close,
        SessionCommand::Client(ClientCommand::Reply(mode)) => {
            session.replies = mode;
            if mode == ReplyMode::On {
                session.answer(&Reply::OK);
            }
            After::GoOn
        }
        SessionCommand::Client(ClientCommand::Kill(filter)) => {
            client_commands::kill(session, &filter)
        }
        SessionCommand::Monitor => {
            if session.lines.is_none() {
                session.lines = Some(session.watch_others());
                session.client.facts().monitors = true;
            }
            session.answer(&Reply::OK);
            After::GoOn
        }
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
        SessionCommand::Auth { user, password } => session.authenticate(user, &password),
        SessionCommand::Acl(command) => acl::answer(session, command),
        SessionCommand::Select => Reply::OK,
        SessionCommand::Client(command) => client_commands::reply_to(session, command),
        SessionCommand::Command(query) => query.answer(),
        SessionCommand::Info { sections } => {
            let text = info::text(session.server, &sections);
            Reply::Verbatim(*b"txt", Bytes::from(text))
        }
        SessionCommand::Role => {
            session.takes_it_for_primary();
            info::role(session.server)
        }
        SessionCommand::Config(command) => config_commands::answer(session.server, &command),
        SessionCommand::SlowLog(command) => session.server.slowlog.answer(&command),
        SessionCommand::Latency(command) => latency::answer(session.server, &command),
        SessionCommand::Memory(command) => memory::answer(session.server, &command),
        SessionCommand::Sentinel(command) => {
            session.asks_a_sentinel();
            sentinel::answer(session.server, &command)
        }
        SessionCommand::Reset => {
            session.reset();
            Reply::Simple("RESET".into())
        }
        SessionCommand::Publish { channel, message } => {
            Reply::Integer(session.server.pubsub.publish(&channel, &message) as i64)
        }
        // In a transaction, which waits for nobody.
        SessionCommand::Wait(wait) => session.count_copies(&wait),
        SessionCommand::ReadAfter { lsn, timeout_ms } => session.read_next_after(lsn, timeout_ms),
        SessionCommand::Monitor => {
            Reply::error("ERR MONITOR isn't allowed for DENY BLOCKING client")
        }
        SessionCommand::SPublish { channel, message } => {
            let pubsub = &session.server.pubsub;
            Reply::Integer(pubsub.publish_in_shard(&channel, &message) as i64)
        }
        SessionCommand::PubSub(query) => session.server.pubsub.answer(&query),
        SessionCommand::Failover(command) => failover::answer(session.server, &command),
        SessionCommand::Fixed(reply) => reply,
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

fn subscribe(session: &mut Session<'_>, space: Space, add: bool, names: Vec<Bytes>) -> After {
    let server = session.server;
    let answers = if add {
        let news = |name: &Bytes| match space {
            Space::Shard => false,
            space => sentinel::is_news(name, space == Space::Patterns),
        };
        if names.iter().all(news) {
            session.asks_a_sentinel();
        } else {
            session.takes_it_for_primary();
        }
        session.subscriptions.add(&server.pubsub, space, names)
    } else {
        session.subscriptions.remove(&server.pubsub, space, names)
    };
    for answer in answers {
        session.push(&answer);
    }
    let mut facts = session.client.facts();
    facts.subscriptions = session.subscriptions.counts();
    facts.shard_subscriptions = session.subscriptions.in_shard();
    drop(facts);
    After::GoOn
}

fn hello_reply(session: &mut Session<'_>, hello: HelloCommand) -> Reply {
    for step in &hello.steps {
        let done = match step {
            HelloStep::Auth { user, password } => session.log_in(user, password, b"hello"),
            HelloStep::SetName(name) => clean_name(name).map(|()| session.set_name(name)),
            HelloStep::Unknown(option) => Err(HelloStep::unknown(option)),
        };
        if let Err(reply) = done {
            return reply;
        }
    }
    if !session.is_authenticated() {
        return HELLO_NEEDS_AUTH;
    }
    if let Some(version) = hello.version {
        session.version = version;
    }
    let resp = if session.version == Version::Resp3 {
        3
    } else {
        2
    };
    session.client.facts().resp = resp;
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
        (Reply::text("id"), Reply::Integer(session.client.id as i64)),
        (Reply::text("mode"), Reply::text(mode)),
        (Reply::text("role"), Reply::text(role)),
        (Reply::text("modules"), Reply::Array(Vec::new())),
    ])
}

impl Session<'_> {
    fn set_name(&self, name: &Bytes) {
        self.client.facts().name = String::from_utf8_lossy(name).into_owned();
    }
}

/// This connection, as CLIENT LIST has it.
pub(super) fn own_line(session: &Session<'_>) -> String {
    session.client.line().trim_end().to_string()
}
