//! One connection: read, parse, execute, hold, answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Server;
use super::acl::Access;
use super::client_memory::FREE_BYTES;
use super::clients::Client;
use super::counts;
use super::hold::Hold;
use super::mailbox::Mailbox;
use super::monitor::Lines;
use super::pubsub::{Message, Subscriptions};
use super::receipt::{Blocked, Durability, Need};
use super::sentinel::{self, Ordered};
use super::session_commands;
use super::slowlog;
use super::transaction::Transaction;
use crate::command::{
    ClientCommand, Command, CommandSpec, KeyCommand, ReplyMode, SentinelCommand, SessionCommand,
    TransactionCommand, find_spec,
};
use crate::keyspace::is_reserved;
use crate::node::{
    Copies, Executed, Gate, Guard, LatencyEvent, Memory, Node, Once, Refused, RequestId, Serves,
    Stats, Watched,
};
use crate::resp::{Limits, MOST_REPLY_BYTES, Reply, Request, RequestParser, Version};
use crate::units::{Epoch, Lsn, Micros};

/// Commands read ahead of execution: a turn. Between two of them others are served.
const MAX_TODO: usize = 512;
/// Replies, and their bytes, that may be held before the session reads no further.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 64 << 20;
/// Bytes of requests that one client may have read and not carried out, between MULTI and EXEC, too.
pub(super) const MOST_REQUEST_BYTES: usize = 1 << 30;
/// A read buffer that grew beyond this is given back once it is empty.
const LARGE_BUFFER: usize = 1 << 20;
/// Of a request and of an argument, besides its own bytes.
const REQUEST_BYTES: usize = 128;
const ARGUMENT_BYTES: usize = 32;
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

const RESERVED: Reply =
    Reply::error("ERR keys that begin with \\xff\\xffunderstudy: are the server's own");

/// As Redis says it.
pub(super) const FULL: &[u8] = b"-ERR max number of clients reached\r\n";

/// As Redis calls a write that its configuration or its disk does not allow.
const DISK_FULL: &str = "MISCONF the disk of this node is full; nothing was written, reads go on. \
    Make room on the disk that holds data_dir (or enlarge it), and writes go on by themselves";

/// How long a connection answers after the reign that it belonged to: what is on its way then is told
/// that it was refused.
const LINGER: Duration = Duration::from_millis(100);

/// How long it is kept open after that for the client to read the answers.
const GRACE: Duration = Duration::from_secs(1);

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
    pub(super) todo: VecDeque<Result<Command, Mistake>>,
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

/// Whether a key is one of those that a node keeps for itself.
fn names_reserved(request: &Request, command: &KeyCommand) -> bool {
    // Next to no argument begins so, which is known without a look at each.
    let may_be = request.args.iter().any(|arg| arg.first() == Some(&0xff));
    may_be && command.keys().any(is_reserved)
}

/// Writes all of it; each part that the client takes shows that it is there.
async fn send<S>(stream: &mut S, client: &Client, mut out: &[u8]) -> std::io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    while !out.is_empty() {
        let written = stream.write(out).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        client.activity.moves(written);
        out = out.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// What a session waits for besides its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Record(Epoch, Lsn),
    Copies(Epoch, Lsn, Copies),
    Gate,
}

async fn passed(node: &Node, gate: &mut watch::Receiver<Gate>, waits: Waits) {
    match waits {
        Waits::Nothing => std::future::pending().await,
        Waits::Record(epoch, lsn) => node.until_shown(epoch, lsn).await,
        Waits::Copies(epoch, lsn, copies) => node.until_copied(epoch, lsn, copies).await,
        // The gate lives as long as the node.
        Waits::Gate => drop(gate.changed().await),
    }
}

