//! One connection: read, parse, execute, hold, answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::Server;
use super::counts;
use super::hold::Hold;
use super::pubsub::{Message, Subscriptions};
use super::session_commands;
use super::slowlog;
use super::transaction::Transaction;
use crate::command::{Command, KeyCommand, SessionCommand};
use crate::node::{Executed, Gate, Guard, LatencyEvent, Node, Refused, Serves, Stats, Watched};
use crate::resp::{Limits, Reply, Request, RequestParser, Version};
use crate::units::{Epoch, Lsn, Micros};

/// Commands read ahead of execution.
const MAX_TODO: usize = 4096;
/// Replies, and their bytes, that may be held before the session reads no further.
const MAX_HELD: usize = 65_536;
const MAX_HELD_BYTES: usize = 64 << 20;
/// Commands executed under one lock.
const BATCH: usize = 512;

pub(super) const REPAIRED: Reply =
    Reply::error("MASTERDOWN this node's keyspace is being repaired");
pub(super) const READONLY: Reply =
    Reply::error("READONLY You can't write against a read only replica.");

pub(super) const DEPOSED: Reply =
    Reply::error("MASTERDOWN this node is not the primary any more; ask who is");

/// As Redis calls a write that its configuration or its disk does not allow.
const DISK_FULL: &str = "MISCONF the disk of this node is full; nothing was written, reads go on. \
    Make room on the disk that holds data_dir (or enlarge it), and writes go on by themselves";

/// How long a connection outlives the reign it was served under.
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
    pub(super) id: u64,
    pub(super) version: Version,
    pub(super) subscriptions: Subscriptions,
    pub(super) last_write: Lsn,
    /// The reign under which this connection was served. When it is over the connection is, too:
    /// its client would go on taking this node for the primary.
    pub(super) reign: Option<Epoch>,
    /// That reign is over: until when the connection still answers.
    pub(super) lame_until: Option<Instant>,
    pub(super) todo: VecDeque<Result<Command, Mistake>>,
    /// Since MULTI.
    pub(super) transaction: Option<Transaction>,
    /// Since WATCH.
    pub(super) watched: Option<Watched>,
    /// Empty between batches; its memory is used again.
    done: Vec<Executed>,
    /// More whole requests may be in the read buffer.
    unparsed: bool,
    hold: Hold,
    /// Since when the command at the front cannot be executed.
    blocked_since: Option<Instant>,
    /// DEBUG SLEEP stands at the front until then.
    asleep_until: Option<Instant>,
    closing: bool,
}

pub(super) async fn run<S>(server: &Server, id: u64, mut stream: S, full: bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if full {
        let _ = stream
            .write_all(b"-ERR max number of clients reached\r\n")
            .await;
        return;
    }
    let mut session = Session {
        server,
        id,
        version: Version::Resp2,
        subscriptions: Subscriptions::default(),
        last_write: Lsn::ZERO,
        reign: None,
        lame_until: None,
        todo: VecDeque::new(),
        transaction: None,
        watched: None,
        done: Vec::new(),
        unparsed: false,
        hold: Hold::default(),
        blocked_since: None,
        asleep_until: None,
        closing: false,
    };
    // An error here is a client that went away.
    let _ = session.serve(&mut stream).await;
    session.subscriptions.clear(&server.pubsub);
}

/// What a session waits for besides its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Record(Epoch, Lsn),
    Gate,
}

async fn passed(node: &Node, gate: &mut watch::Receiver<Gate>, waits: Waits) {
    match waits {
        Waits::Nothing => std::future::pending().await,
        Waits::Record(epoch, lsn) => node.until_shown(epoch, lsn).await,
        // The gate lives as long as the node.
        Waits::Gate => drop(gate.changed().await),
    }
}

