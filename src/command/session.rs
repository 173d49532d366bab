//! Commands about the connection, the node and the cluster. Parsed here into plain data; the
//! server answers them.

use std::time::Duration;

use bytes::Bytes;

use super::args::{arg, database, is_option, printable, wrong_arity};
use super::client::clean_name;
use super::{
    AclCommand, ClientCommand, Command, CommandQuery, CommandSpec, ConfigCommand, FailoverCommand,
    LatencyCommand, MemoryCommand, PubSubQuery, SentinelCommand, SlowLogCommand,
    TransactionCommand, WaitCommand, parse_integer,
};
use crate::resp::{Reply, Version};

/// A command that the server answers.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionCommand {
    /// PING.
    Ping {
        /// What to send back instead of PONG.
        message: Option<Bytes>,
    },
    /// ECHO.
    Echo {
        /// What to send back.
        message: Bytes,
    },
    /// HELLO.
    Hello(HelloCommand),
    /// AUTH.
    Auth {
        /// The user; none means `default`.
        user: Option<Bytes>,
        /// The password.
        password: Bytes,
    },
    /// SELECT 0. There is one database, so any other is refused when parsed.
    Select,
    /// ACL and a subcommand.
    Acl(AclCommand),
    /// CLIENT and a subcommand.
    Client(ClientCommand),
    /// COMMAND and its subcommands; [`CommandQuery::answer`] answers it.
    Command(CommandQuery),
    /// INFO.
    Info {
        /// Names of sections, lower-case; empty: the default ones.
        sections: Vec<String>,
    },
    /// ROLE.
    Role,
    /// CONFIG and a subcommand.
    Config(ConfigCommand),
    /// SLOWLOG and a subcommand.
    SlowLog(SlowLogCommand),
    /// LATENCY and a subcommand.
    Latency(LatencyCommand),
    /// MEMORY and a subcommand about the server.
    Memory(MemoryCommand),
    /// SENTINEL and a subcommand.
    Sentinel(SentinelCommand),
    /// QUIT.
    Quit,
    /// RESET.
    Reset,
    /// SUBSCRIBE.
    Subscribe {
        /// At least one channel.
        channels: Vec<Bytes>,
    },
    /// PSUBSCRIBE.
    PSubscribe {
        /// At least one glob pattern.
        patterns: Vec<Bytes>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// Channels; empty: all.
        channels: Vec<Bytes>,
    },
    /// PUNSUBSCRIBE.
    PUnsubscribe {
        /// Patterns; empty: all.
        patterns: Vec<Bytes>,
    },
    /// SSUBSCRIBE.
    SSubscribe {
        /// At least one channel of the shard, which is this node.
        channels: Vec<Bytes>,
    },
    /// SUNSUBSCRIBE.
    SUnsubscribe {
        /// Channels of the shard; empty: all.
        channels: Vec<Bytes>,
    },
    /// SPUBLISH.
    SPublish {
        /// The channel of the shard.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// PUBSUB and a subcommand.
    PubSub(PubSubQuery),
    /// FAILOVER.
    Failover(FailoverCommand),
    /// SHUTDOWN: this node ends, as when it is sent SIGTERM.
    Shutdown,
    /// DEBUG SLEEP.
    Sleep {
        /// How long this connection executes nothing.
        span: Duration,
    },
    /// What is answered the same whatever there is, such as HELP.
    Fixed(Reply),
    /// PUBLISH.
    Publish {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// WAIT and WAITAOF.
    Wait(WaitCommand),
    /// READAFTER: the next read here waits until this record is visible.
    ReadAfter {
        /// The record.
        lsn: u64,
        /// How long to wait, in milliseconds; 0: without end.
        timeout_ms: u64,
    },
    /// MONITOR.
    Monitor,
    /// MULTI and what belongs to it.
    Transaction(TransactionCommand),
    /// TIME.
    Time,
    /// An HTTP request on the client port: close the connection without an answer.
    CrossProtocol,
}

/// HELLO's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloCommand {
    /// The version to switch to; none: stay.
    pub version: Option<Version>,
    /// Carried out one by one, as Redis does: what stands before a mistake has happened.
    pub steps: Vec<HelloStep>,
}

/// One of HELLO's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloStep {
    /// AUTH.
    Auth {
        /// The user.
        user: Bytes,
        /// The password.
        password: Bytes,
    },
    /// SETNAME; whether the name may be one is found when it is set.
    SetName(Bytes),
    /// There is no such option. The last step.
    Unknown(Bytes),
}

impl HelloStep {
    /// What is wrong with an option that is none.
    pub fn unknown(option: &[u8]) -> Reply {
        let option = printable(option, option.len());
        Reply::Error(format!("ERR Syntax error in HELLO option '{option}'").into())
    }
}

fn session(command: SessionCommand) -> Result<Command, Reply> {
    Ok(Command::Session(command))
}

pub(super) fn parse_ping(spec: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    if args.len() > 2 {
        return Err(wrong_arity(spec.name));
    }
    session(SessionCommand::Ping {
        message: args.get(1).cloned(),
    })
}

pub(super) fn parse_echo(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Echo {
        message: arg(args, 1),
    })
}

pub(super) fn parse_hello(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let mut hello = HelloCommand::default();
    if let Some(version) = args.get(1) {
        hello.version = Some(match parse_integer(version) {
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => return Err(Reply::error("NOPROTO unsupported protocol version")),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(Reply::error(text));
            }
        });
    }
    let mut options = args.get(2..).unwrap_or_default();
    while let [option, tail @ ..] = options {
        let (step, tail) = match tail {
            [user, password, tail @ ..] if is_option(option, "AUTH") => {
                let (user, password) = (user.clone(), password.clone());
                (HelloStep::Auth { user, password }, tail)
            }
            [name, tail @ ..] if is_option(option, "SETNAME") => {
                if hello.steps.is_empty() {
                    clean_name(name)?;
                }
                (HelloStep::SetName(name.clone()), tail)
            }
            // Nothing has happened before it.
            _ if hello.steps.is_empty() => return Err(HelloStep::unknown(option)),
            _ => (HelloStep::Unknown(option.clone()), &[][..]),
        };
        hello.steps.push(step);
        options = tail;
    }
    session(SessionCommand::Hello(hello))
}

pub(super) fn parse_auth(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    match args {
        [_, password] => session(SessionCommand::Auth {
            user: None,
            password: password.clone(),
        }),
        [_, user, password] => {
            let user = Some(user.clone());
            session(SessionCommand::Auth {
                user,
                password: password.clone(),
            })
        }
        _ => Err(super::args::SYNTAX_ERROR),
    }
}

pub(super) fn parse_select(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    database(args, 1)?;
    session(SessionCommand::Select)
}

pub(super) fn parse_info(_: &'static CommandSpec, args: &[Bytes]) -> Result<Command, Reply> {
    let names = args.iter().skip(1);
    let sections = names
        .map(|name| printable(name, 64).to_ascii_lowercase())
        .collect();
    session(SessionCommand::Info { sections })
}

pub(super) fn parse_role(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Role)
}

pub(super) fn parse_quit(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Quit)
}

pub(super) fn parse_reset(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Reset)
}

pub(super) fn parse_time(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Time)
}

pub(super) fn parse_monitor(_: &'static CommandSpec, _: &[Bytes]) -> Result<Command, Reply> {
    session(SessionCommand::Monitor)
}