/// What the command at the front waits for, or somebody ended that.
async fn unblocked(server: &Server, client: &Client, blocked: Option<Blocked>, paused: bool) {
    let node = &server.node;
    let mut unpaused = std::pin::pin!(server.pause.ended.notified());
    if paused {
        // It may have ended since it was looked at.
        unpaused.as_mut().enable();
        if !server.pause.is_on() {
            return;
        }
    }
    let need = async {
        match blocked.map(|blocked| blocked.need) {
            Some(Need::Copies(epoch, lsn, copies)) => node.until_copied(epoch, lsn, copies).await,
            Some(Need::Applied(lsn)) => node.until_applied(lsn).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = need => {}
        () = client.unblock.told.notified() => {}
        () = unpaused, if paused => {}
    }
}

/// The next for who listens.
async fn next<T>(mailbox: Option<&Mailbox<T>>) -> T {
    match mailbox {
        Some(mailbox) => mailbox.next().await,
        None => std::future::pending().await,
    }
}

/// The answer that is awaited.
async fn answered(awaited: &mut Option<oneshot::Receiver<Reply>>) -> Reply {
    let lost = Reply::error("ERR the order was lost; ask again");
    match awaited {
        Some(answer) => answer.await.unwrap_or(lost),
        None => std::future::pending().await,
    }
}

/// The receiver again once a reign has begun or ended; `None` when there is no more to come.
async fn moved<T>(mut watched: watch::Receiver<T>) -> Option<watch::Receiver<T>> {
    watched.changed().await.ok()?;
    Some(watched)
}

impl Session<'_> {
    async fn serve<S>(&mut self, stream: &mut S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut parser = RequestParser::new(Limits::default());
        let mut buffer = BytesMut::with_capacity(16 << 10);
        let mut out = BytesMut::with_capacity(16 << 10);
        let node = &self.server.node;
        let mut gate = node.gate();
        // What rarely happens is waited for once, not anew for each command.
        let mut reign_moves = std::pin::pin!(moved(node.reign()));
        let mut timer = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        // The read buffer has grown.
        let mut large = false;
        loop {
            gate.mark_unchanged();
            self.paused_until = None;
            large |= buffer.len() > LARGE_BUFFER;
            self.parse(&mut parser, &mut buffer);
            self.end_with_reign();
            self.server.clients.let_leave(self.asked_bytes).await;
            self.execute();
            if self.todo.is_empty() && self.transaction.is_none() {
                self.asked_bytes = 0;
            }
            if self.drowned || self.asked_bytes + parser.kept_bytes() > MOST_REQUEST_BYTES {
                let from = self.client.from;
                tracing::warn!("the client {from} asked for more than a connection may hold");
                return Err(std::io::Error::other("it asks for too much"));
            }
            if large && buffer.is_empty() {
                // It would keep what the largest request took.
                buffer = BytesMut::with_capacity(16 << 10);
                large = false;
            }
            self.let_go(&mut out);
            if !out.is_empty() {
                Stats::add(&node.stats.net_out, out.len() as u64);
                self.client.activity.waits(false);
                self.weigh(buffer.capacity() + parser.kept_bytes() + out.len());
                send(stream, &self.client, &out).await?;
                // TLS may keep the end of it back; a socket has nothing to flush.
                stream.flush().await?;
                out.clear();
                if out.capacity() > 1 << 20 {
                    out = BytesMut::with_capacity(16 << 10);
                }
            }
            let idle = self.todo.is_empty();
            self.client.measure(buffer.len(), self.hold.bytes());
            self.weigh(buffer.capacity() + parser.kept_bytes());
            self.client.activity.waits(!idle || !self.hold.is_empty());
            if self.closing && idle && self.hold.is_empty() && self.awaited.is_none() {
                return self.take_leave(stream).await;
            }
            let room = self.has_room();
            if (idle && self.unparsed) || (std::mem::take(&mut self.stuffed) && room) {
                tokio::task::yield_now().await;
                continue;
            }
            let waits = self.waits();
            // A client that waits for others may go meanwhile.
            let listens = idle || (self.blocked.is_some() && !self.unparsed);
            let paused = self.paused_until.is_some();
            let held_back = self.blocked.is_some() || paused;
            // Armed for a deadline that has passed it fires early, and is armed again.
            let deadline = self.deadline();
            if let Some(deadline) = deadline
                && armed.is_none_or(|armed| deadline < armed)
            {
                timer.as_mut().reset(deadline);
                armed = Some(deadline);
            }
            let messages = self.subscriptions.mailbox();
            tokio::select! {
                () = passed(node, &mut gate, waits), if waits != Waits::Nothing => {}
                () = unblocked(self.server, &self.client, self.blocked, paused), if held_back => {}
                read = stream.read_buf(&mut buffer), if listens && room && !self.closing => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    Stats::add(&node.stats.net_in, read as u64);
                    self.client.activity.moves(read);
                }
                reign = &mut reign_moves => match reign {
                    Some(reign) => reign_moves.set(moved(reign)),
                    None => return Ok(()),
                },
                reply = answered(&mut self.awaited), if self.awaited.is_some() => {
                    self.awaited = None;
                    self.answer(&reply);
                }
                () = &mut timer, if armed.is_some() => armed = None,
                message = next(messages.as_deref()), if messages.is_some() => {
                    self.on_message(message)?;
                }
                line = next(self.lines.as_deref()), if self.lines.is_some() => {
                    self.push(&Reply::Simple(line.to_string().into()));
                }
            }
        }
    }

    /// Whether more answers may wait.
    fn has_room(&self) -> bool {
        self.hold.len() < MAX_HELD && self.hold.bytes() < MAX_HELD_BYTES
    }

    /// It takes so many bytes of buffers now, besides what is known here.
    fn weigh(&self, buffers: usize) {
        let told = self.subscriptions.mailbox();
        let told = told.map_or(0, |mailbox| mailbox.bytes());
        let lines = self.lines.as_ref().map_or(0, |lines| lines.bytes());
        let own = buffers + self.asked_bytes + self.hold.bytes() + told + lines;
        let all = self.client.takes(own.saturating_sub(FREE_BYTES));
        let most = self.most_memory();
        if all > most {
            self.server.clients.make_room(most);
        }
    }

    /// What all clients' buffers may take.
    fn most_memory(&self) -> usize {
        match self.server.node.tunables.client_memory.get() {
            0 => usize::MAX,
            most => usize::try_from(most).unwrap_or(usize::MAX),
        }
    }

    /// Ends the connection. Were it closed on requests that were not read yet, the answers still on
    /// their way would be lost with it: a client that is let go, and not by its own wish, is told the
    /// end, and what it sends meanwhile is read and forgotten. (None of it is carried out.)
    async fn take_leave<S>(&mut self, stream: &mut S) -> std::io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.shutdown().await?;
        let Some(since) = self.lame_until else {
            return Ok(());
        };
        let forget = async {
            let mut forgotten = [0; 4096];
            while stream.read(&mut forgotten).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            gone = forget => gone,
            () = tokio::time::sleep_until(since + GRACE) => Ok(()),
        }
    }

    /// What lets this session go on that no client says.
    fn waits(&self) -> Waits {
        if self.blocked_since.is_some() {
            return Waits::Gate;
        }
        let gate = self.server.node.gate_now();
        match self.hold.front() {
            Some((epoch, lsn)) if gate.epoch == epoch && gate.shown < lsn => {
                Waits::Record(epoch, lsn)
            }
            Some((epoch, lsn)) if gate.epoch == epoch && gate.is_primary() => {
                match self.hold.front_copies() {
                    Some(copies) => Waits::Copies(epoch, lsn, copies),
                    // It is shown, but no lease is live.
                    None => Waits::Gate,
                }
            }
            Some(_) => Waits::Gate,
            None if self.hold.is_empty() => Waits::Nothing,
            None => Waits::Gate,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let patience = self.server.node.tunables.write_timeout();
        let held = self.hold.deadline(patience);
        let blocked = self.blocked_since.map(|since| since + patience);
        let own = self.blocked.and_then(|blocked| blocked.until);
        held.into_iter()
            .chain(blocked)
            .chain(own)
            .chain(self.paused_until)
            .chain(self.asleep_until)
            .chain(self.lame_until)
            .min()
    }

    fn on_message(&mut self, message: Message) -> std::io::Result<()> {
        match message {
            Message::Recheck if self.overhears() => Err(std::io::Error::other(
                "the subscriber's permission was taken away",
            )),
            message => {
                if let Some(reply) = self.subscriptions.deliver(message) {
                    self.push(&reply);
                }
                Ok(())
            }
        }
    }

    fn parse(&mut self, parser: &mut RequestParser, buffer: &mut BytesMut) {
        self.unparsed = false;
        if self.is_behind_barrier() {
            self.unparsed = true;
            return;
        }
        parser.set_unauthenticated(self.access.is_stranger());
        let mut last = None;
        while !self.closing {
            if self.todo.len() >= MAX_TODO {
                self.unparsed = true;
                break;
            }
            match parser.parse(buffer) {
                Ok(Some(request)) => {
                    let args = request.args.iter();
                    let bytes: usize = args.map(|arg| arg.len() + ARGUMENT_BYTES).sum();
                    self.asked_bytes += bytes + REQUEST_BYTES;
                    let todo = self
                        .admit(&request)
                        .and_then(|()| self.understand(&request, &mut last));
                    let barrier = self.is_barrier(&todo);
                    self.todo.push_back(todo);
                    if barrier {
                        self.unparsed = true;
                        break;
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    self.todo.push_back(Err(Mistake {
                        reply: Reply::Error(broken.to_string().into()),
                        weight: Weight::Aborts,
                    }));
                    self.closing = true;
                }
            }
        }
        if let Some(spec) = last {
            self.client.asks(spec.name);
        }
    }

    fn understand(
        &self,
        request: &Request,
        last: &mut Option<&'static CommandSpec>,
    ) -> Result<Command, Mistake> {
        let command = match find_spec(request) {
            Ok(spec) => {
                *last = Some(spec.named_by(request));
                let command = spec.parse(request);
                if command.is_ok() && self.server.monitors.are_there() {
                    let now = self.server.node.host.wall();
                    let from = self.client.from;
                    let spec = spec.named_by(request);
                    self.server.monitors.show(spec, request, from, now);
                }
                command
            }
            Err(reply) => Command::unknown(request, reply),
        };
        let allowed = command.and_then(|command| match command {
            Command::Keys(keys) if names_reserved(request, &keys) => Err(RESERVED),
            command => Ok(command),
        });
        allowed.map_err(|reply| Mistake {
            reply,
            weight: Weight::of(request),
        })
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

    /// Refuses what a client asks of a node that is not the primary, and does not serve reads either.
    fn refuse_batch(&mut self, reads: &Reply) {
        let writes: Vec<bool> = self.batch().map(KeyCommand::is_write).collect();
        for write in writes {
            self.todo.pop_front();
            let reply = if write { &READONLY } else { reads };
            self.answer(reply);
        }
    }

    /// Executes what can be executed now, in order.
    fn execute(&mut self) {
        let before = self.hold.bytes();
        while self.awaited.is_none()
            && !self.drowned
            && let Some(front) = self.todo.front()
        {
            if !self.has_room() || self.hold.bytes() > before + TURN_BYTES {
                self.stuffed = true;
                return;
            }
            if self.server.pause.is_on()
                && let Some(until) = self.is_paused(front)
            {
                self.paused_until = Some(until);
                return;
            }
            let done = match front {
                _ if self.queues(front) => {
                    self.queue_front();
                    Ok(())
                }
                Ok(Command::Keys(_)) if self.only_subscriptions() => {
                    self.todo.pop_front();
                    self.answer(&Reply::error(
                        "ERR Can't execute this command: only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / \
                         PING / QUIT / RESET are allowed in this context",
                    ));
                    Ok(())
                }
                Ok(Command::Keys(_)) => self.execute_keys(),
                Ok(Command::Session(SessionCommand::Transaction(_))) => self.transact(),
                Ok(Command::Session(SessionCommand::Wait(_))) => self.wait_for_copies(),
                Ok(Command::Session(SessionCommand::Sentinel(SentinelCommand::Failover {
                    master,
                }))) => {
                    let ordered = sentinel::order(self.server, master);
                    self.todo.pop_front();
                    self.asks_a_sentinel();
                    match ordered {
                        Ordered::Now(reply) => self.answer(&reply),
                        Ordered::Later(answer) => self.awaited = Some(answer),
                    }
                    Ok(())
                }
                Ok(Command::Session(SessionCommand::Sleep { span })) => {
                    let span = *span;
                    if !self.has_slept(span) {
                        return;
                    }
                    Ok(())
                }
                Ok(Command::Session(_)) => {
                    let Some(Ok(Command::Session(command))) = self.todo.pop_front() else {
                        return;
                    };
                    if session_commands::answer(self, command) == After::Close {
                        self.todo.clear();
                        self.closing = true;
                    }
                    Ok(())
                }
                Err(_) => {
                    let Some(Err(mistake)) = self.todo.pop_front() else {
                        return;
                    };
                    if mistake.weight == Weight::Ends {
                        self.forget_transaction();
                    }
                    self.answer(&mistake.reply);
                    Ok(())
                }
            };
            match done {
                Ok(()) => self.blocked_since = None,
                Err(Cannot::Blocked) => {
                    self.blocked_since = None;
                    return;
                }
                Err(Cannot::Wait(why)) => {
                    let since = *self.blocked_since.get_or_insert_with(Instant::now);
                    if since.elapsed() < self.server.node.tunables.write_timeout() {
                        return;
                    }
                    // Those behind it have waited as long: nothing is read while a command
                    // waits. (A pipeline of a thousand once took as many timeouts to fail.)
                    self.refuse_front(why);
                }
                Err(Cannot::Refuse(why)) => {
                    self.blocked_since = None;
                    self.refuse_front(why);
                }
                Err(Cannot::RefuseAll(why)) => {
                    self.blocked_since = None;
                    // EXEC and WATCH are no part of a batch.
                    for _ in 0..self.batch().count().max(1) {
                        self.refuse_front(why);
                    }
                }
            }
        }
        self.blocked_since = None;
    }

    /// DEBUG SLEEP at the front: whether it is over, and answered. Replies before it go out meanwhile.
    fn has_slept(&mut self, span: Duration) -> bool {
        let now = Instant::now();
        let until = *self.asleep_until.get_or_insert(now + span);
        if now < until {
            return false;
        }
        self.asleep_until = None;
        self.todo.pop_front();
        self.answer(&Reply::OK);
        true
    }

    /// Answers the command at the front, which is EXEC's transaction if it is that.
    fn refuse_front(&mut self, why: &'static str) {
        if let Some(Ok(Command::Session(_))) = self.todo.pop_front() {
            self.forget_transaction();
        }
        self.answer(&Reply::error(why));
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

    /// Executes the key commands at the front.
    fn execute_keys(&mut self) -> Result<(), Cannot> {
        if self.lame_until.is_some() {
            self.refuse_batch(&DEPOSED);
            return Ok(());
        }
        let gate = self.server.node.gate_now();
        let way = self.way(&gate);
        if way.is_ok() && self.read_after.is_some() {
            self.reads_after()?;
        }
        match way {
            Ok(Way::Primary) => self.execute_as_primary(&gate),
            Ok(Way::Standby) => {
                self.execute_as_standby();
                Ok(())
            }
            // As Redis has it: that it takes no writes comes first, and clients know what to do then.
            Err(Cannot::RefuseAll(why)) if gate.serves == Serves::Unsure => {
                self.refuse_batch(&Reply::error(why));
                Ok(())
            }
            Err(cannot) => Err(cannot),
        }
    }

    /// Until when the command at the front waits, because clients are paused. PING does not: a node that
    /// does not answer it is taken for dead.
    fn is_paused(&self, front: &Result<Command, Mistake>) -> Option<Instant> {
        use SessionCommand as S;
        if self.lame_until.is_some() {
            return None;
        }
        let writes = match front {
            Ok(Command::Session(
                S::Ping { .. }
                | S::Client(ClientCommand::Unpause | ClientCommand::Pause { .. })
                | S::Quit,
            )) => return None,
            Ok(Command::Session(S::Transaction(TransactionCommand::Execute))) => self
                .transaction
                .as_ref()
                .is_some_and(|transaction| transaction.writes()),
            Ok(Command::Session(S::Publish { .. })) => true,
            // Between MULTI and EXEC, too, as in Redis.
            Ok(Command::Keys(command)) => command.is_write(),
            _ => false,
        };
        self.server.pause.holds(writes)
    }

    fn batch(&self) -> impl Iterator<Item = &KeyCommand> + Clone {
        let keys = |todo: &'_ Result<Command, Mistake>| matches!(todo, Ok(Command::Keys(_)));
        // The first is looked at before it gets here.
        let most = if self.server.pause.is_on() {
            1
        } else {
            self.batch
        };
        self.todo
            .iter()
            .take_while(move |todo| keys(todo))
            .take(most)
            .filter_map(|todo| match todo {
                Ok(Command::Keys(command)) => Some(command),
                _ => None,
            })
    }

    /// What is remembered of requests with ids.
    pub(super) fn memory(&self) -> Memory {
        let settings = &self.server.node.settings;
        Memory {
            span: settings.remember_requests,
            most: settings.max_remembered_requests,
        }
    }

    /// The write at the front, which has an id. A read takes the id with it.
    fn execute_once(&mut self, gate: &Gate, request: &RequestId) -> Result<(), Cannot> {
        let Some(Ok(Command::Keys(command))) = self.todo.front() else {
            return Ok(());
        };
        let store = &self.server.node.store;
        let once = (request, self.memory());
        let done = store.execute_once(gate.epoch, gate.released, gate.lag, once, command)?;
        Stats::add(&self.server.node.stats.commands, 1);
        self.reign = Some(gate.epoch);
        self.todo.pop_front();
        self.request = None;
        let Once {
            executed,
            written_by,
        } = done;
        let Executed { reply, wait, wrote } = executed;
        self.hold_reply(&reply, gate.epoch, wait, wrote, Instant::now());
        // Wherever it was written: not behind that.
        self.last_write = written_by;
        Ok(())
    }

    fn execute_as_primary(&mut self, gate: &Gate) -> Result<(), Cannot> {
        if let Some(request) = self.request.clone() {
            return self.execute_once(gate, &request);
        }
        let mut done = std::mem::take(&mut self.done);
        let store = &self.server.node.store;
        let began = Instant::now();
        let (released, lag, touches) = (gate.released, gate.lag, !self.no_touch);
        let result = store.execute(gate.epoch, released, lag, touches, self.batch(), &mut done);
        let now = Instant::now();
        self.note_batch(now.duration_since(began), done.len());
        counts::batch(&self.server.node.stats, self.batch(), &done);
        Stats::add(&self.server.node.stats.commands, done.len() as u64);
        self.reign = Some(gate.epoch);
        let carried_out = done.len();
        for executed in done.drain(..) {
            self.todo.pop_front();
            let Executed { reply, wait, wrote } = executed;
            self.hold_reply(&reply, gate.epoch, wait, wrote, now);
        }
        self.done = done;
        if carried_out == self.batch || matches!(self.todo.front(), Some(Ok(Command::Keys(_)))) {
            self.batch = (2 * carried_out).clamp(1, MOST_BATCH);
        }
        result.map_err(Cannot::from)
    }

    /// Queues a primary's reply, until what it depends on is shown.
    pub(super) fn hold_reply(
        &mut self,
        reply: &Reply,
        epoch: Epoch,
        wait: Lsn,
        wrote: bool,
        now: Instant,
    ) {
        let node = &self.server.node;
        let mut durability = None;
        if wrote {
            self.last_write = wait;
            durability = self.durability;
            if let Some(asked) = durability {
                node.await_copies(wait, asked.copies.level);
            }
        }
        if self.is_muted() {
            return;
        }
        if self.drowns(reply) {
            return;
        }
        let shown = match wrote || node.settings.keeps(Guard::R32) {
            true => wait,
            false => Lsn::ZERO,
        };
        let wait = Some((epoch, shown));
        self.hold
            .push(reply, self.version, wait, wrote, durability, now);
    }

    /// Whether this reply is more than may wait. The connection ends then, as Redis ends one that is behind
    /// its hard limit: an answer that were left out would shift all behind it.
    fn drowns(&mut self, reply: &Reply) -> bool {
        let bytes = reply.bytes();
        self.drowned |= self.hold.bytes() + bytes > MOST_REPLY_BYTES;
        if bytes > TURN_BYTES && !self.drowned {
            // It counts before it is there. A very long one is not given at the others' cost.
            let most = self.most_memory();
            let all = self
                .client
                .takes(self.hold.bytes() + self.asked_bytes + bytes);
            if all > most {
                self.drowned = bytes > MAX_HELD_BYTES;
                self.server.clients.make_room(most);
            }
            self.drowned |= self.client.end.is_cancelled();
        }
        self.drowned
    }

    /// Whether CLIENT REPLY keeps the answer to this command back.
    fn is_muted(&mut self) -> bool {
        match self.replies {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::Skip => {
                self.replies = ReplyMode::On;
                true
            }
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

    /// The first `count` commands of the batch took this long together.
    fn note_batch(&self, took: Duration, count: usize) {
        let words = match self.server.is_slow(took) {
            true => slowlog::words(self.batch().take(count)),
            false => Vec::new(),
        };
        let batch = slowlog::Executed::Batch(&words, count);
        self.server.note_execution(self.client.id, took, batch);
    }

    fn execute_as_standby(&mut self) {
        let began = Instant::now();
        let (mut answers, mut bytes) = (Vec::new(), 0);
        let fresh = self.fresh_enough();
        for command in self.batch() {
            let store = &self.server.node.store;
            let answer = match (command.is_write(), &fresh) {
                (true, _) => READONLY,
                (false, Err(stale)) => stale.clone(),
                (false, Ok(at_least)) => store
                    .read_only(command, !self.no_touch, *at_least)
                    .unwrap_or(REPAIRED),
            };
            bytes += answer.bytes();
            answers.push(answer);
            // The others come when these have gone out.
            if bytes > MAX_HELD_BYTES {
                break;
            }
        }
        self.note_batch(began.elapsed(), answers.len());
        Stats::add(&self.server.node.stats.commands, answers.len() as u64);
        for answer in answers {
            self.todo.pop_front();
            self.answer(&answer);
        }
    }

    /// Queues a reply that depends on nothing.
    pub(super) fn answer(&mut self, reply: &Reply) {
        if !self.is_muted() {
            self.push(reply);
        }
    }

    /// Queues what is told whether replies are on or not.
    pub(super) fn push(&mut self, reply: &Reply) {
        if self.drowns(reply) {
            return;
        }
        self.hold
            .push(reply, self.version, None, false, None, Instant::now());
    }

    fn let_go(&mut self, out: &mut BytesMut) {
        if self.hold.is_empty() {
            return;
        }
        let node = &self.server.node;
        let gate = node.gate_now();
        let clock = match node.settings.keeps(Guard::R18) {
            true => node.host.boot_time(),
            false => Micros::ZERO,
        };
        let copied = |lsn, copies| node.is_copied(lsn, copies);
        let done = self
            .hold
            .let_go(&gate, clock, node.tunables.write_timeout(), copied, out);
        if let Some(longest) = done.longest {
            node.stats.commit_seconds.observe(longest.as_secs_f64());
            node.note_latency(LatencyEvent::Commit, longest);
        }
        Stats::add(&node.stats.unconfirmed, done.unconfirmed);
    }
}
