//! One connection: read (`read`), carried out (`execute`), held and answered (`answer`), turn by turn (`serve`).

mod answer;
mod execute;
mod read;
mod serve;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Server;
use super::acl::Access;
use super::clients::Client;
use super::hold::Hold;
use super::monitor::Lines;
use super::pubsub::Subscriptions;
use super::receipt::{Blocked, Durability};
use super::transaction::Transaction;
use crate::command::{Command, CommandSpec, KeyCommand, ReplyMode};
use crate::node::{Executed, Gate, Guard, Memory, Refused, RequestId, Serves, Watched};
use crate::resp::{Reply, Request, Version};
use crate::units::{Epoch, Lsn};

/// Replies, and their bytes, that may be held before the session reads no further.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 64 << 20;
/// Bytes of requests that one client may have read and not carried out, between MULTI and EXEC, too.
pub(super) const MOST_REQUEST_BYTES: usize = 1 << 30;
/// Bytes of answers behind which what was answered goes out first.
const TURN_BYTES: usize = 1 << 20;
/// Commands executed under one lock.
const MOST_BATCH: usize = 512;

pub(super) const REPAIRED: Reply =
    Reply::error("MASTERDOWN this node's keyspace is being repaired");
pub(super) const READONLY: Reply =
    Reply::error("READONLY You can't write against a read only replica.");

pub(super) const DEPOSED: Reply =
    Reply::error("MASTERDOWN this node is not the primary any more; ask who is");

/// As Redis says it.
pub(super) const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// As Redis calls a write that its configuration or its disk does not allow.
const DISK_FULL: &str = "MISCONF the disk of this node is full; nothing was written, reads go on. \
    Make room on the disk that holds data_dir (or enlarge it), and writes go on by themselves";

/// How long a connection answers after the reign that it belonged to: what is on its way then is told
/// that it was refused.
const LINGER: Duration = Duration::from_millis(100);

/// What a connection is told to do after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    GoOn,
    Close,
}

/// A request that cannot be carried out.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    /// What is answered.
    pub(super) reply: Reply,
    /// What it does to a transaction.
    pub(super) weight: Weight,
}

/// What a request that cannot be carried out does to the transaction it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// It is found when the others are carried out: the command exists, and takes so many arguments.
    Queued,
    /// It is refused, and so is EXEC.
    Aborts,
    /// It is EXEC's own.
    Ends,
}

impl Weight {
    fn of(request: &Request) -> Weight {
        let name = request.args.first();
        if Command::is_known(request) {
            Weight::Queued
        } else if name.is_some_and(|name| name.eq_ignore_ascii_case(b"exec")) {
            Weight::Ends
        } else {
            Weight::Aborts
        }
    }
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The command's row in the table, if it has one.
    pub(super) spec: Option<&'static CommandSpec>,
    pub(super) what: Result<Command, Mistake>,
}

impl Asked {
    /// The command on keys, if it is one.
    pub(super) fn keys(&self) -> Option<&KeyCommand> {
        match &self.what {
            Ok(Command::Keys(command)) => Some(command),
            _ => None,
        }
    }

    pub(super) fn is_write(&self) -> bool {
        self.keys().is_some_and(KeyCommand::is_write)
    }
}

/// Who carries out a command here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Primary,
    Standby,
}