async fn next_message(
    messages: &mut Option<broadcast::Receiver<Message>>,
) -> Result<Message, broadcast::error::RecvError> {
    match messages {
        Some(messages) => messages.recv().await,
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
        // Only while it subscribes: who does not read would be taken for a subscriber that is slow.
        let mut messages = None;
        // What rarely happens is waited for once, not anew for each command.
        let mut reign_moves = std::pin::pin!(moved(node.reign()));
        let mut stopping = std::pin::pin!(node.stopping.cancelled());
        let mut timer = std::pin::pin!(tokio::time::sleep_until(Instant::now()));
        let mut armed: Option<Instant> = None;
        loop {
            gate.mark_unchanged();
            self.parse(&mut parser, &mut buffer);
            self.end_with_reign();
            self.execute();
            match self.subscriptions.len() {
                0 => messages = None,
                _ => {
                    messages.get_or_insert_with(|| self.server.pubsub.receive());
                }
            }
            self.let_go(&mut out);
            if !out.is_empty() {
                Stats::add(&node.stats.net_out, out.len() as u64);
                stream.write_all(&out).await?;
                out.clear();
                if out.capacity() > 1 << 20 {
                    out = BytesMut::with_capacity(16 << 10);
                }
            }
            let idle = self.todo.is_empty();
            if self.closing && idle && self.hold.is_empty() {
                return stream.shutdown().await;
            }
            if idle && self.unparsed {
                continue;
            }
            let room = self.hold.len() < MAX_HELD && self.hold.bytes() < MAX_HELD_BYTES;
            let waits = self.waits();
            // Armed for a deadline that has passed it fires early, and is armed again.
            let deadline = self.deadline();
            if let Some(deadline) = deadline
                && armed.is_none_or(|armed| deadline < armed)
            {
                timer.as_mut().reset(deadline);
                armed = Some(deadline);
            }
            tokio::select! {
                () = passed(node, &mut gate, waits), if waits != Waits::Nothing => {}
                read = stream.read_buf(&mut buffer), if idle && room && !self.closing => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    Stats::add(&node.stats.net_in, read as u64);
                }
                reign = &mut reign_moves => match reign {
                    Some(reign) => reign_moves.set(moved(reign)),
                    None => return Ok(()),
                },
                () = &mut timer, if armed.is_some() => armed = None,
                message = next_message(&mut messages), if messages.is_some() => {
                    self.on_message(message)?;
                }
                () = &mut stopping => return Ok(()),
            }
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
            // It is shown, but no lease is live.
            Some(_) => Waits::Gate,
            None if self.hold.is_empty() => Waits::Nothing,
            None => Waits::Gate,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let patience = self.server.node.tunables.write_timeout();
        let held = self.hold.deadline(patience);
        let blocked = self.blocked_since.map(|since| since + patience);
        let others = blocked
            .into_iter()
            .chain(self.asleep_until)
            .chain(self.lame_until);
        held.into_iter().chain(others).min()
    }

    fn on_message(
        &mut self,
        message: Result<Message, broadcast::error::RecvError>,
    ) -> std::io::Result<()> {
        match message {
            Ok(message) => {
                for reply in self.subscriptions.deliver(&message) {
                    self.answer(&reply);
                }
                Ok(())
            }
            // A subscriber that cannot keep up is let go, as Redis does.
            Err(_) => Err(std::io::Error::other("the subscriber is too slow")),
        }
    }

    fn parse(&mut self, parser: &mut RequestParser, buffer: &mut BytesMut) {
        self.unparsed = false;
        while !self.closing {
            if self.todo.len() >= MAX_TODO {
                self.unparsed = true;
                return;
            }
            match parser.parse(buffer) {
                Ok(Some(request)) => {
                    let command = Command::parse(&request);
                    self.todo.push_back(command.map_err(|reply| Mistake {
                        reply,
                        weight: Weight::of(&request),
                    }));
                }
                Ok(None) => return,
                Err(broken) => {
                    self.todo.push_back(Err(Mistake {
                        reply: Reply::Error(broken.to_string().into()),
                        weight: Weight::Aborts,
                    }));
                    self.closing = true;
                }
            }
        }
    }

    /// What waits to be executed, and what still comes, is refused, so that the client asks again
    /// who the primary is. The connection is closed a moment later and not at once: closing on a
    /// request that was not read yet would take answers already sent with it.
    fn end_with_reign(&mut self) {
        let gate = self.server.node.gate_now();
        let over = |reign: Epoch| !gate.is_primary() || gate.epoch != reign;
        if self.reign.is_some_and(over) {
            self.reign = None;
            self.lame_until = Some(Instant::now() + GRACE);
            self.blocked_since = None;
        }
        if self.lame_until.is_some_and(|until| until <= Instant::now()) {
            self.closing = true;
        }
    }

    /// A client that was told that this node is the primary goes by it until it hears otherwise: its
    /// connection ends with the reign, too. (It might read here what the next reign has changed.)
    pub(super) fn was_told_the_role(&mut self) {
        let gate = self.server.node.gate_now();
        if gate.is_primary() {
            self.reign = Some(gate.epoch);
        }
    }

    /// Refuses what a client asks of a primary that is none any more.
    fn refuse_as_deposed(&mut self) {
        let writes: Vec<bool> = self.batch().map(KeyCommand::is_write).collect();
        for write in writes {
            self.todo.pop_front();
            let reply = if write { READONLY } else { DEPOSED };
            self.answer(&reply);
        }
    }

    /// Executes what can be executed now, in order.
    fn execute(&mut self) {
        while let Some(front) = self.todo.front() {
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
            self.refuse_as_deposed();
            return Ok(());
        }
        let gate = self.server.node.gate_now();
        match self.way(&gate)? {
            Way::Primary => self.execute_as_primary(&gate),
            Way::Standby => {
                self.execute_as_standby();
                Ok(())
            }
        }
    }

    fn batch(&self) -> impl Iterator<Item = &KeyCommand> + Clone {
        let keys = |todo: &'_ Result<Command, Mistake>| matches!(todo, Ok(Command::Keys(_)));
        self.todo
            .iter()
            .take_while(move |todo| keys(todo))
            .take(BATCH)
            .filter_map(|todo| match todo {
                Ok(Command::Keys(command)) => Some(command),
                _ => None,
            })
    }

    fn execute_as_primary(&mut self, gate: &Gate) -> Result<(), Cannot> {
        let mut done = std::mem::take(&mut self.done);
        let store = &self.server.node.store;
        let began = Instant::now();
        let result = store.execute(gate.epoch, gate.released, gate.lag, self.batch(), &mut done);
        let now = Instant::now();
        self.note_batch(now.duration_since(began), done.len());
        counts::batch(&self.server.node.stats, self.batch(), &done);
        Stats::add(&self.server.node.stats.commands, done.len() as u64);
        self.reign = Some(gate.epoch);
        for executed in done.drain(..) {
            self.todo.pop_front();
            let Executed { reply, wait, wrote } = executed;
            self.hold_reply(&reply, gate.epoch, wait, wrote, now);
        }
        self.done = done;
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
        if wrote {
            self.last_write = wait;
        }
        let shown = match wrote || self.server.node.settings.keeps(Guard::R32) {
            true => wait,
            false => Lsn::ZERO,
        };
        self.hold
            .push(reply, self.version, Some((epoch, shown)), wrote, now);
    }

    /// The first `count` commands of the batch took this long together.
    fn note_batch(&self, took: Duration, count: usize) {
        let words = match self.server.is_slow(took) {
            true => slowlog::words(self.batch().take(count)),
            false => Vec::new(),
        };
        let batch = slowlog::Executed::Batch(&words, count);
        self.server.note_execution(self.id, took, batch);
    }

    fn execute_as_standby(&mut self) {
        let began = Instant::now();
        let answers: Vec<Reply> = self
            .batch()
            .map(|command| match command.is_write() {
                true => READONLY,
                false => self
                    .server
                    .node
                    .store
                    .read_only(command)
                    .unwrap_or(REPAIRED),
            })
            .collect();
        self.note_batch(began.elapsed(), answers.len());
        Stats::add(&self.server.node.stats.commands, answers.len() as u64);
        for answer in answers {
            self.todo.pop_front();
            self.answer(&answer);
        }
    }

    /// Queues a reply that depends on nothing.
    pub(super) fn answer(&mut self, reply: &Reply) {
        self.hold
            .push(reply, self.version, None, false, Instant::now());
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
        let done = self
            .hold
            .let_go(&gate, clock, node.tunables.write_timeout(), out);
        if let Some(longest) = done.longest {
            node.stats.commit_seconds.observe(longest.as_secs_f64());
            node.note_latency(LatencyEvent::Commit, longest);
        }
        Stats::add(&node.stats.unconfirmed, done.unconfirmed);
    }
}