/// Why nobody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cannot {
    /// Yet: it waits, and is answered this when it has waited too long.
    Wait(&'static str),
    /// This one.
    Refuse(&'static str),
    /// Nor those behind it.
    RefuseAll(&'static str),
    /// Yet, for a reason of its own ([`Session::blocked`]).
    Blocked,
}

impl From<Refused> for Cannot {
    fn from(refused: Refused) -> Cannot {
        match refused {
            Refused::NotPrimary => Cannot::Wait("MASTERDOWN this node's reign has ended"),
            Refused::Paused => Cannot::Wait("CLUSTERDOWN a switchover is under way"),
            Refused::Lagging => Cannot::Wait(
                "NOREPLICAS the standbys did not catch up in time, and writing more would exceed \
                 max_lag; nothing was written",
            ),
            // At once: waiting makes no room. Only this one: reads behind it are served.
            Refused::Full(_) => Cannot::Refuse(DISK_FULL),
            Refused::Closed(_) => {
                Cannot::RefuseAll("MISCONF the log's disk failed; nothing was written")
            }
        }
    }
}

/// The state of one connection.
pub(super) struct Session<'a> {
    pub(super) server: &'a Server,
    pub(super) client: Arc<Client>,
    pub(super) version: Version,
    pub(super) subscriptions: Subscriptions,
    pub(super) last_write: Lsn,
    /// The reign under which this connection was served. When it is over the connection is, too:
    /// its client would go on taking this node for the primary.
    pub(super) reign: Option<Epoch>,
    /// The reign under which it was opened: the same, unless it asks what one asks a Sentinel.
    opened_under: Option<Epoch>,
    /// That reign is over: until when the connection still answers.
    pub(super) lame_until: Option<Instant>,
    pub(super) todo: VecDeque<Asked>,
    /// Since MULTI.
    pub(super) transaction: Option<Transaction>,
    /// Since WATCH.
    pub(super) watched: Option<Watched>,
    /// What the command at the front waits for, where only other nodes can give it.
    pub(super) blocked: Option<Blocked>,
    /// Since CLIENT DURABILITY.
    pub(super) durability: Option<Durability>,
    /// CLIENT NO-TOUCH: reads are no uses of keys.
    pub(super) no_touch: bool,
    /// Since CLIENT MAXSTALENESS.
    pub(super) max_staleness: Option<Duration>,
    /// Since READAFTER.
    pub(super) read_after: Option<(Lsn, Duration)>,
    /// Since CLIENT REQUESTID, until the next write or EXEC.
    pub(super) request: Option<RequestId>,
    /// Since MONITOR.
    pub(super) lines: Option<Lines>,
    /// CLIENT REPLY.
    pub(super) replies: ReplyMode,
    /// CLIENT PAUSE of all clients: until when.
    paused_until: Option<Instant>,
    /// Who the client is, and what it may do.
    pub(super) access: Access,
    /// Empty between batches; its memory is used again.
    done: Vec<Executed>,
    /// Commands to give to the store at a time. What it leaves for another turn, because answers are
    /// long, it has looked at in vain: a pipeline of GETs of large values was looked at 512 times over.
    batch: usize,
    /// More whole requests may be in the read buffer.
    unparsed: bool,
    hold: Hold,
    /// Since when the command at the front cannot be executed.
    blocked_since: Option<Instant>,
    /// Another node's answer to the command that was executed last: nothing is executed before.
    awaited: Option<oneshot::Receiver<Reply>>,
    /// DEBUG SLEEP stands at the front until then.
    asleep_until: Option<Instant>,
    /// Bytes of requests that were read and not carried out.
    asked_bytes: usize,
    /// Errors answered so far.
    errors: u64,
    /// More answers wait than may: the connection ends.
    drowned: bool,
    /// Commands wait until answers have gone out.
    stuffed: bool,
    closing: bool,
}

pub(super) async fn run<S>(
    server: &Server,
    client: Arc<Client>,
    mut stream: S,
    access: Access,
    full: bool,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if full {
        let _ = stream.write_all(FULL).await;
        return;
    }
    let end = client.end.clone();
    let gate = server.node.gate_now();
    let mut session = Session {
        server,
        subscriptions: Subscriptions::new(client.id, client.end.clone()),
        client,
        version: Version::Resp2,
        last_write: Lsn::ZERO,
        reign: None,
        opened_under: gate.is_primary().then_some(gate.epoch),
        lame_until: None,
        todo: VecDeque::new(),
        transaction: None,
        watched: None,
        blocked: None,
        durability: None,
        max_staleness: None,
        read_after: None,
        no_touch: false,
        request: None,
        lines: None,
        replies: ReplyMode::On,
        paused_until: None,
        access,
        done: Vec::new(),
        batch: MOST_BATCH,
        unparsed: false,
        hold: Hold::default(),
        blocked_since: None,
        awaited: None,
        asleep_until: None,
        asked_bytes: 0,
        errors: 0,
        drowned: false,
        stuffed: false,
        closing: false,
    };
    tokio::select! {
        // An error here is a client that went away.
        _ = session.serve(&mut stream) => {}
        () = end.cancelled() => {}
    }
    session.subscriptions.clear(&server.pubsub);
    session.stop_monitoring();
}

impl Session<'_> {
    /// What is carried out next.
    pub(super) fn front(&self) -> Option<&Result<Command, Mistake>> {
        self.todo.front().map(|asked| &asked.what)
    }

    fn take_front(&mut self) -> Option<Result<Command, Mistake>> {
        self.todo.pop_front().map(|asked| asked.what)
    }

    /// Nothing more is read; what was answered still goes out.
    pub(super) fn close_after_replies(&mut self) {
        self.todo.clear();
        self.closing = true;
    }

    /// What waits to be executed, and what still comes, is refused, so that the client asks again
    /// who the primary is. The connection is closed a moment later and not at once, so that most of
    /// what is on its way is answered, too. One that has asked nothing yet is closed as well, as
    /// Sentinel has it done: a client's pool keeps such connections, and would be told READONLY by each
    /// of them, or read what is old.
    fn end_with_reign(&mut self) {
        let gate = self.server.node.gate_now();
        let over = |reign: Epoch| !gate.is_primary() || gate.epoch != reign;
        if self.reign.or(self.opened_under).is_some_and(over) {
            (self.reign, self.opened_under) = (None, None);
            self.lame_until = Some(Instant::now() + LINGER);
            self.blocked_since = None;
        }
        if self.lame_until.is_some_and(|until| until <= Instant::now()) {
            self.closing = true;
        }
    }

    /// It asks what one asks a Sentinel: who is primary, and to be told when that changes. It goes on
    /// when a reign ends, or nobody would be told.
    pub(super) fn asks_a_sentinel(&mut self) {
        self.opened_under = None;
    }

    /// A client that was told that this node is the primary, or listens here to what others publish,
    /// goes by it until it hears otherwise: its connection ends with the reign, too. (It might read
    /// here what the next reign has changed, and would wait here for what is published there.)
    pub(super) fn takes_it_for_primary(&mut self) {
        let gate = self.server.node.gate_now();
        if gate.is_primary() {
            self.reign = Some(gate.epoch);
        }
    }

    /// RESP2 cannot tell a message from an answer, so a subscriber may do little else.
    fn only_subscriptions(&self) -> bool {
        self.version == Version::Resp2 && self.subscriptions.len() > 0
    }

    /// Who carries out what is asked here.
    pub(super) fn way(&self, gate: &Gate) -> Result<Way, Cannot> {
        match gate.serves {
            Serves::Primary | Serves::PausedPrimary => {
                let node = &self.server.node;
                if node.host.boot_time() >= gate.lease_until && node.settings.keeps(Guard::R18) {
                    return Err(Cannot::Wait(
                        "CLUSTERDOWN no majority of voters renews this primary's lease",
                    ));
                }
                Ok(Way::Primary)
            }
            Serves::YoungPrimary => {
                Err(Cannot::Wait("CLUSTERDOWN this node's reign has not begun"))
            }
            Serves::Standby => Ok(Way::Standby),
            Serves::Unsure if gate.primary.is_none() && !gate.suspected => {
                // Just started; most likely a primary is about to be known.
                Err(Cannot::Wait("MASTERDOWN this node knows of no primary yet"))
            }
            Serves::Unsure => Err(Cannot::RefuseAll(
                "MASTERDOWN this node is not up to date with a primary",
            )),
            Serves::Witness => Err(Cannot::RefuseAll(
                "MASTERDOWN this node is a witness and holds no keys; SENTINEL \
                 GET-MASTER-ADDR-BY-NAME tells the primary",
            )),
        }
    }

    /// What is remembered of requests with ids.
    pub(super) fn memory(&self) -> Memory {
        let settings = &self.server.node.settings;
        Memory {
            span: settings.remember_requests,
            most: settings.max_remembered_requests,
        }
    }

    /// RESET: as if it had just connected.
    pub(super) fn reset(&mut self) {
        self.subscriptions.clear(&self.server.pubsub);
        self.version = Version::Resp2;
        self.forget_transaction();
        self.stop_monitoring();
        self.log_out();
        self.replies = ReplyMode::On;
        self.durability = None;
        self.max_staleness = None;
        self.read_after = None;
        self.no_touch = false;
        self.request = None;
        self.client.forget();
    }

    /// MONITOR.
    pub(super) fn watch_others(&self) -> Lines {
        let client = &self.client;
        self.server.monitors.watch(client.id, client.end.clone())
    }

    pub(super) fn stop_monitoring(&mut self) {
        if self.lines.take().is_some() {
            self.server.monitors.leave(self.client.id);
        }
    }
}
